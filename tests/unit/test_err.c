/* The error table: every code has its name and a text, and no two share either. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <smt/error.h>

static const struct {
    int code;
    const char *name;
} table[] = {
#define ROW(name, number, text) {name, #name},
    SMT_ERROR_TABLE(ROW)
#undef ROW
};

enum { N_CODES = sizeof(table) / sizeof(table[0]) };

static void test_every_code_has_a_name_and_a_text(void **state)
{
    for (unsigned i = 0; i < N_CODES; i++) {
        assert_true(table[i].code < 0);
        assert_string_equal(smt_error_name(table[i].code), table[i].name);
        assert_string_not_equal(smt_strerror(table[i].code), "unknown error");
        assert_true(strlen(smt_strerror(table[i].code)) > 0);
        for (unsigned j = 0; j < i; j++) {
            assert_int_not_equal(table[i].code, table[j].code);
            assert_string_not_equal(smt_strerror(table[i].code), smt_strerror(table[j].code));
        }
    }
}

static void test_numbers_outside_the_table(void **state)
{
    assert_string_equal(smt_error_name(0), "SMT_OK");
    assert_string_equal(smt_error_name(17), "SMT_OK");
    assert_string_equal(smt_strerror(0), "success");
    assert_string_equal(smt_error_name(-1), "SMT_E?");
    assert_string_equal(smt_strerror(-1), "unknown error");
    assert_string_equal(smt_error_name(INT32_MIN), "SMT_E?");
}

static void test_numbers_are_for_ever(void **state)
{
    assert_int_equal(SMT_EINVAL, -101);
    assert_int_equal(SMT_EAGAIN, -201);
    assert_int_equal(SMT_ENOMEM, -203);
    assert_int_equal(SMT_EMAYBE, -303);
    assert_int_equal(SMT_EAUTH, -401);
    assert_int_equal(SMT_EDEVICE, -501);
    assert_int_equal(SMT_EINTERNAL, -901);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_a_name_and_a_text),
        cmocka_unit_test(test_numbers_outside_the_table),
        cmocka_unit_test(test_numbers_are_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
