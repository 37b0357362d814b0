/* Posting, answering, cancelling, giving back: thin shells over the engine that check arguments.
 *
 * A public smt_msg is the engine's rpc; the engine's user pointer leads back to the endpoint, so no
 * object is made per message. A public call id is the engine's id on the link plus the largest id
 * given before the link took over: it counts up by one over the life of the session, whatever
 * happens underneath. */
#include "api/api.h"

static_assert(sizeof(struct smt_iov) == sizeof(struct smt_post_iov), "passed as they are");
static_assert(offsetof(struct smt_iov, len) == offsetof(struct smt_post_iov, len),
              "passed as they are");

static bool iov_is_valid(const struct smt_iov *iov, unsigned n)
{
    if (n > SMT_MAX_IOV || (n > 0 && iov == NULL))
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (iov[i].base == NULL && iov[i].len > 0)
            return false;
    }
    return true;
}

static int post_failed(const struct smt_session *s, int code)
{
    const char *text = smt_ctx_post_text(s->ep->ctx, code);
    if (text != NULL)
        return smt_fail_static(s->ep->ctx, code, text);
    return smt_fail_static(s->ep->ctx, code,
                           code == SMT_EAGAIN ? "a limit of open calls or bytes is reached: go on "
                                                "after SMT_EV_WRITABLE"
                                              : smt_strerror(code));
}

static int post(struct smt_session *s, const struct smt_call_args *args, bool one_way,
                uint64_t *call_id)
{
    int r = smt_session_check(s);
    if (SMT_UNLIKELY(r < 0))
        return r;
    if (SMT_UNLIKELY(args == NULL))
        return smt_fail_static(s->ep->ctx, SMT_EINVAL, "args is NULL");
    struct smt_call_args copy;
    if (SMT_UNLIKELY(args->size != sizeof(*args))) {
        if (smt_config_copy(&copy, sizeof(copy), args, offsetof(struct smt_call_args, flags)) < 0)
            return smt_fail_static(s->ep->ctx, SMT_EINVAL, "args.size is not set");
        args = &copy;
    }
    if (SMT_UNLIKELY(!iov_is_valid(args->iov, args->n_iov) ||
                     (args->flags & ~(unsigned)SMT_IDEMPOTENT) != 0))
        return smt_fail_static(s->ep->ctx, SMT_EINVAL, "bad iov or unknown flags");
    if (SMT_UNLIKELY(s->link == NULL))
        return post_failed(s, SMT_ECLOSED);
    const struct smt_post p = {
        .iov = (const struct smt_post_iov *)args->iov,
        .n_iov = args->n_iov,
        .one_way = one_way,
        .idempotent = (args->flags & SMT_IDEMPOTENT) != 0,
        .deadline = args->deadline_ns,
        .user = args->user,
        .resp_buf = one_way ? NULL : args->resp_buf,
        .resp_cap = one_way || args->resp_buf == NULL ? 0 : args->resp_cap,
    };
    uint64_t id;
    if (SMT_UNLIKELY(smt_session_keeps(s, args->flags))) {
        r = smt_kept_post(s, &p, &id);
    } else {
        r = smt_conn_post(s->link->conn, &p, &id);
        id += s->link->id_base;
    }
    if (SMT_UNLIKELY(r < 0))
        return post_failed(s, r);
    s->last_id = id;
    if (call_id != NULL)
        *call_id = id;
    return 0;
}

int smt_call(struct smt_session *session, const struct smt_call_args *args, uint64_t *call_id)
{
    return post(session, args, false, call_id);
}

int smt_send(struct smt_session *session, const struct smt_call_args *args, uint64_t *call_id)
{
    return post(session, args, true, call_id);
}

int smt_cancel(struct smt_session *session, uint64_t call_id)
{
    int r = smt_session_check(session);
    if (r < 0)
        return r;
    const struct smt_link *link = session->link;
    if (link != NULL && call_id <= link->id_base)
        link = smt_retired_of(session, call_id);
    if (link != NULL && call_id > link->id_base && call_id <= session->last_id)
        r = smt_conn_cancel(link->conn, call_id - link->id_base);
    else if (session->target != NULL)
        r = smt_kept_cancel(session, call_id);
    else
        r = SMT_EINVAL;
    return r < 0 ? smt_fail_static(session->ep->ctx, r, "no open call has this id") : 0;
}

static struct smt_ep *msg_ep(const struct smt_msg *msg)
{
    return smt_rpc_engine_user((const struct smt_rpc *)msg);
}

static int msg_check(const struct smt_msg *msg)
{
    if (SMT_UNLIKELY(msg == NULL))
        return smt_fail_static(NULL, SMT_EINVAL, "the message is NULL");
    return smt_ep_check(msg_ep(msg));
}

static int msg_result(const struct smt_msg *msg, int r)
{
    if (SMT_LIKELY(r >= 0))
        return r;
    const struct smt_ctx *ctx = msg_ep(msg)->ctx;
    const char *text = smt_ctx_post_text(ctx, r);
    return smt_fail_static(ctx, r, text != NULL ? text : smt_strerror(r));
}

int smt_reply(struct smt_msg *request, const struct smt_iov *iov, unsigned n_iov, void *user)
{
    int r = msg_check(request);
    if (SMT_UNLIKELY(r < 0))
        return r;
    if (SMT_UNLIKELY(!iov_is_valid(iov, n_iov)))
        return msg_result(request, SMT_EINVAL);
    const struct smt_post_iov *post_iov = (const struct smt_post_iov *)iov;
    return msg_result(request, smt_rpc_reply((struct smt_rpc *)request, post_iov, n_iov, user));
}

int smt_reject(struct smt_msg *request)
{
    int r = msg_check(request);
    return r < 0 ? r : msg_result(request, smt_rpc_reject((struct smt_rpc *)request));
}

int smt_accept(struct smt_msg *incoming, void *buf, size_t cap)
{
    int r = msg_check(incoming);
    if (SMT_UNLIKELY(r < 0))
        return r;
    /* The message may be gone when accepting it fails. */
    struct smt_ctx *ctx = msg_ep(incoming)->ctx;
    r = smt_rpc_accept((struct smt_rpc *)incoming, buf, cap);
    return SMT_LIKELY(r >= 0) ? r : smt_fail_static(ctx, r, smt_strerror(r));
}

void smt_release(struct smt_msg *msg)
{
    if (msg_check(msg) == 0)
        smt_rpc_release((struct smt_rpc *)msg);
}
