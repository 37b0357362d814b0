/* Queue pairs: raw packet ones only, as libmlx5 sizes them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

struct mm_qp *mm_qps[MM_MAX_QPS];

enum { MAX_WQE = 1024, ETH_OVERHEAD = 48, INLINE_HEAD = 4 };

struct mm_qp *mm_qp_of(const char *call, struct ibv_qp *qp)
{
    struct mm_qp *q = MM_CONTAINER(qp, struct mm_qp, ex.qp_base);
    if (qp == NULL || q->kind != MM_QP)
        mm_die(call, "queue pair: none, or destroyed");
    return q;
}

static uint32_t align(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}

/* How libmlx5 makes a ring of it: work requests of one size, rounded up to a power of two. */
static bool sizes_fill(struct mm_qp *qp, const struct ibv_qp_cap *cap, uint32_t tso_header)
{
    uint32_t head = ETH_OVERHEAD + align(tso_header, 16);
    uint32_t with_sge = head + 16 * cap->max_send_sge;
    uint32_t with_inline = cap->max_inline_data != 0
                               ? ETH_OVERHEAD + align(INLINE_HEAD + cap->max_inline_data, 16)
                               : 0;
    qp->wqe_size = align(with_sge > with_inline ? with_sge : with_inline, 64);
    if (qp->wqe_size > MAX_WQE || cap->max_send_wr == 0 || cap->max_send_wr > 32768 ||
        cap->max_recv_sge > 4 || cap->max_recv_wr > 32768)
        return false;
    uint32_t bytes = 64;
    while (bytes < cap->max_send_wr * qp->wqe_size)
        bytes *= 2;
    qp->ring_bbs = bytes / 64;
    qp->max_post = bytes / qp->wqe_size;
    qp->cap = *cap;
    qp->cap.max_send_wr = qp->max_post;
    qp->cap.max_inline_data = qp->wqe_size - ETH_OVERHEAD - INLINE_HEAD;
    uint32_t recvs = 1;
    while (recvs < cap->max_recv_wr)
        recvs *= 2;
    qp->cap.max_recv_wr = cap->max_recv_wr == 0 ? 0 : recvs;
    return true;
}

static uint32_t number_new(void)
{
    for (;;) {
        uint32_t n = 2 + (uint32_t)mm_random() % 0xfffff0;
        bool taken = false;
        for (unsigned i = 0; i < MM_MAX_QPS; i++)
            taken |= mm_qps[i] != NULL && mm_qps[i]->sqn == n;
        if (!taken)
            return n;
    }
}

static bool attr_fits(const struct ibv_qp_init_attr_ex *attr, const struct mlx5dv_qp_init_attr *dv)
{
    const uint32_t known = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_MAX_TSO_HEADER |
                           IBV_QP_INIT_ATTR_SEND_OPS_FLAGS | IBV_QP_INIT_ATTR_CREATE_FLAGS;
    if (attr->comp_mask & ~known || !(attr->comp_mask & IBV_QP_INIT_ATTR_PD))
        return mm_complain("qp_init_attr.comp_mask", "0x%x", attr->comp_mask);
    if (attr->comp_mask & IBV_QP_INIT_ATTR_CREATE_FLAGS && attr->create_flags != 0)
        return mm_complain("qp_init_attr.create_flags", "0x%x", attr->create_flags);
    if (dv != NULL && dv->comp_mask & ~(uint64_t)MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS)
        return mm_complain("mlx5dv_qp_init_attr.comp_mask", "0x%llx",
                           (unsigned long long)dv->comp_mask);
    if (attr->srq != NULL)
        return mm_complain("qp_init_attr.srq", "not with raw packets");
    return true;
}

static struct mm_qp *qp_new(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr,
                            const struct mlx5dv_qp_init_attr *dv)
{
    struct mm_ctx *c = mm_ctx_of("mlx5dv_create_qp", ctx);
    uint32_t header = attr->comp_mask & IBV_QP_INIT_ATTR_MAX_TSO_HEADER ? attr->max_tso_header : 0;
    uint64_t dv_ops = dv != NULL && dv->comp_mask != 0 ? dv->send_ops_flags : 0;
    unsigned place = 0;
    while (place < MM_MAX_QPS && mm_qps[place] != NULL)
        place++;
    errno = 0;
    if (attr->qp_type != IBV_QPT_RAW_PACKET)
        errno = EOPNOTSUPP;
    else if (c->dev->is_gone)
        errno = EIO;
    else if (mm_config()->raw_qp_error != 0)
        errno = (int)mm_config()->raw_qp_error;
    else if (!mm_config()->uar || place == MM_MAX_QPS)
        errno = ENOMEM;
    else if (header != 0 && mm_config()->log_max_lso == 0)
        errno = EINVAL;
    else if (dv_ops & ~(uint64_t)MLX5DV_QP_EX_WITH_RAW_WQE || (dv_ops && !mm_config()->raw_wqe))
        errno = EOPNOTSUPP;
    else if (!attr_fits(attr, dv))
        errno = EINVAL;
    if (errno != 0)
        return NULL;
    struct mm_qp *qp = calloc(1, sizeof(*qp));
    if (qp == NULL)
        mm_die("model", "out of memory");
    if (!sizes_fill(qp, &attr->cap, header)) {
        free(qp);
        errno = EINVAL;
        return NULL;
    }
    qp->kind = MM_QP;
    qp->life = 1;
    qp->dev = c->dev;
    qp->pd = mm_pd_of("mlx5dv_create_qp", attr->pd);
    qp->send_cq = mm_cq_of("mlx5dv_create_qp", attr->send_cq);
    qp->recv_cq = mm_cq_of("mlx5dv_create_qp", attr->recv_cq);
    qp->max_tso_header = (uint16_t)header;
    qp->sig_all = attr->sq_sig_all;
    qp->send_ops = attr->comp_mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS ? attr->send_ops_flags : 0;
    qp->has_raw_wqe = dv_ops != 0;
    qp->sqn = number_new();
    qp->tisn = 0x800000 | (uint32_t)(mm_random() & 0x7fffff);
    qp->posted = calloc(qp->max_post, sizeof(*qp->posted));
    qp->recvs = calloc(qp->cap.max_recv_wr + 1, sizeof(*qp->recvs));
    if (qp->posted == NULL || qp->recvs == NULL)
        mm_die("model", "out of memory");
    qp->ex.qp_base = (struct ibv_qp){.context = ctx,
                                     .qp_context = attr->qp_context,
                                     .pd = attr->pd,
                                     .send_cq = attr->send_cq,
                                     .recv_cq = attr->recv_cq,
                                     .qp_num = qp->sqn,
                                     .state = IBV_QPS_RESET,
                                     .qp_type = IBV_QPT_RAW_PACKET};
    mm_post_ops(qp);
    qp->pd->n_users++;
    qp->send_cq->n_users++;
    qp->recv_cq->n_users++;
    mm_qps[place] = qp;
    attr->cap = qp->cap;
    return qp;
}

struct ibv_qp *mlx5dv_create_qp(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr,
                                struct mlx5dv_qp_init_attr *dv)
{
    mm_enter();
    struct mm_qp *qp = qp_new(ctx, attr, dv);
    mm_leave();
    return qp != NULL ? &qp->ex.qp_base : NULL;
}

struct ibv_qp *ibv_create_qp(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
    struct ibv_qp_init_attr_ex ex = {.qp_context = attr->qp_context,
                                     .send_cq = attr->send_cq,
                                     .recv_cq = attr->recv_cq,
                                     .srq = attr->srq,
                                     .cap = attr->cap,
                                     .qp_type = attr->qp_type,
                                     .sq_sig_all = attr->sq_sig_all,
                                     .comp_mask = IBV_QP_INIT_ATTR_PD,
                                     .pd = pd};
    struct ibv_qp *qp = mlx5dv_create_qp(pd->context, &ex, NULL);
    if (qp != NULL)
        attr->cap = ex.cap;
    return qp;
}

static bool arrow_exists(enum ibv_qp_state from, enum ibv_qp_state to)
{
    if (to == IBV_QPS_RESET || to == IBV_QPS_ERR)
        return true;
    return (from == IBV_QPS_RESET && to == IBV_QPS_INIT) ||
           (from == IBV_QPS_INIT && to == IBV_QPS_RTR) ||
           (from == IBV_QPS_RTR && to == IBV_QPS_RTS);
}

static void qp_reset(struct mm_qp *qp)
{
    qp->life++;
    qp->used_bbs = qp->used_wrs = qp->quiet_bbs = qp->quiet_wrs = 0;
    qp->n_posted = qp->n_batch = qp->n_recvs = 0;
    qp->producer = 0;
    qp->sq_failed = qp->in_batch = false;
    mm_cq_clean(qp->send_cq, qp);
    mm_cq_clean(qp->recv_cq, qp);
}

int ibv_modify_qp(struct ibv_qp *ibv, struct ibv_qp_attr *attr, int mask)
{
    mm_enter();
    struct mm_qp *qp = mm_qp_of("ibv_modify_qp", ibv);
    int r = 0;
    if (qp->dev->is_gone && attr->qp_state != IBV_QPS_ERR) {
        r = EIO;
    } else if (mask & ~(IBV_QP_STATE | IBV_QP_PORT) || !(mask & IBV_QP_STATE)) {
        mm_complain("ibv_modify_qp.attr_mask", "0x%x: raw packets have a state and a port",
                    (unsigned)mask);
        r = EINVAL;
    } else if (!!(mask & IBV_QP_PORT) != (attr->qp_state == IBV_QPS_INIT) ||
               (mask & IBV_QP_PORT && attr->port_num != 1)) {
        mm_complain("ibv_modify_qp.port_num", "given exactly with INIT, and 1");
        r = EINVAL;
    } else if (!arrow_exists(qp->state, attr->qp_state)) {
        mm_complain("ibv_modify_qp.qp_state", "%d to %d", qp->state, attr->qp_state);
        r = EINVAL;
    } else {
        qp->state = ibv->state = attr->qp_state;
        if (qp->state == IBV_QPS_RESET)
            qp_reset(qp);
        if (qp->state == IBV_QPS_ERR) {
            mm_sq_flush(qp);
            mm_rq_flush(qp);
        }
    }
    mm_leave();
    return r;
}

int ibv_query_qp(struct ibv_qp *ibv, struct ibv_qp_attr *attr, int mask,
                 struct ibv_qp_init_attr *init)
{
    mm_enter();
    struct mm_qp *qp = mm_qp_of("ibv_query_qp", ibv);
    (void)mask;
    enum ibv_qp_state state = qp->sq_failed && qp->state == IBV_QPS_RTS ? IBV_QPS_SQE : qp->state;
    *attr = (struct ibv_qp_attr){.qp_state = state, .cur_qp_state = state, .port_num = 1};
    attr->cap = qp->cap;
    *init = (struct ibv_qp_init_attr){.qp_context = ibv->qp_context,
                                      .send_cq = ibv->send_cq,
                                      .recv_cq = ibv->recv_cq,
                                      .cap = qp->cap,
                                      .qp_type = ibv->qp_type,
                                      .sq_sig_all = qp->sig_all};
    mm_leave();
    return 0;
}

int ibv_destroy_qp(struct ibv_qp *ibv)
{
    mm_enter();
    struct mm_qp *qp = mm_qp_of("ibv_destroy_qp", ibv);
    int r = 0;
    if (qp->n_flows > 0) {
        mm_complain("queue pair", "destroyed with %u flow rules to it", qp->n_flows);
        r = EBUSY;
    } else {
        if (qp->n_unacked > 0)
            mm_complain("queue pair", "%u asynchronous events not acknowledged", qp->n_unacked);
        mm_async_forget(qp);
        mm_cq_clean(qp->send_cq, qp);
        mm_cq_clean(qp->recv_cq, qp);
        qp->send_cq->n_users--;
        qp->recv_cq->n_users--;
        qp->pd->n_users--;
        free(qp->posted);
        free(qp->recvs);
        for (unsigned i = 0; i < MM_MAX_QPS; i++) {
            if (mm_qps[i] == qp)
                mm_qps[i] = NULL;
        }
        qp->kind = MM_DEAD;
        mm_bury(qp);
    }
    mm_leave();
    return r;
}

struct ibv_qp_ex *ibv_qp_to_qp_ex(struct ibv_qp *ibv)
{
    struct mm_qp *qp = mm_qp_of("ibv_qp_to_qp_ex", ibv);
    return qp->send_ops != 0 || qp->has_raw_wqe ? &qp->ex : NULL;
}

struct mlx5dv_qp_ex *mlx5dv_qp_ex_from_ibv_qp_ex(struct ibv_qp_ex *ex)
{
    return &mm_qp_of("mlx5dv_qp_ex_from_ibv_qp_ex", &ex->qp_base)->dv;
}

int mlx5dv_init_obj(struct mlx5dv_obj *obj, uint64_t type)
{
    mm_enter();
    int r = 0;
    if (type & ~(uint64_t)(MLX5DV_OBJ_QP | MLX5DV_OBJ_PD | MLX5DV_OBJ_CQ)) {
        mm_complain("mlx5dv_init_obj.obj_type", "0x%llx", (unsigned long long)type);
        r = EOPNOTSUPP;
    }
    if (r == 0 && type & MLX5DV_OBJ_PD) {
        obj->pd.out->pdn = mm_pd_of("mlx5dv_init_obj", obj->pd.in)->pdn;
        obj->pd.out->comp_mask = 0;
    }
    if (r == 0 && type & MLX5DV_OBJ_CQ) {
        struct mm_cq *cq = mm_cq_of("mlx5dv_init_obj", obj->cq.in);
        *obj->cq.out = (struct mlx5dv_cq){.cqe_cnt = cq->size, .cqe_size = 64, .cqn = cq->cqn};
    }
    if (r == 0 && type & MLX5DV_OBJ_QP) {
        struct mm_qp *qp = mm_qp_of("mlx5dv_init_obj", obj->qp.in);
        uint64_t asked = obj->qp.out->comp_mask;
        /* No ring in memory: whoever wants to write it himself finds no buffer. */
        *obj->qp.out = (struct mlx5dv_qp){.sq = {.wqe_cnt = qp->ring_bbs, .stride = 64}};
        if (asked & MLX5DV_QP_MASK_RAW_QP_HANDLES) {
            obj->qp.out->comp_mask = MLX5DV_QP_MASK_RAW_QP_HANDLES;
            obj->qp.out->sqn = qp->sqn;
            obj->qp.out->tisn = qp->tisn;
            obj->qp.out->rqn = qp->sqn ^ 1;
            obj->qp.out->tirn = qp->sqn ^ 2;
        }
    }
    mm_leave();
    return r;
}
