/* Messages of one packet on their way out, in runs: what the packets of a conn that leave one after
 * the other have in common (header, keys, level, when an answer is late, how far the next MARK is)
 * is made once, and each of them is that with its id, its record number and its bytes. Between two
 * packets of a run nothing else happens, so nothing of it can have changed but by this file.
 * Those of one length that wait behind each other leave as a *row*: they take their places in the
 * device, leave the line and are counted together.
 *
 * A run holds messages of any length that fits; what follows from the length is laid out anew when
 * that changes. record_tx.c has everything else: messages of more packets, what goes a second time,
 * frames that ride along, records that a NIC seals. */
#include "core/single.h"

#include "core/state.h"
#include "wire/single.h"

/* A quarter of the segments that a device's frame has: what is left of one is filled well. */
enum { ROW_MOST = 16 };

struct run {
    struct smt_conn *c; /* NULL: none yet */
    uint32_t id_high;   /* of the ids in headers, role included */
    uint32_t most;      /* bytes of a message */
    uint32_t kind;      /* of the messages (smt_rpc_kind) */
    uint64_t number;    /* what that says of a record number (wire/single.h) */
    uint64_t late_at;   /* when an answer to what leaves now is late */
    uint64_t mark_at;   /* sent_bytes of the pacer below which no MARK is due */
    uint64_t came_bytes; /* what the engine has received */
    uint8_t top;
    uint32_t row_most;  /* packets of a row of the last length; 0: the device was not asked */
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
    run->row_most = 0;
    run->plain_len = SMT_SINGLE_INNER_LEN + len;
    uint32_t record_len = SMT_RECORD_OVERHEAD + run->plain_len;
    run->wire_len = SMT_DATA_HDR_LEN + record_len;
    run->n_blocks = smt_keys_blocks(run->plain_len);
    uint8_t prio = smt_cutoffs_level(run->c->cutoffs, len);
    run->prio = prio < run->top ? prio : run->top;
    s->message_len = in->message_len = in->unsched = len_be;
    s->record_len = s->slice_len = SMT_BSWAP_BE16((uint16_t)record_len);
    smt_record_head_encode(&s->type, run->number, run->plain_len);
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
    run->kind = smt_rpc_kind(r);
    run->number = smt_single_number_high(id);
    run->most = most_of(c);
    run->late_at = now + smt_conn_patience(c, 0);
    run->mark_at = mark_at(c);
    run->came_bytes = c->e->stats.bytes_rcvd;
    run->top = smt_engine_top_prio(c->e);
    run->bytes = (struct smt_single_packet){
        .clear = {.sport = SMT_BSWAP_BE16(c->e->config.port),
                  .dport = SMT_BSWAP_BE16(c->peer_port),
                  .doff = SMT_DATA_HDR_LEN << 2,
                  .kind = SMT_KIND_DATA,
                  .version = SMT_WIRE_VERSION,
                  .epoch = (uint8_t)c->keys.now.number,
                  .session_id = SMT_BSWAP_BE64(c->peer_id)},
        .inner = {.what = r->what,
                  .flags = (uint8_t)(SMT_INNER_EXT | r->idempotent * SMT_INNER_IDEMPOTENT),
                  .id_high = SMT_BSWAP_BE32(run->id_high),
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
    *p = run->bytes;
    smt_single_ids_put(&p->clear, id);
    uint8_t *plain = (uint8_t *)&p->inner;
    if (run->keys.is_plain) {
        smt_msg_tx_copy(t, 0, t->len, pkt + sizeof(*p));
        smt_keys_run_end_plain(&run->keys, plain + run->plain_len);
        return 0;
    }
    uint64_t no = SMT_BSWAP_BE64(smt_single_number(run->number, id));
    if (SMT_LIKELY(t->len < SMT_GATHER_MIN || t->n_iov != 1)) {
        smt_msg_tx_copy(t, 0, t->len, pkt + sizeof(*p));
        const struct smt_aead_in in = {plain, run->plain_len};
        return smt_keys_run_seal(&run->keys, no, &in, 1, plain, run->plain_len);
    }
    const struct smt_aead_in in[2] = {{plain, SMT_SINGLE_INNER_LEN}, {t->one.base, t->len}};
    return smt_keys_run_seal(&run->keys, no, in, 2, plain, run->plain_len);
}

/* One packet of the run, into its place. SMT_ECRYPTO: nothing is in it. */
SMT_INLINE int packet_fill(struct run *run, struct smt_rpc *r, uint64_t now, uint8_t *pkt)
{
    struct smt_msg_tx *t = &r->tx;
    int rc = packet_make(run, r, pkt);
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    t->seal = 1;
    t->sent = run->len;
    t->low_prio = run->prio;
    r->heard = now;
    /* From here on its response may be late. */
    r->rx.came_at = now;
    r->rx.came_bytes = run->came_bytes;
    return 0;
}

/* n packets of the run leave. */
SMT_INLINE void left_count(struct run *run, uint64_t now, uint32_t n)
{
    struct smt_conn *c = run->c;
    struct smt_stats *st = &c->e->stats;
    struct smt_pacer *p = &c->pacer;
    uint64_t bytes = (uint64_t)n * run->wire_len;
    c->finished.untold = false;
    st->packets_sent_data += n;
    st->records_sealed += n;
    st->bytes_sent += bytes;
    if (SMT_LIKELY(p->sent_bytes + bytes < run->mark_at)) {
        p->sent_bytes += bytes;
        p->sent_packets += n;
        if (run->prio < p->low_prio)
            p->low_prio = run->prio;
        return;
    }
    for (; n > 0; n--)
        smt_pacer_sent(c, now, run->wire_len, run->prio);
    run->mark_at = mark_at(c);
}

/* Is what an rpc has to send, if its length is, one packet of the run? */
SMT_INLINE bool run_takes(const struct run *run, const struct smt_rpc *r)
{
    return r->conn == run->c && smt_rpc_kind(r) == run->kind &&
           (uint32_t)(smt_rpc_tx_id(r) >> 32) == run->id_high;
}

/* Packets of a row, as far as the device gives places for them at once. */
static uint32_t row_most(const struct run *run, const struct smt_tx_sink *sink)
{
    uint32_t n = sink->run != NULL ? sink->run_max(sink->arg, &run->c->addr) / run->wire_len : 1;
    return n == 0 ? 1 : n < ROW_MOST ? n : ROW_MOST;
}

/* How many of those that wait from `l` on, which is in the run, are of one row; *end: what stands
 * behind it. */
SMT_INLINE uint32_t row_look(struct run *run, const struct smt_engine *e,
                             const struct smt_tx_sink *sink, struct smt_list *l,
                             struct smt_list **end)
{
    uint32_t n = 1;
    l = l->next;
    if (l != &e->posted && run->row_most == 0)
        run->row_most = row_most(run, sink);
    uint32_t most = run->row_most < run->keys.left ? run->row_most : run->keys.left;
    for (; l != &e->posted && n < most; l = l->next, n++) {
        const struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, wait_link);
        if (!run_takes(run, r) || r->tx.len != run->len || r->tx.unsched != run->len)
            break;
    }
    *end = l;
    return n;
}

/* The first n of the line, up to `end`, leave it and go into their places, `stride` bytes apart. A
 * place whose packet cannot be sealed goes back when it is alone; among others it has zeros, which
 * the peer drops. */
SMT_INLINE void row_send(struct run *run, uint32_t n, struct smt_list *end, uint64_t now,
                         const struct smt_tx_sink *sink, uint8_t *pkt, size_t stride)
{
    struct smt_engine *e = run->c->e;
    struct smt_list *l = e->posted.next;
    const struct smt_timer *armed = NULL; /* last, for the time at which answers are late */
    e->posted.next = end;
    end->prev = &e->posted;
    run->keys.left -= n;
    smt_keys_note_blocks(&run->c->keys, n, run->n_blocks);
    for (uint32_t i = 0; i < n; i++, pkt += stride) {
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, wait_link);
        l = l->next;
        smt_list_init(&r->wait_link);
        if (SMT_LIKELY(r->deadline == SMT_NEVER)) {
            r->since = now;
            if (armed != NULL)
                smt_wheel_arm_behind(armed, &r->timer.t);
            else
                smt_wheel_arm_next(&e->wheel, &r->timer.t, run->late_at);
            armed = &r->timer.t;
        } else {
            smt_rpc_begin(r, now);
            armed = NULL;
        }
        int rc = packet_fill(run, r, now, pkt);
        if (SMT_LIKELY(rc == 0))
            continue;
        (void)smt_record_failed(r, rc);
        armed = NULL;
        if (n == 1) {
            sink->unreserve(sink->arg);
            return;
        }
        memset(pkt, 0, run->wire_len);
    }
    left_count(run, now, n);
}

/* A row whose first message is that of `l`, which is in the run. False: the sink is full. */
SMT_INLINE bool row_leave(struct run *run, struct smt_engine *e, struct smt_list *l, uint64_t now,
                          const struct smt_tx_sink *sink)
{
    const struct smt_addr *to = &run->c->addr;
    struct smt_list *end;
    size_t stride;
    uint32_t n = row_look(run, e, sink, l, &end);
    uint8_t *pkt = NULL;
    if (n > 1)
        pkt = sink->run(sink->arg, to, n, run->wire_len, run->wire_len, run->prio, &stride);
    if (SMT_LIKELY(pkt != NULL)) {
        row_send(run, n, end, now, sink, pkt, stride);
        return true;
    }
    pkt = sink->reserve(sink->arg, to, run->wire_len, run->prio);
    if (SMT_UNLIKELY(pkt == NULL))
        return false;
    row_send(run, 1, l->next, now, sink, pkt, 0);
    return true;
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
        if (SMT_UNLIKELY(!run_takes(&run, r) || run.keys.left == 0) &&
            (!is_usual(r->conn) || smt_keys_is_due(&r->conn->keys) || run_begin(&run, r, now) < 0))
            return SMT_SENT_NOTHING;
        if (SMT_UNLIKELY(t->len - 1 >= run.most || t->unsched != t->len))
            return SMT_SENT_NOTHING;
        if (SMT_UNLIKELY(t->len != run.len))
            len_set(&run, t->len);
        if (SMT_UNLIKELY(!row_leave(&run, e, l, now, sink)))
            return SMT_SENT_FULL;
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
    len_set(&run, r->tx.len);
    uint8_t *pkt = sink->reserve(sink->arg, &run.c->addr, run.wire_len, run.prio);
    if (SMT_UNLIKELY(pkt == NULL))
        return SMT_SENT_FULL;
    smt_keys_note_blocks(&run.c->keys, 1, run.n_blocks);
    rc = packet_fill(&run, r, now, pkt);
    if (SMT_UNLIKELY(rc < 0)) {
        sink->unreserve(sink->arg);
        return smt_record_failed(r, rc);
    }
    left_count(&run, now, 1);
    return SMT_SENT_ALL;
}
