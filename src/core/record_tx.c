/* Building DATA packets: one record per packet, sealed in the sink's memory. Small data are copied
 * behind their head and sealed in place; from GATHER_MIN on the cipher gathers from the user's
 * memory, so that encrypting is the copy.
 *
 * All packets of a message are of one size but the last: the cut spreads head and data evenly, so
 * that packets of many messages fit one super-frame of equal segments with little padding. */
#include "core/record.h"

#include "core/state.h"

enum { GATHER_MIN = 512, FIRST_EXTRA = SMT_INNER_EXT_LEN };

/* Data bytes that fit a packet that is not the first of its message; that it takes. */
static uint32_t cut_room(uint32_t mtu)
{
    uint32_t room = mtu - SMT_DATA_HDR_LEN - SMT_RECORD_OVERHEAD - SMT_INNER_LEN;
    return room < SMT_RECORD_MAX_PLAIN - SMT_INNER_LEN ? room
                                                       : SMT_RECORD_MAX_PLAIN - SMT_INNER_LEN;
}

static uint32_t cut_of(const struct smt_msg_tx *t, uint32_t mtu)
{
    uint32_t room = cut_room(mtu);
    uint32_t total = t->len + FIRST_EXTRA;
    if (total <= room)
        return total;
    uint32_t n_parts = (total + room - 1) / room;
    return (total + n_parts - 1) / n_parts;
}

/* By how much is left, so that a message climbs as it goes: unscheduled bytes, and the last ones of
 * a granted message, which are nobody's competition for long. */
static uint8_t prio_of(const struct smt_conn *c, const struct smt_msg_tx *t,
                       const struct smt_tx_piece *piece)
{
    uint32_t offset = piece->offset;
    unsigned top = c->e->config.tune.n_prios - 1;
    uint32_t left = t->len - offset;
    unsigned p = t->prio;
    if (offset < t->unsched) {
        p = smt_cutoffs_level(c->cutoffs, left);
    } else if (left <= smt_path_tail(c)) {
        unsigned tail = smt_cutoffs_level(c->cutoffs, left);
        p = tail > p ? tail : p;
    }
    if (SMT_UNLIKELY(piece->again) && p < t->again_prio)
        p = t->again_prio;
    return (uint8_t)(p < top ? p : top);
}

static uint32_t packet_max(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink)
{
    if (SMT_UNLIKELY(c->mtu.state == SMT_MTU_OFF))
        smt_mtu_start(c, now, sink);
    return c->mtu.now;
}

static void inner_fill(const struct smt_rpc *r, const struct smt_tx_piece *piece,
                       struct smt_inner *out)
{
    struct smt_conn *c = r->conn;
    uint8_t what = smt_rpc_is_server(r) ? SMT_WHAT_RESPONSE
                   : r->one_way         ? SMT_WHAT_ONEWAY
                                        : SMT_WHAT_REQUEST;
    *out = (struct smt_inner){.what = what,
                              .flags = r->idempotent ? SMT_INNER_IDEMPOTENT : 0,
                              .offset = piece->offset,
                              .message_len = r->tx.len,
                              .id_high = (uint32_t)(smt_rpc_tx_id(r) >> 32)};
    if (piece->offset == 0) {
        out->flags |= SMT_INNER_EXT;
        out->low_water = c->finished.low_water;
        out->done = c->finished.done;
        out->unsched = r->tx.unsched;
        out->cutoffs_version = c->cutoffs_version;
    }
}

/* Header, head, frames_len bytes of ACKs and data into `pkt`, sealed. */
static int packet_make(struct smt_rpc *r, const struct smt_tx_piece *piece, size_t frames_len,
                       size_t plain_len, uint8_t *pkt)
{
    struct smt_conn *c = r->conn;
    size_t record_len = SMT_RECORD_OVERHEAD + plain_len;
    const struct smt_hdr hdr = {
        .kind = SMT_KIND_DATA,
        .version = SMT_WIRE_VERSION,
        .epoch = (uint8_t)c->keys.now.number,
        .sport = c->e->config.port,
        .dport = c->peer_port,
        .session_id = c->peer_id,
        .rpc_id = smt_rpc_tx_id(r),
        .offset = piece->offset,
        .message_len = r->tx.len,
        .seal = r->tx.seal,
        .record_len = (uint16_t)record_len,
        .slice_len = (uint16_t)record_len,
    };
    smt_hdr_encode(&hdr, pkt);
    uint8_t *record = pkt + SMT_DATA_HDR_LEN;
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    struct smt_inner inner;
    inner_fill(r, piece, &inner);
    inner.frames_len = (uint16_t)frames_len;
    size_t head_len = smt_inner_encode(&inner, plain);
    if (SMT_UNLIKELY(frames_len > 0))
        head_len += smt_acks_take(c, plain + head_len, frames_len);
    if (piece->len < GATHER_MIN || r->tx.n_iov != 1) {
        smt_msg_tx_copy(&r->tx, piece->offset, piece->len, plain + head_len);
        const struct smt_aead_in in = {plain, plain_len};
        return smt_keys_seal_data(&c->keys, hdr.rpc_id, hdr.seal, record, &in, 1, plain_len);
    }
    const struct smt_aead_in in[2] = {
        {plain, head_len},
        {(const uint8_t *)r->tx.one.base + piece->offset, piece->len},
    };
    return smt_keys_seal_data(&c->keys, hdr.rpc_id, hdr.seal, record, in, 2, plain_len);
}

enum smt_sent smt_record_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_tx *t = &r->tx;
    if (!smt_msg_tx_sendable(t))
        return SMT_SENT_NOTHING;
    if (SMT_UNLIKELY(smt_keys_step(&c->keys, now))) {
        c->e->stats.rekeys++;
        smt_conn_arm(c, now);
    }
    uint32_t cut = cut_of(t, packet_max(c, now, sink));
    struct smt_tx_piece piece;
    if (SMT_UNLIKELY(t->unsched < t->len && t->seal == 0))
        smt_msg_tx_align(t, cut, FIRST_EXTRA, c->unsched_limit);
    smt_msg_tx_next(t, cut, &piece);
    size_t head_len = SMT_INNER_LEN;
    if (piece.offset == 0) {
        head_len += SMT_INNER_EXT_LEN;
        if (piece.len > cut - FIRST_EXTRA)
            piece.len = cut - FIRST_EXTRA;
    }
    size_t frames_len = 0;
    /* ACKs that wait ride in a message of one packet, as far as there is room. */
    if (SMT_UNLIKELY(c->acks.n > 0) && piece.len == t->len && !piece.again) {
        uint32_t room = cut_room(packet_max(c, now, sink)) - SMT_INNER_EXT_LEN - piece.len;
        frames_len = (size_t)SMT_ACK_LEN * (c->acks.n * SMT_ACK_LEN <= room ? c->acks.n : 0);
    }
    size_t plain_len = head_len + frames_len + piece.len;
    size_t packet_len = SMT_DATA_HDR_LEN + SMT_RECORD_OVERHEAD + plain_len;
    /* The window may be shut by what stands in the queue of a low level: a message of one packet
     * does not wait for that. */
    bool alone = piece.len == t->len && !piece.again;
    if (!alone && !smt_pacer_allows(&c->pacer, smt_conn_window(c), (uint32_t)packet_len))
        return SMT_SENT_BLOCKED;
    if (SMT_UNLIKELY(t->seal >= SMT_SEAL_LIMIT)) {
        smt_rpc_fail(r, SMT_EKEYLIMIT);
        return SMT_SENT_FAILED;
    }
    uint8_t prio = prio_of(c, t, &piece);
    uint8_t *pkt = sink->reserve(sink->arg, &c->addr, packet_len, prio);
    if (pkt == NULL)
        return SMT_SENT_FULL;
    int rc = packet_make(r, &piece, frames_len, plain_len, pkt);
    /* The number is spent whatever came of it. */
    if (SMT_UNLIKELY(rc < 0)) {
        t->seal++;
        sink->unreserve(sink->arg);
        if (rc == SMT_EKEYLIMIT && !c->keys.want_next) {
            c->keys.want_next = true;
            return SMT_SENT_BLOCKED;
        }
        smt_rpc_fail(r, rc);
        return SMT_SENT_FAILED;
    }
    if (piece.offset == 0)
        c->finished.untold = false;
    struct smt_stats *st = &c->e->stats;
    st->packets_sent_data++;
    st->records_sealed++;
    st->bytes_sent += packet_len;
    st->resent_records += piece.again;
    smt_msg_tx_sent(t, &piece);
    if (prio < t->low_prio)
        t->low_prio = prio;
    smt_pacer_sent(c, now, (uint32_t)packet_len, prio);
    if (t->len > SMT_SRPT_SHORT_LEN)
        smt_srpt_charge(&c->e->srpt, r, (uint32_t)packet_len);
    r->heard = now;
    /* From here on its response may be late. */
    r->rx.came_at = now;
    r->rx.came_bytes = st->bytes_rcvd;
    c->data_at = now;
    return SMT_SENT_ONE;
}
