/* Timers ask: for what is missing, for an acknowledgement, for a word. Each rpc asks at longer and
 * longer intervals, but a peer that cannot keep up is asked by thousands of them, and what it makes
 * of the questions keeps it from answering (seen with 1,000 sessions in a slow virtual machine). So
 * what timers send is bounded by what comes back.
 *
 * Of a peer so many questions may be out at a time, by additive increase with answers and halving
 * when some were not answered in a round of patience. A round without any answer leaves one, and
 * the next is twice as long. Peers that have been silent so share as little among all of them:
 * who was answered lets the next one ask, else it takes the longest patience. A first question
 * waits for nobody: one peer's silence is no other's matter. */
#include "core/asks.h"

#include "core/state.h"

enum { FIRST = 16, MOST = 64, LEAST_OF_ALL = 8, MAX_SILENT = 7 };

void smt_asks_init(struct smt_asks *a)
{
    *a = (struct smt_asks){.round = 1, .most = FIRST};
}

static void round_begin(struct smt_asks *a)
{
    if (++a->round == 0)
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

bool smt_asks_may(struct smt_conn *c, uint64_t now)
{
    struct smt_asks *a = &c->asks;
    if (now >= a->until)
        round_end(a, 1);
    if (a->n_out >= a->most)
        return false;
    if (SMT_LIKELY(a->n_silent == 0))
        return true;
    if (!again(c->e, now))
        return false;
    c->again_round = c->e->asks.round;
    return true;
}

void smt_asks_asked(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    struct smt_asks *a = &c->asks;
    if (a->n_out++ == 0)
        a->until = now + smt_conn_patience(c, a->n_silent);
    r->ask_round = a->round;
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
    answered(&c->asks, r->ask_round == c->asks.round);
    r->ask_round = 0;
    if (c->again_round == 0)
        return;
    answered(&c->e->asks, c->again_round == c->e->asks.round);
    c->again_round = 0;
}
