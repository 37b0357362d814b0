/* The device `mlx5` in a network that changes: neighbours that are not known yet, addresses that
 * come and go. One process in a network of its own, over the model, which hears itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "dev/dev.h"

enum { FRAME_HEAD = 42, LEN = 200, WAIT_MS = 60000, MAX_FRAMES = 200 };

static char capture[96];
static long capture_at = 24;

static void command(const char *text)
{
    if (system(text) != 0)
        fail_msg("did not work: %s", text);
}

static struct smt_dev *open_dev(const char *bind_host)
{
    char text[256] = "";
    const struct smt_dev_config config = {.spec = "mlx5:mx0",
                                          .bind_host = bind_host,
                                          .error_text = text,
                                          .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    if (smt_dev_open(&config, &dev) < 0)
        fail_msg("%s", text);
    return dev;
}

static struct smt_dev_stats stats_of(struct smt_dev *dev)
{
    struct smt_dev_stats s;
    dev->ops->stats(dev, &s);
    return s;
}

static void put(struct smt_dev *dev, const char *host, uint16_t port, uint8_t mark)
{
    struct smt_addr to;
    assert_int_equal(smt_dev_resolve(host, port, &to, 1), 1);
    uint8_t *p = dev->ops->tx_reserve(dev, &to, LEN, 0);
    assert_non_null(p);
    memset(p, mark, LEN);
}

/* Marks of the frames that have left since the last call. */
static unsigned frames_read(uint8_t marks[MAX_FRAMES])
{
    uint32_t head[4];
    static uint8_t bytes[2048];
    unsigned n = 0;
    FILE *f = fopen(capture, "r");
    if (f == NULL)
        return 0;
    fseek(f, capture_at, SEEK_SET);
    while (n < MAX_FRAMES && fread(head, sizeof(head), 1, f) == 1 && head[2] <= sizeof(bytes) &&
           fread(bytes, head[2], 1, f) == 1) {
        marks[n++] = bytes[FRAME_HEAD];
        capture_at = ftell(f);
    }
    fclose(f);
    return n;
}

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Drives the device as an endpoint that polls does, until so many frames have left. */
static unsigned drive(struct smt_dev *dev, unsigned n, uint8_t marks[MAX_FRAMES], unsigned ms)
{
    static struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    enum { LEAST = 10 }; /* looks, however slow they are */
    unsigned got = 0, looks = 0;
    for (uint64_t end = now_ms() + ms; got < n && (looks++ < LEAST || now_ms() < end);
         usleep(100)) {
        assert_true(dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH) >= 0);
        got += frames_read(marks + got);
    }
    return got;
}

/* One packet by the device to itself at `host`. */
static bool reaches_itself(struct smt_dev *dev, const char *host, unsigned ms)
{
    static struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    put(dev, host, dev->ops->port(dev), 7);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
    for (uint64_t end = now_ms() + ms; now_ms() < end; usleep(100)) {
        int n = dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH);
        assert_true(n >= 0);
        if (n > 0)
            return true;
    }
    return false;
}

static void test_unknown_neighbour(void **state)
{
    uint8_t marks[MAX_FRAMES];
    struct smt_dev *dev = open_dev(NULL);
    command("ip neigh flush dev mx0");
    for (uint8_t i = 1; i <= 3; i++) {
        put(dev, "10.98.0.2", 1000, i);
        assert_int_equal(dev->ops->tx_flush(dev), 0);
    }
    assert_int_equal(drive(dev, 1, marks, 50), 0);
    struct smt_addr to;
    assert_int_equal(smt_dev_resolve("10.98.0.2", 1000, &to, 1), 1);
    assert_non_null(strstr(dev->ops->why(dev, &to), "ARP"));
    command("ip neigh replace 10.98.0.2 lladdr 02:00:00:00:00:02 dev mx0 nud permanent");
    /* What comes later does not overtake them. */
    put(dev, "10.98.0.2", 1000, 4);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
    assert_int_equal(drive(dev, 4, marks, WAIT_MS), 4);
    for (uint8_t i = 0; i < 4; i++)
        assert_int_equal(marks[i], i + 1);
    assert_int_equal(stats_of(dev).tx_errors, 0);
    assert_int_equal(stats_of(dev).tx_packets, 4);
    dev->ops->close(dev);
    command("ip neigh del 10.98.0.2 dev mx0");
}

/* Who sleeps is woken by the kernel's word. */
static void test_woken(void **state)
{
    uint8_t marks[MAX_FRAMES];
    struct smt_dev *dev = open_dev(NULL);
    struct pollfd p = {.fd = dev->ops->fd(dev), .events = POLLIN};
    put(dev, "10.98.0.2", 1000, 1);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
    uint64_t end = now_ms() + WAIT_MS;
    unsigned n = 0, waits = 0;
    while (n == 0 && now_ms() < end) {
        n = drive(dev, 1, marks, 1);
        if (n == 0 && dev->ops->arm(dev) == 0) {
            if (waits++ == 0)
                command("(sleep 0.1; ip neigh replace 10.98.0.2 lladdr 02:00:00:00:00:02 dev mx0 "
                        "nud permanent) &");
            assert_int_equal(poll(&p, 1, WAIT_MS), 1);
        }
    }
    assert_int_equal(n, 1);
    assert_in_range(waits, 1, 50);
    dev->ops->close(dev);
    command("ip neigh del 10.98.0.2 dev mx0");
}

/* A machine that never answers keeps neither others waiting nor buffers for ever. */
static void test_never_answers(void **state)
{
    uint8_t marks[MAX_FRAMES];
    struct smt_dev *dev = open_dev(NULL);
    uint64_t begin = now_ms();
    for (unsigned i = 0; i < 300; i++) {
        put(dev, "10.98.0.77", 1000, 1);
        put(dev, "10.98.0.3", 1000, 2);
        assert_int_equal(dev->ops->tx_flush(dev), 0);
        if (i % 50 == 0)
            drive(dev, 50, marks, 1);
    }
    assert_int_equal(stats_of(dev).tx_packets, 300);
    uint64_t errors = stats_of(dev).tx_errors;
    /* What is kept is kept for seconds. */
    assert_in_range(errors, 100, now_ms() - begin < 1000 ? 200 : 300);
    for (uint64_t end = now_ms() + WAIT_MS; stats_of(dev).tx_errors < 300 && now_ms() < end;)
        drive(dev, MAX_FRAMES + 1, marks, 10);
    assert_int_equal(stats_of(dev).tx_errors, 300);
    dev->ops->close(dev);
}

static void test_addresses(void **state)
{
    struct smt_dev *dev = open_dev(NULL), *bound = open_dev("10.98.0.1");
    assert_true(reaches_itself(dev, "10.98.0.1", WAIT_MS));
    command("ip addr add 10.98.0.5/24 dev mx0 && ip addr add fd98::5/64 dev mx0 nodad");
    usleep(5000);
    drive(dev, 1, (uint8_t[MAX_FRAMES]){0}, 10);
    drive(bound, 1, (uint8_t[MAX_FRAMES]){0}, 10);
    assert_true(reaches_itself(dev, "10.98.0.5", WAIT_MS));
    assert_true(reaches_itself(dev, "fd98::5", WAIT_MS));
    assert_false(reaches_itself(bound, "10.98.0.5", 50));
    assert_true(reaches_itself(bound, "10.98.0.1", WAIT_MS));
    command("ip addr del 10.98.0.5/24 dev mx0");
    usleep(5000);
    drive(dev, 1, (uint8_t[MAX_FRAMES]){0}, 10);
    assert_false(reaches_itself(dev, "10.98.0.5", 50));
    assert_true(reaches_itself(dev, "10.98.0.1", WAIT_MS));
    assert_true(reaches_itself(dev, "fd98::5", WAIT_MS));
    /* And again: rules come and go. */
    command("ip addr add 10.98.0.5/24 dev mx0");
    usleep(5000);
    drive(dev, 1, (uint8_t[MAX_FRAMES]){0}, 10);
    assert_true(reaches_itself(dev, "10.98.0.5", WAIT_MS));
    command("ip addr del 10.98.0.5/24 dev mx0");
    dev->ops->close(dev);
    bound->ops->close(bound);
}

int main(void)
{
    char dir[] = "/dev/shm/smt-mlx5-XXXXXX", knobs[256];
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        printf("no network namespace of our own may be made\n");
        return 77;
    }
    if (mkdtemp(dir) == NULL)
        return 1;
    snprintf(capture, sizeof(capture), "%s/pcap", dir);
    snprintf(knobs, sizeof(knobs), "full,dir=%s,netdev=mx0,pcap=%s,loopback=1", dir, capture);
    setenv("MLX5_MODEL", knobs, 1);
    if (system("ip link add mx0 type veth peer name mx1 && ip addr add 10.98.0.1/24 dev mx0 && "
               "ip link set mx0 up && ip link set mx1 up && "
               "ip neigh add 10.98.0.3 lladdr 02:00:00:00:00:03 dev mx0 nud permanent") != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_neighbour),
        cmocka_unit_test(test_woken),
        cmocka_unit_test(test_never_answers),
        cmocka_unit_test(test_addresses),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    snprintf(knobs, sizeof(knobs), "rm -rf %s", dir);
    return system(knobs) != 0 || failed != 0;
}
