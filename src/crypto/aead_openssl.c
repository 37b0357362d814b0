/* AES-GCM by OpenSSL's EVP: on every machine, and the only rows for a FIPS provider.
 *
 * The context holds one EVP_CIPHER_CTX that serves both directions; the key is expanded once and a
 * record sets only the nonce. OpenSSL 3.0 spends some 250 ns of a record inside EVP and its
 * provider calls, whatever the length. The tag goes in together with the nonce and comes out by a
 * parameter array: the ctrl calls do the same with one more walk through the provider. The TLS
 * record mode (EVP_CTRL_AEAD_TLS1_AAD) would save a third of the calls, but works in place only
 * and on one piece.
 *
 * The expanded key lies in OpenSSL's heap, not in the caller's memory: it is wiped when the context
 * goes, but neither locked nor kept out of core dumps. */
#include "crypto/aead_rows.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "crypto/aead_walk.h"

struct openssl_ctx {
    EVP_CIPHER_CTX *evp;
};

static_assert(sizeof(struct openssl_ctx) <= SMT_AEAD_OPENSSL_CTX_LEN, "context must fit");

/* Fetched once and kept until OpenSSL itself ends: a fetch takes locks. */
static EVP_CIPHER *gcm128, *gcm256;
static pthread_once_t fetched = PTHREAD_ONCE_INIT;

static void fetch_ciphers(void)
{
    gcm128 = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    gcm256 = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
}

bool smt_aead_openssl_usable(void)
{
    return true;
}

void smt_aead_openssl_fini(void *ctx)
{
    struct openssl_ctx *c = ctx;
    EVP_CIPHER_CTX_free(c->evp);
    OPENSSL_cleanse(c, sizeof(*c));
}

static int init_cipher(struct openssl_ctx *c, const EVP_CIPHER *cipher, const uint8_t *key)
{
    memset(c, 0, sizeof(*c));
    if (cipher == NULL)
        return SMT_ECRYPTO;
    c->evp = EVP_CIPHER_CTX_new();
    if (c->evp == NULL)
        return SMT_ENOMEM;
    if (EVP_EncryptInit_ex2(c->evp, cipher, key, NULL, NULL) != 1) {
        smt_aead_openssl_fini(c);
        return SMT_ECRYPTO;
    }
    return 0;
}

int smt_aead_openssl_init128(void *ctx, const uint8_t *key)
{
    if (pthread_once(&fetched, fetch_ciphers) != 0)
        return SMT_ESYSTEM;
    return init_cipher(ctx, gcm128, key);
}

int smt_aead_openssl_init256(void *ctx, const uint8_t *key)
{
    if (pthread_once(&fetched, fetch_ciphers) != 0)
        return SMT_ESYSTEM;
    return init_cipher(ctx, gcm256, key);
}

int smt_aead_openssl_rekey(void *ctx, const uint8_t *key)
{
    struct openssl_ctx *c = ctx;
    return EVP_EncryptInit_ex2(c->evp, NULL, key, NULL, NULL) == 1 ? 0 : SMT_ECRYPTO;
}

static bool put_aad(EVP_CIPHER_CTX *evp, const uint8_t *aad, size_t aad_len, bool sealing)
{
    int n;
    if (aad_len == 0)
        return true;
    assert(aad_len <= INT_MAX);
    if (sealing)
        return EVP_EncryptUpdate(evp, NULL, &n, aad, (int)aad_len) == 1;
    return EVP_DecryptUpdate(evp, NULL, &n, aad, (int)aad_len) == 1;
}

static int end_seal(EVP_CIPHER_CTX *evp, uint8_t *tag)
{
    int n;
    uint8_t nothing[SMT_AEAD_TAG_LEN]; /* GCM has no last bytes to give, the call wants room */
    OSSL_PARAM get_tag[] = {
        OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, SMT_AEAD_TAG_LEN),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_EncryptFinal_ex(evp, nothing, &n) != 1 || EVP_CIPHER_CTX_get_params(evp, get_tag) != 1)
        return SMT_ECRYPTO;
    return 0;
}

int smt_aead_openssl_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                          size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                          uint8_t *tag)
{
    EVP_CIPHER_CTX *evp = ((struct openssl_ctx *)ctx)->evp;
    if (EVP_EncryptInit_ex2(evp, NULL, NULL, nonce, NULL) != 1 || !put_aad(evp, aad, aad_len, true))
        return SMT_ECRYPTO;

    int n;
    for (unsigned i = 0; i < n_in; i++) {
        if (in[i].len == 0)
            continue;
        assert(in[i].len <= INT_MAX);
        if (EVP_EncryptUpdate(evp, out, &n, in[i].p, (int)in[i].len) != 1)
            return SMT_ECRYPTO;
        out += in[i].len;
    }

    return end_seal(evp, tag);
}

static bool start_open(EVP_CIPHER_CTX *evp, const uint8_t *nonce, const uint8_t *aad,
                       size_t aad_len, const uint8_t *tag)
{
    OSSL_PARAM set_tag[] = {
        OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, (void *)(uintptr_t)tag,
                                          SMT_AEAD_TAG_LEN),
        OSSL_PARAM_construct_end(),
    };
    return EVP_DecryptInit_ex2(evp, NULL, NULL, nonce, set_tag) == 1 &&
           put_aad(evp, aad, aad_len, false);
}

static int end_open(EVP_CIPHER_CTX *evp)
{
    int n;
    uint8_t nothing[SMT_AEAD_TAG_LEN];
    return EVP_DecryptFinal_ex(evp, nothing, &n) == 1 ? 0 : SMT_EAUTH;
}

int smt_aead_openssl_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                          size_t aad_len, const uint8_t *in, size_t in_len,
                          const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    EVP_CIPHER_CTX *evp = ((struct openssl_ctx *)ctx)->evp;
    if (!start_open(evp, nonce, aad, aad_len, tag))
        return SMT_ECRYPTO;

    int n;
    for (unsigned i = 0; i < n_out; i++) {
        if (out[i].len == 0)
            continue;
        assert(out[i].len <= in_len && out[i].len <= INT_MAX);
        if (EVP_DecryptUpdate(evp, out[i].p, &n, in, (int)out[i].len) != 1)
            return SMT_ECRYPTO;
        in += out[i].len;
        in_len -= out[i].len;
    }
    assert(in_len == 0);

    return end_open(evp);
}

typedef int update_fn(EVP_CIPHER_CTX *evp, unsigned char *to, int *n, const unsigned char *from,
                      int len);

static bool pieces_update(EVP_CIPHER_CTX *evp, update_fn *update, struct smt_aead_walk *walk)
{
    const uint8_t *from;
    uint8_t *to;
    size_t len;
    while ((len = smt_aead_walk_next(walk, &from, &to)) > 0) {
        int n;
        assert(len <= INT_MAX);
        if (update(evp, to, &n, from, (int)len) != 1)
            return false;
    }
    return true;
}

int smt_aead_openssl_seal_to(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                             size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                             const struct smt_aead_out *out, unsigned n_out, uint8_t *tag)
{
    EVP_CIPHER_CTX *evp = ((struct openssl_ctx *)ctx)->evp;
    if (EVP_EncryptInit_ex2(evp, NULL, NULL, nonce, NULL) != 1 || !put_aad(evp, aad, aad_len, true))
        return SMT_ECRYPTO;

    struct smt_aead_walk walk = {.in = in, .out = out, .n_in = n_in, .n_out = n_out};
    if (!pieces_update(evp, EVP_EncryptUpdate, &walk))
        return SMT_ECRYPTO;
    return end_seal(evp, tag);
}

int smt_aead_openssl_open_from(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN],
                               const uint8_t *aad, size_t aad_len, const struct smt_aead_in *in,
                               unsigned n_in, const struct smt_aead_out *out, unsigned n_out,
                               const uint8_t *tag)
{
    EVP_CIPHER_CTX *evp = ((struct openssl_ctx *)ctx)->evp;
    if (!start_open(evp, nonce, aad, aad_len, tag))
        return SMT_ECRYPTO;

    struct smt_aead_walk walk = {.in = in, .out = out, .n_in = n_in, .n_out = n_out};
    if (!pieces_update(evp, EVP_DecryptUpdate, &walk))
        return SMT_ECRYPTO;
    return end_open(evp);
}
