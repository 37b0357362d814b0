/* Sleeping on the descriptor: no wake-up is lost, none repeats for ever; libevent. */
#include "net.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <smt/event.h>

static struct net_pair pair;

/* ---- a server thread that sleeps between requests ---- */

struct echo_thread {
    pthread_t thread;
    struct smt_ep *ep;
    _Atomic int stop;
    int served;
};

static void *echo_run(void *arg)
{
    struct echo_thread *t = arg;
    while (!t->stop) {
        struct smt_event ev[16];
        int n = smt_poll(t->ep, ev, 16);
        for (int i = 0; i < n; i++) {
            struct smt_iov iov = {ev[i].data, ev[i].len};
            if (ev[i].type == SMT_EV_REQUEST) {
                t->served++;
                if (smt_reply(ev[i].msg, &iov, 1, ev[i].msg) < 0)
                    return "reply";
            } else if (ev[i].type == SMT_EV_SENT) {
                smt_release(ev[i].user);
            }
        }
        if (n < 0 || (n == 0 && smt_wait(t->ep, UINT64_MAX) < 0))
            return "wait";
    }
    return NULL;
}

static void echo_start(struct echo_thread *t, struct smt_ep *ep)
{
    *t = (struct echo_thread){.ep = ep};
    assert_int_equal(pthread_create(&t->thread, NULL, echo_run, t), 0);
}

static void echo_stop(struct echo_thread *t)
{
    void *result;
    t->stop = 1;
    assert_int_equal(smt_wakeup(t->ep), 0);
    pthread_join(t->thread, &result);
    assert_null(result);
}

static void test_sync_calls(void **state)
{
    struct echo_thread t;
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.accept_len = 50000; /* a response buffer is an accept given in advance */
    net_end_open(&pair.server, NET_CERT, true, NULL);
    net_end_open(&pair.client, NET_CERT, false, &config);
    echo_start(&t, pair.server.ep);
    uint64_t patience = 5000000000 * net_slow();
    int r = smt_connect_wait(pair.client.ep, net_address(&pair.server), NULL, 0, patience,
                             &pair.session);
    if (r < 0)
        fail_msg("%s: %s", smt_error_name(r), smt_error_text(pair.client.ctx));
    static uint8_t req[100000], resp[100000];
    static const size_t sizes[] = {0, 1, 64, 5000, 100000};
    uint64_t begin = net_now();
    for (unsigned i = 0; i < 500; i++) {
        size_t len = sizes[i % 5];
        net_fill(req, len, i);
        int64_t n = smt_call_wait(pair.session, req, len, resp, sizeof(resp), patience);
        if (n != (int64_t)len)
            fail_msg("call %u of %zu bytes: %s", i, len, smt_error_name((int)n));
        net_check(resp, len, i);
    }
    print_message("%.1f us a call\n", (double)(net_now() - begin) / 500e3);
    assert_int_equal(smt_call_wait(pair.session, req, 64, resp, 63, patience), SMT_EMSGSIZE);
    assert_int_equal(smt_call_wait(pair.session, req, 64, NULL, 0, patience), SMT_EMSGSIZE);
    assert_int_equal(smt_call_wait(pair.session, req, 0, NULL, 0, patience), 0);
    echo_stop(&t);
    net_pair_close(&pair);
}

/* An idle endpoint sleeps: hardly any processor time, and the descriptor is quiet after arm. */
static uint64_t cpu_used(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Waits in vain: each might look for 20 us first, but soon hardly any does. What a sleep costs
 * depends on the machine's load; looking costs its time every time. */
static void test_looks_are_rare(void **state)
{
    enum { WAITS = 2000, TRIES = 20 };
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_pump_for(&pair, 50000000);
    uint64_t sleeping = 0, looking = UINT64_MAX;
    for (unsigned k = 0; k < TRIES && looking > 3 * sleeping + (uint64_t)WAITS * 10000; k++) {
        uint64_t before = cpu_used();
        for (unsigned i = 0; i < WAITS; i++)
            assert_int_equal(smt_wait(pair.client.ep, 1), 0);
        sleeping = cpu_used() - before;
        before = cpu_used();
        for (unsigned i = 0; i < WAITS; i++)
            assert_int_equal(smt_wait(pair.client.ep, 50000), 0);
        looking = cpu_used() - before;
    }
    assert_in_range(looking, 0, 3 * sleeping + (uint64_t)WAITS * 10000);
    net_pair_close(&pair);
}

static void quiet_arm(struct net_end *end)
{
    struct smt_event ev;
    do {
        assert_int_equal(smt_poll(end->ep, &ev, 1), 0);
    } while (smt_arm(end->ep) == SMT_EBUSY);
}

/* Armed, the descriptor is quiet until something happens; a timer may. */
static void expect_quiet(struct net_end *end)
{
    struct pollfd pfd = {.fd = smt_get_fd(end->ep), .events = POLLIN};
    assert_true(pfd.fd >= 0);
    for (unsigned k = 0; k < 100; k++) {
        quiet_arm(end);
        if (poll(&pfd, 1, 0) == 0)
            return;
    }
    fail_msg("the descriptor is never quiet");
}

static void test_idle_sleeps(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_pump_for(&pair, 300000000);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    unsigned rounds = 0;
    uint64_t end = net_now() + 500000000;
    do {
        struct smt_event ev;
        assert_int_equal(smt_poll(pair.client.ep, &ev, 1), 0);
        assert_int_equal(smt_poll(pair.server.ep, &ev, 1), 0);
        assert_int_equal(smt_wait(pair.client.ep, 100000000), 0);
        rounds++;
    } while (net_now() < end);
    getrusage(RUSAGE_SELF, &after);
    assert_in_range(rounds, 1, 60);
    assert_int_equal(after.ru_utime.tv_sec - before.ru_utime.tv_sec > 1, 0);
    expect_quiet(&pair.client);
    net_pair_close(&pair);
}

/* After arm the descriptor tells of a packet, a deadline and a wake-up; before it, posting makes
 * arm busy. */
static void test_arm_tells(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_pump_for(&pair, 300000000);
    struct pollfd pfd = {.fd = smt_get_fd(pair.server.ep), .events = POLLIN};
    expect_quiet(&pair.server);

    assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    assert_int_equal(smt_arm(pair.client.ep), SMT_EBUSY); /* something to send */
    struct smt_event ev;
    assert_int_equal(smt_poll(pair.client.ep, &ev, 1), 0);
    assert_int_equal(poll(&pfd, 1, 1000 * (int)net_slow()), 1);
    smt_arm(pair.server.ep); /* busy or not: the packet still wakes */
    assert_int_equal(poll(&pfd, 1, 0), 1);
    while (smt_poll(pair.server.ep, &ev, 1) == 0)
        assert_int_equal(smt_wait(pair.server.ep, 1000000000), 0);
    assert_int_equal(ev.type, SMT_EV_REQUEST);

    /* A call's deadline wakes the client. */
    assert_int_equal(net_call(pair.session, "z", 1, 100000000, NULL, NULL), 0);
    uint64_t begin = net_now();
    int n;
    while ((n = smt_poll(pair.client.ep, &ev, 1)) == 0) {
        assert_int_equal(smt_wait(pair.client.ep, 20000000000ull * net_slow()), 0);
        assert_true(net_now() - begin < 15000000000ull * net_slow());
        struct smt_event none;
        smt_poll(pair.server.ep, &none, 1);
    }
    assert_int_equal(ev.type, SMT_EV_FAILED);
    assert_int_equal(ev.error, SMT_ETIMEDOUT);

    /* An event already made makes arm busy. */
    uint64_t id;
    assert_int_equal(net_call(pair.session, "y", 1, 0, NULL, &id), 0);
    quiet_arm(&pair.client);
    assert_int_equal(smt_cancel(pair.session, id), 0);
    assert_int_equal(smt_arm(pair.client.ep), SMT_EBUSY);
    net_pair_close(&pair);
}

static struct smt_ep *signalled;
static volatile sig_atomic_t has_signalled;

static void on_alarm(int sig)
{
    smt_wakeup(signalled);
    has_signalled = 1;
}

static void test_wakeup(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    net_pump_for(&pair, 300000000);
    /* Before arm: arm answers busy once, and then no more. */
    quiet_arm(&pair.client);
    assert_int_equal(smt_wakeup(pair.client.ep), 0);
    assert_int_equal(smt_wakeup(pair.client.ep), 0);
    struct smt_event ev;
    assert_int_equal(smt_poll(pair.client.ep, &ev, 1), 0); /* polling does not take it */
    assert_int_equal(smt_arm(pair.client.ep), SMT_EBUSY);
    quiet_arm(&pair.client);
    /* After arm: the descriptor is readable. */
    assert_int_equal(smt_wakeup(pair.client.ep), 0);
    struct pollfd pfd = {.fd = smt_get_fd(pair.client.ep), .events = POLLIN};
    assert_int_equal(poll(&pfd, 1, 0), 1);
    expect_quiet(&pair.client);
    /* From a signal handler, while asleep. */
    signalled = pair.client.ep;
    has_signalled = 0;
    signal(SIGALRM, on_alarm);
    uint64_t begin = net_now();
    ualarm(20000, 0);
    while (!has_signalled) {
        assert_int_equal(smt_wait(pair.client.ep, 20000000000ull * net_slow()), 0);
        assert_int_equal(smt_poll(pair.client.ep, &ev, 1), 0);
    }
    assert_in_range(net_now() - begin, 20000000, 15000000000ull * net_slow());
    signal(SIGALRM, SIG_DFL);
    net_pair_close(&pair);
}

/* ---- many wake-ups from another thread, each carrying work ---- */

enum { N_TICKETS = 20000 };
static _Atomic unsigned tickets;

static void *ticket_thread(void *arg)
{
    for (unsigned i = 0; i < N_TICKETS; i++) {
        tickets++;
        if (smt_wakeup(arg) < 0)
            return "wakeup";
        if (i % 64 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000 * (i % 7)}, NULL);
    }
    return NULL;
}

/* The sleeper looks at the work *before* it polls: a wake-up taken away by the poll would be lost.
 */
static void test_wakeup_races(void **state)
{
    net_end_open(&pair.client, NET_CERT, false, NULL);
    pthread_t thread;
    tickets = 0;
    assert_int_equal(pthread_create(&thread, NULL, ticket_thread, pair.client.ep), 0);
    unsigned seen = 0;
    while (seen < N_TICKETS) {
        seen = tickets;
        if (seen == N_TICKETS)
            break;
        struct smt_event ev;
        assert_int_equal(smt_poll(pair.client.ep, &ev, 1), 0);
        uint64_t begin = net_now();
        assert_int_equal(smt_wait(pair.client.ep, 5000000000ull * net_slow()), 0);
        assert_true(net_now() - begin < 4000000000ull * net_slow());
    }
    void *result;
    pthread_join(thread, &result);
    assert_null(result);
    net_end_close(&pair.client);
}

/* ---- libevent ---- */

struct loop_client {
    struct event_base *base;
    struct smt_event_loop *loop;
    unsigned n_done;
    bool detach_in_callback;
};

static void on_client_event(struct smt_ep *ep, const struct smt_event *ev, void *arg)
{
    struct loop_client *c = arg;
    if (ev->type != SMT_EV_RESPONSE)
        return;
    smt_release(ev->msg);
    if (++c->n_done < 200) {
        if (net_call(ev->session, "again", 5, 0, NULL, NULL) < 0)
            event_base_loopbreak(c->base);
    } else {
        if (c->detach_in_callback) {
            smt_event_detach(c->loop);
            c->loop = NULL;
        }
        event_base_loopbreak(c->base);
    }
}

static void on_server_event(struct smt_ep *ep, const struct smt_event *ev, void *arg)
{
    struct smt_iov iov = {ev->data, ev->len};
    if (ev->type == SMT_EV_REQUEST && smt_reply(ev->msg, &iov, 1, ev->msg) < 0)
        fail_msg("reply");
    else if (ev->type == SMT_EV_SENT)
        smt_release(ev->user);
}

static void libevent_run(bool detach_in_callback)
{
    struct loop_client c = {.base = event_base_new(), .detach_in_callback = detach_in_callback};
    struct smt_event_loop *server;
    net_end_open(&pair.server, NET_CERT, true, NULL);
    net_end_open(&pair.client, NET_CERT, false, NULL);
    assert_int_equal(smt_event_attach(c.base, pair.server.ep, on_server_event, NULL, &server), 0);
    assert_int_equal(smt_event_attach(c.base, pair.client.ep, on_client_event, &c, &c.loop), 0);
    struct smt_event_loop *none;
    assert_int_equal(smt_event_attach(NULL, pair.client.ep, on_client_event, &c, &none),
                     SMT_EINVAL);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    assert_int_equal(net_call(pair.session, "first", 5, 0, NULL, NULL), 0);
    smt_event_kick(c.loop);
    event_base_loopexit(c.base, &(struct timeval){.tv_sec = 10 * net_slow()});
    assert_int_equal(event_base_dispatch(c.base), 0);
    assert_int_equal(c.n_done, 200);
    smt_event_detach(c.loop);
    smt_event_detach(server);
    smt_event_detach(NULL);
    net_pair_close(&pair);
    event_base_free(c.base);
}

static void test_libevent(void **state)
{
    libevent_run(false);
    libevent_run(true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sync_calls),   cmocka_unit_test(test_idle_sleeps),
        cmocka_unit_test(test_arm_tells),    cmocka_unit_test(test_wakeup),
        cmocka_unit_test(test_wakeup_races), cmocka_unit_test(test_libevent),
        cmocka_unit_test(test_looks_are_rare),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
