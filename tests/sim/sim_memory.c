/* Memory that is short, between hosts: one that takes all it can get and never sends the rest costs
 * the others little, and what was refused comes when there is room again. */
#include <stdio.h>

#include "core/state.h"
#include "pair.h"

enum { SERVER, GREEDY, POLITE, N_HOSTS, GREEDY_CONNS = 20, MEMORY = 2 << 20 };

struct greed {
    bool on;
    uint64_t n_held_back;
};

/* Small packets pass, so it answers whatever it is asked; data do not. */
static enum sim_verdict hold_back(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct greed *g = arg;
    if (!g->on || pkt->from != GREEDY || pkt->len < 400)
        return SIM_PASS;
    g->n_held_back++;
    return SIM_DROP;
}

static uint64_t held_of(const struct simnet *net, unsigned host)
{
    struct smt_memory *m = &net->hosts[SERVER].engine->memory;
    struct smt_memory_host *h = smt_memory_host_get(m, &net->hosts[host].addr);
    assert_non_null(h);
    uint64_t held = h->held;
    smt_memory_host_drop(m, h);
    return held;
}

static bool is_done(void *load)
{
    return sim_load_done(load) == (uint32_t)sim_scaled(1000);
}

/* Calls of the polite host: how long they took. */
static uint64_t polite_run(struct simnet *net, struct sim_app *app)
{
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(1000),
                                     .window = 10,
                                     .max_len = 1 << 16,
                                     .max_resp = 1 << 10,
                                     .serve_ns = 20 * SMT_USEC};
    uint64_t from = net->now;
    struct sim_load *load = sim_app_load(app, &net->hosts[POLITE], &net->hosts[SERVER], &config);
    bool done = simnet_run(net, from + 60 * SMT_SEC, is_done, load);
    SIM_CHECK(net, done, "%u calls done", sim_load_done(load));
    return net->now - from;
}

static uint64_t memory_run(uint64_t seed, const struct sim_link *link)
{
    struct simnet_config config = {
        .seed = seed, .n_hosts = N_HOSTS, .aead = checking_aead(CHECKING_FAST), .link = *link};
    struct simnet *net = simnet_new(&config);
    struct sim_app *app = sim_app_new(net);
    struct sim_host *server = &net->hosts[SERVER];
    struct greed greed = {.on = false};
    net->hook = hold_back;
    net->hook_arg = &greed;
    server->config.max_bytes = MEMORY;
    server->config.max_conn_bytes = MEMORY / 2;
    simnet_start(net);
    uint64_t alone = polite_run(net, app);

    struct sim_load_config grab = {
        .n_calls = 40, .window = 20, .fixed_len = 50000, .one_way = 100, .hold_ns = SMT_MSEC};
    for (unsigned i = 0; i < GREEDY_CONNS; i++)
        sim_app_load(app, &net->hosts[GREEDY], server, &grab);
    simnet_sleep(net, 2 * SMT_MSEC);
    greed.on = true;
    simnet_sleep(net, 20 * SMT_MSEC);
    uint64_t held = held_of(net, GREEDY);
    /* A half, and the message that passed it. */
    SIM_CHECK(net, held > MEMORY / 4 && held < MEMORY / 2 + grab.fixed_len, "%llu bytes held",
              (unsigned long long)held);
    SIM_CHECK(net, greed.n_held_back > 0, "nothing was held back");
    uint64_t beside = polite_run(net, app);
    /* Where packets are lost, one call that loses several in a row is a good part of either. */
    uint64_t slack = link->drop > 0 ? 500 * SMT_MSEC : 0;
    SIM_CHECK(net, beside < 2 * alone + slack, "%llu us, alone %llu us",
              (unsigned long long)beside / 1000, (unsigned long long)alone / 1000);
    SIM_CHECK(net, sim_counter(server->engine, "memory_waits") > 0, "nobody waited");
    simnet_sleep(net, 500 * SMT_MSEC);
    SIM_CHECK(net, sim_counter(server->engine, "memory_taken_back") > 0, "nothing taken back");

    greed.on = false;
    sim_app_finish(app, net->now + 600 * SMT_SEC);
    SIM_CHECK(net, sim_app_stats(app)->failed == 0, "failures");
    SIM_CHECK(net, sim_counter(server->engine, "memory_given") > 0, "none was given later");
    printf("    greedy holds %llu KB, polite %llu us alone, %llu us beside it\n",
           (unsigned long long)held >> 10, (unsigned long long)alone / 1000,
           (unsigned long long)beside / 1000);
    uint64_t trace = net->trace;
    simnet_free(net);
    sim_app_free(app);
    return trace;
}

static void sim_memory_of_a_greedy_host(void **state)
{
    uint64_t trace = memory_run(sim_seed(110), &clean_link);
    assert_true(memory_run(sim_seed(110), &clean_link) == trace);
    memory_run(sim_seed(111), &lossy_link);
}

/* Far too little for what is on its way at once, and given back late: all of it comes, whoever sent
 * it. */
static void sim_memory_for_few_of_many(void **state)
{
    struct simnet_config config = {.seed = sim_seed(112),
                                   .n_hosts = 9,
                                   .aead = checking_aead(CHECKING_FAST),
                                   .link = lossy_link};
    struct simnet *net = simnet_new(&config);
    struct sim_app *app = sim_app_new(net);
    net->hosts[SERVER].config.max_bytes = 1 << 18;
    net->hosts[SERVER].config.accept_len = 30000;
    simnet_start(net);
    sim_app_set_incoming(app, SIM_ACCEPT_LIB, 0);
    struct sim_load_config load = {.n_calls = (uint32_t)sim_scaled(200),
                                   .window = 20,
                                   .max_len = 1 << 16,
                                   .one_way = 50,
                                   .hold_ns = 500 * SMT_USEC,
                                   .cancel = 5,
                                   .cancel_ns = 5 * SMT_MSEC};
    for (unsigned i = 1; i < net->n_hosts; i++)
        sim_app_load(app, &net->hosts[i], &net->hosts[SERVER], &load);
    sim_app_finish(app, net->now + 600 * SMT_SEC);
    SIM_CHECK(net, sim_counter(net->hosts[SERVER].engine, "memory_waits") > 0, "nobody waited");
    SIM_CHECK(net, sim_app_stats(app)->max_held_bytes <= 1 << 18, "%llu bytes held",
              (unsigned long long)sim_app_stats(app)->max_held_bytes);
    simnet_free(net);
    sim_app_free(app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_memory_of_a_greedy_host),
        cmocka_unit_test(sim_memory_for_few_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
