/* Control frames waiting to be sent on a conn, and their CTRL packets. */
#ifndef SMT_CORE_CTL_H
#define SMT_CORE_CTL_H

#include "base/addr.h"
#include "base/list.h"
#include "wire/wire.h"

struct smt_conn;
struct smt_tx_sink;

/* A full one is a packet that every carriage takes. */
enum {
    SMT_CTL_BUF_LEN = SMT_BASE_PACKET - SMT_CTRL_HDR_LEN - SMT_RECORD_OVERHEAD,
    SMT_CTL_MAX_BUFS = 32,
};

/* Frames are kept encoded: they are small, loss-tolerant and sent soon. */
struct smt_ctl_buf {
    struct smt_ctl_buf *next;
    uint16_t len;
    uint8_t prio;
    uint8_t bytes[SMT_CTL_BUF_LEN];
};

struct smt_ctl {
    struct smt_ctl_buf *buf;  /* first to send, from the engine's pool; NULL when nothing waits */
    struct smt_ctl_buf *last;
    unsigned n_bufs;
    struct smt_list link;    /* in the engine's list of conns with frames */
};

void smt_ctl_init(struct smt_ctl *t);
void smt_ctl_fini(struct smt_conn *c);

/* Queues a frame. When there is no room or no memory it is lost, counted: all frames are made for
 * that. */
void smt_ctl_add(struct smt_conn *c, const struct smt_frame *f);

/* The same at a priority, not at the highest: a frame that asks what has come must not overtake the
 * data it asks about, or what stands in a queue counts as lost. */
void smt_ctl_add_behind(struct smt_conn *c, const struct smt_frame *f, uint8_t prio);

/* Shorthands for the frames that name an rpc (`id` as it goes into the frame). */
void smt_ctl_add_id(struct smt_conn *c, uint8_t type, uint64_t id);
void smt_ctl_add_unknown(struct smt_conn *c, uint64_t id, bool over);
void smt_ctl_add_resend(struct smt_conn *c, uint64_t id, uint32_t offset, uint32_t length);
/* The same as single-packet records; `id` is the RPC id of the records' own header. */
void smt_ctl_add_resend_single(struct smt_conn *c, uint64_t rpc_id, uint32_t offset,
                               uint32_t length);

static inline bool smt_ctl_is_waiting(const struct smt_ctl *t)
{
    return t->buf != NULL;
}

/* So much waits to be sent, on this conn or on all, that asking once more would tell the peer
 * nothing sooner. */
bool smt_ctl_is_backed_up(const struct smt_conn *c);

/* Sends what waits. False when the sink is full (it waits on). */
bool smt_ctl_send(struct smt_conn *c, const struct smt_tx_sink *sink);

/* Sends ACKs that wait by themselves, at the lowest priority. False when the sink is full. */
bool smt_ctl_send_acks(struct smt_conn *c, const struct smt_tx_sink *sink);

/* For profiles: a buffer with room for `len` bytes that leave at `prio`, to be filled at its end.
 * NULL, and counted: there is none. And the end of the first buffer, all of which was sent. */
struct smt_ctl_buf *smt_ctl_room(struct smt_conn *c, uint8_t prio, size_t len);
void smt_ctl_pop(struct smt_conn *c);

/* What smt2 does with the above: frames, as many to a sealed CTRL packet as fit. */
void smt_frames_queue(struct smt_conn *c, const struct smt_frame *f, uint8_t prio);
bool smt_frames_send(struct smt_conn *c, const struct smt_tx_sink *sink);
bool smt_frames_send_acks(struct smt_conn *c, const struct smt_tx_sink *sink);

/* A CTRL packet of its own with one frame, padded with PAD frames to packet_len bytes: a probe, or
 * a challenge to another address than the conn's. False when the sink is full. */
bool smt_ctl_send_alone(struct smt_conn *c, const struct smt_tx_sink *sink,
                        const struct smt_addr *to, const struct smt_frame *f, size_t packet_len);

#endif
