/* smt_poll: one look at the clock, packets out, packets in, timers, packets out, events.
 *
 * What was posted since the last poll leaves first, so that a call waits for nobody; then one batch
 * is received and the answers it causes leave in the same poll. Timers run when nothing has come,
 * or after many polls that brought something. Engine events become public ones one by one, in the
 * engine's order; those that concern handshakes are dealt with here and never shown. Events that
 * synchronous calls kept back (ep->held) are older than anything else and go first; then the news
 * of the device's port, what sessions owe (failed calls, UP and DOWN notices), the engine's, and
 * last the loss of the device. */
#include "api/api.h"

#include <string.h>

#include "base/packet.h"
#include "wire/wire.h"

/* A device's packet is handed to the engine as it is. */

/* So many full device batches leave in one poll before received packets get their turn. */
enum { MAX_TX_ROUNDS = 8 };

/* Packets taken in one poll. A whole super-frame of 64 would let the peer idle until all of its
 * calls are answered, then us: with half of that both sides work at once (64 B, 64 in flight:
 * 0.6-0.7 to 1.2-1.3 M RPC/s). */
enum { RX_A_POLL = 32 };

/* So many polls in a row that received something keep the timers waiting. What has come may be what
 * they would ask for: after 5 ms without a processor, 32 of 1,000 packets were taken, and then all
 * calls that were late asked for answers that stood in the socket. */
enum { POLLS_A_TICK = 32 };

void smt_ep_transmit(struct smt_ep *ep)
{
    if (SMT_UNLIKELY(ep->is_lost))
        return;
    for (unsigned i = 0; i < MAX_TX_ROUNDS; i++) {
        if (!smt_engine_tx_pending(ep->engine) && !ep->tx_blocked)
            return;
        unsigned n = smt_engine_tx(ep->engine, ep->now, &ep->sink);
        int r = ep->dev->ops->tx_flush(ep->dev);
        ep->tx_blocked = r == SMT_EAGAIN;
        if (n == 0 || ep->tx_blocked)
            return;
    }
}

/* Time passes for what the user still holds; there is nothing else. */
static int lost_progress(struct smt_ep *ep)
{
    smt_engine_tick(ep->engine, ep->now);
    return smt_ep_has_event(ep) ? 0 : smt_ep_lost_fail(ep);
}

/* What the network says of peers that have no other way to say it. */
static void refusals_take(struct smt_ep *ep)
{
    struct smt_addr to;
    int error;
    while (ep->dev->ops->refused(ep->dev, &to, &error) > 0) {
        for (struct smt_list *it = ep->links.next; it != &ep->links; it = it->next) {
            struct smt_link *link = SMT_CONTAINER_OF(it, struct smt_link, node);
            const struct smt_addr *peer = smt_conn_addr(link->conn);
            bool same_host = memcmp(peer->ip, to.ip, sizeof(to.ip)) == 0;
            if (same_host && link->text == NULL)
                link->text = smt_text_copy(smt_ctx_down_text(ep->ctx, error));
        }
        smt_engine_refused(ep->engine, ep->now, &to, error);
    }
}

/* The rest of a record of which the last packet is a slice: what has to wait for it is copied. */
static unsigned record_complete(struct smt_ep *ep, unsigned n)
{
    static_assert(RX_A_POLL + SMT_MAX_SLICES <= SMT_DEV_RX_BATCH, "room for all of one");
    unsigned more = smt_engine_rx_wants(ep->engine, &ep->pkts[n - 1]);
    return more > 0 ? ep->dev->ops->rx_more(ep->dev, &ep->pkts[n], more) : 0;
}

int smt_ep_progress(struct smt_ep *ep)
{
    uint64_t now = smt_clock_now(&ep->clock);
    ep->now = now;
    if (SMT_UNLIKELY(ep->is_lost))
        return lost_progress(ep);
    smt_ep_transmit(ep);
    int n = ep->dev->ops->rx(ep->dev, ep->pkts, RX_A_POLL);
    if (n == RX_A_POLL)
        n += (int)record_complete(ep, (unsigned)n);
    /* What woke us has not waited while we slept. */
    if (n == 0 || SMT_UNLIKELY(ep->has_slept)) {
        smt_engine_idle(ep->engine, now);
        ep->has_slept = false;
    }
    if (n > 0)
        smt_engine_rx(ep->engine, now, (const struct smt_pkt *)ep->pkts, (unsigned)n);
    else if (SMT_UNLIKELY(n < 0))
        smt_ep_lose(ep);
    if (SMT_UNLIKELY(ep->dev->news != 0))
        smt_ep_news_take(ep);
    if (SMT_UNLIKELY(ep->hears_refusals))
        refusals_take(ep);
    ep->n_polls_taking = n > 0 ? ep->n_polls_taking + 1 : 0;
    if (ep->n_polls_taking % POLLS_A_TICK == 0)
        smt_engine_tick(ep->engine, now);
    if (SMT_UNLIKELY(now >= ep->dial_deadline))
        smt_session_dial_tick(ep, now);
    if (SMT_UNLIKELY(now >= ep->retire_look))
        smt_retired_tick(ep, now);
    smt_ep_transmit(ep);
    return 0;
}

static struct smt_link *link_of(const struct smt_engine_event *ee)
{
    return ee->conn == NULL ? NULL : smt_conn_user(ee->conn);
}

/* A stranger has shown that it receives at its address: give it a handshake. */
static void stranger_accept(struct smt_ep *ep, struct smt_conn *conn)
{
    struct smt_link *link = smt_link_new(ep, conn, NULL);
    if (link == NULL) {
        smt_conn_close(conn, ep->now, SMT_ENOMEM, false);
        return;
    }
    int r = smt_handshake_start(link, NULL);
    if (r < 0)
        smt_link_fail(link, r, r == SMT_EPSK ? "our own hello came back to us" : "");
    else if (smt_engine_has_handshake(ep->engine))
        smt_handshake_run(link);
}

/* EMAYBE where more is known: whoever closed the session himself is told that; and a peer that
 * refused our handshake has executed nothing, even if requests had left before its refusal came,
 * unless it may have taken early data. */
static int final_error(const struct smt_link *link, int error)
{
    if (SMT_LIKELY(error != SMT_EMAYBE) || link == NULL)
        return error;
    if (link->session != NULL && link->session->closing)
        return SMT_ECLOSED;
    return !link->up && link->error != 0 && !link->may_have_run ? link->error : error;
}

/* RESPONSE, SENT, FAILED: fills in session, call_id, user and error. False: a call that will be
 * posted again. */
static bool final_convert(struct smt_ep *ep, const struct smt_engine_event *ee,
                          struct smt_event *out)
{
    const struct smt_link *link = link_of(ee);
    out->error = final_error(link, ee->error);
    if (SMT_UNLIKELY(ee->mark)) {
        struct smt_kept *k = ee->user;
        out->session = k->session;
        return smt_kept_final(ep, k, out->error, &out->call_id, &out->user);
    }
    out->session = link == NULL ? NULL : link->session;
    out->call_id = ee->id == 0 || link == NULL ? ee->id : ee->id + link->id_base;
    out->user = ee->user;
    return true;
}

static enum smt_event_type public_type(enum smt_engine_event_type type)
{
    static const enum smt_event_type table[] = {
        [SMT_EE_REQUEST] = SMT_EV_REQUEST,   [SMT_EE_RESPONSE] = SMT_EV_RESPONSE,
        [SMT_EE_MESSAGE] = SMT_EV_MESSAGE,   [SMT_EE_SENT] = SMT_EV_SENT,
        [SMT_EE_FAILED] = SMT_EV_FAILED,     [SMT_EE_INCOMING] = SMT_EV_INCOMING,
        [SMT_EE_WRITABLE] = SMT_EV_WRITABLE,
    };
    return table[type];
}

/* What a session has to do with; false when the event is not for the user. */
static bool conn_convert(struct smt_ep *ep, const struct smt_engine_event *ee,
                         struct smt_event *out)
{
    struct smt_link *link = link_of(ee);
    if (ee->type == SMT_EE_HS_ACCEPT) {
        stranger_accept(ep, ee->conn);
        return false;
    }
    /* Where there is no handshake, a stranger's conn is up at once. */
    if (link == NULL && ee->type == SMT_EE_UP) {
        stranger_accept(ep, ee->conn);
        link = link_of(ee);
    }
    if (link == NULL)
        return false;
    switch (ee->type) {
    case SMT_EE_HS_DATA:
        smt_handshake_run(link);
        return false;
    case SMT_EE_NO_SESSION:
        smt_session_no_session(link);
        return false;
    case SMT_EE_UP:
        return smt_session_link_up(link, out);
    case SMT_EE_DOWN:
        return smt_session_link_down(link, ee->error, out);
    case SMT_EE_WRITABLE: {
        struct smt_session *s = link->session;
        /* The room on a link that retires may be what is waited for: there is some on its heir. */
        if (s == NULL || (s->link != link && smt_list_is_empty(&link->retired)))
            return false;
        if (s->target != NULL)
            smt_kept_repost(s);
        *out = (struct smt_event){.type = SMT_EV_WRITABLE, .session = s};
        return true;
    }
    default:
        return false;
    }
}

static bool event_convert(struct smt_ep *ep, const struct smt_engine_event *ee,
                          struct smt_event *out)
{
    switch (ee->type) {
    case SMT_EE_REQUEST:
    case SMT_EE_MESSAGE:
    case SMT_EE_INCOMING: {
        const struct smt_link *link = link_of(ee);
        *out = (struct smt_event){
            .type = public_type(ee->type),
            .of = ee->type == SMT_EE_INCOMING ? public_type(ee->of) : SMT_EV_NONE,
            .session = link == NULL ? NULL : link->session,
            .msg = (struct smt_msg *)ee->rpc,
            .data = ee->data,
            .len = ee->len,
        };
        return true;
    }
    case SMT_EE_RESPONSE:
    case SMT_EE_SENT:
    case SMT_EE_FAILED:
        *out = (struct smt_event){
            .type = public_type(ee->type),
            .msg = (struct smt_msg *)ee->rpc,
            .data = ee->data,
            .len = ee->len,
        };
        return final_convert(ep, ee, out);
    default:
        return conn_convert(ep, ee, out);
    }
}

/* Failed calls that the api kept, then what sessions have to tell. */
static bool owed_event(struct smt_ep *ep, struct smt_event *out)
{
    struct smt_list *it = smt_list_first(&ep->failing);
    if (it != NULL) {
        struct smt_kept *k = SMT_CONTAINER_OF(it, struct smt_kept, node);
        *out = (struct smt_event){
            .type = SMT_EV_FAILED,
            .error = k->error,
            .session = k->session,
            .call_id = k->public_id,
            .user = k->user,
        };
        smt_kept_free(ep, k);
        return true;
    }
    it = smt_list_first(&ep->notices);
    if (it == NULL)
        return false;
    struct smt_session *s = SMT_CONTAINER_OF(it, struct smt_session, notice);
    bool is_up = (s->notices & SMT_NOTICE_UP) != 0;
    s->notices &= (uint8_t) ~(is_up ? SMT_NOTICE_UP : SMT_NOTICE_DOWN);
    if (s->notices == 0)
        smt_list_remove(&s->notice);
    *out = (struct smt_event){
        .type = is_up ? SMT_EV_SESSION_UP : SMT_EV_SESSION_DOWN,
        .error = is_up ? 0 : s->error,
        .session = s,
    };
    return true;
}

static inline bool is_owing(const struct smt_ep *ep)
{
    return !smt_list_is_empty(&ep->failing) || !smt_list_is_empty(&ep->notices);
}

/* The port first: it may be why the rest happened. */
static bool news_event(struct smt_ep *ep, struct smt_event *out)
{
    return ep->news != 0 && smt_ep_port_event(ep, out);
}

bool smt_ep_next_event(struct smt_ep *ep, struct smt_event *out)
{
    struct smt_engine_event ee;
    for (;;) {
        if (SMT_UNLIKELY(news_event(ep, out)))
            return true;
        if (SMT_UNLIKELY(is_owing(ep)))
            return owed_event(ep, out);
        if (!smt_engine_next_event(ep->engine, &ee))
            return ep->news != 0 && smt_ep_lost_event(ep, out);
        if (event_convert(ep, &ee, out))
            return true;
    }
}

bool smt_ep_has_event(const struct smt_ep *ep)
{
    return smt_ring_count(&ep->held) > 0 || ep->news != 0 || is_owing(ep) ||
           smt_engine_has_event(ep->engine);
}

/* Sessions whose DOWN the user has seen since: their handles die now. */
static void reap_all(struct smt_ep *ep)
{
    for (struct smt_list *it; (it = smt_list_first(&ep->reap)) != NULL;)
        smt_session_reap(SMT_CONTAINER_OF(it, struct smt_session, node));
}

int smt_poll(struct smt_ep *ep, struct smt_event *events, unsigned n)
{
    int r = smt_ep_check(ep);
    if (SMT_UNLIKELY(r < 0))
        return r;
    if (SMT_UNLIKELY(events == NULL && n > 0))
        return smt_fail_static(ep->ctx, SMT_EINVAL, "events is NULL");
    if (SMT_UNLIKELY(!smt_list_is_empty(&ep->reap)))
        reap_all(ep);
    r = smt_ep_progress(ep);
    if (SMT_UNLIKELY(r < 0))
        return r;
    unsigned got = 0;
    while (got < n) {
        struct smt_event *out = &events[got];
        if (!smt_ring_pop(&ep->held, out) && !smt_ep_next_event(ep, out))
            break;
        if (SMT_UNLIKELY(out->type == SMT_EV_SESSION_DOWN)) {
            smt_list_remove(&out->session->node);
            smt_list_push_tail(&ep->reap, &out->session->node);
        }
        got++;
    }
    return (int)got;
}
