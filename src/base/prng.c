/* xoshiro256** of Blackman and Vigna (public domain algorithm, own code), seeded through splitmix64
 * so that near seeds give unrelated streams and the forbidden all-zero state cannot occur. */
#include "base/prng.h"

#include <string.h>

void smt_prng_seed(struct smt_prng *g, uint64_t seed)
{
    for (size_t i = 0; i < SMT_ARRAY_LEN(g->s); i++) {
        seed += 0x9e3779b97f4a7c15;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        g->s[i] = z ^ (z >> 31);
    }
}

/* Multiplies a random fraction by n; the few fractions that would favour some results are drawn
 * again (Lemire). */
uint64_t smt_prng_below(struct smt_prng *g, uint64_t n)
{
    assert(n > 0);
    unsigned __int128 m = (unsigned __int128)smt_prng_next64(g) * n;
    if ((uint64_t)m < n) {
        uint64_t unfair = -n % n;
        while ((uint64_t)m < unfair)
            m = (unsigned __int128)smt_prng_next64(g) * n;
    }
    return (uint64_t)(m >> 64);
}

void smt_prng_bytes(struct smt_prng *g, void *p, size_t len)
{
    uint8_t *out = p;
    while (len > 0) {
        uint64_t v = smt_prng_next64(g);
        uint8_t le[sizeof(v)];
        for (size_t i = 0; i < sizeof(le); i++)
            le[i] = (uint8_t)(v >> (8 * i));
        size_t n = len < sizeof(le) ? len : sizeof(le);
        memcpy(out, le, n);
        out += n;
        len -= n;
    }
}
