/* Revocation lists. OpenSSL judges by them; here they are read, and a file that could only refuse
 * everybody is refused itself, while there is somebody to read why. Fetching new lists in time is
 * the administrator's: lists do not go out of date at once on all machines, and a fetch inside a
 * handshake would wait. */
#include "hs/crl_file.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include "hs/cert_text.h"
#include "hs/file.h"

static int check_current(const X509_CRL *crl, const char *path, const struct smt_error_line *line)
{
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(crl);
    if (next == NULL || X509_cmp_current_time(next) > 0)
        return 0;
    char issuer[SMT_CERT_TEXT_LEN], date[SMT_CERT_TIME_LEN];
    if (X509_NAME_oneline(X509_CRL_get_issuer(crl), issuer, sizeof(issuer)) == NULL)
        issuer[0] = '\0';
    smt_cert_time_text(next, date);
    return smt_error_line(line, SMT_EEXPIRED,
                          "the list of %s in crl_file %s should have been renewed on %s: fetch the "
                          "current one",
                          issuer, path, date);
}

/* How many lists were added. */
static int crls_add(X509_STORE *store, BIO *bio, const char *path,
                    const struct smt_error_line *line)
{
    int n = 0;
    for (X509_CRL *crl; (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)) != NULL; n++) {
        int rc = check_current(crl, path, line);
        if (rc == 0 && X509_STORE_add_crl(store, crl) != 1)
            rc = smt_error_line(line, SMT_ECREDENTIALS, "list %d of crl_file %s cannot be used",
                                n + 1, path);
        X509_CRL_free(crl);
        if (rc < 0)
            return rc;
    }
    unsigned long error = ERR_peek_last_error();
    bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
    if (!at_end)
        return smt_error_line(line, SMT_EFILE, "list %d in crl_file %s is damaged", n + 1, path);
    if (n == 0)
        return smt_error_line(line, SMT_EFILE,
                              "no list in crl_file %s: it must be PEM, with BEGIN X509 CRL", path);
    return n;
}

int smt_crl_file(SSL_CTX *tls, const char *crl_file, const struct smt_error_line *line)
{
    struct smt_file file;
    int rc = smt_file_read(crl_file, "crl_file", line, &file);
    if (rc < 0)
        return rc;
    X509_STORE *store = SSL_CTX_get_cert_store(tls);
    BIO *bio = BIO_new_mem_buf(file.bytes, (int)file.len);
    if (bio == NULL)
        rc = smt_error_line(line, SMT_ENOMEM, "no memory to parse crl_file %s", crl_file);
    else
        rc = crls_add(store, bio, crl_file, line);
    if (rc > 0)
        rc = X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1
                 ? 0
                 : smt_error_line(line, SMT_ECRYPTO, "crl_file %s cannot be used", crl_file);
    BIO_free(bio);
    smt_file_free(&file);
    ERR_clear_error();
    return rc;
}

int64_t smt_crl_until(SSL_CTX *tls)
{
    STACK_OF(X509_OBJECT) *all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(tls));
    int64_t until = SMT_CERT_TIME_MAX;
    for (int i = 0; i < sk_X509_OBJECT_num(all); i++) {
        const X509_CRL *crl = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(all, i));
        const ASN1_TIME *next = crl != NULL ? X509_CRL_get0_nextUpdate(crl) : NULL;
        if (next != NULL && smt_cert_time(next) < until)
            until = smt_cert_time(next);
    }
    return until;
}
