/* Sealing by somebody else: what the core asks of a NIC that seals records as they leave, and what
 * the NIC needs to know.
 *
 * A *context* is one key in the NIC. The core writes a whole record but for its encryption and its
 * tag into memory that the NIC gives; the NIC seals it on its way out, in slices of one burst
 * (docs/wire.md 5). Whoever seals, the same bytes appear on the wire. */
#ifndef SMT_BASE_SEAL_H
#define SMT_BASE_SEAL_H

#include "base/addr.h"

struct smt_seal_key {
    const uint8_t *key; /* borrowed */
    uint32_t key_len;
    const uint8_t *salt; /* 4 bytes, borrowed */
};

/* A record that is about to leave: clear header, then the record. */
struct smt_seal_record {
    const struct smt_addr *to;
    uint64_t record_no;
    uint32_t hdr_len;    /* of the clear header, repeated in every packet */
    uint32_t record_len; /* head and tag included */
    uint32_t slice_len;  /* record_len: one packet */
    uint8_t prio;
};

struct smt_sealer {
    void *arg;
    uint32_t min_len; /* shortest plaintext worth it */

    /* A context for a key. *ctx is given (close) and never 0. SMT_EAGAIN: none is free now;
     * SMT_EUNSUPPORTED: never for keys like this. */
    int (*open)(void *arg, const struct smt_seal_key *key, uint64_t *ctx);
    void (*close)(void *arg, uint64_t ctx);

    /* Place for header and record; the caller fills all of it but the tag at once and goes on. It
     * leaves with the next flush at the latest, sealed under record_no. SMT_EAGAIN: full, flush and
     * try again; SMT_ESTATE: the context is gone (evicted, or lost with an error), nothing was
     * taken. */
    int (*reserve)(void *arg, uint64_t ctx, const struct smt_seal_record *record, uint8_t **out);
};

#endif
