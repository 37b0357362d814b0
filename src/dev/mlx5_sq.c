/* Raw packet queue pairs by mlx5dv, posted to by mlx5dv_wr_raw_wqe: the library writes index and
 * doorbell, everything else is our bytes. Its own overflow check writes into the request before, so
 * room is counted here and never tried. The ring's slots are made as large as our largest request
 * by asking for the matching inline header and pieces. */
#include "dev/mlx5_sq.h"

#include <errno.h>
#include <string.h>

enum { POLL = 16 };

static int qp_modify(struct smt_mlx5_sq *q, enum ibv_qp_state state, int mask)
{
    struct ibv_qp_attr attr = {.qp_state = state, .port_num = 1};
    int r = ibv_modify_qp(q->qp, &attr, mask | IBV_QP_STATE);
    return r == 0 ? 0 : -r;
}

static int qp_start(struct smt_mlx5_sq *q, int (*repost)(void *arg), void *arg)
{
    int r = qp_modify(q, IBV_QPS_INIT, IBV_QP_PORT);
    if (r == 0 && repost != NULL)
        r = repost(arg);
    if (r == 0)
        r = qp_modify(q, IBV_QPS_RTR, 0);
    if (r == 0)
        r = qp_modify(q, IBV_QPS_RTS, 0);
    return r;
}

int smt_mlx5_sq_init(struct smt_mlx5_sq *q, const struct smt_mlx5_sq_config *c)
{
    assert(c->depth % SMT_MLX5_SIGNAL_EVERY == 0 && c->depth >= 2 * SMT_MLX5_SIGNAL_EVERY);
    *q = (struct smt_mlx5_sq){.cq = c->send_cq, .depth = c->depth};
    struct ibv_qp_init_attr_ex attr = {
        .send_cq = c->send_cq,
        .recv_cq = c->recv_cq,
        .cap = {.max_send_wr = c->depth,
                .max_recv_wr = c->recv_depth,
                .max_send_sge = SMT_MLX5_MAX_SEGS,
                .max_recv_sge = c->recv_depth > 0},
        .qp_type = IBV_QPT_RAW_PACKET,
        .comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS |
                     (c->has_lso ? IBV_QP_INIT_ATTR_MAX_TSO_HEADER : 0),
        .pd = c->pd,
        .max_tso_header = c->has_lso ? SMT_MLX5_MAX_HDR : 0,
    };
    /* Without it only the pieces make a slot of the ring large: as many as a request has bytes. */
    if (!c->has_lso)
        attr.cap.max_send_sge = SMT_MLX5_MAX_WQE / SMT_MLX5_UNIT - 3;
    struct mlx5dv_qp_init_attr dv = {
        .comp_mask = MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS,
        .send_ops_flags = MLX5DV_QP_EX_WITH_RAW_WQE,
    };
    q->qp = mlx5dv_create_qp(c->ctx, &attr, &dv);
    if (q->qp == NULL)
        return errno != 0 ? -errno : -EIO;
    q->ex = ibv_qp_to_qp_ex(q->qp);
    q->raw = q->ex != NULL ? mlx5dv_qp_ex_from_ibv_qp_ex(q->ex) : NULL;
    int r = q->raw != NULL ? qp_start(q, NULL, NULL) : -EOPNOTSUPP;
    if (r < 0)
        smt_mlx5_sq_fini(q);
    return r;
}

void smt_mlx5_sq_fini(struct smt_mlx5_sq *q)
{
    if (q->qp != NULL)
        (void)ibv_destroy_qp(q->qp);
    q->qp = NULL;
}

uint32_t smt_mlx5_sq_put(struct smt_mlx5_sq *q, const uint8_t *wqe)
{
    assert(smt_mlx5_sq_room(q) > 0);
    if (!q->is_begun) {
        ibv_wr_start(q->ex);
        q->is_begun = true;
    }
    q->ex->wr_id = (uint64_t)q->life << 32 | q->posted;
    q->ex->wr_flags = 0;
    mlx5dv_wr_raw_wqe(q->raw, wqe);
    return q->posted++;
}

bool smt_mlx5_sq_ring(struct smt_mlx5_sq *q)
{
    if (!q->is_begun)
        return true;
    q->is_begun = false;
    if (ibv_wr_complete(q->ex) == 0)
        return true;
    q->is_suspect = true;
    return false;
}

int smt_mlx5_sq_reap(struct smt_mlx5_sq *q)
{
    struct ibv_wc wcs[POLL];
    int n;
    do {
        n = ibv_poll_cq(q->cq, POLL, wcs);
        if (n < 0)
            return -1;
        for (int i = 0; i < n; i++) {
            const struct ibv_wc *wc = &wcs[i];
            uint32_t done = (uint32_t)wc->wr_id + 1;
            if ((uint32_t)(wc->wr_id >> 32) != q->life || done - q->done > q->posted - q->done)
                continue; /* of a life before a reset */
            q->done = done;
            q->n_good += wc->status == IBV_WC_SUCCESS;
            if (SMT_UNLIKELY(wc->status != IBV_WC_SUCCESS)) {
                q->n_errors += !q->is_suspect;
                if (!q->is_suspect)
                    q->vendor_error = wc->vendor_err;
                q->is_suspect = true;
            }
        }
    } while (n == POLL);
    return 0;
}

int smt_mlx5_sq_reset(struct smt_mlx5_sq *q, int (*repost)(void *arg), void *arg)
{
    if (q->is_begun) {
        ibv_wr_abort(q->ex);
        q->is_begun = false;
    }
    int r = qp_modify(q, IBV_QPS_RESET, 0);
    /* Nothing completes any more: what is still in the queue says nothing new. */
    if (r == 0 && smt_mlx5_sq_reap(q) < 0)
        r = -EIO;
    q->life++;
    q->posted = q->done = 0;
    q->is_suspect = false;
    return r < 0 ? r : qp_start(q, repost, arg);
}
