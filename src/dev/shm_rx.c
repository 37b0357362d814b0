/* Receiving by shared memory: no system call while packets come.
 *
 * A packet is copied out of the ring before anybody looks at a byte of it: its writer can change it
 * at any time, and what is checked must be what is used (docs/security.md). A call copies no more
 * than stays in the cache until it has been opened. The inner device and the sockets are looked at
 * seldom while nothing comes from them, always before and after a sleep. */
#include "dev/shm.h"

#include <string.h>

enum {
    LOOK_EVERY = 1024, /* calls for one look at the sockets */
    INNER_EVERY = 512, /* calls for one look at the inner device */
    INNER_HOT = 512,   /* calls with a look each after it had something */
    LOOK_ALONE = 128,  /* as LOOK_EVERY, while there is no peer at all */
};

/* Where a packet of the longest may still follow. */
static inline bool has_room(uint32_t used)
{
    return used + SMT_DEV_MAX_PACKET <= SMT_SHM_RX_MEM;
}

/* The peer is broken or gone, and has been read as far as it will be. */
static void peer_finish(struct smt_shm *d, struct smt_shm_peer *p)
{
    if (p->state == SMT_SHM_UP)
        smt_shm_peer_end(d, p);
    p->state = SMT_SHM_DONE;
    d->has_done = true;
}

/* From one ring, up to n; `used` bytes of rx_mem are taken. */
static unsigned ring_take(struct smt_shm *d, struct smt_shm_peer *p, struct smt_pkt *pkts,
                          unsigned n, uint32_t *used)
{
    unsigned got = 0;
    struct smt_shm_seen seen;
    int r = 0;
    while (got < n && has_room(*used) && (r = smt_shm_in_look(&p->in, &seen)) > 0) {
        if (got == 0)
            smt_shm_out_expect(&p->out);
        uint8_t *to = d->rx_mem + *used;
        memcpy(to, seen.data, seen.len);
        smt_shm_in_next(&p->in, seen.len);
        *used += (seen.len + SMT_SHM_LINE - 1) & ~(uint32_t)(SMT_SHM_LINE - 1);
        d->stats.rx_bytes += seen.len;
        pkts[got++] = (struct smt_pkt){
            .data = to,
            .len = seen.len,
            .ecn = seen.is_late ? 3 : 2,
            .from = &p->addr,
        };
    }
    if (got > 0)
        smt_shm_in_tell(&p->in);
    if (SMT_UNLIKELY(r < 0))
        d->stats.rx_dropped++;
    bool is_read = got < n && has_room(*used);
    if (SMT_UNLIKELY(r < 0 || (p->state == SMT_SHM_DRAIN && (is_read || p->in.at >= p->until))))
        peer_finish(d, p);
    return got;
}

static unsigned rings_take(struct smt_shm *d, struct smt_pkt *pkts, unsigned n)
{
    unsigned got = 0;
    uint32_t used = 0;
    unsigned at = d->first;
    for (unsigned i = 0; i < d->n_peers && got < n; i++) {
        at = at + 1 < d->n_peers ? at + 1 : 0;
        struct smt_shm_peer *p = d->live[at];
        if (SMT_LIKELY(p->state == SMT_SHM_UP || p->state == SMT_SHM_DRAIN))
            got += ring_take(d, p, pkts + got, n - got, &used);
    }
    d->first = at;
    d->stats.rx_packets += got;
    d->stats.rx_frames += got > 0;
    return got;
}

bool smt_shm_rx_pending(struct smt_shm *d)
{
    for (unsigned i = 0; i < d->n_peers; i++) {
        struct smt_shm_peer *p = d->live[i];
        struct smt_shm_seen seen;
        if (p->state == SMT_SHM_DRAIN ||
            (p->state == SMT_SHM_UP && smt_shm_in_look(&p->in, &seen) != 0))
            return true;
    }
    return false;
}

static int inner_take(struct smt_shm *d, struct smt_pkt *pkts, unsigned n)
{
    int got = d->inner->ops->rx(d->inner, pkts, n);
    d->n_looks = 0;
    if (got > 0)
        d->hot = INNER_HOT;
    else if (d->hot > 0)
        d->hot--;
    if (SMT_UNLIKELY(d->inner->news != 0)) {
        smt_dev_news_add(&d->base.news, d->inner->news);
        d->inner->news = 0;
    }
    return got;
}

/* Awake again: those who send need not ring. */
static void disarm(struct smt_shm *d)
{
    d->is_armed = false;
    for (unsigned i = 0; i < d->n_peers; i++) {
        struct smt_shm_peer *p = d->live[i];
        if (p->ours == NULL)
            continue;
        uint32_t *sleeps = &((struct smt_shm_page *)(void *)p->ours)->sleeps;
        if ((*sleeps & 1) != 0)
            __atomic_store_n(sleeps, *sleeps + 1, __ATOMIC_RELAXED);
    }
}

int smt_shm_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    bool must_look = d->is_armed || d->n_waiting > 0;
    d->stats.rx_calls++;
    if (SMT_UNLIKELY(d->has_done))
        smt_shm_reap(d);
    if (SMT_UNLIKELY(d->is_armed))
        disarm(d);
    uint32_t every = d->n_peers > 0 ? LOOK_EVERY : LOOK_ALONE;
    if (SMT_UNLIKELY(must_look || ++d->n_calls >= every)) {
        d->n_calls = 0;
        smt_shm_look(d);
    }
    if (d->n_peers == 0)
        return inner_take(d, pkts, n);
    if (++d->n_looks >= INNER_EVERY) {
        int got = inner_take(d, pkts, n);
        if (got != 0)
            return got;
    }
    unsigned got = rings_take(d, pkts, n);
    return got > 0 || d->hot == 0 ? (int)got : inner_take(d, pkts, n);
}

/* Rings have packets of their own length: there is nothing to join. */
unsigned smt_shm_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_shm *d = SMT_CONTAINER_OF(dev, struct smt_shm, base);
    return d->inner->ops->rx_more(d->inner, pkts, n);
}
