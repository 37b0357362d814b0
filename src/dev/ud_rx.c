/* Receiving by UD queue pairs: completions become packets in place.
 *
 * Buffers of a queue pair are used in the order in which they were posted, so their work requests
 * are chained once, at opening, in a circle; a lot is posted again by cutting the circle behind it.
 * That needs no list of free buffers and writes nothing per packet. A completion out of that order
 * would mean that the rings are out of step: the queue pair is reset.
 *
 * Payloads begin at a cache line: the 40 bytes of the GRH lie before it. */
#include "dev/ud.h"
#include "dev/machine.h"

enum { LOOK_EVERY = 128, LOOK_EVERY_ASKING = 16, TICK_MS = 4 };

/* Posts the buffers of `n` completions again, a multiple of a lot and less than the ring. */
static bool lots_post(struct smt_ud *d, struct smt_ud_qp *q, uint32_t n)
{
    uint32_t mask = d->sizes.rx_depth - 1;
    struct ibv_recv_wr *first = &q->rx_wrs[q->reposted & mask];
    struct ibv_recv_wr *end = &q->rx_wrs[(q->reposted + n - 1) & mask];
    struct ibv_recv_wr *next = end->next, *bad;
    end->next = NULL;
    int r = ibv_post_recv(q->qp, first, &bad);
    end->next = next;
    q->reposted += n;
    return r == 0;
}

int smt_ud_rx_post_all(struct smt_ud *d, struct smt_ud_qp *q)
{
    q->handed = q->returned = q->reposted = 0;
    for (uint32_t i = 0; i < d->sizes.rx_depth; i++)
        q->rx_wrs[i].wr_id = q->tag | i;
    if (!lots_post(d, q, d->sizes.rx_depth))
        return SMT_EDEVICE;
    q->reposted = 0;
    return 0;
}

/* What was handed out before this call is nobody's any more. Has a queue pair shown an error? */
static inline bool buffers_return(struct smt_ud *d)
{
    bool is_suspect = false;
    for (uint32_t i = 0; i < d->n_qps; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        q->returned = q->handed;
        uint32_t n = (q->returned - q->reposted) & ~(uint32_t)(SMT_UD_LOT - 1);
        if (n > 0 && !q->is_suspect && SMT_UNLIKELY(!lots_post(d, q, n)))
            q->is_suspect = q->is_stuck = true;
        is_suspect |= q->is_suspect;
    }
    return is_suspect;
}

bool smt_ud_rx_fill(struct smt_ud *d, uint32_t n)
{
    struct smt_ud_rx *rx = &d->rx;
    if (rx->cur < rx->n)
        return true;
    rx->cur = 0;
    int got = ibv_poll_cq(rx->cq, (int)(n < SMT_UD_WCS ? n : SMT_UD_WCS), rx->wcs);
    if (SMT_UNLIKELY(got < 0)) {
        smt_ud_break(d, "a completion queue of the RDMA device cannot be read any more");
        got = 0;
    }
    rx->n = (uint32_t)got;
    return got > 0;
}

static inline uint8_t *payload_of(const struct smt_ud *d, const struct ibv_wc *wc)
{
    const struct smt_ud_qp *q = &d->qps[wc->wr_id >> 32 & (SMT_UD_MAX_QPS - 1)];
    uint32_t slot = (uint32_t)wc->wr_id & (d->sizes.rx_depth - 1);
    return q->rx_mem + (size_t)slot * d->sizes.rx_stride + SMT_UD_PAYLOAD_AT;
}

/* One completion, its payload at `data`. False when it gives no packet. */
static inline bool packet_make(struct smt_ud *d, const struct ibv_wc *wc, uint8_t *data,
                               struct smt_addr *from, struct smt_pkt *pkt)
{
    struct smt_ud_qp *q = &d->qps[wc->wr_id >> 32 & (SMT_UD_MAX_QPS - 1)];
    uint64_t expected = q->tag | (q->handed & (d->sizes.rx_depth - 1));
    if (SMT_UNLIKELY(wc->wr_id != expected)) {
        if ((wc->wr_id ^ q->tag) >> 32 == 0)
            q->is_suspect = q->is_stuck = true;
        return false;
    }
    q->handed++;
    if (SMT_UNLIKELY(wc->status != IBV_WC_SUCCESS)) {
        d->stats.rx_dropped++;
        q->is_peers_doing |= wc->status == IBV_WC_LOC_LEN_ERR;
        q->is_suspect = true;
        return false;
    }
    if (SMT_UNLIKELY(wc->byte_len <= SMT_UD_GRH_LEN))
        return false; /* a marker of a sender that closes */
    uint8_t ecn;
    if (SMT_UNLIKELY(!smt_ud_peers_source(d->peers, wc, data - SMT_UD_GRH_LEN, from, &ecn))) {
        d->stats.rx_dropped++;
        return false;
    }
    uint32_t len = wc->byte_len - SMT_UD_GRH_LEN;
    d->stats.rx_bytes += len;
    *pkt = (struct smt_pkt){.data = data, .len = len, .ecn = ecn, .from = from};
    return true;
}

void smt_ud_rx_drain(struct smt_ud *d)
{
    struct smt_ud_rx *rx = &d->rx;
    struct smt_addr from;
    struct smt_pkt pkt;
    while (smt_ud_rx_fill(d, SMT_UD_WCS)) {
        for (; rx->cur < rx->n; rx->cur++) {
            const struct ibv_wc *wc = &rx->wcs[rx->cur];
            d->stats.rx_dropped += packet_make(d, wc, payload_of(d, wc), &from, &pkt);
        }
    }
}

/* The rare things that polling has to see to. */
static void look_now_and_then(struct smt_ud *d, bool is_idle)
{
    if (is_idle)
        d->now = smt_coarse_now();
    if (--d->countdown > 0 && d->now - d->looked_at < TICK_MS * SMT_MSEC)
        return;
    smt_ud_look(d);
    d->countdown = smt_ud_peers_is_asking(d->peers) ? LOOK_EVERY_ASKING : LOOK_EVERY;
}

int smt_ud_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_ud *d = smt_ud_of(dev);
    struct smt_ud_rx *rx = &d->rx;
    d->stats.rx_calls++;
    if (SMT_UNLIKELY(buffers_return(d))) {
        smt_ud_recover(d);
        if (smt_ud_is_broken(d))
            n = 0;
    }
    if (n > SMT_DEV_RX_BATCH)
        n = SMT_DEV_RX_BATCH;
    unsigned got = 0;
    while (got < n && smt_ud_rx_fill(d, n - got)) {
        const struct ibv_wc *wc = &rx->wcs[rx->cur], *end = &rx->wcs[rx->n];
        uint8_t *data = payload_of(d, wc);
        for (; wc < end && got < n; wc++) {
            uint8_t *next = payload_of(d, wc + 1); /* anywhere after the last */
            __builtin_prefetch(next - SMT_UD_GRH_LEN);
            __builtin_prefetch(next);
            got += packet_make(d, wc, data, &rx->from[got], &pkts[got]);
            data = next;
        }
        rx->cur = (uint32_t)(wc - rx->wcs);
        if (rx->n < SMT_UD_WCS)
            break;
    }
    d->stats.rx_packets += got;
    d->stats.rx_frames += got;
    look_now_and_then(d, got == 0);
    return got == 0 && SMT_UNLIKELY(d->is_lost) ? SMT_EDEVICE : (int)got;
}
