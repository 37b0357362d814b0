/* What each profile lacks, as a program sees it; and objects that do not belong together. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

static const uint8_t key[32] = {5, 4, 3, 2, 1, [31] = 7};
static const uint8_t iv[12] = {0x87, 0xc6, 0x35, 0xc8};
static struct drive a;

static struct ibv_context *context_open(bool with_devx)
{
    struct ibv_device **list = ibv_get_device_list(NULL);
    struct mlx5dv_context_attr attr = {.flags = with_devx ? MLX5DV_CONTEXT_FLAGS_DEVX : 0};
    struct ibv_context *ctx = mlx5dv_open_device(list[0], &attr);
    int e = errno;
    ibv_free_device_list(list);
    errno = e;
    return ctx;
}

static bool cap(struct ibv_context *ctx, uint32_t type, bool current, uint8_t *area)
{
    uint8_t in[16] = {0}, out[4112];
    mm_set(in, MM_IN_OPCODE, 0x100);
    mm_set(in, MM_IN_OP_MOD, type << 1 | current);
    int r = mlx5dv_devx_general_cmd(ctx, in, sizeof(in), out, sizeof(out));
    memcpy(area, out + 16, 4096);
    if (r != 0)
        CHECK(r == EREMOTEIO && mm_get(out, MM_OUT_STATUS) != 0 &&
              mm_get(out, MM_OUT_SYNDROME) != 0);
    return r == 0;
}

static void test_full(void)
{
    uint8_t area[4096];
    struct ibv_device_attr_ex attr;
    CHECK(drive_open(&a, 0) == 0);
    CHECK(cap(a.ctx, 0, true, area));
    CHECK(mm_get(area, MM_CAP_TLS_TX) == 1 && (area[0x90] & 0x40) != 0);
    CHECK(area[0x86] & 0x10); /* object 12 of 64 bits big endian */
    CHECK(mm_get(area, MM_CAP_LOG_MAX_DEK) > 0 && mm_get(area, MM_CAP_LOG_MAX_TIS) > 0);
    CHECK(mm_get(area, MM_CAP_PORT_TYPE) == 1 && mm_get(area, MM_CAP_ETH_NET_OFFLOADS) == 1);
    CHECK(cap(a.ctx, 0x11, true, area) && area[0] == 0xf0);
    CHECK(cap(a.ctx, 1, true, area));
    uint64_t lso = mm_get(area, MM_ETHCAP_MAX_LSO);
    CHECK(ibv_query_device_ex(a.ctx, NULL, &attr) == 0);
    CHECK(attr.tso_caps.max_tso == 1u << lso);
    CHECK(ibv_is_qpt_supported(attr.tso_caps.supported_qpts, IBV_QPT_RAW_PACKET));
    CHECK(cap(a.ctx, 0x1a, true, area));
    CHECK(mm_get(area, MM_CRYPTOCAP_FAILED_SELFTESTS) == 0);
    CHECK(drive_objects(&a, key, 32) == 0);
    char path[320];
    snprintf(path, sizeof(path), "%s/device/net", a.ctx->device->ibdev_path);
    CHECK(access(path, R_OK) == 0);
    drive_close(&a);
    CHECK(harness_complained(""));
}

static void test_no_devx(void)
{
    CHECK(context_open(true) == NULL && errno == EOPNOTSUPP);
    struct ibv_context *ctx = context_open(false);
    CHECK(ctx != NULL);
    uint8_t in[16] = {0}, out[4112];
    mm_set(in, MM_IN_OPCODE, 0x100);
    CHECK(mlx5dv_devx_general_cmd(ctx, in, 16, out, 4112) == EOPNOTSUPP);
    CHECK(ibv_close_device(ctx) == 0);
}

static void test_open_eperm(void)
{
    CHECK(context_open(true) == NULL && errno == EPERM);
}

static void tls_bits(uint64_t current, uint64_t max)
{
    uint8_t area[4096];
    CHECK(drive_open(&a, 0) == 0);
    CHECK(cap(a.ctx, 0, true, area) && mm_get(area, MM_CAP_TLS_TX) == current);
    CHECK(cap(a.ctx, 0, false, area) && mm_get(area, MM_CAP_TLS_TX) == max);
    CHECK(harness_complained(""));
    CHECK(!cap(a.ctx, 0x11, true, area));
    CHECK(harness_complained("cmd.op_mod"));
    drive_close(&a);
}

static void test_no_tls_tx(void)
{
    tls_bits(0, 0);
}

static void test_tls_off(void)
{
    tls_bits(0, 1);
}

/* Refusals that the capability bits do not announce: an errno and a syndrome, no complaint. */
static void refused(uint32_t key_len)
{
    CHECK(drive_open(&a, 0) == 0);
    CHECK(drive_objects(&a, key, key_len) != 0 && errno == EREMOTEIO);
    drive_close(&a);
    CHECK(harness_complained(""));
}

static void test_refused(void)
{
    refused(16);
}

static void test_refused_256(void)
{
    CHECK(drive_open(&a, 0) == 0);
    CHECK(drive_objects(&a, key, 16) == 0);
    drive_close(&a);
    refused(32);
}

static void test_small(void)
{
    struct mlx5dv_devx_obj *keys[4];
    uint8_t in[272], out[16];
    CHECK(drive_open(&a, 0) == 0);
    for (unsigned i = 0; i < 4; i++) {
        keys[i] = mlx5dv_devx_obj_create(a.ctx, in, drive_cmd_dek(&a, key, 16, in), out, 16);
        CHECK(keys[i] != NULL);
    }
    CHECK(mlx5dv_devx_obj_create(a.ctx, in, drive_cmd_dek(&a, key, 16, in), out, 16) == NULL);
    CHECK(errno == EREMOTEIO && mm_get(out, MM_OUT_STATUS) == 8);
    CHECK(mlx5dv_devx_obj_destroy(keys[2]) == 0);
    keys[2] = mlx5dv_devx_obj_create(a.ctx, in, drive_cmd_dek(&a, key, 16, in), out, 16);
    for (unsigned i = 0; i < 4; i++)
        CHECK(mlx5dv_devx_obj_destroy(keys[i]) == 0);
    drive_close(&a);
    CHECK(harness_complained(""));
}

static void test_no_tso(void)
{
    struct ibv_device_attr_ex attr;
    struct ibv_context *ctx = context_open(true);
    CHECK(ibv_query_device_ex(ctx, NULL, &attr) == 0 && attr.tso_caps.max_tso == 0);
    ibv_close_device(ctx);
    CHECK(drive_open(&a, 0) != 0 && errno == EINVAL); /* max_tso_header */
}

static void test_no_qp(void)
{
    CHECK(drive_open(&a, 0) != 0);
    CHECK(errno == EPERM || errno == ENOMEM || errno == EOPNOTSUPP);
}

static void test_no_flow(void)
{
    CHECK(drive_open(&a, 0) == 0);
    CHECK(drive_flow_udp(&a, 5) != 0 && errno == EPERM);
    drive_close(&a);
}

/* Memory of another domain: what one queue pair may read the other may not. */
static void test_domains(void)
{
    uint8_t w[3][1024], h[128] = {0};
    CHECK(drive_open(&a, 0) == 0);
    CHECK(drive_objects(&a, key, 16) == 0);
    struct ibv_pd *other = ibv_alloc_pd(a.ctx);
    struct ibv_mr *mr = ibv_reg_mr(other, a.mem, 4096, 0);
    drive_wqe_send(&a, w[0], h, 60, (uintptr_t)a.mem, 100);
    mm_set(w[0], MM_CTRL_TIS, 0);
    mm_set(w[0] + 96, MM_DATA_LKEY, mr->lkey);
    CHECK(drive_post(&a, w, 1) == 0 && drive_polled(&a, NULL) == IBV_WC_LOC_PROT_ERR);
    CHECK(harness_complained("data.lkey"));
    /* A TIS whose domain is not its key's. */
    struct mlx5dv_pd dv = {0};
    struct mlx5dv_obj obj = {.pd = {.in = other, .out = &dv}};
    CHECK(mlx5dv_init_obj(&obj, MLX5DV_OBJ_PD) == 0 && dv.pdn != a.pdn);
    struct drive with_other = a;
    with_other.pdn = dv.pdn;
    uint8_t in[272], out[16];
    struct mlx5dv_devx_obj *dek =
        mlx5dv_devx_obj_create(a.ctx, in, drive_cmd_dek(&with_other, key, 16, in), out, 16);
    CHECK(dek != NULL);
    uint32_t own = a.dek_id;
    a.dek_id = (uint32_t)mm_get(out, MM_OUT_OBJ_ID);
    struct ibv_qp_attr reset = {.qp_state = IBV_QPS_RESET};
    struct ibv_qp_attr init = {.qp_state = IBV_QPS_INIT, .port_num = 1};
    struct ibv_qp_attr rtr = {.qp_state = IBV_QPS_RTR}, rts = {.qp_state = IBV_QPS_RTS};
    CHECK(ibv_modify_qp(a.qp, &reset, IBV_QP_STATE) == 0);
    CHECK(ibv_modify_qp(a.qp, &init, IBV_QP_STATE | IBV_QP_PORT) == 0);
    CHECK(ibv_modify_qp(a.qp, &rtr, IBV_QP_STATE) == 0);
    CHECK(ibv_modify_qp(a.qp, &rts, IBV_QP_STATE) == 0);
    drive_wqe_static(&a, w[0], 2, iv, 0, 0);
    CHECK(drive_post(&a, w, 1) == 0 && drive_polled(&a, NULL) == IBV_WC_LOC_QP_OP_ERR);
    CHECK(harness_complained("static.dek_index"));
    a.dek_id = own;
    CHECK(mlx5dv_devx_obj_destroy(dek) == 0);
    /* A domain, and a transport domain, with something in it. */
    CHECK(ibv_dealloc_pd(other) == EBUSY && harness_complained("pd"));
    CHECK(mlx5dv_devx_obj_destroy(a.td) == EREMOTEIO && harness_complained("transport_domain"));
    ibv_dereg_mr(mr);
    ibv_dealloc_pd(other);
    drive_close(&a);
    CHECK(harness_complained(""));
}

int main(void)
{
    static const struct harness_test tests[] = {
        {"full", "full", test_full, 0},
        {"no-devx", "no-devx", test_no_devx, 0},
        {"open-eperm", "open-eperm", test_open_eperm, 0},
        {"no-tls-tx", "no-tls-tx,abort=0", test_no_tls_tx, 0},
        {"tls-off", "tls-off,abort=0", test_tls_off, 0},
        {"no-dek-object", "no-dek-object", test_refused, 0},
        {"no-dek", "no-dek", test_refused, 0},
        {"128-only", "128-only", test_refused_256, 0},
        {"small-dek", "small-dek", test_small, 0},
        {"selftest-failed", "selftest-failed", test_refused, 0},
        {"td-refused", "td-refused", test_refused, 0},
        {"tis-refused", "tis-refused", test_refused, 0},
        {"dek-refused", "dek-refused", test_refused, 0},
        {"no-tso", "no-tso", test_no_tso, 0},
        {"eperm", "eperm", test_no_qp, 0},
        {"no-uar", "no-uar", test_no_qp, 0},
        {"no-raw-wqe", "no-raw-wqe", test_no_qp, 0},
        {"flow-eperm", "flow-eperm", test_no_flow, 0},
        {"domains", "full,abort=0", test_domains, 0},
    };
    return harness_run(tests, sizeof(tests) / sizeof(tests[0]));
}
