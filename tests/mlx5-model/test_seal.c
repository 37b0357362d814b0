/* What the engine makes of records: published answers, both TLS versions, both key sizes, and when
 * parameters take effect. */
#include <stddef.h>
#include <string.h>

#include "harness.h"

static const uint8_t key32[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, [31] = 5};
static const uint8_t iv12[12] = {0x87, 0xc6, 0x35, 0xc8, 9, 8, 7, 6, 5, 4, 3, 2};
static struct drive a, b;

static void pair_open(void)
{
    CHECK(drive_open(&a, 0) == 0 && drive_open(&b, 1) == 0);
    CHECK(drive_recvs(&b) == 0 && drive_flow_protocol(&b, 254) == 0);
}

static void pair_close(void)
{
    drive_close(&a);
    drive_close(&b);
    CHECK(harness_complained(""));
}

static void program(uint32_t version, const uint8_t *iv, uint64_t record)
{
    uint8_t w[3][1024];
    drive_wqe_static(&a, w[0], version, iv, record, 1);
    drive_wqe_progress(&a, w[1], 0);
    drive_wqe_nop(&a, w[2], 1);
    mm_set(w[2], MM_CTRL_CE, 2);
    CHECK(drive_post(&a, w, 3) == 0);
    CHECK(drive_polled(&a, NULL) == IBV_WC_SUCCESS);
}

/* Sends what stands in a.mem as one burst; what arrives comes out. Returns the completion. */
static int burst(uint32_t len, uint32_t mss, uint32_t fence, uint8_t *out)
{
    uint8_t w[1][1024], h[128];
    uint32_t header_len = drive_header(&a, &b, 4, 254, h), n, total = 0;
    const uint8_t *f;
    drive_wqe_lso(&a, w[0], h, header_len, mss, (uintptr_t)a.mem, len);
    mm_set(w[0], MM_CTRL_CE, 2);
    mm_set(w[0], MM_CTRL_FENCE, fence);
    CHECK(drive_post(&a, w, 1) == 0);
    int status = drive_polled(&a, NULL);
    for (uint32_t i = 0; (f = drive_frame(&b, &n)) != NULL; i++) {
        CHECK((uint32_t)(f[18] << 8 | f[19]) == i);
        memcpy(out + total, f + header_len, n - header_len);
        total += n - header_len;
    }
    CHECK(status != IBV_WC_SUCCESS || total == len);
    return status;
}

/* The first packet of SMT's published trace: sealed by the authors' code. */
static void test_smt_trace(void)
{
    static const char published[] =
        "170303006c000000000001000048c1d6cdb6c7148b2ce3e905055a7bc758d8e114a46ff97bccaa74b38de2a5"
        "7dce4277c41a6ddc5ce34996a9c127d0b6bb14b04ee73d28d454bdf4c5255001e4b6e913302d986dc7364637"
        "871d15bdf95e069e6f89568f6afb4661fb51ba2af4cd169a54";
    uint8_t want[128], key[16], out[DRIVE_RECORD_MAX];
    uint32_t len = harness_hex(published, want);
    CHECK(len == 113);
    CHECK(harness_hex("8DD230A77A05EB71159129BCBCF64230", key) == 16);
    pair_open();
    CHECK(drive_objects(&a, key, 16) == 0);
    memcpy(a.mem, want, len);
    CHECK(harness_open(2, key, 16, iv12, 0x10000, a.mem, len));
    CHECK(a.mem[13 + 20] == 0x3f && a.mem[13 + 83] == 0x3f); /* 20 bytes of header, then 64 */
    program(2, iv12, 0x10000);
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
    CHECK(memcmp(out, want, len) == 0);
    pair_close();
}

/* RFC 8448, section 3: the client's first record of application data. */
static void test_rfc_8448(void)
{
    static const char published[] =
        "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 14 aa 66 bc "
        "ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14 bd "
        "1e 3d ea e6 3a ee bb 21 69 49 15 e4";
    uint8_t want[128], key[16], iv[12], out[DRIVE_RECORD_MAX];
    uint32_t len = harness_hex(published, want);
    harness_hex("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51", key);
    harness_hex("5b 78 92 3d ee 08 57 90 33 e5 23 d9", iv);
    CHECK(len == 72);
    pair_open();
    CHECK(drive_objects(&a, key, 16) == 0);
    memcpy(a.mem, want, 5);
    for (uint32_t i = 0; i < 50; i++)
        a.mem[5 + i] = (uint8_t)i;
    a.mem[55] = 0x17;
    program(3, iv, 0);
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
    CHECK(memcmp(out, want, len) == 0);
    pair_close();
}

/* Records that follow each other need nothing between them; any size, both keys and versions. */
static void test_sizes(void)
{
    static const uint32_t sizes[] = {1, 16, 100, 1371, 1372, 5000, 16384};
    static uint8_t out[DRIVE_RECORD_MAX + 32];
    pair_open();
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t version = 2 + i % 2, key_len = i < 2 ? 16 : 32, head = version == 2 ? 13 : 5;
        CHECK(drive_objects(&a, key32, key_len) == 0);
        program(version, iv12, 0xfffffffffffffff0u - i * 64);
        for (uint32_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
            uint64_t number = 0xfffffffffffffff0u - i * 64 + k;
            uint32_t len = drive_record(a.mem, number, sizes[k]);
            if (version == 3) {
                len = 5 + sizes[k] + 16;
                a.mem[3] = (uint8_t)((len - 5) >> 8);
                a.mem[4] = (uint8_t)(len - 5);
            }
            for (uint32_t m = 0; m < sizes[k]; m++)
                a.mem[head + m] = (uint8_t)(m * 3 + k);
            CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
            CHECK(harness_open(version, key32, key_len, iv12, number, out, len));
            CHECK(memcmp(out + head, a.mem + head, sizes[k]) == 0);
        }
        mlx5dv_devx_obj_destroy(a.tis);
        mlx5dv_devx_obj_destroy(a.dek);
        mlx5dv_devx_obj_destroy(a.td);
        a.tis = a.dek = a.td = NULL;
    }
    pair_close();
}

/* A wrong record number is no error of the device: the receiver refuses. */
static void test_wrong_number(void)
{
    uint8_t out[DRIVE_RECORD_MAX];
    pair_open();
    CHECK(drive_objects(&a, key32, 16) == 0);
    program(2, iv12, 7);
    uint32_t len = drive_record(a.mem, 8, 300);
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
    CHECK(!harness_open(2, key32, 16, iv12, 8, out, len));
    pair_close();
}

static void repost_unfenced(uint64_t record)
{
    uint8_t w[3][1024];
    drive_wqe_nop(&a, w[0], 1); /* what was sent before is out */
    drive_wqe_static(&a, w[1], 2, iv12, record, 0);
    drive_wqe_progress(&a, w[2], 0);
    CHECK(drive_post(&a, w, 3) == 0);
}

/* Parameters without a fence behind them: the packet goes out with the old ones. */
static void test_stale(void)
{
    uint8_t out[DRIVE_RECORD_MAX], copy[512];
    pair_open();
    CHECK(drive_objects(&a, key32, 16) == 0);
    program(2, iv12, 7);
    repost_unfenced(100);
    uint32_t len = drive_record(a.mem, 100, 300);
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
    memcpy(copy, out, len);
    CHECK(!harness_open(2, key32, 16, iv12, 100, copy, len));
    memcpy(copy, out, len);
    CHECK(harness_open(2, key32, 16, iv12, 7, copy, len)); /* the number of the old state */
    /* The fence may be the packet's own. */
    repost_unfenced(200);
    drive_record(a.mem, 200, 300);
    CHECK(burst(len, 1400, 1, out) == IBV_WC_SUCCESS);
    CHECK(harness_open(2, key32, 16, iv12, 200, out, len));
    pair_close();
}

static void test_no_fence(void)
{
    uint8_t w[2][1024], out[DRIVE_RECORD_MAX];
    pair_open();
    CHECK(drive_objects(&a, key32, 16) == 0);
    drive_wqe_static(&a, w[0], 2, iv12, 0, 0);
    drive_wqe_progress(&a, w[1], 0);
    CHECK(drive_post(&a, w, 2) == 0);
    CHECK(burst(drive_record(a.mem, 0, 300), 1400, 0, out) == IBV_WC_LOC_QP_OP_ERR);
    CHECK(harness_complained("ctrl.fence"));
    pair_close();
}

/* Parameters changed under packets that may not have left. */
static void test_fence_before(void)
{
    uint8_t w[1][1024], out[DRIVE_RECORD_MAX];
    pair_open();
    CHECK(drive_objects(&a, key32, 16) == 0);
    program(2, iv12, 7);
    CHECK(burst(drive_record(a.mem, 7, 300), 1400, 0, out) == IBV_WC_SUCCESS);
    drive_wqe_static(&a, w[0], 2, iv12, 9, 0);
    CHECK(drive_post(&a, w, 1) == 0);
    CHECK(drive_polled(&a, NULL) == IBV_WC_LOC_QP_OP_ERR);
    CHECK(harness_complained("ctrl.fence"));
    pair_close();
}

/* Two records under one number: the model keeps account of every nonce. */
static void test_nonce_twice(void)
{
    uint8_t out[DRIVE_RECORD_MAX];
    pair_open();
    CHECK(drive_objects(&a, key32, 16) == 0);
    program(2, iv12, 7);
    uint32_t len = drive_record(a.mem, 7, 300);
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
    program(2, iv12, 7);
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS); /* the same bytes again are fine */
    CHECK(harness_complained(""));
    program(2, iv12, 7);
    a.mem[100] ^= 1;
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
    CHECK(harness_complained("record number"));
    pair_close();
}

static uint32_t dek_modify(const uint8_t *key, uint8_t *in)
{
    drive_cmd_dek(&a, key, 16, in);
    mm_set(in, MM_OBJ_OPCODE, 0xa01);
    mm_set(in, MM_OBJ_ID, a.dek_id);
    mm_set(in + 16, MM_DEK_SELECT, 1);
    return 272;
}

/* A key that is used again: only after SYNC_CRYPTO. */
static void test_dek_again(void)
{
    uint8_t in[272], out[DRIVE_RECORD_MAX], w[1][1024];
    pair_open();
    CHECK(drive_objects(&a, key32, 16) == 0);
    CHECK(mlx5dv_devx_obj_modify(a.dek, in, dek_modify(key32 + 1, in), out, 16) == 0);
    memset(in, 0, 32);
    mm_set(in, MM_SYNC_OPCODE, 0xb12);
    mm_set(in, MM_SYNC_TYPE, 1);
    CHECK(mlx5dv_devx_general_cmd(a.ctx, in, 32, out, 16) == 0);
    program(2, iv12, 3);
    uint32_t len = drive_record(a.mem, 3, 300);
    CHECK(burst(len, 1400, 0, out) == IBV_WC_SUCCESS);
    CHECK(harness_open(2, key32 + 1, 16, iv12, 3, out, len));
    CHECK(mlx5dv_devx_obj_modify(a.dek, in, dek_modify(key32, in), out, 16) == 0);
    drive_wqe_static(&a, w[0], 2, iv12, 4, 1);
    CHECK(drive_post(&a, w, 1) == 0);
    CHECK(drive_polled(&a, NULL) == IBV_WC_LOC_QP_OP_ERR);
    CHECK(harness_complained("static.dek_index"));
    pair_close();
}

static void golden(const char *what, const uint8_t *got, uint32_t len, const char *text)
{
    uint8_t want[512];
    if (harness_hex(text, want) != len || memcmp(got, want, len) != 0) {
        fprintf(stderr, "%s differs from the published bytes\n", what);
        exit(1);
    }
}

#define ZERO16 "00000000 00000000 00000000 00000000 "

/* The bytes that drivers write (sqn 0xabc, TIS 0x1234, key 0x55). */
static void test_golden(void)
{
    struct drive d = {.tisn = 0x1234, .dek_id = 0x55, .pi = 0x10, .tdn = 0xa1, .pdn = 0x2b};
    uint8_t b_[1024], h[128] = {0}, in[272], want[272] = {0};
    drive_wqe_static(&d, b_, 2, iv12, 0x50002, 1);
    golden("static", b_, 192,
           "01001025 000abc0c 00000020 00123400 80000000 00000004 00000000 00000000 " ZERO16 ZERO16
               ZERO16 ZERO16 ZERO16 ZERO16 "89000001 00000000 00000000 00050002 "
           "00000000 87c635c8 00000000 00000000 00000055 00000000 00000000 00000000 " ZERO16);
    d.pi = 0x13;
    drive_wqe_progress(&d, b_, 0);
    golden("progress", b_, 32,
           "01001320 000abc02 00000000 00000000 00001234 00000000 00000000 00000000");
    d.pi = 0x14;
    drive_wqe_nop(&d, b_, 1);
    golden("NOP", b_, 16, "00001400 000abc01 00000020 00000000");
    d.pi = 0x15;
    uint32_t ds = drive_wqe_lso(&d, b_, h, 74, 1440, 0, 1);
    mm_set(b_, MM_CTRL_CE, 2);
    CHECK(ds == 8);
    golden("LSO", b_, 30, "0000150e 000abc08 00000008 00123400 00000000 c00005a0 00000000 004a");
    drive_wqe_dump(&d, b_, 0x7f0012340000, 1440, 1);
    golden("DUMP", b_, 32,
           "00001523 000abc02 00000020 00123400 000005a0 11223344 00007f00 12340000");
    CHECK(drive_cmd_tis(&d, in) == 192);
    want[0] = 0x09, want[1] = 0x12, want[32] = 0x40, want[71] = 0xa1, want[79] = 0x2b;
    CHECK(memcmp(in, want, 192) == 0);
    memset(want, 0, sizeof(want));
    CHECK(drive_cmd_dek(&d, key32, 16, in) == 272);
    want[0] = 0x0a, want[7] = 0x0c, want[27] = 0x01, want[31] = 0x2b;
    memcpy(want + 96, key32, 16);
    CHECK(memcmp(in, want, 272) == 0);
}

/* Fields that mlx5dv.h has, against its structures. */
static void test_headers(void)
{
    static const struct {
        enum mm_field field;
        size_t byte;
        uint32_t bit, width; /* within that place */
    } rows[] = {
        {MM_CTRL_OPMOD, offsetof(struct mlx5_wqe_ctrl_seg, opmod_idx_opcode), 0, 8},
        {MM_CTRL_WQE_INDEX, offsetof(struct mlx5_wqe_ctrl_seg, opmod_idx_opcode), 8, 16},
        {MM_CTRL_OPCODE, offsetof(struct mlx5_wqe_ctrl_seg, opmod_idx_opcode), 24, 8},
        {MM_CTRL_QPN, offsetof(struct mlx5_wqe_ctrl_seg, qpn_ds), 0, 24},
        {MM_CTRL_DS, offsetof(struct mlx5_wqe_ctrl_seg, qpn_ds), 26, 6},
        {MM_CTRL_FENCE, offsetof(struct mlx5_wqe_ctrl_seg, fm_ce_se), 0, 3},
        {MM_CTRL_CE, offsetof(struct mlx5_wqe_ctrl_seg, fm_ce_se), 4, 2},
        {MM_CTRL_SE, offsetof(struct mlx5_wqe_ctrl_seg, fm_ce_se), 6, 1},
        {MM_CTRL_TIS, offsetof(struct mlx5_wqe_ctrl_seg, imm), 0, 24},
        {MM_ETH_CS_FLAGS, offsetof(struct mlx5_wqe_eth_seg, cs_flags), 0, 8},
        {MM_ETH_MSS, offsetof(struct mlx5_wqe_eth_seg, mss), 0, 16},
        {MM_ETH_INLINE_SZ, offsetof(struct mlx5_wqe_eth_seg, inline_hdr_sz), 0, 16},
        {MM_DATA_LEN, offsetof(struct mlx5_wqe_data_seg, byte_count), 1, 31},
        {MM_DATA_LKEY, offsetof(struct mlx5_wqe_data_seg, lkey), 0, 32},
        {MM_DATA_ADDR, offsetof(struct mlx5_wqe_data_seg, addr), 0, 64},
        {MM_UMR_FLAGS, offsetof(struct mlx5_wqe_umr_ctrl_seg, flags), 0, 8},
        {MM_UMR_BSF_OCTOWORDS, offsetof(struct mlx5_wqe_umr_ctrl_seg, bsf_octowords), 0, 16},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK(mm_fields[rows[i].field].bit == rows[i].byte * 8 + rows[i].bit);
        CHECK(mm_fields[rows[i].field].width == rows[i].width);
    }
    CHECK(offsetof(struct mlx5_wqe_eth_seg, inline_hdr_start) == 14);
    struct mlx5_wqe_ctrl_seg c = {0};
    mlx5dv_set_ctrl_seg(&c, 0x1234, 0x25, 1, 0xabc, MLX5_WQE_CTRL_CQ_UPDATE, 12, 0, htobe32(0));
    CHECK(mm_get(&c, MM_CTRL_CE) == 2 && mm_get(&c, MM_CTRL_DS) == 12);
    CHECK(mm_get(&c, MM_CTRL_OPMOD) == 1 && mm_get(&c, MM_CTRL_QPN) == 0xabc);
    c.fm_ce_se = MLX5_WQE_CTRL_INITIATOR_SMALL_FENCE;
    CHECK(mm_get(&c, MM_CTRL_FENCE) == 1);
    c.fm_ce_se = MLX5_WQE_CTRL_FENCE;
    CHECK(mm_get(&c, MM_CTRL_FENCE) == 4);
}

int main(void)
{
    static const struct harness_test tests[] = {
        {"golden bytes", "full", test_golden, 0},
        {"segments of mlx5dv.h", "full", test_headers, 0},
        {"SMT's published trace", "full,devices=2", test_smt_trace, 0},
        {"RFC 8448", "full,devices=2", test_rfc_8448, 0},
        {"sizes, versions, keys", "full,devices=2", test_sizes, 0},
        {"wrong record number", "full,devices=2", test_wrong_number, 0},
        {"stale parameters", "full,devices=2", test_stale, 0},
        {"no fence", "full,devices=2,abort=0", test_no_fence, 0},
        {"no fence before a change", "full,devices=2,abort=0", test_fence_before, 0},
        {"one nonce, two records", "full,devices=2,abort=0", test_nonce_twice, 0},
        {"a key used again", "full,devices=2,abort=0", test_dek_again, 0},
    };
    return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
