/* The two sides of smt_lat and smt_bw. */
#ifndef SMT_TOOLS_BENCH_H
#define SMT_TOOLS_BENCH_H

#include <signal.h>

#include "hist.h"
#include "options.h"

/* Set by SIGINT and SIGTERM: finish what runs, then end. */
extern volatile sig_atomic_t bench_stop;

/* One size, measured. */
struct result {
    uint64_t size, resp_size, depth, sessions, threads, iterations, errors;
    double seconds, cpu_s;
    uint64_t server_cpu_ns, server_messages; /* warm-up included; 0: the server does not tell */
    struct hist hist;
};

/* The sessions a result was measured over. */
struct bench_peer {
    struct smt_session_info info;
    const char *device;
};

/* Both return an exit code; failures have been said. */
int bench_server(const struct options *o, struct smt_ctx *ctx);
int bench_client(const struct options *o, struct smt_ctx *ctx);

/* Options, signals, context, then one of the two: the whole main of both tools. */
int bench_main(enum bench_tool tool, int argc, char **argv);

/* DEVICE_DOWN and DEVICE_UP, as a line each; the loss of a device ends the run with its own. */
void bench_device_event(const struct smt_event *event);

/* Runs the calling thread on CPU (first + index) modulo their number. */
void bench_pin_cpu(const struct options *o, unsigned index);

#endif
