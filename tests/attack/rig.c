/* The network of rig.h: a device a host, one queue of packets under way. */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "api/api.h"
#include "certs.h"
#include "dev/dev_impl.h"

enum { RIG_PORT = 700, RIG_QUEUE = 8192 };

struct rig_dev {
    struct smt_dev base;
    struct rig *rig;
    unsigned number;
    struct rig_packet out; /* reserved */
    bool has_out;
    struct rig_packet *in; /* a ring */
    uint64_t n_in, n_taken, n_lent;
};

struct rig_wire {
    struct rig_dev devs[RIG_ENDS];
};

static struct test_dir dir;

static const uint64_t step = 50 * SMT_USEC;

uint64_t rig_now = 1000 * SMT_SEC;

/* Bound by the linker in place of the library's clock, and of that of its endpoints. */
uint64_t __wrap_smt_api_clock(void);
uint64_t __wrap_smt_api_clock(void)
{
    return rig_now;
}

uint64_t __wrap_smt_clock_now(struct smt_clock *c);
uint64_t __wrap_smt_clock_now(struct smt_clock *c)
{
    return rig_now;
}

int rig_setup(void **state)
{
    (void)state;
    test_dir_make(&dir);
    struct test_identity ca =
        test_identity_make(&(struct test_cert_spec){.cn = "ca", .is_ca = true}, NULL);
    struct test_identity node = test_identity_make(
        &(struct test_cert_spec){.cn = "node", .san = "IP:10.0.0.1,IP:10.0.0.2,IP:10.0.0.3"}, &ca);
    test_dir_write_identity(&dir, "ca", &ca, NULL);
    test_dir_write_identity(&dir, "node", &node, NULL);
    test_identity_free(&node);
    test_identity_free(&ca);
    test_dir_write(&dir, "psk", "alpha:00112233445566778899aabbccddeeff\n");
    return 0;
}

int rig_teardown(void **state)
{
    (void)state;
    test_dir_remove(&dir);
    return 0;
}

const char *rig_file(const char *name)
{
    return test_dir_path(&dir, name);
}

/* ---- the device ---- */

static void deliver(struct rig *rig, const struct rig_packet *pkt)
{
    for (unsigned i = 0; i < RIG_ENDS; i++) {
        struct rig_dev *d = &rig->wire->devs[i];
        if (!smt_addr_equal(&rig->ends[i].addr, &pkt->to) || rig->ends[i].ep == NULL)
            continue;
        if (d->n_in - d->n_taken + d->n_lent < RIG_QUEUE - 512)
            d->in[d->n_in++ % RIG_QUEUE] = *pkt;
    }
}

static void send_out(struct rig_dev *d)
{
    if (!d->has_out)
        return;
    d->has_out = false;
    d->rig->n_packets++;
    if (d->rig->hook == NULL || d->rig->hook(d->rig, &d->out))
        deliver(d->rig, &d->out);
}

static uint8_t *rig_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                            uint8_t prio)
{
    struct rig_dev *d = SMT_CONTAINER_OF(dev, struct rig_dev, base);
    (void)prio;
    send_out(d);
    assert_true(len <= RIG_MAX_PACKET);
    d->out.from = d->rig->ends[d->number].addr;
    d->out.to = *to;
    d->out.len = (uint32_t)len;
    d->has_out = true;
    return d->out.data;
}

static void rig_unreserve(struct smt_dev *dev)
{
    SMT_CONTAINER_OF(dev, struct rig_dev, base)->has_out = false;
}

static int rig_flush(struct smt_dev *dev)
{
    send_out(SMT_CONTAINER_OF(dev, struct rig_dev, base));
    return 0;
}

static int rig_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct rig_dev *d = SMT_CONTAINER_OF(dev, struct rig_dev, base);
    unsigned got = 0;
    d->n_lent = 0;
    while (got < n && got < 64 && d->n_taken < d->n_in) {
        struct rig_packet *p = &d->in[d->n_taken++ % RIG_QUEUE];
        pkts[got++] = (struct smt_pkt){.data = p->data, .len = p->len, .from = &p->from};
    }
    d->n_lent = got;
    return (int)got;
}

static uint32_t rig_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    (void)dev;
    (void)to;
    return 1472;
}

static uint16_t rig_port(struct smt_dev *dev)
{
    (void)dev;
    return RIG_PORT;
}

static uint32_t rig_rx_capacity(struct smt_dev *dev)
{
    (void)dev;
    return 1 << 20;
}

static void rig_dev_close(struct smt_dev *dev)
{
    struct rig_dev *d = SMT_CONTAINER_OF(dev, struct rig_dev, base);
    send_out(d);
    free(d->in);
    d->in = NULL;
}

static const struct smt_dev_ops rig_ops = {
    .name = "rig",
    .close = rig_dev_close,
    .tx_reserve = rig_reserve,
    .tx_unreserve = rig_unreserve,
    .tx_flush = rig_flush,
    .rx = rig_rx,
    .mtu = rig_mtu,
    .port = rig_port,
    .rx_capacity = rig_rx_capacity,
};

/* ---- ends ---- */

static void log_line(void *arg, int level, const char *text)
{
    struct rig *rig = arg;
    size_t len = strlen(rig->log);
    if (len + strlen(text) + 2 < sizeof(rig->log))
        snprintf(rig->log + len, sizeof(rig->log) - len, "%s\n", text);
    if (getenv("SMT_TEST_LOG") != NULL)
        fprintf(stderr, "[%d] %s\n", level, text);
}

static void open_all(struct rig *rig, bool with_psk, unsigned early, uint64_t handshake_timeout)
{
    *rig = (struct rig){.wire = calloc(1, sizeof(struct rig_wire))};
    assert_non_null(rig->wire);
    smt_prng_seed(&rig->rng, 1);
    for (unsigned i = 0; i < RIG_ENDS; i++) {
        struct rig_end *end = &rig->ends[i];
        struct rig_dev *d = &rig->wire->devs[i];
        char text[256] = "", cert[TEST_PATH_LEN], key[TEST_PATH_LEN], ca[TEST_PATH_LEN];
        snprintf(cert, sizeof(cert), "%s", rig_file("node.pem"));
        snprintf(key, sizeof(key), "%s", rig_file("node.key"));
        snprintf(ca, sizeof(ca), "%s", rig_file("ca.pem"));
        struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
        if (with_psk) {
            config.psk_file = rig_file("psk");
        } else {
            config.cert_file = cert;
            config.key_file = key;
            config.ca_file = ca;
        }
        config.early = early >> i & 1;
        config.log = log_line;
        config.log_arg = rig;
        config.error_text = text;
        config.error_text_len = sizeof(text);
        if (smt_ctx_open(&config, &end->ctx) < 0)
            fail_msg("%s", text);
        end->addr = (struct smt_addr){
            .ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)(i + 1)}, .port = RIG_PORT};
        snprintf(end->name, sizeof(end->name), "10.0.0.%u:%u", i + 1, RIG_PORT);
        smt_dev_init(&d->base, &rig_ops);
        d->rig = rig;
        d->number = i;
        d->in = calloc(RIG_QUEUE, sizeof(*d->in));
        assert_non_null(d->in);
        struct smt_ep_config ep = SMT_EP_CONFIG_INIT;
        ep.accept = 1;
        ep.handshake_timeout_ns = handshake_timeout;
        ep.number = (uint8_t)i;
        assert_int_equal(smt_ep_open_on(end->ctx, &ep, &d->base, &end->ep), 0);
    }
}

void rig_open(struct rig *rig, bool with_psk, uint64_t handshake_timeout)
{
    open_all(rig, with_psk, 0, handshake_timeout);
}

void rig_open_early(struct rig *rig, unsigned ends, uint64_t handshake_timeout)
{
    open_all(rig, false, ends, handshake_timeout);
}

void rig_close(struct rig *rig)
{
    rig->hook = NULL;
    for (unsigned i = 0; i < RIG_ENDS; i++) {
        struct smt_ep *ep = rig->ends[i].ep;
        rig->ends[i].ep = NULL; /* nothing is delivered any more */
        assert_int_equal(smt_ep_close(ep), 0);
        assert_int_equal(smt_ctx_close(rig->ends[i].ctx), 0);
    }
    free(rig->wire);
}

void rig_inject(struct rig *rig, const struct smt_addr *from, const struct smt_addr *to,
                const uint8_t *bytes, size_t len)
{
    struct rig_packet pkt = {.from = *from, .to = *to, .len = (uint32_t)len};
    assert_true(len <= RIG_MAX_PACKET);
    memcpy(pkt.data, bytes, len);
    deliver(rig, &pkt);
}

static void event_take(struct rig_end *end, const struct smt_event *ev)
{
    struct smt_iov iov = {ev->data, ev->len};
    switch (ev->type) {
    case SMT_EV_SESSION_UP:
        end->n_up++;
        return;
    case SMT_EV_SESSION_DOWN:
        end->n_down++;
        end->error = ev->error;
        return;
    case SMT_EV_REQUEST:
        end->n_requests++;
        assert_int_equal(smt_reply(ev->msg, &iov, 1, ev->msg), 0);
        return;
    case SMT_EV_SENT:
    case SMT_EV_FAILED:
        if (ev->type == SMT_EV_FAILED && ev->user == NULL) {
            end->n_failed++;
            end->call_error = ev->error;
        }
        if (ev->user != NULL)
            smt_release(ev->user); /* the request's own bytes were the reply */
        return;
    case SMT_EV_RESPONSE:
        end->n_responses++;
        smt_release(ev->msg);
        return;
    default:
        return;
    }
}

void rig_pump(struct rig *rig)
{
    rig_now += step;
    for (unsigned i = 0; i < RIG_ENDS; i++) {
        struct smt_event evs[16];
        int n = smt_poll(rig->ends[i].ep, evs, 16);
        assert_true(n >= 0);
        for (int k = 0; k < n; k++)
            event_take(&rig->ends[i], &evs[k]);
    }
}

bool rig_connect(struct rig *rig, unsigned from, unsigned to, uint64_t ns, struct smt_session **out)
{
    struct rig_end *end = &rig->ends[from];
    unsigned up = end->n_up, down = end->n_down;
    uint64_t until = rig_now + ns;
    assert_int_equal(smt_connect(end->ep, rig->ends[to].name, NULL, SMT_NEW_SESSION, out), 0);
    while (end->n_up == up && end->n_down == down) {
        rig_pump(rig);
        if (rig_now > until)
            fail_msg("no session and no failure in time");
    }
    return end->n_up > up;
}

void rig_call(struct rig *rig, unsigned from, struct smt_session *s, size_t len)
{
    struct rig_end *end = &rig->ends[from];
    uint8_t *bytes = calloc(1, len + 1);
    assert_non_null(bytes);
    struct smt_iov iov = {bytes, len};
    struct smt_call_args args = {.size = sizeof(args)};
    args.iov = &iov;
    args.n_iov = 1;
    unsigned before = end->n_responses;
    uint64_t until = rig_now + 20 * SMT_SEC;
    assert_int_equal(smt_call(s, &args, NULL), 0);
    while (end->n_responses == before) {
        rig_pump(rig);
        assert_true(rig_now < until);
    }
    free(bytes);
}

uint64_t rig_counter(const struct rig *rig, unsigned end, const char *name)
{
    struct smt_counter all[256];
    unsigned n = (unsigned)smt_ep_counters(rig->ends[end].ep, all, 256);
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) == 0)
            return all[i].value;
    }
    fail_msg("no counter \"%s\"", name);
    return 0;
}
