/* Records of profile smt1: TLS 1.2 AES-GCM records in DATA packets of the kernel's SMT.
 *
 * Sending: one packet is one record, as the kernel's own sender does at an MTU of 9000. Nothing
 * then depends on IPv4 identifications or on the other end's MTU, and logical offsets are true
 * ones. A record is sealed once, into memory that stays until the message is over, and copied from
 * there whenever it is sent: the user's bytes may change while they are lent, and sealing them
 * again under the same number would give the key away.
 *
 * Receiving: the kernel's records are up to seven packets, cut in the middle of ciphertext. Packets
 * are held until their record is whole, in order of record and number; then it is opened with the
 * number in its head (which the tag covers) and its segments, whose offsets are sealed, are copied
 * into the message. What does not open is forgotten and asked for again, so one forged packet costs
 * a round trip and not the call. The accepted ranges count logical bytes of held and opened packets
 * alike; the last packet of a record counts only once it has opened, so a message is whole when all
 * of it was opened.
 *
 * Not protected by the format, so not here: the message's length (whoever lowers it to the end of
 * a record cuts the message short), control packets, ids above bit 48 (refused). */
#include "core/incoming.h"
#include "core/rpc_life.h"
#include "core/kernel.h"
#include "wire/smt1.h"

#include "base/mem.h"

enum {
    KEY_LEN = 16,
    RECORD_EXTRA = SMT_SMT1_OVERHEAD + SMT_SMT1_SEGMENT_LEN, /* of a record that is one packet */
    PACKET_EXTRA = SMT_SMT1_HDR_LEN + RECORD_EXTRA,
    IP_HDR_LEN = 20,
    MAX_NUMBER = 64, /* packets of a record; the kernel's largest burst makes 45 */
    CTX_ALIGN = 64,
};

/* Bits of an id that its nonces are made of; the rest must be 0. */
#define ID_MASK ((1ull << 49) - 1)

/* A packet that waits for the rest of its record; in a buffer of the engine's. */
struct held {
    struct smt_list link;  /* in m->held, by (offset, number) */
    uint32_t offset;       /* of the record in the message */
    uint32_t start, len;   /* logical */
    uint32_t payload_len;
    uint16_t number;
    uint8_t payload[];
};

/* ---- keys ---- */

static void *ctx_of(const struct smt_kernel *k, bool of_client)
{
    return k->ctx[of_client ? 0 : 1];
}

static int ctxs_make(struct smt_kernel *k, const struct smt_record_keys *keys)
{
    k->aead = keys->aead;
    size_t one = (keys->aead->ctx_len + CTX_ALIGN - 1) / CTX_ALIGN * CTX_ALIGN;
    uint8_t *mem = smt_mem_secret(2 * one);
    if (mem == NULL)
        return SMT_ENOMEM;
    k->ctx_len = 2 * one;
    k->ctx[0] = mem;
    k->ctx[1] = mem + one;
    int rc = k->aead->init(k->ctx[0], keys->end[0].key);
    return rc < 0 ? rc : k->aead->init(k->ctx[1], keys->end[1].key);
}

int smt_records_begin(struct smt_engine *e)
{
    const struct smt_record_keys *keys = e->config.record_keys;
    if (keys == NULL || keys->aead->key_len != KEY_LEN)
        return SMT_ECREDENTIALS;
    int rc = smt_kernel_begin(e, &smt_homa_smt1);
    if (rc < 0)
        return rc;
    /* Nobody shall be asked to accept what is not proven yet. */
    if (e->config.accept_len < e->config.profile->max_message)
        e->config.accept_len = e->config.profile->max_message;
    rc = ctxs_make(e->kernel, keys);
    memcpy(e->kernel->salt[0], keys->end[0].salt, sizeof(e->kernel->salt[0]));
    memcpy(e->kernel->salt[1], keys->end[1].salt, sizeof(e->kernel->salt[1]));
    /* Lent for this call only. */
    e->config.record_keys = NULL;
    return rc;
}

void smt_records_end(struct smt_engine *e)
{
    struct smt_kernel *k = e->kernel;
    if (k != NULL && k->ctx[0] != NULL) {
        k->aead->fini(k->ctx[0]);
        k->aead->fini(k->ctx[1]);
        smt_mem_secret_free(k->ctx[0], k->ctx_len);
    }
    smt_kernel_end(e);
}

/* ---- who the keys belong to ---- */

int smt_records_conn_begin(struct smt_conn *c)
{
    struct smt_kernel *k = c->e->kernel;
    if (!smt_addr_is_ipv4(&c->addr))
        return SMT_EUNSUPPORTED;
    if (c->initiator) {
        if (k->role == SMT_KERNEL_SERVER || (k->bound && !smt_addr_equal(&k->peer, &c->addr)))
            return SMT_ECREDENTIALS;
    }
    int rc = smt_kernel_conn_begin(c);
    if (rc == 0 && c->initiator) {
        k->role = SMT_KERNEL_CLIENT;
        k->bound = true;
        k->peer = c->addr;
    }
    return rc;
}

int smt_records_may_post(struct smt_conn *c, uint64_t len, bool one_way)
{
    if (c->e->kernel->role != SMT_KERNEL_CLIENT)
        return SMT_ECREDENTIALS;
    return smt_kernel_may_post(c, len, one_way);
}

/* A record of the conn's has opened. False: the keys belong to another peer already. */
static bool peer_prove(struct smt_conn *c, uint64_t now)
{
    struct smt_kernel *k = c->e->kernel;
    if (k->bound && !smt_addr_equal(&k->peer, &c->addr)) {
        c->e->stats.drop_other_peer++;
        return false;
    }
    if (k->role == SMT_KERNEL_NO_ROLE)
        k->role = SMT_KERNEL_SERVER;
    k->bound = true;
    k->peer = c->addr;
    k->n_unproven -= c->state == SMT_CONN_AWAIT_CONFIRM;
    smt_conn_heard(c, now);
    return true;
}

/* ---- sending ---- */

static uint32_t slot_len(const struct smt_msg_tx *t)
{
    return t->cut + RECORD_EXTRA;
}

static bool store_make(struct smt_rpc *r)
{
    struct smt_msg_tx *t = &r->tx;
    uint32_t n_records = (t->len + t->cut - 1) / t->cut;
    t->sealed_len = t->len + n_records * RECORD_EXTRA;
    t->sealed = smt_bufpool_get(&r->conn->e->bufs, t->sealed_len);
    return t->sealed != NULL;
}

/* Record `index` for the first and only time, into its place. */
static int record_seal(struct smt_rpc *r, uint32_t index, const struct smt_tx_piece *piece)
{
    struct smt_conn *c = r->conn;
    struct smt_kernel *k = c->e->kernel;
    uint8_t *record = r->tx.sealed + (size_t)index * slot_len(&r->tx);
    uint64_t sender_id = smt_kernel_sender_id(c, r->id);
    uint64_t number = smt_smt1_record_no(sender_id, index);
    uint32_t plain_len = SMT_SMT1_SEGMENT_LEN + piece->len;
    struct smt_smt1_segment segment = {.offset = piece->offset, .len = piece->len};
    (void)smt_kernel_ack_next(c, &segment.ack);
    smt_smt1_head_encode(record, number, plain_len);
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    smt_smt1_segment_encode(&segment, plain);
    smt_msg_tx_copy(&r->tx, piece->offset, piece->len, plain + SMT_SMT1_SEGMENT_LEN);
    uint8_t aad[SMT_AAD_LEN];
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    bool client = (sender_id & 1) == 0;
    smt_record_aad(aad, number, plain_len);
    smt_record_nonce(nonce, k->salt[client ? 0 : 1], number);
    const struct smt_aead_in in = {plain, plain_len};
    c->e->stats.records_sealed++;
    return k->aead->seal(ctx_of(k, client), nonce, aad, sizeof(aad), &in, 1, plain,
                         plain + plain_len);
}

static enum smt_sent failed(struct smt_rpc *r, int error)
{
    smt_rpc_fail(r, error);
    return SMT_SENT_FAILED;
}

enum smt_sent smt_records_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_conn *c = r->conn;
    struct smt_msg_tx *t = &r->tx;
    if (!smt_msg_tx_sendable(t))
        return SMT_SENT_NOTHING;
    struct smt_kernel_piece piece;
    if (!smt_kernel_piece_next(r, PACKET_EXTRA, sink, &piece))
        return SMT_SENT_FAILED;
    if (t->sealed == NULL && !store_make(r))
        return failed(r, SMT_ENOMEM);
    uint32_t record_len = piece.tx.len + RECORD_EXTRA;
    uint8_t *pkt = sink->reserve(sink->arg, &c->addr, SMT_SMT1_HDR_LEN + record_len, piece.prio);
    if (pkt == NULL)
        return SMT_SENT_FULL;
    uint32_t index = piece.tx.offset / t->cut;
    if (index == t->n_sealed) {
        int rc = record_seal(r, index, &piece.tx);
        if (rc < 0) {
            sink->unreserve(sink->arg);
            return failed(r, rc);
        }
        t->n_sealed++;
    }
    struct smt_homa_pkt p;
    smt_kernel_header(r, &piece, &p);
    size_t at = smt_homa_encode(c->e->kernel->format, &p, pkt);
    memcpy(pkt + at, t->sealed + (size_t)index * slot_len(t), record_len);
    smt_kernel_piece_sent(r, now, &piece, (uint32_t)at + record_len);
    return SMT_SENT_ONE;
}

void smt_records_tx_end(struct smt_rpc *r)
{
    struct smt_msg_tx *t = &r->tx;
    if (t->sealed == NULL)
        return;
    smt_bufpool_put(&r->conn->e->bufs, t->sealed, t->sealed_len);
    t->sealed = NULL;
}

/* ---- packets held ---- */

static struct held *held_of(struct smt_list *l)
{
    return SMT_CONTAINER_OF(l, struct held, link);
}

static void held_free(struct smt_engine *e, struct held *h)
{
    smt_list_remove(&h->link);
    smt_bufpool_put(&e->bufs, (uint8_t *)h, sizeof(*h) + h->payload_len);
}

void smt_records_rx_end(struct smt_rpc *r)
{
    struct smt_list *l;
    while ((l = smt_list_first(&r->rx.held)) != NULL)
        held_free(r->conn->e, held_of(l));
}

/* Takes [start, end) out of what counts as received. It cannot make more ranges than the set may
 * have but by one, and when that one has no room more is asked for again than was lost. */
static void got_cut(struct smt_rpc *r, uint32_t start, uint32_t end)
{
    struct smt_ranges *got = &r->rx.got;
    struct smt_ranges left;
    smt_ranges_init(&left, got->pool, got->max);
    struct smt_range x;
    for (uint64_t from = 0; smt_ranges_next(got, from, &x); from = x.end) {
        uint64_t until = x.end < start ? x.end : start;
        uint64_t again = x.start > end ? x.start : end;
        if ((x.start < until && smt_ranges_add(&left, x.start, until) < 0) ||
            (again < x.end && smt_ranges_add(&left, again, x.end) < 0))
            r->conn->e->stats.drop_no_memory++;
    }
    smt_ranges_fini(got);
    *got = left;
}

static void held_forget(struct smt_rpc *r, struct held *h)
{
    got_cut(r, h->start, h->start + h->len);
    held_free(r->conn->e, h);
}

/* The ranges say that some of the packet's bytes are here. Held packets of other records that claim
 * them are forgotten: one of the two is forged, and the true one comes again. True: room was made.
 */
static bool held_evict(struct smt_rpc *r, uint32_t offset, uint32_t start, uint32_t len)
{
    SMT_LIST_FOREACH_SAFE(l, tmp, &r->rx.held) {
        struct held *h = held_of(l);
        if (h->offset != offset && h->start < start + len && start < h->start + h->len)
            held_forget(r, h);
    }
    return !smt_ranges_overlaps(&r->rx.got, start, (uint64_t)start + len);
}

/* Puts a copy of the packet in its place, instead of one that was there. NULL: no memory. */
static struct held *held_add(struct smt_rpc *r, const struct smt_homa_pkt *p, uint16_t number,
                             uint32_t start, uint32_t len)
{
    struct smt_engine *e = r->conn->e;
    struct held *h = (struct held *)smt_bufpool_get(&e->bufs, sizeof(*h) + p->payload_len);
    if (h == NULL)
        return NULL;
    *h = (struct held){.offset = p->offset,
                       .start = start,
                       .len = len,
                       .payload_len = p->payload_len,
                       .number = number};
    memcpy(h->payload, p->payload, p->payload_len);
    smt_list_init(&h->link);
    struct smt_list *after = r->rx.held.prev;
    while (after != &r->rx.held) {
        struct held *o = held_of(after);
        if (o->offset < h->offset || (o->offset == h->offset && o->number < number))
            break;
        after = after->prev;
        if (o->offset == h->offset && o->number == number)
            held_free(e, o);
    }
    smt_list_push_head(after, &h->link);
    return h;
}

/* The first packet of a record, when all of it is here: its length at *record_len. */
static struct held *record_whole(struct smt_rpc *r, uint32_t offset, size_t *record_len)
{
    struct held *first = NULL;
    uint32_t next = 0;
    size_t len = 0;
    *record_len = 0;
    for (struct smt_list *l = r->rx.held.next; l != &r->rx.held; l = l->next) {
        struct held *h = held_of(l);
        if (h->offset != offset)
            continue;
        if (h->number != next)
            return NULL;
        if (next++ == 0) {
            first = h;
            if (h->payload_len < SMT_RECORD_HEAD_LEN)
                return NULL;
            *record_len = 5u + smt_get_be16(h->payload + 3);
        }
        len += h->payload_len;
    }
    return first != NULL && len == *record_len ? first : NULL;
}

/* ---- opening ---- */

/* Opens a record in place. */
static int record_open(struct smt_conn *c, uint64_t sender_id, uint8_t *record, size_t record_len)
{
    struct smt_kernel *k = c->e->kernel;
    if (record_len < RECORD_EXTRA || record[0] != 0x17 || record[1] != 3 || record[2] != 3)
        return SMT_EMALFORMED;
    uint64_t number = smt_get_be64(record + 5);
    if (number >> 16 != (sender_id & ID_MASK) >> 1)
        return SMT_EAUTH;
    size_t plain_len = record_len - SMT_SMT1_OVERHEAD;
    uint8_t aad[SMT_AAD_LEN];
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    bool client = (sender_id & 1) == 0;
    smt_record_aad(aad, number, plain_len);
    smt_record_nonce(nonce, k->salt[client ? 0 : 1], number);
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    const struct smt_aead_out out = {plain, plain_len};
    return k->aead->open(ctx_of(k, client), nonce, aad, sizeof(aad), plain, plain_len, &out, 1,
                         plain + plain_len);
}

/* The segments of an opened record into the message; `full`: message bytes of a full packet. They
 * must be those of the record at `offset`, one behind the other. */
static int segments_take(struct smt_rpc *r, uint64_t now, uint32_t offset, uint32_t full,
                         const uint8_t *plain, size_t plain_len)
{
    struct smt_msg_rx *m = &r->rx;
    size_t at = 0;
    uint32_t room = full - SMT_RECORD_HEAD_LEN;
    uint32_t data_len = 0;
    while (at < plain_len) {
        size_t rest = plain_len - at;
        if (rest <= SMT_SMT1_SEGMENT_LEN)
            return SMT_EMALFORMED;
        struct smt_smt1_segment s;
        smt_smt1_segment_decode(plain + at, &s);
        uint32_t most = (uint32_t)(rest - SMT_SMT1_SEGMENT_LEN);
        if (most > room)
            most = room;
        if (s.offset != offset + data_len || s.len != most || s.len > m->len ||
            s.offset > m->len - s.len)
            return SMT_EMALFORMED;
        memcpy(m->data + s.offset, plain + at + SMT_SMT1_SEGMENT_LEN, s.len);
        smt_kernel_ack_hear(r->conn, now, &s.ack);
        at += SMT_SMT1_SEGMENT_LEN + s.len;
        data_len += s.len;
        room = full;
    }
    m->opened += data_len;
    return 0;
}

/* All of a record lies at `record`. False: it is not the peer's. */
static bool record_take(struct smt_rpc *r, uint64_t now, uint64_t sender_id, uint32_t offset,
                        uint32_t full, uint8_t *record, size_t record_len)
{
    struct smt_conn *c = r->conn;
    int rc = record_open(c, sender_id, record, record_len);
    if (rc < 0) {
        c->e->stats.drop_auth++;
        return false;
    }
    if (!peer_prove(c, now))
        return false;
    if (smt_rpc_is_server(r) && r->rx.opened == 0 && !smt_kernel_prove(r))
        return false;
    c->e->stats.records_opened++;
    if (segments_take(r, now, offset, full, record + SMT_RECORD_HEAD_LEN,
                      record_len - SMT_SMT1_OVERHEAD) == 0)
        return true;
    c->e->stats.drop_hint++;
    return false;
}

static void record_gather(struct smt_rpc *r, uint32_t offset, uint8_t *record)
{
    SMT_LIST_FOREACH_SAFE(l, tmp, &r->rx.held) {
        const struct held *h = held_of(l);
        if (h->offset != offset)
            continue;
        memcpy(record, h->payload, h->payload_len);
        record += h->payload_len;
    }
}

/* The record of a packet that was held just now, if it is whole. False: it did not open, and is
 * gone with all its packets. */
static bool held_open(struct smt_rpc *r, uint64_t now, uint64_t sender_id, uint32_t offset)
{
    struct smt_engine *e = r->conn->e;
    size_t record_len;
    struct held *first = record_whole(r, offset, &record_len);
    if (first == NULL)
        return true;
    uint32_t full = first->payload_len - SMT_SMT1_SEGMENT_LEN;
    uint8_t *record = smt_bufpool_get(&e->bufs, record_len);
    bool good = false;
    if (record != NULL) {
        record_gather(r, offset, record);
        good = record_take(r, now, sender_id, offset, full, record, record_len);
        smt_bufpool_put(&e->bufs, record, record_len);
    } else {
        e->stats.drop_no_memory++;
    }
    SMT_LIST_FOREACH_SAFE(l, tmp, &r->rx.held) {
        struct held *h = held_of(l);
        if (h->offset != offset)
            continue;
        if (good)
            held_free(e, h);
        else
            held_forget(r, h);
    }
    return good;
}

/* ---- a packet ---- */

/* The kernel's sender takes some messages for sent before their last record: whoever has all but
 * that asks at once. */
static void tail_ask(struct smt_rpc *r, uint32_t full)
{
    struct smt_smt1_geom g;
    if (smt_smt1_geom_init(&g, full + IP_HDR_LEN + SMT_SMT1_HDR_LEN + SMT_SMT1_SEGMENT_LEN,
                           SMT_SMT1_DEFAULT_GSO) < 0)
        return;
    uint32_t from = smt_smt1_unsent_tail(&g, r->rx.len);
    if (from < r->rx.len && r->rx.granted == r->rx.len && smt_msg_rx_prefix(&r->rx) == from)
        smt_ctl_add_resend(r->conn, smt_rpc_frame_id(r), from, r->rx.len - from);
}

/* The packet is its whole record: opened where it lies. */
static bool single_take(struct smt_rpc *r, uint64_t now, const struct smt_homa_pkt *p)
{
    uint8_t *record = (uint8_t *)(uintptr_t)p->payload;
    uint32_t full = p->payload_len - SMT_SMT1_SEGMENT_LEN;
    return record_take(r, now, p->sender_id, p->offset, full, record, p->payload_len);
}

/* Is this packet a whole record? Of one that is not, packet 0 tells how long all but the last
 * are. */
static bool is_single(struct smt_conn *c, const struct smt_homa_pkt *p, uint16_t number)
{
    if (number > 0 || p->payload_len < SMT_RECORD_HEAD_LEN)
        return false;
    if (5u + smt_get_be16(p->payload + 3) == p->payload_len)
        return true;
    c->peer_cut = p->payload_len - SMT_SMT1_SEGMENT_LEN;
    return false;
}

/* The server part of a new message that did not turn out to be the peer's. */
static void unproven_drop(struct smt_rpc *r)
{
    if (smt_rpc_is_server(r) && r->rx.opened == 0 && smt_list_is_empty(&r->rx.held))
        smt_incoming_drop(r);
}

static void packet_take(struct smt_rpc *r, uint64_t now, const struct smt_homa_pkt *p,
                        uint16_t number, uint32_t start, uint32_t len, bool single)
{
    struct smt_conn *c = r->conn;
    bool good;
    if (single) {
        good = single_take(r, now, p);
    } else {
        struct held *h = held_add(r, p, number, start, len);
        if (h == NULL) {
            c->e->stats.drop_no_memory++;
            return;
        }
        good = held_open(r, now, p->sender_id, p->offset);
    }
    if (!good) {
        unproven_drop(r);
        return;
    }
    uint64_t id = r->id;
    if (!smt_incoming_data(r, start, len, p->incoming, now))
        return;
    r = smt_rpc_find(c, id);
    if (r != NULL && !r->rx.whole && r->rx.known && c->peer_cut > 0)
        tail_ask(r, c->peer_cut);
}

void smt_records_receive(struct smt_conn *c, uint64_t now, const struct smt_homa_pkt *p,
                         uint16_t number, uint32_t ip_len)
{
    struct smt_engine *e = c->e;
    bool request = (p->sender_id & 1) == 0;
    if (p->sender_id > ID_MASK || number >= MAX_NUMBER || p->payload_len == 0) {
        e->stats.drop_hint++;
        return;
    }
    /* One end of a key pair calls, the other serves; both calling would seal with one number
     * twice. */
    if (request == (e->kernel->role == SMT_KERNEL_CLIENT)) {
        e->stats.drop_role++;
        return;
    }
    bool single = is_single(c, p, number);
    if (!single && c->peer_cut == 0) {
        e->stats.drop_hint++;
        return;
    }
    uint32_t start = p->offset;
    uint32_t len = p->payload_len - RECORD_EXTRA;
    if (single && p->payload_len <= RECORD_EXTRA) {
        e->stats.drop_malformed++;
        return;
    }
    if (!single) {
        struct smt_smt1_geom g;
        uint32_t mtu = c->peer_cut + IP_HDR_LEN + SMT_SMT1_HDR_LEN + SMT_SMT1_SEGMENT_LEN;
        if (smt_smt1_geom_init(&g, mtu, SMT_SMT1_DEFAULT_GSO) < 0)
            return;
        smt_smt1_logical(&g, ip_len, number, p->offset, &start, &len);
    }
    if (len == 0 || len > p->message_len || start > p->message_len - len) {
        e->stats.drop_hint++;
        return;
    }
    struct smt_rpc *r = smt_kernel_rpc_of(c, now, p, false);
    if (r == NULL)
        return;
    if (smt_ranges_overlaps(&r->rx.got, start, (uint64_t)start + len) &&
        !held_evict(r, p->offset, start, len)) {
        e->stats.drop_duplicate++;
        return;
    }
    packet_take(r, now, p, number, start, len, single);
}
