/* Reports of the network (ICMP) in the error queue of a raw IP socket. */
#ifndef SMT_DEV_IP_REFUSED_H
#define SMT_DEV_IP_REFUSED_H

#include "base/addr.h"

/* Takes one. 1: it is about packets of our port, as `refused` of dev.h tells it; 0: it does not
 * concern us; -1: there is none. */
int smt_ip_report_take(int fd, bool is_ipv4, uint16_t port, struct smt_addr *to, int *error);

#endif
