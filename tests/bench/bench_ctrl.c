/* What a control packet costs who receives it before anything is done with it: the tag judged, the
 * replay window looked at. Genuine ones and forged ones, by each back end. To run by hand:
 * bench_ctrl [batches]; the best batch counts, so that a loaded machine says much the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/pool.h"
#include "core/keys.h"
#include "crypto/aead.h"
#include "wire/wire.h"

enum { BATCH = 50, RECORD_ROOM = 128, FRAMES_LEN = 26 };

struct ends {
    struct smt_keys_env env[2];
    struct smt_keys from, to;
    uint64_t next;
};

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SMT_SEC + (uint64_t)t.tv_nsec;
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

/* Seals a batch, spoils it if asked, and times the opening of all of it. */
static uint64_t batch(struct ends *e, bool forged)
{
    static uint8_t records[BATCH][RECORD_ROOM];
    for (unsigned i = 0; i < BATCH; i++) {
        memset(records[i], 1, RECORD_ROOM);
        must(smt_keys_seal_ctrl(&e->from, records[i], FRAMES_LEN) == 0);
        records[i][SMT_RECORD_HEAD_LEN] ^= forged;
    }
    uint64_t began = clock_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        int rc = smt_keys_open_ctrl(&e->to, 1, SMT_EPOCH_NOW, e->next++, records[i], FRAMES_LEN);
        must((rc == 0) == !forged);
    }
    return clock_ns() - began;
}

static void measure(const struct smt_aead *row, unsigned n)
{
    static const uint8_t secret[SMT_SECRET_LEN] = {3};
    struct smt_pool replays;
    struct ends e = {0};
    must(smt_pool_init(&replays, sizeof(struct smt_replay), 4, 64) == 0);
    for (unsigned i = 0; i < 2; i++)
        must(smt_keys_env_init(&e.env[i], row, &replays, 16, 0) == 0);
    must(smt_keys_install(&e.from, &e.env[0], secret, true) == 0);
    must(smt_keys_install(&e.to, &e.env[1], secret, false) == 0);
    uint64_t best[2] = {UINT64_MAX, UINT64_MAX};
    for (unsigned k = 0; k < 2 * n; k++) {
        uint64_t took = batch(&e, k % 2 != 0);
        if (took < best[k % 2])
            best[k % 2] = took;
    }
    printf("%-12s %-9s genuine %4.0f ns   forged %4.0f ns\n", row->name, row->impl,
           (double)best[0] / BATCH, (double)best[1] / BATCH);
    smt_keys_fini(&e.from);
    smt_keys_fini(&e.to);
    for (unsigned i = 0; i < 2; i++)
        smt_keys_env_fini(&e.env[i]);
    smt_pool_fini(&replays);
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 10000;
    unsigned n_rows;
    const struct smt_aead *rows = smt_aead_list(&n_rows);
    for (unsigned i = 0; i < n_rows; i++)
        measure(&rows[i], n);
    return 0;
}
