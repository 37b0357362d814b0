/* One simulated run: a network, a transport, messages that arrive, and what became of them. */
#ifndef SMT_SIM_RUN_H
#define SMT_SIM_RUN_H

#include "sim/net.h"
#include "sim/workload.h"

enum smt_run_pattern {
    SMT_RUN_POISSON, /* every host, to all others alike, open loop */
    SMT_RUN_INCAST,  /* n_at_once messages to host 0 at once, when all are there again */
    SMT_RUN_SHUFFLE, /* every host one message to each other, all at once, random order */
    SMT_RUN_FLOWS,   /* n_at_once hosts to one each in another rack, message after message */
};

struct smt_run_config {
    struct smt_net_config net;
    const struct smt_policy *policy;
    struct smt_policy_config policy_config; /* hdr, workload and seed are the run's */
    const struct smt_net_headers *hdr;
    const struct smt_workload *workload;
    enum smt_run_pattern pattern;
    double load;
    uint64_t seed;
    bool rpc;               /* messages are requests; the response has response_len */
    uint32_t response_len;  /* UINT32_MAX: as long as its request */
    uint32_t load_unsched;  /* bytes without grant as load and ideal count them */
    unsigned n_at_once;     /* incast, flows */
    unsigned n_rounds;      /* incast, shuffle */
    bool cross_rack;        /* destinations in other racks only */
    /* From the start of the load, ns. Messages created in [warmup, warmup + measure) count. */
    uint64_t warmup_ns, measure_ns, drain_ns;
    bool settle; /* the warm-up lasts until the transport has learnt what it learns */
    /* Trouble; host numbers from 0, times from the start of the load, length 0: none. */
    unsigned flap_host, restart_host, slow_host;
    uint64_t flap_at_ns, flap_len_ns, restart_at_ns, slow_packet_ns;
    /* Called now and then; NULL allowed. */
    void (*progress)(void *arg, double part, uint64_t n_events);
    void *progress_arg;
};

struct smt_run_sample {
    uint32_t len;
    float slowdown; /* INFINITY: unfinished */
    uint32_t us;    /* completion time */
};

struct smt_run_queue {
    uint64_t max_bytes, max_total; /* of one port; of all ports of one switch together */
    double mean_bytes;             /* over ports and time */
    double busy;                   /* share of time */
    uint64_t n_dropped, n_marked, n_lost, n_packets;
};

enum { SMT_RUN_COUNTERS = 128, SMT_RUN_BACKLOG = 400 };

struct smt_run_result {
    struct smt_run_sample *samples; /* by length, then slowdown */
    uint64_t n_samples, cap_samples;
    uint64_t n_unfinished, n_failed, n_created, n_delivered;
    uint64_t n_failed_any;   /* measured or not */
    uint64_t payload_bytes;  /* delivered during the measurement */
    double seconds;          /* of the measurement */
    double goodput;          /* payload bits delivered / (hosts x link) */
    double offered;          /* payload bits created, the same measure */
    double withheld_idle;    /* share of downlink time */
    double backlog_slope;    /* bytes a second that pile up / bytes a second offered */
    double backlog_max;      /* bytes */
    struct smt_run_queue queues[SMT_NET_PORT_KINDS];
    uint64_t sw_max[2];      /* most bytes that waited in one ToR, in one spine */
    struct smt_workload_cost cost;
    double gap_ns;
    uint64_t warmup_ns; /* as it was */
    bool settled;       /* the transport had nothing more to learn by then, or was not asked */
    double start_ns, end_ns; /* virtual: when the load began, when all was over */
    double round_us_max, round_us_mean, round_ideal_us; /* incast, shuffle */
    uint64_t n_events, trace, arrivals; /* arrivals: a hash of what was asked for */
    double wall_seconds, cpu_seconds;
    unsigned n_counters;
    struct {
        const char *name;
        uint64_t value, before; /* before: at the end of the warm-up */
    } counters[SMT_RUN_COUNTERS];
};

/* Does it. 0, or why it could not begin. */
SMT_MUST_CHECK int smt_run(const struct smt_run_config *config, struct smt_run_result *out);
void smt_run_result_fini(struct smt_run_result *r);

/* Slowdown of the measured messages whose length is in (above, upto]; exact, over all hosts. */
struct smt_run_bin {
    uint64_t n;
    double mean, p50, p99, p999, max; /* INFINITY where unfinished messages stand */
};
void smt_run_bin(const struct smt_run_result *r, int64_t above, int64_t upto,
                 struct smt_run_bin *out);

/* A counter of the measurement; 0 when the policy has none of that name. */
uint64_t smt_run_counter(const struct smt_run_result *r, const char *name);

#endif
