/* Processes that are killed in the middle of things, again and again: the one that stays neither
 * hangs nor grows, its calls end in time, and the next process is served like the first. */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "base/mem.h"
#include "base/prng.h"
#include "core/state.h"

enum {
    MAX_KILLS = 50,
    MIN_KILLS = 15,
    N_WARM = 10, /* rounds until pools are as large as they get */
    MAX_LEN = 512 << 10,
    N_CALLS = 40,        /* in flight when the server dies */
    N_CLIENT_CALLS = 16, /* in flight in a client process */
    SLACK = 64 << 20,    /* which sizes meet in flight is chance */
};

static const uint64_t peer_timeout = 500000000;
static const uint64_t deadline = 5000000000;
/* A busy machine may keep us from looking at the clock. */
static const uint64_t lateness = 60000000000;

static uint8_t bytes[MAX_LEN];
static struct smt_prng rng;

static uint64_t below(uint64_t n)
{
    return smt_prng_below(&rng, n);
}

static void seed_take(void)
{
    smt_prng_seed(&rng, load_seed(1));
    net_fill(bytes, sizeof(bytes), 7);
}

static struct smt_ep_config survivor_config(void)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.peer_timeout_ns = peer_timeout;
    config.idle_timeout_ns = 1000000000;
    config.handshake_timeout_ns = 3000000000;
    return config;
}

/* Pages of the process that are in memory: OpenSSL's allocations are in no book of ours. */
static uint64_t resident(void)
{
    unsigned long total, pages;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &total, &pages), 2);
    fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static unsigned n_kills(void)
{
    unsigned n = load_scale(MAX_KILLS);
    return n > MIN_KILLS ? n : MIN_KILLS;
}

static void growth_check(unsigned round, uint64_t *warm)
{
    if (round == N_WARM)
        *warm = resident();
    if (round != N_WARM && round != n_kills() - 1)
        return;
    printf("# round %u: %" PRIu64 " KB live, %" PRIu64 " KB resident\n", round,
           smt_mem_live().bytes_live >> 10, resident() >> 10);
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed */
    assert_true(resident() < *warm + SLACK);
#endif
}

/* Everything was given back but what `n_conns` sessions hold. */
static void engine_check(const struct smt_ep *ep, unsigned n_conns)
{
    assert_true(smt_engine_is_at_rest(ep->engine));
    assert_int_equal(smt_pool_n_live(&ep->engine->conns), n_conns);
    assert_int_equal(net_counter(ep, "sessions"), n_conns);
}

static void memory_same(const struct smt_mem_stats *before)
{
    struct smt_mem_stats after = smt_mem_live();
    assert_int_equal(after.n_live, before->n_live);
    assert_int_equal(after.bytes_live, before->bytes_live);
}

/* ---- the server is killed ---- */

static struct net_pair pair; /* only the client end is used */

struct call {
    uint64_t posted_at;
    unsigned n_ended;
    bool is_one_way, is_idempotent;
};

struct tally {
    unsigned n_responses, n_sent, n_maybe, n_other;
};

static void calls_post(struct call *calls)
{
    for (unsigned i = 0; i < N_CALLS; i++) {
        size_t len = below(4) == 0 ? below(MAX_LEN) : below(2000);
        calls[i] = (struct call){
            .posted_at = net_now(), .is_one_way = below(5) == 0, .is_idempotent = below(3) == 0};
        struct smt_iov iov = {bytes, len};
        struct smt_call_args args = {
            .size = sizeof(args),
            .iov = &iov,
            .n_iov = 1,
            .flags = calls[i].is_idempotent ? SMT_IDEMPOTENT : 0,
            .deadline_ns = deadline,
            .user = &calls[i],
        };
        int r = calls[i].is_one_way ? smt_send(pair.session, &args, NULL)
                                    : smt_call(pair.session, &args, NULL);
        if (r < 0)
            fail_msg("post: %s", smt_error_name(r));
    }
}

static void call_ended(struct call *c)
{
    if (++c->n_ended != 1)
        fail_msg("a call ended twice");
    assert_in_range(net_now() - c->posted_at, 0, deadline + lateness);
}

/* Takes what came. Returns how many calls ended. */
static unsigned client_take(struct tally *t)
{
    unsigned n = 0;
    struct smt_event ev;
    for (; net_take(&pair.client, SMT_EV_RESPONSE, &ev); n++) {
        assert_memory_equal(ev.data, bytes, ev.len);
        smt_release(ev.msg);
        call_ended(ev.user);
        t->n_responses++;
    }
    for (; net_take(&pair.client, SMT_EV_SENT, &ev); n++) {
        call_ended(ev.user);
        t->n_sent++;
    }
    for (; net_take(&pair.client, SMT_EV_FAILED, &ev); n++) {
        const struct call *c = ev.user;
        if (ev.error != SMT_EMAYBE && ev.error != SMT_EUNREACHABLE && ev.error != SMT_ETIMEDOUT)
            fail_msg("failed with %s", smt_error_name(ev.error));
        t->n_maybe += ev.error == SMT_EMAYBE;
        t->n_other += ev.error != SMT_EMAYBE || c->is_idempotent;
        call_ended(ev.user);
    }
    return n;
}

/* A session that is up with the server of now, the old one if it still is. */
static void client_reconnect(const struct net_process *server)
{
    struct smt_event ev;
    bool is_down = false;
    while (net_take(&pair.client, SMT_EV_SESSION_DOWN, &ev))
        is_down = true;
    while (net_take(&pair.client, SMT_EV_SESSION_UP, &ev))
        continue;
    if (!is_down && pair.session != NULL)
        return;
    char address[32];
    snprintf(address, sizeof(address), "127.0.0.1:%u", server->port);
    int r = smt_connect(pair.client.ep, address, NULL, 0, &pair.session);
    if (r < 0)
        fail_msg("connect: %s", smt_error_name(r));
}

/* The next server answers. */
static void client_proves(const struct net_process *server)
{
    uint64_t until = net_now() + 20000000000ull * net_slow();
    for (;;) {
        client_reconnect(server);
        struct call c = {.posted_at = net_now()};
        struct tally t = {0};
        assert_int_equal(net_call(pair.session, bytes, 1000, deadline, &c, NULL), 0);
        while (client_take(&t) == 0)
            net_pump(&pair);
        if (t.n_responses == 1)
            return;
        if (net_now() > until)
            fail_msg("the next server is not reached");
    }
}

static void test_server_killed(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    seed_take();
    static struct call calls[N_CALLS];
    struct smt_ep_config config = survivor_config();
    struct net_process server;
    struct tally t = {0};
    uint64_t warm = 0;
    uint64_t begin = net_now();
    net_process_start(&server, 0, NET_CERT);
    net_end_open(&pair.client, NET_CERT, false, &config);
    pair.server.ep = NULL;
    pair.session = NULL;
    for (unsigned round = 0; round < n_kills(); round++) {
        client_proves(&server);
        calls_post(calls);
        uint64_t until = net_now() + below(4000000);
        unsigned n = 0;
        while (net_now() < until) {
            net_pump(&pair);
            n += client_take(&t);
        }
        net_process_kill(&server);
        if (below(3) == 0)
            net_pump_for(&pair, below(700) * 1000000);
        net_process_start(&server, server.port, NET_CERT);
        while (n < N_CALLS) {
            net_pump(&pair);
            n += client_take(&t);
            if (net_now() > until + deadline + lateness)
                fail_msg("%u calls of round %u have not ended", N_CALLS - n, round);
        }
        growth_check(round, &warm);
    }
    client_proves(&server);
    printf("# %u kills in %.1f s: %u responses, %u sent, %u MAYBE, %u others; %" PRIu64
           " sessions replaced, %" PRIu64 " calls repeated\n",
           n_kills(), (double)(net_now() - begin) / 1e9, t.n_responses, t.n_sent, t.n_maybe,
           t.n_other, net_counter(pair.client.ep, "sessions_replaced"),
           net_counter(pair.client.ep, "calls_repeated"));
    /* The runs met both: calls that were answered and calls that were lost. */
    assert_true(t.n_responses > 0 && t.n_maybe > 0);
    uint64_t until = net_now() + 10000000000ull * net_slow();
    while (!smt_engine_is_at_rest(pair.client.ep->engine)) {
        net_pump(&pair);
        pair.client.n = 0;
        assert_true(net_now() < until);
    }
    engine_check(pair.client.ep, 1);
    net_end_close(&pair.client);
    net_process_kill(&server);
    memory_same(&before);
}

/* ---- the client is killed ---- */

/* The program again as "client PORT DIR": calls until it is killed, tells by a byte that the first
 * call was answered. */
static int client_main(const char *port, const char *dir)
{
    static uint8_t lent[N_CLIENT_CALLS][MAX_LEN / 4];
    char address[32];
    net_use_dir(dir);
    smt_prng_seed(&rng, (uint64_t)getpid());
    snprintf(address, sizeof(address), "127.0.0.1:%s", port);
    struct smt_ctx *ctx = net_ctx(NET_CERT);
    struct smt_ep *ep;
    struct smt_session *s;
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.peer_timeout_ns = config.handshake_timeout_ns = 100000000000;
    if (smt_ep_open(ctx, &config, &ep) < 0 ||
        smt_connect_wait(ep, address, NULL, 0, 100000000000, &s) < 0)
        return 1;
    unsigned n_open = 0;
    bool told = false;
    while (getppid() != 1) {
        for (; n_open < N_CLIENT_CALLS; n_open++) {
            size_t len = below(3) == 0 ? below(sizeof(lent[0])) : below(500);
            if (net_call(s, lent[n_open], len, 0, NULL, NULL) < 0)
                return 2;
        }
        struct smt_event ev;
        int n = smt_poll(ep, &ev, 1);
        if (n < 0)
            return 3;
        /* A server that takes us for dead, as slow as we are: a new session, and lost calls. */
        if (n == 1 && ev.type == SMT_EV_FAILED && ev.error == SMT_EMAYBE)
            n_open--;
        else if (n == 1 && ev.type != SMT_EV_RESPONSE && ev.type != SMT_EV_SESSION_UP)
            return 4;
        if (n == 1 && ev.type == SMT_EV_RESPONSE) {
            smt_release(ev.msg);
            n_open--;
            if (!told && write(1, "!", 1) != 1)
                return 5;
            told = true;
        }
    }
    return 6;
}

static pid_t client_start(uint16_t port, int *fd)
{
    char port_text[16], dir[160];
    snprintf(port_text, sizeof(port_text), "%u", port);
    snprintf(dir, sizeof(dir), "%s", net_file(""));
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        execl("/proc/self/exe", "client", "client", port_text, dir, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    *fd = fds[0];
    return pid;
}

struct server_tally {
    unsigned n_requests, n_sent, n_failed, n_up, n_down;
};

static void server_step(struct smt_ep *ep, struct server_tally *t)
{
    struct smt_event ev[64];
    int n = smt_poll(ep, ev, 64);
    if (n < 0)
        fail_msg("poll: %s", smt_error_name(n));
    for (int i = 0; i < n; i++) {
        struct smt_iov iov = {ev[i].data, ev[i].len};
        switch (ev[i].type) {
        case SMT_EV_REQUEST:
            t->n_requests++;
            assert_int_equal(smt_reply(ev[i].msg, &iov, 1, ev[i].msg), 0);
            break;
        case SMT_EV_SENT:
        case SMT_EV_FAILED:
            t->n_sent += ev[i].type == SMT_EV_SENT;
            t->n_failed += ev[i].type == SMT_EV_FAILED;
            smt_release(ev[i].user);
            break;
        case SMT_EV_SESSION_UP:
            t->n_up++;
            break;
        case SMT_EV_SESSION_DOWN:
            t->n_down++;
            break;
        default:
            fail_msg("event %d", ev[i].type);
        }
    }
    if (n == 0 && smt_arm(ep) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static void server_serve_for(struct smt_ep *ep, struct server_tally *t, uint64_t ns)
{
    uint64_t until = net_now() + ns;
    do {
        server_step(ep, t);
    } while (net_now() < until);
}

/* Serves until the client has told that it was answered. */
static void server_serve_until_told(struct smt_ep *ep, struct server_tally *t, int fd)
{
    uint64_t until = net_now() + 30000000000ull * net_slow();
    for (char c;;) {
        server_step(ep, t);
        ssize_t r = read(fd, &c, 1);
        if (r == 1)
            return;
        if (r == 0 || errno != EAGAIN)
            fail_msg("the client ended by itself");
        if (net_now() > until)
            fail_msg("the next client is not served");
    }
}

static void server_rest(struct smt_ep *ep, struct server_tally *t)
{
    uint64_t until = net_now() + 30000000000ull * net_slow();
    /* Handshakes whose client died have no session yet, but a time-out. */
    while (smt_pool_n_live(&ep->engine->conns) > 0 || !smt_engine_is_at_rest(ep->engine)) {
        server_step(ep, t);
        if (net_now() > until)
            fail_msg("%u conns left", smt_pool_n_live(&ep->engine->conns));
    }
}

static void test_client_killed(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    seed_take();
    struct smt_ep_config config = survivor_config();
    struct net_end server;
    struct server_tally t = {0};
    uint64_t warm = 0;
    uint64_t begin = net_now();
    net_end_open(&server, NET_CERT, true, &config);
    for (unsigned round = 0; round < n_kills(); round++) {
        int fd;
        pid_t pid = client_start(smt_ep_port(server.ep), &fd);
        /* Every other one dies at any moment of its first steps, handshake included. */
        if (round % 2 == 0) {
            server_serve_until_told(server.ep, &t, fd);
            server_serve_for(server.ep, &t, below(20000000));
        } else {
            server_serve_for(server.ep, &t, below(60000000));
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        close(fd);
        if (round == N_WARM || round == n_kills() - 1) {
            server_rest(server.ep, &t);
            engine_check(server.ep, 0);
        }
        growth_check(round, &warm);
    }
    printf("# %u kills in %.1f s: %u requests, %u replies arrived, %u failed; %u sessions up, %u "
           "down\n",
           n_kills(), (double)(net_now() - begin) / 1e9, t.n_requests, t.n_sent, t.n_failed, t.n_up,
           t.n_down);
    assert_true(t.n_up >= n_kills() / 2);
    assert_int_equal(t.n_up, t.n_down);
    assert_int_equal(t.n_requests, t.n_sent + t.n_failed);
    net_end_close(&server);
    memory_same(&before);
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "client") == 0)
        return client_main(argv[2], argv[3]);
    net_process_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_killed),
        cmocka_unit_test(test_client_killed),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
