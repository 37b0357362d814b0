/* How many questions timers may ask: of a peer, and of all that have been silent. */
#ifndef SMT_CORE_ASKS_H
#define SMT_CORE_ASKS_H

#include "base/defs.h"
#include "base/list.h"

struct smt_conn;
struct smt_engine;
struct smt_rpc;

struct smt_asks {
    uint64_t until;   /* when those asked count as lost */
    uint32_t round;   /* never 0 */
    uint16_t n_out;   /* asked in this round, without answer */
    uint16_t most;    /* so many may be */
    uint8_t n_silent; /* rounds without any answer */
    bool heard;       /* one was answered in this round */
    struct smt_list waiting; /* rpcs that may not ask yet */
};

void smt_asks_init(struct smt_asks *a);

/* The rpc's timer wants to ask. False: others are before it, and its timer fires again when its
 * turn has come. */
bool smt_asks_may(struct smt_rpc *r, uint64_t now);

/* It has asked. */
void smt_asks_asked(struct smt_rpc *r, uint64_t now);

/* The peer of that conn has been asked something, and may still answer. */
bool smt_asks_is_out(const struct smt_conn *c, uint64_t now);

/* Something of the rpc came, or it is over. Harmless when nothing was asked. */
void smt_asks_answered(struct smt_rpc *r);

/* It was asked more than once, and has said nothing. */
bool smt_asks_unanswered(const struct smt_conn *c);

#endif
