/* DATA packets: built from a message's bytes, or opened into one. */
#ifndef SMT_CORE_RECORD_H
#define SMT_CORE_RECORD_H

#include "base/packet.h"
#include "wire/wire.h"

struct smt_conn;
struct smt_engine;
struct smt_rpc;
struct smt_tx_sink;

enum smt_sent {
    SMT_SENT_ONE,
    SMT_SENT_ALL,
    SMT_SENT_BLOCKED,
    SMT_SENT_FULL,
    SMT_SENT_NOTHING,
    SMT_SENT_FAILED,
};

/* Sends the next packet of an rpc's outgoing message: sealed straight into the sink. ALL: one, and
 * it has no more to send now; BLOCKED: the pacer holds it; FULL: the sink does; NOTHING: there was
 * nothing to send; FAILED: the rpc has failed, left its queue and may be gone. */
enum smt_sent smt_record_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink);

/* From so many bytes of a message on, no plaintext of it is written to the sink. */
enum { SMT_GATHER_MIN = 512 };

/* A record of an rpc could not be sealed: its number is spent whatever came of it. What sending it
 * comes to: BLOCKED, FAILED. */
enum smt_sent smt_record_failed(struct smt_rpc *r, int error);

/* A test record came: acknowledged, never delivered. False: not for the first time, or no memory to
 * say so. */
bool smt_record_test_came(struct smt_conn *c, uint64_t id);

/* Takes the first of n packets, a DATA packet whose header has been decoded, and those behind it
 * that hold the rest of its record; returns how many. */
unsigned smt_record_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                            unsigned n, const struct smt_hdr *hdr);

#endif
