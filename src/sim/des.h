/* The queue of things to come, in virtual time: earliest first, equal times in the order in which
 * they were put in. Times are picoseconds, so that a byte at 10, 40 or 100 Gbit/s takes a whole
 * number of them; 2^64 ps are 213 days.
 *
 * Most events of a packet network come a fixed time after now. Such a delay gets a *lane*: what is
 * put into a lane comes out in the order it went in, so it needs no sorting. Everything else goes
 * into a 4-ary heap, which stays small: a few entries a host and port. */
#ifndef SMT_SIM_DES_H
#define SMT_SIM_DES_H

#include "base/defs.h"

#define SMT_PS_PER_NS 1000ull

typedef void smt_des_fn(void *ctx, void *arg);

struct smt_des_event {
    uint64_t at, seq;
    smt_des_fn *fn;
    void *arg;
};

enum { SMT_DES_MAX_LANES = 8 };

struct smt_des_lane {
    struct smt_des_event *ring;
    uint64_t delay;
    uint32_t head, n, mask;
};

struct smt_des {
    uint64_t now, seq, n_run;
    void *ctx; /* first argument of every fn */
    struct smt_des_event *heap;
    uint32_t n, cap;
    unsigned n_lanes;
    struct smt_des_lane lanes[SMT_DES_MAX_LANES];
};

/* An empty queue at time 0. 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_des_init(struct smt_des *d, void *ctx);
void smt_des_fini(struct smt_des *d);

/* A lane for events `delay` after now; the same delay gives the same lane. Never more than
 * SMT_DES_MAX_LANES delays. SMT_ENOMEM. */
SMT_MUST_CHECK int smt_des_lane(struct smt_des *d, uint64_t delay);

/* Calls fn(ctx, arg) at `at`, which is not before now. Ends the process when there is no memory: a
 * simulation cannot go on without an event. */
void smt_des_at(struct smt_des *d, uint64_t at, smt_des_fn *fn, void *arg);

/* The same at now + the lane's delay. */
void smt_des_in_lane(struct smt_des *d, unsigned lane, smt_des_fn *fn, void *arg);

/* Runs the earliest event if it is not after `until`; false: there is none. */
bool smt_des_step(struct smt_des *d, uint64_t until);

/* When the next event is; SMT_NEVER when nothing waits. */
uint64_t smt_des_next(const struct smt_des *d);

#endif
