/* Many messages that come at once to us: what of them is on its way without a grant, how long that
 * takes, and how much less peers may send so. */
#ifndef SMT_CORE_INCAST_H
#define SMT_CORE_INCAST_H

#include "base/defs.h"

struct smt_engine;
struct smt_msg_rx;
struct smt_rpc;

struct smt_incast {
    uint32_t n;       /* messages of which a part is here */
    uint32_t n_most;  /* the most since the last look */
    uint32_t shift;   /* the unscheduled limit is halved so often */
    uint64_t bytes;   /* of those without a grant, what has not come */
    uint64_t look_at; /* when it may be raised */
};

/* The first part of a message came, or more of one. Harmless once it is whole. */
void smt_incast_note(struct smt_engine *e, struct smt_rpc *r);

/* It is whole, over, or lost its memory. Harmless when it was not noted. */
void smt_incast_forget(struct smt_engine *e, struct smt_msg_rx *m);

/* It is late beyond that: nobody waits for its bytes any more. */
void smt_incast_give_up(struct smt_engine *e, struct smt_msg_rx *m);

/* For how long what is on its way to us will keep our link busy, in ns. */
uint64_t smt_incast_busy(const struct smt_engine *e);

#endif
