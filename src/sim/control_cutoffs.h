/* Cutoffs of unscheduled priorities computed before a run from the sizes to come, as HomaSimulation
 * does it. The library computes its own from what it sees; this is what the control is given. */
#ifndef SMT_SIM_CONTROL_CUTOFFS_H
#define SMT_SIM_CONTROL_CUTOFFS_H

#include "base/defs.h"
#include "sim/net.h"

enum { SMT_CONTROL_WINDOW = 10000, SMT_CONTROL_MAX = 16 };

/* Message sizes and how often they come. */
struct smt_size_share {
    uint32_t len;
    double share;
};

/* Data bytes that fit into the first SMT_CONTROL_WINDOW bytes on the wire of a long message. */
uint32_t smt_control_unsched(const struct smt_net_headers *hdr);

/* cutoffs[i], i < n_levels - 1: the most bytes that a message may have left for its unscheduled
 * packet to use the i-th best of n_levels levels (at most SMT_CONTROL_MAX); each level carries the
 * same bytes on the wire. Those are the packets in the first and the last window of each message,
 * and all grants, which count as the smallest. 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_control_cutoffs_compute(const struct smt_net_headers *hdr,
                                               const struct smt_size_share *sizes, unsigned n_sizes,
                                               uint32_t unsched, unsigned n_levels,
                                               uint32_t *cutoffs);

#endif
