/* The sealing contexts of an NIC: which are in use, which goes when there are too few, and what the
 * NIC's parser expects next of each. Pure; the objects behind a context are mlx5_seal.c's. */
#ifndef SMT_DEV_MLX5_CTX_H
#define SMT_DEV_MLX5_CTX_H

#include "base/list.h"

struct smt_mlx5_ctx {
    struct smt_list link;   /* free ones, or those in use by when they were used last */
    uint32_t index, life;   /* life: counts its users; part of its name */
    bool is_used;
    bool is_programmed;     /* the NIC's parser stands at next_record */
    bool has_posted;
    uint32_t last_posted;   /* number of its last request in the send queue */
    uint64_t next_record;   /* all 64 bits are compared */
    uint64_t used_at;
    uint8_t salt[4];
    /* What the NIC has for it; kept when its user goes. */
    uint32_t tisn, dek, dek_key_len; /* dek_key_len 0: no key object */
    void *tis_object, *dek_object;
};

struct smt_mlx5_ctxs {
    struct smt_mlx5_ctx *all; /* lent */
    uint32_t n;
    struct smt_list free, used; /* used: the one that has rested longest first */
};

void smt_mlx5_ctxs_init(struct smt_mlx5_ctxs *c, struct smt_mlx5_ctx *all, uint32_t n);

/* A context for a new user: a free one, or the one that has rested longest if that was for `rest`
 * at least and its requests before `done` are all it has posted. NULL: none now. *evicted says that
 * it was taken from somebody, whose name for it is void. */
struct smt_mlx5_ctx *smt_mlx5_ctxs_take(struct smt_mlx5_ctxs *c, uint64_t now, uint64_t rest,
                                        uint32_t done, bool *evicted);

/* The name its user knows it by; never 0. And the context of a name, NULL when void. */
uint64_t smt_mlx5_ctx_name(const struct smt_mlx5_ctx *x);
struct smt_mlx5_ctx *smt_mlx5_ctxs_find(const struct smt_mlx5_ctxs *c, uint64_t name);

void smt_mlx5_ctxs_put(struct smt_mlx5_ctxs *c, struct smt_mlx5_ctx *x);

/* Have all its requests completed, when those before `done` have? */
static inline bool smt_mlx5_ctx_is_idle(const struct smt_mlx5_ctx *x, uint32_t done)
{
    return !x->has_posted || (int32_t)(x->last_posted - done) < 0;
}

/* Would the NIC seal this record as it stands, without being told anything? */
static inline bool smt_mlx5_ctx_expects(const struct smt_mlx5_ctx *x, uint64_t record_no)
{
    return x->is_programmed && x->next_record == record_no;
}

/* A record was posted by request number `posted`. */
void smt_mlx5_ctx_sent(struct smt_mlx5_ctxs *c, struct smt_mlx5_ctx *x, uint64_t record_no,
                       uint32_t posted, uint64_t now);

/* The NIC has forgotten its state: every name is void. */
void smt_mlx5_ctxs_lose(struct smt_mlx5_ctxs *c);

#endif
