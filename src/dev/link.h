/* What the kernel says of a network interface's link. */
#ifndef SMT_DEV_LINK_H
#define SMT_DEV_LINK_H

#include <stdint.h>

struct ibv_port_attr;

/* Its speed in Mb/s; 0: not known, or no hardware stands behind it and the figure is made up. */
uint32_t smt_link_mbps(const char *ifname);

/* The same of an RDMA port, by width and generation, what encoding takes deducted. Not for Ethernet
 * ports of software providers, which make it up. */
uint32_t smt_verbs_mbps(const struct ibv_port_attr *port);

#endif
