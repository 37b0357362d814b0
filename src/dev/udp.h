/* The parts of one UDP device, shared by udp.c (opening, sleeping), udp_tx.c, udp_rx.c,
 * udp_fav.c (a second socket for one peer) and udp_lone.c (what comes there one at a time). */
#ifndef SMT_DEV_UDP_H
#define SMT_DEV_UDP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "dev/dev_impl.h"
#include "dev/super.h"

enum {
    SMT_UDP_RX_FRAMES = 24,
    SMT_UDP_PATHS = 64,
    /* A whole datagram and some lines, so that the slots do not begin in the same set of the L1. */
    SMT_UDP_SLOT = 65536 + 5 * 64,
    SMT_UDP_TX_CONTROL = 64,
    SMT_UDP_RX_CONTROL = 128,
    SMT_UDP_CE = 3, /* ECN bits: congestion experienced */
};

struct smt_udp_frame {
    struct smt_super_frame super; /* is_fixed: goes segment by segment; done_segs have gone */
    uint32_t done_segs;
    struct sockaddr_storage name;
    socklen_t name_len;
};

struct smt_udp_tx {
    struct smt_super super;
    struct smt_udp_frame *spare[SMT_SUPER_FRAMES];
    uint8_t socket_tos; /* what goes out without a control message */
    uint8_t want_tos;   /* what goes out with one lately, `n_want` frames in a row */
    uint32_t n_want;
    struct smt_udp_frame frames[SMT_SUPER_FRAMES];
};

struct smt_udp_rx {
    struct mmsghdr msgs[SMT_UDP_RX_FRAMES];
    struct iovec iov[SMT_UDP_RX_FRAMES];
    struct sockaddr_storage names[SMT_UDP_RX_FRAMES];
    _Alignas(struct cmsghdr) uint8_t control[SMT_UDP_RX_FRAMES][SMT_UDP_RX_CONTROL];
    struct smt_addr from[SMT_UDP_RX_FRAMES];
    uint32_t n, cur; /* frames received, frame to hand out from */
    uint32_t off, seg_len;
    uint8_t ecn;
    uint32_t batch;  /* frames to ask for; 1 = recvmsg */
    uint32_t streak; /* calls in a row that found something */
    bool is_of_fav;  /* these came by the favourite's socket */
    bool owes_ce;    /* a packet handed out had a CE mark, the next one tells of it */
};

/* Packets that are handed out while they stand in the favourite's socket. */
struct smt_udp_lone {
    bool is_on;
    bool stands;      /* what was handed out last still does */
    uint32_t n_row;   /* while off: packets alone, each after a look in vain */
    uint32_t n_bunch; /* packets since a look in vain */
    uint32_t n_pairs; /* how many came behind another of late */
};

/* The favourite, and who may become it. */
struct smt_udp_fav {
    int fd;             /* -1: there is none */
    bool is_off;        /* and will not be */
    bool is_new;        /* older packets of it may stand in the socket of all */
    uint32_t watched;   /* as that of the socket of all */
    struct smt_addr to; /* its address; of the last frame while there is none */
    uint32_t n_row, n_wanted; /* frames of `to` in a row; so many make it the favourite */
    uint32_t n_others;        /* how much came for others of late */
    uint32_t n_looks, every;  /* calls of rx since the last look at the socket of all; for one */
    struct smt_udp_lone lone;
};

struct smt_udp_path {
    struct smt_addr to;
    uint32_t mtu;
    uint64_t until;
};

struct smt_udp {
    struct smt_dev base;
    int fd, epoll_fd;
    int family;
    uint32_t watched;   /* epoll events of the socket; 0 = not in the set */
    uint32_t n_unarmed; /* calls of rx since the last arm, while watched */
    uint16_t port;
    int rx_buffer_len;
    uint32_t rx_capacity;
    char ifname[16];
    uint32_t mbps; /* of its link, as the spec says; 0: ask the kernel */
    uint8_t *mem; /* slots of both directions */
    size_t mem_len;
    struct smt_dev_stats stats;
    struct smt_udp_tx tx;
    struct smt_udp_rx rx;
    struct smt_udp_fav fav;
    struct smt_udp_path paths[SMT_UDP_PATHS];
};

/* `slots` are SMT_SUPER_FRAMES and SMT_UDP_RX_FRAMES of SMT_UDP_SLOT bytes. */
void smt_udp_tx_init(struct smt_udp *d, uint8_t *slots, bool has_gso);
void smt_udp_rx_init(struct smt_udp *d, uint8_t *slots);

uint8_t *smt_udp_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                            uint8_t prio);
uint8_t *smt_udp_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                        size_t last_len, uint8_t prio, size_t *stride);
uint32_t smt_udp_tx_run_max(struct smt_dev *dev, const struct smt_addr *to);
void smt_udp_tx_unreserve(struct smt_dev *dev);
int smt_udp_tx_flush(struct smt_dev *dev);
int smt_udp_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);
unsigned smt_udp_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

/* Options and buffers of a socket of this device, but for its port. */
SMT_MUST_CHECK int smt_udp_socket_prepare(const struct smt_udp *d, int fd, int family);

/* Shall the kernel join packets there (UDP_GRO)? False: it refused. */
bool smt_udp_gro_set(int fd, bool on);

/* Packets that the kernel dropped there for want of room. */
uint64_t smt_udp_socket_drops(int fd);

/* No favourite; is_off: never one. */
void smt_udp_fav_init(struct smt_udp *d, bool is_off);
void smt_udp_fav_end(struct smt_udp *d);
void smt_udp_fav_off(struct smt_udp *d);

/* Segment length and ECN bits, as far as control messages tell them. */
void smt_udp_control_read(struct msghdr *m, uint32_t *seg_len, uint8_t *ecn);

/* These ECN bits, or the CE mark of a packet handed out before. */
static inline uint8_t smt_udp_owed_ce(struct smt_udp *d, uint8_t ecn)
{
    bool owes = d->rx.owes_ce;
    d->rx.owes_ce = false;
    return owes ? SMT_UDP_CE : ecn;
}

/* A frame has come from `from`. */
void smt_udp_fav_count(struct smt_udp *d, const struct smt_addr *from);

/* What goes out without a control message has changed. */
void smt_udp_fav_tos(struct smt_udp *d, uint8_t tos);

/* A frame of the favourite was received the usual way: was it one packet, with none before it since
 * a look in vain? */
void smt_udp_lone_count(struct smt_udp *d, bool is_alone);

/* A look in vain: the moment to begin, if it is time to. */
void smt_udp_lone_begin(struct smt_udp *d);

/* Looks for a packet: 1, or -1 and errno. hand gives it to the engine (1, or 0 where it is empty),
 * the next call of rx takes it from the socket. */
int smt_udp_lone_look(struct smt_udp *d);
int smt_udp_lone_hand(struct smt_udp *d, struct smt_pkt *pkt);
void smt_udp_lone_take(struct smt_udp *d);

static inline bool smt_udp_fav_is(const struct smt_udp *d, const struct smt_addr *to)
{
    return d->fav.fd >= 0 && smt_addr_equal(&d->fav.to, to);
}

/* Takes the socket out of the epoll set until the next arm. */
void smt_udp_unwatch(struct smt_udp *d);

/* Has rx packets that it received before and has not handed out? */
static inline bool smt_udp_rx_has_rest(const struct smt_udp *d)
{
    return d->rx.cur < d->rx.n;
}

#endif
