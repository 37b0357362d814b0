/* What is wrong with an environment, said once and for everybody.
 *
 * Owns the wording: what is missing, with the figures and names of this machine, and the command or
 * line that helps. People meet these sentences in the error text of smt_ctx_open, in smt_info and
 * in the failure of a session; docs/man/smt.7 repeats none of them. */
#include "dev/ud_env.h"

#include <errno.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dev/dev_impl.h"
#include "dev/machine.h"
#include "dev/verbs_probe.h"

enum { ROCE_OVERHEAD = 96, LEAST_MTU = 1024 };

#define SAY(t, code, ...) smt_dev_fail((t).text, (t).len, (code), __VA_ARGS__)

int smt_ud_env_no_device(struct smt_ud_text t, int error)
{
    char why[512];
    smt_verbs_why_none("/sys/class/infiniband", "/dev/infiniband", error, why, sizeof(why));
    return SAY(t, SMT_ENODEV, "%s", why);
}

int smt_ud_env_open(struct smt_ud_text t, const char *device, const char *node, int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return SAY(t, SMT_EPERM,
                   "%s: no permission on %s: give this user read and write access (udev rule "
                   "KERNEL==\"uverbs*\", MODE=\"0666\", as rdma-core installs it; in a container "
                   "docker run --device=/dev/infiniband)",
                   device, node);
    case ENOENT:
    case ENXIO:
    case ENODEV:
        return SAY(t, SMT_ENODEV,
                   "%s: the kernel has the device, but there is no %s: modprobe ib_uverbs; into a "
                   "container pass the nodes: docker run --device=/dev/infiniband",
                   device, node);
    default:
        return SAY(t, SMT_EDEVICE, "%s: cannot be opened: %s", device, strerror(error));
    }
}

uint64_t smt_ud_env_memlock_allowed(void)
{
    struct rlimit limit;
    if (smt_capability_has(SMT_CAPABILITY_IPC_LOCK) || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

int smt_ud_env_memlock(struct smt_ud_text t, uint64_t needed, uint64_t allowed)
{
    return SAY(t, SMT_ENOMEM,
               "locked memory: RDMA needs %llu kB, this process may lock %llu kB (ulimit -l): "
               "raise it by a line \"* - memlock unlimited\" in /etc/security/limits.d/rdma.conf "
               "and a new login; in a systemd unit LimitMEMLOCK=infinity; in a container docker "
               "run --ulimit memlock=-1",
               (unsigned long long)((needed + 1023) / 1024), (unsigned long long)(allowed / 1024));
}

int smt_ud_env_create(struct smt_ud_text t, const char *device, const char *what, int error,
                      uint64_t needed)
{
    uint64_t allowed = smt_ud_env_memlock_allowed();
    if ((error == ENOMEM || error == EPERM) && needed > 0 && allowed < UINT64_MAX)
        return smt_ud_env_memlock(t, needed, allowed);
    switch (error) {
    case ENOMEM:
        return SAY(t, SMT_ENOMEM,
                   "%s: no room for a %s: the device's or the kernel's memory is used up; close "
                   "other RDMA programs or take fewer queue pairs (qps=N)",
                   device, what);
    case EPERM:
    case EACCES:
        return SAY(t, SMT_EPERM, "%s: not allowed to make a %s: %s", device, what, strerror(error));
    case EOPNOTSUPP:
    case ENOSYS:
        return SAY(t, SMT_EUNSUPPORTED, "%s: the device or its driver has no %s of this kind",
                   device, what);
    default:
        return SAY(t, SMT_EDEVICE, "%s: cannot make a %s: %s", device, what, strerror(error));
    }
}

int smt_ud_env_iwarp(struct smt_ud_text t, const char *device)
{
    return SAY(t, SMT_EUNSUPPORTED,
               "%s is not an InfiniBand or RoCE device (iWARP has no UD queue pairs): use \"udp\" "
               "on its network interface",
               device);
}

int smt_ud_env_port_down(struct smt_ud_text t, const char *device, unsigned port,
                         const char *ifname, const char *state)
{
    if (ifname[0] == '\0')
        return SAY(t, SMT_EDEVICE,
                   "%s port %u is %s, not active: check the cable and, on InfiniBand, that a "
                   "subnet manager runs",
                   device, port, state);
    return SAY(t, SMT_EDEVICE,
               "%s port %u is %s, not active: check the cable and bring its interface up: ip link "
               "set %s up",
               device, port, state, ifname);
}

int smt_ud_env_mtu(struct smt_ud_text t, const char *device, unsigned port, const char *ifname,
                   bool is_ib, uint32_t mtu)
{
    if (is_ib)
        return SAY(t, SMT_EMTU,
                   "%s port %u carries %u bytes in a packet, %u are needed: raise the MTU of the "
                   "port or of its partition in the subnet manager",
                   device, port, mtu, LEAST_MTU);
    return SAY(t, SMT_EMTU,
               "%s port %u carries %u bytes in a packet, %u are needed: raise the interface's MTU "
               "to %u or more: ip link set %s mtu 1500",
               device, port, mtu, LEAST_MTU, LEAST_MTU + ROCE_OVERHEAD,
               ifname[0] != '\0' ? ifname : "DEV");
}

int smt_ud_env_no_gid(struct smt_ud_text t, const char *device, unsigned port, const char *ifname,
                      bool only_v1)
{
    const char *name = ifname[0] != '\0' ? ifname : "DEV";
    if (only_v1)
        return SAY(t, SMT_ENODEV,
                   "%s port %u has GIDs of type RoCE v1 only, RoCE v2 is needed: choose another "
                   "device, or \"udp\" on %s",
                   device, port, name);
    return SAY(t, SMT_ENODEV,
               "%s port %u has no GID of type RoCE v2%s%s: the interface has no address: ip addr "
               "add ADDRESS/LEN dev %s; ip link set %s up",
               device, port, ifname[0] != '\0' ? " on " : "", ifname, name, name);
}

int smt_ud_env_no_ipoib(struct smt_ud_text t, const char *device, unsigned port)
{
    return SAY(t, SMT_ENODEV,
               "%s port %u is InfiniBand without an IP address, by which peers are found: modprobe "
               "ib_ipoib; ip addr add ADDRESS/LEN dev ib0; ip link set ib0 up",
               device, port);
}

int smt_ud_env_gid_index(struct smt_ud_text t, const char *device, unsigned port, int32_t index,
                         const char *what, const char *usable)
{
    return SAY(t, SMT_EINVAL,
               "%s port %u: GID %d is %s, not RoCE v2 of an address; usable: %s (smt_info lists "
               "them; without gid=N or -x the route decides)",
               device, port, index, what, usable[0] != '\0' ? usable : "none");
}

int smt_ud_env_mtu_mismatch(struct smt_ud_text t, const char *address, bool is_ib, uint32_t ours,
                            uint32_t theirs)
{
    uint32_t larger = ours > theirs ? ours : theirs;
    uint32_t smaller = ours > theirs ? theirs : ours;
    const char *where = ours > theirs ? "at that end" : "at this end";
    if (is_ib)
        return SAY(t, 0,
                   "MTU: this port carries %u bytes in a packet, %s %u; %u are used; raise the MTU "
                   "in the subnet manager",
                   ours, address, theirs, smaller);
    return SAY(t, 0,
               "MTU: this port carries %u bytes in a packet, %s %u; %u are used; for %u give the "
               "interface %s an MTU of %u or more (ip link set DEV mtu %u), and the switches too",
               ours, address, theirs, smaller, larger, where, larger + ROCE_OVERHEAD,
               larger + ROCE_OVERHEAD);
}

int smt_ud_env_no_answer(struct smt_ud_text t, const char *address, unsigned n)
{
    return SAY(t, SMT_EUNREACHABLE,
               "nobody at %s answered %u resolve queries (UDP): is a peer running there, does it "
               "use the device ud too (a udp peer does not answer), does a firewall stop that UDP "
               "port?",
               address, n);
}

int smt_ud_env_no_packets(struct smt_ud_text t, const char *address, bool is_ib)
{
    if (is_ib)
        return SAY(t, SMT_EUNREACHABLE,
                   "%s answers resolve queries, but none of its InfiniBand packets arrives: are "
                   "both ports in the same partition (P_Key)?",
                   address);
    return SAY(t, SMT_EUNREACHABLE,
               "%s answers resolve queries, but none of its RoCE v2 packets arrives: does a "
               "firewall or switch stop UDP port 4791, is a switch's MTU too small?",
               address);
}

int smt_ud_env_no_path(struct smt_ud_text t, const char *address, const char *device,
                       const char *ifname)
{
    return SAY(t, SMT_EUNREACHABLE,
               "no route to %s from an address of %s%s%s: check ip route get, or name another "
               "device (ud:NAME)",
               address, device, ifname[0] != '\0' ? " on " : "", ifname);
}

int smt_ud_env_no_scope(struct smt_ud_text t, const char *address, const char *ifname)
{
    return SAY(t, SMT_EUNREACHABLE,
               "%s is link-local, and not on the interface of this device: name it: [fe80::…%%%s]",
               address, ifname);
}

static int fork_error;

static void fork_init_once(void)
{
    if (ibv_is_fork_initialized() == IBV_FORK_DISABLED)
        fork_error = ibv_fork_init();
}

int smt_ud_env_fork(struct smt_ud_text t)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, fork_init_once);
    if (fork_error == 0)
        return 0;
    return SAY(t, fork_error == ENOMEM ? SMT_ENOMEM : SMT_EDEVICE,
               "fork safety of RDMA memory cannot be had (%s): call ibv_fork_init before anything "
               "else registers memory, or use a kernel from 5.12 on, which needs none of it",
               strerror(fork_error));
}
