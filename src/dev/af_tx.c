/* Sending whole Ethernet frames by a packet socket: one call a super-frame, or one for several.
 *
 * A transmit ring would save the kernel's copy, and was not taken: over veth and loopback the
 * kernel gives a slot of the ring back as soon as the packet has changed hands, while its pages are
 * still in the receiver's queue. Whoever writes the next packet there, before it is sealed, shows
 * plaintext to that receiver. The queueing discipline is bypassed: what waits is bounded by the
 * socket's buffer, and what a full queue of the driver drops is lost like any packet. */
#include "dev/af.h"

#include <errno.h>

#include <smt/error.h>

#include "dev/steer.h"

static uint8_t *slot_data(const struct smt_af *d, const struct smt_super_frame *f)
{
    return d->slots + (size_t)(f - d->tx.frames) * SMT_AF_SLOT + SMT_AF_HEADROOM;
}

static struct smt_super_frame *slot_take(struct smt_super *s)
{
    struct smt_af_tx *tx = SMT_CONTAINER_OF(s, struct smt_af_tx, super);
    struct smt_super_frame *f = tx->spare[SMT_SUPER_FRAMES - 1 - s->n];
    /* A frame that left in parts began further on at the last. */
    f->data = slot_data(SMT_CONTAINER_OF(tx, struct smt_af, tx), f);
    return f;
}

static void slot_give(struct smt_super *s, struct smt_super_frame *f)
{
    struct smt_af_tx *tx = SMT_CONTAINER_OF(s, struct smt_af_tx, super);
    tx->spare[SMT_SUPER_FRAMES - 1 - s->n] = f;
}

void smt_af_tx_init(struct smt_af *d)
{
    struct smt_af_tx *tx = &d->tx;
    tx->super.max_segs = d->carriage->max_segs;
    tx->super.max_len = SMT_SUPER_LEN;
    tx->super.take = slot_take;
    tx->super.give = slot_give;
    for (unsigned i = 0; i < SMT_SUPER_FRAMES; i++) {
        tx->frames[i].data = slot_data(d, &tx->frames[i]);
        tx->spare[i] = &tx->frames[SMT_SUPER_FRAMES - 1 - i];
    }
}

static inline bool path_is_for(const struct smt_af_path *p, const struct smt_addr *to)
{
    return memcmp(p->to.ip, to->ip, sizeof(to->ip)) == 0 && p->to.scope == to->scope;
}

static inline struct smt_af_path *path_of(struct smt_af *d, const struct smt_addr *to)
{
    struct smt_af_tx *tx = &d->tx;
    if (tx->last == NULL || !path_is_for(tx->last, to))
        tx->last = smt_af_path_find(d, to);
    return tx->last;
}

uint8_t *smt_af_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                           uint8_t prio)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    struct smt_af_tx *tx = &d->tx;
    (void)path_of(d, to);
    /* What is too long the socket refuses better than a super-frame would. */
    tx->last_by_socket =
        !tx->last->by_ring || tx->last->by_socket_next || len > tx->last->max_len;
    if (tx->last_by_socket) {
        tx->last->by_socket_next = false;
        tx->has_by_socket = true;
        return d->holder->ops->tx_reserve(d->holder, to, len, prio);
    }
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    uint8_t *p = smt_super_reserve(&tx->super, to, len, prio);
    if (SMT_UNLIKELY(p == NULL))
        d->stats.tx_full++;
    return p;
}

/* Asking the kernel for the hop is left to single packets: some always go along. */
uint8_t *smt_af_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                       size_t last_len, uint8_t prio, size_t *stride)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    const struct smt_af_path *path = path_of(d, to);
    d->tx.last_by_socket = !path->by_ring || len > path->max_len;
    if (d->tx.last_by_socket) {
        d->tx.has_by_socket = true;
        return d->holder->ops->tx_run(d->holder, to, n, len, last_len, prio, stride);
    }
    assert(prio < 8);
    uint8_t *p = smt_super_run(&d->tx.super, to, n, len, last_len, prio);
    if (SMT_UNLIKELY(p == NULL))
        d->stats.tx_full++;
    *stride = len;
    return p;
}

uint32_t smt_af_tx_run_max(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    if (!path_of(d, to)->by_ring)
        return d->holder->ops->tx_run_max(d->holder, to);
    return d->tx.super.max_segs > 1 ? SMT_SUPER_RUN_LEN : 0;
}

void smt_af_tx_unreserve(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    if (d->tx.last_by_socket)
        d->holder->ops->tx_unreserve(d->holder);
    else
        smt_super_unreserve(&d->tx.super);
}

static void head_sent(struct smt_af *d)
{
    const struct smt_super_frame *f = d->tx.super.queue[d->tx.super.head];
    d->stats.tx_frames++;
    d->stats.tx_packets += f->n_segs;
    d->stats.tx_bytes += smt_super_len(f);
    smt_super_head_release(&d->tx.super);
}

/* The kernel refused the first frame. 0 to go on, else SMT_EAGAIN. */
static int head_failed(struct smt_af *d, int error)
{
    const struct smt_super_frame *f = d->tx.super.queue[d->tx.super.head];
    if (error == EINTR)
        return 0;
    if (error == EAGAIN || error == EWOULDBLOCK) {
        d->stats.tx_full++;
        return SMT_EAGAIN;
    }
    if (error == EMSGSIZE)
        d->stats.tx_too_big += f->n_segs;
    else
        d->stats.tx_errors += f->n_segs;
    smt_super_head_release(&d->tx.super);
    if (error == ENXIO || error == ENODEV)
        smt_af_ring_lost(d);
    /* The driver's queue was full, or there is no carrier: the kernel has dropped this frame, the
     * others wait. */
    return error == ENOBUFS ? SMT_EAGAIN : 0;
}

/* The whole frame with its headers; false when the way has changed since it was reserved. */
static bool frame_complete(struct smt_af *d, const struct smt_super_frame *f, struct iovec *out)
{
    const struct smt_af_path *path = smt_af_path_find(d, &f->to);
    if (!path->by_ring)
        return false;
    size_t headers_len;
    out->iov_base = smt_af_headers_write(d, path, f, &headers_len);
    out->iov_len = headers_len + smt_super_len(f);
    return true;
}

/* Does a frame go to one endpoint of its receiver? */
static inline bool is_one_run(const struct smt_super_frame *f)
{
    return f->n_segs == 1 ||
           smt_steer_run(f->data, f->seg_len, f->last_len, f->n_segs) == f->n_segs;
}

/* The first run of the first frame; the rest of the frame stays the first. Its headers are written
 * over what has gone before. 0 to go on, else SMT_EAGAIN. */
static int head_send_run(struct smt_af *d)
{
    struct smt_super *s = &d->tx.super;
    struct smt_super_frame *f = s->queue[s->head];
    struct smt_super_frame part = *f;
    struct iovec iov;
    f->is_fixed = true;
    part.n_segs = smt_steer_run(f->data, f->seg_len, f->last_len, f->n_segs);
    part.last_len = f->seg_len;
    if (!frame_complete(d, &part, &iov))
        return head_failed(d, EHOSTUNREACH);
    d->stats.tx_calls++;
    if (send(d->fd, iov.iov_base, iov.iov_len, 0) < 0)
        return head_failed(d, errno);
    size_t len = smt_super_len(&part);
    d->stats.tx_frames++;
    d->stats.tx_packets += part.n_segs;
    d->stats.tx_bytes += len;
    s->batch_len -= len;
    f->data += len;
    f->n_segs -= part.n_segs;
    return 0;
}

/* The first frame, or several by one call. 0 to go on, else SMT_EAGAIN. */
static int queue_send(struct smt_af *d)
{
    const struct smt_super *s = &d->tx.super;
    struct mmsghdr msgs[SMT_SUPER_FRAMES];
    struct iovec iov[SMT_SUPER_FRAMES];
    uint32_t n = 0;
    if (SMT_UNLIKELY(!is_one_run(smt_super_at(s, 0))))
        return head_send_run(d);
    while (n < s->n && is_one_run(smt_super_at(s, n)) &&
           frame_complete(d, smt_super_at(s, n), &iov[n])) {
        msgs[n].msg_hdr = (struct msghdr){.msg_iov = &iov[n], .msg_iovlen = 1};
        n++;
    }
    if (n == 0)
        return head_failed(d, EHOSTUNREACH);
    d->stats.tx_calls++;
    int sent;
    if (n == 1)
        sent = send(d->fd, iov[0].iov_base, iov[0].iov_len, 0) < 0 ? -1 : 1;
    else
        sent = sendmmsg(d->fd, msgs, n, 0);
    if (sent < 0)
        return head_failed(d, errno);
    for (int i = 0; i < sent; i++)
        head_sent(d);
    return 0;
}

int smt_af_tx_flush(struct smt_dev *dev)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    struct smt_super *s = &d->tx.super;
    int r = 0;
    while (s->n > 0 && r == 0)
        r = queue_send(d);
    smt_super_flushed(s);
    d->tx.last = NULL;
    if (d->tx.has_by_socket) {
        int by_socket = d->holder->ops->tx_flush(d->holder);
        if (by_socket != SMT_EAGAIN)
            d->tx.has_by_socket = false;
        if (by_socket < 0)
            r = by_socket;
    }
    return r;
}
