/* Key epochs of one conn (docs/wire.md 3 and 7). It owns raw keys, counters of use and the replay windows of CTRL
 * records; expanded contexts live in the engine's ring, so that a conn at rest holds raw keys only.
 *
 * One epoch number serves both directions: whoever sees a record of epoch n+1 open under the next keys moves his
 * own sealing there too. That keeps at most three epochs alive and needs no frame to agree on. Both data and
 * CTRL keys move together. */
#include "core/keys.h"

#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "wire/wire.h"

/* docs/wire.md 7: limits under one key. */
static const uint64_t max_blocks = 1ull << 34;
static const uint64_t max_sealed = 1ull << 28;
static const uint64_t max_failed = 1ull << 36;

/* How long a superseded key may still open: far above any reordering, far below an idle age. */
static const uint64_t prev_life = 2 * SMT_SEC;

static int epoch_make(const struct smt_keys *k, const uint8_t secret[SMT_SECRET_LEN],
                      uint32_t number, struct smt_epoch *out)
{
    struct smt_epoch_keys keys;
    int rc = smt_schedule_keys(secret, k->aead->key_len, &keys);
    if (rc < 0)
        return rc;
    *out = (struct smt_epoch){.number = number};
    out->tx_data.raw = k->initiator ? keys.i_data : keys.r_data;
    out->rx_data.raw = k->initiator ? keys.r_data : keys.i_data;
    out->tx_ctrl.raw = k->initiator ? keys.i_ctrl : keys.r_ctrl;
    out->rx_ctrl.raw = k->initiator ? keys.r_ctrl : keys.i_ctrl;
    smt_wipe(&keys, sizeof(keys));
    return 0;
}

static void epoch_fini(struct smt_keys *k, struct smt_epoch *e)
{
    struct smt_live_key *all[] = {&e->tx_data, &e->rx_data, &e->tx_ctrl, &e->rx_ctrl};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(all); i++)
        smt_keyring_drop(k->ring, &all[i]->slot);
    if (e->replay != NULL)
        smt_pool_put(k->replays, e->replay);
    smt_wipe(e, sizeof(*e));
}

int smt_keys_install(struct smt_keys *k, const struct smt_aead *aead, struct smt_keyring *ring,
                     struct smt_pool *replays, const uint8_t secret[SMT_SECRET_LEN],
                     bool initiator, uint64_t max_records)
{
    assert(k->aead == NULL);
    struct smt_keys made = {.aead = aead, .ring = ring, .replays = replays, .initiator = initiator};
    made.max_records = max_records > 0 && max_records < max_sealed ? max_records : max_sealed;
    int rc = epoch_make(&made, secret, 1, &made.now);
    if (rc < 0)
        return rc;
    memcpy(made.secret, secret, SMT_SECRET_LEN);
    *k = made;
    smt_wipe(&made, sizeof(made));
    return 0;
}

void smt_keys_fini(struct smt_keys *k)
{
    if (k->aead == NULL)
        return;
    epoch_fini(k, &k->now);
    if (k->prev != NULL) {
        epoch_fini(k, k->prev);
        smt_mem_free(k->prev);
    }
    smt_wipe(k, sizeof(*k));
}

static int record_seal(struct smt_keys *k, struct smt_live_key *key, uint64_t record_no,
                       uint8_t *record, const struct smt_aead_in *in, unsigned n_in,
                       size_t plain_len)
{
    void *ctx = smt_keyring_get(k->ring, &key->slot, key->raw.key);
    if (ctx == NULL)
        return SMT_ECRYPTO;
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    uint8_t aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, key->raw.salt, record_no);
    smt_record_aad(aad, record_no, plain_len);
    smt_record_head_encode(record, record_no, plain_len);
    uint8_t *plain = record + SMT_RECORD_HEAD_LEN;
    return k->aead->seal(ctx, nonce, aad, sizeof(aad), in, n_in, plain, plain + plain_len);
}

int smt_keys_seal_data(struct smt_keys *k, uint64_t record_no, uint8_t *record,
                       const struct smt_aead_in *in, unsigned n_in, size_t plain_len)
{
    struct smt_epoch *e = &k->now;
    if (SMT_UNLIKELY(e->n_sealed >= max_sealed || e->n_blocks >= max_blocks))
        return SMT_EKEYLIMIT;
    e->n_sealed++;
    e->n_blocks += (plain_len + 15) / 16 + 2;
    return record_seal(k, &e->tx_data, record_no, record, in, n_in, plain_len);
}

int smt_keys_seal_ctrl(struct smt_keys *k, uint8_t *record, size_t plain_len)
{
    if (SMT_UNLIKELY(k->now.ctrl_next >= max_sealed))
        return SMT_EKEYLIMIT;
    const struct smt_aead_in in = {record + SMT_RECORD_HEAD_LEN, plain_len};
    return record_seal(k, &k->now.tx_ctrl, k->now.ctrl_next++, record, &in, 1, plain_len);
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

static int record_open(struct smt_keys *k, struct smt_live_key *key, uint64_t record_no,
                       const uint8_t *record, size_t plain_len, const struct smt_aead_out *out,
                       unsigned n_out)
{
    void *ctx = smt_keyring_get(k->ring, &key->slot, key->raw.key);
    if (ctx == NULL)
        return SMT_ECRYPTO;
    uint8_t nonce[SMT_AEAD_NONCE_LEN];
    uint8_t aad[SMT_AAD_LEN];
    smt_record_nonce(nonce, key->raw.salt, record_no);
    smt_record_aad(aad, record_no, plain_len);
    const uint8_t *cipher = record + SMT_RECORD_HEAD_LEN;
    return k->aead->open(ctx, nonce, aad, sizeof(aad), cipher, plain_len, out, n_out,
                         cipher + plain_len);
}

/* Makes `next` (made from next_secret) the current epoch, the current one the previous. */
static int epoch_advance(struct smt_keys *k, uint64_t now, struct smt_epoch *next,
                         const uint8_t next_secret[SMT_SECRET_LEN])
{
    struct smt_epoch *prev = k->prev;
    if (prev == NULL) {
        prev = smt_mem_alloc(sizeof(*prev));
        if (prev == NULL)
            return SMT_ENOMEM;
    } else {
        epoch_fini(k, prev);
    }
    *prev = k->now;
    k->prev = prev;
    k->prev_until = now + prev_life;
    k->now = *next;
    smt_wipe(next, sizeof(*next));
    memcpy(k->secret, next_secret, SMT_SECRET_LEN);
    k->want_next = false;
    return 0;
}

static int next_make(struct smt_keys *k, struct smt_epoch *next, uint8_t secret[SMT_SECRET_LEN])
{
    int rc = smt_schedule_next(k->secret, secret);
    if (rc < 0)
        return rc;
    rc = epoch_make(k, secret, k->now.number + 1, next);
    if (rc < 0)
        smt_wipe(secret, SMT_SECRET_LEN);
    return rc;
}

/* A record that claims the next epoch: derive, try, and only when the tag passes move there. */
static int next_open(struct smt_keys *k, uint64_t now, bool ctrl, uint64_t record_no,
                     const uint8_t *record, size_t plain_len, const struct smt_aead_out *out,
                     unsigned n_out)
{
    /* The initiator of a step waits for our confirmation, so nothing genuine skips an epoch. */
    struct smt_epoch next;
    uint8_t secret[SMT_SECRET_LEN];
    int rc = next_make(k, &next, secret);
    if (rc < 0)
        return rc;
    rc = record_open(k, ctrl ? &next.rx_ctrl : &next.rx_data, record_no, record, plain_len, out,
                     n_out);
    if (rc == 0)
        rc = epoch_advance(k, now, &next, secret);
    if (rc < 0)
        epoch_fini(k, &next);
    smt_wipe(secret, sizeof(secret));
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
        rc = next_open(k, now, false, record_no, record, plain_len, out, n_out);
    else
        rc = record_open(k, &e->rx_data, record_no, record, plain_len, out, n_out);
    if (SMT_LIKELY(rc == 0))
        k->confirmed = ref == SMT_EPOCH_PREV ? k->confirmed : true;
    else
        e->n_failed++;
    return rc;
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
        e->replay = smt_pool_get(k->replays);
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
    if (SMT_UNLIKELY(e->n_failed >= max_failed))
        return SMT_EAUTH;
    const struct smt_aead_out out = {record + SMT_RECORD_HEAD_LEN, plain_len};
    int rc;
    if (SMT_UNLIKELY(ref == SMT_EPOCH_NEXT)) {
        rc = next_open(k, now, true, record_no, record, plain_len, &out, 1);
        e = &k->now;
    } else {
        rc = record_open(k, &e->rx_ctrl, record_no, record, plain_len, &out, 1);
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

bool smt_keys_step(struct smt_keys *k, uint64_t now)
{
    const struct smt_epoch *e = &k->now;
    bool due = k->want_next || e->n_sealed >= k->max_records || e->n_blocks >= max_blocks / 2 ||
               e->ctrl_next >= k->max_records;
    if (SMT_LIKELY(!due) || !k->confirmed)
        return false;
    struct smt_epoch next;
    uint8_t secret[SMT_SECRET_LEN];
    if (next_make(k, &next, secret) < 0)
        return false;
    bool moved = epoch_advance(k, now, &next, secret) == 0;
    if (moved)
        k->confirmed = false;
    else
        epoch_fini(k, &next);
    smt_wipe(secret, sizeof(secret));
    return moved;
}

void smt_keys_age(struct smt_keys *k, uint64_t now)
{
    if (k->prev == NULL || now < k->prev_until)
        return;
    epoch_fini(k, k->prev);
    smt_mem_free(k->prev);
    k->prev = NULL;
}

void smt_keys_rest(struct smt_keys *k)
{
    if (k->aead == NULL)
        return;
    if (k->now.replay != NULL) {
        smt_pool_put(k->replays, k->now.replay);
        k->now.replay = NULL;
    }
}
