/* Path MTU of a conn: found by authenticated probes (RFC 8899), never by ICMP alone. */
#ifndef SMT_CORE_MTU_H
#define SMT_CORE_MTU_H

#include "base/defs.h"

struct smt_conn;
struct smt_tx_sink;

/* OFF: no data yet, SMT_BASE_PACKET is in use. */
enum smt_mtu_state { SMT_MTU_OFF, SMT_MTU_AWAIT_SEND, SMT_MTU_AWAIT_ACK, SMT_MTU_AWAIT_AGE };

struct smt_mtu {
    enum smt_mtu_state state;
    uint8_t tries;
    uint8_t bad_rounds; /* rpc timer rounds without progress */
    uint16_t now;       /* largest packet in use */
    uint16_t low, high; /* largest known good; search below this */
    uint16_t probe;     /* size under test; 0: whatever the link carries */
    uint32_t token;
    uint8_t n_unheard;  /* times the probe left and nothing at all came after it */
    uint64_t at;        /* next step */
    uint64_t sent_at;   /* when the probe under way left */
    uint64_t first_at;  /* when the first of that size did */
    uint64_t passed_at; /* when packets longer than SMT_BASE_PACKET were known to pass; 0 = never */
    uint64_t bad_at;    /* when the last bad round was counted */
};

void smt_mtu_init(struct smt_mtu *m);

/* The first data go: what link, peer and we ourselves allow is used at once and tested. */
void smt_mtu_start(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink);

/* PROBE_ACK came. */
void smt_mtu_acked(struct smt_conn *c, uint64_t now, uint32_t token, uint32_t len);

/* Something did not arrive for a whole timer round, or was asked for twice: when it goes on, the
 * size is proven again. What the peer sends, or gets in short packets, proves nothing. */
void smt_mtu_suspect(struct smt_conn *c, uint64_t now);

/* The peer says that packets came, longer than SMT_BASE_PACKET in the mean. */
void smt_mtu_passed(struct smt_mtu *m, uint64_t now);

uint64_t smt_mtu_deadline(const struct smt_mtu *m);
void smt_mtu_tick(struct smt_conn *c, uint64_t now);

/* Sends the probe that is due, if the link still carries it. False when the sink is full. */
bool smt_mtu_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink);

static inline bool smt_mtu_is_due(const struct smt_mtu *m)
{
    return m->state == SMT_MTU_AWAIT_SEND;
}

#endif
