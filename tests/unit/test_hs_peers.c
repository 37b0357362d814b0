/* A handshake against peers that are not ours: plain OpenSSL with the parameters written by hand,
 * which also repeats the key derivation of the document, peers that leave out what smt2 demands,
 * and bytes damaged on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "hs_pair.h"
#include "hs_sides.h"

/* ---- peers that are not smt2 ---- */

/* One end of plain OpenSSL, with the extension's bytes as told. */
struct raw {
    SSL_CTX *tls;
    SSL *ssl;
    BIO *in, *out;
    uint8_t ext[2048], got[2048];
    size_t ext_len, got_len; /* no extension when ext_len is 0 */
    int rc;
    unsigned long error;
};

static int raw_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
                   size_t *out_len, X509 *cert, size_t index, int *alert, void *arg)
{
    struct raw *raw = arg;
    *out = raw->ext;
    *out_len = raw->ext_len;
    return raw->ext_len > 0;
}

static int raw_parse(SSL *ssl, unsigned type, unsigned context, const unsigned char *in, size_t len,
                     X509 *cert, size_t index, int *alert, void *arg)
{
    struct raw *raw = arg;
    assert_true(len <= sizeof(raw->got));
    memcpy(raw->got, in, len);
    raw->got_len = len;
    return 1;
}

/* Answers by a name of its own, offered or not. */
static int raw_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                    const unsigned char *in, unsigned in_len, void *arg)
{
    *out = arg;
    *out_len = (unsigned char)strlen(arg);
    return SSL_TLSEXT_ERR_OK;
}

/* `alpn` is one name, or NULL for none. */
static void raw_open(struct raw *raw, bool client, const char *alpn)
{
    const struct hs_side side = {.cert = client ? "client" : "server", .ca = "ca"};
    raw->tls = hs_side_ctx(&side);
    raw->got_len = 0;
    raw->rc = 0;
    raw->error = 0;
    assert_int_equal(
        SSL_CTX_add_custom_ext(raw->tls, 0xff53,
                               SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS, raw_add,
                               NULL, raw, raw_parse, raw),
        1);
    if (alpn != NULL && !client)
        SSL_CTX_set_alpn_select_cb(raw->tls, raw_alpn, (void *)(uintptr_t)alpn);
    raw->ssl = SSL_new(raw->tls);
    raw->in = BIO_new(BIO_s_mem());
    raw->out = BIO_new(BIO_s_mem());
    SSL_set_bio(raw->ssl, raw->in, raw->out);
    if (client)
        SSL_set_connect_state(raw->ssl);
    else
        SSL_set_accept_state(raw->ssl);
    if (alpn != NULL && client) {
        unsigned char list[32];
        list[0] = (unsigned char)strlen(alpn);
        memcpy(list + 1, alpn, list[0]);
        assert_int_equal(SSL_set_alpn_protos(raw->ssl, list, list[0] + 1u), 0);
    }
}

static void raw_close(struct raw *raw)
{
    SSL_free(raw->ssl);
    SSL_CTX_free(raw->tls);
}

/* Bytes to and fro until both are silent; the handshake's first failure, or its last state. */
static int raw_run(struct raw *raw, struct smt_hs *hs, bool hs_starts)
{
    uint8_t bytes[16384];
    int rc = hs_starts ? smt_hs_input(hs, NULL, 0) : SMT_HS_RUNNING;
    for (bool moved = true; moved;) {
        moved = false;
        ERR_clear_error();
        if (raw->rc != 1 && raw->error == 0) {
            raw->rc = SSL_do_handshake(raw->ssl);
            if (SSL_get_error(raw->ssl, raw->rc) == SSL_ERROR_SSL)
                raw->error = ERR_peek_error();
        }
        int n = BIO_read(raw->out, bytes, sizeof(bytes));
        if (n > 0) {
            int now = smt_hs_input(hs, bytes, (size_t)n);
            rc = rc < 0 ? rc : now;
            moved = true;
        }
        size_t m = smt_hs_output(hs, bytes, sizeof(bytes));
        if (m > 0) {
            assert_int_equal(BIO_write(raw->in, bytes, (int)m), (int)m);
            moved = true;
        }
    }
    ERR_clear_error();
    return rc;
}

static int raw_alert(const struct raw *raw)
{
    return ERR_GET_REASON(raw->error) - SSL_AD_REASON_OFFSET;
}

static struct smt_hs *hs_open(struct smt_creds *creds, bool initiator)
{
    const struct smt_hs_config config = {
        .creds = creds,
        .initiator = initiator,
        .verify_name = initiator ? "localhost" : NULL,
        .params = hs_pair_params(initiator ? HS_PAIR_I_ID : HS_PAIR_R_ID, "12"),
        .initiator_id = HS_PAIR_I_ID,
    };
    struct smt_hs *hs = NULL;
    assert_int_equal(smt_hs_new(&config, &hs), 0);
    return hs;
}

static void raw_ext_usual(struct raw *raw, uint64_t id)
{
    struct smt_params params = hs_pair_params(id, id == HS_PAIR_I_ID ? "21" : "2");
    int len = smt_params_encode(&params, raw->ext, sizeof(raw->ext));
    assert_true(len > 0);
    raw->ext_len = (size_t)len;
}

static void sha256_add(EVP_MD_CTX *md, const void *bytes, size_t len)
{
    assert_int_equal(EVP_DigestUpdate(md, bytes, len), 1);
}

/* The exporter of docs/wire.md 7, written down a second time over plain OpenSSL. */
static void test_secret_as_in_the_document(void **state)
{
    const struct hs_side side = HS_SERVER;
    struct smt_creds *creds = hs_side_creds(&side);
    struct smt_hs *hs = hs_open(creds, false);
    struct raw raw;
    raw_ext_usual(&raw, HS_PAIR_I_ID);
    static const uint8_t from_the_future[] = {0x12, 0x34, 0, 3, 'n', 'e', 'w'};
    memcpy(raw.ext + raw.ext_len, from_the_future, sizeof(from_the_future));
    raw.ext_len += sizeof(from_the_future);
    raw_open(&raw, true, "smt/2");
    assert_int_equal(raw_run(&raw, hs, false), SMT_HS_DONE);
    assert_int_equal(raw.rc, 1);

    struct smt_hs_result result;
    assert_int_equal(smt_hs_result(hs, &result), 0);
    assert_int_equal(result.alg, SMT_AEAD_AES256_GCM);
    struct smt_params answer;
    assert_int_equal(smt_params_decode(raw.got, raw.got_len, &answer), 0);
    assert_int_equal(answer.session_id, HS_PAIR_R_ID);
    assert_int_equal(answer.n_ciphers, 1);
    assert_int_equal(answer.ciphers[0], 2);

    const uint8_t head[] = {2, 0, 0, 0, 0, 0, 0, 0x11, 0x11, 0, 0, 0, 0, 0, 0, 0x22, 0x22};
    const uint8_t i_len[] = {(uint8_t)(raw.ext_len >> 8), (uint8_t)raw.ext_len};
    const uint8_t r_len[] = {(uint8_t)(raw.got_len >> 8), (uint8_t)raw.got_len};
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestInit_ex(md, EVP_sha256(), NULL), 1);
    sha256_add(md, head, sizeof(head));
    sha256_add(md, i_len, 2);
    sha256_add(md, raw.ext, raw.ext_len);
    sha256_add(md, r_len, 2);
    sha256_add(md, raw.got, raw.got_len);
    sha256_add(md, "\x02", 1);
    uint8_t context[32], secret[32];
    assert_int_equal(EVP_DigestFinal_ex(md, context, NULL), 1);
    EVP_MD_CTX_free(md);
    assert_int_equal(
        SSL_export_keying_material(raw.ssl, secret, 32, "EXPORTER-smt2", 13, context, 32, 1), 1);
    assert_memory_equal(secret, result.secret, 32);
    raw_close(&raw);
    smt_hs_free(hs);
    smt_creds_free(creds);
}

static void check_raw_client(struct raw *raw, const char *alpn, int code, const char *words,
                             int alert)
{
    const struct hs_side side = HS_SERVER;
    struct smt_creds *creds = hs_side_creds(&side);
    struct smt_hs *hs = hs_open(creds, false);
    raw_open(raw, true, alpn);
    int rc = raw_run(raw, hs, false);
    if (rc != code || strstr(smt_hs_error_text(hs), words) == NULL)
        fail_msg("got %d, want %d: %s", rc, code, smt_hs_error_text(hs));
    assert_int_equal(raw_alert(raw), alert);
    raw_close(raw);
    smt_hs_free(hs);
    smt_creds_free(creds);
}

static void test_responder_demands(void **state)
{
    struct raw raw = {0};
    check_raw_client(&raw, "smt/2", SMT_EPROTO, "no smt2 transport parameters",
                     SSL_AD_MISSING_EXTENSION);
    raw_ext_usual(&raw, HS_PAIR_I_ID);
    check_raw_client(&raw, NULL, SMT_EVERSION, "no ALPN", SSL_AD_NO_APPLICATION_PROTOCOL);
    check_raw_client(&raw, "h2", SMT_EVERSION, "another ALPN", SSL_AD_NO_APPLICATION_PROTOCOL);
    check_raw_client(&raw, "smt/", SMT_EVERSION, "another ALPN", SSL_AD_NO_APPLICATION_PROTOCOL);

    raw_ext_usual(&raw, HS_PAIR_I_ID + 1);
    check_raw_client(&raw, "smt/2", SMT_EPROTO, "not that of its packets",
                     SSL_AD_ILLEGAL_PARAMETER);
    raw_ext_usual(&raw, HS_PAIR_I_ID);
    raw.ext_len--;
    check_raw_client(&raw, "smt/2", SMT_EPROTO, "malformed or incomplete", SSL_AD_DECODE_ERROR);
    raw.ext_len = 12; /* the session id alone */
    check_raw_client(&raw, "smt/2", SMT_EPROTO, "malformed or incomplete", SSL_AD_DECODE_ERROR);

    raw_ext_usual(&raw, HS_PAIR_I_ID); /* longer than what is kept of it */
    memcpy(raw.ext + raw.ext_len, "\x77\x77\x04\x00", 4);
    raw.ext_len += 4 + 1024;
    check_raw_client(&raw, "smt/2", SMT_EPROTO, "malformed or incomplete", SSL_AD_DECODE_ERROR);

    struct smt_params params = hs_pair_params(HS_PAIR_I_ID, "1");
    params.versions[0] = 3;
    raw.ext_len = (size_t)smt_params_encode(&params, raw.ext, sizeof(raw.ext));
    check_raw_client(&raw, "smt/2", SMT_EVERSION, "ours is 2, the peer's first is 3",
                     SSL_AD_PROTOCOL_VERSION);
    params = hs_pair_params(HS_PAIR_I_ID, "9");
    raw.ext_len = (size_t)smt_params_encode(&params, raw.ext, sizeof(raw.ext));
    check_raw_client(&raw, "smt/2", SMT_EAUTH, "the peer's best is unknown",
                     SSL_AD_INSUFFICIENT_SECURITY);
}

static void test_tls12_refused(void **state)
{
    const struct hs_side side = HS_SERVER;
    struct smt_creds *creds = hs_side_creds(&side);
    struct smt_hs *hs = hs_open(creds, false);
    struct raw raw;
    raw_ext_usual(&raw, HS_PAIR_I_ID);
    raw_open(&raw, true, "smt/2");
    assert_int_equal(SSL_set_max_proto_version(raw.ssl, TLS1_2_VERSION), 1);
    assert_int_equal(raw_run(&raw, hs, false), SMT_EVERSION);
    assert_non_null(strstr(smt_hs_error_text(hs), "does not offer TLS 1.3"));
    assert_int_equal(raw_alert(&raw), SSL_AD_PROTOCOL_VERSION);
    raw_close(&raw);
    smt_hs_free(hs);

    hs = hs_open(creds, true);
    raw_open(&raw, false, "smt/2");
    assert_int_equal(SSL_set_max_proto_version(raw.ssl, TLS1_2_VERSION), 1);
    assert_int_equal(raw_run(&raw, hs, true), SMT_EVERSION);
    assert_non_null(strstr(smt_hs_error_text(hs), "no version of TLS"));
    raw_close(&raw);
    smt_hs_free(hs);
    smt_creds_free(creds);
}

static void check_raw_server(struct raw *raw, const char *alpn, int code, const char *words,
                             int alert)
{
    const struct hs_side side = HS_CLIENT;
    struct smt_creds *creds = hs_side_creds(&side);
    struct smt_hs *hs = hs_open(creds, true);
    raw_open(raw, false, alpn);
    int rc = raw_run(raw, hs, true);
    if (rc != code || strstr(smt_hs_error_text(hs), words) == NULL)
        fail_msg("got %d, want %d: %s", rc, code, smt_hs_error_text(hs));
    assert_true(raw->rc != 1);
    assert_int_equal(raw_alert(raw), alert);
    raw_close(raw);
    smt_hs_free(hs);
    smt_creds_free(creds);
}

static void test_initiator_demands(void **state)
{
    struct raw raw = {0};
    check_raw_server(&raw, "smt/2", SMT_EPROTO, "no smt2 transport parameters",
                     SSL_AD_MISSING_EXTENSION);
    raw_ext_usual(&raw, HS_PAIR_R_ID);
    check_raw_server(&raw, NULL, SMT_EVERSION, "no ALPN", SSL_AD_NO_APPLICATION_PROTOCOL);
    check_raw_server(&raw, "h2", SMT_EPROTO, "bad extension", SSL_AD_DECODE_ERROR);

    struct smt_params params = hs_pair_params(HS_PAIR_R_ID, "12");
    raw.ext_len = (size_t)smt_params_encode(&params, raw.ext, sizeof(raw.ext));
    check_raw_server(&raw, "smt/2", SMT_EPROTO, "chose more than one cipher",
                     SSL_AD_ILLEGAL_PARAMETER);
    params = hs_pair_params(HS_PAIR_R_ID, "7");
    raw.ext_len = (size_t)smt_params_encode(&params, raw.ext, sizeof(raw.ext));
    check_raw_server(&raw, "smt/2", SMT_EPROTO, "chose unknown", SSL_AD_ILLEGAL_PARAMETER);
    params = hs_pair_params(HS_PAIR_R_ID, "1");
    params.versions[0] = 1;
    raw.ext_len = (size_t)smt_params_encode(&params, raw.ext, sizeof(raw.ext));
    check_raw_server(&raw, "smt/2", SMT_EVERSION, "the peer's first is 1", SSL_AD_PROTOCOL_VERSION);
    params = hs_pair_params(0, "1");
    raw.ext_len = (size_t)smt_params_encode(&params, raw.ext, sizeof(raw.ext));
    check_raw_server(&raw, "smt/2", SMT_EPROTO, "session id", SSL_AD_ILLEGAL_PARAMETER);
}

/* Application data after the handshake, from either end, is a violation; a responder's tickets,
 * which it should not send, are no harm. */
static void test_bytes_after_the_end(void **state)
{
    const struct hs_side server = HS_SERVER, client = HS_CLIENT;
    uint8_t bytes[4096];
    for (int initiator = 0; initiator < 2; initiator++) {
        struct smt_creds *creds = hs_side_creds(initiator ? &client : &server);
        struct smt_hs *hs = hs_open(creds, initiator);
        struct raw raw;
        raw_ext_usual(&raw, initiator ? HS_PAIR_R_ID : HS_PAIR_I_ID);
        raw_open(&raw, !initiator, "smt/2");
        assert_int_equal(raw_run(&raw, hs, initiator), SMT_HS_DONE);
        assert_int_equal(raw.rc, 1);
        assert_int_equal(SSL_write(raw.ssl, "x", 1), 1);
        int n = BIO_read(raw.out, bytes, sizeof(bytes));
        assert_true(n > 0);
        for (int k = 0; k < n - 1; k++)
            assert_int_equal(smt_hs_input(hs, bytes + k, 1), SMT_HS_DONE);
        assert_int_equal(smt_hs_input(hs, bytes + n - 1, 1), SMT_EPROTO);
        assert_non_null(strstr(smt_hs_error_text(hs), "only a handshake"));
        raw_close(&raw);
        smt_hs_free(hs);
        smt_creds_free(creds);
    }
}

/* A peer that closes: before the end it is no handshake, after it the session is refused. */
static void test_peer_closes(void **state)
{
    const struct hs_side client = HS_CLIENT;
    struct smt_creds *creds = hs_side_creds(&client);
    static const uint8_t close_notify[] = {21, 3, 3, 0, 2, 1, 0};
    struct smt_hs *hs = hs_open(creds, true);
    assert_int_equal(smt_hs_input(hs, NULL, 0), SMT_HS_RUNNING);
    assert_true(smt_hs_input(hs, close_notify, sizeof(close_notify)) < 0);
    assert_true(strlen(smt_hs_error_text(hs)) > 0);
    smt_hs_free(hs);

    hs = hs_open(creds, true);
    struct raw raw;
    raw_ext_usual(&raw, HS_PAIR_R_ID);
    raw_open(&raw, false, "smt/2");
    assert_int_equal(raw_run(&raw, hs, true), SMT_HS_DONE);
    uint8_t bytes[256];
    SSL_shutdown(raw.ssl);
    int n = BIO_read(raw.out, bytes, sizeof(bytes));
    assert_true(n > 0);
    assert_int_equal(smt_hs_input(hs, bytes, (size_t)n), SMT_ECLOSED);
    assert_string_equal(smt_hs_error_text(hs), "the peer ended the handshake");
    raw_close(&raw);
    smt_hs_free(hs);
    smt_creds_free(creds);
}

static void test_input_limit(void **state)
{
    static uint8_t zeros[65536];
    const struct hs_side side = HS_SERVER;
    struct smt_creds *creds = hs_side_creds(&side);
    struct smt_hs *hs = hs_open(creds, false);
    /* A ClientHello that never ends: records of 16 KB that begin a message of 16 MB. */
    static const uint8_t record[] = {22, 3, 1, 0x3f, 0xff}, message[] = {1, 0xff, 0xff, 0xff};
    assert_int_equal(smt_hs_input(hs, record, sizeof(record)), SMT_HS_RUNNING);
    int rc = smt_hs_input(hs, message, sizeof(message));
    assert_true(rc == SMT_HS_RUNNING || rc == SMT_EPROTO);
    if (rc == SMT_HS_RUNNING)
        rc = smt_hs_input(hs, zeros, 16379);
    assert_int_equal(rc, SMT_EPROTO);
    smt_hs_free(hs);

    hs = hs_open(creds, false);
    assert_int_equal(smt_hs_input(hs, zeros, sizeof(zeros) + 1), SMT_EPROTO);
    assert_non_null(strstr(smt_hs_error_text(hs), "more than 65536 bytes"));
    smt_hs_free(hs);
    smt_creds_free(creds);
}

/* ---- damage ---- */

/* What one flight was: bytes as they left, whom they were for. */
struct flight {
    uint8_t bytes[8192];
    size_t len;
    bool to_initiator;
};

enum damage { FLIP, CUT, ZERO, TWICE };

/* One handshake in which byte `at` of the bytes in flight number `which` is damaged. */
static void run_damaged(struct smt_creds *i, struct smt_creds *r, unsigned which, size_t at,
                        enum damage damage, size_t *flight_len)
{
    struct hs_pair pair;
    hs_pair_open_simple(&pair, i, r);
    hs_pair_input(&pair, true, NULL, 0);
    static struct flight f;
    bool to_initiator = false;
    /* Signatures are not always as long: the flight may end before the byte of last time. */
    bool damaged = false;
    unsigned silent = 0;
    for (unsigned k = 0; silent < 2; k++, to_initiator = !to_initiator) {
        f.len = smt_hs_output(to_initiator ? pair.r : pair.i, f.bytes, sizeof(f.bytes));
        silent = f.len == 0 ? silent + 1 : 0;
        if (f.len == 0)
            continue;
        if (k == which && at < f.len) {
            *flight_len = f.len;
            damaged = true;
            if (damage == FLIP)
                f.bytes[at] ^= (uint8_t)(1u << (at % 8));
            if (damage == ZERO) {
                /* A tag may end in a zero byte: then the last one would not be damaged. */
                f.bytes[at] = f.bytes[at] == 0;
                memset(f.bytes + at + 1, 0, f.len - at - 1);
            }
            if (damage == CUT)
                f.len = at;
            if (damage == TWICE)
                hs_pair_input(&pair, to_initiator, f.bytes, at);
        }
        hs_pair_input(&pair, to_initiator, f.bytes, f.len);
    }
    if (pair.i_rc == SMT_HS_DONE && pair.r_rc == SMT_HS_DONE) {
        struct smt_hs_result a, b;
        assert_int_equal(smt_hs_result(pair.i, &a), 0);
        assert_int_equal(smt_hs_result(pair.r, &b), 0);
        assert_memory_equal(a.secret, b.secret, 32);
        /* Only the version in a record's head means nothing to TLS 1.3. */
        assert_true(!damaged || (damage == FLIP && (at == 1 || at == 2)));
    }
    if (damaged && damage == CUT)
        assert_true(pair.i_rc >= 0 && pair.r_rc >= 0 && pair.r_rc != SMT_HS_DONE);
    hs_pair_close(&pair);
}

static void check_damaged(const struct hs_side *i_side, const struct hs_side *r_side)
{
    struct smt_creds *i = hs_side_creds(i_side), *r = hs_side_creds(r_side);
    for (int damage = FLIP; damage <= TWICE; damage++)
        for (unsigned which = 0; which < 3; which++) {
            size_t len = 8;
            for (size_t at = damage == FLIP ? 0 : 1; at < len; at += damage == FLIP ? 7 : 31)
                run_damaged(i, r, which, at, (enum damage)damage, &len);
            assert_true(len > 8);
        }
    smt_creds_free(i);
    smt_creds_free(r);
}

static void test_damage_certificates(void **state)
{
    check_damaged(&(const struct hs_side)HS_CLIENT, &(const struct hs_side)HS_SERVER);
}

static void test_damage_psk(void **state)
{
    check_damaged(&(const struct hs_side){.psk = "psk"}, &(const struct hs_side){.psk = "psk"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_secret_as_in_the_document),
        cmocka_unit_test(test_responder_demands),
        cmocka_unit_test(test_tls12_refused),
        cmocka_unit_test(test_initiator_demands),
        cmocka_unit_test(test_bytes_after_the_end),
        cmocka_unit_test(test_peer_closes),
        cmocka_unit_test(test_input_limit),
        cmocka_unit_test(test_damage_certificates),
        cmocka_unit_test(test_damage_psk),
    };
    return cmocka_run_group_tests_name("hs_peers", tests, hs_sides_setup, hs_sides_teardown);
}
