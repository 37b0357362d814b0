/* The model's knobs and counters, its objects, and how it ends a test. Objects are kept for ever,
 * marked dead: that is how a second destruction and a use after it are seen. */
#include "verbs_model.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/prng.h"
#include "model.h"

struct verbs_model_knobs verbs_model;
struct verbs_model_counts verbs_model_counts;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vm_object *objects;
static struct smt_prng prng;
static pid_t owner;

void vm_lock(void)
{
    pthread_mutex_lock(&lock);
}

void vm_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void vm_abort(const char *call, const char *field, const char *fmt, ...)
{
    char why[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    fprintf(stderr, "verbs-model: %s: %s: %s\n", call, field, why);
    fflush(NULL);
    abort();
}

static const char *kind_name(uint32_t kind)
{
    switch (kind) {
    case VM_CONTEXT:
        return "context";
    case VM_PD:
        return "protection domain";
    case VM_MR:
        return "memory region";
    case VM_CHANNEL:
        return "completion channel";
    case VM_CQ:
        return "completion queue";
    case VM_QP:
        return "queue pair";
    case VM_AH:
        return "address handle";
    default:
        return "no object";
    }
}

void vm_expect(const char *call, const char *field, const struct vm_object *object,
               enum vm_kind kind)
{
    if (object->kind == VM_DEAD)
        vm_abort(call, field, "the %s was destroyed before", kind_name(kind));
    if (object->kind != (uint32_t)kind)
        vm_abort(call, field, "not a %s", kind_name(kind));
}

void *vm_object_new(size_t size, size_t offset, enum vm_kind kind)
{
    char *p = calloc(1, size);
    if (p == NULL)
        vm_abort("model", "memory", "none left");
    struct vm_object *object = (struct vm_object *)(void *)(p + offset);
    *object = (struct vm_object){.kind = kind, .next = objects};
    objects = object;
    return p;
}

void vm_object_kill(struct vm_object *object)
{
    object->kind = VM_DEAD;
}

struct vm_object *vm_object_next(enum vm_kind kind, struct vm_object *after)
{
    struct vm_object *o = after == NULL ? objects : after->next;
    while (o != NULL && o->kind != (uint32_t)kind)
        o = o->next;
    return o;
}

static unsigned live(char *what, size_t what_len)
{
    unsigned n = 0;
    if (what_len > 0)
        what[0] = '\0';
    for (uint32_t kind = VM_CONTEXT; kind <= VM_AH; kind++) {
        unsigned of_kind = 0;
        for (struct vm_object *o = NULL; (o = vm_object_next(kind, o)) != NULL;)
            of_kind++;
        size_t at = what_len > 0 ? strlen(what) : 0;
        if (of_kind > 0 && at < what_len)
            snprintf(what + at, what_len - at, "%s%u %s%s", n > 0 ? ", " : "", of_kind,
                     kind_name(kind), of_kind > 1 ? "s" : "");
        n += of_kind;
    }
    return n;
}

unsigned verbs_model_n_live(void)
{
    vm_lock();
    unsigned n = live(NULL, 0);
    vm_unlock();
    return n;
}

static void leaks_find(const char *when)
{
    char what[256];
    if (live(what, sizeof(what)) > 0)
        vm_abort(when, "leaked", "%s", what);
    for (unsigned i = 0; i < VERBS_MODEL_DEVICES; i++) {
        if (vm_devices[i].n_listed > 0)
            vm_abort(when, "leaked", "a list of devices");
    }
}

static void at_exit(void)
{
    /* A forked child has copies of objects that its parent destroys. */
    if (getpid() == owner)
        leaks_find("exit");
}

static void gid_fill(struct ibv_gid_entry *e, unsigned index, const char *text,
                     enum ibv_gid_type type, const char *netdev)
{
    *e = (struct ibv_gid_entry){.gid_index = index, .port_num = 1, .gid_type = type};
    if (netdev != NULL)
        e->ndev_ifindex = if_nametoindex(netdev);
    if (inet_pton(AF_INET6, text, e->gid.raw) == 1)
        return;
    e->gid.raw[10] = e->gid.raw[11] = 0xff;
    if (inet_pton(AF_INET, text, e->gid.raw + 12) != 1)
        vm_abort("verbs_model_set_gid", "text", "%s is no address", text);
}

void verbs_model_set_gid(unsigned device, unsigned index, const char *text, enum ibv_gid_type type,
                         const char *netdev)
{
    vm_lock();
    gid_fill(&verbs_model.devices[device].gids[index], index, text, type, netdev);
    vm_unlock();
}

static void reset(void)
{
    static const char *const addresses[] = {"fe80::1", "127.0.0.1", "::1"};
    leaks_find("verbs_model_reset");
    if (owner == 0)
        atexit(at_exit);
    owner = getpid();
    verbs_model = (struct verbs_model_knobs){.n_devices = 1};
    verbs_model_counts = (struct verbs_model_counts){0};
    static const char *const names[VERBS_MODEL_DEVICES] = {"model0", "model1", "model2", "model3"};
    for (unsigned i = 0; i < VERBS_MODEL_DEVICES; i++) {
        struct verbs_model_device *d = &verbs_model.devices[i];
        *d = (struct verbs_model_device){.name = names[i],
                                         .ibdev_path = "",
                                         .lid = (uint16_t)(0x10 + i),
                                         .port_state = IBV_PORT_ACTIVE,
                                         .max_mtu = IBV_MTU_4096,
                                         .active_mtu = IBV_MTU_4096,
                                         .max_inline = 256,
                                         .max_sge = VERBS_MODEL_MAX_SGE,
                                         .max_qp_wr = 16384,
                                         .max_cqe = 1 << 18};
        for (unsigned k = 0; i == 0 && k < 2 * SMT_ARRAY_LEN(addresses); k++)
            gid_fill(&d->gids[k], k, addresses[k / 2],
                     k % 2 == 0 ? IBV_GID_TYPE_ROCE_V1 : IBV_GID_TYPE_ROCE_V2, "lo");
        vm_devices[i].is_removed = false;
    }
    smt_prng_seed(&prng, 1);
    vm_wire_reset();
}

void verbs_model_reset(void)
{
    vm_lock();
    reset();
    vm_unlock();
}

static enum ibv_mtu mtu_of(unsigned long bytes)
{
    enum ibv_mtu mtu = IBV_MTU_256;
    while (mtu < IBV_MTU_4096 && 256ul << (mtu - IBV_MTU_256) < bytes)
        mtu++;
    return mtu;
}

static void word_apply(const char *word)
{
    struct verbs_model_device *d = &verbs_model.devices[0];
    const char *equals = strchr(word, '=');
    size_t len = equals != NULL ? (size_t)(equals - word) : strlen(word);
    unsigned long n = equals != NULL ? strtoul(equals + 1, NULL, 0) : 0;
#define WORD(text) (len == sizeof(text) - 1 && strncmp(word, text, len) == 0)
    if (WORD("mlx5"))
        d->is_mlx5 = true;
    else if (WORD("ib"))
        d->is_ib = true;
    else if (WORD("post"))
        d->qp_ex = VERBS_MODEL_QP_EX_NONE;
    else if (WORD("no-ops"))
        d->qp_ex = VERBS_MODEL_QP_EX_NO_WR_OPS;
    else if (WORD("lax"))
        verbs_model.is_lax = true;
    else if (WORD("mtu"))
        d->active_mtu = mtu_of(n);
    else if (WORD("inline"))
        d->max_inline = (uint32_t)n;
    else if (WORD("loss"))
        verbs_model.loss = (unsigned)n;
    else if (WORD("dup"))
        verbs_model.duplicates = (unsigned)n;
    else if (WORD("late"))
        verbs_model.late = (unsigned)n;
    else if (WORD("ce"))
        verbs_model.ce = (unsigned)n;
    else if (WORD("cq-error"))
        verbs_model.cq_error_at = n;
    else if (WORD("qp-error"))
        verbs_model.qp_error_at = n;
    else if (WORD("seed"))
        smt_prng_seed(&prng, n);
    else
        vm_abort("SMT_VERBS_MODEL", "word", "%s is unknown", word);
#undef WORD
}

void vm_begin(void)
{
    if (owner != 0)
        return;
    reset();
    const char *words = getenv("SMT_VERBS_MODEL");
    char text[256], *rest = text;
    snprintf(text, sizeof(text), "%s", words != NULL ? words : "");
    for (const char *word; (word = strsep(&rest, ",")) != NULL;) {
        if (word[0] != '\0')
            word_apply(word);
    }
}

void verbs_model_seed(uint64_t seed)
{
    vm_lock();
    smt_prng_seed(&prng, seed);
    vm_unlock();
}

uint64_t vm_random(void)
{
    return smt_prng_next64(&prng);
}

unsigned vm_percent(unsigned percent)
{
    return percent > 0 && smt_prng_below(&prng, 100) < percent;
}

struct verbs_model_device *vm_knobs_of(const struct vm_device *dev)
{
    return &verbs_model.devices[dev->index];
}

int vm_fails(enum verbs_model_call call, const struct vm_device *dev)
{
    struct verbs_model_failure *f = &verbs_model.fail[call];
    int error = 0;
    if (f->times > 0) {
        if (f->skip > 0) {
            f->skip--;
        } else {
            f->times--;
            error = f->error;
        }
    }
    if (verbs_model.fail_nth > 0 && --verbs_model.fail_nth == 0)
        error = ENOMEM;
    if (dev != NULL && dev->is_removed)
        error = EIO;
    if (error != 0)
        errno = error;
    return error;
}
