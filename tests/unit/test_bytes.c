/* Byte order at every alignment, and the comparison. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

static const uint8_t sample[] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};

static void test_get_and_put_at_every_alignment(void **state)
{
    for (size_t off = 0; off < 8; off++) {
        uint8_t buf[24];
        memset(buf, 0xee, sizeof(buf));
        memcpy(buf + off, sample, sizeof(sample));
        assert_int_equal(smt_get_be16(buf + off), 0x0123);
        assert_int_equal(smt_get_be32(buf + off), 0x01234567);
        assert_true(smt_get_be64(buf + off) == 0x0123456789abcdef);

        uint8_t out[24], want[24];
        memset(out, 0xee, sizeof(out));
        memset(want, 0xee, sizeof(want));
        smt_put_be16(out + off, 0x0123);
        memcpy(want + off, sample, 2);
        assert_memory_equal(out, want, sizeof(out));
        smt_put_be32(out + off, 0x01234567);
        memcpy(want + off, sample, 4);
        assert_memory_equal(out, want, sizeof(out));
        smt_put_be64(out + off, 0x0123456789abcdef);
        memcpy(want + off, sample, 8);
        assert_memory_equal(out, want, sizeof(out));
    }
}

static void test_ct_equal_sees_every_bit(void **state)
{
    uint8_t a[33], b[33];
    for (size_t i = 0; i < sizeof(a); i++)
        a[i] = b[i] = (uint8_t)(i * 37);
    assert_true(smt_ct_equal(a, b, sizeof(a)));
    for (size_t bit = 0; bit < 8 * sizeof(a); bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(smt_ct_equal(a, b, sizeof(a)));
        assert_true(smt_ct_equal(a, b, bit / 8));
        b[bit / 8] = a[bit / 8];
    }
    assert_true(smt_ct_equal(a, b + 1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_and_put_at_every_alignment),
        cmocka_unit_test(test_ct_equal_sees_every_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
