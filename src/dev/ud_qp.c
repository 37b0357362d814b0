/* Queue pairs, completion queues and registered memory of a `ud` device.
 *
 * Owns how much there is of everything, how it is made and how a queue pair that has failed is made
 * to work again. Sizes begin large and are halved while the limit of locked memory, the device's
 * own limits or a refusal say so, down to a minimum that still keeps one batch each way in flight.
 *
 * mlx5 has its own call to make queue pairs; elsewhere it is the extended one, and where that does
 * not know the operations the first form of all. Who made it decides which calls post to it.
 *
 * All packets, both ways, lie in one mapping under one memory region: whole pages and nothing else
 * in them, so that fork support may take them from a child without hurting anything. */
#include "dev/ud.h"

#include <arpa/inet.h>
#include <errno.h>
#include <infiniband/mlx5dv.h>
#include <sys/random.h>

#include "base/mem.h"
#include "dev/ud_env.h"

enum {
    TX_DEPTH = 512,
    TX_DEPTH_SHARED = 256, /* with several queue pairs */
    TX_DEPTH_MIN = 2 * SMT_UD_SIGNAL_EVERY,
    RX_DEPTH = 4096, /* all queue pairs together */
    RX_DEPTH_MIN = 2 * SMT_UD_LOT,
    RX_BYTES = 8 << 20,
    MAX_HELD = 64,
    LINE = 64,
    SEND_WQE = 256, /* what queues take of locked memory, roughly */
    RECV_WQE = 64,
    CQE = 64,
    MAX_RECOVERIES = 32, /* of one queue pair in a second */
    DRAIN_MS = 50,
};

static uint32_t pow2_floor(uint32_t n)
{
    return n == 0 ? 0 : 1u << (31 - (unsigned)__builtin_clz(n));
}

static uint32_t pow2_ceil(uint32_t n)
{
    return n <= 1 ? 1 : 1u << (32 - (unsigned)__builtin_clz(n - 1));
}

static void sizes_complete(const struct smt_ud *d, struct smt_ud_sizes *s)
{
    uint32_t mtu_lines = (d->mtu + LINE - 1) & ~(uint32_t)(LINE - 1);
    s->max_held = s->tx_depth / 4 < MAX_HELD ? s->tx_depth / 4 : MAX_HELD;
    /* More than can be posted and held, so that whoever finds none has a batch to flush. */
    s->n_slots = d->n_qps * s->tx_depth + s->max_held + s->tx_depth / 2;
    s->rx_stride = SMT_UD_PAYLOAD_AT + mtu_lines;
    s->tx_stride = mtu_lines + LINE; /* not all in the same sets of a cache */
    s->mem_len = (size_t)s->n_slots * s->tx_stride + (size_t)d->n_qps * s->rx_depth * s->rx_stride;
}

/* False when it cannot be less. */
static bool sizes_halve(const struct smt_ud *d, struct smt_ud_sizes *s)
{
    if (s->rx_depth <= RX_DEPTH_MIN && s->tx_depth <= TX_DEPTH_MIN)
        return false;
    if (s->rx_depth > RX_DEPTH_MIN)
        s->rx_depth /= 2;
    if (s->tx_depth > TX_DEPTH_MIN)
        s->tx_depth /= 2;
    sizes_complete(d, s);
    return true;
}

static uint64_t sizes_locked(const struct smt_ud *d, const struct smt_ud_sizes *s)
{
    uint64_t queues =
        (uint64_t)s->tx_depth * (SEND_WQE + CQE) + (uint64_t)s->rx_depth * (RECV_WQE + CQE);
    return s->mem_len + d->n_qps * queues;
}

static bool sizes_fit(const struct smt_ud *d, const struct smt_ud_sizes *s)
{
    const struct ibv_device_attr *a = &d->port.attr;
    return s->rx_depth <= (uint32_t)a->max_qp_wr && s->tx_depth <= (uint32_t)a->max_qp_wr &&
           d->n_qps * s->rx_depth <= (uint32_t)a->max_cqe &&
           d->n_qps * s->tx_depth <= (uint32_t)a->max_cqe;
}

static void sizes_init(struct smt_ud *d, uint32_t rx_bytes, uint64_t allowed)
{
    struct smt_ud_sizes *s = &d->sizes;
    uint32_t rx_depth = pow2_floor((rx_bytes > 0 ? rx_bytes : RX_BYTES) / d->mtu);
    if (rx_depth > RX_DEPTH)
        rx_depth = RX_DEPTH;
    s->rx_depth = pow2_floor(rx_depth / d->n_qps);
    if (s->rx_depth < RX_DEPTH_MIN)
        s->rx_depth = RX_DEPTH_MIN;
    s->tx_depth = d->n_qps == 1 ? TX_DEPTH : TX_DEPTH_SHARED;
    sizes_complete(d, s);
    /* Half of the limit, because others of this process have a share in it. */
    while ((!sizes_fit(d, s) || sizes_locked(d, s) > allowed / 2) && sizes_halve(d, s))
        ;
}

static struct smt_ud_text text_of(const struct smt_dev_config *config)
{
    return (struct smt_ud_text){config->error_text, config->error_text_len};
}

static int fail_create(const struct smt_ud *d, const struct smt_dev_config *config,
                       const char *what, int error)
{
    return smt_ud_env_create(text_of(config), d->port.devname, what, error,
                             sizes_locked(d, &d->sizes));
}

static int fail_memory(const struct smt_dev_config *config)
{
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                        "no memory for the packets of a ud device");
}

/* The next part of the tables, on a line of its own; only counts while there are none yet. */
static void *table_take(const struct smt_ud *d, size_t *at, size_t len)
{
    void *p = d->tables == NULL ? NULL : (uint8_t *)d->tables + *at;
    *at += (len + LINE - 1) & ~(size_t)(LINE - 1);
    return p;
}

/* Lays out the tables; their length. */
static size_t tables_place(struct smt_ud *d)
{
    const struct smt_ud_sizes *s = &d->sizes;
    struct smt_ud_tx *tx = &d->tx;
    size_t at = 0;
    tx->batch_mask = pow2_ceil(s->n_slots) - 1;
    tx->depth_mask = s->tx_depth - 1;
    tx->slots = table_take(d, &at, s->n_slots * sizeof(*tx->slots));
    tx->spare = table_take(d, &at, s->n_slots * sizeof(*tx->spare));
    tx->held = table_take(d, &at, s->max_held * sizeof(*tx->held));
    tx->held_since = table_take(d, &at, s->max_held * sizeof(*tx->held_since));
    tx->wrs = table_take(d, &at, s->tx_depth * sizeof(*tx->wrs));
    tx->sges = table_take(d, &at, s->tx_depth * sizeof(*tx->sges));
    tx->pit = table_take(d, &at, SMT_DEV_MAX_PACKET);
    for (uint32_t i = 0; i < d->n_qps; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        q->batch = table_take(d, &at, (tx->batch_mask + 1) * sizeof(*q->batch));
        q->sent = table_take(d, &at, s->tx_depth * sizeof(*q->sent));
        q->rx_wrs = table_take(d, &at, s->rx_depth * sizeof(*q->rx_wrs));
        q->rx_sges = table_take(d, &at, s->rx_depth * sizeof(*q->rx_sges));
    }
    return at;
}

/* Everything in tables and memory that never changes. */
static void tables_fill(struct smt_ud *d)
{
    const struct smt_ud_sizes *s = &d->sizes;
    struct smt_ud_tx *tx = &d->tx;
    uint32_t lkey = d->mr->lkey;
    tx->n_spare = s->n_slots;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        tx->slots[i].data = d->mem + (size_t)i * s->tx_stride;
        tx->spare[s->n_slots - 1 - i] = &tx->slots[i];
    }
    for (uint32_t i = 0; i < s->tx_depth; i++) {
        tx->sges[i] = (struct ibv_sge){.lkey = lkey};
        tx->wrs[i] = (struct ibv_send_wr){
            .next = &tx->wrs[(i + 1) & tx->depth_mask],
            .sg_list = &tx->sges[i],
            .num_sge = 1,
            .opcode = IBV_WR_SEND_WITH_IMM,
        };
    }
    uint8_t *rx_mem = d->mem + (size_t)s->n_slots * s->tx_stride;
    for (uint32_t i = 0; i < d->n_qps; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        q->rx_mem = rx_mem + (size_t)i * s->rx_depth * s->rx_stride;
        for (uint32_t k = 0; k < s->rx_depth; k++) {
            uint8_t *at = q->rx_mem + (size_t)k * s->rx_stride;
            q->rx_sges[k] = (struct ibv_sge){
                .addr = (uintptr_t)(at + SMT_UD_PAYLOAD_AT - SMT_UD_GRH_LEN),
                .length = SMT_UD_GRH_LEN + d->mtu,
                .lkey = lkey,
            };
            q->rx_wrs[k] = (struct ibv_recv_wr){
                .next = &q->rx_wrs[(k + 1) & (s->rx_depth - 1)],
                .sg_list = &q->rx_sges[k],
                .num_sge = 1,
            };
        }
    }
}

static int memory_init(struct smt_ud *d, const struct smt_dev_config *config)
{
    d->tables_len = tables_place(d);
    d->tables = smt_mem_block(d->tables_len);
    if (d->tables == NULL)
        return fail_memory(config);
    tables_place(d);
    d->mem_len = d->sizes.mem_len;
    /* libibverbs' own fork support asks the kernel about small pages, which huge ones refuse. */
    d->mem = smt_mem_map_huge(&d->mem_len, ibv_is_fork_initialized() != IBV_FORK_ENABLED);
    if (d->mem == NULL)
        return fail_memory(config);
    d->mr = ibv_reg_mr(d->pd, d->mem, d->mem_len, IBV_ACCESS_LOCAL_WRITE);
    if (d->mr == NULL)
        return fail_create(d, config, "memory region", errno);
    tables_fill(d);
    return 0;
}

static int cqs_init(struct smt_ud *d, const struct smt_dev_config *config)
{
    d->channel = ibv_create_comp_channel(d->port.ctx);
    if (d->channel == NULL)
        return fail_create(d, config, "completion channel", errno);
    /* Every send may end in an error, which completes whether asked for or not. */
    d->tx.cq = ibv_create_cq(d->port.ctx, (int)(d->n_qps * d->sizes.tx_depth), NULL, d->channel, 0);
    if (d->tx.cq == NULL)
        return fail_create(d, config, "completion queue", errno);
    d->rx.cq = ibv_create_cq(d->port.ctx, (int)(d->n_qps * d->sizes.rx_depth), NULL, d->channel, 0);
    return d->rx.cq == NULL ? fail_create(d, config, "completion queue", errno) : 0;
}

/* With the calls that write work requests in place; NULL and errno otherwise. */
static struct ibv_qp *qp_create_ex(struct smt_ud *d, const struct ibv_qp_cap *cap,
                                   struct ibv_qp_cap *got)
{
    struct ibv_qp_init_attr_ex attr = {
        .send_cq = d->tx.cq,
        .recv_cq = d->rx.cq,
        .cap = *cap,
        .qp_type = IBV_QPT_UD,
        .comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
        .pd = d->pd,
        .send_ops_flags = IBV_QP_EX_WITH_SEND_WITH_IMM,
    };
    struct ibv_qp *qp;
    if (mlx5dv_is_supported(d->port.ctx->device)) {
        struct mlx5dv_qp_init_attr mlx5 = {0};
        qp = mlx5dv_create_qp(d->port.ctx, &attr, &mlx5);
    } else {
        qp = ibv_create_qp_ex(d->port.ctx, &attr);
    }
    *got = attr.cap;
    return qp;
}

static struct ibv_qp *qp_create_plain(struct smt_ud *d, const struct ibv_qp_cap *cap,
                                      struct ibv_qp_cap *got)
{
    struct ibv_qp_init_attr attr = {
        .send_cq = d->tx.cq,
        .recv_cq = d->rx.cq,
        .cap = *cap,
        .qp_type = IBV_QPT_UD,
    };
    struct ibv_qp *qp = ibv_create_qp(d->pd, &attr);
    *got = attr.cap;
    return qp;
}

/* Trying something else may help. */
static bool is_unsupported(int error)
{
    return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS;
}

static int qp_create(struct smt_ud *d, const struct smt_dev_config *config, struct smt_ud_qp *q)
{
    static const uint32_t inlines[] = {SMT_UD_INLINE, 60, 0};
    struct ibv_qp_cap got = {0};
    for (unsigned i = 0; i < 2 * SMT_ARRAY_LEN(inlines) && q->qp == NULL; i++) {
        bool is_ex = i < SMT_ARRAY_LEN(inlines);
        const struct ibv_qp_cap cap = {
            .max_send_wr = d->sizes.tx_depth,
            .max_recv_wr = d->sizes.rx_depth,
            .max_send_sge = 1,
            .max_recv_sge = 1,
            .max_inline_data = inlines[i % SMT_ARRAY_LEN(inlines)],
        };
        q->qp = is_ex ? qp_create_ex(d, &cap, &got) : qp_create_plain(d, &cap, &got);
        if (q->qp == NULL && !is_unsupported(errno))
            break;
        if (q->qp != NULL && is_ex)
            q->ex = ibv_qp_to_qp_ex(q->qp);
    }
    if (q->qp == NULL)
        return fail_create(d, config, "queue pair", errno);
    q->inline_len = got.max_inline_data < SMT_UD_INLINE ? got.max_inline_data : SMT_UD_INLINE;
    return 0;
}

static int qp_modify(struct smt_ud_qp *q, struct ibv_qp_attr attr, int mask)
{
    int r = ibv_modify_qp(q->qp, &attr, mask | IBV_QP_STATE);
    errno = r;
    return r == 0 ? 0 : SMT_EDEVICE;
}

/* From RESET to RTS with all receive buffers posted. Completions of a former life are told from new
 * ones by the tag. */
static int qp_start(struct smt_ud *d, struct smt_ud_qp *q)
{
    int r = qp_modify(
        q,
        (struct ibv_qp_attr){.qp_state = IBV_QPS_INIT, .port_num = d->port.number, .qkey = d->qkey},
        IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_QKEY);
    if (r == 0)
        r = smt_ud_rx_post_all(d, q);
    if (r == 0)
        r = qp_modify(q, (struct ibv_qp_attr){.qp_state = IBV_QPS_RTR}, 0);
    if (r == 0)
        r = qp_modify(q, (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS}, IBV_QP_SQ_PSN);
    return r;
}

static int objects_make(struct smt_ud *d, const struct smt_dev_config *config)
{
    d->pd = ibv_alloc_pd(d->port.ctx);
    if (d->pd == NULL)
        return fail_create(d, config, "protection domain", errno);
    int r = memory_init(d, config);
    if (r == 0)
        r = cqs_init(d, config);
    for (uint32_t i = 0; i < d->n_qps && r == 0; i++) {
        d->qps[i].tag = (uint64_t)i << 32;
        r = qp_create(d, config, &d->qps[i]);
        if (r == 0 && qp_start(d, &d->qps[i]) < 0)
            r = fail_create(d, config, "queue pair in its ready state", errno);
    }
    return r;
}

int smt_ud_objects_init(struct smt_ud *d, const struct smt_dev_config *config)
{
    static_assert((TX_DEPTH_MIN & (TX_DEPTH_MIN - 1)) == 0, "halved down to it");
    static_assert(RX_DEPTH_MIN % SMT_UD_LOT == 0, "posted in whole lots");
    uint64_t allowed = smt_ud_env_memlock_allowed();
    sizes_init(d, config->rx_buffer_len, allowed);
    if (sizes_locked(d, &d->sizes) > allowed)
        return smt_ud_env_memlock(text_of(config), sizes_locked(d, &d->sizes), allowed);
    if (getrandom(&d->qkey, sizeof(d->qkey), 0) != (ssize_t)sizeof(d->qkey))
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                            "no random bytes for a ud device");
    d->qkey &= INT32_MAX; /* the top bit is for the privileged */
    int r;
    while ((r = objects_make(d, config)) == SMT_ENOMEM && sizes_halve(d, &d->sizes))
        smt_ud_objects_fini(d);
    return r;
}

/* A device that has gone may refuse to destroy what it has; closing its context frees it. */
void smt_ud_qps_destroy(struct smt_ud *d)
{
    for (uint32_t i = 0; i < d->n_qps; i++) {
        if (d->qps[i].qp != NULL)
            (void)ibv_destroy_qp(d->qps[i].qp);
        d->qps[i] = (struct smt_ud_qp){0};
    }
}

static void cq_destroy(struct ibv_cq **cq, unsigned *n_events)
{
    if (*cq == NULL)
        return;
    if (*n_events > 0)
        ibv_ack_cq_events(*cq, *n_events);
    *n_events = 0;
    (void)ibv_destroy_cq(*cq);
    *cq = NULL;
}

void smt_ud_objects_fini(struct smt_ud *d)
{
    smt_ud_qps_destroy(d);
    cq_destroy(&d->rx.cq, &d->n_rx_events);
    cq_destroy(&d->tx.cq, &d->n_tx_events);
    if (d->channel != NULL)
        (void)ibv_destroy_comp_channel(d->channel);
    if (d->mr != NULL)
        (void)ibv_dereg_mr(d->mr);
    if (d->pd != NULL)
        (void)ibv_dealloc_pd(d->pd);
    smt_mem_unmap(d->mem, d->mem_len);
    if (d->tables != NULL)
        smt_mem_block_free(d->tables, d->tables_len);
    d->channel = NULL;
    d->mr = NULL;
    d->pd = NULL;
    d->mem = NULL;
    d->tables = NULL;
}

/* Everything posted is lost. While the queue pair is in RESET nothing completes, so what its queues
 * hold of it is taken out then: left there, it might fill them. */
static int qp_reset(struct smt_ud *d, struct smt_ud_qp *q)
{
    int r = qp_modify(q, (struct ibv_qp_attr){.qp_state = IBV_QPS_RESET}, 0);
    if (r < 0)
        return r;
    smt_ud_rx_drain(d);
    smt_ud_tx_reap(d);
    smt_ud_tx_forget(d, q);
    q->tag += (uint64_t)SMT_UD_MAX_QPS << 32;
    q->is_suspect = false;
    return qp_start(d, q);
}

/* The send queue stopped at an error; what stood behind it comes back flushed. 0 when it goes on
 * or has yet to be drained. */
static int qp_resume(struct smt_ud *d, struct smt_ud_qp *q)
{
    smt_ud_tx_reap(d);
    if (q->posted != q->done) {
        if (d->now - q->suspect_since < DRAIN_MS * SMT_MSEC)
            return 0;
        return qp_reset(d, q);
    }
    q->is_suspect = false;
    return qp_modify(q, (struct ibv_qp_attr){.qp_state = IBV_QPS_RTS, .cur_qp_state = IBV_QPS_SQE},
                     IBV_QP_CUR_STATE);
}

static int qp_recover(struct smt_ud *d, struct smt_ud_qp *q)
{
    if (q->is_stuck)
        return qp_reset(d, q);
    struct ibv_qp_attr attr = {0};
    struct ibv_qp_init_attr init;
    if (ibv_query_qp(q->qp, &attr, IBV_QP_STATE, &init) != 0)
        return SMT_EDEVICE;
    switch (attr.qp_state) {
    case IBV_QPS_RTS:
        q->is_suspect = false;
        return 0;
    case IBV_QPS_SQE:
        return qp_resume(d, q);
    default:
        return qp_reset(d, q);
    }
}

/* Too many recoveries mean that they are none. What peers can cause does not count, or they could
 * take the device from us. */
static bool recovery_is_allowed(const struct smt_ud *d, struct smt_ud_qp *q)
{
    if (q->is_peers_doing)
        return true;
    if (d->now - q->recoveries_since > SMT_SEC) {
        q->recoveries_since = d->now;
        q->n_recoveries = 0;
    }
    return q->n_recoveries++ < MAX_RECOVERIES;
}

void smt_ud_recover(struct smt_ud *d)
{
    d->now = smt_ud_now();
    for (uint32_t i = 0; i < d->n_qps && !d->is_lost; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        if (!q->is_suspect)
            continue;
        if (q->suspect_since == 0) {
            q->suspect_since = d->now;
            if (!recovery_is_allowed(d, q)) {
                smt_ud_lose(d, "a queue pair of the RDMA device fails again and again");
                return;
            }
        }
        if (qp_recover(d, q) < 0)
            smt_ud_lose(d, "a queue pair of the RDMA device cannot be made to work again");
        if (!q->is_suspect) {
            q->suspect_since = 0;
            q->is_stuck = q->is_peers_doing = false;
        }
    }
}
