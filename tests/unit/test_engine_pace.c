/* The device's pace: what stands in its queue stays within a slack of the link's time, the link is
 * never idle while there is something to send, short messages do not wait. Item 129 of Homa's list
 * (tests/homa-items.md), beside test_engine_homa_order.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/pace.h"
#include "hand.h"

/* 8.08 ns a byte: 1 % slower than it is. */
enum { MBPS = 1010, NS_PER_BYTE = 8, SLACK = 100000, EXTRA = 66 };

static void a_queue_fills_and_drains(void **state)
{
    (void)state;
    struct smt_pace p;
    smt_pace_init(&p, MBPS, SLACK);
    assert_false(smt_pace_holds(&p, 1000));
    assert_int_equal(smt_pace_deadline(&p), SMT_NEVER);
    /* 12,500 bytes are 100 us. */
    smt_pace_sent(&p, 1000, 12500 - 10 * EXTRA, 10);
    assert_int_equal(p.idle_at, 1000 + SLACK);
    assert_false(smt_pace_holds(&p, 1000));
    smt_pace_sent(&p, 1000, 12500 - 10 * EXTRA + 1, 10);
    assert_true(smt_pace_holds(&p, 1000));
    uint64_t at = smt_pace_deadline(&p);
    assert_int_equal(at, 1000 + SLACK / 2 + NS_PER_BYTE);
    smt_pace_look(&p, at - 1);
    assert_true(smt_pace_holds(&p, at - 1));
    smt_pace_look(&p, at);
    assert_false(smt_pace_holds(&p, at));
    /* After a pause it begins anew. */
    smt_pace_sent(&p, 10 * SLACK, 12500 - 10 * EXTRA + 1 + 100, 10);
    assert_int_equal(p.idle_at, 10 * SLACK + 100 * NS_PER_BYTE);
}

static void nothing_is_paced_without_a_speed(void **state)
{
    (void)state;
    struct smt_pace p;
    for (unsigned i = 0; i < 2; i++) {
        smt_pace_init(&p, i == 0 ? 0 : MBPS, i == 0 ? SLACK : 0);
        assert_int_equal(p.ps_per_byte, 0);
    }
}

static struct hand *start(uint32_t mbps)
{
    struct hand *h = hand_new(true);
    h->params.unsched = 4 << 20;
    h->params.rx_window = 4 << 20;
    h->config.tune.unsched_first = 4 << 20;
    h->config.tune.link_mbps = mbps;
    hand_connect(h);
    return h;
}

static uint64_t wire_bytes(const struct hand *h)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < h->n_pkts; i++)
        sum += h->pkts[i].len + EXTRA;
    return sum;
}

static void homa_129_the_queue_stays_short(void **state)
{
    (void)state;
    struct hand *h = start(MBPS);
    uint64_t from = h->now, id = hand_post(h, 1 << 20, true);
    while (hand_data_end(h, id) < 1 << 20) {
        uint64_t passed = h->now - from, link_sent = passed / NS_PER_BYTE;
        /* What the link could not send yet is in the queue: the slack and two packets at most; and
         * it is never empty. */
        assert_in_range(wire_bytes(h), link_sent, link_sent + SLACK / NS_PER_BYTE + 4000);
        assert_false(smt_engine_tx_pending(h->e));
        uint64_t next = smt_engine_deadline(h->e);
        assert_true(next > h->now && next <= h->now + SLACK);
        hand_sleep(h, next - h->now);
    }
    uint64_t ideal = wire_bytes(h) * NS_PER_BYTE;
    assert_in_range(h->now - from, ideal - 2 * SLACK, ideal);
    hand_free(h);
}

static void short_messages_do_not_wait(void **state)
{
    (void)state;
    struct hand *h = start(MBPS);
    uint64_t longer = hand_post(h, 1 << 20, true);
    assert_true(hand_data_end(h, longer) < 50000);
    uint64_t shorter = hand_post(h, 500, false);
    assert_int_equal(hand_n_data(h, shorter), 1);
    /* Asked for again it need not wait either. */
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_RESEND,
                                     .id = hand_theirs(shorter),
                                     .length = SMT_RESEND_ALL});
    assert_int_equal(hand_n_data(h, shorter), 2);
    /* One of two packets waits, and goes before the rest of the long one. */
    uint64_t middle = hand_post(h, 2000, false);
    assert_int_equal(hand_n_data(h, middle), 0);
    uint32_t end = hand_data_end(h, longer);
    hand_sleep(h, SLACK);
    assert_int_equal(hand_data_end(h, middle), 2000);
    for (unsigned i = 0; i < h->n_pkts; i++) {
        const struct hand_pkt *p = &h->pkts[i];
        if (p->hdr.kind == SMT_KIND_DATA && p->hdr.rpc_id == longer && p->inner.offset >= end)
            assert_true(p->at >= hand_pkt_n(h, middle, 1)->at);
    }
    hand_free(h);
}

static void an_unknown_link_takes_all(void **state)
{
    (void)state;
    struct hand *h = start(0);
    uint64_t id = hand_post(h, 1 << 20, true);
    assert_int_equal(hand_data_end(h, id), 1 << 20);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_fills_and_drains),
        cmocka_unit_test(nothing_is_paced_without_a_speed),
        cmocka_unit_test(homa_129_the_queue_stays_short),
        cmocka_unit_test(short_messages_do_not_wait),
        cmocka_unit_test(an_unknown_link_takes_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
