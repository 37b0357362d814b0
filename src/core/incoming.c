/* What becomes of a message as its pieces come in. Packets are others' matter: record_rx.c opens
 * smt2's, kernel_rx.c takes the kernel's; both know an rpc, where a piece belongs and that it is
 * authentic as far as their format says, and call here. */
#include "core/incoming.h"

#include "core/frames.h"
#include "core/rpc_life.h"
#include "core/state.h"
#include "wire/wire.h"

struct smt_rpc *smt_incoming_new(struct smt_conn *c, uint64_t id)
{
    if (!smt_frames_id_is_new(c, id & ~SMT_ID_ROLE)) {
        c->e->stats.drop_finished++;
        return NULL;
    }
    if (smt_incoming_room(c) == 0) {
        c->e->stats.drop_over_credit++;
        return NULL;
    }
    return smt_incoming_enter(c, id, smt_rpc_hash(c, id), c->e->kernel != NULL);
}

void smt_incoming_drop(struct smt_rpc *r)
{
    smt_evlink_drop(&r->ev);
    r->holds_handle = false;
    smt_rpc_retire(r);
}

static void too_long(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    c->e->stats.drop_too_long++;
    if (!smt_rpc_is_server(r)) {
        smt_rpc_abandon(r, SMT_EMSGSIZE);
        return;
    }
    smt_rpc_abort_send(r, SMT_EMSGSIZE);
    smt_rpc_set_state(r, SMT_RPC_AWAIT_DONE);
    smt_rpc_arm(r, c->e->now);
}

bool smt_incoming_begin(struct smt_rpc *r, uint32_t message_len, uint32_t sent, bool need_buffer)
{
    struct smt_conn *c = r->conn;
    struct smt_engine *e = c->e;
    struct smt_msg_rx *m = &r->rx;
    bool server = smt_rpc_is_server(r);
    m->len = message_len;
    m->known = true;
    r->is_involved = true;
    smt_cutoffs_note(&e->cutoffs, m->len);
    if (SMT_UNLIKELY(smt_list_is_empty(&c->sender_link)))
        smt_list_push_tail(&e->senders, &c->sender_link);
    bool fits_user = r->resp_buf != NULL && m->len <= r->resp_cap;
    if (m->len > e->config.max_msg_len || (r->resp_buf != NULL && !fits_user)) {
        if (server)
            smt_rpc_set_state(r, SMT_RPC_AWAIT_REQUEST);
        too_long(r);
        return false;
    }
    if (m->len > e->config.accept_len && !fits_user) {
        /* So that accept knows what to ask for again. */
        m->granted = sent < m->len ? sent : m->len;
        smt_rpc_set_state(r, SMT_RPC_AWAIT_ACCEPT);
        r->holds_handle = true;
        smt_evlink_raise(&e->events, &r->ev, SMT_EE_INCOMING);
        smt_rpc_arm(r, e->now);
        e->stats.drop_await_accept++;
        return false;
    }
    smt_rpc_set_state(r, server ? SMT_RPC_AWAIT_REQUEST : SMT_RPC_AWAIT_REST);
    if (need_buffer && smt_rpc_take_buffer(r) < 0) {
        m->granted = sent < m->len ? sent : m->len;
        smt_memory_wait(r);
        smt_rpc_arm(r, e->now);
        e->stats.drop_no_memory++;
        return false;
    }
    return true;
}

bool smt_incoming_data(struct smt_rpc *r, uint32_t offset, uint32_t len, uint32_t unsched,
                       uint64_t now)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_rx *m = &r->rx;
    if (smt_msg_rx_accept(m, offset, len) < 0) {
        c->e->stats.drop_no_memory++;
        return false;
    }
    r->heard = now;
    r->n_quiet = 0;
    smt_asks_answered(r);
    smt_compete_came(r, now, offset);
    if (unsched > m->granted)
        m->granted = unsched < m->len ? unsched : m->len;
    if (m->whole) {
        smt_rpc_got_all(r);
        return true;
    }
    if (m->entry.listed || m->incoming > 0)
        smt_grants_data_came(c->e, r);
    else if (m->granted < m->len && smt_grants_add(c->e, r) < 0)
        c->e->stats.drop_no_memory++;
    smt_incast_note(c->e, r);
    return true;
}

bool smt_incoming_whole(struct smt_rpc *r, uint8_t *store, uint32_t store_len, uint8_t *data,
                        uint32_t len, uint64_t now)
{
    struct smt_conn *c = r->conn;
    struct smt_engine *e = c->e;
    assert(!r->rx.known && r->resp_buf == NULL && len <= e->config.accept_len);
    if (SMT_UNLIKELY(len > e->config.max_msg_len))
        return smt_incoming_begin(r, len, len, false);
    smt_cutoffs_note(&e->cutoffs, len);
    if (SMT_UNLIKELY(smt_list_is_empty(&c->sender_link)))
        smt_list_push_tail(&e->senders, &c->sender_link);
    smt_conn_hold(c, store_len);
    smt_incoming_put(r, store, store_len, data, len);
    smt_incoming_heard(r, now);
    smt_rpc_got_all(r);
    return true;
}
