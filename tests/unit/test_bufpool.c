/* Message buffers: no two share a byte, limits hold, and everything goes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/asan.h"
#include "base/bufpool.h"
#include "base/mem.h"
#include "base/prng.h"

enum { MAX_BUFS = 400, N_STEPS = 10000, N_SEEDS = 4 };

static const uint64_t mib = 1 << 20;

struct buf {
    uint8_t *p;
    size_t len;
    uint8_t tag;
};

/* Both ends and the middle of each buffer carry its tag. */
static void buf_mark(const struct buf *b)
{
    size_t n = b->len < 200 ? b->len : 200;
    memset(b->p, b->tag, n);
    memset(b->p + b->len - n, b->tag, n);
    if (b->len > 0)
        b->p[b->len / 2] = b->tag;
}

static void buf_check(const struct buf *b)
{
    size_t n = b->len < 200 ? b->len : 200;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(b->p[i], b->tag);
        assert_int_equal(b->p[b->len - 1 - i], b->tag);
    }
    if (b->len > 0)
        assert_int_equal(b->p[b->len / 2], b->tag);
}

static size_t random_len(struct smt_prng *g)
{
    size_t max = (size_t)1 << (1 + smt_prng_below(g, smt_prng_below(g, 10) == 0 ? 22 : 17));
    size_t len = smt_prng_below(g, max + 1);
    return smt_prng_below(g, 8) == 0 ? max : len;
}

static void random_run(uint64_t seed)
{
    struct smt_prng g;
    smt_prng_seed(&g, seed);
    uint64_t max_bytes = (8 + 8 * seed) * mib;
    uint64_t cache_bytes = seed % 2 == 0 ? 4 * mib : 0;
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, max_bytes, cache_bytes);
    struct buf bufs[MAX_BUFS];
    unsigned n = 0;
    uint64_t live = 0;
    for (unsigned step = 0; step < N_STEPS; step++) {
        unsigned get_share = step / 1000 % 2 == 0 ? 60 : 40;
        if (smt_prng_below(&g, 100) < get_share) {
            if (n == MAX_BUFS)
                continue;
            struct buf b = {.len = random_len(&g), .tag = (uint8_t)step};
            b.p = smt_bufpool_get(&bp, b.len);
            uint64_t cost = smt_bufpool_cost(b.len);
            assert_true(cost >= b.len);
            if (live + cost > max_bytes) {
                assert_null(b.p);
                continue;
            }
            assert_non_null(b.p);
            assert_int_equal((uintptr_t)b.p % 64, 0);
            buf_mark(&b);
            bufs[n++] = b;
            live += cost;
        } else if (n > 0) {
            unsigned i = (unsigned)smt_prng_below(&g, n);
            buf_check(&bufs[i]);
            smt_bufpool_put(&bp, bufs[i].p, bufs[i].len);
            live -= smt_bufpool_cost(bufs[i].len);
            bufs[i] = bufs[--n];
        } else if (smt_prng_below(&g, 10) == 0) {
            smt_bufpool_trim(&bp);
        }
        assert_true(smt_bufpool_live(&bp) == live);
        assert_true(smt_bufpool_cached(&bp) <= cache_bytes);
        assert_true(smt_bufpool_mapped(&bp) >= live + smt_bufpool_cached(&bp));
    }
    while (n-- > 0) {
        buf_check(&bufs[n]);
        smt_bufpool_put(&bp, bufs[n].p, bufs[n].len);
    }
    assert_true(smt_bufpool_live(&bp) == 0);
    smt_bufpool_trim(&bp);
    assert_true(smt_bufpool_cached(&bp) == 0);
    assert_true(smt_bufpool_mapped(&bp) == 0);
    smt_bufpool_fini(&bp);
}

static void test_against_a_list(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        random_run(seed);
    assert_true(smt_mem_live().n_live == before.n_live);
    assert_true(smt_mem_live().bytes_live == before.bytes_live);
}

static void test_every_class_to_its_edges(void **state)
{
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, 4096 * mib, 0);
    for (unsigned bits = SMT_BUF_MIN_BITS; bits <= SMT_BUF_MAX_BITS; bits++) {
        for (int d = -1; d <= 1; d++) {
            size_t len = ((size_t)1 << bits) + (size_t)d;
            uint8_t *p = smt_bufpool_get(&bp, len);
            if (len > SMT_BUF_MAX_LEN) {
                assert_null(p);
                continue;
            }
            assert_non_null(p);
            p[0] = 1;
            p[len - 1] = 1;
            smt_bufpool_put(&bp, p, len);
        }
    }
    assert_null(smt_bufpool_get(&bp, SIZE_MAX));
    uint8_t *none = smt_bufpool_get(&bp, 0);
    assert_non_null(none);
    smt_bufpool_put(&bp, none, 0);
    smt_bufpool_put(&bp, NULL, 7);
    smt_bufpool_fini(&bp);
}

static void test_limit(void **state)
{
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, 1024, 0);
    uint8_t *a = smt_bufpool_get(&bp, 512);
    uint8_t *b = smt_bufpool_get(&bp, 257);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(smt_bufpool_get(&bp, 1));
    smt_bufpool_put(&bp, b, 257);
    assert_null(smt_bufpool_get(&bp, 513));
    b = smt_bufpool_get(&bp, 512);
    assert_non_null(b);
    smt_bufpool_put(&bp, a, 512);
    smt_bufpool_put(&bp, b, 512);
    smt_bufpool_fini(&bp);

    /* A large message counts its pages, not its class. */
    smt_bufpool_init(&bp, 600 * mib, 0);
    a = smt_bufpool_get(&bp, 600 * mib);
    assert_non_null(a);
    smt_bufpool_put(&bp, a, 600 * mib);
    assert_null(smt_bufpool_get(&bp, 600 * mib + 1));
    smt_bufpool_fini(&bp);
}

/* One message at a time must not go to the system again and again, cache or not. */
static void test_steady_use_asks_for_nothing(void **state)
{
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, 64 * mib, 0);
    uint8_t *p = smt_bufpool_get(&bp, 1000);
    smt_bufpool_put(&bp, p, 1000);
    smt_mem_fail_after(0);
    for (unsigned i = 0; i < 100; i++) {
        assert_ptr_equal(smt_bufpool_get(&bp, 600 + i), p);
        smt_bufpool_put(&bp, p, 600 + i);
    }
    assert_int_equal(smt_mem_fail_after(-1), 0);
    smt_bufpool_fini(&bp);

    smt_bufpool_init(&bp, 64 * mib, 8 * mib);
    p = smt_bufpool_get(&bp, 3 * mib);
    smt_bufpool_put(&bp, p, 3 * mib);
    assert_true(smt_bufpool_cached(&bp) == 4 * mib);
    smt_mem_fail_after(0);
    for (unsigned i = 0; i < 10; i++) {
        assert_ptr_equal(smt_bufpool_get(&bp, 4 * mib - i), p);
        smt_bufpool_put(&bp, p, 4 * mib - i);
    }
    assert_int_equal(smt_mem_fail_after(-1), 0);
    smt_bufpool_fini(&bp);
}

/* Chunks one class has emptied serve another; nothing is stranded. */
static void test_empty_chunks_change_class(void **state)
{
    struct smt_bufpool bp;
    enum { N = 100 };
    uint8_t *p[N];
    smt_bufpool_init(&bp, 64 * mib, 64 * mib);
    for (unsigned i = 0; i < N; i++) {
        p[i] = smt_bufpool_get(&bp, 65536);
        assert_non_null(p[i]);
    }
    uint64_t mapped = smt_bufpool_mapped(&bp);
    for (unsigned i = 0; i < N; i++)
        smt_bufpool_put(&bp, p[i], 65536);
    assert_true(smt_bufpool_mapped(&bp) == mapped);
    smt_mem_fail_after(0);
    for (unsigned i = 0; i < N; i++) {
        p[i] = smt_bufpool_get(&bp, 30000);
        assert_non_null(p[i]);
    }
    assert_int_equal(smt_mem_fail_after(-1), 0);
    for (unsigned i = 0; i < N; i++)
        smt_bufpool_put(&bp, p[i], 30000);
    smt_bufpool_fini(&bp);
}

static void test_oldest_map_leaves_the_cache(void **state)
{
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, 64 * mib, 3 * mib);
    uint8_t *a = smt_bufpool_get(&bp, mib);
    uint8_t *b = smt_bufpool_get(&bp, mib);
    uint8_t *c = smt_bufpool_get(&bp, 2 * mib);
    uint8_t *d = smt_bufpool_get(&bp, 4 * mib);
    assert_true(a != NULL && b != NULL && c != NULL && d != NULL);
    smt_bufpool_put(&bp, a, mib);
    smt_bufpool_put(&bp, b, mib);
    smt_bufpool_put(&bp, c, 2 * mib);
    assert_true(smt_bufpool_cached(&bp) == 3 * mib);
    smt_bufpool_put(&bp, d, 4 * mib);
    assert_true(smt_bufpool_cached(&bp) == 3 * mib);
    assert_true(smt_bufpool_mapped(&bp) == 3 * mib);
    assert_ptr_equal(smt_bufpool_get(&bp, mib), b);
    assert_ptr_equal(smt_bufpool_get(&bp, 2 * mib), c);
    smt_bufpool_put(&bp, b, mib);
    smt_bufpool_put(&bp, c, 2 * mib);
    smt_bufpool_fini(&bp);
}

static void test_no_memory(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, 64 * mib, 8 * mib);
    smt_mem_fail_after(0);
    assert_null(smt_bufpool_get(&bp, 100));
    smt_mem_fail_after(0);
    assert_null(smt_bufpool_get(&bp, mib));
    assert_true(smt_bufpool_live(&bp) == 0 && smt_bufpool_mapped(&bp) == 0);

    /* What is cached is given up before a get fails. */
    uint8_t *a = smt_bufpool_get(&bp, mib);
    assert_non_null(a);
    smt_bufpool_put(&bp, a, mib);
    smt_mem_fail_after(0);
    uint8_t *b = smt_bufpool_get(&bp, 100);
    assert_non_null(b);
    assert_true(smt_bufpool_cached(&bp) == 0);
    smt_mem_fail_after(0);
    assert_non_null(a = smt_bufpool_get(&bp, mib));
    smt_bufpool_put(&bp, a, mib);
    smt_bufpool_put(&bp, b, 100);
    smt_bufpool_fini(&bp);
    assert_true(smt_mem_live().n_live == before.n_live);
}

static void test_bytes_of_nobody_are_poisoned(void **state)
{
#ifndef SMT_ASAN
    skip();
#else
    static const size_t lens[] = {1, 300, 65536 - 3, 70000, 3 << 20};
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, 64 * mib, 8 * mib);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        size_t len = lens[i];
        for (unsigned round = 0; round < 2; round++) {
            uint8_t *p = smt_bufpool_get(&bp, len);
            assert_false(SMT_IS_POISONED(p) || SMT_IS_POISONED(p + len - 1));
            assert_true(smt_bufpool_cost(len) == len || SMT_IS_POISONED(p + len));
            memset(p, 1, len);
            smt_bufpool_put(&bp, p, len);
            assert_true(SMT_IS_POISONED(p + len / 2));
        }
    }
    smt_bufpool_fini(&bp);
#endif
}

/* Buffers at hand hold chunks that are else empty until the pool is told to rest; handed out they
 * count against the limit like any other. */
static void test_small_ones_at_hand(void **state)
{
    enum { N = 5 * SMT_BUF_KEPT };
    uint8_t *p[N];
    struct smt_bufpool bp;
    smt_bufpool_init(&bp, N * 256, 0);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < N; i++) {
            p[i] = smt_bufpool_get(&bp, i % 2 == 0 ? 256 : i % 200);
            assert_non_null(p[i]);
            memset(p[i], (int)i, i % 2 == 0 ? 256 : i % 200);
        }
        assert_null(smt_bufpool_get(&bp, 1));
        for (unsigned i = 0; i < N; i++) {
            for (unsigned j = 0; j < (i % 2 == 0 ? 256 : i % 200); j++)
                assert_int_equal(p[i][j], (uint8_t)i);
            smt_bufpool_put(&bp, p[i], i % 2 == 0 ? 256 : i % 200);
        }
        assert_int_equal(smt_bufpool_live(&bp), 0);
        assert_int_equal(bp.n_kept, SMT_BUF_KEPT);
        if (round == 1)
            smt_bufpool_rest(&bp);
        assert_int_equal(bp.n_kept, round == 1 ? 0 : SMT_BUF_KEPT);
    }
    smt_bufpool_trim(&bp);
    assert_int_equal(bp.n_kept, 0);
    assert_int_equal(smt_bufpool_mapped(&bp), 0);
    smt_bufpool_fini(&bp);
}

/* Buffers that are only at hand are in nobody's way. */
static void test_at_hand_is_not_live(void **state)
{
    struct smt_bufpool bp;
    uint8_t *bufs[SMT_BUF_KEPT];
    smt_bufpool_init(&bp, 1 << SMT_BUF_SMALL_BITS, 0);
    for (unsigned i = 0; i < SMT_BUF_KEPT; i++)
        assert_non_null(bufs[i] = smt_bufpool_get(&bp, 100));
    for (unsigned i = 0; i < SMT_BUF_KEPT; i++)
        smt_bufpool_put(&bp, bufs[i], 100);
    assert_int_equal(smt_bufpool_live(&bp), 0);
    uint8_t *all = smt_bufpool_get(&bp, 1 << SMT_BUF_SMALL_BITS);
    assert_non_null(all);
    assert_null(smt_bufpool_get(&bp, 1));
    smt_bufpool_put(&bp, all, 1 << SMT_BUF_SMALL_BITS);
    assert_int_equal(smt_bufpool_live(&bp), 0);
    smt_bufpool_fini(&bp);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_hand_is_not_live),
        cmocka_unit_test(test_against_a_list),
        cmocka_unit_test(test_every_class_to_its_edges),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_steady_use_asks_for_nothing),
        cmocka_unit_test(test_empty_chunks_change_class),
        cmocka_unit_test(test_oldest_map_leaves_the_cache),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_small_ones_at_hand),
        cmocka_unit_test(test_bytes_of_nobody_are_poisoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
