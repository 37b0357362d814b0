/* Receiving by UDP sockets: super-frames as UDP_GRO gives them, cut into packets in place.
 *
 * One call of rx makes one system call, and none while packets of the last one are left. With a
 * favourite (udp_fav.c) it is his socket that is read; that of all is looked at now and then, more
 * often after something came there, and when there is nothing else before a sleep.
 * One datagram at a time costs less by recvmsg, many by recvmmsg: the device begins with the first,
 * goes over when several calls in a row found something, and back when a batch brought one. Batches
 * are bounded in bytes, so that what is being read stays in the L2 cache. */
#include "dev/udp.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { STREAK = 3, BATCH_FIRST = 4, BATCH_MIN = 2, BATCH_LEN = 512 << 10, UNWATCH_AFTER = 256 };

/* Calls for one look at the socket of all, and when the last one found something. */
enum { MAIN_EVERY = 64, MAIN_HOT = 2 };

void smt_udp_rx_init(struct smt_udp *d, uint8_t *slots)
{
    struct smt_udp_rx *rx = &d->rx;
    for (unsigned i = 0; i < SMT_UDP_RX_FRAMES; i++) {
        rx->iov[i] = (struct iovec){
            .iov_base = slots + (size_t)i * SMT_UDP_SLOT,
            .iov_len = SMT_UDP_SLOT,
        };
        rx->msgs[i].msg_hdr = (struct msghdr){
            .msg_name = &rx->names[i],
            .msg_iov = &rx->iov[i],
            .msg_iovlen = 1,
            .msg_control = rx->control[i],
        };
    }
    rx->batch = 1;
}

/* The kernel wrote over these. Whose the favourite's packets are is known. */
static inline void message_reset(struct smt_udp_rx *rx, uint32_t i)
{
    struct msghdr *m = &rx->msgs[i].msg_hdr;
    m->msg_name = rx->is_of_fav ? NULL : &rx->names[i];
    m->msg_namelen = rx->is_of_fav ? 0 : sizeof(rx->names[i]);
    m->msg_controllen = SMT_UDP_RX_CONTROL;
}

void smt_udp_control_read(struct msghdr *m, uint32_t *seg_len, uint8_t *ecn)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        const uint8_t *data = CMSG_DATA(c);
        int value;
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            memcpy(&value, data, sizeof(value));
            if (value > 0)
                *seg_len = (uint32_t)value;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
            *ecn = data[0] & 3;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            memcpy(&value, data, sizeof(value));
            *ecn = value & 3;
        }
    }
}

/* Sender, segment length and ECN bits of frame `cur`; false when the kernel cut something off. */
static bool frame_open(struct smt_udp *d)
{
    struct smt_udp_rx *rx = &d->rx;
    struct msghdr *m = &rx->msgs[rx->cur].msg_hdr;
    uint8_t ecn = 0;
    rx->off = 0;
    rx->seg_len = rx->msgs[rx->cur].msg_len;
    d->stats.rx_frames++;
    if (SMT_UNLIKELY(m->msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return false;
    smt_udp_control_read(m, &rx->seg_len, &ecn);
    rx->ecn = smt_udp_owed_ce(d, ecn);
    if (rx->is_of_fav) {
        bool is_one = rx->seg_len == rx->msgs[rx->cur].msg_len;
        smt_udp_lone_count(d, is_one && rx->streak == 1);
        rx->from[rx->cur] = d->fav.to;
    } else if (!smt_addr_from_sockaddr(&rx->names[rx->cur], &rx->from[rx->cur])) {
        return false;
    }
    if (!d->fav.is_off)
        smt_udp_fav_count(d, &rx->from[rx->cur]);
    return true;
}

/* Hands out from what was received. */
static int rest_take(struct smt_udp *d, struct smt_pkt *pkts, unsigned n)
{
    struct smt_udp_rx *rx = &d->rx;
    unsigned got = 0;
    while (got < n && rx->cur < rx->n) {
        uint32_t len = rx->msgs[rx->cur].msg_len;
        if (rx->off == 0 && !frame_open(d)) {
            d->stats.rx_dropped++;
            rx->cur++;
            continue;
        }
        uint8_t *data = rx->iov[rx->cur].iov_base;
        while (got < n && rx->off < len) {
            uint32_t left = len - rx->off;
            struct smt_pkt *p = &pkts[got++];
            *p = (struct smt_pkt){
                .data = data + rx->off,
                .len = left < rx->seg_len ? left : rx->seg_len,
                .ecn = rx->ecn,
                .from = &rx->from[rx->cur],
            };
            rx->off += p->len;
            d->stats.rx_bytes += p->len;
        }
        if (rx->off >= len) {
            rx->off = 0;
            rx->cur++;
        }
    }
    d->stats.rx_packets += got;
    return (int)got;
}

/* Is the socket gone, or is it only that nothing could be read now? */
static bool is_dead(int error)
{
    return error == EBADF || error == ENOTSOCK || error == EFAULT || error == EINVAL;
}

static int one_receive(struct smt_udp *d, int fd)
{
    struct smt_udp_rx *rx = &d->rx;
    message_reset(rx, 0);
    ssize_t r = recvmsg(fd, &rx->msgs[0].msg_hdr, 0);
    if (r < 0)
        return -1;
    rx->msgs[0].msg_len = (uint32_t)r;
    if (++rx->streak >= STREAK)
        rx->batch = BATCH_FIRST;
    return 1;
}

static int batch_receive(struct smt_udp *d, int fd)
{
    struct smt_udp_rx *rx = &d->rx;
    for (uint32_t i = 0; i < rx->batch; i++)
        message_reset(rx, i);
    int r = recvmmsg(fd, rx->msgs, rx->batch, 0, NULL);
    if (r < BATCH_MIN) {
        rx->batch = 1;
        rx->streak = 0;
        return r;
    }
    uint32_t total = 0;
    for (int i = 0; i < r; i++)
        total += rx->msgs[i].msg_len;
    uint32_t fit = total > 0 ? (uint32_t)((uint64_t)BATCH_LEN * (uint32_t)r / total) : 0;
    uint32_t next = (uint32_t)r == rx->batch ? rx->batch * 2 : rx->batch;
    if (next > fit)
        next = fit;
    if (next > SMT_UDP_RX_FRAMES)
        next = SMT_UDP_RX_FRAMES;
    rx->batch = next < BATCH_MIN ? BATCH_MIN : next;
    return r;
}

static int socket_receive(struct smt_udp *d, int fd)
{
    struct smt_udp_rx *rx = &d->rx;
    int r = rx->batch == 1 ? one_receive(d, fd) : batch_receive(d, fd);
    if (r < 0)
        rx->streak = 0;
    return r;
}

static int all_receive(struct smt_udp *d)
{
    d->rx.is_of_fav = false;
    return socket_receive(d, d->fd);
}

/* A look at the socket of all, beside the favourite's. */
static int main_look(struct smt_udp *d)
{
    d->rx.is_of_fav = false;
    d->fav.n_looks = 0;
    int r = one_receive(d, d->fd);
    d->fav.every = r > 0 ? MAIN_HOT : MAIN_EVERY;
    return r;
}

static bool is_nothing(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static int fav_receive(struct smt_udp *d)
{
    d->rx.is_of_fav = true;
    if (d->fav.lone.is_on)
        return smt_udp_lone_look(d);
    int r = socket_receive(d, d->fav.fd);
    if (r < 0 && is_nothing(errno)) {
        smt_udp_lone_begin(d);
        errno = EAGAIN;
    }
    return r;
}

static int both_receive(struct smt_udp *d)
{
    if (SMT_UNLIKELY(d->fav.is_new)) {
        int r = all_receive(d);
        if (r > 0 || !is_nothing(errno))
            return r;
        d->fav.is_new = false;
        d->fav.every = MAIN_EVERY;
    }
    bool is_due = ++d->fav.n_looks >= d->fav.every;
    if (is_due) {
        int r = main_look(d);
        if (r > 0 || !is_nothing(errno))
            return r;
    }
    int r = fav_receive(d);
    if (r > 0)
        return r;
    if (!is_nothing(errno)) {
        smt_udp_fav_end(d);
        errno = EAGAIN;
    }
    return d->watched != 0 && !is_due ? main_look(d) : r;
}

unsigned smt_udp_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    return (unsigned)rest_take(d, pkts, n);
}

int smt_udp_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    struct smt_udp_rx *rx = &d->rx;
    if (rx->cur < rx->n)
        return rest_take(d, pkts, n);
    d->stats.rx_calls++;
    if (d->watched != 0 && ++d->n_unarmed > UNWATCH_AFTER)
        smt_udp_unwatch(d);
    if (d->fav.lone.stands)
        smt_udp_lone_take(d);
    rx->cur = rx->n = 0;
    int r = d->fav.fd < 0 ? all_receive(d) : both_receive(d);
    if (r < 0)
        return is_dead(errno) ? SMT_EDEVICE : 0;
    if (d->fav.lone.stands)
        return smt_udp_lone_hand(d, pkts);
    rx->n = (uint32_t)r;
    return rest_take(d, pkts, n);
}
