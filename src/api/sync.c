/* Calls that wait: connect, a whole call, drain. They run the endpoint themselves and keep every
 * event that is not theirs, in order, for the next smt_poll.
 *
 * Waiting spins for a while before it sleeps, because a sleep and a wake-up cost more than a short
 * answer. How long is learned: a spin that was answered makes the next one longer, one in vain
 * makes it shorter, so that against a peer on the same core (who cannot answer while we spin)
 * spinning soon stops. */
#include "api/api.h"

#include <string.h>

static const uint64_t spin_first = 20 * SMT_USEC;
static const uint64_t spin_max = 100 * SMT_USEC;
static const uint64_t spin_min = 1 * SMT_USEC;

/* What one waiting call is waiting for. */
struct waiter {
    struct smt_ep *ep;
    uint64_t deadline; /* absolute; SMT_NEVER = none */
    uint64_t spin_until;
    bool slept;
};

static void waiter_init(struct waiter *w, struct smt_ep *ep, uint64_t timeout_ns)
{
    uint64_t now = smt_api_clock();
    *w = (struct waiter){.ep = ep, .deadline = SMT_NEVER};
    if (timeout_ns > 0 && timeout_ns < SMT_NEVER - now)
        w->deadline = now + timeout_ns;
    if (ep->spin_ns == 0)
        ep->spin_ns = spin_first;
    w->spin_until = now + ep->spin_ns;
}

/* Learns from a wait that is over. */
static void waiter_done(const struct waiter *w)
{
    uint64_t *spin = &w->ep->spin_ns;
    if (!w->slept)
        *spin = *spin * 2 < spin_max ? *spin * 2 : spin_max;
    else
        *spin = *spin / 2 > spin_min ? *spin / 2 : spin_min;
}

/* Nothing came: sleeps if it is time to. SMT_ETIMEDOUT when the deadline has passed. */
static int waiter_idle(struct waiter *w)
{
    uint64_t now = w->ep->now;
    if (now >= w->deadline)
        return SMT_ETIMEDOUT;
    if (w->ep->poll_spin || now < w->spin_until)
        return 0;
    w->slept = true;
    return smt_ep_sleep(w->ep, w->deadline == SMT_NEVER ? UINT64_MAX : w->deadline - now);
}

/* The next event, kept ones aside: 1, 0 when there is none, or SMT_ENOMEM when it could not be kept
 * if need be. */
static int event_take(struct smt_ep *ep, struct smt_event *ev)
{
    int r = smt_ring_reserve(&ep->held);
    if (r < 0)
        return smt_fail_static(ep->ctx, r, "no memory to keep events: call smt_poll first");
    return smt_ep_next_event(ep, ev) ? 1 : 0;
}

/* Runs the endpoint once and keeps all its events. */
static int progress_keep(struct smt_ep *ep)
{
    int r = smt_ep_progress(ep);
    if (r < 0)
        return r;
    struct smt_event ev;
    while ((r = event_take(ep, &ev)) > 0)
        smt_ring_push(&ep->held, &ev);
    return r;
}

/* ---- connect ---- */

/* Waits until the session is up (0) or down (its code). */
static int session_wait(struct smt_session *s, struct waiter *w)
{
    struct smt_ep *ep = s->ep;
    for (;;) {
        int r = smt_ep_progress(ep);
        if (r < 0)
            return r;
        struct smt_event ev;
        while ((r = event_take(ep, &ev)) > 0) {
            if (ev.session == s && ev.type == SMT_EV_SESSION_UP)
                return 0;
            if (ev.session == s && ev.type == SMT_EV_SESSION_DOWN)
                return ev.error != 0 ? ev.error : SMT_ECLOSED;
            smt_ring_push(&ep->held, &ev);
        }
        if (r == 0)
            r = waiter_idle(w);
        if (r < 0)
            return r;
    }
}

/* Waits on a session that was there before: its events belong to whoever opened it. */
static int session_share(struct smt_session *s, struct waiter *w)
{
    struct smt_ep *ep = s->ep;
    for (;;) {
        if (s->link != NULL && s->link->up)
            return 0;
        if (s->is_down)
            return s->error != 0 ? s->error : SMT_ECLOSED;
        int r = progress_keep(ep);
        if (r == 0)
            r = waiter_idle(w);
        if (r < 0)
            return r;
    }
}

static void no_answer(const struct smt_session *s, const char *host)
{
    struct smt_dev *dev = s->ep->dev;
    const char *why = dev->ops->why(dev, smt_conn_addr(s->link->conn));
    smt_fail(s->ep->ctx, SMT_ETIMEDOUT, "no answer from %s in time%s%s", host,
             why != NULL ? ": " : "", why != NULL ? why : "");
}

int smt_connect_wait(struct smt_ep *ep, const char *host, const char *verify_name, unsigned flags,
                     uint64_t timeout_ns, struct smt_session **out)
{
    int r = smt_ep_check(ep);
    if (r < 0)
        return r;
    if (out == NULL)
        return smt_fail_static(ep->ctx, SMT_EINVAL, "out is NULL");
    *out = NULL;
    struct smt_session *s;
    bool is_new;
    r = smt_session_connect(ep, host, verify_name, flags, &s, &is_new);
    if (r < 0)
        return r;
    struct waiter w;
    waiter_init(&w, ep, timeout_ns);
    r = is_new ? session_wait(s, &w) : session_share(s, &w);
    waiter_done(&w);
    if (r < 0) {
        if (r == SMT_ETIMEDOUT && !s->is_down)
            no_answer(s, host);
        if (is_new)
            smt_session_abandon(s);
        return r;
    }
    *out = s;
    return 0;
}

/* ---- call ---- */

/* Posts, and while a limit is reached waits for room. */
static int call_post(struct smt_session *s, struct smt_call_args *args, struct waiter *w,
                     uint64_t *id)
{
    struct smt_ep *ep = s->ep;
    for (;;) {
        int r = smt_call(s, args, id);
        if (r != SMT_EAGAIN)
            return r;
        r = progress_keep(ep);
        if (r == 0)
            r = waiter_idle(w);
        if (r < 0)
            return r;
        if (w->deadline != SMT_NEVER)
            args->deadline_ns = w->deadline > ep->now ? w->deadline - ep->now : 1;
    }
}

static int64_t response_take(const struct smt_session *s, const struct smt_event *ev,
                             const void *resp)
{
    if (ev->type == SMT_EV_FAILED) {
        /* Where more is known of the end of the session, the text tells it. */
        const char *why = s->link != NULL ? s->link->text : NULL;
        return smt_fail(s->ep->ctx, ev->error, "%s%s%s", smt_strerror(ev->error),
                        why != NULL ? ": " : "", why != NULL ? why : "");
    }
    if (ev->msg != NULL)
        smt_release(ev->msg);
    if (resp == NULL && ev->len > 0)
        return smt_fail_static(s->ep->ctx, SMT_EMSGSIZE, "the response does not fit the buffer");
    return (int64_t)ev->len;
}

/* Waits for the final event of a call. The engine's own deadline ends it, so that lent memory is
 * free again. */
static int64_t call_finish(struct smt_session *s, uint64_t id, struct waiter *w, const void *resp)
{
    struct smt_ep *ep = s->ep;
    for (;;) {
        int r = smt_ep_progress(ep);
        struct smt_event ev;
        while (r == 0 && (r = event_take(ep, &ev)) > 0) {
            bool is_final = ev.type == SMT_EV_RESPONSE || ev.type == SMT_EV_FAILED;
            if (is_final && ev.session == s && ev.call_id == id)
                return response_take(s, &ev, resp);
            smt_ring_push(&ep->held, &ev);
            r = 0;
        }
        if (r == 0)
            r = waiter_idle(w);
        if (r < 0 && r != SMT_ETIMEDOUT)
            return r;
    }
}

int64_t smt_call_wait(struct smt_session *session, const void *req, size_t req_len, void *resp,
                      size_t resp_cap, uint64_t timeout_ns)
{
    int r = smt_session_check(session);
    if (r < 0)
        return r;
    if ((req == NULL && req_len > 0) || (resp == NULL && resp_cap > 0))
        return smt_fail_static(session->ep->ctx, SMT_EINVAL, "a length without its buffer");
    const struct smt_iov iov = {req, req_len};
    struct smt_call_args args = {
        .size = sizeof(args),
        .iov = &iov,
        .n_iov = req_len > 0 ? 1 : 0,
        .deadline_ns = timeout_ns,
        .resp_buf = resp,
        .resp_cap = resp_cap,
    };
    struct waiter w;
    waiter_init(&w, session->ep, timeout_ns);
    uint64_t id;
    r = call_post(session, &args, &w, &id);
    int64_t len = r < 0 ? r : call_finish(session, id, &w, resp);
    waiter_done(&w);
    return len;
}

/* ---- drain ---- */

static bool is_drained(const struct smt_ep *ep)
{
    for (struct smt_list *it = ep->links.next; it != &ep->links; it = it->next) {
        const struct smt_link *link = SMT_CONTAINER_OF(it, struct smt_link, node);
        if (link->session != NULL && !link->closing && !smt_conn_is_quiet(link->conn))
            return false;
    }
    for (struct smt_list *it = ep->sessions.next; it != &ep->sessions; it = it->next) {
        const struct smt_session *s = SMT_CONTAINER_OF(it, struct smt_session, node);
        if (s->target != NULL && !smt_list_is_empty(&s->target->orphans))
            return false;
    }
    return true;
}

int smt_ep_drain(struct smt_ep *ep, uint64_t timeout_ns)
{
    int r = smt_ep_check(ep);
    if (r < 0)
        return r;
    struct waiter w;
    waiter_init(&w, ep, timeout_ns);
    for (;;) {
        r = progress_keep(ep);
        if (r == 0 && ep->is_lost)
            return smt_ep_lost_fail(ep);
        if (r == 0 && is_drained(ep))
            break;
        if (r == 0)
            r = waiter_idle(&w);
        if (r == SMT_ETIMEDOUT)
            return smt_fail_static(ep->ctx, r, "work remains: peers have not answered everything");
        if (r < 0)
            return r;
    }
    for (struct smt_list *it = ep->sessions.next; it != &ep->sessions; it = it->next)
        (void)smt_session_close(SMT_CONTAINER_OF(it, struct smt_session, node));
    smt_ep_transmit(ep);
    return 0;
}
