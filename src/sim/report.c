/* The report in its three forms. Numbers that are not finite (an unfinished message's slowdown)
 * are "inf" in text and CSV and null in JSON. */
#include "sim/report.h"

#include <inttypes.h>
#include <math.h>

static const char *const port_names[SMT_NET_PORT_KINDS] = {
    "host_up", "tor_down", "tor_up", "spine_down"};

static const char *const pattern_names[] = {"poisson", "incast", "shuffle", "flows"};

/* Bounds of tenth d: (*above, *upto]. Where a size holds several tenths the later are empty. */
static void decile_bounds(const struct smt_report *r, unsigned d, int64_t *above, int64_t *upto)
{
    const struct smt_workload *w = r->config->workload;
    *above = d > 0 ? (int64_t)smt_workload_decile(w, d - 1) : -1;
    *upto = (int64_t)smt_workload_decile(w, d);
}

/* Bin of tenth d, or of everything when d is SMT_DECILES; *upto is for a tenth only. */
static struct smt_run_bin decile_bin(const struct smt_report *r, unsigned d, int64_t *upto)
{
    int64_t above = -1;
    struct smt_run_bin b;
    *upto = INT64_MAX;
    if (d < SMT_DECILES)
        decile_bounds(r, d, &above, upto);
    smt_run_bin(r->result, above, *upto, &b);
    return b;
}

static double per(double a, double b)
{
    return b > 0 ? a / b : 0;
}

/* Of one core, also where others share it. */
static double events_per_second(const struct smt_run_result *o)
{
    return per((double)o->n_events, o->cpu_seconds);
}

static double grants_per_data(const struct smt_run_result *o)
{
    return per((double)smt_run_counter(o, "grants"), (double)smt_run_counter(o, "data_packets"));
}

static void text_deciles(const struct smt_report *r, FILE *out)
{
    fprintf(out, "%12s %10s %9s %9s %9s %9s\n", "up to", "messages", "mean", "p50", "p99", "p99.9");
    for (unsigned d = 0; d <= SMT_DECILES; d++) {
        int64_t upto;
        struct smt_run_bin b = decile_bin(r, d, &upto);
        if (d < SMT_DECILES)
            fprintf(out, "%12" PRId64, upto);
        else
            fprintf(out, "%12s", "all");
        fprintf(out, " %10" PRIu64 " %9.3f %9.3f %9.3f %9.3f\n", b.n, b.mean, b.p50, b.p99, b.p999);
    }
}

void smt_report_text(const struct smt_report *r, FILE *out)
{
    const struct smt_run_config *c = r->config;
    const struct smt_run_result *o = r->result;
    unsigned n_hosts = c->net.n_tors * c->net.hosts_per_tor;
    fprintf(out, "%s, %u hosts, policy %s, %s, load %.3f, seed %" PRIu64 ", %u levels\n",
            r->preset, n_hosts, c->policy->name, c->workload->name, c->load, c->seed,
            c->policy_config.levels);
    fprintf(out,
            "a message: %.1f B, on the wire %.1f B of data packets and %.1f B of grants "
            "(payload %.3f of it), one every %.0f ns a host\n",
            o->cost.payload, o->cost.data_wire, o->cost.grant_wire, o->cost.factor, o->gap_ns);
    fprintf(out,
            "sessions up at %.3f ms; warm-up %.3f ms%s, measured %.3f ms, over after %.3f ms\n",
            o->start_ns / 1e6, (double)o->warmup_ns / 1e6,
            o->settled ? "" : " (and still learning)", (double)c->measure_ns / 1e6,
            (o->end_ns - o->start_ns) / 1e6);
    text_deciles(r, out);
    fprintf(out, "unfinished %" PRIu64 ", failed %" PRIu64 " (%" PRIu64 " in the whole run)\n",
            o->n_unfinished, o->n_failed, o->n_failed_any);
    fprintf(out, "goodput %.4f of the links, offered %.4f; backlog grows by %.4f of that\n",
            o->goodput, o->offered, o->backlog_slope);
    fprintf(out, "downlinks idle while grants were withheld: %.4f of the time\n", o->withheld_idle);
    fprintf(out, "grants per data packet %.3f\n", grants_per_data(o));
    if (c->pattern != SMT_RUN_POISSON)
        fprintf(out, "rounds: mean %.1f us, worst %.1f us, ideal %.1f us\n", o->round_us_mean,
                o->round_us_max, o->round_ideal_us);
    for (unsigned k = 0; k < SMT_NET_PORT_KINDS; k++) {
        const struct smt_run_queue *q = &o->queues[k];
        fprintf(out,
                "%-10s busy %.3f, queue max %" PRIu64 " B, mean %.0f B, dropped %" PRIu64
                ", marked %" PRIu64 ", lost %" PRIu64 "\n",
                port_names[k], q->busy, q->max_bytes, q->mean_bytes, q->n_dropped, q->n_marked,
                q->n_lost);
    }
    fprintf(out, "most in one ToR %" PRIu64 " B, in one spine %" PRIu64 " B\n", o->sw_max[0],
            o->sw_max[1]);
    fprintf(out,
            "%" PRIu64 " events in %.2f s (%.2f s of a core): %.2f M/s; arrivals %016" PRIx64
            ", trace %016" PRIx64 "\n",
            o->n_events, o->wall_seconds, o->cpu_seconds, events_per_second(o) / 1e6, o->arrivals,
            o->trace);
}

/* ---- JSON ---- */

static void json_number(FILE *out, const char *name, double v, const char *after)
{
    if (isfinite(v))
        fprintf(out, "\"%s\": %.9g%s", name, v, after);
    else
        fprintf(out, "\"%s\": null%s", name, after);
}

static void json_bin(const struct smt_run_bin *b, FILE *out)
{
    fprintf(out, "\"n\": %" PRIu64 ", ", b->n);
    json_number(out, "mean", b->mean, ", ");
    json_number(out, "p50", b->p50, ", ");
    json_number(out, "p99", b->p99, ", ");
    json_number(out, "p999", b->p999, ", ");
    json_number(out, "max", b->max, "");
}

static void json_config(const struct smt_report *r, FILE *out)
{
    const struct smt_run_config *c = r->config;
    fprintf(out,
            " \"preset\": \"%s\", \"hosts\": %u, \"policy\": \"%s\", \"workload\": \"%s\", "
            "\"pattern\": \"%s\", \"headers\": \"%s\",\n \"load\": %.9g, \"seed\": %" PRIu64
            ", \"levels\": %u, \"overcommit\": %u, \"fifo\": %s, \"rpc\": %s, \"loss_ppm\": %u, "
            "\"switch_buffer\": %" PRIu64 ", \"port_buffer\": %" PRIu64 ", \"ecn_bytes\": %" PRIu64
            ",\n \"warmup_ns\": %" PRIu64 ", \"measure_ns\": %" PRIu64 ", \"drain_ns\": %" PRIu64
            ",\n",
            r->preset, c->net.n_tors * c->net.hosts_per_tor, c->policy->name, c->workload->name,
            pattern_names[c->pattern], r->headers, c->load, c->seed, c->policy_config.levels,
            c->policy_config.overcommit, c->policy_config.fifo ? "true" : "false",
            c->rpc ? "true" : "false", c->net.loss_ppm, c->net.switch_buffer, c->net.port_buffer,
            c->net.ecn_bytes, r->result->warmup_ns, c->measure_ns, c->drain_ns);
}

static void json_queues(const struct smt_run_result *o, FILE *out)
{
    fprintf(out, " \"queues\": {");
    for (unsigned k = 0; k < SMT_NET_PORT_KINDS; k++) {
        const struct smt_run_queue *q = &o->queues[k];
        fprintf(out,
                "%s\n  \"%s\": {\"busy\": %.9g, \"max_bytes\": %" PRIu64 ", \"mean_bytes\": %.9g, "
                "\"packets\": %" PRIu64 ", \"dropped\": %" PRIu64 ", \"marked\": %" PRIu64
                ", \"lost\": %" PRIu64 "}",
                k > 0 ? "," : "", port_names[k], q->busy, q->max_bytes, q->mean_bytes, q->n_packets,
                q->n_dropped, q->n_marked, q->n_lost);
    }
    fprintf(out, "\n },\n \"tor_max_bytes\": %" PRIu64 ", \"spine_max_bytes\": %" PRIu64 ",\n",
            o->sw_max[0], o->sw_max[1]);
}

static void json_results(const struct smt_run_result *o, FILE *out)
{
    fprintf(out, " ");
    json_number(out, "message_bytes", o->cost.payload, ", ");
    json_number(out, "data_wire_bytes", o->cost.data_wire, ", ");
    json_number(out, "grant_wire_bytes", o->cost.grant_wire, ", ");
    json_number(out, "load_factor", o->cost.factor, ", ");
    json_number(out, "gap_ns", o->gap_ns, ",\n ");
    json_number(out, "goodput", o->goodput, ", ");
    json_number(out, "offered", o->offered, ", ");
    json_number(out, "withheld_idle", o->withheld_idle, ", ");
    json_number(out, "backlog_slope", o->backlog_slope, ", ");
    json_number(out, "backlog_max", o->backlog_max, ", ");
    json_number(out, "grants_per_data", grants_per_data(o), ",\n ");
    json_number(out, "round_us_mean", o->round_us_mean, ", ");
    json_number(out, "round_us_max", o->round_us_max, ", ");
    json_number(out, "round_ideal_us", o->round_ideal_us, ",\n ");
    fprintf(out,
            "\"settled\": %s, \"created\": %" PRIu64 ", \"delivered\": %" PRIu64
            ", \"unfinished\": %" PRIu64 ", \"failed\": %" PRIu64
            ", \"failed_any\": %" PRIu64 ",\n",
            o->settled ? "true" : "false", o->n_created, o->n_delivered, o->n_unfinished,
            o->n_failed, o->n_failed_any);
    json_queues(o, out);
    fprintf(out, " \"counters\": {");
    for (unsigned i = 0; i < o->n_counters; i++)
        fprintf(out, "%s\"%s\": %" PRIu64, i > 0 ? ", " : "", o->counters[i].name,
                o->counters[i].value);
    fprintf(out, "},\n \"events\": %" PRIu64 ", ", o->n_events);
    json_number(out, "wall_seconds", o->wall_seconds, ", ");
    json_number(out, "cpu_seconds", o->cpu_seconds, ", ");
    json_number(out, "events_per_second", events_per_second(o), ", ");
    fprintf(out, "\"arrivals\": \"%016" PRIx64 "\", \"trace\": \"%016" PRIx64 "\"\n", o->arrivals,
            o->trace);
}

/* Bins of `step` tenths each. */
static void json_tenths(const struct smt_report *r, unsigned step, const char *name, FILE *out)
{
    fprintf(out, " \"%s\": [", name);
    for (unsigned d = 0; d < SMT_DECILES; d += step) {
        int64_t above, upto, skip;
        struct smt_run_bin b;
        decile_bounds(r, d, &above, &skip);
        decile_bounds(r, d + step - 1, &skip, &upto);
        smt_run_bin(r->result, above, upto, &b);
        fprintf(out, "%s\n  {\"upper\": %" PRId64 ", ", d > 0 ? "," : "", upto);
        json_bin(&b, out);
        fprintf(out, "}");
    }
    fprintf(out, "\n ],\n");
}

void smt_report_json(const struct smt_report *r, FILE *out)
{
    fprintf(out, "{\n");
    json_config(r, out);
    struct smt_run_bin b;
    smt_run_bin(r->result, -1, INT64_MAX, &b);
    fprintf(out, " \"all\": {");
    json_bin(&b, out);
    smt_run_bin(r->result, -1, 1023, &b);
    fprintf(out, "},\n \"below_1k\": {");
    json_bin(&b, out);
    fprintf(out, "},\n");
    json_tenths(r, 1, "deciles", out);
    json_tenths(r, 2, "pairs", out);
    json_results(r->result, out);
    fprintf(out, "}\n");
}

void smt_report_csv(const struct smt_report *r, FILE *out)
{
    const struct smt_run_config *c = r->config;
    fprintf(out, "policy,workload,load,hosts,seed,levels,decile,upper_bytes,n,mean,p50,p99,p999\n");
    for (unsigned d = 0; d <= SMT_DECILES; d++) {
        int64_t upto;
        struct smt_run_bin b = decile_bin(r, d, &upto);
        fprintf(out, "%s,%s,%g,%u,%" PRIu64 ",%u,", c->policy->name, c->workload->name, c->load,
                c->net.n_tors * c->net.hosts_per_tor, c->seed, c->policy_config.levels);
        if (d < SMT_DECILES)
            fprintf(out, "%u,%" PRId64, d + 1, upto);
        else
            fprintf(out, "all,");
        fprintf(out, ",%" PRIu64 ",%.4f,%.4f,%.4f,%.4f\n", b.n, b.mean, b.p50, b.p99, b.p999);
    }
}
