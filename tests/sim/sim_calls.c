/* Calls and one-way messages in their ordinary life: one direction, both at once, cancelled, with
 * deadlines, many at once. */
#include "pair.h"

static void sim_oneway(void **state)
{
    struct pair p = pair_new(sim_seed(10), &lossy_link, CHECKING_FAST);
    pair_start(&p);
    struct sim_load_config config = {
        .n_calls = (uint32_t)sim_scaled(2000), .window = 64, .max_len = 1 << 17, .one_way = 100};
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    SIM_CHECK(p.net, s->messages == config.n_calls && s->sent == config.n_calls, "lost some");
    SIM_CHECK(p.net, s->requests == 0 && s->responses == 0, "calls?");
    pair_free(&p);
}

/* Both ends start calls over one session: ids of the two directions are never mixed up. */
static void sim_both_clients(void **state)
{
    struct pair p = pair_new(sim_seed(11), &lossy_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(2000),
                                     .window = 48,
                                     .max_len = 1 << 15,
                                     .max_resp = 1 << 15,
                                     .one_way = 20,
                                     .own_buffer = 50,
                                     .serve_ns = SMT_MSEC};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

/* Cancelled at any moment of its life, a call has one final event and the server's state goes. */
static void cancel_run(uint64_t seed, const struct sim_link *link, uint64_t cancel_ns)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    pair_start(&p);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(1000),
                                     .window = 32,
                                     .max_len = 1 << 18,
                                     .max_resp = 1 << 18,
                                     .one_way = 25,
                                     .own_buffer = 40,
                                     .cancel = 50,
                                     .cancel_ns = cancel_ns,
                                     .serve_ns = cancel_ns / 2,
                                     .hold_ns = cancel_ns / 4};
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    SIM_CHECK(p.net, s->cancelled > 0 && s->cancelled < config.n_calls, "%llu cancelled",
              (unsigned long long)s->cancelled);
    SIM_CHECK(p.net, s->failed == s->cancelled, "other failures");
    pair_free(&p);
}

static void sim_cancel(void **state)
{
    cancel_run(sim_seed(12), &clean_link, 200 * SMT_USEC);
    cancel_run(sim_seed(13), &lossy_link, SMT_MSEC);
    cancel_run(sim_seed(14), &lossy_link, 20 * SMT_USEC);
    cancel_run(sim_seed(15), &clean_link, 0);
}

static void sim_deadlines(void **state)
{
    struct pair p = pair_new(sim_seed(16), &lossy_link, CHECKING_FAST);
    pair_start(&p);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(2000),
                                     .window = 64,
                                     .max_len = 1 << 17,
                                     .max_resp = 1 << 16,
                                     .one_way = 25,
                                     .deadline = 60,
                                     .deadline_ns = 2 * SMT_MSEC,
                                     .serve_ns = SMT_MSEC};
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    SIM_CHECK(p.net, s->timed_out > 0 && s->timed_out == s->failed, "%llu timed out",
              (unsigned long long)s->timed_out);
    pair_free(&p);
}

/* A deadline runs while the session is not even up and nobody answers. */
static void sim_deadline_before_up(void **state)
{
    struct pair p = pair_new(sim_seed(17), &clean_link, CHECKING_FAST);
    pair_start(&p);
    simnet_link(p.net, 0, 1)->drop = SIM_ALWAYS;
    struct sim_load_config config = {.n_calls = 20,
                                     .window = 20,
                                     .max_len = 4096,
                                     .deadline = 100,
                                     .deadline_ns = 3 * SMT_MSEC,
                                     .may_fail = true};
    sim_app_load(p.app, p.a, p.b, &config);
    bool done = simnet_run(p.net, p.net->now + 100 * SMT_MSEC, sim_app_done, p.app);
    SIM_CHECK(p.net, done, "deadlines passed, calls open");
    SIM_CHECK(p.net, sim_app_stats(p.app)->timed_out == 20, "not by deadline");
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_oneway),
        cmocka_unit_test(sim_both_clients),
        cmocka_unit_test(sim_cancel),
        cmocka_unit_test(sim_deadlines),
        cmocka_unit_test(sim_deadline_before_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
