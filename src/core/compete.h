/* Paths that others fill until they lose: what delay says there is not about us. */
#ifndef SMT_CORE_COMPETE_H
#define SMT_CORE_COMPETE_H

#include "base/defs.h"

struct smt_conn;
struct smt_rpc;

/* What we send. Zeroed = nobody is known. */
struct smt_compete {
    uint64_t until;   /* as long as that we believe in others */
    uint64_t rose_at; /* when the share last rose by a packet */
};

/* What comes to us. */
struct smt_compete_in {
    uint64_t until;
    uint64_t asked_at; /* when the grant under watch was made; 0 = none is */
    uint64_t asked_id; /* of which rpc, */
    uint32_t asked_from; /* and which of its bytes answer it */
    uint64_t delay;    /* how long the last one under watch took */
};

/* A queue of so many ns is a long one. */
enum { SMT_COMPETE_QUEUE = 500000 };

/* SEEN came, late by a long queue if `slow`, and n_lost more packets of ours are lost. True: the
 * share was moved here, by losses and not by delay. */
bool smt_compete_seen(struct smt_conn *c, uint64_t now, bool slow, uint32_t n_lost, bool ce);

/* Do losses alone count for what we send? */
bool smt_compete_is_on(const struct smt_conn *c, uint64_t now);

/* Of what comes to us n_lost more packets are lost. */
void smt_compete_lost_in(struct smt_conn *c, uint64_t now, uint32_t n_lost);

/* Bytes of the rpc from `from` on are granted now / data at `offset` came. */
void smt_compete_granted(struct smt_rpc *r, uint64_t now, uint32_t from);
void smt_compete_came(struct smt_rpc *r, uint64_t now, uint32_t offset);

/* Shall the peer's own window say how much comes, and not our grants? */
bool smt_compete_in_is_on(const struct smt_conn *c, uint64_t now);

#endif
