/* The devices that carry packets without the model. */
#include "conform/conform.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOOP_MTU = 9000, LOOP_CAPACITY = 1000 };

static int loop_open(struct conform_set *set)
{
    int r = smt_dev_loop_pair(LOOP_MTU, LOOP_CAPACITY, &set->tx, &set->rx[0]);
    if (r < 0)
        return r;
    set->to[0] = (struct smt_addr){.ip = {[15] = 1}, .port = 2};
    set->back = (struct smt_addr){.ip = {[15] = 1}, .port = 1};
    return 0;
}

/* What a socket says when the port of a peer is closed meets the next call. */
static void refused(struct conform_set *set)
{
    struct smt_addr to = set->to[0];
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6};
    socklen_t len = sizeof(sa);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
        abort();
    to.port = ntohs(sa.sin6_port);
    close(fd);
    for (unsigned i = 0; i < 20; i++) {
        uint8_t *p = set->tx->ops->tx_reserve(set->tx, &to, 100, 0);
        if (p != NULL)
            memset(p, CONFORM_FOREIGN, 100);
        (void)set->tx->ops->tx_flush(set->tx);
    }
}

static const struct conform_fault socket_faults[] = {{"port refused", refused}};

#define RAW                                                                                        \
    .n_rx = 4, .is_raw = true, .open = conform_ip_open, .faults = conform_ip_faults,               \
    .n_faults = CONFORM_IP_FAULTS
/* Two ends of a veth pair in one network: what is for the other end leaves, though its address is
 * local, and what comes in finds the local addresses. */
static const char veth_commands[] =
    "a=02:00:00:00:00:0a b=02:00:00:00:00:0b && "
    "ip link add va address $a type veth peer name vb address $b && "
    "ip link set va mtu 65535 up && ip link set vb mtu 65535 up && "
    "ip addr add 192.0.2.1/32 dev va && ip addr add 192.0.2.2/32 dev vb && "
    "ip addr add 2001:db8::1/128 dev va nodad && ip addr add 2001:db8::2/128 dev vb nodad && "
    "for f in -4 -6; do ip $f rule add pref 9 iif va lookup local && "
    "ip $f rule add pref 9 iif vb lookup local && ip $f rule add pref 10 lookup 10 && "
    "ip $f rule add pref 11 lookup local && ip $f rule del pref 0 || exit 1; done && "
    "ip route add 192.0.2.2 dev va src 192.0.2.1 table 10 && "
    "ip route add 192.0.2.1 dev vb src 192.0.2.2 table 10 && "
    "ip route add 2001:db8::2 dev va src 2001:db8::1 table 10 && "
    "ip route add 2001:db8::1 dev vb src 2001:db8::2 table 10 && "
    "cd /proc/sys/net/ipv4/conf && for i in all va vb; do echo 1 >$i/accept_local && "
    "echo 0 >$i/rp_filter || exit 1; done && "
    "ip neigh add 192.0.2.2 lladdr $b dev va && ip neigh add 192.0.2.1 lladdr $a dev vb && "
    "ip neigh add 2001:db8::2 lladdr $b dev va && ip neigh add 2001:db8::1 lladdr $a dev vb";

static bool veth_make(void)
{
    static int made; /* 0: not tried */
    if (made == 0)
        made = system(veth_commands) == 0 ? 1 : -1;
    return made > 0;
}

/* Without a ring it would be one more row of sockets. */
static int ring_check(const struct conform_set *set)
{
    const char *note = set->tx->ops->note(set->tx, &set->to[0]);
    if (note != NULL)
        fprintf(stderr, "%s: %s\n", set->row->name, note);
    return note != NULL ? SMT_EUNSUPPORTED : 0;
}

static int veth_open(struct conform_set *set)
{
    if (!veth_make())
        return SMT_EUNSUPPORTED;
    char text[256];
    struct smt_dev_config c = {.error_text = text, .error_text_len = sizeof(text)};
    for (unsigned i = 0; i <= set->row->n_rx; i++) {
        c.spec = i == 0 ? "af:va" : "af:vb";
        c.bind_host = i > 0                                     ? set->row->bind_host
                      : strchr(set->row->bind_host, ':') != NULL ? "2001:db8::1"
                                                                 : "192.0.2.1";
        struct smt_dev **dev = i == 0 ? &set->tx : &set->rx[i - 1];
        struct smt_addr *addr = i == 0 ? &set->back : &set->to[i - 1];
        int r = smt_dev_open(&c, dev);
        if (r < 0) {
            fprintf(stderr, "%s: %s\n", set->row->name, text);
            return r;
        }
        r = smt_dev_resolve(c.bind_host, (*dev)->ops->port(*dev), addr, 1);
        if (r < 0)
            return r;
    }
    return ring_check(set);
}

static int ip_ring_open(struct conform_set *set)
{
    if (!veth_make())
        return SMT_EUNSUPPORTED;
    const char *host = strchr(set->row->bind_host, ':') != NULL ? "2001:db8::1" : "192.0.2.1";
    int r = conform_ip_open_from(set, "ip:va,ring", host);
    return r < 0 ? r : ring_check(set);
}

static bool veth_set_mtu(int mtu)
{
    char command[128];
    snprintf(command, sizeof(command), "ip link set va mtu %d && ip link set vb mtu %d", mtu, mtu);
    return system(command) == 0;
}

#define VETH                                                                                       \
    .is_socket = true, .spec = "af:vb", .open = veth_open, .set_mtu = veth_set_mtu,                \
    .max_mtu = 65535
#define RING                                                                                       \
    .is_raw = true, .n_calls = 4, .spec = "ip:vb,ring", .open = ip_ring_open,                      \
    .set_mtu = veth_set_mtu, .max_mtu = 65535
#define SOCKET .is_socket = true, .faults = socket_faults, .n_faults = 1

const struct conform_row conform_rows[] = {
    {.name = "loop", .n_rx = 1, .open = loop_open},
    {.name = "sim", .n_rx = 4, .open = conform_sim_open},
    {.name = "udp4",
     .n_rx = 4,
     SOCKET,
     .address = "127.0.0.1",
     .spec = "udp",
     .bind_host = "127.0.0.1"},
    {.name = "udp6", .n_rx = 4, SOCKET, .address = "::1", .spec = "udp", .bind_host = "::1"},
    {.name = "udp-dual-by4", .n_rx = 4, SOCKET, .address = "127.0.0.1", .spec = "udp"},
    {.name = "udp-dual-by6", .n_rx = 4, SOCKET, .address = "::1", .spec = "udp"},
    {.name = "udp-lo", .n_rx = 4, SOCKET, .address = "127.0.0.1", .spec = "udp:lo"},
    /* Without a ring it is udp. */
    {.name = "af-lo", .n_rx = 4, SOCKET, .address = "127.0.0.1", .spec = "af:lo"},
    {.name = "af4", .n_rx = 4, VETH, .address = "192.0.2.2", .bind_host = "192.0.2.2"},
    {.name = "af6", .n_rx = 4, VETH, .address = "2001:db8::2", .bind_host = "2001:db8::2"},
    {.name = "shm4",
     .n_rx = 4,
     .is_memory = true,
     .address = "127.0.0.1",
     .spec = "shm",
     .bind_host = "127.0.0.1"},
    {.name = "shm6", .n_rx = 4, .is_memory = true, .address = "::1", .spec = "shm"},
    {.name = "tap",
     .n_rx = 4,
     SOCKET,
     .address = "127.0.0.1",
     .spec = "udp",
     .bind_host = "127.0.0.1",
     .tap = "seed=7"},
    {.name = "ip4", RAW, .address = "127.0.0.1", .spec = "ip", .bind_host = "127.0.0.1"},
    {.name = "ip6", RAW, .address = "::1", .spec = "ip", .bind_host = "::1"},
    {.name = "ip-dual", RAW, .address = "127.0.0.1", .spec = "ip:lo"},
    {.name = "ip-tcp4",
     RAW,
     .ip_protocol = 146,
     .address = "127.0.0.1",
     .spec = "ip,tcp",
     .bind_host = "127.0.0.1"},
    {.name = "ip-tcp6",
     RAW,
     .ip_protocol = 146,
     .address = "::1",
     .spec = "ip:lo,tcp",
     .bind_host = "::1"},
    {.name = "ip-ring4", .n_rx = 4, RING, .address = "192.0.2.2", .bind_host = "192.0.2.2"},
    {.name = "ip-ring6", .n_rx = 4, RING, .address = "2001:db8::2", .bind_host = "2001:db8::2"},
    /* On the machine's own RDMA device, at an address given with its name. */
    {.name = "ud", .n_rx = 4, .is_verbs = true, .is_by_name = true, .spec = "ud"},
};

const unsigned conform_n_rows = SMT_ARRAY_LEN(conform_rows);
