/* A held port of an IP protocol: nobody else gets it, the kernel answers no packet of that protocol
 * while it is held, and ICMP errors that quote our packets are told. In a network namespace of its
 * own; skipped without the right to one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "dev/ip_hold.h"

enum { PROTOCOL = 253, PORT = 4321, PEER_PORT = 99, IP_LEN = 20, ICMP_LEN = 8, WAIT_MS = 3000 };

static int hold(struct smt_ip_hold *h, uint16_t port)
{
    char text[256] = "";
    const struct smt_dev_config config = {
        .port = port, .error_text = text, .error_text_len = sizeof(text)};
    smt_ip_hold_init(h);
    int r = smt_ip_hold_open(h, &config, PROTOCOL, NULL);
    assert_true((r < 0) == (text[0] != '\0'));
    return r;
}

/* The socket's own address keeps it from being one that takes what it sends. */
static void send_raw(uint8_t protocol, const void *data, size_t len)
{
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, protocol);
    const struct sockaddr_in to = {.sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_in from = {.sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&from, sizeof(from)), 0);
    assert_int_equal(sendto(fd, data, len, 0, (const struct sockaddr *)&to, sizeof(to)), len);
    close(fd);
}

static uint16_t sum_of(const uint8_t *p, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i += 2)
        sum += smt_get_be16(p + i);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~((sum & 0xffff) + (sum >> 16));
}

/* "Destination unreachable", about a packet from `port` to 127.0.0.1:PEER_PORT. */
static void icmp_send(uint8_t code, uint8_t protocol, uint16_t port)
{
    uint8_t p[ICMP_LEN + IP_LEN + 8] = {3, code}, *ip = p + ICMP_LEN;
    ip[0] = 0x45;
    smt_put_be16(ip + 2, 60);
    ip[8] = 64;
    ip[9] = protocol;
    smt_put_be32(ip + 12, INADDR_LOOPBACK);
    smt_put_be32(ip + 16, INADDR_LOOPBACK);
    smt_put_be16(ip + 10, sum_of(ip, IP_LEN));
    smt_put_be16(ip + IP_LEN, port);
    smt_put_be16(ip + IP_LEN + 2, PEER_PORT);
    smt_put_be16(p + 2, sum_of(p, sizeof(p)));
    send_raw(IPPROTO_ICMP, p, sizeof(p));
}

static bool is_reported(struct smt_ip_hold *h)
{
    struct pollfd p = {.fd = h->fds[0], .events = POLLIN};
    return poll(&p, 1, WAIT_MS) == 1 && (p.revents & POLLERR) != 0;
}

static void test_port(void **state)
{
    struct smt_ip_hold a, b;
    assert_int_equal(hold(&a, PORT), 0);
    assert_int_equal(a.port, PORT);
    assert_int_equal(hold(&b, PORT), SMT_EADDRINUSE);
    smt_ip_hold_close(&b);
    assert_int_equal(hold(&b, 0), 0);
    assert_true(b.port >= 0x8000);
    smt_ip_hold_close(&a);
    smt_ip_hold_close(&b);
    assert_int_equal(hold(&a, PORT), 0);
    smt_ip_hold_close(&a);
}

static void test_quiet(void **state)
{
    static const uint8_t packet[8] = {0, PEER_PORT, PORT >> 8, PORT & 255};
    struct smt_ip_hold h;
    int icmp = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_ICMP);
    uint8_t got[128];
    assert_true(icmp >= 0);
    assert_int_equal(hold(&h, PORT), 0);
    send_raw(PROTOCOL, packet, sizeof(packet));
    assert_int_equal(recv(icmp, got, sizeof(got), 0), -1);
    /* Nothing of it is kept either. */
    assert_int_equal(recv(h.fds[0], got, sizeof(got), 0), -1);
    smt_ip_hold_close(&h);
    send_raw(PROTOCOL, packet, sizeof(packet));
    assert_true(recv(icmp, got, sizeof(got), 0) > IP_LEN);
    close(icmp);
}

static void test_refused(void **state)
{
    struct smt_ip_hold h;
    struct smt_addr to;
    int error = 0;
    assert_int_equal(hold(&h, PORT), 0);
    assert_int_equal(smt_ip_hold_refused(&h, &to, &error), 0);

    icmp_send(2, PROTOCOL, PORT);
    assert_true(is_reported(&h));
    assert_int_equal(smt_ip_hold_refused(&h, &to, &error), 0); /* nobody has said so */
    h.has_reports = true;
    assert_int_equal(smt_ip_hold_refused(&h, &to, &error), 1);
    assert_int_equal(error, SMT_EVERSION);
    assert_int_equal(to.port, 0);
    assert_int_equal(smt_get_be32(to.ip + 12), INADDR_LOOPBACK);
    assert_int_equal(smt_ip_hold_refused(&h, &to, &error), 0);
    assert_false(h.has_reports);

    icmp_send(3, PROTOCOL, PORT);
    h.has_reports = is_reported(&h);
    assert_int_equal(smt_ip_hold_refused(&h, &to, &error), 1);
    assert_int_equal(error, SMT_EREFUSED);
    assert_int_equal(to.port, PEER_PORT);

    /* About others' packets, and about other protocols. */
    icmp_send(2, PROTOCOL, PORT + 1);
    icmp_send(2, 146, PORT);
    h.has_reports = true;
    assert_int_equal(smt_ip_hold_refused(&h, &to, &error), 0);
    smt_ip_hold_close(&h);
}

static bool private_net(void)
{
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &ifr) == 0;
    close(fd);
    return ok;
}

int main(void)
{
    if (!private_net()) {
        printf("no network namespace of our own: skipped\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_port),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
