/* A run from empty network to result. The messages of a seed are the same whatever the policy:
 * each host draws from a stream of its own, and times count from the start of the load, when a
 * policy's preparations are over. */
#include "sim/run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

/* SETTLE_MOST: times the warm-up that was asked for. */
enum { PROGRESS_PARTS = 200, SETTLE_MOST = 32 };

struct source {
    struct run *run;
    struct smt_prng rng;
    uint16_t host;
};

struct run {
    const struct smt_run_config *config;
    struct smt_run_result *out;
    struct smt_net *net;
    struct smt_pool msgs;
    struct source *sources;
    struct smt_net_msg **measured;
    uint64_t n_measured, cap_measured;
    uint64_t start, warm_end, load_end, end; /* ps */
    uint64_t n_msgs, n_open_measured;
    uint64_t created_bytes, delivered_bytes;
    double backlog[SMT_RUN_BACKLOG];
    unsigned n_backlog;
    /* incast and shuffle */
    unsigned n_open_round, n_rounds_done;
    uint64_t round_begin;
    bool closed; /* statistics of the loaded time are taken */
};

static inline uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15ull;
    return h ^ h >> 29;
}

static uint64_t ps(uint64_t ns)
{
    return ns * SMT_PS_PER_NS;
}

static bool in_window(const struct run *r, uint64_t at)
{
    return at >= r->warm_end && at < r->load_end;
}

static void measured_add(struct run *r, struct smt_net_msg *m)
{
    if (r->n_measured == r->cap_measured) {
        uint64_t cap = r->cap_measured > 0 ? 2 * r->cap_measured : 4096;
        struct smt_net_msg **more = smt_mem_block(cap * sizeof(*more));
        if (more == NULL)
            smt_net_fatal("no memory for measured messages");
        if (r->n_measured > 0)
            memcpy(more, r->measured, r->n_measured * sizeof(*more));
        smt_mem_block_free(r->measured, r->cap_measured * sizeof(*more));
        r->measured = more;
        r->cap_measured = cap;
    }
    r->measured[r->n_measured++] = m;
    r->n_open_measured++;
}

static void create(struct run *r, unsigned src, unsigned dst, uint32_t len, uint8_t kind,
                   struct smt_net_msg *call)
{
    struct smt_net_msg *m = smt_pool_get(&r->msgs);
    if (m == NULL)
        smt_net_fatal("no memory for messages");
    *m = (struct smt_net_msg){.number = r->n_msgs++,
                              .len = len,
                              .src = (uint16_t)src,
                              .dst = (uint16_t)dst,
                              .kind = kind,
                              .call = call,
                              .done = SMT_NEVER};
    uint64_t now = smt_net_now(r->net);
    m->measured = call != NULL ? call->measured : in_window(r, now);
    if (call == NULL) {
        r->out->arrivals = mix(r->out->arrivals, now - r->start);
        r->out->arrivals = mix(r->out->arrivals, (uint64_t)len << 32 | src << 16 | dst);
    }
    r->created_bytes += len;
    r->out->n_created++;
    if (m->measured)
        measured_add(r, m);
    smt_net_post(r->net, m);
}

/* ---- patterns ---- */

static void round_begin(struct run *r);

static unsigned draw_dst(const struct run *r, struct source *s)
{
    const struct smt_net_config *c = &r->config->net;
    unsigned n = r->net->n_hosts, per = c->hosts_per_tor;
    if (r->config->cross_rack && c->n_tors > 1) {
        unsigned dst = (unsigned)smt_prng_below(&s->rng, n - per);
        return dst < s->host / per * per ? dst : dst + per;
    }
    unsigned dst = (unsigned)smt_prng_below(&s->rng, n - 1);
    return dst < s->host ? dst : dst + 1;
}

static uint64_t draw_gap(const struct run *r, struct source *s)
{
    double gap = -log(smt_workload_uniform(&s->rng)) * r->out->gap_ns * 1000;
    return (uint64_t)gap + 1;
}

static void source_fires(void *ctx, void *arg)
{
    struct source *s = arg;
    struct run *r = s->run;
    if (smt_net_now(r->net) >= r->load_end)
        return;
    unsigned dst = draw_dst(r, s);
    uint32_t len = smt_workload_draw(r->config->workload, &s->rng);
    uint64_t next = smt_net_now(r->net) + draw_gap(r, s);
    create(r, s->host, dst, len, r->config->rpc ? SMT_NET_REQUEST : SMT_NET_ONE_WAY, NULL);
    smt_des_at(&r->net->des, next, source_fires, s);
}

static void incast_round(struct run *r)
{
    unsigned n = r->config->n_at_once, hosts = r->net->n_hosts;
    struct source *s = &r->sources[0];
    r->n_open_round = n;
    for (unsigned i = 0; i < n; i++)
        create(r, 1 + i % (hosts - 1), 0, smt_workload_draw(r->config->workload, &s->rng),
               r->config->rpc ? SMT_NET_REQUEST : SMT_NET_ONE_WAY, NULL);
}

static void shuffle_round(struct run *r)
{
    unsigned n = r->net->n_hosts;
    r->n_open_round = n * (n - 1);
    for (unsigned i = 1; i < n; i++) {
        for (unsigned h = 0; h < n; h++)
            create(r, h, (h + i) % n,
                   smt_workload_draw(r->config->workload, &r->sources[h].rng), SMT_NET_ONE_WAY,
                   NULL);
    }
}

static void round_begin(struct run *r)
{
    r->round_begin = smt_net_now(r->net);
    if (r->config->pattern == SMT_RUN_INCAST)
        incast_round(r);
    else
        shuffle_round(r);
}

static void round_fires(void *ctx, void *arg)
{
    round_begin(arg);
}

/* From a host to the one that has its place in the next rack, or in the other half of the only
 * one. */
static unsigned flow_distance(const struct run *r)
{
    return r->config->net.n_tors > 1 ? r->config->net.hosts_per_tor : r->net->n_hosts / 2;
}

static void flow_next(struct run *r, unsigned src)
{
    uint32_t len = smt_workload_draw(r->config->workload, &r->sources[src].rng);
    create(r, src, src + flow_distance(r), len, SMT_NET_ONE_WAY, NULL);
}

static void flow_fires(void *ctx, void *arg)
{
    struct source *s = arg;
    flow_next(s->run, s->host);
}

static bool has_rounds(const struct run *r)
{
    return r->config->pattern == SMT_RUN_INCAST || r->config->pattern == SMT_RUN_SHUFFLE;
}

static void message_over(struct run *r, const struct smt_net_msg *m)
{
    if (r->config->pattern == SMT_RUN_FLOWS && smt_net_now(r->net) < r->load_end)
        flow_next(r, m->src);
    if (!has_rounds(r) || --r->n_open_round > 0)
        return;
    double us = (double)(smt_net_now(r->net) - r->round_begin) / 1e6;
    struct smt_run_result *out = r->out;
    out->round_us_max = us > out->round_us_max ? us : out->round_us_max;
    out->round_us_mean += us / r->config->n_rounds;
    if (++r->n_rounds_done < r->config->n_rounds)
        smt_des_at(&r->net->des, smt_net_now(r->net) + ps(100 * SMT_USEC), round_fires, r);
}

/* ---- what the network tells ---- */

static void delivered(void *arg, struct smt_net_host *h, struct smt_net_msg *m)
{
    struct run *r = arg;
    r->delivered_bytes += m->len;
    r->out->n_delivered++;
    if (in_window(r, m->done))
        r->out->payload_bytes += m->len;
    if (m->measured)
        r->n_open_measured--;
    if (m->kind == SMT_NET_REQUEST) {
        uint32_t len = r->config->response_len;
        create(r, m->dst, m->src, len == UINT32_MAX ? m->len : len, SMT_NET_RESPONSE, m);
        return;
    }
    message_over(r, m);
}

static void failed(void *arg, struct smt_net_host *h, struct smt_net_msg *m, int error)
{
    struct run *r = arg;
    r->out->n_failed_any++;
    r->delivered_bytes += m->len;
    if (m->measured) {
        r->out->n_failed++;
        r->n_open_measured--;
    }
    message_over(r, m);
}

/* ---- trouble ---- */

static void flap_fires(void *ctx, void *arg)
{
    const struct run *r = arg;
    smt_net_flap(r->net, r->config->flap_host,
                 smt_net_now(r->net) + ps(r->config->flap_len_ns));
}

static void restart_fires(void *ctx, void *arg)
{
    const struct run *r = arg;
    if (r->config->policy->restart == NULL)
        smt_net_fatal("this policy's hosts cannot restart");
    r->config->policy->restart(&r->net->hosts[r->config->restart_host]);
    smt_net_wake(&r->net->hosts[r->config->restart_host]);
}

static void counters_read(struct run *r, bool before)
{
    struct smt_run_result *out = r->out;
    const char *name;
    uint64_t value;
    if (r->net->policy->counter == NULL)
        return;
    unsigned i = 0;
    for (; i < SMT_RUN_COUNTERS && r->net->policy->counter(r->net, i, &name, &value); i++) {
        out->counters[i].name = name;
        if (before)
            out->counters[i].before = value;
        else
            out->counters[i].value = value - out->counters[i].before;
    }
    out->n_counters = i;
}

static void load_ends(void *ctx, void *arg);

/* The warm-up is over, unless the transport still learns: then everything is put off by a quarter
 * of the warm-up, up to a limit. */
static void warm_fires(void *ctx, void *arg)
{
    struct run *r = arg;
    const struct smt_run_config *c = r->config;
    uint64_t more = ps(c->warmup_ns) / 4;
    bool learns = c->settle && c->policy->settled != NULL && !c->policy->settled(r->net);
    if (learns && r->warm_end + more <= r->start + SETTLE_MOST * ps(c->warmup_ns)) {
        r->warm_end += more;
        r->load_end += more;
        r->end += more;
        smt_des_at(&r->net->des, r->warm_end, warm_fires, r);
        return;
    }
    r->out->settled = !learns;
    r->out->warmup_ns = (r->warm_end - r->start) / SMT_PS_PER_NS;
    smt_net_stats_reset(r->net);
    counters_read(r, true);
    smt_des_at(&r->net->des, r->load_end, load_ends, r);
}

static void queues_read(struct run *r)
{
    struct smt_net *net = r->net;
    struct smt_run_result *out = r->out;
    smt_net_stats_settle(net);
    double span = (double)(smt_net_now(net) - r->warm_end) + 1;
    unsigned count[SMT_NET_PORT_KINDS] = {0};
    for (unsigned i = 0; i < net->n_ports; i++) {
        const struct smt_net_port *p = &net->ports[i];
        const struct smt_net_port_stats *s = &p->stats;
        struct smt_run_queue *q = &out->queues[p->kind];
        q->max_bytes = s->max_queue > q->max_bytes ? s->max_queue : q->max_bytes;
        q->mean_bytes += (double)s->queue_integral / span;
        q->busy += (double)s->busy_ps / span;
        q->n_dropped += s->n_dropped;
        q->n_marked += s->n_marked;
        q->n_lost += s->n_lost;
        q->n_packets += s->n_packets;
        count[p->kind]++;
    }
    for (unsigned k = 0; k < SMT_NET_PORT_KINDS; k++) {
        out->queues[k].mean_bytes /= count[k] > 0 ? count[k] : 1;
        out->queues[k].busy /= count[k] > 0 ? count[k] : 1;
    }
    for (unsigned i = 0; i < net->config.n_tors + net->config.n_spines; i++) {
        uint64_t *max = &out->sw_max[i >= net->config.n_tors];
        *max = net->sw_max[i] > *max ? net->sw_max[i] : *max;
    }
    uint64_t idle = 0;
    for (unsigned i = 0; i < net->n_hosts; i++)
        idle += net->hosts[i].withheld_idle_ps;
    out->withheld_idle = (double)idle / span / net->n_hosts;
    counters_read(r, false);
}

/* Queues, goodput and counters are those of the loaded time, without the drain. */
static void load_ends(void *ctx, void *arg)
{
    struct run *r = arg;
    if (!r->closed)
        queues_read(r);
    r->closed = true;
}

static void backlog_fires(void *ctx, void *arg)
{
    struct run *r = arg;
    uint64_t step = (r->load_end - r->start) / SMT_RUN_BACKLOG;
    double b = (double)r->created_bytes - (double)r->delivered_bytes;
    if (r->n_backlog < SMT_RUN_BACKLOG)
        r->backlog[r->n_backlog++] = b;
    if (b > r->out->backlog_max)
        r->out->backlog_max = b;
    if (smt_net_now(r->net) + step < r->load_end)
        smt_des_at(&r->net->des, smt_net_now(r->net) + step, backlog_fires, r);
}

/* Least squares over the second half. */
static double backlog_slope(const struct run *r)
{
    unsigned from = r->n_backlog / 2, n = r->n_backlog - from;
    if (n < 8)
        return 0;
    double step = (double)(r->load_end - r->start) / SMT_RUN_BACKLOG / 1e12;
    double mx = (n - 1) / 2.0, my = 0, sxy = 0, sxx = 0;
    for (unsigned i = 0; i < n; i++)
        my += r->backlog[from + i] / n;
    for (unsigned i = 0; i < n; i++) {
        sxy += (i - mx) * (r->backlog[from + i] - my);
        sxx += (i - mx) * (i - mx);
    }
    double offered = (double)r->created_bytes / ((double)(r->load_end - r->start) / 1e12);
    return offered > 0 ? sxy / sxx / step / offered : 0;
}

/* ---- the run ---- */

static void load_begin(struct run *r)
{
    const struct smt_run_config *c = r->config;
    struct smt_des *d = &r->net->des;
    r->start = smt_net_now(r->net);
    r->warm_end = r->start + ps(c->warmup_ns);
    r->load_end = r->warm_end + ps(c->measure_ns);
    r->end = r->load_end + ps(c->drain_ns);
    r->out->start_ns = (double)r->start / 1e3;
    smt_workload_cost(c->workload, c->hdr, c->load_unsched, &r->out->cost);
    r->out->gap_ns = smt_workload_gap(&r->out->cost, c->load, c->net.host_mbps) / 1000;
    for (unsigned i = 0; i < r->net->n_hosts; i++) {
        struct source *s = &r->sources[i];
        *s = (struct source){.run = r, .host = (uint16_t)i};
        smt_prng_seed(&s->rng, mix(mix(c->seed, 0xa11), i));
        if (c->pattern == SMT_RUN_POISSON)
            smt_des_at(d, r->start + draw_gap(r, s), source_fires, s);
        if (c->pattern == SMT_RUN_FLOWS && i < c->n_at_once &&
            i + flow_distance(r) < r->net->n_hosts)
            smt_des_at(d, r->start, flow_fires, s);
    }
    smt_des_at(d, r->warm_end, warm_fires, r);
    if (has_rounds(r))
        smt_des_at(d, r->warm_end, round_fires, r);
    if (r->load_end > r->start + SMT_RUN_BACKLOG)
        smt_des_at(d, r->start, backlog_fires, r);
    if (c->flap_len_ns > 0)
        smt_des_at(d, r->start + ps(c->flap_at_ns), flap_fires, r);
    if (c->restart_at_ns > 0)
        smt_des_at(d, r->start + ps(c->restart_at_ns), restart_fires, r);
    if (c->slow_packet_ns > 0)
        r->net->hosts[c->slow_host].rx_stall_ps = ps(c->slow_packet_ns);
}

static bool is_over(const struct run *r)
{
    if (has_rounds(r))
        return r->n_rounds_done == r->config->n_rounds;
    return smt_net_now(r->net) >= r->load_end && r->n_open_measured == 0;
}

static void load_run(struct run *r)
{
    uint64_t step = (r->end - r->start) / PROGRESS_PARTS + 1;
    for (uint64_t at = r->start; at < r->end && !is_over(r);) {
        at = at + step < r->end ? at + step : r->end;
        /* Never past the end of the load in one step: drains are cut short when all is done. */
        if (smt_net_now(r->net) < r->load_end && at > r->load_end)
            at = r->load_end;
        smt_net_run(r->net, at);
        if (r->config->progress != NULL)
            r->config->progress(r->config->progress_arg,
                                (double)(at - r->start) / (double)(r->end - r->start),
                                r->net->des.n_run);
    }
}

static int sample_before(const void *a, const void *b)
{
    const struct smt_run_sample *x = a, *y = b;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return x->slowdown < y->slowdown ? -1 : x->slowdown > y->slowdown;
}

static int samples_make(struct run *r)
{
    struct smt_run_result *out = r->out;
    out->cap_samples = r->n_measured + 1;
    out->samples = smt_mem_block(out->cap_samples * sizeof(*out->samples));
    if (out->samples == NULL)
        return SMT_ENOMEM;
    for (uint64_t i = 0; i < r->n_measured; i++) {
        const struct smt_net_msg *m = r->measured[i];
        struct smt_run_sample *s = &out->samples[out->n_samples];
        uint64_t begin = m->created;
        double ideal = (double)smt_net_ideal(r->net, r->config->hdr, m->src, m->dst, m->len,
                                             r->config->load_unsched);
        if (m->kind == SMT_NET_REQUEST)
            continue; /* counted by its response */
        if (m->kind == SMT_NET_RESPONSE) {
            begin = m->call->created;
            ideal += (double)smt_net_ideal(r->net, r->config->hdr, m->dst, m->src, m->call->len,
                                           r->config->load_unsched);
        }
        s->len = m->kind == SMT_NET_RESPONSE ? m->call->len : m->len;
        bool done = m->done != SMT_NEVER;
        s->slowdown = done ? (float)((double)(m->done - begin) / ideal) : INFINITY;
        s->us = done ? (uint32_t)((m->done - begin) / 1000000) : UINT32_MAX;
        out->n_unfinished += !done && !m->failed;
        out->n_samples++;
    }
    qsort(out->samples, out->n_samples, sizeof(*out->samples), sample_before);
    return 0;
}

/* A round at best: the busiest link without a gap, and the way of one packet. ps. */
static double round_ideal(const struct run *r)
{
    const struct smt_run_config *c = r->config;
    if (c->pattern == SMT_RUN_POISSON)
        return 0;
    unsigned n = c->pattern == SMT_RUN_INCAST ? c->n_at_once : r->net->n_hosts - 1;
    uint32_t len = (uint32_t)(r->out->cost.payload + 0.5);
    double byte_ps = (double)r->net->ports[0].ps_per_byte;
    double one = (double)smt_net_ideal(r->net, c->hdr, r->net->n_hosts - 1, 0, len,
                                       c->load_unsched);
    return one + (n - 1) * r->out->cost.data_wire * byte_ps;
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int run_measure(struct run *r)
{
    const struct smt_run_config *c = r->config;
    struct smt_run_result *out = r->out;
    load_begin(r);
    uint64_t events = r->net->des.n_run;
    double wall = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    load_run(r);
    load_ends(NULL, r);
    out->wall_seconds = seconds_of(CLOCK_MONOTONIC) - wall;
    out->cpu_seconds = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    out->n_events = r->net->des.n_run - events;
    out->end_ns = (double)smt_net_now(r->net) / 1e3;
    out->trace = r->net->trace;
    out->seconds = (double)c->measure_ns / 1e9;
    double link = (double)r->net->n_hosts * (double)c->net.host_mbps * 1e6;
    out->goodput = (double)out->payload_bytes * 8 / (link * out->seconds);
    double offered = (double)(c->warmup_ns + c->measure_ns) / 1e9;
    out->offered = (double)r->created_bytes * 8 / (link * offered);
    out->backlog_slope = backlog_slope(r);
    out->round_ideal_us = round_ideal(r) / 1e6;
    return samples_make(r);
}

int smt_run(const struct smt_run_config *config, struct smt_run_result *out)
{
    *out = (struct smt_run_result){0};
    struct run r = {.config = config, .out = out};
    struct smt_policy_config pc = config->policy_config;
    pc.hdr = config->hdr;
    pc.workload = config->workload;
    pc.seed = config->seed;
    struct smt_net_config nc = config->net;
    nc.seed = config->seed;
    const struct smt_net_hooks hooks = {.arg = &r, .delivered = delivered, .failed = failed};
    size_t sources_len = (size_t)nc.n_tors * nc.hosts_per_tor * sizeof(*r.sources);
    int rc = smt_pool_init(&r.msgs, sizeof(struct smt_net_msg), 4096, 1u << 30);
    if (rc == 0) {
        r.sources = smt_mem_block(sources_len);
        rc = r.sources != NULL ? 0 : SMT_ENOMEM;
    }
    if (rc == 0)
        rc = smt_net_new(&nc, config->policy, &pc, &hooks, &r.net);
    if (rc == 0)
        rc = run_measure(&r);
    smt_net_free(r.net);
    smt_pool_fini(&r.msgs);
    smt_mem_block_free(r.measured, r.cap_measured * sizeof(*r.measured));
    smt_mem_block_free(r.sources, sources_len);
    return rc;
}

void smt_run_result_fini(struct smt_run_result *r)
{
    smt_mem_block_free(r->samples, r->cap_samples * sizeof(*r->samples));
    *r = (struct smt_run_result){0};
}

static uint64_t first_above(const struct smt_run_result *r, uint64_t len)
{
    uint64_t low = 0, high = r->n_samples;
    while (low < high) {
        uint64_t mid = (low + high) / 2;
        if (r->samples[mid].len > len)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static int float_before(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double ranked(const float *sorted, uint64_t n, double p)
{
    uint64_t rank = (uint64_t)ceil(p * (double)n);
    return (double)sorted[rank > 0 ? rank - 1 : 0];
}

void smt_run_bin(const struct smt_run_result *r, int64_t above, int64_t upto,
                 struct smt_run_bin *out)
{
    *out = (struct smt_run_bin){0};
    uint64_t from = above < 0 ? 0 : first_above(r, (uint64_t)above);
    uint64_t to = upto < 0 ? 0 : first_above(r, (uint64_t)upto);
    if (to <= from)
        return;
    uint64_t n = to - from;
    float *sorted = smt_mem_block(n * sizeof(*sorted));
    if (sorted == NULL)
        smt_net_fatal("no memory for percentiles");
    for (uint64_t i = 0; i < n; i++)
        sorted[i] = r->samples[from + i].slowdown;
    qsort(sorted, n, sizeof(*sorted), float_before);
    out->n = n;
    out->p50 = ranked(sorted, n, 0.5);
    out->p99 = ranked(sorted, n, 0.99);
    out->p999 = ranked(sorted, n, 0.999);
    out->max = (double)sorted[n - 1];
    for (uint64_t i = 0; i < n; i++)
        out->mean += (double)sorted[i] / (double)n;
    smt_mem_block_free(sorted, n * sizeof(*sorted));
}

uint64_t smt_run_counter(const struct smt_run_result *r, const char *name)
{
    for (unsigned i = 0; i < r->n_counters; i++) {
        if (strcmp(r->counters[i].name, name) == 0)
            return r->counters[i].value;
    }
    return 0;
}
