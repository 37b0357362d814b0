/* Who may send: the receiver's grants to incoming messages longer than their unscheduled part. */
#ifndef SMT_CORE_GRANT_H
#define SMT_CORE_GRANT_H

#include "base/heap.h"

struct smt_engine;
struct smt_rpc;

enum { SMT_GRANT_OVERCOMMIT = 8 };

struct smt_grants {
    struct smt_rpc *active[SMT_GRANT_OVERCOMMIT]; /* being granted, in no order */
    unsigned n_active;
    struct smt_heap waiting; /* key: bytes not yet received */
    uint64_t tie;
    uint32_t max_incoming;   /* bytes granted and not received, all messages together */
    bool due;                /* something changed since the last run */
};

SMT_MUST_CHECK int smt_grants_init(struct smt_grants *g, uint32_t max_incoming);
void smt_grants_fini(struct smt_grants *g);

/* A message that needs grants has memory now. SMT_ENOMEM: it stays without (the sender's timer
 * brings it back). */
SMT_MUST_CHECK int smt_grants_add(struct smt_engine *e, struct smt_rpc *r);

/* It is whole, over, or lost its memory. */
void smt_grants_remove(struct smt_engine *e, struct smt_rpc *r);

/* Data of it came. */
void smt_grants_data_came(struct smt_engine *e, struct smt_rpc *r);

/* Its sender does not use what was granted: another message takes its turn, if one waits. */
void smt_grants_yield(struct smt_engine *e, struct smt_rpc *r);

/* Once per batch of packets: queues GRANT frames for what may be sent now. */
void smt_grants_run(struct smt_engine *e);

#endif
