/* Handshakes between two smt_hs in memory: every way that works with what it yields, every way that
 * fails with the code and the words on both sides, and the rest of the contract. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "base/mem.h"
#include "hs/params_ext.h"
#include "hs_pair.h"
#include "hs_sides.h"

struct scene {
    const char *name;
    struct hs_side i, r;
    const char *verify_name; /* "localhost" when NULL */
    int i_code, r_code;      /* 0 = done */
    const char *i_text, *r_text;
    enum smt_hs_auth i_auth, r_auth;     /* what either side learned of the other */
    const char *i_identity, *r_identity; /* of the other; NULL = not looked at */
    enum smt_aead_alg alg;
};

static void check_side(const struct scene *scene, struct smt_hs *hs, int rc, int code,
                       const char *words, const char *who)
{
    const char *text = smt_hs_error_text(hs);
    int want = code != 0 ? code : SMT_HS_DONE;
    if (rc != want)
        fail_msg("%s: %s: got %d, want %d: %s", scene->name, who, rc, want, text);
    if (code == 0)
        assert_string_equal(text, "");
    else if (words == NULL || strstr(text, words) == NULL)
        fail_msg("%s: %s says \"%s\"", scene->name, who, text);
    if (code != 0) {
        struct smt_hs_result result;
        assert_int_equal(smt_hs_input(hs, NULL, 0), SMT_HS_FAILED);
        assert_int_equal(smt_hs_result(hs, &result), SMT_ESTATE);
        assert_null(smt_hs_peer_cert(hs));
    }
}

static void check_results(const struct scene *scene, struct hs_pair *pair)
{
    struct smt_hs_result i, r;
    assert_int_equal(smt_hs_result(pair->i, &i), 0);
    assert_int_equal(smt_hs_result(pair->r, &r), 0);
    assert_memory_equal(i.secret, r.secret, sizeof(i.secret));
    assert_int_equal(i.alg, r.alg);
    assert_int_equal(i.peer.session_id, HS_PAIR_R_ID);
    assert_int_equal(r.peer.session_id, HS_PAIR_I_ID);
    assert_int_equal(i.peer.n_ciphers, 1);
    assert_int_equal(i.peer.ciphers[0], i.alg);
    if (scene->alg != SMT_AEAD_NONE)
        assert_int_equal(i.alg, scene->alg);
    if (i.auth != scene->i_auth || r.auth != scene->r_auth)
        fail_msg("%s: authenticated by %d and %d", scene->name, i.auth, r.auth);
    if (scene->i_identity != NULL)
        assert_string_equal(i.identity, scene->i_identity);
    if (scene->r_identity != NULL)
        assert_string_equal(r.identity, scene->r_identity);
    X509 *cert = smt_hs_peer_cert(pair->i);
    assert_true((cert != NULL) == (i.auth != SMT_HS_AUTH_PSK));
    X509_free(cert);
    smt_wipe(&i, sizeof(i));
    smt_wipe(&r, sizeof(r));
}

static void play(const struct scene *scene, size_t chunk)
{
    struct smt_creds *i_creds = hs_side_creds(&scene->i), *r_creds = hs_side_creds(&scene->r);
    const struct smt_hs_config i = {
        .creds = i_creds,
        .initiator = true,
        .verify_name = scene->verify_name != NULL ? scene->verify_name : "localhost",
        .params = hs_pair_params(HS_PAIR_I_ID, scene->i.ciphers != NULL ? scene->i.ciphers : "12"),
    };
    const struct smt_hs_config r = {
        .creds = r_creds,
        .params = hs_pair_params(HS_PAIR_R_ID, scene->r.ciphers != NULL ? scene->r.ciphers : "12"),
        .initiator_id = HS_PAIR_I_ID,
    };
    struct hs_pair pair;
    hs_pair_open(&pair, &i, &r);
    pair.chunk = chunk;
    hs_pair_run(&pair);
    check_side(scene, pair.i, pair.i_rc, scene->i_code, scene->i_text, "initiator");
    check_side(scene, pair.r, pair.r_rc, scene->r_code, scene->r_text, "responder");
    if (scene->i_code == 0 && scene->r_code == 0)
        check_results(scene, &pair);
    assert_int_equal(ERR_peek_error(), 0);
    hs_pair_close(&pair);
    smt_creds_free(i_creds);
    smt_creds_free(r_creds);
}

#define CERTS .i_auth = SMT_HS_AUTH_CERT, .r_auth = SMT_HS_AUTH_CERT

static void test_successes(void **state)
{
    const struct scene scenes[] = {
        {"mtls", HS_CLIENT, HS_SERVER, CERTS, .i_identity = "CN=server", .r_identity = "CN=client",
         .alg = SMT_AEAD_AES128_GCM},
        {"aes256 preferred",
         {.cert = "client", .ca = "ca", .algs = "21", .ciphers = "21"},
         HS_SERVER,
         CERTS,
         .alg = SMT_AEAD_AES256_GCM},
        {"aes256 only there",
         HS_CLIENT,
         {.cert = "server", .ca = "ca", .algs = "2", .ciphers = "2"},
         CERTS,
         .alg = SMT_AEAD_AES256_GCM},
        {"unknown cipher first",
         {.cert = "client", .ca = "ca", .ciphers = "921"},
         HS_SERVER,
         CERTS,
         .alg = SMT_AEAD_AES256_GCM},
        {"chain", HS_CLIENT, {.cert = "chain", .ca = "ca"}, CERTS, .i_identity = "CN=leaf"},
        {"trust in the middle",
         {.cert = "client", .ca = "inter"},
         {.cert = "no_chain", .ca = "ca"},
         CERTS},
        {"rsa", HS_CLIENT, {.cert = "rsa", .ca = "ca"}, CERTS},
        {"ed25519", {.cert = "ed", .ca = "ca"}, {.cert = "ed", .ca = "ca"}, CERTS},
        {"no subject",
         HS_CLIENT,
         {.cert = "nameless", .ca = "ca"},
         CERTS,
         .i_identity = "localhost, *.wild.test, 127.0.0.1, ::1"},
        {"ipv4", HS_CLIENT, HS_SERVER, "127.0.0.1", CERTS},
        {"ipv4 mapped", HS_CLIENT, HS_SERVER, "::ffff:127.0.0.1", CERTS},
        {"ipv6 with zone", HS_CLIENT, HS_SERVER, "::1%lo", CERTS},
        {"wildcard", HS_CLIENT, HS_SERVER, "a.wild.test", CERTS},
        {"root's dot", HS_CLIENT, HS_SERVER, "localhost.", CERTS},
        {"ca and pin",
         {.cert = "client", .ca = "ca", .pins = hs_side_pins.server},
         HS_SERVER,
         CERTS},
        {"pins",
         {.cert = "self", .pins = hs_side_pins.self},
         {.cert = "self", .pins = hs_side_pins.two},
         .i_auth = SMT_HS_AUTH_PIN,
         .r_auth = SMT_HS_AUTH_PIN,
         .i_identity = "CN=self"},
        {"pin there, ca here",
         {.cert = "self", .ca = "ca"},
         {.cert = "server", .pins = hs_side_pins.self},
         .i_auth = SMT_HS_AUTH_CERT,
         .r_auth = SMT_HS_AUTH_PIN},
        {"self-signed as ca",
         {.cert = "self", .ca = "ca"},
         {.cert = "server", .ca = "self"},
         CERTS},
        {"client without certificate",
         {.ca = "ca"},
         {.cert = "server", .ca = "ca", .optional = true},
         .i_auth = SMT_HS_AUTH_CERT,
         .r_auth = SMT_HS_AUTH_NONE,
         .r_identity = ""},
        {"client with optional certificate",
         HS_CLIENT,
         {.cert = "server", .ca = "ca", .optional = true},
         CERTS,
         .r_identity = "CN=client"},
        {"server that asks nobody",
         HS_CLIENT,
         {.cert = "server", .optional = true},
         .i_auth = SMT_HS_AUTH_CERT,
         .r_auth = SMT_HS_AUTH_NONE},
        {"psk",
         {.psk = "psk"},
         {.psk = "psk"},
         .i_auth = SMT_HS_AUTH_PSK,
         .r_auth = SMT_HS_AUTH_PSK,
         .i_identity = "alpha",
         .r_identity = "alpha",
         .alg = SMT_AEAD_AES128_GCM},
        {"psk in a later line",
         {.psk = "psk_beta"},
         {.psk = "psk"},
         .i_auth = SMT_HS_AUTH_PSK,
         .r_auth = SMT_HS_AUTH_PSK,
         .r_identity = "beta"},
        {"psk with aes256",
         {.psk = "psk", .algs = "2", .ciphers = "2"},
         {.psk = "psk"},
         .i_auth = SMT_HS_AUTH_PSK,
         .r_auth = SMT_HS_AUTH_PSK,
         .alg = SMT_AEAD_AES256_GCM},
        {"the application's SSL_CTX",
         {.cert = "client", .ca = "ca", .app = true},
         {.cert = "server", .ca = "ca", .app = true},
         CERTS,
         .r_identity = "CN=client"},
        {"the application's, client without certificate",
         {.ca = "ca", .app = true},
         {.cert = "server", .ca = "ca", .app = true, .optional = true},
         .i_auth = SMT_HS_AUTH_CERT,
         .r_auth = SMT_HS_AUTH_NONE},
        {"a second hello for another group",
         {.cert = "client", .ca = "ca", .app = true, .groups = "P-384:P-256"},
         HS_SERVER,
         CERTS},
    };
    for (size_t k = 0; k < SMT_ARRAY_LEN(scenes); k++) {
        play(&scenes[k], 0);
        play(&scenes[k], 1);
    }
}

static void test_failures(void **state)
{
    const struct scene scenes[] = {
        {"server expired",
         HS_CLIENT,
         {.cert = "expired", .ca = "ca", .app = true},
         .i_code = SMT_EEXPIRED,
         .i_text = "(CN=old) expired on 20",
         .r_code = SMT_EEXPIRED,
         .r_text = "refused our certificate: expired"},
        {"server not yet valid",
         HS_CLIENT,
         {.cert = "future", .ca = "ca", .app = true},
         .i_code = SMT_EEXPIRED,
         .i_text = "(CN=new) is not valid before 20",
         .r_code = SMT_ECERT,
         .r_text = "refused our certificate"},
        {"client expired",
         {.cert = "expired", .ca = "ca", .app = true},
         HS_SERVER,
         .i_code = SMT_EEXPIRED,
         .i_text = "refused our certificate: expired",
         .r_code = SMT_EEXPIRED,
         .r_text = "(CN=old) expired on 20"},
        {"server of another ca",
         HS_CLIENT,
         {.cert = "stranger", .ca = "ca"},
         .i_code = SMT_ECERT,
         .i_text = "(CN=stranger) is not signed by an authority we trust",
         .r_code = SMT_ECERT,
         .r_text = "does not trust the authority"},
        {"client of another ca",
         {.cert = "stranger", .ca = "ca"},
         HS_SERVER,
         .i_code = SMT_ECERT,
         .i_text = "does not trust the authority",
         .r_code = SMT_ECERT,
         .r_text = "(CN=stranger) is not signed by an authority we trust"},
        {"chain left out",
         HS_CLIENT,
         {.cert = "no_chain", .ca = "ca"},
         .i_code = SMT_ECERT,
         .i_text = "not signed by an authority we trust",
         .r_code = SMT_ECERT,
         .r_text = "does not trust the authority"},
        {"self-signed",
         HS_CLIENT,
         {.cert = "self", .ca = "ca"},
         .i_code = SMT_ECERT,
         .i_text = "not signed by an authority we trust",
         .r_code = SMT_ECERT,
         .r_text = "does not trust the authority"},
        {"other name", HS_CLIENT, HS_SERVER, "example.org", .i_code = SMT_ENAMEMISMATCH,
         .i_text = "is for localhost, *.wild.test, 127.0.0.1, ::1, not for example.org",
         .r_code = SMT_ECERT, .r_text = "for another name"},
        {"other address", HS_CLIENT, HS_SERVER, "127.0.0.2", .i_code = SMT_ENAMEMISMATCH,
         .i_text = "not for 127.0.0.2", .r_code = SMT_ECERT, .r_text = "for another name"},
        {"two labels under a wildcard", HS_CLIENT, HS_SERVER, "a.b.wild.test",
         .i_code = SMT_ENAMEMISMATCH, .i_text = "not for a.b.wild.test", .r_code = SMT_ECERT,
         .r_text = "for another name"},
        {"common name is no name",
         HS_CLIENT,
         {.cert = "cn_only", .ca = "ca"},
         .i_code = SMT_ENAMEMISMATCH,
         .i_text = "is for no name at all, not for localhost",
         .r_code = SMT_ECERT,
         .r_text = "for another name"},
        {"client certificate as server",
         HS_CLIENT,
         {.cert = "client", .ca = "ca"},
         .i_code = SMT_ECERT,
         .i_text = "may not be used by a server",
         .r_code = SMT_ECERT,
         .r_text = "not for this use"},
        {"no client certificate",
         {.ca = "ca"},
         HS_SERVER,
         .i_code = SMT_ECERT,
         .i_text = "demands a certificate",
         .r_code = SMT_ECERT,
         .r_text = "has no certificate"},
        {"optional but wrong",
         {.cert = "stranger", .ca = "ca"},
         {.cert = "server", .ca = "ca", .optional = true},
         .i_code = SMT_ECERT,
         .i_text = "does not trust the authority",
         .r_code = SMT_ECERT,
         .r_text = "not signed by"},
        {"server not pinned",
         {.cert = "self", .pins = hs_side_pins.server},
         {.cert = "self", .pins = hs_side_pins.self},
         .i_code = SMT_EPIN,
         .i_text = "(CN=self) is none of our pins",
         .r_code = SMT_ECERT,
         .r_text = "not pinned there"},
        {"client not pinned",
         {.cert = "self", .pins = hs_side_pins.server},
         {.cert = "server", .pins = hs_side_pins.server},
         .i_code = SMT_ECERT,
         .i_text = "not pinned there",
         .r_code = SMT_EPIN,
         .r_text = "is none of our pins"},
        {"good ca, wrong pin",
         {.cert = "client", .ca = "ca", .pins = hs_side_pins.self},
         HS_SERVER,
         .i_code = SMT_EPIN,
         .i_text = "(CN=server) is none of our pins",
         .r_code = SMT_ECERT,
         .r_text = "not pinned there"},
        {"good pin, wrong ca",
         {.cert = "client", .ca = "other_ca", .pins = hs_side_pins.server},
         HS_SERVER,
         .i_code = SMT_ECERT,
         .i_text = "not signed by",
         .r_code = SMT_ECERT,
         .r_text = "does not trust"},
        {"pinned but expired",
         {.cert = "self", .pins = hs_side_pins.expired},
         {.cert = "expired_self", .ca = "ca", .app = true},
         .i_code = SMT_EEXPIRED,
         .i_text = "(CN=old self) expired on",
         .r_code = SMT_EEXPIRED,
         .r_text = "expired"},
        {"psk unknown",
         {.psk = "psk_unknown"},
         {.psk = "psk"},
         .i_code = SMT_EPSK,
         .i_text = "does not know our pre-shared key's identity",
         .r_code = SMT_EPSK,
         .r_text = "\"gamma\" is not in our psk_file"},
        {"psk differs",
         {.psk = "psk_differs"},
         {.psk = "psk"},
         .i_code = SMT_EPSK,
         .i_text = "differs from ours (alpha)",
         .r_code = SMT_EPSK,
         .r_text = "differs from ours (alpha)"},
        {"psk against certificates",
         {.psk = "psk"},
         HS_SERVER,
         .i_code = SMT_EPSK,
         .i_text = "the peer identifies by certificate",
         .r_code = SMT_ECERT,
         .r_text = "refused our certificate"},
        {"certificates against psk",
         HS_CLIENT,
         {.psk = "psk"},
         .i_code = SMT_EAUTH,
         .i_text = "kind of credentials",
         .r_code = SMT_EPSK,
         .r_text = "offers no pre-shared key"},
        {"no cipher in common",
         {.cert = "client", .ca = "ca", .ciphers = "1"},
         {.cert = "server", .ca = "ca", .ciphers = "2"},
         .i_code = SMT_EAUTH,
         .i_text = "no cipher in common",
         .r_code = SMT_EAUTH,
         .r_text = "no cipher in common: the peer's best is aes-128-gcm, ours is aes-256-gcm"},
        {"no tls cipher in common",
         {.cert = "client", .ca = "ca", .algs = "1"},
         {.cert = "server", .ca = "ca", .algs = "2"},
         .i_code = SMT_EAUTH,
         .i_text = "no TLS cipher",
         .r_code = SMT_EAUTH,
         .r_text = "no TLS cipher in common"},
        {"no group in common",
         {.cert = "client", .ca = "ca", .app = true, .groups = "P-384"},
         HS_SERVER,
         .i_code = SMT_EAUTH,
         .i_text = "group",
         .r_code = SMT_EAUTH,
         .r_text = "group in common"},
        {"the application's, other name",
         {.cert = "client", .ca = "ca", .app = true},
         HS_SERVER,
         "example.org",
         .i_code = SMT_ENAMEMISMATCH,
         .i_text = "not for example.org",
         .r_code = SMT_ECERT,
         .r_text = "for another name"},
        {"the application's, verification off there",
         {.cert = "stranger", .ca = "ca", .app = true},
         {.cert = "server", .ca = "ca", .app = true},
         .i_code = SMT_ECERT,
         .i_text = "does not trust",
         .r_code = SMT_ECERT,
         .r_text = "not signed by"},
    };
    for (size_t k = 0; k < SMT_ARRAY_LEN(scenes); k++) {
        play(&scenes[k], 0);
        play(&scenes[k], 1);
    }
}

/* ---- the rest of the contract ---- */

static void test_new_refuses(void **state)
{
    const struct hs_side server = HS_SERVER, pure_client = {.ca = "ca"},
                         asks_nobody = {.cert = "server", .optional = true};
    struct smt_creds *creds = hs_side_creds(&server);
    struct smt_creds *client_creds = hs_side_creds(&pure_client);
    struct smt_creds *server_creds = hs_side_creds(&asks_nobody);
    struct smt_hs *hs = NULL;
    struct smt_hs_config config = {
        .creds = creds,
        .params = hs_pair_params(7, "1"),
        .initiator_id = 8,
    };
    config.creds = client_creds;
    assert_int_equal(smt_hs_new(&config, &hs), SMT_ECREDENTIALS);
    config.creds = server_creds;
    config.initiator = true;
    assert_int_equal(smt_hs_new(&config, &hs), SMT_ECREDENTIALS);
    config.creds = creds;
    config.verify_name = "";
    assert_int_equal(smt_hs_new(&config, &hs), SMT_EINVAL);
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    longest[299] = '\0';
    config.verify_name = longest;
    assert_int_equal(smt_hs_new(&config, &hs), SMT_EINVAL);
    config.verify_name = NULL;
    config.params.session_id = 0;
    assert_int_equal(smt_hs_new(&config, &hs), SMT_EINVAL);
    config.params = hs_pair_params(7, "");
    assert_int_equal(smt_hs_new(&config, &hs), SMT_EINVAL);
    config.params = hs_pair_params(7, "1");
    config.initiator = false;
    config.initiator_id = 0;
    assert_int_equal(smt_hs_new(&config, &hs), SMT_EINVAL);
    assert_null(hs);
    smt_hs_free(NULL);
    smt_creds_free(NULL);

    SSL_CTX *client_only = SSL_CTX_new(TLS_client_method());
    struct smt_creds_config app = {.ssl_ctx = client_only};
    struct smt_creds *app_creds = NULL;
    assert_int_equal(smt_creds_new(&app, &app_creds), 0);
    SSL_CTX_free(client_only);
    config = (struct smt_hs_config){
        .creds = app_creds, .params = hs_pair_params(7, "1"), .initiator_id = 8};
    assert_int_equal(smt_hs_new(&config, &hs), SMT_ECREDENTIALS);
    smt_creds_free(app_creds);
    smt_creds_free(creds);
    smt_creds_free(client_creds);
    smt_creds_free(server_creds);
}

/* No name to verify: any that the CA signed. */
static void test_any_name(void **state)
{
    const struct hs_side client = HS_CLIENT, server = {.cert = "cn_only", .ca = "ca"};
    struct smt_creds *i_creds = hs_side_creds(&client), *r_creds = hs_side_creds(&server);
    const struct smt_hs_config i = {
        .creds = i_creds, .initiator = true, .params = hs_pair_params(1, "1")};
    const struct smt_hs_config r = {
        .creds = r_creds, .params = hs_pair_params(2, "1"), .initiator_id = 1};
    struct hs_pair pair;
    hs_pair_open(&pair, &i, &r);
    hs_pair_run(&pair);
    assert_int_equal(pair.i_rc, SMT_HS_DONE);
    assert_int_equal(pair.r_rc, SMT_HS_DONE);
    hs_pair_close(&pair);
    smt_creds_free(i_creds);
    smt_creds_free(r_creds);
}

/* An initiator is not DONE before the responder's Finished, the responder not before the
 * initiator's. */
static void test_order_of_done(void **state)
{
    const struct hs_side client = HS_CLIENT, server = HS_SERVER;
    struct smt_creds *i = hs_side_creds(&client), *r = hs_side_creds(&server);
    struct hs_pair pair;
    hs_pair_open_simple(&pair, i, r);
    uint8_t bytes[8192];
    struct smt_hs_result result;
    assert_int_equal(smt_hs_input(pair.i, NULL, 0), SMT_HS_RUNNING);
    size_t n = smt_hs_output(pair.i, bytes, sizeof(bytes));
    assert_int_equal(smt_hs_input(pair.r, bytes, n), SMT_HS_RUNNING);
    assert_int_equal(smt_hs_result(pair.r, &result), SMT_ESTATE);
    n = smt_hs_output(pair.r, bytes, sizeof(bytes));
    assert_int_equal(smt_hs_input(pair.i, bytes, n - 1), SMT_HS_RUNNING);
    assert_int_equal(smt_hs_result(pair.i, &result), SMT_ESTATE);
    assert_int_equal(smt_hs_output(pair.i, bytes, 1), 0);
    assert_int_equal(smt_hs_input(pair.i, bytes + n - 1, 1), SMT_HS_DONE);
    n = smt_hs_output(pair.i, bytes, sizeof(bytes));
    assert_int_equal(smt_hs_input(pair.r, bytes, n - 1), SMT_HS_RUNNING);
    assert_int_equal(smt_hs_result(pair.r, &result), SMT_ESTATE);
    assert_int_equal(smt_hs_input(pair.r, bytes + n - 1, 1), SMT_HS_DONE);
    assert_int_equal(smt_hs_output(pair.r, bytes, sizeof(bytes)), 0); /* no tickets */
    hs_pair_close(&pair);
    smt_creds_free(i);
    smt_creds_free(r);
}

/* Each allocation of ours that fails ends in a code, and everything is given back. */
static void test_out_of_memory(void **state)
{
    const struct hs_side client = HS_CLIENT, server = HS_SERVER, psk = {.psk = "psk"};
    struct smt_mem_stats before = smt_mem_live();
    bool struck = true;
    for (long n = 0; struck; n++) {
        struct smt_creds_config configs[] = {
            {.psk_file = hs_side_file("psk", ""), .algs = (enum smt_aead_alg[]){1}, .n_algs = 1},
            {.ca_file = hs_side_file("ca", ".pem"),
             .pins = hs_side_pins.two,
             .algs = (enum smt_aead_alg[]){1},
             .n_algs = 1},
        };
        struct smt_creds *creds[2] = {0};
        smt_mem_fail_after(n);
        int rc = smt_creds_new(&configs[0], &creds[0]);
        if (rc == 0)
            rc = smt_creds_new(&configs[1], &creds[1]);
        struck = smt_mem_fail_after(-1) < 0;
        assert_int_equal(rc, struck ? SMT_ENOMEM : 0);
        smt_creds_free(creds[0]);
        smt_creds_free(creds[1]);
        assert_int_equal(smt_mem_live().n_live, before.n_live);
    }
    struct smt_creds *i = hs_side_creds(&client), *r = hs_side_creds(&server),
                     *k = hs_side_creds(&psk);
    struct smt_hs *hs = NULL;
    const struct smt_hs_config config = {
        .creds = k, .params = hs_pair_params(7, "1"), .initiator_id = 8};
    smt_mem_fail_after(0);
    assert_int_equal(smt_hs_new(&config, &hs), SMT_ENOMEM);
    smt_mem_fail_after(-1);
    smt_creds_free(i);
    smt_creds_free(r);
    smt_creds_free(k);
    assert_int_equal(smt_mem_live().n_live, before.n_live);
}

static void context_of(const struct smt_hs *hs, uint8_t out[32])
{
    assert_int_equal(smt_params_ext_context(hs, out), 0);
}

/* Whatever the two sides may disagree on changes the exporter's context, and so the secret. */
static void test_context_binds(void **state)
{
    const struct hs_side client = HS_CLIENT, server = HS_SERVER;
    struct smt_creds *i = hs_side_creds(&client), *r = hs_side_creds(&server);
    struct hs_pair pair;
    hs_pair_open_simple(&pair, i, r);
    hs_pair_run(&pair);
    assert_int_equal(pair.i_rc, SMT_HS_DONE);
    uint8_t want[32], got[32];
    context_of(pair.i, want);
    context_of(pair.r, got);
    assert_memory_equal(want, got, 32);

    struct smt_hs changed[8];
    for (size_t k = 0; k < SMT_ARRAY_LEN(changed); k++)
        changed[k] = *pair.i;
    changed[0].own.session_id ^= 1;
    changed[1].peer.session_id ^= 1;
    changed[2].own_block.bytes[30] ^= 1;
    changed[3].peer_block.bytes[30] ^= 1;
    changed[4].own_block.len++;
    changed[5].peer_block.len--;
    changed[6].alg = SMT_AEAD_AES256_GCM;
    changed[7].initiator = false;
    for (size_t k = 0; k < SMT_ARRAY_LEN(changed); k++) {
        context_of(&changed[k], got);
        assert_memory_not_equal(want, got, 32);
    }
    hs_pair_close(&pair);
    smt_creds_free(i);
    smt_creds_free(r);
}

struct shared {
    struct smt_creds *i, *r;
    int n_done;
};

static void *handshakes(void *arg)
{
    struct shared *shared = arg;
    for (int k = 0; k < 10; k++) {
        struct hs_pair pair;
        hs_pair_open_simple(&pair, shared->i, shared->r);
        hs_pair_run(&pair);
        shared->n_done += pair.i_rc == SMT_HS_DONE && pair.r_rc == SMT_HS_DONE;
        hs_pair_close(&pair);
    }
    return NULL;
}

/* Credentials serve several threads at once. */
static void test_threads(void **state)
{
    const struct hs_side client = HS_CLIENT, server = HS_SERVER, psk = {.psk = "psk"};
    struct smt_creds *i = hs_side_creds(&client), *r = hs_side_creds(&server);
    struct smt_creds *k = hs_side_creds(&psk);
    struct shared shared[4] = {{i, r, 0}, {k, k, 0}, {i, r, 0}, {k, k, 0}};
    pthread_t threads[4];
    for (int t = 0; t < 4; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, handshakes, &shared[t]), 0);
    for (int t = 0; t < 4; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        assert_int_equal(shared[t].n_done, 10);
    }
    smt_creds_free(i);
    smt_creds_free(r);
    smt_creds_free(k);
}

/* Errors of the application's own, in the queue before a call, do no harm. */
static void test_error_queue(void **state)
{
    const struct hs_side client = HS_CLIENT, server = HS_SERVER;
    struct smt_creds *i = hs_side_creds(&client), *r = hs_side_creds(&server);
    struct hs_pair pair;
    hs_pair_open_simple(&pair, i, r);
    uint8_t bytes[8192];
    bool to_initiator = false;
    assert_int_equal(smt_hs_input(pair.i, NULL, 0), SMT_HS_RUNNING);
    for (int k = 0; k < 3; k++, to_initiator = !to_initiator) {
        size_t n = smt_hs_output(to_initiator ? pair.r : pair.i, bytes, sizeof(bytes));
        ERR_raise(ERR_LIB_USER, 1);
        hs_pair_input(&pair, to_initiator, bytes, n);
        assert_int_equal(ERR_peek_error(), 0);
    }
    assert_int_equal(pair.i_rc, SMT_HS_DONE);
    assert_int_equal(pair.r_rc, SMT_HS_DONE);
    hs_pair_close(&pair);
    smt_creds_free(i);
    smt_creds_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_successes),     cmocka_unit_test(test_failures),
        cmocka_unit_test(test_new_refuses),   cmocka_unit_test(test_any_name),
        cmocka_unit_test(test_order_of_done), cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_context_binds), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_error_queue),
    };
    return cmocka_run_group_tests_name("hs", tests, hs_sides_setup, hs_sides_teardown);
}
