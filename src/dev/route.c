/* Questions to the kernel's routing by rtnetlink.
 *
 * Owns the messages; who asks keeps the answers for as long as he likes. One question, one answer,
 * in order, on a socket that blocks: rtnetlink answers inside the system call that asks, so nothing
 * is waited for. path.c asks less by simpler means. */
#include "dev/route.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <smt/error.h>

enum { ASK_LEN = 256, ANSWER_LEN = 16384, IPV4_LEN = 4, IPV6_LEN = 16, IPV4_AT = 12 };

struct ask {
    struct nlmsghdr h;
    union {
        struct rtmsg rt;
        struct ndmsg nd;
        struct ifinfomsg link;
        struct ifaddrmsg addr;
    };
    uint8_t attrs[ASK_LEN];
};

int smt_route_open(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    return fd < 0 ? SMT_ESYSTEM : fd;
}

static void ask_begin(struct ask *a, uint16_t type, uint16_t flags, size_t body_len)
{
    a->h = (struct nlmsghdr){
        .nlmsg_len = NLMSG_LENGTH(body_len),
        .nlmsg_type = type,
        .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
    };
}

static void ask_attr(struct ask *a, uint16_t type, const void *data, size_t len)
{
    size_t at = NLMSG_ALIGN(a->h.nlmsg_len);
    assert(at + RTA_SPACE(len) <= sizeof(*a));
    struct rtattr rta = {.rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(len)};
    memcpy((uint8_t *)a + at, &rta, sizeof(rta));
    memcpy((uint8_t *)a + at + RTA_LENGTH(0), data, len);
    a->h.nlmsg_len = (uint32_t)(at + RTA_SPACE(len));
}

static void ask_addr(struct ask *a, uint16_t type, const struct smt_addr *addr)
{
    if (smt_addr_is_ipv4(addr))
        ask_attr(a, type, addr->ip + IPV4_AT, IPV4_LEN);
    else
        ask_attr(a, type, addr->ip, IPV6_LEN);
}

/* Asks and gives the one answer: its body at *body, its attributes from there on. */
static int answer_get(int nl, struct ask *a, uint8_t answer[ANSWER_LEN], size_t body_len,
                      const uint8_t **body, size_t *len)
{
    if (send(nl, a, a->h.nlmsg_len, 0) < 0)
        return SMT_ESYSTEM;
    ssize_t n;
    do
        n = recv(nl, answer, ANSWER_LEN, 0);
    while (n < 0 && errno == EINTR);
    struct nlmsghdr h;
    if (n < (ssize_t)sizeof(h))
        return SMT_ESYSTEM;
    memcpy(&h, answer, sizeof(h));
    if (h.nlmsg_len < NLMSG_LENGTH(body_len) || h.nlmsg_len > (size_t)n)
        return SMT_ESYSTEM;
    if (h.nlmsg_type == NLMSG_ERROR) {
        int error;
        memcpy(&error, answer + NLMSG_HDRLEN, sizeof(error));
        if (error == -ENODEV)
            return SMT_ENODEV;
        return error == -ENOENT || error == -ENETUNREACH || error == -EHOSTUNREACH ||
                       error == -EACCES || error == -EINVAL
                   ? SMT_EUNREACHABLE
                   : SMT_ESYSTEM;
    }
    *body = answer + NLMSG_HDRLEN;
    *len = h.nlmsg_len - NLMSG_HDRLEN;
    return 0;
}

/* The attribute of that type after a body of body_len bytes; NULL when there is none. */
static const uint8_t *attr_find(const uint8_t *body, size_t len, size_t body_len, uint16_t type,
                                size_t *attr_len)
{
    size_t at = NLMSG_ALIGN(body_len);
    struct rtattr rta;
    while (at + sizeof(rta) <= len) {
        memcpy(&rta, body + at, sizeof(rta));
        if (rta.rta_len < sizeof(rta) || at + rta.rta_len > len)
            break;
        if ((rta.rta_type & NLA_TYPE_MASK) == type) {
            *attr_len = rta.rta_len - sizeof(rta);
            return body + at + sizeof(rta);
        }
        at += RTA_ALIGN(rta.rta_len);
    }
    return NULL;
}

static bool attr_u32(const uint8_t *body, size_t len, size_t body_len, uint16_t type,
                     uint32_t *out)
{
    size_t n;
    const uint8_t *p = attr_find(body, len, body_len, type, &n);
    if (p == NULL || n < sizeof(*out))
        return false;
    memcpy(out, p, sizeof(*out));
    return true;
}

static bool attr_addr(const uint8_t *body, size_t len, size_t body_len, uint16_t type,
                      struct smt_addr *out)
{
    size_t n;
    const uint8_t *p = attr_find(body, len, body_len, type, &n);
    if (p == NULL || (n != IPV4_LEN && n != IPV6_LEN))
        return false;
    *out = (struct smt_addr){0};
    if (n == IPV4_LEN) {
        out->ip[10] = out->ip[11] = 0xff;
        memcpy(out->ip + IPV4_AT, p, IPV4_LEN);
    } else {
        memcpy(out->ip, p, IPV6_LEN);
    }
    return true;
}

static void attr_text(const uint8_t *p, size_t n, char *out, size_t out_len)
{
    snprintf(out, out_len, "%.*s", p != NULL ? (int)n : 0, p != NULL ? (const char *)p : "");
}

int smt_link_find(int nl, const char *name, uint32_t ifindex, struct smt_link *out)
{
    struct ask a = {0};
    ask_begin(&a, RTM_GETLINK, 0, sizeof(a.link));
    if (name != NULL) {
        size_t len = strlen(name) + 1;
        if (len > sizeof(out->name))
            return SMT_ENODEV;
        ask_attr(&a, IFLA_IFNAME, name, len);
    } else {
        a.link.ifi_index = (int)ifindex;
    }
    uint8_t answer[ANSWER_LEN];
    const uint8_t *body;
    size_t len, n;
    struct ifinfomsg info;
    int r = answer_get(nl, &a, answer, sizeof(info), &body, &len);
    if (r < 0)
        return r == SMT_EUNREACHABLE ? SMT_ENODEV : r;
    memcpy(&info, body, sizeof(info));
    *out = (struct smt_link){
        .ifindex = (uint32_t)info.ifi_index,
        .type = info.ifi_type,
        .is_up = (info.ifi_flags & IFF_UP) != 0,
        .is_noarp = (info.ifi_flags & (IFF_NOARP | IFF_LOOPBACK)) != 0,
    };
    (void)attr_u32(body, len, sizeof(info), IFLA_MTU, &out->mtu);
    (void)attr_u32(body, len, sizeof(info), IFLA_MASTER, &out->master);
    const uint8_t *p = attr_find(body, len, sizeof(info), IFLA_IFNAME, &n);
    attr_text(p, p != NULL ? n : 0, out->name, sizeof(out->name));
    p = attr_find(body, len, sizeof(info), IFLA_ADDRESS, &n);
    if (p != NULL && n == SMT_MAC_LEN)
        memcpy(out->mac, p, SMT_MAC_LEN);
    p = attr_find(body, len, sizeof(info), IFLA_LINKINFO, &n);
    if (p != NULL) {
        size_t kind_len = 0;
        const uint8_t *kind = attr_find(p, n, 0, IFLA_INFO_KIND, &kind_len);
        attr_text(kind, kind_len, out->kind, sizeof(out->kind));
    }
    return 0;
}

/* Fills in state and hardware address of the hop. */
static int hop_find(int nl, struct smt_route *route)
{
    struct ask a = {0};
    ask_begin(&a, RTM_GETNEIGH, 0, sizeof(a.nd));
    a.nd.ndm_family = smt_addr_is_ipv4(&route->hop) ? AF_INET : AF_INET6;
    a.nd.ndm_ifindex = (int)route->ifindex;
    ask_addr(&a, NDA_DST, &route->hop);
    uint8_t answer[ANSWER_LEN];
    const uint8_t *body;
    size_t len, n;
    struct ndmsg nd;
    route->state = SMT_HOP_UNKNOWN;
    int r = answer_get(nl, &a, answer, sizeof(nd), &body, &len);
    if (r == SMT_EUNREACHABLE)
        return 0;
    if (r < 0)
        return r;
    memcpy(&nd, body, sizeof(nd));
    const uint8_t *mac = attr_find(body, len, sizeof(nd), NDA_LLADDR, &n);
    if (mac == NULL || n != SMT_MAC_LEN)
        return 0;
    if (nd.ndm_state & (NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP))
        route->state = SMT_HOP_GOOD;
    else if (nd.ndm_state & (NUD_STALE | NUD_DELAY | NUD_PROBE))
        route->state = SMT_HOP_STALE;
    else
        return 0;
    memcpy(route->mac, mac, SMT_MAC_LEN);
    return 0;
}

/* The metric MTU of a route, 0 = the link's. */
static uint32_t metric_mtu(const uint8_t *body, size_t len)
{
    size_t n;
    uint32_t mtu = 0;
    const uint8_t *metrics = attr_find(body, len, sizeof(struct rtmsg), RTA_METRICS, &n);
    if (metrics != NULL)
        (void)attr_u32(metrics, n, 0, RTAX_MTU, &mtu);
    return mtu;
}

int smt_route_find(int nl, const struct smt_addr *to, const struct smt_addr *src,
                   uint32_t ifindex, struct smt_route *out)
{
    struct ask a = {0};
    bool is_ipv4 = smt_addr_is_ipv4(to);
    uint8_t bits = is_ipv4 ? 8 * IPV4_LEN : 8 * IPV6_LEN;
    ask_begin(&a, RTM_GETROUTE, 0, sizeof(a.rt));
    a.rt.rtm_family = is_ipv4 ? AF_INET : AF_INET6;
    a.rt.rtm_dst_len = bits;
    ask_addr(&a, RTA_DST, to);
    if (src != NULL) {
        a.rt.rtm_src_len = bits;
        ask_addr(&a, RTA_SRC, src);
    }
    if (ifindex == 0)
        ifindex = to->scope;
    if (ifindex != 0)
        ask_attr(&a, RTA_OIF, &ifindex, sizeof(ifindex));
    uint8_t answer[ANSWER_LEN];
    const uint8_t *body;
    size_t len;
    struct rtmsg rt;
    int r = answer_get(nl, &a, answer, sizeof(rt), &body, &len);
    if (r < 0)
        return r;
    memcpy(&rt, body, sizeof(rt));
    struct smt_route route = {.is_local = rt.rtm_type == RTN_LOCAL, .hop = *to};
    route.hop.port = 0;
    route.hop.zero = 0;
    if ((rt.rtm_type != RTN_UNICAST && rt.rtm_type != RTN_LOCAL) ||
        !attr_u32(body, len, sizeof(rt), RTA_OIF, &route.ifindex))
        return SMT_EUNREACHABLE;
    if (!attr_addr(body, len, sizeof(rt), RTA_PREFSRC, &route.src)) {
        if (src == NULL)
            return SMT_EUNREACHABLE;
        route.src = *src;
        route.src.port = 0;
    }
    (void)attr_addr(body, len, sizeof(rt), RTA_GATEWAY, &route.hop);
    struct smt_link link;
    r = smt_link_find(nl, NULL, route.ifindex, &link);
    if (r < 0)
        return r == SMT_ENODEV ? SMT_EUNREACHABLE : r;
    uint32_t metric = metric_mtu(body, len);
    route.mtu = metric != 0 && metric < link.mtu ? metric : link.mtu;
    if (link.is_noarp) {
        route.state = SMT_HOP_GOOD;
    } else {
        r = hop_find(nl, &route);
        if (r < 0)
            return r;
    }
    *out = route;
    return 0;
}

/* Whether one message of a dump of addresses tells of this one. */
static bool addr_is_told(const struct nlmsghdr *h, const uint8_t *body, uint32_t ifindex,
                         const struct smt_addr *addr)
{
    struct ifaddrmsg ifa;
    struct smt_addr found;
    if (h->nlmsg_type != RTM_NEWADDR || h->nlmsg_len < NLMSG_LENGTH(sizeof(ifa)))
        return false;
    memcpy(&ifa, body, sizeof(ifa));
    size_t len = h->nlmsg_len - NLMSG_HDRLEN;
    return ifa.ifa_index == ifindex &&
           (attr_addr(body, len, sizeof(ifa), IFA_LOCAL, &found) ||
            attr_addr(body, len, sizeof(ifa), IFA_ADDRESS, &found)) &&
           memcmp(found.ip, addr->ip, sizeof(found.ip)) == 0;
}

int smt_link_has_addr(int nl, uint32_t ifindex, const struct smt_addr *addr, bool *out)
{
    struct ask a = {0};
    ask_begin(&a, RTM_GETADDR, NLM_F_DUMP, sizeof(a.addr));
    a.addr.ifa_family = smt_addr_is_ipv4(addr) ? AF_INET : AF_INET6;
    a.addr.ifa_index = ifindex;
    *out = false;
    if (send(nl, &a, a.h.nlmsg_len, 0) < 0)
        return SMT_ESYSTEM;
    uint8_t answer[ANSWER_LEN];
    for (;;) {
        ssize_t n = recv(nl, answer, sizeof(answer), 0);
        if (n < 0 && errno == EINTR)
            continue;
        struct nlmsghdr h;
        if (n < (ssize_t)sizeof(h))
            return SMT_ESYSTEM;
        for (size_t at = 0; at + sizeof(h) <= (size_t)n; at += NLMSG_ALIGN(h.nlmsg_len)) {
            memcpy(&h, answer + at, sizeof(h));
            if (h.nlmsg_type == NLMSG_DONE)
                return 0;
            if (h.nlmsg_len < sizeof(h) || at + h.nlmsg_len > (size_t)n ||
                h.nlmsg_type == NLMSG_ERROR)
                return SMT_ESYSTEM;
            if (addr_is_told(&h, answer + at + NLMSG_HDRLEN, ifindex, addr))
                *out = true;
        }
    }
}
