/* Environments in which verbs do not work: for each one clear sentence, its remedy and its code.
 *
 * Every function that returns int writes the sentence into `text` (NULL = nowhere) and returns the
 * code to fail with, so that a caller can `return smt_ud_env_…(…)`. They take what was found as
 * arguments and ask the system nothing, except the ones that say so. */
#ifndef SMT_DEV_UD_ENV_H
#define SMT_DEV_UD_ENV_H

#include "base/addr.h"
#include "base/defs.h"

struct smt_ud_text {
    char *text;
    size_t len;
};

/* No RDMA device at all: looks at /sys/class/infiniband and /dev/infiniband to say why. `error` is
 * errno of ibv_get_device_list. SMT_ENODEV. */
int smt_ud_env_no_device(struct smt_ud_text t, int error);

/* ibv_open_device failed: permission on the device node, node missing (container), other. `node`
 * is its path, "/dev/infiniband/uverbs0". SMT_EPERM, SMT_ENODEV or SMT_EDEVICE. */
int smt_ud_env_open(struct smt_ud_text t, const char *device, const char *node, int error);

/* Bytes this process may lock: RLIMIT_MEMLOCK, or UINT64_MAX when it is unlimited or does not
 * count (CAP_IPC_LOCK). Asks the system. */
uint64_t smt_ud_env_memlock_allowed(void);

/* The limit is too small: names both figures and the lines for limits.d, systemd and docker.
 * SMT_ENOMEM. */
int smt_ud_env_memlock(struct smt_ud_text t, uint64_t needed, uint64_t allowed);

/* A verbs call that makes an object failed (errno `error`). `what` as in "queue pair". With ENOMEM
 * or EPERM and a small limit it is told as smt_ud_env_memlock(needed). SMT_ENOMEM, SMT_EPERM,
 * SMT_EUNSUPPORTED or SMT_EDEVICE. */
int smt_ud_env_create(struct smt_ud_text t, const char *device, const char *what, int error,
                      uint64_t needed);

/* iWARP: no UD queue pairs. SMT_EUNSUPPORTED. */
int smt_ud_env_iwarp(struct smt_ud_text t, const char *device);

/* Not active; `state` is the port's state in words. SMT_EDEVICE. */
int smt_ud_env_port_down(struct smt_ud_text t, const char *device, unsigned port,
                         const char *ifname, const char *state);

/* Active MTU below what smt2 needs. SMT_EMTU. */
int smt_ud_env_mtu(struct smt_ud_text t, const char *device, unsigned port, const char *ifname,
                   bool is_ib, uint32_t mtu);

/* No GID of type RoCE v2 on the interface. `only_v1`: because all are RoCE v1. SMT_ENODEV. */
int smt_ud_env_no_gid(struct smt_ud_text t, const char *device, unsigned port, const char *ifname,
                      bool only_v1);

/* gid=N names an entry that cannot be used. `what` is it instead ("RoCE v1", "empty"); `usable`
 * lists the indices that can be, "1, 3". SMT_EINVAL. */
int smt_ud_env_gid_index(struct smt_ud_text t, const char *device, unsigned port, int32_t index,
                         const char *what, const char *usable);

/* An InfiniBand port without IPoIB interface: nothing to resolve peers by. SMT_ENODEV. */
int smt_ud_env_no_ipoib(struct smt_ud_text t, const char *device, unsigned port);

/* Both ends' MTU differ: the smaller is used; how to raise it. `address` as "192.0.2.1:18515". Not
 * an error: 0. */
int smt_ud_env_mtu_mismatch(struct smt_ud_text t, const char *address, bool is_ib, uint32_t ours,
                            uint32_t theirs);

/* Nobody answered `n` queries at this address. SMT_EUNREACHABLE. */
int smt_ud_env_no_answer(struct smt_ud_text t, const char *address, unsigned n);

/* Queries to it are answered, but no RDMA packet of it arrives. SMT_EUNREACHABLE. */
int smt_ud_env_no_packets(struct smt_ud_text t, const char *address, bool is_ib);

/* The kernel has no route to it through the interface of this device. SMT_EUNREACHABLE. */
int smt_ud_env_no_path(struct smt_ud_text t, const char *address, const char *device,
                       const char *ifname);

/* A link-local address without the interface of this device. SMT_EUNREACHABLE. */
int smt_ud_env_no_scope(struct smt_ud_text t, const char *address, const char *ifname);

/* Calls ibv_fork_init once per process, only when ibv_is_fork_initialized says that this kernel
 * needs it. 0, or SMT_ENOMEM / SMT_EDEVICE with text when it failed. Asks the system. */
SMT_MUST_CHECK int smt_ud_env_fork(struct smt_ud_text t);

#endif
