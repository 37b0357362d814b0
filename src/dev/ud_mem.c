/* How much of everything a `ud` device has, and the memory for it.
 *
 * Sizes begin large and are halved while the limit of locked memory or the device's own limits say
 * so, down to a minimum that still keeps one batch each way in flight; ud_qp.c halves them again
 * when something is refused all the same.
 *
 * All packets, both ways, lie in one mapping under one memory region: whole pages and nothing else
 * in them, so that fork support may take them from a child without hurting anything. What never
 * changes of the work requests is written here, once. */
#include "dev/ud.h"

#include <errno.h>

#include "base/mem.h"

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
};

static_assert((TX_DEPTH_MIN & (TX_DEPTH_MIN - 1)) == 0, "halved down to it");
static_assert(RX_DEPTH_MIN % SMT_UD_LOT == 0, "posted in whole lots");

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

bool smt_ud_sizes_halve(struct smt_ud *d)
{
    struct smt_ud_sizes *s = &d->sizes;
    if (s->rx_depth <= RX_DEPTH_MIN && s->tx_depth <= TX_DEPTH_MIN)
        return false;
    if (s->rx_depth > RX_DEPTH_MIN)
        s->rx_depth /= 2;
    if (s->tx_depth > TX_DEPTH_MIN)
        s->tx_depth /= 2;
    sizes_complete(d, s);
    return true;
}

uint64_t smt_ud_sizes_locked(const struct smt_ud *d)
{
    const struct smt_ud_sizes *s = &d->sizes;
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

void smt_ud_sizes_init(struct smt_ud *d, uint32_t rx_bytes, uint64_t allowed)
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
    while ((!sizes_fit(d, s) || smt_ud_sizes_locked(d) > allowed / 2) && smt_ud_sizes_halve(d))
        ;
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

int smt_ud_memory_init(struct smt_ud *d, const struct smt_dev_config *config)
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
        return smt_ud_fail_create(d, config, "memory region", errno);
    tables_fill(d);
    return 0;
}

void smt_ud_memory_fini(struct smt_ud *d)
{
    if (d->mr != NULL)
        (void)ibv_dereg_mr(d->mr);
    smt_mem_unmap(d->mem, d->mem_len);
    if (d->tables != NULL)
        smt_mem_block_free(d->tables, d->tables_len);
    d->mr = NULL;
    d->mem = NULL;
    d->tables = NULL;
}
