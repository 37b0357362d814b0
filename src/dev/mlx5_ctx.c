/* A pool with the rule who must go. Contexts are few and dear (two firmware commands), so one is
 * taken from its user only when it has rested, or 500 sessions would push each other out for ever;
 * who finds none lets the CPU seal and asks again later. */
#include "dev/mlx5_ctx.h"

void smt_mlx5_ctxs_init(struct smt_mlx5_ctxs *c, struct smt_mlx5_ctx *all, uint32_t n)
{
    *c = (struct smt_mlx5_ctxs){.all = all, .n = n};
    smt_list_init(&c->free);
    smt_list_init(&c->used);
    for (uint32_t i = 0; i < n; i++) {
        all[i] = (struct smt_mlx5_ctx){.index = i, .life = 1};
        smt_list_push_tail(&c->free, &all[i].link);
    }
}

static struct smt_mlx5_ctx *ctx_of(struct smt_list *l)
{
    return SMT_CONTAINER_OF(l, struct smt_mlx5_ctx, link);
}

/* Its user's name for it is void. */
static void part(struct smt_mlx5_ctx *x)
{
    x->life++;
    x->is_used = x->is_programmed = false;
    smt_list_remove(&x->link);
}

/* Free ones are taken in the order in which they were given back, so the first is the likeliest to
 * be idle. */
static struct smt_mlx5_ctx *free_find(struct smt_mlx5_ctxs *c, uint32_t done)
{
    struct smt_list *l = smt_list_first(&c->free);
    return l != NULL && smt_mlx5_ctx_is_idle(ctx_of(l), done) ? ctx_of(l) : NULL;
}

struct smt_mlx5_ctx *smt_mlx5_ctxs_take(struct smt_mlx5_ctxs *c, uint64_t now, uint64_t rest,
                                        uint32_t done, bool *evicted)
{
    *evicted = false;
    struct smt_mlx5_ctx *x = free_find(c, done);
    if (x == NULL) {
        struct smt_list *l = smt_list_first(&c->used);
        if (l == NULL || now - ctx_of(l)->used_at < rest || !smt_mlx5_ctx_is_idle(ctx_of(l), done))
            return NULL;
        x = ctx_of(l);
        part(x);
        *evicted = true;
    } else {
        smt_list_remove(&x->link);
    }
    x->is_used = true;
    x->is_programmed = false;
    x->used_at = now;
    smt_list_push_tail(&c->used, &x->link);
    return x;
}

uint64_t smt_mlx5_ctx_name(const struct smt_mlx5_ctx *x)
{
    return (uint64_t)x->life << 32 | (x->index + 1);
}

struct smt_mlx5_ctx *smt_mlx5_ctxs_find(const struct smt_mlx5_ctxs *c, uint64_t name)
{
    uint32_t index = (uint32_t)name - 1;
    if (index >= c->n)
        return NULL;
    struct smt_mlx5_ctx *x = &c->all[index];
    return x->is_used && x->life == (uint32_t)(name >> 32) ? x : NULL;
}

void smt_mlx5_ctxs_put(struct smt_mlx5_ctxs *c, struct smt_mlx5_ctx *x)
{
    assert(x->is_used);
    part(x);
    smt_list_push_tail(&c->free, &x->link);
}

void smt_mlx5_ctx_sent(struct smt_mlx5_ctxs *c, struct smt_mlx5_ctx *x, uint64_t record_no,
                       uint32_t posted, uint64_t now)
{
    x->is_programmed = true;
    x->next_record = record_no + 1;
    x->has_posted = true;
    x->last_posted = posted;
    x->used_at = now;
    smt_list_remove(&x->link);
    smt_list_push_tail(&c->used, &x->link);
}

void smt_mlx5_ctxs_lose(struct smt_mlx5_ctxs *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        struct smt_mlx5_ctx *x = &c->all[i];
        x->has_posted = false;
        if (x->is_used)
            smt_mlx5_ctxs_put(c, x);
    }
}
