/* What every device promises (src/dev/dev.h), tested over each row of the table.
 *
 * Packets belong to streams, which must arrive in order: the first byte names the stream, the
 * others follow from stream, number and place. What lies behind a packet's own bytes must be zero.
 * The sender's rx is called along with the receivers': a device may have something to do there
 * before its packets can leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/prng.h"
#include "conform/conform.h"
#include "dev/dev_impl.h"
#include "dev/steer.h"

enum { N_STREAMS = 64, MAX_PENDING = 8192, MAX_BURST = 1000, PATIENCE_MS = 60000 };

/* Packets sent and not yet received, by their length. */
struct stream {
    uint32_t lens[MAX_PENDING];
    uint32_t sent, received;
};

struct fixture {
    struct conform_set set;
    struct stream streams[N_STREAMS];
    uint64_t pad_bytes, n_in_flight, n_lost;
    bool is_lossy; /* packets may be missing, but not out of order */
};

static struct smt_dev *tx_of(struct fixture *f)
{
    return f->set.tx;
}

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint8_t pattern(unsigned stream, uint32_t n, uint32_t i)
{
    uint32_t k = stream * 17 + n * 131 + i * 7 + (i >> 8);
    /* By the byte that names the endpoint, packets of one stream are one endpoint's. */
    bool is_name = i == 0 || i == SMT_STEER_AT;
    return is_name ? (uint8_t)stream : (uint8_t)(i % 2 == 0 ? k + (n >> 8) * 29 : k);
}

/* Streams are numbered by receiver and priority. */
static unsigned stream_of(unsigned rx, uint8_t prio)
{
    return rx * 8 + prio;
}

/* False when the device is full. */
static bool put(struct fixture *f, unsigned rx, uint8_t prio, uint32_t len)
{
    struct smt_dev *tx = tx_of(f);
    uint8_t *p = tx->ops->tx_reserve(tx, &f->set.to[rx], len, prio);
    if (p == NULL)
        return false;
    unsigned id = stream_of(rx, prio);
    struct stream *s = &f->streams[id];
    assert_true(s->sent - s->received < MAX_PENDING);
    for (uint32_t i = 0; i < len; i++)
        p[i] = pattern(id, s->sent, i);
    s->lens[s->sent++ % MAX_PENDING] = len;
    f->n_in_flight++;
    return true;
}

/* The same for a run. */
static bool put_run(struct fixture *f, unsigned rx, uint8_t prio, unsigned n, uint32_t len,
                    uint32_t last_len)
{
    struct smt_dev *tx = tx_of(f);
    size_t stride = 0;
    uint8_t *p = tx->ops->tx_run(tx, &f->set.to[rx], n, len, last_len, prio, &stride);
    if (p == NULL)
        return false;
    assert_true(stride >= len);
    unsigned id = stream_of(rx, prio);
    struct stream *s = &f->streams[id];
    for (unsigned k = 0; k < n; k++, p += stride) {
        uint32_t this_len = k + 1 < n ? len : last_len;
        assert_true(s->sent - s->received < MAX_PENDING);
        for (uint32_t i = 0; i < this_len; i++)
            p[i] = pattern(id, s->sent, i);
        s->lens[s->sent++ % MAX_PENDING] = this_len;
    }
    f->n_in_flight += n;
    return true;
}

/* Takes back what one call has put. */
static void unput_all(struct fixture *f, unsigned rx, uint8_t prio, unsigned n)
{
    struct smt_dev *tx = tx_of(f);
    tx->ops->tx_unreserve(tx);
    f->streams[stream_of(rx, prio)].sent -= n;
    f->n_in_flight -= n;
}

static void unput(struct fixture *f, unsigned rx, uint8_t prio)
{
    unput_all(f, rx, prio, 1);
}

static bool is_packet(const struct stream *s, unsigned id, const struct smt_pkt *p)
{
    uint32_t len = s->lens[s->received % MAX_PENDING];
    for (uint32_t i = 0; i < p->len; i++) {
        if (p->data[i] != (i < len ? pattern(id, s->received, i) : 0))
            return false;
    }
    return p->len >= len;
}

static void check(struct fixture *f, unsigned rx, const struct smt_pkt *p)
{
    assert_true(p->len > 0);
    unsigned id = p->data[0];
    if (id == CONFORM_FOREIGN)
        return;
    assert_true(id / 8 == rx);
    struct stream *s = &f->streams[id];
    for (; f->is_lossy && s->received < s->sent && !is_packet(s, id, p); s->received++) {
        f->n_in_flight--;
        f->n_lost++;
    }
    assert_true(s->received < s->sent);
    uint32_t len = s->lens[s->received % MAX_PENDING];
    assert_true(p->len >= len);
    for (uint32_t i = 0; i < p->len; i++) {
        uint8_t want = i < len ? pattern(id, s->received, i) : 0;
        if (p->data[i] != want)
            fail_msg("stream %u packet %u byte %u: %02x, not %02x", id, s->received, i, p->data[i],
                     want);
    }
    memset(p->data, 0xdd, p->len); /* it may be written */
    s->received++;
    f->n_in_flight--;
    f->pad_bytes += p->len - len;
}

/* One call of rx on each receiver; how many packets came. */
static unsigned take(struct fixture *f, unsigned n)
{
    unsigned total = 0;
    struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    assert_int_equal(tx_of(f)->ops->rx(tx_of(f), pkts, n), 0);
    for (unsigned i = 0; i < f->set.n_rx; i++) {
        struct smt_dev *rx = f->set.rx[i];
        int got = rx->ops->rx(rx, pkts, n);
        assert_in_range(got, 0, n);
        for (int k = 0; k < got; k++)
            check(f, i, &pkts[k]);
        total += (unsigned)got;
    }
    return total;
}

/* Everything sent must arrive; then nothing more may come. */
static void take_all(struct fixture *f, unsigned n)
{
    uint64_t end = now_ms() + PATIENCE_MS;
    while (f->n_in_flight > 0) {
        if (take(f, n) == 0 && now_ms() > end)
            fail_msg("%lu packets are missing", (unsigned long)f->n_in_flight);
    }
    assert_int_equal(take(f, n), 0);
}

/* The network may be full for a while; taking helps it. */
static void flush(struct fixture *f)
{
    struct smt_dev *tx = tx_of(f);
    uint64_t end = now_ms() + PATIENCE_MS;
    int r;
    while ((r = tx->ops->tx_flush(tx)) == SMT_EAGAIN) {
        take(f, SMT_DEV_RX_BATCH);
        assert_true(now_ms() < end);
    }
    assert_int_equal(r, 0);
}

static void put_surely(struct fixture *f, unsigned rx, uint8_t prio, uint32_t len)
{
    uint64_t end = now_ms() + PATIENCE_MS;
    while (!put(f, rx, prio, len)) {
        flush(f);
        take(f, SMT_DEV_RX_BATCH);
        assert_true(now_ms() < end);
    }
}

static struct smt_dev_stats stats_of(struct smt_dev *dev)
{
    struct smt_dev_stats s;
    dev->ops->stats(dev, &s);
    return s;
}

static bool is_readable(struct smt_dev *dev, int timeout_ms)
{
    struct pollfd p = {.fd = dev->ops->fd(dev), .events = POLLIN};
    int r = poll(&p, 1, timeout_ms);
    assert_true(r >= 0);
    return r == 1;
}

/* One packet from `from` comes to `to`, which is driven together with the sender. */
static void one_arrives(struct smt_dev *from, struct smt_dev *to, struct smt_pkt *out)
{
    uint64_t end = now_ms() + PATIENCE_MS;
    int r;
    while ((r = to->ops->rx(to, out, 1)) == 0) {
        struct smt_pkt none;
        assert_int_equal(from->ops->rx(from, &none, 1), 0);
        assert_true(now_ms() < end);
    }
    assert_int_equal(r, 1);
}

/* Until the device would sleep: what its peers ask of it is no packet. */
static void settle(struct smt_dev *dev)
{
    uint64_t end = now_ms() + PATIENCE_MS;
    bool has_event = (dev->ops->caps & SMT_DEV_CAP_EVENT) != 0;
    while (dev->ops->arm(dev) != 0 || (has_event && is_readable(dev, 0))) {
        struct smt_pkt none;
        assert_int_equal(dev->ops->rx(dev, &none, 1), 0);
        assert_true(now_ms() < end);
    }
}

/* Packets get through again, perhaps not the first ones. */
static void recovers(struct fixture *f, bool (*is_over)(void))
{
    uint64_t end = now_ms() + PATIENCE_MS;
    f->is_lossy = true;
    for (unsigned i = 0; i < f->set.n_rx; i++) {
        struct stream *s = &f->streams[stream_of(i, 4)];
        uint64_t sent_at = 0;
        while (take(f, 16) > 0)
            ;
        uint32_t received = s->received;
        do {
            /* Not so many that they are all lost before it has recovered. */
            if (now_ms() != sent_at && put(f, i, 4, 200))
                sent_at = now_ms();
            (void)tx_of(f)->ops->tx_flush(tx_of(f));
            take(f, 16);
            if (now_ms() > end)
                fail_msg("receiver %u hears no more: %u sent, %u received", i, s->sent,
                         s->received);
        } while (s->received == received || (is_over != NULL && !is_over()));
    }
    flush(f);
    while (take(f, 16) > 0)
        ;
    for (unsigned i = 0; i < N_STREAMS; i++)
        f->streams[i].received = f->streams[i].sent;
    f->n_in_flight = 0;
    f->is_lossy = false;
}

/* Both ways once, so that everybody knows everybody. */
static void introduce(struct fixture *f)
{
    struct smt_dev *tx = tx_of(f);
    recovers(f, NULL);
    for (unsigned i = 0; i < f->set.n_rx; i++) {
        struct smt_dev *rx = f->set.rx[i];
        uint8_t *p = rx->ops->tx_reserve(rx, &f->set.back, 1, 0);
        assert_non_null(p);
        p[0] = 0;
        assert_int_equal(rx->ops->tx_flush(rx), 0);
        struct smt_pkt pkt;
        one_arrives(rx, tx, &pkt);
    }
    for (unsigned i = 0; i < f->set.n_rx; i++)
        settle(f->set.rx[i]);
    settle(tx);
}

static uint32_t max_len(struct fixture *f)
{
    uint32_t mtu = f->set.tx->ops->mtu(f->set.tx, &f->set.to[0]);
    assert_in_range(mtu, 500, SMT_DEV_MAX_PACKET);
    return mtu;
}

/* One of which a usual link carries several in a super-frame. */
static uint32_t mid_len(struct fixture *f)
{
    uint32_t max = max_len(f);
    return max < 1400 ? max : 1400;
}

static void test_all_lengths(void **state)
{
    struct fixture *f = *state;
    uint32_t max = max_len(f);
    struct smt_dev_stats tx0 = stats_of(tx_of(f)), rx0 = stats_of(f->set.rx[0]);
    for (uint32_t len = 1; len <= max; len += len < 2000 ? 1 : 977) {
        put_surely(f, 0, 0, len);
        flush(f);
        take_all(f, SMT_DEV_RX_BATCH);
        if (len >= 2000 && len < max && len + 977 > max)
            len = max - 977;
    }
    assert_true(f->pad_bytes == 0);
    struct smt_dev_stats tx = stats_of(tx_of(f)), rx = stats_of(f->set.rx[0]);
    assert_true(tx.tx_packets - tx0.tx_packets == rx.rx_packets - rx0.rx_packets);
    assert_true(tx.tx_bytes - tx0.tx_bytes == rx.rx_bytes - rx0.rx_bytes);
    assert_true(rx.rx_dropped == rx0.rx_dropped);
    assert_true(tx.tx_errors == 0 && tx.tx_too_big == 0);
}

/* Packets whose lengths force every way of joining and not joining them. */
static void test_batches_of_mixed_lengths(void **state)
{
    struct fixture *f = *state;
    struct smt_prng g;
    smt_prng_seed(&g, 11);
    uint32_t max = max_len(f) < 4000 ? max_len(f) : 4000, mid = mid_len(f);
    uint64_t sent = stats_of(tx_of(f)).tx_bytes;
    for (unsigned round = 0; round < 400; round++) {
        unsigned n = 1 + (unsigned)smt_prng_below(&g, 100);
        uint64_t kind = smt_prng_below(&g, 4);
        for (unsigned i = 0; i < n; i++) {
            uint64_t span = kind == 0 ? 64 : kind == 1 ? mid : kind == 2 ? max : 300;
            uint32_t len = 1 + (uint32_t)smt_prng_below(&g, span);
            if (kind == 3)
                len = mid - len;
            sent += len;
            put_surely(f, 0, 3, len);
        }
        flush(f);
        take_all(f, SMT_DEV_RX_BATCH);
    }
    struct smt_dev_stats s = stats_of(tx_of(f));
    assert_true(s.tx_bytes == sent + s.pad_bytes);
    assert_true(s.pad_bytes == f->pad_bytes);
}

static void test_mixed_destinations(void **state)
{
    struct fixture *f = *state;
    struct smt_prng g;
    smt_prng_seed(&g, 12);
    for (unsigned round = 0; round < 300; round++) {
        unsigned n = 1 + (unsigned)smt_prng_below(&g, 60);
        for (unsigned i = 0; i < n; i++) {
            unsigned rx = (unsigned)smt_prng_below(&g, f->set.n_rx);
            uint8_t prio = (uint8_t)smt_prng_below(&g, 8);
            put_surely(f, rx, prio, 1 + (uint32_t)smt_prng_below(&g, mid_len(f)));
        }
        flush(f);
        take_all(f, SMT_DEV_RX_BATCH);
    }
}

/* Equal packets to several destinations in turn still share calls. */
static void test_batches_are_batches(void **state)
{
    struct fixture *f = *state;
    const struct conform_row *row = f->set.row;
    if (!row->is_socket && !row->is_verbs && !row->is_raw)
        skip();
    struct smt_dev_stats before = stats_of(tx_of(f));
    for (unsigned i = 0; i < 100; i++)
        put_surely(f, i % f->set.n_rx, 0, 177);
    flush(f);
    take_all(f, SMT_DEV_RX_BATCH);
    struct smt_dev_stats after = stats_of(tx_of(f));
    assert_int_equal(after.tx_packets - before.tx_packets, 100);
    if (row->is_socket)
        assert_in_range(after.tx_frames - before.tx_frames, f->set.n_rx, 2 * f->set.n_rx);
    /* One call, or one of each queue pair. */
    unsigned most = row->n_calls != 0 ? row->n_calls : row->is_verbs ? f->set.n_rx : 2;
    assert_in_range(after.tx_calls - before.tx_calls, 1, most);
}

static void test_back_pressure(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *rx = f->set.rx[0];
    uint32_t len = f->set.row->is_verbs ? max_len(f) : 1050;
    uint32_t fits = rx->ops->rx_capacity(rx) / len;
    for (unsigned round = 0; round < 20; round++) {
        unsigned n = 0;
        while (n < MAX_BURST && n < fits && put(f, 0, 1, len - n % 50))
            n++;
        assert_true(n >= 32);
        flush(f);
        take_all(f, SMT_DEV_RX_BATCH);
    }
    put_surely(f, 0, 1, 100);
    flush(f);
    take_all(f, SMT_DEV_RX_BATCH);
}

static void test_unreserve(void **state)
{
    struct fixture *f = *state;
    const uint32_t lens[] = {300, 280, 300, mid_len(f), 64, 200, 1, 290};
    put_surely(f, 0, 0, 50);
    unput(f, 0, 0);
    assert_int_equal(tx_of(f)->ops->tx_flush(tx_of(f)), 0);
    for (unsigned i = 0; i < 200; i++) {
        put_surely(f, 0, 0, lens[i % SMT_ARRAY_LEN(lens)]);
        if (i % 3 == 1) {
            /* Another length, so that what was padded for it has to be as if it had not been. */
            put_surely(f, 0, 0, lens[(i * 5 + 1) % SMT_ARRAY_LEN(lens)]);
            unput(f, 0, 0);
        }
        if (i % 7 == 2) {
            put_surely(f, f->set.n_rx - 1, 5, 700);
            unput(f, f->set.n_rx - 1, 5);
        }
        if (i % 40 == 39)
            flush(f);
    }
    flush(f);
    take_all(f, SMT_DEV_RX_BATCH);
    assert_true(stats_of(tx_of(f)).pad_bytes == f->pad_bytes);
}

static void put_run_surely(struct fixture *f, unsigned rx, uint8_t prio, unsigned n, uint32_t len,
                           uint32_t last_len)
{
    uint64_t end = now_ms() + PATIENCE_MS;
    while (!put_run(f, rx, prio, n, len, last_len)) {
        flush(f);
        take(f, SMT_DEV_RX_BATCH);
        assert_true(now_ms() < end);
    }
}

static uint32_t run_max(struct fixture *f)
{
    uint32_t max = tx_of(f)->ops->tx_run_max(tx_of(f), &f->set.to[0]);
    assert_true(max <= SMT_DEV_MAX_PACKET);
    return max;
}

/* How many packets of `len` bytes are a run, with the last one whole. */
static unsigned longest_run(struct fixture *f, uint32_t len)
{
    unsigned n = run_max(f) / len;
    return n < SMT_DEV_MAX_RUN ? n : SMT_DEV_MAX_RUN;
}

/* A run alone arrives whole by one call of rx. */
static void test_run_stays_together(void **state)
{
    struct fixture *f = *state;
    if (run_max(f) == 0)
        skip();
    const uint32_t lens[] = {300, 1000, 1400, 1448};
    struct smt_dev *rx = f->set.rx[0];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        for (unsigned n = 2; n <= longest_run(f, lens[i]); n++) {
            put_run_surely(f, 0, 0, n, lens[i], n % 2 == 0 ? lens[i] : 40 + n);
            flush(f);
            struct smt_pkt pkts[SMT_DEV_RX_BATCH];
            uint64_t end = now_ms() + PATIENCE_MS;
            int got;
            while ((got = rx->ops->rx(rx, pkts, SMT_DEV_RX_BATCH)) == 0) {
                assert_int_equal(tx_of(f)->ops->rx(tx_of(f), pkts, 1), 0);
                assert_true(now_ms() < end);
            }
            assert_int_equal(got, n);
            for (int k = 0; k < got; k++)
                check(f, 0, &pkts[k]);
        }
    }
    assert_true(f->pad_bytes == 0);
}

/* Four that are as long as they may be leave by one super-frame, where the device has long ones. */
static void test_runs_share_frames(void **state)
{
    struct fixture *f = *state;
    if (run_max(f) == 0 || !f->set.row->is_socket)
        skip();
    unsigned n = longest_run(f, 1400);
    struct smt_dev_stats before = stats_of(tx_of(f));
    for (unsigned i = 0; i < 4; i++)
        put_run_surely(f, 0, 0, n, 1400, 1300);
    flush(f);
    take_all(f, SMT_DEV_RX_BATCH);
    struct smt_dev_stats after = stats_of(tx_of(f));
    assert_int_equal(after.tx_packets - before.tx_packets, 4 * n);
    assert_in_range(after.tx_frames - before.tx_frames, 1, 4);
    assert_int_equal(after.tx_calls - before.tx_calls, 1);
}

/* Runs between packets, of many shapes, some of them taken back. */
static void test_runs_and_packets(void **state)
{
    struct fixture *f = *state;
    if (run_max(f) == 0)
        skip();
    struct smt_prng g;
    smt_prng_seed(&g, 17);
    uint64_t sent = stats_of(tx_of(f)).tx_bytes;
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t len = i % 3 > 0 ? 1400 : 100 + (uint32_t)smt_prng_below(&g, 1300);
        unsigned n = 2 + (unsigned)smt_prng_below(&g, longest_run(f, len) - 1);
        uint32_t last = i % 5 > 0 ? len : 1 + (uint32_t)smt_prng_below(&g, len);
        unsigned rx = (unsigned)smt_prng_below(&g, f->set.n_rx);
        uint8_t prio = i % 4 == 0 ? 5 : 2;
        put_run_surely(f, rx, prio, n, len, last);
        if (smt_prng_below(&g, 4) == 0)
            unput_all(f, rx, prio, n);
        else
            sent += (n - 1) * len + last;
        for (uint64_t k = smt_prng_below(&g, 4); k > 0; k--) {
            uint32_t alone = 1 + (uint32_t)smt_prng_below(&g, k == 1 ? len : 100);
            put_surely(f, rx, prio, alone);
            sent += alone;
        }
        if (smt_prng_below(&g, 8) == 0) {
            flush(f);
            take_all(f, 1 + (unsigned)smt_prng_below(&g, SMT_DEV_RX_BATCH));
        }
    }
    flush(f);
    take_all(f, SMT_DEV_RX_BATCH);
    struct smt_dev_stats s = stats_of(tx_of(f));
    assert_true(s.tx_bytes == sent + s.pad_bytes);
    assert_true(s.pad_bytes == f->pad_bytes);
}

static void test_rx_with_small_n(void **state)
{
    struct fixture *f = *state;
    for (unsigned n = 1; n < 10; n++) {
        for (unsigned i = 0; i < 50; i++)
            put_surely(f, 0, 0, 200);
        flush(f);
        take_all(f, n);
    }
}

/* What is at hand behind a batch comes in order and takes nothing back of it. Devices that cut
 * super-frames always have something. */
static void test_rx_more(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *rx = f->set.rx[0];
    bool cuts = strcmp(rx->ops->name, "udp") == 0 || strcmp(rx->ops->name, "af") == 0;
    unsigned n_more = 0;
    for (unsigned n = 1; n < 20; n++) {
        for (unsigned i = 0; i < 60; i++)
            put_surely(f, 0, 0, mid_len(f) / 2 + i);
        flush(f);
        uint64_t end = now_ms() + PATIENCE_MS;
        while (f->n_in_flight > 0) {
            assert_true(now_ms() < end);
            struct smt_pkt pkts[SMT_DEV_RX_BATCH];
            int r = rx->ops->rx(rx, pkts, n);
            assert_in_range(r, 0, n);
            unsigned got = (unsigned)r, more = got;
            while (more > 0 && got + n <= SMT_DEV_RX_BATCH) {
                more = rx->ops->rx_more(rx, pkts + got, n);
                assert_in_range(more, 0, n);
                got += more;
                n_more += more;
            }
            for (unsigned i = 0; i < got; i++)
                check(f, 0, &pkts[i]);
        }
    }
    assert_true(n_more > 0 || !cuts);
    take_all(f, SMT_DEV_RX_BATCH);
}

/* A thousand packets on their way while new ones are sent. */
static void test_stream(void **state)
{
    struct fixture *f = *state;
    struct smt_prng g;
    smt_prng_seed(&g, 13);
    for (unsigned i = 0; i < 20000; i++) {
        while (f->n_in_flight > 500) {
            flush(f);
            take(f, 1 + (unsigned)smt_prng_below(&g, SMT_DEV_RX_BATCH));
        }
        put_surely(f, i % f->set.n_rx, 2, 1 + (uint32_t)smt_prng_below(&g, mid_len(f)));
        if (smt_prng_below(&g, 20) == 0)
            flush(f);
    }
    flush(f);
    take_all(f, SMT_DEV_RX_BATCH);
}

static void test_sleep(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *rx = f->set.rx[0];
    bool has_event = (rx->ops->caps & SMT_DEV_CAP_EVENT) != 0;
    assert_true((rx->ops->fd(rx) >= 0) == has_event);
    for (unsigned round = 0; round < 50; round++) {
        settle(rx);
        put_surely(f, 0, 0, 100);
        put_surely(f, 0, 0, 100);
        flush(f);
        if (has_event)
            assert_true(is_readable(rx, PATIENCE_MS));
        /* A second arm must not hide what has come: it says so, or the descriptor does. */
        int r = rx->ops->arm(rx);
        assert_true(r == SMT_EBUSY || (r == 0 && has_event && is_readable(rx, 0)));
        while (take(f, 1) == 0)
            ;
        /* One is left, in the device or in the kernel. */
        r = rx->ops->arm(rx);
        assert_true(r == SMT_EBUSY || (r == 0 && has_event && is_readable(rx, 0)));
        take_all(f, 1);
        for (unsigned i = 0; i < 10 * round; i++)
            take(f, 1);
    }
}

/* What comes between the last look and the arming must not be slept through. */
static void test_arming_race(void **state)
{
    struct fixture *f = *state;
    if (f->set.row->set_late == NULL)
        skip();
    struct smt_dev *rx = f->set.rx[0];
    for (unsigned round = 0; round < 50; round++) {
        settle(rx);
        put_surely(f, 0, 0, 100);
        flush(f);
        take_all(f, 16);
        /* Until what woke it has been seen. */
        for (unsigned i = 0; i < 10u * round; i++)
            take(f, 16);
        f->set.row->set_late(true);
        put_surely(f, 0, 0, 100);
        flush(f);
        assert_true(rx->ops->arm(rx) == SMT_EBUSY || is_readable(rx, PATIENCE_MS));
        f->set.row->set_late(false);
        take_all(f, 16);
    }
}

/* Reserved and not flushed: the sleeper must not sleep through it. */
static void test_arm_with_sends_waiting(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *tx = tx_of(f);
    put_surely(f, 0, 0, 100);
    int r = tx->ops->arm(tx);
    assert_true(r == SMT_EBUSY || (r == 0 && is_readable(tx, PATIENCE_MS)));
    flush(f);
    take_all(f, 16);
    settle(tx);
}

/* Sends until something has come. */
static void one_is_through(struct conform_set *set)
{
    uint64_t end = now_ms() + PATIENCE_MS;
    struct smt_pkt pkt;
    int r;
    while ((r = set->rx[0]->ops->rx(set->rx[0], &pkt, 1)) == 0) {
        struct smt_pkt none;
        assert_int_equal(set->tx->ops->rx(set->tx, &none, 1), 0);
        if (set->row->drops_first)
            assert_non_null(set->tx->ops->tx_reserve(set->tx, &set->to[0], 100, 0));
        (void)set->tx->ops->tx_flush(set->tx);
        assert_true(now_ms() < end);
    }
    assert_int_equal(r, 1);
}

/* Round 0: reserved; 1: sent; 2: some received; 3: both ways, receivers closed first; 4: full. */
static void test_close_with_packets_pending(void **state)
{
    struct fixture *f = *state;
    struct smt_mem_stats before = smt_mem_live();
    for (unsigned round = 0; round < 5; round++) {
        struct conform_set set;
        assert_int_equal(conform_open(f->set.row, &set), 0);
        for (unsigned i = 0; i < 10; i++)
            assert_non_null(set.tx->ops->tx_reserve(set.tx, &set.to[0], 100, 0));
        if (round > 0)
            assert_int_equal(set.tx->ops->tx_flush(set.tx), 0);
        if (round > 1)
            one_is_through(&set);
        if (round == 3) {
            for (unsigned i = 0; i < 10; i++)
                assert_non_null(set.rx[0]->ops->tx_reserve(set.rx[0], &set.back, 100, 0));
            assert_int_equal(set.rx[0]->ops->tx_flush(set.rx[0]), 0);
            (void)set.tx->ops->tx_reserve(set.tx, &set.to[0], 200, 0);
            set.rx[0]->ops->close(set.rx[0]);
            set.rx[0] = NULL;
        }
        for (unsigned i = 0; round == 4 && i < 3000; i++) {
            uint8_t *p = set.tx->ops->tx_reserve(set.tx, &set.to[0], 1000, 3);
            if (p == NULL && set.tx->ops->tx_flush(set.tx) == SMT_EAGAIN)
                break;
        }
        conform_close(&set);
    }
    struct smt_mem_stats after = smt_mem_live();
    assert_true(before.n_live == after.n_live && before.bytes_live == after.bytes_live);
}

/* The peer goes; what is sent to it vanishes, and everybody else is served. */
static void test_peer_closed(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *tx = tx_of(f);
    unsigned gone = f->set.n_rx - 1;
    f->set.rx[gone]->ops->close(f->set.rx[gone]);
    f->set.rx[gone] = NULL;
    f->set.n_rx--;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t *p = tx->ops->tx_reserve(tx, &f->set.to[gone], 100, 0);
        assert_non_null(p);
        memset(p, 1, 100);
        if (gone > 0)
            put_surely(f, i % gone, 0, 100);
        assert_int_equal(tx->ops->tx_flush(tx), 0);
        struct smt_pkt pkt;
        assert_int_equal(tx->ops->rx(tx, &pkt, 1), 0);
    }
    take_all(f, 16);
}

/* Packets above the MTU are counted and take nobody along. */
static bool set_mtu(const struct fixture *f, int mtu)
{
    return f->set.row->set_mtu != NULL ? f->set.row->set_mtu(mtu) : conform_set_lo_mtu(mtu);
}

static void test_mtu_refusal(void **state)
{
    struct fixture *f = *state;
    bool is_kernels = f->set.row->is_socket || f->set.row->is_raw;
    if (is_kernels && !set_mtu(f, 1500)) {
        print_message("no network of our own: not tested\n");
        skip();
    }
    struct smt_dev *tx = tx_of(f);
    uint32_t mtu = tx->ops->mtu(tx, &f->set.to[0]);
    bool is_ipv4 = smt_addr_is_ipv4(&f->set.to[0]);
    if (f->set.row->is_socket)
        assert_int_equal(mtu, is_ipv4 ? 1472 : 1452);
    if (f->set.row->is_raw)
        assert_int_equal(mtu, (is_ipv4 ? 1480 : 1460) - CONFORM_IP_HEAD);
    put_surely(f, 0, 0, mtu);
    flush(f);
    take_all(f, 16);
    for (unsigned n = 1; n <= 5; n += 2) {
        struct smt_dev_stats before = stats_of(tx);
        put_surely(f, 0, 1, 500);
        for (unsigned i = 0; i < n; i++) {
            uint8_t *p = tx->ops->tx_reserve(tx, &f->set.to[0], mtu + 1, 0);
            assert_non_null(p);
            memset(p, 0, mtu + 1);
        }
        put_surely(f, 0, 0, 300); /* may be the end of the same super-frame */
        put_surely(f, 0, 1, 600);
        flush(f);
        take_all(f, 16);
        struct smt_dev_stats after = stats_of(tx);
        assert_int_equal(after.tx_too_big - before.tx_too_big, n);
        assert_int_equal(after.tx_errors, before.tx_errors);
    }
    if (run_max(f) >= 2 * (mtu + 1)) {
        struct smt_dev_stats before = stats_of(tx);
        size_t stride;
        uint8_t *p = tx->ops->tx_run(tx, &f->set.to[0], 2, mtu + 1, mtu + 1, 0, &stride);
        assert_non_null(p);
        memset(p, 0, mtu + 1);
        memset(p + stride, 0, mtu + 1);
        put_surely(f, 0, 1, 600);
        flush(f);
        take_all(f, 16);
        assert_int_equal(stats_of(tx).tx_too_big - before.tx_too_big, 2);
    }
    /* Super-frames still work afterwards. */
    struct smt_dev_stats before = stats_of(tx);
    for (unsigned i = 0; i < 20; i++)
        put_surely(f, 0, 0, 700);
    flush(f);
    take_all(f, 16);
    if (f->set.row->is_socket)
        assert_int_equal(stats_of(tx).tx_frames - before.tx_frames, 1);
    if (is_kernels)
        assert_true(set_mtu(f, f->set.row->set_mtu != NULL ? f->set.row->max_mtu : 65536));
}

static void test_port_in_use(void **state)
{
    struct fixture *f = *state;
    if (f->set.row->spec == NULL)
        skip();
    uint16_t port = f->set.rx[0]->ops->port(f->set.rx[0]);
    assert_int_equal(port, f->set.to[0].port);
    char text[256] = "";
    struct smt_dev_config config = conform_config(f->set.row, port);
    config.error_text = text;
    config.error_text_len = sizeof(text);
    struct smt_dev *dev = NULL;
    struct smt_mem_stats before = smt_mem_live();
    assert_int_equal(smt_dev_open(&config, &dev), SMT_EADDRINUSE);
    assert_null(dev);
    assert_non_null(strstr(text, "in use"));
    assert_true(smt_mem_live().n_live == before.n_live);
}

static void test_shared_port(void **state)
{
    struct fixture *f = *state;
    if ((tx_of(f)->ops->caps & SMT_DEV_CAP_SHARE) == 0)
        skip();
    conform_shared_port(&f->set);
}

static void test_from_and_answer(void **state)
{
    struct fixture *f = *state;
    put_surely(f, 0, 0, 10);
    flush(f);
    struct smt_dev *rx = f->set.rx[0], *tx = tx_of(f);
    struct smt_pkt pkt;
    one_arrives(tx, rx, &pkt);
    struct smt_addr from = *pkt.from;
    if (f->set.row->spec != NULL)
        assert_true(smt_addr_equal(&from, &f->set.back));
    uint8_t *p = rx->ops->tx_reserve(rx, &from, 3, 0);
    assert_non_null(p);
    memcpy(p, "abc", 3);
    assert_int_equal(rx->ops->tx_flush(rx), 0);
    one_arrives(rx, tx, &pkt);
    assert_int_equal(pkt.len, 3);
    assert_memory_equal(pkt.data, "abc", 3);
}

static int plain_socket(const struct smt_addr *to, struct sockaddr_storage *sa, unsigned *len)
{
    *len = smt_addr_to_sockaddr(to, false, sa);
    int fd = socket(sa->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    return fd;
}

static void test_ecn(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *rx = f->set.rx[0];
    for (uint8_t prio = 0; prio < 8; prio++) {
        put_surely(f, 0, prio, 100);
        flush(f);
        struct smt_pkt pkt;
        one_arrives(tx_of(f), rx, &pkt);
        assert_int_equal(pkt.ecn, f->set.row->has_no_ecn ? 0 : 2);
        check(f, 0, &pkt);
        if (f->set.row->set_ce == NULL)
            continue;
        f->set.row->set_ce(true);
        put_surely(f, 0, prio, 100);
        flush(f);
        one_arrives(tx_of(f), rx, &pkt);
        assert_int_equal(pkt.ecn, 3);
        check(f, 0, &pkt);
        f->set.row->set_ce(false);
    }
    if (!f->set.row->is_socket)
        return;
    struct sockaddr_storage sa;
    unsigned len;
    int fd = plain_socket(&f->set.to[0], &sa, &len);
    bool is_ipv4 = sa.ss_family == AF_INET;
    for (int ecn = 0; ecn < 4; ecn++) {
        int tos = 0xb8 | ecn;
        assert_int_equal(setsockopt(fd, is_ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                                    is_ipv4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof(tos)),
                         0);
        assert_int_equal(sendto(fd, "x", 1, 0, (struct sockaddr *)&sa, len), 1);
        struct smt_pkt pkt;
        uint64_t end = now_ms() + PATIENCE_MS;
        while (rx->ops->rx(rx, &pkt, 1) == 0)
            assert_true(now_ms() < end);
        assert_int_equal(pkt.ecn, ecn);
    }
    close(fd);
}

/* The receiver of a plain socket sees DSCP 8 x priority and ECT(0), also when one priority has
 * become the socket's own. */
static void test_dscp(void **state)
{
    struct fixture *f = *state;
    if (!f->set.row->is_socket)
        skip();
    struct smt_dev *tx = tx_of(f);
    struct smt_addr here = f->set.to[0];
    here.port = 0;
    struct sockaddr_storage sa;
    unsigned len;
    int fd = plain_socket(&here, &sa, &len);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
    socklen_t got_len = sizeof(sa);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &got_len), 0);
    assert_true(smt_addr_from_sockaddr(&sa, &here));
    bool is_ipv4 = sa.ss_family == AF_INET;
    int one = 1;
    assert_int_equal(setsockopt(fd, is_ipv4 ? IPPROTO_IP : IPPROTO_IPV6,
                                is_ipv4 ? IP_RECVTOS : IPV6_RECVTCLASS, &one, sizeof(one)),
                     0);
    for (unsigned i = 0; i < 600; i++) {
        uint8_t prio = i % 10 == 0 ? (uint8_t)(i / 10 % 8) : (uint8_t)(i / 200 * 3);
        uint8_t *p = tx->ops->tx_reserve(tx, &here, 20, prio);
        assert_non_null(p);
        memset(p, 0, 20);
        if (i % 5 == 0) {
            p = tx->ops->tx_reserve(tx, &here, 20, prio);
            assert_non_null(p);
            memset(p, 0, 20);
        }
        assert_int_equal(tx->ops->tx_flush(tx), 0);
        for (unsigned k = 0; k < (i % 5 == 0 ? 2 : 1); k++) {
            uint8_t data[64];
            _Alignas(struct cmsghdr) uint8_t control[128];
            struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
            struct msghdr m = {.msg_iov = &iov,
                               .msg_iovlen = 1,
                               .msg_control = control,
                               .msg_controllen = sizeof(control)};
            assert_int_equal(recvmsg(fd, &m, 0), 20);
            struct cmsghdr *c = CMSG_FIRSTHDR(&m);
            assert_non_null(c);
            assert_int_equal(CMSG_DATA(c)[0], prio * 8 << 2 | 2);
        }
    }
    close(fd);
}

/* The same, as the wire sees it. */
static void test_traffic_class(void **state)
{
    struct fixture *f = *state;
    if (f->set.row->traffic_class == NULL)
        skip();
    for (unsigned i = 0; i < 100; i++) {
        uint8_t prio = (uint8_t)(i * 5 % 8);
        put_surely(f, i % f->set.n_rx, prio, 20);
        flush(f);
        take_all(f, 4);
        assert_int_equal(f->set.row->traffic_class(), prio * 8 << 2 | 2);
    }
}

static void test_unroutable_is_counted(void **state)
{
    struct fixture *f = *state;
    if (f->set.row->spec == NULL || f->set.row->bind_host == NULL)
        skip();
    struct smt_dev *tx = tx_of(f);
    struct smt_dev_stats before = stats_of(tx);
    bool is_ipv4 = smt_addr_is_ipv4(&f->set.to[0]);
    struct smt_addr other;
    assert_int_equal(smt_dev_resolve(is_ipv4 ? "::1" : "127.0.0.1", 9, &other, 1), 1);
    for (unsigned i = 0; i < 10; i++) {
        uint8_t *p = tx->ops->tx_reserve(tx, &other, 100 + i, 0);
        assert_non_null(p);
        memset(p, 0, 100 + i);
    }
    put_surely(f, 0, 0, 100);
    flush(f);
    take_all(f, 16);
    assert_int_equal(stats_of(tx).tx_errors - before.tx_errors, 10);
    /* Batches still work afterwards. */
    before = stats_of(tx);
    for (unsigned i = 0; i < 20; i++)
        put_surely(f, 0, 0, 100);
    flush(f);
    take_all(f, 16);
    if (f->set.row->is_socket)
        assert_int_equal(stats_of(tx).tx_frames - before.tx_frames, 1);
    assert_int_equal(stats_of(tx).tx_calls - before.tx_calls, 1);
}

/* A burst to somebody who was never spoken to. */
static void test_first_packets(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 32; i++)
        put_surely(f, i % f->set.n_rx, (uint8_t)(i / 4), 100 + i);
    flush(f);
    if (f->set.row->drops_first)
        recovers(f, NULL);
    take_all(f, 16);
    for (unsigned i = 0; i < 32; i++)
        put_surely(f, i % f->set.n_rx, (uint8_t)(i / 4), 100 + i);
    flush(f);
    take_all(f, 16);
}

/* Nobody receives for a while: what comes after that is in order and whole, and then all comes. */
static void test_overrun(void **state)
{
    struct fixture *f = *state;
    struct smt_dev *tx = tx_of(f);
    for (unsigned round = 0; round < 3; round++) {
        f->is_lossy = true;
        for (unsigned i = 0; i < MAX_PENDING - 100; i++) {
            if (!put(f, 0, 2, mid_len(f)) && tx->ops->tx_flush(tx) == SMT_EAGAIN)
                break;
        }
        (void)tx->ops->tx_flush(tx);
        unsigned n = 0;
        for (unsigned idle = 0; idle < 100; idle++) {
            unsigned got = take(f, SMT_DEV_RX_BATCH);
            n += got;
            idle = got > 0 ? 0 : idle;
            (void)tx->ops->tx_flush(tx);
        }
        assert_true(n > 32);
        recovers(f, NULL);
    }
    for (unsigned i = 0; i < 100; i++) {
        put_surely(f, i % f->set.n_rx, 2, mid_len(f));
        flush(f);
        take_all(f, SMT_DEV_RX_BATCH);
    }
}

static void test_faults(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < f->set.row->n_faults; i++) {
        for (unsigned again = 0; again < 2; again++) {
            print_message("             %s\n", f->set.row->faults[i].name);
            f->set.row->faults[i].inflict(&f->set);
            recovers(f, f->set.row->faults[i].is_over);
            /* And nothing is amiss any more. */
            for (unsigned k = 0; k < 50; k++)
                put_surely(f, k % f->set.n_rx, 1, 1 + 20 * k);
            flush(f);
            take_all(f, 7);
        }
    }
}

/* A device that dies says so, wakes who sleeps on it, and can be closed. */
static void test_death(void **state)
{
    struct fixture *f = *state;
    if (f->set.row->kill == NULL)
        skip();
    for (unsigned way = 0; way < f->set.row->n_ways; way++) {
        struct smt_dev *tx = tx_of(f);
        settle(tx);
        for (unsigned i = 0; i < way * 10; i++)
            (void)put(f, 0, 0, 100);
        f->set.row->kill(&f->set, way);
        assert_true(is_readable(tx, PATIENCE_MS));
        uint64_t end = now_ms() + PATIENCE_MS;
        struct smt_pkt pkt;
        int r;
        while ((r = tx->ops->rx(tx, &pkt, 1)) == 0)
            assert_true(now_ms() < end);
        assert_int_equal(r, SMT_EDEVICE);
        assert_int_equal(tx->ops->arm(tx), SMT_EBUSY);
        if (tx->ops->tx_reserve(tx, &f->set.to[0], 100, 0) != NULL)
            assert_int_equal(tx->ops->tx_flush(tx), SMT_EDEVICE);
        conform_close(&f->set);
        memset(f->streams, 0, sizeof(f->streams));
        f->n_in_flight = 0;
        f->set.row->prepare();
        assert_int_equal(conform_open(f->set.row, &f->set), 0);
        introduce(f);
    }
}

enum { EXCHANGED = 100000, WINDOW = 64 };

/* Sends back what comes, in order, until it has seen all. Exit code 0 when it has. */
static int echo_run(struct smt_dev *dev)
{
    uint32_t n = 0, n_back = 0;
    uint64_t end = now_ms() + 10 * PATIENCE_MS;
    while (n_back < EXCHANGED) {
        if (now_ms() > end)
            return 2;
        struct smt_pkt pkts[SMT_DEV_RX_BATCH];
        int got = dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH);
        if (got < 0)
            return 3;
        for (int i = 0; i < got; i++) {
            uint32_t v;
            memcpy(&v, pkts[i].data, sizeof(v));
            if (v != n++)
                return 4;
            uint8_t *p;
            while ((p = dev->ops->tx_reserve(dev, pkts[i].from, pkts[i].len, 0)) == NULL)
                (void)dev->ops->tx_flush(dev);
            memcpy(p, pkts[i].data, pkts[i].len);
            n_back++;
        }
        while (dev->ops->tx_flush(dev) == SMT_EAGAIN)
            ;
        if (got == 0 && dev->ops->arm(dev) == 0)
            is_readable(dev, 100);
    }
    return 0;
}

static void test_two_processes(void **state)
{
    struct fixture *f = *state;
    if (!f->set.row->is_socket && !f->set.row->is_raw && !f->set.row->is_memory)
        skip();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(echo_run(f->set.rx[0]));
    struct smt_dev *dev = tx_of(f);
    uint32_t sent = 0, received = 0;
    uint64_t end = now_ms() + 10 * PATIENCE_MS;
    while (received < EXCHANGED) {
        for (; sent < EXCHANGED && sent - received < WINDOW; sent++) {
            size_t len = 100 + sent % 7 * 30;
            uint8_t *p = dev->ops->tx_reserve(dev, &f->set.to[0], len, 0);
            if (p == NULL)
                break;
            memset(p, 0, len);
            memcpy(p, &sent, sizeof(sent));
        }
        (void)dev->ops->tx_flush(dev);
        struct smt_pkt pkts[SMT_DEV_RX_BATCH];
        int got = dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH);
        assert_true(got >= 0);
        for (int i = 0; i < got; i++) {
            uint32_t v;
            memcpy(&v, pkts[i].data, sizeof(v));
            assert_int_equal(v, received);
            received++;
        }
        if (now_ms() > end)
            fail_msg("%u sent, %u received", sent, received);
        if (got == 0 && dev->ops->arm(dev) == 0)
            is_readable(dev, 100);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static const struct conform_row *current;

static int set_up_cold(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    if (f == NULL)
        return -1;
    if (current->prepare != NULL)
        current->prepare();
    return conform_open(current, &f->set) < 0 ? -1 : 0;
}

static int set_up(void **state)
{
    if (set_up_cold(state) < 0)
        return -1;
    introduce(*state);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    conform_close(&f->set);
    free(f);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define COLD(name) cmocka_unit_test_setup_teardown(name, set_up_cold, tear_down)

/* The rows, or the one that was asked for; `by_name` may have been given an address. */
static int rows_run(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
    int failed = 0;
    unsigned n_run = 0;
    for (unsigned i = 0; i < conform_n_rows; i++) {
        struct conform_row row = conform_rows[i];
        if (argc > 1 ? strcmp(argv[1], row.name) != 0 : row.is_by_name)
            continue;
        if (argc > 2)
            row.address = row.bind_host = argv[2];
        if (argc > 3)
            row.spec = argv[3];
        current = &row;
        failed += _cmocka_run_group_tests(row.name, tests, n, NULL, NULL);
        n_run++;
    }
    return failed != 0 || n_run == 0;
}

/* usage: test_conform_dev [row [address [spec]]]
 * A row of the machine's devices, as "ud", needs the address of the interface to use. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        COLD(test_first_packets),
        CASE(test_all_lengths),
        CASE(test_batches_of_mixed_lengths),
        CASE(test_mixed_destinations),
        CASE(test_batches_are_batches),
        CASE(test_back_pressure),
        CASE(test_unreserve),
        CASE(test_run_stays_together),
        CASE(test_runs_share_frames),
        CASE(test_runs_and_packets),
        CASE(test_rx_with_small_n),
        CASE(test_rx_more),
        CASE(test_stream),
        CASE(test_sleep),
        CASE(test_arming_race),
        CASE(test_arm_with_sends_waiting),
        CASE(test_close_with_packets_pending),
        CASE(test_peer_closed),
        CASE(test_mtu_refusal),
        CASE(test_port_in_use),
        CASE(test_shared_port),
        CASE(test_from_and_answer),
        CASE(test_ecn),
        CASE(test_dscp),
        CASE(test_traffic_class),
        CASE(test_unroutable_is_counted),
        CASE(test_overrun),
        CASE(test_faults),
        CASE(test_death),
        CASE(test_two_processes),
    };
    if (argc < 3 && !conform_private_net())
        print_message("no network of our own: on the machine's loopback\n");
    return rows_run(tests, SMT_ARRAY_LEN(tests), argc, argv);
}
