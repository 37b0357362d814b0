/* A record on its way from packets to a message: what is known of it, and the steps it takes
 * whatever it came in. For record_rx.c, which takes packets that hold a whole one, and slices.c. */
#ifndef SMT_CORE_ARRIVING_H
#define SMT_CORE_ARRIVING_H

#include "base/packet.h"
#include "core/keys.h"
#include "wire/wire.h"

struct smt_conn;
struct smt_rpc;

struct smt_arriving {
    struct smt_conn *c;
    const struct smt_hdr *hdr;
    const uint8_t *record; /* all of it, or of one in pieces the head */
    const struct smt_record_pieces *pieces; /* NULL: it lies in one */
    enum smt_epoch_ref ref;
    uint64_t now;
    uint64_t record_no;
    size_t plain_len;
    uint64_t id;          /* as this side knows it, role included */
    struct smt_rpc *r;    /* NULL: not known yet */
    const struct smt_addr *from;
    uint32_t packet_len;
    uint32_t n_packets, n_ce, wire_len; /* what it came in */
};

/* What can be said of a whole record without its keys; its number and length. False: dropped, and
 * counted. */
bool smt_arriving_check(struct smt_arriving *in);

/* Finds the rpc of a record, known or not. False, and counted: nobody waits for it. */
bool smt_arriving_look(struct smt_arriving *in);

/* Opens a record that somebody waits for and that has been checked. */
void smt_arriving_open(struct smt_arriving *in);

/* Its packets were counted as arrived: they were not the peer's, or no longer what he sent. */
void smt_arriving_not(const struct smt_arriving *in);

#endif
