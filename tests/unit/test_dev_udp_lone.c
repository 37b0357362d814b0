/* Packets of the favourite that are handed out while they stand in the socket: when that begins and
 * ends, that each comes once and in order, and that no CE mark is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "dev/udp.h"

enum { MANY = 1500, LEN = 100, ECT0 = 2, CE = 3, PATIENCE_S = 60 };

struct end {
    struct smt_dev *dev;
    struct smt_addr addr;
};

static struct end server, client, other;
static bool is_ipv6;

static struct smt_udp *udp_of(const struct end *e)
{
    return SMT_CONTAINER_OF(e->dev, struct smt_udp, base);
}

static const struct smt_udp_lone *lone_of(const struct end *e)
{
    return &udp_of(e)->fav.lone;
}

static void end_open(struct end *e, uint16_t port)
{
    const char *host = is_ipv6 ? "::1" : "127.0.0.1";
    char text[256];
    const struct smt_dev_config config = {.spec = "udp",
                                          .bind_host = host,
                                          .port = port,
                                          .error_text = text,
                                          .error_text_len = sizeof(text)};
    if (smt_dev_open(&config, &e->dev) < 0)
        fail_msg("%s", text);
    assert_int_equal(smt_dev_resolve(host, e->dev->ops->port(e->dev), &e->addr, 1), 1);
}

static void end_close(struct end *e)
{
    e->dev->ops->close(e->dev);
}

/* `n` packets in one flush, of one endpoint (steer.h): their last bytes count up from `what`. */
static void put(const struct end *from, const struct end *to, unsigned n, uint8_t what)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = from->dev->ops->tx_reserve(from->dev, &to->addr, LEN, 0);
        assert_non_null(p);
        memset(p, 0, LEN);
        p[LEN - 1] = (uint8_t)(what + i);
    }
    assert_int_equal(from->dev->ops->tx_flush(from->dev), 0);
}

static void nothing(const struct end *at)
{
    struct smt_pkt p;
    assert_int_equal(at->dev->ops->rx(at->dev, &p, 1), 0);
}

/* The kernel may be late with what was sent. */
static int look_until(const struct end *at, struct smt_pkt *p)
{
    time_t end = time(NULL) + PATIENCE_S;
    int n = 0;
    while (n == 0 && time(NULL) < end)
        n = at->dev->ops->rx(at->dev, p, 1);
    return n;
}

/* The next packet; its ECN bits. */
static uint8_t taken(const struct end *at, const struct end *from, uint8_t what)
{
    struct smt_pkt p;
    assert_int_equal(look_until(at, &p), 1);
    assert_int_equal(p.len, LEN);
    assert_int_equal(p.data[LEN - 1], what);
    assert_true(smt_addr_equal(p.from, &from->addr));
    return p.ecn;
}

/* As one call in flight is seen: there is nothing, then one packet. */
static void alone(const struct end *at, const struct end *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        nothing(at);
        put(from, at, 1, (uint8_t)i);
        assert_int_equal(taken(at, from, (uint8_t)i), ECT0);
    }
}

static void pair_open(void)
{
    end_open(&server, 0);
    end_open(&client, 0);
    end_open(&other, 0);
    alone(&server, &client, MANY);
    assert_true(udp_of(&server)->fav.fd >= 0 && lone_of(&server)->is_on);
}

static void pair_close(void)
{
    end_close(&server);
    end_close(&client);
    end_close(&other);
}

static void each_comes_once(void **state)
{
    pair_open();
    assert_true(lone_of(&server)->stands);
    nothing(&server);
    assert_false(lone_of(&server)->stands);
    alone(&server, &client, 200);
    /* Two are a pair, which comes now and then. */
    nothing(&server);
    put(&client, &server, 2, 10);
    assert_int_equal(taken(&server, &client, 10), ECT0);
    assert_int_equal(taken(&server, &client, 11), ECT0);
    nothing(&server);
    assert_true(lone_of(&server)->is_on);
    struct smt_dev_stats s;
    server.dev->ops->stats(server.dev, &s);
    assert_int_equal(s.rx_packets, MANY + 202);
    assert_int_equal(s.rx_bytes, (MANY + 202) * LEN);
    pair_close();
}

/* A super-frame has its packets cut by the kernel; it ends it, and then super-frames stay whole. */
static void bunches_end_it(void **state)
{
    enum { BUNCH = 40 };
    pair_open();
    nothing(&server);
    put(&client, &server, BUNCH, 0);
    for (unsigned i = 0; i < BUNCH; i++)
        assert_int_equal(taken(&server, &client, (uint8_t)i), ECT0);
    nothing(&server);
    assert_false(lone_of(&server)->is_on);
    assert_true(udp_of(&server)->fav.fd >= 0);
    struct smt_dev_stats s;
    server.dev->ops->stats(server.dev, &s);
    uint64_t n_frames = s.rx_frames;
    put(&client, &server, BUNCH, 0);
    for (unsigned i = 0; i < BUNCH; i++)
        assert_int_equal(taken(&server, &client, (uint8_t)i), ECT0);
    server.dev->ops->stats(server.dev, &s);
    assert_int_equal(s.rx_frames - n_frames, 1);
    nothing(&server);
    alone(&server, &client, 200);
    assert_true(lone_of(&server)->is_on);
    pair_close();
}

static void many_pairs_end_it(void **state)
{
    unsigned n = 0;
    pair_open();
    for (; lone_of(&server)->is_on && n < 100; n++) {
        nothing(&server);
        put(&client, &server, 2, 1);
        (void)taken(&server, &client, 1);
        (void)taken(&server, &client, 2);
    }
    assert_in_range(n, 2, 99);
    pair_close();
}

static void tos_set(const struct end *e, int tos)
{
    int fds[] = {udp_of(e)->fd, udp_of(e)->fav.fd};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            assert_int_equal(setsockopt(fds[i], is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IP,
                                        is_ipv6 ? IPV6_TCLASS : IP_TOS, &tos, sizeof(tos)),
                             0);
    }
}

/* The mark of a packet is known when it is taken away: the next one tells of it, once. */
static void marks_are_told_by_the_next(void **state)
{
    for (int ends = 0; ends <= 1; ends++) {
        pair_open();
        nothing(&server);
        tos_set(&client, CE);
        put(&client, &server, 1, 1);
        assert_int_equal(taken(&server, &client, 1), ECT0);
        nothing(&server);
        tos_set(&client, ECT0);
        put(&client, &server, 1, 2);
        assert_int_equal(taken(&server, &client, 2), CE);
        alone(&server, &client, 10);
        /* The last one before it ends is told by the first one after. */
        if (ends != 0) {
            nothing(&server);
            tos_set(&client, CE);
            put(&client, &server, 3, 3);
            tos_set(&client, ECT0);
            assert_int_equal(taken(&server, &client, 3), ECT0);
            assert_int_equal(taken(&server, &client, 4), CE);
            assert_int_equal(taken(&server, &client, 5), CE);
            nothing(&server);
            assert_false(lone_of(&server)->is_on);
            put(&client, &server, 1, 6);
            assert_int_equal(taken(&server, &client, 6), CE);
            put(&client, &server, 1, 7);
            assert_int_equal(taken(&server, &client, 7), ECT0);
        }
        pair_close();
    }
}

static bool is_readable(const struct end *e, int wait_ms)
{
    struct pollfd p = {.fd = e->dev->ops->fd(e->dev), .events = POLLIN};
    return poll(&p, 1, wait_ms) == 1;
}

/* Who goes to sleep is not woken by what he has seen, but by the next one and by others. */
static void sleep_is_not_disturbed(void **state)
{
    pair_open();
    const struct end *by[] = {&client, &other, &client};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(by); i++) {
        assert_int_equal(server.dev->ops->arm(server.dev), 0);
        assert_false(is_readable(&server, 0));
        put(by[i], &server, 1, 7);
        assert_true(is_readable(&server, PATIENCE_S * 1000));
        (void)taken(&server, by[i], 7);
    }
    assert_true(lone_of(&server)->is_on);
    pair_close();
}

static void others_are_heard(void **state)
{
    pair_open();
    for (unsigned i = 0; i < 20; i++) {
        put(&other, &server, 1, 9);
        (void)taken(&server, &other, 9);
        alone(&server, &client, 10);
    }
    assert_true(lone_of(&server)->is_on);
    pair_close();
}

/* The peer goes while its last packet stands there: the error ends the favourite and no more. */
static void an_error_behind_a_packet(void **state)
{
    pair_open();
    nothing(&server);
    put(&client, &server, 1, 1);
    (void)taken(&server, &client, 1);
    end_close(&client);
    put(&server, &client, 1, 2);
    time_t end = time(NULL) + PATIENCE_S;
    while (udp_of(&server)->fav.fd >= 0 && time(NULL) < end)
        nothing(&server);
    assert_true(udp_of(&server)->fav.fd < 0);
    put(&other, &server, 1, 3);
    (void)taken(&server, &other, 3);
    end_open(&client, client.addr.port);
    pair_close();
}

/* It may end by itself at any moment, also between handing out and taking away. The next favourite
 * begins like the first one: with super-frames. */
static void the_favourite_ends_meanwhile(void **state)
{
    pair_open();
    assert_true(lone_of(&server)->stands);
    smt_udp_fav_end(udp_of(&server));
    nothing(&server);
    for (unsigned i = 0; i < 4 * MANY && udp_of(&server)->fav.fd < 0; i++)
        alone(&server, &client, 1);
    assert_true(udp_of(&server)->fav.fd >= 0);
    assert_false(lone_of(&server)->is_on);
    for (unsigned i = 0; i < 10; i++) {
        nothing(&server);
        put(&client, &server, 40, 0);
        for (unsigned k = 0; k < 40; k++)
            (void)taken(&server, &client, (uint8_t)k);
    }
    alone(&server, &client, 200);
    assert_true(lone_of(&server)->is_on);
    pair_close();
}

static int group_ipv6(void **state)
{
    is_ipv6 = true;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_comes_once),
        cmocka_unit_test(bunches_end_it),
        cmocka_unit_test(many_pairs_end_it),
        cmocka_unit_test(marks_are_told_by_the_next),
        cmocka_unit_test(sleep_is_not_disturbed),
        cmocka_unit_test(others_are_heard),
        cmocka_unit_test(an_error_behind_a_packet),
        cmocka_unit_test(the_favourite_ends_meanwhile),
    };
    int r = cmocka_run_group_tests_name("IPv4", tests, NULL, NULL);
    return r + cmocka_run_group_tests_name("IPv6", tests, group_ipv6, NULL);
}
