/* The map against an array indexed by key, and its hash against keys chosen to be bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/map.h"
#include "base/mem.h"
#include "base/prng.h"

enum { N_KEYS = 600, N_STEPS = 10000, N_SEEDS = 8 };

static int values[1000];

/* Keys with a pattern: near, far, in either word, or in the high bits only. */
static struct smt_map_key key_at(uint64_t kind, uint64_t i)
{
    switch (kind % 5) {
    case 0:
        return (struct smt_map_key){i, 0};
    case 1:
        return (struct smt_map_key){0, i};
    case 2:
        return (struct smt_map_key){i << 48, ~i};
    case 3:
        return (struct smt_map_key){i % 16 << 60, i / 16};
    default:
        return (struct smt_map_key){i * 0x9e3779b97f4a7c15, i << 32 | 5};
    }
}

static void check_walk(const struct smt_map *m, uint64_t kind, void *const *want, unsigned n)
{
    bool seen[N_KEYS] = {false};
    uint32_t pos = 0;
    struct smt_map_key key;
    void *val;
    unsigned n_seen = 0;
    while (smt_map_next(m, &pos, &key, &val)) {
        unsigned i = 0;
        while (i < N_KEYS && (key_at(kind, i).a != key.a || key_at(kind, i).b != key.b))
            i++;
        assert_true(i < N_KEYS);
        assert_false(seen[i]);
        seen[i] = true;
        assert_ptr_equal(val, want[i]);
        n_seen++;
    }
    assert_int_equal(n_seen, n);
    assert_false(smt_map_next(m, &pos, NULL, NULL));
}

static void test_against_an_array(void **state)
{
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct smt_prng g;
        smt_prng_seed(&g, seed);
        uint64_t words[2] = {smt_prng_next64(&g), smt_prng_next64(&g)};
        struct smt_map m;
        assert_int_equal(smt_map_init(&m, words, (uint32_t)(seed % 3) * 20), 0);
        void *want[N_KEYS] = {NULL};
        unsigned n = 0;
        for (unsigned step = 0; step < N_STEPS; step++) {
            unsigned i = (unsigned)smt_prng_below(&g, N_KEYS);
            unsigned put_share = step / 1000 % 2 == 0 ? 70 : 30;
            assert_ptr_equal(smt_map_get(&m, key_at(seed, i)), want[i]);
            if (smt_prng_below(&g, 100) < put_share) {
                void *val = &values[smt_prng_below(&g, 1000)];
                assert_int_equal(smt_map_put(&m, key_at(seed, i), val), 0);
                n += want[i] == NULL;
                want[i] = val;
            } else {
                assert_ptr_equal(smt_map_del(&m, key_at(seed, i)), want[i]);
                n -= want[i] != NULL;
                want[i] = NULL;
            }
            assert_int_equal(smt_map_count(&m), n);
            if (step % 100 == 0) {
                for (unsigned k = 0; k < N_KEYS; k++)
                    assert_ptr_equal(smt_map_get(&m, key_at(seed, k)), want[k]);
            }
            if (step % 2000 == 1999)
                check_walk(&m, seed, want, n);
        }
        smt_map_fini(&m);
    }
}

static void test_unused_map(void **state)
{
    struct smt_map m;
    uint64_t seed[2] = {0, 0};
    struct smt_mem_stats before = smt_mem_live();
    assert_int_equal(smt_map_init(&m, seed, 0), 0);
    assert_true(smt_mem_live().n_live == before.n_live);
    uint32_t pos = 0;
    assert_null(smt_map_get(&m, (struct smt_map_key){0, 0}));
    assert_null(smt_map_del(&m, (struct smt_map_key){0, 0}));
    assert_false(smt_map_next(&m, &pos, NULL, NULL));
    smt_map_fini(&m);
    struct smt_map zero = {0};
    smt_map_fini(&zero);
}

static void test_no_memory_changes_nothing(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    struct smt_map m;
    uint64_t seed[2] = {1, 2};
    smt_mem_fail_after(0);
    assert_int_equal(smt_map_init(&m, seed, 1), SMT_ENOMEM);
    unsigned n_failed = 0;
    for (unsigned i = 0; i < 500; i++) {
        smt_mem_fail_after(0);
        int rc = smt_map_put(&m, key_at(0, i), &values[i]);
        smt_mem_fail_after(-1);
        if (rc < 0) {
            n_failed++;
            assert_int_equal(rc, SMT_ENOMEM);
            assert_int_equal(smt_map_count(&m), i);
            for (unsigned k = 0; k <= i; k++)
                assert_ptr_equal(smt_map_get(&m, key_at(0, k)), k < i ? &values[k] : NULL);
            if (i > 0) {
                /* An old key needs no room. */
                smt_mem_fail_after(0);
                assert_int_equal(smt_map_put(&m, key_at(0, 0), &values[0]), 0);
                smt_mem_fail_after(-1);
            }
            assert_int_equal(smt_map_put(&m, key_at(0, i), &values[i]), 0);
        }
    }
    assert_true(n_failed >= 5);
    assert_int_equal(smt_map_reserve(&m, UINT32_MAX), SMT_ENOMEM);
    smt_map_fini(&m);
    assert_true(smt_mem_live().n_live == before.n_live);
}

static void test_reserve_is_enough(void **state)
{
    struct smt_map m;
    uint64_t seed[2] = {1, 2};
    assert_int_equal(smt_map_init(&m, seed, 1000), 0);
    smt_mem_fail_after(0);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(smt_map_put(&m, key_at(4, i), &values[i]), 0);
    assert_int_equal(smt_mem_fail_after(-1), 0);
    smt_map_fini(&m);
}

/* At 5/8 full, linear probing with a good hash looks at 1.8 slots for a hit. Allow 2.5 in each of
 * the patterns; a weak hash gives tens. */
static void test_probes_stay_short_for_patterned_keys(void **state)
{
    enum { N = 20480 };
    for (uint64_t kind = 0; kind < 5; kind++) {
        struct smt_map m;
        uint64_t seed[2] = {kind + 1, 99};
        assert_int_equal(smt_map_init(&m, seed, N), 0);
        assert_int_equal(m.limit, N);
        for (uint64_t i = 0; i < N; i++)
            assert_int_equal(smt_map_put(&m, key_at(kind, i), &values[0]), 0);
        uint64_t n_probes = 0;
        for (uint32_t i = 0; i <= m.mask; i++) {
            if (m.slots[i].val != NULL)
                n_probes += 1 + ((i - (uint32_t)smt_map_hash(&m, m.slots[i].key)) & m.mask);
        }
        assert_true(n_probes * 10 < (uint64_t)N * 25);
        smt_map_fini(&m);
    }
}

/* Keys that fall together under one seed lie apart under another. */
static void test_seed_decides_the_place(void **state)
{
    struct smt_map a, b;
    uint64_t seed_a[2] = {1, 1}, seed_b[2] = {1, 2};
    assert_int_equal(smt_map_init(&a, seed_a, 0), 0);
    assert_int_equal(smt_map_init(&b, seed_b, 0), 0);
    unsigned n_same_a = 0, n_same_b = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        if (smt_map_hash(&a, key_at(4, i)) % 1024 != 0)
            continue;
        n_same_a++;
        n_same_b += smt_map_hash(&b, key_at(4, i)) % 1024 == 0;
    }
    assert_in_range(n_same_a, 60, 140);
    assert_true(n_same_b <= 3);
    smt_map_fini(&a);
    smt_map_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_unused_map),
        cmocka_unit_test(test_no_memory_changes_nothing),
        cmocka_unit_test(test_reserve_is_enough),
        cmocka_unit_test(test_probes_stay_short_for_patterned_keys),
        cmocka_unit_test(test_seed_decides_the_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
