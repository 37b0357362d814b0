/* Raw IP sockets in the suite. The device reads ports in the first bytes of packets, which belong
 * to the profiles' headers; the suite's packets have none, so each device is wrapped in one that
 * puts HEAD bytes before them and takes them off. They also carry the marks of Homa that the filter
 * of TCP's clothes asks for. */
#include "conform/conform.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "dev/dev_impl.h"

enum { HEAD = CONFORM_IP_HEAD, OFF_FLAGS = 13, OFF_URGENT = 18 };

struct headed {
    struct smt_dev base;
    struct smt_dev *inner;
};

static struct smt_dev *inner_of(struct smt_dev *dev)
{
    return SMT_CONTAINER_OF(dev, struct headed, base)->inner;
}

static uint8_t *headed_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len,
                               uint8_t prio)
{
    struct smt_dev *in = inner_of(dev);
    uint8_t *p = in->ops->tx_reserve(in, to, len + HEAD, prio);
    if (p == NULL)
        return NULL;
    memset(p, 0, HEAD);
    smt_put_be16(p, in->ops->port(in));
    smt_put_be16(p + 2, to->port);
    p[OFF_FLAGS] = 0x06;
    smt_put_be16(p + OFF_URGENT, 0xb97d);
    return p + HEAD;
}

static void headed_unreserve(struct smt_dev *dev)
{
    inner_of(dev)->ops->tx_unreserve(inner_of(dev));
}

static int headed_flush(struct smt_dev *dev)
{
    return inner_of(dev)->ops->tx_flush(inner_of(dev));
}

static int headed_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    int got = inner_of(dev)->ops->rx(inner_of(dev), pkts, n);
    for (int i = 0; i < got; i++) {
        assert(pkts[i].len > HEAD);
        pkts[i].data += HEAD;
        pkts[i].len -= HEAD;
    }
    return got;
}

static uint32_t headed_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    return inner_of(dev)->ops->mtu(inner_of(dev), to) - HEAD;
}

static int headed_fd(struct smt_dev *dev)
{
    return inner_of(dev)->ops->fd(inner_of(dev));
}

static int headed_arm(struct smt_dev *dev)
{
    return inner_of(dev)->ops->arm(inner_of(dev));
}

static uint16_t headed_port(struct smt_dev *dev)
{
    return inner_of(dev)->ops->port(inner_of(dev));
}

static uint32_t headed_rx_capacity(struct smt_dev *dev)
{
    return inner_of(dev)->ops->rx_capacity(inner_of(dev));
}

static void headed_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    inner_of(dev)->ops->stats(inner_of(dev), out);
    out->tx_bytes -= out->tx_packets * HEAD;
    out->rx_bytes -= out->rx_packets * HEAD;
}

static const char *headed_note(struct smt_dev *dev, const struct smt_addr *to)
{
    return inner_of(dev)->ops->note(inner_of(dev), to);
}

static void headed_close(struct smt_dev *dev)
{
    struct headed *h = SMT_CONTAINER_OF(dev, struct headed, base);
    h->inner->ops->close(h->inner);
    smt_mem_free(h);
}

static const struct smt_dev_ops headed_ops = {
    .name = "headed",
    .caps = SMT_DEV_CAP_EVENT,
    .close = headed_close,
    .tx_reserve = headed_reserve,
    .tx_unreserve = headed_unreserve,
    .tx_flush = headed_flush,
    .rx = headed_rx,
    .mtu = headed_mtu,
    .fd = headed_fd,
    .arm = headed_arm,
    .port = headed_port,
    .rx_capacity = headed_rx_capacity,
    .stats = headed_stats,
    .note = headed_note,
};

static int one_open(const struct conform_row *row, const char *spec, const char *host,
                    struct smt_dev **out, struct smt_addr *addr)
{
    char text[256];
    struct smt_dev_config config = conform_config(row, 0);
    config.spec = spec;
    config.bind_host = host;
    config.error_text = text;
    config.error_text_len = sizeof(text);
    struct headed *h = smt_mem_alloc(sizeof(*h));
    if (h == NULL)
        return SMT_ENOMEM;
    int r = smt_dev_open(&config, &h->inner);
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", row->name, text);
        smt_mem_free(h);
        return r;
    }
    smt_dev_init(&h->base, &headed_ops);
    *out = &h->base;
    r = smt_dev_resolve(host != NULL ? host : row->address, headed_port(*out), addr, 1);
    return r < 0 ? r : 0;
}

int conform_ip_open_from(struct conform_set *set, const char *spec, const char *host)
{
    const struct conform_row *row = set->row;
    int r = one_open(row, spec, host, &set->tx, &set->back);
    for (unsigned i = 0; i < row->n_rx && r == 0; i++)
        r = one_open(row, row->spec, row->bind_host, &set->rx[i], &set->to[i]);
    return r;
}

int conform_ip_open(struct conform_set *set)
{
    return conform_ip_open_from(set, set->row->spec, set->row->bind_host);
}

/* Packets to a port that nobody has, and to our own ports without what a packet must begin with. */
static void strangers(struct conform_set *set)
{
    struct smt_dev *in = inner_of(set->tx);
    for (unsigned i = 0; i < 40; i++) {
        struct smt_addr to = set->to[0];
        uint8_t *p = in->ops->tx_reserve(in, &to, 1 + i, 0);
        if (p != NULL)
            memset(p, 0, 1 + i);
        if (p != NULL && i >= 4)
            smt_put_be16(p + 2, (uint16_t)(to.port + i % 2));
        if (p != NULL && i >= 4 && i % 2 == 0) /* reaches it: nobody's packet to the suite */
            memset(p + 4, CONFORM_FOREIGN, 1 + i - 4);
        if (p != NULL && i >= HEAD && i % 2 == 0) {
            p[OFF_FLAGS] = 0x06;
            smt_put_be16(p + OFF_URGENT, 0xb97d);
        }
        if (p != NULL && i >= 4 && i < HEAD)
            smt_put_be16(p + 2, (uint16_t)(to.port + 1));
        (void)in->ops->tx_flush(in);
    }
}

const struct conform_fault conform_ip_faults[CONFORM_IP_FAULTS] = {{"strangers", strangers}};
