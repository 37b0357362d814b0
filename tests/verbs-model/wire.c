/* Address handles and the network between queue pairs: who gets a packet, what becomes of it on the
 * way, and the 40 bytes before its payload. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "model.h"

enum { MAX_LATE = 64, LATE_BY = 8, IDLE_POLLS = 4, UDP_PROTOCOL = 17, IB_GRH_NEXT = 0x1b };

struct late {
    unsigned left; /* packets that still overtake it; 0 = free */
    struct verbs_model_packet packet;
};

static struct late late[MAX_LATE];
static unsigned n_late, n_idle;

struct vm_ah *vm_ah_of(const char *call, const char *field, struct ibv_ah *ibv)
{
    if (ibv == NULL)
        vm_abort(call, field, "NULL");
    struct vm_ah *ah = SMT_CONTAINER_OF(ibv, struct vm_ah, ibv);
    vm_expect(call, field, &ah->object, VM_AH);
    return ah;
}

static void ah_check(const struct ibv_ah_attr *a, const struct verbs_model_device *k)
{
    static const char call[] = "ibv_create_ah";
    static const union ibv_gid none;
    if (a->port_num != 1)
        vm_abort(call, "port_num", "%u", a->port_num);
    if (!k->is_ib && a->is_global != 1)
        vm_abort(call, "is_global", "%u, RoCE has no other", a->is_global);
    if (k->is_ib && a->dlid == 0)
        vm_abort(call, "dlid", "0");
    if (a->sl > (k->is_ib ? 15 : 7))
        vm_abort(call, "sl", "%u", a->sl);
    if (a->src_path_bits != 0)
        vm_abort(call, "src_path_bits", "%u, the port has one LID", a->src_path_bits);
    if (a->is_global == 0)
        return;
    if (a->grh.sgid_index >= VERBS_MODEL_GIDS ||
        memcmp(&k->gids[a->grh.sgid_index].gid, &none, sizeof(none)) == 0)
        vm_abort(call, "sgid_index", "%u is no entry of the GID table", a->grh.sgid_index);
    if (memcmp(&a->grh.dgid, &none, sizeof(none)) == 0)
        vm_abort(call, "dgid", "all zero");
    if (a->grh.hop_limit == 0)
        vm_abort(call, "hop_limit", "0");
    if ((a->grh.flow_label & ~0xfffffu) != 0)
        vm_abort(call, "flow_label", "0x%x has more than 20 bits", a->grh.flow_label);
}

struct ibv_ah *ibv_create_ah(struct ibv_pd *ibpd, struct ibv_ah_attr *attr)
{
    vm_lock();
    struct vm_pd *pd = vm_pd_of("ibv_create_ah", ibpd);
    struct vm_device *dev = vm_ctx_of("ibv_create_ah", ibpd->context)->dev;
    ah_check(attr, vm_knobs_of(dev));
    struct ibv_ah *out = NULL;
    if (vm_fails(VERBS_MODEL_CREATE_AH, dev) == 0) {
        struct vm_ah *ah = vm_object_new(sizeof(*ah), offsetof(struct vm_ah, object), VM_AH);
        ah->ibv.context = ibpd->context;
        ah->ibv.pd = ibpd;
        ah->attr = *attr;
        pd->n_ahs++;
        verbs_model_counts.ahs_created++;
        out = &ah->ibv;
    }
    unsigned usec = verbs_model.create_ah_usec;
    vm_unlock();
    if (usec > 0)
        usleep(usec);
    return out;
}

int ibv_destroy_ah(struct ibv_ah *ibv)
{
    vm_lock();
    struct vm_ah *ah = vm_ah_of("ibv_destroy_ah", "ah", ibv);
    if (ah->n_used > 0)
        vm_abort("ibv_destroy_ah", "ah", "%u posted sends go by it", ah->n_used);
    vm_pd_of("ibv_destroy_ah", ibv->pd)->n_ahs--;
    verbs_model_counts.ahs_destroyed++;
    vm_object_kill(&ah->object);
    vm_unlock();
    return 0;
}

static bool is_ipv4(const union ibv_gid *gid)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(gid->raw, prefix, sizeof(prefix)) == 0;
}

static uint16_t ip_checksum(const uint8_t *h)
{
    uint32_t sum = 0;
    for (unsigned i = 0; i < 20; i += 2)
        sum += (uint32_t)h[i] << 8 | h[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* UDP 8, BTH 12, DETH 8, immediate data, payload to a multiple of four, ICRC. */
static uint32_t udp_len(const struct verbs_model_packet *p)
{
    return 8 + 12 + 8 + (p->has_imm ? 4 : 0) + ((p->len + 3) & ~3u) + 4;
}

static void grh_build(const struct verbs_model_packet *p, uint8_t out[40])
{
    memset(out, VERBS_MODEL_POISON, 40);
    if (!p->has_grh)
        return;
    if (!p->to->is_ib && is_ipv4(&p->dgid)) {
        uint8_t *h = out + 20;
        memset(h, 0, 20);
        h[0] = 0x45;
        h[1] = p->traffic_class;
        put16(h + 2, 20 + udp_len(p));
        h[6] = 0x40;
        h[8] = p->hop_limit;
        h[9] = UDP_PROTOCOL;
        memcpy(h + 12, p->sgid.raw + 12, 4);
        memcpy(h + 16, p->dgid.raw + 12, 4);
        put16(h + 10, ip_checksum(h));
        return;
    }
    uint32_t first = 6u << 28 | (uint32_t)p->traffic_class << 20 | p->flow_label;
    put16(out, first >> 16);
    put16(out + 2, first);
    put16(out + 4, p->to->is_ib ? udp_len(p) - 8 : udp_len(p));
    out[6] = p->to->is_ib ? IB_GRH_NEXT : UDP_PROTOCOL;
    out[7] = p->hop_limit;
    memcpy(out + 8, p->sgid.raw, 16);
    memcpy(out + 24, p->dgid.raw, 16);
}

static struct vm_qp *qp_find(const struct verbs_model_packet *p)
{
    struct vm_qp *qp = vm_qps[VM_QPN_SLOT(p->dst_qpn)];
    if (qp == NULL || qp->ex.qp_base.qp_num != p->dst_qpn)
        return NULL;
    unsigned device = (unsigned)(p->to - verbs_model.devices);
    return qp->ex.qp_base.context->device == &vm_devices[device].ibv ? qp : NULL;
}

bool vm_wire_deliver(const struct verbs_model_packet *p)
{
    if (p->to == NULL || p->to->port_state != IBV_PORT_ACTIVE) {
        verbs_model_counts.no_port++;
        return false;
    }
    if (p->len > 128u << p->to->active_mtu) {
        verbs_model_counts.too_big++;
        return false;
    }
    struct vm_qp *qp = qp_find(p);
    if (qp == NULL) {
        verbs_model_counts.bad_qpn++;
        return false;
    }
    enum ibv_qp_state state = qp->ex.qp_base.state;
    if (state < IBV_QPS_RTR || state == IBV_QPS_ERR) {
        verbs_model_counts.not_ready++;
        return false;
    }
    if (p->qkey != qp->qkey) {
        verbs_model_counts.bad_qkey++;
        return false;
    }
    if (qp->rq_done == qp->rq_posted) {
        verbs_model_counts.no_recv++;
        return false;
    }
    struct vm_recv *recv = &qp->rq[qp->rq_done % qp->cap.max_recv_wr];
    struct ibv_wc wc = {.opcode = IBV_WC_RECV,
                        .byte_len = 40 + p->len,
                        .imm_data = p->imm,
                        .src_qp = p->src_qpn,
                        .wc_flags =
                            (p->has_grh ? IBV_WC_GRH : 0u) | (p->has_imm ? IBV_WC_WITH_IMM : 0u),
                        .slid = p->to->is_ib ? p->slid : 0,
                        .sl = p->sl};
    vm_recv_check(qp, recv);
    if (wc.byte_len > recv->len) {
        wc = (struct ibv_wc){.status = IBV_WC_LOC_LEN_ERR, .vendor_err = 0xf9};
        vm_recv_complete(qp, &wc, false);
        qp->ex.qp_base.state = IBV_QPS_ERR;
        (void)vm_sends_run(qp, UINT32_MAX);
        vm_recvs_flush(qp);
        return true;
    }
    uint8_t grh[40];
    grh_build(p, grh);
    vm_recv_write(recv, 0, grh, sizeof(grh));
    vm_recv_write(recv, sizeof(grh), p->data, p->len);
    verbs_model_counts.delivered++;
    verbs_model_counts.delivered_bytes += p->len;
    vm_recv_complete(qp, &wc, p->solicited);
    return true;
}

/* The device whose port has the packet's destination address. */
static const struct verbs_model_device *destination_find(const struct verbs_model_packet *p)
{
    for (unsigned i = 0; i < verbs_model.n_devices; i++) {
        const struct verbs_model_device *d = &verbs_model.devices[i];
        if (d->is_ib != p->from->is_ib)
            continue;
        if (d->is_ib && d->lid == p->dlid)
            return d;
        for (unsigned k = 0; k < VERBS_MODEL_GIDS && !d->is_ib; k++) {
            if (memcmp(&d->gids[k].gid, &p->dgid, sizeof(p->dgid)) == 0)
                return d;
        }
    }
    return NULL;
}

static void late_pass(void)
{
    for (unsigned i = 0; i < MAX_LATE && n_late > 0; i++) {
        if (late[i].left == 0 || --late[i].left > 0)
            continue;
        n_late--;
        (void)vm_wire_deliver(&late[i].packet);
    }
}

static bool late_keep(const struct verbs_model_packet *p)
{
    for (unsigned i = 0; i < MAX_LATE; i++) {
        if (late[i].left > 0)
            continue;
        late[i].left = 1 + (unsigned)(vm_random() % LATE_BY);
        late[i].packet = *p;
        n_late++;
        n_idle = 0;
        return true;
    }
    return false;
}

void vm_wire_send(struct verbs_model_packet *p)
{
    p->to = destination_find(p);
    if (vm_percent(verbs_model.ce))
        p->traffic_class |= 3;
    if (verbs_model.filter != NULL && !verbs_model.filter(verbs_model.filter_arg, p)) {
        verbs_model_counts.filtered++;
        return;
    }
    if (vm_percent(verbs_model.loss)) {
        verbs_model_counts.lost++;
        return;
    }
    if (vm_percent(verbs_model.late) && late_keep(p))
        return;
    (void)vm_wire_deliver(p);
    if (vm_percent(verbs_model.duplicates)) {
        verbs_model_counts.duplicated++;
        (void)vm_wire_deliver(p);
    }
    late_pass();
}

void vm_wire_flush(void)
{
    for (unsigned i = 0; i < MAX_LATE && n_late > 0; i++) {
        if (late[i].left == 0)
            continue;
        late[i].left = 0;
        n_late--;
        (void)vm_wire_deliver(&late[i].packet);
    }
}

void vm_wire_idle(void)
{
    if (n_late > 0 && ++n_idle >= IDLE_POLLS)
        vm_wire_flush();
}

void vm_wire_reset(void)
{
    for (unsigned i = 0; i < MAX_LATE; i++)
        late[i].left = 0;
    n_late = 0;
    n_idle = 0;
}

bool verbs_model_inject(const struct verbs_model_packet *packet)
{
    vm_lock();
    verbs_model_counts.injected++;
    bool taken = vm_wire_deliver(packet);
    vm_unlock();
    return taken;
}
