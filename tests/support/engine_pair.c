/* Two engines over two devices, without TLS: the secrets are fixed. */
#include "engine_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TURNS = 10000000, RX_WINDOW = 1 << 20 };

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct engine_side *s = arg;
    s->n_reserved++;
    return s->dev->ops->tx_reserve(s->dev, to, len, prio);
}

static uint8_t *sink_run(void *arg, const struct smt_addr *to, unsigned n, size_t len,
                         size_t last_len, uint8_t prio, size_t *stride)
{
    struct engine_side *s = arg;
    s->n_reserved++;
    return s->dev->ops->tx_run(s->dev, to, n, len, last_len, prio, stride);
}

static uint32_t sink_run_max(void *arg, const struct smt_addr *to)
{
    struct engine_side *s = arg;
    return s->dev->ops->tx_run_max(s->dev, to);
}

static void sink_unreserve(void *arg)
{
    struct engine_side *s = arg;
    s->n_reserved--;
    s->dev->ops->tx_unreserve(s->dev);
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    struct engine_side *s = arg;
    return s->dev->ops->mtu(s->dev, to);
}

static void fake_random(void *arg, void *out, size_t len)
{
    smt_prng_bytes(arg, out, len);
}

static void cookie_make(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                        uint8_t out[32])
{
    memset(out, 7, 32);
}

static bool cookie_check(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                         const uint8_t cookie[32])
{
    return cookie[0] == 7;
}

void engine_check(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "engine_pair: %s: %s\n", what, smt_error_name(rc));
    exit(1);
}

void engine_side_open(struct engine_side *s, struct smt_dev *dev, bool accept)
{
    struct smt_engine_config c;
    smt_engine_config_init(&c);
    smt_prng_seed(&s->prng, accept ? 1 : 2);
    c.port = dev->ops->port(dev);
    c.accept = accept;
    c.rx_window = RX_WINDOW;
    c.slices = true;
    c.random = fake_random;
    c.random_arg = &s->prng;
    c.cookie_make = cookie_make;
    c.cookie_check = cookie_check;
    s->dev = dev;
    s->sink = (struct smt_tx_sink){s,    sink_reserve, sink_unreserve, sink_mtu,
                                   NULL, sink_run,     sink_run_max};
    engine_check(smt_engine_new(&c, 0, &s->e), "engine");
}

static int some_lost(struct engine_side *s, struct smt_pkt *pkts, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++)
        if (smt_prng_below(&s->prng, 1000000) >= s->drop_ppm)
            pkts[kept++] = pkts[i];
    return kept;
}

/* What a poll does: send, receive, run timers, send again. */
__attribute__((always_inline)) static inline void turn(struct engine_side *s, uint64_t now)
{
    static struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    uint64_t reserved = s->n_reserved;
    smt_engine_tx(s->e, now, &s->sink);
    s->n_flushes += s->n_reserved != reserved;
    int r = s->dev->ops->tx_flush(s->dev);
    engine_check(r == SMT_EAGAIN ? 0 : r, "flush");
    int n = s->dev->ops->rx(s->dev, pkts, SMT_DEV_RX_BATCH);
    engine_check(n, "rx");
    if (SMT_UNLIKELY(s->drop_ppm > 0))
        n = some_lost(s, pkts, n);
    if (n > 0)
        smt_engine_rx(s->e, now, (const struct smt_pkt *)pkts, (unsigned)n);
    if (smt_engine_deadline(s->e) <= now)
        smt_engine_tick(s->e, now);
}

void engine_side_turn(struct engine_side *s, uint64_t now)
{
    turn(s, now);
}

__attribute__((noinline)) void engine_server_turn(struct engine_pair *p)
{
    struct engine_side *s = &p->server;
    struct smt_engine_event ev;
    turn(s, p->now);
    while (smt_engine_next_event(s->e, &ev)) {
        if (ev.type == SMT_EE_REQUEST) {
            const struct smt_post_iov iov = {p->payload, p->size};
            engine_check(smt_rpc_reply(ev.rpc, &iov, 1, NULL), "reply");
            smt_rpc_release(ev.rpc);
        } else if (ev.type == SMT_EE_HS_ACCEPT) {
            s->conn = ev.conn;
        }
    }
}

__attribute__((noinline)) void engine_client_turn(struct engine_pair *p)
{
    struct engine_side *s = &p->client;
    struct smt_engine_event ev;
    while (p->room > 0) {
        const struct smt_post_iov iov = {p->payload, p->size};
        const struct smt_post post = {.iov = &iov, .n_iov = 1};
        if (smt_conn_post(s->conn, &post, NULL) < 0)
            break;
        p->room--;
    }
    turn(s, p->now);
    while (smt_engine_next_event(s->e, &ev)) {
        if (ev.type == SMT_EE_RESPONSE) {
            if (ev.rpc != NULL)
                smt_rpc_release(ev.rpc);
            p->room++;
            p->done++;
        }
    }
}

static void sides_connect(struct engine_pair *p, const struct smt_addr *to,
                          const struct smt_aead *aead)
{
    struct engine_side *a = &p->client, *b = &p->server;
    const uint8_t secret[SMT_SECRET_LEN] = {1};
    engine_check(smt_conn_open(a->e, 0, to, &a->conn), "open");
    engine_check(smt_conn_hs_send(a->conn, (const uint8_t *)"h", 1), "hello");
    for (unsigned i = 0; i < MAX_TURNS && b->conn == NULL; i++) {
        engine_client_turn(p);
        engine_server_turn(p);
    }
    if (b->conn == NULL)
        engine_check(SMT_EINTERNAL, "handshake");
    struct smt_params pa;
    struct smt_params pb;
    smt_conn_params(a->conn, &pa);
    smt_conn_params(b->conn, &pb);
    engine_check(smt_conn_install(b->conn, 0, aead, secret, &pa), "install");
    engine_check(smt_conn_install(a->conn, 0, aead, secret, &pb), "install");
}

void engine_pair_open(struct engine_pair *p, struct smt_dev *client, struct smt_dev *server,
                      const struct smt_addr *to, const struct smt_aead *aead, size_t size,
                      unsigned depth)
{
    *p = (struct engine_pair){.size = size, .payload = calloc(1, size + 1)};
    if (p->payload == NULL)
        engine_check(SMT_ENOMEM, "payload");
    engine_side_open(&p->client, client, false);
    engine_side_open(&p->server, server, true);
    sides_connect(p, to, aead);
    p->now = SMT_USEC;
    p->room = depth;
}

void engine_pair_close(struct engine_pair *p)
{
    smt_engine_free(p->client.e);
    smt_engine_free(p->server.e);
    free(p->payload);
}

void engine_pair_run(struct engine_pair *p, uint64_t n)
{
    for (uint64_t until = p->done + n; p->done < until; p->now += SMT_USEC) {
        engine_client_turn(p);
        engine_server_turn(p);
    }
}
