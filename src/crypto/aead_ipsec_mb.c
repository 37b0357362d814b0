/* AES-GCM by the direct calls of intel-ipsec-mb (x86-64): several times faster than OpenSSL 3.0 on
 * small records and about three times on large ones, because of AVX-512 code and no layers.
 *
 * Nothing is shared between contexts: expanded key and running state lie in the caller's memory.
 * The library's manager is made once, for its function pointers and its self-test; the job
 * queues in it are not used (they pay off where one buffer cannot fill the AES units of a core;
 * GCM can). One piece takes the one-shot call; several take init, update and finalize. The state
 * left after a record (key stream, hash) stays in the context until the next record or fini.
 *
 * Known cost: version 1.3 writes a process-wide error word in each call, so threads on different
 * cores share that cache line (64 B seal: 46 ns alone, 60 ns each beside a second core). That
 * word is not read here: whose error it holds is unknown, and it only reports NULL arguments. */
#include "crypto/aead_rows.h"

#include <pthread.h>
#include <string.h>

#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>

#include "crypto/aead_walk.h"

/* The calls of one key length. */
struct imb_gcm {
    aes_gcm_pre_t pre;
    aes_gcm_enc_dec_t enc, dec;
    aes_gcm_init_t start;
    aes_gcm_enc_dec_update_t enc_update, dec_update;
    aes_gcm_enc_dec_finalize_t enc_end, dec_end;
};

struct imb_ctx {
    _Alignas(64) struct gcm_key_data key;
    struct gcm_context_data state;
    const struct imb_gcm *gcm;
};

static_assert(sizeof(struct imb_ctx) <= SMT_AEAD_IMB_CTX_LEN, "context must fit");

static struct imb_gcm gcm128, gcm256; /* written once, by probe */
static pthread_once_t probed = PTHREAD_ONCE_INIT;

/* NULL when this CPU will not do. Kept for the life of the process: the pointers taken from it lead
 * into the library's code, but nothing promises that they outlive the manager. */
static IMB_MGR *manager;

static void probe(void)
{
    const uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ | IMB_FEATURE_SSE4_2;
    IMB_MGR *m = alloc_mb_mgr(0);
    if (m == NULL)
        return;
    IMB_ARCH arch = IMB_ARCH_NONE;
    init_mb_mgr_auto(m, &arch);
    /* NOAESNI is a table-driven emulation: slower than OpenSSL and not constant in time. */
    bool tested = (m->features & IMB_FEATURE_SELF_TEST) == 0 ||
                  (m->features & IMB_FEATURE_SELF_TEST_PASS) != 0;
    if (imb_get_errno(m) != 0 || arch == IMB_ARCH_NONE || arch == IMB_ARCH_NOAESNI || !tested ||
        (m->features & needed) != needed || (m->features & IMB_FEATURE_AESNI_EMU) != 0) {
        free_mb_mgr(m);
        return;
    }
    gcm128 = (struct imb_gcm){
        .pre = m->gcm128_pre,
        .enc = m->gcm128_enc,
        .dec = m->gcm128_dec,
        .start = m->gcm128_init,
        .enc_update = m->gcm128_enc_update,
        .dec_update = m->gcm128_dec_update,
        .enc_end = m->gcm128_enc_finalize,
        .dec_end = m->gcm128_dec_finalize,
    };
    gcm256 = (struct imb_gcm){
        .pre = m->gcm256_pre,
        .enc = m->gcm256_enc,
        .dec = m->gcm256_dec,
        .start = m->gcm256_init,
        .enc_update = m->gcm256_enc_update,
        .dec_update = m->gcm256_dec_update,
        .enc_end = m->gcm256_enc_finalize,
        .dec_end = m->gcm256_dec_finalize,
    };
    manager = m;
}

bool smt_aead_imb_usable(void)
{
    return pthread_once(&probed, probe) == 0 && manager != NULL;
}

static int init_gcm(struct imb_ctx *c, const struct imb_gcm *gcm, const uint8_t *key)
{
    memset(c, 0, sizeof(*c));
    if (!smt_aead_imb_usable())
        return SMT_EUNSUPPORTED;
    c->gcm = gcm;
    gcm->pre(key, &c->key);
    return 0;
}

int smt_aead_imb_init128(void *ctx, const uint8_t *key)
{
    return init_gcm(ctx, &gcm128, key);
}

int smt_aead_imb_init256(void *ctx, const uint8_t *key)
{
    return init_gcm(ctx, &gcm256, key);
}

int smt_aead_imb_rekey(void *ctx, const uint8_t *key)
{
    struct imb_ctx *c = ctx;
    c->gcm->pre(key, &c->key);
    return 0;
}

void smt_aead_imb_fini(void *ctx)
{
    OPENSSL_cleanse(ctx, sizeof(struct imb_ctx));
}

static __attribute__((noinline)) int pieces_seal(struct imb_ctx *c, const uint8_t *nonce,
                                                 const uint8_t *aad, size_t aad_len,
                                                 const struct smt_aead_in *in, unsigned n_in,
                                                 uint8_t *out, uint8_t *tag)
{
    const struct imb_gcm *gcm = c->gcm;
    struct smt_aead_in one = {NULL, 0};
    unsigned n_full = 0;
    for (unsigned i = 0; i < n_in; i++) {
        if (in[i].len == 0)
            continue;
        one = in[i];
        n_full++;
    }
    if (n_full <= 1) {
        gcm->enc(&c->key, &c->state, out, one.p, one.len, nonce, aad, aad_len, tag,
                 SMT_AEAD_TAG_LEN);
        return 0;
    }

    gcm->start(&c->key, &c->state, nonce, aad, aad_len);
    for (unsigned i = 0; i < n_in; i++) {
        if (in[i].len == 0)
            continue;
        gcm->enc_update(&c->key, &c->state, out, in[i].p, in[i].len);
        out += in[i].len;
    }
    gcm->enc_end(&c->key, &c->state, tag, SMT_AEAD_TAG_LEN);
    return 0;
}

int smt_aead_imb_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                      size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                      uint8_t *tag)
{
    struct imb_ctx *c = ctx;
    if (SMT_UNLIKELY(n_in != 1))
        return pieces_seal(c, nonce, aad, aad_len, in, n_in, out, tag);
    c->gcm->enc(&c->key, &c->state, out, in->p, in->len, nonce, aad, aad_len, tag,
                SMT_AEAD_TAG_LEN);
    return 0;
}

/* In constant time, by words. */
static bool tags_equal(const uint8_t *a, const uint8_t *b)
{
    uint64_t x[2], y[2];
    static_assert(sizeof(x) == SMT_AEAD_TAG_LEN, "a tag is two words");
    memcpy(x, a, sizeof(x));
    memcpy(y, b, sizeof(y));
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

/* The library only computes the tag. The right tag of a forged record is wiped: it would make the
 * forgery a valid record for whoever reads it. */
static int check_tag(uint8_t right[SMT_AEAD_TAG_LEN], const uint8_t *tag)
{
    if (SMT_LIKELY(tags_equal(right, tag)))
        return 0;
    OPENSSL_cleanse(right, SMT_AEAD_TAG_LEN);
    return SMT_EAUTH;
}

static __attribute__((noinline)) int pieces_open(struct imb_ctx *c, const uint8_t *nonce,
                                                 const uint8_t *aad, size_t aad_len,
                                                 const uint8_t *in, size_t in_len,
                                                 const struct smt_aead_out *out, unsigned n_out,
                                                 const uint8_t *tag)
{
    const struct imb_gcm *gcm = c->gcm;
    uint8_t right[SMT_AEAD_TAG_LEN];
    struct smt_aead_out one = {NULL, 0};
    size_t out_len = 0;
    for (unsigned i = 0; i < n_out; i++) {
        if (out[i].len == 0)
            continue;
        one = out[i];
        out_len += out[i].len;
    }
    assert(out_len == in_len);
    if (one.len == out_len) {
        gcm->dec(&c->key, &c->state, one.p, in, in_len, nonce, aad, aad_len, right, sizeof(right));
        return check_tag(right, tag);
    }

    gcm->start(&c->key, &c->state, nonce, aad, aad_len);
    for (unsigned i = 0; i < n_out; i++) {
        if (out[i].len == 0)
            continue;
        gcm->dec_update(&c->key, &c->state, out[i].p, in, out[i].len);
        in += out[i].len;
    }
    gcm->dec_end(&c->key, &c->state, right, sizeof(right));
    return check_tag(right, tag);
}

int smt_aead_imb_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                      size_t aad_len, const uint8_t *in, size_t in_len,
                      const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    struct imb_ctx *c = ctx;
    uint8_t right[SMT_AEAD_TAG_LEN];
    if (SMT_UNLIKELY(n_out != 1))
        return pieces_open(c, nonce, aad, aad_len, in, in_len, out, n_out, tag);
    c->gcm->dec(&c->key, &c->state, out->p, in, in_len, nonce, aad, aad_len, right, sizeof(right));
    return check_tag(right, tag);
}

static void pieces_update(struct imb_ctx *c, aes_gcm_enc_dec_update_t update,
                          struct smt_aead_walk *walk)
{
    const uint8_t *from;
    uint8_t *to;
    size_t len;
    while ((len = smt_aead_walk_next(walk, &from, &to)) > 0)
        update(&c->key, &c->state, to, from, len);
}

int smt_aead_imb_seal_to(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                         size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                         const struct smt_aead_out *out, unsigned n_out, uint8_t *tag)
{
    struct imb_ctx *c = ctx;
    const struct imb_gcm *gcm = c->gcm;
    struct smt_aead_walk walk = {.in = in, .out = out, .n_in = n_in, .n_out = n_out};
    gcm->start(&c->key, &c->state, nonce, aad, aad_len);
    pieces_update(c, gcm->enc_update, &walk);
    gcm->enc_end(&c->key, &c->state, tag, SMT_AEAD_TAG_LEN);
    return 0;
}

int smt_aead_imb_open_from(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                           size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                           const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    struct imb_ctx *c = ctx;
    const struct imb_gcm *gcm = c->gcm;
    uint8_t right[SMT_AEAD_TAG_LEN];
    struct smt_aead_walk walk = {.in = in, .out = out, .n_in = n_in, .n_out = n_out};
    gcm->start(&c->key, &c->state, nonce, aad, aad_len);
    pieces_update(c, gcm->dec_update, &walk);
    gcm->dec_end(&c->key, &c->state, right, sizeof(right));
    return check_tag(right, tag);
}
