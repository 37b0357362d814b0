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

/* When the first of the lists that were read must be renewed; far away without any. Before other
 * threads use the SSL_CTX. */
int64_t smt_crl_until(SSL_CTX *tls);

#endif
