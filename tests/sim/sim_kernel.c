/* The kernel's profiles, engine to engine in virtual time: every call runs exactly once, byte for
 * byte, at all sizes the kernel takes, over clean and bad links, with both ends calling where the
 * profile allows it. */
#include <stdio.h>

#include "core/profile.h"
#include "pair.h"

/* 5 % drop, 5 % duplicate, 20 % reorder. Plain Homa would believe a corrupted packet. */
static const struct sim_link bad_link = {
    .delay = 10 * SMT_USEC,
    .drop = 500,
    .dup = 500,
    .reorder = 2000,
    .reorder_ns = 200 * SMT_USEC,
};

static struct smt_record_keys keys = {
    .end = {{.key = "client's own key", .salt = "cli"}, {.key = "the server's key", .salt = "ser"}},
};

static struct pair kernel_pair(const char *profile, uint64_t seed, const struct sim_link *link)
{
    struct pair p = pair_new(seed, link, CHECKING_AES128_GCM);
    keys.aead = checking_aead(CHECKING_AES128_GCM);
    for (unsigned i = 0; i < 2; i++) {
        struct smt_engine_config *g = &p.net->hosts[i].config;
        g->profile = smt_profile_find(profile);
        assert_non_null(g->profile);
        g->record_keys = &keys;
        g->idle_timeout = 3600 * SMT_SEC;
    }
    return p;
}

/* The far end's conn, for calls the other way. */
struct back {
    struct sim_host *host;
    struct smt_conn *conn;
};

static void back_watch(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct back *b = arg;
    if (ev->type == SMT_EE_UP && host == b->host)
        b->conn = ev->conn;
}

static bool back_is_up(void *arg)
{
    return ((struct back *)arg)->conn != NULL;
}

struct run {
    const char *profile;
    const struct sim_link *link;
    uint64_t seed;
    uint32_t n_calls, max_len, fixed_len;
    bool both_ways;
    uint64_t patience; /* peer timeout, 0: default */
    sim_hook *hook;
};

static void run(const struct run *r)
{
    struct pair p = kernel_pair(r->profile, r->seed, r->link);
    p.net->hook = r->hook;
    for (unsigned i = 0; i < 2 && r->patience > 0; i++)
        p.net->hosts[i].config.peer_timeout = r->patience;
    pair_start(&p);
    struct back back = {.host = p.b};
    sim_app_set_watch(p.app, back_watch, &back);
    struct sim_load_config config = {.n_calls = r->n_calls,
                                     .window = 16,
                                     .min_len = 1,
                                     .max_len = r->max_len,
                                     .max_resp = r->max_len,
                                     .fixed_len = r->fixed_len,
                                     .own_buffer = 30,
                                     .serve_ns = 200 * SMT_USEC};
    sim_app_load(p.app, p.a, p.b, &config);
    if (r->both_ways) {
        assert_true(simnet_run(p.net, SMT_NEVER - 1, back_is_up, &back));
        sim_app_load_on(p.app, p.b, back.conn, &config);
    }
    sim_app_finish(p.app, SMT_NEVER - 1);
    const struct sim_app_stats *s = sim_app_stats(p.app);
    SIM_CHECK(p.net, s->requests == (r->both_ways ? 2 : 1) * r->n_calls && s->failed == 0,
              "%llu executed, %llu failed", (unsigned long long)s->requests,
              (unsigned long long)s->failed);
    SIM_CHECK(p.net, checking_aead_stats().violations == 0, "nonce reuse");
    printf("    %s: %u calls up to %u bytes: %.1f MB, %llu packets, %.3f s of virtual time\n",
           r->profile, r->n_calls, r->max_len, (double)s->bytes / 1e6,
           (unsigned long long)p.net->n_packets, (double)p.net->now / 1e9 - 1);
    pair_free(&p);
}

static const char *const profiles[] = {"homa-main", "homa-6.1", "smt1"};

static void kernel_clean_link(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        run(&(struct run){.profile = profiles[i],
                          .link = &clean_link,
                          .seed = sim_seed(1),
                          .n_calls = (uint32_t)sim_scaled(1000),
                          .max_len = 1 << 17,
                          .both_ways = i < 2});
}

static void kernel_loss_reorder_duplicates(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        run(&(struct run){.profile = profiles[i],
                          .link = &bad_link,
                          .seed = sim_seed(2),
                          .n_calls = (uint32_t)sim_scaled(1000),
                          .max_len = 1000000,
                          .both_ways = i < 2});
}

static void kernel_largest_message(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        run(&(struct run){.profile = profiles[i],
                          .link = &bad_link,
                          .seed = sim_seed(3),
                          .n_calls = 10,
                          .max_len = 1,
                          .fixed_len = 1000000});
}

/* One packet in a hundred of those with records is changed behind its header. */
static enum sim_verdict corrupt_records(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    if (pkt->len > 100 && smt_prng_below(&net->rng, 100) == 0)
        pkt->data[40 + smt_prng_below(&net->rng, pkt->len - 40)] ^= 0x10;
    return SIM_PASS;
}

static void kernel_records_that_do_not_open_come_again(void **state)
{
    run(&(struct run){.profile = "smt1",
                      .link = &bad_link,
                      .seed = sim_seed(4),
                      .n_calls = (uint32_t)sim_scaled(500),
                      .max_len = 1 << 17,
                      .hook = corrupt_records});
}

/* Nothing passes for 8 s from the first bytes of a response on, as when a machine is stopped. */
static enum sim_verdict silence(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    static uint64_t began;
    if (net->n_packets == 0)
        began = 0;
    bool response = pkt->len > 1000 && (pkt->data[27] & 1) != 0;
    if (began == 0 && response)
        began = net->now;
    return began != 0 && net->now < began + 8 * SMT_SEC ? SIM_DROP : SIM_PASS;
}

/* An endpoint that gives its peers half a minute keeps responses as long. */
static void kernel_response_outlasts_silence(void **state)
{
    for (unsigned i = 0; i < 3; i++)
        run(&(struct run){.profile = profiles[i],
                          .link = &clean_link,
                          .seed = sim_seed(7),
                          .n_calls = 20,
                          .max_len = 1 << 17,
                          .patience = 30 * SMT_SEC,
                          .hook = silence});
}

/* What the kernel cannot do is refused with a code, and nothing is sent. */
static void kernel_limits(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        struct pair p = kernel_pair(profiles[i], sim_seed(5), &clean_link);
        pair_start(&p);
        struct smt_conn *c = pair_connect(&p, NULL);
        static uint8_t bytes[1000001];
        struct smt_post_iov iov = {bytes, sizeof(bytes)};
        struct smt_post post = {.iov = &iov, .n_iov = 1};
        assert_int_equal(smt_conn_post(c, &post, NULL), SMT_EMSGSIZE);
        iov.len = 0;
        assert_int_equal(smt_conn_post(c, &post, NULL), SMT_EUNSUPPORTED);
        iov.len = 1;
        post.one_way = true;
        assert_int_equal(smt_conn_post(c, &post, NULL), SMT_EUNSUPPORTED);
        assert_int_equal(p.net->n_packets, 0);
        pair_free(&p);
    }
}

/* One pair of keys has one client, one server, and each of them one peer. */
static void kernel_keys_serve_one_pair_of_ends(void **state)
{
    struct simnet_config config = {
        .seed = sim_seed(6), .n_hosts = 3, .aead = checking_aead(CHECKING_AES128_GCM),
        .link = clean_link};
    struct simnet *net = simnet_new(&config);
    keys.aead = config.aead;
    for (unsigned i = 0; i < 3; i++) {
        net->hosts[i].config.profile = smt_profile_find("smt1");
        net->hosts[i].config.record_keys = &keys;
    }
    struct sim_app *app = sim_app_new(net);
    simnet_start(net);
    struct back back = {.host = &net->hosts[1]};
    sim_app_set_watch(app, back_watch, &back);
    struct smt_conn *c = simnet_connect_wait(&net->hosts[0], &net->hosts[1]);
    struct smt_conn *other;
    assert_int_equal(
        smt_conn_open(net->hosts[0].engine, net->now, &net->hosts[2].addr, &other),
        SMT_ECREDENTIALS);
    struct sim_load_config load = {.n_calls = 1, .window = 1, .fixed_len = 100, .max_resp = 64,
                                   .min_len = 1};
    sim_app_load_on(app, &net->hosts[0], c, &load);
    assert_true(simnet_run(net, SMT_NEVER - 1, sim_app_done, app));
    /* The server may not call. */
    struct smt_post_iov iov = {"x", 1};
    const struct smt_post post = {.iov = &iov, .n_iov = 1};
    assert_int_equal(smt_conn_post(back.conn, &post, NULL), SMT_ECREDENTIALS);
    assert_int_equal(
        smt_conn_open(net->hosts[1].engine, net->now, &net->hosts[2].addr, &other),
        SMT_ECREDENTIALS);
    /* A second client gets no answer, and his call ends. */
    struct smt_conn *second = simnet_connect_wait(&net->hosts[2], &net->hosts[1]);
    net->hosts[2].on_event = NULL;
    assert_int_equal(smt_conn_post(second, &post, NULL), 0);
    simnet_poke(&net->hosts[2]);
    simnet_sleep(net, SMT_SEC);
    assert_true(sim_counter(net->hosts[1].engine, "drop_other_peer") > 0);
    assert_int_equal(sim_counter(net->hosts[2].engine, "rpcs_failed"), 1);
    simnet_free(net);
    sim_app_free(app);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernel_clean_link),
        cmocka_unit_test(kernel_loss_reorder_duplicates),
        cmocka_unit_test(kernel_largest_message),
        cmocka_unit_test(kernel_records_that_do_not_open_come_again),
        cmocka_unit_test(kernel_response_outlasts_silence),
        cmocka_unit_test(kernel_limits),
        cmocka_unit_test(kernel_keys_serve_one_pair_of_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
