/* The table of networks. Delays are those of HomaSimulation's dcntopo for all of them. */
#include "sim/preset.h"

#include <string.h>

const struct smt_preset smt_presets[] = {
    {"paper", "144 hosts, 9 racks, 4 spines: the Homa paper's", 9, 16, 4, 10000, 40000},
    {"accept", "48 hosts, 3 racks, 4 spines: the acceptance experiment", 3, 16, 4, 10000, 40000},
    {"small", "16 hosts, 2 racks, 2 spines: quick tests", 2, 8, 2, 10000, 40000},
    {"oversub", "48 hosts, 3 racks, 1 spine: the core is oversubscribed 4:1", 3, 16, 1, 10000,
     40000},
    {"thin", "2 racks of 4 hosts, one link of 100 Mbit/s between them", 2, 4, 1, 10000, 100},
    {"rack", "16 hosts, one switch", 1, 16, 0, 10000, 40000},
    {"pair", "2 hosts, one switch", 1, 2, 0, 10000, 40000},
};
const unsigned smt_n_presets = SMT_ARRAY_LEN(smt_presets);

const struct smt_preset *smt_preset_find(const char *name)
{
    for (unsigned i = 0; i < smt_n_presets; i++) {
        if (strcmp(smt_presets[i].name, name) == 0)
            return &smt_presets[i];
    }
    return NULL;
}

void smt_preset_fill(const struct smt_preset *p, struct smt_net_config *out)
{
    *out = (struct smt_net_config){
        .n_tors = p->n_tors,
        .hosts_per_tor = p->hosts_per_tor,
        .n_spines = p->n_spines,
        .host_mbps = p->host_mbps,
        .core_mbps = p->core_mbps,
        .host_out_ns = 1000,
        .host_in_ns = 500,
        .switch_ns = 250,
        .n_levels = 8,
    };
}

int smt_preset_set_hosts(struct smt_net_config *config, unsigned n)
{
    if (n < 2)
        return SMT_EINVAL;
    if (n <= config->hosts_per_tor) {
        config->n_tors = 1;
        config->hosts_per_tor = n;
        return 0;
    }
    if (n % config->hosts_per_tor != 0)
        return SMT_EINVAL;
    config->n_tors = n / config->hosts_per_tor;
    return 0;
}
