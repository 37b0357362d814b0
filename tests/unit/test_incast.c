/* Many messages at once to one engine: the unscheduled limit falls and comes back, and what stands
 * in the queue before our link is not asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/tune.h"
#include "hand.h"

enum { LEN = 10000, FIRST = 1000 };

static void bytes(struct hand *h, uint64_t id, uint32_t from, uint32_t to)
{
    hand_data(h, (struct hand_data){.what = SMT_WHAT_ONEWAY,
                                    .id = id,
                                    .offset = from,
                                    .len = to - from,
                                    .message_len = LEN});
}

static void begin_many(struct hand *h, uint64_t from, uint64_t to)
{
    for (uint64_t id = from; id <= to; id++)
        bytes(h, id, 0, FIRST);
}

/* The rest of them, in packets. */
static void end_many(struct hand *h, uint64_t from, uint64_t to)
{
    for (uint64_t id = from; id <= to; id++) {
        for (uint32_t at = FIRST; at < LEN; at += 1000)
            bytes(h, id, at, at + 1000);
        const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_MESSAGE, 0);
        assert_non_null(ev);
        smt_rpc_release(ev->rpc);
        hand_clear(h);
    }
}

/* The limit of the last CUTOFFS, 0 = none was sent. */
static uint32_t limit_told(const struct hand *h)
{
    unsigned n = hand_n_frames(h, SMT_FRAME_CUTOFFS, UINT64_MAX);
    return n > 0 ? hand_frame_n(h, SMT_FRAME_CUTOFFS, UINT64_MAX, n - 1)->length : 0;
}

static struct hand *start(void)
{
    struct hand *h = hand_new(true);
    hand_connect(h);
    return h;
}

/* 64 at once are usual. */
static void incast_few_change_nothing(void **state)
{
    struct hand *h = start();
    begin_many(h, 1, 64);
    assert_int_equal(hand_counter(h, "limits_moved"), 0);
    end_many(h, 1, 64);
    hand_free(h);
}

static void incast_limit_falls_and_comes_back(void **state)
{
    struct hand *h = start();
    uint32_t whole = h->config.tune.unsched_most;
    begin_many(h, 1, 65);
    hand_sleep(h, 100 * SMT_USEC);
    hand_clear(h);
    begin_many(h, 66, 66);
    assert_in_range(limit_told(h), 1501, whole / 2);
    /* The more there are, the lower, down to about a packet. */
    begin_many(h, 67, 400);
    hand_sleep(h, 100 * SMT_USEC);
    begin_many(h, 401, 401);
    assert_int_equal(limit_told(h), 1500);
    end_many(h, 1, 401);
    /* It does not come back with the last of them, */
    uint64_t moved = hand_counter(h, "limits_moved");
    begin_many(h, 402, 402);
    end_many(h, 402, 402);
    assert_int_equal(hand_counter(h, "limits_moved"), moved);
    /* but after a while with few, */
    hand_sleep(h, 200 * SMT_MSEC);
    begin_many(h, 403, 403);
    end_many(h, 403, 403);
    begin_many(h, 404, 404);
    assert_int_equal(limit_told(h), whole);
    end_many(h, 404, 404);
    hand_free(h);
}

/* Messages that end otherwise do not count for ever. */
static void incast_counts_what_is_there(void **state)
{
    struct hand *h = start();
    for (unsigned round = 0; round < 5; round++) {
        uint64_t first = 1 + 60 * round;
        begin_many(h, first, first + 59);
        for (uint64_t id = first; id < first + 60; id++)
            hand_frame(h, (struct smt_frame){
                              .type = SMT_FRAME_ABORT, .id = hand_mine(id), .code = 14});
    }
    assert_int_equal(hand_counter(h, "limits_moved"), 0);
    hand_free(h);
}

/* One packet of a message is missing while the link is busy with as much as it can carry: that may
 * stand in the queue. Once nothing comes any more it is asked for. */
static void incast_what_stands_in_the_queue_is_not_asked_for(void **state)
{
    enum { BUSY = 64 };
    struct hand *h = start();
    /* A round trip and a rate: 100 packets of 1,000 B, one in 10 us. */
    uint64_t own = hand_post(h, 100, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_mine(own)});
    hand_sleep(h, 10 * SMT_MSEC);
    for (uint64_t id = 1; id <= 16; id++) {
        for (uint32_t at = 0; at < LEN; at += 1000) {
            bytes(h, id, at, at + 1000);
            hand_sleep(h, 10 * SMT_USEC);
        }
        smt_rpc_release(hand_event_n(h, SMT_EE_MESSAGE, 0)->rpc);
        hand_clear(h);
    }
    /* As many begin as take 6 ms; 2 ms of them come, without the first's. */
    for (uint64_t id = 17; id < 17 + BUSY; id++) {
        bytes(h, id, 0, FIRST);
        hand_sleep(h, 10 * SMT_USEC);
    }
    hand_clear(h);
    for (uint64_t id = 18; id < 18 + 22; id++) {
        for (uint32_t at = FIRST; at < LEN; at += 1000) {
            bytes(h, id, at, at + 1000);
            hand_sleep(h, 10 * SMT_USEC);
        }
    }
    assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, UINT64_MAX), 0);
    hand_sleep(h, 12 * SMT_MSEC);
    assert_true(hand_n_frames(h, SMT_FRAME_RESEND, UINT64_MAX) > 0);
    const struct smt_engine_event *ev;
    for (unsigned n = 0; (ev = hand_event_n(h, SMT_EE_MESSAGE, n)) != NULL; n++)
        smt_rpc_release(ev->rpc);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(incast_few_change_nothing),
        cmocka_unit_test(incast_limit_falls_and_comes_back),
        cmocka_unit_test(incast_counts_what_is_there),
        cmocka_unit_test(incast_what_stands_in_the_queue_is_not_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
