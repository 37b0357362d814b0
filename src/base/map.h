/* Hash map from a pair of 64-bit words to a pointer, for keys a stranger may choose: the hash is
 * keyed with a seed that he does not know.
 *
 * Open addressing, no tombstones: a map that fills and empties for ever stays as fast as a new
 * one. A put may move everything (amortised O(1)); reserve where that must not happen late. */
#ifndef SMT_BASE_MAP_H
#define SMT_BASE_MAP_H

#include "base/defs.h"

struct smt_map_key {
    uint64_t a, b;
};

struct smt_map_slot {
    struct smt_map_key key;
    void *val; /* NULL: slot is free */
};

struct smt_map {
    struct smt_map_slot *slots;
    uint64_t k[4]; /* hash keys from the seed */
    uint32_t mask; /* slots - 1 */
    uint32_t n, limit;
};

/* `seed`: two words an attacker cannot guess (tests: any). Room for `reserve` entries; 0 allocates
 * nothing yet. 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_map_init(struct smt_map *m, const uint64_t seed[2], uint32_t reserve);
void smt_map_fini(struct smt_map *m);

/* After 0, puts up to n entries in all cannot fail. 0 or SMT_ENOMEM (nothing changed). */
SMT_MUST_CHECK int smt_map_reserve(struct smt_map *m, uint32_t n);

/* Stores `val` (not NULL) under `key`, in place of what was there. 0 or SMT_ENOMEM (nothing
 * changed; not possible when the key was there). */
SMT_MUST_CHECK int smt_map_put(struct smt_map *m, struct smt_map_key key, void *val);

/* Returns what was removed, NULL when there was nothing. Never fails, never allocates. */
void *smt_map_del(struct smt_map *m, struct smt_map_key key);

/* The entries in no useful order: start with *pos = 0, false after the last. No put and no del
 * between two calls of one walk. `key` and `val` may be NULL. */
bool smt_map_next(const struct smt_map *m, uint32_t *pos, struct smt_map_key *key, void **val);

/* Two rounds of NH (as in UMAC): sums with secret words multiplied to 128 bits. Two given pairs of
 * words give the same product in one of 2^64 seeds. */
static inline uint64_t smt_map_hash(const struct smt_map *m, struct smt_map_key key)
{
    unsigned __int128 p = (unsigned __int128)(key.a + m->k[0]) * (key.b + m->k[1]);
    p = (unsigned __int128)((uint64_t)p + m->k[2]) * ((uint64_t)(p >> 64) + m->k[3]);
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* NULL when there is none. */
static inline void *smt_map_get(const struct smt_map *m, struct smt_map_key key)
{
    uint32_t i = (uint32_t)smt_map_hash(m, key) & m->mask;
    for (;;) {
        const struct smt_map_slot *s = &m->slots[i];
        if (s->val == NULL || (s->key.a == key.a && s->key.b == key.b))
            return s->val;
        i = (i + 1) & m->mask;
    }
}

static inline uint32_t smt_map_count(const struct smt_map *m)
{
    return m->n;
}

#endif
