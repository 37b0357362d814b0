/* The device `af`: Ethernet frames by a packet socket, on the wire the same as `udp`.
 *
 * A device around a `udp` device: that one holds the port, and carries what the ring cannot (other
 * links, this machine, hops that nobody has resolved). Owns opening, sleeping and the report; the
 * other parts are in af_*.c. Where there can be no ring, `af` is `udp` with one more call, and says
 * why. Peers cannot tell the two apart. */
#include "dev/af.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <smt/error.h>

#include "base/mem.h"
#include "dev/udp.h"

enum { RX_CAPACITY_SLOT = 4 << 10 }; /* what slots hold, some full, some with a packet each */

static int spec_parse(const struct smt_dev_config *config, char *ifname, size_t len)
{
    const char *colon = strchr(config->spec, ':');
    ifname[0] = '\0';
    if (config->spec[strcspn(config->spec, ":,")] == ',')
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EINVAL,
                            "the device af has no options, as in \"%.60s\"", config->spec);
    if (colon == NULL)
        return 0;
    size_t n = strlen(colon + 1);
    if (n == 0 || n >= len)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENODEV,
                            "\"%.60s\" names no network interface", config->spec);
    memcpy(ifname, colon + 1, n + 1);
    return 0;
}

static void af_close(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    smt_af_ring_close(d);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    if (d->nl >= 0)
        close(d->nl);
    if (d->slots != NULL)
        smt_mem_unmap(d->slots, d->slots_len);
    if (d->udp != NULL)
        d->udp->ops->close(d->udp);
    smt_mem_free(d);
}

/* The UDP socket inside, and the address it is bound to. */
static int holder_open(struct smt_af *d, const struct smt_dev_config *config)
{
    struct smt_dev_config inner = *config;
    inner.spec = smt_udp_ops.name;
    inner.tap = NULL;
    int r = smt_udp_ops.open(&inner, &d->udp);
    if (r < 0)
        return r;
    d->port = d->udp->ops->port(d->udp);
    d->share = config->share;
    struct smt_addr bound;
    if (config->bind_host != NULL) {
        r = smt_dev_resolve(config->bind_host, d->port, &bound, 1);
        if (r < 0)
            return r;
        static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff}, any6[16];
        d->has_bound_ip =
            memcmp(bound.ip, any4, sizeof(any4)) != 0 && memcmp(bound.ip, any6, sizeof(any6)) != 0;
        memcpy(d->bound_ip, bound.ip, sizeof(d->bound_ip));
    }
    return 0;
}

/* All that a ring needs, or SMT_EUNSUPPORTED with the reason in d->text. */
static int ring_begin(struct smt_af *d, const char *ifname)
{
    d->nl = smt_route_open();
    if (d->nl < 0) {
        snprintf(d->text, sizeof(d->text), "af: no netlink socket; packets go by UDP sockets");
        return SMT_EUNSUPPORTED;
    }
    int r = smt_af_link_choose(d, ifname);
    if (r < 0)
        return r;
    d->slots_len = (size_t)SMT_SUPER_FRAMES * SMT_AF_SLOT + SMT_AF_BIG;
    d->slots = smt_mem_map(d->slots_len);
    if (d->slots == NULL)
        return SMT_ENOMEM;
    smt_af_tx_init(d);
    d->rx.big = d->slots + (size_t)SMT_SUPER_FRAMES * SMT_AF_SLOT;
    r = smt_af_ring_open(d);
    if (r < 0)
        return r;
    snprintf(d->text, sizeof(d->text), "af: ring on %.15s", d->link.name);
    d->has_ring = true;
    return 0;
}

static int watch_begin(struct smt_af *d)
{
    struct epoll_event ev = {.events = EPOLLIN};
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0)
        return -1;
    return epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, d->udp->ops->fd(d->udp), &ev);
}

static int af_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    char ifname[16];
    int r = spec_parse(config, ifname, sizeof(ifname));
    if (r < 0)
        return r;
    struct smt_af *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                            "no memory for an AF_PACKET device");
    smt_dev_init(&d->base, &smt_af_ops);
    d->fd = d->nl = d->epoll_fd = -1;
    r = holder_open(d, config);
    if (r < 0)
        goto err_close;
    r = ring_begin(d, ifname);
    if (r == SMT_ENODEV)
        r = smt_dev_fail(config->error_text, config->error_text_len, r,
                         "no network interface \"%s\" on this machine", ifname);
    else if (r < 0 && r != SMT_EUNSUPPORTED)
        r = smt_dev_fail(config->error_text, config->error_text_len, r,
                         "AF_PACKET device: %s", smt_strerror(r));
    if (r < 0 && r != SMT_EUNSUPPORTED)
        goto err_close;
    if (watch_begin(d) < 0) {
        r = smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                         "AF_PACKET device: %s", strerror(errno));
        goto err_close;
    }
    *out = &d->base;
    return 0;

err_close:
    af_close(&d->base);
    return r;
}

static uint32_t af_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    uint32_t mtu = d->udp->ops->mtu(d->udp, to);
    if (d->has_ring)
        smt_af_path_mtu_seen(d, to, mtu);
    return mtu;
}

static int af_fd(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_af, base)->epoll_fd;
}

/* An error of the packet socket (its link went down) stays readable until it is asked for. */
static void error_clear(const struct smt_af *d)
{
    int error;
    socklen_t len = sizeof(error);
    (void)getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len);
}

static int af_arm(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    if (d->has_ring) {
        smt_af_rx_release(d);
        if (smt_af_rx_pending(d))
            return SMT_EBUSY;
        error_clear(d);
        d->rx.n_unarmed = 0;
        struct epoll_event ev = {.events = EPOLLIN | (d->tx.super.n > 0 ? EPOLLOUT : 0)};
        if (ev.events != d->watched) {
            int op = d->watched != 0 ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
            if (epoll_ctl(d->epoll_fd, op, d->fd, &ev) < 0)
                return SMT_EBUSY;
            d->watched = ev.events;
        }
    }
    return d->udp->ops->arm(d->udp);
}

void smt_af_unwatch(struct smt_af *d)
{
    struct epoll_event ev = {0};
    if (epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, d->fd, &ev) == 0)
        d->watched = 0;
    d->rx.n_unarmed = 0;
}

static uint16_t af_port(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_af, base)->port;
}

static uint32_t af_rx_capacity(struct smt_dev *dev)
{
    const struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    uint32_t by_socket = d->udp->ops->rx_capacity(d->udp);
    uint32_t by_ring = SMT_AF_RING_SLOTS * RX_CAPACITY_SLOT;
    return d->has_ring && by_ring < by_socket ? by_ring : by_socket;
}

static void af_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    d->udp->ops->stats(d->udp, out);
    if (!d->has_ring)
        return;
    /* What the socket's filter drops the kernel counts as well: the ring has had it. */
    out->rx_dropped = SMT_CONTAINER_OF(d->udp, struct smt_udp, base)->stats.rx_dropped;
    d->stats.rx_dropped += smt_af_ring_drops(d);
    out->tx_packets += d->stats.tx_packets;
    out->tx_bytes += d->stats.tx_bytes;
    out->tx_frames += d->stats.tx_frames;
    out->tx_calls += d->stats.tx_calls;
    out->tx_errors += d->stats.tx_errors;
    out->tx_too_big += d->stats.tx_too_big;
    out->tx_full += d->stats.tx_full;
    out->rx_packets += d->stats.rx_packets;
    out->rx_bytes += d->stats.rx_bytes;
    out->rx_frames += d->stats.rx_frames;
    out->rx_calls += d->stats.rx_calls;
    out->rx_dropped += d->stats.rx_dropped;
    out->pad_bytes += d->tx.super.pad_bytes;
}

static const char *af_note(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    if (!d->has_ring || d->is_lost)
        return d->text;
    if (smt_af_path_find(d, to)->by_ring)
        return NULL;
    snprintf(d->note, sizeof(d->note),
             "af: packets to this peer go by UDP sockets: not by the link %.15s", d->link.name);
    return d->note;
}

static int af_report(struct smt_dev_report *out, unsigned n)
{
    if (n == 0)
        return 0;
    const char *obstacle = smt_af_obstacle();
    out[0] = (struct smt_dev_report){.name = "af", .usable = obstacle == NULL};
    snprintf(out[0].text, sizeof(out[0].text), "AF_PACKET ring on an Ethernet link, af:INTERFACE");
    snprintf(out[0].offload, sizeof(out[0].offload),
             "kernel: UDP segmentation of whole frames; the CPU seals");
    if (obstacle != NULL)
        snprintf(out[0].reason, sizeof(out[0].reason), "%s; it would run as udp", obstacle);
    return 1;
}

/* Without a ring these never see af's own parts. */
static uint8_t *af_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                              uint8_t prio)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->has_ring ? smt_af_tx_reserve(dev, to, len, prio)
                       : d->udp->ops->tx_reserve(d->udp, to, len, prio);
}

static void af_tx_unreserve(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    if (d->has_ring)
        smt_af_tx_unreserve(dev);
    else
        d->udp->ops->tx_unreserve(d->udp);
}

static int af_tx_flush(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->has_ring ? smt_af_tx_flush(dev) : d->udp->ops->tx_flush(d->udp);
}

static int af_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->has_ring ? smt_af_rx(dev, pkts, n) : d->udp->ops->rx(d->udp, pkts, n);
}

const struct smt_dev_ops smt_af_ops = {
    .name = "af",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_SHARE | SMT_DEV_CAP_LOCAL,
    .open = af_open,
    .close = af_close,
    .tx_reserve = af_tx_reserve,
    .tx_unreserve = af_tx_unreserve,
    .tx_flush = af_tx_flush,
    .rx = af_rx,
    .mtu = af_mtu,
    .fd = af_fd,
    .arm = af_arm,
    .port = af_port,
    .rx_capacity = af_rx_capacity,
    .stats = af_stats,
    .note = af_note,
    .report = af_report,
};
