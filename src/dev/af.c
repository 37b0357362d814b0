/* Devices that exchange Ethernet frames by a packet socket: `af`, on the wire the same as `udp`,
 * and `ip` with the word `ring` (ip_ring.c).
 *
 * A device around a holder, `udp` or `ip`: that one holds the port, and carries what the ring
 * cannot (other links, this machine, hops that nobody has resolved). Owns opening, sleeping and the
 * report; the other parts are in af_*.c. Where there can be no ring, this is the holder with one
 * more call, and says why. Peers cannot tell the two apart. */
#include "dev/af.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <smt/error.h>

#include "base/mem.h"

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
    if (d->holder != NULL)
        d->holder->ops->close(d->holder);
    smt_mem_free(d);
}

int smt_af_unusable(struct smt_af *d, const char *fmt, ...)
{
    char why[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    snprintf(d->text, sizeof(d->text), "%s: %s; packets go by %s", d->carriage->name, why,
             d->carriage->sockets);
    return SMT_EUNSUPPORTED;
}

int smt_af_bound_set(struct smt_af *d, const struct smt_dev_config *config)
{
    d->family = AF_UNSPEC;
    if (config->bind_host == NULL)
        return 0;
    struct smt_addr bound;
    int r = smt_dev_resolve(config->bind_host, d->port, &bound, 1);
    if (r < 0)
        return r;
    static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff}, any6[16];
    bool is_any6 = memcmp(bound.ip, any6, sizeof(any6)) == 0;
    d->has_bound_ip = memcmp(bound.ip, any4, sizeof(any4)) != 0 && !is_any6;
    memcpy(d->bound_ip, bound.ip, sizeof(d->bound_ip));
    if (!is_any6)
        d->family = smt_addr_is_ipv4(&bound) ? AF_INET : AF_INET6;
    return 0;
}

/* All that a ring needs, or SMT_EUNSUPPORTED with the reason in d->text. */
static int ring_begin(struct smt_af *d, const char *ifname)
{
    d->nl = smt_route_open();
    if (d->nl < 0)
        return smt_af_unusable(d, "no netlink socket");
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
    snprintf(d->text, sizeof(d->text), "%s: ring on %.15s", d->carriage->name,
             d->link.name);
    d->has_ring = true;
    return 0;
}

static int watch_begin(struct smt_af *d)
{
    struct epoll_event ev = {.events = EPOLLIN};
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0)
        return -1;
    return epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, d->holder->ops->fd(d->holder), &ev);
}

int smt_af_open_as(const struct smt_af_carriage *carriage, const char *ifname,
                   const struct smt_dev_config *config, struct smt_dev **out)
{
    struct smt_af *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                            "no memory for an AF_PACKET device");
    smt_dev_init(&d->base, &smt_af_ops);
    d->base.own.name = carriage->name;
    d->base.own.caps = carriage->caps;
    d->carriage = carriage;
    d->share = config->share;
    d->fd = d->nl = d->epoll_fd = -1;
    int r = carriage->holder_open(d, ifname, config);
    if (r < 0)
        goto err_close;
    d->port = d->holder->ops->port(d->holder);
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

static int af_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    char ifname[16];
    int r = spec_parse(config, ifname, sizeof(ifname));
    return r < 0 ? r : smt_af_open_as(&smt_af_udp, ifname, config, out);
}

static uint32_t af_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    uint32_t mtu = d->holder->ops->mtu(d->holder, to);
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
    return d->holder->ops->arm(d->holder);
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
    uint32_t by_socket = d->holder->ops->rx_capacity(d->holder);
    uint32_t slot_len = 1u << d->rx.slot_shift;
    uint32_t by_slot = slot_len / 2 < RX_CAPACITY_SLOT ? slot_len / 2 : RX_CAPACITY_SLOT;
    uint32_t by_ring = d->rx.n_slots * by_slot;
    return d->has_ring && by_ring < by_socket ? by_ring : by_socket;
}

static void af_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    d->holder->ops->stats(d->holder, out);
    if (!d->has_ring)
        return;
    /* What the socket's filter drops the kernel counts as well: the ring has had it. */
    out->rx_dropped = d->carriage->holder_drops(d->holder);
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
    snprintf(d->note, sizeof(d->note), "%s: packets to this peer go by %s: not by the link %.15s",
             d->carriage->name, d->carriage->sockets, d->link.name);
    return d->note;
}

static int af_report(struct smt_dev_report *out, unsigned n)
{
    if (n == 0)
        return 0;
    const char *obstacle = smt_af_obstacle(true);
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
                       : d->holder->ops->tx_reserve(d->holder, to, len, prio);
}

static uint8_t *af_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                          size_t last_len, uint8_t prio, size_t *stride)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    if (d->has_ring)
        return smt_af_tx_run(dev, to, n, len, last_len, prio, stride);
    return d->holder->ops->tx_run(d->holder, to, n, len, last_len, prio, stride);
}

static uint32_t af_tx_run_max(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->has_ring ? smt_af_tx_run_max(dev, to) : d->holder->ops->tx_run_max(d->holder, to);
}

static void af_tx_unreserve(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    if (d->has_ring)
        smt_af_tx_unreserve(dev);
    else
        d->holder->ops->tx_unreserve(d->holder);
}

static int af_tx_flush(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->has_ring ? smt_af_tx_flush(dev) : d->holder->ops->tx_flush(d->holder);
}

static int af_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->has_ring ? smt_af_rx(dev, pkts, n) : d->holder->ops->rx(d->holder, pkts, n);
}

static unsigned af_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->has_ring ? smt_af_rx_more(dev, pkts, n)
                       : d->holder->ops->rx_more(d->holder, pkts, n);
}

static int af_refused(struct smt_dev *dev, struct smt_addr *to, int *error)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    return d->holder->ops->refused(d->holder, to, error);
}

const struct smt_dev_ops smt_af_ops = {
    .name = "af",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_SHARE | SMT_DEV_CAP_LOCAL | SMT_DEV_CAP_UDP,
    .open = af_open,
    .close = af_close,
    .tx_reserve = af_tx_reserve,
    .tx_run = af_tx_run,
    .tx_run_max = af_tx_run_max,
    .tx_unreserve = af_tx_unreserve,
    .tx_flush = af_tx_flush,
    .rx = af_rx,
    .rx_more = af_rx_more,
    .mtu = af_mtu,
    .fd = af_fd,
    .arm = af_arm,
    .port = af_port,
    .rx_capacity = af_rx_capacity,
    .stats = af_stats,
    .note = af_note,
    .refused = af_refused,
    .report = af_report,
};
