/* A NIC that seals, for hosts of the simulated network: contexts, limits, and everything that may
 * go wrong with them. */
#ifndef SMT_TESTS_SIM_NIC_H
#define SMT_TESTS_SIM_NIC_H

#include "simnet.h"

enum { SIM_NIC_MAX_CTXS = 64 };

struct sim_nic {
    struct smt_sealer sealer; /* for the config of its host's engine */
    struct sim_host *host;
    unsigned max_ctxs;  /* more than these push the oldest out; 0: none is ever free */
    bool is_unsupported;
    bool is_wrong;      /* what it seals nobody can open */
    bool is_blind;      /* it seals nothing: what it is given leaves as it is */
    uint32_t lose;      /* parts of 10,000: its contexts are gone at a record */
    uint64_t n_opened, n_closed, n_sealed, n_lost;
    uint64_t next;
    struct {
        uint64_t id, since; /* id 0: free */
        void *ctx;
        uint8_t salt[4];
    } ctxs[SIM_NIC_MAX_CTXS];
};

/* A NIC for `host`, whose engine is not there yet; seals by the network's cipher. */
void sim_nic_init(struct sim_nic *nic, struct sim_host *host);

/* All contexts are gone, as after an error of its queue. */
void sim_nic_reset(struct sim_nic *nic);

/* How many contexts the engine holds. */
unsigned sim_nic_n_open(const struct sim_nic *nic);
void sim_nic_fini(struct sim_nic *nic);

/* Of simnet.c: place for a record in the host's send queue, sealed by `seal` as it leaves. */
int sim_nic_reserve(struct sim_host *host, uint64_t ctx, const struct smt_seal_record *record,
                    uint8_t **out);
void sim_nic_seal(struct sim_nic *nic, uint64_t ctx, uint64_t record_no, uint8_t *record,
                  size_t record_len);

#endif
