/* rtnetlink, as much of it as sending packets around the kernel takes: who is the next hop, what is
 * its MAC address, what is this link. One question, one answer; dumps are not used.
 *
 * A neighbour is asked for by its address (kernels from 5.0 on); ARP and ND themselves stay the
 * kernel's: mlx5_route.c makes it resolve. */
#include "dev/mlx5_netlink.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_MS = 200 };

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static bool is_ipv4(const uint8_t ip[16])
{
    return memcmp(ip, mapped, sizeof(mapped)) == 0;
}

/* ---- building ---- */

static size_t begin(uint8_t *out, uint16_t type, uint32_t seq, const void *body, size_t body_len)
{
    size_t len = NLMSG_LENGTH(body_len);
    memset(out, 0, SMT_NETLINK_ASK_LEN);
    struct nlmsghdr h = {.nlmsg_len = (uint32_t)len,
                         .nlmsg_type = type,
                         .nlmsg_flags = NLM_F_REQUEST,
                         .nlmsg_seq = seq};
    memcpy(out, &h, sizeof(h));
    memcpy(out + NLMSG_HDRLEN, body, body_len);
    return NLMSG_ALIGN(len);
}

static size_t attr_put(uint8_t *out, size_t at, uint16_t type, const void *value, size_t value_len)
{
    struct rtattr a = {.rta_len = (uint16_t)RTA_LENGTH(value_len), .rta_type = type};
    assert(at + RTA_SPACE(value_len) <= SMT_NETLINK_ASK_LEN);
    memcpy(out + at, &a, sizeof(a));
    memcpy(out + at + RTA_LENGTH(0), value, value_len);
    at += RTA_SPACE(value_len);
    uint32_t len = (uint32_t)at;
    memcpy(out, &len, sizeof(len));
    return at;
}

static size_t attr_put_ip(uint8_t *out, size_t at, uint16_t type, const uint8_t ip[16])
{
    return is_ipv4(ip) ? attr_put(out, at, type, ip + 12, 4) : attr_put(out, at, type, ip, 16);
}

size_t smt_netlink_route_ask(uint8_t out[SMT_NETLINK_ASK_LEN], uint32_t seq,
                             const uint8_t dst[16], int oif)
{
    struct rtmsg m = {.rtm_family = is_ipv4(dst) ? AF_INET : AF_INET6,
                      .rtm_dst_len = is_ipv4(dst) ? 32 : 128};
    size_t at = begin(out, RTM_GETROUTE, seq, &m, sizeof(m));
    at = attr_put_ip(out, at, RTA_DST, dst);
    return oif > 0 ? attr_put(out, at, RTA_OIF, &oif, sizeof(oif)) : at;
}

size_t smt_netlink_neigh_ask(uint8_t out[SMT_NETLINK_ASK_LEN], uint32_t seq,
                             const uint8_t dst[16], int ifindex)
{
    struct ndmsg m = {.ndm_family = is_ipv4(dst) ? AF_INET : AF_INET6, .ndm_ifindex = ifindex};
    size_t at = begin(out, RTM_GETNEIGH, seq, &m, sizeof(m));
    return attr_put_ip(out, at, NDA_DST, dst);
}

size_t smt_netlink_link_ask(uint8_t out[SMT_NETLINK_ASK_LEN], uint32_t seq, int ifindex)
{
    struct ifinfomsg m = {.ifi_family = AF_UNSPEC, .ifi_index = ifindex};
    return begin(out, RTM_GETLINK, seq, &m, sizeof(m));
}

/* ---- reading ---- */

/* A run of attributes. */
struct attrs {
    const uint8_t *p;
    size_t len;
};

struct attr {
    uint16_t type;
    const uint8_t *p;
    size_t len;
};

static bool attr_next(struct attrs *at, struct attr *out)
{
    struct rtattr a;
    if (at->len < sizeof(a))
        return false;
    memcpy(&a, at->p, sizeof(a));
    if (a.rta_len < sizeof(a) || a.rta_len > at->len)
        return false;
    *out = (struct attr){a.rta_type & NLA_TYPE_MASK, at->p + RTA_LENGTH(0),
                         a.rta_len - RTA_LENGTH(0)};
    size_t step = RTA_ALIGN(a.rta_len) < at->len ? RTA_ALIGN(a.rta_len) : at->len;
    at->p += step;
    at->len -= step;
    return true;
}

static bool attr_ip(const struct attr *a, uint8_t out[16])
{
    if (a->len == 16) {
        memcpy(out, a->p, 16);
        return true;
    }
    if (a->len != 4)
        return false;
    memcpy(out, mapped, sizeof(mapped));
    memcpy(out + 12, a->p, 4);
    return true;
}

static uint32_t attr_u32(const struct attr *a)
{
    uint32_t v = 0;
    if (a->len >= sizeof(v))
        memcpy(&v, a->p, sizeof(v));
    return v;
}

static void attr_text(const struct attr *a, char out[16])
{
    size_t n = a->len < 15 ? a->len : 15;
    memcpy(out, a->p, n);
    out[n] = '\0';
}

/* The body of an answer of this type to question `seq`, its attributes behind it. */
static int body_find(const uint8_t *msg, size_t len, uint32_t seq, uint16_t type, void *body,
                     size_t body_len, struct attrs *attrs)
{
    struct nlmsghdr h;
    if (len < NLMSG_HDRLEN)
        return -EBADMSG;
    memcpy(&h, msg, sizeof(h));
    if (h.nlmsg_len < NLMSG_HDRLEN || h.nlmsg_len > len || h.nlmsg_seq != seq)
        return -EBADMSG;
    if (h.nlmsg_type == NLMSG_ERROR) {
        int32_t error;
        if (h.nlmsg_len < NLMSG_LENGTH(sizeof(error)))
            return -EBADMSG;
        memcpy(&error, msg + NLMSG_HDRLEN, sizeof(error));
        return error < 0 ? error : -EBADMSG;
    }
    if (h.nlmsg_type != type || h.nlmsg_len < NLMSG_LENGTH(body_len))
        return -EBADMSG;
    memcpy(body, msg + NLMSG_HDRLEN, body_len);
    size_t at = NLMSG_ALIGN(NLMSG_LENGTH(body_len));
    at = at < h.nlmsg_len ? at : h.nlmsg_len;
    *attrs = (struct attrs){msg + at, h.nlmsg_len - at};
    return 0;
}

static uint32_t metrics_mtu(const struct attr *metrics)
{
    struct attrs in = {metrics->p, metrics->len};
    struct attr a;
    while (attr_next(&in, &a)) {
        if (a.type == RTAX_MTU)
            return attr_u32(&a);
    }
    return 0;
}

int smt_netlink_route_read(const uint8_t *msg, size_t len, uint32_t seq,
                           struct smt_netlink_route *out)
{
    struct rtmsg m;
    struct attrs attrs;
    int r = body_find(msg, len, seq, RTM_NEWROUTE, &m, sizeof(m), &attrs);
    if (r < 0)
        return r;
    if (m.rtm_type != RTN_UNICAST && m.rtm_type != RTN_LOCAL)
        return -ENETUNREACH;
    *out = (struct smt_netlink_route){.is_local = m.rtm_type == RTN_LOCAL};
    struct attr a;
    while (attr_next(&attrs, &a)) {
        switch (a.type) {
        case RTA_OIF:
            out->ifindex = (int)attr_u32(&a);
            break;
        case RTA_GATEWAY:
            out->has_gateway = attr_ip(&a, out->gateway);
            break;
        case RTA_PREFSRC:
            (void)attr_ip(&a, out->source);
            break;
        case RTA_METRICS:
            out->mtu = metrics_mtu(&a);
            break;
        default:
            break;
        }
    }
    return out->ifindex > 0 ? 0 : -ENETUNREACH;
}

int smt_netlink_neigh_read(const uint8_t *msg, size_t len, uint32_t seq,
                           enum smt_netlink_neigh *state, uint8_t mac[6])
{
    struct ndmsg m;
    struct attrs attrs;
    *state = SMT_NEIGH_NONE;
    int r = body_find(msg, len, seq, RTM_NEWNEIGH, &m, sizeof(m), &attrs);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    struct attr a;
    bool has_mac = false;
    while (attr_next(&attrs, &a)) {
        if (a.type == NDA_LLADDR && a.len == 6) {
            memcpy(mac, a.p, 6);
            has_mac = true;
        }
    }
    if (m.ndm_state & NUD_FAILED)
        *state = SMT_NEIGH_FAILED;
    else if (has_mac && (m.ndm_state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE |
                                        NUD_PERMANENT | NUD_NOARP)))
        *state = SMT_NEIGH_KNOWN;
    else
        *state = SMT_NEIGH_ASKING;
    return 0;
}

/* Of a link made in software: its kind, and of a VLAN nothing more is needed. */
static void linkinfo_read(const struct attr *info, struct smt_netlink_link *out)
{
    struct attrs in = {info->p, info->len};
    struct attr a;
    while (attr_next(&in, &a)) {
        if (a.type == IFLA_INFO_KIND)
            attr_text(&a, out->kind);
    }
}

int smt_netlink_link_read(const uint8_t *msg, size_t len, uint32_t seq,
                          struct smt_netlink_link *out)
{
    struct ifinfomsg m;
    struct attrs attrs;
    int r = body_find(msg, len, seq, RTM_NEWLINK, &m, sizeof(m), &attrs);
    if (r < 0)
        return r;
    *out = (struct smt_netlink_link){.is_up = (m.ifi_flags & IFF_UP) != 0,
                                     .is_loopback = (m.ifi_flags & IFF_LOOPBACK) != 0,
                                     .has_no_arp = (m.ifi_flags & IFF_NOARP) != 0};
    struct attr a;
    while (attr_next(&attrs, &a)) {
        switch (a.type) {
        case IFLA_ADDRESS:
            if (a.len == 6)
                memcpy(out->mac, a.p, 6);
            break;
        case IFLA_MTU:
            out->mtu = attr_u32(&a);
            break;
        case IFLA_MASTER:
            out->master = (int)attr_u32(&a);
            break;
        case IFLA_LINK:
            out->lower = (int)attr_u32(&a);
            break;
        case IFLA_IFNAME:
            attr_text(&a, out->name);
            break;
        case IFLA_LINKINFO:
            linkinfo_read(&a, out);
            break;
        default:
            break;
        }
    }
    return 0;
}

/* ---- asking ---- */

static int socket_open(uint32_t groups, int flags)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE);
    if (fd < 0)
        return -1;
    struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = groups};
    const struct timeval wait = {.tv_usec = ANSWER_MS * 1000};
    if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int smt_netlink_open(void)
{
    return socket_open(0, 0);
}

int smt_netlink_watch_open(void)
{
    return socket_open(RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE |
                           RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR,
                       SOCK_NONBLOCK);
}

/* One question and its answer; what answers an older question is passed over. */
static int ask(int fd, const uint8_t *msg, size_t len, uint32_t seq, uint8_t *answer,
               size_t *answer_len)
{
    if (send(fd, msg, len, 0) != (ssize_t)len)
        return errno != 0 ? -errno : -EIO;
    for (;;) {
        struct sockaddr_nl from = {0};
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(fd, answer, SMT_NETLINK_ANSWER_LEN, 0, (struct sockaddr *)&from,
                             &from_len);
        /* Other processes may write to this socket too. */
        if ((n < 0 && errno == EINTR) || (n >= 0 && from.nl_pid != 0))
            continue;
        if (n < 0)
            return -errno;
        struct nlmsghdr h;
        if ((size_t)n < sizeof(h))
            return -EBADMSG;
        memcpy(&h, answer, sizeof(h));
        if (h.nlmsg_seq == seq) {
            *answer_len = (size_t)n;
            return 0;
        }
    }
}

/* Questions of a socket are told apart by a number that nobody else looks at. */
static uint32_t next_seq(void)
{
    static _Thread_local uint32_t seq;
    return ++seq;
}

int smt_netlink_route(int fd, const uint8_t dst[16], int oif, struct smt_netlink_route *out)
{
    uint8_t msg[SMT_NETLINK_ASK_LEN], answer[SMT_NETLINK_ANSWER_LEN];
    uint32_t seq = next_seq();
    size_t len = smt_netlink_route_ask(msg, seq, dst, oif);
    int r = ask(fd, msg, len, seq, answer, &len);
    return r < 0 ? r : smt_netlink_route_read(answer, len, seq, out);
}

int smt_netlink_neigh(int fd, const uint8_t dst[16], int ifindex, enum smt_netlink_neigh *state,
                      uint8_t mac[6])
{
    uint8_t msg[SMT_NETLINK_ASK_LEN], answer[SMT_NETLINK_ANSWER_LEN];
    uint32_t seq = next_seq();
    size_t len = smt_netlink_neigh_ask(msg, seq, dst, ifindex);
    int r = ask(fd, msg, len, seq, answer, &len);
    return r < 0 ? r : smt_netlink_neigh_read(answer, len, seq, state, mac);
}

int smt_netlink_link(int fd, int ifindex, struct smt_netlink_link *out)
{
    uint8_t msg[SMT_NETLINK_ASK_LEN], answer[SMT_NETLINK_ANSWER_LEN];
    uint32_t seq = next_seq();
    size_t len = smt_netlink_link_ask(msg, seq, ifindex);
    int r = ask(fd, msg, len, seq, answer, &len);
    return r < 0 ? r : smt_netlink_link_read(answer, len, seq, out);
}
