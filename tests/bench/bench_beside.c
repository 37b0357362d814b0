/* Short calls beside long messages of the same endpoint: how long do they wait in our own queues?
 *
 *   bench_beside serve PORT PSK_FILE
 *   bench_beside DEVICE SECONDS PSK_FILE HOST:PORT...
 *
 * The client sends messages of 4 MB to all servers but the first, two at a time each, and measures
 * calls of 64 bytes to the first, one a millisecond. Run it between network namespaces with a
 * link of known speed (tc tbf), with and without ",mbps=" in DEVICE. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <smt/smt.h>

enum {
    LONG_LEN = 4 << 20,
    SHORT_LEN = 64,
    AT_ONCE = 2,
    MAX_PEERS = 64,
    MAX_CALLS = 1 << 20,
    EVENTS = 32,
    PAUSE_NS = 1000000
};

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct smt_ctx *ctx;

static void check(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_beside: %s: %s\n", what, smt_error_text(ctx));
    exit(1);
}

static struct smt_ep *ep_open(const char *device, const char *psk, int port)
{
    char error[256] = "";
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    struct smt_ep *ep;
    config.device = device;
    config.psk_file = psk;
    config.error_text = error;
    config.error_text_len = sizeof(error);
    if (smt_ctx_open(&config, &ctx) != 0) {
        fprintf(stderr, "bench_beside: %s\n", error);
        exit(1);
    }
    ep_config.port = (uint16_t)port;
    ep_config.accept = port > 0;
    check(smt_ep_open(ctx, &ep_config, &ep), "endpoint");
    return ep;
}

static int events_wait(struct smt_ep *ep, struct smt_event *ev)
{
    int n = smt_poll(ep, ev, EVENTS);
    if (n == 0)
        check(smt_wait(ep, PAUSE_NS), "wait");
    return n;
}

__attribute__((noreturn)) static void serve(const char *port, const char *psk)
{
    struct smt_ep *ep = ep_open(NULL, psk, atoi(port));
    static const char answer[SHORT_LEN];
    struct smt_iov iov = {answer, SHORT_LEN};
    struct smt_event ev[EVENTS];
    for (;;) {
        int n = events_wait(ep, ev);
        check(n, "poll");
        for (int i = 0; i < n; i++) {
            if (ev[i].type == SMT_EV_REQUEST)
                check(smt_reply(ev[i].msg, &iov, 1, NULL), "reply");
            if (ev[i].type == SMT_EV_REQUEST || ev[i].type == SMT_EV_MESSAGE)
                smt_release(ev[i].msg);
        }
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void long_send(struct smt_session *s)
{
    static char data[LONG_LEN];
    struct smt_iov iov = {data, LONG_LEN};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1, .user = s};
    check(smt_send(s, &args, NULL), "send");
}

static uint64_t short_call(struct smt_session *s)
{
    static char data[SHORT_LEN];
    struct smt_iov iov = {data, SHORT_LEN};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1};
    check(smt_call(s, &args, NULL), "call");
    return clock_ns();
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        serve(argv[2], argv[3]);
    if (argc < 5 || argc - 4 > MAX_PEERS) {
        fprintf(stderr, "usage: bench_beside serve PORT PSK | DEVICE SECONDS PSK HOST:PORT...\n");
        return 1;
    }
    struct smt_ep *ep = ep_open(argv[1], argv[3], 0);
    struct smt_session *sessions[MAX_PEERS];
    static uint64_t took[MAX_CALLS];
    uint64_t bytes = 0, n_calls = 0;
    for (int i = 4; i < argc; i++)
        check(smt_connect_wait(ep, argv[i], NULL, 0, 5000000000u, &sessions[i - 4]), argv[i]);
    for (int i = 1; i < argc - 4; i++) {
        for (int k = 0; k < AT_ONCE; k++)
            long_send(sessions[i]);
    }
    uint64_t from = clock_ns(), until = from + (uint64_t)(atof(argv[2]) * 1e9);
    uint64_t begun = short_call(sessions[0]);
    bool is_out = true;
    struct smt_event ev[EVENTS];
    while (clock_ns() < until && n_calls < MAX_CALLS) {
        if (!is_out && clock_ns() > begun + PAUSE_NS) {
            begun = short_call(sessions[0]);
            is_out = true;
        }
        int n = events_wait(ep, ev);
        check(n, "poll");
        for (int i = 0; i < n; i++) {
            if (ev[i].type == SMT_EV_SENT) {
                bytes += LONG_LEN;
                long_send(ev[i].user);
            }
            if (ev[i].type == SMT_EV_RESPONSE) {
                smt_release(ev[i].msg);
                took[n_calls++] = clock_ns() - begun;
                is_out = false;
            }
            if (ev[i].type == SMT_EV_FAILED)
                check(ev[i].error, smt_strerror(ev[i].error));
        }
    }
    double seconds = (double)(clock_ns() - from) / 1e9;
    qsort(took, n_calls, sizeof(took[0]), compare);
    printf("%.0f calls/s, p50 %.0f us, p90 %.0f us, p99 %.0f us; %.1f MB/s of long messages\n",
           (double)n_calls / seconds, (double)took[n_calls / 2] / 1e3,
           (double)took[n_calls * 9 / 10] / 1e3, (double)took[n_calls * 99 / 100] / 1e3,
           (double)bytes / 1e6 / seconds);
    check(smt_ep_close(ep), "close");
    return smt_ctx_close(ctx) == 0 ? 0 : 1;
}
