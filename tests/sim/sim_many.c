/* A thousand sessions and ten thousand calls in flight between one pair of endpoints. */
#include <stdio.h>

#include "pair.h"

static bool all_up(void *arg)
{
    struct pair *p = arg;
    return sim_app_stats(p->app)->up >= 2 * sim_scaled(1000);
}

static void sim_many_conns_and_calls_in_flight(void **state)
{
    struct pair p = pair_new(sim_seed(20), &clean_link, CHECKING_FAST);
    p.a->rate = p.b->rate = 0;
    pair_start(&p);
    uint32_t n = (uint32_t)sim_scaled(1000);
    /* Each session holds ten calls back on the server until all ten thousand are there. */
    struct sim_load_config config = {.n_calls = 50,
                                     .window = 10,
                                     .max_len = 1 << 12,
                                     .max_resp = 1 << 12,
                                     .serve_ns = 20 * SMT_MSEC};
    struct smt_conn **conns = calloc(n, sizeof(*conns));
    assert_non_null(conns);
    for (uint32_t i = 0; i < n; i++)
        conns[i] = simnet_connect(p.a, p.b);
    bool up = simnet_run(p.net, p.net->now + 60 * SMT_SEC, all_up, &p);
    SIM_CHECK(p.net, up, "%llu ends up", (unsigned long long)sim_app_stats(p.app)->up);
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    uint64_t idle[2] = {smt_engine_memory(p.a->engine), smt_engine_memory(p.b->engine)};
    printf("    %u idle sessions: %llu bytes each at the initiator, %llu at the responder\n", n,
           (unsigned long long)(idle[0] / n), (unsigned long long)(idle[1] / n));

    /* What the first round made the pools grow to is enough for the second. */
    uint64_t used[2] = {0};
    for (unsigned round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < n; i++)
            sim_app_load_on(p.app, p.a, conns[i], &config);
        sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
        SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
        SIM_CHECK(p.net, sim_app_stats(p.app)->responses == (uint64_t)n * 50 * (round + 1),
                  "responses");
        for (unsigned i = 0; i < 2; i++) {
            uint64_t now = smt_engine_memory(p.net->hosts[i].engine);
            SIM_CHECK(p.net, round == 0 || now <= used[i] + (2 << 20),
                      "memory of host %u: %llu, was %llu", i, (unsigned long long)now,
                      (unsigned long long)used[i]);
            used[i] = now;
        }
    }
    free(conns);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_many_conns_and_calls_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
