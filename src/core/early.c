/* 0-RTT. An initiator that resumes sends calls of one packet, marked idempotent by their user,
 * right behind its hello, sealed with keys of the ticket alone; a responder that takes them runs
 * them and answers under the session's own keys, before it has the initiator's Finished. Whether
 * it may take them at all (once, in time, by a ticket that opens) is hs's and the api's to find
 * out: here keys are either there or not.
 *
 * Nothing new is needed for loss. A call that went ahead has its id and seal counter like any
 * other: taken twice it runs once, not taken it is sent again under the session's keys, and one
 * that was lost while the others were taken is found missing as any lost request is (RESEND,
 * UNKNOWN).
 *
 * Hello and request come in one batch, flight and answer go back in one, and so do, without early
 * data, Finished and first request: the second of each is there before TLS has made its keys. So a
 * few packets wait for them, bytes copied, on a conn whose address is proven. */
#include "core/early.h"

#include "base/mem.h"
#include "core/frames.h"
#include "core/incoming.h"
#include "core/profile.h"
#include "core/state.h"

struct smt_early_packet {
    struct smt_early_packet *next;
    struct smt_pkt pkt;
    struct smt_addr from;
    uint8_t bytes[];
};

enum {
    HEAD_LEN = SMT_INNER_LEN + SMT_INNER_EXT_LEN,
    /* Of the path nothing is known yet. */
    MAX_CALL = SMT_BASE_PACKET - SMT_DATA_HDR_LEN - SMT_RECORD_OVERHEAD - HEAD_LEN,
};

static void packets_free(struct smt_early_packet *p)
{
    while (p != NULL) {
        struct smt_early_packet *next = p->next;
        smt_mem_free(p);
        p = next;
    }
}

void smt_early_fini(struct smt_early *early)
{
    packets_free(early->first);
    early->first = NULL;
    smt_keys_fini(&early->keys);
}

bool smt_early_is_on(const struct smt_conn *c)
{
    return c->hs != NULL && smt_keys_ready(&c->hs->early.keys);
}

int smt_conn_early(struct smt_conn *c, const struct smt_aead *aead,
                   const uint8_t secret[SMT_SECRET_LEN])
{
    if (c->state != SMT_CONN_AWAIT_KEYS || c->hs == NULL || smt_early_is_on(c))
        return SMT_ESTATE;
    struct smt_keys_env *env = smt_engine_keys_env(c->e, aead);
    return env == NULL ? SMT_ENOMEM
                       : smt_keys_install(&c->hs->early.keys, env, secret, c->initiator);
}

void smt_conn_early_refused(struct smt_conn *c)
{
    if (c->hs != NULL)
        c->hs->early.refused = true;
}

/* ---- initiator ---- */

void smt_early_hello(struct smt_early *early)
{
    early->round++;
    early->round += early->round == 0;
}

static bool may_go(const struct smt_early *early, const struct smt_rpc *r)
{
    const struct smt_msg_tx *t = &r->tx;
    if (!r->idempotent || !t->active || t->len == 0 || t->len > MAX_CALL || t->unsched < t->len)
        return false;
    if (r->early_round == 0)
        return t->seal == 0 && early->n_calls < SMT_EARLY_CALLS;
    return r->early_round != early->round;
}

static void packet_fill(const struct smt_rpc *r, uint32_t record_len, uint8_t *pkt)
{
    const struct smt_conn *c = r->conn;
    const struct smt_hdr hdr = {
        .kind = SMT_KIND_EARLY,
        .version = SMT_WIRE_VERSION,
        .sport = c->e->config.port,
        .dport = c->peer_port,
        .session_id = c->id,
        .rpc_id = smt_rpc_tx_id(r),
        .message_len = r->tx.len,
        .seal = r->tx.seal,
        .record_len = (uint16_t)record_len,
        .slice_len = (uint16_t)record_len,
    };
    smt_hdr_encode(&hdr, pkt);
    const struct smt_inner inner = {
        .what = r->one_way ? SMT_WHAT_ONEWAY : SMT_WHAT_REQUEST,
        .flags = SMT_INNER_EXT | SMT_INNER_IDEMPOTENT,
        .message_len = r->tx.len,
        .id_high = (uint32_t)(smt_rpc_tx_id(r) >> 32),
        .low_water = c->finished.low_water,
        .done = c->finished.done,
        .unsched = r->tx.len,
    };
    uint8_t *plain = pkt + SMT_DATA_HDR_LEN + SMT_RECORD_HEAD_LEN;
    size_t head_len = smt_inner_encode(&inner, plain);
    smt_msg_tx_copy(&r->tx, 0, r->tx.len, plain + head_len);
}

static bool call_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_conn *c = r->conn;
    struct smt_engine *e = c->e;
    struct smt_early *early = &c->hs->early;
    struct smt_msg_tx *t = &r->tx;
    size_t plain_len = HEAD_LEN + t->len;
    uint32_t record_len = (uint32_t)(SMT_RECORD_OVERHEAD + plain_len);
    uint32_t wire_len = SMT_DATA_HDR_LEN + record_len;
    uint8_t *pkt = sink->reserve(sink->arg, &c->addr, wire_len, smt_engine_top_prio(e));
    if (pkt == NULL)
        return false;
    packet_fill(r, record_len, pkt);
    uint8_t *record = pkt + SMT_DATA_HDR_LEN;
    const struct smt_aead_in in = {record + SMT_RECORD_HEAD_LEN, plain_len};
    int rc = smt_keys_seal_data(&early->keys, smt_rpc_tx_id(r), t->seal, record, &in, 1, plain_len);
    early->n_calls += r->early_round == 0;
    r->early_round = early->round;
    t->seal++; /* spent, whatever came of it */
    if (rc < 0) {
        sink->unreserve(sink->arg);
        return true;
    }
    t->sent = t->len;
    e->stats.packets_sent_data++;
    e->stats.records_sealed++;
    e->stats.bytes_sent += wire_len;
    e->stats.early_sent++;
    r->heard = now;
    return true;
}

bool smt_early_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink)
{
    if (!c->initiator || !smt_early_is_on(c) || smt_keys_ready(&c->keys) ||
        c->hs->cookie_len == 0 || c->hs->out_sent < c->hs->out_len)
        return true;
    SMT_LIST_FOREACH_SAFE(l, tmp, &c->blocked) {
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, wait_link);
        if (may_go(&c->hs->early, r) && !call_send(r, now, sink))
            return false;
    }
    return true;
}

void smt_early_over(struct smt_conn *c)
{
    if (!smt_early_is_on(c))
        return;
    c->e->stats.early_refused += c->hs->early.refused;
    SMT_LIST_FOREACH_SAFE(l, tmp, &c->rpcs) {
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, conn_link);
        /* One that could not be sealed has not left either. */
        if (r->early_round != 0 && (c->hs->early.refused || r->tx.sent < r->tx.len))
            smt_msg_tx_restart(&r->tx);
        r->early_round = 0;
    }
}

/* ---- packets that wait ---- */

static bool hold(struct smt_conn *c, const struct smt_pkt *pkt)
{
    struct smt_early *early = &c->hs->early;
    if (early->n_held == SMT_EARLY_HELD || pkt->len > SMT_EARLY_HELD_LEN)
        return false;
    struct smt_early_packet *p = smt_mem_alloc(sizeof(*p) + pkt->len);
    if (p == NULL)
        return false;
    p->pkt = *pkt;
    p->from = *pkt->from;
    p->pkt.from = &p->from;
    p->pkt.data = p->bytes;
    memcpy(p->bytes, pkt->data, pkt->len);
    struct smt_early_packet **last = &early->first;
    while (*last != NULL)
        last = &(*last)->next;
    *last = p;
    early->n_held++;
    return true;
}

bool smt_early_hold(struct smt_conn *c, const struct smt_pkt *pkt)
{
    if (c->state != SMT_CONN_AWAIT_KEYS || c->hs == NULL || !smt_addr_equal(&c->addr, pkt->from))
        return false;
    /* An initiator has a reason to wait for more than the flight only if calls went ahead. */
    bool likely = c->initiator ? c->hs->early.n_calls > 0 : c->e->config.holds;
    return likely && hold(c, pkt);
}

void smt_early_replay(struct smt_conn *c, uint64_t now)
{
    struct smt_engine *e = c->e;
    if (c->hs == NULL)
        return;
    struct smt_early_packet *first = c->hs->early.first;
    c->hs->early.first = NULL;
    /* The conn may end with any of them. */
    for (const struct smt_early_packet *p = first; p != NULL; p = p->next)
        e->config.profile->receive(e, now, &p->pkt, 1);
    packets_free(first);
}

/* ---- responder ---- */

/* What a record must say that may run before its sender is known to be there. */
static bool inner_fits(const struct smt_hdr *hdr, const struct smt_inner *inner, size_t data_len)
{
    uint8_t flags = SMT_INNER_EXT | SMT_INNER_IDEMPOTENT;
    return (inner->what == SMT_WHAT_REQUEST || inner->what == SMT_WHAT_ONEWAY) &&
           (inner->flags & flags) == flags && inner->frames_len == 0 && inner->offset == 0 &&
           inner->message_len == hdr->message_len && data_len == inner->message_len &&
           data_len > 0 && inner->id_high == (uint32_t)(hdr->rpc_id >> 32);
}

static struct smt_rpc *server_rpc_new(struct smt_conn *c, uint64_t id,
                                      const struct smt_inner *inner)
{
    struct smt_rpc *r = smt_incoming_new(c, id);
    if (r == NULL)
        return NULL;
    r->one_way = inner->what == SMT_WHAT_ONEWAY;
    r->idempotent = true;
    if (smt_incoming_id_accept(r))
        return r;
    smt_incoming_drop(r);
    return NULL;
}

/* Opened into `buf`. False: the buffer is not needed. */
static bool request_take(struct smt_conn *c, uint64_t now, const struct smt_hdr *hdr, uint8_t *buf,
                         size_t plain_len)
{
    struct smt_inner inner;
    int head_len = smt_inner_decode(buf, plain_len, &inner);
    if (head_len < 0 ||
        !inner_fits(hdr, &inner, plain_len - (size_t)head_len - inner.frames_len)) {
        c->e->stats.drop_early++;
        return false;
    }
    struct smt_rpc *r = server_rpc_new(c, hdr->rpc_id ^ SMT_ID_ROLE, &inner);
    if (r == NULL || !smt_incoming_whole(r, buf, (uint32_t)plain_len, buf + head_len,
                                         inner.message_len, now))
        return false;
    c->e->stats.early_taken++;
    return true;
}

static void request_open(struct smt_conn *c, uint64_t now, const struct smt_pkt *pkt,
                         const struct smt_hdr *hdr)
{
    struct smt_engine *e = c->e;
    const uint8_t *record = pkt->data + SMT_DATA_HDR_LEN;
    uint64_t record_no;
    size_t plain_len;
    bool fits = hdr->slice_len == hdr->record_len && hdr->offset == 0 &&
                (hdr->rpc_id & SMT_ID_ROLE) == 0 && hdr->message_len <= e->config.accept_len &&
                smt_record_head_decode(record, hdr->record_len, &record_no, &plain_len) == 0 &&
                record_no == smt_data_record_no(hdr->rpc_id, hdr->seal);
    if (!fits || !smt_frames_id_is_new(c, hdr->rpc_id)) {
        e->stats.drop_early++;
        return;
    }
    uint8_t *buf =
        smt_conn_may_hold(c, (uint32_t)plain_len) ? smt_bufpool_get(&e->bufs, plain_len) : NULL;
    if (buf == NULL) {
        e->stats.drop_no_memory++;
        return;
    }
    const struct smt_aead_out out = {buf, plain_len};
    int rc = smt_keys_open_data(&c->hs->early.keys, now, SMT_EPOCH_NOW, record_no, record,
                                plain_len, &out, 1);
    if (rc < 0)
        e->stats.drop_auth++;
    if (rc < 0 || !request_take(c, now, hdr, buf, plain_len))
        smt_bufpool_put(&e->bufs, buf, plain_len);
}

void smt_early_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                       const struct smt_hdr *hdr)
{
    const struct smt_map_key key = {hdr->session_id, smt_engine_addr_hash(pkt->from)};
    struct smt_conn *c = smt_map_get(&e->peer_map, key);
    bool here = c != NULL && !c->initiator && c->hs != NULL && smt_addr_equal(&c->addr, pkt->from);
    if (here && c->state == SMT_CONN_AWAIT_CONFIRM && smt_early_is_on(c))
        request_open(c, now, pkt, hdr);
    else if (!here || c->state != SMT_CONN_AWAIT_KEYS || !e->config.early || !hold(c, pkt))
        e->stats.drop_early++;
}
