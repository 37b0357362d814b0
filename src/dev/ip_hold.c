/* Raw sockets that nobody reads: each drops whatever comes, but as long as it is there the kernel
 * does not answer "protocol unreachable", on which a kernel peer gives up all its calls to this
 * host; and ICMP errors that quote packets of its protocol come to its error queue, whoever sent
 * the packets. */
#include "dev/ip_hold.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dev/dev_impl.h"
#include "dev/ip_claim.h"
#include "dev/ip_refused.h"

static const int families[SMT_IP_HOLD_SOCKETS] = {AF_INET, AF_INET6};

void smt_ip_hold_init(struct smt_ip_hold *h)
{
    *h = (struct smt_ip_hold){.claim_fd = -1, .fds = {-1, -1}};
}

/* -1: it cannot be had. */
static int quiet_open(int family, uint8_t protocol)
{
    int fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
    if (fd < 0)
        return -1;
    struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    const struct sock_fprog program = {.len = 1, .filter = &drop};
    int on = 1, r;
    r = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
    r |= family == AF_INET ? setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on))
                           : setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof(on));
    if (r == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int smt_ip_hold_open(struct smt_ip_hold *h, const struct smt_dev_config *config, uint8_t protocol,
                     const struct smt_addr *bound)
{
    int r = smt_ip_port_take(config, protocol, bound, &h->port, &h->claim_fd);
    for (unsigned i = 0; i < SMT_IP_HOLD_SOCKETS && r == 0; i++) {
        h->fds[i] = quiet_open(families[i], protocol);
        if (h->fds[i] < 0 && errno != EAFNOSUPPORT)
            r = smt_dev_fail(config->error_text, config->error_text_len,
                             errno == EPERM || errno == EACCES ? SMT_EPERM : SMT_ESYSTEM,
                             "a raw IP socket (CAP_NET_RAW), which keeps the kernel from answering "
                             "packets of IP protocol %u: %s",
                             protocol, strerror(errno));
    }
    return r;
}

void smt_ip_hold_close(struct smt_ip_hold *h)
{
    for (unsigned i = 0; i < SMT_IP_HOLD_SOCKETS; i++) {
        if (h->fds[i] >= 0)
            close(h->fds[i]);
    }
    if (h->claim_fd >= 0)
        close(h->claim_fd);
    smt_ip_hold_init(h);
}

int smt_ip_hold_refused(struct smt_ip_hold *h, struct smt_addr *to, int *error)
{
    if (SMT_LIKELY(!h->has_reports))
        return 0;
    for (unsigned i = 0; i < SMT_IP_HOLD_SOCKETS; i++) {
        int r = -1;
        while (h->fds[i] >= 0 &&
               (r = smt_ip_report_take(h->fds[i], families[i] == AF_INET, h->port, to, error)) == 0)
            continue;
        if (r > 0)
            return 1;
    }
    h->has_reports = false;
    return 0;
}
