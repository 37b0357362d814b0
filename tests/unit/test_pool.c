/* The slab pool: numbers, reuse, growth, its maximum, and what AddressSanitizer is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/pool.h"
#include "base/prng.h"

enum { MAX_OBJS = 1000, N_STEPS = 10000 };

static const struct {
    size_t obj_size;
    uint32_t first, max;
} shapes[] = {
    {1, 1, 1},      {8, 1, 1000}, {24, 5, 777},     {64, 1000, 1000},
    {100, 16, 129}, {192, 3, 2},  {4096, 64, 1000}, {40, 512, 513},
};

/* Each live object is full of a byte of its own. */
static void obj_fill(void *p, size_t len, uint32_t index)
{
    memset(p, (int)(index * 31 + 7), len);
}

static void obj_check(const uint8_t *p, size_t len, uint32_t index)
{
    for (size_t i = 0; i < len; i++)
        assert_int_equal(p[i], (uint8_t)(index * 31 + 7));
}

static void random_run(unsigned shape, uint64_t seed)
{
    size_t len = shapes[shape].obj_size;
    uint32_t max = shapes[shape].max;
    struct smt_pool p;
    assert_int_equal(smt_pool_init(&p, len, shapes[shape].first, max), 0);
    void *live[MAX_OBJS] = {NULL}; /* by number */
    uint32_t list[MAX_OBJS], n = 0;
    struct smt_prng g;
    smt_prng_seed(&g, seed);
    for (unsigned step = 0; step < N_STEPS; step++) {
        unsigned get_share = step / 2000 % 2 == 0 ? 70 : 35;
        if (smt_prng_below(&g, 100) < get_share) {
            void *obj = smt_pool_get(&p);
            if (n == max) {
                assert_null(obj);
                continue;
            }
            assert_non_null(obj);
            assert_int_equal((uintptr_t)obj % (len % 64 == 0 ? 64 : 8), 0);
            uint32_t index = smt_pool_index(&p, obj);
            assert_true(index < max && index < smt_pool_n_total(&p));
            assert_null(live[index]);
            assert_ptr_equal(smt_pool_at(&p, index), obj);
            obj_fill(obj, len, index);
            live[index] = obj;
            list[n++] = index;
        } else if (n > 0) {
            uint32_t i = (uint32_t)smt_prng_below(&g, n);
            uint32_t index = list[i];
            obj_check(live[index], len, index);
            smt_pool_put(&p, live[index]);
            live[index] = NULL;
            list[i] = list[--n];
        }
        assert_int_equal(smt_pool_n_live(&p), n);
        assert_int_equal(smt_pool_n_free(&p), smt_pool_n_total(&p) - n);
    }
    for (uint32_t i = 0; i < n; i++)
        obj_check(live[list[i]], len, list[i]);
    smt_pool_fini(&p);
}

static void test_against_an_array(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    for (unsigned shape = 0; shape < SMT_ARRAY_LEN(shapes); shape++)
        random_run(shape, shape);
    assert_true(smt_mem_live().n_live == before.n_live);
    assert_true(smt_mem_live().bytes_live == before.bytes_live);
}

static void test_numbers_without_gaps(void **state)
{
    for (unsigned shape = 0; shape < SMT_ARRAY_LEN(shapes); shape++) {
        struct smt_pool p;
        uint32_t max = shapes[shape].max;
        assert_int_equal(smt_pool_init(&p, shapes[shape].obj_size, shapes[shape].first, max), 0);
        for (uint32_t i = 0; i < max; i++) {
            void *obj = smt_pool_get(&p);
            assert_non_null(obj);
            assert_int_equal(smt_pool_index(&p, obj), i);
            /* Any byte of an object names it. */
            assert_int_equal(smt_pool_index(&p, (uint8_t *)obj + shapes[shape].obj_size - 1), i);
        }
        assert_null(smt_pool_get(&p));
        assert_int_equal(smt_pool_n_total(&p), max);
        smt_pool_fini(&p);
    }
}

static void test_growth_without_memory(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    struct smt_pool p;
    smt_mem_fail_after(0);
    assert_int_equal(smt_pool_init(&p, 40, 4, 100), SMT_ENOMEM);
    smt_pool_fini(&p);
    assert_int_equal(smt_pool_init(&p, 40, 4, 100), 0);
    unsigned n_failed = 0;
    for (uint32_t i = 0; i < 100; i++) {
        smt_mem_fail_after(0);
        void *obj = smt_pool_get(&p);
        smt_mem_fail_after(-1);
        if (obj == NULL) {
            n_failed++;
            assert_int_equal(smt_pool_n_free(&p), 0);
            assert_int_equal(smt_pool_n_live(&p), i);
            obj = smt_pool_get(&p);
        }
        assert_non_null(obj);
    }
    assert_int_equal(n_failed, 5);
    smt_pool_fini(&p);
    assert_true(smt_mem_live().n_live == before.n_live);
}

static void test_last_put_is_first_got(void **state)
{
    struct smt_pool p;
    assert_int_equal(smt_pool_init(&p, 16, 4, 4), 0);
    void *a = smt_pool_get(&p);
    void *b = smt_pool_get(&p);
    smt_pool_put(&p, a);
    smt_pool_put(&p, b);
    assert_ptr_equal(smt_pool_get(&p), b);
    assert_ptr_equal(smt_pool_get(&p), a);
    smt_pool_fini(&p);
}

static void test_free_objects_are_poisoned(void **state)
{
#ifndef SMT_ASAN
    skip();
#else
    struct smt_pool p;
    assert_int_equal(smt_pool_init(&p, 64, 4, 4), 0);
    uint8_t *a = smt_pool_get(&p);
    assert_false(SMT_IS_POISONED(a) || SMT_IS_POISONED(a + 63));
    assert_true(SMT_IS_POISONED(a + 64));
    smt_pool_put(&p, a);
    assert_true(SMT_IS_POISONED(a) && SMT_IS_POISONED(a + 63));
    assert_ptr_equal(smt_pool_get(&p), a);
    assert_false(SMT_IS_POISONED(a) || SMT_IS_POISONED(a + 63));
    smt_pool_fini(&p);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_numbers_without_gaps),
        cmocka_unit_test(test_growth_without_memory),
        cmocka_unit_test(test_last_put_is_first_got),
        cmocka_unit_test(test_free_objects_are_poisoned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
