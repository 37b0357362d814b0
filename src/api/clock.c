/* The one clock of the library: monotonic nanoseconds, read once per poll and handed to the engine.
 *
 * It is the kernel's. Where that counts the cycles of the CPU itself, so does an endpoint between
 * two looks at the kernel's, which are a millisecond apart at most while it polls: a look takes
 * 35 ns, waits for all that the CPU has begun, and was a fifth of a small message's way through
 * shared memory. The rate is what the last two looks say, so a machine that goes on at another rate
 * (another host, after a suspension) is wrong by no more than what passes until the next look. Time
 * never goes back. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

enum {
    TRUST = 1 << 21,    /* cycles from a look for which the rate is good */
    GAP_MOST = 1 << 13, /* between the counts around a look: it was not interrupted */
    RATE_BITS = 32,
};
/* Cycles between two looks that give a rate, and rates there are: 0.25 to 8 GHz. */
static const uint64_t apart_most = 1ull << 32;
static const uint64_t rate_least = 1ull << (RATE_BITS - 3), rate_most = 1ull << (RATE_BITS + 2);

uint64_t smt_api_clock(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SMT_SEC + (uint64_t)ts.tv_nsec;
}

void smt_clock_seen(struct smt_clock *c, uint64_t before, uint64_t ns, uint64_t after)
{
    uint64_t cycles = before - c->cycles, passed = ns - c->ns, rate = 0;
    if (after - before > GAP_MOST) {
        c->trust = 0;
        return;
    }
    if (c->ns != 0 && cycles < TRUST)
        return; /* too near for a rate */
    if (c->ns != 0 && cycles <= apart_most && passed <= apart_most)
        rate = (passed << (RATE_BITS - 2)) / cycles << 2;
    if (rate >= rate_least && rate <= rate_most)
        c->rate = rate;
    c->trust = c->rate != 0 ? TRUST : 0;
    c->ns = ns;
    c->cycles = before;
}

uint64_t smt_clock_tell(struct smt_clock *c, uint64_t ns)
{
    if (SMT_LIKELY(ns > c->told))
        c->told = ns;
    return c->told;
}

bool smt_clock_at(struct smt_clock *c, uint64_t cycles, uint64_t *ns)
{
    uint64_t since = cycles - c->cycles;
    if (SMT_UNLIKELY(since >= c->trust))
        return false;
    *ns = smt_clock_tell(c, c->ns + (since * c->rate >> RATE_BITS));
    return true;
}

#if defined(__x86_64__)
/* Does the counter go on at one rate whatever the CPU does, and does the kernel itself go by it? */
static bool counter_is_good(void)
{
    enum { LEAF = 0x80000007, INVARIANT = 1 << 8 };
    unsigned a, b, c, d;
    char name[8] = "";
    if (__get_cpuid(LEAF, &a, &b, &c, &d) == 0 || (d & INVARIANT) == 0)
        return false;
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (f == NULL)
        return false;
    bool is_read = fgets(name, sizeof(name), f) != NULL;
    fclose(f);
    return is_read && strcmp(name, "tsc\n") == 0;
}

void smt_clock_init(struct smt_clock *c)
{
    *c = (struct smt_clock){.is_counted = counter_is_good()};
}

uint64_t smt_clock_now(struct smt_clock *c)
{
    uint64_t ns;
    if (SMT_UNLIKELY(!c->is_counted))
        return smt_api_clock();
    uint64_t before = __rdtsc();
    if (SMT_LIKELY(smt_clock_at(c, before, &ns)))
        return ns;
    ns = smt_api_clock();
    smt_clock_seen(c, before, ns, __rdtsc());
    return smt_clock_tell(c, ns);
}
#else
void smt_clock_init(struct smt_clock *c)
{
    *c = (struct smt_clock){.is_counted = false};
}

uint64_t smt_clock_now(struct smt_clock *c)
{
    (void)c;
    return smt_api_clock();
}
#endif
