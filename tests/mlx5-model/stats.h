/* What the model has seen, written to the file of knob stats= at the end and on demand. */
#ifndef MLX5_MODEL_STATS_H
#define MLX5_MODEL_STATS_H

#include <stdint.h>

struct mm_stats {
    uint64_t complaints;
    uint64_t wqes, wqe_static, static_needless, wqe_progress, wqe_nop, wqe_dump, wqe_lso, wqe_send;
    uint64_t doorbells, cqes, error_cqes, flushed;
    uint64_t commands, commands_failed, deks, tises, deks_live, tises_live, syncs;
    uint64_t tls_wqes, tls_records, tls_bytes, tls_stale, tls_garbage, tls_number_differs;
    uint64_t frames_sent, frames_lost, frames_dup, frames_reordered, frames_no_port,
        frames_ring_full;
    uint64_t frames_received, frames_unmatched, frames_no_buffer, frames_bad_csum;
    uint64_t injected;
};

extern struct mm_stats mm_stats;

void mm_stats_write(void);

#endif
