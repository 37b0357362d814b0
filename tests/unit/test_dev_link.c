/* The speed of a link: verbs' width and generation as Mb/s; none where nothing is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <infiniband/verbs.h>

#include "base/defs.h"
#include "dev/link.h"

static void test_verbs(void **state)
{
    static const struct {
        uint8_t speed, width;
        uint32_t mbps;
    } cases[] = {
        {1, 1, 2000},     {4, 2, 32000},    {8, 2, 40000},     {16, 2, 54544},
        {32, 1, 25000},   {32, 2, 100000},  {64, 16, 100000},  {64, 2, 200000},
        {128, 2, 400000}, {128, 8, 1200000}, {0, 2, 0},        {32, 0, 0},
        {32, 32, 0}, /* a width nobody knows */
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(cases); i++) {
        const struct ibv_port_attr port = {.active_speed = cases[i].speed,
                                           .active_width = cases[i].width};
        assert_int_equal(smt_verbs_mbps(&port), cases[i].mbps);
    }
}

static void test_interface(void **state)
{
    assert_int_equal(smt_link_mbps("lo"), 0);
    assert_int_equal(smt_link_mbps("none0"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verbs),
        cmocka_unit_test(test_interface),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
