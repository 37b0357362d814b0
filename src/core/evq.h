/* The queue of what happened. Its links live in conns and rpcs: an event needs no memory of its own
 * and cannot be lost. */
#ifndef SMT_CORE_EVQ_H
#define SMT_CORE_EVQ_H

#include "base/list.h"
#include "base/wheel.h"

enum smt_ev_owner { SMT_EV_OF_CONN, SMT_EV_OF_RPC };

/* A timer in the engine's one wheel, with whose it is. */
struct smt_owned_timer {
    struct smt_timer t;
    enum smt_ev_owner owner;
};

struct smt_evlink {
    struct smt_list link; /* while something is pending */
    enum smt_ev_owner owner;
    uint32_t pending; /* bits, 1 << enum smt_engine_event_type; 0 = not queued */
};

static inline void smt_evlink_init(struct smt_evlink *l, enum smt_ev_owner owner)
{
    l->owner = owner;
    l->pending = 0;
}

/* The first event of this owner. */
static inline void smt_evlink_begin(struct smt_list *queue, struct smt_evlink *l, unsigned type)
{
    assert(l->pending == 0);
    smt_list_push_tail(queue, &l->link);
    l->pending = 1u << type;
}

/* Adds an event of this owner; the link is queued when it was not. */
static inline void smt_evlink_raise(struct smt_list *queue, struct smt_evlink *l, unsigned type)
{
    if (l->pending == 0)
        smt_list_push_tail(queue, &l->link);
    l->pending |= 1u << type;
}

static inline void smt_evlink_drop(struct smt_evlink *l)
{
    if (l->pending != 0)
        smt_list_unlink(&l->link);
    l->pending = 0;
}

/* Drops those of a mask like `pending`. */
static inline void smt_evlink_drop_some(struct smt_evlink *l, uint32_t mask)
{
    uint32_t left = l->pending & ~mask;
    if (left == 0)
        smt_evlink_drop(l);
    else
        l->pending = left;
}

/* The first event of a queued link, which goes behind the others if it has more. */
static inline unsigned smt_evlink_take(struct smt_list *queue, struct smt_evlink *l)
{
    uint32_t pending = l->pending;
    smt_list_unlink(&l->link);
    l->pending = pending & (pending - 1);
    if (SMT_UNLIKELY(l->pending != 0))
        smt_list_push_tail(queue, &l->link);
    return (unsigned)__builtin_ctz(pending);
}

#endif
