/* The sender's order: SRPT over all outgoing messages of an engine (Homa, SIGCOMM'18 section 3.4).
 * Messages that fit one packet do not go through the heap: they stand in lists by length, eight
 * lists an octave, which is the same order to within an eighth and costs no comparison. A share of
 * the bytes of longer ones goes to the one that has waited longest, so that a long message behind
 * an endless stream of shorter ones still gets on; short ones never wait for that.
 *
 * It knows nothing of windows or grants: rpc.c queues only what may send. */
#include "core/srpt.h"

#include "core/rpc.h"

enum { FIFO_PRICE = 1500 * 1000 };

int smt_srpt_init(struct smt_srpt *s, uint32_t fifo_permille)
{
    for (unsigned i = 0; i < SMT_SRPT_CLASSES; i++)
        smt_list_init(&s->shorts[i]);
    s->short_map[0] = s->short_map[1] = 0;
    smt_list_init(&s->waited);
    s->tie = 0;
    s->owed = 0;
    s->fifo_permille = fifo_permille;
    return smt_heap_init(&s->heap, 64);
}

void smt_srpt_fini(struct smt_srpt *s)
{
    smt_heap_fini(&s->heap);
}

static unsigned class_of(uint32_t len)
{
    if (len < 8)
        return len;
    unsigned octave = 31 - (unsigned)__builtin_clz(len);
    return (octave - 2) * 8 + (len >> (octave - 3) & 7);
}

static_assert((10 - 2) * 8 + 7 < SMT_SRPT_CLASSES && SMT_SRPT_SHORT_LEN < 1 << 11,
              "the longest short message has a class");

int smt_srpt_put(struct smt_srpt *s, struct smt_rpc *r)
{
    struct smt_msg_tx *t = &r->tx;
    if (t->len <= SMT_SRPT_SHORT_LEN) {
        if (smt_list_is_empty(&t->ready)) {
            unsigned class = class_of(t->len);
            smt_list_push_tail(&s->shorts[class], &t->ready);
            s->short_map[class >> 6] |= 1ull << (class & 63);
        }
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
    int rc = smt_heap_insert(&s->heap, &t->srpt);
    if (rc == 0)
        smt_list_push_tail(&s->waited, &t->ready);
    return rc;
}

void smt_srpt_remove(struct smt_srpt *s, struct smt_rpc *r)
{
    struct smt_msg_tx *t = &r->tx;
    /* All that is queued is in a list. */
    if (smt_list_is_empty(&t->ready))
        return;
    bool is_last = t->ready.next == t->ready.prev;
    smt_list_remove(&t->ready);
    if (SMT_UNLIKELY(smt_heap_has(&t->srpt))) {
        smt_heap_remove(&s->heap, &t->srpt);
    } else if (is_last && t->len <= SMT_SRPT_SHORT_LEN) {
        unsigned class = class_of(t->len);
        s->short_map[class >> 6] &= ~(1ull << (class & 63));
    }
}

struct smt_rpc *smt_srpt_first(const struct smt_srpt *s)
{
    struct smt_heap_node *n = smt_heap_min(&s->heap);
    if ((s->short_map[0] | s->short_map[1]) != 0) {
        unsigned class = s->short_map[0] != 0 ? (unsigned)__builtin_ctzll(s->short_map[0])
                                              : 64u + (unsigned)__builtin_ctzll(s->short_map[1]);
        struct smt_rpc *r =
            SMT_CONTAINER_OF(smt_list_first(&s->shorts[class]), struct smt_rpc, tx.ready);
        /* The end of a long message may be shorter. */
        if (n == NULL || n->key > r->tx.len)
            return r;
    } else if (s->owed >= FIFO_PRICE && n != NULL) {
        return SMT_CONTAINER_OF(smt_list_first(&s->waited), struct smt_rpc, tx.ready);
    }
    return n != NULL ? SMT_CONTAINER_OF(n, struct smt_rpc, tx.srpt) : NULL;
}

void smt_srpt_charge(struct smt_srpt *s, const struct smt_rpc *r, uint32_t len)
{
    if (s->owed >= FIFO_PRICE && smt_list_first(&s->waited) == &r->tx.ready) {
        uint64_t price = (uint64_t)len * 1000;
        s->owed -= price < s->owed ? price : s->owed;
    } else if (smt_heap_count(&s->heap) > 1) {
        s->owed += (uint64_t)len * s->fifo_permille;
    }
}
