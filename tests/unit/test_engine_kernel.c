/* The kernel's profiles against a kernel played by hand: the traps of their wire formats and the
 * rules of the reference (homa.md 1.6, 1.7, 2.3, 2.5, 5.4, 5.5; smt.md 1.3 to 1.5, 4, 9), each as
 * what the engine sends for what it gets. Runs of engine against engine are in sim_kernel.c, of
 * engine against captures in tests/interop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/prng.h"
#include "checking_aead.h"
#include "core/profile.h"
#include "wire/homa.h"
#include "wire/smt1.h"

enum {
    MTU = 1480, /* IP payload */
    M_HOMA = MTU - 56,
    OUR_PORT = 4000,
    PEER_PORT = 0x8001,
    MAX_OUT = 2048,
    CLIENT_ID = 1234,
};

struct out {
    uint8_t bytes[MTU];
    uint32_t len;
    uint8_t prio;
    struct smt_homa_pkt p;
};

struct rig {
    const struct smt_homa_format *f;
    struct smt_engine *e;
    struct smt_prng rng;
    uint64_t now;
    struct smt_addr peer;
    struct out *out;
    unsigned n_out;
    struct smt_engine_event events[64];
    unsigned n_events;
    uint16_t ip_id; /* of the packets given */
};

static uint8_t message[1000000];

static void rig_random(void *arg, void *out, size_t len)
{
    struct rig *g = arg;
    uint8_t *p = out;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)smt_prng_next64(&g->rng);
}

static struct smt_record_keys keys = {
    .end = {{.key = "client's own key", .salt = "cli"}, {.key = "the server's key", .salt = "ser"}},
};

static struct rig *rig_new(const char *profile, const struct smt_homa_format *f)
{
    struct rig *g = calloc(1, sizeof(*g));
    assert_non_null(g);
    g->f = f;
    g->now = SMT_SEC;
    g->out = calloc(MAX_OUT, sizeof(*g->out));
    assert_non_null(g->out);
    g->peer = (struct smt_addr){
        .ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2}, .port = PEER_PORT};
    smt_prng_seed(&g->rng, 7);
    checking_aead_reset();
    keys.aead = checking_aead(CHECKING_AES128_GCM);
    struct smt_engine_config config;
    smt_engine_config_init(&config);
    config.profile = smt_profile_find(profile);
    config.record_keys = &keys;
    config.port = OUR_PORT;
    config.accept = true;
    config.random = rig_random;
    config.random_arg = g;
    assert_int_equal(smt_engine_new(&config, g->now, &g->e), 0);
    return g;
}

static void rig_free(struct rig *g)
{
    smt_engine_free(g->e);
    free(g->out);
    free(g);
}

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct rig *g = arg;
    assert_true(g->n_out < MAX_OUT && len <= MTU);
    assert_true(memcmp(to->ip, g->peer.ip, sizeof(to->ip)) == 0);
    struct out *o = &g->out[g->n_out++];
    o->len = (uint32_t)len;
    o->prio = prio;
    return o->bytes;
}

static void sink_unreserve(void *arg)
{
    ((struct rig *)arg)->n_out--;
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    return MTU;
}

/* Lets the engine say and tell what it can now; `out` and `events` begin anew. */
static void run(struct rig *g)
{
    const struct smt_tx_sink sink = {
        .arg = g, .reserve = sink_reserve, .unreserve = sink_unreserve, .mtu = sink_mtu};
    g->n_out = g->n_events = 0;
    smt_engine_tick(g->e, g->now);
    while (smt_engine_next_event(g->e, &g->events[g->n_events]))
        g->n_events++;
    while (smt_engine_tx_pending(g->e))
        (void)smt_engine_tx(g->e, g->now, &sink);
    for (unsigned i = 0; i < g->n_out; i++)
        assert_int_equal(smt_homa_decode(g->f, g->out[i].bytes, g->out[i].len, &g->out[i].p), 0);
}

static void sleep_ms(struct rig *g, unsigned ms)
{
    g->now += ms * SMT_MSEC;
    run(g);
}

static void give_bytes(struct rig *g, uint8_t *bytes, size_t len)
{
    const struct smt_pkt pkt = {
        .data = bytes, .len = (uint32_t)len, .from = &g->peer, .ip_id = g->ip_id};
    smt_engine_rx(g->e, g->now, &pkt, 1);
    run(g);
}

/* A packet of the peer's, with `len` payload bytes. */
static void give(struct rig *g, struct smt_homa_pkt p, const uint8_t *payload, uint32_t len)
{
    uint8_t bytes[MTU];
    if (p.sport == 0)
        p.sport = PEER_PORT;
    if (p.dport == 0)
        p.dport = OUR_PORT;
    size_t at = smt_homa_encode(g->f, &p, bytes);
    if (len > 0)
        memcpy(bytes + at, payload, len);
    give_bytes(g, bytes, at + len);
}

static void give_control(struct rig *g, uint8_t type, uint64_t id)
{
    give(g, (struct smt_homa_pkt){.type = type, .sender_id = id}, NULL, 0);
}

static void give_data(struct rig *g, uint64_t id, uint32_t offset, uint32_t len, uint32_t total)
{
    give(g,
         (struct smt_homa_pkt){.type = SMT_HOMA_DATA,
                               .sender_id = id,
                               .message_len = total,
                               .incoming = total,
                               .offset = offset,
                               .cutoff_version = 1},
         message + offset, len);
}

/* How many packets of a type left, and the i-th. */
static const struct out *out_of(const struct rig *g, uint8_t type, unsigned i)
{
    for (unsigned k = 0; k < g->n_out; k++)
        if (g->out[k].p.type == type && i-- == 0)
            return &g->out[k];
    return NULL;
}

static unsigned n_of(const struct rig *g, uint8_t type)
{
    unsigned n = 0;
    while (out_of(g, type, n) != NULL)
        n++;
    return n;
}

static const struct smt_engine_event *event_of(const struct rig *g, enum smt_engine_event_type type)
{
    for (unsigned i = 0; i < g->n_events; i++)
        if (g->events[i].type == type)
            return &g->events[i];
    return NULL;
}

static uint64_t counter(const struct rig *g, const char *name)
{
    struct smt_engine_counter all[256];
    unsigned n = smt_engine_counters(g->e, all, 256);
    for (unsigned i = 0; i < n; i++)
        if (strcmp(all[i].name, name) == 0)
            return all[i].value;
    fail_msg("no counter %s", name);
    return 0;
}

/* A call of ours of `len` bytes; its id on the wire at *id. */
static struct smt_conn *call(struct rig *g, uint32_t len, uint64_t *id)
{
    struct smt_conn *c;
    assert_int_equal(smt_conn_open(g->e, g->now, &g->peer, &c), 0);
    const struct smt_post_iov iov = {message, len};
    const struct smt_post post = {.iov = &iov, .n_iov = 1};
    assert_int_equal(smt_conn_post(c, &post, NULL), 0);
    run(g);
    assert_non_null(event_of(g, SMT_EE_UP));
    assert_true(n_of(g, SMT_HOMA_DATA) > 0);
    *id = out_of(g, SMT_HOMA_DATA, 0)->p.sender_id;
    assert_int_equal(*id & 1, 0);
    return c;
}

/* A request of the peer's in one packet, answered with `len` bytes. */
static void serve(struct rig *g, uint64_t id, uint32_t len)
{
    give_data(g, id, 0, 100, 100);
    const struct smt_engine_event *ev = event_of(g, SMT_EE_REQUEST);
    assert_non_null(ev);
    assert_int_equal(ev->len, 100);
    const struct smt_post_iov iov = {message, len};
    struct smt_rpc *r = ev->rpc;
    smt_rpc_release(r);
    assert_int_equal(smt_rpc_reply(r, &iov, 1, g), 0);
    run(g);
}

static const struct {
    const char *name;
    const struct smt_homa_format *f;
} homas[] = {{"homa-main", &smt_homa_main}, {"homa-6.1", &smt_homa_6_1}};

#define FOR_EACH_HOMA(g)                                                                           \
    for (unsigned profile_i = 0; profile_i < 2; profile_i++)                                       \
        for (struct rig *g = rig_new(homas[profile_i].name, homas[profile_i].f); g != NULL;        \
             rig_free(g), g = NULL)

static void data_fills_both_offsets_and_every_packet_is_full(void **state)
{
    FOR_EACH_HOMA(g) {
        uint64_t id;
        call(g, 50000, &id);
        uint32_t unsched = g->f == &smt_homa_main ? 40000 : 10000;
        unsigned n = (unsched + M_HOMA - 1) / M_HOMA;
        assert_int_equal(n_of(g, SMT_HOMA_DATA), n);
        for (unsigned i = 0; i < n; i++) {
            const struct smt_homa_pkt *p = &out_of(g, SMT_HOMA_DATA, i)->p;
            assert_int_equal(p->place, SMT_HOMA_IN_BOTH);
            assert_int_equal(p->offset, i * M_HOMA);
            assert_int_equal(p->payload_len, M_HOMA);
            assert_int_equal(p->incoming, n * M_HOMA);
            assert_int_equal(p->message_len, 50000);
            assert_false(p->retransmit);
        }
        /* A grant that ends inside a packet lets all of it go. */
        give(g,
             (struct smt_homa_pkt){.type = SMT_HOMA_GRANT,
                                   .sender_id = id ^ 1,
                                   .offset = n * M_HOMA + 1,
                                   .prio = 3},
             NULL, 0);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 1);
        assert_int_equal(out_of(g, SMT_HOMA_DATA, 0)->p.payload_len, M_HOMA);
        assert_int_equal(out_of(g, SMT_HOMA_DATA, 0)->prio, 3);
        /* One that is beyond the message, and one that takes back. */
        give(g,
             (struct smt_homa_pkt){
                 .type = SMT_HOMA_GRANT, .sender_id = id ^ 1, .offset = UINT32_MAX, .prio = 0},
             NULL, 0);
        const struct out *last = out_of(g, SMT_HOMA_DATA, n_of(g, SMT_HOMA_DATA) - 1);
        assert_int_equal(last->p.offset + last->p.payload_len, 50000);
        give(g,
             (struct smt_homa_pkt){
                 .type = SMT_HOMA_GRANT, .sender_id = id ^ 1, .offset = 1, .prio = 0},
             NULL, 0);
        assert_int_equal(g->n_out, 0);
    }
}

static void resend_brings_whole_original_packets(void **state)
{
    FOR_EACH_HOMA(g) {
        uint64_t id;
        call(g, 8000, &id);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 6);
        struct smt_homa_pkt ask = {.type = SMT_HOMA_RESEND,
                                   .sender_id = id ^ 1,
                                   .offset = M_HOMA + 10,
                                   .length = M_HOMA,
                                   .prio = 6};
        give(g, ask, NULL, 0);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 2);
        for (unsigned i = 0; i < 2; i++) {
            const struct out *o = out_of(g, SMT_HOMA_DATA, i);
            assert_int_equal(o->p.offset, (i + 1) * M_HOMA);
            assert_int_equal(o->p.payload_len, M_HOMA);
            assert_true(o->p.retransmit);
            assert_true(o->p.incoming >= o->p.offset + M_HOMA && o->p.incoming <= 8000);
            assert_int_equal(o->prio, 6);
        }
        /* All; the first packet, as who does not know "all" asks; nothing: a question. */
        ask.offset = 0;
        ask.length = SMT_HOMA_RESEND_ALL;
        give(g, ask, NULL, 0);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 6);
        ask.length = SMT_HOMA_RESEND_FIRST;
        give(g, ask, NULL, 0);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 1);
        ask.length = 0;
        give(g, ask, NULL, 0);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 0);
        assert_int_equal(n_of(g, SMT_HOMA_BUSY), 1);
        /* An end beyond 32 bits is no end before the start. */
        ask.offset = 2 * M_HOMA;
        ask.length = UINT32_MAX - 1;
        give(g, ask, NULL, 0);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 4);
    }
}

static void silence_is_asked_about_as_the_format_can(void **state)
{
    FOR_EACH_HOMA(g) {
        uint64_t id;
        call(g, 100, &id);
        sleep_ms(g, 12);
        assert_int_equal(n_of(g, SMT_HOMA_RESEND), 1);
        const struct smt_homa_pkt *p = &out_of(g, SMT_HOMA_RESEND, 0)->p;
        assert_int_equal(p->offset, 0);
        assert_int_equal(p->length, g->f->resend_all ? SMT_HOMA_RESEND_ALL : 100);
        assert_int_equal(p->sender_id, id);
        /* Part of the response: the gaps, whoever asks for the state of things. */
        give_data(g, id ^ 1, 0, M_HOMA, 3 * M_HOMA);
        give_data(g, id ^ 1, 2 * M_HOMA, M_HOMA, 3 * M_HOMA);
        give_control(g, SMT_HOMA_NEED_ACK, id ^ 1);
        assert_int_equal(n_of(g, SMT_HOMA_ACK), 0);
        assert_int_equal(n_of(g, SMT_HOMA_RESEND), 1);
        assert_int_equal(out_of(g, SMT_HOMA_RESEND, 0)->p.offset, M_HOMA);
        assert_int_equal(out_of(g, SMT_HOMA_RESEND, 0)->p.length, M_HOMA);
        give_data(g, id ^ 1, M_HOMA, M_HOMA, 3 * M_HOMA);
        const struct smt_engine_event *ev = event_of(g, SMT_EE_RESPONSE);
        assert_non_null(ev);
        assert_memory_equal(ev->data, message, 3 * M_HOMA);
        smt_rpc_release(ev->rpc);
        /* The ack comes by itself, and when it is asked for. */
        sleep_ms(g, 1);
        assert_int_equal(n_of(g, SMT_HOMA_ACK), 1);
        assert_int_equal(out_of(g, SMT_HOMA_ACK, 0)->p.sender_id, id);
        give_control(g, SMT_HOMA_NEED_ACK, id ^ 1);
        assert_int_equal(n_of(g, SMT_HOMA_ACK), 1);
        assert_int_equal(out_of(g, SMT_HOMA_ACK, 0)->len, smt_homa_len(g->f, SMT_HOMA_ACK));
    }
}

static void offset_in_sequence_alone_is_understood(void **state)
{
    FOR_EACH_HOMA(g) {
        struct smt_homa_pkt p = {.type = SMT_HOMA_DATA,
                                 .sender_id = CLIENT_ID,
                                 .message_len = 2000,
                                 .incoming = 2000,
                                 .offset = 1424,
                                 .place = SMT_HOMA_IN_SEQUENCE};
        give(g, p, message + 1424, 576);
        assert_null(event_of(g, SMT_EE_REQUEST));
        p.offset = 0;
        give(g, p, message, 1424);
        const struct smt_engine_event *ev = event_of(g, SMT_EE_REQUEST);
        assert_non_null(ev);
        assert_int_equal(ev->len, 2000);
        assert_memory_equal(ev->data, message, 2000);
    }
}

static void a_request_runs_once_while_its_client_speaks(void **state)
{
    FOR_EACH_HOMA(g) {
        serve(g, CLIENT_ID, 300);
        assert_int_equal(n_of(g, SMT_HOMA_DATA), 1);
        assert_int_equal(out_of(g, SMT_HOMA_DATA, 0)->p.sender_id, CLIENT_ID + 1);
        give_data(g, CLIENT_ID, 0, 100, 100);
        assert_null(event_of(g, SMT_EE_REQUEST));
        give_control(g, SMT_HOMA_ACK, CLIENT_ID);
        assert_non_null(event_of(g, SMT_EE_SENT));
        give_data(g, CLIENT_ID, 0, 100, 100);
        assert_null(event_of(g, SMT_EE_REQUEST));
        assert_int_equal(counter(g, "drop_finished"), 1);
        /* A kernel that was loaded anew begins its ids anew. */
        sleep_ms(g, 3000);
        give_data(g, CLIENT_ID, 0, 100, 100);
        assert_non_null(event_of(g, SMT_EE_REQUEST));
    }
}

static void responses_are_kept_until_they_are_acknowledged(void **state)
{
    FOR_EACH_HOMA(g) {
        serve(g, CLIENT_ID, 300);
        sleep_ms(g, 12);
        assert_int_equal(n_of(g, SMT_HOMA_NEED_ACK), 1);
        serve(g, CLIENT_ID + 2, 300);
        serve(g, CLIENT_ID + 4, 300);
        /* One ACK for all: its own and a list, which says more than there is. */
        struct smt_homa_pkt p = {.type = SMT_HOMA_ACK, .sender_id = CLIENT_ID, .n_acks = 2};
        for (unsigned i = 0; i < 2; i++)
            p.acks[i] = (struct smt_homa_ack){.client_id = CLIENT_ID + 2 + 2 * i,
                                              .client_port = PEER_PORT,
                                              .server_port = OUR_PORT};
        uint8_t bytes[SMT_HOMA_MAX_HDR_LEN];
        p.sport = PEER_PORT;
        p.dport = OUR_PORT;
        size_t len = smt_homa_encode(g->f, &p, bytes);
        smt_put_be16(bytes + 28, 500);
        give_bytes(g, bytes, len);
        unsigned n = 0;
        for (unsigned i = 0; i < g->n_events; i++)
            n += g->events[i].type == SMT_EE_SENT;
        assert_int_equal(n, 3);
        /* Of another server's socket: not ours. */
        serve(g, CLIENT_ID + 6, 300);
        p.sender_id = CLIENT_ID + 100;
        p.n_acks = 1;
        p.acks[0] = (struct smt_homa_ack){
            .client_id = CLIENT_ID + 6, .client_port = PEER_PORT, .server_port = OUR_PORT + 1};
        give(g, p, NULL, 0);
        assert_null(event_of(g, SMT_EE_SENT));
    }
}

static void who_is_not_known_is_told(void **state)
{
    FOR_EACH_HOMA(g) {
        give_control(g, SMT_HOMA_RESEND, 77);
        assert_int_equal(n_of(g, SMT_HOMA_UNKNOWN), 1);
        const struct smt_homa_pkt *p = &out_of(g, SMT_HOMA_UNKNOWN, 0)->p;
        assert_int_equal(p->sender_id, 76);
        assert_int_equal(p->sport, OUR_PORT);
        assert_int_equal(p->dport, PEER_PORT);
        give_control(g, SMT_HOMA_NEED_ACK, 77);
        assert_int_equal(n_of(g, SMT_HOMA_ACK), 1);
        give_control(g, SMT_HOMA_GRANT, 77);
        give_control(g, SMT_HOMA_BUSY, 77);
        give_control(g, SMT_HOMA_FREEZE, 77);
        assert_int_equal(g->n_out, 0);
    }
}

static void unknown_begins_a_call_anew_but_not_for_ever(void **state)
{
    FOR_EACH_HOMA(g) {
        uint64_t id;
        call(g, 3000, &id);
        unsigned n = 0;
        for (; n < 20; n++) {
            give_control(g, SMT_HOMA_UNKNOWN, id ^ 1);
            if (event_of(g, SMT_EE_FAILED) != NULL)
                break;
            assert_int_equal(n_of(g, SMT_HOMA_DATA), 3);
        }
        assert_int_equal(n, 8);
        assert_int_equal(event_of(g, SMT_EE_FAILED)->error, SMT_EMAYBE);
    }
}

static void cutoffs_go_both_ways(void **state)
{
    FOR_EACH_HOMA(g) {
        struct smt_homa_pkt p = {.type = SMT_HOMA_DATA,
                                 .sender_id = CLIENT_ID,
                                 .message_len = 3000,
                                 .incoming = 3000,
                                 .cutoff_version = 9};
        give(g, p, message, 100);
        assert_int_equal(n_of(g, SMT_HOMA_CUTOFFS), 1);
        assert_true(out_of(g, SMT_HOMA_CUTOFFS, 0)->p.cutoff_version > 0);
        p.offset = 100;
        give(g, p, message + 100, 100);
        assert_int_equal(n_of(g, SMT_HOMA_CUTOFFS), 0);
        /* Theirs count though the RPC is unknown. */
        struct smt_homa_pkt told = {
            .type = SMT_HOMA_CUTOFFS, .sender_id = 400, .cutoff_version = 77};
        told.cutoffs[5] = 1000000;
        told.cutoffs[7] = 200;
        give(g, told, NULL, 0);
        p = (struct smt_homa_pkt){.type = SMT_HOMA_DATA,
                                  .sender_id = CLIENT_ID + 2,
                                  .message_len = 10,
                                  .incoming = 10,
                                  .cutoff_version = 1};
        give(g, p, message, 10);
        struct smt_rpc *r = event_of(g, SMT_EE_REQUEST)->rpc;
        const struct smt_post_iov iov = {message, 150};
        smt_rpc_release(r);
        assert_int_equal(smt_rpc_reply(r, &iov, 1, NULL), 0);
        run(g);
        assert_int_equal(out_of(g, SMT_HOMA_DATA, 0)->p.cutoff_version, 77);
        assert_int_equal(out_of(g, SMT_HOMA_DATA, 0)->prio, 7);
        serve(g, CLIENT_ID + 4, 5000);
        assert_int_equal(out_of(g, SMT_HOMA_DATA, 0)->prio, 5);
    }
}

/* ---- smt1 ---- */

/* What the kernel sends of a message: records of up to six packets. */
struct slices {
    unsigned n;
    struct slice {
        uint32_t offset, len;
        uint16_t number;
        uint8_t bytes[MTU];
    } at[800];
};

static void message_seal(struct slices *s, uint64_t id, uint32_t len, bool client)
{
    struct smt_smt1_geom geom;
    assert_int_equal(smt_smt1_geom_init(&geom, MTU + 20, SMT_SMT1_DEFAULT_GSO), 0);
    void *ctx = aligned_alloc(64, (keys.aead->ctx_len + 63) / 64 * 64);
    assert_int_equal(keys.aead->init(ctx, keys.end[client ? 0 : 1].key), 0);
    uint8_t *record = calloc(1, SMT_SMT1_MAX_RECORD);
    s->n = 0;
    for (uint32_t k = 0; k < smt_smt1_n_records(&geom, len); k++) {
        struct smt_smt1_record r;
        smt_smt1_record_cut(&geom, len, k, &r);
        uint64_t number = smt_smt1_record_no(id, k);
        uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
        smt_smt1_head_encode(record, number, r.plain_len);
        for (uint32_t i = 0; i < r.n_segments; i++) {
            uint32_t data_at, data_len, plain_at;
            smt_smt1_segment_at(&geom, &r, i, &data_at, &data_len, &plain_at);
            const struct smt_smt1_segment seg = {.offset = r.offset + data_at, .len = data_len};
            smt_smt1_segment_encode(&seg, plain + plain_at);
            memcpy(plain + plain_at + SMT_SMT1_SEGMENT_LEN, message + seg.offset, data_len);
        }
        uint8_t aad[SMT_AAD_LEN], nonce[12];
        smt_record_aad(aad, number, r.plain_len);
        smt_record_nonce(nonce, keys.end[client ? 0 : 1].salt, number);
        const struct smt_aead_in in = {plain, r.plain_len};
        assert_int_equal(keys.aead->seal(ctx, nonce, aad, sizeof(aad), &in, 1, plain,
                                         plain + r.plain_len),
                         0);
        for (uint32_t i = 0; i < r.n_packets; i++) {
            struct slice *x = &s->at[s->n++];
            x->offset = r.offset;
            x->number = (uint16_t)i;
            x->len = smt_smt1_slice_len(&geom, &r, i);
            memcpy(x->bytes, record + (size_t)i * geom.slice_len, x->len);
        }
    }
    keys.aead->fini(ctx);
    free(ctx);
    free(record);
}

/* `by_index`: sent again alone, the number in the header instead of the IPv4 identification. */
static void slice_give(struct rig *g, const struct slice *x, uint64_t id, uint32_t total,
                       bool by_index)
{
    struct smt_homa_pkt p = {.type = SMT_HOMA_DATA,
                             .sender_id = id,
                             .message_len = total,
                             .incoming = total,
                             .offset = x->offset,
                             .cutoff_version = 1,
                             .retransmit = by_index,
                             .index = (uint8_t)(by_index ? x->number : 0)};
    g->ip_id = by_index ? 0 : x->number;
    give(g, p, x->bytes, x->len);
}

static void records_of_the_kernel_open_in_any_order(void **state)
{
    static struct slices s;
    static const uint32_t lens[] = {1, 1391, 1392, 1407, 1408, 8491, 8492, 8520, 10000, 100000,
                                    1000000};
    for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        for (unsigned order = 0; order < 3; order++) {
            struct rig *g = rig_new("smt1", &smt_homa_smt1);
            message_seal(&s, CLIENT_ID, lens[i], true);
            /* Packet 0 first: it tells how long the others of a record are. */
            for (unsigned k = 0; k < s.n; k++) {
                unsigned at = k;
                if (order == 1 && k > 0)
                    at = s.n - k;
                slice_give(g, &s.at[at], CLIENT_ID, lens[i], order == 2);
                if (k + 1 < s.n)
                    assert_null(event_of(g, SMT_EE_REQUEST));
            }
            const struct smt_engine_event *ev = event_of(g, SMT_EE_REQUEST);
            if (ev == NULL)
                fail_msg("%u bytes, order %u: no request", lens[i], order);
            assert_int_equal(ev->len, lens[i]);
            assert_memory_equal(ev->data, message, lens[i]);
            rig_free(g);
        }
    }
}

static void a_forged_packet_costs_a_resend(void **state)
{
    static struct slices s;
    struct rig *g = rig_new("smt1", &smt_homa_smt1);
    message_seal(&s, CLIENT_ID, 10000, true);
    struct slice forged = s.at[3];
    forged.bytes[100] ^= 1;
    for (unsigned k = 0; k < s.n; k++)
        slice_give(g, k == 3 ? &forged : &s.at[k], CLIENT_ID, 10000, false);
    assert_null(event_of(g, SMT_EE_REQUEST));
    assert_int_equal(counter(g, "drop_auth"), 1);
    sleep_ms(g, 12);
    assert_int_equal(n_of(g, SMT_HOMA_RESEND), 1);
    assert_int_equal(out_of(g, SMT_HOMA_RESEND, 0)->p.offset, 0);
    assert_int_equal(out_of(g, SMT_HOMA_RESEND, 0)->p.length, 8491);
    for (unsigned k = 0; k < 6; k++)
        slice_give(g, &s.at[k], CLIENT_ID, 10000, true);
    assert_non_null(event_of(g, SMT_EE_REQUEST));
    assert_memory_equal(event_of(g, SMT_EE_REQUEST)->data, message, 10000);
    rig_free(g);
}

static void what_was_opened_once_is_not_served_again(void **state)
{
    static struct slices s;
    struct rig *g = rig_new("smt1", &smt_homa_smt1);
    message_seal(&s, CLIENT_ID, 100, true);
    slice_give(g, &s.at[0], CLIENT_ID, 100, false);
    struct smt_rpc *r = event_of(g, SMT_EE_REQUEST)->rpc;
    const struct smt_post_iov iov = {message, 100};
    smt_rpc_release(r);
    assert_int_equal(smt_rpc_reply(r, &iov, 1, NULL), 0);
    run(g);
    give_control(g, SMT_HOMA_ACK, CLIENT_ID);
    sleep_ms(g, 10000);
    message_seal(&s, CLIENT_ID, 100, true);
    slice_give(g, &s.at[0], CLIENT_ID, 100, false);
    assert_null(event_of(g, SMT_EE_REQUEST));
    /* The same nonces under another id. */
    slice_give(g, &s.at[0], CLIENT_ID + (1ull << 49), 100, false);
    assert_null(event_of(g, SMT_EE_REQUEST));
    assert_int_equal(counter(g, "drop_hint"), 1);
    rig_free(g);
}

static void nothing_unproven_is_served_or_remembered(void **state)
{
    static struct slices s;
    struct rig *g = rig_new("smt1", &smt_homa_smt1);
    message_seal(&s, CLIENT_ID, 100, true);
    struct slice forged = s.at[0];
    forged.bytes[40] ^= 1;
    slice_give(g, &forged, CLIENT_ID, 100, false);
    assert_int_equal(g->n_events, 0);
    /* 15 more strangers; the 17th is not listened to until one has gone. */
    for (unsigned i = 0; i < 20; i++) {
        g->peer.ip[15] = (uint8_t)(10 + i);
        forged = s.at[0];
        forged.bytes[40] ^= 1;
        slice_give(g, &forged, CLIENT_ID, 100, false);
        assert_int_equal(g->n_events, 0);
    }
    assert_int_equal(counter(g, "conns_accepted"), 16);
    sleep_ms(g, 6000);
    g->peer.ip[15] = 2;
    slice_give(g, &s.at[0], CLIENT_ID, 100, false);
    assert_non_null(event_of(g, SMT_EE_REQUEST));
    rig_free(g);
}

/* The kernel's sender forgets the last record of some lengths: the reference's C1. */
static void a_forgotten_tail_is_asked_for_at_once(void **state)
{
    static struct slices s;
    struct rig *g = rig_new("smt1", &smt_homa_smt1);
    message_seal(&s, CLIENT_ID, 8500, true);
    for (unsigned k = 0; k < 6; k++)
        slice_give(g, &s.at[k], CLIENT_ID, 8500, false);
    assert_int_equal(n_of(g, SMT_HOMA_RESEND), 1);
    assert_int_equal(out_of(g, SMT_HOMA_RESEND, 0)->p.offset, 8491);
    assert_int_equal(out_of(g, SMT_HOMA_RESEND, 0)->p.length, 9);
    slice_give(g, &s.at[6], CLIENT_ID, 8500, true);
    assert_non_null(event_of(g, SMT_EE_REQUEST));
    rig_free(g);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(message); i++)
        message[i] = (uint8_t)(i * 131 + (i >> 8));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_fills_both_offsets_and_every_packet_is_full),
        cmocka_unit_test(resend_brings_whole_original_packets),
        cmocka_unit_test(silence_is_asked_about_as_the_format_can),
        cmocka_unit_test(offset_in_sequence_alone_is_understood),
        cmocka_unit_test(a_request_runs_once_while_its_client_speaks),
        cmocka_unit_test(responses_are_kept_until_they_are_acknowledged),
        cmocka_unit_test(who_is_not_known_is_told),
        cmocka_unit_test(unknown_begins_a_call_anew_but_not_for_ever),
        cmocka_unit_test(cutoffs_go_both_ways),
        cmocka_unit_test(records_of_the_kernel_open_in_any_order),
        cmocka_unit_test(a_forged_packet_costs_a_resend),
        cmocka_unit_test(what_was_opened_once_is_not_served_again),
        cmocka_unit_test(nothing_unproven_is_served_or_remembered),
        cmocka_unit_test(a_forgotten_tail_is_asked_for_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
