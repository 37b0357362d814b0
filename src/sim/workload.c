/* Drawing from the tables and adding up what they cost. The tables themselves are made from data/
 * by make-tables at build time. */
#include "sim/workload.h"

#include <stdlib.h>
#include <string.h>

const struct smt_workload *smt_workload_find(const char *name, struct smt_workload *fixed,
                                             struct smt_workload_point *point)
{
    for (unsigned i = 0; i < smt_n_workloads; i++) {
        if (strcmp(smt_workloads[i].name, name) == 0)
            return &smt_workloads[i];
    }
    char *end;
    if (strncmp(name, "fixed:", 6) != 0)
        return NULL;
    unsigned long long len = strtoull(name + 6, &end, 10);
    if (end == name + 6 || *end != '\0' || len > 1u << 30)
        return NULL;
    *point = (struct smt_workload_point){(uint32_t)len, 1};
    *fixed = (struct smt_workload){"fixed", point, 1};
    return fixed;
}

double smt_workload_uniform(struct smt_prng *rng)
{
    return (double)((smt_prng_next64(rng) >> 11) + 1) * 0x1p-53;
}

/* The first point whose share is not below `u`. */
static const struct smt_workload_point *point_at(const struct smt_workload *w, double u)
{
    unsigned low = 0, high = w->n_points - 1;
    while (low < high) {
        unsigned mid = (low + high) / 2;
        if (w->points[mid].share < u)
            low = mid + 1;
        else
            high = mid;
    }
    return &w->points[low];
}

uint32_t smt_workload_draw(const struct smt_workload *w, struct smt_prng *rng)
{
    return point_at(w, smt_workload_uniform(rng))->len;
}

static double share_of(const struct smt_workload *w, unsigned i)
{
    return w->points[i].share - (i > 0 ? w->points[i - 1].share : 0);
}

double smt_workload_mean(const struct smt_workload *w)
{
    double sum = 0;
    for (unsigned i = 0; i < w->n_points; i++)
        sum += share_of(w, i) * w->points[i].len;
    return sum;
}

uint32_t smt_workload_decile(const struct smt_workload *w, unsigned d)
{
    /* Shares such as 0.3 are not exact; a hair below must not move a bound. */
    return point_at(w, (d + 1) / 10.0 - 1e-9)->len;
}

unsigned smt_workload_bin(const struct smt_workload *w, uint32_t len)
{
    unsigned d = 0;
    while (d < SMT_DECILES - 1 && len > smt_workload_decile(w, d))
        d++;
    return d;
}

void smt_workload_cost(const struct smt_workload *w, const struct smt_net_headers *hdr,
                       uint32_t unsched, struct smt_workload_cost *out)
{
    *out = (struct smt_workload_cost){0};
    for (unsigned i = 0; i < w->n_points; i++) {
        struct smt_net_cost c = smt_net_message_cost(hdr, w->points[i].len, unsched);
        double share = share_of(w, i);
        out->payload += share * w->points[i].len;
        out->data_wire += share * (double)c.data_wire;
        out->grant_wire += share * (double)c.grant_wire;
        out->packets += share * c.n_packets;
        out->grants += share * c.n_grants;
    }
    out->factor = out->payload / (out->data_wire + out->grant_wire);
}

double smt_workload_gap(const struct smt_workload_cost *cost, double load, uint64_t mbps)
{
    double ps_per_byte = 8e6 / (double)mbps;
    return (cost->data_wire + cost->grant_wire) * ps_per_byte / load;
}
