/* Hand-made frames against a `ud` endpoint on rxe0. Asks it for its queue pair as a peer does
 * (docs/wire.md, 10.2), so that the frames carry the right queue pair number and Q_Key: the best
 * that somebody on the wire can do without the keys of a session.
 *
 * usage: roce_smt PORT IMM N GROUP
 *   PORT    of the endpoint at 10.9.0.1
 *   IMM     immediate data of a good frame: the port of the peer to be taken for
 *   N       frames of each kind
 *   GROUP   dies, arrives, breaks: what becomes of it (frames.h) */
#include "frames.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { MSG_LEN = 64, KIND_QUERY = 1, KIND_ANSWER = 2, LINK_ROCE = 1 };

static void put(uint8_t *p, unsigned len, uint32_t v)
{
    while (len-- > 0) {
        p[len] = (uint8_t)v;
        v >>= 8;
    }
}

static uint32_t get(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void query_build(uint8_t msg[MSG_LEN], uint16_t port)
{
    memset(msg, 0, MSG_LEN);
    put(msg, 4, 0x534d5555);
    msg[4] = 1;
    msg[5] = KIND_QUERY;
    msg[6] = LINK_ROCE;
    put(msg + 8, 2, port);
    put(msg + 12, 4, 4096);
    put(msg + 16, 4, 0x123); /* a queue pair that nobody has */
    put(msg + 20, 4, 1);
    msg[24 + 10] = msg[24 + 11] = 0xff;
    put(msg + 24 + 12, 4, ntohl(inet_addr("10.9.0.2")));
    put(msg + 40, 4, 0x600d);
    put(msg + 44, 4, 0xcafe);
}

static bool ask(struct frame_target *target, uint16_t port)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in us = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr("10.9.0.2")};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = inet_addr("10.9.0.1")};
    socklen_t len = sizeof(us);
    if (fd < 0 || bind(fd, (struct sockaddr *)&us, sizeof(us)) < 0 ||
        getsockname(fd, (struct sockaddr *)&us, &len) < 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
        return false;
    uint8_t query[MSG_LEN], answer[MSG_LEN];
    query_build(query, ntohs(us.sin_port));
    for (unsigned i = 0; i < 50; i++) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (send(fd, query, MSG_LEN, 0) != MSG_LEN || poll(&p, 1, 200) <= 0)
            continue;
        if (recv(fd, answer, MSG_LEN, 0) == MSG_LEN && answer[5] == KIND_ANSWER &&
            memcmp(answer + 48, query + 40, 8) == 0) {
            target->qpn = get(answer + 16);
            target->qkey = get(answer + 20);
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: roce_smt PORT IMM N GROUP\n");
        return 2;
    }
    struct frame_target target = {.imm = (uint32_t)atoi(argv[2])};
    frame_target_open(&target);
    if (!ask(&target, (uint16_t)atoi(argv[1]))) {
        fprintf(stderr, "roce_smt: no answer from port %s\n", argv[1]);
        return 1;
    }
    enum frame_fate fate = strcmp(argv[4], "dies") == 0     ? FRAME_DIES
                           : strcmp(argv[4], "breaks") == 0 ? FRAME_BREAKS
                                                            : FRAME_ARRIVES;
    unsigned n_kinds = 0, n = (unsigned)atoi(argv[3]);
    for (unsigned k = 0; k < n; k++) {
        n_kinds = 0;
        for (unsigned i = 0; i < n_frame_kinds; i++) {
            if (frame_kinds[i].fate != fate)
                continue;
            frame_send(&target, &frame_kinds[i], k * 1000 + i);
            n_kinds++;
        }
    }
    printf("%u frames of %u kinds sent to queue pair %u\n", n * n_kinds, n_kinds, target.qpn);
    return 0;
}
