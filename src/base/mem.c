/* The library's memory: malloc for small things, mmap for large ones and for secrets, and the two
 * things tests need of it, an n-th failure and a count of what is live.
 *
 * State of the process, not of an endpoint: the counters are atomic and relaxed, for they order
 * nothing. Sizes of malloc'ed blocks are asked of malloc itself, which saves a header in front of
 * each block. */
#include "base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 64 };

/* log2 of 2 MB where mmap looks for it; <linux/mman.h> has a name for it, the C library has not. */
#define HUGE_2MB (21 << 26)

static const size_t huge_len = (size_t)2 << 20;
static const size_t block_map_len = (size_t)64 << 10;

static _Atomic long fail_after = -1;
static _Atomic uint64_t n_live, bytes_live, secret_unlocked;

static bool must_fail(void)
{
    long left = atomic_load_explicit(&fail_after, memory_order_relaxed);
    while (left >= 0) {
        if (atomic_compare_exchange_weak_explicit(&fail_after, &left, left - 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            return left == 0;
    }
    return false;
}

static void count_alloc(size_t len)
{
    atomic_fetch_add_explicit(&n_live, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&bytes_live, len, memory_order_relaxed);
}

static void count_free(size_t len)
{
    atomic_fetch_sub_explicit(&n_live, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&bytes_live, len, memory_order_relaxed);
}

long smt_mem_fail_after(long n)
{
    return atomic_exchange_explicit(&fail_after, n < 0 ? -1 : n, memory_order_relaxed);
}

struct smt_mem_stats smt_mem_live(void)
{
    return (struct smt_mem_stats){
        .n_live = atomic_load_explicit(&n_live, memory_order_relaxed),
        .bytes_live = atomic_load_explicit(&bytes_live, memory_order_relaxed),
    };
}

void *smt_mem_alloc(size_t len)
{
    void *p;
    if (must_fail() || posix_memalign(&p, ALIGNMENT, len > 0 ? len : 1) != 0)
        return NULL;
    if (len > 0)
        memset(p, 0, len);
    count_alloc(malloc_usable_size(p));
    return p;
}

void smt_mem_free(void *p)
{
    if (p == NULL)
        return;
    count_free(malloc_usable_size(p));
    free(p);
}

static size_t page_len(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* 0 when len is 0 or so large that it has no multiple of a page above it. */
static size_t page_round(size_t len)
{
    size_t mask = page_len() - 1;
    return (len + mask) & ~mask;
}

static void *map_pages(size_t len)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* munmap of a part can fail at the limit of maps per process; then at least the pages go. */
static void unmap_pages(void *p, size_t len)
{
    if (munmap(p, len) != 0) {
        int rc = madvise(p, len, MADV_DONTNEED);
        assert(rc == 0);
        (void)rc;
    }
}

/* Maps more than needed and cuts off both ends: mmap itself knows no alignment. */
static void *map_aligned(size_t len, size_t align)
{
    size_t total = len + align - page_len();
    if (total < len)
        return NULL;
    uint8_t *raw = map_pages(total);
    if (raw == NULL)
        return NULL;
    size_t head = (size_t)(-(uintptr_t)raw & (align - 1));
    size_t tail = total - head - len;
    if ((head > 0 && munmap(raw, head) != 0) || (tail > 0 && munmap(raw + head + len, tail) != 0)) {
        unmap_pages(raw, total);
        return NULL;
    }
    return raw + head;
}

void *smt_mem_map_aligned(size_t len, size_t align)
{
    assert((align & (align - 1)) == 0 && align >= page_len());
    len = page_round(len);
    if (len == 0 || must_fail())
        return NULL;
    void *p = map_aligned(len, align);
    if (p != NULL)
        count_alloc(len);
    return p;
}

void *smt_mem_map(size_t len)
{
    if (len < huge_len)
        return smt_mem_map_aligned(len, page_len());
    void *p = smt_mem_map_aligned(len, huge_len);
    /* Only a wish: a kernel without huge pages says no, and small ones do. */
    if (p != NULL)
        (void)madvise(p, page_round(len), MADV_HUGEPAGE);
    return p;
}

/* Pages of 2 MB, all of them there: a control group may deny them as late as at the first touch, by
 * a signal, so they are filled now, which raises none, and looked at. */
static void *map_reserved(size_t len)
{
    uint8_t *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | HUGE_2MB | MAP_POPULATE, -1,
                      0);
    if (p == MAP_FAILED)
        return NULL;
    for (size_t at = 0; at < len; at += huge_len) {
        unsigned char is_there = 0;
        if (mincore(p + at, page_len(), &is_there) != 0 || (is_there & 1) == 0) {
            unmap_pages(p, len);
            return NULL;
        }
    }
    return p;
}

void *smt_mem_map_huge(size_t *len, bool reserved)
{
    size_t rounded = (*len + huge_len - 1) & ~(huge_len - 1);
    void *p = NULL;
    if (reserved && *len >= huge_len / 2 && rounded >= *len)
        p = map_reserved(rounded);
    if (p == NULL) {
        p = smt_mem_map(*len);
        if (p != NULL)
            *len = page_round(*len);
        return p;
    }
    if (must_fail()) {
        unmap_pages(p, rounded);
        return NULL;
    }
    count_alloc(rounded);
    *len = rounded;
    return p;
}

void smt_mem_unmap(void *p, size_t len)
{
    if (p == NULL)
        return;
    len = page_round(len);
    count_free(len);
    unmap_pages(p, len);
}

void *smt_mem_block(size_t len)
{
    return len < block_map_len ? smt_mem_alloc(len) : smt_mem_map(len);
}

void smt_mem_block_free(void *p, size_t len)
{
    if (len < block_map_len)
        smt_mem_free(p);
    else
        smt_mem_unmap(p, len);
}

void *smt_mem_secret(size_t len)
{
    len = page_round(len);
    if (len == 0 || must_fail())
        return NULL;
    void *p = map_pages(len);
    if (p == NULL)
        return NULL;
    /* A child that cannot be given zeros is given nothing at all. */
    if (madvise(p, len, MADV_WIPEONFORK) != 0 && madvise(p, len, MADV_DONTFORK) != 0) {
        unmap_pages(p, len);
        return NULL;
    }
    /* Both may be denied without the secret being lost: dumps may be off, and limits are low. */
    (void)madvise(p, len, MADV_DONTDUMP);
    if (mlock(p, len) != 0)
        atomic_fetch_add_explicit(&secret_unlocked, len, memory_order_relaxed);
    count_alloc(len);
    return p;
}

void smt_mem_secret_free(void *p, size_t len)
{
    if (p == NULL)
        return;
    len = page_round(len);
    smt_wipe(p, len);
    count_free(len);
    unmap_pages(p, len);
}

uint64_t smt_mem_secret_unlocked(void)
{
    return atomic_load_explicit(&secret_unlocked, memory_order_relaxed);
}
