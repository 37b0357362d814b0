/* The device `ip`: raw IP sockets, for peers that speak over IP itself: kernels with Homa or SMT,
 * and our own profile with protocol 254 and without UDP's eight bytes.
 *
 * Owns opening, sleeping, paths and the report; ip_sock.c has the sockets, ip_claim.c the ports,
 * ip_tx.c and ip_rx.c the data path. Ports are those in the first four bytes of the packets, which
 * all profiles have there. As with `udp` the sockets are in the epoll set only while the caller
 * sleeps now and then. */
#include "dev/ip.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/ip_claim.h"
#include "dev/machine.h"
#include "dev/super.h"

enum {
    RX_PAYLOAD_PART = 4, /* of the kernel's count, which includes its own structures */
    MTU_MAX = 65000,
    MTU_UNKNOWN = 1240, /* IPv6's minimum */
    UDP_LEN = 8,        /* path.c answers for UDP */
};
#define PATH_LIFETIME (2 * SMT_SEC)

#define FAIL(code, ...) smt_dev_fail(config->error_text, config->error_text_len, code, __VA_ARGS__)

static uint8_t protocol_of(const struct smt_dev_config *config)
{
    return config->ip_protocol != 0 ? config->ip_protocol : SMT_IP_PROTO_DEFAULT;
}

struct spec {
    char ifname[16];
    bool is_tcp, has_ring;
};

/* "ip", "ip:eth0", "ip:eth0,ring", "ip,tcp". */
static int spec_parse(const struct smt_dev_config *config, struct spec *out)
{
    const char *rest = config->spec + strcspn(config->spec, ":,");
    *out = (struct spec){.is_tcp = false};
    if (*rest == ':') {
        size_t n = strcspn(++rest, ",");
        if (n == 0 || n >= sizeof(out->ifname))
            return FAIL(SMT_ENODEV, "\"%.60s\" names no network interface", config->spec);
        memcpy(out->ifname, rest, n);
        rest += n;
    }
    out->is_tcp = strcmp(rest, ",tcp") == 0;
    out->has_ring = strcmp(rest, ",ring") == 0;
    if (*rest != '\0' && !out->is_tcp && !out->has_ring)
        return FAIL(SMT_EINVAL,
                    "the device ip has the options ring and tcp, one at a time, not as in "
                    "\"%.60s\"",
                    config->spec);
    if (out->is_tcp && protocol_of(config) == SMT_IP_PROTO_DEFAULT)
        return FAIL(SMT_EINVAL, "only the kernel's Homa is carried in TCP's clothes, not smt2");
    return 0;
}

static int bound_parse(struct smt_ip *d, const struct smt_dev_config *config)
{
    if (config->bind_host == NULL)
        return 0;
    int r = smt_dev_resolve(config->bind_host, 0, &d->bound, 1);
    if (r < 0)
        return FAIL(r, "local address \"%.200s\" not understood", config->bind_host);
    if (d->bound.port != 0)
        return FAIL(SMT_EINVAL, "local address \"%.200s\" names a port; give the address alone",
                    config->bind_host);
    d->has_bound = true;
    return 0;
}

static int family_open(struct smt_ip *d, const struct smt_dev_config *config, int family)
{
    const uint8_t protocols[] = {d->protocol, SMT_IP_PROTO_TCP};
    for (unsigned i = 0; i < (d->is_tcp ? 2u : 1u); i++) {
        struct smt_ip_socket *s = &d->sockets[d->n_sockets];
        int r = smt_ip_socket_open(d, config, family, protocols[i], s);
        if (r < 0)
            return r;
        d->n_sockets++;
    }
    return 0;
}

/* Both families unless an address says which; a machine may be without IPv6. */
static int sockets_open(struct smt_ip *d, const struct smt_dev_config *config)
{
    if (d->has_bound)
        return family_open(d, config, smt_addr_is_ipv4(&d->bound) ? AF_INET : AF_INET6);
    int r = family_open(d, config, AF_INET);
    if (r < 0)
        return r;
    r = family_open(d, config, AF_INET6);
    return r == SMT_EUNSUPPORTED ? 0 : r;
}

static void ip_close(struct smt_dev *dev)
{
    struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    for (unsigned i = 0; i < d->n_sockets; i++)
        close(d->sockets[i].fd);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    if (d->claim_fd >= 0)
        close(d->claim_fd);
    if (d->mem != NULL)
        smt_mem_unmap(d->mem, d->mem_len);
    smt_mem_free(d);
}

static int open_all(struct smt_ip *d, const struct smt_dev_config *config)
{
    int r = bound_parse(d, config);
    if (r == 0 && d->protocol != SMT_IP_PROTO_DEFAULT && smt_ip_kernel_speaks_homa())
        r = FAIL(SMT_EADDRINUSE, "this machine's kernel speaks Homa itself and would answer the "
                                 "same packets: unload its module");
    if (r == 0)
        r = smt_ip_port_take(config, d->protocol, d->has_bound ? &d->bound : NULL, &d->port,
                             &d->claim_fd);
    if (r == 0)
        r = sockets_open(d, config);
    if (r < 0)
        return r;
    int buffer = 1 << 18;
    socklen_t len = sizeof(buffer);
    (void)getsockopt(d->sockets[0].fd, SOL_SOCKET, SO_RCVBUF, &buffer, &len);
    d->rx_capacity = (uint32_t)buffer / RX_PAYLOAD_PART;
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0)
        return FAIL(SMT_ESYSTEM, "ip device: %s", strerror(errno));
    d->mem_len = SMT_IP_TX_ARENA + (size_t)SMT_IP_RX_PACKETS * SMT_IP_RX_SLOT;
    d->mem = smt_mem_map(d->mem_len);
    if (d->mem == NULL)
        return FAIL(SMT_ENOMEM, "no memory for the packets of an ip device");
    d->tx.arena = d->mem;
    smt_ip_rx_init(d, d->mem + SMT_IP_TX_ARENA);
    return 0;
}

static int ip_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    struct spec spec;
    int r = spec_parse(config, &spec);
    if (r < 0)
        return r;
    if (spec.has_ring)
        return smt_ip_ring_open(config, spec.ifname, out);
    struct smt_ip *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return FAIL(SMT_ENOMEM, "no memory for an ip device");
    smt_dev_init(&d->base, &smt_ip_ops);
    d->epoll_fd = d->claim_fd = -1;
    memcpy(d->ifname, spec.ifname, sizeof(d->ifname));
    d->is_tcp = spec.is_tcp;
    d->protocol = protocol_of(config);
    d->class_shift = config->ip_class_shift != 0 ? config->ip_class_shift : SMT_TOS_SHIFT;
    d->ecn = config->no_ecn ? 0 : SMT_TOS_ECT0;
    r = open_all(d, config);
    if (r < 0) {
        ip_close(&d->base);
        return r;
    }
    *out = &d->base;
    return 0;
}

/* The entry of a destination; the port does not matter to routing. */
static struct smt_ip_path *path_slot(struct smt_ip *d, const struct smt_addr *to)
{
    uint64_t a, b;
    memcpy(&a, to->ip, 8);
    memcpy(&b, to->ip + 8, 8);
    uint64_t h = (a ^ (b + to->scope)) * 0x9e3779b97f4a7c15ull;
    struct smt_ip_path *p = &d->paths[h >> 32 & (SMT_IP_PATHS - 1)];
    if (p->to.scope != to->scope || memcmp(p->to.ip, to->ip, sizeof(to->ip)) != 0)
        *p = (struct smt_ip_path){.to = *to};
    return p;
}

static const char *ifname_of(const struct smt_ip *d)
{
    return d->ifname[0] != '\0' ? d->ifname : NULL;
}

const struct smt_addr *smt_ip_source(struct smt_ip *d, const struct smt_addr *to)
{
    if (d->has_bound)
        return &d->bound;
    struct smt_ip_path *p = path_slot(d, to);
    uint64_t now = smt_coarse_now();
    if (now >= p->from_until) {
        p->has_from = smt_path_local(to, ifname_of(d), &p->from);
        p->from_until = now + PATH_LIFETIME;
    }
    return p->has_from ? &p->from : NULL;
}

static uint32_t ip_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    struct smt_ip_path *p = path_slot(d, to);
    uint64_t now = smt_coarse_now();
    if (now >= p->mtu_until) {
        uint32_t mtu = smt_path_mtu(to, ifname_of(d));
        p->mtu = mtu == 0 ? MTU_UNKNOWN : mtu + UDP_LEN;
        p->mtu_until = now + PATH_LIFETIME;
    }
    return p->mtu < MTU_MAX ? p->mtu : MTU_MAX;
}

static int ip_fd(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_ip, base)->epoll_fd;
}

/* Nothing can be missed between this and the sleep: the set is level-triggered. */
static int ip_arm(struct smt_dev *dev)
{
    struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    if (smt_ip_rx_has_rest(d))
        return SMT_EBUSY;
    d->n_unarmed = 0;
    uint32_t wanted = EPOLLIN | (d->tx.n > d->tx.sent ? EPOLLOUT : 0);
    for (unsigned i = 0; i < d->n_sockets; i++) {
        struct smt_ip_socket *s = &d->sockets[i];
        if (s->events == wanted)
            continue;
        struct epoll_event ev = {.events = wanted};
        int op = s->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
        if (epoll_ctl(d->epoll_fd, op, s->fd, &ev) < 0)
            return SMT_EBUSY;
        s->events = wanted;
    }
    return 0;
}

void smt_ip_unwatch(struct smt_ip *d)
{
    for (unsigned i = 0; i < d->n_sockets; i++) {
        struct epoll_event ev = {0};
        struct smt_ip_socket *s = &d->sockets[i];
        if (s->events != 0 && epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, s->fd, &ev) == 0)
            s->events = 0;
    }
}

static uint16_t ip_port(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_ip, base)->port;
}

static uint32_t ip_rx_capacity(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_ip, base)->rx_capacity;
}

static void ip_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    const struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    *out = d->stats;
    for (unsigned i = 0; i < d->n_sockets; i++) {
        uint32_t info[SK_MEMINFO_VARS];
        socklen_t len = sizeof(info);
        if (getsockopt(d->sockets[i].fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 &&
            len > SK_MEMINFO_DROPS * sizeof(info[0]))
            out->rx_dropped += info[SK_MEMINFO_DROPS];
    }
}

static int ip_report(struct smt_dev_report *out, unsigned n)
{
    if (n == 0)
        return 0;
    struct smt_dev_report *r = &out[0];
    *r = (struct smt_dev_report){.name = "ip", .text = "raw IP sockets, IP protocol by profile"};
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, SMT_IP_PROTO_DEFAULT);
    r->usable = fd >= 0;
    if (fd < 0) {
        snprintf(r->reason, sizeof(r->reason), "raw sockets need CAP_NET_RAW: %s", strerror(errno));
        return 1;
    }
    close(fd);
    snprintf(r->offload, sizeof(r->offload), "none: one packet a message; the CPU seals");
    if (smt_ip_kernel_speaks_homa())
        snprintf(r->reason, sizeof(r->reason),
                 "the kernel speaks Homa itself: smt2 only, until its module is unloaded");
    return 1;
}

const struct smt_dev_ops smt_ip_ops = {
    .name = "ip",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_EXACT | SMT_DEV_CAP_RAW,
    .open = ip_open,
    .close = ip_close,
    .tx_reserve = smt_ip_tx_reserve,
    .tx_unreserve = smt_ip_tx_unreserve,
    .tx_flush = smt_ip_tx_flush,
    .rx = smt_ip_rx,
    .mtu = ip_mtu,
    .fd = ip_fd,
    .arm = ip_arm,
    .port = ip_port,
    .rx_capacity = ip_rx_capacity,
    .stats = ip_stats,
    .refused = smt_ip_refused,
    .report = ip_report,
};
