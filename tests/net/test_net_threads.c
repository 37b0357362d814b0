/* One context, an endpoint per thread: nothing but the context is shared, and that is safe. */
#include "net.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { N_CLIENTS = 4, N_CALLS = 200 };

static struct smt_ctx *ctx;
static _Atomic int stop;

struct client {
    pthread_t thread;
    char address[32];
    unsigned number;
};

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
        if (n < 0 || (n == 0 && smt_wait(ep, UINT64_MAX) < 0))
            return "server";
    }
    return NULL;
}

/* Opens, fails once on purpose, connects, calls, closes; all in its own thread. */
static void *client_run(void *arg)
{
    const struct client *c = arg;
    struct smt_ep *ep;
    struct smt_session *s;
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.bind_host = "127.0.0.1";
    config.mtu = c->number + 1;
    if (smt_ep_open(ctx, &config, &ep) != SMT_EINVAL || strstr(smt_error_text(ctx), "mtu") == NULL)
        return "error text";
    config.mtu = 0;
    if (smt_ep_open(ctx, &config, &ep) < 0) {
        fprintf(stderr, "# %s\n", smt_error_text(ctx));
        return "open";
    }
    void *buf = smt_buf_alloc(ctx, 10000);
    if (buf == NULL || smt_connect_wait(ep, c->address, NULL, 0, 20000000000, &s) < 0)
        return "connect";
    for (unsigned i = 0; i < N_CALLS; i++) {
        uint64_t got = 0, sent = (uint64_t)c->number << 32 | i;
        if (smt_call_wait(s, &sent, sizeof(sent), &got, sizeof(got), 20000000000) != sizeof(sent) ||
            got != sent)
            return "call";
    }
    smt_buf_free(ctx, buf);
    return smt_ep_drain(ep, 5000000000) < 0 || smt_ep_close(ep) < 0 ? "close" : NULL;
}

static void threads_run(enum net_security security)
{
    struct client clients[N_CLIENTS];
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.bind_host = "127.0.0.1";
    config.accept = 1;
    ctx = net_ctx(security);
    struct smt_ep *server;
    assert_int_equal(smt_ep_open(ctx, &config, &server), 0);
    stop = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, server_run, server), 0);
    for (unsigned i = 0; i < N_CLIENTS; i++) {
        clients[i] = (struct client){.number = i};
        snprintf(clients[i].address, sizeof(clients[i].address), "127.0.0.1:%u",
                 smt_ep_port(server));
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_run, &clients[i]), 0);
    }
    void *result;
    for (unsigned i = 0; i < N_CLIENTS; i++) {
        pthread_join(clients[i].thread, &result);
        if (result != NULL)
            fail_msg("client %u: %s", i, (const char *)result);
    }
    stop = 1;
    smt_wakeup(server);
    pthread_join(thread, &result);
    assert_null(result);
    assert_int_equal(smt_ep_close(server), 0);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void test_threads(void **state)
{
    threads_run(NET_CERT);
    threads_run(NET_PSK);
    threads_run(NET_PLAIN);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
