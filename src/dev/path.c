/* What the kernel's routing says about a destination: source address and link MTU.
 *
 * Both come from a connected socket that lives for the length of one call; nothing is sent. A
 * netlink route query would tell the same in three times the code. */
#include "dev/dev_impl.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IPV4_UDP_HEADERS = 28, IPV6_UDP_HEADERS = 48, PORT_DISCARD = 9 };

/* A socket connected to `to`, or -1. */
static int path_connect(const struct smt_addr *to, const char *ifname)
{
    struct smt_addr target = *to;
    if (target.port == 0)
        target.port = PORT_DISCARD;
    struct sockaddr_storage sa;
    unsigned len = smt_addr_to_sockaddr(&target, false, &sa);
    int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (ifname != NULL &&
        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ifname, (socklen_t)strlen(ifname)) < 0)
        goto err_close;
    if (connect(fd, (const struct sockaddr *)&sa, len) < 0)
        goto err_close;
    return fd;

err_close:
    close(fd);
    return -1;
}

bool smt_path_local(const struct smt_addr *to, const char *ifname, struct smt_addr *out)
{
    int fd = path_connect(to, ifname);
    if (fd < 0)
        return false;
    struct sockaddr_storage sa = {0};
    socklen_t len = sizeof(sa);
    bool ok =
        getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && smt_addr_from_sockaddr(&sa, out);
    out->port = 0;
    close(fd);
    return ok;
}

uint32_t smt_path_mtu(const struct smt_addr *to, const char *ifname)
{
    int fd = path_connect(to, ifname);
    if (fd < 0)
        return 0;
    bool is_ipv4 = smt_addr_is_ipv4(to);
    int mtu = 0;
    socklen_t len = sizeof(mtu);
    int r = getsockopt(fd, is_ipv4 ? IPPROTO_IP : IPPROTO_IPV6, is_ipv4 ? IP_MTU : IPV6_MTU, &mtu,
                       &len);
    close(fd);
    int headers = is_ipv4 ? IPV4_UDP_HEADERS : IPV6_UDP_HEADERS;
    return r < 0 || mtu <= headers ? 0 : (uint32_t)(mtu - headers);
}
