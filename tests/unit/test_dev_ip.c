/* The device `ip` beside what the conformance suite holds it to: the IP header it sends, the TCP
 * checksum of hijacked packets, what it tells of packets received, whose a port is, the kernel's
 * silence, TCP undisturbed, and how opening fails. In a network namespace of its own, where all
 * packets of loopback are seen; skipped without the right to one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "dev/dev.h"

enum { HEAD = 20, WAIT_MS = 60000, QUIET_MS = 100, HOMA = 146 };

static const struct smt_addr v4_host = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
static const struct smt_addr v6_host = {.ip = {[15] = 1}};

static struct smt_dev *open_dev(const char *spec, const char *host, uint8_t protocol)
{
    char text[256] = "";
    const struct smt_dev_config config = {.spec = spec,
                                          .bind_host = host,
                                          .ip_protocol = protocol,
                                          .error_text = text,
                                          .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    if (smt_dev_open(&config, &dev) < 0)
        fail_msg("%s: %s", spec, text);
    return dev;
}

static int open_fails(struct smt_dev_config config, const char *want)
{
    char text[256] = "";
    struct smt_dev *dev = NULL;
    config.error_text = text;
    config.error_text_len = sizeof(text);
    uint64_t live = smt_mem_live().n_live;
    int r = smt_dev_open(&config, &dev);
    assert_true(r < 0);
    assert_null(dev);
    if (strstr(text, want) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, want);
    assert_int_equal(smt_mem_live().n_live, live);
    return r;
}

/* One packet of `len` bytes with ports and Homa's marks. */
static void send_one(struct smt_dev *dev, const struct smt_addr *host, uint16_t port, size_t len,
                     uint8_t prio)
{
    struct smt_addr to = *host;
    to.port = port;
    uint8_t *p = dev->ops->tx_reserve(dev, &to, len, prio);
    assert_non_null(p);
    memset(p, 0xa5, len);
    memset(p, 0, HEAD);
    smt_put_be16(p, dev->ops->port(dev));
    smt_put_be16(p + 2, port);
    p[13] = 0x06;
    smt_put_be16(p + 18, 0xb97d);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
}

static bool receive_one(struct smt_dev *dev, struct smt_pkt *out, int timeout_ms)
{
    for (int ms = 0; ms <= timeout_ms; ms++) {
        int r = dev->ops->rx(dev, out, 1);
        assert_true(r >= 0);
        if (r == 1)
            return true;
        usleep(1000);
    }
    return false;
}

/* All that crosses loopback, from the IP header on. */
static int sniffer_open(void)
{
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
    assert_true(fd >= 0);
    struct sockaddr_ll sa = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(ETH_P_ALL),
                             .sll_ifindex = (int)if_nametoindex("lo")};
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

/* The next packet of this protocol; false when none comes. */
static bool sniff(int fd, uint8_t protocol, uint8_t *out, size_t room, size_t *len, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, timeout_ms) == 1) {
        struct sockaddr_ll from = {0};
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(fd, out, room, 0, (struct sockaddr *)&from, &from_len);
        assert_true(n > 0);
        *len = (size_t)n;
        if (from.sll_pkttype == PACKET_OUTGOING) /* comes again as it arrives */
            continue;
        if (out[0] >> 4 == 4 ? out[9] == protocol : out[6] == protocol)
            return true;
    }
    return false;
}

static uint16_t checksum(const uint8_t *p, size_t len, uint64_t sum)
{
    for (size_t i = 0; i < len; i++)
        sum += i % 2 == 0 ? (uint64_t)p[i] << 8 : p[i];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void test_header_v4(void **state)
{
    struct smt_dev *a = open_dev("ip", NULL, 0);
    int fd = sniffer_open();
    for (uint8_t prio = 0; prio < 8; prio++) {
        uint8_t h[200];
        size_t len;
        send_one(a, &v4_host, 1000, 60, prio);
        assert_true(sniff(fd, 254, h, sizeof(h), &len, WAIT_MS));
        assert_int_equal(len, 80);
        assert_int_equal(h[0], 0x45);
        assert_int_equal(h[1], prio << 5 | 2);
        assert_int_equal(smt_get_be16(h + 2), 80);
        assert_int_equal(smt_get_be16(h + 4), 0);
        assert_int_equal(smt_get_be16(h + 6), 0x4000);
        assert_int_equal(h[8], 64);
        assert_int_equal(checksum(h, 20, 0), 0xffff);
        assert_memory_equal(h + 12, v4_host.ip + 12, 4);
        assert_memory_equal(h + 16, v4_host.ip + 12, 4);
    }
    close(fd);
    a->ops->close(a);
}

static void test_header_v6(void **state)
{
    struct smt_dev *dev;
    const struct smt_dev_config config = {
        .spec = "ip", .ip_protocol = 253, .ip_class_shift = 4, .no_ecn = true};
    assert_int_equal(smt_dev_open(&config, &dev), 0);
    int fd = sniffer_open();
    for (uint8_t prio = 0; prio < 8; prio++) {
        uint8_t h[200];
        size_t len;
        send_one(dev, &v6_host, 1000, 60, prio);
        assert_true(sniff(fd, 253, h, sizeof(h), &len, WAIT_MS));
        assert_int_equal(len, 100);
        assert_int_equal(smt_get_be16(h) >> 4 & 0xff, prio << 4);
        send_one(dev, &v4_host, 1000, 60, prio);
        assert_true(sniff(fd, 253, h, sizeof(h), &len, WAIT_MS));
        assert_int_equal(h[1], prio << 5);
    }
    close(fd);
    dev->ops->close(dev);
}

/* Hijacked packets have TCP's checksum, with its pseudo-header, and arrive. */
static void test_tcp(void **state)
{
    const struct smt_addr *const hosts[] = {&v4_host, &v6_host};
    struct smt_dev *a = open_dev("ip,tcp", NULL, HOMA), *b = open_dev("ip:lo,tcp", NULL, HOMA);
    struct smt_dev *native = open_dev("ip", NULL, HOMA);
    int fd = sniffer_open();
    for (unsigned i = 0; i < 2; i++) {
        unsigned head = i == 0 ? 20 : 40;
        for (size_t len = HEAD; len < 130; len += 37) {
            uint8_t h[200];
            size_t got;
            send_one(a, hosts[i], b->ops->port(b), len, 3);
            assert_true(sniff(fd, 6, h, sizeof(h), &got, WAIT_MS));
            assert_int_equal(got, head + len);
            uint64_t pseudo = 6 + len;
            pseudo += checksum(h + (i == 0 ? 12 : 8), i == 0 ? 8 : 32, 0);
            assert_int_equal(checksum(h + head, len, pseudo), 0xffff);
            struct smt_pkt pkt;
            assert_true(receive_one(b, &pkt, WAIT_MS));
            assert_int_equal(pkt.len, len);
            assert_int_equal(pkt.from->port, a->ops->port(a));
            /* And what comes natively arrives as well. */
            send_one(native, hosts[i], b->ops->port(b), len, 0);
            assert_true(receive_one(b, &pkt, WAIT_MS));
            assert_int_equal(pkt.from->port, native->ops->port(native));
            /* Only who asked for TCP's clothes takes them. */
            send_one(a, hosts[i], native->ops->port(native), len, 0);
            assert_true(sniff(fd, 6, h, sizeof(h), &got, WAIT_MS));
            assert_false(receive_one(native, &pkt, QUIET_MS));
        }
    }
    close(fd);
    a->ops->close(a);
    b->ops->close(b);
    native->ops->close(native);
}

/* A connection of real TCP beside it works, and nothing of it is taken for ours. */
static void test_tcp_undisturbed(void **state)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(sa);
    assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
    char text[256];
    const struct smt_dev_config config = {.spec = "ip,tcp",
                                          .port = ntohs(sa.sin_port),
                                          .ip_protocol = HOMA,
                                          .error_text = text,
                                          .error_text_len = sizeof(text)};
    struct smt_dev *dev, *other = open_dev("ip,tcp", NULL, HOMA);
    assert_int_equal(smt_dev_open(&config, &dev), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    int peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    struct smt_pkt pkt;
    for (unsigned i = 0; i < 10; i++) {
        /* Packets of ours to the very port that TCP listens on. */
        send_one(other, &v4_host, config.port, 100, 0);
        assert_true(receive_one(dev, &pkt, WAIT_MS));
        char byte = 'x';
        assert_int_equal(write(fd, &byte, 1), 1);
        assert_int_equal(read(peer, &byte, 1), 1);
    }
    assert_false(receive_one(dev, &pkt, QUIET_MS));
    close(fd);
    close(peer);
    close(listener);
    dev->ops->close(dev);
    other->ops->close(other);
}

/* A packet made by hand, as a NIC that cuts bursts makes it. */
static void hand_send(uint8_t protocol, uint16_t dport, uint16_t ip_id, uint8_t tos, size_t len)
{
    uint8_t p[200] = {0x45, tos};
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    assert_true(fd >= 0);
    smt_put_be16(p + 2, (uint16_t)(20 + len));
    smt_put_be16(p + 4, ip_id);
    smt_put_be16(p + 6, 0x4000);
    p[8] = 1;
    p[9] = protocol;
    memcpy(p + 12, v4_host.ip + 12, 4);
    memcpy(p + 16, v4_host.ip + 12, 4);
    if (len >= 4) {
        smt_put_be16(p + 20, 4000);
        smt_put_be16(p + 22, dport);
    }
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(sendto(fd, p, 20 + len, 0, (struct sockaddr *)&sa, sizeof(sa)), 20 + len);
    close(fd);
}

static void test_received(void **state)
{
    struct smt_dev *dev = open_dev("ip", NULL, 253);
    uint16_t port = dev->ops->port(dev);
    struct smt_pkt pkt;
    for (uint16_t id = 1; id < 50; id += 7) {
        hand_send(253, port, id, (uint8_t)(0xe0 | id % 4), 41);
        assert_true(receive_one(dev, &pkt, WAIT_MS));
        assert_int_equal(pkt.ip_id, id);
        assert_int_equal(pkt.ecn, id % 4);
        assert_int_equal(pkt.len, 41);
        assert_int_equal(pkt.from->port, 4000);
        assert_memory_equal(pkt.from->ip, v4_host.ip, 16);
    }
    /* Too short for ports, another port, another protocol. */
    for (size_t len = 0; len < 4; len++)
        hand_send(253, port, 0, 0, len);
    hand_send(253, (uint16_t)(port + 1), 0, 0, 41);
    hand_send(254, port, 0, 0, 41);
    assert_false(receive_one(dev, &pkt, QUIET_MS));
    dev->ops->close(dev);
}

/* "Protocol unreachable" comes when nobody is there, and not while the device is open, whoever the
 * packet is for. */
static void test_kernel_keeps_quiet(void **state)
{
    uint8_t p[200];
    size_t len;
    int fd = sniffer_open();
    hand_send(253, 1, 0, 0, 41);
    assert_true(sniff(fd, 1, p, sizeof(p), &len, WAIT_MS));
    assert_int_equal(p[20], 3);
    assert_int_equal(p[21], 2);
    struct smt_dev *dev = open_dev("ip", NULL, 253);
    hand_send(253, dev->ops->port(dev), 0, 0, 41);
    hand_send(253, 1, 0, 0, 41);
    assert_false(sniff(fd, 1, p, sizeof(p), &len, QUIET_MS));
    dev->ops->close(dev);
    hand_send(253, 1, 0, 0, 41);
    assert_true(sniff(fd, 1, p, sizeof(p), &len, WAIT_MS));

    /* IPv6 says "unknown next header". */
    struct smt_dev *from = open_dev("ip", NULL, 254);
    struct smt_dev *v6 = open_dev("ip", "::1", 0xfd);
    from->ops->close(from);
    send_one(v6, &v6_host, 1, 60, 0);
    assert_false(sniff(fd, 58, p, sizeof(p), &len, QUIET_MS));
    v6->ops->close(v6);
    close(fd);
}

static int claim(const char *host, uint16_t port, uint8_t protocol, struct smt_dev **out)
{
    char text[256];
    const struct smt_dev_config config = {.spec = "ip",
                                          .bind_host = host,
                                          .port = port,
                                          .ip_protocol = protocol,
                                          .error_text = text,
                                          .error_text_len = sizeof(text)};
    return smt_dev_open(&config, out);
}

static void test_ports(void **state)
{
    struct smt_dev *a, *b, *c;
    assert_int_equal(claim("127.0.0.1", 700, 0, &a), 0);
    assert_int_equal(claim("127.0.0.1", 700, 0, &b), SMT_EADDRINUSE);
    assert_int_equal(claim(NULL, 700, 0, &b), SMT_EADDRINUSE);
    assert_int_equal(claim("127.0.0.2", 700, 0, &b), 0);
    assert_int_equal(claim("127.0.0.1", 70, 0, &c), 0);
    c->ops->close(c);
    assert_int_equal(claim("127.0.0.1", 7001, 0, &c), 0);
    c->ops->close(c);
    assert_int_equal(claim(NULL, 700, 253, &c), 0);
    a->ops->close(a);
    b->ops->close(b);
    assert_int_equal(claim("127.0.0.1", 700, 253, &b), SMT_EADDRINUSE);
    c->ops->close(c);
    assert_int_equal(claim(NULL, 700, 0, &a), 0);
    assert_int_equal(claim("::1", 700, 0, &b), SMT_EADDRINUSE);
    assert_int_equal(a->ops->port(a), 700);
    a->ops->close(a);
    /* Ports of clients, where Homa has them. */
    assert_int_equal(claim(NULL, 0, HOMA, &a), 0);
    assert_true(a->ops->port(a) >= 0x8000);
    a->ops->close(a);
}

static void test_refused(void **state)
{
    struct smt_dev_config c = {.spec = "ip:"};
    assert_int_equal(open_fails(c, "names no network interface"), SMT_ENODEV);
    c.spec = "ip:none0";
    assert_int_equal(open_fails(c, "no network interface \"none0\""), SMT_ENODEV);
    c.spec = "ip,udp";
    assert_int_equal(open_fails(c, "options ring and tcp"), SMT_EINVAL);
    c.spec = "ip,tcp";
    assert_int_equal(open_fails(c, "not smt2"), SMT_EINVAL);
    c.spec = "ip";
    c.bind_host = "192.0.2.77";
    assert_int_equal(open_fails(c, "is not an address of this machine"), SMT_ENAME);
    c.bind_host = "127.0.0.1:5";
    assert_int_equal(open_fails(c, "names a port"), SMT_EINVAL);
}

/* Without the right to raw sockets: one sentence that says what is missing. */
static void test_no_privilege(void **state)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (setresuid(65534, 65534, 65534) < 0)
            _exit(0);
        char text[256] = "";
        struct smt_dev *dev;
        const struct smt_dev_config config = {
            .spec = "ip", .error_text = text, .error_text_len = sizeof(text)};
        int r = smt_dev_open(&config, &dev);
        _exit(r == SMT_EPERM && strstr(text, "CAP_NET_RAW") != NULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_report(void **state)
{
    struct smt_dev_report reports[64];
    int n = smt_dev_report(reports, SMT_ARRAY_LEN(reports));
    bool found = false;
    for (int i = 0; i < n; i++)
        found = found || (strcmp(reports[i].name, "ip") == 0 && reports[i].usable);
    assert_true(found);
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
        cmocka_unit_test(test_header_v4),    cmocka_unit_test(test_header_v6),
        cmocka_unit_test(test_tcp),          cmocka_unit_test(test_tcp_undisturbed),
        cmocka_unit_test(test_received),     cmocka_unit_test(test_kernel_keeps_quiet),
        cmocka_unit_test(test_ports),        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_privilege), cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
