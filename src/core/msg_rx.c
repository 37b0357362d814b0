/* Receiving side of a message: a set of accepted ranges over a buffer. Ranges are exact, cut as the
 * sender liked; a record counts whole or not at all, so what is missing is asked for by its exact
 * bounds and any change of cut or MTU in the middle is harmless. Gaps are bounded: a record that
 * would open one too many is dropped and comes again. */
#include "core/msg_rx.h"

enum { MAX_GOT_RANGES = 1024 };

void smt_msg_rx_make(struct smt_msg_rx *m, struct smt_ranges_pool *ranges)
{
    smt_list_init(&m->held);
    smt_ranges_init(&m->got, ranges, MAX_GOT_RANGES);
}

uint32_t smt_msg_rx_prefix(const struct smt_msg_rx *m)
{
    struct smt_range r;
    if (!smt_ranges_first(&m->got, &r) || r.start > 0)
        return 0;
    return (uint32_t)r.end;
}

int smt_msg_rx_accept(struct smt_msg_rx *m, uint32_t offset, uint32_t len)
{
    int rc = smt_ranges_add(&m->got, offset, (uint64_t)offset + len);
    if (rc < 0)
        return rc;
    if (len > m->piece)
        m->piece = len;
    if (offset + len > m->granted)
        m->granted = offset + len;
    m->whole = smt_ranges_len(&m->got) == m->len;
    return 0;
}

bool smt_msg_rx_missing(const struct smt_msg_rx *m, uint32_t from, uint32_t *start, uint32_t *end)
{
    uint64_t s;
    uint64_t e;
    if (!smt_ranges_next_gap(&m->got, from, m->granted, &s, &e))
        return false;
    *start = (uint32_t)s;
    *end = (uint32_t)e;
    return true;
}
