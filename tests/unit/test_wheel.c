/* The wheel against a list searched for (tick, order of arming). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/prng.h"
#include "base/wheel.h"

enum { N_TIMERS = 100, N_STEPS = 10000, N_SEEDS = 10 };

static const uint64_t tick_ns = 1ull << SMT_WHEEL_TICK_BITS;

struct model_timer {
    struct smt_timer t;
    bool armed;
    uint64_t tick, order;
};

struct model {
    struct smt_wheel w;
    struct model_timer timers[N_TIMERS];
    uint64_t tick; /* nothing armed now can expire before it */
    uint64_t order;
    struct model_timer *last; /* armed, and nothing was since */
};

static struct model m;

static void model_init(uint64_t now)
{
    m = (struct model){.tick = now / tick_ns};
    smt_wheel_init(&m.w, now);
}

static void model_arm(struct model_timer *mt, uint64_t at)
{
    /* Every other one the short way, which must not make a difference. */
    if (m.order % 3 == 0 && m.last != NULL && m.last != mt && m.last->t.at == at && !mt->armed)
        smt_wheel_arm_behind(&m.last->t, &mt->t);
    else if (m.order % 2 == 0 || at == SMT_NEVER)
        smt_wheel_arm(&m.w, &mt->t, at);
    else
        smt_wheel_arm_alike(&m.w, &mt->t, at);
    mt->armed = at != SMT_NEVER;
    m.last = mt->armed ? mt : NULL;
    mt->tick = at / tick_ns + (at % tick_ns != 0);
    if (mt->tick < m.tick)
        mt->tick = m.tick;
    mt->order = m.order++;
}

static void model_disarm(struct model_timer *mt)
{
    smt_wheel_disarm(&m.w, &mt->t);
    mt->armed = false;
    m.last = NULL;
}

static struct model_timer *model_first(void)
{
    struct model_timer *first = NULL;
    for (unsigned i = 0; i < N_TIMERS; i++) {
        struct model_timer *mt = &m.timers[i];
        assert_int_equal(smt_timer_is_armed(&mt->t), mt->armed);
        if (mt->armed && (first == NULL || mt->tick < first->tick ||
                          (mt->tick == first->tick && mt->order < first->order)))
            first = mt;
    }
    return first;
}

static void check_next(void)
{
    const struct model_timer *first = model_first();
    uint64_t next = smt_wheel_next(&m.w);
    if (first == NULL)
        assert_true(next == SMT_NEVER);
    else
        assert_true(next <= first->tick * tick_ns);
}

/* Pops one; false when there was none. */
static bool model_pop(uint64_t now)
{
    m.last = NULL;
    struct model_timer *want = model_first();
    struct smt_timer *got = smt_wheel_pop(&m.w, now);
    if (want == NULL || want->tick > now / tick_ns) {
        assert_null(got);
        if (now / tick_ns > m.tick)
            m.tick = now / tick_ns;
        assert_true(smt_wheel_next(&m.w) > now);
        return false;
    }
    assert_ptr_equal(got, &want->t);
    assert_true(got->at <= now);
    want->armed = false;
    m.tick = want->tick;
    return true;
}

static uint64_t random_span(struct smt_prng *g, unsigned max_bits)
{
    return smt_prng_next64(g) >> (63 - smt_prng_below(g, max_bits));
}

static void random_run(uint64_t seed)
{
    struct smt_prng g;
    smt_prng_seed(&g, seed);
    /* Every other run starts shortly before the top level of the wheel turns over. */
    uint64_t now = seed % 2 == 0 ? random_span(&g, 50) : (3ull << 55) - random_span(&g, 40);
    unsigned max_bits = seed < 4 ? 24 : seed < 8 ? 40 : 56;
    model_init(now);
    for (unsigned step = 0; step < N_STEPS; step++) {
        struct model_timer *mt = &m.timers[smt_prng_below(&g, N_TIMERS)];
        unsigned dice = (unsigned)smt_prng_below(&g, 100);
        if (dice < 50) {
            uint64_t span = random_span(&g, max_bits);
            uint64_t at = dice < 4 ? now - (span < now ? span : now) : now + span;
            model_arm(mt, dice == 10 ? SMT_NEVER : dice == 11 ? at / tick_ns * tick_ns : at);
            /* Some of one tick, one after the other, and some of them gone again. */
            for (unsigned i = 0; dice >= 45 && i < 6; i++) {
                struct model_timer *other = &m.timers[smt_prng_below(&g, N_TIMERS)];
                if (i < 4)
                    model_arm(other, at);
                else
                    model_disarm(other);
            }
        } else if (dice < 60) {
            model_disarm(mt);
        } else {
            uint64_t next = smt_wheel_next(&m.w);
            if (dice < 85 && next != SMT_NEVER)
                now = next > now ? next : now;
            else
                now += random_span(&g, max_bits);
            /* Now and then not all that is due is taken, or something is armed in between. */
            bool arm_one = dice % 2 == 0;
            while (model_pop(now) && dice != 71) {
                if (arm_one)
                    model_arm(mt, now);
                arm_one = false;
            }
        }
        check_next();
        if (now > UINT64_MAX / 2)
            break;
    }
    while (model_first() != NULL) {
        uint64_t next = smt_wheel_next(&m.w);
        now = next > now ? next : now;
        while (model_pop(now))
            ;
    }
    assert_true(smt_wheel_next(&m.w) == SMT_NEVER);
}

static void test_against_linear_search(void **state)
{
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        random_run(seed);
}

/* Going by smt_wheel_next, one timer costs at most one wake per level, and fires less than a tick
 * late, wherever it is within the 416 days that the levels span. */
static void test_wakes_are_few_and_exact(void **state)
{
    struct smt_prng g;
    smt_prng_seed(&g, 1);
    for (unsigned bits = 1; bits < 55; bits++) {
        for (unsigned round = 0; round < 50; round++) {
            uint64_t now = smt_prng_next64(&g) >> (2 + smt_prng_below(&g, 30));
            uint64_t at = now + (smt_prng_next64(&g) >> (63 - bits));
            struct smt_timer t = {0};
            smt_wheel_init(&m.w, now);
            smt_wheel_arm(&m.w, &t, at);
            unsigned n_wakes = 0;
            for (;;) {
                uint64_t next = smt_wheel_next(&m.w);
                assert_true(next < at + tick_ns);
                now = next;
                n_wakes++;
                if (smt_wheel_pop(&m.w, now) != NULL)
                    break;
            }
            assert_true(now >= at);
            assert_true(n_wakes <= SMT_WHEEL_LEVELS + 1);
        }
    }
}

static void test_never_early_by_a_nanosecond(void **state)
{
    static const uint64_t ats[] = {1, 8191, 8192, 8193, 100000, 8192 * 64, 8192 * 64 + 1};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(ats); i++) {
        struct smt_timer t = {0};
        smt_wheel_init(&m.w, 0);
        smt_wheel_arm(&m.w, &t, ats[i]);
        assert_true(t.at == ats[i]);
        uint64_t due = (ats[i] + tick_ns - 1) / tick_ns * tick_ns;
        assert_null(smt_wheel_pop(&m.w, ats[i] - 1));
        assert_null(smt_wheel_pop(&m.w, due - 1));
        assert_ptr_equal(smt_wheel_pop(&m.w, due), &t);
        assert_null(smt_wheel_pop(&m.w, due));
    }
}

static void test_order_within_a_tick_survives_sorting_in(void **state)
{
    struct smt_timer t[4] = {0};
    uint64_t at = 5 * SMT_SEC;
    smt_wheel_init(&m.w, 0);
    /* One from far, one from half-way, one from the last microseconds, one moved to the end. */
    smt_wheel_arm(&m.w, &t[3], at);
    smt_wheel_arm(&m.w, &t[0], at);
    assert_null(smt_wheel_pop(&m.w, at - SMT_SEC));
    smt_wheel_arm(&m.w, &t[1], at);
    assert_null(smt_wheel_pop(&m.w, at - 100 * SMT_USEC));
    smt_wheel_arm(&m.w, &t[2], at);
    smt_wheel_arm(&m.w, &t[3], at);
    for (unsigned i = 0; i < 4; i++)
        assert_ptr_equal(smt_wheel_pop(&m.w, at + SMT_SEC), &t[i]);
    assert_null(smt_wheel_pop(&m.w, at + SMT_SEC));
}

static void test_jump_over_everything(void **state)
{
    enum { N = 1000 };
    static struct smt_timer t[N];
    smt_wheel_init(&m.w, 0);
    for (unsigned i = 0; i < N; i++)
        smt_wheel_arm(&m.w, &t[N - 1 - i], (i + 1) * 3600 * SMT_SEC);
    uint64_t now = 1ull << 62;
    for (unsigned i = 0; i < N; i++)
        assert_ptr_equal(smt_wheel_pop(&m.w, now), &t[N - 1 - i]);
    assert_null(smt_wheel_pop(&m.w, now));
    assert_true(smt_wheel_next(&m.w) == SMT_NEVER);
    smt_wheel_arm(&m.w, &t[0], now + 1);
    assert_true(smt_wheel_next(&m.w) == now + tick_ns);
}

static void test_the_end_of_time(void **state)
{
    struct smt_timer t = {0}, u = {0};
    smt_wheel_init(&m.w, 0);
    smt_wheel_arm(&m.w, &t, SMT_NEVER);
    assert_false(smt_timer_is_armed(&t));
    assert_true(smt_wheel_next(&m.w) == SMT_NEVER);
    smt_wheel_arm(&m.w, &t, SMT_NEVER - 1);
    smt_wheel_arm(&m.w, &u, SMT_NEVER / tick_ns * tick_ns);
    assert_ptr_equal(smt_wheel_pop(&m.w, SMT_NEVER), &u);
    assert_null(smt_wheel_pop(&m.w, SMT_NEVER));
    assert_true(smt_timer_is_armed(&t));
    smt_wheel_disarm(&m.w, &t);
    smt_wheel_disarm(&m.w, &t);
    assert_true(smt_wheel_next(&m.w) == SMT_NEVER);
}

static void test_behind_is_as_armed_for_the_same_time(void **state)
{
    struct smt_timer t[4] = {0};
    smt_wheel_init(&m.w, 0);
    smt_wheel_arm(&m.w, &t[0], 5 * SMT_MSEC);
    smt_wheel_arm_behind(&t[0], &t[1]);
    smt_wheel_arm_behind(&t[1], &t[2]);
    smt_wheel_arm_next(&m.w, &t[3], 5 * SMT_MSEC);
    assert_int_equal(t[2].at, 5 * SMT_MSEC);
    smt_wheel_disarm(&m.w, &t[1]);
    assert_null(smt_wheel_pop(&m.w, 5 * SMT_MSEC - 2 * tick_ns));
    assert_ptr_equal(smt_wheel_pop(&m.w, 6 * SMT_MSEC), &t[0]);
    assert_ptr_equal(smt_wheel_pop(&m.w, 6 * SMT_MSEC), &t[2]);
    assert_ptr_equal(smt_wheel_pop(&m.w, 6 * SMT_MSEC), &t[3]);
    assert_true(smt_wheel_next(&m.w) == SMT_NEVER);
}

static void test_time_may_stand_still_or_go_back(void **state)
{
    struct smt_timer t = {0};
    smt_wheel_init(&m.w, 100 * SMT_SEC);
    smt_wheel_arm(&m.w, &t, 50 * SMT_SEC);
    assert_null(smt_wheel_pop(&m.w, 60 * SMT_SEC));
    assert_true(smt_wheel_next(&m.w) <= 100 * SMT_SEC);
    assert_ptr_equal(smt_wheel_pop(&m.w, 100 * SMT_SEC), &t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_linear_search),
        cmocka_unit_test(test_wakes_are_few_and_exact),
        cmocka_unit_test(test_never_early_by_a_nanosecond),
        cmocka_unit_test(test_order_within_a_tick_survives_sorting_in),
        cmocka_unit_test(test_jump_over_everything),
        cmocka_unit_test(test_the_end_of_time),
        cmocka_unit_test(test_behind_is_as_armed_for_the_same_time),
        cmocka_unit_test(test_time_may_stand_still_or_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
