/* Throwaway certificates for tests: made by OpenSSL in a directory under /tmp, gone at the end. */
#ifndef SMT_TESTS_SUPPORT_CERTS_H
#define SMT_TESTS_SUPPORT_CERTS_H

#include <stdbool.h>

#include <openssl/x509.h>

enum { TEST_PATH_LEN = 128, TEST_PIN_LEN = 64 };

struct test_identity {
    X509 *cert;
    EVP_PKEY *key;
};

/* What a certificate is to be like. Zero is P-256, valid from an hour ago for a day, for anything.
 */
struct test_cert_spec {
    const char *cn;
    const char *san;     /* "DNS:localhost,IP:127.0.0.1", NULL = none */
    const char *eku;     /* "clientAuth", NULL = any */
    const char *key;     /* "RSA", "RSA-512", "ED25519", NULL = P-256 */
    long begin_s, end_s; /* from now; both 0 = the usual */
    bool is_ca;
};

/* Signed by `issuer`, or by itself when NULL. Aborts when OpenSSL fails, as all of this does. */
struct test_identity test_identity_make(const struct test_cert_spec *spec,
                                        const struct test_identity *issuer);
void test_identity_free(struct test_identity *identity);

/* "sha256//…" of the key. */
void test_pin(const struct test_identity *identity, char out[TEST_PIN_LEN]);

struct test_dir {
    char path[TEST_PATH_LEN];
};

void test_dir_make(struct test_dir *dir);
void test_dir_remove(struct test_dir *dir);

/* The path of `name` inside; valid until the 16th next call. */
const char *test_dir_path(const struct test_dir *dir, const char *name);

/* Writes text; returns the path as above. */
const char *test_dir_write(const struct test_dir *dir, const char *name, const char *text);

/* Writes NAME.pem (the certificate, then those of `chain`, which ends with NULL) and NAME.key. */
void test_dir_write_identity(const struct test_dir *dir, const char *name,
                             const struct test_identity *identity,
                             const struct test_identity *const *chain);

/* NAME.crl: the issuer's list with these certificates (ends with NULL; may be NULL) in it, current
 * for `next_s` seconds from now (negative: until so long ago). */
void test_dir_write_crl(const struct test_dir *dir, const char *name,
                        const struct test_identity *issuer,
                        const struct test_identity *const *revoked, long next_s);

#endif
