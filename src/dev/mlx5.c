/* The device `mlx5`: raw packets of a ConnectX, and records that the NIC seals.
 *
 * Owns opening and closing, sleeping, what the device tells of itself by asynchronous events, and
 * the row. The descriptor to sleep on is an epoll set: completion channel, the device's events, the
 * kernel's tables of routes and neighbours. As with `ud`, sleeping is drain, arm, drain, and who
 * polls has the rare things looked at every so many calls of rx. */
#include "dev/mlx5.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/ip_claim.h"
#include "dev/link.h"
#include "dev/machine.h"
#include "dev/mlx5_report.h"
#include "dev/ud_env.h"

enum { LEAST_MTU = 1280 };

enum source {
    SOURCE_CHANNEL,
    SOURCE_EVENTS,
    SOURCE_ROUTES,
    SOURCE_REPORTS, /* one for each family, where packets go without UDP */
    N_SOURCES = SOURCE_REPORTS + SMT_IP_HOLD_SOCKETS,
};

void smt_mlx5_lose(struct smt_mlx5 *d, const char *why)
{
    if (d->is_lost)
        return;
    d->is_lost = true;
    d->why_lost = why;
    smt_dev_tell(&d->base, SMT_DEV_NEWS_LOST);
}

int smt_mlx5_fail_create(const struct smt_mlx5 *d, const struct smt_dev_config *config,
                         const char *what, int error)
{
    const struct smt_ud_text text = {config->error_text, config->error_text_len};
    if (error == -EPERM)
        return smt_dev_fail(text.text, text.len, SMT_EPERM,
                            "%s: not allowed to make a %s: raw packets need CAP_NET_RAW (setcap "
                            "cap_net_raw+ep PROGRAM; docker run --cap-add=NET_RAW)",
                            d->port.devname, what);
    return smt_ud_env_create(text, d->port.devname, what, -error, d->rx.mem_len + d->tx.mem_len);
}

static int fail_system(const struct smt_dev_config *config, const char *what)
{
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM, "%s: %s", what,
                        strerror(errno));
}

static int sleep_init(struct smt_mlx5 *d, const struct smt_dev_config *config)
{
    const int fds[N_SOURCES] = {
        [SOURCE_CHANNEL] = d->channel->fd,
        [SOURCE_EVENTS] = d->port.ctx->async_fd,
        [SOURCE_ROUTES] = smt_mlx5_peers_fd(d->peers),
        [SOURCE_REPORTS] = d->hold.fds[0],
        [SOURCE_REPORTS + 1] = d->hold.fds[1],
    };
    d->epoll_fd = smt_verbs_epoll_open(fds, N_SOURCES);
    return d->epoll_fd < 0 ? fail_system(config, "descriptors of an mlx5 device") : 0;
}

/* In this order: nothing refers any more to what goes. */
static void mlx5_close(struct smt_dev *dev)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    if (d->tx.sq.qp != NULL && !d->is_lost)
        smt_mlx5_tx_linger(d);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    smt_mlx5_seal_close(d);
    smt_mlx5_rx_stop(d);
    smt_verbs_watch_end(&d->watches[SMT_MLX5_WATCH_TX]);
    smt_mlx5_tx_fini(d);
    smt_mlx5_rx_fini(d);
    smt_mlx5_peers_free(d->peers);
    smt_ip_hold_close(&d->hold);
    if (d->channel != NULL)
        (void)ibv_destroy_comp_channel(d->channel);
    if (d->pd != NULL)
        (void)ibv_dealloc_pd(d->pd);
    smt_mlx5_port_close(&d->port);
    smt_mem_free(d);
}

/* The port, from the kernel or, where packets go without UDP, from the other endpoints. */
static int port_take(struct smt_mlx5 *d, const struct smt_dev_config *config)
{
    int r = smt_mlx5_peers_new(config, &d->port, &d->by, &d->peers);
    if (r < 0 || smt_mlx5_is_udp(d)) {
        d->own_port = r < 0 ? 0 : smt_mlx5_peers_port(d->peers);
        return r;
    }
    if (smt_ip_kernel_speaks_homa())
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EADDRINUSE,
                            "this machine's kernel speaks Homa itself and would get no packets any "
                            "more: unload its module");
    bool is_bound = config->bind_host != NULL && d->port.n_addrs == 1;
    r = smt_ip_hold_open(&d->hold, config, d->by.protocol, is_bound ? &d->port.addrs[0] : NULL);
    d->own_port = d->hold.port;
    return r;
}

static int objects_init(struct smt_mlx5 *d, const struct smt_dev_config *config)
{
    d->pd = ibv_alloc_pd(d->port.ctx);
    if (d->pd == NULL)
        return smt_mlx5_fail_create(d, config, "protection domain", -errno);
    d->channel = ibv_create_comp_channel(d->port.ctx);
    if (d->channel == NULL)
        return smt_mlx5_fail_create(d, config, "completion channel", -errno);
    int r = smt_mlx5_rx_init(d, config);
    if (r == 0)
        r = smt_mlx5_tx_init(d, config);
    if (r == 0)
        r = port_take(d, config);
    if (r == 0)
        r = smt_mlx5_rx_start(d, config);
    if (r == 0)
        r = smt_mlx5_seal_open(d, config);
    return r;
}

static struct smt_mlx5_carrier carrier_of(const struct smt_dev_config *config)
{
    struct smt_mlx5_carrier by = smt_mlx5_by_udp;
    if (config->ip_protocol == 0)
        return by;
    by.protocol = config->ip_protocol;
    if (config->ip_class_shift != 0)
        by.ipv6_class_shift = config->ip_class_shift;
    if (config->no_ecn)
        by.ecn = 0;
    return by;
}

static int mlx5_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    struct smt_mlx5 *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                            "no memory for an mlx5 device");
    smt_dev_init(&d->base, &smt_mlx5_ops);
    d->epoll_fd = -1;
    smt_ip_hold_init(&d->hold);
    d->by = carrier_of(config);
    int r = smt_mlx5_port_open(config, &d->port);
    if (r < 0) {
        smt_mem_free(d);
        return r;
    }
    d->mtu = d->port.link.mtu;
    d->now = smt_coarse_now();
    r = d->mtu < LEAST_MTU ? smt_dev_fail(config->error_text, config->error_text_len, SMT_EMTU,
                                          "%s: %s carries %u bytes a packet, %d are needed",
                                          d->port.devname, d->port.link.name, d->mtu, LEAST_MTU)
                           : objects_init(d, config);
    if (r == 0)
        r = sleep_init(d, config);
    if (r < 0) {
        mlx5_close(&d->base);
        return r;
    }
    if (d->seal == NULL)
        d->base.own.caps &= ~(uint32_t)SMT_DEV_CAP_NIC_SEAL;
    bool has_bursts = smt_mlx5_is_udp(d);
    if (!has_bursts)
        d->base.own.caps &= ~(uint32_t)SMT_DEV_CAP_BURST;
    if (!has_bursts || !d->port.spec.cuts_bursts ||
        smt_mlx5_max_tso(&d->port.attr) < SMT_MLX5_BIG_LEN)
        d->base.own.tx_burst = NULL;
    d->countdown = 1;
    *out = &d->base;
    return 0;
}

/* ---- events ---- */

static void port_changed(struct smt_mlx5 *d, bool is_up)
{
    if (smt_mlx5_port_refresh(&d->port) < 0) {
        smt_mlx5_lose(d, "the mlx5 device does not answer any more");
        return;
    }
    smt_dev_tell(&d->base, is_up ? SMT_DEV_NEWS_PORT_UP : SMT_DEV_NEWS_PORT_DOWN);
}

static bool event_take(void *arg, const struct ibv_async_event *ev)
{
    struct smt_mlx5 *d = arg;
    switch (ev->event_type) {
    case IBV_EVENT_DEVICE_FATAL:
        smt_mlx5_lose(d, "the mlx5 device has failed or was removed");
        break;
    case IBV_EVENT_PORT_ACTIVE:
        port_changed(d, true);
        break;
    case IBV_EVENT_PORT_ERR:
        port_changed(d, false);
        break;
    case IBV_EVENT_CQ_ERR:
        smt_mlx5_lose(d, "a completion queue of the mlx5 device has failed");
        break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
        if (ev->element.qp == d->tx.sq.qp)
            d->tx.sq.is_suspect = true;
        else
            smt_mlx5_seal_suspect(d);
        break;
    default:
        break;
    }
    return !d->is_lost;
}

static void events_look(struct smt_mlx5 *d)
{
    if (!smt_verbs_events_take(d->port.ctx, event_take, d))
        smt_mlx5_lose(d, "the mlx5 device does not tell its events any more");
}

void smt_mlx5_look(struct smt_mlx5 *d)
{
    struct epoll_event ready[N_SOURCES];
    d->now = d->looked_at = smt_coarse_now();
    int n = epoll_wait(d->epoll_fd, ready, N_SOURCES, 0);
    for (int i = 0; i < n; i++) {
        if (ready[i].data.u32 == SOURCE_CHANNEL)
            smt_verbs_channel_take(d->channel, d->watches, SMT_ARRAY_LEN(d->watches));
        else if (ready[i].data.u32 == SOURCE_EVENTS)
            events_look(d);
        else if (ready[i].data.u32 >= SOURCE_REPORTS)
            d->hold.has_reports = true;
        else if (smt_mlx5_peers_changed(d->peers))
            smt_mlx5_rx_follow(d);
    }
    smt_mlx5_tx_reroute(d);
    if (d->is_lost)
        return;
    if (d->tx.held.n > 0)
        smt_mlx5_tx_release(d);
    smt_mlx5_tx_reap(d);
    smt_mlx5_seal_reap(d);
    /* A full network is met again at the next flush. */
    if (d->tx.n_batch > 0 || smt_mlx5_seal_is_waiting(d))
        (void)smt_mlx5_tx_flush(&d->base);
}

static bool cq_arm(struct smt_mlx5 *d, enum smt_mlx5_watch watch, struct ibv_cq *cq)
{
    if (smt_verbs_arm(&d->watches[watch], cq))
        return true;
    smt_mlx5_lose(d, "the mlx5 device raises no completion events any more");
    return false;
}

/* Is there something to do at once? */
static bool is_busy(struct smt_mlx5 *d)
{
    smt_mlx5_tx_reap(d);
    smt_mlx5_seal_reap(d);
    return d->is_lost || smt_mlx5_rx_is_waiting(d) || d->tx.sq.is_suspect ||
           smt_mlx5_tx_has_room(d) || smt_mlx5_seal_has_room(d);
}

static int mlx5_arm(struct smt_dev *dev)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    if (d->is_lost || is_busy(d))
        return SMT_EBUSY;
    smt_mlx5_look(d);
    if (!cq_arm(d, SMT_MLX5_WATCH_RX, d->rx.cq))
        return SMT_EBUSY;
    /* Completions of sends matter while something waits for room; those of the sealing queue also
     * because an error there must be seen before the next record. */
    if (d->tx.n_batch > 0 && !cq_arm(d, SMT_MLX5_WATCH_TX, d->tx.cq))
        return SMT_EBUSY;
    if (d->seal != NULL && !cq_arm(d, SMT_MLX5_WATCH_SEAL, smt_mlx5_seal_cq(d)))
        return SMT_EBUSY;
    return is_busy(d) ? SMT_EBUSY : 0;
}

static int mlx5_fd(struct smt_dev *dev)
{
    return smt_mlx5_of(dev)->epoll_fd;
}

/* ---- what it says ---- */

static uint32_t mlx5_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    uint32_t link = d->mtu - smt_mlx5_headers_len(&d->by, smt_addr_is_ipv4(to));
    const struct smt_mlx5_peer *peer = smt_mlx5_peers_get(d->peers, to, d->now);
    return peer != NULL && peer->mtu > 0 && peer->mtu < link ? peer->mtu : link;
}

static uint16_t mlx5_port(struct smt_dev *dev)
{
    return smt_mlx5_of(dev)->own_port;
}

/* What the driver says of its Ethernet ports by verbs is true, unlike a software provider's. */
static uint32_t mlx5_link_mbps(struct smt_dev *dev)
{
    const struct smt_mlx5_port *port = &smt_mlx5_of(dev)->port;
    uint32_t mbps = smt_link_mbps(port->link.name);
    return mbps > 0 ? mbps : port->mbps;
}

/* Half of the buffers: a packet takes a whole one however short it is. */
static uint32_t mlx5_rx_capacity(struct smt_dev *dev)
{
    const struct smt_mlx5 *d = smt_mlx5_of(dev);
    return d->rx.depth * d->mtu / 2;
}

static void mlx5_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    *out = smt_mlx5_of(dev)->stats;
}

static const char *mlx5_why(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    if (to == NULL)
        return d->why_lost;
    const struct smt_mlx5_peer *peer = smt_mlx5_peers_get(d->peers, to, d->now);
    return peer != NULL && peer->mtu == 0 ? peer->why : NULL;
}

static int mlx5_refused(struct smt_dev *dev, struct smt_addr *to, int *error)
{
    return smt_ip_hold_refused(&smt_mlx5_of(dev)->hold, to, error);
}

static const char *mlx5_seals(struct smt_dev *dev)
{
    const struct smt_mlx5 *d = smt_mlx5_of(dev);
    return d->seal != NULL ? NULL : d->no_seal;
}

const struct smt_dev_ops smt_mlx5_ops = {
    .name = "mlx5",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_NIC_SEAL | SMT_DEV_CAP_BURST | SMT_DEV_CAP_EXACT |
            SMT_DEV_CAP_UDP | SMT_DEV_CAP_RAW,
    .open = mlx5_open,
    .close = mlx5_close,
    .tx_reserve = smt_mlx5_tx_reserve,
    .tx_unreserve = smt_mlx5_tx_unreserve,
    .tx_burst = smt_mlx5_tx_burst,
    .tx_flush = smt_mlx5_tx_flush,
    .sealer = smt_mlx5_sealer,
    .why_no_seal = mlx5_seals,
    .rx = smt_mlx5_rx,
    .mtu = mlx5_mtu,
    .fd = mlx5_fd,
    .arm = mlx5_arm,
    .port = mlx5_port,
    .rx_capacity = mlx5_rx_capacity,
    .link_mbps = mlx5_link_mbps,
    .stats = mlx5_stats,
    .why = mlx5_why,
    .refused = mlx5_refused,
    .report = smt_mlx5_report,
};
