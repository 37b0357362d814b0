/* The sending side of one message: which bytes are new, granted, lost; where the user's bytes are;
 * seal counters. It never sees a packet or a clock. */
#ifndef SMT_CORE_MSG_TX_H
#define SMT_CORE_MSG_TX_H

#include "base/heap.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/ranges.h"
#include "core/engine.h"

enum { SMT_MAX_POST_IOV = 16 };

struct smt_iov_block {
    struct smt_post_iov iov[SMT_MAX_POST_IOV];
};

struct smt_msg_tx {
    struct smt_post_iov one;     /* the usual case; counts when n_iov is 1 */
    uint32_t n_iov;
    uint32_t len;
    uint32_t sent;               /* new bytes sent so far: all below has been sealed once */
    uint32_t granted;            /* may be sent */
    uint32_t unsched;
    uint32_t seal;               /* next seal counter */
    uint8_t prio;                /* of granted bytes */
    uint8_t low_prio;            /* the lowest at which any of it was sent */
    uint8_t again_prio;          /* of bytes asked for again, at least */
    uint8_t run_prio;            /* of what leaves at one go, at most */
    bool active;                 /* there is something to send this way */
    bool by_nic;                 /* a NIC sealed some of it, and nothing was asked for again */
    bool in_slices;              /* some of it left in slices */
    bool empty_due;              /* length 0: its one record waits to be sent */
    /* Zero at the end of a message, as at its beginning (smt_msg_tx_reset). */
    struct smt_iov_block *block; /* more than one piece; from the pool */
    uint32_t cut;                /* kernel.h: bytes in each packet but the last; 0: not set yet */
    uint8_t *sealed;             /* kernel.h: its records as they were sealed, or NULL */
    uint32_t sealed_len, n_sealed;
    /* From here on each part leaves what is its own as it found it, message after message. */
    struct smt_ranges lost;      /* to be sent again, all below `sent` */
    struct smt_list ready;       /* in one of the send queues (srpt.h) */
    struct smt_heap_node srpt;
};

/* Once, before the first message: `t` is zeroed. */
void smt_msg_tx_make(struct smt_msg_tx *t, struct smt_ranges_pool *ranges);

/* Before each message: nothing to be sent. */
SMT_INLINE void smt_msg_tx_clear(struct smt_msg_tx *t)
{
    static_assert(offsetof(struct smt_msg_tx, block) - offsetof(struct smt_msg_tx, n_iov) == 32,
                  "two vectors");
    smt_zero_stretch(&t->n_iov, 32);
}

/* After one that was more than a single packet of one piece; its memory has gone back. */
static inline void smt_msg_tx_reset(struct smt_msg_tx *t)
{
    assert(t->block == NULL && t->sealed == NULL);
    t->cut = t->sealed_len = t->n_sealed = 0;
}

/* `t` is clear. On failure it stays so. */
SMT_MUST_CHECK int smt_msg_tx_init(struct smt_msg_tx *t, const struct smt_post_iov *iov,
                                   unsigned n_iov, uint32_t len, struct smt_pool *blocks);

static inline void smt_msg_tx_fini(struct smt_msg_tx *t, struct smt_pool *blocks)
{
    if (SMT_UNLIKELY(t->block != NULL)) {
        smt_pool_put(blocks, t->block);
        t->block = NULL;
    }
    smt_ranges_fini(&t->lost);
    t->active = false;
}

/* Something may be sent right now. */
static inline bool smt_msg_tx_sendable(const struct smt_msg_tx *t)
{
    return t->active && (t->sent < t->granted || t->lost.n > 0 || t->empty_due);
}

/* Bytes left to send, for SRPT. */
static inline uint32_t smt_msg_tx_left(const struct smt_msg_tx *t)
{
    return t->len - t->sent + (uint32_t)smt_ranges_len(&t->lost);
}

/* The next piece to send, at most `cut` bytes; again = it was sent before. */
struct smt_tx_piece {
    uint32_t offset, len;
    bool again;
};
void smt_msg_tx_next(const struct smt_msg_tx *t, uint32_t cut, struct smt_tx_piece *out);

/* Before anything of it was sent: what goes without a grant ends where a packet does, at most
 * `limit`. The first packet of `cut` bytes carries `first_extra` less. */
void smt_msg_tx_align(struct smt_msg_tx *t, uint32_t cut, uint32_t first_extra, uint32_t limit);

/* The piece has been sealed with t->seal and left. */
void smt_msg_tx_sent(struct smt_msg_tx *t, const struct smt_tx_piece *piece);

/* The receiver wants [offset, end) again: what was sent of it. */
void smt_msg_tx_lost(struct smt_msg_tx *t, uint32_t offset, uint32_t end);

void smt_msg_tx_grant(struct smt_msg_tx *t, uint32_t offset, uint8_t prio);

/* The receiver has never seen it: everything from the start, with the next attempt. */
void smt_msg_tx_restart(struct smt_msg_tx *t);

/* The user's pieces of [offset, offset + len), at most SMT_MAX_POST_IOV; how many. */
unsigned smt_msg_tx_pieces(const struct smt_msg_tx *t, uint32_t offset, uint32_t len,
                           struct smt_aead_in out[SMT_MAX_POST_IOV]);

/* Copies bytes [offset, offset + len) of the user's pieces. */
void smt_msg_tx_copy(const struct smt_msg_tx *t, uint32_t offset, uint32_t len, uint8_t *out);

#endif
