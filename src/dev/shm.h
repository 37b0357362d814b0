/* The parts of one shared-memory device, shared by shm.c (opening, sleeping), shm_ring.c (packets
 * in memory), shm_mem.c (that memory), shm_attach.c (how two ends find each other), shm_peers.c
 * (who is reached that way), shm_tx.c and shm_rx.c. */
#ifndef SMT_DEV_SHM_H
#define SMT_DEV_SHM_H

#include "dev/dev_impl.h"
#include "dev/shm_ring.h"

enum {
    SMT_SHM_PEERS = 64,
    SMT_SHM_SLOTS = 256, /* of the tables by address; a power of two */
    SMT_SHM_MTU = 65000,
    /* Packets up to this long are put together in memory of our own: plaintext of messages stands
     * in them until it is sealed (core/record_tx.c). */
    SMT_SHM_STAGED = 4096,
    SMT_SHM_RX_MEM = 192 << 10,
    /* Tags in the epoll set; smaller ones are peers. */
    SMT_SHM_TAG_INNER = SMT_SHM_PEERS,
    SMT_SHM_TAG_LISTENER,
    SMT_SHM_TAG_ADDRESSES,
};

/* First message of either end, with the descriptor of its half. */
struct smt_shm_hello {
    uint32_t magic, kind, half_len;
    uint8_t number, share; /* of *_ONE_OF: which the sender is of how many on its port; else 0 */
    uint16_t zero;
    struct smt_addr from; /* the sender, as packets of it would say */
    struct smt_addr to;
};
enum {
    SMT_SHM_MAGIC = 0x73686d31, /* with the layout of shm_ring.h */
    SMT_SHM_HELLO = 1,
    SMT_SHM_WELCOME = 2,
    /* Kinds of their own, so that who knows of no numbers does not take one of several for all. */
    SMT_SHM_HELLO_ONE_OF = 3,
    SMT_SHM_WELCOME_ONE_OF = 4,
};

/* FREE → AWAIT_HELLO (they came) → UP → DRAIN → DONE → FREE
 *      → AWAIT_WELCOME (we went) → UP; every live state may go to DRAIN or DONE. */
enum smt_shm_state {
    SMT_SHM_FREE,
    SMT_SHM_AWAIT_HELLO,
    SMT_SHM_AWAIT_WELCOME, /* our half is on its way: we may send */
    SMT_SHM_UP,
    SMT_SHM_DRAIN, /* the peer is gone: what it sent is read */
    SMT_SHM_DONE,  /* to be freed where nobody borrows its packets */
};

struct smt_shm_peer {
    enum smt_shm_state state;
    int fd;
    bool is_touched; /* something was published since the last flush */
    bool is_asked;   /* we went to them */
    bool is_entered; /* in by_addr: sent to under its address */
    bool is_one_of;  /* of several on its port: packets tell which of them they are for */
    uint8_t number;  /* then */
    uint8_t share;   /* how many; 0: it has yet to say, and nothing is sent to it before */
    uint32_t rung;   /* value of their `sleeps` that we rang for */
    struct smt_addr addr;
    uint64_t until;      /* AWAIT_*: when it is given up; DRAIN: how far their ring is read */
    uint8_t *ours, *theirs; /* halves; NULL: not there */
    struct smt_shm_out out;
    struct smt_shm_in in;
};

/* The addresses of this machine, a set by open addressing; loopback's are not in it. */
struct smt_shm_locals {
    bool is_stale;
    unsigned n;
    struct {
        uint8_t ip[16];
        bool is_used;
    } slots[SMT_SHM_SLOTS];
};

/* An endpoint that could not be reached by memory: not tried again for a while. */
struct smt_shm_miss {
    struct smt_addr addr;
    uint8_t number;
    uint64_t until;
    const char *why;
};

struct smt_shm {
    struct smt_dev base;
    struct smt_dev *inner; /* holds the port; carries what is not on this host */
    int epoll_fd, listener, nl; /* nl tells that addresses of the machine have changed */
    bool any_user; /* peers of other users are taken too */
    bool is_armed;
    bool is_bound;
    uint8_t number, share; /* ours; 0 of 0 when alone */
    struct smt_addr bound; /* to this address, and the port in any case */
    uint64_t now; /* coarse, as of the last look at the sockets */
    struct smt_shm_peer *live[SMT_SHM_PEERS]; /* not FREE */
    unsigned n_peers, n_waiting;              /* of these all, and AWAIT_* */
    bool has_done;               /* one at least is DONE */
    struct {
        struct smt_addr to; /* of the last look-up */
        struct smt_shm_peer *peer;
        bool is_valid;
    } last;
    /* the reservation that is being filled */
    struct smt_shm_peer *pending; /* NULL: none of ours */
    const uint8_t *pending_from;
    uint32_t pending_len; /* where `pending` is one of several */
    uint8_t pending_prio;
    bool is_by_inner;
    struct smt_shm_peer *touched[SMT_SHM_PEERS];
    unsigned n_touched;
    bool has_by_inner; /* the inner device has something to flush */
    /* `nowhere` is for what is dropped, and for packets to a port of several that are not whole. */
    uint8_t *staged, *nowhere, *rx_mem;
    char note[160];
    uint32_t first; /* peer to receive from first */
    uint32_t n_looks, n_calls, hot;
    struct smt_dev_stats stats;
    uint8_t by_addr[SMT_SHM_SLOTS]; /* number of the peer and one; 0: none; open addressing */
    struct smt_shm_peer peers[SMT_SHM_PEERS];
    struct smt_shm_locals locals;
    struct smt_shm_miss misses[SMT_SHM_SLOTS];
};

/* A half of our own: *fd is for the peer and closed by the caller, who can map it only to read. */
SMT_MUST_CHECK int smt_shm_half_new(uint8_t **half, int *fd);

/* The half behind a descriptor that a peer sent: only if it can neither shrink nor be written by
 * anybody but who has it mapped now. Does not close `fd`. */
SMT_MUST_CHECK int smt_shm_half_map(int fd, uint8_t **half);
void smt_shm_half_free(uint8_t *half);

/* Makes the device findable. Failure is not one of the device: it is reached the inner way. */
void smt_shm_listen(struct smt_shm *d);

/* Goes to the endpoint at `to`, which is on this host, or to this number of `share` there; `share`
 * 0: whether there are several is not known. A peer to send to, or NULL and *why. */
struct smt_shm_peer *smt_shm_ask(struct smt_shm *d, const struct smt_addr *to, uint8_t number,
                                 uint8_t share, const char **why);

/* Looks at all sockets without waiting. */
void smt_shm_look(struct smt_shm *d);

/* Wakes a peer that sleeps. */
void smt_shm_ring_bell(const struct smt_shm_peer *p);

/* Nothing more is sent to it; what it sent is still read. Freed by smt_shm_reap. */
void smt_shm_peer_end(struct smt_shm *d, struct smt_shm_peer *p);
void smt_shm_reap(struct smt_shm *d);

/* All of them at once, packets or not. */
void smt_shm_peers_free(struct smt_shm *d);

/* A free entry, or NULL. */
struct smt_shm_peer *smt_shm_peer_new(struct smt_shm *d, int fd, enum smt_shm_state state);

/* Enters `p` under its address and number, before others of the same: from now on it is sent to. */
void smt_shm_peer_enter(struct smt_shm *d, struct smt_shm_peer *p);

/* Who is sent to under this address now, or NULL; of several on that port any. */
struct smt_shm_peer *smt_shm_peer_at(const struct smt_shm *d, const struct smt_addr *addr);

/* The one with this number there, or NULL. */
struct smt_shm_peer *smt_shm_member_at(const struct smt_shm *d, const struct smt_addr *addr,
                                       uint8_t number);

/* The same, going there if it can be reached; NULL: by the inner device. */
struct smt_shm_peer *smt_shm_peer_find(struct smt_shm *d, const struct smt_addr *to);

/* The one with this number beside `p`, going there if it can be reached; NULL: by the inner
 * device. */
struct smt_shm_peer *smt_shm_member_find(struct smt_shm *d, const struct smt_shm_peer *p,
                                         uint8_t number);

/* Why packets to `to` do not go by memory, one phrase; NULL: they do, or it is on another host. */
const char *smt_shm_why_not(struct smt_shm *d, const struct smt_addr *to);

/* Is this address one of our machine's? */
bool smt_shm_is_local(struct smt_shm *d, const struct smt_addr *addr);

/* A socket that is readable when the machine's addresses have changed, or -1. */
int smt_shm_addresses_open(void);
void smt_shm_addresses_changed(struct smt_shm *d);

uint8_t *smt_shm_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                            uint8_t prio);
uint8_t *smt_shm_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                        size_t last_len, uint8_t prio, size_t *stride);
uint32_t smt_shm_tx_run_max(struct smt_dev *dev, const struct smt_addr *to);
void smt_shm_tx_unreserve(struct smt_dev *dev);
int smt_shm_tx_flush(struct smt_dev *dev);
int smt_shm_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);
unsigned smt_shm_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n);

/* True when a ring has something to hand out. */
bool smt_shm_rx_pending(struct smt_shm *d);

/* Wraps `inner` (which it then owns): `shm` around any device that carries UDP. */
SMT_MUST_CHECK int smt_shm_wrap(const struct smt_dev_config *config, struct smt_dev *inner,
                                struct smt_dev **out);

#endif
