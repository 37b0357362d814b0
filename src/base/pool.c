/* Growth and numbering of the slab pool. Chunk 0 holds 2^first_bits objects, chunk k > 0 as many as
 * all before it, so that the chunk of a number is found by its highest bit, and the last chunk may
 * be cut short by the maximum. A chunk's objects are handed out in order the first time and through
 * the free list afterwards: growing does not touch the new memory. */
#include "base/pool.h"

#include "base/mem.h"

static uint32_t chunk_count(const struct smt_pool *p, unsigned chunk)
{
    uint32_t start = chunk == 0 ? 0 : 1u << (p->first_bits + chunk - 1);
    uint32_t n = chunk == 0 ? 1u << p->first_bits : start;
    return n < p->max - start ? n : p->max - start;
}

static size_t chunk_len(const struct smt_pool *p, unsigned chunk)
{
    return (size_t)chunk_count(p, chunk) * p->obj_size;
}

static int pool_grow(struct smt_pool *p)
{
    if (p->n_total == p->max)
        return SMT_ENOMEM;
    size_t len = chunk_len(p, p->n_chunks);
    uint8_t *chunk = p->secret ? smt_mem_secret(len) : smt_mem_block(len);
    if (chunk == NULL)
        return SMT_ENOMEM;
    SMT_POISON(chunk, len);
    p->n_total += chunk_count(p, p->n_chunks);
    p->chunks[p->n_chunks++] = chunk;
    return 0;
}

static int pool_init(struct smt_pool *p, size_t obj_size, uint32_t first_count, uint32_t max_count,
                     bool secret)
{
    assert(obj_size > 0 && obj_size <= UINT32_MAX - 7);
    assert(first_count > 0 && max_count > 0);
    assert(first_count <= 1u << 31 && max_count <= 1u << 31);
    *p = (struct smt_pool){
        .obj_size = ((uint32_t)obj_size + 7) & ~7u,
        .max = max_count,
        .secret = secret,
    };
    while (1u << p->first_bits < first_count)
        p->first_bits++;
    return pool_grow(p);
}

int smt_pool_init(struct smt_pool *p, size_t obj_size, uint32_t first_count, uint32_t max_count)
{
    return pool_init(p, obj_size, first_count, max_count, false);
}

int smt_pool_init_secret(struct smt_pool *p, size_t obj_size, uint32_t first_count,
                         uint32_t max_count)
{
    return pool_init(p, obj_size, first_count, max_count, true);
}

void smt_pool_fini(struct smt_pool *p)
{
    for (unsigned i = 0; i < p->n_chunks; i++) {
        SMT_UNPOISON(p->chunks[i], chunk_len(p, i));
        if (p->secret)
            smt_mem_secret_free(p->chunks[i], chunk_len(p, i));
        else
            smt_mem_block_free(p->chunks[i], chunk_len(p, i));
    }
    *p = (struct smt_pool){0};
}

void *smt_pool_get_slow(struct smt_pool *p)
{
    assert(p->free == NULL);
    if (p->n_carved == p->n_total && pool_grow(p) < 0)
        return NULL;
    void *obj = smt_pool_at(p, p->n_carved++);
    SMT_UNPOISON(obj, p->obj_size);
    p->n_live++;
    return obj;
}

/* The last chunk first: it holds half of all objects. */
uint32_t smt_pool_index(const struct smt_pool *p, const void *obj)
{
    uintptr_t addr = (uintptr_t)obj;
    for (unsigned i = p->n_chunks; i-- > 0;) {
        uintptr_t start = (uintptr_t)p->chunks[i];
        if (addr >= start && addr - start < chunk_len(p, i)) {
            uint32_t first = i == 0 ? 0 : 1u << (p->first_bits + i - 1);
            return first + (uint32_t)((addr - start) / p->obj_size);
        }
    }
    assert(!"object is not of this pool");
    return UINT32_MAX;
}
