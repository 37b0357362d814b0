/* A window of packets as DCTCP moves it: slow start, one packet a round trip more after that, and
 * once a window down by half of the smoothed share of marked packets; halved on loss, one packet
 * after a timeout. Each sending has a number of its own, as in QUIC, so that an answer says which
 * one arrived. Packets are sprayed over many paths, so order says nothing: one is lost when another
 * that was sent half a round trip later has been answered. */
#include "sim/dctcp_flow.h"

#include "base/mem.h"

static const double gain = 1.0 / 16;
static const uint64_t least_reorder = 10 * SMT_USEC * SMT_PS_PER_NS;

enum { MAX_BACKOFF = 8 };

void smt_dctcp_set_init(struct dctcp_set *s, uint32_t n_bits)
{
    *s = (struct dctcp_set){.n_bits = n_bits};
    if (n_bits <= 64)
        return;
    s->bits = smt_mem_block((n_bits + 63) / 64 * sizeof(uint64_t));
    if (s->bits == NULL)
        smt_net_fatal("no memory for messages");
}

void smt_dctcp_set_fini(struct dctcp_set *s)
{
    if (s->bits != NULL)
        smt_mem_block_free(s->bits, (s->n_bits + 63) / 64 * sizeof(uint64_t));
}

bool smt_dctcp_set_has(const struct dctcp_set *s, uint32_t index)
{
    const uint64_t *word = s->bits != NULL ? &s->bits[index / 64] : &s->inline_bits;
    return (*word >> index % 64 & 1) != 0;
}

bool smt_dctcp_set_add(struct dctcp_set *s, uint32_t index)
{
    if (smt_dctcp_set_has(s, index))
        return false;
    *(s->bits != NULL ? &s->bits[index / 64] : &s->inline_bits) |= 1ull << index % 64;
    s->n_set++;
    return true;
}

static uint64_t rto_of(const struct dctcp_flow *f, const struct dctcp_config *config)
{
    uint64_t rto = f->srtt + 4 * f->rttvar;
    return (rto > config->min_rto ? rto : config->min_rto) << f->backoff;
}

void smt_dctcp_flow_init(struct dctcp_flow *f, const struct dctcp_config *config,
                         const struct smt_net_headers *hdr, struct smt_net_msg *m)
{
    *f = (struct dctcp_flow){.m = m, .mask = DCTCP_FIRST_RING - 1, .deadline = SMT_NEVER};
    smt_list_init(&f->link);
    f->first_len = smt_net_cut(hdr, m->len, 0, m->len);
    f->n_packets = 1;
    if (f->first_len < m->len) {
        f->part_len = smt_net_cut(hdr, m->len, f->first_len, m->len);
        f->n_packets += (m->len - f->first_len + f->part_len - 1) / f->part_len;
    }
    smt_dctcp_set_init(&f->acked, f->n_packets);
    f->ring = f->first_ring;
    f->cwnd = config->window;
    f->ssthresh = UINT32_MAX;
    f->alpha = 1;
    f->window_end = 1;
}

void smt_dctcp_flow_fini(struct dctcp_flow *f)
{
    smt_dctcp_set_fini(&f->acked);
    if (f->ring != f->first_ring)
        smt_mem_block_free(f->ring, ((size_t)f->mask + 1) * sizeof(*f->ring));
    if (f->lost != NULL)
        smt_mem_block_free(f->lost, f->lost_cap * sizeof(*f->lost));
}

uint32_t smt_dctcp_flow_offset(const struct dctcp_flow *f, uint32_t index)
{
    return index == 0 ? 0 : f->first_len + (index - 1) * f->part_len;
}

uint32_t smt_dctcp_flow_len(const struct dctcp_flow *f, uint32_t index)
{
    uint32_t left = f->m->len - smt_dctcp_flow_offset(f, index);
    uint32_t part = index == 0 ? f->first_len : f->part_len;
    return left < part ? left : part;
}

bool smt_dctcp_flow_may_send(struct dctcp_flow *f)
{
    /* What was given up too early and has come after all. */
    while (f->n_lost > 0 && smt_dctcp_set_has(&f->acked, f->lost[f->n_lost - 1]))
        f->n_lost--;
    return (f->n_lost > 0 || f->next < f->n_packets) && f->n_open < f->cwnd;
}

static void ring_grow(struct dctcp_flow *f)
{
    size_t cap = (size_t)f->mask + 1;
    struct dctcp_sent *more = smt_mem_block(2 * cap * sizeof(*more));
    if (more == NULL)
        smt_net_fatal("no memory for messages");
    for (uint32_t i = f->base; i != f->base + f->n; i++)
        more[i & (2 * cap - 1)] = f->ring[i & f->mask];
    if (f->ring != f->first_ring)
        smt_mem_block_free(f->ring, cap * sizeof(*more));
    f->ring = more;
    f->mask = (uint32_t)(2 * cap - 1);
}

static void lost_push(struct dctcp_flow *f, uint32_t index)
{
    if (f->n_lost == f->lost_cap) {
        uint32_t cap = f->lost_cap > 0 ? 2 * f->lost_cap : 16;
        uint32_t *more = smt_mem_block(cap * sizeof(*more));
        if (more == NULL)
            smt_net_fatal("no memory for messages");
        if (f->lost != NULL) {
            memcpy(more, f->lost, f->n_lost * sizeof(*more));
            smt_mem_block_free(f->lost, f->lost_cap * sizeof(*more));
        }
        f->lost = more;
        f->lost_cap = cap;
    }
    f->lost[f->n_lost++] = index;
}

uint32_t smt_dctcp_flow_send(struct dctcp_flow *f, const struct dctcp_config *config, uint64_t now,
                             uint32_t *number)
{
    assert(smt_dctcp_flow_may_send(f));
    uint32_t index = f->n_lost > 0 ? f->lost[--f->n_lost] : f->next++;
    if (f->n > f->mask)
        ring_grow(f);
    *number = f->base + f->n++;
    f->ring[*number & f->mask] = (struct dctcp_sent){.at = now, .index = index, .open = true};
    if (f->n_open++ == 0)
        f->deadline = now + rto_of(f, config);
    return index;
}

static void rtt_sample(struct dctcp_flow *f, uint64_t rtt)
{
    if (f->srtt == 0) {
        f->srtt = rtt;
        f->rttvar = rtt / 2;
        return;
    }
    uint64_t off = rtt > f->srtt ? rtt - f->srtt : f->srtt - rtt;
    f->rttvar = (3 * f->rttvar + off) / 4;
    f->srtt = (7 * f->srtt + rtt) / 8;
}

static void window_set(struct dctcp_flow *f, double cwnd)
{
    f->cwnd = f->ssthresh = cwnd > 1 ? cwnd : 1;
}

/* Sendings below it that are still open are lost when they are so much older. */
static void find_lost(struct dctcp_flow *f, uint64_t answered_at)
{
    uint64_t wait = f->srtt / 2 > least_reorder ? f->srtt / 2 : least_reorder;
    bool found = false;
    for (uint32_t i = f->base; i != f->base + f->n; i++) {
        struct dctcp_sent *s = &f->ring[i & f->mask];
        if (s->at + wait >= answered_at)
            break;
        if (!s->open)
            continue;
        s->open = false;
        f->n_open--;
        if (!smt_dctcp_set_has(&f->acked, s->index))
            lost_push(f, s->index);
        found = found || (int32_t)(i - f->recovery_end) >= 0;
    }
    if (found) {
        window_set(f, f->cwnd / 2);
        f->recovery_end = f->base + f->n;
    }
    while (f->n > 0 && !f->ring[f->base & f->mask].open) {
        f->base++;
        f->n--;
    }
}

/* What one more packet, and the end of a window, do to the window. */
static void window_move(struct dctcp_flow *f, const struct dctcp_config *config, uint32_t number,
                        bool marked)
{
    f->window_acked++;
    f->window_marked += marked;
    if (f->cwnd < f->ssthresh)
        f->cwnd += 1;
    else
        f->cwnd += 1 / f->cwnd;
    if ((int32_t)(number - f->window_end) < 0)
        return;
    double share = (double)f->window_marked / f->window_acked;
    f->alpha += gain * (share - f->alpha);
    if (f->window_marked > 0 && !config->reno)
        window_set(f, f->cwnd * (1 - f->alpha / 2));
    f->window_acked = f->window_marked = 0;
    f->window_end = f->base + f->n;
}

void smt_dctcp_flow_acked(struct dctcp_flow *f, const struct dctcp_config *config, uint64_t now,
                          uint32_t number, uint32_t index, bool marked)
{
    smt_dctcp_set_add(&f->acked, index);
    f->backoff = 0;
    if (number - f->base >= f->n || !f->ring[number & f->mask].open)
        return;
    struct dctcp_sent *s = &f->ring[number & f->mask];
    uint64_t at = s->at;
    s->open = false;
    f->n_open--;
    rtt_sample(f, now - at);
    window_move(f, config, number, marked);
    find_lost(f, at);
    f->deadline = f->n_open > 0 ? now + rto_of(f, config) : SMT_NEVER;
}

void smt_dctcp_flow_timeout(struct dctcp_flow *f, const struct dctcp_config *config, uint64_t now)
{
    for (uint32_t i = f->base; i != f->base + f->n; i++) {
        const struct dctcp_sent *s = &f->ring[i & f->mask];
        if (s->open && !smt_dctcp_set_has(&f->acked, s->index))
            lost_push(f, s->index);
    }
    f->base += f->n;
    f->n = f->n_open = 0;
    f->ssthresh = f->cwnd / 2 > 2 ? f->cwnd / 2 : 2;
    f->cwnd = 1;
    f->recovery_end = f->window_end = f->base;
    f->window_acked = f->window_marked = 0;
    if (f->backoff < MAX_BACKOFF)
        f->backoff++;
    f->deadline = SMT_NEVER;
}
