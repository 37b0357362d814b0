/* One message as a flow of the policy `dctcp`: which of its packets are under way, lost or
 * acknowledged, and how much may be under way. host_dctcp.c sends and receives. */
#ifndef SMT_SIM_DCTCP_FLOW_H
#define SMT_SIM_DCTCP_FLOW_H

#include "base/heap.h"
#include "base/list.h"
#include "sim/net.h"

/* What all flows of a run have in common. */
struct dctcp_config {
    bool reno;        /* answers losses only, as plain TCP does */
    uint32_t window;  /* first window, packets */
    uint64_t min_rto; /* ps */
};

/* One sending of one packet. */
struct dctcp_sent {
    uint64_t at;
    uint32_t index; /* of the packet in its message */
    bool open;      /* neither acknowledged nor given up */
};

/* Which packets of a message something has happened to. */
struct dctcp_set {
    uint64_t inline_bits, *bits;
    uint32_t n_bits, n_set;
};

enum { DCTCP_FIRST_RING = 16 };

struct dctcp_flow {
    void *host;                 /* its sender */
    struct smt_list link;       /* round of flows with something to send */
    struct smt_list live;       /* all flows of the run */
    struct smt_heap_node timer; /* key: not later than `deadline` */
    struct smt_net_msg *m;
    uint32_t first_len, part_len, n_packets;
    uint32_t next; /* first packet never sent */
    struct dctcp_set acked;
    struct dctcp_sent *ring; /* sendings base .. base + n - 1, by number */
    struct dctcp_sent first_ring[DCTCP_FIRST_RING];
    uint32_t base, n, mask;
    uint32_t *lost; /* packets to send again, a stack */
    uint32_t n_lost, lost_cap;
    uint32_t n_open;
    double cwnd, ssthresh, alpha;      /* packets */
    uint32_t window_end, recovery_end; /* numbers of sendings */
    uint32_t window_acked, window_marked;
    uint64_t srtt, rttvar, deadline;
    unsigned backoff;
};

/* True when the packet was not in the set. */
bool smt_dctcp_set_add(struct dctcp_set *s, uint32_t index);
bool smt_dctcp_set_has(const struct dctcp_set *s, uint32_t index);
void smt_dctcp_set_init(struct dctcp_set *s, uint32_t n_bits);
void smt_dctcp_set_fini(struct dctcp_set *s);

void smt_dctcp_flow_init(struct dctcp_flow *f, const struct dctcp_config *config,
                         const struct smt_net_headers *hdr, struct smt_net_msg *m);
void smt_dctcp_flow_fini(struct dctcp_flow *f);

/* Where a packet lies in its message. */
uint32_t smt_dctcp_flow_offset(const struct dctcp_flow *f, uint32_t index);
uint32_t smt_dctcp_flow_len(const struct dctcp_flow *f, uint32_t index);

/* Something waits and the window has room. */
bool smt_dctcp_flow_may_send(struct dctcp_flow *f);

/* The packet to send now, when smt_dctcp_flow_may_send says so, and the number of this sending. */
uint32_t smt_dctcp_flow_send(struct dctcp_flow *f, const struct dctcp_config *config, uint64_t now,
                             uint32_t *number);

/* Sending `number`, of packet `index`, has come, marked or not. */
void smt_dctcp_flow_acked(struct dctcp_flow *f, const struct dctcp_config *config, uint64_t now,
                          uint32_t number, uint32_t index, bool marked);

static inline bool smt_dctcp_flow_is_done(const struct dctcp_flow *f)
{
    return f->acked.n_set == f->n_packets;
}

/* The deadline has passed: all that is under way counts as lost. */
void smt_dctcp_flow_timeout(struct dctcp_flow *f, const struct dctcp_config *config, uint64_t now);

#endif
