/* A transport address as every layer but dev sees it: IPv6 or IPv4-mapped IPv6, and a port. */
#ifndef SMT_BASE_ADDR_H
#define SMT_BASE_ADDR_H

#include <string.h>

#include "base/defs.h"

struct smt_addr {
    uint8_t ip[16];   /* network order; IPv4 as ::ffff:a.b.c.d */
    uint16_t port;    /* host order */
    uint16_t zero;
    uint32_t scope;   /* interface index of link-local IPv6, else 0 */
};

static_assert(sizeof(struct smt_addr) == 24, "compared as one run of bytes");

/* By words: a call of memcmp costs more than it does. */
static inline bool smt_addr_equal(const struct smt_addr *a, const struct smt_addr *b)
{
    return memcmp(a->ip, b->ip, 8) == 0 && memcmp(a->ip + 8, b->ip + 8, 8) == 0 &&
           memcmp(&a->port, &b->port, 8) == 0;
}

static inline bool smt_addr_is_ipv4(const struct smt_addr *a)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(a->ip, prefix, sizeof(prefix)) == 0;
}

#endif
