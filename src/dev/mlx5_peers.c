/* Where packets go is the kernel's knowledge: routes and neighbours by netlink, asked when a
 * machine is first sent to and whenever the kernel says that something changed. ARP and ND stay its
 * own work: an empty UDP datagram, which receivers pass over, makes it resolve a hop, and check one
 * that has grown stale.
 *
 * The socket that sends it also holds our port, so that nobody else on this machine gets it; where
 * packets go without UDP it has any port (and ip_hold.c holds ours). */
#include "dev/mlx5_peers.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/pool.h"
#include "dev/dev_impl.h"

enum {
    FIRST_PEERS = 16,
    MAX_PEERS = 1 << 20,
};

static const uint64_t ask_again = 1 * SMT_MSEC;
static const uint64_t kick_again = 20 * SMT_MSEC;
static const uint64_t kick_stale = 30 * SMT_SEC;

struct smt_mlx5_peers {
    const struct smt_mlx5_port *port;
    const struct smt_mlx5_carrier *by;
    int nl, watch, guard;
    bool is_guard_ipv6;
    uint16_t udp_port;
    uint32_t generation;
    struct smt_map map;
    struct smt_pool pool;
};

static int guard_bind(struct smt_mlx5_peers *p, const struct smt_addr *addr, bool as_ipv6)
{
    struct sockaddr_storage sa;
    unsigned len = smt_addr_to_sockaddr(addr, as_ipv6, &sa);
    int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), off = 0, few = 1;
    if (fd < 0)
        return -1;
    if (as_ipv6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    /* Nobody reads it. */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &few, sizeof(few));
    socklen_t got = sizeof(sa);
    struct smt_addr bound;
    if (bind(fd, (const struct sockaddr *)&sa, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &got) < 0 || !smt_addr_from_sockaddr(&sa, &bound)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    p->udp_port = bound.port;
    p->is_guard_ipv6 = as_ipv6;
    return fd;
}

/* For both families if possible, unless the device is bound to one address. */
static int guard_open(struct smt_mlx5_peers *p, const struct smt_dev_config *config)
{
    bool has_bind = config->bind_host != NULL && p->port->n_addrs == 1;
    struct smt_addr addr = {0};
    if (has_bind)
        addr = p->port->addrs[0];
    addr.port = p->by->protocol == SMT_MLX5_PROTO_UDP ? config->port : 0;
    if (!has_bind || !smt_addr_is_ipv4(&addr))
        p->guard = guard_bind(p, &addr, true);
    if (p->guard < 0) {
        if (!has_bind)
            addr.ip[10] = addr.ip[11] = 0xff;
        p->guard = guard_bind(p, &addr, false);
    }
    if (p->guard >= 0)
        return 0;
    return smt_dev_fail(config->error_text, config->error_text_len,
                        errno == EADDRINUSE ? SMT_EADDRINUSE : SMT_ESYSTEM, "UDP port %u: %s",
                        config->port, strerror(errno));
}

static int watch_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK,
                             .nl_groups = RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_ROUTE |
                                          RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_IFADDR |
                                          RTMGRP_IPV6_IFADDR};
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int smt_mlx5_peers_new(const struct smt_dev_config *config, const struct smt_mlx5_port *port,
                       const struct smt_mlx5_carrier *by, struct smt_mlx5_peers **out)
{
    struct smt_mlx5_peers *p = smt_mem_alloc(sizeof(*p));
    if (p == NULL)
        return SMT_ENOMEM;
    p->port = port;
    p->by = by;
    p->guard = -1;
    p->nl = smt_route_open();
    p->watch = watch_open();
    p->generation = 1;
    uint64_t seed[2];
    if (getrandom(seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed[0] = seed[1] = (uintptr_t)p;
    int r = p->nl < 0 || p->watch < 0
                ? smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                               "no netlink socket: %s", strerror(errno))
                : guard_open(p, config);
    if (r == 0)
        r = smt_pool_init(&p->pool, sizeof(struct smt_mlx5_peer), FIRST_PEERS, MAX_PEERS);
    if (r == 0)
        r = smt_map_init(&p->map, seed, FIRST_PEERS);
    if (r < 0) {
        smt_mlx5_peers_free(p);
        return r;
    }
    *out = p;
    return 0;
}

void smt_mlx5_peers_free(struct smt_mlx5_peers *p)
{
    if (p == NULL)
        return;
    const int fds[] = {p->nl, p->watch, p->guard};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    smt_map_fini(&p->map);
    smt_pool_fini(&p->pool);
    smt_mem_free(p);
}

uint16_t smt_mlx5_peers_port(const struct smt_mlx5_peers *p)
{
    return p->udp_port;
}

int smt_mlx5_peers_fd(const struct smt_mlx5_peers *p)
{
    return p->watch;
}

/* Does a datagram of the kernel's tell of addresses? */
static bool tells_of_addrs(struct nlmsghdr *m, size_t len)
{
    for (; NLMSG_OK(m, len); m = NLMSG_NEXT(m, len)) {
        if (m->nlmsg_type == RTM_NEWADDR || m->nlmsg_type == RTM_DELADDR)
            return true;
    }
    return false;
}

bool smt_mlx5_peers_changed(struct smt_mlx5_peers *p)
{
    _Alignas(struct nlmsghdr) uint8_t bytes[8192];
    bool any = false, addrs = false;
    for (;;) {
        ssize_t n = recv(p->watch, bytes, sizeof(bytes), 0);
        if (n <= 0 && errno != ENOBUFS)
            break;
        /* What did not fit may have been anything. */
        addrs = addrs || n <= 0 || tells_of_addrs((struct nlmsghdr *)bytes, (size_t)n);
        any = true;
    }
    p->generation += any;
    return addrs;
}

/* Makes the kernel send something there. */
static void kick(struct smt_mlx5_peers *p, struct smt_mlx5_peer *peer, uint64_t now)
{
    struct sockaddr_storage sa;
    struct smt_addr to = peer->addr;
    to.port = p->udp_port;
    unsigned len = smt_addr_to_sockaddr(&to, p->is_guard_ipv6, &sa);
    peer->kicked_at = now;
    /* Whatever comes of it: it is repeated. */
    (void)sendto(p->guard, "", 0, MSG_DONTWAIT, (const struct sockaddr *)&sa, len);
}

static void unreachable(struct smt_mlx5_peer *peer, const char *why)
{
    peer->mtu = 0;
    peer->why = why;
    peer->is_asked_for = false;
}

static void reachable(struct smt_mlx5_peers *p, struct smt_mlx5_peer *peer,
                      const struct smt_route *route, const uint8_t mac[6])
{
    bool is_ipv4 = smt_addr_is_ipv4(&peer->addr);
    struct smt_mlx5_hop hop;
    memcpy(hop.dmac, mac, 6);
    memcpy(hop.smac, p->port->link.mac, 6);
    memcpy(hop.src, route->src.ip, 16);
    memcpy(hop.dst, peer->addr.ip, 16);
    smt_mlx5_head_init(&peer->packet, &hop, p->by, p->udp_port, 0);
    peer->burst.len = 0;
    if (is_ipv4 && peer->packet.is_udp)
        smt_mlx5_head_init(&peer->burst, &hop, &smt_mlx5_by_bursts, 0, 0);
    uint32_t mtu = p->port->link.mtu;
    if (route->mtu > 0 && route->mtu < mtu)
        mtu = route->mtu;
    uint32_t headers = smt_mlx5_headers_len(p->by, is_ipv4);
    peer->mtu = mtu > headers ? mtu - headers : 0;
    peer->why = NULL;
    peer->is_asked_for = false;
}

/* Does the address that we are bound to serve as source? */
static bool source_set(const struct smt_mlx5_peers *p, struct smt_route *route)
{
    bool is_ipv4 = smt_addr_is_ipv4(&route->src);
    const struct smt_addr *other = NULL;
    for (uint32_t i = 0; i < p->port->n_addrs; i++) {
        const struct smt_addr *a = &p->port->addrs[i];
        if (memcmp(a->ip, route->src.ip, 16) == 0)
            return true;
        if (smt_addr_is_ipv4(a) == is_ipv4 && other == NULL)
            other = a;
    }
    if (other == NULL)
        return false;
    memcpy(route->src.ip, other->ip, 16);
    return true;
}

static void look_up(struct smt_mlx5_peers *p, struct smt_mlx5_peer *peer, uint64_t now)
{
    struct smt_route route;
    peer->asked_at = now;
    peer->generation = p->generation;
    int r = smt_route_find(p->nl, &peer->addr, NULL, 0, &route);
    if (r == 0 && route.is_local) {
        /* Our own frames come back to us when they are addressed to us. */
        memcpy(route.src.ip, peer->addr.ip, 16);
        if (source_set(p, &route))
            reachable(p, peer, &route, p->port->link.mac);
        else
            unreachable(peer, "the address is this machine's own, but of another interface");
        return;
    }
    if (r == 0 && route.ifindex != p->port->link.ifindex)
        r = smt_route_find(p->nl, &peer->addr, NULL, p->port->link.ifindex, &route);
    if (r < 0) {
        unreachable(peer, "no route to it leaves by the interface of this device");
        return;
    }
    if (!source_set(p, &route)) {
        unreachable(peer, "the device has no address of its family");
        return;
    }
    if (route.state == SMT_HOP_UNKNOWN && !p->port->link.is_noarp) {
        unreachable(peer, "the kernel has not found the hardware address of the next hop (ARP)");
        peer->is_asked_for = true;
        if (now - peer->kicked_at >= kick_again)
            kick(p, peer, now);
        return;
    }
    reachable(p, peer, &route, route.mac);
    if (route.state == SMT_HOP_STALE && now - peer->kicked_at >= kick_stale)
        kick(p, peer, now);
}

static struct smt_map_key key_of(const struct smt_addr *a)
{
    return (struct smt_map_key){smt_get_be64(a->ip), smt_get_be64(a->ip + 8)};
}

static struct smt_mlx5_peer *peer_new(struct smt_mlx5_peers *p, const struct smt_addr *to)
{
    struct smt_mlx5_peer *peer = smt_pool_get(&p->pool);
    if (peer == NULL)
        return NULL;
    *peer = (struct smt_mlx5_peer){.addr = *to};
    peer->addr.port = 0;
    if (smt_map_put(&p->map, key_of(to), peer) < 0) {
        smt_pool_put(&p->pool, peer);
        return NULL;
    }
    return peer;
}

struct smt_mlx5_peer *smt_mlx5_peers_get(struct smt_mlx5_peers *p, const struct smt_addr *to,
                                         uint64_t now)
{
    struct smt_mlx5_peer *peer = smt_map_get(&p->map, key_of(to));
    if (SMT_UNLIKELY(peer == NULL))
        peer = peer_new(p, to);
    if (SMT_UNLIKELY(peer == NULL))
        return NULL;
    bool is_due = peer->generation != p->generation || now - peer->asked_at >= kick_stale ||
                  (peer->mtu == 0 && now - peer->asked_at >= ask_again);
    if (SMT_UNLIKELY(is_due))
        look_up(p, peer, now);
    return peer;
}
