/* Replays. A request runs once, whatever comes again and however many others are open; and the
 * memory that promises it stays bounded without refusing anything genuine. */
#include "attack.h"

#include "../sim/pair.h"

#include "base/mem.h"

/* ---- control: the window ---- */

static struct smt_frame ping(uint64_t token)
{
    return (struct smt_frame){.type = SMT_FRAME_PING, .token = token};
}

static void ctrl_rx(struct hand *h, enum attack_key key, uint64_t no, uint64_t token)
{
    const struct smt_frame f = ping(token);
    struct attack_pkt p;
    attack_ctrl(h, key, smt_conn_id(h->conn), 1, no, &f, 1, &p);
    hand_rx(h, p.bytes, p.len);
}

static bool heard(struct hand *h, uint64_t token)
{
    for (unsigned i = 0; hand_frame_n(h, SMT_FRAME_PONG, UINT64_MAX, i) != NULL; i++) {
        if (hand_frame_n(h, SMT_FRAME_PONG, UINT64_MAX, i)->token == token)
            return true;
    }
    return false;
}

/* A stranger with huge record numbers moves no window; the peer's own packets go on being heard. */
static void window_poisoning(void **state)
{
    (void)state;
    static const uint64_t far[] = {1000, 4096, 1ull << 32, 1ull << 63, UINT64_MAX - 1, UINT64_MAX};
    struct hand *h = hand_new(true);
    hand_connect(h);
    h->polite = false;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(far); i++) {
        ctrl_rx(h, ATTACK_THEIRS_CTRL, far[i], 1000 + i);
        assert_false(heard(h, 1000 + i));
        ctrl_rx(h, ATTACK_MINE_CTRL, h->ctrl_no++, 2000 + i);
        assert_true(heard(h, 2000 + i));
    }
    /* In disorder, as far back as the window goes. */
    uint64_t top = h->ctrl_no + SMT_REPLAY_WINDOW;
    ctrl_rx(h, ATTACK_MINE_CTRL, top - 1, 1);
    ctrl_rx(h, ATTACK_MINE_CTRL, top - SMT_REPLAY_WINDOW, 2);
    assert_true(heard(h, 1) && heard(h, 2));
    ctrl_rx(h, ATTACK_MINE_CTRL, top - SMT_REPLAY_WINDOW - 1, 3);
    assert_false(heard(h, 3));
    hand_free(h);
}

/* The peer himself may skip numbers as he likes, and all he wins is that fewer of his packets are
 * heard: none is ever heard twice. */
static void window_of_a_hostile_peer(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    h->polite = false;
    struct smt_prng rng;
    smt_prng_seed(&rng, 5);
    uint64_t numbers[400];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(numbers); i++) {
        uint64_t near = h->ctrl_no + smt_prng_below(&rng, 3 * SMT_REPLAY_WINDOW);
        numbers[i] = i < 300 ? near : UINT64_MAX - smt_prng_below(&rng, 2 * SMT_REPLAY_WINDOW);
        ctrl_rx(h, ATTACK_MINE_CTRL, numbers[i], 1);
        if (i == 350)
            ctrl_rx(h, ATTACK_MINE_CTRL, UINT64_MAX, 1);
        hand_clear(h);
        for (unsigned k = 0; k <= i; k++)
            ctrl_rx(h, ATTACK_MINE_CTRL, numbers[k], 2);
        assert_false(heard(h, 2));
        hand_clear(h);
    }
    hand_free(h);
}

/* ---- requests: ids ---- */

static struct smt_engine_event next_of(struct hand *h, enum smt_engine_event_type type)
{
    struct smt_engine_event ev;
    while (smt_engine_next_event(h->e, &ev)) {
        if (ev.type == type)
            return ev;
    }
    return (struct smt_engine_event){0};
}

static size_t request_bytes(struct hand *h, uint64_t id, uint64_t low_water, uint8_t *out)
{
    return hand_data_encode(h,
                            (struct hand_data){.what = SMT_WHAT_REQUEST,
                                               .id = id,
                                               .len = 8,
                                               .message_len = 8,
                                               .seal = 1,
                                               .low_water = low_water},
                            out);
}

static void engine_rx(struct hand *h, uint8_t *bytes, size_t len)
{
    const struct smt_pkt pkt = {.data = bytes, .len = (uint32_t)len, .from = &h->addr};
    smt_engine_rx(h->e, h->now, &pkt, 1);
}

/* A million calls open at once, the first of them for minutes, ids in any order: every one runs,
 * and runs once. */
static void a_million_rpcs_open(void **state)
{
    (void)state;
    const uint32_t n = (uint32_t)sim_scaled(1000000);
    struct hand *h = hand_new(true);
    h->config.max_open_rpcs = n;
    hand_connect(h);
    struct smt_rpc **open = calloc(n, sizeof(*open));
    assert_non_null(open);
    uint8_t pkt[HAND_MTU];
    /* Odd numbers times k modulo a power of two are a walk through all of it. */
    uint32_t mask = 1;
    while (mask <= n)
        mask *= 2;
    mask--;
    uint32_t n_open = 0;
    for (uint64_t i = 0; i <= mask; i++) {
        uint64_t id = 1 + (i * 0x9e3779b1u & mask);
        if (id > n)
            continue;
        engine_rx(h, pkt, request_bytes(h, id, 1, pkt));
        struct smt_engine_event ev = next_of(h, SMT_EE_REQUEST);
        if (ev.type != SMT_EE_REQUEST)
            fail_msg("id %llu is refused with %u open", (unsigned long long)id, n_open);
        smt_rpc_release(ev.rpc);
        open[n_open++] = ev.rpc;
    }
    assert_int_equal(n_open, n);
    assert_int_equal(smt_ranges_count(&h->conn->accepted), 1);
    /* Minutes later, with replays of all of them in between. */
    for (unsigned minute = 0; minute < 3; minute++) {
        h->now += 60 * SMT_SEC;
        for (uint64_t id = 1; id <= n; id += 7) {
            engine_rx(h, pkt, request_bytes(h, id, 1, pkt));
            assert_false(smt_engine_has_event(h->e));
        }
    }
    /* Beyond the credit nothing is taken, and nothing lost: it runs when there is room. */
    engine_rx(h, pkt, request_bytes(h, n + 1ull, 1, pkt));
    assert_int_equal(next_of(h, SMT_EE_REQUEST).type, SMT_EE_NONE);
    assert_int_equal(hand_counter(h, "drop_over_credit"), 1);
    engine_rx(h, pkt, request_bytes(h, n + 1ull, 3, pkt));
    struct smt_engine_event ev = next_of(h, SMT_EE_REQUEST);
    assert_int_equal(ev.type, SMT_EE_REQUEST);
    smt_rpc_release(ev.rpc);
    free(open);
    hand_free(h);
}

/* Messages that are over: refused for ever, also from far behind the mark. */
static void finished_ids_never_run_again(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    uint8_t pkt[HAND_MTU];
    for (uint64_t id = 1; id <= 20000; id++) {
        engine_rx(h, pkt, request_bytes(h, id, id > 10 ? id - 10 : 1, pkt));
        struct smt_engine_event ev = next_of(h, SMT_EE_REQUEST);
        assert_int_equal(ev.type, SMT_EE_REQUEST);
        smt_rpc_release(ev.rpc);
        assert_int_equal(smt_rpc_reject(ev.rpc), 0);
        hand_run(h);
        hand_clear(h);
    }
    /* One below, within and above the set, with old and new marks: only what is new runs. */
    for (uint64_t id = 1; id <= 20000; id += 13) {
        engine_rx(h, pkt, request_bytes(h, id, 1, pkt));
        engine_rx(h, pkt, request_bytes(h, id, 20001, pkt));
        assert_int_equal(next_of(h, SMT_EE_REQUEST).type, SMT_EE_NONE);
    }
    engine_rx(h, pkt, request_bytes(h, 20001, 20001, pkt));
    struct smt_engine_event ev = next_of(h, SMT_EE_REQUEST);
    assert_int_equal(ev.type, SMT_EE_REQUEST);
    smt_rpc_release(ev.rpc);
    hand_free(h);
}

/* Packets of long ago, held back on the way, carry marks of long ago: they make nothing new of what
 * is over. */
static void a_mark_never_falls(void **state)
{
    (void)state;
    enum { N = 200, HELD = 5 };
    struct hand *h = hand_new(true);
    hand_connect(h);
    uint8_t pkt[HAND_MTU], held[HELD][HAND_MTU];
    size_t held_len[HELD];
    for (unsigned i = 0; i < HELD; i++)
        held_len[i] = request_bytes(h, N + 10 + i, 1 + 10 * i, held[i]);
    for (uint64_t id = 1; id <= N; id++) {
        engine_rx(h, pkt, request_bytes(h, id, id, pkt));
        struct smt_engine_event ev = next_of(h, SMT_EE_REQUEST);
        assert_int_equal(ev.type, SMT_EE_REQUEST);
        smt_rpc_release(ev.rpc);
        assert_int_equal(smt_rpc_reject(ev.rpc), 0);
        hand_run(h);
        hand_clear(h);
    }
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_DONE, .low_water = N + 1});
    for (unsigned i = 0; i < HELD; i++) {
        engine_rx(h, held[i], held_len[i]);
        struct smt_engine_event ev = next_of(h, SMT_EE_REQUEST);
        assert_int_equal(ev.type, SMT_EE_REQUEST);
        smt_rpc_release(ev.rpc);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_DONE, .low_water = 1 + 20 * i});
        for (uint64_t id = 1; id <= N; id++) {
            engine_rx(h, pkt, request_bytes(h, id, 1, pkt));
            assert_int_equal(next_of(h, SMT_EE_REQUEST).type, SMT_EE_NONE);
        }
        hand_clear(h);
    }
    hand_free(h);
}

/* A peer that leaves a gap behind every id makes the set of accepted ones as long as it can be. It
 * ends at his credit; no request of his is forgotten, so none runs twice. */
static void gaps_in_ids_are_bounded(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.max_open_rpcs = 100;
    hand_connect(h);
    uint8_t pkt[HAND_MTU];
    unsigned n_run = 0;
    for (unsigned turn = 0; turn < 2; turn++) {
        for (uint64_t id = 1; id < 4000; id += 2) {
            engine_rx(h, pkt, request_bytes(h, id, 1, pkt));
            struct smt_engine_event ev = next_of(h, SMT_EE_REQUEST);
            if (ev.type != SMT_EE_REQUEST)
                continue;
            n_run++;
            smt_rpc_release(ev.rpc);
            hand_reply(h, ev.rpc, 10);
            hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_mine(id)});
            hand_clear(h);
        }
    }
    assert_in_range(n_run, 100, 200);
    assert_int_equal(smt_ranges_count(&h->conn->accepted), n_run);
    hand_free(h);
}

/* ---- what an honest client does to that set ---- */

struct long_poll {
    struct smt_rpc *first; /* the request that stays open */
    uint64_t n_requests, n_responses, n_failed;
};

static void long_poll_event(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct long_poll *l = arg;
    static const uint8_t answer[8];
    struct smt_post_iov iov = {answer, sizeof(answer)};
    switch (ev->type) {
    case SMT_EE_REQUEST:
        l->n_requests++;
        smt_rpc_release(ev->rpc);
        if (l->first == NULL) {
            l->first = ev->rpc;
            return;
        }
        SIM_CHECK(host->net, smt_rpc_reply(ev->rpc, &iov, 1, NULL) == 0, "smt_rpc_reply");
        return;
    case SMT_EE_RESPONSE:
        l->n_responses++;
        if (ev->rpc != NULL)
            smt_rpc_release(ev->rpc);
        return;
    case SMT_EE_FAILED:
        l->n_failed++;
        return;
    default:
        return;
    }
}

static uint64_t call_post(struct sim_host *host, struct smt_conn *c)
{
    static const uint8_t text[8];
    struct smt_post_iov iov = {text, sizeof(text)};
    const struct smt_post post = {.iov = &iov, .n_iov = 1};
    uint64_t id = 0;
    int rc = smt_conn_post(c, &post, &id);
    SIM_CHECK(host->net, rc == 0, "smt_conn_post: %d", rc);
    return id;
}

/* One call stays open for long (a client that waits for news), others are made and every second one
 * is taken back before it left. The server never sees those ids; it must not run out of room for
 * the gaps they leave. */
static void cancelled_calls_behind_a_long_one(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(210), &clean_link, CHECKING_FAST);
    struct long_poll l = {0};
    p.a->config.max_open_rpcs = p.b->config.max_open_rpcs = 64;
    pair_start(&p);
    struct smt_conn *conn = pair_connect(&p, NULL);
    for (unsigned i = 0; i < 2; i++) {
        p.net->hosts[i].on_event = long_poll_event;
        p.net->hosts[i].arg = &l;
    }
    (void)call_post(p.a, conn);
    simnet_poke(p.a);
    simnet_sleep(p.net, SMT_MSEC);
    SIM_CHECK(p.net, l.first != NULL, "the long call did not come");
    for (unsigned i = 1; i <= 1000; i++) {
        uint64_t lost = call_post(p.a, conn);
        SIM_CHECK(p.net, smt_conn_cancel(conn, lost) == 0, "smt_conn_cancel");
        (void)call_post(p.a, conn);
        simnet_poke(p.a);
        simnet_sleep(p.net, 200 * SMT_USEC);
        SIM_CHECK(p.net, l.n_requests == i + 1, "call %u is refused: drop_no_memory %llu", i,
                  (unsigned long long)sim_counter(p.b->engine, "drop_no_memory"));
    }
    simnet_sleep(p.net, 100 * SMT_MSEC);
    SIM_CHECK(p.net, l.n_responses == 1000 && l.n_failed == 1000, "%llu responses, %llu failed",
              (unsigned long long)l.n_responses, (unsigned long long)l.n_failed);
    SIM_CHECK(p.net, smt_ranges_count(&simnet_peer_conn(p.b, conn)->accepted) <= 128, "gaps stay");
    static const uint8_t answer[8];
    struct smt_post_iov iov = {answer, sizeof(answer)};
    SIM_CHECK(p.net, smt_rpc_reply(l.first, &iov, 1, NULL) == 0, "smt_rpc_reply");
    simnet_poke(p.b);
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    SIM_CHECK(p.net, l.n_responses == 1001, "the long call has no response");
    pair_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(window_poisoning),
        cmocka_unit_test(window_of_a_hostile_peer),
        cmocka_unit_test(a_million_rpcs_open),
        cmocka_unit_test(finished_ids_never_run_again),
        cmocka_unit_test(a_mark_never_falls),
        cmocka_unit_test(gaps_in_ids_are_bounded),
        cmocka_unit_test(cancelled_calls_behind_a_long_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
