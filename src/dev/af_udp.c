/* The holder of `af`: a UDP socket on our port. */
#include <errno.h>
#include <linux/filter.h>
#include <string.h>

#include "dev/af.h"
#include "dev/udp.h"

static int udp_holder_open(struct smt_af *d, const char *ifname,
                           const struct smt_dev_config *config)
{
    struct smt_dev_config inner = *config;
    inner.spec = smt_udp_ops.name;
    inner.tap = NULL;
    d->protocol = SMT_AF_PROTO_UDP;
    d->class_shift = SMT_TOS_SHIFT;
    d->ecn = SMT_TOS_ECT0;
    int r = smt_udp_ops.open(&inner, &d->holder);
    if (r < 0)
        return r;
    r = smt_af_bound_set(d, config);
    /* Without IPv6 on this machine its socket is of the other family. */
    if (r == 0 && SMT_CONTAINER_OF(d->holder, struct smt_udp, base)->family == AF_INET)
        d->family = AF_INET;
    return r;
}

static int udp_holder_hide(struct smt_dev *holder, uint32_t ifindex)
{
    struct smt_udp *udp = SMT_CONTAINER_OF(holder, struct smt_udp, base);
    int fd = udp->fd, none = 0;
    smt_udp_fav_off(udp); /* it would have no filter */
    if (ifindex == 0)
        return setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof(none));
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)SKF_AD_OFF + SKF_AD_IFINDEX),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ifindex, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog prog = {.len = SMT_ARRAY_LEN(code), .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

static uint64_t udp_holder_drops(const struct smt_dev *holder)
{
    return SMT_CONTAINER_OF(holder, struct smt_udp, base)->stats.rx_dropped;
}

const struct smt_af_carriage smt_af_udp = {
    .name = "af",
    .sockets = "UDP sockets",
    .caps = SMT_DEV_CAP_EVENT | SMT_DEV_CAP_SHARE | SMT_DEV_CAP_LOCAL | SMT_DEV_CAP_UDP,
    .l4_len = SMT_AF_UDP_LEN,
    .needs_super_frames = true,
    .max_segs = SMT_SUPER_SEGMENTS,
    .holder_open = udp_holder_open,
    .holder_hide = udp_holder_hide,
    .holder_drops = udp_holder_drops,
};
