/* Records that come in slices (docs/wire.md 5): collected until they are whole. Memory is bounded
 * whatever comes: beyond MAX records under way the one that has waited longest goes. Nothing here
 * is authentic; slices of one record only have to agree with each other. */
#ifndef SMT_CORE_BURST_H
#define SMT_CORE_BURST_H

#include "base/list.h"
#include "base/map.h"
#include "base/pool.h"
#include "wire/wire.h"

enum {
    SMT_BURSTS_MAX = 256,
    SMT_BURST_MAX_RECORD = SMT_RECORD_MAX_PLAIN + SMT_RECORD_OVERHEAD,
};

/* One record under way. */
struct smt_burst {
    struct smt_list link;    /* by when it began, oldest first */
    struct smt_map_key key;
    uint32_t conn;           /* slot */
    struct smt_hdr hdr;      /* of its first slice to come */
    uint64_t got;            /* a bit a slice */
    uint32_t n_slices, n_got, n_ce;
    uint8_t record[SMT_BURST_MAX_RECORD];
};

struct smt_bursts {
    struct smt_pool pool;
    struct smt_map map;
    struct smt_list all;
    bool is_on;
};

/* Nothing is allocated for it before the first slice but the pool's first chunk. */
SMT_MUST_CHECK int smt_bursts_init(struct smt_bursts *b, const uint64_t seed[2]);
void smt_bursts_fini(struct smt_bursts *b);

enum smt_slice {
    SMT_SLICE_TAKEN,     /* *out has what is there of the record */
    SMT_SLICE_WHOLE,     /* and that is all of it: give it back by put */
    SMT_SLICE_DUPLICATE,
    SMT_SLICE_BAD,       /* does not fit its record, or the others */
    SMT_SLICE_NO_MEMORY,
};

/* Takes slice `index` of a record of that conn: the `len` bytes behind its clear header. *n_lost is
 * raised by records that had to go. */
enum smt_slice smt_bursts_take(struct smt_bursts *b, uint32_t conn, const struct smt_hdr *hdr,
                               uint32_t index, const uint8_t *bytes, size_t len,
                               struct smt_burst **out, uint64_t *n_lost);
void smt_bursts_put(struct smt_bursts *b, struct smt_burst *burst);

/* Forgets what a conn has under way. */
void smt_bursts_forget(struct smt_bursts *b, uint32_t conn);

/* In how many slices a record comes. */
static inline uint32_t smt_slices_of(const struct smt_hdr *hdr)
{
    return ((uint32_t)hdr->record_len + hdr->slice_len - 1) / hdr->slice_len;
}

/* Bytes of slice `index` as hdr says; 0 when there is no such slice. */
static inline uint32_t smt_slice_len(const struct smt_hdr *hdr, uint32_t index)
{
    uint64_t at = (uint64_t)index * hdr->slice_len;
    if (at >= hdr->record_len)
        return 0;
    uint32_t left = hdr->record_len - (uint32_t)at;
    return left < hdr->slice_len ? left : hdr->slice_len;
}

#endif
