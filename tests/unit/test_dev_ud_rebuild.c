/* The `ud` device over the verbs model when its queues fail for good: they are made anew, with what
 * waited kept, what was posted lost and counted, peers told at once, and nothing left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "dev/steer.h"
#include "ud_rig.h"

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);

static const struct ud_rig_flavour *flavour;
static struct timespec clock_stopped; /* not zero: it says this */

int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    int r = __real_clock_gettime(id, ts);
    if (clock_stopped.tv_sec != 0)
        *ts = clock_stopped;
    return r;
}

static void clock_stop(void)
{
    clock_stopped = (struct timespec){0};
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC_COARSE, &clock_stopped), 0);
}

static void clock_advance_ms(unsigned ms)
{
    clock_stopped.tv_nsec += (long)ms * 1000000;
    clock_stopped.tv_sec += clock_stopped.tv_nsec / 1000000000;
    clock_stopped.tv_nsec %= 1000000000;
}

static int set_up(void **state)
{
    *state = ud_rig_begin(flavour);
    return 0;
}

static int tear_down(void **state)
{
    clock_stopped = (struct timespec){0};
    ud_rig_end(*state);
    return 0;
}

static void send_some(struct ud_rig *rig, unsigned from, unsigned to, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        (void)ud_rig_put(rig, from, to, 300 + i % 500, 0);
        if (i % 3 == 2)
            (void)rig->dev[from]->ops->tx_flush(rig->dev[from]);
    }
}

/* Everything works, both ways, and everything that is sent arrives. */
static void works(struct ud_rig *rig)
{
    ud_rig_heal(rig, 0, 1);
    ud_rig_heal(rig, 1, 0);
    for (unsigned i = 0; i < 500; i++) {
        assert_true(ud_rig_put(rig, i % 2, 1 - i % 2, 20 + i % 1000, (uint8_t)(i % 8)));
        ud_rig_flush(rig, i % 2);
        if (i % 50 == 49)
            ud_rig_expect(rig, 50);
    }
}

/* The ways in which queues fail: all dead; one of those of receives or of sends has lost what lay
 * in it, and only the event says so. */
static void queues_fail(unsigned way)
{
    if (way == 0)
        assert_int_equal(verbs_model_cq_error(0), 4);
    else
        assert_int_equal(verbs_model_cq_overrun(0, way - 1), 1);
}

static uint64_t n_rebuilds(struct ud_rig *rig)
{
    return ud_rig_stats(rig, 0).rebuilds + ud_rig_stats(rig, 1).rebuilds;
}

/* Under load, with sends that stand still, packets that wait and packets that the user still reads.
 * The clock stands still, so no peer falls silent: it is told. */
static void test_queues_fail(void **state)
{
    static const char *const specs[] = {"ud", "ud,qps=4"};
    struct ud_rig *rig = *state;
    for (unsigned round = 0; round < 10; round++) {
        unsigned way = round / 2;
        ud_rig_open(rig, specs[round % 2], 2);
        ud_rig_meet(rig, 0, 1);
        clock_stop();
        rig->may_lose = true;
        send_some(rig, 0, 1, 200);
        struct smt_pkt pkts[8];
        int n = rig->dev[1]->ops->rx(rig->dev[1], pkts, 8);
        assert_in_range(n, 1, 8);
        uint8_t copies[8][300];
        for (int i = 0; i < n; i++)
            memcpy(copies[i], pkts[i].data, 300);
        verbs_model.is_stalled = round % 3 == 0;
        send_some(rig, 1, 0, 150);
        send_some(rig, 0, 1, 400);
        queues_fail(way);
        (void)rig->dev[1]->ops->arm(rig->dev[1]);
        send_some(rig, 1, 0, 50);
        for (int i = 0; i < n; i++)
            assert_memory_equal(copies[i], pkts[i].data, 300);
        verbs_model.is_stalled = false;
        (void)verbs_model_run(UINT32_MAX);
        works(rig);
        assert_int_equal(n_rebuilds(rig), way == 0 ? 2 : 1);
        uint8_t news = rig->dev[0]->news | rig->dev[1]->news;
        assert_int_equal(news, SMT_DEV_NEWS_REBUILT);
        unsigned who = ud_rig_stats(rig, 0).rebuilds > 0 ? 0 : 1;
        assert_non_null(rig->dev[who]->ops->why(rig->dev[who], NULL));
        clock_stopped = (struct timespec){0};
        ud_rig_close(rig);
    }
}

/* What waits is sent when it can be: none of it is lost. */
static void test_waiting_packets_are_kept(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    clock_stop();
    struct smt_dev *dev = rig->dev[0];
    struct smt_pkt pkt;
    assert_int_equal(verbs_model_cq_overrun(0, 2) + verbs_model_cq_overrun(0, 3), 2);
    assert_int_equal(dev->ops->arm(dev), SMT_EBUSY); /* where it is seen */
    for (unsigned i = 0; i < 100; i++)
        assert_true(ud_rig_put(rig, 0, 1, 500, (uint8_t)(i % 8)));
    assert_int_equal(dev->ops->tx_flush(dev), SMT_EAGAIN);
    assert_int_equal(dev->ops->rx(dev, &pkt, 1), 0);
    ud_rig_flush(rig, 0);
    ud_rig_expect(rig, 100);
    assert_int_equal(n_rebuilds(rig), 1);
    works(rig);
}

/* Who has slept on the descriptor is woken by the event, sleeps through the pause before the next
 * attempt, and by the same descriptor hears packets afterwards. */
static void test_who_sleeps(void **state)
{
    struct ud_rig *rig = *state;
    struct smt_pkt pkts[8];
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    struct smt_dev *dev = rig->dev[1];
    int fd = dev->ops->fd(dev);
    clock_stop();
    for (unsigned round = 0; round < 6; round++) {
        while (dev->ops->arm(dev) != 0)
            assert_int_equal(dev->ops->rx(dev, pkts, 8), 0);
        assert_false(ud_rig_is_readable(rig, 1, 0));
        assert_int_equal(verbs_model_cq_overrun(0, round % 2), 1);
        assert_true(ud_rig_is_readable(rig, 1, UD_RIG_PATIENCE_MS));
        unsigned n_turns = 0, n_sleeps = 0;
        for (; ud_rig_stats(rig, 1).rebuilds == round; n_turns++) {
            assert_true(n_turns < 300);
            if (dev->ops->arm(dev) == 0) {
                n_sleeps++;
                assert_true(ud_rig_is_readable(rig, 1, UD_RIG_PATIENCE_MS));
                clock_advance_ms(10);
            }
            assert_int_equal(dev->ops->rx(dev, pkts, 8), 0);
        }
        /* At once, then after 10, 20, 40 … ms: the timer says when, and nothing turns meanwhile. */
        if (round > 0)
            assert_in_range(n_sleeps, 1, 1u << (round - 1));
        assert_in_range(n_turns, n_sleeps, n_sleeps + 2);
        while (dev->ops->arm(dev) != 0)
            assert_int_equal(dev->ops->rx(dev, pkts, 8), 0);
        rig->may_lose = true;
        uint32_t before = rig->received[0][1];
        while (rig->received[0][1] == before) {
            assert_true(ud_rig_put(rig, 0, 1, 77, 0));
            (void)rig->dev[0]->ops->tx_flush(rig->dev[0]);
            ud_rig_pump(rig);
        }
        while (ud_rig_pump(rig) > 0)
            ;
        rig->received[0][1] = rig->sent[0][1];
        assert_int_equal(dev->ops->fd(dev), fd);
    }
    assert_true(ud_rig_stats(rig, 1).rx_calls < 10000);
    clock_advance_ms(2000);
    works(rig);
}

/* The device refuses new queues for a while: it is tried again, more and more seldom. */
static void test_refused_for_a_while(void **state)
{
    static const enum verbs_model_call calls[] = {VERBS_MODEL_CREATE_CQ, VERBS_MODEL_CREATE_QP,
                                                  VERBS_MODEL_MODIFY_QP, VERBS_MODEL_POST_RECV};
    struct ud_rig *rig = *state;
    for (unsigned i = 0; i < 2 * SMT_ARRAY_LEN(calls); i++) {
        ud_rig_open(rig, "ud,qps=2", 2);
        ud_rig_meet(rig, 0, 1);
        clock_stop();
        rig->may_lose = true;
        send_some(rig, 0, 1, 100);
        verbs_model.fail[calls[i / 2]] =
            (struct verbs_model_failure){.skip = i % 2, .times = 7, .error = ENOMEM};
        (void)verbs_model_cq_overrun(0, 3);
        struct smt_pkt pkt;
        unsigned ms = 0;
        for (; ud_rig_stats(rig, 0).rebuilds == 0; ms++) {
            assert_true(ms < 10000);
            assert_int_equal(rig->dev[0]->ops->rx(rig->dev[0], &pkt, 1), 0);
            if (ms % 7 == 0)
                send_some(rig, 0, 1, 3);
            clock_advance_ms(1);
        }
        /* 10 and 20 and … ms; one attempt may have met several of the refusals. */
        assert_in_range(ms, 30, 2000);
        works(rig);
        assert_int_equal(rig->dev[0]->news, SMT_DEV_NEWS_REBUILT);
        clock_stopped = (struct timespec){0};
        ud_rig_close(rig);
    }
}

/* And for ever. */
static void test_refused_for_good(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud,qps=2", 2);
    ud_rig_meet(rig, 0, 1);
    clock_stop();
    send_some(rig, 0, 1, 100);
    verbs_model.fail[VERBS_MODEL_CREATE_QP] =
        (struct verbs_model_failure){.skip = 1, .times = UINT32_MAX, .error = EIO};
    (void)verbs_model_cq_overrun(0, 2);
    struct smt_dev *dev = rig->dev[0];
    struct smt_pkt pkt;
    unsigned ms = 0;
    int r = 0;
    for (; r == 0; ms++) {
        assert_true(ms < 20000);
        r = dev->ops->rx(dev, &pkt, 1);
        clock_advance_ms(1);
    }
    assert_int_equal(r, SMT_EDEVICE);
    assert_in_range(ms, 1000, 10000);
    assert_int_equal(dev->news, SMT_DEV_NEWS_LOST);
    assert_string_equal(dev->ops->why(dev, NULL),
                        "a completion queue of the RDMA device has failed");
    assert_int_equal(ud_rig_stats(rig, 0).rebuilds, 0);
    assert_int_equal(dev->ops->arm(dev), SMT_EBUSY);
    assert_int_equal(dev->ops->tx_flush(dev), SMT_EDEVICE);
}

/* Whichever call is refused once on the way: it works in the end and nothing is left behind. */
static void test_every_refusal(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud,qps=2", 2);
    ud_rig_meet(rig, 0, 1);
    clock_stop();
    for (unsigned n = 1;; n += n < 20 ? 1 : 301) { /* there is one for each receive buffer */
        (void)verbs_model_cq_overrun(0, 0);
        struct smt_pkt pkt;
        uint64_t before = n_rebuilds(rig);
        verbs_model.fail_nth = n;
        while (n_rebuilds(rig) == before) {
            assert_int_equal(rig->dev[0]->ops->rx(rig->dev[0], &pkt, 1), 0);
            assert_int_equal(rig->dev[1]->ops->rx(rig->dev[1], &pkt, 1), 0);
            clock_advance_ms(1);
        }
        bool is_over = verbs_model.fail_nth > 0;
        verbs_model.fail_nth = 0;
        clock_advance_ms(1000);
        if (is_over)
            break;
    }
    works(rig);
}

/* A queue that fails at once each time does not make us spin, and is given up. */
static void test_fails_each_time(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    clock_stop();
    struct smt_dev *dev = rig->dev[0];
    struct smt_pkt pkt;
    unsigned ms = 0;
    for (int r = 0; r == 0; ms++) {
        assert_true(ms < 20000);
        (void)verbs_model_cq_error(0);
        r = dev->ops->rx(dev, &pkt, 1);
        (void)rig->dev[1]->ops->rx(rig->dev[1], &pkt, 1);
        clock_advance_ms(1);
    }
    assert_in_range(ms, 1000, 10000);
    assert_in_range(ud_rig_stats(rig, 0).rebuilds, 8, 16);
    assert_int_equal(dev->news, SMT_DEV_NEWS_LOST | SMT_DEV_NEWS_REBUILT);
}

/* While packets come between two failures it is not, and a failure now and then never. */
static void test_fails_often(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    clock_stop();
    for (unsigned i = 0; i < 40; i++) {
        (void)verbs_model_cq_overrun(0, i % 4);
        uint64_t before = n_rebuilds(rig);
        rig->may_lose = true;
        for (unsigned ms = 0; n_rebuilds(rig) == before; ms++) {
            assert_true(ms < 2000);
            ud_rig_pump(rig);
            clock_advance_ms(1);
        }
        ud_rig_heal(rig, 0, 1);
        ud_rig_heal(rig, 1, 0);
        if (i % 10 == 9)
            clock_advance_ms(i * 1000);
    }
    works(rig);
    assert_int_equal(n_rebuilds(rig), 40);
}

/* Closed with queues in error, before anybody has heard of it and in the pause. */
static void test_close_while_broken(void **state)
{
    struct ud_rig *rig = *state;
    for (unsigned round = 0; round < 6; round++) {
        ud_rig_open(rig, "ud,qps=3", 2);
        ud_rig_meet(rig, 0, 1);
        send_some(rig, 0, 1, 200);
        struct smt_pkt pkt;
        if (round % 3 > 0)
            verbs_model.fail[VERBS_MODEL_CREATE_QP] = (struct verbs_model_failure){
                .skip = round % 3, .times = UINT32_MAX, .error = ENOMEM};
        queues_fail(0);
        send_some(rig, 0, 1, 20);
        if (round > 1)
            assert_int_equal(rig->dev[0]->ops->rx(rig->dev[0], &pkt, 1), 0);
        send_some(rig, 0, 1, 20);
        ud_rig_close(rig);
        assert_int_equal(verbs_model_n_live(), 0);
        verbs_model.fail[VERBS_MODEL_CREATE_QP] = (struct verbs_model_failure){0};
    }
}

enum { SHARE = 3, MEMBER_LEN = 100 };

/* A packet of a session whose id names the endpoint. */
static void member_put(struct smt_dev *dev, const struct smt_addr *to, unsigned number)
{
    uint8_t *p = dev->ops->tx_reserve(dev, to, MEMBER_LEN, 0);
    assert_non_null(p);
    memset(p, 0, MEMBER_LEN);
    p[SMT_STEER_AT] = (uint8_t)number;
    assert_int_equal(smt_steer_number(p, MEMBER_LEN, SHARE), number);
    int r = dev->ops->tx_flush(dev);
    assert_true(r == 0 || r == SMT_EAGAIN);
}

static unsigned member_take(struct smt_dev *dev, unsigned number)
{
    struct smt_pkt pkts[16];
    int n = dev->ops->rx(dev, pkts, 16);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++)
        assert_int_equal(pkts[i].data[SMT_STEER_AT], number);
    return (unsigned)n;
}

static uint64_t n_rebuilds_of(struct smt_dev *dev)
{
    struct smt_dev_stats s;
    dev->ops->stats(dev, &s);
    return s.rebuilds;
}

/* Until one more of them has new queues. */
static void one_is_rebuilt(struct smt_dev *sender, struct smt_dev *members[SHARE], uint64_t n)
{
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS, got = 0;
    while (got < n) {
        struct smt_pkt pkt;
        assert_int_equal(sender->ops->rx(sender, &pkt, 1), 0);
        got = n_rebuilds_of(sender);
        for (unsigned i = 0; i < SHARE; i++) {
            assert_int_equal(member_take(members[i], i), 0);
            got += n_rebuilds_of(members[i]);
        }
        assert_true(ud_rig_now_ms() < end);
    }
    assert_int_equal(got, n);
}

/* Of several endpoints on a port each has its queues and its number. */
static void test_of_several_on_a_port(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 1);
    struct smt_dev *members[SHARE];
    struct smt_addr to = rig->addr[0];
    for (unsigned i = 0; i < SHARE; i++) {
        const struct smt_dev_config config = {
            .spec = "ud", .port = i == 0 ? 0 : to.port, .share = SHARE, .number = (uint8_t)i};
        assert_int_equal(smt_dev_open(&config, &members[i]), 0);
        to.port = members[0]->ops->port(members[0]);
    }
    for (unsigned round = 0; round < 8; round++) {
        if (round > 0)
            assert_int_equal(verbs_model_cq_overrun(0, round - 1), 1);
        one_is_rebuilt(rig->dev[0], members, round);
        for (unsigned i = 0; i < SHARE; i++) {
            uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
            for (unsigned n = 0; n == 0;) {
                member_put(rig->dev[0], &to, i);
                struct smt_pkt pkt;
                (void)rig->dev[0]->ops->rx(rig->dev[0], &pkt, 1);
                n = member_take(members[i], i);
                assert_true(ud_rig_now_ms() < end);
            }
            while (member_take(members[i], i) > 0)
                ;
        }
    }
    for (unsigned i = SHARE; i-- > 0;)
        members[i]->ops->close(members[i]);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_queues_fail),
        CASE(test_waiting_packets_are_kept),
        CASE(test_who_sleeps),
        CASE(test_refused_for_a_while),
        CASE(test_refused_for_good),
        CASE(test_every_refusal),
        CASE(test_fails_each_time),
        CASE(test_fails_often),
        CASE(test_close_while_broken),
        CASE(test_of_several_on_a_port),
    };
    int failed = 0;
    for (unsigned i = 0; i < ud_rig_n_flavours; i++) {
        flavour = &ud_rig_flavours[i];
        failed += _cmocka_run_group_tests(flavour->name, tests, SMT_ARRAY_LEN(tests), NULL, NULL);
    }
    return failed != 0;
}
