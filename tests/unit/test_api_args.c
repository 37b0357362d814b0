/* What the public calls say to nonsense: codes and texts, no crash. Nothing here needs a peer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <smt/smt.h>
#include <smt/tls.h>

#include "api/api.h"

static struct smt_ctx *plain_ctx(void)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    struct smt_ctx *ctx;
    config.plaintext = 1;
    assert_int_equal(smt_ctx_open(&config, &ctx), 0);
    return ctx;
}

static struct smt_ctx *psk_ctx(void)
{
    char path[] = "/tmp/smt_args_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char line[] = "alpha:00112233445566778899aabbccddeeff\n";
    assert_int_equal(write(fd, line, sizeof(line) - 1), (int)sizeof(line) - 1);
    close(fd);
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    struct smt_ctx *ctx;
    config.psk_file = path;
    assert_int_equal(smt_ctx_open(&config, &ctx), 0);
    unlink(path);
    return ctx;
}

static void expect_refused(const struct smt_ctx_config *config, int code, const char *word)
{
    char text[256] = "";
    struct smt_ctx_config c = *config;
    c.error_text = text;
    c.error_text_len = sizeof(text);
    struct smt_ctx *ctx = (struct smt_ctx *)&c;
    int r = smt_ctx_open(&c, &ctx);
    if (r != code)
        fail_msg("%s: %s, expected %s", smt_error_name(r), text, smt_error_name(code));
    assert_null(ctx);
    if (strstr(text, word) == NULL)
        fail_msg("\"%s\" does not speak of %s", text, word);
    assert_string_equal(text, smt_error_text(NULL));
}

static void log_nothing(void *arg, int level, const char *text)
{
}

static void test_ctx_security(void **state)
{
    static const struct {
        struct smt_ctx_config config;
        int code;
        const char *word;
    } rows[] = {
        {{.size = sizeof(struct smt_ctx_config)}, SMT_ECREDENTIALS, "cert_file"},
        {{.size = sizeof(struct smt_ctx_config)}, SMT_ECREDENTIALS, "psk_file"},
        {{.size = sizeof(struct smt_ctx_config)}, SMT_ECREDENTIALS, "plaintext"},
        {{.size = sizeof(struct smt_ctx_config), .plaintext = 1, .psk_file = "x"},
         SMT_ECREDENTIALS,
         "only one"},
        {{.size = sizeof(struct smt_ctx_config), .plaintext = 1, .ca_file = "x"},
         SMT_ECREDENTIALS,
         "only one"},
        {{.size = sizeof(struct smt_ctx_config), .cert_file = "x", .ca_file = "x"},
         SMT_ECREDENTIALS,
         "key_file"},
        {{.size = sizeof(struct smt_ctx_config), .key_file = "x", .ca_file = "x"},
         SMT_ECREDENTIALS,
         "cert_file"},
        {{.size = sizeof(struct smt_ctx_config), .cert_file = "x", .key_file = "y"},
         SMT_ECREDENTIALS,
         "ca_file"},
        {{.size = sizeof(struct smt_ctx_config), .psk_file = "/nonexistent/psk"},
         SMT_EFILE,
         "/nonexistent/psk"},
        {{.size = sizeof(struct smt_ctx_config), .ca_file = "/nonexistent/ca"},
         SMT_EFILE,
         "/nonexistent/ca"},
        {{.size = sizeof(struct smt_ctx_config), .plaintext = 1, .device = "nosuch"},
         SMT_ENODEV,
         "udp"},
        {{.size = sizeof(struct smt_ctx_config), .plaintext = 1, .cipher = "aes-128-gcm"},
         SMT_EINVAL,
         "plaintext"},
        {{.size = sizeof(struct smt_ctx_config), .psk_file = "x", .cipher = "rot13"},
         SMT_EUNSUPPORTED,
         "aes-128-gcm"},
        {{.size = sizeof(struct smt_ctx_config), .psk_file = "x", .cipher = ""},
         SMT_EUNSUPPORTED,
         "aes-128-gcm"},
        {{.size = sizeof(struct smt_ctx_config),
          .psk_file = "x",
          .cipher = "aes-128-gcm,aes-128-gcm"},
         SMT_EINVAL,
         "twice"},
        {{.size = sizeof(struct smt_ctx_config), .psk_file = "x", .cipher_impl = "abacus"},
         SMT_EINVAL,
         "openssl"},
        {{.size = 0, .plaintext = 1}, SMT_EINVAL, "INIT"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct smt_ctx *ctx;
        if (rows[i].config.size > 0)
            expect_refused(&rows[i].config, rows[i].code, rows[i].word);
        else
            assert_int_equal(smt_ctx_open(&rows[i].config, &ctx), rows[i].code);
    }
    struct smt_ctx *ctx;
    assert_int_equal(smt_ctx_open(NULL, &ctx), SMT_EINVAL);
    assert_int_equal(smt_ctx_open(&rows[0].config, NULL), SMT_EINVAL);
    assert_int_equal(smt_ctx_close(NULL), 0);
}

/* What each wire format takes for its security, and nothing else. */
static void test_ctx_profiles(void **state)
{
    static const struct {
        struct smt_ctx_config config;
        int code;
        const char *word;
    } rows[] = {
        {{.profile = "tcp"}, SMT_EINVAL, "homa-main, homa-6.1, smt1"},
        {{.profile = "smt2"}, SMT_ECREDENTIALS, "cert_file"},
        {{.profile = "homa-main", .psk_file = "x"}, SMT_ECREDENTIALS, "no security at all"},
        {{.profile = "homa-6.1", .cert_file = "x"}, SMT_ECREDENTIALS, "no security at all"},
        {{.profile = "homa-main", .cipher = "aes-128-gcm"}, SMT_EINVAL, "cipher"},
        {{.profile = "homa-main", .keys_file = "x"}, SMT_ECREDENTIALS, "smt1"},
        {{.plaintext = 1, .keys_file = "x"}, SMT_ECREDENTIALS, "smt1"},
        {{.profile = "smt1"}, SMT_ECREDENTIALS, "keys_file"},
        {{.profile = "smt1", .plaintext = 1, .keys_file = "x"}, SMT_ECREDENTIALS, "plaintext"},
        {{.profile = "smt1", .keys_file = "/nonexistent/keys"}, SMT_EFILE, "/nonexistent/keys"},
        {{.profile = "homa-main", .device = "udp"}, SMT_EUNSUPPORTED, "device \"ip\""},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct smt_ctx_config config = rows[i].config;
        config.size = sizeof(config);
        config.log = log_nothing;
        expect_refused(&config, rows[i].code, rows[i].word);
    }
}

static void keys_expect(const char *lines, const char *word)
{
    char path[] = "/tmp/smt_args_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, lines, strlen(lines)), (int)strlen(lines));
    close(fd);
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.profile = "smt1";
    config.keys_file = path;
    config.log = log_nothing;
    config.device = "udp"; /* keys are read before the device is opened */
    bool good = word == NULL;
    expect_refused(&config, good ? SMT_EUNSUPPORTED : SMT_ECREDENTIALS, good ? "ip" : word);
    unlink(path);
}

#define CLIENT_LINE "client 8DD230A77A05EB71159129BCBCF64230 87C635C8\n"
#define SERVER_LINE "server 6CCF62FF4BE61485D8BA29FE2E847A7F B9FA5583\n"

static void test_keys_file(void **state)
{
    keys_expect(CLIENT_LINE SERVER_LINE, NULL);
    keys_expect("# bench\n\n" SERVER_LINE "  " CLIENT_LINE, NULL);
    keys_expect(CLIENT_LINE, "server");
    keys_expect(SERVER_LINE, "client");
    keys_expect(CLIENT_LINE CLIENT_LINE, "line 2");
    keys_expect("client 8DD2 87C635C8\n", "32 hex digits");
    keys_expect("client 8DD230A77A05EB71159129BCBCF64230 87\n", "8 hex digits");
    keys_expect("client 8DD230A77A05EB71159129BCBCF64230\n", "8 hex digits");
    keys_expect("client 8DD230A77A05EB71159129BCBCF64230 87C635C8 x\n", "follows");
    keys_expect("both 8DD230A77A05EB71159129BCBCF64230 87C635C8\n", "expected");
    keys_expect(CLIENT_LINE "server 8DD230A77A05EB71159129BCBCF64230 B9FA5583\n", "same key");
}

static void test_cipher_impl_environment(void **state)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.psk_file = "x";
    setenv("SMT_CIPHER_IMPL", "abacus", 1);
    expect_refused(&config, SMT_EINVAL, "abacus");
    config.cipher_impl = "openssl"; /* the config's own word goes first */
    expect_refused(&config, SMT_EFILE, "x");
    unsetenv("SMT_CIPHER_IMPL");
}

/* A program built against an older or a newer header. */
static void test_struct_sizes(void **state)
{
    struct {
        struct smt_ctx_config config;
        char more[64];
    } newer = {.config = {.size = sizeof(newer), .plaintext = 1}};
    memset(newer.more, 0xff, sizeof(newer.more));
    struct smt_ctx *ctx;
    assert_int_equal(smt_ctx_open(&newer.config, &ctx), 0);

    struct smt_ep_config older;
    memset(&older, 0xff, sizeof(older));
    older.size = offsetof(struct smt_ep_config, max_open_rpcs);
    older.bind_host = "127.0.0.1";
    older.port = 0;
    older.accept = 0;
    older.poll_spin = 0;
    struct smt_ep *ep;
    assert_int_equal(smt_ep_open(ctx, &older, &ep), 0);
    assert_true(smt_ep_port(ep) > 0);
    assert_int_equal(smt_ctx_close(ctx), SMT_ESTATE);
    assert_non_null(strstr(smt_error_text(ctx), "endpoints"));
    assert_int_equal(smt_ep_close(ep), 0);
    older.size = 1;
    assert_int_equal(smt_ep_open(ctx, &older, &ep), SMT_EINVAL);
    assert_null(ep);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void test_ep_config(void **state)
{
    struct smt_ctx *ctx = plain_ctx();
    struct smt_ep *ep, *second;
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    assert_int_equal(smt_ep_open(NULL, &config, &ep), SMT_EINVAL);
    assert_int_equal(smt_ep_open(ctx, &config, NULL), SMT_EINVAL);
    config.mtu = 100;
    assert_int_equal(smt_ep_open(ctx, &config, &ep), SMT_EINVAL);
    assert_non_null(strstr(smt_error_text(ctx), "mtu"));
    config.mtu = 0;
    config.max_msg_len = SMT_MAX_MSG_LEN + 1u;
    assert_int_equal(smt_ep_open(ctx, &config, &ep), SMT_EINVAL);
    config.max_msg_len = 0;
    config.bind_host = "203.0.113.77"; /* not ours */
    assert_true(smt_ep_open(ctx, &config, &ep) < 0);
    assert_true(strlen(smt_error_text(ctx)) > 10);
    config.bind_host = "127.0.0.1";
    assert_int_equal(smt_ep_open(ctx, &config, &ep), 0);
    config.port = smt_ep_port(ep);
    assert_int_equal(smt_ep_open(ctx, &config, &second), SMT_EADDRINUSE);
    assert_null(second);
    assert_int_equal(smt_ep_close(ep), 0);
    assert_int_equal(smt_ep_open(ctx, &config, &ep), 0);
    assert_int_equal(smt_ep_close(ep), 0);
    assert_int_equal(smt_ep_close(NULL), 0);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

/* An endpoint that accepts must have something to show. */
static void test_accept_needs_identity(void **state)
{
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.pins = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    struct smt_ctx *ctx;
    struct smt_ep *ep;
    assert_int_equal(smt_ctx_open(&config, &ctx), 0);
    struct smt_ep_config ep_config = SMT_EP_CONFIG_INIT;
    ep_config.accept = 1;
    assert_int_equal(smt_ep_open(ctx, &ep_config, &ep), SMT_ECREDENTIALS);
    assert_non_null(strstr(smt_error_text(ctx), "certificate"));
    assert_int_equal(smt_ctx_close(ctx), 0);
    ctx = psk_ctx();
    assert_int_equal(smt_ep_open(ctx, &ep_config, &ep), 0);
    assert_int_equal(smt_ep_close(ep), 0);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void test_connect_arguments(void **state)
{
    struct smt_ctx *ctx = plain_ctx();
    struct smt_ep *ep;
    struct smt_session *s;
    assert_int_equal(smt_ep_open(ctx, NULL, &ep), 0);
    assert_int_equal(smt_connect(NULL, "127.0.0.1", NULL, 0, &s), SMT_EINVAL);
    assert_int_equal(smt_connect(ep, NULL, NULL, 0, &s), SMT_EINVAL);
    assert_int_equal(smt_connect(ep, "", NULL, 0, &s), SMT_EINVAL);
    assert_int_equal(smt_connect(ep, "127.0.0.1", "", 0, &s), SMT_EINVAL);
    assert_int_equal(smt_connect(ep, "127.0.0.1", NULL, 0, NULL), SMT_EINVAL);
    assert_int_equal(smt_connect(ep, "127.0.0.1", NULL, 64, &s), SMT_EINVAL);
    static const char *const bad[] = {"[::1",     "[]:5",    ":5", "127.0.0.1:x", "127.0.0.1:70000",
                                      "[::1]:-1", "1.2.3.4:"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int r = smt_connect(ep, bad[i], NULL, 0, &s);
        if (r != SMT_ENAME)
            fail_msg("%s: %s", bad[i], smt_error_name(r));
        assert_null(s);
        assert_non_null(strstr(smt_error_text(ctx), bad[i]));
    }
    char name[400];
    memset(name, 'a', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(smt_connect(ep, "127.0.0.1", name, 0, &s), SMT_EINVAL);
    assert_int_equal(smt_connect_wait(ep, NULL, NULL, 0, 1, &s), SMT_EINVAL);
    assert_int_equal(smt_connect_wait(ep, "127.0.0.1", NULL, 0, 1, NULL), SMT_EINVAL);
    assert_int_equal(smt_ep_close(ep), 0);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void test_call_arguments(void **state)
{
    struct smt_ctx *ctx = plain_ctx();
    struct smt_ep *ep;
    struct smt_session *s;
    assert_int_equal(smt_ep_open(ctx, NULL, &ep), 0);
    assert_int_equal(smt_connect(ep, "127.0.0.1:1", NULL, 0, &s), 0);
    struct smt_iov iov[SMT_MAX_IOV + 1] = {{"x", 1}};
    struct smt_call_args args = {.size = sizeof(args), .iov = iov, .n_iov = 1};
    uint64_t id;
    assert_int_equal(smt_call(NULL, &args, &id), SMT_EINVAL);
    assert_int_equal(smt_call(s, NULL, &id), SMT_EINVAL);
    args.n_iov = SMT_MAX_IOV + 1;
    assert_int_equal(smt_call(s, &args, &id), SMT_EINVAL);
    assert_int_equal(smt_send(s, &args, &id), SMT_EINVAL);
    args.n_iov = 1;
    args.iov = NULL;
    assert_int_equal(smt_call(s, &args, &id), SMT_EINVAL);
    args.iov = iov;
    iov[0].base = NULL;
    assert_int_equal(smt_call(s, &args, &id), SMT_EINVAL);
    iov[0].base = "x";
    args.flags = 0x80;
    assert_int_equal(smt_call(s, &args, &id), SMT_EINVAL);
    args.flags = 0;
    args.size = 0;
    assert_int_equal(smt_call(s, &args, &id), SMT_EINVAL);
    args.size = sizeof(args);
    iov[0].len = SMT_MAX_MSG_LEN + 1ul;
    assert_int_equal(smt_call(s, &args, &id), SMT_EMSGSIZE);
    iov[0].len = 1;
    assert_int_equal(smt_call(s, &args, &id), 0);
    assert_true(id > 0);
    assert_int_equal(smt_cancel(s, id + 1), SMT_EINVAL);
    assert_int_equal(smt_cancel(s, id), 0);
    /* An older caller's shorter args. */
    args.size = offsetof(struct smt_call_args, resp_buf);
    args.resp_buf = (void *)1;
    assert_int_equal(smt_call(s, &args, &id), 0);
    assert_true(smt_call_wait(NULL, "x", 1, NULL, 0, 1) == SMT_EINVAL);
    assert_true(smt_call_wait(s, NULL, 1, NULL, 0, 1) == SMT_EINVAL);
    assert_true(smt_call_wait(s, "x", 1, NULL, 1, 1) == SMT_EINVAL);
    assert_true(smt_call_wait(s, "x", 1, NULL, 0, 20000000) == SMT_ETIMEDOUT);
    assert_int_equal(smt_cancel(NULL, 1), SMT_EINVAL);
    assert_int_equal(smt_ep_close(ep), 0);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void test_null_handles(void **state)
{
    struct smt_event ev;
    struct smt_session_info info = {.size = sizeof(info)};
    assert_int_equal(smt_poll(NULL, &ev, 1), SMT_EINVAL);
    assert_int_equal(smt_ep_drain(NULL, 1), SMT_EINVAL);
    assert_int_equal(smt_ep_port(NULL), 0);
    assert_int_equal(smt_ep_counters(NULL, NULL, 0), SMT_EINVAL);
    assert_int_equal(smt_session_close(NULL), SMT_EINVAL);
    smt_session_set_user(NULL, &ev);
    assert_null(smt_session_user(NULL));
    assert_int_equal(smt_session_get_info(NULL, &info), SMT_EINVAL);
    assert_null(smt_session_peer_cert(NULL));
    assert_int_equal(smt_reply(NULL, NULL, 0, NULL), SMT_EINVAL);
    assert_int_equal(smt_reject(NULL), SMT_EINVAL);
    assert_int_equal(smt_accept(NULL, NULL, 0), SMT_EINVAL);
    smt_release(NULL);
    assert_int_equal(smt_get_fd(NULL), SMT_EINVAL);
    assert_int_equal(smt_arm(NULL), SMT_EINVAL);
    assert_int_equal(smt_wait(NULL, 1), SMT_EINVAL);
    assert_int_equal(smt_wakeup(NULL), SMT_EINVAL);
    assert_null(smt_buf_alloc(NULL, 1));
    smt_buf_free(NULL, &ev);
    assert_int_equal(smt_buf_register(NULL, &ev, 1), SMT_EINVAL);
    assert_int_equal(smt_buf_unregister(NULL, &ev), SMT_EINVAL);
    assert_non_null(smt_error_text(NULL));
    assert_int_equal(smt_device_list(NULL, 1), SMT_EINVAL);
    assert_true(smt_device_list(NULL, 0) >= 1);
    assert_string_equal(smt_version(), "0.1.0");
}

static void test_devices(void **state)
{
    struct smt_device_info list[32];
    int n = smt_device_list(list, 32);
    assert_in_range(n, 1, 32);
    int udp = -1;
    for (int i = 0; i < n; i++) {
        if (strcmp(list[i].name, "udp") == 0)
            udp = i;
        assert_true(list[i].usable || list[i].reason[0] != '\0');
    }
    assert_true(udp >= 0 && list[udp].usable);
}

static void test_buffers(void **state)
{
    struct smt_ctx *ctx = plain_ctx();
    static char own[100];
    uint8_t *p = smt_buf_alloc(ctx, 5000);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    memset(p, 1, 5000);
    assert_null(smt_buf_alloc(ctx, 0));
    assert_null(smt_buf_alloc(ctx, SIZE_MAX));
    assert_int_equal(smt_buf_unregister(ctx, p), SMT_EINVAL); /* of smt_buf_alloc */
    smt_buf_free(ctx, own);                                   /* not ours: left alone */
    smt_buf_free(ctx, p);
    assert_int_equal(smt_buf_register(ctx, own, sizeof(own)), 0);
    assert_int_equal(smt_buf_register(ctx, own, sizeof(own)), SMT_EINVAL);
    smt_buf_free(ctx, own); /* registered, not allocated */
    assert_int_equal(smt_buf_unregister(ctx, own), 0);
    assert_int_equal(smt_buf_unregister(ctx, own), SMT_EINVAL);
    assert_int_equal(smt_buf_register(ctx, NULL, 1), SMT_EINVAL);
    assert_non_null(smt_buf_alloc(ctx, 1)); /* freed with the context */
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void test_error_text_is_per_context(void **state)
{
    struct smt_ctx *a = plain_ctx(), *b = plain_ctx();
    struct smt_ep *ep;
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.mtu = 1;
    assert_int_equal(smt_ep_open(a, &config, &ep), SMT_EINVAL);
    assert_non_null(strstr(smt_error_text(a), "mtu"));
    assert_string_equal(smt_error_text(b), "");
    config.mtu = 0;
    config.max_msg_len = UINT32_MAX;
    assert_int_equal(smt_ep_open(b, &config, &ep), SMT_EINVAL);
    assert_non_null(strstr(smt_error_text(a), "mtu"));
    assert_non_null(strstr(smt_error_text(b), "max_msg_len"));
    assert_int_equal(smt_ctx_close(a), 0);
    assert_int_equal(smt_ctx_close(b), 0);
}

static void test_ring(void **state)
{
    struct smt_ring r = {0};
    struct smt_event ev = {0};
    uint64_t in = 0, out = 0;
    assert_false(smt_ring_pop(&r, &ev));
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < round * 7; i++) {
            ev.call_id = in++;
            assert_int_equal(smt_ring_reserve(&r), 0);
            smt_ring_push(&r, &ev);
        }
        for (unsigned i = 0; i < round * 5; i++) {
            assert_true(smt_ring_pop(&r, &ev));
            assert_int_equal(ev.call_id, out++);
        }
    }
    while (smt_ring_pop(&r, &ev))
        assert_int_equal(ev.call_id, out++);
    assert_int_equal(out, in);
    smt_ring_fini(&r);
}

/* The n-th allocation fails, for each n: opening says ENOMEM and leaves nothing behind. */
static void test_out_of_memory(void **state)
{
    struct smt_ctx *ctx = plain_ctx();
    struct smt_mem_stats before = smt_mem_live();
    for (long n = 0;; n++) {
        struct smt_ep *ep;
        struct smt_session *s;
        smt_mem_fail_after(n);
        int r = smt_ep_open(ctx, NULL, &ep);
        if (r == 0)
            r = smt_connect(ep, "127.0.0.1:1", NULL, 0, &s);
        bool over = smt_mem_fail_after(-1) >= 0;
        assert_int_equal(smt_ep_close(ep), 0);
        if (over) {
            assert_int_equal(r, 0);
            break;
        }
        struct smt_mem_stats after = smt_mem_live();
        assert_int_equal(after.n_live, before.n_live);
    }
    assert_int_equal(smt_ctx_close(ctx), 0);
}

#define NEVER_SHORT 60000000000

/* Two endpoints of one context on a device in memory, polled until the client's session is up or
 * down. */
static int handshake_in_memory(struct smt_ctx *ctx, uint64_t timeout_ns, struct smt_ep *ends[2])
{
    struct smt_dev *devs[2];
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.handshake_timeout_ns = timeout_ns;
    config.accept = 1;
    int r = smt_dev_loop_pair(9000, 256, &devs[0], &devs[1]);
    if (r < 0)
        return r;
    r = smt_ep_open_on(ctx, &config, devs[0], &ends[0]);
    int r2 = smt_ep_open_on(ctx, &config, devs[1], &ends[1]);
    struct smt_session *s;
    if (r == 0)
        r = r2;
    if (r == 0)
        r = smt_connect(ends[0], "127.0.0.1:2", NULL, 0, &s);
    while (r == 0) {
        struct smt_event ev;
        if (smt_poll(ends[1], &ev, 1) < 0)
            return SMT_EINTERNAL;
        int n = smt_poll(ends[0], &ev, 1);
        if (n < 0)
            return n;
        if (n == 1 && ev.type == SMT_EV_SESSION_UP)
            return 0;
        if (n == 1 && ev.type == SMT_EV_SESSION_DOWN)
            r = ev.error;
    }
    return r;
}

/* Each of its allocations fails once. Whoever has memory for all of them may still be too late for
 * the short time, on a machine that does other things: then once more with a long one. */
static void handshake_sweep(struct smt_ctx *ctx)
{
    struct smt_mem_stats before = smt_mem_live();
    unsigned n_failed = 0;
    uint64_t timeout_ns = 30000000;
    for (long n = 0;;) {
        struct smt_ep *ends[2] = {NULL, NULL};
        smt_mem_fail_after(n);
        int r = handshake_in_memory(ctx, timeout_ns, ends);
        bool over = smt_mem_fail_after(-1) >= 0;
        assert_int_equal(smt_ep_close(ends[0]), 0);
        assert_int_equal(smt_ep_close(ends[1]), 0);
        assert_int_equal(smt_mem_live().n_live, before.n_live);
        n_failed += r < 0;
        if (over && (r == 0 || timeout_ns == NEVER_SHORT)) {
            assert_int_equal(r, 0);
            break;
        }
        if (over)
            timeout_ns = NEVER_SHORT;
        else
            n++;
    }
    assert_true(n_failed > 10);
    assert_int_equal(smt_ctx_close(ctx), 0);
}

static void test_out_of_memory_handshake(void **state)
{
    handshake_sweep(plain_ctx());
    handshake_sweep(psk_ctx());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ctx_security),
        cmocka_unit_test(test_ctx_profiles),
        cmocka_unit_test(test_keys_file),
        cmocka_unit_test(test_cipher_impl_environment),
        cmocka_unit_test(test_struct_sizes),
        cmocka_unit_test(test_ep_config),
        cmocka_unit_test(test_accept_needs_identity),
        cmocka_unit_test(test_connect_arguments),
        cmocka_unit_test(test_call_arguments),
        cmocka_unit_test(test_null_handles),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_error_text_is_per_context),
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_out_of_memory_handshake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
