/* When memory is short. A message takes all of its memory with its first record, so that is where
 * it is decided, and a message without memory is not granted.
 *
 * The share: a host gets a message when all it holds, this message included, is not more than what
 * is left (dynamic thresholds, Choudhury and Hahne 1998). One greedy host ends at half of all, n of
 * them leave 1 / (n + 1), give or take a message, and no number of sessions of one host makes a
 * difference. Nobody has to count active hosts, and
 * nothing is kept from anybody while there is plenty.
 *
 * The line: a refused message keeps its place and its state, but no byte of it. The next is the one
 * with the smallest sum of its length and what its host holds: of one host always the shortest, and
 * of hosts that hold the same. The sum is also what the share is tested with, so when the first
 * does not fit, nobody does, and a newcomer that fits has overtaken no one. Two heaps, hosts and
 * messages of a host: O(log n) a change.
 *
 * What a host announces and never sends would be held for ever. So while somebody waits, a message
 * whose sender has let several questions go unanswered is emptied and goes to the line. */
#include "core/memory.h"

#include "core/state.h"

enum { FIRST_HOSTS = 16, MAX_HOSTS = 1 << 20 };

int smt_memory_init(struct smt_memory *m, const uint64_t seed[2], uint64_t max)
{
    *m = (struct smt_memory){.max = max};
    int rc = smt_pool_init(&m->hosts, sizeof(struct smt_memory_host), FIRST_HOSTS, MAX_HOSTS);
    if (rc == 0)
        rc = smt_map_init(&m->map, seed, FIRST_HOSTS);
    return rc;
}

void smt_memory_fini(struct smt_memory *m)
{
    smt_heap_fini(&m->line);
    smt_map_fini(&m->map);
    smt_pool_fini(&m->hosts);
}

/* Half of an IPv6 address is one customer's; link-local ones share it. */
static struct smt_map_key key_of(const struct smt_addr *addr)
{
    struct smt_map_key key;
    memcpy(&key.a, addr->ip, 8);
    memcpy(&key.b, addr->ip + 8, 8);
    bool link_local = addr->ip[0] == 0xfe && (addr->ip[1] & 0xc0) == 0x80;
    if (!link_local && !smt_addr_is_ipv4(addr))
        key.b = 0;
    return key;
}

struct smt_memory_host *smt_memory_host_get(struct smt_memory *m, const struct smt_addr *addr)
{
    struct smt_map_key key = key_of(addr);
    struct smt_memory_host *h = smt_map_get(&m->map, key);
    if (h == NULL) {
        h = smt_pool_get(&m->hosts);
        if (h == NULL)
            return NULL;
        *h = (struct smt_memory_host){.key = key};
        if (smt_map_put(&m->map, key, h) < 0) {
            smt_pool_put(&m->hosts, h);
            return NULL;
        }
    }
    h->n_conns++;
    return h;
}

void smt_memory_host_drop(struct smt_memory *m, struct smt_memory_host *h)
{
    if (--h->n_conns > 0)
        return;
    assert(h->held == 0 && smt_heap_count(&h->waiting) == 0);
    smt_heap_fini(&h->waiting);
    (void)smt_map_del(&m->map, h->key);
    smt_pool_put(&m->hosts, h);
}

void smt_memory_rank(struct smt_memory *m, struct smt_memory_host *h)
{
    const struct smt_heap_node *first = smt_heap_min(&h->waiting);
    if (first == NULL) {
        smt_heap_remove(&m->line, &h->node);
        return;
    }
    smt_heap_update(&m->line, &h->node, h->held + first->key);
}

void smt_memory_move(struct smt_conn *c)
{
    struct smt_memory *m = &c->e->memory;
    struct smt_memory_host *was = c->host, *is = smt_memory_host_get(m, &c->addr);
    /* Without memory it stays where it was. */
    if (is == NULL)
        return;
    /* Those that wait come back by their own timers. */
    SMT_LIST_FOREACH_SAFE(l, tmp, &c->rpcs)
        smt_memory_forget(SMT_CONTAINER_OF(l, struct smt_rpc, conn_link));
    smt_memory_give(m, was, c->held_bytes);
    smt_memory_take(m, is, c->held_bytes);
    c->host = is;
    smt_memory_host_drop(m, was);
}

static struct smt_rpc *rpc_of(struct smt_heap_node *n)
{
    return SMT_CONTAINER_OF(n, struct smt_rpc, rx.waits);
}

static void line_leave(struct smt_memory *m, struct smt_rpc *r)
{
    struct smt_memory_host *h = r->conn->host;
    smt_heap_remove(&h->waiting, &r->rx.waits);
    smt_memory_rank(m, h);
}

/* Without memory for the line its own timer brings it back. */
static void line_enter(struct smt_memory *m, struct smt_rpc *r)
{
    struct smt_memory_host *h = r->conn->host;
    struct smt_heap_node *node = &r->rx.waits;
    node->key = r->rx.len;
    node->tie = ++m->tie;
    if (smt_heap_insert(&h->waiting, node) < 0)
        return;
    if (smt_heap_has(&h->node)) {
        smt_memory_rank(m, h);
        return;
    }
    h->node.key = h->held + smt_heap_min(&h->waiting)->key;
    h->node.tie = node->tie;
    if (smt_heap_insert(&m->line, &h->node) < 0)
        smt_heap_remove(&h->waiting, node);
}

/* It has memory now: everything its sender may have sent is asked for. */
static void begin(struct smt_rpc *r)
{
    struct smt_engine *e = r->conn->e;
    e->stats.memory_given++;
    r->heard = e->now;
    r->n_quiet = 0;
    smt_rpc_ask_missing(r);
    smt_rpc_arm(r, e->now);
}

void smt_memory_wait(struct smt_rpc *r)
{
    struct smt_memory *m = &r->conn->e->memory;
    r->conn->e->stats.memory_waits++;
    if (!smt_memory_fits(m, r->conn->host, r->rx.len))
        line_enter(m, r);
}

void smt_memory_again(struct smt_rpc *r)
{
    struct smt_memory *m = &r->conn->e->memory;
    bool waits = smt_heap_has(&r->rx.waits);
    if (smt_rpc_take_buffer(r) == 0) {
        if (waits)
            line_leave(m, r);
        begin(r);
    } else if (!waits && !smt_memory_fits(m, r->conn->host, r->rx.len)) {
        line_enter(m, r);
    }
}

void smt_memory_forget(struct smt_rpc *r)
{
    if (smt_heap_has(&r->rx.waits))
        line_leave(&r->conn->e->memory, r);
}

void smt_memory_take_back(struct smt_rpc *r)
{
    r->conn->e->stats.memory_taken_back++;
    smt_rpc_rx_give_back(r);
    smt_memory_wait(r);
}

void smt_memory_run(struct smt_engine *e)
{
    struct smt_memory *m = &e->memory;
    struct smt_heap_node *n;
    m->due = false;
    while ((n = smt_heap_min(&m->line)) != NULL) {
        struct smt_memory_host *h = SMT_CONTAINER_OF(n, struct smt_memory_host, node);
        struct smt_rpc *r = rpc_of(smt_heap_min(&h->waiting));
        if (!smt_memory_fits(m, h, r->rx.len))
            return;
        line_leave(m, r);
        /* Its conn's own limit, or the system has none: its timer asks again. */
        if (smt_rpc_take_buffer(r) == 0)
            begin(r);
    }
}
