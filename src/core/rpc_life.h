/* The ways through an rpc's life that every message of one packet goes: made, found, whole,
 * acknowledged, off the wire, freed. They stand here to become part of what takes packets and hands
 * out events; the others are rpc.c's. */
#ifndef SMT_CORE_RPC_LIFE_H
#define SMT_CORE_RPC_LIFE_H

#include "core/profile.h"
#include "core/state.h"

/* Is there an arrow from its state? For assertions. */
bool smt_rpc_may_go(const struct smt_rpc *r, enum smt_rpc_state to);

/* One before its first life: all that every life leaves as it found it. And does it? For
 * assertions. */
struct smt_rpc *smt_rpc_make(struct smt_engine *e);
bool smt_rpc_is_as_made(const struct smt_rpc *r);

/* Nothing more of its incoming message is expected. */
void smt_rpc_rx_leave(struct smt_rpc *r);

/* Into a state where nobody waits for the peer, or not before smt_rpc_begin. */
SMT_INLINE void smt_rpc_set_state_idle(struct smt_rpc *r, enum smt_rpc_state to)
{
    assert(smt_rpc_may_go(r, to));
    r->state = to;
}

/* Since when it is in a state counts only where the peer is waited for. */
SMT_INLINE void smt_rpc_set_state(struct smt_rpc *r, enum smt_rpc_state to)
{
    smt_rpc_set_state_idle(r, to);
    if (to == SMT_RPC_AWAIT_REPLY || to == SMT_RPC_AWAIT_USER || to == SMT_RPC_FREE)
        return;
    r->is_served = false;
    r->since = r->conn->e->now;
}

static_assert(offsetof(struct smt_rpc, state) % 8 == 0, "cleared by words");

/* What a life begins with: a tx that sends nothing, an rx that knows nothing. */
SMT_INLINE void smt_rpc_clear(struct smt_rpc *r)
{
    smt_zero_stretch(&r->state,
                     offsetof(struct smt_rpc, resp_cap) - offsetof(struct smt_rpc, state));
    smt_msg_tx_clear(&r->tx);
    smt_msg_rx_clear(&r->rx);
}

/* Where the engine's index has the rpc of an id (with role). */
SMT_INLINE uint64_t smt_rpc_hash(const struct smt_conn *c, uint64_t id)
{
    return smt_chains_hash_salted(&c->e->rpc_index, id, c->index_salt);
}

/* A fresh rpc of `c`, in no state yet, entered under `id` (with role), whose hash that is, and with
 * `what` to send; those of the kernel's profiles are involved. NULL: no memory. */
SMT_INLINE struct smt_rpc *smt_rpc_new_at(struct smt_conn *c, uint64_t id, uint64_t hash,
                                          enum smt_what what, bool is_involved)
{
    struct smt_engine *e = c->e;
    struct smt_rpc *r =
        SMT_LIKELY(smt_pool_has_used(&e->rpcs)) ? smt_pool_get(&e->rpcs) : smt_rpc_make(e);
    if (SMT_UNLIKELY(r == NULL))
        return NULL;
    smt_rpc_clear(r);
    smt_chains_add(&e->rpc_index, &r->index, hash);
    r->conn = c;
    r->id = id;
    r->is_involved = is_involved;
    r->what = (uint8_t)what;
    r->deadline = SMT_NEVER;
    r->heard = e->now;
    smt_list_push_tail(&c->rpcs, &r->conn_link);
    c->n_rpcs++;
    return r;
}

static inline struct smt_rpc *smt_rpc_new(struct smt_conn *c, uint64_t id)
{
    enum smt_what what = (id & SMT_ID_ROLE) != 0 ? SMT_WHAT_RESPONSE : SMT_WHAT_REQUEST;
    return smt_rpc_new_at(c, id, smt_rpc_hash(c, id), what, c->e->kernel != NULL);
}

/* The rpc of an id (with role), whose hash that is, or NULL. */
SMT_INLINE struct smt_rpc *smt_rpc_find_at(const struct smt_conn *c, uint64_t id, uint64_t hash)
{
    for (struct smt_chain *l = smt_chains_first(&c->e->rpc_index, hash); l != NULL; l = l->next) {
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, index);
        if (r->id == id && r->conn == c)
            return r;
    }
    return NULL;
}

static inline struct smt_rpc *smt_rpc_find(const struct smt_conn *c, uint64_t id)
{
    return smt_rpc_find_at(c, id, smt_rpc_hash(c, id));
}

/* The usual events: no other waits. */
SMT_INLINE void smt_rpc_raise(struct smt_rpc *r, enum smt_engine_event_type type)
{
    smt_evlink_begin(&r->conn->e->events, &r->ev, type);
}

/* The memory of one that is not involved, which has some. */
SMT_INLINE void smt_rpc_rx_free_usual(struct smt_rpc *r, struct smt_conn *c)
{
    struct smt_engine *e = c->e;
    struct smt_msg_rx *m = &r->rx;
    uint8_t *store = m->store;
    uint32_t len = m->store_len;
    m->data = m->store = NULL;
    smt_bufpool_put(&e->bufs, store, len);
    smt_conn_let_go(c, &e->memory, len);
}

/* The memory of any, of which nothing more is expected. */
void smt_rpc_rx_free(struct smt_rpc *r);

/* One that is involved, at its end: gives back what is left, and leaves all as it was made. */
void smt_rpc_reset(struct smt_rpc *r);

/* The outgoing message of one that is not involved leaves the queue. */
SMT_INLINE void smt_rpc_tx_give_back_usual(struct smt_rpc *r, struct smt_engine *e)
{
    r->tx.active = false;
    if (SMT_UNLIKELY(!smt_list_is_empty(&r->tx.ready)))
        smt_srpt_remove(&e->srpt, r);
}

/* The same of any, which gives back what it took. */
SMT_INLINE void smt_rpc_tx_give_back(struct smt_rpc *r)
{
    struct smt_engine *e = r->conn->e;
    smt_rpc_tx_give_back_usual(r, e);
    if (SMT_LIKELY(!r->is_involved))
        return;
    if (r->tx.sealed != NULL)
        e->config.profile->tx_end(r);
    smt_msg_tx_fini(&r->tx, &e->iov_blocks);
}

/* Leaves the index, its timer and the line of what was posted. */
SMT_INLINE void smt_rpc_unlink_index(struct smt_rpc *r, struct smt_engine *e)
{
    smt_chains_remove(&r->index);
    smt_wheel_disarm(&e->wheel, &r->timer.t);
    if (SMT_UNLIKELY(!smt_list_is_empty(&r->wait_link)))
        smt_list_remove(&r->wait_link);
}

/* It is no longer one of the open calls of its conn, of which it was. */
SMT_INLINE void smt_rpc_uncount(struct smt_rpc *r, struct smt_conn *c)
{
    r->counted = false;
    c->open_calls--;
    c->out_bytes -= r->out_len;
    smt_conn_call_finished(c, r->id);
    smt_conn_room_made(c);
}

/* Leaves the map and all queues, in which it is: nothing from the wire finds it any more. */
SMT_INLINE void smt_rpc_unlink(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    smt_rpc_unlink_index(r, c->e);
    smt_rpc_tx_give_back(r);
    if (SMT_UNLIKELY(r->is_involved)) {
        smt_asks_answered(r);
        smt_rpc_rx_leave(r);
    }
    if (smt_rpc_is_server(r))
        c->served--;
    else if (r->counted)
        smt_rpc_uncount(r, c);
}

/* The wire, the queue of events and the user have let go. */
SMT_INLINE bool smt_rpc_is_over(const struct smt_rpc *r)
{
    return !smt_rpc_is_on_wire(r) && r->ev.pending == 0 && !r->holds_handle && !r->holds_bytes;
}

/* One that has given back what it held goes to the pool. */
SMT_INLINE void smt_rpc_drop(struct smt_rpc *r, struct smt_conn *c, struct smt_engine *e)
{
    smt_rpc_set_state_idle(r, SMT_RPC_FREE);
    assert(smt_rpc_is_as_made(r));
    smt_list_unlink(&r->conn_link);
    c->n_rpcs--;
    smt_pool_put(&e->rpcs, r);
}

SMT_INLINE void smt_rpc_free_now(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (SMT_UNLIKELY(r->is_involved))
        smt_rpc_reset(r);
    else if (r->rx.store != NULL)
        smt_rpc_rx_free_usual(r, c);
    smt_rpc_drop(r, c, c->e);
    if (SMT_UNLIKELY(c->state == SMT_CONN_CLOSED))
        smt_conn_try_end(c);
}

/* Frees it once wire, user and queue have let go. */
SMT_INLINE void smt_rpc_try_free(struct smt_rpc *r)
{
    if (smt_rpc_is_over(r))
        smt_rpc_free_now(r);
}

/* Its part on the wire is over, in which it was until now. */
SMT_INLINE void smt_rpc_leave_wire(struct smt_rpc *r)
{
    smt_rpc_unlink(r);
    smt_rpc_set_state(r, SMT_RPC_AWAIT_USER);
}

/* The response of a call is whole. Here and below the caller counts the message. */
static inline void smt_rpc_got_response(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (SMT_UNLIKELY(r->is_involved)) {
        smt_rpc_rx_leave(r);
        if (r->tx.by_nic)
            smt_nic_worked(r);
    }
    const struct smt_profile *profile = c->e->config.profile;
    if (SMT_UNLIKELY(!profile->tells_near || !smt_finished_is_near(&c->finished, r->id)))
        profile->response_came(r);
    r->holds_bytes = r->rx.store != NULL;
    smt_rpc_raise(r, SMT_EE_RESPONSE);
    smt_rpc_leave_wire(r);
}

/* The same for a call that is not involved, near the mark, whose response lies in memory of the
 * library. */
SMT_INLINE void smt_rpc_got_usual_response(struct smt_rpc *r, struct smt_conn *c,
                                           struct smt_engine *e)
{
    assert(!r->is_involved && !smt_rpc_is_server(r) && r->counted && r->rx.store != NULL);
    assert(e->config.profile->tells_near && smt_finished_is_near(&c->finished, r->id));
    r->holds_bytes = true;
    smt_evlink_begin(&e->events, &r->ev, SMT_EE_RESPONSE);
    smt_rpc_unlink_index(r, e);
    smt_rpc_tx_give_back_usual(r, e);
    smt_rpc_uncount(r, c);
    smt_rpc_set_state_idle(r, SMT_RPC_AWAIT_USER);
}

/* A request is whole, and its timer does not run. */
SMT_INLINE void smt_rpc_got_request(struct smt_rpc *r, struct smt_engine *e)
{
    smt_rpc_set_state_idle(r, SMT_RPC_AWAIT_REPLY);
    r->holds_handle = true;
    r->holds_bytes = true;
    smt_evlink_begin(&e->events, &r->ev, SMT_EE_REQUEST);
}

/* Its incoming message is whole, whatever it is. */
void smt_rpc_got_all(struct smt_rpc *r);

/* The peer has all of a reply that is not involved. */
SMT_INLINE void smt_rpc_acked_usual_reply(struct smt_rpc *r, struct smt_conn *c,
                                          struct smt_engine *e)
{
    assert(!r->is_involved && smt_rpc_is_server(r));
    smt_evlink_begin(&e->events, &r->ev, SMT_EE_SENT);
    smt_rpc_unlink_index(r, e);
    smt_rpc_tx_give_back_usual(r, e);
    c->served--;
    smt_rpc_set_state_idle(r, SMT_RPC_AWAIT_USER);
}

/* The peer has all of its outgoing message. */
SMT_INLINE void smt_rpc_acked(struct smt_rpc *r)
{
    if (r->state != SMT_RPC_AWAIT_ACK)
        return;
    if (SMT_UNLIKELY(r->is_involved)) {
        if (r->is_test) {
            smt_nic_test_passed(r);
            return;
        }
        if (r->tx.by_nic)
            smt_nic_worked(r);
    }
    smt_rpc_raise(r, SMT_EE_SENT);
    if (!smt_rpc_is_server(r))
        r->conn->e->stats.messages_sent++;
    smt_rpc_leave_wire(r);
}

#endif
