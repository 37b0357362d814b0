/* A send queue of raw packets: requests go in as bytes, are counted, and come back as completions.
 *
 * Requests count up for ever; an index is cut by the queue's depth. One request in SIGNAL_EVERY
 * asks for a completion, which tells of all before it; the depth is a multiple of that, so the
 * request that fills the queue is always one of them. */
#ifndef SMT_DEV_MLX5_SQ_H
#define SMT_DEV_MLX5_SQ_H

#include <infiniband/mlx5dv.h>

#include "base/defs.h"
#include "dev/mlx5_wqe.h"

enum { SMT_MLX5_SIGNAL_EVERY = 16 };

struct smt_mlx5_sq_config {
    struct ibv_context *ctx;
    struct ibv_pd *pd;
    struct ibv_cq *send_cq, *recv_cq;
    uint32_t depth, recv_depth; /* powers of two, at least 2 * SIGNAL_EVERY; recv_depth 0: none */
    bool has_lso;
};

struct smt_mlx5_sq {
    struct ibv_qp *qp; /* NULL: not there */
    struct ibv_qp_ex *ex;
    struct mlx5dv_qp_ex *raw;
    struct ibv_cq *cq; /* lent */
    uint32_t depth;
    uint32_t posted, done;
    uint32_t life;      /* counts resets: completions of a former life differ in it */
    bool is_suspect;    /* an error was seen: reset it */
    bool is_begun;      /* requests wait for the doorbell */
    uint64_t n_errors, n_good;  /* completions */
    uint32_t vendor_error; /* of the last one */
};

/* In RTS, nothing posted. 0 or a negative errno. */
SMT_MUST_CHECK int smt_mlx5_sq_init(struct smt_mlx5_sq *q, const struct smt_mlx5_sq_config *config);
void smt_mlx5_sq_fini(struct smt_mlx5_sq *q);

/* Room for so many more requests. */
static inline uint32_t smt_mlx5_sq_room(const struct smt_mlx5_sq *q)
{
    return q->is_suspect ? 0 : q->depth - (q->posted - q->done);
}

/* The next request, whose control segment ctrl_fill has filled; there must be room. It leaves with
 * ring. Returns its number. */
uint32_t smt_mlx5_sq_put(struct smt_mlx5_sq *q, const uint8_t *wqe);

/* What the control segment of the next request has to say; tisn and fence are the caller's. */
static inline struct smt_mlx5_ctrl smt_mlx5_sq_ctrl(const struct smt_mlx5_sq *q, uint32_t tisn)
{
    return (struct smt_mlx5_ctrl){
        .sqn = q->qp->qp_num,
        .tisn = tisn,
        .is_signalled = (q->posted + 1) % SMT_MLX5_SIGNAL_EVERY == 0,
    };
}

/* One doorbell for all that was put. False: lost, and the queue is suspect. */
bool smt_mlx5_sq_ring(struct smt_mlx5_sq *q);

/* Takes completions: q->done moves on. -1: the completion queue itself is broken. */
int smt_mlx5_sq_reap(struct smt_mlx5_sq *q);

/* Through RESET to RTS again; what was posted is gone (done catches up). Between the two `reposted`
 * may post receive buffers; NULL = none. 0 or a negative errno. */
SMT_MUST_CHECK int smt_mlx5_sq_reset(struct smt_mlx5_sq *q, int (*repost)(void *arg), void *arg);

#endif
