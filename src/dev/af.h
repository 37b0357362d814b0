/* The parts of one AF_PACKET device, shared by af.c (opening, sleeping), af_link.c (which link),
 * af_ring.c, af_path.c (headers for a destination), af_tx.c and af_rx.c; and what ip_ring.c needs
 * to make such a device for packets of an IP protocol of their own. */
#ifndef SMT_DEV_AF_H
#define SMT_DEV_AF_H

#include <sys/socket.h>

#include "dev/af_parse.h"
#include "dev/dev_impl.h"
#include "dev/route.h"
#include "dev/super.h"

struct smt_af;

enum {
    /* Before the payload of a slot; the longest headers end there. */
    SMT_AF_HEADROOM = 128,
    SMT_AF_SLOT = SMT_AF_HEADROOM + 65536, /* not a multiple of 4,096: slots differ in the L1 */
    SMT_AF_PATHS = 256,
    SMT_AF_BIG = SMT_AF_VNET_LEN + SMT_AF_ETH_LEN + SMT_AF_IPV6_LEN + 65536,
    SMT_AF_RING_BLOCK = 1 << 20,
    /* Slots: for super-frames, 256 of them, or for packets of an ordinary link, 2,048. */
    SMT_AF_RING_LONG_SHIFT = 16,
    SMT_AF_RING_LONG_LEN = 16 * SMT_AF_RING_BLOCK,
    SMT_AF_RING_SHORT_SHIFT = 11,
    SMT_AF_RING_SHORT_LEN = 4 * SMT_AF_RING_BLOCK,
    SMT_AF_RING_SHORT_MTU = 1600,
    SMT_AF_RING_MAX_SLOTS = SMT_AF_RING_SHORT_LEN >> SMT_AF_RING_SHORT_SHIFT,
};

static_assert(SMT_SUPER_LEN + 2 * SMT_AF_HEADROOM + 128 <= 1 << SMT_AF_RING_LONG_SHIFT,
              "a super-frame with its headers and the kernel's fits a slot");

static_assert(SMT_AF_VNET_LEN + SMT_AF_ETH_LEN + SMT_AF_IPV6_LEN + SMT_AF_UDP_LEN <=
                  SMT_AF_HEADROOM,
              "headers fit before the payload");

/* What differs between the devices that are a ring around sockets: `af` around UDP's, `ip` around
 * raw ones. */
struct smt_af_carriage {
    const char *name;        /* of the device */
    const char *sockets;     /* what carries the rest, for people */
    uint32_t caps;
    uint8_t l4_len;          /* of the header between IP's and the payload; 0: raw */
    bool needs_super_frames; /* of the kernel's packet sockets */
    uint32_t max_segs;       /* of a super-frame */
    /* The device that holds the port; its address in d->has_bound_ip, bound_ip and family. */
    int (*holder_open)(struct smt_af *d, const char *ifname, const struct smt_dev_config *config);
    /* The holder takes nothing that comes in by this link; 0: by all links again. errno is set. */
    int (*holder_hide)(struct smt_dev *holder, uint32_t ifindex);
    /* What the holder dropped, without what it hides. */
    uint64_t (*holder_drops)(const struct smt_dev *holder);
};

/* What stands before the payload of every packet to one destination, lengths and sums left out. */
struct smt_af_path {
    struct smt_addr to; /* port 0 */
    uint64_t until;
    uint32_t max_len;    /* largest packet by the ring */
    bool by_ring;        /* else by the UDP socket */
    bool by_socket_next; /* one packet goes by the socket, so that the kernel asks for the hop */
    uint8_t eth[SMT_AF_ETH_LEN];
    uint8_t src[16];
};

struct smt_af_tx {
    struct smt_super super;
    struct smt_super_frame *spare[SMT_SUPER_FRAMES];
    struct smt_super_frame frames[SMT_SUPER_FRAMES];
    struct smt_af_path *last; /* of the last reservation; NULL after a flush */
    bool last_by_socket;      /* where the last reservation is */
    bool has_by_socket;       /* the UDP socket has something to flush */
};

struct smt_af_rx {
    uint8_t *ring;
    size_t ring_len;
    uint32_t slot_shift, n_slots;
    uint32_t at;        /* slot to look at next */
    uint32_t held_from; /* slots [held_from, at) are handed out and still ours */
    uint8_t *big;       /* the one frame that was too long for a slot; SMT_AF_BIG bytes */
    bool is_big_lent;
    /* the frame being handed out */
    uint8_t *data;
    uint32_t left, seg_len;
    uint8_t ecn;
    uint16_t ip_id;
    struct smt_addr from[SMT_AF_RING_MAX_SLOTS];
    uint32_t n_looks;   /* since the socket was looked at */
    uint32_t hot;       /* the socket has had packets lately */
    uint32_t n_unarmed; /* calls since the last arm, while watched */
    uint8_t mine[16]; /* destination address that was found to be ours last */
};

struct smt_af {
    struct smt_dev base;
    const struct smt_af_carriage *carriage;
    struct smt_dev *holder; /* holds the port; carries what the ring cannot */
    int fd, nl, epoll_fd;
    bool has_ring;
    bool is_lost;       /* the ring is there, its link has gone */
    uint32_t watched;   /* epoll events of the packet socket; 0 = not in the set */
    bool has_bound_ip;
    int family;         /* of the holder's packets; AF_UNSPEC: both */
    uint8_t protocol;   /* of IP */
    uint8_t class_shift, ecn; /* IPv6 traffic class = priority << class_shift | ecn */
    uint16_t port;
    uint8_t share; /* above 1: so many devices have this port */
    uint8_t bound_ip[16];
    struct smt_link link;
    uint8_t *slots; /* to send from, and rx.big */
    size_t slots_len;
    char text[256]; /* why the socket carries everything, or what the ring is on */
    char note[128];
    struct smt_dev_stats stats;
    struct smt_af_tx tx;
    struct smt_af_rx rx;
    struct smt_af_path paths[SMT_AF_PATHS];
};

/* Opens a device of that kind on a link (ifname "": af_link.c chooses). Its row is that of `af` but
 * for name and caps. */
SMT_MUST_CHECK int smt_af_open_as(const struct smt_af_carriage *carriage, const char *ifname,
                                  const struct smt_dev_config *config, struct smt_dev **out);

/* The kind of `af`. */
extern const struct smt_af_carriage smt_af_udp;

/* has_bound_ip, bound_ip and family from the address that the endpoint is bound to. */
SMT_MUST_CHECK int smt_af_bound_set(struct smt_af *d, const struct smt_dev_config *config);

/* "NAME: …; packets go by SOCKETS" into d->text. Always SMT_EUNSUPPORTED. */
int smt_af_unusable(struct smt_af *d, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Finds the link of the device (ifname "" = by address or route) and whether it can be used.
 * SMT_EUNSUPPORTED: it cannot, d->text says why. SMT_ENODEV: no such interface. */
SMT_MUST_CHECK int smt_af_link_choose(struct smt_af *d, const char *ifname);

/* Packet socket, filters, receive ring. SMT_EUNSUPPORTED: cannot be, d->text says why. */
SMT_MUST_CHECK int smt_af_ring_open(struct smt_af *d);
void smt_af_ring_close(struct smt_af *d);

/* Frames that the kernel dropped for want of a slot since the last call. */
uint32_t smt_af_ring_drops(const struct smt_af *d);

/* The link is gone: from now on everything goes by the holder. */
void smt_af_ring_lost(struct smt_af *d);

/* One phrase for people: what keeps a process from packet sockets of this kind; NULL = nothing. */
const char *smt_af_obstacle(bool needs_super_frames);

/* Takes the ring out of the epoll set until the next arm. */
void smt_af_unwatch(struct smt_af *d);

/* How packets to `to` go now. Good until the next call. */
struct smt_af_path *smt_af_path_find(struct smt_af *d, const struct smt_addr *to);

/* The largest packet to `to` is this now: what was kept of the way is asked for again if that is
 * news. */
void smt_af_path_mtu_seen(struct smt_af *d, const struct smt_addr *to, uint32_t mtu);

/* Writes all headers of a super-frame before its payload; returns where they begin. */
uint8_t *smt_af_headers_write(const struct smt_af *d, const struct smt_af_path *path,
                              const struct smt_super_frame *f, size_t *headers_len);

void smt_af_tx_init(struct smt_af *d);
uint8_t *smt_af_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                           uint8_t prio);
uint8_t *smt_af_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                       size_t last_len, uint8_t prio, size_t *stride);
uint32_t smt_af_tx_run_max(struct smt_dev *dev, const struct smt_addr *to);
void smt_af_tx_unreserve(struct smt_dev *dev);
int smt_af_tx_flush(struct smt_dev *dev);
int smt_af_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);
unsigned smt_af_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

/* True when the ring has something to hand out. */
bool smt_af_rx_pending(const struct smt_af *d);

/* Gives slots that were handed out back to the kernel. */
void smt_af_rx_release(struct smt_af *d);

#endif
