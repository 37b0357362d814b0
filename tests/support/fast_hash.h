/* A fast 64-bit hash for the tests' own book-keeping: traces, contents, stand-in tags. Not secret,
 * not attack-proof; the same bytes give the same value on every little-endian machine. */
#ifndef SMT_TESTS_FAST_HASH_H
#define SMT_TESTS_FAST_HASH_H

#include <string.h>

#include "base/defs.h"

static inline uint64_t fast_mum(uint64_t a, uint64_t b)
{
    unsigned __int128 p = (unsigned __int128)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint64_t fast_word(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    return w;
}

/* One value into another, order counts. */
static inline uint64_t fast_mix(uint64_t h, uint64_t v)
{
    return fast_mum(h ^ 0x9e3779b97f4a7c15, v ^ 0xd6e8feb86659fd93) + h;
}

struct fast_hash {
    uint64_t a, b;
};

/* Hashes a run of bytes into two words, two independent lanes of 16 bytes at a time. */
static inline struct fast_hash fast_hash2(uint64_t key, const uint8_t *p, size_t len)
{
    uint64_t a = key ^ 0xa0761d6478bd642f, b = key ^ 0xe7037ed1a0b428db;
    size_t left = len;
    for (; left >= 32; left -= 32, p += 32) {
        a = fast_mum(a ^ fast_word(p), fast_word(p + 8) ^ 0x8ebc6af09c88c6e3) + key;
        b = fast_mum(b ^ fast_word(p + 16), fast_word(p + 24) ^ 0x589965cc75374cc3) + key;
    }
    uint8_t tail[32] = {0};
    memcpy(tail, p, left);
    a = fast_mum(a ^ fast_word(tail), fast_word(tail + 8) ^ 0x1d8e4e27c47d124f);
    b = fast_mum(b ^ fast_word(tail + 16), fast_word(tail + 24) ^ 0xeb44accab455d165);
    struct fast_hash out;
    out.a = fast_mix(fast_mix(a, b), len ^ key);
    out.b = fast_mix(fast_mix(b, a), ~(uint64_t)len ^ key);
    return out;
}

static inline uint64_t fast_hash(uint64_t key, const uint8_t *p, size_t len)
{
    return fast_hash2(key, p, len).a;
}

#endif
