/* The policy `control`: Homa as its authors simulated it (HomaSimulation), the measure that the
 * library's own congestion layer is held to. This file sends; control_grants.c grants.
 *
 * A message goes without grants as far as a window of bytes on the wire reaches, each packet at a
 * priority by what is left of its message and cutoffs known in advance; the rest waits for grants.
 * A sender sends grants first, then the packet of the message with the fewest bytes left. There is
 * no loss recovery, as there: a network that loses packets is refused. */
#include "base/mem.h"
#include "sim/control.h"
#include "sim/workload.h"

enum { MAX_READY = 32, MAX_MESSAGES = 1 << 26 };

/* A message as its sender sees it. */
struct control_tx {
    struct smt_heap_node node; /* in its host's `ready` */
    struct smt_net_msg *m;
    uint32_t sent;
    bool begun;
    uint8_t n_granted, first; /* levels of the packets that were granted and not yet sent */
    uint8_t levels[MAX_READY];
};

/* Levels for unscheduled packets of eight, and senders granted at once, as its authors set them. */
struct setting {
    const char *workload;
    unsigned n_unsched, overcommit;
};

static const struct setting settings[] = {
    {"w1", 7, 1}, {"w2", 5, 3}, {"w3", 4, 4}, {"w4", 1, 7}, {"w5", 1, 7}, {NULL, 4, 4},
};

static bool tx_is_ready(const struct control *all, const struct control_tx *tx)
{
    return !tx->begun || tx->n_granted > 0 || (tx->sent < all->unsched && tx->sent < tx->m->len);
}

static void control_message(struct smt_net_host *h, struct smt_net_msg *m)
{
    struct control_host *c = h->state;
    struct control_tx *tx = smt_pool_get(&c->all->txs);
    if (tx == NULL)
        smt_net_fatal("no memory for messages");
    *tx = (struct control_tx){.m = m};
    tx->node.key = c->all->fifo ? 0 : m->len;
    tx->node.tie = m->number;
    m->tx = tx;
    if (smt_heap_insert(&c->ready, &tx->node) < 0)
        smt_net_fatal("no memory for messages");
}

static void grant_came(struct control_host *c, const struct smt_net_pkt *p)
{
    struct control_tx *tx = p->msg->tx;
    assert(tx->n_granted < MAX_READY);
    tx->levels[(tx->first + tx->n_granted++) % MAX_READY] = p->prio;
    if (!smt_heap_has(&tx->node) && smt_heap_insert(&c->ready, &tx->node) < 0)
        smt_net_fatal("no memory for messages");
}

static void control_packet(struct smt_net_host *h, struct smt_net_pkt *p)
{
    struct control_host *c = h->state;
    if (p->type == CONTROL_GRANT)
        grant_came(c, p);
    else
        smt_control_data_came(c, p);
    smt_net_pkt_free(h->net, p);
}

static struct smt_net_pkt *data_next(struct smt_net_host *h, struct control_tx *tx)
{
    struct control_host *c = h->state;
    struct control *all = c->all;
    struct smt_net_msg *m = tx->m;
    uint32_t data = smt_net_cut(all->hdr, m->len, tx->sent, all->unsched);
    unsigned level;
    if (!tx->begun || tx->sent < all->unsched) {
        level = control_level(all, control_unsched_prio(all, m->len - tx->sent));
    } else {
        level = tx->levels[tx->first];
        tx->first = (tx->first + 1) % MAX_READY;
        tx->n_granted--;
    }
    struct smt_net_pkt *p =
        smt_net_pkt_new(h, m->dst, smt_net_payload(all->hdr, tx->sent, data, all->unsched), level);
    p->type = CONTROL_DATA;
    p->msg = m;
    p->offset = tx->sent;
    p->len = data;
    tx->sent += data;
    tx->begun = true;
    all->n_data++;
    return p;
}

static struct smt_net_pkt *control_next(struct smt_net_host *h)
{
    struct control_host *c = h->state;
    struct smt_net_pkt *p = c->grants.first;
    if (p != NULL) {
        c->grants.first = p->next;
        return p;
    }
    struct smt_heap_node *best = smt_heap_min(&c->ready);
    if (best == NULL)
        return NULL;
    struct control_tx *tx = SMT_CONTAINER_OF(best, struct control_tx, node);
    p = data_next(h, tx);
    uint64_t key = c->all->fifo ? 0 : tx->m->len - tx->sent;
    if (tx_is_ready(c->all, tx)) {
        if (key != tx->node.key)
            smt_heap_update(&c->ready, &tx->node, key);
        return p;
    }
    smt_heap_remove(&c->ready, &tx->node);
    tx->node.key = key;
    if (tx->sent == tx->m->len) {
        tx->m->tx = NULL;
        smt_pool_put(&c->all->txs, tx);
    }
    return p;
}

/* ---- open, close ---- */

static const struct setting *setting_find(const struct smt_workload *w)
{
    const struct setting *s = settings;
    while (s->workload != NULL && (w == NULL || strcmp(s->workload, w->name) != 0))
        s++;
    return s;
}

/* Splits the levels as the setting does eight of them; with one level all share it. */
static void levels_split(struct control *all, const struct setting *s)
{
    unsigned n = (all->n_levels * s->n_unsched + 4) / 8;
    if (n >= all->n_levels)
        n = all->n_levels - 1;
    all->n_unsched = n > 0 ? n : 1;
    all->n_sched = all->n_levels > all->n_unsched ? all->n_levels - all->n_unsched : 1;
}

static int hosts_new(struct control *all)
{
    unsigned n = all->net->n_hosts;
    all->hosts = smt_mem_block(n * sizeof(*all->hosts));
    if (all->hosts == NULL)
        return SMT_ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        struct control_host *c = &all->hosts[i];
        c->all = all;
        c->h = &all->net->hosts[i];
        c->peers = smt_mem_block(n * sizeof(*c->peers));
        c->order = smt_mem_block(n * sizeof(*c->order));
        if (c->peers == NULL || c->order == NULL)
            return SMT_ENOMEM;
        for (unsigned k = 0; k < n; k++) {
            c->peers[k] =
                (struct control_peer){.host = c, .number = (uint16_t)k, .timer_at = SMT_NEVER};
        }
        c->h->state = c;
    }
    return 0;
}

static void hosts_free(struct control *all)
{
    if (all->hosts == NULL)
        return;
    for (unsigned i = 0; i < all->net->n_hosts; i++) {
        struct control_host *c = &all->hosts[i];
        for (unsigned k = 0; c->peers != NULL && k < all->net->n_hosts; k++)
            smt_heap_fini(&c->peers[k].msgs);
        if (c->peers != NULL)
            smt_mem_block_free(c->peers, all->net->n_hosts * sizeof(*c->peers));
        if (c->order != NULL)
            smt_mem_block_free(c->order, all->net->n_hosts * sizeof(*c->order));
        smt_heap_fini(&c->ready);
    }
    smt_mem_block_free(all->hosts, all->net->n_hosts * sizeof(*all->hosts));
}

static void control_close(struct smt_net *net)
{
    struct control *all = net->policy_state;
    if (all == NULL)
        return;
    hosts_free(all);
    smt_pool_fini(&all->txs);
    smt_pool_fini(&all->rxs);
    smt_mem_free(all);
    net->policy_state = NULL;
}

static int cutoffs_find(struct control *all, const struct smt_workload *w)
{
    if (w == NULL)
        return 0;
    struct smt_size_share *sizes = smt_mem_block(w->n_points * sizeof(*sizes));
    if (sizes == NULL)
        return SMT_ENOMEM;
    for (unsigned i = 0; i < w->n_points; i++) {
        sizes[i].len = w->points[i].len;
        sizes[i].share = w->points[i].share - (i > 0 ? w->points[i - 1].share : 0);
    }
    int rc = smt_control_cutoffs_compute(all->hdr, sizes, w->n_points, all->unsched, all->n_unsched,
                                         all->cutoffs);
    smt_mem_block_free(sizes, w->n_points * sizeof(*sizes));
    return rc;
}

static int control_open(struct smt_net *net, const struct smt_policy_config *config)
{
    const struct smt_net_config *nc = &net->config;
    if (nc->switch_buffer > 0 || nc->port_buffer > 0 || nc->loss_ppm > 0 || config->levels == 0)
        return SMT_EINVAL;
    struct control *all = smt_mem_alloc(sizeof(*all));
    if (all == NULL)
        return SMT_ENOMEM;
    net->policy_state = all;
    const struct setting *s = setting_find(config->workload);
    all->net = net;
    all->hdr = config->hdr;
    all->n_levels = config->levels < SMT_CONTROL_MAX ? config->levels : SMT_CONTROL_MAX;
    all->overcommit = config->overcommit > 0 ? config->overcommit : s->overcommit;
    all->unsched = config->unsched > 0 ? config->unsched : smt_control_unsched(config->hdr);
    all->fifo = config->fifo;
    levels_split(all, s);
    int rc = smt_pool_init(&all->txs, sizeof(struct control_tx), 1024, MAX_MESSAGES);
    if (rc == 0)
        rc = smt_pool_init(&all->rxs, sizeof(struct control_rx), 1024, MAX_MESSAGES);
    if (rc == 0)
        rc = hosts_new(all);
    if (rc == 0)
        rc = cutoffs_find(all, config->workload);
    if (rc < 0)
        control_close(net);
    return rc;
}

static bool control_counter(struct smt_net *net, unsigned i, const char **name, uint64_t *value)
{
    const struct control *all = net->policy_state;
    switch (i) {
    case 0:
        *name = "data_packets";
        *value = all->n_data;
        return true;
    case 1:
        *name = "grants";
        *value = all->n_grants;
        return true;
    default:
        return false;
    }
}

const struct smt_policy smt_policy_control = {
    .name = "control",
    .text = "Homa as in HomaSimulation: the measure",
    .levels = 8,
    .open = control_open,
    .close = control_close,
    .message = control_message,
    .packet = control_packet,
    .next = control_next,
    .counter = control_counter,
};
