/* The resolve exchange without sockets: bytes, proofs, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "dev/ud_resolve.h"
#include "dev/ud_spec.h"

static const struct smt_ud_msg sound = {
    .kind = SMT_UD_ANSWER,
    .link = SMT_UD_LINK_ROCE,
    .port = 18515,
    .mtu = 4096,
    .qpn = 0x123456,
    .qkey = 0x7abcdef0,
    .gid = {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1},
    .nonce = 0x1122334455667788,
    .echo = 0x99aabbccddeeff01,
};

/* By their bytes: between the members of the struct there are some of no meaning. */
static void assert_same(const struct smt_ud_msg *a, const struct smt_ud_msg *b)
{
    uint8_t x[SMT_UD_MSG_LEN], y[SMT_UD_MSG_LEN];
    smt_ud_msg_build(a, x);
    smt_ud_msg_build(b, y);
    assert_memory_equal(x, y, sizeof(x));
}

static void test_bytes(void **state)
{
    static const uint8_t wanted[SMT_UD_MSG_LEN] = {
        'S',  'M',  'U',  'U',  1,    2,    1,    0,    0x48, 0x53, 0,    0,    0,    0,
        0x10, 0,    0,    0x12, 0x34, 0x56, 0x7a, 0xbc, 0xde, 0xf0, 0,    0,    0,    0,
        0,    0,    0,    0,    0,    0,    0xff, 0xff, 192,  0,    2,    1,    0x11, 0x22,
        0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x01,
    };
    uint8_t bytes[SMT_UD_MSG_LEN];
    memset(bytes, 0xee, sizeof(bytes));
    smt_ud_msg_build(&sound, bytes);
    assert_memory_equal(bytes, wanted, sizeof(wanted));
    struct smt_ud_msg back;
    assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &back), 0);
    assert_same(&back, &sound);
}

static void test_kinds_and_links(void **state)
{
    for (unsigned kind = 0; kind < 256; kind++) {
        for (unsigned link = 0; link < 256; link++) {
            struct smt_ud_msg m = sound, back;
            uint8_t bytes[SMT_UD_MSG_LEN];
            m.kind = (uint8_t)kind;
            m.link = (uint8_t)link;
            m.lid = link == SMT_UD_LINK_IB ? 7 : 0;
            m.echo = kind == SMT_UD_QUERY ? 0 : 5;
            smt_ud_msg_build(&m, bytes);
            bool good = kind >= 1 && kind <= 3 && link >= 1 && link <= 2;
            assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &back),
                             good ? 0 : SMT_EMALFORMED);
        }
    }
}

/* Each field out of its range, one at a time. */
static void test_every_field_wrong(void **state)
{
    static const struct {
        uint8_t at, len;
        uint64_t value;
        int code;
    } table[] = {
        {0, 4, 0x534d5554, SMT_EMALFORMED}, /* magic */
        {4, 1, 0, SMT_EVERSION},
        {4, 1, 2, SMT_EVERSION},
        {5, 1, 0, SMT_EMALFORMED},
        {5, 1, 4, SMT_EMALFORMED},
        {5, 1, SMT_UD_QUERY, SMT_EMALFORMED}, /* with an echo */
        {6, 1, 0, SMT_EMALFORMED},
        {6, 1, SMT_UD_LINK_IB, SMT_EMALFORMED}, /* without a LID */
        {8, 2, 0, SMT_EMALFORMED},
        {10, 2, 1, SMT_EMALFORMED}, /* LID on RoCE */
        {12, 4, 0, SMT_EMALFORMED},
        {12, 4, 128, SMT_EMALFORMED},
        {12, 4, 1500, SMT_EMALFORMED},
        {12, 4, 8192, SMT_EMALFORMED},
        {12, 4, 0x10001000, SMT_EMALFORMED},
        {16, 4, 0, SMT_EMALFORMED},
        {16, 4, 1, SMT_EMALFORMED},
        {16, 4, 0xffffff, SMT_EMALFORMED}, /* multicast */
        {16, 4, 0x1000002, SMT_EMALFORMED},
        {20, 4, 0x80000000, SMT_EMALFORMED}, /* privileged */
        {24, 1, 0xff, SMT_EMALFORMED},       /* multicast */
        {40, 8, 0, SMT_EMALFORMED},
        {48, 8, 0, SMT_EMALFORMED},
        {56, 2, 0x0100, SMT_EMALFORMED}, /* one of none, of one, beyond the last */
        {56, 2, 0x0001, SMT_EMALFORMED},
        {56, 2, 0x0404, SMT_EMALFORMED},
        {56, 2, 0xffff, SMT_EMALFORMED},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(table); i++) {
        uint8_t bytes[SMT_UD_MSG_LEN];
        smt_ud_msg_build(&sound, bytes);
        for (unsigned k = 0; k < table[i].len; k++)
            bytes[table[i].at + k] = (uint8_t)(table[i].value >> 8 * (table[i].len - 1 - k));
        struct smt_ud_msg out;
        memset(&out, 0x5a, sizeof(out));
        assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &out), table[i].code);
        for (unsigned k = 0; k < sizeof(out); k++)
            assert_int_equal(((const uint8_t *)&out)[k], 0x5a);
    }
    struct smt_ud_msg no_gid = sound;
    memset(no_gid.gid, 0, sizeof(no_gid.gid));
    uint8_t bytes[SMT_UD_MSG_LEN];
    smt_ud_msg_build(&no_gid, bytes);
    assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &no_gid), SMT_EMALFORMED);
}

static void test_lengths(void **state)
{
    uint8_t bytes[SMT_UD_MSG_LEN + 8] = {0};
    struct smt_ud_msg out;
    smt_ud_msg_build(&sound, bytes);
    for (size_t len = 0; len <= sizeof(bytes); len++)
        assert_int_equal(smt_ud_msg_parse(bytes, len, &out),
                         len == SMT_UD_MSG_LEN ? 0 : SMT_EMALFORMED);
}

/* The last six bytes are for later and not looked at; the byte before the port in a QUERY only. */
static void test_spare_bytes(void **state)
{
    uint8_t bytes[SMT_UD_MSG_LEN];
    struct smt_ud_msg out;
    smt_ud_msg_build(&sound, bytes);
    bytes[7] = 0xaa;
    memset(bytes + 58, 0xbb, 6);
    assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &out), 0);
    assert_same(&out, &sound);
    bytes[5] = SMT_UD_QUERY;
    memset(bytes + 48, 0, 8);
    assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &out), 0);
    assert_int_equal(out.wanted, 0xaa);
    bytes[56] = 254;
    bytes[57] = 255;
    assert_int_equal(smt_ud_msg_parse(bytes, sizeof(bytes), &out), 0);
    assert_int_equal(out.number, 254);
    assert_int_equal(out.share, 255);
}

/* The 8-byte row of the published test values (key 00 01 … 0f, input 00 01 …); the others made with
 * `openssl mac -macopt size:8 SIPHASH`. */
static void test_siphash(void **state)
{
    static const uint64_t key[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    static const uint64_t words[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    assert_true(smt_ud_siphash(key, words, 0) == 0x726fdb47dd0e0e31);
    assert_true(smt_ud_siphash(key, words, 1) == 0x93f5f5799a932462);
    assert_true(smt_ud_siphash(key, words, 2) == 0x3f2acc7f57c29bdb);
}

static void test_cookie(void **state)
{
    const struct smt_ud_cookie c = {{1, 2}}, other = {{1, 3}};
    struct smt_addr a = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1}, .port = 5};
    uint64_t now = 100 * SMT_SEC;
    uint64_t nonce = smt_ud_cookie_make(&c, &a, now);
    assert_true(smt_ud_cookie_check(&c, &a, now, nonce));
    assert_true(smt_ud_cookie_check(&c, &a, now + 8 * SMT_SEC, nonce));
    assert_false(smt_ud_cookie_check(&c, &a, now + 16 * SMT_SEC, nonce));
    assert_false(smt_ud_cookie_check(&c, &a, now - 8 * SMT_SEC, nonce));
    assert_false(smt_ud_cookie_check(&other, &a, now, nonce));
    assert_false(smt_ud_cookie_check(&c, &a, now, 0));
    assert_false(smt_ud_cookie_check(&c, &a, now, nonce ^ 1ull << 63));
    struct smt_addr b = a;
    b.port = 6;
    assert_false(smt_ud_cookie_check(&c, &b, now, nonce));
    b = a;
    b.ip[15] = 2;
    assert_false(smt_ud_cookie_check(&c, &b, now, nonce));
    b = a;
    b.scope = 3;
    assert_false(smt_ud_cookie_check(&c, &b, now, nonce));
    /* The first slot has no slot before it. */
    assert_true(smt_ud_cookie_check(&c, &a, 0, smt_ud_cookie_make(&c, &a, 0)));
}

static void test_bucket(void **state)
{
    struct smt_ud_bucket b;
    smt_ud_bucket_init(&b, 1000, 10, SMT_SEC);
    unsigned n = 0;
    while (smt_ud_bucket_take(&b, SMT_SEC))
        n++;
    assert_int_equal(n, 10);
    assert_false(smt_ud_bucket_take(&b, SMT_SEC + 999 * SMT_USEC));
    assert_true(smt_ud_bucket_take(&b, SMT_SEC + SMT_MSEC));
    assert_false(smt_ud_bucket_take(&b, SMT_SEC + SMT_MSEC));
    /* A clock that goes back gives nothing. */
    assert_false(smt_ud_bucket_take(&b, 0));
    n = 0;
    while (smt_ud_bucket_take(&b, 1000 * SMT_SEC))
        n++;
    assert_int_equal(n, 10);
}

static void test_spec(void **state)
{
    static const struct {
        const char *spec, *name;
        int gid, port, qps;
    } good[] = {
        {"ud", "", -1, 0, 1},
        {"ud:rxe0", "rxe0", -1, 0, 1},
        {"ud:mlx5_0,port=2,gid=3,qps=8", "mlx5_0", 3, 2, 8},
        {"ud:,gid=0", "", 0, 0, 1},
        {"ud,gid=7", "", 7, 0, 1},
        {"ud:eth0.5,gid=1,gid=255", "eth0.5", 255, 0, 1},
    };
    struct smt_ud_spec s;
    char text[256];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(good); i++) {
        assert_int_equal(smt_ud_spec_parse(good[i].spec, &s, text, sizeof(text)), 0);
        assert_string_equal(s.name, good[i].name);
        assert_int_equal(s.gid, good[i].gid);
        assert_int_equal(s.port, good[i].port);
        assert_int_equal(s.n_qps, good[i].qps);
    }
    static const char *const bad[] = {
        "ud:",
        "ud,",
        "ud:rxe0,",
        "ud:rxe0,gid",
        "ud:rxe0,gid=",
        "ud:rxe0,gid=x",
        "ud:rxe0,gid=-1",
        "ud:rxe0,gid=256",
        "ud:rxe0,port=0",
        "ud:rxe0,port=256",
        "ud:rxe0,qps=0",
        "ud:rxe0,qps=9",
        "ud:rxe0,qps=2x",
        "ud:rxe0,sl=3",
        "ud:rxe0,,gid=1",
        "ud:rxe0,gid=00000000001",
        "ud:rxe0,a_very_long_option_that_does_not_end=1",
        "ud:a_name_that_is_longer_than_sixty_three_characters_cannot_be_a_device",
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(bad); i++) {
        text[0] = '\0';
        assert_int_equal(smt_ud_spec_parse(bad[i], &s, text, sizeof(text)), SMT_EINVAL);
        assert_true(strlen(text) > 10);
    }
    assert_int_equal(smt_ud_spec_parse("ud:rxe0,sl=3", &s, text, sizeof(text)), SMT_EINVAL);
    assert_non_null(strstr(text, "port=N, gid=N, qps=N"));
    assert_int_equal(smt_ud_spec_parse("ud:", &s, NULL, 0), SMT_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_kinds_and_links),
        cmocka_unit_test(test_every_field_wrong),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_spare_bytes),
        cmocka_unit_test(test_siphash),
        cmocka_unit_test(test_cookie),
        cmocka_unit_test(test_bucket),
        cmocka_unit_test(test_spec),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
