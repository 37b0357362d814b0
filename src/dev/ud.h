/* The parts of one `ud` device, shared by ud.c (opening, sleeping, events), ud_qp.c (queue pairs),
 * ud_rebuild.c (when they have failed), ud_mem.c (memory), ud_tx.c and ud_rx.c.
 *
 * One smt2 packet is one UD SEND with immediate data (docs/wire.md, UD). All queue pairs share one
 * completion queue for sends and one for receives. Numbers of work requests count up for ever and
 * are cut by a mask. */
#ifndef SMT_DEV_UD_H
#define SMT_DEV_UD_H

#include "dev/dev_impl.h"
#include "dev/held.h"
#include "dev/ud_peers.h"
#include "dev/ud_port.h"
#include "dev/verbs_sleep.h"

enum {
    SMT_UD_GRH_LEN = 40,      /* before every received payload */
    SMT_UD_PAYLOAD_AT = 64,   /* in a receive buffer: the GRH ends there */
    SMT_UD_LOT = 32,          /* receive buffers go back by so many */
    SMT_UD_WCS = 32,          /* completions taken by one poll */
    SMT_UD_SIGNAL_EVERY = 64, /* sends for each of which but the last no completion is asked */
    SMT_UD_INLINE = 188,      /* with control and address a work request of 256 bytes on mlx5 */
    SMT_UD_MIN_MTU = 1024,
};

/* A reserved packet. */
struct smt_ud_slot {
    struct smt_ud_route route; /* mtu 0: none yet */
    struct smt_addr to;
    uint8_t *data;
    uint32_t len;
    uint8_t prio;
};

static_assert(sizeof(struct smt_ud_slot) == 64, "a cache line");

/* How much of everything; powers of two where a mask is made of it. */
struct smt_ud_sizes {
    uint32_t tx_depth, rx_depth; /* of each queue pair */
    uint32_t n_slots, max_held;
    uint32_t tx_stride, rx_stride;
    size_t mem_len;
};

struct smt_ud_qp {
    struct ibv_qp *qp;
    struct ibv_qp_ex *ex; /* NULL: posts by ibv_post_send */
    uint32_t inline_len;
    uint64_t tag;           /* upper half of wr_id: generation and index; new with every reset */
    bool is_suspect;        /* has shown an error: smt_ud_recover looks at it */
    bool is_stuck;          /* the same, and its rings are out of step: reset whatever its state */
    bool is_peers_doing;    /* the error was a packet that is too large */
    uint64_t suspect_since; /* 0: recovery has not begun */
    uint64_t recoveries_since; /* a second of recoveries began */
    uint32_t n_recoveries;

    /* Sending. Reserved packets wait in `batch`, posted ones in `sent` until they are known to be
     * done. */
    uint32_t posted, done;
    uint32_t batch_head, n_batch;
    bool is_marked;                   /* a marker was posted for the mark of smt_ud_tx */
    const struct smt_ud_slot *latest; /* of the packet posted last */
    struct smt_ud_slot **batch;       /* of n_slots rounded up to a power of two */
    struct smt_ud_slot **sent;        /* of tx_depth; NULL: went inline */

    /* Receiving: buffers are used and posted again in their order. */
    uint32_t handed;   /* completions handed out or dropped */
    uint32_t returned; /* of these, no longer borrowed */
    uint32_t reposted; /* of these, posted again: whole lots */
    uint8_t *rx_mem;
    struct ibv_recv_wr *rx_wrs; /* chained in a circle */
    struct ibv_sge *rx_sges;
};

struct smt_ud_tx {
    struct ibv_cq *cq;
    struct smt_ud_slot *slots;
    struct smt_ud_slot **spare; /* a stack: what was used last is warm */
    uint32_t n_spare;
    uint32_t batch_mask, depth_mask;
    uint32_t n_batch;          /* on all queue pairs */
    uint8_t *pit;              /* where packets that are too large are written */
    struct smt_ud_qp *undo;    /* queue pair of the last reservation; NULL: nothing to take back */
    struct smt_ud_slot run;    /* its route holds for more packets like it, unless its mtu is 0 */
    struct smt_ud_slot steered; /* the same for packets to that number of several on a port */
    uint8_t steered_number;
    struct smt_held held;      /* for peers that are being asked */
    __be32 imm;
    struct ibv_send_wr *wrs; /* of tx_depth, for ibv_post_send */
    struct ibv_sge *sges;
    /* Address handles wait for `mark_posted` of every queue pair before they are destroyed. */
    uint32_t mark_posted[SMT_UD_MAX_QPS];
    uint64_t mark, marked_at;
};

struct smt_ud_rx {
    struct ibv_cq *cq;
    struct ibv_wc wcs[SMT_UD_WCS + 1]; /* the last is only looked at */
    uint32_t n, cur;                   /* completions taken, the next to hand out */
    struct smt_addr from[SMT_DEV_RX_BATCH];
};

/* Queues that have failed for good, see ud_rebuild.c. */
struct smt_ud_rebuild {
    const char *why;         /* they are to be made anew, because of this; NULL: they work */
    uint64_t at;             /* not before */
    uint64_t last, gap;      /* the last attempt; the least time to the next */
    uint64_t n_heard;        /* packets received until then */
    uint32_t n_vain;         /* attempts in a row that gave no queues that work */
};

/* Completion queues that may wake who sleeps. */
enum smt_ud_watch { SMT_UD_WATCH_RX, SMT_UD_WATCH_TX, SMT_UD_N_WATCHES };

struct smt_ud {
    struct smt_dev base;
    struct smt_ud_port port;
    struct smt_ud_peers *peers;
    struct smt_ud_sizes sizes;
    struct smt_ud_qp qps[SMT_UD_MAX_QPS];
    uint32_t n_qps;
    uint32_t mtu; /* active MTU at opening: what the buffers hold */
    uint32_t qkey;
    struct smt_ud_tx tx;
    struct smt_ud_rx rx;
    struct smt_dev_stats stats;

    struct ibv_pd *pd;
    struct ibv_mr *mr;
    struct ibv_comp_channel *channel;
    uint8_t *mem; /* all slots and receive buffers */
    size_t mem_len;
    void *tables; /* everything else that is sized at opening */
    size_t tables_len;

    int epoll_fd, node_watch;
    int timer_fd;       /* ends a sleep before queues are made anew; -1: none was needed yet */
    char node[96];      /* the device's file */
    uint32_t countdown; /* calls of rx until the next look at sockets and events */
    uint64_t now;       /* coarse, of the last look at the clock */
    uint64_t looked_at, released_at;
    struct smt_verbs_watch watches[SMT_UD_N_WATCHES];
    struct smt_ud_rebuild rebuild;
    bool is_lost;
    const char *trouble; /* why it is lost, or was rebuilt last */
    char why[512]; /* the last answer of `why` about a peer */
};

/* The device is of no use any more: rx says so from now on, and `why` (a literal) if asked. */
void smt_ud_lose(struct smt_ud *d, const char *why);

/* Looks at events, the resolve socket, held packets and completions of sends. Makes a system call.
 */
void smt_ud_look(struct smt_ud *d);

/* Sizes for d->mtu and d->n_qps within what the device takes, and at most half of `allowed` bytes
 * locked. `rx_bytes`: what receive buffers are to hold, 0 = the device's choice. */
void smt_ud_sizes_init(struct smt_ud *d, uint32_t rx_bytes, uint64_t allowed);

/* False when they cannot be less. */
bool smt_ud_sizes_halve(struct smt_ud *d);

/* Bytes of locked memory that a device of these sizes takes, roughly. */
uint64_t smt_ud_sizes_locked(const struct smt_ud *d);

/* Tables and registered memory of these sizes, filled in. Needs d->pd. */
SMT_MUST_CHECK int smt_ud_memory_init(struct smt_ud *d, const struct smt_dev_config *config);
void smt_ud_memory_fini(struct smt_ud *d);

/* Says that the device refused to make `what` (errno `error`); the code to fail with. */
int smt_ud_fail_create(const struct smt_ud *d, const struct smt_dev_config *config,
                       const char *what, int error);

/* Makes queues, queue pairs and memory of what memory limits allow; all are in RTS, receive buffers
 * posted. Needs d->port. On failure smt_ud_objects_fini cleans up. */
SMT_MUST_CHECK int smt_ud_objects_init(struct smt_ud *d, const struct smt_dev_config *config);
void smt_ud_objects_fini(struct smt_ud *d);
void smt_ud_qps_destroy(struct smt_ud *d);

/* Completion queues and queue pairs, ready; what is made of them when it fails goes by
 * smt_ud_queues_unmake. */
SMT_MUST_CHECK int smt_ud_queues_make(struct smt_ud *d, const struct smt_dev_config *config);

/* Takes completion queues and queue pairs away: what was posted is lost, its buffers are ours
 * again. An error when the device keeps any of them, and may so write to its buffers. */
SMT_MUST_CHECK int smt_ud_queues_unmake(struct smt_ud *d);

/* Brings suspect queue pairs back to life; packets posted on them are lost. Nobody may be borrowing
 * receive buffers. When that fails, or is needed too often, all queues are made anew. */
void smt_ud_recover(struct smt_ud *d);

/* The queues do not work any more, because of `why` (a literal): they are made anew by one of the
 * next calls of rx. Until then nothing is posted and nothing polled. */
void smt_ud_break(struct smt_ud *d, const char *why);

static inline bool smt_ud_is_broken(const struct smt_ud *d)
{
    return SMT_UNLIKELY(d->rebuild.why != NULL);
}

/* Makes the queues of a broken device anew if it is time to. Nobody may be borrowing receive
 * buffers. Gives the device up after several attempts in vain. */
void smt_ud_rebuild(struct smt_ud *d);

uint8_t *smt_ud_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                           uint8_t prio);
void smt_ud_tx_unreserve(struct smt_dev *dev);
int smt_ud_tx_flush(struct smt_dev *dev);

/* Takes completions of sends. */
void smt_ud_tx_reap(struct smt_ud *d);

/* Keeps a packet until its peer has answered; what is too much is dropped, the new one rather than
 * one that has not waited long. */
void smt_ud_tx_hold(struct smt_ud *d, struct smt_ud_slot *s);

/* Puts what is held for peers that are known now in front of what waits; what has waited for too
 * long is dropped. */
void smt_ud_tx_release(struct smt_ud *d);

/* Hears what peers have said. True when routes are ready that were not; what was held for them
 * waits in front now. */
bool smt_ud_tx_ask(struct smt_ud *d);

/* Could a packet that waits be posted now? */
bool smt_ud_tx_has_room(const struct smt_ud *d);

/* All that was posted on `q` is gone: its slots are free again, counted as errors. */
void smt_ud_tx_forget(struct smt_ud *d, struct smt_ud_qp *q);

/* Packets that wait ask for their routes again when they are posted. */
void smt_ud_tx_reroute(struct smt_ud *d);

/* Brings completions of what was posted and asked for none, by an empty packet. */
void smt_ud_tx_hasten(struct smt_ud *d, struct smt_ud_qp *q);

/* Waits a moment for what was posted last to leave. */
void smt_ud_tx_linger(struct smt_ud *d);

int smt_ud_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

/* Drops whatever has been received. */
void smt_ud_rx_drain(struct smt_ud *d);

/* Takes completions of receives when none are left to hand out. Are there any? */
bool smt_ud_rx_fill(struct smt_ud *d, uint32_t n);

/* Posts all receive buffers of a queue pair that has none. */
SMT_MUST_CHECK int smt_ud_rx_post_all(struct smt_ud *d, struct smt_ud_qp *q);

/* Routes may change: the next packet asks again. */
static inline void smt_ud_run_end(struct smt_ud_tx *tx)
{
    tx->run.route.mtu = 0;
    tx->steered.route.mtu = 0;
}

static inline struct smt_ud *smt_ud_of(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct smt_ud, base);
}

#endif
