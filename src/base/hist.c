/* What is asked of a histogram; adding is in the header. Counts and the sum are exact (the sum has
 * 128 bits), only the place of a value within its bucket is lost. */
#include "base/hist.h"

#include <string.h>

void smt_hist_init(struct smt_hist *h)
{
    memset(h, 0, sizeof(*h));
}

static uint64_t bucket_low(uint32_t i)
{
    if (i < 2 * SMT_HIST_SUB)
        return i;
    unsigned shift = i / SMT_HIST_SUB - 1;
    return (uint64_t)(i % SMT_HIST_SUB + SMT_HIST_SUB) << shift;
}

static uint64_t bucket_high(uint32_t i)
{
    return i + 1 == SMT_HIST_BUCKETS ? UINT64_MAX : bucket_low(i + 1) - 1;
}

void smt_hist_merge(struct smt_hist *h, const struct smt_hist *from)
{
    if (from->count == 0)
        return;
    if (h->count == 0 || from->min < h->min)
        h->min = from->min;
    if (h->count == 0 || from->max > h->max)
        h->max = from->max;
    h->count += from->count;
    h->sum_lo += from->sum_lo;
    h->sum_hi += from->sum_hi + (h->sum_lo < from->sum_lo);
    for (uint32_t i = 0; i < SMT_HIST_BUCKETS; i++)
        h->buckets[i] += from->buckets[i];
}

/* How many values lie at or below the percentile: p percent of the count, rounded up unless only
 * the arithmetic put it above a whole number. */
static uint64_t rank_of(uint64_t count, double p)
{
    if (p <= 0)
        return 1;
    if (p >= 100)
        return count;
    double exact = (double)count * p / 100;
    uint64_t rank = (uint64_t)exact;
    if (exact - (double)rank > 1e-6)
        rank++;
    return rank < 1 ? 1 : rank > count ? count : rank;
}

uint64_t smt_hist_percentile(const struct smt_hist *h, double p)
{
    if (h->count == 0)
        return 0;
    uint64_t rank = rank_of(h->count, p);
    uint64_t seen = 0;
    for (uint32_t i = smt_hist_bucket(h->min); i < SMT_HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank)
            return bucket_high(i) < h->max ? bucket_high(i) : h->max;
    }
    return h->max;
}

uint64_t smt_hist_min(const struct smt_hist *h)
{
    return h->count == 0 ? 0 : h->min;
}

uint64_t smt_hist_max(const struct smt_hist *h)
{
    return h->count == 0 ? 0 : h->max;
}

double smt_hist_mean(const struct smt_hist *h)
{
    if (h->count == 0)
        return 0;
    return ((double)h->sum_hi * 0x1p64 + (double)h->sum_lo) / (double)h->count;
}

bool smt_hist_next(const struct smt_hist *h, uint32_t *pos, uint64_t *low, uint64_t *high,
                   uint64_t *n)
{
    for (uint32_t i = *pos; i < SMT_HIST_BUCKETS; i++) {
        if (h->buckets[i] == 0)
            continue;
        *pos = i + 1;
        *low = bucket_low(i);
        *high = bucket_high(i);
        *n = h->buckets[i];
        return true;
    }
    *pos = SMT_HIST_BUCKETS;
    return false;
}
