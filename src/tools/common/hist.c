/* Latencies of a run. Min, max, mean and deviation are exact; percentiles are the upper edge of
 * their bucket, never above the largest value seen. */
#include "hist.h"

#include <math.h>
#include <string.h>

void hist_reset(struct hist *h)
{
    memset(h, 0, sizeof(*h));
    h->min = UINT64_MAX;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    into->count += from->count;
    into->min = from->min < into->min ? from->min : into->min;
    into->max = from->max > into->max ? from->max : into->max;
    into->sum += from->sum;
    into->sum_squares += from->sum_squares;
    for (unsigned i = 0; i < HIST_N; i++) {
        into->bucket[i] += from->bucket[i];
    }
}

static uint64_t upper_edge(unsigned index)
{
    if (index < 1u << HIST_SUB_BITS) {
        return index;
    }
    unsigned shift = (index >> HIST_SUB_BITS) - 1;
    uint64_t low = ((index & ((1u << HIST_SUB_BITS) - 1)) | (uint64_t)1 << HIST_SUB_BITS) << shift;
    return low + ((uint64_t)1 << shift) - 1;
}

static double bucket_value(const struct hist *h, unsigned index)
{
    uint64_t edge = upper_edge(index);
    return (double)(edge > h->max || index == HIST_N - 1 ? h->max : edge < h->min ? h->min : edge);
}

double hist_percentile(const struct hist *h, double percent)
{
    if (h->count == 0) {
        return 0;
    }
    uint64_t want = (uint64_t)ceil((double)h->count * percent / 100.0);
    want = want == 0 ? 1 : want;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_N; i++) {
        seen += h->bucket[i];
        if (seen >= want) {
            return bucket_value(h, i);
        }
    }
    return (double)h->max;
}

double hist_mean(const struct hist *h)
{
    return h->count == 0 ? 0 : h->sum / (double)h->count;
}

double hist_stdev(const struct hist *h)
{
    if (h->count < 2) {
        return 0;
    }
    double mean = hist_mean(h);
    double variance = h->sum_squares / (double)h->count - mean * mean;
    return variance > 0 ? sqrt(variance) : 0;
}

void hist_dump(const struct hist *h, FILE *out)
{
    fprintf(out, "# usec (upper edge), count\n");
    for (unsigned i = 0; i < HIST_N; i++) {
        if (h->bucket[i] != 0) {
            fprintf(out, "%.3f %llu\n", bucket_value(h, i) / 1e3,
                    (unsigned long long)h->bucket[i]);
        }
    }
}

void hist_print_hgrm(const struct hist *h, FILE *out)
{
    fprintf(out, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
            "1/(1-Percentile)");
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_N; i++) {
        if (h->bucket[i] == 0) {
            continue;
        }
        seen += h->bucket[i];
        double share = (double)seen / (double)h->count;
        fprintf(out, "%12.3f %2.12f %10llu", bucket_value(h, i) / 1e3, share,
                (unsigned long long)seen);
        if (seen < h->count) {
            fprintf(out, " %14.2f", 1.0 / (1.0 - share));
        }
        fputc('\n', out);
    }
    fprintf(out, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", hist_mean(h) / 1e3,
            hist_stdev(h) / 1e3);
    fprintf(out, "#[Max     = %12.3f, Total count    = %12llu]\n", (double)h->max / 1e3,
            (unsigned long long)h->count);
    fprintf(out, "#[Buckets = %12d, SubBuckets     = %12d]\n", HIST_TOP_BITS - HIST_SUB_BITS + 1,
            1 << HIST_SUB_BITS);
}
