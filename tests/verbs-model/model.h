/* What the files of the model share. One lock, taken by whoever comes in through an entry point. */
#ifndef SMT_TESTS_VERBS_MODEL_MODEL_H
#define SMT_TESTS_VERBS_MODEL_MODEL_H

#include "verbs_model.h"

enum { VM_MAX_MRS = 1024, VM_MAX_QPS = 1024, VM_MAX_ASYNC = 64, VM_MAX_CQ_EVENTS = 256 };

/* First word after the public part of each object. Objects are never given back to malloc, so that
 * a dead one is known by its kind. */
enum vm_kind {
    VM_CONTEXT = 0x766d0001,
    VM_PD,
    VM_MR,
    VM_CHANNEL,
    VM_CQ,
    VM_QP,
    VM_AH,
    VM_DEAD = 0x766ddead,
};

struct vm_object {
    uint32_t kind;
    struct vm_object *next; /* all that ever lived */
};

struct vm_device {
    struct ibv_device ibv;
    unsigned index, n_listed, n_open;
    bool is_removed;
};

struct vm_ctx {
    struct verbs_context verbs; /* ends with ibv_context */
    struct vm_object object;
    struct vm_device *dev;
    unsigned n_pds, n_channels, n_cqs;
    struct ibv_async_event events[VM_MAX_ASYNC];
    unsigned n_events, first_event, n_unacked;
};

struct vm_pd {
    struct ibv_pd ibv;
    struct vm_object object;
    unsigned n_mrs, n_qps, n_ahs;
};

struct vm_mr {
    struct ibv_mr ibv;
    struct vm_object object;
    int access;
    unsigned n_used; /* by posted work */
};

struct vm_channel {
    struct ibv_comp_channel ibv;
    struct vm_object object;
    struct vm_cq *events[VM_MAX_CQ_EVENTS];
    unsigned n_events, first_event, n_cqs;
};

struct vm_cqe {
    struct ibv_wc wc;
    struct vm_qp *qp;
    uint64_t generation, index; /* of its QP, of the WR in its queue */
    bool is_send;
};

struct vm_cq {
    struct ibv_cq ibv;
    struct vm_object object;
    struct vm_cqe *ring;
    unsigned n, first;
    unsigned n_owed;  /* work posted whose completion may come here */
    unsigned n_stale; /* completions here of a queue pair's life before a reset */
    unsigned n_qps, n_got, n_acked, n_unacked; /* the last: asynchronous events */
    bool is_armed, solicited_only, is_failed;
};

struct vm_ah {
    struct ibv_ah ibv;
    struct vm_object object;
    struct ibv_ah_attr attr;
    unsigned n_used;
};

struct vm_sge {
    uint8_t *addr;
    uint32_t len;
    struct vm_mr *mr;
};

struct vm_send {
    uint64_t wr_id;
    struct vm_ah *ah;
    uint32_t qpn, qkey, len;
    __be32 imm;
    enum ibv_wr_opcode opcode;
    unsigned flags;
    bool has_data;
    unsigned n_sge;
    struct vm_sge sge[VERBS_MODEL_MAX_SGE];
    uint8_t *inline_data;
    uint64_t sum;
};

struct vm_recv {
    uint64_t wr_id;
    unsigned n_sge;
    struct vm_sge sge[VERBS_MODEL_MAX_SGE];
    uint32_t len;
    bool is_filled; /* with poison */
};

/* Counts of work only grow; a ring slot is count % size. */
struct vm_qp {
    struct ibv_qp_ex ex;
    struct vm_object object;
    struct vm_cq *send_cq, *recv_cq;
    struct ibv_qp_cap cap;
    enum ibv_qp_type type;
    bool sq_sig_all, has_wr_ops;
    uint64_t send_ops, generation;
    struct vm_send *sq;
    struct vm_recv *rq;
    uint8_t *inline_area;
    uint64_t sq_posted, sq_done, sq_retired, rq_posted, rq_done, rq_retired;
    /* between wr_start and wr_complete: how many are staged behind sq_posted */
    bool is_building;
    unsigned n_staged, n_unacked;
    uint32_t qkey, max_payload;
};

#define VM_QPN_SLOT(qpn) ((qpn) % VM_MAX_QPS)

extern struct vm_device vm_devices[VERBS_MODEL_DEVICES];
extern struct vm_qp *vm_qps[VM_MAX_QPS];
extern struct vm_mr *vm_mrs[VM_MAX_MRS];

/* Before anything is listed: the environment's knobs, if the program has set none. */
void vm_begin(void);

void vm_lock(void);
void vm_unlock(void);

/* Ends the test. */
void vm_abort(const char *call, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* Aborts when the object is not of that kind or is dead. */
void vm_expect(const char *call, const char *field, const struct vm_object *object,
               enum vm_kind kind);

/* Memory for an object of `size` with its vm_object at `offset`; never fails. */
void *vm_object_new(size_t size, size_t offset, enum vm_kind kind);
void vm_object_kill(struct vm_object *object);

/* Walks the live objects of a kind; NULL starts. */
struct vm_object *vm_object_next(enum vm_kind kind, struct vm_object *after);

/* Does this call fail now? Sets errno and returns it; 0 = no. `dev` may be NULL. */
int vm_fails(enum verbs_model_call call, const struct vm_device *dev);

struct verbs_model_device *vm_knobs_of(const struct vm_device *dev);
unsigned vm_percent(unsigned percent); /* true that often */
uint64_t vm_random(void);

/* Only the name is checked of contexts: the library hands them round. */
struct vm_ctx *vm_ctx_of(const char *call, struct ibv_context *ctx);
struct vm_pd *vm_pd_of(const char *call, struct ibv_pd *pd);
struct vm_cq *vm_cq_of(const char *call, const char *field, struct ibv_cq *cq);
struct vm_qp *vm_qp_of(const char *call, struct ibv_qp *qp);
struct vm_ah *vm_ah_of(const char *call, const char *field, struct ibv_ah *ah);

void vm_async_push(struct vm_ctx *ctx, struct ibv_async_event event);

/* Events of an object that nobody has read go with it. */
void vm_async_forget(struct vm_ctx *ctx, const void *element);

/* Finds and checks the region of an SGE and holds it. */
struct vm_sge vm_sge_take(const char *call, struct vm_qp *qp, const struct ibv_sge *sge,
                          bool is_written);
void vm_sge_give(struct vm_sge *sge);
uint64_t vm_sge_sum(const struct vm_sge *sge, unsigned n);

/* Bytes of a posted receive: filled, guarded, looked at. */
void vm_recv_guard(struct vm_recv *recv);
void vm_recv_check(const struct vm_qp *qp, const struct vm_recv *recv);
void vm_recv_write(struct vm_recv *recv, uint32_t offset, const void *data, uint32_t len);
void vm_recv_release(struct vm_recv *recv);

void vm_cqe_add(const char *call, struct vm_cq *cq, const struct vm_cqe *cqe, bool solicited);
void vm_cq_forget(struct vm_cq *cq, const struct vm_qp *qp);

/* What lies there of this queue pair is of a former life from now on. */
void vm_cq_outdate(struct vm_cq *cq, const struct vm_qp *qp);

/* Aborts when there is no room for one more completion than may come already. */
void vm_cq_room(const char *call, const char *field, const struct vm_cq *cq, unsigned n_staged);

/* Work leaves its ring because its completion was polled, or its QP reset. */
void vm_send_retire(struct vm_qp *qp, uint64_t index);
void vm_recv_retire(struct vm_qp *qp, uint64_t index);
void vm_recv_complete(struct vm_qp *qp, const struct ibv_wc *wc, bool solicited);

/* Carries out posted sends, at most n; how many. */
unsigned vm_sends_run(struct vm_qp *qp, unsigned n);
void vm_recvs_flush(struct vm_qp *qp);
void vm_qp_clear(struct vm_qp *qp);

/* Into ERR, with the event unless it is -1. */
void vm_qp_fail(struct vm_qp *qp, int type);
void vm_wr_ops_init(struct vm_qp *qp);

int vm_op_post_send(struct ibv_qp *ibqp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int vm_op_post_recv(struct ibv_qp *ibqp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int vm_op_poll_cq(struct ibv_cq *ibcq, int n, struct ibv_wc *wc);
int vm_op_req_notify_cq(struct ibv_cq *ibcq, int solicited_only);
struct ibv_qp *vm_op_create_qp_ex(struct ibv_context *ctx, struct ibv_qp_init_attr_ex *attr);

/* Puts one packet on the wire; what is late leaves with vm_wire_flush or some vm_wire_idle. */
void vm_wire_send(struct verbs_model_packet *packet);
bool vm_wire_deliver(const struct verbs_model_packet *packet);
void vm_wire_flush(void);
void vm_wire_idle(void);
void vm_wire_reset(void);

#endif
