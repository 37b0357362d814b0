/* What an adversarial reading of core found: one test for each bug, named for what must hold. The
 * peer is played by hand; it has valid keys and means no good, or the network loses just the wrong
 * packet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/hs_stream.h"
#include "hand.h"

static struct hand *start(bool hand_is_initiator)
{
    struct hand *h = hand_new(hand_is_initiator);
    hand_connect(h);
    return h;
}

static void oneway(struct hand *h, uint64_t id, uint32_t len)
{
    hand_data(
        h, (struct hand_data){.what = SMT_WHAT_ONEWAY, .id = id, .len = len, .message_len = len});
}

/* A user who keeps one message for a minute and then calls: the peer is not dead because it had
 * nothing to say before. */
static void silence_counts_from_the_call(void **state)
{
    (void)state;
    struct hand *h = start(true);
    uint64_t before = hand_post(h, 100, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(before)});
    oneway(h, 1, 100);
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 1);
    hand_sleep(h, 60 * SMT_SEC);
    uint64_t id = hand_post(h, 100, false);
    hand_sleep(h, 500 * SMT_MSEC);
    assert_int_equal(hand_n_events(h, SMT_EE_DOWN), 0);
    hand_data(h,
              (struct hand_data){
                  .what = SMT_WHAT_RESPONSE, .id = id | SMT_ID_ROLE, .len = 10, .message_len = 10});
    assert_int_equal(hand_n_events(h, SMT_EE_RESPONSE), 1);
    hand_free(h);
}

/* An idle timeout shorter than the peer timeout does not make a dead peer look alive. */
static void an_idle_timeout_hides_no_dead_peer(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.idle_timeout = 1 * SMT_SEC;
    hand_connect(h);
    hand_post(h, 100, false);
    h->polite = false;
    hand_sleep(h, 4 * SMT_SEC);
    assert_int_equal(hand_n_events(h, SMT_EE_DOWN), 1);
    hand_free(h);
}

/* A peer that announces packets too small for any header: cut for the smallest that everybody
 * takes. */
static void an_absurd_packet_size_is_not_believed(void **state)
{
    (void)state;
    static const uint16_t sizes[] = {0, 1, 60, 89, 113};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(sizes); i++) {
        struct hand *h = hand_new(true);
        h->params.mtu = sizes[i];
        hand_connect(h);
        uint64_t id = hand_post(h, 5000, true);
        hand_sleep(h, SMT_MSEC);
        assert_int_equal(hand_data_end(h, id), 5000);
        for (unsigned n = 0; n < h->n_pkts; n++)
            assert_true(h->pkts[n].len <= SMT_BASE_PACKET);
        hand_free(h);
    }
}

/* A peer that takes no unscheduled byte must at least be told that there is a message. */
static void an_unscheduled_limit_of_zero_still_announces(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->params.unsched = 0;
    hand_connect(h);
    uint64_t id = hand_post(h, 5000, true);
    hand_sleep(h, 100 * SMT_MSEC);
    assert_true(hand_data_end(h, id) > 0);
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_GRANT, .id = hand_theirs(id), .offset = 5000, .prio = 1});
    assert_int_equal(hand_data_end(h, id), 5000);
    hand_free(h);
}

/* A receiver without memory says UNKNOWN again and again: the message waits, it does not run out of
 * attempts. */
static void unknown_many_times_ends_no_message(void **state)
{
    (void)state;
    struct hand *h = start(true);
    uint64_t id = hand_post(h, 300, true);
    for (unsigned i = 0; i < 200; i++)
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_UNKNOWN, .id = hand_theirs(id)});
    assert_int_equal(hand_n_events(h, SMT_EE_FAILED), 0);
    assert_int_equal(hand_n_data(h, id), 201);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    assert_int_equal(hand_n_events(h, SMT_EE_SENT), 1);
    hand_free(h);
}

/* Who tries to post again and again while the credit is used up does not put off the question for
 * more. */
static void trying_again_puts_off_no_question(void **state)
{
    (void)state;
    struct hand *h = start(true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_CREDIT, .length = 0, .low_water = 1 << 20});
    struct smt_post post = {.n_iov = 0};
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(smt_conn_post(h->conn, &post, NULL), SMT_EAGAIN);
        hand_sleep(h, 5 * SMT_MSEC);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PONG});
    }
    assert_true(hand_n_frames(h, SMT_FRAME_PING, UINT64_MAX) > 0);
    hand_free(h);
}

/* The last call ends while the peer allows none: somebody must ask when there is credit again. */
static void no_credit_and_no_call_asks_for_credit(void **state)
{
    (void)state;
    struct hand *h = start(true);
    uint64_t id = hand_post(h, 10, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_CREDIT, .length = 0, .low_water = 1 << 20});
    struct smt_post post = {.n_iov = 0};
    assert_int_equal(smt_conn_post(h->conn, &post, NULL), SMT_EAGAIN);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    hand_sleep(h, SMT_SEC);
    assert_true(hand_n_frames(h, SMT_FRAME_PING, UINT64_MAX) > 0);
    hand_free(h);
}

/* The first packet of a new epoch is lost and nothing follows: what the peer says minutes later,
 * under the old keys, is still understood. */
static void old_keys_open_until_the_peer_has_followed(void **state)
{
    (void)state;
    struct hand *h = start(true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PONG});
    assert_int_equal(smt_conn_rekey(h->conn), 0);
    hand_sleep(h, 10 * SMT_SEC);
    struct smt_conn_stats stats;
    smt_conn_stats(h->conn, &stats);
    assert_int_equal(stats.epoch, 2);
    oneway(h, 1, 100);
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 1);
    hand_free(h);
}

/* At the limit of open requests the next one brings the news that makes room for it. */
static void a_mark_makes_room_for_its_own_request(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.max_open_rpcs = 1;
    hand_connect(h);
    hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 1, .len = 9, .message_len = 9});
    hand_reply(h, hand_event_n(h, SMT_EE_REQUEST, 0)->rpc, 9);
    smt_rpc_release(hand_event_n(h, SMT_EE_REQUEST, 0)->rpc);
    hand_data(h,
              (struct hand_data){
                  .what = SMT_WHAT_REQUEST, .id = 2, .len = 9, .message_len = 9, .low_water = 2});
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 2);
    hand_free(h);
}

/* Frames of a record that does not count are not heard, for it may come again as often as somebody
 * likes. */
static void frames_of_a_record_that_does_not_count(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.max_open_rpcs = 1;
    hand_connect(h);
    hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 1, .len = 9, .message_len = 9});
    const struct smt_frame ping = {.type = SMT_FRAME_PING, .token = 77};
    hand_clear(h);
    hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST,
                                    .id = 2,
                                    .len = 9,
                                    .message_len = 9,
                                    .frames = &ping,
                                    .n_frames = 1});
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 0);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_PONG, UINT64_MAX), 0);
    hand_free(h);
}

/* All messages of an engine together stay within its limit, the short ones too. */
static void short_messages_count_against_the_engine(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.max_bytes = 10000;
    hand_connect(h);
    for (uint64_t id = 1; id <= 20; id++)
        oneway(h, id, 1000);
    assert_in_range(hand_n_events(h, SMT_EE_MESSAGE), 5, 10);
    hand_free(h);
}

/* The extension may stand in any record (docs/wire.md 3.1), and frames before the data of any. */
static void an_extension_in_a_later_record(void **state)
{
    (void)state;
    struct hand *h = start(true);
    const struct smt_frame ping = {.type = SMT_FRAME_PING, .token = 77};
    hand_data(
        h, (struct hand_data){.what = SMT_WHAT_ONEWAY, .id = 1, .len = 1000, .message_len = 3000});
    hand_data(h, (struct hand_data){.what = SMT_WHAT_ONEWAY,
                                    .id = 1,
                                    .offset = 1000,
                                    .len = 1000,
                                    .message_len = 3000,
                                    .flags = SMT_INNER_EXT,
                                    .low_water = 1});
    hand_data(h, (struct hand_data){.what = SMT_WHAT_ONEWAY,
                                    .id = 1,
                                    .offset = 2000,
                                    .len = 1000,
                                    .message_len = 3000,
                                    .frames = &ping,
                                    .n_frames = 1});
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_MESSAGE, 0);
    assert_non_null(ev);
    assert_int_equal(ev->len, 3000);
    for (uint32_t i = 0; i < 3000; i++)
        assert_int_equal(((const uint8_t *)ev->data)[i], hand_byte(1, i));
    assert_int_equal(hand_n_frames(h, SMT_FRAME_PONG, UINT64_MAX), 1);
    hand_free(h);
}

/* A message is of one kind: its first record says which. */
static void a_message_is_of_one_kind(void **state)
{
    (void)state;
    struct hand *h = start(true);
    hand_data(
        h, (struct hand_data){.what = SMT_WHAT_ONEWAY, .id = 1, .len = 1000, .message_len = 2000});
    hand_data(
        h,
        (struct hand_data){
            .what = SMT_WHAT_REQUEST, .id = 1, .offset = 1000, .len = 1000, .message_len = 2000});
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 0);
    hand_data(
        h, (struct hand_data){
               .what = SMT_WHAT_ONEWAY, .id = 1, .offset = 1000, .len = 1000, .message_len = 2000});
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 1);
    hand_free(h);
}

/* Forged packets do not hide losses from the sender: what SEEN counts is authentic. */
static void forged_packets_are_not_seen(void **state)
{
    (void)state;
    struct hand *h = start(true);
    uint8_t pkt[HAND_MTU];
    size_t len = hand_data_encode(
        h, (struct hand_data){.what = SMT_WHAT_ONEWAY, .id = 1, .len = 100, .message_len = 100},
        pkt);
    pkt[len - 1] ^= 1;
    for (unsigned i = 0; i < 10; i++)
        hand_rx(h, pkt, len);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_MARK, .seq = 3});
    assert_int_equal(hand_frame_n(h, SMT_FRAME_SEEN, UINT64_MAX, 0)->packets, 0);
    hand_free(h);
}

/* A peer that chooses ids 2^33 apart gets no two responses sealed with one record number. */
static void ids_far_apart_share_no_record_number(void **state)
{
    (void)state;
    struct hand *h = start(true);
    const uint64_t ids[2] = {5, 5 + (1ull << 33)};
    for (unsigned i = 0; i < 2; i++) {
        hand_data(h, (struct hand_data){.what = SMT_WHAT_REQUEST,
                                        .id = ids[i],
                                        .len = 9,
                                        .message_len = 9,
                                        .low_water = ids[i]});
        hand_reply(h, hand_event_n(h, SMT_EE_REQUEST, i)->rpc, 9);
    }
    assert_int_equal(hand_n_data(h, ids[0] | SMT_ID_ROLE), 1);
    assert_int_equal(hand_n_data(h, ids[1] | SMT_ID_ROLE), 0);
    assert_int_equal(hand_n_events(h, SMT_EE_FAILED), 1);
    assert_int_equal(checking_aead_stats().violations, 0);
    hand_free(h);
}

/* With one call open for long, later ones are still acknowledged when they end, not when they are
 * asked about. */
static void calls_beyond_the_bitmap_are_acknowledged(void **state)
{
    (void)state;
    struct hand *h = start(true);
    hand_post(h, 10, false);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t id = hand_post(h, 10, false);
        hand_data(h, (struct hand_data){.what = SMT_WHAT_RESPONSE,
                                        .id = id | SMT_ID_ROLE,
                                        .len = 10,
                                        .message_len = 10});
        smt_rpc_release(hand_event_n(h, SMT_EE_RESPONSE, i)->rpc);
    }
    hand_sleep(h, SMT_MSEC);
    unsigned n = 0;
    const struct smt_frame *f;
    for (unsigned i = 0; (f = hand_frame_n(h, SMT_FRAME_ACKS, UINT64_MAX, i)) != NULL; i++) {
        assert_true(f->id & SMT_ID_ROLE);
        n += 1 + (unsigned)__builtin_popcountll(f->bitmap);
    }
    assert_int_equal(n, 100 - 64);
    hand_free(h);
}

/* Eight messages that were begun and never go on do not keep the ninth from being granted. */
static void silent_messages_give_their_turn_away(void **state)
{
    (void)state;
    struct hand *h = start(true);
    for (uint64_t id = 1; id <= 8; id++)
        hand_data(h, (struct hand_data){.what = SMT_WHAT_ONEWAY,
                                        .id = id,
                                        .len = 1000,
                                        .message_len = 100000,
                                        .unsched = 1000});
    hand_data(
        h,
        (struct hand_data){
            .what = SMT_WHAT_ONEWAY, .id = 9, .len = 1000, .message_len = 200000, .unsched = 1000});
    assert_int_equal(hand_n_frames(h, SMT_FRAME_GRANT, hand_theirs(9)), 0);
    hand_sleep(h, 500 * SMT_MSEC);
    assert_true(hand_n_frames(h, SMT_FRAME_GRANT, hand_theirs(9)) > 0);
    hand_data(
        h,
        (struct hand_data){
            .what = SMT_WHAT_ONEWAY, .id = 9, .offset = 1000, .len = 1000, .message_len = 200000});
    for (uint64_t id = 1; id <= 8; id++) {
        for (uint32_t at = 1000; at < 100000; at += 1000)
            hand_data(h, (struct hand_data){.what = SMT_WHAT_ONEWAY,
                                            .id = id,
                                            .offset = at,
                                            .len = 1000,
                                            .message_len = 100000});
    }
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 8);
    hand_free(h);
}

/* A handshake packet that overlaps what has come brings what is new in it. */
static void handshake_bytes_may_overlap(void **state)
{
    (void)state;
    struct smt_ranges_pool pool;
    struct smt_hs_stream *s;
    uint8_t bytes[1500];
    hand_fill(bytes, 3, sizeof(bytes));
    assert_int_equal(smt_ranges_pool_init(&pool, 16, 1024), 0);
    assert_int_equal(smt_hs_stream_new(&pool, false, &s), 0);
    assert_false(smt_hs_stream_got(s, 500, bytes + 500, 1000, 0));
    assert_true(smt_hs_stream_got(s, 0, bytes, 1100, 0));
    const uint8_t *p = NULL;
    assert_int_equal(smt_hs_stream_ready(s, &p), 1500);
    assert_memory_equal(p, bytes, 1500);
    smt_hs_stream_free(s);
    smt_ranges_pool_fini(&pool);
}

/* A cookie that no longer holds is answered by a new one: who keeps an old one would never get in.
 */
static void a_stale_cookie_is_replaced(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    uint8_t pkt[SMT_HS_MIN_FIRST_LEN] = {0};
    const struct smt_hdr hdr = {.kind = SMT_KIND_HANDSHAKE,
                                .epoch = 1,
                                .sport = h->addr.port,
                                .dport = h->config.port,
                                .source_id = 0x4242,
                                .cookie_len = 32};
    smt_hdr_encode(&hdr, pkt);
    hand_rx(h, pkt, sizeof(pkt));
    assert_int_equal(h->n_pkts, 1);
    assert_int_equal(h->pkts[0].hdr.kind, SMT_KIND_RETRY);
    assert_int_equal(hand_counter(h, "drop_cookie"), 1);
    hand_free(h);
}

/* What was sent before the user accepted a large message is asked for at once, and the rest
 * granted. */
static void an_accepted_message_comes_at_once(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.accept_len = 2000;
    hand_connect(h);
    hand_data(
        h,
        (struct hand_data){
            .what = SMT_WHAT_ONEWAY, .id = 1, .len = 1000, .message_len = 9000, .unsched = 3000});
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_INCOMING, 0);
    assert_non_null(ev);
    assert_int_equal(smt_rpc_accept(ev->rpc, NULL, 0), 0);
    hand_run(h);
    const struct smt_frame *f = hand_frame_n(h, SMT_FRAME_RESEND, hand_theirs(1), 0);
    assert_non_null(f);
    assert_int_equal(f->offset, 0);
    assert_int_equal(f->length, 3000);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_GRANT, hand_theirs(1)), 1);
    hand_free(h);
}

/* Messages that the user does not release cost more than their bytes: there is an end to their
 * number. */
static void tiny_messages_do_not_pile_up_for_ever(void **state)
{
    (void)state;
    struct hand *h = start(true);
    uint64_t n = 0;
    for (uint64_t id = 1; id <= 66000; id++) {
        hand_clear(h);
        oneway(h, id, 1);
        n += hand_n_events(h, SMT_EE_MESSAGE);
    }
    assert_int_equal(n, 65536);
    assert_int_equal(hand_counter(h, "drop_over_credit"), 66000 - 65536);
    assert_in_range(smt_engine_memory(h->e), 1, 128 << 20);
    hand_free(h);
}

static void hello_with_cookie(struct hand *h, uint64_t id)
{
    uint8_t pkt[SMT_HS_MIN_FIRST_LEN] = {0};
    const struct smt_hdr hdr = {.kind = SMT_KIND_HANDSHAKE,
                                .epoch = 1,
                                .sport = h->addr.port,
                                .dport = h->config.port,
                                .source_id = id,
                                .cookie_len = SMT_COOKIE_LEN};
    size_t at = smt_hdr_encode(&hdr, pkt);
    h->config.cookie_make(h, h->now, &h->addr, id, pkt + at);
    hand_rx(h, pkt, sizeof(pkt));
}

/* Strangers who can receive, but never finish, get so many handshakes at a time and no more. */
static void unfinished_handshakes_are_limited(void **state)
{
    (void)state;
    struct hand *h = start(true);
    uint64_t before = hand_counter(h, "conns_accepted");
    for (uint64_t id = 1; id <= 5000; id++)
        hello_with_cookie(h, id);
    assert_int_equal(hand_counter(h, "conns_accepted") - before, 4096);
    hand_sleep(h, 6 * SMT_SEC);
    hello_with_cookie(h, 5001);
    assert_int_equal(hand_counter(h, "conns_accepted") - before, 4097);
    hand_free(h);
}

/* Answers take half a second: the window opens with the first of them, however often the MARK was
 * repeated meanwhile. */
static void a_long_round_trip_shuts_no_window(void **state)
{
    (void)state;
    enum { RTT = 500, ALL = 600000 };
    struct hand *h = start(true);
    hand_sleep(h, 3 * SMT_SEC); /* nothing is known of bytes in flight any more */
    hand_clear(h);
    h->polite = false;
    uint64_t id = hand_post(h, ALL, true);
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_GRANT, .id = hand_theirs(id), .offset = ALL, .prio = 1});
    unsigned answered = 0;
    for (unsigned ms = 0; ms < 20000 && hand_data_end(h, id) < ALL; ms += 10) {
        hand_sleep(h, 10 * SMT_MSEC);
        while (answered < h->n_pkts && h->pkts[answered].at + RTT * SMT_MSEC <= h->now) {
            const struct hand_pkt *p = &h->pkts[answered++];
            for (unsigned i = 0; i < p->n_frames; i++) {
                struct smt_frame f = p->frames[i];
                if (f.type == SMT_FRAME_MARK)
                    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_SEEN,
                                                     .seq = f.seq,
                                                     .packets = f.packets,
                                                     .bytes = f.bytes});
            }
        }
    }
    assert_int_equal(hand_data_end(h, id), ALL);
    hand_free(h);
}

/* Half a second away, the answer to the question whether we are known takes half a second. */
static void a_forged_no_session_on_a_long_path(void **state)
{
    (void)state;
    struct hand *h = start(false);
    hand_sleep(h, 3 * SMT_SEC);
    hand_clear(h);
    h->polite = false;
    hand_post(h, 100, true);
    const struct smt_frame *mark = hand_frame_n(h, SMT_FRAME_MARK, UINT64_MAX, 0);
    assert_non_null(mark);
    hand_sleep(h, 500 * SMT_MSEC);
    hand_frame(h, (struct smt_frame){
                      .type = SMT_FRAME_SEEN, .seq = mark->seq, .packets = mark->packets});
    uint8_t pkt[SMT_PLAIN_HDR_LEN];
    const struct smt_hdr hdr = {.kind = SMT_KIND_NO_SESSION,
                                .sport = h->addr.port,
                                .dport = h->config.port,
                                .session_id = h->id};
    smt_hdr_encode(&hdr, pkt);
    hand_sleep(h, 10 * SMT_MSEC);
    hand_rx(h, pkt, sizeof(pkt));
    hand_sleep(h, 500 * SMT_MSEC);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PONG});
    hand_sleep(h, SMT_SEC);
    assert_int_equal(hand_n_events(h, SMT_EE_NO_SESSION), 0);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_counts_from_the_call),
        cmocka_unit_test(an_idle_timeout_hides_no_dead_peer),
        cmocka_unit_test(an_absurd_packet_size_is_not_believed),
        cmocka_unit_test(an_unscheduled_limit_of_zero_still_announces),
        cmocka_unit_test(unknown_many_times_ends_no_message),
        cmocka_unit_test(trying_again_puts_off_no_question),
        cmocka_unit_test(no_credit_and_no_call_asks_for_credit),
        cmocka_unit_test(old_keys_open_until_the_peer_has_followed),
        cmocka_unit_test(a_mark_makes_room_for_its_own_request),
        cmocka_unit_test(frames_of_a_record_that_does_not_count),
        cmocka_unit_test(short_messages_count_against_the_engine),
        cmocka_unit_test(an_extension_in_a_later_record),
        cmocka_unit_test(a_message_is_of_one_kind),
        cmocka_unit_test(forged_packets_are_not_seen),
        cmocka_unit_test(ids_far_apart_share_no_record_number),
        cmocka_unit_test(calls_beyond_the_bitmap_are_acknowledged),
        cmocka_unit_test(silent_messages_give_their_turn_away),
        cmocka_unit_test(handshake_bytes_may_overlap),
        cmocka_unit_test(a_stale_cookie_is_replaced),
        cmocka_unit_test(an_accepted_message_comes_at_once),
        cmocka_unit_test(tiny_messages_do_not_pile_up_for_ever),
        cmocka_unit_test(unfinished_handshakes_are_limited),
        cmocka_unit_test(a_long_round_trip_shuts_no_window),
        cmocka_unit_test(a_forged_no_session_on_a_long_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
