/* The key schedule of smt2 (docs/wire.md "Keys"): from the TLS exporter's secret to the keys of an
 * epoch, and from an epoch's secret to the next. HKDF-Expand-Label of RFC 8446 7.1 with SHA-256.
 * Secrets are the caller's to wipe. */
#ifndef SMT_CRYPTO_SCHEDULE_H
#define SMT_CRYPTO_SCHEDULE_H

#include "crypto/aead.h"

enum { SMT_SECRET_LEN = 32, SMT_SALT_LEN = 4 };

/* One direction, one purpose: raw key and the 4 salt bytes that begin each nonce. */
struct smt_key {
    uint8_t key[SMT_AEAD_MAX_KEY_LEN];
    uint8_t salt[SMT_SALT_LEN];
};

/* The four keys of an epoch. "i" is the session's initiator, "r" the responder. */
struct smt_epoch_keys {
    struct smt_key i_data, r_data, i_ctrl, r_ctrl;
};

/* HKDF-Expand-Label(secret, "tls13 " + label, context, out_len), RFC 8446 7.1. */
SMT_MUST_CHECK int smt_hkdf_expand_label(const uint8_t secret[SMT_SECRET_LEN], const char *label,
                                         const uint8_t *context, size_t context_len, uint8_t *out,
                                         size_t out_len);

/* Keys of the epoch whose secret is given, for keys of key_len bytes (16 or 32). */
SMT_MUST_CHECK int smt_schedule_keys(const uint8_t secret[SMT_SECRET_LEN], uint32_t key_len,
                                     struct smt_epoch_keys *out);

/* The next epoch's secret. in and out may be the same memory. */
SMT_MUST_CHECK int smt_schedule_next(const uint8_t secret[SMT_SECRET_LEN],
                                     uint8_t out[SMT_SECRET_LEN]);

/* SHA-256 and HMAC-SHA-256 over gathered pieces, for transcript hashes and cookies. */
SMT_MUST_CHECK int smt_sha256(const struct smt_aead_in *in, unsigned n_in, uint8_t out[32]);
SMT_MUST_CHECK int smt_hmac_sha256(const uint8_t *key, size_t key_len, const struct smt_aead_in *in,
                                   unsigned n_in, uint8_t out[32]);

#endif
