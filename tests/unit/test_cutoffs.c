/* Cutoffs from the traffic seen: equal parts, levels by share, hysteresis, versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/cutoffs.h"

enum { UNSCHED = 10000, TAIL = 10000, PACKET = 1380, DRIFT = 30, EVERY = 1024 };

static bool look(struct smt_cutoffs *c, unsigned n_prios)
{
    return smt_cutoffs_look(c, n_prios, UNSCHED, TAIL, PACKET, DRIFT, EVERY);
}

static void classes_grow_with_the_length(void **state)
{
    (void)state;
    unsigned last = 0;
    for (uint32_t len = 1; len < 1u << 30; len += len / 16 + 1) {
        unsigned class = smt_cutoffs_class(len);
        assert_true(class >= last && class < SMT_CUTOFFS_CLASSES);
        last = class;
    }
    assert_true(smt_cutoffs_class(UINT32_MAX) < SMT_CUTOFFS_CLASSES);
}

static void short_messages_take_all_levels_but_one(void **state)
{
    (void)state;
    struct smt_cutoffs c;
    smt_cutoffs_init(&c, 8, UNSCHED);
    assert_int_equal(c.version, 0);
    for (uint32_t i = 0; i < 1000; i++)
        smt_cutoffs_note(&c, 1 + i);
    assert_true(smt_cutoffs_is_due(&c));
    assert_true(look(&c, 8));
    assert_int_equal(c.version, 1);
    assert_int_equal(c.n_sched, 1);
    for (unsigned p = 1; p < 7; p++)
        assert_true(c.at[p] > c.at[p + 1] && c.at[p + 1] > 0);
    /* Half of the levels hold about half of the bytes: lengths of 1 to 1000 with 155 of headers. */
    assert_in_range(c.at[4], 450, 750);
    assert_int_equal(smt_cutoffs_level(c.at, 1), 7);
    assert_int_equal(smt_cutoffs_level(c.at, UINT32_MAX), 0);
}

/* Where granted bytes have one level they do not stand before heads. */
static void the_only_granted_level_is_not_shared(void **state)
{
    (void)state;
    struct smt_cutoffs c;
    smt_cutoffs_init(&c, 8, UNSCHED);
    for (uint32_t i = 0; i < 3000; i++)
        smt_cutoffs_note(&c, i % 300 == 0 ? 30000 : 1 + i % 1000);
    assert_true(look(&c, 8));
    assert_int_equal(c.n_sched, 1);
    assert_int_equal(c.at[1], UINT32_MAX);
    assert_int_equal(smt_cutoffs_level(c.at, UINT32_MAX), 1);
}

static void long_messages_leave_one_level(void **state)
{
    (void)state;
    struct smt_cutoffs c;
    smt_cutoffs_init(&c, 8, UNSCHED);
    for (unsigned i = 0; i < 100; i++)
        smt_cutoffs_note(&c, 5000000);
    assert_true(look(&c, 8));
    assert_int_equal(c.n_sched, 7);
    assert_true(c.at[7] > 0 && c.at[7] < UINT32_MAX);
    assert_int_equal(c.at[6], UINT32_MAX);
}

static void the_same_traffic_changes_nothing(void **state)
{
    (void)state;
    struct smt_cutoffs c;
    smt_cutoffs_init(&c, 8, UNSCHED);
    for (unsigned round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 2000; i++)
            smt_cutoffs_note(&c, i % 10 == 0 ? 40000 : 1 + i * 7 % 1500);
        assert_int_equal(look(&c, 8), round == 0);
    }
    assert_int_equal(c.version, 1);
    /* Other traffic does, soon. */
    unsigned moved = 0;
    for (unsigned round = 0; round < 30; round++) {
        for (uint32_t i = 0; i < 2000; i++)
            smt_cutoffs_note(&c, 20 + i % 50);
        moved += look(&c, 8);
    }
    assert_in_range(moved, 1, 15);
    assert_in_range(c.at[7], 20, 40);
    assert_int_equal(c.version, 1 + moved);
}

/* 64 messages of one length made it the cutoff of all levels, and whatever else came stood below
 * granted data. */
static void one_length_leaves_levels_for_others(void **state)
{
    (void)state;
    struct smt_cutoffs c;
    smt_cutoffs_init(&c, 8, UNSCHED);
    for (unsigned i = 0; i < 64; i++)
        smt_cutoffs_note(&c, 1);
    (void)look(&c, 8);
    for (unsigned p = c.n_sched; p < 7; p++)
        assert_true(c.at[p] > c.at[p + 1] || c.at[p] == UINT32_MAX);
    assert_true(smt_cutoffs_level(c.at, 500) >= c.n_sched);
    assert_true(smt_cutoffs_level(c.at, 500) > smt_cutoffs_level(c.at, 1000000));
    assert_true(smt_cutoffs_level(c.at, UINT32_MAX) >= c.n_sched);
}

/* Before anything was heard, no unscheduled byte stands below granted ones. */
static void defaults_are_above_granted_bytes(void **state)
{
    (void)state;
    struct smt_cutoffs c;
    smt_cutoffs_init(&c, 8, UNSCHED);
    assert_true(smt_cutoffs_level(smt_cutoffs_default, UINT32_MAX) >= c.n_sched);
}

/* Half of the bytes are in one message of a thousand. Which of 48 receivers has seen one of late
 * moves nothing once enough was seen. */
static void heavy_tails_settle(void **state)
{
    (void)state;
    unsigned late = 0;
    uint64_t x = 88172645463325252ull;
    for (unsigned host = 0; host < 48; host++) {
        struct smt_cutoffs c;
        smt_cutoffs_init(&c, 8, UNSCHED);
        for (unsigned i = 0; i < 200000; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            smt_cutoffs_note(&c, x % 1000 == 0 ? 3000000 : 1 + (uint32_t)(x >> 32) % 5000);
            if (smt_cutoffs_is_due(&c))
                late += smt_cutoffs_look(&c, 8, UNSCHED, TAIL, PACKET, DRIFT, 4096) && i > 100000;
        }
        assert_true(c.n_looks > 40);
    }
    assert_in_range(late, 0, 8);
}

static void versions_skip_zero(void **state)
{
    (void)state;
    struct smt_cutoffs c;
    smt_cutoffs_init(&c, 8, UNSCHED);
    for (unsigned i = 0; i < 65536; i++)
        smt_cutoffs_renew(&c);
    assert_int_equal(c.version, 1);
}

static void few_levels(void **state)
{
    (void)state;
    for (unsigned n_prios = 1; n_prios <= 8; n_prios++) {
        struct smt_cutoffs c;
        smt_cutoffs_init(&c, n_prios, UNSCHED);
        for (uint32_t i = 0; i < 3000; i++)
            smt_cutoffs_note(&c, i % 10 == 0 ? 100000 : 1 + i % 2000);
        (void)look(&c, n_prios);
        assert_in_range(c.n_sched, 1, n_prios);
        for (uint32_t left = 1; n_prios > 1 && left < 1 << 20; left += left / 4 + 1)
            assert_true(smt_cutoffs_level(c.at, left) < n_prios);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_grow_with_the_length),
        cmocka_unit_test(short_messages_take_all_levels_but_one),
        cmocka_unit_test(the_only_granted_level_is_not_shared),
        cmocka_unit_test(long_messages_leave_one_level),
        cmocka_unit_test(the_same_traffic_changes_nothing),
        cmocka_unit_test(one_length_leaves_levels_for_others),
        cmocka_unit_test(defaults_are_above_granted_bytes),
        cmocka_unit_test(heavy_tails_settle),
        cmocka_unit_test(versions_skip_zero),
        cmocka_unit_test(few_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
