/* A graceful end loses nothing, on either side, and says what it could not finish. */
#include "net.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

static struct net_pair pair;

/* The other end in a thread of its own, for drain does not return before work is done. */
struct server_thread {
    pthread_t thread;
    struct smt_ep *ep;
    _Atomic int stop;
    unsigned requests, messages;
    uint64_t delay_ns;
};

static void *server_run(void *arg)
{
    struct server_thread *t = arg;
    while (!t->stop) {
        struct smt_event ev[16];
        int n = smt_poll(t->ep, ev, 16);
        for (int i = 0; i < n; i++) {
            struct smt_iov iov = {ev[i].data, ev[i].len};
            if (ev[i].type == SMT_EV_REQUEST) {
                t->requests++;
                nanosleep(&(struct timespec){.tv_nsec = (long)t->delay_ns}, NULL);
                if (smt_reply(ev[i].msg, &iov, 1, ev[i].msg) < 0)
                    return "reply";
            } else if (ev[i].type == SMT_EV_MESSAGE) {
                t->messages++;
                smt_release(ev[i].msg);
            } else if (ev[i].type == SMT_EV_SENT) {
                smt_release(ev[i].user);
            }
        }
        if (n < 0 || (n == 0 && smt_wait(t->ep, 100000000) < 0))
            return "wait";
    }
    return NULL;
}

static void server_stop(struct server_thread *t)
{
    void *result;
    t->stop = 1;
    smt_wakeup(t->ep);
    pthread_join(t->thread, &result);
    assert_null(result);
}

static void test_client_drains(void **state)
{
    enum { CALLS = 300, SENDS = 300 };
    static uint8_t buf[3000];
    struct server_thread t = {.delay_ns = 100000};
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    t.ep = pair.server.ep;
    assert_int_equal(pthread_create(&t.thread, NULL, server_run, &t), 0);
    struct smt_iov iov = {buf, sizeof(buf)};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1};
    for (unsigned i = 0; i < CALLS; i++) {
        assert_int_equal(smt_call(pair.session, &args, NULL), 0);
        assert_int_equal(smt_send(pair.session, &args, NULL), 0);
    }
    assert_int_equal(smt_ep_drain(pair.client.ep, 15000000000ull * net_slow()), 0);
    /* Everything has happened; the events were kept. */
    uint64_t until = net_now() + 5000000000ull * net_slow();
    while (net_count(&pair.client, SMT_EV_SESSION_DOWN) == 0 && net_now() < until) {
        pair.server.ep = NULL;
        net_pump(&pair);
        pair.server.ep = t.ep;
    }
    assert_int_equal(net_count(&pair.client, SMT_EV_RESPONSE), CALLS);
    assert_int_equal(net_count(&pair.client, SMT_EV_SENT), SENDS);
    assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 0);
    server_stop(&t);
    assert_int_equal(t.requests, CALLS);
    assert_int_equal(t.messages, SENDS);
    net_pair_close(&pair);
}

/* Replies that were given arrive before the server is gone, also large ones. */
static void test_server_drains(void **state)
{
    static uint8_t big[2 << 20];
    net_fill(big, sizeof(big), 7);
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    struct smt_iov iov = {big, sizeof(big)};
    for (unsigned i = 0; i < 9; i++) {
        struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
        assert_int_equal(smt_reply(req.msg, &iov, 1, NULL), 0);
        smt_release(req.msg);
    }
    /* One request is left unanswered: it does not hold the drain up. */
    net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    while (smt_ep_drain(pair.server.ep, 1000000) == SMT_ETIMEDOUT) {
        struct smt_ep *ep = pair.server.ep;
        pair.server.ep = NULL;
        net_pump(&pair);
        pair.server.ep = ep;
    }
    assert_int_equal(smt_ep_close(pair.server.ep), 0);
    assert_int_equal(smt_ctx_close(pair.server.ctx), 0);
    pair.server.ep = NULL;
    net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    unsigned n = 0;
    for (struct smt_event ev; net_take(&pair.client, SMT_EV_RESPONSE, &ev); n++) {
        net_check(ev.data, ev.len, 7);
        smt_release(ev.msg);
    }
    assert_int_equal(n, 9);
    assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 1);
    net_end_close(&pair.client);
}

static void test_nothing_to_drain(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_pump_for(&pair, 100000000);
    assert_int_equal(smt_ep_drain(pair.client.ep, 5000000000ull * net_slow()), 0);
    struct smt_event ev = net_expect(&pair, &pair.server, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, 0);
    net_pair_close(&pair);
}

static void test_drain_in_vain(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    uint64_t begin = net_now();
    assert_int_equal(smt_ep_drain(pair.client.ep, 50000000), SMT_ETIMEDOUT);
    assert_true(net_now() - begin >= 50000000);
    /* Not closed: the call can still be answered. */
    net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_int_equal(net_count(&pair.server, SMT_EV_SESSION_DOWN), 0);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_drains),
        cmocka_unit_test(test_server_drains),
        cmocka_unit_test(test_nothing_to_drain),
        cmocka_unit_test(test_drain_in_vain),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
