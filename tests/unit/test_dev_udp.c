/* What the kernel may answer to the UDP device, played by stand-ins for the system calls (linked by
 * --wrap), and how opening fails. Delivery itself is tests/conform's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/dev.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

ssize_t __real_sendto(int fd, const void *p, size_t len, int flags, const struct sockaddr *to,
                      socklen_t to_len);
ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
int __real_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags);
ssize_t __real_recvmsg(int fd, struct msghdr *m, int flags);
int __real_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *t);
int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol);
ssize_t __wrap_sendto(int fd, const void *p, size_t len, int flags, const struct sockaddr *to,
                      socklen_t to_len);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags);
int __wrap_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *t);

/* What the stand-ins do. */
static struct {
    int script[16]; /* errno of the next sending calls, 0 = let it through */
    unsigned n_script, next;
    int gso_error;   /* answer to super-frames */
    int every_error; /* answer to every message to port `bad_port` */
    uint16_t bad_port;
    unsigned many_limit; /* messages sendmmsg takes at once, 0 = all */
    unsigned n_sendto;
    bool has_no_ipv6;
    int receive_error; /* answer of the next receiving call */
    int receive_flags; /* set in the next message received */
} kernel;

int __wrap_socket(int family, int type, int protocol)
{
    if (kernel.has_no_ipv6 && family == AF_INET6) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    return __real_socket(family, type, protocol);
}

static uint16_t port_of(const void *name)
{
    const struct sockaddr *sa = name;
    return ntohs(sa->sa_family == AF_INET ? ((const struct sockaddr_in *)name)->sin_port
                                          : ((const struct sockaddr_in6 *)name)->sin6_port);
}

static int refusal(const void *name, bool is_super)
{
    if (kernel.next < kernel.n_script) {
        int e = kernel.script[kernel.next++];
        if (e != 0)
            return e;
    }
    if (kernel.every_error != 0 && port_of(name) == kernel.bad_port)
        return kernel.every_error;
    return is_super ? kernel.gso_error : 0;
}

static bool is_super(const struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_SEGMENT)
            return true;
    }
    return false;
}

ssize_t __wrap_sendto(int fd, const void *p, size_t len, int flags, const struct sockaddr *to,
                      socklen_t to_len)
{
    kernel.n_sendto++;
    errno = refusal(to, false);
    return errno != 0 ? -1 : __real_sendto(fd, p, len, flags, to, to_len);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags)
{
    errno = refusal(m->msg_name, is_super(m));
    return errno != 0 ? -1 : __real_sendmsg(fd, m, flags);
}

int __wrap_sendmmsg(int fd, struct mmsghdr *m, unsigned n, int flags)
{
    if (kernel.many_limit > 0 && n > kernel.many_limit)
        n = kernel.many_limit;
    unsigned i = 0;
    for (; i < n; i++) {
        unsigned next = kernel.next;
        errno = refusal(m[i].msg_hdr.msg_name, is_super(&m[i].msg_hdr));
        if (errno != 0 && i > 0)
            kernel.next = next; /* it will be met again, then as the first */
        if (errno != 0 || __real_sendmsg(fd, &m[i].msg_hdr, flags) < 0)
            break;
    }
    return i > 0 ? (int)i : -1;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *m, int flags)
{
    if (kernel.receive_error != 0) {
        errno = kernel.receive_error;
        kernel.receive_error = 0;
        return -1;
    }
    ssize_t r = __real_recvmsg(fd, m, flags);
    if (r >= 0) {
        m->msg_flags |= kernel.receive_flags;
        kernel.receive_flags = 0;
    }
    return r;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *t)
{
    return __real_recvmmsg(fd, m, n, flags, t);
}

static struct smt_dev *tx, *rx, *rx2;
static struct smt_addr to, to2;

static struct smt_dev *dev_open(struct smt_addr *addr)
{
    char text[256];
    struct smt_dev_config config = {.spec = "udp",
                                    .bind_host = "127.0.0.1",
                                    .error_text = text,
                                    .error_text_len = sizeof(text)};
    struct smt_dev *dev = NULL;
    if (smt_dev_open(&config, &dev) < 0)
        fail_msg("%s", text);
    assert_int_equal(smt_dev_resolve("127.0.0.1", dev->ops->port(dev), addr, 1), 1);
    return dev;
}

static int set_up(void **state)
{
    struct smt_addr mine;
    memset(&kernel, 0, sizeof(kernel));
    tx = dev_open(&mine);
    rx = dev_open(&to);
    rx2 = dev_open(&to2);
    kernel.bad_port = to2.port;
    return 0;
}

static int tear_down(void **state)
{
    tx->ops->close(tx);
    rx->ops->close(rx);
    rx2->ops->close(rx2);
    return 0;
}

static void script(unsigned n, const int *errors)
{
    memcpy(kernel.script, errors, n * sizeof(*errors));
    kernel.n_script = n;
    kernel.next = 0;
}
#define SCRIPT(...) script(sizeof((int[]){__VA_ARGS__}) / sizeof(int), (const int[]){__VA_ARGS__})

static void put(const struct smt_addr *dest, uint32_t number, size_t len)
{
    uint8_t *p = tx->ops->tx_reserve(tx, dest, len, 0);
    assert_non_null(p);
    memset(p, 0, len);
    memcpy(p, &number, sizeof(number));
}

/* Receives the numbers from `first` on, n of them, and nothing else. */
static void expect(struct smt_dev *dev, uint32_t first, unsigned n)
{
    struct smt_pkt pkts[64];
    unsigned got = 0, n_idle = 0;
    while (n_idle < 3) {
        int r = dev->ops->rx(dev, pkts, 64);
        assert_true(r >= 0);
        n_idle = r == 0 ? n_idle + 1 : 0;
        for (int i = 0; i < r; i++, got++) {
            uint32_t number;
            memcpy(&number, pkts[i].data, sizeof(number));
            assert_int_equal(number, first + got);
        }
    }
    assert_int_equal(got, n);
}

static int flush(void)
{
    return tx->ops->tx_flush(tx);
}

static struct smt_dev_stats stats(void)
{
    struct smt_dev_stats s;
    tx->ops->stats(tx, &s);
    return s;
}

static void test_full_network_keeps_order(void **state)
{
    static const int errors[] = {EAGAIN, ENOBUFS, EWOULDBLOCK};
    uint32_t n = 0;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(errors); i++) {
        script(1, &errors[i]);
        uint32_t first = n;
        put(&to, n++, 100);
        assert_int_equal(flush(), SMT_EAGAIN);
        expect(rx, first, 0);
        put(&to, n++, 100);
        put(&to, n++, 1000);
        put(&to, n++, 10);
        script(1, &errors[i]);
        assert_int_equal(flush(), SMT_EAGAIN);
        put(&to, n++, 10);
        assert_int_equal(flush(), 0);
        expect(rx, first, n - first);
    }
    assert_int_equal(stats().tx_full, 6);
    assert_int_equal(stats().tx_errors, 0);
}

/* The first destination's frame has gone, the second's has not: both are sent to again. */
static void test_half_of_the_queue(void **state)
{
    for (uint32_t i = 0; i < 5; i++) {
        put(&to, 2 * i, 100);
        put(&to2, 2 * i, 100);
        SCRIPT(0, EAGAIN);
        assert_int_equal(flush(), SMT_EAGAIN);
        put(&to, 2 * i + 1, 100);
        put(&to2, 2 * i + 1, 100);
        assert_int_equal(flush(), 0);
        expect(rx, 2 * i, 2);
        expect(rx2, 2 * i, 2);
    }
    assert_int_equal(stats().tx_frames, 15);
}

/* What was made longer for a packet that is taken back is as short as before. */
static void test_unreserve_leaves_no_padding(void **state)
{
    put(&to, 0, 50);
    put(&to, 1, 200);
    tx->ops->tx_unreserve(tx);
    put(&to, 1, 60);
    assert_int_equal(flush(), 0);
    expect(rx, 0, 2);
    assert_int_equal(stats().pad_bytes, 10);
    assert_int_equal(stats().tx_bytes, 120);
}

/* A priority that stays needs no control message after a while. */
static void test_priority_becomes_the_sockets(void **state)
{
    for (unsigned prio = 0; prio < 8; prio += 7) {
        unsigned plain = 0;
        for (uint32_t i = 0; i < 200; i++) {
            uint8_t *p = tx->ops->tx_reserve(tx, &to, 10, (uint8_t)prio);
            assert_non_null(p);
            memset(p, 0, 10);
            memcpy(p, &i, sizeof(i));
            kernel.n_sendto = 0;
            assert_int_equal(flush(), 0);
            plain += kernel.n_sendto;
            expect(rx, i, 1);
        }
        assert_in_range(plain, 100, 200);
    }
}

/* The queue fills while the network takes nothing, and empties in order afterwards. */
static void test_queue_fills(void **state)
{
    uint32_t n = 0;
    uint8_t *p;
    SCRIPT(EAGAIN, EAGAIN, EAGAIN, EAGAIN, EAGAIN);
    while ((p = tx->ops->tx_reserve(tx, &to, 1000, 0)) != NULL) {
        memset(p, 0, 1000);
        memcpy(p, &n, sizeof(n));
        n++;
        if (n % 200 == 0)
            assert_int_equal(flush(), SMT_EAGAIN);
        if (kernel.next == kernel.n_script)
            kernel.next = 0;
        assert_true(n < 100000);
    }
    assert_true(n > 500);
    kernel.next = kernel.n_script;
    assert_int_equal(flush(), 0);
    expect(rx, 0, n);
    put(&to, 7, 10);
    assert_int_equal(flush(), 0);
    expect(rx, 7, 1);
}

/* A kernel that does not know UDP_SEGMENT, or a path that cannot do it. */
static void test_no_segmentation(void **state)
{
    static const int errors[] = {EINVAL, EIO, EOPNOTSUPP};
    for (unsigned k = 0; k < SMT_ARRAY_LEN(errors); k++) {
        if (k > 0) {
            assert_int_equal(tear_down(NULL), 0);
            assert_int_equal(set_up(NULL), 0);
        }
        kernel.gso_error = errors[k];
        for (uint32_t i = 0; i < 30; i++)
            put(&to, i, 100 - i);
        assert_int_equal(flush(), 0);
        expect(rx, 0, 30);
        /* From now on no super-frame is tried, and nothing is padded. */
        struct smt_dev_stats before = stats();
        uint32_t n = 0;
        for (unsigned round = 0; round < 10; round++) {
            for (unsigned i = 0; i < 20; i++, n++)
                put(&to, n, 100 + n * 7 % 1000);
            assert_int_equal(flush(), 0);
        }
        expect(rx, 0, n);
        struct smt_dev_stats after = stats();
        assert_int_equal(after.tx_packets - before.tx_packets, n);
        assert_int_equal(after.tx_frames - before.tx_frames, n);
        assert_int_equal(after.tx_calls - before.tx_calls, 10);
        assert_int_equal(after.pad_bytes, before.pad_bytes);
        assert_int_equal(after.tx_errors, 0);
    }
}

/* A run that was planned before segmentation was found to be missing still leaves, as packets. */
static void test_run_without_super_frames(void **state)
{
    enum { N = 5, RUN_LEN = 1000, LAST = 40 };
    assert_true(tx->ops->tx_run_max(tx, &to) >= N * RUN_LEN);
    kernel.gso_error = EIO;
    put(&to, 0, 100);
    put(&to, 1, 100);
    assert_int_equal(flush(), 0);
    assert_int_equal(tx->ops->tx_run_max(tx, &to), 0);
    size_t stride;
    uint8_t *p = tx->ops->tx_run(tx, &to, N, RUN_LEN, LAST, 0, &stride);
    assert_non_null(p);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t number = 2 + i;
        memset(p + i * stride, 0, i + 1 < N ? RUN_LEN : LAST);
        memcpy(p + i * stride, &number, sizeof(number));
    }
    put(&to, 2 + N, 100);
    assert_int_equal(flush(), 0);
    expect(rx, 0, 3 + N);
    assert_int_equal(stats().tx_errors, 0);
    assert_int_equal(stats().tx_bytes, 3 * 100 + (N - 1) * RUN_LEN + LAST);
}

/* The network fills up in the middle of a frame that goes packet by packet. */
static void test_full_while_splitting(void **state)
{
    kernel.gso_error = EIO;
    for (uint32_t i = 0; i < 10; i++)
        put(&to, i, 100);
    put(&to2, 50, 100);
    SCRIPT(0, 0, 0, 0, EAGAIN, 0, EINTR, 0, EAGAIN);
    assert_int_equal(flush(), SMT_EAGAIN);
    put(&to, 10, 100);
    assert_int_equal(flush(), SMT_EAGAIN);
    put(&to, 11, 100);
    assert_int_equal(flush(), 0);
    expect(rx, 0, 12);
    expect(rx2, 50, 1);
}

/* A destination that cannot be sent to takes nobody along, and is no reason to give up GSO. */
static void test_bad_destination(void **state)
{
    static const int errors[] = {EPERM, ENETUNREACH, EINVAL, ECONNREFUSED, EACCES, EMSGSIZE};
    uint32_t n = 0;
    for (unsigned k = 0; k < SMT_ARRAY_LEN(errors); k++) {
        struct smt_dev_stats before = stats();
        kernel.every_error = errors[k];
        uint32_t first = n;
        for (unsigned i = 0; i < 10; i++) {
            put(&to2, 0, 100);
            put(&to, n++, 100);
        }
        assert_int_equal(flush(), 0);
        expect(rx, first, 10);
        expect(rx2, 0, 0);
        struct smt_dev_stats after = stats();
        bool is_too_big = errors[k] == EMSGSIZE;
        assert_int_equal(after.tx_errors - before.tx_errors, is_too_big ? 0 : 10);
        assert_int_equal(after.tx_too_big - before.tx_too_big, is_too_big ? 10 : 0);
        assert_int_equal(after.tx_packets - before.tx_packets, 10);
        assert_int_equal(after.tx_frames - before.tx_frames, 1);
    }
}

static void test_partial_batches(void **state)
{
    kernel.many_limit = 3;
    for (uint32_t i = 0; i < 20; i++)
        put(&to, i, i % 2 == 0 ? 2000 : 100);
    put(&to2, 1, 5);
    assert_int_equal(flush(), 0);
    expect(rx, 0, 20);
    expect(rx2, 1, 1);
    SCRIPT(0, 0, EINTR, 0, EAGAIN);
    for (uint32_t i = 0; i < 20; i++)
        put(&to, i, i % 2 == 0 ? 2000 : 100);
    assert_int_equal(flush(), SMT_EAGAIN);
    assert_int_equal(flush(), 0);
    expect(rx, 0, 20);
}

static void test_receive_errors(void **state)
{
    static const int soft[] = {EAGAIN, EINTR, ECONNREFUSED, EHOSTUNREACH, ENETDOWN, ENOMEM};
    struct smt_pkt pkt;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(soft); i++) {
        put(&to, i, 10);
        assert_int_equal(flush(), 0);
        kernel.receive_error = soft[i];
        assert_int_equal(rx->ops->rx(rx, &pkt, 1), 0);
        expect(rx, i, 1);
    }
    kernel.receive_error = EBADF;
    assert_int_equal(rx->ops->rx(rx, &pkt, 1), SMT_EDEVICE);
}

static void test_truncated_is_dropped(void **state)
{
    static const int flags[] = {MSG_TRUNC, MSG_CTRUNC};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(flags); i++) {
        put(&to, 0, 10);
        assert_int_equal(flush(), 0);
        put(&to, 1, 10);
        assert_int_equal(flush(), 0);
        kernel.receive_flags = flags[i];
        expect(rx, 1, 1);
        struct smt_dev_stats s;
        rx->ops->stats(rx, &s);
        assert_int_equal(s.rx_dropped, i + 1);
    }
}

/* What does not fit the socket's buffer is dropped by the kernel and counted by us. */
static void test_kernel_drops_are_counted(void **state)
{
    struct smt_dev_config config = {
        .spec = "udp", .bind_host = "127.0.0.1", .rx_buffer_len = 65536};
    struct smt_dev *small;
    struct smt_addr addr;
    assert_int_equal(smt_dev_open(&config, &small), 0);
    uint32_t capacity = small->ops->rx_capacity(small);
    assert_in_range(capacity, 4096, 65536);
    assert_int_equal(smt_dev_resolve("127.0.0.1", small->ops->port(small), &addr, 1), 1);
    for (uint32_t i = 0; i < 100; i++) {
        put(&addr, i, 60000);
        assert_int_equal(flush(), 0);
    }
    struct smt_pkt pkts[64];
    unsigned got = 0;
    int r;
    while ((r = small->ops->rx(small, pkts, 64)) > 0)
        got += (unsigned)r;
    struct smt_dev_stats s;
    small->ops->stats(small, &s);
    assert_true(got > 0 && s.rx_dropped > 0);
    assert_int_equal(got + s.rx_dropped, 100);
    small->ops->close(small);
}

static void test_opening_fails_in_words(void **state)
{
    static const struct {
        struct smt_dev_config config;
        int code;
        const char *word;
    } rows[] = {
        {{.spec = "nosuch"}, SMT_ENODEV, "udp"},
        {{.spec = "udp,gid=1"}, SMT_EINVAL, "one option"},
        {{.spec = "udp:lo,mbps="}, SMT_EINVAL, "one option"},
        {{.spec = "udp,mbps=5000000"}, SMT_EINVAL, "one option"},
        {{.spec = "udpx"}, SMT_ENODEV, "\"udpx\""},
        {{.spec = "udp:nosuchif0"}, SMT_ENODEV, "nosuchif0"},
        {{.spec = "udp:"}, SMT_ENODEV, "interface"},
        {{.spec = "udp:averyveryverylongname"}, SMT_ENODEV, "interface"},
        {{.spec = "udp", .bind_host = "192.0.2.1"}, SMT_ENAME, "not an address of this machine"},
        {{.spec = "udp", .bind_host = "2001:db8::77"}, SMT_ENAME, "not an address of this machine"},
        {{.spec = "udp", .bind_host = "no such name"}, SMT_ENAME, "no such name"},
        {{.spec = "udp", .bind_host = "127.0.0.1:5"}, SMT_EINVAL, "port"},
        {{.spec = "udp", .tap = "drop=7"}, SMT_EINVAL, "tap:"},
    };
    struct smt_mem_stats before = smt_mem_live();
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        char text[256] = "";
        struct smt_dev_config config = rows[i].config;
        config.error_text = text;
        config.error_text_len = sizeof(text);
        struct smt_dev *dev = NULL;
        assert_int_equal(smt_dev_open(&config, &dev), rows[i].code);
        assert_null(dev);
        if (strstr(text, rows[i].word) == NULL)
            fail_msg("%s: \"%s\"", rows[i].config.spec, text);
        assert_true(strchr(text, '\n') == NULL);
        config.error_text = NULL; /* allowed */
        assert_int_equal(smt_dev_open(&config, &dev), rows[i].code);
    }
    assert_true(smt_mem_live().n_live == before.n_live);
}

/* Ports below 1024 belong to root; skipped where the system says otherwise. */
static void test_privileged_port(void **state)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
            _exit(geteuid() == 0 ? 77 : 0);
        char text[256] = "";
        struct smt_dev_config config = {.spec = "udp",
                                        .bind_host = "127.0.0.1",
                                        .port = 61,
                                        .error_text = text,
                                        .error_text_len = sizeof(text)};
        struct smt_dev *dev;
        int r = smt_dev_open(&config, &dev);
        _exit(r == 0 ? 77 : r == SMT_EPERM && strstr(text, "privileged") != NULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

static void test_kernel_without_ipv6(void **state)
{
    char text[256] = "";
    struct smt_dev_config config = {
        .spec = "udp", .error_text = text, .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    kernel.has_no_ipv6 = true;
    assert_int_equal(smt_dev_open(&config, &dev), 0);
    struct smt_addr from;
    assert_int_equal(smt_dev_resolve("127.0.0.1", dev->ops->port(dev), &from, 1), 1);
    uint8_t *p = dev->ops->tx_reserve(dev, &to, 4, 0);
    assert_non_null(p);
    memset(p, 0, 4);
    assert_int_equal(dev->ops->tx_flush(dev), 0);
    struct smt_pkt pkt;
    assert_int_equal(rx->ops->rx(rx, &pkt, 1), 1);
    assert_true(smt_addr_equal(pkt.from, &from));
    dev->ops->close(dev);

    struct smt_dev_report r;
    assert_int_equal(smt_dev_report(&r, 1), 1);
    assert_true(r.usable);
    assert_non_null(strstr(r.text, "IPv4 only"));
    config.bind_host = "::1";
    assert_int_equal(smt_dev_open(&config, &dev), SMT_EUNSUPPORTED);
    assert_true(strlen(text) > 0);
    kernel.has_no_ipv6 = false;
}

static void test_no_memory(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    for (long n = 0;; n++) {
        char text[256] = "";
        struct smt_dev_config config = {.spec = "udp",
                                        .bind_host = "127.0.0.1",
                                        .tap = "drop=0.1",
                                        .error_text = text,
                                        .error_text_len = sizeof(text)};
        struct smt_dev *dev;
        smt_mem_fail_after(n);
        int r = smt_dev_open(&config, &dev);
        if (smt_mem_fail_after(-1) >= 0) {
            assert_int_equal(r, 0);
            dev->ops->close(dev);
            assert_true(n >= 3);
            break;
        }
        assert_int_equal(r, SMT_ENOMEM);
        assert_true(strlen(text) > 0);
        assert_true(smt_mem_live().n_live == before.n_live);
    }
}

static void test_mtu_of_no_route(void **state)
{
    struct smt_addr none;
    assert_int_equal(smt_dev_resolve("[100::1]:1", 0, &none, 1), 1);
    assert_in_range(tx->ops->mtu(tx, &none), 1232, 65000);
    for (unsigned i = 0; i < 300; i++) { /* more than the table remembers */
        struct smt_addr a = to;
        a.ip[14] = (uint8_t)i;
        a.ip[13] = (uint8_t)(i >> 8);
        assert_in_range(tx->ops->mtu(tx, &a), 1232, 65000);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_full_network_keeps_order),
        CASE(test_half_of_the_queue),
        CASE(test_unreserve_leaves_no_padding),
        CASE(test_priority_becomes_the_sockets),
        CASE(test_queue_fills),
        CASE(test_no_segmentation),
        CASE(test_run_without_super_frames),
        CASE(test_full_while_splitting),
        CASE(test_bad_destination),
        CASE(test_partial_batches),
        CASE(test_receive_errors),
        CASE(test_truncated_is_dropped),
        CASE(test_kernel_drops_are_counted),
        CASE(test_mtu_of_no_route),
        CASE(test_kernel_without_ipv6),
        cmocka_unit_test(test_opening_fails_in_words),
        cmocka_unit_test(test_privileged_port),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
