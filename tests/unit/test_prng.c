/* The generator against published outputs, and the helpers against their promises. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"

static void test_known_answers(void **state)
{
    struct smt_prng g = {.s = {1, 2, 3, 4}};
    assert_true(smt_prng_next64(&g) == 11520);
    assert_true(smt_prng_next64(&g) == 0);
    assert_true(smt_prng_next64(&g) == 1509978240);
    assert_true(smt_prng_next64(&g) == 1215971899390074240);
    smt_prng_seed(&g, 0);
    assert_true(g.s[0] == 0xe220a8397b1dcdaf);
    assert_true(g.s[1] == 0x6e789e6aa1b965f4);
    assert_true(g.s[2] == 0x06c45d188009454f);
    assert_true(g.s[3] == 0xf88bb8a8724c81ec);
}

static void test_below_is_uniform_and_in_range(void **state)
{
    struct smt_prng g;
    smt_prng_seed(&g, 7);
    unsigned seen[10] = {0};
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t v = smt_prng_below(&g, 10);
        assert_true(v < 10);
        seen[v]++;
    }
    for (unsigned i = 0; i < 10; i++)
        assert_in_range(seen[i], 9600, 10400);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(smt_prng_below(&g, 1) == 0);
        assert_true(smt_prng_below(&g, UINT64_MAX) < UINT64_MAX);
        assert_true(smt_prng_below(&g, (1ull << 63) + 1) <= 1ull << 63);
    }
}

static void test_bytes_are_the_stream(void **state)
{
    struct smt_prng a, b;
    for (size_t len = 0; len < 40; len++) {
        smt_prng_seed(&a, len);
        smt_prng_seed(&b, len);
        uint8_t got[48];
        memset(got, 0xee, sizeof(got));
        smt_prng_bytes(&a, got, len);
        uint64_t v = 0;
        for (size_t i = 0; i < len; i++) {
            if (i % 8 == 0)
                v = smt_prng_next64(&b);
            assert_int_equal(got[i], (uint8_t)(v >> (8 * (i % 8))));
        }
        assert_int_equal(got[len], 0xee);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_below_is_uniform_and_in_range),
        cmocka_unit_test(test_bytes_are_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
