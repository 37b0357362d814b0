/* Packets that wait until the way to their peer is known: for a while, and up to a number. The
 * device owns the slots and says what becomes of them. */
#ifndef SMT_DEV_HELD_H
#define SMT_DEV_HELD_H

#include "base/defs.h"

enum { SMT_HELD_MOST = 128 };

struct smt_held {
    uint32_t n;
    struct {
        void *slot; /* the device's */
        uint64_t since;
    } at[SMT_HELD_MOST]; /* oldest first */
};

/* Takes the slot, where `max` (<= SMT_HELD_MOST) are the most. Returns which one is not held, or no
 * longer, and is the caller's to drop: the oldest, this one when even the oldest is fresh, or
 * NULL. */
void *smt_held_add(struct smt_held *h, uint32_t max, void *slot, uint64_t now);

/* True: the slot is sent or dropped. `is_late`: it has waited as long as one may. */
typedef bool smt_held_leaves_fn(void *arg, void *slot, bool is_late);

/* Asks about each, newest first: put one by one in front of what waits, they keep their order. */
void smt_held_release(struct smt_held *h, uint64_t now, smt_held_leaves_fn *leaves, void *arg);

#endif
