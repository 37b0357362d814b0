/* Frames of the mlx5 device: Ethernet, IP and UDP or protocol 254 in front of smt2 packets.
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

/* A header made once and copied in front of every packet: UDP with both ports, or protocol 254. */
struct smt_mlx5_head {
    uint8_t bytes[SMT_MLX5_FRAME_MAX_HDR];
    uint8_t len;
    bool is_ipv4, is_udp;
};

void smt_mlx5_head_init(struct smt_mlx5_head *head, const struct smt_mlx5_hop *hop,
                        uint8_t protocol, uint16_t sport, uint16_t dport);

/* Writes it for one packet of payload_len bytes; the checksums are left to the NIC. Returns its
 * length. `out` has SMT_MLX5_FRAME_MAX_HDR bytes. */
size_t smt_mlx5_head_put(const struct smt_mlx5_head *head, size_t payload_len, uint8_t prio,
                         uint8_t *out);

/* A received frame taken apart. */
struct smt_mlx5_frame {
    uint8_t *payload;
    uint32_t payload_len;
    struct smt_addr from; /* of protocol 254: the port that the smt2 header names */
    uint8_t dst[16];
    uint16_t dport;
    uint16_t ip_id;
    uint8_t ecn, protocol;
};

/* False: not one of ours, or damaged. IPv4 header checksums are verified; UDP ones are not: records
 * are authenticated, and the NIC drops frames whose own check sum is wrong. */
bool smt_mlx5_frame_parse(uint8_t *frame, size_t len, struct smt_mlx5_frame *out);

#endif
