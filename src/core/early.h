/* 0-RTT (docs/wire.md 6.6): requests that go ahead of the handshake, and packets that come before
 * the keys which open them. */
#ifndef SMT_CORE_EARLY_H
#define SMT_CORE_EARLY_H

#include "base/packet.h"
#include "core/engine.h"
#include "core/keys.h"
#include "wire/wire.h"

enum {
    SMT_EARLY_CALLS = 4,  /* that go ahead of one handshake */
    SMT_EARLY_HELD = 8,   /* packets that wait for keys */
    SMT_EARLY_HELD_LEN = 2048,
};

struct smt_early_packet; /* one of them */

/* Part of a handshake's streams. */
struct smt_early {
    struct smt_keys keys;           /* not ready: no early data here */
    struct smt_early_packet *first; /* that wait, in the order in which they came */
    uint8_t n_held;
    uint8_t n_calls;                /* initiator: that went, however often */
    uint8_t round;                  /* counts sendings of the hello: with each they go again */
    bool refused;
};

/* Wipes and frees. Harmless on a zeroed struct. */
void smt_early_fini(struct smt_early *early);

/* Does this conn keep early keys? */
bool smt_early_is_on(const struct smt_conn *c);

/* The hello leaves from its beginning. */
void smt_early_hello(struct smt_early *early);

/* Initiator: sends the calls that may go ahead, behind the hello. False: the sink is full. */
bool smt_early_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink);

/* An initiator's keys are in: calls that a responder has not taken begin anew. */
void smt_early_over(struct smt_conn *c);

/* EARLY. */
void smt_early_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkt,
                       const struct smt_hdr *hdr);

/* Keeps a packet under the session's keys that has come before them: of a responder right behind
 * its flight, of an initiator behind its Finished. False: it is not kept. */
bool smt_early_hold(struct smt_conn *c, const struct smt_pkt *pkt);

/* Keys are in: what was kept is received. */
void smt_early_replay(struct smt_conn *c, uint64_t now);

#endif
