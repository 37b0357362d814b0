/* Calls, one-way messages and replies between two endpoints, over UDP on loopback unless told
 * otherwise. */
#include "net.h"

#include <stdlib.h>
#include <string.h>

static struct net_pair pair;

static void echo_until_response(struct smt_event *out)
{
    uint64_t until = net_now() + 10000000000ull * net_slow();
    while (!net_take(&pair.client, SMT_EV_RESPONSE, out)) {
        struct smt_event failed;
        if (net_take(&pair.client, SMT_EV_FAILED, &failed))
            fail_msg("failed: %s", smt_error_name(failed.error));
        if (net_now() > until)
            fail_msg("no response");
        net_pump(&pair);
        net_echo(&pair.server);
    }
}

static void round_trip(size_t len, uint64_t seed)
{
    uint8_t *buf = malloc(len + 1);
    net_fill(buf, len, seed);
    uint64_t id;
    assert_int_equal(net_call(pair.session, buf, len, 0, buf, &id), 0);
    struct smt_event ev;
    echo_until_response(&ev);
    assert_int_equal(ev.call_id, id);
    assert_ptr_equal(ev.user, buf);
    assert_ptr_equal(ev.session, pair.session);
    assert_int_equal(ev.len, len);
    net_check(ev.data, len, seed);
    assert_non_null(ev.msg);
    smt_release(ev.msg);
    free(buf);
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {0,    1,     64,    1000,  1400,    1401,
                                   9999, 10000, 10001, 65536, 1000003, 4 << 20};
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        round_trip(sizes[i], i + 1);
    net_pair_close(&pair);
}

static void test_every_security(void **state)
{
    static const enum net_security kinds[] = {NET_PLAIN, NET_PSK, NET_PIN};
    for (unsigned i = 0; i < 3; i++) {
        net_pair_open(&pair, kinds[i], NULL, NULL);
        round_trip(100, i);
        round_trip(100000, i);
        net_pair_close(&pair);
    }
}

static void test_many_at_once(void **state)
{
    enum { N = 2000 };
    static uint8_t bufs[N][32];
    static bool seen[N];
    memset(seen, 0, sizeof(seen));
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    uint64_t last = 0;
    for (unsigned i = 0; i < N; i++) {
        net_fill(bufs[i], sizeof(bufs[i]), i);
        uint64_t id;
        assert_int_equal(net_call(pair.session, bufs[i], sizeof(bufs[i]), 0, &seen[i], &id), 0);
        assert_true(id > last);
        last = id;
    }
    for (unsigned n = 0; n < N; n++) {
        struct smt_event ev;
        echo_until_response(&ev);
        bool *flag = ev.user;
        assert_false(*flag);
        *flag = true;
        net_check(ev.data, ev.len, (uint64_t)(flag - seen));
        smt_release(ev.msg);
    }
    net_pair_close(&pair);
}

static void test_gather(void **state)
{
    enum { PIECE = 777 };
    static uint8_t buf[SMT_MAX_IOV * PIECE];
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_fill(buf, sizeof(buf), 5);
    struct smt_iov iov[SMT_MAX_IOV];
    for (unsigned i = 0; i < SMT_MAX_IOV; i++)
        iov[i] = (struct smt_iov){buf + i * PIECE, PIECE};
    struct smt_call_args args = {.size = sizeof(args), .iov = iov, .n_iov = SMT_MAX_IOV};
    assert_int_equal(smt_call(pair.session, &args, NULL), 0);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_int_equal(req.len, sizeof(buf));
    net_check(req.data, req.len, 5);
    assert_ptr_equal(req.session, pair.peer);
    /* Gathered reply, with an empty piece inside. */
    struct smt_iov back[3] = {{buf, 100}, {NULL, 0}, {buf + 100, sizeof(buf) - 100}};
    assert_int_equal(smt_reply(req.msg, back, 3, &args), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    net_check(ev.data, ev.len, 5);
    smt_release(ev.msg);
    ev = net_expect(&pair, &pair.server, SMT_EV_SENT);
    assert_ptr_equal(ev.user, &args);
    assert_int_equal(ev.call_id, 0);
    smt_release(req.msg);
    net_pair_close(&pair);
}

static void test_one_way(void **state)
{
    static uint8_t buf[50000];
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    static const size_t sizes[] = {0, 10, sizeof(buf)};
    for (unsigned i = 0; i < 3; i++) {
        net_fill(buf, sizes[i], i);
        struct smt_iov iov = {buf, sizes[i]};
        struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1, .user = buf};
        uint64_t id;
        assert_int_equal(smt_send(pair.session, &args, &id), 0);
        struct smt_event ev = net_expect(&pair, &pair.server, SMT_EV_MESSAGE);
        assert_int_equal(ev.len, sizes[i]);
        net_check(ev.data, ev.len, i);
        smt_release(ev.msg);
        ev = net_expect(&pair, &pair.client, SMT_EV_SENT);
        assert_int_equal(ev.call_id, id);
        assert_ptr_equal(ev.user, buf);
    }
    net_pair_close(&pair);
}

static void test_reply_after_release(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    assert_int_equal(net_call(pair.session, "question", 8, 0, NULL, NULL), 0);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    smt_release(req.msg); /* the bytes only */
    net_pump_for(&pair, 20000000);
    struct smt_iov iov = {"answer", 6};
    assert_int_equal(smt_reply(req.msg, &iov, 1, NULL), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_int_equal(ev.len, 6);
    assert_memory_equal(ev.data, "answer", 6);
    smt_release(ev.msg);
    net_expect(&pair, &pair.server, SMT_EV_SENT);
    net_pair_close(&pair);
}

static void test_reject(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    uint64_t id;
    assert_int_equal(net_call(pair.session, "question", 8, 0, &pair, &id), 0);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_int_equal(smt_reject(req.msg), 0);
    smt_release(req.msg);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.error, SMT_EREFUSED);
    assert_int_equal(ev.call_id, id);
    assert_ptr_equal(ev.user, &pair);
    net_pair_close(&pair);
}

static void test_response_buffer(void **state)
{
    static uint8_t req_bytes[3000], resp[3000];
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_fill(req_bytes, sizeof(req_bytes), 9);
    struct smt_iov iov = {req_bytes, sizeof(req_bytes)};
    struct smt_call_args args = {
        .size = sizeof(args),
        .iov = &iov,
        .n_iov = 1,
        .resp_buf = resp,
        .resp_cap = sizeof(resp),
    };
    assert_int_equal(smt_call(pair.session, &args, NULL), 0);
    struct smt_event ev;
    echo_until_response(&ev);
    assert_null(ev.msg);
    assert_ptr_equal(ev.data, resp);
    assert_int_equal(ev.len, sizeof(resp));
    net_check(resp, sizeof(resp), 9);

    args.resp_cap = sizeof(resp) - 1;
    uint64_t id;
    assert_int_equal(smt_call(pair.session, &args, &id), 0);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    struct smt_iov back = {req.data, req.len};
    assert_int_equal(smt_reply(req.msg, &back, 1, NULL), 0);
    ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.error, SMT_EMSGSIZE);
    assert_int_equal(ev.call_id, id);
    smt_release(req.msg);
    net_pair_close(&pair);
}

/* Lent request memory may be written again after RESPONSE: nothing of it is sent afterwards. */
static void test_lent_memory(void **state)
{
    static uint8_t buf[20000];
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    for (unsigned i = 0; i < 50; i++) {
        net_fill(buf, sizeof(buf), i);
        assert_int_equal(net_call(pair.session, buf, sizeof(buf), 0, NULL, NULL), 0);
        struct smt_event ev;
        echo_until_response(&ev);
        memset(buf, 0xee, sizeof(buf));
        net_check(ev.data, ev.len, i);
        smt_release(ev.msg);
    }
    net_pair_close(&pair);
}

static void test_both_directions(void **state)
{
    struct smt_session *back;
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    /* Over the same session, the accepting side calls. */
    assert_int_equal(net_call(pair.peer, "hello", 5, 0, NULL, NULL), 0);
    struct smt_event req = net_expect(&pair, &pair.client, SMT_EV_REQUEST);
    assert_ptr_equal(req.session, pair.session);
    struct smt_iov iov = {req.data, req.len};
    assert_int_equal(smt_reply(req.msg, &iov, 1, NULL), 0);
    struct smt_event ev = net_expect(&pair, &pair.server, SMT_EV_RESPONSE);
    assert_ptr_equal(ev.session, pair.peer);
    smt_release(ev.msg);
    smt_release(req.msg);
    net_pair_close(&pair);

    /* Both accept and both connect. */
    net_end_open(&pair.server, NET_CERT, true, NULL);
    net_end_open(&pair.client, NET_CERT, true, NULL);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    assert_int_equal(smt_connect(pair.server.ep, net_address(&pair.client), NULL, 0, &back), 0);
    assert_int_equal(net_call(pair.session, "to server", 9, 0, NULL, NULL), 0);
    assert_int_equal(net_call(back, "to client", 9, 0, NULL, NULL), 0);
    uint64_t until = net_now() + 10000000000ull * net_slow();
    while (net_count(&pair.client, SMT_EV_RESPONSE) + net_count(&pair.server, SMT_EV_RESPONSE) <
           2) {
        net_pump(&pair);
        net_echo(&pair.server);
        net_echo(&pair.client);
        assert_true(net_now() < until);
    }
    net_pair_close(&pair);
}

static void test_posted_before_up(void **state)
{
    net_end_open(&pair.server, NET_CERT, true, NULL);
    net_end_open(&pair.client, NET_CERT, false, NULL);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    round_trip(5000, 3);
    net_pair_close(&pair);
}

static void test_same_peer_same_session(void **state)
{
    struct smt_session *again, *other;
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &again), 0);
    assert_ptr_equal(again, pair.session);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    assert_ptr_equal(ev.session, again);
    assert_int_equal(
        smt_connect(pair.client.ep, net_address(&pair.server), NULL, SMT_NEW_SESSION, &other), 0);
    assert_ptr_not_equal(other, pair.session);
    ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    assert_ptr_equal(ev.session, other);
    /* Another name to verify is another session. */
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), "localhost", 0, &again),
                     0);
    assert_ptr_not_equal(again, pair.session);
    ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    assert_ptr_equal(ev.session, again);
    net_pair_close(&pair);
}

static void test_info(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    round_trip(4 << 20, 1); /* long enough to be timed */
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(pair.session, &info), 0);
    assert_string_equal(info.peer, net_address(&pair.server));
    assert_string_equal(info.cipher, "aes-128-gcm");
    assert_non_null(strstr(info.identity, "node"));
    assert_int_equal(info.auth, SMT_AUTH_CERT);
    assert_true(info.is_initiator && info.is_up);
    assert_int_equal(info.epoch, 1);
    assert_in_range(info.mtu, 1024, 65536);
    assert_true(info.handshake_ns > 0 && info.rtt_min_ns > 0);
    print_message("handshake %.1f ms, rtt %.1f us\n", (double)info.handshake_ns / 1e6,
                  (double)info.rtt_min_ns / 1e3);
    static const uint8_t zero[32];
    assert_memory_not_equal(info.peer_key_sha256, zero, 32);
    assert_int_equal(smt_session_get_info(pair.peer, &info), 0);
    assert_false(info.is_initiator);
    assert_true(net_counter(pair.client.ep, "handshakes_ok") == 1);
    assert_true(net_counter(pair.client.ep, "dev_tx_packets") > 2);
    net_pair_close(&pair);
}

static void test_close(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    uint64_t id;
    assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, &id), 0);
    net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_int_equal(smt_session_close(pair.session), 0);
    assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), SMT_ECLOSED);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.call_id, id);
    assert_int_equal(ev.error, SMT_ECLOSED);
    ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, 0);
    assert_ptr_equal(ev.session, pair.session);
    ev = net_expect(&pair, &pair.server, SMT_EV_SESSION_DOWN);
    assert_ptr_equal(ev.session, pair.peer);
    assert_int_equal(ev.error, 0);
    net_pair_close(&pair);
}

static void test_reply_to_nobody(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_int_equal(smt_session_close(pair.session), 0);
    net_expect(&pair, &pair.server, SMT_EV_SESSION_DOWN);
    net_pump_for(&pair, 5000000);
    struct smt_iov iov = {"late", 4};
    assert_int_equal(smt_reply(req.msg, &iov, 1, &iov), 0);
    struct smt_event ev = net_expect(&pair, &pair.server, SMT_EV_FAILED);
    assert_int_equal(ev.error, SMT_ECLOSED);
    assert_ptr_equal(ev.user, &iov);
    smt_release(req.msg);
    net_pair_close(&pair);
}

/* An endpoint that calls itself. */
static void test_to_itself(void **state)
{
    net_end_open(&pair.client, NET_CERT, true, NULL);
    pair.server.ep = NULL;
    pair.server.n = 0;
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.client), NULL, 0, &pair.session),
                     0);
    assert_int_equal(net_call(pair.session, "me", 2, 0, NULL, NULL), 0);
    struct smt_event req = net_expect(&pair, &pair.client, SMT_EV_REQUEST);
    assert_ptr_not_equal(req.session, pair.session);
    struct smt_iov iov = {req.data, req.len};
    assert_int_equal(smt_reply(req.msg, &iov, 1, NULL), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_ptr_equal(ev.session, pair.session);
    smt_release(ev.msg);
    smt_release(req.msg);
    net_end_close(&pair.client);
}

/* A user who takes events one by one, now and then: packets go on moving, nothing gets lost. */
static void test_one_event_at_a_time(void **state)
{
    enum { N = 300 };
    unsigned ended = 0, served = 0;
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    assert_int_equal(smt_session_close(pair.session), 0);
    uint64_t until = net_now() + 10000000000ull * net_slow();
    bool down = false;
    while (!down) {
        struct smt_event ev;
        assert_true(net_now() < until);
        if (smt_poll(pair.server.ep, &ev, 1) == 1 && ev.type == SMT_EV_REQUEST) {
            (void)smt_reply(ev.msg, NULL, 0, NULL);
            smt_release(ev.msg);
            served++;
        }
        if (smt_poll(pair.client.ep, &ev, served % 3 == 0) != 1)
            continue;
        if (ev.type == SMT_EV_RESPONSE)
            smt_release(ev.msg);
        ended += ev.type == SMT_EV_RESPONSE || ev.type == SMT_EV_FAILED;
        down = ev.type == SMT_EV_SESSION_DOWN;
    }
    assert_int_equal(ended, N);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_every_security),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_gather),
        cmocka_unit_test(test_one_way),
        cmocka_unit_test(test_reply_after_release),
        cmocka_unit_test(test_reject),
        cmocka_unit_test(test_response_buffer),
        cmocka_unit_test(test_lent_memory),
        cmocka_unit_test(test_both_directions),
        cmocka_unit_test(test_posted_before_up),
        cmocka_unit_test(test_same_peer_same_session),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_reply_to_nobody),
        cmocka_unit_test(test_to_itself),
        cmocka_unit_test(test_one_event_at_a_time),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
