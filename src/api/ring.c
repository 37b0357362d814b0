/* A queue of public events that grows by doubling. Free-running counters over a power of two. Room
 * is reserved before an event is taken from the engine, because an event taken cannot be put back.
 */
#include "api/ring.h"

#include "base/mem.h"

enum { FIRST_SLOTS = 64, MAX_SLOTS = 1 << 26 };

int smt_ring_reserve(struct smt_ring *r)
{
    uint32_t n = smt_ring_count(r);
    uint32_t n_slots = r->slots == NULL ? 0 : r->mask + 1;
    if (n < n_slots)
        return 0;
    if (n_slots >= MAX_SLOTS)
        return SMT_ENOMEM;
    uint32_t n_new = n_slots == 0 ? FIRST_SLOTS : n_slots * 2;
    struct smt_event *slots = smt_mem_alloc(n_new * sizeof(*slots));
    if (slots == NULL)
        return SMT_ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        slots[i] = r->slots[(r->head + i) & r->mask];
    smt_mem_free(r->slots);
    *r = (struct smt_ring){.slots = slots, .mask = n_new - 1, .tail = n};
    return 0;
}

void smt_ring_push(struct smt_ring *r, const struct smt_event *ev)
{
    assert(r->slots != NULL && smt_ring_count(r) <= r->mask);
    r->slots[r->tail++ & r->mask] = *ev;
}

bool smt_ring_pop(struct smt_ring *r, struct smt_event *out)
{
    if (r->head == r->tail)
        return false;
    *out = r->slots[r->head++ & r->mask];
    return true;
}

void smt_ring_fini(struct smt_ring *r)
{
    smt_mem_free(r->slots);
    *r = (struct smt_ring){0};
}
