/* Credentials that change while endpoints run: revoked certificates, renewed ones, files that are
 * broken when they are read again. Sessions that are up notice nothing. */
#include "net.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "certs.h"

enum { HOUR = 3600, N_RELOADS = 40 };

static struct test_dir dir;
static struct test_identity ca, server, client, renewed;
static struct net_pair pair;

/* ---- files ---- */

static void crl_write(const struct test_identity *a, const struct test_identity *b)
{
    const struct test_identity *revoked[] = {a, b, NULL};
    test_dir_write_crl(&dir, "ca", &ca, a != NULL ? revoked : NULL, HOUR);
}

static int setup(void **state)
{
    static const char names[] = "DNS:localhost,IP:127.0.0.1";
    test_dir_make(&dir);
    ca = test_identity_make(&(struct test_cert_spec){.cn = "ca", .is_ca = true}, NULL);
    server = test_identity_make(&(struct test_cert_spec){.cn = "server", .san = names}, &ca);
    client = test_identity_make(&(struct test_cert_spec){.cn = "client"}, &ca);
    renewed = test_identity_make(&(struct test_cert_spec){.cn = "server", .san = names}, &ca);
    test_dir_write_identity(&dir, "ca", &ca, NULL);
    return net_setup(state);
}

static int teardown(void **state)
{
    test_identity_free(&ca);
    test_identity_free(&server);
    test_identity_free(&client);
    test_identity_free(&renewed);
    test_dir_remove(&dir);
    return net_teardown(state);
}

static int fresh_files(void **state)
{
    test_dir_write_identity(&dir, "server", &server, NULL);
    test_dir_write_identity(&dir, "client", &client, NULL);
    crl_write(NULL, NULL);
    return 0;
}

/* ---- ends ---- */

static int wants_early; /* in every config */

static struct smt_ctx_config config_of(const char *name, bool with_crl, char *text, size_t text_len)
{
    char file[32];
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    snprintf(file, sizeof(file), "%s.pem", name);
    config.cert_file = test_dir_path(&dir, file);
    snprintf(file, sizeof(file), "%s.key", name);
    config.key_file = test_dir_path(&dir, file);
    config.ca_file = test_dir_path(&dir, "ca.pem");
    config.crl_file = with_crl ? test_dir_path(&dir, "ca.crl") : NULL;
    config.early = wants_early;
    config.error_text = text;
    config.error_text_len = text_len;
    return config;
}

static void end_open(struct net_end *end, const char *name, bool accept, bool with_crl)
{
    char text[256] = "";
    struct smt_ctx_config config = config_of(name, with_crl, text, sizeof(text));
    if (smt_ctx_open(&config, &end->ctx) < 0)
        fail_msg("%s", text);
    struct smt_ep_config ep = SMT_EP_CONFIG_INIT;
    ep.bind_host = "127.0.0.1";
    ep.accept = accept;
    assert_int_equal(smt_ep_open(end->ctx, &ep, &end->ep), 0);
    end->host = ep.bind_host;
    end->n = 0;
}

static void ends_open(bool with_crl)
{
    end_open(&pair.server, "server", true, with_crl);
    end_open(&pair.client, "client", false, with_crl);
}

/* A new session; 0 or why it failed. */
static int session_try(struct smt_session **out)
{
    assert_int_equal(
        smt_connect(pair.client.ep, net_address(&pair.server), "localhost", SMT_NEW_SESSION, out),
        0);
    struct smt_event ev;
    for (;;) {
        net_pump(&pair);
        if (net_take(&pair.client, SMT_EV_SESSION_DOWN, &ev))
            return ev.error;
        if (net_take(&pair.client, SMT_EV_SESSION_UP, &ev))
            break;
    }
    net_expect(&pair, &pair.server, SMT_EV_SESSION_UP);
    return 0;
}

static int peer_key_begin(struct smt_session *s)
{
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(s, &info), 0);
    return info.peer_key_sha256[0] << 8 | info.peer_key_sha256[1];
}

static void session_works(struct smt_session *s)
{
    assert_int_equal(net_call(s, "still here", 10, 0, NULL, NULL), 0);
    while (net_echo(&pair.server) == 0)
        net_pump(&pair);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_ptr_equal(ev.session, s);
    smt_release(ev.msg);
}

/* ---- revocation ---- */

static void test_revoked_server(void **state)
{
    struct smt_session *s;
    crl_write(&server, NULL);
    end_open(&pair.server, "server", true, false);
    end_open(&pair.client, "client", false, true);
    assert_int_equal(session_try(&s), SMT_ECERT);
    assert_non_null(strstr(smt_error_text(pair.client.ctx), "revoked"));
    net_pair_close(&pair);
}

static void test_revoked_client(void **state)
{
    struct smt_session *s;
    crl_write(&client, NULL);
    end_open(&pair.server, "server", true, true);
    end_open(&pair.client, "client", false, false);
    assert_int_equal(session_try(&s), SMT_ECERT);
    net_pump_for(&pair, 20000000);
    assert_int_equal(net_count(&pair.server, SMT_EV_SESSION_UP), 0);
    net_pair_close(&pair);
}

/* Somebody else on the list changes nothing, and lists cost nobody his session. */
static void test_not_revoked(void **state)
{
    struct smt_session *s;
    crl_write(&renewed, NULL);
    ends_open(true);
    assert_int_equal(session_try(&s), 0);
    session_works(s);
    net_pair_close(&pair);
}

/* A list of another authority says nothing about ours: without one nobody is believed. */
static void test_no_list_of_this_authority(void **state)
{
    struct test_identity other =
        test_identity_make(&(struct test_cert_spec){.cn = "other", .is_ca = true}, NULL);
    test_dir_write_crl(&dir, "ca", &other, NULL, HOUR);
    test_identity_free(&other);
    struct smt_session *s;
    end_open(&pair.server, "server", true, false);
    end_open(&pair.client, "client", false, true);
    assert_int_equal(session_try(&s), SMT_ECERT);
    assert_non_null(strstr(smt_error_text(pair.client.ctx), "crl_file"));
    net_pair_close(&pair);
}

static int open_code(struct smt_ctx_config *config)
{
    struct smt_ctx *ctx;
    int r = smt_ctx_open(config, &ctx);
    if (r == 0)
        smt_ctx_close(ctx);
    return r;
}

static void test_bad_lists(void **state)
{
    char text[256] = "";
    struct smt_ctx_config config = config_of("client", true, text, sizeof(text));
    assert_int_equal(open_code(&config), 0);
    test_dir_write_crl(&dir, "ca", &ca, NULL, -60);
    assert_int_equal(open_code(&config), SMT_EEXPIRED);
    assert_non_null(strstr(text, "renewed"));
    test_dir_write(&dir, "ca.crl", "nothing here\n");
    assert_int_equal(open_code(&config), SMT_EFILE);
    assert_non_null(strstr(text, "BEGIN X509 CRL"));
    test_dir_write(&dir, "ca.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
    assert_int_equal(open_code(&config), SMT_EFILE);
    assert_non_null(strstr(text, "damaged"));
    unlink(test_dir_path(&dir, "ca.crl"));
    assert_int_equal(open_code(&config), SMT_EFILE);
    config.ca_file = NULL;
    config.pins = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_int_equal(open_code(&config), SMT_ECREDENTIALS);
    assert_non_null(strstr(text, "ca_file"));
}

/* ---- reading again ---- */

static void test_revoked_later(void **state)
{
    struct smt_session *before, *after;
    ends_open(true);
    assert_int_equal(session_try(&before), 0);
    crl_write(&client, &renewed);
    assert_int_equal(session_try(&after), 0);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    assert_int_equal(session_try(&after), SMT_ECERT);
    session_works(before);
    crl_write(NULL, NULL);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    assert_int_equal(session_try(&after), 0);
    session_works(after);
    net_pair_close(&pair);
}

static void test_renewed(void **state)
{
    struct smt_session *before, *after;
    ends_open(false);
    assert_int_equal(session_try(&before), 0);
    int old_key = peer_key_begin(before);
    test_dir_write_identity(&dir, "server", &renewed, NULL);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    assert_int_equal(session_try(&after), 0);
    assert_int_not_equal(peer_key_begin(after), old_key);
    assert_int_equal(peer_key_begin(before), old_key);
    session_works(before);
    session_works(after);
    net_pair_close(&pair);
}

/* A key that does not fit, a file that has gone: an error with a reason, and what was in use stays.
 */
static void test_broken(void **state)
{
    struct smt_session *s;
    ends_open(false);
    struct test_identity mixed = {.cert = server.cert, .key = renewed.key};
    test_dir_write_identity(&dir, "server", &mixed, NULL);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), SMT_ECREDENTIALS);
    assert_non_null(strstr(smt_error_text(pair.server.ctx), "stay"));
    assert_non_null(strstr(smt_error_text(pair.server.ctx), "server.key"));
    assert_int_equal(session_try(&s), 0);
    unlink(test_dir_path(&dir, "server.pem"));
    assert_int_equal(smt_ctx_reload(pair.server.ctx), SMT_EFILE);
    assert_int_equal(session_try(&s), 0);
    session_works(s);
    net_pair_close(&pair);
}

/* ---- resumption ---- */

static bool is_resumed(struct smt_session *s)
{
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_session_get_info(s, &info), 0);
    return info.is_resumed != 0;
}

/* A new session by a ticket or without, as it should be; both ends agree on that. */
static struct smt_session *session_by(bool ticket)
{
    struct smt_session *s;
    uint64_t c = net_counter(pair.client.ep, "handshakes_resumed");
    uint64_t r = net_counter(pair.server.ep, "handshakes_resumed");
    assert_int_equal(session_try(&s), 0);
    assert_int_equal(is_resumed(s), ticket);
    assert_int_equal(net_counter(pair.client.ep, "handshakes_resumed"), c + ticket);
    assert_int_equal(net_counter(pair.server.ep, "handshakes_resumed"), r + ticket);
    session_works(s); /* and with it the next ticket has come */
    return s;
}

static void test_resumed(void **state)
{
    ends_open(true);
    struct smt_session *first = session_by(false);
    int key = peer_key_begin(first);
    for (unsigned i = 0; i < 5; i++) {
        struct smt_session *s = session_by(true);
        assert_int_equal(peer_key_begin(s), key);
        struct smt_session_info info = {.size = sizeof(info)};
        assert_int_equal(smt_session_get_info(s, &info), 0);
        assert_int_equal(info.auth, SMT_AUTH_CERT);
        assert_string_equal(info.identity, "CN=server");
    }
    session_works(first);
    net_pair_close(&pair);
}

/* Who reads its credentials again forgets tickets, those it gave and those it has. */
static void test_reload_forgets_tickets(void **state)
{
    ends_open(true);
    session_by(false);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    session_by(false);
    session_by(true);
    assert_int_equal(smt_ctx_reload(pair.client.ctx), 0);
    session_by(false);
    session_by(true);
    net_pair_close(&pair);
}

/* A client whose certificate was revoked has a good ticket, and a server's own client a ticket of a
 * server that was. */
static void test_revoked_with_a_ticket(void **state)
{
    struct smt_session *s;
    ends_open(true);
    session_by(false);
    session_by(true);
    crl_write(&client, NULL);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    assert_int_equal(session_try(&s), SMT_ECERT);
    crl_write(&server, NULL);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    assert_int_equal(smt_ctx_reload(pair.client.ctx), 0);
    assert_int_equal(session_try(&s), SMT_ECERT);
    net_pair_close(&pair);
}

/* At the same port; the client hears of so many sessions that are over. */
static void server_restart(unsigned n_sessions)
{
    struct smt_ep_config ep = SMT_EP_CONFIG_INIT;
    ep.bind_host = "127.0.0.1";
    ep.accept = 1;
    ep.port = smt_ep_port(pair.server.ep);
    net_end_close(&pair.server);
    pair.server.ep = NULL;
    for (unsigned i = 0; i < n_sessions; i++)
        net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
    struct smt_ctx_config config = config_of("server", false, NULL, 0);
    assert_int_equal(smt_ctx_open(&config, &pair.server.ctx), 0);
    assert_int_equal(smt_ep_open(pair.server.ctx, &ep, &pair.server.ep), 0);
}

/* Its keys for tickets died with it: a full handshake, no failure. */
static void test_restarted_with_a_ticket(void **state)
{
    ends_open(false);
    session_by(false);
    session_by(true);
    server_restart(2);
    session_by(false);
    session_by(true);
    net_pair_close(&pair);
}

/* An idempotent call that goes with the hello, and is run once however its session begins. */
static void early_call(bool taken)
{
    struct smt_iov iov = {"at once", 7};
    struct smt_call_args args = {.size = sizeof(args)};
    args.iov = &iov;
    args.n_iov = 1;
    args.flags = SMT_IDEMPOTENT;
    struct smt_session *s;
    uint64_t sent = net_counter(pair.client.ep, "early_sent");
    uint64_t got = net_counter(pair.server.ep, "early_taken");
    uint64_t refused = net_counter(pair.client.ep, "early_refused");
    uint64_t requests = net_counter(pair.server.ep, "requests_received");
    assert_int_equal(
        smt_connect(pair.client.ep, net_address(&pair.server), "localhost", SMT_NEW_SESSION, &s),
        0);
    assert_int_equal(smt_call(s, &args, NULL), 0);
    while (net_echo(&pair.server) == 0)
        net_pump(&pair);
    struct smt_event ev = net_expect(&pair, &pair.client, SMT_EV_RESPONSE);
    assert_int_equal(ev.len, 7);
    assert_memory_equal(ev.data, "at once", 7);
    smt_release(ev.msg);
    net_expect(&pair, &pair.client, SMT_EV_SESSION_UP);
    net_expect(&pair, &pair.server, SMT_EV_SESSION_UP);
    assert_true(net_counter(pair.client.ep, "early_sent") > sent); /* again with each hello */
    assert_int_equal(net_counter(pair.server.ep, "early_taken"), got + taken);
    assert_int_equal(net_counter(pair.client.ep, "early_refused"), refused + !taken);
    assert_int_equal(net_counter(pair.server.ep, "requests_received"), requests + 1);
    session_works(s);
}

/* Taken while tickets are; a server that was restarted, or has read its credentials again, refuses
 * them and answers after its handshake. */
static void test_early(void **state)
{
    wants_early = 1;
    ends_open(false);
    session_by(false);
    early_call(true);
    early_call(true);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    early_call(false);
    early_call(true);
    server_restart(5);
    early_call(false);
    early_call(true);
    net_pair_close(&pair);
    wants_early = 0;
}

/* Whom a new list names runs nothing early, though he has a ticket. */
static void test_early_of_the_revoked(void **state)
{
    struct smt_session *s;
    wants_early = 1;
    ends_open(true);
    session_by(false);
    early_call(true);
    crl_write(&client, NULL);
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    assert_int_equal(session_try(&s), SMT_ECERT);
    assert_int_equal(net_counter(pair.server.ep, "early_taken"), 1);
    net_pair_close(&pair);
    wants_early = 0;
}

static void test_no_resumption(void **state)
{
    for (unsigned who = 0; who < 2; who++) {
        struct net_end *ends[2] = {&pair.server, &pair.client};
        ends_open(false);
        struct net_end *end = ends[who];
        const char *name = who == 0 ? "server" : "client";
        struct smt_ctx_config config = config_of(name, false, NULL, 0);
        config.no_resumption = 1;
        net_end_close(end);
        assert_int_equal(smt_ctx_open(&config, &end->ctx), 0);
        struct smt_ep_config ep = SMT_EP_CONFIG_INIT;
        ep.bind_host = "127.0.0.1";
        ep.accept = who == 0;
        assert_int_equal(smt_ep_open(end->ctx, &ep, &end->ep), 0);
        for (unsigned i = 0; i < 3; i++)
            session_by(false);
        net_pair_close(&pair);
    }
}

static void test_psk_renewed(void **state)
{
    struct smt_session *s;
    const char *path = test_dir_write(&dir, "psk", "me:00112233445566778899aabbccddeeff\n");
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.psk_file = path;
    struct smt_ep_config ep = SMT_EP_CONFIG_INIT;
    ep.bind_host = "127.0.0.1";
    ep.accept = 1;
    assert_int_equal(smt_ctx_open(&config, &pair.server.ctx), 0);
    assert_int_equal(smt_ctx_open(&config, &pair.client.ctx), 0);
    assert_int_equal(smt_ep_open(pair.server.ctx, &ep, &pair.server.ep), 0);
    assert_int_equal(smt_ep_open(pair.client.ctx, &ep, &pair.client.ep), 0);
    pair.server.host = pair.client.host = ep.bind_host;
    assert_int_equal(session_try(&s), 0);
    test_dir_write(&dir, "psk", "me:ff112233445566778899aabbccddeeff\n");
    assert_int_equal(smt_ctx_reload(pair.server.ctx), 0);
    assert_int_equal(session_try(&s), SMT_EPSK);
    assert_int_equal(smt_ctx_reload(pair.client.ctx), 0);
    assert_int_equal(session_try(&s), 0);
    session_works(s);
    net_pair_close(&pair);
}

static void test_nothing_to_read(void **state)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.plaintext = 1;
    struct smt_ctx *ctx;
    assert_int_equal(smt_ctx_open(&config, &ctx), 0);
    assert_int_equal(smt_ctx_reload(ctx), SMT_EUNSUPPORTED);
    assert_int_equal(smt_ctx_close(ctx), 0);
    assert_int_equal(smt_ctx_reload(NULL), SMT_EINVAL);
}

static void *reload_often(void *arg)
{
    for (unsigned i = 0; i < N_RELOADS; i++) {
        if (smt_ctx_reload(arg) != 0)
            return "reload failed";
        usleep(1000);
    }
    return NULL;
}

/* Another thread reads again and again while handshakes come and go. */
static void test_from_another_thread(void **state)
{
    ends_open(true);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, reload_often, pair.server.ctx), 0);
    for (unsigned i = 0; i < N_RELOADS; i++) {
        struct smt_session *s;
        assert_int_equal(session_try(&s), 0);
        assert_int_equal(smt_session_close(s), 0);
        net_expect(&pair, &pair.client, SMT_EV_SESSION_DOWN);
        net_expect(&pair, &pair.server, SMT_EV_SESSION_DOWN);
    }
    void *failed;
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    net_pair_close(&pair);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_revoked_server, fresh_files),
        cmocka_unit_test_setup(test_revoked_client, fresh_files),
        cmocka_unit_test_setup(test_not_revoked, fresh_files),
        cmocka_unit_test_setup(test_no_list_of_this_authority, fresh_files),
        cmocka_unit_test_setup(test_bad_lists, fresh_files),
        cmocka_unit_test_setup(test_revoked_later, fresh_files),
        cmocka_unit_test_setup(test_renewed, fresh_files),
        cmocka_unit_test_setup(test_broken, fresh_files),
        cmocka_unit_test_setup(test_resumed, fresh_files),
        cmocka_unit_test_setup(test_reload_forgets_tickets, fresh_files),
        cmocka_unit_test_setup(test_revoked_with_a_ticket, fresh_files),
        cmocka_unit_test_setup(test_restarted_with_a_ticket, fresh_files),
        cmocka_unit_test_setup(test_early, fresh_files),
        cmocka_unit_test_setup(test_early_of_the_revoked, fresh_files),
        cmocka_unit_test_setup(test_no_resumption, fresh_files),
        cmocka_unit_test_setup(test_psk_renewed, fresh_files),
        cmocka_unit_test_setup(test_nothing_to_read, fresh_files),
        cmocka_unit_test_setup(test_from_another_thread, fresh_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
