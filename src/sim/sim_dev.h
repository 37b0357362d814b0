/* The simulated network as a carrier: a struct smt_dev on each host of it, in virtual time.
 *
 * One thread drives all devices of a fabric. Time moves when a device is asked for packets and has
 * none: rx runs the network until one has come for it or nothing is under way any more. So a packet
 * that was flushed is never "not there yet", and two devices polled in turn see the order of the
 * simulated network. smt_fabric_run moves time by hand. */
#ifndef SMT_SIM_SIM_DEV_H
#define SMT_SIM_SIM_DEV_H

#include "dev/dev.h"
#include "sim/net.h"

struct smt_fabric;

/* A network with nobody on it. `config` as for smt_net_new; its levels are at least 8. */
SMT_MUST_CHECK int smt_fabric_new(const struct smt_net_config *config, struct smt_fabric **out);

/* Gives the fabric back; it lives on until its last device is closed. */
void smt_fabric_put(struct smt_fabric *f);

/* The device of a host that has none. */
SMT_MUST_CHECK int smt_fabric_attach(struct smt_fabric *f, unsigned host, struct smt_dev **out);

/* Where a host's device is reached. */
void smt_fabric_addr(unsigned host, struct smt_addr *out);

/* Virtual time, ns. */
uint64_t smt_fabric_now(const struct smt_fabric *f);
void smt_fabric_run(struct smt_fabric *f, uint64_t until);

#endif
