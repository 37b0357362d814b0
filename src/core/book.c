/* Which messages are active. The order of all messages is: those of silent senders last; then by
 * how many better ones the same peer has, so that each peer has one active message before any has
 * two; then by bytes still to be granted, the older one first. The first `max_active` of that order
 * are active (test_grant_model holds this against sorting). Bytes to be granted, not bytes to be
 * received: a waiting message's place does not change when data of it come, so the book is touched
 * by grants only, and a message that is granted whole makes room for the next before its last bytes
 * arrive.
 *
 * Active messages stand in a short sorted array; those that wait in a heap of their peer, peers in
 * a heap by (active messages, best waiting one). A change moves a bounded number of messages
 * between the two. */
#include "core/book.h"

static const uint64_t SILENT = (uint64_t)1 << 40;
enum { PEER_LEVEL_SHIFT = 41 };

int smt_book_init(struct smt_book *b, unsigned max_active)
{
    *b = (struct smt_book){.max_active = max_active};
    smt_list_init(&b->old);
    return smt_heap_init(&b->peers, 16);
}

void smt_book_fini(struct smt_book *b)
{
    smt_heap_fini(&b->peers);
}

void smt_book_peer_fini(struct smt_book_peer *p)
{
    assert(p->n_active == 0 && smt_heap_count(&p->waiting) == 0);
    smt_heap_fini(&p->waiting);
}

static bool is_better(const struct smt_book_entry *a, const struct smt_book_entry *b)
{
    return a->node.key < b->node.key || (a->node.key == b->node.key && a->node.tie < b->node.tie);
}

static struct smt_book_entry *entry_of(struct smt_heap_node *n)
{
    return n == NULL ? NULL : SMT_CONTAINER_OF(n, struct smt_book_entry, node);
}

/* A peer's place: silent, then how many it has active, then the bytes of its best. */
static uint64_t peer_key(const struct smt_book_peer *p)
{
    uint64_t key = smt_heap_min(&p->waiting)->key;
    uint64_t bytes = key & (SILENT - 1);
    uint64_t silent = key & SILENT ? 1 : 0;
    return silent << 63 | (uint64_t)p->n_active << PEER_LEVEL_SHIFT | bytes;
}

/* What waits of a peer has changed. The heap of peers has room: wait_put made it. */
static void peer_fix(struct smt_book *b, struct smt_book_peer *p)
{
    struct smt_heap_node *best = smt_heap_min(&p->waiting);
    if (smt_heap_has(&p->node))
        smt_heap_remove(&b->peers, &p->node);
    if (best == NULL)
        return;
    p->node.key = peer_key(p);
    p->node.tie = best->tie;
    int rc = smt_heap_insert(&b->peers, &p->node);
    assert(rc == 0);
    (void)rc;
}

/* Room for one more waiting message of `p`, and for `p` among the peers, for as long as the book
 * lives: what was active once can always wait. */
static int room_make(struct smt_book *b, struct smt_book_peer *p)
{
    int rc = smt_heap_reserve(&p->waiting, smt_heap_count(&p->waiting) + p->n_active + 1u);
    if (rc == 0)
        rc = smt_heap_reserve(&b->peers, smt_heap_count(&b->peers) + b->n_active + 1u);
    return rc;
}

static void wait_put(struct smt_book *b, struct smt_book_entry *x)
{
    int rc = smt_heap_insert(&x->peer->waiting, &x->node);
    assert(rc == 0);
    (void)rc;
    b->n_waiting++;
}

static void wait_take(struct smt_book *b, struct smt_book_entry *x)
{
    smt_heap_remove(&x->peer->waiting, &x->node);
    b->n_waiting--;
}

static void active_put(struct smt_book *b, struct smt_book_entry *x)
{
    unsigned i = b->n_active++;
    for (; i > 0 && is_better(x, b->active[i - 1]); i--)
        b->active[i] = b->active[i - 1];
    b->active[i] = x;
    x->active = true;
    x->peer->n_active++;
}

static void active_take(struct smt_book *b, struct smt_book_entry *x)
{
    unsigned i = 0;
    while (b->active[i] != x)
        i++;
    b->n_active--;
    for (; i < b->n_active; i++)
        b->active[i] = b->active[i + 1];
    x->active = false;
    x->peer->n_active--;
}

/* The worst active message of a peer, NULL when it has none. */
static struct smt_book_entry *worst_of(const struct smt_book *b, const struct smt_book_peer *p)
{
    for (unsigned i = b->n_active; p->n_active > 0 && i > 0; i--) {
        if (b->active[i - 1]->peer == p)
            return b->active[i - 1];
    }
    return NULL;
}

/* The active message that is the last in the order of all. */
static struct smt_book_entry *worst(const struct smt_book *b)
{
    struct smt_book_entry *w = NULL;
    unsigned w_level = 0;
    for (unsigned i = b->n_active; i > 0; i--) {
        struct smt_book_entry *x = b->active[i - 1];
        unsigned level = 0;
        for (unsigned k = 0; k < i - 1; k++)
            level += b->active[k]->peer == x->peer;
        if (w == NULL || (x->silent == w->silent && level > w_level)) {
            w = x;
            w_level = level;
        }
    }
    return w;
}

static bool comes_before(const struct smt_book *b, const struct smt_book_entry *waiting,
                         const struct smt_book_entry *w)
{
    if (waiting->silent != w->silent)
        return w->silent;
    unsigned level = waiting->peer->n_active, w_level = w->peer->n_active - 1u;
    (void)b;
    /* Taking the place of its own peer's worst does not count as one more. */
    if (waiting->peer == w->peer)
        return is_better(waiting, w);
    return level != w_level ? level < w_level : is_better(waiting, w);
}

static void swap(struct smt_book *b, struct smt_book_entry *in, struct smt_book_entry *out)
{
    wait_take(b, in);
    active_take(b, out);
    wait_put(b, out);
    active_put(b, in);
    peer_fix(b, in->peer);
    if (out->peer != in->peer)
        peer_fix(b, out->peer);
}

/* After a change to messages of `p`: the first of the order are active again. */
static void settle(struct smt_book *b, struct smt_book_peer *p)
{
    struct smt_book_entry *best, *w;
    while ((best = entry_of(smt_heap_min(&p->waiting))) != NULL &&
           (w = worst_of(b, p)) != NULL && is_better(best, w))
        swap(b, best, w);
    for (;;) {
        struct smt_heap_node *n = smt_heap_min(&b->peers);
        if (n == NULL)
            return;
        struct smt_book_peer *from = SMT_CONTAINER_OF(n, struct smt_book_peer, node);
        best = entry_of(smt_heap_min(&from->waiting));
        if (b->n_active < b->max_active) {
            wait_take(b, best);
            active_put(b, best);
            peer_fix(b, from);
            continue;
        }
        w = worst(b);
        if (w == NULL || !comes_before(b, best, w))
            return;
        swap(b, best, w);
    }
}

int smt_book_add(struct smt_book *b, struct smt_book_peer *peer, struct smt_book_entry *x,
                 uint64_t key)
{
    assert(!x->listed && key < SILENT);
    int rc = room_make(b, peer);
    if (rc < 0)
        return rc;
    x->peer = peer;
    x->listed = true;
    x->silent = false;
    x->active = false;
    x->node = (struct smt_heap_node){.key = key, .tie = ++b->age};
    smt_list_push_tail(&b->old, &x->old);
    wait_put(b, x);
    peer_fix(b, peer);
    settle(b, peer);
    return 0;
}

void smt_book_remove(struct smt_book *b, struct smt_book_entry *x)
{
    if (!x->listed)
        return;
    x->listed = false;
    smt_list_remove(&x->old);
    if (x->active)
        active_take(b, x);
    else
        wait_take(b, x);
    peer_fix(b, x->peer);
    settle(b, x->peer);
}

static void rekey(struct smt_book *b, struct smt_book_entry *x, uint64_t key)
{
    if (!x->active) {
        smt_heap_update(&x->peer->waiting, &x->node, key);
        peer_fix(b, x->peer);
        settle(b, x->peer);
        return;
    }
    bool worse = key > x->node.key;
    active_take(b, x);
    x->node.key = key;
    active_put(b, x);
    /* One that only got better moves nobody. */
    if (worse)
        settle(b, x->peer);
}

void smt_book_update(struct smt_book *b, struct smt_book_entry *x, uint64_t key)
{
    rekey(b, x, key | (x->silent ? SILENT : 0));
}

void smt_book_set_silent(struct smt_book *b, struct smt_book_entry *x, bool silent)
{
    if (x->silent == silent)
        return;
    x->silent = silent;
    rekey(b, x, smt_book_key(x) | (silent ? SILENT : 0));
}
