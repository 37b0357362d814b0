/* Timers ask: for what is missing, for an acknowledgement, for a word. Each rpc asks at longer and
 * longer intervals, but a peer that cannot keep up is asked by thousands of them, and what it makes
 * of the questions keeps it from answering (seen with 1,000 sessions in a slow virtual machine). So
 * what timers send is bounded by what comes back.
 *
 * Of a peer so many questions may be out at a time, by additive increase with answers and halving
 * when some were not answered in a round of patience. A round without any answer leaves one, and
 * the next is twice as long. Peers that have been silent so share as little among all of them. A
 * first question waits for nobody: one peer's silence is no other's matter.
 *
 * Who may not ask waits in a line, that of its peer or that of all the silent, and asks with the
 * answers of those before it. (Tried: each comes back after twice the time. Of 10,000 calls that
 * began together and lost 7,400 requests, 64 were asked about each 128 ms; and with turns by time,
 * those who hear BUSY every time took them from those whose request was lost: both 25 s. Of 2,000
 * sessions that a link dark for 60 ms left silent, most were not asked again in 2 s, and given up.)
 * A line moves only while somebody answers: timers go on in any case. */
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

/* It is among those asked in this round. */
static void out(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    struct smt_asks *a = &c->asks;
    if (a->n_out++ == 0)
        a->until = now + smt_conn_patience(c, a->n_silent);
    r->ask_round = a->round;
}

/* Who is at the head of the line may ask. NULL: nobody is there, or as many as may have asked. */
static struct smt_rpc *turn_give(struct smt_asks *a)
{
    struct smt_list *l = a->n_out < a->most ? smt_list_pop_head(&a->waiting) : NULL;
    if (l == NULL)
        return NULL;
    struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, ask_link);
    r->has_ask_turn = true;
    smt_wheel_arm(&r->conn->e->wheel, &r->timer.t, r->conn->e->now);
    return r;
}

static void turns_give(struct smt_conn *c)
{
    struct smt_rpc *r;
    while ((r = turn_give(&c->asks)) != NULL)
        out(r, c->e->now);
}

/* The conn is among the silent that were asked in this round. */
static void out_again(struct smt_conn *c)
{
    struct smt_asks *all = &c->e->asks;
    if (all->n_out++ == 0)
        all->until = c->e->now + c->e->config.tune.resend_most_ns;
    c->again_round = all->round;
}

/* The same for the line of the silent. */
static void turns_give_again(struct smt_engine *e)
{
    struct smt_rpc *r;
    while ((r = turn_give(&e->asks)) != NULL)
        out_again(r->conn);
}

static void count_back(struct smt_asks *a, uint32_t round)
{
    if (round == a->round && a->n_out > 0)
        a->n_out--;
}

/* Gives back the turn it was given: what follows counts it anew. */
static bool turn_take(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (!r->has_ask_turn)
        return false;
    r->has_ask_turn = false;
    if (r->ask_round != WAITS) {
        count_back(&c->asks, r->ask_round);
        return true;
    }
    count_back(&c->e->asks, c->again_round);
    c->again_round = 0;
    return true;
}

static void stand_in_line(struct smt_asks *a, struct smt_rpc *r)
{
    if (!smt_list_is_empty(&r->ask_link))
        return;
    smt_list_push_tail(&a->waiting, &r->ask_link);
    r->ask_round = WAITS;
}

/* May a conn ask that was not answered? Counts it. */
static bool may_again(struct smt_rpc *r, bool is_turn, uint64_t now)
{
    struct smt_engine *e = r->conn->e;
    struct smt_asks *all = &e->asks;
    if (now >= all->until)
        round_end(all, LEAST_OF_ALL);
    if (all->n_out >= all->most || !(is_turn || smt_list_is_empty(&all->waiting))) {
        stand_in_line(all, r);
        turns_give_again(e);
        if (!turn_take(r))
            return false;
    }
    out_again(r->conn);
    return true;
}

bool smt_asks_may(struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    struct smt_asks *a = &c->asks;
    bool is_turn = turn_take(r);
    if (now >= a->until)
        round_end(a, 1);
    if (a->n_silent > 0)
        return a->n_out < a->most && may_again(r, is_turn, now);
    if (a->n_out < a->most && (is_turn || smt_list_is_empty(&a->waiting)))
        return true;
    stand_in_line(a, r);
    turns_give(c);
    return turn_take(r);
}

void smt_asks_asked(struct smt_rpc *r, uint64_t now)
{
    smt_list_remove(&r->ask_link);
    out(r, now);
}

bool smt_asks_is_out(const struct smt_conn *c, uint64_t now)
{
    return c->asks.n_out > 0 && now < c->asks.until;
}

static void answered(struct smt_asks *a, uint32_t round)
{
    count_back(a, round);
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
        (void)turn_take(r);
        smt_list_remove(&r->ask_link);
        r->ask_round = 0;
        return;
    }
    answered(&c->asks, r->ask_round);
    r->ask_round = 0;
    r->has_ask_turn = false;
    turns_give(c);
    if (c->again_round == 0)
        return;
    answered(&c->e->asks, c->again_round);
    c->again_round = 0;
    turns_give_again(c->e);
}

bool smt_asks_unanswered(const struct smt_conn *c)
{
    return c->asks.n_silent > 1;
}
