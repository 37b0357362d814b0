/* Reading Ethernet, IP and UDP headers.
 *
 * The socket's filter has looked at some of this before; it is looked at again here, because only
 * what is checked beside its use stays true. */
#include "dev/af_parse.h"

#include "base/bytes.h"

enum { FRAGMENT = 0x3fff, UDP_CSUM_AT = 6, PORTS_LEN = 4 }; /* more fragments, or an offset */

/* The UDP header and its payload within the len bytes at p. */
static bool udp_parse(uint8_t *p, uint32_t len, struct smt_af_seen *out)
{
    if (len < SMT_AF_UDP_LEN)
        return false;
    uint32_t udp_len = smt_get_be16(p + 4);
    if (udp_len <= SMT_AF_UDP_LEN || udp_len > len)
        return false;
    out->from.port = smt_get_be16(p);
    out->payload = p + SMT_AF_UDP_LEN;
    out->payload_len = udp_len - SMT_AF_UDP_LEN;
    return true;
}

/* A profile's own header: all of it belongs to the packet. */
static bool raw_parse(uint8_t *p, uint32_t len, struct smt_af_seen *out)
{
    if (len < PORTS_LEN)
        return false;
    out->from.port = smt_get_be16(p);
    out->payload = p;
    out->payload_len = len;
    return true;
}

static bool l4_parse(uint8_t protocol, uint8_t *p, uint32_t len, struct smt_af_seen *out)
{
    return protocol == SMT_AF_PROTO_UDP ? udp_parse(p, len, out) : raw_parse(p, len, out);
}

static bool ipv4_parse(uint8_t protocol, uint8_t *ip, uint32_t len, struct smt_af_seen *out)
{
    if (len < SMT_AF_IPV4_LEN)
        return false;
    uint32_t header_len = (ip[0] & 0xfu) * 4, total = smt_get_be16(ip + 2);
    if (ip[0] >> 4 != 4 || header_len < SMT_AF_IPV4_LEN || total > len || total < header_len ||
        ip[9] != protocol || (smt_get_be16(ip + 6) & FRAGMENT) != 0)
        return false;
    *out = (struct smt_af_seen){
        .from.ip = {[10] = 0xff, [11] = 0xff},
        .to_ip = {[10] = 0xff, [11] = 0xff},
        .ecn = ip[1] & 3,
        .ip_id = smt_get_be16(ip + 4),
    };
    memcpy(out->from.ip + 12, ip + 12, 4);
    memcpy(out->to_ip + 12, ip + 16, 4);
    return l4_parse(protocol, ip + header_len, total - header_len, out);
}

static bool ipv6_parse(uint8_t protocol, uint8_t *ip, uint32_t len, struct smt_af_seen *out)
{
    if (len < SMT_AF_IPV6_LEN)
        return false;
    uint32_t total = smt_get_be16(ip + 4);
    if (ip[0] >> 4 != 6 || total > len - SMT_AF_IPV6_LEN || ip[6] != protocol)
        return false;
    *out = (struct smt_af_seen){.ecn = ip[1] >> 4 & 3};
    memcpy(out->from.ip, ip + 8, 16);
    memcpy(out->to_ip, ip + 24, 16);
    return l4_parse(protocol, ip + SMT_AF_IPV6_LEN, total, out);
}

static uint64_t sum_of(const uint8_t *p, uint32_t len)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i + 1 < len; i += 2)
        sum += smt_get_be16(p + i);
    return len & 1 ? sum + ((uint64_t)p[len - 1] << 8) : sum;
}

static bool sum_is_good(const struct smt_af_seen *seen, bool is_ipv4)
{
    const uint8_t *udp = seen->payload - SMT_AF_UDP_LEN;
    if (smt_get_be16(udp + UDP_CSUM_AT) == 0)
        return is_ipv4; /* IPv4 alone may go without */
    uint32_t len = seen->payload_len + SMT_AF_UDP_LEN;
    uint32_t at = is_ipv4 ? 12 : 0;
    uint64_t sum = SMT_AF_PROTO_UDP + len + sum_of(udp, len) +
                   sum_of(seen->from.ip + at, 16 - at) + sum_of(seen->to_ip + at, 16 - at);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum == 0xffff;
}

bool smt_af_parse(uint8_t protocol, const uint8_t vnet[SMT_AF_VNET_LEN], uint8_t *frame,
                  uint32_t len, bool is_sum_known, struct smt_af_seen *out)
{
    if (len <= SMT_AF_ETH_LEN)
        return false;
    uint16_t type = smt_get_be16(frame + 12);
    uint8_t *ip = frame + SMT_AF_ETH_LEN;
    len -= SMT_AF_ETH_LEN;
    bool is_ipv4 = type == SMT_AF_TYPE_V4, is_udp = protocol == SMT_AF_PROTO_UDP;
    struct smt_af_seen seen;
    if (is_ipv4 ? !ipv4_parse(protocol, ip, len, &seen)
                : type != SMT_AF_TYPE_V6 || !ipv6_parse(protocol, ip, len, &seen))
        return false;
    uint8_t gso = vnet[1] & (uint8_t)~SMT_AF_VNET_GSO_ECN;
    uint16_t gso_size;
    memcpy(&gso_size, vnet + 4, sizeof(gso_size));
    if (gso == SMT_AF_VNET_GSO_UDP_L4 && gso_size > 0 && is_udp) {
        seen.seg_len = gso_size;
    } else if (gso == 0) {
        seen.seg_len = seen.payload_len;
        if (is_udp && (vnet[0] & (SMT_AF_VNET_NEEDS_CSUM | SMT_AF_VNET_DATA_VALID)) == 0 &&
            !is_sum_known && !sum_is_good(&seen, is_ipv4))
            return false;
    } else {
        return false;
    }
    *out = seen;
    return true;
}
