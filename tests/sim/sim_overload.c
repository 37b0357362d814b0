/* Hosts whose processors are far too slow for what all their peers want at once: nobody may be so
 * busy asking that nothing is answered. */
#include <stdio.h>

#include "pair.h"

enum { N_CONNS = 1000, TAKES_NS = 500 * 1000, MAX_WAITING = 500 };

static bool all_up(void *arg)
{
    struct pair *p = arg;
    return sim_app_stats(p->app)->up >= 2 * N_CONNS;
}

/* 1,000 sessions, then one small call on each at once, on hosts that take a packet in 0.5 ms and
 * keep 500 waiting. Whoever asks without an answer asks less and less: seen in a virtual machine,
 * where probes, NEED_ACK and RESEND of all sessions left no time for the calls. */
static void sim_overload_1000_calls_at_once(void **state)
{
    struct pair p = pair_new(sim_seed(40), &clean_link, CHECKING_FAST);
    p.a->config.peer_timeout = p.b->config.peer_timeout = 5 * SMT_SEC;
    pair_start(&p);
    struct smt_conn **conns = calloc(N_CONNS, sizeof(*conns));
    assert_non_null(conns);
    for (unsigned i = 0; i < N_CONNS; i++)
        conns[i] = simnet_connect(p.a, p.b);
    SIM_CHECK(p.net, simnet_run(p.net, p.net->now + 60 * SMT_SEC, all_up, &p), "sessions");
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    for (unsigned i = 0; i < 2; i++) {
        p.net->hosts[i].packet_ns = TAKES_NS;
        p.net->hosts[i].max_waiting = MAX_WAITING;
    }
    struct sim_load_config config = {.n_calls = 1, .window = 1, .max_len = 64, .max_resp = 64};
    uint64_t begin = p.net->now, sent[2] = {p.a->n_sent, p.b->n_sent};
    for (unsigned i = 0; i < N_CONNS; i++)
        sim_app_load_on(p.app, p.a, conns[i], &config);
    bool done = simnet_run(p.net, begin + 60 * SMT_SEC, sim_app_done, p.app);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    printf("    %llu calls answered, %llu failed in %.2f s; packets: %llu and %llu, dropped %llu\n",
           (unsigned long long)s->responses, (unsigned long long)s->failed,
           (double)(p.net->now - begin) / 1e9, (unsigned long long)(p.a->n_sent - sent[0]),
           (unsigned long long)(p.b->n_sent - sent[1]), (unsigned long long)p.net->n_dropped);
    uint64_t n_sent = p.a->n_sent + p.b->n_sent - sent[0] - sent[1];
    static const char *const names[] = {"need_acks_sent", "resends_sent", "mtu_probes",
                                        "mtu_black_holes", "marks_sent", "unknown_sent"};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(names); i++)
        printf("    %s: %llu and %llu\n", names[i],
               (unsigned long long)sim_counter(p.a->engine, names[i]),
               (unsigned long long)sim_counter(p.b->engine, names[i]));
    SIM_CHECK(p.net, done && s->failed == 0, "not all were answered");
    /* At least nine are needed: request, response, DONE, and a mark and a probe with their answers
     * each way. */
    SIM_CHECK(p.net, n_sent < 40 * N_CONNS, "%llu packets", (unsigned long long)n_sent);
    SIM_CHECK(p.net, sim_counter_sum(p.a->engine, "mtu_black") == 0, "what was lost in a queue");
    SIM_CHECK(p.net, sim_counter_sum(p.b->engine, "mtu_black") == 0, "what was lost in a queue");
    free(conns);
    simnet_settle(p.net, p.net->now + 60 * SMT_SEC);
    pair_free(&p);
}

/* One session, 10,000 calls at once, four in five of the requests lost to a short queue: each is
 * missed at the same moment. They are asked about as fast as answers come, not some each patience;
 * that took 19 s. */
static void sim_overload_10000_calls_of_one_session(void **state)
{
    enum { N_CALLS = 10000, QUEUE = 2000 };
    struct pair p = pair_new(sim_seed(41), &clean_link, CHECKING_FAST);
    p.a->config.max_open_rpcs = p.b->config.max_open_rpcs = N_CALLS;
    pair_start(&p);
    struct smt_conn *conn = simnet_connect(p.a, p.b);
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    p.net->hosts[1].packet_ns = 1000;
    p.net->hosts[1].max_waiting = QUEUE;
    struct sim_load_config config = {
        .n_calls = N_CALLS, .window = N_CALLS, .max_len = 64, .max_resp = 64};
    uint64_t begin = p.net->now;
    sim_app_load_on(p.app, p.a, conn, &config);
    bool done = simnet_run(p.net, begin + 60 * SMT_SEC, sim_app_done, p.app);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    printf("    %llu calls answered, %llu failed in %.3f s; dropped %llu; asked %llu times\n",
           (unsigned long long)s->responses, (unsigned long long)s->failed,
           (double)(p.net->now - begin) / 1e9, (unsigned long long)p.net->n_dropped,
           (unsigned long long)sim_counter(p.a->engine, "resends_sent"));
    SIM_CHECK(p.net, done && s->failed == 0, "not all were answered");
    SIM_CHECK(p.net, p.net->n_dropped > N_CALLS / 2, "the queue took them");
    SIM_CHECK(p.net, p.net->now - begin < 2 * SMT_SEC, "lost requests waited for each other");
    simnet_settle(p.net, p.net->now + 60 * SMT_SEC);
    pair_free(&p);
}

/* A call on each of 2,000 sessions, and nothing passes while their requests and first questions are
 * sent: each has been asked about once, without an answer. That is no silence of the peer, however
 * long the sessions wait until they may ask again; and as they are answered, they wait little. */
static void sim_overload_2000_sessions_after_a_dark_moment(void **state)
{
    enum { N = 2000, DARK = 60 };
    struct pair p = pair_new(sim_seed(42), &clean_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn **conns = calloc(N, sizeof(*conns));
    assert_non_null(conns);
    for (unsigned i = 0; i < N; i++)
        conns[i] = simnet_connect(p.a, p.b);
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    uint64_t begin = p.net->now;
    struct sim_link dark = clean_link;
    dark.dark_from = begin;
    dark.dark_until = begin + DARK * SMT_MSEC;
    simnet_set_links(p.net, &dark);
    struct sim_load_config config = {.n_calls = 1, .window = 1, .max_len = 64, .max_resp = 64};
    for (unsigned i = 0; i < N; i++)
        sim_app_load_on(p.app, p.a, conns[i], &config);
    bool done = simnet_run(p.net, begin + 60 * SMT_SEC, sim_app_done, p.app);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    printf("    %llu calls answered, %llu failed in %.3f s; asked %llu times\n",
           (unsigned long long)s->responses, (unsigned long long)s->failed,
           (double)(p.net->now - begin) / 1e9,
           (unsigned long long)sim_counter(p.a->engine, "resends_sent"));
    SIM_CHECK(p.net, done && s->failed == 0, "not all were answered");
    SIM_CHECK(p.net, p.net->now - begin < SMT_SEC, "they waited for each other");
    free(conns);
    simnet_settle(p.net, p.net->now + 60 * SMT_SEC);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_overload_1000_calls_at_once),
        cmocka_unit_test(sim_overload_10000_calls_of_one_session),
        cmocka_unit_test(sim_overload_2000_sessions_after_a_dark_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
