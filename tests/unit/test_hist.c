/* The histogram against a sorted array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hist.h"
#include "base/prng.h"

enum { N = 10000 };

static struct smt_hist h, h2, h3;

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void test_empty(void **state)
{
    smt_hist_init(&h);
    uint32_t pos = 0;
    uint64_t a, b, c;
    assert_true(smt_hist_percentile(&h, 50) == 0);
    assert_true(smt_hist_min(&h) == 0 && smt_hist_max(&h) == 0 && smt_hist_count(&h) == 0);
    assert_true(smt_hist_mean(&h) == 0);
    assert_false(smt_hist_next(&h, &pos, &a, &b, &c));
    assert_true(sizeof(h) <= 60 * 1024);
}

static void test_buckets_tile_the_numbers(void **state)
{
    smt_hist_init(&h);
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int d = -2; d <= 2; d++) {
            uint64_t v = (1ull << bit) + (uint64_t)d;
            uint32_t i = smt_hist_bucket(v);
            assert_true(i < SMT_HIST_BUCKETS);
            assert_true(v == 0 || smt_hist_bucket(v - 1) <= i);
            smt_hist_init(&h);
            smt_hist_add(&h, v);
            uint32_t pos = 0;
            uint64_t low, high, n;
            assert_true(smt_hist_next(&h, &pos, &low, &high, &n));
            assert_true(low <= v && v <= high && n == 1);
            assert_true(v >= 256 || low == high);
            assert_true(high - low <= low / 128);
            assert_int_equal(smt_hist_bucket(low), i);
            assert_int_equal(smt_hist_bucket(high), i);
            if (low > 0)
                assert_int_equal(smt_hist_bucket(low - 1), i - 1);
            if (high < UINT64_MAX)
                assert_int_equal(smt_hist_bucket(high + 1), i + 1);
            assert_false(smt_hist_next(&h, &pos, &low, &high, &n));
            assert_true(smt_hist_percentile(&h, 50) == v);
        }
    }
    assert_int_equal(smt_hist_bucket(UINT64_MAX), SMT_HIST_BUCKETS - 1);
}

static void test_percentiles_against_sorted_values(void **state)
{
    static uint64_t v[N];
    static const double ps[] = {0, 0.01, 1, 10, 50, 90, 99, 99.9, 99.99, 100};
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct smt_prng g;
        smt_prng_seed(&g, seed);
        smt_hist_init(&h);
        double sum = 0;
        for (unsigned i = 0; i < N; i++) {
            v[i] = smt_prng_next64(&g) >> smt_prng_below(&g, 64);
            sum += (double)v[i];
            smt_hist_add(&h, v[i]);
        }
        qsort(v, N, sizeof(v[0]), compare);
        for (unsigned i = 0; i < sizeof(ps) / sizeof(ps[0]); i++) {
            /* ps has at most two decimals and N is 10^4: the rank is a whole number. */
            unsigned rank = (unsigned)(ps[i] * 100 + 0.5);
            uint64_t want = v[rank == 0 ? 0 : rank - 1];
            uint64_t got = smt_hist_percentile(&h, ps[i]);
            assert_true(got >= want);
            assert_true(got - want <= want / 128);
            assert_true(got <= v[N - 1]);
        }
        assert_true(smt_hist_percentile(&h, 100) == v[N - 1]);
        assert_true(smt_hist_min(&h) == v[0] && smt_hist_max(&h) == v[N - 1]);
        assert_true(smt_hist_mean(&h) > sum / N * 0.9999);
        assert_true(smt_hist_mean(&h) < sum / N * 1.0001);
    }
}

static void test_exact_percentiles_of_small_values(void **state)
{
    smt_hist_init(&h);
    for (uint64_t v = 1; v <= 100; v++)
        smt_hist_add(&h, v);
    for (uint64_t p = 1; p <= 100; p++)
        assert_true(smt_hist_percentile(&h, (double)p) == p);
    assert_true(smt_hist_percentile(&h, 0.5) == 1);
    assert_true(smt_hist_percentile(&h, 50.01) == 51);
    assert_true(smt_hist_percentile(&h, -1) == 1);
    assert_true(smt_hist_percentile(&h, 1000) == 100);
}

static void test_merge_is_adding_all(void **state)
{
    struct smt_prng g;
    smt_prng_seed(&g, 3);
    smt_hist_init(&h);
    smt_hist_init(&h2);
    smt_hist_init(&h3);
    smt_hist_merge(&h2, &h3);
    assert_true(smt_hist_count(&h2) == 0);
    for (unsigned i = 0; i < N; i++) {
        uint64_t v = smt_prng_next64(&g) >> smt_prng_below(&g, 64);
        smt_hist_add(&h, v);
        smt_hist_add(i % 3 == 0 ? &h2 : &h3, v);
    }
    smt_hist_merge(&h2, &h3);
    assert_memory_equal(&h, &h2, sizeof(h));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_buckets_tile_the_numbers),
        cmocka_unit_test(test_percentiles_against_sorted_values),
        cmocka_unit_test(test_exact_percentiles_of_small_values),
        cmocka_unit_test(test_merge_is_adding_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
