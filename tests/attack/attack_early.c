/* Attacks on early data: replayed, delayed, damaged and lost first flights, ends of which one does
 * not want them, and what must never go early. */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "api/api.h"
#include "checking_aead.h"
#include "core/state.h"
#include "hs/creds.h"
#include "wire/wire.h"

enum { KEPT = 16, BOTH = 3 };

static bool is_kind(const struct rig_packet *p, uint8_t kind)
{
    return p->len >= SMT_MIN_HDR_LEN && p->data[13] == kind;
}

/* What the hook does with packets, and what it has seen. */
struct watch {
    struct rig_packet kept[KEPT]; /* the client's until it hears of the server: hello and EARLY */
    unsigned n_kept, n_early, n_answers; /* DATA of the server before the client's next */
    bool keep, heard;
    unsigned lose_early, lose_hello, damage_early; /* so many of them */
    bool twice, mute; /* EARLY doubled; nothing of the client after its first flight */
    bool no_finished; /* nothing of its TLS after that */
    bool lose_answers, damage_answers; /* all that the server says; its TLS */
};

static bool first_flight(struct rig *rig, struct watch *w, struct rig_packet *p)
{
    bool early = is_kind(p, SMT_KIND_EARLY);
    w->n_early += early;
    if (w->keep && w->n_kept < KEPT)
        w->kept[w->n_kept++] = *p;
    if (early && w->damage_early > 0) {
        w->damage_early--;
        p->data[p->len - 1 - smt_prng_below(&rig->rng, p->len - SMT_DATA_HDR_LEN)] ^= 0x20;
    }
    if (early && w->twice)
        rig_inject(rig, &p->from, &p->to, p->data, p->len);
    unsigned *lose = early ? &w->lose_early : &w->lose_hello;
    if (*lose > 0) {
        --*lose;
        return false;
    }
    return true;
}

static bool look(struct rig *rig, struct rig_packet *p)
{
    struct watch *w = rig->arg;
    bool from_client = smt_addr_equal(&p->from, &rig->ends[0].addr);
    if (!from_client) {
        w->n_answers += !w->heard && is_kind(p, SMT_KIND_DATA);
        if (w->damage_answers && is_kind(p, SMT_KIND_HANDSHAKE) && p->len > 200)
            p->data[p->len - 50] ^= 0x20;
        return !w->lose_answers && !(w->damage_answers && is_kind(p, SMT_KIND_DATA));
    }
    bool first = is_kind(p, SMT_KIND_EARLY) ||
                 (is_kind(p, SMT_KIND_HANDSHAKE) && smt_get_be64(p->data + 20) == 0);
    if (first)
        return first_flight(rig, w, p);
    w->heard = w->heard || is_kind(p, SMT_KIND_HANDSHAKE);
    return !w->mute && !(w->no_finished && is_kind(p, SMT_KIND_HANDSHAKE));
}

static void rig_open_watched(struct rig *rig, struct watch *w, unsigned ends, uint64_t timeout)
{
    *w = (struct watch){0};
    rig_open_early(rig, ends, timeout);
    rig->hook = look;
    rig->arg = w;
}

/* A session with its ticket, however that was had. */
static struct smt_session *meet(struct rig *rig)
{
    struct smt_session *s;
    assert_true(rig_connect(rig, 0, 1, 5 * SMT_SEC, &s));
    rig_call(rig, 0, s, 100);
    for (unsigned i = 0; i < 4; i++)
        rig_pump(rig);
    return s;
}

static uint8_t bytes[8192];

/* Begins a session and calls at once. */
static struct smt_session *dial(struct rig *rig, unsigned n_calls, size_t len, unsigned flags)
{
    struct watch *w = rig->arg;
    struct smt_session *s;
    struct smt_iov iov = {bytes, len};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1, .flags = flags};
    w->heard = false;
    w->n_early = w->n_answers = 0;
    assert_int_equal(smt_connect(rig->ends[0].ep, rig->ends[1].name, NULL, SMT_NEW_SESSION, &s), 0);
    for (unsigned i = 0; i < n_calls; i++)
        assert_int_equal(smt_call(s, &args, NULL), 0);
    return s;
}

/* Each of so many calls must be answered, and run once. */
static void answered(struct rig *rig, unsigned n_calls, unsigned responses, unsigned requests)
{
    uint64_t until = rig_now + 10 * SMT_SEC;
    while (rig->ends[0].n_responses < responses + n_calls) {
        rig_pump(rig);
        if (rig_now > until)
            fail_msg("%u of %u answers, failed %u, error %d", rig->ends[0].n_responses - responses,
                     n_calls, rig->ends[0].n_failed, rig->ends[0].error);
    }
    for (unsigned i = 0; i < 20; i++)
        rig_pump(rig);
    assert_int_equal(rig->ends[1].n_requests, requests + n_calls);
    assert_int_equal(rig->ends[0].n_responses, responses + n_calls);
}

static struct smt_session *dial_answered(struct rig *rig, unsigned n_calls, size_t len,
                                         unsigned flags)
{
    unsigned responses = rig->ends[0].n_responses, requests = rig->ends[1].n_requests;
    struct smt_session *s = dial(rig, n_calls, len, flags);
    answered(rig, n_calls, responses, requests);
    return s;
}

static void pump_for(struct rig *rig, uint64_t ns)
{
    uint64_t until = rig_now + ns;
    while (rig_now < until)
        rig_pump(rig);
}

/* The answer comes with the server's first flight, on a session that stays. */
static void an_answer_in_one_round_trip(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, 5 * SMT_SEC);
    meet(&rig);
    for (unsigned i = 1; i <= 5; i++) {
        struct smt_session *s = dial_answered(&rig, 1, 100, SMT_IDEMPOTENT);
        assert_int_equal(w.n_early, 1);
        assert_int_equal(w.n_answers, 1);
        rig_call(&rig, 0, s, 100);
        rig_call(&rig, 0, s, 50000);
        assert_int_equal(rig_counter(&rig, 0, "early_sent"), i);
        assert_int_equal(rig_counter(&rig, 1, "early_taken"), i);
        assert_int_equal(rig_counter(&rig, 0, "handshakes_resumed"), i);
    }
    assert_int_equal(rig_counter(&rig, 0, "early_refused"), 0);
    assert_int_equal(rig_counter(&rig, 1, "drop_early"), 0);
    assert_int_equal(rig.ends[1].n_up, 6);
    pump_for(&rig, 1200 * SMT_MSEC); /* what waits for more of TLS is over */
    assert_int_equal(rig.ends[0].n_down + rig.ends[1].n_down, 0);
    rig_close(&rig);
}

/* Neither end does it unless both want it. Calls wait for the handshake then, and come behind the
 * Finished: the server keeps them for the moment that it needs. */
static void off_unless_both_want_it(void **state)
{
    (void)state;
    for (unsigned ends = 0; ends < BOTH; ends++) {
        struct rig rig;
        struct watch w;
        rig_open_watched(&rig, &w, ends, 5 * SMT_SEC);
        dial_answered(&rig, 3, 100, 0);
        meet(&rig);
        for (unsigned i = 0; i < 2; i++) {
            dial_answered(&rig, 1, 100, SMT_IDEMPOTENT);
            assert_int_equal(w.n_early, 0);
            assert_int_equal(w.n_answers, 0);
        }
        assert_int_equal(rig_counter(&rig, 0, "handshakes_resumed"), 3);
        assert_int_equal(rig_counter(&rig, 1, "unknown_sent"), 0);
        assert_int_equal(rig_counter(&rig, 1, "drop_no_keys"), 0);
        rig_close(&rig);
    }
}

/* What is not marked idempotent, what is longer than a packet, and what is more than a few. */
static void what_never_goes_early(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, 5 * SMT_SEC);
    meet(&rig);
    dial_answered(&rig, 3, 100, 0);
    assert_int_equal(w.n_early, 0);
    dial_answered(&rig, 2, 3000, SMT_IDEMPOTENT);
    assert_int_equal(w.n_early, 0);
    dial_answered(&rig, 1, 0, SMT_IDEMPOTENT);
    assert_int_equal(w.n_early, 0);
    dial_answered(&rig, 40, 100, SMT_IDEMPOTENT);
    assert_int_equal(w.n_early, 4);
    assert_int_equal(rig_counter(&rig, 1, "early_taken"), 4);
    rig_close(&rig);
}

/* Refused: the ticket does not open any more; the server cannot tell whether it has seen the hello.
 * Calls go again under the session's keys, each runs once. */
static void refused_without_loss(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, 5 * SMT_SEC);
    meet(&rig);
    assert_int_equal(smt_ctx_reload(rig.ends[1].ctx), 0);
    dial_answered(&rig, 3, 100, SMT_IDEMPOTENT);
    assert_int_equal(w.n_early, 3);
    assert_int_equal(rig_counter(&rig, 0, "early_refused"), 1);
    assert_int_equal(rig_counter(&rig, 1, "drop_early"), 3);
    assert_int_equal(rig_counter(&rig, 0, "handshakes_resumed"), 0);

    static const uint8_t other[SMT_EARLY_RANDOM_LEN] = "of a later time";
    assert_true(smt_early_seen_add(rig.ends[1].ctx->creds->early_seen, INT64_MAX / 2, other));
    dial_answered(&rig, 3, 100, SMT_IDEMPOTENT);
    assert_int_equal(rig_counter(&rig, 0, "early_refused"), 2);
    assert_int_equal(rig_counter(&rig, 0, "handshakes_resumed"), 1);
    assert_int_equal(rig_counter(&rig, 1, "early_taken"), 0);
    assert_int_equal(rig_counter(&rig, 1, "unknown_sent"), 0); /* nobody had to ask for them */
    assert_int_equal(rig.ends[0].n_failed, 0);
    rig_close(&rig);
}

/* The first flight once more, and again: while its session lives, after it, and after the server
 * has new keys. Nothing runs twice and no session arises. */
static void a_replayed_first_flight(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, SMT_SEC);
    meet(&rig);
    w.keep = true;
    struct smt_session *s = dial_answered(&rig, 2, 100, SMT_IDEMPOTENT);
    w.keep = false;
    assert_true(w.n_kept >= 3);
    unsigned n_requests = rig.ends[1].n_requests, n_up = rig.ends[1].n_up;
    for (unsigned turn = 0; turn < 3; turn++) {
        if (turn == 1) {
            assert_int_equal(smt_session_close(s), 0);
            pump_for(&rig, 20 * SMT_MSEC);
        }
        if (turn == 2)
            assert_int_equal(smt_ctx_reload(rig.ends[1].ctx), 0);
        for (unsigned from = 0; from < 3; from += 2) {
            for (unsigned i = 0; i < w.n_kept; i++) {
                const struct rig_packet *p = &w.kept[i];
                rig_inject(&rig, &rig.ends[from].addr, &p->to, p->data, p->len);
            }
            pump_for(&rig, turn == 0 ? 50 * SMT_MSEC : 1200 * SMT_MSEC);
        }
    }
    assert_int_equal(rig_counter(&rig, 1, "early_taken"), 2);
    assert_int_equal(rig.ends[1].n_requests, n_requests);
    assert_int_equal(rig.ends[1].n_up, n_up);
    dial_answered(&rig, 1, 100, SMT_IDEMPOTENT);
    rig_close(&rig);
}

/* Somebody keeps the client's flight back and lets it through instead of the client: it runs, for
 * it is the client's; but its session comes to nothing, and it runs no second time. */
static void a_first_flight_without_its_client(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, SMT_SEC);
    meet(&rig);
    unsigned n_requests = rig.ends[1].n_requests, n_down = rig.ends[1].n_down;
    w.keep = w.mute = true;
    struct smt_session *s = dial(&rig, 1, 100, SMT_IDEMPOTENT);
    pump_for(&rig, 50 * SMT_MSEC);
    w.keep = false;
    assert_int_equal(rig.ends[1].n_requests, n_requests + 1);
    /* After a second; a machine with much to do takes longer. */
    for (unsigned i = 0; i < 10 && rig.ends[1].n_down == n_down; i++)
        pump_for(&rig, 500 * SMT_MSEC);
    assert_int_equal(rig.ends[1].n_down, n_down + 1);
    for (unsigned i = 0; i < w.n_kept; i++)
        rig_inject(&rig, &rig.ends[0].addr, &w.kept[i].to, w.kept[i].data, w.kept[i].len);
    pump_for(&rig, 50 * SMT_MSEC);
    assert_int_equal(rig.ends[1].n_requests, n_requests + 1);
    (void)s;
    w.mute = false;
    dial_answered(&rig, 1, 100, SMT_IDEMPOTENT);
    rig_close(&rig);
}

/* The server has run it, and the session never comes up: that is what the call is told, and the
 * session why. A call that had to wait for the session has certainly not been run. */
static void an_early_call_without_a_session(void **state)
{
    (void)state;
    for (unsigned turn = 0; turn < 4; turn++) {
        struct rig rig;
        struct watch w;
        bool is_early = turn < 2;
        rig_open_watched(&rig, &w, BOTH, SMT_SEC);
        meet(&rig);
        unsigned n_requests = rig.ends[1].n_requests;
        w.lose_answers = turn % 2 == 0;
        w.damage_answers = turn % 2 == 1;
        (void)dial(&rig, 1, 100, is_early ? SMT_IDEMPOTENT : 0);
        for (unsigned i = 0; i < 100 && rig.ends[0].n_down == 0; i++)
            pump_for(&rig, 100 * SMT_MSEC);
        assert_int_equal(rig.ends[0].n_down, 1);
        assert_int_equal(rig.ends[0].n_failed, 1);
        assert_int_equal(rig.ends[0].n_responses, 1);
        assert_true(rig.ends[0].error < 0 && rig.ends[0].error != SMT_EMAYBE);
        assert_int_equal(rig.ends[0].call_error, is_early ? SMT_EMAYBE : rig.ends[0].error);
        assert_int_equal(rig.ends[1].n_requests > n_requests, is_early);
        rig_close(&rig);
    }
}

/* Lost, damaged, doubled on the way: it costs time. */
static void trouble_on_the_way(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, 5 * SMT_SEC);
    meet(&rig);
    for (unsigned turn = 0; turn < 5; turn++) {
        w.lose_early = turn == 0 ? 2 : 0;
        w.lose_hello = turn == 1 ? 1 : 0;
        w.damage_early = turn == 2 ? 2 : 0;
        w.twice = turn == 3;
        struct smt_session *s = dial_answered(&rig, 2, 700, SMT_IDEMPOTENT);
        rig_call(&rig, 0, s, 10000);
    }
    assert_true(rig_counter(&rig, 1, "drop_auth") >= 2);
    assert_int_equal(rig.ends[0].n_down + rig.ends[0].n_failed, 0);
    rig_close(&rig);
}

/* The client's Finished does not come through for a while, longer than it would wait for a ticket,
 * while calls do: the server has it in the end. */
static void a_finished_that_is_late(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, 3 * SMT_SEC);
    meet(&rig);
    w.no_finished = true;
    struct smt_session *s = dial_answered(&rig, 1, 100, SMT_IDEMPOTENT);
    rig_call(&rig, 0, s, 5000);
    pump_for(&rig, 1200 * SMT_MSEC);
    rig_call(&rig, 0, s, 5000);
    w.no_finished = false;
    pump_for(&rig, 2200 * SMT_MSEC);
    rig_call(&rig, 0, s, 5000);
    assert_int_equal(rig.ends[0].n_down + rig.ends[1].n_down, 0);
    rig_close(&rig);
}

/* Somebody answers in the client's place with noise, before its Finished: the session is not his to
 * end. */
static bool noise_behind(struct rig *rig, struct rig_packet *p)
{
    if (!look(rig, p))
        return false;
    bool second = is_kind(p, SMT_KIND_HANDSHAKE) &&
                  smt_addr_equal(&p->from, &rig->ends[0].addr) &&
                  smt_get_be64(p->data + 20) != 0 && smt_get_be16(p->data + 36) > 0;
    if (second) {
        struct rig_packet fake = *p;
        uint32_t at = SMT_HS_HDR_LEN + fake.data[38];
        memset(fake.data + at, 0x5a, fake.len - at);
        rig_inject(rig, &fake.from, &fake.to, fake.data, fake.len);
    }
    return true;
}

static void noise_in_place_of_the_finished(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, SMT_SEC);
    meet(&rig);
    rig.hook = noise_behind;
    struct smt_session *s = dial_answered(&rig, 2, 100, SMT_IDEMPOTENT);
    assert_int_equal(rig_counter(&rig, 1, "early_taken"), 2);
    rig_call(&rig, 0, s, 5000);
    pump_for(&rig, 1500 * SMT_MSEC);
    rig_call(&rig, 0, s, 5000);
    assert_int_equal(rig.ends[0].n_down + rig.ends[1].n_down, 0);
    rig.hook = look;
    dial_answered(&rig, 1, 100, SMT_IDEMPOTENT);
    rig_close(&rig);
}

/* Made up by others: an EARLY packet opens nothing that is not there. */
static void forged_early_packets(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, 5 * SMT_SEC);
    meet(&rig);
    w.keep = true;
    struct smt_session *s = dial_answered(&rig, 1, 100, SMT_IDEMPOTENT);
    w.keep = false;
    unsigned n_requests = rig.ends[1].n_requests;
    uint64_t dropped = rig_counter(&rig, 1, "drop_early");
    unsigned n = 0;
    for (unsigned i = 0; i < w.n_kept; i++) {
        if (!is_kind(&w.kept[i], SMT_KIND_EARLY))
            continue;
        for (unsigned at = 0; at < w.kept[i].len; at += 3) {
            struct rig_packet p = w.kept[i];
            p.data[at] ^= (uint8_t)(1 + smt_prng_below(&rig.rng, 255));
            rig_inject(&rig, &rig.ends[at % 2 == 0 ? 0 : 2].addr, &p.to, p.data, p.len);
            rig_pump(&rig);
            n++;
        }
    }
    assert_true(n > 50);
    assert_true(rig_counter(&rig, 1, "drop_early") > dropped);
    assert_int_equal(rig.ends[1].n_requests, n_requests);
    rig_call(&rig, 0, s, 100);
    rig_close(&rig);
}

/* One record under the early keys of a client whose hello has left. */
struct lie {
    uint8_t what, flags;
    uint64_t id;
    uint32_t message_len, data_len, frames_len, id_high, seal_after;
};

static void lie_send(struct rig *rig, struct smt_conn *c, const struct lie *lie)
{
    static uint32_t seal;
    uint8_t pkt[512] = {0};
    struct smt_inner inner = {
        .what = lie->what,
        .flags = lie->flags,
        .frames_len = (uint16_t)lie->frames_len,
        .message_len = lie->message_len,
        .id_high = lie->id_high + (uint32_t)(lie->id >> 32),
        .low_water = 1,
        .unsched = lie->message_len,
    };
    uint8_t *record = pkt + SMT_DATA_HDR_LEN;
    size_t head_len = smt_inner_encode(&inner, record + SMT_RECORD_HEAD_LEN);
    size_t plain_len = head_len + lie->frames_len + lie->data_len;
    uint32_t record_len = (uint32_t)(SMT_RECORD_OVERHEAD + plain_len);
    const struct smt_aead_in in = {record + SMT_RECORD_HEAD_LEN, plain_len};
    seal++;
    assert_int_equal(
        smt_keys_seal_data(&c->hs->early.keys, lie->id, seal, record, &in, 1, plain_len), 0);
    const struct smt_hdr hdr = {
        .kind = SMT_KIND_EARLY,
        .version = SMT_WIRE_VERSION,
        .sport = rig->ends[0].addr.port,
        .dport = rig->ends[1].addr.port,
        .session_id = smt_conn_id(c),
        .rpc_id = lie->id,
        .message_len = lie->message_len,
        .seal = seal + lie->seal_after,
        .record_len = (uint16_t)record_len,
        .slice_len = (uint16_t)record_len,
    };
    smt_hdr_encode(&hdr, pkt);
    rig_inject(rig, &rig->ends[0].addr, &rig->ends[1].addr, pkt, SMT_DATA_HDR_LEN + record_len);
    rig_pump(rig);
    rig_pump(rig);
}

/* A client with a ticket that seals what it should not: nothing of it runs. */
static void early_records_that_say_otherwise(void **state)
{
    (void)state;
    enum { RIGHT = SMT_INNER_EXT | SMT_INNER_IDEMPOTENT };
    static const struct lie lies[] = {
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 2, 10, 10, 0, 0, 0},
        {SMT_WHAT_ONEWAY, SMT_INNER_EXT, 2, 10, 10, 0, 0, 0},
        {SMT_WHAT_REQUEST, SMT_INNER_IDEMPOTENT, 2, 10, 10, 0, 0, 0},
        {SMT_WHAT_RESPONSE, RIGHT, 2, 10, 10, 0, 0, 0},
        {SMT_WHAT_RESPONSE, RIGHT, 2 | SMT_ID_ROLE, 10, 10, 0, 0, 0},
        {SMT_WHAT_REQUEST, RIGHT, 2 | SMT_ID_ROLE, 10, 10, 0, 0, 0},
        {SMT_WHAT_TEST, RIGHT, 2, 10, 10, 0, 0, 0},
        {0, RIGHT, 2, 10, 10, 0, 0, 0},
        {SMT_WHAT_REQUEST, RIGHT, 2, 10, 10, 9, 0, 0},
        {SMT_WHAT_REQUEST, RIGHT, 2, 11, 10, 0, 0, 0},
        {SMT_WHAT_REQUEST, RIGHT, 2, 9, 10, 0, 0, 0},
        {SMT_WHAT_REQUEST, RIGHT, 2, 0, 0, 0, 0, 0},
        {SMT_WHAT_REQUEST, RIGHT, 2, 10, 10, 0, 1, 0},
        {SMT_WHAT_REQUEST, RIGHT, 2, 10, 10, 0, 0, 1},
        {SMT_WHAT_REQUEST, RIGHT, 2, 1u << 30, 10, 0, 0, 0},
    };
    static const struct lie truth = {SMT_WHAT_REQUEST, RIGHT, 2, 10, 10, 0, 0, 0};
    struct rig rig;
    struct watch w;
    rig_open_watched(&rig, &w, BOTH, 5 * SMT_SEC);
    meet(&rig);
    w.mute = true;
    struct smt_session *s = dial(&rig, 0, 0, 0);
    rig_pump(&rig);
    unsigned n_requests = rig.ends[1].n_requests;
    uint64_t dropped = rig_counter(&rig, 1, "drop_early");
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lies); i++) {
        lie_send(&rig, s->link->conn, &lies[i]);
        assert_int_equal(rig_counter(&rig, 1, "drop_early"), dropped + i + 1);
    }
    assert_int_equal(rig.ends[1].n_requests, n_requests);
    lie_send(&rig, s->link->conn, &truth);
    lie_send(&rig, s->link->conn, &truth); /* the same call: it has run */
    assert_int_equal(rig.ends[1].n_requests, n_requests + 1);
    rig_close(&rig);
}

static bool some_lost(struct rig *rig, struct rig_packet *p)
{
    struct watch *w = rig->arg;
    w->n_early += is_kind(p, SMT_KIND_EARLY);
    return smt_prng_below(&rig->rng, 8) != 0;
}

/* Early keys and the session's, taken and refused, with loss: no number is sealed twice under one
 * key. The cipher watches. */
static void no_number_twice_over_early_data(void **state)
{
    (void)state;
    struct rig rig;
    struct watch w;
    checking_aead_reset();
    rig_open_watched(&rig, &w, BOTH, 5 * SMT_SEC);
    for (unsigned i = 0; i < RIG_ENDS; i++) {
        struct smt_ctx *ctx = rig.ends[i].ctx;
        ctx->aeads[SMT_AEAD_AES128_GCM] = checking_aead(CHECKING_AES128_GCM);
        ctx->aeads[SMT_AEAD_AES256_GCM] = checking_aead(CHECKING_AES256_GCM);
    }
    meet(&rig);
    rig.hook = some_lost;
    for (unsigned i = 0; i < 24; i++) {
        unsigned responses = rig.ends[0].n_responses;
        uint64_t until = rig_now + 10 * SMT_SEC;
        if (i % 8 == 7)
            assert_int_equal(smt_ctx_reload(rig.ends[1].ctx), 0);
        memset(bytes, (int)i, sizeof(bytes));
        struct smt_session *s = dial(&rig, 4, 300, SMT_IDEMPOTENT);
        while (rig.ends[0].n_responses < responses + 4) {
            rig_pump(&rig);
            assert_true(rig_now < until);
        }
        rig_call(&rig, 0, s, 3000);
    }
    assert_true(rig_counter(&rig, 1, "early_taken") > 20);
    assert_true(rig_counter(&rig, 0, "early_refused") >= 1);
    struct checking_aead_stats stats = checking_aead_stats();
    assert_true(stats.nonces > 300);
    assert_int_equal(stats.violations, 0);
    assert_int_equal(rig.ends[0].n_failed, 0);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_in_one_round_trip),
        cmocka_unit_test(off_unless_both_want_it),
        cmocka_unit_test(what_never_goes_early),
        cmocka_unit_test(refused_without_loss),
        cmocka_unit_test(a_replayed_first_flight),
        cmocka_unit_test(a_first_flight_without_its_client),
        cmocka_unit_test(an_early_call_without_a_session),
        cmocka_unit_test(trouble_on_the_way),
        cmocka_unit_test(a_finished_that_is_late),
        cmocka_unit_test(noise_in_place_of_the_finished),
        cmocka_unit_test(forged_early_packets),
        cmocka_unit_test(early_records_that_say_otherwise),
        cmocka_unit_test(no_number_twice_over_early_data),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
