/* Our end against a kernel with Homa: an echo server and a caller that checks every byte, over raw
 * IP, by the public API.
 *
 * usage: homa_peer serve PROFILE HOST PORT [TAP]
 *        homa_peer call PROFILE PEER SIZE N [TAP]
 * Keys of smt1 are in SMT_KEYS_FILE. The server says "port N" when it can be called, and ends by
 * SIGTERM. The caller says "N calls of SIZE bytes" and exits with 0 when all came back. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <smt/smt.h>

static const uint64_t second = UINT64_C(1000000000);
static volatile sig_atomic_t stop;
static struct smt_ctx *ctx;
static struct smt_ep *ep;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
    if (ep != NULL)
        smt_wakeup(ep);
}

static void die(const char *what, const char *why)
{
    printf("failed: %s: %s\n", what, why);
    exit(1);
}

static void open_all(const char *profile, const char *host, int port, const char *tap)
{
    char text[512] = "";
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.device = "ip";
    config.profile = profile;
    config.tap = tap;
    config.keys_file = getenv("SMT_KEYS_FILE");
    config.error_text = text;
    config.error_text_len = sizeof(text);
    if (smt_ctx_open(&config, &ctx) < 0)
        die("smt_ctx_open", text);
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    ep_config.bind_host = host;
    ep_config.port = (uint16_t)port;
    ep_config.accept = port != 0;
    ep_config.peer_timeout_ns = 30 * second; /* emulated machines are slow */
    if (smt_ep_open(ctx, &ep_config, &ep) < 0)
        die("smt_ep_open", smt_error_text(ctx));
    printf("port %u\n", smt_ep_port(ep));
}

static int serve(void)
{
    unsigned long n = 0;
    while (!stop) {
        struct smt_event events[16];
        int got = smt_poll(ep, events, 16);
        if (got < 0)
            die("smt_poll", smt_error_text(ctx));
        for (int i = 0; i < got; i++) {
            const struct smt_event *ev = &events[i];
            struct smt_iov iov = {ev->data, ev->len};
            if (ev->type == SMT_EV_REQUEST) {
                if (smt_reply(ev->msg, &iov, 1, ev->msg) < 0)
                    die("smt_reply", smt_error_text(ctx));
                n++;
            } else if (ev->type == SMT_EV_SENT || ev->type == SMT_EV_FAILED) {
                if (ev->type == SMT_EV_FAILED)
                    printf("a reply failed: %s\n", smt_error_name(ev->error));
                smt_release(ev->user);
            }
        }
        if (got == 0 && smt_wait(ep, second / 20) < 0)
            die("smt_wait", smt_error_text(ctx));
    }
    printf("%lu requests\n", n);
    return 0;
}

static int call(const char *peer, size_t size, unsigned n)
{
    struct smt_session *session;
    uint8_t *request = malloc(size), *response = malloc(size);
    if (request == NULL || response == NULL)
        die("malloc", "no memory");
    if (smt_connect_wait(ep, peer, NULL, 0, 10 * second, &session) < 0)
        die("smt_connect_wait", smt_error_text(ctx));
    for (unsigned i = 0; i < n; i++) {
        uint32_t x = i * 2654435761u;
        for (size_t k = 0; k < size; k++)
            request[k] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
        int64_t r = smt_call_wait(session, request, size, response, size, 60 * second);
        if (r < 0)
            die("a call", smt_error_text(ctx));
        if ((size_t)r != size || memcmp(request, response, size) != 0)
            die("a call", "the response differs from the request");
    }
    printf("%u calls of %zu bytes\n", n, size);
    free(request);
    free(response);
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, on_signal);
    int r;
    if (argc >= 5 && argc <= 6 && strcmp(argv[1], "serve") == 0) {
        open_all(argv[2], argv[3], atoi(argv[4]), argc > 5 ? argv[5] : NULL);
        r = serve();
    } else if (argc >= 6 && argc <= 7 && strcmp(argv[1], "call") == 0) {
        open_all(argv[2], NULL, 0, argc > 6 ? argv[6] : NULL);
        r = call(argv[3], (size_t)atol(argv[4]), (unsigned)atoi(argv[5]));
    } else {
        fprintf(stderr, "usage: homa_peer serve PROFILE HOST PORT [TAP]\n"
                        "       homa_peer call PROFILE PEER SIZE N [TAP]\n");
        return 2;
    }
    (void)smt_ep_drain(ep, second);
    if (smt_ep_close(ep) < 0 || smt_ctx_close(ctx) < 0)
        die("closing", "refused");
    return r;
}
