/* Steering by classic BPF, which needs no privilege.
 *
 * One rule in two forms: a program, for the kernel of the receiver, and a function, for the sender
 * where receivers cannot choose (`ud`, shared memory).
 *
 * Packets of a session name the endpoint in the top byte of its id. The first ones of a handshake
 * cannot: they go by the sender's own session id, which is random and stays through RETRY and
 * retransmissions; EARLY packets carry that id alone. A load beyond the end of a packet ends the
 * program with 0: the first endpoint gets it and drops it.
 *
 * The kernel counts sockets in the order in which they joined and fills the place of one that has
 * left with the last: so they are opened in the order of their numbers and closed in the reverse
 * one, which the api sees to. A map of sockets (eBPF) would do without, and needs CAP_BPF. */
#include "dev/steer.h"

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include "base/bytes.h"
#include "dev/ud_resolve.h"

#ifndef PACKET_FANOUT_FLAG_IGNORE_OUTGOING
#define PACKET_FANOUT_FLAG_IGNORE_OUTGOING 0x4000
#endif

enum {
    KIND_AT = 13,
    KIND_EARLY = 0x11,
    KIND_HANDSHAKE = 0x30,
    OWN_ID_AT = 28, /* of HANDSHAKE: the sender's session id */
    UDP_LEN = 8,
    IPV6_LEN = 40,
    /* What both programs have in common, and what a ring's does before it. */
    N_STEER = 11,
    N_IP = 6,
};

/* Reads the packet at X + base; ends the program. */
static void steer_code(struct sock_filter out[N_STEER], uint32_t base, uint32_t n)
{
    const struct sock_filter code[N_STEER] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_IND, base + KIND_AT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KIND_EARLY, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KIND_HANDSHAKE, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_IND, base + SMT_STEER_AT + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 4, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_IND, base + SMT_STEER_AT),
        BPF_JUMP(BPF_JMP | BPF_JA, 3, 0, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_IND, base + SMT_STEER_AT + 4),
        BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_IND, base + OWN_ID_AT + 4),
        BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, n),
    };
    for (unsigned i = 0; i < N_STEER; i++)
        out[i] = code[i];
}

int smt_steer_sockets(int fd, unsigned n)
{
    struct sock_filter code[1 + N_STEER + 1] = {
        BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 0),
        [1 + N_STEER] = BPF_STMT(BPF_RET | BPF_A, 0),
    };
    steer_code(code + 1, 0, n);
    struct sock_fprog prog = {.len = SMT_ARRAY_LEN(code), .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog));
}

int smt_steer_resolve(int fd)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SMT_UD_KIND_AT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SMT_UD_QUERY, 0, 2),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SMT_UD_WANTED_AT),
        BPF_STMT(BPF_RET | BPF_A, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SMT_UD_ECHO_AT),
        BPF_STMT(BPF_RET | BPF_A, 0),
    };
    struct sock_fprog prog = {.len = SMT_ARRAY_LEN(code), .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog));
}

static int fanout_join(int fd, uint16_t id)
{
    int arg = id | (PACKET_FANOUT_CBPF | PACKET_FANOUT_FLAG_IGNORE_OUTGOING) << 16;
    if (setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, sizeof(arg)) == 0)
        return 0;
    /* Older kernels do not know the flag; our filter drops what goes out. */
    arg = id | PACKET_FANOUT_CBPF << 16;
    return setsockopt(fd, SOL_PACKET, PACKET_FANOUT, &arg, sizeof(arg));
}

int smt_steer_rings(int fd, unsigned n, uint16_t id)
{
    /* A fan-out program sees the packet from its IP header on. */
    struct sock_filter code[N_IP + N_STEER + 1] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x60, 2, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
        BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
        BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, IPV6_LEN),
        [N_IP + N_STEER] = BPF_STMT(BPF_RET | BPF_A, 0),
    };
    steer_code(code + N_IP, UDP_LEN, n);
    struct sock_fprog prog = {.len = SMT_ARRAY_LEN(code), .filter = code};
    if (fanout_join(fd, id) < 0)
        return -1;
    return setsockopt(fd, SOL_PACKET, PACKET_FANOUT_DATA, &prog, sizeof(prog));
}

/* The low half of an id at `at`, or 0. */
static uint32_t low_half(const uint8_t *packet, size_t len, size_t at)
{
    return at + 8 <= len ? smt_get_be32(packet + at + 4) : 0;
}

unsigned smt_steer_number(const uint8_t *packet, size_t len, unsigned n)
{
    assert(n > 0);
    if (len <= SMT_STEER_AT)
        return 0;
    uint32_t to = low_half(packet, len, SMT_STEER_AT);
    if (packet[KIND_AT] == KIND_EARLY)
        return to % n;
    if (packet[KIND_AT] == KIND_HANDSHAKE && len < SMT_STEER_AT + 8)
        return 0;
    if (packet[KIND_AT] == KIND_HANDSHAKE && to == 0)
        return low_half(packet, len, OWN_ID_AT) % n;
    return packet[SMT_STEER_AT] % n;
}

uint32_t smt_steer_run(const uint8_t *data, uint32_t seg_len, uint32_t last_len, uint32_t n)
{
    if (seg_len <= SMT_STEER_AT)
        return n;
    uint8_t first = data[SMT_STEER_AT];
    uint32_t same = 1;
    for (; same < n; same++) {
        const uint8_t *p = data + (size_t)same * seg_len;
        if ((same + 1 == n && last_len <= SMT_STEER_AT) || p[SMT_STEER_AT] != first)
            break;
    }
    return same;
}
