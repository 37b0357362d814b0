/* Conformance behaviours of Homa, by number (tests/homa-items.md), that are about order: who is
 * granted how much at which priority, who sends next, which acknowledgements ride with whom. The
 * rest is in test_engine_homa_rpc.c, _rx.c and _tx.c. Each test plays the peer by hand, once as
 * initiator and once as responder. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/state.h"
#include "hand.h"

static bool hand_is_initiator;

enum { PIECE = 1000, WINDOW = 20000 };

/* Grants as they are before anything was measured: WINDOW for the best, 40 % for the others. */
static struct hand *start(uint32_t rx_window)
{
    struct hand *h = hand_new(hand_is_initiator);
    h->config.rx_window = rx_window;
    h->config.tune.window_first = WINDOW;
    h->config.tune.window_next_pct = 40;
    return h;
}

static void data(struct hand *h, uint64_t id, uint32_t len, uint32_t from, uint32_t to)
{
    for (uint32_t at = from; at < to; at += PIECE)
        hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST,
                                        .id = id,
                                        .offset = at,
                                        .len = PIECE,
                                        .message_len = len,
                                        .unsched = PIECE});
}

/* A request of which one piece comes by itself. */
static void begin(struct hand *h, uint64_t id, uint32_t len)
{
    data(h, id, len, 0, PIECE);
}

static const struct smt_frame *grant_last(const struct hand *h, uint64_t id)
{
    unsigned n = hand_n_frames(h, SMT_FRAME_GRANT, id);
    return n == 0 ? NULL : hand_frame_n(h, SMT_FRAME_GRANT, id, n - 1);
}

static uint32_t granted(const struct hand *h, uint64_t id)
{
    const struct smt_frame *f = grant_last(h, id);
    return f == NULL ? 0 : f->offset;
}

/* ---- grants ---- */

/* 57: many active, the best at the highest scheduled level, the worst share the lowest; 58: few
 * active, the lowest levels; 74: by rank. */
static void homa_057_058_074_priority_by_rank(void **state)
{
    struct hand *h = start(10 << 20);
    hand_connect(h);
    for (uint64_t id = 1; id <= 6; id++) {
        begin(h, id, 900000 - 100000 * (uint32_t)id);
        assert_non_null(grant_last(h, id));
        assert_int_equal(grant_last(h, id)->prio, id <= 4 ? id - 1 : 3);
    }
    hand_clear(h);
    static const uint8_t prio[] = {0, 0, 0, 1, 2, 3};
    for (uint64_t id = 1; id <= 6; id++) {
        data(h, id, 900000 - 100000 * (uint32_t)id, PIECE, PIECE + WINDOW);
        assert_non_null(grant_last(h, id));
        assert_int_equal(grant_last(h, id)->prio, prio[id - 1]);
    }
    hand_free(h);
}

static void homa_060_no_more_than_overcommit(void **state)
{
    struct hand *h = start(10 << 20);
    h->config.tune.overcommit = 2;
    hand_connect(h);
    begin(h, 1, 500000);
    begin(h, 2, 600000);
    begin(h, 3, 700000);
    assert_true(granted(h, 1) > 0 && granted(h, 2) > 0);
    assert_int_equal(granted(h, 3), 0);
    /* A better one takes the place of the worst. */
    begin(h, 4, 400000);
    assert_true(granted(h, 4) > 0);
    hand_clear(h);
    data(h, 2, 600000, PIECE, PIECE + WINDOW * 40 / 100);
    assert_int_equal(granted(h, 2), 0);
    hand_free(h);
}

/* 73: who finds less room than his window gets what there is; 71: who finds none gets nothing; 72:
 * while a better one is in need, nobody else is granted; 75: room that appears goes to the shortest
 * first. */
static void homa_071_072_073_075_room(void **state)
{
    enum { ALL = 40000 };
    struct hand *h = start(ALL);
    hand_connect(h);
    begin(h, 1, 900000);
    begin(h, 2, 800000);
    begin(h, 3, 700000);
    uint32_t got = granted(h, 1) + granted(h, 2) + granted(h, 3) - 3 * PIECE;
    assert_in_range(got, ALL - PIECE, ALL);
    assert_in_range(granted(h, 3), PIECE + ALL / 4 / 4, PIECE + ALL / 4 - 1);
    begin(h, 4, 600000);
    assert_int_equal(granted(h, 4), 0);
    hand_clear(h);
    data(h, 1, 900000, PIECE, 2 * PIECE);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_GRANT, UINT64_MAX), 0);
    data(h, 1, 900000, 2 * PIECE, 21 * PIECE);
    uint32_t n4 = 0, n_others = 0;
    for (unsigned i = 0; i < hand_n_frames(h, SMT_FRAME_GRANT, UINT64_MAX); i++) {
        const struct smt_frame *f = hand_frame_n(h, SMT_FRAME_GRANT, UINT64_MAX, i);
        /* All others wait until the best has its window. */
        if (f->id == 4)
            n4 = f->offset;
        else
            n_others++;
        assert_true(n_others == 0 || n4 >= PIECE + ALL / 5 - PIECE);
    }
    assert_true(n4 > 0 && n_others > 0);
    hand_free(h);
}

static struct hand *start_fifo(uint32_t permille, uint32_t bytes)
{
    struct hand *h = start(10 << 20);
    h->config.tune.overcommit = 1;
    h->config.tune.grant_fifo_permille = permille;
    h->config.tune.grant_fifo_bytes = bytes;
    hand_connect(h);
    return h;
}

static void homa_078_the_oldest_gets_its_share(void **state)
{
    struct hand *h = start_fifo(500, WINDOW);
    begin(h, 1, 900000);
    assert_int_equal(granted(h, 1), PIECE + WINDOW);
    begin(h, 2, 500000);
    assert_true(granted(h, 2) > 0);
    /* Of 40,000 bytes granted half is owed to the oldest. */
    const struct smt_frame *f = grant_last(h, 1);
    assert_int_equal(f->offset, PIECE + 2 * WINDOW);
    assert_int_equal(f->prio, 3);
    assert_int_equal(hand_counter(h, "grants_fifo"), 1);
    hand_free(h);
}

/* 79: not due, or switched off. */
static void homa_079_no_share_before_its_time(void **state)
{
    for (uint32_t permille = 0; permille <= 50; permille += 50) {
        struct hand *h = start_fifo(permille, WINDOW);
        begin(h, 1, 900000);
        begin(h, 2, 500000);
        hand_clear(h);
        uint32_t most = permille == 0 ? 400000 : 300000;
        data(h, 2, 500000, PIECE, most);
        assert_int_equal(granted(h, 1), 0);
        assert_int_equal(hand_counter(h, "grants_fifo"), 0);
        /* Switched on, its time comes: 5 % of 400,000 are 20,000. */
        data(h, 2, 500000, most, 450000);
        assert_int_equal(hand_counter(h, "grants_fifo"), permille == 0 ? 0 : 1);
        hand_free(h);
    }
}

/* 80: what the oldest has got it does not use, so the next oldest gets the share. */
static void homa_080_the_oldest_does_not_use_its_grant(void **state)
{
    struct hand *h = start_fifo(500, 5000);
    begin(h, 1, 900000);
    begin(h, 3, 500000);
    begin(h, 2, 800000);
    uint32_t before = granted(h, 1);
    data(h, 3, 500000, PIECE, 40000);
    assert_int_equal(granted(h, 1), before);
    assert_true(granted(h, 2) >= PIECE + 5000);
    assert_true(hand_counter(h, "grants_fifo") > 0);
    hand_free(h);
}

static void homa_081_the_oldest_is_granted_whole(void **state)
{
    struct hand *h = start_fifo(500, WINDOW);
    begin(h, 1, PIECE + WINDOW);
    assert_int_equal(granted(h, 1), PIECE + WINDOW);
    begin(h, 3, 500000);
    begin(h, 2, 800000);
    hand_clear(h);
    data(h, 3, 500000, PIECE, 100000);
    assert_int_equal(granted(h, 1), 0);
    assert_true(granted(h, 2) > 0);
    hand_free(h);
}

static void homa_082_half_at_most(void **state)
{
    (void)state;
    struct smt_tune t;
    smt_tune_init(&t);
    t.grant_fifo_permille = 700;
    smt_tune_clamp(&t);
    assert_int_equal(t.grant_fifo_permille, 500);
    assert_int_equal(smt_tune_set(&t, "grant_fifo_permille", 19, 501), SMT_EINVAL);
}

/* However large a window is measured or set: n active messages may have 1 / (n + 1) of the room. */
static void homa_083_windows_shrink_with_company(void **state)
{
    enum { ALL = 60000 };
    struct hand *h = start(ALL);
    h->config.tune.window_first = 1 << 20;
    hand_connect(h);
    begin(h, 1, 900000);
    assert_int_equal(granted(h, 1), PIECE + ALL / 2);
    begin(h, 2, 800000);
    assert_int_equal(granted(h, 2), PIECE + ALL / 3);
    hand_free(h);
}

/* ---- asked again ---- */

/* Exactly the bytes asked for, at the priority asked for, each record with a number of its own. */
static void homa_095_what_is_sent_again(void **state)
{
    struct hand *h = start(10 << 20);
    hand_connect(h);
    uint64_t id = hand_post(h, 50000, false);
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_GRANT, .id = hand_theirs(id), .offset = 30000, .prio = 1});
    unsigned n = hand_n_data(h, id);
    uint32_t seal = hand_pkt_n(h, id, n - 1)->hdr.seal;
    hand_clear(h);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_RESEND,
                                     .id = hand_theirs(id),
                                     .offset = 12345,
                                     .length = 6789,
                                     .prio = 6});
    uint32_t at = 12345;
    for (unsigned i = 0; i < hand_n_data(h, id); i++) {
        const struct hand_pkt *p = hand_pkt_n(h, id, i);
        assert_int_equal(p->inner.offset, at);
        assert_int_equal(p->prio, 6);
        assert_int_equal(p->hdr.seal, ++seal);
        for (uint32_t k = 0; k < p->data_len; k++)
            assert_int_equal(p->data[k], hand_byte(id, at + k));
        at += p->data_len;
    }
    assert_int_equal(at, 12345 + 6789);
    hand_free(h);
}

/* A server's state ends by what its client acknowledges or aborts, not by UNKNOWN. */
static void homa_097_unknown_at_the_server_changes_nothing(void **state)
{
    struct hand *h = start(10 << 20);
    hand_connect(h);
    struct hand_data d = {.what = SMT_WHAT_REQUEST, .id = 1, .len = 10, .message_len = 10};
    for (uint8_t flags = 0; flags <= SMT_UNKNOWN_OVER; flags++) {
        struct smt_frame f = {.type = SMT_FRAME_UNKNOWN, .id = hand_mine(d.id), .flags = flags};
        hand_data(h, d);
        hand_frame(h, f);
        struct smt_rpc *r = hand_event_n(h, SMT_EE_REQUEST, flags)->rpc;
        smt_rpc_release(r);
        hand_reply(h, r, 20);
        assert_int_equal(hand_n_data(h, hand_mine(d.id)), 1);
        hand_frame(h, f);
        assert_int_equal(hand_n_events(h, SMT_EE_SENT), flags);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_mine(d.id)});
        assert_int_equal(hand_n_events(h, SMT_EE_SENT), flags + 1u);
        d.id++;
    }
    hand_free(h);
}

/* While our own bytes wait (here for the window), the response cannot have been lost. */
static void homa_102_no_question_while_own_bytes_wait(void **state)
{
    struct hand *h = start(10 << 20);
    h->params.unsched = 1 << 20;
    h->config.tune.unsched_first = 1 << 20;
    h->params.rx_window = 32768;
    hand_connect(h);
    h->polite = false;
    uint64_t id = hand_post(h, 300000, false);
    assert_true(hand_data_end(h, id) < 300000);
    hand_sleep(h, 500 * SMT_MSEC);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, hand_mine(id)), 0);
    /* And the other way round: all is out, nothing comes. */
    h->polite = true;
    hand_sleep(h, 500 * SMT_MSEC);
    assert_int_equal(hand_data_end(h, id), 300000);
    assert_true(hand_n_frames(h, SMT_FRAME_RESEND, hand_mine(id)) > 0);
    hand_free(h);
}

/* ---- acknowledgements ---- */

/* 110: as many as a packet holds; 111, 112: among them some of messages that are not known. */
static void homa_110_111_112_acks_of_many(void **state)
{
    enum { N = 40 };
    struct hand *h = start(10 << 20);
    hand_connect(h);
    struct smt_frame acks[3 * N];
    for (uint64_t id = 1; id <= N; id++) {
        struct hand_data d = {.what = SMT_WHAT_REQUEST, .id = id, .len = 10, .message_len = 10};
        hand_data(h, d);
        struct smt_rpc *r = hand_event_n(h, SMT_EE_REQUEST, (unsigned)id - 1)->rpc;
        smt_rpc_release(r);
        hand_reply(h, r, 10);
        struct smt_frame f = {.type = SMT_FRAME_ACK};
        f.id = hand_theirs(id + 5000);
        acks[3 * (id - 1)] = f;
        f.id = hand_mine(id);
        acks[3 * (id - 1) + 1] = f;
        f.id = hand_mine(id + 5000);
        acks[3 * (id - 1) + 2] = f;
    }
    assert_int_equal(hand_n_events(h, SMT_EE_SENT), 0);
    hand_frames(h, acks, 3 * N);
    assert_int_equal(hand_n_events(h, SMT_EE_SENT), N);
    assert_true(smt_engine_is_at_rest(h->e));
    hand_free(h);
}

static void one_way(struct hand *h, uint64_t id)
{
    hand_data(h,
              (struct hand_data){.what = SMT_WHAT_ONEWAY, .id = id, .len = 10, .message_len = 10});
}

/* With a first message of our own, so that others are expected to follow. */
static struct hand *start_acks(void)
{
    struct hand *h = start(10 << 20);
    hand_connect(h);
    uint64_t id = hand_post(h, 10, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    hand_clear(h);
    /* CUTOFFS would take some along. */
    h->e->cutoffs.look_at = UINT32_MAX;
    return h;
}

/* They wait for company, and when there are enough they go, in one frame. */
static void homa_113_enough_acks_go_alone(void **state)
{
    enum { ENOUGH = 48 };
    struct hand *h = start_acks();
    for (uint64_t id = 1; id < ENOUGH; id++)
        one_way(h, id);
    assert_int_equal(h->n_pkts, 0);
    one_way(h, ENOUGH);
    const struct smt_frame *f = hand_frame_n(h, SMT_FRAME_ACKS, hand_theirs(1), 0);
    assert_non_null(f);
    assert_int_equal(f->bitmap, (1ull << (ENOUGH - 1)) - 1);
    assert_int_equal(h->n_pkts, 1);
    hand_free(h);
}

/* 114: those of one run ride in one frame, which has no order; 125: they ride in the next message
 * after a while, once. */
static void homa_114_125_acks_ride_together(void **state)
{
    struct hand *h = start_acks();
    for (uint64_t id = 1; id <= 5; id++)
        one_way(h, id);
    assert_int_equal(h->n_pkts, 0);
    hand_sleep(h, h->config.tune.ack_delay_ns + SMT_USEC);
    assert_int_equal(h->n_pkts, 0);
    uint64_t first = hand_post(h, 100, true), second = hand_post(h, 100, true);
    const struct hand_pkt *p = hand_pkt_n(h, first, 0);
    assert_int_equal(p->n_frames, 1);
    assert_int_equal(p->frames[0].type, SMT_FRAME_ACKS);
    assert_int_equal(p->frames[0].id, hand_theirs(1));
    assert_int_equal(p->frames[0].bitmap, 0xf);
    assert_int_equal(hand_pkt_n(h, second, 0)->n_frames, 0);
    hand_sleep(h, 50 * SMT_MSEC);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_ACKS, UINT64_MAX), 1);
    hand_free(h);
}

/* ---- order of sending ---- */

static struct hand *start_wide(uint32_t fifo_permille)
{
    struct hand *h = start(10 << 20);
    h->params.unsched = 1 << 20;
    h->params.rx_window = 1 << 20;
    h->config.tune.unsched_first = 1 << 20;
    h->config.tune.send_fifo_permille = fifo_permille;
    hand_connect(h);
    return h;
}

/* Position among the DATA packets seen of the first (last) of message `id`. */
static unsigned at(const struct hand *h, uint64_t id, bool last)
{
    unsigned found = UINT_MAX;
    for (unsigned i = h->n_pkts; i > 0; i--) {
        const struct hand_pkt *p = &h->pkts[i - 1];
        if (p->hdr.kind == SMT_KIND_DATA && p->hdr.rpc_id == id) {
            found = i - 1;
            if (last)
                break;
        }
    }
    assert_true(found != UINT_MAX);
    return found;
}

/* 129: a device that takes nothing now costs nothing but time; what is shorter overtakes meanwhile,
 * control goes before all of it. */
static void homa_129_what_waits_for_the_device(void **state)
{
    struct hand *h = start_wide(0);
    h->room = 0;
    uint64_t longer = hand_post(h, 50000, false), shorter = hand_post(h, 500, false);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PING, .token = 9});
    assert_int_equal(h->n_pkts, 0);
    hand_sleep(h, SMT_MSEC);
    h->room = 4;
    hand_run(h);
    assert_int_equal(h->n_pkts, 4);
    assert_non_null(hand_frame_n(h, SMT_FRAME_PONG, UINT64_MAX, 0));
    assert_int_equal(h->pkts[0].hdr.kind, SMT_KIND_CTRL);
    for (unsigned i = 0; i < at(h, shorter, false); i++)
        assert_int_equal(h->pkts[i].hdr.kind, SMT_KIND_CTRL);
    h->room = UINT_MAX;
    hand_run(h);
    assert_int_equal(hand_data_end(h, longer), 50000);
    assert_int_equal(hand_n_data(h, shorter), 1);
    assert_int_equal(hand_counter(h, "resent_records"), 0);
    hand_free(h);
}

/* What the receiver said last counts when a packet leaves, not when the message was posted. */
static void homa_130_cutoffs_count_when_it_leaves(void **state)
{
    struct hand *h = start_wide(0);
    struct smt_frame f = {.type = SMT_FRAME_CUTOFFS,
                          .code = 3,
                          .length = 1 << 20,
                          .cutoffs = {1000000, 1000000, 1000000, 1000000, 1000000, 1000, 100}};
    hand_frame(h, f);
    h->room = 0;
    uint64_t id = hand_post(h, 500, false);
    f.code = 4;
    f.cutoffs[5] = 200;
    hand_frame(h, f);
    h->room = UINT_MAX;
    hand_run(h);
    const struct hand_pkt *p = hand_pkt_n(h, id, 0);
    assert_int_equal(p->inner.cutoffs_version, 4);
    assert_int_equal(p->prio, 5);
    /* Sent again it says so too. */
    hand_clear(h);
    f.code = 5;
    hand_frame(h, f);
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_RESEND, .id = hand_theirs(id), .length = SMT_RESEND_ALL});
    assert_int_equal(hand_pkt_n(h, id, 0)->inner.cutoffs_version, 5);
    hand_free(h);
}

/* The share of the one that has waited longest: without it the longest leaves behind all others. */
static void homa_133_a_share_for_the_oldest(void **state)
{
    for (uint32_t permille = 0; permille <= 500; permille += 500) {
        struct hand *h = start_wide(permille);
        h->room = 0;
        uint64_t oldest = hand_post(h, 90000, false), others[5];
        for (unsigned i = 0; i < SMT_ARRAY_LEN(others); i++)
            others[i] = hand_post(h, 20000 + 1000 * i, false);
        h->room = UINT_MAX;
        hand_run(h);
        unsigned first = at(h, oldest, false);
        for (unsigned i = 0; i < SMT_ARRAY_LEN(others); i++) {
            unsigned end = at(h, others[i], true);
            if (permille == 0)
                assert_true(first > end);
            else if (i == SMT_ARRAY_LEN(others) - 1)
                assert_true(first < end);
        }
        hand_free(h);
    }
}

/* 134, in spirit: there is no bypass by length to be fooled; the end of a long message goes before
 * what is longer than it, and after what is shorter. */
static void homa_134_the_end_of_a_long_message(void **state)
{
    static const struct {
        uint32_t len;
        bool before;
    } rows[] = {{500, true}, {1340, false}};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct hand *h = start_wide(0);
        h->room = 3;
        uint64_t longer = hand_post(h, 5000, false);
        assert_int_equal(hand_n_data(h, longer), 3);
        uint32_t left = 5000 - hand_data_end(h, longer);
        assert_in_range(left, 1000, 1339);
        uint64_t id = hand_post(h, rows[i].len, false);
        h->room = UINT_MAX;
        hand_run(h);
        assert_int_equal(at(h, id, true) < at(h, longer, true), rows[i].before);
        hand_free(h);
    }
}

/* Fewer levels: none above them is used, by data, grants or control. */
static void homa_136_fewer_levels(void **state)
{
    static const uint32_t lens[] = {50, 500, 5000, 20000, 300000};
    for (uint32_t n = 1; n <= 2; n++) {
        struct hand *h = start(10 << 20);
        h->config.tune.n_prios = n;
        hand_connect(h);
        for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
            uint64_t id = hand_post(h, lens[i], false);
            hand_frame(h, (struct smt_frame){.type = SMT_FRAME_GRANT,
                                             .id = hand_theirs(id),
                                             .offset = lens[i],
                                             .prio = 7});
            begin(h, i + 1, 300000 - 50000 * i);
            const struct smt_frame *f = grant_last(h, i + 1);
            assert_non_null(f);
            assert_int_equal(f->prio, 0);
        }
        unsigned top = 0;
        for (unsigned i = 0; i < h->n_pkts; i++)
            top = h->pkts[i].prio > top ? h->pkts[i].prio : top;
        assert_int_equal(top, n - 1);
        hand_free(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(homa_057_058_074_priority_by_rank),
        cmocka_unit_test(homa_060_no_more_than_overcommit),
        cmocka_unit_test(homa_071_072_073_075_room),
        cmocka_unit_test(homa_078_the_oldest_gets_its_share),
        cmocka_unit_test(homa_079_no_share_before_its_time),
        cmocka_unit_test(homa_080_the_oldest_does_not_use_its_grant),
        cmocka_unit_test(homa_081_the_oldest_is_granted_whole),
        cmocka_unit_test(homa_082_half_at_most),
        cmocka_unit_test(homa_083_windows_shrink_with_company),
        cmocka_unit_test(homa_095_what_is_sent_again),
        cmocka_unit_test(homa_097_unknown_at_the_server_changes_nothing),
        cmocka_unit_test(homa_102_no_question_while_own_bytes_wait),
        cmocka_unit_test(homa_110_111_112_acks_of_many),
        cmocka_unit_test(homa_113_enough_acks_go_alone),
        cmocka_unit_test(homa_114_125_acks_ride_together),
        cmocka_unit_test(homa_129_what_waits_for_the_device),
        cmocka_unit_test(homa_130_cutoffs_count_when_it_leaves),
        cmocka_unit_test(homa_133_a_share_for_the_oldest),
        cmocka_unit_test(homa_134_the_end_of_a_long_message),
        cmocka_unit_test(homa_136_fewer_levels),
    };
    int failed = cmocka_run_group_tests_name("hand is responder", tests, NULL, NULL);
    hand_is_initiator = true;
    return failed + cmocka_run_group_tests_name("hand is initiator", tests, NULL, NULL);
}
