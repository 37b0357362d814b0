/* The load of sched_load.h. Lengths are log-uniform, 2 KB to 1 MB; time passes as on a link of
 * 10 Gb/s. */
#include "sched_load.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/profile.h"
#include "core/rpc_life.h"

static struct sched_load *loaded;
static struct smt_profile profile;

enum { PACKET_NS = 1200, LEAST_LEN = 2048, OCTAVES = 9 };

static void check(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "sched_load: %s: %s\n", what, smt_error_name(rc));
    exit(1);
}

static void fake_random(void *arg, void *out, size_t len)
{
    smt_prng_bytes(arg, out, len);
}

static struct smt_conn *conn_make(struct sched_load *l, unsigned i)
{
    struct smt_addr addr = {
        .ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [14] = (uint8_t)(i >> 8), [15] = (uint8_t)i},
        .port = 7};
    struct smt_conn *c;
    check(smt_conn_open(l->e, l->e->now, &addr, &c), "conn");
    struct smt_params p;
    smt_params_init(&p);
    p.session_id = i + 1;
    uint8_t secret[SMT_SECRET_LEN] = {1};
    check(smt_conn_install(c, l->e->now, smt_aead_find(SMT_AEAD_NONE, NULL), secret, &p), "keys");
    return c;
}

static void may_send(struct sched_load *l, struct smt_conn *c, uint64_t id)
{
    if (l->n_may == SCHED_MAY)
        check(SMT_ENOMEM, "granted messages");
    l->may[(l->may_first + l->n_may++) % SCHED_MAY] = (struct sched_may){c, id};
}

/* Sees each GRANT on its way to the queue. */
static void grant_note(struct smt_conn *c, const struct smt_frame *f, uint8_t prio)
{
    may_send(loaded, c, f->id ^ SMT_ID_ROLE);
    smt_frames_queue(c, f, prio);
}

static void load_init(struct sched_load *l, uint32_t n)
{
    *l = (struct sched_load){.n = n};
    loaded = l;
    profile = smt_profile_smt2;
    profile.ctl_add = grant_note;
    smt_prng_seed(&l->rng, 1);
    struct smt_engine_config config;
    smt_engine_config_init(&config);
    config.random = fake_random;
    config.random_arg = &l->rng;
    config.rx_window = 1 << 20;
    config.profile = &profile;
    check(smt_engine_new(&config, SMT_SEC, &l->e), "engine");
    l->n_conns = n < SCHED_MAX_CONNS ? n : SCHED_MAX_CONNS;
    for (unsigned i = 0; i < l->n_conns; i++)
        l->conns[i] = conn_make(l, i);
    l->rpcs = calloc(n, sizeof(struct smt_rpc *));
    if (l->rpcs == NULL)
        check(SMT_ENOMEM, "messages");
}

static uint32_t any_len(struct sched_load *l)
{
    uint32_t base = (uint32_t)LEAST_LEN << smt_prng_below(&l->rng, OCTAVES);
    return base + (uint32_t)smt_prng_below(&l->rng, base);
}

static struct smt_rpc *rpc_make(struct sched_load *l, uint32_t i, uint64_t role)
{
    struct smt_conn *c = l->conns[smt_prng_below(&l->rng, l->n_conns)];
    struct smt_rpc *r = smt_rpc_new(c, ++l->next_id | role);
    if (r == NULL)
        check(SMT_ENOMEM, "message");
    l->rpcs[i] = r;
    r->one_way = true;
    r->counted = role == 0;
    c->open_calls += role == 0;
    c->served += role != 0;
    return r;
}

/* Its first packet is here, the rest needs grants. */
static void in_begin(struct sched_load *l, uint32_t i)
{
    struct smt_rpc *r = rpc_make(l, i, SMT_ID_ROLE);
    static uint8_t nowhere[1];
    smt_rpc_set_state(r, SMT_RPC_AWAIT_REQUEST);
    r->user = (void *)(uintptr_t)i;
    r->rx.len = any_len(l);
    r->rx.known = true;
    r->rx.data = nowhere;
    check(smt_msg_rx_accept(&r->rx, 0, SCHED_PACKET), "first packet");
    check(smt_grants_add(l->e, r), "book");
}

void sched_load_in(struct sched_load *l, uint32_t n)
{
    load_init(l, n);
    for (uint32_t i = 0; i < n; i++)
        in_begin(l, i);
    smt_grants_run(l->e);
}

static void out_begin(struct sched_load *l, uint32_t i)
{
    struct smt_rpc *r = rpc_make(l, i, 0);
    smt_rpc_set_state(r, SMT_RPC_AWAIT_ACK);
    static const uint8_t bytes[1];
    struct smt_post_iov iov = {bytes, any_len(l)};
    check(smt_msg_tx_init(&r->tx, &iov, 1, (uint32_t)iov.len, &l->e->iov_blocks),
          "message");
    r->user = (void *)(uintptr_t)i;
    r->tx.granted = r->tx.unsched = r->tx.len;
    check(smt_srpt_put(&l->e->srpt, r), "queue");
}

void sched_load_out(struct sched_load *l, uint32_t n)
{
    load_init(l, n);
    for (uint32_t i = 0; i < n; i++)
        out_begin(l, i);
}

void sched_load_free(struct sched_load *l)
{
    smt_engine_free(l->e);
    free(l->rpcs);
}

void sched_grant(struct sched_load *l, struct smt_rpc *r)
{
    if (r->rx.whole)
        smt_grants_remove(l->e, r);
    else
        smt_grants_data_came(l->e, r);
    smt_grants_run(l->e);
}

/* One that may send now, in turns. */
static struct smt_rpc *in_pick(struct sched_load *l)
{
    while (l->n_may > 0) {
        const struct sched_may m = l->may[l->may_first++ % SCHED_MAY];
        l->n_may--;
        struct smt_rpc *r = smt_rpc_find(m.conn, m.id);
        if (r != NULL && r->rx.granted > smt_msg_rx_received(&r->rx))
            return r;
    }
    fprintf(stderr, "sched_load: nobody may send\n");
    exit(1);
}

void sched_packet_in(struct sched_load *l)
{
    struct smt_rpc *r = in_pick(l);
    struct smt_engine *e = l->e;
    e->now += PACKET_NS;
    e->stats.bytes_rcvd += SCHED_PACKET;
    uint32_t at = smt_msg_rx_received(&r->rx), left = r->rx.granted - at;
    check(smt_msg_rx_accept(&r->rx, at, left < SCHED_PACKET ? left : SCHED_PACKET), "packet");
    uint64_t grants = e->stats.grants_sent;
    sched_grant(l, r);
    l->n_grants += e->stats.grants_sent - grants;
    l->n_packets++;
    if (r->rx.whole) {
        uint32_t i = (uint32_t)(uintptr_t)r->user;
        smt_rpc_retire(r);
        in_begin(l, i);
    } else if (r->rx.granted > smt_msg_rx_received(&r->rx)) {
        may_send(l, r->conn, r->id);
    }
    /* What would leave now. */
    while (!smt_list_is_empty(&e->ctl_ready))
        smt_ctl_fini(SMT_CONTAINER_OF(smt_list_first(&e->ctl_ready), struct smt_conn, ctl.link));
}

/* As the engine does it for each packet. */
void sched_srpt(struct sched_load *l)
{
    struct smt_srpt *s = &l->e->srpt;
    struct smt_rpc *r = smt_srpt_first(s);
    struct smt_msg_tx *t = &r->tx;
    uint32_t left = t->len - t->sent;
    uint32_t len = left < SCHED_PACKET ? left : SCHED_PACKET;
    t->sent += len;
    smt_srpt_charge(s, r, len);
    if (t->sent < t->len)
        check(smt_srpt_put(s, r), "queue");
    else
        smt_srpt_remove(s, r);
}

void sched_packet_out(struct sched_load *l)
{
    struct smt_rpc *r = smt_srpt_first(&l->e->srpt);
    sched_srpt(l);
    l->n_packets++;
    if (r->tx.sent == r->tx.len) {
        uint32_t i = (uint32_t)(uintptr_t)r->user;
        smt_rpc_retire(r);
        out_begin(l, i);
    }
}
