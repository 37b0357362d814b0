/* Faults of the `ud` device that a review found, each shown over the verbs model: how long address
 * handles live, what strangers can make us do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "dev/ud_port.h"
#include "ud_rig.h"

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);

static const struct ud_rig_flavour *flavour;
static unsigned clock_ahead_s;

/* Time that passes at once. */
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    int r = __real_clock_gettime(id, ts);
    ts->tv_sec += clock_ahead_s;
    return r;
}

static int set_up(void **state)
{
    clock_ahead_s = 0;
    *state = ud_rig_begin(flavour);
    return 0;
}

static int tear_down(void **state)
{
    ud_rig_end(*state);
    return 0;
}

/* One device looks at everything that it looks at now and then. */
static void look(struct ud_rig *rig, unsigned i)
{
    struct smt_pkt pkts[64];
    for (unsigned k = 0; k < 300; k++)
        assert_true(rig->dev[i]->ops->rx(rig->dev[i], pkts, 64) >= 0);
}

/* Posts to `to` until the queue is full and `n_waiting` more wait. */
static void fill(struct ud_rig *rig, unsigned to, unsigned n_waiting)
{
    struct smt_dev *dev = rig->dev[0];
    for (unsigned left = 0; left == 0;) {
        assert_true(ud_rig_put(rig, 0, to, 900, 0));
        left = dev->ops->tx_flush(dev) == SMT_EAGAIN;
    }
    for (unsigned i = 1; i < n_waiting; i++)
        assert_true(ud_rig_put(rig, 0, to, 900, 0));
    assert_int_equal(dev->ops->tx_flush(dev), SMT_EAGAIN);
}

/* Packets wait with a route whose handle is given up; then held ones go in front of them. The old
 * handle must live until the last of those that waited has left, not until as many have. */
static void test_handles_outlive_who_waits_longest(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 3);
    ud_rig_meet(rig, 0, 1);
    rig->may_lose = true;
    for (unsigned i = 0; i < 60; i++)
        assert_true(ud_rig_put(rig, 0, 2, 900, 0));
    ud_rig_flush(rig, 0);
    verbs_model.is_stalled = true;
    fill(rig, 1, 100);
    verbs_model_device_event(0, IBV_EVENT_GID_CHANGE);
    look(rig, 0);
    look(rig, 2); /* answers */
    look(rig, 0); /* what was held goes in front */
    for (unsigned i = 0; i < 40; i++) {
        verbs_model_run(32);
        look(rig, 0);
    }
    verbs_model.is_stalled = false;
    ud_rig_heal(rig, 0, 1);
}

/* A queue pair starts anew while packets wait for it whose routes have a handle that was given up
 * before. */
static void test_handles_outlive_a_reset(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    rig->may_lose = true;
    struct smt_dev *dev = rig->dev[0];
    /* Not a multiple of what one completion is asked for. */
    for (unsigned i = 0; i < 5; i++)
        assert_true(ud_rig_put(rig, 0, 1, 900, 0));
    ud_rig_flush(rig, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_true(ud_rig_put(rig, 0, 1, 900, 0));
    /* Both events are seen by one look, which does not flush a suspect queue pair. */
    verbs_model_device_event(0, IBV_EVENT_GID_CHANGE);
    verbs_model_qp_error(0, IBV_EVENT_QP_FATAL);
    look(rig, 0);
    look(rig, 1);
    (void)dev->ops->tx_flush(dev);
    ud_rig_heal(rig, 0, 1);
}

/* Handles that were given up are destroyed though one of several queue pairs has nothing to send
 * any more. */
static void test_an_idle_queue_pair_keeps_no_handles(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud,qps=8", 8);
    for (unsigned i = 1; i < 8; i++)
        ud_rig_meet(rig, 0, i);
    uint64_t goal = verbs_model_counts.ahs_destroyed + 5;
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    while (verbs_model_counts.ahs_destroyed < goal) {
        verbs_model_device_event(0, IBV_EVENT_GID_CHANGE);
        look(rig, 0);
        for (unsigned i = 0; i < 200; i++) {
            assert_true(ud_rig_put(rig, 0, 1, 900, 0));
            ud_rig_flush(rig, 0);
            ud_rig_expect(rig, 1);
        }
        assert_true(ud_rig_now_ms() < end);
    }
}

/* To make a handle may take a second while the kernel looks for the neighbour, and everybody waits:
 * for a host that was proven long ago it is made only when that has answered again. */
static void test_a_dead_neighbour_holds_nobody_up(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_open_one(rig, "ud", "::1");
    ud_rig_meet(rig, 0, 1);
    assert_true(ud_rig_put(rig, 0, 2, 60, 0));
    ud_rig_flush(rig, 0);
    look(rig, 2); /* asked, answers */
    look(rig, 0); /* proven */
    assert_int_equal(ud_rig_stats(rig, 0).tx_packets, 2);
    rig->dev[2]->ops->close(rig->dev[2]);
    rig->dev[2] = NULL;
    clock_ahead_s += 60;
    uint64_t made = verbs_model_counts.ahs_created;
    for (unsigned i = 0; i < 50; i++) {
        assert_true(ud_rig_put(rig, 0, 2, 60, 5));
        ud_rig_flush(rig, 0);
        look(rig, 0);
    }
    assert_int_equal(verbs_model_counts.ahs_created, made);
    assert_true(ud_rig_put(rig, 0, 1, 60, 5));
    ud_rig_flush(rig, 0);
    ud_rig_expect(rig, 1);
    assert_in_range(verbs_model_counts.ahs_created, made + 1, made + 2);
}

/* ---- what the device says ---- */

/* A port that came back and went again, before anybody has read of the first: it is down. */
static void test_the_last_news_counts(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 1);
    verbs_model_set_port(0, false);
    look(rig, 0);
    assert_int_equal(rig->dev[0]->news, SMT_DEV_NEWS_PORT_DOWN);
    rig->dev[0]->news = 0;
    verbs_model_set_port(0, true);
    look(rig, 0);
    verbs_model_set_port(0, false);
    look(rig, 0);
    assert_int_equal(rig->dev[0]->news, SMT_DEV_NEWS_PORT_DOWN);
    verbs_model_set_port(0, true);
    look(rig, 0);
    assert_int_equal(rig->dev[0]->news, SMT_DEV_NEWS_PORT_DOWN | SMT_DEV_NEWS_PORT_UP);
}

static void expect_words(const char *text, const char *words)
{
    assert_non_null(text);
    if (strstr(text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, words);
}

/* In words: a peer that nobody is at, and why a device is lost. */
static void test_it_says_why(void **state)
{
    struct ud_rig *rig = *state;
    struct smt_pkt pkts[64];
    ud_rig_open(rig, "ud", 2);
    struct smt_dev *dev = rig->dev[0];
    assert_null(dev->ops->why(dev, NULL));
    assert_null(dev->ops->why(dev, &rig->addr[1]));
    struct smt_addr nobody = rig->addr[1];
    nobody.ip[14] = 7;
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    while (dev->ops->why(dev, &nobody) == NULL) {
        uint8_t *p = dev->ops->tx_reserve(dev, &nobody, 60, 7);
        assert_non_null(p);
        memset(p, 0, 60);
        assert_int_equal(dev->ops->tx_flush(dev), 0);
        look(rig, 0);
        assert_true(ud_rig_now_ms() < end);
    }
    expect_words(dev->ops->why(dev, &nobody), "127.0.7.1");
    assert_null(dev->ops->why(dev, NULL));
    verbs_model_remove(0);
    for (unsigned i = 0; i < 300 && dev->news == 0; i++)
        (void)dev->ops->rx(dev, pkts, 64);
    assert_int_equal(dev->news, SMT_DEV_NEWS_LOST);
    expect_words(dev->ops->why(dev, NULL), "the RDMA device");
}

/* ---- strangers ---- */

const struct smt_ud_gid *__real_smt_ud_port_source(const struct smt_ud_port *port,
                                                   const struct smt_addr *to,
                                                   struct smt_addr *local);
const struct smt_ud_gid *__wrap_smt_ud_port_source(const struct smt_ud_port *port,
                                                   const struct smt_addr *to,
                                                   struct smt_addr *local);
static unsigned n_looked;

const struct smt_ud_gid *__wrap_smt_ud_port_source(const struct smt_ud_port *port,
                                                   const struct smt_addr *to,
                                                   struct smt_addr *local)
{
    n_looked++;
    return __real_smt_ud_port_source(port, to, local);
}

/* Answers to addresses that somebody made up: what it costs to ask for them is limited, the five
 * system calls that look for the way to each as well. */
static void test_made_up_addresses_cost_little(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    n_looked = 0;
    struct smt_dev *dev = rig->dev[0];
    struct smt_addr to = rig->addr[1];
    uint64_t begin = ud_rig_now_ms();
    for (unsigned i = 1; i <= 30000; i++) {
        to.ip[13] = (uint8_t)(i >> 8);
        to.ip[14] = (uint8_t)i;
        uint8_t *p = dev->ops->tx_reserve(dev, &to, 60, 7);
        assert_non_null(p);
        memset(p, 0, 60);
        if (i % 50 == 0)
            assert_int_equal(dev->ops->tx_flush(dev), 0);
    }
    uint64_t took = ud_rig_now_ms() - begin;
    assert_in_range(n_looked, 1000, 4096 + 20 * (took + 10));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_handles_outlive_who_waits_longest),
        TEST(test_handles_outlive_a_reset),
        TEST(test_an_idle_queue_pair_keeps_no_handles),
        TEST(test_a_dead_neighbour_holds_nobody_up),
        TEST(test_the_last_news_counts),
        TEST(test_it_says_why),
        TEST(test_made_up_addresses_cost_little),
    };
    int failed = 0;
    for (unsigned i = 0; i < ud_rig_n_flavours; i++) {
        flavour = &ud_rig_flavours[i];
        failed += cmocka_run_group_tests_name(flavour->name, tests, NULL, NULL);
    }
    return failed;
}
