/* Keys that change under traffic and loss: nothing is lost, nothing comes later than lost packets
 * make it, and no number is sealed twice (the checking cipher looks on). */
#include "attack.h"

#include "../sim/pair.h"

static const struct sim_link five_percent = {.delay = 10 * SMT_USEC, .drop = 500};

struct run {
    uint64_t ns, longest;
    uint32_t epochs;
};

static struct run run(uint64_t seed, const struct sim_link *link, uint64_t rekey_records,
                      uint32_t n_calls)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    p.a->config.rekey_records = p.b->config.rekey_records = rekey_records;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    const struct sim_load_config config = {
        .n_calls = n_calls / 2, .window = 32, .max_len = 1 << 9, .max_resp = 1 << 9, .one_way = 10};
    uint64_t began = p.net->now;
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    const struct run r = {p.net->now - began, sim_app_stats(p.app)->max_ns,
                          conn->keys.now.number};
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, checking_aead_stats().violations == 0, "a number sealed twice");
    pair_free(&p);
    return r;
}

/* 100,000 RPCs, a new epoch each 1,000 records. The same run without takes as long, and so does its
 * longest call: a new key makes nobody wait, whatever packet brings it and whether it arrives. */
static void rekey_run(uint64_t seed, const struct sim_link *link)
{
    uint32_t n = (uint32_t)sim_scaled(100000);
    struct run with = run(seed, link, 1000, n), without = run(seed, link, 0, n);
    print_message("    %u RPCs: %u epochs, %.1f ms, longest call %.1f ms; without %.1f, %.1f\n", n,
                  with.epochs, (double)with.ns / 1e6, (double)with.longest / 1e6,
                  (double)without.ns / 1e6, (double)without.longest / 1e6);
    assert_in_range(with.epochs, n / 1500, n / 200);
    assert_int_equal(without.epochs, 1);
    assert_in_range(with.ns, 0, without.ns + without.ns / 10);
    assert_in_range(with.longest, 0, without.longest + without.longest / 10 + SMT_MSEC);
}

static void rekey_every_1000_records(void **state)
{
    (void)state;
    rekey_run(sim_seed(270), &five_percent);
}

/* Also where packets of two epochs, and of three, overtake each other and come twice. */
static void rekey_while_packets_change_places(void **state)
{
    (void)state;
    rekey_run(sim_seed(271), &lossy_link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rekey_every_1000_records),
        cmocka_unit_test(rekey_while_packets_change_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
