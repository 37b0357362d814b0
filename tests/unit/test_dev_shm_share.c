/* Several endpoints behind one port, and shared memory: each packet reaches the device of its
 * number, by memory as soon as the two have met, whoever began and whoever comes and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "dev/shm.h"
#include "dev/steer.h"

enum { N = 3, PATIENCE_MS = 60000, LONG = 20000, STRAY = SMT_STEER_AT + 1 };

static struct smt_dev *device_open(uint16_t port, uint8_t number, uint8_t share)
{
    char text[256] = "";
    const struct smt_dev_config config = {
        .spec = "shm",
        .bind_host = "127.0.0.1",
        .port = port,
        .number = number,
        .share = share,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    struct smt_dev *dev;
    if (smt_dev_open(&config, &dev) < 0)
        fail_msg("%s", text);
    return dev;
}

static void group_open(struct smt_dev *devs[N])
{
    for (uint8_t i = 0; i < N; i++)
        devs[i] = device_open(i > 0 ? devs[0]->ops->port(devs[0]) : 0, i, N);
}

static void group_close(struct smt_dev *devs[N])
{
    for (unsigned i = N; i-- > 0;)
        devs[i]->ops->close(devs[i]);
}

static struct smt_addr addr_of(struct smt_dev *dev)
{
    struct smt_addr a = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    a.port = dev->ops->port(dev);
    return a;
}

static struct smt_shm *shm_of(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_shm, base);
}

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint8_t pattern(uint8_t number, uint32_t i)
{
    return (uint8_t)(i == SMT_STEER_AT ? number : i * 7 + number + (i >> 8));
}

static void send_to(struct smt_dev *dev, const struct smt_addr *to, uint8_t number, uint32_t len)
{
    uint8_t *p = dev->ops->tx_reserve(dev, to, len, 0);
    assert_non_null(p);
    for (uint32_t i = 0; i < len; i++)
        p[i] = pattern(number, i);
}

/* What has come to the device of this number is for it, but for strays. How many. */
static unsigned take(struct smt_dev *dev, uint8_t number, struct smt_addr *from)
{
    struct smt_pkt pkts[16];
    int n = dev->ops->rx(dev, pkts, 16);
    assert_true(n >= 0);
    unsigned got = 0;
    for (int i = 0; i < n; i++) {
        if (pkts[i].len == STRAY)
            continue;
        got++;
        assert_int_equal(pkts[i].data[SMT_STEER_AT], number);
        for (uint32_t k = 0; k < pkts[i].len; k++)
            assert_int_equal(pkts[i].data[k], pattern(number, k));
        *from = *pkts[i].from;
        assert_int_equal(from->zero, 0);
    }
    return got;
}

/* A packet to each of the group; all arrive. `from` is whose the last one was. */
static void round_run(struct smt_dev *dev, struct smt_dev *group[], uint8_t n, uint32_t len,
                      struct smt_addr *from)
{
    struct smt_addr to = addr_of(group[0]), nobody;
    uint64_t end = now_ms() + PATIENCE_MS;
    for (uint8_t i = 0; i < n; i++)
        send_to(dev, &to, i, len);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
    for (unsigned got = 0; got < n;) {
        assert_true(now_ms() < end);
        for (uint8_t i = 0; i < n; i++)
            got += take(group[i], i, from);
        assert_int_equal(take(dev, 0, &nobody), 0);
    }
}

/* Rounds until nothing of one goes the inner way. */
static void meet(struct smt_dev *dev, struct smt_dev *group[], uint8_t n)
{
    struct smt_addr from;
    uint64_t end = now_ms() + PATIENCE_MS, before;
    struct smt_shm *d = shm_of(dev);
    do {
        assert_true(now_ms() < end);
        before = d->stats.tx_packets;
        round_run(dev, group, n, 100, &from);
    } while (d->stats.tx_packets != before + n);
}

static void test_each_gets_its_own(void **state)
{
    struct smt_dev *group[N], *dev = device_open(0, 0, 0);
    struct smt_addr from, self = addr_of(dev);
    group_open(group);
    meet(dev, group, N);
    uint64_t before = shm_of(dev)->stats.tx_packets;
    for (unsigned i = 0; i < 100; i++)
        round_run(dev, group, N, i % 10 == 0 ? LONG : 64 + i, &from);
    assert_int_equal(shm_of(dev)->stats.tx_packets - before, 100 * N);
    assert_true(smt_addr_equal(&from, &self));
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(shm_of(group[i])->n_peers, 1);
    struct smt_addr to = addr_of(group[0]);
    assert_int_equal(dev->ops->mtu(dev, &to), SMT_SHM_MTU);
    dev->ops->close(dev);
    group_close(group);
}

/* One of several has come to us by memory; what goes back finds it, and the others too. */
static void test_back_to_one_of_several(void **state)
{
    struct smt_dev *group[N], *dev = device_open(0, 0, 0);
    struct smt_addr from = {0}, to = addr_of(dev), clients;
    group_open(group);
    clients = addr_of(group[0]);
    uint64_t end = now_ms() + PATIENCE_MS;
    struct smt_shm *last = shm_of(group[N - 1]);
    while (last->stats.tx_packets == 0) {
        assert_true(now_ms() < end);
        send_to(group[N - 1], &to, 0, 100);
        assert_int_equal(group[N - 1]->ops->tx_flush(group[N - 1]), 0);
        while (take(dev, 0, &from) == 0)
            assert_true(now_ms() < end);
    }
    assert_true(smt_addr_equal(&from, &clients));
    assert_int_equal(shm_of(dev)->n_peers, 1);
    uint64_t before = shm_of(dev)->stats.tx_packets;
    round_run(dev, group, N, 100, &from);
    assert_int_equal(shm_of(dev)->stats.tx_packets - before, N);
    group_close(group);
    dev->ops->close(dev);
}

static void test_both_are_several(void **state)
{
    struct smt_dev *servers[N], *clients[N];
    struct smt_addr from;
    group_open(servers);
    group_open(clients);
    for (unsigned i = 0; i < N; i++) {
        struct smt_addr self = addr_of(clients[i]);
        meet(clients[i], servers, N);
        round_run(clients[i], servers, N, 100, &from);
        assert_true(smt_addr_equal(&from, &self));
    }
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(shm_of(clients[i])->n_peers, N);
        assert_int_equal(shm_of(servers[i])->n_peers, N);
        uint64_t before = shm_of(servers[i])->stats.tx_packets;
        round_run(servers[i], clients, N, 100, &from);
        assert_int_equal(shm_of(servers[i])->stats.tx_packets - before, N);
    }
    group_close(clients);
    group_close(servers);
}

/* The last number goes, and comes again: what is for it goes the inner way until they have met. */
static void test_one_comes_back(void **state)
{
    struct smt_dev *group[N], *dev = device_open(0, 0, 0);
    struct smt_addr nobody, to;
    group_open(group);
    to = addr_of(group[0]);
    meet(dev, group, N);
    group[N - 1]->ops->close(group[N - 1]);
    uint64_t end = now_ms() + PATIENCE_MS;
    while (shm_of(dev)->n_peers == N) {
        assert_true(now_ms() < end);
        assert_int_equal(take(dev, 0, &nobody), 0);
    }
    uint64_t before = shm_of(dev)->stats.tx_packets;
    send_to(dev, &to, N - 1, STRAY);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
    assert_int_equal(shm_of(dev)->stats.tx_packets, before);
    meet(dev, group, N - 1);
    group[N - 1] = device_open(to.port, N - 1, N);
    meet(dev, group, N);
    dev->ops->close(dev);
    group_close(group);
}

/* One endpoint where there were several, and the other way round. */
static void test_several_become_one(void **state)
{
    struct smt_dev *group[N], *dev = device_open(0, 0, 0);
    struct smt_addr nobody;
    group_open(group);
    uint16_t port = group[0]->ops->port(group[0]);
    meet(dev, group, N);
    group_close(group);
    uint64_t end = now_ms() + PATIENCE_MS;
    while (shm_of(dev)->n_peers > 0) {
        assert_true(now_ms() < end);
        assert_int_equal(take(dev, 0, &nobody), 0);
    }
    group[0] = device_open(port, 0, 0);
    meet(dev, group, 1);
    assert_int_equal(shm_of(dev)->n_peers, 1);
    group[0]->ops->close(group[0]);
    while (shm_of(dev)->n_peers > 0) {
        assert_true(now_ms() < end);
        assert_int_equal(take(dev, 0, &nobody), 0);
    }
    for (uint8_t i = 0; i < N; i++)
        group[i] = device_open(port, i, N);
    meet(dev, group, N);
    dev->ops->close(dev);
    group_close(group);
}

/* A packet that is taken back leaves nothing, and one that is too long does no harm. */
static void test_taken_back(void **state)
{
    struct smt_dev *group[N], *dev = device_open(0, 0, 0);
    struct smt_addr from, to;
    struct smt_dev_stats stats;
    group_open(group);
    to = addr_of(group[0]);
    meet(dev, group, N);
    uint64_t before = shm_of(dev)->stats.tx_packets;
    send_to(dev, &to, 1, 100);
    dev->ops->tx_unreserve(dev);
    send_to(dev, &to, 1, SMT_SHM_MTU + 1);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
    dev->ops->stats(dev, &stats);
    assert_int_equal(stats.tx_too_big, 1);
    round_run(dev, group, N, 100, &from);
    assert_int_equal(shm_of(dev)->stats.tx_packets - before, N);
    dev->ops->close(dev);
    group_close(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_gets_its_own),
        cmocka_unit_test(test_back_to_one_of_several),
        cmocka_unit_test(test_both_are_several),
        cmocka_unit_test(test_one_comes_back),
        cmocka_unit_test(test_several_become_one),
        cmocka_unit_test(test_taken_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
