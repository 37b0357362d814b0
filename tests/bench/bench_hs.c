/* What a handshake costs either side, in microseconds of CPU, without packets between, and what a
 * core could do of it alone. To run by hand: bench_hs [handshakes [part of a row's name]]. Groups
 * are compared through an SSL_CTX of its own, for credentials from files have one order. A resumed
 * handshake stands on the ticket of the one before; making and taking that is in the cost of the
 * rows that have tickets.
 *
 * Round trips are those of docs/wire.md 6.1: one for the cookie, unless a ticket's token stands for
 * it, one for TLS, but for early data; the ticket comes with the responder's first records. */
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

static struct smt_hs *make(struct smt_creds *creds, bool initiator, bool full)
{
    const struct smt_hs_config config = {
        .creds = creds,
        .initiator = initiator,
        .full = full,
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

/* Where there is early data. */
static void early_key_take(struct smt_hs *hs)
{
    uint8_t secret[SMT_SECRET_LEN];
    enum smt_aead_alg alg;
    if (smt_hs_has_early(hs) && smt_hs_early_secret(hs, &alg, secret) < 0)
        abort();
    smt_wipe(secret, sizeof(secret));
}

static void one(struct smt_creds *i_creds, struct smt_creds *r_creds, bool full, struct cost *cost)
{
    uint8_t bytes[8192];
    uint64_t t0 = cpu_ns();
    struct smt_hs *i = make(i_creds, true, full);
    int i_rc = smt_hs_input(i, NULL, 0);
    size_t n = smt_hs_output(i, bytes, sizeof(bytes));
    early_key_take(i);
    uint64_t t1 = cpu_ns();
    struct smt_hs *r = make(r_creds, false, full);
    int r_rc = smt_hs_input(r, bytes, n);
    cost->bytes[0] = n;
    n = smt_hs_output(r, bytes, sizeof(bytes));
    early_key_take(r);
    uint64_t t2 = cpu_ns();
    i_rc = smt_hs_input(i, bytes, n);
    cost->bytes[1] = n;
    n = smt_hs_output(i, bytes, sizeof(bytes));
    cost->bytes[0] += n;
    if (i_rc != SMT_HS_DONE)
        abort();
    uint64_t t3 = cpu_ns();
    r_rc = smt_hs_input(r, bytes, n);
    if (r_rc != SMT_HS_DONE)
        abort();
    n = smt_hs_output(r, bytes, sizeof(bytes)); /* a ticket, or nothing */
    cost->bytes[1] += n;
    finish(r);
    uint64_t t4 = cpu_ns();
    if (n > 0 && smt_hs_input(i, bytes, n) != SMT_HS_DONE)
        abort();
    finish(i);
    uint64_t t5 = cpu_ns();
    cost->ns[0] += t1 - t0 + t3 - t2 + t5 - t4;
    cost->ns[1] += t2 - t1 + t4 - t3;
}

static void measure(const char *name, const struct hs_side *i_side, const struct hs_side *r_side,
                    bool full, unsigned n)
{
    struct smt_creds *i = hs_side_creds(i_side), *r = hs_side_creds(r_side);
    struct cost best = {.ns = {UINT64_MAX, UINT64_MAX}};
    one(i, r, full, &(struct cost){0}); /* of which the first resumed one has its ticket */
    for (unsigned k = 0; k < n; k += BATCH) {
        struct cost cost = {0};
        for (unsigned b = 0; b < BATCH; b++)
            one(i, r, full, &cost);
        for (int side = 0; side < 2; side++)
            if (cost.ns[side] < best.ns[side])
                best.ns[side] = cost.ns[side];
        memcpy(best.bytes, cost.bytes, sizeof(best.bytes));
    }
    double us[2] = {(double)best.ns[0] / BATCH / 1e3, (double)best.ns[1] / BATCH / 1e3};
    printf("%-34s initiator %7.1f us %5.0f/s %5zu bytes   responder %7.1f us %5.0f/s %5zu bytes\n",
           name, us[0], 1e6 / us[0], best.bytes[0], us[1], 1e6 / us[1], best.bytes[1]);
    smt_creds_free(i);
    smt_creds_free(r);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
    const struct {
        const char *name;
        struct hs_side i, r;
        bool full;
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
        {"certificates, a ticket given",
         {.cert = "client", .ca = "ca", .resume = true},
         {.cert = "server", .ca = "ca", .resume = true},
         .full = true},
        {"resumed by a ticket",
         {.cert = "client", .ca = "ca", .resume = true},
         {.cert = "server", .ca = "ca", .resume = true}},
        {"resumed with early data",
         {.cert = "client", .ca = "ca", .resume = true, .early = true},
         {.cert = "server", .ca = "ca", .resume = true, .early = true}},
    };
    hs_sides_setup(NULL);
    for (size_t k = 0; k < SMT_ARRAY_LEN(rows); k++)
        if (argc < 3 || strstr(rows[k].name, argv[2]) != NULL)
            measure(rows[k].name, &rows[k].i, &rows[k].r, rows[k].full, n);
    hs_sides_teardown(NULL);
    return 0;
}
