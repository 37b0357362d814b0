/* What is measured: least round trip over a sliding memory, largest rate, shares that fall and
 * grow, tunables. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/rtt.h"
#include "core/share.h"
#include "core/tune.h"

static const uint64_t memory = 10 * SMT_SEC;

static void the_least_counts_and_is_forgotten(void **state)
{
    (void)state;
    struct smt_rtt t = {.rate = 0};
    assert_int_equal(smt_rtt_least(&t), 0);
    uint64_t now = 100 * SMT_SEC;
    smt_rtt_sample(&t, now, 9000, memory);
    smt_rtt_sample(&t, now + 1, 5000, memory);
    smt_rtt_sample(&t, now + 2, 70000, memory);
    assert_int_equal(smt_rtt_least(&t), 5000);
    /* The path became longer: after at least half of the memory and at most all of it. */
    uint64_t forgotten = 0;
    for (uint64_t at = now; at < now + 2 * memory && forgotten == 0; at += SMT_SEC / 10) {
        smt_rtt_sample(&t, at, 20000, memory);
        if (smt_rtt_least(&t) == 20000)
            forgotten = at - now;
    }
    assert_in_range(forgotten, memory / 2, memory + SMT_SEC / 5);
}

static void a_pause_forgets_nothing_until_there_is_new(void **state)
{
    (void)state;
    struct smt_rtt t = {.rate = 0};
    smt_rtt_sample(&t, SMT_SEC, 5000, memory);
    assert_int_equal(smt_rtt_least(&t), 5000);
    smt_rtt_sample(&t, 1000 * SMT_SEC, 8000, memory);
    assert_int_equal(smt_rtt_least(&t), 8000);
}

static void the_largest_rate_within_the_bound(void **state)
{
    (void)state;
    struct smt_rtt t = {.rate = 0};
    smt_rtt_rate_sample(&t, 1000000, SMT_MSEC, 0);
    assert_in_range(t.rate, 999000000, 1000000000);
    smt_rtt_rate_sample(&t, 1000, SMT_SEC, 0);
    assert_in_range(t.rate, 999000000, 1000000000);
    smt_rtt_rate_sample(&t, 1000000, 1000, 1250000000);
    assert_int_equal(t.rate, 1250000000);
    smt_rtt_rate_fall(&t, 250000000);
    assert_int_equal(t.rate, 1000000000);
    smt_rtt_rate_fall(&t, 2000000000);
    assert_int_equal(t.rate, 1000000000);
}

static void fill_is_rtt_times_rate_and_three_packets(void **state)
{
    (void)state;
    struct smt_rtt t = {.rate = 1250000000};
    assert_int_equal(smt_rtt_fill(&t, 1500), 0);
    smt_rtt_sample(&t, 1, 8000, memory);
    assert_in_range(smt_rtt_fill(&t, 1500), 10000 + 4500, 10000 + 4500 + 1250);
    t.rate = 100000000000000;
    t.least[0] = t.least[1] = 10 * SMT_SEC;
    assert_true(smt_rtt_fill(&t, 1500) >= 1000000000000000);
}

static void a_share_falls_once_a_round_trip_and_comes_back(void **state)
{
    (void)state;
    struct smt_share s;
    smt_share_init(&s);
    assert_int_equal(smt_share_of(&s, 100000), 100000);
    assert_true(smt_share_fall(&s, 1000, 500, 50));
    assert_false(smt_share_fall(&s, 1200, 500, 50));
    assert_in_range(smt_share_of(&s, 100000), 49999, 50000);
    for (unsigned i = 0; i < 100; i++)
        (void)smt_share_fall(&s, 2000 + i * 500, 500, 50);
    assert_int_equal(s.is, SMT_SHARE_LEAST);
    unsigned n = 0;
    uint32_t last = s.is;
    while (s.is < SMT_SHARE_ALL) {
        smt_share_rise(&s);
        assert_true(s.is > last);
        last = s.is;
        n++;
    }
    assert_in_range(n, 20, 100);
}

static void tunables_have_ranges(void **state)
{
    (void)state;
    struct smt_tune t;
    smt_tune_init(&t);
    struct smt_tune_row row;
    unsigned n = 0;
    for (; smt_tune_row(n, &row); n++) {
        assert_true(row.least <= row.is && row.is <= row.most);
        assert_true(row.text[0] != '\0');
        assert_int_equal(smt_tune_set(&t, row.name, strlen(row.name), row.most), 0);
        assert_int_equal(smt_tune_set(&t, row.name, strlen(row.name), row.most + 1ull),
                         SMT_EINVAL);
    }
    assert_int_equal(n * sizeof(uint32_t), sizeof(t));
    assert_int_equal(smt_tune_set(&t, "nothing", 7, 1), SMT_EINVAL);
    t.n_prios = 0;
    t.overcommit = 1000;
    smt_tune_clamp(&t);
    assert_int_equal(t.n_prios, 1);
    assert_int_equal(t.overcommit, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_counts_and_is_forgotten),
        cmocka_unit_test(a_pause_forgets_nothing_until_there_is_new),
        cmocka_unit_test(the_largest_rate_within_the_bound),
        cmocka_unit_test(fill_is_rtt_times_rate_and_three_packets),
        cmocka_unit_test(a_share_falls_once_a_round_trip_and_comes_back),
        cmocka_unit_test(tunables_have_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
