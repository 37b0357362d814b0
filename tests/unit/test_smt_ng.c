/* The golden vectors of NG, the format of the SMT module's branch smt-ng: each packet of smt_ng.txt
 * is built byte for byte from key, id and message, and the packets built are read back: what the
 * header says, the slices as one record, the record opened; with one bit wrong nothing opens. The
 * clear header is homa-main's; head, AAD, nonce and cipher are smt1's. The cut (segment headers of
 * 4 bytes, M = mtu - 76, n * M - 29 bytes in a full record) is this test's own, since NG is no
 * profile of ours and wire/smt1.c need not know it; so is what NG changes in homa-main's header:
 * the record begins where the segment word stands, its offset is before it in 24 bits.
 *
 * NG's record numbers begin at 0 in each message, so two messages have one nonce: never copy them.
 *
 * usage: test_smt_ng DATA_DIR */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/sha.h>

#include "base/hex.h"
#include "crypto/aead.h"
#include "wire/smt1.h"
#include "wire/wire.h"

enum {
    MTU = 1500,
    IP_HDR_LEN = 20,
    HDR_LEN = 52, /* homa-main's without the segment word */
    SEGMENT_LEN = 4,
    OFF_MESSAGE_LEN = 28,
    OFF_RECORD_OFFSET = 49, /* 24 bits */
    OFF_TLS_LEN = 3,
    TLS_LEN_BEFORE = 5,
    MAX_DATA = MTU - IP_HDR_LEN - HDR_LEN - SEGMENT_LEN,
    SLICE_LEN = MAX_DATA + SEGMENT_LEN,
    FULL_PACKETS = (SMT_SMT1_DEFAULT_GSO - IP_HDR_LEN - HDR_LEN) / SLICE_LEN,
    RECORD_DATA = FULL_PACKETS * MAX_DATA - SMT_SMT1_OVERHEAD,
    MAX_RECORDS = 2,
    MAX_PACKETS = MAX_RECORDS * FULL_PACKETS,
    /* A length with one bit wrong may claim all of this. */
    RECORD_ROOM = SMT_SMT1_MAX_RECORD,
    PAYLOAD_BYTE = 0x3f,
};

#define ONE_SEGMENT 0xffffffffu

static_assert(MAX_DATA == MTU - 76 && FULL_PACKETS == 6 && RECORD_DATA == 8515, "of the reference");

static const char *data_dir;

static const uint8_t client_key[16] = {0x8d, 0xd2, 0x30, 0xa7, 0x7a, 0x05, 0xeb, 0x71,
                                       0x15, 0x91, 0x29, 0xbc, 0xbc, 0xf6, 0x42, 0x30};
static const uint8_t client_salt[4] = {0x87, 0xc6, 0x35, 0xc8};

/* What the names of the vectors say. */
static const struct vector_row {
    const char *name;
    uint64_t id;
    uint32_t len;
    bool composite; /* numbers of smt1, as the BSD prototype has them */
} vector_rows[] = {
    {"A-request-64B-id2", 2, 64, false},
    {"A'-request-64B-id2-composite", 2, 64, true},
    {"B-request-10000B-id4-2records", 4, 10000, false},
};

static uint64_t number_of(const struct vector_row *v, uint32_t k)
{
    return v->composite ? smt_smt1_record_no(v->id, k) : k;
}

/* ---- the cipher, with the client's key ---- */

static const struct smt_aead *aead;
static void *aead_ctx;

static int cipher_setup(void **state)
{
    aead = smt_aead_find(SMT_AEAD_AES128_GCM, NULL);
    assert_non_null(aead);
    aead_ctx = aligned_alloc(64, (aead->ctx_len + 63) / 64 * 64);
    assert_non_null(aead_ctx);
    return aead->init(aead_ctx, client_key);
}

static int cipher_teardown(void **state)
{
    aead->fini(aead_ctx);
    free(aead_ctx);
    return 0;
}

/* In place, behind the record's head. */
static void seal_record(uint64_t no, uint8_t *record, uint32_t plain_len)
{
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN];
    uint8_t *body = record + SMT_RECORD_HEAD_LEN;
    struct smt_aead_in in = {body, plain_len};
    smt_smt1_head_encode(record, no, plain_len);
    smt_record_nonce(nonce, client_salt, no);
    smt_record_aad(aad, no, plain_len);
    assert_int_equal(aead->seal(aead_ctx, nonce, aad, sizeof(aad), &in, 1, body, body + plain_len),
                     0);
}

/* Number and length are those of the record's head, so that the tag speaks for all of its bits. A
 * receiver computes the number. */
static int open_record(const uint8_t *record, uint32_t record_len, uint8_t *plain, uint64_t *no,
                       size_t *plain_len)
{
    int r = smt_record_head_decode(record, record_len, no, plain_len);
    if (r != 0)
        return r;
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN];
    const uint8_t *body = record + SMT_RECORD_HEAD_LEN;
    struct smt_aead_out out = {plain, *plain_len};
    smt_record_nonce(nonce, client_salt, *no);
    smt_record_aad(aad, *no, *plain_len);
    return aead->open(aead_ctx, nonce, aad, sizeof(aad), body, *plain_len, &out, 1,
                      body + *plain_len);
}

/* ---- the sender ---- */

struct packet {
    uint32_t record, ip_id, len;
    uint8_t bytes[MTU - IP_HDR_LEN];
};

struct message {
    uint32_t n;
    struct packet packets[MAX_PACKETS];
};

/* Returns the plaintext's length. The first segment leaves room for the record's head, so that
 * every later packet begins with its segment header. */
static uint32_t plain_write(uint32_t offset, uint32_t data_len, uint8_t *plain)
{
    bool alone = data_len + SMT_RECORD_HEAD_LEN <= MAX_DATA;
    uint32_t at = 0, n = 0, room = MAX_DATA - SMT_RECORD_HEAD_LEN;
    for (; at < data_len; room = MAX_DATA) {
        uint32_t len = data_len - at < room ? data_len - at : room;
        smt_put_be32(plain + n, alone ? ONE_SEGMENT : offset + at);
        memset(plain + n + SEGMENT_LEN, PAYLOAD_BYTE, len);
        n += SEGMENT_LEN + len;
        at += len;
    }
    return n;
}

/* homa-main's header up to its segment word, and the offset once more before the record. */
static void header_write(const struct vector_row *v, uint32_t offset, bool alone, uint8_t *out)
{
    uint8_t header[SMT_HOMA_MAX_HDR_LEN];
    struct smt_homa_pkt p = {
        .type = SMT_HOMA_DATA,
        .sport = 32768,
        .dport = 2000,
        .sender_id = v->id,
        .message_len = v->len,
        .incoming = v->len,
        .place = alone ? SMT_HOMA_IN_SEQUENCE : SMT_HOMA_IN_SEGMENT,
        .offset = offset,
        .frame_offset = offset,
    };
    assert_int_equal(smt_homa_encode(&smt_homa_main, &p, header), HDR_LEN + 4);
    memcpy(out, header, HDR_LEN);
    out[OFF_RECORD_OFFSET] = (uint8_t)(offset >> 16);
    smt_put_be16(out + OFF_RECORD_OFFSET + 1, (uint16_t)offset);
}

static void build(const struct vector_row *v, struct message *m)
{
    static uint8_t record[RECORD_ROOM];
    m->n = 0;
    for (uint32_t k = 0, offset = 0; offset < v->len; k++, offset += RECORD_DATA) {
        uint32_t left = v->len - offset, data_len = left < RECORD_DATA ? left : RECORD_DATA;
        uint32_t plain_len = plain_write(offset, data_len, record + SMT_RECORD_HEAD_LEN);
        uint32_t record_len = plain_len + SMT_SMT1_OVERHEAD;
        seal_record(number_of(v, k), record, plain_len);
        for (uint32_t at = 0; at < record_len; at += SLICE_LEN) {
            uint32_t slice = record_len - at < SLICE_LEN ? record_len - at : SLICE_LEN;
            assert_true(m->n < MAX_PACKETS);
            struct packet *p = &m->packets[m->n++];
            *p = (struct packet){.record = k, .ip_id = at / SLICE_LEN, .len = HDR_LEN + slice};
            header_write(v, offset, record_len <= SLICE_LEN, p->bytes);
            memcpy(p->bytes + HDR_LEN, record + at, slice);
        }
    }
}

/* ---- the receiver ---- */

struct gathered {
    uint32_t message_len, n_records;
    uint32_t record_len[MAX_RECORDS];
    uint8_t records[MAX_RECORDS][RECORD_ROOM];
};

/* The segment word, which homa-main's decoder reads, is the record's here: it gets a header of its
 * own in which the sequence word holds the offset. */
static int header_read(const struct packet *p, struct smt_homa_pkt *h)
{
    uint8_t header[HDR_LEN + 4];
    memcpy(header, p->bytes, HDR_LEN);
    smt_put_be32(header + HDR_LEN, ONE_SEGMENT);
    int r = smt_homa_decode(&smt_homa_main, header, sizeof(header), h);
    if (r != 0)
        return r;
    const uint8_t *again = p->bytes + OFF_RECORD_OFFSET;
    return h->offset == ((uint32_t)again[0] << 16 | smt_get_be16(again + 1)) ? 0 : SMT_EMALFORMED;
}

/* Last packet first: each says itself where it belongs. */
static int gather(const struct message *m, struct gathered *g)
{
    memset(g, 0, sizeof(*g));
    for (uint32_t i = m->n; i-- > 0;) {
        const struct packet *p = &m->packets[i];
        struct smt_homa_pkt h;
        int r = header_read(p, &h);
        if (r != 0)
            return r;
        uint32_t k = h.offset / RECORD_DATA;
        if (h.offset % RECORD_DATA != 0 || k >= MAX_RECORDS || p->ip_id >= FULL_PACKETS ||
            (g->message_len != 0 && h.message_len != g->message_len))
            return SMT_EMALFORMED;
        g->message_len = h.message_len;
        g->n_records = k < g->n_records ? g->n_records : k + 1;
        g->record_len[k] += p->len - HDR_LEN;
        memcpy(g->records[k] + p->ip_id * SLICE_LEN, p->bytes + HDR_LEN, p->len - HDR_LEN);
    }
    return 0;
}

/* The bytes of the message in an opened record, all of them checked. */
static uint32_t plain_read(const uint8_t *plain, uint32_t plain_len, uint32_t offset)
{
    uint32_t n_segments = (SMT_RECORD_HEAD_LEN + plain_len + SLICE_LEN - 1) / SLICE_LEN, data = 0;
    for (uint32_t i = 0; i < n_segments; i++) {
        uint32_t at = i == 0 ? 0 : i * SLICE_LEN - SMT_RECORD_HEAD_LEN;
        uint32_t end = (i + 1) * SLICE_LEN - SMT_RECORD_HEAD_LEN;
        end = end < plain_len ? end : plain_len;
        assert_true(at + SEGMENT_LEN < end);
        assert_int_equal(smt_get_be32(plain + at), n_segments == 1 ? ONE_SEGMENT : offset + data);
        for (uint32_t b = at + SEGMENT_LEN; b < end; b++)
            assert_int_equal(plain[b], PAYLOAD_BYTE);
        data += end - at - SEGMENT_LEN;
    }
    return data;
}

static int read_message(const struct vector_row *v, const struct message *m)
{
    static struct gathered g;
    static uint8_t plain[RECORD_ROOM];
    int r = gather(m, &g);
    if (r != 0)
        return r;
    uint32_t got = 0;
    for (uint32_t k = 0; k < g.n_records; k++) {
        uint64_t no;
        size_t plain_len;
        r = open_record(g.records[k], g.record_len[k], plain, &no, &plain_len);
        if (r != 0)
            return r;
        assert_int_equal(no, number_of(v, k));
        got += plain_read(plain, (uint32_t)plain_len, got);
    }
    return got == g.message_len ? 0 : SMT_EMALFORMED;
}

/* ---- the vectors ---- */

struct wanted {
    char name[64];
    unsigned record, ip_id, len;
    bool has_bytes; /* of the long ones the digest alone is known */
    uint8_t digest[32];
    uint8_t bytes[MTU];
};

static bool next_wanted(FILE *f, struct wanted *w)
{
    static char line[4096];
    while (fgets(line, sizeof(line), f) != NULL) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        line[strcspn(line, "\n")] = '\0';
        char sha[65];
        assert_int_equal(sscanf(line, "%63s record=%u ipid=%u len=%u sha256=%64s", w->name,
                                &w->record, &w->ip_id, &w->len, sha),
                         5);
        assert_true(smt_hex_read(sha, w->digest, sizeof(w->digest)) && w->len <= sizeof(w->bytes));
        const char *bytes = strstr(line, " bytes=");
        w->has_bytes = bytes != NULL;
        if (w->has_bytes)
            assert_true(smt_hex_read(bytes + strlen(" bytes="), w->bytes, w->len));
        return true;
    }
    return false;
}

static const struct vector_row *row_of(const char *name)
{
    for (size_t i = 0; i < SMT_ARRAY_LEN(vector_rows); i++)
        if (strcmp(vector_rows[i].name, name) == 0)
            return &vector_rows[i];
    fail_msg("no vector %s", name);
    return NULL;
}

static void check_wanted(const struct wanted *w, const struct packet *p)
{
    uint8_t digest[32];
    SHA256(p->bytes, p->len, digest);
    if (p->len != w->len || p->record != w->record || p->ip_id != w->ip_id ||
        memcmp(digest, w->digest, sizeof(digest)) != 0)
        fail_msg("%s record %u packet %u differs", w->name, w->record, w->ip_id);
    if (w->has_bytes)
        assert_memory_equal(p->bytes, w->bytes, p->len);
}

/* All packets of a message stand in the file, in the order they are sent. */
static void built(void **state)
{
    static struct wanted w;
    static struct message m;
    char path[512];
    unsigned n_lines = 0, n_messages = 0;
    uint32_t i = 0;
    snprintf(path, sizeof(path), "%s/smt_ng.txt", data_dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (; next_wanted(f, &w); n_lines++) {
        if (i == 0)
            build(row_of(w.name), &m);
        check_wanted(&w, &m.packets[i]);
        i = (i + 1) % m.n;
        n_messages += i == 0;
    }
    fclose(f);
    assert_int_equal(n_lines, 10);
    assert_int_equal(n_messages, SMT_ARRAY_LEN(vector_rows));
}

static void read_back(void **state)
{
    static struct message m;
    for (size_t i = 0; i < SMT_ARRAY_LEN(vector_rows); i++) {
        const struct vector_row *v = &vector_rows[i];
        build(v, &m);
        assert_int_equal(read_message(v, &m), 0);
        for (uint32_t p = 0; p < m.n; p++) {
            struct smt_homa_pkt h;
            assert_int_equal(header_read(&m.packets[p], &h), 0);
            assert_int_equal(h.type, SMT_HOMA_DATA);
            assert_int_equal(h.sport, 32768);
            assert_int_equal(h.dport, 2000);
            assert_int_equal(h.sender_id, v->id);
            assert_int_equal(h.message_len, v->len);
            assert_int_equal(h.incoming, v->len);
            assert_int_equal(h.offset, m.packets[p].record * RECORD_DATA);
            assert_int_equal(h.cutoff_version, 0);
            assert_int_equal(h.n_acks, 0);
            assert_false(h.retransmit);
            /* Not homa-main's: a record's head is no offset in any message. */
            if (m.packets[p].ip_id == 0)
                assert_int_equal(
                    smt_homa_decode(&smt_homa_main, m.packets[p].bytes, m.packets[p].len, &h),
                    SMT_EMALFORMED);
        }
    }
}

/* One bit of each byte of the slices, and every bit of the header's message length. The latter is
 * under no tag: packets disagree, or the bytes that open are not as many as it says. */
static void flipped_in_packets(void **state)
{
    static struct message m;
    for (size_t i = 0; i < SMT_ARRAY_LEN(vector_rows); i++) {
        const struct vector_row *v = &vector_rows[i];
        build(v, &m);
        for (uint32_t p = 0; p < m.n; p++) {
            uint8_t *bytes = m.packets[p].bytes;
            for (uint32_t at = HDR_LEN; at < m.packets[p].len; at++) {
                bytes[at] ^= 1u << at % 8;
                bool in_head = m.packets[p].ip_id == 0 && at < HDR_LEN + TLS_LEN_BEFORE;
                assert_int_equal(read_message(v, &m), in_head ? SMT_EMALFORMED : SMT_EAUTH);
                bytes[at] ^= 1u << at % 8;
            }
            for (uint32_t bit = 0; bit < 32; bit++) {
                bytes[OFF_MESSAGE_LEN + bit / 8] ^= 1u << bit % 8;
                assert_int_equal(read_message(v, &m), SMT_EMALFORMED);
                bytes[OFF_MESSAGE_LEN + bit / 8] ^= 1u << bit % 8;
            }
        }
        assert_int_equal(read_message(v, &m), 0);
    }
}

/* A forger sends as many bytes as the wrong length says: then it is the tag that refuses. */
static void flipped_length(void **state)
{
    static struct message m;
    static struct gathered g;
    static uint8_t plain[RECORD_ROOM];
    for (size_t i = 0; i < SMT_ARRAY_LEN(vector_rows); i++) {
        build(&vector_rows[i], &m);
        assert_int_equal(gather(&m, &g), 0);
        for (uint32_t k = 0; k < g.n_records; k++) {
            uint8_t *length = g.records[k] + OFF_TLS_LEN;
            uint16_t right = smt_get_be16(length);
            for (uint32_t bit = 0; bit < 16; bit++) {
                uint16_t wrong = right ^ (uint16_t)(1u << bit);
                uint32_t least = 8 + SMT_SMT1_TAG_LEN, most = least + SMT_RECORD_MAX_PLAIN;
                bool is_length = wrong >= least && wrong <= most;
                uint64_t no;
                size_t plain_len;
                smt_put_be16(length, wrong);
                assert_int_equal(
                    open_record(g.records[k], TLS_LEN_BEFORE + wrong, plain, &no, &plain_len),
                    is_length ? SMT_EAUTH : SMT_EMALFORMED);
            }
            smt_put_be16(length, right);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_smt_ng DATA_DIR\n");
        return 2;
    }
    data_dir = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(built),
        cmocka_unit_test(read_back),
        cmocka_unit_test(flipped_in_packets),
        cmocka_unit_test(flipped_length),
    };
    return cmocka_run_group_tests(tests, cipher_setup, cipher_teardown);
}
