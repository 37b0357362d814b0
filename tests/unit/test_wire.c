/* Clear headers, record heads and inner heads: golden bytes written out by hand, each rule of
 * docs/wire.md with the value on either side of it, every truncation, and random round trips.
 * Packets under test lie in allocations of exactly their length, so that ASan sees a read beyond.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/wire.h"

static uint64_t rng_state = 1;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* Decodes a copy that ends where the allocation ends. */
static int decode(const uint8_t *pkt, size_t len, struct smt_hdr *out)
{
    uint8_t *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, pkt, len);
    int rc = smt_hdr_decode(exact, len, out);
    free(exact);
    return rc;
}

static int decode_rc(const uint8_t *pkt, size_t len)
{
    struct smt_hdr h;
    return decode(pkt, len, &h);
}

/* clang-format off */
static const uint8_t data_pkt[44 + 45] = {
    0x48, 0x53, 0xc0, 0x01,                          /* ports 18515, 49153 */
    0x00, 0x00, 0x05, 0x78,                          /* offset 1400 */
    0x00, 0x00, 0x0a, 0x00,                          /* message 2560 */
    0xb0, 0x10, 0x02, 0x07,                          /* doff 11, DATA, version 2, epoch 7 */
    0x00, 0x00, 0x00, 0x00,
    0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,  /* session */
    0x80, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x05,  /* role 1, id 0x300000005 */
    0x02, 0x00, 0x00, 0x09,                          /* attempt 2, index 9 */
    0x00, 0x2d, 0x00, 0x2d,                          /* record 45, slice 45 */
    0x17, 0x03, 0x03, 0x00, 0x28,
};
static const uint8_t ctrl_pkt[28 + 29] = {
    0x00, 0x01, 0x00, 0x02, 0, 0, 0, 0, 0, 0, 0, 0,
    0x70, 0x20, 0x02, 0xff, 0, 0, 0, 0,
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
};
static const uint8_t hs_pkt[44 + 32 + 3] = {
    0x12, 0x34, 0x56, 0x78,
    0x00, 0x00, 0x02, 0x00,                          /* offset 512 */
    0x00, 0x00, 0x00, 0x64,                          /* ack 100 */
    0xb0, 0x30, 0x02, 0x01,                          /* initiator */
    0x00, 0x00, 0x00, 0x00,
    0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8,  /* receiver's id */
    0xb1, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8,  /* sender's id */
    0x00, 0x03, 0x20, 0, 0, 0, 0, 0,                 /* 3 TLS bytes, 32 of cookie */
};
static const uint8_t version_pkt[28 + 4] = {
    0x00, 0x0a, 0x00, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0,
    0x70, 0x33, 0x02, 0x00, 0, 0, 0, 0,
    0x09, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02,
    0x03, 0x02, 0x03, 0x04,
};
/* clang-format on */

static void kind_rows(void **state)
{
    static const struct smt_kind_row want[] = {
        {"DATA", 0x10, 44, 45, true},     {"EARLY", 0x11, 44, 45, true},
        {"CTRL", 0x20, 28, 57, true},     {"HANDSHAKE", 0x30, 44, 44, false},
        {"RETRY", 0x31, 28, 60, false},   {"NO_SESSION", 0x32, 28, 28, false},
        {"VERSION", 0x33, 28, 29, false},
    };
    unsigned known = 0;
    for (unsigned kind = 0; kind < 256; kind++) {
        const struct smt_kind_row *row = smt_kind_row((uint8_t)kind);
        if (!row)
            continue;
        assert_true(known < SMT_ARRAY_LEN(want));
        assert_string_equal(row->name, want[known].name);
        assert_int_equal(row->kind, kind);
        assert_int_equal(row->kind, want[known].kind);
        assert_int_equal(row->header_len, want[known].header_len);
        assert_int_equal(row->min_len, want[known].min_len);
        assert_int_equal(row->sealed, want[known].sealed);
        known++;
    }
    assert_int_equal(known, SMT_ARRAY_LEN(want));
}

static void data_golden(void **state)
{
    struct smt_hdr h;
    assert_int_equal(decode(data_pkt, sizeof(data_pkt), &h), 0);
    assert_int_equal(h.sport, 18515);
    assert_int_equal(h.dport, 49153);
    assert_int_equal(h.kind, SMT_KIND_DATA);
    assert_int_equal(h.version, 2);
    assert_int_equal(h.epoch, 7);
    assert_int_equal(h.header_len, 44);
    assert_int_equal(h.session_id, 0x1122334455667788);
    assert_int_equal(h.rpc_id, SMT_ID_ROLE | 0x300000005);
    assert_int_equal(h.offset, 1400);
    assert_int_equal(h.message_len, 2560);
    assert_int_equal(h.seal, 2 << 24 | 9);
    assert_int_equal(h.record_len, 45);
    assert_int_equal(h.slice_len, 45);
    assert_int_equal(h.source_id, 0);
    assert_int_equal(h.tls_len, 0);
    assert_int_equal(h.cookie_len, 0);

    uint8_t out[SMT_DATA_HDR_LEN];
    memset(out, 0xee, sizeof(out));
    assert_int_equal(smt_hdr_encode(&h, out), SMT_DATA_HDR_LEN);
    assert_memory_equal(out, data_pkt, sizeof(out));
}

static void other_kinds_golden(void **state)
{
    struct smt_hdr h;
    uint8_t out[SMT_HS_HDR_LEN];
    assert_int_equal(decode(ctrl_pkt, sizeof(ctrl_pkt), &h), 0);
    assert_int_equal(h.kind, SMT_KIND_CTRL);
    assert_int_equal(h.epoch, 255);
    assert_int_equal(h.header_len, 28);
    assert_int_equal(h.session_id, 0x0102030405060708);
    assert_int_equal(h.rpc_id, 0);
    memset(out, 0xee, sizeof(out));
    assert_int_equal(smt_hdr_encode(&h, out), 28);
    assert_memory_equal(out, ctrl_pkt, 28);

    assert_int_equal(decode(hs_pkt, sizeof(hs_pkt), &h), 0);
    assert_int_equal(h.epoch, 1);
    assert_int_equal(h.offset, 512);
    assert_int_equal(h.message_len, 100);
    assert_int_equal(h.session_id, 0xa1a2a3a4a5a6a7a8);
    assert_int_equal(h.source_id, 0xb1b2b3b4b5b6b7b8);
    assert_int_equal(h.tls_len, 3);
    assert_int_equal(h.cookie_len, 32);
    assert_int_equal(h.rpc_id, 0);
    memset(out, 0xee, sizeof(out));
    assert_int_equal(smt_hdr_encode(&h, out), 44);
    assert_memory_equal(out, hs_pkt, 44);

    assert_int_equal(decode(version_pkt, sizeof(version_pkt), &h), 0);
    assert_int_equal(h.session_id, 0x0908070605040302);
    memset(out, 0xee, sizeof(out));
    assert_int_equal(smt_hdr_encode(&h, out), 28);
    assert_memory_equal(out, version_pkt, 28);
}

/* Fewer bytes than the packet describes are never accepted, more always are: padding. */
static void truncation(void **state)
{
    static const struct {
        const uint8_t *pkt;
        size_t len;
    } pkts[] = {
        {data_pkt, sizeof(data_pkt)},
        {ctrl_pkt, sizeof(ctrl_pkt)},
        {hs_pkt, sizeof(hs_pkt)},
        {version_pkt, sizeof(version_pkt)},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(pkts); i++) {
        uint8_t padded[256] = {0};
        memcpy(padded, pkts[i].pkt, pkts[i].len);
        for (size_t len = 0; len < pkts[i].len; len++)
            assert_int_equal(decode_rc(padded, len), SMT_EMALFORMED);
        for (size_t len = pkts[i].len; len < sizeof(padded); len++)
            assert_int_equal(decode_rc(padded, len), 0);
    }
    uint8_t plain[64] = {[12] = 0x70, [13] = SMT_KIND_RETRY, [14] = 2};
    assert_int_equal(decode_rc(plain, 59), SMT_EMALFORMED);
    assert_int_equal(decode_rc(plain, 60), 0);
    plain[13] = SMT_KIND_NO_SESSION;
    assert_int_equal(decode_rc(plain, 27), SMT_EMALFORMED);
    assert_int_equal(decode_rc(plain, 28), 0);
}

/* The doff nibble must be the kind's, and the nibble beside it zero; other reserved bytes say
 * nothing. */
static void reserved(void **state)
{
    static const uint8_t *pkts[] = {data_pkt, ctrl_pkt, hs_pkt, version_pkt};
    static const size_t lens[] = {sizeof(data_pkt), sizeof(ctrl_pkt), sizeof(hs_pkt),
                                  sizeof(version_pkt)};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(pkts); i++) {
        uint8_t p[256];
        memcpy(p, pkts[i], lens[i]);
        for (unsigned doff = 0; doff < 256; doff++) {
            p[12] = (uint8_t)doff;
            assert_int_equal(decode_rc(p, lens[i]), doff == pkts[i][12] ? 0 : SMT_EMALFORMED);
        }
        memcpy(p, pkts[i], lens[i]);
        memset(p + 16, 0xff, 4);
        if (p[13] == SMT_KIND_CTRL || p[13] == SMT_KIND_VERSION)
            memset(p + 4, 0xff, 8);
        if (p[13] == SMT_KIND_HANDSHAKE)
            memset(p + 39, 0xff, 5);
        assert_int_equal(decode_rc(p, lens[i]), 0);
    }
}

static void unknown_kinds(void **state)
{
    for (unsigned kind = 0; kind < 256; kind++) {
        uint8_t p[1200] = {[13] = (uint8_t)kind, [14] = 2};
        if (smt_kind_row((uint8_t)kind))
            continue;
        for (unsigned doff = 0; doff < 16; doff++) {
            p[12] = (uint8_t)(doff << 4);
            assert_int_equal(decode_rc(p, sizeof(p)), SMT_EMALFORMED);
        }
    }
}

static void foreign_version(void **state)
{
    uint8_t p[200];
    struct smt_hdr h;
    for (unsigned v = 0; v < 256; v++) {
        if (v == SMT_WIRE_VERSION)
            continue;
        memset(p, 0xff, sizeof(p));
        memcpy(p, hs_pkt, 36);
        p[12] = 0x90; /* nine words: just the invariant */
        p[14] = (uint8_t)v;
        assert_int_equal(decode(p, 36, &h), SMT_EVERSION);
        assert_int_equal(h.version, v);
        assert_int_equal(h.kind, SMT_KIND_HANDSHAKE);
        assert_int_equal(h.header_len, 36);
        assert_int_equal(h.sport, 0x1234);
        assert_int_equal(h.dport, 0x5678);
        assert_int_equal(h.session_id, 0xa1a2a3a4a5a6a7a8);
        assert_int_equal(h.source_id, 0xb1b2b3b4b5b6b7b8);
        for (size_t len = 0; len < 36; len++)
            assert_int_equal(decode_rc(p, len), SMT_EMALFORMED);
        p[12] = 0x80;
        assert_int_equal(decode_rc(p, sizeof(p)), SMT_EMALFORMED);
        p[12] = 0x91;
        assert_int_equal(decode_rc(p, sizeof(p)), SMT_EMALFORMED);
        p[12] = 0xf0;
        assert_int_equal(decode_rc(p, 60), SMT_EVERSION);
        assert_int_equal(decode_rc(p, 59), SMT_EMALFORMED);
        p[12] = 0x70;
        p[13] = 0x99; /* no kind of ours */
        assert_int_equal(decode(p, 28, &h), SMT_EVERSION);
        assert_int_equal(h.source_id, 0);
        assert_int_equal(decode_rc(p, 27), SMT_EMALFORMED);
        memcpy(p, version_pkt, sizeof(version_pkt));
        p[14] = (uint8_t)v; /* VERSION is understood whoever wrote it */
        assert_int_equal(decode(p, sizeof(version_pkt), &h), 0);
        assert_int_equal(h.version, v);
    }
}

static int data_with(size_t len, void (*edit)(uint8_t *p, uint64_t v), uint64_t v)
{
    uint8_t p[44 + SMT_RECORD_OVERHEAD + SMT_RECORD_MAX_PLAIN + 8] = {0};
    memcpy(p, data_pkt, sizeof(data_pkt));
    edit(p, v);
    return decode_rc(p, len);
}

static void edit_offset(uint8_t *p, uint64_t v)
{
    smt_put_be32(p + 4, (uint32_t)v);
}

static void edit_length(uint8_t *p, uint64_t v)
{
    smt_put_be32(p + 4, 0);
    smt_put_be32(p + 8, (uint32_t)v);
}

static void edit_id(uint8_t *p, uint64_t v)
{
    smt_put_be64(p + 28, v);
}

static void edit_seal(uint8_t *p, uint64_t v)
{
    smt_put_be32(p + 36, (uint32_t)v);
}

/* v = record ‖ slice */
static void edit_lens(uint8_t *p, uint64_t v)
{
    smt_put_be32(p + 40, (uint32_t)v);
}

static void data_limits(void **state)
{
    static const struct {
        void (*edit)(uint8_t *p, uint64_t v);
        uint64_t v;
        size_t len;
        int rc;
    } cases[] = {
        {edit_offset, 0, 89, 0},
        {edit_offset, 2560, 89, 0},
        {edit_offset, 2561, 89, SMT_EMALFORMED},
        {edit_offset, 0xffffffff, 89, SMT_EMALFORMED},
        {edit_length, 0, 89, 0},
        {edit_length, 1 << 30, 89, 0},
        {edit_length, (1 << 30) + 1, 89, SMT_EMALFORMED},
        {edit_length, 0xffffffff, 89, SMT_EMALFORMED},
        {edit_id, 1, 89, 0},
        {edit_id, 0x3fffffffffffffff, 89, 0},
        {edit_id, 0xbfffffffffffffff, 89, 0},
        {edit_id, 0x4000000000000001, 89, SMT_EMALFORMED},
        {edit_id, 0xc000000000000001, 89, SMT_EMALFORMED},
        {edit_seal, 0, 89, 0},
        {edit_seal, 0x3fffffff, 89, 0},
        {edit_seal, 0x40000000, 89, SMT_EMALFORMED},
        {edit_seal, 0x80000000, 89, SMT_EMALFORMED},
        {edit_lens, 45 << 16 | 45, 89, 0},
        {edit_lens, 45 << 16 | 45, 88, SMT_EMALFORMED},
        {edit_lens, 44 << 16 | 44, 89, SMT_EMALFORMED},
        {edit_lens, 46 << 16 | 46, 89, SMT_EMALFORMED},
        {edit_lens, 46 << 16 | 46, 90, 0},
        {edit_lens, 45 << 16, 89, SMT_EMALFORMED},
        {edit_lens, 45 << 16 | 46, 90, SMT_EMALFORMED},
        {edit_lens, 46 << 16 | 45, 45, 0},
        {edit_lens, 46 << 16 | 45, 44, SMT_EMALFORMED},
        {edit_lens, 46 << 16 | 1, 45, 0},
        {edit_lens, 16413u << 16 | 16413, 44 + 16413, 0},
        {edit_lens, 16413u << 16 | 16413, 44 + 16412, SMT_EMALFORMED},
        {edit_lens, 16414u << 16 | 16414, 44 + 16414, SMT_EMALFORMED},
        {edit_lens, 16414u << 16 | 1400, 44 + 1400, SMT_EMALFORMED},
        {edit_lens, 16413u << 16 | 1400, 45, 0},
        {edit_lens, 0xffffffff, 44 + 16413, SMT_EMALFORMED},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(cases); i++)
        assert_int_equal(data_with(cases[i].len, cases[i].edit, cases[i].v), cases[i].rc);
}

static void handshake_limits(void **state)
{
    uint8_t p[1300] = {0};
    memcpy(p, hs_pkt, sizeof(hs_pkt));
    for (unsigned n = 0; n < 256; n++) {
        p[38] = (uint8_t)n;
        assert_int_equal(decode_rc(p, sizeof(p)), n == 0 || n == 32 ? 0 : SMT_EMALFORMED);
    }
    p[38] = 32;
    smt_put_be16(p + 36, 1300 - 44 - 32);
    assert_int_equal(decode_rc(p, sizeof(p)), 0);
    smt_put_be16(p + 36, 1300 - 44 - 31);
    assert_int_equal(decode_rc(p, sizeof(p)), SMT_EMALFORMED);
    smt_put_be16(p + 36, 0xffff);
    assert_int_equal(decode_rc(p, sizeof(p)), SMT_EMALFORMED);
    smt_put_be16(p + 36, 0);
    smt_put_be64(p + 20, 0);
    assert_int_equal(decode_rc(p, 1000), 0);
    assert_int_equal(decode_rc(p, 999), SMT_EMALFORMED);
    smt_put_be64(p + 20, 1);
    assert_int_equal(decode_rc(p, 999), 0);
    smt_put_be64(p + 28, 0);
    assert_int_equal(decode_rc(p, 1000), SMT_EMALFORMED);
}

static struct smt_hdr random_hdr(uint8_t kind)
{
    struct smt_hdr h = {
        .sport = (uint16_t)rng(),
        .dport = (uint16_t)rng(),
        .kind = kind,
        .version = SMT_WIRE_VERSION,
        .epoch = (uint8_t)rng(),
        .header_len = smt_kind_row(kind)->header_len,
        .session_id = rng(),
    };
    if (kind == SMT_KIND_DATA || kind == SMT_KIND_EARLY) {
        h.message_len = (uint32_t)(rng() % ((1u << 30) + 1));
        h.offset = (uint32_t)(rng() % (h.message_len + 1ull));
        h.rpc_id = rng() & ~(1ull << 62);
        h.seal = rng() & 0x3fffffff;
        h.record_len = (uint16_t)(45 + rng() % 1400);
        h.slice_len = rng() & 1 ? h.record_len : (uint16_t)(1 + rng() % h.record_len);
    }
    if (kind == SMT_KIND_HANDSHAKE) {
        h.offset = (uint32_t)rng();
        h.message_len = (uint32_t)rng();
        h.source_id = rng() | 1;
        h.tls_len = (uint16_t)(rng() % 1000);
        h.cookie_len = rng() & 1 ? 32 : 0;
    }
    return h;
}

static void assert_hdr_equal(const struct smt_hdr *a, const struct smt_hdr *b)
{
    assert_int_equal(a->sport, b->sport);
    assert_int_equal(a->dport, b->dport);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->epoch, b->epoch);
    assert_int_equal(a->header_len, b->header_len);
    assert_int_equal(a->session_id, b->session_id);
    assert_int_equal(a->rpc_id, b->rpc_id);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->message_len, b->message_len);
    assert_int_equal(a->seal, b->seal);
    assert_int_equal(a->record_len, b->record_len);
    assert_int_equal(a->slice_len, b->slice_len);
    assert_int_equal(a->source_id, b->source_id);
    assert_int_equal(a->tls_len, b->tls_len);
    assert_int_equal(a->cookie_len, b->cookie_len);
}

static void header_round_trips(void **state)
{
    static const uint8_t kinds[] = {0x10, 0x11, 0x20, 0x30, 0x31, 0x32, 0x33};
    uint8_t p[1500];
    for (unsigned i = 0; i < 50000; i++) {
        struct smt_hdr h = random_hdr(kinds[rng() % sizeof(kinds)]);
        memset(p, 0, sizeof(p));
        assert_int_equal(smt_hdr_encode(&h, p), h.header_len);
        struct smt_hdr back;
        assert_int_equal(smt_hdr_decode(p, sizeof(p), &back), 0);
        assert_hdr_equal(&back, &h);
    }
}

/* Whatever bytes come: what is accepted encodes to bytes that decode to the same. */
static void header_random_bytes(void **state)
{
    unsigned accepted = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t p[128];
        const uint8_t *base = i & 1 ? data_pkt : hs_pkt;
        memset(p, 0, sizeof(p));
        memcpy(p, base, i & 1 ? sizeof(data_pkt) : sizeof(hs_pkt));
        for (unsigned n = (unsigned)(rng() % 4); n > 0; n--)
            p[rng() % 44] = (uint8_t)rng();
        struct smt_hdr h, back;
        if (decode(p, rng() % sizeof(p), &h) != 0)
            continue;
        accepted++;
        uint8_t again[1500] = {0};
        size_t len = smt_hdr_encode(&h, again);
        assert_int_equal(len, h.header_len);
        assert_int_equal(smt_hdr_decode(again, sizeof(again), &back), 0);
        h.version = SMT_WIRE_VERSION;
        assert_hdr_equal(&back, &h);
    }
    assert_in_range(accepted, 1000, 200000);
}

static void record_head(void **state)
{
    static const uint8_t golden[13] = {0x17, 3, 3, 0x00, 0x58, 1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t out[13];
    smt_record_head_encode(out, 0x0102030405060708, 64);
    assert_memory_equal(out, golden, 13);
    uint64_t no = 0;
    size_t plain = 0;
    assert_int_equal(smt_record_head_decode(golden, 64 + 29, &no, &plain), 0);
    assert_int_equal(no, 0x0102030405060708);
    assert_int_equal(plain, 64);
    assert_int_equal(smt_record_head_decode(golden, 64 + 30, &no, &plain), SMT_EMALFORMED);
    assert_int_equal(smt_record_head_decode(golden, 64 + 28, &no, &plain), SMT_EMALFORMED);
    for (unsigned bit = 0; bit < 24; bit++) {
        memcpy(out, golden, 13);
        out[bit / 8] ^= 1 << bit % 8;
        assert_int_equal(smt_record_head_decode(out, 64 + 29, &no, &plain), SMT_EMALFORMED);
    }
    memcpy(out, golden, 13);
    for (unsigned len = 0; len < 65536; len++) {
        smt_put_be16(out + 3, (uint16_t)len);
        bool good = len >= 24 && len <= 8 + 16384 + 16;
        assert_int_equal(smt_record_head_decode(out, 5 + len, &no, &plain),
                         good ? 0 : SMT_EMALFORMED);
        if (good)
            assert_int_equal(plain, len - 24);
    }
    smt_record_head_encode(out, 1, 0);
    assert_int_equal(smt_record_head_decode(out, 29, &no, &plain), 0);
    assert_int_equal(plain, 0);
    smt_record_head_encode(out, 1, SMT_RECORD_MAX_PLAIN);
    assert_int_equal(smt_record_head_decode(out, 16413, &no, &plain), 0);
    assert_int_equal(plain, SMT_RECORD_MAX_PLAIN);
}

static void record_aad_and_nonce(void **state)
{
    static const uint8_t aad[13] = {0x80, 2, 3, 4, 5, 6, 7, 8, 0x17, 3, 3, 0x40, 0x00};
    static const uint8_t nonce[12] = {0xa, 0xb, 0xc, 0xd, 0x80, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t salt[4] = {0xa, 0xb, 0xc, 0xd};
    uint8_t out[13];
    smt_record_aad(out, 0x8002030405060708, 16384);
    assert_memory_equal(out, aad, 13);
    smt_record_nonce(out, salt, 0x8002030405060708);
    assert_memory_equal(out, nonce, 12);
}

static void record_numbers(void **state)
{
    assert_int_equal(smt_data_record_no(1, 0), 0x0000000001000000);
    assert_int_equal(smt_data_record_no(SMT_ID_ROLE | 1, 0), 0x8000000001000000);
    assert_int_equal(smt_data_record_no(1, 0xffffff), 0x0000000001ffffff);
    assert_int_equal(smt_data_record_no(1, 1 << 24), 0x0200000001000000);
    assert_int_equal(smt_data_record_no(0x1ffffffff, 0x3fffffff), 0x7fffffffffffffff);
    assert_int_equal(smt_data_record_no(0x200000001, 0), smt_data_record_no(1, 0));
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t id = rng() & ~(1ull << 62);
        uint32_t seal = rng() & 0x3fffffff;
        uint64_t no = smt_data_record_no(id, seal);
        assert_int_equal(no >> 63, id >> 63);
        assert_int_equal(no >> 57 & 0x3f, seal >> 24);
        assert_int_equal(no >> 24 & 0x1ffffffff, id & 0x1ffffffff);
        assert_int_equal(no & 0xffffff, seal & 0xffffff);
    }
}

/* clang-format off */
static const uint8_t inner_ext[40] = {
    0x01, 0x03, 0x00, 0x09,
    0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x40,
    0x80, 0x00, 0x00, 0x03,
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
    0x00, 0x00, 0x27, 0x10,
    0x00, 0x05, 0x00, 0x00,
};
/* clang-format on */

static void assert_inner_equal(const struct smt_inner *a, const struct smt_inner *b)
{
    assert_int_equal(a->what, b->what);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->frames_len, b->frames_len);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->message_len, b->message_len);
    assert_int_equal(a->id_high, b->id_high);
    assert_int_equal(a->low_water, b->low_water);
    assert_int_equal(a->done, b->done);
    assert_int_equal(a->unsched, b->unsched);
    assert_int_equal(a->cutoffs_version, b->cutoffs_version);
}

static int inner_decode(const uint8_t *plain, size_t len, struct smt_inner *out)
{
    uint8_t *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, plain, len);
    int rc = smt_inner_decode(exact, len, out);
    free(exact);
    return rc;
}

static void inner_golden(void **state)
{
    static const struct smt_inner want = {
        .what = SMT_WHAT_REQUEST,
        .flags = SMT_INNER_EXT | SMT_INNER_IDEMPOTENT,
        .frames_len = 9,
        .message_len = 64,
        .id_high = 0x80000003,
        .low_water = 0x0102030405060708,
        .done = 0x1112131415161718,
        .unsched = 10000,
        .cutoffs_version = 5,
    };
    uint8_t plain[64] = {0}, out[40];
    memcpy(plain, inner_ext, sizeof(inner_ext));
    struct smt_inner in;
    for (size_t len = 0; len < sizeof(plain); len++) {
        int rc = inner_decode(plain, len, &in);
        assert_int_equal(rc, len < 40 + 9 ? SMT_EMALFORMED : 40);
    }
    assert_inner_equal(&in, &want);
    memset(out, 0xee, sizeof(out));
    assert_int_equal(smt_inner_encode(&in, out), 40);
    assert_memory_equal(out, inner_ext, 40);
}

static void inner_without_extension(void **state)
{
    uint8_t plain[16] = {0x03, 0x00, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1};
    uint8_t out[16];
    struct smt_inner in;
    for (size_t len = 0; len < 16; len++)
        assert_int_equal(inner_decode(plain, len, &in), SMT_EMALFORMED);
    assert_int_equal(inner_decode(plain, 16, &in), 16);
    assert_int_equal(in.what, SMT_WHAT_ONEWAY);
    assert_int_equal(in.offset, 7);
    assert_int_equal(in.message_len, 9);
    assert_int_equal(in.id_high, 1);
    assert_int_equal(in.low_water, 0);
    assert_int_equal(smt_inner_encode(&in, out), 16);
    assert_memory_equal(out, plain, 16);
    plain[7] = 0; /* offset 0 brings the extension, always */
    assert_int_equal(inner_decode(plain, 16, &in), SMT_EMALFORMED);
}

static void inner_rules(void **state)
{
    uint8_t plain[49] = {0};
    struct smt_inner in;
    memcpy(plain, inner_ext, sizeof(inner_ext));
    for (unsigned what = 0; what < 256; what++) {
        plain[0] = (uint8_t)what;
        assert_int_equal(inner_decode(plain, 49, &in),
                         what >= 1 && what <= 4 ? 40 : SMT_EMALFORMED);
    }
    plain[0] = 1;
    plain[1] = 0xff; /* unknown flags are ignored and do not come back */
    plain[38] = plain[39] = 0xff;
    assert_int_equal(inner_decode(plain, 49, &in), 40);
    assert_int_equal(in.flags, 0x03);
    plain[7] = 1; /* an extension elsewhere is no error */
    assert_int_equal(inner_decode(plain, 49, &in), 40);
    smt_put_be16(plain + 2, 0xffff);
    assert_int_equal(inner_decode(plain, 49, &in), SMT_EMALFORMED);
}

static void inner_round_trips(void **state)
{
    for (unsigned i = 0; i < 20000; i++) {
        bool ext = rng() & 1;
        struct smt_inner in = {
            .what = (uint8_t)(1 + rng() % 4),
            .flags = (uint8_t)((ext ? SMT_INNER_EXT : 0) | (rng() & SMT_INNER_IDEMPOTENT)),
            .frames_len = (uint16_t)(rng() % 50),
            .offset = (uint32_t)rng() | !ext,
            .message_len = (uint32_t)rng(),
            .id_high = (uint32_t)rng(),
            .low_water = ext ? rng() : 0,
            .done = ext ? rng() : 0,
            .unsched = ext ? (uint32_t)rng() : 0,
            .cutoffs_version = ext ? (uint16_t)rng() : 0,
        };
        uint8_t out[40 + 50] = {0};
        struct smt_inner back;
        size_t len = smt_inner_encode(&in, out);
        assert_int_equal(len, ext ? 40 : 16);
        assert_int_equal(smt_inner_decode(out, len + in.frames_len, &back), len);
        assert_inner_equal(&back, &in);
        if (in.frames_len)
            assert_int_equal(smt_inner_decode(out, len + in.frames_len - 1, &back), SMT_EMALFORMED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kind_rows),
        cmocka_unit_test(data_golden),
        cmocka_unit_test(other_kinds_golden),
        cmocka_unit_test(truncation),
        cmocka_unit_test(reserved),
        cmocka_unit_test(unknown_kinds),
        cmocka_unit_test(foreign_version),
        cmocka_unit_test(data_limits),
        cmocka_unit_test(handshake_limits),
        cmocka_unit_test(header_round_trips),
        cmocka_unit_test(header_random_bytes),
        cmocka_unit_test(record_head),
        cmocka_unit_test(record_aad_and_nonce),
        cmocka_unit_test(record_numbers),
        cmocka_unit_test(inner_golden),
        cmocka_unit_test(inner_without_extension),
        cmocka_unit_test(inner_rules),
        cmocka_unit_test(inner_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
