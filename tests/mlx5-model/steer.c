/* Rules for received frames. Both kinds, ibv_create_flow and mlx5dv matchers, become a mask and a
 * value over the device's own match buffer, as in the kernel. Of the rules that match, the one with
 * the smallest priority and then the oldest gets the frame, and with it all equal rules, which the
 * kernel makes one with several ends; without one it would be the kernel's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { OUTER = 64, MATCH_LEN = 512, TCP = 6, UDP = 17 };

struct mlx5dv_flow_matcher {
    uint32_t kind;
    struct ibv_context *ctx;
    uint16_t priority;
    uint8_t mask[OUTER];
    unsigned n_flows;
};

struct flow {
    struct ibv_flow ibv;
    uint32_t kind;
    struct mm_qp *qp;
    struct mlx5dv_flow_matcher *matcher;
    uint16_t priority;
    uint8_t mask[OUTER], value[OUTER];
    struct flow *next;
};

static struct flow *flows; /* in the order in which they are asked */
static unsigned n_flows;

static struct ibv_flow *flow_add(struct flow *new)
{
    struct flow *f = calloc(1, sizeof(*f));
    if (f == NULL)
        mm_die("model", "out of memory");
    *f = *new;
    f->kind = MM_FLOW;
    f->ibv.context = f->qp->ex.qp_base.context;
    f->ibv.handle = (uint32_t)mm_random();
    struct flow **at = &flows;
    while (*at != NULL && (*at)->priority <= f->priority)
        at = &(*at)->next;
    f->next = *at;
    *at = f;
    f->qp->n_flows++;
    n_flows++;
    return &f->ibv;
}

/* A part of a rule: bytes of network order to the place of a field. */
static void part_put(struct flow *f, enum mm_field field, const void *value, const void *mask)
{
    size_t len = mm_fields[field].width / 8;
    uint64_t v = 0, m = 0;
    for (size_t i = 0; i < len; i++) {
        m = m << 8 | ((const uint8_t *)mask)[i];
        v = v << 8 | (((const uint8_t *)value)[i] & ((const uint8_t *)mask)[i]);
    }
    if (m == 0)
        return;
    mm_set(f->mask, field, m);
    mm_set(f->value, field, v);
}

static void whole_put(struct flow *f, enum mm_field field, uint64_t value)
{
    mm_set(f->mask, field, UINT64_MAX);
    mm_set(f->value, field, value);
}

static bool eth_add(struct flow *f, const struct ibv_flow_spec_eth *s)
{
    if (s->mask.vlan_tag != 0)
        return mm_complain("flow_spec_eth.vlan_tag", "is not modelled");
    part_put(f, MM_FTE_DMAC_HI, s->val.dst_mac, s->mask.dst_mac);
    part_put(f, MM_FTE_DMAC_LO, s->val.dst_mac + 4, s->mask.dst_mac + 4);
    part_put(f, MM_FTE_SMAC_HI, s->val.src_mac, s->mask.src_mac);
    part_put(f, MM_FTE_SMAC_LO, s->val.src_mac + 4, s->mask.src_mac + 4);
    part_put(f, MM_FTE_ETHERTYPE, &s->val.ether_type, &s->mask.ether_type);
    return true;
}

static void ipv4_add(struct flow *f, const struct ibv_flow_ipv4_ext_filter *v,
                     const struct ibv_flow_ipv4_ext_filter *m)
{
    uint8_t value[16] = {0}, mask[16] = {0};
    whole_put(f, MM_FTE_ETHERTYPE, 0x0800);
    memcpy(value + 12, &v->src_ip, 4);
    memcpy(mask + 12, &m->src_ip, 4);
    part_put(f, MM_FTE_SRC_LO, value + 8, mask + 8);
    memcpy(value + 12, &v->dst_ip, 4);
    memcpy(mask + 12, &m->dst_ip, 4);
    part_put(f, MM_FTE_DST_LO, value + 8, mask + 8);
    part_put(f, MM_FTE_IP_PROTOCOL, &v->proto, &m->proto);
}

static void ipv6_add(struct flow *f, const struct ibv_flow_spec_ipv6 *s)
{
    whole_put(f, MM_FTE_ETHERTYPE, 0x86dd);
    part_put(f, MM_FTE_SRC_HI, s->val.src_ip, s->mask.src_ip);
    part_put(f, MM_FTE_SRC_LO, s->val.src_ip + 8, s->mask.src_ip + 8);
    part_put(f, MM_FTE_DST_HI, s->val.dst_ip, s->mask.dst_ip);
    part_put(f, MM_FTE_DST_LO, s->val.dst_ip + 8, s->mask.dst_ip + 8);
    part_put(f, MM_FTE_IP_PROTOCOL, &s->val.next_hdr, &s->mask.next_hdr);
}

static bool spec_add(struct flow *f, const struct ibv_flow_spec *s)
{
    static const struct {
        enum ibv_flow_spec_type type;
        size_t size;
    } sizes[] = {
        {IBV_FLOW_SPEC_ETH, sizeof(struct ibv_flow_spec_eth)},
        {IBV_FLOW_SPEC_IPV4, sizeof(struct ibv_flow_spec_ipv4)},
        {IBV_FLOW_SPEC_IPV4_EXT, sizeof(struct ibv_flow_spec_ipv4_ext)},
        {IBV_FLOW_SPEC_IPV6, sizeof(struct ibv_flow_spec_ipv6)},
        {IBV_FLOW_SPEC_UDP, sizeof(struct ibv_flow_spec_tcp_udp)},
        {IBV_FLOW_SPEC_TCP, sizeof(struct ibv_flow_spec_tcp_udp)},
    };
    unsigned i = 0;
    while (i < sizeof(sizes) / sizeof(sizes[0]) && sizes[i].type != s->hdr.type)
        i++;
    if (i == sizeof(sizes) / sizeof(sizes[0]))
        return mm_complain("flow_spec.type", "0x%x is not modelled", s->hdr.type);
    if (s->hdr.size != sizes[i].size)
        return mm_complain("flow_spec.size", "%u, type 0x%x has %zu", s->hdr.size, s->hdr.type,
                           sizes[i].size);
    switch (s->hdr.type) {
    case IBV_FLOW_SPEC_ETH:
        return eth_add(f, &s->eth);
    case IBV_FLOW_SPEC_IPV4: {
        struct ibv_flow_ipv4_ext_filter v = {s->ipv4.val.src_ip, s->ipv4.val.dst_ip, 0, 0, 0, 0};
        struct ibv_flow_ipv4_ext_filter m = {s->ipv4.mask.src_ip, s->ipv4.mask.dst_ip, 0, 0, 0, 0};
        ipv4_add(f, &v, &m);
        return true;
    }
    case IBV_FLOW_SPEC_IPV4_EXT:
        if (s->ipv4_ext.mask.tos != 0 || s->ipv4_ext.mask.ttl != 0 || s->ipv4_ext.mask.flags != 0)
            return mm_complain("flow_spec_ipv4_ext.mask", "tos, ttl and flags are not modelled");
        ipv4_add(f, &s->ipv4_ext.val, &s->ipv4_ext.mask);
        return true;
    case IBV_FLOW_SPEC_IPV6:
        if (s->ipv6.mask.flow_label != 0 || s->ipv6.mask.traffic_class != 0 ||
            s->ipv6.mask.hop_limit != 0)
            return mm_complain("flow_spec_ipv6.mask",
                               "flow_label, traffic_class and hop_limit are not modelled");
        ipv6_add(f, &s->ipv6);
        return true;
    default: {
        bool udp = s->hdr.type == IBV_FLOW_SPEC_UDP;
        whole_put(f, MM_FTE_IP_PROTOCOL, udp ? UDP : TCP);
        part_put(f, udp ? MM_FTE_UDP_SPORT : MM_FTE_TCP_SPORT, &s->tcp_udp.val.src_port,
                 &s->tcp_udp.mask.src_port);
        part_put(f, udp ? MM_FTE_UDP_DPORT : MM_FTE_TCP_DPORT, &s->tcp_udp.val.dst_port,
                 &s->tcp_udp.mask.dst_port);
        return true;
    }
    }
}

static bool attr_add(struct flow *f, const struct ibv_flow_attr *attr)
{
    if (attr->comp_mask != 0 || attr->flags & ~(uint32_t)IBV_FLOW_ATTR_FLAGS_DONT_TRAP)
        return mm_complain("flow_attr.flags", "0x%x, comp_mask 0x%x", attr->flags, attr->comp_mask);
    if (attr->type != IBV_FLOW_ATTR_NORMAL)
        return mm_complain("flow_attr.type", "%d is not modelled", attr->type);
    if (attr->port != 1)
        return mm_complain("flow_attr.port", "%u", attr->port);
    if (attr->num_of_specs == 0)
        return mm_complain("flow_attr.num_of_specs", "0");
    const uint8_t *at = (const uint8_t *)(attr + 1);
    size_t size = sizeof(*attr);
    uint32_t layer = 0;
    for (unsigned i = 0; i < attr->num_of_specs; i++) {
        const struct ibv_flow_spec *s = (const void *)at;
        if (s->hdr.type >> 4 <= layer)
            return mm_complain("flow_spec.type", "0x%x: layers go from the outside in",
                               s->hdr.type);
        layer = s->hdr.type >> 4;
        if (!spec_add(f, s))
            return false;
        at += s->hdr.size;
        size += s->hdr.size;
    }
    /* libibverbs passes the size on to the kernel, which compares it. */
    if (attr->size != size)
        return mm_complain("flow_attr.size", "%u, header and parts have %zu", attr->size, size);
    return true;
}

struct ibv_flow *mm_op_create_flow(struct ibv_qp *ibv, struct ibv_flow_attr *attr)
{
    mm_enter();
    struct ibv_flow *out = NULL;
    struct flow f = {.qp = mm_qp_of("ibv_create_flow", ibv), .priority = attr->priority};
    errno = f.qp->dev->is_gone ? EIO : (int)mm_config()->flow_error;
    if (errno == 0 && n_flows == MM_MAX_FLOWS)
        errno = ENOMEM;
    if (errno == 0 && !attr_add(&f, attr))
        errno = EINVAL;
    if (errno == 0)
        out = flow_add(&f);
    int e = errno;
    mm_leave();
    errno = e;
    return out;
}

int mm_op_destroy_flow(struct ibv_flow *ibv)
{
    mm_enter();
    struct flow *f = MM_CONTAINER(ibv, struct flow, ibv);
    if (f->kind != MM_FLOW)
        mm_die("ibv_destroy_flow", "rule: destroyed before");
    struct flow **at = &flows;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    f->qp->n_flows--;
    if (f->matcher != NULL)
        f->matcher->n_flows--;
    n_flows--;
    f->kind = MM_DEAD;
    mm_bury(f);
    mm_leave();
    return 0;
}

static bool match_fits(const struct mlx5dv_flow_match_parameters *p, const char *what)
{
    static const uint8_t zero[MATCH_LEN];
    const uint8_t *b = (const uint8_t *)p->match_buf;
    if (p->match_sz != MATCH_LEN && p->match_sz != OUTER)
        return mm_complain("match_parameters.match_sz", "%zu of the %s", p->match_sz, what);
    if (p->match_sz > OUTER && memcmp(b + OUTER, zero, p->match_sz - OUTER) != 0)
        return mm_complain("match_parameters.match_buf", "beyond the outer headers of the %s",
                           what);
    int bit = mm_reserved_bit(MM_FTE, b, OUTER);
    if (bit >= 0)
        return mm_complain("match_parameters.match_buf", "bit 0x%x of the %s is not modelled",
                           (unsigned)bit, what);
    return true;
}

struct mlx5dv_flow_matcher *mlx5dv_create_flow_matcher(struct ibv_context *ctx,
                                                       struct mlx5dv_flow_matcher_attr *attr)
{
    mm_enter();
    struct mm_ctx *c = mm_ctx_of("mlx5dv_create_flow_matcher", ctx);
    struct mlx5dv_flow_matcher *m = NULL;
    errno = c->dev->is_gone ? EIO : (int)mm_config()->flow_error;
    if (errno == 0 && (attr->type != IBV_FLOW_ATTR_NORMAL || attr->flags != 0 ||
                       attr->match_criteria_enable != 1 || attr->comp_mask != 0 ||
                       !match_fits(attr->match_mask, "mask"))) {
        mm_complain("flow_matcher_attr", "type %d, flags 0x%x, criteria 0x%x", attr->type,
                    attr->flags, attr->match_criteria_enable);
        errno = EINVAL;
    }
    if (errno == 0) {
        m = calloc(1, sizeof(*m));
        if (m == NULL)
            mm_die("model", "out of memory");
        m->kind = MM_MATCHER;
        m->ctx = ctx;
        m->priority = attr->priority;
        memcpy(m->mask, attr->match_mask->match_buf, OUTER);
    }
    mm_leave();
    return m;
}

int mlx5dv_destroy_flow_matcher(struct mlx5dv_flow_matcher *m)
{
    mm_enter();
    int r = 0;
    if (m->kind != MM_MATCHER)
        mm_die("mlx5dv_destroy_flow_matcher", "matcher: destroyed before");
    if (m->n_flows > 0) {
        mm_complain("flow_matcher", "destroyed with %u rules", m->n_flows);
        r = EBUSY;
    } else {
        m->kind = MM_DEAD;
        mm_bury(m);
    }
    mm_leave();
    return r;
}

struct ibv_flow *mlx5dv_create_flow(struct mlx5dv_flow_matcher *m,
                                    struct mlx5dv_flow_match_parameters *value, size_t n_actions,
                                    struct mlx5dv_flow_action_attr *actions)
{
    mm_enter();
    struct ibv_flow *out = NULL;
    errno = (int)mm_config()->flow_error;
    if (m->kind != MM_MATCHER)
        mm_die("mlx5dv_create_flow", "matcher: destroyed");
    if (errno == 0 && (n_actions != 1 || actions[0].type != MLX5DV_FLOW_ACTION_DEST_IBV_QP)) {
        mm_complain("flow_action_attr.type", "only one, to a queue pair, is modelled");
        errno = EINVAL;
    }
    if (errno == 0 && !match_fits(value, "value"))
        errno = EINVAL;
    if (errno == 0) {
        struct flow f = {.qp = mm_qp_of("mlx5dv_create_flow", actions[0].qp),
                         .matcher = m,
                         .priority = m->priority};
        memcpy(f.mask, m->mask, OUTER);
        memcpy(f.value, value->match_buf, OUTER);
        for (unsigned i = 0; i < OUTER; i++)
            f.value[i] &= f.mask[i];
        m->n_flows++;
        out = flow_add(&f);
    }
    int e = errno;
    mm_leave();
    errno = e;
    return out;
}

/* The match buffer of a frame: what hardware parses of it. */
static void frame_parse(const uint8_t *b, uint32_t len, uint8_t *fte)
{
    memset(fte, 0, OUTER);
    if (len < 14)
        return;
    memcpy(fte + 8, b, 4);
    memcpy(fte + 12, b + 4, 2);
    memcpy(fte, b + 6, 4);
    memcpy(fte + 4, b + 10, 2);
    memcpy(fte + 6, b + 12, 2);
    uint32_t l4 = 0;
    uint8_t protocol = 0, tos = 0;
    if (b[12] == 8 && b[13] == 0 && len >= 34 && b[14] >> 4 == 4) {
        bool first = (b[20] & 0x3f) == 0 && b[21] == 0;
        l4 = first ? 14 + 4 * (b[14] & 15u) : 0;
        protocol = b[23];
        tos = b[15];
        memcpy(fte + 0x2c, b + 26, 4);
        memcpy(fte + 0x3c, b + 30, 4);
        mm_set(fte, MM_FTE_IP_VERSION, 4);
        mm_set(fte, MM_FTE_FRAG, !first);
    } else if (b[12] == 0x86 && b[13] == 0xdd && len >= 54 && b[14] >> 4 == 6) {
        l4 = 54;
        protocol = b[20];
        tos = (uint8_t)(b[14] << 4 | b[15] >> 4);
        memcpy(fte + 0x20, b + 22, 16);
        memcpy(fte + 0x30, b + 38, 16);
        mm_set(fte, MM_FTE_IP_VERSION, 6);
    } else {
        return;
    }
    fte[0x10] = protocol;
    mm_set(fte, MM_FTE_IP_DSCP, tos >> 2);
    mm_set(fte, MM_FTE_IP_ECN, tos & 3);
    if (l4 != 0 && l4 + 4 <= len && protocol == UDP)
        memcpy(fte + 0x1c, b + l4, 4);
    if (l4 != 0 && l4 + 4 <= len && protocol == TCP)
        memcpy(fte + 0x14, b + l4, 4);
}

static bool is_hit(const struct flow *f, const uint8_t *fte)
{
    for (unsigned i = 0; i < OUTER; i++) {
        if ((fte[i] & f->mask[i]) != f->value[i])
            return false;
    }
    return true;
}

/* Whether IPv4's own and UDP's or TCP's checksum are right: what a completion says of a frame. */
static bool sums_right(const uint8_t *b, uint32_t len)
{
    if (len < 42 || b[12] != 8 || b[13] != 0)
        return false;
    uint32_t l4 = 14 + 4 * (b[14] & 15u), total = (uint32_t)b[16] << 8 | b[17];
    if (mm_fold(mm_sum(0, b + 14, l4 - 14)) != 0xffff || total + 14 > len || total + 14 < l4)
        return false;
    uint32_t l4_len = total + 14 - l4;
    if (b[23] != UDP && b[23] != TCP)
        return false;
    if (b[23] == UDP && b[l4 + 6] == 0 && b[l4 + 7] == 0)
        return true;
    uint32_t sum = mm_sum(0, b + 26, 8) + b[23] + l4_len;
    return mm_fold(mm_sum(mm_fold(sum), b + l4, l4_len)) == 0xffff;
}

static void receive(struct mm_qp *qp, const uint8_t *b, uint32_t len)
{
    const struct mm_recv *rx = &qp->recvs[qp->first_recv];
    struct mm_cqe e = {.wc = {.wr_id = rx->wr_id,
                              .status = IBV_WC_SUCCESS,
                              .opcode = IBV_WC_RECV,
                              .byte_len = len,
                              .qp_num = qp->sqn,
                              .wc_flags = sums_right(b, len) ? IBV_WC_IP_CSUM_OK : 0},
                       .qp = qp};
    uint32_t done = 0;
    for (unsigned i = 0; i < rx->n_sge && done < len && e.wc.status == IBV_WC_SUCCESS; i++) {
        uint32_t n = len - done < rx->sge[i].length ? len - done : rx->sge[i].length;
        void *to = mm_mr_bytes(qp->pd, rx->sge[i].lkey, rx->sge[i].addr, rx->sge[i].length,
                               IBV_ACCESS_LOCAL_WRITE);
        if (to == NULL)
            e.wc.status = IBV_WC_LOC_PROT_ERR;
        else
            memcpy(to, b + done, n);
        done += n;
    }
    if (e.wc.status == IBV_WC_SUCCESS && done < len)
        e.wc.status = IBV_WC_LOC_LEN_ERR;
    qp->first_recv = (qp->first_recv + 1) % qp->cap.max_recv_wr;
    qp->n_recvs--;
    mm_stats.frames_received++;
    mm_cq_push(qp->recv_cq, &e);
    if (e.wc.status != IBV_WC_SUCCESS) {
        qp->state = IBV_QPS_ERR;
        mm_rq_flush(qp);
    }
}

static bool takes_frames(const struct mm_qp *qp)
{
    return (qp->state == IBV_QPS_RTR || qp->state == IBV_QPS_RTS) && qp->cap.max_recv_wr > 0;
}

static bool is_same_rule(const struct flow *a, const struct flow *b)
{
    return a->qp->dev == b->qp->dev && a->priority == b->priority &&
           memcmp(a->mask, b->mask, OUTER) == 0 && memcmp(a->value, b->value, OUTER) == 0;
}

bool mm_steer_frame(struct mm_dev *dev, const uint8_t *frame, uint32_t len)
{
    uint8_t fte[OUTER];
    frame_parse(frame, len, fte);
    struct flow *first = flows;
    while (first != NULL && !(first->qp->dev == dev && is_hit(first, fte)))
        first = first->next;
    if (!dev->is_up)
        first = NULL;
    unsigned n = 0;
    for (struct flow *f = first; f != NULL; f = f->next) {
        bool takes = is_same_rule(f, first) && takes_frames(f->qp);
        if (takes && f->qp->n_recvs == 0 && !mm_config()->rq_drop)
            return false; /* and so all wait, as with PAUSE */
        n += takes;
    }
    mm_stats.frames_unmatched += n == 0;
    for (struct flow *f = first; f != NULL; f = f->next) {
        if (!is_same_rule(f, first) || !takes_frames(f->qp))
            continue;
        if (f->qp->n_recvs == 0)
            mm_stats.frames_no_buffer++;
        else
            receive(f->qp, frame, len);
    }
    return true;
}
