/* The device's own queue: with a link of known speed it stays short, so that short messages do not
 * stand behind long ones, and the link stays full; and a message that waits for the device for
 * longer than a dead peer would be given is not one. */
#include <stdio.h>

#include "pair.h"

enum { N_HOSTS = 9, RATE = 125000000 /* 1 Gb/s */, LONG_LEN = 2 << 20 };

/* Short calls, one after the other: from one answer to the next. */
struct beside {
    struct smt_conn *conn;
    uint64_t last, worst, sum;
    unsigned n;
};

enum { N_SHORT = 500 };

static void watch(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct beside *s = arg;
    if (ev->type != SMT_EE_RESPONSE || ev->conn != s->conn)
        return;
    uint64_t took = host->net->now - s->last;
    s->last = host->net->now;
    s->worst = took > s->worst ? took : s->worst;
    s->sum += took;
    s->n++;
}

/* Beside long messages to seven hosts; *took is theirs. */
static void pace_run(uint32_t mbps, struct beside *out, uint64_t *took)
{
    struct simnet_config config = {.seed = sim_seed(120),
                                   .n_hosts = N_HOSTS,
                                   .aead = checking_aead(CHECKING_FAST),
                                   .link = clean_link};
    struct simnet *net = simnet_new(&config);
    struct sim_app *app = sim_app_new(net);
    for (unsigned i = 0; i < N_HOSTS; i++)
        net->hosts[i].rate = RATE;
    net->hosts[0].config.tune.link_mbps = mbps;
    simnet_start(net);
    struct sim_load_config load = {.n_calls = 4, .window = 2, .fixed_len = LONG_LEN, .max_resp = 1};
    uint64_t from = net->now;
    for (unsigned i = 2; i < N_HOSTS; i++)
        sim_app_load(app, &net->hosts[0], &net->hosts[i], &load);
    simnet_sleep(net, 20 * SMT_MSEC);
    load =
        (struct sim_load_config){.n_calls = N_SHORT, .window = 1, .fixed_len = 64, .max_resp = 1};
    struct sim_load *shorts = sim_app_load(app, &net->hosts[0], &net->hosts[1], &load);
    simnet_sleep(net, 5 * SMT_MSEC);
    *out = (struct beside){.conn = sim_load_conn(shorts), .last = net->now};
    sim_app_set_watch(app, watch, out);
    sim_app_finish(app, net->now + 60 * SMT_SEC);
    SIM_CHECK(net, sim_app_stats(app)->failed == 0 && out->n > N_SHORT / 4, "%u short ones",
              out->n);
    *took = net->now - from;
    simnet_free(net);
    sim_app_free(app);
}

static void sim_pace_short_beside_long(void **state)
{
    struct beside free_run, paced;
    uint64_t free_took, paced_took;
    pace_run(0, &free_run, &free_took);
    pace_run(1000, &paced, &paced_took);
    printf("    unpaced %llu us, %llu at worst, %llu ms in all; paced %llu, %llu, %llu\n",
           (unsigned long long)(free_run.sum / free_run.n / 1000),
           (unsigned long long)free_run.worst / 1000, (unsigned long long)(free_took / SMT_MSEC),
           (unsigned long long)(paced.sum / paced.n / 1000), (unsigned long long)paced.worst / 1000,
           (unsigned long long)(paced_took / SMT_MSEC));
    /* Both ways, the slack, and what leaves at one go. */
    assert_true(paced.worst < 250 * SMT_USEC && paced.sum / paced.n < 150 * SMT_USEC);
    assert_true(paced.worst * 4 < free_run.worst);
    /* And the link is as full as it was. */
    assert_true(paced_took < free_took + free_took / 20);
}

/* Two hosts, the second's message waits for all of the first's: longer than silence may last. */
static void sim_pace_waiting_is_not_silence(void **state)
{
    struct simnet_config config = {.seed = sim_seed(121),
                                   .n_hosts = 3,
                                   .aead = checking_aead(CHECKING_FAST),
                                   .link = clean_link};
    struct simnet *net = simnet_new(&config);
    struct sim_app *app = sim_app_new(net);
    net->hosts[0].rate = 12500000;
    net->hosts[0].config.tune.link_mbps = 99;
    net->hosts[0].config.tune.send_fifo_permille = 0;
    net->hosts[0].config.peer_timeout = 100 * SMT_MSEC;
    simnet_start(net);
    struct sim_load_config load = {.n_calls = 4, .window = 1, .fixed_len = 2 << 20, .max_resp = 1};
    sim_app_load(app, &net->hosts[0], &net->hosts[1], &load);
    load.n_calls = 1;
    load.fixed_len = 4 << 20;
    sim_app_load(app, &net->hosts[0], &net->hosts[2], &load);
    sim_app_finish(app, net->now + 60 * SMT_SEC);
    SIM_CHECK(net, sim_app_stats(app)->failed == 0 && sim_app_stats(app)->down == 0,
              "a session was given up");
    simnet_free(net);
    sim_app_free(app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_pace_short_beside_long),
        cmocka_unit_test(sim_pace_waiting_is_not_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
