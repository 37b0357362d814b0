/* Acknowledgements of whole messages: they have time, so they wait for company. */
#ifndef SMT_CORE_ACKS_H
#define SMT_CORE_ACKS_H

#include "base/list.h"

struct smt_conn;
struct smt_engine;
struct smt_tx_sink;

enum { SMT_ACKS_BLOCKS = 4, SMT_ACKS_MAX_LEN = SMT_ACKS_BLOCKS * 18 };

/* Ids first … first + 63 (as they go into frames), first being a multiple of 64. */
struct smt_acks_block {
    uint64_t first;
    uint64_t bits; /* never 0 */
};

struct smt_acks {
    uint32_t n_blocks;
    uint32_t n;            /* ids in all of them */
    uint64_t ride_at;      /* from when on they may ride in data */
    uint64_t at;           /* when the conn must look at them; SMT_NEVER */
    struct smt_list due;   /* in the engine's list of those that may leave alone */
    struct smt_acks_block blocks[SMT_ACKS_BLOCKS];
};

void smt_acks_init(struct smt_acks *a);

/* All `len` bytes of the message with this id (as it goes into the frame) have been
 * authenticated. */
void smt_acks_add(struct smt_conn *c, uint64_t id, uint32_t len);

/* Bytes of the frames that wait. */
size_t smt_acks_len(const struct smt_acks *a);

/* The same if it is time for them to ride in data, else 0. */
static inline size_t smt_acks_riding_len(const struct smt_acks *a, uint64_t now)
{
    return a->n > 0 && now >= a->ride_at ? smt_acks_len(a) : 0;
}

/* Writes as many of the frames as `room` takes, which are then no longer due; how many bytes. */
size_t smt_acks_take(struct smt_conn *c, uint8_t *out, size_t room);

/* Takes one, which one does not matter; false when there is none. */
bool smt_acks_pop(struct smt_conn *c, uint64_t *id);

/* Sends those that are due in packets of their own. False when the sink is full. */
bool smt_acks_send(struct smt_engine *e, const struct smt_tx_sink *sink);

/* `at` has come. */
void smt_acks_tick(struct smt_conn *c, uint64_t now);

/* The conn is over. */
void smt_acks_drop(struct smt_conn *c);

#endif
