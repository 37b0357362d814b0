/* The UDP socket of the resolve exchange.
 *
 * Owns its options and the control messages that tell and set our own address: a peer must be
 * answered from the address at which it asked, because that address is our GID. One socket for both
 * families where there is IPv6, as the device `udp` has it. */
#include "dev/ud_sock.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dev/dev_impl.h"
#include "dev/steer.h"

enum { CONTROL_LEN = 64, ROCE_PORT = 4791, RX_BUFFER = 1 << 20 };

static_assert(CMSG_SPACE(sizeof(struct in6_pktinfo)) <= CONTROL_LEN, "room for either family");

static bool addr_is_any(const struct smt_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static int fail_socket(const struct smt_ud_sock_config *c, int code, const char *what)
{
    return smt_dev_fail(c->error_text, c->error_text_len, code, "%s: %s", what, strerror(errno));
}

static int fail_bind(const struct smt_ud_sock_config *c, int error)
{
    char address[64], *text = c->error_text;
    smt_dev_addr_text(&c->bind_to, address, sizeof(address));
    switch (error) {
    case EADDRINUSE:
        return smt_dev_fail(text, c->error_text_len, SMT_EADDRINUSE,
                            "UDP port %u, on which the device ud resolves its peers, is in use by "
                            "another socket; take another, or 0 for any",
                            c->bind_to.port);
    case EACCES:
        return smt_dev_fail(text, c->error_text_len, SMT_EPERM,
                            "UDP port %u is privileged; take one above 1023 or run with "
                            "CAP_NET_BIND_SERVICE",
                            c->bind_to.port);
    case EADDRNOTAVAIL:
        return smt_dev_fail(text, c->error_text_len, SMT_ENAME,
                            "%s is not an address of this machine", address);
    default:
        return smt_dev_fail(text, c->error_text_len, SMT_ESYSTEM, "UDP socket on %s: %s", address,
                            strerror(error));
    }
}

static int options_apply(int fd, int family, bool is_dual)
{
    int r = 0;
    if (family == AF_INET6) {
        r |= option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, !is_dual);
        r |= option_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    } else {
        r |= option_set(fd, IPPROTO_IP, IP_PKTINFO, 1);
    }
    return r;
}

/* Without the right to bind to the interface (before Linux 5.7) it works as well: the addresses
 * decide, and only two devices of one machine could not have the same port then. */
static void interface_bind(int fd, const char *ifname)
{
    if (ifname[0] != '\0')
        (void)setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ifname, (socklen_t)strlen(ifname));
}

/* The first of those that share takes the port as if for itself alone and opens it to the others
 * afterwards, as of `udp`; the second brings the program. */
static int bind_shared(const struct smt_ud_sock_config *c, int fd, const struct sockaddr *sa,
                       unsigned len)
{
    if (c->share > 1 && c->number > 0 && option_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) < 0)
        return fail_socket(c, SMT_ESYSTEM, "sharing a UDP port");
    if (bind(fd, sa, len) < 0)
        return fail_bind(c, errno);
    if (c->share <= 1)
        return 0;
    int r = c->number == 0 ? option_set(fd, SOL_SOCKET, SO_REUSEPORT, 1) : smt_steer_resolve(fd);
    return r < 0 ? fail_socket(c, SMT_ESYSTEM, "sharing a UDP port") : 0;
}

static int socket_open(const struct smt_ud_sock_config *c, int family)
{
    bool is_any = addr_is_any(&c->bind_to);
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_socket(c, errno == EAFNOSUPPORT ? SMT_EUNSUPPORTED : SMT_ESYSTEM, "UDP socket");
    int r;
    if (options_apply(fd, family, is_any) != 0) {
        r = fail_socket(c, SMT_ESYSTEM, "UDP socket options");
        goto err_close;
    }
    interface_bind(fd, c->ifname);
    /* Thousands of peers may ask at once; less room only means that they ask again. */
    (void)option_set(fd, SOL_SOCKET, SO_RCVBUF, RX_BUFFER);
    struct smt_addr at = c->bind_to;
    if (is_any && family == AF_INET)
        at.ip[10] = at.ip[11] = 0xff;
    struct sockaddr_storage sa;
    unsigned len = smt_addr_to_sockaddr(&at, false, &sa);
    r = bind_shared(c, fd, (const struct sockaddr *)&sa, len);
    if (r < 0)
        goto err_close;
    return fd;

err_close:
    close(fd);
    return r;
}

int smt_ud_sock_open(const struct smt_ud_sock_config *config, struct smt_ud_sock *out)
{
    const struct smt_addr *bind_to = &config->bind_to;
    if (bind_to->port == ROCE_PORT)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EADDRINUSE,
                            "UDP port %u belongs to RoCE itself; take another", ROCE_PORT);
    bool is_ipv6 = addr_is_any(bind_to) || !smt_addr_is_ipv4(bind_to);
    int fd = socket_open(config, is_ipv6 ? AF_INET6 : AF_INET);
    if (addr_is_any(bind_to) && (fd == SMT_EUNSUPPORTED || fd == SMT_ENAME)) {
        is_ipv6 = false;
        fd = socket_open(config, AF_INET);
    }
    if (fd < 0)
        return fd;
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    struct smt_addr local;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 || !smt_addr_from_sockaddr(&sa, &local)) {
        int r = fail_socket(config, SMT_ESYSTEM, "UDP socket");
        close(fd);
        return r;
    }
    *out = (struct smt_ud_sock){
        .fd = fd,
        .is_ipv6 = is_ipv6,
        .port = local.port,
    };
    return 0;
}

void smt_ud_sock_close(struct smt_ud_sock *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* Our address from the control messages; all zero when the kernel does not say. */
static void local_read(struct msghdr *msg, struct smt_addr *local)
{
    *local = (struct smt_addr){0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            memcpy(local->ip, &info.ipi6_addr, 16);
            if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
                local->scope = info.ipi6_ifindex;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            local->ip[10] = local->ip[11] = 0xff;
            memcpy(local->ip + 12, &info.ipi_addr, 4);
        }
    }
}

int smt_ud_sock_receive(const struct smt_ud_sock *s, void *data, size_t cap, struct smt_addr *from,
                        struct smt_addr *local)
{
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_LEN];
    struct sockaddr_storage sa = {0};
    struct iovec iov = {.iov_base = data, .iov_len = cap};
    struct msghdr msg = {
        .msg_name = &sa,
        .msg_namelen = sizeof(sa),
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t n = recvmsg(s->fd, &msg, MSG_TRUNC);
    if (n < 0 || !smt_addr_from_sockaddr(&sa, from))
        return -1;
    local_read(&msg, local);
    return (int)n;
}

bool smt_ud_sock_send(const struct smt_ud_sock *s, const void *data, size_t len,
                      const struct smt_addr *to, const struct smt_addr *local)
{
    if (!s->is_ipv6 && !smt_addr_is_ipv4(to))
        return false;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_LEN] = {0};
    struct sockaddr_storage sa;
    unsigned sa_len = smt_addr_to_sockaddr(to, s->is_ipv6, &sa);
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {
        .msg_name = &sa,
        .msg_namelen = sa_len,
        .msg_iov = &iov,
        .msg_iovlen = 1,
    };
    if (!addr_is_any(local)) {
        msg.msg_control = control;
        struct cmsghdr *c = (struct cmsghdr *)control;
        if (s->is_ipv6) {
            struct in6_pktinfo info = {.ipi6_ifindex = local->scope};
            memcpy(&info.ipi6_addr, local->ip, 16);
            msg.msg_controllen = CMSG_SPACE(sizeof(info));
            c->cmsg_level = IPPROTO_IPV6;
            c->cmsg_type = IPV6_PKTINFO;
            c->cmsg_len = CMSG_LEN(sizeof(info));
            memcpy(CMSG_DATA(c), &info, sizeof(info));
        } else {
            struct in_pktinfo info = {0};
            memcpy(&info.ipi_spec_dst, local->ip + 12, 4);
            msg.msg_controllen = CMSG_SPACE(sizeof(info));
            c->cmsg_level = IPPROTO_IP;
            c->cmsg_type = IP_PKTINFO;
            c->cmsg_len = CMSG_LEN(sizeof(info));
            memcpy(CMSG_DATA(c), &info, sizeof(info));
        }
    }
    return sendmsg(s->fd, &msg, MSG_DONTWAIT) == (ssize_t)len;
}
