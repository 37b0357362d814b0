/* What the device interface costs over bare system calls: two pinned processes over loopback, the
 * same exchange by the `udp` device and by hand-written loops, in turns.
 *
 * ping: 64 B there and back, one in flight, median round trip. flood: 177 B each way, 100 in
 * flight, packets a second; the bare loop uses UDP_SEGMENT and UDP_GRO. The machine drifts: only
 * the ratio within a round means anything. usage: bench_udp_dev [rounds] [seconds a cell] */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dev/dev.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

enum { PING_LEN = 64, FLOOD_LEN = 177, IN_FLIGHT = 100, MAX_ROUNDS = 100, GSO_SEGS = 64 };
enum { SERVER_CPU = 0, CLIENT_CPU = 1 };

/* Between the two processes. */
struct shared {
    volatile uint16_t port;
    volatile int stop;
};

static struct shared *shared;
static uint8_t payload[65536];
static uint8_t scratch[65536];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * SMT_SEC + (uint64_t)ts.tv_nsec;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        die("sched_setaffinity");
}

/* One end of an exchange: `send` queues n packets and lets them go, `receive` returns how many have
 * come since. The peer is whoever sent last, or 127.0.0.1:port before that. */
struct end {
    const char *name;
    void (*open)(uint16_t peer_port);
    uint16_t (*port)(void);
    void (*send)(unsigned n, size_t len);
    unsigned (*receive)(void);
    void (*close)(void);
};

/* ---- by the device */

static struct smt_dev *dev;
static struct smt_addr dev_peer;

static void dev_open(uint16_t peer_port)
{
    char text[256];
    struct smt_dev_config config = {
        .spec = "udp", .error_text = text, .error_text_len = sizeof(text)};
    if (smt_dev_open(&config, &dev) < 0) {
        fprintf(stderr, "%s\n", text);
        exit(1);
    }
    if (smt_dev_resolve("127.0.0.1", peer_port, &dev_peer, 1) != 1)
        die("resolve");
}

static uint16_t dev_port(void)
{
    return dev->ops->port(dev);
}

static void dev_send(unsigned n, size_t len)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = dev->ops->tx_reserve(dev, &dev_peer, len, 0);
        if (p == NULL)
            die("reserve");
        memcpy(p, payload, len);
    }
    while (dev->ops->tx_flush(dev) == SMT_EAGAIN)
        ;
}

static unsigned dev_receive(void)
{
    struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    int r = dev->ops->rx(dev, pkts, SMT_DEV_RX_BATCH);
    for (int i = 0; i < r; i++)
        memcpy(scratch, pkts[i].data, pkts[i].len);
    if (r > 0)
        dev_peer = *pkts[r - 1].from;
    return r > 0 ? (unsigned)r : 0;
}

static void dev_close(void)
{
    dev->ops->close(dev);
}

/* ---- by hand */

static int fd;
static struct sockaddr_in fd_peer;
static uint8_t fd_tx[65536];
static uint8_t fd_rx[65536];

static void fd_open(uint16_t peer_port, bool has_gro)
{
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int len = 4 << 20;
    int one = 1;
    struct sockaddr_in any = {.sin_family = AF_INET};
    if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
        die("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &len, sizeof(len)) < 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &len, sizeof(len)) < 0)
        die("receive buffer");
    if (has_gro && setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof(one)) < 0)
        die("UDP_GRO");
    fd_peer = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(peer_port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static void bare_open(uint16_t peer_port)
{
    fd_open(peer_port, false);
}

static void gso_open(uint16_t peer_port)
{
    fd_open(peer_port, true);
}

static uint16_t fd_port(void)
{
    struct sockaddr_in sa;
    socklen_t len = sizeof(sa);
    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0)
        die("getsockname");
    return ntohs(sa.sin_port);
}

static void bare_send(unsigned n, size_t len)
{
    for (unsigned i = 0; i < n; i++) {
        memcpy(fd_tx, payload, len);
        if (sendto(fd, fd_tx, len, 0, (struct sockaddr *)&fd_peer, sizeof(fd_peer)) < 0)
            die("sendto");
    }
}

static unsigned bare_receive(void)
{
    socklen_t len = sizeof(fd_peer);
    ssize_t r = recvfrom(fd, fd_rx, sizeof(fd_rx), 0, (struct sockaddr *)&fd_peer, &len);
    if (r > 0)
        memcpy(scratch, fd_rx, (size_t)r);
    return r > 0 ? 1 : 0;
}

static void gso_send_some(unsigned n, size_t len)
{
    for (unsigned i = 0; i < n; i++)
        memcpy(fd_tx + i * len, payload, len);
    struct iovec iov = {.iov_base = fd_tx, .iov_len = n * len};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct msghdr m = {
        .msg_name = &fd_peer, .msg_namelen = sizeof(fd_peer), .msg_iov = &iov, .msg_iovlen = 1};
    if (n > 1) {
        m.msg_control = control;
        m.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        uint16_t segment = (uint16_t)len;
        memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    }
    if (sendmsg(fd, &m, 0) < 0)
        die("sendmsg");
}

static void gso_send(unsigned n, size_t len)
{
    for (; n > 0; n -= n < GSO_SEGS ? n : GSO_SEGS)
        gso_send_some(n < GSO_SEGS ? n : GSO_SEGS, len);
}

static unsigned gso_receive(void)
{
    struct iovec iov = {.iov_base = fd_rx, .iov_len = sizeof(fd_rx)};
    _Alignas(struct cmsghdr) uint8_t control[64];
    struct msghdr m = {
        .msg_name = &fd_peer,
        .msg_namelen = sizeof(fd_peer),
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t r = recvmsg(fd, &m, 0);
    if (r <= 0)
        return 0;
    int segment = (int)r;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
            memcpy(&segment, CMSG_DATA(c), sizeof(segment));
    }
    unsigned n = 0;
    for (ssize_t at = 0; at < r; at += segment, n++)
        memcpy(scratch, fd_rx + at, (size_t)(r - at < segment ? r - at : segment));
    return n;
}

static void fd_close(void)
{
    close(fd);
}

static const struct end by_dev = {"device", dev_open, dev_port, dev_send, dev_receive, dev_close};
static const struct end by_bare = {"bare", bare_open, fd_port, bare_send, bare_receive, fd_close};
static const struct end by_gso = {"gso", gso_open, fd_port, gso_send, gso_receive, fd_close};

/* ---- the exchange */

static pid_t server_start(const struct end *e, size_t len)
{
    shared->port = 0;
    shared->stop = 0;
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        pin(SERVER_CPU);
        e->open(9);
        shared->port = e->port();
        while (!shared->stop) {
            unsigned n = e->receive();
            if (n > 0)
                e->send(n, len);
        }
        e->close();
        _exit(0);
    }
    while (shared->port == 0)
        usleep(100);
    return pid;
}

static void server_stop(pid_t pid)
{
    int status;
    shared->stop = 1;
    if (waitpid(pid, &status, 0) < 0 || status != 0)
        die("server");
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Median round trip in ns. */
static double ping(const struct end *e, double seconds)
{
    enum { MAX = 1 << 20 };
    static uint64_t times[MAX];
    pid_t pid = server_start(e, PING_LEN);
    e->open(shared->port);
    unsigned n = 0;
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), t = start;
    while (t < end && n < MAX) {
        e->send(1, PING_LEN);
        while (e->receive() == 0)
            ;
        uint64_t u = now_ns();
        times[n++] = u - t;
        t = u;
    }
    e->close();
    server_stop(pid);
    qsort(times, n, sizeof(times[0]), compare_u64);
    return (double)times[n / 2];
}

/* Packets a second each way. */
static double flood(const struct end *e, double seconds)
{
    pid_t pid = server_start(e, FLOOD_LEN);
    e->open(shared->port);
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), t = start, total = 0;
    e->send(IN_FLIGHT, FLOOD_LEN);
    while (t < end) {
        unsigned n = 0;
        while (n == 0)
            n = e->receive();
        total += n;
        e->send(n, FLOOD_LEN);
        t = now_ns();
    }
    e->close();
    server_stop(pid);
    return (double)total * 1e9 / (double)(t - start);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof(v[0]), compare_double);
    return v[n / 2];
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 9;
    double seconds = argc > 2 ? atof(argv[2]) : 0.3;
    if (rounds < 1 || rounds > MAX_ROUNDS)
        rounds = 9;
    memset(payload, 0x5a, sizeof(payload));
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap");
    pin(CLIENT_CPU);
    static double v[6][MAX_ROUNDS];
    for (int i = 0; i < rounds; i++) {
        v[0][i] = ping(&by_bare, seconds);
        v[1][i] = ping(&by_dev, seconds);
        v[2][i] = flood(&by_gso, seconds);
        v[3][i] = flood(&by_dev, seconds);
        v[4][i] = v[1][i] / v[0][i];
        v[5][i] = v[3][i] / v[2][i];
    }
    for (unsigned k = 0; k < 6; k++)
        v[k][0] = median(v[k], rounds);
    printf("ping  %d B  p50: bare %.0f ns, device %.0f ns, ratio %.3f (below 1.10 wanted)\n",
           PING_LEN, v[0][0], v[1][0], v[4][0]);
    printf("flood %d B x%d: bare %.2f M/s, device %.2f M/s, ratio %.3f (above 0.90 wanted)\n",
           FLOOD_LEN, IN_FLIGHT, v[2][0] / 1e6, v[3][0] / 1e6, v[5][0]);
    return 0;
}
