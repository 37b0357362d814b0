/* Messages of one packet come and leave in runs (core/single.h): what was checked or laid out for
 * the packet before is not what this one gets by. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "hand.h"

enum { LEN = 64, MANY = 20 };

static void encode(struct hand *h, uint64_t id, uint32_t len, uint8_t flags, struct hand_bytes *out)
{
    const struct hand_data d = {.what = SMT_WHAT_REQUEST,
                                .id = id,
                                .len = len,
                                .message_len = len,
                                .flags = flags,
                                .is_first = true};
    out->len = hand_data_encode(h, d, out->bytes);
}

/* A conn whose first request, which goes the long way, is over. */
static struct hand *connected(void)
{
    struct hand *h = hand_new(true);
    hand_connect(h);
    hand_sleep(h, 100 * SMT_MSEC);
    struct hand_bytes one;
    encode(h, 1, LEN, 0, &one);
    hand_rx_many(h, &one, 1);
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_REQUEST, 0);
    assert_non_null(ev);
    assert_int_equal(smt_rpc_reject(ev->rpc), 0);
    smt_rpc_release(ev->rpc);
    hand_clear(h);
    return h;
}

/* The requests that came, each whole and right, have the ids from `first` on but for `left_out`.
 * Refused and given back; how many there were. */
static unsigned take_but(struct hand *h, uint64_t first, uint64_t left_out)
{
    unsigned n = 0;
    const struct smt_engine_event *ev;
    while ((ev = hand_event_n(h, SMT_EE_REQUEST, n)) != NULL) {
        uint64_t id = first + n + (first + n >= left_out);
        for (uint32_t i = 0; i < ev->len; i++)
            assert_int_equal(((const uint8_t *)ev->data)[i], hand_byte(id, i));
        assert_int_equal(smt_rpc_reject(ev->rpc), 0);
        smt_rpc_release(ev->rpc);
        n++;
    }
    hand_run(h);
    hand_clear(h);
    return n;
}

static unsigned take(struct hand *h, uint64_t first)
{
    return take_but(h, first, UINT64_MAX);
}

static void all_lengths_in_one_batch(void **state)
{
    static const uint32_t lens[] = {LEN, LEN, LEN, 1, 1, 300, LEN, 1200, 1200, 2};
    struct hand_bytes pkts[MANY];
    struct hand *h = connected();
    for (unsigned i = 0; i < MANY; i++)
        encode(h, 2 + i, lens[i % SMT_ARRAY_LEN(lens)], i == 5 ? SMT_INNER_IDEMPOTENT : 0,
               &pkts[i]);
    hand_rx_many(h, pkts, MANY);
    assert_int_equal(take(h, 2), MANY);
    hand_free(h);
}

/* In the middle of a run (2: with its first packet, 4: with a later one) the peer says that the
 * request two ids on is finished. It comes all the same, and is not taken. */
static void what_is_told_as_finished_is_not_taken(void **state)
{
    for (uint64_t from = 2; from <= 4; from += 2) {
        struct hand *h = connected();
        struct hand_bytes pkts[8];
        for (uint64_t id = 2; id < 2 + SMT_ARRAY_LEN(pkts); id++) {
            const struct hand_data d = {.what = SMT_WHAT_REQUEST,
                                        .id = id,
                                        .len = LEN,
                                        .message_len = LEN,
                                        .low_water = 2,
                                        .done = id >= from ? 1ull << (from + 2 - 3) : 0,
                                        .is_first = true};
            pkts[id - 2].len = hand_data_encode(h, d, pkts[id - 2].bytes);
        }
        hand_rx_many(h, pkts, SMT_ARRAY_LEN(pkts));
        assert_int_equal(take_but(h, 2, from + 2), SMT_ARRAY_LEN(pkts) - 1);
        hand_free(h);
    }
}

static void what_comes_twice_counts_once(void **state)
{
    struct hand_bytes pkts[MANY];
    struct hand *h = connected();
    for (unsigned i = 0; i < MANY; i += 2) {
        encode(h, 2 + i / 2, LEN, 0, &pkts[i]);
        pkts[i + 1] = pkts[i];
    }
    hand_rx_many(h, pkts, MANY);
    assert_int_equal(take(h, 2), MANY / 2);
    for (unsigned i = 0; i < MANY; i += 2)
        encode(h, 2 + i / 2, LEN, 0, &pkts[i]);
    hand_rx_many(h, pkts, MANY);
    assert_int_equal(take(h, 2), 0);
    hand_free(h);
}

/* A packet of which one byte was changed is taken between good ones if it is taken alone, and those
 * around it are taken in any case. */
static void a_changed_byte_in_a_run(void **state)
{
    struct hand *h = connected();
    uint64_t id = 2;
    struct hand_bytes pkts[3];
    encode(h, id, LEN, 0, &pkts[0]);
    size_t len = pkts[0].len;
    for (size_t at = 0; at < len; at++) {
        encode(h, id, LEN, 0, &pkts[1]);
        pkts[1].bytes[at] ^= 1;
        hand_rx_many(h, &pkts[1], 1);
        unsigned alone = take(h, id);
        assert_true(alone == 0 || at < SMT_DATA_HDR_LEN);
        id += alone;
        for (unsigned i = 0; i < 3; i++)
            encode(h, id + i, LEN, 0, &pkts[i]);
        pkts[1].bytes[at] ^= 1;
        hand_rx_many(h, pkts, 3);
        assert_int_equal(take_but(h, id, alone > 0 ? UINT64_MAX : id + 1), 2 + alone);
        id += 3;
    }
    hand_free(h);
}

/* A head that names no kind is nobody's, with frames or without. */
static void a_head_without_a_kind(void **state)
{
    const struct smt_frame frame = {.type = SMT_FRAME_PING, .token = 3};
    struct hand *h = connected();
    for (unsigned n_frames = 0; n_frames < 2; n_frames++) {
        struct hand_bytes pkts[3];
        encode(h, 2, LEN, 0, &pkts[0]);
        struct hand_data d = {.id = 3, .len = LEN, .message_len = LEN, .is_first = true};
        d.frames = &frame;
        d.n_frames = n_frames;
        pkts[1].len = hand_data_encode(h, d, pkts[1].bytes);
        pkts[2] = pkts[1];
        uint64_t dropped = hand_counter(h, "drop_hint");
        hand_rx_many(h, pkts, 3);
        assert_int_equal(take(h, 2), n_frames == 0);
        assert_int_equal(hand_counter(h, "drop_hint") - dropped, 2);
    }
    hand_free(h);
}

/* Calls of any length posted at once, and a device that is full now and then. */
static void all_leave_in_order(void **state)
{
    static const uint32_t lens[] = {1, 64, 64, 65, 300, 511, 512, 1200, 1300, 1300};
    struct hand *h = hand_new(true);
    hand_connect(h);
    hand_sleep(h, 100 * SMT_MSEC);
    hand_clear(h);
    for (unsigned room = 1; room <= 64; room *= 4) {
        uint64_t first = 0;
        for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
            uint64_t id = hand_post(h, lens[i], false);
            first = i == 0 ? id : first;
        }
        for (unsigned i = 0; i < 20; i++) {
            h->room = room;
            hand_run(h);
        }
        h->room = UINT_MAX;
        for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
            const struct hand_pkt *p = hand_pkt_n(h, first + i, 0);
            assert_non_null(p);
            assert_true(i == 0 || p > hand_pkt_n(h, first + i - 1, 0));
            assert_int_equal(hand_n_data(h, first + i), 1);
            assert_int_equal(p->data_len, lens[i]);
            for (uint32_t k = 0; k < p->data_len; k++)
                assert_int_equal(p->data[k], hand_byte(first + i, k));
            assert_int_equal(smt_conn_cancel(h->conn, first + i), 0);
        }
        hand_sleep(h, SMT_MSEC);
        hand_clear(h);
    }
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_lengths_in_one_batch), cmocka_unit_test(what_comes_twice_counts_once),
        cmocka_unit_test(a_changed_byte_in_a_run),  cmocka_unit_test(a_head_without_a_kind),
        cmocka_unit_test(all_leave_in_order),
        cmocka_unit_test(what_is_told_as_finished_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
