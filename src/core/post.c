/* What the application does with messages: post, cancel, reply, refuse, accept, release (engine.h).
 * Each checks limits and changes nothing when it fails. Time comes with the next engine call: what
 * is posted waits in the engine's list until then. */
#include "core/profile.h"
#include "core/rpc_life.h"
#include "core/state.h"

static uint64_t iov_total(const struct smt_post_iov *iov, unsigned n_iov)
{
    uint64_t len = 0;
    for (unsigned i = 0; i < n_iov; i++)
        len += iov[i].len;
    return len;
}

/* What of a message goes without a grant. */
static uint32_t unsched_of(const struct smt_engine *e, const struct smt_conn *c, uint64_t len)
{
    /* Nothing measured makes this less. */
    if (SMT_LIKELY(len <= e->config.tune.unsched_first && len <= c->unsched_limit &&
                   c->tx_share.is == SMT_SHARE_ALL))
        return (uint32_t)len;
    uint32_t limit = smt_path_unsched(c);
    return len < limit ? (uint32_t)len : limit;
}

int smt_conn_post(struct smt_conn *c, const struct smt_post *post, uint64_t *id)
{
    struct smt_engine *e = c->e;
    if (c->state == SMT_CONN_CLOSED)
        return SMT_ECLOSED;
    if (post->n_iov > SMT_MAX_POST_IOV)
        return SMT_EINVAL;
    uint64_t len = iov_total(post->iov, post->n_iov);
    if (len > c->peer_max_message)
        return SMT_EMSGSIZE;
    const struct smt_profile *p = e->config.profile;
    int rc = SMT_UNLIKELY(p->may_post != NULL) ? p->may_post(c, len, post->one_way) : 0;
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    if (c->open_calls >= c->peer_open ||
        (c->out_bytes > 0 && c->out_bytes + len > c->peer_bytes)) {
        c->want_writable = true;
        if (c->open_calls == 0 || c->out_bytes + len > c->peer_bytes)
            smt_conn_credit_ask(c);
        return SMT_EAGAIN;
    }
    struct smt_rpc *r = smt_rpc_new(c, c->next_id);
    if (r == NULL)
        return SMT_ENOMEM;
    r->is_involved |= post->n_iov > 1;
    rc = smt_msg_tx_init(&r->tx, post->iov, post->n_iov, (uint32_t)len, &e->iov_blocks);
    smt_rpc_set_state_idle(r, post->one_way ? SMT_RPC_AWAIT_ACK : SMT_RPC_AWAIT_RESPONSE);
    if (rc < 0) {
        smt_rpc_retire(r);
        return rc;
    }
    c->next_id++;
    r->one_way = post->one_way;
    if (post->one_way)
        r->what = SMT_WHAT_ONEWAY;
    r->idempotent = post->idempotent;
    r->mark = post->mark;
    r->deadline = post->deadline > 0 ? post->deadline : SMT_NEVER;
    r->user = post->user;
    r->resp_buf = post->resp_buf;
    r->resp_cap = post->resp_cap;
    r->counted = true;
    r->out_len = len;
    r->tx.unsched = unsched_of(e, c, len);
    r->tx.granted = r->tx.unsched;
    c->open_calls++;
    c->out_bytes += len;
    smt_engine_posted(e, r);
    if (!post->one_way)
        e->stats.requests_sent++;
    if (id != NULL)
        *id = r->id;
    return 0;
}

int smt_conn_cancel(struct smt_conn *c, uint64_t id)
{
    if ((id & SMT_ID_ROLE) != 0)
        return SMT_EINVAL;
    struct smt_rpc *r = smt_rpc_find(c, id);
    if (r == NULL || r->state == SMT_RPC_AWAIT_GONE)
        return SMT_EINVAL;
    c->e->stats.rpcs_cancelled++;
    smt_rpc_abandon(r, SMT_ECANCELED);
    return 0;
}

/* Not to a request that waits for one: its conn has gone, or it was answered before. */
static __attribute__((noinline)) int reply_late(struct smt_rpc *r, void *user)
{
    if (!r->holds_handle || r->one_way || r->ev.pending != 0 || !r->caller_gone)
        return SMT_ESTATE;
    r->reply_user = user;
    smt_rpc_fail(r, SMT_ECLOSED);
    return 0;
}

int smt_rpc_reply(struct smt_rpc *r, const struct smt_post_iov *iov, unsigned n_iov, void *user)
{
    struct smt_conn *c = r->conn;
    struct smt_engine *e = c->e;
    if (n_iov > SMT_MAX_POST_IOV)
        return SMT_EINVAL;
    if (SMT_UNLIKELY(r->state != SMT_RPC_AWAIT_REPLY || !r->holds_handle || r->ev.pending != 0))
        return reply_late(r, user);
    assert(!r->one_way && !r->caller_gone);
    uint64_t len = iov_total(iov, n_iov);
    if (len > c->peer_max_message)
        return SMT_EMSGSIZE;
    const struct smt_profile *p = e->config.profile;
    int rc = SMT_UNLIKELY(p->may_reply != NULL) ? p->may_reply(c, len) : 0;
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    r->is_involved |= n_iov > 1;
    rc = smt_msg_tx_init(&r->tx, iov, n_iov, (uint32_t)len, &e->iov_blocks);
    if (rc < 0) {
        r->tx.active = false;
        return rc;
    }
    r->reply_user = user;
    r->holds_handle = false;
    r->tx.unsched = unsched_of(e, c, len);
    r->tx.granted = r->tx.unsched;
    e->stats.replies_sent++;
    smt_rpc_set_state_idle(r, SMT_RPC_AWAIT_ACK);
    smt_engine_posted(e, r);
    return 0;
}

int smt_rpc_reject(struct smt_rpc *r)
{
    if (!r->holds_handle || r->ev.pending != 0)
        return SMT_ESTATE;
    r->holds_handle = false;
    if (r->caller_gone || r->state == SMT_RPC_AWAIT_USER) {
        smt_rpc_try_free(r);
        return 0;
    }
    if (!smt_rpc_is_server(r)) {
        smt_rpc_abandon(r, SMT_EREFUSED);
        return 0;
    }
    if (r->conn->e->config.profile->no_farewell) {
        smt_rpc_retire(r);
        return 0;
    }
    smt_rpc_abort_send(r, SMT_EREFUSED);
    smt_rpc_set_state(r, SMT_RPC_AWAIT_DONE);
    smt_rpc_arm(r, r->conn->e->now);
    return 0;
}

int smt_rpc_accept(struct smt_rpc *r, void *buf, size_t cap)
{
    if (!r->holds_handle || r->ev.pending != 0)
        return SMT_ESTATE;
    if (r->caller_gone) {
        r->holds_handle = false;
        smt_rpc_try_free(r);
        return SMT_ECLOSED;
    }
    if (r->state != SMT_RPC_AWAIT_ACCEPT)
        return SMT_ESTATE;
    if (buf != NULL && cap < r->rx.len)
        return SMT_EMSGSIZE;
    r->resp_buf = buf;
    struct smt_engine *e = r->conn->e;
    /* What can never be had; all else comes, sooner or later. */
    if (buf == NULL && smt_bufpool_cost(r->rx.len) > e->bufs.max_bytes)
        return SMT_ENOMEM;
    r->holds_handle = false;
    smt_rpc_set_state(r, smt_rpc_is_server(r) ? SMT_RPC_AWAIT_REQUEST : SMT_RPC_AWAIT_REST);
    r->heard = e->now;
    r->n_quiet = 0;
    if (smt_rpc_take_buffer(r) < 0) {
        smt_memory_wait(r);
    } else {
        /* Without memory for that its timer brings it back. */
        if (r->rx.granted < r->rx.len && smt_grants_add(e, r) < 0)
            e->stats.drop_no_memory++;
        (void)smt_rpc_ask_missing(r);
        smt_grants_run(e);
    }
    smt_rpc_arm(r, r->heard);
    return 0;
}

void *smt_rpc_engine_user(const struct smt_rpc *r)
{
    return r->conn->e->config.user;
}
