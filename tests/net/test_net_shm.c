/* Whether endpoints on one host meet by shared memory without being asked to: over the usual
 * device, unless it is forbidden, and whatever becomes of the peer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <smt/smt.h>

#include "api/api.h"
#include "dev/shm.h"

enum { PATIENCE_S = 60, BIG = 3 << 20 };

static const char psk_line[] = "alpha:00112233445566778899aabbccddeeff\n";
static char psk_file[] = "/tmp/smt-shm-psk-XXXXXX";

static int set_up_all(void **state)
{
    (void)state;
    int fd = mkstemp(psk_file);
    bool ok = fd >= 0 && write(fd, psk_line, sizeof(psk_line) - 1) == sizeof(psk_line) - 1;
    if (fd >= 0)
        close(fd);
    return ok ? 0 : -1;
}

static int tear_down_all(void **state)
{
    (void)state;
    return unlink(psk_file);
}

struct end {
    struct smt_ctx *ctx;
    struct smt_ep *ep;
};

struct pair {
    struct end server, client;
    struct smt_session *session;
    uint8_t *bytes;
    unsigned n_lent; /* copies that replies of the server still need */
};

static struct end end_open(const char *device, int shm, bool accepts, uint16_t port)
{
    struct end e = {0};
    char text[256] = "";
    struct smt_ctx_config c = SMT_CTX_CONFIG_INIT;
    c.device = device;
    c.psk_file = psk_file;
    c.shm = shm;
    c.error_text = text;
    c.error_text_len = sizeof(text);
    if (smt_ctx_open(&c, &e.ctx) < 0)
        fail_msg("%s", text);
    struct smt_ep_config ec = SMT_EP_CONFIG_INIT;
    ec.bind_host = "127.0.0.1";
    ec.port = port;
    ec.accept = accepts;
    ec.poll_spin = 1;
    if (smt_ep_open(e.ctx, &ec, &e.ep) < 0)
        fail_msg("%s", smt_error_text(e.ctx));
    return e;
}

static void end_close(struct end *e)
{
    assert_int_equal(smt_ep_close(e->ep), 0);
    assert_int_equal(smt_ctx_close(e->ctx), 0);
    *e = (struct end){0};
}

static struct pair *pair_open(const char *device, int server_shm, int client_shm)
{
    struct pair *p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->bytes = calloc(1, BIG);
    assert_non_null(p->bytes);
    for (uint32_t i = 0; i < BIG; i++)
        p->bytes[i] = (uint8_t)(i * 7 + (i >> 11));
    p->server = end_open(device, server_shm, true, 0);
    p->client = end_open(device, client_shm, false, 0);
    char to[64];
    snprintf(to, sizeof(to), "127.0.0.1:%u", smt_ep_port(p->server.ep));
    assert_int_equal(smt_connect(p->client.ep, to, NULL, 0, &p->session), 0);
    return p;
}

static void pair_close(struct pair *p)
{
    end_close(&p->client);
    end_close(&p->server);
    free(p->bytes);
    free(p);
}

/* The server's part: what comes goes back. */
static void serve(struct pair *p)
{
    struct smt_event ev[16];
    int n = smt_poll(p->server.ep, ev, 16);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        if (ev[i].type != SMT_EV_REQUEST)
            continue;
        uint8_t *copy = malloc(ev[i].len);
        assert_non_null(copy);
        memcpy(copy, ev[i].data, ev[i].len);
        const struct smt_iov iov = {copy, ev[i].len};
        assert_int_equal(smt_reply(ev[i].msg, &iov, 1, copy), 0);
        smt_release(ev[i].msg);
        p->n_lent++;
    }
    for (int i = 0; i < n; i++) {
        if (ev[i].type == SMT_EV_SENT || ev[i].type == SMT_EV_FAILED) {
            free(ev[i].user);
            p->n_lent--;
        }
    }
}

/* Calls of this length there and back, every byte looked at. How many failed. */
static unsigned exchange_some(struct pair *p, uint32_t len, unsigned n_calls)
{
    unsigned n_back = 0, n_failed = 0;
    const struct smt_iov iov = {p->bytes, len};
    const struct smt_call_args args = {
        .size = sizeof(args), .iov = &iov, .n_iov = 1, .flags = SMT_IDEMPOTENT};
    for (unsigned i = 0; i < n_calls; i++)
        assert_int_equal(smt_call(p->session, &args, NULL), 0);
    time_t end = time(NULL) + PATIENCE_S;
    while (n_back < n_calls || p->n_lent > 0) {
        struct smt_event ev[16];
        serve(p);
        int n = smt_poll(p->client.ep, ev, 16);
        assert_true(n >= 0);
        for (int i = 0; i < n; i++) {
            n_failed += ev[i].type == SMT_EV_FAILED;
            n_back += ev[i].type == SMT_EV_FAILED;
            if (ev[i].type != SMT_EV_RESPONSE)
                continue;
            assert_int_equal(ev[i].len, len);
            assert_memory_equal(ev[i].data, p->bytes, len);
            smt_release(ev[i].msg);
            n_back++;
        }
        assert_true(time(NULL) < end);
    }
    return n_failed;
}

static void exchange(struct pair *p, uint32_t len, unsigned n_calls)
{
    assert_int_equal(exchange_some(p, len, n_calls), 0);
}

/* Packets that this end has received by memory; 0 when it has no memory at all. */
static uint64_t by_memory(const struct end *e)
{
    if (strcmp(e->ep->dev->ops->name, "shm") != 0)
        return 0;
    return SMT_CONTAINER_OF(e->ep->dev, struct smt_shm, base)->stats.rx_packets;
}

static uint64_t by_socket(const struct end *e)
{
    struct smt_dev_stats s;
    e->ep->dev->ops->stats(e->ep->dev, &s);
    return s.rx_packets - by_memory(e);
}

static void test_by_itself(void **state)
{
    (void)state;
    static const char *const devices[] = {NULL, "udp", "af", "shm"};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(devices); i++) {
        struct pair *p = pair_open(devices[i], 0, 0);
        exchange(p, 100, 50);
        exchange(p, BIG, 4);
        assert_true(by_memory(&p->server) > 600 && by_memory(&p->client) > 600);
        assert_int_equal(by_socket(&p->server), 0);
        assert_int_equal(by_socket(&p->client), 0);
        pair_close(p);
    }
}

static void test_forbidden(void **state)
{
    (void)state;
    struct pair *p = pair_open(NULL, -1, 0);
    exchange(p, 5000, 20);
    assert_int_equal(by_memory(&p->server) + by_memory(&p->client), 0);
    pair_close(p);
    p = pair_open(NULL, 0, -1);
    exchange(p, 5000, 20);
    assert_int_equal(by_memory(&p->server) + by_memory(&p->client), 0);
    pair_close(p);
    assert_int_equal(setenv("SMT_SHM", "0", 1), 0);
    p = pair_open(NULL, 0, 1);
    assert_int_equal(unsetenv("SMT_SHM"), 0);
    exchange(p, 5000, 20);
    assert_int_equal(by_memory(&p->server) + by_memory(&p->client), 0);
    pair_close(p);
    struct smt_ctx_config c = SMT_CTX_CONFIG_INIT;
    c.psk_file = psk_file;
    c.shm = 2;
    struct smt_ctx *ctx;
    assert_int_equal(smt_ctx_open(&c, &ctx), SMT_EINVAL);
}

/* A peer that comes back without shared memory on the same port, and then with it again. */
static void test_comes_back_otherwise(void **state)
{
    (void)state;
    struct pair *p = pair_open(NULL, 0, 0);
    exchange(p, 1000, 20);
    uint16_t port = smt_ep_port(p->server.ep);
    for (unsigned round = 0; round < 4; round++) {
        end_close(&p->server);
        bool has_memory = round % 2 == 1;
        p->server = end_open(NULL, has_memory ? 0 : -1, true, port);
        uint64_t socket = by_socket(&p->client), memory = by_memory(&p->client);
        time_t end = time(NULL) + PATIENCE_S;
        for (;;) {
            /* The session with the old one is over: calls fail until that is known. */
            char to[64];
            snprintf(to, sizeof(to), "127.0.0.1:%u", port);
            assert_int_equal(smt_connect(p->client.ep, to, NULL, 0, &p->session), 0);
            (void)exchange_some(p, 1000, 5);
            bool was = has_memory ? by_memory(&p->client) > memory : by_socket(&p->client) > socket;
            if (was)
                break;
            assert_true(time(NULL) < end);
        }
    }
    pair_close(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_itself),
        cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_comes_back_otherwise),
    };
    if (unsetenv("SMT_SHM") < 0)
        return 1;
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
