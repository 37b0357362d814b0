/* The limit of UDP sockets with AES-GCM: what is left when a transport does nothing (limit.h).
 *
 * UDP_SEGMENT sends a batch of equal segments in one call, UDP_GRO takes it in one. Of small
 * messages, with -b at half of -t the two sides work at the same time, which is the fastest; with
 * -b at -t they take turns. */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH_LEN = 65536, MAX_BATCH = 65000 };

/* One side's socket with the batch being built and the batch being read. */
struct end {
    int fd;
    unsigned n_out, max_out;
    size_t segment; /* of the batch being built */
    uint8_t out[BATCH_LEN], in[BATCH_LEN];
};

static int open_socket(const char *address)
{
    int one = 1, room = 16 << 20;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in name = {.sin_family = AF_INET};
    if (fd < 0 || inet_pton(AF_INET, address, &name.sin_addr) != 1 ||
        bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0 ||
        setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)) != 0) {
        peer_die("UDP socket");
    }
    /* Forced with privilege, as far as allowed without. */
    if ((setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) != 0 &&
         setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) != 0) ||
        (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) != 0 &&
         setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) != 0)) {
        peer_die("socket buffers");
    }
    return fd;
}

/* The first connects to the second, and tells its own address by a first datagram. */
static void join(int client, int server)
{
    struct sockaddr_in name;
    socklen_t len = sizeof(name);
    char byte = 0;
    if (getsockname(server, (struct sockaddr *)&name, &len) != 0 ||
        connect(client, (struct sockaddr *)&name, len) != 0 || send(client, &byte, 1, 0) != 1) {
        peer_die("connect");
    }
    len = sizeof(name);
    while (recvfrom(server, &byte, 1, 0, (struct sockaddr *)&name, &len) != 1) {
        if (errno != EAGAIN) {
            peer_die("first datagram");
        }
        len = sizeof(name);
    }
    if (connect(server, (struct sockaddr *)&name, len) != 0) {
        peer_die("connect back");
    }
}

static struct end *end_new(int fd, const struct peer_args *args)
{
    struct end *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        peer_die("memory");
    }
    e->fd = fd;
    e->max_out = args->batch;
    return e;
}

static void udp_open(const struct peer_args *args, void *ends[2])
{
    peer_enter(args, true);
    int server = open_socket(args->address);
    peer_enter(args, false);
    int client = open_socket("0.0.0.0");
    join(client, server);
    ends[0] = end_new(client, args);
    ends[1] = end_new(server, args);
}

static void udp_flush(void *end)
{
    struct end *e = end;
    if (e->n_out == 0) {
        return;
    }
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec iov = {e->out, e->n_out * e->segment};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (e->n_out > 1) {
        uint16_t segment = (uint16_t)e->segment;
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        *c = (struct cmsghdr){
            .cmsg_level = IPPROTO_UDP,
            .cmsg_type = UDP_SEGMENT,
            .cmsg_len = CMSG_LEN(sizeof(segment)),
        };
        memcpy(CMSG_DATA(c), &segment, sizeof(segment));
    }
    while (sendmsg(e->fd, &msg, 0) < 0) {
        if (errno == ECONNREFUSED) {
            exit(0);
        }
        if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR) {
            peer_die("sendmsg");
        }
    }
    e->n_out = 0;
}

static uint8_t *udp_reserve(void *end, size_t len)
{
    struct end *e = end;
    if (e->n_out > 0 && (len != e->segment || e->n_out == e->max_out ||
                         (e->n_out + 1) * len > MAX_BATCH)) {
        udp_flush(e);
    }
    e->segment = len;
    return e->out + e->n_out++ * len;
}

static size_t udp_take(void *end, const uint8_t **data, size_t *segment)
{
    struct end *e = end;
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {e->in, sizeof(e->in)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n = recvmsg(e->fd, &msg, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            exit(0); /* the other side has gone */
        }
        return 0;
    }
    *data = e->in;
    *segment = (size_t)n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c != NULL; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            *segment = (size_t)size;
        }
    }
    return (size_t)n;
}

int main(int argc, char **argv)
{
    static const struct limit_carrier udp = {
        .name = "udp-gcm-limit",
        .open = udp_open,
        .reserve = udp_reserve,
        .flush = udp_flush,
        .take = udp_take,
    };
    return limit_main(argc, argv, &udp);
}
