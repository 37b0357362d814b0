/* The stand-in handshake of simnet: three messages of type u8, length u16, payload.
 *
 * 1 initiator's parameter block, 2 responder's, 3 "finished". The initiator sends 3 and installs;
 * the responder installs when 3 has come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "fast_hash.h"
#include "sim_state.h"

enum { MSG_HELLO = 1, MSG_ANSWER = 2, MSG_FINISHED = 3, MSG_HEAD = 3, MSG_MAX = 60000 };

struct sim_conn {
    struct sim_conn *next;
    struct smt_conn *conn;
    struct smt_params peer;
    bool initiator, has_peer, installed, up, closed;
    void *user;
};

static struct sim_conn *record_of(struct sim_host *h, struct smt_conn *c)
{
    struct sim_conn *r = smt_conn_user(c);
    if (r != NULL)
        return r;
    r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->conn = c;
    r->next = h->state->conns;
    h->state->conns = r;
    smt_conn_set_user(c, r);
    return r;
}

static void record_free(struct sim_host *h, struct sim_conn *r)
{
    struct sim_conn **at = &h->state->conns;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    free(r);
}

void sim_hs_forget(struct sim_host *h)
{
    while (h->state->conns != NULL)
        record_free(h, h->state->conns);
}

void sim_secret(uint64_t initiator_id, uint64_t responder_id, uint8_t out[SMT_SECRET_LEN])
{
    uint64_t h = fast_mix(fast_mix(0x5ec4e7, initiator_id), responder_id);
    for (unsigned i = 0; i < SMT_SECRET_LEN / 8; i++) {
        h = fast_mix(h, i);
        memcpy(out + 8 * i, &h, 8);
    }
}

static void say(struct sim_host *h, struct smt_conn *c, uint8_t type, const uint8_t *body,
                size_t len)
{
    uint8_t *msg = calloc(1, MSG_MAX);
    assert_non_null(msg);
    size_t total = len + h->net->hs_pad;
    assert_true(total + MSG_HEAD + 2 <= MSG_MAX);
    msg[0] = type;
    smt_put_be16(msg + 1, (uint16_t)(total + 2));
    smt_put_be16(msg + 3, (uint16_t)len);
    if (len > 0)
        memcpy(msg + 5, body, len);
    int err = smt_conn_hs_send(c, msg, total + 5);
    if (err == SMT_ENOMEM) /* a sweep of failing allocations: the next one does not fail */
        err = smt_conn_hs_send(c, msg, total + 5);
    SIM_CHECK(h->net, err == 0, "smt_conn_hs_send: %d", err);
    free(msg);
}

static void say_params(struct sim_host *h, struct smt_conn *c, uint8_t type)
{
    struct smt_params p;
    smt_conn_params(c, &p);
    p.ciphers[0] = (uint8_t)h->net->aead->alg;
    p.n_ciphers = 1;
    uint8_t block[SMT_PARAMS_MAX_LEN];
    int len = smt_params_encode(&p, block, sizeof(block));
    SIM_CHECK(h->net, len > 0, "smt_params_encode: %d", len);
    say(h, c, type, block, (size_t)len);
}

static void install(struct sim_host *h, struct sim_conn *r)
{
    uint64_t own = smt_conn_id(r->conn), peer = r->peer.session_id;
    uint8_t secret[SMT_SECRET_LEN];
    sim_secret(r->initiator ? own : peer, r->initiator ? peer : own, secret);
    int err = smt_conn_install(r->conn, h->net->now, h->net->aead, secret, &r->peer);
    if (err == SMT_ENOMEM)
        err = smt_conn_install(r->conn, h->net->now, h->net->aead, secret, &r->peer);
    SIM_CHECK(h->net, err == 0, "smt_conn_install: %d", err);
    r->installed = true;
}

/* One message of the peer. Anything unexpected ends the conn, as a TLS alert would. */
static void hear(struct sim_host *h, struct sim_conn *r, uint8_t type, const uint8_t *body,
                 size_t len)
{
    bool wants_params = type == (r->initiator ? MSG_ANSWER : MSG_HELLO) && !r->has_peer;
    if (wants_params && smt_params_decode(body, len, &r->peer) == 0) {
        r->has_peer = true;
        if (r->initiator) {
            say(h, r->conn, MSG_FINISHED, NULL, 0);
            install(h, r);
        } else if (h->refuse) {
            r->closed = true;
            smt_conn_close(r->conn, h->net->now, SMT_EREFUSED, true);
        } else {
            say_params(h, r->conn, MSG_ANSWER);
        }
        return;
    }
    if (type == MSG_FINISHED && !r->initiator && r->has_peer && !r->installed) {
        install(h, r);
        return;
    }
    r->closed = true;
    smt_conn_close(r->conn, h->net->now, SMT_EPROTO, true);
}

static void hear_all(struct sim_host *h, struct sim_conn *r)
{
    while (!r->closed) {
        const uint8_t *p;
        size_t len = smt_conn_hs_peek(r->conn, &p);
        if (len < MSG_HEAD)
            return;
        size_t body = smt_get_be16(p + 1);
        if (len < MSG_HEAD + body)
            return;
        uint8_t *copy = malloc(body + 1);
        assert_non_null(copy);
        memcpy(copy, p + MSG_HEAD, body);
        uint8_t type = p[0];
        smt_conn_hs_consume(r->conn, MSG_HEAD + body);
        size_t inner = body >= 2 ? smt_get_be16(copy) : SIZE_MAX;
        hear(h, r, inner + 2 <= body ? type : 0xff, copy + 2, inner);
        free(copy);
    }
}

void sim_hs_event(struct sim_host *h, const struct smt_engine_event *ev)
{
    switch (ev->type) {
    case SMT_EE_HS_ACCEPT:
    case SMT_EE_HS_DATA: {
        struct sim_conn *r = record_of(h, ev->conn);
        hear_all(h, r);
        return;
    }
    case SMT_EE_UP:
        record_of(h, ev->conn)->up = true;
        break;
    case SMT_EE_NONE:
        sim_fail(h->net, __FILE__, __LINE__, "event of type NONE");
    default:
        break;
    }
    struct sim_conn *over = ev->type == SMT_EE_DOWN ? smt_conn_user(ev->conn) : NULL;
    unsigned life = h->state->life;
    if (h->on_event != NULL)
        h->on_event(h->arg, h, ev);
    if (over != NULL && h->engine != NULL && h->state->life == life)
        record_free(h, over);
}

struct smt_conn *simnet_connect(struct sim_host *h, const struct sim_host *to)
{
    struct smt_conn *c = NULL;
    int err = smt_conn_open(h->engine, h->net->now, &to->addr, &c);
    if (err == SMT_ENOMEM)
        err = smt_conn_open(h->engine, h->net->now, &to->addr, &c);
    SIM_CHECK(h->net, err == 0, "smt_conn_open: %d", err);
    struct sim_conn *r = record_of(h, c);
    r->initiator = true;
    if (smt_engine_has_handshake(h->engine))
        say_params(h, c, MSG_HELLO);
    simnet_poke(h);
    return c;
}

static bool conn_up(void *arg)
{
    return sim_conn_is_up(arg);
}

struct smt_conn *simnet_connect_wait(struct sim_host *h, const struct sim_host *to)
{
    struct smt_conn *c = simnet_connect(h, to);
    bool up = simnet_run(h->net, h->net->now + 10 * SMT_SEC, conn_up, c);
    SIM_CHECK(h->net, up, "conn does not come up");
    return c;
}

void sim_conn_set_user(struct smt_conn *c, void *user)
{
    ((struct sim_conn *)smt_conn_user(c))->user = user;
}

void *sim_conn_user(const struct smt_conn *c)
{
    const struct sim_conn *r = smt_conn_user(c);
    return r != NULL ? r->user : NULL;
}

bool sim_conn_is_up(const struct smt_conn *c)
{
    const struct sim_conn *r = smt_conn_user(c);
    return r != NULL && r->up;
}

struct smt_conn *simnet_peer_conn(const struct sim_host *host, const struct smt_conn *c)
{
    for (const struct sim_conn *r = host->state->conns; r != NULL; r = r->next) {
        if (smt_conn_id(r->conn) == smt_conn_peer_id(c))
            return r->conn;
    }
    return NULL;
}

unsigned simnet_n_conns(const struct sim_host *host)
{
    unsigned n = 0;
    for (const struct sim_conn *r = host->state->conns; r != NULL; r = r->next)
        n++;
    return n;
}
