/* Whether a peer has moved to another address. That its packets come from there proves nothing:
 * they may be copies that somebody on the path sends from his own. So the new address gets a
 * challenge, and nothing else, until an authentic answer to it has come from there; never more
 * than three times the bytes that authentic packets brought from it. The address in use is asked
 * as well, and while the peer is reached there we stay: whoever sends copies sooner than the
 * originals arrive wins nothing as long as he does not close the old way too.
 *
 * A peer behind a translator that forgot it does not answer at the old address, and is followed
 * after the time an answer takes. */
#include "core/moved.h"

#include "base/mem.h"
#include "core/state.h"

enum {
    MAX_CHALLENGES = 3,
    AMPLIFICATION = 3,
    CHALLENGE_LEN = SMT_CTRL_HDR_LEN + SMT_RECORD_OVERHEAD + 9,
};

static const uint64_t least_wait = 20 * SMT_MSEC;
static const uint64_t again_after = 1 * SMT_SEC; /* between checks of a conn that stays */

static uint64_t answer_wait(const struct smt_conn *c)
{
    uint64_t rtt = c->pacer.rtt_peak > 0 ? c->pacer.rtt_peak : c->up_at - c->opened_at;
    return 2 * rtt > least_wait ? 2 * rtt : least_wait;
}

void smt_moved_fini(struct smt_conn *c)
{
    smt_mem_free(c->moved);
    c->moved = NULL;
}

static void stay(struct smt_conn *c, uint64_t now)
{
    smt_moved_fini(c);
    c->move_again = now + again_after;
}

static void follow(struct smt_conn *c, uint64_t now)
{
    const struct smt_addr to = c->moved->to;
    if (smt_conn_move(c, &to) == 0)
        c->e->stats.peers_moved++;
    stay(c, now);
}

static void challenge_want(struct smt_conn *c)
{
    c->moved->due = true;
    smt_engine_hs_ready(c);
}

static void begin(struct smt_conn *c, uint64_t now, const struct smt_addr *from)
{
    struct smt_engine *e = c->e;
    if (c->state != SMT_CONN_UP || now < c->move_again)
        return;
    struct smt_moved *m = smt_mem_alloc(sizeof(*m));
    if (m == NULL)
        return;
    e->stats.moves_checked++;
    m->to = *from;
    e->config.random(e->config.random_arg, &m->token_new, sizeof(m->token_new));
    e->config.random(e->config.random_arg, &m->token_old, sizeof(m->token_old));
    m->judge_at = now + answer_wait(c);
    m->at = m->judge_at;
    c->moved = m;
    challenge_want(c);
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_PATH_CHALLENGE, .token = m->token_old});
    smt_conn_arm(c, now);
}

void smt_moved_heard(struct smt_conn *c, uint64_t now, const struct smt_addr *from, uint32_t len)
{
    if (c->moved == NULL)
        begin(c, now, from);
    struct smt_moved *m = c->moved;
    if (m == NULL)
        return;
    m->from_new = smt_addr_equal(&m->to, from);
    if (!m->from_new)
        return;
    uint32_t more = AMPLIFICATION * len;
    m->budget = m->budget < UINT32_MAX - more ? m->budget + more : UINT32_MAX;
}

void smt_moved_answered(struct smt_conn *c, uint64_t now, uint64_t token)
{
    struct smt_moved *m = c->moved;
    if (m == NULL)
        return;
    /* Wherever this came from, it was reached at the address in use. */
    if (token == m->token_old) {
        stay(c, now);
        return;
    }
    if (token != m->token_new || !m->from_new)
        return;
    m->answered = true;
    m->due = false;
    m->at = m->judge_at;
    if (now >= m->judge_at)
        follow(c, now);
}

uint64_t smt_moved_deadline(const struct smt_conn *c)
{
    return c->moved != NULL && !c->moved->due ? c->moved->at : SMT_NEVER;
}

void smt_moved_tick(struct smt_conn *c, uint64_t now)
{
    const struct smt_moved *m = c->moved;
    if (m == NULL || now < smt_moved_deadline(c))
        return;
    if (m->answered)
        follow(c, now);
    else if (m->n_sent >= MAX_CHALLENGES || m->budget < CHALLENGE_LEN)
        stay(c, now);
    else
        challenge_want(c);
}

bool smt_moved_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_moved *m = c->moved;
    if (m == NULL || !m->due)
        return true;
    if (m->budget < CHALLENGE_LEN || c->state != SMT_CONN_UP) {
        stay(c, now);
        return true;
    }
    const struct smt_frame f = {.type = SMT_FRAME_PATH_CHALLENGE, .token = m->token_new};
    if (!smt_ctl_send_alone(c, sink, &m->to, &f, CHALLENGE_LEN))
        return false;
    m->due = false;
    m->budget -= CHALLENGE_LEN;
    m->n_sent++;
    m->at = now + (answer_wait(c) << (m->n_sent - 1));
    smt_conn_arm(c, now);
    return true;
}
