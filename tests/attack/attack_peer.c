/* Peers with valid keys that mean harm, or take everything and give nothing: each has his limits,
 * and others on the same endpoint do not notice. */
#include "attack.h"

#include "../sim/pair.h"
#include "base/mem.h"
#include "core/rpc_life.h"

/* ---- one that never reads ---- */

/* a is a good client, b the server, c the bad one. */
struct trio {
    struct simnet *net;
    struct sim_app *app;
    struct sim_host *a, *b, *c;
    struct smt_conn *good, *bad, *to_bad; /* at a, c, b */
    uint64_t n_refused, n_posted, n_ended;
    uint8_t *bytes;
    sim_event_fn *app_event; /* what b's events go to, but for those of the bad one */
    void *app_arg;
};

enum { POSTED_LEN = 1 << 20 };

static void bad_event(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    (void)arg;
    (void)host;
    (void)ev; /* takes nothing, releases nothing */
}

static void trio_begin(struct trio *t, uint64_t seed)
{
    struct simnet_config config = {.seed = sim_seed(seed),
                                   .n_hosts = 3,
                                   .aead = checking_aead(CHECKING_FAST),
                                   .link = clean_link,
                                   .pcap = getenv("SMT_SIM_PCAP")};
    *t = (struct trio){.net = simnet_new(&config)};
    t->a = &t->net->hosts[0];
    t->b = &t->net->hosts[1];
    t->c = &t->net->hosts[2];
    t->app = sim_app_new(t->net);
    t->c->on_event = bad_event;
    t->b->config.max_conn_bytes = t->c->config.max_conn_bytes = 16u << 20;
    simnet_start(t->net);
    t->good = simnet_connect_wait(t->a, t->b);
    t->bad = simnet_connect_wait(t->c, t->b);
    t->to_bad = simnet_peer_conn(t->b, t->bad);
    t->bytes = calloc(1, POSTED_LEN);
    assert_non_null(t->bytes);
}

/* Posts to the bad one until it is refused. */
static void trio_post(struct trio *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct smt_post_iov iov = {t->bytes, POSTED_LEN};
        const struct smt_post post = {.iov = &iov, .n_iov = 1, .one_way = true, .user = NULL};
        int rc = smt_conn_post(t->to_bad, &post, NULL);
        SIM_CHECK(t->net, rc == 0 || rc == SMT_EAGAIN, "smt_conn_post: %d", rc);
        if (rc == 0)
            t->n_posted++;
        else
            t->n_refused++;
    }
    simnet_poke(t->b);
}

static void server_event(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct trio *t = arg;
    if (t->to_bad == NULL || ev->conn != t->to_bad)
        t->app_event(t->app_arg, host, ev);
    else
        t->n_ended += ev->type == SMT_EE_SENT || ev->type == SMT_EE_FAILED;
}

static const struct sim_load_config good_calls = {
    .n_calls = 500, .window = 16, .max_len = 1 << 14, .max_resp = 1 << 14, .one_way = 25};

static void trio_good_works(struct trio *t, const char *when)
{
    uint64_t began = t->net->now;
    const struct sim_load *load = sim_app_load_on(t->app, t->a, t->good, &good_calls);
    while (sim_load_done(load) < good_calls.n_calls) {
        simnet_sleep(t->net, 100 * SMT_USEC);
        SIM_CHECK(t->net, t->net->now < began + 200 * SMT_MSEC, "%s: %u calls in 200 ms", when,
                  sim_load_done(load));
    }
}

static void trio_end(struct trio *t)
{
    simnet_free(t->net);
    sim_app_free(t->app);
    free(t->bytes);
}

/* His transport works, his application takes nothing: what he may be sent ends at his credit, the
 * sender is told so, and others are served as before. */
static void a_peer_that_never_reads(void **state)
{
    (void)state;
    struct trio t;
    trio_begin(&t, 240);
    t.app_event = t.b->on_event;
    t.app_arg = t.b->arg;
    t.b->on_event = server_event;
    t.b->arg = &t;
    uint64_t before = smt_engine_memory(t.b->engine);
    for (unsigned i = 0; i < 100; i++) {
        trio_post(&t, 4);
        simnet_sleep(t.net, 10 * SMT_MSEC);
    }
    SIM_CHECK(t.net, t.n_posted >= 8 && t.n_posted <= 64, "%llu posted",
              (unsigned long long)t.n_posted);
    SIM_CHECK(t.net, t.n_refused > 300, "%llu refused", (unsigned long long)t.n_refused);
    SIM_CHECK(t.net, t.c->engine->memory.held <= (16u << 20) + POSTED_LEN, "he holds more");
    SIM_CHECK(t.net, smt_engine_memory(t.b->engine) <= before + (4u << 20), "so do we");
    trio_good_works(&t, "beside him");
    uint64_t sent = t.b->n_sent;
    simnet_sleep(t.net, 10 * SMT_SEC);
    SIM_CHECK(t.net, t.b->n_sent - sent < 20000, "%llu packets in 10 s for nothing",
              (unsigned long long)(t.b->n_sent - sent));
    trio_good_works(&t, "ten seconds later");
    trio_end(&t);
}

/* ---- one that never grants ---- */

static void a_peer_that_never_grants(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    uint8_t *bytes = calloc(1, 10 << 20);
    assert_non_null(bytes);
    struct smt_post_iov iov = {bytes, 10 << 20};
    const struct smt_post post = {.iov = &iov, .n_iov = 1, .deadline = 3 * SMT_SEC};
    uint64_t ids[5];
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(smt_conn_post(h->conn, &post, &ids[i]), 0);
    hand_run(h);
    uint64_t sent = hand_counter(h, "bytes_sent"), memory = smt_engine_memory(h->e);
    for (unsigned i = 0; i < 5; i++)
        assert_in_range(hand_data_end(h, ids[i]), 1, 10000);
    /* Others to the same peer go on, and what he is asked in vain is little. */
    for (unsigned i = 0; i < 50; i++) {
        hand_clear(h);
        uint64_t id = hand_post(h, 500, true);
        assert_int_equal(hand_n_data(h, id), 1);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
        for (unsigned k = 0; k < 5; k++)
            hand_frame(h, (struct smt_frame){.type = SMT_FRAME_BUSY, .id = hand_theirs(ids[k])});
        hand_sleep(h, 50 * SMT_MSEC);
        assert_int_equal(hand_n_events(h, SMT_EE_DOWN), 0);
    }
    assert_in_range(hand_counter(h, "bytes_sent") - sent, 0, 1 << 20);
    assert_in_range(smt_engine_memory(h->e), 0, memory + (1 << 20));
    hand_clear(h);
    hand_sleep(h, SMT_SEC);
    assert_int_equal(hand_n_events(h, SMT_EE_FAILED), 5);
    assert_int_equal(hand_event_n(h, SMT_EE_FAILED, 0)->error, SMT_ETIMEDOUT);
    free(bytes);
    hand_free(h);
}

/* ---- one that opens a million RPCs ---- */

static void a_peer_that_opens_a_million_rpcs(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    const uint64_t n = sim_scaled(1000000);
    uint64_t n_taken = 0, n_sent = 0;
    for (uint64_t id = 1; id <= n; id++) {
        uint8_t pkt[HAND_MTU];
        size_t len = hand_data_encode(
            h,
            (struct hand_data){.what = id % 3 == 0 ? SMT_WHAT_ONEWAY : SMT_WHAT_REQUEST,
                               .id = id,
                               .len = 8,
                               .message_len = id % 5 == 0 ? 50000 : 8,
                               .seal = 1},
            pkt);
        const struct smt_pkt p = {.data = pkt, .len = (uint32_t)len, .from = &h->addr};
        smt_engine_rx(h->e, h->now, &p, 1);
        struct smt_engine_event ev;
        while (smt_engine_next_event(h->e, &ev))
            n_taken += ev.type == SMT_EE_REQUEST || ev.type == SMT_EE_MESSAGE;
        h->now += 100;
        if (id % 1000 == 0) {
            n_sent += h->n_pkts;
            hand_clear(h);
            hand_run(h);
        }
    }
    assert_true(h->conn != NULL && n_taken > 0);
    assert_in_range(h->conn->served, 1, 4096);
    assert_in_range(h->conn->n_rpcs, 1, 65536 + 4096);
    assert_true(hand_counter(h, "drop_over_credit") + hand_counter(h, "drop_no_memory") > n / 2);
    assert_in_range(smt_engine_memory(h->e), 1, 512 << 20);
    assert_in_range(h->e->memory.held, 1, (64u << 20) + (1u << 20));
    assert_in_range(n_sent, 0, n / 10);
    /* Nothing of it was promised: what is dropped leaves no id behind. */
    assert_in_range(smt_ranges_count(&h->conn->accepted), 1, 4096 + 64);
    hand_free(h);
}

/* ---- one that begins everything ---- */

/* The first record of as many long messages as he may have: memory ends at his share, and asking
 * for the rest stays within a few packets a round. */
static void a_peer_that_ends_no_message(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    h->polite = true;
    for (uint64_t id = 1; id <= 4096; id++) {
        hand_clear(h);
        hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST,
                                        .id = id,
                                        .len = 1000,
                                        .message_len = 16 << 20,
                                        .unsched = 1000});
    }
    assert_in_range(h->e->memory.held, 16 << 20, 64 << 20);
    assert_in_range(smt_engine_memory(h->e), 1, 256 << 20);
    hand_clear(h);
    for (unsigned i = 0; i < 20; i++) {
        hand_clear(h);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PING});
        hand_sleep(h, 100 * SMT_MSEC);
        assert_in_range(h->n_pkts, 0, 2000);
    }
    hand_free(h);
}

/* Records of one byte, every second one, in a message of a gigabyte: gaps are bounded. */
static void a_peer_that_sends_gaps(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.accept_len = 1u << 30;
    h->config.max_conn_bytes = h->config.max_bytes = 1ull << 31;
    hand_connect(h);
    hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST,
                                    .id = 1,
                                    .len = 1,
                                    .message_len = 1 << 26,
                                    .unsched = 1 << 26});
    uint64_t memory = smt_engine_memory(h->e);
    for (uint32_t at = 2; at < 40000; at += 2) {
        hand_data(
            h,
            (struct hand_data){
                .what = SMT_WHAT_REQUEST, .id = 1, .offset = at, .len = 1, .message_len = 1 << 26});
        hand_clear(h);
    }
    const struct smt_rpc *r = smt_rpc_find(h->conn, 1 | SMT_ID_ROLE);
    assert_non_null(r);
    assert_in_range(smt_ranges_count(&r->rx.got), 1, 1024);
    assert_int_equal(smt_engine_memory(h->e), memory);
    assert_true(hand_counter(h, "drop_no_memory") > 10000);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_that_never_reads),
        cmocka_unit_test(a_peer_that_never_grants),
        cmocka_unit_test(a_peer_that_opens_a_million_rpcs),
        cmocka_unit_test(a_peer_that_ends_no_message),
        cmocka_unit_test(a_peer_that_sends_gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
