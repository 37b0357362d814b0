/* Strangers whose handshake is under way: how many, from which hosts, and who gives way when there
 * are too many. */
#ifndef SMT_CORE_HALF_OPEN_H
#define SMT_CORE_HALF_OPEN_H

#include "base/addr.h"
#include "base/list.h"

struct smt_conn;
struct smt_engine;

/* Each holds a TLS state of some 50 KB. More than can be finished in time, and a storm of clients
 * that come back at once is served better in turns than all together too late. */
enum { SMT_HALF_OPEN_MAX = 4096, SMT_HALF_OPEN_HOSTS = 1024 };

/* Hosts share a bucket by a keyed hash: IPv4 by address, IPv6 by /64. */
struct smt_half_open_host {
    uint64_t filled_at; /* when its tokens were last filled up */
    uint32_t tokens;    /* handshakes it may still begin */
    uint32_t n;         /* under way */
};

struct smt_half_open {
    struct smt_list conns; /* by half_link, oldest first */
    uint32_t n;
    struct smt_half_open_host hosts[SMT_HALF_OPEN_HOSTS];
};

void smt_half_open_init(struct smt_half_open *h);

/* May a stranger at `from` begin a handshake? Ends an older one of a host that has more of them, if
 * need be. */
bool smt_half_open_admit(struct smt_engine *e, uint64_t now, const struct smt_addr *from);

/* A responder's conn begins its handshake; its handshake is over, one way or the other. */
void smt_half_open_enter(struct smt_conn *c);
void smt_half_open_leave(struct smt_conn *c);

#endif
