/* Queue pairs and completion queues of a `ud` device.
 *
 * Owns how they are made, how a queue pair that has failed is made to work again, and how all of
 * them are taken away; when they are made anew is ud_rebuild.c's. mlx5 has its own call to make
 * queue pairs; elsewhere it is the extended one, and where that does not know the operations the
 * first form of all. Who made it decides which calls post to it. What is refused for want of memory
 * is tried again at half the size. */
#include "dev/ud.h"

#include <errno.h>
#include <infiniband/mlx5dv.h>
#include <sys/random.h>

#include "dev/machine.h"
#include "dev/ud_env.h"

enum {
    MAX_RECOVERIES = 32, /* of one queue pair in a second */
    DRAIN_MS = 50,
};

static struct smt_ud_text text_of(const struct smt_dev_config *config)
{
    return (struct smt_ud_text){config->error_text, config->error_text_len};
}

int smt_ud_fail_create(const struct smt_ud *d, const struct smt_dev_config *config,
                       const char *what, int error)
{
    return smt_ud_env_create(text_of(config), d->port.devname, what, error, smt_ud_sizes_locked(d));
}

static int cqs_make(struct smt_ud *d, const struct smt_dev_config *config)
{
    /* Every send may end in an error, which completes whether asked for or not. */
    d->tx.cq = ibv_create_cq(d->port.ctx, (int)(d->n_qps * d->sizes.tx_depth), NULL, d->channel, 0);
    if (d->tx.cq == NULL)
        return smt_ud_fail_create(d, config, "completion queue", errno);
    d->rx.cq = ibv_create_cq(d->port.ctx, (int)(d->n_qps * d->sizes.rx_depth), NULL, d->channel, 0);
    return d->rx.cq == NULL ? smt_ud_fail_create(d, config, "completion queue", errno) : 0;
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
        return smt_ud_fail_create(d, config, "queue pair", errno);
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

int smt_ud_queues_make(struct smt_ud *d, const struct smt_dev_config *config)
{
    int r = cqs_make(d, config);
    for (uint32_t i = 0; i < d->n_qps && r == 0; i++) {
        r = qp_create(d, config, &d->qps[i]);
        if (r == 0 && qp_start(d, &d->qps[i]) < 0)
            r = smt_ud_fail_create(d, config, "queue pair in its ready state", errno);
    }
    return r;
}

static int objects_make(struct smt_ud *d, const struct smt_dev_config *config)
{
    d->pd = ibv_alloc_pd(d->port.ctx);
    if (d->pd == NULL)
        return smt_ud_fail_create(d, config, "protection domain", errno);
    int r = smt_ud_memory_init(d, config);
    if (r < 0)
        return r;
    d->channel = ibv_create_comp_channel(d->port.ctx);
    if (d->channel == NULL)
        return smt_ud_fail_create(d, config, "completion channel", errno);
    for (uint32_t i = 0; i < d->n_qps; i++)
        d->qps[i].tag = (uint64_t)i << 32;
    return smt_ud_queues_make(d, config);
}

int smt_ud_objects_init(struct smt_ud *d, const struct smt_dev_config *config)
{
    uint64_t allowed = smt_ud_env_memlock_allowed();
    smt_ud_sizes_init(d, config->rx_buffer_len, allowed);
    if (smt_ud_sizes_locked(d) > allowed)
        return smt_ud_env_memlock(text_of(config), smt_ud_sizes_locked(d), allowed);
    if (getrandom(&d->qkey, sizeof(d->qkey), 0) != (ssize_t)sizeof(d->qkey))
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                            "no random bytes for a ud device");
    d->qkey &= INT32_MAX; /* the top bit is for the privileged */
    int r;
    while ((r = objects_make(d, config)) == SMT_ENOMEM && smt_ud_sizes_halve(d))
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

/* False when the device keeps it. */
static bool cq_destroy(struct ibv_cq **cq, struct smt_verbs_watch *watch)
{
    if (*cq == NULL)
        return true;
    smt_verbs_watch_end(watch);
    if (ibv_destroy_cq(*cq) != 0)
        return false;
    *cq = NULL;
    *watch = (struct smt_verbs_watch){0};
    return true;
}

static void tag_renew(struct smt_ud_qp *q)
{
    q->tag += (uint64_t)SMT_UD_MAX_QPS << 32;
}

int smt_ud_queues_unmake(struct smt_ud *d)
{
    struct smt_ud_rx *rx = &d->rx;
    for (uint32_t i = 0; i < d->n_qps; i++) {
        struct smt_ud_qp *q = &d->qps[i];
        if (q->qp == NULL)
            continue;
        if (ibv_destroy_qp(q->qp) != 0)
            return SMT_EDEVICE;
        q->qp = NULL;
        q->ex = NULL;
        smt_ud_tx_forget(d, q);
        tag_renew(q);
    }
    d->stats.rx_dropped += rx->n - rx->cur;
    rx->n = rx->cur = 0;
    bool is_done = cq_destroy(&rx->cq, &d->watches[SMT_UD_WATCH_RX]) &&
                   cq_destroy(&d->tx.cq, &d->watches[SMT_UD_WATCH_TX]);
    return is_done ? 0 : SMT_EDEVICE;
}

void smt_ud_objects_fini(struct smt_ud *d)
{
    smt_ud_qps_destroy(d);
    (void)cq_destroy(&d->rx.cq, &d->watches[SMT_UD_WATCH_RX]);
    (void)cq_destroy(&d->tx.cq, &d->watches[SMT_UD_WATCH_TX]);
    d->rx.cq = d->tx.cq = NULL;
    if (d->channel != NULL)
        (void)ibv_destroy_comp_channel(d->channel);
    smt_ud_memory_fini(d);
    if (d->pd != NULL)
        (void)ibv_dealloc_pd(d->pd);
    d->channel = NULL;
    d->pd = NULL;
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
    tag_renew(q);
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
 * have all queues made anew as often as they like. */
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
    d->now = smt_coarse_now();
    for (uint32_t i = 0; i < d->n_qps && !d->is_lost && !smt_ud_is_broken(d); i++) {
        struct smt_ud_qp *q = &d->qps[i];
        if (!q->is_suspect)
            continue;
        if (q->suspect_since == 0) {
            q->suspect_since = d->now;
            if (!recovery_is_allowed(d, q)) {
                smt_ud_break(d, "a queue pair of the RDMA device fails again and again");
                break;
            }
        }
        if (qp_recover(d, q) < 0)
            smt_ud_break(d, "a queue pair of the RDMA device cannot be made to work again");
        if (!q->is_suspect) {
            q->suspect_since = 0;
            q->is_stuck = q->is_peers_doing = false;
        }
    }
    if (smt_ud_is_broken(d) && !d->is_lost)
        smt_ud_rebuild(d);
}
