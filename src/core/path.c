/* Joins what was measured (rtt.c), what congestion allows (share.c) and what the peer takes into
 * the two figures that senders and receivers ask for: bytes that fill the way, and bytes to send
 * without a grant. The sums are made when something is measured, not for each packet. */
#include "core/path.h"

#include "core/state.h"

/* Until somebody was measured by data, packets are this long. */
enum { PACKET_FIRST = 1500 };

static uint64_t rate_most(const struct smt_engine *e)
{
    return (uint64_t)e->config.tune.link_mbps * 125000;
}

static void fill_again(struct smt_conn *c)
{
    struct smt_engine *e = c->e;
    struct smt_rtt both = c->path;
    if (both.rate == 0)
        both.rate = e->path.rate;
    c->fill = smt_rtt_fill(&both, c->mtu.now);
    e->fill = smt_rtt_fill(&e->path, PACKET_FIRST);
}

void smt_path_rtt(struct smt_conn *c, uint64_t now, uint64_t rtt)
{
    uint64_t memory = c->e->config.tune.rtt_memory_ms * SMT_MSEC;
    smt_rtt_sample(&c->path, now, rtt, memory);
    smt_rtt_sample(&c->e->path, now, rtt, memory);
    fill_again(c);
}

void smt_path_rate(struct smt_conn *c, uint64_t bytes, uint64_t span, bool full)
{
    uint64_t most = rate_most(c->e);
    if (full)
        smt_rtt_rate_fall(&c->path, bytes * SMT_SEC / (span + 1));
    else
        smt_rtt_rate_sample(&c->path, bytes, span, most);
    smt_rtt_rate_sample(&c->e->path, bytes, span, most);
    fill_again(c);
}

void smt_path_total(struct smt_engine *e, uint64_t now)
{
    /* What comes at one go says nothing of the way it came. */
    if (now < e->total_at + smt_rtt_least(&e->path))
        return;
    smt_rtt_rate_sample(&e->path, e->total_bytes, now - e->total_at, rate_most(e));
    e->fill = smt_rtt_fill(&e->path, PACKET_FIRST);
    e->total_bytes = 0;
    e->total_at = now;
}

uint64_t smt_path_fill(const struct smt_conn *c)
{
    return SMT_LIKELY(c->fill > 0) ? c->fill : c->e->fill;
}

uint64_t smt_path_unsched_of(const struct smt_tune *t, uint64_t fill)
{
    uint64_t n = fill * t->unsched_pct / 100;
    /* An application that has sent little has measured little. */
    return n > t->unsched_first ? n : t->unsched_first;
}

uint64_t smt_path_tail_of(const struct smt_tune *t, uint64_t fill)
{
    uint64_t n = smt_path_unsched_of(t, fill);
    /* A quarter more: the peer has measured the same, but not the same figures. */
    uint64_t window = fill * t->window_pct / 100 * 5 / 4;
    n = n > window ? n : window;
    return n < UINT32_MAX ? n : UINT32_MAX;
}

uint32_t smt_path_batch(uint32_t batch, uint32_t n, uint64_t bytes)
{
    /* One packet at a time is no batch, and forgets slowly that there were some. */
    uint32_t is = n < 2 ? 0 : (uint32_t)(bytes - bytes / n);
    return is > batch ? is : batch - (batch - is) / 16;
}

/* What leaves at one go comes on top, as what is taken at one go does in the receiver's windows:
 * while one such part is on its way the next is being written, and no GRANT comes before the first
 * was taken. */
uint32_t smt_path_unsched(const struct smt_conn *c)
{
    uint64_t wanted = smt_path_unsched_of(&c->e->config.tune, smt_path_fill(c));
    uint64_t n = smt_share_of(&c->tx_share, wanted + 2ull * c->e->tx_batch);
    if (n > c->unsched_limit)
        n = c->unsched_limit;
    return n > 0 ? (uint32_t)n : 1;
}

uint32_t smt_path_tail(const struct smt_conn *c)
{
    return (uint32_t)smt_path_tail_of(&c->e->config.tune, smt_path_fill(c));
}

bool smt_path_was_free(const struct smt_engine *e, uint64_t at, uint64_t bytes)
{
    uint64_t could = e->path.rate / 1000 * ((e->now - at) / 1000) / 1000;
    uint64_t came = e->stats.bytes_rcvd - bytes;
    return came == 0 || came * 4 < could * 3;
}
