/* Completion queues that fail at given times, on a kernel that does not do so at will: linked into
 * a program, this takes the place of libibverbs' call that opens devices, and every VM_CQ_ERROR_MS
 * milliseconds whichever queue is polled next cannot be read. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <infiniband/verbs.h>

static int (*original_poll)(struct ibv_cq *, int, struct ibv_wc *);
static uint64_t fails_at;

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t next_failure(void)
{
    const char *ms = getenv("VM_CQ_ERROR_MS");
    return ms != NULL ? now_ms() + (uint64_t)atol(ms) : UINT64_MAX;
}

static int poll_sometimes(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
    if (now_ms() < fails_at)
        return original_poll(cq, n, wc);
    fails_at = next_failure();
    return -1;
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
    struct ibv_context *(*open_device)(struct ibv_device *) =
        (struct ibv_context * (*)(struct ibv_device *)) dlsym(RTLD_NEXT, "ibv_open_device");
    if (open_device == NULL)
        abort();
    struct ibv_context *ctx = open_device(device);
    if (ctx == NULL)
        return NULL;
    original_poll = ctx->ops.poll_cq;
    ctx->ops.poll_cq = poll_sometimes;
    fails_at = next_failure();
    return ctx;
}
