/* The commands of mlx5_cmd.c on their way through mlx5dv_devx. Keys are wiped from command buffers
 * as soon as the firmware has them. */
#include "dev/mlx5_devx.h"

#include <errno.h>
#include <infiniband/mlx5dv.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "dev/mlx5_cmd.h"

static int refused(const uint8_t *in, const uint8_t *out, int error, struct smt_mlx5_refusal *why)
{
    *why = (struct smt_mlx5_refusal){
        .command = smt_get_be16(in),
        .status = smt_mlx5_out_status(out),
        .syndrome = smt_mlx5_out_syndrome(out),
        .error = error != 0 ? error : EIO,
    };
    return -why->error;
}

static int object_create(struct ibv_context *ctx, const uint8_t *in, size_t in_len,
                         uint8_t out[SMT_MLX5_OUT_LEN], void **object,
                         struct smt_mlx5_refusal *why)
{
    memset(out, 0, SMT_MLX5_OUT_LEN);
    *object = mlx5dv_devx_obj_create(ctx, in, in_len, out, SMT_MLX5_OUT_LEN);
    return *object == NULL ? refused(in, out, errno, why) : 0;
}

int smt_mlx5_td_create(struct ibv_context *ctx, uint32_t *td, void **object,
                       struct smt_mlx5_refusal *why)
{
    uint8_t in[SMT_MLX5_TD_IN_LEN], out[SMT_MLX5_OUT_LEN];
    smt_mlx5_cmd_alloc_td(in);
    int r = object_create(ctx, in, sizeof(in), out, object, why);
    *td = smt_mlx5_out_td(out);
    return r;
}

int smt_mlx5_tis_create(struct ibv_context *ctx, uint32_t td, uint32_t pdn, uint32_t *tisn,
                        void **object, struct smt_mlx5_refusal *why)
{
    uint8_t in[SMT_MLX5_TIS_IN_LEN], out[SMT_MLX5_OUT_LEN];
    smt_mlx5_cmd_create_tis(in, td, pdn);
    int r = object_create(ctx, in, sizeof(in), out, object, why);
    *tisn = smt_mlx5_out_tisn(out);
    return r;
}

int smt_mlx5_dek_create(struct ibv_context *ctx, uint32_t pdn, const uint8_t *key,
                        uint32_t key_len, uint32_t *dek, void **object,
                        struct smt_mlx5_refusal *why)
{
    uint8_t in[SMT_MLX5_DEK_IN_LEN], out[SMT_MLX5_OUT_LEN];
    smt_mlx5_cmd_create_dek(in, pdn, key, key_len);
    int r = object_create(ctx, in, sizeof(in), out, object, why);
    smt_wipe(in, sizeof(in));
    *dek = smt_mlx5_out_dek(out) & 0xffffff;
    return r;
}

int smt_mlx5_dek_change(struct ibv_context *ctx, void *object, uint32_t dek, uint32_t pdn,
                        const uint8_t *key, uint32_t key_len, struct smt_mlx5_refusal *why)
{
    uint8_t in[SMT_MLX5_DEK_IN_LEN], out[SMT_MLX5_OUT_LEN] = {0};
    smt_mlx5_cmd_modify_dek(in, dek, pdn, key, key_len);
    int r = mlx5dv_devx_obj_modify(object, in, sizeof(in), out, sizeof(out));
    smt_wipe(in, sizeof(in));
    if (r != 0)
        return refused(in, out, r, why);
    uint8_t sync[SMT_MLX5_SYNC_IN_LEN];
    memset(out, 0, sizeof(out));
    smt_mlx5_cmd_sync_crypto(sync);
    r = mlx5dv_devx_general_cmd(ctx, sync, sizeof(sync), out, sizeof(out));
    return r != 0 ? refused(sync, out, r, why) : 0;
}

void smt_mlx5_object_destroy(void *object)
{
    if (object != NULL)
        (void)mlx5dv_devx_obj_destroy(object);
}

void smt_mlx5_refusal_text(const struct smt_mlx5_refusal *why, char *out, size_t out_len)
{
    snprintf(out, out_len, "command 0x%x: %s, status 0x%x, syndrome 0x%08x", why->command,
             strerror(why->error), why->status, why->syndrome);
}
