/* The device `ud`: RDMA verbs with UD queue pairs, on any RDMA NIC and on Soft-RoCE.
 *
 * Owns opening and closing, sleeping and what the device tells of itself by asynchronous events.
 * Queue pairs and memory are ud_qp.c's, the data path ud_tx.c's and ud_rx.c's, peers and how they
 * are found ud_peers.c's.
 *
 * The descriptor to sleep on is an epoll set: the completion channel, the device's events and its
 * file, and the socket of the resolve exchange. Whoever polls without sleeping has them looked at
 * every so many calls of rx, by one system call. Sleeping is drain, arm, drain: a completion that
 * came before the queue was armed raises no event, so the queue is looked at once more after it. An
 * armed queue stays armed until its event has been read, however much was polled meanwhile. */
#include "dev/ud.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/link.h"
#include "dev/machine.h"
#include "dev/ud_env.h"
#include "dev/ud_node.h"

enum { RELEASE_MS = 20, MARK_MS = 100 };

enum source {
    SOURCE_CHANNEL,
    SOURCE_EVENTS,
    SOURCE_RESOLVE,
    SOURCE_NODE,
    SOURCE_TIMER, /* joins when it is first needed */
    N_SOURCES
};

void smt_ud_lose(struct smt_ud *d, const char *why)
{
    if (d->is_lost)
        return;
    d->is_lost = true;
    d->trouble = why;
    smt_dev_tell(&d->base, SMT_DEV_NEWS_LOST);
}

static int fail_system(const struct smt_dev_config *config, const char *what)
{
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM, "%s: %s", what,
                        strerror(errno));
}

static int sleep_init(struct smt_ud *d, const struct smt_dev_config *config)
{
    const struct ibv_context *ctx = d->port.ctx;
    snprintf(d->node, sizeof(d->node), "/dev/infiniband/%s", ctx->device->dev_name);
    d->node_watch = smt_ud_node_watch(d->node, ctx->cmd_fd);
    const int fds[N_SOURCES] = {
        [SOURCE_CHANNEL] = d->channel->fd,
        [SOURCE_EVENTS] = ctx->async_fd,
        [SOURCE_RESOLVE] = smt_ud_peers_fd(d->peers),
        [SOURCE_NODE] = d->node_watch,
        [SOURCE_TIMER] = -1,
    };
    d->epoll_fd = smt_verbs_epoll_open(fds, N_SOURCES);
    return d->epoll_fd < 0 ? fail_system(config, "descriptors of a ud device") : 0;
}

static int peers_init(struct smt_ud *d, const struct smt_dev_config *config)
{
    struct smt_ud_peers_config c = {
        .port = &d->port,
        .pd = d->pd,
        .n_qps = d->n_qps,
        .qkey = d->qkey,
        .udp_port = config->port,
        .number = config->number,
        .share = config->share,
        .now = smt_coarse_now(),
        .error_text = config->error_text,
        .error_text_len = config->error_text_len,
    };
    for (uint32_t i = 0; i < d->n_qps; i++)
        c.qpns[i] = d->qps[i].qp->qp_num;
    int r = smt_ud_peers_open(&c, &d->peers);
    if (r < 0)
        return r;
    uint32_t number = config->share > 1 ? config->number : 0;
    d->tx.imm = htonl(number << 16 | smt_ud_peers_port(d->peers));
    for (uint32_t i = 0; i < d->sizes.tx_depth; i++)
        d->tx.wrs[i].imm_data = d->tx.imm;
    return 0;
}

/* In this order: nothing refers any more to what goes. */
static void ud_close(struct smt_dev *dev)
{
    struct smt_ud *d = smt_ud_of(dev);
    if (d->peers != NULL && !d->is_lost)
        smt_ud_tx_linger(d);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    if (d->node_watch >= 0)
        close(d->node_watch);
    if (d->timer_fd >= 0)
        close(d->timer_fd);
    smt_ud_qps_destroy(d);
    smt_ud_peers_close(d->peers);
    smt_ud_objects_fini(d);
    if (d->port.ctx != NULL)
        smt_ud_port_close(&d->port);
    smt_mem_free(d);
}

static int ud_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    const struct smt_ud_text text = {config->error_text, config->error_text_len};
    int r = smt_ud_env_fork(text);
    if (r < 0)
        return r;
    struct smt_ud *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                            "no memory for a ud device");
    smt_dev_init(&d->base, &smt_ud_ops);
    d->epoll_fd = d->node_watch = d->timer_fd = -1;
    r = smt_ud_port_open(config, &d->port);
    if (r < 0) {
        smt_mem_free(d);
        return r;
    }
    d->mtu = d->port.mtu;
    d->n_qps = d->port.spec.n_qps;
    r = smt_ud_objects_init(d, config);
    if (r == 0)
        r = peers_init(d, config);
    if (r == 0)
        r = sleep_init(d, config);
    if (r < 0) {
        ud_close(&d->base);
        return r;
    }
    d->now = smt_coarse_now();
    d->countdown = 1;
    *out = &d->base;
    return 0;
}

static void port_changed(struct smt_ud *d)
{
    if (smt_ud_port_refresh(&d->port) < 0) {
        smt_ud_lose(d, "the RDMA device does not answer any more");
        return;
    }
    /* Receive buffers hold what was the MTU at opening; peers must not be told more. */
    if (d->port.mtu > d->mtu)
        d->port.mtu = d->mtu;
    smt_ud_peers_refresh(d->peers);
}

static void qp_failed(struct smt_ud *d, const struct ibv_qp *qp)
{
    for (uint32_t i = 0; i < d->n_qps; i++) {
        if (d->qps[i].qp == qp)
            d->qps[i].is_suspect = true;
    }
}

static bool event_take(void *arg, const struct ibv_async_event *ev)
{
    struct smt_ud *d = arg;
    switch (ev->event_type) {
    case IBV_EVENT_DEVICE_FATAL:
        smt_ud_lose(d, "the RDMA device has failed or was removed");
        break;
    case IBV_EVENT_CQ_ERR: /* completions are lost, and buffers with them */
        smt_ud_break(d, "a completion queue of the RDMA device has failed");
        break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
        qp_failed(d, ev->element.qp);
        break;
    case IBV_EVENT_PORT_ERR:
    case IBV_EVENT_PORT_ACTIVE:
        if (ev->element.port_num != d->port.number)
            break;
        smt_dev_tell(&d->base, ev->event_type == IBV_EVENT_PORT_ERR ? SMT_DEV_NEWS_PORT_DOWN
                                                                    : SMT_DEV_NEWS_PORT_UP);
        port_changed(d);
        break;
    case IBV_EVENT_GID_CHANGE:
    case IBV_EVENT_LID_CHANGE:
    case IBV_EVENT_PKEY_CHANGE:
    case IBV_EVENT_SM_CHANGE:
    case IBV_EVENT_CLIENT_REREGISTER:
        if (ev->element.port_num == d->port.number)
            port_changed(d);
        break;
    default:
        break;
    }
    return !d->is_lost;
}

static void events_look(struct smt_ud *d)
{
    if (!smt_verbs_events_take(d->port.ctx, event_take, d))
        smt_ud_lose(d, "the RDMA device does not tell its events any more");
}

/* Has everything completed that was posted before the mark? A queue pair that has nothing to send
 * any more would never say so by itself. */
static bool mark_is_passed(struct smt_ud *d)
{
    struct smt_ud_tx *tx = &d->tx;
    bool is_passed = true;
    for (uint32_t i = 0; i < d->n_qps && tx->mark > 0; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        if ((int32_t)(q->done - tx->mark_posted[i]) >= 0)
            continue;
        is_passed = false;
        if (!q->is_marked && d->now - tx->marked_at >= MARK_MS * SMT_MSEC) {
            q->is_marked = true;
            smt_ud_tx_hasten(d, q);
        }
    }
    return is_passed;
}

/* Address handles that were replaced: when every packet that was posted before a mark has
 * completed, those that were replaced before the mark are nobody's; for what waited at the mark has
 * looked for its route again. Counting what waits as well would not do: held packets go in front of
 * it, and a queue pair that starts anew loses count. */
static void handles_reap(struct smt_ud *d)
{
    struct smt_ud_tx *tx = &d->tx;
    if (!mark_is_passed(d))
        return;
    smt_ud_peers_reap(d->peers, tx->mark + 1, tx->mark);
    smt_ud_tx_reroute(d);
    tx->mark++;
    tx->marked_at = d->now;
    for (uint32_t i = 0; i < d->n_qps; i++) {
        tx->mark_posted[i] = d->qps[i].posted;
        d->qps[i].is_marked = false;
    }
}

/* A readable descriptor after so long; 0: none. */
static bool timer_set(struct smt_ud *d, uint64_t ns)
{
    if (d->timer_fd < 0) {
        struct epoll_event ev = {.events = EPOLLIN, .data.u32 = SOURCE_TIMER};
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (fd < 0)
            return false;
        if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
            close(fd);
            return false;
        }
        d->timer_fd = fd;
    }
    const struct itimerspec spec = {
        .it_value = {.tv_sec = (time_t)(ns / SMT_SEC), .tv_nsec = (long)(ns % SMT_SEC)}};
    return timerfd_settime(d->timer_fd, 0, &spec, NULL) == 0;
}

void smt_ud_look(struct smt_ud *d)
{
    struct epoll_event ready[N_SOURCES];
    d->now = smt_coarse_now();
    d->looked_at = d->now;
    smt_ud_run_end(&d->tx);
    int n = epoll_wait(d->epoll_fd, ready, N_SOURCES, 0);
    for (int i = 0; i < n; i++) {
        switch (ready[i].data.u32) {
        case SOURCE_CHANNEL:
            smt_verbs_channel_take(d->channel, d->watches, SMT_ARRAY_LEN(d->watches));
            break;
        case SOURCE_EVENTS:
            events_look(d);
            break;
        case SOURCE_TIMER:
            (void)timer_set(d, 0); /* it has expired, and is not to be read any more */
            break;
        case SOURCE_NODE:
            if (smt_ud_node_is_gone(d->node_watch, d->node, d->port.ctx->cmd_fd))
                smt_ud_lose(d, "the RDMA device was removed");
            break;
        default:
            (void)smt_ud_tx_ask(d);
            break;
        }
    }
    if (d->is_lost)
        return;
    smt_ud_tx_reap(d);
    if (smt_ud_peers_n_retired(d->peers) > 0)
        handles_reap(d);
    if (d->tx.held.n > 0 && d->now - d->released_at >= RELEASE_MS * SMT_MSEC) {
        d->released_at = d->now;
        smt_ud_tx_release(d);
    }
    /* A full network is met again at the next flush. */
    if (d->tx.n_batch > 0)
        (void)smt_ud_tx_flush(&d->base);
}

static uint32_t ud_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_ud *d = smt_ud_of(dev);
    uint32_t mtu = smt_ud_peers_mtu(d->peers, to);
    return mtu < d->mtu ? mtu : d->mtu;
}

static int ud_fd(struct smt_dev *dev)
{
    return smt_ud_of(dev)->epoll_fd;
}

static bool cq_arm(struct smt_ud *d, enum smt_ud_watch watch, struct ibv_cq *cq)
{
    if (smt_verbs_arm(&d->watches[watch], cq))
        return true;
    smt_ud_break(d, "the RDMA device raises no completion events any more");
    return false;
}

/* Is there something to do at once? */
static bool is_busy(struct smt_ud *d)
{
    if (smt_ud_rx_fill(d, SMT_UD_WCS))
        return true;
    if (d->tx.n_batch > 0)
        smt_ud_tx_reap(d);
    for (uint32_t i = 0; i < d->n_qps; i++) {
        if (d->qps[i].is_suspect)
            return true;
    }
    return d->is_lost || smt_ud_tx_has_room(d);
}

/* Nothing can come before the queues are made anew, and that has its time. */
static int broken_arm(struct smt_ud *d)
{
    smt_ud_look(d);
    if (d->is_lost || d->now >= d->rebuild.at)
        return SMT_EBUSY;
    return timer_set(d, d->rebuild.at - d->now) ? 0 : SMT_EBUSY;
}

static int ud_arm(struct smt_dev *dev)
{
    struct smt_ud *d = smt_ud_of(dev);
    if (smt_ud_is_broken(d) && !d->is_lost)
        return broken_arm(d);
    if (d->is_lost || is_busy(d))
        return SMT_EBUSY;
    smt_ud_look(d);
    if (!cq_arm(d, SMT_UD_WATCH_RX, d->rx.cq))
        return SMT_EBUSY;
    /* Completions of sends matter only while packets wait for room. */
    if (d->tx.n_batch > 0 && !cq_arm(d, SMT_UD_WATCH_TX, d->tx.cq))
        return SMT_EBUSY;
    return is_busy(d) ? SMT_EBUSY : 0;
}

static uint16_t ud_port(struct smt_dev *dev)
{
    return smt_ud_peers_port(smt_ud_of(dev)->peers);
}

/* Half of the buffers: a packet takes a whole one however short it is. */
static uint32_t ud_link_mbps(struct smt_dev *dev)
{
    const struct smt_ud_port *port = &smt_ud_of(dev)->port;
    return port->is_ib || port->ifname[0] == '\0' ? port->mbps : smt_link_mbps(port->ifname);
}

static uint32_t ud_rx_capacity(struct smt_dev *dev)
{
    const struct smt_ud *d = smt_ud_of(dev);
    return d->n_qps * d->sizes.rx_depth * d->mtu / 2;
}

static void ud_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    *out = smt_ud_of(dev)->stats;
}

static const char *ud_why(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_ud *d = smt_ud_of(dev);
    if (to == NULL)
        return d->trouble;
    return smt_ud_peers_explain(d->peers, to, d->why, sizeof(d->why)) ? d->why : NULL;
}

static const char *ud_note(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_ud *d = smt_ud_of(dev);
    return smt_ud_peers_note(d->peers, to, d->why, sizeof(d->why)) ? d->why : NULL;
}

const struct smt_dev_ops smt_ud_ops = {
    .name = "ud",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_UD | SMT_DEV_CAP_SHARE,
    .open = ud_open,
    .close = ud_close,
    .tx_reserve = smt_ud_tx_reserve,
    .tx_unreserve = smt_ud_tx_unreserve,
    .tx_flush = smt_ud_tx_flush,
    .rx = smt_ud_rx,
    .mtu = ud_mtu,
    .fd = ud_fd,
    .arm = ud_arm,
    .port = ud_port,
    .rx_capacity = ud_rx_capacity,
    .link_mbps = ud_link_mbps,
    .stats = ud_stats,
    .why = ud_why,
    .note = ud_note,
};
