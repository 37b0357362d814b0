/* The parts of one UDP device, shared by udp.c (opening, sleeping), udp_tx.c and udp_rx.c. */
#ifndef SMT_DEV_UDP_H
#define SMT_DEV_UDP_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "dev/dev_impl.h"

enum {
    SMT_UDP_TX_FRAMES = 32, /* a power of two */
    SMT_UDP_TX_OPEN = 8,
    SMT_UDP_TX_SEGMENTS = 64,
    SMT_UDP_TX_SUPER_LEN = 65000,
    SMT_UDP_TX_BATCH_LEN =
        768 << 10, /* together with what is received inside an L2 cache of 2 MB */
    SMT_UDP_RX_FRAMES = 24,
    SMT_UDP_PATHS = 64,
    /* A whole datagram and some lines, so that the slots do not begin in the same set of the L1. */
    SMT_UDP_SLOT = 65536 + 5 * 64,
    SMT_UDP_TX_CONTROL = 64,
    SMT_UDP_RX_CONTROL = 128,
};

/* ECT(0): our packets may be marked instead of dropped (docs/wire.md 1). */
enum { SMT_UDP_TOS_ECT0 = 2 };

/* A super-frame being laid out: n_segs segments of seg_len bytes, the last of last_len. */
struct smt_udp_frame {
    _Alignas(64) struct smt_addr to;
    uint8_t tos;
    bool is_split; /* goes segment by segment; done_segs have gone */
    uint32_t seg_len, last_len, n_segs, done_segs;
    uint8_t *data;
    struct sockaddr_storage name;
    socklen_t name_len;
};

/* Frames queue in the order in which they were begun. Slots come from a stack, so that few are in
 * use and those are warm. `open` are the queued frames that take more: at most one for each
 * destination and priority. */
struct smt_udp_tx {
    struct smt_udp_frame *queue[SMT_UDP_TX_FRAMES];
    struct smt_udp_frame *spare[SMT_UDP_TX_FRAMES];
    struct smt_udp_frame *open[SMT_UDP_TX_OPEN];
    uint32_t head, n, n_open, next_victim;
    struct smt_udp_frame *last;
    uint32_t max_segs; /* 1 without segmentation offload */
    size_t batch_len;  /* bytes queued */
    struct {
        struct smt_udp_frame *frame; /* NULL: nothing to take back */
        uint32_t last_len, seg_len, pad;
    } undo;
    uint8_t socket_tos; /* what goes out without a control message */
    uint8_t want_tos;   /* what goes out with one lately, `n_want` frames in a row */
    uint32_t n_want;
    struct smt_udp_frame frames[SMT_UDP_TX_FRAMES];
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
    uint32_t rx_capacity;
    char ifname[16];
    uint8_t *mem; /* slots of both directions */
    size_t mem_len;
    struct smt_dev_stats stats;
    struct smt_udp_tx tx;
    struct smt_udp_rx rx;
    struct smt_udp_path paths[SMT_UDP_PATHS];
};

/* `slots` are SMT_UDP_TX_FRAMES and SMT_UDP_RX_FRAMES of SMT_UDP_SLOT bytes. */
void smt_udp_tx_init(struct smt_udp *d, uint8_t *slots, bool has_gso);
void smt_udp_rx_init(struct smt_udp *d, uint8_t *slots);

uint8_t *smt_udp_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                            uint8_t prio);
void smt_udp_tx_unreserve(struct smt_dev *dev);
int smt_udp_tx_flush(struct smt_dev *dev);
int smt_udp_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

/* Takes the socket out of the epoll set until the next arm. */
void smt_udp_unwatch(struct smt_udp *d);

/* Has rx packets that it received before and has not handed out? */
static inline bool smt_udp_rx_has_rest(const struct smt_udp *d)
{
    return d->rx.cur < d->rx.n;
}

#endif
