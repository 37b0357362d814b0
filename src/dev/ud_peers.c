/* The peers of a `ud` device.
 *
 * Owns the table, what is asked when, and what proves what; the bytes are ud_resolve.c's, the
 * socket ud_sock.c's, the address handles ud_path.c's. Peers that have proved their address and
 * peers that are being asked for are bounded apart, so that packets to addresses that somebody made
 * up cannot push out one that is in use. There is no timer: a question is repeated when the engine
 * sends again, whose retransmissions are the timer. */
#include "dev/ud_peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/ud_env.h"
#include "dev/ud_path.h"
#include "dev/ud_resolve.h"
#include "dev/ud_sock.h"

enum {
    MAX_PEERS = 65536,
    MAX_ASKING = 4096,
    LEAST_ASKING = 16,
    ASKING_PART = 16, /* of the peers */
    FIRST_PEERS = 64,
    POLL_BATCH = 64,
    /* Messages a second caused by others, and at once: thousands of peers may start together. */
    LIMIT_RATE = 20000,
    LIMIT_BURST = 4096,
    EXPLAIN_QUERIES = 3,
    IPV4_MULTICAST = 224,
};
#define ASK_GAP (20 * SMT_MSEC)
#define ASK_GAP_MOST SMT_SEC
#define SILENCE (250 * SMT_MSEC)
#define TOUCH_GAP (100 * SMT_MSEC)
#define ASKING_LATELY (250 * SMT_MSEC)
#define RENEW_GAP SMT_SEC

struct peer {
    struct smt_list lru;      /* in `proven` when it has a path, else in `asking` */
    struct smt_addr addr;     /* scope as from() gives it */
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
    uint64_t salt; /* odd: ports in keys */
    uint64_t nonce_key[2], n_nonces;
    struct smt_ud_cookie cookie;
    struct smt_map map;
    struct smt_pool pool;
    struct smt_list proven, asking; /* least recently used first */
    uint32_t n_proven, n_asking, max_proven, max_asking;
    struct peer *last_heard;
    uint64_t last_query, last_poll;
    struct smt_ud_bucket queries, answers;
    struct smt_ud_paths paths;
    struct smt_ud_peers_stats stats;
};

/* ---- table ------------------------------------------------------------------------------------
 */

/* An address and its port are more than a key holds: the port is folded in with a secret, and what
 * is found is compared in full. */
static inline struct smt_map_key key_of(const struct smt_ud_peers *p, const struct smt_addr *a)
{
    return (struct smt_map_key){
        smt_get_be64(a->ip) ^ p->salt * (a->port + 1u),
        smt_get_be64(a->ip + 8),
    };
}

static inline struct peer *peer_get(const struct smt_ud_peers *p, const struct smt_addr *addr)
{
    struct peer *peer = smt_map_get(&p->map, key_of(p, addr));
    return peer != NULL && smt_addr_equal(&peer->addr, addr) ? peer : NULL;
}

static void peer_remove(struct smt_ud_peers *p, struct peer *peer)
{
    if (peer->path != NULL)
        smt_ud_path_drop(&p->paths, peer->path);
    *(peer->path != NULL ? &p->n_proven : &p->n_asking) -= 1;
    if (p->last_heard == peer)
        p->last_heard = NULL;
    smt_list_remove(&peer->lru);
    (void)smt_map_del(&p->map, key_of(p, &peer->addr));
    smt_pool_put(&p->pool, peer);
}

static void oldest_remove(struct smt_ud_peers *p, struct smt_list *list)
{
    struct smt_list *l = smt_list_first(list);
    assert(l != NULL);
    p->stats.n_evicted++;
    peer_remove(p, SMT_CONTAINER_OF(l, struct peer, lru));
}

/* A peer not known so far, among the asking. NULL when there is no memory. */
static struct peer *peer_new(struct smt_ud_peers *p, const struct smt_addr *addr, uint64_t now)
{
    struct smt_map_key key = key_of(p, addr);
    struct peer *other = smt_map_get(&p->map, key);
    if (other != NULL) /* another address with the same key: once in 2^64 */
        peer_remove(p, other);
    if (p->n_asking >= p->max_asking)
        oldest_remove(p, &p->asking);
    struct peer *peer = smt_pool_get(&p->pool);
    if (peer == NULL)
        return NULL;
    *peer = (struct peer){.addr = *addr, .touched = now, .gap = ASK_GAP};
    if (smt_map_put(&p->map, key, peer) < 0) {
        smt_pool_put(&p->pool, peer);
        return NULL;
    }
    smt_list_push_tail(&p->asking, &peer->lru);
    p->n_asking++;
    return peer;
}

/* Its path replaces the one it had; the first makes it proven. */
static void peer_set_path(struct smt_ud_peers *p, struct peer *peer, struct smt_ud_path *path)
{
    if (peer->path != NULL) {
        smt_ud_path_drop(&p->paths, peer->path);
        peer->path = path;
        return;
    }
    if (p->n_proven >= p->max_proven)
        oldest_remove(p, &p->proven);
    peer->path = path;
    p->n_asking--;
    p->n_proven++;
    smt_list_remove(&peer->lru);
    smt_list_push_tail(&p->proven, &peer->lru);
}

/* Back among the asking: our own address, which it knew us by, is gone. */
static void peer_forget_path(struct smt_ud_peers *p, struct peer *peer)
{
    smt_ud_path_drop(&p->paths, peer->path);
    peer->path = NULL;
    peer->nonce = 0;
    peer->ask_at = 0;
    peer->gap = ASK_GAP;
    p->n_proven--;
    smt_list_remove(&peer->lru);
    if (p->n_asking >= p->max_asking)
        oldest_remove(p, &p->asking);
    smt_list_push_tail(&p->asking, &peer->lru);
    p->n_asking++;
}

/* ---- messages out -----------------------------------------------------------------------------
 */

static uint64_t nonce_new(struct smt_ud_peers *p)
{
    uint64_t word = ++p->n_nonces;
    uint64_t nonce = smt_ud_siphash(p->nonce_key, &word, 1);
    return nonce != 0 ? nonce : 1;
}

/* Which of our queue pairs this peer is told: the same one each time. */
static uint32_t qpn_for(const struct smt_ud_peers *p, const struct smt_addr *peer)
{
    struct smt_map_key key = key_of(p, peer);
    uint64_t h = smt_map_hash(&p->map, key) >> 32;
    return p->qpns[h * p->n_qps >> 32];
}

static bool message_send(struct smt_ud_peers *p, const struct smt_ud_msg *what,
                         const uint8_t gid[16], const struct smt_addr *to,
                         const struct smt_addr *local)
{
    struct smt_ud_msg msg = *what;
    msg.link = p->port->is_ib ? SMT_UD_LINK_IB : SMT_UD_LINK_ROCE;
    msg.port = p->sock.port;
    msg.lid = p->port->is_ib ? p->port->lid : 0;
    msg.mtu = p->port->mtu;
    msg.qpn = qpn_for(p, to);
    msg.qkey = p->qkey;
    memcpy(msg.gid, gid, 16);
    uint8_t bytes[SMT_UD_MSG_LEN];
    smt_ud_msg_build(&msg, bytes);
    bool ok = smt_ud_sock_send(&p->sock, bytes, sizeof(bytes), to, local);
    if (!ok)
        p->stats.n_send_failed++;
    return ok;
}

/* A question is due: sends it, unless there is no way to. */
static void peer_ask(struct smt_ud_peers *p, struct peer *peer, uint64_t now)
{
    struct smt_addr local;
    /* Before anything else: to find the way costs more than to ask. */
    if (!smt_ud_bucket_take(&p->queries, now)) {
        p->stats.n_limited++;
        return;
    }
    const struct smt_ud_gid *source = smt_ud_port_source(p->port, &peer->addr, &local);
    peer->is_unreachable = source == NULL;
    if (source == NULL) {
        p->stats.n_noroute++;
    } else {
        if (peer->nonce == 0)
            peer->nonce = nonce_new(p);
        struct smt_ud_msg msg = {.kind = SMT_UD_QUERY, .nonce = peer->nonce};
        if (message_send(p, &msg, source->gid, &peer->addr, &local))
            p->stats.n_queries++;
        peer->n_asked++;
        p->last_query = now;
    }
    peer->ask_at = now + peer->gap;
    peer->gap = peer->gap * 2 < ASK_GAP_MOST ? peer->gap * 2 : ASK_GAP_MOST;
}

/* ---- the hot path -----------------------------------------------------------------------------
 */

static bool addr_is_multicast(const struct smt_addr *a)
{
    return smt_addr_is_ipv4(a) ? a->ip[12] >= IPV4_MULTICAST : a->ip[0] == 0xff;
}

static bool addr_is_zero(const struct smt_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip + (smt_addr_is_ipv4(a) ? 12 : 0), zero, smt_addr_is_ipv4(a) ? 4 : 16) == 0;
}

static bool addr_is_link_local(const struct smt_addr *a)
{
    return a->ip[0] == 0xfe && (a->ip[1] & 0xc0) == 0x80;
}

/* As the table has it: link-local addresses are those of our interface. False for what no packet
 * can go to. */
static bool addr_normalise(const struct smt_ud_peers *p, struct smt_addr *a)
{
    if (a->port == 0 || addr_is_multicast(a) || addr_is_zero(a))
        return false;
    if (!addr_is_link_local(a)) {
        a->scope = 0;
        return true;
    }
    if (a->scope != 0 && a->scope != (uint32_t)p->port->ifindex)
        return false;
    a->scope = (uint32_t)p->port->ifindex;
    return true;
}

static void peer_touch(struct smt_ud_peers *p, struct peer *peer, uint64_t now)
{
    peer->touched = now;
    smt_list_remove(&peer->lru);
    smt_list_push_tail(&p->proven, &peer->lru);
    smt_ud_path_touch(&p->paths, peer->path);
}

/* Is it still there? Asked at once, as one that is not known. */
static void peer_doubt(struct peer *peer, uint64_t now)
{
    peer->is_stale = true;
    peer->ask_at = now;
    peer->gap = ASK_GAP;
}

/* The rest of find: a peer that is not known, not proven, silent or without a handle. */
static enum smt_ud_found find_slow(struct smt_ud_peers *p, const struct smt_addr *to, uint8_t prio,
                                   uint64_t now, struct smt_ud_route *out)
{
    struct smt_addr addr = *to;
    if (!addr_normalise(p, &addr)) {
        p->stats.n_noroute++;
        return SMT_UD_NOROUTE;
    }
    struct peer *peer = peer_get(p, &addr);
    if (peer == NULL)
        peer = peer_new(p, &addr, now);
    if (peer == NULL)
        return SMT_UD_NOROUTE;
    bool is_ready =
        peer->path != NULL && smt_ud_path_is_ready(&p->paths, peer->path, prio, now);
    if (peer->path != NULL && !p->port->is_ib &&
        smt_ud_port_gid_of(p->port, peer->path->local.ip) == NULL)
        peer_forget_path(p, peer);
    else if (is_ready && smt_ud_path_ah(&p->paths, peer->path, prio, now) == NULL)
        return SMT_UD_NOROUTE;
    else if (peer->path != NULL && !is_ready && !peer->is_stale)
        peer_doubt(peer, now);
    if (now >= peer->ask_at)
        peer_ask(p, peer, now);
    if (peer->path == NULL || !is_ready)
        return peer->is_unreachable ? SMT_UD_NOROUTE : SMT_UD_ASKING;
    *out = (struct smt_ud_route){
        .ah = smt_ud_path_ah(&p->paths, peer->path, prio, now),
        .qpn = peer->qpn,
        .qkey = peer->qkey,
        .mtu = peer->their_mtu < p->port->mtu ? peer->their_mtu : p->port->mtu,
    };
    return SMT_UD_FOUND;
}

enum smt_ud_found smt_ud_peers_find(struct smt_ud_peers *p, const struct smt_addr *to, uint8_t prio,
                                    uint64_t now, struct smt_ud_route *out)
{
    assert(prio < SMT_UD_PRIOS);
    struct peer *peer = peer_get(p, to);
    if (SMT_UNLIKELY(peer == NULL || peer->path == NULL))
        return find_slow(p, to, prio, now, out);
    if (now - peer->touched >= TOUCH_GAP)
        peer_touch(p, peer, now);
    if (peer->waiting_since == 0) {
        peer->waiting_since = now;
        peer->gap = SILENCE;
        peer->ask_at = now + SILENCE;
    }
    const struct smt_ud_ah *handle = peer->path->ah[p->port->is_ib ? 0 : prio];
    if (SMT_UNLIKELY(now >= peer->ask_at || handle == NULL))
        return find_slow(p, to, prio, now, out);
    out->ah = handle->ah;
    out->qpn = peer->qpn;
    out->qkey = peer->qkey;
    out->mtu = peer->their_mtu < p->port->mtu ? peer->their_mtu : p->port->mtu;
    return SMT_UD_FOUND;
}

uint32_t smt_ud_peers_mtu(struct smt_ud_peers *p, const struct smt_addr *to)
{
    const struct peer *peer = peer_get(p, to);
    if (peer == NULL || peer->path == NULL || peer->their_mtu >= p->port->mtu)
        return p->port->mtu;
    return peer->their_mtu;
}

/* ---- received packets -------------------------------------------------------------------------
 */

static bool is_own_ipv4(const struct smt_ud_port *port, const uint8_t ipv4[4])
{
    struct smt_addr own = {.ip = {[10] = 0xff, [11] = 0xff}};
    memcpy(own.ip + 12, ipv4, 4);
    return smt_ud_port_gid_of(port, own.ip) != NULL;
}

/* RoCE v2 leaves an IPv6 header in the 40 bytes, or an IPv4 header in the last 20 and nothing
 * defined before it. Which of them it is our own address tells: it stands in another place. */
static bool sender_of_roce(const struct smt_ud_peers *p, const uint8_t grh[40],
                           struct smt_addr *from, uint8_t *ecn)
{
    if (grh[0] >> 4 == 6 && smt_ud_port_gid_of(p->port, grh + 24) != NULL) {
        memcpy(from->ip, grh + 8, 16);
        *ecn = grh[1] >> 4 & 3;
        if (addr_is_link_local(from))
            from->scope = (uint32_t)p->port->ifindex;
        return !smt_addr_is_ipv4(from);
    }
    if (grh[20] >> 4 == 4 && is_own_ipv4(p->port, grh + 36)) {
        from->ip[10] = from->ip[11] = 0xff;
        memcpy(from->ip + 12, grh + 32, 4);
        *ecn = grh[21] & 3;
        return true;
    }
    return false;
}

static bool sender_of_ib(struct smt_ud_peers *p, const struct ibv_wc *wc, const uint8_t grh[40],
                         struct smt_addr *from, uint8_t *ecn)
{
    bool has_grh = (wc->wc_flags & IBV_WC_GRH) != 0;
    const struct smt_ud_path *path =
        smt_ud_path_of_wire(&p->paths, has_grh ? grh + 8 : NULL, wc->slid);
    if (path == NULL)
        return false;
    memcpy(from->ip, path->ip.ip, 16);
    from->scope = path->ip.scope;
    *ecn = has_grh ? grh[1] >> 4 & 3 : 0;
    return true;
}

static inline void heard(struct smt_ud_peers *p, const struct smt_addr *from)
{
    struct peer *peer = p->last_heard;
    if (peer == NULL || !smt_addr_equal(&peer->addr, from)) {
        peer = peer_get(p, from);
        if (peer == NULL || peer->path == NULL)
            return;
        p->last_heard = peer;
    }
    peer->waiting_since = 0;
    peer->n_asked = 0;
    peer->n_unheard = 0;
}

bool smt_ud_peers_source(struct smt_ud_peers *p, const struct ibv_wc *wc, const uint8_t grh[40],
                         struct smt_addr *from, uint8_t *ecn)
{
    uint32_t imm = ntohl(wc->imm_data);
    *from = (struct smt_addr){.port = (uint16_t)imm};
    if ((wc->wc_flags & IBV_WC_WITH_IMM) == 0 || imm > UINT16_MAX || imm == 0) {
        p->stats.n_bad_imm++;
        return false;
    }
    if (p->port->is_ib) {
        if (!sender_of_ib(p, wc, grh, from, ecn)) {
            p->stats.n_unknown_source++;
            return false;
        }
    } else if (!sender_of_roce(p, grh, from, ecn) || addr_is_multicast(from) ||
               addr_is_zero(from)) {
        p->stats.n_bad_grh++;
        return false;
    }
    heard(p, from);
    return true;
}

/* ---- messages in ------------------------------------------------------------------------------
 */

/* Is what it says about itself where it comes from? */
static bool sender_is_consistent(const struct smt_ud_peers *p, const struct smt_ud_msg *msg,
                                 const struct smt_addr *from)
{
    if (msg->port != from->port)
        return false;
    if (p->port->is_ib)
        return msg->link == SMT_UD_LINK_IB;
    return msg->link == SMT_UD_LINK_ROCE && memcmp(msg->gid, from->ip, 16) == 0;
}

/* Our GID by which a message from outside came, or NULL: then it cannot be answered. */
static const struct smt_ud_gid *own_gid(const struct smt_ud_peers *p, const struct smt_addr *local)
{
    if (p->port->is_ib)
        return p->port->n_gids > 0 ? &p->port->gids[0] : NULL;
    return smt_ud_port_gid_of(p->port, local->ip);
}

/* The peer has sent back a nonce of ours: from now on it is where it says. True when a route is new
 * or another. */
static bool peer_prove(struct smt_ud_peers *p, struct peer *peer, const struct smt_ud_msg *msg,
                       const struct smt_addr *local, uint64_t now)
{
    const struct smt_addr none = {0};
    if (p->port->is_ib && memcmp(msg->gid, p->port->gids[0].gid, 8) != 0) {
        /* Another subnet: its LID means nothing here, and only the subnet manager knows the way. */
        peer->is_unreachable = true;
        p->stats.n_noroute++;
        return false;
    }
    bool was_proven = peer->path != NULL;
    bool was_silent =
        was_proven && peer->waiting_since != 0 && now - peer->waiting_since >= SILENCE;
    struct smt_ud_path *path = smt_ud_path_take(
        &p->paths, &peer->addr, p->port->is_ib ? &none : local, msg->gid, msg->lid, now);
    if (path == NULL)
        return false;
    bool was_stale = peer->is_stale;
    peer->is_stale = false;
    /* It lives, but packets do not come through: its interface may have another MAC address. */
    if (was_silent && now - path->made_at >= RENEW_GAP)
        smt_ud_path_renew(&p->paths, path);
    bool is_changed = was_proven && (peer->qpn != msg->qpn || peer->qkey != msg->qkey ||
                                     peer->path != path || peer->their_mtu != msg->mtu);
    peer_set_path(p, peer, path);
    peer->qpn = msg->qpn;
    peer->qkey = msg->qkey;
    peer->their_mtu = msg->mtu;
    peer->is_unreachable = false;
    peer->n_asked = 0;
    peer->n_unheard += was_silent;
    p->stats.n_changed += is_changed;
    if (is_changed)
        peer->waiting_since = 0;
    return is_changed || !was_proven || was_stale;
}

static bool query_answer(struct smt_ud_peers *p, const struct smt_ud_msg *msg,
                         const struct smt_addr *from, const struct smt_addr *local, uint64_t now)
{
    const struct smt_ud_gid *gid = own_gid(p, local);
    if (gid == NULL) {
        p->stats.n_unproven++;
        return false;
    }
    if (!smt_ud_bucket_take(&p->answers, now)) {
        p->stats.n_limited++;
        return false;
    }
    struct smt_ud_msg answer = {
        .kind = SMT_UD_ANSWER,
        .nonce = smt_ud_cookie_make(&p->cookie, from, now),
        .echo = msg->nonce,
    };
    if (message_send(p, &answer, gid->gid, from, local))
        p->stats.n_answers++;
    return false;
}

static bool answer_take(struct smt_ud_peers *p, const struct smt_ud_msg *msg,
                        const struct smt_addr *from, const struct smt_addr *local, uint64_t now)
{
    struct peer *peer = peer_get(p, from);
    const struct smt_ud_gid *gid = own_gid(p, local);
    if (peer == NULL || gid == NULL || peer->nonce == 0 || peer->nonce != msg->echo) {
        p->stats.n_unproven++;
        return false;
    }
    uint64_t nonce = peer->nonce;
    peer->nonce = 0;
    struct smt_ud_msg ack = {.kind = SMT_UD_ACK, .nonce = nonce, .echo = msg->nonce};
    if (message_send(p, &ack, gid->gid, from, local))
        p->stats.n_acks++;
    return peer_prove(p, peer, msg, local, now);
}

static bool ack_take(struct smt_ud_peers *p, const struct smt_ud_msg *msg,
                     const struct smt_addr *from, const struct smt_addr *local, uint64_t now)
{
    if (own_gid(p, local) == NULL || !smt_ud_cookie_check(&p->cookie, from, now, msg->echo)) {
        p->stats.n_unproven++;
        return false;
    }
    struct peer *peer = peer_get(p, from);
    if (peer == NULL)
        peer = peer_new(p, from, now);
    return peer != NULL && peer_prove(p, peer, msg, local, now);
}

/* One datagram. True when a route became ready or changed. */
static bool message_take(struct smt_ud_peers *p, const uint8_t *bytes, size_t len,
                         struct smt_addr *from, const struct smt_addr *local, uint64_t now)
{
    struct smt_ud_msg msg;
    p->stats.n_received++;
    int r = smt_ud_msg_parse(bytes, len, &msg);
    if (r < 0) {
        *(r == SMT_EVERSION ? &p->stats.n_version : &p->stats.n_malformed) += 1;
        return false;
    }
    if (!addr_normalise(p, from) || !sender_is_consistent(p, &msg, from)) {
        p->stats.n_unproven++;
        return false;
    }
    switch (msg.kind) {
    case SMT_UD_QUERY:
        return query_answer(p, &msg, from, local, now);
    case SMT_UD_ANSWER:
        return answer_take(p, &msg, from, local, now);
    default:
        return ack_take(p, &msg, from, local, now);
    }
}

unsigned smt_ud_peers_poll(struct smt_ud_peers *p, uint64_t now)
{
    unsigned n_routes = 0;
    p->last_poll = now;
    for (unsigned i = 0; i < POLL_BATCH; i++) {
        uint8_t bytes[SMT_UD_MSG_LEN + 1];
        struct smt_addr from, local;
        int n = smt_ud_sock_receive(&p->sock, bytes, sizeof(bytes), &from, &local);
        if (n < 0)
            break;
        n_routes += message_take(p, bytes, (size_t)n, &from, &local, now);
    }
    return n_routes;
}

/* ---- life -------------------------------------------------------------------------------------
 */

static int tables_init(struct smt_ud_peers *p, const struct smt_ud_peers_config *c)
{
    uint64_t random[9];
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return SMT_ESYSTEM;
    p->salt = random[0] | 1;
    memcpy(p->nonce_key, random + 1, sizeof(p->nonce_key));
    memcpy(p->cookie.key, random + 3, sizeof(p->cookie.key));
    p->max_proven = c->max_peers > 0 ? c->max_peers : MAX_PEERS;
    p->max_asking = p->max_proven / ASKING_PART;
    if (p->max_asking > MAX_ASKING)
        p->max_asking = MAX_ASKING;
    if (p->max_asking < LEAST_ASKING)
        p->max_asking = LEAST_ASKING;
    uint32_t most = p->max_proven + p->max_asking;
    int r = smt_map_init(&p->map, random + 5, FIRST_PEERS);
    if (r == 0)
        r = smt_pool_init(&p->pool, sizeof(struct peer), FIRST_PEERS < most ? FIRST_PEERS : most,
                          most);
    if (r == 0)
        r = smt_ud_paths_init(&p->paths, c->port, c->pd, p->max_proven + 1, random + 7);
    smt_wipe(random, sizeof(random));
    return r;
}

int smt_ud_peers_open(const struct smt_ud_peers_config *config, struct smt_ud_peers **out)
{
    assert(config->n_qps >= 1 && config->n_qps <= SMT_UD_MAX_QPS);
    *out = NULL;
    struct smt_ud_peers *p = smt_mem_alloc(sizeof(*p));
    if (p == NULL)
        return smt_dev_fail(config->error_text, config->error_text_len, SMT_ENOMEM,
                            "no memory for the peers of a device ud");
    p->port = config->port;
    p->sock.fd = -1;
    p->n_qps = config->n_qps;
    memcpy(p->qpns, config->qpns, sizeof(p->qpns));
    p->qkey = config->qkey;
    smt_list_init(&p->proven);
    smt_list_init(&p->asking);
    smt_ud_bucket_init(&p->queries, LIMIT_RATE, LIMIT_BURST, config->now);
    smt_ud_bucket_init(&p->answers, LIMIT_RATE, LIMIT_BURST, config->now);
    int r = tables_init(p, config);
    if (r < 0) {
        smt_dev_fail(config->error_text, config->error_text_len, r,
                     "no memory for the peers of a device ud");
        goto err_close;
    }
    struct smt_addr bind_to = config->port->bind;
    bind_to.port = config->udp_port;
    r = smt_ud_sock_open(&bind_to, config->port->ifname, config->error_text, config->error_text_len,
                         &p->sock);
    if (r < 0)
        goto err_close;
    *out = p;
    return 0;

err_close:
    smt_ud_peers_close(p);
    return r;
}

void smt_ud_peers_close(struct smt_ud_peers *p)
{
    if (p == NULL)
        return;
    smt_ud_sock_close(&p->sock);
    if (p->paths.port != NULL)
        smt_ud_paths_fini(&p->paths);
    smt_pool_fini(&p->pool);
    smt_map_fini(&p->map);
    smt_wipe(p, sizeof(*p));
    smt_mem_free(p);
}

int smt_ud_peers_fd(const struct smt_ud_peers *p)
{
    return p->sock.fd;
}

uint16_t smt_ud_peers_port(const struct smt_ud_peers *p)
{
    return p->sock.port;
}

bool smt_ud_peers_is_asking(const struct smt_ud_peers *p)
{
    return p->last_query != 0 && p->last_poll < p->last_query + ASKING_LATELY;
}

uint32_t smt_ud_peers_n_retired(const struct smt_ud_peers *p)
{
    return p->paths.n_retired;
}

void smt_ud_peers_reap(struct smt_ud_peers *p, uint64_t posted, uint64_t done)
{
    smt_ud_paths_reap(&p->paths, posted, done);
}

void smt_ud_peers_refresh(struct smt_ud_peers *p)
{
    smt_ud_paths_renew(&p->paths);
}

bool smt_ud_peers_explain(struct smt_ud_peers *p, const struct smt_addr *to, char *text,
                          size_t text_len)
{
    struct smt_ud_text t = {text, text_len};
    struct smt_addr addr = *to;
    char name[80];
    smt_dev_addr_text(to, name, sizeof(name));
    const struct peer *peer = addr_normalise(p, &addr) ? peer_get(p, &addr) : NULL;
    if (peer == NULL)
        return false;
    if (peer->is_unreachable) {
        (void)smt_ud_env_no_path(t, name, p->port->devname, p->port->ifname);
        return true;
    }
    if (peer->n_asked >= EXPLAIN_QUERIES) {
        (void)smt_ud_env_no_answer(t, name, peer->n_asked);
        return true;
    }
    if (peer->n_unheard > 0) {
        (void)smt_ud_env_no_packets(t, name, p->port->is_ib);
        return true;
    }
    if (peer->path != NULL && peer->their_mtu != p->port->mtu) {
        (void)smt_ud_env_mtu_mismatch(t, name, p->port->is_ib, p->port->mtu, peer->their_mtu);
        return true;
    }
    return false;
}

const struct smt_ud_peers_stats *smt_ud_peers_stats(struct smt_ud_peers *p)
{
    p->stats.n_ahs = p->paths.n_ahs;
    p->stats.n_ahs_made = p->paths.n_made;
    p->stats.n_ahs_failed = p->paths.n_failed;
    return &p->stats;
}
