/* Keys of a conn by epoch: which key seals now, which may still open, when to move on. */
#ifndef SMT_CORE_KEYS_H
#define SMT_CORE_KEYS_H

#include <string.h>

#include "base/pool.h"
#include "base/seal.h"
#include "crypto/keyring.h"
#include "crypto/schedule.h"
#include "wire/wire.h"

enum { SMT_REPLAY_WINDOW = 4096 };

/* Seen CTRL record numbers at and below the largest one. */
struct smt_replay {
    uint64_t bits[SMT_REPLAY_WINDOW / 64];
};

/* Key material of an epoch, in memory for keys. */
struct smt_key_block {
    uint8_t secret[SMT_SECRET_LEN];
    uint8_t salt[4][SMT_SALT_LEN];
    uint8_t raw[]; /* four keys of the cipher's length */
};

/* The four keys of an epoch, by what this side does with them. */
enum smt_key_use { SMT_TX_DATA, SMT_RX_DATA, SMT_TX_CTRL, SMT_RX_CTRL };

struct smt_epoch {
    uint32_t number;
    uint64_t ctrl_next;    /* next CTRL record number to seal */
    uint64_t ctrl_max;     /* largest authentic CTRL record number + 1; 0 = none */
    uint64_t n_sealed, n_blocks; /* under the data key, our direction */
    uint64_t n_failed;     /* opens that failed, both rx keys */
    uint32_t first_run[2]; /* by role: id / 2^32 + 1 of the first record sealed; 0 = none */
    struct smt_replay *replay; /* NULL: everything below ctrl_max counts as seen */
    struct smt_key_block *block;
    struct smt_keyslot slot[4]; /* by enum smt_key_use */
};

/* What the conns of one engine and cipher share. */
struct smt_keys_env {
    const struct smt_aead *aead; /* NULL: not in use */
    struct smt_keyring ring;
    void *ring_mem;
    size_t ring_len;
    struct smt_pool blocks;
    struct smt_pool *replays;    /* lent by the engine */
    uint64_t max_records;
};

/* rekey_records 0 = the limit of docs/wire.md 7. n_cached: expanded contexts kept. */
SMT_MUST_CHECK int smt_keys_env_init(struct smt_keys_env *env, const struct smt_aead *aead,
                                     struct smt_pool *replays, uint32_t n_cached,
                                     uint64_t rekey_records);
void smt_keys_env_fini(struct smt_keys_env *env);

struct smt_keys {
    struct smt_keys_env *env; /* NULL: none of ours, now or ever */
    bool ready;               /* packets may be sent: keys are in, or the profile has none */
    bool initiator;
    bool confirmed;           /* the peer has sent authentic packets of the current epoch */
    bool want_next;           /* rekey asked for */
    struct smt_epoch now;
    struct smt_epoch *prev;   /* older one that may still open; NULL = none */
    struct smt_epoch *next;   /* derived because a record claimed it; NULL = not yet */
    uint64_t prev_until;
};

static inline bool smt_keys_ready(const struct smt_keys *k)
{
    return k->ready;
}

SMT_MUST_CHECK int smt_keys_install(struct smt_keys *k, struct smt_keys_env *env,
                                    const uint8_t secret[SMT_SECRET_LEN], bool initiator);

/* Wipes everything. Harmless on a zeroed struct. */
void smt_keys_fini(struct smt_keys *k);

/* Seals a data record of the current epoch: the n_in pieces, plain_len bytes together, become head
 * ‖ ciphertext ‖ tag at `record`. The first piece may lie at its place, record + 13 (sealed in
 * place). 0, SMT_EKEYLIMIT, SMT_ECRYPTO. */
SMT_MUST_CHECK int smt_keys_seal_data(struct smt_keys *k, uint64_t rpc_id, uint32_t seal,
                                      uint8_t *record, const struct smt_aead_in *in, unsigned n_in,
                                      size_t plain_len);

/* For the first records of messages of neighbouring ids, one after the other with no other use of
 * these keys between them: what they share. */
struct smt_seal_run {
    const struct smt_aead *aead;
    void *ctx;
    bool is_plain; /* SMT_AEAD_NONE: nothing below is needed but `left` */
    uint32_t left; /* records before the limits have to be looked at again; the user counts */
    uint8_t nonce[SMT_AEAD_NONCE_LEN]; /* but for the record number */
    uint8_t aad[SMT_AAD_LEN];          /* the same; smt_record_aad with the length writes it */
};

/* Begins a run at an id, whose upper half all share. As seal_data answers. */
SMT_MUST_CHECK int smt_keys_run_begin(struct smt_keys *k, uint64_t rpc_id,
                                      struct smt_seal_run *out);

/* Seals the pieces to `cipher`, behind its head which the caller has written; `no_be`: the record
 * number in network order. The caller notes it. */
SMT_MUST_CHECK SMT_INLINE int smt_keys_run_seal(struct smt_seal_run *run, uint64_t no_be,
                                                const struct smt_aead_in *in, unsigned n_in,
                                                uint8_t *cipher, size_t plain_len)
{
    assert(!run->is_plain);
    memcpy(run->nonce + SMT_SALT_LEN, &no_be, sizeof(no_be));
    memcpy(run->aad, &no_be, sizeof(no_be));
    return run->aead->seal(run->ctx, run->nonce, run->aad, sizeof(run->aad), in, n_in, cipher,
                           cipher + plain_len);
}

/* The same in a run in plaintext, for a record that lies in its place: its tag. */
SMT_INLINE void smt_keys_run_end_plain(const struct smt_seal_run *run, uint8_t *tag)
{
    assert(run->is_plain);
    (void)run;
    smt_aead_none_tag(tag);
}

/* A record in pieces: its ciphertext, plain_len bytes together, and its tag. */
struct smt_record_pieces {
    const struct smt_aead_in *in;
    unsigned n_in;
    size_t plain_len;
    const uint8_t *tag;
};

/* The same into pieces: 13 bytes of head, ciphertext into `out`, the tag, each where the caller
 * wants it. */
SMT_MUST_CHECK int smt_keys_seal_pieces(struct smt_keys *k, uint64_t rpc_id, uint32_t seal,
                                        const struct smt_aead_in *in, unsigned n_in,
                                        size_t plain_len, uint8_t *head,
                                        const struct smt_aead_out *out, unsigned n_out,
                                        uint8_t *tag);

/* For records of the current epoch that somebody else seals: may one of this id be sealed under its
 * key? As seal_data answers. Then one was; and the key itself, borrowed as long as the epoch. */
SMT_MUST_CHECK int smt_keys_check_data(struct smt_keys *k, uint64_t rpc_id);
static inline uint32_t smt_keys_blocks(size_t plain_len)
{
    return (uint32_t)(plain_len + 15) / 16 + 2;
}
static inline void smt_keys_note_blocks(struct smt_keys *k, uint32_t n_records, uint32_t n_blocks)
{
    k->now.n_sealed += n_records;
    k->now.n_blocks += (uint64_t)n_records * n_blocks;
}
static inline void smt_keys_note_data(struct smt_keys *k, size_t plain_len)
{
    smt_keys_note_blocks(k, 1, smt_keys_blocks(plain_len));
}
void smt_keys_lend_data(const struct smt_keys *k, struct smt_seal_key *out);

/* The same for a CTRL record whose plaintext lies at record + 13. */
SMT_MUST_CHECK int smt_keys_seal_ctrl(struct smt_keys *k, uint8_t *record, size_t plain_len);

/* What an epoch byte of a header may mean. */
enum smt_epoch_ref { SMT_EPOCH_NONE, SMT_EPOCH_NOW, SMT_EPOCH_PREV, SMT_EPOCH_NEXT };
enum smt_epoch_ref smt_keys_find_epoch(const struct smt_keys *k, uint8_t epoch);

/* Opens a whole record (head, ciphertext, tag: record_len bytes) into the pieces of `out`, together
 * plain_len bytes. For SMT_EPOCH_NEXT the next keys are tried and, when the tag passes, become
 * current. 0, SMT_EAUTH, SMT_ECRYPTO. */
SMT_MUST_CHECK int smt_keys_open_data(struct smt_keys *k, uint64_t now, enum smt_epoch_ref ref,
                                      uint64_t record_no, const uint8_t *record, size_t plain_len,
                                      const struct smt_aead_out *out, unsigned n_out);

/* The same for a record that lies in pieces. */
SMT_MUST_CHECK int smt_keys_open_pieces(struct smt_keys *k, uint64_t now, enum smt_epoch_ref ref,
                                        uint64_t record_no, const struct smt_record_pieces *record,
                                        const struct smt_aead_out *out, unsigned n_out);

/* The same for records of the current epoch and of one length, one after the other with no other
 * use of these keys between them but by a call that ends the run: what they share. */
struct smt_open_run {
    const struct smt_aead *aead;
    void *ctx;
    bool is_plain; /* as above */
    uint8_t nonce[SMT_AEAD_NONCE_LEN], aad[SMT_AAD_LEN]; /* but for the record number */
};

/* SMT_EAUTH, SMT_ECRYPTO: none may be opened. */
SMT_MUST_CHECK int smt_keys_open_begin(struct smt_keys *k, size_t plain_len,
                                       struct smt_open_run *out);

/* Opens one into one piece; `no_be`: its number in network order. After a failure, which counts,
 * the run is over; after the first success the caller says that there was one. */
SMT_MUST_CHECK SMT_INLINE int smt_keys_run_open(struct smt_keys *k, struct smt_open_run *run,
                                                uint64_t no_be, const uint8_t *record,
                                                size_t plain_len, uint8_t *out)
{
    const struct smt_aead_out piece = {out, plain_len};
    const uint8_t *cipher = record + SMT_RECORD_HEAD_LEN, *tag = cipher + plain_len;
    int rc;
    if (run->is_plain) {
        memcpy(out, cipher, plain_len);
        rc = smt_aead_none_is_tag(tag) ? 0 : SMT_EAUTH;
    } else {
        memcpy(run->nonce + SMT_SALT_LEN, &no_be, sizeof(no_be));
        memcpy(run->aad, &no_be, sizeof(no_be));
        rc = run->aead->open(run->ctx, run->nonce, run->aad, sizeof(run->aad), cipher, plain_len,
                             &piece, 1, tag);
    }
    if (SMT_UNLIKELY(rc < 0))
        k->now.n_failed++;
    return rc;
}

/* One was opened: the peer has these keys. */
static inline void smt_keys_run_opened(struct smt_keys *k)
{
    k->confirmed = true;
}

/* The same for CTRL, in place, with the replay check before and its mark after. SMT_EAGAIN: seen
 * before or too old. */
SMT_MUST_CHECK int smt_keys_open_ctrl(struct smt_keys *k, uint64_t now, enum smt_epoch_ref ref,
                                      uint64_t record_no, uint8_t *record, size_t plain_len);

/* Is it time for the next epoch? */
bool smt_keys_is_due(const struct smt_keys *k);

/* Moves to the next epoch if it is time (limits, wish) and allowed (the peer confirmed this one).
 * True if moved. */
bool smt_keys_step(struct smt_keys *k, uint64_t now);

/* Drops previous keys that are no longer needed. */
void smt_keys_age(struct smt_keys *k, uint64_t now);

/* Gives the replay windows back: what a conn at rest does. */
void smt_keys_rest(struct smt_keys *k);

#endif
