/* How full the device's own queue is, as far as we filled it. */
#ifndef SMT_CORE_PACE_H
#define SMT_CORE_PACE_H

#include "base/defs.h"

struct smt_pace {
    uint64_t ps_per_byte;    /* of the device's link; 0: not known, nothing waits */
    uint64_t slack;          /* ns of the link's time that may stand in the queue */
    uint64_t idle_at;        /* when the link will have sent all that it was given */
    uint64_t bytes, packets; /* totals that are accounted for */
    bool is_held;            /* something waits for the queue to drain */
};

/* A link of `mbps` Mb/s, 0: unknown. */
void smt_pace_init(struct smt_pace *p, uint32_t mbps, uint64_t slack);

/* So many bytes and packets, in all, have gone to the device. */
void smt_pace_sent(struct smt_pace *p, uint64_t now, uint64_t bytes, uint64_t packets);

/* May nothing long go now? Once that was so it stays so until smt_pace_look. */
static inline bool smt_pace_holds(struct smt_pace *p, uint64_t now)
{
    if (p->idle_at > now + p->slack)
        p->is_held = true;
    return p->is_held;
}

/* When to look again; SMT_NEVER when nothing waits. */
static inline uint64_t smt_pace_deadline(const struct smt_pace *p)
{
    return SMT_LIKELY(!p->is_held) ? SMT_NEVER : p->idle_at - p->slack / 2;
}

/* Half of it has drained: on. */
static inline void smt_pace_look(struct smt_pace *p, uint64_t now)
{
    if (SMT_UNLIKELY(p->is_held) && now >= smt_pace_deadline(p))
        p->is_held = false;
}

#endif
