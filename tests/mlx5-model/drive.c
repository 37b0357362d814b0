/* See drive.h. */
#include "drive.h"

#include <stdlib.h>
#include <string.h>

int drive_qp(struct drive *d)
{
    struct ibv_qp_init_attr_ex attr = {
        .send_cq = d->tx_cq,
        .recv_cq = d->rx_cq,
        .cap = {.max_send_wr = 64,
                .max_recv_wr = DRIVE_RECVS,
                .max_send_sge = 4,
                .max_recv_sge = 1},
        .qp_type = IBV_QPT_RAW_PACKET,
        .comp_mask =
            IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_MAX_TSO_HEADER | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
        .pd = d->pd,
        .max_tso_header = 128,
        .send_ops_flags = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_TSO,
    };
    struct mlx5dv_qp_init_attr dv = {.comp_mask = MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS,
                                     .send_ops_flags = MLX5DV_QP_EX_WITH_RAW_WQE};
    d->qp = mlx5dv_create_qp(d->ctx, &attr, &dv);
    if (d->qp == NULL)
        return -1;
    struct ibv_qp_attr init = {.qp_state = IBV_QPS_INIT, .port_num = 1};
    struct ibv_qp_attr rtr = {.qp_state = IBV_QPS_RTR}, rts = {.qp_state = IBV_QPS_RTS};
    if (ibv_modify_qp(d->qp, &init, IBV_QP_STATE | IBV_QP_PORT) != 0 ||
        ibv_modify_qp(d->qp, &rtr, IBV_QP_STATE) != 0 ||
        ibv_modify_qp(d->qp, &rts, IBV_QP_STATE) != 0)
        return -1;
    return 0;
}

int drive_open(struct drive *d, unsigned index)
{
    *d = (struct drive){0};
    int n;
    struct ibv_device **list = ibv_get_device_list(&n);
    if (list == NULL || (int)index >= n)
        return -1;
    struct mlx5dv_context_attr attr = {.flags = MLX5DV_CONTEXT_FLAGS_DEVX};
    d->ctx = mlx5dv_open_device(list[index], &attr);
    ibv_free_device_list(list);
    if (d->ctx == NULL)
        return -1;
    /* The link-local GID holds the MAC. */
    union ibv_gid gid;
    if (ibv_query_gid(d->ctx, 1, 0, &gid) != 0)
        return -1;
    memcpy(
        d->mac,
        (uint8_t[]){gid.raw[8] ^ 2, gid.raw[9], gid.raw[10], gid.raw[13], gid.raw[14], gid.raw[15]},
        6);
    d->pd = ibv_alloc_pd(d->ctx);
    struct mlx5dv_pd dv = {0};
    struct mlx5dv_obj obj = {.pd = {.in = d->pd, .out = &dv}};
    if (d->pd == NULL || mlx5dv_init_obj(&obj, MLX5DV_OBJ_PD) != 0)
        return -1;
    d->pdn = dv.pdn;
    d->channel = ibv_create_comp_channel(d->ctx);
    d->tx_cq = ibv_create_cq(d->ctx, 1024, NULL, d->channel, 0);
    d->rx_cq = ibv_create_cq(d->ctx, 1024, NULL, d->channel, 0);
    d->mem = aligned_alloc(4096, DRIVE_BUF);
    if (d->channel == NULL || d->tx_cq == NULL || d->rx_cq == NULL || d->mem == NULL)
        return -1;
    memset(d->mem, 0, DRIVE_BUF);
    d->mr = ibv_reg_mr(d->pd, d->mem, DRIVE_BUF, IBV_ACCESS_LOCAL_WRITE);
    return d->mr == NULL ? -1 : drive_qp(d);
}

void drive_close(struct drive *d)
{
    if (d->flow != NULL)
        ibv_destroy_flow(d->flow);
    if (d->tis != NULL)
        mlx5dv_devx_obj_destroy(d->tis);
    if (d->dek != NULL)
        mlx5dv_devx_obj_destroy(d->dek);
    if (d->td != NULL)
        mlx5dv_devx_obj_destroy(d->td);
    ibv_destroy_qp(d->qp);
    ibv_destroy_cq(d->tx_cq);
    ibv_destroy_cq(d->rx_cq);
    ibv_destroy_comp_channel(d->channel);
    ibv_dereg_mr(d->mr);
    ibv_dealloc_pd(d->pd);
    ibv_close_device(d->ctx);
    free(d->mem);
    *d = (struct drive){0};
}

static int recv_post(struct drive *d, uint64_t i)
{
    struct ibv_sge sge = {.addr = (uintptr_t)d->mem + DRIVE_BUF / 2 + i * DRIVE_FRAME,
                          .length = DRIVE_FRAME,
                          .lkey = d->mr->lkey};
    struct ibv_recv_wr wr = {.wr_id = i, .sg_list = &sge, .num_sge = 1}, *bad;
    return ibv_post_recv(d->qp, &wr, &bad);
}

int drive_recvs(struct drive *d)
{
    for (unsigned i = 0; i < DRIVE_RECVS; i++) {
        if (recv_post(d, i) != 0)
            return -1;
    }
    return 0;
}

int drive_flow_protocol(struct drive *d, uint8_t protocol)
{
    struct {
        struct ibv_flow_attr attr;
        struct ibv_flow_spec_eth eth;
        struct ibv_flow_spec_ipv4_ext ip;
    } r = {
        .attr = {.type = IBV_FLOW_ATTR_NORMAL, .size = sizeof(r), .num_of_specs = 2, .port = 1},
        .eth = {.type = IBV_FLOW_SPEC_ETH, .size = sizeof(r.eth)},
        .ip = {.type = IBV_FLOW_SPEC_IPV4_EXT,
               .size = sizeof(r.ip),
               .val = {.proto = protocol},
               .mask = {.proto = 0xff}},
    };
    memcpy(r.eth.val.dst_mac, d->mac, 6);
    memset(r.eth.mask.dst_mac, 0xff, 6);
    d->flow = ibv_create_flow(d->qp, &r.attr);
    return d->flow == NULL ? -1 : 0;
}

int drive_flow_udp(struct drive *d, uint16_t port)
{
    struct {
        struct ibv_flow_attr attr;
        struct ibv_flow_spec_ipv4_ext ip;
        struct ibv_flow_spec_tcp_udp udp;
    } r = {
        .attr = {.type = IBV_FLOW_ATTR_NORMAL, .size = sizeof(r), .num_of_specs = 2, .port = 1},
        .ip = {.type = IBV_FLOW_SPEC_IPV4_EXT, .size = sizeof(r.ip)},
        .udp = {.type = IBV_FLOW_SPEC_UDP,
                .size = sizeof(r.udp),
                .val = {.dst_port = htobe16(port)},
                .mask = {.dst_port = 0xffff}},
    };
    d->flow = ibv_create_flow(d->qp, &r.attr);
    return d->flow == NULL ? -1 : 0;
}

const uint8_t *drive_frame(struct drive *d, uint32_t *len)
{
    struct ibv_wc wc;
    if (ibv_poll_cq(d->rx_cq, 1, &wc) != 1 || wc.status != IBV_WC_SUCCESS)
        return NULL;
    *len = wc.byte_len;
    if (recv_post(d, wc.wr_id) != 0)
        return NULL;
    return d->mem + DRIVE_BUF / 2 + wc.wr_id * DRIVE_FRAME;
}

uint32_t drive_cmd_td(uint8_t *in)
{
    memset(in, 0, 16);
    mm_set(in, MM_IN_OPCODE, 0x816);
    return 16;
}

uint32_t drive_cmd_tis(const struct drive *d, uint8_t *in)
{
    memset(in, 0, 192);
    mm_set(in, MM_TIS_OPCODE, 0x912);
    mm_set(in, MM_TIS_TLS_EN, 1);
    mm_set(in, MM_TIS_TD, d->tdn);
    mm_set(in, MM_TIS_PD, d->pdn);
    return 192;
}

uint32_t drive_cmd_dek(const struct drive *d, const uint8_t *key, uint32_t key_len, uint8_t *in)
{
    memset(in, 0, 272);
    mm_set(in, MM_OBJ_OPCODE, 0xa00);
    mm_set(in, MM_OBJ_TYPE, 0xc);
    mm_set(in + 16, MM_DEK_KEY_SIZE, key_len == 32);
    mm_set(in + 16, MM_DEK_PURPOSE, 1);
    mm_set(in + 16, MM_DEK_PD, d->pdn);
    memcpy(in + 16 + 0x40 + 32 - key_len, key, key_len);
    return 272;
}

int drive_objects(struct drive *d, const uint8_t *key, uint32_t key_len)
{
    uint8_t in[272], out[16];
    d->key_len = key_len;
    d->td = mlx5dv_devx_obj_create(d->ctx, in, drive_cmd_td(in), out, 16);
    if (d->td == NULL)
        return -1;
    d->tdn = (uint32_t)mm_get(out, MM_OUT_NUMBER);
    d->tis = mlx5dv_devx_obj_create(d->ctx, in, drive_cmd_tis(d, in), out, 16);
    if (d->tis == NULL)
        return -1;
    d->tisn = (uint32_t)mm_get(out, MM_OUT_NUMBER);
    d->dek = mlx5dv_devx_obj_create(d->ctx, in, drive_cmd_dek(d, key, key_len, in), out, 16);
    if (d->dek == NULL)
        return -1;
    d->dek_id = (uint32_t)mm_get(out, MM_OUT_OBJ_ID);
    return 0;
}

static void ctrl_put(const struct drive *d, uint8_t *b, uint32_t opcode, uint32_t opmod,
                     uint32_t ds, uint32_t fence, uint32_t tisn)
{
    memset(b, 0, ds * 16);
    mm_set(b, MM_CTRL_OPMOD, opmod);
    mm_set(b, MM_CTRL_WQE_INDEX, d->pi);
    mm_set(b, MM_CTRL_OPCODE, opcode);
    mm_set(b, MM_CTRL_QPN, d->qp != NULL ? d->qp->qp_num : 0xabc);
    mm_set(b, MM_CTRL_DS, ds);
    mm_set(b, MM_CTRL_FENCE, fence);
    mm_set(b, MM_CTRL_TIS, tisn);
}

uint32_t drive_wqe_static(const struct drive *d, uint8_t *b, uint32_t version, const uint8_t *iv,
                          uint64_t record, uint32_t fence)
{
    ctrl_put(d, b, 0x25, 1, 12, fence, d->tisn);
    mm_set(b + 16, MM_UMR_FLAGS, 0x80);
    mm_set(b + 16, MM_UMR_BSF_OCTOWORDS, 4);
    mm_set(b + 128, MM_ST_CONST_2, 2);
    mm_set(b + 128, MM_ST_VERSION, version);
    mm_set(b + 128, MM_ST_CONST_1, 1);
    mm_set(b + 128, MM_ST_STANDARD, 1);
    mm_set(b + 128, MM_ST_RECORD_NUMBER, record);
    memcpy(b + 128 + 20, iv, version == 2 ? 4 : 12);
    mm_set(b + 128, MM_ST_DEK, d->dek_id);
    return 12;
}

uint32_t drive_wqe_progress(const struct drive *d, uint8_t *b, uint32_t fence)
{
    ctrl_put(d, b, 0x20, 1, 2, fence, 0);
    mm_set(b + 16, MM_PR_TIS, d->tisn);
    return 2;
}

uint32_t drive_wqe_nop(const struct drive *d, uint8_t *b, uint32_t fence)
{
    ctrl_put(d, b, 0x00, 0, 1, fence, 0);
    return 1;
}

static uint32_t packet_put(const struct drive *d, uint8_t *b, uint32_t opcode,
                           const uint8_t *header, uint32_t header_len, uint32_t mss, uint64_t addr,
                           uint32_t len)
{
    uint32_t ds = 1 + (14 + header_len + 15) / 16;
    ctrl_put(d, b, opcode, 0, ds + 1, 0, d->tisn);
    mm_set(b + 16, MM_ETH_CS_FLAGS, 0xc0);
    mm_set(b + 16, MM_ETH_MSS, mss);
    mm_set(b + 16, MM_ETH_INLINE_SZ, header_len);
    memcpy(b + 30, header, header_len);
    mm_set(b + ds * 16, MM_DATA_LEN, len);
    mm_set(b + ds * 16, MM_DATA_LKEY, d->mr != NULL ? d->mr->lkey : 0x11223344);
    mm_set(b + ds * 16, MM_DATA_ADDR, addr);
    return ds + 1;
}

uint32_t drive_wqe_lso(const struct drive *d, uint8_t *b, const uint8_t *header,
                       uint32_t header_len, uint32_t mss, uint64_t addr, uint32_t len)
{
    return packet_put(d, b, 0x0e, header, header_len, mss, addr, len);
}

uint32_t drive_wqe_send(const struct drive *d, uint8_t *b, const uint8_t *header,
                        uint32_t header_len, uint64_t addr, uint32_t len)
{
    return packet_put(d, b, 0x0a, header, header_len, 0, addr, len);
}

uint32_t drive_wqe_dump(const struct drive *d, uint8_t *b, uint64_t addr, uint32_t len,
                        uint32_t fence)
{
    ctrl_put(d, b, 0x23, 0, 2, fence, d->tisn);
    mm_set(b + 16, MM_DATA_LEN, len);
    mm_set(b + 16, MM_DATA_LKEY, d->mr != NULL ? d->mr->lkey : 0x11223344);
    mm_set(b + 16, MM_DATA_ADDR, addr);
    return 2;
}

int drive_post(struct drive *d, uint8_t (*wqes)[1024], unsigned n)
{
    struct ibv_qp_ex *ex = ibv_qp_to_qp_ex(d->qp);
    struct mlx5dv_qp_ex *dv = mlx5dv_qp_ex_from_ibv_qp_ex(ex);
    ibv_wr_start(ex);
    for (unsigned i = 0; i < n; i++) {
        ex->wr_id = d->next_wr++;
        mlx5dv_wr_raw_wqe(dv, wqes[i]);
    }
    return ibv_wr_complete(ex);
}

int drive_polled(struct drive *d, uint64_t *wr_id)
{
    struct ibv_wc wc;
    if (ibv_poll_cq(d->tx_cq, 1, &wc) != 1)
        return -1;
    if (wr_id != NULL)
        *wr_id = wc.wr_id;
    return (int)wc.status;
}

static void ipv4_put(uint8_t protocol, uint8_t *h)
{
    memcpy(h + 12, (uint8_t[]){0x08, 0, 0x45, 0x02, 0, 0, 0, 0, 0x40, 0, 64, protocol}, 12);
    memcpy(h + 26, (uint8_t[]){10, 7, 0, 1, 10, 7, 0, 2}, 8);
}

static void ipv6_put(uint8_t protocol, uint8_t *h)
{
    memcpy(h + 12, (uint8_t[]){0x86, 0xdd, 0x60, 0x20, 0, 0, 0, 0, protocol, 64}, 10);
    h[22] = h[38] = 0xfd;
    h[37] = 1;
    h[53] = 2;
}

uint32_t drive_header(const struct drive *from, const struct drive *to, int version,
                      uint8_t protocol, uint8_t *h)
{
    uint32_t l4 = version == 4 ? 34 : 54;
    memset(h, 0, l4 + 44);
    memcpy(h, to->mac, 6);
    memcpy(h + 6, from->mac, 6);
    if (version == 4)
        ipv4_put(protocol, h);
    else
        ipv6_put(protocol, h);
    memcpy(h + l4, (uint8_t[]){0x48, 0x53, 0x48, 0x53}, 4);
    h[l4 + 12] = 0xb0; /* 44 bytes */
    h[l4 + 13] = 0x10;
    h[l4 + 14] = 2;
    return l4 + 44;
}

uint32_t drive_record(uint8_t *b, uint64_t number, uint32_t len)
{
    uint32_t body = 8 + len + 16;
    memcpy(b, (uint8_t[]){0x17, 3, 3, (uint8_t)(body >> 8), (uint8_t)body}, 5);
    for (int i = 0; i < 8; i++)
        b[5 + i] = (uint8_t)(number >> (56 - 8 * i));
    memset(b + 13 + len, 0, 16);
    return 13 + len + 16;
}
