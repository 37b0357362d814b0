/* The endpoint's clock, with a kernel's clock and a counter of the test: it agrees with that clock,
 * never goes back, and finds out by itself when the counter goes on at another rate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/api.h"

enum { LOOK_CYCLES = 60, STEP = 1000 };

static struct {
    uint64_t ns, cycles;
    double ghz;
    unsigned n_looks;
} machine;

static void pass(uint64_t ns)
{
    machine.ns += ns;
    machine.cycles += (uint64_t)((double)ns * machine.ghz);
}

/* As smt_clock_now, on the test's machine. */
static uint64_t now(struct smt_clock *c)
{
    uint64_t ns;
    if (smt_clock_at(c, machine.cycles, &ns))
        return ns;
    machine.n_looks++;
    smt_clock_seen(c, machine.cycles, machine.ns, machine.cycles + LOOK_CYCLES);
    return smt_clock_tell(c, machine.ns);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

/* For so long, looking every microsecond; the largest difference to the kernel's clock. */
static uint64_t run(struct smt_clock *c, uint64_t ns)
{
    uint64_t most = 0;
    for (uint64_t end = machine.ns + ns, before = 0; machine.ns < end; pass(STEP)) {
        uint64_t told = now(c), d = distance(told, machine.ns);
        assert_true(told >= before);
        before = told;
        most = d > most ? d : most;
    }
    return most;
}

static void begin(double ghz)
{
    machine.ns = 12345678 * SMT_USEC;
    machine.cycles = 1ull << 50;
    machine.ghz = ghz;
    machine.n_looks = 0;
}

static void it_agrees(void **state)
{
    static const double rates[] = {0.3, 1, 2.1, 3.7, 6};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rates); i++) {
        struct smt_clock c = {0};
        begin(rates[i]);
        (void)run(&c, 20 * SMT_MSEC); /* the first rate */
        machine.n_looks = 0;
        assert_true(run(&c, 100 * SMT_MSEC) < 20);
        assert_true(machine.n_looks < 100 * rates[i] + 2);
    }
}

/* A machine that goes on elsewhere, or after a sleep that the kernel's clock does not count. */
static void another_rate_is_found(void **state)
{
    struct smt_clock c = {0};
    begin(2.1);
    (void)run(&c, 10 * SMT_MSEC);
    machine.ghz = 2.9;
    assert_true(run(&c, 2 * SMT_MSEC) < SMT_MSEC);
    (void)run(&c, 2 * SMT_MSEC);
    assert_true(run(&c, 10 * SMT_MSEC) < 20);
    static const int64_t leaps[] = {1ll << 23, 1ll << 36, -(1ll << 20), -(1ll << 40)};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(leaps); i++) {
        machine.cycles += (uint64_t)leaps[i];
        assert_true(run(&c, 5 * SMT_MSEC) < 5 * SMT_MSEC);
        (void)run(&c, 10 * SMT_MSEC);
        assert_true(run(&c, 10 * SMT_MSEC) < 20);
    }
}

/* Asleep for seconds: what is told next is a look. */
static void long_pauses_are_looked_over(void **state)
{
    struct smt_clock c = {0};
    begin(2.1);
    for (unsigned i = 0; i < 10; i++) {
        assert_true(run(&c, 10 * SMT_MSEC) < 20);
        pass(10 * SMT_SEC);
        assert_int_equal(now(&c), machine.ns);
    }
}

/* Counts around a look that are far apart say nothing of when it was. */
static void an_interrupted_look_is_not_used(void **state)
{
    struct smt_clock c = {0};
    uint64_t ns;
    begin(2.1);
    (void)run(&c, 10 * SMT_MSEC);
    pass(10 * SMT_MSEC);
    assert_false(smt_clock_at(&c, machine.cycles, &ns));
    smt_clock_seen(&c, machine.cycles, machine.ns + SMT_MSEC, machine.cycles + 3000000);
    assert_false(smt_clock_at(&c, machine.cycles + 3000000, &ns));
}

/* The kernel's own, read in turn. */
static void the_machines_own_agrees(void **state)
{
    struct smt_clock c;
    smt_clock_init(&c);
    uint64_t told = 0;
    for (uint64_t end = smt_api_clock() + 20 * SMT_MSEC, before = 0; before < end;) {
        uint64_t next = smt_clock_now(&c);
        assert_true(next >= told);
        assert_true(next + SMT_MSEC >= before);
        told = next;
        before = smt_api_clock();
        assert_true(told <= before + SMT_MSEC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_agrees),
        cmocka_unit_test(another_rate_is_found),
        cmocka_unit_test(long_pauses_are_looked_over),
        cmocka_unit_test(an_interrupted_look_is_not_used),
        cmocka_unit_test(the_machines_own_agrees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
