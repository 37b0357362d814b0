/* What the files of this layer share among themselves. */
#ifndef SMT_DEV_DEV_IMPL_H
#define SMT_DEV_DEV_IMPL_H

#include "dev/dev.h"

/* The rows of the table. */
extern const struct smt_dev_ops smt_udp_ops;
extern const struct smt_dev_ops smt_ip_ops;
extern const struct smt_dev_ops smt_ud_ops;
extern const struct smt_dev_ops smt_mlx5_ops;
extern const struct smt_dev_ops smt_af_ops;
extern const struct smt_dev_ops smt_shm_ops;

/* All rows, for list.c and report.c. */
extern const struct smt_dev_ops *const smt_dev_list[];
extern const unsigned smt_dev_n_list;

/* Gives a new device object its operations: the defaults, then what the row has. */
void smt_dev_init(struct smt_dev *dev, const struct smt_dev_ops *row);

/* Writes one line for people into the buffer, if there is one; returns `code`. */
int smt_dev_fail(char *text, size_t text_len, int code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Local address that packets to `to` leave from, with port 0; false when there is no route. Makes
 * system calls. `ifname` as in "udp:eth0", or NULL. */
bool smt_path_local(const struct smt_addr *to, const char *ifname, struct smt_addr *out);

/* Bytes of UDP payload the outgoing interface carries towards `to` in one packet; 0 when there is
 * no route. Makes system calls. */
uint32_t smt_path_mtu(const struct smt_addr *to, const char *ifname);

struct sockaddr_storage;

/* Between the two forms of an address. IPv4 becomes sockaddr_in unless `as_ipv6`; returns the
 * length of what was written. */
unsigned smt_addr_to_sockaddr(const struct smt_addr *addr, bool as_ipv6,
                              struct sockaddr_storage *out);

/* False when the family is neither IPv4 nor IPv6. */
bool smt_addr_from_sockaddr(const struct sockaddr_storage *sa, struct smt_addr *out);

#endif
