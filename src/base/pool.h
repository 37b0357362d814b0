/* Slab pool of objects of one size, each with a number for life.
 *
 * Grows by chunks that double it, up to a maximum; objects never move. Free objects are poisoned
 * under AddressSanitizer, so use after put and a double put are seen. */
#ifndef SMT_BASE_POOL_H
#define SMT_BASE_POOL_H

#include "base/asan.h"
#include "base/defs.h"

enum { SMT_POOL_MAX_CHUNKS = 32 };

struct smt_pool_free {
    struct smt_pool_free *next;
};

struct smt_pool {
    struct smt_pool_free *free;
    uint32_t obj_size; /* rounded up to 8 */
    uint32_t n_live;
    uint32_t n_carved; /* objects 0 .. n_carved - 1 have been handed out at least once */
    uint32_t n_total;  /* objects in all chunks */
    uint32_t max;
    uint8_t first_bits; /* the first chunk holds 1 << first_bits */
    uint8_t n_chunks;
    bool secret;        /* chunks are memory for keys */
    uint8_t *chunks[SMT_POOL_MAX_CHUNKS];
};

/* Allocates room for first_count (rounded up to a power of two, at most max_count) objects. Both
 * counts are 1 .. 2^31. An object is aligned to the largest power of two in its size, at most 64.
 * 0 or SMT_ENOMEM. */
SMT_MUST_CHECK int smt_pool_init(struct smt_pool *p, size_t obj_size, uint32_t first_count,
                                 uint32_t max_count);

/* The same in memory for keys (smt_mem_secret). The pool writes into free objects but does not wipe
 * them: their user does before put. */
SMT_MUST_CHECK int smt_pool_init_secret(struct smt_pool *p, size_t obj_size, uint32_t first_count,
                                        uint32_t max_count);

/* Every object goes, live or not; harmless on a zeroed pool. */
void smt_pool_fini(struct smt_pool *p);

/* The part of get that may grow the pool. */
SMT_MUST_CHECK void *smt_pool_get_slow(struct smt_pool *p);

/* Contents are undefined. NULL when all max_count are live or there is no memory. Last put, first
 * got. */
SMT_MUST_CHECK static inline void *smt_pool_get(struct smt_pool *p)
{
    struct smt_pool_free *f = p->free;
    if (SMT_UNLIKELY(f == NULL))
        return smt_pool_get_slow(p);
    SMT_UNPOISON(f, p->obj_size);
    p->free = f->next;
    p->n_live++;
    return f;
}

/* Is what get would give an object that was put? Else it was never handed out before. */
static inline bool smt_pool_has_used(const struct smt_pool *p)
{
    return p->free != NULL;
}

/* `obj` must be live in this pool. */
static inline void smt_pool_put(struct smt_pool *p, void *obj)
{
    assert(p->n_live > 0);
    assert(!SMT_IS_POISONED(obj));
    struct smt_pool_free *f = obj;
    f->next = p->free;
    p->free = f;
    p->n_live--;
    SMT_POISON(f, p->obj_size);
}

/* The object of a number below smt_pool_n_total, live or not. */
static inline void *smt_pool_at(const struct smt_pool *p, uint32_t i)
{
    assert(i < p->n_total);
    uint32_t high = i >> p->first_bits;
    unsigned chunk = high == 0 ? 0 : 32 - (unsigned)__builtin_clz(high);
    uint32_t start = chunk == 0 ? 0 : 1u << (p->first_bits + chunk - 1);
    return p->chunks[chunk] + (size_t)(i - start) * p->obj_size;
}

/* The number of an object of this pool, live or not. */
uint32_t smt_pool_index(const struct smt_pool *p, const void *obj);

static inline uint32_t smt_pool_n_live(const struct smt_pool *p)
{
    return p->n_live;
}

/* Objects that can be had without growing. */
static inline uint32_t smt_pool_n_free(const struct smt_pool *p)
{
    return p->n_total - p->n_live;
}

static inline uint32_t smt_pool_n_total(const struct smt_pool *p)
{
    return p->n_total;
}

#endif
