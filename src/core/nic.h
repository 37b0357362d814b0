/* Who seals a conn's records: the CPU, or a NIC that has shown that the peer can open what it seals
 * (docs/security.md). */
#ifndef SMT_CORE_NIC_H
#define SMT_CORE_NIC_H

#include "base/defs.h"

struct smt_conn;
struct smt_rpc;

/* IDLE: no context. TESTING: it has one, a test record is under way. ON: records may use it.
 * DENIED: never again on this conn. */
enum smt_nic_state { SMT_NIC_IDLE, SMT_NIC_TESTING, SMT_NIC_ON, SMT_NIC_DENIED, SMT_NIC_N_STATES };

struct smt_nic {
    enum smt_nic_state state;
    uint8_t n_tests;    /* sent without answer */
    uint8_t n_doubts;   /* messages asked for again since one was not */
    uint32_t epoch;     /* of the context's key */
    uint64_t ctx;       /* TESTING, ON: the sealer's */
    uint64_t retry_at;  /* IDLE: not before */
    uint64_t test_id;   /* TESTING: the rpc that is the test */
};

/* May a record of the conn be sealed by the NIC now? Begins what is missing for that. */
bool smt_nic_is_ready(struct smt_conn *c, uint64_t now);

/* The context may seal a test record now: its key is still the one in use. */
bool smt_nic_may_test(struct smt_conn *c);

/* The sealer says that the context is gone. */
void smt_nic_lost(struct smt_conn *c, uint64_t now);

/* The peer could not open what was sealed: the CPU does it from now on. */
void smt_nic_refused(struct smt_conn *c);

/* A message that the NIC sealed was asked for again; too often, and it is tested anew. Or one was
 * not, and is over. */
void smt_nic_doubt(struct smt_rpc *r);
void smt_nic_worked(struct smt_rpc *r);

/* The test was opened by the peer, or failed for good; never seen by him: true to send it again. */
void smt_nic_test_passed(struct smt_rpc *r);
void smt_nic_test_failed(struct smt_rpc *r);
bool smt_nic_test_again(struct smt_rpc *r);

/* Why the CPU seals, in one phrase; NULL: the NIC does. */
const char *smt_nic_why_not(const struct smt_conn *c);

/* The CPU sealed the next record of a message, on a conn that may use a NIC: counts why, as
 * nic_not_again (some of the message was lost), nic_not_worth (it is too short) or nic_not_ready
 * (no context has passed its test). One that fits none of them should have been the NIC's. */
void smt_nic_note_cpu(const struct smt_rpc *r);

/* The conn ends. */
void smt_nic_fini(struct smt_conn *c);

#endif
