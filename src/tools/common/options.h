/* The options of smt_lat and smt_bw: one table for both. */
#ifndef SMT_TOOLS_OPTIONS_H
#define SMT_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "contents.h"
#include "creds.h"
#include "opt.h"

enum bench_tool { BENCH_LAT, BENCH_BW };

enum { BENCH_MAX_THREADS = 64 };

struct options {
    enum bench_tool tool;
    struct creds creds;
    const char *host;        /* NULL: server */
    const char *verify_name;
    const char *bind_host;
    const char *hdr_file;
    const char *contents_name;
    enum contents contents;
    struct opt_output json;
    uint64_t port, size, resp_size, min_size, max_size, iterations, depth, threads, sessions;
    uint64_t mtu, pin_cpu;
    double duration_s, rate, deadline_s;
    bool all, events, share_port, one_way, verify, histogram, gbits, once, version, help;
    bool resp_given, depth_given, iterations_given, pin_cpu_given;
    bool sweep; /* -a, --min or --max: sizes min_size, doubling, up to max_size */
};

/* Reads the command line. TOOL_OK, or an exit code; -V and -h print and set *done. */
int options_read(enum bench_tool tool, int argc, char **argv, struct options *out, bool *done);

const char *options_tool_name(enum bench_tool tool);

/* The response size of a test with requests of this size. */
uint64_t options_resp_size(const struct options *o, uint64_t size);

/* How many RPCs of this size are in flight per thread, and how many one thread does (0: by
 * time). */
uint64_t options_depth(const struct options *o, uint64_t size);
uint64_t options_iterations(const struct options *o, uint64_t size);

#endif
