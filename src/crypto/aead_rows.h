/* What the back ends give to the table in aead.c; nobody else includes this. */
#ifndef SMT_CRYPTO_AEAD_ROWS_H
#define SMT_CRYPTO_AEAD_ROWS_H

#include "crypto/aead.h"

/* Context sizes; each back end checks its own. */
enum {
    SMT_AEAD_OPENSSL_CTX_LEN = 64,
    SMT_AEAD_IMB_CTX_LEN = 1152,
    SMT_AEAD_NONE_CTX_LEN = 64,
};

/* The row of SMT_AEAD_NONE, which stands in no list. */
extern const struct smt_aead smt_aead_none;

bool smt_aead_openssl_usable(void);
int smt_aead_openssl_init128(void *ctx, const uint8_t *key);
int smt_aead_openssl_init256(void *ctx, const uint8_t *key);
int smt_aead_openssl_rekey(void *ctx, const uint8_t *key);
void smt_aead_openssl_fini(void *ctx);
int smt_aead_openssl_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                          size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                          uint8_t *tag);
int smt_aead_openssl_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                          size_t aad_len, const uint8_t *in, size_t in_len,
                          const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag);
int smt_aead_openssl_seal_to(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                             size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                             const struct smt_aead_out *out, unsigned n_out, uint8_t *tag);
int smt_aead_openssl_open_from(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN],
                               const uint8_t *aad, size_t aad_len, const struct smt_aead_in *in,
                               unsigned n_in, const struct smt_aead_out *out, unsigned n_out,
                               const uint8_t *tag);

/* Only in builds with SMT_HAVE_IPSEC_MB. */
bool smt_aead_imb_usable(void);
int smt_aead_imb_init128(void *ctx, const uint8_t *key);
int smt_aead_imb_init256(void *ctx, const uint8_t *key);
int smt_aead_imb_rekey(void *ctx, const uint8_t *key);
void smt_aead_imb_fini(void *ctx);
int smt_aead_imb_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                      size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                      uint8_t *tag);
int smt_aead_imb_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                      size_t aad_len, const uint8_t *in, size_t in_len,
                      const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag);
int smt_aead_imb_seal_to(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                         size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                         const struct smt_aead_out *out, unsigned n_out, uint8_t *tag);
int smt_aead_imb_open_from(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                           size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                           const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag);

#endif
