/* The receiver's side of Homa's scheduling (SIGCOMM'18 section 3.5): the active messages of the
 * book, best first, may each have a window of bytes on their way. The window is what fills the
 * path, and what we take at one go on top, for we grant once a batch. The best one's is larger: it
 * must keep the link full while control packets wait behind data; the others only have to be there
 * when it pauses. When all windows together are more than we can buffer, the best come first and
 * the others wait until data have come.
 *
 * The best of the active messages gets the highest of the scheduled levels in use, and the lowest
 * levels are used first, so that there is one above for whoever comes next.
 *
 * A share of the granted bytes goes to the oldest message when it is not active, so that nobody
 * starves. A message whose sender has not used its grant for some round trips loses its place to
 * one that waits, and what it was granted no longer counts. */
#include "core/grant.h"

#include "core/state.h"

enum { FIFO_LOOKS = 8, WINDOW_PACKETS = 4 };

int smt_grants_init(struct smt_grants *g, const struct smt_engine_config *config)
{
    *g = (struct smt_grants){.max_incoming = config->rx_window};
    return smt_book_init(&g->book, config->tune.overcommit);
}

void smt_grants_fini(struct smt_grants *g)
{
    smt_book_fini(&g->book);
}

static struct smt_rpc *rpc_of(struct smt_book_entry *x)
{
    return SMT_CONTAINER_OF(x, struct smt_rpc, rx.entry);
}

static uint32_t outstanding(const struct smt_msg_rx *m)
{
    return m->granted - smt_msg_rx_received(m);
}

/* What counts of it in `incoming` is what it is now. */
static void recount(struct smt_grants *g, struct smt_msg_rx *m)
{
    uint32_t is = m->entry.silent || m->whole ? 0 : outstanding(m);
    g->incoming += is;
    g->incoming -= m->incoming;
    m->incoming = is;
}

int smt_grants_add(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    m->came_at = e->now;
    int rc = smt_book_add(&g->book, &r->conn->book, &m->entry, m->len - m->granted);
    if (rc < 0)
        return rc;
    recount(g, m);
    g->due = true;
    return 0;
}

void smt_grants_remove(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    if (m->incoming > 0) {
        g->incoming -= m->incoming;
        m->incoming = 0;
        g->due = true;
    }
    if (m->entry.listed) {
        smt_book_remove(&g->book, &m->entry);
        g->due = true;
    }
}

void smt_grants_yield(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    if (!m->entry.listed) {
        /* Granted whole, and not sent: others need not wait for that. */
        g->due |= m->incoming > 0;
        g->incoming -= m->incoming;
        m->incoming = 0;
        return;
    }
    if (m->entry.silent || g->book.n_waiting == 0 || outstanding(m) == 0)
        return;
    smt_book_set_silent(&g->book, &m->entry, true);
    recount(g, m);
    e->stats.grants_silent++;
    g->due = true;
}

void smt_grants_data_came(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    m->came_at = e->now;
    if (SMT_UNLIKELY(m->entry.silent))
        smt_book_set_silent(&g->book, &m->entry, false);
    recount(g, m);
    g->due = true;
}

void smt_grants_batch(struct smt_grants *g, uint32_t n, uint64_t bytes)
{
    /* One packet at a time is no batch, and forgets slowly that there were some. */
    uint32_t is = n < 2 ? 0 : (uint32_t)(bytes - bytes / n);
    if (is > g->batch)
        g->batch = is;
    else
        g->batch -= (g->batch - is) / 16;
}

static uint8_t grant_prio(const struct smt_engine *e, unsigned rank)
{
    const struct smt_grants *g = &e->grants;
    unsigned n = g->book.n_active < e->cutoffs.n_sched ? g->book.n_active : e->cutoffs.n_sched;
    return (uint8_t)(rank + 1 < n ? n - 1 - rank : 0);
}

static uint32_t window_of(const struct smt_engine *e, const struct smt_rpc *r, unsigned rank)
{
    const struct smt_conn *c = r->conn;
    const struct smt_msg_rx *m = &r->rx;
    const struct smt_tune *t = &e->config.tune;
    const struct smt_grants *g = &e->grants;
    uint64_t fill = smt_path_fill(c);
    uint64_t w = fill > 0 ? fill * t->window_pct / 100 : t->window_first;
    if (rank > 0)
        w = w * t->window_next_pct / 100;
    w = smt_share_of(&c->rx_share, w);
    /* Less would stall for each packet, and all together must still fill the way to us: what is
     * narrow may be a path that they share. */
    uint64_t least = (uint64_t)WINDOW_PACKETS * m->piece;
    uint64_t part = e->fill * t->window_pct / 100 / (g->book.n_active + 1);
    least = least > part ? least : part;
    w = (w > least ? w : least) + 2ull * g->batch;
    uint64_t most = g->max_incoming / (g->book.n_active + 1);
    return (uint32_t)(w < most ? w : most);
}

static void grant_send(struct smt_engine *e, struct smt_rpc *r, uint32_t to, uint8_t prio)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    if (outstanding(m) == 0)
        m->came_at = e->now;
    g->fifo_owed += (uint64_t)(to - m->granted) * e->config.tune.grant_fifo_permille;
    m->granted = to;
    m->grant_prio = prio;
    recount(g, m);
    e->stats.grants_sent++;
    smt_ctl_add(r->conn, &(struct smt_frame){.type = SMT_FRAME_GRANT,
                                             .id = smt_rpc_frame_id(r),
                                             .offset = m->granted,
                                             .length = smt_msg_rx_prefix(m),
                                             .prio = prio});
    if (m->granted == m->len)
        smt_book_remove(&g->book, &m->entry);
    else
        smt_book_update(&g->book, &m->entry, m->len - m->granted);
}

/* The end of what `target` allows, in whole packets of the message as they have come so far. */
static uint32_t whole_packets(const struct smt_msg_rx *m, uint64_t target)
{
    if (target >= m->len)
        return m->len;
    if (target <= m->granted)
        return m->granted;
    uint32_t more = (uint32_t)target - m->granted;
    return m->piece > 0 && m->piece <= more ? m->granted + more - more % m->piece
                                            : (uint32_t)target;
}

/* Grants what the window and the room allow. False: there is no room. */
static bool grant_one(struct smt_engine *e, struct smt_rpc *r, unsigned rank)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    uint32_t window = window_of(e, r, rank);
    uint32_t to = whole_packets(m, (uint64_t)smt_msg_rx_received(m) + window);
    /* Small steps cost a packet each and bring nothing: wait for a quarter of the window. */
    if (to <= m->granted || (to < m->len && to - m->granted < window / 4))
        return true;
    uint64_t room = g->incoming < g->max_incoming ? g->max_incoming - g->incoming : 0;
    if (to - m->granted > room) {
        to = whole_packets(m, m->granted + room);
        if (to - m->granted < window / 4)
            return false;
    }
    grant_send(e, r, to, grant_prio(e, rank));
    return true;
}

/* The oldest message that is not granted in its turn gets a share of the bytes. */
static void fifo_run(struct smt_engine *e)
{
    const struct smt_tune *t = &e->config.tune;
    struct smt_grants *g = &e->grants;
    uint64_t price = (uint64_t)t->grant_fifo_bytes * 1000;
    if (g->fifo_owed < price)
        return;
    g->fifo_owed -= price;
    if (g->book.n_waiting == 0)
        return;
    unsigned n = 0;
    SMT_LIST_FOREACH_SAFE(l, tmp, &g->book.old) {
        struct smt_book_entry *x = SMT_CONTAINER_OF(l, struct smt_book_entry, old);
        struct smt_msg_rx *m = &rpc_of(x)->rx;
        if (n++ == FIFO_LOOKS)
            return;
        /* One that does not use what it has would not use more. */
        if (x->active || x->silent || outstanding(m) > 2 * t->grant_fifo_bytes)
            continue;
        e->stats.grants_fifo++;
        grant_send(e, rpc_of(x), whole_packets(m, (uint64_t)m->granted + t->grant_fifo_bytes),
                   (uint8_t)(e->cutoffs.n_sched - 1));
        return;
    }
}

/* Senders that do not use their grants give their places to messages that wait. */
static void silent_run(struct smt_engine *e)
{
    const struct smt_tune *t = &e->config.tune;
    struct smt_grants *g = &e->grants;
    for (unsigned i = g->book.n_active; i > 0 && g->book.n_waiting > 0; i--) {
        struct smt_rpc *r = rpc_of(g->book.active[i - 1]);
        if (r->rx.entry.silent || outstanding(&r->rx) == 0)
            continue;
        uint64_t patience = t->silent_rtts * r->conn->pacer.rtt_peak;
        if (patience < t->silent_floor_ns)
            patience = t->silent_floor_ns;
        if (e->now > r->rx.came_at + patience) {
            smt_grants_yield(e, r);
            i = g->book.n_active + 1;
        }
    }
}

void smt_grants_run(struct smt_engine *e)
{
    struct smt_grants *g = &e->grants;
    if (!g->due)
        return;
    g->due = false;
    if (SMT_UNLIKELY(g->book.n_waiting > 0))
        silent_run(e);
    for (unsigned i = 0; i < g->book.n_active;) {
        struct smt_book_entry *x = g->book.active[i];
        if (!grant_one(e, rpc_of(x), i))
            break;
        /* Granted whole it has left, and the next one stands here. */
        i += i < g->book.n_active && g->book.active[i] == x;
    }
    fifo_run(e);
}
