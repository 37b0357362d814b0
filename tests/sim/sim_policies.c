/* The transports that the library is compared with: control, ideal and dctcp. The first two are
 * held to an independent simulation of the same network (the reference of 2026-11, HomaSimulation's
 * header sizes, 48 hosts, load 0.8): its figures stand here. Runs are shorter than its own, so the
 * last tenth of the messages has room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/control_cutoffs.h"
#include "sim/policies.h"
#include "sim/preset.h"
#include "sim/run.h"
#include "simnet.h"

struct figures {
    double p50[SMT_DECILES], p99[SMT_DECILES];
};

/* Load 0.8, eight levels (ideal: 128), seed 1. */
static const struct figures control_w1 = {
    .p50 = {1.19, 1.20, 1.21, 1.22, 1.26, 1.26, 1.28, 1.32, 1.38, 1.59},
    .p99 = {1.79, 1.83, 1.81, 1.86, 1.96, 1.97, 2.02, 2.12, 2.46, 6.42}};
static const struct figures control_w2 = {
    .p50 = {1.26, 1.27, 1.28, 1.27, 1.25, 1.31, 1.32, 1.40, 1.42, 1.55},
    .p99 = {1.94, 1.95, 1.95, 1.92, 1.87, 2.03, 2.09, 2.42, 2.53, 4.60}};
static const struct figures control_w3 = {
    .p50 = {1.46, 1.45, 1.43, 1.43, 1.40, 1.38, 1.37, 1.36, 1.29, 1.32},
    .p99 = {2.12, 2.09, 2.07, 2.04, 1.99, 1.94, 1.91, 1.96, 1.83, 4.26}};
static const struct figures control_w3_two_levels = {
    .p50 = {1.54, 1.53, 1.52, 1.50, 1.47, 1.45, 1.43, 1.40, 1.31, 1.36},
    .p99 = {4.41, 4.23, 4.17, 4.03, 3.87, 3.71, 3.68, 3.48, 2.98, 5.78}};
static const struct figures ideal_w1 = {
    .p50 = {1.18, 1.20, 1.21, 1.23, 1.24, 1.26, 1.28, 1.31, 1.38, 1.57},
    .p99 = {1.78, 1.83, 1.86, 1.90, 1.94, 1.99, 2.04, 2.15, 2.49, 6.31}};
static const struct figures ideal_w3 = {
    .p50 = {1.46, 1.46, 1.45, 1.44, 1.42, 1.40, 1.39, 1.37, 1.29, 1.29},
    .p99 = {2.11, 2.08, 2.07, 2.04, 1.99, 1.95, 1.93, 1.89, 1.79, 4.48}};

static struct smt_run_config config_of(const char *policy, const char *workload, double load,
                                       double warmup_ms, double measure_ms)
{
    struct smt_run_config c = {.policy = smt_policy_find(policy),
                               .hdr = &smt_net_headers_s,
                               .workload = smt_workload_find(workload, NULL, NULL),
                               .load = load,
                               .seed = sim_seed(1),
                               .warmup_ns = (uint64_t)(warmup_ms * 1e6),
                               .measure_ns = (uint64_t)(measure_ms * 1e6),
                               .drain_ns = 500000000};
    assert_non_null(c.policy);
    c.load_unsched = smt_control_unsched(c.hdr);
    smt_preset_fill(smt_preset_find("accept"), &c.net);
    c.net.n_levels = c.policy_config.levels = c.policy->levels;
    return c;
}

static void levels_set(struct smt_run_config *c, unsigned levels)
{
    c->net.n_levels = c->policy_config.levels = levels;
}

static struct smt_run_bin decile(const struct smt_run_config *c, const struct smt_run_result *r,
                                 unsigned d)
{
    struct smt_run_bin bin;
    int64_t above = d > 0 ? (int64_t)smt_workload_decile(c->workload, d - 1) : -1;
    smt_run_bin(r, above, smt_workload_decile(c->workload, d), &bin);
    return bin;
}

static void run(const struct smt_run_config *c, struct smt_run_result *r)
{
    assert_int_equal(smt_run(c, r), 0);
    assert_int_equal(r->n_failed_any, 0);
}

static void near(const char *what, unsigned d, double is, double want, double part)
{
    if (is < want * (1 - part) || is > want * (1 + part))
        fail_msg("%s of tenth %u: %.3f, the reference has %.3f", what, d + 1, is, want);
}

static void compare(const struct smt_run_config *c, const struct figures *want, double part)
{
    struct smt_run_result r;
    run(c, &r);
    assert_int_equal(r.n_unfinished, 0);
    for (unsigned d = 0; d < SMT_DECILES; d++) {
        struct smt_run_bin bin = decile(c, &r, d);
        bool last = d == SMT_DECILES - 1;
        near("p50", d, bin.p50, want->p50[d], 0.05);
        near("p99", d, bin.p99, want->p99[d], last ? 0.2 : part);
    }
    printf("    %.1f M events, %.1f M/s\n", (double)r.n_events / 1e6,
           (double)r.n_events / 1e6 / r.wall_seconds);
    smt_run_result_fini(&r);
}

/* HomaSimulation's own cutoffs, to the byte. */
static void sim_policies_cutoffs(void **state)
{
    static const struct {
        const char *workload;
        unsigned n_levels;
        uint32_t cutoffs[6];
    } rows[] = {{"w1", 7, {11, 131, 280, 489, 794, 1360}},
                {"w2", 5, {269, 366, 512, 1463}},
                {"w3", 4, {433, 2339, 6756}}};
    assert_int_equal(smt_control_unsched(&smt_net_headers_s), 9328);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        const struct smt_workload *w = smt_workload_find(rows[i].workload, NULL, NULL);
        struct smt_size_share *sizes = calloc(w->n_points, sizeof(*sizes));
        assert_non_null(sizes);
        for (unsigned k = 0; k < w->n_points; k++) {
            sizes[k].len = w->points[k].len;
            sizes[k].share = w->points[k].share - (k > 0 ? w->points[k - 1].share : 0);
        }
        uint32_t got[SMT_CONTROL_MAX] = {0};
        assert_int_equal(smt_control_cutoffs_compute(&smt_net_headers_s, sizes, w->n_points, 9328,
                                                     rows[i].n_levels, got),
                         0);
        for (unsigned k = 0; k + 1 < rows[i].n_levels; k++)
            assert_int_equal(got[k], rows[i].cutoffs[k]);
        free(sizes);
    }
}

static void sim_policies_control(void **state)
{
    struct smt_run_config c = config_of("control", "w1", 0.8, 0.5, 1.5);
    compare(&c, &control_w1, 0.06);
    c = config_of("control", "w2", 0.8, 2, 4);
    compare(&c, &control_w2, 0.06);
    c = config_of("control", "w3", 0.8, 5, 10);
    compare(&c, &control_w3, 0.06);
}

static void sim_policies_ideal(void **state)
{
    struct smt_run_config c = config_of("ideal", "w1", 0.8, 0.5, 1.5);
    compare(&c, &ideal_w1, 0.06);
    c = config_of("ideal", "w3", 0.8, 5, 10);
    compare(&c, &ideal_w3, 0.06);
}

/* Designs that are known to be worse are seen to be worse: by as much as the reference says. */
static void sim_policies_worse(void **state)
{
    struct smt_run_result r;
    struct smt_run_config c = config_of("control", "w3", 0.8, 5, 10);
    levels_set(&c, 2);
    compare(&c, &control_w3_two_levels, 0.12);
    levels_set(&c, 1);
    run(&c, &r);
    assert_true(decile(&c, &r, 0).p99 > 10);
    smt_run_result_fini(&r);
    c = config_of("control", "w3", 0.8, 2, 2);
    c.policy_config.fifo = true;
    run(&c, &r);
    assert_true(decile(&c, &r, 0).p99 > 100);
    smt_run_result_fini(&r);
}

/* Downlinks idle while grants are withheld: 28 % with one sender granted at once, 0.1 % with 7. */
static void sim_policies_overcommit(void **state)
{
    struct smt_run_result one, seven;
    struct smt_run_config c = config_of("control", "w4", 0.8, 10, 15);
    c.drain_ns = 0;
    run(&c, &seven);
    c.policy_config.overcommit = 1;
    run(&c, &one);
    assert_true(one.withheld_idle > 0.15);
    assert_true(seven.withheld_idle < 0.005);
    const enum smt_net_port_kind down = SMT_NET_HOST_DOWN;
    assert_true(one.queues[down].max_bytes < 45000);
    assert_true(seven.queues[down].max_bytes > 1.5 * (double)one.queues[down].max_bytes);
    assert_true(seven.queues[down].max_bytes < 170000);
    smt_run_result_fini(&one);
    smt_run_result_fini(&seven);
}

/* An almost empty network gives the ideal time, with our own header sizes too. */
static void sim_policies_unloaded(void **state)
{
    static const char *const names[] = {"control", "ideal", "dctcp"};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(names); i++) {
        for (unsigned smt = 0; smt < 2; smt++) {
            struct smt_run_config c = config_of(names[i], "w3", 0.01, 1, 60);
            if (smt > 0) {
                c.hdr = &smt_net_headers_smt;
                c.load_unsched = 10000;
            }
            struct smt_run_result r;
            run(&c, &r);
            for (unsigned d = 0; d < SMT_DECILES; d++) {
                double p50 = decile(&c, &r, d).p50;
                if (p50 < 0.999 || p50 > 1.02)
                    fail_msg("%s: p50 of tenth %u is %.3f", names[i], d + 1, p50);
            }
            smt_run_result_fini(&r);
        }
    }
}

/* The same seed asks for the same messages whatever answers, and gives the same run. */
static void sim_policies_repeat(void **state)
{
    static const char *const names[] = {"control", "ideal", "dctcp"};
    uint64_t arrivals = 0;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(names); i++) {
        struct smt_run_config c = config_of(names[i], "w3", 0.7, 0.5, 1);
        struct smt_run_result a, b;
        run(&c, &a);
        run(&c, &b);
        assert_int_equal(a.trace, b.trace);
        assert_true(i == 0 || a.arrivals == arrivals);
        arrivals = a.arrivals;
        smt_run_result_fini(&b);
        c.seed++;
        run(&c, &b);
        assert_int_not_equal(a.trace, b.trace);
        smt_run_result_fini(&a);
        smt_run_result_fini(&b);
    }
}

/* dctcp comes through loss and short buffers; the other two have no loss recovery and say so. */
static void sim_policies_loss(void **state)
{
    struct smt_run_result r;
    struct smt_run_config c = config_of("dctcp", "w3", 0.6, 1, 4);
    c.net.loss_ppm = 10000;
    c.net.switch_buffer = 300000;
    for (unsigned reno = 0; reno < 2; reno++) {
        c.policy_config.tune = reno > 0 ? "reno=1,rto_us=500" : NULL;
        run(&c, &r);
        assert_int_equal(r.n_unfinished, 0);
        assert_true(smt_run_counter(&r, "timeouts") > 0);
        smt_run_result_fini(&r);
    }
    c.policy_config.tune = "window=0";
    assert_int_equal(smt_run(&c, &r), SMT_EINVAL);
    c.policy_config.tune = NULL;
    c.policy = smt_policy_find("control");
    assert_int_equal(smt_run(&c, &r), SMT_EINVAL);
    c.policy = smt_policy_find("ideal");
    assert_int_equal(smt_run(&c, &r), SMT_EINVAL);
}

/* One receiver, many senders at once: marks keep the queue short, and losses do not collapse. */
static void sim_policies_incast(void **state)
{
    struct smt_workload fixed;
    struct smt_workload_point point;
    struct smt_run_result r;
    struct smt_run_config c = config_of("dctcp", "w3", 0.6, 0.1, 400);
    c.workload = smt_workload_find("fixed:10000", &fixed, &point);
    c.pattern = SMT_RUN_INCAST;
    c.n_at_once = 200;
    c.n_rounds = 3;
    c.net.switch_buffer = 1000000;
    run(&c, &r);
    assert_true(r.round_us_max < 10000);
    smt_run_result_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sim_policies_cutoffs),    cmocka_unit_test(sim_policies_control),
        cmocka_unit_test(sim_policies_ideal),      cmocka_unit_test(sim_policies_worse),
        cmocka_unit_test(sim_policies_overcommit), cmocka_unit_test(sim_policies_unloaded),
        cmocka_unit_test(sim_policies_repeat),     cmocka_unit_test(sim_policies_loss),
        cmocka_unit_test(sim_policies_incast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
