/* The parts of one device `ip`, shared by ip.c (opening, sleeping), ip_ring.c (packet sockets in
 * front of it), ip_sock.c (what a socket takes and lets pass), ip_claim.c (whose port it is),
 * ip_tx.c, ip_rx.c, ip_refused.c. */
#ifndef SMT_DEV_IP_H
#define SMT_DEV_IP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "dev/dev_impl.h"

enum {
    SMT_IP_PROTO_DEFAULT = 254,
    SMT_IP_PROTO_TCP = 6,
    SMT_IP_V4_LEN = 20,
    SMT_IP_V6_LEN = 40,
    SMT_IP_SOCKETS = 4, /* native and TCP, of both families */
    SMT_IP_PATHS = 64,
    SMT_IP_TX_PACKETS = 256,
    SMT_IP_TX_ARENA = 768 << 10, /* bytes of a batch */
    SMT_IP_RX_PACKETS = 64,
    SMT_IP_RX_SLOT = 65536 + 5 * 64,
    SMT_IP_CONTROL = 64,
};

struct smt_ip_socket {
    int fd;
    int family;
    uint8_t protocol;
    uint32_t events; /* in the epoll set; 0: not in it */
};

/* One reserved packet. IPv4: its header stands before `data`. */
struct smt_ip_packet {
    struct smt_addr to;
    uint8_t *data;
    uint32_t len;
    uint8_t tos;
    int8_t socket; /* index, or -1: nowhere to go */
};

struct smt_ip_tx {
    uint8_t *arena;
    size_t used, before_last; /* bytes; what `used` was before the last reservation */
    uint32_t n, sent;         /* packets reserved; of them gone */
    struct smt_ip_packet packets[SMT_IP_TX_PACKETS];
};

struct smt_ip_rx {
    struct mmsghdr msgs[SMT_IP_RX_PACKETS];
    struct iovec iov[SMT_IP_RX_PACKETS];
    struct sockaddr_storage names[SMT_IP_RX_PACKETS];
    _Alignas(struct cmsghdr) uint8_t control[SMT_IP_RX_PACKETS][SMT_IP_CONTROL];
    struct smt_addr from[SMT_IP_RX_PACKETS];
    uint32_t n, cur; /* received, next to hand out */
    unsigned socket; /* they came from */
    unsigned next;   /* to ask */
};

/* What routing says of a destination, each asked for when it is wanted. */
struct smt_ip_path {
    struct smt_addr to;
    uint32_t mtu;
    uint64_t mtu_until, from_until;
    bool has_from;
    struct smt_addr from; /* the address packets leave from */
};

struct smt_ip {
    struct smt_dev base;
    struct smt_ip_socket sockets[SMT_IP_SOCKETS];
    unsigned n_sockets;
    int epoll_fd, claim_fd;
    uint32_t n_unarmed; /* calls of rx since the last arm, while watched */
    uint16_t port;
    uint8_t protocol, class_shift;
    uint8_t ecn; /* bits of every packet */
    bool is_tcp; /* packets leave as TCP (homa.md: hijack) */
    uint32_t rx_capacity;
    char ifname[16];
    struct smt_addr bound; /* when has_bound */
    bool has_bound;
    bool has_refusals; /* a call has failed: the error queues are worth a look */
    uint8_t *mem;
    size_t mem_len;
    struct smt_dev_stats stats;
    struct smt_ip_tx tx;
    struct smt_ip_rx rx;
    struct smt_ip_path paths[SMT_IP_PATHS];
};

/* A raw socket for what `d` says: bound, filtered by our port. Writes a line on failure. */
SMT_MUST_CHECK int smt_ip_socket_open(const struct smt_ip *d, const struct smt_dev_config *config,
                                      int family, uint8_t protocol, struct smt_ip_socket *out);

/* Lets nothing through but packets to `port`, and those only by other links than `hidden_link` (0:
 * by all). Negative, and errno, on failure. */
SMT_MUST_CHECK int smt_ip_filter_set(const struct smt_ip_socket *s, uint16_t port,
                                     uint32_t hidden_link);

/* The address that packets to `to` leave from; NULL when there is no route. */
const struct smt_addr *smt_ip_source(struct smt_ip *d, const struct smt_addr *to);

/* A call on a socket has failed; reports of the network, of which there may be some since then. */
void smt_ip_failed(struct smt_ip *d, int error);
int smt_ip_refused(struct smt_dev *dev, struct smt_addr *to, int *error);

void smt_ip_rx_init(struct smt_ip *d, uint8_t *slots);

uint8_t *smt_ip_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                           uint8_t prio);
void smt_ip_tx_unreserve(struct smt_dev *dev);
int smt_ip_tx_flush(struct smt_dev *dev);
int smt_ip_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

/* Takes the sockets out of the epoll set until the next arm. */
void smt_ip_unwatch(struct smt_ip *d);

static inline bool smt_ip_rx_has_rest(const struct smt_ip *d)
{
    return d->rx.cur < d->rx.n;
}

/* Opens the device of the word `ring`: packet sockets around a device `ip` on interface ifname ("":
 * a link is chosen). */
SMT_MUST_CHECK int smt_ip_ring_open(const struct smt_dev_config *config, const char *ifname,
                                    struct smt_dev **out);

#endif
