/* Raw IP sockets: which options they need and what they let through.
 *
 * IPv4 is sent with a header of our own, for its identification and DF are part of what profiles
 * promise; IPv6 leaves the header to the kernel. A filter in the kernel passes only packets of our
 * port (bytes 2 and 3 of every profile's header), and of TCP only those with Homa's marks.
 *
 * The kernel answers packets of a protocol that nobody takes with "protocol unreachable", on which
 * a kernel peer gives up all its calls to this host. It asks first whether a raw socket takes it,
 * and the filter comes after that question: as long as the device is open it keeps quiet. */
#include "dev/ip.h"

#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    RX_BUFFER_DEFAULT = 8 << 20,
    TX_BUFFER = 4 << 20,
    PASS = 0x40000,
    OFF_PORT = 2,
    OFF_FLAGS = 13,
    OFF_CHECKSUM = 16,
    OFF_URGENT = 18,
    HIJACK_FLAGS = 0x06,
    HIJACK_URGENT = 0xb97d,
};

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

/* As much as the administrator lets us have, by force if we may. */
static void buffer_set(int fd, int force, int plain, int len)
{
    if (option_set(fd, SOL_SOCKET, force, len) < 0)
        (void)option_set(fd, SOL_SOCKET, plain, len);
}

/* The filter sees an IPv4 packet from its IP header on, an IPv6 packet from its payload on. */
int smt_ip_filter_set(const struct smt_ip_socket *s, uint16_t port, uint32_t hidden_link)
{
    struct sock_filter code[15];
    unsigned n = 0;
    bool is_v4 = s->family == AF_INET;
    uint16_t half = BPF_LD | BPF_H | (is_v4 ? BPF_IND : BPF_ABS);
    uint16_t byte = BPF_LD | BPF_B | (is_v4 ? BPF_IND : BPF_ABS);
    unsigned tests = s->protocol == SMT_IP_PROTO_TCP ? 3 : 1;
    if (hidden_link != 0) {
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                 (uint32_t)SKF_AD_OFF + SKF_AD_IFINDEX);
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, hidden_link, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
    }
    if (is_v4)
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0);
    const struct {
        uint16_t load;
        uint32_t at, want;
    } test[] = {
        {half, OFF_PORT, port},
        {byte, OFF_FLAGS, HIJACK_FLAGS},
        {half, OFF_URGENT, HIJACK_URGENT},
    };
    for (unsigned i = 0; i < tests; i++) {
        code[n++] = (struct sock_filter)BPF_STMT(test[i].load, test[i].at);
        uint8_t to_drop = (uint8_t)(2 * (tests - 1 - i) + 1);
        code[n++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, test[i].want, 0, to_drop);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, PASS);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    return setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int options_set(const struct smt_ip *d, int fd, int family, uint8_t protocol)
{
    int r = 0;
    if (family == AF_INET) {
        r |= option_set(fd, IPPROTO_IP, IP_HDRINCL, 1);
        r |= option_set(fd, IPPROTO_IP, IP_RECVERR, 1);
        return r;
    }
    r |= option_set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    r |= option_set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
    r |= option_set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
    r |= option_set(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    r |= option_set(fd, IPPROTO_IPV6, IPV6_TCLASS, d->ecn);
    if (protocol == SMT_IP_PROTO_TCP)
        r |= option_set(fd, IPPROTO_IPV6, IPV6_CHECKSUM, OFF_CHECKSUM);
    return r;
}

static int fail_socket(const struct smt_dev_config *config, uint8_t protocol)
{
    if (errno == EPERM || errno == EACCES)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EPERM,
                            "a raw IP socket needs CAP_NET_RAW: run as root, or setcap "
                            "cap_net_raw+ep on the program");
    if (errno == EAFNOSUPPORT)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_EUNSUPPORTED,
                            "this machine has no raw sockets of that family");
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                        "raw socket of IP protocol %u: %s", protocol, strerror(errno));
}

static int interface_bind(const struct smt_dev_config *config, const char *ifname, int fd)
{
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, ifname, (socklen_t)strlen(ifname)) == 0)
        return 0;
    if (errno == ENODEV)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENODEV,
                            "no network interface \"%s\" on this machine", ifname);
    return smt_dev_fail(config->error_text, config->error_text_len,
                        errno == EPERM ? SMT_EPERM : SMT_ESYSTEM, "binding to interface \"%s\": %s",
                        ifname, strerror(errno));
}

static int address_bind(const struct smt_ip *d, const struct smt_dev_config *config, int fd)
{
    struct sockaddr_storage sa;
    struct smt_addr bound = d->bound;
    bound.port = 0;
    unsigned len = smt_addr_to_sockaddr(&bound, false, &sa);
    if (bind(fd, (const struct sockaddr *)&sa, len) == 0)
        return 0;
    if (errno == EADDRNOTAVAIL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENAME,
                            "\"%.200s\" is not an address of this machine", config->bind_host);
    return smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                        "bind to \"%.200s\": %s", config->bind_host, strerror(errno));
}

int smt_ip_socket_open(const struct smt_ip *d, const struct smt_dev_config *config, int family,
                       uint8_t protocol, struct smt_ip_socket *out)
{
    int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return fail_socket(config, protocol);
    *out = (struct smt_ip_socket){.fd = fd, .family = family, .protocol = protocol};
    int r = 0;
    if (options_set(d, fd, family, protocol) != 0 || smt_ip_filter_set(out, d->port, 0) < 0)
        r = smt_dev_fail(config->error_text, config->error_text_len, SMT_ESYSTEM,
                         "options of a raw socket: %s", strerror(errno));
    if (r == 0 && d->ifname[0] != '\0')
        r = interface_bind(config, d->ifname, fd);
    if (r == 0 && d->has_bound)
        r = address_bind(d, config, fd);
    if (r < 0) {
        close(fd);
        return r;
    }
    uint32_t wanted = config->rx_buffer_len > 0 ? config->rx_buffer_len : RX_BUFFER_DEFAULT;
    buffer_set(fd, SO_RCVBUFFORCE, SO_RCVBUF, wanted > INT32_MAX / 2 ? INT32_MAX / 2 : (int)wanted);
    buffer_set(fd, SO_SNDBUFFORCE, SO_SNDBUF, TX_BUFFER);
    /* What came before the filter was there. */
    uint8_t none;
    while (recv(fd, &none, sizeof(none), MSG_TRUNC) >= 0)
        ;
    return 0;
}
