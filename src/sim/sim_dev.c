/* A transport policy that is no transport: what a device reserved and flushed leaves the host in
 * that order, as fast as its link takes it; what comes waits until rx. Between stands a send queue
 * of fixed length, which is the back-pressure. */
#include "sim/sim_dev.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "dev/dev_impl.h"

enum { QUEUE_LEN = 256, PORT = 18515 };

struct queue {
    struct smt_net_pkt *first, *last;
    uint32_t n;
};

struct sim_dev {
    struct smt_dev base;
    struct smt_fabric *fabric;
    struct smt_net_host *host;
    struct queue reserved; /* filled by the user, not flushed */
    struct queue tx, rx;   /* flushed and waiting for the link; come and not taken */
    struct queue shown;    /* by the last rx */
    struct smt_net_pkt *last_reserved;
    bool is_last_nowhere; /* the last reservation lies in `nowhere` */
    bool is_last_too_big;
    bool is_refused;
    struct smt_dev_stats stats;
};

struct smt_fabric {
    struct smt_net *net;
    unsigned n_refs;
    struct sim_dev **devs;  /* by host */
    struct smt_addr *addrs; /* by host */
    uint8_t *nowhere;       /* where packets are written that go nowhere */
};

static void push(struct queue *q, struct smt_net_pkt *p)
{
    p->next = NULL;
    if (q->first == NULL)
        q->first = p;
    else
        q->last->next = p;
    q->last = p;
    q->n++;
}

static struct smt_net_pkt *pop(struct queue *q)
{
    struct smt_net_pkt *p = q->first;
    if (p == NULL)
        return NULL;
    q->first = p->next;
    q->n--;
    return p;
}

static void drop_all(struct smt_net *net, struct queue *q)
{
    struct smt_net_pkt *p;
    while ((p = pop(q)) != NULL)
        smt_net_pkt_free(net, p);
}

/* ---- the policy ---- */

static int fabric_open(struct smt_net *net, const struct smt_policy_config *config)
{
    return 0;
}

static void fabric_close(struct smt_net *net)
{
}

static void fabric_message(struct smt_net_host *h, struct smt_net_msg *m)
{
    smt_net_fatal("devices carry packets, not messages");
}

static void fabric_packet(struct smt_net_host *h, struct smt_net_pkt *p)
{
    struct sim_dev *d = h->state;
    if (d == NULL) {
        smt_net_pkt_free(h->net, p);
        return;
    }
    d->stats.rx_packets++;
    d->stats.rx_bytes += p->payload_len;
    push(&d->rx, p);
}

static struct smt_net_pkt *fabric_next(struct smt_net_host *h)
{
    struct sim_dev *d = h->state;
    return d != NULL ? pop(&d->tx) : NULL;
}

static const struct smt_policy fabric_policy = {
    .name = "dev",
    .text = "a device on every host",
    .levels = 8,
    .wants_data = true,
    .open = fabric_open,
    .close = fabric_close,
    .message = fabric_message,
    .packet = fabric_packet,
    .next = fabric_next,
};

/* ---- the device ---- */

static struct sim_dev *dev_of(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct sim_dev, base);
}

static bool is_full(const struct sim_dev *d)
{
    return d->reserved.n + d->tx.n >= QUEUE_LEN;
}

/* The host of an address; n_hosts when it is nobody's. */
static unsigned host_of(const struct smt_fabric *f, const struct smt_addr *to)
{
    unsigned host = smt_get_be16(to->ip + 14);
    return host < f->net->n_hosts && smt_addr_equal(&f->addrs[host], to) ? host : f->net->n_hosts;
}

static uint8_t *sim_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                               uint8_t prio)
{
    struct sim_dev *d = dev_of(dev);
    struct smt_fabric *f = d->fabric;
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    if (is_full(d)) {
        d->is_refused = true;
        d->stats.tx_full++;
        return NULL;
    }
    unsigned host = host_of(f, to);
    d->is_last_too_big = len > f->net->config.mtu;
    d->is_last_nowhere = d->is_last_too_big || host == f->net->n_hosts || host == d->host->number;
    if (d->is_last_nowhere) {
        *(d->is_last_too_big ? &d->stats.tx_too_big : &d->stats.tx_errors) += 1;
        return f->nowhere;
    }
    unsigned level = f->net->config.n_levels - 8 + prio;
    d->last_reserved = smt_net_pkt_new(d->host, host, (uint32_t)len, level);
    push(&d->reserved, d->last_reserved);
    return d->last_reserved->data;
}

static void sim_tx_unreserve(struct smt_dev *dev)
{
    struct sim_dev *d = dev_of(dev);
    if (d->is_last_nowhere) {
        *(d->is_last_too_big ? &d->stats.tx_too_big : &d->stats.tx_errors) -= 1;
        return;
    }
    assert(d->reserved.n > 0 && d->reserved.last == d->last_reserved);
    /* A list with one link a packet: its tail is found from the front. */
    struct smt_net_pkt *before = NULL;
    for (struct smt_net_pkt *p = d->reserved.first; p != d->last_reserved; p = p->next)
        before = p;
    if (before != NULL)
        before->next = NULL;
    else
        d->reserved.first = NULL;
    d->reserved.last = before;
    d->reserved.n--;
    smt_net_pkt_free(d->fabric->net, d->last_reserved);
    d->last_reserved = NULL;
}

static int sim_tx_flush(struct smt_dev *dev)
{
    struct sim_dev *d = dev_of(dev);
    struct smt_net_pkt *p;
    if (d->reserved.n > 0)
        d->stats.tx_calls++;
    while ((p = pop(&d->reserved)) != NULL) {
        d->stats.tx_packets++;
        d->stats.tx_frames++;
        d->stats.tx_bytes += p->payload_len;
        push(&d->tx, p);
    }
    smt_net_wake(d->host);
    if (d->is_refused && is_full(d))
        return SMT_EAGAIN;
    d->is_refused = false;
    return 0;
}

/* Until something has come for this device, or nothing is under way. */
static void wait_for_packet(struct sim_dev *d)
{
    while (d->rx.n == 0 && smt_des_step(&d->fabric->net->des, SMT_NEVER)) {
    }
}

static int sim_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct sim_dev *d = dev_of(dev);
    drop_all(d->fabric->net, &d->shown);
    wait_for_packet(d);
    unsigned got = 0;
    struct smt_net_pkt *p;
    while (got < n && (p = pop(&d->rx)) != NULL) {
        pkts[got++] = (struct smt_pkt){.data = p->data,
                                       .len = p->payload_len,
                                       .ecn = p->ecn,
                                       .from = &d->fabric->addrs[p->src]};
        push(&d->shown, p);
    }
    d->stats.rx_calls++;
    d->stats.rx_frames += got;
    return (int)got;
}

static uint32_t sim_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    return dev_of(dev)->fabric->net->config.mtu;
}

static int sim_arm(struct smt_dev *dev)
{
    struct sim_dev *d = dev_of(dev);
    wait_for_packet(d);
    return d->rx.n > 0 || d->reserved.n > 0 ? SMT_EBUSY : 0;
}

static uint16_t sim_port(struct smt_dev *dev)
{
    return PORT;
}

static void sim_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    *out = dev_of(dev)->stats;
}

static void sim_close(struct smt_dev *dev)
{
    struct sim_dev *d = dev_of(dev);
    struct smt_fabric *f = d->fabric;
    struct queue *queues[] = {&d->reserved, &d->tx, &d->rx, &d->shown};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(queues); i++)
        drop_all(f->net, queues[i]);
    f->devs[d->host->number] = NULL;
    d->host->state = NULL;
    smt_mem_free(d);
    smt_fabric_put(f);
}

static const struct smt_dev_ops sim_ops = {
    .name = "sim",
    .close = sim_close,
    .tx_reserve = sim_tx_reserve,
    .tx_unreserve = sim_tx_unreserve,
    .tx_flush = sim_tx_flush,
    .rx = sim_rx,
    .mtu = sim_mtu,
    .arm = sim_arm,
    .port = sim_port,
    .stats = sim_stats,
};

/* ---- the fabric ---- */

void smt_fabric_addr(unsigned host, struct smt_addr *out)
{
    *out = (struct smt_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 10}, .port = PORT};
    smt_put_be16(out->ip + 14, (uint16_t)host);
}

static void fabric_free(struct smt_fabric *f)
{
    unsigned n = f->net != NULL ? f->net->n_hosts : 0;
    smt_mem_block_free(f->devs, n * sizeof(*f->devs));
    smt_mem_block_free(f->addrs, n * sizeof(*f->addrs));
    smt_mem_free(f->nowhere);
    smt_net_free(f->net);
    smt_mem_free(f);
}

int smt_fabric_new(const struct smt_net_config *config, struct smt_fabric **out)
{
    struct smt_fabric *f = smt_mem_alloc(sizeof(*f));
    if (f == NULL)
        return SMT_ENOMEM;
    const struct smt_policy_config pc = {.seed = config->seed};
    const struct smt_net_hooks hooks = {0};
    int rc = config->n_levels >= 8 ? smt_net_new(config, &fabric_policy, &pc, &hooks, &f->net)
                                   : SMT_EINVAL;
    if (rc == 0) {
        f->devs = smt_mem_block(f->net->n_hosts * sizeof(*f->devs));
        f->addrs = smt_mem_block(f->net->n_hosts * sizeof(*f->addrs));
        f->nowhere = smt_mem_alloc(SMT_DEV_MAX_PACKET);
        if (f->devs == NULL || f->addrs == NULL || f->nowhere == NULL)
            rc = SMT_ENOMEM;
    }
    if (rc < 0) {
        fabric_free(f);
        return rc;
    }
    for (unsigned i = 0; i < f->net->n_hosts; i++)
        smt_fabric_addr(i, &f->addrs[i]);
    f->n_refs = 1;
    *out = f;
    return 0;
}

void smt_fabric_put(struct smt_fabric *f)
{
    if (--f->n_refs == 0)
        fabric_free(f);
}

int smt_fabric_attach(struct smt_fabric *f, unsigned host, struct smt_dev **out)
{
    assert(host < f->net->n_hosts && f->devs[host] == NULL);
    struct sim_dev *d = smt_mem_alloc(sizeof(*d));
    if (d == NULL)
        return SMT_ENOMEM;
    smt_dev_init(&d->base, &sim_ops);
    d->fabric = f;
    d->host = &f->net->hosts[host];
    d->host->state = d;
    f->devs[host] = d;
    f->n_refs++;
    *out = &d->base;
    return 0;
}

uint64_t smt_fabric_now(const struct smt_fabric *f)
{
    return smt_net_ns(f->net);
}

void smt_fabric_run(struct smt_fabric *f, uint64_t until)
{
    smt_net_run(f->net, until * SMT_PS_PER_NS);
}
