/* How long packets are: what every carriage takes until more is known, what the link says when it
 * is asked again, and nothing longer for handshakes and control. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "hand.h"

static uint32_t longest(const struct hand *h, uint8_t kind)
{
    uint32_t most = 0;
    for (unsigned i = 0; i < h->n_pkts; i++) {
        if (h->pkts[i].hdr.kind == kind && h->pkts[i].len > most)
            most = h->pkts[i].len;
    }
    return most;
}

static uint32_t mtu_of(const struct hand *h)
{
    struct smt_conn_stats stats;
    smt_conn_stats(h->conn, &stats);
    return stats.mtu;
}

/* Certificates of any length go in packets that a RoCE port on an Ethernet of 1,500 takes. */
static void handshakes_fit_every_carriage(void **state)
{
    uint8_t tls[5000];
    memset(tls, 0x16, sizeof(tls));
    struct hand *h = hand_new(false);
    assert_int_equal(smt_engine_new(&h->config, h->now, &h->e), 0);
    assert_int_equal(smt_conn_open(h->e, h->now, &h->addr, &h->conn), 0);
    assert_int_equal(smt_conn_hs_send(h->conn, tls, sizeof(tls)), 0);
    hand_run(h);
    /* Who has no cookie yet asks for one, and that one packet can do. */
    assert_int_equal(h->n_pkts, 1);
    assert_int_equal(h->pkts[0].len, SMT_BASE_PACKET);

    /* And with the cookie. */
    hand_clear(h);
    uint8_t retry[SMT_PLAIN_HDR_LEN + SMT_COOKIE_LEN] = {0};
    const struct smt_hdr hdr = {.kind = SMT_KIND_RETRY,
                                .sport = h->addr.port,
                                .dport = h->config.port,
                                .session_id = smt_conn_id(h->conn)};
    smt_hdr_encode(&hdr, retry);
    hand_rx(h, retry, sizeof(retry));
    assert_true(h->n_pkts >= 5);
    uint32_t end = 0;
    for (unsigned i = 0; i < h->n_pkts; i++) {
        assert_int_equal(h->pkts[i].len, SMT_BASE_PACKET);
        assert_int_equal(h->pkts[i].hdr.cookie_len, SMT_COOKIE_LEN);
        assert_int_equal(h->pkts[i].hdr.offset, end);
        end += h->pkts[i].hdr.tls_len;
    }
    assert_int_equal(end, sizeof(tls));
    hand_free(h);
}

/* More frames than one packet holds: two packets, neither longer than any carriage takes. */
static void control_fits_every_carriage(void **state)
{
    struct hand *h = hand_new(true);
    hand_connect(h);
    struct smt_frame f[120];
    for (unsigned i = 0; i < 120; i++)
        f[i] = (struct smt_frame){.type = SMT_FRAME_NEED_ACK, .id = hand_theirs(1000 + i)};
    hand_frames(h, f, 120);
    assert_int_equal(h->n_pkts, 2);
    assert_in_range(longest(h, SMT_KIND_CTRL), 900, SMT_BASE_PACKET);
    hand_free(h);
}

static void a_link_of_1024_is_enough(void **state)
{
    struct hand *h = hand_new(true);
    h->mtu = 1024;
    hand_connect(h);
    uint64_t id = hand_post(h, 9000, true);
    assert_int_equal(hand_data_end(h, id), 9000);
    assert_in_range(longest(h, SMT_KIND_DATA), 900, 1024);
    assert_int_equal(hand_counter(h, "mtu_probes"), 0);
    assert_int_equal(mtu_of(h), 1024);
    hand_free(h);
}

/* A link that says nonsense is not believed: handshakes have passed it with 1,024. */
static void a_link_of_nothing_is_not_believed(void **state)
{
    static const uint32_t links[] = {0, 1, 60, 112, 576};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(links); i++) {
        struct hand *h = hand_new(true);
        h->mtu = links[i];
        hand_connect(h);
        uint64_t id = hand_post(h, 5000, true);
        assert_int_equal(hand_data_end(h, id), 5000);
        assert_int_equal(mtu_of(h), SMT_BASE_PACKET);
        hand_free(h);
    }
}

/* The receiver misses everything, again and again, because the link does not carry it any more. */
static void a_link_that_shrinks_is_asked(void **state)
{
    static const uint32_t links[] = {1024, 1100, 1232, 1300};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(links); i++) {
        struct hand *h = hand_new(true);
        hand_connect(h);
        uint64_t id = hand_post(h, 9000, true);
        hand_sleep(h, SMT_MSEC);
        assert_int_equal(mtu_of(h), HAND_MTU);
        h->mtu = links[i];
        uint64_t probes = hand_counter(h, "mtu_probes");
        for (unsigned round = 0; round < 6; round++) {
            hand_sleep(h, 25 * SMT_MSEC);
            hand_frame(h, (struct smt_frame){.type = SMT_FRAME_RESEND,
                                             .id = hand_theirs(id),
                                             .length = 9000,
                                             .prio = 7});
        }
        assert_int_equal(mtu_of(h), links[i]);
        /* It says so itself: one probe to see whether the path agrees. */
        assert_in_range(hand_counter(h, "mtu_probes"), probes, probes + 1);
        hand_clear(h);
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_RESEND,
                                         .id = hand_theirs(id),
                                         .length = 9000,
                                         .prio = 7});
        assert_in_range(longest(h, SMT_KIND_DATA), 900, links[i]);
        hand_free(h);
    }
}

/* Looked at again every ten minutes, whatever it was: a larger link, then a smaller one. */
static void a_link_that_grows_is_asked(void **state)
{
    struct hand *h = hand_new(true);
    h->mtu = 1024;
    hand_connect(h);
    uint64_t id = hand_post(h, 100, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    hand_sleep(h, SMT_SEC);
    assert_int_equal(mtu_of(h), 1024);
    h->mtu = 1400;
    hand_sleep(h, 601 * SMT_SEC);
    assert_int_equal(mtu_of(h), 1400);
    assert_int_equal(hand_counter(h, "mtu_probes"), 1);
    h->mtu = 1200;
    hand_sleep(h, 601 * SMT_SEC);
    assert_int_equal(mtu_of(h), 1200);
    h->mtu = HAND_MTU;
    hand_sleep(h, 601 * SMT_SEC);
    assert_int_equal(mtu_of(h), HAND_MTU);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes_fit_every_carriage),
        cmocka_unit_test(control_fits_every_carriage),
        cmocka_unit_test(a_link_of_1024_is_enough),
        cmocka_unit_test(a_link_of_nothing_is_not_believed),
        cmocka_unit_test(a_link_that_shrinks_is_asked),
        cmocka_unit_test(a_link_that_grows_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
