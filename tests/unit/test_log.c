/* The log sink: levels, cutting, silence. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"

struct sink {
    unsigned n;
    int level;
    char msg[2 * SMT_LOG_LINE_LEN];
};

static void sink_take(void *arg, int level, const char *msg)
{
    struct sink *s = arg;
    s->n++;
    s->level = level;
    strcpy(s->msg, msg);
}

static void test_levels(void **state)
{
    struct sink s = {0};
    struct smt_log log = {.fn = sink_take, .arg = &s, .level = SMT_LOGLVL_WARN};
    smt_log_emit(&log, SMT_LOGLVL_INFO, "not %s", "me");
    assert_int_equal(s.n, 0);
    smt_log_emit(&log, SMT_LOGLVL_WARN, "%s %d", "peer", 7);
    assert_int_equal(s.n, 1);
    assert_int_equal(s.level, SMT_LOGLVL_WARN);
    assert_string_equal(s.msg, "peer 7");
    smt_log_emit(&log, SMT_LOGLVL_ERROR, "x");
    assert_int_equal(s.n, 2);
}

static void test_no_sink(void **state)
{
    struct smt_log log = {.level = SMT_LOGLVL_DEBUG};
    smt_log_emit(&log, SMT_LOGLVL_ERROR, "%d", 1);
    smt_log_emit(NULL, SMT_LOGLVL_ERROR, "%d", 1);
}

static void test_long_lines_are_cut(void **state)
{
    char text[2 * SMT_LOG_LINE_LEN];
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = 0;
    struct sink s = {0};
    struct smt_log log = {.fn = sink_take, .arg = &s, .level = SMT_LOGLVL_DEBUG};
    smt_log_emit(&log, SMT_LOGLVL_DEBUG, "%s", text);
    assert_int_equal(s.n, 1);
    assert_int_equal(strlen(s.msg), SMT_LOG_LINE_LEN - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_no_sink),
        cmocka_unit_test(test_long_lines_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
