/* The device `shm`: peers on this host by shared memory, all others as its inner device does it.
 *
 * A device around one that carries UDP (`udp`, `af`), which holds the port: sessions have the same
 * addresses, and packets the same bytes, whichever way they go. A peer that cannot be reached by
 * memory, or is dead, is reached the inner way; nobody waits for anybody. Owns opening, sleeping
 * and the report; the other parts are in shm_*.c. */
#include "dev/shm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/machine.h"

enum { MEM_LEN = SMT_SHM_STAGED + SMT_DEV_MAX_PACKET + 1 + SMT_SHM_RX_MEM + 3 * SMT_SHM_LINE };

static void shm_close(struct smt_dev *dev)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    smt_shm_peers_free(d);
    if (d->listener >= 0)
        close(d->listener);
    if (d->nl >= 0)
        close(d->nl);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    if (d->staged != NULL)
        smt_mem_unmap(d->staged, MEM_LEN);
    if (d->inner != NULL)
        d->inner->ops->close(d->inner);
    smt_mem_free(d);
}

static int watch_begin(struct smt_shm *d)
{
    struct epoll_event inner = {.events = EPOLLIN, .data.u32 = SMT_SHM_TAG_INNER};
    struct epoll_event addresses = {.events = EPOLLIN, .data.u32 = SMT_SHM_TAG_ADDRESSES};
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    d->nl = smt_shm_addresses_open();
    if (d->epoll_fd < 0 || d->nl < 0)
        return -1;
    int fd = d->inner->ops->fd(d->inner);
    if (fd >= 0 && epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, fd, &inner) < 0)
        return -1;
    return epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, d->nl, &addresses);
}

/* What the inner device is bound to. */
static int bound_find(struct smt_shm *d, const struct smt_dev_config *config)
{
    static const uint8_t any4[16] = {[10] = 0xff, [11] = 0xff}, any6[16];
    uint16_t port = d->inner->ops->port(d->inner);
    if (config->bind_host != NULL) {
        int r = smt_dev_resolve(config->bind_host, port, &d->bound, 1);
        if (r < 0)
            return r;
        d->is_bound = memcmp(d->bound.ip, any4, sizeof(any4)) != 0 &&
                      memcmp(d->bound.ip, any6, sizeof(any6)) != 0;
    }
    d->bound.port = port;
    return 0;
}

int smt_shm_wrap(const struct smt_dev_config *config, struct smt_dev *inner, struct smt_dev **out)
{
    struct smt_shm *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                            "no memory for a shared-memory device");
    smt_dev_init(&d->base, &smt_shm_ops);
    d->base.own.caps |= inner->ops->caps & (SMT_DEV_CAP_EVENT | SMT_DEV_CAP_SHARE);
    d->epoll_fd = d->listener = d->nl = -1;
    d->inner = inner;
    d->any_user = config->any_user;
    d->share = config->share > 1 ? config->share : 0;
    d->number = d->share > 0 ? config->number : 0;
    d->locals.is_stale = true;
    d->now = smt_coarse_now();
    int r = bound_find(d, config);
    if (r == 0) {
        d->staged = smt_mem_map(MEM_LEN);
        r = d->staged == NULL ? SMT_ENOMEM : 0;
    }
    if (r == 0 && watch_begin(d) < 0)
        r = SMT_ESYSTEM;
    if (r < 0) {
        d->inner = NULL; /* still the caller's */
        shm_close(&d->base);
        return smt_dev_fail(config->error_text, config->error_text_len, r,
                            "shared-memory device: %s", smt_strerror(r));
    }
    d->rx_mem = d->staged + SMT_SHM_STAGED + SMT_SHM_LINE;
    d->nowhere = d->rx_mem + SMT_SHM_RX_MEM + SMT_SHM_LINE;
    smt_shm_listen(d);
    *out = &d->base;
    return 0;
}

/* "shm": around "udp". */
static int shm_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    if (config->spec[strcspn(config->spec, ":,")] != '\0')
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EINVAL,
                            "the device shm has no options, unlike \"%.60s\": name the device for "
                            "other hosts instead, it uses shared memory by itself",
                            config->spec);
    struct smt_dev_config c = *config;
    c.spec = smt_udp_ops.name;
    struct smt_dev *inner;
    int r = smt_udp_ops.open(&c, &inner);
    if (r < 0)
        return r;
    r = smt_shm_wrap(&c, inner, out);
    if (r < 0)
        inner->ops->close(inner);
    return r;
}

static uint32_t shm_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    return smt_shm_peer_find(d, to) != NULL ? SMT_SHM_MTU : d->inner->ops->mtu(d->inner, to);
}

static int shm_fd(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_shm, base)->epoll_fd;
}

/* First it is said that we sleep, then the rings are looked at: who puts something there looks at
 * what is said afterwards. */
static int shm_arm(struct smt_dev *dev)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    if (d->pending != NULL || d->n_touched > 0)
        return SMT_EBUSY;
    d->is_armed = true;
    for (unsigned i = 0; i < d->n_peers; i++) {
        struct smt_shm_peer *p = d->live[i];
        if (p->ours == NULL)
            continue;
        uint32_t *sleeps = &((struct smt_shm_page *)(void *)p->ours)->sleeps;
        __atomic_store_n(sleeps, *sleeps | 1, __ATOMIC_RELAXED);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (smt_shm_rx_pending(d))
        return SMT_EBUSY;
    return d->inner->ops->arm(d->inner);
}

static uint16_t shm_port(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_shm, base)->bound.port;
}

static uint32_t shm_link_mbps(struct smt_dev *dev)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    return d->inner->ops->link_mbps(d->inner);
}

static uint32_t shm_rx_capacity(struct smt_dev *dev)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    return d->inner->ops->rx_capacity(d->inner);
}

static void shm_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    d->inner->ops->stats(d->inner, out);
    out->tx_packets += d->stats.tx_packets;
    out->tx_bytes += d->stats.tx_bytes;
    out->tx_frames += d->stats.tx_frames;
    out->tx_calls += d->stats.tx_calls;
    out->tx_too_big += d->stats.tx_too_big;
    out->tx_full += d->stats.tx_full;
    out->rx_packets += d->stats.rx_packets;
    out->rx_bytes += d->stats.rx_bytes;
    out->rx_frames += d->stats.rx_frames;
    out->rx_calls += d->stats.rx_calls;
    out->rx_dropped += d->stats.rx_dropped;
}

static const char *shm_why(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    return d->inner->ops->why(d->inner, to);
}

static const char *shm_note(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    const char *why = smt_shm_why_not(d, to);
    if (why != NULL) {
        snprintf(d->note, sizeof(d->note), "shm: this peer is not reached by shared memory: %s",
                 why);
        return d->note;
    }
    return smt_shm_peer_at(d, to) != NULL ? NULL : d->inner->ops->note(d->inner, to);
}

static int shm_report(struct smt_dev_report *out, unsigned n)
{
    if (n == 0)
        return 0;
    out[0] = (struct smt_dev_report){.name = "shm"};
    snprintf(out[0].text, sizeof(out[0].text),
             "shared memory between processes of this host, UDP sockets for other hosts");
    snprintf(out[0].offload, sizeof(out[0].offload), "none: the CPU seals");
    uint8_t *half;
    int fd;
    out[0].usable = smt_shm_half_new(&half, &fd) == 0;
    if (out[0].usable) {
        smt_shm_half_free(half);
        close(fd);
    } else {
        snprintf(out[0].reason, sizeof(out[0].reason),
                 "the kernel makes no sealed memory (Linux 5.1 does); it would run as udp");
    }
    return 1;
}

const struct smt_dev_ops smt_shm_ops = {
    .name = "shm",
    .open = shm_open,
    .close = shm_close,
    .tx_reserve = smt_shm_tx_reserve,
    .tx_run = smt_shm_tx_run,
    .tx_run_max = smt_shm_tx_run_max,
    .tx_unreserve = smt_shm_tx_unreserve,
    .tx_flush = smt_shm_tx_flush,
    .rx = smt_shm_rx,
    .rx_more = smt_shm_rx_more,
    .mtu = shm_mtu,
    .fd = shm_fd,
    .arm = shm_arm,
    .port = shm_port,
    .link_mbps = shm_link_mbps,
    .rx_capacity = shm_rx_capacity,
    .stats = shm_stats,
    .why = shm_why,
    .note = shm_note,
    .report = shm_report,
};
