/* The clear header (docs/wire.md 2): one table row per packet kind, decode and encode.
 *
 * What is fixed about a kind (header length, shortest packet, whether a record follows) stands in
 * its row; what its fields must satisfy stands in one decode function per layout. Only lengths and
 * reserved bits are looked at: whether a session or an RPC exists is core's business, whether a
 * byte is true is the tag's.
 *
 * Decoding one header must stay near the cost of its loads, for it comes before every packet: no
 * loop, no table walk (rows are indexed by kind), DATA's tests in a straight line.
 *
 * A header of a foreign version is read as far as the invariant goes, so that it can be answered
 * by VERSION; a VERSION packet itself has the same form in all versions. */
#include "wire/wire.h"

#include <string.h>

static_assert(SMT_MIN_HDR_LEN == 20 + 8, "ports to zero word, session id");
static_assert(SMT_CTRL_HDR_LEN == SMT_MIN_HDR_LEN, "CTRL adds no field");
static_assert(SMT_PLAIN_HDR_LEN == SMT_MIN_HDR_LEN, "RETRY, NO_SESSION, VERSION add no field");
static_assert(SMT_DATA_HDR_LEN == SMT_MIN_HDR_LEN + 8 + 4 + 2 + 2, "RPC id, seal, two lengths");
static_assert(SMT_HS_HDR_LEN == SMT_MIN_HDR_LEN + 8 + 2 + 1 + 5, "sender's id, two lengths, zero");
static_assert(SMT_DATA_HDR_LEN % 4 == 0 && SMT_CTRL_HDR_LEN % 4 == 0, "doff counts words");
static_assert(SMT_HS_HDR_LEN % 4 == 0 && SMT_HS_HDR_LEN <= 60, "doff is a nibble");
static_assert(SMT_SEAL_LIMIT == 1 << (SMT_SEAL_INDEX_BITS + 6), "attempt has 6 bits");

enum {
    OFF_SPORT = 0,
    OFF_DPORT = 2,
    OFF_OFFSET = 4,
    OFF_LENGTH = 8,
    OFF_DOFF = 12,
    OFF_KIND = 13,
    OFF_VERSION = 14,
    OFF_EPOCH = 15,
    OFF_ZERO = 16,
    OFF_SESSION = 20,
    OFF_RPC_ID = 28,
    OFF_SEAL = 36,
    OFF_RECORD_LEN = 40,
    OFF_SLICE_LEN = 42,
    OFF_SOURCE_ID = 28,
    OFF_TLS_LEN = 36,
    OFF_COOKIE_LEN = 38,
    OFF_HS_ZERO = 39,
    INVARIANT_LEN = SMT_MIN_HDR_LEN,
    INVARIANT_HS_LEN = OFF_SOURCE_ID + 8,
    MIN_DATA_RECORD = SMT_RECORD_OVERHEAD + SMT_INNER_LEN,
    MAX_RECORD = SMT_RECORD_OVERHEAD + SMT_RECORD_MAX_PLAIN,
};

static const struct smt_kind_row rows[] = {
    [SMT_KIND_DATA] = {"DATA", SMT_KIND_DATA, SMT_DATA_HDR_LEN, SMT_DATA_HDR_LEN + 1, true},
    [SMT_KIND_EARLY] = {"EARLY", SMT_KIND_EARLY, SMT_DATA_HDR_LEN, SMT_DATA_HDR_LEN + 1, true},
    [SMT_KIND_CTRL] = {"CTRL", SMT_KIND_CTRL, SMT_CTRL_HDR_LEN,
                       SMT_CTRL_HDR_LEN + SMT_RECORD_OVERHEAD, true},
    [SMT_KIND_HANDSHAKE] = {"HANDSHAKE", SMT_KIND_HANDSHAKE, SMT_HS_HDR_LEN, SMT_HS_HDR_LEN, false},
    [SMT_KIND_RETRY] = {"RETRY", SMT_KIND_RETRY, SMT_PLAIN_HDR_LEN,
                        SMT_PLAIN_HDR_LEN + SMT_COOKIE_LEN, false},
    [SMT_KIND_NO_SESSION] = {"NO_SESSION", SMT_KIND_NO_SESSION, SMT_PLAIN_HDR_LEN,
                             SMT_PLAIN_HDR_LEN, false},
    [SMT_KIND_VERSION] = {"VERSION", SMT_KIND_VERSION, SMT_PLAIN_HDR_LEN, SMT_PLAIN_HDR_LEN + 1,
                          false},
};

const struct smt_kind_row *smt_kind_row(uint8_t kind)
{
    return kind < SMT_ARRAY_LEN(rows) && rows[kind].name ? &rows[kind] : NULL;
}

static int foreign_decode(const uint8_t *pkt, size_t len, struct smt_hdr *out)
{
    bool handshake = out->kind == SMT_KIND_HANDSHAKE;
    size_t need = handshake ? INVARIANT_HS_LEN : INVARIANT_LEN;
    out->header_len = (pkt[OFF_DOFF] >> 4) * 4;
    if ((pkt[OFF_DOFF] & 0x0f) || out->header_len < need || out->header_len > len)
        return SMT_EMALFORMED;
    if (handshake)
        out->source_id = smt_get_be64(pkt + OFF_SOURCE_ID);
    return SMT_EVERSION;
}

static int data_decode(const uint8_t *pkt, size_t len, struct smt_hdr *out)
{
    out->offset = smt_get_be32(pkt + OFF_OFFSET);
    out->message_len = smt_get_be32(pkt + OFF_LENGTH);
    out->rpc_id = smt_get_be64(pkt + OFF_RPC_ID);
    out->seal = smt_get_be32(pkt + OFF_SEAL);
    out->record_len = smt_get_be16(pkt + OFF_RECORD_LEN);
    out->slice_len = smt_get_be16(pkt + OFF_SLICE_LEN);
    out->index = pkt[SMT_HDR_INDEX_AT];
    bool whole = out->slice_len == out->record_len;
    bool bad = (out->message_len > SMT_MAX_MESSAGE) | (out->offset > out->message_len) |
               ((out->rpc_id & ~(SMT_ID_ROLE | SMT_ID_MASK)) != 0) | (out->seal >= SMT_SEAL_LIMIT) |
               (out->record_len < MIN_DATA_RECORD) | (out->record_len > MAX_RECORD) |
               (out->slice_len == 0) | (out->slice_len > out->record_len) |
               (whole & (out->record_len > len - SMT_DATA_HDR_LEN));
    return bad ? SMT_EMALFORMED : 0;
}

static int handshake_decode(const uint8_t *pkt, size_t len, struct smt_hdr *out)
{
    out->offset = smt_get_be32(pkt + OFF_OFFSET);
    out->message_len = smt_get_be32(pkt + OFF_LENGTH);
    out->source_id = smt_get_be64(pkt + OFF_SOURCE_ID);
    out->tls_len = smt_get_be16(pkt + OFF_TLS_LEN);
    out->cookie_len = pkt[OFF_COOKIE_LEN];
    if (out->source_id == 0 || (out->cookie_len != 0 && out->cookie_len != SMT_COOKIE_LEN) ||
        (size_t)out->cookie_len + out->tls_len > len - SMT_HS_HDR_LEN)
        return SMT_EMALFORMED;
    if (out->session_id == 0 && len < SMT_HS_MIN_FIRST_LEN)
        return SMT_EMALFORMED;
    return 0;
}

int smt_hdr_decode(const uint8_t *pkt, size_t len, struct smt_hdr *out)
{
    if (len < SMT_MIN_HDR_LEN)
        return SMT_EMALFORMED;
    *out = (struct smt_hdr){
        .sport = smt_get_be16(pkt + OFF_SPORT),
        .dport = smt_get_be16(pkt + OFF_DPORT),
        .kind = pkt[OFF_KIND],
        .version = pkt[OFF_VERSION],
        .epoch = pkt[OFF_EPOCH],
        .session_id = smt_get_be64(pkt + OFF_SESSION),
    };
    if (SMT_UNLIKELY(out->version != SMT_WIRE_VERSION && out->kind != SMT_KIND_VERSION))
        return foreign_decode(pkt, len, out);
    const struct smt_kind_row *row = smt_kind_row(out->kind);
    if (!row || pkt[OFF_DOFF] != row->header_len << 2 || len < row->min_len)
        return SMT_EMALFORMED;
    out->header_len = row->header_len;
    switch (out->kind) {
    case SMT_KIND_DATA:
    case SMT_KIND_EARLY:
        return data_decode(pkt, len, out);
    case SMT_KIND_HANDSHAKE:
        return handshake_decode(pkt, len, out);
    case SMT_KIND_VERSION:
        return pkt[SMT_PLAIN_HDR_LEN] > len - SMT_PLAIN_HDR_LEN - 1 ? SMT_EMALFORMED : 0;
    default:
        return 0;
    }
}

static void data_encode(const struct smt_hdr *hdr, uint8_t *out)
{
    assert((hdr->rpc_id & ~(SMT_ID_ROLE | SMT_ID_MASK)) == 0 && hdr->seal < SMT_SEAL_LIMIT);
    smt_put_be32(out + OFF_OFFSET, hdr->offset);
    smt_put_be32(out + OFF_LENGTH, hdr->message_len);
    smt_put_be64(out + OFF_RPC_ID, hdr->rpc_id);
    smt_put_be32(out + OFF_SEAL, hdr->seal);
    smt_put_be16(out + OFF_RECORD_LEN, hdr->record_len);
    smt_put_be16(out + OFF_SLICE_LEN, hdr->slice_len);
    out[SMT_HDR_INDEX_AT] = hdr->index;
}

static void handshake_encode(const struct smt_hdr *hdr, uint8_t *out)
{
    smt_put_be32(out + OFF_OFFSET, hdr->offset);
    smt_put_be32(out + OFF_LENGTH, hdr->message_len);
    smt_put_be64(out + OFF_SOURCE_ID, hdr->source_id);
    smt_put_be16(out + OFF_TLS_LEN, hdr->tls_len);
    out[OFF_COOKIE_LEN] = hdr->cookie_len;
    memset(out + OFF_HS_ZERO, 0, SMT_HS_HDR_LEN - OFF_HS_ZERO);
}

size_t smt_hdr_encode(const struct smt_hdr *hdr, uint8_t *out)
{
    const struct smt_kind_row *row = smt_kind_row(hdr->kind);
    assert(row);
    smt_put_be16(out + OFF_SPORT, hdr->sport);
    smt_put_be16(out + OFF_DPORT, hdr->dport);
    out[OFF_DOFF] = (uint8_t)(row->header_len << 2);
    out[OFF_KIND] = hdr->kind;
    out[OFF_VERSION] = SMT_WIRE_VERSION;
    out[OFF_EPOCH] = hdr->epoch;
    smt_put_be32(out + OFF_ZERO, 0);
    smt_put_be64(out + OFF_SESSION, hdr->session_id);
    switch (hdr->kind) {
    case SMT_KIND_DATA:
    case SMT_KIND_EARLY:
        data_encode(hdr, out);
        break;
    case SMT_KIND_HANDSHAKE:
        handshake_encode(hdr, out);
        break;
    default:
        smt_put_be64(out + OFF_OFFSET, 0);
        break;
    }
    return row->header_len;
}
