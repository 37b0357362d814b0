/* The policy `dctcp`: what a sender-driven transport makes of the same load. Every message is a
 * flow of its own with a window from its first packet on (nobody has to wait behind a long one, as
 * on a connection; kinder than TCP is), every packet is acknowledged, switches mark packets that
 * find a long queue. There are no priorities; a sender takes its flows in turn. Answers to messages
 * that fit into the first window cost nothing, as if they rode on what goes back anyway: packets of
 * their own would overload W1 by themselves.
 *
 * `reno=1` among the settings makes it plain TCP's answer: to losses only. Others: `window` packets
 * at first, `rto_us` the least retransmission timeout, `ecn` the marking threshold in bytes where
 * the network has none. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/pool.h"
#include "sim/dctcp_flow.h"

enum { DCTCP_DATA, DCTCP_ACK };
enum { MAX_MESSAGES = 1 << 26 };

static const uint64_t ride_delay = 10 * SMT_USEC * SMT_PS_PER_NS;

/* A message as its receiver sees it. */
struct dctcp_rx {
    struct smt_list live;
    struct dctcp_set got;
    uint32_t received;
};

struct dctcp_host {
    struct dctcp *all;
    struct smt_net_host *h;
    struct smt_list round;  /* flows that may send */
    struct smt_heap timers; /* flows with something under way */
    struct smt_net_pkt *first_ack, *last_ack;
    uint64_t fires_at; /* the next event for `timers` */
};

struct dctcp {
    struct dctcp_config config;
    const struct smt_net_headers *hdr;
    struct smt_pool flows, rxs;
    struct smt_list live_flows, live_rxs;
    struct dctcp_host *hosts;
    unsigned n_hosts;
    uint64_t n_data, n_acks, n_timeouts;
};

/* ---- sending ---- */

static void flow_ready(struct dctcp_host *d, struct dctcp_flow *f)
{
    if (smt_dctcp_flow_may_send(f) && smt_list_is_empty(&f->link))
        smt_list_push_tail(&d->round, &f->link);
}

static void timers_fire(void *ctx, void *arg);

/* An event of its own, not the network's timer of this host: another policy may be using that one
 * (host_mixed.c). */
static void timer_set(struct dctcp_host *d)
{
    const struct smt_heap_node *first = smt_heap_min(&d->timers);
    if (first == NULL || first->key >= d->fires_at)
        return;
    d->fires_at = first->key;
    smt_des_at(&d->h->net->des, d->fires_at, timers_fire, d);
}

/* The heap's key may be early: it is put right when its time comes. */
static void flow_timer(struct dctcp_host *d, struct dctcp_flow *f)
{
    if (smt_heap_has(&f->timer) || f->deadline == SMT_NEVER)
        return;
    f->timer.key = f->deadline;
    f->timer.tie = f->m->number;
    if (smt_heap_insert(&d->timers, &f->timer) < 0)
        smt_net_fatal("no memory for messages");
    if (smt_heap_min(&d->timers) == &f->timer)
        timer_set(d);
}

static void dctcp_message(struct smt_net_host *h, struct smt_net_msg *m)
{
    struct dctcp_host *d = h->state;
    struct dctcp_flow *f = smt_pool_get(&d->all->flows);
    if (f == NULL)
        smt_net_fatal("no memory for messages");
    smt_dctcp_flow_init(f, &d->all->config, d->all->hdr, m);
    f->host = d;
    smt_list_push_tail(&d->all->live_flows, &f->live);
    m->tx = f;
    flow_ready(d, f);
}

static void flow_free(struct dctcp_host *d, struct dctcp_flow *f)
{
    smt_list_remove(&f->link);
    smt_list_remove(&f->live);
    if (smt_heap_has(&f->timer))
        smt_heap_remove(&d->timers, &f->timer);
    f->m->tx = NULL;
    smt_dctcp_flow_fini(f);
    smt_pool_put(&d->all->flows, f);
}

static void ack_came(struct dctcp_host *d, const struct smt_net_pkt *p)
{
    struct dctcp_flow *f = p->msg->tx;
    if (f == NULL)
        return;
    smt_dctcp_flow_acked(f, &d->all->config, smt_net_now(d->h->net), (uint32_t)p->word, p->offset,
                         p->prio != 0);
    if (smt_dctcp_flow_is_done(f)) {
        flow_free(d, f);
        return;
    }
    flow_ready(d, f);
    flow_timer(d, f);
}

static struct smt_net_pkt *dctcp_next(struct smt_net_host *h)
{
    struct dctcp_host *d = h->state;
    struct dctcp *all = d->all;
    struct smt_net_pkt *p = d->first_ack;
    if (p != NULL) {
        d->first_ack = p->next;
        all->n_acks++;
        return p;
    }
    struct smt_list *link;
    while ((link = smt_list_pop_head(&d->round)) != NULL) {
        struct dctcp_flow *f = SMT_CONTAINER_OF(link, struct dctcp_flow, link);
        if (!smt_dctcp_flow_may_send(f))
            continue;
        uint32_t number;
        uint32_t index = smt_dctcp_flow_send(f, &all->config, smt_net_now(h->net), &number);
        uint32_t offset = smt_dctcp_flow_offset(f, index), len = smt_dctcp_flow_len(f, index);
        p = smt_net_pkt_new(h, f->m->dst, smt_net_payload(all->hdr, offset, len, f->m->len), 0);
        p->type = DCTCP_DATA;
        p->ecn = all->config.reno ? 0 : 2;
        p->msg = f->m;
        p->offset = index;
        p->len = len;
        p->word = number;
        all->n_data++;
        flow_ready(d, f);
        flow_timer(d, f);
        return p;
    }
    return NULL;
}

static void timers_fire(void *ctx, void *arg)
{
    struct dctcp_host *d = arg;
    uint64_t now = smt_net_now(ctx);
    if (d->fires_at != now)
        return;
    d->fires_at = SMT_NEVER;
    struct smt_heap_node *first;
    while ((first = smt_heap_min(&d->timers)) != NULL && first->key <= now) {
        struct dctcp_flow *f = SMT_CONTAINER_OF(first, struct dctcp_flow, timer);
        smt_heap_remove(&d->timers, &f->timer);
        if (f->deadline <= now) {
            smt_dctcp_flow_timeout(f, &d->all->config, now);
            d->all->n_timeouts++;
            flow_ready(d, f);
        }
        flow_timer(d, f);
    }
    timer_set(d);
    smt_net_wake(d->h);
}

/* ---- receiving ---- */

static void ack_queue(struct dctcp_host *d, const struct smt_net_pkt *data)
{
    struct smt_net_pkt *p = smt_net_pkt_new(d->h, data->src, d->all->hdr->ack, 0);
    p->type = DCTCP_ACK;
    p->ecn = 0;
    p->msg = data->msg;
    p->offset = data->offset;
    p->word = data->word;
    p->prio = data->ecn == 3;
    p->next = NULL;
    if (d->first_ack == NULL)
        d->first_ack = p;
    else
        d->last_ack->next = p;
    d->last_ack = p;
}

/* The data packet itself stands for its answer that rides along. */
static void ride_came(void *ctx, void *arg)
{
    struct smt_net_pkt *p = arg;
    const struct dctcp_flow *f = p->msg->tx;
    if (f != NULL) {
        struct dctcp_host *d = f->host;
        p->prio = p->ecn == 3;
        ack_came(d, p);
        smt_net_wake(d->h);
    }
    smt_net_pkt_free(ctx, p);
}

static void data_came(struct dctcp_host *d, const struct smt_net_pkt *p)
{
    struct smt_net_msg *m = p->msg;
    if (m->done != SMT_NEVER)
        return;
    struct dctcp_rx *rx = m->rx;
    if (rx == NULL) {
        rx = smt_pool_get(&d->all->rxs);
        if (rx == NULL)
            smt_net_fatal("no memory for messages");
        const struct dctcp_flow *f = m->tx;
        *rx = (struct dctcp_rx){0};
        smt_dctcp_set_init(&rx->got, f->n_packets);
        smt_list_push_tail(&d->all->live_rxs, &rx->live);
        m->rx = rx;
    }
    if (!smt_dctcp_set_add(&rx->got, p->offset))
        return;
    rx->received += p->len;
    if (rx->received < m->len)
        return;
    smt_dctcp_set_fini(&rx->got);
    smt_list_remove(&rx->live);
    smt_pool_put(&d->all->rxs, rx);
    m->rx = NULL;
    smt_net_deliver(d->h, m);
}

static void dctcp_packet(struct smt_net_host *h, struct smt_net_pkt *p)
{
    struct dctcp_host *d = h->state;
    if (p->type == DCTCP_ACK) {
        ack_came(d, p);
        smt_net_pkt_free(h->net, p);
        return;
    }
    data_came(d, p);
    const struct dctcp_flow *f = p->msg->tx;
    if (f != NULL && f->n_packets <= d->all->config.window) {
        smt_des_at(&h->net->des, smt_net_now(h->net) + ride_delay, ride_came, p);
        return;
    }
    ack_queue(d, p);
    smt_net_pkt_free(h->net, p);
}

/* ---- open, close ---- */

static bool tune_one(struct dctcp *all, struct smt_net *net, const char *name, size_t len,
                     uint64_t value)
{
    if (len == 4 && memcmp(name, "reno", 4) == 0)
        all->config.reno = value != 0;
    else if (len == 6 && memcmp(name, "window", 6) == 0 && value > 0)
        all->config.window = (uint32_t)value;
    else if (len == 6 && memcmp(name, "rto_us", 6) == 0 && value > 0)
        all->config.min_rto = value * SMT_USEC * SMT_PS_PER_NS;
    else if (len == 3 && memcmp(name, "ecn", 3) == 0)
        net->config.ecn_bytes = value;
    else
        return false;
    return true;
}

static int tune(struct dctcp *all, struct smt_net *net, const char *text)
{
    while (text != NULL && *text != '\0') {
        const char *eq = strchr(text, '=');
        if (eq == NULL)
            return SMT_EINVAL;
        char *end;
        uint64_t value = strtoull(eq + 1, &end, 0);
        if (end == eq + 1 || (*end != '\0' && *end != ',') ||
            !tune_one(all, net, text, (size_t)(eq - text), value))
            return SMT_EINVAL;
        text = *end == ',' ? end + 1 : end;
    }
    return 0;
}

static void hosts_fini(struct dctcp *all)
{
    for (unsigned i = 0; i < all->n_hosts; i++) {
        struct dctcp_host *d = &all->hosts[i];
        struct smt_net_pkt *p;
        while ((p = d->first_ack) != NULL) {
            d->first_ack = p->next;
            smt_net_pkt_free(d->h->net, p);
        }
        smt_heap_fini(&d->timers);
    }
    smt_mem_block_free(all->hosts, all->n_hosts * sizeof(*all->hosts));
}

static void dctcp_close(struct smt_net *net)
{
    struct dctcp *all = net->policy_state;
    if (all == NULL)
        return;
    SMT_LIST_FOREACH_SAFE(it, tmp, &all->live_flows)
        smt_dctcp_flow_fini(SMT_CONTAINER_OF(it, struct dctcp_flow, live));
    SMT_LIST_FOREACH_SAFE(it, tmp, &all->live_rxs)
        smt_dctcp_set_fini(&SMT_CONTAINER_OF(it, struct dctcp_rx, live)->got);
    if (all->hosts != NULL)
        hosts_fini(all);
    smt_pool_fini(&all->flows);
    smt_pool_fini(&all->rxs);
    smt_mem_free(all);
    net->policy_state = NULL;
}

static int dctcp_open(struct smt_net *net, const struct smt_policy_config *config)
{
    struct dctcp *all = smt_mem_alloc(sizeof(*all));
    if (all == NULL)
        return SMT_ENOMEM;
    net->policy_state = all;
    all->config = (struct dctcp_config){.window = 10, .min_rto = SMT_MSEC * SMT_PS_PER_NS};
    all->hdr = config->hdr;
    smt_list_init(&all->live_flows);
    smt_list_init(&all->live_rxs);
    int rc = tune(all, net, config->tune);
    /* About twice the bytes that a packet and its answer let through an empty network. */
    if (net->config.ecn_bytes == 0 && !all->config.reno)
        net->config.ecn_bytes = 20000;
    if (rc == 0)
        rc = smt_pool_init(&all->flows, sizeof(struct dctcp_flow), 1024, MAX_MESSAGES);
    if (rc == 0)
        rc = smt_pool_init(&all->rxs, sizeof(struct dctcp_rx), 1024, MAX_MESSAGES);
    if (rc == 0) {
        all->n_hosts = net->n_hosts;
        all->hosts = smt_mem_block(all->n_hosts * sizeof(*all->hosts));
        rc = all->hosts != NULL ? 0 : SMT_ENOMEM;
    }
    for (unsigned i = 0; rc == 0 && i < all->n_hosts; i++) {
        struct dctcp_host *d = &all->hosts[i];
        d->all = all;
        d->h = &net->hosts[i];
        d->fires_at = SMT_NEVER;
        smt_list_init(&d->round);
        d->h->state = d;
    }
    if (rc < 0)
        dctcp_close(net);
    return rc;
}

static bool dctcp_counter(struct smt_net *net, unsigned i, const char **name, uint64_t *value)
{
    const struct dctcp *all = net->policy_state;
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        {"data_packets", all->n_data}, {"acks", all->n_acks}, {"timeouts", all->n_timeouts}};
    if (i >= SMT_ARRAY_LEN(counters))
        return false;
    *name = counters[i].name;
    *value = counters[i].value;
    return true;
}

const struct smt_policy smt_policy_dctcp = {
    .name = "dctcp",
    .text = "windows at the sender and marks, a flow a message, no priorities",
    .levels = 1,
    .open = dctcp_open,
    .close = dctcp_close,
    .message = dctcp_message,
    .packet = dctcp_packet,
    .next = dctcp_next,
    .counter = dctcp_counter,
};
