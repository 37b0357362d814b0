/* What <smt/tls.h> offers: contexts from an application's own SSL_CTX, and peers' certificates. */
#include "api/api.h"

#include <smt/tls.h>

int smt_ctx_open_tls(const struct smt_ctx_config *config, SSL_CTX *ssl_ctx, struct smt_ctx **out)
{
    if (ssl_ctx == NULL)
        return smt_fail_static(NULL, SMT_EINVAL, "ssl_ctx is NULL");
    return smt_ctx_open_with(config, ssl_ctx, out);
}

X509 *smt_session_peer_cert(const struct smt_session *session)
{
    if (smt_session_check(session) < 0 || session->link == NULL || session->link->peer == NULL)
        return NULL;
    const struct smt_peer *peer = session->link->peer;
    const unsigned char *der = (const unsigned char *)peer->bytes + peer->identity_len + 1;
    return peer->cert_len > 0 ? d2i_X509(NULL, &der, (long)peer->cert_len) : NULL;
}
