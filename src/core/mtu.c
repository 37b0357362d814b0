/* Datagram path MTU discovery (RFC 8899) for one conn. The size that link and peer allow is used
 * from the first byte and tested at once: on a clean path that costs one probe and no delay. If
 * three probes of a size stay unanswered, or data stop arriving while the size is unproven, the
 * conn falls back to the size that passes everywhere and searches upward. A message in flight needs
 * nothing: its next record is cut smaller (docs/wire.md 3). */
#include "core/mtu.h"

#include "core/state.h"

enum { MAX_TRIES = 3, SEARCH_STEP = 32, MAX_BAD_ROUNDS = 4 };

static const uint64_t probe_wait = 20 * SMT_MSEC;
static const uint64_t bad_spacing = 20 * SMT_MSEC;
static const uint64_t search_again = 600 * SMT_SEC;

static void probe_want(struct smt_conn *c, uint16_t size)
{
    struct smt_mtu *m = &c->mtu;
    m->state = SMT_MTU_AWAIT_SEND;
    m->probe = size;
    m->tries = 0;
    smt_engine_hs_ready(c);
}

static void search_next(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    if (m->high - m->low <= SEARCH_STEP) {
        m->state = SMT_MTU_AWAIT_AGE;
        m->at = now + search_again;
        return;
    }
    probe_want(c, (uint16_t)(m->low + (m->high - m->low + 1) / 2));
}

void smt_mtu_start(struct smt_conn *c, uint64_t now, uint32_t target)
{
    struct smt_mtu *m = &c->mtu;
    if (target > UINT16_MAX)
        target = UINT16_MAX;
    *m = (struct smt_mtu){
        .now = (uint16_t)target, .low = (uint16_t)target, .high = (uint16_t)target};
    if (target <= SMT_MTU_BASE) {
        m->state = SMT_MTU_OFF;
        m->confirmed = true;
        return;
    }
    m->low = SMT_MTU_BASE;
    probe_want(c, (uint16_t)target);
    (void)now;
}

void smt_mtu_acked(struct smt_conn *c, uint64_t now, uint32_t token, uint32_t len)
{
    struct smt_mtu *m = &c->mtu;
    if (m->state == SMT_MTU_OFF || token != m->token || len < m->probe)
        return;
    m->token = 0;
    m->confirmed = true;
    m->bad_rounds = 0;
    m->low = m->probe;
    m->now = m->probe;
    search_next(c, now);
}

/* The size under test does not pass. */
static void probe_lost(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    m->high = (uint16_t)(m->probe - 1);
    if (m->now > m->high) {
        m->now = m->low;
        m->confirmed = true;
        c->e->stats.mtu_black_holes++;
    }
    search_next(c, now);
}

void smt_mtu_suspect(struct smt_conn *c, uint64_t now)
{
    struct smt_mtu *m = &c->mtu;
    bool idle = m->state == SMT_MTU_AWAIT_AGE;
    /* Many rpcs wait through the same silence: it counts once. */
    if (!idle || m->now <= SMT_MTU_BASE || now - m->bad_at < bad_spacing)
        return;
    m->bad_at = now;
    if (++m->bad_rounds < MAX_BAD_ROUNDS)
        return;
    /* Prove the size again; only silence to that moves us down. */
    m->bad_rounds = 0;
    m->low = SMT_MTU_BASE;
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
        /* Paths change: look above what is in use again, up to what link and peer allow. */
        uint32_t target = c->peer_max_packet;
        if (m->now >= target) {
            m->at = now + search_again;
            return;
        }
        m->high = (uint16_t)target;
        probe_want(c, m->high);
    } else if (m->tries < MAX_TRIES) {
        m->state = SMT_MTU_AWAIT_SEND;
        smt_engine_hs_ready(c);
    } else {
        probe_lost(c, now);
    }
}

bool smt_mtu_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_mtu *m = &c->mtu;
    if (m->token == 0 || m->tries == 0)
        m->token = (uint32_t)smt_prng_next64(&c->e->prng) | 1;
    const struct smt_frame f = {.type = SMT_FRAME_PROBE, .token = m->token};
    if (!smt_ctl_send_probe(c, sink, &f, m->probe))
        return false;
    c->e->stats.mtu_probes++;
    m->tries++;
    m->state = SMT_MTU_AWAIT_ACK;
    uint64_t wait = 4 * c->pacer.rtt_last;
    m->at = now + (wait > probe_wait ? wait : probe_wait) * m->tries;
    smt_conn_arm(c, now);
    return true;
}
