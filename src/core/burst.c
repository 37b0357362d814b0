/* Slices become records. Owns the buffers and the rule which of them goes when there are too many.
 *
 * A record is known by conn, rpc id with role, and seal counter: slices of different counters are
 * never mixed. What is left of a record that lost a slice stays until newer ones push it out or its
 * conn rests; its bytes come again under another counter. */
#include "core/burst.h"

#include <string.h>

enum { FIRST_BURSTS = 4 };

int smt_bursts_init(struct smt_bursts *b, const uint64_t seed[2])
{
    smt_list_init(&b->all);
    int rc = smt_pool_init(&b->pool, sizeof(struct smt_burst), FIRST_BURSTS, SMT_BURSTS_MAX);
    if (rc == 0)
        rc = smt_map_init(&b->map, seed, SMT_BURSTS_MAX);
    if (rc < 0)
        smt_pool_fini(&b->pool);
    b->is_on = rc == 0;
    return rc;
}

void smt_bursts_fini(struct smt_bursts *b)
{
    smt_map_fini(&b->map);
    smt_pool_fini(&b->pool);
}

void smt_bursts_put(struct smt_bursts *b, struct smt_burst *burst)
{
    (void)smt_map_del(&b->map, burst->key);
    smt_list_remove(&burst->link);
    smt_pool_put(&b->pool, burst);
}

void smt_bursts_forget(struct smt_bursts *b, uint32_t conn)
{
    if (!b->is_on)
        return;
    SMT_LIST_FOREACH_SAFE(l, tmp, &b->all) {
        struct smt_burst *burst = SMT_CONTAINER_OF(l, struct smt_burst, link);
        if (burst->conn == conn)
            smt_bursts_put(b, burst);
    }
}

static struct smt_burst *burst_begin(struct smt_bursts *b, uint32_t conn, struct smt_map_key key,
                                     const struct smt_hdr *hdr, uint64_t *n_lost)
{
    if (smt_pool_n_live(&b->pool) >= SMT_BURSTS_MAX) {
        smt_bursts_put(b, SMT_CONTAINER_OF(smt_list_first(&b->all), struct smt_burst, link));
        (*n_lost)++;
    }
    struct smt_burst *burst = smt_pool_get(&b->pool);
    if (burst == NULL)
        return NULL;
    if (smt_map_put(&b->map, key, burst) < 0) {
        smt_pool_put(&b->pool, burst);
        return NULL;
    }
    smt_list_init(&burst->link);
    smt_list_push_tail(&b->all, &burst->link);
    burst->key = key;
    burst->conn = conn;
    burst->hdr = *hdr;
    burst->got = 0;
    burst->n_slices = smt_slices_of(hdr);
    burst->n_got = burst->n_ce = 0;
    return burst;
}

static bool agrees(const struct smt_hdr *a, const struct smt_hdr *b)
{
    return a->record_len == b->record_len && a->slice_len == b->slice_len &&
           a->offset == b->offset && a->message_len == b->message_len && a->epoch == b->epoch;
}

enum smt_slice smt_bursts_take(struct smt_bursts *b, uint32_t conn, const struct smt_hdr *hdr,
                               uint32_t index, const uint8_t *bytes, size_t len,
                               struct smt_burst **out, uint64_t *n_lost)
{
    uint32_t slice = smt_slice_len(hdr, index);
    if (slice == 0 || len < slice || index >= SMT_MAX_SLICES ||
        (uint32_t)hdr->slice_len * SMT_MAX_SLICES < hdr->record_len)
        return SMT_SLICE_BAD;
    const struct smt_map_key key = {hdr->rpc_id, (uint64_t)conn << 32 | hdr->seal};
    struct smt_burst *burst = smt_map_get(&b->map, key);
    if (burst == NULL)
        burst = burst_begin(b, conn, key, hdr, n_lost);
    if (burst == NULL)
        return SMT_SLICE_NO_MEMORY;
    if (!agrees(&burst->hdr, hdr))
        return SMT_SLICE_BAD;
    if (burst->got >> index & 1)
        return SMT_SLICE_DUPLICATE;
    burst->got |= 1ull << index;
    memcpy(burst->record + (size_t)index * hdr->slice_len, bytes, slice);
    *out = burst;
    return ++burst->n_got < burst->n_slices ? SMT_SLICE_TAKEN : SMT_SLICE_WHOLE;
}
