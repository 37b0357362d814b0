/* The life of an RPC. Every way it may go is a call here, named for what happened; states change in
 * set_state only, along the arrows of the table. Packets are record_rx.c's and frames.c's,
 * the order of sending is srpt.c's.
 *
 * An rpc ends in three steps that come in any order: the wire (retire: map, timer, queues), the
 * queue of events, and the user (handle, bytes). Whoever is last frees it. An id is never used
 * again (docs/wire.md 8). */
#include "core/rpc_life.h"

#include "base/mem.h"
#include "core/profile.h"
#include "core/slices.h"
#include "core/state.h"

enum {
    MAX_ROUNDS = 8,
    MAX_NEED_ACKS = 40,
    MAX_RESENDS_A_ROUND = 24,
    BEHIND_ROUNDS = 3,
    LOST_ROUNDS = 5,
    QUEUE_PATIENCES = 16,
    MANY_RPCS = 4096,
};

#define ARROW(to) (1u << SMT_RPC_##to)

static const uint16_t arrows[SMT_RPC_N_STATES] = {
    [SMT_RPC_FREE] = ARROW(AWAIT_RESPONSE) | ARROW(AWAIT_ACK) | ARROW(AWAIT_REQUEST) |
                     ARROW(AWAIT_ACCEPT) | ARROW(AWAIT_REPLY) | ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_RESPONSE] = ARROW(AWAIT_REST) | ARROW(AWAIT_ACCEPT) | ARROW(AWAIT_GONE) |
                               ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_REST] = ARROW(AWAIT_GONE) | ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_ACK] = ARROW(AWAIT_GONE) | ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_REQUEST] = ARROW(AWAIT_REPLY) | ARROW(AWAIT_DONE) | ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_ACCEPT] = ARROW(AWAIT_REST) | ARROW(AWAIT_REQUEST) | ARROW(AWAIT_DONE) |
                             ARROW(AWAIT_GONE) | ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_REPLY] = ARROW(AWAIT_ACK) | ARROW(AWAIT_DONE) | ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_GONE] = ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_DONE] = ARROW(AWAIT_USER),
    [SMT_RPC_AWAIT_USER] = ARROW(FREE),
};

bool smt_rpc_may_go(const struct smt_rpc *r, enum smt_rpc_state to)
{
    return arrows[r->state] >> to & 1;
}

struct smt_rpc *smt_rpc_make(struct smt_engine *e)
{
    struct smt_rpc *r = smt_pool_get(&e->rpcs);
    if (r == NULL)
        return NULL;
    smt_chains_expect(&e->rpc_index, smt_pool_n_live(&e->rpcs));
    smt_zero(r, sizeof(*r));
    smt_evlink_init(&r->ev, SMT_EV_OF_RPC);
    r->timer.owner = SMT_EV_OF_RPC;
    smt_list_init(&r->wait_link);
    smt_list_init(&r->ask_link);
    smt_msg_tx_make(&r->tx, &e->ranges);
    smt_msg_rx_make(&r->rx, &e->ranges);
    return r;
}

bool smt_rpc_is_as_made(const struct smt_rpc *r)
{
    const struct smt_msg_tx *t = &r->tx;
    const struct smt_msg_rx *m = &r->rx;
    return r->ev.pending == 0 && r->index.at == NULL && !smt_timer_is_armed(&r->timer.t) &&
           smt_list_is_empty(&r->wait_link) && smt_list_is_empty(&r->ask_link) &&
           !t->active && t->block == NULL && t->sealed == NULL && t->lost.n == 0 &&
           t->cut == 0 && t->sealed_len == 0 && t->n_sealed == 0 &&
           t->lost.root == NULL && smt_list_is_empty(&t->ready) && !smt_heap_has(&t->srpt) &&
           m->data == NULL && m->store == NULL && m->incoming == 0 && m->blind == 0 &&
           m->opened == 0 && m->got_at == 0 && !m->counted && smt_list_is_empty(&m->held) &&
           m->got.n == 0 && m->got.root == NULL && !m->entry.listed &&
           !smt_heap_has(&m->entry.node) && !smt_heap_has(&m->waits);
}

void smt_rpc_rx_leave(struct smt_rpc *r)
{
    struct smt_engine *e = r->conn->e;
    if (r->rx.incoming > 0 || r->rx.entry.listed)
        smt_grants_remove(e, r);
    if (r->rx.counted)
        smt_incast_forget(e, &r->rx);
    if (SMT_UNLIKELY(smt_heap_has(&r->rx.waits)))
        smt_memory_forget(r);
}

void smt_rpc_rx_free(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_rx *m = &r->rx;
    assert(!m->entry.listed && m->incoming == 0 && !m->counted);
    if (r->is_involved) {
        if (!smt_list_is_empty(&m->held))
            c->e->config.profile->rx_end(r);
        smt_ranges_fini(&m->got);
    }
    m->data = NULL;
    if (m->store != NULL)
        smt_rpc_rx_free_usual(r, c);
}

void smt_rpc_reset(struct smt_rpc *r)
{
    smt_rpc_rx_free(r);
    smt_msg_tx_reset(&r->tx);
    smt_msg_rx_reset(&r->rx);
}

void smt_rpc_rx_give_back(struct smt_rpc *r)
{
    smt_rpc_rx_leave(r);
    smt_rpc_rx_free(r);
}

/* The same where it may have left before. */
static void unlink_wire(struct smt_rpc *r)
{
    if (smt_rpc_is_on_wire(r))
        smt_rpc_unlink(r);
}

void smt_rpc_retire(struct smt_rpc *r)
{
    unlink_wire(r);
    if (r->state != SMT_RPC_AWAIT_USER)
        smt_rpc_set_state(r, SMT_RPC_AWAIT_USER);
    smt_rpc_try_free(r);
}

static __attribute__((noinline)) void release_any(struct smt_rpc *r)
{
    if (smt_rpc_is_over(r))
        smt_rpc_free_now(r);
    else
        smt_rpc_rx_free(r);
}

/* Are they bytes of a single packet, for which there is a place, and which nobody waits for? */
SMT_INLINE bool is_usual(const struct smt_rpc *r, const struct smt_conn *c,
                         const struct smt_engine *e)
{
    const struct smt_msg_rx *m = &r->rx;
    return !r->is_involved && m->store != NULL && smt_bufpool_has_place(&e->bufs, m->store_len) &&
           smt_conn_may_let_go(c, &e->memory, m->store_len) && c->state != SMT_CONN_CLOSED;
}

/* What is usual calls nothing. */
void smt_rpc_release(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    struct smt_engine *e = c->e;
    struct smt_msg_rx *m = &r->rx;
    if (!r->holds_bytes)
        return;
    r->holds_bytes = false;
    if (SMT_UNLIKELY(!is_usual(r, c, e))) {
        release_any(r);
        return;
    }
    smt_bufpool_keep(&e->bufs, m->store, m->store_len);
    smt_conn_let_go_within(c, &e->memory, m->store_len);
    m->data = m->store = NULL;
    if (smt_rpc_is_over(r))
        smt_rpc_drop(r, c, e);
}

void smt_rpc_fail(struct smt_rpc *r, int error)
{
    if (SMT_UNLIKELY(r->is_test)) {
        smt_nic_test_failed(r);
        return;
    }
    r->error = error;
    r->conn->e->stats.rpcs_failed++;
    /* An announcement that was not taken has nothing to announce any more. */
    smt_evlink_drop(&r->ev);
    r->holds_handle = false;
    smt_evlink_raise(&r->conn->e->events, &r->ev, SMT_EE_FAILED);
    unlink_wire(r);
    if (!r->holds_bytes)
        smt_rpc_rx_give_back(r);
    if (r->state != SMT_RPC_AWAIT_USER)
        smt_rpc_set_state(r, SMT_RPC_AWAIT_USER);
}

void smt_rpc_abort_send(struct smt_rpc *r, int error)
{
    smt_ctl_add(r->conn, &(struct smt_frame){.type = SMT_FRAME_ABORT,
                                             .id = smt_rpc_frame_id(r),
                                             .code = (uint16_t)-error});
}

void smt_rpc_refuse_again(struct smt_rpc *r)
{
    bool too_long = r->rx.len > r->conn->e->config.max_msg_len;
    smt_rpc_abort_send(r, too_long ? SMT_EMSGSIZE : SMT_EREFUSED);
}

void smt_rpc_abandon(struct smt_rpc *r, int error)
{
    assert(!smt_rpc_is_server(r));
    struct smt_conn *c = r->conn;
    bool untold = c->e->config.profile->no_farewell || !smt_keys_ready(&c->keys);
    bool left = r->tx.seal > 0 || r->tx.empty_due;
    /* Nothing of it ever left, and the mark or its bitmap will tell; or nothing can be said. Beyond
     * the bitmap the peer must be told, or its set of accepted ids has a gap for each until the
     * oldest call is over. */
    if (untold || (!left && smt_finished_is_near(&c->finished, r->id))) {
        smt_rpc_fail(r, error);
        return;
    }
    r->error = error;
    c->e->stats.rpcs_failed++;
    smt_evlink_drop(&r->ev);
    r->holds_handle = false;
    smt_evlink_raise(&r->conn->e->events, &r->ev, SMT_EE_FAILED);
    smt_list_remove(&r->wait_link);
    smt_rpc_tx_give_back(r);
    smt_rpc_rx_give_back(r);
    smt_rpc_set_state(r, SMT_RPC_AWAIT_GONE);
    r->deadline = SMT_NEVER;
    r->n_quiet = 0;
    r->heard = c->e->now;
    smt_rpc_abort_send(r, error);
    smt_rpc_arm(r, c->e->now);
}

/* A server's rpc whose client or conn is gone. */
static void server_orphan(struct smt_rpc *r)
{
    r->caller_gone = true;
    switch (r->state) {
    case SMT_RPC_AWAIT_ACK:
        smt_rpc_fail(r, SMT_ECLOSED);
        break;
    case SMT_RPC_AWAIT_REPLY:
        /* The user has it, or will get the event: he ends it with his reply. */
        unlink_wire(r);
        smt_rpc_set_state(r, SMT_RPC_AWAIT_USER);
        break;
    case SMT_RPC_AWAIT_ACCEPT:
        if (r->ev.pending != 0) {
            smt_evlink_drop(&r->ev);
            r->holds_handle = false;
        }
        smt_rpc_retire(r);
        break;
    case SMT_RPC_AWAIT_REQUEST:
        /* A buffer the user lent comes back with FAILED. */
        if (r->resp_buf != NULL)
            smt_rpc_fail(r, SMT_ECLOSED);
        else
            smt_rpc_retire(r);
        break;
    default:
        if (r->state != SMT_RPC_AWAIT_USER)
            smt_rpc_retire(r);
        break;
    }
}

void smt_rpc_orphan(struct smt_rpc *r, int error)
{
    if (r->state == SMT_RPC_AWAIT_USER) {
        r->caller_gone = true;
        return;
    }
    if (smt_rpc_is_server(r))
        server_orphan(r);
    else if (r->state == SMT_RPC_AWAIT_GONE)
        smt_rpc_retire(r);
    else
        smt_rpc_fail(r, r->tx.seal > 0 ? SMT_EMAYBE : error);
}

int smt_rpc_take_buffer(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    struct smt_engine *e = c->e;
    struct smt_msg_rx *m = &r->rx;
    static uint8_t nothing[1];
    if (r->resp_buf != NULL) {
        m->data = r->resp_buf;
        return 0;
    }
    if (m->len == 0) {
        m->data = nothing;
        return 0;
    }
    if (!smt_conn_may_hold(c, m->len))
        return SMT_ENOMEM;
    m->store = smt_bufpool_get(&e->bufs, m->len);
    if (m->store == NULL)
        return SMT_ENOMEM;
    m->store_len = m->len;
    m->data = m->store;
    smt_conn_hold(c, m->store_len);
    return 0;
}

void smt_rpc_got_all(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (!smt_rpc_is_server(r)) {
        r->conn->e->stats.responses_received++;
        smt_rpc_got_response(r);
        return;
    }
    if (SMT_UNLIKELY(r->is_involved))
        smt_rpc_rx_leave(r);
    if (!r->one_way) {
        smt_wheel_disarm(&c->e->wheel, &r->timer.t);
        r->conn->e->stats.requests_received++;
        smt_rpc_got_request(r, r->conn->e);
        return;
    }
    c->e->stats.messages_received++;
    smt_acks_add(c, smt_rpc_frame_id(r), r->rx.len);
    r->holds_bytes = true;
    smt_rpc_raise(r, SMT_EE_MESSAGE);
    smt_rpc_leave_wire(r);
}

void smt_rpc_aborted(struct smt_rpc *r, int error)
{
    if (smt_rpc_is_server(r)) {
        smt_ctl_add_unknown(r->conn, smt_rpc_frame_id(r), true);
        if (r->state != SMT_RPC_AWAIT_USER)
            server_orphan(r);
        return;
    }
    if (r->state == SMT_RPC_AWAIT_GONE)
        smt_rpc_retire(r);
    else
        smt_rpc_fail(r, error);
}

void smt_rpc_unknown(struct smt_rpc *r, bool over)
{
    if (smt_rpc_is_server(r))
        return;
    if (SMT_UNLIKELY(r->is_test) && over) {
        smt_nic_test_passed(r); /* it was opened once */
        return;
    }
    if (over) {
        if (r->state == SMT_RPC_AWAIT_GONE)
            smt_rpc_retire(r);
        else
            smt_rpc_fail(r, SMT_EMAYBE);
        return;
    }
    bool waiting = r->state == SMT_RPC_AWAIT_RESPONSE || r->state == SMT_RPC_AWAIT_ACK;
    /* While some of it is still on its way out, the peer simply has not seen it yet. */
    if (!waiting || smt_msg_tx_sendable(&r->tx))
        return;
    if (SMT_UNLIKELY(r->is_test) && !smt_nic_test_again(r))
        return;
    smt_nic_doubt(r);
    smt_slices_lost(r);
    smt_msg_tx_restart(&r->tx);
    r->conn->e->stats.resent_records++;
    r->heard = r->conn->e->now;
    smt_rpc_ready(r);
}

void smt_rpc_ready(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (!smt_msg_tx_sendable(&r->tx) || !smt_list_is_empty(&r->wait_link))
        return;
    if (!smt_keys_ready(&c->keys)) {
        smt_list_push_tail(&c->blocked, &r->wait_link);
        if (smt_early_is_on(c))
            smt_engine_hs_ready(c);
        return;
    }
    /* Without memory for the queue its timer brings it back. */
    if (smt_srpt_put(&c->e->srpt, r) < 0)
        c->e->stats.drop_no_memory++;
}

bool smt_rpc_ask_missing(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    uint32_t from = 0;
    uint32_t start;
    uint32_t end;
    for (unsigned i = 0; i < MAX_RESENDS_A_ROUND; i++) {
        if (!smt_msg_rx_missing(&r->rx, from, &start, &end))
            break;
        smt_ctl_add_resend(c, smt_rpc_frame_id(r), start, end - start);
        from = end;
    }
    if (from > 0)
        return true;
    /* All that was granted is here: it is our turn. Without memory for that it comes again. */
    if (r->rx.entry.listed)
        c->e->grants.due = true;
    else if (r->rx.granted < r->rx.len && smt_grants_add(c->e, r) < 0)
        c->e->stats.drop_no_memory++;
    return false;
}

/* Puts the question of its state. False: there is none. */
static bool ask(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    switch (r->state) {
    case SMT_RPC_AWAIT_RESPONSE:
        smt_ctl_add_resend(c, smt_rpc_frame_id(r), 0, SMT_RESEND_ALL);
        return true;
    case SMT_RPC_AWAIT_REST:
    case SMT_RPC_AWAIT_REQUEST:
        return smt_rpc_ask_missing(r);
    case SMT_RPC_AWAIT_ACK:
        c->e->stats.need_acks_sent++;
        smt_ctl_add_behind(
            c, &(struct smt_frame){.type = SMT_FRAME_NEED_ACK, .id = smt_rpc_frame_id(r)},
            r->tx.low_prio);
        return true;
    case SMT_RPC_AWAIT_GONE:
        smt_rpc_abort_send(r, r->error);
        return true;
    case SMT_RPC_AWAIT_DONE:
        smt_rpc_refuse_again(r);
        return true;
    default:
        return false;
    }
}

/* smt_conn_patience, without a call while nothing special is the matter. */
SMT_INLINE uint64_t patience(const struct smt_conn *c, unsigned rounds)
{
    uint64_t rtt = smt_conn_rtt_peak(c);
    if (SMT_UNLIKELY(rounds > 0 || rtt == 0 || c->compete_in.until != 0))
        return smt_conn_patience(c, rounds);
    uint64_t base = rtt + rtt / 4 + c->e->config.tune.resend_floor_ns;
    uint64_t most = c->e->config.peer_timeout / 4;
    return base < most ? base : most;
}

/* A call that its server works on is asked about less often the more rpcs there are: a million that
 * stand for seconds would ask, and be answered, eight million times a second. What it waits for is
 * not lost without a question of the server's. */
static uint64_t served_patience(const struct smt_rpc *r)
{
    uint64_t n = smt_pool_n_live(&r->conn->e->rpcs) / MANY_RPCS;
    uint64_t p = smt_conn_patience(r->conn, r->n_quiet);
    return n > 1 ? p * n : p;
}

/* However many there are, each conn that waits must be heard of in its time. */
static uint64_t word_due(const struct smt_conn *c)
{
    return c->heard + c->e->config.peer_timeout / 2;
}

static bool is_late(const struct smt_rpc *r, uint64_t now)
{
    if (SMT_LIKELY(!r->is_served))
        return now >= r->heard + smt_conn_patience(r->conn, r->n_quiet);
    return now >= r->heard + served_patience(r) ||
           (now >= word_due(r->conn) && !smt_asks_is_out(r->conn, now));
}

/* When its timer looks next. */
static uint64_t served_look(const struct smt_rpc *r, uint64_t now)
{
    uint64_t due = word_due(r->conn), at = r->heard + served_patience(r);
    /* Another of its conn has asked. */
    if (due <= now)
        due = now + smt_conn_patience(r->conn, MAX_ROUNDS);
    return at < due ? at : due;
}

SMT_INLINE void arm_at(struct smt_rpc *r, uint64_t now, uint64_t at)
{
    struct smt_engine *e = r->conn->e;
    if (r->deadline < at)
        at = r->deadline;
    if (at == SMT_NEVER)
        smt_wheel_disarm(&e->wheel, &r->timer.t);
    else
        smt_wheel_arm_alike(&e->wheel, &r->timer.t, at > now ? at : now);
}

/* Nothing of it came in its time, but ours is the link that is busy, and has more on its way than
 * it could carry until now: the data may stand in the queue before it. */
static bool stands_in_queue(struct smt_rpc *r, uint64_t now)
{
    const struct smt_engine *e = r->conn->e;
    if (r->state != SMT_RPC_AWAIT_RESPONSE && r->state != SMT_RPC_AWAIT_REST &&
        r->state != SMT_RPC_AWAIT_REQUEST)
        return false;
    if (r->conn->pacer.rtt_peak == 0 ||
        smt_path_was_free(e, r->rx.came_at, r->rx.came_bytes))
        return false;
    /* The first look of this silence decides how long. Whoever has received little has seen little
     * of what our link can do: so there is an end to it. */
    if (r->late_until < r->heard) {
        uint64_t busy = smt_incast_busy(e);
        uint64_t most = QUEUE_PATIENCES * smt_conn_patience(r->conn, 0);
        r->late_until = now + (busy < most ? busy : most);
    }
    return now < r->late_until;
}

/* Its sender does not send what it was granted, however often it is asked. */
static bool is_lost(const struct smt_rpc *r)
{
    return r->n_quiet > LOST_ROUNDS && r->rx.store != NULL && !r->rx.whole &&
           r->rx.granted > smt_msg_rx_received(&r->rx);
}

/* Counts a question about what only the peer can end. True: it was put often enough, and for no
 * less than a silent peer gets. */
static bool asked_enough(struct smt_rpc *r)
{
    const struct smt_conn *c = r->conn;
    if (r->n_need_ack == UINT8_MAX)
        return true;
    r->n_need_ack++;
    return r->n_need_ack > MAX_NEED_ACKS &&
           r->n_need_ack * smt_conn_patience(c, r->n_quiet) > c->e->config.peer_timeout;
}

/* Nothing of it came for a round of patience. False: it was given up, or comes again later. */
static bool ask_late(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    r->is_involved = true;
    uint64_t heard = r->heard;
    uint8_t n_quiet = r->n_quiet;
    r->heard = now;
    r->is_served = false;
    if (r->n_quiet < MAX_ROUNDS)
        r->n_quiet++;
    bool waits = r->state == SMT_RPC_AWAIT_RESPONSE || r->state == SMT_RPC_AWAIT_ACK;
    if (waits && smt_msg_tx_sendable(&r->tx)) {
        smt_rpc_ready(r);
        return true;
    }
    if (SMT_UNLIKELY(smt_memory_is_short(&c->e->memory)) && is_lost(r)) {
        smt_memory_take_back(r);
        return true;
    }
    if (smt_rpc_awaits_memory(r)) {
        smt_memory_again(r);
        return true;
    }
    /* What stands in a queue need not be sent again; but not for ever. */
    if (r->n_quiet <= BEHIND_ROUNDS && smt_grants_is_behind(c->e, r))
        return true;
    if (smt_ctl_is_backed_up(c) || !smt_asks_may(r, now)) {
        /* Nobody was asked: it is as late as before. */
        r->heard = heard;
        r->n_quiet = n_quiet;
        arm_at(r, now, now + smt_conn_patience(c, MAX_ROUNDS));
        return false;
    }
    /* Given up when the peer is silent about it, not when it waits its turn or for a grant, nor
     * while it has not been asked. */
    bool acked = r->state == SMT_RPC_AWAIT_ACK && smt_rpc_is_server(r);
    if ((acked || r->state == SMT_RPC_AWAIT_DONE) && asked_enough(r)) {
        if (acked)
            smt_rpc_fail(r, SMT_EUNREACHABLE);
        else
            smt_rpc_retire(r);
        return false;
    }
    smt_grants_yield(c->e, r);
    smt_incast_give_up(c->e, &r->rx);
    smt_mtu_suspect(c, now);
    if (ask(r))
        smt_asks_asked(r, now);
    return true;
}

void smt_rpc_busy(struct smt_rpc *r)
{
    r->heard = r->conn->e->now;
    r->n_need_ack = 0;
    r->is_served = r->state == SMT_RPC_AWAIT_RESPONSE;
}

void smt_rpc_timer_fired(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    if (now >= r->deadline && !smt_rpc_is_server(r)) {
        c->e->stats.rpc_timeouts++;
        smt_rpc_abandon(r, SMT_ETIMEDOUT);
        return;
    }
    bool late = smt_keys_ready(&c->keys) && is_late(r, now);
    if (late && stands_in_queue(r, now)) {
        arm_at(r, now, now + smt_conn_patience(c, 0));
        return;
    }
    /* Its bytes wait for their turn at the device: nobody has been asked anything. */
    if (late && !smt_list_is_empty(&r->tx.ready)) {
        r->heard = r->since = now;
        late = false;
    }
    if (late && smt_conn_is_silent(c, r->since, now)) {
        smt_conn_close(c, now, SMT_EUNREACHABLE, false);
        return;
    }
    if (late && !ask_late(r, now))
        return;
    smt_rpc_arm(r, now);
}

void smt_rpc_arm(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    uint64_t at = SMT_NEVER;
    switch (r->state) {
    case SMT_RPC_AWAIT_RESPONSE:
    case SMT_RPC_AWAIT_REST:
    case SMT_RPC_AWAIT_ACK:
    case SMT_RPC_AWAIT_REQUEST:
    case SMT_RPC_AWAIT_GONE:
    case SMT_RPC_AWAIT_DONE:
        at = SMT_LIKELY(!r->is_served) ? r->heard + patience(c, r->n_quiet) : served_look(r, now);
        break;
    default:
        break;
    }
    if (!smt_keys_ready(&c->keys))
        at = SMT_NEVER;
    arm_at(r, now, at);
}

void smt_rpc_begin(struct smt_rpc *r, uint64_t now)
{
    const struct smt_conn *c = r->conn;
    assert(r->state == SMT_RPC_AWAIT_RESPONSE || r->state == SMT_RPC_AWAIT_ACK);
    r->heard = r->since = now;
    if (SMT_UNLIKELY(r->deadline != SMT_NEVER))
        r->deadline = r->deadline < SMT_NEVER - now ? now + r->deadline : SMT_NEVER;
    uint64_t at = SMT_LIKELY(smt_keys_ready(&c->keys)) ? now + patience(c, r->n_quiet) : SMT_NEVER;
    arm_at(r, now, at);
}
