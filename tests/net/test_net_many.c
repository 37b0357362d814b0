/* Many sessions and many calls in flight between one pair of endpoints: all complete, and doing it
 * again takes no more memory than the first time. */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* The next chunks of pools that a busy machine fills; what all calls of a round leak is more. */
enum { MAX_SESSIONS = 1000, SLACK = 4 << 20 };

static struct net_pair pair;
static struct smt_session *sessions[MAX_SESSIONS];

static void pair_open(uint32_t max_open_rpcs)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.max_open_rpcs = max_open_rpcs;
    /* Handshakes of 1,000 sessions are seconds of signing on a slow, loaded machine. */
    config.handshake_timeout_ns = 120000000000;
    config.peer_timeout_ns = 30000000000;
    net_end_open(&pair.server, NET_CERT, true, &config);
    net_end_open(&pair.client, NET_CERT, false, &config);
}

/* Polls both ends until `n` events of that type came to the client and the server each. */
static void both_expect(enum smt_event_type type, unsigned n, unsigned patience_s)
{
    uint64_t until = net_now() + patience_s * 1000000000ull * net_slow();
    while (net_count(&pair.client, type) < n || net_count(&pair.server, type) < n) {
        net_pump(&pair);
        if (net_now() > until)
            fail_msg("%u and %u of %u sessions: event %d", net_count(&pair.client, type),
                     net_count(&pair.server, type), n, type);
    }
    assert_int_equal(net_count(&pair.client, type), n);
    assert_int_equal(net_count(&pair.server, type), n);
    assert_int_equal(pair.client.n, n);
    assert_int_equal(pair.server.n, n);
    pair.client.n = pair.server.n = 0;
}

static void sessions_open(unsigned n)
{
    uint64_t begin = net_now();
    for (unsigned i = 0; i < n; i++) {
        int r = smt_connect(pair.client.ep, net_address(&pair.server), NULL, SMT_NEW_SESSION,
                            &sessions[i]);
        if (r < 0)
            fail_msg("connect %u: %s", i, smt_error_name(r));
    }
    both_expect(SMT_EV_SESSION_UP, n, 200);
    double s = (double)(net_now() - begin) / 1e9;
    printf("# %u sessions up after %.1f s, %.2f ms each\n", n, s, s * 1000 / n);
    assert_int_equal(net_counter(pair.server.ep, "sessions"), n);
}

static void sessions_close(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(smt_session_close(sessions[i]), 0);
    both_expect(SMT_EV_SESSION_DOWN, n, 60);
    net_pump_for(&pair, 50000000); /* handles die with the poll after their DOWN */
    assert_int_equal(net_counter(pair.client.ep, "sessions"), 0);
    assert_int_equal(net_counter(pair.server.ep, "sessions"), 0);
}

/* n_calls in flight at once: the server answers the first only when the last is there. */
static void load_all(unsigned n_sessions, uint32_t n_calls, uint64_t seed)
{
    struct load_config config = {
        .seed = seed,
        .n_calls = n_calls,
        .depth = n_calls,
        .max_len = 1024,
        .max_resp = 1024,
        .one_sided = true,
        .hold = true,
    };
    struct load l;
    load_init(&l, &config, &pair, sessions, n_sessions, NULL);
    uint64_t begin = net_now();
    load_run(&l, 200, NULL, NULL);
    printf("# %u calls over %u sessions in %.2f s\n", n_calls, n_sessions,
           (double)(net_now() - begin) / 1e9);
    assert_int_equal(l.side[0].max_in_flight, n_calls);
    load_fini(&l);
    load_rest(&pair);
}

static void rounds(unsigned n_sessions, uint32_t n_calls, uint32_t max_open_rpcs)
{
    uint64_t seed = load_seed(1);
    struct smt_mem_stats before = smt_mem_live();
    pair_open(max_open_rpcs);
    struct smt_mem_stats calls = {0}, closed = {0};
    for (unsigned round = 0; round < 3; round++) {
        sessions_open(n_sessions);
        struct smt_mem_stats a = smt_mem_live();
        load_all(n_sessions, n_calls, seed + round);
        struct smt_mem_stats b = smt_mem_live();
        sessions_close(n_sessions);
        struct smt_mem_stats c = smt_mem_live();
        printf("# live: %" PRIu64 " KB open, %" PRIu64 " KB after calls, %" PRIu64 " KB closed\n",
               a.bytes_live >> 10, b.bytes_live >> 10, c.bytes_live >> 10);
        /* The first round makes the pools as large as they get, give or take how many handshakes
         * and calls happened to overlap. */
        if (round > 0) {
            assert_true(b.bytes_live <= calls.bytes_live + SLACK);
            assert_true(c.bytes_live <= closed.bytes_live + SLACK);
            assert_true(c.n_live <= closed.n_live + 16);
        }
        calls = b;
        closed = c;
    }
    net_pair_close(&pair);
    struct smt_mem_stats after = smt_mem_live();
    assert_int_equal(after.n_live, before.n_live);
    assert_int_equal(after.bytes_live, before.bytes_live);
}

static void test_many_sessions(void **state)
{
    rounds(load_scale(MAX_SESSIONS), load_scale(10000), 0);
}

static void test_many_calls_of_one_session(void **state)
{
    rounds(1, load_scale(10000), 10000);
}

/* A client that had no processor for a while, and whose answers stand in the socket, takes all of
 * them before it asks for any. */
static void test_what_has_come_is_not_asked_for(void **state)
{
    enum { N_CALLS = 60, LEN = 600 };
    uint8_t bytes[LEN] = {1};
    struct smt_event ev[N_CALLS];
    unsigned n_requests = 0, n_responses = 0;
    net_pair_open(&pair, NET_PSK, NULL, NULL);
    for (unsigned i = 0; i < N_CALLS; i++)
        assert_int_equal(net_call(pair.session, bytes, LEN, 0, NULL, NULL), 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(smt_poll(pair.client.ep, ev, N_CALLS), 0);
    while (n_requests < N_CALLS) {
        int n = smt_poll(pair.server.ep, ev, N_CALLS);
        assert_true(n >= 0);
        for (int i = 0; i < n; i++) {
            assert_int_equal(ev[i].type, SMT_EV_REQUEST);
            const struct smt_iov iov = {bytes, LEN};
            assert_int_equal(smt_reply(ev[i].msg, &iov, 1, NULL), 0);
            smt_release(ev[i].msg);
        }
        n_requests += (unsigned)n;
    }
    for (unsigned i = 0; i < 20; i++)
        assert_true(smt_poll(pair.server.ep, ev, N_CALLS) >= 0);
    usleep(50000);
    uint64_t asked = net_counter(pair.client.ep, "resends_sent");
    while (n_responses < N_CALLS) {
        int n = smt_poll(pair.client.ep, ev, N_CALLS);
        assert_true(n >= 0);
        for (int i = 0; i < n; i++) {
            assert_int_equal(ev[i].type, SMT_EV_RESPONSE);
            smt_release(ev[i].msg);
        }
        n_responses += (unsigned)n;
    }
    assert_int_equal(net_counter(pair.client.ep, "resends_sent"), asked);
    net_pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_sessions),
        cmocka_unit_test(test_many_calls_of_one_session),
        cmocka_unit_test(test_what_has_come_is_not_asked_for),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
