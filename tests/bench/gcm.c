/* The cipher of the limit programs. It owns the two implementations and the nonce; what is sealed
 * is the caller's. */
#include "gcm.h"

#include <stdlib.h>
#include <string.h>

#include "peer.h"

#ifdef SMT_HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#else
#include <openssl/evp.h>
#endif

enum { AAD_LEN = 13 };

static const uint8_t fixed_key[16] = {1, 2, 3};

static void fill_nonce(uint64_t seq, uint8_t nonce[12], uint8_t aad[16])
{
    memset(nonce, 0, 12);
    memcpy(nonce + 4, &seq, 8);
    memset(aad, 0, 16);
    memcpy(aad, &seq, 8);
}

#ifdef SMT_HAVE_IPSEC_MB

struct gcm {
    struct gcm_key_data key;
    IMB_MGR *mb;
    bool plain;
};

static const char cipher_name[] = "ipsec-mb";

struct gcm *gcm_new(bool plain)
{
    struct gcm *g = aligned_alloc(64, (sizeof(*g) + 63) / 64 * 64);
    if (g == NULL || (g->mb = alloc_mb_mgr(0)) == NULL) {
        peer_die("ipsec-mb");
    }
    g->plain = plain;
    init_mb_mgr_auto(g->mb, NULL);
    IMB_AES128_GCM_PRE(g->mb, fixed_key, &g->key);
    return g;
}

void gcm_free(struct gcm *g)
{
    free_mb_mgr(g->mb);
    free(g);
}

static void seal(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
                 uint8_t *tag)
{
    struct gcm_context_data run;
    uint8_t nonce[12], aad[16];
    fill_nonce(seq, nonce, aad);
    IMB_AES128_GCM_ENC(g->mb, &g->key, &run, out, in, len, nonce, aad, AAD_LEN, tag, GCM_TAG_LEN);
}

static bool open_record(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
                        const uint8_t *tag)
{
    struct gcm_context_data run;
    uint8_t nonce[12], aad[16], mine[GCM_TAG_LEN];
    fill_nonce(seq, nonce, aad);
    IMB_AES128_GCM_DEC(g->mb, &g->key, &run, out, in, len, nonce, aad, AAD_LEN, mine, GCM_TAG_LEN);
    return memcmp(mine, tag, GCM_TAG_LEN) == 0;
}

#else

struct gcm {
    EVP_CIPHER_CTX *seal, *open;
    bool plain;
};

static const char cipher_name[] = "openssl";

struct gcm *gcm_new(bool plain)
{
    struct gcm *g = calloc(1, sizeof(*g));
    if (g == NULL || (g->seal = EVP_CIPHER_CTX_new()) == NULL ||
        (g->open = EVP_CIPHER_CTX_new()) == NULL ||
        EVP_EncryptInit_ex(g->seal, EVP_aes_128_gcm(), NULL, fixed_key, NULL) != 1 ||
        EVP_DecryptInit_ex(g->open, EVP_aes_128_gcm(), NULL, fixed_key, NULL) != 1) {
        peer_die("EVP");
    }
    g->plain = plain;
    return g;
}

void gcm_free(struct gcm *g)
{
    EVP_CIPHER_CTX_free(g->seal);
    EVP_CIPHER_CTX_free(g->open);
    free(g);
}

static void seal(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
                 uint8_t *tag)
{
    uint8_t nonce[12], aad[16];
    int n;
    fill_nonce(seq, nonce, aad);
    if (EVP_EncryptInit_ex(g->seal, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(g->seal, NULL, &n, aad, AAD_LEN) != 1 ||
        EVP_EncryptUpdate(g->seal, out, &n, in, (int)len) != 1 ||
        EVP_EncryptFinal_ex(g->seal, out + len, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(g->seal, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_LEN, tag) != 1) {
        peer_die("seal");
    }
}

static bool open_record(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
                        const uint8_t *tag)
{
    uint8_t nonce[12], aad[16], theirs[GCM_TAG_LEN];
    int n;
    fill_nonce(seq, nonce, aad);
    memcpy(theirs, tag, sizeof(theirs));
    return EVP_DecryptInit_ex(g->open, NULL, NULL, NULL, nonce) == 1 &&
           EVP_DecryptUpdate(g->open, NULL, &n, aad, AAD_LEN) == 1 &&
           EVP_DecryptUpdate(g->open, out, &n, in, (int)len) == 1 &&
           EVP_CIPHER_CTX_ctrl(g->open, EVP_CTRL_AEAD_SET_TAG, GCM_TAG_LEN, theirs) == 1 &&
           EVP_DecryptFinal_ex(g->open, out + len, &n) == 1;
}

#endif

const char *gcm_name(const struct gcm *g)
{
    return g->plain ? "none" : cipher_name;
}

void gcm_seal(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
              uint8_t *tag)
{
    if (!g->plain) {
        seal(g, seq, in, len, out, tag);
    } else if (out != in) {
        memcpy(out, in, len);
    }
}

bool gcm_open(struct gcm *g, uint64_t seq, const uint8_t *in, size_t len, uint8_t *out,
              const uint8_t *tag)
{
    if (!g->plain) {
        return open_record(g, seq, in, len, out, tag);
    }
    memcpy(out, in, len);
    return true;
}
