/* Path MTU of a conn: found by authenticated probes (RFC 8899), never by ICMP alone. */
#ifndef SMT_CORE_MTU_H
#define SMT_CORE_MTU_H

#include "base/defs.h"

struct smt_conn;
struct smt_tx_sink;

enum { SMT_MTU_BASE = 1232 }; /* the IPv6 minimum less IP and UDP: assumed to pass everywhere */

enum smt_mtu_state { SMT_MTU_OFF, SMT_MTU_AWAIT_SEND, SMT_MTU_AWAIT_ACK, SMT_MTU_AWAIT_AGE };

struct smt_mtu {
    enum smt_mtu_state state;
    bool confirmed;     /* a probe of `now` or longer was answered */
    uint8_t tries;
    uint8_t bad_rounds; /* rpc timer rounds without progress while unconfirmed or large */
    uint16_t now;       /* largest packet in use */
    uint16_t low, high; /* largest known good; search below this */
    uint16_t probe;     /* size under test */
    uint32_t token;
    uint64_t at;        /* next step */
    uint64_t bad_at;    /* when the last bad round was counted */
};

/* Keys are in: `target` is what link and peer allow; it is used at once and tested. */
void smt_mtu_start(struct smt_conn *c, uint64_t now, uint32_t target);

/* PROBE_ACK came. */
void smt_mtu_acked(struct smt_conn *c, uint64_t now, uint32_t token, uint32_t len);

/* Something did not arrive for a whole timer round, or was asked for twice: when it goes on, the
 * size is proven again. What the peer sends, or gets in short packets, proves nothing. */
void smt_mtu_suspect(struct smt_conn *c, uint64_t now);

uint64_t smt_mtu_deadline(const struct smt_mtu *m);
void smt_mtu_tick(struct smt_conn *c, uint64_t now);

/* Sends the probe that is due. False when the sink is full. */
bool smt_mtu_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink);

static inline bool smt_mtu_is_due(const struct smt_mtu *m)
{
    return m->state == SMT_MTU_AWAIT_SEND;
}

#endif
