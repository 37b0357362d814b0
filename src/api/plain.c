/* The handshake of plaintext endpoints: one message each way instead of TLS.
 *
 *   "SMTPLAIN2\n" ‖ u16 length ‖ parameter block (docs/wire.md 6.2, the one cipher is 0)
 *
 * It proves nothing about anybody. Its first byte is no TLS record type, so each kind of endpoint
 * knows the other at once: a TLS peer gets the message with length 0 and a plaintext peer of a TLS
 * endpoint gets a TLS alert, and both fail with a text that says so. The keys are derived from a
 * secret of zeros by the usual schedule. */
#include "api/api.h"

#include <string.h>

#include "base/bytes.h"

enum { HEAD_LEN = SMT_PLAIN_MAGIC_LEN + 2, MESSAGE_MAX = HEAD_LEN + SMT_PARAMS_MAX_LEN };

const uint8_t smt_plain_magic[SMT_PLAIN_MAGIC_LEN] = {'S', 'M', 'T', 'P', 'L',
                                                      'A', 'I', 'N', '2', '\n'};

static int hello_send(struct smt_link *link, bool with_params)
{
    uint8_t msg[MESSAGE_MAX];
    int len = 0;
    if (with_params) {
        struct smt_params params;
        smt_conn_params(link->conn, &params);
        params.n_ciphers = 1;
        params.ciphers[0] = SMT_AEAD_NONE;
        len = smt_params_encode(&params, msg + HEAD_LEN, sizeof(msg) - HEAD_LEN);
        if (len < 0)
            return len;
    }
    memcpy(msg, smt_plain_magic, SMT_PLAIN_MAGIC_LEN);
    smt_put_be16(msg + SMT_PLAIN_MAGIC_LEN, (uint16_t)len);
    link->hello_sent = true;
    return smt_conn_hs_send(link->conn, msg, HEAD_LEN + (size_t)len);
}

int smt_plain_start(struct smt_link *link)
{
    return smt_conn_is_initiator(link->conn) ? hello_send(link, true) : 0;
}

static int peer_accept(struct smt_link *link, const uint8_t *block, size_t len)
{
    static const uint8_t no_secret[SMT_SECRET_LEN];
    struct smt_params peer;
    int r = smt_params_decode(block, len, &peer);
    if (r < 0)
        return r;
    if (memchr(peer.ciphers, SMT_AEAD_NONE, peer.n_ciphers) == NULL)
        return SMT_EPROTO;
    if (!link->hello_sent)
        r = hello_send(link, true);
    return r < 0 ? r : smt_link_install(link, SMT_AEAD_NONE, no_secret, &peer);
}

static void tls_peer_refused(struct smt_link *link)
{
    int r = link->hello_sent ? 0 : hello_send(link, false);
    smt_link_fail(link, r < 0 ? r : SMT_EAUTH,
                  "the peer demands security (TLS) and this endpoint is plaintext: give it "
                  "credentials");
}

/* Returns how many bytes were used; 0 = more are needed. */
static size_t message_take(struct smt_link *link, const uint8_t *p, size_t len)
{
    if (p[0] != smt_plain_magic[0]) {
        tls_peer_refused(link);
        return len;
    }
    if (len < HEAD_LEN)
        return 0;
    size_t block_len = smt_get_be16(p + SMT_PLAIN_MAGIC_LEN);
    if (memcmp(p, smt_plain_magic, SMT_PLAIN_MAGIC_LEN) != 0 || block_len > SMT_PARAMS_MAX_LEN) {
        smt_link_fail(link, SMT_EPROTO,
                      "the peer's first bytes are neither TLS nor a plaintext hello");
        return len;
    }
    if (len < HEAD_LEN + block_len)
        return 0;
    link->hello_seen = true;
    int r = peer_accept(link, p + HEAD_LEN, block_len);
    if (r < 0)
        smt_link_fail(link, r, "the peer's plaintext hello is malformed");
    return HEAD_LEN + block_len;
}

void smt_plain_run(struct smt_link *link)
{
    const uint8_t *p;
    for (size_t len; (len = smt_conn_hs_peek(link->conn, &p)) > 0;) {
        size_t used = link->hello_seen ? len : message_take(link, p, len);
        if (used == 0 || link->closing)
            return;
        smt_conn_hs_consume(link->conn, used);
    }
}
