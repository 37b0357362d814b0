/* Where a timer waits is a function of its tick T and the wheel's: the level is the highest group
 * of six bits in which they differ, the slot is T's six bits there. So
 *   - all timers of level l expire before all of level l + 1, and the first occupied slot of the
 *     lowest occupied level holds the next expiry: no search, one count of zeros per level;
 *   - the wheel's tick may jump to any tick before the start of that slot without moving a timer;
 *   - timers of one tick are always in one list, in the order in which they were armed, for a list
 *     moves down as a whole before anything of its ticks can be armed further down.
 * What differs above the highest level waits in `far`, which is sorted in when the tick gets there.
 *
 * Expiry rounds up to a tick, which keeps the promise "never early" without looking at the timers
 * of the running tick again and again; the price is up to 8 us of lateness. */
#include "base/wheel.h"

enum { FAR_SLOT = SMT_WHEEL_LEVELS * SMT_WHEEL_SLOTS };

static uint64_t tick_from_time(uint64_t at)
{
    /* SMT_NEVER is never asked for, and 0 has no tick before it. */
    return at == 0 ? 0 : ((at - 1) >> SMT_WHEEL_TICK_BITS) + 1;
}

void smt_wheel_init(struct smt_wheel *w, uint64_t now)
{
    *w = (struct smt_wheel){.tick = now >> SMT_WHEEL_TICK_BITS, .last_tick = SMT_NEVER};
    for (size_t i = 0; i < SMT_ARRAY_LEN(w->slots); i++)
        smt_list_init(&w->slots[i]);
}

static void slot_unmark(struct smt_wheel *w, unsigned index)
{
    unsigned level = index / SMT_WHEEL_SLOTS;
    if (level < SMT_WHEEL_LEVELS) {
        w->slot_map[level] &= ~(1ull << (index % SMT_WHEEL_SLOTS));
        if (w->slot_map[level] != 0)
            return;
    }
    w->occupied &= ~(1u << level);
}

/* The list it is in now. */
static struct smt_list *timer_place(struct smt_wheel *w, struct smt_timer *t)
{
    uint64_t tick = tick_from_time(t->at);
    if (tick < w->tick)
        tick = w->tick;
    uint64_t diff = tick ^ w->tick;
    unsigned level = (63 - (unsigned)__builtin_clzll(diff | 1)) / SMT_WHEEL_SLOT_BITS;
    if (SMT_UNLIKELY(level >= SMT_WHEEL_LEVELS)) {
        w->occupied |= 1u << SMT_WHEEL_LEVELS;
        smt_list_push_tail(&w->slots[FAR_SLOT], &t->link);
        return &w->slots[FAR_SLOT];
    }
    unsigned slot = (unsigned)(tick >> (level * SMT_WHEEL_SLOT_BITS)) % SMT_WHEEL_SLOTS;
    w->occupied |= 1u << level;
    w->slot_map[level] |= 1ull << slot;
    struct smt_list *head = &w->slots[level * SMT_WHEEL_SLOTS + slot];
    smt_list_push_tail(head, &t->link);
    return head;
}

void smt_wheel_emptied(struct smt_wheel *w, const struct smt_list *head)
{
    slot_unmark(w, (unsigned)(head - w->slots));
    if (head == w->last)
        w->last_tick = SMT_NEVER;
}

void smt_wheel_arm(struct smt_wheel *w, struct smt_timer *t, uint64_t at)
{
    smt_wheel_disarm(w, t);
    t->at = at;
    if (at == SMT_NEVER)
        return;
    w->last = timer_place(w, t);
    w->last_tick = at == 0 ? SMT_NEVER : (at - 1) >> SMT_WHEEL_TICK_BITS;
}

/* Empties a slot into the levels below (`far`: into any). The slot is unmarked first, because a
 * timer that stays in `far` marks it again. */
static void slot_sort_in(struct smt_wheel *w, unsigned index)
{
    struct smt_list *head = &w->slots[index];
    struct smt_list todo = *head;
    todo.next->prev = &todo;
    todo.prev->next = &todo;
    smt_list_init(head);
    slot_unmark(w, index);
    SMT_LIST_FOREACH_SAFE(it, tmp, &todo)
        (void)timer_place(w, SMT_CONTAINER_OF(it, struct smt_timer, link));
}

/* Other ticks may have other lists from now on. */
static void tick_set(struct smt_wheel *w, uint64_t tick)
{
    w->tick = tick;
    w->last_tick = SMT_NEVER;
}

struct smt_timer *smt_wheel_pop(struct smt_wheel *w, uint64_t now)
{
    uint64_t tick = now >> SMT_WHEEL_TICK_BITS;
    for (;;) {
        uint64_t next = smt_wheel_next(w);
        if (next > now || next == SMT_NEVER) {
            if (tick > w->tick)
                tick_set(w, tick);
            return NULL;
        }
        unsigned level = (unsigned)__builtin_ctz(w->occupied);
        tick_set(w, next >> SMT_WHEEL_TICK_BITS);
        unsigned index = FAR_SLOT;
        if (level < SMT_WHEEL_LEVELS)
            index = level * SMT_WHEEL_SLOTS + (unsigned)__builtin_ctzll(w->slot_map[level]);
        if (level == 0) {
            struct smt_timer *t = SMT_CONTAINER_OF(w->slots[index].next, struct smt_timer, link);
            smt_wheel_disarm(w, t);
            return t;
        }
        slot_sort_in(w, index);
    }
}
