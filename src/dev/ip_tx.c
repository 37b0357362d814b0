/* Sending by raw IP sockets: packets one behind the other in an arena, each with room for its IP
 * header, and all of a batch in one sendmmsg a socket.
 *
 * There is no segmentation offload for raw sockets, so nothing is joined or padded. The arena
 * starts again whenever it has run empty, which keeps what is used in the cache. An error of the
 * kernel belongs to the packet at the head: it is dropped and counted, nothing else is lost. */
#include "dev/ip.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "dev/super.h"

enum {
    ALIGN = 64,
    CALL_PACKETS = 64, /* most of one sendmmsg */
    VERSION_AND_WORDS = 0x45,
    DONT_FRAGMENT = 0x4000,
    HOPS = 64,
    OFF_CHECKSUM = 16,
};

static int8_t socket_for(const struct smt_ip *d, const struct smt_addr *to)
{
    int family = smt_addr_is_ipv4(to) ? AF_INET : AF_INET6;
    uint8_t protocol = d->is_tcp ? SMT_IP_PROTO_TCP : d->protocol;
    for (unsigned i = 0; i < d->n_sockets; i++)
        if (d->sockets[i].family == family && d->sockets[i].protocol == protocol)
            return (int8_t)i;
    return -1;
}

uint8_t *smt_ip_tx_reserve(struct smt_dev *dev, const struct smt_addr *to, size_t len, uint8_t prio)
{
    struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    struct smt_ip_tx *tx = &d->tx;
    assert(len > 0 && len <= SMT_DEV_MAX_PACKET && prio < 8);
    size_t need = (ALIGN + len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (SMT_UNLIKELY(tx->n == SMT_IP_TX_PACKETS || tx->used + need > SMT_IP_TX_ARENA)) {
        d->stats.tx_full++;
        return NULL;
    }
    struct smt_ip_packet *p = &tx->packets[tx->n++];
    bool is_v4 = smt_addr_is_ipv4(to);
    *p = (struct smt_ip_packet){
        .to = *to,
        .data = tx->arena + tx->used + ALIGN,
        .len = (uint32_t)len,
        .tos = (uint8_t)((uint32_t)prio << (is_v4 ? SMT_TOS_SHIFT : d->class_shift) | d->ecn),
        .socket = socket_for(d, to),
    };
    tx->before_last = tx->used;
    tx->used += need;
    return p->data;
}

void smt_ip_tx_unreserve(struct smt_dev *dev)
{
    struct smt_ip_tx *tx = &SMT_CONTAINER_OF(dev, struct smt_ip, base)->tx;
    assert(tx->n > tx->sent);
    tx->n--;
    tx->used = tx->before_last;
}

static uint64_t sum_words(uint64_t sum, const uint8_t *p, size_t len)
{
    size_t i = 0;
    for (; i + 1 < len; i += 2)
        sum += smt_get_be16(p + i);
    return i < len ? sum + ((uint64_t)p[i] << 8) : sum;
}

/* What stands in for TCP must look right to NICs and middle boxes (IPv6: the kernel does it). */
static void tcp_checksum(struct smt_ip *d, struct smt_ip_packet *p)
{
    const struct smt_addr *from = smt_ip_source(d, &p->to);
    if (from == NULL || p->len < OFF_CHECKSUM + 2)
        return;
    smt_put_be16(p->data + OFF_CHECKSUM, 0);
    uint64_t sum = sum_words(SMT_IP_PROTO_TCP + p->len, from->ip + 12, 4);
    sum = sum_words(sum, p->to.ip + 12, 4);
    sum = sum_words(sum, p->data, p->len);
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    smt_put_be16(p->data + OFF_CHECKSUM, (uint16_t)~sum);
}

/* Identification 0: the first packet of a burst, and the only one. The kernel fills in the source
 * address and the checksum. */
static void v4_header_put(const struct smt_ip_packet *p, uint8_t protocol)
{
    uint8_t *h = p->data - SMT_IP_V4_LEN;
    memset(h, 0, SMT_IP_V4_LEN);
    h[0] = VERSION_AND_WORDS;
    h[1] = p->tos;
    smt_put_be16(h + 2, (uint16_t)(SMT_IP_V4_LEN + p->len));
    smt_put_be16(h + 6, DONT_FRAGMENT);
    h[8] = HOPS;
    h[9] = protocol;
    memcpy(h + 16, p->to.ip + 12, 4);
}

struct call {
    struct mmsghdr msgs[CALL_PACKETS];
    struct iovec iov[CALL_PACKETS];
    struct sockaddr_storage names[CALL_PACKETS];
    _Alignas(struct cmsghdr) uint8_t control[CALL_PACKETS][SMT_IP_CONTROL];
};

static void message_fill(struct smt_ip *d, struct smt_ip_packet *p, struct call *c, unsigned i)
{
    const struct smt_ip_socket *s = &d->sockets[p->socket];
    struct msghdr *m = &c->msgs[i].msg_hdr;
    struct smt_addr to = p->to;
    to.port = 0; /* raw sockets take a protocol there */
    *m = (struct msghdr){
        .msg_name = &c->names[i],
        .msg_namelen = smt_addr_to_sockaddr(&to, false, &c->names[i]),
        .msg_iov = &c->iov[i],
        .msg_iovlen = 1,
    };
    if (s->family == AF_INET) {
        if (s->protocol == SMT_IP_PROTO_TCP)
            tcp_checksum(d, p);
        v4_header_put(p, s->protocol);
        c->iov[i] = (struct iovec){p->data - SMT_IP_V4_LEN, SMT_IP_V4_LEN + p->len};
        return;
    }
    c->iov[i] = (struct iovec){p->data, p->len};
    if (p->tos == d->ecn)
        return;
    int tclass = p->tos;
    struct cmsghdr *h = (struct cmsghdr *)c->control[i];
    memset(h, 0, CMSG_SPACE(sizeof(tclass)));
    h->cmsg_level = IPPROTO_IPV6;
    h->cmsg_type = IPV6_TCLASS;
    h->cmsg_len = CMSG_LEN(sizeof(tclass));
    memcpy(CMSG_DATA(h), &tclass, sizeof(tclass));
    m->msg_control = h;
    m->msg_controllen = CMSG_SPACE(sizeof(tclass));
}

static bool is_full(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS;
}

/* The first packet was refused. 0 to go on, else SMT_EAGAIN. */
static int head_failed(struct smt_ip *d, int error)
{
    if (error == EINTR)
        return 0;
    if (is_full(error)) {
        d->stats.tx_full++;
        return SMT_EAGAIN;
    }
    smt_ip_failed(d, error);
    if (error == EMSGSIZE)
        d->stats.tx_too_big++;
    else
        d->stats.tx_errors++;
    d->tx.sent++;
    return 0;
}

/* Packets from the head on that leave by one socket. 0 to go on, else SMT_EAGAIN. */
static int run_send(struct smt_ip *d)
{
    struct smt_ip_tx *tx = &d->tx;
    int8_t socket = tx->packets[tx->sent].socket;
    if (socket < 0) {
        d->stats.tx_errors++;
        tx->sent++;
        return 0;
    }
    struct call c;
    unsigned n = 0;
    while (n < CALL_PACKETS && tx->sent + n < tx->n && tx->packets[tx->sent + n].socket == socket) {
        message_fill(d, &tx->packets[tx->sent + n], &c, n);
        n++;
    }
    d->stats.tx_calls++;
    int r = sendmmsg(d->sockets[socket].fd, c.msgs, n, 0);
    if (r < 0)
        return head_failed(d, errno);
    for (int i = 0; i < r; i++) {
        d->stats.tx_packets++;
        d->stats.tx_frames++;
        d->stats.tx_bytes += tx->packets[tx->sent].len;
        tx->sent++;
    }
    return 0;
}

int smt_ip_tx_flush(struct smt_dev *dev)
{
    struct smt_ip *d = SMT_CONTAINER_OF(dev, struct smt_ip, base);
    struct smt_ip_tx *tx = &d->tx;
    int r = 0;
    while (tx->sent < tx->n && r == 0)
        r = run_send(d);
    if (tx->sent == tx->n) {
        tx->sent = tx->n = 0;
        tx->used = 0;
    }
    return r;
}
