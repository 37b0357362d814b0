/* The key schedule against RFC 8448, RFC 4231 and an independent Python model.
 *
 * The expected bytes without an RFC number come from this (Python 3), with s = bytes(range(32)):
 *   def expand_label(secret, label, context, n):
 *       l = b"tls13 " + label
 *       info = n.to_bytes(2, "big") + bytes([len(l)]) + l + bytes([len(context)]) + context
 *       t = out = b""
 *       i = 1
 *       while len(out) < n:
 *           t = hmac.new(secret, t + info + bytes([i]), hashlib.sha256).digest()
 *           out += t
 *           i += 1
 *       return out[:n]
 *   own = expand_label(s, b"smt2 i data", b"", 32)
 *   expand_label(own, b"key", b"", 16), expand_label(own, b"iv", b"", 4)
 *   expand_label(s, b"smt2 upd", b"", 32) */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/schedule.h"

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return n;
}

static void check_hex(const uint8_t *got, const char *want_hex)
{
    uint8_t want[256];
    size_t n = unhex(want_hex, want);
    assert_memory_equal(got, want, n);
}

static const uint8_t counting[SMT_SECRET_LEN] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                                 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                                 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

/* RFC 8448 section 3: the server's handshake write key, and "derived" with a context. */
static void test_rfc8448(void **state)
{
    uint8_t secret[32], context[32], out[32];
    unhex("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38", secret);
    assert_int_equal(smt_hkdf_expand_label(secret, "key", NULL, 0, out, 16), 0);
    check_hex(out, "3fce516009c21727d0f2e4e86ee403bc");
    assert_int_equal(smt_hkdf_expand_label(secret, "iv", NULL, 0, out, 12), 0);
    check_hex(out, "5d313eb2671276ee13000b30");

    unhex("33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a", secret);
    assert_int_equal(smt_sha256(NULL, 0, context), 0);
    assert_int_equal(smt_hkdf_expand_label(secret, "derived", context, 32, out, 32), 0);
    check_hex(out, "6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba");
}

static void test_several_blocks(void **state)
{
    uint8_t out[80];
    assert_int_equal(
        smt_hkdf_expand_label(counting, "long", (const uint8_t *)"context", 7, out, 80), 0);
    check_hex(out, "39d70f9716c0e08848dc7838d8329244e323d81054cb9363f8d5927b3fc596c8"
                   "fca8d205e7af53996a89b8e72d5ceb33f93ae4b35634c0f1b0a0d0dbfb557db5"
                   "9e0cf34582290b361ed8db9e0caeee53");
}

static void test_expand_label_limits(void **state)
{
    static uint8_t out[255 * 32 + 1];
    static const uint8_t context[256];
    char label[256];
    memset(label, 'x', sizeof(label));
    label[249] = 0;
    assert_int_equal(smt_hkdf_expand_label(counting, label, NULL, 0, out, 32), 0);
    label[249] = 'x';
    label[250] = 0;
    assert_int_equal(smt_hkdf_expand_label(counting, label, NULL, 0, out, 32), SMT_EINVAL);
    assert_int_equal(smt_hkdf_expand_label(counting, "", NULL, 0, out, 32), SMT_EINVAL);
    assert_int_equal(smt_hkdf_expand_label(counting, "x", context, 255, out, 32), 0);
    assert_int_equal(smt_hkdf_expand_label(counting, "x", context, 256, out, 32), SMT_EINVAL);
    assert_int_equal(smt_hkdf_expand_label(counting, "x", NULL, 0, out, 255 * 32), 0);
    assert_int_equal(smt_hkdf_expand_label(counting, "x", NULL, 0, out, 255 * 32 + 1), SMT_EINVAL);
    assert_int_equal(smt_hkdf_expand_label(counting, "x", NULL, 0, out, 0), SMT_EINVAL);
}

static void check_key(const struct smt_key *key, const char *key_hex, const char *salt_hex)
{
    static const uint8_t zeros[SMT_AEAD_MAX_KEY_LEN];
    size_t len = strlen(key_hex) / 2;
    check_hex(key->key, key_hex);
    check_hex(key->salt, salt_hex);
    assert_memory_equal(key->key + len, zeros, SMT_AEAD_MAX_KEY_LEN - len);
}

static void test_epoch_keys(void **state)
{
    struct smt_epoch_keys keys;
    memset(&keys, 0xee, sizeof(keys));
    assert_int_equal(smt_schedule_keys(counting, 16, &keys), 0);
    check_key(&keys.i_data, "f8d10fa8aac09f8aaa691a0c1f88efb7", "a0c393f0");
    check_key(&keys.r_data, "1e47c473442580407b6256e3b340d825", "2b822f2c");
    check_key(&keys.i_ctrl, "bfaa023b2df0093be7fb822db0402cc3", "771c4006");
    check_key(&keys.r_ctrl, "223f780a0e6a3132e368ebf008a1f412", "50b372ef");

    assert_int_equal(smt_schedule_keys(counting, 32, &keys), 0);
    check_key(&keys.i_data, "917c90c02ef206fb27ed69e9d46526989bf1a2350591fe8f3762c482c201de58",
              "a0c393f0");
    check_key(&keys.r_data, "144cb5bd5e231947889b3aafb79a21213cffcdfd1633fde537e5235edb333cb5",
              "2b822f2c");
    check_key(&keys.i_ctrl, "9d8c4a4812d5a17101ce0538d0c42bf41159330abfa94ed5dfd4dfd0f9b9514a",
              "771c4006");
    check_key(&keys.r_ctrl, "c06b853005592ff4321e5f3e9ecaa3738cf973a8b9dac2cc58a6710e2ea637a4",
              "50b372ef");

    assert_int_equal(smt_schedule_keys(counting, 24, &keys), SMT_EINVAL);
    assert_int_equal(smt_schedule_keys(counting, 0, &keys), SMT_EINVAL);
}

static void test_next_epoch(void **state)
{
    uint8_t secret[SMT_SECRET_LEN], out[SMT_SECRET_LEN];
    assert_int_equal(smt_schedule_next(counting, out), 0);
    check_hex(out, "ed34950c1dc8d3e4cb9b1a77fb39923c8383b0370da1799756efbe0b35917467");
    memcpy(secret, counting, sizeof(secret));
    assert_int_equal(smt_schedule_next(secret, secret), 0);
    assert_memory_equal(secret, out, sizeof(secret));
    assert_int_equal(smt_schedule_next(secret, secret), 0);
    check_hex(secret, "fac06fb7c1fd55b6538494546cc59c798ae69d78cac3448fbff1a2eeefe20945");
}

static void test_sha256(void **state)
{
    uint8_t out[32];
    assert_int_equal(smt_sha256(NULL, 0, out), 0);
    check_hex(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    struct smt_aead_in in[] = {{(const uint8_t *)"a", 1}, {NULL, 0}, {(const uint8_t *)"bc", 2}};
    assert_int_equal(smt_sha256(in, 3, out), 0);
    check_hex(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* RFC 4231 test cases 1, 2, 6 (a key longer than a block) and 7, whole and in pieces. */
static void test_hmac_sha256(void **state)
{
    static const struct {
        const char *key, *text, *mac;
        size_t n_aa; /* this many bytes 0xaa instead of `key` */
    } cases[] = {
        {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "Hi There",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", 0},
        {"4a656665", "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 0},
        {"", "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54", 131},
        {"",
         "This is a test using a larger than block-size key and a larger than block-size data. "
         "The key needs to be hashed before being used by the HMAC algorithm.",
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2", 131},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(cases); i++) {
        uint8_t key[131], mac[32];
        memset(key, 0xaa, sizeof(key));
        size_t key_len = cases[i].n_aa > 0 ? cases[i].n_aa : unhex(cases[i].key, key);
        const uint8_t *text = (const uint8_t *)cases[i].text;
        size_t len = strlen(cases[i].text);
        struct smt_aead_in whole = {text, len};
        assert_int_equal(smt_hmac_sha256(key, key_len, &whole, 1, mac), 0);
        check_hex(mac, cases[i].mac);
        struct smt_aead_in in[] = {{text, 3}, {text + 3, 0}, {text + 3, len - 3}};
        memset(mac, 0, sizeof(mac));
        assert_int_equal(smt_hmac_sha256(key, key_len, in, 3, mac), 0);
        check_hex(mac, cases[i].mac);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc8448),
        cmocka_unit_test(test_several_blocks),
        cmocka_unit_test(test_expand_label_limits),
        cmocka_unit_test(test_epoch_keys),
        cmocka_unit_test(test_next_epoch),
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_hmac_sha256),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
