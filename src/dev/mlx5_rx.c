/* Receiving: rules steer our UDP port and protocol 254 of our addresses, or the IP protocol of
 * another profile, to the queue pair, before the kernel sees them; frames lie in a ring of buffers
 * that go back in lots, in the order in which they were posted.
 *
 * NICs see no ports without UDP, so the rule of an IP protocol takes all that comes for our
 * address. Of several endpoints there each gets a copy of everything (equal rules are one with many
 * ends) and passes over what is for the others. Addresses that come or go later are followed. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "dev/machine.h"
#include "dev/mlx5.h"

enum {
    DEPTH = 2048,
    DEPTH_MIN = 64,
    LINE = 64,
    FRAME_EXTRA = SMT_MLX5_ETH_LEN + 4, /* a tag that is not ours still has to fit */
    LOOK_EVERY = 128,
    TICK_MS = 4,
    ETHERTYPE_IPV4 = 0x0800,
    ETHERTYPE_IPV6 = 0x86dd,
};

static int fail_memory(const struct smt_dev_config *config)
{
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                        "no memory for the packets of an mlx5 device");
}

static uint32_t depth_choose(const struct smt_mlx5 *d, uint32_t bytes)
{
    uint32_t depth = DEPTH;
    uint32_t most = (uint32_t)d->port.attr.orig_attr.max_qp_wr;
    while (depth > DEPTH_MIN && (depth > most || (bytes > 0 && (uint64_t)depth * d->mtu > bytes)))
        depth /= 2;
    return depth;
}

int smt_mlx5_rx_init(struct smt_mlx5 *d, const struct smt_dev_config *config)
{
    struct smt_mlx5_rx *rx = &d->rx;
    rx->depth = depth_choose(d, config->rx_buffer_len);
    rx->stride = (d->mtu + FRAME_EXTRA + LINE - 1) & ~(uint32_t)(LINE - 1);
    rx->mem_len = (size_t)rx->depth * rx->stride;
    rx->mem = smt_mem_map_huge(&rx->mem_len, true);
    rx->wrs = smt_mem_block(rx->depth * sizeof(*rx->wrs));
    rx->sges = smt_mem_block(rx->depth * sizeof(*rx->sges));
    if (rx->mem == NULL || rx->wrs == NULL || rx->sges == NULL)
        return fail_memory(config);
    rx->mr = ibv_reg_mr(d->pd, rx->mem, rx->mem_len, IBV_ACCESS_LOCAL_WRITE);
    if (rx->mr == NULL)
        return smt_mlx5_fail_create(d, config, "memory region", -errno);
    for (uint32_t i = 0; i < rx->depth; i++) {
        rx->sges[i] = (struct ibv_sge){.addr = (uintptr_t)(rx->mem + (size_t)i * rx->stride),
                                       .length = rx->stride,
                                       .lkey = rx->mr->lkey};
        rx->wrs[i] = (struct ibv_recv_wr){
            .next = &rx->wrs[(i + 1) & (rx->depth - 1)], .sg_list = &rx->sges[i], .num_sge = 1};
    }
    rx->cq = ibv_create_cq(d->port.ctx, (int)rx->depth, NULL, d->channel, 0);
    return rx->cq == NULL ? smt_mlx5_fail_create(d, config, "completion queue", -errno) : 0;
}

/* ---- rules ---- */

/* The attribute, and its specifications one behind the other. */
struct rule {
    union {
        struct ibv_flow_attr attr;
        uint8_t bytes[256];
    };
};

static void spec_add(struct rule *r, const void *spec, size_t len)
{
    assert(r->attr.size + len <= sizeof(r->bytes));
    memcpy(r->bytes + r->attr.size, spec, len);
    r->attr.size += (uint16_t)len;
    r->attr.num_of_specs++;
}

static void rule_begin(const struct smt_mlx5 *d, struct rule *r, uint16_t ethertype)
{
    *r = (struct rule){
        .attr = {.type = IBV_FLOW_ATTR_NORMAL, .size = sizeof(struct ibv_flow_attr), .port = 1}};
    struct ibv_flow_spec_eth eth = {.type = IBV_FLOW_SPEC_ETH, .size = sizeof(eth)};
    memcpy(eth.val.dst_mac, d->port.link.mac, 6);
    memset(eth.mask.dst_mac, 0xff, 6);
    smt_put_be16(&eth.val.ether_type, ethertype);
    eth.mask.ether_type = 0xffff;
    spec_add(r, &eth, sizeof(eth));
}

static struct ibv_flow *rule_set(struct smt_mlx5 *d, struct rule *r)
{
    return ibv_create_flow(d->tx.sq.qp, &r->attr);
}

/* UDP to our port at this address. */
static struct ibv_flow *udp_rule_set(struct smt_mlx5 *d, const struct smt_addr *addr, uint16_t port)
{
    struct rule r;
    bool is_ipv4 = smt_addr_is_ipv4(addr);
    rule_begin(d, &r, is_ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6);
    if (is_ipv4) {
        struct ibv_flow_spec_ipv4 ip = {.type = IBV_FLOW_SPEC_IPV4, .size = sizeof(ip)};
        memcpy(&ip.val.dst_ip, addr->ip + 12, 4);
        ip.mask.dst_ip = 0xffffffff;
        spec_add(&r, &ip, sizeof(ip));
    } else {
        struct ibv_flow_spec_ipv6 ip = {.type = IBV_FLOW_SPEC_IPV6, .size = sizeof(ip)};
        memcpy(ip.val.dst_ip, addr->ip, 16);
        memset(ip.mask.dst_ip, 0xff, 16);
        spec_add(&r, &ip, sizeof(ip));
    }
    struct ibv_flow_spec_tcp_udp udp = {.type = IBV_FLOW_SPEC_UDP, .size = sizeof(udp)};
    smt_put_be16(&udp.val.dst_port, port);
    udp.mask.dst_port = 0xffff;
    spec_add(&r, &udp, sizeof(udp));
    return rule_set(d, &r);
}

/* An IP protocol to this address. */
static struct ibv_flow *raw_rule_set(struct smt_mlx5 *d, const struct smt_addr *addr,
                                     uint8_t protocol)
{
    struct rule r;
    if (smt_addr_is_ipv4(addr)) {
        struct ibv_flow_spec_ipv4_ext ip = {.type = IBV_FLOW_SPEC_IPV4_EXT, .size = sizeof(ip)};
        memcpy(&ip.val.dst_ip, addr->ip + 12, 4);
        ip.mask.dst_ip = 0xffffffff;
        ip.val.proto = protocol;
        ip.mask.proto = 0xff;
        rule_begin(d, &r, ETHERTYPE_IPV4);
        spec_add(&r, &ip, sizeof(ip));
    } else {
        struct ibv_flow_spec_ipv6 ip = {.type = IBV_FLOW_SPEC_IPV6, .size = sizeof(ip)};
        memcpy(ip.val.dst_ip, addr->ip, 16);
        memset(ip.mask.dst_ip, 0xff, 16);
        ip.val.next_hdr = protocol;
        ip.mask.next_hdr = 0xff;
        rule_begin(d, &r, ETHERTYPE_IPV6);
        spec_add(&r, &ip, sizeof(ip));
    }
    return rule_set(d, &r);
}

static void rules_end(struct smt_mlx5 *d, uint32_t i)
{
    struct ibv_flow **flows = d->rx.flows[i];
    for (unsigned k = 0; k < SMT_ARRAY_LEN(d->rx.flows[i]); k++) {
        if (flows[k] != NULL)
            (void)ibv_destroy_flow(flows[k]);
        flows[k] = NULL;
    }
}

/* Those of one of our addresses: all or, with errno, none. */
static bool rules_set(struct smt_mlx5 *d, uint32_t i)
{
    const struct smt_addr *addr = &d->port.addrs[i];
    struct ibv_flow **flows = d->rx.flows[i];
    if (!smt_mlx5_is_udp(d))
        return (flows[0] = raw_rule_set(d, addr, d->by.protocol)) != NULL;
    flows[0] = udp_rule_set(d, addr, d->own_port);
    if (flows[0] == NULL)
        return false;
    if (!smt_addr_is_ipv4(addr))
        return true;
    flows[1] = raw_rule_set(d, addr, SMT_MLX5_PROTO_RAW);
    int error = errno;
    if (flows[1] == NULL)
        rules_end(d, i);
    errno = error;
    return flows[1] != NULL;
}

static int fail_rule(const struct smt_mlx5 *d, const struct smt_dev_config *config, int error)
{
    if (smt_mlx5_is_udp(d) || error == EPERM)
        return smt_mlx5_fail_create(d, config, "flow rule", -error);
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_EUNSUPPORTED,
                        "%s: no flow rule for IP protocol %u can be made (%s): use device \"ip\" "
                        "on %s for this profile",
                        d->port.devname, d->by.protocol, strerror(error), d->port.link.name);
}

int smt_mlx5_rx_start(struct smt_mlx5 *d, const struct smt_dev_config *config)
{
    if (smt_mlx5_rx_post_all(d) < 0)
        return smt_mlx5_fail_create(d, config, "receive queue", -EIO);
    for (uint32_t i = 0; i < d->port.n_addrs; i++) {
        if (!rules_set(d, i))
            return fail_rule(d, config, errno != 0 ? errno : EIO);
    }
    return 0;
}

void smt_mlx5_rx_stop(struct smt_mlx5 *d)
{
    for (uint32_t i = 0; i < SMT_MLX5_MAX_ADDRS; i++)
        rules_end(d, i);
}

static bool is_among(const struct smt_addr *a, const struct smt_addr *addrs, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && memcmp(a->ip, addrs[i].ip, sizeof(a->ip)) != 0)
        i++;
    return i < n;
}

void smt_mlx5_rx_follow(struct smt_mlx5 *d)
{
    struct smt_addr now[SMT_MLX5_MAX_ADDRS];
    struct smt_mlx5_port *port = &d->port;
    int got = smt_mlx5_port_addrs(port, now);
    if (got < 0)
        return;
    uint32_t n = (uint32_t)got;
    for (uint32_t i = port->n_addrs; i-- > 0;) {
        if (is_among(&port->addrs[i], now, n))
            continue;
        rules_end(d, i);
        uint32_t last = --port->n_addrs;
        port->addrs[i] = port->addrs[last];
        memcpy(d->rx.flows[i], d->rx.flows[last], sizeof(d->rx.flows[i]));
        memset(d->rx.flows[last], 0, sizeof(d->rx.flows[last]));
    }
    for (uint32_t i = 0; i < n && port->n_addrs < SMT_MLX5_MAX_ADDRS; i++) {
        if (is_among(&now[i], port->addrs, port->n_addrs))
            continue;
        /* Without a rule nothing would come back: then packets do not leave from it either. */
        port->addrs[port->n_addrs] = now[i];
        port->n_addrs += rules_set(d, port->n_addrs);
    }
}

void smt_mlx5_rx_fini(struct smt_mlx5 *d)
{
    struct smt_mlx5_rx *rx = &d->rx;
    if (rx->cq != NULL) {
        smt_verbs_watch_end(&d->watches[SMT_MLX5_WATCH_RX]);
        (void)ibv_destroy_cq(rx->cq);
    }
    if (rx->mr != NULL)
        (void)ibv_dereg_mr(rx->mr);
    if (rx->mem != NULL)
        smt_mem_unmap(rx->mem, rx->mem_len);
    if (rx->wrs != NULL)
        smt_mem_block_free(rx->wrs, rx->depth * sizeof(*rx->wrs));
    if (rx->sges != NULL)
        smt_mem_block_free(rx->sges, rx->depth * sizeof(*rx->sges));
}

/* ---- packets ---- */

static bool lots_post(struct smt_mlx5 *d, uint32_t n)
{
    struct smt_mlx5_rx *rx = &d->rx;
    struct ibv_recv_wr *first = &rx->wrs[rx->reposted & (rx->depth - 1)];
    struct ibv_recv_wr *end = &rx->wrs[(rx->reposted + n - 1) & (rx->depth - 1)];
    struct ibv_recv_wr *next = end->next, *bad;
    end->next = NULL;
    int r = ibv_post_recv(d->tx.sq.qp, first, &bad);
    end->next = next;
    rx->reposted += n;
    return r == 0;
}

int smt_mlx5_rx_post_all(void *arg)
{
    struct smt_mlx5 *d = arg;
    struct smt_mlx5_rx *rx = &d->rx;
    rx->life++;
    for (uint32_t i = 0; i < rx->depth; i++)
        rx->wrs[i].wr_id = (uint64_t)rx->life << 32 | i;
    rx->handed = rx->returned = rx->reposted = 0;
    if (!lots_post(d, rx->depth))
        return -EIO;
    rx->reposted = 0;
    return 0;
}

/* What was handed out before is nobody's any more. */
static void buffers_return(struct smt_mlx5 *d)
{
    struct smt_mlx5_rx *rx = &d->rx;
    rx->returned = rx->handed;
    uint32_t n = (rx->returned - rx->reposted) & ~(uint32_t)(SMT_MLX5_RX_LOT - 1);
    if (n > 0 && !d->tx.sq.is_suspect && SMT_UNLIKELY(!lots_post(d, n)))
        d->tx.sq.is_suspect = true;
}

/* One completion. False when it gives no packet. */
static bool packet_make(struct smt_mlx5 *d, const struct ibv_wc *wc, struct smt_addr *from,
                        struct smt_pkt *pkt)
{
    struct smt_mlx5_rx *rx = &d->rx;
    uint32_t slot = rx->handed & (rx->depth - 1);
    if (SMT_UNLIKELY(wc->wr_id != ((uint64_t)rx->life << 32 | slot))) {
        /* Out of step in this life: start anew. */
        d->tx.sq.is_suspect |= wc->wr_id >> 32 == rx->life;
        return false;
    }
    rx->handed++;
    struct smt_mlx5_frame f;
    if (SMT_UNLIKELY(wc->status != IBV_WC_SUCCESS)) {
        d->stats.rx_dropped++;
        d->tx.sq.is_suspect = true;
        return false;
    }
    uint8_t *frame = rx->mem + (size_t)slot * rx->stride;
    uint8_t raw = smt_mlx5_is_udp(d) ? SMT_MLX5_PROTO_RAW : d->by.protocol;
    if (SMT_UNLIKELY(!smt_mlx5_frame_parse(frame, wc->byte_len, raw, &f))) {
        d->stats.rx_dropped++;
        return false;
    }
    if (f.dport != d->own_port)
        return false; /* of another endpoint at our address */
    *from = f.from;
    if (SMT_UNLIKELY(from->ip[0] == 0xfe && (from->ip[1] & 0xc0) == 0x80))
        from->scope = d->port.link.ifindex;
    d->stats.rx_bytes += f.payload_len;
    *pkt = (struct smt_pkt){.data = f.payload,
                            .len = f.payload_len,
                            .ip_id = f.protocol == raw ? f.ip_id : 0,
                            .ecn = f.ecn,
                            .from = from};
    return true;
}

/* Takes completions when none are left to hand out. Are there any? */
static bool rx_fill(struct smt_mlx5 *d)
{
    struct smt_mlx5_rx *rx = &d->rx;
    if (rx->cur < rx->n)
        return true;
    int m = ibv_poll_cq(rx->cq, SMT_MLX5_RX_LOT, rx->wcs);
    if (SMT_UNLIKELY(m < 0))
        smt_mlx5_lose(d, "a completion queue of the mlx5 device cannot be read any more");
    rx->cur = 0;
    rx->n = m > 0 ? (uint32_t)m : 0;
    return rx->n > 0;
}

bool smt_mlx5_rx_is_waiting(struct smt_mlx5 *d)
{
    return rx_fill(d);
}

static void look_now_and_then(struct smt_mlx5 *d, bool is_idle)
{
    if (is_idle)
        d->now = smt_coarse_now();
    if (--d->countdown > 0 && d->now - d->looked_at < TICK_MS * SMT_MSEC)
        return;
    smt_mlx5_look(d);
    d->countdown = LOOK_EVERY;
}

static void rx_recover(struct smt_mlx5 *d)
{
    enum { MAX_RECOVERIES = 64 };
    smt_mlx5_tx_reap(d);
    /* So many without anything that went well in between. */
    uint64_t good = d->tx.sq.n_good + d->stats.rx_packets;
    if (good != d->recovered_at_good)
        d->n_recoveries = 0;
    d->recovered_at_good = good;
    if (d->n_recoveries++ >= MAX_RECOVERIES) {
        smt_mlx5_lose(d, "the queue pair of the mlx5 device fails again and again");
        return;
    }
    smt_mlx5_tx_forget(d);
    /* Frames that wait are lost with their buffers. */
    if (smt_mlx5_sq_reset(&d->tx.sq, NULL, NULL) < 0) {
        smt_mlx5_lose(d, "the queue pair of the mlx5 device cannot be made to work again");
        return;
    }
    do
        d->rx.cur = d->rx.n;
    while (rx_fill(d));
    if (smt_mlx5_rx_post_all(d) < 0)
        smt_mlx5_lose(d, "the mlx5 device takes no receive buffers any more");
}

int smt_mlx5_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_mlx5 *d = smt_mlx5_of(dev);
    d->stats.rx_calls++;
    buffers_return(d);
    if (SMT_UNLIKELY(d->tx.sq.is_suspect) && !d->is_lost)
        rx_recover(d);
    if (d->seal != NULL)
        smt_mlx5_seal_recover(d);
    if (n > SMT_DEV_RX_BATCH)
        n = SMT_DEV_RX_BATCH;
    unsigned got = 0;
    while (got < n && rx_fill(d)) {
        for (; d->rx.cur < d->rx.n && got < n; d->rx.cur++)
            got += packet_make(d, &d->rx.wcs[d->rx.cur], &d->rx.from[got], &pkts[got]);
        if (d->rx.n < SMT_MLX5_RX_LOT)
            break;
    }
    d->stats.rx_packets += got;
    d->stats.rx_frames += got;
    look_now_and_then(d, got == 0);
    return got == 0 && SMT_UNLIKELY(d->is_lost) ? SMT_EDEVICE : (int)got;
}
