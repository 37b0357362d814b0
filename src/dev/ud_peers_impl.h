/* The table of peers, shared by ud_peers.c (entries, routes), ud_exchange.c (questions and proofs)
 * and ud_source.c (who sent a packet). */
#ifndef SMT_DEV_UD_PEERS_IMPL_H
#define SMT_DEV_UD_PEERS_IMPL_H

#include "base/bytes.h"
#include "base/list.h"
#include "base/map.h"
#include "base/pool.h"
#include "dev/ud_path.h"
#include "dev/ud_peers.h"
#include "dev/ud_resolve.h"
#include "dev/ud_sock.h"

/* Distance of the first two questions; how long a peer may be silent while packets go to it. */
#define SMT_UD_ASK_GAP (20 * SMT_MSEC)
#define SMT_UD_SILENCE (250 * SMT_MSEC)

struct smt_ud_peer {
    struct smt_list lru;      /* in `proven` when it has a path, else in `asking` */
    struct smt_addr addr;     /* scope as from() gives it */
    uint8_t number;           /* of the endpoint, where several have this port; else 0 */
    uint8_t share;            /* of number 0: how many have it, as one of them said last; else 0 */
    struct smt_ud_path *path; /* NULL: never proven */
    uint32_t qpn, qkey, their_mtu;
    bool is_unreachable;    /* the last look at the routes found none */
    bool is_stale;          /* proven long ago: asked again before a handle is made for it */
    uint32_t n_asked;       /* since the last answer */
    uint32_t n_unheard;     /* answers since a packet of it came */
    uint64_t nonce;         /* of the question that is out; 0 = none */
    uint64_t ask_at, gap;   /* no question before; distance to the next but one */
    uint64_t waiting_since; /* the first packet given to it since it was heard; 0 = none */
    uint64_t touched;
};

struct smt_ud_peers {
    struct smt_ud_port *port;
    struct smt_ud_sock sock;
    uint32_t qpns[SMT_UD_MAX_QPS], n_qps, qkey;
    uint8_t number, share; /* ours; 0 of 0 when alone */
    uint64_t salt; /* odd: ports in keys */
    uint64_t nonce_key[2], n_nonces;
    struct smt_ud_cookie cookie;
    struct smt_map map;
    struct smt_pool pool;
    struct smt_list proven, asking; /* least recently used first */
    uint32_t n_proven, n_asking, max_proven, max_asking;
    struct smt_ud_peer *last_heard;
    struct smt_ud_peer *run_peer; /* last_heard, when these words of a packet mean it (IPv4) */
    uint64_t run_addresses;
    __be32 run_imm;
    uint64_t last_query, last_poll;
    uint64_t looked_at; /* last_poll when an unknown sender was looked for in the socket */
    struct smt_ud_bucket queries, answers;
    struct smt_ud_paths paths;
    struct smt_ud_peers_stats stats;
};

/* An address and its port are more than a key holds: port and number are folded in with a secret,
 * and what is found is compared in full. */
static inline struct smt_map_key smt_ud_peer_key(const struct smt_ud_peers *p,
                                                 const struct smt_addr *a, uint8_t number)
{
    return (struct smt_map_key){
        smt_get_be64(a->ip) ^ p->salt * (((uint32_t)number << 16 | a->port) + 1u),
        smt_get_be64(a->ip + 8),
    };
}

static inline struct smt_ud_peer *smt_ud_peer_get(const struct smt_ud_peers *p,
                                                  const struct smt_addr *addr, uint8_t number)
{
    struct smt_ud_peer *peer = smt_map_get(&p->map, smt_ud_peer_key(p, addr, number));
    bool is_it = peer != NULL && peer->number == number && smt_addr_equal(&peer->addr, addr);
    return is_it ? peer : NULL;
}

static inline bool smt_ud_addr_is_multicast(const struct smt_addr *a)
{
    return smt_addr_is_ipv4(a) ? a->ip[12] >= 224 : a->ip[0] == 0xff;
}

static inline bool smt_ud_addr_is_zero(const struct smt_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip + (smt_addr_is_ipv4(a) ? 12 : 0), zero, smt_addr_is_ipv4(a) ? 4 : 16) == 0;
}

static inline bool smt_ud_addr_is_link_local(const struct smt_addr *a)
{
    return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* As the table has it: only link-local addresses have a scope, and it is our interface. False for
 * what no packet can go to. */
bool smt_ud_addr_normalise(const struct smt_ud_peers *p, struct smt_addr *a);

/* A peer not known so far, among the asking. NULL when there is no memory. */
struct smt_ud_peer *smt_ud_peer_new(struct smt_ud_peers *p, const struct smt_addr *addr,
                                    uint8_t number, uint64_t now);

/* Its path replaces the one it had; the first makes it proven. */
void smt_ud_peer_set_path(struct smt_ud_peers *p, struct smt_ud_peer *peer,
                          struct smt_ud_path *path);

/* A question is due: sends it, unless there is no way to. */
void smt_ud_peer_ask(struct smt_ud_peers *p, struct smt_ud_peer *peer, uint64_t now);

#endif
