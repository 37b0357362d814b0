/* Set of 64-bit numbers kept as disjoint half-open ranges [start, end) that do not touch.
 *
 * The highest range lives in the set itself: a set with one range, and one that grows at its end,
 * needs no node and no search. The others form a balanced tree of nodes from a pool that many sets
 * share. O(log n) in the ranges; an add pays for the ranges it swallows. */
#ifndef SMT_BASE_RANGES_H
#define SMT_BASE_RANGES_H

#include "base/defs.h"
#include "base/pool.h"

struct smt_range {
    uint64_t start, end;
};

/* Here for the tests, which look whether the tree is balanced; nobody else touches it. */
struct smt_ranges_node {
    struct smt_range range;
    struct smt_ranges_node *left, *right;
    uint32_t height;
};

struct smt_ranges_pool {
    struct smt_pool nodes;
};

/* Nodes for all sets together: first_count at once, at most max_count. 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_ranges_pool_init(struct smt_ranges_pool *p, uint32_t first_count,
                                        uint32_t max_count);
void smt_ranges_pool_fini(struct smt_ranges_pool *p);

struct smt_ranges {
    struct smt_range last;        /* the highest one, if n > 0 */
    struct smt_ranges_node *root; /* the n - 1 others */
    struct smt_ranges_pool *pool;
    uint64_t len; /* of all ranges together */
    uint32_t n, max;
};

/* Empty, at most `max` (>= 1) ranges. `pool` is lent until fini. */
static inline void smt_ranges_init(struct smt_ranges *r, struct smt_ranges_pool *pool, uint32_t max)
{
    assert(max > 0);
    *r = (struct smt_ranges){.pool = pool, .max = max};
}

/* Gives all nodes back and leaves an empty set that may be used again. */
void smt_ranges_clear(struct smt_ranges *r);

static inline void smt_ranges_fini(struct smt_ranges *r)
{
    if (SMT_LIKELY(r->n <= 1))
        r->len = r->n = 0;
    else
        smt_ranges_clear(r);
}

/* The part of add that is not the fast path. */
SMT_MUST_CHECK int smt_ranges_add_slow(struct smt_ranges *r, uint64_t start, uint64_t end);

/* Adds [start, end), start <= end, merging with what it overlaps or touches. 0, or SMT_ENOMEM when
 * that would make more than `max` ranges or there is no node: then the set is unchanged. An add
 * that touches an existing range never fails. */
SMT_MUST_CHECK static inline int smt_ranges_add(struct smt_ranges *r, uint64_t start, uint64_t end)
{
    if (SMT_LIKELY(r->n > 0 && start >= r->last.start && start <= r->last.end && start <= end)) {
        if (end > r->last.end) {
            r->len += end - r->last.end;
            r->last.end = end;
        }
        return 0;
    }
    if (SMT_LIKELY(r->n == 0 && start < end)) {
        r->last = (struct smt_range){start, end};
        r->len = end - start;
        r->n = 1;
        return 0;
    }
    return smt_ranges_add_slow(r, start, end);
}

/* Takes out every number below x. */
void smt_ranges_remove_below(struct smt_ranges *r, uint64_t x);

/* The first range that ends after `from`, whole; false when there is none. A walk starts with 0
 * and goes on with the end of the range it got. */
bool smt_ranges_next(const struct smt_ranges *r, uint64_t from, struct smt_range *out);

/* Is x behind all that is in the set? Then it is not in it. */
static inline bool smt_ranges_is_behind(const struct smt_ranges *r, uint64_t x)
{
    return r->n == 0 || x >= r->last.end;
}

/* Is x the number behind the last one in the set? */
static inline bool smt_ranges_is_next(const struct smt_ranges *r, uint64_t x)
{
    return x == r->last.end && r->n > 0;
}

/* Adds it, then, and n - 1 behind it. */
static inline void smt_ranges_add_next(struct smt_ranges *r, uint64_t n)
{
    r->last.end += n;
    r->len += n;
}

/* Is x in the set? */
bool smt_ranges_contains(const struct smt_ranges *r, uint64_t x);

/* Is any number of [start, end) in the set? False for an empty range. */
bool smt_ranges_overlaps(const struct smt_ranges *r, uint64_t start, uint64_t end);

/* Are all numbers of [start, end)? True for an empty range. */
bool smt_ranges_covers(const struct smt_ranges *r, uint64_t start, uint64_t end);

/* The first stretch of numbers in [from, limit) that are not in the set; false when there is
 * none. */
bool smt_ranges_next_gap(const struct smt_ranges *r, uint64_t from, uint64_t limit, uint64_t *start,
                         uint64_t *end);

/* The lowest and the highest range; false when the set is empty. */
static inline bool smt_ranges_first(const struct smt_ranges *r, struct smt_range *out)
{
    return smt_ranges_next(r, 0, out);
}

static inline bool smt_ranges_last(const struct smt_ranges *r, struct smt_range *out)
{
    *out = r->last;
    return r->n > 0;
}

static inline uint32_t smt_ranges_count(const struct smt_ranges *r)
{
    return r->n;
}

/* How many numbers are in the set. */
static inline uint64_t smt_ranges_len(const struct smt_ranges *r)
{
    return r->len;
}

static_assert(sizeof(struct smt_ranges) <= 64, "an idle set is one cache line");

#endif
