/* The table of devices under test, and the private network they run in. */
#include "conform/conform.h"

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
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

const struct conform_row conform_rows[] = {
    {.name = "loop", .n_rx = 1, .open = loop_open},
    {.name = "udp4",
     .n_rx = 4,
     .is_socket = true,
     .address = "127.0.0.1",
     .spec = "udp",
     .bind_host = "127.0.0.1"},
    {.name = "udp6",
     .n_rx = 4,
     .is_socket = true,
     .address = "::1",
     .spec = "udp",
     .bind_host = "::1"},
    {.name = "udp-dual-by4", .n_rx = 4, .is_socket = true, .address = "127.0.0.1", .spec = "udp"},
    {.name = "udp-dual-by6", .n_rx = 4, .is_socket = true, .address = "::1", .spec = "udp"},
    {.name = "udp-lo", .n_rx = 4, .is_socket = true, .address = "127.0.0.1", .spec = "udp:lo"},
    {.name = "tap",
     .n_rx = 4,
     .is_socket = true,
     .address = "127.0.0.1",
     .spec = "udp",
     .bind_host = "127.0.0.1",
     .tap = "seed=7"},
};

const unsigned conform_n_rows = SMT_ARRAY_LEN(conform_rows);

struct smt_dev_config conform_config(const struct conform_row *row, uint16_t port)
{
    return (struct smt_dev_config){
        .spec = row->spec, .bind_host = row->bind_host, .port = port, .tap = row->tap};
}

static int named_open(struct conform_set *set)
{
    char text[256];
    struct smt_dev_config config = conform_config(set->row, 0);
    config.error_text = text;
    config.error_text_len = sizeof(text);
    for (unsigned i = 0; i <= set->row->n_rx; i++) {
        struct smt_dev **dev = i == 0 ? &set->tx : &set->rx[i - 1];
        struct smt_addr *addr = i == 0 ? &set->back : &set->to[i - 1];
        int r = smt_dev_open(&config, dev);
        if (r < 0) {
            fprintf(stderr, "%s: %s\n", set->row->name, text);
            return r;
        }
        r = smt_dev_resolve(set->row->address, (*dev)->ops->port(*dev), addr, 1);
        if (r < 0)
            return r;
    }
    return 0;
}

int conform_open(const struct conform_row *row, struct conform_set *set)
{
    *set = (struct conform_set){.row = row, .n_rx = row->n_rx};
    int r = row->open != NULL ? row->open(set) : named_open(set);
    if (r < 0)
        conform_close(set);
    return r;
}

void conform_close(struct conform_set *set)
{
    if (set->tx != NULL)
        set->tx->ops->close(set->tx);
    for (unsigned i = 0; i < CONFORM_MAX_RX; i++) {
        if (set->rx[i] != NULL)
            set->rx[i]->ops->close(set->rx[i]);
    }
    *set = (struct conform_set){.row = set->row};
}

static bool lo_ioctl(unsigned long request, struct ifreq *ifr)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    strcpy(ifr->ifr_name, "lo");
    bool ok = ioctl(fd, request, ifr) == 0;
    close(fd);
    return ok;
}

static bool is_private;

bool conform_private_net(void)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    struct ifreq ifr = {0};
    ifr.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
    is_private = lo_ioctl(SIOCSIFFLAGS, &ifr);
    return is_private;
}

bool conform_set_lo_mtu(int mtu)
{
    struct ifreq ifr = {0};
    ifr.ifr_mtu = mtu;
    return is_private && lo_ioctl(SIOCSIFMTU, &ifr);
}
