/* The `ud` device over the verbs model when things go wrong: completions in error, queue pairs that
 * stop, ports and devices that go, packets nobody should send, limits, refusals at opening. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/ud_node.h"
#include "ud_rig.h"

int __real_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_clock_gettime(clockid_t id, struct timespec *ts);

static const struct ud_rig_flavour *flavour;
static unsigned clock_ahead_s;
static struct timespec clock_stopped; /* not zero: it says this */
static uint64_t memlock_allowed;

uint64_t __wrap_smt_ud_env_memlock_allowed(void);

uint64_t __wrap_smt_ud_env_memlock_allowed(void)
{
    return memlock_allowed;
}

/* Time that passes at once. */
int __wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
    int r = __real_clock_gettime(id, ts);
    ts->tv_sec += clock_ahead_s;
    if (clock_stopped.tv_sec != 0)
        *ts = clock_stopped;
    return r;
}

static void clock_advance_ms(unsigned ms)
{
    clock_stopped.tv_nsec += (long)ms * 1000000;
    clock_stopped.tv_sec += clock_stopped.tv_nsec / 1000000000;
    clock_stopped.tv_nsec %= 1000000000;
}

static int set_up(void **state)
{
    clock_ahead_s = 0;
    memlock_allowed = UINT64_MAX;
    *state = ud_rig_begin(flavour);
    return 0;
}

static int tear_down(void **state)
{
    clock_stopped = (struct timespec){0};
    ud_rig_end(*state);
    return 0;
}

/* Everything still works, both ways, and everything that is sent arrives. */
static void works(struct ud_rig *rig)
{
    ud_rig_heal(rig, 0, 1);
    ud_rig_heal(rig, 1, 0);
    for (unsigned i = 0; i < 1500; i++) {
        assert_true(ud_rig_put(rig, i % 2, 1 - i % 2, 20 + i % 1000, (uint8_t)(i % 8)));
        ud_rig_flush(rig, i % 2);
        if (i % 50 == 49)
            ud_rig_expect(rig, 50);
    }
}

static void send_some(struct ud_rig *rig, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        (void)ud_rig_put(rig, 0, 1, 300 + i, 0);
        if (i % 3 == 2)
            (void)rig->dev[0]->ops->tx_flush(rig->dev[0]);
    }
}

/* A send that fails stops the send queue: what stood behind it is lost, the rest goes on. */
static void test_failed_sends(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    static const enum ibv_wc_status statuses[] = {IBV_WC_LOC_QP_OP_ERR, IBV_WC_LOC_PROT_ERR,
                                                  IBV_WC_GENERAL_ERR};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(statuses); i++) {
        uint64_t errors = ud_rig_stats(rig, 0).tx_errors;
        rig->may_lose = true;
        send_some(rig, 10);
        verbs_model.send_status = statuses[i];
        verbs_model.send_errors = 1;
        send_some(rig, 50);
        verbs_model.send_errors = 0;
        works(rig);
        assert_in_range(ud_rig_stats(rig, 0).tx_errors - errors, 1, 60);
    }
    assert_int_equal(rig->dev[0]->news, 0);
}

/* Queue pairs in ERR lose what was posted and begin anew, with several of them and with packets
 * that the user still reads. */
static void test_failed_queue_pairs(void **state)
{
    static const char *const specs[] = {"ud", "ud,qps=4"};
    struct ud_rig *rig = *state;
    for (unsigned round = 0; round < 4; round++) {
        ud_rig_open(rig, specs[round % 2], 2);
        ud_rig_meet(rig, 0, 1);
        rig->may_lose = true;
        send_some(rig, 200);
        struct smt_pkt pkts[8];
        int n = rig->dev[1]->ops->rx(rig->dev[1], pkts, 8);
        assert_in_range(n, 1, 8);
        uint8_t copies[8][300];
        for (int i = 0; i < n; i++)
            memcpy(copies[i], pkts[i].data, 300);
        assert_int_equal(verbs_model_qp_error(0, round < 2 ? -1 : IBV_EVENT_QP_FATAL),
                         2 * (round % 2 == 0 ? 1 : 4));
        (void)rig->dev[1]->ops->arm(rig->dev[1]);
        for (int i = 0; i < n; i++)
            assert_memory_equal(copies[i], pkts[i].data, 300);
        send_some(rig, 20);
        works(rig);
        assert_int_equal(rig->dev[0]->news | rig->dev[1]->news, 0);
        assert_true(ud_rig_stats(rig, 1).rx_dropped > 0);
        ud_rig_close(rig);
    }
}

/* Queue pairs that fail again and again, the new ones too, and nothing ever comes: after a time of
 * this the device is given up. */
static void test_endless_failure(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    struct smt_dev *dev = rig->dev[0];
    struct smt_pkt pkt;
    int r = 0;
    unsigned n = 0;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC_COARSE, &clock_stopped), 0);
    for (; n < 10000 && r >= 0; n++) {
        verbs_model_qp_error(0, -1);
        r = dev->ops->rx(dev, &pkt, 1);
        clock_advance_ms(5);
    }
    assert_int_equal(r, SMT_EDEVICE);
    assert_in_range(n, 500, 5000); /* of 5 ms */
    assert_in_range(ud_rig_stats(rig, 0).rebuilds, 5, 20);
    assert_int_equal(dev->news, SMT_DEV_NEWS_LOST | SMT_DEV_NEWS_REBUILT);
    assert_string_equal(dev->ops->why(dev, NULL),
                        "a queue pair of the RDMA device fails again and again");
    assert_int_equal(dev->ops->arm(dev), SMT_EBUSY);
    assert_true(ud_rig_put(rig, 0, 1, 100, 0));
    assert_int_equal(dev->ops->tx_flush(dev), SMT_EDEVICE);
}

/* Few failures a second may go on for ever. */
static void test_rare_failures(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    for (unsigned i = 0; i < 100; i++) {
        verbs_model_qp_error(0, -1);
        ud_rig_heal(rig, 0, 1);
        clock_ahead_s++;
    }
    works(rig);
}

/* What cannot be reset is made anew. */
static void test_reset_fails(void **state)
{
    struct ud_rig *rig = *state;
    for (unsigned skip = 0; skip < 4; skip++) {
        ud_rig_open(rig, "ud", 2);
        ud_rig_meet(rig, 0, 1);
        verbs_model_qp_error(0, -1);
        verbs_model.fail[VERBS_MODEL_MODIFY_QP] =
            (struct verbs_model_failure){.skip = skip, .times = 1, .error = EIO};
        works(rig);
        assert_int_equal(verbs_model.fail[VERBS_MODEL_MODIFY_QP].times, 0);
        assert_int_equal(ud_rig_stats(rig, 0).rebuilds + ud_rig_stats(rig, 1).rebuilds, 1);
        ud_rig_close(rig);
    }
}

static void test_refused_posts(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    rig->may_lose = true;
    for (unsigned i = 0; i < 5; i++) {
        struct smt_dev_stats before = ud_rig_stats(rig, 0);
        for (unsigned k = 0; k < 40; k++)
            assert_true(ud_rig_put(rig, 0, 1, 50 + 10 * k, 0));
        verbs_model.fail[VERBS_MODEL_POST_SEND] =
            (struct verbs_model_failure){.times = 1, .error = ENOMEM};
        ud_rig_flush(rig, 0);
        struct smt_dev_stats after = ud_rig_stats(rig, 0);
        assert_int_equal(after.tx_errors - before.tx_errors + after.tx_packets - before.tx_packets,
                         40);
        assert_true(after.tx_errors > before.tx_errors);
        works(rig);
        rig->may_lose = true;
    }
    verbs_model.fail[VERBS_MODEL_POST_RECV] =
        (struct verbs_model_failure){.times = 1, .error = ENOMEM};
    send_some(rig, 100);
    works(rig);
}

static void lost(struct ud_rig *rig, unsigned i)
{
    struct smt_dev *dev = rig->dev[i];
    struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    int r = 0;
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    while (r >= 0) {
        r = dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH);
        assert_true(ud_rig_now_ms() < end);
    }
    assert_int_equal(r, SMT_EDEVICE);
    assert_int_equal(dev->ops->rx(dev, pkts, 1), SMT_EDEVICE);
    assert_int_equal(dev->news & SMT_DEV_NEWS_LOST, SMT_DEV_NEWS_LOST);
    for (unsigned k = 0; k < 3000; k++) {
        (void)dev->ops->tx_reserve(dev, &rig->addr[1 - i], 100, 0);
        if (k % 10 == 9)
            assert_int_equal(dev->ops->tx_flush(dev), SMT_EDEVICE);
    }
}

static void test_device_is_pulled_out(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud,qps=2", 2);
    ud_rig_meet(rig, 0, 1);
    rig->may_lose = true;
    send_some(rig, 100);
    struct smt_dev *dev = rig->dev[1];
    while (ud_rig_pump(rig) > 0)
        ;
    if (dev->ops->arm(dev) == 0)
        assert_false(ud_rig_is_readable(rig, 1, 0));
    verbs_model_remove(0);
    assert_true(ud_rig_is_readable(rig, 1, UD_RIG_PATIENCE_MS));
    lost(rig, 0);
    lost(rig, 1);
}

/* Soft-RoCE cannot take a device from us and sends no event: its file goes. */
static void test_file_of_the_device(void **state)
{
    char path[] = "/tmp/smt-node-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(smt_ud_node_watch("/dev/null", fd), -1);
    assert_int_equal(smt_ud_node_watch("/none", fd), -1);
    int watch = smt_ud_node_watch(path, fd);
    assert_true(watch >= 0);
    struct pollfd p = {.fd = watch, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(fchmod(fd, 0600), 0); /* what udev does */
    assert_int_equal(poll(&p, 1, UD_RIG_PATIENCE_MS), 1);
    assert_false(smt_ud_node_is_gone(watch, path, fd));
    assert_int_equal(poll(&p, 1, 0), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(poll(&p, 1, UD_RIG_PATIENCE_MS), 1);
    assert_true(smt_ud_node_is_gone(watch, path, fd));
    /* Another of the same name is not it. */
    int other = open(path, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(other >= 0);
    assert_true(smt_ud_node_is_gone(watch, path, fd));
    unlink(path);
    close(other);
    close(watch);
    close(fd);
}

static void test_port_goes_and_comes(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    for (unsigned i = 0; i < 3; i++) {
        verbs_model_set_port(0, false);
        uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
        while ((rig->dev[0]->news & SMT_DEV_NEWS_PORT_DOWN) == 0) {
            ud_rig_pump(rig);
            assert_true(ud_rig_now_ms() < end);
        }
        rig->dev[0]->news = 0;
        rig->may_lose = true;
        send_some(rig, 30);
        struct smt_dev *dev = rig->dev[0];
        while (dev->ops->arm(dev) != 0)
            ud_rig_pump(rig);
        assert_false(ud_rig_is_readable(rig, 0, 0));
        verbs_model_set_port(0, true);
        assert_true(ud_rig_is_readable(rig, 0, UD_RIG_PATIENCE_MS));
        while ((dev->news & SMT_DEV_NEWS_PORT_UP) == 0)
            (void)dev->ops->arm(dev);
        dev->news = 0;
        works(rig);
    }
}

/* Address handles are made anew when GIDs move, and the old ones live until their packets have
 * left: the model ends the test when one goes too early. */
static void test_gids_move(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud,qps=2", 2);
    ud_rig_meet(rig, 0, 1);
    uint64_t destroyed = verbs_model_counts.ahs_destroyed;
    for (unsigned i = 0; i < 10; i++) {
        verbs_model.is_stalled = i % 2 == 0;
        for (unsigned k = 0; k < 100; k++)
            assert_true(ud_rig_put(rig, 0, 1, 300, (uint8_t)(k % 8)));
        verbs_model_device_event(0, IBV_EVENT_GID_CHANGE);
        for (unsigned k = 0; k < 300; k++)
            ud_rig_pump(rig);
        for (unsigned k = 0; k < 50; k++)
            assert_true(ud_rig_put(rig, 0, 1, 300, (uint8_t)(k % 8)));
        ud_rig_flush(rig, 0);
        verbs_model.is_stalled = false;
        (void)verbs_model_run(UINT32_MAX);
        ud_rig_expect(rig, rig->sent[0][1] - rig->received[0][1]);
        works(rig);
    }
    assert_true(verbs_model_counts.ahs_destroyed > destroyed);
}

/* A peer that came back with other queue pairs is found again, without a timer of ours. */
static void test_peer_restarts(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    struct smt_dev *old = rig->dev[1];
    struct smt_dev_config config = {.spec = "ud", .port = rig->addr[1].port};
    old->ops->close(old);
    assert_int_equal(smt_dev_open(&config, &rig->dev[1]), 0);
    rig->may_lose = true;
    send_some(rig, 10);
    clock_ahead_s += 2; /* silence */
    works(rig);
}

static struct verbs_model_packet last_packet;

static bool packet_keep(void *arg, struct verbs_model_packet *packet)
{
    last_packet = *packet;
    return true;
}

/* Packets that no device of ours sends: each changes one counter and nothing else. */
static void test_strange_packets(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    verbs_model.filter = packet_keep;
    ud_rig_meet(rig, 1, 0);
    verbs_model.filter = NULL;
    assert_true(last_packet.len == 100); /* the answer, to device 1 */
    uint64_t dropped = ud_rig_stats(rig, 1).rx_dropped, n_bad = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct verbs_model_packet p = last_packet;
        bool arrives = true, is_counted = true;
        switch (i % 8) {
        case 0:
            p.qkey ^= 1;
            arrives = is_counted = false;
            break;
        case 1:
            p.dst_qpn += 77;
            arrives = is_counted = false;
            break;
        case 2:
            p.has_imm = false;
            break;
        case 3:
            p.imm |= htonl(0x1000000);
            break;
        case 4:
            p.imm = htonl(0);
            break;
        case 5:
            p.len = 0;
            is_counted = false;
            break;
        case 6:
            memset(&p.dgid, 0x35, sizeof(p.dgid)); /* not to us */
            break;
        default:
            memset(p.sgid.raw + 12, 224, 4); /* from a group */
            break;
        }
        assert_int_equal(verbs_model_inject(&p), arrives);
        n_bad += is_counted;
        assert_int_equal(ud_rig_pump(rig), 0);
    }
    assert_int_equal(ud_rig_stats(rig, 1).rx_dropped - dropped, n_bad);
    /* From a stranger, and of any bytes: that is the engine's business. */
    struct verbs_model_packet p = last_packet;
    p.imm = htonl(9);
    p.len = 1;
    assert_true(verbs_model_inject(&p));
    struct smt_pkt pkt;
    int r;
    uint64_t end = ud_rig_now_ms() + UD_RIG_PATIENCE_MS;
    while ((r = rig->dev[1]->ops->rx(rig->dev[1], &pkt, 1)) == 0)
        assert_true(ud_rig_now_ms() < end);
    assert_int_equal(pkt.from->port, 9);
    assert_int_equal(pkt.len, 1);
    works(rig);
}

/* More packets than buffers: the network drops, and everything goes on. */
static void test_receiver_is_slow(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    rig->may_lose = true;
    for (unsigned i = 0; i < 10000; i++) {
        assert_true(ud_rig_put(rig, 0, 1, 100, 0));
        ud_rig_flush(rig, 0);
    }
    assert_true(verbs_model_counts.no_recv > 1000);
    works(rig);
}

static void test_network_loses(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    rig->may_lose = true;
    verbs_model.loss = 20;
    for (unsigned i = 0; i < 3000; i++) {
        assert_true(ud_rig_put(rig, 0, 1, 100, 0));
        ud_rig_flush(rig, 0);
        ud_rig_pump(rig);
    }
    verbs_model.loss = 0;
    works(rig);
}

/* Nobody is there: what waited too long is dropped, and the slots are free again. */
static void test_nobody_answers(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    rig->addr[1].port ^= 1;
    for (unsigned round = 0; round < 50; round++) {
        uint32_t n = rig->sent[0][1];
        send_some(rig, 30);
        assert_int_equal(rig->sent[0][1], n + 30);
        assert_int_equal(ud_rig_pump(rig), 0);
        clock_ahead_s += 3;
    }
    while (ud_rig_stats(rig, 0).tx_errors < 50 * 30)
        assert_int_equal(ud_rig_pump(rig), 0);
    rig->addr[1].port ^= 1;
    works(rig);
}

/* An address of another network, another family than we have, a group: counted at the flush. */
static void test_unreachable(void **state)
{
    struct ud_rig *rig = *state;
    ud_rig_open(rig, "ud", 2);
    ud_rig_meet(rig, 0, 1);
    static const char *const texts[] = {"224.0.0.1", "[ff02::1]", "0.0.0.0", "[2001:db8::1]"};
    struct smt_dev *dev = rig->dev[0];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(texts); i++) {
        struct smt_addr to;
        assert_int_equal(smt_dev_resolve(texts[i], 77, &to, 1), 1);
        uint64_t errors = ud_rig_stats(rig, 0).tx_errors;
        uint8_t *p = dev->ops->tx_reserve(dev, &to, 50, 0);
        assert_non_null(p);
        memset(p, 0, 50);
        assert_true(ud_rig_put(rig, 0, 1, 50, 0));
        ud_rig_flush(rig, 0);
        ud_rig_expect(rig, 1);
        assert_int_equal(ud_rig_stats(rig, 0).tx_errors, errors + 1);
    }
}

/* Whatever is refused at opening: an error, a sentence, nothing left behind. */
static void test_every_refusal(void **state)
{
    unsigned n = 1;
    for (;; n += n < 60 ? 1 : 101) { /* there is one for each receive buffer */
        char text[512] = "";
        const struct smt_dev_config config = {
            .spec = "ud,qps=2", .error_text = text, .error_text_len = sizeof(text)};
        struct smt_dev *dev = NULL;
        verbs_model.fail_nth = n;
        int r = smt_dev_open(&config, &dev);
        if (verbs_model.fail_nth > 0) { /* not reached: it opened without a refusal */
            verbs_model.fail_nth = 0;
            assert_int_equal(r, 0);
            dev->ops->close(dev);
            break;
        }
        if (r == 0) /* it knew another way */
            dev->ops->close(dev);
        else
            assert_true(strlen(text) > 20);
        assert_int_equal(verbs_model_n_live(), 0);
        assert_true(smt_mem_live().n_live == ud_rig_n_live_before());
    }
    assert_true(n > 30);
}

static void test_no_memory(void **state)
{
    for (long n = 0;; n++) {
        struct smt_dev_config config = {.spec = "ud"};
        struct smt_dev *dev = NULL;
        smt_mem_fail_after(n);
        int r = smt_dev_open(&config, &dev);
        if (smt_mem_fail_after(-1) >= 0) {
            assert_int_equal(r, 0);
            dev->ops->close(dev);
            break;
        }
        if (r == 0)
            dev->ops->close(dev);
        assert_int_equal(verbs_model_n_live(), 0);
        assert_true(smt_mem_live().n_live == ud_rig_n_live_before());
    }
}

/* Little memory may be locked: smaller pools, down to a sentence that says what to do. */
static void test_memlock(void **state)
{
    struct ud_rig *rig = *state;
    uint64_t last = UINT64_MAX;
    static const size_t limits[] = {32u << 20, 8u << 20, 4u << 20, 2u << 20, 1u << 20};
    verbs_model.devices[0].active_mtu = IBV_MTU_1024;
    for (unsigned i = 0; i < 2 * SMT_ARRAY_LEN(limits); i++) {
        bool is_known = i % 2 == 0; /* or refused without warning, as in some containers */
        memlock_allowed = is_known ? limits[i / 2] : UINT64_MAX;
        verbs_model.memlock = limits[i / 2];
        verbs_model_counts.mr_bytes = 0;
        ud_rig_open(rig, "ud", 1);
        uint64_t used = verbs_model_counts.mr_bytes;
        assert_true(used <= last && used <= limits[i / 2] / (is_known ? 2 : 1));
        last = is_known ? UINT64_MAX : used;
        verbs_model.memlock = 0;
        ud_rig_open_one(rig, "ud", NULL);
        works(rig);
        ud_rig_close(rig);
    }
    for (unsigned i = 0; i < 2; i++) {
        memlock_allowed = i == 0 ? 100 << 10 : UINT64_MAX;
        verbs_model.memlock = 200 << 10;
        char text[1024] = "";
        const struct smt_dev_config config = {
            .spec = "ud", .error_text = text, .error_text_len = sizeof(text)};
        struct smt_dev *dev;
        assert_int_equal(smt_dev_open(&config, &dev), SMT_ENOMEM);
        assert_true(strlen(text) > 20);
        assert_true(i > 0 || (strstr(text, "memlock") != NULL && strstr(text, "LimitMEMLOCK")));
    }
}

static void test_small_device(void **state)
{
    struct ud_rig *rig = *state;
    verbs_model.devices[0].max_qp_wr = 300;
    verbs_model.devices[0].max_cqe = 600;
    ud_rig_open(rig, "ud,qps=2", 2);
    ud_rig_meet(rig, 0, 1);
    works(rig);
}

static void test_small_mtu(void **state)
{
    verbs_model.devices[0].active_mtu = IBV_MTU_512;
    char text[512] = "";
    const struct smt_dev_config config = {
        .spec = "ud", .error_text = text, .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    assert_true(smt_dev_open(&config, &dev) < 0);
    assert_non_null(strstr(text, "MTU"));
}

/* Closed with everything under way: sends that stand still, held packets, events nobody read, a
 * queue pair in error. */
static void test_close_in_flight(void **state)
{
    struct ud_rig *rig = *state;
    for (unsigned round = 0; round < 8; round++) {
        ud_rig_open(rig, round % 2 == 0 ? "ud" : "ud,qps=3", 3);
        ud_rig_meet(rig, 0, 1);
        (void)rig->dev[1]->ops->arm(rig->dev[1]);
        verbs_model.is_stalled = (round & 2) != 0;
        assert_true(ud_rig_put(rig, 0, 2, 90, 0)); /* held */
        send_some(rig, 700);
        (void)rig->dev[0]->ops->tx_flush(rig->dev[0]);
        if ((round & 4) != 0)
            verbs_model_qp_error(0, IBV_EVENT_QP_FATAL);
        assert_true(ud_rig_put(rig, 1, 0, 90, 0)); /* reserved */
        ud_rig_close(rig);
        assert_int_equal(verbs_model_n_live(), 0);
        verbs_model.is_stalled = false;
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_failed_sends),
        CASE(test_failed_queue_pairs),
        CASE(test_endless_failure),
        CASE(test_rare_failures),
        CASE(test_reset_fails),
        CASE(test_refused_posts),
        CASE(test_device_is_pulled_out),
        CASE(test_file_of_the_device),
        CASE(test_port_goes_and_comes),
        CASE(test_gids_move),
        CASE(test_peer_restarts),
        CASE(test_strange_packets),
        CASE(test_receiver_is_slow),
        CASE(test_network_loses),
        CASE(test_nobody_answers),
        CASE(test_unreachable),
        CASE(test_every_refusal),
        CASE(test_no_memory),
        CASE(test_memlock),
        CASE(test_small_device),
        CASE(test_small_mtu),
        CASE(test_close_in_flight),
    };
    int failed = 0;
    for (unsigned i = 0; i < ud_rig_n_flavours; i++) {
        flavour = &ud_rig_flavours[i];
        failed += _cmocka_run_group_tests(flavour->name, tests, SMT_ARRAY_LEN(tests), NULL, NULL);
    }
    return failed != 0;
}
