/* Sending by UD queue pairs: packets are written straight into registered memory, and one flush
 * rings one doorbell on each queue pair that has something to post.
 *
 * Slots come from a stack, so few are in use and those are warm; which slot a work request has is
 * remembered in `sent` until its completion. Small packets go inline and give their slot back at
 * once. One request in SMT_UD_SIGNAL_EVERY asks for a completion, which frees all before it; depths
 * are multiples of that, so the request that fills a queue is always one of them.
 *
 * A packet to a peer whose queue pair is not known yet keeps its slot and is held, for a while and
 * up to a number; when the answer comes held packets go in front of whatever waits, so the order
 * within a destination stays. The route is looked up once for a run of packets to one destination.
 *
 * Tried and left out: a completion for the last packet of each flush. It would tell at closing that
 * everything has left, but costs one completion per small message; smt_ud_tx_linger asks for one
 * when it is needed instead, by an empty packet that receivers pass over. */
#include "dev/ud.h"

#include <time.h>

enum {
    HELD_FRESH_MS = 200, /* younger ones are not pushed out by newer ones */
    HELD_MAX_MS = 2000,
    LINGER_MS = 100,
};

static inline struct smt_ud_qp *qp_of(struct smt_ud *d, const struct smt_addr *to)
{
    if (d->n_qps == 1)
        return &d->qps[0];
    uint32_t ip;
    memcpy(&ip, to->ip + 12, sizeof(ip));
    uint32_t h = (ip ^ (uint32_t)to->port << 16 ^ to->port) * 0x9e3779b1u;
    return &d->qps[(uint64_t)h * d->n_qps >> 32];
}

static inline uint8_t *slot_data(const struct smt_ud *d, uint16_t slot)
{
    return d->tx.mem + (size_t)slot * d->sizes.tx_stride;
}

static inline void slot_free(struct smt_ud_tx *tx, uint16_t slot)
{
    tx->spare[tx->n_spare++] = slot;
}

static inline void batch_push(struct smt_ud_tx *tx, struct smt_ud_qp *q, uint16_t slot)
{
    q->batch[(q->batch_head + q->n_batch++) & tx->batch_mask] = slot;
    tx->n_batch++;
}

static inline void batch_push_front(struct smt_ud_tx *tx, struct smt_ud_qp *q, uint16_t slot)
{
    q->batch[--q->batch_head & tx->batch_mask] = slot;
    q->n_batch++;
    tx->n_batch++;
}

static inline uint16_t batch_pop(struct smt_ud_tx *tx, struct smt_ud_qp *q)
{
    uint16_t slot = q->batch[q->batch_head++ & tx->batch_mask];
    q->n_batch--;
    tx->n_batch--;
    return slot;
}

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

/* Asks the table. Who is not in it may have introduced himself without anybody having looked. What
 * has no route then is asked about again when it is flushed. */
static void slot_route(struct smt_ud *d, struct smt_ud_slot *s)
{
    enum smt_ud_found found = smt_ud_peers_find(d->peers, &s->to, s->prio, d->now, &s->route);
    if (SMT_UNLIKELY(found == SMT_UD_ASKING) && smt_ud_tx_ask(d))
        found = smt_ud_peers_find(d->peers, &s->to, s->prio, d->now, &s->route);
    s->has_route = found == SMT_UD_FOUND;
}

uint8_t *smt_ud_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct smt_ud *d = smt_ud_of(dev);
    struct smt_ud_tx *tx = &d->tx;
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    struct smt_ud_qp *q = qp_of(d, to);
    if (SMT_UNLIKELY(tx->n_spare == 0))
        smt_ud_tx_reap(d);
    /* No more in one batch than a receiver can be sure to have buffers for. */
    if (SMT_UNLIKELY(tx->n_spare == 0 || q->n_batch >= d->sizes.tx_depth)) {
        d->stats.tx_full++;
        tx->undo = NULL;
        return NULL;
    }
    if (tx->n_batch == 0)
        d->now = smt_ud_now();
    uint16_t slot = tx->spare[--tx->n_spare];
    struct smt_ud_slot *s = &tx->slots[slot];
    const struct smt_ud_slot *last = tx->last;
    s->len = (uint32_t)len;
    if (last != NULL && last->prio == prio && smt_addr_equal(&last->to, to)) {
        s->to = *to;
        s->prio = prio;
        s->route = last->route;
        s->has_route = true;
    } else {
        s->to = *to;
        s->prio = prio;
        slot_route(d, s);
    }
    tx->last = s->has_route ? s : NULL;
    batch_push(tx, q, slot);
    tx->undo = q;
    return SMT_LIKELY(len <= d->mtu) ? slot_data(d, slot) : tx->pit;
}

void smt_ud_tx_unreserve(struct smt_dev *dev)
{
    struct smt_ud_tx *tx = &smt_ud_of(dev)->tx;
    struct smt_ud_qp *q = tx->undo;
    assert(q != NULL && q->n_batch > 0);
    tx->undo = NULL;
    tx->last = NULL;
    q->n_batch--;
    tx->n_batch--;
    slot_free(tx, q->batch[(q->batch_head + q->n_batch) & tx->batch_mask]);
}

static void slots_return(struct smt_ud *d, struct smt_ud_qp *q, uint32_t done)
{
    struct smt_ud_tx *tx = &d->tx;
    for (; q->done != done; q->done++) {
        uint16_t slot = q->sent[q->done & tx->depth_mask];
        if (slot != SMT_UD_NO_SLOT)
            slot_free(tx, slot);
    }
}

void smt_ud_tx_reap(struct smt_ud *d)
{
    struct ibv_wc wcs[SMT_UD_WCS];
    int n;
    do {
        n = ibv_poll_cq(d->tx.cq, SMT_UD_WCS, wcs);
        if (n < 0) {
            smt_ud_lose(d, "a completion queue of the RDMA device cannot be read any more");
            return;
        }
        for (int i = 0; i < n; i++) {
            const struct ibv_wc *wc = &wcs[i];
            struct smt_ud_qp *q = &d->qps[wc->wr_id >> 32 & (SMT_UD_MAX_QPS - 1)];
            uint32_t done = (uint32_t)wc->wr_id + 1;
            if (wc->wr_id >> 32 != q->tag || done - q->done > q->posted - q->done)
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

static void slot_drop(struct smt_ud *d, uint16_t slot)
{
    d->stats.tx_errors++;
    slot_free(&d->tx, slot);
}

/* Keeps a packet until its peer has answered; what is too much is dropped, the new one rather than
 * one that has not waited long. */
static void slot_hold(struct smt_ud *d, uint16_t slot)
{
    struct smt_ud_tx *tx = &d->tx;
    if (tx->n_held == d->sizes.max_held) {
        if (d->now - tx->held_since[0] < HELD_FRESH_MS * SMT_MSEC) {
            slot_drop(d, slot);
            return;
        }
        slot_drop(d, tx->held[0]);
        tx->n_held--;
        memmove(tx->held, tx->held + 1, tx->n_held * sizeof(*tx->held));
        memmove(tx->held_since, tx->held_since + 1, tx->n_held * sizeof(*tx->held_since));
    }
    tx->held[tx->n_held] = slot;
    tx->held_since[tx->n_held++] = d->now;
}

/* Can this packet be posted? Otherwise it is held or dropped. */
static bool slot_check(struct smt_ud *d, uint16_t slot)
{
    struct smt_ud_slot *s = &d->tx.slots[slot];
    if (SMT_UNLIKELY(s->len > d->mtu)) {
        d->stats.tx_too_big++;
        slot_free(&d->tx, slot);
        return false;
    }
    if (SMT_UNLIKELY(!s->has_route)) {
        enum smt_ud_found found = smt_ud_peers_find(d->peers, &s->to, s->prio, d->now, &s->route);
        if (found != SMT_UD_FOUND) {
            if (found == SMT_UD_ASKING)
                slot_hold(d, slot);
            else
                slot_drop(d, slot);
            return false;
        }
        s->has_route = true;
    }
    if (SMT_UNLIKELY(s->len > s->route.mtu)) {
        d->stats.tx_too_big++;
        slot_free(&d->tx, slot);
        return false;
    }
    return true;
}

void smt_ud_tx_release(struct smt_ud *d)
{
    struct smt_ud_tx *tx = &d->tx;
    for (uint32_t i = tx->n_held; i-- > 0;) {
        uint16_t slot = tx->held[i];
        struct smt_ud_slot *s = &tx->slots[slot];
        enum smt_ud_found found = smt_ud_peers_find(d->peers, &s->to, s->prio, d->now, &s->route);
        s->has_route = found == SMT_UD_FOUND;
        if (s->has_route)
            batch_push_front(tx, qp_of(d, &s->to), slot);
        else if (found == SMT_UD_NOROUTE || d->now - tx->held_since[i] > HELD_MAX_MS * SMT_MSEC)
            slot_drop(d, slot);
        else
            continue;
        tx->held[i] = SMT_UD_NO_SLOT;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < tx->n_held; i++) {
        if (tx->held[i] != SMT_UD_NO_SLOT) {
            tx->held[n] = tx->held[i];
            tx->held_since[n++] = tx->held_since[i];
        }
    }
    tx->n_held = n;
}

bool smt_ud_tx_ask(struct smt_ud *d)
{
    if (smt_ud_peers_poll(d->peers, d->now) == 0)
        return false;
    smt_ud_tx_release(d);
    return true;
}

/* IBV_SEND_INLINE is for ibv_post_send, and for rxe whoever posts: without it the kernel takes the
 * bytes put inline for the address of others. */
static inline unsigned flags_next(const struct smt_ud_qp *q, bool is_inline)
{
    bool is_last = (q->posted + 1) % SMT_UD_SIGNAL_EVERY == 0;
    return (is_last ? IBV_SEND_SIGNALED : 0) | (is_inline ? IBV_SEND_INLINE : 0);
}

/* The next number for a packet in `slot`, which is free at once when its bytes go inline: nobody
 * writes to it before the flush is over. */
static inline void sent_push(struct smt_ud *d, struct smt_ud_qp *q, uint16_t slot, bool is_inline)
{
    if (is_inline)
        slot_free(&d->tx, slot);
    q->last_slot = slot;
    q->sent[q->posted++ & d->tx.depth_mask] = is_inline ? SMT_UD_NO_SLOT : slot;
    d->stats.tx_bytes += d->tx.slots[slot].len;
}

/* The provider took only some of what was to be posted since `first`. The others are lost. */
static void post_failed(struct smt_ud *d, struct smt_ud_qp *q, uint32_t first, uint32_t n_taken)
{
    struct smt_ud_tx *tx = &d->tx;
    while (q->posted != first + n_taken) {
        uint16_t slot = q->sent[--q->posted & tx->depth_mask];
        if (slot != SMT_UD_NO_SLOT)
            slot_free(tx, slot);
        d->stats.tx_errors++;
    }
    q->is_suspect = true;
}

/* One doorbell, by the calls that write work requests in place. */
static void post_in_place(struct smt_ud *d, struct smt_ud_qp *q)
{
    struct smt_ud_tx *tx = &d->tx;
    struct ibv_qp_ex *ex = q->ex;
    uint32_t first = q->posted, lkey = d->mr->lkey;
    for (uint32_t room = room_of(d, q); q->n_batch > 0 && room > 0;) {
        uint16_t slot = batch_pop(tx, q);
        if (!slot_check(d, slot))
            continue;
        const struct smt_ud_slot *s = &tx->slots[slot];
        if (q->posted == first)
            ibv_wr_start(ex);
        ex->wr_id = q->tag << 32 | q->posted;
        bool is_inline = s->len <= q->inline_len;
        ex->wr_flags = flags_next(q, is_inline);
        ibv_wr_send_imm(ex, tx->imm);
        ibv_wr_set_ud_addr(ex, s->route.ah, s->route.qpn, s->route.qkey);
        if (is_inline)
            ibv_wr_set_inline_data(ex, slot_data(d, slot), s->len);
        else
            ibv_wr_set_sge(ex, lkey, (uintptr_t)slot_data(d, slot), s->len);
        sent_push(d, q, slot, is_inline);
        room--;
    }
    if (q->posted == first)
        return;
    d->stats.tx_calls++;
    if (SMT_UNLIKELY(ibv_wr_complete(ex) != 0))
        post_failed(d, q, first, 0);
    d->stats.tx_packets += q->posted - first;
}

/* One doorbell, by a list of work requests. */
static void post_list(struct smt_ud *d, struct smt_ud_qp *q)
{
    struct smt_ud_tx *tx = &d->tx;
    uint32_t first = q->posted, n = 0;
    for (uint32_t room = room_of(d, q); q->n_batch > 0 && n < room;) {
        uint16_t slot = batch_pop(tx, q);
        if (!slot_check(d, slot))
            continue;
        const struct smt_ud_slot *s = &tx->slots[slot];
        struct ibv_send_wr *wr = &tx->wrs[n];
        bool is_inline = s->len <= q->inline_len;
        tx->sges[n].addr = (uintptr_t)slot_data(d, slot);
        tx->sges[n].length = s->len;
        wr->wr_id = q->tag << 32 | q->posted;
        wr->send_flags = flags_next(q, is_inline);
        wr->wr.ud.ah = s->route.ah;
        wr->wr.ud.remote_qpn = s->route.qpn;
        wr->wr.ud.remote_qkey = s->route.qkey;
        sent_push(d, q, slot, is_inline);
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
}

/* Nothing leaves a dead device. */
static int batch_drop(struct smt_ud *d)
{
    for (uint32_t i = 0; i < d->n_qps; i++) {
        while (d->qps[i].n_batch > 0)
            slot_drop(d, batch_pop(&d->tx, &d->qps[i]));
    }
    return SMT_EDEVICE;
}

int smt_ud_tx_flush(struct smt_dev *dev)
{
    struct smt_ud *d = smt_ud_of(dev);
    struct smt_ud_tx *tx = &d->tx;
    tx->undo = NULL;
    tx->last = NULL;
    if (SMT_UNLIKELY(d->is_lost))
        return batch_drop(d);
    if (SMT_UNLIKELY(tx->n_held > 0))
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
    tx->last = NULL;
    for (uint32_t i = 0; i < d->n_qps; i++) {
        const struct smt_ud_qp *q = &d->qps[i];
        for (uint32_t k = 0; k < q->n_batch; k++)
            tx->slots[q->batch[(q->batch_head + k) & tx->batch_mask]].has_route = false;
    }
}

/* An empty packet to where the last one went, for the sake of its completion. */
static void marker_post(struct smt_ud *d, struct smt_ud_qp *q)
{
    const struct smt_ud_slot *s = &d->tx.slots[q->last_slot];
    struct smt_ud_route route;
    if (smt_ud_peers_find(d->peers, &s->to, s->prio, d->now, &route) != SMT_UD_FOUND)
        return;
    int r;
    if (q->ex != NULL) {
        ibv_wr_start(q->ex);
        q->ex->wr_id = q->tag << 32 | q->posted;
        q->ex->wr_flags = IBV_SEND_SIGNALED;
        ibv_wr_send_imm(q->ex, d->tx.imm);
        ibv_wr_set_ud_addr(q->ex, route.ah, route.qpn, route.qkey);
        ibv_wr_set_sge_list(q->ex, 0, NULL);
        r = ibv_wr_complete(q->ex);
    } else {
        struct ibv_send_wr *bad,
            wr = {
                .wr_id = q->tag << 32 | q->posted,
                .opcode = IBV_WR_SEND_WITH_IMM,
                .send_flags = IBV_SEND_SIGNALED,
                .imm_data = d->tx.imm,
                .wr.ud = {.ah = route.ah, .remote_qpn = route.qpn, .remote_qkey = route.qkey},
            };
        r = ibv_post_send(q->qp, &wr, &bad);
    }
    if (r == 0)
        q->sent[q->posted++ & d->tx.depth_mask] = SMT_UD_NO_SLOT;
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
    d->now = smt_ud_now();
    smt_ud_tx_reap(d);
    for (uint32_t i = 0; i < d->n_qps; i++)
        smt_ud_tx_hasten(d, &d->qps[i]);
    for (uint64_t until = d->now + LINGER_MS * SMT_MSEC; !d->is_lost && !all_sent(d);) {
        if (smt_ud_now() > until)
            return;
        const struct timespec pause = {.tv_nsec = 20000};
        nanosleep(&pause, NULL);
        smt_ud_tx_reap(d);
    }
}
