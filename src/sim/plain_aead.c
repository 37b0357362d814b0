/* The stand-in cipher of plain_aead.h. Its tag is a digest of nonce and first piece, so that a
 * record which got into the wrong place fails to open as a real one would. */
#include "sim/plain_aead.h"

#include <string.h>

#include "base/bytes.h"

/* Where a record's head tells the length of the frames before its data (docs/wire.md 3.1). */
enum { FRAMES_LEN_AT = 2, HEAD_MIN = 16, CTX_LEN = 64 };

static bool plain_usable(void)
{
    return true;
}

static int plain_init(void *ctx, const uint8_t *key)
{
    memset(ctx, 0, CTX_LEN);
    memcpy(ctx, key, 16);
    return 0;
}

static int plain_rekey(void *ctx, const uint8_t *key)
{
    return plain_init(ctx, key);
}

static void plain_fini(void *ctx)
{
    memset(ctx, 0, CTX_LEN);
}

static void tag_make(const void *ctx, const uint8_t *nonce, uint8_t *tag)
{
    uint64_t key, number;
    memcpy(&key, ctx, 8);
    memcpy(&number, nonce + 4, 8);
    uint64_t words[2] = {(key ^ number) * 0x9e3779b97f4a7c15ull, number};
    memcpy(tag, words, sizeof(words));
}

static int plain_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                      size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                      uint8_t *tag)
{
    if (n_in > 0 && in[0].len > 0 && in[0].p != out)
        memmove(out, in[0].p, in[0].len);
    tag_make(ctx, nonce, tag);
    return 0;
}

static int plain_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                      size_t aad_len, const uint8_t *in, size_t in_len,
                      const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    uint8_t want[SMT_AEAD_TAG_LEN];
    tag_make(ctx, nonce, want);
    if (memcmp(want, tag, sizeof(want)) != 0)
        return SMT_EAUTH;
    if (n_out == 0)
        return 0;
    if (out[0].len > 0 && out[0].p != in)
        memmove(out[0].p, in, out[0].len);
    if (n_out > 1 && out[0].len >= HEAD_MIN) {
        size_t frames_len = smt_get_be16(out[0].p + FRAMES_LEN_AT);
        if (frames_len > 0 && frames_len <= out[1].len)
            memcpy(out[1].p, in + out[0].len, frames_len);
    }
    return 0;
}

const struct smt_aead smt_sim_aead = {
    .name = "aes-128-gcm",
    .impl = "sim",
    .alg = SMT_AEAD_AES128_GCM,
    .key_len = 16,
    .ctx_len = CTX_LEN,
    .usable = plain_usable,
    .init = plain_init,
    .rekey = plain_rekey,
    .fini = plain_fini,
    .seal = plain_seal,
    .open = plain_open,
};
