/* Questions to the kernel about routes, neighbours and links, as netlink messages.
 *
 * Pure but for the three calls at the end, which ask on a socket of theirs and wait for the answer:
 * control path only. */
#ifndef SMT_DEV_MLX5_NETLINK_H
#define SMT_DEV_MLX5_NETLINK_H

#include "base/addr.h"

enum { SMT_NETLINK_ASK_LEN = 64, SMT_NETLINK_ANSWER_LEN = 16384 };

enum smt_netlink_neigh { SMT_NEIGH_NONE, SMT_NEIGH_KNOWN, SMT_NEIGH_ASKING, SMT_NEIGH_FAILED };

struct smt_netlink_route {
    int ifindex;
    bool is_local;      /* one of our own addresses */
    bool has_gateway;
    uint8_t gateway[16], source[16]; /* IPv4 as ::ffff:a.b.c.d; source all zero: not told */
    uint32_t mtu;       /* 0: the link's */
};

struct smt_netlink_link {
    uint8_t mac[6];
    uint32_t mtu;
    bool is_up, is_loopback, has_no_arp;
    int master;         /* index of the bond, team or bridge above it; 0 = none */
    int lower;          /* of a VLAN: the link below */
    char kind[16];      /* "vlan", "bond", …; "" = a plain NIC */
    char name[16];
};

/* Builders: the message's length. `oif` 0 = any. */
size_t smt_netlink_route_ask(uint8_t out[SMT_NETLINK_ASK_LEN], uint32_t seq,
                             const uint8_t dst[16], int oif);
size_t smt_netlink_neigh_ask(uint8_t out[SMT_NETLINK_ASK_LEN], uint32_t seq,
                             const uint8_t dst[16], int ifindex);
size_t smt_netlink_link_ask(uint8_t out[SMT_NETLINK_ASK_LEN], uint32_t seq, int ifindex);

/* Parsers of one answer: 0, or a negative errno that the kernel gave, or -EBADMSG. */
SMT_MUST_CHECK int smt_netlink_route_read(const uint8_t *msg, size_t len, uint32_t seq,
                                          struct smt_netlink_route *out);
SMT_MUST_CHECK int smt_netlink_neigh_read(const uint8_t *msg, size_t len, uint32_t seq,
                                          enum smt_netlink_neigh *state, uint8_t mac[6]);
SMT_MUST_CHECK int smt_netlink_link_read(const uint8_t *msg, size_t len, uint32_t seq,
                                         struct smt_netlink_link *out);

/* A socket to ask on, and one that becomes readable when routes, neighbours, addresses or links
 * change; -1 and errno on failure. */
int smt_netlink_open(void);
int smt_netlink_watch_open(void);

/* Asks and reads. 0 or a negative errno. */
SMT_MUST_CHECK int smt_netlink_route(int fd, const uint8_t dst[16], int oif,
                                     struct smt_netlink_route *out);
SMT_MUST_CHECK int smt_netlink_neigh(int fd, const uint8_t dst[16], int ifindex,
                                     enum smt_netlink_neigh *state, uint8_t mac[6]);
SMT_MUST_CHECK int smt_netlink_link(int fd, int ifindex, struct smt_netlink_link *out);

#endif
