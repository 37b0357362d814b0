/* Who sends next: short messages first come first served, then the message with the fewest bytes
 * left. */
#ifndef SMT_CORE_SRPT_H
#define SMT_CORE_SRPT_H

#include "base/heap.h"
#include "base/list.h"

struct smt_rpc;

struct smt_srpt {
    struct smt_list shorts; /* messages of one packet, by tx.ready */
    struct smt_heap heap;   /* all others, key: bytes left */
    uint64_t tie;
};

SMT_MUST_CHECK int smt_srpt_init(struct smt_srpt *s);
void smt_srpt_fini(struct smt_srpt *s);

/* A message of at most this many bytes counts as short. */
enum { SMT_SRPT_SHORT_LEN = 1400 };

/* Queues an rpc's outgoing message, or moves it to its new place. SMT_ENOMEM: not queued. */
SMT_MUST_CHECK int smt_srpt_put(struct smt_srpt *s, struct smt_rpc *r);
void smt_srpt_remove(struct smt_srpt *s, struct smt_rpc *r);

/* The one to send from now; it stays queued. NULL when there is none. */
struct smt_rpc *smt_srpt_first(const struct smt_srpt *s);

static inline bool smt_srpt_is_empty(const struct smt_srpt *s)
{
    return smt_list_is_empty(&s->shorts) && smt_heap_count(&s->heap) == 0;
}

#endif
