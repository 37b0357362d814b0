/* The limit of packet rings with AES-GCM (limit.h): Ethernet frames of UDP super-frames by
 * TPACKET_V2 rings in both directions, the receive ring read without a system call, one send(2) a
 * batch.
 *
 * The frames carry a MAC address that is nobody's: the peer's IP layer drops them unseen and the
 * packet socket has them all the same. Rings are small, so that they stay in the L2 cache; there is
 * no flow control, so what is in flight has to fit one (about 2 MB). Needs CAP_NET_RAW and a link
 * between two namespaces (-N, -i). */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* newer than Debian 12's headers */
#endif

enum {
    SLOT = 128 << 10,
    SLOTS = 16,
    RING = SLOT * SLOTS,
    VNET = sizeof(struct virtio_net_hdr),
    ETH = 14,
    IP = 20,
    UDP = 8,
    HEADERS = ETH + IP + UDP,
    MAX_IP = 65000,
    MAX_SEGMENTS = 64,
    TX_DATA = TPACKET2_HDRLEN - sizeof(struct sockaddr_ll), /* where the kernel expects a frame */
    PORT = 7100,
};

struct end {
    int fd;
    uint8_t mac[6], peer_mac[6];
    uint8_t *rx, *tx;
    unsigned rx_at, tx_at;
    bool holds_slot;  /* rx_at is being read */
    bool posted;      /* frames wait for send() */
    uint8_t *frame;   /* being built: its virtio header */
    size_t len;       /* of the frame, from its Ethernet header */
    size_t segment;
    unsigned n, max;
};

static struct end *end_new(const struct peer_args *args)
{
    struct end *e = calloc(1, sizeof(*e));
    struct ifreq ifr = {0};
    int one = 1, version = TPACKET_V2;
    struct tpacket_req req = {
        .tp_block_size = 1 << 20,
        .tp_block_nr = RING >> 20,
        .tp_frame_size = SLOT,
        .tp_frame_nr = SLOTS,
    };
    if (e == NULL) {
        peer_die("memory");
    }
    e->max = args->batch < MAX_SEGMENTS ? args->batch : MAX_SEGMENTS;
    e->fd = socket(AF_PACKET, SOCK_RAW, 0);
    strncpy(ifr.ifr_name, args->ifname, IFNAMSIZ - 1);
    if (e->fd < 0 || ioctl(e->fd, SIOCGIFHWADDR, &ifr) != 0) {
        peer_die("packet socket");
    }
    memcpy(e->mac, ifr.ifr_hwaddr.sa_data, sizeof(e->mac));
    if (setsockopt(e->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) != 0 ||
        setsockopt(e->fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) != 0 ||
        setsockopt(e->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) != 0 ||
        setsockopt(e->fd, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) != 0 ||
        setsockopt(e->fd, SOL_PACKET, PACKET_TX_RING, &req, sizeof(req)) != 0) {
        peer_die("packet ring");
    }
    e->rx = mmap(NULL, 2 * RING, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, e->fd, 0);
    if (e->rx == MAP_FAILED) {
        peer_die("mmap");
    }
    e->tx = e->rx + RING;
    struct sockaddr_ll name = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_IP),
        .sll_ifindex = (int)if_nametoindex(args->ifname),
    };
    if (bind(e->fd, (const struct sockaddr *)&name, sizeof(name)) != 0) {
        peer_die("bind");
    }
    return e;
}

static void meet(struct end *a, const struct end *b)
{
    memcpy(a->peer_mac, b->mac, sizeof(a->peer_mac));
    a->peer_mac[0] = 2;
    a->peer_mac[5] ^= 0x55;
}

static void af_open(const struct peer_args *args, void *ends[2])
{
    peer_enter(args, true);
    struct end *server = end_new(args);
    peer_enter(args, false);
    struct end *client = end_new(args);
    meet(client, server);
    meet(server, client);
    ends[0] = client;
    ends[1] = server;
}

static struct tpacket2_hdr *slot_at(uint8_t *ring, unsigned i)
{
    return (void *)(ring + (size_t)i * SLOT);
}

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void send_posted(struct end *e)
{
    if (send(e->fd, NULL, 0, MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != ENOBUFS &&
        errno != EINTR) {
        exit(0); /* the other side has gone */
    }
}

/* Writes the headers of the frame being built and gives it to the kernel. */
static void frame_end(struct end *e)
{
    if (e->frame == NULL) {
        return;
    }
    struct virtio_net_hdr vnet = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .hdr_len = HEADERS,
        .csum_start = ETH + IP,
        .csum_offset = 6,
    };
    if (e->n > 1) {
        vnet.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
        vnet.gso_size = (uint16_t)e->segment;
    }
    memcpy(e->frame, &vnet, VNET);
    uint8_t *eth = e->frame + VNET, *ip = eth + ETH, *udp = ip + IP;
    memcpy(eth, e->peer_mac, 6);
    memcpy(eth + 6, e->mac, 6);
    put16(eth + 12, ETH_P_IP);
    static const uint8_t ip_head[IP] = {0x45, [6] = 0x40, [8] = 64,   [9] = IPPROTO_UDP, [12] = 198,
                                        51,   100,        1,   198,   51,
                                        100,  2};
    memcpy(ip, ip_head, IP);
    put16(ip + 2, e->len - ETH);
    put16(udp, PORT);
    put16(udp + 2, PORT);
    put16(udp + 4, e->len - ETH - IP);
    put16(udp + 6, 0);
    struct tpacket2_hdr *h = slot_at(e->tx, e->tx_at);
    h->tp_len = (uint32_t)(e->len + VNET);
    __atomic_store_n(&h->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
    e->tx_at = (e->tx_at + 1) % SLOTS;
    e->frame = NULL;
    e->posted = true;
}

static void af_flush(void *end)
{
    struct end *e = end;
    frame_end(e);
    if (e->posted) {
        send_posted(e);
        e->posted = false;
    }
}

static uint8_t *af_reserve(void *end, size_t len)
{
    struct end *e = end;
    if (e->frame != NULL && (len != e->segment || e->n == e->max || e->len + len > MAX_IP)) {
        frame_end(e);
    }
    if (e->frame == NULL) {
        struct tpacket2_hdr *h = slot_at(e->tx, e->tx_at);
        while (__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE) {
            send_posted(e);
        }
        e->frame = (uint8_t *)h + TX_DATA;
        e->len = HEADERS;
        e->segment = len;
        e->n = 0;
    }
    uint8_t *p = e->frame + VNET + e->len;
    e->len += len;
    e->n++;
    return p;
}

static void slot_done(struct end *e)
{
    __atomic_store_n(&slot_at(e->rx, e->rx_at)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    e->rx_at = (e->rx_at + 1) % SLOTS;
    e->holds_slot = false;
}

static size_t af_take(void *end, const uint8_t **data, size_t *segment)
{
    struct end *e = end;
    if (e->holds_slot) {
        slot_done(e);
    }
    struct tpacket2_hdr *h = slot_at(e->rx, e->rx_at);
    uint32_t status = __atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE);
    if ((status & TP_STATUS_USER) == 0) {
        return 0;
    }
    e->holds_slot = true;
    const uint8_t *frame = (const uint8_t *)h + h->tp_mac;
    const struct sockaddr_ll *from = (const void *)((uint8_t *)h + TPACKET_ALIGN(sizeof(*h)));
    struct virtio_net_hdr vnet;
    memcpy(&vnet, frame - VNET, VNET);
    if (from->sll_pkttype != PACKET_OTHERHOST || h->tp_snaplen < HEADERS) {
        return 0;
    }
    if ((status & TP_STATUS_COPY) != 0 || h->tp_snaplen < h->tp_len) {
        errno = 0;
        peer_die("frame cut");
    }
    *data = frame + HEADERS;
    size_t n = h->tp_snaplen - HEADERS;
    *segment = vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE ? vnet.gso_size : n;
    return n;
}

int main(int argc, char **argv)
{
    static const struct limit_carrier af = {
        .name = "af-gcm-limit",
        .open = af_open,
        .reserve = af_reserve,
        .flush = af_flush,
        .take = af_take,
    };
    return limit_main(argc, argv, &af);
}
