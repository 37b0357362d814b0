/* Messages that are one packet, nearly all there are: sent in runs, in which what all packets of a
 * conn have in common is looked at once, and received the same way. Whatever is not as usual is
 * left to record_tx.c and record_rx.c, before anything has changed. */
#ifndef SMT_CORE_SINGLE_H
#define SMT_CORE_SINGLE_H

#include "core/record.h"

struct smt_conn;
struct smt_engine;

/* Sends from the head of what was posted, as far as those are such messages. FULL: the sink, for
 * the first that is left; NOTHING: the first that is left, if any is, is none of them. */
enum smt_sent smt_singles_send(struct smt_engine *e, uint64_t now, const struct smt_tx_sink *sink);

/* Is what an rpc has to send such a message, of which nothing was sent yet? */
bool smt_single_is(const struct smt_rpc *r);

/* Sends it alone; as smt_record_send answers. */
enum smt_sent smt_single_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink);

/* Takes packets from the first of n on, as far as they are such messages and nothing stands in the
 * way of them: how many. Headers have not been looked at, bytes_rcvd counts those that were
 * taken. */
unsigned smt_singles_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                             unsigned n);

#endif
