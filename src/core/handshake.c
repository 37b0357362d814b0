/* Packets that no data key protects, and CTRL packets. Nothing here changes a live conn before
 * something authentic came: a HANDSHAKE packet moves TLS bytes only, RETRY only restarts a hello
 * that nobody has answered, NO_SESSION is a hint for the api (docs/wire.md 6.3).
 *
 * A stranger's first packet leaves no trace: only when it repeats our cookie from its own address,
 * or shows a token that we once sent there, a conn is made. */
#include "core/handshake.h"

#include "core/frames.h"
#include "core/state.h"

/* Another responder's word against the one that spoke first: one of them is false, and if it was
 * the first, nothing comes of this handshake. It is given up soon, so that it can be repeated. */
static const uint64_t contest_wait = 100 * SMT_MSEC;

static struct smt_map_key peer_key(uint64_t peer_id, const struct smt_addr *from)
{
    return (struct smt_map_key){peer_id, smt_engine_addr_hash(from)};
}

/* The conn a HANDSHAKE packet belongs to: by our id, or by his when he does not know ours yet. */
static struct smt_conn *conn_of(struct smt_engine *e, const struct smt_pkt *pkt,
                                const struct smt_hdr *hdr)
{
    struct smt_conn *c = hdr->session_id != 0
                             ? smt_conn_find(e, hdr->session_id)
                             : smt_map_get(&e->peer_map, peer_key(hdr->source_id, pkt->from));
    if (c == NULL || !smt_addr_equal(&c->addr, pkt->from))
        return NULL;
    return c;
}

/* A responder's conn for a stranger with a good cookie. */
static struct smt_conn *stranger_accept(struct smt_engine *e, uint64_t now,
                                        const struct smt_pkt *pkt, const struct smt_hdr *hdr)
{
    struct smt_conn *c;
    if (!smt_half_open_admit(e, now, pkt->from))
        return NULL;
    if (smt_pool_n_live(&e->conns) >= e->config.max_conns ||
        smt_conn_new(e, now, pkt->from, false, &c) < 0) {
        e->stats.drop_no_memory++;
        return NULL;
    }
    c->peer_id = hdr->source_id;
    c->peer_port = hdr->sport;
    if (smt_map_put(&e->peer_map, peer_key(c->peer_id, &c->addr), c) < 0) {
        e->stats.drop_no_memory++;
        smt_conn_free(c);
        return NULL;
    }
    c->in_hs_map = true;
    e->stats.conns_accepted++;
    smt_evlink_raise(&e->events, &c->ev, SMT_EE_HS_ACCEPT);
    return c;
}

static struct smt_conn *stranger(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                                 const struct smt_hdr *hdr)
{
    bool first = hdr->session_id == 0 && (hdr->epoch & 1) != 0 && hdr->offset == 0;
    if (!first || !e->config.accept || pkt->len < SMT_HS_MIN_FIRST_LEN || hdr->source_id == 0) {
        e->stats.drop_handshake++;
        return NULL;
    }
    const uint8_t *theirs = pkt->data + SMT_HS_HDR_LEN;
    void *arg = e->config.cookie_arg;
    bool good = hdr->cookie_len > 0 &&
                e->config.cookie_check(arg, now, pkt->from, hdr->source_id, theirs);
    bool token = !good && hdr->cookie_len > 0 && e->config.token_check != NULL &&
                 e->config.token_check(arg, now, pkt->from, theirs);
    if (!good && !token) {
        /* None yet, or one that no longer holds: of another address, too old, of an earlier run. */
        if (hdr->cookie_len > 0)
            e->stats.drop_cookie++;
        uint8_t cookie[SMT_COOKIE_LEN];
        e->config.cookie_make(arg, now, pkt->from, hdr->source_id, cookie);
        smt_stateless_add(e, now, pkt->from, hdr->sport, SMT_KIND_RETRY, hdr->source_id, cookie);
        return NULL;
    }
    struct smt_conn *c = stranger_accept(e, now, pkt, hdr);
    if (c != NULL && token) {
        e->stats.tokens_taken++;
        smt_hs_stream_limit(c->hs);
    }
    return c;
}

/* An initiator learns the responder's id from his first HANDSHAKE packet. */
static bool peer_id_learn(struct smt_conn *c, uint64_t now, const struct smt_hdr *hdr)
{
    if (c->peer_id == hdr->source_id)
        return true;
    if (hdr->source_id == 0)
        return false;
    if (c->peer_id != 0) {
        if (c->initiator && c->state == SMT_CONN_AWAIT_KEYS && c->contest_at > now + contest_wait) {
            c->contest_at = now + contest_wait;
            smt_conn_arm(c, now);
        }
        return false;
    }
    if (smt_map_put(&c->e->peer_map, peer_key(hdr->source_id, &c->addr), c) < 0)
        return false;
    c->peer_id = hdr->source_id;
    c->in_hs_map = true;
    /* And if it was nobody, the true responder drops what we send to that id. */
    if (c->state == SMT_CONN_AWAIT_KEYS)
        c->contest_at = now + c->e->config.handshake_timeout / 2;
    return true;
}

/* A ticket on its way after the handshake, or the word that it has come; a Finished after early
 * data. */
static bool is_tail(const struct smt_conn *c, const struct smt_hdr *hdr)
{
    return c->hs->tail_until != 0 &&
           (c->initiator || hdr->tls_len == 0 || smt_early_is_on(c));
}

void smt_handshake_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                           const struct smt_hdr *hdr)
{
    struct smt_conn *c = conn_of(e, pkt, hdr);
    if (c == NULL && hdr->session_id == 0)
        c = stranger(e, now, pkt, hdr);
    else if (c == NULL)
        e->stats.drop_handshake++;
    if (c == NULL)
        return;
    bool from_initiator = (hdr->epoch & 1) != 0;
    if (from_initiator == c->initiator || !peer_id_learn(c, now, hdr)) {
        e->stats.drop_handshake++;
        return;
    }
    e->stats.packets_rcvd_handshake++;
    if (c->hs == NULL || (c->state == SMT_CONN_UP && !is_tail(c, hdr))) {
        /* It repeats a flight we have: our confirmation was lost. */
        if (smt_keys_ready(&c->keys) && !smt_ctl_is_waiting(&c->ctl))
            smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_PING});
        if (c->hs == NULL)
            return;
    }
    smt_hs_stream_heard(c->hs, pkt->len, hdr->session_id == c->id);
    const uint8_t *tls = pkt->data + SMT_HS_HDR_LEN + hdr->cookie_len;
    if (smt_hs_stream_got(c->hs, hdr->offset, tls, hdr->tls_len, hdr->message_len))
        smt_evlink_raise(&e->events, &c->ev, SMT_EE_HS_DATA);
    if (c->state == SMT_CONN_UP && !c->initiator && smt_hs_stream_is_done(c->hs) &&
        !smt_early_is_on(c)) {
        smt_hs_stream_free(c->hs);
        c->hs = NULL;
    }
    if (c->hs != NULL && smt_hs_stream_is_due(c->hs, now))
        smt_engine_hs_ready(c);
    smt_conn_arm(c, now);
}

void smt_retry_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                       const struct smt_hdr *hdr)
{
    struct smt_conn *c = smt_conn_find(e, hdr->session_id);
    if (c == NULL || !c->initiator || c->hs == NULL || !c->hs->hello_pending ||
        !smt_addr_equal(&c->addr, pkt->from) || pkt->len < SMT_PLAIN_HDR_LEN + SMT_COOKIE_LEN) {
        e->stats.drop_cookie++;
        return;
    }
    smt_hs_stream_retry(c->hs, now, pkt->data + SMT_PLAIN_HDR_LEN);
    smt_engine_hs_ready(c);
}

void smt_no_session_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                            const struct smt_hdr *hdr)
{
    struct smt_conn *c = smt_map_get(&e->peer_map, peer_key(hdr->session_id, pkt->from));
    e->stats.no_session_rcvd++;
    if (c == NULL || !smt_keys_ready(&c->keys) || !smt_addr_equal(&c->addr, pkt->from))
        return;
    smt_conn_doubt(c, now);
}

void smt_version_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                         const struct smt_hdr *hdr)
{
    struct smt_conn *c = smt_conn_find(e, hdr->session_id);
    (void)now;
    e->stats.drop_version++;
    if (c == NULL || c->hs == NULL || !c->hs->hello_pending || !smt_addr_equal(&c->addr, pkt->from))
        return;
    /* A hint, unprotected: the handshake goes on until its time is up, and then has this reason. */
    c->error = SMT_EVERSION;
}

void smt_ctrl_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                      const struct smt_hdr *hdr)
{
    struct smt_conn *c = smt_conn_find(e, hdr->session_id);
    if (c == NULL) {
        e->stats.drop_no_session++;
        smt_stateless_add(e, now, pkt->from, hdr->sport, SMT_KIND_NO_SESSION, hdr->session_id,
                          NULL);
        return;
    }
    if (!smt_keys_ready(&c->keys)) {
        if (!smt_early_hold(c, pkt))
            e->stats.drop_no_keys++;
        return;
    }
    enum smt_epoch_ref ref = smt_keys_find_epoch(&c->keys, hdr->epoch);
    uint8_t *record = pkt->data + SMT_CTRL_HDR_LEN;
    size_t record_len = pkt->len - SMT_CTRL_HDR_LEN;
    uint64_t record_no;
    size_t plain_len;
    if (ref == SMT_EPOCH_NONE) {
        e->stats.drop_epoch++;
        return;
    }
    if (record_len < SMT_RECORD_OVERHEAD) {
        e->stats.drop_malformed++;
        return;
    }
    size_t announced = 5u + smt_get_be16(record + 3);
    if (announced > record_len ||
        smt_record_head_decode(record, announced, &record_no, &plain_len) < 0) {
        e->stats.drop_malformed++;
        return;
    }
    uint32_t epoch = c->keys.now.number;
    int rc = smt_keys_open_ctrl(&c->keys, now, ref, record_no, record, plain_len);
    if (rc < 0) {
        if (rc == SMT_EAGAIN)
            e->stats.drop_replay++;
        else
            e->stats.drop_auth++;
        return;
    }
    if (epoch != c->keys.now.number) {
        e->stats.rekeys++;
        smt_conn_arm(c, now);
    }
    e->stats.packets_rcvd_ctrl++;
    e->stats.pad_bytes_rcvd += record_len - announced;
    smt_conn_heard(c, now);
    smt_conn_heard_from(c, now, pkt->from, pkt->len);
    smt_frames_hear(c, now, record + SMT_RECORD_HEAD_LEN, plain_len, pkt->len);
}
