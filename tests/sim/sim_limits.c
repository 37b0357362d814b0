/* Limits and who waits for whom: open calls, unreleased bytes, a send queue that is full, messages
 * that have to be accepted first. None of them may end in a standstill. */
#include "pair.h"

struct limits {
    uint64_t seed;
    const struct sim_link *link;
    uint32_t open_rpcs;
    uint64_t conn_bytes, bytes;
    uint64_t queue_len;
    unsigned conns;
    struct sim_load_config load;
};

/* Returns the stats of the run. */
static struct sim_app_stats limits_run(const struct limits *l)
{
    struct pair p = pair_new(l->seed, l->link, CHECKING_FAST);
    if (l->open_rpcs > 0)
        p.b->config.max_open_rpcs = l->open_rpcs;
    if (l->conn_bytes > 0)
        p.b->config.max_conn_bytes = l->conn_bytes;
    if (l->bytes > 0)
        p.b->config.max_bytes = l->bytes;
    p.a->queue_len = p.b->queue_len = l->queue_len;
    pair_start(&p);
    for (unsigned i = 0; i < l->conns; i++)
        sim_app_load(p.app, p.a, p.b, &l->load);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    struct sim_app_stats stats = *sim_app_stats(p.app);
    SIM_CHECK(p.net, stats.failed == 0, "failures");
    if (l->open_rpcs > 0)
        SIM_CHECK(p.net, stats.max_serving <= l->open_rpcs * l->conns, "%u calls served at once",
                  stats.max_serving);
    uint64_t most = l->bytes > 0 ? l->bytes : l->conn_bytes * l->conns;
    if (most > 0 && l->load.max_resp == 0)
        SIM_CHECK(p.net, stats.max_held_bytes <= most, "%llu bytes held",
                  (unsigned long long)stats.max_held_bytes);
    pair_free(&p);
    return stats;
}

/* The server takes eight calls at a time: the client is told to wait and woken up again. */
static void sim_backpressure_open_calls(void **state)
{
    struct limits l = {.seed = sim_seed(50),
                       .link = &clean_link,
                       .open_rpcs = 8,
                       .conns = 1,
                       .load = {.n_calls = 1000,
                                .window = 100,
                                .max_len = 1 << 13,
                                .max_resp = 1 << 13,
                                .serve_ns = SMT_MSEC}};
    struct sim_app_stats s = limits_run(&l);
    assert_true(s.eagain > 0 && s.writable > 0);
    l.link = &lossy_link;
    l.load.one_way = 50;
    limits_run(&l);
}

/* The server's application gives memory back late. */
static void sim_backpressure_bytes(void **state)
{
    struct limits l = {.seed = sim_seed(51),
                       .link = &clean_link,
                       .conn_bytes = 1 << 18,
                       .conns = 1,
                       .load = {.n_calls = 1000,
                                .window = 100,
                                .max_len = 1 << 17,
                                .one_way = 100,
                                .hold_ns = 5 * SMT_MSEC}};
    struct sim_app_stats s = limits_run(&l);
    assert_true(s.eagain > 0 && s.writable > 0);
    l.link = &lossy_link;
    limits_run(&l);
    l.load.one_way = 50;
    limits_run(&l);
}

/* Several sessions share the endpoint's memory: none starves. */
static void sim_credit_of_the_endpoint(void **state)
{
    struct limits l = {.seed = sim_seed(52),
                       .link = &clean_link,
                       .conn_bytes = 1 << 18,
                       .bytes = 1 << 19,
                       .conns = 8,
                       .load = {.n_calls = (uint32_t)sim_scaled(300),
                                .window = 20,
                                .max_len = 1 << 16,
                                .one_way = 100,
                                .hold_ns = 3 * SMT_MSEC}};
    limits_run(&l);
    l.link = &lossy_link;
    limits_run(&l);
}

/* One open call, and one message's worth of bytes: still everything gets through. */
static void sim_credit_of_one(void **state)
{
    struct limits l = {.seed = sim_seed(53),
                       .link = &lossy_link,
                       .open_rpcs = 1,
                       .conn_bytes = 1 << 16,
                       .conns = 2,
                       .load = {.n_calls = (uint32_t)sim_scaled(300),
                                .window = 10,
                                .max_len = 1 << 15,
                                .max_resp = 1 << 15,
                                .one_way = 30,
                                .serve_ns = 300 * SMT_USEC,
                                .hold_ns = 300 * SMT_USEC}};
    limits_run(&l);
}

/* The device's queue holds two packets. */
static void sim_backpressure_of_the_device(void **state)
{
    struct limits l = {.seed = sim_seed(54),
                       .link = &clean_link,
                       .queue_len = 3200,
                       .conns = 2,
                       .load = {.n_calls = (uint32_t)sim_scaled(500),
                                .window = 32,
                                .max_len = 1 << 18,
                                .max_resp = 1 << 18,
                                .one_way = 30}};
    limits_run(&l);
    l.link = &lossy_link;
    limits_run(&l);
}

/* ---- INCOMING ---- */

static struct sim_app_stats incoming_run(uint64_t seed, const struct sim_link *link,
                                         enum sim_incoming policy)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    p.a->config.accept_len = p.b->config.accept_len = 20000;
    pair_start(&p);
    sim_app_set_incoming(p.app, policy, 5 * SMT_MSEC);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(500),
                                     .window = 16,
                                     .max_len = 1 << 18,
                                     .max_resp = 1 << 18,
                                     .one_way = 30,
                                     .own_buffer = 20};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    struct sim_app_stats s = *sim_app_stats(p.app);
    SIM_CHECK(p.net, s.incoming > 0, "no INCOMING");
    if (policy != SIM_REJECT && policy != SIM_MIX)
        SIM_CHECK(p.net, s.failed == 0, "failures");
    pair_free(&p);
    return s;
}

static void sim_incoming_accepted(void **state)
{
    incoming_run(sim_seed(55), &clean_link, SIM_ACCEPT_LIB);
    incoming_run(sim_seed(56), &clean_link, SIM_ACCEPT_OWN);
    incoming_run(sim_seed(57), &lossy_link, SIM_ACCEPT_OWN);
}

static void sim_incoming_rejected(void **state)
{
    struct sim_app_stats s = incoming_run(sim_seed(58), &clean_link, SIM_REJECT);
    assert_int_equal(s.incoming, s.failed);
    incoming_run(sim_seed(59), &lossy_link, SIM_REJECT);
}

static void sim_incoming_accepted_late(void **state)
{
    incoming_run(sim_seed(60), &clean_link, SIM_ACCEPT_LATE);
    incoming_run(sim_seed(61), &lossy_link, SIM_ACCEPT_LATE);
    incoming_run(sim_seed(62), &lossy_link, SIM_MIX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_backpressure_open_calls),
        cmocka_unit_test(sim_backpressure_bytes),
        cmocka_unit_test(sim_backpressure_of_the_device),
        cmocka_unit_test(sim_credit_of_the_endpoint),
        cmocka_unit_test(sim_credit_of_one),
        cmocka_unit_test(sim_incoming_accepted),
        cmocka_unit_test(sim_incoming_rejected),
        cmocka_unit_test(sim_incoming_accepted_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
