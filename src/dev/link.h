/* What the kernel says of a network interface's link. */
#ifndef SMT_DEV_LINK_H
#define SMT_DEV_LINK_H

#include <stdint.h>

/* Its speed in Mb/s; 0: not known, or no hardware stands behind it and the figure is made up. */
uint32_t smt_link_mbps(const char *ifname);

#endif
