/* What a handshake costs either side, in microseconds of CPU, without packets between. To run by
 * hand: bench_hs [handshakes] Groups are compared through an SSL_CTX of its own, for credentials
 * from files have one order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "hs_pair.h"
#include "hs_sides.h"

enum { BATCH = 20 };

struct cost {
    uint64_t ns[2]; /* initiator, responder */
    size_t bytes[2];
};

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * SMT_SEC + (uint64_t)t.tv_nsec;
}

static struct smt_hs *make(struct smt_creds *creds, bool initiator)
{
    const struct smt_hs_config config = {
        .creds = creds,
        .initiator = initiator,
        .verify_name = initiator ? "localhost" : NULL,
        .params = hs_pair_params(initiator ? HS_PAIR_I_ID : HS_PAIR_R_ID, "12"),
        .initiator_id = HS_PAIR_I_ID,
    };
    struct smt_hs *hs = NULL;
    if (smt_hs_new(&config, &hs) < 0)
        abort();
    return hs;
}

static void finish(struct smt_hs *hs)
{
    struct smt_hs_result result;
    if (smt_hs_result(hs, &result) < 0)
        abort();
    smt_wipe(&result, sizeof(result));
    smt_hs_free(hs);
}

static void one(struct smt_creds *i_creds, struct smt_creds *r_creds, struct cost *cost)
{
    uint8_t bytes[8192];
    uint64_t t0 = cpu_ns();
    struct smt_hs *i = make(i_creds, true);
    int i_rc = smt_hs_input(i, NULL, 0);
    size_t n = smt_hs_output(i, bytes, sizeof(bytes));
    uint64_t t1 = cpu_ns();
    struct smt_hs *r = make(r_creds, false);
    int r_rc = smt_hs_input(r, bytes, n);
    cost->bytes[0] = n;
    n = smt_hs_output(r, bytes, sizeof(bytes));
    uint64_t t2 = cpu_ns();
    i_rc = smt_hs_input(i, bytes, n);
    cost->bytes[1] = n;
    n = smt_hs_output(i, bytes, sizeof(bytes));
    cost->bytes[0] += n;
    if (i_rc != SMT_HS_DONE)
        abort();
    finish(i);
    uint64_t t3 = cpu_ns();
    r_rc = smt_hs_input(r, bytes, n);
    if (r_rc != SMT_HS_DONE)
        abort();
    finish(r);
    uint64_t t4 = cpu_ns();
    cost->ns[0] += t1 - t0 + t3 - t2;
    cost->ns[1] += t2 - t1 + t4 - t3;
}

static void measure(const char *name, const struct hs_side *i_side, const struct hs_side *r_side,
                    unsigned n)
{
    struct smt_creds *i = hs_side_creds(i_side), *r = hs_side_creds(r_side);
    struct cost best = {.ns = {UINT64_MAX, UINT64_MAX}};
    for (unsigned k = 0; k < n; k += BATCH) {
        struct cost cost = {0};
        for (unsigned b = 0; b < BATCH; b++)
            one(i, r, &cost);
        for (int side = 0; side < 2; side++)
            if (cost.ns[side] < best.ns[side])
                best.ns[side] = cost.ns[side];
        memcpy(best.bytes, cost.bytes, sizeof(best.bytes));
    }
    printf("%-34s initiator %7.1f us %5zu bytes   responder %7.1f us %5zu bytes\n", name,
           (double)best.ns[0] / BATCH / 1e3, best.bytes[0], (double)best.ns[1] / BATCH / 1e3,
           best.bytes[1]);
    smt_creds_free(i);
    smt_creds_free(r);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
    const struct {
        const char *name;
        struct hs_side i, r;
    } rows[] = {
        {"certificates both ways", {.cert = "client", .ca = "ca"}, {.cert = "server", .ca = "ca"}},
        {"server's certificate only",
         {.ca = "ca"},
         {.cert = "server", .ca = "ca", .optional = true}},
        {"pins both ways",
         {.cert = "self", .pins = hs_side_pins.self},
         {.cert = "self", .pins = hs_side_pins.self}},
        {"server RSA-2048", {.cert = "client", .ca = "ca"}, {.cert = "rsa", .ca = "ca"}},
        {"Ed25519 both ways", {.cert = "ed", .ca = "ca"}, {.cert = "ed", .ca = "ca"}},
        {"both ways, P-256",
         {.cert = "client", .ca = "ca", .app = true, .groups = "P-256"},
         {.cert = "server", .ca = "ca"}},
        {"both ways, X25519",
         {.cert = "client", .ca = "ca", .app = true, .groups = "X25519"},
         {.cert = "server", .ca = "ca"}},
        {"pre-shared key", {.psk = "psk"}, {.psk = "psk"}},
    };
    hs_sides_setup(NULL);
    for (size_t k = 0; k < SMT_ARRAY_LEN(rows); k++)
        measure(rows[k].name, &rows[k].i, &rows[k].r, n);
    hs_sides_teardown(NULL);
    return 0;
}
