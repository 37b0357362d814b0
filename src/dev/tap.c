/* A device around a device that loses, repeats, reorders, damages and delays packets, and writes
 * them down. For tests and traces: it copies every packet, and reads the clock.
 *
 * Each direction is a lane with its own generator, so that what happens to the n-th packet of a
 * direction depends on seed, direction and n alone. A packet held back for reordering goes after a
 * few others have passed it, at the latest with the next tx_flush (sending) or rx (receiving) after
 * the one it was held in, or as soon as rx finds nothing: nothing waits for traffic that may never
 * come. While anything is held arm answers SMT_EBUSY, so delays need no timer of the caller's.
 *
 * The file shows the network's side: what is sent after the faults, what is received before
 * them. */
#include "dev/tap.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/pcap.h"
#include "dev/tap_lane.h"

enum { N_LOCALS = 16, TOS_ECT0 = 2 };

struct tap_local {
    struct smt_addr peer, local;
    bool is_set;
};

/* A run being filled: its packets lie one behind the other in `mem` until each gets memory of its
 * own, and then fares as any other. */
struct tap_run {
    uint8_t *mem; /* SMT_DEV_MAX_PACKET bytes; NULL until the first one */
    struct smt_addr to;
    uint32_t n, len, last_len;
    uint8_t prio;
};

struct tap {
    struct smt_dev base;
    struct smt_dev *inner;
    struct smt_tap_spec spec;
    struct smt_tap_store store;
    struct smt_tap_lane tx, rx;
    struct smt_tap_pkt *open; /* reserved, being filled by the caller */
    struct tap_run run;       /* the same; n = 0: none */
    struct smt_list lent;     /* shown by the last rx */
    struct smt_pcap *pcap;
    struct tap_local locals[N_LOCALS];
    uint32_t next_local;
    uint64_t n_no_memory;
};

static uint64_t clock_now(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * SMT_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t tap_now(const struct tap *t)
{
    return t->spec.delay_ns > 0 ? clock_now(CLOCK_MONOTONIC) : 0;
}

/* Where our packets to `peer` leave from; remembered, because finding out makes system calls. */
static struct smt_addr local_of(struct tap *t, const struct smt_addr *peer)
{
    for (uint32_t i = 0; i < N_LOCALS; i++) {
        struct tap_local *l = &t->locals[i];
        if (l->is_set && memcmp(l->peer.ip, peer->ip, sizeof(peer->ip)) == 0)
            return l->local;
    }
    struct tap_local *l = &t->locals[t->next_local++ % N_LOCALS];
    l->is_set = true;
    l->peer = *peer;
    if (!smt_path_local(peer, NULL, &l->local))
        l->local = (struct smt_addr){0};
    l->local.port = t->inner->ops->port(t->inner);
    return l->local;
}

static void trace_tx(struct tap *t, const struct smt_tap_pkt *p)
{
    struct smt_addr local = local_of(t, &p->addr);
    smt_pcap_write(t->pcap, clock_now(CLOCK_REALTIME), &local, &p->addr,
                   (uint8_t)(p->prio << 5 | TOS_ECT0), p->data, p->len);
}

static void trace_rx(struct tap *t, const struct smt_pkt *p)
{
    struct smt_addr local = local_of(t, p->from);
    smt_pcap_write(t->pcap, clock_now(CLOCK_REALTIME), p->from, &local, p->ecn, p->data, p->len);
}

static void run_commit(struct tap *t)
{
    const struct tap_run *run = &t->run;
    uint64_t now = tap_now(t);
    for (uint32_t i = 0; i < run->n; i++) {
        uint32_t len = i + 1 < run->n ? run->len : run->last_len;
        struct smt_tap_pkt *p = smt_tap_pkt_new(&t->store, &run->to, len);
        if (p == NULL) {
            t->n_no_memory++;
            continue;
        }
        p->prio = run->prio;
        memcpy(p->data, run->mem + (size_t)i * run->len, len);
        smt_tap_lane_accept(&t->tx, &t->store, &t->spec, p, now);
    }
    t->run.n = 0;
}

/* The caller has filled what it reserved. */
static void open_commit(struct tap *t)
{
    run_commit(t);
    struct smt_tap_pkt *p = t->open;
    if (p == NULL)
        return;
    t->open = NULL;
    smt_tap_lane_accept(&t->tx, &t->store, &t->spec, p, tap_now(t));
}

static uint8_t *inner_reserve(struct tap *t, const struct smt_tap_pkt *p)
{
    const struct smt_dev_ops *ops = t->inner->ops;
    uint8_t *at = ops->tx_reserve(t->inner, &p->addr, p->len, p->prio);
    if (at != NULL)
        return at;
    (void)ops->tx_flush(t->inner); /* if it did not help the next line says so */
    return ops->tx_reserve(t->inner, &p->addr, p->len, p->prio);
}

/* Moves what is due to the device. 0 or SMT_EAGAIN. */
static int tx_pump(struct tap *t)
{
    uint64_t now = tap_now(t);
    struct smt_tap_pkt *p;
    while ((p = smt_tap_lane_first(&t->tx, now)) != NULL) {
        uint8_t *at = inner_reserve(t, p);
        if (at == NULL)
            return SMT_EAGAIN;
        memcpy(at, p->data, p->len);
        if (t->pcap != NULL)
            trace_tx(t, p);
        smt_tap_lane_remove(&t->tx, p);
        smt_tap_pkt_free(&t->store, p);
    }
    return t->inner->ops->tx_flush(t->inner);
}

static uint8_t *tap_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                               uint8_t prio)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    open_commit(t);
    if (t->tx.n >= SMT_TAP_LANE_MAX / 2)
        return NULL;
    struct smt_tap_pkt *p = smt_tap_pkt_new(&t->store, to, len);
    if (p == NULL) {
        t->n_no_memory++;
        return NULL;
    }
    p->prio = prio;
    t->open = p;
    return p->data;
}

static uint8_t *tap_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n, size_t len,
                           size_t last_len, uint8_t prio, size_t *stride)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    assert(n > 1 && n <= SMT_DEV_MAX_RUN && last_len > 0 && last_len <= len);
    assert((n - 1) * len + last_len <= SMT_DEV_MAX_PACKET);
    open_commit(t);
    if (t->tx.n >= SMT_TAP_LANE_MAX / 2)
        return NULL;
    if (t->run.mem == NULL)
        t->run.mem = smt_mem_alloc(SMT_DEV_MAX_PACKET);
    if (t->run.mem == NULL) {
        t->n_no_memory += n;
        return NULL;
    }
    t->run.to = *to;
    t->run.n = n;
    t->run.len = (uint32_t)len;
    t->run.last_len = (uint32_t)last_len;
    t->run.prio = prio;
    *stride = len;
    return t->run.mem;
}

static uint32_t tap_tx_run_max(struct smt_dev *dev, const struct smt_addr *to)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->tx_run_max(t->inner, to);
}

static void tap_tx_unreserve(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    if (t->run.n > 0) {
        t->run.n = 0;
        return;
    }
    assert(t->open != NULL);
    smt_tap_pkt_free(&t->store, t->open);
    t->open = NULL;
}

static int tap_tx_flush(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    open_commit(t);
    smt_tap_lane_release(&t->tx, t->tx.round);
    t->tx.round++;
    return tx_pump(t);
}

static void news_pass(struct tap *t)
{
    smt_dev_news_add(&t->base.news, t->inner->news);
    t->inner->news = 0;
}

/* What the device has, through the faults. The device's answer. */
static int rx_pull(struct tap *t, unsigned n)
{
    struct smt_pkt pkts[SMT_DEV_RX_BATCH];
    int r = t->inner->ops->rx(t->inner, pkts, n < SMT_DEV_RX_BATCH ? n : SMT_DEV_RX_BATCH);
    uint64_t now = tap_now(t);
    for (int i = 0; i < r; i++) {
        if (t->pcap != NULL)
            trace_rx(t, &pkts[i]);
        struct smt_tap_pkt *p = smt_tap_pkt_new(&t->store, pkts[i].from, pkts[i].len);
        if (p == NULL) {
            t->n_no_memory++;
            continue;
        }
        memcpy(p->data, pkts[i].data, pkts[i].len);
        p->ip_id = pkts[i].ip_id;
        p->ecn = pkts[i].ecn;
        smt_tap_lane_accept(&t->rx, &t->store, &t->spec, p, now);
    }
    return r;
}

static int tap_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    smt_tap_list_free(&t->store, &t->lent);
    smt_tap_lane_release(&t->rx, t->rx.round);
    t->rx.round++;
    int r = rx_pull(t, n);
    if (r <= 0) {
        smt_tap_lane_release(&t->rx, UINT64_MAX);
        smt_tap_lane_release(&t->tx, UINT64_MAX);
    }
    /* SMT_EAGAIN is nothing new to the caller: its own flush will say so. */
    if (t->tx.n > 0)
        (void)tx_pump(t);
    uint64_t now = tap_now(t);
    news_pass(t);
    unsigned got = 0;
    struct smt_tap_pkt *p;
    while (got < n && (p = smt_tap_lane_first(&t->rx, now)) != NULL) {
        smt_tap_lane_remove(&t->rx, p);
        smt_list_push_tail(&t->lent, &p->link);
        pkts[got++] = (struct smt_pkt){
            .data = p->data,
            .len = p->len,
            .ip_id = p->ip_id,
            .ecn = p->ecn,
            .from = &p->addr,
        };
    }
    return got == 0 && r < 0 ? r : (int)got;
}

static uint32_t tap_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->mtu(t->inner, to);
}

static int tap_fd(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->fd(t->inner);
}

static int tap_arm(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    if (t->open != NULL || t->run.n > 0 || t->tx.n > 0 || t->rx.n > 0)
        return SMT_EBUSY;
    /* A file that cannot be written must not stop the traffic it is about. */
    if (t->pcap != NULL)
        (void)smt_pcap_flush(t->pcap);
    int r = t->inner->ops->arm(t->inner);
    news_pass(t);
    return r;
}

static uint16_t tap_port(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->port(t->inner);
}

static uint32_t tap_link_mbps(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->link_mbps(t->inner);
}

static uint32_t tap_rx_capacity(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->rx_capacity(t->inner);
}

static int tap_mem_register(struct smt_dev *dev, void *addr, size_t len)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->mem_register(t->inner, addr, len);
}

static int tap_mem_unregister(struct smt_dev *dev, void *addr)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->mem_unregister(t->inner, addr);
}

static void tap_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    t->inner->ops->stats(t->inner, out);
    out->rx_dropped += t->n_no_memory;
}

static const char *tap_why(struct smt_dev *dev, const struct smt_addr *to)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->why(t->inner, to);
}

static int tap_refused(struct smt_dev *dev, struct smt_addr *to, int *error)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->refused(t->inner, to, error);
}

static const char *tap_note(struct smt_dev *dev, const struct smt_addr *to)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    return t->inner->ops->note(t->inner, to);
}

static void tap_free(struct tap *t)
{
    if (t->open != NULL)
        smt_tap_pkt_free(&t->store, t->open);
    smt_tap_list_free(&t->store, &t->lent);
    smt_tap_list_free(&t->store, &t->tx.ready);
    smt_tap_list_free(&t->store, &t->tx.late);
    smt_tap_list_free(&t->store, &t->rx.ready);
    smt_tap_list_free(&t->store, &t->rx.late);
    smt_pcap_close(t->pcap);
    smt_tap_store_fini(&t->store);
    smt_mem_free(t->run.mem);
    smt_mem_free(t);
}

/* What is held goes out first: a device that closes sends what it has taken. */
static void tap_close(struct smt_dev *dev)
{
    struct tap *t = SMT_CONTAINER_OF(dev, struct tap, base);
    open_commit(t);
    smt_tap_lane_release(&t->tx, UINT64_MAX);
    struct smt_list *l;
    for (l = t->tx.ready.next; l != &t->tx.ready; l = l->next)
        SMT_CONTAINER_OF(l, struct smt_tap_pkt, link)->due = 0;
    (void)tx_pump(t);
    struct smt_dev *inner = t->inner;
    tap_free(t);
    inner->ops->close(inner);
}

static const struct smt_dev_ops tap_ops = {
    .name = "tap",
    .close = tap_close,
    .tx_reserve = tap_tx_reserve,
    .tx_run = tap_tx_run,
    .tx_run_max = tap_tx_run_max,
    .tx_unreserve = tap_tx_unreserve,
    .tx_flush = tap_tx_flush,
    .rx = tap_rx,
    .mtu = tap_mtu,
    .fd = tap_fd,
    .arm = tap_arm,
    .port = tap_port,
    .link_mbps = tap_link_mbps,
    .rx_capacity = tap_rx_capacity,
    .mem_register = tap_mem_register,
    .mem_unregister = tap_mem_unregister,
    .stats = tap_stats,
    .why = tap_why,
    .note = tap_note,
    .refused = tap_refused,
};

/* The file's name, the first "%p" in it being the port: endpoints of one context share a spec. */
static void pcap_name(const struct tap *t, char *out, size_t out_len)
{
    const char *name = t->spec.pcap;
    const char *mark = strstr(name, "%p");
    if (mark == NULL)
        snprintf(out, out_len, "%s", name);
    else
        snprintf(out, out_len, "%.*s%u%s", (int)(mark - name), name, t->inner->ops->port(t->inner),
                 mark + 2);
}

int smt_dev_tap(const char *spec, struct smt_dev *inner, char *error_text, size_t error_text_len,
                struct smt_dev **out)
{
    struct smt_tap_spec s;
    int r = smt_tap_spec_parse(spec, error_text, error_text_len, &s);
    if (r < 0)
        return r;
    struct tap *t = smt_mem_alloc(sizeof(*t));
    if (t == NULL)
        return smt_dev_fail(error_text, error_text_len, SMT_ENOMEM, "no memory for a tap");
    smt_dev_init(&t->base, &tap_ops);
    t->base.own.caps = inner->ops->caps & ~(uint32_t)(SMT_DEV_CAP_NIC_SEAL | SMT_DEV_CAP_BURST);
    t->inner = inner;
    t->spec = s;
    smt_list_init(&t->lent);
    smt_tap_lane_init(&t->tx, s.tx, s.seed * 2);
    smt_tap_lane_init(&t->rx, s.rx, s.seed * 2 + 1);
    r = smt_tap_store_init(&t->store);
    if (r < 0) {
        r = smt_dev_fail(error_text, error_text_len, r, "no memory for a tap");
        goto err_free;
    }
    if (s.pcap[0] != '\0') {
        char name[sizeof(s.pcap) + 8];
        pcap_name(t, name, sizeof(name));
        r = smt_pcap_open(name, error_text, error_text_len, &t->pcap);
        if (r < 0)
            goto err_free;
    }
    *out = &t->base;
    return 0;

err_free:
    tap_free(t);
    return r;
}
