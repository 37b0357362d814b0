/* Handshakes over an application's own SSL_CTX: given twice, used by the application itself too,
 * with callbacks and pre-shared keys of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "hs_pair.h"
#include "hs_sides.h"

/* The application's SSL_CTX: given twice, and still good for connections that are not ours. */
static void test_app_ctx_shared(void **state)
{
    const struct hs_side side = {.cert = "server", .ca = "ca"};
    SSL_CTX *tls = hs_side_ctx(&side);
    const struct smt_creds_config config = {.ssl_ctx = tls};
    struct smt_creds *a = NULL, *b = NULL;
    assert_int_equal(smt_creds_new(&config, &a), 0);
    assert_int_equal(smt_creds_new(&config, &b), 0);
    for (int round = 0; round < 2; round++) {
        struct hs_pair pair;
        hs_pair_open_simple(&pair, a, b);
        hs_pair_run(&pair);
        assert_int_equal(pair.i_rc, SMT_HS_DONE);
        assert_int_equal(pair.r_rc, SMT_HS_DONE);
        hs_pair_close(&pair);
    }
    SSL *c = SSL_new(tls), *s = SSL_new(tls);
    BIO *c_bio, *s_bio;
    assert_int_equal(BIO_new_bio_pair(&c_bio, 0, &s_bio, 0), 1);
    SSL_set_bio(c, c_bio, c_bio);
    SSL_set_bio(s, s_bio, s_bio);
    SSL_set_connect_state(c);
    SSL_set_accept_state(s);
    assert_int_equal(SSL_set_alpn_protos(c, (const unsigned char *)"\x02h2", 3), 0);
    int c_rc = 0, s_rc = 0;
    for (int k = 0; k < 8 && (c_rc != 1 || s_rc != 1); k++) {
        c_rc = SSL_do_handshake(c);
        s_rc = SSL_do_handshake(s);
    }
    assert_int_equal(c_rc, 1);
    assert_int_equal(s_rc, 1);
    SSL_free(c);
    SSL_free(s);
    smt_creds_free(a);
    smt_creds_free(b);
    SSL_CTX_free(tls);
    ERR_clear_error();
}

static int n_verify_calls;

static int accept_all(int ok, X509_STORE_CTX *store)
{
    n_verify_calls++;
    return 1;
}

static int accept_none(int ok, X509_STORE_CTX *store)
{
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
}

static int wait_for_ever(SSL *ssl, void *arg)
{
    return -1;
}

static struct smt_creds *creds_of_ctx(SSL_CTX *tls)
{
    struct smt_creds *creds = NULL;
    const struct smt_creds_config config = {.ssl_ctx = tls};
    assert_int_equal(smt_creds_new(&config, &creds), 0);
    SSL_CTX_free(tls);
    return creds;
}

/* Callbacks on the application's SSL_CTX are heard: one that trusts somebody whom OpenSSL does not,
 * one that trusts nobody, and one that wants to wait, which a handshake here cannot. */
static void test_app_callbacks(void **state)
{
    const struct hs_side client = HS_CLIENT, server = HS_SERVER,
                         stranger = {.cert = "stranger", .ca = "ca"};
    const struct {
        const struct hs_side *server;
        int (*verify)(int ok, X509_STORE_CTX *store);
        int (*cert)(SSL *ssl, void *arg);
        int i_code;
        const char *words;
    } rows[] = {
        {&stranger, accept_all, NULL, SMT_HS_DONE, ""},
        {&server, accept_none, NULL, SMT_ECERT, "(CN=server) is not accepted"},
        {&server, NULL, wait_for_ever, SMT_EUNSUPPORTED, "wants to wait"},
    };
    for (size_t k = 0; k < SMT_ARRAY_LEN(rows); k++) {
        SSL_CTX *tls = hs_side_ctx(&client);
        SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, rows[k].verify);
        SSL_CTX_set_cert_cb(tls, rows[k].cert, NULL);
        struct smt_creds *i = creds_of_ctx(tls), *r = hs_side_creds(rows[k].server);
        struct hs_pair pair;
        hs_pair_open_simple(&pair, i, r);
        hs_pair_run(&pair);
        if (pair.i_rc != rows[k].i_code || strstr(smt_hs_error_text(pair.i), rows[k].words) == NULL)
            fail_msg("row %zu: %d: %s", k, pair.i_rc, smt_hs_error_text(pair.i));
        hs_pair_close(&pair);
        smt_creds_free(i);
        smt_creds_free(r);
    }
    assert_true(n_verify_calls > 0);
}

static SSL_SESSION *app_psk(SSL *ssl)
{
    static const unsigned char id[2] = {0x13, 0x01}, key[32] = {1, 2, 3};
    SSL_SESSION *session = SSL_SESSION_new();
    assert_int_equal(SSL_SESSION_set1_master_key(session, key, sizeof(key)), 1);
    assert_int_equal(SSL_SESSION_set_cipher(session, SSL_CIPHER_find(ssl, id)), 1);
    assert_int_equal(SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION), 1);
    return session;
}

static int app_psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
                       SSL_SESSION **session)
{
    *session = app_psk(ssl);
    *id = (const unsigned char *)"app";
    *id_len = 3;
    return 1;
}

static int app_psk_find(SSL *ssl, const unsigned char *id, size_t len, SSL_SESSION **session)
{
    *session = len == 3 && memcmp(id, "app", 3) == 0 ? app_psk(ssl) : NULL;
    return 1;
}

/* The application's own pre-shared keys; a session id context of its server is no obstacle. */
static void test_app_psk(void **state)
{
    const struct hs_side nothing = {0};
    SSL_CTX *tls = hs_side_ctx(&nothing);
    SSL_CTX_set_psk_use_session_callback(tls, app_psk_use);
    SSL_CTX_set_psk_find_session_callback(tls, app_psk_find);
    assert_int_equal(SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256"), 1);
    assert_int_equal(SSL_CTX_set_session_id_context(tls, (const unsigned char *)"web", 3), 1);
    struct smt_creds *creds = creds_of_ctx(tls);
    struct hs_pair pair;
    hs_pair_open_simple(&pair, creds, creds);
    hs_pair_run(&pair);
    struct smt_hs_result i, r;
    assert_string_equal(smt_hs_error_text(pair.i), "");
    assert_int_equal(smt_hs_result(pair.i, &i), 0);
    assert_int_equal(smt_hs_result(pair.r, &r), 0);
    assert_int_equal(i.auth, SMT_HS_AUTH_PSK);
    assert_int_equal(r.auth, SMT_HS_AUTH_PSK);
    assert_string_equal(r.identity, "");
    assert_memory_equal(i.secret, r.secret, 32);
    hs_pair_close(&pair);
    smt_creds_free(creds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_app_ctx_shared),
        cmocka_unit_test(test_app_callbacks),
        cmocka_unit_test(test_app_psk),
    };
    return cmocka_run_group_tests_name("hs_app", tests, hs_sides_setup, hs_sides_teardown);
}
