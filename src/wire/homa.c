/* Packets of the kernel's Homa (homa.h): one row per format and kind, and one encoder and one
 * decoder that walk it.
 *
 * A row lists where each field stands on the wire, how wide it is, and where it lives in struct
 * smt_homa_pkt. What does not fit a list is in code: the header common to all kinds, the two words
 * that may hold DATA's offset, the list of acks. Lengths and the arithmetic of DATA are checked
 * here; whether an RPC exists, and what a packet does to it, is core's.
 *
 * The formats differ in where the type stands (11, where TCP has reserved bits, so that a NIC may
 * take the packet for TCP; 13 before), in their acks, and in DATA. */
#include "wire/homa.h"

#include <string.h>

enum width { END, W8, FLAG, W16, W32, W64 };

struct field {
    uint8_t width;
    uint8_t at;
    uint8_t member;
};

enum { MAX_FIELDS = 10 };

struct smt_homa_kind {
    uint8_t len;
    struct field fields[MAX_FIELDS + 1];
};

enum {
    OFF_SPORT = 0,
    OFF_DPORT = 2,
    OFF_SEQUENCE = 4,
    OFF_TYPE = 11,
    OFF_DOFF = 12,
    OFF_FLAGS = 13,
    OFF_SMT1_TYPE = 13,
    OFF_SMT1_OFFSET_HIGH = 14,
    OFF_URGENT = 18,
    OFF_SMT1_OFFSET_LOW = 18,
    OFF_SENDER_ID = 20,
    COMMON_LEN = 28,
    OFF_SEGMENT = 52,
    OFF_DATA_ACK = 36,
    OFF_N_ACKS = 28,
    OFF_ACKS = 30,
    GRANT_LEN = 33,
    RESEND_LEN = 37,
    CUTOFFS_LEN = 62,
    FLAGS_MARK = 0x06, /* SYN and RST: what tells a hijacked packet from TCP */
    URGENT_MARK = 0xb97d,
    DOFF_DATA = 0xe0,         /* up to the payload */
    DOFF_DATA_SEGMENT = 0xd0, /* up to the segment word: what a NIC repeats */
    DOFF_SMT1_DATA = 0xa0,
};

#define SEQUENCE_HOLDS_IT 0xffffffffu

#define F(w, at, m)                                                                                \
    {                                                                                              \
        w, at, offsetof(struct smt_homa_pkt, m)                                                    \
    }
#define CUTOFFS_FIELDS                                                                             \
    F(W32, 28, cutoffs[0]), F(W32, 32, cutoffs[1]), F(W32, 36, cutoffs[2]),                        \
        F(W32, 40, cutoffs[3]), F(W32, 44, cutoffs[4]), F(W32, 48, cutoffs[5]),                    \
        F(W32, 52, cutoffs[6]), F(W32, 56, cutoffs[7]), F(W16, 60, cutoff_version)
#define ROW(type) [SMT_HOMA_##type - SMT_HOMA_DATA]

/* Those that are the same in all formats. */
#define COMMON_ROWS                                                                                \
    ROW(RESEND) = {RESEND_LEN, {F(W32, 28, offset), F(W32, 32, length), F(W8, 36, prio)}},         \
    ROW(UNKNOWN) = {COMMON_LEN, {{END, 0, 0}}}, ROW(BUSY) = {COMMON_LEN, {{END, 0, 0}}},           \
    ROW(CUTOFFS) = {CUTOFFS_LEN, {CUTOFFS_FIELDS}}, ROW(FREEZE) = {COMMON_LEN, {{END, 0, 0}}},     \
    ROW(NEED_ACK) = {COMMON_LEN, {{END, 0, 0}}}

static const struct smt_homa_kind main_kinds[SMT_HOMA_N_TYPES] = {
    ROW(DATA) = {56,
                 {F(W32, 28, message_len), F(W32, 32, incoming), F(W64, 36, acks[0].client_id),
                  F(W16, 44, acks[0].server_port), F(W16, 46, cutoff_version),
                  F(FLAG, 48, retransmit)}},
    ROW(GRANT) = {GRANT_LEN, {F(W32, 28, offset), F(W8, 32, prio)}},
    ROW(ACK) = {OFF_ACKS + SMT_HOMA_MAX_ACKS * 10, {{END, 0, 0}}},
    COMMON_ROWS,
};

static const struct smt_homa_kind v6_1_kinds[SMT_HOMA_N_TYPES] = {
    ROW(DATA) = {56,
                 {F(W32, 28, message_len), F(W32, 32, incoming), F(W64, 36, acks[0].client_id),
                  F(W16, 44, acks[0].client_port), F(W16, 46, acks[0].server_port),
                  F(W16, 48, cutoff_version), F(FLAG, 50, retransmit)}},
    ROW(GRANT) = {GRANT_LEN + 1, {F(W32, 28, offset), F(W8, 32, prio), F(FLAG, 33, resend_all)}},
    ROW(ACK) = {OFF_ACKS + SMT_HOMA_MAX_ACKS * 12, {{END, 0, 0}}},
    COMMON_ROWS,
};

static const struct smt_homa_kind smt1_kinds[SMT_HOMA_N_TYPES] = {
    ROW(DATA) = {40,
                 {F(W32, 28, message_len), F(W32, 32, incoming), F(W16, 36, cutoff_version),
                  F(FLAG, 38, retransmit), F(W8, 39, index)}},
    ROW(GRANT) = {GRANT_LEN, {F(W32, 28, offset), F(W8, 32, prio)}},
    ROW(ACK) = {OFF_ACKS + SMT_HOMA_MAX_ACKS * 12, {{END, 0, 0}}},
    COMMON_ROWS,
};

const struct smt_homa_format smt_homa_main = {
    .name = "homa-main",
    .kinds = main_kinds,
    .ip_protocol = 146,
    .data_hdr_len = 56,
    .data_overhead = 56,
    .ack_len = 10,
    .ipv6_class_shift = 5,
    .control_doff = 0x50,
    .long_grants = true,
    .tcp_like = true,
    .resend_all = true,
    .ipv6 = true,
};

const struct smt_homa_format smt_homa_6_1 = {
    .name = "homa-6.1",
    .kinds = v6_1_kinds,
    .ip_protocol = 253,
    .data_hdr_len = 56,
    .data_overhead = 56,
    .ack_len = 12,
    .ipv6_class_shift = 4,
    .tcp_like = true,
    .knows_client_port = true,
    .ipv6 = true,
};

const struct smt_homa_format smt_homa_smt1 = {
    .name = "smt1",
    .kinds = smt1_kinds,
    .ip_protocol = 253,
    .data_hdr_len = 40,
    .data_overhead = 60,
    .ack_len = 12,
    .ipv6_class_shift = 4,
    .knows_client_port = true,
    .records = true,
};

static_assert(sizeof(struct smt_homa_pkt) <= UINT8_MAX, "struct field.member is one byte");
static_assert(OFF_ACKS + SMT_HOMA_MAX_ACKS * 12 == SMT_HOMA_MAX_HDR_LEN, "ACK is the longest");
static_assert(sizeof(bool) == 1, "FLAG writes a byte");

static const struct smt_homa_kind *kind_of(const struct smt_homa_format *f, uint8_t type)
{
    if (type < SMT_HOMA_DATA || type >= SMT_HOMA_DATA + SMT_HOMA_N_TYPES)
        return NULL;
    return &f->kinds[type - SMT_HOMA_DATA];
}

const char *smt_homa_type_name(uint8_t type)
{
    static const char *const names[SMT_HOMA_N_TYPES] = {
        ROW(DATA) = "DATA",       ROW(GRANT) = "GRANT", ROW(RESEND) = "RESEND",
        ROW(UNKNOWN) = "UNKNOWN", ROW(BUSY) = "BUSY",   ROW(CUTOFFS) = "CUTOFFS",
        ROW(FREEZE) = "FREEZE",   ROW(ACK) = "ACK",     ROW(NEED_ACK) = "NEED_ACK",
    };
    if (type < SMT_HOMA_DATA || type >= SMT_HOMA_DATA + SMT_HOMA_N_TYPES)
        return NULL;
    return names[type - SMT_HOMA_DATA];
}

size_t smt_homa_len(const struct smt_homa_format *f, uint8_t type)
{
    const struct smt_homa_kind *kind = kind_of(f, type);
    return kind ? kind->len : 0;
}

static void fields_decode(const struct field *fd, const uint8_t *pkt, struct smt_homa_pkt *out)
{
    for (; fd->width != END; fd++) {
        void *member = (char *)out + fd->member;
        const uint8_t *p = pkt + fd->at;
        switch (fd->width) {
        case W8:
            *(uint8_t *)member = *p;
            break;
        case FLAG:
            *(bool *)member = *p != 0;
            break;
        case W16:
            *(uint16_t *)member = smt_get_be16(p);
            break;
        case W32:
            *(uint32_t *)member = smt_get_be32(p);
            break;
        default:
            *(uint64_t *)member = smt_get_be64(p);
            break;
        }
    }
}

static void fields_encode(const struct field *fd, const struct smt_homa_pkt *p, uint8_t *out)
{
    for (; fd->width != END; fd++) {
        const void *member = (const char *)p + fd->member;
        uint8_t *to = out + fd->at;
        switch (fd->width) {
        case W8:
            *to = *(const uint8_t *)member;
            break;
        case FLAG:
            *to = *(const bool *)member;
            break;
        case W16:
            smt_put_be16(to, *(const uint16_t *)member);
            break;
        case W32:
            smt_put_be32(to, *(const uint32_t *)member);
            break;
        default:
            smt_put_be64(to, *(const uint64_t *)member);
            break;
        }
    }
}

static void offset_decode(const struct smt_homa_format *f, const uint8_t *pkt,
                          struct smt_homa_pkt *out)
{
    if (f->records) {
        out->offset = (uint32_t)smt_get_be16(pkt + OFF_SMT1_OFFSET_HIGH) << 16 |
                      smt_get_be16(pkt + OFF_SMT1_OFFSET_LOW);
        return;
    }
    uint32_t sequence = smt_get_be32(pkt + OFF_SEQUENCE);
    uint32_t segment = smt_get_be32(pkt + OFF_SEGMENT);
    if (segment == SEQUENCE_HOLDS_IT) {
        out->place = SMT_HOMA_IN_SEQUENCE;
        out->offset = sequence;
    } else {
        out->place = pkt[OFF_DOFF] == DOFF_DATA_SEGMENT || segment != sequence ? SMT_HOMA_IN_SEGMENT
                                                                               : SMT_HOMA_IN_BOTH;
        out->offset = segment;
        out->frame_offset = sequence;
    }
}

static int data_decode(const struct smt_homa_format *f, const uint8_t *pkt, size_t len,
                       struct smt_homa_pkt *out)
{
    offset_decode(f, pkt, out);
    out->payload = pkt + f->data_hdr_len;
    out->payload_len = (uint32_t)(len - f->data_hdr_len);
    out->n_acks = out->acks[0].client_id != 0;
    if (!out->n_acks)
        out->acks[0] = (struct smt_homa_ack){0};
    if (out->message_len == 0 || out->message_len > SMT_HOMA_MAX_MESSAGE ||
        out->offset > out->message_len)
        return SMT_EMALFORMED;
    uint32_t room = out->message_len - out->offset;
    if (f->records ? room == 0 || out->payload_len == 0 : out->payload_len > room)
        return SMT_EMALFORMED;
    return 0;
}

static void acks_decode(const struct smt_homa_format *f, const uint8_t *pkt,
                        struct smt_homa_pkt *out)
{
    uint16_t n = smt_get_be16(pkt + OFF_N_ACKS);
    out->n_acks = n < SMT_HOMA_MAX_ACKS ? (uint8_t)n : SMT_HOMA_MAX_ACKS;
    for (unsigned i = 0; i < out->n_acks; i++) {
        const uint8_t *p = pkt + OFF_ACKS + i * f->ack_len;
        out->acks[i].client_id = smt_get_be64(p);
        if (f->knows_client_port)
            out->acks[i].client_port = smt_get_be16(p + 8);
        out->acks[i].server_port = smt_get_be16(p + f->ack_len - 2);
    }
}

int smt_homa_decode(const struct smt_homa_format *f, const uint8_t *pkt, size_t len,
                    struct smt_homa_pkt *out)
{
    if (len < COMMON_LEN || len > UINT16_MAX)
        return SMT_EMALFORMED;
    *out = (struct smt_homa_pkt){
        .sport = smt_get_be16(pkt + OFF_SPORT),
        .dport = smt_get_be16(pkt + OFF_DPORT),
        .type = pkt[f->tcp_like ? OFF_TYPE : OFF_SMT1_TYPE],
        .sender_id = smt_get_be64(pkt + OFF_SENDER_ID),
    };
    const struct smt_homa_kind *kind = kind_of(f, out->type);
    if (!kind || len < kind->len)
        return SMT_EMALFORMED;
    fields_decode(kind->fields, pkt, out);
    switch (out->type) {
    case SMT_HOMA_DATA:
        return data_decode(f, pkt, len, out);
    case SMT_HOMA_ACK:
        acks_decode(f, pkt, out);
        return 0;
    case SMT_HOMA_GRANT:
        out->long_grant = f->long_grants && len > GRANT_LEN;
        return 0;
    default:
        return 0;
    }
}

static void offset_encode(const struct smt_homa_format *f, const struct smt_homa_pkt *p,
                          uint8_t *out)
{
    if (f->records) {
        out[OFF_DOFF] = DOFF_SMT1_DATA;
        smt_put_be16(out + OFF_SMT1_OFFSET_HIGH, (uint16_t)(p->offset >> 16));
        smt_put_be16(out + OFF_SMT1_OFFSET_LOW, (uint16_t)p->offset);
        return;
    }
    bool in_segment = p->place == SMT_HOMA_IN_SEGMENT;
    out[OFF_DOFF] = in_segment ? DOFF_DATA_SEGMENT : DOFF_DATA;
    smt_put_be32(out + OFF_SEQUENCE, in_segment ? p->frame_offset : p->offset);
    smt_put_be32(out + OFF_SEGMENT,
                 p->place == SMT_HOMA_IN_SEQUENCE ? SEQUENCE_HOLDS_IT : p->offset);
}

static void acks_encode(const struct smt_homa_format *f, const struct smt_homa_pkt *p, uint8_t *out)
{
    assert(p->n_acks <= SMT_HOMA_MAX_ACKS);
    smt_put_be16(out + OFF_N_ACKS, p->n_acks);
    for (unsigned i = 0; i < p->n_acks; i++) {
        uint8_t *to = out + OFF_ACKS + i * f->ack_len;
        smt_put_be64(to, p->acks[i].client_id);
        if (f->knows_client_port)
            smt_put_be16(to + 8, p->acks[i].client_port);
        smt_put_be16(to + f->ack_len - 2, p->acks[i].server_port);
    }
}

size_t smt_homa_encode(const struct smt_homa_format *f, const struct smt_homa_pkt *p, uint8_t *out)
{
    const struct smt_homa_kind *kind = kind_of(f, p->type);
    assert(kind);
    memset(out, 0, kind->len);
    smt_put_be16(out + OFF_SPORT, p->sport);
    smt_put_be16(out + OFF_DPORT, p->dport);
    smt_put_be64(out + OFF_SENDER_ID, p->sender_id);
    out[f->tcp_like ? OFF_TYPE : OFF_SMT1_TYPE] = p->type;
    if (f->tcp_like) {
        out[OFF_FLAGS] = FLAGS_MARK;
        smt_put_be16(out + OFF_URGENT, URGENT_MARK);
    }
    fields_encode(kind->fields, p, out);
    out[OFF_DOFF] = f->control_doff;
    size_t len = kind->len;
    switch (p->type) {
    case SMT_HOMA_DATA:
        offset_encode(f, p, out);
        if (!f->records && p->n_acks == 0)
            memset(out + OFF_DATA_ACK, 0, f->ack_len);
        break;
    case SMT_HOMA_ACK:
        acks_encode(f, p, out);
        break;
    case SMT_HOMA_GRANT:
        if (f->long_grants && p->long_grant)
            out[len++] = 0;
        break;
    default:
        break;
    }
    return len;
}
