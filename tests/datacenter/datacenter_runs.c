/* Whole runs: one engine a host over the simulated network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/policies.h"
#include "sim/preset.h"
#include "sim/run.h"

static struct smt_run_config config_of(const char *preset, const char *workload, double load,
                                       const struct smt_policy *policy)
{
    struct smt_run_config c = {.policy = policy,
                               .policy_config = {.levels = policy->levels},
                               .hdr = &smt_net_headers_smt,
                               .workload = smt_workload_find(workload, NULL, NULL),
                               .load = load,
                               .seed = 1,
                               .load_unsched = 10000,
                               .n_rounds = 1,
                               .warmup_ns = SMT_MSEC,
                               .measure_ns = 3 * SMT_MSEC,
                               .drain_ns = 2 * SMT_SEC};
    smt_preset_fill(smt_preset_find(preset), &c.net);
    c.net.n_levels = policy->levels;
    return c;
}

/* Nothing may fail, nothing may stay unfinished. */
static void run(const struct smt_run_config *c, struct smt_run_result *out)
{
    struct smt_mem_stats before = smt_mem_live();
    assert_int_equal(smt_run(c, out), 0);
    assert_int_equal(out->n_failed_any, 0);
    assert_int_equal(out->n_unfinished, 0);
    assert_true(out->n_samples > 0);
    struct smt_mem_stats after = smt_mem_live();
    assert_true(after.n_live == before.n_live + 1); /* the samples */
}

static void test_same_seed_same_run(void **state)
{
    for (unsigned i = 0; i < smt_n_policies; i++) {
        struct smt_run_config c = config_of("small", "w3", 0.6, smt_policies[i]);
        struct smt_run_result a, b, other;
        run(&c, &a);
        run(&c, &b);
        c.seed = 2;
        run(&c, &other);
        assert_true(a.trace == b.trace && a.n_events == b.n_events);
        assert_true(a.trace != other.trace);
        smt_run_result_fini(&a);
        smt_run_result_fini(&b);
        smt_run_result_fini(&other);
    }
}

/* What is asked for does not depend on who carries it. */
static void test_same_arrivals_for_all_policies(void **state)
{
    uint64_t arrivals = 0, n = 0;
    for (unsigned i = 0; i < smt_n_policies; i++) {
        struct smt_run_config c = config_of("small", "w4", 0.7, smt_policies[i]);
        c.measure_ns = 20 * SMT_MSEC;
        struct smt_run_result r;
        run(&c, &r);
        if (i > 0)
            assert_true(r.arrivals == arrivals && r.n_samples == n);
        arrivals = r.arrivals;
        n = r.n_samples;
        smt_run_result_fini(&r);
    }
}

/* Nearly alone in the network a message takes the ideal time. */
static void test_quiet_network_is_ideal(void **state)
{
    for (unsigned i = 0; i < smt_n_policies; i++) {
        for (unsigned k = 0; k < 3; k++) {
            struct smt_run_config c = config_of("accept", "w3", 0.02, smt_policies[i]);
            c.workload = &smt_workloads[k];
            c.measure_ns = (k == 2 ? 40 : 4) * SMT_MSEC;
            struct smt_run_result r;
            run(&c, &r);
            for (unsigned d = 0; d < SMT_DECILES; d++) {
                struct smt_run_bin b;
                int64_t above = d > 0 ? (int64_t)smt_workload_decile(c.workload, d - 1) : -1;
                smt_run_bin(&r, above, smt_workload_decile(c.workload, d), &b);
                if (b.n < 200 || smt_policies[i] == smt_policy_find("dctcp"))
                    continue;
                if (b.p50 < 0.999 || b.p50 > 1.02)
                    fail_msg("%s, %s, decile %u: p50 %.4f", smt_policies[i]->name,
                             c.workload->name, d + 1, b.p50);
            }
            smt_run_result_fini(&r);
        }
    }
}

static void test_offered_load(void **state)
{
    struct smt_run_config c = config_of("small", "w1", 0.5, &smt_policy_smt);
    struct smt_run_result r;
    run(&c, &r);
    /* Links carry the load, and what control there is that are not grants: for messages as small
     * as these it is a good part. */
    double busy = r.queues[SMT_NET_HOST_UP].busy;
    assert_true(busy > 0.48 && busy < 0.72);
    assert_true(fabs(r.offered - 0.5 * r.cost.factor) < 0.02);
    assert_true(fabs(r.backlog_slope) < 0.2);
    smt_run_result_fini(&r);
}

static void test_calls(void **state)
{
    struct smt_run_config c = config_of("small", "w3", 0.3, &smt_policy_smt);
    c.rpc = true;
    c.response_len = 100;
    struct smt_run_result r;
    run(&c, &r);
    struct smt_run_bin b;
    smt_run_bin(&r, -1, INT64_MAX, &b);
    assert_true(b.p50 >= 0.99 && b.p50 < 1.5);
    /* A sample is a call: request and response. */
    assert_true(r.n_delivered >= 2 * r.n_samples);
    smt_run_result_fini(&r);
}

static void test_loss(void **state)
{
    struct smt_run_config c = config_of("small", "w3", 0.5, &smt_policy_smt);
    c.net.loss_ppm = 10000;
    struct smt_run_result r;
    run(&c, &r);
    assert_true(r.queues[SMT_NET_HOST_UP].n_lost > 0);
    smt_run_result_fini(&r);
}

static void test_finite_buffers(void **state)
{
    struct smt_run_config c = config_of("small", "w4", 0.9, &smt_policy_smt);
    c.measure_ns = 10 * SMT_MSEC;
    c.net.switch_buffer = 60000;
    c.drain_ns = 10 * SMT_SEC;
    struct smt_run_result r;
    run(&c, &r);
    assert_true(r.queues[SMT_NET_HOST_DOWN].n_dropped > 0);
    smt_run_result_fini(&r);
}

static void test_incast(void **state)
{
    struct smt_run_config c = config_of("accept", "w3", 0.5, &smt_policy_smt);
    struct smt_workload fixed;
    struct smt_workload_point point;
    c.workload = smt_workload_find("fixed:10000", &fixed, &point);
    c.pattern = SMT_RUN_INCAST;
    c.n_at_once = 100;
    c.n_rounds = 3;
    c.measure_ns = SMT_SEC;
    struct smt_run_result r;
    run(&c, &r);
    assert_int_equal(r.n_samples, 300);
    assert_true(r.round_ideal_us > 800 && r.round_ideal_us < 1200);
    assert_true(r.round_us_max >= r.round_us_mean && r.round_us_mean >= r.round_ideal_us);
    smt_run_result_fini(&r);
}

static void test_shuffle(void **state)
{
    struct smt_run_config c = config_of("small", "w3", 0.5, &smt_policy_smt);
    struct smt_workload fixed;
    struct smt_workload_point point;
    c.workload = smt_workload_find("fixed:50000", &fixed, &point);
    c.pattern = SMT_RUN_SHUFFLE;
    c.measure_ns = SMT_SEC;
    struct smt_run_result r;
    run(&c, &r);
    assert_int_equal(r.n_samples, 16 * 15);
    assert_true(r.round_us_mean >= r.round_ideal_us && r.round_us_mean < 2 * r.round_ideal_us);
    smt_run_result_fini(&r);
}

static void test_flap_and_slow_receiver(void **state)
{
    struct smt_run_config c = config_of("small", "w3", 0.4, &smt_policy_smt);
    c.flap_host = 2;
    c.flap_at_ns = 2 * SMT_MSEC;
    c.flap_len_ns = SMT_MSEC;
    c.slow_host = 5;
    c.slow_packet_ns = 2000;
    struct smt_run_result r;
    run(&c, &r);
    assert_true(r.queues[SMT_NET_HOST_UP].n_lost + r.queues[SMT_NET_HOST_DOWN].n_lost > 0);
    smt_run_result_fini(&r);
}

/* Messages of a host that lost its memory fail or never end; all others are delivered. */
static void test_restart(void **state)
{
    struct smt_run_config c = config_of("small", "w3", 0.4, &smt_policy_smt);
    c.restart_host = 3;
    c.restart_at_ns = 2 * SMT_MSEC;
    c.drain_ns = 10 * SMT_SEC;
    struct smt_run_result r;
    assert_int_equal(smt_run(&c, &r), 0);
    assert_true(r.n_failed_any > 0 && r.n_failed_any < 500);
    assert_int_equal(r.n_unfinished, 0);
    assert_true(r.n_samples > 1000);
    smt_run_result_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_run),
        cmocka_unit_test(test_same_arrivals_for_all_policies),
        cmocka_unit_test(test_quiet_network_is_ideal),
        cmocka_unit_test(test_offered_load),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_finite_buffers),
        cmocka_unit_test(test_incast),
        cmocka_unit_test(test_shuffle),
        cmocka_unit_test(test_flap_and_slow_receiver),
        cmocka_unit_test(test_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
