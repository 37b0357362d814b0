/* Conformance behaviours of Homa, by number: sending. Grants obeyed, RESEND answered, UNKNOWN,
 * acknowledgements asked for, order and priority of packets. See test_engine_homa_rpc.c for the
 * others.
 *
 * Not applicable: 92 (there is nothing beyond what was granted to be had but by the grant; see the
 * test), 95 (ranges are exact, no whole segments), 129 and 134 (the device's queue, not the
 * engine's, says when it is full), 130 (the cutoffs version is written at sending anyway), 131, 132
 * (no TCP hijacking), 136-138 (no sockets). */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hand.h"

enum { UNSCHED = 10000 };

static bool hand_is_initiator;

static struct hand *start(void)
{
    struct hand *h = hand_new(hand_is_initiator);
    h->params.unsched = UNSCHED;
    hand_connect(h);
    return h;
}

static void grant(struct hand *h, uint64_t id, uint32_t to, uint8_t prio)
{
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_GRANT, .id = hand_theirs(id), .offset = to, .prio = prio});
}

static void resend(struct hand *h, uint64_t id, uint32_t offset, uint32_t len)
{
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_RESEND,
                                     .id = hand_theirs(id),
                                     .offset = offset,
                                     .length = len,
                                     .prio = 7});
}

/* Every byte of [from, to) is in the packets seen, rightly. */
static void check_bytes(const struct hand *h, uint64_t id, uint32_t from, uint32_t to)
{
    uint8_t *seen = calloc(1, to + 1u);
    assert_non_null(seen);
    const struct hand_pkt *p;
    for (unsigned n = 0; (p = hand_pkt_n(h, id, n)) != NULL; n++) {
        for (uint32_t i = 0; i < p->data_len; i++) {
            uint32_t at = p->inner.offset + i;
            assert_int_equal(p->data[i], hand_byte(id, at));
            if (at < to)
                seen[at] = 1;
        }
    }
    for (uint32_t i = from; i < to; i++)
        assert_true(seen[i]);
    free(seen);
}

static uint32_t bytes_sent(const struct hand *h, uint64_t id)
{
    uint32_t sum = 0;
    const struct hand_pkt *p;
    for (unsigned n = 0; (p = hand_pkt_n(h, id, n)) != NULL; n++)
        sum += p->data_len;
    return sum;
}

static void homa_050_a_higher_grant_sends_more(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 100000, false);
    assert_in_range(hand_data_end(h, id), UNSCHED - HAND_PIECE + 1, UNSCHED);
    hand_clear(h);
    grant(h, id, 30000, 2);
    assert_int_equal(hand_data_end(h, id), 30000);
    check_bytes(h, id, UNSCHED, 30000);
    for (unsigned n = 0; n < hand_n_data(h, id); n++)
        assert_int_equal(hand_pkt_n(h, id, n)->prio, 2);
    hand_free(h);
}

static void homa_051_a_lower_grant_takes_nothing_back(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 100000, false);
    grant(h, id, 30000, 2);
    hand_clear(h);
    grant(h, id, 20000, 1);
    assert_int_equal(hand_n_data(h, id), 0);
    grant(h, id, 40000, 1);
    check_bytes(h, id, 30000, 40000);
    assert_int_equal(bytes_sent(h, id), 10000);
    hand_free(h);
}

static void homa_052_a_grant_for_what_is_over(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 100, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    assert_int_equal(hand_n_events(h, SMT_EE_SENT), 1);
    hand_clear(h);
    grant(h, id, 100, 1);
    assert_int_equal(h->n_pkts + h->n_events, 0);
    hand_free(h);
}

static void homa_053_a_grant_beyond_the_end(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 25000, false);
    grant(h, id, UINT32_MAX, 1);
    assert_int_equal(hand_data_end(h, id), 25000);
    assert_int_equal(bytes_sent(h, id), 25000);
    check_bytes(h, id, 0, 25000);
    hand_free(h);
}

/* Half a request is here, the client asks for the response. */
static void homa_088_resend_while_receiving_gives_busy(void **state)
{
    struct hand *h = start();
    hand_data(
        h, (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 1, .len = 1000, .message_len = 3000});
    hand_clear(h);
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_RESEND, .id = hand_mine(1), .length = SMT_RESEND_ALL});
    assert_int_equal(hand_n_frames(h, SMT_FRAME_BUSY, 1), 1);
    hand_free(h);
}

static void homa_089_resend_of_all_that_was_sent(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 100000, false);
    grant(h, id, 25000, 0);
    hand_clear(h);
    resend(h, id, 0, SMT_RESEND_ALL);
    assert_int_equal(hand_data_end(h, id), 25000);
    check_bytes(h, id, 0, 25000);
    hand_free(h);
}

static void homa_090_resend_of_a_request_while_the_response_comes(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 5000, false);
    hand_data(h, (struct hand_data){.what = SMT_WHAT_RESPONSE,
                                    .id = id | SMT_ID_ROLE,
                                    .len = 1000,
                                    .message_len = 3000});
    hand_clear(h);
    resend(h, id, 1000, 2000);
    check_bytes(h, id, 1000, 3000);
    hand_free(h);
}

static void homa_091_resend_past_what_was_sent(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 5000, false);
    hand_clear(h);
    resend(h, id, 4000, 50000);
    check_bytes(h, id, 4000, 5000);
    assert_int_equal(bytes_sent(h, id), 1000);
    hand_free(h);
}

/* Who asks for bytes has granted them: the GRANT was lost. */
static void homa_092_093_resend_beyond_the_grant(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 40000, false);
    hand_clear(h);
    resend(h, id, UNSCHED, 5000);
    assert_int_equal(hand_data_end(h, id), 15000);
    check_bytes(h, id, UNSCHED, 15000);
    resend(h, id, 15000, UINT32_MAX - 20000);
    assert_int_equal(hand_data_end(h, id), 40000);
    hand_free(h);
}

/* Nothing of the range may be sent now (it waits for the window): the asker is told to wait. */
static void homa_094_resend_of_what_waits_gives_busy(void **state)
{
    struct hand *h = hand_new(hand_is_initiator);
    h->params.unsched = 1 << 20;
    h->config.tune.unsched_first = 1 << 20;
    h->params.rx_window = 32768;
    hand_connect(h);
    h->polite = false;
    uint64_t id = hand_post(h, 1 << 20, false);
    uint32_t end = hand_data_end(h, id);
    assert_true(end < 1 << 20);
    hand_clear(h);
    resend(h, id, end, 1000);
    assert_int_equal(hand_n_data(h, id), 0);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_BUSY, hand_mine(id)), 1);
    hand_free(h);
}

/* A retransmission is sealed anew: other number, other cipher text, whatever is in the lent memory
 * by now. */
static void every_sealing_takes_the_next_number(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 8000, false);
    unsigned n_first = hand_n_data(h, id);
    uint32_t next = 0;
    for (unsigned i = 0; i < n_first; i++)
        assert_int_equal(hand_pkt_n(h, id, i)->hdr.seal, next++);
    for (unsigned round = 0; round < 5; round++) {
        hand_clear(h);
        resend(h, id, 0, SMT_RESEND_ALL);
        for (unsigned i = 0; i < hand_n_data(h, id); i++)
            assert_int_equal(hand_pkt_n(h, id, i)->hdr.seal, next++);
    }
    assert_int_equal(checking_aead_stats().repeats + checking_aead_stats().violations, 0);
    hand_free(h);
}

static void homa_096_unknown_starts_over_with_the_next_attempt(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 50000, false);
    grant(h, id, 30000, 1);
    hand_clear(h);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_UNKNOWN, .id = hand_theirs(id)});
    assert_in_range(hand_data_end(h, id), UNSCHED - HAND_PIECE + 1, UNSCHED);
    check_bytes(h, id, 0, UNSCHED - HAND_PIECE + 1);
    assert_int_equal(hand_pkt_n(h, id, 0)->hdr.seal, 1u << SMT_SEAL_INDEX_BITS);
    assert_int_equal(h->n_events, 0);
    hand_free(h);
}

static void unknown_over_ends_the_call_as_maybe(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, 5000, false);
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_UNKNOWN, .id = hand_theirs(id), .flags = SMT_UNKNOWN_OVER});
    assert_int_equal(hand_n_events(h, SMT_EE_FAILED), 1);
    assert_int_equal(hand_event_n(h, SMT_EE_FAILED, 0)->error, SMT_EMAYBE);
    assert_true(smt_engine_is_at_rest(h->e));
    hand_free(h);
}

/* An unacknowledged reply is asked about, not for ever as in Homa. */
static void homa_098_need_ack_for_a_reply(void **state)
{
    struct hand *h = start();
    hand_data(h,
              (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 1, .len = 10, .message_len = 10});
    struct smt_rpc *r = hand_event_n(h, SMT_EE_REQUEST, 0)->rpc;
    smt_rpc_release(r);
    hand_reply(h, r, 2000);
    hand_clear(h);
    hand_sleep(h, 100 * SMT_MSEC);
    assert_in_range(hand_n_frames(h, SMT_FRAME_NEED_ACK, 1), 1, 20);
    assert_int_equal(hand_n_data(h, hand_mine(1)), 0);
    /* Bounded: in the end the reply is given up, the session is not. */
    for (unsigned i = 0; i < 1000 && hand_n_events(h, SMT_EE_FAILED) == 0; i++) {
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PING});
        hand_sleep(h, 20 * SMT_MSEC);
        h->n_pkts = h->n_answered = 0;
    }
    assert_int_equal(hand_n_events(h, SMT_EE_FAILED), 1);
    assert_int_equal(hand_n_events(h, SMT_EE_DOWN), 0);
    assert_true(smt_engine_is_at_rest(h->e));
    hand_free(h);
}

static void homa_124_unscheduled_needs_no_grant(void **state)
{
    struct hand *h = start();
    uint64_t id = hand_post(h, UNSCHED, false);
    check_bytes(h, id, 0, UNSCHED - HAND_PIECE + 1);
    const struct hand_pkt *p = hand_pkt_n(h, id, 0);
    assert_int_equal(p->inner.what, SMT_WHAT_REQUEST);
    assert_int_equal(p->inner.unsched, UNSCHED);
    assert_int_equal(p->inner.message_len, UNSCHED);
    assert_int_equal(p->inner.low_water, id);
    assert_int_equal(p->hdr.version, SMT_WIRE_VERSION);
    assert_int_equal(p->hdr.epoch, 1);
    uint64_t next = hand_post(h, 1, true);
    assert_int_equal(next, id + 1);
    assert_int_equal(hand_pkt_n(h, next, 0)->inner.what, SMT_WHAT_ONEWAY);
    assert_int_equal(hand_pkt_n(h, next, 0)->inner.low_water, id);
    hand_free(h);
}

static void homa_126_lengths_at_the_edges(void **state)
{
    struct hand *h = hand_new(hand_is_initiator);
    h->params.max_message = 5000;
    hand_connect(h);
    uint64_t id = hand_post(h, 0, false);
    assert_int_equal(hand_n_data(h, id), 1);
    assert_int_equal(hand_pkt_n(h, id, 0)->data_len, 0);
    id = hand_post(h, 5000, false);
    assert_int_equal(hand_data_end(h, id), 5000);
    uint8_t bytes[5001];
    struct smt_post_iov iov[20] = {{bytes, 5001}};
    struct smt_post post = {.iov = iov, .n_iov = 1};
    assert_int_equal(smt_conn_post(h->conn, &post, &id), SMT_EMSGSIZE);
    post.n_iov = 17;
    iov[0].len = 1;
    assert_int_equal(smt_conn_post(h->conn, &post, &id), SMT_EINVAL);
    hand_free(h);
}

static void homa_127_128_unscheduled_then_granted_priority(void **state)
{
    struct hand *h = start();
    hand_frame(
        h, (struct smt_frame){.type = SMT_FRAME_CUTOFFS,
                              .code = 1,
                              .length = UNSCHED,
                              .cutoffs = {1000000, 1000000, 1000000, 1000000, 1000000, 1000, 100}});
    uint64_t id = hand_post(h, 50000, false);
    for (unsigned n = 0; n < hand_n_data(h, id); n++)
        assert_int_equal(hand_pkt_n(h, id, n)->prio, 5);
    hand_clear(h);
    grant(h, id, 15000, 3);
    for (unsigned n = 0; n < hand_n_data(h, id); n++)
        assert_int_equal(hand_pkt_n(h, id, n)->prio, 3);
    assert_int_equal(hand_data_end(h, id), 15000);
    hand_free(h);
}

/* By what is left when they leave; but what leaves at one go has one level, that of the first. */
static void packets_of_one_go_have_one_level(void **state)
{
    for (unsigned room = 1; room != 0; room = room == 1 ? UINT_MAX : 0) {
        struct hand *h = start();
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_CUTOFFS,
                                         .code = 1,
                                         .length = UNSCHED,
                                         .cutoffs = {100000, 0, 7000, 5500, 4200, 2800, 1400}});
        h->room = room;
        uint64_t id = hand_post(h, 8000, false);
        while (hand_data_end(h, id) < 8000) {
            h->room = room;
            hand_run(h);
        }
        static const uint8_t alone[] = {1, 3, 4, 5, 6, 7};
        assert_int_equal(hand_n_data(h, id), 6);
        for (unsigned n = 0; n < 6; n++)
            assert_int_equal(hand_pkt_n(h, id, n)->prio, alone[room == 1 ? n : 0]);
        hand_free(h);
    }
}

/* So that its receiver has something to do while the rest is written. What it takes to fill such a
 * pipe needs no grant next time, as far as the receiver allows. */
static void long_messages_leave_in_equal_runs(void **state)
{
    for (unsigned unsched = UNSCHED; unsched <= 65536; unsched += 65536 - UNSCHED) {
        struct hand *h = hand_new(hand_is_initiator);
        h->params.unsched = unsched;
        hand_connect(h);
        uint64_t id = hand_post(h, 120000, false);
        assert_in_range(hand_data_end(h, id), UNSCHED - HAND_PIECE + 1, UNSCHED + HAND_PIECE);
        hand_clear(h);
        grant(h, id, 120000, 3);
        assert_int_equal(hand_data_end(h, id), 120000);
        uint32_t runs[2] = {0};
        unsigned first = hand_pkt_n(h, id, 0)->go;
        const struct hand_pkt *p;
        for (unsigned n = 0; (p = hand_pkt_n(h, id, n)) != NULL; n++) {
            assert_in_range(p->go - first, 0, 1);
            runs[p->go - first] += p->data_len;
        }
        for (unsigned i = 0; i < 2; i++)
            assert_in_range(runs[i], 110000 / 2 - HAND_PIECE, 110000 / 2 + HAND_PIECE);
        id = hand_post(h, 120000, false);
        assert_in_range(hand_data_end(h, id), unsched - HAND_PIECE + 1, unsched);
        hand_free(h);
    }
}

/* Of three messages that could all be sent, the one with the fewest bytes left goes first. */
static void homa_133_shortest_remaining_first(void **state)
{
    struct hand *h = hand_new(hand_is_initiator);
    h->params.unsched = 1 << 20;
    h->config.tune.unsched_first = 1 << 20;
    h->params.rx_window = 1 << 20;
    hand_connect(h);
    static const uint32_t lens[] = {90000, 3000, 30000, 500};
    uint64_t ids[SMT_ARRAY_LEN(lens)];
    uint8_t *bytes = calloc(1, 90000);
    assert_non_null(bytes);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        struct smt_post_iov iov = {bytes, lens[i]};
        struct smt_post post = {.iov = &iov, .n_iov = 1};
        assert_int_equal(smt_conn_post(h->conn, &post, &ids[i]), 0);
    }
    hand_run(h);
    unsigned last[SMT_ARRAY_LEN(lens)] = {0};
    for (unsigned n = 0; n < h->n_pkts; n++) {
        for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
            if (h->pkts[n].hdr.kind == SMT_KIND_DATA && h->pkts[n].hdr.rpc_id == ids[i])
                last[i] = n;
        }
    }
    assert_true(last[3] < last[1] && last[1] < last[2] && last[2] < last[0]);
    hand_free(h);
    free(bytes);
}

/* The peer's buffer is not overrun: what is in flight stays within its window until it says what
 * has come. */
static void the_window_holds_until_the_peer_answers(void **state)
{
    struct hand *h = hand_new(hand_is_initiator);
    h->params.unsched = 1 << 20;
    h->config.tune.unsched_first = 1 << 20;
    h->params.rx_window = 65536;
    hand_connect(h);
    h->polite = false;
    uint64_t id = hand_post(h, 300000, true);
    assert_in_range(bytes_sent(h, id), 30000, 65536);
    hand_clear(h);
    hand_sleep(h, 100 * SMT_MSEC);
    assert_int_equal(bytes_sent(h, id), 0);
    assert_true(hand_n_frames(h, SMT_FRAME_MARK, UINT64_MAX) > 0);
    h->polite = true;
    hand_sleep(h, SMT_SEC);
    assert_int_equal(hand_data_end(h, id), 300000);
    hand_free(h);
}

static void a_reply_is_given_once(void **state)
{
    struct hand *h = start();
    hand_data(h,
              (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 1, .len = 10, .message_len = 10});
    struct smt_rpc *r = hand_event_n(h, SMT_EE_REQUEST, 0)->rpc;
    hand_reply(h, r, 10);
    struct smt_post_iov iov = {"x", 1};
    assert_int_equal(smt_rpc_reply(r, &iov, 1, NULL), SMT_ESTATE);
    assert_int_equal(smt_rpc_reject(r), SMT_ESTATE);
    smt_rpc_release(r);
    assert_int_equal(hand_pkt_n(h, hand_mine(1), 0)->inner.what, SMT_WHAT_RESPONSE);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(homa_050_a_higher_grant_sends_more),
        cmocka_unit_test(homa_051_a_lower_grant_takes_nothing_back),
        cmocka_unit_test(homa_052_a_grant_for_what_is_over),
        cmocka_unit_test(homa_053_a_grant_beyond_the_end),
        cmocka_unit_test(homa_088_resend_while_receiving_gives_busy),
        cmocka_unit_test(homa_089_resend_of_all_that_was_sent),
        cmocka_unit_test(homa_090_resend_of_a_request_while_the_response_comes),
        cmocka_unit_test(homa_091_resend_past_what_was_sent),
        cmocka_unit_test(homa_092_093_resend_beyond_the_grant),
        cmocka_unit_test(homa_094_resend_of_what_waits_gives_busy),
        cmocka_unit_test(every_sealing_takes_the_next_number),
        cmocka_unit_test(homa_096_unknown_starts_over_with_the_next_attempt),
        cmocka_unit_test(unknown_over_ends_the_call_as_maybe),
        cmocka_unit_test(homa_098_need_ack_for_a_reply),
        cmocka_unit_test(homa_124_unscheduled_needs_no_grant),
        cmocka_unit_test(homa_126_lengths_at_the_edges),
        cmocka_unit_test(homa_127_128_unscheduled_then_granted_priority),
        cmocka_unit_test(packets_of_one_go_have_one_level),
        cmocka_unit_test(long_messages_leave_in_equal_runs),
        cmocka_unit_test(homa_133_shortest_remaining_first),
        cmocka_unit_test(the_window_holds_until_the_peer_answers),
        cmocka_unit_test(a_reply_is_given_once),
    };
    int failed = cmocka_run_group_tests_name("hand is responder", tests, NULL, NULL);
    hand_is_initiator = true;
    return failed + cmocka_run_group_tests_name("hand is initiator", tests, NULL, NULL);
}
