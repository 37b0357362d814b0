/* A peer whose authentic packets come from another address than ours go to: has it moved? */
#ifndef SMT_CORE_MOVED_H
#define SMT_CORE_MOVED_H

#include "base/addr.h"

struct smt_conn;
struct smt_tx_sink;

/* A check under way. */
struct smt_moved {
    struct smt_addr to;            /* the new address */
    uint64_t token_new, token_old; /* of the challenges there, and to the address in use */
    uint64_t judge_at;             /* when the old address has had its time to answer */
    uint64_t at;                   /* next step */
    uint32_t budget;               /* bytes that may still go to the new address */
    uint8_t n_sent;
    bool due;                      /* a challenge is to be sent there */
    bool from_new;                 /* the packet being heard came from there */
    bool answered;
};

/* An authentic packet of `len` bytes came from `from`, which is not the address in use, or a check
 * is under way. Before its frames are heard. */
void smt_moved_heard(struct smt_conn *c, uint64_t now, const struct smt_addr *from, uint32_t len);

/* PATH_RESPONSE, in the packet that was just announced. */
void smt_moved_answered(struct smt_conn *c, uint64_t now, uint64_t token);

uint64_t smt_moved_deadline(const struct smt_conn *c);
void smt_moved_tick(struct smt_conn *c, uint64_t now);

/* Sends the challenge that is due. False when the sink is full. */
bool smt_moved_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink);

/* No check any more; harmless without one. */
void smt_moved_fini(struct smt_conn *c);

#endif
