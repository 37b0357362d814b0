/* Message sizes and what they cost: against the figures of the published tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "sim/workload.h"

static const struct smt_workload *get(const char *name)
{
    const struct smt_workload *w = smt_workload_find(name, NULL, NULL);
    assert_non_null(w);
    return w;
}

static void test_means_and_deciles(void **state)
{
    static const struct {
        const char *name;
        double mean;
        uint32_t deciles[SMT_DECILES];
    } rows[] = {
        {"w1", 187.5, {2, 3, 5, 11, 27, 79, 151, 264, 503, 100000}},
        {"w2", 440.8, {3, 34, 58, 171, 269, 320, 366, 427, 512, 3529904}},
        {"w3", 2927.4, {36, 77, 110, 158, 268, 313, 402, 573, 1755, 15158197}},
        {"w4", 127796.6, {315, 376, 502, 561, 662, 960, 6387, 49408, 120373, 10000000}},
        {"w5",
         2515863,
         {5768, 18746, 27398, 47586, 70658, 191786, 961814, 1922186, 4806186, 28840000}},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        const struct smt_workload *w = get(rows[i].name);
        double mean = smt_workload_mean(w);
        assert_true(fabs(mean / rows[i].mean - 1) < 1e-3);
        for (unsigned d = 0; d < SMT_DECILES; d++) {
            assert_int_equal(smt_workload_decile(w, d), rows[i].deciles[d]);
            assert_int_equal(smt_workload_bin(w, rows[i].deciles[d]), d);
        }
    }
}

/* With HomaSimulation's headers the factors are the ones it was run with. */
static void test_load_factors_of_the_paper(void **state)
{
    static const double factors[] = {0.657, 0.796, 0.887, 0.898, 0.898};
    for (unsigned i = 0; i < smt_n_workloads; i++) {
        struct smt_workload_cost cost;
        smt_workload_cost(&smt_workloads[i], &smt_net_headers_s, 9328, &cost);
        assert_true(fabs(cost.factor - factors[i]) < 0.002);
        /* 10 Gbit/s at load 0.5: a gap is the wire time of a message, twice. */
        double gap = smt_workload_gap(&cost, 0.5, 10000);
        assert_true(fabs(gap - 2 * 800 * cost.payload / cost.factor) < 1e-3 * gap);
    }
}

static void test_draws_follow_the_table(void **state)
{
    enum { N = 400000 };
    struct smt_prng rng;
    smt_prng_seed(&rng, 9);
    const struct smt_workload *w = get("w3");
    unsigned n[SMT_DECILES] = {0};
    double u = 0;
    for (unsigned i = 0; i < N; i++) {
        n[smt_workload_bin(w, smt_workload_draw(w, &rng))]++;
        u += smt_workload_uniform(&rng);
    }
    assert_true(fabs(u / N - 0.5) < 0.005);
    unsigned from = 0;
    for (unsigned d = 0; d < SMT_DECILES; d++) {
        unsigned p = from;
        while (w->points[p].len < smt_workload_decile(w, d))
            p++;
        double share = w->points[p].share - (from > 0 ? w->points[from - 1].share : 0);
        assert_true(fabs((double)n[d] / N - share) < 0.005);
        from = p + 1;
    }
}

static void test_fixed(void **state)
{
    struct smt_workload fixed;
    struct smt_workload_point point;
    struct smt_prng rng;
    smt_prng_seed(&rng, 1);
    const struct smt_workload *w = smt_workload_find("fixed:10000", &fixed, &point);
    assert_ptr_equal(w, &fixed);
    assert_int_equal(smt_workload_draw(w, &rng), 10000);
    assert_null(smt_workload_find("fixed:", &fixed, &point));
    assert_null(smt_workload_find("fixed:1x", &fixed, &point));
    assert_null(smt_workload_find("w6", &fixed, &point));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_means_and_deciles),
        cmocka_unit_test(test_load_factors_of_the_paper),
        cmocka_unit_test(test_draws_follow_the_table),
        cmocka_unit_test(test_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
