/* Sending by UDP sockets: super-frames (super.c) for UDP_SEGMENT.
 *
 * Measured: at one frame a flush sendto without control messages beats sendmsg; sendmmsg pays only
 * from two frames on. Slots are reused last-in first-out because a ring that walks through all
 * slots leaves the L2 cache (10-45 % slower).
 *
 * Errors of the kernel belong to the frame at the head: it is dropped and counted, nothing else is
 * lost. A kernel or path without segmentation offload shows by EINVAL or EIO: the frame is then
 * sent segment by segment, and if that works the device stays with single packets. */
#include "dev/udp.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "dev/steer.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { SWITCH_TOS_AFTER = 64 }; /* frames in a row that would need no control message */

/* Slots come from a stack, so that few are in use and those are warm. */
static struct smt_super_frame *slot_take(struct smt_super *s)
{
    struct smt_udp_tx *tx = SMT_CONTAINER_OF(s, struct smt_udp_tx, super);
    struct smt_udp_frame *f = tx->spare[SMT_SUPER_FRAMES - 1 - s->n];
    f->done_segs = 0;
    return &f->super;
}

static void slot_give(struct smt_super *s, struct smt_super_frame *f)
{
    struct smt_udp_tx *tx = SMT_CONTAINER_OF(s, struct smt_udp_tx, super);
    tx->spare[SMT_SUPER_FRAMES - 1 - s->n] = SMT_CONTAINER_OF(f, struct smt_udp_frame, super);
}

void smt_udp_tx_init(struct smt_udp *d, uint8_t *slots, bool has_gso)
{
    struct smt_udp_tx *tx = &d->tx;
    tx->super.max_segs = has_gso ? SMT_SUPER_SEGMENTS : 1;
    tx->super.max_len = SMT_SUPER_LEN;
    tx->super.take = slot_take;
    tx->super.give = slot_give;
    for (unsigned i = 0; i < SMT_SUPER_FRAMES; i++) {
        tx->frames[i].super.data = slots + (size_t)i * SMT_UDP_SLOT;
        tx->frames[i].super.is_moved = true;
        tx->spare[i] = &tx->frames[SMT_SUPER_FRAMES - 1 - i];
    }
    tx->socket_tos = SMT_TOS_ECT0;
    tx->want_tos = SMT_TOS_ECT0;
}

uint8_t *smt_udp_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                            uint8_t prio)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    uint8_t *p = smt_super_reserve(&d->tx.super, to, len, prio);
    if (SMT_UNLIKELY(p == NULL))
        d->stats.tx_full++;
    return p;
}

uint8_t *smt_udp_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                        size_t last_len, uint8_t prio, size_t *stride)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    assert(prio < 8);
    uint8_t *p = smt_super_run(&d->tx.super, to, n, len, last_len, prio);
    if (SMT_UNLIKELY(p == NULL))
        d->stats.tx_full++;
    *stride = len;
    return p;
}

uint32_t smt_udp_tx_run_max(struct smt_dev *dev, const struct smt_addr *to)
{
    const struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    return d->tx.super.max_segs > 1 ? SMT_SUPER_RUN_LEN : 0;
}

void smt_udp_tx_unreserve(struct smt_dev *dev)
{
    smt_super_unreserve(&SMT_CONTAINER_OF(dev, struct smt_udp, base)->tx.super);
}

static inline struct smt_udp_frame *head_of(const struct smt_udp *d)
{
    return SMT_CONTAINER_OF(d->tx.super.queue[d->tx.super.head], struct smt_udp_frame, super);
}

static void head_sent(struct smt_udp *d)
{
    const struct smt_super_frame *f = &head_of(d)->super;
    d->stats.tx_frames++;
    d->stats.tx_packets += f->n_segs;
    d->stats.tx_bytes += smt_super_len(f);
    smt_super_head_release(&d->tx.super);
}

/* The name of a frame's destination, made when it changes. */
static inline void name_refresh(const struct smt_udp *d, struct smt_udp_frame *f)
{
    if (!f->super.is_moved)
        return;
    f->super.is_moved = false;
    f->name_len = smt_addr_to_sockaddr(&f->super.to, d->family == AF_INET6, &f->name);
}

static void control_put(struct msghdr *m, int level, int type, const void *data, size_t len)
{
    struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)m->msg_control + m->msg_controllen);
    memset(c, 0, CMSG_SPACE(len));
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), data, len);
    m->msg_controllen += CMSG_SPACE(len);
}

/* Everything but the bytes; gso_len 0 for a single packet. */
static void message_fill(const struct smt_udp *d, bool by_fav, struct smt_udp_frame *f,
                         struct iovec *iov, uint32_t gso_len, uint8_t control[SMT_UDP_TX_CONTROL],
                         struct msghdr *m)
{
    if (!by_fav)
        name_refresh(d, f);
    *m = (struct msghdr){
        .msg_name = by_fav ? NULL : &f->name,
        .msg_namelen = by_fav ? 0 : f->name_len,
        .msg_iov = iov,
        .msg_iovlen = 1,
        .msg_control = control,
    };
    if (gso_len > 0) {
        uint16_t len = (uint16_t)gso_len;
        control_put(m, SOL_UDP, UDP_SEGMENT, &len, sizeof(len));
    }
    if (f->super.tos != d->tx.socket_tos) {
        int tos = f->super.tos;
        if (smt_addr_is_ipv4(&f->super.to))
            control_put(m, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
        else
            control_put(m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
    }
}

/* When one priority has been wanted for a while it becomes the socket's, which saves its control
 * messages. Frames in the queue are not concerned: messages are filled when they are sent. */
static void tos_learn(struct smt_udp *d, uint8_t tos)
{
    struct smt_udp_tx *tx = &d->tx;
    if (tos != tx->want_tos) {
        tx->want_tos = tos;
        tx->n_want = 0;
    }
    if (tos == tx->socket_tos || ++tx->n_want < SWITCH_TOS_AFTER)
        return;
    tx->n_want = 0;
    int value = tos;
    if (setsockopt(d->fd, IPPROTO_IP, IP_TOS, &value, sizeof(value)) < 0)
        return;
    /* Half a switch would mark the packets of one family wrongly, so it is undone. */
    if (d->family == AF_INET6 &&
        setsockopt(d->fd, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof(value)) < 0) {
        value = tx->socket_tos;
        if (setsockopt(d->fd, IPPROTO_IP, IP_TOS, &value, sizeof(value)) < 0)
            d->stats.tx_errors++;
        return;
    }
    tx->socket_tos = tos;
    smt_udp_fav_tos(d, tos);
}

static bool is_full(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS;
}

/* The kernel refused something to the favourite's socket. True: it ends, and is to be tried by that
 * of all. */
static bool fav_failed(struct smt_udp *d, int error)
{
    if (is_full(error) || error == EINTR)
        return false;
    smt_udp_fav_end(d);
    return true;
}

/* One packet or super-frame in one call, by the favourite's socket or that of all. */
static ssize_t frame_send_by(struct smt_udp *d, bool by_fav, struct smt_udp_frame *f, uint8_t *data,
                             size_t len, uint32_t gso_len)
{
    int fd = by_fav ? d->fav.fd : d->fd;
    d->stats.tx_calls++;
    if (gso_len == 0 && f->super.tos == d->tx.socket_tos)
        return sendto(fd, data, len, 0, by_fav ? NULL : (const struct sockaddr *)&f->name,
                      by_fav ? 0 : f->name_len);
    struct iovec iov = {.iov_base = data, .iov_len = len};
    _Alignas(struct cmsghdr) uint8_t control[SMT_UDP_TX_CONTROL];
    struct msghdr m;
    message_fill(d, by_fav, f, &iov, gso_len, control, &m);
    return sendmsg(fd, &m, 0);
}

/* The bytes sent or -1. */
static ssize_t frame_send(struct smt_udp *d, struct smt_udp_frame *f, uint8_t *data, size_t len,
                          uint32_t gso_len)
{
    if (smt_udp_fav_is(d, &f->super.to)) {
        ssize_t sent = frame_send_by(d, true, f, data, len, gso_len);
        if (sent >= 0 || !fav_failed(d, errno))
            return sent;
    }
    name_refresh(d, f);
    return frame_send_by(d, false, f, data, len, gso_len);
}

/* The first frame segment by segment. 0 when it is done with, else SMT_EAGAIN. */
static int head_send_split(struct smt_udp *d, bool is_gso_suspect)
{
    struct smt_udp_frame *f = head_of(d);
    f->super.is_fixed = true;
    while (f->done_segs < f->super.n_segs) {
        size_t len = f->done_segs + 1 < f->super.n_segs ? f->super.seg_len : f->super.last_len;
        uint8_t *data = f->super.data + (size_t)f->done_segs * f->super.seg_len;
        if (frame_send(d, f, data, len, 0) >= 0) {
            d->stats.tx_frames++;
            d->stats.tx_packets++;
            d->stats.tx_bytes += len;
            if (is_gso_suspect && len == f->super.seg_len)
                d->tx.super.max_segs = 1;
        } else if (errno == EINTR) {
            continue;
        } else if (is_full(errno)) {
            d->stats.tx_full++;
            return SMT_EAGAIN;
        } else if (errno == EMSGSIZE) {
            d->stats.tx_too_big++;
        } else {
            d->stats.tx_errors++;
        }
        f->done_segs++;
    }
    smt_super_head_release(&d->tx.super);
    return 0;
}

/* Does a frame go to one endpoint of its receiver? */
static inline bool is_one_run(const struct smt_super_frame *f)
{
    return f->n_segs == 1 ||
           smt_steer_run(f->data, f->seg_len, f->last_len, f->n_segs) == f->n_segs;
}

/* The first frame, in as many parts as it has runs of one endpoint. 0 when it is done with, else
 * SMT_EAGAIN. */
static int head_send_runs(struct smt_udp *d)
{
    struct smt_udp_frame *f = head_of(d);
    const struct smt_super_frame *s = &f->super;
    f->super.is_fixed = true;
    while (f->done_segs < s->n_segs) {
        uint8_t *data = s->data + (size_t)f->done_segs * s->seg_len;
        uint32_t left = s->n_segs - f->done_segs;
        uint32_t run = smt_steer_run(data, s->seg_len, s->last_len, left);
        size_t len = (size_t)(run - 1) * s->seg_len + (run == left ? s->last_len : s->seg_len);
        if (frame_send(d, f, data, len, run > 1 ? s->seg_len : 0) < 0)
            return head_send_split(d, false);
        d->stats.tx_frames++;
        d->stats.tx_packets += run;
        d->stats.tx_bytes += len;
        f->done_segs += run;
    }
    smt_super_head_release(&d->tx.super);
    return 0;
}

/* The kernel refused the first frame. 0 to go on, else SMT_EAGAIN. */
static int head_failed(struct smt_udp *d, int error)
{
    const struct smt_udp_frame *f = head_of(d);
    if (error == EINTR)
        return 0;
    if (is_full(error)) {
        d->stats.tx_full++;
        return SMT_EAGAIN;
    }
    if (f->super.n_segs > 1) {
        /* A frame with segments above the MTU may have a last one that is not. */
        if (error == EMSGSIZE)
            return head_send_split(d, false);
        if (error == EINVAL || error == EIO || error == EOPNOTSUPP)
            return head_send_split(d, true);
    }
    if (error == EMSGSIZE)
        d->stats.tx_too_big += f->super.n_segs;
    else
        d->stats.tx_errors += f->super.n_segs;
    smt_super_head_release(&d->tx.super);
    return 0;
}

static int head_send(struct smt_udp *d)
{
    struct smt_udp_frame *f = head_of(d);
    if (f->super.is_fixed)
        return head_send_split(d, false);
    tos_learn(d, f->super.tos);
    if (SMT_UNLIKELY(!is_one_run(&f->super)))
        return head_send_runs(d);
    uint32_t gso_len = f->super.n_segs > 1 ? f->super.seg_len : 0;
    if (SMT_UNLIKELY(frame_send(d, f, f->super.data, smt_super_len(&f->super), gso_len) < 0))
        return head_failed(d, errno);
    head_sent(d);
    return 0;
}

/* The first `n` frames by one call, none of them split; by the favourite's socket if all are
 * for it. */
static int queue_send(struct smt_udp *d, uint32_t n)
{
    const struct smt_super *s = &d->tx.super;
    bool by_fav = true;
    struct mmsghdr msgs[SMT_SUPER_FRAMES];
    struct iovec iov[SMT_SUPER_FRAMES];
    _Alignas(struct cmsghdr) uint8_t control[SMT_SUPER_FRAMES][SMT_UDP_TX_CONTROL];
    for (uint32_t i = 0; i < n; i++)
        tos_learn(d, smt_super_at(s, i)->tos);
    for (uint32_t i = 0; i < n && by_fav; i++)
        by_fav = smt_udp_fav_is(d, &smt_super_at(s, i)->to);
    for (uint32_t i = 0; i < n; i++) {
        struct smt_super_frame *f = smt_super_at(s, i);
        iov[i] = (struct iovec){.iov_base = f->data, .iov_len = smt_super_len(f)};
        message_fill(d, by_fav, SMT_CONTAINER_OF(f, struct smt_udp_frame, super), &iov[i],
                     f->n_segs > 1 ? f->seg_len : 0, control[i], &msgs[i].msg_hdr);
    }
    d->stats.tx_calls++;
    int sent = sendmmsg(by_fav ? d->fav.fd : d->fd, msgs, n, 0);
    if (sent < 0 && by_fav && fav_failed(d, errno))
        return 0;
    if (sent < 0)
        return head_failed(d, errno);
    for (int i = 0; i < sent; i++)
        head_sent(d);
    return 0;
}

int smt_udp_tx_flush(struct smt_dev *dev)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    struct smt_super *s = &d->tx.super;
    int r = 0;
    while (s->n > 0 && r == 0) {
        uint32_t n_whole = 0;
        while (s->n > 1 && n_whole < s->n && !smt_super_at(s, n_whole)->is_fixed &&
               is_one_run(smt_super_at(s, n_whole)))
            n_whole++;
        r = n_whole > 1 ? queue_send(d, n_whole) : head_send(d);
    }
    smt_super_flushed(s);
    return r;
}
