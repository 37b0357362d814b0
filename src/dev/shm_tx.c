/* Sending by shared memory: a packet is announced when the next one is asked for, so the peer may
 * open one while we seal the other.
 *
 * Short packets are put together in memory of our own and copied; long ones are written in place,
 * which is the only time their bytes are moved. Where the ring is full a packet is lost, as in a
 * switch: waiting for one peer would hold up all the others. The words of a ring that fills up tell
 * of that by a mark long before (ECN).
 *
 * Which of several endpoints on a port a packet is for stands in its bytes, so those to such a port
 * are put together in memory of our own however long they are, and copied. */
#include "dev/shm.h"

#include <string.h>

#include "dev/steer.h"

static inline void packet_commit(struct smt_shm *d, struct smt_shm_peer *p, const uint8_t *from)
{
    d->stats.tx_packets++;
    d->stats.tx_bytes += p->out.len;
    smt_shm_out_commit(&p->out, from);
    if (p->is_touched)
        return;
    p->is_touched = true;
    d->touched[d->n_touched++] = p;
}

/* A place in the ring for a packet; NULL: it is full. */
static inline uint8_t *ring_reserve(struct smt_shm *d, struct smt_shm_peer *p, uint32_t len)
{
    uint8_t *place = smt_shm_out_reserve(&p->out, len);
    if (SMT_UNLIKELY(place == NULL)) {
        d->stats.tx_full++;
        if (p->out.is_bad && p->state < SMT_SHM_DRAIN)
            smt_shm_peer_end(d, p);
    }
    return place;
}

/* The inner way for a packet that is there already. */
static void inner_send(struct smt_shm *d, const struct smt_addr *to)
{
    struct smt_dev *inner = d->inner;
    uint8_t *place = inner->ops->tx_reserve(inner, to, d->pending_len, d->pending_prio);
    if (place == NULL && inner->ops->tx_flush(inner) == 0)
        place = inner->ops->tx_reserve(inner, to, d->pending_len, d->pending_prio);
    d->has_by_inner = true;
    if (place != NULL)
        memcpy(place, d->nowhere, d->pending_len);
    else
        d->stats.tx_full++;
}

/* The packet to a port of several is there and tells which of them it is for. */
static __attribute__((noinline)) void steered_commit(struct smt_shm *d, struct smt_shm_peer *p)
{
    const struct smt_addr to = p->addr;
    uint8_t number = (uint8_t)smt_steer_number(d->nowhere, d->pending_len, p->share);
    if (number != p->number || !p->is_entered)
        p = smt_shm_member_find(d, p, number);
    if (p == NULL)
        inner_send(d, &to);
    else if (ring_reserve(d, p, d->pending_len) != NULL)
        packet_commit(d, p, d->nowhere);
}

static inline void pending_commit(struct smt_shm *d)
{
    struct smt_shm_peer *p = d->pending;
    if (p == NULL)
        return;
    d->pending = NULL;
    if (SMT_UNLIKELY(p->is_one_of))
        steered_commit(d, p);
    else
        packet_commit(d, p, d->pending_from);
}

static uint8_t *inner_reserve(struct smt_shm *d, const struct smt_addr *to, size_t len,
                              uint8_t prio)
{
    d->is_by_inner = d->has_by_inner = true;
    return d->inner->ops->tx_reserve(d->inner, to, len, prio);
}

static __attribute__((noinline)) uint8_t *steered_reserve(struct smt_shm *d, struct smt_shm_peer *p,
                                                          const struct smt_addr *to, size_t len,
                                                          uint8_t prio)
{
    if (p->share == 0)
        return inner_reserve(d, to, len, prio);
    d->is_by_inner = false;
    if (len > SMT_SHM_MTU) {
        d->stats.tx_too_big++;
        return d->nowhere;
    }
    d->pending = p;
    d->pending_len = (uint32_t)len;
    d->pending_prio = prio;
    return d->nowhere;
}

static inline struct smt_shm_peer *peer_of(struct smt_shm *d, const struct smt_addr *to)
{
    if (SMT_LIKELY(d->last.is_valid && smt_addr_equal(&d->last.to, to)))
        return d->last.peer;
    struct smt_shm_peer *p = smt_shm_peer_find(d, to);
    /* Who cannot be reached now is asked for again with time. */
    d->last.is_valid = p != NULL || !smt_shm_is_local(d, to);
    d->last.to = *to;
    d->last.peer = p;
    return p;
}

uint8_t *smt_shm_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                            uint8_t prio)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    pending_commit(d);
    struct smt_shm_peer *p = peer_of(d, to);
    if (p == NULL)
        return inner_reserve(d, to, len, prio);
    if (SMT_UNLIKELY(p->is_one_of))
        return steered_reserve(d, p, to, len, prio);
    d->is_by_inner = false;
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    if (SMT_UNLIKELY(len > SMT_SHM_MTU)) {
        d->stats.tx_too_big++;
        return d->nowhere;
    }
    uint8_t *place = ring_reserve(d, p, (uint32_t)len);
    if (SMT_UNLIKELY(place == NULL))
        return d->nowhere;
    d->pending = p;
    d->pending_from = len <= SMT_SHM_STAGED ? d->staged : NULL;
    return len <= SMT_SHM_STAGED ? d->staged : place;
}

/* By memory a record is one packet: runs are for peers elsewhere. */
uint8_t *smt_shm_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                        size_t last_len, uint8_t prio, size_t *stride)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    pending_commit(d);
    d->is_by_inner = true;
    d->has_by_inner = true;
    return d->inner->ops->tx_run(d->inner, to, n, len, last_len, prio, stride);
}

uint32_t smt_shm_tx_run_max(struct smt_dev *dev, const struct smt_addr *to)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    return peer_of(d, to) != NULL ? 0 : d->inner->ops->tx_run_max(d->inner, to);
}

void smt_shm_tx_unreserve(struct smt_dev *dev)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    if (d->is_by_inner)
        d->inner->ops->tx_unreserve(d->inner);
    d->pending = NULL;
}

/* Rings for those who sleep: each time they do, once. */
static void touched_wake(struct smt_shm *d)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < d->n_touched; i++) {
        struct smt_shm_peer *p = d->touched[i];
        p->is_touched = false;
        if (p->state == SMT_SHM_AWAIT_WELCOME) {
            smt_shm_ring_bell(p);
        } else if (p->state == SMT_SHM_UP) {
            uint32_t sleeps = __atomic_load_n(&p->out.peer->sleeps, __ATOMIC_RELAXED);
            if (SMT_UNLIKELY((sleeps & 1) != 0 && sleeps != p->rung)) {
                p->rung = sleeps;
                smt_shm_ring_bell(p);
            }
        }
    }
    d->n_touched = 0;
    d->stats.tx_frames++;
    d->stats.tx_calls++;
}

int smt_shm_tx_flush(struct smt_dev *dev)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    pending_commit(d);
    if (d->n_touched > 0)
        touched_wake(d);
    if (!d->has_by_inner)
        return 0;
    int r = d->inner->ops->tx_flush(d->inner);
    d->has_by_inner = r == SMT_EAGAIN;
    return r;
}
