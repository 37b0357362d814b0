/* Headers below smt2 and below the kernel's formats, and their removal. Owns what docs/wire.md 1
 * says of IP: DF, identification 0, DSCP by priority, ECT(0); the formats of the kernel have
 * priorities elsewhere in IPv6 and no ECN. */
#include "dev/mlx5_frame.h"

#include <string.h>

#include "base/bytes.h"

enum {
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
    HOPS = 64,
    DONT_FRAGMENT = 0x4000,
    FRAGMENT_BITS = 0x3fff, /* more to come, or an offset */
    ECT0 = 2,
    CLASS_SHIFT = 5, /* DSCP = 8 x priority */
};

const struct smt_mlx5_carrier smt_mlx5_by_udp = {SMT_MLX5_PROTO_UDP, CLASS_SHIFT, ECT0};
const struct smt_mlx5_carrier smt_mlx5_by_bursts = {SMT_MLX5_PROTO_RAW, CLASS_SHIFT, ECT0};

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static void ipv4_init(uint8_t *ip, const struct smt_mlx5_hop *hop, uint8_t protocol)
{
    ip[0] = 0x45;
    smt_put_be16(ip + 6, DONT_FRAGMENT);
    ip[8] = HOPS;
    ip[9] = protocol;
    memcpy(ip + 12, hop->src + 12, 4);
    memcpy(ip + 16, hop->dst + 12, 4);
}

static void ipv6_init(uint8_t *ip, const struct smt_mlx5_hop *hop, uint8_t protocol)
{
    ip[0] = 0x60;
    ip[6] = protocol;
    ip[7] = HOPS;
    memcpy(ip + 8, hop->src, 16);
    memcpy(ip + 24, hop->dst, 16);
}

void smt_mlx5_head_init(struct smt_mlx5_head *head, const struct smt_mlx5_hop *hop,
                        const struct smt_mlx5_carrier *by, uint16_t sport, uint16_t dport)
{
    bool is_ipv4 = memcmp(hop->dst, mapped, sizeof(mapped)) == 0;
    *head = (struct smt_mlx5_head){.is_ipv4 = is_ipv4,
                                   .is_udp = by->protocol == SMT_MLX5_PROTO_UDP,
                                   .class_shift = is_ipv4 ? CLASS_SHIFT : by->ipv6_class_shift,
                                   .ecn = by->ecn};
    uint8_t *p = head->bytes;
    memcpy(p, hop->dmac, 6);
    memcpy(p + 6, hop->smac, 6);
    smt_put_be16(p + 12, head->is_ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    p += SMT_MLX5_ETH_LEN;
    if (head->is_ipv4)
        ipv4_init(p, hop, by->protocol);
    else
        ipv6_init(p, hop, by->protocol);
    p += head->is_ipv4 ? SMT_MLX5_IPV4_LEN : SMT_MLX5_IPV6_LEN;
    if (head->is_udp) {
        smt_put_be16(p, sport);
        smt_put_be16(p + 2, dport);
        p += SMT_MLX5_UDP_LEN;
    }
    head->len = (uint8_t)(p - head->bytes);
}

size_t smt_mlx5_head_put(const struct smt_mlx5_head *head, size_t payload_len, uint8_t prio,
                         uint8_t *out)
{
    memcpy(out, head->bytes, sizeof(head->bytes));
    uint8_t *ip = out + SMT_MLX5_ETH_LEN;
    uint8_t class = (uint8_t)(prio << head->class_shift | head->ecn);
    size_t above = payload_len + (head->is_udp ? SMT_MLX5_UDP_LEN : 0);
    if (head->is_ipv4) {
        ip[1] = class;
        smt_put_be16(ip + 2, (uint16_t)(SMT_MLX5_IPV4_LEN + above));
    } else {
        ip[0] = (uint8_t)(0x60 | class >> 4);
        ip[1] = (uint8_t)(class << 4);
        smt_put_be16(ip + 4, (uint16_t)above);
    }
    if (head->is_udp)
        smt_put_be16(out + head->len - 4, (uint16_t)above);
    return head->len;
}

static bool ipv4_sum_is_good(const uint8_t *ip)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < SMT_MLX5_IPV4_LEN; i += 2)
        sum += smt_get_be16(ip + i);
    sum = (sum & 0xffff) + (sum >> 16);
    sum += sum >> 16;
    return (sum & 0xffff) == 0xffff;
}

/* Returns the bytes after the IP header, and how many there are; NULL when it is not one. */
static uint8_t *ipv4_parse(uint8_t *ip, size_t len, struct smt_mlx5_frame *out, size_t *above)
{
    if (len < SMT_MLX5_IPV4_LEN || ip[0] != 0x45 || !ipv4_sum_is_good(ip))
        return NULL;
    size_t total = smt_get_be16(ip + 2);
    if (total < SMT_MLX5_IPV4_LEN || total > len || (smt_get_be16(ip + 6) & FRAGMENT_BITS) != 0)
        return NULL;
    out->ecn = ip[1] & 3;
    out->ip_id = smt_get_be16(ip + 4);
    out->protocol = ip[9];
    memcpy(out->from.ip, mapped, sizeof(mapped));
    memcpy(out->from.ip + 12, ip + 12, 4);
    memcpy(out->dst, mapped, sizeof(mapped));
    memcpy(out->dst + 12, ip + 16, 4);
    *above = total - SMT_MLX5_IPV4_LEN;
    return ip + SMT_MLX5_IPV4_LEN;
}

static uint8_t *ipv6_parse(uint8_t *ip, size_t len, struct smt_mlx5_frame *out, size_t *above)
{
    if (len < SMT_MLX5_IPV6_LEN || ip[0] >> 4 != 6)
        return NULL;
    *above = smt_get_be16(ip + 4);
    if (*above > len - SMT_MLX5_IPV6_LEN)
        return NULL;
    out->ecn = ip[1] >> 4 & 3;
    out->protocol = ip[6];
    memcpy(out->from.ip, ip + 8, 16);
    memcpy(out->dst, ip + 24, 16);
    return ip + SMT_MLX5_IPV6_LEN;
}

bool smt_mlx5_frame_parse(uint8_t *frame, size_t len, uint8_t raw, struct smt_mlx5_frame *out)
{
    if (len < SMT_MLX5_ETH_LEN)
        return false;
    *out = (struct smt_mlx5_frame){0};
    uint16_t type = smt_get_be16(frame + 12);
    uint8_t *ip = frame + SMT_MLX5_ETH_LEN, *p = NULL;
    size_t above = 0;
    if (type == ETHERTYPE_IPV4)
        p = ipv4_parse(ip, len - SMT_MLX5_ETH_LEN, out, &above);
    else if (type == ETHERTYPE_IPV6)
        p = ipv6_parse(ip, len - SMT_MLX5_ETH_LEN, out, &above);
    if (p == NULL)
        return false;
    if (out->protocol == SMT_MLX5_PROTO_UDP) {
        if (above < SMT_MLX5_UDP_LEN)
            return false;
        size_t udp_len = smt_get_be16(p + 4);
        if (udp_len <= SMT_MLX5_UDP_LEN || udp_len > above)
            return false;
        out->payload = p + SMT_MLX5_UDP_LEN;
        out->payload_len = (uint32_t)(udp_len - SMT_MLX5_UDP_LEN);
    } else if (out->protocol == raw && above >= 4) {
        out->payload = p;
        out->payload_len = (uint32_t)above;
    } else {
        return false;
    }
    /* Headers of all profiles begin with the ports, as UDP's does. */
    out->from.port = smt_get_be16(p);
    out->dport = smt_get_be16(p + 2);
    return out->from.port != 0;
}
