/* Things that change while a message is under way: the lent bytes, the path's packet limit, the
 * keys. The checking cipher fails the run when a (key, nonce) seals two byte strings. */
#include "pair.h"

static void sim_mutating_buffers_never_reuse_a_nonce(void **state)
{
    struct pair p = pair_new(sim_seed(30), &lossy_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(500),
                                     .window = 32,
                                     .max_len = 1 << 18,
                                     .max_resp = 1 << 18,
                                     .one_way = 30,
                                     .mutate = true};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, checking_aead_stats().violations == 0, "nonce reuse");
    pair_free(&p);
}

struct mtu_game {
    struct pair *p;
    unsigned turns;
};

/* The path, or the device, takes another packet length from now on. */
static void mtu_turn(void *arg, struct simnet *net)
{
    struct mtu_game *g = arg;
    static const uint32_t lens[] = {1472, 1024, 1300, 4000, 1232, 1040, 8972};
    uint32_t len = lens[smt_prng_below(&net->rng, SMT_ARRAY_LEN(lens))];
    unsigned from = (unsigned)smt_prng_below(&net->rng, 2);
    simnet_link(net, from, 1 - from)->mtu = len;
    if (smt_prng_below(&net->rng, 3) == 0)
        net->hosts[from].mtu = len;
    if (g->turns-- > 0)
        simnet_at(net, net->now + 1 + smt_prng_below(&net->rng, 20 * SMT_MSEC), mtu_turn, g);
}

static void mtu_run(uint64_t seed, const struct sim_link *link)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    p.a->mtu = p.b->mtu = 8972;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(400),
                                     .window = 16,
                                     .max_len = 1 << 20,
                                     .max_resp = 1 << 18,
                                     .one_way = 30};
    struct mtu_game game = {.p = &p, .turns = 200};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    simnet_at(p.net, p.net->now + SMT_MSEC, mtu_turn, &game);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, checking_aead_stats().violations == 0, "nonce reuse");
    pair_free(&p);
}

static void sim_mtu_changes_under_way(void **state)
{
    mtu_run(sim_seed(31), &clean_link);
    mtu_run(sim_seed(32), &lossy_link);
}

/* A path that takes 9,000 bytes is used as such; one that takes less than the device says is found
 * out. */
static void mtu_found(uint32_t device, uint32_t path, uint32_t at_least)
{
    struct sim_link link = clean_link;
    link.mtu = path;
    struct pair p = pair_new(sim_seed(33), &link, CHECKING_FAST);
    p.a->mtu = p.b->mtu = device;
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    struct sim_load_config config = {.n_calls = 20,
                                     .window = 2,
                                     .fixed_len = 1 << 20,
                                     .max_resp = 64,
                                     .serve_ns = 20 * SMT_MSEC};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    simnet_sleep(p.net, 5 * SMT_SEC);
    struct smt_conn_stats stats;
    smt_conn_stats(conn, &stats);
    SIM_CHECK(p.net, stats.mtu >= at_least && stats.mtu <= path,
              "mtu %u on a path of %u, device %u", stats.mtu, path, device);
    pair_free(&p);
}

static void sim_mtu_is_found(void **state)
{
    mtu_found(1472, 1472, 1472);
    mtu_found(8972, 8972, 8900);
    mtu_found(8972, 1472, 1440);
    mtu_found(8972, 1280, 1232);
    mtu_found(8972, 1024, 1024);
    mtu_found(1024, 8972, 1024);
}

/* The path shrinks for good while both ends send long and short messages, in one direction or both:
 * what still passes (control, short messages, all of the other direction) does not hide that long
 * packets vanish. */
static void shrink_run(uint64_t seed, bool both)
{
    struct pair p = pair_new(seed, &clean_link, CHECKING_FAST);
    p.a->mtu = p.b->mtu = 8972;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config longs = {
        .n_calls = 200, .window = 8, .fixed_len = 1 << 17, .max_resp = 1 << 10, .one_way = 50};
    struct sim_load_config shorts = {
        .n_calls = 3000, .window = 4, .fixed_len = 200, .max_resp = 64};
    sim_app_load_on(p.app, p.a, conn, &longs);
    sim_app_load_on(p.app, p.a, conn, &shorts);
    sim_app_load_on(p.app, p.b, back, &longs);
    sim_app_load_on(p.app, p.b, back, &shorts);
    simnet_sleep(p.net, 2 * SMT_MSEC);
    simnet_link(p.net, 0, 1)->mtu = 1400;
    if (both)
        simnet_link(p.net, 1, 0)->mtu = 1400;
    sim_app_finish(p.app, p.net->now + 5 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

static void sim_mtu_shrinks_for_good(void **state)
{
    shrink_run(sim_seed(37), false);
    shrink_run(sim_seed(38), true);
}

/* A path that grew is found within the time after which paths are looked at again. */
static void sim_mtu_grows_again(void **state)
{
    struct sim_link link = clean_link;
    link.mtu = 1300;
    struct pair p = pair_new(sim_seed(36), &link, CHECKING_FAST);
    p.a->mtu = p.b->mtu = 8972;
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    struct sim_load_config config = {
        .n_calls = 10, .window = 2, .fixed_len = 1 << 18, .max_resp = 64};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    simnet_sleep(p.net, 5 * SMT_SEC);
    struct smt_conn_stats stats;
    smt_conn_stats(conn, &stats);
    SIM_CHECK(p.net, stats.mtu <= 1300, "mtu %u", stats.mtu);
    link.mtu = 8972;
    simnet_set_links(p.net, &link);
    simnet_sleep(p.net, 1300 * SMT_SEC);
    smt_conn_stats(conn, &stats);
    SIM_CHECK(p.net, stats.mtu > 8900, "mtu %u", stats.mtu);
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    pair_free(&p);
}

static void sim_rekey_under_loss(void **state)
{
    struct pair p = pair_new(sim_seed(34), &lossy_link, CHECKING_FAST);
    p.a->config.rekey_records = 1000;
    p.b->config.rekey_records = 1500;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(3000),
                                     .window = 64,
                                     .max_len = 1 << 17,
                                     .max_resp = 1 << 15,
                                     .one_way = 30,
                                     .serve_ns = SMT_MSEC};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    struct smt_conn_stats stats;
    smt_conn_stats(conn, &stats);
    SIM_CHECK(p.net, stats.epoch >= 5, "epoch %u after %llu seals", stats.epoch,
              (unsigned long long)checking_aead_stats().seals);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

/* Enough epochs for the byte in the header to come round, some asked for by both ends at once. */
static void ask_rekey(void *arg, struct simnet *net)
{
    struct smt_conn **ends = arg;
    for (unsigned i = 0; i < 2; i++) {
        if (smt_prng_below(&net->rng, 3) == 0)
            continue;
        int err = smt_conn_rekey(ends[i]);
        SIM_CHECK(net, err == 0 || err == SMT_EAGAIN || err == SMT_ESTATE, "smt_conn_rekey: %d",
                  err);
        simnet_poke(&net->hosts[i]);
    }
    struct smt_conn_stats stats;
    smt_conn_stats(ends[0], &stats);
    if (stats.epoch < 300)
        simnet_at(net, net->now + 100 * SMT_USEC, ask_rekey, ends);
}

static void sim_rekey_past_256_epochs(void **state)
{
    struct pair p = pair_new(sim_seed(35), &lossy_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *ends[2];
    ends[0] = pair_connect(&p, &ends[1]);
    struct sim_load_config config = {
        .n_calls = 20000, .window = 8, .max_len = 1 << 12, .max_resp = 1 << 12};
    sim_app_load_on(p.app, p.a, ends[0], &config);
    sim_app_load_on(p.app, p.b, ends[1], &config);
    simnet_at(p.net, p.net->now, ask_rekey, ends);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    struct smt_conn_stats stats;
    smt_conn_stats(ends[0], &stats);
    SIM_CHECK(p.net, stats.epoch >= 300, "epoch %u", stats.epoch);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_mutating_buffers_never_reuse_a_nonce),
        cmocka_unit_test(sim_mtu_changes_under_way),
        cmocka_unit_test(sim_mtu_is_found),
        cmocka_unit_test(sim_mtu_shrinks_for_good),
        cmocka_unit_test(sim_mtu_grows_again),
        cmocka_unit_test(sim_rekey_under_loss),
        cmocka_unit_test(sim_rekey_past_256_epochs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
