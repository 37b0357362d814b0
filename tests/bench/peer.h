/* What the peers to measure against share: arguments, two pinned processes, a latency record, one
 * line of JSON. A peer is a program of its own that uses none of the library.
 *
 * The client runs in the parent, the server in a child that dies with it. */
#ifndef SMT_TESTS_BENCH_PEER_H
#define SMT_TESTS_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_args {
    bool rps;           /* false: one message there and back at a time */
    bool stream;        /* mode stream or bulk: all RPCs in flight share one connection */
    bool bulk;          /* answers of PEER_ACK_LEN bytes instead of `size` */
    bool plain;         /* -P: no encryption */
    bool sleeps;        /* -e: both sides sleep until something comes */
    unsigned depth;     /* -t: RPCs in flight, 1 for latency */
    size_t size;        /* -s: bytes of a request */
    size_t resp_size;   /* and of its answer */
    unsigned batch;     /* -b: messages handed to the kernel in one call at most (udp) */
    double seconds;     /* -D: measured time */
    double warm_s;      /* -w: time before it */
    int client_cpu;     /* -c: -1 = wherever */
    int server_cpu;     /* -C */
    const char *server_ns; /* -N: file of the server's network namespace; NULL: the client's */
    const char *address;   /* -a: IPv4 address of the server */
    const char *ifname;    /* -i: the link between both, of one name in both namespaces */
};

enum { PEER_ACK_LEN = 16 };

/* One run's latencies. A reservoir of fixed size, taken before the run: no allocation inside. */
struct peer_lat {
    uint32_t *ns;
    size_t n, cap;
    uint64_t n_rpcs;              /* also those that found no place in `ns` */
    uint64_t cpu_client, cpu_server; /* ns used before the first RPC counted */
};

/* Reads "lat|rps|stream|bulk [options]". Ends the program with a message when they are wrong. */
void peer_parse(int argc, char **argv, unsigned default_depth, size_t max_size,
                struct peer_args *out);

/* Binds the calling process to one CPU, when it is one. */
void peer_pin(int cpu);

uint64_t peer_now(void);

/* Prints to stderr with errno and leaves. */
_Noreturn void peer_die(const char *what);

/* The calling thread goes to the server's network namespace, or back to where it was: sockets stay
 * where they were made. */
void peer_enter(const struct peer_args *args, bool server);

/* Forks the server; returns in the parent. `serve` never returns. */
void peer_spawn(const struct peer_args *args, void (*serve)(const struct peer_args *));

void peer_lat_init(struct peer_lat *lat);

/* Notes the CPU time of both processes. */
void peer_lat_start(struct peer_lat *lat);

/* One RPC of `ns` nanoseconds. */
static inline void peer_lat_add(struct peer_lat *lat, uint64_t ns)
{
    if (lat->n_rpcs == 0) {
        peer_lat_start(lat);
    }
    lat->n_rpcs++;
    if (lat->n < lat->cap) {
        lat->ns[lat->n++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
    }
}

/* Sorts, prints the JSON line, frees. */
void peer_report(const char *name, const char *crypto, const struct peer_args *args,
                 struct peer_lat *lat, uint64_t measured_ns);

#endif
