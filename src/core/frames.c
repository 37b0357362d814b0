/* What each control frame does: one row per type, handlers that find the rpc and tell it. All
 * frames are authentic here, which makes them true, not sensible: every number is checked against
 * what we hold.
 *
 * Handlers may end an rpc or the conn; after each frame the loop looks whether the conn is still
 * there. */
#include "core/frames.h"

#include "core/late.h"
#include "core/slices.h"
#include "core/rpc_life.h"
#include "core/state.h"

struct heard {
    struct smt_conn *c;
    const struct smt_frame *f;
    struct smt_rpc *r; /* the rpc the frame names, or NULL */
    uint64_t now;
    uint32_t packet_len;
};

static const uint64_t cutoffs_wait = 50 * SMT_USEC;
/* Who has sent nothing for that long is told when he sends again. */
static const uint64_t cutoffs_memory = 2 * SMT_SEC;
enum { MOST_TOLD = 256 };

typedef void (*frame_fn)(const struct heard *h);

SMT_INLINE void peer_finished_one(void *arg, uint64_t id)
{
    struct smt_conn *c = arg;
    struct smt_rpc *r = smt_rpc_find(c, id | SMT_ID_ROLE);
    if (r == NULL)
        return;
    if (SMT_LIKELY(r->state == SMT_RPC_AWAIT_ACK && !r->is_involved))
        smt_rpc_acked_usual_reply(r, c, c->e);
    else if (r->state == SMT_RPC_AWAIT_ACK)
        smt_rpc_acked(r);
    else if (r->state == SMT_RPC_AWAIT_DONE)
        smt_rpc_retire(r);
    else
        smt_rpc_orphan(r, SMT_ECANCELED);
}

void smt_frames_peer_finished(struct smt_conn *c, uint64_t low_water, uint64_t done)
{
    if (low_water > SMT_ID_MASK)
        return;
    struct smt_finished_seen *s = &c->peer_finished;
    if (low_water == s->low_water && done == s->done)
        return;
    bool leap = low_water > s->low_water && low_water - s->low_water > c->n_rpcs + 64ull;
    smt_finished_told(s, low_water, done, c->n_rpcs + 64, peer_finished_one, c);
    if (leap) {
        SMT_LIST_FOREACH_SAFE(l, tmp, &c->rpcs) {
            struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, conn_link);
            if (smt_rpc_is_on_wire(r) && smt_rpc_is_server(r) &&
                smt_finished_seen_has(s, r->id & SMT_ID_MASK))
                peer_finished_one(c, r->id & SMT_ID_MASK);
        }
    }
    smt_ranges_remove_below(&c->accepted, s->low_water);
}

static void on_ping(const struct heard *h)
{
    struct smt_conn *c = h->c;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_PONG, .token = h->f->token});
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_CREDIT,
                                       .length = c->e->config.max_open_rpcs,
                                       .low_water = smt_conn_credit_bytes(c)});
}

static void on_nothing(const struct heard *h)
{
    (void)h;
}

static void on_mark(const struct heard *h)
{
    const struct smt_pacer *p = &h->c->pacer;
    smt_pacer_marked(h->c, h->now, h->f->packets);
    smt_late_tell(h->c, h->now, h->f->seq);
    smt_ctl_add(h->c, &(struct smt_frame){.type = SMT_FRAME_SEEN,
                                          .seq = h->f->seq,
                                          .packets = p->got_packets,
                                          .bytes = p->got_bytes,
                                          .ce = p->got_ce});
}

static void on_seen(const struct heard *h)
{
    const struct smt_frame *f = h->f;
    if (smt_pacer_seen(h->c, h->now, f->seq, f->packets, f->bytes, f->ce))
        smt_conn_unblock(h->c);
}

static void on_late(const struct heard *h)
{
    smt_late_told(h->c, h->f->seq, h->f->length);
}

static void on_probe(const struct heard *h)
{
    smt_ctl_add(h->c, &(struct smt_frame){.type = SMT_FRAME_PROBE_ACK,
                                          .token = h->f->token,
                                          .code = (uint16_t)h->packet_len});
}

static void on_probe_ack(const struct heard *h)
{
    smt_mtu_acked(h->c, h->now, (uint32_t)h->f->token, h->f->code);
    smt_conn_arm(h->c, h->now);
}

static void on_path_challenge(const struct heard *h)
{
    smt_ctl_add(h->c, &(struct smt_frame){.type = SMT_FRAME_PATH_RESPONSE, .token = h->f->token});
}

static void on_path_response(const struct heard *h)
{
    smt_moved_answered(h->c, h->now, h->f->token);
}

static void on_grant(const struct heard *h)
{
    struct smt_rpc *r = h->r;
    h->c->e->stats.grants_rcvd++;
    if (r == NULL || !r->tx.active)
        return;
    r->heard = h->now;
    r->n_need_ack = 0;
    /* One that says nothing new answers our question: the next question may wait longer. */
    if (h->f->offset > r->tx.granted)
        r->n_quiet = 0;
    smt_msg_tx_grant(&r->tx, h->f->offset, h->f->prio & 7);
    smt_rpc_ready(r);
}

/* The peer asks about a call of ours that is over. */
static void done_send(struct smt_conn *c, uint64_t id)
{
    if (id >= c->next_id)
        return;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_DONE,
                                       .low_water = c->finished.low_water,
                                       .bitmap = c->finished.done});
}

/* RESEND for an rpc we have no state of, or none any more. */
static void resend_unknown(const struct heard *h)
{
    struct smt_conn *c = h->c;
    uint64_t id = h->f->id & SMT_ID_MASK;
    if (h->f->id & SMT_ID_ROLE)
        smt_ctl_add_unknown(c, id, !smt_frames_id_is_new(c, id));
    else
        done_send(c, id);
}

static void busy_send(struct smt_rpc *r)
{
    r->conn->e->stats.busy_sent++;
    smt_ctl_add_id(r->conn, SMT_FRAME_BUSY, smt_rpc_frame_id(r));
}

static void on_resend(const struct heard *h)
{
    struct smt_rpc *r = h->r;
    h->c->e->stats.resends_rcvd++;
    if (SMT_UNLIKELY((h->f->flags & SMT_RESEND_SINGLE) != 0))
        smt_nic_refused(h->c);
    if (r == NULL) {
        resend_unknown(h);
        return;
    }
    if (r->state == SMT_RPC_AWAIT_DONE) {
        smt_rpc_refuse_again(r);
        return;
    }
    struct smt_msg_tx *t = &r->tx;
    if (!t->active) {
        busy_send(r);
        return;
    }
    r->heard = h->now;
    r->n_need_ack = 0;
    /* The same hole again: perhaps packets of this length do not pass any more. */
    if (h->f->offset < t->sent && h->f->offset == r->asked_for)
        smt_mtu_suspect(h->c, h->now);
    r->asked_for = h->f->offset;
    uint64_t end = h->f->length == SMT_RESEND_ALL ? t->sent : (uint64_t)h->f->offset + h->f->length;
    if (end > t->len)
        end = t->len;
    bool queued = t->sent < t->granted;
    /* It asks for bytes that were granted, so if we think otherwise the GRANT was lost. */
    if (end > t->granted)
        smt_msg_tx_grant(t, (uint32_t)end, h->f->prio & 7);
    /* While there is more to be sent, it is our turn that he misses, not our packets. */
    if (queued) {
        smt_rpc_ready(r);
        busy_send(r);
        return;
    }
    smt_nic_doubt(r);
    smt_slices_lost(r);
    t->again_prio = h->f->prio & 7;
    r->is_involved = true;
    smt_msg_tx_lost(t, h->f->offset, (uint32_t)end);
    if (end > h->f->offset)
        h->c->pacer.lost.n_asked += (uint32_t)(end - h->f->offset) / h->c->mtu.now + 1;
    if (smt_msg_tx_sendable(t))
        smt_rpc_ready(r);
    else
        busy_send(r);
}

static void on_unknown(const struct heard *h)
{
    h->c->e->stats.unknown_rcvd++;
    if (h->r != NULL)
        smt_rpc_unknown(h->r, (h->f->flags & SMT_UNKNOWN_OVER) != 0);
}

static void on_busy(const struct heard *h)
{
    h->c->e->stats.busy_rcvd++;
    if (h->r != NULL)
        smt_rpc_busy(h->r);
}

void smt_frames_cutoffs_tell(struct smt_conn *c, uint64_t now)
{
    const struct smt_cutoffs *own = &c->e->cutoffs;
    uint64_t rtt = c->pacer.rtt_peak > cutoffs_wait ? c->pacer.rtt_peak : cutoffs_wait;
    if (own->version == 0 || (c->told_cutoffs == own->version && now < c->cutoffs_told_at + rtt))
        return;
    c->told_cutoffs = own->version;
    c->cutoffs_told_at = now;
    c->e->stats.cutoffs_sent++;
    struct smt_frame f = {
        .type = SMT_FRAME_CUTOFFS, .code = own->version, .length = own->limit};
    memcpy(f.cutoffs, own->at + 1, sizeof(f.cutoffs));
    smt_ctl_add(c, &f);
}

void smt_frames_cutoffs_tell_all(struct smt_engine *e, uint64_t now)
{
    struct smt_list later;
    smt_list_init(&later);
    for (unsigned n = 0; n < MOST_TOLD && !smt_list_is_empty(&e->senders); n++) {
        struct smt_list *l = smt_list_pop_head(&e->senders);
        struct smt_conn *c = SMT_CONTAINER_OF(l, struct smt_conn, sender_link);
        /* Nor is who has proven nothing told unasked. */
        if (now >= c->heard + cutoffs_memory || c->state != SMT_CONN_UP ||
            !smt_list_is_empty(&c->half_link))
            continue;
        smt_frames_cutoffs_tell(c, now);
        smt_list_push_tail(&later, l);
    }
    struct smt_list *l;
    while ((l = smt_list_pop_head(&later)) != NULL)
        smt_list_push_tail(&e->senders, l);
}

static void on_cutoffs(const struct heard *h)
{
    struct smt_conn *c = h->c;
    c->cutoffs_version = h->f->code;
    c->unsched_limit = h->f->length;
    c->own_cutoffs[0] = UINT32_MAX;
    memcpy(c->own_cutoffs + 1, h->f->cutoffs, sizeof(h->f->cutoffs));
    c->cutoffs = c->own_cutoffs;
}

static void on_need_ack(const struct heard *h)
{
    struct smt_conn *c = h->c;
    struct smt_rpc *r = h->r;
    uint64_t id = h->f->id & SMT_ID_MASK;
    bool theirs = (h->f->id & SMT_ID_ROLE) != 0;
    bool behind;
    uint32_t start;
    uint32_t end;
    c->e->stats.need_acks_rcvd++;
    if (r == NULL) {
        /* Ours and gone, or theirs and accepted: it is complete. Theirs and new: never seen. */
        if (theirs && smt_frames_id_is_new(c, id)) {
            smt_ctl_add_unknown(c, id, false);
        } else {
            c->e->stats.acks_sent++;
            smt_ctl_add_id(c, SMT_FRAME_ACK, h->f->id ^ SMT_ID_ROLE);
        }
        return;
    }
    switch (r->state) {
    case SMT_RPC_AWAIT_RESPONSE:
        smt_ctl_add_resend(c, smt_rpc_frame_id(r), 0, SMT_RESEND_ALL);
        break;
    case SMT_RPC_AWAIT_REST:
    case SMT_RPC_AWAIT_REQUEST:
        if (smt_rpc_awaits_memory(r)) {
            busy_send(r);
            break;
        }
        /* What stands in a queue need not be sent again. */
        behind = smt_grants_is_behind(c->e, r);
        if (!behind)
            (void)smt_rpc_ask_missing(r);
        if (behind || !smt_msg_rx_missing(&r->rx, 0, &start, &end))
            smt_grants_tell(r);
        break;
    case SMT_RPC_AWAIT_DONE:
        smt_rpc_refuse_again(r);
        break;
    default:
        busy_send(r);
        break;
    }
}

static void on_ack(const struct heard *h)
{
    h->c->e->stats.acks_rcvd++;
    if (h->r != NULL && h->r->state == SMT_RPC_AWAIT_ACK)
        smt_rpc_acked(h->r);
}

static void acked_one(struct smt_conn *c, uint64_t id)
{
    struct smt_rpc *r = smt_rpc_find(c, id);
    if (r != NULL && r->state == SMT_RPC_AWAIT_ACK)
        smt_rpc_acked(r);
}

static void on_acks(const struct heard *h)
{
    struct smt_conn *c = h->c;
    uint64_t id = h->f->id;
    uint64_t left = (id & SMT_ID_MASK) < SMT_ID_MASK - 64 ? h->f->bitmap : 0;
    acked_one(c, id);
    c->e->stats.acks_rcvd += 1u + (unsigned)__builtin_popcountll(left);
    for (; left != 0; left &= left - 1)
        acked_one(c, id + 1 + (unsigned)__builtin_ctzll(left));
}

static void on_abort(const struct heard *h)
{
    struct smt_conn *c = h->c;
    uint64_t id = h->f->id & SMT_ID_MASK;
    if (h->r != NULL) {
        int error = -(int)h->f->code;
        smt_rpc_aborted(h->r, error == SMT_EMSGSIZE ? SMT_EMSGSIZE : SMT_EREFUSED);
        return;
    }
    if (!(h->f->id & SMT_ID_ROLE)) {
        /* Ours, and over: he repeats it because he was not told. */
        done_send(c, id);
        return;
    }
    /* It must never run, even if its request is still on the way. */
    if (smt_frames_id_is_new(c, id) && smt_ranges_add(&c->accepted, id, id + 1) < 0)
        return;
    smt_ctl_add_unknown(c, id, true);
}

static void on_done(const struct heard *h)
{
    smt_frames_peer_finished(h->c, h->f->low_water, h->f->bitmap);
}

static void on_credit(const struct heard *h)
{
    h->c->peer_open = h->f->length;
    h->c->peer_bytes = h->f->low_water;
    smt_conn_room_made(h->c);
}

static void on_close(const struct heard *h)
{
    smt_conn_close(h->c, h->now, h->f->code == 0 ? 0 : SMT_ECLOSED, false);
}

static void on_rekey(const struct heard *h)
{
    h->c->keys.want_next = true;
}

static const frame_fn handlers[] = {
    [SMT_FRAME_PAD] = on_nothing,
    [SMT_FRAME_PING] = on_ping,
    [SMT_FRAME_PONG] = on_nothing,
    [SMT_FRAME_MARK] = on_mark,
    [SMT_FRAME_SEEN] = on_seen,
    [SMT_FRAME_PROBE] = on_probe,
    [SMT_FRAME_PROBE_ACK] = on_probe_ack,
    [SMT_FRAME_PATH_CHALLENGE] = on_path_challenge,
    [SMT_FRAME_PATH_RESPONSE] = on_path_response,
    [SMT_FRAME_GRANT] = on_grant,
    [SMT_FRAME_RESEND] = on_resend,
    [SMT_FRAME_UNKNOWN] = on_unknown,
    [SMT_FRAME_BUSY] = on_busy,
    [SMT_FRAME_CUTOFFS] = on_cutoffs,
    [SMT_FRAME_NEED_ACK] = on_need_ack,
    [SMT_FRAME_ACK] = on_ack,
    [SMT_FRAME_ABORT] = on_abort,
    [SMT_FRAME_DONE] = on_done,
    [SMT_FRAME_CREDIT] = on_credit,
    [SMT_FRAME_CLOSE] = on_close,
    [SMT_FRAME_REKEY] = on_rekey,
    [SMT_FRAME_ACKS] = on_acks,
    [SMT_FRAME_LATE] = on_late,
};

void smt_frames_act(struct smt_conn *c, uint64_t now, const struct smt_frame *f, struct smt_rpc *r)
{
    frame_fn fn = f->type < SMT_ARRAY_LEN(handlers) ? handlers[f->type] : NULL;
    if (fn != NULL && c->state != SMT_CONN_CLOSED)
        fn(&(struct heard){.c = c, .f = f, .r = r, .now = now});
}

void smt_frames_hear(struct smt_conn *c, uint64_t now, const uint8_t *in, size_t len,
                     uint32_t packet_len)
{
    while (len > 0 && c->state != SMT_CONN_CLOSED) {
        struct smt_frame f;
        int n = smt_frame_decode(in, len, &f);
        if (n <= 0) {
            c->e->stats.drop_frame++;
            return;
        }
        in += n;
        len -= (size_t)n;
        frame_fn fn = f.type < SMT_ARRAY_LEN(handlers) ? handlers[f.type] : NULL;
        if (fn == NULL)
            continue; /* a later version's frame that may be skipped */
        struct heard h = {.c = c, .f = &f, .now = now, .packet_len = packet_len};
        /* On both sides bit 63 says who started it: set in the frame = the peer, as in our ids. */
        if (f.id != 0 && (f.id & ~SMT_ID_ROLE) <= SMT_ID_MASK)
            h.r = smt_rpc_find(c, f.id);
        if (h.r != NULL)
            smt_asks_answered(h.r);
        fn(&h);
    }
}
