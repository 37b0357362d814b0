/* Peers that die, come back, or cannot be heard; handshakes that lose packets. */
#include "pair.h"
#include "wire/wire.h"

enum { RESTARTS = 20 };

struct restarts {
    struct pair *p;
    unsigned left;
};

static void revive(void *arg, struct simnet *net);

static void kill_server(void *arg, struct simnet *net)
{
    struct restarts *r = arg;
    if (sim_app_done(r->p->app))
        return;
    simnet_kill(r->p->b);
    sim_app_host_killed(r->p->app, r->p->b);
    simnet_at(net, net->now + smt_prng_below(&net->rng, 30 * SMT_MSEC), revive, r);
}

static void revive(void *arg, struct simnet *net)
{
    struct restarts *r = arg;
    simnet_revive(r->p->b);
    if (--r->left > 0)
        simnet_at(net, net->now + smt_prng_below(&net->rng, 30 * SMT_MSEC), kill_server, r);
}

/* The server dies and comes back again and again: every call ends once, none runs twice, the client
 * gets on with new sessions. With `follow` it acts on NO_SESSION, else only on silence. */
static void restart_run(uint64_t seed, const struct sim_link *link, bool follow)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    p.a->config.peer_timeout = (follow ? 500 : 50) * SMT_MSEC;
    p.a->config.handshake_timeout = 200 * SMT_MSEC;
    pair_start(&p);
    struct restarts r = {.p = &p, .left = RESTARTS};
    struct sim_load_config config = {.n_calls = 40000,
                                     .window = 16,
                                     .max_len = 1 << 14,
                                     .max_resp = 1 << 14,
                                     .one_way = 20,
                                     .own_buffer = 30,
                                     .serve_ns = SMT_MSEC,
                                     .may_fail = true,
                                     .reconnect = true,
                                     .follow_hints = follow};
    config.n_calls = (uint32_t)sim_scaled(follow ? 10000 : 4000);
    sim_app_load(p.app, p.a, p.b, &config);
    simnet_at(p.net, p.net->now + SMT_MSEC, kill_server, &r);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    SIM_CHECK(p.net, s->maybe + s->other_errors > 0, "no call was lost in %u restarts",
              RESTARTS - r.left);
    SIM_CHECK(p.net, s->responses + s->sent > config.n_calls / 2, "only %llu calls worked",
              (unsigned long long)(s->responses + s->sent));
    SIM_CHECK(p.net, !follow || s->hints > 0, "no NO_SESSION came");
    pair_free(&p);
}

static void sim_restart_found_by_silence(void **state)
{
    restart_run(sim_seed(40), &clean_link, false);
    restart_run(sim_seed(41), &lossy_link, false);
}

static void sim_restart_found_by_no_session(void **state)
{
    restart_run(sim_seed(42), &clean_link, true);
    restart_run(sim_seed(43), &lossy_link, true);
}

/* Nothing passes any more: both ends give up within the peer timeout and give everything back. */
static void death_run(uint64_t seed, bool both_ways)
{
    struct pair p = pair_new(seed, &clean_link, CHECKING_FAST);
    p.a->config.peer_timeout = p.b->config.peer_timeout = 100 * SMT_MSEC;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    uint64_t memory[2] = {smt_engine_memory(p.a->engine), smt_engine_memory(p.b->engine)};
    struct sim_load_config config = {.n_calls = 64,
                                     .window = 64,
                                     .max_len = 1 << 22,
                                     .max_resp = 1 << 22,
                                     .one_way = 25,
                                     .serve_ns = SMT_MSEC,
                                     .may_fail = true};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    simnet_sleep(p.net, 2 * SMT_MSEC);
    simnet_link(p.net, 0, 1)->drop = SIM_ALWAYS;
    if (both_ways)
        simnet_link(p.net, 1, 0)->drop = SIM_ALWAYS;
    uint64_t from = p.net->now;
    bool done = simnet_run(p.net, from + SMT_SEC, sim_app_done, p.app);
    SIM_CHECK(p.net, done, "calls open a second after the peer's death");
    uint64_t took = p.net->now - from;
    SIM_CHECK(p.net, took >= 50 * SMT_MSEC && took <= 300 * SMT_MSEC, "death found after %llu us",
              (unsigned long long)(took / 1000));
    sim_app_finish(p.app, p.net->now + 10 * SMT_SEC);
    SIM_CHECK(p.net, smt_engine_memory(p.a->engine) <= memory[0] + KEPT_BYTES, "memory a");
    SIM_CHECK(p.net, smt_engine_memory(p.b->engine) <= memory[1] + KEPT_BYTES, "memory b");
    SIM_CHECK(p.net, simnet_n_conns(p.a) == 0, "the conn lives");
    pair_free(&p);
}

static void sim_blackout_peer_death(void **state)
{
    death_run(sim_seed(44), true);
    death_run(sim_seed(45), false);
}

/* A silence shorter than the timeout costs time and nothing else. */
static void sim_blackout_short_ones_cost_nothing(void **state)
{
    struct pair p = pair_new(sim_seed(46), &clean_link, CHECKING_FAST);
    p.a->config.peer_timeout = p.b->config.peer_timeout = 500 * SMT_MSEC;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(1000),
                                     .window = 16,
                                     .max_len = 1 << 20,
                                     .max_resp = 1 << 18,
                                     .one_way = 25,
                                     .serve_ns = SMT_MSEC};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    for (unsigned i = 0; i < 10 && !sim_app_done(p.app); i++) {
        simnet_sleep(p.net, smt_prng_below(&p.net->rng, 5 * SMT_MSEC));
        for (unsigned k = 0; k < 2; k++) {
            struct sim_link *l = simnet_link(p.net, k, 1 - k);
            l->dark_from = p.net->now + smt_prng_below(&p.net->rng, SMT_MSEC);
            l->dark_until = l->dark_from + smt_prng_below(&p.net->rng, 150 * SMT_MSEC);
        }
    }
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

/* The server's application takes longer than the peer timeout: the call is not lost. */
static void sim_slow_server_is_not_dead(void **state)
{
    struct pair p = pair_new(sim_seed(47), &lossy_link, CHECKING_FAST);
    p.a->config.peer_timeout = p.b->config.peer_timeout = 100 * SMT_MSEC;
    pair_start(&p);
    struct sim_load_config config = {.n_calls = 100,
                                     .window = 20,
                                     .max_len = 1 << 16,
                                     .max_resp = 1 << 16,
                                     .serve_ns = 3 * SMT_SEC};
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

/* ---- handshakes ---- */

struct loser {
    uint64_t drop, seen;
};

static enum sim_verdict drop_nth(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct loser *l = arg;
    return l->seen++ == l->drop ? SIM_DROP : SIM_PASS;
}

/* Comes up and carries a call both ways, within `limit`. How many packets it took. */
static uint64_t handshake_run(uint64_t seed, const struct sim_link *link, uint32_t pad,
                              uint64_t drop, uint64_t limit)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    p.net->hs_pad = pad;
    p.a->config.handshake_timeout = p.b->config.handshake_timeout = 60 * SMT_SEC;
    struct loser loser = {.drop = drop};
    p.net->hook = drop_nth;
    p.net->hook_arg = &loser;
    pair_start(&p);
    uint64_t from = p.net->now;
    struct sim_load_config config = {.n_calls = 1, .window = 1, .max_len = 4096, .max_resp = 4096};
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, from + limit);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, sim_app_stats(p.app)->up == 2, "%llu ends up",
              (unsigned long long)sim_app_stats(p.app)->up);
    pair_free(&p);
    return loser.seen;
}

static void sim_handshake_loss_of_each_packet(void **state)
{
    static const uint32_t pads[] = {0, 1200, 4000, 15000};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(pads); i++) {
        uint64_t n = handshake_run(sim_seed(48), &clean_link, pads[i], UINT64_MAX, 5 * SMT_SEC);
        for (uint64_t k = 0; k < n; k++)
            handshake_run(sim_seed(48), &clean_link, pads[i], k, 5 * SMT_SEC);
    }
}

static void sim_handshake_loss_at_random(void **state)
{
    struct sim_link link = {.delay = 20 * SMT_USEC,
                            .drop = 3000,
                            .dup = 1000,
                            .reorder = 3000,
                            .corrupt = 200,
                            .reorder_ns = SMT_MSEC};
    uint64_t n = sim_scaled(200);
    for (uint64_t i = 0; i < n; i++)
        handshake_run(sim_seed(5000) + i, &link, i % 3 == 0 ? 4000 : 0, UINT64_MAX, 50 * SMT_SEC);
}

static bool conn_gone(void *arg)
{
    return simnet_n_conns(arg) == 0;
}

static void note_down(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    if (ev->type == SMT_EE_DOWN)
        *(int *)arg = ev->error;
}

/* Nobody there, or one that refuses: DOWN in time, calls posted early FAILED, nothing left. */
static void handshake_fails(bool there)
{
    struct pair p = pair_new(sim_seed(49), &clean_link, CHECKING_FAST);
    p.a->config.handshake_timeout = 300 * SMT_MSEC;
    p.b->config.handshake_timeout = 300 * SMT_MSEC;
    p.b->refuse = true;
    pair_start(&p);
    if (!there)
        simnet_kill(p.b);
    uint64_t from = p.net->now;
    struct sim_load_config config = {
        .n_calls = 10, .window = 10, .max_len = 1 << 16, .may_fail = true};
    sim_app_load(p.app, p.a, p.b, &config);
    bool gone = simnet_run(p.net, from + SMT_SEC, conn_gone, p.a);
    SIM_CHECK(p.net, gone, "conn never goes DOWN");
    SIM_CHECK(p.net, p.net->now <= from + 310 * SMT_MSEC, "DOWN after %llu us",
              (unsigned long long)((p.net->now - from) / 1000));
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 10 && sim_app_stats(p.app)->down >= 1,
              "events");
    simnet_settle(p.net, p.net->now + SMT_SEC);
    pair_free(&p);
}

static void sim_handshake_without_peer(void **state)
{
    handshake_fails(false);
}

static void sim_handshake_refused(void **state)
{
    handshake_fails(true);
}

/* VERSION is a hint: it says why when nothing else comes, and hurts nobody when something does. */
static void version_run(bool answers)
{
    struct pair p = pair_new(sim_seed(51), &clean_link, CHECKING_FAST);
    p.a->config.handshake_timeout = 300 * SMT_MSEC;
    pair_start(&p);
    if (!answers)
        simnet_kill(p.b);
    int error = 0;
    sim_app_set_watch(p.app, note_down, &error);
    struct smt_conn *c = simnet_connect(p.a, p.b);
    uint8_t pkt[SMT_PLAIN_HDR_LEN + 2];
    struct smt_hdr hdr = {.sport = p.b->addr.port,
                          .dport = p.a->addr.port,
                          .kind = SMT_KIND_VERSION,
                          .session_id = smt_conn_id(c)};
    size_t len = smt_hdr_encode(&hdr, pkt);
    pkt[len++] = 1;
    pkt[len++] = 9;
    simnet_inject(p.net, &p.b->addr, 0, pkt, len, 1);
    simnet_sleep(p.net, SMT_SEC);
    SIM_CHECK(p.net, error == (answers ? 0 : SMT_EVERSION), "DOWN with %d", error);
    SIM_CHECK(p.net, simnet_n_conns(p.a) == (answers ? 1 : 0), "conns");
    pair_free(&p);
}

static void sim_handshake_version_hint(void **state)
{
    version_run(false);
    version_run(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_restart_found_by_silence),
        cmocka_unit_test(sim_restart_found_by_no_session),
        cmocka_unit_test(sim_blackout_peer_death),
        cmocka_unit_test(sim_blackout_short_ones_cost_nothing),
        cmocka_unit_test(sim_slow_server_is_not_dead),
        cmocka_unit_test(sim_handshake_loss_of_each_packet),
        cmocka_unit_test(sim_handshake_loss_at_random),
        cmocka_unit_test(sim_handshake_without_peer),
        cmocka_unit_test(sim_handshake_refused),
        cmocka_unit_test(sim_handshake_version_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
