/* Work requests come in: raw WQEs as they are, those of ibv_post_send and ibv_wr_* turned into the
 * WQEs that libmlx5 would make, so that one decoder sees everything. */
#include <errno.h>
#include <string.h>

#include "model.h"

enum { L2_INLINE = 18 };

static void fits_ring(struct mm_qp *qp, uint32_t ds)
{
    uint32_t bbs = (ds * 16 + 63) / 64, busy = qp->used_bbs + qp->quiet_bbs;
    for (unsigned i = 0; i < qp->n_posted + qp->n_batch; i++)
        busy += qp->posted[(qp->first_posted + i) % qp->max_post].n_bbs;
    if (busy + bbs > qp->ring_bbs)
        mm_complain("send queue", "overrun: %u of %u blocks of 64 bytes are taken, %u more wanted",
                    busy, qp->ring_bbs, bbs);
    if (ds * 16 > qp->wqe_size)
        mm_complain("ctrl.ds", "%u: longer than the %u bytes a work request has room for", ds,
                    qp->wqe_size);
}

/* Takes the place that mm_sq_place gave; its bytes are written. */
static void place_take(struct mm_qp *qp, struct mm_posted *p, uint32_t ds)
{
    p->n_bbs = (ds * 16 + 63) / 64;
    fits_ring(qp, ds);
    mm_set(p->bytes, MM_CTRL_WQE_INDEX, qp->producer);
    qp->producer = (uint16_t)(qp->producer + p->n_bbs);
    qp->n_batch++;
}

static struct mm_qp *qp_of_ex(const char *call, struct ibv_qp_ex *ex)
{
    struct mm_qp *qp = mm_qp_of(call, &ex->qp_base);
    if (!qp->in_batch)
        mm_complain(call, "outside of ibv_wr_start ... ibv_wr_complete");
    return qp;
}

static void wr_start(struct ibv_qp_ex *ex)
{
    mm_enter();
    struct mm_qp *qp = mm_qp_of("ibv_wr_start", &ex->qp_base);
    if (qp->in_batch)
        mm_complain("ibv_wr_start", "twice");
    if (qp->state != IBV_QPS_RTS && qp->state != IBV_QPS_ERR)
        mm_complain("ibv_wr_start.qp", "state %d, a post needs RTS", qp->state);
    qp->in_batch = true;
    qp->batch_error = 0;
    qp->n_batch = 0;
    mm_leave();
}

static int wr_complete(struct ibv_qp_ex *ex)
{
    mm_enter();
    struct mm_qp *qp = qp_of_ex("ibv_wr_complete", ex);
    int r = qp->batch_error;
    qp->in_batch = false;
    if (r == 0)
        r = mm_sq_doorbell(qp);
    else
        qp->n_batch = 0;
    mm_leave();
    return r;
}

static void wr_abort(struct ibv_qp_ex *ex)
{
    mm_enter();
    struct mm_qp *qp = qp_of_ex("ibv_wr_abort", ex);
    for (unsigned i = 0; i < qp->n_batch; i++)
        qp->producer =
            (uint16_t)(qp->producer -
                       qp->posted[(qp->first_posted + qp->n_posted + i) % qp->max_post].n_bbs);
    qp->n_batch = 0;
    qp->in_batch = false;
    mm_leave();
}

static void wr_raw_wqe(struct mlx5dv_qp_ex *dv, const void *wqe)
{
    mm_enter();
    struct mm_qp *qp = MM_CONTAINER(dv, struct mm_qp, dv);
    (void)qp_of_ex("mlx5dv_wr_raw_wqe", &qp->ex);
    if (!qp->has_raw_wqe)
        mm_complain("mlx5dv_wr_raw_wqe", "the queue pair was made without RAW_WQE");
    struct mm_posted *p = mm_sq_place(qp);
    if (p != NULL) {
        uint32_t ds = (uint32_t)mm_get(wqe, MM_CTRL_DS);
        memset(p->bytes, 0, 64);
        memcpy(p->bytes, wqe, (ds == 0 ? 1 : ds) * 16);
        p->wr_id = qp->ex.wr_id;
        p->opcode = IBV_WC_DRIVER2;
        place_take(qp, p, ds == 0 ? 1 : ds);
    }
    mm_leave();
}

/* The WQE of ibv_wr_* that is being built: the last one of the batch. */
static struct mm_posted *current(struct mm_qp *qp)
{
    if (qp->n_batch == 0) {
        mm_complain("ibv_wr_set", "no work request was begun");
        return NULL;
    }
    return &qp->posted[(qp->first_posted + qp->n_posted + qp->n_batch - 1) % qp->max_post];
}

static void ctrl_fill(struct mm_qp *qp, uint8_t *b, unsigned flags, uint8_t opcode)
{
    memset(b, 0, 64);
    mm_set(b, MM_CTRL_OPCODE, opcode);
    mm_set(b, MM_CTRL_QPN, qp->sqn);
    mm_set(b, MM_CTRL_CE, flags & IBV_SEND_SIGNALED || qp->sig_all ? 2 : 0);
    mm_set(b, MM_CTRL_FENCE, flags & IBV_SEND_FENCE ? 4 : 0);
    mm_set(b + 16, MM_ETH_CS_FLAGS, flags & IBV_SEND_IP_CSUM ? 0xc0 : 0);
}

static struct mm_posted *wr_begin(struct mm_qp *qp, uint8_t opcode, uint64_t wr_id, unsigned flags)
{
    struct mm_posted *p = mm_sq_place(qp);
    if (p == NULL)
        return NULL;
    ctrl_fill(qp, p->bytes, flags, opcode);
    p->wr_id = wr_id;
    p->opcode = opcode == 0x0e ? IBV_WC_TSO : IBV_WC_SEND;
    return p;
}

/* Bytes of control and Ethernet segment with this inline header. */
static uint32_t head_ds(uint32_t header_len)
{
    return 1 + (14 + (header_len < 2 ? 2 : header_len) + 15) / 16;
}

static void header_put(uint8_t *b, const void *header, uint32_t len, uint32_t mss)
{
    mm_set(b + 16, MM_ETH_MSS, mss);
    mm_set(b + 16, MM_ETH_INLINE_SZ, len);
    memset(b + 30, 0, head_ds(len) * 16 - 30);
    memcpy(b + 30, header, len);
}

static void seg_put(uint8_t *b, uint32_t *ds, const struct ibv_sge *sge, uint32_t skip)
{
    uint8_t *seg = b + *ds * 16;
    memset(seg, 0, 16);
    mm_set(seg, MM_DATA_LEN, sge->length - skip);
    mm_set(seg, MM_DATA_LKEY, sge->lkey);
    mm_set(seg, MM_DATA_ADDR, sge->addr + skip);
    ++*ds;
}

static void ds_set(struct mm_qp *qp, struct mm_posted *p, uint32_t ds)
{
    uint32_t bbs = (ds * 16 + 63) / 64;
    qp->producer = (uint16_t)(qp->producer + bbs - p->n_bbs);
    p->n_bbs = bbs;
    mm_set(p->bytes, MM_CTRL_DS, ds);
    fits_ring(qp, 1);
}

static void wr_send(struct ibv_qp_ex *ex)
{
    mm_enter();
    struct mm_qp *qp = qp_of_ex("ibv_wr_send", ex);
    if (!(qp->send_ops & IBV_QP_EX_WITH_SEND))
        mm_complain("ibv_wr_send", "the queue pair was made without it");
    struct mm_posted *p = wr_begin(qp, 0x0a, ex->wr_id, ex->wr_flags);
    if (p != NULL) {
        mm_set(p->bytes, MM_CTRL_DS, 3);
        place_take(qp, p, 3);
    }
    mm_leave();
}

static void wr_send_tso(struct ibv_qp_ex *ex, void *hdr, uint16_t hdr_len, uint16_t mss)
{
    mm_enter();
    struct mm_qp *qp = qp_of_ex("ibv_wr_send_tso", ex);
    if (!(qp->send_ops & IBV_QP_EX_WITH_TSO))
        mm_complain("ibv_wr_send_tso", "the queue pair was made without it");
    struct mm_posted *p = wr_begin(qp, 0x0e, ex->wr_id, ex->wr_flags);
    if (p != NULL && (hdr_len > qp->max_tso_header || hdr_len < 14)) {
        mm_complain("ibv_wr_send_tso.hdr_sz", "%u, max_tso_header is %u", hdr_len,
                    qp->max_tso_header);
        qp->batch_error = EINVAL;
    } else if (p != NULL) {
        header_put(p->bytes, hdr, hdr_len, mss);
        mm_set(p->bytes, MM_CTRL_DS, head_ds(hdr_len));
        place_take(qp, p, head_ds(hdr_len));
    }
    mm_leave();
}

/* A SEND carries its first bytes inline; what they come from is shortened. */
static bool l2_inline(struct mm_qp *qp, uint8_t *b, const struct ibv_sge *sge, uint32_t *skip)
{
    *skip = 0;
    if (mm_get(b, MM_CTRL_OPCODE) == 0x0e)
        return true;
    if (sge->length < L2_INLINE)
        return mm_complain("sge.length", "%u: the first part of a frame has %d bytes or more",
                           sge->length, L2_INLINE);
    const uint8_t *from = mm_mr_bytes(qp->pd, sge->lkey, sge->addr, L2_INLINE, 0);
    if (from == NULL)
        return false;
    header_put(b, from, L2_INLINE, 0);
    *skip = L2_INLINE;
    return true;
}

static void sges_put(struct mm_qp *qp, struct mm_posted *p, const struct ibv_sge *sg, size_t n)
{
    uint32_t ds = (uint32_t)mm_get(p->bytes, MM_CTRL_DS), skip = 0;
    if (n == 0 || n > qp->cap.max_send_sge) {
        mm_complain("num_sge", "%zu, at most %u", n, qp->cap.max_send_sge);
        qp->batch_error = EINVAL;
        return;
    }
    if (!l2_inline(qp, p->bytes, &sg[0], &skip)) {
        qp->batch_error = EINVAL;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (sg[i].length > (i == 0 ? skip : 0))
            seg_put(p->bytes, &ds, &sg[i], i == 0 ? skip : 0);
    }
    ds_set(qp, p, ds);
}

static void wr_set_sge_list(struct ibv_qp_ex *ex, size_t n, const struct ibv_sge *sg)
{
    mm_enter();
    struct mm_qp *qp = qp_of_ex("ibv_wr_set_sge_list", ex);
    struct mm_posted *p = current(qp);
    if (p != NULL)
        sges_put(qp, p, sg, n);
    mm_leave();
}

static void wr_set_sge(struct ibv_qp_ex *ex, uint32_t lkey, uint64_t addr, uint32_t length)
{
    struct ibv_sge sge = {.addr = addr, .length = length, .lkey = lkey};
    wr_set_sge_list(ex, 1, &sge);
}

static void inline_put(struct mm_qp *qp, struct mm_posted *p, size_t n,
                       const struct ibv_data_buf *bufs)
{
    uint8_t all[MM_WQE_LEN];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (bufs[i].length > qp->cap.max_inline_data - len) {
            mm_complain("inline data", "more than the %u bytes of max_inline_data",
                        qp->cap.max_inline_data);
            qp->batch_error = ENOMEM;
            return;
        }
        memcpy(all + len, bufs[i].addr, bufs[i].length);
        len += bufs[i].length;
    }
    uint32_t ds = (uint32_t)mm_get(p->bytes, MM_CTRL_DS), head = 0;
    if (mm_get(p->bytes, MM_CTRL_OPCODE) != 0x0e) {
        if (len < L2_INLINE) {
            mm_complain("inline data", "%zu bytes are no frame", len);
            qp->batch_error = EINVAL;
            return;
        }
        header_put(p->bytes, all, L2_INLINE, 0);
        head = L2_INLINE;
    }
    if (len > head) {
        uint8_t *seg = p->bytes + ds * 16;
        uint32_t total = (uint32_t)(4 + len - head + 15) / 16;
        memset(seg, 0, total * 16);
        mm_set(seg, MM_DATA_INLINE, 1);
        mm_set(seg, MM_DATA_LEN, len - head);
        memcpy(seg + 4, all + head, len - head);
        ds += total;
    }
    ds_set(qp, p, ds);
}

static void wr_set_inline_data_list(struct ibv_qp_ex *ex, size_t n, const struct ibv_data_buf *bufs)
{
    mm_enter();
    struct mm_qp *qp = qp_of_ex("ibv_wr_set_inline_data_list", ex);
    struct mm_posted *p = current(qp);
    if (p != NULL)
        inline_put(qp, p, n, bufs);
    mm_leave();
}

static void wr_set_inline_data(struct ibv_qp_ex *ex, void *addr, size_t length)
{
    struct ibv_data_buf buf = {.addr = addr, .length = length};
    wr_set_inline_data_list(ex, 1, &buf);
}

static int send_put(struct mm_qp *qp, struct ibv_send_wr *wr)
{
    if (wr->opcode != IBV_WR_SEND && wr->opcode != IBV_WR_TSO) {
        mm_complain("send_wr.opcode", "%d is not for raw packets", wr->opcode);
        return EINVAL;
    }
    bool tso = wr->opcode == IBV_WR_TSO;
    struct mm_posted *p = wr_begin(qp, tso ? 0x0e : 0x0a, wr->wr_id, wr->send_flags);
    if (p == NULL)
        return ENOMEM;
    uint32_t ds = 3;
    if (tso) {
        if (wr->tso.hdr_sz > qp->max_tso_header || wr->tso.hdr_sz < 14) {
            mm_complain("send_wr.tso.hdr_sz", "%u, max_tso_header is %u", wr->tso.hdr_sz,
                        qp->max_tso_header);
            return EINVAL;
        }
        header_put(p->bytes, wr->tso.hdr, wr->tso.hdr_sz, wr->tso.mss);
        ds = head_ds(wr->tso.hdr_sz);
    }
    mm_set(p->bytes, MM_CTRL_DS, ds);
    place_take(qp, p, ds);
    if (wr->send_flags & IBV_SEND_INLINE) {
        struct ibv_data_buf bufs[32];
        int n = wr->num_sge < 32 ? wr->num_sge : 32;
        for (int i = 0; i < n; i++)
            bufs[i] = (struct ibv_data_buf){.addr = (void *)(uintptr_t)wr->sg_list[i].addr,
                                            .length = wr->sg_list[i].length};
        inline_put(qp, p, (size_t)n, bufs);
    } else {
        sges_put(qp, p, wr->sg_list, (size_t)wr->num_sge);
    }
    return qp->batch_error;
}

int mm_op_post_send(struct ibv_qp *ibv, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    mm_enter();
    struct mm_qp *qp = mm_qp_of("ibv_post_send", ibv);
    int r = 0;
    if (qp->state != IBV_QPS_RTS && qp->state != IBV_QPS_ERR) {
        mm_complain("ibv_post_send.qp", "state %d, a post needs RTS", qp->state);
        r = EINVAL;
    }
    qp->batch_error = 0;
    for (; r == 0 && wr != NULL; wr = wr->next) {
        unsigned before = qp->n_batch;
        r = send_put(qp, wr);
        if (r != 0) {
            qp->n_batch = before;
            break;
        }
    }
    if (r != 0)
        *bad = wr;
    if (qp->n_batch > 0)
        (void)mm_sq_doorbell(qp);
    mm_leave();
    return r;
}

int mm_op_post_recv(struct ibv_qp *ibv, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    mm_enter();
    struct mm_qp *qp = mm_qp_of("ibv_post_recv", ibv);
    int r = 0;
    if (qp->state == IBV_QPS_RESET) {
        mm_complain("ibv_post_recv.qp", "in RESET");
        r = EINVAL;
    }
    for (; r == 0 && wr != NULL; wr = wr->next) {
        if (qp->n_recvs == qp->cap.max_recv_wr) {
            r = ENOMEM;
        } else if (wr->num_sge < 1 || (uint32_t)wr->num_sge > qp->cap.max_recv_sge) {
            mm_complain("recv_wr.num_sge", "%d, at most %u", wr->num_sge, qp->cap.max_recv_sge);
            r = EINVAL;
        } else {
            struct mm_recv *rx = &qp->recvs[(qp->first_recv + qp->n_recvs++) % qp->cap.max_recv_wr];
            rx->wr_id = wr->wr_id;
            rx->n_sge = (unsigned)wr->num_sge;
            memcpy(rx->sge, wr->sg_list, rx->n_sge * sizeof(rx->sge[0]));
        }
        if (r != 0)
            break;
    }
    if (r != 0)
        *bad = wr;
    else if (qp->state == IBV_QPS_ERR)
        mm_rq_flush(qp);
    mm_leave();
    return r;
}

void mm_post_ops(struct mm_qp *qp)
{
    qp->ex.wr_start = wr_start;
    qp->ex.wr_complete = wr_complete;
    qp->ex.wr_abort = wr_abort;
    qp->ex.wr_send = wr_send;
    qp->ex.wr_send_tso = wr_send_tso;
    qp->ex.wr_set_sge = wr_set_sge;
    qp->ex.wr_set_sge_list = wr_set_sge_list;
    qp->ex.wr_set_inline_data = wr_set_inline_data;
    qp->ex.wr_set_inline_data_list = wr_set_inline_data_list;
    qp->dv.wr_raw_wqe = wr_raw_wqe;
}
