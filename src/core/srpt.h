/* Who sends next: the message with the fewest bytes left, and now and then the one that has waited
 * longest. */
#ifndef SMT_CORE_SRPT_H
#define SMT_CORE_SRPT_H

#include "base/heap.h"
#include "base/list.h"

struct smt_rpc;

/* A message of at most this many bytes counts as short; lengths of short ones in classes. */
enum { SMT_SRPT_SHORT_LEN = 1400, SMT_SRPT_CLASSES = 72 };

struct smt_srpt {
    struct smt_list shorts[SMT_SRPT_CLASSES]; /* by length, first come first served; tx.ready */
    uint64_t short_map[2];  /* classes with a message in them */
    struct smt_heap heap;   /* longer ones, key: bytes left */
    struct smt_list waited; /* the same in order of being queued, by tx.ready */
    uint64_t tie;
    uint64_t owed;          /* bytes sent x permille, until the one that waits longest gets some */
    uint32_t fifo_permille;
};

SMT_MUST_CHECK int smt_srpt_init(struct smt_srpt *s, uint32_t fifo_permille);
void smt_srpt_fini(struct smt_srpt *s);

/* Queues an rpc's outgoing message, or moves it to its new place. SMT_ENOMEM: not queued. */
SMT_MUST_CHECK int smt_srpt_put(struct smt_srpt *s, struct smt_rpc *r);
void smt_srpt_remove(struct smt_srpt *s, struct smt_rpc *r);

/* The one to send from now; it stays queued. NULL when there is none. */
struct smt_rpc *smt_srpt_first(const struct smt_srpt *s);

/* `len` bytes of a message that is not short have left. */
void smt_srpt_charge(struct smt_srpt *s, const struct smt_rpc *r, uint32_t len);

static inline bool smt_srpt_is_empty(const struct smt_srpt *s)
{
    return (s->short_map[0] | s->short_map[1]) == 0 && smt_heap_count(&s->heap) == 0;
}

#endif
