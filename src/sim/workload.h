/* Message sizes: the tables of W1 to W5, and what a workload costs on the wire. */
#ifndef SMT_SIM_WORKLOAD_H
#define SMT_SIM_WORKLOAD_H

#include "base/prng.h"
#include "sim/net.h"

enum { SMT_DECILES = 10 };

struct smt_workload_point {
    uint32_t len;
    double share; /* of messages up to this length; the last has 1 */
};

struct smt_workload {
    const char *name;
    const struct smt_workload_point *points;
    unsigned n_points;
};

extern const struct smt_workload smt_workloads[];
extern const unsigned smt_n_workloads;

/* By name ("w1" … "w5"); "fixed:LEN" fills *fixed and *point, which must live as long, and gives
 * that. NULL when unknown. */
const struct smt_workload *smt_workload_find(const char *name, struct smt_workload *fixed,
                                             struct smt_workload_point *point);

uint32_t smt_workload_draw(const struct smt_workload *w, struct smt_prng *rng);

/* Uniform in (0, 1]. */
double smt_workload_uniform(struct smt_prng *rng);

double smt_workload_mean(const struct smt_workload *w);

/* The length that tenth d + 1 of the messages (d = 0 … 9) does not exceed. */
uint32_t smt_workload_decile(const struct smt_workload *w, unsigned d);

/* The tenth a length belongs to: the first whose bound it does not exceed. */
unsigned smt_workload_bin(const struct smt_workload *w, uint32_t len);

/* Mean bytes on the wire for one message. */
struct smt_workload_cost {
    double payload, data_wire, grant_wire; /* a message */
    double packets, grants;
    double factor; /* payload / all that is on the wire */
};
void smt_workload_cost(const struct smt_workload *w, const struct smt_net_headers *hdr,
                       uint32_t unsched, struct smt_workload_cost *out);

/* Mean gap in ps between the messages of one host at `load` of a link of `mbps`. */
double smt_workload_gap(const struct smt_workload_cost *cost, double load, uint64_t mbps);

#endif
