/* Opening DATA packets. The clear header only says where to look; what counts is decided after the
 * tag has passed and the sealed head agrees with the hints. Until then nothing but the counters
 * changes.
 *
 * Four ways to open, by what is known: a message in one record opens into a buffer of its own,
 * head and all; a record of a message that has memory opens head and data apart, the data straight
 * into place; so does the first record of a message of at most 64 KB, into a buffer for all of it,
 * which goes back unless the record counts; everything else (the first record of a longer message,
 * frames in front of data, a range that would touch accepted bytes) takes a detour by the scratch
 * buffer.
 *
 * The first way, when it begins with one packet, is the usual one: what is in order there
 * single_rx.c has taken before, without decoding it. */
#include "core/arriving.h"

#include "core/frames.h"
#include "core/incoming.h"
#include "core/record.h"
#include "core/slices.h"
#include "core/rpc_life.h"
#include "core/state.h"

enum {
    BAD_BURSTS = 8,
    FIRST_BUFFER = 1 << 16, /* taken on the word of a clear header: cut from chunks, never a map */
};

/* Not the peer's, or no longer what he sent: to him it did not arrive. */
void smt_arriving_not(const struct smt_arriving *in)
{
    struct smt_pacer *p = &in->c->pacer;
    p->got_packets -= in->n_packets;
    p->got_bytes -= in->wire_len;
    p->got_ce -= in->n_ce;
}

/* A burst whose tag is wrong may be damaged or forged in one of its slices; but when so many fail
 * in a row, whoever seals them does it wrongly: they are wanted in single packets. */
static void burst_failed(const struct smt_arriving *in)
{
    struct smt_conn *c = in->c;
    const struct smt_hdr *h = in->hdr;
    c->e->stats.bursts_bad++;
    if (++c->n_bad_bursts < BAD_BURSTS)
        return;
    c->n_bad_bursts = 0;
    uint32_t left = h->message_len - h->offset;
    uint32_t len = (uint32_t)in->plain_len < left ? (uint32_t)in->plain_len : left;
    smt_ctl_add_resend_single(c, h->rpc_id, h->offset, len);
}

static __attribute__((noinline)) void open_failed(const struct smt_arriving *in)
{
    smt_arriving_not(in);
    in->c->e->stats.drop_auth++;
    if (SMT_UNLIKELY(in->n_packets > 1))
        burst_failed(in);
}

SMT_INLINE int open_into(const struct smt_arriving *in, const struct smt_aead_out *out,
                         unsigned n_out)
{
    struct smt_engine *e = in->c->e;
    uint32_t epoch = in->c->keys.now.number;
    int rc = SMT_LIKELY(in->pieces == NULL)
                 ? smt_keys_open_data(&in->c->keys, in->now, in->ref, in->record_no, in->record,
                                      in->plain_len, out, n_out)
                 : smt_keys_open_pieces(&in->c->keys, in->now, in->ref, in->record_no, in->pieces,
                                        out, n_out);
    if (SMT_UNLIKELY(rc < 0)) {
        open_failed(in);
        return rc;
    }
    if (SMT_UNLIKELY(epoch != in->c->keys.now.number)) {
        e->stats.rekeys++;
        smt_conn_arm(in->c, in->now);
    }
    if (SMT_UNLIKELY(in->n_packets > 1))
        in->c->n_bad_bursts = 0;
    e->stats.records_opened++;
    return 0;
}

/* Does the sealed head say what the clear one said? */
static bool head_agrees(const struct smt_arriving *in, const struct smt_inner *inner,
                        size_t head_len)
{
    const struct smt_hdr *h = in->hdr;
    if (inner->offset != h->offset || inner->message_len != h->message_len ||
        inner->id_high != (uint32_t)(h->rpc_id >> 32))
        return false;
    bool response = (h->rpc_id & SMT_ID_ROLE) != 0;
    if (response != (inner->what == SMT_WHAT_RESPONSE))
        return false;
    if (in->r != NULL && !response &&
        inner->what != (in->r->one_way ? SMT_WHAT_ONEWAY : SMT_WHAT_REQUEST))
        return false;
    size_t data_len = in->plain_len - head_len - inner->frames_len;
    return data_len <= inner->message_len - inner->offset &&
           (data_len > 0 || inner->message_len == 0);
}

/* A record whose head agrees: the peer lives. One whose head does not may be an old one under an
 * id that shares its number, sent again by anybody. Its mark only ever rises, so it may be heard
 * before it is known whether the record counts, and makes the room that the record may need. */
static void head_hear(const struct smt_arriving *in, const struct smt_inner *inner)
{
    smt_conn_heard(in->c, in->now);
    smt_conn_heard_from(in->c, in->now, in->from, in->packet_len);
    if (!(inner->flags & SMT_INNER_EXT))
        return;
    smt_frames_peer_finished(in->c, inner->low_water, inner->done);
    if (SMT_UNLIKELY(inner->cutoffs_version != in->c->e->cutoffs.version))
        smt_frames_cutoffs_tell(in->c, in->now);
}

/* Frames of a record that counted, behind everything else: they may end the rpc and the conn. */
static void frames_hear(const struct smt_arriving *in, const struct smt_inner *inner,
                        const uint8_t *frames)
{
    if (inner->frames_len > 0)
        smt_frames_hear(in->c, in->now, frames, inner->frames_len, in->packet_len);
}

/* Bytes that come without a grant, where the head says. */
static uint32_t unsched_of(const struct smt_inner *inner)
{
    return inner->flags & SMT_INNER_EXT ? inner->unsched : 0;
}

/* A server rpc for a request or message whose first record has been opened. NULL: not to be had,
 * for its own extension may just have finished it. */
static struct smt_rpc *server_rpc_new(const struct smt_arriving *in, const struct smt_inner *inner)
{
    struct smt_rpc *r = smt_incoming_new(in->c, in->id);
    if (r == NULL)
        return NULL;
    r->one_way = inner->what != SMT_WHAT_REQUEST;
    r->idempotent = (inner->flags & SMT_INNER_IDEMPOTENT) != 0;
    return r;
}

bool smt_record_test_came(struct smt_conn *c, uint64_t id)
{
    id &= SMT_ID_MASK;
    if (!smt_frames_id_is_new(c, id) || smt_ranges_add(&c->accepted, id, id + 1) < 0)
        return false;
    smt_ctl_add_id(c, SMT_FRAME_ACK, id);
    c->e->stats.acks_sent++;
    return true;
}

/* The first bytes of a message, whose rpc may just have been made: it begins, with `buf` for all of
 * it if that is not NULL. False: it does not, or has to wait; the buffer is still the caller's. */
static bool message_begin(const struct smt_arriving *in, struct smt_rpc *r,
                          const struct smt_inner *inner, uint32_t data_len, uint8_t *buf)
{
    bool fresh = in->r == NULL;
    uint32_t sent = inner->offset + data_len;
    if (sent < unsched_of(inner))
        sent = unsched_of(inner);
    if (!smt_incoming_begin(r, inner->message_len, sent, buf == NULL)) {
        /* Refused, or it waits for the user or for memory. */
        if (fresh && (r = smt_rpc_find(in->c, in->id)) != NULL && !smt_incoming_id_accept(r))
            smt_incoming_drop(r);
        return false;
    }
    if (fresh && !smt_incoming_id_accept(r)) {
        smt_incoming_drop(r);
        return false;
    }
    if (buf != NULL) {
        r->rx.store = r->rx.data = buf;
        r->rx.store_len = inner->message_len;
        smt_conn_hold(in->c, r->rx.store_len);
    }
    smt_rpc_arm(r, in->now);
    return true;
}

/* A record that lies opened in the scratch buffer. */
static void detour_take(struct smt_arriving *in)
{
    struct smt_conn *c = in->c;
    struct smt_engine *e = c->e;
    uint8_t *s = e->scratch;
    struct smt_inner inner;
    int head_len = smt_inner_decode(s, in->plain_len, &inner);
    if (head_len < 0 || !head_agrees(in, &inner, (size_t)head_len) ||
        inner.what == SMT_WHAT_TEST) {
        e->stats.drop_hint++;
        return;
    }
    uint32_t data_len = (uint32_t)(in->plain_len - (size_t)head_len - inner.frames_len);
    struct smt_rpc *r = in->r;
    if (r != NULL && r->rx.known && inner.message_len != r->rx.len) {
        e->stats.drop_hint++;
        return;
    }
    if (r != NULL && r->rx.known && !smt_msg_rx_wants(&r->rx, inner.offset, data_len)) {
        e->stats.drop_duplicate++;
        return;
    }
    head_hear(in, &inner);
    r = in->r != NULL ? smt_rpc_find(c, in->id) : server_rpc_new(in, &inner);
    if (r == NULL)
        return;
    if (!r->rx.known && !message_begin(in, r, &inner, data_len, NULL))
        return;
    if (r->rx.data == NULL) {
        e->stats.drop_await_accept++;
        return;
    }
    if (data_len > 0)
        memcpy(r->rx.data + inner.offset, s + head_len + inner.frames_len, data_len);
    if (smt_incoming_data(r, inner.offset, data_len, unsched_of(&inner), in->now))
        frames_hear(in, &inner, s + head_len);
}

/* By the scratch buffer. */
static void receive_detour(struct smt_arriving *in)
{
    const struct smt_aead_out out = {in->c->e->scratch, in->plain_len};
    if (open_into(in, &out, 1) == 0)
        detour_take(in);
}

/* The first record of a message that nothing is known of, into a buffer for all of it. */
static void receive_first(struct smt_arriving *in)
{
    enum { HEAD_LEN = SMT_INNER_LEN + SMT_INNER_EXT_LEN };
    struct smt_conn *c = in->c;
    struct smt_engine *e = c->e;
    uint32_t message_len = in->hdr->message_len;
    uint32_t len = (uint32_t)in->plain_len - HEAD_LEN;
    uint8_t *buf =
        smt_conn_may_hold(c, message_len) ? smt_bufpool_get(&e->bufs, message_len) : NULL;
    if (SMT_UNLIKELY(buf == NULL)) {
        receive_detour(in);
        return;
    }
    uint8_t head[HEAD_LEN];
    const struct smt_aead_out out[2] = {{head, HEAD_LEN}, {buf, len}};
    if (open_into(in, out, 2) < 0)
        goto err_put;
    struct smt_inner inner;
    int head_len = smt_inner_decode(head, in->plain_len, &inner);
    if (SMT_UNLIKELY(head_len != HEAD_LEN || inner.frames_len > 0)) {
        memcpy(e->scratch, head, HEAD_LEN);
        memcpy(e->scratch + HEAD_LEN, buf, len);
        smt_bufpool_put(&e->bufs, buf, message_len);
        detour_take(in);
        return;
    }
    if (!head_agrees(in, &inner, HEAD_LEN) || inner.what == SMT_WHAT_TEST) {
        e->stats.drop_hint++;
        goto err_put;
    }
    /* The mark may end the very rpc: look it up again behind it. */
    head_hear(in, &inner);
    struct smt_rpc *r = in->r != NULL ? smt_rpc_find(c, in->id) : server_rpc_new(in, &inner);
    if (r == NULL || !message_begin(in, r, &inner, len, buf))
        goto err_put;
    (void)smt_incoming_data(r, 0, len, unsched_of(&inner), in->now);
    return;
err_put:
    smt_bufpool_put(&e->bufs, buf, message_len);
}

/* A record that is its whole message, into a buffer of its own. */
static void receive_whole(struct smt_arriving *in)
{
    struct smt_conn *c = in->c;
    struct smt_engine *e = c->e;
    uint32_t buf_len = (uint32_t)in->plain_len;
    uint8_t *buf = smt_conn_may_hold(c, buf_len) ? smt_bufpool_get(&e->bufs, buf_len) : NULL;
    if (SMT_UNLIKELY(buf == NULL)) {
        receive_detour(in);
        return;
    }
    struct smt_inner inner;
    const struct smt_aead_out out = {buf, in->plain_len};
    if (open_into(in, &out, 1) < 0)
        goto err_put;
    int head_len = smt_inner_decode(buf, in->plain_len, &inner);
    if (head_len < 0 || !head_agrees(in, &inner, (size_t)head_len)) {
        e->stats.drop_hint++;
        goto err_put;
    }
    if (in->plain_len - (size_t)head_len - inner.frames_len != inner.message_len) {
        e->stats.drop_hint++;
        goto err_put;
    }
    /* The mark may end the very rpc: look it up again behind it. */
    head_hear(in, &inner);
    if (inner.what == SMT_WHAT_TEST) {
        if (smt_record_test_came(c, in->id))
            frames_hear(in, &inner, buf + head_len);
        goto err_put;
    }
    struct smt_rpc *r = in->r != NULL ? smt_rpc_find(c, in->id) : server_rpc_new(in, &inner);
    if (r == NULL)
        goto err_put;
    bool fresh = in->r == NULL;
    if (fresh && !smt_incoming_id_accept(r)) {
        smt_incoming_drop(r);
        goto err_put;
    }
    if (!smt_incoming_begin(r, inner.message_len, inner.message_len, false))
        goto err_put;
    r->rx.store = buf;
    r->rx.store_len = buf_len;
    r->rx.data = buf + head_len + inner.frames_len;
    smt_conn_hold(c, buf_len);
    /* The frames stay readable: the event that was raised has not been taken. */
    if (smt_incoming_data(r, inner.offset, inner.message_len, unsched_of(&inner), in->now))
        frames_hear(in, &inner, buf + head_len);
    return;
err_put:
    smt_bufpool_put(&e->bufs, buf, buf_len);
}

/* Straight into a message that has memory. True when dealt with; false: take the detour. */
static bool receive_direct(const struct smt_arriving *in)
{
    struct smt_rpc *r = in->r;
    struct smt_msg_rx *m = &r->rx;
    size_t head_len = in->hdr->offset == 0 ? SMT_INNER_LEN + SMT_INNER_EXT_LEN : SMT_INNER_LEN;
    if (in->plain_len <= head_len)
        return false;
    uint32_t len = (uint32_t)(in->plain_len - head_len);
    if (len > m->len - in->hdr->offset)
        return false;
    uint8_t head[SMT_INNER_LEN + SMT_INNER_EXT_LEN];
    const struct smt_aead_out out[2] = {{head, head_len}, {m->data + in->hdr->offset, len}};
    if (open_into(in, out, 2) < 0)
        return true;
    /* Frames or an unexpected extension stand where the data should, but all is at hand. */
    struct smt_inner inner;
    const uint8_t *frames = head;
    bool has_ext = (head[1] & SMT_INNER_EXT) != 0;
    if (smt_get_be16(head + 2) > 0 || has_ext != (in->hdr->offset == 0)) {
        uint8_t *s = in->c->e->scratch;
        memcpy(s, head, head_len);
        memcpy(s + head_len, m->data + in->hdr->offset, len);
        int got = smt_inner_decode(s, in->plain_len, &inner);
        if (got < 0 || !head_agrees(in, &inner, (size_t)got)) {
            in->c->e->stats.drop_hint++;
            return true;
        }
        frames = s + got;
        len = (uint32_t)(in->plain_len - (size_t)got - inner.frames_len);
        memcpy(m->data + inner.offset, frames + inner.frames_len, len);
    } else if (smt_inner_decode(head, in->plain_len, &inner) != (int)head_len ||
               !head_agrees(in, &inner, head_len)) {
        in->c->e->stats.drop_hint++;
        return true;
    }
    head_hear(in, &inner);
    r = smt_rpc_find(in->c, in->id);
    if (r != NULL && smt_incoming_data(r, inner.offset, len, unsched_of(&inner), in->now))
        frames_hear(in, &inner, frames);
    return true;
}

/* What can be said of a packet without looking at its record. False: dropped, and counted. */
static bool packet_check(struct smt_engine *e, const struct smt_pkt *pkt, struct smt_arriving *in)
{
    struct smt_conn *c = in->c;
    if (SMT_UNLIKELY(!smt_keys_ready(&c->keys))) {
        if (!smt_early_hold(c, pkt))
            e->stats.drop_no_keys++;
        return false;
    }
    in->ref = smt_keys_find_epoch(&c->keys, in->hdr->epoch);
    if (SMT_UNLIKELY(in->ref == SMT_EPOCH_NONE)) {
        e->stats.drop_epoch++;
        return false;
    }
    return true;
}

/* What can be said of a whole record without its keys. Duplicates are not opened, but they have not
 * been lost either: they count as arrived. */
bool smt_arriving_check(struct smt_arriving *in)
{
    struct smt_engine *e = in->c->e;
    const struct smt_hdr *hdr = in->hdr;
    if (smt_record_head_decode(in->record, hdr->record_len, &in->record_no, &in->plain_len) < 0) {
        e->stats.drop_malformed++;
        return false;
    }
    if (in->record_no != smt_data_record_no(hdr->rpc_id, hdr->seal)) {
        e->stats.drop_hint++;
        return false;
    }
    return true;
}

/* Finds the rpc of a record, known or not. False, and counted: nobody waits for it. */
bool smt_arriving_look(struct smt_arriving *in)
{
    struct smt_engine *e = in->c->e;
    in->id = in->hdr->rpc_id ^ SMT_ID_ROLE;
    in->r = smt_rpc_find(in->c, in->id);
    if (in->r != NULL)
        return smt_incoming_takes(in->r, in->hdr->message_len);
    bool request = (in->id & SMT_ID_ROLE) != 0;
    if (request && smt_frames_id_is_new(in->c, in->id & SMT_ID_MASK))
        return true;
    e->stats.drop_finished++;
    return false;
}

/* Chooses the way to open a record that somebody waits for. */
void smt_arriving_open(struct smt_arriving *in)
{
    struct smt_engine *e = in->c->e;
    const struct smt_hdr *hdr = in->hdr;
    bool has_memory = in->r != NULL && in->r->rx.data != NULL;
    bool user_memory = in->r != NULL && in->r->resp_buf != NULL;
    size_t head_len = SMT_INNER_LEN + SMT_INNER_EXT_LEN;
    if (!has_memory && !user_memory && hdr->offset == 0 &&
        in->plain_len >= head_len + hdr->message_len && hdr->message_len <= e->config.accept_len) {
        receive_whole(in);
        return;
    }
    bool is_known = in->r != NULL && in->r->rx.known;
    if (!is_known && !user_memory && hdr->offset == 0 && in->plain_len > head_len &&
        hdr->message_len <= FIRST_BUFFER && in->plain_len - head_len <= hdr->message_len &&
        hdr->message_len <= e->config.accept_len && hdr->message_len <= e->config.max_msg_len) {
        receive_first(in);
        return;
    }
    if (has_memory) {
        uint32_t most =
            (uint32_t)(in->plain_len > SMT_INNER_LEN ? in->plain_len - SMT_INNER_LEN : 0);
        if (!smt_msg_rx_wants(&in->r->rx, hdr->offset, 1)) {
            e->stats.drop_duplicate++;
            return;
        }
        if (smt_msg_rx_wants(&in->r->rx, hdr->offset, most) && receive_direct(in))
            return;
    }
    receive_detour(in);
}

unsigned smt_record_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                            unsigned n, const struct smt_hdr *hdr)
{
    const struct smt_pkt *pkt = &pkts[0];
    struct smt_conn *c = smt_conn_find(e, hdr->session_id);
    if (SMT_UNLIKELY(c == NULL)) {
        e->stats.drop_no_session++;
        smt_stateless_add(e, now, pkt->from, hdr->sport, SMT_KIND_NO_SESSION, hdr->session_id,
                          NULL);
        return 1;
    }
    struct smt_arriving in = {.c = c,
                              .hdr = hdr,
                              .now = now,
                              .from = pkt->from,
                              .packet_len = pkt->len,
                              .n_packets = 1,
                              .n_ce = pkt->ecn == 3,
                              .wire_len = SMT_DATA_HDR_LEN + hdr->record_len};
    if (!packet_check(e, pkt, &in))
        return 1;
    if (SMT_UNLIKELY(hdr->slice_len != hdr->record_len))
        return smt_slices_receive(pkts, n, &in);
    in.record = pkt->data + SMT_DATA_HDR_LEN;
    if (!smt_arriving_check(&in))
        return 1;
    e->stats.pad_bytes_rcvd += pkt->len - SMT_DATA_HDR_LEN - hdr->record_len;
    c->pacer.got_packets++;
    c->pacer.got_bytes += in.wire_len;
    c->pacer.got_ce += in.n_ce;
    if (smt_arriving_look(&in))
        smt_arriving_open(&in);
    return 1;
}
