/* Sending by UD queue pairs: packets are written straight into registered memory, and one flush
 * rings one doorbell on each queue pair that has something to post.
 *
 * Slots come from a stack, so few are in use and those are warm; which slot a work request has is
 * remembered in `sent` until its completion. Small packets go inline and give their slot back at
 * once. One request in SMT_UD_SIGNAL_EVERY asks for a completion, which frees all before it; depths
 * are multiples of that, so the request that fills a queue is always one of them. The route is
 * looked up once for a run of packets to one destination; the next look at what peers say ends the
 * run, so that nothing is missed for long.
 *
 * Tried and left out: a completion for the last packet of each flush. It would tell at closing that
 * everything has left, but costs one completion per small message; smt_ud_tx_linger asks for one
 * when it is needed instead, by an empty packet that receivers pass over. */
#include "dev/ud_slot.h"

#include <time.h>

#include "dev/machine.h"
#include "dev/steer.h"

enum { LINGER_MS = 100 };

static inline uint32_t room_of(const struct smt_ud *d, const struct smt_ud_qp *q)
{
    return q->is_suspect ? 0 : d->sizes.tx_depth - (q->posted - q->done);
}

bool smt_ud_tx_has_room(const struct smt_ud *d)
{
    for (uint32_t i = 0; i < d->n_qps; i++) {
        if (d->qps[i].n_batch > 0 && room_of(d, &d->qps[i]) > 0)
            return true;
    }
    return false;
}

/* The place for a packet that has found its slot. */
static inline uint8_t *slot_take(struct smt_ud *d, struct smt_ud_qp *q, struct smt_ud_slot *s)
{
    struct smt_ud_tx *tx = &d->tx;
    smt_ud_batch_push(tx, q, s);
    tx->undo = q;
    return SMT_LIKELY(s->len <= d->mtu) ? s->data : tx->pit;
}

/* Asks the table. Who is not in it may have introduced himself without anybody having looked. What
 * has no route then is asked about again when it is flushed. */
static __attribute__((noinline)) uint8_t *reserve_asking(struct smt_ud *d, struct smt_ud_qp *q,
                                                         struct smt_ud_slot *s)
{
    if (d->tx.n_batch == 0)
        d->now = smt_coarse_now();
    if (smt_ud_slot_find(d, s, false) == SMT_UD_ASKING && smt_ud_tx_ask(d))
        (void)smt_ud_slot_find(d, s, false);
    d->tx.run = *s;
    return slot_take(d, q, s);
}

static __attribute__((noinline)) bool slots_are_there(struct smt_ud *d, const struct smt_ud_qp *q)
{
    struct smt_ud_tx *tx = &d->tx;
    if (tx->n_spare == 0)
        smt_ud_tx_reap(d);
    if (tx->n_spare > 0 && q->n_batch < d->sizes.tx_depth)
        return true;
    d->stats.tx_full++;
    tx->undo = NULL;
    return false;
}

uint8_t *smt_ud_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct smt_ud *d = smt_ud_of(dev);
    struct smt_ud_tx *tx = &d->tx;
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    struct smt_ud_qp *q = smt_ud_qp_of(d, to);
    /* No more in one batch than a receiver can be sure to have buffers for. */
    if (SMT_UNLIKELY(tx->n_spare == 0 || q->n_batch >= d->sizes.tx_depth) && !slots_are_there(d, q))
        return NULL;
    struct smt_ud_slot *s = tx->spare[--tx->n_spare];
    s->to = *to;
    s->len = (uint32_t)len;
    s->prio = prio;
    if (tx->run.prio != prio || tx->run.route.mtu == 0 || !smt_addr_equal(&tx->run.to, to))
        return reserve_asking(d, q, s);
    s->route = tx->run.route;
    return slot_take(d, q, s);
}

void smt_ud_tx_unreserve(struct smt_dev *dev)
{
    struct smt_ud_tx *tx = &smt_ud_of(dev)->tx;
    struct smt_ud_qp *q = tx->undo;
    assert(q != NULL && q->n_batch > 0);
    tx->undo = NULL;
    q->n_batch--;
    tx->n_batch--;
    smt_ud_slot_free(tx, q->batch[(q->batch_head + q->n_batch) & tx->batch_mask]);
}

static void slots_return(struct smt_ud *d, struct smt_ud_qp *q, uint32_t done)
{
    struct smt_ud_tx *tx = &d->tx;
    for (; q->done != done; q->done++) {
        struct smt_ud_slot *s = q->sent[q->done & tx->depth_mask];
        if (s != NULL)
            smt_ud_slot_free(tx, s);
    }
}

void smt_ud_tx_reap(struct smt_ud *d)
{
    struct ibv_wc wcs[SMT_UD_WCS];
    int n;
    if (smt_ud_is_broken(d))
        return;
    do {
        n = ibv_poll_cq(d->tx.cq, SMT_UD_WCS, wcs);
        if (n < 0) {
            smt_ud_break(d, "a completion queue of the RDMA device cannot be read any more");
            return;
        }
        for (int i = 0; i < n; i++) {
            const struct ibv_wc *wc = &wcs[i];
            struct smt_ud_qp *q = &d->qps[wc->wr_id >> 32 & (SMT_UD_MAX_QPS - 1)];
            uint32_t done = (uint32_t)wc->wr_id + 1;
            if ((wc->wr_id ^ q->tag) >> 32 != 0 || done - q->done > q->posted - q->done)
                continue; /* of a life before a reset */
            slots_return(d, q, done);
            if (SMT_UNLIKELY(wc->status != IBV_WC_SUCCESS)) {
                d->stats.tx_errors++;
                q->is_suspect = true;
            }
        }
    } while (n == SMT_UD_WCS);
}

void smt_ud_tx_forget(struct smt_ud *d, struct smt_ud_qp *q)
{
    d->stats.tx_errors += q->posted - q->done;
    slots_return(d, q, q->posted);
    /* The queue is empty: let it begin with the first of a signalled run. */
    q->posted = q->done = (q->posted + SMT_UD_SIGNAL_EVERY - 1) & -(uint32_t)SMT_UD_SIGNAL_EVERY;
}

/* A packet to a port of several is there and tells which of them it is for. */
static enum smt_ud_found slot_steer(struct smt_ud *d, struct smt_ud_slot *s)
{
    struct smt_ud_tx *tx = &d->tx;
    uint8_t number = (uint8_t)smt_steer_number(s->data, s->len, s->route.share);
    if (tx->steered.route.mtu != 0 && tx->steered_number == number &&
        tx->steered.prio == s->prio && smt_addr_equal(&tx->steered.to, &s->to)) {
        s->route = tx->steered.route;
        return SMT_UD_FOUND;
    }
    enum smt_ud_found found = smt_ud_slot_find(d, s, true);
    if (found == SMT_UD_FOUND) {
        tx->steered = *s;
        tx->steered_number = number;
    }
    return found;
}

/* A packet that has no route, has yet to say which of several it is for, or is too large: asks once
 * more, and holds or drops it. True when it can be posted. */
static __attribute__((noinline)) bool slot_settle(struct smt_ud *d, struct smt_ud_slot *s)
{
    if (s->len <= d->mtu && (s->route.mtu == 0 || s->route.qpn == 0)) {
        switch (s->route.mtu == 0 ? smt_ud_slot_find(d, s, true) : slot_steer(d, s)) {
        case SMT_UD_FOUND:
            break;
        case SMT_UD_ASKING:
            smt_ud_tx_hold(d, s);
            return false;
        default:
            smt_ud_slot_drop(d, s);
            return false;
        }
    }
    if (s->len <= s->route.mtu)
        return true;
    d->stats.tx_too_big++;
    smt_ud_slot_free(&d->tx, s);
    return false;
}

/* The next packet to post, NULL after the last. */
static inline struct smt_ud_slot *batch_next(struct smt_ud *d, struct smt_ud_qp *q)
{
    while (q->n_batch > 0) {
        struct smt_ud_slot *s = smt_ud_batch_pop(&d->tx, q);
        if (SMT_LIKELY(s->len <= s->route.mtu && s->route.qpn != 0) || slot_settle(d, s))
            return s;
    }
    return NULL;
}

static inline unsigned signal_next(const struct smt_ud_qp *q)
{
    return (q->posted + 1) % SMT_UD_SIGNAL_EVERY == 0 ? IBV_SEND_SIGNALED : 0;
}

/* The next number for a packet, whose slot is free at once when its bytes go inline: nobody writes
 * to it before the flush is over. */
static inline void sent_push(struct smt_ud *d, struct smt_ud_qp *q, struct smt_ud_slot *s,
                             bool is_inline)
{
    q->latest = s;
    q->sent[q->posted++ & d->tx.depth_mask] = is_inline ? NULL : s;
    if (is_inline)
        smt_ud_slot_free(&d->tx, s);
}

/* The provider took only some of what was to be posted since `first`. The others are lost. */
static void post_failed(struct smt_ud *d, struct smt_ud_qp *q, uint32_t first, uint32_t n_taken)
{
    struct smt_ud_tx *tx = &d->tx;
    while (q->posted != first + n_taken) {
        struct smt_ud_slot *s = q->sent[--q->posted & tx->depth_mask];
        if (s != NULL)
            smt_ud_slot_free(tx, s);
        d->stats.tx_errors++;
    }
    q->is_suspect = true;
}

/* One doorbell, by the calls that write work requests in place. IBV_SEND_INLINE is for rxe: its
 * kernel goes by the flag and would take the bytes for an address. */
static void post_in_place(struct smt_ud *d, struct smt_ud_qp *q)
{
    struct ibv_qp_ex *ex = q->ex;
    uint32_t first = q->posted, room = room_of(d, q), lkey = d->mr->lkey;
    uint64_t bytes = 0;
    struct smt_ud_slot *s;
    while (q->posted - first < room && (s = batch_next(d, q)) != NULL) {
        bool is_inline = s->len <= q->inline_len;
        if (q->posted == first)
            ibv_wr_start(ex);
        ex->wr_id = q->tag | q->posted;
        ex->wr_flags = signal_next(q) | (is_inline ? IBV_SEND_INLINE : 0);
        ibv_wr_send_imm(ex, d->tx.imm);
        ibv_wr_set_ud_addr(ex, s->route.ah, s->route.qpn, s->route.qkey);
        if (is_inline)
            ibv_wr_set_inline_data(ex, s->data, s->len);
        else
            ibv_wr_set_sge(ex, lkey, (uintptr_t)s->data, s->len);
        bytes += s->len;
        sent_push(d, q, s, is_inline);
    }
    if (q->posted == first)
        return;
    d->stats.tx_calls++;
    if (SMT_UNLIKELY(ibv_wr_complete(ex) != 0)) {
        post_failed(d, q, first, 0);
        return;
    }
    d->stats.tx_packets += q->posted - first;
    d->stats.tx_frames += q->posted - first;
    d->stats.tx_bytes += bytes;
}

/* One doorbell, by a list of work requests. */
static void post_list(struct smt_ud *d, struct smt_ud_qp *q)
{
    struct smt_ud_tx *tx = &d->tx;
    uint32_t first = q->posted, room = room_of(d, q), n = 0;
    uint64_t bytes = 0;
    struct smt_ud_slot *s;
    while (n < room && (s = batch_next(d, q)) != NULL) {
        struct ibv_send_wr *wr = &tx->wrs[n];
        bool is_inline = s->len <= q->inline_len;
        tx->sges[n].addr = (uintptr_t)s->data;
        tx->sges[n].length = s->len;
        wr->wr_id = q->tag | q->posted;
        wr->send_flags = signal_next(q) | (is_inline ? IBV_SEND_INLINE : 0);
        wr->wr.ud.ah = s->route.ah;
        wr->wr.ud.remote_qpn = s->route.qpn;
        wr->wr.ud.remote_qkey = s->route.qkey;
        bytes += s->len;
        sent_push(d, q, s, is_inline);
        n++;
    }
    if (n == 0)
        return;
    d->stats.tx_calls++;
    struct ibv_send_wr *end = &tx->wrs[n - 1], *next = end->next, *bad = NULL;
    end->next = NULL;
    if (SMT_UNLIKELY(ibv_post_send(q->qp, tx->wrs, &bad) != 0))
        post_failed(d, q, first, bad >= tx->wrs && bad <= end ? (uint32_t)(bad - tx->wrs) : 0);
    end->next = next;
    d->stats.tx_packets += q->posted - first;
    d->stats.tx_frames += q->posted - first;
    d->stats.tx_bytes += bytes;
}

/* Nothing leaves a dead device. */
static int batch_drop(struct smt_ud *d)
{
    for (uint32_t i = 0; i < d->n_qps; i++) {
        while (d->qps[i].n_batch > 0)
            smt_ud_slot_drop(d, smt_ud_batch_pop(&d->tx, &d->qps[i]));
    }
    return SMT_EDEVICE;
}

int smt_ud_tx_flush(struct smt_dev *dev)
{
    struct smt_ud *d = smt_ud_of(dev);
    struct smt_ud_tx *tx = &d->tx;
    tx->undo = NULL;
    if (SMT_UNLIKELY(d->is_lost))
        return batch_drop(d);
    if (SMT_UNLIKELY(tx->held.n > 0))
        (void)smt_ud_tx_ask(d);
    for (uint32_t i = 0; i < d->n_qps; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        if (q->n_batch == 0)
            continue;
        if (q->posted - q->done >= 2 * SMT_UD_SIGNAL_EVERY || room_of(d, q) < q->n_batch)
            smt_ud_tx_reap(d);
        if (q->ex != NULL)
            post_in_place(d, q);
        else
            post_list(d, q);
    }
    if (SMT_LIKELY(tx->n_batch == 0))
        return 0;
    d->stats.tx_full++;
    return d->is_lost ? batch_drop(d) : SMT_EAGAIN;
}

void smt_ud_tx_reroute(struct smt_ud *d)
{
    struct smt_ud_tx *tx = &d->tx;
    smt_ud_run_end(tx);
    for (uint32_t i = 0; i < d->n_qps; i++) {
        const struct smt_ud_qp *q = &d->qps[i];
        for (uint32_t k = 0; k < q->n_batch; k++)
            q->batch[(q->batch_head + k) & tx->batch_mask]->route.mtu = 0;
    }
}

/* An empty packet to where the last one went, or number 0 there, for the sake of its completion. */
static void marker_post(struct smt_ud *d, struct smt_ud_qp *q)
{
    const struct smt_ud_slot *s = q->latest;
    struct smt_ud_route route;
    if (smt_ud_peers_find(d->peers, &s->to, s->data, 0, s->prio, d->now, &route) != SMT_UD_FOUND)
        return;
    int r;
    if (q->ex != NULL) {
        ibv_wr_start(q->ex);
        q->ex->wr_id = q->tag | q->posted;
        q->ex->wr_flags = IBV_SEND_SIGNALED;
        ibv_wr_send_imm(q->ex, d->tx.imm);
        ibv_wr_set_ud_addr(q->ex, route.ah, route.qpn, route.qkey);
        ibv_wr_set_sge_list(q->ex, 0, NULL);
        r = ibv_wr_complete(q->ex);
    } else {
        struct ibv_send_wr *bad,
            wr = {
                .wr_id = q->tag | q->posted,
                .opcode = IBV_WR_SEND_WITH_IMM,
                .send_flags = IBV_SEND_SIGNALED,
                .imm_data = d->tx.imm,
                .wr.ud = {.ah = route.ah, .remote_qpn = route.qpn, .remote_qkey = route.qkey},
            };
        r = ibv_post_send(q->qp, &wr, &bad);
    }
    if (r == 0)
        q->sent[q->posted++ & d->tx.depth_mask] = NULL;
}

void smt_ud_tx_hasten(struct smt_ud *d, struct smt_ud_qp *q)
{
    if (q->posted != q->done && q->posted % SMT_UD_SIGNAL_EVERY != 0 && room_of(d, q) > 0)
        marker_post(d, q);
}

static bool all_sent(const struct smt_ud *d)
{
    for (uint32_t i = 0; i < d->n_qps; i++) {
        if (d->qps[i].posted != d->qps[i].done && !d->qps[i].is_suspect)
            return false;
    }
    return true;
}

void smt_ud_tx_linger(struct smt_ud *d)
{
    d->now = smt_coarse_now();
    smt_ud_tx_reap(d);
    for (uint32_t i = 0; i < d->n_qps; i++)
        smt_ud_tx_hasten(d, &d->qps[i]);
    for (uint64_t until = d->now + LINGER_MS * SMT_MSEC; !d->is_lost && !all_sent(d);) {
        if (smt_coarse_now() > until)
            return;
        const struct timespec pause = {.tv_nsec = 20000};
        nanosleep(&pause, NULL);
        smt_ud_tx_reap(d);
    }
}
