/* What a received Ethernet frame says of itself. Pure: nothing is believed but what fits the bytes
 * that are there. */
#ifndef SMT_DEV_AF_PARSE_H
#define SMT_DEV_AF_PARSE_H

#include "base/addr.h"

enum {
    SMT_AF_VNET_LEN = 10, /* struct virtio_net_hdr, host order */
    SMT_AF_ETH_LEN = 14,
    SMT_AF_IPV4_LEN = 20,
    SMT_AF_IPV6_LEN = 40,
    SMT_AF_UDP_LEN = 8,
    SMT_AF_TYPE_V4 = 0x0800,
    SMT_AF_TYPE_V6 = 0x86dd,
    SMT_AF_PROTO_UDP = 17,
};

/* Of struct virtio_net_hdr; the kind of super-frame is newer (Linux 6.2) than many headers. */
enum {
    SMT_AF_VNET_NEEDS_CSUM = 1,
    SMT_AF_VNET_DATA_VALID = 2,
    SMT_AF_VNET_GSO_UDP_L4 = 5,
    SMT_AF_VNET_GSO_ECN = 0x80,
};

struct smt_af_seen {
    struct smt_addr from; /* scope 0 */
    uint8_t to_ip[16];    /* IPv4 as ::ffff:a.b.c.d */
    uint8_t *payload;
    uint32_t payload_len; /* of all segments, at least 1 */
    uint32_t seg_len;     /* each but the last; payload_len when it is one packet */
    uint8_t ecn;
    uint16_t ip_id;       /* 0 in IPv6 */
};

/* A frame of len bytes at `frame` and the header `vnet` that the kernel put before it. Packets of
 * IP protocol UDP, or of another that begins with two ports and is handed out whole. False: not of
 * that protocol, a fragment, lengths that do not agree, a super-frame of another protocol than UDP,
 * or a wrong checksum of UDP where neither header nor `is_sum_known` vouches for it. */
bool smt_af_parse(uint8_t protocol, const uint8_t vnet[SMT_AF_VNET_LEN], uint8_t *frame,
                  uint32_t len, bool is_sum_known, struct smt_af_seen *out);

#endif
