/* Records of the kernel's SMT module: the arithmetic of smt1.h, nothing that has a state.
 *
 * A record is  head 13 | header 20 | data | header 20 | data … | tag 16  and every packet takes
 * M + 20 bytes of it, so that packet i begins with header i (but for the head before the first).
 * Hence the first packet has M - 13 bytes of data, the others M; when the last one leaves less
 * than 16 bytes free, the tag runs over into a packet that has no segment header. Everything
 * below follows from data_len and M. */
#include "wire/smt1.h"

#include "wire/wire.h"

enum {
    HEAD_LEN = SMT_RECORD_HEAD_LEN,
    TLS_LEN_BEFORE = 5, /* type, version, length itself */
    NUMBER_LEN = 8,
    IP_HDR_LEN = 20,
    MAX_MTU = 65535,
    OFF_SEG_OFFSET = 0,
    OFF_SEG_LEN = 4,
    OFF_SEG_ACK_ID = 8,
    OFF_SEG_ACK_CLIENT = 16,
    OFF_SEG_ACK_SERVER = 18,
    BOTH_HDRS = SMT_SMT1_HDR_LEN + SMT_SMT1_SEGMENT_LEN,
};

static_assert(SMT_SMT1_OVERHEAD == HEAD_LEN + SMT_SMT1_TAG_LEN, "head and tag");
static_assert(OFF_SEG_ACK_SERVER + 2 == SMT_SMT1_SEGMENT_LEN, "offset, length, ack of 12");

int smt_smt1_geom_init(struct smt_smt1_geom *g, uint32_t mtu, uint32_t max_gso)
{
    if (mtu <= IP_HDR_LEN + BOTH_HDRS + SMT_SMT1_OVERHEAD || mtu > MAX_MTU || max_gso > MAX_MTU)
        return SMT_EINVAL;
    uint32_t repeated = IP_HDR_LEN + SMT_SMT1_HDR_LEN;
    uint32_t n = max_gso > mtu ? (max_gso - repeated) / (mtu - repeated) : 1;
    g->max_data = mtu - IP_HDR_LEN - BOTH_HDRS;
    g->slice_len = g->max_data + SMT_SMT1_SEGMENT_LEN;
    g->n_packets = n;
    g->record_data = n * g->max_data - SMT_SMT1_OVERHEAD;
    return 0;
}

uint32_t smt_smt1_n_records(const struct smt_smt1_geom *g, uint32_t message_len)
{
    return (message_len + g->record_data - 1) / g->record_data;
}

static void layout(const struct smt_smt1_geom *g, uint32_t offset, uint32_t data_len,
                   struct smt_smt1_record *out)
{
    out->offset = offset;
    out->data_len = data_len;
    out->n_segments = (data_len + HEAD_LEN + g->max_data - 1) / g->max_data;
    out->plain_len = data_len + out->n_segments * SMT_SMT1_SEGMENT_LEN;
    out->record_len = out->plain_len + SMT_SMT1_OVERHEAD;
    out->n_packets = (out->record_len + g->slice_len - 1) / g->slice_len;
}

void smt_smt1_record_cut(const struct smt_smt1_geom *g, uint32_t message_len, uint32_t k,
                         struct smt_smt1_record *out)
{
    uint32_t offset = k * g->record_data;
    assert(offset < message_len && message_len <= SMT_HOMA_MAX_MESSAGE);
    uint32_t left = message_len - offset;
    layout(g, offset, left < g->record_data ? left : g->record_data, out);
}

int smt_smt1_record_decode(const struct smt_smt1_geom *g, uint32_t message_len, uint32_t offset,
                           const uint8_t *head, struct smt_smt1_record *out)
{
    uint32_t record_len = TLS_LEN_BEFORE + smt_get_be16(head + 3);
    if (head[0] != 0x17 || smt_get_be16(head + 1) != 0x0303 ||
        record_len <= SMT_SMT1_OVERHEAD + SMT_SMT1_SEGMENT_LEN || offset > message_len)
        return SMT_EMALFORMED;
    /* A last packet that holds nothing but bytes of the tag has no segment header. */
    uint32_t n_packets = (record_len + g->slice_len - 1) / g->slice_len;
    uint32_t last = record_len - (n_packets - 1) * g->slice_len;
    uint32_t n_segments = n_packets > 1 && last <= SMT_SMT1_TAG_LEN ? n_packets - 1 : n_packets;
    uint32_t headers = SMT_SMT1_OVERHEAD + n_segments * SMT_SMT1_SEGMENT_LEN;
    if (record_len <= headers || record_len - headers > message_len - offset)
        return SMT_EMALFORMED;
    layout(g, offset, record_len - headers, out);
    return out->record_len == record_len ? 0 : SMT_EMALFORMED;
}

void smt_smt1_segment_at(const struct smt_smt1_geom *g, const struct smt_smt1_record *r, uint32_t i,
                         uint32_t *data_at, uint32_t *data_len, uint32_t *plain_at)
{
    assert(i < r->n_segments);
    uint32_t start = i == 0 ? 0 : i * g->max_data - HEAD_LEN;
    uint32_t end = (i + 1) * g->max_data - HEAD_LEN;
    *data_at = start;
    *data_len = (end < r->data_len ? end : r->data_len) - start;
    *plain_at = i * SMT_SMT1_SEGMENT_LEN + start;
}

uint32_t smt_smt1_slice_len(const struct smt_smt1_geom *g, const struct smt_smt1_record *r,
                            uint32_t i)
{
    assert(i < r->n_packets);
    return i + 1 < r->n_packets ? g->slice_len : r->record_len - i * g->slice_len;
}

void smt_smt1_segment_encode(const struct smt_smt1_segment *s, uint8_t out[SMT_SMT1_SEGMENT_LEN])
{
    smt_put_be32(out + OFF_SEG_OFFSET, s->offset);
    smt_put_be32(out + OFF_SEG_LEN, s->len);
    smt_put_be64(out + OFF_SEG_ACK_ID, s->ack.client_id);
    smt_put_be16(out + OFF_SEG_ACK_CLIENT, s->ack.client_port);
    smt_put_be16(out + OFF_SEG_ACK_SERVER, s->ack.server_port);
}

void smt_smt1_segment_decode(const uint8_t in[SMT_SMT1_SEGMENT_LEN], struct smt_smt1_segment *out)
{
    out->offset = smt_get_be32(in + OFF_SEG_OFFSET);
    out->len = smt_get_be32(in + OFF_SEG_LEN);
    out->ack.client_id = smt_get_be64(in + OFF_SEG_ACK_ID);
    out->ack.client_port = smt_get_be16(in + OFF_SEG_ACK_CLIENT);
    out->ack.server_port = smt_get_be16(in + OFF_SEG_ACK_SERVER);
}

void smt_smt1_head_encode(uint8_t *out, uint64_t record_no, uint32_t plain_len)
{
    assert(plain_len + NUMBER_LEN + SMT_SMT1_TAG_LEN <= UINT16_MAX);
    out[0] = 0x17;
    smt_put_be16(out + 1, 0x0303);
    smt_put_be16(out + 3, (uint16_t)(plain_len + NUMBER_LEN + SMT_SMT1_TAG_LEN));
    smt_put_be64(out + TLS_LEN_BEFORE, record_no);
}

void smt_smt1_logical(const struct smt_smt1_geom *g, uint32_t ip_len, uint32_t i, uint32_t offset,
                      uint32_t *start, uint32_t *len)
{
    uint32_t shift = SMT_SMT1_OVERHEAD;
    *start = i * g->max_data + offset - (i ? shift : 0);
    uint32_t rest = ip_len - (i ? 0 : shift);
    if (ip_len < SMT_SMT1_HDR_LEN + (i ? 0 : shift))
        *len = 0;
    else
        *len = rest > BOTH_HDRS ? rest - BOTH_HDRS : rest - SMT_SMT1_HDR_LEN;
}

uint32_t smt_smt1_unscheduled(const struct smt_smt1_geom *g, uint32_t unsched_bytes,
                              uint32_t message_len)
{
    if (message_len + SMT_SMT1_OVERHEAD <= g->max_data)
        return message_len;
    uint32_t burst = g->n_packets * g->max_data;
    uint32_t n = (unsched_bytes + burst - 1) / burst;
    uint64_t u = (uint64_t)n * g->record_data;
    return u < message_len ? (uint32_t)u : message_len;
}

uint32_t smt_smt1_unsent_tail(const struct smt_smt1_geom *g, uint32_t message_len)
{
    uint32_t burst = g->n_packets * g->max_data;
    uint32_t n_sent = (message_len + burst - 1) / burst;
    return n_sent < smt_smt1_n_records(g, message_len) ? n_sent * g->record_data : message_len;
}
