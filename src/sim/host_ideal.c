/* The policy `ideal`: shortest remaining first everywhere, as far as a network can do it. A sender
 * sends the message with the fewest bytes left, at once and without asking; a packet's level is
 * what was left of its message, in 128 steps of equal ratio. Nothing limits a queue, so the buffers
 * have to be endless and nothing may be lost. A bound to compare with, not a transport. */
#include "base/heap.h"
#include "base/mem.h"
#include "base/pool.h"
#include "sim/net.h"

enum { MAX_MESSAGES = 1 << 26 };

/* Steps of a quarter octave would reach 2^32 in 128; these reach 2^30, the longest message. */
static const uint64_t step_num = 1176, step_den = 1000;

struct ideal_tx {
    struct smt_heap_node node;
    struct smt_net_msg *m;
    uint32_t sent;
};

struct ideal_host {
    struct smt_heap ready;
};

struct ideal {
    const struct smt_net_headers *hdr;
    struct smt_pool txs;
    struct ideal_host *hosts;
    unsigned n_hosts, n_levels;
    uint32_t bounds[SMT_NET_MAX_LEVELS]; /* most bytes left for the i-th best level */
    uint64_t n_data;
    bool fifo;
};

static unsigned level_of(const struct ideal *all, uint32_t left)
{
    unsigned low = 0, high = all->n_levels - 1;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (left <= all->bounds[mid])
            high = mid;
        else
            low = mid + 1;
    }
    return all->n_levels - 1 - low;
}

static void bounds_init(struct ideal *all)
{
    /* Small sizes would share steps of less than a byte: each step grows by one byte at least. */
    uint64_t at = 1;
    for (unsigned i = 0; i < all->n_levels; i++) {
        all->bounds[i] = at < UINT32_MAX ? (uint32_t)at : UINT32_MAX;
        uint64_t next = at * step_num / step_den;
        at = next > at ? next : at + 1;
    }
}

static void ideal_message(struct smt_net_host *h, struct smt_net_msg *m)
{
    struct ideal *all = h->net->policy_state;
    struct ideal_host *host = h->state;
    struct ideal_tx *tx = smt_pool_get(&all->txs);
    if (tx == NULL)
        smt_net_fatal("no memory for messages");
    *tx = (struct ideal_tx){.m = m, .node = {.key = all->fifo ? 0 : m->len, .tie = m->number}};
    if (smt_heap_insert(&host->ready, &tx->node) < 0)
        smt_net_fatal("no memory for messages");
}

/* The receiver needs no more than the sum: kept in place of a pointer, plus one. */
static void ideal_packet(struct smt_net_host *h, struct smt_net_pkt *p)
{
    struct smt_net_msg *m = p->msg;
    uintptr_t received = (uintptr_t)m->rx + p->len;
    m->rx = (void *)received;
    if (received == m->len)
        smt_net_deliver(h, m);
    smt_net_pkt_free(h->net, p);
}

static struct smt_net_pkt *ideal_next(struct smt_net_host *h)
{
    struct ideal *all = h->net->policy_state;
    struct ideal_host *host = h->state;
    struct smt_heap_node *best = smt_heap_min(&host->ready);
    if (best == NULL)
        return NULL;
    struct ideal_tx *tx = SMT_CONTAINER_OF(best, struct ideal_tx, node);
    struct smt_net_msg *m = tx->m;
    uint32_t data = smt_net_cut(all->hdr, m->len, tx->sent, m->len);
    struct smt_net_pkt *p =
        smt_net_pkt_new(h, m->dst, smt_net_payload(all->hdr, tx->sent, data, m->len),
                        level_of(all, m->len - tx->sent));
    p->msg = m;
    p->offset = tx->sent;
    p->len = data;
    tx->sent += data;
    all->n_data++;
    if (tx->sent == m->len) {
        smt_heap_remove(&host->ready, &tx->node);
        smt_pool_put(&all->txs, tx);
    } else if (!all->fifo) {
        smt_heap_update(&host->ready, &tx->node, m->len - tx->sent);
    }
    return p;
}

static void ideal_close(struct smt_net *net)
{
    struct ideal *all = net->policy_state;
    if (all == NULL)
        return;
    if (all->hosts != NULL) {
        for (unsigned i = 0; i < all->n_hosts; i++)
            smt_heap_fini(&all->hosts[i].ready);
        smt_mem_block_free(all->hosts, all->n_hosts * sizeof(*all->hosts));
    }
    smt_pool_fini(&all->txs);
    smt_mem_free(all);
    net->policy_state = NULL;
}

static int ideal_open(struct smt_net *net, const struct smt_policy_config *config)
{
    const struct smt_net_config *nc = &net->config;
    if (nc->switch_buffer > 0 || nc->port_buffer > 0 || nc->loss_ppm > 0 || config->levels == 0)
        return SMT_EINVAL;
    struct ideal *all = smt_mem_alloc(sizeof(*all));
    if (all == NULL)
        return SMT_ENOMEM;
    net->policy_state = all;
    all->hdr = config->hdr;
    all->n_hosts = net->n_hosts;
    all->n_levels = config->levels;
    all->fifo = config->fifo;
    bounds_init(all);
    int rc = smt_pool_init(&all->txs, sizeof(struct ideal_tx), 1024, MAX_MESSAGES);
    all->hosts = smt_mem_block(all->n_hosts * sizeof(*all->hosts));
    if (rc < 0 || all->hosts == NULL) {
        ideal_close(net);
        return SMT_ENOMEM;
    }
    for (unsigned i = 0; i < all->n_hosts; i++)
        net->hosts[i].state = &all->hosts[i];
    return 0;
}

static bool ideal_counter(struct smt_net *net, unsigned i, const char **name, uint64_t *value)
{
    const struct ideal *all = net->policy_state;
    *name = "data_packets";
    *value = all->n_data;
    return i == 0;
}

const struct smt_policy smt_policy_ideal = {
    .name = "ideal",
    .text = "shortest remaining first everywhere: a bound",
    .levels = SMT_NET_MAX_LEVELS,
    .open = ideal_open,
    .close = ideal_close,
    .message = ideal_message,
    .packet = ideal_packet,
    .next = ideal_next,
    .counter = ideal_counter,
};
