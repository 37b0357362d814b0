/* Sending side of a message, as two offsets (sent, granted) and a set of ranges to send again.
 * Which message sends next is srpt.c's matter, how much may be in flight pacer.c's, what a packet
 * looks like record.c's.
 *
 * The seal counter lives here because it must never go back whatever happens to the message: each
 * record, new or again, takes the next value (docs/wire.md 3). */
#include "core/msg_tx.h"

#include <string.h>

#include "wire/wire.h"

enum { MAX_LOST_RANGES = 512, MAX_RESTART_ATTEMPT = 32 };

void smt_msg_tx_make(struct smt_msg_tx *t, struct smt_ranges_pool *ranges)
{
    smt_ranges_init(&t->lost, ranges, MAX_LOST_RANGES);
    smt_list_init(&t->ready);
}

int smt_msg_tx_init(struct smt_msg_tx *t, const struct smt_post_iov *iov, unsigned n_iov,
                    uint32_t len, struct smt_pool *blocks)
{
    assert(!t->active && t->seal == 0);
    if (SMT_LIKELY(n_iov == 1)) {
        t->one = iov[0];
    } else if (n_iov > 1) {
        t->block = smt_pool_get(blocks);
        if (t->block == NULL)
            return SMT_ENOMEM;
        memcpy(t->block->iov, iov, n_iov * sizeof(*iov));
    }
    t->n_iov = n_iov;
    t->len = len;
    t->low_prio = t->run_prio = UINT8_MAX;
    t->active = true;
    t->empty_due = len == 0;
    return 0;
}

void smt_msg_tx_next(const struct smt_msg_tx *t, uint32_t cut, struct smt_tx_piece *out)
{
    struct smt_range r;
    if (SMT_UNLIKELY(t->lost.n > 0) && smt_ranges_first(&t->lost, &r)) {
        uint64_t len = r.end - r.start;
        *out = (struct smt_tx_piece){(uint32_t)r.start, len < cut ? (uint32_t)len : cut, true};
        return;
    }
    uint32_t left = t->granted - t->sent;
    *out = (struct smt_tx_piece){t->sent, left < cut ? left : cut, false};
}

void smt_msg_tx_align(struct smt_msg_tx *t, uint32_t cut, uint32_t first_extra, uint32_t limit)
{
    if (t->unsched == t->len || t->granted > t->unsched)
        return;
    uint64_t up = (t->unsched + first_extra + (uint64_t)cut - 1) / cut * cut - first_extra;
    if (up > limit && up > cut)
        up -= cut;
    /* A limit below one packet is kept to the byte. */
    if (up > limit)
        up = t->unsched;
    t->unsched = up < t->len ? (uint32_t)up : t->len;
    t->granted = t->unsched;
}

void smt_msg_tx_sent(struct smt_msg_tx *t, const struct smt_tx_piece *piece)
{
    t->seal++;
    t->empty_due = false;
    if (SMT_UNLIKELY(piece->again))
        smt_ranges_remove_below(&t->lost, piece->offset + piece->len);
    else
        t->sent = piece->offset + piece->len;
}

void smt_msg_tx_lost(struct smt_msg_tx *t, uint32_t offset, uint32_t end)
{
    if (end > t->sent)
        end = t->sent;
    if (offset >= end) {
        /* A message of length 0 has one record, which can be lost like any other. */
        t->empty_due = t->len == 0;
        return;
    }
    /* Too many ranges: leave this one out, the receiver will ask again. */
    if (smt_ranges_add(&t->lost, offset, end) < 0)
        return;
}

void smt_msg_tx_grant(struct smt_msg_tx *t, uint32_t offset, uint8_t prio)
{
    if (offset > t->len)
        offset = t->len;
    /* One that was overtaken says nothing new. */
    if (offset < t->granted)
        return;
    t->granted = offset;
    t->prio = prio;
}

void smt_msg_tx_restart(struct smt_msg_tx *t)
{
    if (t->seal == 0)
        return;
    /* Half of the attempts are for this; whoever asks more often than that gets the next numbers of
     * the last one, and the message lives on. */
    if (t->seal >> SMT_SEAL_INDEX_BITS < MAX_RESTART_ATTEMPT)
        t->seal = ((t->seal >> SMT_SEAL_INDEX_BITS) + 1) << SMT_SEAL_INDEX_BITS;
    smt_ranges_clear(&t->lost);
    t->sent = 0;
    t->empty_due = t->len == 0;
    if (t->granted > t->unsched)
        t->granted = t->unsched;
}

void smt_msg_tx_copy(const struct smt_msg_tx *t, uint32_t offset, uint32_t len, uint8_t *out)
{
    if (SMT_LIKELY(t->n_iov <= 1)) {
        if (len > 0)
            memcpy(out, (const uint8_t *)t->one.base + offset, len);
        return;
    }
    const struct smt_post_iov *v = t->block->iov;
    size_t skip = offset;
    while (skip >= v->len && len > 0) {
        skip -= v->len;
        v++;
    }
    while (len > 0) {
        size_t n = v->len - skip < len ? v->len - skip : len;
        if (n > 0)
            memcpy(out, (const uint8_t *)v->base + skip, n);
        out += n;
        len -= (uint32_t)n;
        skip = 0;
        v++;
    }
}

unsigned smt_msg_tx_pieces(const struct smt_msg_tx *t, uint32_t offset, uint32_t len,
                           struct smt_aead_in out[SMT_MAX_POST_IOV])
{
    const struct smt_post_iov *v = t->n_iov <= 1 ? &t->one : t->block->iov;
    size_t skip = offset;
    unsigned n = 0;
    for (; len > 0; v++) {
        if (skip >= v->len) {
            skip -= v->len;
            continue;
        }
        size_t piece = v->len - skip < len ? v->len - skip : len;
        out[n++] = (struct smt_aead_in){(const uint8_t *)v->base + skip, piece};
        len -= (uint32_t)piece;
        skip = 0;
    }
    return n;
}
