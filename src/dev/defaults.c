/* What a device does that says nothing about it.
 *
 * Owns the default of every entry a row may leave out, and the joining of both into the table of
 * one device object. open, close, the three calls of sending packets and rx have no default: a row
 * without them is not a device. */
#include "dev/dev_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static uint32_t default_mtu(struct smt_dev *dev, const struct smt_addr *to)
{
    return SMT_DEV_MAX_PACKET;
}

/* Nobody has to ask. */
static uint8_t *default_tx_run(struct smt_dev *dev, const struct smt_addr *to, unsigned n,
                               size_t len, size_t last_len, uint8_t prio, size_t *stride)
{
    return NULL;
}

static uint32_t default_tx_run_max(struct smt_dev *dev, const struct smt_addr *to)
{
    return 0;
}

static unsigned default_rx_more(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    return 0;
}

static int default_fd(struct smt_dev *dev)
{
    return -1;
}

/* Without a descriptor nothing would end the sleep. */
static int default_arm(struct smt_dev *dev)
{
    return SMT_EBUSY;
}

static uint16_t default_port(struct smt_dev *dev)
{
    return 0;
}

static uint32_t default_link_mbps(struct smt_dev *dev)
{
    return 0;
}

static uint32_t default_rx_capacity(struct smt_dev *dev)
{
    return 1 << 18;
}

/* A device that does not care takes any memory. */
static int default_mem_register(struct smt_dev *dev, void *addr, size_t len)
{
    return 0;
}

static int default_mem_unregister(struct smt_dev *dev, void *addr)
{
    return 0;
}

static void default_stats(struct smt_dev *dev, struct smt_dev_stats *out)
{
    *out = (struct smt_dev_stats){0};
}

static const char *default_why(struct smt_dev *dev, const struct smt_addr *to)
{
    return NULL;
}

static const char *default_note(struct smt_dev *dev, const struct smt_addr *to)
{
    return NULL;
}

static const struct smt_sealer *default_sealer(struct smt_dev *dev)
{
    return NULL;
}

static const char *default_why_no_seal(struct smt_dev *dev)
{
    return "this device leaves it to the CPU";
}

static int default_refused(struct smt_dev *dev, struct smt_addr *to, int *error)
{
    return 0;
}

static int default_report(struct smt_dev_report *out, unsigned n)
{
    return 0;
}

static const struct smt_dev_ops defaults = {
    .tx_run = default_tx_run,
    .tx_run_max = default_tx_run_max,
    .rx_more = default_rx_more,
    .mtu = default_mtu,
    .fd = default_fd,
    .arm = default_arm,
    .port = default_port,
    .link_mbps = default_link_mbps,
    .rx_capacity = default_rx_capacity,
    .mem_register = default_mem_register,
    .mem_unregister = default_mem_unregister,
    .stats = default_stats,
    .why = default_why,
    .note = default_note,
    .refused = default_refused,
    .sealer = default_sealer,
    .why_no_seal = default_why_no_seal,
    .report = default_report,
};

void smt_dev_init(struct smt_dev *dev, const struct smt_dev_ops *row)
{
    assert(row->close != NULL && row->tx_reserve != NULL && row->tx_unreserve != NULL);
    assert(row->tx_flush != NULL && row->rx != NULL);
    dev->own = *row;
    dev->ops = &dev->own;
#define DEFAULT(entry)                                                                             \
    if (dev->own.entry == NULL)                                                                    \
    dev->own.entry = defaults.entry
    DEFAULT(tx_run);
    DEFAULT(tx_run_max);
    DEFAULT(rx_more);
    DEFAULT(mtu);
    DEFAULT(fd);
    DEFAULT(arm);
    DEFAULT(port);
    DEFAULT(link_mbps);
    DEFAULT(rx_capacity);
    DEFAULT(mem_register);
    DEFAULT(mem_unregister);
    DEFAULT(stats);
    DEFAULT(why);
    DEFAULT(note);
    DEFAULT(refused);
    DEFAULT(sealer);
    DEFAULT(why_no_seal);
    DEFAULT(report);
#undef DEFAULT
}

int smt_dev_fail(char *text, size_t text_len, int code, const char *fmt, ...)
{
    if (text != NULL && text_len > 0) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, text_len, fmt, ap);
        va_end(ap);
    }
    return code;
}
