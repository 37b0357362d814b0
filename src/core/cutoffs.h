/* Priorities of unscheduled bytes: what a receiver makes of the traffic it sees, and what a sender
 * makes of its peer's. */
#ifndef SMT_CORE_CUTOFFS_H
#define SMT_CORE_CUTOFFS_H

#include "base/defs.h"

struct smt_conn;
struct smt_engine;

/* Eight classes an octave. */
enum { SMT_CUTOFFS_CLASSES = 30 * 8 + 1, SMT_CUTOFFS_LEVELS = 8, SMT_CUTOFFS_ONE = 16 };

/* Cutoffs as in the frame: at[p] is the most bytes left to be sent at priority p, at[0] all. */
struct smt_cutoffs {
    uint32_t at[SMT_CUTOFFS_LEVELS];
    uint16_t version;  /* 0: those that both sides know without a word */
    uint8_t n_sched;   /* the lowest so many levels are for granted bytes */
    uint32_t limit;    /* unscheduled bytes per message that we take */
    uint32_t n_seen;   /* messages since the last look */
    uint32_t look_at;  /* how many make the next one */
    uint32_t n_known;  /* messages that the counts hold, but for those */
    uint32_t n_looks;
    uint32_t n_changes;
    uint32_t count[SMT_CUTOFFS_CLASSES]; /* messages x SMT_CUTOFFS_ONE by length, of late */
};

/* For n_prios levels, before any traffic was seen. */
void smt_cutoffs_init(struct smt_cutoffs *c, unsigned n_prios, uint32_t limit);

unsigned smt_cutoffs_class(uint32_t len);

/* n messages of a length of that class are coming in. */
static inline void smt_cutoffs_note_class(struct smt_cutoffs *c, unsigned class, uint32_t n)
{
    c->count[class] += n * SMT_CUTOFFS_ONE;
    c->n_seen += n;
}

/* One of that length is. */
static inline void smt_cutoffs_note(struct smt_cutoffs *c, uint32_t len)
{
    smt_cutoffs_note_class(c, smt_cutoffs_class(len), 1);
}

static inline bool smt_cutoffs_is_due(const struct smt_cutoffs *c)
{
    return c->n_seen >= c->look_at;
}

/* Looks at the traffic seen: levels such that each carries as many bytes as the next, where of a
 * message its first `unsched` and its last `tail` bytes count. `packet`: data bytes of a packet.
 * Moves the cutoffs, and the version with them, only when a level's share is `drift_pct` off. True
 * when they moved. */
bool smt_cutoffs_look(struct smt_cutoffs *c, unsigned n_prios, uint32_t unsched, uint32_t tail,
                      uint32_t packet, uint32_t drift_pct, uint32_t every);

/* The next version, for a limit or cutoffs that changed. */
void smt_cutoffs_renew(struct smt_cutoffs *c);

/* The level for a packet with `left` bytes of its message left to be sent, itself included. */
static inline uint8_t smt_cutoffs_level(const uint32_t at[SMT_CUTOFFS_LEVELS], uint32_t left)
{
    unsigned p = SMT_CUTOFFS_LEVELS - 1;
    while (p > 0 && at[p] < left)
        p--;
    return (uint8_t)p;
}

/* What both sides take before a CUTOFFS was heard. */
extern const uint32_t smt_cutoffs_default[SMT_CUTOFFS_LEVELS];

#endif
