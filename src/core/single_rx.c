/* Messages of one packet as they come in, in runs: packets of one conn and one length that follow
 * each other differ in the id, the record number and what is sealed, so all else of their headers
 * is checked in the first and compared in the others, and what the conn has to say to it (keys,
 * address, room for received bytes) is asked once. A packet that is not as usual is left to
 * record_rx.c before anything has changed, and ends the run: what it does may change all of this.
 *
 * Until the tag has passed nothing but counters changes, as in record_rx.c. What a run adds to the
 * counters of engine and conn is added at its end, or before anything is done that may look at
 * them. */
#include "core/single.h"

#include "core/frames.h"
#include "core/incoming.h"
#include "core/rpc_life.h"
#include "core/state.h"
#include "wire/single.h"

/* No version of a packet's. */
enum { UNHEARD = UINT16_MAX + 1 };

struct run {
    struct smt_conn *c;           /* NULL: none */
    const struct smt_single *like; /* the first one's clear header */
    const struct smt_addr *from;  /* the conn's, as the last one said it */
    uint64_t number;              /* what the ids' upper half says of a record number */
    uint64_t low_water, done;     /* as they stand in packets, heard last */
    uint32_t cutoffs_version;     /* ours, the same way; UNHEARD until a packet was opened */
    /* The next request's id, which is behind all that were used up; 0: it has to be looked at. Ids
     * from `counted` on are not among the accepted ones yet. */
    uint64_t next, counted;
    uint32_t len;                 /* of a packet */
    uint32_t plain_len, wire_len;
    /* Messages that there is room for, without a question; of those taken since there were
     * left_counted nothing is counted yet. */
    uint32_t left, left_counted;
    uint64_t head;                /* how a sealed head begins that is as usual */
    unsigned class;               /* of the message's length (cutoffs.h) */
    bool is_response;
    struct smt_open_run keys;
};

/* Counts packets that came, and records that were opened. */
static void came_count(const struct run *run, struct smt_engine *e, uint64_t n)
{
    e->stats.bytes_rcvd += n * run->len;
    e->stats.packets_rcvd_data += n;
    e->stats.pad_bytes_rcvd += n * (run->len - run->wire_len);
}

static void opened_count(const struct run *run, struct smt_engine *e, uint32_t n)
{
    struct smt_pacer *p = &run->c->pacer;
    p->got_packets += n;
    p->got_bytes += n * run->wire_len;
    e->stats.records_opened += n;
}

/* Counts what was taken since this was last called. */
static void run_count(struct run *run, struct smt_engine *e)
{
    uint32_t n = run->left_counted - run->left;
    if (n == 0)
        return;
    run->left_counted = run->left;
    came_count(run, e, n);
    opened_count(run, e, n);
    smt_cutoffs_note_class(&e->cutoffs, run->class, n);
    smt_conn_hold_within(run->c, &e->memory, (uint64_t)n * run->plain_len);
    if (run->is_response)
        e->stats.responses_received += n;
    else
        e->stats.requests_received += n;
    smt_ranges_add_next(&run->c->accepted, run->next - run->counted);
    run->counted = run->next;
}

SMT_INLINE void next_look(struct run *run)
{
    const struct smt_ranges *a = &run->c->accepted;
    uint64_t id = a->last.end;
    bool is_fresh = a->n > 0 && id >= smt_finished_seen_end(&run->c->peer_finished);
    run->next = run->counted = is_fresh ? id | SMT_ID_ROLE : 0;
}

/* What may come of requests: as many as may be open, from the next id on. All is counted. */
SMT_INLINE void requests_look(struct run *run)
{
    uint32_t most = smt_incoming_room(run->c);
    if (run->left > most)
        run->left = run->left_counted = most;
    next_look(run);
}

/* What may come at all, by the bytes that may be held. */
static void room_look(struct run *run)
{
    uint64_t n = smt_conn_hold_room(run->c) / run->plain_len;
    run->left = run->left_counted = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
    run->next = run->counted = 0;
    if (!run->is_response)
        requests_look(run);
}

/* A run that begins with this packet. False: it is not as usual. */
static bool run_begin(struct run *run, struct smt_engine *e, const struct smt_pkt *pkt)
{
    const struct smt_single *s = (const struct smt_single *)(const void *)pkt->data;
    const struct smt_engine_config *g = &e->config;
    size_t plain_len;
    if (!smt_single_decode(pkt->data, pkt->len, &plain_len))
        return false;
    uint32_t len = SMT_BSWAP_BE32(s->message_len);
    if (SMT_BSWAP_BE16(s->dport) != g->port || len > g->accept_len || len > g->max_msg_len)
        return false;
    struct smt_conn *c = smt_conn_find(e, SMT_BSWAP_BE64(s->session_id));
    if (c == NULL || !smt_keys_ready(&c->keys) || s->epoch != (uint8_t)c->keys.now.number ||
        c->moved != NULL || !smt_addr_equal(&c->addr, pkt->from) ||
        smt_list_is_empty(&c->sender_link) ||
        smt_keys_open_begin(&c->keys, plain_len, &run->keys) < 0)
        return false;
    run->like = s;
    run->from = pkt->from;
    run->number = smt_single_number_high(SMT_BSWAP_BE64(s->rpc_id));
    run->low_water = SMT_BSWAP_BE64(c->peer_finished.low_water);
    run->done = SMT_BSWAP_BE64(c->peer_finished.done);
    run->cutoffs_version = UNHEARD;
    run->len = pkt->len;
    run->plain_len = (uint32_t)plain_len;
    run->wire_len = (uint32_t)(SMT_DATA_HDR_LEN + SMT_RECORD_OVERHEAD + plain_len);
    run->class = smt_cutoffs_class(len);
    run->is_response = (SMT_BSWAP_BE64(s->rpc_id) & SMT_ID_ROLE) != 0;
    run->head = smt_single_usual_head(plain_len, len,
                                      run->is_response ? SMT_WHAT_RESPONSE : SMT_WHAT_REQUEST);
    run->c = c;
    room_look(run);
    return true;
}

SMT_INLINE bool run_takes(const struct run *run, const struct smt_pkt *pkt)
{
    const struct smt_single *s = (const struct smt_single *)(const void *)pkt->data;
    return run->c != NULL && pkt->len == run->len && smt_single_is_alike(s, run->like) &&
           (pkt->from == run->from || smt_addr_equal(&run->c->addr, pkt->from));
}

/* The head of a packet says something new: the peer lives, or some of his calls are finished. True:
 * which may have ended the rpc. */
static __attribute__((noinline)) bool head_hear_news(struct run *run, struct smt_engine *e,
                                                     uint64_t now,
                                                     const struct smt_single_inner *inner)
{
    struct smt_conn *c = run->c;
    run_count(run, e);
    run->cutoffs_version = SMT_BSWAP_BE16(e->cutoffs.version);
    smt_keys_run_opened(&c->keys);
    smt_conn_heard(c, now);
    bool is_told = inner->low_water != run->low_water || inner->done != run->done;
    if (is_told) {
        run->low_water = inner->low_water;
        run->done = inner->done;
        uint64_t low_water = SMT_BSWAP_BE64(inner->low_water);
        smt_frames_peer_finished(c, low_water, SMT_BSWAP_BE64(inner->done));
        if (!run->is_response)
            requests_look(run);
    }
    if (SMT_UNLIKELY(inner->cutoffs_version != run->cutoffs_version))
        smt_frames_cutoffs_tell(c, now);
    return is_told;
}

/* The head of a packet, opened. True: it may have ended the rpc. */
SMT_INLINE bool head_hear(struct run *run, struct smt_engine *e, uint64_t now,
                          const struct smt_single_inner *inner)
{
    bool is_news = inner->low_water != run->low_water || inner->done != run->done ||
                   inner->cutoffs_version != run->cutoffs_version;
    return SMT_UNLIKELY(is_news) && head_hear_news(run, e, now, inner);
}

/* The rpc of a request or message: a new one. NULL: not to be had, or its id was used up by what
 * was heard since it was looked at. */
static struct smt_rpc *request_new(struct smt_conn *c, uint64_t id)
{
    struct smt_rpc *r = smt_incoming_new(c, id);
    if (SMT_UNLIKELY(r == NULL))
        return NULL;
    if (SMT_LIKELY(smt_incoming_id_accept(r)))
        return r;
    smt_incoming_drop(r);
    return NULL;
}

/* The same for the next id, whose hash that is: nobody has it. The caller takes the message. */
SMT_INLINE struct smt_rpc *request_next(struct run *run, uint64_t id, uint64_t hash)
{
    struct smt_rpc *r = smt_incoming_enter(run->c, id, hash, false);
    if (SMT_LIKELY(r != NULL))
        run->next++;
    return r;
}

/* An id that is not the next one: may it begin? */
static __attribute__((noinline)) bool request_is_new(struct run *run, uint64_t id, uint64_t hash)
{
    run_count(run, run->c->e);
    return smt_rpc_find_at(run->c, id, hash) == NULL &&
           smt_frames_id_is_new(run->c, id & SMT_ID_MASK);
}

/* One whose head is not the usual one: frames ride along, it is idempotent, a message or a test, or
 * its head does not say what the packet did. False: the buffer is not needed. */
static bool unusual_deliver(struct run *run, uint64_t now, uint64_t id, struct smt_rpc *r,
                            const struct smt_pkt *pkt, uint8_t *buf)
{
    struct smt_conn *c = run->c;
    const struct smt_single *s = (const struct smt_single *)(const void *)pkt->data;
    const struct smt_single_inner *inner = (const struct smt_single_inner *)(const void *)buf;
    bool what_fits = run->is_response ? inner->what == SMT_WHAT_RESPONSE
                                      : inner->what != SMT_WHAT_RESPONSE && inner->what != 0 &&
                                            inner->what <= SMT_WHAT_TEST;
    if (SMT_UNLIKELY(!what_fits || !smt_single_agrees(s, inner, run->plain_len))) {
        c->e->stats.drop_hint++;
        return false;
    }
    bool may_be_over = head_hear_news(run, c->e, now, inner);
    uint32_t frames_len = SMT_BSWAP_BE16(inner->frames_len);
    uint8_t *frames = buf + SMT_SINGLE_INNER_LEN;
    if (SMT_UNLIKELY(inner->what == SMT_WHAT_TEST)) {
        if (smt_record_test_came(c, id))
            smt_frames_hear(c, now, frames, frames_len, pkt->len);
        return false;
    }
    if (run->is_response) {
        r = may_be_over ? smt_rpc_find(c, id) : r;
    } else {
        r = request_new(c, id);
        if (r != NULL) {
            r->one_way = inner->what != SMT_WHAT_REQUEST;
            r->idempotent = (inner->flags & SMT_INNER_IDEMPOTENT) != 0;
        }
    }
    if (r == NULL)
        return false;
    if (!smt_incoming_whole(r, buf, run->plain_len, frames + frames_len,
                            SMT_BSWAP_BE32(inner->message_len), now))
        return false;
    /* The frames stay readable: the event that was raised has not been taken. */
    if (SMT_UNLIKELY(frames_len > 0))
        smt_frames_hear(c, now, frames, frames_len, pkt->len);
    return true;
}

/* The same, which ends the run. */
static __attribute__((noinline)) void unusual_take(struct run *run, uint64_t now, uint64_t id,
                                                   struct smt_rpc *r, const struct smt_pkt *pkt,
                                                   uint8_t *buf)
{
    struct smt_engine *e = run->c->e;
    run_count(run, e);
    came_count(run, e, 1);
    opened_count(run, e, 1);
    if (!unusual_deliver(run, now, id, r, pkt, buf))
        smt_bufpool_put(&e->bufs, buf, run->plain_len);
    run->c = NULL;
}

/* As usual, but what its head told has ended its rpc, or there is no memory for one. */
static __attribute__((noinline)) void lost_take(struct run *run, struct smt_engine *e, uint8_t *buf)
{
    run_count(run, e);
    came_count(run, e, 1);
    opened_count(run, e, 1);
    smt_bufpool_put(&e->bufs, buf, run->plain_len);
}

/* One whose tag is wrong, which ends the run. */
static __attribute__((noinline)) void forged_take(struct run *run, struct smt_engine *e,
                                                  uint8_t *buf)
{
    run_count(run, e);
    came_count(run, e, 1);
    e->stats.drop_auth++;
    smt_bufpool_put(&e->bufs, buf, run->plain_len);
    run->c = NULL;
}

enum opened { LEFT, FORGED, OPENED };

/* A packet that somebody waits for. LEFT: there is no buffer, and nothing has changed. */
SMT_INLINE enum opened packet_open(struct run *run, struct smt_engine *e, const struct smt_pkt *pkt,
                                   uint8_t **buf)
{
    struct smt_conn *c = run->c;
    const struct smt_single *s = (const struct smt_single *)(const void *)pkt->data;
    if (SMT_LIKELY(smt_bufpool_has(&e->bufs, run->plain_len)))
        *buf = smt_bufpool_take(&e->bufs, run->plain_len);
    else if ((*buf = smt_bufpool_get_any(&e->bufs, run->plain_len)) == NULL)
        return LEFT;
    if (SMT_UNLIKELY(smt_keys_run_open(&c->keys, &run->keys, s->record_no,
                                       pkt->data + SMT_DATA_HDR_LEN, run->plain_len, *buf) < 0)) {
        forged_take(run, e, *buf);
        return FORGED;
    }
    if (SMT_UNLIKELY(pkt->ecn == 3))
        c->pacer.got_ce++;
    return OPENED;
}

/* Its message is the rpc's. */
SMT_INLINE void message_put(struct run *run, struct smt_rpc *r, uint8_t *buf)
{
    run->left--;
    smt_incoming_put(r, buf, run->plain_len, buf + SMT_SINGLE_INNER_LEN,
                     run->plain_len - SMT_SINGLE_INNER_LEN);
}

/* False, here and in what follows: not as usual, and nothing has changed. */
SMT_INLINE bool response_take(struct run *run, struct smt_engine *e, uint64_t now, uint64_t id,
                              const struct smt_pkt *pkt)
{
    const struct smt_single *s = (const struct smt_single *)(const void *)pkt->data;
    struct smt_rpc *r = smt_rpc_find(run->c, id);
    uint8_t *buf;
    if (SMT_UNLIKELY(r == NULL || r->state != SMT_RPC_AWAIT_RESPONSE || r->resp_buf != NULL))
        return false;
    enum opened is = packet_open(run, e, pkt, &buf);
    if (SMT_UNLIKELY(is != OPENED))
        return is == FORGED;
    const struct smt_single_inner *inner = (const struct smt_single_inner *)(const void *)buf;
    if (SMT_UNLIKELY(!smt_single_is_usual(s, inner, run->head))) {
        unusual_take(run, now, id, r, pkt, buf);
        return true;
    }
    if (SMT_UNLIKELY(head_hear(run, e, now, inner)))
        r = smt_rpc_find(run->c, id);
    if (SMT_UNLIKELY(r == NULL)) {
        lost_take(run, e, buf);
        return true;
    }
    message_put(run, r, buf);
    if (SMT_UNLIKELY(r->is_involved || !smt_finished_is_near(&run->c->finished, id))) {
        run_count(run, e);
        smt_incoming_heard(r, now);
        smt_rpc_got_response(r);
        return true;
    }
    smt_compete_came(r, now, 0);
    smt_rpc_got_usual_response(r, run->c, e);
    return true;
}

SMT_INLINE bool request_take(struct run *run, struct smt_engine *e, uint64_t now, uint64_t id,
                             const struct smt_pkt *pkt)
{
    const struct smt_single *s = (const struct smt_single *)(const void *)pkt->data;
    struct smt_conn *c = run->c;
    uint64_t hash = smt_rpc_hash(c, id);
    bool is_next = id == run->next;
    if (SMT_UNLIKELY(!is_next && !request_is_new(run, id, hash)))
        return false;
    uint8_t *buf;
    enum opened is = packet_open(run, e, pkt, &buf);
    if (SMT_UNLIKELY(is != OPENED))
        return is == FORGED;
    const struct smt_single_inner *inner = (const struct smt_single_inner *)(const void *)buf;
    if (SMT_UNLIKELY(!smt_single_is_usual(s, inner, run->head))) {
        unusual_take(run, now, id, NULL, pkt, buf);
        return true;
    }
    bool is_used = head_hear(run, e, now, inner);
    struct smt_rpc *r;
    if (SMT_LIKELY(is_next && !is_used)) {
        r = request_next(run, id, hash);
    } else {
        r = request_new(c, id);
        next_look(run);
    }
    if (SMT_UNLIKELY(r == NULL)) {
        lost_take(run, e, buf);
        return true;
    }
    message_put(run, r, buf);
    smt_rpc_got_request(r, e);
    return true;
}

/* A packet whose header is in order. */
SMT_INLINE bool packet_take(struct run *run, struct smt_engine *e, uint64_t now,
                            const struct smt_pkt *pkt)
{
    const struct smt_single *s = (const struct smt_single *)(const void *)pkt->data;
    uint64_t id = SMT_BSWAP_BE64(s->rpc_id) ^ SMT_ID_ROLE;
    uint64_t no = SMT_BSWAP_BE64(smt_single_number(run->number, id));
    if (SMT_UNLIKELY(s->record_no != no || run->left == 0))
        return false;
    return run->is_response ? response_take(run, e, now, id, pkt)
                            : request_take(run, e, now, id, pkt);
}

unsigned smt_singles_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                             unsigned n)
{
    struct run run;
    unsigned i;
    run.c = NULL;
    run.left = run.left_counted = 0;
    for (i = 0; i < n; i++) {
        if (SMT_UNLIKELY(!run_takes(&run, &pkts[i]))) {
            run_count(&run, e);
            if (!run_begin(&run, e, &pkts[i]))
                break;
        }
        if (SMT_UNLIKELY(!packet_take(&run, e, now, &pkts[i])))
            break;
    }
    run_count(&run, e);
    return i;
}
