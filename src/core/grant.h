/* How much may be sent to us: grants to incoming messages longer than their unscheduled part. */
#ifndef SMT_CORE_GRANT_H
#define SMT_CORE_GRANT_H

#include "core/book.h"

struct smt_engine;
struct smt_engine_config;
struct smt_rpc;

struct smt_grants {
    struct smt_book book;
    uint64_t incoming;       /* bytes granted and not received, but of silent senders */
    uint64_t fifo_owed;      /* bytes granted x permille, until the oldest gets some */
    uint32_t max_incoming;   /* what we can buffer */
    uint32_t batch;          /* bytes that came at one go lately, but for one packet */
    bool due;                /* something changed since the last run */
};

SMT_MUST_CHECK int smt_grants_init(struct smt_grants *g, const struct smt_engine_config *config);
void smt_grants_fini(struct smt_grants *g);

/* A message that needs grants has memory now. SMT_ENOMEM: it stays without (the sender's timer
 * brings it back). */
SMT_MUST_CHECK int smt_grants_add(struct smt_engine *e, struct smt_rpc *r);

/* It is whole, over, or lost its memory. Harmless when it is not in the book. */
void smt_grants_remove(struct smt_engine *e, struct smt_rpc *r);

/* Data of a message came that is not whole, or it was announced how much will come. */
void smt_grants_data_came(struct smt_engine *e, struct smt_rpc *r);

/* Its sender does not use what was granted: another message takes its turn, if one waits. */
void smt_grants_yield(struct smt_engine *e, struct smt_rpc *r);

/* Says again what was granted: to a sender who waits and may have missed it. */
void smt_grants_tell(struct smt_rpc *r);

/* Data of it are late, but ours is the link that is busy: they may well stand in a queue. */
bool smt_grants_is_behind(const struct smt_engine *e, const struct smt_rpc *r);

/* Once per batch of packets: queues GRANT frames for what may be sent now. */
void smt_grants_run(struct smt_engine *e);

/* Packets of `bytes` in all came at one go. */
void smt_grants_batch(struct smt_grants *g, uint32_t n, uint64_t bytes);

/* A message waits because enough others are active. */
static inline bool smt_grants_withhold(const struct smt_grants *g)
{
    return g->book.n_waiting > 0;
}

#endif
