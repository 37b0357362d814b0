/* What is said and compared of a certificate: its names, dates and key. Texts are one line. */
#ifndef SMT_HS_CERT_TEXT_H
#define SMT_HS_CERT_TEXT_H


#include <openssl/x509.h>

#include "base/defs.h"

enum {
    SMT_CERT_TEXT_LEN = 256, /* longer ones are cut */
    SMT_CERT_TIME_LEN = 32,
};

/* Later than any certificate's end. */
#define SMT_CERT_TIME_MAX (INT64_MAX)

/* The subject, "CN=server,O=example"; the alternative names when there is none. */
void smt_cert_subject_text(const X509 *cert, char out[SMT_CERT_TEXT_LEN]);

/* The names it is good for: "localhost, 127.0.0.1, ::1", or "no name at all". */
void smt_cert_names_text(const X509 *cert, char out[SMT_CERT_TEXT_LEN]);

/* "2026-11-21 18:30:00 UTC". */
void smt_cert_time_text(const ASN1_TIME *time, char out[SMT_CERT_TIME_LEN]);

enum smt_cert_dates { SMT_CERT_VALID, SMT_CERT_NOT_YET, SMT_CERT_EXPIRED };

/* Where today lies; dates that cannot be read count as expired. */
enum smt_cert_dates smt_cert_dates(const X509 *cert);

/* Seconds since 1970; 0 for what cannot be read. */
int64_t smt_cert_time(const ASN1_TIME *time);

/* SHA-256 of the SPKI in DER, what pins are made of. */
SMT_MUST_CHECK int smt_cert_key_sha256(const X509 *cert, uint8_t out[32]);

#endif
