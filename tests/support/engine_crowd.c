/* Many sessions between two engines, without TLS: the secrets are fixed. */
#include "engine_crowd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MTU = 1472,
    CAPACITY = 8192,
    MAX_TURNS = 100000000,
    TURN_NS = 10000, /* what a poll of a few dozen packets takes */
    POSTS = 64,      /* calls opened in one turn */
    IDLE_TURNS = 4,  /* what is on its way has come by then */
};

static void hold(struct crowd *k, struct smt_rpc *r)
{
    if (k->max_held == 0) {
        const struct smt_post_iov iov = {k->payload, k->size};
        engine_check(smt_rpc_reply(r, &iov, 1, NULL), "reply");
        smt_rpc_release(r);
        return;
    }
    if (k->n_held == k->max_held)
        engine_check(SMT_EINTERNAL, "more requests than calls");
    k->held[k->n_held++] = r;
}

static void server_turn(struct crowd *k)
{
    struct engine_side *s = &k->server;
    struct smt_engine_event ev;
    engine_side_turn(s, k->now);
    while (smt_engine_next_event(s->e, &ev)) {
        if (ev.type == SMT_EE_REQUEST)
            hold(k, ev.rpc);
        else if (ev.type == SMT_EE_HS_ACCEPT)
            s->conn = ev.conn;
        else if (ev.type == SMT_EE_DOWN)
            k->n_down++;
    }
}

static void client_turn(struct crowd *k)
{
    struct engine_side *s = &k->client;
    struct smt_engine_event ev;
    engine_side_turn(s, k->now);
    while (smt_engine_next_event(s->e, &ev)) {
        if (ev.type == SMT_EE_RESPONSE) {
            smt_rpc_release(ev.rpc);
            k->n_responses++;
        } else if (ev.type == SMT_EE_UP) {
            k->n_up++;
        } else if (ev.type == SMT_EE_FAILED) {
            k->n_failed++;
        } else if (ev.type == SMT_EE_DOWN) {
            k->n_down++;
        }
    }
}

static void turns(struct crowd *k)
{
    client_turn(k);
    server_turn(k);
    k->now += TURN_NS;
}

static void turns_until(struct crowd *k, const uint32_t *count, uint32_t want, const char *what)
{
    for (unsigned i = 0; *count < want; i++) {
        turns(k);
        if (i == MAX_TURNS || k->n_failed > 0 || k->n_down > 0) {
            fprintf(stderr, "%u of %u %s, %u failed, %u sessions down\n", *count, want, what,
                    k->n_failed, k->n_down);
            exit(1);
        }
    }
}

void crowd_open(struct crowd *k, const struct smt_aead *aead, uint32_t max_sessions,
                uint32_t max_calls, size_t size)
{
    *k = (struct crowd){.aead = aead, .size = size};
    k->conns = calloc(max_sessions, sizeof(*k->conns));
    k->held = calloc(max_calls + 1, sizeof(struct smt_rpc *));
    k->payload = calloc(1, size + 1);
    if (k->conns == NULL || k->held == NULL || k->payload == NULL)
        engine_check(SMT_ENOMEM, "crowd");
    engine_check(smt_dev_loop_pair(MTU, CAPACITY, &k->devs[0], &k->devs[1]), "loop");
    k->to = (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1},
                              .port = k->devs[1]->ops->port(k->devs[1])};
    engine_side_open(&k->client, k->devs[0], false);
    engine_side_open(&k->server, k->devs[1], true);
    k->now = SMT_USEC;
}

void crowd_close(struct crowd *k)
{
    smt_engine_free(k->client.e);
    smt_engine_free(k->server.e);
    for (unsigned i = 0; i < 2; i++)
        k->devs[i]->ops->close(k->devs[i]);
    free(k->conns);
    free(k->held);
    free(k->payload);
}

static void connect_one(struct crowd *k)
{
    uint8_t secret[SMT_SECRET_LEN] = {1};
    struct smt_conn *a;
    engine_check(smt_conn_open(k->client.e, k->now, &k->to, &a), "open");
    engine_check(smt_conn_hs_send(a, (const uint8_t *)"h", 1), "hello");
    k->server.conn = NULL;
    for (unsigned i = 0; k->server.conn == NULL; i++) {
        turns(k);
        if (i == MAX_TURNS)
            engine_check(SMT_EINTERNAL, "handshake");
    }
    struct smt_conn *b = k->server.conn;
    uint64_t id = smt_conn_id(a);
    memcpy(secret, &id, sizeof(id));
    struct smt_params pa;
    struct smt_params pb;
    smt_conn_params(a, &pa);
    smt_conn_params(b, &pb);
    engine_check(smt_conn_install(b, k->now, k->aead, secret, &pa), "install");
    engine_check(smt_conn_install(a, k->now, k->aead, secret, &pb), "install");
    k->conns[k->n_conns++] = a;
}

void crowd_connect(struct crowd *k, uint32_t n)
{
    while (k->n_conns < n)
        connect_one(k);
    turns_until(k, &k->n_up, n, "sessions are up");
}

static bool is_busy(const struct engine_side *s)
{
    return smt_engine_tx_pending(s->e);
}

void crowd_rest(struct crowd *k, uint64_t ns)
{
    for (uint64_t until = k->now + ns; k->now < until;) {
        uint64_t a = smt_engine_deadline(k->client.e), b = smt_engine_deadline(k->server.e);
        uint64_t next = a < b ? a : b;
        if (!is_busy(&k->client) && !is_busy(&k->server) && next > k->now)
            k->now = next < until ? next : until;
        /* What one sends the other finds in its turn, and the answer in the one after. */
        turns(k);
        turns(k);
    }
}

void crowd_client_alone(struct crowd *k, uint64_t ns)
{
    for (uint64_t until = k->now + ns; k->now < until; k->now += TURN_NS)
        client_turn(k);
}

static void post_one(struct crowd *k, uint32_t i)
{
    const struct smt_post_iov iov = {k->payload, k->size};
    const struct smt_post post = {.iov = &iov, .n_iov = 1};
    engine_check(smt_conn_post(k->conns[i % k->n_conns], &post, NULL), "post");
}

void crowd_call(struct crowd *k, uint32_t n)
{
    k->max_held = n;
    k->n_held = 0;
    for (uint32_t i = 0; i < n; i++) {
        post_one(k, i);
        if (i % POSTS == POSTS - 1)
            turns(k);
    }
    turns_until(k, &k->n_held, n, "requests are there");
}

void crowd_answer(struct crowd *k)
{
    const struct smt_post_iov iov = {k->payload, k->size};
    k->n_responses = 0;
    for (uint32_t i = 0; i < k->n_held; i++) {
        engine_check(smt_rpc_reply(k->held[i], &iov, 1, NULL), "reply");
        smt_rpc_release(k->held[i]);
        if (i % POSTS == POSTS - 1)
            turns(k);
    }
    turns_until(k, &k->n_responses, k->n_held, "responses are there");
    k->max_held = k->n_held = 0;
}

/* Nobody has anything to do before a timer. */
static void time_skip(struct crowd *k)
{
    uint64_t a = smt_engine_deadline(k->client.e), b = smt_engine_deadline(k->server.e);
    uint64_t next = a < b ? a : b;
    if (!is_busy(&k->client) && !is_busy(&k->server) && next != SMT_NEVER && next > k->now)
        k->now = next;
}

void crowd_run(struct crowd *k, uint64_t n, uint32_t depth)
{
    uint64_t posted = 0, done = 0;
    unsigned n_idle = 0;
    k->max_held = 0;
    while (done < n) {
        for (; posted < n && posted - done < depth; posted++)
            post_one(k, (uint32_t)posted);
        k->n_responses = 0;
        turns(k);
        done += k->n_responses;
        if (k->n_failed > 0)
            engine_check(SMT_EINTERNAL, "a call failed");
        n_idle = k->n_responses > 0 ? 0 : n_idle + 1;
        if (n_idle > IDLE_TURNS)
            time_skip(k);
    }
}
