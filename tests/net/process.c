/* An echo server in a process of its own, for tests that kill it. */
#include "net.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t stop;
static struct smt_ep *serving;

static void on_term(int sig)
{
    stop = 1;
    smt_wakeup(serving);
}

static void serve_event(const struct smt_event *ev)
{
    struct smt_iov iov = {ev->data, ev->len};
    switch (ev->type) {
    case SMT_EV_REQUEST:
        if (smt_reply(ev->msg, &iov, 1, ev->msg) < 0)
            exit(3);
        break;
    case SMT_EV_MESSAGE:
        smt_release(ev->msg);
        break;
    case SMT_EV_SENT:
    case SMT_EV_FAILED:
        smt_release(ev->user);
        break;
    default:
        break;
    }
}

static int serve(uint16_t port, enum net_security security)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.bind_host = net_host(true);
    config.port = port;
    config.accept = 1;
    struct smt_ctx *ctx = net_ctx(security);
    int r = smt_ep_open(ctx, &config, &serving);
    if (r < 0) {
        fprintf(stderr, "server: %s\n", smt_error_text(ctx));
        return 2;
    }
    signal(SIGTERM, on_term);
    printf("%u\n", smt_ep_port(serving));
    fflush(stdout);
    while (!stop) {
        struct smt_event events[64];
        int n = smt_poll(serving, events, 64);
        if (n < 0)
            return 4;
        for (int i = 0; i < n; i++)
            serve_event(&events[i]);
        if (n == 0 && smt_wait(serving, 1000000000) < 0)
            return 5;
        if (getppid() == 1)
            return 6; /* the test has died */
    }
    r = smt_ep_drain(serving, 3000000000ull * net_slow());
    smt_ep_close(serving);
    smt_ctx_close(ctx);
    return r == 0 ? 0 : 7;
}

void net_process_main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "serve") == 0) {
        net_use_dir(argv[4]);
        _exit(serve((uint16_t)atoi(argv[2]), (enum net_security)atoi(argv[3])));
    }
}

void net_process_start(struct net_process *p, uint16_t port, enum net_security security)
{
    char port_text[16], security_text[16], dir[160];
    snprintf(port_text, sizeof(port_text), "%u", port);
    snprintf(security_text, sizeof(security_text), "%d", security);
    snprintf(dir, sizeof(dir), "%s", net_file(""));
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        dup2(fds[1], 1);
        close(fds[0]);
        close(fds[1]);
        execl("/proc/self/exe", "server", "serve", port_text, security_text, dir, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    FILE *f = fdopen(fds[0], "r");
    unsigned got;
    if (fscanf(f, "%u", &got) != 1)
        fail_msg("the server process did not start");
    p->port = (uint16_t)got;
    fclose(f);
}

void net_process_kill(struct net_process *p)
{
    kill(p->pid, SIGKILL);
    assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
}

void net_process_term(struct net_process *p)
{
    int status;
    kill(p->pid, SIGTERM);
    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}
