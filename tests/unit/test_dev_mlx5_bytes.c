/* What the mlx5 device says to the NIC, and its frames, byte by byte. The expected bytes were
 * made from the Linux header mlx5_ifc.h, not from this code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "dev/mlx5_cmd.h"
#include "dev/mlx5_frame.h"
#include "dev/mlx5_wqe.h"

/* Words of 32 bits at these places, all else zero. */
struct word {
    uint32_t at, value;
};

static void assert_words(const uint8_t *bytes, size_t len, const struct word *words, unsigned n)
{
    uint8_t expected[512] = {0};
    assert_true(len <= sizeof(expected));
    for (unsigned i = 0; i < n; i++)
        smt_put_be32(expected + words[i].at, words[i].value);
    assert_memory_equal(bytes, expected, len);
}

static void number(uint8_t *wqe, uint16_t index)
{
    assert_int_equal(smt_get_be16(wqe + 1), 0);
    smt_put_be16(wqe + 1, index);
}

static const struct smt_mlx5_ctrl golden = {.sqn = 0xabc, .tisn = 0x1234, .is_fenced = true};

static void static_params(void **state)
{
    static const struct word words[] = {
        {0x00, 0x01001025}, {0x04, 0x000abc0c}, {0x08, 0x00000020}, {0x0c, 0x00123400},
        {0x10, 0x80000000}, {0x14, 0x00000004}, {0x80, 0x89000001}, {0x8c, 0x00050002},
        {0x94, 0x87c635c8}, {0xa0, 0x00000055},
    };
    static const uint8_t salt[4] = {0x87, 0xc6, 0x35, 0xc8};
    uint8_t wqe[SMT_MLX5_STATIC_LEN];
    memset(wqe, 0xff, sizeof(wqe));
    smt_mlx5_wqe_static(wqe, &golden, 0x55, 0x50002, salt);
    number(wqe, 0x10);
    assert_words(wqe, sizeof(wqe), words, SMT_ARRAY_LEN(words));
    smt_mlx5_wqe_static(wqe, &golden, 0x55, 0xfedcba9876543210, salt);
    assert_int_equal(smt_get_be64(wqe + 0x88), 0xfedcba9876543210);
}

static void progress_and_nop(void **state)
{
    static const struct word words[] = {
        {0x00, 0x01001320}, {0x04, 0x000abc02}, {0x10, 0x00001234}};
    struct smt_mlx5_ctrl ctrl = golden;
    ctrl.is_fenced = false;
    uint8_t wqe[SMT_MLX5_PROGRESS_LEN];
    memset(wqe, 0xff, sizeof(wqe));
    smt_mlx5_wqe_progress(wqe, &ctrl);
    number(wqe, 0x13);
    assert_words(wqe, sizeof(wqe), words, SMT_ARRAY_LEN(words));
    static const struct word nop[] = {{0x00, 0x00001400}, {0x04, 0x000abc01}, {0x08, 0x00000020}};
    memset(wqe, 0xff, sizeof(wqe));
    smt_mlx5_wqe_nop(wqe, &golden);
    number(wqe, 0x14);
    assert_words(wqe, SMT_MLX5_NOP_LEN, nop, SMT_ARRAY_LEN(nop));
}

static void lso(void **state)
{
    uint8_t hdr[74], wqe[SMT_MLX5_MAX_WQE];
    for (unsigned i = 0; i < sizeof(hdr); i++)
        hdr[i] = (uint8_t)(i + 1);
    const struct smt_mlx5_ctrl ctrl = {.sqn = 0xabc, .tisn = 0x1234, .is_signalled = true};
    struct smt_mlx5_packet p = {.hdr = hdr,
                                .hdr_len = sizeof(hdr),
                                .mss = 1440,
                                .is_l3_sum = true,
                                .is_l4_sum = true,
                                .n_segs = 1,
                                .segs = {{0x4000, 0x11223344, 0x7f0012340000}}};
    memset(wqe, 0xff, sizeof(wqe));
    size_t len = smt_mlx5_wqe_packet(wqe, &ctrl, &p);
    assert_int_equal(len, 8 * 16);
    number(wqe, 0x15);
    static const uint8_t head[30] = {0x00, 0x00, 0x15, 0x0e, 0x00, 0x0a, 0xbc, 0x08, 0x00, 0x00,
                                     0x00, 0x08, 0x00, 0x12, 0x34, 0x00, 0x00, 0x00, 0x00, 0x00,
                                     0xc0, 0x00, 0x05, 0xa0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x4a};
    assert_memory_equal(wqe, head, sizeof(head));
    assert_memory_equal(wqe + 30, hdr, sizeof(hdr));
    static const uint8_t pad[8];
    assert_memory_equal(wqe + 104, pad, sizeof(pad));
    static const struct word seg[] = {
        {0, 0x4000}, {4, 0x11223344}, {8, 0x00007f00}, {12, 0x12340000}};
    assert_words(wqe + 112, 16, seg, SMT_ARRAY_LEN(seg));
    /* One packet, more pieces, and the header of a burst: 78 bytes. */
    p.mss = 0;
    p.is_l4_sum = false;
    p.n_segs = 2;
    p.segs[1] = p.segs[0];
    assert_int_equal(smt_mlx5_wqe_packet(wqe, &ctrl, &p), 9 * 16);
    assert_int_equal(wqe[3], 0x0a);
    assert_int_equal(wqe[20], 0x40);
}

static void tis_and_td(void **state)
{
    uint8_t in[SMT_MLX5_TIS_IN_LEN], expected[SMT_MLX5_TIS_IN_LEN] = {
        [0] = 0x09, [1] = 0x12, [32] = 0x40, [71] = 0xa1, [79] = 0x2b};
    smt_mlx5_cmd_create_tis(in, 0xa1, 0x2b);
    assert_memory_equal(in, expected, sizeof(in));
    uint8_t td[SMT_MLX5_TD_IN_LEN], td_expected[SMT_MLX5_TD_IN_LEN] = {0x08, 0x16};
    smt_mlx5_cmd_alloc_td(td);
    assert_memory_equal(td, td_expected, sizeof(td));
}

static void keys(void **state)
{
    uint8_t key[32], in[SMT_MLX5_DEK_IN_LEN];
    for (unsigned i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)(0x40 + i);
    uint8_t expected[SMT_MLX5_DEK_IN_LEN] = {[0] = 0x0a, [7] = 0x0c, [27] = 0x01, [31] = 0x2b};
    memcpy(expected + 96, key, 16);
    smt_mlx5_cmd_create_dek(in, 0x2b, key, 16);
    assert_memory_equal(in, expected, sizeof(in));
    memcpy(expected + 80, key, 32);
    expected[26] = 1;
    smt_mlx5_cmd_create_dek(in, 0x2b, key, 32);
    assert_memory_equal(in, expected, sizeof(in));
    expected[1] = 0x01;
    expected[23] = 1;
    smt_put_be32(expected + 8, 0x1234567);
    smt_mlx5_cmd_modify_dek(in, 0x1234567, 0x2b, key, 32);
    assert_memory_equal(in, expected, sizeof(in));
    uint8_t sync[SMT_MLX5_SYNC_IN_LEN],
        sync_expected[SMT_MLX5_SYNC_IN_LEN] = {[0] = 0x0b, [1] = 0x12, [15] = 1};
    smt_mlx5_cmd_sync_crypto(sync);
    assert_memory_equal(sync, sync_expected, sizeof(sync));
}

static void answers(void **state)
{
    uint8_t out[SMT_MLX5_OUT_LEN] = {[0] = 3, [4] = 1, [5] = 2, [6] = 3, [7] = 4,
                                     [8] = 0x01, [9] = 0xab, [10] = 0xcd, [11] = 0xef};
    assert_int_equal(smt_mlx5_out_status(out), 3);
    assert_int_equal(smt_mlx5_out_syndrome(out), 0x01020304);
    assert_int_equal(smt_mlx5_out_tisn(out), 0xabcdef);
    assert_int_equal(smt_mlx5_out_td(out), 0xabcdef);
    assert_int_equal(smt_mlx5_out_dek(out), 0x01abcdef);
}

/* Sets a field as the manual counts it: `bits` wide, its first bit `at` from the start. */
static void bit_set(uint8_t *p, unsigned at, unsigned bits, uint64_t value)
{
    for (unsigned i = 0; i < bits; i++) {
        if (value >> (bits - 1 - i) & 1)
            p[(at + i) / 8] |= (uint8_t)(0x80 >> (at + i) % 8);
    }
}

static void capabilities(void **state)
{
    static uint8_t out[SMT_MLX5_CAP_OUT_LEN];
    uint8_t in[SMT_MLX5_CAP_IN_LEN];
    smt_mlx5_cmd_query_cap(in, SMT_MLX5_CAP_CRYPTO, true);
    static const uint8_t expected[SMT_MLX5_CAP_IN_LEN] = {0x01, 0, 0, 0, 0, 0, 0, 0x35};
    assert_memory_equal(in, expected, sizeof(in));
    struct smt_mlx5_caps caps = {0};
    uint8_t *c = out + 16;
    bit_set(c, 0x400, 64, 1u << 0xc);
    bit_set(c, 0x481, 1, 1);
    bit_set(c, 0x469, 1, 1);
    bit_set(c, 0x5b3, 5, 17);
    bit_set(c, 0x37b, 5, 21);
    bit_set(c, 0x323, 5, 9);
    bit_set(c, 0x21c, 1, 1);
    bit_set(c, 0x1a6, 1, 1);
    smt_mlx5_caps_read(SMT_MLX5_CAP_GENERAL, out, &caps);
    assert_true(caps.has_dek && caps.has_tls_tx && caps.has_crypto && caps.has_eth_offloads &&
                caps.has_flow_table);
    assert_int_equal(caps.log_max_dek, 17);
    assert_int_equal(caps.log_max_tis, 21);
    assert_int_equal(caps.log_max_td, 9);
    memset(out, 0, sizeof(out));
    bit_set(c, 0, 1, 1);
    bit_set(c, 2, 1, 1);
    smt_mlx5_caps_read(SMT_MLX5_CAP_TLS, out, &caps);
    assert_true(caps.seals_128 && caps.seals_256 && !caps.seals13_128 && !caps.seals13_256);
    memset(out, 0, sizeof(out));
    bit_set(c, 0xb, 5, 18);
    smt_mlx5_caps_read(SMT_MLX5_CAP_ETH, out, &caps);
    assert_int_equal(caps.log_max_lso, 18);
    memset(out, 0, sizeof(out));
    bit_set(c, 3, 1, 1);
    bit_set(c, 0x40, 32, 5);
    smt_mlx5_caps_read(SMT_MLX5_CAP_CRYPTO, out, &caps);
    assert_true(caps.can_sync_dek && !caps.is_wrapped && !caps.is_commissioning);
    assert_int_equal(caps.failed_selftests, 5);
    memset(out, 0, sizeof(out));
    smt_mlx5_caps_read(SMT_MLX5_CAP_GENERAL, out, &caps);
    assert_false(caps.has_dek || caps.has_tls_tx || caps.has_crypto);
    assert_true(caps.seals_128);
}

/* ---- frames ---- */

static const struct smt_mlx5_hop v4 = {
    .dmac = {2, 0, 0, 0, 0, 1},
    .smac = {2, 0, 0, 0, 0, 2},
    .src = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 1},
    .dst = {[10] = 0xff, [11] = 0xff, 192, 0, 2, 2},
};
static const struct smt_mlx5_hop v6 = {
    .dmac = {2, 0, 0, 0, 0, 1},
    .smac = {2, 0, 0, 0, 0, 2},
    .src = {0x20, 1, 0xd, 0xb8, [15] = 1},
    .dst = {0x20, 1, 0xd, 0xb8, [15] = 2},
};

/* What the NIC does. */
static void ipv4_sum(uint8_t *ip)
{
    uint32_t sum = 0;
    smt_put_be16(ip + 10, 0);
    for (unsigned i = 0; i < 20; i += 2)
        sum += smt_get_be16(ip + i);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    smt_put_be16(ip + 10, (uint16_t)~sum);
}

static void frame_there_and_back(void **state)
{
    const struct smt_mlx5_hop *hops[] = {&v4, &v6};
    for (unsigned i = 0; i < 4; i++) {
        const struct smt_mlx5_hop *hop = hops[i & 1];
        bool udp = i < 2;
        struct smt_mlx5_head head;
        uint8_t bytes[256] = {0};
        smt_mlx5_head_init(&head, hop, udp ? &smt_mlx5_by_udp : &smt_mlx5_by_bursts, 1000, 2000);
        size_t len = smt_mlx5_head_put(&head, 100, 5, bytes);
        assert_int_equal(len, 14 + (hop == &v4 ? 20 : 40) + (udp ? 8 : 0));
        assert_int_equal(len, head.len);
        /* An smt2 packet begins with its ports. */
        smt_put_be16(bytes + len, 1000);
        smt_put_be16(bytes + len + 2, 2000);
        if (hop == &v4) {
            static const uint8_t start[8] = {0x45, 5 << 5 | 2};
            assert_memory_equal(bytes + 14, start, 2);
            assert_int_equal(smt_get_be16(bytes + 18), 0);
            assert_int_equal(smt_get_be16(bytes + 20), 0x4000);
            ipv4_sum(bytes + 14);
        }
        struct smt_mlx5_frame f;
        /* Short frames are padded on the wire. */
        assert_true(smt_mlx5_frame_parse(bytes, len + 100 + 9, 254, &f));
        assert_ptr_equal(f.payload, bytes + len);
        assert_int_equal(f.payload_len, 100);
        assert_memory_equal(f.from.ip, hop->src, 16);
        assert_memory_equal(f.dst, hop->dst, 16);
        assert_int_equal(f.from.port, 1000);
        assert_int_equal(f.dport, 2000);
        assert_int_equal(f.ecn, 2);
        for (size_t cut = 0; cut < len + 100; cut++)
            assert_false(smt_mlx5_frame_parse(bytes, cut, 254, &f));
    }
}

static void frames_refused(void **state)
{
    struct smt_mlx5_head head;
    struct smt_mlx5_frame f;
    uint8_t good[256] = {0}, bad[256];
    smt_mlx5_head_init(&head, &v4, &smt_mlx5_by_udp, 1000, 2000);
    size_t len = smt_mlx5_head_put(&head, 60, 0, good) + 60;
    ipv4_sum(good + 14);
    assert_true(smt_mlx5_frame_parse(good, len, 254, &f));
    static const struct {
        uint8_t at, value;
        bool keep_sum;
    } changes[] = {
        {12, 0x81, false},  /* VLAN */
        {14, 0x46, false},  /* options */
        {14, 0x65, false},
        {20, 0x20, false},  /* more fragments */
        {21, 0x01, false},  /* a later fragment */
        {23, 6, false},     /* TCP */
        {26, 1, true},      /* header damaged */
        {34, 0, false},     /* from port 0 with the next */
        {39, 200, false},   /* UDP longer than IP */
        {39, 8, false},     /* nothing in it */
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(changes); i++) {
        memcpy(bad, good, sizeof(bad));
        bad[changes[i].at] = changes[i].value;
        if (changes[i].at == 34)
            bad[35] = 0;
        if (!changes[i].keep_sum)
            ipv4_sum(bad + 14);
        assert_false(smt_mlx5_frame_parse(bad, len, 254, &f));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(static_params),
        cmocka_unit_test(progress_and_nop),
        cmocka_unit_test(lso),
        cmocka_unit_test(tis_and_td),
        cmocka_unit_test(keys),
        cmocka_unit_test(answers),
        cmocka_unit_test(capabilities),
        cmocka_unit_test(frame_there_and_back),
        cmocka_unit_test(frames_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
