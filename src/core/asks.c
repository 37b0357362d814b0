/* Timers ask: for what is missing, for an acknowledgement, for a word. Each rpc asks at longer and
 * longer intervals, but a peer that cannot keep up is asked by thousands of them, and what it makes
 * of the questions keeps it from answering (seen with 1,000 sessions in a slow virtual machine). So
 * what timers send is bounded by what comes back.
 *
 * Of a peer so many questions may be out at a time, by additive increase with answers and halving
 * when some were not answered in a round of patience. A round without any answer leaves one, and
 * the next is twice as long. Peers that have been silent so share as little among all of them:
 * who was answered lets the next one ask, else it takes the longest patience. A first question
 * waits for nobody: one peer's silence is no other's matter.
 *
 * Who may not ask waits in a line and asks with the answers of those before it. (Tried: each comes
 * back after twice the time. Of 10,000 calls that began together and lost 7,400 requests, 64 were
 * asked about each 128 ms; and with turns by time, those who hear BUSY every time took them from
 * those whose request was lost: both 25 s.) The line stands only while the peer answers: its timers
 * go on in any case. */
#include "core/asks.h"

#include "core/state.h"

enum { FIRST = 16, MOST = 64, LEAST_OF_ALL = 8, MAX_SILENT = 7 };

/* An rpc's round: none, it is in the line. */
#define WAITS UINT32_MAX

void smt_asks_init(struct smt_asks *a)
{
    *a = (struct smt_asks){.round = 1, .most = FIRST};
    smt_list_init(&a->waiting);
}

static void round_begin(struct smt_asks *a)
{
    if (++a->round == WAITS)
        a->round = 1;
    a->n_out = 0;
    a->heard = false;
}

/* What was not answered is lost. */
static void round_end(struct smt_asks *a, uint16_t least)
{
    if (a->n_out > 0 && !a->heard) {
        a->n_silent += a->n_silent < MAX_SILENT;
        a->most = least;
    } else if (a->n_out > 0) {
        a->most = a->most / 2 > least ? a->most / 2 : least;
    }
    round_begin(a);
}

/* May one more of those ask who were not answered? Counts it. */
static bool again(struct smt_engine *e, uint64_t now)
{
    struct smt_asks *a = &e->asks;
    if (now >= a->until)
        round_end(a, LEAST_OF_ALL);
    if (a->n_out >= a->most)
        return false;
    if (a->n_out++ == 0)
        a->until = now + e->config.tune.resend_most_ns;
    return true;
}

/* It is among those asked in this round. */
static void out(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    struct smt_asks *a = &c->asks;
    if (a->n_out++ == 0)
        a->until = now + smt_conn_patience(c, a->n_silent);
    r->ask_round = a->round;
}

/* Those at the head of the line may ask. */
static void turns_give(struct smt_conn *c)
{
    struct smt_asks *a = &c->asks;
    while (a->n_out < a->most) {
        struct smt_list *l = smt_list_pop_head(&a->waiting);
        if (l == NULL)
            return;
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, ask_link);
        r->has_ask_turn = true;
        out(r, c->e->now);
        smt_wheel_arm(&c->e->wheel, &r->timer.t, c->e->now);
    }
}

/* Gives back the turn it was given: what follows counts it anew. */
static bool turn_take(struct smt_rpc *r)
{
    struct smt_asks *a = &r->conn->asks;
    if (!r->has_ask_turn)
        return false;
    r->has_ask_turn = false;
    if (r->ask_round == a->round && a->n_out > 0)
        a->n_out--;
    return true;
}

bool smt_asks_may(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    struct smt_asks *a = &c->asks;
    bool is_turn = turn_take(r);
    if (now >= a->until)
        round_end(a, 1);
    if (a->n_silent > 0) {
        if (a->n_out >= a->most || !again(c->e, now))
            return false;
        c->again_round = c->e->asks.round;
        return true;
    }
    if (a->n_out < a->most && (is_turn || smt_list_is_empty(&a->waiting)))
        return true;
    if (smt_list_is_empty(&r->ask_link)) {
        smt_list_push_tail(&a->waiting, &r->ask_link);
        r->ask_round = WAITS;
    }
    turns_give(c);
    return false;
}

void smt_asks_asked(struct smt_rpc *r, uint64_t now)
{
    smt_list_remove(&r->ask_link);
    out(r, now);
}

static void answered(struct smt_asks *a, bool in_round)
{
    if (in_round && a->n_out > 0)
        a->n_out--;
    a->most += a->most < MOST;
    a->heard = true;
    a->n_silent = 0;
}

void smt_asks_answered(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (SMT_LIKELY(r->ask_round == 0))
        return;
    if (r->ask_round == WAITS) {
        smt_list_remove(&r->ask_link);
        r->ask_round = 0;
        return;
    }
    answered(&c->asks, r->ask_round == c->asks.round);
    r->ask_round = 0;
    r->has_ask_turn = false;
    turns_give(c);
    if (c->again_round == 0)
        return;
    answered(&c->e->asks, c->again_round == c->e->asks.round);
    c->again_round = 0;
}
