/* Packets of the kernel's profiles, as they come: whose they are, and what they say. Control
 * packets become the frames that the engine knows and do what those do; DATA without records goes
 * straight into its message.
 *
 * Nothing here is authentic, not even under smt1 (control packets never are): every number is
 * checked against what we hold, as frames.c does. */
#include "core/kernel.h"

#include "base/mem.h"
#include "core/frames.h"
#include "core/incoming.h"
#include "core/rpc_life.h"

/* Ids of a client's that are remembered as used up; what is older than all of them counts so
 * too. */
enum { MAX_USED = 1024, MAX_RESTARTS = 8 };

void smt_kernel_ack_hear(struct smt_conn *c, uint64_t now, const struct smt_homa_ack *ack)
{
    struct smt_engine *e = c->e;
    if (ack->client_id == 0 || ack->server_port != e->config.port)
        return;
    /* Of another of that host's sockets, where the format says so. */
    if (e->kernel->format->knows_client_port && ack->client_port != c->addr.port) {
        struct smt_addr from = c->addr;
        from.port = ack->client_port;
        c = smt_kernel_conn_find(e, &from);
        if (c == NULL)
            return;
    }
    uint64_t id = smt_kernel_id(c, ack->client_id & ~1ull);
    smt_frames_act(c, now, &(struct smt_frame){.type = SMT_FRAME_ACK, .id = id},
                   smt_rpc_find(c, id));
}

/* A peer that said nothing for long may have begun its ids anew; what it sent before is not on its
 * way any more. Under smt1 the keys are still the same, and nothing is forgotten. */
static void used_forget(struct smt_conn *c, uint64_t now)
{
    if (SMT_LIKELY(now - c->heard < c->e->config.peer_timeout) || c->n_rpcs > 0 ||
        c->e->config.profile->keyed)
        return;
    smt_ranges_clear(&c->accepted);
    c->peer_finished.low_water = 1;
}

bool smt_kernel_prove(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    if (!smt_incoming_id_accept(r))
        return false;
    struct smt_range first;
    if (c->accepted.n > MAX_USED && smt_ranges_first(&c->accepted, &first)) {
        c->peer_finished.low_water = first.end;
        smt_ranges_remove_below(&c->accepted, first.end);
    }
    return true;
}

struct smt_rpc *smt_kernel_rpc_of(struct smt_conn *c, uint64_t now, const struct smt_homa_pkt *p,
                                  bool proven)
{
    uint64_t id = smt_kernel_id(c, p->sender_id);
    struct smt_rpc *r = id == 0 ? NULL : smt_rpc_find(c, id);
    bool server = (id & SMT_ID_ROLE) != 0;
    if (r != NULL && r->state != SMT_RPC_AWAIT_RESPONSE)
        return smt_incoming_takes(r, p->message_len) ? r : NULL;
    if (r == NULL && !server) {
        c->e->stats.drop_finished++;
        return NULL;
    }
    if (r == NULL) {
        used_forget(c, now);
        r = smt_incoming_new(c, id);
    }
    if (r == NULL)
        return NULL;
    bool fresh = r->state == SMT_RPC_FREE;
    if (fresh && proven && !smt_kernel_prove(r)) {
        smt_incoming_drop(r);
        return NULL;
    }
    if (!smt_incoming_begin(r, p->message_len, p->incoming, true)) {
        /* Without memory for it nothing stays, and it may come again. */
        r = smt_rpc_find(c, id);
        if (r != NULL && r->state == SMT_RPC_FREE)
            smt_incoming_drop(r);
        return NULL;
    }
    smt_rpc_arm(r, now);
    return r;
}

/* DATA whose payload is the message's bytes. */
static void plain_receive(struct smt_conn *c, uint64_t now, const struct smt_homa_pkt *p)
{
    struct smt_engine *e = c->e;
    struct smt_rpc *r = smt_kernel_rpc_of(c, now, p, true);
    smt_conn_heard(c, now);
    if (r == NULL || p->payload_len == 0)
        return;
    if (smt_ranges_covers(&r->rx.got, p->offset, (uint64_t)p->offset + p->payload_len)) {
        e->stats.drop_duplicate++;
        return;
    }
    memcpy(r->rx.data + p->offset, p->payload, p->payload_len);
    (void)smt_incoming_data(r, p->offset, p->payload_len, p->incoming, now);
}

static void data_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                         const struct smt_homa_pkt *p, const struct smt_addr *from)
{
    const struct smt_homa_format *f = e->kernel->format;
    bool request = (p->sender_id & 1) == 0;
    struct smt_conn *c =
        request ? smt_kernel_conn_of_client(e, now, from) : smt_kernel_conn_find(e, from);
    e->stats.packets_rcvd_data++;
    if (c == NULL) {
        e->stats.drop_no_session += !request;
        return;
    }
    if (p->cutoff_version != e->cutoffs.version)
        smt_frames_cutoffs_tell(c, now);
    if (f->records)
        smt_records_receive(c, now, p, (uint16_t)(pkt->ip_id + p->index), pkt->len);
    else
        plain_receive(c, now, p);
    /* Honoured whatever became of the data. */
    if (p->n_acks > 0)
        smt_kernel_ack_hear(c, now, &p->acks[0]);
}

/* What somebody asks about an rpc that we do not know. */
static void unknown_rpc(struct smt_engine *e, uint64_t now, const struct smt_homa_pkt *p,
                        const struct smt_addr *from)
{
    uint64_t local = smt_homa_local_id(p->sender_id);
    if (p->type == SMT_HOMA_RESEND)
        smt_stateless_add(e, now, from, p->sport, SMT_HOMA_UNKNOWN, local, NULL);
    else if (p->type == SMT_HOMA_NEED_ACK)
        smt_stateless_add(e, now, from, p->sport, SMT_HOMA_ACK, local, NULL);
}

/* A client that knows nothing of an rpc has got its response, or has died and come back. */
static void client_forgot(struct smt_rpc *r)
{
    r->conn->e->stats.unknown_rcvd++;
    smt_rpc_orphan(r, SMT_ECANCELED);
}

/* How often a call of ours has begun anew. A server that refuses it says each time that he knows
 * nothing of it. */
static uint32_t restarts(const struct smt_rpc *r)
{
    return r->tx.seal >> SMT_SEAL_INDEX_BITS;
}

static void control_receive(struct smt_engine *e, uint64_t now, const struct smt_homa_pkt *p,
                            const struct smt_addr *from)
{
    static const uint8_t frame_types[SMT_HOMA_N_TYPES] = {
        [SMT_HOMA_GRANT - SMT_HOMA_DATA] = SMT_FRAME_GRANT,
        [SMT_HOMA_RESEND - SMT_HOMA_DATA] = SMT_FRAME_RESEND,
        [SMT_HOMA_UNKNOWN - SMT_HOMA_DATA] = SMT_FRAME_UNKNOWN,
        [SMT_HOMA_BUSY - SMT_HOMA_DATA] = SMT_FRAME_BUSY,
        [SMT_HOMA_CUTOFFS - SMT_HOMA_DATA] = SMT_FRAME_CUTOFFS,
        [SMT_HOMA_NEED_ACK - SMT_HOMA_DATA] = SMT_FRAME_NEED_ACK,
        [SMT_HOMA_ACK - SMT_HOMA_DATA] = SMT_FRAME_ACK,
    };
    e->stats.packets_rcvd_ctrl++;
    struct smt_conn *c = smt_kernel_conn_find(e, from);
    uint64_t id = c == NULL ? 0 : smt_kernel_id(c, p->sender_id);
    struct smt_rpc *r = id == 0 ? NULL : smt_rpc_find(c, id);
    if (r == NULL || !smt_rpc_is_on_wire(r))
        unknown_rpc(e, now, p, from);
    /* FREEZE is for debugging of others. */
    if (c == NULL || frame_types[p->type - SMT_HOMA_DATA] == 0)
        return;
    if (c->state == SMT_CONN_UP)
        smt_conn_heard(c, now);
    if (r == NULL && (p->type == SMT_HOMA_RESEND || p->type == SMT_HOMA_NEED_ACK))
        return;
    if (r != NULL && p->type == SMT_HOMA_UNKNOWN && smt_rpc_is_server(r)) {
        client_forgot(r);
        return;
    }
    if (r != NULL && p->type == SMT_HOMA_UNKNOWN && restarts(r) >= MAX_RESTARTS) {
        smt_rpc_fail(r, SMT_EMAYBE);
        return;
    }
    struct smt_frame f = {
        .type = frame_types[p->type - SMT_HOMA_DATA],
        .id = id,
        .prio = p->prio,
        .offset = p->offset,
        .length = p->type == SMT_HOMA_CUTOFFS ? UINT32_MAX : p->length,
        .code = p->cutoff_version,
    };
    memcpy(f.cutoffs, p->cutoffs + 1, sizeof(f.cutoffs));
    /* A sender that lacked buffers at first wants everything again, and only then more. */
    if (p->resend_all && r != NULL && r->tx.active)
        smt_msg_tx_lost(&r->tx, 0, r->tx.sent);
    smt_frames_act(c, now, &f, r);
    for (unsigned i = 0; i < p->n_acks; i++)
        smt_kernel_ack_hear(c, now, &p->acks[i]);
}

static void packet_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt)
{
    struct smt_homa_pkt p;
    if (smt_homa_decode(e->kernel->format, pkt->data, pkt->len, &p) < 0) {
        e->stats.drop_malformed++;
        return;
    }
    if (p.dport != e->config.port) {
        e->stats.drop_port++;
        return;
    }
    struct smt_addr from = *pkt->from;
    from.port = p.sport;
    if (p.type == SMT_HOMA_DATA)
        data_receive(e, now, pkt, &p, &from);
    else
        control_receive(e, now, &p, &from);
}

unsigned smt_kernel_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                            unsigned n)
{
    (void)n;
    packet_receive(e, now, pkts);
    return 1;
}
