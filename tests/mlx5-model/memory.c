/* Protection domains and memory regions; address handles exist for the linker only: the model has
 * no UD queue pairs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

static struct mm_mr *mrs;
static struct mm_pd *pds[4096];
static unsigned n_pds;
static uint64_t pinned;

static int access_flags(int access)
{
    return access & (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_RELAXED_ORDERING);
}

struct mm_pd *mm_pd_of(const char *call, struct ibv_pd *pd)
{
    struct mm_pd *p = MM_CONTAINER(pd, struct mm_pd, ibv);
    if (pd == NULL || p->kind != MM_PD)
        mm_die(call, "protection domain: none, or freed");
    return p;
}

struct mm_pd *mm_pd_by_number(uint32_t pdn)
{
    for (unsigned i = 0; i < n_pds; i++) {
        if (pds[i]->kind == MM_PD && pds[i]->pdn == pdn)
            return pds[i];
    }
    return NULL;
}

struct ibv_pd *ibv_alloc_pd(struct ibv_context *ctx)
{
    mm_enter();
    struct mm_ctx *c = mm_ctx_of("ibv_alloc_pd", ctx);
    struct mm_pd *pd = NULL;
    if (c->dev->is_gone)
        errno = EIO;
    else if (n_pds == sizeof(pds) / sizeof(pds[0]))
        errno = ENOMEM;
    else
        pd = calloc(1, sizeof(*pd));
    if (pd != NULL) {
        pd->ibv.context = ctx;
        pd->kind = MM_PD;
        do
            pd->pdn = 1 + (uint32_t)mm_random() % 0xfffffe;
        while (mm_pd_by_number(pd->pdn) != NULL);
        pds[n_pds++] = pd;
        c->n_pds++;
    }
    mm_leave();
    return pd != NULL ? &pd->ibv : NULL;
}

int ibv_dealloc_pd(struct ibv_pd *ibv)
{
    mm_enter();
    struct mm_pd *pd = mm_pd_of("ibv_dealloc_pd", ibv);
    int r = 0;
    if (pd->n_users > 0) {
        mm_complain("pd", "freed with %u objects in it", pd->n_users);
        r = EBUSY;
    } else {
        mm_ctx_of("ibv_dealloc_pd", ibv->context)->n_pds--;
        pd->kind = MM_DEAD;
    }
    mm_leave();
    return r;
}

static struct mm_mr *mr_by_key(uint32_t lkey)
{
    for (struct mm_mr *m = mrs; m != NULL; m = m->next) {
        if (m->ibv.lkey == lkey)
            return m;
    }
    return NULL;
}

static struct ibv_mr *mr_new(struct ibv_pd *ibv, void *addr, size_t len, int access)
{
    mm_enter();
    struct mm_pd *pd = mm_pd_of("ibv_reg_mr", ibv);
    struct mm_mr *mr = NULL;
    if (access & ~(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                   IBV_ACCESS_RELAXED_ORDERING | IBV_ACCESS_HUGETLB))
        mm_complain("ibv_reg_mr.access", "0x%x", (unsigned)access);
    if (len == 0 || addr == NULL) {
        errno = EINVAL;
    } else if (mm_config()->memlock != 0 && pinned + len > mm_config()->memlock) {
        errno = ENOMEM;
    } else {
        mr = calloc(1, sizeof(*mr));
        if (mr == NULL)
            mm_die("model", "out of memory");
        mr->kind = MM_MR;
        mr->access = access_flags(access);
        mr->ibv.context = ibv->context;
        mr->ibv.pd = ibv;
        mr->ibv.addr = addr;
        mr->ibv.length = len;
        do
            mr->ibv.lkey = (uint32_t)mm_random() | 1;
        while (mr_by_key(mr->ibv.lkey) != NULL);
        mr->ibv.rkey = mr->ibv.lkey;
        mr->next = mrs;
        mrs = mr;
        pd->n_users++;
        pinned += len;
    }
    mm_leave();
    return mr != NULL ? &mr->ibv : NULL;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t len, int access)
{
    return mr_new(pd, addr, len, access);
}

struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova, int access)
{
    if (iova != (uint64_t)(uintptr_t)addr)
        mm_complain("ibv_reg_mr_iova.iova", "another address than the memory's is not modelled");
    return mr_new(pd, addr, len, access);
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t len, uint64_t iova,
                                unsigned int access)
{
    if (iova != (uint64_t)(uintptr_t)addr)
        mm_complain("ibv_reg_mr_iova2.iova", "another address than the memory's is not modelled");
    return mr_new(pd, addr, len, (int)access);
}

int ibv_dereg_mr(struct ibv_mr *ibv)
{
    mm_enter();
    struct mm_mr *mr = MM_CONTAINER(ibv, struct mm_mr, ibv);
    if (mr->kind != MM_MR)
        mm_die("ibv_dereg_mr", "memory region freed before");
    struct mm_mr **at = &mrs;
    while (*at != mr)
        at = &(*at)->next;
    *at = mr->next;
    mr->kind = MM_DEAD;
    mm_bury(mr);
    pinned -= ibv->length;
    mm_pd_of("ibv_dereg_mr", ibv->pd)->n_users--;
    mm_leave();
    return 0;
}

void *mm_mr_bytes(struct mm_pd *pd, uint32_t lkey, uint64_t addr, uint64_t len, int access)
{
    struct mm_mr *mr = mr_by_key(lkey);
    if (mr == NULL) {
        mm_complain("data.lkey", "0x%x is no memory region", lkey);
        return NULL;
    }
    if (mm_pd_of("lkey", mr->ibv.pd) != pd) {
        mm_complain("data.lkey", "0x%x belongs to another protection domain", lkey);
        return NULL;
    }
    uint64_t base = (uint64_t)(uintptr_t)mr->ibv.addr;
    if (addr < base || len > mr->ibv.length || addr - base > mr->ibv.length - len) {
        mm_complain("data.addr", "0x%llx, %llu bytes, is not inside its memory region",
                    (unsigned long long)addr, (unsigned long long)len);
        return NULL;
    }
    if ((mr->access & access) != access) {
        mm_complain("data.lkey", "0x%x lacks access 0x%x", lkey, (unsigned)access);
        return NULL;
    }
    return (void *)(uintptr_t)addr;
}

struct ibv_ah *ibv_create_ah(struct ibv_pd *pd, struct ibv_ah_attr *attr)
{
    (void)mm_pd_of("ibv_create_ah", pd);
    (void)attr;
    errno = EOPNOTSUPP;
    return NULL;
}

int ibv_destroy_ah(struct ibv_ah *ah)
{
    (void)ah;
    return EINVAL;
}
