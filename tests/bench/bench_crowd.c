/* What sessions at rest and open calls cost: memory by what the engines count and by the pages that
 * the process has, CPU of each phase, and the longest that one turn of both engines took.
 *
 *   bench_crowd SESSIONS CALLS [none|aes-128-gcm] [SIZE] [counters]
 *
 * Two engines in one process: the process holds both ends of everything, the columns of the engines
 * are one end each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine_crowd.h"

enum { MAX_COUNTERS = 256 };

struct look {
    uint64_t rss, ends[2], cpu, now;
    struct smt_engine_counter counters[2][MAX_COUNTERS];
    unsigned n_counters;
};

static bool want_counters;

static uint64_t rss(void)
{
    unsigned long long size, pages;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%llu %llu", &size, &pages) != 2)
        pages = 0;
    if (f != NULL)
        fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct look look(const struct crowd *k)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    struct look l = {
        .rss = rss(),
        .ends = {smt_engine_memory(k->client.e), smt_engine_memory(k->server.e)},
        .cpu = (uint64_t)t.tv_sec * SMT_SEC + (uint64_t)t.tv_nsec,
        .now = k->now,
    };
    l.n_counters = smt_engine_counters(k->client.e, l.counters[0], MAX_COUNTERS);
    (void)smt_engine_counters(k->server.e, l.counters[1], MAX_COUNTERS);
    return l;
}

static void show_counters(const struct look *from, const struct look *to)
{
    for (unsigned i = 0; want_counters && i < to->n_counters; i++) {
        const struct smt_engine_counter *a = &to->counters[0][i], *b = &to->counters[1][i];
        uint64_t na = a->value - from->counters[0][i].value;
        uint64_t nb = b->value - from->counters[1][i].value;
        if (na != 0 || nb != 0)
            printf("    %-28s %12llu %12llu\n", a->name, (unsigned long long)na,
                   (unsigned long long)nb);
    }
}

static void show(const char *what, uint32_t n, const struct look *from, const struct look *to)
{
    double per = n > 0 ? n : 1;
    printf("%-28s %9u  cpu %8.3f s %9.0f ns each  rss %9.1f MB %8.0f B each  client %7.0f B  "
           "server %7.0f B\n",
           what, n, (double)(to->cpu - from->cpu) / 1e9, (double)(to->cpu - from->cpu) / per,
           (double)to->rss / 1e6, (double)(int64_t)(to->rss - from->rss) / per,
           (double)(int64_t)(to->ends[0] - from->ends[0]) / per,
           (double)(int64_t)(to->ends[1] - from->ends[1]) / per);
    printf("    %.3f ms of virtual time\n", (double)(to->now - from->now) / 1e6);
    show_counters(from, to);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: bench_crowd SESSIONS CALLS [none|aes-128-gcm] [SIZE] [counters]\n");
        return 1;
    }
    uint32_t n = (uint32_t)strtoul(argv[1], NULL, 0), calls = (uint32_t)strtoul(argv[2], NULL, 0);
    const char *cipher = argc > 3 ? argv[3] : "aes-128-gcm";
    const struct smt_aead *aead = strcmp(cipher, "none") == 0 ? smt_aead_find(SMT_AEAD_NONE, NULL)
                                                              : smt_aead_by_name(cipher, NULL);
    if (n == 0 || calls == 0 || aead == NULL)
        return 1;
    want_counters = argc > 5;
    struct crowd k;
    crowd_open(&k, aead, n, calls, argc > 4 ? strtoull(argv[4], NULL, 0) : 64);
    struct look at = look(&k), then = at;
    crowd_connect(&k, n);
    at = look(&k);
    show("sessions, just up", n, &then, &at);
    crowd_rest(&k, 5 * SMT_SEC);
    struct look idle = look(&k);
    show("sessions, after 5 s of rest", n, &then, &idle);
    show("5 s of rest alone", n, &at, &idle);
    crowd_rest(&k, 10 * SMT_SEC);
    at = look(&k);
    show("10 s more", n, &idle, &at);
    then = at;
    crowd_call(&k, calls);
    at = look(&k);
    show("calls, all at the server", calls, &then, &at);
    crowd_rest(&k, 1 * SMT_SEC);
    then = look(&k);
    show("1 s while they are held", calls, &at, &then);
    crowd_answer(&k);
    at = look(&k);
    show("answers", calls, &then, &at);
    crowd_rest(&k, 5 * SMT_SEC);
    then = look(&k);
    show("5 s of rest", calls, &at, &then);
    crowd_run(&k, calls, 64);
    at = look(&k);
    show("calls again, 64 at a time", calls, &then, &at);
    crowd_close(&k);
    return 0;
}
