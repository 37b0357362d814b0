/* The peer played by hand of hand.h. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "hand.h"

enum { MINE_DATA, MINE_CTRL, THEIRS_DATA, THEIRS_CTRL };
enum { ENGINE_PORT = 700, HAND_PORT = 701 };

struct kept {
    struct kept *next;
    uint8_t bytes[];
};

static struct kept *kept; /* message bytes lent to the engine */
static uint32_t next_seal;
static struct hand_pkt *spare_pkts;

static uint8_t *keep(size_t len)
{
    struct kept *k = calloc(1, sizeof(*k) + len + 1);
    assert_non_null(k);
    k->next = kept;
    kept = k;
    return k->bytes;
}

uint8_t hand_byte(uint64_t id, uint32_t i)
{
    return (uint8_t)((id & 0xff) * 31 + i * 7 + (i >> 8) * 13);
}

void hand_fill(uint8_t *p, uint64_t id, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        p[i] = hand_byte(id, i);
}

static void engine_random(void *arg, void *out, size_t len)
{
    struct hand *h = arg;
    smt_prng_bytes(&h->rng, out, len);
}

static void cookie_make(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                        uint8_t out[32])
{
    memset(out, 0x5a, 32);
    memcpy(out, &id, sizeof(id));
}

static bool cookie_check(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                         const uint8_t cookie[32])
{
    uint8_t want[32];
    cookie_make(arg, now, from, id, want);
    return memcmp(want, cookie, sizeof(want)) == 0;
}

struct hand *hand_new(bool hand_is_initiator)
{
    checking_aead_reset();
    next_seal = 0;
    struct hand *h = calloc(1, sizeof(*h));
    assert_non_null(h);
    /* Twenty megabytes: one is kept for the next hand, whatever lies in it. */
    h->pkts = spare_pkts != NULL ? spare_pkts : calloc(HAND_MAX_PKTS, sizeof(*h->pkts));
    spare_pkts = NULL;
    assert_non_null(h->pkts);
    h->now = SMT_SEC;
    h->polite = true;
    h->room = UINT_MAX;
    h->initiator = hand_is_initiator;
    h->id = 0x0700000000000077;
    h->addr =
        (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2}, .port = HAND_PORT};
    smt_prng_seed(&h->rng, 7);
    smt_engine_config_init(&h->config);
    h->config.port = ENGINE_PORT;
    h->config.number = 1;
    h->config.accept = true;
    h->config.seed = 11;
    h->config.random = engine_random;
    h->config.random_arg = h;
    h->config.cookie_make = cookie_make;
    h->config.cookie_check = cookie_check;
    smt_params_init(&h->params);
    h->params.session_id = h->id;
    h->params.versions[0] = SMT_WIRE_VERSION;
    h->params.n_versions = 1;
    h->params.ciphers[0] = SMT_AEAD_AES128_GCM;
    h->params.n_ciphers = 1;
    h->params.mtu = HAND_MTU;
    h->mtu = HAND_MTU;
    h->mem = smt_mem_live().n_live;
    h->live_ctxs = checking_aead_stats().live_ctxs;
    return h;
}

/* ---- the engine's packets ---- */

static void hear_frames(struct hand_pkt *p, const uint8_t *at, size_t len)
{
    while (len > 0) {
        struct smt_frame more;
        struct smt_frame *f = p->n_frames < HAND_MAX_FRAMES ? &p->frames[p->n_frames] : &more;
        int n = smt_frame_decode(at, len, f);
        assert_true(n > 0);
        at += n;
        len -= (size_t)n;
        if (f->type != SMT_FRAME_PAD && f != &more)
            p->n_frames++;
    }
}

static void open_record(struct hand *h, struct hand_pkt *p, unsigned which, uint64_t record_no,
                        size_t len)
{
    uint8_t nonce[12], aad[SMT_AAD_LEN], plain[2048];
    uint64_t explicit_no;
    size_t plain_len;
    const uint8_t *record = p->raw + p->hdr.header_len;
    assert_int_equal(smt_record_head_decode(record, len, &explicit_no, &plain_len), 0);
    if (which == THEIRS_DATA) {
        assert_int_equal(explicit_no, record_no);
        assert_int_equal(plain_len, len - SMT_RECORD_OVERHEAD);
    }
    smt_record_nonce(nonce, h->salt[which], explicit_no);
    smt_record_aad(aad, explicit_no, plain_len);
    struct smt_aead_out out = {plain, plain_len};
    const uint8_t *text = record + SMT_RECORD_HEAD_LEN;
    int err = fast_aead()->open(h->ctx[which], nonce, aad, sizeof(aad), text, plain_len, &out, 1,
                                text + plain_len);
    assert_int_equal(err, 0);
    if (which == THEIRS_CTRL) {
        hear_frames(p, plain, plain_len);
        return;
    }
    int head = smt_inner_decode(plain, plain_len, &p->inner);
    assert_true(head > 0);
    hear_frames(p, plain + head, p->inner.frames_len);
    p->data_len = (uint32_t)(plain_len - (size_t)head - p->inner.frames_len);
    memcpy(p->data, plain + head + p->inner.frames_len, p->data_len);
    assert_int_equal(p->inner.offset, p->hdr.offset);
    assert_int_equal(p->inner.message_len, p->hdr.message_len);
    assert_int_equal(p->inner.id_high, (uint32_t)(p->hdr.rpc_id >> 32));
    assert_true(p->inner.offset + p->data_len <= p->inner.message_len);
}

static void take_pending(struct hand *h)
{
    if (h->pending == NULL)
        return;
    assert_true(h->n_pkts < HAND_MAX_PKTS);
    struct hand_pkt *p = &h->pkts[h->n_pkts++];
    memset(p, 0, offsetof(struct hand_pkt, data));
    p->at = h->now;
    p->go = h->n_goes;
    p->len = (uint32_t)h->pending_len;
    p->prio = h->prio;
    memcpy(p->raw, h->pending, h->pending_len);
    free(h->pending);
    h->pending = NULL;
    h->prio = 0;
    assert_int_equal(smt_hdr_decode(p->raw, p->len, &p->hdr), 0);
    assert_int_equal(p->hdr.sport, ENGINE_PORT);
    /* What is answered without a session goes to the port that the packet named. */
    bool is_of_session = p->hdr.kind <= SMT_KIND_CTRL;
    assert_true(p->hdr.dport == HAND_PORT || !is_of_session);
    if (is_of_session && p->hdr.epoch != 1)
        return; /* the hand knows the keys of the first epoch only */
    if (p->hdr.kind == SMT_KIND_DATA) {
        assert_int_equal(p->hdr.session_id, h->id);
        if (p->len <= h->mtu) {
            h->got_packets++;
            h->got_bytes += p->len;
        }
        open_record(h, p, THEIRS_DATA, smt_data_record_no(p->hdr.rpc_id, p->hdr.seal),
                    p->hdr.record_len);
    } else if (p->hdr.kind == SMT_KIND_CTRL) {
        assert_int_equal(p->hdr.session_id, h->id);
        open_record(h, p, THEIRS_CTRL, 0, p->len - p->hdr.header_len);
    }
}

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct hand *h = arg;
    take_pending(h);
    assert_true(len > 0 && len <= HAND_MTU);
    assert_true(smt_addr_equal(to, &h->addr));
    if (h->room == 0)
        return NULL;
    h->room -= h->room != UINT_MAX;
    h->pending = malloc(len);
    assert_non_null(h->pending);
    h->pending_len = len;
    h->prio = prio;
    return h->pending;
}

static void sink_unreserve(void *arg)
{
    struct hand *h = arg;
    assert_non_null(h->pending);
    free(h->pending);
    h->pending = NULL;
    h->room += h->room != UINT_MAX;
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    const struct hand *h = arg;
    return h->mtu;
}

static size_t seal_record(struct hand *h, unsigned which, uint64_t record_no, const uint8_t *plain,
                          size_t plain_len, uint8_t *out);

static void give(struct hand *h, const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    struct smt_pkt pkt = {.data = copy, .len = (uint32_t)len, .from = &h->addr};
    smt_engine_rx(h->e, h->now, &pkt, 1);
    memset(copy, 0xdd, len);
    free(copy);
}

static void give_ctrl(struct hand *h, const uint8_t *plain, size_t len)
{
    uint8_t pkt[HAND_MTU];
    assert_non_null(h->conn);
    struct smt_hdr hdr = {.sport = HAND_PORT,
                          .dport = ENGINE_PORT,
                          .kind = SMT_KIND_CTRL,
                          .epoch = 1,
                          .session_id = smt_conn_id(h->conn)};
    size_t at = smt_hdr_encode(&hdr, pkt);
    at += seal_record(h, MINE_CTRL, h->ctrl_no++, plain, len, pkt + at);
    give(h, pkt, at);
}

/* Answers what the engine asks about the path, not about messages. */
static void answer(struct hand *h)
{
    for (; h->n_answered < h->n_pkts; h->n_answered++) {
        const struct hand_pkt *p = &h->pkts[h->n_answered];
        bool hears = h->polite && h->conn != NULL && p->len <= h->mtu;
        for (unsigned i = 0; hears && i < p->n_frames; i++) {
            struct smt_frame f = p->frames[i];
            if (f.type == SMT_FRAME_MARK)
                f = (struct smt_frame){.type = SMT_FRAME_SEEN,
                                       .seq = f.seq,
                                       .packets = h->got_packets,
                                       .bytes = h->got_bytes};
            else if (f.type == SMT_FRAME_PROBE)
                f = (struct smt_frame){
                    .type = SMT_FRAME_PROBE_ACK, .token = f.token, .code = (uint16_t)p->len};
            else if (f.type == SMT_FRAME_PING)
                f.type = SMT_FRAME_PONG;
            else
                continue;
            uint8_t plain[SMT_FRAME_MAX_LEN];
            give_ctrl(h, plain, smt_frame_encode(&f, plain, sizeof(plain)));
        }
    }
}

void hand_run(struct hand *h)
{
    const struct smt_tx_sink sink = {
        .arg = h, .reserve = sink_reserve, .unreserve = sink_unreserve, .mtu = sink_mtu};
    for (unsigned turn = 0;; turn++) {
        assert_true(turn < 10000);
        bool busy = false;
        if (smt_engine_deadline(h->e) <= h->now) {
            smt_engine_tick(h->e, h->now);
            busy = true;
        }
        while (h->n_events < HAND_MAX_EVENTS &&
               smt_engine_next_event(h->e, &h->events[h->n_events])) {
            if (h->events[h->n_events].type == SMT_EE_DOWN)
                h->conn = NULL;
            h->n_events++;
            busy = true;
        }
        if (smt_engine_tx_pending(h->e)) {
            h->n_goes++;
            unsigned n = smt_engine_tx(h->e, h->now, &sink);
            take_pending(h);
            busy |= n > 0;
            answer(h);
        }
        if (!busy)
            break;
    }
}

void hand_sleep(struct hand *h, uint64_t ns)
{
    uint64_t until = h->now + ns;
    hand_run(h);
    for (;;) {
        uint64_t next = smt_engine_deadline(h->e);
        if (next > until)
            break;
        if (next > h->now)
            h->now = next;
        hand_run(h);
    }
    h->now = until;
    hand_run(h);
}

void hand_clear(struct hand *h)
{
    h->n_pkts = h->n_answered = 0;
    h->n_events = 0;
}

/* ---- the hand's packets ---- */

void hand_rx(struct hand *h, const uint8_t *bytes, size_t len)
{
    give(h, bytes, len);
    hand_run(h);
}

void hand_rx_many(struct hand *h, struct hand_bytes *pkts, unsigned n)
{
    struct smt_pkt all[32];
    assert_true(n <= SMT_ARRAY_LEN(all));
    for (unsigned i = 0; i < n; i++)
        all[i] =
            (struct smt_pkt){.data = pkts[i].bytes, .len = (uint32_t)pkts[i].len, .from = &h->addr};
    smt_engine_rx(h->e, h->now, all, n);
    hand_run(h);
}

static size_t seal_record(struct hand *h, unsigned which, uint64_t record_no, const uint8_t *plain,
                          size_t plain_len, uint8_t *out)
{
    uint8_t nonce[12], aad[SMT_AAD_LEN];
    smt_record_head_encode(out, record_no, plain_len);
    smt_record_nonce(nonce, h->salt[which], record_no);
    smt_record_aad(aad, record_no, plain_len);
    struct smt_aead_in in = {plain, plain_len};
    uint8_t *text = out + SMT_RECORD_HEAD_LEN;
    int err =
        fast_aead()->seal(h->ctx[which], nonce, aad, sizeof(aad), &in, 1, text, text + plain_len);
    assert_int_equal(err, 0);
    return plain_len + SMT_RECORD_OVERHEAD;
}

static uint64_t engine_id(const struct hand *h)
{
    assert_non_null(h->conn);
    return smt_conn_id(h->conn);
}

void hand_ctrl(struct hand *h, const uint8_t *plain, size_t len)
{
    give_ctrl(h, plain, len);
    hand_run(h);
}

void hand_frames(struct hand *h, const struct smt_frame *frames, unsigned n)
{
    uint8_t plain[1400];
    size_t len = 0;
    for (unsigned i = 0; i < n; i++) {
        size_t one = smt_frame_encode(&frames[i], plain + len, sizeof(plain) - len);
        assert_true(one > 0);
        len += one;
    }
    hand_ctrl(h, plain, len);
}

void hand_frame(struct hand *h, struct smt_frame f)
{
    hand_frames(h, &f, 1);
}

size_t hand_data_encode(struct hand *h, struct hand_data d, uint8_t *out)
{
    uint8_t plain[HAND_MTU];
    struct smt_hdr hdr = {.sport = HAND_PORT,
                          .dport = ENGINE_PORT,
                          .kind = SMT_KIND_DATA,
                          .epoch = 1,
                          .session_id = engine_id(h),
                          .rpc_id = d.id,
                          .offset = d.offset,
                          .message_len = d.message_len,
                          .seal = d.seal != 0 || d.is_first ? d.seal : next_seal++};
    struct smt_inner inner = {.what = (uint8_t)d.what,
                              .flags = d.flags,
                              .offset = d.offset,
                              .message_len = d.message_len,
                              .id_high = (uint32_t)(d.id >> 32)};
    if (d.offset == 0) {
        inner.flags |= SMT_INNER_EXT;
        inner.low_water = d.low_water != 0 ? d.low_water : 1;
        inner.done = d.done;
        inner.unsched = d.unsched != 0 ? d.unsched : d.message_len;
    }
    uint8_t frames[512];
    size_t frames_len = 0;
    for (unsigned i = 0; i < d.n_frames; i++)
        frames_len +=
            smt_frame_encode(&d.frames[i], frames + frames_len, sizeof(frames) - frames_len);
    inner.frames_len = (uint16_t)frames_len;
    size_t len = smt_inner_encode(&inner, plain);
    memcpy(plain + len, frames, frames_len);
    len += frames_len;
    assert_true(len + d.len + SMT_RECORD_OVERHEAD + SMT_DATA_HDR_LEN <= HAND_MTU);
    for (uint32_t i = 0; i < d.len; i++)
        plain[len + i] = hand_byte(d.id, d.offset + i);
    len += d.len;
    hdr.record_len = hdr.slice_len = (uint16_t)(len + SMT_RECORD_OVERHEAD);
    size_t at = smt_hdr_encode(&hdr, out);
    return at + seal_record(h, MINE_DATA, smt_data_record_no(d.id, hdr.seal), plain, len, out + at);
}

void hand_data(struct hand *h, struct hand_data d)
{
    uint8_t pkt[HAND_MTU];
    hand_rx(h, pkt, hand_data_encode(h, d, pkt));
}

unsigned hand_slices(const uint8_t *pkt, uint32_t slice_len, struct hand_bytes *out, unsigned max)
{
    uint32_t record_len = smt_get_be16(pkt + 40), n = 0;
    for (uint32_t at = 0; at < record_len; at += slice_len, n++) {
        uint32_t len = record_len - at < slice_len ? record_len - at : slice_len;
        assert_true(n < max);
        memcpy(out[n].bytes, pkt, SMT_DATA_HDR_LEN);
        smt_put_be16(out[n].bytes + 42, (uint16_t)slice_len);
        out[n].bytes[SMT_HDR_INDEX_AT] = (uint8_t)n;
        memcpy(out[n].bytes + SMT_DATA_HDR_LEN, pkt + SMT_DATA_HDR_LEN + at, len);
        out[n].len = SMT_DATA_HDR_LEN + len;
    }
    return n;
}

/* ---- the handshake ---- */

static void send_hs(struct hand *h, uint64_t to, uint32_t offset, uint32_t ack, const char *tls,
                    const uint8_t *cookie)
{
    uint8_t pkt[1300] = {0};
    struct smt_hdr hdr = {.sport = HAND_PORT,
                          .dport = ENGINE_PORT,
                          .kind = SMT_KIND_HANDSHAKE,
                          .epoch = h->initiator ? 1 : 0,
                          .session_id = to,
                          .source_id = h->id,
                          .offset = offset,
                          .message_len = ack,
                          .tls_len = (uint16_t)strlen(tls),
                          .cookie_len = cookie != NULL ? SMT_COOKIE_LEN : 0};
    size_t at = smt_hdr_encode(&hdr, pkt);
    if (cookie != NULL) {
        memcpy(pkt + at, cookie, SMT_COOKIE_LEN);
        at += SMT_COOKIE_LEN;
    }
    memcpy(pkt + at, tls, strlen(tls));
    at += strlen(tls);
    hand_rx(h, pkt, to == 0 && at < SMT_HS_MIN_FIRST_LEN ? SMT_HS_MIN_FIRST_LEN : at);
}

static void install_keys(struct hand *h)
{
    uint8_t secret[SMT_SECRET_LEN];
    memset(secret, 0x42, sizeof(secret));
    struct smt_epoch_keys k;
    assert_int_equal(smt_schedule_keys(secret, 16, &k), 0);
    const struct smt_key *mine[2] = {h->initiator ? &k.i_data : &k.r_data,
                                     h->initiator ? &k.i_ctrl : &k.r_ctrl};
    const struct smt_key *theirs[2] = {h->initiator ? &k.r_data : &k.i_data,
                                       h->initiator ? &k.r_ctrl : &k.i_ctrl};
    const struct smt_key *all[4] = {mine[0], mine[1], theirs[0], theirs[1]};
    for (unsigned i = 0; i < 4; i++) {
        h->ctx[i] = aligned_alloc(64, 64);
        assert_non_null(h->ctx[i]);
        assert_int_equal(fast_aead()->init(h->ctx[i], all[i]->key), 0);
        memcpy(h->salt[i], all[i]->salt, SMT_SALT_LEN);
    }
    assert_int_equal(
        smt_conn_install(h->conn, h->now, checking_aead(CHECKING_FAST), secret, &h->params), 0);
}

static void install_early(struct hand *h)
{
    uint8_t secret[SMT_SECRET_LEN];
    memset(secret, 0x43, sizeof(secret));
    struct smt_epoch_keys k;
    assert_int_equal(smt_schedule_keys(secret, 16, &k), 0);
    h->early_ctx = aligned_alloc(64, 64);
    assert_non_null(h->early_ctx);
    assert_int_equal(fast_aead()->init(h->early_ctx, k.i_data.key), 0);
    memcpy(h->early_salt, k.i_data.salt, SMT_SALT_LEN);
    assert_int_equal(smt_conn_early(h->conn, checking_aead(CHECKING_FAST), secret), 0);
}

static void eat_hs(struct hand *h)
{
    const uint8_t *p;
    size_t len = smt_conn_hs_peek(h->conn, &p);
    assert_true(len > 0);
    smt_conn_hs_consume(h->conn, len);
}

void hand_connect(struct hand *h)
{
    assert_int_equal(smt_engine_new(&h->config, h->now, &h->e), 0);
    if (h->initiator) {
        send_hs(h, 0, 0, 0, "hello", NULL);
        assert_int_equal(h->n_pkts, 1);
        assert_int_equal(h->pkts[0].hdr.kind, SMT_KIND_RETRY);
        uint8_t cookie[SMT_COOKIE_LEN];
        memcpy(cookie, h->pkts[0].raw + SMT_PLAIN_HDR_LEN, SMT_COOKIE_LEN);
        send_hs(h, 0, 0, 0, "hello", cookie);
        const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_HS_ACCEPT, 0);
        assert_non_null(ev);
        h->conn = ev->conn;
        eat_hs(h);
        assert_int_equal(smt_conn_hs_send(h->conn, (const uint8_t *)"answer", 6), 0);
        hand_run(h);
        if (h->config.early) {
            if (h->before_keys != NULL)
                h->before_keys(h->arg);
            install_early(h);
        } else {
            send_hs(h, smt_conn_id(h->conn), 5, 6, "finished", NULL);
            eat_hs(h);
        }
        install_keys(h);
        hand_run(h);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PING, .token = 1});
    } else {
        assert_int_equal(smt_conn_open(h->e, h->now, &h->addr, &h->conn), 0);
        assert_int_equal(smt_conn_hs_send(h->conn, (const uint8_t *)"hello", 5), 0);
        hand_run(h);
        send_hs(h, smt_conn_id(h->conn), 0, 5, "answer", NULL);
        eat_hs(h);
        assert_int_equal(smt_conn_hs_send(h->conn, (const uint8_t *)"finished", 8), 0);
        install_keys(h);
        hand_run(h);
    }
    hand_frame(h,
               (struct smt_frame){.type = SMT_FRAME_CREDIT, .length = 4096, .low_water = 64 << 20});
    assert_int_equal(hand_n_events(h, SMT_EE_UP), 1);
    hand_sleep(h, 100 * SMT_MSEC);
    hand_clear(h);
}

void hand_free(struct hand *h)
{
    smt_engine_free(h->e);
    for (unsigned i = 0; i < 4; i++)
        free(h->ctx[i]);
    free(h->early_ctx);
    assert_int_equal(smt_mem_live().n_live, h->mem);
    assert_int_equal(checking_aead_stats().live_ctxs, h->live_ctxs);
    while (kept != NULL) {
        struct kept *k = kept;
        kept = k->next;
        free(k);
    }
    free(spare_pkts);
    spare_pkts = h->pkts;
    free(h);
    checking_aead_reset();
}

/* ---- looking ---- */

const struct smt_frame *hand_frame_n(const struct hand *h, uint8_t type, uint64_t id, unsigned n)
{
    for (unsigned i = 0; i < h->n_pkts; i++) {
        for (unsigned k = 0; k < h->pkts[i].n_frames; k++) {
            const struct smt_frame *f = &h->pkts[i].frames[k];
            if (f->type == type && (id == UINT64_MAX || f->id == id) && n-- == 0)
                return f;
        }
    }
    return NULL;
}

unsigned hand_n_frames(const struct hand *h, uint8_t type, uint64_t id)
{
    unsigned n = 0;
    while (hand_frame_n(h, type, id, n) != NULL)
        n++;
    return n;
}

const struct hand_pkt *hand_pkt_n(const struct hand *h, uint64_t id, unsigned n)
{
    for (unsigned i = 0; i < h->n_pkts; i++) {
        const struct hand_pkt *p = &h->pkts[i];
        if (p->hdr.kind == SMT_KIND_DATA && p->hdr.rpc_id == id && n-- == 0)
            return p;
    }
    return NULL;
}

unsigned hand_n_data(const struct hand *h, uint64_t id)
{
    unsigned n = 0;
    while (hand_pkt_n(h, id, n) != NULL)
        n++;
    return n;
}

uint32_t hand_data_end(const struct hand *h, uint64_t id)
{
    uint32_t end = 0;
    for (unsigned i = 0; hand_pkt_n(h, id, i) != NULL; i++) {
        const struct hand_pkt *p = hand_pkt_n(h, id, i);
        if (p->inner.offset + p->data_len > end)
            end = p->inner.offset + p->data_len;
    }
    return end;
}

const struct smt_engine_event *hand_event_n(const struct hand *h, enum smt_engine_event_type type,
                                            unsigned n)
{
    for (unsigned i = 0; i < h->n_events; i++) {
        if (h->events[i].type == type && n-- == 0)
            return &h->events[i];
    }
    return NULL;
}

unsigned hand_n_events(const struct hand *h, enum smt_engine_event_type type)
{
    unsigned n = 0;
    while (hand_event_n(h, type, n) != NULL)
        n++;
    return n;
}

uint64_t hand_counter(const struct hand *h, const char *name)
{
    struct smt_engine_counter all[256];
    unsigned n = smt_engine_counters(h->e, all, SMT_ARRAY_LEN(all));
    for (unsigned i = 0; i < n && i < SMT_ARRAY_LEN(all); i++) {
        if (strcmp(all[i].name, name) == 0)
            return all[i].value;
    }
    fail_msg("no counter \"%s\"", name);
    return 0;
}

/* ---- the engine's user ---- */

uint64_t hand_post(struct hand *h, uint32_t len, bool one_way)
{
    uint64_t id = 0;
    uint8_t *bytes = keep(len);
    struct smt_post_iov iov = {bytes, len};
    struct smt_post post = {.iov = &iov, .n_iov = 1, .one_way = one_way};
    assert_int_equal(smt_conn_post(h->conn, &post, &id), 0);
    hand_fill(bytes, id, len);
    hand_run(h);
    return id;
}

void hand_reply(struct hand *h, struct smt_rpc *r, uint32_t len)
{
    uint8_t *bytes = keep(len);
    hand_fill(bytes, 0, len);
    struct smt_post_iov iov = {bytes, len};
    assert_int_equal(smt_rpc_reply(r, &iov, 1, bytes), 0);
    hand_run(h);
}
