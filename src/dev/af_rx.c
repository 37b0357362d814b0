/* Receiving by a packet socket's ring: no system call while packets come.
 *
 * A slot of the ring holds a super-frame, as it crossed veth or as the NIC's driver joined it; it
 * is cut into packets in place and goes back to the kernel with the next call that finds all of it
 * handed out. Slots take the longest that we send. (Of 16 KB, with frames to fit them: one message
 * of 8 KB in a frame, and 8 KB x 100 was 4/5 as fast, 1 MB one-way 6/7. 30 slots of 64 KB: 30 small
 * packets that came one by one filled the ring; it has 256.) One that others joined to more waits
 * whole in the socket's queue and is read into `big`, one at a time. The holder beside it is looked
 * at seldom while nothing comes from it, always before and after a sleep. */
#include "dev/af.h"

#include <linux/if_packet.h>

#include <smt/error.h>

enum {
    SOCKET_EVERY = 32,   /* looks at an empty ring for one at the socket */
    SOCKET_HOT = 64,     /* looks at the socket at every call after it had something */
    SOCKET_BUSY = 256,   /* looks at a ring that has something for one at the socket */
    UNWATCH_AFTER = 256,
};

static inline struct tpacket2_hdr *slot_of(const struct smt_af *d, uint32_t i)
{
    return (struct tpacket2_hdr *)(void *)(d->rx.ring + ((size_t)i << d->rx.slot_shift));
}

static inline uint32_t slot_after(const struct smt_af *d, uint32_t i)
{
    return (i + 1) & (d->rx.n_slots - 1);
}

static inline bool slot_is_ours(const struct tpacket2_hdr *h)
{
    return (__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0;
}

bool smt_af_rx_pending(const struct smt_af *d)
{
    return d->rx.left > 0 || slot_is_ours(slot_of(d, d->rx.at));
}

void smt_af_rx_release(struct smt_af *d)
{
    struct smt_af_rx *rx = &d->rx;
    if (rx->left == 0)
        rx->is_big_lent = false;
    while (rx->held_from != rx->at) {
        __atomic_store_n(&slot_of(d, rx->held_from)->tp_status, TP_STATUS_KERNEL,
                         __ATOMIC_RELEASE);
        rx->held_from = slot_after(d, rx->held_from);
    }
}

static inline bool is_link_local(const uint8_t ip[16])
{
    return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

/* A destination that is not ours is on its way through this machine. */
static bool dst_is_ours(struct smt_af *d, const struct smt_af_seen *seen)
{
    if (d->has_bound_ip)
        return memcmp(seen->to_ip, d->bound_ip, sizeof(seen->to_ip)) == 0;
    if (SMT_LIKELY(memcmp(seen->to_ip, d->rx.mine, sizeof(seen->to_ip)) == 0))
        return true;
    struct smt_addr dst = {.scope = is_link_local(seen->to_ip) ? d->link.ifindex : 0};
    memcpy(dst.ip, seen->to_ip, sizeof(dst.ip));
    struct smt_route route;
    if (smt_route_find(d->nl, &dst, NULL, 0, &route) < 0 || !route.is_local)
        return false;
    memcpy(d->rx.mine, dst.ip, sizeof(dst.ip));
    return true;
}

/* Makes a frame the one that is handed out; false when it is nothing for us. */
static bool frame_open(struct smt_af *d, uint8_t *mac, uint32_t len, bool is_sum_known)
{
    struct smt_af_rx *rx = &d->rx;
    struct smt_af_seen seen;
    if (!smt_af_parse(d->protocol, mac - SMT_AF_VNET_LEN, mac, len, is_sum_known, &seen) ||
        !dst_is_ours(d, &seen))
        return false;
    if (is_link_local(seen.from.ip))
        seen.from.scope = d->link.ifindex;
    rx->from[rx->at] = seen.from;
    rx->data = seen.payload;
    rx->left = seen.payload_len;
    rx->seg_len = seen.seg_len;
    rx->ecn = seen.ecn;
    rx->ip_id = seen.ip_id;
    return true;
}

/* The frame of a slot, or from the socket's queue, which holds one for each slot marked so. */
static bool slot_open(struct smt_af *d)
{
    const struct tpacket2_hdr *h = slot_of(d, d->rx.at);
    bool is_sum_known = (h->tp_status & TP_STATUS_CSUM_VALID) != 0;
    if (h->tp_status & TP_STATUS_COPY) {
        ssize_t n = recv(d->fd, d->rx.big, SMT_AF_BIG, MSG_TRUNC);
        if (n <= SMT_AF_VNET_LEN || n > SMT_AF_BIG)
            return false;
        d->rx.is_big_lent = true;
        return frame_open(d, d->rx.big + SMT_AF_VNET_LEN, (uint32_t)n - SMT_AF_VNET_LEN,
                          is_sum_known);
    }
    if (h->tp_snaplen < h->tp_len)
        return false;
    return frame_open(d, (uint8_t *)slot_of(d, d->rx.at) + h->tp_mac, h->tp_snaplen,
                      is_sum_known);
}

/* A slot may be looked at: it is ours, and what it needs is free. One slot stays with the kernel,
 * or `held_from` could not be told from `at`. */
static inline bool slot_is_ready(const struct smt_af *d)
{
    const struct smt_af_rx *rx = &d->rx;
    const struct tpacket2_hdr *h = slot_of(d, rx->at);
    return slot_after(d, rx->at) != rx->held_from && slot_is_ours(h) &&
           !(rx->is_big_lent && (h->tp_status & TP_STATUS_COPY) != 0);
}

/* Hands out from the ring. */
static unsigned ring_take(struct smt_af *d, struct smt_pkt *pkts, unsigned n)
{
    struct smt_af_rx *rx = &d->rx;
    unsigned got = 0;
    while (got < n) {
        if (rx->left == 0) {
            if (!slot_is_ready(d))
                break;
            d->stats.rx_frames++;
            if (!slot_open(d)) {
                d->stats.rx_dropped++;
                rx->at = slot_after(d, rx->at);
                continue;
            }
        }
        struct smt_pkt *p = &pkts[got++];
        *p = (struct smt_pkt){
            .data = rx->data,
            .len = rx->left < rx->seg_len ? rx->left : rx->seg_len,
            .ecn = rx->ecn,
            .ip_id = rx->ip_id,
            .from = &rx->from[rx->at],
        };
        rx->data += p->len;
        rx->left -= p->len;
        d->stats.rx_bytes += p->len;
        if (rx->left == 0)
            rx->at = slot_after(d, rx->at);
    }
    d->stats.rx_packets += got;
    return got;
}

static int socket_take(struct smt_af *d, struct smt_pkt *pkts, unsigned n)
{
    struct smt_af_rx *rx = &d->rx;
    int got = d->holder->ops->rx(d->holder, pkts, n);
    rx->n_looks = 0;
    if (got > 0)
        rx->hot = SOCKET_HOT;
    else if (rx->hot > 0)
        rx->hot--;
    return got;
}

/* From where the last rx had its packets or the other: both lend them until the next rx. */
unsigned smt_af_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    unsigned got = ring_take(d, pkts, n);
    return got > 0 ? got : d->holder->ops->rx_more(d->holder, pkts, n);
}

int smt_af_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_af *d = SMT_CONTAINER_OF(dev, struct smt_af, base);
    struct smt_af_rx *rx = &d->rx;
    d->stats.rx_calls++;
    smt_af_rx_release(d);
    if (d->watched != 0 && ++rx->n_unarmed > UNWATCH_AFTER)
        smt_af_unwatch(d);
    if (++rx->n_looks >= SOCKET_BUSY) {
        int got = socket_take(d, pkts, n);
        if (got != 0)
            return got;
    }
    unsigned got = ring_take(d, pkts, n);
    if (got > 0)
        return (int)got;
    if (d->watched == 0 && rx->hot == 0 && rx->n_looks % SOCKET_EVERY != 0)
        return 0;
    return socket_take(d, pkts, n);
}
