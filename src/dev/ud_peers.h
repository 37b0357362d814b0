/* Whom a `ud` device can reach, and how: the table of proven peers, their address handles, and the
 * UDP socket on which they are found.
 *
 * One object belongs to one device and one thread. A peer is {IP address, endpoint port, number}:
 * where several endpoints share a port each has a queue pair of its own, and the packet says which
 * of them it is for (steer.h). It enters the table only after it has sent back a nonce of ours from
 * that address; packets never change the table. Nothing here is trusted for security
 * (docs/security.md).
 *
 * Address handles are shared by all ports of one IP address and made when first wanted, one for
 * each priority on RoCE. One that is replaced waits until smt_ud_peers_reap says that no posted
 * packet can still refer to it. */
#ifndef SMT_DEV_UD_PEERS_H
#define SMT_DEV_UD_PEERS_H

#include <infiniband/verbs.h>

#include "base/addr.h"
#include "dev/ud_port.h"

struct smt_ud_peers;

struct smt_ud_peers_config {
    struct smt_ud_port *port; /* lent for the life of the object; refresh changes it */
    struct ibv_pd *pd;        /* lent likewise */
    uint32_t qpns[SMT_UD_MAX_QPS];
    uint32_t n_qps;
    uint32_t qkey;      /* 31 random bits */
    uint16_t udp_port;  /* the endpoint's port; 0 = any free one */
    uint8_t number, share; /* as of smt_dev_config */
    uint32_t max_peers; /* 0 = 65,536 */
    uint64_t now;       /* same clock as all `now` below: coarse, monotonic, ns */
    char *error_text;   /* one clear line on failure */
    size_t error_text_len;
};

/* How to reach a peer: the fields of one SEND to it. A packet larger than mtu must not be posted.
 */
struct smt_ud_route {
    struct ibv_ah *ah;
    uint32_t qpn, qkey; /* qpn 0: no route yet, but one of `share` that the packet has to tell */
    uint32_t mtu;       /* the smaller of both ends' active MTU */
    uint8_t share;
};

/* ASKING: a query is on its way or waits for its turn; hold the packet and try again when poll says
 * that routes became ready. NOROUTE: cannot be reached from this port; drop it. */
enum smt_ud_found { SMT_UD_FOUND, SMT_UD_ASKING, SMT_UD_NOROUTE };

struct smt_ud_peers_stats {
    uint64_t n_queries, n_answers, n_acks;           /* sent */
    uint64_t n_received;                             /* messages of any kind */
    uint64_t n_malformed, n_version;                 /* dropped: bytes; another version */
    uint64_t n_unproven;                             /* dropped: nonce or address not right */
    uint64_t n_misled;                               /* dropped: for another of our port */
    uint64_t n_limited;                              /* not sent for want of a token */
    uint64_t n_send_failed;                          /* the socket did not take it */
    uint64_t n_noroute, n_evicted, n_changed;        /* peers: unreachable, pushed out, new QPN */
    uint64_t n_ahs, n_ahs_made, n_ahs_failed;        /* address handles: alive, made, refused */
    uint64_t n_bad_imm, n_bad_grh, n_unknown_source; /* received packets without a sender */
};

SMT_MUST_CHECK int smt_ud_peers_open(const struct smt_ud_peers_config *config,
                                     struct smt_ud_peers **out);

/* After the queue pairs are gone: destroys every address handle, posted or not. NULL is allowed. */
void smt_ud_peers_close(struct smt_ud_peers *p);

/* The hot path: the route of a packet to `to` with this priority (0 … 7). `packet` NULL: its bytes
 * are not there yet; then several endpoints on a port are found as one, without a queue pair.
 * Asks, repeats questions that are due and asks again a peer that stays silent while packets go to
 * it. No allocation when the peer is known; an address handle is made at the first use of a
 * priority. *out (written when FOUND) is a copy: use its `ah` only for packets that are counted in
 * `posted` before the next reap. */
enum smt_ud_found smt_ud_peers_find(struct smt_ud_peers *p, const struct smt_addr *to,
                                    const uint8_t *packet, size_t len, uint8_t prio, uint64_t now,
                                    struct smt_ud_route *out);

/* Largest payload towards `to`: of the route when it is known, else what our port carries. */
uint32_t smt_ud_peers_mtu(struct smt_ud_peers *p, const struct smt_addr *to);

/* Who sent this packet: `grh` is the 40 bytes before the payload, `wc` its good receive completion.
 * Also notes that the peer lives. False when it has no proper sender: drop it (counted here). */
bool smt_ud_peers_source(struct smt_ud_peers *p, const struct ibv_wc *wc, const uint8_t grh[40],
                         struct smt_addr *from, uint8_t *ecn);

/* Reads the socket without waiting, a bounded number of messages, and answers them. How many routes
 * became ready or changed (packets that are held may go now); 0 for none. Makes a system call. */
unsigned smt_ud_peers_poll(struct smt_ud_peers *p, uint64_t now);

/* The descriptor to sleep on: readable when poll has something to read. */
int smt_ud_peers_fd(const struct smt_ud_peers *p);

/* The endpoint's port: that of the socket. */
uint16_t smt_ud_peers_port(const struct smt_ud_peers *p);

/* Was a question sent lately? Then poll often; else now and then is enough. */
bool smt_ud_peers_is_asking(const struct smt_ud_peers *p);

/* Address handles that wait to be destroyed: when not 0, call reap now and then. */
uint32_t smt_ud_peers_n_retired(const struct smt_ud_peers *p);

/* `posted`: packets that have ever been given a route (posted or about to be). `done`: how many of
 * the first of them have certainly completed, on all queue pairs. Destroys what no packet after
 * `done` can refer to. */
void smt_ud_peers_reap(struct smt_ud_peers *p, uint64_t posted, uint64_t done);

/* After smt_ud_port_refresh: GIDs or LID may have moved, so every address handle is made anew. */
void smt_ud_peers_refresh(struct smt_ud_peers *p);

/* Our queue pairs have these numbers now. The peers used last are asked, so that they learn of it
 * in their turn; the others do when nothing comes from us any more. Makes system calls. */
void smt_ud_peers_requeue(struct smt_ud_peers *p, const uint32_t *qpns, uint64_t now);

/* Why nothing may come from this address: a sentence for people when our queries to it went
 * unanswered, it cannot be reached or its packets do not arrive; false when there is nothing to
 * say. */
bool smt_ud_peers_explain(struct smt_ud_peers *p, const struct smt_addr *to, char *text,
                          size_t text_len);

/* A sentence when a peer's MTU is another than ours; else false. */
bool smt_ud_peers_note(struct smt_ud_peers *p, const struct smt_addr *to, char *text,
                       size_t text_len);

const struct smt_ud_peers_stats *smt_ud_peers_stats(struct smt_ud_peers *p);

#endif
