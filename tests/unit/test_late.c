/* What of a round trip passed at its ends is told, and shuts no window. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hand.h"

static struct hand *start(void)
{
    struct hand *h = hand_new(true);
    hand_connect(h);
    hand_sleep(h, 3 * SMT_SEC);
    hand_clear(h);
    return h;
}

/* The hand sends a MARK; what LATE says of it, 0 if there is none. */
static uint32_t told(struct hand *h, uint32_t seq)
{
    hand_clear(h);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_MARK, .seq = seq});
    const struct smt_frame *seen = hand_frame_n(h, SMT_FRAME_SEEN, UINT64_MAX, 0);
    assert_non_null(seen);
    assert_int_equal(seen->seq, seq);
    const struct smt_frame *late = hand_frame_n(h, SMT_FRAME_LATE, UINT64_MAX, 0);
    if (late == NULL)
        return 0;
    assert_int_equal(late->seq, seq);
    assert_true(late < seen);
    return late->length;
}

static void an_end_that_was_busy_says_so(void **state)
{
    (void)state;
    struct hand *h = start();
    assert_int_equal(told(h, 1), 0); /* it has never said that it was idle */
    smt_engine_idle(h->e, h->now);
    assert_int_equal(told(h, 2), 0);
    smt_engine_idle(h->e, h->now - 19 * SMT_USEC);
    assert_int_equal(told(h, 3), 0);
    smt_engine_idle(h->e, h->now - 50 * SMT_USEC);
    assert_int_equal(told(h, 4), 50000);
    smt_engine_idle(h->e, h->now - 2 * SMT_SEC);
    assert_int_equal(told(h, 5), 1000000);
    hand_free(h);
}

/* Messages whose MARKs are answered after `rtt`, with LATE for `late` of it before the answer and
 * the engine itself busy for `own`; how often the window fell. */
static uint64_t cuts(struct hand *h, uint64_t rtt, uint32_t late, uint64_t own, uint32_t wrong)
{
    enum { N = 20, LEN = 9000 };
    uint64_t before = hand_counter(h, "windows_cut");
    unsigned n_seen = 0;
    for (unsigned i = 0; i < N; i++) {
        hand_clear(h);
        uint64_t id = hand_post(h, LEN, true);
        uint64_t sent = h->now;
        hand_sleep(h, rtt);
        const struct smt_frame *m = hand_frame_n(h, SMT_FRAME_MARK, UINT64_MAX, 0);
        if (own > 0)
            smt_engine_idle(h->e, h->now - own);
        if (m != NULL) {
            const struct smt_frame mark = *m;
            assert_int_equal(h->now - sent, rtt);
            const struct smt_frame answer[2] = {
                {.type = SMT_FRAME_LATE, .seq = mark.seq + wrong, .length = late},
                {.type = SMT_FRAME_SEEN,
                 .seq = mark.seq,
                 .packets = mark.packets,
                 .bytes = mark.bytes},
            };
            hand_frames(h, late > 0 ? answer : answer + 1, late > 0 ? 2 : 1);
            n_seen++;
        }
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    }
    assert_true(n_seen > 5);
    return hand_counter(h, "windows_cut") - before;
}

static void a_busy_end_is_no_queue(void **state)
{
    (void)state;
    struct hand *h = start();
    h->polite = false;
    enum { SHORT = 20 * SMT_USEC, LONG = 400 * SMT_USEC };
    assert_int_equal(cuts(h, SHORT, 0, 0, 0), 0); /* the least round trip */
    assert_int_equal(cuts(h, LONG, 380000, 0, 0), 0);
    assert_int_equal(cuts(h, LONG, 200000, 180 * SMT_USEC, 0), 0);
    assert_int_equal(cuts(h, LONG, 0, 380 * SMT_USEC, 0), 0);
    /* A queue of the network is one, whoever was busy a little; so is what no end can explain. */
    smt_engine_idle(h->e, 0);
    assert_true(cuts(h, LONG, 0, 0, 0) > 0);
    assert_true(cuts(h, LONG, 100000, 0, 0) > 0);
    assert_true(cuts(h, LONG, 380000, 0, 7) > 0);              /* of another mark */
    assert_true(cuts(h, 3 * SMT_MSEC, UINT32_MAX, 0, 0) > 0);  /* more than can be said */
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_end_that_was_busy_says_so),
        cmocka_unit_test(a_busy_end_is_no_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
