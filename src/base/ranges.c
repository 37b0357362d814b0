/* Interval set. The highest range is in the struct; what lies below it is an AVL tree ordered by
 * start (and, being disjoint, by end). AVL and not a treap: the peer chooses the order in which
 * ranges come, and AVL has no bad order and needs no secret priorities. No parent pointers: the
 * way down is kept on the stack, its length bounded by the 2^31 nodes a pool can have.
 *
 * No operation fails half-way: the one node an add may need is taken before anything changes. */
#include "base/ranges.h"

/* 1.4405 log2(2^31) is 45. */
enum { MAX_DEPTH = 48 };

int smt_ranges_pool_init(struct smt_ranges_pool *p, uint32_t first_count, uint32_t max_count)
{
    return smt_pool_init(&p->nodes, sizeof(struct smt_ranges_node), first_count, max_count);
}

void smt_ranges_pool_fini(struct smt_ranges_pool *p)
{
    smt_pool_fini(&p->nodes);
}

static uint32_t height_of(const struct smt_ranges_node *n)
{
    return n == NULL ? 0 : n->height;
}

static void height_update(struct smt_ranges_node *n)
{
    uint32_t l = height_of(n->left);
    uint32_t r = height_of(n->right);
    n->height = 1 + (l > r ? l : r);
}

static struct smt_ranges_node *rotate_right(struct smt_ranges_node *n)
{
    struct smt_ranges_node *top = n->left;
    n->left = top->right;
    top->right = n;
    height_update(n);
    height_update(top);
    return top;
}

static struct smt_ranges_node *rotate_left(struct smt_ranges_node *n)
{
    struct smt_ranges_node *top = n->right;
    n->right = top->left;
    top->left = n;
    height_update(n);
    height_update(top);
    return top;
}

static struct smt_ranges_node *balance(struct smt_ranges_node *n)
{
    uint32_t l = height_of(n->left);
    uint32_t r = height_of(n->right);
    if (l > r + 1) {
        if (height_of(n->left->left) < height_of(n->left->right))
            n->left = rotate_left(n->left);
        return rotate_right(n);
    }
    if (r > l + 1) {
        if (height_of(n->right->right) < height_of(n->right->left))
            n->right = rotate_right(n->right);
        return rotate_left(n);
    }
    height_update(n);
    return n;
}

/* Upwards along the links that were followed, until a subtree is as high as it was before. */
static void rebalance(struct smt_ranges_node **path[], unsigned depth)
{
    while (depth-- > 0) {
        uint32_t before = (*path[depth])->height;
        *path[depth] = balance(*path[depth]);
        if ((*path[depth])->height == before)
            return;
    }
}

static void tree_insert(struct smt_ranges *r, struct smt_ranges_node *n)
{
    struct smt_ranges_node **path[MAX_DEPTH];
    unsigned depth = 0;
    struct smt_ranges_node **link = &r->root;
    while (*link != NULL) {
        path[depth++] = link;
        link = n->range.start < (*link)->range.start ? &(*link)->left : &(*link)->right;
    }
    *link = n;
    rebalance(path, depth);
}

/* Takes the range that begins at `start` out of the tree. If its node has two children the next
 * higher range moves into that node: pointers to higher nodes are stale afterwards, pointers to
 * lower ones are not. */
static void tree_remove(struct smt_ranges *r, uint64_t start)
{
    struct smt_ranges_node **path[MAX_DEPTH];
    unsigned depth = 0;
    struct smt_ranges_node **link = &r->root;
    while ((*link)->range.start != start) {
        path[depth++] = link;
        link = start < (*link)->range.start ? &(*link)->left : &(*link)->right;
    }
    struct smt_ranges_node *n = *link;
    if (n->left != NULL && n->right != NULL) {
        path[depth++] = link;
        link = &n->right;
        while ((*link)->left != NULL) {
            path[depth++] = link;
            link = &(*link)->left;
        }
        n->range = (*link)->range;
        n = *link;
    }
    *link = n->left != NULL ? n->left : n->right;
    smt_pool_put(&r->pool->nodes, n);
    rebalance(path, depth);
}

/* Rotates left children up until there are none and drops the root: no stack, linear time. */
static void tree_free(struct smt_ranges *r)
{
    struct smt_ranges_node *n = r->root;
    while (n != NULL) {
        struct smt_ranges_node *next = n->left;
        if (next != NULL) {
            n->left = next->right;
            next->right = n;
        } else {
            next = n->right;
            smt_pool_put(&r->pool->nodes, n);
        }
        n = next;
    }
    r->root = NULL;
}

/* The lowest node that ends at or after x. */
static struct smt_ranges_node *tree_ends_at_or_after(const struct smt_ranges *r, uint64_t x)
{
    struct smt_ranges_node *found = NULL;
    for (struct smt_ranges_node *n = r->root; n != NULL;) {
        if (n->range.end >= x) {
            found = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return found;
}

/* The lowest node that starts after x. */
static struct smt_ranges_node *tree_starts_after(const struct smt_ranges *r, uint64_t x)
{
    struct smt_ranges_node *found = NULL;
    for (struct smt_ranges_node *n = r->root; n != NULL;) {
        if (n->range.start > x) {
            found = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    return found;
}

void smt_ranges_clear(struct smt_ranges *r)
{
    tree_free(r);
    r->n = 0;
    r->len = 0;
}

/* A further range, which neither is nor becomes the highest. */
static int add_node(struct smt_ranges *r, struct smt_range range)
{
    if (r->n >= r->max)
        return SMT_ENOMEM;
    struct smt_ranges_node *n = smt_pool_get(&r->pool->nodes);
    if (n == NULL)
        return SMT_ENOMEM;
    *n = (struct smt_ranges_node){.range = range, .height = 1};
    tree_insert(r, n);
    r->n++;
    return 0;
}

static void drop_node(struct smt_ranges *r, const struct smt_ranges_node *n)
{
    r->len -= n->range.end - n->range.start;
    r->n--;
    tree_remove(r, n->range.start);
}

/* All nodes that end at or after `start` become part of the highest range, as does the new one. */
static void merge_into_last(struct smt_ranges *r, uint64_t start, uint64_t end)
{
    r->len -= r->last.end - r->last.start;
    for (;;) {
        struct smt_ranges_node *n = tree_ends_at_or_after(r, start);
        if (n == NULL)
            break;
        if (n->range.start < start)
            start = n->range.start;
        drop_node(r, n);
    }
    if (start < r->last.start)
        r->last.start = start;
    if (end > r->last.end)
        r->last.end = end;
    r->len += r->last.end - r->last.start;
}

/* `n` is the lowest node that the new range touches; the highest range is not touched. */
static void merge_into_node(struct smt_ranges *r, struct smt_ranges_node *n, uint64_t start,
                            uint64_t end)
{
    r->len -= n->range.end - n->range.start;
    if (end < n->range.end)
        end = n->range.end;
    for (;;) {
        struct smt_ranges_node *above = tree_starts_after(r, n->range.start);
        if (above == NULL || above->range.start > end)
            break;
        if (end < above->range.end)
            end = above->range.end;
        drop_node(r, above);
    }
    if (start < n->range.start)
        n->range.start = start;
    n->range.end = end;
    r->len += end - n->range.start;
}

int smt_ranges_add_slow(struct smt_ranges *r, uint64_t start, uint64_t end)
{
    assert(start <= end);
    if (start == end)
        return 0;
    if (start > r->last.end) {
        int rc = add_node(r, r->last);
        if (rc < 0)
            return rc;
        r->last = (struct smt_range){start, end};
        r->len += end - start;
        return 0;
    }
    if (end >= r->last.start) {
        merge_into_last(r, start, end);
        return 0;
    }
    struct smt_ranges_node *n = tree_ends_at_or_after(r, start);
    if (n != NULL && n->range.start <= end) {
        merge_into_node(r, n, start, end);
        return 0;
    }
    int rc = add_node(r, (struct smt_range){start, end});
    if (rc == 0)
        r->len += end - start;
    return rc;
}

void smt_ranges_remove_below(struct smt_ranges *r, uint64_t x)
{
    if (r->n == 0)
        return;
    if (x >= r->last.end) {
        smt_ranges_clear(r);
        return;
    }
    if (x >= r->last.start) {
        tree_free(r);
        r->last.start = x;
        r->len = r->last.end - x;
        r->n = 1;
        return;
    }
    for (;;) {
        struct smt_ranges_node *n = tree_ends_at_or_after(r, 0);
        if (n == NULL || n->range.start >= x)
            return;
        if (n->range.end > x) {
            r->len -= x - n->range.start;
            n->range.start = x;
            return;
        }
        drop_node(r, n);
    }
}

bool smt_ranges_next(const struct smt_ranges *r, uint64_t from, struct smt_range *out)
{
    if (r->n == 0 || from >= r->last.end)
        return false;
    *out = r->last;
    if (from < r->last.start && r->root != NULL) {
        const struct smt_ranges_node *n = tree_ends_at_or_after(r, from + 1);
        if (n != NULL)
            *out = n->range;
    }
    return true;
}

bool smt_ranges_contains(const struct smt_ranges *r, uint64_t x)
{
    struct smt_range next;
    return smt_ranges_next(r, x, &next) && next.start <= x;
}

bool smt_ranges_overlaps(const struct smt_ranges *r, uint64_t start, uint64_t end)
{
    struct smt_range next;
    return start < end && smt_ranges_next(r, start, &next) && next.start < end;
}

bool smt_ranges_covers(const struct smt_ranges *r, uint64_t start, uint64_t end)
{
    struct smt_range next;
    return start >= end ||
           (smt_ranges_next(r, start, &next) && next.start <= start && next.end >= end);
}

bool smt_ranges_next_gap(const struct smt_ranges *r, uint64_t from, uint64_t limit, uint64_t *start,
                         uint64_t *end)
{
    struct smt_range next;
    bool more = smt_ranges_next(r, from, &next);
    if (more && next.start <= from) {
        from = next.end;
        more = smt_ranges_next(r, from, &next);
    }
    if (from >= limit)
        return false;
    *start = from;
    *end = more && next.start < limit ? next.start : limit;
    return true;
}
