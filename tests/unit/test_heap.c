/* The heap against a linear search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/heap.h"
#include "base/mem.h"
#include "base/prng.h"

enum { N_NODES = 300, N_STEPS = 10000, N_SEEDS = 8 };

static bool node_is_less(const struct smt_heap_node *a, const struct smt_heap_node *b)
{
    return a->key < b->key || (a->key == b->key && a->tie < b->tie);
}

static struct smt_heap_node *naive_min(struct smt_heap_node *nodes, const bool *in)
{
    struct smt_heap_node *min = NULL;
    for (unsigned i = 0; i < N_NODES; i++) {
        assert_int_equal(smt_heap_has(&nodes[i]), in[i]);
        if (in[i] && (min == NULL || node_is_less(&nodes[i], min)))
            min = &nodes[i];
    }
    return min;
}

static void test_against_linear_search(void **state)
{
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        struct smt_prng g;
        smt_prng_seed(&g, seed);
        struct smt_heap h;
        assert_int_equal(smt_heap_init(&h, seed % 2 == 0 ? 0 : 20), 0);
        struct smt_heap_node nodes[N_NODES] = {0};
        bool in[N_NODES] = {false};
        unsigned n = 0;
        /* Odd seeds have few keys, so that ties decide; growing and shrinking times alternate. */
        uint64_t n_keys = seed % 2 == 0 ? UINT64_MAX : 4;
        for (unsigned step = 0; step < N_STEPS; step++) {
            unsigned i = (unsigned)smt_prng_below(&g, N_NODES);
            unsigned dice = (unsigned)smt_prng_below(&g, 100);
            unsigned insert_share = step / 1000 % 2 == 0 ? 60 : 30;
            if (dice < insert_share) {
                if (in[i])
                    continue;
                nodes[i] = (struct smt_heap_node){.key = smt_prng_below(&g, n_keys), .tie = step};
                assert_int_equal(smt_heap_insert(&h, &nodes[i]), 0);
                in[i] = true;
                n++;
            } else if (dice < 75) {
                if (!in[i])
                    continue;
                smt_heap_remove(&h, &nodes[i]);
                in[i] = false;
                n--;
            } else if (dice < 90) {
                if (in[i])
                    smt_heap_update(&h, &nodes[i], smt_prng_below(&g, n_keys));
            } else {
                struct smt_heap_node *want = naive_min(nodes, in);
                assert_ptr_equal(smt_heap_pop(&h), want);
                if (want != NULL) {
                    in[want - nodes] = false;
                    n--;
                }
            }
            assert_int_equal(smt_heap_count(&h), n);
            assert_ptr_equal(smt_heap_min(&h), naive_min(nodes, in));
        }
        while (n > 0) {
            struct smt_heap_node *want = naive_min(nodes, in);
            assert_ptr_equal(smt_heap_pop(&h), want);
            in[want - nodes] = false;
            n--;
        }
        assert_null(smt_heap_pop(&h));
        assert_null(smt_heap_min(&h));
        smt_heap_fini(&h);
    }
}

static void test_sorts_and_keeps_order_of_ties(void **state)
{
    enum { N = 5000 };
    static struct smt_heap_node nodes[N];
    struct smt_heap h;
    assert_int_equal(smt_heap_init(&h, N), 0);
    struct smt_mem_stats before = smt_mem_live();
    for (unsigned i = 0; i < N; i++) {
        nodes[i] = (struct smt_heap_node){.key = i * 7919 % 50, .tie = i};
        assert_int_equal(smt_heap_insert(&h, &nodes[i]), 0);
    }
    assert_true(smt_mem_live().bytes_live == before.bytes_live);
    const struct smt_heap_node *last = NULL;
    for (unsigned i = 0; i < N; i++) {
        const struct smt_heap_node *n = smt_heap_pop(&h);
        assert_non_null(n);
        assert_true(last == NULL || node_is_less(last, n));
        last = n;
    }
    smt_heap_fini(&h);
}

static void test_no_memory_changes_nothing(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    struct smt_heap h;
    assert_int_equal(smt_mem_fail_after(0), -1);
    assert_int_equal(smt_heap_init(&h, 5), SMT_ENOMEM);
    assert_int_equal(smt_heap_init(&h, 0), 0);
    static struct smt_heap_node nodes[200];
    unsigned n_failed = 0;
    for (unsigned i = 0; i < 200; i++) {
        nodes[i] = (struct smt_heap_node){.key = 1000 - i};
        struct smt_heap_node *min = smt_heap_min(&h);
        smt_mem_fail_after(0);
        int rc = smt_heap_insert(&h, &nodes[i]);
        smt_mem_fail_after(-1);
        if (rc == 0)
            continue;
        n_failed++;
        assert_int_equal(rc, SMT_ENOMEM);
        assert_false(smt_heap_has(&nodes[i]));
        assert_int_equal(smt_heap_count(&h), i);
        assert_ptr_equal(smt_heap_min(&h), min);
        assert_int_equal(smt_heap_insert(&h, &nodes[i]), 0);
    }
    assert_true(n_failed >= 3);
    for (unsigned i = 200; i-- > 0;)
        assert_ptr_equal(smt_heap_pop(&h), &nodes[i]);
    assert_int_equal(smt_heap_reserve(&h, UINT32_MAX), SMT_ENOMEM);
    smt_heap_fini(&h);
    smt_heap_fini(&h);
    assert_true(smt_mem_live().n_live == before.n_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_linear_search),
        cmocka_unit_test(test_sorts_and_keeps_order_of_ties),
        cmocka_unit_test(test_no_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
