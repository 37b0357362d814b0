/* What differs between the wire formats an engine may speak: one const row each. Everything else of
 * the engine — conns, rpcs, order of sending, grants, cutoffs, timers, buffers — is the same for
 * all. Core asks the row, never which row it is.
 *
 * Control *intentions* (GRANT, RESEND, UNKNOWN, BUSY, NEED_ACK, ACK, CUTOFFS, ABORT, DONE, CREDIT,
 * MARK …) arise as struct smt_frame whatever the format; the row turns them into packets, or drops
 * those its format has no word for. */
#ifndef SMT_CORE_PROFILE_H
#define SMT_CORE_PROFILE_H

#include "core/engine.h"
#include "core/record.h"
#include "wire/wire.h"

struct smt_profile {
    const char *name;
    uint32_t max_message;    /* bytes */
    uint32_t unsched, window; /* tunables unsched_first and window_first; 0: their defaults */
    uint8_t ip_protocol, ip_class_shift; /* over IP itself: dev.h */
    bool keyed;              /* keys are installed, not agreed on: record_keys of the config */
    bool no_ipv6;
    bool no_handshake;       /* a conn is up as soon as it exists */
    bool tells_near;         /* ends of calls near the mark are told without a response_came */
    bool no_farewell;        /* the peer cannot be told that a call is over: it is forgotten */

    /* An engine begins: what the format needs of its own (e->kernel). end: gives it back. */
    int (*begin)(struct smt_engine *e);
    void (*end)(struct smt_engine *e);

    /* A conn begins (state FREE, all else is set): as far as the format can bring it at once. end:
     * nothing from the wire shall reach it any more. */
    int (*conn_begin)(struct smt_conn *c);
    void (*conn_end)(struct smt_conn *c);

    /* May a message of `len` bytes be posted on the conn, may one be the reply to a request? 0 or
     * the code that refuses it. NULL: any. */
    int (*may_post)(struct smt_conn *c, uint64_t len, bool one_way);
    int (*may_reply)(struct smt_conn *c, uint64_t len);

    /* Takes the first of n packets, borrowed, whose bytes have been counted as received, and those
     * behind it that belong to it; returns how many. */
    unsigned (*receive)(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                        unsigned n);

    /* Takes packets from the first of n on as long as they are of the kind that nearly all are; how
     * many (single.h). NULL: the format has none. */
    unsigned (*receive_usual)(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                              unsigned n);

    /* Sends the next packet of an rpc's outgoing message (record.h). */
    enum smt_sent (*send)(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink);

    /* Sends from the head of what was posted what needs no order and leaves at once, if the format
     * knows such messages; NULL: it does not (single.h). */
    enum smt_sent (*send_posted)(struct smt_engine *e, uint64_t now,
                                 const struct smt_tx_sink *sink);

    /* Queues a control intention; sends what is queued on a conn; sends its ACKs alone; sends what
     * is owed to peers without a conn. The latter three: false when the sink is full. */
    void (*ctl_add)(struct smt_conn *c, const struct smt_frame *f, uint8_t prio);
    bool (*ctl_send)(struct smt_conn *c, const struct smt_tx_sink *sink);
    bool (*acks_send)(struct smt_conn *c, const struct smt_tx_sink *sink);
    bool (*answers_send)(struct smt_engine *e, const struct smt_tx_sink *sink);

    /* All of a response is here: tells the server, now or later. Not called near the mark where
     * tells_near says so. */
    void (*response_came)(struct smt_rpc *r);

    /* What the format keeps of an rpc's directions (tx.sealed, rx.held) goes back: with the bytes
     * that were sent, with those that were received. Called only when there is some. */
    void (*tx_end)(struct smt_rpc *r);
    void (*rx_end)(struct smt_rpc *r);
};

extern const struct smt_profile smt_profile_smt2;
extern const struct smt_profile smt_profile_homa_main;
extern const struct smt_profile smt_profile_homa_6_1;
extern const struct smt_profile smt_profile_smt1;

/* By name; NULL: there is none. */
const struct smt_profile *smt_profile_find(const char *name);

/* The i-th; NULL after the last. */
const struct smt_profile *smt_profile_at(unsigned i);

#endif
