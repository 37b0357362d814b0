/* The devices that carry packets without the model. */
#include "conform/conform.h"

#include <netinet/in.h>
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
    /* On the machine's own RDMA device, at an address given with its name. */
    {.name = "ud", .n_rx = 4, .is_verbs = true, .is_by_name = true, .spec = "ud"},
};

const unsigned conform_n_rows = SMT_ARRAY_LEN(conform_rows);
