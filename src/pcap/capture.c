/* The pcap reader: see capture.h. Everything in the file is a stranger's: each length is held
 * against what is left before it is used. */
#include "pcap/capture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"

enum {
    FILE_HEAD_LEN = 24,
    RECORD_HEAD_LEN = 16,
    LINK_ETHERNET = 1,
    LINK_RAW_OLD = 12,
    LINK_RAW = 101,
    LINK_COOKED = 113,
    LINK_IPV4 = 228,
    LINK_IPV6 = 229,
    ETHER_LEN = 14,
    COOKED_LEN = 16,
    VLAN_LEN = 4,
    TYPE_IPV4 = 0x0800,
    TYPE_ARP = 0x0806,
    TYPE_VLAN = 0x8100,
    TYPE_QINQ = 0x88a8,
    TYPE_IPV6 = 0x86dd,
    IPV4_LEN = 20,
    IPV6_LEN = 40,
    NEXT_FRAGMENT = 44,
};
#define MAGIC_MICRO 0xa1b2c3d4u
#define MAGIC_NANO 0xa1b23c4du
#define MAGIC_PCAPNG 0x0a0d0d0au

static uint32_t word(const struct smt_capture *c, size_t at)
{
    uint32_t v;
    memcpy(&v, c->bytes + at, sizeof(v));
    return c->is_swapped ? __builtin_bswap32(v) : v;
}

static int file_read(FILE *f, uint8_t **bytes, size_t *bytes_len)
{
    if (fseek(f, 0, SEEK_END) != 0)
        return -1;
    long len = ftell(f);
    if (len < 0 || fseek(f, 0, SEEK_SET) != 0)
        return -1;
    *bytes_len = (size_t)len;
    *bytes = smt_mem_alloc(*bytes_len);
    if (*bytes == NULL) {
        errno = ENOMEM;
        return -1;
    }
    return fread(*bytes, 1, *bytes_len, f) == *bytes_len ? 0 : -1;
}

static const char *head_parse(struct smt_capture *c)
{
    if (c->len < FILE_HEAD_LEN)
        return "is shorter than the head of a pcap file";
    uint32_t magic = word(c, 0);
    if (magic == MAGIC_PCAPNG)
        return "is a pcapng file; convert it (editcap -F pcap IN OUT)";
    c->is_swapped =
        magic == __builtin_bswap32(MAGIC_MICRO) || magic == __builtin_bswap32(MAGIC_NANO);
    magic = word(c, 0);
    if (magic != MAGIC_MICRO && magic != MAGIC_NANO)
        return "is no pcap file";
    c->is_nano = magic == MAGIC_NANO;
    c->link = word(c, 20) & 0x0fffffff;
    static const uint32_t known[] = {LINK_ETHERNET, LINK_RAW_OLD, LINK_RAW,
                                     LINK_COOKED,   LINK_IPV4,    LINK_IPV6};
    for (size_t i = 0; i < SMT_ARRAY_LEN(known); i++)
        if (c->link == known[i])
            return NULL;
    return "has a link layer other than Ethernet, Linux cooked or raw IP";
}

int smt_capture_of_bytes(struct smt_capture *c, const char *name, uint8_t *bytes, size_t len,
                         char *error_text, size_t error_text_len)
{
    *c = (struct smt_capture){.bytes = bytes, .len = len};
    const char *fault = head_parse(c);
    if (fault != NULL) {
        snprintf(error_text, error_text_len, "%s %s", name, fault);
        return SMT_EFILE;
    }
    c->at = FILE_HEAD_LEN;
    return 0;
}

int smt_capture_open(struct smt_capture *c, const char *file, char *error_text,
                     size_t error_text_len)
{
    *c = (struct smt_capture){0};
    uint8_t *bytes = NULL;
    size_t len = 0;
    FILE *f = fopen(file, "rb");
    int r = f != NULL ? file_read(f, &bytes, &len) : -1;
    if (r < 0)
        snprintf(error_text, error_text_len, "%s: %s", file, strerror(errno));
    if (f != NULL)
        fclose(f);
    if (r < 0) {
        smt_mem_free(bytes);
        return SMT_EFILE;
    }
    return smt_capture_of_bytes(c, file, bytes, len, error_text, error_text_len);
}

void smt_capture_close(struct smt_capture *c)
{
    smt_mem_free(c->bytes);
    *c = (struct smt_capture){0};
}

static void ipv4_address(const uint8_t *p, struct smt_addr *out)
{
    out->ip[10] = out->ip[11] = 0xff;
    memcpy(out->ip + 12, p, 4);
}

static enum smt_cap_kind ipv4_parse(uint8_t *p, size_t len, struct smt_cap_packet *out)
{
    if (len < IPV4_LEN || p[0] >> 4 != 4)
        return SMT_CAP_CUT;
    size_t head = (size_t)(p[0] & 15) * 4, total = smt_get_be16(p + 2);
    if (head < IPV4_LEN || total < head || total > len)
        return SMT_CAP_CUT;
    out->tos = p[1];
    out->ip_id = smt_get_be16(p + 4);
    uint16_t fragment = smt_get_be16(p + 6);
    out->dont_fragment = (fragment & 0x4000) != 0;
    out->protocol = p[9];
    ipv4_address(p + 12, &out->from);
    ipv4_address(p + 16, &out->to);
    out->data = p + head;
    out->len = (uint32_t)(total - head);
    return fragment & 0x3fff ? SMT_CAP_FRAGMENT : SMT_CAP_IP;
}

static enum smt_cap_kind ipv6_parse(uint8_t *p, size_t len, struct smt_cap_packet *out)
{
    if (len < IPV6_LEN || p[0] >> 4 != 6)
        return SMT_CAP_CUT;
    size_t payload = smt_get_be16(p + 4);
    if (payload > len - IPV6_LEN)
        return SMT_CAP_CUT;
    out->tos = (uint8_t)(smt_get_be16(p) >> 4);
    out->dont_fragment = true;
    out->protocol = p[6];
    memcpy(out->from.ip, p + 8, 16);
    memcpy(out->to.ip, p + 24, 16);
    out->data = p + IPV6_LEN;
    out->len = (uint32_t)payload;
    return out->protocol == NEXT_FRAGMENT ? SMT_CAP_FRAGMENT : SMT_CAP_IP;
}

static enum smt_cap_kind by_type(uint16_t type, uint8_t *p, size_t len, struct smt_cap_packet *out)
{
    switch (type) {
    case TYPE_IPV4:
        return ipv4_parse(p, len, out);
    case TYPE_IPV6:
        return ipv6_parse(p, len, out);
    case TYPE_ARP:
        return SMT_CAP_ARP;
    default:
        return SMT_CAP_OTHER;
    }
}

static enum smt_cap_kind frame_parse(uint32_t link, uint8_t *p, size_t len,
                                     struct smt_cap_packet *out)
{
    size_t at;
    switch (link) {
    case LINK_ETHERNET:
        at = ETHER_LEN;
        break;
    case LINK_COOKED:
        at = COOKED_LEN;
        break;
    default:
        if (len == 0)
            return SMT_CAP_CUT;
        return p[0] >> 4 == 6 ? ipv6_parse(p, len, out) : ipv4_parse(p, len, out);
    }
    if (len < at)
        return SMT_CAP_CUT;
    uint16_t type = smt_get_be16(p + at - 2);
    while (type == TYPE_VLAN || type == TYPE_QINQ) {
        if (len - at < VLAN_LEN)
            return SMT_CAP_CUT;
        type = smt_get_be16(p + at + 2);
        at += VLAN_LEN;
    }
    return by_type(type, p + at, len - at, out);
}

int smt_capture_next(struct smt_capture *c, struct smt_cap_packet *out)
{
    size_t left = c->len - c->at;
    if (left == 0)
        return 0;
    if (left < RECORD_HEAD_LEN)
        return SMT_EMALFORMED;
    uint32_t have = word(c, c->at + 8), was = word(c, c->at + 12);
    if (have > left - RECORD_HEAD_LEN)
        return SMT_EMALFORMED;
    *out = (struct smt_cap_packet){
        .number = ++c->number,
        .time_ns = word(c, c->at) * SMT_SEC + word(c, c->at + 4) * (c->is_nano ? 1 : SMT_USEC),
    };
    uint8_t *frame = c->bytes + c->at + RECORD_HEAD_LEN;
    c->at += RECORD_HEAD_LEN + have;
    out->kind = frame_parse(c->link, frame, have, out);
    if (have < was && out->kind == SMT_CAP_OTHER)
        out->kind = SMT_CAP_CUT;
    return 1;
}
