/* Endpoints that share a port, each polled by a thread of its own: every packet finds its endpoint,
 * sessions are spread, and the order of opening and closing is kept. Both sides are such groups. */
#include "net.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { SHARE = 2, N_SESSIONS = 16, N_ROUNDS = 40, LARGE = 200000 };

static struct smt_ctx *ctx;
static _Atomic int stop;
static char address[64];

static void serve_event(const struct smt_event *ev)
{
    struct smt_iov iov = {ev->data, ev->len};
    if (ev->type == SMT_EV_REQUEST)
        (void)smt_reply(ev->msg, &iov, 1, ev->msg);
    else if (ev->type == SMT_EV_SENT || ev->type == SMT_EV_FAILED)
        smt_release(ev->user);
}

static void *server_run(void *arg)
{
    struct smt_ep *ep = arg;
    while (!stop) {
        struct smt_event ev[32];
        int n = smt_poll(ep, ev, 32);
        for (int i = 0; i < n; i++)
            serve_event(&ev[i]);
        if (n < 0 || (n == 0 && smt_wait(ep, 100000000) == SMT_EDEVICE))
            return "server";
    }
    return NULL;
}

/* All sessions call at once, so that packets of several leave in one batch; then takes all answers.
 * NULL, or what went wrong. */
static const char *round_run(struct smt_ep *ep, struct smt_session **sessions, const uint8_t *bytes,
                             size_t len)
{
    struct smt_iov iov = {bytes, len};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1};
    for (unsigned i = 0; i < N_SESSIONS; i++)
        if (smt_call(sessions[i], &args, NULL) < 0)
            return "call";
    uint64_t until = net_now() + 20000000000ull * net_slow();
    for (unsigned done = 0; done < N_SESSIONS;) {
        struct smt_event ev[32];
        int n = smt_poll(ep, ev, 32);
        if (n < 0 || net_now() > until)
            return "no answer";
        for (int i = 0; i < n; i++) {
            if (ev[i].type == SMT_EV_FAILED || ev[i].type == SMT_EV_SESSION_DOWN)
                return "call failed";
            if (ev[i].type != SMT_EV_RESPONSE)
                continue;
            if (ev[i].len != len || memcmp(ev[i].data, bytes, len) != 0)
                return "wrong answer";
            smt_release(ev[i].msg);
            done++;
        }
        if (n == 0)
            (void)smt_wait(ep, 10000000);
    }
    return NULL;
}

static void *client_run(void *arg)
{
    struct smt_ep *ep = arg;
    struct smt_session *sessions[N_SESSIONS];
    static const uint8_t bytes[LARGE] = {1, 2, 3, [LARGE - 1] = 4};
    for (unsigned i = 0; i < N_SESSIONS; i++)
        if (smt_connect_wait(ep, address, NULL, SMT_NEW_SESSION,
                             20000000000ull * net_slow(), &sessions[i]) < 0)
            return "connect";
    const char *wrong = NULL;
    for (unsigned i = 0; i < N_ROUNDS && wrong == NULL; i++)
        wrong = round_run(ep, sessions, bytes, 64 + i);
    if (wrong == NULL)
        wrong = round_run(ep, sessions, bytes, LARGE);
    return (void *)wrong;
}

static uint64_t counter(const struct smt_ep *ep, const char *name)
{
    struct smt_counter c[256];
    int n = smt_ep_counters(ep, c, 256);
    assert_in_range(n, 1, 256);
    for (int i = 0; i < n; i++)
        if (strcmp(c[i].name, name) == 0)
            return c[i].value;
    fail_msg("no counter %s", name);
    return 0;
}

static struct smt_ep_config config_of(unsigned number, bool accepts, uint16_t port)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.bind_host = net_host(accepts);
    config.accept = accepts;
    config.port = port;
    config.share = SHARE;
    config.number = (uint8_t)number;
    return config;
}

static void group_open(struct smt_ep *eps[SHARE], bool accepts)
{
    uint16_t port = 0;
    for (unsigned i = 0; i < SHARE; i++) {
        struct smt_ep_config config = config_of(i, accepts, port);
        int r = smt_ep_open(ctx, &config, &eps[i]);
        if (r < 0)
            fail_msg("endpoint %u: %s", i, smt_error_text(ctx));
        assert_int_equal(port == 0 || smt_ep_port(eps[i]) == port, 1);
        port = smt_ep_port(eps[i]);
    }
}

static void group_close(struct smt_ep *eps[SHARE])
{
    for (unsigned i = SHARE; i-- > 0;)
        assert_int_equal(smt_ep_close(eps[i]), 0);
}

static void threads_join(pthread_t threads[SHARE], const char *who)
{
    void *result;
    for (unsigned i = 0; i < SHARE; i++) {
        pthread_join(threads[i], &result);
        if (result != NULL)
            fail_msg("%s %u: %s", who, i, (const char *)result);
    }
}

static void every_packet_finds_its_endpoint(void **state)
{
    struct smt_ep *servers[SHARE], *clients[SHARE];
    pthread_t server_threads[SHARE], client_threads[SHARE];
    ctx = net_ctx(NET_PSK);
    group_open(servers, true);
    group_open(clients, false);
    snprintf(address, sizeof(address), "%s", net_address_of(net_host(true),
                                                            smt_ep_port(servers[0])));
    stop = 0;
    for (unsigned i = 0; i < SHARE; i++) {
        assert_int_equal(pthread_create(&server_threads[i], NULL, server_run, servers[i]), 0);
        assert_int_equal(pthread_create(&client_threads[i], NULL, client_run, clients[i]), 0);
    }
    threads_join(client_threads, "client");
    stop = 1;
    for (unsigned i = 0; i < SHARE; i++)
        smt_wakeup(servers[i]);
    threads_join(server_threads, "server");
    uint64_t handshakes = 0;
    for (unsigned i = 0; i < SHARE; i++) {
        /* One chance in 2^31 that all sessions choose the other endpoint. */
        assert_true(counter(servers[i], "handshakes_ok") > 0);
        handshakes += counter(servers[i], "handshakes_ok");
        assert_int_equal(counter(servers[i], "drop_no_session"), 0);
        assert_int_equal(counter(clients[i], "drop_no_session"), 0);
        assert_int_equal(counter(servers[i], "drop_cookie"), 0);
    }
    assert_int_equal(handshakes, SHARE * N_SESSIONS);
    group_close(clients);
    group_close(servers);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void order_is_kept(void **state)
{
    struct smt_ep *eps[SHARE], *other = NULL;
    ctx = net_ctx(NET_PSK);
    struct smt_ep_config config = config_of(1, true, 0);
    assert_int_equal(smt_ep_open(ctx, &config, &other), SMT_ESTATE);
    config = config_of(SHARE, true, 0);
    assert_int_equal(smt_ep_open(ctx, &config, &other), SMT_EINVAL);
    group_open(eps, true);
    uint16_t port = smt_ep_port(eps[0]);
    for (unsigned i = 0; i < SHARE; i++) {
        config = config_of(i, true, port);
        assert_int_equal(smt_ep_open(ctx, &config, &other), SMT_EADDRINUSE);
    }
    /* Neither does who knows nothing of the group get the port, nor another group. */
    config = config_of(0, true, port);
    config.share = 0;
    assert_int_equal(smt_ep_open(ctx, &config, &other), SMT_EADDRINUSE);
    struct smt_ctx *stranger = net_ctx(NET_PSK);
    config.share = SHARE;
    assert_int_equal(smt_ep_open(stranger, &config, &other), SMT_EADDRINUSE);
    assert_int_equal(smt_ctx_close(stranger), 0);
    assert_int_equal(smt_ep_close(eps[0]), SMT_ESTATE);
    assert_non_null(strstr(smt_error_text(ctx), "number 1"));
    group_close(eps);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_packet_finds_its_endpoint),
        cmocka_unit_test(order_is_kept),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
