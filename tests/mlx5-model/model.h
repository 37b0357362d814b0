/* What the files of the device model share.
 *
 * One lock, taken by whoever comes in through an entry point (mm_enter, mm_leave). There is no
 * thread: frames, timers and injections are looked at by mm_pump, which polling, posting and
 * waiting for events call. Verbs objects are never given back to malloc, so that a dead one is
 * known. */
#ifndef MLX5_MODEL_MODEL_H
#define MLX5_MODEL_MODEL_H

/* Only the entry points are seen from outside: everything else is built hidden. */
#pragma GCC visibility push(default)
#include <infiniband/mlx5dv.h>
#include <infiniband/verbs.h>
#pragma GCC visibility pop

#include "complain.h"
#include "config.h"
#include "fields.h"
#include "stats.h"

enum {
    MM_MAX_QPS = 512,
    MM_MAX_ASYNC = 64,
    MM_MAX_CQ_EVENTS = 4096,
    MM_MAX_GIDS = 16,
    MM_MAX_FLOWS = 256,
    MM_FRAME_LEN = 10240,
    MM_WQE_LEN = 1024,
    MM_MAX_LSO = 1 << 18,
    MM_MAX_PATH = 240,
};

#define MM_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Sealed into every object; a dead one says MM_DEAD. */
enum mm_kind {
    MM_CONTEXT = 0x35786d01,
    MM_PD,
    MM_MR,
    MM_CHANNEL,
    MM_CQ,
    MM_QP,
    MM_FLOW,
    MM_MATCHER,
    MM_DEVX,
    MM_DEAD
};

struct mm_port; /* net.c: a place on the wire */
struct mm_qp;

struct mm_dev {
    struct ibv_device ibv;
    unsigned index, n_open;
    char netdev[16];
    int ifindex;
    uint8_t mac[6];
    uint32_t mtu;
    bool is_ready, is_up, is_gone;
    struct ibv_gid_entry gids[MM_MAX_GIDS];
    unsigned n_gids;
    struct mm_port *port;
    int bell_fd, timer_fd, control_fd;
    uint64_t timer_at, n_pumps;
    bool in_pump;
};

struct mm_ctx {
    struct verbs_context verbs;
    uint32_t kind;
    struct mm_dev *dev;
    bool has_devx;
    unsigned n_pds, n_cqs, n_channels, n_devx;
    struct ibv_async_event events[MM_MAX_ASYNC];
    unsigned first_event, n_events, n_unacked;
    struct mm_ctx *next;
};

struct mm_pd {
    struct ibv_pd ibv;
    uint32_t kind, pdn;
    unsigned n_users;
};

struct mm_mr {
    struct ibv_mr ibv;
    uint32_t kind;
    int access;
    struct mm_mr *next;
};

struct mm_channel {
    struct ibv_comp_channel ibv; /* its fd is an epoll set of event_fd and the device's */
    uint32_t kind;
    int event_fd;
    struct mm_cq *events[MM_MAX_CQ_EVENTS];
    unsigned first_event, n_events, n_cqs;
};

struct mm_cqe {
    struct ibv_wc wc;
    uint64_t due;
    struct mm_qp *qp;
    uint32_t life;  /* of the queue pair, a reset begins another */
    uint32_t n_wrs; /* what of the send queue is free after it */
    uint32_t n_bbs;
};

struct mm_cq {
    struct ibv_cq_ex ibv;
    uint32_t kind, cqn;
    struct mm_channel *channel;
    struct mm_cqe *ring;
    unsigned first, n, size;
    bool is_armed;
    unsigned n_unacked, n_users;
    struct mm_cq *next;
};

/* A work queue element as it was posted. */
struct mm_posted {
    uint8_t bytes[MM_WQE_LEN];
    uint64_t wr_id, due, digest;
    uint32_t n_bbs;
    enum ibv_wc_opcode opcode; /* what a completion calls it */
};

struct mm_recv {
    uint64_t wr_id;
    struct ibv_sge sge[4];
    unsigned n_sge;
};

struct mm_qp {
    struct ibv_qp_ex ex;
    struct mlx5dv_qp_ex dv;
    uint32_t kind, life, sqn, tisn;
    struct mm_dev *dev;
    struct mm_pd *pd;
    struct mm_cq *send_cq, *recv_cq;
    struct ibv_qp_cap cap;
    uint16_t max_tso_header;
    bool has_raw_wqe, sig_all, sq_failed;
    uint64_t send_ops;
    enum ibv_qp_state state;
    /* Send queue: how much there is, how much is taken, what is not yet known to be free. */
    uint32_t wqe_size, ring_bbs, max_post;
    uint32_t used_bbs, used_wrs, quiet_bbs, quiet_wrs;
    uint16_t producer;
    struct mm_posted *posted; /* a ring of max_post: batch being built, and waiting ones */
    unsigned first_posted, n_posted, n_batch;
    bool in_batch;
    int batch_error;
    struct mm_recv *recvs;
    unsigned first_recv, n_recvs;
    unsigned n_flows, n_unacked;
};

/* entry.c */
void mm_enter(void);
void mm_leave(void);
uint64_t mm_now(void);
uint64_t mm_random(void);
bool mm_hit(mm_chance chance);
/* Keeps what is dead, so that whoever still uses it is found out. */
void mm_bury(void *object);

/* device.c */
extern struct mm_dev mm_devs[MM_MAX_DEVICES];
extern struct mm_ctx *mm_contexts;
struct mm_ctx *mm_ctx_of(const char *call, struct ibv_context *ctx);
void mm_async_push(struct mm_dev *dev, struct ibv_async_event event);
void mm_async_forget(struct mm_qp *qp);

/* identity.c: the netdev's address, MTU and GIDs, and the device's directory in a made-up sysfs. */
void mm_identity_fill(struct mm_dev *dev);

/* memory.c */
struct mm_pd *mm_pd_of(const char *call, struct ibv_pd *pd);
struct mm_pd *mm_pd_by_number(uint32_t pdn);
/* The bytes of [addr, addr + len) by this key, or NULL after a complaint. */
void *mm_mr_bytes(struct mm_pd *pd, uint32_t lkey, uint64_t addr, uint64_t len, int access);

/* cq.c */
struct mm_cq *mm_cq_of(const char *call, struct ibv_cq *cq);
void mm_cq_push(struct mm_cq *cq, const struct mm_cqe *cqe);
/* Completions whose time has come make events; returns when the next one is due, or UINT64_MAX. */
uint64_t mm_cq_run(struct mm_dev *dev, uint64_t now);
int mm_op_poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc);
int mm_op_req_notify_cq(struct ibv_cq *cq, int solicited_only);
/* Forgets all completions of a queue pair. */
void mm_cq_clean(struct mm_cq *cq, struct mm_qp *qp);

/* qp.c */
extern struct mm_qp *mm_qps[MM_MAX_QPS];
struct mm_qp *mm_qp_of(const char *call, struct ibv_qp *qp);

/* post.c */
void mm_post_ops(struct mm_qp *qp);
int mm_op_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int mm_op_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);

/* sq.c */
/* Place for one more WQE of the batch, or NULL after a complaint. */
struct mm_posted *mm_sq_place(struct mm_qp *qp);
int mm_sq_doorbell(struct mm_qp *qp);
/* Executes what is due; returns when the next one is, or UINT64_MAX. */
uint64_t mm_sq_run(struct mm_qp *qp, uint64_t now);
void mm_sq_fail(struct mm_qp *qp, enum ibv_wc_status status, uint32_t vendor_err);
void mm_sq_flush(struct mm_qp *qp);
void mm_rq_flush(struct mm_qp *qp);

/* wqe.c: executes one. IBV_WC_SUCCESS, or what its error CQE says. */
enum ibv_wc_status mm_wqe_execute(struct mm_qp *qp, const uint8_t *wqe, uint32_t *vendor_err);
/* A digest of the memory that it names, to see whether that changes before it is sent. */
uint64_t mm_wqe_digest(struct mm_qp *qp, const uint8_t *wqe);

/* packet.c */
struct mm_packet {
    uint8_t *header;
    uint32_t header_len;
    uint8_t *payload;
    uint32_t payload_len;
    uint32_t mss; /* 0: one packet as it is */
    uint8_t cs_flags;
};
bool mm_packet_send(struct mm_dev *dev, const struct mm_packet *p);
uint32_t mm_sum(uint32_t sum, const void *bytes, size_t len);
uint16_t mm_fold(uint32_t sum);

/* net.c */
int mm_fifo_open(const char *path);
void mm_net_open(struct mm_dev *dev);
void mm_net_close(struct mm_dev *dev);
void mm_net_send(struct mm_dev *dev, const uint8_t *frame, uint32_t len);
/* The frame that is next, *len 0 when there is none; stays until mm_net_drop. */
const uint8_t *mm_net_peek(struct mm_dev *dev, uint32_t *len);
void mm_net_drop(struct mm_dev *dev);
uint64_t mm_net_run(struct mm_dev *dev, uint64_t now);

/* record.c: every frame that is sent, into the capture and past the scanner. */
void mm_record_frame(const uint8_t *frame, uint32_t len);

/* steer.c */
struct ibv_flow *mm_op_create_flow(struct ibv_qp *qp, struct ibv_flow_attr *attr);
int mm_op_destroy_flow(struct ibv_flow *flow);
/* Gives a frame to the queue pair that its rule names; false: it has no buffer, keep the frame. */
bool mm_steer_frame(struct mm_dev *dev, const uint8_t *frame, uint32_t len);

/* inject.c */
void mm_inject_open(struct mm_dev *dev);
void mm_inject_read(struct mm_dev *dev);
/* What befalls the WQE that is executed now. */
enum mm_injection mm_inject_draw(void);
void mm_inject_now(struct mm_dev *dev, enum mm_injection what, struct mm_qp *qp);

/* pump.c */
void mm_pump(struct mm_dev *dev);
void mm_timer_set(struct mm_dev *dev, uint64_t at);

#endif
