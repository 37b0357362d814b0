/* The event queue: a 4-ary heap of whole events (no pointers to chase: 32 bytes are moved, four
 * children are two cache lines) beside a few rings for constant delays. The next event is the
 * smallest of the heap's top and the rings' heads. A calendar queue was not tried: with lanes the
 * heap of a 144-host network holds about 700 entries and is not what costs. */
#include "sim/des.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { FIRST_CAP = 1024, FIRST_RING = 1024, ARITY = 4 };

static void no_memory(void)
{
    fprintf(stderr, "the simulation's event queue cannot grow\n");
    abort();
}

int smt_des_init(struct smt_des *d, void *ctx)
{
    *d = (struct smt_des){.ctx = ctx, .cap = FIRST_CAP};
    d->heap = smt_mem_block(FIRST_CAP * sizeof(*d->heap));
    return d->heap != NULL ? 0 : SMT_ENOMEM;
}

void smt_des_fini(struct smt_des *d)
{
    if (d->heap != NULL)
        smt_mem_block_free(d->heap, d->cap * sizeof(*d->heap));
    for (unsigned i = 0; i < d->n_lanes; i++) {
        struct smt_des_lane *l = &d->lanes[i];
        smt_mem_block_free(l->ring, ((size_t)l->mask + 1) * sizeof(*l->ring));
    }
    *d = (struct smt_des){0};
}

int smt_des_lane(struct smt_des *d, uint64_t delay)
{
    for (unsigned i = 0; i < d->n_lanes; i++) {
        if (d->lanes[i].delay == delay)
            return (int)i;
    }
    assert(d->n_lanes < SMT_DES_MAX_LANES);
    struct smt_des_event *ring = smt_mem_block(FIRST_RING * sizeof(*ring));
    if (ring == NULL)
        return SMT_ENOMEM;
    d->lanes[d->n_lanes] =
        (struct smt_des_lane){.ring = ring, .delay = delay, .mask = FIRST_RING - 1};
    return (int)d->n_lanes++;
}

static inline bool before(const struct smt_des_event *a, const struct smt_des_event *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void heap_grow(struct smt_des *d)
{
    struct smt_des_event *more = smt_mem_block((size_t)d->cap * 2 * sizeof(*more));
    if (more == NULL)
        no_memory();
    memcpy(more, d->heap, d->cap * sizeof(*more));
    smt_mem_block_free(d->heap, d->cap * sizeof(*more));
    d->heap = more;
    d->cap *= 2;
}

void smt_des_at(struct smt_des *d, uint64_t at, smt_des_fn *fn, void *arg)
{
    assert(at >= d->now);
    if (SMT_UNLIKELY(d->n == d->cap))
        heap_grow(d);
    const struct smt_des_event ev = {.at = at, .seq = d->seq++, .fn = fn, .arg = arg};
    uint32_t i = d->n++;
    while (i > 0) {
        uint32_t up = (i - 1) / ARITY;
        if (!before(&ev, &d->heap[up]))
            break;
        d->heap[i] = d->heap[up];
        i = up;
    }
    d->heap[i] = ev;
}

static void heap_pop(struct smt_des *d)
{
    const struct smt_des_event ev = d->heap[--d->n];
    uint32_t i = 0;
    for (;;) {
        uint32_t first = i * ARITY + 1;
        if (first >= d->n)
            break;
        uint32_t end = first + ARITY < d->n ? first + ARITY : d->n;
        uint32_t least = first;
        for (uint32_t k = first + 1; k < end; k++) {
            if (before(&d->heap[k], &d->heap[least]))
                least = k;
        }
        if (!before(&d->heap[least], &ev))
            break;
        d->heap[i] = d->heap[least];
        i = least;
    }
    d->heap[i] = ev;
}

static void lane_grow(struct smt_des_lane *l)
{
    size_t cap = (size_t)l->mask + 1;
    struct smt_des_event *more = smt_mem_block(2 * cap * sizeof(*more));
    if (more == NULL)
        no_memory();
    for (uint32_t i = 0; i < l->n; i++)
        more[i] = l->ring[(l->head + i) & l->mask];
    smt_mem_block_free(l->ring, cap * sizeof(*more));
    l->ring = more;
    l->head = 0;
    l->mask = (uint32_t)(2 * cap - 1);
}

void smt_des_in_lane(struct smt_des *d, unsigned lane, smt_des_fn *fn, void *arg)
{
    assert(lane < d->n_lanes);
    struct smt_des_lane *l = &d->lanes[lane];
    if (SMT_UNLIKELY(l->n > l->mask))
        lane_grow(l);
    l->ring[(l->head + l->n++) & l->mask] =
        (struct smt_des_event){.at = d->now + l->delay, .seq = d->seq++, .fn = fn, .arg = arg};
}

/* The earliest event and its lane; -1: the heap's. */
static const struct smt_des_event *earliest(const struct smt_des *d, int *lane)
{
    const struct smt_des_event *best = d->n > 0 ? &d->heap[0] : NULL;
    *lane = -1;
    for (unsigned i = 0; i < d->n_lanes; i++) {
        const struct smt_des_lane *l = &d->lanes[i];
        if (l->n > 0 && (best == NULL || before(&l->ring[l->head], best))) {
            best = &l->ring[l->head];
            *lane = (int)i;
        }
    }
    return best;
}

bool smt_des_step(struct smt_des *d, uint64_t until)
{
    int lane;
    const struct smt_des_event *next = earliest(d, &lane);
    if (next == NULL || next->at > until)
        return false;
    const struct smt_des_event ev = *next;
    if (lane < 0) {
        heap_pop(d);
    } else {
        struct smt_des_lane *l = &d->lanes[lane];
        l->head = (l->head + 1) & l->mask;
        l->n--;
    }
    d->now = ev.at;
    d->n_run++;
    ev.fn(d->ctx, ev.arg);
    return true;
}

uint64_t smt_des_next(const struct smt_des *d)
{
    int lane;
    const struct smt_des_event *next = earliest(d, &lane);
    return next != NULL ? next->at : SMT_NEVER;
}
