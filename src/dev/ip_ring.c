/* `ip:LINK,ring`: the device `ip` behind packet sockets, which spare the way through the kernel's
 * IP layer and, in receiving, the calls. The raw sockets stay, as the holder of af.c: they claim
 * the port, keep the kernel from answering "protocol unreachable", hear ICMP errors, and carry what
 * the ring cannot.
 *
 * Only when asked for: frames go past the machine's firewall rules and queueing disciplines, on
 * which its administrator may count. One packet a frame, for no NIC or kernel cuts super-frames of
 * these protocols; each slot of the arena of af_tx.c holds one. */
#include <stdio.h>

#include "dev/af.h"
#include "dev/ip.h"

static int ip_holder_open(struct smt_af *d, const char *ifname,
                          const struct smt_dev_config *config)
{
    char spec[24];
    struct smt_dev_config inner = *config;
    snprintf(spec, sizeof(spec), "ip%s%.15s", ifname[0] != '\0' ? ":" : "", ifname);
    inner.spec = spec;
    inner.tap = NULL;
    int r = smt_ip_ops.open(&inner, &d->holder);
    if (r < 0)
        return r;
    const struct smt_ip *holder = SMT_CONTAINER_OF(d->holder, struct smt_ip, base);
    d->protocol = holder->protocol;
    d->class_shift = holder->class_shift;
    d->ecn = holder->ecn;
    return smt_af_bound_set(d, config);
}

static int ip_holder_hide(struct smt_dev *holder, uint32_t ifindex)
{
    const struct smt_ip *d = SMT_CONTAINER_OF(holder, struct smt_ip, base);
    for (unsigned i = 0; i < d->n_sockets; i++) {
        if (smt_ip_filter_set(&d->sockets[i], d->port, ifindex) < 0)
            return -1;
    }
    return 0;
}

static uint64_t ip_holder_drops(const struct smt_dev *holder)
{
    return SMT_CONTAINER_OF(holder, struct smt_ip, base)->stats.rx_dropped;
}

static const struct smt_af_carriage carriage = {
    .name = "ip",
    .sockets = "raw IP sockets",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_EXACT | SMT_DEV_CAP_RAW,
    .max_segs = 1,
    .holder_open = ip_holder_open,
    .holder_hide = ip_holder_hide,
    .holder_drops = ip_holder_drops,
};

int smt_ip_ring_open(const struct smt_dev_config *config, const char *ifname,
                     struct smt_dev **out)
{
    return smt_af_open_as(&carriage, ifname, config, out);
}
