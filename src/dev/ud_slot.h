/* Slots of a `ud` device on their way: the stack of spare ones and the batch of each queue pair;
 * for ud_tx.c and ud_held.c. */
#ifndef SMT_DEV_UD_SLOT_H
#define SMT_DEV_UD_SLOT_H

#include "dev/ud.h"

/* The queue pair of a destination: one, so that its packets stay in order. */
static inline struct smt_ud_qp *smt_ud_qp_of(struct smt_ud *d, const struct smt_addr *to)
{
    if (d->n_qps == 1)
        return &d->qps[0];
    uint32_t ip;
    memcpy(&ip, to->ip + 12, sizeof(ip));
    uint32_t h = (ip ^ (uint32_t)to->port << 16 ^ to->port) * 0x9e3779b1u;
    return &d->qps[(uint64_t)h * d->n_qps >> 32];
}

static inline void smt_ud_slot_free(struct smt_ud_tx *tx, struct smt_ud_slot *s)
{
    tx->spare[tx->n_spare++] = s;
}

static inline void smt_ud_slot_drop(struct smt_ud *d, struct smt_ud_slot *s)
{
    d->stats.tx_errors++;
    smt_ud_slot_free(&d->tx, s);
}

static inline void smt_ud_batch_push(struct smt_ud_tx *tx, struct smt_ud_qp *q,
                                     struct smt_ud_slot *s)
{
    q->batch[(q->batch_head + q->n_batch++) & tx->batch_mask] = s;
    tx->n_batch++;
}

static inline void smt_ud_batch_push_front(struct smt_ud_tx *tx, struct smt_ud_qp *q,
                                           struct smt_ud_slot *s)
{
    q->batch[--q->batch_head & tx->batch_mask] = s;
    q->n_batch++;
    tx->n_batch++;
}

static inline struct smt_ud_slot *smt_ud_batch_pop(struct smt_ud_tx *tx, struct smt_ud_qp *q)
{
    q->n_batch--;
    tx->n_batch--;
    return q->batch[q->batch_head++ & tx->batch_mask];
}

/* Asks for the route of a packet, which is in the slot already or not; none is mtu 0. */
static inline enum smt_ud_found smt_ud_slot_find(struct smt_ud *d, struct smt_ud_slot *s,
                                                 bool is_filled)
{
    const uint8_t *packet = is_filled ? s->data : NULL;
    enum smt_ud_found found =
        smt_ud_peers_find(d->peers, &s->to, packet, s->len, s->prio, d->now, &s->route);
    if (SMT_UNLIKELY(found != SMT_UD_FOUND))
        s->route.mtu = 0;
    return found;
}

#endif
