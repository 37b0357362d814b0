/* From PEM files to an SSL_CTX. */
#ifndef SMT_HS_CERT_FILES_H
#define SMT_HS_CERT_FILES_H

#include <openssl/ssl.h>

#include "hs/error_line.h"

/* Longest chain of our own, in DER: it goes to every peer, in packets of about 1,000 bytes. */
enum { SMT_CERT_CHAIN_MAX_LEN = 32768 };

/* Our certificate (the first in cert_file), its chain and its key. SMT_EFILE, SMT_EEXPIRED,
 * SMT_ECREDENTIALS with a line that names the file. All borrowed. */
SMT_MUST_CHECK int smt_cert_files_own(SSL_CTX *tls, const char *cert_file, const char *key_file,
                                      const struct smt_error_line *line);

/* Whom to trust: every certificate in ca_file, also one that is no root. */
SMT_MUST_CHECK int smt_cert_files_ca(SSL_CTX *tls, const char *ca_file,
                                     const struct smt_error_line *line);

#endif
