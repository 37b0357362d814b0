/* DATA packets of the kernel's profiles. All packets of a message but the last are full, for its
 * whole life: kernel receivers drop what straddles bytes that they have. So whatever is sent again
 * goes in the packets it went in, and a grant that ends inside a packet lets all of it go. */
#include "core/kernel.h"

/* What a message may be cut into at least. */
enum { MIN_CUT = 64 };

static bool cut_set(struct smt_rpc *r, uint32_t overhead, const struct smt_tx_sink *sink)
{
    struct smt_conn *c = r->conn;
    uint32_t mtu = sink->mtu(sink->arg, &c->addr);
    if (c->e->config.mtu > 0 && c->e->config.mtu < mtu)
        mtu = c->e->config.mtu;
    if (mtu < overhead + MIN_CUT) {
        smt_rpc_fail(r, SMT_EMTU);
        return false;
    }
    c->mtu.now = (uint16_t)(mtu < UINT16_MAX ? mtu : UINT16_MAX);
    r->tx.cut = c->mtu.now - overhead;
    smt_msg_tx_align(&r->tx, r->tx.cut, 0, UINT32_MAX);
    return true;
}

static uint8_t prio_of(const struct smt_conn *c, const struct smt_msg_tx *t,
                       const struct smt_tx_piece *piece)
{
    unsigned top = smt_engine_top_prio(c->e);
    unsigned p = piece->offset < t->unsched ? smt_cutoffs_level(c->cutoffs, t->len) : t->prio;
    if (piece->again && p < t->again_prio)
        p = t->again_prio;
    return (uint8_t)(p < top ? p : top);
}

bool smt_kernel_piece_next(struct smt_rpc *r, uint32_t overhead, const struct smt_tx_sink *sink,
                           struct smt_kernel_piece *out)
{
    struct smt_msg_tx *t = &r->tx;
    if (SMT_UNLIKELY(t->cut == 0) && !cut_set(r, overhead, sink))
        return false;
    struct smt_range lost;
    out->tx.again = t->lost.n > 0 && smt_ranges_first(&t->lost, &lost);
    uint32_t at = out->tx.again ? (uint32_t)lost.start : t->sent;
    out->tx.offset = at - at % t->cut;
    uint32_t left = t->len - out->tx.offset;
    out->tx.len = left < t->cut ? left : t->cut;
    /* Of an original what needs no grant; of a copy no less than itself. */
    uint32_t end = out->tx.offset + out->tx.len;
    out->incoming = t->unsched;
    if (out->tx.again)
        out->incoming = t->granted > end ? t->granted : end;
    out->prio = prio_of(r->conn, t, &out->tx);
    return true;
}

void smt_kernel_piece_sent(struct smt_rpc *r, uint64_t now, const struct smt_kernel_piece *piece,
                           uint32_t packet_len)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_tx *t = &r->tx;
    struct smt_stats *st = &c->e->stats;
    st->packets_sent_data++;
    st->bytes_sent += packet_len;
    st->resent_records += piece->tx.again;
    smt_msg_tx_sent(t, &piece->tx);
    if (piece->prio < t->low_prio)
        t->low_prio = piece->prio;
    if (t->len > SMT_SRPT_SHORT_LEN)
        smt_srpt_charge(&c->e->srpt, r, packet_len);
    r->heard = now;
}

void smt_kernel_header(const struct smt_rpc *r, const struct smt_kernel_piece *piece,
                       struct smt_homa_pkt *out)
{
    const struct smt_conn *c = r->conn;
    *out = (struct smt_homa_pkt){
        .sport = c->e->config.port,
        .dport = c->addr.port,
        .sender_id = smt_kernel_sender_id(c, r->id),
        .type = SMT_HOMA_DATA,
        .retransmit = piece->tx.again,
        .place = SMT_HOMA_IN_BOTH,
        .cutoff_version = c->cutoffs_version,
        .message_len = r->tx.len,
        .incoming = piece->incoming,
        .offset = piece->tx.offset,
    };
}

bool smt_kernel_ack_next(struct smt_conn *c, struct smt_homa_ack *out)
{
    uint64_t id;
    if (!smt_acks_pop(c, &id))
        return false;
    *out = (struct smt_homa_ack){.client_id = smt_kernel_sender_id(c, id ^ SMT_ID_ROLE),
                                 .client_port = c->e->config.port,
                                 .server_port = c->addr.port};
    return true;
}

enum smt_sent smt_kernel_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_conn *c = r->conn;
    const struct smt_homa_format *format = c->e->kernel->format;
    if (!smt_msg_tx_sendable(&r->tx))
        return SMT_SENT_NOTHING;
    struct smt_kernel_piece piece;
    if (!smt_kernel_piece_next(r, format->data_hdr_len, sink, &piece))
        return SMT_SENT_FAILED;
    uint32_t packet_len = format->data_hdr_len + piece.tx.len;
    uint8_t *pkt = sink->reserve(sink->arg, &c->addr, packet_len, piece.prio);
    if (pkt == NULL)
        return SMT_SENT_FULL;
    struct smt_homa_pkt p;
    smt_kernel_header(r, &piece, &p);
    p.n_acks = c->acks.n > 0 && smt_kernel_ack_next(c, &p.acks[0]);
    size_t at = smt_homa_encode(format, &p, pkt);
    smt_msg_tx_copy(&r->tx, piece.tx.offset, piece.tx.len, pkt + at);
    smt_kernel_piece_sent(r, now, &piece, packet_len);
    return SMT_SENT_ONE;
}
