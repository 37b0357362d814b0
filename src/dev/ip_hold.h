/* A port of an IP protocol held on this machine by a device that receives past the kernel: nobody
 * else gets it, the kernel keeps quiet about packets that reach it all the same, and what the
 * network reports of packets sent can be read. */
#ifndef SMT_DEV_IP_HOLD_H
#define SMT_DEV_IP_HOLD_H

#include "dev/dev.h"

enum { SMT_IP_HOLD_SOCKETS = 2 };

struct smt_ip_hold {
    int claim_fd, fds[SMT_IP_HOLD_SOCKETS]; /* IPv4, IPv6; -1: none */
    uint16_t port;
    bool has_reports; /* set by who sees one of fds in error */
};

/* Nothing is held. */
void smt_ip_hold_init(struct smt_ip_hold *h);

/* config->port or a free one, on `bound` (NULL: all addresses). Writes error_text; the caller
 * closes in any case. */
SMT_MUST_CHECK int smt_ip_hold_open(struct smt_ip_hold *h, const struct smt_dev_config *config,
                                    uint8_t protocol, const struct smt_addr *bound);
void smt_ip_hold_close(struct smt_ip_hold *h);

/* As `refused` of dev.h; no system call unless has_reports. */
int smt_ip_hold_refused(struct smt_ip_hold *h, struct smt_addr *to, int *error);

#endif
