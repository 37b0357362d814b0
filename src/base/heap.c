/* Heap with four children to a node. A slot repeats the node's key and tie, so that a comparison
 * does not leave the array: equal keys are the rule (all calls of one size), so the tie has to be
 * at hand as well. Four children in one run are fewer levels and fewer cache lines than two.
 *
 * The root is slot 3: the children of i are 4(i-2) .. 4(i-2)+3, and slot 0 is free to mean "in no
 * heap". */
#include "base/heap.h"

#include <string.h>

#include "base/mem.h"

struct smt_heap_slot {
    uint64_t key, tie;
    struct smt_heap_node *node;
};

enum { ROOT = 3, N_CHILDREN = 4, MIN_CAP = 13 };

static const uint32_t max_cap = 1u << 30;

static uint32_t parent_of(uint32_t pos)
{
    return pos / N_CHILDREN + 2;
}

static uint32_t first_child_of(uint32_t pos)
{
    return N_CHILDREN * (pos - 2);
}

static bool slot_is_less(const struct smt_heap_slot *a, const struct smt_heap_slot *b)
{
    return a->key < b->key || (a->key == b->key && a->tie < b->tie);
}

static size_t slots_len(uint32_t cap)
{
    return ((size_t)cap + ROOT) * sizeof(struct smt_heap_slot);
}

int smt_heap_init(struct smt_heap *h, uint32_t reserve)
{
    *h = (struct smt_heap){0};
    return smt_heap_reserve(h, reserve);
}

void smt_heap_fini(struct smt_heap *h)
{
    if (h->slots != NULL)
        smt_mem_block_free(h->slots, slots_len(h->cap));
    *h = (struct smt_heap){0};
}

int smt_heap_reserve(struct smt_heap *h, uint32_t n)
{
    if (n <= h->cap)
        return 0;
    if (n > max_cap)
        return SMT_ENOMEM;
    uint32_t cap = h->cap < MIN_CAP ? MIN_CAP : h->cap;
    while (cap < n)
        cap *= 2;
    struct smt_heap_slot *slots = smt_mem_block(slots_len(cap));
    if (slots == NULL)
        return SMT_ENOMEM;
    if (h->slots != NULL) {
        memcpy(slots, h->slots, slots_len(h->n));
        smt_mem_block_free(h->slots, slots_len(h->cap));
    }
    h->slots = slots;
    h->cap = cap;
    return 0;
}

static void slot_place(struct smt_heap *h, uint32_t pos, struct smt_heap_slot s)
{
    h->slots[pos] = s;
    s.node->pos = pos;
}

/* Both sifts find the place of `s` beginning with the free slot `pos`. */
static void sift_up(struct smt_heap *h, uint32_t pos, struct smt_heap_slot s)
{
    while (pos > ROOT) {
        uint32_t parent = parent_of(pos);
        if (!slot_is_less(&s, &h->slots[parent]))
            break;
        slot_place(h, pos, h->slots[parent]);
        pos = parent;
    }
    slot_place(h, pos, s);
}

static void sift_down(struct smt_heap *h, uint32_t pos, struct smt_heap_slot s)
{
    uint32_t end = ROOT + h->n;
    for (;;) {
        uint32_t child = first_child_of(pos);
        if (child >= end)
            break;
        uint32_t child_end = child + N_CHILDREN < end ? child + N_CHILDREN : end;
        uint32_t least = child;
        for (uint32_t i = child + 1; i < child_end; i++) {
            if (slot_is_less(&h->slots[i], &h->slots[least]))
                least = i;
        }
        if (!slot_is_less(&h->slots[least], &s))
            break;
        slot_place(h, pos, h->slots[least]);
        pos = least;
    }
    slot_place(h, pos, s);
}

static void sift(struct smt_heap *h, uint32_t pos, struct smt_heap_slot s)
{
    if (pos > ROOT && slot_is_less(&s, &h->slots[parent_of(pos)]))
        sift_up(h, pos, s);
    else
        sift_down(h, pos, s);
    h->min = h->slots[ROOT].node;
}

int smt_heap_insert(struct smt_heap *h, struct smt_heap_node *node)
{
    assert(!smt_heap_has(node));
    if (h->n == h->cap) {
        int rc = smt_heap_reserve(h, h->n + 1);
        if (rc < 0)
            return rc;
    }
    struct smt_heap_slot s = {.key = node->key, .tie = node->tie, .node = node};
    sift_up(h, ROOT + h->n++, s);
    h->min = h->slots[ROOT].node;
    return 0;
}

void smt_heap_remove(struct smt_heap *h, struct smt_heap_node *node)
{
    uint32_t pos = node->pos;
    assert(pos >= ROOT && pos < ROOT + h->n && h->slots[pos].node == node);
    node->pos = 0;
    h->n--;
    if (h->n == 0)
        h->min = NULL;
    else if (pos == ROOT + h->n)
        h->min = h->slots[ROOT].node;
    else
        sift(h, pos, h->slots[ROOT + h->n]);
}

void smt_heap_update(struct smt_heap *h, struct smt_heap_node *node, uint64_t key)
{
    uint32_t pos = node->pos;
    assert(pos >= ROOT && pos < ROOT + h->n && h->slots[pos].node == node);
    node->key = key;
    sift(h, pos, (struct smt_heap_slot){.key = key, .tie = node->tie, .node = node});
}

struct smt_heap_node *smt_heap_pop(struct smt_heap *h)
{
    struct smt_heap_node *node = h->min;
    if (node != NULL)
        smt_heap_remove(h, node);
    return node;
}
