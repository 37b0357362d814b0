/* Who sent a packet that a `ud` device received.
 *
 * On RoCE v2 the sender stands in the header before the payload, on InfiniBand in what peers have
 * proved. The endpoint's port, and its number where several share it, are the immediate data. */
#include <arpa/inet.h>
#include <string.h>

#include "dev/ud_peers_impl.h"

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
        if (smt_ud_addr_is_link_local(from))
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

/* A peer's first packets may overtake the ACK that makes it known. One look into the socket between
 * two of the device's own, so that strangers do not make it a system call a packet. */
static bool ack_look(struct smt_ud_peers *p)
{
    if (p->looked_at == p->last_poll)
        return false;
    p->looked_at = p->last_poll;
    (void)smt_ud_peers_poll(p, p->last_poll);
    return true;
}

static bool sender_of_ib(struct smt_ud_peers *p, const struct ibv_wc *wc, const uint8_t grh[40],
                         struct smt_addr *from, uint8_t *ecn)
{
    bool has_grh = (wc->wc_flags & IBV_WC_GRH) != 0;
    const uint8_t *gid = has_grh ? grh + 8 : NULL;
    const struct smt_ud_path *path = smt_ud_path_of_wire(&p->paths, gid, wc->slid);
    if (path == NULL && ack_look(p))
        path = smt_ud_path_of_wire(&p->paths, gid, wc->slid);
    if (path == NULL)
        return false;
    memcpy(from->ip, path->ip.ip, 16);
    from->scope = path->ip.scope;
    *ecn = has_grh ? grh[1] >> 4 & 3 : 0;
    return true;
}

static inline void peer_lives(struct smt_ud_peer *peer)
{
    peer->waiting_since = 0;
    peer->n_asked = 0;
    peer->n_unheard = 0;
}

/* Both addresses of an IPv4 header in the last 20 bytes. */
static inline uint64_t addresses_of(const uint8_t grh[40])
{
    uint64_t addresses;
    memcpy(&addresses, grh + 32, sizeof(addresses));
    return addresses;
}

static void heard(struct smt_ud_peers *p, const struct ibv_wc *wc, const uint8_t grh[40],
                  const struct smt_addr *from, uint8_t number)
{
    struct smt_ud_peer *peer = p->last_heard;
    p->run_peer = NULL;
    if (peer == NULL || peer->number != number || !smt_addr_equal(&peer->addr, from)) {
        peer = smt_ud_peer_get(p, from, number);
        if (peer == NULL || peer->path == NULL)
            return;
        p->last_heard = peer;
    }
    if (smt_addr_is_ipv4(from) && !p->port->is_ib) {
        p->run_peer = peer;
        p->run_addresses = addresses_of(grh);
        p->run_imm = wc->imm_data;
    }
    peer_lives(peer);
}

/* Packets come in runs from one sender, and IPv4 is what most use. */
static inline bool is_of_run(const struct smt_ud_peers *p, const struct ibv_wc *wc,
                             const uint8_t grh[40])
{
    return p->run_peer != NULL && p->run_peer == p->last_heard && wc->imm_data == p->run_imm &&
           addresses_of(grh) == p->run_addresses && grh[20] >> 4 == 4 &&
           (wc->wc_flags & IBV_WC_WITH_IMM) != 0;
}

bool smt_ud_peers_source(struct smt_ud_peers *p, const struct ibv_wc *wc, const uint8_t grh[40],
                         struct smt_addr *from, uint8_t *ecn)
{
    if (SMT_LIKELY(is_of_run(p, wc, grh))) {
        *from = p->run_peer->addr;
        *ecn = grh[21] & 3;
        peer_lives(p->run_peer);
        return true;
    }
    uint32_t imm = ntohl(wc->imm_data);
    *from = (struct smt_addr){.port = (uint16_t)imm};
    if ((wc->wc_flags & IBV_WC_WITH_IMM) == 0 || imm >> 24 != 0 || from->port == 0) {
        p->stats.n_bad_imm++;
        return false;
    }
    if (p->port->is_ib) {
        if (!sender_of_ib(p, wc, grh, from, ecn)) {
            p->stats.n_unknown_source++;
            return false;
        }
    } else if (!sender_of_roce(p, grh, from, ecn) || smt_ud_addr_is_multicast(from) ||
               smt_ud_addr_is_zero(from)) {
        p->stats.n_bad_grh++;
        return false;
    }
    heard(p, wc, grh, from, (uint8_t)(imm >> 16));
    return true;
}
