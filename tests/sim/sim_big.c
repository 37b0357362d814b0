/* One very long message in packets of 1,500 bytes: 256 MiB always, 1 GiB with SMT_TEST_ALL=1. */
#include <stdio.h>

#include "pair.h"

static void big_run(uint32_t len, bool one_way, const struct sim_link *link)
{
    struct pair p = pair_new(sim_seed(70), link, CHECKING_FAST);
    p.a->rate = p.b->rate = 12500000000;
    pair_start(&p);
    uint64_t memory = smt_engine_memory(p.b->engine);
    struct sim_load_config config = {
        .n_calls = 1, .window = 1, .fixed_len = len, .max_resp = 64, .one_way = one_way ? 100 : 0};
    sim_app_load(p.app, p.a, p.b, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    /* A buffer of up to 64 MiB may be kept for the next message, and not a byte more. */
    SIM_CHECK(p.net, smt_engine_memory(p.b->engine) <= memory + (64 << 20), "memory %llu, was %llu",
              (unsigned long long)smt_engine_memory(p.b->engine), (unsigned long long)memory);
    printf("    %u MiB: %.2f M packets, %.1f Gbit/s of virtual time\n", len >> 20,
           (double)p.net->n_packets / 1e6, (double)len * 8 / (double)(p.net->now - SMT_SEC));
    pair_free(&p);
}

static void sim_big_message_of_256_mib(void **state)
{
    big_run((uint32_t)sim_scaled(256) << 20, true, &clean_link);
}

static void sim_big_message_under_loss(void **state)
{
    big_run((uint32_t)sim_scaled(32) << 20, false, &lossy_link);
}

static void sim_big_message_of_1_gib(void **state)
{
    if (getenv("SMT_TEST_ALL") == NULL)
        skip();
    big_run(1u << 30, false, &clean_link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_big_message_of_256_mib),
        cmocka_unit_test(sim_big_message_under_loss),
        cmocka_unit_test(sim_big_message_of_1_gib),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
