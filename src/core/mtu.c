/* Datagram path MTU discovery (RFC 8899) for one conn. The size that link and peer allow is used
 * from the first byte and tested at once: on a clean path that costs one probe and no delay. If
 * three probes of a size stay unanswered the conn falls back to the size that passes everywhere and
 * searches upward. A message in flight needs nothing: its next record is cut smaller
 * (docs/wire.md 3). The link is asked for its size before each probe, so that one that shrank is
 * obeyed without waiting for silence; it is not asked for each packet.
 *
 * A full buffer loses probes as well as data, and loses short packets too. So a probe that was lost
 * says something of its size only when something came from the peer after it (a PING beside later
 * tries asks for that), and nothing when other long packets have passed meanwhile; and who is not
 * answered at all probes less and less. */
#include "core/mtu.h"

#include "core/state.h"

enum { MAX_TRIES = 3, SEARCH_STEP = 32, MAX_BAD_ROUNDS = 4, MAX_UNHEARD = 8 };

static const uint64_t probe_wait = 20 * SMT_MSEC;
static const uint64_t bad_spacing = 20 * SMT_MSEC;
static const uint64_t search_again = 600 * SMT_SEC;

void smt_mtu_init(struct smt_mtu *m)
{
    *m = (struct smt_mtu){.now = SMT_BASE_PACKET};
}

static void probe_want(struct smt_conn *c, uint16_t size)
{
    struct smt_mtu *m = &c->mtu;
    m->state = SMT_MTU_AWAIT_SEND;
    m->probe = size;
    m->tries = m->n_unheard = 0;
    m->first_at = c->e->now;
    smt_engine_hs_ready(c);
}

static void rest(struct smt_mtu *m, uint64_t now)
{
    m->state = SMT_MTU_AWAIT_AGE;
    m->at = now + search_again;
}

static void search_next(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    if (m->high - m->low <= SEARCH_STEP)
        rest(m, now);
    else
        probe_want(c, (uint16_t)(m->low + (m->high - m->low + 1) / 2));
}

/* What the link, the peer and our own limit allow now. */
static uint16_t limit_ask(const struct smt_conn *c, const struct smt_tx_sink *sink)
{
    /* A probe must be able to fill it, and has the shorter header. */
    uint32_t limit = SMT_CTRL_HDR_LEN + SMT_RECORD_OVERHEAD + SMT_RECORD_MAX_PLAIN;
    uint32_t link = sink->mtu(sink->arg, &c->addr);
    if (link < limit)
        limit = link;
    if (c->e->config.mtu > 0 && c->e->config.mtu < limit)
        limit = c->e->config.mtu;
    if (c->peer_mtu < limit)
        limit = c->peer_mtu;
    return (uint16_t)(limit > SMT_BASE_PACKET ? limit : SMT_BASE_PACKET);
}

void smt_mtu_start(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_mtu *m = &c->mtu;
    uint16_t limit = limit_ask(c, sink);
    m->now = m->high = limit;
    m->low = SMT_BASE_PACKET;
    if (limit > m->low)
        probe_want(c, limit);
    else
        rest(m, now);
    smt_conn_arm(c, now);
}

void smt_mtu_acked(struct smt_conn *c, uint64_t now, uint32_t token, uint32_t len)
{
    struct smt_mtu *m = &c->mtu;
    if (m->state == SMT_MTU_OFF || token != m->token || len < m->probe)
        return;
    m->token = 0;
    m->bad_rounds = 0;
    m->low = m->probe;
    m->now = m->probe;
    search_next(c, now);
}

/* The size under test does not pass. */
static void probe_lost(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    if (m->probe <= m->now && m->passed_at > m->first_at) {
        m->low = m->now;
        search_next(c, now);
        return;
    }
    m->high = (uint16_t)(m->probe - 1);
    if (m->now > m->high) {
        m->now = m->low;
        c->e->stats.mtu_black_holes++;
    }
    search_next(c, now);
}

void smt_mtu_passed(struct smt_mtu *m, uint64_t now)
{
    m->passed_at = now;
    m->bad_rounds = 0;
}

void smt_mtu_suspect(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    bool idle = m->state == SMT_MTU_AWAIT_AGE;
    /* Many rpcs wait through the same silence: it counts once. */
    if (!idle || m->now <= SMT_BASE_PACKET || now - m->bad_at < bad_spacing)
        return;
    m->bad_at = now;
    if (++m->bad_rounds < MAX_BAD_ROUNDS)
        return;
    /* Prove the size again; only silence to that, or a smaller link, moves us down. */
    m->bad_rounds = 0;
    m->low = SMT_BASE_PACKET;
    m->high = m->now;
    probe_want(c, m->now);
}

uint64_t smt_mtu_deadline(const struct smt_mtu *m)
{
    return m->state == SMT_MTU_AWAIT_ACK || m->state == SMT_MTU_AWAIT_AGE ? m->at : SMT_NEVER;
}

void smt_mtu_tick(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    if (now < smt_mtu_deadline(m))
        return;
    if (m->state == SMT_MTU_AWAIT_AGE) {
        /* Links and paths change: look above what is in use again. */
        probe_want(c, 0);
        return;
    }
    if (c->heard < m->sent_at && m->tries > 0) {
        m->tries--;
        m->n_unheard += m->n_unheard < MAX_UNHEARD;
    }
    /* Where others are not answered at all, much is lost. */
    unsigned enough = c->e->asks.n_out > 0 ? 2 * MAX_TRIES : MAX_TRIES;
    if (m->tries < enough) {
        m->state = SMT_MTU_AWAIT_SEND;
        smt_engine_hs_ready(c);
    } else {
        probe_lost(c, now);
    }
}

/* As long as the round trips that were seen make it, or that of the handshake. */
static void await_answer(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    uint64_t rtt = c->pacer.rtt_peak > 0 ? c->pacer.rtt_peak : c->up_at - c->opened_at;
    uint64_t wait = 4 * rtt > probe_wait ? 4 * rtt : probe_wait;
    m->state = SMT_MTU_AWAIT_ACK;
    m->at = now + (wait * (m->tries + 1u) << m->n_unheard);
    smt_conn_arm(c, now);
}

/* What the link carries may have changed since the probe was planned. False: nothing is left to
 * find out. */
static bool probe_fit(struct smt_mtu *m, uint16_t limit)
{
    if (m->now > limit)
        m->now = limit;
    if (m->low > limit)
        m->low = limit;
    if (m->probe == 0 || m->probe > limit) {
        m->high = m->probe = limit;
        m->tries = m->n_unheard = 0;
    }
    return m->probe > m->low;
}

bool smt_mtu_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_mtu *m = &c->mtu;
    if (!probe_fit(m, limit_ask(c, sink))) {
        rest(m, now);
        smt_conn_arm(c, now);
        return true;
    }
    bool again = m->tries + m->n_unheard > 0;
    /* Who is not answered has other questions. */
    if (again && c->asks.n_silent + c->asks.n_out > 0) {
        m->n_unheard += m->n_unheard < MAX_UNHEARD;
        await_answer(c, now);
        return true;
    }
    if (!again)
        m->token = (uint32_t)smt_prng_next64(&c->e->prng) | 1;
    const struct smt_frame f = {.type = SMT_FRAME_PROBE, .token = m->token};
    if (!smt_ctl_send_alone(c, sink, &c->addr, &f, m->probe))
        return false;
    /* Does anything pass? */
    if (again)
        smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_PING});
    c->e->stats.mtu_probes++;
    await_answer(c, now);
    m->tries++;
    m->sent_at = now;
    return true;
}
