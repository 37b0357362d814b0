/* The receiver's side of Homa's scheduling (SIGCOMM'18 section 3.5), in its plain form: up to eight
 * messages with the fewest missing bytes are granted at once, each a window of max_incoming /
 * (active + 1) beyond what it has; more wait in a heap. A newcomer with less to come takes the
 * place of the active message with most to come. Run once per batch of packets, not per packet.
 *
 * Left to the full congestion layer: one message per peer first, FIFO share, windows from measured
 * RTT, silent senders. */
#include "core/grant.h"

#include "core/state.h"

/* Waiting messages whose sender has fallen silent come after all others. */
static const uint64_t SILENT = 1ull << 32;

int smt_grants_init(struct smt_grants *g, uint32_t max_incoming)
{
    g->n_active = 0;
    g->tie = 0;
    g->max_incoming = max_incoming;
    g->due = false;
    return smt_heap_init(&g->waiting, 64);
}

void smt_grants_fini(struct smt_grants *g)
{
    smt_heap_fini(&g->waiting);
}

static uint32_t missing(const struct smt_rpc *r)
{
    return r->rx.len - smt_msg_rx_received(&r->rx);
}

static int wait_put(struct smt_grants *g, struct smt_rpc *r)
{
    r->rx.grant.key = missing(r);
    r->rx.grant.tie = ++g->tie;
    return smt_heap_insert(&g->waiting, &r->rx.grant);
}

static void active_put(struct smt_grants *g, struct smt_rpc *r)
{
    r->rx.grant_active = true;
    g->active[g->n_active++] = r;
}

static void active_take(struct smt_grants *g, unsigned i)
{
    g->active[i]->rx.grant_active = false;
    g->active[i] = g->active[--g->n_active];
}

/* The active message with most to come. */
static unsigned active_worst(const struct smt_grants *g)
{
    unsigned worst = 0;
    for (unsigned i = 1; i < g->n_active; i++) {
        if (missing(g->active[i]) > missing(g->active[worst]))
            worst = i;
    }
    return worst;
}

int smt_grants_add(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    assert(!r->rx.managed);
    if (g->n_active < SMT_GRANT_OVERCOMMIT) {
        active_put(g, r);
    } else {
        unsigned worst = active_worst(g);
        struct smt_rpc *out = g->active[worst];
        bool better = missing(r) < missing(out);
        int rc = wait_put(g, better ? out : r);
        if (rc < 0)
            return rc;
        if (better) {
            active_take(g, worst);
            active_put(g, r);
        }
    }
    r->rx.managed = true;
    g->due = true;
    return 0;
}

void smt_grants_remove(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    if (!r->rx.managed)
        return;
    r->rx.managed = false;
    if (!r->rx.grant_active) {
        smt_heap_remove(&g->waiting, &r->rx.grant);
        return;
    }
    for (unsigned i = 0; i < g->n_active; i++) {
        if (g->active[i] == r) {
            active_take(g, i);
            break;
        }
    }
    struct smt_heap_node *next = smt_heap_pop(&g->waiting);
    if (next != NULL)
        active_put(g, SMT_CONTAINER_OF(next, struct smt_rpc, rx.grant));
    g->due = true;
}

void smt_grants_yield(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    struct smt_heap_node *next = smt_heap_min(&g->waiting);
    if (!r->rx.grant_active || next == NULL || next->key >= SILENT)
        return;
    (void)smt_heap_pop(&g->waiting);
    for (unsigned i = 0; i < g->n_active; i++) {
        if (g->active[i] == r) {
            active_take(g, i);
            break;
        }
    }
    active_put(g, SMT_CONTAINER_OF(next, struct smt_rpc, rx.grant));
    r->rx.grant.key = SILENT + missing(r);
    r->rx.grant.tie = ++g->tie;
    /* There is room where the other one was; without, it is as if it had never been added. */
    if (smt_heap_insert(&g->waiting, &r->rx.grant) < 0)
        r->rx.managed = false;
    g->due = true;
}

void smt_grants_data_came(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    g->due = true;
    if (SMT_UNLIKELY(!r->rx.grant_active && r->rx.grant.key >= SILENT))
        smt_heap_update(&g->waiting, &r->rx.grant, missing(r));
}

/* Homa's rule: the best of the active messages gets the highest of the scheduled levels in use. */
static uint8_t grant_prio(const struct smt_grants *g, const struct smt_rpc *r)
{
    enum { MAX_SCHED_PRIO = 3 };
    unsigned rank = 0;
    for (unsigned i = 0; i < g->n_active; i++)
        rank += missing(g->active[i]) < missing(r);
    unsigned top = g->n_active > MAX_SCHED_PRIO ? MAX_SCHED_PRIO : g->n_active - 1;
    return (uint8_t)(rank < top ? top - rank : 0);
}

static void grant_one(struct smt_engine *e, struct smt_rpc *r, uint32_t window)
{
    struct smt_msg_rx *m = &r->rx;
    uint64_t target = (uint64_t)smt_msg_rx_received(m) + window;
    if (target > m->len)
        target = m->len;
    /* Small steps cost a packet each and bring nothing: wait for a quarter of the window. */
    if (target <= m->granted || (target < m->len && target - m->granted < window / 4))
        return;
    m->granted = (uint32_t)target;
    m->grant_prio = grant_prio(&e->grants, r);
    e->stats.grants_sent++;
    smt_ctl_add(r->conn, &(struct smt_frame){.type = SMT_FRAME_GRANT,
                                             .id = smt_rpc_frame_id(r),
                                             .offset = m->granted,
                                             .length = smt_msg_rx_prefix(m),
                                             .prio = m->grant_prio});
}

void smt_grants_run(struct smt_engine *e)
{
    struct smt_grants *g = &e->grants;
    if (!g->due)
        return;
    g->due = false;
    uint32_t window = g->max_incoming / (g->n_active + 1);
    for (unsigned i = 0; i < g->n_active; i++)
        grant_one(e, g->active[i], window);
}
