/* A bounded cache of expanded cipher contexts, so that an idle session keeps only its raw keys.
 *
 * A session holds a handle beside each raw key and asks the ring for the context when it has a
 * record to seal or open. If the context was given away meanwhile, the key is expanded anew
 * (0.1 us by ipsec-mb, 0.5 us by OpenSSL). Contexts go that were not used lately. All O(1).
 *
 * A ring serves one cipher row and one thread. It takes no memory after init as long as nothing is
 * dropped: an evicted context takes its new key in place. */
#ifndef SMT_CRYPTO_KEYRING_H
#define SMT_CRYPTO_KEYRING_H

#include "crypto/aead.h"

enum { SMT_KEYRING_MIN_SLOTS = 4 };

/* Where a key's context lies, if it still does. All zero: nowhere. May be moved and copied; of two
 * copies only the one used last finds its context without expanding the key again. */
struct smt_keyslot {
    uint64_t gen; /* 64 bits: a stale handle never meets a later owner of its slot */
    uint32_t slot;
};

struct smt_keyring_slot {
    uint64_t gen;   /* 0: no context here */
    uint64_t moved; /* n_moves when it was made the newest */
    uint32_t newer, older;
};

struct smt_keyring {
    const struct smt_aead *aead;
    uint8_t *ctxs;
    struct smt_keyring_slot *slots;
    size_t ctx_stride;
    uint64_t last_gen;
    uint64_t n_moves;
    uint32_t n_slots;
    uint32_t n_recent; /* a slot with fewer moves behind it stays where it is when it is used */
    uint32_t newest, oldest;
    uint64_t hits, misses; /* read freely; a miss is one expansion of a key */
};

/* Bytes of memory a ring of n_slots contexts of `aead` needs. 0 when n_slots is out of range (below
 * SMT_KEYRING_MIN_SLOTS or absurdly many). */
size_t smt_keyring_size(const struct smt_aead *aead, uint32_t n_slots);

/* Makes an empty ring in `mem` (smt_keyring_size bytes, aligned to 64, lent until fini; it will
 * hold keys: smt_mem_secret is the place to take it from). SMT_EINVAL for sizes out of range. */
SMT_MUST_CHECK int smt_keyring_init(struct smt_keyring *ring, const struct smt_aead *aead,
                                    uint32_t n_slots, void *mem);

/* Releases and wipes every context; handles become stale. Harmless on an all-zero ring. */
void smt_keyring_fini(struct smt_keyring *ring);

/* The part of get for a key that was not used lately. */
SMT_MUST_CHECK void *smt_keyring_get_slow(struct smt_keyring *ring, struct smt_keyslot *handle,
                                          const uint8_t *raw_key);

/* The context of a key that was used lately; NULL: it was not, get it. */
static inline void *smt_keyring_recent(struct smt_keyring *ring, const struct smt_keyslot *handle)
{
    uint32_t i = handle->slot;
    if (SMT_UNLIKELY(i >= ring->n_slots))
        return NULL;
    const struct smt_keyring_slot *s = &ring->slots[i];
    if (SMT_UNLIKELY(handle->gen != s->gen || handle->gen == 0 ||
                     ring->n_moves - s->moved >= ring->n_recent))
        return NULL;
    ring->hits++;
    return ring->ctxs + i * ring->ctx_stride;
}

/* The context for `raw_key` (borrowed, the row's key_len bytes), which must be the same for the
 * life of the handle. The four contexts got last, this one among them, are valid; an earlier one
 * may be evicted by this call. NULL when the cipher back end failed: the handle is then as if
 * never used. */
SMT_MUST_CHECK static inline void *smt_keyring_get(struct smt_keyring *ring,
                                                   struct smt_keyslot *handle,
                                                   const uint8_t *raw_key)
{
    void *ctx = smt_keyring_recent(ring, handle);
    return SMT_LIKELY(ctx != NULL) ? ctx : smt_keyring_get_slow(ring, handle, raw_key);
}

/* Ends a key: its context, if there still is one, is wiped and released, the handle zeroed. */
void smt_keyring_drop(struct smt_keyring *ring, struct smt_keyslot *handle);

#endif
