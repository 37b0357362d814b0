/* The leaf-spine network of net.h: ports, switches, hosts. One event when a port has sent a packet,
 * one when the packet stands before the next port: two a hop. The second comes a constant time
 * after the first, so only the first goes through the heap.
 *
 * A port's queues are as many lists as there are levels, with a bitmap of those that hold
 * something. A finite buffer counts the waiting bytes of a switch; the packet being sent has left
 * it. */
#include "sim/net.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { MAX_PKTS = 1 << 26, FIRST_PKTS = 1024 };

void smt_net_fatal(const char *what)
{
    fprintf(stderr, "simulation: %s\n", what);
    abort();
}

static inline uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

/* ---- packets ---- */

struct smt_net_pkt *smt_net_pkt_new(struct smt_net_host *h, unsigned dst, uint32_t payload_len,
                                    unsigned level)
{
    struct smt_net *net = h->net;
    assert(dst < net->n_hosts && dst != h->number && level < net->config.n_levels);
    assert(payload_len <= net->config.mtu);
    struct smt_net_pkt *p = smt_pool_get(&net->pkts);
    uint8_t *data = NULL;
    if (p != NULL && net->policy->wants_data)
        data = smt_pool_get(&net->bodies);
    if (p == NULL || (net->policy->wants_data && data == NULL))
        smt_net_fatal("no memory for packets");
    *p = (struct smt_net_pkt){.payload_len = payload_len,
                              .wire_len = smt_net_wire_len(payload_len),
                              .src = h->number,
                              .dst = (uint16_t)dst,
                              .level = (uint8_t)level,
                              .ecn = 2,
                              .data = data};
    net->n_live++;
    return p;
}

void smt_net_pkt_free(struct smt_net *net, struct smt_net_pkt *p)
{
    if (p->data != NULL)
        smt_pool_put(&net->bodies, p->data);
    smt_pool_put(&net->pkts, p);
    net->n_live--;
}

/* ---- queues of a port ---- */

static inline void queue_account(struct smt_net *net, struct smt_net_port *port, int64_t by)
{
    uint64_t now = net->des.now;
    port->stats.queue_integral += (unsigned __int128)port->queued * (now - port->changed);
    port->changed = now;
    port->queued += (uint64_t)by;
    if (port->queued > port->stats.max_queue)
        port->stats.max_queue = port->queued;
    uint64_t *sw = &net->sw_queued[port->sw];
    *sw += (uint64_t)by;
    if (*sw > net->sw_max[port->sw])
        net->sw_max[port->sw] = *sw;
}

static void queue_put(struct smt_net *net, struct smt_net_port *port, struct smt_net_pkt *p)
{
    struct smt_net_queue *q = &port->queues[p->level];
    p->next = NULL;
    if (q->first == NULL)
        q->first = p;
    else
        q->last->next = p;
    q->last = p;
    port->levels[p->level / 64] |= 1ull << p->level % 64;
    queue_account(net, port, p->wire_len);
}

static struct smt_net_pkt *queue_take(struct smt_net *net, struct smt_net_port *port)
{
    unsigned word = port->levels[1] != 0;
    if (port->levels[word] == 0)
        return NULL;
    unsigned level = word * 64 + 63 - (unsigned)__builtin_clzll(port->levels[word]);
    struct smt_net_queue *q = &port->queues[level];
    struct smt_net_pkt *p = q->first;
    q->first = p->next;
    if (q->first == NULL)
        port->levels[word] &= ~(1ull << level % 64);
    queue_account(net, port, -(int64_t)p->wire_len);
    return p;
}

/* ---- the way of a packet ---- */

static void host_pull(struct smt_net_host *h);
static void sent(void *ctx, void *arg);

/* Time in which a receiver's downlink was idle while it held back grants. */
static void withheld_idle_update(struct smt_net_host *h)
{
    const struct smt_net *net = h->net;
    const struct smt_net_port *down = &net->ports[net->n_hosts + h->number];
    bool idle = h->withheld && down->sending == NULL;
    if (idle == h->idle_withheld)
        return;
    if (h->idle_withheld)
        h->withheld_idle_ps += net->des.now - h->withheld_since;
    h->withheld_since = net->des.now;
    h->idle_withheld = idle;
}

void smt_net_set_withheld(struct smt_net_host *h, bool withheld)
{
    h->withheld = withheld;
    withheld_idle_update(h);
}

static void send(struct smt_net *net, struct smt_net_port *port, struct smt_net_pkt *p)
{
    uint64_t len = p->wire_len * port->ps_per_byte;
    port->sending = p;
    port->free_at = net->des.now + len;
    port->stats.n_packets++;
    port->stats.n_bytes += p->wire_len;
    port->stats.busy_ps += len;
    if (port->kind == SMT_NET_HOST_DOWN && net->hosts[port->number].withheld)
        withheld_idle_update(&net->hosts[port->number]);
    smt_des_at(&net->des, port->free_at, sent, port);
}

/* A packet stands before its output port. */
static void arrived(void *ctx, void *arg)
{
    struct smt_net *net = ctx;
    struct smt_net_pkt *p = arg;
    struct smt_net_port *port = p->port;
    if (port->sending == NULL) {
        send(net, port, p);
        return;
    }
    const struct smt_net_config *config = &net->config;
    bool full = (config->port_buffer > 0 && port->queued + p->wire_len > config->port_buffer) ||
                (config->switch_buffer > 0 &&
                 net->sw_queued[port->sw] + p->wire_len > config->switch_buffer);
    if (SMT_UNLIKELY(full)) {
        port->stats.n_dropped++;
        net->n_dropped++;
        smt_net_pkt_free(net, p);
        return;
    }
    if (config->ecn_bytes > 0 && port->queued >= config->ecn_bytes && p->ecn != 0) {
        p->ecn = 3;
        port->stats.n_marked++;
    }
    queue_put(net, port, p);
}

static void taken(void *ctx, void *arg);

/* A packet is in its destination's memory. */
static void received(void *ctx, void *arg)
{
    struct smt_net *net = ctx;
    struct smt_net_pkt *p = arg;
    struct smt_net_host *h = &net->hosts[p->dst];
    if (SMT_UNLIKELY(h->rx_stall_ps > 0)) {
        uint64_t at = h->rx_free > net->des.now ? h->rx_free : net->des.now;
        h->rx_free = at + h->rx_stall_ps;
        smt_des_at(&net->des, at, taken, p);
        return;
    }
    taken(ctx, arg);
}

static void taken(void *ctx, void *arg)
{
    struct smt_net *net = ctx;
    struct smt_net_pkt *p = arg;
    struct smt_net_host *h = &net->hosts[p->dst];
    net->n_received++;
    net->trace = mix(net->trace, net->des.now);
    net->trace = mix(net->trace, (uint64_t)p->src << 48 | (uint64_t)p->dst << 32 | p->payload_len);
    net->policy->packet(h, p);
    host_pull(h);
}

static unsigned tor_of(const struct smt_net *net, unsigned host)
{
    return host / net->config.hosts_per_tor;
}

/* Where the packet that `port` has sent goes next; NULL: to its destination. */
static struct smt_net_port *next_port(struct smt_net *net, const struct smt_net_port *port,
                                      const struct smt_net_pkt *p)
{
    unsigned n = net->n_hosts, n_spines = net->config.n_spines, to = tor_of(net, p->dst);
    struct smt_net_port *up = net->ports + 2 * n;
    switch (port->kind) {
    case SMT_NET_HOST_UP: {
        unsigned from = tor_of(net, p->src);
        if (from == to)
            return &net->ports[n + p->dst];
        unsigned spine = n_spines > 1 ? (unsigned)smt_prng_below(&net->rng, n_spines) : 0;
        return &up[from * n_spines + spine];
    }
    case SMT_NET_TOR_UP:
        return &up[net->config.n_tors * n_spines + port->peer * net->config.n_tors + to];
    case SMT_NET_SPINE_DOWN:
        return &net->ports[n + p->dst];
    default:
        return NULL;
    }
}

static bool is_lost(struct smt_net *net, const struct smt_net_port *port)
{
    if (SMT_UNLIKELY(port->down_until > net->des.now))
        return true;
    return net->config.loss_ppm > 0 && port->kind == SMT_NET_HOST_UP &&
           smt_prng_below(&net->rng, 1000000) < net->config.loss_ppm;
}

/* The port has sent its packet. */
static void sent(void *ctx, void *arg)
{
    struct smt_net *net = ctx;
    struct smt_net_port *port = arg;
    struct smt_net_pkt *p = port->sending;
    port->sending = NULL;
    if (SMT_UNLIKELY(is_lost(net, port))) {
        port->stats.n_lost++;
        net->n_lost++;
        smt_net_pkt_free(net, p);
    } else {
        p->port = next_port(net, port, p);
        smt_des_in_lane(&net->des, port->lane, p->port != NULL ? arrived : received, p);
    }
    if (port->kind == SMT_NET_HOST_UP) {
        host_pull(&net->hosts[port->number]);
        return;
    }
    struct smt_net_pkt *next = queue_take(net, port);
    if (next != NULL)
        send(net, port, next);
    else if (port->kind == SMT_NET_HOST_DOWN && net->hosts[port->number].withheld)
        withheld_idle_update(&net->hosts[port->number]);
}

static void host_pull(struct smt_net_host *h)
{
    struct smt_net *net = h->net;
    struct smt_net_port *port = &net->ports[h->number];
    h->woken = true;
    if (port->sending != NULL || h->pulling)
        return;
    /* What `next` sets off may want to send too. */
    struct smt_net_pkt *p = NULL;
    h->pulling = true;
    while (p == NULL && h->woken) {
        h->woken = false;
        p = net->policy->next(h);
    }
    h->pulling = false;
    if (p == NULL)
        return;
    net->n_sent++;
    send(net, port, p);
}

void smt_net_wake(struct smt_net_host *h)
{
    host_pull(h);
}

/* ---- timers, messages ---- */

/* Cancelled timers stay in the heap and find that they are not meant. */
static void timer_fired(void *ctx, void *arg)
{
    struct smt_net *net = ctx;
    struct smt_net_host *h = arg;
    if (h->timer_event == net->des.now)
        h->timer_event = SMT_NEVER;
    if (h->timer_at > net->des.now) {
        smt_net_set_timer(h, h->timer_at);
        return;
    }
    h->timer_at = SMT_NEVER;
    if (net->policy->timer != NULL)
        net->policy->timer(h);
    host_pull(h);
}

void smt_net_set_timer(struct smt_net_host *h, uint64_t at)
{
    struct smt_net *net = h->net;
    h->timer_at = at;
    if (at == SMT_NEVER || h->timer_event <= at)
        return;
    h->timer_event = at > net->des.now ? at : net->des.now;
    smt_des_at(&net->des, h->timer_event, timer_fired, h);
}

void smt_net_post(struct smt_net *net, struct smt_net_msg *m)
{
    struct smt_net_host *h = &net->hosts[m->src];
    assert(m->src != m->dst && m->dst < net->n_hosts);
    m->created = net->des.now;
    m->done = SMT_NEVER;
    net->policy->message(h, m);
    host_pull(h);
}

void smt_net_deliver(struct smt_net_host *h, struct smt_net_msg *m)
{
    struct smt_net *net = h->net;
    if (h->number != m->dst || m->done != SMT_NEVER || m->failed)
        smt_net_fatal("a policy delivers a message twice or to the wrong host");
    m->done = net->des.now;
    net->trace = mix(net->trace, m->number << 1);
    if (net->hooks.delivered != NULL)
        net->hooks.delivered(net->hooks.arg, h, m);
}

void smt_net_fail(struct smt_net_host *h, struct smt_net_msg *m, int error)
{
    struct smt_net *net = h->net;
    if (m->failed)
        smt_net_fatal("a policy fails a message twice");
    m->failed = true;
    net->trace = mix(net->trace, m->number << 1 | 1);
    if (net->hooks.failed != NULL)
        net->hooks.failed(net->hooks.arg, h, m, error);
}

void smt_net_flap(struct smt_net *net, unsigned host, uint64_t until)
{
    net->ports[host].down_until = until;
    net->ports[net->n_hosts + host].down_until = until;
}

void smt_net_run(struct smt_net *net, uint64_t until)
{
    while (smt_des_step(&net->des, until)) {
    }
    if (until != SMT_NEVER && net->des.now < until)
        net->des.now = until;
}

/* ---- statistics ---- */

void smt_net_stats_settle(struct smt_net *net)
{
    for (unsigned i = 0; i < net->n_ports; i++)
        queue_account(net, &net->ports[i], 0);
    for (unsigned i = 0; i < net->n_hosts; i++) {
        struct smt_net_host *h = &net->hosts[i];
        if (h->idle_withheld) {
            h->withheld_idle_ps += net->des.now - h->withheld_since;
            h->withheld_since = net->des.now;
        }
    }
}

void smt_net_stats_reset(struct smt_net *net)
{
    smt_net_stats_settle(net);
    for (unsigned i = 0; i < net->n_ports; i++) {
        struct smt_net_port *port = &net->ports[i];
        port->stats = (struct smt_net_port_stats){.max_queue = port->queued};
    }
    for (unsigned i = 0; i < net->n_hosts; i++)
        net->hosts[i].withheld_idle_ps = 0;
    for (unsigned i = 0; i < net->config.n_tors + net->config.n_spines; i++)
        net->sw_max[i] = net->sw_queued[i];
}

uint64_t smt_net_ideal(const struct smt_net *net, const struct smt_net_headers *hdr, unsigned src,
                       unsigned dst, uint32_t len, uint32_t unsched)
{
    const struct smt_net_config *c = &net->config;
    struct smt_net_cost cost = smt_net_message_cost(hdr, len, unsched);
    uint64_t host = net->ports[src].ps_per_byte, fixed = c->host_out_ns + c->host_in_ns;
    uint64_t last = net->ports[net->n_hosts + dst].ps_per_byte;
    /* Whichever link is slowest carries everything, the others one packet each. */
    if (tor_of(net, src) == tor_of(net, dst))
        return (fixed + c->switch_ns + 2 * c->link_ns) * SMT_PS_PER_NS + cost.data_wire * host +
               cost.max_wire * last;
    uint64_t core = net->ports[2 * net->n_hosts].ps_per_byte;
    uint64_t slow = core > host ? core : host, fast = core > host ? host : core;
    return (fixed + 3 * c->switch_ns + 4 * c->link_ns) * SMT_PS_PER_NS + cost.data_wire * slow +
           cost.max_wire * (core > host ? last + fast + core : 2 * core + last);
}

/* ---- making one ---- */

static int port_init(struct smt_net *net, struct smt_net_port *port, enum smt_net_port_kind kind,
                     uint64_t mbps, uint64_t delay_ns)
{
    int lane = smt_des_lane(&net->des, delay_ns * SMT_PS_PER_NS);
    if (lane < 0)
        return lane;
    port->kind = kind;
    port->lane = (uint8_t)lane;
    port->ps_per_byte = 8000000 / mbps;
    /* The host's own packets wait in its policy. */
    if (kind == SMT_NET_HOST_UP)
        return 0;
    port->queues = smt_mem_block(net->config.n_levels * sizeof(*port->queues));
    return port->queues != NULL ? 0 : SMT_ENOMEM;
}

static int ports_new(struct smt_net *net)
{
    const struct smt_net_config *c = &net->config;
    unsigned n = net->n_hosts;
    for (unsigned i = 0; i < n; i++) {
        struct smt_net_port *up = &net->ports[i], *down = &net->ports[n + i];
        /* From the last bit at the sender: to the next switch's output queue. */
        int rc = port_init(net, up, SMT_NET_HOST_UP, c->host_mbps,
                           c->host_out_ns + c->link_ns + c->switch_ns);
        if (rc == 0)
            rc = port_init(net, down, SMT_NET_HOST_DOWN, c->host_mbps, c->link_ns + c->host_in_ns);
        if (rc < 0)
            return rc;
        up->number = down->number = (uint16_t)i;
        up->sw = down->sw = (uint16_t)tor_of(net, i);
    }
    struct smt_net_port *port = &net->ports[2 * n];
    for (unsigned kind = SMT_NET_TOR_UP; kind <= SMT_NET_SPINE_DOWN; kind++) {
        bool up = kind == SMT_NET_TOR_UP;
        for (unsigned i = 0; i < c->n_tors * c->n_spines; i++, port++) {
            unsigned from = i / (up ? c->n_spines : c->n_tors);
            int rc = port_init(net, port, kind, c->core_mbps, c->link_ns + c->switch_ns);
            if (rc < 0)
                return rc;
            port->number = (uint16_t)from;
            port->peer = (uint16_t)(i % (up ? c->n_spines : c->n_tors));
            port->sw = (uint16_t)(up ? from : c->n_tors + from);
        }
    }
    return 0;
}

static bool config_ok(const struct smt_net_config *c)
{
    uint64_t n = (uint64_t)c->n_tors * c->hosts_per_tor;
    return n >= 2 && n <= UINT16_MAX / 2 && (c->n_tors == 1 || c->n_spines > 0) &&
           c->n_spines < 1024 && c->host_mbps > 0 && c->core_mbps > 0 &&
           c->host_mbps <= 8000000 && c->core_mbps <= 8000000 && c->n_levels > 0 &&
           c->n_levels <= SMT_NET_MAX_LEVELS;
}

static int parts_new(struct smt_net *net)
{
    const struct smt_net_config *c = &net->config;
    unsigned n_sw = c->n_tors + c->n_spines;
    net->hosts = smt_mem_block(net->n_hosts * sizeof(*net->hosts));
    net->ports = smt_mem_block(net->n_ports * sizeof(*net->ports));
    net->sw_queued = smt_mem_block(n_sw * sizeof(uint64_t));
    net->sw_max = smt_mem_block(n_sw * sizeof(uint64_t));
    if (net->hosts == NULL || net->ports == NULL || net->sw_queued == NULL || net->sw_max == NULL)
        return SMT_ENOMEM;
    int rc = smt_des_init(&net->des, net);
    if (rc == 0)
        rc = smt_pool_init(&net->pkts, sizeof(struct smt_net_pkt), FIRST_PKTS, MAX_PKTS);
    if (rc == 0 && net->policy->wants_data)
        rc = smt_pool_init(&net->bodies, net->config.mtu, FIRST_PKTS, MAX_PKTS);
    return rc == 0 ? ports_new(net) : rc;
}

int smt_net_new(const struct smt_net_config *config, const struct smt_policy *policy,
                const struct smt_policy_config *policy_config, const struct smt_net_hooks *hooks,
                struct smt_net **out)
{
    if (!config_ok(config))
        return SMT_EINVAL;
    struct smt_net *net = smt_mem_alloc(sizeof(*net));
    if (net == NULL)
        return SMT_ENOMEM;
    net->config = *config;
    if (config->mtu == 0)
        net->config.mtu = SMT_NET_MAX_PAYLOAD;
    net->hooks = *hooks;
    net->policy = policy;
    net->n_hosts = config->n_tors * config->hosts_per_tor;
    net->n_ports = 2 * net->n_hosts + 2 * config->n_tors * config->n_spines;
    smt_prng_seed(&net->rng, mix(config->seed, 0x5e7));
    int rc = parts_new(net);
    for (unsigned i = 0; rc == 0 && i < net->n_hosts; i++) {
        net->hosts[i] = (struct smt_net_host){
            .net = net, .number = (uint16_t)i, .timer_at = SMT_NEVER, .timer_event = SMT_NEVER};
    }
    if (rc == 0)
        rc = policy->open(net, policy_config);
    if (rc < 0) {
        net->policy = NULL;
        smt_net_free(net);
        return rc;
    }
    *out = net;
    return 0;
}

void smt_net_free(struct smt_net *net)
{
    if (net == NULL)
        return;
    if (net->policy != NULL)
        net->policy->close(net);
    if (net->ports != NULL) {
        size_t queues_len = net->config.n_levels * sizeof(struct smt_net_queue);
        for (unsigned i = 0; i < net->n_ports; i++) {
            if (net->ports[i].queues != NULL)
                smt_mem_block_free(net->ports[i].queues, queues_len);
        }
        smt_mem_block_free(net->ports, net->n_ports * sizeof(*net->ports));
    }
    unsigned n_sw = net->config.n_tors + net->config.n_spines;
    smt_mem_block_free(net->hosts, net->n_hosts * sizeof(*net->hosts));
    smt_mem_block_free(net->sw_queued, n_sw * sizeof(uint64_t));
    smt_mem_block_free(net->sw_max, n_sw * sizeof(uint64_t));
    smt_pool_fini(&net->pkts);
    smt_pool_fini(&net->bodies);
    smt_des_fini(&net->des);
    smt_mem_free(net);
}
