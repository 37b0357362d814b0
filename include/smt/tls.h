/* Credentials from an application's own OpenSSL context. The only public header that knows
 * OpenSSL. */
#ifndef SMT_TLS_H
#define SMT_TLS_H

#include <openssl/ssl.h>

#include <smt/smt.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Opens a context like smt_ctx_open with the certificates, keys, trust and verify settings of
 * `ssl_ctx` (one reference is taken). TLS 1.3 only, ALPN "smt/2" and the transport-parameter
 * extension are set on it. The config's certificate, PSK and plaintext members must be empty. */
SMT_API int smt_ctx_open_tls(const struct smt_ctx_config *config, SSL_CTX *ssl_ctx,
                             struct smt_ctx **out);

/* The peer's certificate of a session, or NULL. Given: X509_free. */
SMT_API X509 *smt_session_peer_cert(const struct smt_session *session);

#ifdef __cplusplus
}
#endif
#endif
