/* New keys while calls go on, over sockets: by the next epoch, and by another handshake beside the
 * live session, without faults and with. */
#include "net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct net_pair pair;

static void info_get(struct smt_session *s, struct smt_session_info *info)
{
    *info = (struct smt_session_info){.size = sizeof(*info)};
    assert_int_equal(smt_session_get_info(s, info), 0);
}

static void works(struct smt_session *s)
{
    uint8_t bytes[3000];
    net_fill(bytes, sizeof(bytes), 7);
    assert_int_equal(net_call(s, bytes, sizeof(bytes), 0, NULL, NULL), 0);
    while (net_echo(&pair.server) == 0)
        net_pump(&pair);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    net_check(ev.data, ev.len, 7);
    smt_release(ev.msg);
}

static struct smt_session *rekeyed(void)
{
    assert_int_equal(smt_session_rekey(pair.session, SMT_REKEY_HANDSHAKE), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    assert_ptr_equal(ev.session, pair.session);
    return net_expect(&pair, &pair.server, SMT_EV_SESSION_UP).session;
}

static void test_next_epoch(void **state)
{
    struct smt_session_info info;
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    works(pair.session);
    for (uint32_t epoch = 2; epoch < 5; epoch++) {
        assert_int_equal(smt_session_rekey(pair.session, 0), 0);
        while (info_get(pair.session, &info), info.epoch < epoch)
            net_pump(&pair);
        works(pair.session);
    }
    assert_int_equal(smt_session_rekey(pair.peer, 0), 0);
    while (info_get(pair.session, &info), info.epoch < 5)
        net_pump(&pair);
    works(pair.session);
    net_pair_close(&pair);
}

/* A request that the server holds is answered on the link it came by, long after others go by the
 * new one; then the old one ends. */
static void test_calls_in_flight(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    works(pair.session);
    uint64_t early, late;
    assert_int_equal(net_call(pair.session, "early", 5, 0, &early, &early), 0);
    struct smt_event held = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_ptr_equal(held.session, pair.peer);
    struct smt_session *heir = rekeyed();
    assert_ptr_not_equal(heir, pair.peer);
    struct smt_session_info info;
    info_get(pair.session, &info);
    assert_int_equal(info.is_resumed, 1);
    assert_int_equal(info.epoch, 1);

    assert_int_equal(net_call(pair.session, "late", 4, 0, &late, &late), 0);
    assert_true(late > early);
    struct smt_event ev = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_ptr_equal(ev.session, heir);
    assert_int_equal(smt_reply(ev.msg, &(struct smt_iov){"two", 3}, 1, NULL), 0);
    smt_release(ev.msg);
    ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_int_equal(ev.call_id, late);
    smt_release(ev.msg);

    net_pump_for(&pair, 700000000);
    assert_int_equal(net_count(&pair.server, SMT_EV_SESSION_DOWN), 0);
    /* The peer calls back by either. */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(net_call(i == 0 ? pair.peer : heir, "back", 4, 0, NULL, NULL), 0);
        ev = net_expect(&pair, &pair.client, SMT_EV_REQUEST);
        assert_ptr_equal(ev.session, pair.session);
        assert_int_equal(smt_reply(ev.msg, NULL, 0, NULL), 0);
        smt_release(ev.msg);
        ev = net_expect(&pair, &pair.server, SMT_EV_RESPONSE);
        smt_release(ev.msg);
    }
    assert_int_equal(smt_reply(held.msg, &(struct smt_iov){"one", 3}, 1, NULL), 0);
    smt_release(held.msg);
    ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_int_equal(ev.call_id, early);
    assert_memory_equal(ev.data, "one", 3);
    smt_release(ev.msg);
    ev = net_expect(&pair, &pair.server, SMT_EV_SESSION_DOWN);
    assert_ptr_equal(ev.session, pair.peer);
    assert_int_equal(ev.error, 0);
    assert_int_equal(net_count(&pair.server, SMT_EV_FAILED), 0);
    assert_int_equal(net_count(&pair.client, SMT_EV_SESSION_DOWN), 0);
    works(pair.session);
    assert_int_equal(net_counter(pair.client.ep, "sessions_rekeyed"), 1);
    assert_int_equal(net_counter(pair.client.ep, "sessions_replaced"), 0);
    net_pair_close(&pair);
}

static void test_cancel_and_close(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    uint64_t id[3];
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, &id[i]), 0);
    rekeyed();
    assert_int_equal(smt_cancel(pair.session, id[1]), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.call_id, id[1]);
    assert_int_equal(ev.error, SMT_ECANCELED);
    assert_int_equal(smt_cancel(pair.session, id[1]), SMT_EINVAL);
    assert_int_equal(smt_session_close(pair.session), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(net_expect(&pair, &pair.client, SMT_EV_FAILED).error, SMT_ECLOSED);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    for (unsigned i = 0; i < 2; i++)
        net_expect(&pair, &pair.server, SMT_EV_SESSION_DOWN);
    net_pair_close(&pair);
}

static void test_refusals(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    assert_int_equal(smt_session_rekey(NULL, 0), SMT_EINVAL);
    assert_int_equal(smt_session_rekey(pair.session, 2), SMT_EINVAL);
    assert_int_equal(smt_session_rekey(pair.peer, SMT_REKEY_HANDSHAKE), SMT_EUNSUPPORTED);
    assert_int_equal(smt_session_close(pair.session), 0);
    assert_int_equal(smt_session_rekey(pair.session, 0), SMT_ESTATE);
    net_pair_close(&pair);
    net_pair_open(&pair, NET_PLAIN, NULL, NULL);
    assert_int_equal(smt_session_rekey(pair.session, SMT_REKEY_HANDSHAKE), SMT_EUNSUPPORTED);
    assert_int_equal(smt_session_rekey(pair.session, 0), SMT_EUNSUPPORTED);
    net_pair_close(&pair);
}

/* Again and again under calls, over a network that loses, repeats and reorders: each call is
 * answered once, none fails, and old sessions go. */
static void test_under_loss(void **state)
{
    enum { N_CALLS = 600, EVERY = 60, DEPTH = 16, MAX_LEN = 5000 };
    static uint8_t bytes[N_CALLS][MAX_LEN];
    setenv("SMT_TEST_TAP", "drop=0.05,dup=0.02,reorder=0.1,seed=11", 1);
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.peer_timeout_ns = 20000000000;
    config.handshake_timeout_ns = 20000000000;
    net_pair_open(&pair, NET_CERT, &config, &config);
    unsetenv("SMT_TEST_TAP");
    uint8_t answered[N_CALLS] = {0};
    unsigned n_sent = 0, n_done = 0, n_rekeys = 0;
    struct smt_event ev;
    while (n_done < N_CALLS) {
        while (n_sent < N_CALLS && n_sent - n_done < DEPTH) {
            size_t len = 1 + n_sent * 8 % MAX_LEN;
            void *user = (void *)(uintptr_t)n_sent;
            net_fill(bytes[n_sent], len, n_sent);
            assert_int_equal(net_call(pair.session, bytes[n_sent], len, 0, user, NULL), 0);
            n_sent++;
            if (n_sent % EVERY == 0) {
                assert_int_equal(smt_session_rekey(pair.session, SMT_REKEY_HANDSHAKE), 0);
                n_rekeys++;
            }
            net_pump(&pair);
        }
        net_pump(&pair);
        net_echo(&pair.server);
        assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 0);
        while (net_take(&pair.client, SMT_EV_RESPONSE, &ev)) {
            uintptr_t n = (uintptr_t)ev.user;
            net_check(ev.data, ev.len, n);
            assert_int_equal(answered[n]++, 0);
            smt_release(ev.msg);
            n_done++;
        }
    }
    assert_true(n_rekeys >= 5);
    uint64_t until = net_now() + 20000000000ull * net_slow();
    while (net_counter(pair.server.ep, "sessions") > 1 && net_now() < until) {
        net_pump(&pair);
        while (net_take(&pair.server, SMT_EV_SESSION_DOWN, &ev))
            assert_int_equal(ev.error, 0);
    }
    assert_true(net_counter(pair.client.ep, "sessions_rekeyed") >= 2);
    assert_int_equal(net_counter(pair.server.ep, "sessions"), 1);
    assert_int_equal(net_counter(pair.client.ep, "sessions"), 1);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_epoch),       cmocka_unit_test(test_calls_in_flight),
        cmocka_unit_test(test_cancel_and_close), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_under_loss),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
