/* How packets to a destination go, and the headers they carry.
 *
 * The kernel routes and resolves; its answers are kept for a while in a table by destination. What
 * it would not send out of our link with a known hardware address goes by the holder: another
 * link, this machine itself, a hop that nobody has resolved. The socket's packet makes the kernel
 * ask for the hop, so the next look finds it; where the kernel doubts a hop (stale) one packet in
 * each lifetime goes by the socket for the same reason. No neighbour protocol of our own. */
#include "dev/af.h"


#include <smt/error.h>

#include "base/bytes.h"
#include "dev/machine.h"

#define LIFETIME (2 * SMT_SEC)
#define LIFETIME_UNKNOWN (2 * SMT_MSEC) /* the kernel asks at once */

enum {
    UDP_CSUM_AT = 6,
    TTL = 64,
    DONT_FRAGMENT = 0x4000,
    IPV4_AT = 12,
};

static struct smt_af_path *path_slot(struct smt_af *d, const struct smt_addr *to)
{
    uint64_t a, b;
    memcpy(&a, to->ip, 8);
    memcpy(&b, to->ip + 8, 8);
    uint64_t h = (a ^ (b + to->scope)) * 0x9e3779b97f4a7c15ull;
    return &d->paths[h >> 32 & (SMT_AF_PATHS - 1)];
}

static void path_refresh(struct smt_af *d, struct smt_af_path *p, uint64_t now)
{
    struct smt_route route;
    struct smt_addr bound = {.port = 0};
    memcpy(bound.ip, d->bound_ip, sizeof(bound.ip));
    p->by_ring = false;
    p->by_socket_next = false;
    p->until = now + LIFETIME_UNKNOWN;
    bool is_ipv4 = smt_addr_is_ipv4(&p->to);
    if (d->is_lost || (d->has_bound_ip && smt_addr_is_ipv4(&bound) != is_ipv4))
        return;
    int r = smt_route_find(d->nl, &p->to, d->has_bound_ip ? &bound : NULL, 0, &route);
    if (r < 0)
        return;
    if (route.ifindex != d->link.ifindex || route.is_local) {
        p->until = now + LIFETIME;
        return;
    }
    if (route.state == SMT_HOP_UNKNOWN)
        return;
    uint32_t headers_len = d->carriage->l4_len + (is_ipv4 ? SMT_AF_IPV4_LEN : SMT_AF_IPV6_LEN);
    p->max_len = route.mtu > headers_len ? route.mtu - headers_len : 0;
    p->by_ring = true;
    p->by_socket_next = route.state == SMT_HOP_STALE;
    p->until = now + LIFETIME;
    memcpy(p->eth, route.mac, SMT_MAC_LEN);
    memcpy(p->eth + SMT_MAC_LEN, d->link.mac, SMT_MAC_LEN);
    smt_put_be16(p->eth + 2 * SMT_MAC_LEN, is_ipv4 ? SMT_AF_TYPE_V4 : SMT_AF_TYPE_V6);
    memcpy(p->src, d->has_bound_ip ? d->bound_ip : route.src.ip, sizeof(p->src));
}

struct smt_af_path *smt_af_path_find(struct smt_af *d, const struct smt_addr *to)
{
    struct smt_af_path *p = path_slot(d, to);
    uint64_t now = smt_coarse_now();
    bool is_same = memcmp(p->to.ip, to->ip, sizeof(to->ip)) == 0 && p->to.scope == to->scope;
    if (SMT_UNLIKELY(!is_same || now >= p->until)) {
        p->to = *to;
        p->to.port = 0;
        path_refresh(d, p, now);
    }
    return p;
}

void smt_af_path_mtu_seen(struct smt_af *d, const struct smt_addr *to, uint32_t mtu)
{
    struct smt_af_path *p = path_slot(d, to);
    if (p->by_ring && p->max_len != mtu)
        p->until = 0;
}

/* One's complement sum of 16-bit words, not folded. */
static uint32_t sum_of(const uint8_t *p, size_t len, uint32_t sum)
{
    for (size_t i = 0; i + 1 < len; i += 2)
        sum += smt_get_be16(p + i);
    return sum;
}

static uint16_t sum_fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void ipv4_write(const struct smt_af *d, uint8_t *ip, const struct smt_af_path *path,
                       const struct smt_super_frame *f, size_t len)
{
    ip[0] = 0x45;
    ip[1] = (uint8_t)((f->tos >> SMT_TOS_SHIFT) << SMT_TOS_SHIFT | d->ecn);
    smt_put_be16(ip + 2, (uint16_t)len);
    smt_put_be16(ip + 4, 0);
    smt_put_be16(ip + 6, DONT_FRAGMENT);
    ip[8] = TTL;
    ip[9] = d->protocol;
    smt_put_be16(ip + 10, 0);
    memcpy(ip + 12, path->src + IPV4_AT, 4);
    memcpy(ip + 16, f->to.ip + IPV4_AT, 4);
    smt_put_be16(ip + 10, (uint16_t)~sum_fold(sum_of(ip, SMT_AF_IPV4_LEN, 0)));
}

static void ipv6_write(const struct smt_af *d, uint8_t *ip, const struct smt_af_path *path,
                       const struct smt_super_frame *f, size_t len)
{
    unsigned tclass = (unsigned)(f->tos >> SMT_TOS_SHIFT) << d->class_shift | d->ecn;
    ip[0] = (uint8_t)(0x60 | tclass >> 4);
    ip[1] = (uint8_t)(tclass << 4);
    smt_put_be16(ip + 2, 0);
    smt_put_be16(ip + 4, (uint16_t)(len - SMT_AF_IPV6_LEN));
    ip[6] = d->protocol;
    ip[7] = TTL;
    memcpy(ip + 8, path->src, 16);
    memcpy(ip + 24, f->to.ip, 16);
}

/* What the kernel, or the NIC, needs to finish packets of UDP; of others nothing. Fields in host
 * order (virtio, legacy). */
static void vnet_write(uint8_t *p, const struct smt_super_frame *f, size_t ip_len, bool is_udp)
{
    memset(p, 0, SMT_AF_VNET_LEN);
    if (!is_udp)
        return;
    uint16_t hdr_len = (uint16_t)(SMT_AF_ETH_LEN + ip_len + SMT_AF_UDP_LEN);
    uint16_t gso_size = f->n_segs > 1 ? (uint16_t)f->seg_len : 0;
    uint16_t csum_start = (uint16_t)(SMT_AF_ETH_LEN + ip_len), csum_offset = UDP_CSUM_AT;
    p[0] = SMT_AF_VNET_NEEDS_CSUM;
    p[1] = f->n_segs > 1 ? SMT_AF_VNET_GSO_UDP_L4 : 0;
    memcpy(p + 2, &hdr_len, 2);
    memcpy(p + 4, &gso_size, 2);
    memcpy(p + 6, &csum_start, 2);
    memcpy(p + 8, &csum_offset, 2);
}

static void udp_write(const struct smt_af *d, uint8_t *udp, const struct smt_super_frame *f,
                      const uint8_t *addrs, uint32_t addrs_len)
{
    size_t udp_len = SMT_AF_UDP_LEN + smt_super_len(f);
    smt_put_be16(udp, d->port);
    smt_put_be16(udp + 2, f->to.port);
    smt_put_be16(udp + 4, (uint16_t)udp_len);
    /* The sum of the pseudo-header: who finishes the packet adds the rest. */
    uint32_t sum = sum_of(addrs, addrs_len, (uint32_t)(SMT_AF_PROTO_UDP + udp_len));
    smt_put_be16(udp + UDP_CSUM_AT, sum_fold(sum));
}

uint8_t *smt_af_headers_write(const struct smt_af *d, const struct smt_af_path *path,
                              const struct smt_super_frame *f, size_t *headers_len)
{
    bool is_ipv4 = smt_addr_is_ipv4(&f->to), is_udp = d->carriage->l4_len > 0;
    size_t ip_len = is_ipv4 ? SMT_AF_IPV4_LEN : SMT_AF_IPV6_LEN;
    size_t len = ip_len + d->carriage->l4_len + smt_super_len(f);
    uint8_t *l4 = f->data - d->carriage->l4_len, *ip = l4 - ip_len, *eth = ip - SMT_AF_ETH_LEN;
    memcpy(eth, path->eth, SMT_AF_ETH_LEN);
    if (is_ipv4)
        ipv4_write(d, ip, path, f, len);
    else
        ipv6_write(d, ip, path, f, len);
    if (is_udp)
        udp_write(d, l4, f, is_ipv4 ? ip + 12 : ip + 8, is_ipv4 ? 8 : 32);
    uint8_t *begin = eth - SMT_AF_VNET_LEN;
    vnet_write(begin, f, ip_len, is_udp);
    *headers_len = (size_t)(f->data - begin);
    return begin;
}
