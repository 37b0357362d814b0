/* The key schedule by OpenSSL's own TLS13-KDF, HMAC and SHA-256.
 *
 * Owns the labels of smt2 and what is expanded from what (docs/wire.md "Keys"). A key has a secret
 * of its own between the epoch's secret and key and salt, so that one purpose can be handed to a
 * NIC without its neighbours. Algorithms are fetched once a process, a context is taken per
 * call: this is the path of handshakes and rekeys, not of records. HKDF out of HMAC calls would
 * be as short but loses the KDF's place inside a FIPS provider. */
#include "crypto/schedule.h"

#include <pthread.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

static EVP_KDF *tls13_kdf;
static EVP_MAC *hmac;
static EVP_MD *sha256;
static pthread_once_t fetched = PTHREAD_ONCE_INIT;

static char sha256_name[] = "SHA256"; /* parameter arrays take no const */
static char label_prefix[] = "tls13 ";

static void fetch_algorithms(void)
{
    tls13_kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_TLS1_3_KDF, NULL);
    hmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    sha256 = EVP_MD_fetch(NULL, sha256_name, NULL);
}

static bool have_algorithms(void)
{
    return pthread_once(&fetched, fetch_algorithms) == 0 && tls13_kdf != NULL && hmac != NULL &&
           sha256 != NULL;
}

static OSSL_PARAM octets(const char *name, const void *p, size_t len)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)p, len);
}

int smt_hkdf_expand_label(const uint8_t secret[SMT_SECRET_LEN], const char *label,
                          const uint8_t *context, size_t context_len, uint8_t *out, size_t out_len)
{
    if (label[0] == '\0' || strlen(label) > 255 - strlen(label_prefix) || context_len > 255 ||
        out_len == 0 || out_len > 255 * SMT_SECRET_LEN)
        return SMT_EINVAL;
    if (!have_algorithms())
        return SMT_ECRYPTO;
    EVP_KDF_CTX *kdf = EVP_KDF_CTX_new(tls13_kdf);
    if (kdf == NULL)
        return SMT_ENOMEM;

    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, sha256_name, 0),
        octets(OSSL_KDF_PARAM_KEY, secret, SMT_SECRET_LEN),
        octets(OSSL_KDF_PARAM_PREFIX, label_prefix, strlen(label_prefix)),
        octets(OSSL_KDF_PARAM_LABEL, label, strlen(label)),
        context_len > 0 ? octets(OSSL_KDF_PARAM_DATA, context, context_len)
                        : OSSL_PARAM_construct_end(),
        OSSL_PARAM_construct_end(),
    };
    int derived = EVP_KDF_derive(kdf, out, out_len, params);
    EVP_KDF_CTX_free(kdf);
    if (derived != 1) {
        OPENSSL_cleanse(out, out_len);
        return SMT_ECRYPTO;
    }
    return 0;
}

static int expand_key(const uint8_t secret[SMT_SECRET_LEN], const char *label, uint32_t key_len,
                      struct smt_key *out)
{
    uint8_t own[SMT_SECRET_LEN];
    int err = smt_hkdf_expand_label(secret, label, NULL, 0, own, sizeof(own));
    if (err == 0)
        err = smt_hkdf_expand_label(own, "key", NULL, 0, out->key, key_len);
    if (err == 0)
        err = smt_hkdf_expand_label(own, "iv", NULL, 0, out->salt, sizeof(out->salt));
    OPENSSL_cleanse(own, sizeof(own));
    return err;
}

int smt_schedule_keys(const uint8_t secret[SMT_SECRET_LEN], uint32_t key_len,
                      struct smt_epoch_keys *out)
{
    if (key_len != 16 && key_len != 32)
        return SMT_EINVAL;
    const struct {
        const char *label;
        struct smt_key *key;
    } keys[] = {
        {"smt2 i data", &out->i_data},
        {"smt2 r data", &out->r_data},
        {"smt2 i ctrl", &out->i_ctrl},
        {"smt2 r ctrl", &out->r_ctrl},
    };
    memset(out, 0, sizeof(*out)); /* the tails of short keys */
    for (unsigned i = 0; i < SMT_ARRAY_LEN(keys); i++) {
        int err = expand_key(secret, keys[i].label, key_len, keys[i].key);
        if (err != 0) {
            OPENSSL_cleanse(out, sizeof(*out));
            return err;
        }
    }
    return 0;
}

int smt_schedule_next(const uint8_t secret[SMT_SECRET_LEN], uint8_t out[SMT_SECRET_LEN])
{
    return smt_hkdf_expand_label(secret, "smt2 upd", NULL, 0, out, SMT_SECRET_LEN);
}

static bool digest_pieces(EVP_MD_CTX *md, const struct smt_aead_in *in, unsigned n_in,
                          uint8_t out[32])
{
    if (EVP_DigestInit_ex2(md, sha256, NULL) != 1)
        return false;
    for (unsigned i = 0; i < n_in; i++) {
        if (EVP_DigestUpdate(md, in[i].p, in[i].len) != 1)
            return false;
    }
    return EVP_DigestFinal_ex(md, out, NULL) == 1;
}

int smt_sha256(const struct smt_aead_in *in, unsigned n_in, uint8_t out[32])
{
    if (!have_algorithms())
        return SMT_ECRYPTO;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (md == NULL)
        return SMT_ENOMEM;
    bool ok = digest_pieces(md, in, n_in, out);
    EVP_MD_CTX_free(md);
    return ok ? 0 : SMT_ECRYPTO;
}

static bool mac_pieces(EVP_MAC_CTX *mac, const uint8_t *key, size_t key_len,
                       const struct smt_aead_in *in, unsigned n_in, uint8_t out[32])
{
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256_name, 0),
        OSSL_PARAM_construct_end(),
    };
    if (EVP_MAC_init(mac, key, key_len, params) != 1)
        return false;
    for (unsigned i = 0; i < n_in; i++) {
        if (EVP_MAC_update(mac, in[i].p, in[i].len) != 1)
            return false;
    }
    size_t out_len;
    return EVP_MAC_final(mac, out, &out_len, 32) == 1 && out_len == 32;
}

int smt_hmac_sha256(const uint8_t *key, size_t key_len, const struct smt_aead_in *in, unsigned n_in,
                    uint8_t out[32])
{
    if (!have_algorithms())
        return SMT_ECRYPTO;
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
    if (mac == NULL)
        return SMT_ENOMEM;
    bool ok = mac_pieces(mac, key, key_len, in, n_in, out);
    EVP_MAC_CTX_free(mac);
    return ok ? 0 : SMT_ECRYPTO;
}
