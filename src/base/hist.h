/* Histogram of 64-bit values with 128 buckets for each power of two: values below 256 exact, all
 * others within 1/128. 58 KiB, never allocates. A zeroed one is empty. */
#ifndef SMT_BASE_HIST_H
#define SMT_BASE_HIST_H

#include "base/defs.h"

enum {
    SMT_HIST_SUB_BITS = 7,
    SMT_HIST_SUB = 1 << SMT_HIST_SUB_BITS,
    SMT_HIST_BUCKETS = (64 - SMT_HIST_SUB_BITS + 1) * SMT_HIST_SUB,
};

struct smt_hist {
    uint64_t count, min, max; /* min and max hold nothing while count is 0 */
    uint64_t sum_lo, sum_hi;
    uint64_t buckets[SMT_HIST_BUCKETS];
};

void smt_hist_init(struct smt_hist *h);
void smt_hist_merge(struct smt_hist *h, const struct smt_hist *from);

/* The smallest value v such that p percent (0 .. 100) of what was added is <= v: the upper end of
 * its bucket, but within [min, max]. 0 when empty. */
uint64_t smt_hist_percentile(const struct smt_hist *h, double p);

/* Both 0 when empty. */
uint64_t smt_hist_min(const struct smt_hist *h);
uint64_t smt_hist_max(const struct smt_hist *h);
double smt_hist_mean(const struct smt_hist *h);

/* The non-empty buckets in order: start with *pos = 0, false after the last. The values were in
 * [*low, *high]. */
bool smt_hist_next(const struct smt_hist *h, uint32_t *pos, uint64_t *low, uint64_t *high,
                   uint64_t *n);

static inline uint32_t smt_hist_bucket(uint64_t v)
{
    if (v < SMT_HIST_SUB)
        return (uint32_t)v;
    unsigned top = 63 - (unsigned)__builtin_clzll(v);
    unsigned shift = top - SMT_HIST_SUB_BITS;
    return shift * SMT_HIST_SUB + (uint32_t)(v >> shift);
}

static inline void smt_hist_add(struct smt_hist *h, uint64_t v)
{
    if (h->count == 0 || v < h->min)
        h->min = v;
    if (h->count == 0 || v > h->max)
        h->max = v;
    h->count++;
    h->sum_lo += v;
    h->sum_hi += h->sum_lo < v;
    h->buckets[smt_hist_bucket(v)]++;
}

static inline uint64_t smt_hist_count(const struct smt_hist *h)
{
    return h->count;
}

#endif
