/* Certificate revocation lists from a PEM file (RFC 5280 5). */
#ifndef SMT_HS_CRL_FILE_H
#define SMT_HS_CRL_FILE_H

#include <openssl/ssl.h>

#include "hs/error_line.h"

/* Every list in crl_file, and from now on no certificate is accepted without one: each authority in
 * a peer's chain must have its list there, current. SMT_EFILE, SMT_EEXPIRED (a list that is no
 * longer current would refuse everybody), SMT_ECREDENTIALS with a line that names the file. All
 * borrowed. */
SMT_MUST_CHECK int smt_crl_file(SSL_CTX *tls, const char *crl_file,
                                const struct smt_error_line *line);

#endif
