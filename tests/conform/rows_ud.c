/* The device `ud` over the verbs model: as every kind of provider it must work with, and what may
 * go wrong below it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conform/conform.h"
#include "verbs-model/verbs_model.h"

static uint8_t traffic_class;

static bool watch(void *arg, struct verbs_model_packet *packet)
{
    traffic_class = packet->traffic_class;
    return true;
}

static uint8_t last_traffic_class(void)
{
    return traffic_class;
}

static void set_ce(bool is_on)
{
    verbs_model.ce = is_on ? 100 : 0;
}

static void set_late(bool is_on)
{
    verbs_model.late = is_on ? 100 : 0;
}

static void as_ex(void)
{
    verbs_model_reset();
    verbs_model.filter = watch;
}

static void as_post(void)
{
    as_ex();
    verbs_model.devices[0].qp_ex = VERBS_MODEL_QP_EX_NONE;
    verbs_model.devices[0].reset_keeps_cqes = true;
}

/* And no inline data, as small queues have it. */
static void as_no_ops(void)
{
    as_ex();
    verbs_model.devices[0].qp_ex = VERBS_MODEL_QP_EX_NO_WR_OPS;
    verbs_model.devices[0].max_inline = 0;
}

static void as_mlx5(void)
{
    as_ex();
    verbs_model.devices[0].is_mlx5 = true;
}

/* The MTU of RoCE on an Ethernet of 1500, and a device that can do little. */
static void as_small(void)
{
    as_ex();
    verbs_model.devices[0].active_mtu = IBV_MTU_1024;
    verbs_model.devices[0].max_inline = 60;
    verbs_model.devices[0].max_sge = 1;
    verbs_model.devices[0].max_qp_wr = 512;
    verbs_model.devices[0].max_cqe = 1024;
    verbs_model.devices[0].reset_keeps_cqes = true;
}

static void as_ib(void)
{
    as_ex();
    verbs_model.devices[0].is_ib = true;
    memset(verbs_model.devices[0].gids, 0, sizeof(verbs_model.devices[0].gids));
    verbs_model_set_gid(0, 0, "fe80::2:c903:0:1", IBV_GID_TYPE_IB, NULL);
}

/* The files by which sysfs says that lo is the IPoIB interface of the InfiniBand device. The linker
 * sends the library's calls here (fopen has this name where file offsets are large). */
FILE *__real_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);
int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);

FILE *__wrap_fopen64(const char *path, const char *mode)
{
    static char type[] = "32\n", port[] = "0\n";
    if (verbs_model.devices[0].is_ib && strcmp(path, "/sys/class/net/lo/type") == 0)
        return fmemopen(type, strlen(type), "r");
    if (verbs_model.devices[0].is_ib && strcmp(path, "/sys/class/net/lo/dev_port") == 0)
        return fmemopen(port, strlen(port), "r");
    return __real_fopen64(path, mode);
}

int __wrap_access(const char *path, int mode)
{
    const char *link = "/sys/class/net/lo/device/infiniband/model0";
    if (verbs_model.devices[0].is_ib && strcmp(path, link) == 0)
        return 0;
    return __real_access(path, mode);
}

static void send_error(struct conform_set *set)
{
    verbs_model.send_errors = 1;
    verbs_model.send_status = IBV_WC_LOC_QP_OP_ERR;
}

static void qp_error(struct conform_set *set)
{
    (void)verbs_model_qp_error(0, -1);
}

static void qp_fatal(struct conform_set *set)
{
    (void)verbs_model_qp_error(0, IBV_EVENT_QP_FATAL);
}

static void qp_events(struct conform_set *set)
{
    (void)verbs_model_qp_error(0, IBV_EVENT_QP_REQ_ERR);
    (void)verbs_model_qp_error(0, IBV_EVENT_QP_ACCESS_ERR);
}

static void cq_error(struct conform_set *set)
{
    (void)verbs_model_cq_error(0);
}

/* Nothing but the event tells of it, so everybody looks before anything has to arrive again. */
static void cq_overrun(struct conform_set *set)
{
    for (unsigned i = 0; verbs_model_cq_overrun(0, i) > 0; i += 3)
        ;
    for (unsigned i = 0; i < 300; i++) {
        struct smt_pkt pkt;
        (void)set->tx->ops->rx(set->tx, &pkt, 1);
        for (unsigned k = 0; k < set->n_rx; k++)
            (void)set->rx[k]->ops->rx(set->rx[k], &pkt, 1);
    }
}

static void fail_once(enum verbs_model_call call, int error)
{
    verbs_model.fail[call] = (struct verbs_model_failure){.skip = 1, .times = 1, .error = error};
}

static bool is_over(void)
{
    unsigned left = verbs_model.send_errors;
    for (unsigned i = 0; i < VERBS_MODEL_N_CALLS; i++)
        left += verbs_model.fail[i].times;
    return left == 0;
}

static void post_fails(struct conform_set *set)
{
    fail_once(VERBS_MODEL_POST_SEND, ENOMEM);
}

static void recv_post_fails(struct conform_set *set)
{
    fail_once(VERBS_MODEL_POST_RECV, ENOMEM);
}

static void port_flaps(struct conform_set *set)
{
    verbs_model_set_port(0, false);
    for (unsigned i = 0; i < 300; i++) {
        struct smt_pkt pkt;
        (void)set->tx->ops->rx(set->tx, &pkt, 1);
    }
    verbs_model_set_port(0, true);
}

static void gids_change(struct conform_set *set)
{
    verbs_model_device_event(0, IBV_EVENT_GID_CHANGE);
}

/* Handles are made anew after a change, and the first cannot be. */
static void ah_fails(struct conform_set *set)
{
    verbs_model.fail[VERBS_MODEL_CREATE_AH] = (struct verbs_model_failure){0, 2, ENOMEM};
    verbs_model_device_event(0, IBV_EVENT_GID_CHANGE);
}

static void inject(struct verbs_model_packet *p)
{
    for (unsigned i = 0; verbs_model_qp(0, i, &p->dst_qpn, &p->qkey); i++)
        (void)verbs_model_inject(p);
}

/* Frames made by hand: nothing but counters may change. */
static void strangers(struct conform_set *set)
{
    static struct verbs_model_packet p;
    const struct verbs_model_device *d = &verbs_model.devices[0];
    memset(&p, 0, sizeof(p));
    p.to = d;
    p.src_qpn = 0x1234;
    p.len = 200;
    memset(p.data, 0x5a, p.len);
    inject(&p); /* neither GRH nor immediate data */
    p.has_imm = true;
    p.imm = 0xffffffff;
    inject(&p);
    p.has_grh = true;
    p.hop_limit = 1;
    inject(&p); /* addresses all zero */
    p.sgid = p.dgid = d->gids[3].gid;
    inject(&p); /* immediate data that are no port */
    p.imm = 0;
    inject(&p);
    p.len = 0;
    inject(&p);
    for (unsigned i = 0; verbs_model_qp(0, i, &p.dst_qpn, &p.qkey); i++) {
        p.qkey ^= 1;
        (void)verbs_model_inject(&p);
    }
}

/* Completions wait, so the queues fill up. */
static void stalls(struct conform_set *set)
{
    verbs_model.is_stalled = true;
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t *p = set->tx->ops->tx_reserve(set->tx, &set->to[0], 300, 0);
        if (p != NULL)
            memset(p, CONFORM_FOREIGN, 300);
        if (p == NULL && set->tx->ops->tx_flush(set->tx) == SMT_EAGAIN)
            break;
    }
    verbs_model.is_stalled = false;
    (void)verbs_model_run(UINT32_MAX);
}

static const struct conform_fault faults[] = {
    {"error of a send", send_error, is_over},
    {"queue pairs in error", qp_error},
    {"queue pairs in error, with the event", qp_fatal},
    {"queue pairs in error, with other events", qp_events},
    {"completion queues in error", cq_error},
    {"completion queues that have lost something", cq_overrun},
    {"posting a send fails", post_fails, is_over},
    {"posting a receive fails", recv_post_fails, is_over},
    {"port down and up", port_flaps},
    {"GIDs changed", gids_change},
    {"no address handle at first", ah_fails, is_over},
    {"packets of strangers", strangers},
    {"queues stall", stalls},
};

static void model_kill(struct conform_set *set, unsigned way)
{
    if (way == 0)
        verbs_model_remove(0);
    else
        verbs_model_device_event(0, IBV_EVENT_DEVICE_FATAL);
}

#define MODEL(how)                                                                                 \
    .is_verbs = true, .n_rx = 4, .prepare = how, .faults = faults,                                 \
    .n_faults = SMT_ARRAY_LEN(faults), .kill = model_kill, .n_ways = 2, .set_late = set_late
#define WITH_GRH .traffic_class = last_traffic_class, .set_ce = set_ce

const struct conform_row conform_rows[] = {
    {.name = "ud-model-ex",
     MODEL(as_ex),
     WITH_GRH,
     .address = "127.0.0.1",
     .spec = "ud",
     .bind_host = "127.0.0.1"},
    {.name = "ud-model-post", MODEL(as_post), WITH_GRH, .address = "::1", .spec = "ud:lo"},
    {.name = "ud-model-no-ops",
     MODEL(as_no_ops),
     WITH_GRH,
     .address = "127.0.0.1",
     .spec = "ud:model0",
     .bind_host = "127.0.0.1"},
    {.name = "ud-model-mlx5",
     MODEL(as_mlx5),
     WITH_GRH,
     .address = "127.0.0.1",
     .spec = "ud:,qps=4"},
    {.name = "ud-model-1024",
     MODEL(as_small),
     WITH_GRH,
     .address = "127.0.0.1",
     .spec = "ud:,qps=2"},
    {.name = "ud-model-ib",
     MODEL(as_ib),
     .drops_first = true,
     .has_no_ecn = true,
     .address = "127.0.0.1",
     .spec = "ud"},
    {.name = "tap-ud-model",
     MODEL(as_ex),
     WITH_GRH,
     .address = "127.0.0.1",
     .spec = "ud",
     .bind_host = "127.0.0.1",
     .tap = "seed=7"},
};

const unsigned conform_n_rows = SMT_ARRAY_LEN(conform_rows);
