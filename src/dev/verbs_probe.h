/* RDMA devices as seen by libibverbs, and why there may be none. */
#ifndef SMT_DEV_VERBS_PROBE_H
#define SMT_DEV_VERBS_PROBE_H

#include "dev/dev.h"

/* One report for each port of each device, with a name that opens it ("ud:rxe0"); if there is none,
 * one report that says why and what to do. Up to n; returns how many. Opens every device. */
int smt_verbs_report(struct smt_dev_report *out, unsigned n);

/* One line: why libibverbs finds nothing, judged from these two directories (normally
 * /sys/class/infiniband and /dev/infiniband) and the error of ibv_get_device_list, and the remedy.
 */
void smt_verbs_why_none(const char *sys_dir, const char *dev_dir, int error, char *out,
                        size_t out_len);

#endif
