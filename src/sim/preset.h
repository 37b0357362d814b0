/* Networks by name. */
#ifndef SMT_SIM_PRESET_H
#define SMT_SIM_PRESET_H

#include "sim/net.h"

struct smt_preset {
    const char *name, *text;
    unsigned n_tors, hosts_per_tor, n_spines;
    uint64_t host_mbps, core_mbps;
};

extern const struct smt_preset smt_presets[];
extern const unsigned smt_n_presets;

/* NULL when unknown. */
const struct smt_preset *smt_preset_find(const char *name);

/* The preset with HomaSimulation's delays, infinite buffers, no loss. */
void smt_preset_fill(const struct smt_preset *p, struct smt_net_config *out);

/* `n` hosts in racks of the preset's size, the last rack full: n must be a multiple, or fewer than
 * one rack. SMT_EINVAL. */
SMT_MUST_CHECK int smt_preset_set_hosts(struct smt_net_config *config, unsigned n);

#endif
