/* Linear probing with backward-shift deletion: after a delete, the entries behind the hole move up
 * to where they would have gone without it, so there are no tombstones and never a rehash of an
 * unchanged number of entries. At most 5/8 of the slots are used: runs stay short. The hash of an
 * entry is computed again when it is moved (two multiplications) rather than stored.
 *
 * SipHash was the alternative to the keyed products: three times the work for each packet, against
 * an attacker who sees no hash and no order of iteration. */
#include "base/map.h"

#include "base/mem.h"

enum { MIN_SLOTS = 16 };

static const uint32_t max_slots = 1u << 30;

/* What an unused map points at, so that get needs no test for it. Never written: limit is 0. */
static const struct smt_map_slot no_slot;

static bool map_is_unused(const struct smt_map *m)
{
    return m->slots == NULL || m->slots == &no_slot;
}

static uint32_t limit_of(uint32_t n_slots)
{
    return n_slots / 8 * 5;
}

static uint32_t home_of(const struct smt_map *m, struct smt_map_key key)
{
    return (uint32_t)smt_map_hash(m, key) & m->mask;
}

static size_t slots_len(uint32_t n_slots)
{
    return (size_t)n_slots * sizeof(struct smt_map_slot);
}

/* Spreads the two seed words to four (a bijection of each, so no entropy is lost). */
static uint64_t seed_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

int smt_map_init(struct smt_map *m, const uint64_t seed[2], uint32_t reserve)
{
    *m = (struct smt_map){.slots = (struct smt_map_slot *)&no_slot};
    m->k[0] = seed_mix(seed[0] + 0x9e3779b97f4a7c15);
    m->k[1] = seed_mix(seed[1] + 0xd1b54a32d192ed03);
    m->k[2] = seed_mix(seed[0] + 0x3c6ef372fe94f82a);
    m->k[3] = seed_mix(seed[1] + 0xa36a9465a325da06);
    return smt_map_reserve(m, reserve);
}

void smt_map_fini(struct smt_map *m)
{
    if (!map_is_unused(m))
        smt_mem_block_free(m->slots, slots_len(m->mask + 1));
    smt_wipe(m, sizeof(*m));
}

/* The slot of `key`, or the free one where it would go. */
static struct smt_map_slot *slot_find(const struct smt_map *m, struct smt_map_key key)
{
    uint32_t i = home_of(m, key);
    for (;;) {
        struct smt_map_slot *s = &m->slots[i];
        if (s->val == NULL || (s->key.a == key.a && s->key.b == key.b))
            return s;
        i = (i + 1) & m->mask;
    }
}

static int map_resize(struct smt_map *m, uint32_t n_slots)
{
    struct smt_map_slot *slots = smt_mem_block(slots_len(n_slots));
    if (slots == NULL)
        return SMT_ENOMEM;
    struct smt_map old = *m;
    m->slots = slots;
    m->mask = n_slots - 1;
    m->limit = limit_of(n_slots);
    if (map_is_unused(&old))
        return 0;
    for (uint32_t i = 0; i <= old.mask; i++) {
        if (old.slots[i].val != NULL)
            *slot_find(m, old.slots[i].key) = old.slots[i];
    }
    smt_mem_block_free(old.slots, slots_len(old.mask + 1));
    return 0;
}

int smt_map_reserve(struct smt_map *m, uint32_t n)
{
    if (n <= m->limit)
        return 0;
    uint32_t n_slots = MIN_SLOTS;
    while (limit_of(n_slots) < n) {
        if (n_slots == max_slots)
            return SMT_ENOMEM;
        n_slots *= 2;
    }
    return map_resize(m, n_slots);
}

int smt_map_put(struct smt_map *m, struct smt_map_key key, void *val)
{
    assert(val != NULL);
    struct smt_map_slot *s = slot_find(m, key);
    if (s->val == NULL) {
        if (m->n == m->limit) {
            int rc = smt_map_reserve(m, m->n + 1);
            if (rc < 0)
                return rc;
            s = slot_find(m, key);
        }
        s->key = key;
        m->n++;
    }
    s->val = val;
    return 0;
}

void *smt_map_del(struct smt_map *m, struct smt_map_key key)
{
    struct smt_map_slot *s = slot_find(m, key);
    void *val = s->val;
    if (val == NULL)
        return NULL;
    m->n--;
    uint32_t hole = (uint32_t)(s - m->slots);
    for (uint32_t i = (hole + 1) & m->mask; m->slots[i].val != NULL; i = (i + 1) & m->mask) {
        /* An entry may move to the hole if that is not before its home. */
        uint32_t home = home_of(m, m->slots[i].key);
        if (((i - home) & m->mask) >= ((i - hole) & m->mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].val = NULL;
    return val;
}

bool smt_map_next(const struct smt_map *m, uint32_t *pos, struct smt_map_key *key, void **val)
{
    if (map_is_unused(m))
        return false;
    for (uint32_t i = *pos; i <= m->mask; i++) {
        const struct smt_map_slot *s = &m->slots[i];
        if (s->val == NULL)
            continue;
        *pos = i + 1;
        if (key != NULL)
            *key = s->key;
        if (val != NULL)
            *val = s->val;
        return true;
    }
    *pos = m->mask + 1;
    return false;
}
