/* A program of the kernel's own Homa, in the guest whose kernel has the module (branch
 * linux_6.1.38): an echo server, and a caller that checks every byte.
 *
 * usage: homa_guest serve PORT
 *        homa_guest call HOST PORT SIZE N
 *
 * The system calls are those of a datagram socket; what Homa needs beside address and bytes goes by
 * msg_control, in the structures below. Received messages lie in a region given to the socket
 * before, in pages of 64 KiB that go back with the next receive. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum {
    PROTOCOL = 253,
    OPTION_BUFFER = 10,
    PAGE = 1 << 16,
    MAX_PAGES = 16,
    N_PAGES = 64,
    WANT_REQUEST = 1,
    WANT_RESPONSE = 2,
    MAX_SIZE = 1000000,
};

struct send_args {
    uint64_t id; /* 0: a new request; it gets the id */
    uint64_t cookie;
};

struct receive_args {
    uint64_t id;
    uint64_t cookie;
    int flags;
    struct sockaddr_in6 peer;
    uint32_t n_pages;
    uint32_t zero;
    uint32_t pages[MAX_PAGES]; /* offsets into the region */
};

struct buffer_args {
    void *start;
    size_t len;
};

_Static_assert(sizeof(struct send_args) == 16, "as the module has it");
_Static_assert(sizeof(struct receive_args) == 120, "as the module has it");

static uint8_t *region;
static uint8_t message[MAX_SIZE], wanted[MAX_SIZE];

static void die(const char *what)
{
    printf("failed: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int homa_open(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM, PROTOCOL);
    if (fd < 0)
        die("socket");
    size_t len = (size_t)N_PAGES * PAGE;
    region = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED)
        die("mmap");
    struct buffer_args buffer = {region, len};
    if (setsockopt(fd, PROTOCOL, OPTION_BUFFER, &buffer, sizeof(buffer)) < 0)
        die("setsockopt");
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (port != 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die("bind");
    return fd;
}

/* The next message's length; its bytes in `message`. The pages of the one before go back. */
static ssize_t homa_receive(int fd, struct receive_args *args, int flags, struct sockaddr_in *from)
{
    args->id = 0;
    args->flags = flags;
    struct msghdr m = {.msg_name = from,
                       .msg_namelen = sizeof(*from),
                       .msg_control = args,
                       .msg_controllen = sizeof(*args)};
    ssize_t len = recvmsg(fd, &m, 0);
    for (ssize_t at = 0; at < len; at += PAGE) {
        size_t part = len - at < PAGE ? (size_t)(len - at) : PAGE;
        memcpy(message + at, region + args->pages[at / PAGE], part);
    }
    return len;
}

static void homa_send(int fd, struct sockaddr_in *to, const void *bytes, size_t len, uint64_t id)
{
    struct send_args args = {.id = id};
    struct iovec iov = {(void *)bytes, len};
    struct msghdr m = {.msg_name = to,
                       .msg_namelen = sizeof(*to),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &args};
    if (sendmsg(fd, &m, 0) < 0)
        die("sendmsg");
}

static void serve(uint16_t port)
{
    int fd = homa_open(port);
    struct receive_args args = {0};
    printf("serving\n");
    for (;;) {
        struct sockaddr_in from = {0};
        ssize_t len = homa_receive(fd, &args, WANT_REQUEST, &from);
        if (len < 0)
            continue;
        homa_send(fd, &from, message, (size_t)len, args.id);
    }
}

static void call(const char *host, uint16_t port, size_t size, unsigned n)
{
    int fd = homa_open(0);
    struct receive_args args = {0};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (size > MAX_SIZE || inet_pton(AF_INET, host, &to.sin_addr) != 1)
        exit(2);
    for (unsigned i = 0; i < n; i++) {
        struct sockaddr_in from;
        uint32_t x = i * 2654435761u;
        for (size_t k = 0; k < size; k++)
            wanted[k] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
        homa_send(fd, &to, wanted, size, 0);
        ssize_t len = homa_receive(fd, &args, WANT_RESPONSE, &from);
        if (len < 0)
            die("recvmsg");
        if ((size_t)len != size || memcmp(message, wanted, size) != 0) {
            printf("failed: a response of %zd bytes differs from its request of %zu\n", len, size);
            exit(1);
        }
    }
    printf("%u calls of %zu bytes\n", n, size);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        serve((uint16_t)atoi(argv[2]));
    else if (argc == 6 && strcmp(argv[1], "call") == 0)
        call(argv[2], (uint16_t)atoi(argv[3]), (size_t)atol(argv[4]), (unsigned)atoi(argv[5]));
    else
        return 2;
    return 0;
}
