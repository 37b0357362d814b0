/* Incast: many peers send to us at once, each as much as may go without a grant. Nothing is wrong
 * with one such burst, if a switch can hold it; but its bytes stand in the queue before our link
 * for longer than any round trip was, and must not be asked for again meanwhile. So what is known
 * to be on its way is counted, and patience is as much longer as our link needs for it.
 *
 * And the next burst shall be smaller: while more than a few messages come at once, our CUTOFFS
 * carry a lower unscheduled limit, in halves, down to about a packet; grants do the rest. When
 * fewer have come for a while it is raised again, a step at a time. Messages are counted as long as
 * they are not whole, whether they wait for grants or not: else the limit would rise while it does
 * its work. */
#include "core/incast.h"

#include "core/state.h"

/* LEAST: with less not even a packet would go. */
enum { MAX_SHIFT = 16, LEAST = 1500 };

/* Long against round trips, short against what an application notices. */
static const uint64_t raise_every = 10 * SMT_MSEC;

static uint32_t limit_of(const struct smt_engine *e)
{
    const struct smt_incast *n = &e->incast;
    if (n->shift == 0)
        return e->config.tune.unsched_most;
    uint64_t limit = smt_path_unsched_of(&e->config.tune, e->fill);
    if (limit > e->config.tune.unsched_most)
        limit = e->config.tune.unsched_most;
    limit >>= n->shift;
    return limit > LEAST ? (uint32_t)limit : LEAST;
}

static void limit_set(struct smt_engine *e, uint32_t shift)
{
    struct smt_incast *n = &e->incast;
    n->shift = shift;
    uint32_t limit = limit_of(e);
    if (limit == e->cutoffs.limit)
        return;
    e->cutoffs.limit = limit;
    smt_cutoffs_renew(&e->cutoffs);
    e->stats.limits_moved++;
}

/* One more than there were. */
static void limit_look(struct smt_engine *e)
{
    struct smt_incast *n = &e->incast;
    uint32_t first = e->config.tune.incast_first;
    if (n->n > n->n_most)
        n->n_most = n->n;
    if (SMT_LIKELY(n->shift == 0 && n->n <= first))
        return;
    uint32_t shift = n->shift;
    while (n->n > (uint64_t)first << shift && shift < MAX_SHIFT)
        shift++;
    if (shift > n->shift) {
        n->look_at = e->now + raise_every;
        n->n_most = n->n;
        limit_set(e, shift);
        return;
    }
    if (e->now < n->look_at)
        return;
    /* While nobody looked none began. */
    uint64_t steps = 1 + (e->now - n->look_at) / raise_every;
    uint32_t most = steps > 1 ? n->n : n->n_most;
    while (steps-- > 0 && shift > 0 && most <= (uint64_t)first << shift >> 2)
        shift--;
    n->look_at = e->now + raise_every;
    n->n_most = n->n;
    if (shift != n->shift)
        limit_set(e, shift);
}

static void count(struct smt_engine *e, struct smt_msg_rx *m, uint32_t bytes)
{
    e->incast.bytes += bytes;
    e->incast.bytes -= m->blind;
    m->blind = bytes;
}

void smt_incast_note(struct smt_engine *e, struct smt_rpc *r)
{
    struct smt_msg_rx *m = &r->rx;
    if (!m->counted) {
        m->counted = true;
        e->incast.n++;
        limit_look(e);
    }
    /* What the grant book knows of is counted there. */
    bool in_book = m->entry.listed || m->incoming > 0;
    count(e, m, in_book ? 0 : m->granted - smt_msg_rx_received(m));
    m->came_at = e->now;
    m->came_bytes = e->stats.bytes_rcvd;
}

void smt_incast_give_up(struct smt_engine *e, struct smt_msg_rx *m)
{
    count(e, m, 0);
}

void smt_incast_forget(struct smt_engine *e, struct smt_msg_rx *m)
{
    if (!m->counted)
        return;
    m->counted = false;
    e->incast.n--;
    count(e, m, 0);
}

uint64_t smt_incast_busy(const struct smt_engine *e)
{
    uint64_t bytes = e->incast.bytes + e->grants.incoming;
    return e->path.rate > 0 ? bytes * 1000 / (e->path.rate / 1000000 + 1) : 0;
}
