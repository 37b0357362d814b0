/* SSL_CTX and SSL as smt2 wants them. */
#ifndef SMT_HS_TLS_CTX_H
#define SMT_HS_TLS_CTX_H

#include "hs/error_line.h"
#include "hs/hs_impl.h"

/* A fresh SSL_CTX for certificates, which offers TLS ciphers after `algs`. NULL when OpenSSL fails.
 */
SMT_MUST_CHECK SSL_CTX *smt_tls_ctx_new(const enum smt_aead_alg *algs, unsigned n_algs);

/* The same for pre-shared keys. */
SMT_MUST_CHECK SSL_CTX *smt_tls_ctx_new_psk(void);

/* Puts our callbacks on an application's SSL_CTX, once however often it is called. */
SMT_MUST_CHECK int smt_tls_ctx_adopt(SSL_CTX *tls, const struct smt_error_line *line);

/* Makes hs->ssl over memory BIOs, with role, ALPN, verification and limits set. */
SMT_MUST_CHECK int smt_tls_new(struct smt_hs *hs);

/* True when both sides settled on "smt/2". */
bool smt_tls_has_alpn(const SSL *ssl);

/* The handshake an SSL belongs to; NULL for the application's own connections. */
struct smt_hs *smt_tls_hs(const SSL *ssl);

#endif
