/* A pair of devices in memory: no system call, no copy, nothing lost.
 *
 * Each direction is a ring of slots of one size. tx_reserve hands out the very slot that the other
 * side's rx will show, so a packet costs a few dozen instructions and what is counted on top of it
 * is the code under test. A run does not go over the end of the ring: the slots there are skipped.
 * Both ends belong to one thread. */
#include "dev/dev_impl.h"

#include "base/mem.h"

/* Slots start on different lines of the sets of a cache. */
enum { SLOT_ALIGN = 64, SLOT_SKEW = 64, RUN_LEN = 16000 };

/* One direction. Counters only grow: freed <= taken <= sent <= reserved <= freed + capacity. */
struct lane {
    uint8_t *mem;
    uint32_t *lens; /* 0: the slot was skipped */
    size_t mem_len, stride;
    uint32_t mask, capacity;
    uint64_t reserved, sent; /* by the sender */
    uint64_t taken, freed;   /* by the receiver: shown by rx, given back by the rx after */
    uint32_t wanted;         /* slots that were not there since the last flush that had them */
};

struct loop_dev {
    struct smt_dev base;
    struct loop_pair *pair;
    struct lane *tx, *rx;
    struct smt_addr addr; /* what the other side sees packets come from */
    struct smt_addr peer;
    uint32_t mtu;
    bool is_open;
    /* the last reservation: its slots, those it skipped among them; packets in `nowhere` */
    uint32_t last_slots, last_too_big;
    struct smt_dev_stats stats;
};

struct loop_pair {
    struct loop_dev ends[2];
    struct lane lanes[2];
    uint8_t *nowhere; /* where packets above the MTU are written */
};

static int lane_init(struct lane *l, uint32_t mtu, uint32_t capacity)
{
    uint32_t n_slots = 1;
    while (n_slots < capacity)
        n_slots *= 2;
    l->capacity = capacity;
    l->mask = n_slots - 1;
    l->stride = ((mtu + SLOT_ALIGN - 1) & ~(size_t)(SLOT_ALIGN - 1)) + SLOT_SKEW;
    l->mem_len = l->stride * n_slots;
    l->lens = smt_mem_alloc(n_slots * sizeof(*l->lens));
    if (l->lens == NULL)
        return SMT_ENOMEM;
    l->mem = smt_mem_map(l->mem_len);
    return l->mem != NULL ? 0 : SMT_ENOMEM;
}

static void lane_fini(struct lane *l)
{
    if (l->mem != NULL)
        smt_mem_unmap(l->mem, l->mem_len);
    smt_mem_free(l->lens);
}

static uint8_t *lane_slot(const struct lane *l, uint64_t i)
{
    return l->mem + (i & l->mask) * l->stride;
}

static void pair_free(struct loop_pair *p)
{
    lane_fini(&p->lanes[0]);
    lane_fini(&p->lanes[1]);
    smt_mem_free(p->nowhere);
    smt_mem_free(p);
}

static void loop_close(struct smt_dev *dev)
{
    struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    struct loop_pair *p = d->pair;
    d->is_open = false;
    if (!p->ends[0].is_open && !p->ends[1].is_open)
        pair_free(p);
}

static bool other_is_open(const struct loop_dev *d)
{
    const struct loop_pair *p = d->pair;
    return p->ends[0].is_open && p->ends[1].is_open;
}

/* Are there n free slots? If not the next flush tells. */
static bool has_room(struct loop_dev *d, uint32_t n)
{
    struct lane *l = d->tx;
    if (SMT_LIKELY(l->reserved - l->freed + n <= l->capacity))
        return true;
    l->wanted = n;
    d->stats.tx_full++;
    return false;
}

/* For packets above the MTU. */
static uint8_t *lead_nowhere(struct loop_dev *d, uint32_t n)
{
    d->last_slots = 0;
    d->last_too_big = n;
    d->stats.tx_too_big += n;
    return d->pair->nowhere;
}

static uint8_t *loop_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                                uint8_t prio)
{
    struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    struct lane *l = d->tx;
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET);
    if (SMT_UNLIKELY(!has_room(d, 1)))
        return NULL;
    if (SMT_UNLIKELY(len > d->mtu))
        return lead_nowhere(d, 1);
    d->last_slots = 1;
    d->stats.tx_packets++;
    d->stats.tx_bytes += len;
    uint64_t i = l->reserved++;
    l->lens[i & l->mask] = (uint32_t)len;
    return lane_slot(l, i);
}

static uint8_t *loop_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                            size_t last_len, uint8_t prio, size_t *stride)
{
    struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    struct lane *l = d->tx;
    assert(n > 1 && last_len > 0 && last_len <= len);
    assert((n - 1) * len + last_len <= SMT_DEV_MAX_PACKET);
    uint32_t to_end = l->mask + 1 - (uint32_t)(l->reserved & l->mask);
    uint32_t n_skipped = n > to_end ? to_end : 0;
    if (SMT_UNLIKELY(!has_room(d, n_skipped + n)))
        return NULL;
    *stride = len;
    if (SMT_UNLIKELY(len > d->mtu))
        return lead_nowhere(d, n);
    *stride = l->stride;
    d->last_slots = n_skipped + n;
    for (; n_skipped > 0; n_skipped--)
        l->lens[l->reserved++ & l->mask] = 0;
    uint64_t first = l->reserved;
    uint32_t *lens = &l->lens[first & l->mask];
    for (unsigned i = 0; i < n; i++)
        lens[i] = (uint32_t)len;
    lens[n - 1] = (uint32_t)last_len;
    l->reserved += n;
    d->stats.tx_packets += n;
    d->stats.tx_bytes += (n - 1) * len + last_len;
    return lane_slot(l, first);
}

/* Runs of half a ring always fit once it is empty. */
static uint32_t loop_tx_run_max(struct smt_dev *dev, const struct smt_addr *to)
{
    const struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    return d->tx->capacity >= 2 * SMT_DEV_MAX_RUN ? RUN_LEN : 0;
}

static void loop_tx_unreserve(struct smt_dev *dev)
{
    struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    if (d->last_slots == 0) {
        d->stats.tx_too_big -= d->last_too_big;
        return;
    }
    assert(d->tx->reserved >= d->tx->sent + d->last_slots);
    struct lane *l = d->tx;
    for (; d->last_slots > 0; d->last_slots--) {
        uint32_t len = l->lens[--l->reserved & l->mask];
        d->stats.tx_packets -= len > 0;
        d->stats.tx_bytes -= len;
    }
}

static int loop_tx_flush(struct smt_dev *dev)
{
    struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    struct lane *l = d->tx;
    l->sent = l->reserved;
    if (SMT_UNLIKELY(!other_is_open(d)))
        l->freed = l->taken = l->sent;
    if (l->wanted > 0 && l->reserved - l->freed + l->wanted > l->capacity)
        return SMT_EAGAIN;
    l->wanted = 0;
    return 0;
}

static int loop_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    struct lane *l = d->rx;
    const uint32_t *lens = l->lens;
    const uint32_t mask = l->mask;
    const uint64_t sent = l->sent;
    uint64_t taken = l->taken, bytes = 0;
    struct smt_pkt *p = pkts, *end = pkts + n;
    l->freed = taken;
    if (taken == sent)
        return 0;
    for (; p < end && taken < sent; taken++) {
        uint32_t len = lens[taken & mask];
        if (SMT_UNLIKELY(len == 0))
            continue;
        *p++ = (struct smt_pkt){
            .data = lane_slot(l, taken),
            .len = len,
            .ecn = 2,
            .from = &d->peer,
        };
        bytes += len;
    }
    l->taken = taken;
    d->stats.rx_packets += (uint64_t)(p - pkts);
    d->stats.rx_bytes += bytes;
    return (int)(p - pkts);
}

static uint32_t loop_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    return SMT_CONTAINER_OF(dev, struct loop_dev, base)->mtu;
}

static int loop_arm(struct smt_dev *dev)
{
    const struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    return d->rx->taken < d->rx->sent || d->tx->sent < d->tx->reserved ? SMT_EBUSY : 0;
}

static uint16_t loop_port(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct loop_dev, base)->addr.port;
}

static uint32_t loop_rx_capacity(struct smt_dev *dev)
{
    const struct loop_dev *d = SMT_CONTAINER_OF(dev, struct loop_dev, base);
    uint64_t bytes = (uint64_t)d->rx->capacity * d->mtu;
    return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

static void loop_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    *out = SMT_CONTAINER_OF(dev, struct loop_dev, base)->stats;
}

static const struct smt_dev_ops loop_ops = {
    .name = "loop",
    .caps = SMT_DEV_CAP_EXACT,
    .close = loop_close,
    .tx_reserve = loop_tx_reserve,
    .tx_run = loop_tx_run,
    .tx_run_max = loop_tx_run_max,
    .tx_unreserve = loop_tx_unreserve,
    .tx_flush = loop_tx_flush,
    .rx = loop_rx,
    .mtu = loop_mtu,
    .arm = loop_arm,
    .port = loop_port,
    .rx_capacity = loop_rx_capacity,
    .stats = loop_stats,
};

int smt_dev_loop_pair(uint32_t mtu, uint32_t capacity, struct smt_dev **a, struct smt_dev **b)
{
    assert(mtu > 0 && mtu <= SMT_DEV_MAX_PACKET && capacity > 0 && capacity <= 1u << 24);
    struct loop_pair *p = smt_mem_alloc(sizeof(*p));
    if (p == NULL)
        return SMT_ENOMEM;
    p->nowhere = smt_mem_alloc(SMT_DEV_MAX_PACKET);
    if (p->nowhere == NULL || lane_init(&p->lanes[0], mtu, capacity) < 0 ||
        lane_init(&p->lanes[1], mtu, capacity) < 0) {
        pair_free(p);
        return SMT_ENOMEM;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct loop_dev *d = &p->ends[i];
        smt_dev_init(&d->base, &loop_ops);
        d->pair = p;
        d->tx = &p->lanes[i];
        d->rx = &p->lanes[1 - i];
        d->mtu = mtu;
        d->is_open = true;
        d->addr = (struct smt_addr){
            .ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
            .port = (uint16_t)(i + 1),
        };
    }
    p->ends[0].peer = p->ends[1].addr;
    p->ends[1].peer = p->ends[0].addr;
    *a = &p->ends[0].base;
    *b = &p->ends[1].base;
    return 0;
}
