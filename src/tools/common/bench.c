/* What smt_lat and smt_bw do before they differ. */
#include "bench.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "say.h"

volatile sig_atomic_t bench_stop;

static void on_signal(int number)
{
    (void)number;
    bench_stop = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void bench_pin_cpu(const struct options *o, unsigned index)
{
    if (!o->pin_cpu_given) {
        return;
    }
    long n_cpus = sysconf(_SC_NPROCESSORS_CONF);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)((o->pin_cpu + index) % (uint64_t)(n_cpus > 0 ? n_cpus : 1)), &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) {
        say_error("cannot run on CPU %llu, running anywhere",
                  (unsigned long long)(o->pin_cpu + index));
    }
}

void bench_device_event(const struct smt_event *event)
{
    if (event->type == SMT_EV_DEVICE_DOWN) {
        say_error("the device's port is down: waiting for its link");
    } else if (event->type == SMT_EV_DEVICE_UP) {
        say_error("the device's port is up again");
    }
}

int bench_main(enum bench_tool tool, int argc, char **argv)
{
    struct options options;
    bool done;
    say_name(options_tool_name(tool));
    int rc = options_read(tool, argc, argv, &options, &done);
    if (rc != TOOL_OK || done) {
        return rc;
    }
    struct smt_ctx *ctx;
    rc = creds_open(&options.creds, &ctx);
    if (rc != TOOL_OK) {
        return rc;
    }
    catch_signals();
    rc = options.host == NULL ? bench_server(&options, ctx) : bench_client(&options, ctx);
    int closed = smt_ctx_close(ctx);
    if (closed != 0 && rc == TOOL_OK) {
        say_error("closing: %s", smt_strerror(closed));
        rc = TOOL_ERRORS;
    }
    return rc;
}
