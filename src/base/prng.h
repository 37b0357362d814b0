/* Repeatable random numbers (xoshiro256**): for tests, jitter and simulation, never for keys. */
#ifndef SMT_BASE_PRNG_H
#define SMT_BASE_PRNG_H

#include "base/defs.h"

struct smt_prng {
    uint64_t s[4];
};

/* The same seed gives the same numbers on every machine. */
void smt_prng_seed(struct smt_prng *g, uint64_t seed);

/* Uniform in [0, n), n >= 1. */
uint64_t smt_prng_below(struct smt_prng *g, uint64_t n);

void smt_prng_bytes(struct smt_prng *g, void *p, size_t len);

static inline uint64_t smt_prng_rotl(uint64_t x, unsigned k)
{
    return (x << k) | (x >> (64 - k));
}

static inline uint64_t smt_prng_next64(struct smt_prng *g)
{
    uint64_t *s = g->s;
    uint64_t out = smt_prng_rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = smt_prng_rotl(s[3], 45);
    return out;
}

#endif
