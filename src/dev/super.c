/* Super-frames laid out in place.
 *
 * Every destination (and priority) collects its packets in a frame of its own; a frame that takes
 * no more stays in the queue and a new one is begun, so the order within a destination is the order
 * of reservation. Segments of a frame have one length: a shorter one may be the last, and is padded
 * when another follows and the waste is small. A run of packets goes into one frame whole: where a
 * frame leaves and arrives in one piece, its packets arrive behind each other.
 *
 * Full segments with a short last one, tried first, end the batch at every message. */
#include "dev/super.h"

enum {
    PAD_BYTES = 256, /* waste of a segment that is always worth it */
    PAD_FRACTION = 4, /* or this part of it */
    PAD_RUN = 8       /* or this part of the run that follows */
};

static inline bool frame_is_for(const struct smt_super_frame *f, const struct smt_addr *to,
                                uint8_t tos)
{
    return f->tos == tos && smt_addr_equal(&f->to, to);
}

static inline bool pad_is_worth(uint32_t pad, uint32_t seg_len, uint32_t run_len)
{
    return pad <= PAD_BYTES || pad <= seg_len / PAD_FRACTION || pad <= run_len / PAD_RUN;
}

/* Place behind the last segment, which is lengthened if it must be; NULL when the packet, the first
 * of a run of run_len bytes (0: of none), does not fit this frame. */
static inline uint8_t *frame_append(struct smt_super *s, struct smt_super_frame *f, uint32_t len,
                                    uint32_t run_len)
{
    uint32_t seg_len = f->seg_len;
    if (f->n_segs >= s->max_segs || f->is_fixed)
        return NULL;
    if (len > seg_len) {
        if (f->n_segs > 1)
            return NULL;
        seg_len = len; /* the only segment grows with it */
    }
    uint32_t pad = seg_len - f->last_len;
    size_t at = (size_t)f->n_segs * seg_len;
    if (at + len > s->max_len || !pad_is_worth(pad, seg_len, run_len))
        return NULL;
    s->undo.frame = f;
    s->undo.n_segs = f->n_segs;
    s->undo.last_len = f->last_len;
    s->undo.seg_len = f->seg_len;
    if (pad > 0) {
        memset(f->data + at - pad, 0, pad);
        s->pad_bytes += pad;
    }
    s->batch_len += pad + len;
    f->seg_len = seg_len;
    f->last_len = len;
    f->n_segs++;
    s->last = f;
    return f->data + at;
}

/* Begins a frame, which takes the place of the open one at `i` if i < n_open. */
static uint8_t *frame_begin(struct smt_super *s, uint32_t i, const struct smt_addr *to,
                            uint8_t tos, uint32_t len)
{
    struct smt_super_frame *f = s->take(s);
    if (f == NULL)
        return NULL;
    s->queue[(s->head + s->n) % SMT_SUPER_FRAMES] = f;
    s->n++;
    s->batch_len += len;
    /* Frames are often used again for the destination they had. */
    if (!smt_addr_equal(&f->to, to)) {
        f->to = *to;
        f->is_moved = true;
    }
    f->tos = tos;
    f->is_fixed = false;
    f->seg_len = len;
    f->last_len = len;
    f->n_segs = 1;
    if (i == SMT_SUPER_OPEN)
        i = s->next_victim++ % SMT_SUPER_OPEN;
    else if (i == s->n_open)
        s->n_open++;
    s->open[i] = f;
    s->last = f;
    s->undo.frame = f;
    s->undo.n_segs = 0;
    return f->data;
}

uint8_t *smt_super_reserve(struct smt_super *s, const struct smt_addr *to, size_t len,
                           uint8_t prio)
{
    uint8_t tos = smt_super_tos(prio);
    if (SMT_UNLIKELY(s->batch_len + len > SMT_SUPER_BATCH))
        goto full;
    uint32_t i = s->n_open;
    struct smt_super_frame *f = s->last;
    if (f != NULL && frame_is_for(f, to, tos)) {
        uint8_t *p = frame_append(s, f, (uint32_t)len, 0);
        if (p != NULL)
            return p;
    }
    for (i = 0; i < s->n_open; i++) {
        f = s->open[i];
        if (!frame_is_for(f, to, tos))
            continue;
        uint8_t *p = frame_append(s, f, (uint32_t)len, 0);
        if (p != NULL)
            return p;
        break;
    }
    if (s->n < SMT_SUPER_FRAMES) {
        uint8_t *p = frame_begin(s, i, to, tos, (uint32_t)len);
        if (p != NULL)
            return p;
    }
full:
    s->undo.frame = NULL;
    return NULL;
}

/* The packets of a run behind the last segment; NULL when they do not fit this frame. */
static uint8_t *run_append(struct smt_super *s, struct smt_super_frame *f, uint32_t n,
                           uint32_t len, uint32_t last_len)
{
    if (len < f->seg_len || f->n_segs + n > s->max_segs)
        return NULL;
    uint32_t run_len = (n - 1) * len + last_len;
    if ((size_t)f->n_segs * len + run_len > s->max_len)
        return NULL;
    uint8_t *p = frame_append(s, f, len, run_len);
    if (p == NULL)
        return NULL;
    s->batch_len += (size_t)(n - 2) * len + last_len;
    f->n_segs += n - 1;
    f->last_len = last_len;
    return p;
}

static uint8_t *run_begin(struct smt_super *s, uint32_t i, const struct smt_addr *to, uint8_t tos,
                          uint32_t n, uint32_t len, uint32_t last_len)
{
    if (s->n == SMT_SUPER_FRAMES)
        return NULL;
    uint8_t *p = frame_begin(s, i, to, tos, len);
    if (p == NULL)
        return NULL;
    s->batch_len += (size_t)(n - 2) * len + last_len;
    s->last->n_segs = n;
    s->last->last_len = last_len;
    /* Segmentation was found to be missing after the run was planned. */
    s->last->is_fixed = n > s->max_segs;
    return p;
}

uint8_t *smt_super_run(struct smt_super *s, const struct smt_addr *to, unsigned n, size_t len,
                       size_t last_len, uint8_t prio)
{
    assert(n > 1 && n <= SMT_SUPER_SEGMENTS && last_len > 0 && last_len <= len);
    assert((n - 1) * len + last_len <= SMT_SUPER_RUN_LEN);
    uint8_t tos = smt_super_tos(prio);
    uint8_t *p = NULL;
    if (s->batch_len + n * len <= SMT_SUPER_BATCH) {
        uint32_t i = 0;
        while (i < s->n_open && !frame_is_for(s->open[i], to, tos))
            i++;
        if (i < s->n_open)
            p = run_append(s, s->open[i], n, (uint32_t)len, (uint32_t)last_len);
        if (p == NULL)
            p = run_begin(s, i, to, tos, n, (uint32_t)len, (uint32_t)last_len);
    }
    if (p == NULL)
        s->undo.frame = NULL;
    return p;
}

void smt_super_unreserve(struct smt_super *s)
{
    struct smt_super_frame *f = s->undo.frame;
    assert(f != NULL);
    s->undo.frame = NULL;
    s->batch_len -= smt_super_len(f);
    if (s->undo.n_segs > 0) {
        s->pad_bytes -= f->seg_len - s->undo.last_len;
        f->n_segs = s->undo.n_segs;
        f->seg_len = s->undo.seg_len;
        f->last_len = s->undo.last_len;
        s->batch_len += smt_super_len(f);
        return;
    }
    /* It began the frame, which is the last of the queue. */
    s->n--;
    s->give(s, f);
    s->last = NULL;
    for (uint32_t i = 0; i < s->n_open; i++) {
        if (s->open[i] == f) {
            s->open[i] = s->open[--s->n_open];
            break;
        }
    }
}

void smt_super_head_release(struct smt_super *s)
{
    struct smt_super_frame *f = s->queue[s->head];
    s->batch_len -= smt_super_len(f);
    f->n_segs = 0;
    s->head = (s->head + 1) % SMT_SUPER_FRAMES;
    s->n--;
    s->give(s, f);
}

void smt_super_flushed(struct smt_super *s)
{
    s->undo.frame = NULL;
    s->last = NULL;
    uint32_t n_open = 0;
    for (uint32_t i = 0; i < s->n_open && s->n > 0; i++) {
        if (s->open[i]->n_segs > 0)
            s->open[n_open++] = s->open[i];
    }
    s->n_open = n_open;
}
