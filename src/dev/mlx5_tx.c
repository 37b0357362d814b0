/* Sending what the CPU sealed: packets are written into registered memory, one flush rings one
 * doorbell. The headers below smt2 go inline into the request, the packet by pointer; a record in
 * slices is one LSO request whose inline header is repeated by the NIC.
 *
 * A packet whose machine cannot be reached when it is flushed is dropped and counted, as every
 * network does; one whose machine the kernel is asking for waits (mlx5_held.c). */
#include "dev/mlx5.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "dev/machine.h"

enum { DEPTH = 512, N_SLOTS = 768, LINE = 64, LINGER_MS = 100 };

static uint32_t pow2_ceil(uint32_t n)
{
    return 1u << (32 - (unsigned)__builtin_clz(n - 1));
}

static void *table_take(const struct smt_mlx5_tx *tx, size_t *at, size_t len)
{
    void *p = tx->tables == NULL ? NULL : (uint8_t *)tx->tables + *at;
    *at += (len + LINE - 1) & ~(size_t)(LINE - 1);
    return p;
}

static size_t tables_place(struct smt_mlx5_tx *tx)
{
    uint32_t n_all = tx->n_slots + SMT_MLX5_N_BIG;
    size_t at = 0;
    tx->batch_mask = pow2_ceil(n_all) - 1;
    tx->slots = table_take(tx, &at, n_all * sizeof(*tx->slots));
    tx->spare = table_take(tx, &at, tx->n_slots * sizeof(*tx->spare));
    tx->spare_big = table_take(tx, &at, SMT_MLX5_N_BIG * sizeof(*tx->spare_big));
    tx->batch = table_take(tx, &at, (tx->batch_mask + 1) * sizeof(*tx->batch));
    tx->sent = table_take(tx, &at, DEPTH * sizeof(*tx->sent));
    tx->pit = table_take(tx, &at, SMT_DEV_MAX_PACKET);
    return at;
}

static void slots_fill(struct smt_mlx5_tx *tx)
{
    uint8_t *big = tx->mem + (size_t)tx->n_slots * tx->stride;
    for (uint32_t i = 0; i < tx->n_slots; i++) {
        tx->slots[i].data = tx->mem + (size_t)i * tx->stride;
        tx->spare[tx->n_spare++] = &tx->slots[i];
    }
    for (uint32_t i = 0; i < SMT_MLX5_N_BIG; i++) {
        struct smt_mlx5_slot *s = &tx->slots[tx->n_slots + i];
        s->data = big + (size_t)i * SMT_MLX5_BIG_LEN;
        s->is_big = true;
        tx->spare_big[tx->n_spare_big++] = s;
    }
}

int smt_mlx5_tx_init(struct smt_mlx5 *d, const struct smt_dev_config *config)
{
    struct smt_mlx5_tx *tx = &d->tx;
    tx->n_slots = N_SLOTS;
    tx->stride = ((d->mtu + LINE - 1) & ~(uint32_t)(LINE - 1)) + LINE;
    tx->tables_len = tables_place(tx);
    tx->tables = smt_mem_block(tx->tables_len);
    if (tx->tables == NULL)
        return SMT_ENOMEM;
    tables_place(tx);
    tx->mem_len = (size_t)tx->n_slots * tx->stride + (size_t)SMT_MLX5_N_BIG * SMT_MLX5_BIG_LEN;
    tx->mem = smt_mem_map_huge(&tx->mem_len, true);
    if (tx->mem == NULL)
        return SMT_ENOMEM;
    tx->mr = ibv_reg_mr(d->pd, tx->mem, tx->mem_len, IBV_ACCESS_LOCAL_WRITE);
    if (tx->mr == NULL)
        return smt_mlx5_fail_create(d, config, "memory region", -errno);
    slots_fill(tx);
    tx->cq = ibv_create_cq(d->port.ctx, DEPTH, NULL, d->channel, 0);
    if (tx->cq == NULL)
        return smt_mlx5_fail_create(d, config, "completion queue", -errno);
    const struct smt_mlx5_sq_config c = {.ctx = d->port.ctx,
                                         .pd = d->pd,
                                         .send_cq = tx->cq,
                                         .recv_cq = d->rx.cq,
                                         .depth = DEPTH,
                                         .recv_depth = d->rx.depth,
                                         .has_lso = smt_mlx5_max_tso(&d->port.attr) > 0};
    int r = smt_mlx5_sq_init(&tx->sq, &c);
    return r < 0 ? smt_mlx5_fail_create(d, config, "raw packet queue pair", r) : 0;
}

void smt_mlx5_tx_fini(struct smt_mlx5 *d)
{
    struct smt_mlx5_tx *tx = &d->tx;
    smt_mlx5_sq_fini(&tx->sq);
    if (tx->cq != NULL)
        (void)ibv_destroy_cq(tx->cq);
    if (tx->mr != NULL)
        (void)ibv_dereg_mr(tx->mr);
    if (tx->mem != NULL)
        smt_mem_unmap(tx->mem, tx->mem_len);
    if (tx->tables != NULL)
        smt_mem_block_free(tx->tables, tx->tables_len);
}

/* The machine of the last packet serves for the next to the same address. */
static inline const struct smt_mlx5_peer *peer_of(struct smt_mlx5 *d, const struct smt_addr *to)
{
    struct smt_mlx5_slot *run = &d->tx.run;
    if (SMT_LIKELY(run->peer != NULL && smt_addr_equal(&run->to, to)))
        return run->peer;
    const struct smt_mlx5_peer *peer = smt_mlx5_peers_get(d->peers, to, d->now);
    run->to = *to;
    run->peer = peer != NULL && peer->mtu > 0 ? peer : NULL;
    return peer;
}

void smt_mlx5_tx_reroute(struct smt_mlx5 *d)
{
    d->tx.run.peer = NULL;
}

static struct smt_mlx5_slot *slot_take(struct smt_mlx5 *d, struct smt_mlx5_slot **spare,
                                       uint32_t *n_spare)
{
    struct smt_mlx5_tx *tx = &d->tx;
    if (SMT_UNLIKELY(*n_spare == 0))
        smt_mlx5_tx_reap(d);
    /* No more in one batch than the queue takes. */
    if (SMT_UNLIKELY(*n_spare == 0 || tx->n_batch >= DEPTH)) {
        d->stats.tx_full++;
        return NULL;
    }
    return spare[--*n_spare];
}

static inline void batch_push(struct smt_mlx5_tx *tx, struct smt_mlx5_slot *s)
{
    tx->batch[(tx->batch_head + tx->n_batch++) & tx->batch_mask] = s;
}

uint8_t *smt_mlx5_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                             uint8_t prio)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    struct smt_mlx5_slot *s = slot_take(d, d->tx.spare, &d->tx.n_spare);
    if (SMT_UNLIKELY(s == NULL))
        return NULL;
    s->to = *to;
    s->len = (uint32_t)len;
    s->hdr_len = 0;
    s->prio = prio;
    s->peer = peer_of(d, to);
    batch_push(&d->tx, s);
    return SMT_LIKELY(len <= d->mtu) ? s->data : d->tx.pit;
}

uint8_t *smt_mlx5_tx_burst(struct smt_dev *dev, const struct smt_addr *to, size_t hdr_len,
                           size_t record_len, size_t slice_len, uint8_t prio)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    assert(hdr_len + record_len <= SMT_MLX5_BIG_LEN && prio < 8);
    struct smt_mlx5_slot *s = slot_take(d, d->tx.spare_big, &d->tx.n_spare_big);
    if (SMT_UNLIKELY(s == NULL))
        return NULL;
    s->to = *to;
    s->len = (uint32_t)(hdr_len + record_len);
    s->hdr_len = (uint16_t)hdr_len;
    s->slice_len = (uint16_t)slice_len;
    s->prio = prio;
    s->peer = peer_of(d, to);
    batch_push(&d->tx, s);
    return s->data;
}

void smt_mlx5_tx_unreserve(struct smt_dev *dev)
{
    struct smt_mlx5_tx *tx = &smt_mlx5_of(dev)->tx;
    assert(tx->n_batch > 0);
    tx->n_batch--;
    smt_mlx5_slot_free(tx, tx->batch[(tx->batch_head + tx->n_batch) & tx->batch_mask]);
}

void smt_mlx5_tx_reap(struct smt_mlx5 *d)
{
    struct smt_mlx5_tx *tx = &d->tx;
    uint32_t before = tx->sq.done;
    uint64_t errors = tx->sq.n_errors;
    if (smt_mlx5_sq_reap(&tx->sq) < 0)
        smt_mlx5_lose(d, "a completion queue of the mlx5 device cannot be read any more");
    for (; before != tx->sq.done; before++)
        smt_mlx5_slot_free(tx, tx->sent[before & (DEPTH - 1)]);
    d->stats.tx_errors += tx->sq.n_errors - errors;
}

void smt_mlx5_tx_forget(struct smt_mlx5 *d)
{
    struct smt_mlx5_tx *tx = &d->tx;
    for (uint32_t i = tx->sq.done; i != tx->sq.posted; i++) {
        smt_mlx5_slot_free(tx, tx->sent[i & (DEPTH - 1)]);
        d->stats.tx_errors++;
    }
    tx->sq.done = tx->sq.posted;
}

size_t smt_mlx5_wqe_fill(const struct smt_mlx5_slot *s, const struct smt_mlx5_peer *peer,
                         const struct smt_mlx5_ctrl *ctrl, uint32_t lkey, uint8_t *out)
{
    uint8_t hdr[SMT_MLX5_MAX_HDR];
    bool is_burst = s->hdr_len > 0;
    const struct smt_mlx5_head *head = is_burst ? &peer->burst : &peer->packet;
    uint32_t record_len = s->len - s->hdr_len;
    bool is_cut = is_burst && record_len > s->slice_len;
    size_t hdr_len = smt_mlx5_head_put(head, is_cut ? s->hdr_len + s->slice_len : s->len, s->prio,
                                       hdr);
    if (is_burst) {
        memcpy(hdr + hdr_len, s->data, s->hdr_len);
        hdr_len += s->hdr_len;
    } else if (head->is_udp) {
        hdr[hdr_len - 6] = (uint8_t)(s->to.port >> 8);
        hdr[hdr_len - 5] = (uint8_t)s->to.port;
    }
    const struct smt_mlx5_packet packet = {
        .hdr = hdr,
        .hdr_len = (uint32_t)hdr_len,
        .mss = is_cut ? s->slice_len : 0,
        .is_l3_sum = head->is_ipv4,
        .is_l4_sum = head->is_udp,
        .n_segs = 1,
        .segs = {{record_len, lkey, (uintptr_t)(s->data + s->hdr_len)}},
    };
    return smt_mlx5_wqe_packet(out, ctrl, &packet);
}

/* Can it leave? Looks its machine up once more. Else it is held or gone. */
static bool slot_settle(struct smt_mlx5 *d, struct smt_mlx5_slot *s)
{
    uint32_t len = s->hdr_len > 0 ? (uint32_t)s->hdr_len + s->slice_len : s->len;
    if (s->peer == NULL || s->peer->mtu == 0)
        s->peer = peer_of(d, &s->to);
    bool is_known = s->peer != NULL && s->peer->mtu > 0;
    if (SMT_LIKELY(is_known && len <= s->peer->mtu && len <= d->mtu &&
                   (s->hdr_len == 0 || s->peer->burst.len > 0)))
        return true;
    if (!is_known && s->peer != NULL && s->peer->is_asked_for && s->hdr_len == 0 && len <= d->mtu) {
        smt_mlx5_tx_hold(d, s);
        return false;
    }
    if (is_known && (len > s->peer->mtu || len > d->mtu))
        d->stats.tx_too_big++;
    else
        d->stats.tx_errors++;
    smt_mlx5_slot_free(&d->tx, s);
    return false;
}

int smt_mlx5_tx_flush(struct smt_dev *dev)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    struct smt_mlx5_tx *tx = &d->tx;
    uint8_t wqe[SMT_MLX5_MAX_WQE];
    uint32_t first = tx->sq.posted;
    if (SMT_UNLIKELY(tx->held.n > 0))
        smt_mlx5_tx_release(d);
    if (SMT_UNLIKELY(smt_mlx5_sq_room(&tx->sq) < tx->n_batch))
        smt_mlx5_tx_reap(d);
    while (tx->n_batch > 0 && smt_mlx5_sq_room(&tx->sq) > 0) {
        struct smt_mlx5_slot *s = tx->batch[tx->batch_head & tx->batch_mask];
        tx->batch_head++;
        tx->n_batch--;
        if (SMT_UNLIKELY(!slot_settle(d, s)))
            continue;
        const struct smt_mlx5_ctrl ctrl = smt_mlx5_sq_ctrl(&tx->sq, 0);
        smt_mlx5_wqe_fill(s, s->peer, &ctrl, tx->mr->lkey, wqe);
        tx->sent[smt_mlx5_sq_put(&tx->sq, wqe) & (DEPTH - 1)] = s;
        uint32_t n = s->hdr_len > 0 ? (s->len - s->hdr_len + s->slice_len - 1) / s->slice_len : 1;
        d->stats.tx_packets += n;
        d->stats.tx_frames++;
        d->stats.tx_bytes += s->len + (n - 1) * s->hdr_len;
    }
    if (tx->sq.posted != first) {
        d->stats.tx_calls++;
        if (SMT_UNLIKELY(!smt_mlx5_sq_ring(&tx->sq)))
            d->stats.tx_errors++;
    }
    int r = smt_mlx5_seal_flush(d);
    return tx->n_batch > 0 ? SMT_EAGAIN : r;
}

bool smt_mlx5_tx_has_room(const struct smt_mlx5 *d)
{
    return d->tx.n_batch > 0 && smt_mlx5_sq_room(&d->tx.sq) > 0;
}

/* A completion is asked for by one request in so many: nothing tells that the last has left. The
 * closing of its queue pair waits for nothing, so give it a moment. */
void smt_mlx5_tx_linger(struct smt_mlx5 *d)
{
    uint8_t nop[SMT_MLX5_NOP_LEN];
    struct smt_mlx5_tx *tx = &d->tx;
    smt_mlx5_tx_reap(d);
    if (tx->sq.posted == tx->sq.done || smt_mlx5_sq_room(&tx->sq) == 0)
        return;
    struct smt_mlx5_ctrl ctrl = smt_mlx5_sq_ctrl(&tx->sq, 0);
    ctrl.is_signalled = true;
    smt_mlx5_wqe_nop(nop, &ctrl);
    uint32_t last = smt_mlx5_sq_put(&tx->sq, nop);
    (void)smt_mlx5_sq_ring(&tx->sq);
    for (uint64_t until = smt_coarse_now() + LINGER_MS * SMT_MSEC; smt_coarse_now() < until;) {
        if (smt_mlx5_sq_reap(&tx->sq) < 0 || tx->sq.done == last + 1 || tx->sq.is_suspect)
            return;
        const struct timespec pause = {.tv_nsec = 20000};
        nanosleep(&pause, NULL);
    }
}
