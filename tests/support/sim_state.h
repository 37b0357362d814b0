/* What simnet.c and sim_hs.c know of a host and tests do not. */
#ifndef SMT_TESTS_SIM_STATE_H
#define SMT_TESTS_SIM_STATE_H

#include "simnet.h"

struct sim_conn;

struct sim_burst {
    unsigned to;
    uint8_t prio;
    unsigned n; /* of a run: packets of slice_len bytes, the last of last_len, each stride apart */
    size_t stride, last_len;
    size_t hdr_len, record_len, slice_len;
    uint64_t ctx; /* the NIC's, which seals it; 0: it is sealed */
    uint64_t record_no;
    uint8_t bytes[SIM_MAX_BURST];
};

struct sim_host_state {
    struct smt_prng random; /* what the engine gets as unpredictable bytes */
    uint64_t cookie_key;
    uint64_t wake;               /* when the engine must run next */
    uint64_t tx_free, tx_before; /* when the send queue is empty; the same before the last packet */
    uint64_t down_free;
    struct sim_packet *pending; /* reserved, being filled */
    struct sim_burst burst;     /* the same for a record in slices; record_len 0: none */
    unsigned n_committed;
    unsigned life;
    uint32_t mtu_said; /* the largest packet the device ever said it takes */
    bool tx_full, dirty;
    struct sim_conn *conns;
};

/* Takes an event: the handshake's own are used up, the others go to the host's on_event. */
void sim_hs_event(struct sim_host *h, const struct smt_engine_event *ev);

/* The engine is gone: frees the records of its conns. */
void sim_hs_forget(struct sim_host *h);

#endif
