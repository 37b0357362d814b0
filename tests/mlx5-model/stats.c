/* Counters, one "name value" a line. */
#include "stats.h"

#include <stddef.h>
#include <stdio.h>

#include "config.h"

struct mm_stats mm_stats;

#define ROW(f)                                                                                     \
    {                                                                                              \
#f, offsetof(struct mm_stats, f)                                                           \
    }

static const struct {
    const char *name;
    size_t at;
} rows[] = {
    ROW(complaints),
    ROW(wqes),
    ROW(wqe_static),
    ROW(static_needless),
    ROW(wqe_progress),
    ROW(wqe_nop),
    ROW(wqe_dump),
    ROW(wqe_lso),
    ROW(wqe_send),
    ROW(doorbells),
    ROW(cqes),
    ROW(error_cqes),
    ROW(flushed),
    ROW(commands),
    ROW(commands_failed),
    ROW(deks),
    ROW(tises),
    ROW(deks_live),
    ROW(tises_live),
    ROW(syncs),
    ROW(tls_wqes),
    ROW(tls_records),
    ROW(tls_bytes),
    ROW(tls_stale),
    ROW(tls_garbage),
    ROW(tls_number_differs),
    ROW(frames_sent),
    ROW(frames_lost),
    ROW(frames_dup),
    ROW(frames_reordered),
    ROW(frames_no_port),
    ROW(frames_ring_full),
    ROW(frames_received),
    ROW(frames_unmatched),
    ROW(frames_no_buffer),
    ROW(frames_bad_csum),
    ROW(injected),
};

void mm_stats_write(void)
{
    if (mm_config()->stats[0] == '\0')
        return;
    FILE *f = fopen(mm_config()->stats, "w");
    if (f == NULL)
        return;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        fprintf(f, "%s %llu\n", rows[i].name,
                (unsigned long long)*(const uint64_t *)((const char *)&mm_stats + rows[i].at));
    fclose(f);
}
