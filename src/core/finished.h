/* Which of a side's own RPCs are finished: a low-water mark and a bitmap of the 64 ids behind it,
 * kept so that telling it costs two stores (docs/wire.md 3.1), and the peer's view of the same. */
#ifndef SMT_CORE_FINISHED_H
#define SMT_CORE_FINISHED_H

#include "base/ranges.h"

struct smt_finished {
    uint64_t low_water;      /* all ids below are finished */
    uint64_t done;           /* bit i: id low_water + 1 + i is finished */
    struct smt_ranges *later; /* finished ids beyond the bitmap; NULL = none */
    struct smt_ranges_pool *pool;
    bool untold;             /* changed since the peer was told */
};

void smt_finished_init(struct smt_finished *f, struct smt_ranges_pool *pool);
void smt_finished_fini(struct smt_finished *f);

/* The part of add for ids out of their order. */
SMT_MUST_CHECK int smt_finished_add_any(struct smt_finished *f, uint64_t id);

/* `id` has finished. SMT_ENOMEM: not recorded, call again later. */
SMT_MUST_CHECK static inline int smt_finished_add(struct smt_finished *f, uint64_t id)
{
    if (SMT_UNLIKELY(id != f->low_water || (f->done & 1) != 0 || f->later != NULL))
        return smt_finished_add_any(f, id);
    f->low_water++;
    f->done >>= 1;
    f->untold = true;
    return 0;
}

/* Will mark and bitmap tell that `id` is finished, as things are? */
static inline bool smt_finished_is_near(const struct smt_finished *f, uint64_t id)
{
    return id - f->low_water <= 64;
}

struct smt_finished_seen {
    uint64_t low_water, done;
};

/* Is `id` finished as far as was told? */
static inline bool smt_finished_seen_has(const struct smt_finished_seen *s, uint64_t id)
{
    /* Below the mark, and on it, that is a very large number. */
    uint64_t bit = id - s->low_water - 1;
    return SMT_LIKELY(bit >= 64) ? id < s->low_water : s->done >> bit & 1;
}

/* From which id on nothing was told. */
static inline uint64_t smt_finished_seen_end(const struct smt_finished_seen *s)
{
    return s->done == 0 ? s->low_water : s->low_water + 65 - (uint64_t)__builtin_clzll(s->done);
}

/* The peer told (low_water, done). Calls fn(arg, id) for each id that is newly known to be
 * finished, unless the mark passed more than `span`: then whoever asks has to look through all he
 * has. Old news is ignored. */
SMT_INLINE void smt_finished_told(struct smt_finished_seen *s, uint64_t low_water, uint64_t done,
                                  uint32_t span, void (*fn)(void *arg, uint64_t id), void *arg)
{
    struct smt_finished_seen old = *s;
    if (low_water < old.low_water || (low_water == old.low_water && (done & ~old.done) == 0))
        return;
    uint64_t step = low_water - old.low_water;
    s->low_water = low_water;
    s->done = step == 0 ? old.done | done : done;
    if (step > span)
        return;
    uint64_t id = old.low_water, bits = s->done;
    while (id < low_water || bits != 0) {
        uint64_t next = id;
        if (id < low_water) {
            id++;
        } else {
            next = low_water + 1 + (uint64_t)__builtin_ctzll(bits);
            bits &= bits - 1;
        }
        if (SMT_LIKELY(old.done == 0) || !smt_finished_seen_has(&old, next))
            fn(arg, next);
    }
}

#endif
