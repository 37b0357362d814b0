/* Hash table of links that live in their owners' structs, found by a 64-bit and a 32-bit
 * word: an entry costs no slot of its own, putting it in and taking it out a few stores.
 *
 * The hash is keyed with a seed that a stranger who chooses keys does not know: two given pairs of
 * words, whatever they are, share one of n chains for about 2/n of all seeds. map.h is for values
 * without a place for a link. */
#ifndef SMT_BASE_CHAINS_H
#define SMT_BASE_CHAINS_H

#include "base/defs.h"

struct smt_chain {
    struct smt_chain *next;
    struct smt_chain **at; /* what points here; NULL when in no table */
    uint64_t hash;
};

struct smt_chains {
    struct smt_chain **heads;
    uint64_t k[2];
    uint32_t bits;  /* 2^bits chains */
    uint32_t shift; /* that leaves so many of a hash */
};

/* 2^bits chains to begin with, 1 to 30. 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_chains_init(struct smt_chains *t, const uint64_t seed[2], unsigned bits);

/* Forgets its links. Harmless on a zeroed table. */
void smt_chains_fini(struct smt_chains *t);

/* As many chains as there may be links, n: from whoever makes their owners, as these become more.
 * Without memory for that chains just get longer. */
void smt_chains_grow(struct smt_chains *t);
static inline void smt_chains_expect(struct smt_chains *t, uint32_t n)
{
    if (SMT_UNLIKELY(n > 1ull << t->bits))
        smt_chains_grow(t);
}

/* Of two words; and its part of the second one, for who asks for the same often. */
static inline uint64_t smt_chains_salt(const struct smt_chains *t, uint32_t b)
{
    return b * t->k[1];
}

static inline uint64_t smt_chains_hash_salted(const struct smt_chains *t, uint64_t a, uint64_t salt)
{
    return a * t->k[0] + salt;
}

static inline uint64_t smt_chains_hash(const struct smt_chains *t, uint64_t a, uint32_t b)
{
    return smt_chains_hash_salted(t, a, smt_chains_salt(t, b));
}

/* The first link of the chain in which what has this hash would be, NULL when that is empty: go
 * along `next` and compare what the owners say of themselves. */
static inline struct smt_chain *smt_chains_first(const struct smt_chains *t, uint64_t hash)
{
    return t->heads[hash >> t->shift];
}

static inline void smt_chains_link(struct smt_chains *t, struct smt_chain *l)
{
    struct smt_chain **head = &t->heads[l->hash >> t->shift];
    l->next = *head;
    l->at = head;
    if (l->next != NULL)
        l->next->at = &l->next;
    *head = l;
}

/* Lends `l`, which is in no table, until it is removed. What has the same words may be in it
 * already: the latest is found first. */
static inline void smt_chains_add(struct smt_chains *t, struct smt_chain *l, uint64_t hash)
{
    l->hash = hash;
    smt_chains_link(t, l);
}

static inline void smt_chains_remove(struct smt_chain *l)
{
    assert(l->at != NULL);
    *l->at = l->next;
    if (l->next != NULL)
        l->next->at = l->at;
    l->at = NULL;
}

#endif
