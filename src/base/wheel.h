/* Hierarchical timing wheel: arm, disarm and pop in O(1), whatever the number of timers.
 *
 * Time is cut into ticks of 8.192 us. A timer expires at the first tick that does not begin before
 * its `at`: never early, less than a tick late. Ask smt_wheel_next for the time to come back at;
 * coming back exactly at `at` is in general a little too soon. A zeroed timer is disarmed. */
#ifndef SMT_BASE_WHEEL_H
#define SMT_BASE_WHEEL_H

#include "base/defs.h"
#include "base/list.h"

enum {
    SMT_WHEEL_TICK_BITS = 13,
    SMT_WHEEL_SLOT_BITS = 6,
    SMT_WHEEL_SLOTS = 1 << SMT_WHEEL_SLOT_BITS,
    SMT_WHEEL_LEVELS = 7, /* 416 days; what lies beyond waits in one list */
};

struct smt_timer {
    struct smt_list link; /* next is NULL when disarmed */
    uint64_t at;          /* as armed; read only */
};

struct smt_wheel {
    uint64_t tick;     /* all earlier ticks are done with */
    uint32_t occupied; /* levels with a timer in them; bit SMT_WHEEL_LEVELS is `far` */
    /* The tick before that of the timer armed last, and its list, while that is not empty and the
     * wheel has not turned; SMT_NEVER: forgotten. */
    uint64_t last_tick;
    struct smt_list *last;
    uint64_t slot_map[SMT_WHEEL_LEVELS]; /* per level, the slots with a timer in them */
    struct smt_list slots[SMT_WHEEL_LEVELS * SMT_WHEEL_SLOTS + 1]; /* the last one is `far` */
};

/* Nothing is allocated and there is no fini: timers still armed are simply forgotten. The wheel
 * must not move while a timer is armed. */
void smt_wheel_init(struct smt_wheel *w, uint64_t now);

/* Lends `t` until it is popped or disarmed. An armed timer is moved. SMT_NEVER disarms. A time in
 * the past expires at once, after those that are due already. */
void smt_wheel_arm(struct smt_wheel *w, struct smt_timer *t, uint64_t at);

/* One timer that has expired by `now`, now disarmed; NULL when there is none (left). Call until
 * NULL. Order: by tick, then as armed. Arming within the loop is allowed. Costs nothing for the
 * time that lies between two calls. */
struct smt_timer *smt_wheel_pop(struct smt_wheel *w, uint64_t now);

/* When to pop next: the next expiry or a time before it at which timers get sorted finer (at most
 * seven for one timer, and one for each 416 days); SMT_NEVER when nothing is armed. After popping
 * until NULL at any `now`, the answer is later than `now`. */
static inline uint64_t smt_wheel_next(const struct smt_wheel *w)
{
    if (w->occupied == 0)
        return SMT_NEVER;
    unsigned level = (unsigned)__builtin_ctz(w->occupied);
    unsigned shift = level * SMT_WHEEL_SLOT_BITS;
    uint64_t tick;
    if (level == SMT_WHEEL_LEVELS) {
        tick = ((w->tick >> shift) + 1) << shift;
    } else {
        uint64_t slot = (uint64_t)__builtin_ctzll(w->slot_map[level]);
        uint64_t window = w->tick >> (shift + SMT_WHEEL_SLOT_BITS);
        tick = ((window << SMT_WHEEL_SLOT_BITS) | slot) << shift;
    }
    return tick > SMT_NEVER >> SMT_WHEEL_TICK_BITS ? SMT_NEVER : tick << SMT_WHEEL_TICK_BITS;
}

static inline bool smt_timer_is_armed(const struct smt_timer *t)
{
    return t->link.next != NULL;
}

/* The list whose head is `head` has just become empty. */
void smt_wheel_emptied(struct smt_wheel *w, const struct smt_list *head);

/* Harmless on a disarmed timer. */
static inline void smt_wheel_disarm(struct smt_wheel *w, struct smt_timer *t)
{
    struct smt_list *prev = t->link.prev, *next = t->link.next;
    if (next == NULL)
        return;
    prev->next = next;
    next->prev = prev;
    t->link.next = NULL;
    /* Alone between one and the same link: that is the head. */
    if (SMT_UNLIKELY(prev == next))
        smt_wheel_emptied(w, next);
}

/* The same as smt_wheel_arm, for one of many that are armed at once and for the same time: they
 * follow each other into one list. It must not be armed. */
static inline void smt_wheel_arm_next(struct smt_wheel *w, struct smt_timer *t, uint64_t at)
{
    assert(!smt_timer_is_armed(t));
    if (SMT_UNLIKELY((at - 1) >> SMT_WHEEL_TICK_BITS != w->last_tick)) {
        smt_wheel_arm(w, t, at);
        return;
    }
    t->at = at;
    smt_list_push_tail(w->last, &t->link);
}

/* For the same time as one that was armed last of all in this wheel, behind it. */
static inline void smt_wheel_arm_behind(const struct smt_timer *before, struct smt_timer *t)
{
    assert(smt_timer_is_armed(before) && !smt_timer_is_armed(t));
    struct smt_list *next = before->link.next;
    t->at = before->at;
    smt_list_insert_between(&t->link, next->prev, next);
}

/* And if it is. */
static inline void smt_wheel_arm_alike(struct smt_wheel *w, struct smt_timer *t, uint64_t at)
{
    smt_wheel_disarm(w, t);
    smt_wheel_arm_next(w, t, at);
}

#endif
