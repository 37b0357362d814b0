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

/* From now on it counts how long its sender says nothing. */
static void came_note(const struct smt_engine *e, struct smt_msg_rx *m)
{
    m->came_at = e->now;
    m->came_bytes = e->stats.bytes_rcvd;
}

int smt_grants_add(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    r->is_involved = true;
    came_note(e, m);
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

void smt_grants_tell(struct smt_rpc *r)
{
    r->conn->e->stats.grants_sent++;
    smt_ctl_add(r->conn, &(struct smt_frame){.type = SMT_FRAME_GRANT,
                                             .id = smt_rpc_frame_id(r),
                                             .offset = r->rx.granted,
                                             .length = smt_msg_rx_prefix(&r->rx),
                                             .prio = r->rx.grant_prio});
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
    if (m->entry.silent || outstanding(m) == 0)
        return;
    smt_book_set_silent(&g->book, &m->entry, true);
    recount(g, m);
    e->stats.grants_silent++;
    /* When its sender comes back, its data must not stand behind those of longer ones. */
    if (m->grant_prio + 1 < e->cutoffs.n_sched) {
        m->grant_prio = (uint8_t)(e->cutoffs.n_sched - 1);
        smt_grants_tell(r);
    }
    g->due = true;
}

void smt_grants_data_came(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    m->got_at = e->now;
    came_note(e, m);
    if (SMT_UNLIKELY(m->entry.silent))
        smt_book_set_silent(&g->book, &m->entry, false);
    recount(g, m);
    g->due = true;
}

bool smt_grants_is_behind(const struct smt_engine *e, const struct smt_rpc *r)
{
    const struct smt_grants *g = &e->grants;
    const struct smt_msg_rx *m = &r->rx;
    /* Nothing better is active: what stands in a queue was granted when there was, and is sent
     * again at a higher priority. */
    uint64_t key = m->entry.listed ? smt_book_key(&m->entry) : 0;
    bool best = g->book.n_active == 0 || key <= smt_book_key(g->book.active[0]);
    bool granted = m->entry.listed || m->incoming > 0;
    return !best && granted && !smt_path_was_free(e, m->came_at, m->came_bytes);
}

void smt_grants_batch(struct smt_grants *g, uint32_t n, uint64_t bytes)
{
    g->batch = smt_path_batch(g->batch, n, bytes);
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
    return (uint32_t)(w < most && !smt_compete_in_is_on(c, e->now) ? w : most);
}

static void grant_send(struct smt_engine *e, struct smt_rpc *r, uint32_t to, uint8_t prio)
{
    struct smt_grants *g = &e->grants;
    struct smt_msg_rx *m = &r->rx;
    if (outstanding(m) == 0)
        came_note(e, m);
    smt_compete_granted(r, e->now, m->granted);
    g->fifo_owed += (uint64_t)(to - m->granted) * e->config.tune.grant_fifo_permille;
    m->granted = to;
    m->grant_prio = prio;
    recount(g, m);
    smt_grants_tell(r);
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

/* What may be granted in all beyond what is on its way. The best message waits for nobody: what
 * fills the room may stand behind it in the queue before our link. */
static uint64_t room_for(const struct smt_engine *e, unsigned rank)
{
    const struct smt_grants *g = &e->grants;
    uint64_t most = g->max_incoming;
    uint64_t credit = e->fill * e->config.tune.credit_pct / 100 + g->batch;
    if (rank > 0 && e->fill > 0 && credit < most)
        most = credit;
    return g->incoming < most ? most - g->incoming : 0;
}

/* Grants what the window and the room allow. False: there is no room. */
static bool grant_one(struct smt_engine *e, struct smt_rpc *r, unsigned rank)
{
    struct smt_msg_rx *m = &r->rx;
    uint32_t window = window_of(e, r, rank);
    uint32_t step = (uint32_t)((uint64_t)window * e->config.tune.grant_step_pct / 100);
    uint64_t have = smt_msg_rx_received(m);
    /* Gaps are filled at the end, and must not shut the window until then. */
    if (smt_compete_in_is_on(r->conn, e->now) && m->got.n > 0)
        have = m->got.last.end;
    uint32_t to = whole_packets(m, have + window);
    /* Small steps cost a packet each and bring nothing: wait for a part of the window. */
    if (to <= m->granted || (to < m->len && to - m->granted < step))
        return true;
    uint64_t room = room_for(e, rank);
    if (to - m->granted > room) {
        to = whole_packets(m, m->granted + room);
        if (to - m->granted < step)
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

/* Senders that do not use their grants give their places to messages that wait, and what they were
 * granted no longer counts. What is late may stand in the queue before our own link, behind what
 * has a higher priority; but where data of a worse message have come meanwhile, or little of
 * anything, it does not. */
static void silent_run(struct smt_engine *e)
{
    const struct smt_tune *t = &e->config.tune;
    struct smt_grants *g = &e->grants;
    uint64_t worse_at = 0;
    for (unsigned i = g->book.n_active; i > 0; i--) {
        struct smt_rpc *r = rpc_of(g->book.active[i - 1]);
        const struct smt_msg_rx *m = &r->rx;
        if (m->entry.silent || outstanding(m) == 0)
            continue;
        uint64_t patience = t->silent_rtts * smt_conn_rtt_peak(r->conn);
        if (patience < t->silent_floor_ns)
            patience = t->silent_floor_ns;
        uint64_t until = m->came_at + patience;
        bool missed = e->now > until && smt_path_was_free(e, m->came_at, m->came_bytes);
        if (worse_at > until || missed) {
            smt_grants_yield(e, r);
            return;
        }
        if (m->got_at > worse_at && smt_book_key(&m->entry) > smt_path_tail(r->conn))
            worse_at = m->got_at;
    }
}

void smt_grants_run(struct smt_engine *e)
{
    struct smt_grants *g = &e->grants;
    if (g->book.n_active > 1)
        silent_run(e);
    if (!g->due)
        return;
    g->due = false;
    for (unsigned i = 0; i < g->book.n_active;) {
        struct smt_book_entry *x = g->book.active[i];
        if (!grant_one(e, rpc_of(x), i))
            break;
        /* Granted whole it has left, and the next one stands here. */
        i += i < g->book.n_active && g->book.active[i] == x;
    }
    fifo_run(e);
}
