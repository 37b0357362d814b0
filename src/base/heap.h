/* Min-heap of nodes that live in their owners' structs: smallest (key, tie) first, O(log n).
 *
 * The same calls in the same order give the same answers. Give ties that differ where the order
 * of equal keys matters. A zeroed node is in no heap. */
#ifndef SMT_BASE_HEAP_H
#define SMT_BASE_HEAP_H

#include "base/defs.h"

struct smt_heap_node {
    uint64_t key, tie; /* the caller's to set while the node is in no heap, to read always */
    uint32_t pos;      /* the heap's; 0 when in none */
};

struct smt_heap_slot;

struct smt_heap {
    struct smt_heap_slot *slots;
    struct smt_heap_node *min;
    uint32_t n, cap;
};

/* Room for `reserve` nodes (0 allowed). 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_heap_init(struct smt_heap *h, uint32_t reserve);

/* Forgets the nodes, which are not touched; harmless on a zeroed heap. */
void smt_heap_fini(struct smt_heap *h);

/* After 0, inserts up to n nodes in all cannot fail. 0 or SMT_ENOMEM (nothing changed). */
SMT_MUST_CHECK int smt_heap_reserve(struct smt_heap *h, uint32_t n);

/* Lends `node` to the heap until it is removed. 0 or SMT_ENOMEM (node is in no heap). */
SMT_MUST_CHECK int smt_heap_insert(struct smt_heap *h, struct smt_heap_node *node);

/* The node must be in `h`. */
void smt_heap_remove(struct smt_heap *h, struct smt_heap_node *node);

/* Gives a node of `h` another key; its tie stays. */
void smt_heap_update(struct smt_heap *h, struct smt_heap_node *node, uint64_t key);

/* The smallest node, removed; NULL when empty. */
struct smt_heap_node *smt_heap_pop(struct smt_heap *h);

/* The smallest node, NULL when empty. */
static inline struct smt_heap_node *smt_heap_min(const struct smt_heap *h)
{
    return h->min;
}

static inline uint32_t smt_heap_count(const struct smt_heap *h)
{
    return h->n;
}

static inline bool smt_heap_has(const struct smt_heap_node *node)
{
    return node->pos != 0;
}

#endif
