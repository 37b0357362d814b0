/* The favourite of the UDP device: who becomes it, that others are heard, and what ends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "dev/udp.h"

enum { MANY = 1500, PATIENCE_S = 60 };

struct end {
    struct smt_dev *dev;
    struct smt_addr addr;
};

static struct end server, client, other;

static struct smt_udp *udp_of(const struct end *e)
{
    return SMT_CONTAINER_OF(e->dev, struct smt_udp, base);
}

static bool has_fav(const struct end *e)
{
    return udp_of(e)->fav.fd >= 0;
}

/* Bound to `bind_host` (NULL: to all), reached at `host`. */
static void end_open(struct end *e, const char *bind_host, const char *host, uint16_t port)
{
    char text[256];
    const struct smt_dev_config config = {.spec = "udp",
                                          .bind_host = bind_host,
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

static void put(const struct end *from, const struct end *to, uint8_t what)
{
    uint8_t *p = from->dev->ops->tx_reserve(from->dev, &to->addr, 100, 0);
    assert_non_null(p);
    memset(p, what, 100);
    assert_int_equal(from->dev->ops->tx_flush(from->dev), 0);
}

/* One packet, by whom and what; false: none came. The kernel may be late with what was sent. */
static bool is_taken(const struct end *at, const struct end *from, uint8_t what)
{
    for (time_t end = time(NULL) + PATIENCE_S; time(NULL) < end;) {
        struct smt_pkt p;
        int n = at->dev->ops->rx(at->dev, &p, 1);
        assert_true(n >= 0);
        if (n > 0) {
            assert_int_equal(p.data[0], what);
            assert_int_equal(p.len, 100);
            assert_int_equal(p.ecn, 2);
            assert_true(smt_addr_equal(p.from, &from->addr));
            return true;
        }
    }
    return false;
}

static void round_trip(const struct end *a, const struct end *b, uint8_t what)
{
    put(a, b, what);
    assert_true(is_taken(b, a, what));
    put(b, a, what);
    assert_true(is_taken(a, b, what));
}

/* Client and server have become each other's favourites. */
static void favour(const struct end *a, const struct end *b)
{
    for (unsigned i = 0; i < MANY; i++)
        round_trip(a, b, (uint8_t)i);
    assert_true(has_fav(a) && has_fav(b));
}

static void pair_open(const char *bind_host, const char *host)
{
    end_open(&server, bind_host, host, 0);
    end_open(&client, NULL, host, 0);
    end_open(&other, NULL, host, 0);
}

static void pair_close(void)
{
    end_close(&server);
    end_close(&client);
    end_close(&other);
}

static const struct {
    const char *bind_host, *host;
} places[] = {{NULL, "127.0.0.1"}, {"127.0.0.1", "127.0.0.1"}, {NULL, "::1"}, {"::1", "::1"}};

static void others_are_heard(void **state)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(places); i++) {
        pair_open(places[i].bind_host, places[i].host);
        favour(&client, &server);
        for (unsigned k = 0; k < 20; k++) {
            round_trip(&other, &server, 1);
            for (unsigned n = 0; n < 10; n++)
                round_trip(&client, &server, 2);
        }
        assert_true(has_fav(&server) && !has_fav(&other));
        pair_close();
    }
}

static void the_port_stays_ours(void **state)
{
    char text[256];
    pair_open("127.0.0.1", "127.0.0.1");
    favour(&client, &server);
    const struct smt_dev_config config = {.spec = "udp",
                                          .bind_host = "127.0.0.1",
                                          .port = server.addr.port,
                                          .error_text = text,
                                          .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    assert_int_equal(smt_dev_open(&config, &dev), SMT_EADDRINUSE);
    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    struct sockaddr_storage sa;
    unsigned len = smt_addr_to_sockaddr(&server.addr, false, &sa);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&sa, len), -1);
    close(fd);
    pair_close();
}

/* The kernel says that nobody has that port: the error is of the favourite's socket alone. */
static void one_that_is_gone_ends_it(void **state)
{
    pair_open(NULL, "127.0.0.1");
    favour(&client, &server);
    end_close(&client);
    for (unsigned i = 0; i < 3; i++)
        put(&server, &client, 3);
    assert_false(has_fav(&server));
    end_open(&client, NULL, "127.0.0.1", client.addr.port);
    round_trip(&client, &server, 4);
    put(&server, &client, 5);
    assert_true(is_taken(&client, &server, 5));
    struct smt_dev_stats s;
    server.dev->ops->stats(server.dev, &s);
    assert_int_equal(s.tx_errors, 0);
    pair_close();
}

/* The same, noticed by receiving. */
static void an_error_while_receiving_ends_it(void **state)
{
    pair_open(NULL, "127.0.0.1");
    favour(&client, &server);
    end_close(&client);
    put(&server, &client, 3);
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(server.dev->ops->rx(server.dev, &(struct smt_pkt){0}, 1), 0);
    assert_false(has_fav(&server));
    round_trip(&other, &server, 6);
    end_open(&client, NULL, "127.0.0.1", client.addr.port);
    pair_close();
}

/* Packets stand in the socket of all when its favourite begins: they come before all later ones. */
static void its_packets_keep_their_order(void **state)
{
    enum { AHEAD = 100 };
    pair_open(NULL, "127.0.0.1");
    for (unsigned i = 0; i < 2 * MANY; i++) {
        put(&client, &server, (uint8_t)i);
        if (i >= AHEAD)
            assert_true(is_taken(&server, &client, (uint8_t)(i - AHEAD)));
    }
    assert_true(has_fav(&server));
    pair_close();
}

static void many_others_end_it(void **state)
{
    pair_open(NULL, "127.0.0.1");
    favour(&client, &server);
    uint32_t wanted = udp_of(&server)->fav.n_wanted;
    for (unsigned i = 0; i < MANY; i++) {
        round_trip(&client, &server, 1);
        round_trip(&other, &server, 2);
    }
    assert_false(has_fav(&server));
    assert_true(udp_of(&server)->fav.n_wanted > wanted);
    pair_close();
}

static bool is_readable(const struct end *e)
{
    struct pollfd p = {.fd = e->dev->ops->fd(e->dev), .events = POLLIN};
    return poll(&p, 1, PATIENCE_S * 1000) == 1;
}

/* Whoever sleeps is woken by both sockets, and then finds what woke him. */
static void both_wake(void **state)
{
    pair_open(NULL, "127.0.0.1");
    favour(&client, &server);
    const struct end *by[] = {&client, &other, &client, &other};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(by); i++) {
        struct smt_pkt p;
        assert_int_equal(server.dev->ops->arm(server.dev), 0);
        put(by[i], &server, 7);
        assert_true(is_readable(&server));
        assert_int_equal(server.dev->ops->rx(server.dev, &p, 1), 1);
        assert_true(smt_addr_equal(p.from, &by[i]->addr));
    }
    pair_close();
}

/* Ports that are shared have none. */
static void sharers_have_none(void **state)
{
    char text[256];
    struct smt_dev_config config = {.spec = "udp",
                                    .bind_host = "127.0.0.1",
                                    .share = 2,
                                    .error_text = text,
                                    .error_text_len = sizeof(text)};
    assert_int_equal(smt_dev_open(&config, &server.dev), 0);
    assert_true(udp_of(&server)->fav.is_off);
    end_close(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_are_heard),
        cmocka_unit_test(the_port_stays_ours),
        cmocka_unit_test(one_that_is_gone_ends_it),
        cmocka_unit_test(an_error_while_receiving_ends_it),
        cmocka_unit_test(its_packets_keep_their_order),
        cmocka_unit_test(many_others_end_it),
        cmocka_unit_test(both_wake),
        cmocka_unit_test(sharers_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
