/* The UDP socket of the resolve exchange: a datagram in or out, and by which of our addresses. */
#ifndef SMT_DEV_UD_SOCK_H
#define SMT_DEV_UD_SOCK_H

#include "base/addr.h"
#include "base/defs.h"

struct smt_ud_sock {
    int fd;
    bool is_ipv6; /* a socket of both families, or bound to an IPv6 address */
    uint16_t port;
};

struct smt_ud_sock_config {
    struct smt_addr bind_to; /* all zero = every address of the interface; port 0 = any free one */
    const char *ifname;      /* "" = no interface in particular */
    uint8_t number, share;   /* as of smt_dev_config */
    char *error_text;        /* one line on failure */
    size_t error_text_len;
};

/* On failure nothing is open. */
SMT_MUST_CHECK int smt_ud_sock_open(const struct smt_ud_sock_config *config,
                                    struct smt_ud_sock *out);
void smt_ud_sock_close(struct smt_ud_sock *s);

/* One datagram without waiting: its length, which may be larger than `cap` (then it is cut), or -1
 * when there is none. *local is the address of ours that it came to, port 0. */
int smt_ud_sock_receive(const struct smt_ud_sock *s, void *data, size_t cap, struct smt_addr *from,
                        struct smt_addr *local);

/* From `local` (all zero = the kernel's choice). False when the kernel did not take it. */
SMT_MUST_CHECK bool smt_ud_sock_send(const struct smt_ud_sock *s, const void *data, size_t len,
                                     const struct smt_addr *to, const struct smt_addr *local);

#endif
