/* All memory of the library comes from here: the only file that calls malloc or mmap.
 *
 * Calls are safe from any thread. What one returns is *given*: free it with the call of its kind
 * and, where one is asked for, the same length. Every free takes NULL. */
#ifndef SMT_BASE_MEM_H
#define SMT_BASE_MEM_H

#include <string.h>

#include "base/defs.h"

/* Zeroed, aligned to 64 bytes; len 0 gives a pointer to nothing that must be freed too. NULL when
 * there is no memory. */
SMT_MUST_CHECK void *smt_mem_alloc(size_t len);
void smt_mem_free(void *p);

/* Whole zero pages that cost nothing until touched. From 2 MB on the start is aligned to 2 MB and
 * huge pages are asked for. NULL when there is no memory or len is 0. */
SMT_MUST_CHECK void *smt_mem_map(size_t len);

/* The same with the start at a multiple of `align`, a power of two of at least a page. No huge
 * pages are asked for: a chunk that is used a little stays small. */
SMT_MUST_CHECK void *smt_mem_map_aligned(size_t len, size_t align);
void smt_mem_unmap(void *p, size_t len);

/* For memory that a NIC works on: whole zero pages, of 2 MB from the system's reserve when
 * `reserved` allows that, *len is at least 1 MB and the reserve has them; else as smt_mem_map gives
 * them. Never fails for want of huge pages. *len: in, what is wanted; out, what there is, whole
 * pages of their kind, and what smt_mem_unmap is to be told. */
SMT_MUST_CHECK void *smt_mem_map_huge(size_t *len, bool reserved);

/* For tables and slabs: smt_mem_alloc while small, smt_mem_map from 64 KB on. */
SMT_MUST_CHECK void *smt_mem_block(size_t len);
void smt_mem_block_free(void *p, size_t len);

/* Zero pages for keys: gone in a forked child, not in core dumps, locked as far as the process
 * may. Freeing wipes them. NULL when there is no memory or the kernel can keep them neither from
 * a child's eyes nor from its address space. */
SMT_MUST_CHECK void *smt_mem_secret(size_t len);
void smt_mem_secret_free(void *p, size_t len);

/* Bytes of secrets that could not be locked since the process began; 0 is the good answer. */
uint64_t smt_mem_secret_unlocked(void);

/* Zeroes a few hundred bytes by a call of memset, which has vectors: left to know the length, the
 * compiler takes a string instruction, which is slow to start. */
static inline void smt_zero(void *p, size_t len)
{
    __asm__("" : "+r"(len));
    memset(p, 0, len);
}

/* Zeroes a stretch of constant length, a multiple of 8 of at most some 100 bytes, without a call:
 * the compiler is not told that it is zeros it stores, so it stores vectors. */
SMT_INLINE void smt_zero_stretch(void *p, size_t len)
{
    typedef uint64_t pair __attribute__((vector_size(16), aligned(8), may_alias));
    uint64_t zero = 0;
    __asm__("" : "+r"(zero));
    uint8_t *at = p;
#pragma GCC unroll 16
    for (size_t i = 0; i + sizeof(pair) <= len; i += sizeof(pair))
        *(pair *)(void *)(at + i) = (pair){zero, zero};
    if (len % sizeof(pair) != 0)
        memcpy(at + len - sizeof(zero), &zero, sizeof(zero));
}

/* Zeroes memory that nobody reads afterwards: the compiler sees a reader and keeps the stores. */
static inline void smt_wipe(void *p, size_t len)
{
    if (len > 0)
        memset(p, 0, len);
    __asm__ __volatile__("" : : "r"(p) : "memory");
}

/* For tests. n more allocations of any kind succeed, the next one fails, all later ones succeed;
 * -1 turns this off. Returns what was left of the former setting, -1 when it was off or has
 * struck: a sweep is over when the call that ends a round returns 0 or more. One setting for the
 * whole process. */
long smt_mem_fail_after(long n);

struct smt_mem_stats {
    uint64_t n_live;     /* allocations of any kind not yet freed */
    uint64_t bytes_live; /* their bytes, page-rounded for maps and secrets */
};

/* Where the process stands. A test compares before and after. */
struct smt_mem_stats smt_mem_live(void);

#endif
