/* What the network says of packets that did not arrive: the error queues of the raw sockets, read
 * only after a call on one of them has failed. A report counts when the packet it quotes is ours:
 * our port, our protocol. */
#include "dev/ip.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "dev/ip_refused.h"

enum { QUOTE_LEN = 128, PORTS_LEN = 4 };

void smt_ip_failed(struct smt_ip *d, int error)
{
    if (error != EAGAIN && error != EWOULDBLOCK && error != EINTR && error != ENOBUFS)
        d->has_refusals = true;
}

/* The errno of a report; 0: not one of the network's. */
static int errno_of(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
        bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
        if (!v4 && !v6)
            continue;
        struct sock_extended_err e;
        memcpy(&e, CMSG_DATA(c), sizeof(e));
        if (e.ee_origin == SO_EE_ORIGIN_ICMP || e.ee_origin == SO_EE_ORIGIN_ICMP6)
            return (int)e.ee_errno;
    }
    return 0;
}

/* Too long a packet is no refusal: its sender looks at the MTU. */
static int code_of(int error)
{
    switch (error) {
    case 0:
    case EMSGSIZE:
        return 0;
    case ECONNREFUSED:
        return SMT_EREFUSED;
    case ENOPROTOOPT:
    case EPROTO:
        return SMT_EVERSION;
    default:
        return SMT_EUNREACHABLE;
    }
}

int smt_ip_report_take(int fd, bool is_ipv4, uint16_t port, struct smt_addr *to, int *error)
{
    uint8_t quote[QUOTE_LEN];
    _Alignas(struct cmsghdr) uint8_t control[256];
    struct sockaddr_storage name;
    struct iovec iov = {quote, sizeof(quote)};
    struct msghdr m = {.msg_name = &name,
                       .msg_namelen = sizeof(name),
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (got < 0)
        return -1;
    size_t len = (size_t)got;
    size_t head = is_ipv4 && len > 0 ? (quote[0] & 15u) * 4 : 0;
    *error = code_of(errno_of(&m));
    if (*error == 0 || len < head + PORTS_LEN || !smt_addr_from_sockaddr(&name, to) ||
        smt_get_be16(quote + head) != port)
        return 0;
    to->port = *error == SMT_EREFUSED ? smt_get_be16(quote + head + 2) : 0;
    return 1;
}

int smt_ip_refused(struct smt_dev *dev, struct smt_addr *to, int *error)
{
    struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    if (SMT_LIKELY(!d->has_refusals))
        return 0;
    for (unsigned i = 0; i < d->n_sockets; i++) {
        const struct smt_ip_socket *s = &d->sockets[i];
        int r;
        while ((r = smt_ip_report_take(s->fd, s->family == AF_INET, d->port, to, error)) == 0)
            continue;
        if (r > 0)
            return 1;
    }
    d->has_refusals = false;
    return 0;
}
