/* What the kernel's routing knows, by rtnetlink: links, which way a destination is reached, and the
 * hardware address of its next hop. For devices that write their own Ethernet headers. Nothing is
 * sent and nothing is changed: a hop that the kernel has not resolved is resolved by letting the
 * kernel send something there (any socket will do). */
#ifndef SMT_DEV_ROUTE_H
#define SMT_DEV_ROUTE_H

#include "base/addr.h"

enum { SMT_LINK_KIND_LEN = 16, SMT_MAC_LEN = 6 };

struct smt_link {
    uint32_t ifindex;
    uint32_t master; /* the bond or bridge it belongs to, 0 = none */
    uint32_t mtu;
    uint16_t type;   /* ARPHRD_* */
    bool is_up;
    bool is_noarp;   /* no neighbour resolution: the hardware address does not matter */
    uint8_t mac[SMT_MAC_LEN];
    char name[16];
    char kind[SMT_LINK_KIND_LEN]; /* "veth", "vlan", "bond" …; "" for hardware and loopback */
};

enum smt_hop_state {
    SMT_HOP_UNKNOWN, /* not resolved: no hardware address */
    SMT_HOP_STALE,   /* has one; the kernel will check it when it sends there next */
    SMT_HOP_GOOD,
};

struct smt_route {
    bool is_local;       /* an address of this machine */
    uint32_t ifindex;
    uint32_t mtu;        /* of IP packets */
    struct smt_addr src; /* what packets leave from, port 0 */
    struct smt_addr hop; /* next hop, port 0 */
    enum smt_hop_state state;
    uint8_t mac[SMT_MAC_LEN]; /* of the hop, unless UNKNOWN */
};

/* A netlink socket for the calls below; closed by close(2). Negative: an error code. */
SMT_MUST_CHECK int smt_route_open(void);

/* A link by name, or by index when `name` is NULL. SMT_ENODEV when there is none. */
SMT_MUST_CHECK int smt_link_find(int nl, const char *name, uint32_t ifindex,
                                 struct smt_link *out);

/* The way to `to`, out of link `ifindex` alone unless 0; `src` as the packet would carry it, or
 * NULL. SMT_EUNREACHABLE when there is none. The port does not matter. */
SMT_MUST_CHECK int smt_route_find(int nl, const struct smt_addr *to, const struct smt_addr *src,
                                  uint32_t ifindex, struct smt_route *out);

/* Whether an address belongs to this machine on that link; SMT_ESYSTEM when the kernel does not
 * say. */
SMT_MUST_CHECK int smt_link_has_addr(int nl, uint32_t ifindex, const struct smt_addr *addr,
                                     bool *out);

#endif
