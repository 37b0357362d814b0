/* Send queues: work posted by post_send or built by the ibv_wr_* calls, carried out in order, given
 * back when a completion at or behind it has been polled. */
#include <errno.h>
#include <string.h>

#include "model.h"

static void send_check(const char *call, struct vm_qp *qp, const struct vm_send *s)
{
    unsigned known = IBV_SEND_SIGNALED | IBV_SEND_SOLICITED | IBV_SEND_INLINE;
    if (s->opcode != IBV_WR_SEND && s->opcode != IBV_WR_SEND_WITH_IMM)
        vm_abort(call, "opcode", "%d on a UD QP", s->opcode);
    if ((s->flags & ~known) != 0)
        vm_abort(call, "send_flags", "0x%x on a UD QP", s->flags & ~known);
    if (s->ah == NULL)
        vm_abort(call, "ud.ah", "NULL");
    if (s->ah->ibv.pd != qp->ex.qp_base.pd)
        vm_abort(call, "ud.ah", "of another protection domain");
    if (s->qpn == 0 || s->qpn > 0xffffff)
        vm_abort(call, "ud.remote_qpn", "0x%x", s->qpn);
    if ((s->qkey & 0x80000000) != 0)
        vm_abort(call, "ud.remote_qkey", "0x%x: with its top bit the QP's own is used", s->qkey);
    if (s->len > qp->max_payload)
        vm_abort(call, "sg_list", "%u bytes, the MTU is %u", s->len, qp->max_payload);
}

/* The next free slot of the ring, empty. `n_more` is how many are staged before it. */
static struct vm_send *slot_take(const char *call, struct vm_qp *qp, unsigned n_more)
{
    uint64_t held = qp->sq_posted + n_more - qp->sq_retired;
    if (held >= qp->cap.max_send_wr)
        vm_abort(call, "max_send_wr", "the send queue of %u overflows", qp->cap.max_send_wr);
    vm_cq_room(call, "send_cq", qp->send_cq, n_more);
    struct vm_send *s = &qp->sq[(qp->sq_posted + n_more) % qp->cap.max_send_wr];
    uint8_t *inline_data = s->inline_data;
    *s = (struct vm_send){.inline_data = inline_data};
    return s;
}

static void inline_set(const char *call, struct vm_qp *qp, struct vm_send *s, const void *data,
                       size_t len)
{
    if (s->len + len > qp->cap.max_inline_data)
        vm_abort(call, "max_inline_data", "%zu bytes, it is %u", s->len + len,
                 qp->cap.max_inline_data);
    if (len > 0)
        memcpy(s->inline_data + s->len, data, len);
    s->len += (uint32_t)len;
    s->flags |= IBV_SEND_INLINE;
}

static void sge_set(const char *call, struct vm_qp *qp, struct vm_send *s,
                    const struct ibv_sge *list, size_t n)
{
    if (n > qp->cap.max_send_sge)
        vm_abort(call, "num_sge", "%zu of %u", n, qp->cap.max_send_sge);
    for (size_t i = 0; i < n; i++) {
        s->sge[s->n_sge++] = vm_sge_take(call, qp, &list[i], false);
        s->len += list[i].length;
    }
}

/* From here on the work is the hardware's. */
static void send_commit(const char *call, struct vm_qp *qp, struct vm_send *s)
{
    send_check(call, qp, s);
    s->ah->n_used++;
    s->sum = vm_sge_sum(s->sge, s->n_sge);
    if (qp->sq_sig_all)
        s->flags |= IBV_SEND_SIGNALED;
    qp->sq_posted++;
    qp->send_cq->n_owed++;
    verbs_model_counts.sends++;
    verbs_model_counts.send_bytes += s->len;
    verbs_model_counts.inline_sends += (s->flags & IBV_SEND_INLINE) != 0;
    verbs_model_counts.signalled += (s->flags & IBV_SEND_SIGNALED) != 0;
}

static struct vm_qp *sender_of(const char *call, struct ibv_qp *ibv)
{
    struct vm_qp *qp = vm_qp_of(call, ibv);
    if (ibv->state < IBV_QPS_RTS)
        vm_abort(call, "qp", "not in RTS (state %d)", ibv->state);
    return qp;
}

static void doorbell(struct vm_qp *qp)
{
    verbs_model_counts.doorbells++;
    if (!verbs_model.is_stalled || qp->ex.qp_base.state != IBV_QPS_RTS)
        (void)vm_sends_run(qp, UINT32_MAX);
}

int vm_op_post_send(struct ibv_qp *ibv, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    static const char call[] = "ibv_post_send";
    vm_lock();
    struct vm_qp *qp = sender_of(call, ibv);
    if (qp->is_building)
        vm_abort(call, "qp", "between ibv_wr_start and ibv_wr_complete");
    struct vm_device *dev = vm_ctx_of(call, ibv->context)->dev;
    int r = 0;
    unsigned n = 0;
    for (; wr != NULL; wr = wr->next, n++) {
        r = vm_fails(VERBS_MODEL_POST_SEND, dev);
        if (r != 0) {
            *bad = wr;
            break;
        }
        struct vm_send *s = slot_take(call, qp, 0);
        s->wr_id = wr->wr_id;
        s->opcode = wr->opcode;
        s->flags = wr->send_flags;
        s->imm = wr->imm_data;
        s->ah = vm_ah_of(call, "ud.ah", wr->wr.ud.ah);
        s->qpn = wr->wr.ud.remote_qpn;
        s->qkey = wr->wr.ud.remote_qkey;
        if (wr->num_sge < 0 || (uint32_t)wr->num_sge > qp->cap.max_send_sge)
            vm_abort(call, "num_sge", "%d of %u", wr->num_sge, qp->cap.max_send_sge);
        for (int i = 0; i < wr->num_sge && (s->flags & IBV_SEND_INLINE) != 0; i++)
            inline_set(call, qp, s, (const void *)(uintptr_t)wr->sg_list[i].addr,
                       wr->sg_list[i].length);
        if ((s->flags & IBV_SEND_INLINE) == 0)
            sge_set(call, qp, s, wr->sg_list, (size_t)wr->num_sge);
        send_commit(call, qp, s);
    }
    if (n > 0)
        doorbell(qp);
    vm_unlock();
    return r;
}

static struct vm_qp *builder_of(const char *call, struct ibv_qp_ex *ex)
{
    struct vm_qp *qp = sender_of(call, &ex->qp_base);
    if (!qp->is_building)
        vm_abort(call, "qp", "without ibv_wr_start");
    return qp;
}

/* The work that setters speak of. */
static struct vm_send *current_of(const char *call, struct vm_qp *qp)
{
    if (qp->n_staged == 0)
        vm_abort(call, "qp", "before an ibv_wr_send");
    return &qp->sq[(qp->sq_posted + qp->n_staged - 1) % qp->cap.max_send_wr];
}

static void op_wr_start(struct ibv_qp_ex *ex)
{
    vm_lock();
    struct vm_qp *qp = sender_of("ibv_wr_start", &ex->qp_base);
    if (qp->is_building)
        vm_abort("ibv_wr_start", "qp", "started before");
    qp->is_building = true;
    vm_unlock();
}

static void staged_check(struct vm_qp *qp)
{
    if (qp->n_staged == 0)
        return;
    const struct vm_send *s = current_of("ibv_wr_send", qp);
    if (s->ah == NULL)
        vm_abort("ibv_wr_send", "ud.ah", "the one before has no ibv_wr_set_ud_addr");
    if (!s->has_data)
        vm_abort("ibv_wr_send", "data", "the one before has neither inline data nor SGE");
}

static void wr_begin(const char *call, struct ibv_qp_ex *ex, enum ibv_wr_opcode opcode, __be32 imm)
{
    vm_lock();
    struct vm_qp *qp = builder_of(call, ex);
    uint64_t op = opcode == IBV_WR_SEND ? IBV_QP_EX_WITH_SEND : IBV_QP_EX_WITH_SEND_WITH_IMM;
    if ((qp->send_ops & op) == 0)
        vm_abort(call, "send_ops_flags", "the QP was made without 0x%llx", (unsigned long long)op);
    staged_check(qp);
    struct vm_send *s = slot_take(call, qp, qp->n_staged++);
    s->wr_id = ex->wr_id;
    s->flags = ex->wr_flags;
    s->opcode = opcode;
    s->imm = imm;
    vm_unlock();
}

static void op_wr_send(struct ibv_qp_ex *ex)
{
    wr_begin("ibv_wr_send", ex, IBV_WR_SEND, 0);
}

static void op_wr_send_imm(struct ibv_qp_ex *ex, __be32 imm)
{
    wr_begin("ibv_wr_send_imm", ex, IBV_WR_SEND_WITH_IMM, imm);
}

static void op_wr_set_ud_addr(struct ibv_qp_ex *ex, struct ibv_ah *ah, uint32_t qpn, uint32_t qkey)
{
    static const char call[] = "ibv_wr_set_ud_addr";
    vm_lock();
    struct vm_send *s = current_of(call, builder_of(call, ex));
    if (s->ah != NULL)
        vm_abort(call, "ud.ah", "set before");
    s->ah = vm_ah_of(call, "ud.ah", ah);
    s->qpn = qpn;
    s->qkey = qkey;
    vm_unlock();
}

static struct vm_send *data_begin(const char *call, struct ibv_qp_ex *ex)
{
    struct vm_send *s = current_of(call, builder_of(call, ex));
    if (s->has_data)
        vm_abort(call, "data", "set before");
    s->has_data = true;
    return s;
}

/* rxe's library leaves the flag to its user, and its kernel goes by the flag. */
static void flag_check(const char *call, const struct vm_send *s, bool is_inline)
{
    if (is_inline && (s->flags & IBV_SEND_INLINE) == 0)
        vm_abort(call, "wr_flags", "no IBV_SEND_INLINE: rxe would take the bytes for an address");
    if (!is_inline && (s->flags & IBV_SEND_INLINE) != 0)
        vm_abort(call, "wr_flags", "IBV_SEND_INLINE, and an SGE: rxe would send other bytes");
}

static void op_wr_set_inline_data(struct ibv_qp_ex *ex, void *addr, size_t len)
{
    static const char call[] = "ibv_wr_set_inline_data";
    vm_lock();
    struct vm_send *s = data_begin(call, ex);
    flag_check(call, s, true);
    inline_set(call, builder_of(call, ex), s, addr, len);
    vm_unlock();
}

static void op_wr_set_inline_data_list(struct ibv_qp_ex *ex, size_t n,
                                       const struct ibv_data_buf *list)
{
    static const char call[] = "ibv_wr_set_inline_data_list";
    vm_lock();
    struct vm_send *s = data_begin(call, ex);
    flag_check(call, s, true);
    for (size_t i = 0; i < n; i++)
        inline_set(call, builder_of(call, ex), s, list[i].addr, list[i].length);
    vm_unlock();
}

static void op_wr_set_sge(struct ibv_qp_ex *ex, uint32_t lkey, uint64_t addr, uint32_t len)
{
    static const char call[] = "ibv_wr_set_sge";
    const struct ibv_sge sge = {.addr = addr, .length = len, .lkey = lkey};
    vm_lock();
    struct vm_send *s = data_begin(call, ex);
    flag_check(call, s, false);
    sge_set(call, builder_of(call, ex), s, &sge, 1);
    vm_unlock();
}

static void op_wr_set_sge_list(struct ibv_qp_ex *ex, size_t n, const struct ibv_sge *list)
{
    static const char call[] = "ibv_wr_set_sge_list";
    vm_lock();
    struct vm_send *s = data_begin(call, ex);
    flag_check(call, s, false);
    sge_set(call, builder_of(call, ex), s, list, n);
    vm_unlock();
}

/* Staged work that will not be posted. */
static void staged_drop(struct vm_qp *qp)
{
    for (unsigned i = 0; i < qp->n_staged; i++) {
        struct vm_send *s = &qp->sq[(qp->sq_posted + i) % qp->cap.max_send_wr];
        for (unsigned k = 0; k < s->n_sge; k++)
            vm_sge_give(&s->sge[k]);
    }
    qp->n_staged = 0;
    qp->is_building = false;
}

static int op_wr_complete(struct ibv_qp_ex *ex)
{
    static const char call[] = "ibv_wr_complete";
    vm_lock();
    struct vm_qp *qp = builder_of(call, ex);
    staged_check(qp);
    int r = vm_fails(VERBS_MODEL_POST_SEND, vm_ctx_of(call, ex->qp_base.context)->dev);
    if (r != 0) {
        staged_drop(qp);
    } else {
        unsigned n = qp->n_staged;
        qp->n_staged = 0;
        qp->is_building = false;
        for (unsigned i = 0; i < n; i++)
            send_commit(call, qp, &qp->sq[qp->sq_posted % qp->cap.max_send_wr]);
        if (n > 0)
            doorbell(qp);
    }
    vm_unlock();
    return r;
}

static void op_wr_abort(struct ibv_qp_ex *ex)
{
    vm_lock();
    staged_drop(builder_of("ibv_wr_abort", ex));
    vm_unlock();
}

void vm_wr_ops_init(struct vm_qp *qp)
{
    qp->ex.wr_start = op_wr_start;
    qp->ex.wr_send = op_wr_send;
    qp->ex.wr_send_imm = op_wr_send_imm;
    qp->ex.wr_set_ud_addr = op_wr_set_ud_addr;
    qp->ex.wr_set_inline_data = op_wr_set_inline_data;
    qp->ex.wr_set_inline_data_list = op_wr_set_inline_data_list;
    qp->ex.wr_set_sge = op_wr_set_sge;
    qp->ex.wr_set_sge_list = op_wr_set_sge_list;
    qp->ex.wr_complete = op_wr_complete;
    qp->ex.wr_abort = op_wr_abort;
}

static void buffers_check(const struct vm_qp *qp, const struct vm_send *s)
{
    if (vm_sge_sum(s->sge, s->n_sge) != s->sum)
        vm_abort("completion", "send buffer",
                 "of wr_id 0x%llx on QP 0x%x was written while it was posted",
                 (unsigned long long)s->wr_id, qp->ex.qp_base.qp_num);
}

static void packet_send(struct vm_qp *qp, const struct vm_send *s)
{
    static struct verbs_model_packet p; /* under the lock, and too large for a stack */
    struct vm_device *dev = vm_ctx_of("model", qp->ex.qp_base.context)->dev;
    const struct verbs_model_device *k = vm_knobs_of(dev);
    const struct ibv_ah_attr *a = &s->ah->attr;
    p.from = k;
    p.to = NULL;
    p.has_grh = a->is_global != 0;
    p.has_imm = s->opcode == IBV_WR_SEND_WITH_IMM;
    p.solicited = (s->flags & IBV_SEND_SOLICITED) != 0;
    p.traffic_class = a->grh.traffic_class;
    p.hop_limit = a->grh.hop_limit;
    p.flow_label = a->grh.flow_label;
    p.sl = a->sl;
    p.sgid = k->gids[a->grh.sgid_index].gid;
    p.dgid = a->grh.dgid;
    p.slid = k->is_ib ? k->lid : 0;
    p.dlid = a->dlid;
    p.src_qpn = qp->ex.qp_base.qp_num;
    p.dst_qpn = s->qpn;
    p.qkey = s->qkey;
    p.imm = s->imm;
    p.len = s->len;
    if ((s->flags & IBV_SEND_INLINE) != 0) {
        memcpy(p.data, s->inline_data, s->len);
    } else {
        uint32_t at = 0;
        for (unsigned i = 0; i < s->n_sge; i++) {
            memcpy(p.data + at, s->sge[i].addr, s->sge[i].len);
            at += s->sge[i].len;
        }
    }
    if (k->port_state != IBV_PORT_ACTIVE)
        verbs_model_counts.no_port++;
    else if (s->len > 128u << k->active_mtu)
        verbs_model_counts.too_big++;
    else
        vm_wire_send(&p);
}

static enum ibv_wc_status send_run(struct vm_qp *qp, const struct vm_send *s)
{
    if (qp->ex.qp_base.state != IBV_QPS_RTS) {
        verbs_model_counts.flushed++;
        return IBV_WC_WR_FLUSH_ERR;
    }
    if (verbs_model.send_errors > 0) {
        verbs_model.send_errors--;
        verbs_model_counts.send_errors++;
        if (verbs_model.send_errors == 0)
            qp->ex.qp_base.state = IBV_QPS_SQE;
        return verbs_model.send_status;
    }
    buffers_check(qp, s);
    packet_send(qp, s);
    return IBV_WC_SUCCESS;
}

unsigned vm_sends_run(struct vm_qp *qp, unsigned n)
{
    unsigned done = 0;
    for (; done < n && qp->sq_done < qp->sq_posted; done++) {
        const struct vm_send *s = &qp->sq[qp->sq_done % qp->cap.max_send_wr];
        enum ibv_wc_status status = send_run(qp, s);
        if (status != IBV_WC_SUCCESS || (s->flags & IBV_SEND_SIGNALED) != 0) {
            const struct vm_cqe cqe = {.wc = {.wr_id = s->wr_id,
                                              .status = status,
                                              .opcode = IBV_WC_SEND,
                                              .vendor_err = status != IBV_WC_SUCCESS ? 0xf9 : 0,
                                              .qp_num = qp->ex.qp_base.qp_num},
                                       .qp = qp,
                                       .generation = qp->generation,
                                       .index = qp->sq_done,
                                       .is_send = true};
            vm_cqe_add("send completion", qp->send_cq, &cqe, false);
        }
        qp->sq_done++;
    }
    return done;
}

unsigned verbs_model_run(unsigned n)
{
    unsigned done = 0;
    vm_lock();
    for (unsigned i = 0; i < VM_MAX_QPS && done < n; i++) {
        if (vm_qps[i] != NULL)
            done += vm_sends_run(vm_qps[i], n - done);
    }
    vm_unlock();
    return done;
}

void vm_send_retire(struct vm_qp *qp, uint64_t index)
{
    for (; qp->sq_retired <= index; qp->sq_retired++) {
        struct vm_send *s = &qp->sq[qp->sq_retired % qp->cap.max_send_wr];
        buffers_check(qp, s);
        for (unsigned i = 0; i < s->n_sge; i++)
            vm_sge_give(&s->sge[i]);
        s->ah->n_used--;
        qp->send_cq->n_owed--;
    }
}
