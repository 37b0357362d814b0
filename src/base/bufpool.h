/* Message buffers of 256 B to 1 GiB, in classes of powers of two.
 *
 * Buffers up to 64 KiB are cut from 1 MiB chunks, larger ones are maps of their own; both are kept
 * for reuse up to a limit when they come back. Nothing of the pool lies inside a live buffer or
 * next to it. Contents of a new buffer are undefined. The bytes behind `len` are poisoned under
 * AddressSanitizer. One thread. */
#ifndef SMT_BASE_BUFPOOL_H
#define SMT_BASE_BUFPOOL_H

#include "base/asan.h"
#include "base/defs.h"
#include "base/list.h"

enum {
    SMT_BUF_MIN_BITS = 8,
    SMT_BUF_SMALL_BITS = 16,
    SMT_BUF_MAX_BITS = 30,
    SMT_BUF_CHUNK_LEN = 1 << 20,
    SMT_BUF_KEPT = 64,
};

#define SMT_BUF_MAX_LEN ((size_t)1 << SMT_BUF_MAX_BITS)

struct smt_bufpool {
    uint64_t max_bytes, cache_bytes;
    uint64_t live_bytes; /* those at hand included */
    uint64_t cached_bytes, mapped_bytes;
    uint32_t n_big_cached;
    struct smt_list small[SMT_BUF_SMALL_BITS - SMT_BUF_MIN_BITS + 1]; /* chunks with room */
    struct smt_list full;  /* chunks without room, any class */
    struct smt_list empty; /* chunks without a live buffer, of no class; latest first */
    struct smt_list big[SMT_BUF_MAX_BITS - SMT_BUF_SMALL_BITS]; /* cached maps; latest first */
    struct smt_list big_by_age;                                 /* the same; oldest first */
    uint32_t n_kept;
    uint8_t *kept[SMT_BUF_KEPT]; /* of the smallest class, at hand; to their chunks they are live */
};

/* At most max_bytes are handed out (counted by smt_bufpool_cost); up to cache_bytes that nobody
 * holds are kept for the next. Allocates nothing. The struct must not move. */
void smt_bufpool_init(struct smt_bufpool *bp, uint64_t max_bytes, uint64_t cache_bytes);

/* Every buffer must have come back. */
void smt_bufpool_fini(struct smt_bufpool *bp);

/* The parts of get and put that look for a chunk or a map. */
SMT_MUST_CHECK uint8_t *smt_bufpool_get_any(struct smt_bufpool *bp, size_t len);
void smt_bufpool_put_any(struct smt_bufpool *bp, uint8_t *p, size_t len);

/* Bytes handed out, as they are counted. */
static inline uint64_t smt_bufpool_live(const struct smt_bufpool *bp)
{
    return bp->live_bytes - ((uint64_t)bp->n_kept << SMT_BUF_MIN_BITS);
}

/* Is one of this length at hand? And takes it. */
static inline bool smt_bufpool_has(const struct smt_bufpool *bp, size_t len)
{
    return len <= 1u << SMT_BUF_MIN_BITS && bp->n_kept > 0;
}

static inline uint8_t *smt_bufpool_take(struct smt_bufpool *bp, size_t len)
{
    uint8_t *p = bp->kept[--bp->n_kept];
    (void)len;
    SMT_UNPOISON(p, len);
    return p;
}

/* len bytes aligned to 64 (len 0 counts as 1). NULL when len is above SMT_BUF_MAX_LEN, when
 * max_bytes would be passed, or when there is no memory. */
SMT_MUST_CHECK static inline uint8_t *smt_bufpool_get(struct smt_bufpool *bp, size_t len)
{
    return SMT_LIKELY(smt_bufpool_has(bp, len)) ? smt_bufpool_take(bp, len)
                                                : smt_bufpool_get_any(bp, len);
}

/* Is there a place at hand for one of this length? And puts it there. */
static inline bool smt_bufpool_has_place(const struct smt_bufpool *bp, size_t len)
{
    return len <= 1u << SMT_BUF_MIN_BITS && bp->n_kept < SMT_BUF_KEPT;
}

static inline void smt_bufpool_keep(struct smt_bufpool *bp, uint8_t *p, size_t len)
{
    (void)len;
    assert(smt_bufpool_live(bp) > 0 && (len == 0 || !SMT_IS_POISONED(p)));
    SMT_POISON(p, 1u << SMT_BUF_MIN_BITS);
    bp->kept[bp->n_kept++] = p;
}

/* Takes a buffer back; `len` as in get. NULL is allowed. */
static inline void smt_bufpool_put(struct smt_bufpool *bp, uint8_t *p, size_t len)
{
    if (SMT_LIKELY(p != NULL && smt_bufpool_has_place(bp, len)))
        smt_bufpool_keep(bp, p, len);
    else
        smt_bufpool_put_any(bp, p, len);
}

/* Those at hand go to their chunks: for whoever will not need some soon. */
void smt_bufpool_rest(struct smt_bufpool *bp);

/* Gives back to the system what nobody holds, as far as whole chunks go. */
void smt_bufpool_trim(struct smt_bufpool *bp);

/* What a buffer of len counts against max_bytes: its class up to 64 KiB, its pages above. */
uint64_t smt_bufpool_cost(size_t len);

/* Bytes of empty chunks and maps kept for reuse: never above cache_bytes. */
static inline uint64_t smt_bufpool_cached(const struct smt_bufpool *bp)
{
    return bp->cached_bytes;
}

/* Address space held, live and not. */
static inline uint64_t smt_bufpool_mapped(const struct smt_bufpool *bp)
{
    return bp->mapped_bytes;
}

#endif
