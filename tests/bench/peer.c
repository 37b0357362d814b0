/* Owns what is alike in the peers and limit programs. Latencies go into a plain array and are
 * sorted at the end: exact percentiles, and nothing in the measured loop but a store. */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 4 << 20 };

static pid_t server_pid;
static int client_ns = -1;

_Noreturn void peer_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno != 0 ? strerror(errno) : "failed");
    exit(1);
}

static _Noreturn void usage(const char *name)
{
    fprintf(stderr,
            "usage: %s lat|rps|stream|bulk [-t DEPTH] [-s SIZE] [-b BATCH] [-D SECONDS]\n"
            "       [-w WARM-UP SECONDS] [-c CLIENT CPU] [-C SERVER CPU] [-P] [-e]\n"
            "       [-N SERVER'S NAMESPACE] [-a SERVER'S ADDRESS] [-i INTERFACE]\n",
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

static void parse_mode(const char *name, const char *word, struct peer_args *out)
{
    out->bulk = strcmp(word, "bulk") == 0;
    out->stream = out->bulk || strcmp(word, "stream") == 0;
    out->rps = out->stream || strcmp(word, "rps") == 0;
    if (!out->rps && strcmp(word, "lat") != 0) {
        usage(name);
    }
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
        .address = "127.0.0.1",
        .ifname = "lo",
    };
    if (argc < 2) {
        usage(name);
    }
    parse_mode(name, argv[1], out);
    int o;
    while ((o = getopt(argc - 1, argv + 1, "t:s:b:D:w:c:C:PeN:a:i:")) != -1) {
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
        case 'P':
            out->plain = true;
            break;
        case 'e':
            out->sleeps = true;
            break;
        case 'N':
            out->server_ns = optarg;
            break;
        case 'a':
            out->address = optarg;
            break;
        case 'i':
            out->ifname = optarg;
            break;
        default:
            usage(name);
        }
    }
    if (!out->rps) {
        out->depth = 1;
    }
    out->resp_size = out->bulk ? PEER_ACK_LEN : out->size;
}

void peer_enter(const struct peer_args *args, bool server)
{
    if (args->server_ns == NULL) {
        return;
    }
    if (client_ns < 0) {
        client_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    }
    int fd = server ? open(args->server_ns, O_RDONLY | O_CLOEXEC) : client_ns;
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        peer_die(args->server_ns);
    }
    if (server) {
        close(fd);
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
    server_pid = fork();
    if (server_pid < 0) {
        peer_die("fork");
    }
    if (server_pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent) {
            _exit(1);
        }
        peer_pin(args->server_cpu);
        serve(args);
        _exit(0);
    }
    peer_pin(args->client_cpu);
    /* A lost datagram or a dead server would leave the client spinning for ever. */
    alarm((unsigned)(args->seconds + args->warm_s) + 120);
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

static uint64_t cpu_of(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) {
        return 0;
    }
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void peer_lat_start(struct peer_lat *lat)
{
    lat->cpu_client = cpu_of(0);
    lat->cpu_server = cpu_of(server_pid);
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

static const char *mode_name(const struct peer_args *args)
{
    return args->bulk ? "bulk" : args->stream ? "stream" : args->rps ? "rps" : "lat";
}

void peer_report(const char *name, const char *crypto, const struct peer_args *args,
                 struct peer_lat *lat, uint64_t measured_ns)
{
    double cpu_client = (double)(cpu_of(0) - lat->cpu_client) / 1e9;
    double cpu_server = (double)(cpu_of(server_pid) - lat->cpu_server) / 1e9;
    qsort(lat->ns, lat->n, sizeof(*lat->ns), by_value);
    printf("{\"peer\": \"%s\", \"mode\": \"%s\", \"crypto\": \"%s\", \"size\": %zu, "
           "\"depth\": %u, \"rpcs\": %llu, \"seconds\": %.3f, \"p50_us\": %.3f, "
           "\"p99_us\": %.3f, \"rpc_per_s\": %.0f, \"cpu_client_s\": %.6f, "
           "\"cpu_server_s\": %.6f}\n",
           name, mode_name(args), crypto, args->size, args->depth,
           (unsigned long long)lat->n_rpcs, (double)measured_ns / 1e9, at(lat, 0.5), at(lat, 0.99),
           (double)lat->n_rpcs * 1e9 / (double)measured_ns, cpu_client, cpu_server);
    free(lat->ns);
    lat->ns = NULL;
}
