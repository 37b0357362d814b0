/* Addresses as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "dev/dev.h"

static void test_texts(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1:18515"},
        {"192.0.2.1:1", "192.0.2.1:1"},
        {"192.0.2.1:65535", "192.0.2.1:65535"},
        {"[2001:db8::1]", "[2001:db8::1]:18515"},
        {"[2001:db8::1]:443", "[2001:db8::1]:443"},
        {"2001:db8::1", "[2001:db8::1]:18515"},
        {"2001:DB8:0:0:0:0:0:1", "[2001:db8::1]:18515"},
        {"::", "[::]:18515"},
        {"::1", "[::1]:18515"},
        {"[::1]:7", "[::1]:7"},
        {"::ffff:192.0.2.1", "192.0.2.1:18515"},
        {"[::ffff:192.0.2.1]:9", "192.0.2.1:9"},
        {"fe80::1%lo", "[fe80::1%lo]:18515"},
        {"[fe80::1%lo]:5", "[fe80::1%lo]:5"},
        {"fe80::1%1", "[fe80::1%lo]:18515"},
        {"2001:db8::1%lo", "[2001:db8::1]:18515"},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct smt_addr a;
        char text[80];
        assert_int_equal(smt_dev_resolve(rows[i].in, 18515, &a, 1), 1);
        smt_dev_addr_text(&a, text, sizeof(text));
        assert_string_equal(text, rows[i].out);
        struct smt_addr again;
        assert_int_equal(smt_dev_resolve(text, 1, &again, 1), 1);
        assert_true(smt_addr_equal(&a, &again));
    }
}

static void test_bytes(void **state)
{
    struct smt_addr a;
    assert_int_equal(smt_dev_resolve("127.0.0.1:258", 0, &a, 1), 1);
    static const uint8_t ip4[16] = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1};
    assert_memory_equal(a.ip, ip4, 16);
    assert_int_equal(a.port, 258);
    assert_int_equal(a.scope, 0);
    assert_true(smt_addr_is_ipv4(&a));
    assert_int_equal(smt_dev_resolve("[fe80::1%lo]:1", 0, &a, 1), 1);
    assert_int_equal(a.scope, if_nametoindex("lo"));
    assert_false(smt_addr_is_ipv4(&a));
    /* Without a port in text or default: 0, which is "any" to who binds. */
    assert_int_equal(smt_dev_resolve("::1", 0, &a, 1), 1);
    assert_int_equal(a.port, 0);
}

static void test_refused(void **state)
{
    static const char *const texts[] = {
        "",
        ":",
        ":80",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:99999999999",
        "192.0.2.1:+1",
        "192.0.2.1: 1",
        "192.0.2.1:1x",
        "[::1",
        "[]:1",
        "[::1]x",
        "[::1]1",
        "[::1]:",
        "[::1]:0",
        "[192.0.2.1]:1",
        "::1::2",
        "1:2:3",
        "fe80::1%nosuchinterface",
        "fe80::1%",
        "name with blank:1",
    };
    struct smt_addr a;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(texts); i++)
        assert_int_equal(smt_dev_resolve(texts[i], 18515, &a, 1), SMT_ENAME);
    assert_int_equal(smt_dev_resolve(NULL, 18515, &a, 1), SMT_ENAME);
    char longest[400];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(smt_dev_resolve(longest, 18515, &a, 1), SMT_ENAME);
}

static void test_names(void **state)
{
    struct smt_addr a[8];
    int n = smt_dev_resolve("localhost:77", 18515, a, 8);
    assert_in_range(n, 1, 8);
    for (int i = 0; i < n; i++) {
        assert_int_equal(a[i].port, 77);
        for (int k = 0; k < i; k++)
            assert_false(smt_addr_equal(&a[i], &a[k]));
    }
    assert_int_equal(smt_dev_resolve("localhost", 18515, a, 1), 1);
    assert_int_equal(a[0].port, 18515);
    assert_int_equal(smt_dev_resolve("localhost", 18515, a, 0), SMT_ENAME);
}

/* Also where no file and no server knows the name: a system fresh from debootstrap. */
static void test_localhost_needs_no_resolver(void **state)
{
    static const char *const names[] = {"LocalHost", "no-such-name.localhost"};
    struct smt_addr a[8];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(names); i++) {
        int n = smt_dev_resolve(names[i], 5, a, 8);
        assert_in_range(n, 1, 8);
        for (int k = 0; k < n; k++) {
            char text[80];
            smt_dev_addr_text(&a[k], text, sizeof(text));
            assert_true(strcmp(text, "127.0.0.1:5") == 0 || strcmp(text, "[::1]:5") == 0);
        }
        assert_int_equal(smt_dev_resolve(names[i], 5, a, 1), 1);
    }
    assert_int_equal(smt_dev_resolve(".localhost", 5, a, 8), SMT_ENAME);
    assert_int_equal(smt_dev_resolve("notlocalhost.invalid", 5, a, 8), SMT_ENAME);
}

static void test_text_is_cut_to_size(void **state)
{
    struct smt_addr a;
    assert_int_equal(smt_dev_resolve("192.0.2.111:12345", 0, &a, 1), 1);
    char text[8];
    memset(text, 'x', sizeof(text));
    smt_dev_addr_text(&a, text, 7);
    assert_string_equal(text, "192.0.");
    assert_int_equal(text[7], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_localhost_needs_no_resolver),
        cmocka_unit_test(test_text_is_cut_to_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
