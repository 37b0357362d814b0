/* Events a second of the simulator's queue alone: as many pending as a network of 144 hosts has,
 * by heap only and, as packets do, half by lane. */
#include <stdio.h>
#include <time.h>

#include "base/prng.h"
#include "sim/des.h"

enum { PENDING = 700, N_EVENTS = 30 * 1000 * 1000 };

static struct smt_prng rng;
static unsigned lane;

static void by_heap(void *ctx, void *arg)
{
    struct smt_des *d = ctx;
    smt_des_at(d, d->now + 1 + (smt_prng_next64(&rng) & 0xfffff), by_heap, arg);
}

static void by_lane(void *ctx, void *arg);

static void then_by_heap(void *ctx, void *arg)
{
    struct smt_des *d = ctx;
    smt_des_at(d, d->now + 1 + (smt_prng_next64(&rng) & 0xfffff), by_lane, arg);
}

static void by_lane(void *ctx, void *arg)
{
    smt_des_in_lane(ctx, lane, then_by_heap, arg);
}

static int measure(const char *name, smt_des_fn *fn)
{
    struct smt_des d;
    if (smt_des_init(&d, &d) < 0)
        return 1;
    int rc = smt_des_lane(&d, 250000);
    if (rc < 0)
        return 1;
    lane = (unsigned)rc;
    for (unsigned i = 0; i < PENDING; i++)
        smt_des_at(&d, i, fn, NULL);
    clock_t begin = clock();
    while (d.n_run < N_EVENTS)
        (void)smt_des_step(&d, SMT_NEVER);
    double seconds = (double)(clock() - begin) / CLOCKS_PER_SEC;
    printf("%-12s %.1f M events/s\n", name, N_EVENTS / seconds / 1e6);
    smt_des_fini(&d);
    return 0;
}

int main(void)
{
    smt_prng_seed(&rng, 1);
    return measure("heap", by_heap) | measure("heap, lanes", by_lane);
}
