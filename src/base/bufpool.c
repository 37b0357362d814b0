/* Where message buffers come from. A class up to 64 KiB has chunks of 1 MiB, each with its free
 * list and count of live buffers, so that a chunk nobody uses goes back or to another class: a
 * change in the mix of sizes strands nothing. The chunk of a buffer is found by its address; its
 * header has the first page to itself, away from what a peer fills. A chunk just filled up is
 * last to be taken from, one just made room in is first, so that the emptier ones get empty.
 *
 * A few buffers of the smallest class, that of most messages, are kept at hand in front of all
 * that: the next message takes one without asking for its chunk. They may hold chunks that are else
 * empty, so whoever comes to rest gives them up.
 *
 * Each class keeps its last chunk even when that is empty: one message at a time must not cost a
 * map and an unmap each. Larger buffers are one map each and cached latest first; when the cache
 * is full the oldest map goes. A chunk never drives out a map (much cheaper than to make anew). */
#include "base/bufpool.h"

#include "base/asan.h"
#include "base/mem.h"

struct free_buf {
    struct free_buf *next;
};

struct chunk {
    struct smt_list link; /* in small[], full or empty */
    struct free_buf *free;
    uint32_t n_live, n_carved, n_bufs;
    uint32_t bits; /* of the buffer length */
};

/* Lies in a large buffer while that is cached. */
struct cached_map {
    struct smt_list link; /* in big[] */
    struct smt_list age;  /* in big_by_age */
    uint32_t bits;
};

enum { CHUNK_FIRST = 4096, PAGE = 4096 };

static_assert(sizeof(struct chunk) <= CHUNK_FIRST, "the header has its page");

void smt_bufpool_init(struct smt_bufpool *bp, uint64_t max_bytes, uint64_t cache_bytes)
{
    *bp = (struct smt_bufpool){.max_bytes = max_bytes, .cache_bytes = cache_bytes};
    for (size_t i = 0; i < SMT_ARRAY_LEN(bp->small); i++)
        smt_list_init(&bp->small[i]);
    for (size_t i = 0; i < SMT_ARRAY_LEN(bp->big); i++)
        smt_list_init(&bp->big[i]);
    smt_list_init(&bp->full);
    smt_list_init(&bp->empty);
    smt_list_init(&bp->big_by_age);
}

SMT_INLINE unsigned bits_for(size_t len)
{
    uint64_t least = (1u << SMT_BUF_MIN_BITS) - 1;
    uint64_t highest = len > 0 ? len - 1 : 0;
    return ((unsigned)__builtin_clzll(highest | least) ^ 63) + 1;
}

SMT_INLINE uint64_t big_cost(size_t len)
{
    return ((uint64_t)len + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

uint64_t smt_bufpool_cost(size_t len)
{
    unsigned bits = bits_for(len);
    return bits <= SMT_BUF_SMALL_BITS ? 1ull << bits : big_cost(len);
}

static struct smt_list *class_chunks(struct smt_bufpool *bp, unsigned bits)
{
    return &bp->small[bits - SMT_BUF_MIN_BITS];
}

static struct smt_list *class_maps(struct smt_bufpool *bp, unsigned bits)
{
    return &bp->big[bits - SMT_BUF_SMALL_BITS - 1];
}

static void chunk_unmap(struct smt_bufpool *bp, struct chunk *c)
{
    SMT_UNPOISON(c, SMT_BUF_CHUNK_LEN);
    smt_mem_unmap(c, SMT_BUF_CHUNK_LEN);
    bp->mapped_bytes -= SMT_BUF_CHUNK_LEN;
}

static struct chunk *chunk_map(struct smt_bufpool *bp)
{
    struct chunk *c = smt_mem_map_aligned(SMT_BUF_CHUNK_LEN, SMT_BUF_CHUNK_LEN);
    if (c == NULL && bp->mapped_bytes > 0) {
        smt_bufpool_trim(bp);
        c = smt_mem_map_aligned(SMT_BUF_CHUNK_LEN, SMT_BUF_CHUNK_LEN);
    }
    if (c == NULL)
        return NULL;
    SMT_POISON((uint8_t *)c + CHUNK_FIRST, SMT_BUF_CHUNK_LEN - CHUNK_FIRST);
    bp->mapped_bytes += SMT_BUF_CHUNK_LEN;
    return c;
}

/* A chunk for a class that has none with room. */
static struct chunk *chunk_take(struct smt_bufpool *bp, unsigned bits)
{
    struct smt_list *l = smt_list_pop_head(&bp->empty);
    struct chunk *c;
    if (l != NULL) {
        c = SMT_CONTAINER_OF(l, struct chunk, link);
        bp->cached_bytes -= SMT_BUF_CHUNK_LEN;
    } else {
        c = chunk_map(bp);
        if (c == NULL)
            return NULL;
    }
    *c = (struct chunk){.n_bufs = (SMT_BUF_CHUNK_LEN - CHUNK_FIRST) >> bits, .bits = bits};
    smt_list_push_head(class_chunks(bp, bits), &c->link);
    return c;
}

static void chunk_give(struct smt_bufpool *bp, struct chunk *c)
{
    smt_list_remove(&c->link);
    if (bp->cached_bytes + SMT_BUF_CHUNK_LEN > bp->cache_bytes) {
        chunk_unmap(bp, c);
        return;
    }
    smt_list_push_head(&bp->empty, &c->link);
    bp->cached_bytes += SMT_BUF_CHUNK_LEN;
}

static __attribute__((noinline)) void chunk_is_full(struct smt_bufpool *bp, struct chunk *c)
{
    smt_list_remove(&c->link);
    smt_list_push_tail(&bp->full, &c->link);
}

/* The class has no chunk with room, or its first one has nothing that was used before. */
static __attribute__((noinline)) uint8_t *fresh_get(struct smt_bufpool *bp, unsigned bits)
{
    struct smt_list *l = smt_list_first(class_chunks(bp, bits));
    struct chunk *c = l != NULL ? SMT_CONTAINER_OF(l, struct chunk, link) : chunk_take(bp, bits);
    if (c == NULL)
        return NULL;
    uint8_t *buf = (uint8_t *)c + CHUNK_FIRST + ((size_t)c->n_carved++ << bits);
    if (++c->n_live == c->n_bufs)
        chunk_is_full(bp, c);
    return buf;
}

SMT_INLINE uint8_t *small_get(struct smt_bufpool *bp, unsigned bits)
{
    struct smt_list *chunks = class_chunks(bp, bits);
    struct chunk *c = SMT_CONTAINER_OF(chunks->next, struct chunk, link);
    if (SMT_UNLIKELY(smt_list_is_empty(chunks) || c->free == NULL))
        return fresh_get(bp, bits);
    struct free_buf *buf = c->free;
    SMT_UNPOISON(buf, sizeof(*buf));
    c->free = buf->next;
    SMT_POISON(buf, sizeof(*buf));
    if (SMT_UNLIKELY(++c->n_live == c->n_bufs))
        chunk_is_full(bp, c);
    return (uint8_t *)buf;
}

/* It was full, or nobody holds any of it now. */
static __attribute__((noinline)) void chunk_look(struct smt_bufpool *bp, struct chunk *c)
{
    struct smt_list *chunks = class_chunks(bp, c->bits);
    if (c->n_live + 1 == c->n_bufs) {
        smt_list_remove(&c->link);
        smt_list_push_head(chunks, &c->link);
    }
    if (c->n_live == 0 && (chunks->next != &c->link || chunks->prev != &c->link))
        chunk_give(bp, c);
}

SMT_INLINE void small_put(struct smt_bufpool *bp, uint8_t *p, unsigned bits)
{
    struct chunk *c = (void *)(p - ((uintptr_t)p & (SMT_BUF_CHUNK_LEN - 1)));
    assert(c->bits == bits && c->n_live > 0);
    struct free_buf *buf = (void *)p;
    SMT_UNPOISON(p, sizeof(*buf));
    buf->next = c->free;
    c->free = buf;
    SMT_POISON(p, (size_t)1 << bits);

    uint32_t n = --c->n_live;
    if (SMT_UNLIKELY(n == 0 || n + 1 == c->n_bufs))
        chunk_look(bp, c);
}

static void map_unmap(struct smt_bufpool *bp, void *p, unsigned bits)
{
    SMT_UNPOISON(p, (size_t)1 << bits);
    smt_mem_unmap(p, (size_t)1 << bits);
    bp->mapped_bytes -= 1ull << bits;
}

/* Takes a map out of the cache. */
static void map_uncache(struct smt_bufpool *bp, struct cached_map *m)
{
    smt_list_remove(&m->link);
    smt_list_remove(&m->age);
    bp->cached_bytes -= 1ull << m->bits;
    bp->n_big_cached--;
}

static uint8_t *big_get(struct smt_bufpool *bp, unsigned bits)
{
    struct smt_list *l = smt_list_first(class_maps(bp, bits));
    if (l != NULL) {
        struct cached_map *m = SMT_CONTAINER_OF(l, struct cached_map, link);
        map_uncache(bp, m);
        return (uint8_t *)m;
    }
    size_t len = (size_t)1 << bits;
    uint8_t *p = smt_mem_map(len);
    if (p == NULL && bp->mapped_bytes > 0) {
        smt_bufpool_trim(bp);
        p = smt_mem_map(len);
    }
    if (p != NULL)
        bp->mapped_bytes += len;
    return p;
}

/* Drops the oldest maps until one more of `len` fits the cache; false if it cannot. */
static bool cache_make_room(struct smt_bufpool *bp, uint64_t len)
{
    if (len > bp->cache_bytes)
        return false;
    while (bp->cached_bytes > bp->cache_bytes - len) {
        struct smt_list *l = smt_list_first(&bp->big_by_age);
        if (l == NULL)
            return false;
        struct cached_map *m = SMT_CONTAINER_OF(l, struct cached_map, age);
        unsigned bits = m->bits;
        map_uncache(bp, m);
        map_unmap(bp, m, bits);
    }
    return true;
}

static void big_put(struct smt_bufpool *bp, uint8_t *p, size_t len, unsigned bits)
{
    if (!cache_make_room(bp, 1ull << bits)) {
        map_unmap(bp, p, bits);
        return;
    }
    SMT_POISON(p, len);
    struct cached_map *m = (void *)p;
    SMT_UNPOISON(m, sizeof(*m));
    m->bits = bits;
    smt_list_push_head(class_maps(bp, bits), &m->link);
    smt_list_push_tail(&bp->big_by_age, &m->age);
    bp->cached_bytes += 1ull << bits;
    bp->n_big_cached++;
}

uint8_t *smt_bufpool_get_any(struct smt_bufpool *bp, size_t len)
{
    if (SMT_UNLIKELY(len > SMT_BUF_MAX_LEN))
        return NULL;
    unsigned bits = bits_for(len);
    uint64_t cost = SMT_LIKELY(bits <= SMT_BUF_SMALL_BITS) ? 1ull << bits : big_cost(len);
    if (SMT_UNLIKELY(bp->live_bytes + cost > bp->max_bytes))
        smt_bufpool_rest(bp);
    if (SMT_UNLIKELY(bp->live_bytes + cost > bp->max_bytes))
        return NULL;
    uint8_t *p = SMT_LIKELY(bits <= SMT_BUF_SMALL_BITS) ? small_get(bp, bits) : big_get(bp, bits);
    if (p == NULL)
        return NULL;
    SMT_UNPOISON(p, len);
    SMT_POISON(p + len, cost - len);
    bp->live_bytes += cost;
    return p;
}

void smt_bufpool_put_any(struct smt_bufpool *bp, uint8_t *p, size_t len)
{
    if (p == NULL)
        return;
    unsigned bits = bits_for(len);
    uint64_t cost = SMT_LIKELY(bits <= SMT_BUF_SMALL_BITS) ? 1ull << bits : big_cost(len);
    assert(len <= SMT_BUF_MAX_LEN && bp->live_bytes >= cost);
    assert(len == 0 || !SMT_IS_POISONED(p));
    bp->live_bytes -= cost;
    if (SMT_LIKELY(bits <= SMT_BUF_SMALL_BITS))
        small_put(bp, p, bits);
    else
        big_put(bp, p, len, bits);
}

void smt_bufpool_rest(struct smt_bufpool *bp)
{
    while (bp->n_kept > 0) {
        bp->live_bytes -= 1u << SMT_BUF_MIN_BITS;
        small_put(bp, bp->kept[--bp->n_kept], SMT_BUF_MIN_BITS);
    }
}

void smt_bufpool_trim(struct smt_bufpool *bp)
{
    smt_bufpool_rest(bp);
    SMT_LIST_FOREACH_SAFE(it, tmp, &bp->big_by_age) {
        struct cached_map *m = SMT_CONTAINER_OF(it, struct cached_map, age);
        unsigned bits = m->bits;
        map_uncache(bp, m);
        map_unmap(bp, m, bits);
    }
    SMT_LIST_FOREACH_SAFE(it, tmp, &bp->empty) {
        smt_list_remove(it);
        bp->cached_bytes -= SMT_BUF_CHUNK_LEN;
        chunk_unmap(bp, SMT_CONTAINER_OF(it, struct chunk, link));
    }
    for (size_t i = 0; i < SMT_ARRAY_LEN(bp->small); i++) {
        SMT_LIST_FOREACH_SAFE(it, tmp, &bp->small[i]) {
            struct chunk *c = SMT_CONTAINER_OF(it, struct chunk, link);
            if (c->n_live > 0)
                continue;
            smt_list_remove(it);
            chunk_unmap(bp, c);
        }
    }
}

void smt_bufpool_fini(struct smt_bufpool *bp)
{
    assert(smt_bufpool_live(bp) == 0);
    smt_bufpool_trim(bp);
    assert(bp->mapped_bytes == 0);
    *bp = (struct smt_bufpool){0};
}
