/* Records in slices whose index stands in their headers (docs/wire.md 5): how a message is cut into
 * them, how one is sealed into its packets, how they are received. */
#ifndef SMT_CORE_SLICES_H
#define SMT_CORE_SLICES_H

#include "base/packet.h"
#include "core/msg_tx.h"

struct smt_arriving;
struct smt_conn;
struct smt_rpc;

/* The cut of a message: all records are of one length but the last, and all slices, so that records
 * behind each other share super-frames. */
struct smt_slicing {
    uint32_t cut;       /* data bytes of a record, its extension counted as such */
    uint32_t slice_len;
};

/* For `total` bytes of data and extension to the conn, in packets of `mtu` bytes. False: single
 * packets are as good. */
bool smt_slicing_make(const struct smt_conn *c, uint32_t total, uint32_t mtu,
                      const struct smt_tx_sink *sink, struct smt_slicing *out);

/* A record's packets: n of them, the first at `pkt`, each other `stride` behind the one before. */
struct smt_slices {
    uint8_t *pkt;
    size_t stride;
    uint32_t n, record_len, slice_len;
};

/* Seals a record of `head` and a piece of the rpc's outgoing message into its packets, of which the
 * first has its header. As smt_keys_seal_data answers. */
SMT_MUST_CHECK int smt_slices_seal(struct smt_rpc *r, const struct smt_slices *to,
                                   const struct smt_tx_piece *piece, const uint8_t *head,
                                   size_t head_len);

/* Some of an rpc's outgoing message was lost: for a while its conn sends single packets, if it was
 * by slices that it was lost or while there are losses. */
void smt_slices_lost(struct smt_rpc *r);

/* How many slices of its record come behind that of a packet, if it says the truth. */
unsigned smt_slices_behind(const struct smt_pkt *pkt);

/* Takes the first of n packets, a slice of a record (the header at in->hdr), and those behind it
 * that hold the rest of it; returns how many. */
unsigned smt_slices_receive(const struct smt_pkt *pkts, unsigned n, struct smt_arriving *in);

#endif
