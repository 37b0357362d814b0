/* The packet that carries a message whole: nearly all of them do. Every byte before its data has a
 * fixed place, so that it can be read and written as one struct, in big-endian order. hdr.c,
 * record.c and inner.c decode and encode any packet; this is the same format (docs/wire.md 2 and
 * 3), with the same tests, for the path on which instructions count. */
#ifndef SMT_WIRE_SINGLE_H
#define SMT_WIRE_SINGLE_H

#include "wire/wire.h"

/* In the clear: header and record head. */
struct smt_single {
    uint16_t sport, dport;
    uint32_t offset, message_len;
    uint8_t doff, kind, version, epoch;
    uint32_t zero;
    uint64_t session_id, rpc_id;
    uint32_t seal;
    uint16_t record_len, slice_len;
    uint8_t type;
    uint16_t tls_version, length;
    uint64_t record_no;
} __attribute__((packed));

/* Sealed behind it, followed by frames and the message. */
struct smt_single_inner {
    uint8_t what, flags;
    uint16_t frames_len;
    uint32_t offset, message_len, id_high;
    uint64_t low_water, done;
    uint32_t unsched;
    uint16_t cutoffs_version, zero;
} __attribute__((packed));

struct smt_single_packet {
    struct smt_single clear;
    struct smt_single_inner inner;
} __attribute__((packed));

enum {
    SMT_SINGLE_LEN = SMT_DATA_HDR_LEN + SMT_RECORD_HEAD_LEN,
    SMT_SINGLE_INNER_LEN = SMT_INNER_LEN + SMT_INNER_EXT_LEN,
    SMT_SINGLE_TYPE = 0x17,
    SMT_SINGLE_TLS = 0x0303,
};

static_assert(sizeof(struct smt_single) == SMT_SINGLE_LEN, "header and record head");
static_assert(sizeof(struct smt_single_inner) == SMT_SINGLE_INNER_LEN, "head and extension");

/* The number of a record sealed for the first time under `id`; and as much of it as the upper half
 * of the id says, to which the lower half adds the rest. */
static inline uint64_t smt_single_number_high(uint64_t id)
{
    return smt_data_record_no(id >> 32 << 32, 0);
}

static inline uint64_t smt_single_number(uint64_t high, uint64_t id)
{
    return high | id << 32 >> 8;
}

/* Where the lower half of the id stands in the number, as in the id, once the upper half and zeros
 * are in their places. */
static inline void smt_single_ids_put(struct smt_single *s, uint64_t id)
{
    uint64_t id_be = SMT_BSWAP_BE64(id);
    s->rpc_id = id_be;
    memcpy((uint8_t *)s + offsetof(struct smt_single, record_no) + 1,
           (const uint8_t *)s + offsetof(struct smt_single, rpc_id) + 4, 4);
}

static inline bool smt_single_number_fits(const struct smt_single *s)
{
    return SMT_BSWAP_BE64(s->record_no) == smt_data_record_no(SMT_BSWAP_BE64(s->rpc_id), 0);
}

/* Is it such a packet, sent for the first time, as far as the clear bytes say? False also for what
 * is malformed: the decoders say why. *plain_len: of its record. */
static inline bool smt_single_decode(const uint8_t *pkt, size_t len, size_t *plain_len)
{
    const struct smt_single *s = (const struct smt_single *)pkt;
    if (len < SMT_SINGLE_LEN + SMT_SINGLE_INNER_LEN + 16)
        return false;
    size_t record_len = SMT_BSWAP_BE16(s->record_len);
    uint32_t message_len = SMT_BSWAP_BE32(s->message_len);
    uint64_t id = SMT_BSWAP_BE64(s->rpc_id);
    *plain_len = record_len - SMT_RECORD_OVERHEAD;
    return s->kind == SMT_KIND_DATA && s->version == SMT_WIRE_VERSION &&
           s->doff == SMT_DATA_HDR_LEN << 2 && s->offset == 0 &&
           s->slice_len == s->record_len && record_len <= len - SMT_DATA_HDR_LEN &&
           record_len >= SMT_RECORD_OVERHEAD + SMT_SINGLE_INNER_LEN + (size_t)message_len &&
           record_len <= SMT_RECORD_OVERHEAD + SMT_RECORD_MAX_PLAIN &&
           (id & ~(SMT_ID_ROLE | SMT_ID_MASK)) == 0 && s->seal == 0 &&
           s->type == SMT_SINGLE_TYPE && s->tls_version == SMT_SINGLE_TLS &&
           SMT_BSWAP_BE16(s->length) == record_len - 5 && smt_single_number_fits(s);
}

static inline uint64_t smt_single_word(const struct smt_single *s, size_t at)
{
    uint64_t v;
    memcpy(&v, (const uint8_t *)s + at, sizeof(v));
    return v;
}

/* The same header but for the low half of the id and the record number? What decoding says of one
 * it says of the other, then, if its packet is as long and its number fits its id. By words that
 * overlap: all of the 49 bytes but 32 to 35. */
static inline bool smt_single_is_alike(const struct smt_single *a, const struct smt_single *b)
{
    static_assert(offsetof(struct smt_single, rpc_id) == 28 &&
                      offsetof(struct smt_single, seal) == 36 &&
                      offsetof(struct smt_single, record_no) == 49,
                  "where the words lie");
    return ((smt_single_word(a, 0) ^ smt_single_word(b, 0)) |
            (smt_single_word(a, 8) ^ smt_single_word(b, 8)) |
            (smt_single_word(a, 16) ^ smt_single_word(b, 16)) |
            (smt_single_word(a, 24) ^ smt_single_word(b, 24)) |
            (smt_single_word(a, 36) ^ smt_single_word(b, 36)) |
            (smt_single_word(a, 41) ^ smt_single_word(b, 41))) == 0;
}

/* Opened: does it say the same, and does its message end where the record does? */
static inline bool smt_single_agrees(const struct smt_single *s, const struct smt_single_inner *in,
                                     size_t plain_len)
{
    return in->offset == 0 && in->message_len == s->message_len &&
           memcmp(&in->id_high, &s->rpc_id, 4) == 0 && (in->flags & SMT_INNER_EXT) != 0 &&
           SMT_SINGLE_INNER_LEN + (size_t)SMT_BSWAP_BE16(in->frames_len) +
                   SMT_BSWAP_BE32(in->message_len) == plain_len;
}

/* How a head of the kind `what` begins with which nothing rides along, in a record of plain_len
 * bytes: its first four as they lie in memory. No value of four bytes where such a record cannot
 * hold a message of that length alone. */
static inline uint64_t smt_single_usual_head(size_t plain_len, uint32_t message_len, uint8_t what)
{
    const uint8_t begin[4] = {what, SMT_INNER_EXT, 0, 0};
    uint32_t head;
    memcpy(&head, begin, sizeof(head));
    return plain_len == SMT_SINGLE_INNER_LEN + (size_t)message_len ? head : UINT64_MAX;
}

/* As smt_single_agrees, in three comparisons, of one that begins so. */
static inline bool smt_single_is_usual(const struct smt_single *s,
                                       const struct smt_single_inner *in, uint64_t head)
{
    uint32_t begin;
    memcpy(&begin, &in->what, sizeof(begin));
    return begin == head && memcmp(&in->offset, &s->offset, 8) == 0 &&
           memcmp(&in->id_high, &s->rpc_id, 4) == 0;
}

#endif
