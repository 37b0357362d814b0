/* How the CPU time of an RPC, both ends, grows with sessions, calls in flight, size and loss: two
 * engines in one thread over the in-memory device, AES-128-GCM, time virtual. Prints tables for
 * docs/performance.md. Of several rounds of all rows the least of each counts: what another process
 * takes from the caches only adds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine_crowd.h"

enum { ROUNDS = 5, LEAST_CALLS = 200, BUDGET = 24 << 20, OVERHEAD = 800 };

struct row {
    uint32_t sessions, depth, size, drop_ppm;
    double ns, packets;
};

struct table {
    const char *what, *first;
    struct row rows[8];
    unsigned n_rows;
};

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * SMT_SEC + (uint64_t)t.tv_nsec;
}

static uint64_t packets_of(const struct crowd *k)
{
    uint64_t n = 0;
    const struct smt_engine *ends[] = {k->client.e, k->server.e};
    for (unsigned i = 0; i < 2; i++) {
        struct smt_engine_counter c[2];
        (void)smt_engine_counters(ends[i], c, 2); /* packets_sent_data, packets_sent_ctrl */
        n += c[0].value + c[1].value;
    }
    return n;
}

/* As many calls as move so many bytes, and two of each session and of each in flight at least. */
static uint64_t calls_of(const struct row *r)
{
    uint64_t n = BUDGET / (r->size + OVERHEAD), least = 2ull * r->sessions;
    if (least < 2ull * r->depth)
        least = 2ull * r->depth;
    if (least < LEAST_CALLS)
        least = LEAST_CALLS;
    return n > least ? n : least;
}

static void row_run(struct row *r, const struct smt_aead *aead)
{
    struct crowd k;
    uint64_t n = calls_of(r);
    crowd_open(&k, aead, r->sessions, 0, r->size);
    crowd_connect(&k, r->sessions);
    k.client.drop_ppm = k.server.drop_ppm = r->drop_ppm;
    crowd_run(&k, n, r->depth);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t packets = packets_of(&k), t0 = cpu_ns();
        crowd_run(&k, n, r->depth);
        double ns = (double)(cpu_ns() - t0) / (double)n;
        if (i == 0 || ns < r->ns)
            r->ns = ns;
        r->packets = (double)(packets_of(&k) - packets) / (double)n;
    }
    crowd_close(&k);
}

static struct table tables[] = {
    {.what = "64 B, 64 in flight",
     .first = "sessions",
     .rows = {{1, 64, 64}, {10, 64, 64}, {100, 64, 64}, {1000, 64, 64}, {10000, 64, 64},
              {100000, 64, 64}},
     .n_rows = 6},
    {.what = "64 B, 32 sessions",
     .first = "RPCs in flight",
     .rows = {{32, 1, 64}, {32, 10, 64}, {32, 100, 64}, {32, 1000, 64}, {32, 10000, 64},
              {32, 100000, 64}},
     .n_rows = 6},
    {.what = "8 in flight, one session",
     .first = "bytes each way",
     .rows = {{1, 8, 64}, {1, 8, 1024}, {1, 8, 8192}, {1, 8, 65536}, {1, 8, 262144},
              {1, 8, 1048576}},
     .n_rows = 6},
    {.what = "64 B, 64 in flight, 10 sessions",
     .first = "loss, parts of a million",
     .rows = {{10, 64, 64, 0}, {10, 64, 64, 1000}, {10, 64, 64, 10000}, {10, 64, 64, 50000}},
     .n_rows = 4},
    {.what = "64 KB, 8 in flight, 10 sessions",
     .first = "loss, parts of a million",
     .rows = {{10, 8, 65536, 0}, {10, 8, 65536, 1000}, {10, 8, 65536, 10000},
              {10, 8, 65536, 50000}},
     .n_rows = 4},
};

static uint32_t first_of(const struct table *t, const struct row *r)
{
    switch (t->first[0]) {
    case 's':
        return r->sessions;
    case 'R':
        return r->depth;
    case 'b':
        return r->size;
    default:
        return r->drop_ppm;
    }
}

int main(void)
{
    const struct smt_aead *aead = smt_aead_by_name("aes-128-gcm", NULL);
    if (aead == NULL)
        return 1;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(tables); i++) {
        struct table *t = &tables[i];
        printf("\n| %s: %s | ns an RPC, both ends | to the first | packets an RPC |\n", t->what,
               t->first);
        printf("|---|---|---|---|\n");
        for (unsigned j = 0; j < t->n_rows; j++) {
            struct row *r = &t->rows[j];
            row_run(r, aead);
            printf("| %u | %.0f | %.2f | %.2f |\n", first_of(t, r), r->ns, r->ns / t->rows[0].ns,
                   r->packets);
            fflush(stdout);
        }
    }
    return 0;
}
