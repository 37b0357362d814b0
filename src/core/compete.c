/* Delay-based control gives way to whoever listens to losses only: he fills the buffer, and we see
 * round trips of many times the least and leave. A queue of our own making loses nothing once we
 * have fallen back to a few packets. So a path with a long queue that loses packets of ours is one
 * where somebody else makes the queue, and giving way would not make it shorter: for half a minute
 * after each loss we do there as he does. Losses lower the share, a round trip without any adds a
 * packet, delay counts for nothing; and the receiver grants what it can buffer, for a window of a
 * few least round trips is nothing in such a queue.
 *
 * While it is narrow marks come behind all that they ask about (pacer.c): what is missing then is
 * lost, and need not be asked for first. */
#include "core/compete.h"

#include "core/state.h"

static const uint64_t memory = 30 * SMT_SEC;
static const uint64_t watch_most = 1 * SMT_SEC;

enum { FALL_PCT = 70 };

bool smt_compete_is_on(const struct smt_conn *c, uint64_t now)
{
    return now < c->compete.until;
}

static void rise(struct smt_conn *c, uint64_t now)
{
    struct smt_share *s = &c->tx_share;
    if (now < c->compete.rose_at + c->pacer.rtt_last || s->is == SMT_SHARE_ALL)
        return;
    c->compete.rose_at = now;
    uint64_t packet = (uint64_t)c->mtu.now * SMT_SHARE_ALL / c->pacer.max_window + 1;
    s->is = s->is + packet < SMT_SHARE_ALL ? s->is + (uint32_t)packet : SMT_SHARE_ALL;
}

bool smt_compete_seen(struct smt_conn *c, uint64_t now, bool slow, uint32_t n_lost, bool ce)
{
    if (slow && n_lost > 0)
        c->compete.until = now + memory;
    if (SMT_LIKELY(!smt_compete_is_on(c, now)))
        return false;
    if (n_lost == 0 && !ce)
        rise(c, now);
    else if (smt_share_fall(&c->tx_share, now, c->pacer.rtt_last, FALL_PCT))
        c->e->stats.windows_cut++;
    return true;
}

static bool is_long(const struct smt_conn *c, uint64_t delay)
{
    uint64_t least = smt_rtt_least(&c->path);
    if (least == 0)
        least = smt_rtt_least(&c->e->path);
    return delay > least + SMT_COMPETE_QUEUE;
}

void smt_compete_lost_in(struct smt_conn *c, uint64_t now, uint32_t n_lost)
{
    if (n_lost > 0 && is_long(c, c->compete_in.delay))
        c->compete_in.until = now + memory;
}

bool smt_compete_in_is_on(const struct smt_conn *c, uint64_t now)
{
    return SMT_UNLIKELY(now < c->compete_in.until) && is_long(c, c->compete_in.delay);
}

void smt_compete_granted(struct smt_rpc *r, uint64_t now, uint32_t from)
{
    struct smt_compete_in *n = &r->conn->compete_in;
    if (n->asked_at != 0 && now < n->asked_at + watch_most)
        return;
    n->asked_at = now;
    n->asked_id = r->id;
    n->asked_from = from;
}

void smt_compete_came(struct smt_rpc *r, uint64_t now, uint32_t offset)
{
    struct smt_compete_in *n = &r->conn->compete_in;
    if (SMT_LIKELY(n->asked_id != r->id) || offset < n->asked_from || n->asked_at == 0)
        return;
    n->delay = now - n->asked_at;
    n->asked_at = 0;
    n->asked_id = 0;
}
