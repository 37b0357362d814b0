/* Ports of packets that go by IP itself: no kernel keeps them, so endpoints do among themselves,
 * whatever device carries their packets. */
#ifndef SMT_DEV_IP_CLAIM_H
#define SMT_DEV_IP_CLAIM_H

#include "dev/dev.h"

/* Makes a port of this protocol ours as long as *fd is open: config->port, or a free one when that
 * is 0. SMT_EADDRINUSE when another endpoint of this network namespace has it on an address that
 * overlaps (`bound` NULL: all). Writes error_text. */
SMT_MUST_CHECK int smt_ip_port_take(const struct smt_dev_config *config, uint8_t protocol,
                                    const struct smt_addr *bound, uint16_t *port, int *fd);

/* Has the kernel a module loaded that takes Homa's packets? */
bool smt_ip_kernel_speaks_homa(void);

#endif
