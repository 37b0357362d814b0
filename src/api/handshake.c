/* Between a conn's handshake bytes and hs: who may come in, what both sides agreed on, why it
 * failed.
 *
 * A link is made for every conn; a stranger's link gets a session only when its handshake is
 * complete. A responder's hs object is freed as soon as the link is up, an initiator's once it has
 * its ticket, which may come after that; what goes wrong in between costs the ticket and nothing
 * else, for TLS bytes come in packets that anybody can send. A failure before sends the alert,
 * closes the conn with the mapped code and leaves the text for the DOWN event. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

#include "wire/wire.h"

struct smt_link *smt_link_new(struct smt_ep *ep, struct smt_conn *conn, struct smt_session *session)
{
    struct smt_link *link = smt_pool_get(&ep->link_pool);
    if (link == NULL)
        return NULL;
    *link = (struct smt_link){.ep = ep, .session = session, .conn = conn};
    smt_list_init(&link->retired);
    smt_list_push_tail(&ep->links, &link->node);
    smt_conn_set_user(conn, link);
    if (session != NULL)
        session->n_links++;
    return link;
}

void smt_link_free(struct smt_link *link)
{
    smt_conn_set_user(link->conn, NULL);
    if (link->session != NULL)
        link->session->n_links--;
    smt_hs_free(link->hs);
    smt_peer_put(link->ep, link->peer);
    smt_mem_free(link->text);
    smt_list_remove(&link->retired);
    smt_list_remove(&link->node);
    smt_pool_put(&link->ep->link_pool, link);
}

void smt_link_fail(struct smt_link *link, int code, const char *text)
{
    if (link->closing)
        return;
    link->closing = true;
    link->error = code;
    size_t len = strlen(text) + 1;
    if (len > 1 && link->text == NULL) {
        link->text = smt_mem_alloc(len);
        if (link->text != NULL)
            memcpy(link->text, text, len);
    }
    smt_conn_close(link->conn, link->ep->now, code, true);
}

int smt_link_install(struct smt_link *link, enum smt_aead_alg alg,
                     const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer)
{
    const struct smt_aead *aead = (unsigned)alg < SMT_API_N_ALGS ? link->ep->ctx->aeads[alg] : NULL;
    if (aead == NULL || memchr(peer->versions, SMT_WIRE_VERSION, peer->n_versions) == NULL)
        return SMT_EVERSION;
    if (peer->session_id != smt_conn_peer_id(link->conn))
        return SMT_EPROTO;
    link->aead = aead;
    return smt_conn_install(link->conn, link->ep->now, aead, secret, peer);
}

/* Moves what hs wants to say into the conn. */
static int output_pump(struct smt_link *link)
{
    uint8_t buf[4096];
    for (size_t n; (n = smt_hs_output(link->hs, buf, sizeof(buf))) > 0;) {
        int r = smt_conn_hs_send(link->conn, buf, n);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Keys of the first flight. */
static int early_install(struct smt_link *link)
{
    uint8_t secret[SMT_SECRET_LEN];
    enum smt_aead_alg alg;
    int r = smt_hs_early_secret(link->hs, &alg, secret);
    if (r == 0)
        r = smt_conn_early(link->conn, link->ep->ctx->aeads[alg], secret);
    smt_wipe(secret, sizeof(secret));
    return r;
}

/* TLS bytes after these: a ticket; or, of an initiator whose early data were taken, its Finished
 * again, which the first answer does not acknowledge. */
static bool has_tail(const struct smt_link *link)
{
    return smt_hs_gives_ticket(link->hs) || smt_hs_awaits_ticket(link->hs) ||
           smt_hs_early_taken(link->hs);
}

/* The peer is who it should be: keys in. Of a responder that takes early data this is so before
 * its first flight leaves. */
static int handshake_done(struct smt_link *link)
{
    struct smt_hs_result result;
    int r = smt_hs_result(link->hs, &result);
    if (r == 0) {
        link->resumed = result.resumed;
        if (has_tail(link))
            smt_conn_hs_keep(link->conn, link->ep->now);
        if (smt_conn_is_initiator(link->conn) && !smt_hs_early_taken(link->hs)) {
            smt_conn_early_refused(link->conn);
            link->may_have_run = false;
        }
        link->peer = smt_peer_get(link->ep, link->hs, &result);
        r = link->peer == NULL ? SMT_ENOMEM
                               : smt_link_install(link, result.alg, result.secret, &result.peer);
    }
    smt_wipe(&result, sizeof(result));
    return r;
}

int smt_handshake_start(struct smt_link *link, const char *verify_name)
{
    struct smt_ep *ep = link->ep;
    if (!smt_ctx_is_native(ep->ctx)) {
        link->aead = ep->ctx->aeads[ep->ctx->algs[0]];
        return 0;
    }
    if (ep->ctx->plaintext)
        return smt_plain_start(link);
    struct smt_hs_config config = {
        .creds = smt_ctx_creds_ref(ep->ctx),
        .initiator = smt_conn_is_initiator(link->conn),
        .verify_name = verify_name,
        .initiator_id = smt_conn_peer_id(link->conn),
        .peer = smt_conn_addr(link->conn),
        .peer_len = sizeof(*smt_conn_addr(link->conn)),
    };
    uint8_t token[SMT_COOKIE_LEN];
    if (!config.initiator && smt_token_make(ep->cookie, ep->now / SMT_SEC,
                                            smt_conn_addr(link->conn), token) == 0)
        config.token = token;
    smt_conn_params(link->conn, &config.params);
    config.params.n_ciphers = ep->ctx->n_algs;
    for (unsigned i = 0; i < ep->ctx->n_algs; i++)
        config.params.ciphers[i] = (uint8_t)ep->ctx->algs[i];
    /* A key says nothing about who has it: without this we could be made to talk to ourselves and
     * take it for the peer. The id is under the binder, so our hello comes back with it or not at
     * all. */
    bool reflected = ep->ctx->kept.psk_file != NULL && smt_conn_is_reflected(link->conn);
    int r = reflected ? SMT_EPSK : smt_hs_new(&config, &link->hs);
    smt_creds_free(config.creds);
    if (r < 0 || !config.initiator)
        return r;
    if (smt_hs_token(link->hs) != NULL)
        smt_conn_hs_token(link->conn, smt_hs_token(link->hs));
    r = smt_hs_input(link->hs, NULL, 0);
    if (r >= 0 && smt_hs_has_early(link->hs)) {
        link->may_have_run = true;
        r = early_install(link);
    }
    return r < 0 ? r : output_pump(link);
}

/* A plaintext peer gets what a TLS server would say to a client it has nothing in common with. */
static bool plaintext_peer_refused(struct smt_link *link, const uint8_t *p)
{
    static const uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, 40}; /* fatal handshake_failure */
    if (link->hello_seen || *p != smt_plain_magic[0]) {
        link->hello_seen = true;
        return false;
    }
    int r =
        smt_conn_is_initiator(link->conn) ? 0 : smt_conn_hs_send(link->conn, alert, sizeof(alert));
    smt_link_fail(link, r < 0 ? r : SMT_EAUTH,
                  "the peer is a plaintext endpoint and this one demands security: give both the "
                  "same kind of credentials");
    return true;
}

/* Something authentic has come, whether its event was taken or not. */
static bool is_up(const struct smt_link *link)
{
    struct smt_conn_stats stats;
    smt_conn_stats(link->conn, &stats);
    return stats.up;
}

/* The session is up whatever comes now. */
static void bytes_after(struct smt_link *link, const uint8_t *p, size_t len)
{
    if (smt_hs_input(link->hs, p, len) == SMT_HS_DONE && smt_hs_awaits_ticket(link->hs))
        return;
    smt_handshake_end(link);
}

bool smt_handshake_is_over(const struct smt_link *link)
{
    return !smt_hs_awaits_ticket(link->hs) && !smt_hs_is_running(link->hs);
}

void smt_handshake_end(struct smt_link *link)
{
    smt_hs_free(link->hs);
    link->hs = NULL;
    if (smt_conn_is_initiator(link->conn))
        smt_conn_hs_end(link->conn, link->ep->now);
}

/* A responder has taken early data: it may answer at once. */
static int early_take(struct smt_link *link)
{
    link->early = true;
    int r = early_install(link);
    return r < 0 ? r : handshake_done(link);
}

static void bytes_to_hs(struct smt_link *link, const uint8_t *p, size_t len)
{
    bool was_done = link->peer != NULL;
    int r = smt_hs_input(link->hs, p, len);
    int sent = output_pump(link);
    bool takes = r == SMT_HS_RUNNING && !link->early && !smt_conn_is_initiator(link->conn) &&
                 smt_hs_has_early(link->hs);
    if (r < 0) {
        link->blame = smt_hs_blame(link->hs);
        smt_link_fail(link, r, smt_hs_error_text(link->hs));
    } else if (sent < 0) {
        smt_link_fail(link, sent, "");
    } else if (takes || (r == SMT_HS_DONE && !was_done)) {
        r = takes ? early_take(link) : handshake_done(link);
        if (r < 0)
            smt_link_fail(link, r,
                          r == SMT_EPROTO ? "the session id of the peer's parameters is not "
                                            "that of its packets"
                                          : "");
    }
}

/* A responder that has taken early data and answered: its Finished, or what anybody could have sent
 * in its place, which costs the next ticket. */
static void bytes_behind_early(struct smt_link *link, const uint8_t *p, size_t len)
{
    int r = smt_hs_input(link->hs, p, len);
    if (r == SMT_HS_RUNNING)
        return;
    if (r == SMT_HS_DONE && output_pump(link) == 0) {
        smt_conn_hs_keep(link->conn, link->ep->now);
        smt_conn_confirm(link->conn, link->ep->now);
    } else {
        smt_conn_early_end(link->conn, link->ep->now);
    }
    smt_handshake_end(link);
}

void smt_handshake_run(struct smt_link *link)
{
    if (link->ep->ctx->plaintext) {
        smt_plain_run(link);
        return;
    }
    const uint8_t *p;
    for (size_t len; (len = smt_conn_hs_peek(link->conn, &p)) > 0;) {
        if (link->hs != NULL && link->early)
            bytes_behind_early(link, p, len);
        else if (link->hs != NULL && is_up(link))
            bytes_after(link, p, len);
        else if (link->hs != NULL && !link->closing && !plaintext_peer_refused(link, p))
            bytes_to_hs(link, p, len);
        if (link->closing)
            return;
        smt_conn_hs_consume(link->conn, len);
    }
    if (link->up && link->hs != NULL && smt_conn_hs_is_over(link->conn))
        smt_handshake_end(link);
}
