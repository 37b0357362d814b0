/* Work queue elements decoded: every field of them is looked at. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "tls.h"

enum {
    OP_NOP = 0x00,
    OP_SEND = 0x0a,
    OP_LSO = 0x0e,
    OP_SET_PSV = 0x20,
    OP_DUMP = 0x23,
    OP_UMR = 0x25,
    FENCE_SMALL = 1,
    FENCE_FULL = 4,
    ALWAYS_CQE = 2,
    TIS_PARAMS = 1,
};

static bool reserved_clear(enum mm_layout layout, const uint8_t *b, size_t len, const char *what)
{
    int bit = mm_reserved_bit(layout, b, len);
    if (bit < 0)
        return true;
    return mm_complain(what, "reserved bit 0x%x (byte %d) is set", (unsigned)bit, bit / 8);
}

static bool ctrl_fits(const struct mm_qp *qp, const uint8_t *b)
{
    static const struct {
        uint8_t opcode, opmod, ds_min, ds_max;
    } rows[] = {
        {OP_NOP, 0, 1, 1},     {OP_SEND, 0, 3, 63}, {OP_LSO, 0, 3, 63},
        {OP_SET_PSV, 1, 2, 2}, {OP_DUMP, 0, 2, 2},  {OP_UMR, 1, 12, 12},
    };
    uint64_t opcode = mm_get(b, MM_CTRL_OPCODE), ds = mm_get(b, MM_CTRL_DS);
    uint64_t fence = mm_get(b, MM_CTRL_FENCE), ce = mm_get(b, MM_CTRL_CE);
    unsigned i = 0;
    while (i < sizeof(rows) / sizeof(rows[0]) && rows[i].opcode != opcode)
        i++;
    if (i == sizeof(rows) / sizeof(rows[0]))
        return mm_complain("ctrl.opcode", "0x%02x", (unsigned)opcode);
    if (mm_get(b, MM_CTRL_OPMOD) != rows[i].opmod)
        return mm_complain("ctrl.opmod", "%u, opcode 0x%02x has %u",
                           (unsigned)mm_get(b, MM_CTRL_OPMOD), (unsigned)opcode, rows[i].opmod);
    if (ds < rows[i].ds_min || ds > rows[i].ds_max)
        return mm_complain("ctrl.ds", "%u for opcode 0x%02x", (unsigned)ds, (unsigned)opcode);
    if (mm_get(b, MM_CTRL_QPN) != qp->sqn)
        return mm_complain("ctrl.qpn", "0x%x posted to queue 0x%x",
                           (unsigned)mm_get(b, MM_CTRL_QPN), qp->sqn);
    if (fence != 0 && fence != FENCE_SMALL && fence != FENCE_FULL)
        return mm_complain("ctrl.fence", "%u", (unsigned)fence);
    if (ce != 0 && ce != ALWAYS_CQE)
        return mm_complain("ctrl.ce", "%u", (unsigned)ce);
    if (mm_get(b, MM_CTRL_SE) != 0)
        return mm_complain("ctrl.se", "solicited event of a raw packet");
    return reserved_clear(MM_CTRL, b, 16, "ctrl.reserved");
}

static enum ibv_wc_status static_execute(struct mm_qp *qp, const uint8_t *b)
{
    static const uint8_t zero[64];
    mm_stats.wqe_static++;
    if (mm_get(b + 16, MM_UMR_FLAGS) != 0x80) {
        mm_complain("umr.flags", "0x%02x, must be 0x80", (unsigned)mm_get(b + 16, MM_UMR_FLAGS));
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (mm_get(b + 16, MM_UMR_BSF_OCTOWORDS) != 4) {
        mm_complain("umr.bsf_octowords", "%u, must be 4",
                    (unsigned)mm_get(b + 16, MM_UMR_BSF_OCTOWORDS));
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (!reserved_clear(MM_UMR, b + 16, 48, "umr.reserved"))
        return IBV_WC_LOC_QP_OP_ERR;
    if (memcmp(b + 64, zero, 64) != 0) {
        mm_complain("mkey", "the memory key context must be zero");
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (!reserved_clear(MM_STATIC, b + 128, 64, "static.reserved"))
        return IBV_WC_LOC_QP_OP_ERR;
    return mm_tls_static(qp->sqn, qp->pd->pdn, (uint32_t)mm_get(b, MM_CTRL_TIS), b + 128);
}

static enum ibv_wc_status progress_execute(struct mm_qp *qp, const uint8_t *b)
{
    mm_stats.wqe_progress++;
    if (mm_get(b, MM_CTRL_TIS) != 0) {
        mm_complain("ctrl.tis_tir_num", "must be 0 in SET_PSV");
        return IBV_WC_LOC_QP_OP_ERR;
    }
    if (!reserved_clear(MM_PROGRESS, b + 16, 16, "progress.reserved"))
        return IBV_WC_LOC_QP_OP_ERR;
    return mm_tls_progress(qp->sqn, (uint32_t)mm_get(b + 16, MM_PR_TIS), b + 16);
}

static enum ibv_wc_status nop_execute(const uint8_t *b)
{
    mm_stats.wqe_nop++;
    if (mm_get(b, MM_CTRL_TIS) == 0)
        return IBV_WC_SUCCESS;
    mm_complain("ctrl.tis_tir_num", "must be 0 in NOP");
    return IBV_WC_LOC_QP_OP_ERR;
}

/* Adds one data segment at byte `at` of the WQE to `to`; *at moves on. */
static enum ibv_wc_status segment_gather(struct mm_qp *qp, const uint8_t *b, uint32_t *at,
                                         uint32_t end, uint8_t *to, uint32_t *len)
{
    const uint8_t *seg = b + *at;
    uint32_t n = (uint32_t)mm_get(seg, MM_DATA_LEN);
    if (mm_get(seg, MM_DATA_INLINE)) {
        n &= 0x3ff;
        if (n == 0 || n != mm_get(seg, MM_DATA_LEN) || *at + 4 + n > end) {
            mm_complain("data.byte_count", "%u bytes inline", n);
            return IBV_WC_LOC_LEN_ERR;
        }
        memcpy(to + *len, seg + 4, n);
        *len += n;
        *at += (4 + n + 15) / 16 * 16;
        return IBV_WC_SUCCESS;
    }
    if (n == 0 || n > MM_MAX_LSO - *len) {
        mm_complain("data.byte_count", "%u", n);
        return IBV_WC_LOC_LEN_ERR;
    }
    const void *from =
        mm_mr_bytes(qp->pd, (uint32_t)mm_get(seg, MM_DATA_LKEY), mm_get(seg, MM_DATA_ADDR), n, 0);
    if (from == NULL)
        return IBV_WC_LOC_PROT_ERR;
    memcpy(to + *len, from, n);
    *len += n;
    *at += 16;
    return IBV_WC_SUCCESS;
}

static enum ibv_wc_status gather(struct mm_qp *qp, const uint8_t *b, uint32_t at, uint8_t *to,
                                 uint32_t *len)
{
    uint32_t end = (uint32_t)mm_get(b, MM_CTRL_DS) * 16;
    enum ibv_wc_status status = IBV_WC_SUCCESS;
    *len = 0;
    while (status == IBV_WC_SUCCESS && at < end)
        status = segment_gather(qp, b, &at, end, to, len);
    if (status == IBV_WC_SUCCESS && at != end) {
        mm_complain("ctrl.ds", "%u: the last data segment ends elsewhere", end / 16);
        return IBV_WC_LOC_QP_OP_ERR;
    }
    return status;
}

/* A TLS packet's inline header ends exactly where the record begins: Ethernet, IP, and a header of
 * TCP's geometry. */
static bool tls_header_fits(const uint8_t *h, uint32_t len)
{
    uint32_t ip = 0, l4 = 0;
    if (len >= 34 && h[12] == 8 && h[13] == 0) {
        ip = 14;
        l4 = ip + 4 * (h[14] & 15u);
    } else if (len >= 54 && h[12] == 0x86 && h[13] == 0xdd) {
        ip = 14;
        l4 = ip + 40;
    }
    if (ip == 0)
        return mm_complain("eth.inline_hdr", "ethertype 0x%02x%02x under TLS", h[12], h[13]);
    uint8_t protocol = h[12] == 8 ? h[ip + 9] : h[ip + 6];
    if (protocol == 17)
        return mm_complain("eth.inline_hdr", "UDP under TLS: nobody has seen that work");
    if (l4 + 20 > len)
        return mm_complain("eth.inline_hdr_sz", "%u: no room for a header like TCP's", len);
    uint32_t doff = 4 * (h[l4 + 12] >> 4u);
    if (doff < 20 || l4 + doff != len)
        return mm_complain("eth.inline_hdr_sz", "%u: the header says that it ends at %u", len,
                           l4 + doff);
    return true;
}

static bool eth_fits(struct mm_qp *qp, const uint8_t *b, bool lso, bool tls, uint32_t *header_len)
{
    const uint8_t *eth = b + 16;
    uint32_t mss = (uint32_t)mm_get(eth, MM_ETH_MSS), ds = (uint32_t)mm_get(b, MM_CTRL_DS);
    uint32_t sz = (uint32_t)mm_get(eth, MM_ETH_INLINE_SZ);
    *header_len = sz;
    if (!reserved_clear(MM_ETH, eth, 14, "eth.reserved"))
        return false;
    if (mm_get(eth, MM_ETH_CS_FLAGS) & 0x3f)
        return mm_complain("eth.cs_flags", "0x%02x: only 0x40 and 0x80 are used",
                           (unsigned)mm_get(eth, MM_ETH_CS_FLAGS));
    if (lso != (mss != 0))
        return mm_complain("eth.mss", "%u in a %s", mss, lso ? "LSO" : "SEND");
    if (sz < 14 || (lso && sz < 34) || 30 + sz > ds * 16)
        return mm_complain("eth.inline_hdr_sz", "%u", sz);
    if (lso && mm_config()->log_max_lso == 0)
        return mm_complain("ctrl.opcode", "LSO on a device without");
    if (lso && sz > qp->max_tso_header)
        return mm_complain("eth.inline_hdr_sz", "%u, max_tso_header is %u", sz, qp->max_tso_header);
    if (lso && sz - 14 + mss > qp->dev->mtu)
        return mm_complain("eth.mss", "%u with %u bytes of header: the MTU is %u", mss, sz - 14,
                           qp->dev->mtu);
    static const uint8_t zero[16];
    uint32_t pad = 30 + sz, rest = (pad + 15) / 16 * 16 - pad;
    if (memcmp(b + pad, zero, rest) != 0)
        return mm_complain("eth.inline_hdr", "padding behind the header is not zero");
    return !tls || tls_header_fits(b + 30, sz);
}

static enum ibv_wc_status packet_execute(struct mm_qp *qp, const uint8_t *b, bool lso)
{
    static uint8_t payload[MM_MAX_LSO];
    uint8_t header[MM_WQE_LEN];
    uint32_t tisn = (uint32_t)mm_get(b, MM_CTRL_TIS), header_len, len;
    if (lso)
        mm_stats.wqe_lso++;
    else
        mm_stats.wqe_send++;
    bool tls = tisn != 0;
    if (!eth_fits(qp, b, lso, tls, &header_len))
        return IBV_WC_LOC_QP_OP_ERR;
    memcpy(header, b + 30, header_len);
    uint32_t at = (30 + header_len + 15) / 16 * 16;
    enum ibv_wc_status status = gather(qp, b, at, payload, &len);
    if (status != IBV_WC_SUCCESS)
        return status;
    if ((lso && len + header_len > 1u << mm_config()->log_max_lso) || (lso && len == 0)) {
        mm_complain("data.byte_count", "%u bytes of LSO", len);
        return IBV_WC_LOC_LEN_ERR;
    }
    if (!lso && header_len + len > qp->dev->mtu + 14) {
        mm_complain("data.byte_count", "a frame of %u bytes, the MTU is %u", header_len + len,
                    qp->dev->mtu);
        return IBV_WC_LOC_LEN_ERR;
    }
    if (tls)
        status = mm_tls_stream(qp->sqn, tisn, payload, len);
    if (status != IBV_WC_SUCCESS)
        return status;
    struct mm_packet p = {.header = header,
                          .header_len = header_len,
                          .payload = payload,
                          .payload_len = len,
                          .mss = lso ? (uint32_t)mm_get(b + 16, MM_ETH_MSS) : 0,
                          .cs_flags = (uint8_t)mm_get(b + 16, MM_ETH_CS_FLAGS)};
    return mm_packet_send(qp->dev, &p) ? IBV_WC_SUCCESS : IBV_WC_LOC_QP_OP_ERR;
}

static enum ibv_wc_status dump_execute(struct mm_qp *qp, const uint8_t *b)
{
    static uint8_t payload[MM_MAX_LSO];
    uint32_t tisn = (uint32_t)mm_get(b, MM_CTRL_TIS), len;
    mm_stats.wqe_dump++;
    enum ibv_wc_status status = gather(qp, b, 16, payload, &len);
    if (status != IBV_WC_SUCCESS)
        return status;
    if (len > qp->dev->mtu) {
        mm_complain("data.byte_count", "DUMP of %u bytes, the MTU is %u", len, qp->dev->mtu);
        return IBV_WC_LOC_LEN_ERR;
    }
    return mm_tls_stream(qp->sqn, tisn, payload, len);
}

enum ibv_wc_status mm_wqe_execute(struct mm_qp *qp, const uint8_t *b, uint32_t *vendor_err)
{
    enum ibv_wc_status status = IBV_WC_LOC_QP_OP_ERR;
    mm_stats.wqes++;
    *vendor_err = 0x52;
    if (!ctrl_fits(qp, b))
        return status;
    if (mm_get(b, MM_CTRL_FENCE) != 0)
        mm_tls_fence(qp->sqn);
    switch (mm_get(b, MM_CTRL_OPCODE)) {
    case OP_NOP:
        status = nop_execute(b);
        break;
    case OP_UMR:
        status = static_execute(qp, b);
        break;
    case OP_SET_PSV:
        status = progress_execute(qp, b);
        break;
    case OP_DUMP:
        status = dump_execute(qp, b);
        break;
    case OP_SEND:
        status = packet_execute(qp, b, false);
        break;
    case OP_LSO:
        status = packet_execute(qp, b, true);
        break;
    default:
        mm_die("model", "opcode without a row");
    }
    return status;
}

uint64_t mm_wqe_digest(struct mm_qp *qp, const uint8_t *b)
{
    uint64_t opcode = mm_get(b, MM_CTRL_OPCODE), h = 0xcbf29ce484222325u;
    if (opcode != OP_SEND && opcode != OP_LSO && opcode != OP_DUMP)
        return 0;
    static uint8_t payload[MM_MAX_LSO];
    uint32_t at =
        opcode == OP_DUMP ? 16 : (30 + (uint32_t)mm_get(b + 16, MM_ETH_INLINE_SZ) + 15) / 16 * 16;
    uint32_t len;
    if (gather(qp, b, at, payload, &len) != IBV_WC_SUCCESS)
        return 0;
    for (uint32_t i = 0; i < len; i++)
        h = (h ^ payload[i]) * 0x100000001b3u;
    return h | 1;
}
