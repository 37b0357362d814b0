/* The cipher of plaintext endpoints: none at all.
 *
 * Bytes are copied, the tag is 16 zero bytes, so that a plaintext session runs the same protocol
 * with the same record sizes. It protects nothing: a tag of zeros only tells a plaintext record
 * from a sealed one. Found by SMT_AEAD_NONE and never listed, so nothing that picks "the best
 * cipher" can meet it. */
#include "crypto/aead_rows.h"

#include <string.h>

#include "crypto/aead_walk.h"

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
    if (n_in != 1 || in->p != out) {
        for (; n_in > 0; n_in--, in++) {
            if (in->len > 0 && in->p != out)
                memcpy(out, in->p, in->len);
            out += in->len;
        }
    }
    smt_aead_none_tag(tag);
    return 0;
}

static int none_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                     size_t aad_len, const uint8_t *in, size_t in_len,
                     const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    if (!smt_aead_none_is_tag(tag))
        return SMT_EAUTH;
    if (SMT_LIKELY(n_out == 1 && out->p != in && in_len > 0)) {
        memcpy(out->p, in, in_len);
        return 0;
    }
    for (; n_out > 0; n_out--, out++) {
        if (out->len > 0 && out->p != in)
            memcpy(out->p, in, out->len);
        in += out->len;
    }
    return 0;
}

static void copy_pieces(const struct smt_aead_in *in, unsigned n_in, const struct smt_aead_out *out,
                        unsigned n_out)
{
    struct smt_aead_walk walk = {.in = in, .out = out, .n_in = n_in, .n_out = n_out};
    const uint8_t *from;
    uint8_t *to;
    size_t len;
    while ((len = smt_aead_walk_next(&walk, &from, &to)) > 0) {
        if (from != to)
            memcpy(to, from, len);
    }
}

static int none_seal_to(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                        size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                        const struct smt_aead_out *out, unsigned n_out, uint8_t *tag)
{
    copy_pieces(in, n_in, out, n_out);
    smt_aead_none_tag(tag);
    return 0;
}

static int none_open_from(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                          size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                          const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    if (!smt_aead_none_is_tag(tag))
        return SMT_EAUTH;
    copy_pieces(in, n_in, out, n_out);
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
    .seal_to = none_seal_to,
    .open_from = none_open_from,
};
