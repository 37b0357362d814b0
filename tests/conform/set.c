/* A sender and its receivers over any row, and the private network they run in. */
#include "conform/conform.h"

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct smt_dev_config conform_config(const struct conform_row *row, uint16_t port)
{
    return (struct smt_dev_config){.spec = row->spec,
                                   .bind_host = row->bind_host,
                                   .port = port,
                                   .tap = row->tap,
                                   .ip_protocol = row->ip_protocol};
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
