/* Sessions that end in order or by disuse, many hosts towards one, more sessions than the cache
 * holds keys. */
#include "pair.h"

/* ---- closing ---- */

struct closer {
    struct pair *p;
    struct sim_load *loads[4];
    bool by_server;
    uint32_t n;
};

static void close_one(void *arg, struct simnet *net)
{
    struct closer *x = arg;
    struct sim_load *load = x->loads[smt_prng_below(&net->rng, 4)];
    struct smt_conn *c = sim_load_conn(load);
    struct sim_host *host = x->p->a;
    if (c != NULL && x->by_server) {
        c = simnet_peer_conn(x->p->b, c);
        host = x->p->b;
    }
    if (c != NULL) {
        smt_conn_close(c, net->now, smt_prng_below(&net->rng, 2) == 0 ? 0 : SMT_ECLOSED, true);
        simnet_poke(host);
    }
    if (--x->n > 0)
        simnet_at(net, net->now + smt_prng_below(&net->rng, 3 * SMT_MSEC), close_one, x);
}

/* Sessions are closed at any moment by either end: calls end once, the other end hears of it, all
 * comes to rest. */
static void close_run(uint64_t seed, const struct sim_link *link, bool by_server)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    p.a->config.peer_timeout = p.b->config.peer_timeout = 200 * SMT_MSEC;
    p.a->config.handshake_timeout = p.b->config.handshake_timeout = SMT_SEC;
    pair_start(&p);
    struct closer x = {.p = &p, .by_server = by_server, .n = 40};
    struct sim_load_config config = {.n_calls = 400,
                                     .window = 10,
                                     .max_len = 1 << 16,
                                     .max_resp = 1 << 16,
                                     .one_way = 30,
                                     .own_buffer = 30,
                                     .serve_ns = SMT_MSEC,
                                     .hold_ns = SMT_MSEC,
                                     .may_fail = true,
                                     .reconnect = true};
    for (unsigned i = 0; i < 4; i++)
        x.loads[i] = sim_app_load(p.app, p.a, p.b, &config);
    simnet_at(p.net, p.net->now + SMT_MSEC, close_one, &x);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->down > 3, "%llu closed",
              (unsigned long long)sim_app_stats(p.app)->down);
    pair_free(&p);
}

static void sim_close_at_any_moment(void **state)
{
    close_run(sim_seed(100), &clean_link, false);
    close_run(sim_seed(101), &clean_link, true);
    close_run(sim_seed(102), &lossy_link, false);
    close_run(sim_seed(103), &lossy_link, true);
}

/* The peer learns of a close at once, not by its timeout, and answers nothing after it. */
static bool no_conns(void *arg)
{
    struct pair *p = arg;
    return simnet_n_conns(p->a) == 0 && simnet_n_conns(p->b) == 0;
}

static void sim_close_is_told(void **state)
{
    struct pair p = pair_new(sim_seed(104), &clean_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *c = pair_connect(&p, NULL);
    smt_conn_close(c, p.net->now, 0, true);
    simnet_poke(p.a);
    bool gone = simnet_run(p.net, p.net->now + SMT_MSEC, no_conns, &p);
    SIM_CHECK(p.net, gone, "the peer was not told");
    simnet_settle(p.net, p.net->now + SMT_SEC);
    pair_free(&p);
}

/* Some that are closed at one time, as those that a new key exchange has replaced, are told three
 * times each; of many each once. */
static void sim_some_closed_at_once(void **state)
{
    for (unsigned n = 10; n <= 100; n += 90) {
        struct pair p = pair_new(sim_seed(121), &clean_link, CHECKING_FAST);
        struct smt_conn *conns[100];
        pair_start(&p);
        for (unsigned i = 0; i < n; i++)
            conns[i] = pair_connect(&p, NULL);
        simnet_sleep(p.net, SMT_SEC);
        uint64_t before = p.a->n_sent;
        for (unsigned i = 0; i < n; i++)
            smt_conn_close(conns[i], p.net->now, 0, true);
        simnet_poke(p.a);
        SIM_CHECK(p.net, simnet_run(p.net, p.net->now + SMT_SEC, no_conns, &p), "conns stay");
        assert_int_equal(p.a->n_sent - before, n <= 16 ? 3 * n : n + 2 * 16);
        pair_free(&p);
    }
}

/* ---- disuse ---- */

static void sim_idle_sessions_end(void **state)
{
    struct pair p = pair_new(sim_seed(105), &clean_link, CHECKING_FAST);
    p.a->config.idle_timeout = 500 * SMT_MSEC;
    pair_start(&p);
    struct smt_conn *c = pair_connect(&p, NULL);
    struct sim_load_config config = {.n_calls = 20,
                                     .window = 1,
                                     .max_len = 64,
                                     .max_resp = 64,
                                     .serve_ns = 400 * SMT_MSEC,
                                     .may_fail = true};
    sim_app_load_on(p.app, p.a, c, &config);
    bool done = simnet_run(p.net, p.net->now + 60 * SMT_SEC, sim_app_done, p.app);
    SIM_CHECK(p.net, done && sim_app_stats(p.app)->failed == 0, "a session in use ended");
    uint64_t from = p.net->now;
    bool gone = simnet_run(p.net, from + 10 * SMT_SEC, no_conns, &p);
    SIM_CHECK(p.net, gone, "an idle session lives on");
    SIM_CHECK(p.net, p.net->now >= from + 400 * SMT_MSEC && p.net->now <= from + SMT_SEC,
              "after %llu us", (unsigned long long)((p.net->now - from) / 1000));
    pair_free(&p);
}

/* A session without work costs no packet and no timer. */
static void sim_quiet_sessions_are_silent(void **state)
{
    struct pair p = pair_new(sim_seed(106), &clean_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *c = pair_connect(&p, NULL);
    struct sim_load_config config = {
        .n_calls = 100, .window = 10, .max_len = 1 << 16, .max_resp = 1 << 16};
    sim_app_load_on(p.app, p.a, c, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    simnet_sleep(p.net, 60 * SMT_SEC);
    uint64_t packets = p.net->n_packets, steps = p.net->n_steps;
    simnet_sleep(p.net, 500 * SMT_SEC);
    SIM_CHECK(p.net, p.net->n_packets == packets, "%llu packets",
              (unsigned long long)(p.net->n_packets - packets));
    SIM_CHECK(p.net, p.net->n_steps - steps < 10, "%llu wake-ups",
              (unsigned long long)(p.net->n_steps - steps));
    sim_app_load_on(p.app, p.a, c, &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    pair_free(&p);
}

/* ---- many hosts ---- */

static void sim_incast(void **state)
{
    struct simnet_config config = {.seed = sim_seed(107),
                                   .n_hosts = 25,
                                   .aead = checking_aead(CHECKING_FAST),
                                   .link = clean_link};
    struct simnet *net = simnet_new(&config);
    struct sim_app *app = sim_app_new(net);
    struct sim_host *server = &net->hosts[0];
    server->down_rate = 1250000000;
    server->down_queue = 500000;
    for (unsigned i = 0; i < 25; i++)
        net->hosts[i].rate = 1250000000;
    simnet_start(net);
    struct sim_load_config load = {.n_calls = (uint32_t)sim_scaled(200),
                                   .window = 4,
                                   .max_len = 1 << 18,
                                   .max_resp = 1 << 10,
                                   .one_way = 20};
    for (unsigned i = 1; i < 25; i++)
        sim_app_load(app, &net->hosts[i], server, &load);
    sim_app_finish(app, net->now + 600 * SMT_SEC);
    SIM_CHECK(net, sim_app_stats(app)->failed == 0, "failures");
    uint64_t took = net->now - SMT_SEC;
    SIM_CHECK(net, took < 3 * SMT_SEC * load.n_calls / 200 + 100 * SMT_MSEC, "%llu ms for %llu MB",
              (unsigned long long)(took / SMT_MSEC),
              (unsigned long long)(sim_app_stats(app)->bytes >> 20));
    simnet_free(net);
    sim_app_free(app);
}

/* A bottleneck inside the network, which no grant knows of: what it carries is mostly new. */
static void bottleneck_run(uint64_t rate, uint64_t queue, unsigned conns, uint64_t delay,
                           uint32_t len)
{
    struct sim_link link = {.delay = delay};
    struct pair p = pair_new(sim_seed(109), &link, CHECKING_FAST);
    p.b->down_rate = rate;
    p.b->down_queue = queue;
    pair_start(&p);
    struct sim_load_config config = {.n_calls = 40, .window = 8, .fixed_len = len, .max_resp = 64};
    for (unsigned i = 0; i < conns; i++)
        sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 100 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    uint64_t bytes = 40ull * conns * len;
    uint64_t ideal = bytes * SMT_SEC / rate;
    uint64_t took = p.net->now - SMT_SEC;
    SIM_CHECK(p.net, took < 2 * ideal + 100 * SMT_MSEC, "%llu ms, %llu were needed",
              (unsigned long long)(took / SMT_MSEC), (unsigned long long)(ideal / SMT_MSEC));
    SIM_CHECK(p.net, p.a->bytes_sent < 3 * bytes, "%llu bytes sent for %llu",
              (unsigned long long)p.a->bytes_sent, (unsigned long long)bytes);
    pair_free(&p);
}

static void sim_bottleneck(void **state)
{
    bottleneck_run(125000000, 200000, 1, 10 * SMT_USEC, 1 << 17);
    bottleneck_run(125000000, 200000, 16, 10 * SMT_USEC, 1 << 17);
    bottleneck_run(12500000, 100000, 16, 5 * SMT_MSEC, 1 << 17);
    bottleneck_run(12500000, 100000, 16, 5 * SMT_MSEC, 1 << 14);
    bottleneck_run(6250000, 50000, 4, SMT_USEC, 1 << 16);
    bottleneck_run(12500000, 50000, 64, 10 * SMT_USEC, 1 << 14);
}

/* Every key is expanded again and again: 40 busy sessions and room for four contexts. */
static void sim_more_sessions_than_cached_keys(void **state)
{
    struct pair p = pair_new(sim_seed(108), &lossy_link, CHECKING_AES128_GCM);
    p.a->config.cached_keys = p.b->config.cached_keys = 4;
    p.a->config.rekey_records = 300;
    pair_start(&p);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(60),
                                     .window = 4,
                                     .max_len = 1 << 14,
                                     .max_resp = 1 << 14,
                                     .one_way = 30,
                                     .serve_ns = SMT_MSEC};
    for (unsigned i = 0; i < 40; i++)
        sim_app_load(p.app, i % 2 == 0 ? p.a : p.b, i % 2 == 0 ? p.b : p.a, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

/* What one session to a host has measured, another need not find out by asking too early. */
static void sim_sessions_share_round_trips(void **state)
{
    const struct sim_link far = {.delay = 15 * SMT_MSEC};
    struct pair p = pair_new(sim_seed(109), &far, CHECKING_FAST);
    pair_start(&p);
    struct sim_load_config config = {.n_calls = 5, .window = 1, .fixed_len = 100, .max_resp = 64};
    sim_app_load_on(p.app, p.a, pair_connect(&p, NULL), &config);
    sim_app_finish(p.app, p.net->now + 10 * SMT_SEC);
    struct smt_conn *second = pair_connect(&p, NULL);
    uint64_t asked = sim_counter(p.a->engine, "resends_sent");
    assert_true(asked > 0);
    sim_app_load_on(p.app, p.a, second, &config);
    sim_app_finish(p.app, p.net->now + 10 * SMT_SEC);
    assert_int_equal(sim_counter(p.a->engine, "resends_sent"), asked);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_close_at_any_moment),
        cmocka_unit_test(sim_close_is_told),
        cmocka_unit_test(sim_some_closed_at_once),
        cmocka_unit_test(sim_idle_sessions_end),
        cmocka_unit_test(sim_quiet_sessions_are_silent),
        cmocka_unit_test(sim_incast),
        cmocka_unit_test(sim_bottleneck),
        cmocka_unit_test(sim_more_sessions_than_cached_keys),
        cmocka_unit_test(sim_sessions_share_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
