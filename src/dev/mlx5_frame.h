/* Frames of the mlx5 device: Ethernet, IP and, in front of smt2 packets, UDP or nothing (protocol
 * 254, or that of another profile).
 *
 * Pure: bytes in, bytes out. No VLAN tags, no IP options, no extension headers, no fragments. */
#ifndef SMT_DEV_MLX5_FRAME_H
#define SMT_DEV_MLX5_FRAME_H

#include "base/addr.h"

enum {
    SMT_MLX5_ETH_LEN = 14,
    SMT_MLX5_IPV4_LEN = 20,
    SMT_MLX5_IPV6_LEN = 40,
    SMT_MLX5_UDP_LEN = 8,
    SMT_MLX5_FRAME_MAX_HDR = SMT_MLX5_ETH_LEN + SMT_MLX5_IPV6_LEN + SMT_MLX5_UDP_LEN,
    SMT_MLX5_PROTO_UDP = 17,
    SMT_MLX5_PROTO_RAW = 254,
};

/* Between which machines. */
struct smt_mlx5_hop {
    uint8_t dmac[6], smac[6];
    uint8_t src[16], dst[16]; /* IPv4 as ::ffff:a.b.c.d */
};

/* What packets are carried by, the same for all of a device. */
struct smt_mlx5_carrier {
    uint8_t protocol;         /* SMT_MLX5_PROTO_UDP, or that of packets that begin with ports */
    uint8_t ipv6_class_shift; /* traffic class = priority << this; IPv4: << 5 */
    uint8_t ecn;              /* of every packet */
};

extern const struct smt_mlx5_carrier smt_mlx5_by_udp;   /* of smt2's packets */
extern const struct smt_mlx5_carrier smt_mlx5_by_bursts; /* of its records in slices */

/* Bytes of IP and of what stands between it and the packet. */
static inline uint32_t smt_mlx5_headers_len(const struct smt_mlx5_carrier *by, bool is_ipv4)
{
    return (is_ipv4 ? SMT_MLX5_IPV4_LEN : SMT_MLX5_IPV6_LEN) +
           (by->protocol == SMT_MLX5_PROTO_UDP ? SMT_MLX5_UDP_LEN : 0);
}

/* A header made once and copied in front of every packet: UDP with both ports, or IP alone. */
struct smt_mlx5_head {
    uint8_t bytes[SMT_MLX5_FRAME_MAX_HDR];
    uint8_t len, class_shift, ecn;
    bool is_ipv4, is_udp;
};

void smt_mlx5_head_init(struct smt_mlx5_head *head, const struct smt_mlx5_hop *hop,
                        const struct smt_mlx5_carrier *by, uint16_t sport, uint16_t dport);

/* Writes it for one packet of payload_len bytes; the checksums are left to the NIC. Returns its
 * length. `out` has SMT_MLX5_FRAME_MAX_HDR bytes. */
size_t smt_mlx5_head_put(const struct smt_mlx5_head *head, size_t payload_len, uint8_t prio,
                         uint8_t *out);

/* A received frame taken apart. */
struct smt_mlx5_frame {
    uint8_t *payload;
    uint32_t payload_len;
    struct smt_addr from; /* without UDP: the port that the packet's first bytes name */
    uint8_t dst[16];
    uint16_t dport;
    uint16_t ip_id;
    uint8_t ecn, protocol;
};

/* False: neither UDP nor of protocol `raw`, or damaged. IPv4 header checksums are verified, UDP's
 * are not: records are authenticated, and the NIC drops frames whose own check sum is wrong. */
bool smt_mlx5_frame_parse(uint8_t *frame, size_t len, uint8_t raw, struct smt_mlx5_frame *out);

#endif
