/* The device `udp`: UDP sockets, which every machine has.
 *
 * Owns opening (one socket for both families where there is IPv6), sleeping, path queries and the
 * report; the data path is in udp_tx.c and udp_rx.c, and who has a socket of his own in udp_fav.c.
 * The descriptor to sleep on is an epoll set with the sockets in it, because sends that wait for
 * room must be able to end the sleep as well, and poll(2) by the user cannot know when to ask for
 * that. They are in the set only while the caller sleeps now and then: being watched costs every
 * packet some 100 ns in the kernel.
 */
#include "dev/udp.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/link.h"
#include "dev/machine.h"
#include "dev/steer.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    RX_BUFFER_DEFAULT = 4 << 20, /* the kernel doubles it */
    TX_BUFFER = 4 << 20,
    MBPS_MAX = 4000000,
    RX_PAYLOAD_PART = 4, /* of the kernel's count, which includes its own structures */
    MTU_MAX = 65000,
    MTU_UNKNOWN = 1232, /* IPv6's minimum: where there is no route nothing larger is promised */
};
#define PATH_LIFETIME (2 * SMT_SEC)

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static int option_get(int fd, int level, int name, int otherwise)
{
    int value;
    socklen_t len = sizeof(value);
    return getsockopt(fd, level, name, &value, &len) == 0 ? value : otherwise;
}

bool smt_udp_gro_set(int fd, bool on)
{
    return option_set(fd, SOL_UDP, UDP_GRO, on) == 0;
}

static bool gso_is_known(int fd)
{
    return option_get(fd, SOL_UDP, UDP_SEGMENT, -1) >= 0;
}

/* Options without which the device would not keep its contract. */
static int socket_configure(int fd, int family, bool is_dual)
{
    int r = 0;
    if (family == AF_INET || is_dual) {
        r |= option_set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
        r |= option_set(fd, IPPROTO_IP, IP_TOS, SMT_TOS_ECT0);
        r |= option_set(fd, IPPROTO_IP, IP_RECVTOS, 1);
    }
    if (family == AF_INET6) {
        r |= option_set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
        r |= option_set(fd, IPPROTO_IPV6, IPV6_TCLASS, SMT_TOS_ECT0);
        r |= option_set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    }
    return r;
}

/* As much as the administrator lets us have, by force if we may. */
static void buffer_set(int fd, int force, int plain, int len)
{
    if (option_set(fd, SOL_SOCKET, force, len) < 0)
        (void)option_set(fd, SOL_SOCKET, plain, len);
}

static int fail_bind(const struct smt_dev_config *config, int error)
{
    const char *host = config->bind_host != NULL ? config->bind_host : "*";
    switch (error) {
    case EADDRINUSE:
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EADDRINUSE,
                            "UDP port %u is in use by another socket; take another, or 0 for any",
                            config->port);
    case EACCES:
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EPERM,
                            "UDP port %u is privileged; take one above 1023 or run with "
                            "CAP_NET_BIND_SERVICE",
                            config->port);
    case EADDRNOTAVAIL:
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENAME,
                            "\"%.200s\" is not an address of this machine", host);
    default:
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                            "bind to \"%.200s\" port %u: %s", host, config->port, strerror(error));
    }
}

static int interface_bind(const struct smt_dev_config *config, const char *ifname, int fd)
{
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ifname, (socklen_t)strlen(ifname)) == 0)
        return 0;
    if (errno == ENODEV)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENODEV,
                            "no network interface \"%s\" on this machine", ifname);
    if (errno == EPERM)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EPERM,
                            "binding to interface \"%s\" needs CAP_NET_RAW", ifname);
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                        "binding to interface \"%s\": %s", ifname, strerror(errno));
}

/* The first one takes its port as if for itself alone, so that a port in use is seen, and opens it
 * to the others afterwards; the group begins with the second, which brings the program. */
static int share_join(int fd, const struct smt_dev_config *config)
{
    if (config->number == 0)
        return option_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    return smt_steer_sockets(fd, config->share);
}

static int fail_share(const struct smt_dev_config *config)
{
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                        "sharing UDP port %u: %s", config->port, strerror(errno));
}

int smt_udp_socket_prepare(const struct smt_udp *d, int fd, int family)
{
    int tos = d->tx.socket_tos;
    if (socket_configure(fd, family, false) != 0 ||
        (d->ifname[0] != '\0' && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, d->ifname,
                                            (socklen_t)strlen(d->ifname)) < 0) ||
        (family == AF_INET ? option_set(fd, IPPROTO_IP, IP_TOS, tos)
                           : option_set(fd, IPPROTO_IPV6, IPV6_TCLASS, tos)) < 0)
        return -1;
    buffer_set(fd, SO_RCVBUFFORCE, SO_RCVBUF, d->rx_buffer_len);
    buffer_set(fd, SO_SNDBUFFORCE, SO_SNDBUF, TX_BUFFER);
    /* Without GRO super-frames arrive cut by the kernel: slower, otherwise the same. */
    (void)smt_udp_gro_set(fd, true);
    return family == AF_INET6 ? option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
}

uint64_t smt_udp_socket_drops(int fd)
{
    uint32_t info[SK_MEMINFO_VARS];
    socklen_t len = sizeof(info);
    bool is_told = getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 &&
                   len > SK_MEMINFO_DROPS * sizeof(info[0]);
    return is_told ? info[SK_MEMINFO_DROPS] : 0;
}

/* A bound socket of this family at this address (NULL = all of them). */
static int socket_open(const struct smt_dev_config *config, const char *ifname, int family,
                       const struct smt_addr *bind_to, int *out)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return smt_dev_fail(config->error_text, config->error_text_len,
                            errno == EAFNOSUPPORT ? SMT_EUNSUPPORTED : SMT_ESYSTEM,
                            "UDP socket: %s", strerror(errno));
    bool is_dual = family == AF_INET6 && bind_to == NULL;
    int r;
    if ((family == AF_INET6 && option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !is_dual) < 0) ||
        socket_configure(fd, family, is_dual) != 0) {
        r = smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                         "UDP socket options: %s", strerror(errno));
        goto err_close;
    }
    if (ifname[0] != '\0') {
        r = interface_bind(config, ifname, fd);
        if (r < 0)
            goto err_close;
    }
    if (config->share > 1 && config->number > 0 &&
        option_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0) {
        r = fail_share(config);
        goto err_close;
    }
    struct smt_addr any = {.port = config->port};
    if (family == AF_INET)
        any.ip[10] = any.ip[11] = 0xff;
    struct sockaddr_storage sa;
    unsigned len = smt_addr_to_sockaddr(bind_to != NULL ? bind_to : &any, false, &sa);
    if (bind(fd, (const struct sockaddr *)&sa, len) < 0) {
        r = fail_bind(config, errno);
        goto err_close;
    }
    if (config->share > 1 && share_join(fd, config) < 0) {
        r = fail_share(config);
        goto err_close;
    }
    *out = fd;
    return 0;

err_close:
    close(fd);
    return r;
}

/* The socket that the configuration asks for. */
static int socket_choose(const struct smt_dev_config *config, const char *ifname, int *fd,
                         int *family)
{
    if (config->bind_host == NULL) {
        *family = AF_INET6;
        int r = socket_open(config, ifname, AF_INET6, NULL, fd);
        if (r != SMT_EUNSUPPORTED && r != SMT_ENAME)
            return r;
        *family = AF_INET;
        return socket_open(config, ifname, AF_INET, NULL, fd);
    }
    struct smt_addr addr;
    int r = smt_dev_resolve(config->bind_host, config->port, &addr, 1);
    if (r < 0)
        return smt_dev_fail(config->error_text, config->error_text_len, r,
                            "local address \"%.200s\" not understood", config->bind_host);
    if (addr.port != config->port)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EINVAL,
                            "local address \"%.200s\" names a port; give the address alone",
                            config->bind_host);
    *family = smt_addr_is_ipv4(&addr) ? AF_INET : AF_INET6;
    return socket_open(config, ifname, *family, &addr, fd);
}

/* "udp", "udp:eth0", "udp:eth0,mbps=1000". */
static int spec_parse(const struct smt_dev_config *config, struct smt_udp *d)
{
    static const char option[] = ",mbps=";
    const char *colon = strchr(config->spec, ':');
    const char *comma = config->spec + strcspn(config->spec, ",");
    if (*comma != '\0') {
        char *end = NULL;
        unsigned long mbps = 0;
        if (strncmp(comma, option, sizeof(option) - 1) == 0)
            mbps = strtoul(comma + sizeof(option) - 1, &end, 10);
        if (end == NULL || *end != '\0' || mbps == 0 || mbps > MBPS_MAX)
            return smt_dev_fail(config->error_text, config->error_text_len, SMT_EINVAL,
                                "the device udp knows one option, mbps=1 to %d, unlike \"%.60s\"",
                                MBPS_MAX, config->spec);
        d->mbps = (uint32_t)mbps;
    }
    if (colon == NULL || colon > comma)
        return 0;
    size_t n = (size_t)(comma - colon - 1);
    if (n == 0 || n >= sizeof(d->ifname))
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENODEV,
                            "\"%.60s\" names no network interface", config->spec);
    memcpy(d->ifname, colon + 1, n);
    d->ifname[n] = '\0';
    return 0;
}

static void udp_close(struct smt_dev *dev)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    if (d->epoll_fd >= 0)
        close(d->epoll_fd);
    smt_udp_fav_end(d);
    if (d->fd >= 0)
        close(d->fd);
    if (d->mem != NULL)
        smt_mem_unmap(d->mem, d->mem_len);
    smt_mem_free(d);
}

static int udp_open(const struct smt_dev_config *config, struct smt_dev **out)
{
    struct smt_udp *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                            "no memory for a UDP device");
    smt_dev_init(&d->base, &smt_udp_ops);
    d->fd = -1;
    d->epoll_fd = -1;
    /* Which of those that share a port gets a packet is the steering program's to say. */
    smt_udp_fav_init(d, config->share > 1);
    int r = spec_parse(config, d);
    if (r < 0)
        goto err_close;
    /* The kernel delivers by loopback what is for this host. */
    if (d->ifname[0] != '\0')
        d->base.own.caps &= ~(uint32_t)SMT_DEV_CAP_LOCAL;
    r = socket_choose(config, d->ifname, &d->fd, &d->family);
    if (r < 0)
        goto err_close;

    uint32_t wanted = config->rx_buffer_len > 0 ? config->rx_buffer_len : RX_BUFFER_DEFAULT;
    d->rx_buffer_len = wanted > INT32_MAX / 2 ? INT32_MAX / 2 : (int)wanted;
    buffer_set(d->fd, SO_RCVBUFFORCE, SO_RCVBUF, d->rx_buffer_len);
    buffer_set(d->fd, SO_SNDBUFFORCE, SO_SNDBUF, TX_BUFFER);
    d->rx_capacity = (uint32_t)option_get(d->fd, SOL_SOCKET, SO_RCVBUF, 1 << 18) / RX_PAYLOAD_PART;
    /* Without GRO super-frames arrive cut by the kernel: slower, otherwise the same. */
    (void)smt_udp_gro_set(d->fd, true);

    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    struct smt_addr local;
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (d->epoll_fd < 0 || getsockname(d->fd, (struct sockaddr *)&sa, &len) < 0 ||
        !smt_addr_from_sockaddr(&sa, &local)) {
        r = smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM, "UDP device: %s",
                         strerror(errno));
        goto err_close;
    }
    d->port = local.port;
    d->mem_len = (size_t)(SMT_SUPER_FRAMES + SMT_UDP_RX_FRAMES) * SMT_UDP_SLOT;
    d->mem = smt_mem_map(d->mem_len);
    if (d->mem == NULL) {
        r = smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                         "no memory for the packets of a UDP device");
        goto err_close;
    }
    smt_udp_tx_init(d, d->mem, gso_is_known(d->fd));
    smt_udp_rx_init(d, d->mem + (size_t)SMT_SUPER_FRAMES * SMT_UDP_SLOT);
    *out = &d->base;
    return 0;

err_close:
    udp_close(&d->base);
    return r;
}

/* Which entry of the small table a destination has; the port does not matter to routing. */
static struct smt_udp_path *path_slot(struct smt_udp *d, const struct smt_addr *to)
{
    uint64_t a, b;
    memcpy(&a, to->ip, 8);
    memcpy(&b, to->ip + 8, 8);
    uint64_t h = (a ^ (b + to->scope)) * 0x9e3779b97f4a7c15ull;
    return &d->paths[h >> 32 & (SMT_UDP_PATHS - 1)];
}

static uint32_t udp_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    struct smt_udp_path *p = path_slot(d, to);
    uint64_t now = smt_coarse_now();
    if (p->mtu == 0 || now >= p->until || p->to.scope != to->scope ||
        memcmp(p->to.ip, to->ip, sizeof(to->ip)) != 0) {
        uint32_t mtu = smt_path_mtu(to, d->ifname[0] != '\0' ? d->ifname : NULL);
        p->to = *to;
        p->mtu = mtu == 0 ? MTU_UNKNOWN : mtu;
        p->until = now + PATH_LIFETIME;
    }
    return p->mtu < MTU_MAX ? p->mtu : MTU_MAX;
}

static int udp_fd(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_udp, base)->epoll_fd;
}

static int watch(const struct smt_udp *d, int fd, uint32_t *watched, uint32_t wanted)
{
    struct epoll_event ev = {.events = wanted};
    if (wanted == *watched)
        return 0;
    if (epoll_ctl(d->epoll_fd, *watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &ev) < 0)
        return SMT_EBUSY;
    *watched = wanted;
    return 0;
}

/* Nothing can be missed between this and the sleep: the set is level-triggered. */
static int udp_arm(struct smt_dev *dev)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    if (smt_udp_rx_has_rest(d))
        return SMT_EBUSY;
    if (d->fav.lone.stands)
        smt_udp_lone_take(d);
    d->n_unarmed = 0;
    bool waits = d->tx.super.n > 0;
    bool waits_by_fav = waits && smt_udp_fav_is(d, &smt_super_at(&d->tx.super, 0)->to);
    int r = watch(d, d->fd, &d->watched, EPOLLIN | (waits && !waits_by_fav ? EPOLLOUT : 0));
    if (r == 0 && d->fav.fd >= 0)
        r = watch(d, d->fav.fd, &d->fav.watched, EPOLLIN | (waits_by_fav ? EPOLLOUT : 0));
    return r;
}

void smt_udp_unwatch(struct smt_udp *d)
{
    struct epoll_event ev = {0};
    if (d->fav.watched != 0 && epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, d->fav.fd, &ev) == 0)
        d->fav.watched = 0;
    if (epoll_ctl(d->epoll_fd, EPOLL_CTL_DEL, d->fd, &ev) == 0)
        d->watched = 0;
    d->n_unarmed = 0;
}

static uint16_t udp_port(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_udp, base)->port;
}

static uint32_t udp_link_mbps(struct smt_dev *dev)
{
    const struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    if (d->mbps > 0)
        return d->mbps;
    return d->ifname[0] != '\0' ? smt_link_mbps(d->ifname) : 0;
}

static uint32_t udp_rx_capacity(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_udp, base)->rx_capacity;
}

/* What the kernel dropped for want of room is asked for here: a control message with every packet
 * would cost more than it tells. */
static void udp_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    const struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    *out = d->stats;
    out->pad_bytes = d->tx.super.pad_bytes;
    out->rx_dropped += smt_udp_socket_drops(d->fd);
    if (d->fav.fd >= 0)
        out->rx_dropped += smt_udp_socket_drops(d->fav.fd);
}

static int udp_report(struct smt_dev_report *out, unsigned n)
{
    if (n == 0)
        return 0;
    struct smt_dev_report *r = &out[0];
    *r = (struct smt_dev_report){.name = "udp"};
    int fd6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int fd = fd6 >= 0 ? fd6 : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    r->usable = fd >= 0;
    if (fd < 0) {
        snprintf(r->text, sizeof(r->text), "UDP sockets");
        snprintf(r->reason, sizeof(r->reason), "no socket: %s", strerror(errno));
        return 1;
    }
    bool has_gso = gso_is_known(fd);
    bool has_gro = smt_udp_gro_set(fd, true);
    close(fd);
    snprintf(r->text, sizeof(r->text), "UDP sockets, %s", fd6 >= 0 ? "IPv6 and IPv4" : "IPv4 only");
    snprintf(r->offload, sizeof(r->offload),
             "kernel: segmentation (GSO) %s, coalescing (GRO) %s; the CPU seals",
             has_gso ? "yes" : "no", has_gro ? "yes" : "no");
    return 1;
}

const struct smt_dev_ops smt_udp_ops = {
    .name = "udp",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_SHARE | SMT_DEV_CAP_LOCAL | SMT_DEV_CAP_UDP,
    .open = udp_open,
    .close = udp_close,
    .tx_reserve = smt_udp_tx_reserve,
    .tx_run = smt_udp_tx_run,
    .tx_run_max = smt_udp_tx_run_max,
    .tx_unreserve = smt_udp_tx_unreserve,
    .tx_flush = smt_udp_tx_flush,
    .rx = smt_udp_rx,
    .rx_more = smt_udp_rx_more,
    .mtu = udp_mtu,
    .fd = udp_fd,
    .arm = udp_arm,
    .port = udp_port,
    .link_mbps = udp_link_mbps,
    .rx_capacity = udp_rx_capacity,
    .stats = udp_stats,
    .report = udp_report,
};
