/* Frames of RoCE v2: Ethernet, IPv4, UDP to port 4791, BTH, DETH, immediate data, payload, pad,
 * ICRC. Written from the layouts alone, so that it does not share an error with the device. */
#include "roce.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    OPCODE_UD_SEND = 0x64,
    OPCODE_UD_SEND_IMM = 0x65,
    ROCE_PORT = 4791,
};

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put24(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 16);
    put16(p + 1, v);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v);
}

void roce_ip_checksum(uint8_t *frame)
{
    uint8_t *ip = frame + ROCE_IP_AT;
    put16(ip + 10, 0);
    uint32_t sum = 0;
    for (unsigned i = 0; i < 20; i += 2)
        sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    put16(ip + 10, ~sum);
}

static uint32_t crc32(uint32_t crc, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return crc;
}

uint32_t roce_icrc(const uint8_t *frame, size_t len)
{
    /* What routers may change counts as ones: TOS, TTL and both checksums, and of the BTH the byte
     * with its congestion bits. Before it eight bytes for a local header that RoCE has not. */
    uint8_t head[8 + 20 + 8 + 12];
    size_t n = len - ROCE_IP_AT < sizeof(head) - 8 ? len - ROCE_IP_AT : sizeof(head) - 8;
    memset(head, 0xff, sizeof(head));
    memcpy(head + 8, frame + ROCE_IP_AT, n);
    head[8 + 1] = head[8 + 8] = head[8 + 10] = head[8 + 11] = 0xff;
    head[8 + 26] = head[8 + 27] = 0xff;
    head[8 + 28 + 4] = 0xff;
    uint32_t crc = crc32(0xffffffff, head, 8 + n);
    if (len > ROCE_DETH_AT)
        crc = crc32(crc, frame + ROCE_DETH_AT, len - ROCE_DETH_AT);
    return ~crc;
}

size_t roce_build(const struct roce_frame *f, uint8_t out[ROCE_MAX_FRAME])
{
    size_t pad = (4 - f->payload_len % 4) % 4;
    size_t end = ROCE_DETH_AT + 8 + (f->has_imm ? 4u : 0u) + f->payload_len + pad;
    memset(out, 0, end);
    memcpy(out, f->to_mac, 6);
    memcpy(out + 6, f->from_mac, 6);
    put16(out + 12, ETHERTYPE_IP);

    uint8_t *ip = out + ROCE_IP_AT;
    ip[0] = 0x45;
    put16(ip + 2, (uint32_t)(end + ROCE_ICRC_LEN - ROCE_IP_AT));
    put16(ip + 6, 0x4000); /* do not fragment */
    ip[8] = 64;
    ip[9] = IPPROTO_UDP;
    put32(ip + 12, f->from_ip);
    put32(ip + 16, f->to_ip);
    roce_ip_checksum(out);

    uint8_t *udp = out + ROCE_UDP_AT;
    put16(udp, 0xc000 | (f->from_qpn & 0x3fff));
    put16(udp + 2, ROCE_PORT);
    put16(udp + 4, (uint32_t)(end + ROCE_ICRC_LEN - ROCE_UDP_AT));

    uint8_t *bth = out + ROCE_BTH_AT;
    bth[0] = f->has_imm ? OPCODE_UD_SEND_IMM : OPCODE_UD_SEND;
    bth[1] = (uint8_t)(pad << 4);
    put16(bth + 2, 0xffff); /* the default partition */
    put24(bth + 5, f->qpn);
    put24(bth + 9, f->psn);

    uint8_t *deth = out + ROCE_DETH_AT;
    put32(deth, f->qkey);
    put24(deth + 5, f->from_qpn);
    uint8_t *rest = deth + 8;
    if (f->has_imm) {
        put32(rest, f->imm);
        rest += 4;
    }
    if (f->payload_len > 0)
        memcpy(rest, f->payload, f->payload_len);

    uint32_t icrc = roce_icrc(out, end);
    for (unsigned i = 0; i < ROCE_ICRC_LEN; i++)
        out[end + i] = (uint8_t)(icrc >> (8 * i));
    return end + ROCE_ICRC_LEN;
}

static _Noreturn void die(const char *what)
{
    perror(what);
    exit(1);
}

void roce_wire_open(struct roce_wire *wire, const char *ifname)
{
    wire->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    wire->ifindex = (int)if_nametoindex(ifname);
    if (wire->fd < 0 || wire->ifindex == 0)
        die(ifname);
}

void roce_wire_send(const struct roce_wire *wire, const uint8_t *frame, size_t len)
{
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_ifindex = wire->ifindex, .sll_halen = ETH_ALEN};
    memcpy(to.sll_addr, frame, ETH_ALEN);
    if (sendto(wire->fd, frame, len, 0, (struct sockaddr *)&to, sizeof(to)) != (ssize_t)len)
        die("sendto on a raw socket");
}

void roce_mac(const char *ifname, uint8_t mac[6])
{
    struct ifreq ifr = {0};
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
        die(ifname);
    memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
    close(fd);
}

uint64_t roce_counter(const char *device, const char *name)
{
    char path[200];
    snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/hw_counters/%s", device, name);
    FILE *f = fopen(path, "r");
    uint64_t value;
    if (f == NULL || fscanf(f, "%" SCNu64, &value) != 1)
        die(path);
    fclose(f);
    return value;
}
