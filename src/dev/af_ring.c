/* The packet socket: what it lets in, and its receive ring.
 *
 * The port belongs to the holder's sockets, so nobody else gets it and the kernel answers no packet
 * with "port unreachable" or "protocol unreachable". Those sockets drop what comes in by our link,
 * which the ring has already; what comes by other links they receive as ever. */
#include "dev/af.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <smt/error.h>

#include "dev/steer.h"

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum {
    KERNEL_MAJOR = 6, /* UDP super-frames pass packet sockets since 6.2 */
    KERNEL_MINOR = 2,
    SOCKET_BUFFER = 4 << 20,
};

static bool kernel_is_new(void)
{
    struct utsname u;
    if (uname(&u) < 0)
        return false;
    char *end;
    long major = strtol(u.release, &end, 10);
    long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR);
}

const char *smt_af_obstacle(bool needs_super_frames)
{
    if (needs_super_frames && !kernel_is_new())
        return "packet sockets carry UDP super-frames since Linux 6.2; this kernel is older";
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        close(fd);
        return NULL;
    }
    return errno == EPERM
               ? "packet sockets need CAP_NET_RAW: setcap cap_net_raw+ep PROGRAM, or root"
               : "this kernel has no packet sockets (CONFIG_PACKET)";
}

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static void buffer_set(int fd, int force, int plain)
{
    if (option_set(fd, SOL_SOCKET, force, SOCKET_BUFFER) < 0)
        (void)option_set(fd, SOL_SOCKET, plain, SOCKET_BUFFER);
}

#define AD(what) ((uint32_t)SKF_AD_OFF + (what))

/* Our protocol to our port (which stands at the same place in UDP's header and in those of all
 * profiles) and to this host, not a fragment, without VLAN tag, IPv6 without extensions; of both
 * families or one. */
static int ring_filter(int fd, int family, uint8_t protocol, uint16_t port)
{
    uint8_t ipv6 = family == AF_INET ? 13 : 7, ipv4 = family == AF_INET6 ? 12 : 0;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, AD(SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_HOST, 0, 17),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, AD(SKF_AD_VLAN_TAG_PRESENT)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 15),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, ipv6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, ipv4, 12),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, protocol, 0, 10),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x3fff, 8, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
        BPF_JUMP(BPF_JMP | BPF_JA, 3, 0, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, protocol, 0, 4),
        BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 40),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog prog = {.len = SMT_ARRAY_LEN(code), .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

static int ring_make(struct smt_af *d)
{
    bool is_short = d->carriage->l4_len == 0 && d->link.mtu <= SMT_AF_RING_SHORT_MTU;
    d->rx.slot_shift = is_short ? SMT_AF_RING_SHORT_SHIFT : SMT_AF_RING_LONG_SHIFT;
    d->rx.ring_len = is_short ? SMT_AF_RING_SHORT_LEN : SMT_AF_RING_LONG_LEN;
    d->rx.n_slots = (uint32_t)(d->rx.ring_len >> d->rx.slot_shift);
    struct tpacket_req req = {
        .tp_block_size = SMT_AF_RING_BLOCK,
        .tp_block_nr = (unsigned)(d->rx.ring_len / SMT_AF_RING_BLOCK),
        .tp_frame_size = 1u << d->rx.slot_shift,
        .tp_frame_nr = d->rx.n_slots,
    };
    if (option_set(d->fd, SOL_PACKET, PACKET_VERSION, TPACKET_V2) < 0 ||
        option_set(d->fd, SOL_PACKET, PACKET_VNET_HDR, 1) < 0 ||
        option_set(d->fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1) < 0 ||
        option_set(d->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1) < 0 ||
        option_set(d->fd, SOL_PACKET, PACKET_COPY_THRESH, 1) < 0 ||
        ring_filter(d->fd, d->family, d->protocol, d->port) < 0 ||
        setsockopt(d->fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
        return -1;
    buffer_set(d->fd, SO_SNDBUFFORCE, SO_SNDBUF);
    buffer_set(d->fd, SO_RCVBUFFORCE, SO_RCVBUF);
    void *ring = mmap(NULL, d->rx.ring_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      d->fd, 0);
    if (ring == MAP_FAILED)
        return -1;
    d->rx.ring = ring;
    return 0;
}

int smt_af_ring_open(struct smt_af *d)
{
    const struct smt_af_carriage *by = d->carriage;
    const char *obstacle = smt_af_obstacle(by->needs_super_frames);
    if (obstacle != NULL)
        return smt_af_unusable(d, "%s", obstacle);
    /* Who asks for all protocols gets a frame before IP does, who asks for IP's own when IP is done
     * with it: 0.4 us of 3.5 for the round trip of a small packet over veth. The filter lets in the
     * same either way. */
    struct sockaddr_ll sll = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = (int)d->link.ifindex,
    };
    d->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0 || ring_make(d) < 0 ||
        bind(d->fd, (const struct sockaddr *)&sll, sizeof(sll)) < 0 ||
        (d->share > 1 && smt_steer_rings(d->fd, d->share, d->port) < 0) ||
        by->holder_hide(d->holder, d->link.ifindex) < 0) {
        int r = smt_af_unusable(d, "ring on %.15s: %s", d->link.name, strerror(errno));
        smt_af_ring_close(d);
        return r;
    }
    return 0;
}

void smt_af_ring_close(struct smt_af *d)
{
    if (d->rx.ring != NULL)
        munmap(d->rx.ring, d->rx.ring_len);
    d->rx.ring = NULL;
    if (d->fd >= 0)
        close(d->fd);
    d->fd = -1;
}

uint32_t smt_af_ring_drops(const struct smt_af *d)
{
    struct tpacket_stats st = {0};
    socklen_t len = sizeof(st);
    return getsockopt(d->fd, SOL_PACKET, PACKET_STATISTICS, &st, &len) == 0 ? st.tp_drops : 0;
}

void smt_af_ring_lost(struct smt_af *d)
{
    d->is_lost = true;
    smt_af_unusable(d, "the link %.15s is gone", d->link.name);
    for (unsigned i = 0; i < SMT_AF_PATHS; i++)
        d->paths[i].until = 0;
    (void)d->carriage->holder_hide(d->holder, 0);
}
