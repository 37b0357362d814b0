/* Deadlines, cancelling, announced messages and back-pressure over loopback. */
#include "net.h"

#include <stdlib.h>
#include <string.h>

static struct net_pair pair;

static void test_deadline(void **state)
{
    net_pair_open(&pair, NET_PLAIN, NULL, NULL);
    uint64_t id, begin = net_now();
    assert_int_equal(net_call(pair.session, "x", 1, 50000000, &pair, &id), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    uint64_t took = net_now() - begin;
    assert_int_equal(ev.error, SMT_ETIMEDOUT);
    assert_int_equal(ev.call_id, id);
    assert_ptr_equal(ev.user, &pair);
    assert_true(took >= 50000000);
    /* The session is as good as before. Whether the request had left by then is chance. */
    assert_int_equal(net_call(pair.session, "y", 1, 5000000000ull * net_slow(), NULL, &id), 0);
    struct smt_event req = {0}, req2 = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    if (memcmp(req2.data, "x", 1) == 0) {
        req = req2;
        req2 = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    }
    assert_int_equal(smt_reply(req2.msg, NULL, 0, NULL), 0);
    ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_int_equal(ev.call_id, id);
    assert_int_equal(ev.len, 0);
    smt_release(ev.msg);
    smt_release(req2.msg);
    /* A reply that nobody waits for ends FAILED. */
    assert_int_equal(smt_reply(req.msg, NULL, 0, &req), 0);
    ev = net_expect(&pair, &pair.server, SMT_EV_FAILED);
    assert_int_equal(ev.error, SMT_ECLOSED);
    assert_ptr_equal(ev.user, &req);
    smt_release(req.msg);
    net_pair_close(&pair);
}

static void test_cancel(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    static uint8_t big[1 << 20];
    for (unsigned i = 0; i < 20; i++) {
        uint64_t id;
        assert_int_equal(net_call(pair.session, big, i % 2 ? sizeof(big) : 10, 0, &pair, &id), 0);
        if (i % 3 > 0)
            net_pump_for(&pair, i * 50000);
        assert_int_equal(smt_cancel(pair.session, id), 0);
        struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
        assert_int_equal(ev.error, SMT_ECANCELED);
        assert_int_equal(ev.call_id, id);
        assert_int_equal(smt_cancel(pair.session, id), SMT_EINVAL);
    }
    net_pump_for(&pair, 50000000);
    assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 0);
    assert_int_equal(net_count(&pair.client, SMT_EV_RESPONSE), 0);
    assert_int_equal(smt_cancel(pair.session, 0), SMT_EINVAL);
    assert_int_equal(smt_cancel(pair.session, 1000000), SMT_EINVAL);
    net_pair_close(&pair);
}

static void test_incoming_accept(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.accept_len = 100000;
    net_pair_open(&pair, NET_CERT, &config, &config);
    size_t len = 300000;
    uint8_t *buf = malloc(len), *into = malloc(len);
    net_fill(buf, len, 4);
    assert_int_equal(net_call(pair.session, buf, len, 0, NULL, NULL), 0);
    struct smt_event in = net_expect(&pair, &pair.server, SMT_EV_INCOMING);
    assert_int_equal(in.of, SMT_EV_REQUEST);
    assert_int_equal(in.len, len);
    assert_int_equal(net_count(&pair.server, SMT_EV_REQUEST), 0);
    assert_true(smt_accept(in.msg, into, len - 1) < 0);
    assert_int_equal(smt_accept(in.msg, into, len), 0);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_ptr_equal(req.data, into);
    net_check(into, len, 4);
    /* The response is announced too; library memory this time. */
    struct smt_iov iov = {into, len};
    assert_int_equal(smt_reply(req.msg, &iov, 1, NULL), 0);
    in = net_expect(&pair, &pair.client, SMT_EV_INCOMING);
    assert_int_equal(in.of, SMT_EV_RESPONSE);
    assert_int_equal(smt_accept(in.msg, NULL, 0), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    net_check(ev.data, ev.len, 4);
    smt_release(ev.msg);
    net_expect(&pair, &pair.server, SMT_EV_SENT);
    smt_release(req.msg);
    free(into);
    free(buf);
    net_pair_close(&pair);
}

static void test_incoming_refuse(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.accept_len = 100000;
    net_pair_open(&pair, NET_CERT, &config, NULL);
    static uint8_t buf[300000];
    uint64_t id;
    assert_int_equal(net_call(pair.session, buf, sizeof(buf), 0, NULL, &id), 0);
    struct smt_event in = net_expect(&pair, &pair.server, SMT_EV_INCOMING);
    assert_int_equal(smt_reject(in.msg), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.error, SMT_EREFUSED);
    assert_int_equal(ev.call_id, id);
    net_pair_close(&pair);
}

static void test_open_calls_limit(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.max_open_rpcs = 8;
    net_pair_open(&pair, NET_CERT, &config, NULL);
    net_pump_for(&pair, 5000000); /* the peer's credit has come */
    unsigned posted = 0;
    int r;
    while ((r = net_call(pair.session, "x", 1, 0, NULL, NULL)) == 0)
        posted++;
    assert_int_equal(r, SMT_EAGAIN);
    assert_int_equal(posted, 8);
    assert_non_null(strstr(smt_error_text(pair.client.ctx), "WRITABLE"));
    assert_int_equal(net_count(&pair.client, SMT_EV_WRITABLE), 0);
    unsigned answered = 0;
    while (answered < 8) {
        net_pump(&pair);
        answered += net_echo(&pair.server);
    }
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_WRITABLE);
    assert_ptr_equal(ev.session, pair.session);
    assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    net_pair_close(&pair);
}

static void test_bytes_limit(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.max_session_bytes = 1 << 20;
    net_pair_open(&pair, NET_CERT, &config, NULL);
    net_pump_for(&pair, 5000000);
    static uint8_t buf[100000];
    net_fill(buf, sizeof(buf), 1);
    unsigned posted = 0, got = 0;
    bool blocked = false;
    struct smt_iov iov = {buf, sizeof(buf)};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1};
    uint64_t until = net_now() + 15000000000ull * net_slow();
    while (got < 100) {
        assert_true(net_now() < until);
        while (posted < 100 && !blocked) {
            int r = smt_send(pair.session, &args, NULL);
            if (r == SMT_EAGAIN) {
                blocked = true;
                break;
            }
            assert_int_equal(r, 0);
            posted++;
        }
        assert_true(posted < 30 + got);
        net_pump(&pair);
        struct smt_event ev;
        if (net_take(&pair.client, SMT_EV_WRITABLE, &ev))
            blocked = false;
        while (net_take(&pair.server, SMT_EV_MESSAGE, &ev)) {
            net_check(ev.data, ev.len, 1);
            smt_release(ev.msg);
            got++;
        }
    }
    net_pair_close(&pair);
}

static void test_too_long(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.max_msg_len = 50000;
    net_pair_open(&pair, NET_CERT, &config, NULL);
    static uint8_t buf[50001];
    assert_int_equal(net_call(pair.session, buf, sizeof(buf), 0, NULL, NULL), SMT_EMSGSIZE);
    assert_int_equal(net_call(pair.session, buf, 50000, 0, NULL, NULL), 0);
    net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    struct smt_iov iov[2] = {{buf, 1 << 30}, {buf, 1}};
    struct smt_call_args args = {.size = sizeof(args), .iov = iov, .n_iov = 2};
    assert_int_equal(smt_call(pair.session, &args, NULL), SMT_EMSGSIZE);
    net_pair_close(&pair);
}

/* A peer that vanishes: calls end within the time-out, MAYBE because they may have run. */
static void test_peer_vanishes(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.peer_timeout_ns = 300000000;
    config.handshake_timeout_ns = 2000000000;
    net_pair_open(&pair, NET_CERT, NULL, &config);
    assert_int_equal(net_call(pair.session, "x", 1, 0, &pair, NULL), 0);
    net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    struct smt_ep *gone = pair.server.ep;
    pair.server.ep = NULL; /* nobody polls it any more */
    uint64_t begin = net_now();
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.error, SMT_EMAYBE);
    assert_true(net_now() - begin >= 200000000);
    ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, SMT_EUNREACHABLE);
    pair.server.ep = gone;
    net_pair_close(&pair);
}

static void test_call_wait(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    /* Nobody serves: the deadline ends it, and what came meanwhile is kept in order. */
    assert_int_equal(net_call(pair.peer, "one", 3, 0, NULL, NULL), 0);
    assert_int_equal(net_call(pair.peer, "two", 3, 0, NULL, NULL), 0);
    struct smt_event ev;
    assert_int_equal(smt_poll(pair.server.ep, &ev, 0), 0);
    char resp[16];
    assert_int_equal(smt_call_wait(pair.session, "q", 1, resp, sizeof(resp), 100000000),
                     SMT_ETIMEDOUT);
    struct smt_event one = net_expect(&pair, &pair.client, SMT_EV_REQUEST);
    assert_memory_equal(one.data, "one", 3);
    struct smt_event two = net_expect(&pair, &pair.client, SMT_EV_REQUEST);
    assert_memory_equal(two.data, "two", 3);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline),         cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_incoming_accept),  cmocka_unit_test(test_incoming_refuse),
        cmocka_unit_test(test_open_calls_limit), cmocka_unit_test(test_bytes_limit),
        cmocka_unit_test(test_too_long),         cmocka_unit_test(test_peer_vanishes),
        cmocka_unit_test(test_call_wait),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
