/* The `ud` device over the verbs model, when all goes well: posting, receiving, held packets,
 * back-pressure, sleeping, sizes. Every case runs over each way of posting. What a device promises
 * whatever it is, is tests/conform's; faults are test_dev_ud_faults.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "ud_rig.h"

static const struct ud_rig_flavour *flavour;

static int set_up(void **state)
{
    *state = ud_rig_begin(flavour);
    return 0;
}

static int tear_down(void **state)
{
    ud_rig_end(*state);
    return 0;
}

/* The first packets wait until their receiver has answered, and come in their order. */
static void test_first_packets_are_held(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 3);
    for (unsigned i = 0; i < 20; i++) {
        assert_true(ud_rig_put(rig, 0, 1 + i % 2, 50 + 37 * i, 1));
        if (i % 3 == 0)
            ud_rig_flush(rig, 0);
    }
    ud_rig_flush(rig, 0);
    assert_int_equal(ud_rig_stats(rig, 0).tx_packets, 0);
    ud_rig_expect(rig, 20);
    struct smt_dev_stats s = ud_rig_stats(rig, 0);
    assert_int_equal(s.tx_packets, 20);
    assert_int_equal(s.tx_errors, 0);
    /* Whoever was asked knows the asker: its answer is not held. */
    uint64_t doorbells = verbs_model_counts.doorbells;
    assert_true(ud_rig_put(rig, 1, 0, 60, 7));
    ud_rig_flush(rig, 1);
    assert_int_equal(verbs_model_counts.doorbells, doorbells + 1);
    ud_rig_expect(rig, 1);
    assert_int_equal(ud_rig_stats(rig, 1).rx_dropped, 0);
}

/* What was held leaves before what comes later, whenever the answer is heard: here it lies there
 * already when the next packet is reserved. */
static void test_held_packets_stay_first(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    for (unsigned i = 0; i < 10; i++)
        assert_true(ud_rig_put(rig, 0, 1, 60, 0));
    ud_rig_flush(rig, 0);
    struct smt_pkt pkt;
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(rig->dev[1]->ops->rx(rig->dev[1], &pkt, 1), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_true(ud_rig_put(rig, 0, 1, 60, 0));
    ud_rig_flush(rig, 0);
    assert_int_equal(ud_rig_stats(rig, 0).tx_packets, 20);
    ud_rig_expect(rig, 20);
}

/* Held packets are few; those beyond are dropped and counted, and the device goes on. */
static void test_held_packets_are_bounded(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 3);
    ud_rig_meet(rig, 0, 2);
    rig->may_lose = true;
    for (unsigned i = 0; i < 300; i++) {
        assert_true(ud_rig_put(rig, 0, 1, 80, 0));
        assert_true(ud_rig_put(rig, 0, 2, 80, 0));
        ud_rig_flush(rig, 0);
    }
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    while (rig->received[0][1] == 0 || rig->received[0][2] < 301)
        assert_true(ud_rig_pump(rig) > 0 || ud_rig_now_ms() < end);
    struct smt_dev_stats s;
    while (s = ud_rig_stats(rig, 0), s.tx_packets + s.tx_errors < 601)
        assert_true(ud_rig_pump(rig) > 0 || ud_rig_now_ms() < end);
    assert_true(s.tx_packets + s.tx_errors == 601 && s.tx_errors >= 300 - 64);
    assert_int_equal(rig->received[0][2], 301);
    ud_rig_heal(rig, 0, 1);
}

static void test_one_doorbell_a_flush(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 3);
    ud_rig_meet(rig, 0, 1);
    ud_rig_meet(rig, 0, 2);
    for (unsigned n = 1; n <= 200; n += 33) {
        struct smt_dev_stats before = ud_rig_stats(rig, 0);
        struct verbs_model_counts counts = verbs_model_counts;
        for (unsigned i = 0; i < n; i++)
            assert_true(ud_rig_put(rig, 0, 1 + i / 3 % 2, 20 + i * 5, (uint8_t)(i / 7 % 8)));
        ud_rig_flush(rig, 0);
        struct smt_dev_stats after = ud_rig_stats(rig, 0);
        assert_int_equal(verbs_model_counts.doorbells - counts.doorbells, 1);
        assert_int_equal(verbs_model_counts.sends - counts.sends, n);
        assert_int_equal(after.tx_calls - before.tx_calls, 1);
        assert_int_equal(after.tx_packets - before.tx_packets, n);
        ud_rig_expect(rig, n);
    }
    /* Nothing to send, nothing rung. */
    uint64_t doorbells = verbs_model_counts.doorbells;
    ud_rig_flush(rig, 0);
    assert_int_equal(verbs_model_counts.doorbells, doorbells);
}

static void test_inline_when_it_fits(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    uint32_t limit = flavour->max_inline >= 188 ? 188 : flavour->max_inline >= 60 ? 60 : 0;
    struct verbs_model_counts before = verbs_model_counts;
    unsigned n = 0, n_inline = 0;
    for (uint32_t len = 8; len < 300; len += 4, n++) {
        assert_true(ud_rig_put(rig, 0, 1, len, 0));
        ud_rig_flush(rig, 0);
        n_inline += len <= limit;
    }
    assert_int_equal(verbs_model_counts.inline_sends - before.inline_sends, n_inline);
    ud_rig_expect(rig, n);
}

/* One completion in 64 sends; receive buffers go back by lots. */
static void test_completions_are_few(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    struct verbs_model_counts before = verbs_model_counts;
    struct smt_mem_stats memory = smt_mem_live();
    for (unsigned i = 0; i < 6400; i++) {
        assert_true(ud_rig_put(rig, 0, 1, 100 + i % 800, 0));
        ud_rig_flush(rig, 0);
        if (i % 10 == 9)
            ud_rig_expect(rig, 10);
    }
    assert_int_equal(verbs_model_counts.signalled - before.signalled, 100);
    uint64_t n_recvs = verbs_model_counts.recvs - before.recvs;
    uint64_t n_posts = verbs_model_counts.recv_posts - before.recv_posts;
    assert_in_range(n_recvs, 6400 - 64, 6400 + 64);
    assert_in_range(n_posts, 1, n_recvs / 32);
    assert_int_equal(verbs_model_counts.no_recv, 0);
    struct smt_mem_stats now = smt_mem_live();
    assert_true(now.n_live == memory.n_live && now.bytes_live == memory.bytes_live);
}

/* A network that takes nothing: the device fills up, says so, sleeps until there is room, and loses
 * nothing. */
static void test_back_pressure(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    struct smt_dev *dev = rig->dev[0];
    for (unsigned round = 0; round < 3; round++) {
        verbs_model.is_stalled = true;
        unsigned n = 0;
        for (; ud_rig_put(rig, 0, 1, 300 + n % 400, 0); n++) {
            if (n % 40 == 39)
                (void)dev->ops->tx_flush(dev);
        }
        assert_in_range(n, 512, 2000);
        struct verbs_model_counts before = verbs_model_counts;
        assert_int_equal(dev->ops->tx_flush(dev), SMT_EAGAIN);
        assert_int_equal(dev->ops->tx_flush(dev), SMT_EAGAIN);
        assert_int_equal(verbs_model_counts.doorbells, before.doorbells);
        assert_true(ud_rig_stats(rig, 0).tx_full > 0);
        assert_int_equal(dev->ops->arm(dev), 0);
        assert_false(ud_rig_is_readable(rig, 0, 0));
        verbs_model.is_stalled = false;
        verbs_model_run(1);
        verbs_model.is_stalled = true;
        assert_int_equal(verbs_model_run(500), 500);
        assert_true(ud_rig_is_readable(rig, 0, UD_RIG_PATIENCE_MS));
        assert_int_equal(dev->ops->arm(dev), SMT_EBUSY);
        verbs_model.is_stalled = false;
        uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
        while (dev->ops->tx_flush(dev) == SMT_EAGAIN)
            assert_true(ud_rig_now_ms() < end);
        ud_rig_expect(rig, n);
    }
    assert_int_equal(ud_rig_stats(rig, 0).tx_errors, 0);
}

static void test_unreserve(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud,qps=3", 3);
    ud_rig_meet(rig, 0, 1);
    for (unsigned i = 0; i < 400; i++) {
        unsigned to = 1 + i % 2;
        assert_true(ud_rig_put(rig, 0, to, 100 + i, 0));
        if (i % 3 == 0) {
            assert_true(ud_rig_put(rig, 0, to, 20, 5));
            rig->dev[0]->ops->tx_unreserve(rig->dev[0]);
            rig->sent[0][to]--;
        }
        if (i % 50 == 49) {
            ud_rig_flush(rig, 0);
            ud_rig_expect(rig, 50);
        }
    }
    assert_int_equal(ud_rig_stats(rig, 0).tx_packets, 401);
}

/* Sleeping loses nothing, whatever comes between draining and arming. */
static void test_sleep(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    struct smt_dev *rx = rig->dev[1];
    uint64_t n_events = verbs_model_counts.cq_events;
    for (unsigned i = 0; i < 300; i++) {
        while (ud_rig_pump(rig) > 0)
            ;
        if (i % 3 == 0) { /* before arming */
            assert_true(ud_rig_put(rig, 0, 1, 90, 0));
            ud_rig_flush(rig, 0);
            assert_int_equal(rx->ops->arm(rx), SMT_EBUSY);
            ud_rig_expect(rig, 1);
        }
        assert_int_equal(rx->ops->arm(rx), 0);
        assert_false(ud_rig_is_readable(rig, 1, 0));
        if (i % 5 == 0) { /* armed twice */
            assert_int_equal(rx->ops->arm(rx), 0);
            assert_false(ud_rig_is_readable(rig, 1, 0));
        }
        assert_true(ud_rig_put(rig, 0, 1, 90, 0));
        ud_rig_flush(rig, 0);
        assert_true(ud_rig_is_readable(rig, 1, UD_RIG_PATIENCE_MS));
        ud_rig_expect(rig, 1);
    }
    assert_in_range(verbs_model_counts.cq_events - n_events, 290, 300);
    /* Unread events and completions at closing. */
    assert_int_equal(rx->ops->arm(rx), 0);
    assert_true(ud_rig_put(rig, 0, 1, 90, 0));
    ud_rig_flush(rig, 0);
}

/* A peer that asks ends the sleep, and is answered before the next. */
static void test_questions_end_the_sleep(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    struct smt_dev *a = rig->dev[0], *b = rig->dev[1];
    assert_true(ud_rig_put(rig, 0, 1, 90, 0));
    while (b->ops->arm(b) != 0)
        ;
    ud_rig_flush(rig, 0);
    struct smt_pkt pkt;
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    int got = 0;
    while (got == 0) {
        while (a->ops->arm(a) != 0)
            assert_int_equal(a->ops->rx(a, &pkt, 1), 0);
        if (b->ops->arm(b) == 0)
            assert_true(ud_rig_is_readable(rig, 1, UD_RIG_PATIENCE_MS));
        got = b->ops->rx(b, &pkt, 1);
        assert_true(ud_rig_now_ms() < end);
    }
    assert_int_equal(pkt.len, 90);
}

static void test_lengths(void **state)
{
    static const enum ibv_mtu mtus[] = {IBV_MTU_1024, IBV_MTU_2048, IBV_MTU_4096};
    struct ud_rig *rig = *state;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(mtus); i++) {
        verbs_model.devices[0].active_mtu = mtus[i];
        ud_rig_open(rig, "ud", 2);
        struct smt_dev *dev = rig->dev[0];
        uint32_t mtu = 128u << mtus[i];
        assert_int_equal(dev->ops->mtu(dev, &rig->addr[1]), mtu);
        ud_rig_meet(rig, 0, 1);
        assert_int_equal(dev->ops->mtu(dev, &rig->addr[1]), mtu);
        for (uint32_t len = 8; len <= mtu; len += len < 300 || len > mtu - 20 ? 1 : 61) {
            assert_true(ud_rig_put(rig, 0, 1, len, 0));
            ud_rig_flush(rig, 0);
            ud_rig_expect(rig, 1);
        }
        /* Larger ones go nowhere and take nobody along. */
        static const uint32_t too_large[] = {1, 1000, SMT_DEV_MAX_PACKET - 4096};
        for (unsigned k = 0; k < SMT_ARRAY_LEN(too_large); k++) {
            assert_true(ud_rig_put(rig, 0, 1, 64, 0));
            uint32_t len = mtu + too_large[k];
            uint8_t *p = dev->ops->tx_reserve(dev, &rig->addr[1], len, 0);
            assert_non_null(p);
            memset(p, 0, len);
            assert_true(ud_rig_put(rig, 0, 1, mtu, 0));
            ud_rig_flush(rig, 0);
            ud_rig_expect(rig, 2);
        }
        assert_int_equal(ud_rig_stats(rig, 0).tx_too_big, SMT_ARRAY_LEN(too_large));
        assert_int_equal(ud_rig_stats(rig, 0).tx_errors, 0);
        ud_rig_close(rig);
    }
}

/* Two ports of one network with different MTUs: the smaller holds, in both directions. */
static void test_unequal_ends(void **state)
{
    struct ud_rig *rig = *state;
    verbs_model.n_devices = 2;
    verbs_model.devices[1] = verbs_model.devices[0];
    verbs_model.devices[1].name = "model1";
    for (unsigned i = 0; i < VERBS_MODEL_GIDS; i++)
        verbs_model.devices[1].gids[i] = (struct ibv_gid_entry){0};
    verbs_model_set_gid(1, 0, "127.0.0.2", IBV_GID_TYPE_ROCE_V2, "lo");
    verbs_model.devices[0].active_mtu = IBV_MTU_4096;
    verbs_model.devices[1].active_mtu = IBV_MTU_1024;
    *rig = (struct ud_rig){0};
    ud_rig_open_one(rig, "ud:model0", "127.0.0.1");
    ud_rig_open_one(rig, "ud:model1", "127.0.0.2");
    struct smt_dev *dev = rig->dev[0];
    assert_int_equal(dev->ops->mtu(dev, &rig->addr[1]), 4096);
    ud_rig_meet(rig, 0, 1);
    assert_int_equal(dev->ops->mtu(dev, &rig->addr[1]), 1024);
    assert_int_equal(rig->dev[1]->ops->mtu(rig->dev[1], &rig->addr[0]), 1024);
    uint8_t *p = dev->ops->tx_reserve(dev, &rig->addr[1], 1025, 0);
    assert_non_null(p);
    memset(p, 0, 1025);
    assert_true(ud_rig_put(rig, 0, 1, 1024, 0));
    ud_rig_flush(rig, 0);
    ud_rig_expect(rig, 1);
    assert_int_equal(ud_rig_stats(rig, 0).tx_too_big, 1);
}

static uint64_t by_sender[16];

static bool count_sender(void *arg, struct verbs_model_packet *packet)
{
    by_sender[packet->src_qpn % 16]++;
    return true;
}

/* Sends spread over the queue pairs, each destination on one; a doorbell for each at most. */
static void test_several_queue_pairs(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud,qps=4", UD_RIG_MAX);
    assert_int_equal(verbs_model_counts.qps, 4 * UD_RIG_MAX);
    for (unsigned i = 1; i < UD_RIG_MAX; i++)
        ud_rig_meet(rig, 0, i);
    memset(by_sender, 0, sizeof(by_sender));
    verbs_model.filter = count_sender;
    uint64_t n = 0;
    for (unsigned round = 0; round < 100; round++) {
        uint64_t doorbells = verbs_model_counts.doorbells;
        for (unsigned i = 0; i < 70; i++, n++)
            assert_true(ud_rig_put(rig, 0, 1 + i % (UD_RIG_MAX - 1), 30 + i * 9, 2));
        ud_rig_flush(rig, 0);
        assert_in_range(verbs_model_counts.doorbells - doorbells, 1, 4);
        ud_rig_expect(rig, 70);
    }
    unsigned n_used = 0;
    for (unsigned i = 0; i < 16; i++)
        n_used += by_sender[i] > 0;
    assert_in_range(n_used, 1, 4);
}

static void test_empty_packets_are_passed_over(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 3);
    ud_rig_meet(rig, 0, 1);
    ud_rig_meet(rig, 2, 1);
    /* What closes sends one behind its last packet, which has asked for no completion. */
    assert_true(ud_rig_put(rig, 0, 1, 300, 0));
    ud_rig_flush(rig, 0);
    uint64_t sends = verbs_model_counts.sends;
    rig->dev[0]->ops->close(rig->dev[0]);
    rig->dev[0] = NULL;
    assert_int_equal(verbs_model_counts.sends, sends + 1);
    assert_true(ud_rig_put(rig, 2, 1, 100, 0));
    ud_rig_flush(rig, 2);
    ud_rig_expect(rig, 2);
    assert_int_equal(ud_rig_stats(rig, 1).rx_dropped, 0);
}

/* Registered are whole pages; a child that is born while packets are under way hurts nobody. */
static void test_fork(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    assert_int_equal(verbs_model_counts.mrs, 2);
    assert_int_equal(verbs_model_counts.mr_bytes % 4096, 0);
    ud_rig_meet(rig, 0, 1);
    verbs_model.is_stalled = true;
    for (unsigned i = 0; i < 10; i++)
        assert_true(ud_rig_put(rig, 0, 1, 500, 0));
    ud_rig_flush(rig, 0);
    for (unsigned i = 0; i < 10; i++)
        assert_true(ud_rig_put(rig, 0, 1, 500, 0));
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(0);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    verbs_model.is_stalled = false;
    ud_rig_flush(rig, 0);
    ud_rig_expect(rig, 20);
    ud_rig_meet(rig, 1, 0);
}

/* Both families find each other, each by its own addresses. */
static void test_ipv6(void **state)
{
    struct ud_rig *rig = *state;
    *rig = (struct ud_rig){0};
    ud_rig_open_one(rig, "ud:model0", "::1");
    ud_rig_open_one(rig, "ud:lo", "::1");
    ud_rig_meet(rig, 0, 1);
    assert_false(smt_addr_is_ipv4(&rig->addr[0]));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_first_packets_are_held),
        CASE(test_held_packets_stay_first),
        CASE(test_held_packets_are_bounded),
        CASE(test_one_doorbell_a_flush),
        CASE(test_inline_when_it_fits),
        CASE(test_completions_are_few),
        CASE(test_back_pressure),
        CASE(test_unreserve),
        CASE(test_sleep),
        CASE(test_questions_end_the_sleep),
        CASE(test_lengths),
        CASE(test_unequal_ends),
        CASE(test_several_queue_pairs),
        CASE(test_empty_packets_are_passed_over),
        CASE(test_fork),
        CASE(test_ipv6),
    };
    int failed = 0;
    for (unsigned i = 0; i < ud_rig_n_flavours; i++) {
        flavour = &ud_rig_flavours[i];
        failed += _cmocka_run_group_tests(flavour->name, tests, SMT_ARRAY_LEN(tests), NULL, NULL);
    }
    return failed != 0;
}
