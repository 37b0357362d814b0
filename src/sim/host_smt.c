/* Hosts that run the library's own engine, one each. The NIC asks for one packet at a time, so
 * nothing waits in it: what a device with back-pressure comes to. Sessions between all hosts come
 * up and are used once before time 0, a pair after the other, over the simulated network.
 *
 * A message is found again at its destination by the pair of hosts and its rpc id: the bytes of
 * messages are not carried (plain_aead.h). */
#include "sim/host_smt.h"

#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "core/rpc.h"
#include "core/state.h"
#include "sim/smt_tune.h"

enum { MAX_MESSAGE = 1 << 30, PORT = 18515, MAX_COUNTERS = 256, SETTLED_LOOKS = 3 };

/* A pair's handshake takes about 25 us unloaded; many pairs run beside each other. */
static const uint64_t hs_spacing = 40 * SMT_USEC * SMT_PS_PER_NS;
static const uint64_t prime_spacing = 20 * SMT_USEC * SMT_PS_PER_NS;
static const uint64_t hs_patience = 10 * SMT_SEC * SMT_PS_PER_NS;
static const uint64_t settle = 5 * SMT_MSEC * SMT_PS_PER_NS;

static uint64_t now_of(const struct smt_host *h)
{
    return smt_net_ns(h->all->net);
}

/* ---- the engine's surroundings ---- */

static void host_random(void *arg, void *out, size_t len)
{
    smt_prng_bytes(&((struct smt_host *)arg)->random, out, len);
}

static void cookie_make(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                        uint8_t out[32])
{
    memset(out, 0, 32);
    memcpy(out, &id, sizeof(id));
}

static bool cookie_check(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                         const uint8_t cookie[32])
{
    uint8_t want[32];
    cookie_make(arg, now, from, id, want);
    return memcmp(want, cookie, sizeof(want)) == 0;
}

/* The engine's priorities to the network's levels: the upper ones when there are more. */
static unsigned level_of(const struct smt_host *h, uint8_t prio)
{
    unsigned levels = h->all->levels < 8 ? h->all->levels : 8;
    return h->all->net->config.n_levels - levels + prio;
}

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct smt_host *h = arg;
    if (h->made != NULL)
        return NULL;
    h->made = smt_net_pkt_new(h->net_host, smt_get_be16(to->ip + 14), (uint32_t)len,
                              level_of(h, prio));
    return h->made->data;
}

static void sink_unreserve(void *arg)
{
    struct smt_host *h = arg;
    smt_net_pkt_free(h->all->net, h->made);
    h->made = NULL;
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    return SMT_NET_MAX_PAYLOAD;
}

/* ---- events ---- */

static struct smt_map_key key_of(unsigned src, unsigned dst, uint64_t id)
{
    return (struct smt_map_key){(uint64_t)src << 16 | dst, id & ~(1ull << 63)};
}

static void wait_push(struct smt_host *h, struct smt_net_msg *m)
{
    struct smt_host_peer *peer = &h->peers[m->dst];
    struct smt_host_wait *w = smt_mem_alloc(sizeof(*w));
    if (w == NULL)
        smt_net_fatal("no memory for a waiting message");
    w->m = m;
    if (peer->first == NULL)
        peer->last = &peer->first;
    *peer->last = w;
    peer->last = &w->next;
}

/* SMT_EAGAIN: it waits for WRITABLE; SMT_ECLOSED: there is no session now. */
static int post(struct smt_host *h, struct smt_net_msg *m)
{
    struct smt_host_conn *c = smt_host_conn_to(h, m->dst);
    if (c == NULL)
        return SMT_ECLOSED;
    const struct smt_post_iov iov = {h->all->bytes, m->len};
    const struct smt_post p = {
        .iov = &iov, .n_iov = 1, .one_way = m->kind == SMT_NET_ONE_WAY, .user = m};
    uint64_t id;
    int rc = smt_conn_post(c->conn, &p, &id);
    if (rc == 0 && smt_map_put(&h->all->ids, key_of(m->src, m->dst, id), m) < 0)
        smt_net_fatal("no memory for message ids");
    return rc;
}

static void reply(struct smt_host *h, struct smt_net_msg *m)
{
    struct smt_rpc *r = m->call->rx;
    m->call->rx = NULL;
    m->call->tx = m;
    if (r == NULL)
        return;
    const struct smt_post_iov iov = {h->all->bytes, m->len};
    int rc = smt_rpc_reply(r, &iov, 1, NULL);
    smt_rpc_release(r);
    if (rc < 0)
        smt_net_fail(h->net_host, m, rc);
}

static void send_waiting(struct smt_host *h, unsigned peer)
{
    struct smt_host_peer *p = &h->peers[peer];
    struct smt_host_wait *w;
    while ((w = p->first) != NULL) {
        int rc = post(h, w->m);
        if (rc == SMT_EAGAIN || rc == SMT_ECLOSED)
            return;
        if (rc < 0)
            smt_net_fail(h->net_host, w->m, rc);
        p->first = w->next;
        smt_mem_free(w);
    }
}

/* First uses of sessions are not the traffic that cutoffs are to be made of: many hosts give many
 * messages of one byte, and levels cut by those would put all others into the lowest. */
static void forget_length(struct smt_host *h, uint32_t len)
{
    struct smt_cutoffs *c = &h->engine->cutoffs;
    uint32_t *count = &c->count[smt_cutoffs_class(len)];
    if (c->n_seen > 0 && *count >= SMT_CUTOFFS_ONE) {
        c->n_seen--;
        *count -= SMT_CUTOFFS_ONE;
    }
}

/* A request or one-way message is whole. */
static void message_came(struct smt_host *h, const struct smt_engine_event *ev)
{
    const struct smt_host_conn *c = smt_conn_user(ev->conn);
    struct smt_net_msg *m =
        smt_map_del(&h->all->ids, key_of(c->peer, h->net_host->number, ev->rpc->id));
    if (m == NULL || m->failed) {
        /* One of the first uses of a session, or its sender has died meanwhile. */
        forget_length(h, (uint32_t)ev->len);
        if (ev->type == SMT_EE_REQUEST && smt_rpc_reject(ev->rpc) < 0)
            smt_net_fatal("a request cannot be refused");
        smt_rpc_release(ev->rpc);
        return;
    }
    if (m->kind == SMT_NET_REQUEST)
        m->rx = ev->rpc;
    else
        smt_rpc_release(ev->rpc);
    smt_net_deliver(h->net_host, m);
}

static void call_ended(struct smt_host *h, const struct smt_engine_event *ev)
{
    struct smt_net_msg *m = ev->user;
    if (ev->type == SMT_EE_RESPONSE) {
        if (ev->rpc != NULL)
            smt_rpc_release(ev->rpc);
        struct smt_net_msg *response = m->tx;
        if (response != NULL && !response->failed)
            smt_net_deliver(h->net_host, response);
        return;
    }
    if (m != NULL && m->done == SMT_NEVER && !m->failed)
        smt_net_fail(h->net_host, m, ev->error);
}

static void event(struct smt_host *h, const struct smt_engine_event *ev)
{
    switch (ev->type) {
    case SMT_EE_REQUEST:
    case SMT_EE_MESSAGE:
        message_came(h, ev);
        return;
    case SMT_EE_RESPONSE:
    case SMT_EE_FAILED:
        call_ended(h, ev);
        return;
    case SMT_EE_INCOMING:
    case SMT_EE_SENT:
        return;
    case SMT_EE_WRITABLE:
        send_waiting(h, ((struct smt_host_conn *)smt_conn_user(ev->conn))->peer);
        return;
    case SMT_EE_UP: {
        smt_host_hs_event(h, ev);
        send_waiting(h, ((struct smt_host_conn *)smt_conn_user(ev->conn))->peer);
        return;
    }
    default:
        smt_host_hs_event(h, ev);
        return;
    }
}

static void watch_cutoffs(struct smt_host *h)
{
    const struct smt_cutoffs *c = &h->engine->cutoffs;
    if (c->n_changes == h->n_changes)
        return;
    h->n_changes = c->n_changes;
    h->looks_then = c->n_looks;
}

/* Every engine has looked at its traffic three times and left the cutoffs alone. */
static bool smt_settled(struct smt_net *net)
{
    const struct smt_hosts *all = net->policy_state;
    for (unsigned i = 0; i < net->n_hosts; i++) {
        const struct smt_host *h = &all->hosts[i];
        if (h->engine->cutoffs.n_looks < h->looks_then + SETTLED_LOOKS)
            return false;
    }
    return true;
}

/* After every call into the engine: its events, its timers. */
static void settle_host(struct smt_host *h)
{
    struct smt_engine_event ev;
    for (;;) {
        while (smt_engine_next_event(h->engine, &ev))
            event(h, &ev);
        uint64_t deadline = smt_engine_deadline(h->engine), now = now_of(h);
        if (deadline > now) {
            smt_net_set_withheld(h->net_host, smt_grants_withhold(&h->engine->grants));
            watch_cutoffs(h);
            smt_net_set_timer(h->net_host,
                              deadline == SMT_NEVER ? SMT_NEVER : deadline * SMT_PS_PER_NS);
            return;
        }
        smt_engine_tick(h->engine, now);
    }
}

/* ---- the policy ---- */

static void smt_message(struct smt_net_host *nh, struct smt_net_msg *m)
{
    struct smt_host *h = nh->state;
    if (m->kind == SMT_NET_RESPONSE) {
        reply(h, m);
        return;
    }
    int rc = h->peers[m->dst].first != NULL ? SMT_EAGAIN : post(h, m);
    if (rc == SMT_EAGAIN || rc == SMT_ECLOSED)
        wait_push(h, m);
    else if (rc < 0)
        smt_net_fail(nh, m, rc);
}

static void smt_packet(struct smt_net_host *nh, struct smt_net_pkt *p)
{
    struct smt_host *h = nh->state;
    const struct smt_pkt pkt = {.data = p->data,
                                .len = p->payload_len,
                                .ecn = p->ecn,
                                .from = &h->all->hosts[p->src].addr};
    smt_engine_rx(h->engine, now_of(h), &pkt, 1);
    smt_net_pkt_free(h->all->net, p);
    settle_host(h);
}

static struct smt_net_pkt *smt_next(struct smt_net_host *nh)
{
    struct smt_host *h = nh->state;
    if (!smt_engine_tx_pending(h->engine))
        return NULL;
    const struct smt_tx_sink sink = {
        .arg = h, .reserve = sink_reserve, .unreserve = sink_unreserve, .mtu = sink_mtu};
    h->made = NULL;
    (void)smt_engine_tx(h->engine, now_of(h), &sink);
    struct smt_net_pkt *p = h->made;
    h->made = NULL;
    settle_host(h);
    return p;
}

static void smt_timer(struct smt_net_host *nh)
{
    struct smt_host *h = nh->state;
    smt_engine_tick(h->engine, now_of(h));
    settle_host(h);
}

static void engine_start(struct smt_host *h)
{
    const struct smt_policy_config *pc = &h->all->config;
    struct smt_engine_config g;
    smt_engine_config_init(&g);
    uint64_t seed = pc->seed * 0x9e3779b97f4a7c15ull + h->net_host->number;
    seed += (uint64_t)h->life << 32;
    smt_prng_seed(&h->random, seed);
    g.port = PORT;
    g.number = (uint8_t)(h->net_host->number + 1);
    g.accept = true;
    g.max_open_rpcs = 1 << 20;
    g.max_conn_bytes = 1ull << 40;
    g.max_bytes = 1ull << 40;
    g.accept_len = MAX_MESSAGE;
    g.cached_keys = 8 * h->all->net->n_hosts;
    g.seed = seed;
    g.random = host_random;
    g.random_arg = h;
    g.cookie_make = cookie_make;
    g.cookie_check = cookie_check;
    g.tune.n_prios = h->all->levels < 8 ? h->all->levels : 8;
    if (pc->overcommit > 0)
        g.tune.overcommit = pc->overcommit;
    if (smt_tune_engine(&g, pc->tune) < 0)
        smt_net_fatal("a setting of the engine is not known");
    if (smt_engine_new(&g, now_of(h), &h->engine) < 0)
        smt_net_fatal("no memory for an engine");
}

static void messages_of_host_fail(struct smt_hosts *all, unsigned host)
{
    uint32_t pos = 0;
    struct smt_map_key key;
    void *val;
    while (smt_map_next(&all->ids, &pos, &key, &val)) {
        struct smt_net_msg *m = val;
        if ((m->src == host || m->dst == host) && !m->failed && m->done == SMT_NEVER)
            smt_net_fail(&all->net->hosts[host], m, SMT_ECLOSED);
    }
}

static void smt_restart(struct smt_net_host *nh)
{
    struct smt_host *h = nh->state;
    smt_engine_free(h->engine);
    smt_host_hs_forget(h);
    messages_of_host_fail(h->all, nh->number);
    h->life++;
    h->n_changes = h->looks_then = 0;
    engine_start(h);
    for (unsigned i = 0; i < h->all->net->n_hosts; i++) {
        if (i != nh->number)
            smt_host_connect(h, i);
    }
    settle_host(h);
}

/* ---- before time 0 ---- */

/* A pair of hosts in a pointer. */
static void *pair_of(unsigned from, unsigned to)
{
    return (void *)(uintptr_t)((uint64_t)from << 16 | to);
}

static void connect_pair(void *ctx, void *arg)
{
    struct smt_hosts *all = ((struct smt_net *)ctx)->policy_state;
    struct smt_host *h = &all->hosts[(uintptr_t)arg >> 16];
    smt_host_connect(h, (unsigned)((uintptr_t)arg & 0xffff));
    settle_host(h);
    smt_net_wake(h->net_host);
}

/* The first message of a session measures the path and proves the packet size, once. */
static void use_pair(void *ctx, void *arg)
{
    struct smt_hosts *all = ((struct smt_net *)ctx)->policy_state;
    struct smt_host *h = &all->hosts[(uintptr_t)arg >> 16];
    struct smt_host_conn *c = smt_host_conn_to(h, (unsigned)((uintptr_t)arg & 0xffff));
    const struct smt_post_iov iov = {all->bytes, 1};
    const struct smt_post p = {.iov = &iov, .n_iov = 1, .one_way = true};
    uint64_t id;
    if (c == NULL || smt_conn_post(c->conn, &p, &id) < 0)
        smt_net_fatal("a fresh session cannot be used");
    settle_host(h);
    smt_net_wake(h->net_host);
}

/* Rounds in which every host has one partner at most. */
static int sessions_open(struct smt_hosts *all)
{
    struct smt_net *net = all->net;
    unsigned n = net->n_hosts;
    uint64_t at = smt_net_now(net);
    for (unsigned round = 0; round < n; round++, at += hs_spacing) {
        for (unsigned i = 0; i < n; i++) {
            unsigned k = (round + n - i) % n;
            if (i < k)
                smt_des_at(&net->des, at, connect_pair, pair_of(i, k));
        }
    }
    uint64_t want = (uint64_t)n * (n - 1), until = at + hs_patience;
    while (all->n_up < want && smt_net_now(net) < until)
        smt_net_run(net, smt_net_now(net) + settle);
    if (all->n_up < want)
        return SMT_EUNREACHABLE;
    at = smt_net_now(net);
    for (unsigned round = 1; round < n; round++, at += prime_spacing) {
        for (unsigned i = 0; i < n; i++)
            smt_des_at(&net->des, at, use_pair, pair_of(i, (i + round) % n));
    }
    smt_net_run(net, at + settle);
    return 0;
}

static void smt_close(struct smt_net *net)
{
    struct smt_hosts *all = net->policy_state;
    if (all == NULL)
        return;
    for (unsigned i = 0; all->hosts != NULL && i < net->n_hosts; i++) {
        struct smt_host *h = &all->hosts[i];
        if (h->peers == NULL)
            continue;
        smt_engine_free(h->engine);
        smt_host_hs_forget(h);
        for (unsigned k = 0; k < net->n_hosts; k++) {
            while (h->peers[k].first != NULL) {
                struct smt_host_wait *w = h->peers[k].first;
                h->peers[k].first = w->next;
                smt_mem_free(w);
            }
        }
        smt_mem_block_free(h->peers, net->n_hosts * sizeof(*h->peers));
    }
    smt_map_fini(&all->ids);
    smt_mem_unmap(all->bytes, MAX_MESSAGE);
    smt_mem_block_free(all->hosts, net->n_hosts * sizeof(*all->hosts));
    smt_mem_free(all);
    net->policy_state = NULL;
}

static int host_open(struct smt_hosts *all, unsigned i)
{
    struct smt_host *h = &all->hosts[i];
    h->all = all;
    h->net_host = &all->net->hosts[i];
    h->net_host->state = h;
    h->addr = (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 10}, .port = PORT};
    smt_put_be16(h->addr.ip + 14, (uint16_t)i);
    h->peers = smt_mem_block(all->net->n_hosts * sizeof(*h->peers));
    if (h->peers == NULL)
        return SMT_ENOMEM;
    engine_start(h);
    return 0;
}

static int smt_open(struct smt_net *net, const struct smt_policy_config *config)
{
    struct smt_hosts *all = smt_mem_alloc(sizeof(*all));
    if (all == NULL)
        return SMT_ENOMEM;
    net->policy_state = all;
    all->net = net;
    all->config = *config;
    all->levels = config->levels < net->config.n_levels ? config->levels : net->config.n_levels;
    const uint64_t seed[2] = {config->seed, 1};
    all->hosts = smt_mem_block(net->n_hosts * sizeof(*all->hosts));
    all->bytes = smt_mem_map(MAX_MESSAGE);
    int rc = all->hosts != NULL && all->bytes != NULL ? 0 : SMT_ENOMEM;
    if (rc == 0)
        rc = smt_map_init(&all->ids, seed, 1 << 16);
    for (unsigned i = 0; rc == 0 && i < net->n_hosts; i++)
        rc = host_open(all, i);
    if (rc == 0)
        rc = sessions_open(all);
    if (rc < 0)
        smt_close(net);
    return rc;
}

static uint64_t counter_sum(struct smt_hosts *all, unsigned i, const char **name)
{
    uint64_t sum = 0;
    for (unsigned k = 0; k < all->net->n_hosts; k++) {
        struct smt_engine_counter one[MAX_COUNTERS];
        (void)smt_engine_counters(all->hosts[k].engine, one, MAX_COUNTERS);
        *name = one[i].name;
        sum += one[i].value;
    }
    return sum;
}

/* The two that every policy has, then the engines' own, summed. */
static bool smt_counter(struct smt_net *net, unsigned i, const char **name, uint64_t *value)
{
    static const char *const common[][2] = {{"data_packets", "packets_sent_data"},
                                            {"grants", "grants_sent"}};
    enum { N_COMMON = SMT_ARRAY_LEN(common) };
    struct smt_hosts *all = net->policy_state;
    struct smt_engine_counter one[MAX_COUNTERS];
    unsigned n = smt_engine_counters(all->hosts[0].engine, one, MAX_COUNTERS);
    unsigned k = i < N_COMMON ? 0 : i - N_COMMON;
    if (i < N_COMMON) {
        while (k < n && strcmp(one[k].name, common[i][1]) != 0)
            k++;
    }
    if (k >= n || k >= MAX_COUNTERS)
        return false;
    *value = counter_sum(all, k, name);
    if (i < N_COMMON)
        *name = common[i][0];
    return true;
}

const struct smt_policy smt_policy_smt = {
    .name = "smt",
    .text = "the library's own engine, one per host",
    .levels = 8,
    .wants_data = true,
    .open = smt_open,
    .close = smt_close,
    .message = smt_message,
    .packet = smt_packet,
    .next = smt_next,
    .timer = smt_timer,
    .restart = smt_restart,
    .settled = smt_settled,
    .counter = smt_counter,
};
