/* The pcap writer: see pcap.h. Plain write(2) from one buffer; records are never split between two
 * writes, so that a file of a killed process ends with a whole one. */
#include "dev/pcap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "dev/dev_impl.h"

enum {
    BUFFER_LEN = 256 << 10,
    FILE_HEAD_LEN = 24,
    RECORD_HEAD_LEN = 16,
    ETHER_LEN = 14,
    IPV4_LEN = 20,
    IPV6_LEN = 40,
    UDP_LEN = 8,
    LINKTYPE_ETHERNET = 1,
    SNAP_LEN = 1 << 18,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
    PROTO_UDP = 17,
    HOP_LIMIT = 64,
    IPV4_DONT_FRAGMENT = 0x4000,
};
#define MAGIC_NANOSECONDS 0xa1b23c4du

struct smt_pcap {
    int fd;
    bool is_failed;
    size_t len;
    uint8_t buf[BUFFER_LEN];
};

static_assert(BUFFER_LEN > RECORD_HEAD_LEN + ETHER_LEN + IPV6_LEN + UDP_LEN + 65535,
              "every record fits the buffer");

/* Host order, as the magic number tells the reader. */
static void put_host32(uint8_t *p, uint32_t v)
{
    memcpy(p, &v, sizeof(v));
}

/* Sum of big-endian 16-bit words, not yet folded. */
static uint64_t sum_words(uint64_t sum, const uint8_t *p, size_t len)
{
    size_t i = 0;
    for (; i + 1 < len; i += 2)
        sum += smt_get_be16(p + i);
    return i < len ? sum + ((uint64_t)p[i] << 8) : sum;
}

static uint16_t sum_fold(uint64_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static bool is_unspecified(const struct smt_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

static uint8_t *ether_put(uint8_t *p, uint16_t type)
{
    static const uint8_t macs[12] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
    memcpy(p, macs, sizeof(macs));
    smt_put_be16(p + 12, type);
    return p + ETHER_LEN;
}

static uint8_t *ipv4_put(uint8_t *p, const struct smt_addr *from, const struct smt_addr *to,
                         uint8_t tos, size_t udp_len)
{
    memset(p, 0, IPV4_LEN);
    p[0] = 0x45;
    p[1] = tos;
    smt_put_be16(p + 2, (uint16_t)(IPV4_LEN + udp_len));
    smt_put_be16(p + 6, IPV4_DONT_FRAGMENT);
    p[8] = HOP_LIMIT;
    p[9] = PROTO_UDP;
    memcpy(p + 12, from->ip + 12, 4);
    memcpy(p + 16, to->ip + 12, 4);
    smt_put_be16(p + 10, sum_fold(sum_words(0, p, IPV4_LEN)));
    return p + IPV4_LEN;
}

static uint8_t *ipv6_put(uint8_t *p, const struct smt_addr *from, const struct smt_addr *to,
                         uint8_t tos, size_t udp_len)
{
    smt_put_be32(p, 6u << 28 | (uint32_t)tos << 20);
    smt_put_be16(p + 4, (uint16_t)udp_len);
    p[6] = PROTO_UDP;
    p[7] = HOP_LIMIT;
    memcpy(p + 8, from->ip, 16);
    memcpy(p + 24, to->ip, 16);
    return p + IPV6_LEN;
}

/* `addrs` are the source and destination address as they stand in the IP header. */
static void udp_put(uint8_t *p, const uint8_t *addrs, size_t addrs_len, uint16_t from_port,
                    uint16_t to_port, const void *data, size_t len)
{
    uint16_t udp_len = (uint16_t)(UDP_LEN + len);
    smt_put_be16(p, from_port);
    smt_put_be16(p + 2, to_port);
    smt_put_be16(p + 4, udp_len);
    smt_put_be16(p + 6, 0);
    memcpy(p + UDP_LEN, data, len);
    uint64_t sum = sum_words(PROTO_UDP + (uint64_t)udp_len, addrs, addrs_len);
    uint16_t check = sum_fold(sum_words(sum, p, udp_len));
    smt_put_be16(p + 6, check != 0 ? check : 0xffff);
}

void smt_pcap_write(struct smt_pcap *p, uint64_t time_ns, const struct smt_addr *from,
                    const struct smt_addr *to, uint8_t tos, const void *data, size_t len)
{
    assert(len <= 65507);
    bool is_ipv4 = (smt_addr_is_ipv4(to) || is_unspecified(to)) &&
                   (smt_addr_is_ipv4(from) || is_unspecified(from));
    size_t udp_len = UDP_LEN + len;
    size_t frame_len = ETHER_LEN + (is_ipv4 ? IPV4_LEN : IPV6_LEN) + udp_len;
    if (p->len + RECORD_HEAD_LEN + frame_len > BUFFER_LEN && smt_pcap_flush(p) < 0)
        return;
    uint8_t *head = p->buf + p->len;
    put_host32(head, (uint32_t)(time_ns / SMT_SEC));
    put_host32(head + 4, (uint32_t)(time_ns % SMT_SEC));
    put_host32(head + 8, (uint32_t)frame_len);
    put_host32(head + 12, (uint32_t)frame_len);
    uint8_t *ip = ether_put(head + RECORD_HEAD_LEN, is_ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    if (is_ipv4) {
        uint8_t *udp = ipv4_put(ip, from, to, tos, udp_len);
        udp_put(udp, ip + 12, 8, from->port, to->port, data, len);
    } else {
        uint8_t *udp = ipv6_put(ip, from, to, tos, udp_len);
        udp_put(udp, ip + 8, 32, from->port, to->port, data, len);
    }
    p->len += RECORD_HEAD_LEN + frame_len;
}

int smt_pcap_flush(struct smt_pcap *p)
{
    size_t done = 0;
    while (!p->is_failed && done < p->len) {
        ssize_t r = write(p->fd, p->buf + done, p->len - done);
        if (r > 0)
            done += (size_t)r;
        else if (r == 0 || errno != EINTR)
            p->is_failed = true;
    }
    p->len = 0;
    return p->is_failed ? SMT_EFILE : 0;
}

int smt_pcap_open(const char *file, char *error_text, size_t error_text_len, struct smt_pcap **out)
{
    struct smt_pcap *p = smt_mem_alloc(sizeof(*p));
    if (p == NULL)
        return smt_dev_fail(error_text, error_text_len, SMT_ENOMEM, "no memory for a pcap file");
    p->fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (p->fd < 0) {
        int r = smt_dev_fail(error_text, error_text_len, SMT_EFILE, "pcap file \"%.180s\": %s",
                             file, strerror(errno));
        smt_mem_free(p);
        return r;
    }
    put_host32(p->buf, MAGIC_NANOSECONDS);
    uint16_t version[2] = {2, 4};
    memcpy(p->buf + 4, version, sizeof(version));
    put_host32(p->buf + 8, 0);
    put_host32(p->buf + 12, 0);
    put_host32(p->buf + 16, SNAP_LEN);
    put_host32(p->buf + 20, LINKTYPE_ETHERNET);
    p->len = FILE_HEAD_LEN;
    *out = p;
    return 0;
}

void smt_pcap_close(struct smt_pcap *p)
{
    if (p == NULL)
        return;
    (void)smt_pcap_flush(p);
    close(p->fd);
    smt_mem_free(p);
}
