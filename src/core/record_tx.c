/* Building DATA packets: one record per packet, sealed in the sink's memory. Small data are copied
 * behind their head and sealed in place; from SMT_GATHER_MIN on the cipher gathers from the user's
 * memory, so that encrypting is the copy, and no plaintext is ever written to the sink: its long
 * packets may lie where other processes look on (dev/shm.h).
 *
 * Where the peer takes bursts, a record may be as long as records get and leave in slices: sealed
 * by the NIC when it has shown that it can (nic.c), or here when the sink cuts bursts by itself.
 * What was lost comes again in single packets, sealed here. Over UDP, where the index of a slice
 * stands in its header, the sink gives places for a run of packets, and a record is sealed into
 * them: ours and the cipher's work of beginning and ending is done once for a dozen packets. One
 * packet lost costs the whole record, so a conn that loses some sends single ones for a while.
 *
 * All packets of a message are of one size but the last: the cut spreads head and data evenly, so
 * that packets of many messages fit one super-frame of equal segments with little padding. */
#include "core/record.h"

#include "core/nic.h"
#include "core/single.h"
#include "core/slices.h"
#include "core/state.h"

enum { FIRST_EXTRA = SMT_INNER_EXT_LEN };

/* Data bytes that fit a packet that is not the first of its message; that it takes. */
static uint32_t cut_room(uint32_t mtu)
{
    uint32_t room = mtu - SMT_DATA_HDR_LEN - SMT_RECORD_OVERHEAD - SMT_INNER_LEN;
    return room < SMT_RECORD_MAX_PLAIN - SMT_INNER_LEN ? room
                                                       : SMT_RECORD_MAX_PLAIN - SMT_INNER_LEN;
}

/* The same for a record that leaves in slices: no more than half of what may be in flight. */
static uint32_t burst_room(const struct smt_conn *c, uint32_t mtu)
{
    uint64_t half = smt_conn_window(c) / 2;
    uint32_t least = cut_room(mtu), most = SMT_RECORD_MAX_PLAIN - SMT_INNER_LEN;
    uint32_t room = half < most ? (uint32_t)half : most;
    return room > least ? room : least;
}

static uint32_t cut_of(const struct smt_msg_tx *t, uint32_t room)
{
    uint32_t total = t->len + FIRST_EXTRA;
    if (total <= room)
        return total;
    uint32_t n_parts = (total + room - 1) / room;
    return (total + n_parts - 1) / n_parts;
}

/* By how much is left, so that a message climbs as it goes: unscheduled bytes, and the last ones of
 * a granted message, which are nobody's competition for long. But packets that leave at one go stay
 * at the level of the first: they are one behind the other on the link anyway, and a super-frame
 * has one level. (An RPC of 8 KB left as five frames of one packet, and took 1.7 times as long.) */
static uint8_t prio_of(const struct smt_conn *c, struct smt_msg_tx *t,
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
    if (p > top)
        p = top;
    if (p < t->run_prio)
        t->run_prio = (uint8_t)p;
    return t->run_prio;
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
    uint8_t what = SMT_UNLIKELY(r->is_test) ? SMT_WHAT_TEST : r->what;
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

/* Who seals a record, and how it leaves. */
enum way { BY_PACKET, BY_RUN, BY_BURST, BY_NIC };

struct plan {
    enum way way;
    struct smt_tx_piece piece;
    uint32_t frames_len, record_len, slice_len, n_packets, wire_len;
    uint8_t prio;
};

static void hdr_put(const struct smt_rpc *r, const struct plan *p, uint8_t *pkt)
{
    const struct smt_conn *c = r->conn;
    const struct smt_hdr hdr = {
        .kind = SMT_KIND_DATA,
        .version = SMT_WIRE_VERSION,
        .epoch = (uint8_t)c->keys.now.number,
        .sport = c->e->config.port,
        .dport = c->peer_port,
        .session_id = c->peer_id,
        .rpc_id = smt_rpc_tx_id(r),
        .offset = p->piece.offset,
        .message_len = r->tx.len,
        .seal = r->tx.seal,
        .record_len = (uint16_t)p->record_len,
        .slice_len = (uint16_t)p->slice_len,
    };
    smt_hdr_encode(&hdr, pkt);
}

/* The record's own head and frames_len bytes of ACKs; how many bytes. */
static size_t head_put(struct smt_rpc *r, const struct plan *p, uint8_t *plain)
{
    struct smt_inner inner;
    inner_fill(r, &p->piece, &inner);
    inner.frames_len = (uint16_t)p->frames_len;
    size_t head_len = smt_inner_encode(&inner, plain);
    if (SMT_UNLIKELY(p->frames_len > 0))
        head_len += smt_acks_take(r->conn, plain + head_len, p->frames_len);
    return head_len;
}

/* Header, head, frames and data into `pkt`, sealed. */
static int packet_make(struct smt_rpc *r, const struct plan *p, uint8_t *pkt)
{
    struct smt_conn *c = r->conn;
    size_t plain_len = p->record_len - SMT_RECORD_OVERHEAD;
    hdr_put(r, p, pkt);
    uint8_t *record = pkt + SMT_DATA_HDR_LEN;
    bool is_small = p->piece.len < SMT_GATHER_MIN;
    uint8_t *plain = is_small ? record + SMT_RECORD_HEAD_LEN : c->e->scratch;
    size_t head_len = head_put(r, p, plain);
    if (is_small || r->tx.n_iov != 1) {
        smt_msg_tx_copy(&r->tx, p->piece.offset, p->piece.len, plain + head_len);
        const struct smt_aead_in in = {plain, plain_len};
        return smt_keys_seal_data(&c->keys, smt_rpc_tx_id(r), r->tx.seal, record, &in, 1,
                                  plain_len);
    }
    const struct smt_aead_in in[2] = {
        {plain, head_len},
        {(const uint8_t *)r->tx.one.base + p->piece.offset, p->piece.len},
    };
    return smt_keys_seal_data(&c->keys, smt_rpc_tx_id(r), r->tx.seal, record, in, 2, plain_len);
}

/* The same with everything in the clear: the NIC seals it as it leaves. */
static void record_make(struct smt_rpc *r, const struct plan *p, uint8_t *pkt)
{
    size_t plain_len = p->record_len - SMT_RECORD_OVERHEAD;
    hdr_put(r, p, pkt);
    uint8_t *record = pkt + SMT_DATA_HDR_LEN;
    smt_record_head_encode(record, smt_data_record_no(smt_rpc_tx_id(r), r->tx.seal), plain_len);
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    size_t head_len = head_put(r, p, plain);
    smt_msg_tx_copy(&r->tx, p->piece.offset, p->piece.len, plain + head_len);
    smt_keys_note_data(&r->conn->keys, plain_len);
}

static enum way way_choose(const struct smt_rpc *r, uint64_t now, uint32_t mtu,
                           const struct smt_tx_sink *sink)
{
    struct smt_conn *c = r->conn;
    const struct smt_msg_tx *t = &r->tx;
    if (SMT_LIKELY(!c->may_burst && !c->may_slice))
        return BY_PACKET;
    if (SMT_UNLIKELY(r->is_test))
        return BY_NIC;
    /* What a burst has lost, or what began with one that nobody has seen. */
    if (t->lost.n > 0 || t->seal >> SMT_SEAL_INDEX_BITS > 0)
        return BY_PACKET;
    if (SMT_LIKELY(c->may_slice)) {
        bool fits_one = t->granted - t->sent <= cut_room(mtu) - FIRST_EXTRA;
        return fits_one || c->singles_left > 0 || sink->run == NULL ? BY_PACKET : BY_RUN;
    }
    const struct smt_sealer *s = c->e->config.sealer;
    if (s != NULL && t->len >= s->min_len && smt_nic_is_ready(c, now))
        return BY_NIC;
    return sink->burst != NULL && t->len > cut_room(mtu) - FIRST_EXTRA ? BY_BURST : BY_PACKET;
}

/* What leaves next of a message, and how. */
static void plan_make(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink,
                      struct plan *out)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_tx *t = &r->tx;
    uint32_t mtu = packet_max(c, now, sink);
    uint32_t room = cut_room(mtu);
    struct smt_tx_piece *piece = &out->piece;
    out->way = way_choose(r, now, mtu, sink);
    if (SMT_UNLIKELY(t->unsched < t->len && t->seal == 0))
        smt_msg_tx_align(t, cut_of(t, room), FIRST_EXTRA, c->unsched_limit);
    struct smt_slicing slicing = {0, 0};
    if (out->way == BY_RUN && !smt_slicing_make(c, t->len + FIRST_EXTRA, mtu, sink, &slicing))
        out->way = BY_PACKET;
    uint32_t cut = slicing.cut;
    if (SMT_LIKELY(out->way != BY_RUN))
        cut = cut_of(t, out->way == BY_PACKET ? room : burst_room(c, mtu));
    smt_msg_tx_next(t, cut, piece);
    uint32_t head_len = SMT_INNER_LEN;
    if (piece->offset == 0) {
        head_len += SMT_INNER_EXT_LEN;
        if (piece->len > cut - FIRST_EXTRA)
            piece->len = cut - FIRST_EXTRA;
    }
    out->frames_len = 0;
    /* ACKs that wait ride in a message of one packet, as far as there is room. */
    if (SMT_UNLIKELY(c->acks.n > 0) && piece->len == t->len && !piece->again &&
        piece->len + FIRST_EXTRA <= room) {
        uint32_t left = room - FIRST_EXTRA - piece->len;
        uint32_t len = (uint32_t)smt_acks_riding_len(&c->acks, now);
        out->frames_len = len <= left ? len : 0;
    }
    out->record_len = SMT_RECORD_OVERHEAD + head_len + out->frames_len + piece->len;
    out->slice_len = out->record_len;
    out->n_packets = 1;
    if (out->way == BY_RUN) {
        out->slice_len = slicing.slice_len;
        out->n_packets = (out->record_len + slicing.slice_len - 1) / slicing.slice_len;
        if (SMT_UNLIKELY(out->n_packets == 1)) {
            out->slice_len = out->record_len;
            out->way = BY_PACKET;
        }
    } else if (SMT_UNLIKELY(out->way != BY_PACKET)) {
        uint32_t most = r->is_test ? out->record_len / 2 + 1 : mtu - SMT_DATA_HDR_LEN;
        out->n_packets = (out->record_len + most - 1) / most;
        out->slice_len = (out->record_len + out->n_packets - 1) / out->n_packets;
        if (out->n_packets == 1 && out->way == BY_BURST)
            out->way = BY_PACKET;
    }
    out->wire_len = out->record_len + out->n_packets * SMT_DATA_HDR_LEN;
    out->prio = prio_of(c, t, piece);
}

enum smt_sent smt_record_failed(struct smt_rpc *r, int error)
{
    struct smt_keys *k = &r->conn->keys;
    r->tx.seal++;
    if (error == SMT_EKEYLIMIT && !k->want_next) {
        k->want_next = true;
        return SMT_SENT_BLOCKED;
    }
    smt_rpc_fail(r, error);
    return SMT_SENT_FAILED;
}

static enum smt_sent cpu_send(struct smt_rpc *r, const struct plan *p,
                              const struct smt_tx_sink *sink)
{
    const struct smt_addr *to = &r->conn->addr;
    uint8_t *pkt = SMT_LIKELY(p->way == BY_PACKET)
                       ? sink->reserve(sink->arg, to, p->wire_len, p->prio)
                       : sink->burst(sink->arg, to, SMT_DATA_HDR_LEN, p->record_len, p->slice_len,
                                     p->prio);
    if (pkt == NULL)
        return SMT_SENT_FULL;
    int rc = packet_make(r, p, pkt);
    if (SMT_LIKELY(rc == 0))
        return SMT_SENT_ONE;
    sink->unreserve(sink->arg);
    return smt_record_failed(r, rc);
}

/* One record over n_packets packets, sealed from the user's memory straight into them. */
static enum smt_sent run_send(struct smt_rpc *r, const struct plan *p,
                              const struct smt_tx_sink *sink)
{
    struct smt_slices to = {
        .n = p->n_packets, .record_len = p->record_len, .slice_len = p->slice_len};
    size_t last_len = p->record_len - (size_t)(p->n_packets - 1) * p->slice_len;
    to.pkt = sink->run(sink->arg, &r->conn->addr, to.n, SMT_DATA_HDR_LEN + to.slice_len,
                       SMT_DATA_HDR_LEN + last_len, p->prio, &to.stride);
    if (to.pkt == NULL)
        return SMT_SENT_FULL;
    hdr_put(r, p, to.pkt);
    uint8_t head[SMT_INNER_LEN + SMT_INNER_EXT_LEN];
    size_t head_len = head_put(r, p, head);
    int rc = smt_slices_seal(r, &to, &p->piece, head, head_len);
    if (SMT_LIKELY(rc == 0))
        return SMT_SENT_ONE;
    sink->unreserve(sink->arg);
    return smt_record_failed(r, rc);
}

/* NOTHING: the NIC's context has gone, or is not the right one any more. */
static enum smt_sent nic_send(struct smt_rpc *r, uint64_t now, const struct plan *p)
{
    struct smt_conn *c = r->conn;
    const struct smt_sealer *s = c->e->config.sealer;
    int rc = smt_keys_check_data(&c->keys, smt_rpc_tx_id(r));
    if (SMT_UNLIKELY(rc < 0))
        return smt_record_failed(r, rc);
    const struct smt_seal_record record = {
        .to = &c->addr,
        .record_no = smt_data_record_no(smt_rpc_tx_id(r), r->tx.seal),
        .hdr_len = SMT_DATA_HDR_LEN,
        .record_len = p->record_len,
        .slice_len = p->slice_len,
        .prio = p->prio,
    };
    uint8_t *pkt;
    rc = r->is_test && !smt_nic_may_test(c) ? SMT_ESTATE
                                            : s->reserve(s->arg, c->nic.ctx, &record, &pkt);
    if (rc == SMT_EAGAIN)
        return SMT_SENT_FULL;
    if (SMT_UNLIKELY(rc < 0)) {
        smt_nic_lost(c, now);
        return SMT_SENT_NOTHING;
    }
    record_make(r, p, pkt);
    c->e->stats.records_sealed_nic++;
    r->tx.by_nic = r->tx.sent == 0 || r->tx.by_nic;
    r->is_involved = true;
    return SMT_SENT_ONE;
}

static void sent_note(struct smt_rpc *r, uint64_t now, const struct plan *p)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_tx *t = &r->tx;
    if (p->piece.offset == 0)
        c->finished.untold = false;
    struct smt_stats *st = &c->e->stats;
    st->packets_sent_data += p->n_packets;
    st->records_sealed++;
    st->bytes_sent += p->wire_len;
    st->resent_records += p->piece.again;
    if (SMT_UNLIKELY(c->may_burst) && p->way != BY_NIC)
        smt_nic_note_cpu(r);
    smt_msg_tx_sent(t, &p->piece);
    if (p->prio < t->low_prio)
        t->low_prio = p->prio;
    if (SMT_LIKELY(p->n_packets == 1)) {
        smt_pacer_sent(c, now, p->wire_len, p->prio);
        if (SMT_UNLIKELY(c->singles_left > 0))
            c->singles_left--;
    } else {
        st->bursts_sent++;
        uint32_t left = p->record_len;
        for (uint32_t i = 0; i < p->n_packets; i++) {
            uint32_t len = left < p->slice_len ? left : p->slice_len;
            smt_pacer_sent(c, now, SMT_DATA_HDR_LEN + len, p->prio);
            left -= len;
        }
    }
    if (t->len > SMT_SRPT_SHORT_LEN)
        smt_srpt_charge(&c->e->srpt, r, p->wire_len);
    r->heard = now;
    /* From here on its response may be late. */
    r->rx.came_at = now;
    r->rx.came_bytes = st->bytes_rcvd;
}

enum smt_sent smt_record_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_tx *t = &r->tx;
    bool single = smt_single_is(r);
    if (!single && !smt_msg_tx_sendable(t))
        return SMT_SENT_NOTHING;
    if (SMT_UNLIKELY(smt_keys_step(&c->keys, now))) {
        c->e->stats.rekeys++;
        smt_conn_arm(c, now);
    }
    if (SMT_LIKELY(single))
        return smt_single_send(r, now, sink);
    struct plan p;
    plan_make(r, now, sink, &p);
    /* The window may be shut by what stands in the queue of a low level: a message of one packet
     * does not wait for that. */
    bool alone = p.piece.len == t->len && !p.piece.again && p.n_packets == 1;
    if (!alone && !smt_pacer_allows(&c->pacer, smt_conn_window(c), p.wire_len))
        return SMT_SENT_BLOCKED;
    if (SMT_UNLIKELY(t->seal >= SMT_SEAL_LIMIT)) {
        smt_rpc_fail(r, SMT_EKEYLIMIT);
        return SMT_SENT_FAILED;
    }
    enum smt_sent sent;
    if (p.way == BY_RUN) {
        sent = run_send(r, &p, sink);
    } else if (SMT_LIKELY(p.way != BY_NIC)) {
        sent = cpu_send(r, &p, sink);
    } else {
        bool is_test = r->is_test;
        sent = nic_send(r, now, &p);
        /* A test has ended with its context; others go on without. */
        if (sent == SMT_SENT_NOTHING)
            return is_test ? SMT_SENT_FAILED : smt_record_send(r, now, sink);
    }
    if (sent == SMT_SENT_ONE)
        sent_note(r, now, &p);
    return sent;
}
