/* Frames made of a header and a payload: cut at mss, lengths, identification and checksums written.
 * Of a header after IP only those of UDP and TCP are touched; all others are copied as they are. */
#include <string.h>

#include "model.h"

enum { TCP = 6, UDP = 17 };

uint32_t mm_sum(uint32_t sum, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i + 1 < len; i += 2) {
        sum += (uint32_t)p[i] << 8 | p[i + 1];
        if (sum >> 30)
            sum = (sum & 0xffff) + (sum >> 16);
    }
    if (len % 2)
        sum += (uint32_t)p[len - 1] << 8;
    return sum;
}

uint16_t mm_fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void be16_put(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static uint32_t be32_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Where the parts of a frame's headers are; ip 0: not IP. */
struct shape {
    uint32_t ip, l4;
    uint8_t version, protocol;
};

static struct shape shape_of(const uint8_t *h, uint32_t len)
{
    struct shape s = {0};
    if (len >= 34 && h[12] == 0x08 && h[13] == 0x00 && h[14] >> 4 == 4 && (h[14] & 15) >= 5) {
        s = (struct shape){14, 14 + 4 * (h[14] & 15u), 4, h[14 + 9]};
    } else if (len >= 54 && h[12] == 0x86 && h[13] == 0xdd && h[14] >> 4 == 6) {
        s = (struct shape){14, 54, 6, h[14 + 6]};
    }
    return s;
}

/* UDP's or TCP's checksum over the pseudo header and all that follows. */
static void l4_sum_put(uint8_t *f, uint32_t len, const struct shape *s)
{
    uint32_t at = s->l4 + (s->protocol == UDP ? 6 : 16), l4_len = len - s->l4;
    be16_put(f + at, 0);
    uint32_t sum = s->version == 4 ? mm_sum(0, f + s->ip + 12, 8) : mm_sum(0, f + s->ip + 8, 32);
    sum += s->protocol + l4_len;
    uint16_t v = (uint16_t)~mm_fold(mm_sum(mm_fold(sum), f + s->l4, l4_len));
    be16_put(f + at, v == 0 && s->protocol == UDP ? 0xffff : v);
}

/* One packet of an LSO: number `i`, which begins `offset` bytes into the payload. */
static void lso_header_write(uint8_t *f, uint32_t len, const struct shape *s, uint32_t i,
                             uint32_t offset, bool is_last)
{
    if (s->version == 4) {
        be16_put(f + s->ip + 2, len - s->ip);
        be16_put(f + s->ip + 4, ((uint32_t)f[s->ip + 4] << 8 | f[s->ip + 5]) + i);
    } else {
        be16_put(f + s->ip + 4, len - s->l4);
    }
    if (s->protocol == UDP)
        be16_put(f + s->l4 + 4, len - s->l4);
    if (s->protocol != TCP)
        return;
    uint32_t seq = be32_at(f + s->l4 + 4) + offset;
    be16_put(f + s->l4 + 4, seq >> 16);
    be16_put(f + s->l4 + 6, seq);
    if (!is_last)
        f[s->l4 + 13] &= (uint8_t)~0x09; /* FIN, PSH */
}

static void sums_write(uint8_t *f, uint32_t len, const struct shape *s, uint8_t cs_flags)
{
    if (s->version == 4 && cs_flags & MLX5_ETH_WQE_L3_CSUM) {
        be16_put(f + s->ip + 10, 0);
        be16_put(f + s->ip + 10, (uint16_t)~mm_fold(mm_sum(0, f + s->ip, s->l4 - s->ip)));
    }
    if (cs_flags & MLX5_ETH_WQE_L4_CSUM && (s->protocol == UDP || s->protocol == TCP) &&
        len >= s->l4 + (s->protocol == UDP ? 8 : 20))
        l4_sum_put(f, len, s);
}

static bool lso_fits(const struct mm_packet *p, const struct shape *s)
{
    if (s->ip == 0)
        return mm_complain("eth.inline_hdr", "LSO of what is not IPv4 or IPv6");
    if (s->version == 4 && !(p->cs_flags & MLX5_ETH_WQE_L3_CSUM))
        return mm_complain("eth.cs_flags", "LSO over IPv4 without its checksum");
    if (s->protocol == UDP && p->header_len != s->l4 + 8)
        return mm_complain("eth.inline_hdr_sz", "%u: the UDP header ends at %u", p->header_len,
                           s->l4 + 8);
    if (s->protocol == UDP && !(p->cs_flags & MLX5_ETH_WQE_L4_CSUM) &&
        (s->version == 6 || p->header[s->l4 + 6] != 0 || p->header[s->l4 + 7] != 0))
        return mm_complain("eth.cs_flags", "LSO of UDP with a checksum nobody computes");
    return true;
}

bool mm_packet_send(struct mm_dev *dev, const struct mm_packet *p)
{
    uint8_t frame[MM_FRAME_LEN];
    struct shape s = shape_of(p->header, p->header_len);
    if (p->mss == 0) {
        uint32_t len = p->header_len + p->payload_len;
        memcpy(frame, p->header, p->header_len);
        memcpy(frame + p->header_len, p->payload, p->payload_len);
        s = shape_of(frame, len);
        if (s.ip != 0)
            sums_write(frame, len, &s, p->cs_flags);
        mm_net_send(dev, frame, len);
        return true;
    }
    if (!lso_fits(p, &s))
        return false;
    for (uint32_t i = 0, offset = 0; offset < p->payload_len; i++, offset += p->mss) {
        uint32_t n = p->payload_len - offset < p->mss ? p->payload_len - offset : p->mss;
        memcpy(frame, p->header, p->header_len);
        memcpy(frame + p->header_len, p->payload + offset, n);
        lso_header_write(frame, p->header_len + n, &s, i, offset, offset + n == p->payload_len);
        sums_write(frame, p->header_len + n, &s, p->cs_flags);
        mm_net_send(dev, frame, p->header_len + n);
    }
    return true;
}
