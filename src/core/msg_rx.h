/* The receiving side of one message: where its bytes go, which have been accepted, how much was
 * granted. */
#ifndef SMT_CORE_MSG_RX_H
#define SMT_CORE_MSG_RX_H

#include "base/bufpool.h"
#include "base/mem.h"
#include "base/ranges.h"
#include "core/book.h"
#include "core/engine.h"

struct smt_msg_rx {
    uint32_t len;         /* authenticated message length, once `known` */
    uint32_t granted;     /* bytes the sender may send, as far as we told or know */
    bool known;
    bool whole;           /* all bytes accepted */
    bool counted;         /* among those that come at once (incast.c) */
    uint8_t grant_prio;
    uint32_t piece;       /* data bytes of its longest record so far */
    uint64_t came_at;     /* when data of it last came, or it was granted anew after all had come */
    uint64_t came_bytes;  /* what the engine had received then */
    /* Zero at the end of a message, as at its beginning (smt_msg_rx_reset). */
    uint8_t *data;        /* where message byte 0 goes; NULL: no memory yet */
    uint8_t *store;       /* library memory to give back, or NULL (the user's buffer) */
    uint32_t store_len;   /* while there is some */
    uint32_t incoming;    /* what of it counts as on its way (grant.c) */
    uint32_t blind;       /* the same, sent without a grant (incast.c) */
    uint32_t opened;      /* kernel.h: bytes that came out of records */
    uint64_t got_at;      /* as came_at, but for grants */
    /* From here on each part leaves what is its own as it found it, message after message. */
    struct smt_list held; /* kernel.h: packets of records that are not whole */
    struct smt_ranges got;
    struct smt_book_entry entry; /* in the grant book */
    struct smt_heap_node waits;  /* for memory (memory.c) */
};

/* Once, before the first message: `m` is zeroed. */
void smt_msg_rx_make(struct smt_msg_rx *m, struct smt_ranges_pool *ranges);

/* Before each message: nothing is known of it. */
SMT_INLINE void smt_msg_rx_clear(struct smt_msg_rx *m)
{
    static_assert(offsetof(struct smt_msg_rx, data) == 32, "two vectors");
    smt_zero_stretch(m, 32);
}

/* After one that was more than a single packet; its memory has gone back. */
static inline void smt_msg_rx_reset(struct smt_msg_rx *m)
{
    assert(m->store == NULL && m->incoming == 0);
    m->data = NULL;
    m->blind = m->opened = 0;
    m->got_at = 0;
}

/* Bytes accepted so far, and how long the accepted prefix is. */
static inline uint32_t smt_msg_rx_received(const struct smt_msg_rx *m)
{
    return (uint32_t)smt_ranges_len(&m->got);
}
uint32_t smt_msg_rx_prefix(const struct smt_msg_rx *m);

/* May a record bring [offset, offset + len)? Only when no byte of it was accepted before. */
static inline bool smt_msg_rx_wants(const struct smt_msg_rx *m, uint32_t offset, uint32_t len)
{
    if (m->whole)
        return false;
    if (SMT_LIKELY(m->got.n == 0 || (offset >= m->got.last.end)))
        return true;
    return !smt_ranges_overlaps(&m->got, offset, (uint64_t)offset + len);
}

/* The bytes of [offset, offset + len) are in place and authentic. SMT_ENOMEM: too many gaps, as if
 * never come. */
SMT_MUST_CHECK int smt_msg_rx_accept(struct smt_msg_rx *m, uint32_t offset, uint32_t len);

/* The next missing range at or after `from` among what was granted. False when none. */
bool smt_msg_rx_missing(const struct smt_msg_rx *m, uint32_t from, uint32_t *start, uint32_t *end);

#endif
