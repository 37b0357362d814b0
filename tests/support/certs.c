/* Certificates by OpenSSL's own calls, so that the tests need no command line tool and can have the
 * odd ones: expired, not yet valid, for another use, signed by nobody known. */
#include "certs.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            ERR_print_errors_fp(stderr);                                                           \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static EVP_PKEY *key_make(const char *kind)
{
    if (kind == NULL)
        return EVP_EC_gen("P-256");
    if (strcmp(kind, "RSA") == 0)
        return EVP_RSA_gen(2048);
    if (strcmp(kind, "RSA-512") == 0)
        return EVP_RSA_gen(512);
    return EVP_PKEY_Q_keygen(NULL, NULL, kind);
}

static void extension_add(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    MUST(extension != NULL);
    MUST(X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

struct test_identity test_identity_make(const struct test_cert_spec *spec,
                                        const struct test_identity *issuer)
{
    static long serial = 1;
    struct test_identity made = {.cert = X509_new(), .key = key_make(spec->key)};
    MUST(made.cert != NULL && made.key != NULL);
    X509 *cert = made.cert;
    bool usual = spec->begin_s == 0 && spec->end_s == 0;
    MUST(X509_set_version(cert, X509_VERSION_3) == 1);
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++) == 1);
    MUST(X509_gmtime_adj(X509_getm_notBefore(cert), usual ? -3600 : spec->begin_s) != NULL);
    MUST(X509_gmtime_adj(X509_getm_notAfter(cert), usual ? 86400 : spec->end_s) != NULL);
    MUST(X509_set_pubkey(cert, made.key) == 1);
    if (spec->cn != NULL)
        MUST(X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                                        (const unsigned char *)spec->cn, -1, -1, 0) == 1);
    const struct test_identity *signer = issuer != NULL ? issuer : &made;
    MUST(X509_set_issuer_name(cert, X509_get_subject_name(signer->cert)) == 1);
    extension_add(cert, signer->cert, NID_basic_constraints,
                  spec->is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    extension_add(cert, signer->cert, NID_subject_key_identifier, "hash");
    if (issuer != NULL)
        extension_add(cert, signer->cert, NID_authority_key_identifier, "keyid");
    if (spec->san != NULL)
        extension_add(cert, signer->cert, NID_subject_alt_name, spec->san);
    if (spec->eku != NULL)
        extension_add(cert, signer->cert, NID_ext_key_usage, spec->eku);
    bool own_hash = EVP_PKEY_is_a(signer->key, "ED25519") != 0;
    MUST(X509_sign(cert, signer->key, own_hash ? NULL : EVP_sha256()) > 0);
    return made;
}

void test_identity_free(struct test_identity *identity)
{
    X509_free(identity->cert);
    EVP_PKEY_free(identity->key);
    *identity = (struct test_identity){0};
}

void test_pin(const struct test_identity *identity, char out[TEST_PIN_LEN])
{
    unsigned char *der = NULL, hash[32], digits[48];
    int len = i2d_PUBKEY(identity->key, &der);
    MUST(len > 0);
    MUST(EVP_Digest(der, (size_t)len, hash, NULL, EVP_sha256(), NULL) == 1);
    OPENSSL_free(der);
    MUST(EVP_EncodeBlock(digits, hash, 32) == 44);
    snprintf(out, TEST_PIN_LEN, "sha256//%s", digits);
}

void test_dir_make(struct test_dir *dir)
{
    snprintf(dir->path, sizeof(dir->path), "/tmp/smt-test-XXXXXX");
    MUST(mkdtemp(dir->path) != NULL);
}

void test_dir_remove(struct test_dir *dir)
{
    DIR *entries = opendir(dir->path);
    MUST(entries != NULL);
    for (const struct dirent *e = readdir(entries); e != NULL; e = readdir(entries))
        if (e->d_name[0] != '.')
            MUST(unlinkat(dirfd(entries), e->d_name, 0) == 0);
    closedir(entries);
    MUST(rmdir(dir->path) == 0);
}

const char *test_dir_path(const struct test_dir *dir, const char *name)
{
    static char paths[16][2 * TEST_PATH_LEN];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof(paths[0]), "%s/%s", dir->path, name);
    return path;
}

const char *test_dir_write(const struct test_dir *dir, const char *name, const char *text)
{
    const char *path = test_dir_path(dir, name);
    FILE *f = fopen(path, "w");
    MUST(f != NULL);
    MUST(fputs(text, f) >= 0);
    MUST(fclose(f) == 0);
    return path;
}

void test_dir_write_identity(const struct test_dir *dir, const char *name,
                             const struct test_identity *identity,
                             const struct test_identity *const *chain)
{
    char file[TEST_PATH_LEN];
    snprintf(file, sizeof(file), "%s.pem", name);
    FILE *f = fopen(test_dir_path(dir, file), "w");
    MUST(f != NULL && PEM_write_X509(f, identity->cert) == 1);
    for (; chain != NULL && *chain != NULL; chain++)
        MUST(PEM_write_X509(f, (*chain)->cert) == 1);
    MUST(fclose(f) == 0);
    snprintf(file, sizeof(file), "%s.key", name);
    f = fopen(test_dir_path(dir, file), "w");
    MUST(f != NULL && PEM_write_PrivateKey(f, identity->key, NULL, NULL, 0, NULL, NULL) == 1);
    MUST(fclose(f) == 0);
}

void test_dir_write_crl(const struct test_dir *dir, const char *name,
                        const struct test_identity *issuer,
                        const struct test_identity *const *revoked, long next_s)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *begin = X509_gmtime_adj(NULL, next_s < 0 ? 2 * next_s : -60);
    ASN1_TIME *next = X509_gmtime_adj(NULL, next_s);
    MUST(crl != NULL && begin != NULL && next != NULL);
    MUST(X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1);
    MUST(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->cert)) == 1);
    MUST(X509_CRL_set1_lastUpdate(crl, begin) == 1 && X509_CRL_set1_nextUpdate(crl, next) == 1);
    for (; revoked != NULL && *revoked != NULL; revoked++) {
        X509_REVOKED *entry = X509_REVOKED_new();
        MUST(entry != NULL);
        MUST(X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber((*revoked)->cert)) == 1);
        MUST(X509_REVOKED_set_revocationDate(entry, begin) == 1);
        MUST(X509_CRL_add0_revoked(crl, entry) == 1);
    }
    MUST(X509_CRL_sort(crl) == 1);
    MUST(X509_CRL_sign(crl, issuer->key, EVP_sha256()) > 0);
    char file[TEST_PATH_LEN];
    snprintf(file, sizeof(file), "%s.crl", name);
    FILE *f = fopen(test_dir_path(dir, file), "w");
    MUST(f != NULL && PEM_write_X509_CRL(f, crl) == 1);
    MUST(fclose(f) == 0);
    ASN1_TIME_free(begin);
    ASN1_TIME_free(next);
    X509_CRL_free(crl);
}
