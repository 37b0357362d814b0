/* What libibverbs and sysfs know about the RDMA ports of this machine, in plain tables. */
#ifndef SMT_DEV_UD_SCAN_H
#define SMT_DEV_UD_SCAN_H

#include <infiniband/verbs.h>

#include "base/defs.h"
#include "dev/ud_port.h"

/* Address handles name a GID by eight bits: larger indices are of no use. */
enum { SMT_UD_MAX_PORTS = 32, SMT_UD_SCAN_GIDS = 256 };

/* One port of one device. What could not be read is 0. */
struct smt_ud_scan {
    char devname[64];
    char node[80]; /* "/dev/infiniband/uverbs0" */
    char driver[32], firmware[64];
    bool has_ud;    /* InfiniBand or RoCE; not iWARP */
    int open_error; /* errno of opening the device; then nothing below is known */
    uint8_t number, n_ports;
    bool is_ib;
    enum ibv_port_state state;
    uint16_t lid;
    uint32_t mtu, max_mtu; /* bytes */
    uint32_t mbps;         /* InfiniBand only: Ethernet's is its interface's */
    int ib_ifindex;        /* of the IPoIB interface of an InfiniBand port */
    uint32_t n_entries;
    struct ibv_gid_entry entries[SMT_UD_SCAN_GIDS];
    /* RoCE: no interface has this address. Every RoCE port has a link-local GID of its MAC address,
     * whether its interface has that address or not. */
    bool is_hollow[SMT_UD_SCAN_GIDS];
};

/* All ports of all devices, up to n; how many. *error is errno when there is no list. Opens and
 * closes every device. */
unsigned smt_ud_scan_all(struct smt_ud_scan *out, unsigned n, int *error);

/* Why a device could not be opened: what its node says, or `error` (libibverbs looks elsewhere too
 * before it gives up, and then errno tells of that). */
int smt_ud_scan_open_error(const char *node, int error);

/* The changing part of a port of an open device: state, MTU, LID, GIDs. 0 or SMT_EDEVICE, then *out
 * is as it was. */
SMT_MUST_CHECK int smt_ud_scan_port(struct ibv_context *ctx, uint8_t number,
                                    struct smt_ud_scan *out);

#endif
