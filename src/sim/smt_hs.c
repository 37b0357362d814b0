/* Sessions of simulated hosts. The engine's own handshake packets carry a stand-in for TLS: the
 * initiator's parameter block, the responder's, "finished"; both then install a secret made from
 * the two session ids. Retransmission, cookies and confirmation are the engine's. */
#include "sim/host_smt.h"

#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "core/conn.h"
#include "sim/plain_aead.h"

enum { MSG_HELLO = 1, MSG_ANSWER = 2, MSG_FINISHED = 3, MSG_HEAD = 3 };

static struct smt_host_conn *record_of(struct smt_host *h, struct smt_conn *c)
{
    struct smt_host_conn *r = smt_conn_user(c);
    if (r != NULL)
        return r;
    r = smt_mem_alloc(sizeof(*r));
    if (r == NULL)
        smt_net_fatal("no memory for a session");
    r->conn = c;
    const struct smt_addr *from = smt_conn_addr(c);
    r->peer = smt_get_be16(from->ip + 14);
    r->next = h->conns;
    h->conns = r;
    smt_conn_set_user(c, r);
    return r;
}

static void record_free(struct smt_host *h, struct smt_host_conn *r)
{
    struct smt_host_conn **at = &h->conns;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    if (h->peers[r->peer].active == r)
        h->peers[r->peer].active = NULL;
    smt_mem_free(r);
}

void smt_host_hs_forget(struct smt_host *h)
{
    while (h->conns != NULL) {
        struct smt_host_conn *r = h->conns;
        h->conns = r->next;
        smt_mem_free(r);
    }
    for (unsigned i = 0; i < h->all->net->n_hosts; i++)
        h->peers[i].active = NULL;
}

struct smt_host_conn *smt_host_conn_to(struct smt_host *h, unsigned peer)
{
    return h->peers[peer].active;
}

static void say(struct smt_conn *c, uint8_t type, bool with_params)
{
    uint8_t msg[MSG_HEAD + SMT_PARAMS_MAX_LEN] = {type};
    int len = 0;
    if (with_params) {
        struct smt_params p;
        smt_conn_params(c, &p);
        p.ciphers[0] = (uint8_t)smt_sim_aead.alg;
        p.n_ciphers = 1;
        len = smt_params_encode(&p, msg + MSG_HEAD, SMT_PARAMS_MAX_LEN);
        if (len < 0)
            smt_net_fatal("the parameter block does not fit");
    }
    smt_put_be16(msg + 1, (uint16_t)len);
    if (smt_conn_hs_send(c, msg, MSG_HEAD + (size_t)len) < 0)
        smt_net_fatal("no memory for a handshake");
}

static void install(struct smt_host *h, struct smt_host_conn *r)
{
    uint64_t own = smt_conn_id(r->conn), peer = r->params.session_id;
    uint64_t ids[2] = {r->initiator ? own : peer, r->initiator ? peer : own};
    uint8_t secret[SMT_SECRET_LEN] = {0};
    static_assert(SMT_SECRET_LEN >= sizeof(ids), "both ids fit");
    memcpy(secret, ids, sizeof(ids));
    if (smt_conn_install(r->conn, smt_net_ns(h->all->net), &smt_sim_aead, secret, &r->params) < 0)
        smt_net_fatal("keys cannot be installed");
}

static void hear(struct smt_host *h, struct smt_host_conn *r, uint8_t type, const uint8_t *body,
                 size_t len)
{
    if (type == MSG_FINISHED) {
        install(h, r);
        return;
    }
    if (smt_params_decode(body, len, &r->params) < 0)
        smt_net_fatal("a parameter block cannot be read");
    if (r->initiator) {
        say(r->conn, MSG_FINISHED, false);
        install(h, r);
    } else {
        say(r->conn, MSG_ANSWER, true);
    }
}

void smt_host_hs_event(struct smt_host *h, const struct smt_engine_event *ev)
{
    struct smt_host_conn *r = record_of(h, ev->conn);
    switch (ev->type) {
    case SMT_EE_HS_ACCEPT:
    case SMT_EE_HS_DATA: {
        const uint8_t *p;
        size_t len;
        while ((len = smt_conn_hs_peek(r->conn, &p)) >= MSG_HEAD) {
            size_t body = smt_get_be16(p + 1);
            if (len < MSG_HEAD + body)
                return;
            uint8_t copy[MSG_HEAD + SMT_PARAMS_MAX_LEN];
            memcpy(copy, p, MSG_HEAD + body);
            smt_conn_hs_consume(r->conn, MSG_HEAD + body);
            hear(h, r, copy[0], copy + MSG_HEAD, body);
        }
        return;
    }
    case SMT_EE_UP: {
        struct smt_host_conn *old = h->peers[r->peer].active;
        r->up = true;
        h->all->n_up++;
        h->peers[r->peer].active = r;
        if (old != NULL && old != r)
            smt_conn_close(old->conn, smt_net_ns(h->all->net), SMT_EMAYBE, false);
        return;
    }
    case SMT_EE_DOWN:
        h->all->n_failed_conns++;
        record_free(h, r);
        return;
    default:
        return;
    }
}

void smt_host_connect(struct smt_host *h, unsigned peer)
{
    struct smt_conn *c = NULL;
    if (smt_conn_open(h->engine, smt_net_ns(h->all->net), &h->all->hosts[peer].addr, &c) < 0)
        smt_net_fatal("a session cannot be opened");
    struct smt_host_conn *r = record_of(h, c);
    r->initiator = true;
    if (h->peers[peer].active == NULL)
        h->peers[peer].active = r;
    say(c, MSG_HELLO, true);
}
