/* Firmware objects of sealing: made, changed, destroyed. Each call is a command to the firmware and
 * takes as long as that takes; none belongs to the data path. */
#ifndef SMT_DEV_MLX5_DEVX_H
#define SMT_DEV_MLX5_DEVX_H

#include <infiniband/verbs.h>

#include "base/defs.h"

/* What the firmware said to the last command that failed. */
struct smt_mlx5_refusal {
    uint16_t command;
    uint8_t status;
    uint32_t syndrome;
    int error; /* errno */
};

/* *object is given: destroy. 0 or a negative errno, then *why tells. */
SMT_MUST_CHECK int smt_mlx5_td_create(struct ibv_context *ctx, uint32_t *td, void **object,
                                      struct smt_mlx5_refusal *why);
SMT_MUST_CHECK int smt_mlx5_tis_create(struct ibv_context *ctx, uint32_t td, uint32_t pdn,
                                       uint32_t *tisn, void **object,
                                       struct smt_mlx5_refusal *why);
SMT_MUST_CHECK int smt_mlx5_dek_create(struct ibv_context *ctx, uint32_t pdn, const uint8_t *key,
                                       uint32_t key_len, uint32_t *dek, void **object,
                                       struct smt_mlx5_refusal *why);

/* Another key of the same length in the same object, ready for use. */
SMT_MUST_CHECK int smt_mlx5_dek_change(struct ibv_context *ctx, void *object, uint32_t dek,
                                       uint32_t pdn, const uint8_t *key, uint32_t key_len,
                                       struct smt_mlx5_refusal *why);

/* NULL allowed. */
void smt_mlx5_object_destroy(void *object);

/* "command 0xa00: Remote I/O error, status 0x9, syndrome 0x1a2b3c4d" */
void smt_mlx5_refusal_text(const struct smt_mlx5_refusal *why, char *out, size_t out_len);

#endif
