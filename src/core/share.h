/* How much of its windows a path may use: all, until it shows congestion. */
#ifndef SMT_CORE_SHARE_H
#define SMT_CORE_SHARE_H

#include "base/defs.h"

enum { SMT_SHARE_ALL = 1 << 16, SMT_SHARE_LEAST = SMT_SHARE_ALL / 64 };

struct smt_share {
    uint32_t is;       /* of SMT_SHARE_ALL */
    uint32_t n_calm;   /* good answers since it fell */
    uint64_t fell_at;
};

static inline void smt_share_init(struct smt_share *s)
{
    *s = (struct smt_share){.is = SMT_SHARE_ALL};
}

static inline uint64_t smt_share_of(const struct smt_share *s, uint64_t bytes)
{
    return SMT_LIKELY(s->is == SMT_SHARE_ALL) ? bytes : bytes * s->is / SMT_SHARE_ALL;
}

/* Congestion was seen: falls to `pct` percent of itself, once in `rtt` ns. True when it fell. */
bool smt_share_fall(struct smt_share *s, uint64_t now, uint64_t rtt, uint32_t pct);

/* All was well for a while (a quarter of a window or so): grows back. */
void smt_share_rise(struct smt_share *s);

#endif
