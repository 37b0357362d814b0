/* Completion queues and the channels they wake. Completions come in order; knobs hold them back:
 * cqe_delay_us for a time, cqe_batch until that many are there or the time has passed. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "model.h"

static struct mm_cq *cqs;

static struct mm_channel *channel_of(const char *call, struct ibv_comp_channel *ibv)
{
    struct mm_channel *ch = MM_CONTAINER(ibv, struct mm_channel, ibv);
    if (ibv == NULL || ch->kind != MM_CHANNEL)
        mm_die(call, "completion channel: none, or destroyed");
    return ch;
}

struct mm_cq *mm_cq_of(const char *call, struct ibv_cq *cq)
{
    struct mm_cq *c = (struct mm_cq *)(void *)cq;
    if (cq == NULL || c->kind != MM_CQ)
        mm_die(call, "completion queue: none, or destroyed");
    return c;
}

static void watch(int set, int fd)
{
    struct epoll_event e = {.events = EPOLLIN};
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) < 0)
        mm_die("model", "epoll: %s", strerror(errno));
}

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *ctx)
{
    mm_enter();
    struct mm_ctx *c = mm_ctx_of("ibv_create_comp_channel", ctx);
    struct mm_channel *ch = NULL;
    if (c->dev->is_gone) {
        errno = EIO;
    } else {
        ch = calloc(1, sizeof(*ch));
        if (ch == NULL)
            mm_die("model", "out of memory");
        ch->kind = MM_CHANNEL;
        ch->ibv.context = ctx;
        ch->ibv.fd = epoll_create1(EPOLL_CLOEXEC);
        ch->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (ch->ibv.fd < 0 || ch->event_fd < 0)
            mm_die("model", "channel: %s", strerror(errno));
        watch(ch->ibv.fd, ch->event_fd);
        watch(ch->ibv.fd, c->dev->bell_fd);
        watch(ch->ibv.fd, c->dev->timer_fd);
        watch(ch->ibv.fd, c->dev->control_fd);
        c->n_channels++;
    }
    mm_leave();
    return ch != NULL ? &ch->ibv : NULL;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *ibv)
{
    mm_enter();
    struct mm_channel *ch = channel_of("ibv_destroy_comp_channel", ibv);
    int r = 0;
    if (ch->n_cqs > 0) {
        mm_complain("completion channel", "destroyed with %u queues", ch->n_cqs);
        r = EBUSY;
    } else {
        close(ch->event_fd);
        close(ibv->fd);
        ch->kind = MM_DEAD;
        mm_bury(ch);
        mm_ctx_of("ibv_destroy_comp_channel", ibv->context)->n_channels--;
    }
    mm_leave();
    return r;
}

struct ibv_cq *ibv_create_cq(struct ibv_context *ctx, int cqe, void *cq_context,
                             struct ibv_comp_channel *channel, int comp_vector)
{
    mm_enter();
    struct mm_ctx *c = mm_ctx_of("ibv_create_cq", ctx);
    struct mm_cq *cq = NULL;
    if (cqe < 1 || comp_vector != 0)
        mm_complain("ibv_create_cq", "cqe %d, comp_vector %d", cqe, comp_vector);
    if (c->dev->is_gone) {
        errno = EIO;
    } else {
        unsigned size = 1;
        while (size < (unsigned)cqe + 1)
            size *= 2;
        cq = calloc(1, sizeof(*cq));
        struct mm_cqe *ring = calloc(size, sizeof(*ring));
        if (cq == NULL || ring == NULL)
            mm_die("model", "out of memory");
        cq->kind = MM_CQ;
        cq->ring = ring;
        cq->size = size;
        cq->cqn = 1 + (uint32_t)mm_random() % 0xffffff;
        cq->ibv.context = ctx;
        cq->ibv.channel = channel;
        cq->ibv.cq_context = cq_context;
        cq->ibv.cqe = (int)size - 1;
        if (channel != NULL) {
            cq->channel = channel_of("ibv_create_cq", channel);
            cq->channel->n_cqs++;
        }
        cq->next = cqs;
        cqs = cq;
        c->n_cqs++;
    }
    mm_leave();
    return cq != NULL ? ibv_cq_ex_to_cq(&cq->ibv) : NULL;
}

int ibv_destroy_cq(struct ibv_cq *ibv)
{
    mm_enter();
    struct mm_cq *cq = mm_cq_of("ibv_destroy_cq", ibv);
    int r = 0;
    if (cq->n_users > 0) {
        mm_complain("completion queue", "destroyed with %u queues of queue pairs", cq->n_users);
        r = EBUSY;
    } else {
        if (cq->n_unacked > 0)
            mm_complain("completion queue", "%u events not acknowledged", cq->n_unacked);
        struct mm_cq **at = &cqs;
        while (*at != cq)
            at = &(*at)->next;
        *at = cq->next;
        struct mm_channel *ch = cq->channel;
        for (unsigned i = 0, n = ch != NULL ? ch->n_events : 0, kept = 0; i < n; i++) {
            struct mm_cq *other = ch->events[(ch->first_event + i) % MM_MAX_CQ_EVENTS];
            if (other == cq)
                ch->n_events--;
            else
                ch->events[(ch->first_event + kept++) % MM_MAX_CQ_EVENTS] = other;
        }
        if (ch != NULL)
            ch->n_cqs--;
        free(cq->ring);
        cq->kind = MM_DEAD;
        mm_bury(cq);
        mm_ctx_of("ibv_destroy_cq", ibv->context)->n_cqs--;
    }
    mm_leave();
    return r;
}

static struct mm_cqe *cqe_at(struct mm_cq *cq, unsigned i)
{
    return &cq->ring[(cq->first + i) & (cq->size - 1)];
}

static bool is_visible(struct mm_cq *cq, uint64_t now)
{
    if (cq->n == 0)
        return false;
    return cqe_at(cq, 0)->due <= now ||
           (mm_config()->cqe_batch > 1 && cq->n >= mm_config()->cqe_batch);
}

static void event_raise(struct mm_cq *cq)
{
    struct mm_channel *ch = cq->channel;
    cq->is_armed = false;
    if (ch == NULL)
        return;
    if (ch->n_events == MM_MAX_CQ_EVENTS) {
        mm_complain("completion channel", "%d events are not read", MM_MAX_CQ_EVENTS);
        return;
    }
    ch->events[(ch->first_event + ch->n_events++) % MM_MAX_CQ_EVENTS] = cq;
    if (eventfd_write(ch->event_fd, 1) < 0)
        mm_die("model", "eventfd: %s", strerror(errno));
}

void mm_cq_push(struct mm_cq *cq, const struct mm_cqe *cqe)
{
    if (cq->n == cq->size) {
        mm_complain("completion queue", "overrun, it has %u places", cq->size);
        return;
    }
    struct mm_cqe *at = cqe_at(cq, cq->n++);
    *at = *cqe;
    uint64_t wait = mm_config()->cqe_delay_us * 1000;
    if (wait == 0 && mm_config()->cqe_batch > 1)
        wait = 100000;
    at->due = wait == 0 ? 0 : mm_now() + wait;
    at->life = cqe->qp->life;
    mm_stats.cqes++;
    if (cqe->wc.status != IBV_WC_SUCCESS)
        mm_stats.error_cqes++;
    if (wait != 0)
        mm_timer_set(cqe->qp->dev, at->due);
    if (cq->is_armed && is_visible(cq, 0))
        event_raise(cq);
}

uint64_t mm_cq_run(struct mm_dev *dev, uint64_t now)
{
    uint64_t next = UINT64_MAX;
    for (struct mm_cq *cq = cqs; cq != NULL; cq = cq->next) {
        if (mm_ctx_of("cq", cq->ibv.context)->dev != dev || cq->n == 0)
            continue;
        if (is_visible(cq, now)) {
            if (cq->is_armed)
                event_raise(cq);
        } else if (cqe_at(cq, 0)->due < next) {
            next = cqe_at(cq, 0)->due;
        }
    }
    return next;
}

void mm_cq_clean(struct mm_cq *cq, struct mm_qp *qp)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < cq->n; i++) {
        if (cqe_at(cq, i)->qp != qp)
            *cqe_at(cq, kept++) = *cqe_at(cq, i);
    }
    cq->n = kept;
}

int mm_op_poll_cq(struct ibv_cq *ibv, int n, struct ibv_wc *wc)
{
    mm_enter();
    struct mm_cq *cq = mm_cq_of("ibv_poll_cq", ibv);
    mm_pump(mm_ctx_of("ibv_poll_cq", ibv->context)->dev);
    int done = 0;
    uint64_t now = cq->n > 0 && cqe_at(cq, 0)->due != 0 ? mm_now() : 0;
    while (done < n && is_visible(cq, now)) {
        struct mm_cqe *e = cqe_at(cq, 0);
        if (e->life == e->qp->life) {
            e->qp->used_wrs -= e->n_wrs;
            e->qp->used_bbs -= e->n_bbs;
        }
        wc[done++] = e->wc;
        cq->first = (cq->first + 1) & (cq->size - 1);
        cq->n--;
    }
    mm_leave();
    return done;
}

int mm_op_req_notify_cq(struct ibv_cq *ibv, int solicited_only)
{
    mm_enter();
    struct mm_cq *cq = mm_cq_of("ibv_req_notify_cq", ibv);
    (void)solicited_only;
    if (cq->channel == NULL)
        mm_complain("ibv_req_notify_cq.cq", "has no completion channel");
    /* What is there already makes no event on most devices: drain, arm, drain. */
    cq->is_armed = true;
    mm_leave();
    return 0;
}

int ibv_get_cq_event(struct ibv_comp_channel *ibv, struct ibv_cq **cq, void **cq_context)
{
    mm_enter();
    struct mm_channel *ch = channel_of("ibv_get_cq_event", ibv);
    int r = -1;
    struct mm_dev *dev = mm_ctx_of("ibv_get_cq_event", ibv->context)->dev;
    for (;;) {
        mm_inject_read(dev);
        mm_pump(dev);
        if (ch->n_events > 0) {
            struct mm_cq *c = ch->events[ch->first_event];
            ch->first_event = (ch->first_event + 1) % MM_MAX_CQ_EVENTS;
            if (--ch->n_events == 0) {
                eventfd_t drained;
                if (eventfd_read(ch->event_fd, &drained) < 0)
                    mm_die("model", "eventfd: %s", strerror(errno));
            }
            c->n_unacked++;
            *cq = ibv_cq_ex_to_cq(&c->ibv);
            *cq_context = c->ibv.cq_context;
            r = 0;
            break;
        }
        int fd = ibv->fd;
        int flags = fcntl(fd, F_GETFL);
        if (flags < 0 || flags & O_NONBLOCK) {
            errno = EAGAIN;
            break;
        }
        mm_leave();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int n = poll(&p, 1, -1);
        mm_enter();
        if (n < 0)
            break;
    }
    mm_leave();
    return r;
}

void ibv_ack_cq_events(struct ibv_cq *ibv, unsigned int n)
{
    mm_enter();
    struct mm_cq *cq = mm_cq_of("ibv_ack_cq_events", ibv);
    if (n > cq->n_unacked)
        mm_complain("ibv_ack_cq_events.nevents", "%u, there are %u", n, cq->n_unacked);
    else
        cq->n_unacked -= n;
    mm_leave();
}
