/* The memory of first flights: none twice, for as long as one could be taken for new; bounded; a
 * clock that goes back opens nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "hs/early_seen.h"

static struct smt_early_seen *seen;

static bool add(int64_t now_s, uint64_t n)
{
    uint8_t random[SMT_EARLY_RANDOM_LEN] = {0};
    smt_put_be64(random + 8, n);
    return smt_early_seen_add(seen, now_s, random);
}

static int setup(void **state)
{
    return smt_early_seen_new(&seen);
}

static int teardown(void **state)
{
    smt_early_seen_free(seen);
    return 0;
}

static void test_once(void **state)
{
    for (uint64_t n = 0; n < 1000; n++)
        assert_true(add(100, n));
    for (uint64_t n = 0; n < 1000; n++)
        assert_false(add(100, n));
    assert_true(add(100, 1000));
}

/* At whatever time of a window it came, and whatever came since. */
static void test_for_a_window(void **state)
{
    for (int64_t came = 1000; came < 1100; came += 7) {
        assert_true(add(came, (uint64_t)came));
        for (int64_t t = 0; t < SMT_EARLY_WINDOW_S; t++) {
            assert_false(add(came + t, (uint64_t)came));
            assert_true(add(came + t, (uint64_t)(came * 1000 + t)));
        }
        came += SMT_EARLY_WINDOW_S;
    }
}

static void test_forgets(void **state)
{
    assert_true(add(100, 1));
    assert_true(add(100 + 2 * SMT_EARLY_WINDOW_S, 1));
    assert_true(add(100000, 2));
    assert_true(add(200000, 2));
}

static void test_is_bounded(void **state)
{
    for (uint64_t n = 0; n < SMT_EARLY_SEEN_MAX; n++)
        assert_true(add(100, n));
    assert_false(add(100, SMT_EARLY_SEEN_MAX));
    assert_false(add(100 + SMT_EARLY_WINDOW_S - 1, SMT_EARLY_SEEN_MAX));
    assert_true(add(100 + SMT_EARLY_WINDOW_S, SMT_EARLY_SEEN_MAX));
    assert_false(add(100 + SMT_EARLY_WINDOW_S, 5));
}

static void test_a_clock_that_goes_back(void **state)
{
    assert_true(add(1000, 1));
    assert_false(add(999, 2));
    assert_false(add(0, 2));
    assert_false(add(-5, 2));
    assert_true(add(1000, 2));
    assert_false(add(1000, 2));
}

static void test_without_memory(void **state)
{
    smt_mem_fail_after(0);
    assert_false(add(1000, 1));
    smt_mem_fail_after(-1);
    assert_true(add(1000, 1));
    assert_false(add(1000, 1));
    struct smt_early_seen *other;
    smt_mem_fail_after(0);
    assert_int_equal(smt_early_seen_new(&other), SMT_ENOMEM);
    smt_mem_fail_after(-1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_once),       TEST(test_for_a_window),           TEST(test_forgets),
        TEST(test_is_bounded), TEST(test_a_clock_that_goes_back), TEST(test_without_memory),
    };
    return cmocka_run_group_tests_name("early_seen", tests, NULL, NULL);
}
