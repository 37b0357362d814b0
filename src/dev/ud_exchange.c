/* The resolve exchange of a `ud` device: questions out, answers in, and what a message may change.
 *
 * Owns the rules of docs/wire.md 10.2; the bytes are ud_resolve.c's, the socket ud_sock.c's. There
 * is no timer: a question is repeated when the engine sends again, whose retransmissions are the
 * timer. */
#include <string.h>

#include "dev/ud_peers_impl.h"

enum { POLL_BATCH = 64, MAX_TOLD = 256 };
#define ASK_GAP_MOST SMT_SEC
#define RENEW_GAP SMT_SEC

static uint64_t nonce_new(struct smt_ud_peers *p)
{
    uint64_t word = ++p->n_nonces;
    return smt_ud_nonce_for(smt_ud_siphash(p->nonce_key, &word, 1), p->number, p->share);
}

/* Which of our queue pairs this peer is told: the same one each time. */
static uint32_t qpn_for(const struct smt_ud_peers *p, const struct smt_addr *peer)
{
    struct smt_map_key key = smt_ud_peer_key(p, peer, 0);
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
    msg.number = p->number;
    msg.share = p->share;
    memcpy(msg.gid, gid, 16);
    uint8_t bytes[SMT_UD_MSG_LEN];
    smt_ud_msg_build(&msg, bytes);
    bool ok = smt_ud_sock_send(&p->sock, bytes, sizeof(bytes), to, local);
    if (!ok)
        p->stats.n_send_failed++;
    return ok;
}

void smt_ud_peer_ask(struct smt_ud_peers *p, struct smt_ud_peer *peer, uint64_t now)
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
        struct smt_ud_msg msg = {
            .kind = SMT_UD_QUERY,
            .nonce = peer->nonce,
            .wanted = peer->number,
        };
        if (message_send(p, &msg, source->gid, &peer->addr, &local))
            p->stats.n_queries++;
        peer->n_asked++;
        p->last_query = now;
    }
    peer->ask_at = now + peer->gap;
    peer->gap = peer->gap * 2 < ASK_GAP_MOST ? peer->gap * 2 : ASK_GAP_MOST;
}

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

/* One of those at `from` has said how many they are. True when that is news. */
static bool share_note(struct smt_ud_peers *p, const struct smt_ud_msg *msg,
                       const struct smt_addr *from, uint64_t now)
{
    struct smt_ud_peer *head = smt_ud_peer_get(p, from, 0);
    if (head == NULL)
        head = smt_ud_peer_new(p, from, 0, now);
    if (head == NULL || head->share == msg->share)
        return false;
    head->share = msg->share;
    if (head->path == NULL)
        head->their_mtu = msg->mtu;
    return true;
}

/* The peer has sent back a nonce of ours: from now on it is where it says. True when a route is new
 * or another. */
static bool peer_prove(struct smt_ud_peers *p, struct smt_ud_peer *peer,
                       const struct smt_ud_msg *msg, const struct smt_addr *local, uint64_t now)
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
        was_proven && peer->waiting_since != 0 && now - peer->waiting_since >= SMT_UD_SILENCE;
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
    smt_ud_peer_set_path(p, peer, path);
    peer->qpn = msg->qpn;
    peer->qkey = msg->qkey;
    peer->their_mtu = msg->mtu;
    peer->is_unreachable = false;
    peer->n_asked = 0;
    peer->n_unheard += was_silent;
    p->stats.n_changed += is_changed;
    if (is_changed)
        peer->waiting_since = 0;
    bool is_news = is_changed || !was_proven || was_stale;
    const struct smt_addr from = peer->addr;
    return share_note(p, msg, &from, now) || is_news;
}

static bool query_answer(struct smt_ud_peers *p, const struct smt_ud_msg *msg,
                         const struct smt_addr *from, const struct smt_addr *local, uint64_t now)
{
    const struct smt_ud_gid *gid = own_gid(p, local);
    if (gid == NULL) {
        p->stats.n_unproven++;
        return false;
    }
    /* Of those that share the port that number is not open, or there are not so many. */
    if (msg->wanted != p->number) {
        p->stats.n_misled++;
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
    struct smt_ud_peer *peer = smt_ud_peer_get(p, from, msg->number);
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
    struct smt_ud_peer *peer = smt_ud_peer_get(p, from, msg->number);
    if (peer == NULL)
        peer = smt_ud_peer_new(p, from, msg->number, now);
    return peer != NULL && peer_prove(p, peer, msg, local, now);
}

void smt_ud_peers_requeue(struct smt_ud_peers *p, const uint32_t *qpns, uint64_t now)
{
    unsigned n = 0;
    memcpy(p->qpns, qpns, p->n_qps * sizeof(*qpns));
    for (struct smt_list *l = p->proven.prev; l != &p->proven && n < MAX_TOLD; l = l->prev, n++) {
        struct smt_ud_peer *peer = SMT_CONTAINER_OF(l, struct smt_ud_peer, lru);
        peer->gap = SMT_UD_ASK_GAP;
        smt_ud_peer_ask(p, peer, now);
    }
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
    if (!smt_ud_addr_normalise(p, from) || !sender_is_consistent(p, &msg, from)) {
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
