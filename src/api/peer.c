/* Who the peer of a session proved to be: identity, key hash, certificate.
 *
 * The certificate is kept as DER, a tenth of what a parsed one takes, and sessions whose peers show
 * the same one share it: a server's thousands of idle sessions usually come from a few identities.
 * Shared by the hash of the public key; two certificates of one key are not shared. */
#include "api/api.h"

#include <string.h>

#include "base/bytes.h"

static enum smt_session_auth auth_of(enum smt_hs_auth auth)
{
    static const enum smt_session_auth table[] = {
        [SMT_HS_AUTH_NONE] = SMT_AUTH_NONE,
        [SMT_HS_AUTH_CERT] = SMT_AUTH_CERT,
        [SMT_HS_AUTH_PIN] = SMT_AUTH_PIN,
        [SMT_HS_AUTH_PSK] = SMT_AUTH_PSK,
    };
    return table[auth];
}

static struct smt_map_key key_of(const struct smt_peer *peer)
{
    return (struct smt_map_key){smt_get_be64(peer->key_sha256), smt_get_be64(peer->key_sha256 + 8)};
}

static struct smt_peer *peer_make(X509 *cert, const struct smt_hs_result *result)
{
    int cert_len = cert != NULL ? i2d_X509(cert, NULL) : 0;
    if (cert_len < 0)
        cert_len = 0;
    size_t identity_len = strlen(result->identity);
    struct smt_peer *peer = smt_mem_alloc(sizeof(*peer) + identity_len + 1 + (size_t)cert_len);
    if (peer == NULL)
        return NULL;
    peer->refs = 1;
    peer->auth = auth_of(result->auth);
    memcpy(peer->key_sha256, result->peer_key_sha256, sizeof(peer->key_sha256));
    peer->identity_len = (uint32_t)identity_len;
    peer->cert_len = (uint32_t)cert_len;
    memcpy(peer->bytes, result->identity, identity_len + 1);
    unsigned char *der = (unsigned char *)peer->bytes + identity_len + 1;
    if (cert_len > 0)
        i2d_X509(cert, &der);
    return peer;
}

static bool same_peer(const struct smt_peer *a, const struct smt_peer *b)
{
    return a->auth == b->auth && a->identity_len == b->identity_len && a->cert_len == b->cert_len &&
           memcmp(a->key_sha256, b->key_sha256, sizeof(a->key_sha256)) == 0 &&
           memcmp(a->bytes, b->bytes, a->identity_len + 1 + a->cert_len) == 0;
}

struct smt_peer *smt_peer_get(struct smt_ep *ep, const struct smt_hs *hs,
                              const struct smt_hs_result *result)
{
    X509 *cert = smt_hs_peer_cert(hs);
    struct smt_peer *peer = peer_make(cert, result);
    X509_free(cert);
    if (peer == NULL || peer->cert_len == 0)
        return peer;
    struct smt_peer *known = smt_map_get(&ep->peers, key_of(peer));
    if (known != NULL && same_peer(known, peer)) {
        smt_mem_free(peer);
        known->refs++;
        return known;
    }
    if (known == NULL)
        peer->in_map = smt_map_put(&ep->peers, key_of(peer), peer) == 0;
    return peer;
}

void smt_peer_put(struct smt_ep *ep, struct smt_peer *peer)
{
    if (peer == NULL || --peer->refs > 0)
        return;
    if (peer->in_map)
        smt_map_del(&ep->peers, key_of(peer));
    smt_mem_free(peer);
}
