/* Super-frames: packets of one destination and priority laid out as equal segments in one slot of
 * memory, for whoever hands many packets to the kernel at once (UDP_SEGMENT, UDP_L4 frames on a
 * ring). Says nothing of headers, sockets or rings: the device owns the slots and sends. */
#ifndef SMT_DEV_SUPER_H
#define SMT_DEV_SUPER_H

#include "base/addr.h"

enum {
    SMT_SUPER_FRAMES = 32, /* a power of two */
    SMT_SUPER_OPEN = 8,
    SMT_SUPER_SEGMENTS = 64,
    SMT_SUPER_LEN = 65000,       /* most bytes of all segments of a frame */
    SMT_SUPER_RUN_LEN = SMT_SUPER_LEN / 4, /* of a run: eleven packets of 1,472 bytes */
    SMT_SUPER_BATCH = 768 << 10, /* together with what is received inside an L2 cache of 2 MB */
};

/* ECT(0): our packets may be marked instead of dropped (docs/wire.md 1). */
enum { SMT_TOS_ECT0 = 2, SMT_TOS_SHIFT = 5 };

static inline uint8_t smt_super_tos(uint8_t prio)
{
    return (uint8_t)(prio << SMT_TOS_SHIFT | SMT_TOS_ECT0);
}

/* n_segs segments of seg_len bytes, the last of last_len. */
struct smt_super_frame {
    _Alignas(64) struct smt_addr to;
    uint8_t tos;
    bool is_fixed;    /* takes no more; for the device to set */
    bool is_moved;    /* `to` differs from what it was when the device last cleared this */
    uint32_t seg_len, last_len, n_segs;
    uint8_t *data;    /* SMT_SUPER_LEN bytes at least */
};

/* Frames queue in the order in which they were begun. `open` are the queued ones that take more: at
 * most one for each destination and priority. */
struct smt_super {
    struct smt_super_frame *queue[SMT_SUPER_FRAMES];
    struct smt_super_frame *open[SMT_SUPER_OPEN];
    uint32_t head, n, n_open, next_victim;
    struct smt_super_frame *last;
    uint32_t max_segs; /* of a frame; 1 without segmentation offload */
    uint32_t max_len;  /* of a frame with several segments, at most SMT_SUPER_LEN */
    size_t batch_len;  /* bytes queued */
    struct {
        struct smt_super_frame *frame; /* NULL: nothing to take back */
        uint32_t n_segs, last_len, seg_len; /* of the frame before; no segments: it was begun */
    } undo;
    uint64_t pad_bytes;
    /* A frame to begin and where it goes back; NULL: none now. Called with `n` frames queued. */
    struct smt_super_frame *(*take)(struct smt_super *s);
    void (*give)(struct smt_super *s, struct smt_super_frame *f);
};

/* Place for one packet, as tx_reserve of struct smt_dev_ops; NULL when the batch is full. */
uint8_t *smt_super_reserve(struct smt_super *s, const struct smt_addr *to, size_t len,
                           uint8_t prio);

/* Places for a run of packets, as tx_run of struct smt_dev_ops; they stand len bytes apart. */
uint8_t *smt_super_run(struct smt_super *s, const struct smt_addr *to, unsigned n, size_t len,
                       size_t last_len, uint8_t prio);

/* Takes back what the last call of either gave. */
void smt_super_unreserve(struct smt_super *s);

/* Takes the first frame out of the queue and gives it back. */
void smt_super_head_release(struct smt_super *s);

/* What has been flushed is fixed: frames left in the queue stay open, empty ones do not. */
void smt_super_flushed(struct smt_super *s);

static inline struct smt_super_frame *smt_super_at(const struct smt_super *s, uint32_t i)
{
    return s->queue[(s->head + i) % SMT_SUPER_FRAMES];
}

static inline size_t smt_super_len(const struct smt_super_frame *f)
{
    return (size_t)(f->n_segs - 1) * f->seg_len + f->last_len;
}

#endif
