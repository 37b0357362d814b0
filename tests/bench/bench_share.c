/* What an RPC costs endpoints that share a port, by their number: N endpoints and N threads serve,
 * N client endpoints with a thread each call. scripts/count-instructions counts what is below
 * server_turn: a server thread sleeps in poll(2) otherwise, so idling costs nothing.
 *
 * usage: bench_share THREADS RPCS [DEVICE] */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <smt/smt.h>

enum { MAX_THREADS = 8, N_SESSIONS = 8, DEPTH = 64, SIZE = 64 };

static struct smt_ctx *ctx;
static unsigned n_threads, n_rpcs;
static uint16_t port;
static _Atomic int stop;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, smt_error_text(ctx));
    exit(1);
}

/* Everything a server does when something came. */
__attribute__((noinline)) void server_turn(struct smt_ep *ep);
void server_turn(struct smt_ep *ep)
{
    static const uint8_t answer[SIZE] = {1};
    const struct smt_iov iov = {answer, SIZE};
    struct smt_event ev[64];
    int n;
    while ((n = smt_poll(ep, ev, 64)) > 0) {
        for (int i = 0; i < n; i++) {
            if (ev[i].type == SMT_EV_REQUEST) {
                if (smt_reply(ev[i].msg, &iov, 1, NULL) < 0)
                    die("reply");
                smt_release(ev[i].msg);
            }
        }
    }
    if (n < 0)
        die("server");
}

static void *serve(void *arg)
{
    struct smt_ep *ep = arg;
    struct pollfd fd = {.fd = smt_get_fd(ep), .events = POLLIN};
    while (!stop) {
        server_turn(ep);
        if (smt_arm(ep) == 0)
            (void)poll(&fd, 1, 100);
    }
    return NULL;
}

static void post(struct smt_session *session)
{
    static const uint8_t request[SIZE];
    const struct smt_iov iov = {request, SIZE};
    const struct smt_call_args args = {
        .size = sizeof(args), .iov = &iov, .n_iov = 1, .user = session};
    if (smt_call(session, &args, NULL) < 0)
        die("call");
}

static void *call(void *arg)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    struct smt_ep *ep;
    struct smt_session *sessions[N_SESSIONS];
    char where[32];
    config.bind_host = "127.0.0.1";
    snprintf(where, sizeof(where), "127.0.0.1:%u", port);
    if (smt_ep_open(ctx, &config, &ep) < 0)
        die("client");
    for (unsigned i = 0; i < N_SESSIONS; i++)
        if (smt_connect_wait(ep, where, NULL, SMT_NEW_SESSION, 20000000000, &sessions[i]) < 0)
            die("connect");
    unsigned posted = 0, done = 0;
    for (; posted < DEPTH; posted++)
        post(sessions[posted % N_SESSIONS]);
    while (done < n_rpcs) {
        struct smt_event ev[64];
        int n = smt_poll(ep, ev, 64);
        for (int i = 0; i < n; i++) {
            if (ev[i].type == SMT_EV_FAILED)
                die("failed");
            if (ev[i].type != SMT_EV_RESPONSE)
                continue;
            smt_release(ev[i].msg);
            done++;
            if (posted < n_rpcs) {
                post(ev[i].user);
                posted++;
            }
        }
        if (n == 0)
            (void)smt_wait(ep, 10000000);
    }
    if (smt_ep_drain(ep, 5000000000) < 0 || smt_ep_close(ep) < 0)
        die("close");
    return arg;
}

int main(int argc, char **argv)
{
    n_threads = argc >= 3 ? (unsigned)atoi(argv[1]) : 0;
    n_rpcs = argc >= 3 ? (unsigned)atoi(argv[2]) : 0;
    if (n_threads < 1 || n_threads > MAX_THREADS || n_rpcs < DEPTH) {
        fprintf(stderr, "usage: bench_share THREADS RPCS [DEVICE]\n");
        return 2;
    }
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.plaintext = 1;
    config.device = argc > 3 ? argv[3] : "udp";
    config.shm = -1;
    if (smt_ctx_open(&config, &ctx) < 0)
        die("context");
    struct smt_ep *eps[MAX_THREADS];
    pthread_t servers[MAX_THREADS], clients[MAX_THREADS];
    for (unsigned i = 0; i < n_threads; i++) {
        struct smt_ep_config ec = SMT_EP_CONFIG_INIT;
        ec.bind_host = "127.0.0.1";
        ec.accept = 1;
        ec.port = port;
        ec.number = (uint8_t)i;
        ec.share = (uint8_t)n_threads;
        if (smt_ep_open(ctx, &ec, &eps[i]) < 0)
            die("endpoint");
        port = smt_ep_port(eps[i]);
    }
    for (unsigned i = 0; i < n_threads; i++)
        if (pthread_create(&servers[i], NULL, serve, eps[i]) != 0 ||
            pthread_create(&clients[i], NULL, call, NULL) != 0)
            die("thread");
    for (unsigned i = 0; i < n_threads; i++)
        pthread_join(clients[i], NULL);
    stop = 1;
    for (unsigned i = n_threads; i-- > 0;) {
        pthread_join(servers[i], NULL);
        if (smt_ep_close(eps[i]) < 0)
            die("close");
    }
    printf("{\"threads\": %u, \"all_rpcs\": %u}\n", n_threads, n_threads * n_rpcs);
    return smt_ctx_close(ctx) == 0 ? 0 : 1;
}
