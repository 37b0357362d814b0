/* One secured wire session: identity, keys, credit, what is finished, and its queues. */
#ifndef SMT_CORE_CONN_H
#define SMT_CORE_CONN_H

#include "base/wheel.h"
#include "core/acks.h"
#include "core/asks.h"
#include "core/book.h"
#include "core/compete.h"
#include "core/ctl.h"
#include "core/evq.h"
#include "core/finished.h"
#include "core/hs_stream.h"
#include "core/keys.h"
#include "core/memory.h"
#include "core/moved.h"
#include "core/mtu.h"
#include "core/nic.h"
#include "core/pacer.h"
#include "core/path.h"
#include "core/rpc.h"

enum smt_conn_state {
    SMT_CONN_FREE = 0,
    SMT_CONN_AWAIT_KEYS,    /* handshake under way */
    SMT_CONN_AWAIT_CONFIRM, /* initiator: keys are in, nothing authentic came yet */
    SMT_CONN_UP,
    SMT_CONN_CLOSED,        /* over; stays until farewells are sent and the user let go */
    SMT_CONN_N_STATES,
};

struct smt_conn {
    struct smt_evlink ev; /* first: evq finds us by it */
    struct smt_engine *e;
    void *user;
    uint64_t id, peer_id;
    uint64_t index_salt; /* of its slot, in the engine's index of rpcs */
    struct smt_addr addr;
    /* Small ones together: there may be a hundred thousand conns. */
    uint16_t peer_port;       /* as it says: a translator may make that of addr another */
    uint16_t cutoffs_version; /* of the peer's cutoffs */
    uint16_t told_cutoffs;    /* of ours, told last; 0 = none */
    bool initiator;
    bool want_writable;       /* a post was refused: WRITABLE is owed */
    bool down_taken;          /* DOWN was handed out: the user has let go */
    bool in_hs_map;
    bool may_burst;           /* the peer takes records in slices, by IPv4 */
    bool may_slice;           /* it does, by the index in their headers */
    uint8_t n_bad_bursts;     /* of the peer's, in a row, that could not be opened */
    uint16_t singles_left;    /* packets to send before a record leaves in slices again */
    uint8_t n_farewells;      /* packets with CLOSE to send after the first */
    uint8_t n_quiet;          /* handshake or credit timer rounds without answer */
    uint8_t n_doubts;         /* questions without answer since doubt_since */
    enum smt_conn_state state;
    uint32_t slot;
    int error;                /* of the DOWN event */
    uint32_t n_rpcs;
    uint32_t open_calls;      /* our own rpcs */
    uint32_t served;          /* server rpcs not retired */
    uint32_t again_round;     /* of the engine's asks: one of ours was let pass; 0 = none */
    uint32_t peer_cut;        /* kernel.h: message bytes in full packets of its records */

    /* what the peer allows */
    uint32_t peer_open, peer_max_message, unsched_limit;
    uint32_t peer_mtu;           /* largest packet it takes, at least SMT_BASE_PACKET */
    uint64_t peer_bytes;
    uint64_t id_base;            /* kernel.h: of our ids on the wire */
    const uint32_t *cutoffs;     /* eight; the peer's own once it told some */
    uint32_t own_cutoffs[8];

    /* our own rpcs */
    uint64_t next_id;
    uint64_t out_bytes;             /* of requests and messages not finished */
    struct smt_finished finished;   /* ours: low-water mark and done bitmap to tell */
    struct smt_finished_seen peer_finished; /* the peer's, as told */
    struct smt_ranges accepted;     /* the peer's ids that have been accepted */

    struct smt_memory_host *host;   /* where it is */
    uint64_t held_bytes;            /* received memory not yet released */
    uint64_t told_low, told_high;   /* held_bytes between which the credit told last will do */

    struct smt_keys keys;
    struct smt_nic nic;
    struct smt_ctl ctl;
    struct smt_acks acks;
    struct smt_asks asks;
    struct smt_pacer pacer;
    struct smt_rtt path;            /* measured, both ways */
    uint64_t fill;                  /* bytes that fill it; 0 = not known */
    struct smt_share tx_share, rx_share; /* of windows: to the peer, to us */
    struct smt_compete compete;
    struct smt_compete_in compete_in;
    struct smt_book_peer book;      /* its messages in the grant book */
    uint64_t cutoffs_told_at;       /* when our CUTOFFS were last sent */
    struct smt_mtu mtu;
    struct smt_moved *moved;        /* its address is being checked; NULL = no */
    uint64_t move_again;            /* no further check before */
    struct smt_hs_stream *hs;       /* NULL once both sides have everything */

    struct smt_list rpcs;           /* all, by conn_link */
    struct smt_list blocked;        /* ready but waiting for keys or the pacer, by wait_link */
    struct smt_list all_link;       /* engine's conns or, once closed, its dead */
    struct smt_list hs_link;        /* in the engine's hs_ready */
    struct smt_list half_link;      /* in the engine's half-open ones */
    struct smt_list sender_link;    /* in the engine's senders */

    struct smt_owned_timer timer;
    uint64_t opened_at, up_at, heard;
    uint64_t busy_at;    /* when the idle timeout last found work */
    uint64_t rest_at;    /* when to look whether there is still work */
    uint64_t tell_at;    /* when finished ids are told unless a record told them before */
    uint64_t credit_at;  /* when to ask for credit that never came */
    uint64_t contest_at; /* when a handshake whose responder may be false is given up */
    uint64_t doubt_since, doubt_at; /* NO_SESSION came; when its truth is judged */
};

/* Bytes that may be in flight to the peer now. */
static inline uint64_t smt_conn_window(const struct smt_conn *c)
{
    return SMT_LIKELY(c->tx_share.is == SMT_SHARE_ALL) ? c->pacer.max_window
                                                       : smt_pacer_window_narrow(c);
}

/* The largest round trip of late, 0 = none was measured. A conn measures once in many packets, and
 * one of many to a host hardly ever: they share what they see. */
static inline uint64_t smt_conn_rtt_peak(const struct smt_conn *c)
{
    uint64_t own = c->pacer.rtt_peak, all = c->host->rtt_peak;
    return own > all ? own : all;
}

/* A DATA packet left. Queues a MARK on the conn when one is due. */
static inline void smt_pacer_sent(struct smt_conn *c, uint64_t now, uint32_t len, uint8_t prio)
{
    struct smt_pacer *p = &c->pacer;
    if (SMT_UNLIKELY(p->flight == NULL || c->tx_share.is < SMT_SHARE_ALL ||
                     p->sent_bytes + len - p->flight->marked_bytes >= p->max_step)) {
        smt_pacer_sent_slow(c, now, len, prio);
        return;
    }
    p->sent_bytes += len;
    p->sent_packets++;
    if (prio < p->low_prio)
        p->low_prio = prio;
}

SMT_MUST_CHECK int smt_conn_new(struct smt_engine *e, uint64_t now, const struct smt_addr *addr,
                                bool initiator, struct smt_conn **out);
void smt_conn_free(struct smt_conn *c);

/* A closed conn goes when its farewell has left, DOWN was taken and the user holds nothing of it:
 * call when one of these may have come true. */
void smt_conn_try_end(struct smt_conn *c);

/* By session id of a packet; NULL when it is nobody's. */
struct smt_conn *smt_conn_find(struct smt_engine *e, uint64_t id);

void smt_conn_set_state(struct smt_conn *c, enum smt_conn_state to);

/* An authentic packet came. */
void smt_conn_heard_first(struct smt_conn *c, uint64_t now);
static inline void smt_conn_heard(struct smt_conn *c, uint64_t now)
{
    c->heard = now;
    if (SMT_UNLIKELY(c->state != SMT_CONN_UP || c->hs != NULL))
        smt_conn_heard_first(c, now);
}

/* And where it came from: one comparison unless that is news. Before its frames are heard. */
static inline void smt_conn_heard_from(struct smt_conn *c, uint64_t now,
                                       const struct smt_addr *from, uint32_t len)
{
    if (SMT_UNLIKELY(c->moved != NULL || !smt_addr_equal(&c->addr, from)))
        smt_moved_heard(c, now, from, len);
}

/* It has moved: packets go to `to` from now on, whose path nothing is known of. SMT_ENOMEM: it
 * stays. */
SMT_MUST_CHECK int smt_conn_move(struct smt_conn *c, const struct smt_addr *to);

/* A hint says that the peer does not know us. He is asked; only his silence to that, three times,
 * makes it an event. */
void smt_conn_doubt(struct smt_conn *c, uint64_t now);

void smt_conn_timer_fired(struct smt_conn *c, uint64_t now);
void smt_conn_arm(struct smt_conn *c, uint64_t now);

/* Nothing authentic has come for so long that the peer is dead, to one who has waited since
 * `since`. */
bool smt_conn_is_silent(const struct smt_conn *c, uint64_t since, uint64_t now);

/* A post was refused, and maybe only because a CREDIT was lost: asks for one after a while. */
void smt_conn_credit_ask(struct smt_conn *c);

/* A post may succeed again: WRITABLE if one is owed. */
void smt_conn_room_made_owed(struct smt_conn *c);
static inline void smt_conn_room_made(struct smt_conn *c)
{
    if (SMT_UNLIKELY(c->want_writable))
        smt_conn_room_made_owed(c);
}

/* May `len` more bytes of received memory be held, by its own limit and its host's share? One
 * message always may. */
bool smt_conn_may_hold(const struct smt_conn *c, uint32_t len);

/* Bytes that may be held more before anybody has to be asked or told. */
uint64_t smt_conn_hold_room(const struct smt_conn *c);

/* Takes so many, within that. */
SMT_INLINE void smt_conn_hold_within(struct smt_conn *c, struct smt_memory *m, uint64_t len)
{
    c->held_bytes += len;
    m->held += len;
    c->host->held += len;
}

/* May `len` bytes of it be let go before anybody has to be told? And lets them go. */
SMT_INLINE bool smt_conn_may_let_go(const struct smt_conn *c, const struct smt_memory *m,
                                    uint32_t len)
{
    return !smt_memory_is_short(m) && c->held_bytes - len >= c->told_low;
}

SMT_INLINE void smt_conn_let_go_within(struct smt_conn *c, struct smt_memory *m, uint32_t len)
{
    c->held_bytes -= len;
    m->held -= len;
    c->host->held -= len;
}

/* held_bytes left what was told last. */
void smt_conn_credit_moved(struct smt_conn *c);

/* Received memory was taken or given back: counted, and the peer is told its credit when it moved
 * enough. */
void smt_conn_hold(struct smt_conn *c, uint32_t len);
SMT_INLINE void smt_conn_let_go(struct smt_conn *c, struct smt_memory *m, uint32_t len)
{
    c->held_bytes -= len;
    smt_memory_give(m, c->host, len);
    if (SMT_UNLIKELY(c->held_bytes < c->told_low))
        smt_conn_credit_moved(c);
}

/* Bytes that the peer may have unfinished now. */
uint64_t smt_conn_credit_bytes(const struct smt_conn *c);

/* Blocked rpcs may go on. */
void smt_conn_unblock(struct smt_conn *c);

/* Memory for work is given back after a while without work: call when some was taken. */
void smt_conn_rest_later(struct smt_conn *c, uint64_t now);

/* How long an rpc waits for something before it asks. */
uint64_t smt_conn_patience(const struct smt_conn *c, unsigned rounds);

/* Finished ids are to be told before long. */
void smt_conn_tell_later(struct smt_conn *c);

/* Its own messages no longer exist for the peer, id by id. Without memory the mark stays below the
 * id for the life of the conn: safe, and the peer keeps state longer. */
static inline void smt_conn_call_finished(struct smt_conn *c, uint64_t id)
{
    if (SMT_UNLIKELY(smt_finished_add(&c->finished, id) < 0))
        return;
    if (SMT_UNLIKELY(c->tell_at == SMT_NEVER))
        smt_conn_tell_later(c);
}

#endif
