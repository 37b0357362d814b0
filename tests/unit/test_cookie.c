/* Cookies and tokens against OpenSSL's own HMAC, in and out of their time, and with everything that
 * goes into them changed in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "hs/cookie.h"

static const uint64_t now_s = 1000000, id = 0x0123456789abcdef;

static const struct smt_cookie_key key = {.secret = "thirty-two bytes of test secret"};
static const struct smt_addr addr = {
    .ip = {[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 0, [14] = 2, [15] = 1},
    .port = 18515,
};

static void make(uint8_t out[SMT_COOKIE_LEN])
{
    assert_int_equal(smt_cookie_make(&key, now_s, &addr, id, out), 0);
}

static void test_layout(void **state)
{
    uint8_t cookie[SMT_COOKIE_LEN], mac[32];
    make(cookie);
    const uint8_t text[] = {
        0,    0,    0,    0,    0,    0x0f, 0x42, 0x40,                                 /* time */
        0,    0,    0,    0,    0,    0,    0,    0,    0, 0, 0xff, 0xff, 192, 0, 2, 1, /* ip */
        0x48, 0x53,                                                                     /* port */
        0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,                                 /* id */
    };
    unsigned len = sizeof(mac);
    assert_non_null(HMAC(EVP_sha256(), key.secret, 32, text, sizeof(text), mac, &len));
    assert_memory_equal(cookie, text, 8);
    assert_memory_equal(cookie + 8, mac, 24);
}

static void test_lifetime(void **state)
{
    uint8_t cookie[SMT_COOKIE_LEN];
    make(cookie);
    for (uint64_t age = 0; age <= SMT_COOKIE_LIFETIME_S; age++)
        assert_int_equal(smt_cookie_check(&key, now_s + age, &addr, id, cookie), 0);
    assert_int_equal(smt_cookie_check(&key, now_s + SMT_COOKIE_LIFETIME_S + 1, &addr, id, cookie),
                     SMT_EAUTH);
    assert_int_equal(smt_cookie_check(&key, now_s - 1, &addr, id, cookie), SMT_EAUTH);
    assert_int_equal(smt_cookie_check(&key, UINT64_MAX, &addr, id, cookie), SMT_EAUTH);
    assert_int_equal(smt_cookie_check(&key, 0, &addr, id, cookie), SMT_EAUTH);
}

static void test_every_bit_counts(void **state)
{
    uint8_t cookie[SMT_COOKIE_LEN];
    make(cookie);
    for (unsigned bit = 0; bit < 8 * SMT_COOKIE_LEN; bit++) {
        cookie[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(smt_cookie_check(&key, now_s + 1, &addr, id, cookie), SMT_EAUTH);
        cookie[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_int_equal(smt_cookie_check(&key, now_s + 1, &addr, id, cookie), 0);
}

static void test_bound_to_its_owner(void **state)
{
    uint8_t cookie[SMT_COOKIE_LEN];
    make(cookie);
    struct smt_addr other = addr;
    other.port++;
    assert_int_equal(smt_cookie_check(&key, now_s, &other, id, cookie), SMT_EAUTH);
    other = addr;
    other.ip[15]++;
    assert_int_equal(smt_cookie_check(&key, now_s, &other, id, cookie), SMT_EAUTH);
    assert_int_equal(smt_cookie_check(&key, now_s, &addr, id + 1, cookie), SMT_EAUTH);
    struct smt_cookie_key other_key = key;
    other_key.secret[31] ^= 1;
    assert_int_equal(smt_cookie_check(&other_key, now_s, &addr, id, cookie), SMT_EAUTH);
    other = addr;
    other.scope = 3; /* ours, not the peer's */
    assert_int_equal(smt_cookie_check(&key, now_s, &other, id, cookie), 0);
}

/* ---- tokens ---- */

static void token_make(uint8_t out[SMT_COOKIE_LEN])
{
    assert_int_equal(smt_token_make(&key, now_s, &addr, out), 0);
}

static void test_token_layout(void **state)
{
    uint8_t token[SMT_COOKIE_LEN], mac[32];
    token_make(token);
    const uint8_t text[] = {
        0x80, 0, 0, 0, 0, 0x0f, 0x42, 0x40,                     /* flag and time */
        0,    0, 0, 0, 0, 0,    0,    0,    0, 0, 0xff, 0xff, 192, 0, 2, 1, /* ip */
    };
    unsigned len = sizeof(mac);
    assert_non_null(HMAC(EVP_sha256(), key.secret, 32, text, sizeof(text), mac, &len));
    assert_memory_equal(token, text, 8);
    assert_memory_equal(token + 8, mac, 24);
}

static void test_token_lifetime(void **state)
{
    uint8_t token[SMT_COOKIE_LEN];
    token_make(token);
    const uint64_t good[] = {0, 1, SMT_TOKEN_LIFETIME_S};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(good); i++)
        assert_int_equal(smt_token_check(&key, now_s + good[i], &addr, token), 0);
    const uint64_t bad[] = {now_s + SMT_TOKEN_LIFETIME_S + 1, now_s - 1, 0, UINT64_MAX};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(bad); i++)
        assert_int_equal(smt_token_check(&key, bad[i], &addr, token), SMT_EAUTH);
}

/* Of a host, whatever its port; of nobody else; and every bit counts. */
static void test_token_bound_to_its_host(void **state)
{
    uint8_t token[SMT_COOKIE_LEN];
    token_make(token);
    struct smt_addr other = addr;
    other.port++;
    other.scope = 3;
    assert_int_equal(smt_token_check(&key, now_s, &other, token), 0);
    other.ip[15]++;
    assert_int_equal(smt_token_check(&key, now_s, &other, token), SMT_EAUTH);
    struct smt_cookie_key other_key = key;
    other_key.secret[0] ^= 1;
    assert_int_equal(smt_token_check(&other_key, now_s, &addr, token), SMT_EAUTH);
    for (unsigned bit = 0; bit < 8 * SMT_COOKIE_LEN; bit++) {
        token[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(smt_token_check(&key, now_s + 1, &addr, token), SMT_EAUTH);
        token[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void test_token_is_no_cookie(void **state)
{
    uint8_t token[SMT_COOKIE_LEN], cookie[SMT_COOKIE_LEN];
    token_make(token);
    make(cookie);
    assert_int_equal(smt_cookie_check(&key, now_s, &addr, id, token), SMT_EAUTH);
    assert_int_equal(smt_token_check(&key, now_s, &addr, cookie), SMT_EAUTH);
    token[0] ^= 0x80;
    cookie[0] ^= 0x80;
    assert_int_equal(smt_cookie_check(&key, now_s, &addr, id, token), SMT_EAUTH);
    assert_int_equal(smt_token_check(&key, now_s, &addr, cookie), SMT_EAUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_bound_to_its_owner),
        cmocka_unit_test(test_token_layout),
        cmocka_unit_test(test_token_lifetime),
        cmocka_unit_test(test_token_bound_to_its_host),
        cmocka_unit_test(test_token_is_no_cookie),
    };
    return cmocka_run_group_tests_name("cookie", tests, NULL, NULL);
}
