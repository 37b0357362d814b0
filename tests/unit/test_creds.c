/* Credentials that are wrong in every way a user gets them wrong: each has its code and a line that
 * names the file and says what to do. What works is in test_hs. Then pins and key files alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include "base/mem.h"
#include "hs/cert_text.h"
#include "hs/hs.h"
#include "hs/pins.h"
#include "hs/psk.h"
#include "certs.h"

static struct test_dir dir;
static const enum smt_aead_alg algs[] = {SMT_AEAD_AES128_GCM, SMT_AEAD_AES256_GCM};

static void write_encrypted_key(const char *name, const struct test_identity *identity,
                                bool traditional)
{
    BIO *out = BIO_new_file(test_dir_path(&dir, name), "w");
    assert_non_null(out);
    const unsigned char pass[] = "secret";
    const EVP_CIPHER *cipher = EVP_aes_128_cbc();
    int ok =
        traditional
            ? PEM_write_bio_PrivateKey_traditional(out, identity->key, cipher, pass, 6, NULL, NULL)
            : PEM_write_bio_PrivateKey(out, identity->key, cipher, pass, 6, NULL, NULL);
    assert_int_equal(ok, 1);
    BIO_free(out);
}

static void write_joined(const char *name, const char *const *parts)
{
    char bytes[65536];
    size_t len = 0;
    for (; *parts != NULL; parts++) {
        FILE *f = fopen(test_dir_path(&dir, *parts), "r");
        assert_non_null(f);
        len += fread(bytes + len, 1, sizeof(bytes) - 1 - len, f);
        fclose(f);
    }
    bytes[len] = '\0';
    test_dir_write(&dir, name, bytes);
}

static void write_long_chain(const struct test_identity *ca, const struct test_identity *server)
{
    enum { N = 100 };
    const struct test_identity *chain[N + 1] = {0};
    for (int i = 0; i < N; i++)
        chain[i] = ca;
    test_dir_write_identity(&dir, "long", server, chain);
}

static int setup(void **state)
{
    test_dir_make(&dir);
    struct test_identity ca =
        test_identity_make(&(struct test_cert_spec){.cn = "Test CA", .is_ca = true}, NULL);
    const struct {
        const char *name;
        struct test_cert_spec spec;
    } rows[] = {
        {"server", {.cn = "server"}},
        {"other", {.cn = "other"}},
        {"expired", {.cn = "old", .begin_s = -7200, .end_s = -60}},
        {"future", {.cn = "new", .begin_s = 3600, .end_s = 7200}},
        {"weak", {.cn = "weak", .key = "RSA-512"}},
    };
    test_dir_write_identity(&dir, "ca", &ca, NULL);
    for (size_t i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct test_identity made = test_identity_make(&rows[i].spec, &ca);
        test_dir_write_identity(&dir, rows[i].name, &made, NULL);
        if (i == 0) {
            write_encrypted_key("encrypted.key", &made, false);
            write_encrypted_key("traditional.key", &made, true);
            write_long_chain(&ca, &made);
        }
        test_identity_free(&made);
    }
    test_identity_free(&ca);
    test_dir_write(&dir, "empty", "");
    test_dir_write(&dir, "text", "not a certificate\n");
    test_dir_write(&dir, "damaged.pem",
                   "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    test_dir_write(&dir, "cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    write_joined("server_damaged.pem", (const char *[]){"server.pem", "damaged.pem", NULL});
    write_joined("chain_expired.pem", (const char *[]){"server.pem", "expired.pem", NULL});
    write_joined("both.pem", (const char *[]){"server.pem", "server.key", NULL});
    write_joined("key_first.pem", (const char *[]){"server.key", "server.pem", NULL});
    write_joined("ca_old_new.pem", (const char *[]){"expired.pem", "ca.pem", NULL});
    test_dir_write(&dir, "psk", "me:000102030405060708090a0b0c0d0e0f\n");
    return 0;
}

static int teardown(void **state)
{
    test_dir_remove(&dir);
    return 0;
}

static const char *path_of(const char *name)
{
    return name != NULL && name[0] != '/' ? test_dir_path(&dir, name) : name;
}

struct attempt {
    const char *cert, *key, *ca, *psk, *pins;
    int code;
    const char *words[3]; /* in the line */
};

static void check_attempt(const struct attempt *attempt)
{
    char text[512] = "";
    const struct smt_creds_config config = {
        .cert_file = path_of(attempt->cert),
        .key_file = path_of(attempt->key),
        .ca_file = path_of(attempt->ca),
        .psk_file = path_of(attempt->psk),
        .pins = attempt->pins,
        .algs = algs,
        .n_algs = 2,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    struct smt_creds *creds = NULL;
    int rc = smt_creds_new(&config, &creds);
    if (rc != attempt->code)
        fail_msg("got %d, want %d: %s", rc, attempt->code, text);
    for (size_t i = 0; i < SMT_ARRAY_LEN(attempt->words) && attempt->words[i] != NULL; i++)
        if (strstr(text, attempt->words[i]) == NULL)
            fail_msg("\"%s\" is not in \"%s\"", attempt->words[i], text);
    if (rc == 0)
        assert_string_equal(text, "");
    else
        assert_null(creds);
    assert_null(strchr(text, '\n'));
    assert_int_equal(ERR_peek_error(), 0);
    smt_creds_free(creds);
}

#define PIN "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

/* clang-format off: a row per attempt */
static const struct attempt attempts[] = {
    {.code = SMT_ECREDENTIALS, .words = {"no credentials", "cert_file and key_file", "psk_file"}},
    {.cert = "server.pem", .code = SMT_ECREDENTIALS, .words = {"server.pem", "give key_file"}},
    {.key = "server.key", .code = SMT_ECREDENTIALS, .words = {"server.key", "give cert_file"}},
    {.cert = "server.pem",
     .key = "server.key",
     .code = SMT_ECREDENTIALS,
     .words = {"nothing to verify peers with", "ca_file or pins"}},
    {.cert = "server.pem",
     .key = "server.key",
     .ca = "ca.pem",
     .psk = "psk",
     .code = SMT_ECREDENTIALS,
     .words = {"more than one kind"}},
    {.pins = PIN, .psk = "psk", .code = SMT_ECREDENTIALS, .words = {"more than one kind"}},

    {.cert = "missing.pem",
     .key = "server.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"cert_file", "missing.pem", "No such file"}},
    {.cert = "server.pem",
     .key = "missing.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"key_file", "missing.key", "No such file"}},
    {.cert = "server.pem",
     .key = "server.key",
     .ca = "missing.pem",
     .code = SMT_EFILE,
     .words = {"ca_file", "missing.pem", "No such file"}},
    {.psk = "missing", .code = SMT_EFILE, .words = {"psk_file", "missing", "No such file"}},
    {.ca = "/tmp", .code = SMT_EFILE, .words = {"/tmp", "directory"}},
    {.ca = "/dev/zero", .code = SMT_EFILE, .words = {"/dev/zero", "longer than"}},

    {.cert = "empty",
     .key = "server.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"no certificate in cert_file", "empty", "PEM"}},
    {.cert = "text",
     .key = "server.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"no certificate in cert_file", "BEGIN CERTIFICATE"}},
    {.cert = "server.key",
     .key = "server.pem",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"no certificate in cert_file", "server.key"}},
    {.cert = "damaged.pem",
     .key = "server.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"certificate 1 in cert_file", "damaged.pem", "damaged"}},
    {.cert = "cut.pem",
     .key = "server.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"certificate 1 in cert_file", "cut.pem", "damaged"}},
    {.cert = "server_damaged.pem",
     .key = "server.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"certificate 2 in cert_file", "damaged"}},
    {.ca = "empty", .code = SMT_EFILE, .words = {"no certificate in ca_file", "empty"}},
    {.cert = "server.pem",
     .key = "server.pem",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"no private key in key_file", "server.pem", "BEGIN PRIVATE KEY"}},
    {.cert = "server.pem",
     .key = "empty",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"no private key in key_file", "empty"}},
    {.cert = "server.pem",
     .key = "encrypted.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"encrypted.key is encrypted", "openssl pkey -in"}},
    {.cert = "server.pem",
     .key = "traditional.key",
     .ca = "ca.pem",
     .code = SMT_EFILE,
     .words = {"traditional.key is encrypted"}},

    {.cert = "server.pem",
     .key = "other.key",
     .ca = "ca.pem",
     .code = SMT_ECREDENTIALS,
     .words = {"other.key does not belong", "server.pem"}},
    {.cert = "expired.pem",
     .key = "expired.key",
     .ca = "ca.pem",
     .code = SMT_EEXPIRED,
     .words = {"expired", "expired.pem (CN=old) on 20", "renew it"}},
    {.cert = "future.pem",
     .key = "future.key",
     .ca = "ca.pem",
     .code = SMT_EEXPIRED,
     .words = {"not yet valid", "future.pem (CN=new) begins on 20", "clock"}},
    {.cert = "chain_expired.pem",
     .key = "server.key",
     .ca = "ca.pem",
     .code = SMT_EEXPIRED,
     .words = {"expired", "(CN=old)"}},
    {.ca = "expired.pem", .code = SMT_EEXPIRED, .words = {"ca_file", "expired.pem", "renew it"}},
    {.cert = "long.pem",
     .key = "long.key",
     .ca = "ca.pem",
     .code = SMT_ECREDENTIALS,
     .words = {"long.pem", "bytes of certificates"}},
    {.cert = "weak.pem",
     .key = "weak.key",
     .ca = "ca.pem",
     .code = SMT_ECREDENTIALS,
     .words = {"weak.pem cannot be used", "too small"}},

    {.pins = "", .code = SMT_ECREDENTIALS, .words = {"pins is empty"}},
    {.pins = "md5//AAAA", .code = SMT_ECREDENTIALS, .words = {"\"md5//AAAA\"", "sha256//BASE64"}},

    {.cert = "server.pem", .key = "server.key", .ca = "ca.pem"},
    {.cert = "server.pem", .key = "server.key", .pins = PIN},
    {.cert = "server.pem", .key = "server.key", .ca = "ca.pem", .pins = PIN},
    {.cert = "both.pem", .key = "both.pem", .ca = "ca.pem"},
    {.cert = "key_first.pem", .key = "key_first.pem", .ca = "ca_old_new.pem"},
    {.ca = "ca.pem"},
    {.pins = PIN},
    {.psk = "psk"},
};
/* clang-format on */

static void test_attempts(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    for (size_t i = 0; i < SMT_ARRAY_LEN(attempts); i++)
        check_attempt(&attempts[i]);
    assert_int_equal(smt_mem_live().n_live, before.n_live);
}

static void test_no_text_wanted(void **state)
{
    const struct smt_creds_config config = {.algs = algs, .n_algs = 2};
    struct smt_creds *creds = NULL;
    assert_int_equal(smt_creds_new(&config, &creds), SMT_ECREDENTIALS);
    char one[1] = {'x'};
    struct smt_creds_config short_text = config;
    short_text.error_text = one;
    short_text.error_text_len = 1;
    assert_int_equal(smt_creds_new(&short_text, &creds), SMT_ECREDENTIALS);
    assert_int_equal(one[0], '\0');
}

static void test_ciphers(void **state)
{
    struct smt_creds *creds = NULL;
    char text[256];
    struct smt_creds_config config = {
        .psk_file = path_of("psk"),
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    assert_int_equal(smt_creds_new(&config, &creds), SMT_EINVAL);
    assert_non_null(strstr(text, "no cipher"));
    config.algs = (const enum smt_aead_alg[]){SMT_AEAD_AES128_GCM, SMT_AEAD_NONE};
    config.n_algs = 2;
    assert_int_equal(smt_creds_new(&config, &creds), SMT_EINVAL);
    assert_non_null(strstr(text, "cipher number 0 is unknown"));
}

static void test_app_ctx_refused(void **state)
{
    struct smt_creds *creds = NULL;
    char text[256];
    SSL_CTX *old = SSL_CTX_new(DTLS_method());
    struct smt_creds_config config = {
        .ssl_ctx = old,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    assert_int_equal(smt_creds_new(&config, &creds), SMT_ECREDENTIALS);
    assert_non_null(strstr(text, "TLS_method()"));
    SSL_CTX_free(old);

    SSL_CTX *taken = SSL_CTX_new(TLS_method());
    assert_int_equal(
        SSL_CTX_add_custom_ext(taken, 0xff53, SSL_EXT_CLIENT_HELLO, NULL, NULL, NULL, NULL, NULL),
        1);
    config.ssl_ctx = taken;
    assert_int_equal(smt_creds_new(&config, &creds), SMT_ECREDENTIALS);
    assert_non_null(strstr(text, "extension 0xff53 of its own"));
    config.psk_file = path_of("psk");
    assert_int_equal(smt_creds_new(&config, &creds), SMT_ECREDENTIALS);
    assert_non_null(strstr(text, "more than one kind"));
    SSL_CTX_free(taken);
    assert_null(creds);
}

/* Characters that a terminal would act on do not come through. */
static void test_text_is_clean(void **state)
{
    char text[256];
    struct smt_creds *creds = NULL;
    const struct smt_creds_config config = {
        .ca_file = "/nowhere/\x1b[31m\n.pem",
        .algs = algs,
        .n_algs = 2,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    assert_int_equal(smt_creds_new(&config, &creds), SMT_EFILE);
    assert_non_null(strstr(text, "/nowhere/?[31m?.pem"));
}

/* ---- pins ---- */

static void test_pins(void **state)
{
    static const struct {
        const char *text;
        int n; /* or a code */
    } rows[] = {
        {PIN, 1},
        {PIN ";" PIN, 2},
        {" " PIN " ;\n" PIN ";", 2},
        {";;" PIN ";", 1},
        {";", SMT_ECREDENTIALS},
        {"   ", SMT_ECREDENTIALS},
        {"sha256//", SMT_ECREDENTIALS},
        {"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SMT_ECREDENTIALS},
        {"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=", SMT_ECREDENTIALS},
        {"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", SMT_ECREDENTIALS},
        {"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", SMT_ECREDENTIALS},
        {"sha256//AAAAAAAAAAAAAAAAAA AAAAAAAAAAAAAAAAAAAAAAAA=", SMT_ECREDENTIALS},
        {"SHA256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", SMT_ECREDENTIALS},
        {PIN PIN, SMT_ECREDENTIALS},
        {PIN ",", SMT_ECREDENTIALS},
    };
    for (size_t i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct smt_pins pins = {0};
        char text[256] = "";
        const struct smt_error_line line = {.text = text, .cap = sizeof(text)};
        int rc = smt_pins_parse(rows[i].text, &line, &pins);
        int got = rc < 0 ? rc : (int)pins.n;
        if (got != rows[i].n)
            fail_msg("\"%s\": %d, want %d (%s)", rows[i].text, got, rows[i].n, text);
        assert_true(rc == 0 || strlen(text) > 0);
        smt_pins_free(&pins);
    }
}

static void test_pins_match(void **state)
{
    static const char text[] = PIN ";sha256//AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    const struct smt_error_line line = {0};
    struct smt_pins pins = {0};
    assert_int_equal(smt_pins_parse(text, &line, &pins), 0);
    uint8_t hash[32] = {0};
    assert_true(smt_pins_match(&pins, hash));
    hash[31] = 1;
    assert_false(smt_pins_match(&pins, hash));
    for (int i = 0; i < 32; i++)
        hash[i] = (uint8_t)(i + 1);
    assert_true(smt_pins_match(&pins, hash));
    smt_pins_free(&pins);
}

static void test_pins_too_many(void **state)
{
    size_t len = (size_t)(SMT_PINS_MAX + 1);
    char *many = malloc(len + 1);
    memset(many, ';', len);
    many[len] = '\0';
    struct smt_pins pins = {0};
    const struct smt_error_line line = {0};
    assert_int_equal(smt_pins_parse(many, &line, &pins), SMT_ECREDENTIALS);
    free(many);
}

/* ---- pre-shared keys ---- */

#define KEY16 "00112233445566778899aabbccddeeff"

static void check_psk(const char *text, int want, const char *words)
{
    const char *path = test_dir_write(&dir, "psk_under_test", text);
    char said[256] = "";
    const struct smt_error_line line = {.text = said, .cap = sizeof(said)};
    struct smt_psk_list list = {0};
    int rc = smt_psk_list_read(path, &line, &list);
    int got = rc < 0 ? rc : (int)list.n;
    if (got != want || strstr(said, words) == NULL)
        fail_msg("\"%s\": %d, want %d: %s", text, got, want, said);
    assert_null(strstr(said, "2233445566")); /* no key in a text */
    smt_psk_list_free(&list);
}

static void test_psk_files(void **state)
{
    check_psk("a:" KEY16, 1, "");
    check_psk("a:" KEY16 "\nb:" KEY16 KEY16 "\n", 2, "");
    check_psk("# one\n\n  a:" KEY16 " \r\n\t# two\n", 1, "");
    check_psk("with:colon:" KEY16 "\n", 1, "");
    check_psk("a:00112233445566778899AABBCCDDEEFF\n", 1, "");
    check_psk("a:" KEY16 KEY16 KEY16 KEY16 "\n", 1, "");

    check_psk("", SMT_ECREDENTIALS, "holds no key");
    check_psk("# only\n", SMT_ECREDENTIALS, "holds no key");
    check_psk("\n#\n" KEY16 "\n", SMT_ECREDENTIALS, "line 3: expected identity:key");
    check_psk(":" KEY16 "\n", SMT_ECREDENTIALS, "line 1: the identity");
    check_psk("a b:" KEY16 "\n", SMT_ECREDENTIALS, "line 1: the identity");
    check_psk("a:\n", SMT_ECREDENTIALS, "shorter than 16 bytes");
    check_psk("a:00112233445566778899aabbccddee\n", SMT_ECREDENTIALS, "openssl rand -hex 32");
    check_psk("a:" KEY16 "0\n", SMT_ECREDENTIALS, "odd number");
    check_psk("a:" KEY16 "zz\n", SMT_ECREDENTIALS, "hex digits only");
    check_psk("a: " KEY16 "\n", SMT_ECREDENTIALS, "hex digits only");
    check_psk("a:" KEY16 KEY16 KEY16 KEY16 "00\n", SMT_ECREDENTIALS, "longer than 64");
    check_psk("a:" KEY16 "\nb:" KEY16 "\na:" KEY16 KEY16 "\n", SMT_ECREDENTIALS,
              "line 3: this identity stands in an earlier line");
    check_psk("a:" KEY16 "\nbroken\n", SMT_ECREDENTIALS, "psk_under_test line 2");

    char longest[300];
    memset(longest, 'i', 129);
    strcpy(longest + 128, ":" KEY16);
    check_psk(longest, 1, "");
    longest[128] = 'i';
    strcpy(longest + 129, ":" KEY16);
    check_psk(longest, SMT_ECREDENTIALS, "1 to 128 bytes");
}

static void test_psk_values(void **state)
{
    const char *path = test_dir_write(&dir, "psk_under_test", "a:b:" KEY16 "\nc:" KEY16 "01\n");
    const struct smt_error_line line = {0};
    struct smt_psk_list list = {0};
    assert_int_equal(smt_psk_list_read(path, &line, &list), 0);
    const struct smt_psk *psk = smt_psk_find(&list, (const uint8_t *)"a:b", 3);
    assert_non_null(psk);
    assert_int_equal(psk->key_len, 16);
    static const uint8_t want[] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                   0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    assert_memory_equal(psk->key, want, 16);
    psk = smt_psk_find(&list, (const uint8_t *)"c", 1);
    assert_non_null(psk);
    assert_int_equal(psk->key_len, 17);
    assert_int_equal(psk->key[16], 1);
    assert_null(smt_psk_find(&list, (const uint8_t *)"a", 1));
    assert_null(smt_psk_find(&list, (const uint8_t *)"c\0", 2));
    assert_null(smt_psk_find(&list, (const uint8_t *)"", 0));
    smt_psk_list_free(&list);
}

/* Names from a hostile certificate: control characters, a NUL inside, far too long. */
static void test_cert_texts(void **state)
{
    char cn[64];
    snprintf(cn, sizeof(cn), "evil\n\x1b[2Jname, O=bank");
    char san[1200] = "DNS:a.test";
    for (int i = 0; i < 40; i++)
        strcat(san, ",DNS:a-rather-long-name.test");
    struct test_identity made =
        test_identity_make(&(struct test_cert_spec){.cn = cn, .san = san}, NULL);
    char text[SMT_CERT_TEXT_LEN];
    smt_cert_subject_text(made.cert, text);
    assert_null(strpbrk(text, "\n\x1b"));
    assert_non_null(strstr(text, "name\\, O=bank"));
    smt_cert_names_text(made.cert, text);
    assert_int_equal(strlen(text), SMT_CERT_TEXT_LEN - 1);
    assert_int_equal(strncmp(text, "a.test, a-rather-long-name.test, ", 33), 0);
    test_identity_free(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attempts),      cmocka_unit_test(test_no_text_wanted),
        cmocka_unit_test(test_ciphers),       cmocka_unit_test(test_app_ctx_refused),
        cmocka_unit_test(test_text_is_clean), cmocka_unit_test(test_pins),
        cmocka_unit_test(test_pins_match),    cmocka_unit_test(test_pins_too_many),
        cmocka_unit_test(test_psk_files),     cmocka_unit_test(test_psk_values),
        cmocka_unit_test(test_cert_texts),
    };
    return cmocka_run_group_tests_name("creds", tests, setup, teardown);
}
