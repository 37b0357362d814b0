/* Memory that is short: shares of hosts, the line of messages that wait, what is taken back. Items
 * 100, 121 and 123 of Homa's list (tests/homa-items.md). */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/memory.h"
#include "hand.h"

enum { PIECE = 1000, ALL = 10000 };

/* ---- shares ---- */

static struct smt_addr ipv4(uint8_t last, uint16_t port)
{
    return (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = last},
                             .port = port};
}

static struct smt_memory_host *host(struct smt_memory *m, struct smt_addr addr)
{
    struct smt_memory_host *h = smt_memory_host_get(m, &addr);
    assert_non_null(h);
    return h;
}

static void sessions_of_a_host_share(void **state)
{
    (void)state;
    struct smt_memory m;
    const uint64_t seed[2] = {1, 2};
    assert_int_equal(smt_memory_init(&m, seed, ALL), 0);
    struct smt_addr six = {.ip = {0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5}, .port = 1};
    struct smt_addr other_half = six, other_net = six, local = {.ip = {0xfe, 0x80, [15] = 1}};
    other_half.ip[15] = 9;
    other_net.ip[7] = 9;
    struct smt_addr local_2 = local;
    local_2.ip[15] = 2;
    struct smt_memory_host *all[] = {
        host(&m, ipv4(1, 1)), host(&m, ipv4(1, 2)), host(&m, ipv4(2, 1)), host(&m, six),
        host(&m, other_half), host(&m, other_net),  host(&m, local),      host(&m, local_2),
    };
    assert_ptr_equal(all[0], all[1]);
    assert_ptr_not_equal(all[0], all[2]);
    assert_ptr_equal(all[3], all[4]);
    assert_ptr_not_equal(all[3], all[5]);
    assert_ptr_not_equal(all[6], all[7]);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(all); i++)
        smt_memory_host_drop(&m, all[i]);
    assert_int_equal(smt_pool_n_live(&m.hosts), 0);
    smt_memory_fini(&m);
}

/* Each takes what it can, 100 bytes at a time, again and again: the last to come still finds its
 * part. */
static void greed_leaves_a_part_for_the_next(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 20; n++) {
        struct smt_memory m;
        const uint64_t seed[2] = {1, 2};
        assert_int_equal(smt_memory_init(&m, seed, 100 * ALL), 0);
        struct smt_memory_host *h[21];
        for (unsigned i = 0; i <= n; i++) {
            h[i] = host(&m, ipv4((uint8_t)i, 1));
            for (bool more = i < n; more;) {
                more = false;
                for (unsigned k = 0; k <= i; k++) {
                    if (!smt_memory_fits(&m, h[k], 100))
                        continue;
                    smt_memory_take(&m, h[k], 100);
                    more = true;
                }
            }
        }
        assert_int_equal(h[n]->held, 0);
        uint64_t left = m.max - m.held;
        assert_true(left + 100 >= (uint64_t)100 * ALL >> n && smt_memory_fits(&m, h[n], left));
        if (n == 1)
            assert_in_range(left, 50 * ALL, 50 * ALL + 100);
        for (unsigned i = 0; i <= n; i++) {
            smt_memory_give(&m, h[i], h[i]->held);
            smt_memory_host_drop(&m, h[i]);
        }
        smt_memory_fini(&m);
    }
}

static void one_message_always_fits(void **state)
{
    (void)state;
    struct smt_memory m;
    const uint64_t seed[2] = {1, 2};
    assert_int_equal(smt_memory_init(&m, seed, ALL), 0);
    struct smt_memory_host *a = host(&m, ipv4(1, 1)), *b = host(&m, ipv4(2, 1));
    assert_true(smt_memory_fits(&m, a, 5 * ALL));
    smt_memory_take(&m, a, 5 * ALL);
    assert_false(smt_memory_fits(&m, b, 1));
    assert_false(smt_memory_fits(&m, a, 1));
    smt_memory_give(&m, a, 5 * ALL);
    smt_memory_host_drop(&m, a);
    smt_memory_host_drop(&m, b);
    smt_memory_fini(&m);
}

/* ---- the line ---- */

static void send(struct hand *h, enum smt_what what, uint64_t id, uint32_t from, uint32_t to,
                 uint32_t len)
{
    for (uint32_t at = from; at < to; at += PIECE)
        hand_data(h, (struct hand_data){.what = what,
                                        .id = id,
                                        .offset = at,
                                        .len = to - at < PIECE ? to - at : PIECE,
                                        .message_len = len});
}

static void message(struct hand *h, uint64_t id, uint32_t len)
{
    send(h, SMT_WHAT_ONEWAY, id, 0, len, len);
}

static struct hand *start(uint32_t accept_len)
{
    struct hand *h = hand_new(true);
    h->config.max_bytes = ALL;
    h->config.accept_len = accept_len;
    hand_connect(h);
    return h;
}

/* A message of 4,500 is here and not given back: of the same host only 1,000 more would fit. */
static struct hand *start_full(uint32_t accept_len)
{
    struct hand *h = start(accept_len);
    message(h, 1, 4500);
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 1);
    return h;
}

static void check_message(const struct hand *h, unsigned n, uint64_t id, uint32_t len)
{
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_MESSAGE, n);
    assert_non_null(ev);
    assert_int_equal(ev->len, len);
    for (uint32_t i = 0; i < len; i++)
        assert_int_equal(((const uint8_t *)ev->data)[i], hand_byte(id, i));
}

static void release(struct hand *h, unsigned n)
{
    smt_rpc_release(hand_event_n(h, SMT_EE_MESSAGE, n)->rpc);
}

static void homa_100_no_memory_no_question(void **state)
{
    (void)state;
    struct hand *h = start_full(1 << 20);
    message(h, 2, 3000);
    message(h, 3, 1200);
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 1);
    assert_int_equal(hand_counter(h, "memory_waits"), 2);
    hand_clear(h);
    for (unsigned i = 0; i < 100; i++) {
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_NEED_ACK, .id = hand_mine(2)});
        hand_sleep(h, 100 * SMT_MSEC);
        assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, UINT64_MAX), 0);
        assert_int_equal(hand_n_frames(h, SMT_FRAME_GRANT, UINT64_MAX), 0);
        assert_int_equal(hand_n_frames(h, SMT_FRAME_BUSY, 2), 1);
        assert_int_equal(hand_n_events(h, SMT_EE_DOWN), 0);
        hand_clear(h);
    }
    /* What comes of them until then is dropped. */
    message(h, 2, 3000);
    assert_int_equal(h->n_events, 0);
    hand_free(h);
}

/* 121: what comes back goes to one that waits, and it is asked for whole; 123: the shortest
 * first. */
static void homa_121_123_shortest_first(void **state)
{
    (void)state;
    struct hand *h = start_full(1 << 20);
    static const uint32_t lens[] = {3000, 1200, 2500, 900};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++)
        message(h, 2 + i, lens[i]);
    /* The last of them still fitted. */
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 2);
    check_message(h, 1, 5, 900);
    struct smt_rpc *first = hand_event_n(h, SMT_EE_MESSAGE, 0)->rpc;
    hand_clear(h);
    smt_rpc_release(first);
    assert_true(smt_engine_tx_pending(h->e));
    assert_true(smt_engine_deadline(h->e) <= h->now);
    hand_run(h);
    /* 900 are held: 1,200 and 2,500 fit beside them, 3,000 do not yet. */
    static const uint64_t order[] = {3, 4};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(order); i++) {
        const struct smt_frame *f = hand_frame_n(h, SMT_FRAME_RESEND, UINT64_MAX, i);
        assert_non_null(f);
        assert_int_equal(f->id, order[i]);
        assert_int_equal(f->offset, 0);
        assert_int_equal(f->length, lens[order[i] - 2]);
    }
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, UINT64_MAX), 2);
    message(h, 4, 2500);
    message(h, 3, 1200);
    check_message(h, 0, 4, 2500);
    check_message(h, 1, 3, 1200);
    release(h, 0);
    release(h, 1);
    hand_run(h);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, 2), 1);
    message(h, 2, 3000);
    check_message(h, 2, 2, 3000);
    hand_free(h);
}

/* However they end, nothing waits for them. */
static void who_is_over_leaves_the_line(void **state)
{
    (void)state;
    struct hand *h = start_full(1 << 20);
    message(h, 2, 3000);
    message(h, 3, 2000);
    uint64_t call = hand_post(h, 10, false), late = hand_post(h, 10, false);
    send(h, SMT_WHAT_RESPONSE, call | SMT_ID_ROLE, 0, 2500, 2500);
    send(h, SMT_WHAT_RESPONSE, late | SMT_ID_ROLE, 0, 2600, 2600);
    assert_int_equal(hand_counter(h, "memory_waits"), 4);
    assert_int_equal(hand_n_events(h, SMT_EE_RESPONSE), 0);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ABORT, .id = hand_mine(3), .code = 304});
    assert_int_equal(smt_conn_cancel(h->conn, call), 0);
    hand_run(h);
    assert_int_equal(hand_event_n(h, SMT_EE_FAILED, 0)->error, SMT_ECANCELED);
    hand_clear(h);
    smt_conn_close(h->conn, h->now, 0, false);
    hand_run(h);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, UINT64_MAX), 0);
    assert_int_equal(hand_n_events(h, SMT_EE_FAILED), 1);
    assert_int_equal(hand_event_n(h, SMT_EE_FAILED, 0)->id, late);
    hand_free(h);
}

static void a_response_waits_too(void **state)
{
    (void)state;
    struct hand *h = start_full(1 << 20);
    uint64_t call = hand_post(h, 10, false);
    send(h, SMT_WHAT_RESPONSE, call | SMT_ID_ROLE, 0, 2500, 2500);
    assert_int_equal(hand_n_events(h, SMT_EE_RESPONSE), 0);
    struct smt_rpc *first = hand_event_n(h, SMT_EE_MESSAGE, 0)->rpc;
    hand_clear(h);
    smt_rpc_release(first);
    hand_run(h);
    const struct smt_frame *f = hand_frame_n(h, SMT_FRAME_RESEND, hand_mine(call), 0);
    assert_non_null(f);
    assert_int_equal(f->length, 2500);
    send(h, SMT_WHAT_RESPONSE, call | SMT_ID_ROLE, 0, 2500, 2500);
    assert_int_equal(hand_event_n(h, SMT_EE_RESPONSE, 0)->len, 2500);
    hand_free(h);
}

/* A long message that was accepted without a buffer waits like any other. */
static void what_was_accepted_waits(void **state)
{
    (void)state;
    struct hand *h = start_full(5000);
    send(h, SMT_WHAT_ONEWAY, 2, 0, PIECE, 6000);
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_INCOMING, 0);
    assert_non_null(ev);
    assert_int_equal(smt_rpc_accept(ev->rpc, NULL, 0), 0);
    assert_int_equal(smt_rpc_accept(ev->rpc, NULL, 0), SMT_ESTATE);
    hand_sleep(h, SMT_MSEC);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, 2), 0);
    release(h, 0);
    hand_run(h);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, 2), 1);
    message(h, 2, 6000);
    check_message(h, 1, 2, 6000);
    hand_free(h);
}

static void what_can_never_be_had_is_said(void **state)
{
    (void)state;
    struct hand *h = start(5000);
    send(h, SMT_WHAT_ONEWAY, 1, 0, PIECE, 200 << 20);
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_INCOMING, 0);
    assert_non_null(ev);
    assert_int_equal(smt_rpc_accept(ev->rpc, NULL, 0), SMT_ENOMEM);
    assert_int_equal(smt_rpc_reject(ev->rpc), 0);
    hand_run(h);
    hand_free(h);
}

/* Announced and never sent: as long as nobody wants the memory it may stay, then it goes; and the
 * message can still come. */
static void what_does_not_come_is_taken_back(void **state)
{
    (void)state;
    struct hand *h = start(1 << 20);
    send(h, SMT_WHAT_ONEWAY, 1, 0, 2000, 4500);
    for (unsigned i = 0; i < 30; i++) {
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PING});
        hand_sleep(h, 100 * SMT_MSEC);
    }
    assert_int_equal(hand_counter(h, "memory_taken_back"), 0);
    hand_clear(h);
    message(h, 2, 3000);
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 0);
    for (unsigned i = 0; i < 10 && hand_n_frames(h, SMT_FRAME_RESEND, 2) == 0; i++) {
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_PING});
        hand_sleep(h, 100 * SMT_MSEC);
    }
    assert_int_equal(hand_counter(h, "memory_taken_back"), 1);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, 2), 1);
    message(h, 2, 3000);
    check_message(h, 0, 2, 3000);
    /* Its rest alone is not enough now. */
    send(h, SMT_WHAT_ONEWAY, 1, 2000, 4500, 4500);
    assert_int_equal(hand_n_events(h, SMT_EE_MESSAGE), 1);
    struct smt_rpc *second = hand_event_n(h, SMT_EE_MESSAGE, 0)->rpc;
    hand_clear(h);
    smt_rpc_release(second);
    hand_sleep(h, 300 * SMT_MSEC);
    const struct smt_frame *f = hand_frame_n(h, SMT_FRAME_RESEND, 1, 0);
    assert_non_null(f);
    assert_int_equal(f->offset, 0);
    assert_int_equal(f->length, 4500);
    message(h, 1, 4500);
    check_message(h, 0, 1, 4500);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_of_a_host_share),
        cmocka_unit_test(greed_leaves_a_part_for_the_next),
        cmocka_unit_test(one_message_always_fits),
        cmocka_unit_test(homa_100_no_memory_no_question),
        cmocka_unit_test(homa_121_123_shortest_first),
        cmocka_unit_test(who_is_over_leaves_the_line),
        cmocka_unit_test(a_response_waits_too),
        cmocka_unit_test(what_was_accepted_waits),
        cmocka_unit_test(what_can_never_be_had_is_said),
        cmocka_unit_test(what_does_not_come_is_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
