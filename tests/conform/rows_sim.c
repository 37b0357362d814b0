/* The simulated network as a row: five hosts in one rack, jumbo frames. */
#include "conform/conform.h"
#include "sim/preset.h"
#include "sim/sim_dev.h"

enum { SIM_MTU = 9000 };

int conform_sim_open(struct conform_set *set)
{
    struct smt_net_config config;
    struct smt_fabric *fabric;
    smt_preset_fill(smt_preset_find("rack"), &config);
    config.mtu = SIM_MTU;
    int rc = smt_fabric_new(&config, &fabric);
    if (rc < 0)
        return rc;
    rc = smt_fabric_attach(fabric, 0, &set->tx);
    smt_fabric_addr(0, &set->back);
    for (unsigned i = 0; rc == 0 && i < set->n_rx; i++) {
        rc = smt_fabric_attach(fabric, i + 1, &set->rx[i]);
        smt_fabric_addr(i + 1, &set->to[i]);
    }
    smt_fabric_put(fabric);
    return rc;
}
