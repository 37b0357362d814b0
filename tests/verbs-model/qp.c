/* UD queue pairs: made, moved between their states by the table of the InfiniBand specification,
 * failed, destroyed; and their receive queues. */
#include <errno.h>
#include <infiniband/mlx5dv.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

struct vm_qp *vm_qps[VM_MAX_QPS];
static uint32_t next_qpn = 0x11;

struct vm_qp *vm_qp_of(const char *call, struct ibv_qp *ibv)
{
    if (ibv == NULL)
        vm_abort(call, "qp", "NULL");
    struct vm_qp *qp = SMT_CONTAINER_OF(ibv, struct vm_qp, ex.qp_base);
    vm_expect(call, "qp", &qp->object, VM_QP);
    return qp;
}

static void *array_new(size_t n, size_t size)
{
    void *p = calloc(n > 0 ? n : 1, size);
    if (p == NULL)
        vm_abort("model", "memory", "none left");
    return p;
}

/* The attributes both calls have in common, in the extended form. */
static struct ibv_qp *qp_new(const char *call, struct ibv_pd *ibpd,
                             const struct ibv_qp_init_attr_ex *a, uint64_t send_ops)
{
    struct vm_pd *pd = vm_pd_of(call, ibpd);
    struct vm_ctx *c = vm_ctx_of(call, ibpd->context);
    const struct verbs_model_device *k = vm_knobs_of(c->dev);
    struct vm_cq *send_cq = vm_cq_of(call, "send_cq", a->send_cq);
    struct vm_cq *recv_cq = vm_cq_of(call, "recv_cq", a->recv_cq);
    if (a->send_cq->context != ibpd->context || a->recv_cq->context != ibpd->context)
        vm_abort(call, "send_cq, recv_cq", "of another context than the protection domain");
    if (a->qp_type != IBV_QPT_UD)
        vm_abort(call, "qp_type", "%d, the model has UD (%d) only", a->qp_type, IBV_QPT_UD);
    if (a->srq != NULL)
        vm_abort(call, "srq", "the model has none");
    if ((a->cap.max_send_wr > 0 && a->cap.max_send_sge == 0) ||
        (a->cap.max_recv_wr > 0 && a->cap.max_recv_sge == 0))
        vm_abort(call, "cap", "work requests without SGEs");
    if (a->cap.max_send_wr > k->max_qp_wr || a->cap.max_recv_wr > k->max_qp_wr ||
        a->cap.max_send_sge > k->max_sge || a->cap.max_recv_sge > k->max_sge ||
        a->cap.max_inline_data > k->max_inline) {
        errno = EINVAL;
        return NULL;
    }
    if (vm_fails(VERBS_MODEL_CREATE_QP, c->dev) != 0)
        return NULL;
    uint32_t qpn = next_qpn;
    for (unsigned i = 0; vm_qps[VM_QPN_SLOT(qpn)] != NULL; i++, qpn++) {
        if (i == VM_MAX_QPS)
            vm_abort(call, "qp", "more than %d", VM_MAX_QPS);
    }
    next_qpn = (qpn + 0x101) & 0xffffff;
    struct vm_qp *qp = vm_object_new(sizeof(*qp), offsetof(struct vm_qp, object), VM_QP);
    qp->ex.qp_base = (struct ibv_qp){.context = ibpd->context,
                                     .qp_context = a->qp_context,
                                     .pd = ibpd,
                                     .send_cq = a->send_cq,
                                     .recv_cq = a->recv_cq,
                                     .handle = qpn,
                                     .qp_num = qpn,
                                     .state = IBV_QPS_RESET,
                                     .qp_type = a->qp_type};
    qp->send_cq = send_cq;
    qp->recv_cq = recv_cq;
    qp->cap = a->cap;
    qp->sq_sig_all = a->sq_sig_all != 0;
    qp->sq = array_new(a->cap.max_send_wr, sizeof(*qp->sq));
    qp->rq = array_new(a->cap.max_recv_wr, sizeof(*qp->rq));
    qp->inline_area = array_new(a->cap.max_send_wr, a->cap.max_inline_data);
    for (uint32_t i = 0; i < a->cap.max_send_wr; i++)
        qp->sq[i].inline_data = qp->inline_area + (size_t)i * a->cap.max_inline_data;
    qp->max_payload = 128u << k->active_mtu;
    qp->has_wr_ops = send_ops != 0;
    qp->send_ops = send_ops;
    if (qp->has_wr_ops)
        vm_wr_ops_init(qp);
    vm_qps[VM_QPN_SLOT(qpn)] = qp;
    pd->n_qps++;
    send_cq->n_qps++;
    recv_cq->n_qps++;
    verbs_model_counts.qps++;
    return &qp->ex.qp_base;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
    vm_lock();
    struct ibv_qp_init_attr_ex a = {.qp_context = attr->qp_context,
                                    .send_cq = attr->send_cq,
                                    .recv_cq = attr->recv_cq,
                                    .srq = attr->srq,
                                    .cap = attr->cap,
                                    .qp_type = attr->qp_type,
                                    .sq_sig_all = attr->sq_sig_all};
    struct ibv_qp *qp = qp_new("ibv_create_qp", pd, &a, 0);
    vm_unlock();
    return qp;
}

static struct ibv_qp *qp_new_ex(const char *call, struct ibv_context *ctx,
                                struct ibv_qp_init_attr_ex *attr)
{
    struct vm_ctx *c = vm_ctx_of(call, ctx);
    if ((attr->comp_mask & IBV_QP_INIT_ATTR_PD) == 0)
        vm_abort(call, "comp_mask", "lacks IBV_QP_INIT_ATTR_PD");
    uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    if ((attr->comp_mask & ~known) != 0)
        vm_abort(call, "comp_mask", "0x%x, a UD QP takes 0x%x", attr->comp_mask, known);
    uint64_t ops = 0;
    if ((attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0) {
        const uint64_t ud_ops = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
        ops = attr->send_ops_flags;
        if (ops == 0 || (ops & ~ud_ops) != 0)
            vm_abort(call, "send_ops_flags", "0x%llx for a UD QP", (unsigned long long)ops);
        if (vm_knobs_of(c->dev)->qp_ex != VERBS_MODEL_QP_EX) {
            errno = EOPNOTSUPP;
            return NULL;
        }
    }
    if (attr->pd->context != ctx)
        vm_abort(call, "pd", "of another context");
    return qp_new(call, attr->pd, attr, ops);
}

struct ibv_qp *vm_op_create_qp_ex(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr)
{
    vm_lock();
    struct ibv_qp *qp = qp_new_ex("ibv_create_qp_ex", ctx, attr);
    vm_unlock();
    return qp;
}

struct ibv_qp *mlx5dv_create_qp(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr,
                                struct mlx5dv_qp_init_attr *mlx5_attr)
{
    static const char call[] = "mlx5dv_create_qp";
    vm_lock();
    if (!vm_knobs_of(vm_ctx_of(call, ctx)->dev)->is_mlx5)
        vm_abort(call, "context", "not an mlx5 device");
    uint64_t known = MLX5DV_QP_INIT_ATTR_MASK_QP_CREATE_FLAGS;
    if (mlx5_attr != NULL && (mlx5_attr->comp_mask & ~known) != 0)
        vm_abort(call, "mlx5_attr.comp_mask", "0x%llx for a UD QP",
                 (unsigned long long)mlx5_attr->comp_mask);
    struct ibv_qp *qp = qp_new_ex(call, ctx, attr);
    vm_unlock();
    return qp;
}

struct ibv_qp_ex *ibv_qp_to_qp_ex(struct ibv_qp *ibv)
{
    struct vm_qp *qp = vm_qp_of("ibv_qp_to_qp_ex", ibv);
    return qp->has_wr_ops ? &qp->ex : NULL;
}

struct transition {
    enum ibv_qp_state from, to;
    int required, optional;
};

static const struct transition transitions[] = {
    {IBV_QPS_RESET, IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY, 0},
    {IBV_QPS_INIT, IBV_QPS_INIT, 0, IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY},
    {IBV_QPS_INIT, IBV_QPS_RTR, 0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY},
    {IBV_QPS_RTR, IBV_QPS_RTS, IBV_QP_SQ_PSN, IBV_QP_CUR_STATE | IBV_QP_QKEY},
    {IBV_QPS_RTS, IBV_QPS_RTS, 0, IBV_QP_CUR_STATE | IBV_QP_QKEY},
    {IBV_QPS_SQE, IBV_QPS_RTS, 0, IBV_QP_CUR_STATE | IBV_QP_QKEY},
};

static const struct transition *transition_find(enum ibv_qp_state from, enum ibv_qp_state to)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(transitions); i++) {
        if (transitions[i].from == from && transitions[i].to == to)
            return &transitions[i];
    }
    return NULL;
}

static void modify_check(struct vm_qp *qp, const struct ibv_qp_attr *attr, int mask)
{
    static const char call[] = "ibv_modify_qp";
    static const char *const names[] = {"RESET", "INIT", "RTR", "RTS", "SQD", "SQE", "ERR"};
    if ((mask & IBV_QP_STATE) == 0)
        vm_abort(call, "attr_mask", "0x%x lacks IBV_QP_STATE", (unsigned)mask);
    if (attr->qp_state > IBV_QPS_ERR)
        vm_abort(call, "qp_state", "%d", attr->qp_state);
    enum ibv_qp_state from = qp->ex.qp_base.state, to = attr->qp_state;
    if ((mask & IBV_QP_CUR_STATE) != 0 && attr->cur_qp_state != from)
        vm_abort(call, "cur_qp_state", "%s, it is %s", names[attr->cur_qp_state], names[from]);
    struct transition any = {from, to, 0, 0};
    const struct transition *t = &any;
    if (to != IBV_QPS_RESET && to != IBV_QPS_ERR)
        t = transition_find(from, to);
    if (t == NULL)
        vm_abort(call, "qp_state", "no way from %s to %s", names[from], names[to]);
    int rest = mask & ~IBV_QP_STATE;
    if ((t->required & ~rest) != 0)
        vm_abort(call, "attr_mask", "%s to %s lacks 0x%x", names[from], names[to],
                 (unsigned)(t->required & ~rest));
    if ((rest & ~(t->required | t->optional)) != 0)
        vm_abort(call, "attr_mask", "%s to %s does not take 0x%x", names[from], names[to],
                 (unsigned)(rest & ~(t->required | t->optional)));
    if ((rest & IBV_QP_PORT) != 0 && attr->port_num != 1)
        vm_abort(call, "port_num", "%u", attr->port_num);
    if ((rest & IBV_QP_PKEY_INDEX) != 0 && attr->pkey_index != 0)
        vm_abort(call, "pkey_index", "%u", attr->pkey_index);
    if ((rest & IBV_QP_QKEY) != 0 && (attr->qkey & 0x80000000) != 0)
        vm_abort(call, "qkey", "0x%x, its top bit is privileged", attr->qkey);
    if ((rest & IBV_QP_SQ_PSN) != 0 && attr->sq_psn > 0xffffff)
        vm_abort(call, "sq_psn", "0x%x has more than 24 bits", attr->sq_psn);
}

/* Gives everything posted back to its owner without completions. */
void vm_qp_clear(struct vm_qp *qp)
{
    if (qp->sq_posted > qp->sq_retired)
        vm_send_retire(qp, qp->sq_posted - 1);
    if (qp->rq_posted > qp->rq_retired)
        vm_recv_retire(qp, qp->rq_posted - 1);
    qp->sq_done = qp->sq_posted;
    qp->rq_done = qp->rq_posted;
    qp->is_building = false;
    qp->n_staged = 0;
    if (!vm_knobs_of(vm_ctx_of("model", qp->ex.qp_base.context)->dev)->reset_keeps_cqes) {
        vm_cq_forget(qp->send_cq, qp);
        vm_cq_forget(qp->recv_cq, qp);
    } else {
        vm_cq_outdate(qp->send_cq, qp);
        vm_cq_outdate(qp->recv_cq, qp);
    }
    qp->generation++;
}

static void state_enter(struct vm_qp *qp, enum ibv_qp_state state)
{
    qp->ex.qp_base.state = state;
    if (state == IBV_QPS_RESET) {
        vm_qp_clear(qp);
    } else if (state == IBV_QPS_ERR) {
        (void)vm_sends_run(qp, UINT32_MAX);
        vm_recvs_flush(qp);
    }
}

int ibv_modify_qp(struct ibv_qp *ibv, struct ibv_qp_attr *attr, int mask)
{
    vm_lock();
    struct vm_qp *qp = vm_qp_of("ibv_modify_qp", ibv);
    modify_check(qp, attr, mask);
    int r = vm_fails(VERBS_MODEL_MODIFY_QP, vm_ctx_of("ibv_modify_qp", ibv->context)->dev);
    if (r == 0) {
        if ((mask & IBV_QP_QKEY) != 0)
            qp->qkey = attr->qkey;
        state_enter(qp, attr->qp_state);
    }
    vm_unlock();
    return r;
}

int ibv_query_qp(struct ibv_qp *ibv, struct ibv_qp_attr *attr, int mask,
                 struct ibv_qp_init_attr *init)
{
    vm_lock();
    struct vm_qp *qp = vm_qp_of("ibv_query_qp", ibv);
    *attr = (struct ibv_qp_attr){.qp_state = ibv->state,
                                 .cur_qp_state = ibv->state,
                                 .qkey = qp->qkey,
                                 .port_num = 1,
                                 .cap = qp->cap};
    *init = (struct ibv_qp_init_attr){.qp_context = ibv->qp_context,
                                      .send_cq = ibv->send_cq,
                                      .recv_cq = ibv->recv_cq,
                                      .cap = qp->cap,
                                      .qp_type = ibv->qp_type,
                                      .sq_sig_all = qp->sq_sig_all};
    vm_unlock();
    return 0;
}

int ibv_destroy_qp(struct ibv_qp *ibv)
{
    vm_lock();
    struct vm_qp *qp = vm_qp_of("ibv_destroy_qp", ibv);
    if (qp->n_unacked > 0)
        vm_abort("ibv_destroy_qp", "qp", "%u asynchronous events not acknowledged", qp->n_unacked);
    if (qp->is_building)
        vm_abort("ibv_destroy_qp", "qp", "between ibv_wr_start and ibv_wr_complete");
    vm_async_forget(vm_ctx_of("ibv_destroy_qp", ibv->context), ibv);
    vm_qp_clear(qp);
    qp->send_cq->n_qps--;
    qp->recv_cq->n_qps--;
    vm_pd_of("ibv_destroy_qp", ibv->pd)->n_qps--;
    vm_qps[VM_QPN_SLOT(ibv->qp_num)] = NULL;
    free(qp->sq);
    free(qp->rq);
    free(qp->inline_area);
    qp->sq = NULL;
    qp->rq = NULL;
    qp->inline_area = NULL;
    vm_object_kill(&qp->object);
    vm_unlock();
    return 0;
}

static void recv_post(struct vm_qp *qp, const struct ibv_recv_wr *wr)
{
    static const char call[] = "ibv_post_recv";
    if (wr->num_sge < 1 || (uint32_t)wr->num_sge > qp->cap.max_recv_sge)
        vm_abort(call, "num_sge", "%d of 1 to %u", wr->num_sge, qp->cap.max_recv_sge);
    if (qp->rq_posted - qp->rq_retired == qp->cap.max_recv_wr)
        vm_abort(call, "max_recv_wr", "the receive queue of %u overflows", qp->cap.max_recv_wr);
    vm_cq_room(call, "recv_cq", qp->recv_cq, 0);
    struct vm_recv *recv = &qp->rq[qp->rq_posted % qp->cap.max_recv_wr];
    recv->wr_id = wr->wr_id;
    recv->n_sge = (unsigned)wr->num_sge;
    recv->len = 0;
    for (unsigned i = 0; i < recv->n_sge; i++) {
        recv->sge[i] = vm_sge_take(call, qp, &wr->sg_list[i], true);
        recv->len += recv->sge[i].len;
    }
    if (recv->len < sizeof(struct ibv_grh))
        vm_abort(call, "sg_list", "%u bytes, the GRH alone takes 40", recv->len);
    vm_recv_guard(recv);
    qp->rq_posted++;
    qp->recv_cq->n_owed++;
    verbs_model_counts.recvs++;
}

int vm_op_post_recv(struct ibv_qp *ibv, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    vm_lock();
    struct vm_qp *qp = vm_qp_of("ibv_post_recv", ibv);
    if (ibv->state == IBV_QPS_RESET)
        vm_abort("ibv_post_recv", "qp", "in RESET");
    struct vm_device *dev = vm_ctx_of("ibv_post_recv", ibv->context)->dev;
    int r = 0;
    verbs_model_counts.recv_posts++;
    for (; wr != NULL; wr = wr->next) {
        r = vm_fails(VERBS_MODEL_POST_RECV, dev);
        if (r != 0) {
            *bad = wr;
            break;
        }
        recv_post(qp, wr);
    }
    if (ibv->state == IBV_QPS_ERR)
        vm_recvs_flush(qp);
    vm_unlock();
    return r;
}

void vm_recv_complete(struct vm_qp *qp, const struct ibv_wc *wc, bool solicited)
{
    const struct vm_recv *recv = &qp->rq[qp->rq_done % qp->cap.max_recv_wr];
    struct vm_cqe cqe = {.wc = *wc, .qp = qp, .generation = qp->generation, .index = qp->rq_done};
    cqe.wc.wr_id = recv->wr_id;
    cqe.wc.qp_num = qp->ex.qp_base.qp_num;
    qp->rq_done++;
    vm_cqe_add("receive completion", qp->recv_cq, &cqe, solicited);
}

void vm_recvs_flush(struct vm_qp *qp)
{
    while (qp->rq_done < qp->rq_posted) {
        const struct ibv_wc wc = {.status = IBV_WC_WR_FLUSH_ERR, .vendor_err = 0xf9};
        vm_recv_check(qp, &qp->rq[qp->rq_done % qp->cap.max_recv_wr]);
        verbs_model_counts.flushed++;
        vm_recv_complete(qp, &wc, false);
    }
}

void vm_recv_retire(struct vm_qp *qp, uint64_t index)
{
    for (; qp->rq_retired <= index; qp->rq_retired++) {
        vm_recv_release(&qp->rq[qp->rq_retired % qp->cap.max_recv_wr]);
        qp->recv_cq->n_owed--;
    }
}

void vm_qp_fail(struct vm_qp *qp, int type)
{
    state_enter(qp, IBV_QPS_ERR);
    if (type >= 0)
        vm_async_push(vm_ctx_of("model", qp->ex.qp_base.context),
                      (struct ibv_async_event){.element.qp = &qp->ex.qp_base,
                                               .event_type = (enum ibv_event_type)type});
}

unsigned verbs_model_qp_error(unsigned device, int type)
{
    unsigned n = 0;
    vm_lock();
    for (unsigned i = 0; i < VM_MAX_QPS; i++) {
        struct vm_qp *qp = vm_qps[i];
        if (qp == NULL)
            continue;
        struct vm_ctx *c = vm_ctx_of("verbs_model_qp_error", qp->ex.qp_base.context);
        if (c->dev != &vm_devices[device] || qp->ex.qp_base.state == IBV_QPS_RESET)
            continue;
        vm_qp_fail(qp, type);
        n++;
    }
    vm_unlock();
    return n;
}

bool verbs_model_qp(unsigned device, unsigned i, uint32_t *qpn, uint32_t *qkey)
{
    bool found = false;
    vm_lock();
    for (unsigned k = 0; k < VM_MAX_QPS && !found; k++) {
        const struct vm_qp *qp = vm_qps[k];
        if (qp == NULL || qp->ex.qp_base.context->device != &vm_devices[device].ibv || i-- > 0)
            continue;
        *qpn = qp->ex.qp_base.qp_num;
        *qkey = qp->qkey;
        found = true;
    }
    vm_unlock();
    return found;
}
