/* Frames made by hand, thrown at the device `af` from the other end of the wire: what is not for it
 * or does not agree with itself is never handed out, and a good peer is served all the while. A
 * good frame made in the same way arrives, so the others are worth something. Run by
 * tests/net/in-af, which makes the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/prng.h"
#include "dev/dev.h"

enum {
    PATIENCE_MS = 60000,
    ETH_LEN = 14,
    IP_LEN = 20,
    UDP_LEN = 8,
    DATA_LEN = 200,
    FRAME_LEN = ETH_LEN + IP_LEN + UDP_LEN + DATA_LEN,
    AT_IP = ETH_LEN,
    AT_UDP = ETH_LEN + IP_LEN,
    AT_DATA = AT_UDP + UDP_LEN,
    MARK = 0xe7, /* first byte of what strangers send */
    N_NOISE = 2000,
};

static struct smt_dev *victim, *good;
static struct smt_addr to_victim, to_good;
static int wire = -1; /* a packet socket at the good peer's end */
static struct smt_prng rng;
static unsigned n_marked; /* packets of strangers that were handed out */

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct smt_dev *dev_open(const char *spec, const char *host, struct smt_addr *addr)
{
    char text[256];
    const struct smt_dev_config config = {
        .spec = spec, .bind_host = host, .error_text = text, .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    if (smt_dev_open(&config, &dev) < 0)
        fail_msg("%s", text);
    assert_int_equal(smt_dev_resolve(host, dev->ops->port(dev), addr, 1), 1);
    return dev;
}

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (value == NULL) {
        printf("SKIP: to be run by tests/net/in-af\n");
        exit(77);
    }
    return value;
}

static int set_up(void **state)
{
    const char *client = setting("SMT_TEST_CLIENT_DEVICE");
    victim = dev_open(setting("SMT_TEST_DEVICE"), setting("SMT_TEST_HOST"), &to_victim);
    good = dev_open(client, setting("SMT_TEST_CLIENT_HOST"), &to_good);
    assert_string_equal(victim->ops->name, "af");
    wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    assert_true(wire >= 0);
    const struct sockaddr_ll ll = {.sll_family = AF_PACKET,
                                   .sll_ifindex = (int)if_nametoindex(strchr(client, ':') + 1)};
    assert_int_equal(bind(wire, (const struct sockaddr *)&ll, sizeof(ll)), 0);
    smt_prng_seed(&rng, 5);
    return 0;
}

static int tear_down(void **state)
{
    close(wire);
    victim->ops->close(victim);
    good->ops->close(good);
    return 0;
}

/* What came to `dev`; true: a packet that begins with `what` was among it. */
static bool take(struct smt_dev *dev, uint8_t what)
{
    struct smt_pkt pkts[32];
    bool got = false;
    int n = dev->ops->rx(dev, pkts, 32);
    assert_true(n >= 0);
    for (int i = 0; i < n; i++) {
        unsigned sum = 0;
        for (uint32_t k = 0; k < pkts[i].len; k++)
            sum += pkts[i].data[k]; /* all of it is there */
        assert_true(pkts[i].len > 0 && sum < UINT32_MAX);
        n_marked += pkts[i].data[0] == MARK;
        got |= pkts[i].data[0] == what;
    }
    return got;
}

/* A packet each way: by then the victim has seen all that was thrown before. */
static void is_served(void)
{
    static uint8_t count;
    for (unsigned way = 0; way < 2; way++) {
        struct smt_dev *from = way == 0 ? good : victim, *to = way == 0 ? victim : good;
        uint8_t what = ++count % MARK;
        uint64_t end = now_ms() + PATIENCE_MS, next = 0;
        do {
            if (now_ms() >= next) { /* the first ones may wait for a neighbour */
                uint8_t *p = from->ops->tx_reserve(from, way == 0 ? &to_victim : &to_good, 100, 0);
                assert_non_null(p);
                memset(p, what, 100);
                assert_int_equal(from->ops->tx_flush(from), 0);
                next = now_ms() + 100;
            }
            (void)take(from, what);
            assert_true(now_ms() < end);
        } while (!take(to, what));
    }
}

/* ---- frames ---- */

static uint32_t sum_add(uint32_t sum, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
    return sum;
}

static uint16_t sum_end(uint32_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void sums_make(uint8_t *f)
{
    smt_put_be16(f + AT_IP + 10, 0);
    smt_put_be16(f + AT_IP + 10, sum_end(sum_add(0, f + AT_IP, IP_LEN)));
    smt_put_be16(f + AT_UDP + 6, 0);
    uint32_t sum = sum_add(17 + UDP_LEN + DATA_LEN, f + AT_IP + 12, 8);
    smt_put_be16(f + AT_UDP + 6, sum_end(sum_add(sum, f + AT_UDP, UDP_LEN + DATA_LEN)));
}

/* One that is right in everything. */
static void frame_make(uint8_t f[FRAME_LEN])
{
    static const uint8_t macs[] = {2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 8, 0};
    memset(f, 0, FRAME_LEN);
    memcpy(f, macs, sizeof(macs));
    f[AT_IP] = 0x45;
    smt_put_be16(f + AT_IP + 2, FRAME_LEN - ETH_LEN);
    f[AT_IP + 8] = 64;
    f[AT_IP + 9] = 17;
    memcpy(f + AT_IP + 12, to_good.ip + 12, 4);
    memcpy(f + AT_IP + 16, to_victim.ip + 12, 4);
    smt_put_be16(f + AT_UDP, to_good.port);
    smt_put_be16(f + AT_UDP + 2, to_victim.port);
    smt_put_be16(f + AT_UDP + 4, UDP_LEN + DATA_LEN);
    memset(f + AT_DATA, MARK, DATA_LEN);
    sums_make(f);
}

static void throw_it(const uint8_t *f, size_t len)
{
    (void)send(wire, f, len, 0); /* some the kernel itself will not have */
}

/* A change to the good frame: bytes at a place, then sums that are right for it, or not. */
struct change {
    const char *what;
    uint16_t at, value;
    bool one_byte, keep_sums;
};

static const struct change changes[] = {
    {.what = "another hardware address", .at = 4, .value = 0x0099},
    {.what = "broadcast", .at = 0, .value = 0xffff},
    {.what = "multicast", .at = 0, .value = 0x01, .one_byte = true},
    {.what = "our own hardware address as sender's, not as receiver's", .at = 5, .value = 0x0a,
     .one_byte = true},
    {.what = "ARP", .at = 12, .value = 0x0806},
    {.what = "IPv6 type", .at = 12, .value = 0x86dd},
    {.what = "VLAN tag", .at = 12, .value = 0x8100},
    {.what = "a length for a type", .at = 12, .value = 100},
    {.what = "version 6", .at = AT_IP, .value = 0x65, .one_byte = true},
    {.what = "header of 16 bytes", .at = AT_IP, .value = 0x44, .one_byte = true},
    {.what = "header of 60 bytes", .at = AT_IP, .value = 0x4f, .one_byte = true},
    {.what = "longer than the frame", .at = AT_IP + 2, .value = FRAME_LEN},
    {.what = "total of 65,535", .at = AT_IP + 2, .value = 65535},
    {.what = "total shorter than the header", .at = AT_IP + 2, .value = 19},
    {.what = "total without UDP header", .at = AT_IP + 2, .value = 20},
    {.what = "total cuts the UDP header", .at = AT_IP + 2, .value = 27},
    {.what = "total cuts the data", .at = AT_IP + 2, .value = 100},
    {.what = "first fragment", .at = AT_IP + 6, .value = 0x2000},
    {.what = "later fragment", .at = AT_IP + 6, .value = 0x0010},
    {.what = "TCP", .at = AT_IP + 9, .value = 6, .one_byte = true},
    {.what = "another IP address", .at = AT_IP + 18, .value = 0x0263},
    {.what = "multicast IP address", .at = AT_IP + 16, .value = 0xe000},
    {.what = "another port", .at = AT_UDP + 2, .value = 9},
    {.what = "UDP longer than IP", .at = AT_UDP + 4, .value = UDP_LEN + DATA_LEN + 1},
    {.what = "UDP of 65,535", .at = AT_UDP + 4, .value = 65535},
    {.what = "UDP shorter than its header", .at = AT_UDP + 4, .value = 7},
    {.what = "UDP without a byte", .at = AT_UDP + 4, .value = 8},
    {.what = "UDP of length 0", .at = AT_UDP + 4, .value = 0},
    {.what = "wrong sum of UDP", .at = AT_UDP + 6, .value = 0x1234, .keep_sums = true},
    {.what = "data that is not that of the sum", .at = AT_DATA + 50, .value = 1, .keep_sums = true},
};

static void a_good_frame_arrives(void **state)
{
    uint8_t f[FRAME_LEN];
    frame_make(f);
    is_served();
    n_marked = 0;
    throw_it(f, sizeof(f));
    is_served();
    assert_int_equal(n_marked, 1);
    smt_put_be16(f + AT_UDP + 6, 0); /* IPv4 may go without */
    throw_it(f, sizeof(f));
    is_served();
    assert_int_equal(n_marked, 2);
}

static void bad_frames_do_not(void **state)
{
    n_marked = 0;
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        const struct change *c = &changes[i];
        uint8_t f[FRAME_LEN];
        frame_make(f);
        if (c->one_byte)
            f[c->at] = (uint8_t)c->value;
        else
            smt_put_be16(f + c->at, c->value);
        if (!c->keep_sums)
            sums_make(f);
        throw_it(f, sizeof(f));
        is_served();
        if (n_marked > 0)
            fail_msg("handed out: %s", c->what);
    }
}

/* The good frame, cut after each of its bytes. */
static void cut_frames_do_not(void **state)
{
    uint8_t f[FRAME_LEN];
    frame_make(f);
    n_marked = 0;
    for (size_t len = 1; len < FRAME_LEN; len++) {
        throw_it(f, len);
        if (len % 32 == 0)
            is_served();
    }
    is_served();
    assert_int_equal(n_marked, 0);
}

/* Any bytes in the headers, for our hardware address: whatever is handed out lies in its frame. */
static void noise_harms_nothing(void **state)
{
    uint8_t f[FRAME_LEN];
    for (unsigned i = 0; i < N_NOISE; i++) {
        frame_make(f);
        for (unsigned n = 1 + (unsigned)smt_prng_below(&rng, 4); n > 0; n--)
            f[12 + smt_prng_below(&rng, AT_DATA - 12)] = (uint8_t)smt_prng_below(&rng, 256);
        if (smt_prng_below(&rng, 2) == 0)
            sums_make(f);
        throw_it(f, 1 + smt_prng_below(&rng, sizeof(f)));
        throw_it(f, sizeof(f));
        (void)take(victim, MARK);
        if (i % 100 == 0)
            is_served();
    }
    is_served();
}

/* The good frame by IPv6, from and to fd00::b, which is the victim's link's, at a port. */
static size_t frame6_make(uint8_t f[FRAME_LEN + IP_LEN], uint16_t port)
{
    enum { IP6_LEN = 2 * IP_LEN, AT_UDP6 = ETH_LEN + IP6_LEN, LEN = UDP_LEN + DATA_LEN };
    frame_make(f);
    smt_put_be16(f + 12, ETH_P_IPV6);
    uint8_t *ip = f + ETH_LEN, *udp = f + AT_UDP6;
    memset(ip, 0, IP6_LEN + LEN);
    ip[0] = 0x60;
    smt_put_be16(ip + 4, LEN);
    ip[6] = 17;
    ip[7] = 64;
    ip[8] = ip[24] = 0xfd;
    ip[23] = ip[39] = 0xb;
    smt_put_be16(udp, to_good.port);
    smt_put_be16(udp + 2, port);
    smt_put_be16(udp + 4, LEN);
    memset(udp + UDP_LEN, MARK, DATA_LEN);
    uint32_t sum = sum_add(17 + LEN, ip + 8, 32);
    smt_put_be16(udp + 6, sum_end(sum_add(sum, udp, LEN)));
    return AT_UDP6 + LEN;
}

/* All addresses of one family are not those of the other: the same port may be somebody else's. */
static void the_other_family_does_not(void **state)
{
    static const struct {
        const char *host;
        unsigned n_taken;
    } rows[] = {{"::", 1}, {"0.0.0.0", 0}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t f[FRAME_LEN + IP_LEN];
        struct smt_addr any;
        struct smt_dev *dev = dev_open(setting("SMT_TEST_DEVICE"), rows[i].host, &any);
        size_t len = frame6_make(f, any.port);
        n_marked = 0;
        throw_it(f, len);
        is_served();
        (void)take(dev, MARK);
        unsigned n_taken = n_marked;
        dev->ops->close(dev);
        assert_int_equal(n_taken, rows[i].n_taken);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_frame_arrives),
        cmocka_unit_test(bad_frames_do_not),
        cmocka_unit_test(cut_frames_do_not),
        cmocka_unit_test(the_other_family_does_not),
        cmocka_unit_test(noise_harms_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
