/* Sending by UDP sockets: super-frames for UDP_SEGMENT, laid out in place.
 *
 * Every destination (and priority) collects its packets in a frame of its own; a frame that takes
 * no more stays in the queue and a new one is begun, so the order within a destination is the order
 * of reservation. Segments of a frame have one length: a shorter one may be the last, and is padded
 * when another follows and the waste is small.
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

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
    PAD_BYTES = 256,      /* waste of a segment that is always worth it */
    PAD_FRACTION = 4,     /* or this part of it */
    SWITCH_TOS_AFTER = 64 /* frames in a row that would need no control message */
};

void smt_udp_tx_init(struct smt_udp *d, uint8_t *slots, bool has_gso)
{
    struct smt_udp_tx *tx = &d->tx;
    tx->max_segs = has_gso ? SMT_UDP_TX_SEGMENTS : 1;
    for (unsigned i = 0; i < SMT_UDP_TX_FRAMES; i++) {
        tx->frames[i].data = slots + (size_t)i * SMT_UDP_SLOT;
        tx->spare[i] = &tx->frames[SMT_UDP_TX_FRAMES - 1 - i];
    }
    tx->socket_tos = SMT_UDP_TOS_ECT0;
    tx->want_tos = SMT_UDP_TOS_ECT0;
}

static inline uint8_t tos_of(uint8_t prio)
{
    return (uint8_t)(prio << 5 | SMT_UDP_TOS_ECT0);
}

static inline size_t frame_len(const struct smt_udp_frame *f)
{
    return (size_t)(f->n_segs - 1) * f->seg_len + f->last_len;
}

static inline bool frame_is_for(const struct smt_udp_frame *f, const struct smt_addr *to,
                                uint8_t tos)
{
    return f->tos == tos && smt_addr_equal(&f->to, to);
}

static inline bool pad_is_worth(uint32_t pad, uint32_t seg_len)
{
    return pad <= PAD_BYTES || pad <= seg_len / PAD_FRACTION;
}

/* Place behind the last segment, which is lengthened if it must be; NULL when the packet does not
 * fit this frame. */
static inline uint8_t *frame_append(struct smt_udp *d, struct smt_udp_frame *f, uint32_t len)
{
    struct smt_udp_tx *tx = &d->tx;
    uint32_t seg_len = f->seg_len;
    if (f->n_segs >= tx->max_segs || f->is_split)
        return NULL;
    if (len > seg_len) {
        if (f->n_segs > 1)
            return NULL;
        seg_len = len; /* the only segment grows with it */
    }
    uint32_t pad = seg_len - f->last_len;
    size_t at = (size_t)f->n_segs * seg_len;
    if (at + len > SMT_UDP_TX_SUPER_LEN || !pad_is_worth(pad, seg_len))
        return NULL;
    tx->undo.frame = f;
    tx->undo.last_len = f->last_len;
    tx->undo.seg_len = f->seg_len;
    tx->undo.pad = pad;
    if (pad > 0) {
        memset(f->data + at - pad, 0, pad);
        d->stats.pad_bytes += pad;
    }
    tx->batch_len += pad + len;
    f->seg_len = seg_len;
    f->last_len = len;
    f->n_segs++;
    tx->last = f;
    return f->data + at;
}

/* Begins a frame, which takes the place of the open one at `i` if i < n_open. */
static uint8_t *frame_begin(struct smt_udp *d, uint32_t i, const struct smt_addr *to, uint8_t tos,
                            uint32_t len)
{
    struct smt_udp_tx *tx = &d->tx;
    struct smt_udp_frame *f = tx->spare[SMT_UDP_TX_FRAMES - 1 - tx->n];
    tx->queue[(tx->head + tx->n) % SMT_UDP_TX_FRAMES] = f;
    tx->n++;
    tx->batch_len += len;
    /* Slots are reused last-in first-out, so it is often the same destination again. */
    if (f->name_len == 0 || !smt_addr_equal(&f->to, to)) {
        f->to = *to;
        f->name_len = smt_addr_to_sockaddr(to, d->family == AF_INET6, &f->name);
    }
    f->tos = tos;
    f->is_split = false;
    f->seg_len = len;
    f->last_len = len;
    f->n_segs = 1;
    f->done_segs = 0;
    if (i == SMT_UDP_TX_OPEN)
        i = tx->next_victim++ % SMT_UDP_TX_OPEN;
    else if (i == tx->n_open)
        tx->n_open++;
    tx->open[i] = f;
    tx->last = f;
    tx->undo.frame = f;
    tx->undo.last_len = 0;
    return f->data;
}

uint8_t *smt_udp_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                            uint8_t prio)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    struct smt_udp_tx *tx = &d->tx;
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    uint8_t tos = tos_of(prio);
    if (SMT_UNLIKELY(tx->batch_len + len > SMT_UDP_TX_BATCH_LEN))
        goto full;
    uint32_t i = tx->n_open;
    struct smt_udp_frame *f = tx->last;
    if (f != NULL && frame_is_for(f, to, tos)) {
        uint8_t *p = frame_append(d, f, (uint32_t)len);
        if (p != NULL)
            return p;
    }
    for (i = 0; i < tx->n_open; i++) {
        f = tx->open[i];
        if (!frame_is_for(f, to, tos))
            continue;
        uint8_t *p = frame_append(d, f, (uint32_t)len);
        if (p != NULL)
            return p;
        break;
    }
    if (tx->n < SMT_UDP_TX_FRAMES)
        return frame_begin(d, i, to, tos, (uint32_t)len);
full:
    d->stats.tx_full++;
    tx->undo.frame = NULL;
    return NULL;
}

void smt_udp_tx_unreserve(struct smt_dev *dev)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    struct smt_udp_tx *tx = &d->tx;
    struct smt_udp_frame *f = tx->undo.frame;
    assert(f != NULL);
    tx->undo.frame = NULL;
    if (f->n_segs > 1) {
        tx->batch_len -= tx->undo.pad + f->last_len;
        d->stats.pad_bytes -= tx->undo.pad;
        f->n_segs--;
        f->seg_len = tx->undo.seg_len;
        f->last_len = tx->undo.last_len;
        return;
    }
    /* It began the frame, which is the last of the queue. */
    tx->batch_len -= f->last_len;
    tx->n--;
    tx->spare[SMT_UDP_TX_FRAMES - 1 - tx->n] = f;
    tx->last = NULL;
    for (uint32_t i = 0; i < tx->n_open; i++) {
        if (tx->open[i] == f) {
            tx->open[i] = tx->open[--tx->n_open];
            break;
        }
    }
}

/* Takes the first frame out of the queue. */
static void head_release(struct smt_udp *d)
{
    struct smt_udp_tx *tx = &d->tx;
    struct smt_udp_frame *f = tx->queue[tx->head];
    tx->batch_len -= frame_len(f);
    f->n_segs = 0;
    tx->head = (tx->head + 1) % SMT_UDP_TX_FRAMES;
    tx->n--;
    tx->spare[SMT_UDP_TX_FRAMES - 1 - tx->n] = f;
}

static void head_sent(struct smt_udp *d)
{
    const struct smt_udp_frame *f = d->tx.queue[d->tx.head];
    d->stats.tx_frames++;
    d->stats.tx_packets += f->n_segs;
    d->stats.tx_bytes += frame_len(f);
    head_release(d);
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
static void message_fill(const struct smt_udp *d, struct smt_udp_frame *f, struct iovec *iov,
                         uint32_t gso_len, uint8_t control[SMT_UDP_TX_CONTROL], struct msghdr *m)
{
    *m = (struct msghdr){
        .msg_name = &f->name,
        .msg_namelen = f->name_len,
        .msg_iov = iov,
        .msg_iovlen = 1,
        .msg_control = control,
    };
    if (gso_len > 0) {
        uint16_t len = (uint16_t)gso_len;
        control_put(m, SOL_UDP, UDP_SEGMENT, &len, sizeof(len));
    }
    if (f->tos != d->tx.socket_tos) {
        int tos = f->tos;
        if (smt_addr_is_ipv4(&f->to))
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
}

/* One packet or super-frame in one call. The bytes sent or -1. */
static ssize_t frame_send(struct smt_udp *d, struct smt_udp_frame *f, uint8_t *data, size_t len,
                          uint32_t gso_len)
{
    d->stats.tx_calls++;
    if (gso_len == 0 && f->tos == d->tx.socket_tos)
        return sendto(d->fd, data, len, 0, (const struct sockaddr *)&f->name, f->name_len);
    struct iovec iov = {.iov_base = data, .iov_len = len};
    _Alignas(struct cmsghdr) uint8_t control[SMT_UDP_TX_CONTROL];
    struct msghdr m;
    message_fill(d, f, &iov, gso_len, control, &m);
    return sendmsg(d->fd, &m, 0);
}

static bool is_full(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS;
}

/* The first frame segment by segment. 0 when it is done with, else SMT_EAGAIN. */
static int head_send_split(struct smt_udp *d, bool is_gso_suspect)
{
    struct smt_udp_frame *f = d->tx.queue[d->tx.head];
    f->is_split = true;
    while (f->done_segs < f->n_segs) {
        size_t len = f->done_segs + 1 < f->n_segs ? f->seg_len : f->last_len;
        uint8_t *data = f->data + (size_t)f->done_segs * f->seg_len;
        if (frame_send(d, f, data, len, 0) >= 0) {
            d->stats.tx_frames++;
            d->stats.tx_packets++;
            d->stats.tx_bytes += len;
            if (is_gso_suspect && len == f->seg_len)
                d->tx.max_segs = 1;
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
    head_release(d);
    return 0;
}

/* The kernel refused the first frame. 0 to go on, else SMT_EAGAIN. */
static int head_failed(struct smt_udp *d, int error)
{
    const struct smt_udp_frame *f = d->tx.queue[d->tx.head];
    if (error == EINTR)
        return 0;
    if (is_full(error)) {
        d->stats.tx_full++;
        return SMT_EAGAIN;
    }
    if (f->n_segs > 1) {
        /* A frame with segments above the MTU may have a last one that is not. */
        if (error == EMSGSIZE)
            return head_send_split(d, false);
        if (error == EINVAL || error == EIO || error == EOPNOTSUPP)
            return head_send_split(d, true);
    }
    if (error == EMSGSIZE)
        d->stats.tx_too_big += f->n_segs;
    else
        d->stats.tx_errors += f->n_segs;
    head_release(d);
    return 0;
}

static int head_send(struct smt_udp *d)
{
    struct smt_udp_frame *f = d->tx.queue[d->tx.head];
    if (f->is_split)
        return head_send_split(d, false);
    tos_learn(d, f->tos);
    uint32_t gso_len = f->n_segs > 1 ? f->seg_len : 0;
    if (SMT_UNLIKELY(frame_send(d, f, f->data, frame_len(f), gso_len) < 0))
        return head_failed(d, errno);
    head_sent(d);
    return 0;
}

/* Several frames by one call, none of them split. */
static int queue_send(struct smt_udp *d)
{
    struct smt_udp_tx *tx = &d->tx;
    struct mmsghdr msgs[SMT_UDP_TX_FRAMES];
    struct iovec iov[SMT_UDP_TX_FRAMES];
    _Alignas(struct cmsghdr) uint8_t control[SMT_UDP_TX_FRAMES][SMT_UDP_TX_CONTROL];
    for (uint32_t i = 0; i < tx->n; i++)
        tos_learn(d, tx->queue[(tx->head + i) % SMT_UDP_TX_FRAMES]->tos);
    for (uint32_t i = 0; i < tx->n; i++) {
        struct smt_udp_frame *f = tx->queue[(tx->head + i) % SMT_UDP_TX_FRAMES];
        iov[i] = (struct iovec){.iov_base = f->data, .iov_len = frame_len(f)};
        message_fill(d, f, &iov[i], f->n_segs > 1 ? f->seg_len : 0, control[i], &msgs[i].msg_hdr);
    }
    d->stats.tx_calls++;
    int sent = sendmmsg(d->fd, msgs, tx->n, 0);
    if (sent < 0)
        return head_failed(d, errno);
    for (int i = 0; i < sent; i++)
        head_sent(d);
    return 0;
}

int smt_udp_tx_flush(struct smt_dev *dev)
{
    struct smt_udp *d = SMT_CONTAINER_OF(dev, struct smt_udp, base);
    struct smt_udp_tx *tx = &d->tx;
    int r = 0;
    while (tx->n > 0 && r == 0) {
        if (tx->n == 1 || tx->queue[tx->head]->is_split)
            r = head_send(d);
        else
            r = queue_send(d);
    }
    tx->undo.frame = NULL;
    tx->last = NULL;
    uint32_t n_open = 0;
    for (uint32_t i = 0; i < tx->n_open && tx->n > 0; i++) {
        if (tx->open[i]->n_segs > 0)
            tx->open[n_open++] = tx->open[i];
    }
    tx->n_open = n_open;
    return r;
}
