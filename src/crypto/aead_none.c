/* The cipher of plaintext endpoints: none at all.
 *
 * Bytes are copied, the tag is 16 zero bytes, so that a plaintext session runs the same protocol
 * with the same record sizes. It protects nothing: a tag of zeros only tells a plaintext record
 * from a sealed one. Found by SMT_AEAD_NONE and never listed, so nothing that picks "the best
 * cipher" can meet it. */
#include "crypto/aead_rows.h"

#include <string.h>

static bool none_usable(void)
{
    return true;
}

static int none_init(void *ctx, const uint8_t *key)
{
    memset(ctx, 0, SMT_AEAD_NONE_CTX_LEN);
    return 0;
}

static int none_rekey(void *ctx, const uint8_t *key)
{
    return 0;
}

static void none_fini(void *ctx)
{
}

static int none_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                     size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                     uint8_t *tag)
{
    for (unsigned i = 0; i < n_in; i++) {
        if (in[i].len > 0 && in[i].p != out)
            memcpy(out, in[i].p, in[i].len);
        out += in[i].len;
    }
    memset(tag, 0, SMT_AEAD_TAG_LEN);
    return 0;
}

static int none_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                     size_t aad_len, const uint8_t *in, size_t in_len,
                     const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    static const uint8_t zero[SMT_AEAD_TAG_LEN];
    if (memcmp(tag, zero, sizeof(zero)) != 0)
        return SMT_EAUTH;
    for (unsigned i = 0; i < n_out; i++) {
        if (out[i].len > 0 && out[i].p != in)
            memcpy(out[i].p, in, out[i].len);
        in += out[i].len;
    }
    return 0;
}

const struct smt_aead smt_aead_none = {
    .name = "none",
    .impl = "none",
    .alg = SMT_AEAD_NONE,
    .key_len = 16,
    .ctx_len = SMT_AEAD_NONE_CTX_LEN,
    .fips = true,
    .usable = none_usable,
    .init = none_init,
    .rekey = none_rekey,
    .fini = none_fini,
    .seal = none_seal,
    .open = none_open,
};
