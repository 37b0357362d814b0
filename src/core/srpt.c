/* The sender's order: SRPT over all outgoing messages of an engine (Homa, SIGCOMM'18 section 3.4).
 * Messages that fit one packet skip the heap: among themselves they are served in order of arrival,
 * which for one packet each is the same order to within a packet and costs nothing. It knows
 * nothing of windows or grants: rpc.c queues only what may send. */
#include "core/srpt.h"

#include "core/rpc.h"

int smt_srpt_init(struct smt_srpt *s)
{
    smt_list_init(&s->shorts);
    s->tie = 0;
    return smt_heap_init(&s->heap, 64);
}

void smt_srpt_fini(struct smt_srpt *s)
{
    smt_heap_fini(&s->heap);
}

int smt_srpt_put(struct smt_srpt *s, struct smt_rpc *r)
{
    struct smt_msg_tx *t = &r->tx;
    if (t->len <= SMT_SRPT_SHORT_LEN) {
        if (smt_list_is_empty(&t->ready))
            smt_list_push_tail(&s->shorts, &t->ready);
        return 0;
    }
    uint64_t left = smt_msg_tx_left(t);
    if (smt_heap_has(&t->srpt)) {
        if (t->srpt.key != left)
            smt_heap_update(&s->heap, &t->srpt, left);
        return 0;
    }
    t->srpt.key = left;
    t->srpt.tie = ++s->tie;
    return smt_heap_insert(&s->heap, &t->srpt);
}

void smt_srpt_remove(struct smt_srpt *s, struct smt_rpc *r)
{
    smt_list_remove(&r->tx.ready);
    if (smt_heap_has(&r->tx.srpt))
        smt_heap_remove(&s->heap, &r->tx.srpt);
}

struct smt_rpc *smt_srpt_first(const struct smt_srpt *s)
{
    struct smt_list *l = smt_list_first(&s->shorts);
    if (l != NULL)
        return SMT_CONTAINER_OF(l, struct smt_rpc, tx.ready);
    struct smt_heap_node *n = smt_heap_min(&s->heap);
    return n != NULL ? SMT_CONTAINER_OF(n, struct smt_rpc, tx.srpt) : NULL;
}
