/* Key epochs of one conn (docs/wire.md 3 and 7). It owns raw keys, counters of use and the replay
 * windows of CTRL records; expanded contexts live in the engine's ring, so that a conn at rest
 * holds raw keys only.
 *
 * One epoch number serves both directions: whoever sees a record of epoch n+1 open under the next
 * keys moves his own sealing there too. That keeps at most three epochs alive and needs no frame to
 * agree on. Both data and CTRL keys move together.
 * Raw keys and secrets lie in a pool of memory for keys, a block an epoch, so that neither a core
 * dump nor a forked child holds them. */
#include "core/keys.h"

#include "base/mem.h"
#include "base/pool.h"

/* docs/wire.md 7: limits under one key. */
static const uint64_t max_blocks = 1ull << 34;
static const uint64_t max_sealed = 1ull << 28;
static const uint64_t max_failed = 1ull << 36;

/* How long a superseded key may still open: far above any reordering, far below an idle age. */
static const uint64_t prev_life = 2 * SMT_SEC;

enum { FIRST_BLOCKS = 32, MAX_BLOCKS = 1 << 21 };

int smt_keys_env_init(struct smt_keys_env *env, const struct smt_aead *aead,
                      struct smt_pool *replays, uint32_t n_cached, uint64_t rekey_records)
{
    struct smt_keys_env made = {.replays = replays};
    made.max_records = rekey_records > 0 && rekey_records < max_sealed ? rekey_records : max_sealed;
    made.ring_len = smt_keyring_size(aead, n_cached);
    made.ring_mem = made.ring_len > 0 ? smt_mem_secret(made.ring_len) : NULL;
    if (made.ring_mem == NULL)
        return SMT_ENOMEM;
    size_t block_len = sizeof(struct smt_key_block) + 4 * aead->key_len;
    int rc = smt_pool_init_secret(&made.blocks, block_len, FIRST_BLOCKS, MAX_BLOCKS);
    if (rc == 0)
        rc = smt_keyring_init(&made.ring, aead, n_cached, made.ring_mem);
    if (rc < 0) {
        smt_pool_fini(&made.blocks);
        smt_mem_secret_free(made.ring_mem, made.ring_len);
        return rc;
    }
    made.aead = aead;
    *env = made;
    return 0;
}

void smt_keys_env_fini(struct smt_keys_env *env)
{
    if (env->aead == NULL)
        return;
    smt_keyring_fini(&env->ring);
    smt_mem_secret_free(env->ring_mem, env->ring_len);
    smt_pool_fini(&env->blocks);
    *env = (struct smt_keys_env){0};
}

static uint8_t *raw_key(const struct smt_keys *k, const struct smt_epoch *e, enum smt_key_use use)
{
    return e->block->raw + (size_t)use * k->env->aead->key_len;
}

static int epoch_make(const struct smt_keys *k, const uint8_t secret[SMT_SECRET_LEN],
                      uint32_t number, struct smt_epoch *out)
{
    struct smt_epoch_keys keys;
    uint32_t key_len = k->env->aead->key_len;
    struct smt_key_block *block = smt_pool_get(&k->env->blocks);
    if (block == NULL)
        return SMT_ENOMEM;
    int rc = smt_schedule_keys(secret, key_len, &keys);
    if (rc < 0) {
        smt_pool_put(&k->env->blocks, block);
        return rc;
    }
    *out = (struct smt_epoch){.number = number, .block = block};
    memcpy(block->secret, secret, SMT_SECRET_LEN);
    const struct smt_key *by_use[4] = {
        [SMT_TX_DATA] = k->initiator ? &keys.i_data : &keys.r_data,
        [SMT_RX_DATA] = k->initiator ? &keys.r_data : &keys.i_data,
        [SMT_TX_CTRL] = k->initiator ? &keys.i_ctrl : &keys.r_ctrl,
        [SMT_RX_CTRL] = k->initiator ? &keys.r_ctrl : &keys.i_ctrl,
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(by_use); i++) {
        memcpy(raw_key(k, out, i), by_use[i]->key, key_len);
        memcpy(block->salt[i], by_use[i]->salt, SMT_SALT_LEN);
    }
    smt_wipe(&keys, sizeof(keys));
    return 0;
}

static void epoch_fini(struct smt_keys *k, struct smt_epoch *e)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(e->slot); i++)
        smt_keyring_drop(&k->env->ring, &e->slot[i]);
    if (e->replay != NULL)
        smt_pool_put(k->env->replays, e->replay);
    smt_wipe(e->block, sizeof(*e->block) + 4 * k->env->aead->key_len);
    smt_pool_put(&k->env->blocks, e->block);
    *e = (struct smt_epoch){0};
}

/* For prev and next, which are not part of the conn. */
static void epoch_free(struct smt_keys *k, struct smt_epoch **e)
{
    if (*e == NULL)
        return;
    epoch_fini(k, *e);
    smt_mem_free(*e);
    *e = NULL;
}

int smt_keys_install(struct smt_keys *k, struct smt_keys_env *env,
                     const uint8_t secret[SMT_SECRET_LEN], bool initiator)
{
    assert(!smt_keys_ready(k));
    struct smt_keys made = {.env = env, .ready = true, .initiator = initiator};
    int rc = epoch_make(&made, secret, 1, &made.now);
    if (rc < 0)
        return rc;
    *k = made;
    return 0;
}

void smt_keys_fini(struct smt_keys *k)
{
    if (k->env == NULL)
        return;
    epoch_fini(k, &k->now);
    epoch_free(k, &k->prev);
    epoch_free(k, &k->next);
    *k = (struct smt_keys){0};
}

/* The expanded context of a key. NULL: the cipher failed. */
SMT_INLINE void *ctx_of(struct smt_keys *k, struct smt_epoch *e, enum smt_key_use use)
{
    struct smt_keyring *ring = &k->env->ring;
    void *ctx = smt_keyring_recent(ring, &e->slot[use]);
    return SMT_LIKELY(ctx != NULL) ? ctx
                                   : smt_keyring_get_slow(ring, &e->slot[use], raw_key(k, e, use));
}

SMT_INLINE int record_seal(struct smt_keys *k, enum smt_key_use use, uint64_t record_no,
                       uint8_t *record, const struct smt_aead_in *in, unsigned n_in,
                       size_t plain_len)
{
    struct smt_epoch *e = &k->now;
    void *ctx = ctx_of(k, e, use);
    if (ctx == NULL)
        return SMT_ECRYPTO;
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    uint8_t aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, e->block->salt[use], record_no);
    smt_record_aad(aad, record_no, plain_len);
    smt_record_head_encode(record, record_no, plain_len);
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    return k->env->aead->seal(ctx, nonce, aad, sizeof(aad), in, n_in, plain, plain + plain_len);
}

/* Record numbers hold the low 33 bits of an id. Ids count up by one, so that is plenty for a key,
 * but a peer may choose his as he likes: two that share those bits must not meet under one key. Two
 * neighbouring runs of 2^32 ids do not. */
static bool id_fits(struct smt_epoch *e, uint64_t rpc_id)
{
    uint32_t *first = &e->first_run[(rpc_id & SMT_ID_ROLE) != 0];
    uint32_t run = (uint32_t)((rpc_id & SMT_ID_MASK) >> 32) + 1;
    if (SMT_UNLIKELY(*first == 0))
        *first = run;
    return run - *first <= 1;
}

int smt_keys_check_data(struct smt_keys *k, uint64_t rpc_id)
{
    struct smt_epoch *e = &k->now;
    if (SMT_UNLIKELY(e->n_sealed >= max_sealed || e->n_blocks >= max_blocks))
        return SMT_EKEYLIMIT;
    if (SMT_UNLIKELY(!id_fits(e, rpc_id))) {
        k->want_next = true;
        return SMT_EKEYLIMIT;
    }
    return 0;
}

void smt_keys_lend_data(const struct smt_keys *k, struct smt_seal_key *out)
{
    *out = (struct smt_seal_key){.key = raw_key(k, &k->now, SMT_TX_DATA),
                                 .key_len = k->env->aead->key_len,
                                 .salt = k->now.block->salt[SMT_TX_DATA]};
}

int smt_keys_seal_data(struct smt_keys *k, uint64_t rpc_id, uint32_t seal, uint8_t *record,
                       const struct smt_aead_in *in, unsigned n_in, size_t plain_len)
{
    int rc = smt_keys_check_data(k, rpc_id);
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    uint64_t record_no = smt_data_record_no(rpc_id, seal);
    smt_keys_note_data(k, plain_len);
    return record_seal(k, SMT_TX_DATA, record_no, record, in, n_in, plain_len);
}

int smt_keys_seal_pieces(struct smt_keys *k, uint64_t rpc_id, uint32_t seal,
                         const struct smt_aead_in *in, unsigned n_in, size_t plain_len,
                         uint8_t *head, const struct smt_aead_out *out, unsigned n_out,
                         uint8_t *tag)
{
    int rc = smt_keys_check_data(k, rpc_id);
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    struct smt_epoch *e = &k->now;
    void *ctx = ctx_of(k, e, SMT_TX_DATA);
    if (ctx == NULL)
        return SMT_ECRYPTO;
    uint64_t record_no = smt_data_record_no(rpc_id, seal);
    smt_keys_note_data(k, plain_len);
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    uint8_t aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, e->block->salt[SMT_TX_DATA], record_no);
    smt_record_aad(aad, record_no, plain_len);
    smt_record_head_encode(head, record_no, plain_len);
    return k->env->aead->seal_to(ctx, nonce, aad, sizeof(aad), in, n_in, out, n_out, tag);
}

/* None of the limits is reached in a run of so many records, whatever their lengths. */
enum { RUN_RECORDS = 1024, RUN_BLOCKS = RUN_RECORDS * (SMT_RECORD_MAX_PLAIN / 16 + 3) };

int smt_keys_run_begin(struct smt_keys *k, uint64_t rpc_id, struct smt_seal_run *out)
{
    int rc = smt_keys_check_data(k, rpc_id);
    if (SMT_UNLIKELY(rc < 0))
        return rc;
    const struct smt_epoch *e = &k->now;
    bool is_far = e->n_sealed + RUN_RECORDS < k->env->max_records &&
                  e->n_blocks + RUN_BLOCKS < max_blocks / 2;
    out->aead = k->env->aead;
    out->ctx = ctx_of(k, &k->now, SMT_TX_DATA);
    out->is_plain = out->aead->alg == SMT_AEAD_NONE;
    out->left = is_far ? RUN_RECORDS : 1;
    smt_record_nonce(out->nonce, e->block->salt[SMT_TX_DATA], 0);
    return SMT_LIKELY(out->ctx != NULL) ? 0 : SMT_ECRYPTO;
}

int smt_keys_seal_ctrl(struct smt_keys *k, uint8_t *record, size_t plain_len)
{
    if (SMT_UNLIKELY(k->now.ctrl_next >= max_sealed))
        return SMT_EKEYLIMIT;
    const struct smt_aead_in in = {record + SMT_RECORD_HEAD_LEN, plain_len};
    return record_seal(k, SMT_TX_CTRL, k->now.ctrl_next++, record, &in, 1, plain_len);
}

enum smt_epoch_ref smt_keys_find_epoch(const struct smt_keys *k, uint8_t epoch)
{
    if (SMT_LIKELY(epoch == (uint8_t)k->now.number))
        return SMT_EPOCH_NOW;
    if (k->prev != NULL && epoch == (uint8_t)k->prev->number)
        return SMT_EPOCH_PREV;
    if (epoch == (uint8_t)(k->now.number + 1))
        return SMT_EPOCH_NEXT;
    return SMT_EPOCH_NONE;
}

SMT_INLINE int record_open(struct smt_keys *k, struct smt_epoch *e, enum smt_key_use use,
                       uint64_t record_no, const uint8_t *record, size_t plain_len,
                       const struct smt_aead_out *out, unsigned n_out)
{
    void *ctx = ctx_of(k, e, use);
    if (ctx == NULL)
        return SMT_ECRYPTO;
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    uint8_t aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, e->block->salt[use], record_no);
    smt_record_aad(aad, record_no, plain_len);
    const uint8_t *cipher = record + SMT_RECORD_HEAD_LEN;
    return k->env->aead->open(ctx, nonce, aad, sizeof(aad), cipher, plain_len, out, n_out,
                              cipher + plain_len);
}

/* Derives the next epoch's keys, once: a forger who names the next epoch costs no key schedule a
 * packet. */
static int next_make(struct smt_keys *k)
{
    if (k->next != NULL)
        return 0;
    uint8_t secret[SMT_SECRET_LEN];
    struct smt_epoch *next = smt_mem_alloc(sizeof(*next));
    if (next == NULL)
        return SMT_ENOMEM;
    int rc = smt_schedule_next(k->now.block->secret, secret);
    if (rc == 0)
        rc = epoch_make(k, secret, k->now.number + 1, next);
    smt_wipe(secret, sizeof(secret));
    if (rc < 0) {
        smt_mem_free(next);
        return rc;
    }
    k->next = next;
    return 0;
}

/* The next epoch becomes the current one, the current one the previous, whose memory goes round. */
static void next_enter(struct smt_keys *k, uint64_t now)
{
    struct smt_epoch *entered = k->next;
    epoch_free(k, &k->prev);
    struct smt_epoch was = k->now;
    k->now = *entered;
    *entered = was;
    k->prev = entered;
    k->next = NULL;
    /* Its keys may still open; nothing may be derived from it any more. */
    smt_wipe(k->prev->block->secret, sizeof(k->prev->block->secret));
    k->prev_until = now + prev_life;
    k->want_next = false;
}

/* A record that claims the next epoch: try, and only when the tag passes move there. */
static int next_open(struct smt_keys *k, uint64_t now, enum smt_key_use use, uint64_t record_no,
                     const uint8_t *record, size_t plain_len, const struct smt_aead_out *out,
                     unsigned n_out)
{
    /* The side that steps waits for our confirmation first, so nothing genuine skips an epoch. */
    int rc = next_make(k);
    if (rc == 0)
        rc = record_open(k, k->next, use, record_no, record, plain_len, out, n_out);
    if (rc == 0)
        next_enter(k, now);
    return rc;
}

/* What came of a data record for the epoch it was tried with. */
static int opened_note(struct smt_keys *k, struct smt_epoch *e, enum smt_epoch_ref ref, int rc)
{
    if (SMT_LIKELY(rc == 0))
        k->confirmed = ref == SMT_EPOCH_PREV ? k->confirmed : true;
    else
        e->n_failed++;
    return rc;
}

int smt_keys_open_data(struct smt_keys *k, uint64_t now, enum smt_epoch_ref ref,
                       uint64_t record_no, const uint8_t *record, size_t plain_len,
                       const struct smt_aead_out *out, unsigned n_out)
{
    int rc;
    struct smt_epoch *e = ref == SMT_EPOCH_PREV ? k->prev : &k->now;
    if (SMT_UNLIKELY(e->n_failed >= max_failed))
        return SMT_EAUTH;
    if (SMT_UNLIKELY(ref == SMT_EPOCH_NEXT))
        rc = next_open(k, now, SMT_RX_DATA, record_no, record, plain_len, out, n_out);
    else
        rc = record_open(k, e, SMT_RX_DATA, record_no, record, plain_len, out, n_out);
    return opened_note(k, e, ref, rc);
}

static int pieces_open(struct smt_keys *k, struct smt_epoch *e, uint64_t record_no,
                       const struct smt_record_pieces *record, const struct smt_aead_out *out,
                       unsigned n_out)
{
    void *ctx = ctx_of(k, e, SMT_RX_DATA);
    if (ctx == NULL)
        return SMT_ECRYPTO;
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    uint8_t aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, e->block->salt[SMT_RX_DATA], record_no);
    smt_record_aad(aad, record_no, record->plain_len);
    return k->env->aead->open_from(ctx, nonce, aad, sizeof(aad), record->in, record->n_in, out,
                                   n_out, record->tag);
}

int smt_keys_open_pieces(struct smt_keys *k, uint64_t now, enum smt_epoch_ref ref,
                         uint64_t record_no, const struct smt_record_pieces *record,
                         const struct smt_aead_out *out, unsigned n_out)
{
    struct smt_epoch *e = ref == SMT_EPOCH_PREV ? k->prev : &k->now;
    if (SMT_UNLIKELY(e->n_failed >= max_failed))
        return SMT_EAUTH;
    int rc = ref == SMT_EPOCH_NEXT ? next_make(k) : 0;
    if (rc == 0)
        rc = pieces_open(k, ref == SMT_EPOCH_NEXT ? k->next : e, record_no, record, out, n_out);
    if (rc == 0 && ref == SMT_EPOCH_NEXT)
        next_enter(k, now);
    return opened_note(k, e, ref, rc);
}

int smt_keys_open_begin(struct smt_keys *k, size_t plain_len, struct smt_open_run *out)
{
    struct smt_epoch *e = &k->now;
    if (SMT_UNLIKELY(e->n_failed >= max_failed))
        return SMT_EAUTH;
    out->aead = k->env->aead;
    out->is_plain = out->aead->alg == SMT_AEAD_NONE;
    out->ctx = ctx_of(k, e, SMT_RX_DATA);
    smt_record_nonce(out->nonce, e->block->salt[SMT_RX_DATA], 0);
    smt_record_aad(out->aad, 0, plain_len);
    return SMT_LIKELY(out->ctx != NULL) ? 0 : SMT_ECRYPTO;
}

static bool replay_seen(const struct smt_epoch *e, uint64_t n)
{
    if (n >= e->ctrl_max)
        return false;
    if (e->replay == NULL || e->ctrl_max - n > SMT_REPLAY_WINDOW)
        return true;
    return e->replay->bits[n / 64 % (SMT_REPLAY_WINDOW / 64)] >> (n % 64) & 1;
}

static void replay_mark(struct smt_keys *k, struct smt_epoch *e, uint64_t n)
{
    if (e->replay == NULL) {
        e->replay = smt_pool_get(k->env->replays);
        if (e->replay == NULL) {
            /* Without a window only larger numbers pass: safe, and loses reordered CTRL. */
            e->ctrl_max = n >= e->ctrl_max ? n + 1 : e->ctrl_max;
            return;
        }
        memset(e->replay, e->ctrl_max > 0 ? 0xff : 0, sizeof(*e->replay));
    }
    uint64_t *bits = e->replay->bits;
    if (n >= e->ctrl_max) {
        uint64_t first = e->ctrl_max;
        if (n - first >= SMT_REPLAY_WINDOW) {
            memset(bits, 0, sizeof(e->replay->bits));
        } else {
            for (uint64_t i = first; i < n; i++)
                bits[i / 64 % (SMT_REPLAY_WINDOW / 64)] &= ~(1ull << (i % 64));
        }
        e->ctrl_max = n + 1;
    }
    bits[n / 64 % (SMT_REPLAY_WINDOW / 64)] |= 1ull << (n % 64);
}

int smt_keys_open_ctrl(struct smt_keys *k, uint64_t now, enum smt_epoch_ref ref,
                       uint64_t record_no, uint8_t *record, size_t plain_len)
{
    struct smt_epoch *e = ref == SMT_EPOCH_PREV ? k->prev : &k->now;
    if (ref != SMT_EPOCH_NEXT && replay_seen(e, record_no))
        return SMT_EAGAIN;
    /* No honest peer counts so far, and the window's own count must not come round. */
    if (SMT_UNLIKELY(e->n_failed >= max_failed || record_no >= max_sealed))
        return SMT_EAUTH;
    const struct smt_aead_out out = {record + SMT_RECORD_HEAD_LEN, plain_len};
    int rc;
    if (SMT_UNLIKELY(ref == SMT_EPOCH_NEXT)) {
        rc = next_open(k, now, SMT_RX_CTRL, record_no, record, plain_len, &out, 1);
        e = &k->now;
    } else {
        rc = record_open(k, e, SMT_RX_CTRL, record_no, record, plain_len, &out, 1);
    }
    if (rc < 0) {
        e->n_failed++;
        return rc;
    }
    replay_mark(k, e, record_no);
    if (ref != SMT_EPOCH_PREV)
        k->confirmed = true;
    return 0;
}

bool smt_keys_is_due(const struct smt_keys *k)
{
    const struct smt_epoch *e = &k->now;
    uint64_t max_records = k->env->max_records;
    return k->want_next || e->n_sealed >= max_records || e->n_blocks >= max_blocks / 2 ||
           e->ctrl_next >= max_records || e->n_failed >= max_failed / 2;
}

bool smt_keys_step(struct smt_keys *k, uint64_t now)
{
    if (SMT_LIKELY(!smt_keys_is_due(k)) || !k->confirmed || next_make(k) < 0)
        return false;
    next_enter(k, now);
    k->confirmed = false;
    return true;
}

void smt_keys_age(struct smt_keys *k, uint64_t now)
{
    if (k->prev == NULL || now < k->prev_until)
        return;
    /* A peer who has heard nothing of this epoch yet still seals under the one before. */
    if (!k->confirmed)
        k->prev_until = now + prev_life;
    else
        epoch_free(k, &k->prev);
}

void smt_keys_rest(struct smt_keys *k)
{
    if (k->env == NULL || k->now.replay == NULL)
        return;
    smt_pool_put(k->env->replays, k->now.replay);
    k->now.replay = NULL;
}
