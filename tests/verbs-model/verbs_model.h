/* A software RDMA provider for tests: it defines the entry points of libibverbs in the test program
 * itself, where they win over the shared library, and carries UD packets between the queue pairs of
 * the process.
 *
 * It is stricter than hardware. Wrong use ends the test with one line on stderr,
 * "verbs-model: <call>: <field>: <why>", and abort: wrong attribute masks and transitions, memory
 * that is not registered, SGEs beyond their region, queues overrun, buffers written before their
 * completion (read, too, under ASan), address handles destroyed while in use, anything destroyed in
 * the wrong order, twice or never.
 *
 * A program that never calls verbs_model_reset gets its knobs from the environment:
 * SMT_VERBS_MODEL="mlx5,mtu=1024,loss=5,seed=7", of the words mlx5, ib, post, no-ops, lax, mtu=N,
 * inline=N, loss=N, dup=N, late=N, ce=N, cq-error=N, qp-error=N, seed=N.
 *
 * Any thread may call verbs. Knobs are set while no other thread does. */
#ifndef SMT_TESTS_VERBS_MODEL_VERBS_MODEL_H
#define SMT_TESTS_VERBS_MODEL_VERBS_MODEL_H

#include <infiniband/verbs.h>

#include "base/defs.h"

enum {
    VERBS_MODEL_DEVICES = 4,
    VERBS_MODEL_GIDS = 16,
    VERBS_MODEL_MAX_PAYLOAD = 4096,
    VERBS_MODEL_MAX_SGE = 4,
    VERBS_MODEL_POISON = 0xd7, /* in posted receive buffers, and where a header leaves bytes open */
};

enum verbs_model_qp_ex {
    VERBS_MODEL_QP_EX,           /* ibv_create_qp_ex with send_ops_flags */
    VERBS_MODEL_QP_EX_NO_WR_OPS, /* refuses send_ops_flags */
    VERBS_MODEL_QP_EX_NONE,      /* no such call */
};

/* What a device is; change it after verbs_model_reset and before it is opened, `port_state`,
 * `active_mtu` and `gids` at any time. */
struct verbs_model_device {
    const char *name, *ibdev_path; /* "" = /sys/class/infiniband/<name> */
    bool is_mlx5, is_ib;
    enum verbs_model_qp_ex qp_ex;
    bool reset_keeps_cqes; /* completions of a QP outlive its reset and its end, as on rxe */
    uint16_t lid;          /* InfiniBand */
    enum ibv_port_state port_state;
    enum ibv_mtu max_mtu, active_mtu;
    struct ibv_gid_entry gids[VERBS_MODEL_GIDS]; /* all zero GID: no entry */
    uint32_t max_inline, max_sge, max_qp_wr, max_cqe;
};

/* One packet on the wire. */
struct verbs_model_packet {
    const struct verbs_model_device *from, *to;
    bool has_grh, has_imm, solicited;
    uint8_t traffic_class, hop_limit, sl;
    uint32_t flow_label;
    union ibv_gid sgid, dgid;
    uint16_t slid, dlid;
    uint32_t src_qpn, dst_qpn, qkey;
    __be32 imm;
    uint32_t len;
    uint8_t data[VERBS_MODEL_MAX_PAYLOAD];
};

/* Calls that can be made to fail. */
enum verbs_model_call {
    VERBS_MODEL_GET_DEVICE_LIST,
    VERBS_MODEL_OPEN_DEVICE,
    VERBS_MODEL_QUERY_DEVICE,
    VERBS_MODEL_QUERY_PORT,
    VERBS_MODEL_QUERY_GIDS,
    VERBS_MODEL_ALLOC_PD,
    VERBS_MODEL_REG_MR,
    VERBS_MODEL_CREATE_CHANNEL,
    VERBS_MODEL_CREATE_CQ,
    VERBS_MODEL_CREATE_QP,
    VERBS_MODEL_MODIFY_QP,
    VERBS_MODEL_CREATE_AH,
    VERBS_MODEL_REQ_NOTIFY,
    VERBS_MODEL_POST_RECV,
    VERBS_MODEL_POST_SEND, /* wr_complete, too */
    VERBS_MODEL_N_CALLS,
};

/* The calls after the first `skip` fail with `error`, `times` of them. */
struct verbs_model_failure {
    unsigned skip, times;
    int error;
};

struct verbs_model_knobs {
    unsigned n_devices;
    struct verbs_model_device devices[VERBS_MODEL_DEVICES];
    struct verbs_model_failure fail[VERBS_MODEL_N_CALLS];
    unsigned fail_nth;       /* the n-th call from now of those above fails with ENOMEM; 0 = none */
    size_t memlock;          /* bytes that can be registered; 0 = all */
    unsigned create_ah_usec; /* how long ibv_create_ah blocks */
    bool is_stalled;         /* sends stay in their queues until verbs_model_run or this is false */
    /* The next send_errors sends complete with send_status, then their QP is in SQE. */
    unsigned send_errors;
    enum ibv_wc_status send_status;
    /* When so many completions have been taken: the CQ in question is in error, dead or with what
     * lies in it lost in turn; the queue pair in question, with IBV_EVENT_QP_FATAL. Then again
     * after twice as many, and so on; 0: never. */
    uint64_t cq_error_at, qp_error_at;
    /* Percent of packets; see verbs_model_seed. A packet that is late is overtaken by up to eight,
     * and comes at the latest when CQs are found empty several times or one is armed (just before).
     */
    unsigned loss, duplicates, late, ce;
    /* Sees every packet and may change it; false drops it. */
    bool (*filter)(void *arg, struct verbs_model_packet *packet);
    void *filter_arg;
    /* Instruction counts: no look at buffers, which are then neither filled nor summed. */
    bool is_lax;
};

struct verbs_model_counts {
    /* doorbells: calls of post_send and wr_complete that posted something */
    uint64_t doorbells, sends, inline_sends, signalled, send_bytes;
    uint64_t recv_posts, recvs, polls, empty_polls, completions, notifies, cq_events, cq_acks;
    uint64_t delivered, delivered_bytes, lost, duplicated, filtered, injected;
    /* dropped because: no such port, no such QP, Q_Key, QP not ready, no receive posted, MTU */
    uint64_t no_port, bad_qpn, bad_qkey, not_ready, no_recv, too_big;
    uint64_t send_errors, flushed, ahs_created, ahs_destroyed, mrs, mr_bytes, qps, async_events;
    uint64_t cq_errors, qp_errors;
};

extern struct verbs_model_knobs verbs_model;
extern struct verbs_model_counts verbs_model_counts;

/* Back to one RoCE device "model0" on lo with GIDs of fe80::1, 127.0.0.1 and ::1 as RoCE v1 and v2,
 * all knobs off and counts zero. Everything opened must be closed. */
void verbs_model_reset(void);

/* Of loss, duplicates and lateness; a run with one seed is always the same. */
void verbs_model_seed(uint64_t seed);

/* Fills a GID table entry of a device: `text` an IPv4 or IPv6 address. */
void verbs_model_set_gid(unsigned device, unsigned index, const char *text, enum ibv_gid_type type,
                         const char *netdev);

/* Objects that are still there, all contexts together. The model itself looks at exit. */
unsigned verbs_model_n_live(void);

/* Carries out up to n of the sends that wait in stalled queues; returns how many it did. */
unsigned verbs_model_run(unsigned n);

/* An asynchronous event in every open context of the device. Of a port: its number is 1. */
void verbs_model_device_event(unsigned device, enum ibv_event_type type);

/* Of every queue pair of the device: into ERR, everything posted flushed, and if `type` is not -1
 * the event. Returns how many there were. */
unsigned verbs_model_qp_error(unsigned device, int type);

/* Every CQ of the device: in error, with IBV_EVENT_CQ_ERR. Polling answers -1 from now on. */
unsigned verbs_model_cq_error(unsigned device);

/* The i-th live CQ of a device, the youngest first: what lies in it is lost, with IBV_EVENT_CQ_ERR.
 * Polling goes on, as on rxe. Returns how many there were, 0 or 1. */
unsigned verbs_model_cq_overrun(unsigned device, unsigned i);

/* Pulled out: IBV_EVENT_DEVICE_FATAL, and what is not a destruction fails with EIO. */
void verbs_model_remove(unsigned device);

/* Its node in sysfs (dev_path) is gone and nothing else happens, as when an rxe is deleted; until
 * devices are listed again. */
void verbs_model_remove_node(unsigned device);

/* The port goes down (packets are lost) or comes up again, with the event. */
void verbs_model_set_port(unsigned device, bool is_up);

/* A packet made by hand, as if it came from the wire; only `to` and the rest as it stands. True
 * when a queue pair has got it. */
bool verbs_model_inject(const struct verbs_model_packet *packet);

/* The i-th live queue pair of a device: its number and Q_Key; false when there is none. */
bool verbs_model_qp(unsigned device, unsigned i, uint32_t *qpn, uint32_t *qkey);

#endif
