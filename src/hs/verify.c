/* Verification of the peer's certificate. With a CA OpenSSL does the work, and names and dates with
 * it. With pins only, the key is the identity: issuer, name and purpose mean nothing, dates still
 * count, for an expired certificate is one that its owner wants out of use.
 *
 * Names are taken from subjectAltName alone; a common name is no name since RFC 6125. */
#include "hs/verify.h"

#include <arpa/inet.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "hs/cert_text.h"
#include "hs/tls_ctx.h"

enum { NAME_FLAGS = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT };

static struct smt_hs *hs_of(X509_STORE_CTX *store, SSL **ssl)
{
    *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    return *ssl != NULL ? smt_tls_hs(*ssl) : NULL;
}

static void fail_dates(struct smt_hs *hs, const X509 *cert, bool is_leaf, bool expired)
{
    char subject[SMT_CERT_TEXT_LEN], date[SMT_CERT_TIME_LEN];
    const char *whose = is_leaf ? "the peer's certificate" : "a certificate above the peer's";
    smt_cert_subject_text(cert, subject);
    smt_cert_time_text(expired ? X509_get0_notAfter(cert) : X509_get0_notBefore(cert), date);
    if (expired)
        smt_hs_fail(hs, SMT_EEXPIRED, "%s (%s) expired on %s", whose, subject, date);
    else
        smt_hs_fail(hs, SMT_EEXPIRED, "%s (%s) is not valid before %s: are the clocks right?",
                    whose, subject, date);
}

static void fail_name(struct smt_hs *hs, const X509 *cert)
{
    char names[SMT_CERT_TEXT_LEN];
    smt_cert_names_text(cert, names);
    smt_hs_fail(hs, SMT_ENAMEMISMATCH, "the peer's certificate is for %s, not for %s", names,
                hs->verify_name);
}

static bool is_untrusted(int error)
{
    return error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE ||
           error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
           error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
           error == X509_V_ERR_CERT_SIGNATURE_FAILURE;
}

static void fail_chain(struct smt_hs *hs, const X509 *leaf, int error)
{
    char subject[SMT_CERT_TEXT_LEN] = "unreadable";
    if (leaf != NULL)
        smt_cert_subject_text(leaf, subject);
    if (error == X509_V_ERR_CERT_REVOKED)
        smt_hs_fail(hs, SMT_ECERT, "the peer's certificate (%s), or one above it, is revoked",
                    subject);
    else if (error == X509_V_ERR_UNABLE_TO_GET_CRL || error == X509_V_ERR_CRL_HAS_EXPIRED)
        smt_hs_fail(hs, SMT_ECERT,
                    "the peer's certificate (%s) cannot be judged: crl_file holds no current list "
                    "of an authority in its chain",
                    subject);
    else if (is_untrusted(error))
        smt_hs_fail(hs, SMT_ECERT,
                    "the peer's certificate (%s) is not signed by an authority we trust: %s",
                    subject, X509_verify_cert_error_string(error));
    else if (error == X509_V_ERR_INVALID_PURPOSE)
        smt_hs_fail(hs, SMT_ECERT,
                    "the peer's certificate (%s) may not be used by a %s (extendedKeyUsage)",
                    subject, hs->initiator ? "server" : "client");
    else
        smt_hs_fail(hs, SMT_ECERT, "the peer's certificate (%s) is not accepted: %s", subject,
                    X509_verify_cert_error_string(error));
}

static void fail_store(struct smt_hs *hs, X509_STORE_CTX *store)
{
    const X509 *leaf = X509_STORE_CTX_get0_cert(store);
    const X509 *at = X509_STORE_CTX_get_current_cert(store);
    if (at == NULL)
        at = leaf;
    int error = X509_STORE_CTX_get_error(store);
    bool is_leaf = X509_STORE_CTX_get_error_depth(store) == 0;
    switch (at != NULL ? error : X509_V_ERR_UNSPECIFIED) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        fail_dates(hs, at, is_leaf, error == X509_V_ERR_CERT_HAS_EXPIRED);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        fail_name(hs, at);
        break;
    default:
        fail_chain(hs, leaf, error);
    }
}

int smt_verify_step(int ok, X509_STORE_CTX *store)
{
    SSL *ssl;
    struct smt_hs *hs = hs_of(store, &ssl);
    if (hs == NULL)
        return ok;
    SSL_verify_cb theirs = SSL_CTX_get_verify_callback(SSL_get_SSL_CTX(ssl));
    if (theirs != NULL)
        ok = theirs(ok, store);
    if (!ok)
        fail_store(hs, store);
    return ok;
}

/* X509_V_OK or the error. */
static int leaf_dates(struct smt_hs *hs, const X509 *leaf)
{
    enum smt_cert_dates dates = smt_cert_dates(leaf);
    if (dates == SMT_CERT_VALID)
        return X509_V_OK;
    bool expired = dates == SMT_CERT_EXPIRED;
    fail_dates(hs, leaf, true, expired);
    return expired ? X509_V_ERR_CERT_HAS_EXPIRED : X509_V_ERR_CERT_NOT_YET_VALID;
}

static int leaf_pinned(struct smt_hs *hs, const X509 *leaf)
{
    uint8_t hash[32];
    if (smt_cert_key_sha256(leaf, hash) == 0 && smt_pins_match(&hs->creds->pins, hash))
        return X509_V_OK;
    char subject[SMT_CERT_TEXT_LEN];
    smt_cert_subject_text(leaf, subject);
    smt_hs_fail(hs, SMT_EPIN, "the public key of the peer's certificate (%s) is none of our pins",
                subject);
    return X509_V_ERR_CERT_REJECTED;
}

int smt_verify_chain(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl;
    struct smt_hs *hs = hs_of(store, &ssl);
    X509 *leaf = X509_STORE_CTX_get0_cert(store);
    if (hs == NULL || leaf == NULL)
        return 0;
    const struct smt_creds *creds = hs->creds;
    if (creds->kind == SMT_CREDS_PSK) {
        smt_hs_fail(hs, SMT_EPSK, "the peer identifies by certificate, we have a pre-shared key");
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
        return 0;
    }
    bool has_pins = creds->pins.n > 0;
    if (!creds->has_ca && !has_pins) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
        return 0;
    }
    if (creds->has_ca && X509_verify_cert(store) <= 0)
        return 0;
    int error = creds->has_ca ? X509_V_OK : leaf_dates(hs, leaf);
    if (error == X509_V_OK && has_pins)
        error = leaf_pinned(hs, leaf);
    X509_STORE_CTX_set_error(store, error);
    return error == X509_V_OK;
}

int64_t smt_verify_good_until(const struct smt_hs *hs)
{
    int64_t until = hs->creds->lists_until;
    STACK_OF(X509) *chain = SSL_get0_verified_chain(hs->ssl);
    const X509 *cert = SSL_get0_peer_certificate(hs->ssl);
    for (int i = 0; cert != NULL; i++) {
        int64_t end = smt_cert_time(X509_get0_notAfter(cert));
        until = end < until ? end : until;
        cert = i < sk_X509_num(chain) ? sk_X509_value(chain, i) : NULL;
    }
    return until;
}

/* IPv4-mapped addresses, which dual-stack sockets show, stand for the IPv4 address in certificates.
 */
static size_t parse_ip(const char *name, uint8_t out[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    char text[INET6_ADDRSTRLEN];
    size_t len = strcspn(name, "%"); /* a link-local zone is ours, no certificate has it */
    if (len >= sizeof(text))
        return 0;
    memcpy(text, name, len);
    text[len] = '\0';
    if (name[len] == '\0' && inet_pton(AF_INET, text, out) == 1)
        return 4;
    if (inet_pton(AF_INET6, text, out) != 1)
        return 0;
    if (memcmp(out, mapped, sizeof(mapped)) != 0)
        return 16;
    memmove(out, out + sizeof(mapped), 4);
    return 4;
}

int smt_verify_set_name(struct smt_hs *hs)
{
    if (hs->verify_name[0] == '\0')
        return 0;
    X509_VERIFY_PARAM *param = SSL_get0_param(hs->ssl);
    X509_VERIFY_PARAM_set_hostflags(param, NAME_FLAGS);
    uint8_t ip[16];
    size_t ip_len = parse_ip(hs->verify_name, ip);
    if (ip_len > 0)
        return X509_VERIFY_PARAM_set1_ip(param, ip, ip_len) == 1 ? 0 : SMT_ECRYPTO;

    size_t len = strlen(hs->verify_name);
    if (len > 1 &&
        hs->verify_name[len - 1] == '.') /* the root's dot; SNI and certificates have none */
        hs->verify_name[--len] = '\0';
    if (X509_VERIFY_PARAM_set1_host(param, hs->verify_name, len) != 1 ||
        SSL_set_tlsext_host_name(hs->ssl, hs->verify_name) != 1)
        return SMT_EINVAL;
    return 0;
}

static bool name_fits(struct smt_hs *hs, X509 *leaf)
{
    uint8_t ip[16];
    size_t ip_len = parse_ip(hs->verify_name, ip);
    bool fits = ip_len > 0 ? X509_check_ip(leaf, ip, ip_len, 0) == 1
                           : X509_check_host(leaf, hs->verify_name, 0, NAME_FLAGS, NULL) == 1;
    if (!fits)
        fail_name(hs, leaf);
    return fits;
}

bool smt_verify_resumed(struct smt_hs *hs)
{
    const struct smt_creds *creds = hs->creds;
    X509 *leaf = SSL_get0_peer_certificate(hs->ssl);
    if (leaf == NULL)
        return true; /* a client without one: whether that may be is judged for all alike */
    if (leaf_dates(hs, leaf) != X509_V_OK)
        return false;
    if (creds->pins.n > 0 && leaf_pinned(hs, leaf) != X509_V_OK)
        return false;
    return !creds->has_ca || hs->verify_name[0] == '\0' || name_fits(hs, leaf);
}
