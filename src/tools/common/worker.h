/* One client thread's measuring engine: an endpoint, its sessions, and the loop that keeps RPCs in
 * flight and times them. */
#ifndef SMT_TOOLS_WORKER_H
#define SMT_TOOLS_WORKER_H

#include "hist.h"
#include "options.h"

/* One RPC's place while it is in flight. */
struct slot {
    uint64_t posted_ns; /* or when it should have been posted, at a fixed rate */
    uint64_t seed;
    uint8_t *buf;       /* its own with --verify, else everybody's */
};

struct worker {
    const struct options *options;
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    struct smt_session **sessions;
    uint32_t n_sessions, next_session;

    /* of the size being measured */
    uint64_t size, resp_size;
    struct slot *slots;
    uint32_t *free_slots;
    uint32_t n_slots, n_free;
    uint8_t *buf; /* all slots' bytes */
    uint64_t next_seed;

    /* of one run */
    uint64_t start_ns, end_ns, posted, done, errors;
    int first_error;    /* of the calls that failed */
    int fatal;          /* the session is gone or the peer silent: no more runs */
    bool quiet;         /* warming up: results are thrown away */
    bool show_progress;
    struct hist hist;
};

/* What one run does: a number of posts, or a time, whichever ends first. */
struct run {
    uint64_t n_posts;     /* UINT64_MAX: by time */
    uint64_t duration_ns; /* UINT64_MAX: by number */
    double rate;          /* RPC/s of this worker; 0: closed loop */
};

/* Buffers and slots for one size. 0 or a code. worker_fini_size frees them. */
int worker_init_size(struct worker *w, uint64_t size, uint64_t resp_size, uint64_t depth,
                     uint64_t seed);
void worker_fini_size(struct worker *w);

/* Runs; fills hist, start_ns, end_ns, done and errors. 0, or the fatal code. */
int worker_run(struct worker *w, const struct run *run);

/* Between runs: a moment in which the endpoint answers its peers. */
void worker_idle(struct worker *w);

#endif
