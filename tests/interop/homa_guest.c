/* A program of the kernel's own Homa or SMT, in the guest whose kernel has the module: an echo
 * server, and a caller that checks every byte.
 *
 * usage: homa_guest PROFILE serve PORT
 *        homa_guest PROFILE call HOST PORT N SIZE...
 * The caller makes N calls of each size from one socket, and says "@call SIZE PORT 0" after each.
 *
 * The system calls are those of a datagram socket; what Homa needs beside address and bytes goes by
 * msg_control, in structures that differ from branch to branch. Received messages lie in a region
 * given to the socket before, in pages of 64 KiB that go back with the next receive. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum {
    OPTION_BUFFER = 10,
    PAGE = 1 << 16,
    MAX_PAGES = 16,
    N_PAGES = 64,
    WANT_REQUEST = 1,
    WANT_RESPONSE = 2,
    MAX_SIZE = 1000000,
    LEVEL_TLS = 282,
    TLS_TX = 1,
    TLS_RX = 2,
    TLS_VERSION_1_2 = 0x0303,
    CIPHER_AES_GCM_128 = 51,
};

struct send_args {
    uint64_t id; /* 0: a new request; it gets the id */
    uint64_t cookie;
    uint64_t zero; /* homa-main alone looks at it */
};

/* All structures of receiving are made of these: offsets into them, by profile. */
static const struct profile {
    const char *name;
    int protocol;
    size_t len;
    size_t flags, n_pages, pages; /* flags 0: there are none */
    bool keyed;
} profiles[] = {
    {"homa-6.1", 253, 120, 16, 48, 56, false},
    {"homa-main", 146, 88, 0, 16, 24, false},
    {"smt1", 253, 96, 16, 20, 32, true},
};
static const struct profile *profile;

struct buffer_args {
    void *start;
    size_t len;
};

/* Keys of SMT for one direction, for whoever the peer is. */
struct key_args {
    uint16_t version, cipher;
    uint8_t iv[8], key[16], salt[4], record[8];
    uint32_t peer;
    uint16_t peer_port;
    uint8_t any_peer, zero;
};

_Static_assert(sizeof(struct key_args) == 48, "as the module has it");

/* The keys that the SMT bench publishes. */
static const uint8_t client_key[20] = {0x8d, 0xd2, 0x30, 0xa7, 0x7a, 0x05, 0xeb, 0x71, 0x15, 0x91,
                                       0x29, 0xbc, 0xbc, 0xf6, 0x42, 0x30, 0x87, 0xc6, 0x35, 0xc8};
static const uint8_t server_key[20] = {0x6c, 0xcf, 0x62, 0xff, 0x4b, 0xe6, 0x14, 0x85, 0xd8, 0xba,
                                       0x29, 0xfe, 0x2e, 0x84, 0x7a, 0x7f, 0xb9, 0xfa, 0x55, 0x83};

static uint8_t *region;
static uint8_t message[MAX_SIZE], wanted[MAX_SIZE];

static void die(const char *what)
{
    printf("failed: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void key_install(int fd, int direction, const uint8_t key[20])
{
    struct key_args args = {
        .version = TLS_VERSION_1_2, .cipher = CIPHER_AES_GCM_128, .any_peer = 1};
    memcpy(args.key, key, sizeof(args.key));
    memcpy(args.salt, key + sizeof(args.key), sizeof(args.salt));
    if (setsockopt(fd, LEVEL_TLS, direction, &args, sizeof(args)) < 0)
        die("setsockopt of a key");
}

/* `port` 0: a client. */
static int homa_open(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM, profile->protocol);
    if (fd < 0)
        die("socket");
    size_t len = (size_t)N_PAGES * PAGE;
    region = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED)
        die("mmap");
    struct buffer_args buffer = {region, len};
    if (setsockopt(fd, profile->protocol, OPTION_BUFFER, &buffer, sizeof(buffer)) < 0)
        die("setsockopt");
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (port != 0 && bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        die("bind");
    if (profile->keyed) {
        key_install(fd, TLS_TX, port == 0 ? client_key : server_key);
        key_install(fd, TLS_RX, port == 0 ? server_key : client_key);
    }
    return fd;
}

/* The next message's length; its bytes in `message`. The pages of the one before go back. */
static ssize_t homa_receive(int fd, int want, uint64_t *id, struct sockaddr_in *from)
{
    static _Alignas(8) uint8_t args[128];
    const struct profile *p = profile;
    uint32_t offset;
    memset(args, 0, 16);
    if (p->flags != 0)
        memcpy(args + p->flags, &want, sizeof(want));
    struct msghdr m = {.msg_name = from,
                       .msg_namelen = sizeof(*from),
                       .msg_control = args,
                       .msg_controllen = p->len};
    ssize_t len = recvmsg(fd, &m, 0);
    memcpy(id, args, sizeof(*id));
    for (ssize_t at = 0; at < len; at += PAGE) {
        size_t part = len - at < PAGE ? (size_t)(len - at) : PAGE;
        memcpy(&offset, args + p->pages + at / PAGE * 4, sizeof(offset));
        memcpy(message + at, region + offset, part);
    }
    if (len < 0) /* nothing to give back, then */
        memset(args + p->n_pages, 0, 4);
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
    printf("serving\n");
    for (;;) {
        struct sockaddr_in from = {0};
        uint64_t id;
        ssize_t len = homa_receive(fd, WANT_REQUEST, &id, &from);
        if (len > 0)
            homa_send(fd, &from, message, (size_t)len, id);
    }
}

static void calls(int fd, struct sockaddr_in *to, size_t size, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct sockaddr_in from;
        uint64_t id;
        uint32_t x = i * 2654435761u;
        for (size_t k = 0; k < size; k++)
            wanted[k] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
        homa_send(fd, to, wanted, size, 0);
        ssize_t len = homa_receive(fd, WANT_RESPONSE, &id, &from);
        if (len < 0)
            die("recvmsg");
        if ((size_t)len != size || memcmp(message, wanted, size) != 0) {
            printf("failed: a response of %zd bytes differs from its request of %zu\n", len, size);
            exit(1);
        }
    }
}

static int call(char **words, int n_words)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1]))};
    if (inet_pton(AF_INET, words[0], &to.sin_addr) != 1)
        return 2;
    int fd = homa_open(0);
    for (int i = 3; i < n_words; i++) {
        size_t size = (size_t)atol(words[i]);
        if (size == 0 || size > MAX_SIZE)
            return 2;
        calls(fd, &to, size, (unsigned)atoi(words[2]));
        printf("@call %zu %s 0\n", size, words[1]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; argc > 3 && i < sizeof(profiles) / sizeof(profiles[0]); i++)
        if (strcmp(argv[1], profiles[i].name) == 0)
            profile = &profiles[i];
    if (profile != NULL && argc == 4 && strcmp(argv[2], "serve") == 0)
        serve((uint16_t)atoi(argv[3]));
    if (profile != NULL && argc > 6 && strcmp(argv[2], "call") == 0)
        return call(argv + 3, argc - 3);
    fprintf(stderr, "usage: homa_guest PROFILE serve PORT\n"
                    "       homa_guest PROFILE call HOST PORT N SIZE...\n");
    return 2;
}
