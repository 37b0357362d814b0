/* Sixteen questions in the order in which their answers matter: each tries what opening a device
 * would do, and says what came of it and what helps. What the firmware does counts for more than
 * what its capability bits say. Nothing leaves the port. */
#include "dev/mlx5_probe.h"

#include <errno.h>
#include <infiniband/mlx5dv.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dev/machine.h"
#include "dev/mlx5_devx.h"
#include "dev/mlx5_port.h"
#include "dev/mlx5_sq.h"
#include "dev/ud_env.h"
#include "dev/verbs_probe.h"

enum { DEPTH = 64, WAIT_MS = 1000 };

struct run {
    struct smt_mlx5_probe *out;
    unsigned n, max;
    struct ibv_device *device;
    struct ibv_context *ctx;
    struct smt_mlx5_port port; /* devname, link, attr, caps */
    struct ibv_pd *pd;
    struct ibv_cq *cq;
    struct smt_mlx5_sq sq;
    uint32_t pdn, td, tisn, dek;
    void *td_object, *tis_object, *dek_object;
};

__attribute__((format(printf, 4, 5))) static void
say(struct run *r, enum smt_mlx5_probe_result result, const char *what, const char *fmt, ...)
{
    unsigned number = r->n + 1;
    if (r->n >= r->max)
        return;
    struct smt_mlx5_probe *p = &r->out[r->n++];
    *p = (struct smt_mlx5_probe){.number = number, .result = result};
    snprintf(p->what, sizeof(p->what), "%s", what);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->text, sizeof(p->text), fmt, ap);
    va_end(ap);
}

/* First line of a file of sysfs below the device, "" when there is none. */
static void sysfs_read(const struct run *r, const char *name, char *out, size_t out_len)
{
    char path[IBV_SYSFS_PATH_MAX + 32];
    out[0] = '\0';
    snprintf(path, sizeof(path), "%s/%s", r->device->ibdev_path, name);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return;
    if (fgets(out, (int)out_len, f) == NULL)
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    fclose(f);
}

/* ---- 1 to 5: the machine ---- */

static void device_id(struct run *r)
{
    static const struct {
        const char *id, *name;
        bool seals;
    } parts[] = {
        {"0x101d", "ConnectX-6 Dx", true}, {"0x101e", "ConnectX-6 Dx or 7, a VF", true},
        {"0x101f", "ConnectX-6 Lx", true}, {"0x1021", "ConnectX-7", true},
        {"0x1023", "ConnectX-8", true},    {"0xa2d6", "BlueField-2", true},
        {"0xa2dc", "BlueField-3", true},   {"0x101b", "ConnectX-6", false},
        {"0x1017", "ConnectX-5", false},   {"0x1015", "ConnectX-4 Lx", false},
    };
    char id[16];
    sysfs_read(r, "device/device", id, sizeof(id));
    for (unsigned i = 0; i < SMT_ARRAY_LEN(parts); i++) {
        if (strcmp(parts[i].id, id) != 0)
            continue;
        say(r, parts[i].seals ? SMT_PROBE_OK : SMT_PROBE_NO, "part", "%s (%s)%s", parts[i].name, id,
            parts[i].seals ? "" : ": this generation has no TLS engine");
        return;
    }
    say(r, SMT_PROBE_NOTE, "part", "an mlx5 device, PCI id %s: not one that is known here",
        id[0] != '\0' ? id : "unknown");
}

static void port_state(struct run *r)
{
    struct ibv_port_attr p;
    if (ibv_query_port(r->ctx, 1, &p) != 0) {
        say(r, SMT_PROBE_NO, "port", "port 1 does not answer: %s", strerror(errno));
        return;
    }
    bool is_good = p.link_layer == IBV_LINK_LAYER_ETHERNET && p.state == IBV_PORT_ACTIVE;
    say(r, is_good ? SMT_PROBE_OK : SMT_PROBE_NO, "port", "%s, %s, MTU %u, interface %s%s%s",
        p.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "not Ethernet",
        p.state == IBV_PORT_ACTIVE ? "active" : "not active: check the cable", r->port.link.mtu,
        r->port.link.name[0] != '\0' ? r->port.link.name : "none",
        r->port.link.kind[0] != '\0' ? ", a " : "", r->port.link.kind);
}

static void privileges(struct run *r)
{
    uint64_t allowed = smt_ud_env_memlock_allowed();
    bool raw = smt_capability_has(SMT_CAPABILITY_NET_RAW);
    char lock[64] = "no limit of locked memory";
    if (allowed != UINT64_MAX)
        snprintf(lock, sizeof(lock), "locked memory %llu kB (ulimit -l)",
                 (unsigned long long)(allowed / 1024));
    say(r, raw ? SMT_PROBE_OK : SMT_PROBE_NO, "privileges", "%s; %s",
        raw ? "CAP_NET_RAW" : "no CAP_NET_RAW: setcap cap_net_raw+ep PROGRAM", lock);
}

/* ---- 6 to 9: what it says it can ---- */

static void capabilities(struct run *r)
{
    struct smt_mlx5_caps max = {0};
    struct smt_mlx5_caps *c = &r->port.caps;
    int rc = r->port.has_devx ? smt_mlx5_caps_query(r->ctx, c) : -EOPNOTSUPP;
    r->port.caps_error = -rc;
    if (rc < 0 || smt_mlx5_caps_query_max(r->ctx, &max) < 0) {
        say(r, SMT_PROBE_NO, "capabilities", "the firmware does not tell: %s",
            strerror(rc < 0 ? -rc : EIO));
        return;
    }
    bool is_good = c->has_tls_tx && c->has_dek && c->log_max_dek > 0;
    const char *why = is_good            ? ""
                      : !c->has_tls_tx && max.has_tls_tx
                          ? ": the TLS engine is there but switched off"
                      : !c->has_tls_tx ? ": the part or its firmware has no TLS engine"
                                       : ": no encryption keys";
    say(r, is_good ? SMT_PROBE_OK : SMT_PROBE_NO, "capabilities",
        "tls_tx %d (at most %d), keys %d, log_max_dek %u, log_max_tis %u, crypto %d, offloads %d, "
        "flow table %d%s",
        c->has_tls_tx, max.has_tls_tx, c->has_dek, c->log_max_dek, c->log_max_tis, c->has_crypto,
        c->has_eth_offloads, c->has_flow_table, why);
}

static void suites(struct run *r)
{
    const struct smt_mlx5_caps *c = &r->port.caps;
    bool is_good = c->seals_128 || c->seals_256;
    say(r, is_good ? SMT_PROBE_OK : SMT_PROBE_NO, "cipher suites",
        "TLS 1.2 AES-GCM-128 %s, 256 %s; TLS 1.3 128 %s, 256 %s (not used)",
        c->seals_128 ? "yes" : "no", c->seals_256 ? "yes" : "no", c->seals13_128 ? "yes" : "no",
        c->seals13_256 ? "yes" : "no");
}

static void crypto_block(struct run *r)
{
    const struct smt_mlx5_caps *c = &r->port.caps;
    if (!c->has_crypto) {
        say(r, SMT_PROBE_NOTE, "crypto block", "says nothing of itself");
        return;
    }
    say(r, c->failed_selftests == 0 ? SMT_PROBE_OK : SMT_PROBE_NO, "crypto block",
        "failed self-tests 0x%x%s; keys can%s be changed in place%s%s", c->failed_selftests,
        c->failed_selftests != 0 ? ": the block is broken" : "", c->can_sync_dek ? "" : "not",
        c->is_wrapped ? "; wrapped mode (concerns storage keys)" : "",
        c->is_commissioning ? "; commissioning" : "");
}

static void segmentation(struct run *r)
{
    uint32_t max = smt_mlx5_max_tso(&r->port.attr);
    say(r, max >= 16413 ? SMT_PROBE_OK : SMT_PROBE_NO, "segmentation",
        max > 0 ? "%u bytes a request of raw packets%s" : "none for raw packets (%u)%s", max,
        max >= 16413 ? "" : ": the CPU seals");
}

/* ---- 10 to 13: what it does ---- */

static void firmware_objects(struct run *r)
{
    static const uint8_t key[32] = {1, 2, 3};
    struct smt_mlx5_refusal why = {0};
    struct mlx5dv_pd pd = {.comp_mask = 0};
    struct mlx5dv_obj obj = {.pd = {.in = r->pd, .out = &pd}};
    if (!r->port.has_devx || r->pd == NULL || mlx5dv_init_obj(&obj, MLX5DV_OBJ_PD) != 0) {
        say(r, SMT_PROBE_NO, "firmware objects", "not tried: no firmware commands");
        return;
    }
    if (!r->port.caps.has_tls_tx) {
        say(r, SMT_PROBE_NO, "firmware objects", "not tried: no TLS engine");
        return;
    }
    r->pdn = pd.pdn;
    int rc = smt_mlx5_td_create(r->ctx, &r->td, &r->td_object, &why);
    if (rc == 0)
        rc = smt_mlx5_tis_create(r->ctx, r->td, r->pdn, &r->tisn, &r->tis_object, &why);
    if (rc == 0)
        rc = smt_mlx5_dek_create(r->ctx, r->pdn, key, r->port.caps.seals_128 ? 16 : 32, &r->dek,
                                 &r->dek_object, &why);
    char text[128];
    smt_mlx5_refusal_text(&why, text, sizeof(text));
    say(r, rc == 0 ? SMT_PROBE_OK : SMT_PROBE_NO, "firmware objects", "%s%s",
        rc == 0 ? "transport domain, TIS and key made" : "refused: ", rc == 0 ? "" : text);
}

static void queue_pair(struct run *r)
{
    int rc = -ENOMEM;
    bool has_lso = smt_mlx5_max_tso(&r->port.attr) > 0;
    r->cq = ibv_create_cq(r->ctx, DEPTH, NULL, NULL, 0);
    if (r->cq != NULL && r->pd != NULL) {
        const struct smt_mlx5_sq_config c = {.ctx = r->ctx,
                                             .pd = r->pd,
                                             .send_cq = r->cq,
                                             .recv_cq = r->cq,
                                             .depth = DEPTH,
                                             .has_lso = has_lso};
        rc = smt_mlx5_sq_init(&r->sq, &c);
    }
    const char *help = rc == -EPERM        ? ": CAP_NET_RAW is missing"
                       : rc == -EOPNOTSUPP ? ": libmlx5 is older than rdma-core 36"
                                           : "";
    say(r, rc == 0 ? SMT_PROBE_OK : SMT_PROBE_NO, "queue pair", "raw packets, raw requests: %s%s",
        rc == 0 ? "ready to send" : strerror(-rc), help);
}

static void requests(struct run *r)
{
    static const uint8_t salt[4];
    if (r->sq.qp == NULL || r->dek_object == NULL) {
        say(r, SMT_PROBE_NO, "requests", "not tried: no queue pair or no key");
        return;
    }
    uint8_t wqe[SMT_MLX5_STATIC_LEN];
    struct smt_mlx5_ctrl ctrl = {
        .sqn = r->sq.qp->qp_num, .tisn = r->tisn, .is_fenced = true, .is_signalled = true};
    smt_mlx5_wqe_static(wqe, &ctrl, r->dek, 0, salt);
    (void)smt_mlx5_sq_put(&r->sq, wqe);
    smt_mlx5_wqe_progress(wqe, &ctrl);
    (void)smt_mlx5_sq_put(&r->sq, wqe);
    smt_mlx5_wqe_nop(wqe, &ctrl);
    (void)smt_mlx5_sq_put(&r->sq, wqe);
    (void)smt_mlx5_sq_ring(&r->sq);
    for (unsigned i = 0; i < WAIT_MS && r->sq.done != r->sq.posted && !r->sq.is_suspect; i++) {
        const struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
        if (smt_mlx5_sq_reap(&r->sq) < 0)
            break;
    }
    bool is_good = r->sq.done == 3 && !r->sq.is_suspect;
    say(r, is_good ? SMT_PROBE_OK : SMT_PROBE_NO, "requests",
        is_good ? "a context was programmed: three completions"
                : "programming a context: %u of 3 completions, vendor error 0x%x",
        r->sq.done, r->sq.vendor_error);
}

static void flow_rule(struct run *r)
{
    struct {
        struct ibv_flow_attr attr;
        struct ibv_flow_spec_eth eth;
    } rule = {.attr = {.type = IBV_FLOW_ATTR_NORMAL,
                       .size = sizeof(rule),
                       .num_of_specs = 1,
                       .port = 1},
              .eth = {.type = IBV_FLOW_SPEC_ETH, .size = sizeof(rule.eth)}};
    /* A source address that is never seen: nothing may be steered away by a question. */
    memset(rule.eth.mask.src_mac, 0xff, 6);
    memset(rule.eth.val.src_mac, 0x02, 6);
    struct ibv_flow *flow = r->sq.qp != NULL ? ibv_create_flow(r->sq.qp, &rule.attr) : NULL;
    int error = r->sq.qp != NULL ? errno : ENODEV;
    if (flow != NULL)
        (void)ibv_destroy_flow(flow);
    say(r, flow != NULL ? SMT_PROBE_OK : SMT_PROBE_NO, "flow rule", "%s%s",
        flow != NULL ? "made and removed" : strerror(error),
        flow != NULL ? "" : ": CAP_NET_RAW, or the port is in switchdev mode");
}

/* ---- 14 to 16: for the report ---- */

static void surroundings(struct run *r)
{
    char board[64], type[32];
    sysfs_read(r, "board_id", board, sizeof(board));
    sysfs_read(r, "hca_type", type, sizeof(type));
    say(r, SMT_PROBE_NOTE, "surroundings", "firmware %.32s, board %s, type %s, bond or bridge %s",
        r->port.attr.orig_attr.fw_ver, board[0] != '\0' ? board : "unknown",
        type[0] != '\0' ? type : "unknown", r->port.link.master != 0 ? "yes: refused" : "no");
}

static void cpu_fallback(struct run *r)
{
    bool aes = false, vaes = false;
#if defined(__x86_64__)
    __builtin_cpu_init();
    aes = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
    vaes = aes && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
#endif
    say(r, aes ? SMT_PROBE_OK : SMT_PROBE_NOTE, "CPU instead",
        vaes  ? "AES-NI with wide instructions"
        : aes ? "AES-NI"
              : "no AES instructions: slow");
}

static void run_end(struct run *r)
{
    smt_mlx5_sq_fini(&r->sq);
    smt_mlx5_object_destroy(r->dek_object);
    smt_mlx5_object_destroy(r->tis_object);
    smt_mlx5_object_destroy(r->td_object);
    if (r->cq != NULL)
        (void)ibv_destroy_cq(r->cq);
    if (r->pd != NULL)
        (void)ibv_dealloc_pd(r->pd);
    if (r->ctx != NULL)
        (void)ibv_close_device(r->ctx);
}

static void device_probe(struct run *r)
{
    say(r, SMT_PROBE_OK, "device", "%s", ibv_get_device_name(r->device));
    device_id(r);
    char ifname[16];
    int nl = smt_route_open();
    if (nl >= 0 && smt_mlx5_ifname(r->device, ifname))
        (void)!smt_link_find(nl, ifname, 0, &r->port.link);
    if (nl >= 0)
        close(nl);
    r->ctx = smt_mlx5_context_open(r->device, &r->port.has_devx);
    if (r->ctx == NULL) {
        say(r, SMT_PROBE_NO, "port", "the device cannot be opened: %s", strerror(errno));
        return;
    }
    if (ibv_query_device_ex(r->ctx, NULL, &r->port.attr) != 0)
        memset(&r->port.attr, 0, sizeof(r->port.attr));
    port_state(r);
    say(r, r->port.has_devx ? SMT_PROBE_OK : SMT_PROBE_NO, "firmware commands",
        r->port.has_devx ? "DevX works"
                         : "no DevX: kernel without INFINIBAND_USER_ACCESS, firmware with "
                           "log_max_uctx 0, or no permission on the node");
    privileges(r);
    capabilities(r);
    suites(r);
    crypto_block(r);
    segmentation(r);
    r->pd = ibv_alloc_pd(r->ctx);
    firmware_objects(r);
    queue_pair(r);
    requests(r);
    flow_rule(r);
    say(r, SMT_PROBE_NOTE, "a sealed record", "not sent from here: scripts/hw-check does");
    surroundings(r);
    cpu_fallback(r);
}

unsigned smt_mlx5_probe(const char *name, struct smt_mlx5_probe *out, unsigned n)
{
    struct run r = {.out = out, .max = n};
    int n_devices = 0;
    struct ibv_device **list = ibv_get_device_list(&n_devices);
    int error = errno;
    for (int i = 0; list != NULL && i < n_devices && r.device == NULL; i++) {
        char ifname[16] = "";
        (void)smt_mlx5_ifname(list[i], ifname);
        bool is_it = name == NULL || name[0] == '\0' ||
                     strcmp(name, ibv_get_device_name(list[i])) == 0 || strcmp(name, ifname) == 0;
        if (is_it && mlx5dv_is_supported(list[i]))
            r.device = list[i];
    }
    if (r.device != NULL) {
        device_probe(&r);
    } else if (list == NULL || n_devices == 0) {
        char why[256];
        smt_verbs_why_none("/sys/class/infiniband", "/dev/infiniband", error, why, sizeof(why));
        say(&r, SMT_PROBE_NO, "device", "%s", why);
    } else {
        say(&r, SMT_PROBE_NO, "device", "none of %d RDMA devices is %s", n_devices,
            name != NULL && name[0] != '\0' ? "an mlx5 one of this name" : "an mlx5 one");
    }
    run_end(&r);
    if (list != NULL)
        ibv_free_device_list(list);
    return r.n;
}
