/* The port of an RDMA device that a `ud` device lives on: found, opened, and its addresses.
 *
 * A port is used through one network interface (the netdev of a RoCE port or one of its VLANs; the
 * IPoIB interface of an InfiniBand port), and only GIDs of that interface count: on RoCE those of
 * type RoCE v2, whose GID is an IP address of the interface. Everything here makes system calls and
 * belongs to opening, not to the data path. */
#ifndef SMT_DEV_UD_PORT_H
#define SMT_DEV_UD_PORT_H

#include <infiniband/verbs.h>

#include "base/addr.h"
#include "dev/dev.h"
#include "dev/ud_spec.h"

enum { SMT_UD_MAX_GIDS = 64 };

struct smt_ud_gid {
    uint8_t gid[16];
    uint32_t index; /* in the port's GID table */
};

struct smt_ud_port {
    struct ibv_context *ctx;
    struct ibv_device_attr attr;
    struct smt_ud_spec spec; /* as parsed: gid=N, qps=N */
    char devname[64];        /* "mlx5_0", "rxe0" */
    char ifname[16];         /* "" when an InfiniBand port has no IPoIB interface */
    int ifindex;             /* of ifname, 0 = none */
    uint8_t number;          /* 1 … */
    bool is_ib;              /* InfiniBand link layer: LIDs; else Ethernet (RoCE v2) */
    bool is_up;              /* the port was active when last looked at */
    uint16_t lid;            /* InfiniBand only */
    uint32_t mtu;            /* active, bytes: 256 … 4096 */
    uint32_t mbps;           /* InfiniBand only */
    struct smt_addr bind;    /* config->bind_host; port 0. All zero = all of the interface */
    uint32_t n_gids;
    struct smt_ud_gid gids[SMT_UD_MAX_GIDS]; /* the usable ones, by index */
};

/* Chooses and opens. The rule: the RDMA device or network interface that the spec names; else the
 * port whose interface has the bind address; else the only usable one; else of several the one that
 * the default route leaves by; else the first. A port is usable when it is active, carries 1024
 * bytes and has a usable GID. `out` is caller's memory, closed by close. On failure nothing is open
 * and config->error_text says in one line what is wrong and what helps. */
SMT_MUST_CHECK int smt_ud_port_open(const struct smt_dev_config *config, struct smt_ud_port *out);
void smt_ud_port_close(struct smt_ud_port *port);

/* Reads state, MTU, LID and GIDs again, after an asynchronous event said that they changed. 0, or
 * SMT_EDEVICE when the device does not answer any more; then nothing has changed in *port. */
SMT_MUST_CHECK int smt_ud_port_refresh(struct smt_ud_port *port);

/* The GID that packets to this IP address leave from: the forced one, the bound one, or that of the
 * address which the kernel's routing picks. *local is the IP address to it, with port 0; all zero
 * when any will do (InfiniBand). NULL when there is no route through the interface. The pointer is
 * good until the next refresh. */
const struct smt_ud_gid *smt_ud_port_source(const struct smt_ud_port *port,
                                            const struct smt_addr *to, struct smt_addr *local);

/* Our address on the default route (zero = none), and the interface that has it (0 = none). */
void smt_ud_route_local(struct smt_addr *local);
int smt_ud_route_ifindex(void);

/* The usable GID that is this IP address (RoCE), or NULL. */
const struct smt_ud_gid *smt_ud_port_gid_of(const struct smt_ud_port *port, const uint8_t ip[16]);

#endif
