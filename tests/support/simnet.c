/* The virtual network of simnet.h: clock, queues, links with faults, hosts. The stand-in handshake
 * is in sim_hs.c. All memory is malloc's, not the library's, so that the library's books show
 * engines only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "fast_hash.h"
#include "sim_nic.h"
#include "sim_state.h"
#include "wire/wire.h"

enum { RX_BATCH = 64, WIRE_OVERHEAD = 66, STUCK_LIMIT = 100000 };

/* ---- the queue of things to come ---- */

enum { THING_QUEUE, THING_PACKET, THING_TIMER };

struct thing {
    uint64_t at, seq;
    void *what;
    int kind;
};

struct timer {
    sim_timer_fn *fn;
    void *arg;
};

struct simnet_state {
    struct sim_link links[SIM_MAX_HOSTS][SIM_MAX_HOSTS];
    struct thing *heap;
    size_t n, cap;
    uint64_t seq;
    size_t n_flying; /* packets in the heap */
    struct sim_packet *free_packets;
    FILE *pcap;
    struct smt_mem_stats mem;
    uint64_t live_ctxs;
    uint64_t config_seed;
};

static bool thing_before(const struct thing *a, const struct thing *b)
{
    return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void heap_push(struct simnet_state *s, struct thing t)
{
    if (s->n == s->cap) {
        s->cap = s->cap > 0 ? s->cap * 2 : 1024;
        s->heap = realloc(s->heap, s->cap * sizeof(*s->heap));
        assert_non_null(s->heap);
    }
    size_t i = s->n++;
    while (i > 0 && thing_before(&t, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = t;
    s->n_flying += t.kind != THING_TIMER;
}

static struct thing heap_pop(struct simnet_state *s)
{
    struct thing top = s->heap[0];
    struct thing t = s->heap[--s->n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->n)
            break;
        if (child + 1 < s->n && thing_before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!thing_before(&s->heap[child], &t))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = t;
    s->n_flying -= top.kind != THING_TIMER;
    return top;
}

/* ---- packets ---- */

static struct sim_packet *packet_new(struct simnet *net)
{
    struct simnet_state *s = net->state;
    struct sim_packet *p = s->free_packets;
    if (p != NULL) {
        s->free_packets = p->next;
        uint8_t *data = p->data;
        *p = (struct sim_packet){.data = data};
        return p;
    }
    p = calloc(1, sizeof(*p));
    assert_non_null(p);
    p->data = malloc(SIM_MAX_PACKET);
    assert_non_null(p->data);
    return p;
}

/* What an engine kept a pointer to reads as 0xdd from here on. */
static void packet_free(struct simnet *net, struct sim_packet *p)
{
    memset(p->data, 0xdd, p->len);
    p->next = net->state->free_packets;
    net->state->free_packets = p;
}

static void pcap_begin(struct simnet_state *s, const char *path)
{
    static const uint32_t head[6] = {0xa1b23c4d, 4 << 16 | 2, 0, 0, 65535, 101};
    s->pcap = fopen(path, "wb");
    assert_non_null(s->pcap);
    uint16_t version[2] = {2, 4};
    uint32_t h[6];
    memcpy(h, head, sizeof(h));
    memcpy(&h[1], version, 4);
    assert_int_equal(fwrite(h, sizeof(h), 1, s->pcap), 1);
}

/* As an IPv4 packet with UDP, nanosecond stamps. */
static void pcap_packet(struct simnet *net, const struct sim_packet *p)
{
    uint32_t total = 28 + p->len;
    uint32_t head[4] = {(uint32_t)(net->now / SMT_SEC), (uint32_t)(net->now % SMT_SEC), total,
                        total};
    uint8_t ip[28] = {0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17};
    const struct smt_addr *to = &net->hosts[p->to].addr;
    smt_put_be16(ip + 2, (uint16_t)total);
    memcpy(ip + 12, p->source.ip + 12, 4);
    memcpy(ip + 16, to->ip + 12, 4);
    smt_put_be16(ip + 20, p->source.port);
    smt_put_be16(ip + 22, to->port);
    smt_put_be16(ip + 24, (uint16_t)(8 + p->len));
    bool ok = fwrite(head, sizeof(head), 1, net->state->pcap) == 1 &&
              fwrite(ip, sizeof(ip), 1, net->state->pcap) == 1 &&
              (p->len == 0 || fwrite(p->data, p->len, 1, net->state->pcap) == 1);
    assert_true(ok);
}

static bool chance(struct simnet *net, uint32_t rate)
{
    return rate > 0 && smt_prng_below(&net->rng, SIM_ALWAYS) < rate;
}

/* False: it is lost. Packets that no tag protects (handshakes, NO_SESSION …) die of the UDP
 * checksum, as TLS dies of one wrong byte; what a forger can do to them is sim_garbage's matter. */
static bool damage(struct simnet *net, struct sim_packet *p)
{
    if (p->len > 13 && p->data[13] >= SMT_KIND_HANDSHAKE)
        return false;
    if (smt_prng_below(&net->rng, 8) == 0) {
        p->len = (uint32_t)smt_prng_below(&net->rng, p->len);
        return true;
    }
    unsigned n = 1 + (unsigned)smt_prng_below(&net->rng, 3);
    for (unsigned i = 0; i < n; i++)
        p->data[smt_prng_below(&net->rng, p->len)] ^= (uint8_t)(1 + smt_prng_below(&net->rng, 255));
    return true;
}

static void push_packet(struct simnet *net, struct sim_packet *p, uint64_t at, int kind)
{
    p->at = at;
    p->seq = net->state->seq++;
    heap_push(net->state, (struct thing){.at = at, .seq = p->seq, .what = p, .kind = kind});
}

/* The host takes the packet at that time, or when it looks next. */
static void reach_host(struct simnet *net, struct sim_packet *p, uint64_t at)
{
    const struct sim_host *to = &net->hosts[p->to];
    if (to->poll_ns > 0)
        at = (at + to->poll_ns - 1) / to->poll_ns * to->poll_ns;
    push_packet(net, p, at, THING_PACKET);
}

/* The host has a slow processor: packets wait for it in order of coming. */
static void reach_processor(struct simnet *net, struct sim_packet *p)
{
    const struct sim_host *to = &net->hosts[p->to];
    struct sim_host_state *hs = to->state;
    uint64_t start = net->now > hs->down_free ? net->now : hs->down_free;
    if ((start - net->now) / to->packet_ns >= to->max_waiting) {
        net->n_dropped++;
        packet_free(net, p);
        return;
    }
    hs->down_free = start + to->packet_ns;
    reach_host(net, p, hs->down_free);
}

/* The packet comes to the last hop: a queue that drains at the host's rate, in order of coming. */
static void reach_queue(struct simnet *net, struct sim_packet *p)
{
    const struct sim_host *to = &net->hosts[p->to];
    struct sim_host_state *hs = to->state;
    if (to->packet_ns > 0) {
        reach_processor(net, p);
        return;
    }
    uint64_t start = net->now > hs->down_free ? net->now : hs->down_free;
    uint64_t waiting = (uint64_t)((unsigned __int128)(start - net->now) * to->down_rate / SMT_SEC);
    if (to->down_queue > 0 && waiting > to->down_queue) {
        net->n_dropped++;
        packet_free(net, p);
        return;
    }
    if (to->down_queue > 0 && waiting > to->down_queue / 4)
        p->ecn = 3;
    hs->down_free = start + (p->len + WIRE_OVERHEAD) * SMT_SEC / to->down_rate;
    reach_host(net, p, hs->down_free);
}

static void schedule(struct simnet *net, struct sim_packet *p, uint64_t at)
{
    if (net->hosts[p->to].down_rate > 0 || net->hosts[p->to].packet_ns > 0)
        push_packet(net, p, at, THING_QUEUE);
    else
        reach_host(net, p, at);
}

/* A packet leaves its host at `at`: hook, trace and the link's faults. */
static void launch(struct simnet *net, struct sim_packet *p, uint64_t at)
{
    struct sim_host *from = &net->hosts[p->from];
    from->n_sent++;
    from->bytes_sent += p->len;
    net->n_packets++;
    if (net->hook != NULL && net->hook(net->hook_arg, net, p) == SIM_DROP) {
        net->n_dropped++;
        packet_free(net, p);
        return;
    }
    net->trace = fast_mix(net->trace, at);
    net->trace = fast_mix(net->trace, (uint64_t)p->from << 32 | p->to);
    net->trace = fast_mix(net->trace, fast_hash(p->len, p->data, p->len));
    if (net->state->pcap != NULL)
        pcap_packet(net, p);

    const struct sim_link *l = &net->state->links[p->from][p->to];
    bool lost = (l->mtu > 0 && p->len > l->mtu) || p->len > from->mtu ||
                (at >= l->dark_from && at < l->dark_until) || chance(net, l->drop);
    if (lost) {
        net->n_dropped++;
        packet_free(net, p);
        return;
    }
    if (chance(net, l->dup)) {
        struct sim_packet *twin = packet_new(net);
        uint8_t *data = twin->data;
        *twin = *p;
        twin->data = data;
        memcpy(twin->data, p->data, p->len);
        schedule(net, twin,
                 at + l->delay + p->extra_delay + smt_prng_below(&net->rng, l->delay + 1));
    }
    if (chance(net, l->corrupt) && !damage(net, p)) {
        net->n_dropped++;
        packet_free(net, p);
        return;
    }
    if (chance(net, l->ce))
        p->ecn = 3;
    uint64_t late = chance(net, l->reorder) ? 1 + smt_prng_below(&net->rng, l->reorder_ns + 1) : 0;
    schedule(net, p, at + l->delay + p->extra_delay + late);
}

void simnet_inject(struct simnet *net, const struct smt_addr *source, unsigned to,
                   const uint8_t *bytes, size_t len, uint64_t delay)
{
    assert_true(len <= SIM_MAX_PACKET && to < net->n_hosts);
    struct sim_packet *p = packet_new(net);
    p->from = SIM_MAX_HOSTS;
    p->to = to;
    p->source = *source;
    p->len = (uint32_t)len;
    if (len > 0)
        memcpy(p->data, bytes, len);
    schedule(net, p, net->now + delay);
}

/* ---- the send queue of a host ---- */

static uint64_t backlog(const struct sim_host *h)
{
    struct sim_host_state *s = h->state;
    if (s->tx_free <= h->net->now)
        return 0;
    return (uint64_t)((unsigned __int128)(s->tx_free - h->net->now) * h->rate / SMT_SEC);
}

static void occupy(struct sim_host *h, size_t len)
{
    struct sim_host_state *s = h->state;
    if (h->rate > 0) {
        uint64_t start = s->tx_free > h->net->now ? s->tx_free : h->net->now;
        s->tx_free = start + (len + WIRE_OVERHEAD) * SMT_SEC / h->rate;
    }
}

/* One record leaves in slices; a NIC seals it on the way. */
static void burst_commit(struct sim_host *h)
{
    struct sim_host_state *s = h->state;
    struct sim_burst *b = &s->burst;
    uint8_t *record = b->bytes + b->hdr_len;
    if (b->ctx != 0)
        sim_nic_seal(h->nic, b->ctx, b->record_no, record, b->record_len);
    uint16_t id = 0;
    for (size_t at = 0; at < b->record_len; at += b->slice_len, id++) {
        size_t len = b->record_len - at < b->slice_len ? b->record_len - at : b->slice_len;
        s->n_committed++;
        if (b->to >= h->net->n_hosts)
            continue;
        struct sim_packet *p = packet_new(h->net);
        p->from = h->number;
        p->to = b->to;
        p->source = h->addr;
        p->len = (uint32_t)(b->hdr_len + len);
        p->prio = b->prio;
        p->ip_id = id;
        memcpy(p->data, b->bytes, b->hdr_len);
        memcpy(p->data + b->hdr_len, record + at, len);
        occupy(h, p->len);
        launch(h->net, p, s->tx_free > h->net->now ? s->tx_free : h->net->now);
    }
    b->record_len = 0;
}

/* The packets of a run, of which core knows that they are one record. */
static void run_commit(struct sim_host *h)
{
    struct sim_host_state *s = h->state;
    struct sim_burst *b = &s->burst;
    for (unsigned i = 0; i < b->n; i++) {
        s->n_committed++;
        if (b->to >= h->net->n_hosts)
            continue;
        struct sim_packet *p = packet_new(h->net);
        p->from = h->number;
        p->to = b->to;
        p->source = h->addr;
        p->len = (uint32_t)(i < b->n - 1 ? b->slice_len : b->last_len);
        p->prio = b->prio;
        memcpy(p->data, b->bytes + i * b->stride, p->len);
        occupy(h, p->len);
        launch(h->net, p, s->tx_free > h->net->now ? s->tx_free : h->net->now);
    }
    b->n = 0;
}

static void commit(struct sim_host *h)
{
    struct sim_host_state *s = h->state;
    if (s->burst.n > 0)
        run_commit(h);
    if (s->burst.record_len > 0)
        burst_commit(h);
    if (s->pending == NULL)
        return;
    struct sim_packet *p = s->pending;
    s->pending = NULL;
    s->n_committed++;
    if (p->to >= h->net->n_hosts) {
        packet_free(h->net, p);
        return;
    }
    launch(h->net, p, s->tx_free > h->net->now ? s->tx_free : h->net->now);
}

static unsigned find_host(const struct simnet *net, const struct smt_addr *to)
{
    for (unsigned i = 0; i < net->n_hosts; i++) {
        if (smt_addr_equal(&net->hosts[i].addr, to))
            return i;
    }
    return SIM_MAX_HOSTS;
}

/* Is there room for len bytes more? If not the engine is told when there is again. */
static bool queue_takes(struct sim_host *h, size_t len)
{
    if (h->queue_len > 0 && h->rate > 0 && backlog(h) + len > h->queue_len) {
        h->state->tx_full = true;
        return false;
    }
    return true;
}

static uint8_t *sink_reserve(void *arg, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct sim_host *h = arg;
    struct sim_host_state *s = h->state;
    commit(h);
    SIM_CHECK(h->net, len > 0 && len <= s->mtu_said, "packet of %zu bytes, device takes %u", len,
              h->mtu);
    SIM_CHECK(h->net, prio < 8, "priority %u", prio);
    if (!queue_takes(h, len))
        return NULL;
    struct sim_packet *p = packet_new(h->net);
    p->from = h->number;
    p->to = find_host(h->net, to);
    p->source = h->addr;
    p->len = (uint32_t)len;
    p->prio = prio;
    memset(p->data, 0xcc, len);
    s->pending = p;
    s->tx_before = s->tx_free;
    occupy(h, len);
    return p->data;
}

static uint8_t *sink_burst(void *arg, const struct smt_addr *to, size_t hdr_len, size_t record_len,
                           size_t slice_len, uint8_t prio)
{
    struct sim_host *h = arg;
    struct sim_host_state *s = h->state;
    struct sim_burst *b = &s->burst;
    commit(h);
    SIM_CHECK(h->net, hdr_len + record_len <= sizeof(b->bytes) && slice_len <= record_len,
              "burst of %zu bytes", record_len);
    SIM_CHECK(h->net, hdr_len + slice_len <= s->mtu_said, "slices of %zu bytes", slice_len);
    if (!queue_takes(h, record_len))
        return NULL;
    b->to = find_host(h->net, to);
    b->prio = prio;
    b->hdr_len = hdr_len;
    b->record_len = record_len;
    b->slice_len = slice_len;
    b->ctx = 0;
    memset(b->bytes, 0xcc, hdr_len + record_len);
    return b->bytes;
}

static uint8_t *sink_run(void *arg, const struct smt_addr *to, unsigned n, size_t len,
                         size_t last_len, uint8_t prio, size_t *stride)
{
    struct sim_host *h = arg;
    struct sim_host_state *s = h->state;
    struct sim_burst *b = &s->burst;
    commit(h);
    SIM_CHECK(h->net, n > 1 && last_len > 0 && last_len <= len && len <= s->mtu_said,
              "run of %u packets of %zu bytes, the last %zu", n, len, last_len);
    SIM_CHECK(h->net, (n - 1) * len + last_len <= h->run_max, "run of %u packets of %zu bytes", n,
              len);
    if (!queue_takes(h, n * len))
        return NULL;
    b->to = find_host(h->net, to);
    b->prio = prio;
    b->n = n;
    b->slice_len = len;
    b->last_len = last_len;
    *stride = b->stride = len + 3; /* not what the packets themselves would make it */
    SIM_CHECK(h->net, n * b->stride <= sizeof(b->bytes), "run of %zu bytes", n * b->stride);
    memset(b->bytes, 0xcc, sizeof(b->bytes));
    return b->bytes;
}

static uint32_t sink_run_max(void *arg, const struct smt_addr *to)
{
    return ((const struct sim_host *)arg)->run_max;
}

int sim_nic_reserve(struct sim_host *h, uint64_t ctx, const struct smt_seal_record *r,
                    uint8_t **out)
{
    *out = sink_burst(h, r->to, r->hdr_len, r->record_len, r->slice_len, r->prio);
    if (*out == NULL)
        return SMT_EAGAIN;
    h->state->burst.ctx = ctx;
    h->state->burst.record_no = r->record_no;
    return 0;
}

static void sink_unreserve(void *arg)
{
    struct sim_host *h = arg;
    struct sim_host_state *s = h->state;
    if (s->burst.record_len > 0 || s->burst.n > 0) {
        s->burst.record_len = s->burst.n = 0;
        return;
    }
    SIM_CHECK(h->net, s->pending != NULL, "unreserve without reserve");
    packet_free(h->net, s->pending);
    s->pending = NULL;
    s->tx_free = s->tx_before;
}

static uint32_t sink_mtu(void *arg, const struct smt_addr *to)
{
    const struct sim_host *h = arg;
    if (h->mtu > h->state->mtu_said)
        h->state->mtu_said = h->mtu;
    return h->mtu;
}

/* ---- running a host ---- */

static bool host_tx(struct sim_host *h)
{
    struct sim_host_state *s = h->state;
    struct smt_tx_sink sink = {.arg = h,
                               .reserve = sink_reserve,
                               .unreserve = sink_unreserve,
                               .mtu = sink_mtu,
                               .burst = h->cuts_bursts ? sink_burst : NULL,
                               .run = h->run_max > 0 ? sink_run : NULL,
                               .run_max = sink_run_max};
    s->n_committed = 0;
    s->tx_full = false;
    unsigned n = smt_engine_tx(h->engine, h->net->now, &sink);
    commit(h);
    SIM_CHECK(h->net, n == s->n_committed, "tx says %u packets, sink saw %u", n, s->n_committed);
    return n > 0;
}

static bool host_events(struct sim_host *h)
{
    struct simnet *net = h->net;
    struct smt_engine_event ev;
    bool any = false;
    while (h->engine != NULL && smt_engine_next_event(h->engine, &ev)) {
        any = true;
        net->trace = fast_mix(net->trace, (uint64_t)ev.type << 32 | (uint32_t)ev.error);
        net->trace = fast_mix(net->trace, ev.id ^ (uint64_t)h->number << 56);
        net->trace = fast_mix(net->trace, net->now ^ ev.len);
        sim_hs_event(h, &ev);
    }
    return any;
}

/* Timers, events and sending until nothing is left to do at this moment. */
static void host_run(struct sim_host *h)
{
    struct simnet *net = h->net;
    struct sim_host_state *s = h->state;
    s->dirty = false;
    for (unsigned turn = 0; h->engine != NULL; turn++) {
        bool busy = false;
        if (smt_engine_deadline(h->engine) <= net->now) {
            smt_engine_tick(h->engine, net->now);
            busy = true;
        }
        busy |= host_events(h);
        if (h->engine == NULL)
            return;
        if (smt_engine_tx_pending(h->engine)) {
            busy |= host_tx(h);
            SIM_CHECK(net,
                      turn < STUCK_LIMIT / 2 || !smt_engine_tx_pending(h->engine) || s->tx_full,
                      "tx_pending stays true though the sink has room");
        } else if ((net->n_steps & 31) == 0) {
            s->tx_full = false;
            SIM_CHECK(net, !host_tx(h), "tx sent though tx_pending was false");
        }
        bool due = smt_engine_deadline(h->engine) <= net->now;
        bool more = smt_engine_tx_pending(h->engine) && !s->tx_full;
        if (!busy && !due && !more)
            break;
        SIM_CHECK(net, turn < STUCK_LIMIT, "host %u never comes to rest at one moment", h->number);
    }
    s->wake = smt_engine_deadline(h->engine);
    if (s->tx_full && smt_engine_tx_pending(h->engine)) {
        uint64_t drained = s->tx_free - h->queue_len / 2 * SMT_SEC / h->rate;
        uint64_t room = drained > net->now ? drained : net->now + 1;
        s->wake = room < s->wake ? room : s->wake;
    }
}

static void deliver(struct simnet *net, struct sim_packet *first)
{
    struct simnet_state *s = net->state;
    struct sim_host *h = &net->hosts[first->to];
    struct sim_packet *batch[RX_BATCH] = {first};
    struct smt_pkt pkts[RX_BATCH];
    unsigned n = 1;
    while (n < RX_BATCH && s->n > 0 && s->heap[0].at == net->now &&
           s->heap[0].kind == THING_PACKET &&
           ((struct sim_packet *)s->heap[0].what)->to == first->to)
        batch[n++] = heap_pop(s).what;
    for (unsigned i = 0; i < n; i++)
        pkts[i] = (struct smt_pkt){.data = batch[i]->data,
                                   .len = batch[i]->len,
                                   .ecn = batch[i]->ecn,
                                   .ip_id = batch[i]->ip_id,
                                   .from = &batch[i]->source};
    if (h->engine != NULL) {
        h->n_received += n;
        smt_engine_rx(h->engine, net->now, pkts, n);
    }
    for (unsigned i = 0; i < n; i++)
        packet_free(net, batch[i]);
    if (h->engine != NULL)
        host_run(h);
}

bool simnet_step(struct simnet *net, uint64_t until)
{
    struct simnet_state *s = net->state;
    net->n_steps++;
    struct sim_host *next = NULL;
    for (unsigned i = 0; i < net->n_hosts; i++) {
        struct sim_host *h = &net->hosts[i];
        if (h->engine == NULL)
            continue;
        if (h->state->dirty) {
            host_run(h);
            return true;
        }
        if (next == NULL || h->state->wake < next->state->wake)
            next = h;
    }
    uint64_t wake = next != NULL ? next->state->wake : SMT_NEVER;
    uint64_t arrival = s->n > 0 ? s->heap[0].at : SMT_NEVER;
    uint64_t at = arrival <= wake ? arrival : wake;
    if (at == SMT_NEVER || at > until)
        return false;
    if (at > net->now)
        net->now = at;
    if (arrival > wake) {
        host_run(next);
        return true;
    }
    struct thing t = heap_pop(s);
    if (t.kind == THING_QUEUE) {
        reach_queue(net, t.what);
    } else if (t.kind == THING_PACKET) {
        deliver(net, t.what);
    } else {
        struct timer timer = *(struct timer *)t.what;
        free(t.what);
        timer.fn(timer.arg, net);
    }
    return true;
}

bool simnet_run(struct simnet *net, uint64_t until, bool (*done)(void *arg), void *arg)
{
    while (!done(arg)) {
        if (!simnet_step(net, until)) {
            if (until != SMT_NEVER)
                net->now = until;
            return done(arg);
        }
    }
    return true;
}

void simnet_sleep(struct simnet *net, uint64_t len)
{
    uint64_t until = net->now + len;
    while (simnet_step(net, until))
        continue;
    net->now = until;
}

static bool all_at_rest(const struct simnet *net)
{
    if (net->state->n_flying > 0)
        return false;
    for (unsigned i = 0; i < net->n_hosts; i++) {
        const struct sim_host *h = &net->hosts[i];
        if (h->engine != NULL && (h->state->dirty || !smt_engine_is_at_rest(h->engine)))
            return false;
    }
    return true;
}

void simnet_settle(struct simnet *net, uint64_t until)
{
    while (!all_at_rest(net)) {
        bool more = simnet_step(net, until);
        /* A conn whose DOWN was taken goes with the next call. */
        for (unsigned i = 0; !more && i < net->n_hosts; i++) {
            if (net->hosts[i].engine != NULL)
                smt_engine_tick(net->hosts[i].engine, net->now);
        }
        for (unsigned i = 0; !more && i < net->n_hosts; i++) {
            const struct sim_host *h = &net->hosts[i];
            SIM_CHECK(net, h->engine == NULL || smt_engine_is_at_rest(h->engine),
                      "engine of host %u is not at rest", i);
        }
        SIM_CHECK(net, more || net->state->n_flying == 0, "packets fly for ever");
    }
}

void simnet_at(struct simnet *net, uint64_t when, sim_timer_fn *fn, void *arg)
{
    struct timer *t = malloc(sizeof(*t));
    assert_non_null(t);
    *t = (struct timer){fn, arg};
    heap_push(net->state, (struct thing){.at = when > net->now ? when : net->now,
                                         .seq = net->state->seq++,
                                         .what = t,
                                         .kind = THING_TIMER});
}

void simnet_poke(struct sim_host *host)
{
    host->state->dirty = true;
}

/* ---- life and death ---- */

static void host_random(void *arg, void *out, size_t len)
{
    struct sim_host_state *s = arg;
    smt_prng_bytes(&s->random, out, len);
}

static void cookie_make(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                        uint8_t out[32])
{
    const struct sim_host_state *s = arg;
    uint64_t h = fast_hash(s->cookie_key ^ id, (const uint8_t *)from, sizeof(*from));
    for (unsigned i = 0; i < 4; i++) {
        h = fast_mix(h, i);
        memcpy(out + 8 * i, &h, 8);
    }
}

static bool cookie_check(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                         const uint8_t cookie[32])
{
    uint8_t want[32];
    cookie_make(arg, now, from, id, want);
    return memcmp(want, cookie, sizeof(want)) == 0;
}

void simnet_revive(struct sim_host *h)
{
    assert_null(h->engine);
    struct sim_host_state *s = h->state;
    s->life++;
    uint64_t seed = fast_mix(fast_mix(h->net->state->config_seed, h->number), s->life);
    smt_prng_seed(&s->random, seed);
    s->cookie_key = fast_mix(seed, 1);
    h->config.seed = fast_mix(seed, 2);
    h->config.random_arg = s;
    h->config.cookie_arg = s;
    int err = smt_engine_new(&h->config, h->net->now, &h->engine);
    if (err == SMT_ENOMEM) /* a sweep of failing allocations: the next one does not fail */
        err = smt_engine_new(&h->config, h->net->now, &h->engine);
    SIM_CHECK(h->net, err == 0, "smt_engine_new: %d", err);
    s->wake = smt_engine_deadline(h->engine);
    s->dirty = true;
}

void simnet_kill(struct sim_host *h)
{
    smt_engine_free(h->engine);
    h->engine = NULL;
    h->state->dirty = false;
    h->state->wake = SMT_NEVER;
    sim_hs_forget(h);
}

struct simnet *simnet_new(const struct simnet_config *config)
{
    checking_aead_reset();
    struct simnet *net = calloc(1, sizeof(*net));
    assert_non_null(net);
    net->state = calloc(1, sizeof(*net->state));
    assert_non_null(net->state);
    net->seed = config->seed;
    net->now = SMT_SEC;
    net->n_hosts = config->n_hosts;
    net->aead = config->aead;
    net->state->config_seed = config->seed;
    net->state->mem = smt_mem_live();
    net->state->live_ctxs = checking_aead_stats().live_ctxs;
    smt_prng_seed(&net->rng, fast_mix(config->seed, 77));
    struct sim_link link = config->link;
    if (link.delay == 0)
        link.delay = 10 * SMT_USEC;
    if (link.reorder_ns == 0)
        link.reorder_ns = 20 * link.delay;
    simnet_set_links(net, &link);
    if (config->pcap != NULL)
        pcap_begin(net->state, config->pcap);
    for (unsigned i = 0; i < net->n_hosts; i++) {
        struct sim_host *h = &net->hosts[i];
        h->net = net;
        h->number = i;
        h->state = calloc(1, sizeof(*h->state));
        assert_non_null(h->state);
        h->state->wake = SMT_NEVER;
        h->addr =
            (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = (uint8_t)(i + 1)},
                              .port = (uint16_t)(20000 + i)};
        h->mtu = 1472;
        h->state->mtu_said = SMT_BASE_PACKET;
        h->rate = 3125000000;
        smt_engine_config_init(&h->config);
        h->config.port = h->addr.port;
        h->config.number = (uint8_t)(i + 1);
        h->config.accept = true;
        h->config.random = host_random;
        h->config.cookie_make = cookie_make;
        h->config.cookie_check = cookie_check;
    }
    return net;
}

void simnet_start(struct simnet *net)
{
    for (unsigned i = 0; i < net->n_hosts; i++)
        simnet_revive(&net->hosts[i]);
}

void simnet_free(struct simnet *net)
{
    struct simnet_state *s = net->state;
    for (unsigned i = 0; i < net->n_hosts; i++)
        simnet_kill(&net->hosts[i]);
    struct smt_mem_stats now = smt_mem_live();
    SIM_CHECK(net, now.n_live == s->mem.n_live && now.bytes_live == s->mem.bytes_live,
              "engines leaked %lld allocations", (long long)(now.n_live - s->mem.n_live));
    SIM_CHECK(net, checking_aead_stats().live_ctxs == s->live_ctxs, "cipher contexts leaked");
    while (s->n > 0) {
        struct thing t = heap_pop(s);
        if (t.kind != THING_TIMER)
            packet_free(net, t.what);
        else
            free(t.what);
    }
    while (s->free_packets != NULL) {
        struct sim_packet *p = s->free_packets;
        s->free_packets = p->next;
        free(p->data);
        free(p);
    }
    if (s->pcap != NULL)
        fclose(s->pcap);
    for (unsigned i = 0; i < net->n_hosts; i++)
        free(net->hosts[i].state);
    free(s->heap);
    free(s);
    free(net);
    checking_aead_reset();
}

struct sim_link *simnet_link(struct simnet *net, unsigned from, unsigned to)
{
    return &net->state->links[from][to];
}

void simnet_set_links(struct simnet *net, const struct sim_link *link)
{
    for (unsigned i = 0; i < net->n_hosts; i++) {
        for (unsigned k = 0; k < net->n_hosts; k++)
            net->state->links[i][k] = *link;
    }
}

/* ---- looking inside, failing ---- */

enum { MAX_COUNTERS = 256 };

static unsigned counters(const struct smt_engine *e, struct smt_engine_counter out[MAX_COUNTERS])
{
    unsigned n = smt_engine_counters(e, out, MAX_COUNTERS);
    assert_true(n <= MAX_COUNTERS);
    return n;
}

uint64_t sim_counter(const struct smt_engine *e, const char *name)
{
    struct smt_engine_counter all[MAX_COUNTERS];
    unsigned n = counters(e, all);
    for (unsigned i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) == 0)
            return all[i].value;
    }
    fail_msg("no counter \"%s\"", name);
    return 0;
}

uint64_t sim_counter_sum(const struct smt_engine *e, const char *prefix)
{
    struct smt_engine_counter all[MAX_COUNTERS];
    unsigned n = counters(e, all);
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++) {
        if (strncmp(all[i].name, prefix, strlen(prefix)) == 0)
            sum += all[i].value;
    }
    return sum;
}

void sim_counters_print(const struct smt_engine *e, FILE *out)
{
    struct smt_engine_counter all[MAX_COUNTERS];
    unsigned n = counters(e, all);
    for (unsigned i = 0; i < n; i++) {
        if (all[i].value != 0)
            fprintf(out, "    %s %llu\n", all[i].name, (unsigned long long)all[i].value);
    }
}

void sim_fail(struct simnet *net, const char *file, int line, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n  SEED %llu (SMT_SIM_SEED), at %.6f ms, %llu packets, trace %016llx\n",
            (unsigned long long)net->seed, (double)(net->now - SMT_SEC) / 1e6,
            (unsigned long long)net->n_packets, (unsigned long long)net->trace);
    for (unsigned i = 0; i < net->n_hosts && i < 4; i++) {
        if (net->hosts[i].engine == NULL)
            continue;
        fprintf(stderr, "  host %u, memory %llu:\n", i,
                (unsigned long long)smt_engine_memory(net->hosts[i].engine));
        sim_counters_print(net->hosts[i].engine, stderr);
    }
    if (net->state->pcap != NULL)
        fflush(net->state->pcap);
    fail();
    abort();
}

unsigned sim_scale(void)
{
    const char *text = getenv("SMT_SIM_SCALE");
    if (text != NULL)
        return (unsigned)strtoul(text, NULL, 10);
#if defined(__SANITIZE_ADDRESS__) || defined(SMT_SIM_SLOW)
    return 20;
#else
    return 100;
#endif
}

uint64_t sim_scaled(uint64_t n)
{
    uint64_t scaled = n * sim_scale() / 100;
    return scaled > 0 ? scaled : 1;
}

uint64_t sim_seed(uint64_t fallback)
{
    const char *text = getenv("SMT_SIM_SEED");
    return text != NULL ? strtoull(text, NULL, 0) : fallback;
}
