/* Instruction counts of the engine: two engines in one process over the in-memory device, `n` RPCs
 * of `size` bytes, `depth` in flight. Run it under callgrind and collect one side only:
 *
 *   valgrind --tool=callgrind --toggle-collect=client_turn --toggle-collect=... bench_loop 64 1
 *   10000 aes-128-gcm
 *
 * client_turn and server_turn hold everything that a side does for its RPCs, device included,
 * application excluded as far as posting and releasing go. scripts/count-instructions does this for
 * the table in docs/performance.md. Without valgrind it prints RPCs per second of one thread that
 * does both sides. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/prng.h"
#include "core/engine.h"
#include "dev/dev.h"

struct side {
    struct smt_engine *e;
    struct smt_dev *dev;
    struct smt_tx_sink sink;
    struct smt_conn *conn;
    struct smt_prng prng;
};

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct smt_dev *d = arg;
    return d->ops->tx_reserve(d, to, len, prio);
}

static void sink_unreserve(void *arg)
{
    struct smt_dev *d = arg;
    d->ops->tx_unreserve(d);
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    struct smt_dev *d = arg;
    return d->ops->mtu(d, to);
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

static void check(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bench_loop: %s: %s\n", what, smt_error_name(rc));
    exit(1);
}

static void side_open(struct side *s, struct smt_dev *dev, bool accept)
{
    struct smt_engine_config c;
    smt_engine_config_init(&c);
    smt_prng_seed(&s->prng, accept ? 1 : 2);
    c.port = dev->ops->port(dev);
    c.accept = accept;
    c.rx_window = 1 << 20;
    c.random = fake_random;
    c.random_arg = &s->prng;
    c.cookie_make = cookie_make;
    c.cookie_check = cookie_check;
    s->dev = dev;
    s->sink = (struct smt_tx_sink){dev, sink_reserve, sink_unreserve, sink_mtu};
    check(smt_engine_new(&c, 0, &s->e), "engine");
}

/* What a poll does: send, receive, run timers, send again. */
static inline void turn(struct side *s, uint64_t now)
{
    static struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    smt_engine_tx(s->e, now, &s->sink);
    check(s->dev->ops->tx_flush(s->dev), "flush");
    int n = s->dev->ops->rx(s->dev, pkts, SMT_DEV_RX_BATCH);
    check(n, "rx");
    if (n > 0)
        smt_engine_rx(s->e, now, (const struct smt_pkt *)pkts, (unsigned)n);
    if (smt_engine_deadline(s->e) <= now)
        smt_engine_tick(s->e, now);
}

static size_t size;
static uint64_t done;
static uint8_t *payload;

__attribute__((noinline)) static void server_turn(struct side *s, uint64_t now)
{
    struct smt_engine_event ev;
    turn(s, now);
    while (smt_engine_next_event(s->e, &ev)) {
        if (ev.type == SMT_EE_REQUEST) {
            const struct smt_post_iov iov = {payload, size};
            check(smt_rpc_reply(ev.rpc, &iov, 1, NULL), "reply");
            smt_rpc_release(ev.rpc);
        } else if (ev.type == SMT_EE_HS_ACCEPT) {
            s->conn = ev.conn;
        }
    }
}

__attribute__((noinline)) static void client_turn(struct side *s, uint64_t now, unsigned *room)
{
    struct smt_engine_event ev;
    while (*room > 0) {
        const struct smt_post_iov iov = {payload, size};
        const struct smt_post post = {.iov = &iov, .n_iov = 1};
        if (smt_conn_post(s->conn, &post, NULL) < 0)
            break;
        (*room)--;
    }
    turn(s, now);
    while (smt_engine_next_event(s->e, &ev)) {
        if (ev.type == SMT_EE_RESPONSE) {
            if (ev.rpc != NULL)
                smt_rpc_release(ev.rpc);
            (*room)++;
            done++;
        }
    }
}

static void connect_sides(struct side *a, struct side *b, const struct smt_aead *aead)
{
    struct smt_addr to = {.port = b->dev->ops->port(b->dev)};
    const uint8_t secret[SMT_SECRET_LEN] = {1};
    unsigned none = 0;
    to.ip[10] = to.ip[11] = 0xff;
    to.ip[12] = 127;
    to.ip[15] = 1;
    check(smt_conn_open(a->e, 0, &to, &a->conn), "open");
    check(smt_conn_hs_send(a->conn, (const uint8_t *)"h", 1), "hello");
    for (int i = 0; i < 8 && b->conn == NULL; i++) {
        client_turn(a, 0, &none);
        server_turn(b, 0);
    }
    if (b->conn == NULL)
        check(SMT_EINTERNAL, "handshake");
    struct smt_params pa;
    struct smt_params pb;
    smt_conn_params(a->conn, &pa);
    smt_conn_params(b->conn, &pb);
    check(smt_conn_install(b->conn, 0, aead, secret, &pa), "install");
    check(smt_conn_install(a->conn, 0, aead, secret, &pb), "install");
}

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SMT_SEC + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr,
                "usage: bench_loop SIZE DEPTH N [none|aes-128-gcm|aes-256-gcm] [MTU] [IMPL]\n");
        return 1;
    }
    size = strtoull(argv[1], NULL, 0);
    unsigned depth = (unsigned)atoi(argv[2]);
    uint64_t n = strtoull(argv[3], NULL, 0);
    const char *cipher = argc > 4 ? argv[4] : "aes-128-gcm";
    uint32_t mtu = argc > 5 ? (uint32_t)atoi(argv[5]) : 1472;
    const char *impl = argc > 6 ? argv[6] : NULL;
    const struct smt_aead *aead = strcmp(cipher, "none") == 0 ? smt_aead_find(SMT_AEAD_NONE, NULL)
                                                              : smt_aead_by_name(cipher, impl);
    if (aead == NULL)
        check(SMT_EUNSUPPORTED, cipher);
    struct smt_dev *da;
    struct smt_dev *db;
    struct side a = {0};
    struct side b = {0};
    payload = calloc(1, size + 1);
    check(smt_dev_loop_pair(mtu, 8192, &da, &db), "loop");
    side_open(&a, da, false);
    side_open(&b, db, true);
    connect_sides(&a, &b, aead);
    uint64_t now = SMT_USEC;
    unsigned room = depth;
    /* Warm: probes, pools and the first marks. */
    for (; done < depth * 10ull + 100; now += SMT_USEC) {
        client_turn(&a, now, &room);
        server_turn(&b, now);
    }
    uint64_t first = done;
    uint64_t t0 = clock_ns();
    for (; done < first + n; now += SMT_USEC) {
        client_turn(&a, now, &room);
        server_turn(&b, now);
    }
    uint64_t ns = clock_ns() - t0;
    printf("{\"size\":%zu,\"depth\":%u,\"cipher\":\"%s\",\"rpcs\":%llu,\"all_rpcs\":%llu,"
           "\"ns_per_rpc\":%.1f}\n",
           size, depth, aead->name, (unsigned long long)(done - first), (unsigned long long)done,
           (double)ns / (double)(done - first));
    smt_engine_free(a.e);
    smt_engine_free(b.e);
    da->ops->close(da);
    db->ops->close(db);
    free(payload);
    return 0;
}
