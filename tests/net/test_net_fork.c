/* A forked child: every call on a parent's handle answers SMT_EFORK and the parent's session does
 * not notice. */
#include "net.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <smt/tls.h>

static struct net_pair pair;

#define CHILD_CHECK(x)                                                                             \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            print_error("child, line %d: %s\n", __LINE__, #x);                                     \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void child_handles(struct smt_msg *request)
{
    struct smt_ctx *ctx = pair.client.ctx;
    struct smt_ep *ep = pair.client.ep;
    struct smt_session *s = pair.session;
    struct smt_event ev;
    struct smt_call_args args = {.size = sizeof(args)};
    struct smt_session_info info = {.size = sizeof(info)};
    struct smt_counter counter;
    struct smt_ep *ep_out;
    struct smt_session *s_out;
    uint64_t id;
    char buf[16];
    CHILD_CHECK(smt_poll(ep, &ev, 1) == SMT_EFORK);
    CHILD_CHECK(strstr(smt_error_text(ctx), "parent") != NULL);
    CHILD_CHECK(smt_ep_open(ctx, NULL, &ep_out) == SMT_EFORK);
    CHILD_CHECK(smt_ctx_close(ctx) == SMT_EFORK);
    CHILD_CHECK(smt_ep_close(ep) == SMT_EFORK);
    CHILD_CHECK(smt_ep_drain(ep, 1) == SMT_EFORK);
    CHILD_CHECK(smt_ep_port(ep) == 0);
    CHILD_CHECK(smt_ep_counters(ep, &counter, 1) == SMT_EFORK);
    CHILD_CHECK(smt_connect(ep, "127.0.0.1", NULL, 0, &s_out) == SMT_EFORK);
    CHILD_CHECK(smt_connect_wait(ep, "127.0.0.1", NULL, 0, 1, &s_out) == SMT_EFORK);
    CHILD_CHECK(smt_session_close(s) == SMT_EFORK);
    smt_session_set_user(s, &ev);
    CHILD_CHECK(smt_session_user(s) == NULL);
    CHILD_CHECK(smt_session_get_info(s, &info) == SMT_EFORK);
    CHILD_CHECK(smt_session_peer_cert(s) == NULL);
    CHILD_CHECK(smt_call(s, &args, &id) == SMT_EFORK);
    CHILD_CHECK(smt_send(s, &args, &id) == SMT_EFORK);
    CHILD_CHECK(smt_cancel(s, 1) == SMT_EFORK);
    CHILD_CHECK(smt_call_wait(s, "x", 1, buf, sizeof(buf), 1) == SMT_EFORK);
    CHILD_CHECK(smt_reply(request, NULL, 0, NULL) == SMT_EFORK);
    CHILD_CHECK(smt_reject(request) == SMT_EFORK);
    CHILD_CHECK(smt_accept(request, NULL, 0) == SMT_EFORK);
    smt_release(request);
    CHILD_CHECK(smt_get_fd(ep) == SMT_EFORK);
    CHILD_CHECK(smt_arm(ep) == SMT_EFORK);
    CHILD_CHECK(smt_wait(ep, 1) == SMT_EFORK);
    CHILD_CHECK(smt_wakeup(ep) == SMT_EFORK);
    CHILD_CHECK(smt_buf_alloc(ctx, 100) == NULL);
    smt_buf_free(ctx, buf);
    CHILD_CHECK(smt_buf_register(ctx, buf, sizeof(buf)) == SMT_EFORK);
    CHILD_CHECK(smt_buf_unregister(ctx, buf) == SMT_EFORK);
}

/* The child opens its own and talks to the parent's server. */
static void child_own(void)
{
    struct smt_ctx *ctx = net_ctx(NET_CERT);
    struct smt_ep *ep;
    struct smt_session *s;
    CHILD_CHECK(smt_ep_open(ctx, NULL, &ep) == 0);
    CHILD_CHECK(smt_connect_wait(ep, "127.0.0.1:1", NULL, 0, 30000000, &s) == SMT_ETIMEDOUT);
    CHILD_CHECK(smt_ep_close(ep) == 0);
    CHILD_CHECK(smt_ctx_close(ctx) == 0);
}

/* Past the C library: none of its handlers runs. */
static pid_t raw_fork(void)
{
    return (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
}

static void fork_run(pid_t (*make_child)(void))
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    pid_t pid = make_child();
    assert_true(pid >= 0);
    if (pid == 0) {
        child_handles(req.msg);
        child_own();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    struct smt_iov iov = {"still here", 10};
    assert_int_equal(smt_reply(req.msg, &iov, 1, NULL), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_memory_equal(ev.data, "still here", 10);
    smt_release(ev.msg);
    smt_release(req.msg);
    net_pair_close(&pair);
}

static void test_fork(void **state)
{
    fork_run(fork);
}

/* What such a child sealed would be sealed under keys of zeros, which everybody knows. */
static void test_fork_past_the_c_library(void **state)
{
    fork_run(raw_fork);
}

/* The child of a child, whose parent has handles of its own: they are not its own. */
static void test_grandchild(void **state)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct smt_ctx *ctx = net_ctx(NET_CERT);
        pid_t inner = raw_fork();
        CHILD_CHECK(inner >= 0);
        if (inner == 0) {
            struct smt_ctx *own = net_ctx(NET_CERT);
            CHILD_CHECK(smt_ctx_close(ctx) == SMT_EFORK);
            CHILD_CHECK(smt_ctx_close(own) == 0);
            _exit(0);
        }
        int status;
        CHILD_CHECK(waitpid(inner, &status, 0) == inner && status == 0);
        CHILD_CHECK(smt_ctx_close(ctx) == 0);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Events and sleep of the parent are its own: a child that stays around does not disturb the
 * descriptor. */
static void test_child_lingers(void **state)
{
    net_pair_open(&pair, NET_CERT, NULL, NULL);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char c;
        close(fds[1]);
        _exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
    }
    close(fds[0]);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
        while (net_echo(&pair.server) == 0)
            net_pump(&pair);
        struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
        smt_release(ev.msg);
    }
    close(fds[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_fork_past_the_c_library),
        cmocka_unit_test(test_grandchild),
        cmocka_unit_test(test_child_lingers),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
