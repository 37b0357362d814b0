/* Certificates and keys from PEM files. All is checked here that a peer would refuse later, where
 * nobody could say which file is to blame: the key belongs to the certificate, the dates are right,
 * the chain is of a sensible length. Chains are not built: a server need not know its own root. */
#include "hs/cert_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "hs/cert_text.h"
#include "hs/file.h"

/* Instead of OpenSSL's own, which asks at the terminal. */
static int passphrase_none(char *buf, int size, int writing, void *asked)
{
    *(bool *)asked = true;
    return -1;
}

static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "unknown reason";
}

static int certs_parse(const struct smt_file *file, const char *what, const char *path,
                       const struct smt_error_line *line, STACK_OF(X509) * certs)
{
    BIO *bio = BIO_new_mem_buf(file->bytes, (int)file->len);
    if (bio == NULL)
        return smt_error_line(line, SMT_ENOMEM, "no memory to parse %s %s", what, path);
    int rc = 0;
    for (;;) {
        bool asked = false;
        X509 *cert = PEM_read_bio_X509(bio, NULL, passphrase_none, &asked);
        if (cert == NULL)
            break;
        if (sk_X509_push(certs, cert) <= 0) {
            X509_free(cert);
            rc = smt_error_line(line, SMT_ENOMEM, "no memory to parse %s %s", what, path);
            break;
        }
    }
    BIO_free(bio);
    unsigned long error = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (rc == 0 && sk_X509_num(certs) == 0 && at_end)
        rc = smt_error_line(line, SMT_EFILE,
                            "no certificate in %s %s: it must be PEM, with BEGIN CERTIFICATE", what,
                            path);
    else if (rc == 0 && !at_end)
        rc = smt_error_line(line, SMT_EFILE, "certificate %d in %s %s is damaged: %s",
                            sk_X509_num(certs) + 1, what, path, openssl_reason());
    ERR_clear_error();
    return rc;
}

/* The file's certificates, at least one. Given: sk_X509_pop_free. */
static int certs_read(const char *what, const char *path, const struct smt_error_line *line,
                      STACK_OF(X509) * *out)
{
    struct smt_file file;
    int rc = smt_file_read(path, what, line, &file);
    if (rc < 0)
        return rc;
    STACK_OF(X509) *certs = sk_X509_new_null();
    if (certs == NULL)
        rc = smt_error_line(line, SMT_ENOMEM, "no memory to parse %s %s", what, path);
    else
        rc = certs_parse(&file, what, path, line, certs);
    smt_file_free(&file);
    if (rc < 0)
        sk_X509_pop_free(certs, X509_free);
    else
        *out = certs;
    return rc;
}

static int key_read(const char *path, const struct smt_error_line *line, EVP_PKEY **out)
{
    struct smt_file file;
    int rc = smt_file_read(path, "key_file", line, &file);
    if (rc < 0)
        return rc;
    bool asked = false;
    BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.len);
    EVP_PKEY *key =
        bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, passphrase_none, &asked) : NULL;
    BIO_free(bio);
    smt_file_free(&file);
    ERR_clear_error();
    if (key != NULL) {
        *out = key;
        return 0;
    }
    if (asked)
        return smt_error_line(
            line, SMT_EFILE,
            "key_file %s is encrypted: decrypt it first with `openssl pkey -in %s "
            "-out PLAIN.key`",
            path, path);
    return smt_error_line(line, SMT_EFILE,
                          "no private key in key_file %s: it must be PEM, with BEGIN PRIVATE KEY",
                          path);
}

static int check_dates(const X509 *cert, const char *what, const char *path,
                       const struct smt_error_line *line)
{
    char subject[SMT_CERT_TEXT_LEN], date[SMT_CERT_TIME_LEN];
    enum smt_cert_dates dates = smt_cert_dates(cert);
    if (dates == SMT_CERT_VALID)
        return 0;
    smt_cert_subject_text(cert, subject);
    if (dates == SMT_CERT_EXPIRED) {
        smt_cert_time_text(X509_get0_notAfter(cert), date);
        return smt_error_line(line, SMT_EEXPIRED, "certificate expired: %s %s (%s) on %s: renew it",
                              what, path, subject, date);
    }
    smt_cert_time_text(X509_get0_notBefore(cert), date);
    return smt_error_line(line, SMT_EEXPIRED,
                          "certificate not yet valid: %s %s (%s) begins on %s: is the clock right?",
                          what, path, subject, date);
}

static int check_chain(const STACK_OF(X509) * certs, const char *path,
                       const struct smt_error_line *line)
{
    size_t total = 0;
    for (int i = 0; i < sk_X509_num(certs); i++) {
        X509 *cert = sk_X509_value(certs, i);
        int rc = check_dates(cert, "cert_file", path, line);
        if (rc < 0)
            return rc;
        int len = i2d_X509(cert, NULL);
        total += len > 0 ? (size_t)len : 0;
    }
    if (total > SMT_CERT_CHAIN_MAX_LEN)
        return smt_error_line(
            line, SMT_ECREDENTIALS,
            "cert_file %s holds %zu bytes of certificates, at most %d can be sent: "
            "leave only our certificate and its chain",
            path, total, SMT_CERT_CHAIN_MAX_LEN);
    return 0;
}

static int use_own(SSL_CTX *tls, STACK_OF(X509) * certs, EVP_PKEY *key, const char *cert_file,
                   const char *key_file, const struct smt_error_line *line)
{
    X509 *own = sk_X509_value(certs, 0);
    if (X509_check_private_key(own, key) != 1)
        return smt_error_line(
            line, SMT_ECREDENTIALS,
            "key_file %s does not belong to the first certificate in cert_file %s", key_file,
            cert_file);
    int rc = check_chain(certs, cert_file, line);
    if (rc < 0)
        return rc;
    bool ok = SSL_CTX_use_certificate(tls, own) == 1 && SSL_CTX_use_PrivateKey(tls, key) == 1;
    for (int i = 1; ok && i < sk_X509_num(certs); i++)
        ok = SSL_CTX_add1_chain_cert(tls, sk_X509_value(certs, i)) == 1;
    if (!ok)
        return smt_error_line(line, SMT_ECREDENTIALS, "cert_file %s cannot be used: %s", cert_file,
                              openssl_reason());
    return 0;
}

int smt_cert_files_own(SSL_CTX *tls, const char *cert_file, const char *key_file,
                       const struct smt_error_line *line)
{
    STACK_OF(X509) *certs = NULL;
    int rc = certs_read("cert_file", cert_file, line, &certs);
    if (rc < 0)
        return rc;
    EVP_PKEY *key = NULL;
    rc = key_read(key_file, line, &key);
    if (rc == 0)
        rc = use_own(tls, certs, key, cert_file, key_file, line);
    EVP_PKEY_free(key);
    sk_X509_pop_free(certs, X509_free);
    ERR_clear_error();
    return rc;
}

/* Old roots may lie beside new ones; only when none is valid can nobody be verified. */
static int check_any_valid(const STACK_OF(X509) * certs, const char *path,
                           const struct smt_error_line *line)
{
    for (int i = 0; i < sk_X509_num(certs); i++)
        if (smt_cert_dates(sk_X509_value(certs, i)) == SMT_CERT_VALID)
            return 0;
    return check_dates(sk_X509_value(certs, 0), "ca_file", path, line);
}

int smt_cert_files_ca(SSL_CTX *tls, const char *ca_file, const struct smt_error_line *line)
{
    STACK_OF(X509) *certs = NULL;
    int rc = certs_read("ca_file", ca_file, line, &certs);
    if (rc < 0)
        return rc;
    rc = check_any_valid(certs, ca_file, line);
    X509_STORE *store = SSL_CTX_get_cert_store(tls);
    for (int i = 0; rc == 0 && i < sk_X509_num(certs); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(certs, i)) != 1)
            rc = smt_error_line(line, SMT_ECREDENTIALS, "ca_file %s cannot be used: %s", ca_file,
                                openssl_reason());
    if (rc == 0 && X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) != 1)
        rc = smt_error_line(line, SMT_ECRYPTO, "ca_file %s cannot be used: %s", ca_file,
                            openssl_reason());
    sk_X509_pop_free(certs, X509_free);
    ERR_clear_error();
    return rc;
}
