/* The peers of a `ud` device: the table, and the route of each.
 *
 * Owns entries: how many, which goes first, what find answers. What is asked and what proves is
 * ud_exchange.c's, the address handles ud_path.c's. Peers that have proved their address and peers
 * that are being asked for are bounded apart, so that packets to addresses that somebody made up
 * cannot push out one that is in use.
 *
 * Several endpoints that share a port are as many entries, so each is asked, answers, falls silent
 * and goes by itself. That of number 0 knows how many there are and is looked up first. */
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"
#include "dev/dev_impl.h"
#include "dev/steer.h"
#include "dev/ud_env.h"
#include "dev/ud_peers_impl.h"

enum {
    MAX_PEERS = 65536,
    MAX_ASKING = 4096,
    LEAST_ASKING = 16,
    ASKING_PART = 16, /* of the peers */
    FIRST_PEERS = 64,
    /* Messages a second caused by others, and at once: thousands of peers may start together. */
    LIMIT_RATE = 20000,
    LIMIT_BURST = 4096,
    EXPLAIN_QUERIES = 3,
};
#define TOUCH_GAP (100 * SMT_MSEC)
#define ASKING_LATELY (250 * SMT_MSEC)

static void peer_remove(struct smt_ud_peers *p, struct smt_ud_peer *peer)
{
    if (peer->path != NULL)
        smt_ud_path_drop(&p->paths, peer->path);
    *(peer->path != NULL ? &p->n_proven : &p->n_asking) -= 1;
    if (p->last_heard == peer)
        p->last_heard = NULL;
    smt_list_remove(&peer->lru);
    (void)smt_map_del(&p->map, smt_ud_peer_key(p, &peer->addr, peer->number));
    smt_pool_put(&p->pool, peer);
}

static void oldest_remove(struct smt_ud_peers *p, struct smt_list *list)
{
    struct smt_list *l = smt_list_first(list);
    assert(l != NULL);
    p->stats.n_evicted++;
    peer_remove(p, SMT_CONTAINER_OF(l, struct smt_ud_peer, lru));
}

struct smt_ud_peer *smt_ud_peer_new(struct smt_ud_peers *p, const struct smt_addr *addr,
                                    uint8_t number, uint64_t now)
{
    struct smt_map_key key = smt_ud_peer_key(p, addr, number);
    struct smt_ud_peer *other = smt_map_get(&p->map, key);
    if (other != NULL) /* another address with the same key: once in 2^64 */
        peer_remove(p, other);
    if (p->n_asking >= p->max_asking)
        oldest_remove(p, &p->asking);
    struct smt_ud_peer *peer = smt_pool_get(&p->pool);
    if (peer == NULL)
        return NULL;
    *peer = (struct smt_ud_peer){
        .addr = *addr,
        .number = number,
        .touched = now,
        .gap = SMT_UD_ASK_GAP,
    };
    if (smt_map_put(&p->map, key, peer) < 0) {
        smt_pool_put(&p->pool, peer);
        return NULL;
    }
    smt_list_push_tail(&p->asking, &peer->lru);
    p->n_asking++;
    return peer;
}

void smt_ud_peer_set_path(struct smt_ud_peers *p, struct smt_ud_peer *peer,
                          struct smt_ud_path *path)
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
static void peer_forget_path(struct smt_ud_peers *p, struct smt_ud_peer *peer)
{
    smt_ud_path_drop(&p->paths, peer->path);
    peer->path = NULL;
    peer->nonce = 0;
    peer->ask_at = 0;
    peer->gap = SMT_UD_ASK_GAP;
    p->n_proven--;
    smt_list_remove(&peer->lru);
    if (p->n_asking >= p->max_asking)
        oldest_remove(p, &p->asking);
    smt_list_push_tail(&p->asking, &peer->lru);
    p->n_asking++;
}

bool smt_ud_addr_normalise(const struct smt_ud_peers *p, struct smt_addr *a)
{
    if (a->port == 0 || smt_ud_addr_is_multicast(a) || smt_ud_addr_is_zero(a))
        return false;
    if (!smt_ud_addr_is_link_local(a)) {
        a->scope = 0;
        return true;
    }
    return a->scope == (uint32_t)p->port->ifindex;
}

static void peer_touch(struct smt_ud_peers *p, struct smt_ud_peer *peer, uint64_t now)
{
    peer->touched = now;
    smt_list_remove(&peer->lru);
    smt_list_push_tail(&p->proven, &peer->lru);
    smt_ud_path_touch(&p->paths, peer->path);
}

/* Is it still there? Asked at once, as one that is not known. */
static void peer_doubt(struct smt_ud_peer *peer, uint64_t now)
{
    peer->is_stale = true;
    peer->ask_at = now;
    peer->gap = SMT_UD_ASK_GAP;
}

/* The rest of find: a peer that is not proven, silent or without a handle. */
static enum smt_ud_found find_slow(struct smt_ud_peers *p, struct smt_ud_peer *peer, uint8_t prio,
                                   uint64_t now, struct smt_ud_route *out)
{
    bool is_ready = peer->path != NULL && smt_ud_path_is_ready(&p->paths, peer->path, prio, now);
    if (peer->path != NULL && !p->port->is_ib &&
        smt_ud_port_gid_of(p->port, peer->path->local.ip) == NULL)
        peer_forget_path(p, peer);
    else if (is_ready && smt_ud_path_ah(&p->paths, peer->path, prio, now) == NULL)
        return SMT_UD_NOROUTE;
    else if (peer->path != NULL && !is_ready && !peer->is_stale)
        peer_doubt(peer, now);
    if (now >= peer->ask_at)
        smt_ud_peer_ask(p, peer, now);
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

static inline enum smt_ud_found find_proven(struct smt_ud_peers *p, struct smt_ud_peer *peer,
                                            uint8_t prio, uint64_t now, struct smt_ud_route *out)
{
    if (now - peer->touched >= TOUCH_GAP)
        peer_touch(p, peer, now);
    if (peer->waiting_since == 0) {
        peer->waiting_since = now;
        peer->gap = SMT_UD_SILENCE;
        peer->ask_at = now + SMT_UD_SILENCE;
    }
    const struct smt_ud_ah *handle = peer->path->ah[p->port->is_ib ? 0 : prio];
    if (SMT_UNLIKELY(now >= peer->ask_at || handle == NULL))
        return find_slow(p, peer, prio, now, out);
    out->ah = handle->ah;
    out->qpn = peer->qpn;
    out->qkey = peer->qkey;
    out->mtu = peer->their_mtu < p->port->mtu ? peer->their_mtu : p->port->mtu;
    return SMT_UD_FOUND;
}

/* One of several endpoints: its entry, made if new. Number 0 is kept and asked along, for it is the
 * last to go and knows how many there are: a number that does not answer may be no more. */
static struct smt_ud_peer *member_get(struct smt_ud_peers *p, struct smt_ud_peer *head,
                                      uint8_t number, uint64_t now)
{
    if (number == 0)
        return head;
    struct smt_ud_peer *peer = smt_ud_peer_get(p, &head->addr, number);
    bool is_doubtful = head->path == NULL || (peer != NULL && peer->n_asked > 0);
    if (is_doubtful && now >= head->ask_at)
        smt_ud_peer_ask(p, head, now);
    if (head->path != NULL && now - head->touched >= TOUCH_GAP)
        peer_touch(p, head, now);
    if (peer != NULL)
        return peer;
    const struct smt_addr addr = head->addr; /* `head` may have to go for it */
    return smt_ud_peer_new(p, &addr, number, now);
}

/* Who is not known, not proven or not alone. */
static __attribute__((noinline)) enum smt_ud_found
find_other(struct smt_ud_peers *p, const struct smt_addr *to, const uint8_t *packet, size_t len,
           uint8_t prio, uint64_t now, struct smt_ud_route *out)
{
    struct smt_addr addr = *to;
    if (!smt_ud_addr_normalise(p, &addr)) {
        p->stats.n_noroute++;
        return SMT_UD_NOROUTE;
    }
    struct smt_ud_peer *peer = smt_ud_peer_get(p, &addr, 0);
    if (peer == NULL)
        peer = smt_ud_peer_new(p, &addr, 0, now);
    if (peer != NULL && peer->share > 1) {
        if (packet == NULL) {
            *out = (struct smt_ud_route){.mtu = p->port->mtu, .share = peer->share};
            return SMT_UD_FOUND;
        }
        unsigned number = smt_steer_number(packet, len, peer->share);
        peer = member_get(p, peer, (uint8_t)number, now);
    }
    if (peer == NULL)
        return SMT_UD_NOROUTE;
    if (peer->path == NULL)
        return find_slow(p, peer, prio, now, out);
    return find_proven(p, peer, prio, now, out);
}

enum smt_ud_found smt_ud_peers_find(struct smt_ud_peers *p, const struct smt_addr *to,
                                    const uint8_t *packet, size_t len, uint8_t prio, uint64_t now,
                                    struct smt_ud_route *out)
{
    assert(prio < SMT_UD_PRIOS);
    struct smt_ud_peer *peer = smt_ud_peer_get(p, to, 0);
    if (SMT_UNLIKELY(peer == NULL || peer->path == NULL || peer->share > 1))
        return find_other(p, to, packet, len, prio, now, out);
    return find_proven(p, peer, prio, now, out);
}

uint32_t smt_ud_peers_mtu(struct smt_ud_peers *p, const struct smt_addr *to)
{
    const struct smt_ud_peer *peer = smt_ud_peer_get(p, to, 0);
    if (peer == NULL || peer->their_mtu == 0 || peer->their_mtu >= p->port->mtu)
        return p->port->mtu;
    return peer->their_mtu;
}

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
        r = smt_pool_init(&p->pool, sizeof(struct smt_ud_peer),
                          FIRST_PEERS < most ? FIRST_PEERS : most, most);
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
    p->share = config->share > 1 ? config->share : 0;
    p->number = p->share > 1 ? config->number : 0;
    p->cookie.number = p->number;
    p->cookie.share = p->share;
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
    struct smt_ud_sock_config sock = {
        .bind_to = config->port->bind,
        .ifname = config->port->ifname,
        .number = p->number,
        .share = p->share,
        .error_text = config->error_text,
        .error_text_len = config->error_text_len,
    };
    sock.bind_to.port = config->udp_port;
    r = smt_ud_sock_open(&sock, &p->sock);
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
    p->run_peer = NULL;
    smt_ud_paths_renew(&p->paths);
}

static bool peer_explain(const struct smt_ud_peers *p, const struct smt_ud_peer *peer,
                         const char *name, struct smt_ud_text t)
{
    if (peer->is_unreachable)
        (void)smt_ud_env_no_path(t, name, p->port->devname, p->port->ifname);
    else if (peer->n_asked >= EXPLAIN_QUERIES)
        (void)smt_ud_env_no_answer(t, name, peer->n_asked);
    else if (peer->n_unheard > 0)
        (void)smt_ud_env_no_packets(t, name, p->port->is_ib);
    else
        return false;
    return true;
}

bool smt_ud_peers_explain(struct smt_ud_peers *p, const struct smt_addr *to, char *text,
                          size_t text_len)
{
    struct smt_ud_text t = {text, text_len};
    struct smt_addr addr = *to;
    char name[80];
    smt_dev_addr_text(to, name, sizeof(name));
    if (smt_ud_addr_is_link_local(to) && to->scope != (uint32_t)p->port->ifindex) {
        (void)smt_ud_env_no_scope(t, name, p->port->ifname);
        return true;
    }
    const struct smt_ud_peer *peer =
        smt_ud_addr_normalise(p, &addr) ? smt_ud_peer_get(p, &addr, 0) : NULL;
    if (peer == NULL)
        return false;
    unsigned n = peer->share > 1 ? peer->share : 1;
    bool has_said = false;
    for (unsigned i = 0; i < n && !has_said; i++) {
        peer = smt_ud_peer_get(p, &addr, (uint8_t)i);
        has_said = peer != NULL && peer_explain(p, peer, name, t);
    }
    return has_said;
}

bool smt_ud_peers_note(struct smt_ud_peers *p, const struct smt_addr *to, char *text,
                       size_t text_len)
{
    const struct smt_ud_peer *peer = smt_ud_peer_get(p, to, 0);
    if (peer == NULL || peer->their_mtu == 0 || peer->their_mtu == p->port->mtu)
        return false;
    char name[80];
    smt_dev_addr_text(to, name, sizeof(name));
    (void)smt_ud_env_mtu_mismatch((struct smt_ud_text){text, text_len}, name, p->port->is_ib,
                                  p->port->mtu, peer->their_mtu);
    return true;
}

const struct smt_ud_peers_stats *smt_ud_peers_stats(struct smt_ud_peers *p)
{
    p->stats.n_ahs = p->paths.n_ahs;
    p->stats.n_ahs_made = p->paths.n_made;
    p->stats.n_ahs_failed = p->paths.n_failed;
    return &p->stats;
}
