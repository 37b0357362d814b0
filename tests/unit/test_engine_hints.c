/* NO_SESSION is nobody's word: a live session takes it as a reason to ask, and only silence as an
 * answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "hand.h"

static void say_no_session(struct hand *h)
{
    uint8_t pkt[SMT_PLAIN_HDR_LEN];
    const struct smt_hdr hdr = {.kind = SMT_KIND_NO_SESSION,
                                .version = SMT_WIRE_VERSION,
                                .sport = h->addr.port,
                                .dport = h->config.port,
                                .session_id = h->id};
    smt_hdr_encode(&hdr, pkt);
    hand_rx(h, pkt, sizeof(pkt));
}

static struct hand *connected(void)
{
    struct hand *h = hand_new(false);
    hand_connect(h);
    hand_sleep(h, 100 * SMT_MSEC);
    hand_clear(h);
    return h;
}

static void a_peer_that_answers_is_believed(void **state)
{
    struct hand *h = connected();
    for (unsigned i = 0; i < 50; i++) {
        say_no_session(h);
        hand_sleep(h, 10 * SMT_MSEC);
    }
    assert_true(hand_counter(h, "no_session_rcvd") == 50);
    assert_int_equal(hand_n_events(h, SMT_EE_NO_SESSION), 0);
    hand_free(h);
}

static void silence_is_believed(void **state)
{
    struct hand *h = connected();
    h->polite = false;
    say_no_session(h);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_PING, UINT64_MAX), 1);
    assert_int_equal(hand_n_events(h, SMT_EE_NO_SESSION), 0);
    hand_sleep(h, 200 * SMT_MSEC);
    assert_int_equal(hand_n_events(h, SMT_EE_NO_SESSION), 1);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_peer_that_answers_is_believed),
        cmocka_unit_test(silence_is_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
