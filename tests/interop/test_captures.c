/* The captures of real kernels in tests/data: every Homa and SMT packet decodes and is encoded
 * again to the same bytes, every frame of another kind is named, every message is whole and every
 * record opens with the keys that the SMT bench publishes. And the packets of smt1.txt, computed by
 * an independent model, are built byte for byte from key, id and message alone.
 *
 * usage: test_captures DATA_DIR */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/sha.h>

#include "crypto/aead.h"
#include "pcap/inspect.h"
#include "pcap/keys.h"
#include "wire/smt1.h"
#include "wire/wire.h"

static const char *data_dir;

static const struct smt_inspect_key client_key = {
    .key = {0x8d, 0xd2, 0x30, 0xa7, 0x7a, 0x05, 0xeb, 0x71, 0x15, 0x91, 0x29, 0xbc, 0xbc, 0xf6,
            0x42, 0x30},
    .salt = {0x87, 0xc6, 0x35, 0xc8},
    .is_set = true,
};
static const struct smt_inspect_key server_key = {
    .key = {0x6c, 0xcf, 0x62, 0xff, 0x4b, 0xe6, 0x14, 0x85, 0xd8, 0xba, 0x29, 0xfe, 0x2e, 0x84,
            0x7a, 0x7f},
    .salt = {0xb9, 0xfa, 0x55, 0x83},
    .is_set = true,
};

/* What each holds; all messages are complete. `named`: frames of other kinds. */
static const struct capture_row {
    const char *file;
    const struct smt_homa_format *format;
    unsigned n_ours, n_named, n_messages, n_records;
} captures[] = {
    {"homa61_64B", &smt_homa_6_1, 10, 0, 4, 0},
    {"homa61_1500B", &smt_homa_6_1, 13, 0, 4, 0},
    {"homa61_20KB", &smt_homa_6_1, 74, 0, 4, 0},
    {"homa61_loss10_mtu1500", &smt_homa_6_1, 134, 14, 12, 0},
    {"homamain_64B", &smt_homa_main, 11, 0, 4, 0},
    {"homamain_1500B", &smt_homa_main, 32, 0, 4, 0},
    {"homamain_20KB", &smt_homa_main, 64, 0, 4, 0},
    {"smt_64B", &smt_homa_smt1, 12, 0, 6, 6},
    {"smt_1024B", &smt_homa_smt1, 8, 0, 6, 6},
    {"smt_16KB", &smt_homa_smt1, 78, 0, 6, 12},
    {"roce_ud_and_rc_small", &smt_homa_main, 0, 60, 0, 0},
};

static void path_of(const char *name, const char *ending, char out[512])
{
    snprintf(out, 512, "%s/%s%s", data_dir, name, ending);
}

static void open_capture(const char *name, struct smt_capture *c)
{
    char path[512], text[512] = "";
    path_of(name, ".pcap", path);
    if (smt_capture_open(c, path, text, sizeof(text)) != 0)
        fail_msg("%s", text);
}

/* Bytes that may differ: the checksum alone, which the NIC or the stack fills in. What the formats
 * leave undefined (homa-6.1 and SMT: sequence, doff and window of control packets) is zero in these
 * captures, as we write it. */
static bool is_excepted(size_t at)
{
    return at == 16 || at == 17;
}

static void same_bytes(const struct smt_homa_format *f, const struct smt_cap_packet *packet)
{
    struct smt_homa_pkt p;
    assert_int_equal(smt_homa_decode(f, packet->data, packet->len, &p), 0);
    uint8_t again[SMT_HOMA_MAX_HDR_LEN];
    size_t len = smt_homa_encode(f, &p, again);
    assert_int_equal(len + p.payload_len, packet->len);
    for (size_t i = 0; i < len; i++) {
        if (again[i] != packet->data[i] && !is_excepted(i))
            fail_msg("packet %lu (%s): byte %zu is %02x, was %02x", (unsigned long)packet->number,
                     smt_homa_type_name(p.type), i, again[i], packet->data[i]);
    }
}

static void packets_again(void **state)
{
    for (size_t i = 0; i < SMT_ARRAY_LEN(captures); i++) {
        const struct capture_row *row = &captures[i];
        struct smt_capture c;
        struct smt_cap_packet p;
        unsigned n = 0;
        int r;
        open_capture(row->file, &c);
        while ((r = smt_capture_next(&c, &p)) > 0) {
            if (p.kind != SMT_CAP_IP || p.protocol != row->format->ip_protocol)
                continue;
            same_bytes(row->format, &p);
            n++;
        }
        assert_int_equal(r, 0);
        assert_int_equal(n, row->n_ours);
        smt_capture_close(&c);
    }
}

static bool is_named(const char *text)
{
    static const char *const names[] = {"ARP", "ICMP type ", "RoCE v2"};
    for (size_t i = 0; i < SMT_ARRAY_LEN(names); i++)
        if (strncmp(text, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static void check_messages(const struct capture_row *row, const struct smt_inspect *in)
{
    const struct smt_inspect_message *m = smt_inspect_messages(in);
    unsigned n = 0, n_records = 0;
    for (; m != NULL; m = m->next) {
        assert_true(m->is_complete);
        assert_int_equal(m->got, m->len);
        for (uint32_t i = 0; row->format->records && i < m->len; i++)
            assert_int_equal(m->data[i], 0x3f);
        n++;
        n_records += m->n_records;
    }
    assert_int_equal(n, row->n_messages);
    assert_int_equal(n_records, row->n_records);
}

static void inspect_all(const struct capture_row *row, struct smt_inspect *in)
{
    struct smt_capture c;
    struct smt_cap_packet p;
    struct smt_inspect_line line;
    unsigned n_ours = 0, n_named = 0;
    open_capture(row->file, &c);
    while (smt_capture_next(&c, &p) > 0) {
        assert_int_equal(smt_inspect_packet(in, &p, &line), 0);
        if (line.fault[0] != '\0')
            fail_msg("%s: packet %lu: %s", row->file, (unsigned long)p.number, line.fault);
        n_ours += line.is_ours;
        if (!line.is_ours && !is_named(line.text))
            fail_msg("%s: packet %lu: %s", row->file, (unsigned long)p.number, line.text);
        n_named += !line.is_ours;
    }
    assert_int_equal(n_ours, row->n_ours);
    assert_int_equal(n_named, row->n_named);
    check_messages(row, in);
    smt_capture_close(&c);
}

static void messages_open(void **state)
{
    for (size_t i = 0; i < SMT_ARRAY_LEN(captures); i++) {
        struct smt_inspect_config config = {
            .format = captures[i].format, .mtu = 1500, .client = client_key, .server = server_key};
        struct smt_inspect *in;
        assert_int_equal(smt_inspect_new(&config, &in), 0);
        inspect_all(&captures[i], in);
        smt_inspect_free(in);
    }
}

/* Each request of the echo servers came back. */
static void responses_echo(void **state)
{
    for (size_t i = 0; i < SMT_ARRAY_LEN(captures); i++) {
        struct smt_inspect_config config = {
            .format = captures[i].format, .mtu = 1500, .client = client_key, .server = server_key};
        struct smt_inspect *in;
        assert_int_equal(smt_inspect_new(&config, &in), 0);
        inspect_all(&captures[i], in);
        const struct smt_inspect_message *q = smt_inspect_messages(in);
        for (; q != NULL; q = q->next) {
            const struct smt_inspect_message *a = smt_inspect_messages(in);
            while (a != NULL && (a->id != (q->id ^ 1) || a->from.port != q->to.port))
                a = a->next;
            assert_non_null(a);
            assert_memory_equal(a->sha, q->sha, sizeof(a->sha));
        }
        smt_inspect_free(in);
    }
}

/* ---- the vectors of smt1.txt ---- */

struct wanted {
    char name[64];
    unsigned record, ip_id, len;
    uint8_t bytes[9000];
};

static size_t hex_read(const char *hex, uint8_t *out, size_t room)
{
    size_t n = 0;
    unsigned v;
    for (; n < room && sscanf(hex + 2 * n, "%2x", &v) == 1; n++)
        out[n] = (uint8_t)v;
    return n;
}

static bool next_wanted(FILE *f, struct wanted *w)
{
    static char line[20000];
    while (fgets(line, sizeof(line), f) != NULL) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        char sha[65];
        int at = 0;
        assert_int_equal(sscanf(line, "%63s record=%u ipid=%u len=%u sha256=%64s bytes=%n", w->name,
                                &w->record, &w->ip_id, &w->len, sha, &at),
                         5);
        assert_true(at > 0 && w->len <= sizeof(w->bytes));
        assert_int_equal(hex_read(line + at, w->bytes, w->len), w->len);
        uint8_t digest[32], want[32];
        SHA256(w->bytes, w->len, digest);
        hex_read(sha, want, sizeof(want));
        assert_memory_equal(digest, want, sizeof(digest));
        return true;
    }
    return false;
}

/* What the names of the vectors say. */
static const struct vector_row {
    char letter;
    uint64_t id;
    uint32_t len, mtu;
} vector_rows[] = {
    {'A', 2, 64, 1500},    {'B', 3, 64, 1500},    {'C', 4, 1392, 1500},
    {'D', 6, 10000, 1500}, {'E', 8, 10000, 9000},
};

static void seal(const struct smt_inspect_key *key, uint64_t no, uint8_t *record,
                 uint32_t plain_len)
{
    const struct smt_aead *aead = smt_aead_find(SMT_AEAD_AES128_GCM, NULL);
    assert_non_null(aead);
    void *ctx = aligned_alloc(64, (aead->ctx_len + 63) / 64 * 64);
    assert_non_null(ctx);
    memset(ctx, 0, aead->ctx_len);
    assert_int_equal(aead->init(ctx, key->key), 0);
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, key->salt, no);
    smt_record_aad(aad, no, plain_len);
    uint8_t *body = record + SMT_RECORD_HEAD_LEN;
    struct smt_aead_in in = {body, plain_len};
    assert_int_equal(aead->seal(ctx, nonce, aad, sizeof(aad), &in, 1, body, body + plain_len), 0);
    aead->fini(ctx);
    free(ctx);
}

/* The packet that a sender of this profile builds: header and slice. */
static size_t build(const struct vector_row *v, unsigned k, unsigned i, bool again, uint8_t *out)
{
    static uint8_t record[SMT_SMT1_MAX_RECORD];
    struct smt_smt1_geom g;
    struct smt_smt1_record r;
    assert_int_equal(smt_smt1_geom_init(&g, v->mtu, SMT_SMT1_DEFAULT_GSO), 0);
    assert_true(k < smt_smt1_n_records(&g, v->len));
    smt_smt1_record_cut(&g, v->len, k, &r);
    assert_true(i < r.n_packets);
    uint64_t no = smt_smt1_record_no(v->id, k);
    smt_smt1_head_encode(record, no, r.plain_len);
    for (uint32_t s = 0; s < r.n_segments; s++) {
        uint32_t at, len, plain_at;
        smt_smt1_segment_at(&g, &r, s, &at, &len, &plain_at);
        struct smt_smt1_segment seg = {.offset = r.offset + at, .len = len};
        uint8_t *to = record + SMT_RECORD_HEAD_LEN + plain_at;
        smt_smt1_segment_encode(&seg, to);
        memset(to + SMT_SMT1_SEGMENT_LEN, 0x3f, len);
    }
    bool is_response = v->id & 1;
    seal(is_response ? &server_key : &client_key, no, record, r.plain_len);
    struct smt_homa_pkt p = {
        .type = SMT_HOMA_DATA,
        .sport = is_response ? 2000 : 32768,
        .dport = is_response ? 32768 : 2000,
        .sender_id = v->id,
        .message_len = v->len,
        .incoming = smt_smt1_unscheduled(&g, 10000, v->len),
        .offset = r.offset,
        .retransmit = again,
        .index = again ? (uint8_t)i : 0,
    };
    size_t n = smt_homa_encode(&smt_homa_smt1, &p, out);
    uint32_t slice = smt_smt1_slice_len(&g, &r, i);
    memcpy(out + n, record + (size_t)i * g.slice_len, slice);
    return n + slice;
}

static void vectors_built(void **state)
{
    static struct wanted w;
    uint8_t got[9000];
    char path[512];
    unsigned n = 0;
    path_of("smt1", ".txt", path);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (next_wanted(f, &w)) {
        const struct vector_row *v = vector_rows;
        while (v->letter != w.name[0]) {
            v++;
            assert_true(v < vector_rows + SMT_ARRAY_LEN(vector_rows));
        }
        assert_int_equal(build(v, w.record, w.ip_id, false, got), w.len);
        if (memcmp(got, w.bytes, w.len) != 0)
            fail_msg("%s record %u packet %u differs", w.name, w.record, w.ip_id);
        n++;
    }
    fclose(f);
    assert_int_equal(n, 14);
}

/* A packet that is sent again alone has its number in the header. */
static void retransmission_built(void **state)
{
    static const char want_hex[] =
        "5dd7470b2ff1c7b257bc9f36add4b750e6bb26c0d99461132d2efe33f0a54cd9";
    uint8_t got[9000], digest[32], want[32];
    size_t len = build(&vector_rows[3], 0, 4, true, got);
    SHA256(got, len, digest);
    hex_read(want_hex, want, sizeof(want));
    assert_memory_equal(digest, want, sizeof(digest));
}

/* And read back: the vectors as packets of one capture, last first. */
static void vectors_opened(void **state)
{
    static uint8_t packets[14][9000];
    static struct smt_cap_packet caps[14];
    for (size_t i = 0; i < SMT_ARRAY_LEN(vector_rows); i++) {
        const struct vector_row *v = &vector_rows[i];
        struct smt_smt1_geom g;
        assert_int_equal(smt_smt1_geom_init(&g, v->mtu, SMT_SMT1_DEFAULT_GSO), 0);
        unsigned n = 0;
        for (uint32_t k = 0; k < smt_smt1_n_records(&g, v->len); k++) {
            struct smt_smt1_record r;
            smt_smt1_record_cut(&g, v->len, k, &r);
            for (uint32_t s = 0; s < r.n_packets; s++, n++)
                caps[n] = (struct smt_cap_packet){
                    .number = n + 1,
                    .kind = SMT_CAP_IP,
                    .from = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 1}},
                    .to = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = 2}},
                    .protocol = 253,
                    .ip_id = (uint16_t)s,
                    .dont_fragment = true,
                    .data = packets[n],
                    .len = (uint32_t)build(v, k, s, false, packets[n]),
                };
        }
        struct smt_inspect_config config = {
            .format = &smt_homa_smt1, .mtu = v->mtu, .client = client_key, .server = server_key};
        struct smt_inspect *in;
        struct smt_inspect_line line;
        assert_int_equal(smt_inspect_new(&config, &in), 0);
        while (n > 0) {
            assert_int_equal(smt_inspect_packet(in, &caps[--n], &line), 0);
            assert_string_equal(line.fault, "");
        }
        const struct smt_inspect_message *m = smt_inspect_messages(in);
        assert_true(m != NULL && m->is_complete && m->next == NULL);
        assert_int_equal(m->len, v->len);
        for (uint32_t b = 0; b < m->len; b++)
            assert_int_equal(m->data[b], 0x3f);
        smt_inspect_free(in);
    }
}

/* Of smt2, packets are named: a slice by the index in its header over UDP, by the IPv4 id over raw
 * IP, and one that lies in no record is a fault. */
static void slices_named(void **state)
{
    static const struct {
        uint8_t protocol, index;
        uint16_t ip_id;
        uint32_t len;
        const char *text, *fault;
    } rows[] = {
        {17, 2, 9, 500, "slice 500 index 2", ""},
        {17, 3, 9, 100, "slice 500 index 3", ""},
        {17, 3, 9, 99, "slice 500 index 3", "slice 3 has 99 bytes"},
        {17, 4, 9, 500, "slice 500 index 4", "slice 4 of a record of 1600 bytes in slices of 500"},
        {254, 0, 1, 500, "slice 500 index 1", ""},
        {254, 0, 4, 500, "slice 500 index 4", "slice 4 of a record of 1600 bytes in slices of 500"},
    };
    struct smt_inspect *in;
    assert_int_equal(smt_inspect_new(&(struct smt_inspect_config){0}, &in), 0);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        uint8_t bytes[1024] = {0};
        uint8_t *pkt = bytes + (rows[i].protocol == 17 ? 8 : 0);
        const struct smt_hdr hdr = {.kind = SMT_KIND_DATA,
                                    .session_id = 1,
                                    .rpc_id = 2,
                                    .message_len = 4000,
                                    .record_len = 1600,
                                    .slice_len = 500,
                                    .index = rows[i].index};
        size_t at = smt_hdr_encode(&hdr, pkt);
        struct smt_cap_packet p = {.kind = SMT_CAP_IP,
                                   .protocol = rows[i].protocol,
                                   .ip_id = rows[i].ip_id,
                                   .data = bytes,
                                   .len = (uint32_t)(pkt - bytes + at + rows[i].len)};
        struct smt_inspect_line line;
        assert_int_equal(smt_inspect_packet(in, &p, &line), 0);
        assert_true(line.is_ours);
        assert_non_null(strstr(line.text, rows[i].text));
        assert_string_equal(line.fault, rows[i].fault);
    }
    smt_inspect_free(in);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: test_captures DATA_DIR\n");
        return 2;
    }
    data_dir = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_again),        cmocka_unit_test(messages_open),
        cmocka_unit_test(responses_echo),       cmocka_unit_test(vectors_built),
        cmocka_unit_test(retransmission_built), cmocka_unit_test(vectors_opened),
        cmocka_unit_test(slices_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
