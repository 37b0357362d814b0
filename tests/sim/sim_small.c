/* Links of 1,024 bytes, as RoCE makes them of an Ethernet of 1,500: everything the protocol does
 * must fit, between two of them, with one at one end only, and while links change their size. */
#include "pair.h"
#include "wire/wire.h"

enum { SMALL = 1024, LARGE = 8972 };

struct sizes {
    uint32_t from_a, from_b; /* longest packet seen, all kinds */
};

static enum sim_verdict watch_sizes(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct sizes *s = arg;
    uint32_t *most = pkt->from == 0 ? &s->from_a : &s->from_b;
    if (pkt->len > *most)
        *most = pkt->len;
    return SIM_PASS;
}

/* A port takes nothing longer than its own size, so the smaller one bounds both directions. */
static void ports_set(struct pair *p, uint32_t a, uint32_t b)
{
    uint32_t path = a < b ? a : b;
    p->a->mtu = a;
    p->b->mtu = b;
    simnet_link(p->net, 0, 1)->mtu = path;
    simnet_link(p->net, 1, 0)->mtu = path;
}

static struct pair small_pair(uint64_t seed, const struct sim_link *link, uint32_t a, uint32_t b)
{
    struct pair p = pair_new(seed, link, CHECKING_FAST);
    ports_set(&p, a, b);
    p.a->config.handshake_timeout = p.b->config.handshake_timeout = 60 * SMT_SEC;
    return p;
}

/* Certificates of any length, over clean and lossy links: up, and no packet too long. */
static void handshake_run(uint64_t seed, const struct sim_link *link, uint32_t pad, uint32_t a,
                          uint32_t b)
{
    struct pair p = small_pair(seed, link, a, b);
    struct sizes sizes = {0};
    p.net->hook = watch_sizes;
    p.net->hook_arg = &sizes;
    p.net->hs_pad = pad;
    pair_start(&p);
    uint64_t from = p.net->now;
    pair_connect(&p, NULL);
    simnet_sleep(p.net, 100 * SMT_MSEC);
    SIM_CHECK(p.net, sizes.from_a <= SMALL && sizes.from_b <= SMALL, "packets of %u and %u bytes",
              sizes.from_a, sizes.from_b);
    SIM_CHECK(p.net, link->drop > 0 || p.net->now - from < 110 * SMT_MSEC, "took %llu us",
              (unsigned long long)(p.net->now - from) / 1000);
    pair_free(&p);
}

static void sim_small_handshakes(void **state)
{
    static const uint32_t pads[] = {0, 300, 948, 1200, 4000, 15000, 30000};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(pads); i++) {
        handshake_run(sim_seed(300) + i, &clean_link, pads[i], SMALL, SMALL);
        handshake_run(sim_seed(310) + i, &clean_link, pads[i], LARGE, SMALL);
        handshake_run(sim_seed(320) + i, &clean_link, pads[i], SMALL, LARGE);
        for (unsigned k = 0; k < 10; k++)
            handshake_run(sim_seed(330) + 10 * i + k, &lossy_link, pads[i], SMALL, SMALL);
    }
}

/* Calls of 0 bytes to 4 MiB both ways under loss. Nothing longer than the link is even tried. */
static void sim_small_lossy_calls(void **state)
{
    struct pair p = small_pair(sim_seed(340), &lossy_link, SMALL, SMALL);
    struct sizes sizes = {0};
    p.net->hook = watch_sizes;
    p.net->hook_arg = &sizes;
    p.net->hs_pad = 3000;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(1500),
                                     .window = 32,
                                     .max_len = 4 << 20,
                                     .max_resp = 1 << 16,
                                     .one_way = 20,
                                     .own_buffer = 30,
                                     .serve_ns = 200 * SMT_USEC};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 3600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, checking_aead_stats().violations == 0, "nonce reuse");
    SIM_CHECK(p.net, sizes.from_a <= SMALL && sizes.from_b <= SMALL, "packets of %u and %u bytes",
              sizes.from_a, sizes.from_b);
    SIM_CHECK(p.net, sim_counter(p.a->engine, "mtu_probes") == 0, "a probe above the link");
    pair_free(&p);
}

/* One end has a large link and the other a small one: the large end finds out. */
static void asymmetric_run(uint64_t seed, const struct sim_link *link, uint32_t a, uint32_t b)
{
    struct pair p = small_pair(seed, link, a, b);
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(300),
                                     .window = 16,
                                     .max_len = 1 << 20,
                                     .max_resp = 1 << 18,
                                     .one_way = 20};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    sim_app_finish(p.app, p.net->now + 3600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    simnet_sleep(p.net, 5 * SMT_SEC);
    struct smt_conn_stats stats[2];
    smt_conn_stats(conn, &stats[0]);
    smt_conn_stats(back, &stats[1]);
    SIM_CHECK(p.net, stats[0].mtu == SMALL && stats[1].mtu == SMALL, "mtu %u and %u", stats[0].mtu,
              stats[1].mtu);
    pair_free(&p);
}

static void sim_small_at_one_end(void **state)
{
    asymmetric_run(sim_seed(350), &clean_link, LARGE, SMALL);
    asymmetric_run(sim_seed(351), &clean_link, SMALL, LARGE);
    asymmetric_run(sim_seed(352), &clean_link, 4096, SMALL);
    asymmetric_run(sim_seed(353), &lossy_link, LARGE, SMALL);
    asymmetric_run(sim_seed(354), &lossy_link, SMALL, 2048);
}

struct game {
    struct pair *p;
    unsigned turns;
};

/* One end's interface gets another MTU. */
static void turn(void *arg, struct simnet *net)
{
    struct game *g = arg;
    static const uint32_t sizes[] = {SMALL, SMALL, 1232, 2048, 4096, LARGE};
    uint32_t len = sizes[smt_prng_below(&net->rng, SMT_ARRAY_LEN(sizes))];
    bool first = smt_prng_below(&net->rng, 2) == 0;
    ports_set(g->p, first ? len : g->p->a->mtu, first ? g->p->b->mtu : len);
    if (g->turns-- > 0)
        simnet_at(net, net->now + 1 + smt_prng_below(&net->rng, 60 * SMT_MSEC), turn, g);
}

static void change_run(uint64_t seed, const struct sim_link *link)
{
    struct pair p = small_pair(seed, link, LARGE, LARGE);
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    struct sim_load_config config = {.n_calls = (uint32_t)sim_scaled(600),
                                     .window = 16,
                                     .max_len = 1 << 20,
                                     .max_resp = 1 << 18,
                                     .one_way = 30};
    struct game game = {.p = &p, .turns = 100};
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_load_on(p.app, p.b, back, &config);
    simnet_at(p.net, p.net->now + SMT_MSEC, turn, &game);
    sim_app_finish(p.app, p.net->now + 3600 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, checking_aead_stats().violations == 0, "nonce reuse");
    pair_free(&p);
}

static void sim_small_and_large_in_turns(void **state)
{
    change_run(sim_seed(360), &clean_link);
    change_run(sim_seed(361), &lossy_link);
}

/* A link that fell to 1,024 under a session is found within a second, though its own device knows
 * and says nothing; when it is large again the session follows within the time for that. */
static void sim_small_for_a_while(void **state)
{
    struct pair p = small_pair(sim_seed(370), &clean_link, LARGE, LARGE);
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    struct sim_load_config config = {
        .n_calls = 200, .window = 8, .fixed_len = 1 << 17, .max_resp = 64};
    sim_app_load_on(p.app, p.a, conn, &config);
    simnet_sleep(p.net, 2 * SMT_MSEC);
    ports_set(&p, SMALL, LARGE);
    uint64_t from = p.net->now;
    sim_app_finish(p.app, from + 600 * SMT_SEC);
    SIM_CHECK(p.net, p.net->now - from < 2 * SMT_SEC, "took %llu ms",
              (unsigned long long)(p.net->now - from) / SMT_MSEC);
    struct smt_conn_stats stats;
    smt_conn_stats(conn, &stats);
    SIM_CHECK(p.net, stats.mtu == SMALL, "mtu %u", stats.mtu);
    ports_set(&p, LARGE, LARGE);
    simnet_sleep(p.net, 1300 * SMT_SEC);
    smt_conn_stats(conn, &stats);
    SIM_CHECK(p.net, stats.mtu == LARGE, "mtu %u", stats.mtu);
    sim_app_load_on(p.app, p.a, conn, &config);
    sim_app_finish(p.app, p.net->now + 600 * SMT_SEC);
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_small_handshakes),
        cmocka_unit_test(sim_small_lossy_calls),
        cmocka_unit_test(sim_small_at_one_end),
        cmocka_unit_test(sim_small_and_large_in_turns),
        cmocka_unit_test(sim_small_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
