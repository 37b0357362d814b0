/* An endpoint in a libevent loop, on public headers only.
 *
 * One persistent read event on the endpoint's descriptor, and one that smt_event_kick makes active.
 * Each run polls until nothing is left, arms and goes back to the base; after a bounded number of
 * rounds it makes itself active instead, so that a busy endpoint does not starve the base's other
 * events.
 *
 * A callback may detach, and then close the endpoint. What had already been taken out of the
 * endpoint would be lost, so detach hands it out first, from inside: when it returns, nothing of
 * the endpoint is in our hands. */
#include <smt/event.h>

#include <stdbool.h>
#include <stdlib.h>

enum { BATCH = 64, MAX_ROUNDS = 16 };

struct smt_event_loop {
    struct smt_ep *ep;
    smt_event_fn fn;
    void *arg;
    struct event *readable, *kick;
    bool running; /* loop_run is on the stack: it frees us */
    bool detached;
    bool stopped;
    unsigned next, n; /* events[next … n-1] are taken and not yet handed out */
    struct smt_event events[BATCH];
};

static void loop_free(struct smt_event_loop *loop)
{
    if (loop->readable != NULL)
        event_free(loop->readable);
    if (loop->kick != NULL)
        event_free(loop->kick);
    free(loop);
}

static void hand_out(struct smt_event_loop *loop)
{
    while (loop->next < loop->n) {
        const struct smt_event ev = loop->events[loop->next++];
        loop->fn(loop->ep, &ev, loop->arg);
    }
}

/* The endpoint cannot go on (its device died, or this is a forked child). */
static void loop_stop(struct smt_event_loop *loop, int code)
{
    loop->stopped = true;
    event_del(loop->readable);
    event_del(loop->kick);
    const struct smt_event ev = {.type = SMT_EV_NONE, .error = code};
    loop->fn(loop->ep, &ev, loop->arg);
}

/* One turn: true when there may be more to do at once. */
static bool loop_turn(struct smt_event_loop *loop)
{
    int n = smt_poll(loop->ep, loop->events, BATCH);
    if (n < 0) {
        loop_stop(loop, n);
        return false;
    }
    loop->next = 0;
    loop->n = (unsigned)n;
    hand_out(loop);
    if (loop->detached)
        return false;
    if (n > 0)
        return true;
    int r = smt_arm(loop->ep);
    if (r < 0 && r != SMT_EBUSY)
        loop_stop(loop, r);
    return r == SMT_EBUSY;
}

static void loop_run(evutil_socket_t fd, short what, void *arg)
{
    struct smt_event_loop *loop = arg;
    (void)fd;
    (void)what;
    if (loop->running)
        return; /* a callback runs the base itself */
    loop->running = true;
    bool more = true;
    for (unsigned i = 0; more && i < MAX_ROUNDS; i++)
        more = loop_turn(loop);
    loop->running = false;
    if (loop->detached)
        loop_free(loop);
    else if (more)
        event_active(loop->kick, 0, 0);
}

int smt_event_attach(struct event_base *base, struct smt_ep *ep, smt_event_fn fn, void *arg,
                     struct smt_event_loop **out)
{
    if (out == NULL)
        return SMT_EINVAL;
    *out = NULL;
    if (base == NULL || fn == NULL)
        return SMT_EINVAL;
    int fd = smt_get_fd(ep);
    if (fd < 0)
        return fd;
    struct smt_event_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return SMT_ENOMEM;
    loop->ep = ep;
    loop->fn = fn;
    loop->arg = arg;
    loop->readable = event_new(base, fd, EV_READ | EV_PERSIST, loop_run, loop);
    loop->kick = event_new(base, -1, 0, loop_run, loop);
    if (loop->readable == NULL || loop->kick == NULL || event_add(loop->readable, NULL) < 0) {
        loop_free(loop);
        return SMT_ENOMEM;
    }
    event_active(loop->kick, 0, 0); /* what is there already, and the first arm */
    *out = loop;
    return 0;
}

void smt_event_kick(struct smt_event_loop *loop)
{
    if (loop != NULL && !loop->detached && !loop->stopped)
        event_active(loop->kick, 0, 0);
}

void smt_event_detach(struct smt_event_loop *loop)
{
    if (loop == NULL || loop->detached)
        return;
    loop->detached = true;
    event_del(loop->readable);
    event_del(loop->kick);
    hand_out(loop);
    if (!loop->running)
        loop_free(loop);
}
