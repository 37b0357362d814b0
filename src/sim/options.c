/* Options: a table of names, and what they set. Values that were not given follow from workload and
 * preset at the end. */
#include "sim/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/policies.h"
#include "sim/preset.h"
#include "sim/smt_tune.h"

enum option_id {
    OPT_PRESET = 256, OPT_HOSTS, OPT_WORKLOAD, OPT_LOAD, OPT_POLICY, OPT_SEED, OPT_LEVELS,
    OPT_OVERCOMMIT, OPT_UNSCHED, OPT_FIFO, OPT_HEADERS, OPT_QUICK, OPT_WARMUP, OPT_DURATION,
    OPT_DRAIN, OPT_RPC, OPT_INCAST, OPT_FLOWS, OPT_SHUFFLE, OPT_ROUNDS, OPT_CROSS, OPT_LOSS,
    OPT_BUFFER, OPT_PORT_BUFFER, OPT_ECN, OPT_FLAP, OPT_RESTART, OPT_SLOW, OPT_SETTLE, OPT_CORE,
    OPT_TUNE, OPT_JSON, OPT_CSV, OPT_QUIET, OPT_LIST, OPT_HELP,
};

static const struct option names[] = {
    {"preset", required_argument, NULL, OPT_PRESET},
    {"hosts", required_argument, NULL, OPT_HOSTS},
    {"workload", required_argument, NULL, OPT_WORKLOAD},
    {"load", required_argument, NULL, OPT_LOAD},
    {"policy", required_argument, NULL, OPT_POLICY},
    {"seed", required_argument, NULL, OPT_SEED},
    {"levels", required_argument, NULL, OPT_LEVELS},
    {"overcommit", required_argument, NULL, OPT_OVERCOMMIT},
    {"unsched", required_argument, NULL, OPT_UNSCHED},
    {"fifo", no_argument, NULL, OPT_FIFO},
    {"headers", required_argument, NULL, OPT_HEADERS},
    {"quick", no_argument, NULL, OPT_QUICK},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"settle", no_argument, NULL, OPT_SETTLE},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"drain", required_argument, NULL, OPT_DRAIN},
    {"rpc", required_argument, NULL, OPT_RPC},
    {"incast", required_argument, NULL, OPT_INCAST},
    {"flows", required_argument, NULL, OPT_FLOWS},
    {"shuffle", no_argument, NULL, OPT_SHUFFLE},
    {"rounds", required_argument, NULL, OPT_ROUNDS},
    {"cross", no_argument, NULL, OPT_CROSS},
    {"loss", required_argument, NULL, OPT_LOSS},
    {"buffer", required_argument, NULL, OPT_BUFFER},
    {"port-buffer", required_argument, NULL, OPT_PORT_BUFFER},
    {"ecn", required_argument, NULL, OPT_ECN},
    {"flap", required_argument, NULL, OPT_FLAP},
    {"restart", required_argument, NULL, OPT_RESTART},
    {"slow", required_argument, NULL, OPT_SLOW},
    {"core-mbps", required_argument, NULL, OPT_CORE},
    {"tune", required_argument, NULL, OPT_TUNE},
    {"json", required_argument, NULL, OPT_JSON},
    {"csv", required_argument, NULL, OPT_CSV},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"list", no_argument, NULL, OPT_LIST},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static const char usage_text[] =
    "usage: smt_sim [options]\n"
    "network   --preset NAME  --hosts N  --core-mbps N  --levels N (1-128)\n"
    "          --buffer BYTES (of a switch)  --port-buffer BYTES  --ecn BYTES  --loss PERCENT\n"
    "load      --workload w1..w5|fixed:LEN  --load 0..2  --seed N  --cross\n"
    "          --rpc LEN|same  --incast N  --shuffle  --rounds N  --flows N\n"
    "transport --policy NAME  --overcommit N  --unsched BYTES  --fifo  --headers smt|s\n"
    "          --tune NAME=VALUE,...\n"
    "times     --quick  --warmup MS  --settle  --duration MS  --drain MS\n"
    "trouble   --flap HOST,AT_MS,LEN_MS  --restart HOST,AT_MS  --slow HOST,US_PER_PACKET\n"
    "output    --json FILE  --csv FILE  --quiet  --list  --help\n";

/* Times for 48 hosts, ms (the paper's workloads need the more the longer their messages are). */
static const struct times {
    const char *workload;
    double warmup, measure, drain;
} times[] = {
    {"w1", 0.5, 3, 3},     {"w2", 2, 8, 20},      {"w3", 10, 40, 60},
    {"w4", 30, 150, 100},  {"w5", 50, 350, 200},  {NULL, 1, 20, 50},
};

static void list(void)
{
    printf("presets:\n");
    for (unsigned i = 0; i < smt_n_presets; i++)
        printf("  %-8s %s\n", smt_presets[i].name, smt_presets[i].text);
    printf("policies:\n");
    for (unsigned i = 0; i < smt_n_policies; i++)
        printf("  %-8s %s\n", smt_policies[i]->name, smt_policies[i]->text);
    printf("workloads:\n");
    for (unsigned i = 0; i < smt_n_workloads; i++)
        printf("  %-8s mean %.1f B\n", smt_workloads[i].name,
               smt_workload_mean(&smt_workloads[i]));
    printf("settings of policy smt (--tune):\n");
    for (unsigned i = 0; smt_tune_name(i) != NULL; i++)
        printf("  %s\n", smt_tune_name(i));
}

/* What was given but cannot be taken on its own. */
struct given {
    const struct smt_preset *preset;
    unsigned hosts, levels;
    double warmup, duration, drain; /* ms, negative: not given */
    uint64_t core_mbps;
    bool quick;
};

static bool number(const char *text, double min, double max, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= min && *out <= max;
}

/* "a,b,c" */
static bool numbers(const char *text, unsigned n, double *out)
{
    for (unsigned i = 0; i < n; i++) {
        char *end;
        out[i] = strtod(text, &end);
        if (end == text || out[i] < 0 || *end != (i + 1 < n ? ',' : '\0'))
            return false;
        text = end + 1;
    }
    return true;
}

static uint64_t ns_of_ms(double ms)
{
    return (uint64_t)(ms * 1e6 + 0.5);
}

static bool take_load(struct smt_sim_options *o, int id, const char *arg)
{
    struct smt_run_config *r = &o->run;
    double v;
    switch (id) {
    case OPT_WORKLOAD:
        r->workload = smt_workload_find(arg, &o->fixed, &o->fixed_point);
        return r->workload != NULL;
    case OPT_LOAD:
        return number(arg, 1e-6, 100, &r->load);
    case OPT_SEED:
        if (!number(arg, 0, 1e15, &v))
            return false;
        r->seed = (uint64_t)v;
        return true;
    case OPT_RPC:
        r->rpc = true;
        r->response_len = UINT32_MAX;
        if (strcmp(arg, "same") == 0)
            return true;
        if (!number(arg, 0, 1 << 30, &v))
            return false;
        r->response_len = (uint32_t)v;
        return true;
    case OPT_INCAST:
    case OPT_FLOWS:
        r->pattern = id == OPT_INCAST ? SMT_RUN_INCAST : SMT_RUN_FLOWS;
        if (!number(arg, 1, 1000000, &v))
            return false;
        r->n_at_once = (unsigned)v;
        return true;
    case OPT_SHUFFLE:
        r->pattern = SMT_RUN_SHUFFLE;
        return true;
    case OPT_ROUNDS:
        if (!number(arg, 1, 1000000, &v))
            return false;
        r->n_rounds = (unsigned)v;
        return true;
    case OPT_CROSS:
        r->cross_rack = true;
        return true;
    default:
        return false;
    }
}

static bool take_network(struct smt_sim_options *o, struct given *g, int id, const char *arg)
{
    struct smt_run_config *r = &o->run;
    double v, three[3];
    switch (id) {
    case OPT_LOSS:
        if (!number(arg, 0, 100, &v))
            return false;
        r->net.loss_ppm = (uint32_t)(v * 1e4 + 0.5);
        return true;
    case OPT_BUFFER:
    case OPT_PORT_BUFFER:
    case OPT_ECN: {
        if (!number(arg, 0, 1e15, &v))
            return false;
        uint64_t *to = id == OPT_BUFFER        ? &r->net.switch_buffer
                       : id == OPT_PORT_BUFFER ? &r->net.port_buffer
                                               : &r->net.ecn_bytes;
        *to = (uint64_t)v;
        return true;
    }
    case OPT_CORE:
        if (!number(arg, 1, 8e6, &v))
            return false;
        g->core_mbps = (uint64_t)v;
        return true;
    case OPT_FLAP:
        if (!numbers(arg, 3, three))
            return false;
        r->flap_host = (unsigned)three[0];
        r->flap_at_ns = ns_of_ms(three[1]);
        r->flap_len_ns = ns_of_ms(three[2]);
        return true;
    case OPT_RESTART:
        if (!numbers(arg, 2, three))
            return false;
        r->restart_host = (unsigned)three[0];
        r->restart_at_ns = ns_of_ms(three[1]);
        return r->restart_at_ns > 0;
    case OPT_SLOW:
        if (!numbers(arg, 2, three))
            return false;
        r->slow_host = (unsigned)three[0];
        r->slow_packet_ns = (uint64_t)(three[1] * 1e3);
        return true;
    default:
        return take_load(o, id, arg);
    }
}

static bool take_transport(struct smt_sim_options *o, struct given *g, int id, const char *arg)
{
    struct smt_run_config *r = &o->run;
    double v;
    switch (id) {
    case OPT_POLICY:
        r->policy = smt_policy_find(arg);
        return r->policy != NULL;
    case OPT_LEVELS:
        if (!number(arg, 1, SMT_NET_MAX_LEVELS, &v))
            return false;
        g->levels = (unsigned)v;
        return true;
    case OPT_OVERCOMMIT:
        if (!number(arg, 1, 1000, &v))
            return false;
        r->policy_config.overcommit = (unsigned)v;
        return true;
    case OPT_UNSCHED:
        if (!number(arg, 1, 1 << 30, &v))
            return false;
        r->policy_config.unsched = (uint32_t)v;
        return true;
    case OPT_FIFO:
        r->policy_config.fifo = true;
        return true;
    case OPT_HEADERS:
        r->hdr = strcmp(arg, "s") == 0 ? &smt_net_headers_s : &smt_net_headers_smt;
        o->headers = strcmp(arg, "s") == 0 ? "s" : "smt";
        return strcmp(arg, o->headers) == 0;
    case OPT_TUNE: {
        struct smt_engine_config scratch;
        r->policy_config.tune = arg;
        smt_engine_config_init(&scratch);
        return r->policy != &smt_policy_smt || smt_tune_engine(&scratch, arg) == 0;
    }
    default:
        return take_network(o, g, id, arg);
    }
}

static bool take(struct smt_sim_options *o, struct given *g, int id, const char *arg)
{
    double v;
    switch (id) {
    case OPT_PRESET:
        g->preset = smt_preset_find(arg);
        return g->preset != NULL;
    case OPT_HOSTS:
        if (!number(arg, 2, 10000, &v))
            return false;
        g->hosts = (unsigned)v;
        return true;
    case OPT_QUICK:
        g->quick = true;
        return true;
    case OPT_WARMUP:
        return number(arg, 0, 1e6, &g->warmup);
    case OPT_SETTLE:
        o->run.settle = true;
        return true;
    case OPT_DURATION:
        return number(arg, 1e-3, 1e6, &g->duration);
    case OPT_DRAIN:
        return number(arg, 0, 1e6, &g->drain);
    case OPT_JSON:
        o->json = arg;
        return true;
    case OPT_CSV:
        o->csv = arg;
        return true;
    case OPT_QUIET:
        o->quiet = true;
        return true;
    default:
        return take_transport(o, g, id, arg);
    }
}

static void times_set(struct smt_run_config *r, const struct given *g)
{
    const struct times *t = times;
    while (t->workload != NULL && strcmp(t->workload, r->workload->name) != 0)
        t++;
    double scale = g->quick ? 1.0 / 8 : 1;
    r->warmup_ns = ns_of_ms(g->warmup >= 0 ? g->warmup : t->warmup * scale);
    r->measure_ns = ns_of_ms(g->duration >= 0 ? g->duration : t->measure * scale);
    r->drain_ns = ns_of_ms(g->drain >= 0 ? g->drain : t->drain);
}

/* What of the network was not given comes from the preset. */
static bool network_set(struct smt_sim_options *o, const struct given *g)
{
    struct smt_run_config *r = &o->run;
    const struct smt_net_config said = r->net;
    smt_preset_fill(g->preset, &r->net);
    r->net.switch_buffer = said.switch_buffer;
    r->net.port_buffer = said.port_buffer;
    r->net.ecn_bytes = said.ecn_bytes;
    r->net.loss_ppm = said.loss_ppm;
    if (g->core_mbps > 0)
        r->net.core_mbps = g->core_mbps;
    if (g->hosts > 0 && smt_preset_set_hosts(&r->net, g->hosts) < 0) {
        fprintf(stderr, "smt_sim: --hosts: a multiple of %u, or less\n", g->preset->hosts_per_tor);
        return false;
    }
    unsigned levels = g->levels > 0 ? g->levels : r->policy->levels;
    r->net.n_levels = r->policy_config.levels = levels;
    unsigned n_hosts = r->net.n_tors * r->net.hosts_per_tor;
    if (r->flap_host >= n_hosts || r->restart_host >= n_hosts || r->slow_host >= n_hosts) {
        fprintf(stderr, "smt_sim: there are hosts 0 to %u\n", n_hosts - 1);
        return false;
    }
    return true;
}

enum smt_sim_options_result smt_sim_options_parse(int argc, char **argv,
                                                  struct smt_sim_options *o)
{
    *o = (struct smt_sim_options){.headers = "smt"};
    o->run = (struct smt_run_config){.policy = &smt_policy_smt,
                                     .hdr = &smt_net_headers_smt,
                                     .workload = smt_workload_find("w3", NULL, NULL),
                                     .load = 0.8,
                                     .seed = 1,
                                     .n_rounds = 10,
                                     .load_unsched = 10000};
    struct given g = {
        .preset = smt_preset_find("accept"), .warmup = -1, .duration = -1, .drain = -1};
    int id;
    while ((id = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (id == OPT_HELP) {
            fputs(usage_text, stdout);
            return SMT_SIM_DONE;
        }
        if (id == OPT_LIST) {
            list();
            return SMT_SIM_DONE;
        }
        if (id == '?')
            return SMT_SIM_WRONG;
        if (!take(o, &g, id, optarg)) {
            const struct option *n = names;
            while (n->val != id)
                n++;
            fprintf(stderr, "smt_sim: --%s %s: not understood\n", n->name, optarg);
            return SMT_SIM_WRONG;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "smt_sim: %s: not an option\n", argv[optind]);
        return SMT_SIM_WRONG;
    }
    o->preset = g.preset->name;
    times_set(&o->run, &g);
    return network_set(o, &g) ? SMT_SIM_GO : SMT_SIM_WRONG;
}
