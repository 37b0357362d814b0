/* The parts of one `mlx5` device, shared by mlx5.c (opening, sleeping, events), mlx5_tx.c (packets
 * that the CPU sealed), mlx5_rx.c and mlx5_seal.c (records that the NIC seals).
 *
 * Two queue pairs in two protection domains: what the CPU sealed leaves by the one, what the NIC
 * seals by the other. Memory that holds plaintext is registered in the domain of the second alone,
 * so that a request of the first cannot name it (docs/security.md). */
#ifndef SMT_DEV_MLX5_H
#define SMT_DEV_MLX5_H

#include "base/seal.h"
#include "dev/dev_impl.h"
#include "dev/held.h"
#include "dev/ip_hold.h"
#include "dev/mlx5_peers.h"
#include "dev/mlx5_port.h"
#include "dev/mlx5_sq.h"
#include "dev/verbs_sleep.h"

enum {
    SMT_MLX5_RX_LOT = 32,   /* receive buffers go back by so many */
    SMT_MLX5_BIG_LEN = 44 + 16384 + 29 + 19, /* header and record of a burst, to 64 bytes */
    SMT_MLX5_N_BIG = 64,
    SMT_MLX5_MAX_HELD = SMT_HELD_MOST,
};

/* A reserved packet, or a record that leaves in slices. */
struct smt_mlx5_slot {
    const struct smt_mlx5_peer *peer; /* NULL: none yet */
    struct smt_addr to;
    uint8_t *data;
    uint32_t len;       /* of all of data */
    uint16_t hdr_len;   /* of a burst; 0: a packet */
    uint16_t slice_len;
    uint8_t prio;
    bool is_big;        /* comes from the stack of large buffers */
};

struct smt_mlx5_tx {
    struct smt_mlx5_sq sq;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *mem;
    size_t mem_len;
    uint32_t stride, n_slots;
    struct smt_mlx5_slot *slots;  /* packets first, then SMT_MLX5_N_BIG large ones */
    struct smt_mlx5_slot **spare, **spare_big, **batch, **sent;
    uint32_t n_spare, n_spare_big;
    uint32_t batch_head, n_batch, batch_mask;
    uint8_t *pit;                 /* where packets that are too large are written */
    struct smt_held held;         /* for neighbours that the kernel asks for */
    struct smt_mlx5_slot run;     /* its peer holds for more packets to its address */
    void *tables;
    size_t tables_len;
};

struct smt_mlx5_rx {
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t *mem;
    size_t mem_len;
    uint32_t depth, stride;
    uint32_t handed, returned, reposted, life;
    struct ibv_recv_wr *wrs; /* chained in a circle */
    struct ibv_sge *sges;
    struct ibv_flow *flows[SMT_MLX5_MAX_ADDRS][2]; /* of each of port.addrs */
    struct smt_addr from[SMT_DEV_RX_BATCH];
    struct ibv_wc wcs[SMT_MLX5_RX_LOT];
    uint32_t n, cur; /* completions taken, the next to hand out */
};

/* Completion queues that may wake who sleeps. */
enum smt_mlx5_watch {
    SMT_MLX5_WATCH_RX,
    SMT_MLX5_WATCH_TX,
    SMT_MLX5_WATCH_SEAL,
    SMT_MLX5_N_WATCHES,
};

struct smt_mlx5_seal; /* of mlx5_seal.c */

struct smt_mlx5 {
    struct smt_dev base;
    struct smt_mlx5_port port;
    struct smt_mlx5_carrier by;
    struct smt_mlx5_peers *peers;
    struct smt_ip_hold hold;    /* of packets without UDP */
    uint16_t own_port;
    struct ibv_pd *pd;
    struct ibv_comp_channel *channel;
    struct smt_mlx5_tx tx;
    struct smt_mlx5_rx rx;
    struct smt_mlx5_seal *seal; /* NULL: the CPU seals */
    char no_seal[192];          /* why, "" when the NIC does */
    struct smt_dev_stats stats;
    uint32_t mtu;               /* of the link at opening: what the buffers hold */
    int epoll_fd;
    uint32_t countdown;
    uint64_t now, looked_at;
    struct smt_verbs_watch watches[SMT_MLX5_N_WATCHES];
    uint64_t recovered_at_good;
    uint32_t n_recoveries;
    bool is_lost;
    const char *why_lost;
};

static inline struct smt_mlx5 *smt_mlx5_of(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_mlx5, base);
}

/* smt2 goes by UDP (and its records in slices beside it), the kernel's formats by IP itself. */
static inline bool smt_mlx5_is_udp(const struct smt_mlx5 *d)
{
    return d->by.protocol == SMT_MLX5_PROTO_UDP;
}

void smt_mlx5_lose(struct smt_mlx5 *d, const char *why);

/* Says that the device refused to make `what` (a negative errno); the code to fail with. */
int smt_mlx5_fail_create(const struct smt_mlx5 *d, const struct smt_dev_config *config,
                         const char *what, int error);

/* Events, the kernel's tables, completions, what waits. Makes a system call. */
void smt_mlx5_look(struct smt_mlx5 *d);

/* ---- mlx5_tx.c ---- */

SMT_MUST_CHECK int smt_mlx5_tx_init(struct smt_mlx5 *d, const struct smt_dev_config *config);
void smt_mlx5_tx_fini(struct smt_mlx5 *d);
uint8_t *smt_mlx5_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                             uint8_t prio);
uint8_t *smt_mlx5_tx_burst(struct smt_dev *dev, const struct smt_addr *to, size_t hdr_len,
                           size_t record_len, size_t slice_len, uint8_t prio);
void smt_mlx5_tx_unreserve(struct smt_dev *dev);
int smt_mlx5_tx_flush(struct smt_dev *dev);
void smt_mlx5_tx_reap(struct smt_mlx5 *d);
bool smt_mlx5_tx_has_room(const struct smt_mlx5 *d);

/* All that was posted is gone. */
void smt_mlx5_tx_forget(struct smt_mlx5 *d);

/* Routes may have changed. */
void smt_mlx5_tx_reroute(struct smt_mlx5 *d);

static inline void smt_mlx5_slot_free(struct smt_mlx5_tx *tx, struct smt_mlx5_slot *s)
{
    if (SMT_UNLIKELY(s->is_big))
        tx->spare_big[tx->n_spare_big++] = s;
    else
        tx->spare[tx->n_spare++] = s;
}

static inline void smt_mlx5_batch_push_front(struct smt_mlx5_tx *tx, struct smt_mlx5_slot *s)
{
    tx->batch[--tx->batch_head & tx->batch_mask] = s;
    tx->n_batch++;
}

/* Waits a moment for what was posted to leave. */
void smt_mlx5_tx_linger(struct smt_mlx5 *d);

/* One packet, or one burst, as a request: headers inline, of a burst also smt2's, which every
 * packet repeats; the rest by pointer. Returns its length. */
size_t smt_mlx5_wqe_fill(const struct smt_mlx5_slot *s, const struct smt_mlx5_peer *peer,
                         const struct smt_mlx5_ctrl *ctrl, uint32_t lkey, uint8_t *out);

/* ---- mlx5_held.c ---- */

/* Keeps a packet until its machine is known; or drops it or an old one, counted. */
void smt_mlx5_tx_hold(struct smt_mlx5 *d, struct smt_mlx5_slot *s);

/* Puts those whose machine is known now in front of the batch. */
void smt_mlx5_tx_release(struct smt_mlx5 *d);

/* ---- mlx5_rx.c ---- */

/* Before the queue pair: memory. After it: rules, and buffers posted. */
SMT_MUST_CHECK int smt_mlx5_rx_init(struct smt_mlx5 *d, const struct smt_dev_config *config);
SMT_MUST_CHECK int smt_mlx5_rx_start(struct smt_mlx5 *d, const struct smt_dev_config *config);

/* Addresses of the interface may have come or gone: rules follow. */
void smt_mlx5_rx_follow(struct smt_mlx5 *d);
void smt_mlx5_rx_stop(struct smt_mlx5 *d);
void smt_mlx5_rx_fini(struct smt_mlx5 *d);
int smt_mlx5_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

/* Posts all buffers of a queue pair that has none. Fits smt_mlx5_sq_reset. */
int smt_mlx5_rx_post_all(void *d);

/* Is there a completion to hand out? */
bool smt_mlx5_rx_is_waiting(struct smt_mlx5 *d);

/* ---- mlx5_seal.c ---- */

/* Makes what sealing takes; without it the device goes on (d->no_seal says why). 0 or a code that
 * ends opening: crypto=nic and it cannot. */
SMT_MUST_CHECK int smt_mlx5_seal_open(struct smt_mlx5 *d, const struct smt_dev_config *config);
void smt_mlx5_seal_close(struct smt_mlx5 *d);

const struct smt_sealer *smt_mlx5_sealer(struct smt_dev *dev);
struct ibv_cq *smt_mlx5_seal_cq(const struct smt_mlx5 *d);

/* Posts what waits; SMT_EAGAIN when the queue is full. Takes completions. Something waits that
 * could be posted now. Makes the queue work again after an error. */
int smt_mlx5_seal_flush(struct smt_mlx5 *d);
void smt_mlx5_seal_reap(struct smt_mlx5 *d);
bool smt_mlx5_seal_is_waiting(const struct smt_mlx5 *d);
bool smt_mlx5_seal_has_room(const struct smt_mlx5 *d);
void smt_mlx5_seal_recover(struct smt_mlx5 *d);

/* An event says that its queue has failed. */
void smt_mlx5_seal_suspect(struct smt_mlx5 *d);

#endif
