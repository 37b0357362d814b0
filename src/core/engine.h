/* The engine: one endpoint's protocol, without I/O. Packets, time and random bytes go in; packets,
 * events and the next deadline come out. It never reads a clock, never allocates per packet (its
 * pools grow in chunks), never calls back into the application. One engine belongs to one thread.
 * Driven by api/, the simulator and unit tests alike: the same calls in the same order give the
 * same packets and events, byte for byte.
 *
 * A *conn* is one secured wire session (docs/wire.md 6), a *rpc* one call, one-way message or
 * received request. */
#ifndef SMT_CORE_ENGINE_H
#define SMT_CORE_ENGINE_H

#include "base/packet.h"
#include "base/seal.h"
#include "core/tune.h"
#include "crypto/aead.h"
#include "crypto/schedule.h"
#include "wire/params.h"

struct smt_engine;
struct smt_conn;
struct smt_rpc;

struct smt_profile;

/* Of profile smt1: the keys of both directions, AES-128-GCM. */
struct smt_record_keys {
    const struct smt_aead *aead; /* static */
    struct {
        uint8_t key[16], salt[4];
    } end[2]; /* what the client seals with, what the server does */
};

struct smt_engine_config {
    const struct smt_profile *profile; /* the wire format (profile.h); NULL = smt2. Static */
    const struct smt_record_keys *record_keys; /* profile smt1; borrowed by smt_engine_new */
    uint16_t port;            /* goes into headers */
    uint8_t number;           /* top byte of session ids */
    bool accept;              /* answer handshakes of strangers */
    bool early;               /* keep their early data until it is known whether it is taken */
    bool holds;               /* keep a few packets that come a moment before their keys */
    uint32_t mtu;             /* largest packet we take and send, 0 = what the device says */
    uint32_t rx_window;       /* bytes in flight that we can buffer */
    uint32_t max_open_rpcs;   /* allowed to a peer, per conn */
    uint64_t max_conn_bytes;  /* received and not released, per conn */
    uint64_t max_bytes;       /* the same for the engine */
    uint32_t accept_len;      /* larger messages raise INCOMING */
    uint32_t max_msg_len;
    uint32_t max_conns;
    uint64_t peer_timeout, idle_timeout, handshake_timeout; /* ns; idle 0 = never */
    uint64_t rekey_records;   /* 0 = the limit of docs/wire.md 7 */
    uint64_t seed;            /* jitter and tables */
    struct smt_tune tune;     /* of the congestion layer; clamped to their ranges */
    uint32_t cached_keys;     /* expanded key contexts kept per cipher; 0 = default */
    bool bursts;              /* the device tells IPv4 ids: records in slices are taken by them */
    bool slices;              /* or by the index in their headers */
    uint8_t carriages;        /* enum smt_carriage, what the peer is told of the device */
    const struct smt_sealer *sealer; /* who may seal in place of the CPU; NULL = nobody. Lent */
    /* Unpredictable bytes: session ids, tokens. In tests a fixed generator. */
    void (*random)(void *arg, void *out, size_t len);
    void *random_arg;
    /* Stateless cookie (docs/wire.md 6.1): makes 32 bytes / checks them. now in ns. */
    void (*cookie_make)(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                        uint8_t out[32]);
    bool (*cookie_check)(void *arg, uint64_t now, const struct smt_addr *from, uint64_t id,
                         const uint8_t cookie[32]);
    /* The token that may stand in its place, given to that host some time ago (with a ticket, by
     * the caller). NULL: there are none. */
    bool (*token_check)(void *arg, uint64_t now, const struct smt_addr *from,
                        const uint8_t token[32]);
    void *cookie_arg; /* of all three */
    void *user; /* smt_rpc_engine_user gives it back */
};

/* Fills in defaults for everything but the callbacks. */
void smt_engine_config_init(struct smt_engine_config *config);

SMT_MUST_CHECK int smt_engine_new(const struct smt_engine_config *config, uint64_t now,
                                  struct smt_engine **out);
/* Frees everything, wipes keys. NULL allowed. Application buffers are simply forgotten. */
void smt_engine_free(struct smt_engine *e);

/* ---- packets and time ---- */

/* Where packets to send go. reserve gives the place for exactly len bytes, filled before the next
 * call on the sink, or NULL when full; unreserve takes the last one back; mtu is the local link's
 * largest packet. burst, NULL where there is none: the same for one record that leaves in packets
 * of slice_len bytes of it, each behind its header of hdr_len bytes (docs/wire.md 5); the place is
 * for hdr_len + record_len bytes. run, NULL where there is none: places for n packets that leave
 * one behind the other, all of `len` bytes but the last, which has last_len <= len; the first is
 * returned, each other stands *stride behind the one before; unreserve takes back all n. run_max:
 * the most bytes of all packets of a run to that peer now, 0: there are none. */
struct smt_tx_sink {
    void *arg;
    uint8_t *(*reserve)(void *arg, const struct smt_addr *to, size_t len, uint8_t prio);
    void (*unreserve)(void *arg);
    uint32_t (*mtu)(void *arg, const struct smt_addr *to);
    uint8_t *(*burst)(void *arg, const struct smt_addr *to, size_t hdr_len, size_t record_len,
                      size_t slice_len, uint8_t prio);
    uint8_t *(*run)(void *arg, const struct smt_addr *to, unsigned n, size_t len, size_t last_len,
                    uint8_t prio, size_t *stride);
    uint32_t (*run_max)(void *arg, const struct smt_addr *to);
};

/* Takes n received packets, borrowed (opened in place where possible). */
void smt_engine_rx(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts, unsigned n);

/* At `now` there is nothing to receive: what comes later has not waited since before. Who never
 * says so counts as one whom packets do not wait for (late.c). */
void smt_engine_idle(struct smt_engine *e, uint64_t now);

/* How many packets behind a received one its record needs, by its word, less than SMT_MAX_SLICES:
 * who can have them looked at together with it spares a copy. */
unsigned smt_engine_rx_wants(const struct smt_engine *e, const struct smt_pkt *pkt);

/* Runs every timer that is due. */
void smt_engine_tick(struct smt_engine *e, uint64_t now);

/* Writes what may be sent now: control first, then short messages, then by SRPT. Returns the number
 * of packets; stops when nothing is left or the sink is full. */
unsigned smt_engine_tx(struct smt_engine *e, uint64_t now, const struct smt_tx_sink *sink);

/* True when tx would have something to try right now. */
bool smt_engine_tx_pending(const struct smt_engine *e);

/* When tick must run next; SMT_NEVER when nothing waits. May be early, never late. */
uint64_t smt_engine_deadline(const struct smt_engine *e);

/* ---- events ---- */

enum smt_engine_event_type {
    SMT_EE_NONE = 0,
    SMT_EE_HS_ACCEPT,  /* conn: a stranger passed the cookie; give it a handshake, then hs_peek */
    SMT_EE_HS_DATA,    /* conn: TLS bytes wait in hs_peek */
    SMT_EE_NO_SESSION, /* conn: the peer says it does not know us (a hint) */
    SMT_EE_UP,         /* conn: keys installed and the peer confirmed them */
    /* conn, error: over; the handle dies with the first engine call after this was taken */
    SMT_EE_DOWN,
    SMT_EE_REQUEST,    /* conn, rpc, data, len */
    /* conn, id, user, data, len; rpc to release or NULL when it went to resp_buf */
    SMT_EE_RESPONSE,
    SMT_EE_MESSAGE,    /* conn, rpc, data, len */
    SMT_EE_SENT,       /* conn, id (0 for replies), user */
    /* conn, id (0 for replies), user, error; data: the buffer of an accepted message whose sender
     * has gone */
    SMT_EE_FAILED,
    SMT_EE_INCOMING,   /* conn, rpc, len, of */
    SMT_EE_WRITABLE,   /* conn */
};

struct smt_engine_event {
    enum smt_engine_event_type type;
    enum smt_engine_event_type of; /* INCOMING: REQUEST, RESPONSE or MESSAGE */
    int error;
    struct smt_conn *conn;
    struct smt_rpc *rpc;
    uint64_t id;
    void *user;
    void *data;
    size_t len;
    bool idempotent; /* FAILED with SMT_EMAYBE: the call was marked so */
    bool mark;       /* RESPONSE, SENT, FAILED: `mark` of its smt_post */
};

/* Takes the oldest event. False when there is none. */
bool smt_engine_next_event(struct smt_engine *e, struct smt_engine_event *out);

/* Whether next_event would give one. */
bool smt_engine_has_event(const struct smt_engine *e);

/* ---- conns ---- */

/* Begins a conn to `to` as initiator. The caller drives the handshake: hs_send / hs_peek. */
SMT_MUST_CHECK int smt_conn_open(struct smt_engine *e, uint64_t now, const struct smt_addr *to,
                                 struct smt_conn **out);

/* False when its profile knows none: conns are up when they are made, also those of strangers, of
 * whom the first thing heard is UP. */
bool smt_engine_has_handshake(const struct smt_engine *e);

/* The network says that packets to `to` (port 0: to all of that host) are refused, with `error`:
 * conns of profiles without a handshake, which has better proofs, end. */
void smt_engine_refused(struct smt_engine *e, uint64_t now, const struct smt_addr *to, int error);

/* Ours; its id is what our parameters announce. peer_id is 0 until a packet told it. */
uint64_t smt_conn_id(const struct smt_conn *c);
uint64_t smt_conn_peer_id(const struct smt_conn *c);
const struct smt_addr *smt_conn_addr(const struct smt_conn *c);
bool smt_conn_is_initiator(const struct smt_conn *c);
/* A stranger's conn whose hello is one of this engine's own, sent back: its id is that of a conn
 * that we began. */
bool smt_conn_is_reflected(const struct smt_conn *c);
void smt_conn_set_user(struct smt_conn *c, void *user);
void *smt_conn_user(const struct smt_conn *c);

/* Our transport parameters for this conn (session id, limits, mtu filled in; ciphers left to the
 * caller). */
void smt_conn_params(const struct smt_conn *c, struct smt_params *out);

/* Appends TLS bytes to send (copied, retransmitted until acknowledged). SMT_ENOMEM beyond 64 KB
 * unacknowledged. */
SMT_MUST_CHECK int smt_conn_hs_send(struct smt_conn *c, const uint8_t *bytes, size_t len);

/* Before anything was sent: a token that an earlier responder at this address gave, in place of the
 * cookie. */
void smt_conn_hs_token(struct smt_conn *c, const uint8_t token[32]);

/* TLS bytes of the peer, in order: how many wait at *p (borrowed until consume). */
size_t smt_conn_hs_peek(struct smt_conn *c, const uint8_t **p);
void smt_conn_hs_consume(struct smt_conn *c, size_t len);

/* Before install: TLS bytes may follow the handshake, a ticket. They are sent and taken for another
 * second, or until the side that takes them says that it has all it wants. Nothing waits for them.
 * Then the streams are over, of which an initiator is told by HS_DATA. */
void smt_conn_hs_keep(struct smt_conn *c, uint64_t now);
void smt_conn_hs_end(struct smt_conn *c, uint64_t now);
bool smt_conn_hs_is_over(const struct smt_conn *c);

/* Before install: keys for early data (docs/wire.md 6.6). An initiator's calls of one packet that
 * are idempotent go with the hello. A responder, whose install may follow at once, opens what came
 * and runs it; it is up for its user then, and CLOSED at the end of the handshake's time unless
 * confirmed. */
SMT_MUST_CHECK int smt_conn_early(struct smt_conn *c, const struct smt_aead *aead,
                                  const uint8_t secret[SMT_SECRET_LEN]);

/* Initiator, before install: they were not taken, and go again as if they had never. */
void smt_conn_early_refused(struct smt_conn *c);

/* Responder that took early data: the initiator's Finished has been verified. Or it will never be,
 * for the bytes that should have held it were not his: then a packet under the session's keys
 * confirms him, as it does before. */
void smt_conn_confirm(struct smt_conn *c, uint64_t now);
void smt_conn_early_end(struct smt_conn *c, uint64_t now);

/* Installs epoch 1: from here data may flow. `aead` lent for ever (static row). */
SMT_MUST_CHECK int smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                                    const uint8_t secret[SMT_SECRET_LEN],
                                    const struct smt_params *peer);

/* Ends a conn: open calls FAILED with `error` (0: SMT_ECLOSED), then DOWN with `error`. With `tell`
 * the peer gets CLOSE (or, before keys, pending TLS bytes such as an alert are sent once more). */
void smt_conn_close(struct smt_conn *c, uint64_t now, int error, bool tell);

/* Starts the next epoch as soon as the protocol allows. */
SMT_MUST_CHECK int smt_conn_rekey(struct smt_conn *c);

struct smt_conn_stats {
    uint32_t epoch, mtu, open_calls;
    uint64_t rtt_min, rtt_last, handshake_ns;
    uint64_t max_rate;       /* largest delivery rate seen, bytes/s */
    const char *no_nic;      /* why the CPU seals, static; NULL: the NIC does */
    bool up;
};
void smt_conn_stats(const struct smt_conn *c, struct smt_conn_stats *out);

/* Nothing of ours is unanswered or unacknowledged. */
bool smt_conn_is_quiet(const struct smt_conn *c);

/* And nothing of the peer's either: all that is left is messages that the user holds. */
bool smt_conn_is_still(const struct smt_conn *c);

/* ---- messages ---- */

struct smt_post_iov {
    const void *base;
    size_t len;
}; /* same shape as struct smt_iov */

struct smt_post {
    const struct smt_post_iov *iov; /* array borrowed, bytes lent until the final event */
    unsigned n_iov;
    bool one_way;
    bool idempotent;
    bool mark;            /* comes back in the final event; the engine does not look at it */
    uint64_t deadline;    /* duration from the next engine call; 0 = none */
    void *user;
    void *resp_buf;       /* lent until the final event; NULL = library memory */
    size_t resp_cap;
};

/* Posts a request or one-way message. SMT_EAGAIN at a limit (WRITABLE follows), SMT_EMSGSIZE,
 * SMT_ENOMEM, SMT_ECLOSED. May be called before the conn is up. */
SMT_MUST_CHECK int smt_conn_post(struct smt_conn *c, const struct smt_post *post, uint64_t *id);

/* Ends a call early: exactly one final event follows. SMT_EINVAL when `id` is not open. */
SMT_MUST_CHECK int smt_conn_cancel(struct smt_conn *c, uint64_t id);

/* Once per request. A request whose conn has gone: FAILED SMT_ECLOSED follows. */
SMT_MUST_CHECK int smt_rpc_reply(struct smt_rpc *r, const struct smt_post_iov *iov, unsigned n_iov,
                                 void *user);
SMT_MUST_CHECK int smt_rpc_reject(struct smt_rpc *r);
/* After INCOMING. SMT_ECLOSED: the sender has gone, and with it the handle. A response's handle
 * ends when FAILED of its call is taken. Without a buffer and while memory is short the message
 * waits for some (memory.h); SMT_ENOMEM: it is longer than all there is. */
SMT_MUST_CHECK int smt_rpc_accept(struct smt_rpc *r, void *buf, size_t cap);
void smt_rpc_release(struct smt_rpc *r);

/* The `user` of its engine's config, also when its conn has gone: the way from a message back to
 * the endpoint. */
void *smt_rpc_engine_user(const struct smt_rpc *r);

/* ---- counters ---- */

/* Names and values of all counters, wire drops by reason included: up to n; returns how many there
 * are. */
struct smt_engine_counter {
    const char *name;
    uint64_t value;
};
unsigned smt_engine_counters(const struct smt_engine *e, struct smt_engine_counter *out,
                             unsigned n);

/* True when all pools are full again: no conn work, no rpc, no buffer, no timer but idle ones. For
 * tests. */
bool smt_engine_is_at_rest(const struct smt_engine *e);

/* Bytes of memory held now by buffers, rpcs and conns. For tests and statistics. */
uint64_t smt_engine_memory(const struct smt_engine *e);

#endif
