/* Messages of one packet on their way out, in runs: what the packets of a conn that leave one after
 * the other have in common (header, keys, level, when an answer is late, how far the next MARK is)
 * is made once, and each of them is that with its id, its record number and its bytes. Between two
 * packets of a run nothing else happens, so nothing of it can have changed but by this file.
 *
 * A run holds messages of any length that fits; what follows from the length is laid out anew when
 * that changes. record_tx.c has everything else: messages of more packets, what goes a second time,
 * frames that ride along, records that a NIC seals. */
#include "core/single.h"

#include "core/state.h"
#include "wire/single.h"

struct run {
    struct smt_conn *c; /* NULL: none yet */
    uint32_t id_high;   /* of the ids in headers, role included */
    uint32_t most;      /* bytes of a message */
    uint64_t number;    /* what that says of a record number (wire/single.h) */
    uint64_t late_at;   /* when an answer to what leaves now is late */
    uint64_t mark_at;   /* sent_bytes of the pacer below which no MARK is due */
    uint8_t top;
    struct smt_seal_run keys;
    uint32_t len;       /* of the last message; 0: there was none. What follows goes by it */
    uint32_t plain_len, wire_len, n_blocks;
    uint8_t prio;
    struct smt_single_packet bytes;
};

/* May messages of this conn leave without a look at each? */
SMT_INLINE bool is_usual(const struct smt_conn *c)
{
    bool by_nic = c->may_burst && c->e->config.sealer != NULL;
    return smt_keys_ready(&c->keys) && !by_nic && c->acks.n == 0 && c->mtu.state != SMT_MTU_OFF;
}

static uint32_t most_of(const struct smt_conn *c)
{
    uint32_t room = c->mtu.now - SMT_SINGLE_LEN - SMT_SINGLE_INNER_LEN - SMT_AEAD_TAG_LEN;
    return room < SMT_SRPT_SHORT_LEN ? room : SMT_SRPT_SHORT_LEN;
}

static uint64_t mark_at(const struct smt_conn *c)
{
    const struct smt_pacer *p = &c->pacer;
    bool is_slow = p->flight == NULL || c->tx_share.is < SMT_SHARE_ALL;
    return is_slow ? 0 : p->flight->marked_bytes + p->max_step;
}

/* What follows from the length of a message. */
static void len_set(struct run *run, uint32_t len)
{
    struct smt_single *s = &run->bytes.clear;
    struct smt_single_inner *in = &run->bytes.inner;
    uint32_t len_be = SMT_BSWAP_BE32(len);
    run->len = len;
    run->plain_len = SMT_SINGLE_INNER_LEN + len;
    uint32_t record_len = SMT_RECORD_OVERHEAD + run->plain_len;
    run->wire_len = SMT_DATA_HDR_LEN + record_len;
    run->n_blocks = smt_keys_blocks(run->plain_len);
    uint8_t prio = smt_cutoffs_level(run->c->cutoffs, len);
    run->prio = prio < run->top ? prio : run->top;
    s->message_len = in->message_len = in->unsched = len_be;
    s->record_len = s->slice_len = SMT_BSWAP_BE16((uint16_t)record_len);
    smt_record_head_encode(&s->type, 0, run->plain_len);
    smt_record_aad(run->keys.aad, 0, run->plain_len);
}

/* A run of the conn of `r`. SMT_EKEYLIMIT, SMT_ECRYPTO. */
static int run_begin(struct run *run, const struct smt_rpc *r, uint64_t now)
{
    struct smt_conn *c = r->conn;
    uint64_t id = smt_rpc_tx_id(r);
    int rc = smt_keys_run_begin(&c->keys, id, &run->keys);
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    run->c = c;
    run->id_high = (uint32_t)(id >> 32);
    run->number = smt_single_number_high(id);
    run->most = most_of(c);
    run->late_at = now + smt_conn_patience(c, 0);
    run->mark_at = mark_at(c);
    run->top = smt_engine_top_prio(c->e);
    run->bytes = (struct smt_single_packet){
        .clear = {.sport = SMT_BSWAP_BE16(c->e->config.port),
                  .dport = SMT_BSWAP_BE16(c->peer_port),
                  .doff = SMT_DATA_HDR_LEN << 2,
                  .kind = SMT_KIND_DATA,
                  .version = SMT_WIRE_VERSION,
                  .epoch = (uint8_t)c->keys.now.number,
                  .session_id = SMT_BSWAP_BE64(c->peer_id)},
        .inner = {.id_high = SMT_BSWAP_BE32(run->id_high),
                  .low_water = SMT_BSWAP_BE64(c->finished.low_water),
                  .done = SMT_BSWAP_BE64(c->finished.done),
                  .cutoffs_version = SMT_BSWAP_BE16(c->cutoffs_version)},
    };
    run->len = 0;
    return 0;
}

/* Header, head and data in their place, sealed. */
SMT_INLINE int packet_make(struct run *run, const struct smt_rpc *r, uint8_t *pkt)
{
    const struct smt_msg_tx *t = &r->tx;
    struct smt_single_packet *p = (struct smt_single_packet *)(void *)pkt;
    uint64_t id = smt_rpc_tx_id(r);
    uint64_t no = SMT_BSWAP_BE64(smt_single_number(run->number, id));
    *p = run->bytes;
    p->clear.rpc_id = SMT_BSWAP_BE64(id);
    p->clear.record_no = no;
    p->inner.what = r->what;
    p->inner.flags = (uint8_t)(SMT_INNER_EXT | r->idempotent * SMT_INNER_IDEMPOTENT);
    uint8_t *plain = (uint8_t *)&p->inner;
    if (run->keys.is_plain) {
        smt_msg_tx_copy(t, 0, t->len, pkt + sizeof(*p));
        smt_keys_run_end_plain(&run->keys, plain + run->plain_len);
        return 0;
    }
    if (SMT_LIKELY(t->len < SMT_GATHER_MIN || t->n_iov != 1)) {
        smt_msg_tx_copy(t, 0, t->len, pkt + sizeof(*p));
        const struct smt_aead_in in = {plain, run->plain_len};
        return smt_keys_run_seal(&run->keys, no, &in, 1, plain, run->plain_len);
    }
    const struct smt_aead_in in[2] = {{plain, SMT_SINGLE_INNER_LEN}, {t->one.base, t->len}};
    return smt_keys_run_seal(&run->keys, no, in, 2, plain, run->plain_len);
}

/* Its place. NULL: the sink is full. */
SMT_INLINE uint8_t *packet_reserve(struct run *run, const struct smt_rpc *r,
                                   const struct smt_tx_sink *sink)
{
    if (SMT_UNLIKELY(r->tx.len != run->len))
        len_set(run, r->tx.len);
    return sink->reserve(sink->arg, &run->c->addr, run->wire_len, run->prio);
}

/* One packet of a run, in the place reserved. ALL, FAILED, BLOCKED. */
SMT_INLINE enum smt_sent packet_send(struct run *run, struct smt_rpc *r, uint64_t now,
                                     const struct smt_tx_sink *sink, uint8_t *pkt)
{
    struct smt_conn *c = run->c;
    struct smt_msg_tx *t = &r->tx;
    uint32_t wire_len = run->wire_len;
    smt_keys_note_blocks(&c->keys, run->n_blocks);
    int rc = packet_make(run, r, pkt);
    if (SMT_UNLIKELY(rc < 0)) {
        sink->unreserve(sink->arg);
        return smt_record_failed(r, rc);
    }
    c->finished.untold = false;
    struct smt_stats *st = &c->e->stats;
    st->packets_sent_data++;
    st->records_sealed++;
    st->bytes_sent += wire_len;
    t->seal = 1;
    t->sent = t->len;
    t->low_prio = run->prio;
    struct smt_pacer *p = &c->pacer;
    if (SMT_UNLIKELY(p->sent_bytes + wire_len >= run->mark_at)) {
        smt_pacer_sent(c, now, wire_len, run->prio);
        run->mark_at = mark_at(c);
    } else {
        p->sent_bytes += wire_len;
        p->sent_packets++;
        if (run->prio < p->low_prio)
            p->low_prio = run->prio;
    }
    r->heard = now;
    /* From here on its response may be late. */
    r->rx.came_at = now;
    r->rx.came_bytes = st->bytes_rcvd;
    return SMT_SENT_ALL;
}

/* Does it go on with this one, which has just been posted? */
SMT_INLINE bool run_takes(const struct run *run, const struct smt_rpc *r)
{
    return r->conn == run->c && (uint32_t)(smt_rpc_tx_id(r) >> 32) == run->id_high &&
           run->keys.left > 0;
}

enum smt_sent smt_singles_send(struct smt_engine *e, uint64_t now, const struct smt_tx_sink *sink)
{
    struct run run;
    struct smt_list *l;
    run.c = NULL;
    while ((l = smt_list_first(&e->posted)) != NULL) {
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, wait_link);
        const struct smt_msg_tx *t = &r->tx;
        assert(t->seal == 0 && t->active && t->granted == t->unsched);
        if (SMT_UNLIKELY(r->is_involved))
            return SMT_SENT_NOTHING;
        if (SMT_UNLIKELY(!run_takes(&run, r)) &&
            (!is_usual(r->conn) || smt_keys_is_due(&r->conn->keys) || run_begin(&run, r, now) < 0))
            return SMT_SENT_NOTHING;
        if (SMT_UNLIKELY(t->len - 1 >= run.most || t->unsched != t->len))
            return SMT_SENT_NOTHING;
        uint8_t *pkt = packet_reserve(&run, r, sink);
        if (SMT_UNLIKELY(pkt == NULL))
            return SMT_SENT_FULL;
        run.keys.left--;
        smt_list_remove(l);
        if (SMT_LIKELY(r->deadline == SMT_NEVER)) {
            r->heard = r->since = now;
            smt_wheel_arm_next(&e->wheel, &r->timer.t, run.late_at);
        } else {
            smt_rpc_begin(r, now);
        }
        (void)packet_send(&run, r, now, sink, pkt);
    }
    return SMT_SENT_NOTHING;
}

bool smt_single_is(const struct smt_rpc *r)
{
    const struct smt_msg_tx *t = &r->tx;
    return t->seal == 0 && t->active && t->granted == t->len && t->unsched == t->len &&
           is_usual(r->conn) && t->len - 1 < most_of(r->conn);
}

enum smt_sent smt_single_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink)
{
    struct run run;
    int rc = run_begin(&run, r, now);
    if (SMT_UNLIKELY(rc < 0))
        return smt_record_failed(r, rc);
    uint8_t *pkt = packet_reserve(&run, r, sink);
    return SMT_LIKELY(pkt != NULL) ? packet_send(&run, r, now, sink, pkt) : SMT_SENT_FULL;
}
