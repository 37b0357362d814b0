/* Very large messages through packets of 1,472 bytes: announced, accepted into the user's memory,
 * equal to the last byte. SMT_TEST_ALL=1: up to the limit of 1 GiB. */
#include "load.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 11 };

static struct net_pair pair;

/* The server has a thread of its own, as it would have a process. */
struct server {
    pthread_t thread;
    struct smt_ep *ep;
    _Atomic int stop;
    uint32_t resp_len;
    uint8_t *into, *resp;
    unsigned n_announced, n_requests, n_messages, n_sent;
};

/* NULL, or what went wrong. */
static const char *server_event(struct server *s, const struct smt_event *ev)
{
    struct smt_iov iov = {s->resp, s->resp_len};
    switch (ev->type) {
    case SMT_EV_INCOMING:
        s->n_announced++;
        s->into = malloc(ev->len);
        return smt_accept(ev->msg, s->into, ev->len) == 0 ? NULL : "accept";
    case SMT_EV_MESSAGE:
        s->n_messages++;
        load_expect(SEED, 1, ev->data, ev->len);
        smt_release(ev->msg);
        return NULL;
    case SMT_EV_REQUEST:
        s->n_requests++;
        load_expect(SEED, 1, ev->data, ev->len);
        return smt_reply(ev->msg, &iov, 1, ev->msg) == 0 ? NULL : "reply";
    case SMT_EV_SENT:
        s->n_sent++;
        smt_release(ev->user);
        return NULL;
    case SMT_EV_SESSION_DOWN:
        return NULL;
    default:
        return "an event nobody expected";
    }
}

static void *server_run(void *arg)
{
    struct server *s = arg;
    while (!s->stop) {
        struct smt_event ev[16];
        int n = smt_poll(s->ep, ev, 16);
        if (n < 0)
            return "poll";
        for (int i = 0; i < n; i++) {
            const char *wrong = server_event(s, &ev[i]);
            if (wrong != NULL)
                return (void *)wrong;
        }
        if (n == 0 && smt_wait(s->ep, 100000000) < 0)
            return "wait";
    }
    return NULL;
}

static void pair_start(struct server *s)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.mtu = 1472;
    config.peer_timeout_ns = 30000000000;
    net_pair_open(&pair, NET_CERT, &config, &config);
    s->ep = pair.server.ep;
    assert_int_equal(pthread_create(&s->thread, NULL, server_run, s), 0);
}

static void pair_stop(struct server *s)
{
    void *wrong;
    s->stop = 1;
    smt_wakeup(s->ep);
    pthread_join(s->thread, &wrong);
    if (wrong != NULL)
        fail_msg("server: %s", (char *)wrong);
    net_pair_close(&pair);
    free(s->into);
}

static struct smt_event client_expect(enum smt_event_type type)
{
    uint64_t until = net_now() + 300000000000ull * net_slow();
    for (;;) {
        struct smt_event ev;
        int n = smt_poll(pair.client.ep, &ev, 1);
        assert_in_range(n, 0, 1);
        if (n == 1 && ev.type != type)
            fail_msg("event %d, error %s", ev.type, smt_error_name(ev.error));
        if (n == 1)
            return ev;
        if (net_now() > until)
            fail_msg("event %d did not come", type);
        assert_int_equal(smt_wait(pair.client.ep, 100000000), 0);
    }
}

static uint8_t *payload_new(size_t len)
{
    uint8_t *p = malloc(len);
    load_fill(SEED, 1, p, len);
    return p;
}

static void rate_print(const char *what, size_t bytes, uint64_t begin)
{
    double s = (double)(net_now() - begin) / 1e9;
    printf("# %s of %zu MiB: %.2f s, %.0f MB/s\n", what, bytes >> 20, s, (double)bytes / s / 1e6);
}

static void one_way(size_t len)
{
    struct server s = {0};
    pair_start(&s);
    uint8_t *p = payload_new(len);
    struct smt_iov iov = {p, len};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1, .user = p};
    uint64_t begin = net_now();
    assert_int_equal(smt_send(pair.session, &args, NULL), 0);
    struct smt_event ev = client_expect(SMT_EV_SENT);
    assert_ptr_equal(ev.user, p);
    rate_print("message", len, begin);
    pair_stop(&s);
    assert_int_equal(s.n_announced, 1);
    assert_int_equal(s.n_messages, 1);
    free(p);
}

static void call(size_t len, uint32_t resp_len)
{
    struct server s = {.resp_len = resp_len, .resp = payload_new(resp_len)};
    pair_start(&s);
    uint8_t *p = payload_new(len), *resp = malloc(resp_len);
    struct smt_iov iov = {p, len};
    struct smt_call_args args = {
        .size = sizeof(args), .iov = &iov, .n_iov = 1, .resp_buf = resp, .resp_cap = resp_len};
    uint64_t begin = net_now();
    assert_int_equal(smt_call(pair.session, &args, NULL), 0);
    struct smt_event ev = client_expect(SMT_EV_RESPONSE);
    rate_print("request and response", len + resp_len, begin);
    assert_ptr_equal(ev.data, resp);
    assert_null(ev.msg);
    assert_int_equal(ev.len, resp_len);
    load_expect(SEED, 1, resp, resp_len);
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(pair.session, &info), 0);
    assert_in_range(info.mtu, 1, 1472);
    for (unsigned i = 0; i < 2000 && s.n_sent == 0; i++)
        (void)smt_poll(pair.client.ep, &ev, 1), (void)smt_wait(pair.client.ep, 1000000);
    pair_stop(&s);
    assert_int_equal(s.n_requests, 1);
    assert_int_equal(s.n_sent, 1);
    free(s.resp);
    free(resp);
    free(p);
}

static void test_message(void **state)
{
    one_way(load_scale(256u << 20));
}

static void test_call(void **state)
{
    call(load_scale(256u << 20), load_scale(64u << 20));
}

static void test_largest(void **state)
{
    if (getenv("SMT_TEST_ALL") == NULL)
        skip();
    one_way(SMT_MAX_MSG_LEN);
    call(SMT_MAX_MSG_LEN, 1u << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message),
        cmocka_unit_test(test_call),
        cmocka_unit_test(test_largest),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
