/* The keyring: contexts in an array, a list by use threaded through their slots by index.
 *
 * A slot in use carries a generation no other expansion of a key ever had; a handle that names the
 * same one still owns the slot. So eviction needs no way back to the handle, and a session may
 * vanish without telling (its context then ages out, though drop is how a key is wiped in time).
 * Empty slots stand at the old end of the list, so taking the oldest serves both cases.
 *
 * The list is by use only as far as it has to be. Of a slot that k others were moved past since it
 * was the newest, no more than k are newer: while that is less than half of the ring it stays where
 * it is when it is used, and the list need not be written for each record of another session (62
 * instructions, and three more lines of cache). What is valid after a call holds all the same: half
 * of the ring stands between such a slot and the old end. */
#include "crypto/keyring.h"

#include <string.h>

enum { NO_SLOT = UINT32_MAX, MAX_SLOTS = 1 << 24 };

static size_t round_64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

size_t smt_keyring_size(const struct smt_aead *aead, uint32_t n_slots)
{
    if (n_slots < SMT_KEYRING_MIN_SLOTS || n_slots > MAX_SLOTS)
        return 0;
    return n_slots * round_64(aead->ctx_len) + round_64(n_slots * sizeof(struct smt_keyring_slot));
}

int smt_keyring_init(struct smt_keyring *ring, const struct smt_aead *aead, uint32_t n_slots,
                     void *mem)
{
    size_t size = smt_keyring_size(aead, n_slots);
    if (size == 0 || mem == NULL || ((uintptr_t)mem & 63) != 0)
        return SMT_EINVAL;
    memset(mem, 0, size);
    size_t stride = round_64(aead->ctx_len);
    *ring = (struct smt_keyring){
        .aead = aead,
        .ctxs = mem,
        .slots = (struct smt_keyring_slot *)(void *)((uint8_t *)mem + n_slots * stride),
        .ctx_stride = stride,
        .n_slots = n_slots,
        .n_recent = 1 + (n_slots - SMT_KEYRING_MIN_SLOTS) / 2,
        .newest = 0,
        .oldest = n_slots - 1,
    };
    for (uint32_t i = 0; i < n_slots; i++) {
        ring->slots[i].newer = i == 0 ? (uint32_t)NO_SLOT : i - 1;
        ring->slots[i].older = i == n_slots - 1 ? (uint32_t)NO_SLOT : i + 1;
    }
    return 0;
}

static void *slot_ctx(const struct smt_keyring *ring, uint32_t i)
{
    return ring->ctxs + i * ring->ctx_stride;
}

void smt_keyring_fini(struct smt_keyring *ring)
{
    for (uint32_t i = 0; i < ring->n_slots; i++) {
        if (ring->slots[i].gen != 0)
            ring->aead->fini(slot_ctx(ring, i));
    }
    memset(ring, 0, sizeof(*ring));
}

static void unlink_slot(struct smt_keyring *ring, uint32_t i)
{
    struct smt_keyring_slot *s = &ring->slots[i];
    if (s->newer == NO_SLOT)
        ring->newest = s->older;
    else
        ring->slots[s->newer].older = s->older;
    if (s->older == NO_SLOT)
        ring->oldest = s->newer;
    else
        ring->slots[s->older].newer = s->newer;
}

static void make_newest(struct smt_keyring *ring, uint32_t i)
{
    ring->slots[i].moved = ++ring->n_moves;
    if (ring->newest == i)
        return;
    unlink_slot(ring, i);
    ring->slots[i].newer = NO_SLOT;
    ring->slots[i].older = ring->newest;
    ring->slots[ring->newest].newer = i;
    ring->newest = i;
}

static void make_oldest(struct smt_keyring *ring, uint32_t i)
{
    if (ring->oldest == i)
        return;
    unlink_slot(ring, i);
    ring->slots[i].older = NO_SLOT;
    ring->slots[i].newer = ring->oldest;
    ring->slots[ring->oldest].older = i;
    ring->oldest = i;
}

static bool owns_slot(const struct smt_keyring *ring, const struct smt_keyslot *handle)
{
    return handle->gen != 0 && handle->slot < ring->n_slots &&
           ring->slots[handle->slot].gen == handle->gen;
}

/* Puts raw_key into slot i, which may hold another key. On failure the slot is empty. */
static int fill_slot(struct smt_keyring *ring, uint32_t i, const uint8_t *raw_key)
{
    struct smt_keyring_slot *s = &ring->slots[i];
    void *ctx = slot_ctx(ring, i);
    if (s->gen == 0)
        return ring->aead->init(ctx, raw_key);

    int err = ring->aead->rekey(ctx, raw_key);
    if (err != 0) {
        ring->aead->fini(ctx);
        s->gen = 0;
    }
    return err;
}

void *smt_keyring_get_slow(struct smt_keyring *ring, struct smt_keyslot *handle,
                           const uint8_t *raw_key)
{
    if (SMT_LIKELY(owns_slot(ring, handle))) {
        ring->hits++;
        make_newest(ring, handle->slot);
        return slot_ctx(ring, handle->slot);
    }

    ring->misses++;
    uint32_t i = ring->oldest;
    if (fill_slot(ring, i, raw_key) != 0) {
        *handle = (struct smt_keyslot){0};
        return NULL;
    }
    ring->slots[i].gen = ++ring->last_gen;
    *handle = (struct smt_keyslot){.gen = ring->last_gen, .slot = i};
    make_newest(ring, i);
    return slot_ctx(ring, i);
}

void smt_keyring_drop(struct smt_keyring *ring, struct smt_keyslot *handle)
{
    if (owns_slot(ring, handle)) {
        ring->aead->fini(slot_ctx(ring, handle->slot));
        ring->slots[handle->slot].gen = 0;
        make_oldest(ring, handle->slot);
    }
    *handle = (struct smt_keyslot){0};
}
