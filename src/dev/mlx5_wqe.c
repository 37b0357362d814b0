/* Bytes of send requests as the NIC reads them: all fields big-endian, offsets as the drivers of
 * Linux and FreeBSD use them (the Linux header mlx5_ifc.h names every bit).
 *
 * Owns the layouts that the system's headers lack: parameters of TLS contexts. Posting order and
 * fences are mlx5_seal.c's. */
#include "dev/mlx5_wqe.h"

#include <string.h>

#include "base/bytes.h"

enum {
    OP_NOP = 0x00,
    OP_SEND = 0x0a,
    OP_LSO = 0x0e,
    OP_SET_PSV = 0x20,
    OP_UMR = 0x25,
    MOD_TIS_PARAMS = 1,
    FENCE_INITIATOR_SMALL = 0x20,
    COMPLETION_ALWAYS = 0x08,
    /* control */
    CTRL_DS = 7,
    CTRL_FLAGS = 11,
    CTRL_TIS = 12,
    /* static parameters: UMR control, memory key context, then the context itself */
    UMR_FLAGS = 16,
    UMR_INLINE = 0x80,
    UMR_BSF_OCTOWORDS = 22,
    TLS_AT = 128,
    TLS_CONST_AND_12 = 0x89, /* constants 2 and 1 around version code 2, TLS 1.2 */
    TLS_STANDARD = 1,
    /* Ethernet segment */
    ETH_AT = 16,
    ETH_SUMS = 4,
    ETH_SUM_L3 = 0x40,
    ETH_SUM_L4 = 0x80,
    ETH_MSS = 6,
    ETH_HDR_LEN = 12,
    ETH_HDR = 14,
};

static void put_be24(uint8_t *p, uint32_t v)
{
    assert(v < 1u << 24);
    p[0] = (uint8_t)(v >> 16);
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)v;
}

static void ctrl_put(uint8_t *out, const struct smt_mlx5_ctrl *c, uint8_t mod, uint8_t op,
                     size_t len)
{
    assert(len % SMT_MLX5_UNIT == 0 && len / SMT_MLX5_UNIT < 64);
    memset(out, 0, SMT_MLX5_UNIT);
    out[0] = mod;
    out[3] = op;
    put_be24(out + 4, c->sqn);
    out[CTRL_DS] = (uint8_t)(len / SMT_MLX5_UNIT);
    out[CTRL_FLAGS] = (uint8_t)((c->is_fenced ? FENCE_INITIATOR_SMALL : 0) |
                                (c->is_signalled ? COMPLETION_ALWAYS : 0));
    put_be24(out + CTRL_TIS, c->tisn);
}

void smt_mlx5_wqe_static(uint8_t out[SMT_MLX5_STATIC_LEN], const struct smt_mlx5_ctrl *ctrl,
                         uint32_t dek, uint64_t record_no, const uint8_t salt[4])
{
    assert(ctrl->tisn != 0);
    memset(out, 0, SMT_MLX5_STATIC_LEN);
    ctrl_put(out, ctrl, MOD_TIS_PARAMS, OP_UMR, SMT_MLX5_STATIC_LEN);
    out[UMR_FLAGS] = UMR_INLINE;
    smt_put_be16(out + UMR_BSF_OCTOWORDS, 4);
    uint8_t *tls = out + TLS_AT;
    tls[0] = TLS_CONST_AND_12;
    tls[3] = TLS_STANDARD;
    smt_put_be64(tls + 8, record_no);
    memcpy(tls + 20, salt, 4);
    put_be24(tls + 33, dek);
}

void smt_mlx5_wqe_progress(uint8_t out[SMT_MLX5_PROGRESS_LEN], const struct smt_mlx5_ctrl *ctrl)
{
    assert(ctrl->tisn != 0);
    memset(out, 0, SMT_MLX5_PROGRESS_LEN);
    /* The context stands in the body here, not in the control segment. */
    struct smt_mlx5_ctrl bare = *ctrl;
    bare.tisn = 0;
    ctrl_put(out, &bare, MOD_TIS_PARAMS, OP_SET_PSV, SMT_MLX5_PROGRESS_LEN);
    smt_put_be32(out + SMT_MLX5_UNIT, ctrl->tisn);
}

void smt_mlx5_wqe_nop(uint8_t out[SMT_MLX5_NOP_LEN], const struct smt_mlx5_ctrl *ctrl)
{
    struct smt_mlx5_ctrl bare = *ctrl;
    bare.tisn = 0;
    ctrl_put(out, &bare, 0, OP_NOP, SMT_MLX5_NOP_LEN);
}

size_t smt_mlx5_wqe_packet(uint8_t out[SMT_MLX5_MAX_WQE], const struct smt_mlx5_ctrl *ctrl,
                           const struct smt_mlx5_packet *p)
{
    assert(p->hdr_len >= 2 && p->hdr_len <= SMT_MLX5_MAX_HDR && p->n_segs <= SMT_MLX5_MAX_SEGS);
    size_t eth_len = (ETH_HDR + p->hdr_len + SMT_MLX5_UNIT - 1) & ~(size_t)(SMT_MLX5_UNIT - 1);
    size_t len = ETH_AT + eth_len + p->n_segs * (size_t)SMT_MLX5_UNIT;
    ctrl_put(out, ctrl, 0, p->mss > 0 ? OP_LSO : OP_SEND, len);
    uint8_t *eth = out + ETH_AT;
    memset(eth, 0, ETH_HDR);
    eth[ETH_SUMS] = (uint8_t)((p->is_l3_sum ? ETH_SUM_L3 : 0) | (p->is_l4_sum ? ETH_SUM_L4 : 0));
    smt_put_be16(eth + ETH_MSS, (uint16_t)p->mss);
    smt_put_be16(eth + ETH_HDR_LEN, (uint16_t)p->hdr_len);
    memcpy(eth + ETH_HDR, p->hdr, p->hdr_len);
    memset(eth + ETH_HDR + p->hdr_len, 0, eth_len - ETH_HDR - p->hdr_len);
    uint8_t *seg = eth + eth_len;
    for (unsigned i = 0; i < p->n_segs; i++, seg += SMT_MLX5_UNIT) {
        assert(p->segs[i].len > 0 && p->segs[i].len < 1u << 31);
        smt_put_be32(seg, p->segs[i].len);
        smt_put_be32(seg + 4, p->segs[i].lkey);
        smt_put_be64(seg + 8, p->segs[i].addr);
    }
    return len;
}
