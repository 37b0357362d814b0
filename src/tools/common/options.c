/* perftest's letters where they mean the same thing. A server reads all options too and uses what
 * concerns it: port, threads, credentials, -e; the rest comes from the client. */
#include "options.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <smt/smt.h>

#include "say.h"

#define UNSET UINT64_MAX
#define AT(member) offsetof(struct options, member)
#define CREDS_AT(member) offsetof(struct options, creds.member)
#define MAX_LEN ((double)SMT_MAX_MSG_LEN)

static const struct opt table[] = {
    {'p', "port", "PORT", OPT_NUMBER, AT(port), 0, 65535,
     "UDP port, server: to listen on, 0 = any (18515)"},
    {'s', "size", "SIZE", OPT_SIZE, AT(size), 0, MAX_LEN, "request bytes (lat 64, bw 65536)"},
    {0, "resp", "SIZE", OPT_SIZE, AT(resp_size), 0, MAX_LEN, "response bytes (as the request)"},
    {'a', "all", NULL, OPT_FLAG, AT(all), 0, 0, "all sizes 2, 4, 8 ... 8388608"},
    {0, "min", "SIZE", OPT_SIZE, AT(min_size), 0, MAX_LEN, "first size of -a (2)"},
    {0, "max", "SIZE", OPT_SIZE, AT(max_size), 0, MAX_LEN, "last size of -a (8388608)"},
    {'n', "iters", "N", OPT_NUMBER, AT(iterations), 1, 1e15, "RPCs per size and thread"},
    {'D', "duration", "SECONDS", OPT_REAL, AT(duration_s), 0.001, 1e7,
     "run each size so long instead of -n"},
    {'t', "depth", "DEPTH", OPT_NUMBER, AT(depth), 1, 1 << 20,
     "RPCs in flight per thread (lat 1, bw 64)"},
    {'T', "threads", "N", OPT_NUMBER, AT(threads), 1, BENCH_MAX_THREADS,
     "threads, each with an endpoint; server: ports p to p+N-1"},
    {0, "share-port", NULL, OPT_FLAG, AT(share_port), 0, 0,
     "server: all threads on one port, sessions spread over them"},
    {'S', "sessions", "N", OPT_NUMBER, AT(sessions), 1, 100000,
     "sessions per thread, used in turn"},
    {'e', "events", NULL, OPT_FLAG, AT(events), 0, 0, "sleep for events instead of polling"},
    {0, "one-way", NULL, OPT_FLAG, AT(one_way), 0, 0,
     "one-way messages, counted when the peer has them"},
    {0, "rate", "R", OPT_REAL, AT(rate), 0.001, 1e9,
     "open loop: R RPC/s in all, latency from the intended time"},
    {0, "verify", NULL, OPT_FLAG, AT(verify), 0, 0, "check every byte of every message"},
    {'H', "histogram", NULL, OPT_FLAG, AT(histogram), 0, 0, "print the latency histogram"},
    {0, "hdr", "FILE", OPT_STRING, AT(hdr_file), 0, 0,
     "write HdrHistogram percentile lines (.hgrm)"},
    {0, "json", "[FILE]", OPT_OUTPUT, AT(json), 0, 0,
     "JSON to FILE, or to stdout and the table to stderr"},
    {0, "report_gbits", NULL, OPT_FLAG, AT(gbits), 0, 0, "bandwidth in Gb/s instead of MB/s"},
    CREDS_OPTIONS(CREDS_AT),
    {0, "contents", "KIND", OPT_STRING, AT(contents_name), 0, 0,
     "messages: own, or a kernel program's: echo, smt-simple, smt-echo"},
    {0, "verify-name", "NAME", OPT_STRING, AT(verify_name), 0, 0,
     "name the server must prove (the host given)"},
    {0, "bind", "ADDRESS", OPT_STRING, AT(bind_host), 0, 0, "local address (all)"},
    {0, "mtu", "BYTES", OPT_NUMBER, AT(mtu), 0, 65535, "largest packet, 0 = by probing (0)"},
    {0, "deadline", "SECONDS", OPT_REAL, AT(deadline_s), 0.01, 1e6,
     "give up on a silent peer after (10)"},
    {0, "once", NULL, OPT_FLAG, AT(once), 0, 0, "server: exit after the first client"},
    {0, "pin-cpu", "N", OPT_NUMBER, AT(pin_cpu), 0, 4095, "thread i runs on CPU N+i only"},
    {'V', "version", NULL, OPT_FLAG, AT(version), 0, 0, "print the version"},
    {'h', "help", NULL, OPT_FLAG, AT(help), 0, 0, "print this"},
};

enum { N_TABLE = sizeof(table) / sizeof(table[0]) };

static const struct options defaults = {
    .port = SMT_DEFAULT_PORT,
    .size = UNSET,
    .resp_size = UNSET,
    .min_size = UNSET,
    .max_size = UNSET,
    .iterations = UNSET,
    .depth = UNSET,
    .threads = 1,
    .sessions = 1,
    .pin_cpu = UNSET,
    .deadline_s = 10,
};

const char *options_tool_name(enum bench_tool tool)
{
    return tool == BENCH_LAT ? "smt_lat" : "smt_bw";
}

static void print_help(enum bench_tool tool)
{
    const char *name = options_tool_name(tool);
    printf("%s\n\n"
           "usage: %s [options]         server\n"
           "       %s [options] HOST    client; HOST may be host:port\n\n",
           tool == BENCH_LAT ? "smt_lat: latency of full RPC round trips over encrypted sessions"
                             : "smt_bw: bandwidth and message rate over encrypted sessions",
           name, name);
    opt_print_help(stdout, table, N_TABLE);
}

static void fill_sizes(struct options *o)
{
    o->resp_given = o->resp_size != UNSET;
    o->depth_given = o->depth != UNSET;
    o->iterations_given = o->iterations != UNSET;
    o->pin_cpu_given = o->pin_cpu != UNSET;
    o->sweep = o->all || o->min_size != UNSET || o->max_size != UNSET;
    o->size = o->size != UNSET ? o->size : o->tool == BENCH_LAT ? 64 : 65536;
    if (!o->sweep) {
        o->min_size = o->max_size = o->size;
        return;
    }
    o->max_size = o->max_size != UNSET ? o->max_size : 1 << 23;
    o->min_size = o->min_size != UNSET ? o->min_size : o->max_size < 2 ? o->max_size : 2;
}

/* What a peer that is no tool of ours leaves of the options. */
static bool contents_fit(struct options *o)
{
    if (!contents_parse(o->contents_name, &o->contents)) {
        say_error("--contents %s: own, echo, smt-simple or smt-echo", o->contents_name);
        return false;
    }
    if (o->contents == CONTENTS_OWN) {
        return true;
    }
    if (o->verify || o->one_way) {
        say_error("--contents %s has neither --verify nor --one-way", o->contents_name);
        return false;
    }
    if (o->contents == CONTENTS_ECHO && o->resp_given) {
        say_error("--contents echo: the response is as long as the request, leave out --resp");
        return false;
    }
    if (o->host != NULL && o->min_size < contents_min_len(o->contents)) {
        say_error("--contents %s: requests have at least %zu bytes", o->contents_name,
                  contents_min_len(o->contents));
        return false;
    }
    return true;
}

int options_read(enum bench_tool tool, int argc, char **argv, struct options *out, bool *done)
{
    struct opt_args args = {.max = 1};
    *done = false;
    *out = defaults;
    out->tool = tool;
    if (opt_parse(table, N_TABLE, argc, argv, out, &args) != 0) {
        return TOOL_USAGE;
    }
    if (out->help || out->version) {
        *done = true;
        if (out->help) {
            print_help(tool);
        } else {
            printf("%s %s\n", options_tool_name(tool), smt_version());
        }
        return TOOL_OK;
    }
    out->host = args.n == 1 ? args.v[0] : NULL;
    if (out->host != NULL && out->host[0] == '\0') {
        say_error("the host is empty");
        return TOOL_USAGE;
    }
    if (out->duration_s > 0 && out->iterations != UNSET) {
        say_error("-n and -D exclude each other");
        return TOOL_USAGE;
    }
    if (out->one_way && out->resp_size != UNSET) {
        say_error("--one-way messages have no response: leave out --resp");
        return TOOL_USAGE;
    }
    fill_sizes(out);
    if (!contents_fit(out)) {
        return TOOL_USAGE;
    }
    if (out->min_size > out->max_size) {
        say_error("--min %llu is more than --max %llu", (unsigned long long)out->min_size,
                  (unsigned long long)out->max_size);
        return TOOL_USAGE;
    }
    uint64_t n_ports = out->share_port ? 1 : out->threads;
    if (out->host == NULL && out->port != 0 && out->port + n_ports - 1 > 65535) {
        say_error("-p %llu -T %llu: no ports left above 65535", (unsigned long long)out->port,
                  (unsigned long long)out->threads);
        return TOOL_USAGE;
    }
    return TOOL_OK;
}

uint64_t options_resp_size(const struct options *o, uint64_t size)
{
    return o->one_way ? 0 : o->resp_given ? o->resp_size : size;
}

uint64_t options_depth(const struct options *o, uint64_t size)
{
    if (o->depth_given) {
        return o->depth;
    }
    if (o->rate > 0) {
        return 4096; /* an open loop sends when it is time, not when there is room */
    }
    if (o->tool == BENCH_LAT) {
        return 1;
    }
    const uint64_t in_flight_bytes = UINT64_C(64) << 20;
    uint64_t both = size + options_resp_size(o, size);
    uint64_t fit = both != 0 ? in_flight_bytes / both : 64;
    return fit > 64 ? 64 : fit < 2 ? 2 : fit;
}

uint64_t options_iterations(const struct options *o, uint64_t size)
{
    if (o->duration_s > 0) {
        return 0;
    }
    if (o->iterations_given) {
        return o->iterations;
    }
    const uint64_t total_bytes = UINT64_C(512) << 20;
    const uint64_t most = o->tool == BENCH_LAT ? 10000 : 200000;
    uint64_t fit = total_bytes / (size + options_resp_size(o, size) + 1);
    return fit > most ? most : fit < 100 ? 100 : fit;
}
