/* Memory that devices can reach. A context's memory is registered with the device of each of its
 * endpoints, those that are open and those that come. Devices without SMT_DEV_CAP_REGISTER are not
 * asked. Under the context's lock: a device that registers takes these calls from any thread. */
#include "api/api.h"

#include <unistd.h>

struct smt_api_buf {
    struct smt_list node;
    void *addr;
    size_t len;
    size_t map_len; /* ours: mapped by smt_buf_alloc; 0 = the user's own memory */
};

static struct smt_api_buf *buf_find(struct smt_ctx *ctx, const void *addr)
{
    SMT_LIST_FOREACH_SAFE(it, tmp, &ctx->bufs) {
        struct smt_api_buf *b = SMT_CONTAINER_OF(it, struct smt_api_buf, node);
        if (b->addr == addr)
            return b;
    }
    return NULL;
}

static bool ep_registers(const struct smt_ep *ep)
{
    return (ep->dev->ops->caps & SMT_DEV_CAP_REGISTER) != 0;
}

/* `until`: the first endpoint that is left alone, or the list's head. */
static void unregister_from(struct smt_ctx *ctx, void *addr, const struct smt_list *until)
{
    for (struct smt_list *it = ctx->eps.next; it != until; it = it->next) {
        struct smt_ep *ep = SMT_CONTAINER_OF(it, struct smt_ep, node);
        if (ep_registers(ep) && ep->dev->ops->mem_unregister(ep->dev, addr) < 0)
            smt_log_emit(&ctx->log, SMT_LOGLVL_WARN, "memory at %p was not registered", addr);
    }
}

static int register_with_all(struct smt_ctx *ctx, void *addr, size_t len)
{
    for (struct smt_list *it = ctx->eps.next; it != &ctx->eps; it = it->next) {
        struct smt_ep *ep = SMT_CONTAINER_OF(it, struct smt_ep, node);
        int r = ep_registers(ep) ? ep->dev->ops->mem_register(ep->dev, addr, len) : 0;
        if (r < 0) {
            unregister_from(ctx, addr, it);
            return smt_fail(ctx, r, "the device refuses to register %zu bytes", len);
        }
    }
    return 0;
}

static int buf_add(struct smt_ctx *ctx, void *addr, size_t len, size_t map_len)
{
    struct smt_api_buf *b = smt_mem_alloc(sizeof(*b));
    if (b == NULL)
        return smt_fail_static(ctx, SMT_ENOMEM, "no memory");
    *b = (struct smt_api_buf){.addr = addr, .len = len, .map_len = map_len};
    pthread_mutex_lock(&ctx->lock);
    int r = buf_find(ctx, addr) != NULL
                ? smt_fail_static(ctx, SMT_EINVAL, "this memory is registered already")
                : register_with_all(ctx, addr, len);
    if (r == 0)
        smt_list_push_tail(&ctx->bufs, &b->node);
    pthread_mutex_unlock(&ctx->lock);
    if (r < 0)
        smt_mem_free(b);
    return r;
}

/* Takes a buffer of the wanted kind out. NULL: there is none at this address. */
static struct smt_api_buf *buf_take(struct smt_ctx *ctx, void *addr, bool mapped)
{
    pthread_mutex_lock(&ctx->lock);
    struct smt_api_buf *b = buf_find(ctx, addr);
    if (b != NULL && (b->map_len > 0) != mapped)
        b = NULL;
    if (b != NULL) {
        unregister_from(ctx, addr, &ctx->eps);
        smt_list_remove(&b->node);
    }
    pthread_mutex_unlock(&ctx->lock);
    return b;
}

void *smt_buf_alloc(struct smt_ctx *ctx, size_t len)
{
    if (smt_ctx_check(ctx) < 0)
        return NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (len == 0 || len > SIZE_MAX - page) {
        smt_fail_static(ctx, SMT_EINVAL, "a buffer needs a length");
        return NULL;
    }
    size_t map_len = (len + page - 1) / page * page;
    void *p = smt_mem_map(map_len);
    if (p == NULL) {
        smt_fail(ctx, SMT_ENOMEM, "no memory for a buffer of %zu bytes", len);
        return NULL;
    }
    if (buf_add(ctx, p, map_len, map_len) < 0) {
        smt_mem_unmap(p, map_len);
        return NULL;
    }
    return p;
}

void smt_buf_free(struct smt_ctx *ctx, void *buf)
{
    if (buf == NULL || smt_ctx_check(ctx) < 0)
        return;
    struct smt_api_buf *b = buf_take(ctx, buf, true);
    if (b == NULL)
        return;
    smt_mem_unmap(b->addr, b->map_len);
    smt_mem_free(b);
}

int smt_buf_register(struct smt_ctx *ctx, void *addr, size_t len)
{
    int r = smt_ctx_check(ctx);
    if (r < 0)
        return r;
    if (addr == NULL || len == 0)
        return smt_fail_static(ctx, SMT_EINVAL, "memory to register needs an address and a length");
    return buf_add(ctx, addr, len, 0);
}

int smt_buf_unregister(struct smt_ctx *ctx, void *addr)
{
    int r = smt_ctx_check(ctx);
    if (r < 0)
        return r;
    struct smt_api_buf *b = buf_take(ctx, addr, false);
    if (b == NULL)
        return smt_fail_static(ctx, SMT_EINVAL, "no memory was registered at this address");
    smt_mem_free(b);
    return 0;
}

int smt_buf_register_all(struct smt_ctx *ctx, struct smt_ep *ep)
{
    if (!ep_registers(ep))
        return 0;
    SMT_LIST_FOREACH_SAFE(it, tmp, &ctx->bufs) {
        struct smt_api_buf *b = SMT_CONTAINER_OF(it, struct smt_api_buf, node);
        int r = ep->dev->ops->mem_register(ep->dev, b->addr, b->len);
        if (r < 0)
            return smt_fail(ctx, r, "the device refuses to register %zu bytes", b->len);
    }
    return 0;
}

void smt_buf_forget_all(struct smt_ctx *ctx)
{
    for (struct smt_list *it; (it = smt_list_pop_head(&ctx->bufs)) != NULL;) {
        struct smt_api_buf *b = SMT_CONTAINER_OF(it, struct smt_api_buf, node);
        if (b->map_len > 0)
            smt_mem_unmap(b->addr, b->map_len);
        smt_mem_free(b);
    }
}
