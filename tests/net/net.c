/* Pairs of endpoints for the net suite, over loopback or what the environment says. */
#include "net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "certs.h"

enum { BATCH = 64 };

static struct test_dir dir;
static bool dir_is_ours;
static char pin[TEST_PIN_LEN], wrong_pin[TEST_PIN_LEN];

void net_use_dir(const char *path)
{
    snprintf(dir.path, sizeof(dir.path), "%s", path);
}

static void identity_write(const char *name, const struct test_cert_spec *spec,
                           const struct test_identity *issuer, char *pin_out)
{
    struct test_identity made = test_identity_make(spec, issuer);
    test_dir_write_identity(&dir, name, &made, NULL);
    if (pin_out != NULL)
        test_pin(&made, pin_out);
    test_identity_free(&made);
}

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

static unsigned slowness(void)
{
    unsigned n = (unsigned)strtoul(setting("SMT_TEST_SLOW", "1"), NULL, 10);
    return n > 0 ? n : 1;
}

unsigned net_slow(void)
{
    return 8 * slowness();
}

const char *net_host(bool accepts)
{
    const char *host = setting("SMT_TEST_HOST", "127.0.0.1");
    return accepts ? host : setting("SMT_TEST_CLIENT_HOST", host);
}

static const char *net_device(bool accepts)
{
    const char *device = setting("SMT_TEST_DEVICE", NULL);
    return accepts ? device : setting("SMT_TEST_CLIENT_DEVICE", device);
}

int net_setup(void **state)
{
    char names[256];
    snprintf(names, sizeof(names), "DNS:localhost,IP:127.0.0.1,IP:::1,IP:%s,IP:%s", net_host(true),
             net_host(false));
    test_dir_make(&dir);
    dir_is_ours = true;
    struct test_identity ca =
        test_identity_make(&(struct test_cert_spec){.cn = "ca", .is_ca = true}, NULL);
    struct test_identity other =
        test_identity_make(&(struct test_cert_spec){.cn = "other", .is_ca = true}, NULL);
    test_dir_write_identity(&dir, "ca", &ca, NULL);
    identity_write("node", &(struct test_cert_spec){.cn = "node", .san = names}, &ca, pin);
    identity_write("stranger", &(struct test_cert_spec){.cn = "stranger", .san = names}, &other,
                   wrong_pin);
    identity_write("expired", &(struct test_cert_spec){.cn = "old", .begin_s = -7200, .end_s = -60},
                   &ca, NULL);
    test_identity_free(&ca);
    test_identity_free(&other);
    test_dir_write(&dir, "psk", "alpha:00112233445566778899aabbccddeeff\n");
    test_dir_write(&dir, "psk_other", "alpha:ff112233445566778899aabbccddeeff\n");
    test_dir_write(&dir, "psk_unknown", "gamma:00112233445566778899aabbccddeeff\n");
    return 0;
}

int net_teardown(void **state)
{
    if (dir_is_ours)
        test_dir_remove(&dir);
    return 0;
}

const char *net_file(const char *name)
{
    return test_dir_path(&dir, name);
}

uint64_t net_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void log_line(void *arg, int level, const char *text)
{
    if (getenv("SMT_TEST_LOG") != NULL)
        fprintf(stderr, "[%d] %s\n", level, text);
}

static struct smt_ctx *ctx_open(enum net_security security, const char *device)
{
    static const struct {
        const char *cert, *ca, *psk;
        const char *pins;
        bool anybody;
    } rows[NET_N_SECURITIES] = {
        [NET_CERT] = {.cert = "node", .ca = "ca"},
        [NET_PSK] = {.psk = "psk"},
        [NET_PIN] = {.cert = "node", .pins = pin},
        [NET_CERT_STRANGER] = {.cert = "stranger", .ca = "ca"},
        [NET_PSK_OTHER] = {.psk = "psk_other"},
        [NET_PSK_UNKNOWN] = {.psk = "psk_unknown"},
        [NET_PIN_WRONG] = {.cert = "node", .pins = wrong_pin},
        [NET_CA_ONLY] = {.ca = "ca"},
        [NET_CERT_ANYBODY] = {.cert = "node", .ca = "ca", .anybody = true},
    };
    char cert[160], key[160], ca[160], text[256] = "";
    const char *name = rows[security].cert;
    snprintf(cert, sizeof(cert), "%s/%s.pem", dir.path, name != NULL ? name : "");
    snprintf(key, sizeof(key), "%s/%s.key", dir.path, name != NULL ? name : "");
    snprintf(ca, sizeof(ca), "%s/ca.pem", dir.path);
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.device = device;
    config.cert_file = name != NULL ? cert : NULL;
    config.key_file = name != NULL ? key : NULL;
    config.ca_file = rows[security].ca != NULL ? ca : NULL;
    config.psk_file = rows[security].psk != NULL ? net_file(rows[security].psk) : NULL;
    config.pins = rows[security].pins;
    config.plaintext = security == NET_PLAIN;
    config.client_cert_optional = rows[security].anybody;
    config.tap = getenv("SMT_TEST_TAP");
    config.log = log_line;
    config.error_text = text;
    config.error_text_len = sizeof(text);
    struct smt_ctx *ctx;
    int r = smt_ctx_open(&config, &ctx);
    if (r < 0)
        fail_msg("context: %s: %s", smt_error_name(r), text);
    return ctx;
}

struct smt_ctx *net_ctx(enum net_security security)
{
    return ctx_open(security, net_device(true));
}

/* Times of an endpoint. Those that the test left open are nobody's: a machine may stand still for
 * longer than the library would be patient. */
static void config_slow_down(struct smt_ep_config *c)
{
    enum { OPEN_S = 60 };
    unsigned slow = slowness();
    c->peer_timeout_ns =
        c->peer_timeout_ns > 0 ? c->peer_timeout_ns * slow : OPEN_S * 1000000000ull * slow;
    c->handshake_timeout_ns = c->handshake_timeout_ns > 0 ? c->handshake_timeout_ns * slow
                                                          : OPEN_S * 1000000000ull * slow;
}

static void end_open(struct net_end *end, enum net_security security, bool accept,
                     const struct smt_ep_config *config, bool there)
{
    struct smt_ep_config c = SMT_EP_CONFIG_INIT;
    if (config != NULL)
        c = *config;
    c.accept = accept;
    end->host = net_host(there);
    if (c.bind_host == NULL)
        c.bind_host = end->host;
    else if (strcmp(c.bind_host, "*") == 0)
        c.bind_host = NULL;
    config_slow_down(&c);
    end->n = 0;
    end->ctx = ctx_open(security, net_device(there));
    int r = smt_ep_open(end->ctx, &c, &end->ep);
    if (r < 0)
        fail_msg("endpoint: %s: %s", smt_error_name(r), smt_error_text(end->ctx));
}

void net_end_open(struct net_end *end, enum net_security security, bool accept,
                  const struct smt_ep_config *config)
{
    end_open(end, security, accept, config, accept);
}

void net_end_open_there(struct net_end *end, enum net_security security, bool accept,
                        const struct smt_ep_config *config)
{
    end_open(end, security, accept, config, true);
}

void net_end_close(struct net_end *end)
{
    assert_int_equal(smt_ep_close(end->ep), 0);
    assert_int_equal(smt_ctx_close(end->ctx), 0);
}

const char *net_address_of(const char *host, uint16_t port)
{
    static char text[80];
    snprintf(text, sizeof(text), strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
    return text;
}

const char *net_address(const struct net_end *end)
{
    return net_address_of(end->host, smt_ep_port(end->ep));
}

void net_pair_open(struct net_pair *pair, enum net_security security,
                   const struct smt_ep_config *server, const struct smt_ep_config *client)
{
    net_end_open(&pair->server, security, true, server);
    net_end_open(&pair->client, security, false, client);
    int r = smt_connect(pair->client.ep, net_address(&pair->server), NULL, 0, &pair->session);
    if (r < 0)
        fail_msg("connect: %s: %s", smt_error_name(r), smt_error_text(pair->client.ctx));
    struct smt_event ev = net_expect(pair, &pair->client, SMT_EV_SESSION_UP);
    assert_ptr_equal(ev.session, pair->session);
    ev = net_expect(pair, &pair->server, SMT_EV_SESSION_UP);
    pair->peer = ev.session;
}

void net_pair_close(struct net_pair *pair)
{
    net_end_close(&pair->client);
    net_end_close(&pair->server);
}

static unsigned end_poll(struct net_end *end)
{
    if (end->ep == NULL)
        return 0;
    unsigned room = NET_QUEUE - end->n;
    int n = smt_poll(end->ep, end->queue + end->n, room < BATCH ? room : BATCH);
    if (n < 0)
        fail_msg("poll: %s: %s", smt_error_name(n), smt_error_text(end->ctx));
    end->n += (unsigned)n;
    return (unsigned)n;
}

void net_pump(struct net_pair *pair)
{
    unsigned n = end_poll(&pair->client) + end_poll(&pair->server);
    if (n == 0 && smt_arm(pair->client.ep) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

void net_pump_for(struct net_pair *pair, uint64_t ns)
{
    uint64_t end = net_now() + ns;
    while (net_now() < end)
        net_pump(pair);
}

bool net_take(struct net_end *end, enum smt_event_type type, struct smt_event *out)
{
    for (unsigned i = 0; i < end->n; i++) {
        if (end->queue[i].type != type)
            continue;
        *out = end->queue[i];
        end->n--;
        memmove(end->queue + i, end->queue + i + 1, (end->n - i) * sizeof(end->queue[0]));
        return true;
    }
    return false;
}

unsigned net_count(const struct net_end *end, enum smt_event_type type)
{
    unsigned n = 0;
    for (unsigned i = 0; i < end->n; i++)
        n += end->queue[i].type == type;
    return n;
}

static void queue_print(const char *who, const struct net_end *end)
{
    for (unsigned i = 0; i < end->n && i < 20; i++)
        print_error("%s: event %d error %s\n", who, end->queue[i].type,
                    smt_error_name(end->queue[i].error));
}

struct smt_event net_expect(struct net_pair *pair, struct net_end *end, enum smt_event_type type)
{
    struct smt_event ev = {0};
    uint64_t until = net_now() + 10000000000ull * net_slow();
    while (!net_take(end, type, &ev)) {
        net_pump(pair);
        if (net_now() > until) {
            queue_print("client", &pair->client);
            queue_print("server", &pair->server);
            fail_msg("event %d did not come to the %s", type,
                     end == &pair->client ? "client" : "server");
        }
    }
    return ev;
}

unsigned net_echo(struct net_end *end)
{
    unsigned n = 0;
    for (struct smt_event ev; net_take(end, SMT_EV_REQUEST, &ev); n++) {
        struct smt_iov iov = {ev.data, ev.len};
        assert_int_equal(smt_reply(ev.msg, &iov, ev.len > 0, ev.msg), 0);
    }
    for (struct smt_event ev; net_take(end, SMT_EV_SENT, &ev);) {
        if (ev.call_id == 0 && ev.user != NULL)
            smt_release(ev.user);
    }
    return n;
}

int net_call(struct smt_session *s, const void *p, size_t len, uint64_t deadline_ns, void *user,
             uint64_t *id)
{
    struct smt_iov iov = {p, len};
    struct smt_call_args args = {
        .size = sizeof(args),
        .iov = &iov,
        .n_iov = 1,
        .deadline_ns = deadline_ns,
        .user = user,
    };
    return smt_call(s, &args, id);
}

static uint8_t pattern(uint64_t seed, size_t i)
{
    uint64_t x = (seed + i / 8) * 0x9e3779b97f4a7c15ull;
    return (uint8_t)(x >> (8 * (i % 8)) ^ (x >> 56));
}

void net_fill(uint8_t *p, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++)
        p[i] = pattern(seed, i);
}

void net_check(const void *p, size_t len, uint64_t seed)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < len; i++) {
        if (b[i] != pattern(seed, i))
            fail_msg("byte %zu of %zu differs", i, len);
    }
}

uint64_t net_counter(const struct smt_ep *ep, const char *name)
{
    struct smt_counter counters[512];
    int n = smt_ep_counters(ep, counters, 512);
    assert_in_range(n, 1, 512);
    for (int i = 0; i < n; i++) {
        if (strcmp(counters[i].name, name) == 0)
            return counters[i].value;
    }
    fail_msg("no counter %s", name);
    return 0;
}
