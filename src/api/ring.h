/* A queue of public events that grows: what synchronous calls keep back for smt_poll. */
#ifndef SMT_API_RING_H
#define SMT_API_RING_H

#include <smt/smt.h>

#include "base/defs.h"

struct smt_ring {
    struct smt_event *slots;
    uint32_t mask; /* slots - 1 */
    uint32_t head, tail;
};

static inline uint32_t smt_ring_count(const struct smt_ring *r)
{
    return r->tail - r->head;
}

/* Makes room for one more. 0 or SMT_ENOMEM (nothing changed). */
SMT_MUST_CHECK int smt_ring_reserve(struct smt_ring *r);

/* After smt_ring_reserve. */
void smt_ring_push(struct smt_ring *r, const struct smt_event *ev);

/* False when empty. */
bool smt_ring_pop(struct smt_ring *r, struct smt_event *out);

void smt_ring_fini(struct smt_ring *r);

#endif
