/* What is measured of a path: least round trip and largest delivery rate, and what follows from
 * them: how many bytes fill it. */
#ifndef SMT_CORE_RTT_H
#define SMT_CORE_RTT_H

#include "base/defs.h"

/* The extreme of two halves of the memory: the one under way and the one before. A zeroed one has
 * measured nothing. */
struct smt_rtt {
    uint64_t least[2];  /* ns; 0 = none */
    uint64_t half_at;   /* when the half under way began */
    uint64_t rate;      /* bytes/s; 0 = none */
};

/* A round trip of `sample` ns (at least 1) was seen. `memory`: ns for which a least one counts. */
void smt_rtt_sample(struct smt_rtt *t, uint64_t now, uint64_t sample, uint64_t memory);

/* The least round trip of the last half to whole memory; 0 = never measured. It is not forgotten
 * for want of new ones. */
static inline uint64_t smt_rtt_least(const struct smt_rtt *t)
{
    if (t->least[1] == 0 || (t->least[0] != 0 && t->least[0] < t->least[1]))
        return t->least[0];
    return t->least[1];
}

/* `bytes` were delivered in `span` ns, over which the path may have been full. `most`: an upper
 * bound in bytes/s, 0 = none. */
void smt_rtt_rate_sample(struct smt_rtt *t, uint64_t bytes, uint64_t span, uint64_t most);

/* The path turned out slower: the largest rate falls towards `rate`. */
void smt_rtt_rate_fall(struct smt_rtt *t, uint64_t rate);

/* Bytes that fill the path: RTT x rate, and three packets more for those that switches store on the
 * way, which a round trip of small packets does not show. 0 = not known. */
uint64_t smt_rtt_fill(const struct smt_rtt *t, uint32_t packet);

#endif
