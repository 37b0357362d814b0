/* Keys that change under traffic and loss: nothing is lost, nothing comes later than a lost packet
 * makes it, and no number is sealed twice (the checking cipher looks on). */
#include "attack.h"

#include "../sim/pair.h"

static const struct sim_link five_percent = {.delay = 10 * SMT_USEC, .drop = 500};

struct run {
    uint64_t ns;
    uint32_t epochs;
};

static struct run run(uint64_t rekey_records, uint32_t n_calls)
{
    struct pair p = pair_new(sim_seed(270), &five_percent, CHECKING_FAST);
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
    const struct run r = {p.net->now - began, conn->keys.now.number};
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, checking_aead_stats().violations == 0, "a number sealed twice");
    pair_free(&p);
    return r;
}

/* 100,000 RPCs at 5 % loss, a new epoch each 1,000 records. The same run without takes as long. */
static void rekey_every_1000_records(void **state)
{
    (void)state;
    uint32_t n = (uint32_t)sim_scaled(100000);
    struct run with = run(1000, n), without = run(0, n);
    print_message("    %u RPCs: %u epochs, %.1f ms; without %.1f ms\n", n, with.epochs,
                  (double)with.ns / 1e6, (double)without.ns / 1e6);
    assert_in_range(with.epochs, n / 1500, n / 200);
    assert_int_equal(without.epochs, 1);
    assert_in_range(with.ns, 0, without.ns + without.ns / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rekey_every_1000_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
