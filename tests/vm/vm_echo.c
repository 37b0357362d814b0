/* An echo server and a caller that never gives up, in processes of their own: for checks that kill
 * peers, take links down and remove devices. Both say on stdout what happens to them, a line each:
 *
 *   port N             the endpoint is open
 *   event NAME ERROR   of the session or the device
 *   warning: TEXT      what the library logs as such
 *   calls succeed      the first success, and the first after a failure
 *   calls fail: ERROR  the first failure after a success
 *   counter NAME N     on SIGUSR1, ending with "counters end"
 *   total OK FAILED    at the end, on SIGTERM or after N-CALLS
 *
 * SIGUSR2 keeps the caller from calling, and the next one lets it go on.
 *
 * usage: vm_echo serve DEVICE HOST PORT
 *        vm_echo call DEVICE HOST PEER [N-SESSIONS [N-CALLS]]
 * Credentials are in SMT_CERT, SMT_KEY, SMT_CA or SMT_PSK_FILE. Exit code 4: the device is lost. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <smt/smt.h>

enum { MAX_LEN = 6000, MAX_SESSIONS = 2000, MAX_CALLING = 32 };

static const uint64_t second = UINT64_C(1000000000);

struct slot {
    struct smt_session *session;
    bool is_up, is_calling;
    uint32_t n; /* of the call, which its bytes depend on */
    uint64_t again_at;
    uint8_t request[MAX_LEN];
    struct smt_iov iov;
};

static struct smt_ctx *ctx;
static struct smt_ep *ep;
static volatile sig_atomic_t stop, tell, is_paused;
static struct slot *slots;
static unsigned n_slots, n_up, n_calling, next_slot;
static uint64_t n_ok, n_failed, n_wanted;
static bool is_succeeding, is_failing;

static void on_signal(int sig)
{
    if (sig == SIGTERM)
        stop = 1;
    else if (sig == SIGUSR1)
        tell = 1;
    else
        is_paused = !is_paused;
    if (ep != NULL)
        smt_wakeup(ep);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * second + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
    printf("failed: %s: %s\n", what, smt_error_text(ctx));
    exit(1);
}

static void tell_warning(void *arg, int level, const char *text)
{
    (void)arg;
    if (level == 1)
        printf("warning: %s\n", text);
}

static void ep_open(const char *device, const char *host, int port, bool accept)
{
    static char text[512];
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.device = device;
    config.log = tell_warning;
    config.psk_file = getenv("SMT_PSK_FILE");
    if (config.psk_file == NULL) {
        config.cert_file = getenv("SMT_CERT");
        config.key_file = getenv("SMT_KEY");
        config.ca_file = getenv("SMT_CA");
    }
    config.error_text = text;
    config.error_text_len = sizeof(text);
    if (smt_ctx_open(&config, &ctx) < 0) {
        printf("failed: %s\n", text);
        exit(1);
    }
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    ep_config.bind_host = host;
    ep_config.port = (uint16_t)port;
    ep_config.accept = accept;
    /* Emulated machines are slow, and thousands of signatures take their time. */
    ep_config.handshake_timeout_ns = 120 * second;
    ep_config.peer_timeout_ns = 20 * second;
    if (smt_ep_open(ctx, &ep_config, &ep) < 0)
        die("smt_ep_open");
    printf("port %u\n", smt_ep_port(ep));
}

static void tell_counters(void)
{
    struct smt_counter counters[256];
    int n = smt_ep_counters(ep, counters, 256);
    for (int i = 0; i < n && i < 256; i++)
        printf("counter %s %lu\n", counters[i].name, (unsigned long)counters[i].value);
    printf("total %lu %lu\ncounters end\n", (unsigned long)n_ok, (unsigned long)n_failed);
}

static void succeeded(void)
{
    n_ok++;
    if (!is_succeeding)
        printf("calls succeed\n");
    is_succeeding = true;
    is_failing = false;
}

static void failed(int error)
{
    n_failed++;
    if (!is_failing)
        printf("calls fail: %s\n", smt_error_name(error));
    is_failing = true;
    is_succeeding = false;
}

static void connect_slot(struct slot *s, const char *peer)
{
    int r = smt_connect(ep, peer, NULL, SMT_NEW_SESSION, &s->session);
    if (r < 0)
        die("smt_connect");
    smt_session_set_user(s->session, s);
}

static void call(struct slot *s)
{
    s->n++;
    uint32_t x = s->n * 2654435761u + (uint32_t)(s - slots);
    size_t len = x % (s->n % 8 == 0 ? MAX_LEN : 300);
    for (size_t i = 0; i < len; i++)
        s->request[i] = (uint8_t)(x = x * 1664525 + 1013904223, x >> 24);
    s->iov = (struct smt_iov){s->request, len};
    struct smt_call_args args = {.size = sizeof(args),
                                 .iov = &s->iov,
                                 .n_iov = 1,
                                 .flags = SMT_IDEMPOTENT,
                                 .deadline_ns = 10 * second,
                                 .user = s};
    int r = smt_call(s->session, &args, NULL);
    s->is_calling = r == 0;
    n_calling += s->is_calling;
    if (r == SMT_EAGAIN) {
        s->again_at = now_ns() + second / 100;
    } else if (r < 0) {
        failed(r);
        s->again_at = now_ns() + second / 10;
    }
}

static void response(const struct smt_event *ev)
{
    struct slot *s = ev->user;
    if (ev->len != s->iov.len || (ev->len > 0 && memcmp(ev->data, s->request, ev->len) != 0)) {
        printf("failed: a response of %zu bytes differs from its request of %zu\n", ev->len,
               s->iov.len);
        exit(1);
    }
    smt_release(ev->msg);
    s->is_calling = false;
    n_calling--;
    succeeded();
}

static const char *event_name(enum smt_event_type type)
{
    switch (type) {
    case SMT_EV_SESSION_UP:
        return "SESSION_UP";
    case SMT_EV_SESSION_DOWN:
        return "SESSION_DOWN";
    case SMT_EV_DEVICE_DOWN:
        return "DEVICE_DOWN";
    case SMT_EV_DEVICE_UP:
        return "DEVICE_UP";
    case SMT_EV_DEVICE_LOST:
        return "DEVICE_LOST";
    default:
        return "other";
    }
}

static void handle(const struct smt_event *ev, const char *peer)
{
    struct slot *s = ev->session != NULL ? smt_session_user(ev->session) : NULL;
    switch (ev->type) {
    case SMT_EV_REQUEST: {
        struct smt_iov iov = {ev->data, ev->len};
        if (smt_reply(ev->msg, &iov, 1, ev->msg) < 0)
            die("smt_reply");
        n_ok++;
        return;
    }
    case SMT_EV_RESPONSE:
        response(ev);
        return;
    case SMT_EV_SENT:
        smt_release(ev->user);
        return;
    case SMT_EV_FAILED:
        if (slots == NULL) {
            smt_release(ev->user);
            return;
        }
        s = ev->user;
        s->is_calling = false;
        n_calling--;
        s->again_at = now_ns() + second / 10;
        failed(ev->error);
        return;
    default:
        break;
    }
    if (n_slots <= 1 && slots != NULL)
        printf("event %s %s\n", event_name(ev->type), smt_error_name(ev->error));
    else if (ev->session == NULL)
        printf("event %s %s\n", event_name(ev->type), smt_error_name(ev->error));
    if (ev->type == SMT_EV_DEVICE_LOST) {
        printf("lost: %s\n", smt_error_text(ctx));
        exit(4);
    }
    if (s == NULL)
        return;
    if (ev->type == SMT_EV_SESSION_UP && !s->is_up) {
        s->is_up = true;
        n_up++;
    } else if (ev->type == SMT_EV_SESSION_DOWN) {
        n_up -= s->is_up;
        s->is_up = false;
        if (ev->error != SMT_EDEVICE) /* else DEVICE_LOST follows */
            connect_slot(s, peer);
    }
}

static void turn(const char *peer)
{
    struct smt_event events[64];
    int n = smt_poll(ep, events, 64);
    if (n < 0)
        die("smt_poll");
    for (int i = 0; i < n; i++)
        handle(&events[i], peer);
    if (n == 0 && smt_wait(ep, second / 20) < 0)
        die("smt_wait");
    if (tell) {
        tell = 0;
        tell_counters();
    }
}

static int serve(const char *device, const char *host, int port)
{
    ep_open(device, host, port, true);
    while (!stop)
        turn(NULL);
    return 0;
}

/* The sessions take turns. */
static void calls_go_on(void)
{
    uint64_t now = now_ns();
    for (unsigned i = 0; i < n_slots && n_calling < MAX_CALLING; i++) {
        struct slot *s = &slots[next_slot++ % n_slots];
        if (s->is_up && !s->is_calling && now >= s->again_at)
            call(s);
    }
}

static int caller(const char *device, const char *host, const char *peer)
{
    ep_open(device, host, 0, false);
    uint64_t begin = now_ns();
    for (unsigned i = 0; i < n_slots; i++)
        connect_slot(&slots[i], peer);
    while (!stop && n_up < n_slots)
        turn(peer);
    printf("up %u after %.1f s\n", n_up, (double)(now_ns() - begin) / 1e9);
    while (!stop && (n_wanted == 0 || n_ok + n_failed < n_wanted)) {
        if (!is_paused)
            calls_go_on();
        turn(peer);
    }
    return n_wanted != 0 && n_failed > 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, on_signal);
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    int r;
    if (argc == 5 && strcmp(argv[1], "serve") == 0) {
        r = serve(argv[2], argv[3], atoi(argv[4]));
    } else if (argc >= 5 && argc <= 7 && strcmp(argv[1], "call") == 0) {
        n_slots = argc > 5 ? (unsigned)atoi(argv[5]) : 1;
        n_wanted = argc > 6 ? (uint64_t)atoi(argv[6]) : 0;
        slots = calloc(n_slots, sizeof(*slots));
        if (slots == NULL || n_slots == 0 || n_slots > MAX_SESSIONS)
            return 2;
        r = caller(argv[2], argv[3], argv[4]);
    } else {
        fprintf(stderr, "usage: vm_echo serve DEVICE HOST PORT\n"
                        "       vm_echo call DEVICE HOST PEER [N-SESSIONS [N-CALLS]]\n");
        return 2;
    }
    printf("total %lu %lu\n", (unsigned long)n_ok, (unsigned long)n_failed);
    (void)smt_ep_drain(ep, second);
    if (smt_ep_close(ep) < 0 || smt_ctx_close(ctx) < 0)
        die("closing");
    return r;
}
