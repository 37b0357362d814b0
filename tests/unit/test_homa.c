/* Packets of the kernel's Homa, three formats: the golden vectors of the modules' own structures
 * both ways, every length below a kind's, what decoding promises of hostile packets, and the words
 * that the formats carry in two ways. Packets under test end where their allocation ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/homa.h"
#include "wire/smt1.h"

static const struct smt_homa_format *const formats[] = {&smt_homa_main, &smt_homa_6_1,
                                                        &smt_homa_smt1};

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

static int decode(const struct smt_homa_format *f, const uint8_t *pkt, size_t len,
                  struct smt_homa_pkt *out)
{
    uint8_t *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, pkt, len);
    int rc = smt_homa_decode(f, exact, len, out);
    if (rc == 0 && out->payload)
        assert_ptr_equal(out->payload + out->payload_len, exact + len);
    free(exact);
    out->payload = NULL;
    return rc;
}

/* Client port 0x8001, server port 4000, RPC 1234 of 50,000 bytes. */
struct vector {
    const char *name;
    const struct smt_homa_format *f;
    struct smt_homa_pkt p;
    const char *hex;
};

#define CLIENT .sport = 0x8001, .dport = 4000, .sender_id = 1234
#define SERVER .sport = 4000, .dport = 0x8001, .sender_id = 1235

static const struct vector vectors[] = {
    {"main DATA",
     &smt_homa_main,
     {CLIENT, .type = SMT_HOMA_DATA, .message_len = 50000, .incoming = 40000, .offset = 1424,
      .frame_offset = 1424, .cutoff_version = 1, .n_acks = 1, .acks = {{1230, 0, 4000}}},
     "80010fa00000059000000010e00600000000b97d00000000000004d20000c35000009c4000000000000004ce"
     "0fa000010000000000000590"},
    {"main GRANT",
     &smt_homa_main,
     {SERVER, .type = SMT_HOMA_GRANT, .offset = 45000, .prio = 2},
     "0fa080010000000000000011500600000000b97d00000000000004d30000afc802"},
    {"main RESEND",
     &smt_homa_main,
     {SERVER, .type = SMT_HOMA_RESEND, .length = SMT_HOMA_RESEND_ALL, .prio = 7},
     "0fa080010000000000000012500600000000b97d00000000000004d300000000ffffffff07"},
    {"main BUSY",
     &smt_homa_main,
     {SERVER, .type = SMT_HOMA_BUSY},
     "0fa080010000000000000014500600000000b97d00000000000004d3"},
    {"main CUTOFFS",
     &smt_homa_main,
     {SERVER, .type = SMT_HOMA_CUTOFFS, .cutoff_version = 1,
      .cutoffs = {0x7fffffff, 0, 0, 0, 1000000, 15000, 2800, 200}},
     "0fa080010000000000000015500600000000b97d00000000000004d37fffffff000000000000000000000000"
     "000f424000003a9800000af0000000c80001"},
    {"main ACK",
     &smt_homa_main,
     {CLIENT, .type = SMT_HOMA_ACK, .n_acks = 2, .acks = {{1228, 0, 4000}, {1226, 0, 4001}}},
     "80010fa00000000000000018500600000000b97d00000000000004d2000200000000000004cc0fa000000000"
     "000004ca0fa1000000000000000000000000000000000000000000000000000000000000"},
    {"6.1 DATA",
     &smt_homa_6_1,
     {CLIENT, .type = SMT_HOMA_DATA, .message_len = 50000, .incoming = 10000, .offset = 1424,
      .frame_offset = 1424, .cutoff_version = 1, .n_acks = 1, .acks = {{1230, 0x8001, 4000}}},
     "80010fa00000059000000010e00600000000b97d00000000000004d20000c3500000271000000000000004ce"
     "80010fa00001000000000590"},
    {"6.1 GRANT",
     &smt_homa_6_1,
     {SERVER, .type = SMT_HOMA_GRANT, .offset = 45000, .prio = 2},
     "0fa080010000000000000011000600000000b97d00000000000004d30000afc80200"},
    {"6.1 RESEND",
     &smt_homa_6_1,
     {SERVER, .type = SMT_HOMA_RESEND, .length = SMT_HOMA_RESEND_FIRST, .prio = 7},
     "0fa080010000000000000012000600000000b97d00000000000004d3000000000000006407"},
    {"SMT GRANT",
     &smt_homa_smt1,
     {SERVER, .type = SMT_HOMA_GRANT, .offset = 45000, .prio = 2},
     "0fa080010000000000000000001100000000000000000000000004d30000afc802"},
};

static void assert_same(const struct smt_homa_pkt *a, const struct smt_homa_pkt *b)
{
    assert_int_equal(a->sport, b->sport);
    assert_int_equal(a->dport, b->dport);
    assert_int_equal(a->sender_id, b->sender_id);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->prio, b->prio);
    assert_int_equal(a->retransmit, b->retransmit);
    assert_int_equal(a->resend_all, b->resend_all);
    assert_int_equal(a->place, b->place);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->n_acks, b->n_acks);
    assert_int_equal(a->cutoff_version, b->cutoff_version);
    assert_int_equal(a->message_len, b->message_len);
    assert_int_equal(a->incoming, b->incoming);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->frame_offset, b->frame_offset);
    assert_memory_equal(a->cutoffs, b->cutoffs, sizeof(a->cutoffs));
    for (unsigned i = 0; i < SMT_HOMA_MAX_ACKS; i++) {
        assert_int_equal(a->acks[i].client_id, b->acks[i].client_id);
        assert_int_equal(a->acks[i].client_port, b->acks[i].client_port);
        assert_int_equal(a->acks[i].server_port, b->acks[i].server_port);
    }
}

static void golden(void **state)
{
    for (size_t i = 0; i < SMT_ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        uint8_t want[SMT_HOMA_MAX_HDR_LEN], got[SMT_HOMA_MAX_HDR_LEN];
        size_t len = from_hex(v->hex, want);
        assert_int_equal(smt_homa_len(v->f, v->p.type), len);
        assert_int_equal(smt_homa_encode(v->f, &v->p, got), len);
        assert_memory_equal(got, want, len);
        struct smt_homa_pkt back;
        assert_int_equal(decode(v->f, want, len, &back), 0);
        assert_same(&back, &v->p);
    }
}

/* SMT's DATA without encryption is our clear header and segment header in one row. */
static void golden_smt_data(void **state)
{
    uint8_t want[60], got[SMT_HOMA_MAX_HDR_LEN];
    size_t len = from_hex("80010fa00000000000000000a01000000000000000000000000004d20000c3500000"
                          "2710000100000000058c0000058c00000000000004ce80010fa0",
                          want);
    struct smt_homa_pkt p = {CLIENT, .type = SMT_HOMA_DATA, .message_len = 50000, .incoming = 10000,
                             .cutoff_version = 1};
    struct smt_smt1_segment s = {1420, 1420, {1230, 0x8001, 4000}};
    assert_int_equal(smt_homa_encode(&smt_homa_smt1, &p, got), SMT_SMT1_HDR_LEN);
    smt_smt1_segment_encode(&s, got + SMT_SMT1_HDR_LEN);
    assert_int_equal(len, 60);
    assert_memory_equal(got, want, 60);

    struct smt_homa_pkt back;
    struct smt_smt1_segment seg;
    assert_int_equal(decode(&smt_homa_smt1, want, 60, &back), 0);
    assert_int_equal(back.payload_len, SMT_SMT1_SEGMENT_LEN);
    assert_same(&back, &p);
    smt_smt1_segment_decode(want + SMT_SMT1_HDR_LEN, &seg);
    assert_int_equal(seg.offset, 1420);
    assert_int_equal(seg.len, 1420);
    assert_int_equal(seg.ack.client_id, 1230);
    assert_int_equal(seg.ack.client_port, 0x8001);
    assert_int_equal(seg.ack.server_port, 4000);
}

static struct smt_homa_pkt sample(uint8_t type)
{
    return (struct smt_homa_pkt){CLIENT, .type = type, .message_len = 1000, .incoming = 1000};
}

static void lengths(void **state)
{
    static const struct {
        uint8_t type, main, v6_1, smt1;
    } want[] = {
        {SMT_HOMA_DATA, 56, 56, 40},   {SMT_HOMA_GRANT, 33, 34, 33},
        {SMT_HOMA_RESEND, 37, 37, 37}, {SMT_HOMA_UNKNOWN, 28, 28, 28},
        {SMT_HOMA_BUSY, 28, 28, 28},   {SMT_HOMA_CUTOFFS, 62, 62, 62},
        {SMT_HOMA_FREEZE, 28, 28, 28}, {SMT_HOMA_NEED_ACK, 28, 28, 28},
        {SMT_HOMA_ACK, 80, 90, 90},
    };
    for (size_t i = 0; i < SMT_ARRAY_LEN(want); i++) {
        const uint8_t lens[] = {want[i].main, want[i].v6_1, want[i].smt1};
        assert_non_null(smt_homa_type_name(want[i].type));
        for (size_t k = 0; k < 3; k++) {
            uint8_t pkt[SMT_HOMA_MAX_HDR_LEN + 40] = {0};
            struct smt_homa_pkt p = sample(want[i].type), out;
            size_t len = smt_homa_encode(formats[k], &p, pkt);
            assert_int_equal(len, lens[k]);
            assert_int_equal(smt_homa_len(formats[k], p.type), len);
            for (size_t cut = 0; cut < len; cut++)
                assert_int_equal(decode(formats[k], pkt, cut, &out), SMT_EMALFORMED);
            /* A slice of no bytes tells nothing; an empty DATA announces its message. */
            bool empty_slice = p.type == SMT_HOMA_DATA && formats[k]->records;
            assert_int_equal(decode(formats[k], pkt, len, &out), empty_slice ? SMT_EMALFORMED : 0);
            assert_int_equal(decode(formats[k], pkt, len + 40, &out), 0);
            assert_int_equal(out.type, p.type);
        }
    }
}

static void unknown_types(void **state)
{
    for (size_t k = 0; k < 3; k++)
        for (unsigned type = 0; type < 256; type++) {
            if (type >= SMT_HOMA_DATA && type <= SMT_HOMA_ACK)
                continue;
            uint8_t pkt[SMT_HOMA_MAX_HDR_LEN] = {0};
            struct smt_homa_pkt out;
            pkt[formats[k]->tcp_like ? 11 : 13] = (uint8_t)type;
            assert_int_equal(decode(formats[k], pkt, sizeof(pkt), &out), SMT_EMALFORMED);
            assert_int_equal(smt_homa_len(formats[k], (uint8_t)type), 0);
            assert_null(smt_homa_type_name((uint8_t)type));
        }
}

static int data_rc(const struct smt_homa_format *f, uint32_t message_len, uint32_t offset,
                   uint32_t payload)
{
    uint8_t pkt[SMT_HOMA_MAX_HDR_LEN + 64] = {0};
    struct smt_homa_pkt p = {CLIENT, .type = SMT_HOMA_DATA, .message_len = message_len,
                             .offset = offset};
    struct smt_homa_pkt out;
    size_t len = smt_homa_encode(f, &p, pkt);
    int rc = decode(f, pkt, len + payload, &out);
    if (rc == 0) {
        assert_int_equal(out.offset, offset);
        assert_int_equal(out.payload_len, payload);
    }
    return rc;
}

static void data_bounds(void **state)
{
    for (size_t k = 0; k < 2; k++) {
        const struct smt_homa_format *f = formats[k];
        assert_int_equal(data_rc(f, 0, 0, 0), SMT_EMALFORMED);
        assert_int_equal(data_rc(f, 1, 0, 1), 0);
        assert_int_equal(data_rc(f, 1, 0, 2), SMT_EMALFORMED);
        assert_int_equal(data_rc(f, 1000000, 999999, 1), 0);
        assert_int_equal(data_rc(f, 1000000, 999999, 2), SMT_EMALFORMED);
        assert_int_equal(data_rc(f, 1000000, 1000000, 0), 0);
        assert_int_equal(data_rc(f, 1000000, 1000001, 0), SMT_EMALFORMED);
        assert_int_equal(data_rc(f, 1000001, 0, 1), SMT_EMALFORMED);
        assert_int_equal(data_rc(f, 0x80000000, 0, 1), SMT_EMALFORMED);
        assert_int_equal(data_rc(f, 1000, 0xfffffffe, 1), SMT_EMALFORMED);
    }
    /* A slice is longer than its share of the message: its record has 29 bytes and headers. */
    assert_int_equal(data_rc(&smt_homa_smt1, 1, 0, 50), 0);
    assert_int_equal(data_rc(&smt_homa_smt1, 1, 0, 0), SMT_EMALFORMED);
    assert_int_equal(data_rc(&smt_homa_smt1, 1, 1, 50), SMT_EMALFORMED);
    assert_int_equal(data_rc(&smt_homa_smt1, 1000000, 999999, 50), 0);
    assert_int_equal(data_rc(&smt_homa_smt1, 1000001, 0, 50), SMT_EMALFORMED);
}

/* The offset: both words, the sequence alone, the segment alone, and junk in the other. */
static void places(void **state)
{
    for (size_t k = 0; k < 2; k++) {
        uint8_t pkt[SMT_HOMA_MAX_HDR_LEN];
        struct smt_homa_pkt p = sample(SMT_HOMA_DATA), out;
        p.message_len = 100000;
        p.offset = 2848;
        p.frame_offset = 1424;
        smt_homa_encode(formats[k], &p, pkt);
        assert_int_equal(smt_get_be32(pkt + 4), 2848);
        assert_int_equal(smt_get_be32(pkt + 52), 2848);
        assert_int_equal(pkt[12], 0xe0);
        assert_int_equal(decode(formats[k], pkt, 56, &out), 0);
        assert_int_equal(out.offset, 2848);
        assert_int_equal(out.place, SMT_HOMA_IN_BOTH);

        p.place = SMT_HOMA_IN_SEQUENCE;
        smt_homa_encode(formats[k], &p, pkt);
        assert_int_equal(smt_get_be32(pkt + 4), 2848);
        assert_int_equal(smt_get_be32(pkt + 52), 0xffffffff);
        assert_int_equal(decode(formats[k], pkt, 56, &out), 0);
        assert_int_equal(out.offset, 2848);
        assert_int_equal(out.place, SMT_HOMA_IN_SEQUENCE);

        p.place = SMT_HOMA_IN_SEGMENT;
        smt_homa_encode(formats[k], &p, pkt);
        assert_int_equal(smt_get_be32(pkt + 4), 1424);
        assert_int_equal(smt_get_be32(pkt + 52), 2848);
        assert_int_equal(pkt[12], 0xd0);
        assert_int_equal(decode(formats[k], pkt, 56, &out), 0);
        assert_int_equal(out.offset, 2848);
        assert_int_equal(out.place, SMT_HOMA_IN_SEGMENT);

        /* The length a header claims for itself changes nothing that counts. */
        pkt[12] = 0x00;
        assert_int_equal(decode(formats[k], pkt, 56, &out), 0);
        assert_int_equal(out.offset, 2848);
    }
}

static void acks(void **state)
{
    for (size_t k = 0; k < 3; k++) {
        uint8_t pkt[SMT_HOMA_MAX_HDR_LEN];
        struct smt_homa_pkt p = sample(SMT_HOMA_ACK), out;
        p.n_acks = SMT_HOMA_MAX_ACKS;
        for (unsigned i = 0; i < SMT_HOMA_MAX_ACKS; i++)
            p.acks[i] =
                (struct smt_homa_ack){1000 + 2 * i, (uint16_t)(0x9000 + i), (uint16_t)(40 + i)};
        size_t len = smt_homa_encode(formats[k], &p, pkt);
        smt_put_be16(pkt + 28, 0xffff);
        assert_int_equal(decode(formats[k], pkt, len, &out), 0);
        assert_int_equal(out.n_acks, SMT_HOMA_MAX_ACKS);
        for (unsigned i = 0; i < SMT_HOMA_MAX_ACKS; i++) {
            assert_int_equal(out.acks[i].client_id, 1000 + 2 * i);
            assert_int_equal(out.acks[i].client_port,
                             formats[k]->knows_client_port ? 0x9000 + i : 0);
            assert_int_equal(out.acks[i].server_port, 40 + i);
        }
        smt_put_be16(pkt + 28, 0);
        assert_int_equal(decode(formats[k], pkt, len, &out), 0);
        assert_int_equal(out.n_acks, 0);
        assert_int_equal(out.acks[0].client_id, 0);
    }
    /* DATA without an ack: ports beside a zero id are no ack either way. */
    for (size_t k = 0; k < 2; k++) {
        uint8_t pkt[SMT_HOMA_MAX_HDR_LEN];
        struct smt_homa_pkt p = sample(SMT_HOMA_DATA), out;
        p.acks[0] = (struct smt_homa_ack){77, 78, 79};
        smt_homa_encode(formats[k], &p, pkt);
        for (unsigned i = 36; i < 36u + formats[k]->ack_len; i++)
            assert_int_equal(pkt[i], 0);
        smt_put_be16(pkt + 44, 1234);
        assert_int_equal(decode(formats[k], pkt, 56, &out), 0);
        assert_int_equal(out.n_acks, 0);
        assert_int_equal(out.acks[0].client_port + out.acks[0].server_port, 0);
    }
}

static void grants(void **state)
{
    uint8_t pkt[SMT_HOMA_MAX_HDR_LEN];
    struct smt_homa_pkt p = sample(SMT_HOMA_GRANT), out;
    p.long_grant = true;
    memset(pkt, 0xee, sizeof(pkt));
    assert_int_equal(smt_homa_encode(&smt_homa_main, &p, pkt), 34);
    assert_int_equal(pkt[33], 0);
    assert_int_equal(decode(&smt_homa_main, pkt, 34, &out), 0);
    assert_true(out.long_grant);
    assert_int_equal(smt_homa_encode(&smt_homa_smt1, &p, pkt), 33);
    p.resend_all = true;
    assert_int_equal(smt_homa_encode(&smt_homa_6_1, &p, pkt), 34);
    assert_int_equal(pkt[33], 1);
    assert_int_equal(decode(&smt_homa_6_1, pkt, 34, &out), 0);
    assert_true(out.resend_all);
}

static void packet_sizes(void **state)
{
    assert_int_equal(smt_homa_packet_data(&smt_homa_main, 1500, false), 1424);
    assert_int_equal(smt_homa_packet_data(&smt_homa_main, 1500, true), 1404);
    assert_int_equal(smt_homa_packet_data(&smt_homa_6_1, 9000, false), 8924);
    assert_int_equal(smt_homa_packet_data(&smt_homa_smt1, 1500, false), 1420);
    assert_int_equal(smt_homa_packet_data(&smt_homa_smt1, 3000, false), 2920);
    assert_int_equal(smt_homa_packet_data(&smt_homa_main, 76, false), 0);
    assert_int_equal(smt_homa_local_id(1234), 1235);
    assert_int_equal(smt_homa_local_id(1235), 1234);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),       cmocka_unit_test(golden_smt_data),
        cmocka_unit_test(lengths),      cmocka_unit_test(unknown_types),
        cmocka_unit_test(data_bounds),  cmocka_unit_test(places),
        cmocka_unit_test(acks),         cmocka_unit_test(grants),
        cmocka_unit_test(packet_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
