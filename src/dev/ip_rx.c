/* Receiving by raw IP sockets: one recvmmsg a call, the sockets in turn.
 *
 * IPv4 comes with its header, which tells the identification; IPv6 without. The filter in the
 * kernel has looked at the port already; it is looked at again because it costs nothing and says
 * who is spoken to. Where a packet comes from: the address from IP, the port from its first bytes.
 */
#include "dev/ip.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

enum { UNWATCH_AFTER = 256, PORTS_LEN = 4, MIN_BATCH = 8 };

void smt_ip_rx_init(struct smt_ip *d, uint8_t *slots)
{
    struct smt_ip_rx *rx = &d->rx;
    for (unsigned i = 0; i < SMT_IP_RX_PACKETS; i++) {
        rx->iov[i] = (struct iovec){
            .iov_base = slots + (size_t)i * SMT_IP_RX_SLOT,
            .iov_len = SMT_IP_RX_SLOT,
        };
        rx->msgs[i].msg_hdr = (struct msghdr){
            .msg_name = &rx->names[i],
            .msg_iov = &rx->iov[i],
            .msg_iovlen = 1,
            .msg_control = rx->control[i],
        };
    }
}

static uint8_t ecn_of(struct msghdr *m)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
            int tclass;
            memcpy(&tclass, CMSG_DATA(c), sizeof(tclass));
            return tclass & 3;
        }
    }
    return 0;
}

/* False: not for us, or not whole. */
static bool packet_open(struct smt_ip *d, uint32_t i, struct smt_pkt *out)
{
    struct smt_ip_rx *rx = &d->rx;
    struct msghdr *m = &rx->msgs[i].msg_hdr;
    uint8_t *p = rx->iov[i].iov_base;
    uint32_t len = rx->msgs[i].msg_len;
    *out = (struct smt_pkt){.from = &rx->from[i]};
    if (m->msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return false;
    if (d->sockets[rx->socket].family == AF_INET) {
        uint32_t head = len >= SMT_IP_V4_LEN ? (p[0] & 15u) * 4 : 0;
        if (head < SMT_IP_V4_LEN || len < head)
            return false;
        out->ecn = p[1] & 3;
        out->ip_id = smt_get_be16(p + 4);
        p += head;
        len -= head;
    } else {
        out->ecn = ecn_of(m);
    }
    if (len < PORTS_LEN || smt_get_be16(p + 2) != d->port ||
        !smt_addr_from_sockaddr(&rx->names[i], &rx->from[i]))
        return false;
    rx->from[i].port = smt_get_be16(p);
    out->data = p;
    out->len = len;
    return true;
}

static int rest_take(struct smt_ip *d, struct smt_pkt *pkts, unsigned n)
{
    struct smt_ip_rx *rx = &d->rx;
    unsigned got = 0;
    for (; got < n && rx->cur < rx->n; rx->cur++) {
        if (packet_open(d, rx->cur, &pkts[got])) {
            d->stats.rx_bytes += pkts[got].len;
            got++;
        } else {
            d->stats.rx_dropped++;
        }
    }
    d->stats.rx_packets += got;
    d->stats.rx_frames += got;
    return (int)got;
}

static bool is_dead(int error)
{
    return error == EBADF || error == ENOTSOCK || error == EFAULT || error == EINVAL;
}

/* Packets received, 0, or an error when the socket is gone. */
static int socket_receive(struct smt_ip *d, unsigned socket, unsigned n)
{
    struct smt_ip_rx *rx = &d->rx;
    if (n < MIN_BATCH)
        n = MIN_BATCH;
    if (n > SMT_IP_RX_PACKETS)
        n = SMT_IP_RX_PACKETS;
    for (unsigned i = 0; i < n; i++) {
        rx->msgs[i].msg_hdr.msg_namelen = sizeof(rx->names[i]);
        rx->msgs[i].msg_hdr.msg_controllen = SMT_IP_CONTROL;
    }
    d->stats.rx_calls++;
    int r = recvmmsg(d->sockets[socket].fd, rx->msgs, n, 0, NULL);
    if (r < 0) {
        smt_ip_failed(d, errno);
        return is_dead(errno) ? SMT_EDEVICE : 0;
    }
    rx->socket = socket;
    rx->cur = 0;
    rx->n = (uint32_t)r;
    return r;
}

int smt_ip_rx(struct smt_dev *dev, struct smt_pkt *pkts, unsigned n)
{
    struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    struct smt_ip_rx *rx = &d->rx;
    if (smt_ip_rx_has_rest(d))
        return rest_take(d, pkts, n);
    if (d->n_unarmed < UNWATCH_AFTER && ++d->n_unarmed == UNWATCH_AFTER)
        smt_ip_unwatch(d);
    for (unsigned i = 0; i < d->n_sockets; i++) {
        unsigned socket = rx->next;
        rx->next = (rx->next + 1) % d->n_sockets;
        int r = socket_receive(d, socket, n);
        if (r < 0)
            return r;
        if (r > 0) {
            r = rest_take(d, pkts, n);
            if (r > 0)
                return r;
        }
    }
    return 0;
}
