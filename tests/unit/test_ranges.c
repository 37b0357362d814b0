/* The range set against one flag per number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "base/ranges.h"

enum { SPAN = 400, N_STEPS = 10000, N_SEEDS = 10 };

struct model {
    uint64_t base; /* flag i stands for base + i */
    bool in[SPAN];
};

static unsigned model_count(const struct model *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < SPAN; i++)
        n += m->in[i] && (i == 0 || !m->in[i - 1]);
    return n;
}

/* First i >= from where the flag is `value`; SPAN if there is none. */
static unsigned model_find(const struct model *m, unsigned from, bool value)
{
    while (from < SPAN && m->in[from] != value)
        from++;
    return from;
}

static void check_points(const struct smt_ranges *r, const struct model *m)
{
    uint64_t len = 0;
    for (unsigned i = 0; i < SPAN; i++) {
        assert_int_equal(smt_ranges_contains(r, m->base + i), m->in[i]);
        len += m->in[i];
    }
    assert_true(smt_ranges_len(r) == len);
    assert_int_equal(smt_ranges_count(r), model_count(m));
}

/* Order, heights and the balance of an AVL tree; returns the height. */
static uint32_t check_tree(const struct smt_ranges_node *n, uint64_t low, uint64_t high)
{
    if (n == NULL)
        return 0;
    assert_true(n->range.start < n->range.end);
    assert_true(low <= n->range.start && n->range.end < high);
    uint32_t l = check_tree(n->left, low, n->range.start);
    uint32_t r = check_tree(n->right, n->range.end + 1, high);
    assert_true(l <= r + 1 && r <= l + 1);
    assert_int_equal(n->height, 1 + (l > r ? l : r));
    return n->height;
}

static void check_walk(const struct smt_ranges *r, const struct model *m)
{
    struct smt_range got, last = {0, 0};
    unsigned i = 0;
    uint64_t from = 0;
    unsigned n = 0;
    while (smt_ranges_next(r, from, &got)) {
        unsigned start = model_find(m, i, true);
        unsigned end = model_find(m, start, false);
        assert_true(start < SPAN);
        assert_true(got.start == m->base + start && got.end == m->base + end);
        if (n++ == 0) {
            struct smt_range first;
            assert_true(smt_ranges_first(r, &first));
            assert_true(first.start == got.start && first.end == got.end);
        }
        last = got;
        from = got.end;
        i = end;
    }
    assert_int_equal(model_find(m, i, true), SPAN);
    assert_int_equal(smt_ranges_last(r, &got), n > 0);
    if (n > 0)
        assert_true(got.start == last.start && got.end == last.end);
}

static void check_questions(const struct smt_ranges *r, const struct model *m, struct smt_prng *g)
{
    unsigned a = (unsigned)smt_prng_below(g, SPAN);
    unsigned b = a + (unsigned)smt_prng_below(g, SPAN - a + 1);
    uint64_t start, end;
    assert_int_equal(smt_ranges_covers(r, m->base + a, m->base + b), model_find(m, a, false) >= b);
    assert_int_equal(smt_ranges_overlaps(r, m->base + a, m->base + b),
                     a < b && model_find(m, a, true) < b);
    unsigned gap = model_find(m, a, false);
    unsigned gap_end = model_find(m, gap, true);
    bool found = smt_ranges_next_gap(r, m->base + a, m->base + b, &start, &end);
    assert_int_equal(found, gap < b);
    if (found) {
        assert_true(start == m->base + gap);
        assert_true(end == m->base + (gap_end < b ? gap_end : b));
    }
}

static void random_run(uint64_t seed, struct smt_ranges_pool *pool)
{
    struct smt_prng g;
    smt_prng_seed(&g, seed);
    struct model m = {.base = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 1ull << 40 : UINT64_MAX - SPAN};
    uint32_t max = seed % 2 == 0 ? 1000 : 1 + (uint32_t)seed * 3;
    unsigned max_len = seed % 4 == 3 ? 60 : 4;
    struct smt_ranges r;
    smt_ranges_init(&r, pool, max);
    for (unsigned step = 0; step < N_STEPS; step++) {
        unsigned dice = (unsigned)smt_prng_below(&g, 1000);
        unsigned a = (unsigned)smt_prng_below(&g, SPAN);
        unsigned b = a + (unsigned)smt_prng_below(&g, max_len);
        if (b > SPAN)
            b = SPAN;
        if (dice < 990) {
            struct model after = m;
            memset(after.in + a, true, b - a);
            bool touches = a < b && (model_find(&m, a, true) <= b - 1 || (a > 0 && m.in[a - 1]) ||
                                     (b < SPAN && m.in[b]));
            int rc = smt_ranges_add(&r, m.base + a, m.base + b);
            if (a < b && !touches && model_count(&m) == max) {
                assert_int_equal(rc, SMT_ENOMEM);
            } else {
                assert_int_equal(rc, 0);
                m = after;
            }
        } else if (dice < 999) {
            /* Mostly a little, or most runs would be over at once. */
            unsigned low = (unsigned)smt_prng_below(&g, smt_prng_below(&g, 4) == 0 ? SPAN + 1 : 60);
            memset(m.in, false, low);
            smt_ranges_remove_below(&r, m.base + low);
        } else {
            memset(m.in, false, SPAN);
            smt_ranges_clear(&r);
        }
        if (step % 7 == 0)
            check_points(&r, &m);
        if (step % 11 == 0)
            check_walk(&r, &m);
        if (step % 5 == 0 && r.n > 1)
            check_tree(r.root, 0, r.last.start);
        assert_int_equal(smt_ranges_count(&r), model_count(&m));
        assert_int_equal(smt_pool_n_live(&pool->nodes), r.n > 0 ? r.n - 1 : 0);
        check_questions(&r, &m, &g);
    }
    check_points(&r, &m);
    smt_ranges_fini(&r);
    assert_int_equal(smt_pool_n_live(&pool->nodes), 0);
}

static void test_against_flags(void **state)
{
    struct smt_ranges_pool pool;
    assert_int_equal(smt_ranges_pool_init(&pool, 8, 1000), 0);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        random_run(seed, &pool);
    smt_ranges_pool_fini(&pool);
}

static void test_every_order_stays_balanced(void **state)
{
    enum { N = 50000 };
    struct smt_ranges_pool pool;
    assert_int_equal(smt_ranges_pool_init(&pool, 64, N), 0);
    for (unsigned order = 0; order < 4; order++) {
        struct smt_ranges r;
        smt_ranges_init(&r, &pool, N);
        for (uint64_t i = 0; i < N; i++) {
            uint64_t x = order == 0   ? i
                         : order == 1 ? N - 1 - i
                         : order == 2 ? (i % 2 == 0 ? i / 2 : N - 1 - i / 2)
                                      : i * 7919 % N;
            assert_int_equal(smt_ranges_add(&r, 3 * x, 3 * x + 1), 0);
        }
        assert_int_equal(smt_ranges_count(&r), N);
        assert_true(smt_ranges_len(&r) == N);
        assert_true(check_tree(r.root, 0, r.last.start) <= 22); /* 1.44 log2(N) */
        for (uint64_t x = 0; x < N; x += 97)
            assert_true(smt_ranges_contains(&r, 3 * x) && !smt_ranges_contains(&r, 3 * x + 1));
        if (order == 0) {
            for (uint64_t x = 0; x < N; x++)
                smt_ranges_remove_below(&r, 3 * x + 2);
        } else if (order == 1) {
            assert_int_equal(smt_ranges_add(&r, 0, 3 * N), 0);
            assert_int_equal(smt_ranges_count(&r), 1);
            assert_true(smt_ranges_len(&r) == 3 * N);
            assert_int_equal(smt_pool_n_live(&pool.nodes), 0);
            smt_ranges_remove_below(&r, 3 * N);
        } else if (order == 2) {
            for (uint64_t x = 1; x < N; x++)
                assert_int_equal(smt_ranges_add(&r, 3 * (N - x) - 2, 3 * (N - x)), 0);
            assert_int_equal(smt_ranges_count(&r), 1);
            smt_ranges_clear(&r);
        } else {
            smt_ranges_fini(&r);
        }
        assert_int_equal(smt_ranges_count(&r), 0);
        assert_int_equal(smt_pool_n_live(&pool.nodes), 0);
    }
    smt_ranges_pool_fini(&pool);
}

static void test_one_range_needs_no_node(void **state)
{
    struct smt_ranges_pool pool;
    assert_int_equal(smt_ranges_pool_init(&pool, 1, 1), 0);
    struct smt_ranges r;
    smt_ranges_init(&r, &pool, 1);
    assert_int_equal(smt_ranges_add(&r, 5, 5), 0);
    assert_int_equal(smt_ranges_count(&r), 0);
    for (uint64_t i = 100; i < 200; i++)
        assert_int_equal(smt_ranges_add(&r, i, i + 1), 0);
    for (uint64_t i = 100; i > 0; i--)
        assert_int_equal(smt_ranges_add(&r, i - 1, i), 0);
    assert_int_equal(smt_ranges_count(&r), 1);
    assert_int_equal(smt_pool_n_live(&pool.nodes), 0);
    assert_int_equal(smt_ranges_add(&r, 300, 301), SMT_ENOMEM);
    assert_int_equal(smt_ranges_add(&r, 150, 160), 0);
    assert_int_equal(smt_ranges_add(&r, 0, 250), 0);
    struct smt_range last;
    assert_true(smt_ranges_last(&r, &last));
    assert_true(last.start == 0 && last.end == 250 && smt_ranges_len(&r) == 250);
    smt_ranges_fini(&r);
    smt_ranges_pool_fini(&pool);
}

/* Sets that share a pool run out together, and one's end is another's room. */
static void test_shared_nodes_run_out(void **state)
{
    struct smt_ranges_pool pool;
    assert_int_equal(smt_ranges_pool_init(&pool, 1, 3), 0);
    struct smt_ranges a, b;
    smt_ranges_init(&a, &pool, 100);
    smt_ranges_init(&b, &pool, 100);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(smt_ranges_add(&a, 10 * i, 10 * i + 1), 0);
    assert_int_equal(smt_ranges_add(&b, 0, 1), 0);
    assert_int_equal(smt_ranges_add(&b, 10, 11), 0);
    assert_int_equal(smt_ranges_add(&b, 20, 21), SMT_ENOMEM);
    assert_int_equal(smt_ranges_add(&b, 5, 6), SMT_ENOMEM);
    assert_int_equal(smt_ranges_count(&b), 2);
    assert_true(smt_ranges_len(&b) == 2);
    assert_int_equal(smt_ranges_add(&a, 5, 20), 0);
    assert_int_equal(smt_ranges_add(&b, 5, 6), 0);
    assert_int_equal(smt_ranges_count(&a), 2);
    assert_int_equal(smt_ranges_count(&b), 3);
    smt_ranges_fini(&a);
    smt_ranges_fini(&b);
    smt_ranges_pool_fini(&pool);
}

static void test_no_memory_changes_nothing(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    struct smt_ranges_pool pool;
    smt_mem_fail_after(0);
    assert_int_equal(smt_ranges_pool_init(&pool, 1, 100), SMT_ENOMEM);
    assert_int_equal(smt_ranges_pool_init(&pool, 1, 100), 0);
    struct smt_ranges r;
    smt_ranges_init(&r, &pool, 100);
    struct model m = {.base = 0};
    unsigned n_failed = 0;
    for (unsigned i = 0; i < 99; i++) {
        unsigned x = i * 37 % 99;
        smt_mem_fail_after(0);
        int rc = smt_ranges_add(&r, 3 * x, 3 * x + 2);
        smt_mem_fail_after(-1);
        if (rc < 0) {
            n_failed++;
            assert_int_equal(rc, SMT_ENOMEM);
            check_points(&r, &m);
            assert_int_equal(smt_ranges_add(&r, 3 * x, 3 * x + 2), 0);
        }
        memset(m.in + 3 * x, true, 2);
        check_points(&r, &m);
    }
    assert_int_equal(n_failed, 7);
    smt_ranges_fini(&r);
    smt_ranges_pool_fini(&pool);
    assert_true(smt_mem_live().n_live == before.n_live);
}

static void test_whole_number_space(void **state)
{
    struct smt_ranges_pool pool;
    assert_int_equal(smt_ranges_pool_init(&pool, 1, 10), 0);
    struct smt_ranges r;
    smt_ranges_init(&r, &pool, 10);
    uint64_t start, end;
    assert_int_equal(smt_ranges_add(&r, UINT64_MAX - 1, UINT64_MAX), 0);
    assert_int_equal(smt_ranges_add(&r, 0, 1), 0);
    assert_true(smt_ranges_next_gap(&r, 0, UINT64_MAX, &start, &end));
    assert_true(start == 1 && end == UINT64_MAX - 1);
    assert_int_equal(smt_ranges_add(&r, 0, UINT64_MAX), 0);
    assert_true(smt_ranges_len(&r) == UINT64_MAX);
    assert_false(smt_ranges_contains(&r, UINT64_MAX));
    assert_true(smt_ranges_covers(&r, 0, UINT64_MAX));
    assert_false(smt_ranges_next_gap(&r, 0, UINT64_MAX, &start, &end));
    smt_ranges_remove_below(&r, UINT64_MAX);
    assert_int_equal(smt_ranges_count(&r), 0);
    smt_ranges_fini(&r);
    smt_ranges_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_flags),
        cmocka_unit_test(test_every_order_stays_balanced),
        cmocka_unit_test(test_one_range_needs_no_node),
        cmocka_unit_test(test_shared_nodes_run_out),
        cmocka_unit_test(test_no_memory_changes_nothing),
        cmocka_unit_test(test_whole_number_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
