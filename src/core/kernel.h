/* What the profiles of the kernel's Homa and SMT share: peers instead of sessions, their ids, and
 * what an engine keeps for them. kernel_rx.c takes their packets, kernel_tx.c and kernel_ctl.c make
 * them, kernel_records.c does the records of smt1.
 *
 * A conn is a peer {address, port}: up as soon as it exists, for there is no handshake. Ids: an rpc
 * that the peer started has the number of its id on the wire (id / 2); ours count up from 1 on each
 * conn and stand on the wire behind a base that is random. */
#ifndef SMT_CORE_KERNEL_H
#define SMT_CORE_KERNEL_H

#include "base/packet.h"
#include "core/profile.h"
#include "core/state.h"
#include "wire/homa.h"

/* Which end of its key pair an engine of smt1 is. */
enum smt_kernel_role { SMT_KERNEL_NO_ROLE, SMT_KERNEL_CLIENT, SMT_KERNEL_SERVER };

/* e->kernel. */
struct smt_kernel {
    const struct smt_homa_format *format;
    uint64_t next_number; /* number of the next id on the wire that was never used */
    /* smt1 */
    const struct smt_aead *aead;
    void *ctx[2];         /* of the client's and the server's key; memory for keys */
    uint8_t salt[2][4];
    size_t ctx_len;
    enum smt_kernel_role role;
    bool bound;           /* the keys belong to one peer from now on */
    struct smt_addr peer;
    uint32_t n_unproven;  /* conns of strangers from whom nothing authentic has come */
};

/* kernel.c */

/* Shared by the rows. */
SMT_MUST_CHECK int smt_kernel_begin(struct smt_engine *e, const struct smt_homa_format *format);
void smt_kernel_end(struct smt_engine *e);
int smt_kernel_conn_begin(struct smt_conn *c);
void smt_kernel_conn_end(struct smt_conn *c);
int smt_kernel_may_post(struct smt_conn *c, uint64_t len, bool one_way);

/* The conn of an address, NULL if there is none. */
struct smt_conn *smt_kernel_conn_find(const struct smt_engine *e, const struct smt_addr *addr);
/* The same for a request, which makes one if the engine accepts strangers; NULL, and counted. */
struct smt_conn *smt_kernel_conn_of_client(struct smt_engine *e, uint64_t now,
                                           const struct smt_addr *addr);

/* The id of an rpc as its sender, us, writes it. */
static inline uint64_t smt_kernel_sender_id(const struct smt_conn *c, uint64_t id)
{
    return id & SMT_ID_ROLE ? (id << 1) | 1 : (c->id_base + id) << 1;
}

/* The other way, from what the peer wrote; 0: no rpc of ours has this id. */
static inline uint64_t smt_kernel_id(const struct smt_conn *c, uint64_t sender_id)
{
    uint64_t number = sender_id >> 1;
    if ((sender_id & 1) == 0)
        return number | SMT_ID_ROLE;
    return number > c->id_base && number - c->id_base < c->next_id ? number - c->id_base : 0;
}

/* kernel_rx.c */

unsigned smt_kernel_receive(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts,
                            unsigned n);

/* An acknowledgement of one of our responses. */
void smt_kernel_ack_hear(struct smt_conn *c, uint64_t now, const struct smt_homa_ack *ack);

/* The rpc that a DATA packet belongs to, its message begun. NULL: the packet is not taken, and
 * counted. With `proven` its id is used up at once, else only when smt_kernel_prove is called. */
struct smt_rpc *smt_kernel_rpc_of(struct smt_conn *c, uint64_t now, const struct smt_homa_pkt *p,
                                  bool proven);

/* The rpc is the peer's will: its id is used up. False: no memory for that. */
bool smt_kernel_prove(struct smt_rpc *r);

/* kernel_tx.c */

/* What is to be sent next of a message that is cut every `cut` bytes; how much of it comes without
 * a grant, for the header; its priority. */
struct smt_kernel_piece {
    struct smt_tx_piece tx;
    uint32_t incoming;
    uint8_t prio;
};
/* `overhead`: bytes of a packet that are not data. False: the rpc has failed, no data fit. */
bool smt_kernel_piece_next(struct smt_rpc *r, uint32_t overhead, const struct smt_tx_sink *sink,
                           struct smt_kernel_piece *out);
/* It was written into the sink, packet_len bytes. */
void smt_kernel_piece_sent(struct smt_rpc *r, uint64_t now, const struct smt_kernel_piece *piece,
                           uint32_t packet_len);
/* The header of its packet, ack left out. */
void smt_kernel_header(const struct smt_rpc *r, const struct smt_kernel_piece *piece,
                       struct smt_homa_pkt *out);
/* The ack that waits longest, if any. */
bool smt_kernel_ack_next(struct smt_conn *c, struct smt_homa_ack *out);

enum smt_sent smt_kernel_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink);

/* kernel_ctl.c */

void smt_kernel_ctl_add(struct smt_conn *c, const struct smt_frame *f, uint8_t prio);
bool smt_kernel_ctl_send(struct smt_conn *c, const struct smt_tx_sink *sink);
bool smt_kernel_acks_send(struct smt_conn *c, const struct smt_tx_sink *sink);
bool smt_kernel_answers_send(struct smt_engine *e, const struct smt_tx_sink *sink);

/* kernel_records.c */

SMT_MUST_CHECK int smt_records_begin(struct smt_engine *e);
int smt_records_conn_begin(struct smt_conn *c);
int smt_records_may_post(struct smt_conn *c, uint64_t len, bool one_way);
void smt_records_end(struct smt_engine *e);
enum smt_sent smt_records_send(struct smt_rpc *r, uint64_t now, const struct smt_tx_sink *sink);
/* A DATA packet; `number`: its place in its record. */
void smt_records_receive(struct smt_conn *c, uint64_t now, const struct smt_homa_pkt *p,
                         uint16_t number, uint32_t ip_len);
void smt_records_tx_end(struct smt_rpc *r);
void smt_records_rx_end(struct smt_rpc *r);

#endif
