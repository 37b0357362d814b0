/* A ring of packets in memory that two processes share.
 *
 * A *half* belongs to one process, which alone can write there; the other maps it read-only (the
 * kernel holds him to that, shm_mem.c). It has a page of words and a ring. What we send goes into
 * the ring of our own half, and how far we have read the other's ring we tell in our own page. So
 * nobody can change what we wrote; what the other wrote may change under our eyes at any time, and
 * is read once: words into locals, packets by one copy into memory of our own.
 *
 * An entry is a word and the packet, on lines of its own; the word says "here is an entry" by the
 * position it was written for. The word where the next entry will be is zero until it is there, so
 * old bytes of the ring cannot be taken for one. Reader and writer need no common index. */
#ifndef SMT_DEV_SHM_RING_H
#define SMT_DEV_SHM_RING_H

#include "base/defs.h"

enum {
    SMT_SHM_LINE = 64,
    SMT_SHM_PAGE = 4096,
    SMT_SHM_RING = 4 << 20, /* a power of two */
    SMT_SHM_HALF = SMT_SHM_PAGE + SMT_SHM_RING,
    SMT_SHM_WORD = 8, /* before the packet in its entry */
};

/* The words of a half. */
struct smt_shm_page {
    _Alignas(SMT_SHM_LINE) uint64_t taken; /* bytes of the other's ring that were read */
    _Alignas(SMT_SHM_LINE) uint32_t sleeps; /* odd: its owner sleeps, or is about to */
};

static_assert(sizeof(struct smt_shm_page) <= SMT_SHM_PAGE, "the words fit their page");

struct smt_shm_out {
    uint8_t *ring;                   /* ours */
    const struct smt_shm_page *peer; /* NULL: the other half has not come yet */
    uint64_t sent;                   /* bytes published */
    uint64_t taken;                  /* of these the other has read, as far as we know */
    uint64_t at;                     /* of the reservation */
    uint32_t len;
    uint32_t turn_at; /* offset in the ring from where to look whether it can begin anew */
    bool is_bad;      /* the other's words make no sense: nothing fits any more */
};

struct smt_shm_in {
    const uint8_t *ring;       /* the other's */
    struct smt_shm_page *page; /* ours */
    uint64_t at;
};

struct smt_shm_seen {
    const uint8_t *data; /* in the ring: changes whenever the other likes */
    uint32_t len;
    bool is_late; /* it waited behind half a ring */
};

void smt_shm_out_init(struct smt_shm_out *o, uint8_t *half);
void smt_shm_in_init(struct smt_shm_in *in, const uint8_t *their_half, uint8_t *our_half);

/* A short packet will be sent soon: has its lines at hand by then. */
void smt_shm_out_expect(const struct smt_shm_out *o);

/* Place for one packet of len bytes (at most SMT_SHM_RING / 4), readable by the other at once but
 * not announced. NULL: no room. The one before is taken back unless it was committed. */
uint8_t *smt_shm_out_reserve(struct smt_shm_out *o, uint32_t len);

/* Announces it. With `from` its bytes are copied there first, else they are in place. */
void smt_shm_out_commit(struct smt_shm_out *o, const uint8_t *from);

/* The next packet: 1; 0: none; SMT_EPROTO: the other half is broken. */
int smt_shm_in_look(struct smt_shm_in *in, struct smt_shm_seen *out);

/* It has been copied. */
static inline void smt_shm_in_next(struct smt_shm_in *in, uint32_t len)
{
    in->at += (SMT_SHM_WORD + (uint64_t)len + SMT_SHM_LINE - 1) & ~(uint64_t)(SMT_SHM_LINE - 1);
}

/* Gives room back to the other. */
static inline void smt_shm_in_tell(const struct smt_shm_in *in)
{
    __atomic_store_n(&in->page->taken, in->at, __ATOMIC_RELEASE);
}

#endif
