/* Certificates for people's eyes. Everything here comes from a peer: lengths are cut, the printing
 * flags escape control characters, and an embedded NUL shows instead of ending a name early. */
#include "hs/cert_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/x509v3.h>

#include "crypto/schedule.h"

/* A line under construction; what does not fit is left out. */
struct text {
    char *out;
    size_t len;
};

static void text_add(struct text *text, const void *bytes, size_t n)
{
    size_t room = SMT_CERT_TEXT_LEN - 1 - text->len;
    if (n > room)
        n = room;
    memcpy(text->out + text->len, bytes, n);
    text->len += n;
    text->out[text->len] = '\0';
}

static bool bio_take_line(BIO *bio, char out[SMT_CERT_TEXT_LEN])
{
    int n = BIO_read(bio, out, SMT_CERT_TEXT_LEN - 1);
    out[n > 0 ? n : 0] = '\0';
    return n > 0;
}

void smt_cert_subject_text(const X509 *cert, char out[SMT_CERT_TEXT_LEN])
{
    bool have = false;
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio != NULL) {
        const X509_NAME *subject = X509_get_subject_name(cert);
        unsigned long flags = XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB;
        have = X509_NAME_print_ex(bio, subject, 0, flags) >= 0 && bio_take_line(bio, out);
        BIO_free(bio);
    }
    if (!have)
        smt_cert_names_text(cert, out);
}

static void general_name_add(struct text *text, const GENERAL_NAME *name)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    if (type != GEN_DNS && type != GEN_IPADD)
        return;
    const unsigned char *bytes = ASN1_STRING_get0_data(value);
    size_t len = (size_t)ASN1_STRING_length(value);
    char ip[INET6_ADDRSTRLEN];
    if (type == GEN_IPADD) {
        if ((len != 4 && len != 16) ||
            inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, ip, sizeof(ip)) == NULL)
            return;
        bytes = (const unsigned char *)ip;
        len = strlen(ip);
    }
    if (text->len > 0)
        text_add(text, ", ", 2);
    for (size_t i = 0; i < len; i++)
        text_add(text, bytes[i] > 0x20 && bytes[i] < 0x7f ? (const char *)&bytes[i] : "?", 1);
}

void smt_cert_names_text(const X509 *cert, char out[SMT_CERT_TEXT_LEN])
{
    struct text text = {.out = out};
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
        general_name_add(&text, sk_GENERAL_NAME_value(names, i));
    GENERAL_NAMES_free(names);
    if (text.len == 0)
        text_add(&text, "no name at all", strlen("no name at all"));
}

void smt_cert_time_text(const ASN1_TIME *time, char out[SMT_CERT_TIME_LEN])
{
    struct tm tm;
    if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1 ||
        strftime(out, SMT_CERT_TIME_LEN, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(out, SMT_CERT_TIME_LEN, "an unreadable date");
}

int64_t smt_cert_time(const ASN1_TIME *time)
{
    struct tm tm;
    time_t t = ASN1_TIME_to_tm(time, &tm) == 1 ? timegm(&tm) : 0;
    return t > 0 ? t : 0;
}

enum smt_cert_dates smt_cert_dates(const X509 *cert)
{
    int end = X509_cmp_current_time(X509_get0_notAfter(cert));
    int begin = X509_cmp_current_time(X509_get0_notBefore(cert));
    if (end <= 0 || begin == 0)
        return SMT_CERT_EXPIRED;
    return begin > 0 ? SMT_CERT_NOT_YET : SMT_CERT_VALID;
}

int smt_cert_key_sha256(const X509 *cert, uint8_t out[32])
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (len <= 0)
        return SMT_ECRYPTO;
    const struct smt_aead_in in = {.p = der, .len = (size_t)len};
    int rc = smt_sha256(&in, 1, out);
    OPENSSL_free(der);
    return rc;
}
