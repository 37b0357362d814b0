/* What of the congestion layer may be set: one table, each with its default and range. Nothing of
 * it needs touching; docs/congestion.md says what each does. */
#ifndef SMT_CORE_TUNE_H
#define SMT_CORE_TUNE_H

#include "base/defs.h"

/* X(name, default, least, most, unit and meaning) */
#define SMT_TUNE_TABLE(X)                                                                          \
    X(link_mbps, 0, 0, 4000000, "Mb/s of the device, an upper bound of rates; 0 = unknown")        \
    X(pace_ns, 100000, 0, 100000000, "ns of its time in the queue of the device; 0 = no limit")    \
    X(n_prios, 8, 1, 8, "priority levels of the network, used from 0 up")                          \
    X(overcommit, 8, 1, 16, "incoming messages granted at once")                                   \
    X(unsched_first, 10000, 1, 1 << 30, "bytes without a grant to a peer never measured")          \
    X(unsched_most, 65536, 1, 1 << 30, "bytes a message that peers may send without a grant")      \
    X(unsched_pct, 150, 10, 10000, "unscheduled bytes, percent of RTT x rate")                     \
    X(incast_first, 64, 1, 1 << 20, "messages at once before the unscheduled limit falls")      \
    X(window_first, 20000, 1, 1 << 30, "grant window before anything was measured, bytes")         \
    X(window_pct, 250, 10, 10000, "grant window, percent of RTT x rate")                           \
    X(window_next_pct, 40, 0, 100, "window of all active messages but the best, percent of its")   \
    X(credit_pct, 350, 10, 100000, "all on its way but the best message's, same unit")             \
    X(grant_step_pct, 25, 1, 50, "least step of a grant, percent of the window")                   \
    X(grant_fifo_permille, 50, 0, 500, "share of granted bytes that the oldest message gets")      \
    X(grant_fifo_bytes, 20000, 1, 1 << 30, "bytes of one such grant")                              \
    X(send_fifo_permille, 50, 0, 500, "share of sent bytes that the oldest message gets")          \
    X(silent_rtts, 4, 1, 1000, "round trips after which a granted sender counts as silent")        \
    X(silent_floor_ns, 20000, 0, 1000000000, "ns, and not before")                                 \
    X(cutoffs_every, 4096, 16, 1 << 20, "messages between two looks at the traffic seen")          \
    X(cutoffs_drift_pct, 30, 0, 1000, "percent of change in a level's share that moves cutoffs")   \
    X(resend_floor_ns, 500000, 10000, 1000000000, "ns beyond the RTT before anything is missed")   \
    X(resend_first_ns, 10000000, 10000, 1000000000, "ns, the same before an RTT was measured")     \
    X(resend_most_ns, 128000000, 10000, 4000000000, "ns, the longest silence between two asks")    \
    X(ack_delay_ns, 200000, 0, 100000000, "ns that an acknowledgement may wait for company")       \
    X(rtt_memory_ms, 10000, 10, 3600000, "ms that a least RTT is believed")                        \
    X(rtt_high_factor, 4, 2, 1000, "times the least RTT: a queue, the window falls")               \
    X(rtt_high_ns, 100000, 0, 1000000000, "ns above the least RTT, and not before")                \
    X(loss_permille, 10, 1, 1000, "loss above which the window falls")                             \
    X(share_fall_pct, 80, 10, 99, "what the window falls to, percent of itself")

struct smt_tune {
#define SMT_TUNE_MEMBER(name, is, least, most, text) uint32_t name;
    SMT_TUNE_TABLE(SMT_TUNE_MEMBER)
#undef SMT_TUNE_MEMBER
};

void smt_tune_init(struct smt_tune *t);

/* Values out of their range take the end of it that is nearer. */
void smt_tune_clamp(struct smt_tune *t);

/* By name, for tools. SMT_EINVAL: no such name, or out of range. */
SMT_MUST_CHECK int smt_tune_set(struct smt_tune *t, const char *name, size_t name_len,
                                uint64_t value);

/* The i-th row; false after the last. */
struct smt_tune_row {
    const char *name, *text;
    uint32_t is, least, most;
};
bool smt_tune_row(unsigned i, struct smt_tune_row *out);

#endif
