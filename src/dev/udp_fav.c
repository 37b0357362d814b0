/* The favourite: a second socket at our port, connected to who alone has been sending for a while.
 *
 * For a connected socket the kernel looks up no route, neither for what it sends nor for what it
 * receives: 64 B round trips over veth are 1.03 times as fast. Packets of anybody else come by the
 * socket of all, which udp_rx.c looks at less often while nothing comes there.
 *
 * Nothing depends on it: whatever the kernel refuses to a connected socket and not to the other one
 * (an ICMP error, which anybody can forge; a source address that is gone) ends it, and the packet
 * goes the usual way; what stood in its queue is lost like any packet. Who shares the device with
 * others, so that the favourite is wrong, ends it, too; each time it takes longer to become one.
 * The port stays ours: others may join it only between two system calls, and only our own user. */
#include "dev/udp.h"

#include <unistd.h>

enum {
    WANT_FIRST = 1024, /* frames in a row of one sender */
    WANT_MOST = 1 << 24,
    /* A frame by the socket of all counts so much, one by the favourite takes 1 back. */
    OTHER_WEIGHT = 8,
    OTHERS_MOST = 512,
};

void smt_udp_fav_init(struct smt_udp *d, bool is_off)
{
    d->fav = (struct smt_udp_fav){.fd = -1, .is_off = is_off, .n_wanted = WANT_FIRST};
}

void smt_udp_fav_end(struct smt_udp *d)
{
    if (d->fav.fd < 0)
        return;
    d->stats.rx_dropped += smt_udp_socket_drops(d->fav.fd);
    close(d->fav.fd);
    d->fav.fd = -1;
    d->fav.watched = 0;
    d->fav.n_row = 0;
    d->fav.lone = (struct smt_udp_lone){.is_on = false};
    if (d->fav.n_wanted < WANT_MOST)
        d->fav.n_wanted *= 2;
}

void smt_udp_fav_off(struct smt_udp *d)
{
    smt_udp_fav_end(d);
    d->fav.is_off = true;
}

static int port_open_to_us(int fd, int on)
{
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
}

/* Binds at our address and port, while it is open to our own user, and connects. */
static int place_take(const struct smt_udp *d, int fd, const struct smt_addr *to)
{
    struct sockaddr_storage here, there;
    struct smt_addr local = {.port = 0};
    socklen_t len = sizeof(here);
    bool is_ipv4 = smt_addr_is_ipv4(to);
    if (getsockname(d->fd, (struct sockaddr *)&here, &len) < 0 ||
        !smt_addr_from_sockaddr(&here, &local))
        return -1;
    if (is_ipv4 && d->family == AF_INET6)
        local.ip[10] = local.ip[11] = 0xff; /* from all of both families to all of this one */
    len = smt_addr_to_sockaddr(&local, false, &here);
    if (port_open_to_us(fd, 1) < 0 || port_open_to_us(d->fd, 1) < 0)
        return -1;
    int r = bind(fd, (const struct sockaddr *)&here, len);
    if (port_open_to_us(d->fd, 0) < 0 || r < 0 || port_open_to_us(fd, 0) < 0)
        return -1;
    len = smt_addr_to_sockaddr(to, false, &there);
    return connect(fd, (const struct sockaddr *)&there, len);
}

static void fav_begin(struct smt_udp *d, const struct smt_addr *to)
{
    int family = smt_addr_is_ipv4(to) ? AF_INET : AF_INET6;
    d->fav.n_row = 0;
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || smt_udp_socket_prepare(d, fd, family) < 0 || place_take(d, fd, to) < 0) {
        if (fd >= 0)
            close(fd);
        d->fav.is_off = true;
        return;
    }
    d->fav.fd = fd;
    d->fav.to = *to;
    d->fav.n_others = 0;
    d->fav.n_looks = 0;
    d->fav.is_new = true;
}

void smt_udp_fav_count(struct smt_udp *d, const struct smt_addr *from)
{
    struct smt_udp_fav *fav = &d->fav;
    if (fav->fd < 0) {
        fav->n_row = smt_addr_equal(&fav->to, from) ? fav->n_row + 1 : 0;
        fav->to = *from;
        if (SMT_UNLIKELY(fav->n_row >= fav->n_wanted))
            fav_begin(d, from);
    } else if (d->rx.is_of_fav) {
        fav->n_others -= fav->n_others > 0;
    } else if (!smt_addr_equal(&fav->to, from)) {
        fav->n_others += OTHER_WEIGHT;
        if (fav->n_others > OTHERS_MOST)
            smt_udp_fav_end(d);
    }
}

void smt_udp_fav_tos(struct smt_udp *d, uint8_t tos)
{
    int value = tos, fd = d->fav.fd;
    bool is_ipv4 = smt_addr_is_ipv4(&d->fav.to);
    if (fd >= 0 && setsockopt(fd, is_ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                              is_ipv4 ? IP_TOS : IPV6_TCLASS, &value, sizeof(value)) < 0)
        smt_udp_fav_end(d);
}
