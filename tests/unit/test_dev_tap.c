/* Each fault of the tap by itself, over the in-memory pair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/dev.h"
#include "dev/tap.h"
#include "dev/tap_lane.h"

enum { LEN = 40, MAX_GOT = 20000 };

static const struct smt_addr anyone = {.ip = {[15] = 1}, .port = 9};

/* What arrived, in its order: the number in the packet, and how many bytes were not as sent. */
static uint32_t got_number[MAX_GOT];
static unsigned got_damage[MAX_GOT];
static unsigned n_got;

static struct smt_dev *plain, *tapped;

static void open_pair(const char *spec, uint32_t capacity)
{
    struct smt_dev *inner;
    char text[256] = "";
    assert_int_equal(smt_dev_loop_pair(1500, capacity, &plain, &inner), 0);
    int r = smt_dev_tap(spec, inner, text, sizeof(text), &tapped);
    if (r < 0)
        fail_msg("%s", text);
    n_got = 0;
}

static void close_pair(void)
{
    tapped->ops->close(tapped);
    plain->ops->close(plain);
}

static void send_one(struct smt_dev *from, uint32_t number)
{
    uint8_t *p;
    while ((p = from->ops->tx_reserve(from, &anyone, LEN, 0)) == NULL)
        assert_int_equal(from->ops->tx_flush(from), 0);
    memset(p, 0x77, LEN);
    memcpy(p, &number, sizeof(number));
}

static int receive(struct smt_dev *to)
{
    struct smt_pkt pkts[64];
    int r = to->ops->rx(to, pkts, 64);
    assert_true(r >= 0);
    for (int i = 0; i < r; i++) {
        assert_int_equal(pkts[i].len, LEN);
        assert_true(n_got < MAX_GOT);
        memcpy(&got_number[n_got], pkts[i].data, sizeof(uint32_t));
        got_damage[n_got] = 0;
        for (unsigned k = 4; k < LEN; k++)
            got_damage[n_got] += pkts[i].data[k] != 0x77;
        n_got++;
    }
    return r;
}

/* Sends n packets in batches, receiving in between, and then polls both until nothing comes. */
static void run(bool is_tx, unsigned n)
{
    struct smt_dev *from = is_tx ? tapped : plain, *to = is_tx ? plain : tapped;
    for (unsigned i = 0; i < n; i++) {
        send_one(from, i);
        if (i % 10 == 9) {
            assert_int_equal(from->ops->tx_flush(from), 0);
            receive(to);
        }
    }
    assert_int_equal(from->ops->tx_flush(from), 0);
    struct smt_pkt pkt;
    for (unsigned idle = 0; idle < 3; idle++) {
        if (receive(to) > 0)
            idle = 0;
        assert_int_equal(from->ops->rx(from, &pkt, 1), 0);
    }
    assert_int_equal(tapped->ops->arm(tapped), 0);
}

static void test_nothing(void **state)
{
    for (int is_tx = 0; is_tx < 2; is_tx++) {
        open_pair("", 64);
        run(is_tx, 1000);
        assert_int_equal(n_got, 1000);
        for (unsigned i = 0; i < n_got; i++)
            assert_true(got_number[i] == i && got_damage[i] == 0);
        close_pair();
    }
}

static void test_drop(void **state)
{
    for (int is_tx = 0; is_tx < 2; is_tx++) {
        open_pair("drop=0.3,seed=5", 64);
        run(is_tx, 10000);
        assert_in_range(n_got, 6800, 7200);
        for (unsigned i = 1; i < n_got; i++)
            assert_true(got_number[i] > got_number[i - 1]);
        close_pair();
        open_pair("drop=1", 64);
        run(is_tx, 100);
        assert_int_equal(n_got, 0);
        close_pair();
    }
}

static void test_dup(void **state)
{
    open_pair("dup=1.0", 64);
    run(true, 500);
    assert_int_equal(n_got, 1000);
    for (unsigned i = 0; i < n_got; i++)
        assert_int_equal(got_number[i], i / 2);
    close_pair();
    open_pair("dup=0.1", 64);
    run(false, 10000);
    assert_in_range(n_got, 10900, 11100);
    close_pair();
}

/* All arrive, some overtaken, none by more than a few: a held packet is passed by at most LATE_MAX
 * others that are not held themselves. */
static void test_reorder(void **state)
{
    for (int is_tx = 0; is_tx < 2; is_tx++) {
        open_pair("reorder=0.2,seed=3", 64);
        run(is_tx, 5000);
        assert_int_equal(n_got, 5000);
        static bool seen[5000];
        memset(seen, 0, sizeof(seen));
        unsigned n_back = 0;
        for (unsigned i = 0; i < n_got; i++) {
            assert_false(seen[got_number[i]]);
            seen[got_number[i]] = true;
            n_back += i > 0 && got_number[i] < got_number[i - 1];
            int shift = (int)i - (int)got_number[i];
            assert_in_range(shift + 40, 0, 80);
        }
        assert_in_range(n_back, 300, 2000);
        close_pair();
    }
}

/* The only packet, held back, comes although nothing else is ever sent. */
static void test_held_packet_is_not_stuck(void **state)
{
    struct smt_pkt pkt;
    open_pair("reorder=1", 64);
    send_one(tapped, 1);
    assert_int_equal(tapped->ops->arm(tapped), SMT_EBUSY);
    assert_int_equal(tapped->ops->tx_flush(tapped), 0);
    assert_int_equal(receive(plain), 0);
    assert_int_equal(tapped->ops->arm(tapped), SMT_EBUSY);
    assert_int_equal(tapped->ops->rx(tapped, &pkt, 1), 0);
    assert_int_equal(receive(plain), 1);
    assert_int_equal(tapped->ops->arm(tapped), 0);

    send_one(tapped, 2);
    assert_int_equal(tapped->ops->tx_flush(tapped), 0);
    assert_int_equal(tapped->ops->tx_flush(tapped), 0);
    assert_int_equal(receive(plain), 1);

    send_one(plain, 3);
    assert_int_equal(plain->ops->tx_flush(plain), 0);
    unsigned n = 0;
    while (receive(tapped) == 0)
        assert_true(++n < 3);
    close_pair();
}

static void test_corrupt(void **state)
{
    for (int is_tx = 0; is_tx < 2; is_tx++) {
        open_pair("corrupt=1,seed=9", 64);
        run(is_tx, 2000);
        assert_int_equal(n_got, 2000);
        unsigned n[5] = {0};
        for (unsigned i = 0; i < n_got; i++) {
            unsigned damage = got_damage[i];
            if (got_number[i] != i) {
                uint32_t bits = got_number[i] ^ i;
                for (unsigned k = 0; k < 4; k++)
                    damage += (bits >> (8 * k) & 0xff) != 0;
            }
            assert_in_range(damage, 1, 3);
            n[damage]++;
        }
        assert_true(n[1] > 400 && n[2] > 400 && n[3] > 400);
        close_pair();
    }
}

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void test_delay(void **state)
{
    for (int is_tx = 0; is_tx < 2; is_tx++) {
        open_pair(is_tx ? "delay_us=3000,dir=tx" : "delay_us=3000,dir=rx", 64);
        struct smt_dev *from = is_tx ? tapped : plain, *to = is_tx ? plain : tapped;
        uint64_t start = now_us();
        for (unsigned i = 0; i < 5; i++)
            send_one(from, i);
        assert_int_equal(from->ops->tx_flush(from), 0);
        struct smt_pkt pkt;
        while (n_got < 5) {
            int r = tapped->ops->arm(tapped);
            assert_true(r == SMT_EBUSY || now_us() - start >= 3000);
            receive(to);
            if (is_tx)
                assert_int_equal(tapped->ops->rx(tapped, &pkt, 1), 0);
            if (n_got > 0)
                assert_true(now_us() - start >= 3000);
            assert_true(now_us() - start < 60000000);
        }
        for (unsigned i = 0; i < 5; i++)
            assert_int_equal(got_number[i], i);
        assert_int_equal(tapped->ops->arm(tapped), 0);
        close_pair();
    }
}

static void test_dir(void **state)
{
    open_pair("drop=1,dir=tx", 64);
    run(false, 50);
    assert_int_equal(n_got, 50);
    run(true, 50);
    assert_int_equal(n_got, 50);
    close_pair();
    open_pair("drop=1,dir=rx", 64);
    run(true, 50);
    assert_int_equal(n_got, 50);
    run(false, 50);
    assert_int_equal(n_got, 50);
    close_pair();
}

/* What happens depends on the seed and on nothing else, traffic of the other direction included. */
static void test_seed(void **state)
{
    static uint32_t first[MAX_GOT];
    static const char spec[] = "drop=0.1,dup=0.1,reorder=0.2,corrupt=0.1,seed=77";
    open_pair(spec, 64);
    run(true, 2000);
    unsigned n = n_got;
    memcpy(first, got_number, sizeof(first));
    close_pair();

    open_pair(spec, 64);
    run(false, 123);
    n_got = 0;
    run(true, 2000);
    assert_int_equal(n_got, n);
    assert_memory_equal(got_number, first, n * sizeof(first[0]));
    close_pair();

    open_pair("drop=0.1,dup=0.1,reorder=0.2,corrupt=0.1,seed=78", 64);
    run(true, 2000);
    assert_true(n_got != n || memcmp(got_number, first, n * sizeof(first[0])) != 0);
    close_pair();
}

/* A full device under the tap: what was taken goes later, in order. */
static void test_full_device(void **state)
{
    open_pair("seed=1", 8);
    for (unsigned i = 0; i < 100; i++)
        send_one(tapped, i);
    unsigned n_full = 0;
    while (tapped->ops->tx_flush(tapped) == SMT_EAGAIN) {
        n_full++;
        assert_int_equal(tapped->ops->arm(tapped), SMT_EBUSY);
        receive(plain);
        assert_true(n_full < 1000);
    }
    while (receive(plain) > 0)
        ;
    assert_true(n_full > 5);
    assert_int_equal(n_got, 100);
    for (unsigned i = 0; i < n_got; i++)
        assert_int_equal(got_number[i], i);
    close_pair();
}

/* A tap that nobody flushes says "full" one day instead of growing for ever. */
static void test_limit(void **state)
{
    open_pair("delay_us=60000000", 8);
    unsigned n = 0;
    while (n < 4 * SMT_TAP_LANE_MAX) {
        uint8_t *p = tapped->ops->tx_reserve(tapped, &anyone, LEN, 0);
        if (p == NULL)
            break;
        memset(p, 0, LEN);
        n++;
    }
    assert_in_range(n, 1000, SMT_TAP_LANE_MAX);
    close_pair();
}

/* What is held when the tap closes still goes out. */
static void test_close_sends(void **state)
{
    open_pair("reorder=0.5,delay_us=1000000", 64);
    for (unsigned i = 0; i < 20; i++)
        send_one(tapped, i);
    tapped->ops->close(tapped);
    while (receive(plain) > 0)
        ;
    assert_int_equal(n_got, 20);
    plain->ops->close(plain);
}

static void test_unreserve(void **state)
{
    open_pair("drop=0.1,seed=2", 64);
    for (unsigned i = 0; i < 100; i++) {
        send_one(tapped, i);
        send_one(tapped, 1000);
        tapped->ops->tx_unreserve(tapped);
        assert_int_equal(tapped->ops->tx_flush(tapped), 0);
        receive(plain);
    }
    assert_in_range(n_got, 70, 99);
    for (unsigned i = 0; i < n_got; i++)
        assert_true(got_number[i] < 100);
    close_pair();
}

/* Each packet of a run has a fate of its own, the same as if it had been sent alone. */
static void test_run(void **state)
{
    enum { N = 10, ROUNDS = 50 };
    static uint32_t alone[MAX_GOT];
    unsigned n_alone = 0;
    for (unsigned by_run = 0; by_run < 2; by_run++) {
        open_pair("drop=0.1,dup=0.1,reorder=0.1,seed=3", 256);
        assert_true(tapped->ops->tx_run_max(tapped, &anyone) >= N * LEN);
        for (uint32_t i = 0; i < ROUNDS; i++) {
            size_t stride = 0;
            uint8_t *p = NULL;
            if (by_run) {
                p = tapped->ops->tx_run(tapped, &anyone, N, LEN, LEN, 0, &stride);
                assert_non_null(p);
                tapped->ops->tx_unreserve(tapped);
                p = tapped->ops->tx_run(tapped, &anyone, N, LEN, LEN, 0, &stride);
                assert_non_null(p);
            }
            for (uint32_t k = 0; k < N; k++) {
                uint32_t number = i * N + k;
                if (!by_run) {
                    send_one(tapped, number);
                    continue;
                }
                memset(p + k * stride, 0x77, LEN);
                memcpy(p + k * stride, &number, sizeof(number));
            }
            assert_int_equal(tapped->ops->tx_flush(tapped), 0);
            receive(plain);
        }
        if (!by_run) {
            n_alone = n_got;
            memcpy(alone, got_number, n_got * sizeof(alone[0]));
        }
        close_pair();
    }
    assert_in_range(n_got, N * ROUNDS / 2, N * ROUNDS * 2);
    assert_int_equal(n_got, n_alone);
    assert_memory_equal(got_number, alone, n_got * sizeof(alone[0]));
}

/* What a run is not given the time to become goes with the tap. */
static void test_run_open_at_close(void **state)
{
    size_t stride;
    open_pair("seed=1", 64);
    assert_non_null(tapped->ops->tx_run(tapped, &anyone, 2, LEN, LEN, 0, &stride));
    assert_int_equal(tapped->ops->arm(tapped), SMT_EBUSY);
    close_pair();
}

static void test_pcap_file(void **state)
{
    char dir[] = "/tmp/smt_test_tap_XXXXXX";
    assert_non_null(mkdtemp(dir));
    char spec[128], name[128];
    snprintf(spec, sizeof(spec), "pcap=%s/x-%%p.pcap,dup=1,dir=tx", dir);
    open_pair(spec, 64);
    snprintf(name, sizeof(name), "%s/x-%u.pcap", dir, tapped->ops->port(tapped));
    assert_int_equal(access(name, R_OK), 0);
    run(true, 10);
    run(false, 5);
    close_pair();
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    /* Sent to an IPv6 address, received from an IPv4 one. */
    assert_int_equal(ftell(f), 24 + 20 * (16 + 14 + 48 + LEN) + 5 * (16 + 14 + 28 + LEN));
    fclose(f);
    unlink(name);
    assert_int_equal(rmdir(dir), 0);
}

static void test_spec(void **state)
{
    struct smt_tap_spec s;
    char text[256];
    assert_int_equal(smt_tap_spec_parse("drop=0.05,dup=1,reorder=.25,corrupt=0.000000001,"
                                        "delay_us=50,seed=18446744073709551615,dir=rx,pcap=/tmp/x",
                                        text, sizeof(text), &s),
                     0);
    assert_int_equal(s.drop, 50000000);
    assert_int_equal(s.dup, 1000000000);
    assert_int_equal(s.reorder, 250000000);
    assert_int_equal(s.corrupt, 1);
    assert_int_equal(s.delay_ns, 50000);
    assert_true(s.seed == UINT64_MAX);
    assert_true(s.rx && !s.tx);
    assert_string_equal(s.pcap, "/tmp/x");

    static const char *const wrong[] = {
        "drop",
        "drop=",
        "drop=x",
        "drop=1.1",
        "drop=2",
        "drop=-1",
        "drop=0.1.1",
        "drop=.",
        "drop=0.0000000001",
        "drop=1e-3",
        "drop=0.1;dup=1",
        "drop=99999999999999999999",
        "=1",
        "droop=1",
        "dro=1",
        "seed=-1",
        "seed=",
        "seed=18446744073709551616",
        "delay_us=1.5",
        "delay_us=60000001",
        "dir=both,dir=up",
        "pcap=",
        "drop=0.1,,dup=1",
        ",",
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(wrong); i++) {
        text[0] = '\0';
        assert_int_equal(smt_tap_spec_parse(wrong[i], text, sizeof(text), &s), SMT_EINVAL);
        assert_memory_equal(text, "tap: ", 5);
    }
    char longest[400] = "pcap=";
    memset(longest + 5, 'a', sizeof(longest) - 6);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(smt_tap_spec_parse(longest, text, sizeof(text), &s), SMT_EINVAL);
}

static void test_failed_open_leaves_the_device(void **state)
{
    struct smt_dev *a, *b, *t = NULL;
    char text[256];
    assert_int_equal(smt_dev_loop_pair(1500, 8, &a, &b), 0);
    struct smt_mem_stats before = smt_mem_live();
    assert_int_equal(smt_dev_tap("drop=2", b, text, sizeof(text), &t), SMT_EINVAL);
    assert_int_equal(smt_dev_tap("pcap=/nonexistent/x", b, text, sizeof(text), &t), SMT_EFILE);
    assert_non_null(strstr(text, "/nonexistent/x"));
    for (long n = 0;; n++) {
        smt_mem_fail_after(n);
        int r = smt_dev_tap("drop=0.1,pcap=/dev/null", b, text, sizeof(text), &t);
        if (smt_mem_fail_after(-1) >= 0) {
            assert_int_equal(r, 0);
            break;
        }
        assert_int_equal(r, SMT_ENOMEM);
        struct smt_mem_stats after = smt_mem_live();
        assert_true(after.n_live == before.n_live && after.bytes_live == before.bytes_live);
    }
    t->ops->close(t);
    a->ops->close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_dup),
        cmocka_unit_test(test_reorder),
        cmocka_unit_test(test_held_packet_is_not_stuck),
        cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_delay),
        cmocka_unit_test(test_dir),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_full_device),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_close_sends),
        cmocka_unit_test(test_unreserve),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_run_open_at_close),
        cmocka_unit_test(test_pcap_file),
        cmocka_unit_test(test_spec),
        cmocka_unit_test(test_failed_open_leaves_the_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
