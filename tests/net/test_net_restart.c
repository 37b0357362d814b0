/* A server that is killed and comes back on its port: the client's session is replaced under its
 * user's feet, calls in flight end in time, idempotent ones are repeated. */
#include "net.h"

#include <string.h>

static struct net_pair pair; /* the server is another process: only the client end is used */
static struct net_process server;

/* Long enough for a handshake on any machine. */
static const uint64_t handshake = 40000000000;

static void client_open(enum net_security security, uint64_t peer_timeout,
                        uint64_t handshake_timeout)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.peer_timeout_ns = peer_timeout;
    config.handshake_timeout_ns = handshake_timeout;
    net_process_start(&server, 0, security);
    pair.server.ep = NULL;
    net_end_open(&pair.client, security, false, &config);
    int r = smt_connect_wait(pair.client.ep, net_address_of(net_host(true), server.port), NULL, 0,
                             5000000000 * net_slow(), &pair.session);
    if (r < 0)
        fail_msg("connect: %s: %s", smt_error_name(r), smt_error_text(pair.client.ctx));
}

static void server_restart(enum net_security security)
{
    uint16_t port = server.port;
    net_process_kill(&server);
    net_process_start(&server, port, security);
}

static int call_flagged(const void *p, size_t len, unsigned flags, void *user, uint64_t *id)
{
    struct smt_iov iov = {p, len};
    struct smt_call_args args = {
        .size = sizeof(args), .iov = &iov, .n_iov = 1, .flags = flags, .user = user};
    return smt_call(pair.session, &args, id);
}

static void expect_echo(const char *text, uint64_t id)
{
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_int_equal(ev.len, strlen(text));
    assert_memory_equal(ev.data, text, ev.len);
    assert_ptr_equal(ev.session, pair.session);
    if (id != 0)
        assert_int_equal(ev.call_id, id);
    smt_release(ev.msg);
}

/* The first call after the restart meets a server that does not know the session. */
static void test_replaced(void **state)
{
    client_open(NET_CERT, 200000000000, handshake);
    uint64_t before;
    assert_int_equal(call_flagged("one", 3, 0, NULL, &before), 0);
    expect_echo("one", before);
    smt_session_set_user(pair.session, &pair);
    for (unsigned round = 0; round < 3; round++) {
        server_restart(NET_CERT);
        uint64_t plain, repeated, later;
        assert_int_equal(call_flagged("plain", 5, 0, &server, &plain), 0);
        assert_int_equal(call_flagged("again", 5, SMT_IDEMPOTENT, &pair, &repeated), 0);
        assert_true(plain > before && repeated > plain);
        struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
        assert_int_equal(ev.error, SMT_EMAYBE);
        assert_int_equal(ev.call_id, plain);
        assert_ptr_equal(ev.user, &server);
        ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
        assert_ptr_equal(ev.session, pair.session);
        assert_ptr_equal(smt_session_user(ev.session), &pair);
        expect_echo("again", repeated);
        assert_int_equal(call_flagged("later", 5, 0, NULL, &later), 0);
        assert_true(later > repeated);
        expect_echo("later", later);
        before = later;
        assert_int_equal(net_count(&pair.client, SMT_EV_SESSION_DOWN), 0);
        assert_int_equal(net_counter(pair.client.ep, "sessions_replaced"), round + 1);
        net_pump_for(&pair, 1100000000); /* the next hint is not too soon */
    }
    assert_int_equal(net_counter(pair.client.ep, "calls_repeated"), 3);
    net_end_close(&pair.client);
    net_process_kill(&server);
}

/* While nobody is there, calls end in time; idempotent ones wait for the server. */
static void test_away_for_a_while(void **state)
{
    client_open(NET_CERT, 400000000, handshake);
    uint16_t port = server.port;
    net_process_kill(&server);
    uint64_t plain, repeated;
    assert_int_equal(call_flagged("plain", 5, 0, NULL, &plain), 0);
    assert_int_equal(call_flagged("again", 5, SMT_IDEMPOTENT, NULL, &repeated), 0);
    uint64_t begin = net_now();
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.call_id, plain);
    assert_int_equal(ev.error, SMT_EMAYBE);
    assert_true(net_now() - begin >= 300000000);
    /* Posted while the handshake finds nobody: just waits. */
    uint64_t posted, cancelled;
    assert_int_equal(call_flagged("new", 3, 0, NULL, &posted), 0);
    assert_int_equal(call_flagged("never", 5, SMT_IDEMPOTENT, NULL, &cancelled), 0);
    assert_int_equal(smt_cancel(pair.session, cancelled), 0);
    ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.call_id, cancelled);
    assert_int_equal(ev.error, SMT_ECANCELED);
    net_process_start(&server, port, NET_CERT);
    ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    assert_ptr_equal(ev.session, pair.session);
    uint64_t ids = 0; /* in any order */
    for (unsigned i = 0; i < 2; i++) {
        ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
        assert_memory_equal(ev.data, ev.call_id == posted ? "new" : "again", ev.len);
        ids += ev.call_id;
        smt_release(ev.msg);
    }
    assert_int_equal(ids, repeated + posted);
    assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 0);
    net_end_close(&pair.client);
    net_process_kill(&server);
}

/* Never comes back: everything ends, once, and the session with it. */
static void test_gone_for_good(void **state)
{
    client_open(NET_CERT, 300000000, 3000000000);
    net_process_kill(&server);
    enum { N = 50 };
    unsigned ended[N] = {0};
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(call_flagged("x", 1, i % 2 ? SMT_IDEMPOTENT : 0, &ended[i], NULL), 0);
    uint64_t begin = net_now();
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, SMT_EUNREACHABLE);
    assert_true(net_now() - begin >= 1000000000);
    while (net_take(&pair.client, SMT_EV_FAILED, &ev)) {
        assert_int_equal(ev.error, SMT_EMAYBE);
        ++*(unsigned *)ev.user;
    }
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(ended[i], 1);
    net_pump_for(&pair, 50000000);
    assert_int_equal(pair.client.n, 0);
    assert_int_equal(net_counter(pair.client.ep, "sessions"), 0);
    net_end_close(&pair.client);
}

/* The deadline of an idempotent call holds across the replacement. */
static void test_deadline_across(void **state)
{
    client_open(NET_CERT, 300000000, handshake);
    net_process_kill(&server);
    struct smt_iov iov = {"x", 1};
    struct smt_call_args args = {
        .size = sizeof(args),
        .iov = &iov,
        .n_iov = 1,
        .flags = SMT_IDEMPOTENT,
        .deadline_ns = 800000000,
    };
    uint64_t id, begin = net_now();
    assert_int_equal(smt_call(pair.session, &args, &id), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.call_id, id);
    assert_int_equal(ev.error, SMT_ETIMEDOUT);
    assert_true(net_now() - begin >= 750000000);
    net_end_close(&pair.client);
}

/* Somebody else at the server's port cannot take the session over: it ends, and says why. */
static void impostor(enum net_security security, int code)
{
    client_open(NET_CERT, 500000000, handshake);
    server_restart(security);
    uint64_t plain, repeated;
    assert_int_equal(call_flagged("plain", 5, 0, NULL, &plain), 0);
    assert_int_equal(call_flagged("again", 5, SMT_IDEMPOTENT, NULL, &repeated), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, code);
    assert_true(strlen(smt_error_text(pair.client.ctx)) > 30);
    assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 2);
    assert_int_equal(net_count(&pair.client, SMT_EV_RESPONSE), 0);
    assert_int_equal(net_count(&pair.client, SMT_EV_SESSION_UP), 0);
    assert_int_equal(net_counter(pair.client.ep, "sessions_replaced"), 0);
    net_end_close(&pair.client);
    net_process_kill(&server);
}

static void test_impostors(void **state)
{
    impostor(NET_PLAIN, SMT_EAUTH);
    impostor(NET_CERT_STRANGER, SMT_ECERT);
}

/* Whoever says all the time that he does not know us gets a handshake now and then, not one each
 * time. */
static void test_hints_are_limited(void **state)
{
    client_open(NET_CERT, 2200000000, 3000000000);
    net_process_kill(&server);
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.port = server.port;
    net_end_open_there(&pair.server, NET_CERT, false, &config); /* knows and accepts nobody */
    uint64_t begin = net_now();
    unsigned n_failed = 0;
    while (net_count(&pair.client, SMT_EV_SESSION_DOWN) == 0) {
        struct smt_event ev;
        while (net_take(&pair.client, SMT_EV_FAILED, &ev))
            n_failed++;
        int r = net_call(pair.session, "x", 1, 20000000, NULL, NULL);
        assert_true(r == 0 || r == SMT_ECLOSED);
        net_pump_for(&pair, 10000000);
        assert_true(net_now() - begin < 8000000000ull * net_slow());
    }
    assert_true(n_failed > 0);
    uint64_t seconds = (net_now() - begin) / 1000000000;
    assert_in_range(net_counter(pair.client.ep, "handshakes_failed"), 1, seconds + 2);
    assert_true(net_counter(pair.server.ep, "dev_rx_packets") > 0);
    net_pair_close(&pair);
    pair.server.ep = NULL;
}

/* A server that says goodbye: the session ends in order and is not dialled again. */
static void test_goodbye(void **state)
{
    client_open(NET_CERT, 20000000000, handshake);
    net_process_term(&server);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, 0);
    net_end_close(&pair.client);
}

int main(int argc, char **argv)
{
    net_process_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replaced),          cmocka_unit_test(test_away_for_a_while),
        cmocka_unit_test(test_gone_for_good),     cmocka_unit_test(test_deadline_across),
        cmocka_unit_test(test_goodbye),           cmocka_unit_test(test_impostors),
        cmocka_unit_test(test_hints_are_limited),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
