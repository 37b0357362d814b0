/* Many messages at once, and nothing but their order: the grant and SRPT code of one engine driven
 * packet by packet, without packets. For counts of instructions and of steps. */
#ifndef SMT_TESTS_SCHED_LOAD_H
#define SMT_TESTS_SCHED_LOAD_H

#include "base/prng.h"
#include "core/state.h"

enum { SCHED_PACKET = 1400, SCHED_MAX_CONNS = 1000, SCHED_MAY = 1 << 16 };

struct sched_may {
    struct smt_conn *conn;
    uint64_t id;
};

struct sched_load {
    struct smt_engine *e;
    struct smt_prng rng;
    struct smt_conn *conns[SCHED_MAX_CONNS];
    unsigned n_conns;
    uint32_t n;
    struct smt_rpc **rpcs;
    uint64_t next_id;
    struct sched_may may[SCHED_MAY]; /* a ring: granted and not sent, some twice */
    uint64_t may_first, n_may;
    uint64_t n_packets, n_grants;
};

/* An engine with `n` messages of up to 1 MB that come in (or go out), from up to 1,000 peers. */
void sched_load_in(struct sched_load *l, uint32_t n);
void sched_load_out(struct sched_load *l, uint32_t n);
void sched_load_free(struct sched_load *l);

/* A packet of a message that may send comes in: what grants do about it. One that is whole is over,
 * and another begins. */
void sched_packet_in(struct sched_load *l);

/* A packet of the message whose turn it is leaves. */
void sched_packet_out(struct sched_load *l);

/* What sched_packet_in and _out call, without the choice of the packet: toggle callgrind here. */
void sched_grant(struct sched_load *l, struct smt_rpc *r);
void sched_srpt(struct sched_load *l);

#endif
