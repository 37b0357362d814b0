/* The event queue: order by time, then by order of putting in, whether by heap or lane. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "sim/des.h"

enum { N_EVENTS = 200000 };

struct seen {
    struct smt_des d;
    struct smt_prng rng;
    uint64_t last_at, last_number, n_seen, n_put;
    unsigned lanes[3];
};

/* The argument is the number of putting in. */
static void check(void *ctx, void *arg)
{
    struct seen *s = ctx;
    uint64_t number = (uintptr_t)arg;
    assert_true(s->d.now >= s->last_at);
    if (s->n_seen > 0 && s->d.now == s->last_at)
        assert_true(number > s->last_number);
    s->last_at = s->d.now;
    s->last_number = number;
    s->n_seen++;
}

static void more(void *ctx, void *arg)
{
    struct seen *s = ctx;
    check(ctx, arg);
    for (unsigned i = 0; i < 2 && s->n_put < N_EVENTS; i++) {
        void *number = (void *)(uintptr_t)s->n_put++;
        uint64_t how = smt_prng_below(&s->rng, 4);
        if (how < 3)
            smt_des_in_lane(&s->d, s->lanes[how], more, number);
        else
            smt_des_at(&s->d, s->d.now + smt_prng_below(&s->rng, 500), more, number);
    }
}

static void seen_init(struct seen *s)
{
    *s = (struct seen){0};
    assert_int_equal(smt_des_init(&s->d, s), 0);
    smt_prng_seed(&s->rng, 5);
}

static void test_random_times_come_in_order(void **state)
{
    struct seen s;
    seen_init(&s);
    for (uint64_t i = 0; i < N_EVENTS; i++)
        smt_des_at(&s.d, smt_prng_below(&s.rng, N_EVENTS / 4), check, (void *)(uintptr_t)i);
    while (smt_des_step(&s.d, SMT_NEVER)) {
    }
    assert_true(s.n_seen == N_EVENTS && s.d.n_run == N_EVENTS);
    assert_true(smt_des_next(&s.d) == SMT_NEVER);
    smt_des_fini(&s.d);
}

static void test_lanes_and_heap_are_one_queue(void **state)
{
    struct seen s;
    seen_init(&s);
    static const uint64_t delays[3] = {100, 250, 0};
    for (unsigned i = 0; i < 3; i++) {
        int lane = smt_des_lane(&s.d, delays[i]);
        assert_true(lane >= 0);
        s.lanes[i] = (unsigned)lane;
    }
    assert_int_equal(smt_des_lane(&s.d, 250), s.lanes[1]);
    for (; s.n_put < 3000; s.n_put++)
        smt_des_at(&s.d, 7, more, (void *)(uintptr_t)s.n_put);
    while (smt_des_step(&s.d, SMT_NEVER)) {
    }
    assert_true(s.n_seen == N_EVENTS);
    smt_des_fini(&s.d);
}

static void test_until(void **state)
{
    struct seen s;
    seen_init(&s);
    smt_des_at(&s.d, 10, check, (void *)1);
    smt_des_at(&s.d, 20, check, (void *)2);
    assert_false(smt_des_step(&s.d, 9));
    assert_true(s.d.now == 0 && smt_des_next(&s.d) == 10);
    assert_true(smt_des_step(&s.d, 10));
    assert_false(smt_des_step(&s.d, 19));
    assert_true(s.d.now == 10 && s.n_seen == 1);
    assert_true(smt_des_step(&s.d, 20));
    smt_des_fini(&s.d);
}

static void test_memory_goes_back(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    test_lanes_and_heap_are_one_queue(state);
    assert_true(smt_mem_live().n_live == before.n_live);
    struct seen s = {0};
    smt_mem_fail_after(0);
    assert_int_equal(smt_des_init(&s.d, &s), SMT_ENOMEM);
    smt_des_fini(&s.d);
    assert_int_equal(smt_des_init(&s.d, &s), 0);
    smt_mem_fail_after(0);
    assert_int_equal(smt_des_lane(&s.d, 5), SMT_ENOMEM);
    smt_mem_fail_after(-1);
    smt_des_fini(&s.d);
    assert_true(smt_mem_live().n_live == before.n_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_times_come_in_order),
        cmocka_unit_test(test_lanes_and_heap_are_one_queue),
        cmocka_unit_test(test_until),
        cmocka_unit_test(test_memory_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
