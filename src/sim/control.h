/* What the two halves of the control policy share: host_control.c sends, control_grants.c
 * receives and grants. */
#ifndef SMT_SIM_CONTROL_H
#define SMT_SIM_CONTROL_H

#include "base/heap.h"
#include "base/pool.h"
#include "sim/control_cutoffs.h"
#include "sim/net.h"

enum { CONTROL_WINDOW = SMT_CONTROL_WINDOW };

/* Types of its packets. */
enum { CONTROL_DATA, CONTROL_GRANT };

/* A message as its receiver sees it. */
struct control_rx {
    struct smt_heap_node node; /* in its peer's heap, by bytes to grant, while there are any */
    struct smt_net_msg *m;
    uint32_t received, granted;
    uint32_t in_flight; /* bytes on the wire, sent without grant or granted, that have not come */
};

/* A sender as a receiver sees it. */
struct control_peer {
    struct control_host *host; /* the receiver */
    uint16_t number;           /* of the sender */
    bool in_order;
    uint8_t last_slot; /* of its last grant */
    uint64_t key, tie; /* of its best message */
    uint64_t timer_at; /* when it may be granted again */
    struct smt_heap msgs;
};

struct control_queue {
    struct smt_net_pkt *first, *last;
};

struct control_host {
    struct control *all;
    struct smt_net_host *h;
    /* sending */
    struct smt_heap ready; /* messages with a packet that may go */
    struct control_queue grants;
    /* receiving */
    struct control_peer *peers;  /* one a host of the network */
    struct control_peer **order; /* those with bytes to grant, best message first */
    unsigned n_order;
    unsigned head; /* slot of order[0]; the others follow it */
    bool changed;  /* the order or the slots, since grants were last given */
};

struct control {
    struct smt_net *net;
    const struct smt_net_headers *hdr;
    uint32_t unsched;
    uint32_t cutoffs[SMT_CONTROL_MAX];
    unsigned n_levels, n_unsched, n_sched, overcommit;
    bool fifo;
    struct smt_pool txs, rxs;
    struct control_host *hosts;
    uint64_t n_data, n_grants;
};

/* The level of the network for the i-th best priority. */
static inline unsigned control_level(const struct control *all, unsigned i)
{
    return i < all->n_levels ? all->n_levels - 1 - i : 0;
}

/* The priority, 0 best, of an unscheduled packet of a message with so many bytes left. */
static inline unsigned control_unsched_prio(const struct control *all, uint32_t left)
{
    unsigned i = 0;
    while (i + 1 < all->n_unsched && left > all->cutoffs[i])
        i++;
    return i;
}

/* A data packet has come; frees nothing of it. */
void smt_control_data_came(struct control_host *c, const struct smt_net_pkt *p);

#endif
