/* Owns what is alike in tls_peer and udp_gcm_limit. Latencies go into a plain array and are sorted
 * at the end: exact percentiles, and nothing in the measured loop but a store. */
#include "peer.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 8 << 20 };

_Noreturn void peer_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno != 0 ? strerror(errno) : "failed");
    exit(1);
}

static _Noreturn void usage(const char *name)
{
    fprintf(stderr,
            "usage: %s lat|rps [-t DEPTH] [-s SIZE] [-b BATCH] [-D SECONDS]\n"
            "       [-w WARM-UP SECONDS] [-c CLIENT CPU] [-C SERVER CPU]\n",
            name);
    exit(2);
}

static double number(const char *name, const char *text, double min, double max)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !(v >= min && v <= max)) {
        fprintf(stderr, "%s: %s is not a number from %g to %g\n", name, text, min, max);
        exit(2);
    }
    return v;
}

void peer_parse(int argc, char **argv, unsigned default_depth, size_t max_size,
                struct peer_args *out)
{
    const char *name = argv[0];
    *out = (struct peer_args){
        .depth = default_depth,
        .size = 64,
        .batch = 64,
        .seconds = 2,
        .warm_s = 0.3,
        .client_cpu = 1,
        .server_cpu = 0,
    };
    if (argc < 2 || (strcmp(argv[1], "lat") != 0 && strcmp(argv[1], "rps") != 0)) {
        usage(name);
    }
    out->rps = strcmp(argv[1], "rps") == 0;
    int o;
    while ((o = getopt(argc - 1, argv + 1, "t:s:b:D:w:c:C:")) != -1) {
        switch (o) {
        case 't':
            out->depth = (unsigned)number(name, optarg, 1, 1024);
            break;
        case 's':
            out->size = (size_t)number(name, optarg, 1, (double)max_size);
            break;
        case 'b':
            out->batch = (unsigned)number(name, optarg, 1, 64);
            break;
        case 'D':
            out->seconds = number(name, optarg, 0.001, 3600);
            break;
        case 'w':
            out->warm_s = number(name, optarg, 0, 3600);
            break;
        case 'c':
            out->client_cpu = (int)number(name, optarg, -1, 1023);
            break;
        case 'C':
            out->server_cpu = (int)number(name, optarg, -1, 1023);
            break;
        default:
            usage(name);
        }
    }
    if (!out->rps) {
        out->depth = 1;
    }
}

void peer_pin(int cpu)
{
    if (cpu < 0) {
        return;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) {
        fprintf(stderr, "CPU %d: %s: running unpinned\n", cpu, strerror(errno));
    }
}

uint64_t peer_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void peer_spawn(const struct peer_args *args, void (*serve)(const struct peer_args *))
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        peer_die("fork");
    }
    if (child == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
            _exit(1);
        }
        peer_pin(args->server_cpu);
        serve(args);
        _exit(0);
    }
    peer_pin(args->client_cpu);
    /* A lost datagram or a dead server would leave the client spinning for ever. */
    alarm((unsigned)(args->seconds + args->warm_s) + 10);
}

void peer_lat_init(struct peer_lat *lat)
{
    *lat = (struct peer_lat){.cap = MAX_SAMPLES};
    lat->ns = malloc(lat->cap * sizeof(*lat->ns));
    if (lat->ns == NULL) {
        peer_die("memory");
    }
    /* Touched now, so that no page fault falls into the measurement. */
    memset(lat->ns, 1, lat->cap * sizeof(*lat->ns));
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double at(const struct peer_lat *lat, double part)
{
    if (lat->n == 0) {
        return 0;
    }
    return lat->ns[(size_t)(part * (double)(lat->n - 1))] / 1000.0;
}

void peer_report(const char *name, const char *crypto, const struct peer_args *args,
                 struct peer_lat *lat, uint64_t measured_ns)
{
    qsort(lat->ns, lat->n, sizeof(*lat->ns), by_value);
    printf("{\"peer\": \"%s\", \"mode\": \"%s\", \"crypto\": \"%s\", \"size\": %zu, "
           "\"depth\": %u, \"rpcs\": %llu, \"seconds\": %.3f, \"p50_us\": %.3f, "
           "\"p99_us\": %.3f, \"rpc_per_s\": %.0f}\n",
           name, args->rps ? "rps" : "lat", crypto, args->size, args->depth,
           (unsigned long long)lat->n_rpcs, (double)measured_ns / 1e9, at(lat, 0.5), at(lat, 0.99),
           (double)lat->n_rpcs * 1e9 / (double)measured_ns);
    free(lat->ns);
    lat->ns = NULL;
}
