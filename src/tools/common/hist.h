/* A log-linear histogram of nanoseconds: 256 steps per power of two, so 0.4 % at worst, up to
 * 2^40. */
#ifndef SMT_TOOLS_HIST_H
#define SMT_TOOLS_HIST_H

#include <stdint.h>
#include <stdio.h>

enum {
    HIST_SUB_BITS = 8,
    HIST_TOP_BITS = 40,
    HIST_N = (HIST_TOP_BITS - HIST_SUB_BITS + 1) << HIST_SUB_BITS,
};

struct hist {
    uint64_t count;
    uint64_t min, max;
    double sum, sum_squares;
    uint64_t bucket[HIST_N];
};

void hist_reset(struct hist *h);

static inline unsigned hist_index(uint64_t value)
{
    if (value >= UINT64_C(1) << HIST_TOP_BITS) {
        return HIST_N - 1;
    }
    if (value < 1u << HIST_SUB_BITS) {
        return (unsigned)value;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HIST_SUB_BITS;
    return ((shift + 1) << HIST_SUB_BITS) + (unsigned)(value >> shift) - (1u << HIST_SUB_BITS);
}

static inline void hist_add(struct hist *h, uint64_t value)
{
    h->count++;
    h->min = value < h->min ? value : h->min;
    h->max = value > h->max ? value : h->max;
    h->sum += (double)value;
    h->sum_squares += (double)value * (double)value;
    h->bucket[hist_index(value)]++;
}

void hist_merge(struct hist *into, const struct hist *from);

/* The value that `percent` of all values do not exceed; 0 when empty. */
double hist_percentile(const struct hist *h, double percent);
double hist_mean(const struct hist *h);
double hist_stdev(const struct hist *h);

/* Every bucket that is not empty: "usec count". */
void hist_dump(const struct hist *h, FILE *out);

/* HdrHistogram's percentile distribution, in microseconds (.hgrm). */
void hist_print_hgrm(const struct hist *h, FILE *out);

#endif
