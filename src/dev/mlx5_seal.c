/* Records that the NIC seals on their way out: plaintext in memory that only this queue's domain
 * can name, contexts programmed when the next record is not the one they expect, one LSO request a
 * record.
 *
 * What stands between plaintext and the wire, in this order: the memory is registered in the domain
 * of this queue alone; every packet request here names a context (the builder refuses 0); a context
 * is programmed, with fences, before the first record and whenever the record number is not the
 * next; after any error all contexts are void, and the core tests a new one before it trusts it.
 *
 * Firmware objects outlive their users: a context that goes round keeps its TIS, and its key object
 * where the firmware can change keys (then only after SYNC_CRYPTO), else that is made anew. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "dev/machine.h"
#include "dev/mlx5.h"
#include "dev/mlx5_ctx.h"
#include "dev/mlx5_devx.h"

enum {
    DEPTH = 512,
    N_SLOTS = 128,
    PROGRAM_REQUESTS = 3, /* static, progress, fence */
    MAX_CTXS = 1024,
    AUTO_MIN_LEN = 1024, /* below, telling the NIC of a record costs more than sealing it */
    MAX_ERRORS = 64,     /* in a second: then the CPU seals for the rest of it */
};

static const uint64_t evict_rest = 5 * SMT_MSEC;

struct slot {
    struct smt_mlx5_slot s; /* is_big, data */
    uint64_t ctx, record_no;
};

struct smt_mlx5_seal {
    struct smt_sealer sealer;
    struct smt_mlx5 *d;
    struct ibv_pd *pd;
    uint32_t pdn, td;
    void *td_object;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *mem;
    size_t mem_len;
    struct smt_mlx5_sq sq;
    struct smt_mlx5_ctxs ctxs;
    struct smt_mlx5_ctx *ctx_mem;
    size_t ctx_mem_len;
    struct slot slots[N_SLOTS], *spare[N_SLOTS], *batch[N_SLOTS], *sent[DEPTH];
    uint32_t n_spare, batch_head, n_batch;
    struct smt_mlx5_refusal refusal;
    uint64_t errors_since;
    uint32_t n_errors;
};

/* ---- contexts ---- */

/* TIS and key object for a context with a new user. */
static int objects_make(struct smt_mlx5_seal *s, struct smt_mlx5_ctx *x,
                        const struct smt_seal_key *key)
{
    struct ibv_context *ctx = s->d->port.ctx;
    int r = 0;
    if (x->tis_object == NULL)
        r = smt_mlx5_tis_create(ctx, s->td, s->pdn, &x->tisn, &x->tis_object, &s->refusal);
    if (r < 0)
        return r;
    if (x->dek_key_len == key->key_len && s->d->port.caps.can_sync_dek)
        return smt_mlx5_dek_change(ctx, x->dek_object, x->dek, s->pdn, key->key, key->key_len,
                                   &s->refusal);
    smt_mlx5_object_destroy(x->dek_object);
    x->dek_object = NULL;
    x->dek_key_len = 0;
    r = smt_mlx5_dek_create(ctx, s->pdn, key->key, key->key_len, &x->dek, &x->dek_object,
                            &s->refusal);
    if (r == 0)
        x->dek_key_len = key->key_len;
    return r;
}

static bool is_shunned(struct smt_mlx5_seal *s)
{
    return s->n_errors >= MAX_ERRORS && smt_coarse_now() - s->errors_since < SMT_SEC;
}

static int seal_open(void *arg, const struct smt_seal_key *key, uint64_t *name)
{
    struct smt_mlx5_seal *s = arg;
    const struct smt_mlx5_caps *caps = &s->d->port.caps;
    if (!(key->key_len == 16 ? caps->seals_128 : caps->seals_256))
        return SMT_EUNSUPPORTED;
    if (is_shunned(s) || s->d->is_lost)
        return SMT_EAGAIN;
    bool evicted;
    smt_mlx5_seal_reap(s->d);
    struct smt_mlx5_ctx *x = smt_mlx5_ctxs_take(&s->ctxs, s->d->now, evict_rest, s->sq.done,
                                                &evicted);
    if (x == NULL)
        return SMT_EAGAIN;
    s->d->stats.seal_evicted += evicted;
    if (objects_make(s, x, key) < 0) {
        s->d->stats.seal_refused++;
        smt_mlx5_ctxs_put(&s->ctxs, x);
        return SMT_EAGAIN;
    }
    memcpy(x->salt, key->salt, sizeof(x->salt));
    s->d->stats.seal_contexts++;
    *name = smt_mlx5_ctx_name(x);
    return 0;
}

static void seal_close(void *arg, uint64_t name)
{
    struct smt_mlx5_seal *s = arg;
    struct smt_mlx5_ctx *x = smt_mlx5_ctxs_find(&s->ctxs, name);
    if (x != NULL)
        smt_mlx5_ctxs_put(&s->ctxs, x);
}

/* ---- records ---- */

static int seal_reserve(void *arg, uint64_t ctx, const struct smt_seal_record *r, uint8_t **out)
{
    struct smt_mlx5_seal *s = arg;
    if (SMT_UNLIKELY(s->sq.is_suspect || smt_mlx5_ctxs_find(&s->ctxs, ctx) == NULL))
        return SMT_ESTATE;
    assert(r->hdr_len + r->record_len <= SMT_MLX5_BIG_LEN && r->prio < 8);
    if (SMT_UNLIKELY(s->n_spare == 0))
        smt_mlx5_seal_reap(s->d);
    if (SMT_UNLIKELY(s->n_spare == 0)) {
        s->d->stats.tx_full++;
        return SMT_EAGAIN;
    }
    struct slot *slot = s->spare[--s->n_spare];
    slot->s.to = *r->to;
    slot->s.len = r->hdr_len + r->record_len;
    slot->s.hdr_len = (uint16_t)r->hdr_len;
    slot->s.slice_len = (uint16_t)r->slice_len;
    slot->s.prio = r->prio;
    slot->ctx = ctx;
    slot->record_no = r->record_no;
    s->batch[(s->batch_head + s->n_batch++) % N_SLOTS] = slot;
    *out = slot->s.data;
    return 0;
}

static void put(struct smt_mlx5_seal *s, const uint8_t *wqe, struct slot *slot)
{
    s->sent[smt_mlx5_sq_put(&s->sq, wqe) % DEPTH] = slot;
}

/* Tells the NIC which record comes next: parameters, then a fence so that no packet overtakes
 * them. Fences are unconditional: drivers that left one out have sent garbage. */
static void program(struct smt_mlx5_seal *s, const struct smt_mlx5_ctx *x, uint64_t record_no)
{
    uint8_t wqe[SMT_MLX5_STATIC_LEN];
    struct smt_mlx5_ctrl ctrl = smt_mlx5_sq_ctrl(&s->sq, x->tisn);
    ctrl.is_fenced = true;
    smt_mlx5_wqe_static(wqe, &ctrl, x->dek, record_no, x->salt);
    put(s, wqe, NULL);
    ctrl = smt_mlx5_sq_ctrl(&s->sq, x->tisn);
    smt_mlx5_wqe_progress(wqe, &ctrl);
    put(s, wqe, NULL);
    ctrl = smt_mlx5_sq_ctrl(&s->sq, 0);
    ctrl.is_fenced = true;
    smt_mlx5_wqe_nop(wqe, &ctrl);
    put(s, wqe, NULL);
    s->d->stats.seal_resyncs++;
}

static void slot_post(struct smt_mlx5_seal *s, struct slot *slot, struct smt_mlx5_ctx *x,
                      const struct smt_mlx5_peer *peer)
{
    struct smt_mlx5 *d = s->d;
    if (!smt_mlx5_ctx_expects(x, slot->record_no))
        program(s, x, slot->record_no);
    uint8_t wqe[SMT_MLX5_MAX_WQE];
    assert(x->tisn != 0);
    const struct smt_mlx5_ctrl ctrl = smt_mlx5_sq_ctrl(&s->sq, x->tisn);
    smt_mlx5_wqe_fill(&slot->s, peer, &ctrl, s->mr->lkey, wqe);
    smt_mlx5_ctx_sent(&s->ctxs, x, slot->record_no, s->sq.posted, d->now);
    put(s, wqe, slot);
    uint32_t record_len = slot->s.len - slot->s.hdr_len;
    uint32_t n = (record_len + slot->s.slice_len - 1) / slot->s.slice_len;
    d->stats.seal_records++;
    d->stats.seal_packets += n;
    d->stats.seal_bytes += record_len;
    d->stats.tx_packets += n;
    d->stats.tx_frames++;
    d->stats.tx_bytes += record_len + n * slot->s.hdr_len;
}

/* The machine of a record, if it can be reached by raw IP with packets so long. */
static const struct smt_mlx5_peer *peer_find(struct smt_mlx5 *d, const struct slot *slot)
{
    const struct smt_mlx5_peer *peer = smt_mlx5_peers_get(d->peers, &slot->s.to, d->now);
    if (peer == NULL || peer->mtu == 0 || peer->burst.len == 0) {
        d->stats.tx_errors++;
        return NULL;
    }
    if ((uint32_t)slot->s.hdr_len + slot->s.slice_len > peer->mtu) {
        d->stats.tx_too_big++;
        return NULL;
    }
    return peer;
}

int smt_mlx5_seal_flush(struct smt_mlx5 *d)
{
    struct smt_mlx5_seal *s = d->seal;
    if (s == NULL || s->n_batch == 0)
        return 0;
    smt_mlx5_seal_reap(d);
    while (s->n_batch > 0 && smt_mlx5_sq_room(&s->sq) > PROGRAM_REQUESTS) {
        struct slot *slot = s->batch[s->batch_head % N_SLOTS];
        s->batch_head++;
        s->n_batch--;
        struct smt_mlx5_ctx *x = smt_mlx5_ctxs_find(&s->ctxs, slot->ctx);
        const struct smt_mlx5_peer *peer = x != NULL ? peer_find(d, slot) : NULL;
        if (SMT_UNLIKELY(x == NULL || peer == NULL)) {
            s->spare[s->n_spare++] = slot;
            d->stats.seal_dropped++;
            continue;
        }
        slot_post(s, slot, x, peer);
    }
    d->stats.tx_calls += s->sq.is_begun;
    (void)smt_mlx5_sq_ring(&s->sq);
    return s->n_batch > 0 ? SMT_EAGAIN : 0;
}

void smt_mlx5_seal_reap(struct smt_mlx5 *d)
{
    struct smt_mlx5_seal *s = d->seal;
    if (s == NULL)
        return;
    uint32_t before = s->sq.done;
    if (smt_mlx5_sq_reap(&s->sq) < 0)
        smt_mlx5_lose(d, "a completion queue of the mlx5 device cannot be read any more");
    for (; before != s->sq.done; before++) {
        struct slot *slot = s->sent[before % DEPTH];
        if (slot != NULL)
            s->spare[s->n_spare++] = slot;
    }
}

bool smt_mlx5_seal_is_waiting(const struct smt_mlx5 *d)
{
    return d->seal != NULL && d->seal->n_batch > 0;
}

bool smt_mlx5_seal_has_room(const struct smt_mlx5 *d)
{
    const struct smt_mlx5_seal *s = d->seal;
    return s != NULL && ((s->n_batch > 0 && smt_mlx5_sq_room(&s->sq) > PROGRAM_REQUESTS) ||
                         s->sq.is_suspect);
}

void smt_mlx5_seal_suspect(struct smt_mlx5 *d)
{
    if (d->seal != NULL)
        d->seal->sq.is_suspect = true;
}

/* An error ends the life of all contexts; what was posted is lost and comes again. */
void smt_mlx5_seal_recover(struct smt_mlx5 *d)
{
    struct smt_mlx5_seal *s = d->seal;
    if (s == NULL || !s->sq.is_suspect)
        return;
    d->stats.seal_errors++;
    uint64_t now = smt_coarse_now();
    if (now - s->errors_since > SMT_SEC) {
        s->errors_since = now;
        s->n_errors = 0;
    }
    s->n_errors++;
    smt_mlx5_ctxs_lose(&s->ctxs);
    for (uint32_t i = s->sq.done; i != s->sq.posted; i++) {
        struct slot *slot = s->sent[i % DEPTH];
        if (slot != NULL) {
            s->spare[s->n_spare++] = slot;
            d->stats.seal_dropped++;
        }
    }
    s->sq.done = s->sq.posted;
    if (smt_mlx5_sq_reset(&s->sq, NULL, NULL) < 0)
        smt_mlx5_lose(d, "the sealing queue of the mlx5 device cannot be made to work again");
}

/* ---- opening ---- */

static int memory_init(struct smt_mlx5_seal *s)
{
    s->mem_len = (size_t)N_SLOTS * SMT_MLX5_BIG_LEN;
    s->mem = smt_mem_map_huge(&s->mem_len, true);
    if (s->mem == NULL)
        return -ENOMEM;
    s->mr = ibv_reg_mr(s->pd, s->mem, s->mem_len, IBV_ACCESS_LOCAL_WRITE);
    if (s->mr == NULL)
        return -errno;
    for (uint32_t i = 0; i < N_SLOTS; i++) {
        s->slots[i].s.data = s->mem + (size_t)i * SMT_MLX5_BIG_LEN;
        s->spare[s->n_spare++] = &s->slots[i];
    }
    return 0;
}

static uint32_t ctxs_allowed(const struct smt_mlx5_caps *caps)
{
    /* Half of what the firmware has: others want some, and old ones linger. */
    uint64_t deks = caps->log_max_dek > 0 ? 1ull << (caps->log_max_dek - 1) : 1;
    uint64_t tises = caps->log_max_tis > 0 ? 1ull << (caps->log_max_tis - 1) : MAX_CTXS;
    uint64_t n = deks < tises ? deks : tises;
    return n < MAX_CTXS ? (uint32_t)n : MAX_CTXS;
}

static int ctxs_init(struct smt_mlx5_seal *s)
{
    uint32_t n = ctxs_allowed(&s->d->port.caps);
    s->ctx_mem_len = n * sizeof(*s->ctx_mem);
    s->ctx_mem = smt_mem_block(s->ctx_mem_len);
    if (s->ctx_mem == NULL)
        return -ENOMEM;
    smt_mlx5_ctxs_init(&s->ctxs, s->ctx_mem, n);
    return 0;
}

/* One context made and unmade: the firmware's own word counts for more than its capability bits. */
static int objects_try(struct smt_mlx5_seal *s)
{
    static const uint8_t key[32] = {1}, salt[4];
    const struct smt_seal_key k = {
        .key = key, .key_len = s->d->port.caps.seals_128 ? 16 : 32, .salt = salt};
    return objects_make(s, &s->ctx_mem[0], &k);
}

static int objects_init(struct smt_mlx5_seal *s, const char **what)
{
    struct mlx5dv_obj obj = {.pd = {.in = s->pd}};
    struct mlx5dv_pd pd = {.comp_mask = 0};
    obj.pd.out = &pd;
    *what = "protection domain";
    if (mlx5dv_init_obj(&obj, MLX5DV_OBJ_PD) != 0)
        return -EIO;
    s->pdn = pd.pdn;
    *what = "memory for records";
    int r = memory_init(s);
    if (r == 0)
        r = ctxs_init(s);
    if (r < 0)
        return r;
    *what = "sealing queue pair";
    s->cq = ibv_create_cq(s->d->port.ctx, DEPTH, NULL, s->d->channel, 0);
    if (s->cq == NULL)
        return -errno;
    const struct smt_mlx5_sq_config c = {
        .ctx = s->d->port.ctx,
        .pd = s->pd,
        .send_cq = s->cq,
        .recv_cq = s->cq,
        .depth = DEPTH,
        .has_lso = true};
    r = smt_mlx5_sq_init(&s->sq, &c);
    if (r < 0)
        return r;
    *what = "firmware objects";
    r = smt_mlx5_td_create(s->d->port.ctx, &s->td, &s->td_object, &s->refusal);
    return r < 0 ? r : objects_try(s);
}

static int seal_make(struct smt_mlx5 *d)
{
    const char *what = "memory";
    struct smt_mlx5_seal *s = smt_mem_alloc(sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    d->seal = s;
    s->d = d;
    s->sealer = (struct smt_sealer){
        .arg = s,
        .min_len = d->port.spec.crypto == SMT_MLX5_CRYPTO_NIC ? 0 : AUTO_MIN_LEN,
        .open = seal_open,
        .close = seal_close,
        .reserve = seal_reserve,
    };
    s->pd = ibv_alloc_pd(d->port.ctx);
    int r = s->pd == NULL ? -errno : objects_init(s, &what);
    if (r == 0)
        return 0;
    char text[96];
    if (s->refusal.error != 0)
        smt_mlx5_refusal_text(&s->refusal, text, sizeof(text));
    else
        snprintf(text, sizeof(text), "%s", strerror(-r));
    snprintf(d->no_seal, sizeof(d->no_seal), "%s refused (%s)", what, text);
    return r;
}

int smt_mlx5_seal_open(struct smt_mlx5 *d, const struct smt_dev_config *config)
{
    const char *why = smt_mlx5_is_udp(d) ? smt_mlx5_no_seal(&d->port)
                                         : "only records of smt2 have the form that it seals";
    if (why != NULL)
        snprintf(d->no_seal, sizeof(d->no_seal), "%s", why);
    else if (seal_make(d) < 0)
        smt_mlx5_seal_close(d);
    if (d->seal == NULL && d->port.spec.crypto == SMT_MLX5_CRYPTO_NIC)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EUNSUPPORTED,
                            "%s: crypto=nic, but the NIC cannot seal: %s", d->port.devname,
                            d->no_seal);
    return 0;
}

void smt_mlx5_seal_close(struct smt_mlx5 *d)
{
    struct smt_mlx5_seal *s = d->seal;
    if (s == NULL)
        return;
    d->seal = NULL;
    smt_mlx5_sq_fini(&s->sq);
    for (uint32_t i = 0; i < s->ctxs.n; i++) {
        smt_mlx5_object_destroy(s->ctx_mem[i].tis_object);
        smt_mlx5_object_destroy(s->ctx_mem[i].dek_object);
    }
    smt_mlx5_object_destroy(s->td_object);
    if (s->cq != NULL) {
        smt_verbs_watch_end(&d->watches[SMT_MLX5_WATCH_SEAL]);
        (void)ibv_destroy_cq(s->cq);
    }
    if (s->mr != NULL)
        (void)ibv_dereg_mr(s->mr);
    if (s->mem != NULL) {
        smt_wipe(s->mem, s->mem_len);
        smt_mem_unmap(s->mem, s->mem_len);
    }
    if (s->pd != NULL)
        (void)ibv_dealloc_pd(s->pd);
    smt_mem_block_free(s->ctx_mem, s->ctx_mem_len);
    smt_mem_free(s);
}

const struct smt_sealer *smt_mlx5_sealer(struct smt_dev *dev)
{
    const struct smt_mlx5 *d = smt_mlx5_of(dev);
    return d->seal != NULL ? &d->seal->sealer : NULL;
}

struct ibv_cq *smt_mlx5_seal_cq(const struct smt_mlx5 *d)
{
    return d->seal != NULL ? d->seal->cq : NULL;
}
