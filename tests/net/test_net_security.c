/* Who is let in, and what the one who is not hears: every failure has its code and its
 * text. */
#include "net.h"

#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include <openssl/x509.h>

#include <smt/tls.h>

static struct net_pair pair;

/* Tries to connect; the code of the failure and its text. */
static int attempt(enum net_security server, enum net_security client, const char *verify_name,
                   const char **text)
{
    net_end_open(&pair.server, server, true, NULL);
    net_end_open(&pair.client, client, false, NULL);
    int r = smt_connect(pair.client.ep, net_address(&pair.server), verify_name, 0, &pair.session);
    if (r < 0)
        fail_msg("connect: %s", smt_error_text(pair.client.ctx));
    assert_int_equal(net_call(pair.session, "secret", 6, 0, &pair, NULL), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_ptr_equal(ev.user, &pair);
    int code = ev.error;
    ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_ptr_equal(ev.session, pair.session);
    assert_int_equal(ev.error, code);
    static char copy[512];
    strncpy(copy, smt_error_text(pair.client.ctx), sizeof(copy) - 1);
    *text = copy;
    assert_true(strlen(copy) > 20);
    net_pump_for(&pair, 20000000);
    assert_int_equal(net_count(&pair.server, SMT_EV_REQUEST), 0);
    assert_int_equal(net_count(&pair.server, SMT_EV_SESSION_UP), 0);
    assert_int_equal(net_counter(pair.client.ep, "handshakes_ok"), 0);
    net_pair_close(&pair);
    return code;
}

static void test_refusals(void **state)
{
    static const struct {
        enum net_security server, client;
        const char *verify_name;
        int code;
    } rows[] = {
        {NET_CERT_STRANGER, NET_CERT, NULL, SMT_ECERT},
        {NET_CERT, NET_CERT_STRANGER, NULL, SMT_ECERT},
        {NET_CERT, NET_CA_ONLY, NULL, SMT_ECERT},
        {NET_CERT, NET_CERT, "other.example", SMT_ENAMEMISMATCH},
        {NET_CERT, NET_CERT, "10.1.2.3", SMT_ENAMEMISMATCH},
        {NET_CERT, NET_PIN_WRONG, NULL, SMT_EPIN},
        {NET_PSK, NET_PSK_OTHER, NULL, SMT_EPSK},
        {NET_PSK, NET_PSK_UNKNOWN, NULL, SMT_EPSK},
        {NET_CERT, NET_PLAIN, NULL, SMT_EAUTH},
        {NET_PLAIN, NET_CERT, NULL, SMT_EAUTH},
        {NET_PSK, NET_PLAIN, NULL, SMT_EAUTH},
        {NET_PLAIN, NET_PSK, NULL, SMT_EAUTH},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *text;
        int code = attempt(rows[i].server, rows[i].client, rows[i].verify_name, &text);
        if (code != rows[i].code)
            fail_msg("row %u: %s (%s), expected %s", i, smt_error_name(code), text,
                     smt_error_name(rows[i].code));
        if (rows[i].code == SMT_EAUTH)
            assert_non_null(strstr(text, "plaintext"));
        print_message("%-18s %s\n", smt_error_name(code), text);
    }
}

static void test_client_without_certificate(void **state)
{
    net_end_open(&pair.server, NET_CERT_ANYBODY, true, NULL);
    net_end_open(&pair.client, NET_CA_ONLY, false, NULL);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    struct smt_event ev = net_expect(&pair, &pair.server, SMT_EV_SESSION_UP);
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(ev.session, &info), 0);
    assert_int_equal(info.auth, SMT_AUTH_NONE);
    assert_string_equal(info.identity, "");
    assert_null(smt_session_peer_cert(ev.session));
    X509 *cert = smt_session_peer_cert(pair.session);
    assert_non_null(cert);
    char name[100];
    X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, sizeof(name));
    assert_string_equal(name, "node");
    X509_free(cert);
    net_pair_close(&pair);
}

static void test_what_info_says(void **state)
{
    static const struct {
        enum net_security security;
        enum smt_session_auth auth;
        const char *identity, *cipher;
    } rows[] = {
        {NET_PLAIN, SMT_AUTH_NONE, "", "none"},
        {NET_CERT, SMT_AUTH_CERT, "node", "aes-128-gcm"},
        {NET_PIN, SMT_AUTH_PIN, "node", "aes-128-gcm"},
        {NET_PSK, SMT_AUTH_PSK, "alpha", "aes-128-gcm"},
    };
    for (unsigned i = 0; i < 4; i++) {
        net_pair_open(&pair, rows[i].security, NULL, NULL);
        struct smt_session_info info = {.size = sizeof(info)};
        assert_int_equal(smt_session_get_info(pair.session, &info), 0);
        assert_int_equal(info.auth, rows[i].auth);
        assert_non_null(strstr(info.identity, rows[i].identity));
        assert_string_equal(info.cipher, rows[i].cipher);
        net_pair_close(&pair);
    }
}

static SSL_CTX *application_ctx(void)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_method());
    assert_int_equal(SSL_CTX_use_certificate_file(tls, net_file("node.pem"), SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(tls, net_file("node.key"), SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_CTX_load_verify_locations(tls, net_file("ca.pem"), NULL), 1);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return tls;
}

static void test_application_tls(void **state)
{
    net_end_open(&pair.server, NET_CERT, true, NULL);
    SSL_CTX *tls = application_ctx();
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    assert_int_equal(smt_ctx_open_tls(&config, NULL, &pair.client.ctx), SMT_EINVAL);
    config.plaintext = 1;
    assert_int_equal(smt_ctx_open_tls(&config, tls, &pair.client.ctx), SMT_ECREDENTIALS);
    config.plaintext = 0;
    assert_int_equal(smt_ctx_open_tls(&config, tls, &pair.client.ctx), 0);
    SSL_CTX_free(tls);
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    pair.client.n = 0;
    assert_int_equal(smt_ep_open(pair.client.ctx, &ep_config, &pair.client.ep), 0);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    net_expect(&pair, &pair.server, SMT_EV_SESSION_UP);
    net_pair_close(&pair);
}

/* Two ciphers on one side, one on the other. */
static void test_cipher_choice(void **state)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.psk_file = net_file("psk");
    config.cipher = "aes-256-gcm";
    config.cipher_impl = "openssl";
    net_end_open(&pair.server, NET_PSK, true, NULL);
    pair.client.n = 0;
    assert_int_equal(smt_ctx_open(&config, &pair.client.ctx), 0);
    assert_int_equal(smt_ep_open(pair.client.ctx, NULL, &pair.client.ep), 0);
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(pair.session, &info), 0);
    assert_string_equal(info.cipher, "aes-256-gcm");
    assert_string_equal(info.cipher_impl, "openssl");
    net_pair_close(&pair);
}

static void test_nobody_there(void **state)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.handshake_timeout_ns = 300000000;
    net_end_open(&pair.server, NET_CERT, false, NULL); /* does not accept */
    net_end_open(&pair.client, NET_CERT, false, &config);
    uint64_t begin = net_now();
    assert_int_equal(smt_connect(pair.client.ep, net_address(&pair.server), NULL, 0, &pair.session),
                     0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, SMT_EUNREACHABLE);
    assert_true(net_now() - begin >= 200000000);
    struct smt_session *s;
    assert_int_equal(smt_connect_wait(pair.client.ep, net_address(&pair.server), NULL, 0, 0, &s),
                     SMT_EUNREACHABLE);
    assert_int_equal(
        smt_connect_wait(pair.client.ep, net_address(&pair.server), NULL, 0, 50000000, &s),
        SMT_ETIMEDOUT);
    assert_null(s);
    net_pump_for(&pair, 500000000);
    assert_int_equal(pair.client.n, 0);
    assert_int_equal(net_counter(pair.client.ep, "sessions"), 0);
    net_pair_close(&pair);
}

/* Makes "two.test" a name of two addresses, in a mount namespace of our own. */
static void two_addresses_or_skip(void)
{
    static bool done;
    if (done)
        return;
    const char *hosts = net_file("hosts");
    FILE *f = fopen(hosts, "w");
    assert_non_null(f);
    fputs("127.0.0.1 localhost two.test\n::1 two.test\n", f);
    fclose(f);
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(hosts, "/etc/hosts", NULL, MS_BIND, NULL) < 0)
        skip();
    struct addrinfo *list, hints = {.ai_socktype = SOCK_DGRAM};
    if (getaddrinfo("two.test", "1", &hints, &list) != 0)
        skip();
    done = list->ai_next != NULL;
    freeaddrinfo(list);
    if (!done)
        skip();
}

/* The server is at one of them. What was posted before moves along. */
static void several_addresses(const char *bind_host)
{
    struct smt_ep_config server = SMT_EP_CONFIG_INIT, client = SMT_EP_CONFIG_INIT;
    server.bind_host = bind_host;
    client.bind_host = "*";
    client.handshake_timeout_ns = 3000000000;
    net_end_open(&pair.server, NET_CERT, true, &server);
    net_end_open(&pair.client, NET_CERT, false, &client);
    char host[64];
    snprintf(host, sizeof(host), "two.test:%u", smt_ep_port(pair.server.ep));
    assert_int_equal(smt_connect(pair.client.ep, host, "localhost", 0, &pair.session), 0);
    uint64_t first, second, third;
    assert_int_equal(net_call(pair.session, "first", 5, 0, &first, &first), 0);
    assert_int_equal(net_call(pair.session, "second", 6, 0, &second, &second), 0);
    assert_int_equal(net_call(pair.session, "third", 5, 100000, &third, &third), 0);
    assert_int_equal(smt_cancel(pair.session, second), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    if (ev.call_id == third) /* its deadline was first */
        ev = net_expect(&pair, &pair.client, SMT_EV_FAILED);
    assert_int_equal(ev.call_id, second);
    assert_int_equal(ev.error, SMT_ECANCELED);
    assert_ptr_equal(ev.user, &second);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    struct smt_event req = net_expect(&pair, &pair.server, SMT_EV_REQUEST);
    assert_memory_equal(req.data, "first", 5);
    assert_int_equal(smt_reply(req.msg, NULL, 0, NULL), 0);
    ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_int_equal(ev.call_id, first);
    smt_release(ev.msg);
    smt_release(req.msg);
    assert_int_equal(net_count(&pair.client, SMT_EV_SESSION_DOWN), 0);
    net_pair_close(&pair);
}

static void test_several_addresses(void **state)
{
    two_addresses_or_skip();
    several_addresses("127.0.0.1");
    several_addresses("::1");
}

/* Nobody at either address: one DOWN, and every call ends once. */
static void test_no_address_answers(void **state)
{
    two_addresses_or_skip();
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.bind_host = "*";
    config.handshake_timeout_ns = 500000000;
    net_end_open(&pair.server, NET_CERT, false, NULL);
    net_end_open(&pair.client, NET_CERT, false, &config);
    char host[64];
    snprintf(host, sizeof(host), "two.test:%u", smt_ep_port(pair.server.ep));
    assert_int_equal(smt_connect(pair.client.ep, host, "localhost", 0, &pair.session), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(net_call(pair.session, "x", 1, 0, NULL, NULL), 0);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    assert_int_equal(ev.error, SMT_EUNREACHABLE);
    assert_int_equal(net_count(&pair.client, SMT_EV_FAILED), 10);
    while (net_take(&pair.client, SMT_EV_FAILED, &ev))
        assert_int_equal(ev.error, SMT_EUNREACHABLE);
    net_pump_for(&pair, 20000000);
    assert_int_equal(pair.client.n, 0);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),          cmocka_unit_test(test_client_without_certificate),
        cmocka_unit_test(test_what_info_says),    cmocka_unit_test(test_application_tls),
        cmocka_unit_test(test_cipher_choice),     cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_several_addresses), cmocka_unit_test(test_no_address_answers),
    };
    return cmocka_run_group_tests(tests, net_setup, net_teardown);
}
