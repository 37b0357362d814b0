/* What `ud` and `mlx5` have in common of waiting. Events of completion queues are acknowledged many
 * at a time, since each acknowledgement takes a lock; destroying a queue waits for those that were
 * not. */
#include "dev/verbs_sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { ACK_AT = 64 };

static bool nonblocking_set(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

int smt_verbs_epoll_open(const int *fds, unsigned n)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < n && set >= 0; i++) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
        if (fds[i] < 0 ||
            (nonblocking_set(fds[i]) && epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &ev) == 0))
            continue;
        int error = errno;
        close(set);
        errno = error;
        set = -1;
    }
    return set;
}

bool smt_verbs_arm(struct smt_verbs_watch *w, struct ibv_cq *cq)
{
    if (w->is_armed)
        return true;
    w->cq = cq;
    w->is_armed = ibv_req_notify_cq(cq, 0) == 0;
    return w->is_armed;
}

static bool any_is_armed(const struct smt_verbs_watch *ws, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (ws[i].is_armed)
            return true;
    }
    return false;
}

void smt_verbs_channel_take(struct ibv_comp_channel *channel, struct smt_verbs_watch *ws,
                            unsigned n)
{
    struct ibv_cq *cq;
    void *context;
    while (ibv_get_cq_event(channel, &cq, &context) == 0) {
        unsigned i = 0;
        while (i < n && ws[i].cq != cq)
            i++;
        assert(i < n);
        ws[i].is_armed = false;
        if (++ws[i].n_events >= ACK_AT)
            smt_verbs_watch_end(&ws[i]);
        if (!any_is_armed(ws, n))
            break; /* one event for each time of arming */
    }
}

void smt_verbs_watch_end(struct smt_verbs_watch *w)
{
    if (w->n_events > 0)
        ibv_ack_cq_events(w->cq, w->n_events);
    w->n_events = 0;
}

bool smt_verbs_events_take(struct ibv_context *ctx,
                           bool (*take)(void *arg, const struct ibv_async_event *ev), void *arg)
{
    struct ibv_async_event ev;
    bool goes_on = true;
    while (goes_on && ibv_get_async_event(ctx, &ev) == 0) {
        goes_on = take(arg, &ev);
        ibv_ack_async_event(&ev);
    }
    return !goes_on || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}
