/* Protection domains, memory regions, and what posted work may do with their bytes. A send's bytes
 * are summed when it is posted and again when it is done and retired; a receive's are filled with
 * poison, which must be untouched when data arrive. Under ASan a posted receive cannot even be
 * read. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/asan.h"
#include "model.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

enum {
    KNOWN_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                   IBV_ACCESS_HUGETLB | IBV_ACCESS_RELAXED_ORDERING,
};

struct vm_mr *vm_mrs[VM_MAX_MRS];
static uint32_t key_salt = 0x51;

struct vm_pd *vm_pd_of(const char *call, struct ibv_pd *ibv)
{
    if (ibv == NULL)
        vm_abort(call, "pd", "NULL");
    struct vm_pd *pd = SMT_CONTAINER_OF(ibv, struct vm_pd, ibv);
    vm_expect(call, "pd", &pd->object, VM_PD);
    return pd;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
    vm_lock();
    struct vm_ctx *c = vm_ctx_of("ibv_alloc_pd", ctx);
    struct ibv_pd *out = NULL;
    if (vm_fails(VERBS_MODEL_ALLOC_PD, c->dev) == 0) {
        struct vm_pd *pd = vm_object_new(sizeof(*pd), offsetof(struct vm_pd, object), VM_PD);
        pd->ibv.context = ctx;
        c->n_pds++;
        out = &pd->ibv;
    }
    vm_unlock();
    return out;
}

int ibv_dealloc_pd(struct ibv_pd *ibv)
{
    vm_lock();
    struct vm_pd *pd = vm_pd_of("ibv_dealloc_pd", ibv);
    if (pd->n_qps > 0)
        vm_abort("ibv_dealloc_pd", "pd", "has %u queue pairs", pd->n_qps);
    if (pd->n_mrs > 0)
        vm_abort("ibv_dealloc_pd", "pd", "has %u memory regions", pd->n_mrs);
    if (pd->n_ahs > 0)
        vm_abort("ibv_dealloc_pd", "pd", "has %u address handles", pd->n_ahs);
    vm_ctx_of("ibv_dealloc_pd", ibv->context)->n_pds--;
    vm_object_kill(&pd->object);
    vm_unlock();
    return 0;
}

static bool is_mapped(const void *addr, size_t len)
{
    unsigned char vec[512];
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t end = (uintptr_t)addr + len;
    for (uintptr_t at = (uintptr_t)addr & ~(page - 1); at < end;) {
        size_t n = end - at < page * sizeof(vec) ? end - at : page * sizeof(vec);
        if (mincore((void *)at, n, vec) < 0)
            return false;
        at += page * sizeof(vec);
    }
    return true;
}

static size_t memory_held(void)
{
    size_t sum = 0;
    for (unsigned i = 0; i < VM_MAX_MRS; i++)
        sum += vm_mrs[i] != NULL ? vm_mrs[i]->ibv.length : 0;
    return sum;
}

static struct ibv_mr *mr_new(struct ibv_pd *ibv, void *addr, size_t len, int access)
{
    static const char call[] = "ibv_reg_mr";
    struct vm_pd *pd = vm_pd_of(call, ibv);
    struct vm_device *dev = vm_ctx_of(call, ibv->context)->dev;
    if (len == 0)
        vm_abort(call, "length", "0");
    if ((access & ~KNOWN_ACCESS) != 0)
        vm_abort(call, "access", "0x%x", (unsigned)access);
    if ((access & IBV_ACCESS_REMOTE_WRITE) != 0 && (access & IBV_ACCESS_LOCAL_WRITE) == 0)
        vm_abort(call, "access", "REMOTE_WRITE without LOCAL_WRITE");
    if (!is_mapped(addr, len))
        vm_abort(call, "addr", "%zu bytes are not all mapped", len);
    if (vm_fails(VERBS_MODEL_REG_MR, dev) != 0)
        return NULL;
    unsigned slot = 0;
    while (slot < VM_MAX_MRS && vm_mrs[slot] != NULL)
        slot++;
    bool is_over = verbs_model.memlock > 0 && memory_held() + len > verbs_model.memlock;
    if (slot == VM_MAX_MRS || is_over) {
        errno = ENOMEM;
        return NULL;
    }
    struct vm_mr *mr = vm_object_new(sizeof(*mr), offsetof(struct vm_mr, object), VM_MR);
    key_salt = key_salt * 1664525 + 1013904223;
    uint32_t key = (key_salt & ~(uint32_t)(VM_MAX_MRS - 1)) | slot;
    mr->ibv = (struct ibv_mr){.context = ibv->context,
                              .pd = ibv,
                              .addr = addr,
                              .length = len,
                              .handle = slot,
                              .lkey = key,
                              .rkey = ~key};
    mr->access = access;
    vm_mrs[slot] = mr;
    pd->n_mrs++;
    verbs_model_counts.mrs++;
    verbs_model_counts.mr_bytes += len;
    return &mr->ibv;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
    vm_lock();
    struct ibv_mr *mr = mr_new(pd, addr, length, access);
    vm_unlock();
    return mr;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
                                unsigned int access)
{
    if (iova != (uintptr_t)addr)
        vm_abort("ibv_reg_mr_iova2", "iova", "another address than addr");
    return ibv_reg_mr(pd, addr, length, (int)access);
}

struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
                               int access)
{
    return ibv_reg_mr_iova2(pd, addr, length, iova, (unsigned)access);
}

int ibv_dereg_mr(struct ibv_mr *ibv)
{
    vm_lock();
    if (ibv == NULL)
        vm_abort("ibv_dereg_mr", "mr", "NULL");
    struct vm_mr *mr = SMT_CONTAINER_OF(ibv, struct vm_mr, ibv);
    vm_expect("ibv_dereg_mr", "mr", &mr->object, VM_MR);
    if (mr->n_used > 0)
        vm_abort("ibv_dereg_mr", "mr", "%u posted SGEs lie in it", mr->n_used);
    if (!is_mapped(ibv->addr, ibv->length))
        vm_abort("ibv_dereg_mr", "mr", "its memory was unmapped before");
    vm_mrs[ibv->lkey % VM_MAX_MRS] = NULL;
    vm_pd_of("ibv_dereg_mr", ibv->pd)->n_mrs--;
    vm_object_kill(&mr->object);
    vm_unlock();
    return 0;
}

struct vm_sge vm_sge_take(const char *call, struct vm_qp *qp, const struct ibv_sge *sge,
                          bool is_written)
{
    struct vm_mr *mr = vm_mrs[sge->lkey % VM_MAX_MRS];
    if (mr == NULL || mr->ibv.lkey != sge->lkey)
        vm_abort(call, "lkey", "0x%x is of no region", sge->lkey);
    if (mr->ibv.pd != qp->ex.qp_base.pd)
        vm_abort(call, "lkey", "a region of another protection domain");
    uint64_t start = (uintptr_t)mr->ibv.addr;
    if (sge->addr < start || sge->addr - start > mr->ibv.length ||
        sge->length > mr->ibv.length - (sge->addr - start))
        vm_abort(call, "sge", "%u bytes at offset %lld of a region of %zu", sge->length,
                 (long long)(sge->addr - start), mr->ibv.length);
    if (is_written && (mr->access & IBV_ACCESS_LOCAL_WRITE) == 0)
        vm_abort(call, "lkey", "a region without IBV_ACCESS_LOCAL_WRITE");
    mr->n_used++;
    return (struct vm_sge){(uint8_t *)(uintptr_t)sge->addr, sge->length, mr};
}

void vm_sge_give(struct vm_sge *sge)
{
    sge->mr->n_used--;
}

/* Eight bytes at a time; any change of one byte changes it. */
uint64_t vm_sge_sum(const struct vm_sge *sge, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n && !verbs_model.is_lax; i++) {
        const uint8_t *p = sge[i].addr;
        uint32_t len = sge[i].len;
        for (; len >= 8; len -= 8, p += 8) {
            uint64_t v;
            memcpy(&v, p, sizeof(v));
            sum = (sum ^ v) * 0x9e3779b97f4a7c15 + 1;
        }
        for (; len > 0; len--, p++)
            sum = (sum ^ *p) * 0x9e3779b97f4a7c15 + 1;
    }
    return sum;
}

void vm_recv_guard(struct vm_recv *recv)
{
    recv->is_filled = !verbs_model.is_lax;
    for (unsigned i = 0; i < recv->n_sge && recv->is_filled; i++) {
        memset(recv->sge[i].addr, VERBS_MODEL_POISON, recv->sge[i].len);
        SMT_POISON(recv->sge[i].addr, recv->sge[i].len);
    }
}

/* How many bytes from the first on are poison. */
static uint32_t poison_len(const uint8_t *p, uint32_t len)
{
    uint32_t n = 0;
    if (len > 0 && p[0] == VERBS_MODEL_POISON && memcmp(p, p + 1, len - 1) == 0)
        return len;
    while (n < len && p[n] == VERBS_MODEL_POISON)
        n++;
    return n;
}

void vm_recv_check(const struct vm_qp *qp, const struct vm_recv *recv)
{
    for (unsigned i = 0; i < recv->n_sge && recv->is_filled; i++) {
        const struct vm_sge *s = &recv->sge[i];
        SMT_UNPOISON(s->addr, s->len);
        uint32_t at = poison_len(s->addr, s->len);
        if (at < s->len)
            vm_abort("completion", "receive buffer",
                     "byte %u of wr_id 0x%llx on QP 0x%x was written while it was posted", at,
                     (unsigned long long)recv->wr_id, qp->ex.qp_base.qp_num);
    }
}

void vm_recv_write(struct vm_recv *recv, uint32_t offset, const void *data, uint32_t len)
{
    const uint8_t *from = data;
    for (unsigned i = 0; i < recv->n_sge && len > 0; i++) {
        const struct vm_sge *s = &recv->sge[i];
        if (offset >= s->len) {
            offset -= s->len;
            continue;
        }
        uint32_t n = s->len - offset < len ? s->len - offset : len;
        SMT_UNPOISON(s->addr, s->len);
        memcpy(s->addr + offset, from, n);
        if (recv->is_filled)
            SMT_POISON(s->addr, s->len);
        from += n;
        len -= n;
        offset = 0;
    }
}

void vm_recv_release(struct vm_recv *recv)
{
    for (unsigned i = 0; i < recv->n_sge; i++) {
        SMT_UNPOISON(recv->sge[i].addr, recv->sge[i].len);
        vm_sge_give(&recv->sge[i]);
    }
}
