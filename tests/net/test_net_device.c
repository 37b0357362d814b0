/* What becomes of whole endpoints when their RDMA device fails: calls end once, in order, or go on.
 * Over the device `ud` on the verbs model, in one process. */
#include "net.h"

#include <poll.h>
#include <string.h>

#include "verbs_model.h"

enum { N_CALLS = 200 };

static struct net_pair pair;
static uint8_t bytes[N_CALLS][3000];

static void calls_post(void)
{
    for (unsigned i = 0; i < N_CALLS; i++) {
        net_fill(bytes[i], sizeof(bytes[i]), i);
        assert_int_equal(
            net_call(pair.session, bytes[i], 100 + 14 * i, 0, bytes[i], NULL), 0);
    }
}

/* Every call has been answered, with its own bytes. */
static void calls_answered(void)
{
    for (unsigned n = 0; n < N_CALLS;) {
        struct smt_event ev;
        net_pump(&pair);
        net_echo(&pair.server);
        while (net_take(&pair.client, SMT_EV_RESPONSE, &ev)) {
            unsigned i = (unsigned)((const uint8_t(*)[3000])ev.user - bytes);
            assert_int_equal(ev.len, 100 + 14 * i);
            net_check(ev.data, ev.len, i);
            smt_release(ev.msg);
            n++;
        }
        assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 0);
    }
}

/* The link goes and comes again before anybody's patience ends. */
static void test_link_goes_and_comes(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.peer_timeout_ns = 60000000000;
    net_pair_open(&pair, NET_CERT, &config, &config);
    for (unsigned round = 0; round < 3; round++) {
        calls_post();
        for (unsigned i = 0; i < 20; i++)
            net_pump(&pair);
        verbs_model_set_port(0, false);
        struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_DEVICE_DOWN);
        assert_null(ev.session);
        net_expect(&pair, &pair.server, SMT_EV_DEVICE_DOWN);
        net_pump_for(&pair, 300000000);
        assert_int_equal(net_count(&pair.client, SMT_EV_DEVICE_UP), 0);
        verbs_model_set_port(0, true);
        net_expect(&pair, &pair.client, SMT_EV_DEVICE_UP);
        net_expect(&pair, &pair.server, SMT_EV_DEVICE_UP);
        calls_answered();
    }
    assert_int_equal(net_count(&pair.client, SMT_EV_DEVICE_DOWN), 0);
    assert_int_equal(net_count(&pair.client, SMT_EV_SESSION_DOWN), 0);
    net_pair_close(&pair);
}

/* Queue pairs that fail under traffic start anew: nobody hears of it. */
static void test_queue_pairs_fail(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    for (unsigned round = 0; round < 5; round++) {
        calls_post();
        for (unsigned i = 0; i < 10 * round; i++)
            net_pump(&pair);
        verbs_model_qp_error(0, round % 2 == 0 ? IBV_EVENT_QP_FATAL : -1);
        calls_answered();
    }
    assert_int_equal(net_count(&pair.client, SMT_EV_SESSION_DOWN), 0);
    net_pair_close(&pair);
}

/* So do completion queues, of one end or both, spinning or by events. */
static void test_completion_queues_fail(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    for (unsigned round = 0; round < 10; round++) {
        unsigned i = round % 5;
        calls_post();
        for (unsigned k = 0; k < 10 * round; k++)
            net_pump(&pair);
        if (i == 4)
            assert_int_equal(verbs_model_cq_error(0), 4);
        else
            assert_int_equal(verbs_model_cq_overrun(0, i), 1);
        if (round >= 5 && smt_arm(pair.server.ep) == 0) {
            struct pollfd pfd = {.fd = smt_get_fd(pair.server.ep), .events = POLLIN};
            assert_in_range(poll(&pfd, 1, 10000 * (int)net_slow()), 0, 1);
        }
        calls_answered();
    }
    assert_int_equal(net_count(&pair.client, SMT_EV_SESSION_DOWN), 0);
    assert_in_range(net_counter(pair.client.ep, "dev_rebuilds") +
                        net_counter(pair.server.ep, "dev_rebuilds"),
                    5, 12);
    net_pair_close(&pair);
}

/* Polls one end until it says that its device is gone; its events are queued in their order. */
static void poll_to_the_end(struct net_end *end)
{
    uint64_t until = net_now() + 10000000000ull * net_slow();
    for (;;) {
        int n = smt_poll(end->ep, end->queue + end->n, 64);
        if (n == SMT_EDEVICE)
            return;
        assert_true(n >= 0 && net_now() < until);
        end->n += (unsigned)n;
        assert_true(end->n + 64 < NET_QUEUE);
    }
}

static void expect_the_end(struct net_end *end, struct smt_session *session)
{
    poll_to_the_end(end);
    assert_true(end->n >= 2);
    const struct smt_event *last = &end->queue[end->n - 1];
    assert_int_equal(last->type, SMT_EV_DEVICE_LOST);
    assert_int_equal(last->error, SMT_EDEVICE);
    assert_int_equal(last[-1].type, SMT_EV_SESSION_DOWN);
    assert_int_equal(last[-1].error, SMT_EDEVICE);
    assert_ptr_equal(last[-1].session, session);
    assert_non_null(strstr(smt_error_text(end->ctx), "RDMA device"));
    assert_int_equal(smt_wait(end->ep, UINT64_MAX), SMT_EDEVICE);
    assert_int_equal(smt_poll(end->ep, end->queue, 64), SMT_EDEVICE);
}

/* Pulled out under traffic: each call ends once, then the session, then the device. */
static void test_device_is_removed(void **state)
{
    for (unsigned round = 0; round < 6; round++) {
        unsigned ended[N_CALLS] = {0}, n_maybe = 0;
        net_pair_open(&pair, NET_CERT, NULL, NULL);
        calls_post();
        for (unsigned i = 0; i < 8 * round; i++) {
            net_pump(&pair);
            if (i % 2 == 0)
                net_echo(&pair.server);
        }
        verbs_model_remove(0);
        expect_the_end(&pair.server, pair.peer);
        expect_the_end(&pair.client, pair.session);
        for (unsigned i = 0; i < pair.client.n; i++) {
            const struct smt_event *ev = &pair.client.queue[i];
            if (ev->type == SMT_EV_RESPONSE)
                smt_release(ev->msg);
            if (ev->type == SMT_EV_FAILED)
                assert_true(ev->error == SMT_EMAYBE || ev->error == SMT_EDEVICE);
            n_maybe += ev->type == SMT_EV_FAILED && ev->error == SMT_EMAYBE;
            if (ev->type == SMT_EV_RESPONSE || ev->type == SMT_EV_FAILED)
                ended[(const uint8_t(*)[3000])ev->user - bytes]++;
        }
        for (unsigned i = 0; i < N_CALLS; i++)
            assert_int_equal(ended[i], 1);
        assert_true(round > 0 || n_maybe > 0);
        pair.client.n = pair.server.n = 0;
        net_pair_close(&pair);
        verbs_model_reset();
    }
}

/* It wakes a sleeper. */
static void test_removal_ends_a_sleep(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_pump_for(&pair, 300000000);
    struct smt_event ev;
    while (smt_arm(pair.client.ep) == SMT_EBUSY)
        assert_int_equal(smt_poll(pair.client.ep, &ev, 1), 0);
    verbs_model_remove(0);
    struct pollfd pfd = {.fd = smt_get_fd(pair.client.ep), .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 10000 * (int)net_slow()), 1);
    expect_the_end(&pair.client, pair.session);
    pair.client.n = 0;
    net_pair_close(&pair);
    verbs_model_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link_goes_and_comes),
        cmocka_unit_test(test_queue_pairs_fail),
        cmocka_unit_test(test_completion_queues_fail),
        cmocka_unit_test(test_device_is_removed),
        cmocka_unit_test(test_removal_ends_a_sleep),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
