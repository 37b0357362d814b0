/* One engine against a peer played by hand: the test writes each packet with keys it knows, and
 * reads each packet of the engine opened. Time stands still except in hand_sleep. For tests of
 * single behaviours. */
#ifndef SMT_TESTS_HAND_H
#define SMT_TESTS_HAND_H

#include "base/prng.h"
#include "checking_aead.h"
#include "core/engine.h"
#include "wire/wire.h"

enum { HAND_MAX_PKTS = 4096, HAND_MAX_FRAMES = 32, HAND_MAX_EVENTS = 256, HAND_MTU = 1472 };

/* Data bytes that fit a packet of the engine after the first of a message, without frames. */
enum { HAND_PIECE = HAND_MTU - SMT_DATA_HDR_LEN - SMT_RECORD_OVERHEAD - SMT_INNER_LEN };

struct hand_pkt {
    uint64_t at;
    unsigned go; /* packets that left by one smt_engine_tx have the same */
    struct smt_hdr hdr;
    struct smt_inner inner;                   /* DATA */
    struct smt_frame frames[HAND_MAX_FRAMES]; /* the first of them */
    unsigned n_frames;
    uint32_t len, data_len;
    uint8_t prio;
    uint8_t data[2048]; /* of the message */
    uint8_t raw[2048];
};

struct hand {
    struct smt_engine *e;
    struct smt_engine_config config;
    struct smt_conn *conn; /* the engine's */
    uint64_t now;
    struct smt_addr addr;     /* the hand's */
    uint64_t id;              /* its session id; the engine's is smt_conn_id(conn) */
    bool initiator;           /* the hand is */
    struct smt_params params; /* the hand's; change before hand_connect */
    void *ctx[4];             /* hand's data, hand's ctrl, engine's data, engine's ctrl */
    uint8_t salt[4][SMT_SALT_LEN];
    /* With config.early and a hand that is the initiator: the engine takes early data, its conn is
     * there before it is confirmed. Called when it is there and has no keys yet. */
    void (*before_keys)(void *arg);
    void *arg;
    void *early_ctx;
    uint8_t early_salt[SMT_SALT_LEN];
    uint64_t ctrl_no;
    struct smt_prng rng;
    uint32_t mtu; /* what the engine's link says it carries; longer packets do not arrive */
    uint8_t prio; /* of the packet being written */
    uint8_t *pending;
    size_t pending_len;
    bool polite; /* MARK, PROBE and PING are answered: the default */
    unsigned room; /* packets that the device still takes; UINT_MAX: any number */
    uint32_t got_packets, got_bytes;
    unsigned n_answered, n_goes;
    struct hand_pkt *pkts; /* what the engine sent since hand_clear */
    unsigned n_pkts;
    struct smt_engine_event events[HAND_MAX_EVENTS];
    unsigned n_events;
    uint64_t mem, live_ctxs; /* before */
};

/* Makes the engine; change config and params, then connect: UP on the engine when it returns. */
struct hand *hand_new(bool hand_is_initiator);
void hand_connect(struct hand *h);
/* Frees all; fails the test when the engine leaked. */
void hand_free(struct hand *h);

/* Lets the engine do what it can now: timers that are due, sending, events. */
void hand_run(struct hand *h);
/* Time passes, every deadline kept. */
void hand_sleep(struct hand *h, uint64_t ns);
/* Forgets packets and events seen so far. */
void hand_clear(struct hand *h);

/* Gives the engine raw bytes from the hand's address and runs it. */
void hand_rx(struct hand *h, const uint8_t *bytes, size_t len);

/* Several packets at once. */
struct hand_bytes {
    uint8_t bytes[HAND_MTU];
    size_t len;
};
void hand_rx_many(struct hand *h, struct hand_bytes *pkts, unsigned n);

/* Any plaintext in a CTRL packet. */
void hand_ctrl(struct hand *h, const uint8_t *plain, size_t len);
/* Sends frames in one CTRL packet. */
void hand_frames(struct hand *h, const struct smt_frame *frames, unsigned n);
void hand_frame(struct hand *h, struct smt_frame f);

/* A DATA packet: bytes [offset, offset + len) of message `id` (bit 63 as in the header: 0 the hand
 * started the RPC), contents from hand_byte. Zeros: seal picked anew, message all unscheduled. */
struct hand_data {
    enum smt_what what;
    uint64_t id;
    uint32_t offset, len, message_len;
    uint32_t seal;      /* 0: the next of a counter */
    bool is_first;      /* sealed as number 0, as a message is that was never sent before */
    uint32_t unsched;   /* of the extension; 0 = message_len */
    uint64_t low_water; /* 0 = 1 */
    uint64_t done;
    uint8_t flags;
    const struct smt_frame *frames;
    unsigned n_frames;
};
void hand_data(struct hand *h, struct hand_data d);
/* The same into `out` without sending; its length. */
size_t hand_data_encode(struct hand *h, struct hand_data d, uint8_t *out);

/* Cuts such a packet into slices of slice_len record bytes; how many. */
unsigned hand_slices(const uint8_t *pkt, uint32_t slice_len, struct hand_bytes *out, unsigned max);

/* Byte i of the message with that id, either direction. */
uint8_t hand_byte(uint64_t id, uint32_t i);
void hand_fill(uint8_t *p, uint64_t id, uint32_t len);

/* What the engine sent: n-th (from 0) frame of a type about an id (UINT64_MAX: any), NULL if
 * none. */
const struct smt_frame *hand_frame_n(const struct hand *h, uint8_t type, uint64_t id, unsigned n);
unsigned hand_n_frames(const struct hand *h, uint8_t type, uint64_t id);
/* n-th DATA packet of an id as in the header. */
const struct hand_pkt *hand_pkt_n(const struct hand *h, uint64_t id, unsigned n);
unsigned hand_n_data(const struct hand *h, uint64_t id);
/* End of the furthest byte that was sent of an id. */
uint32_t hand_data_end(const struct hand *h, uint64_t id);
/* n-th event of a type, NULL if none. */
const struct smt_engine_event *hand_event_n(const struct hand *h, enum smt_engine_event_type type,
                                            unsigned n);
unsigned hand_n_events(const struct hand *h, enum smt_engine_event_type type);
uint64_t hand_counter(const struct hand *h, const char *name);

/* The engine posts a call or one-way message of `len` bytes (its hand_byte contents are made and
 * kept until hand_free); the id. Fails the test on an error. */
uint64_t hand_post(struct hand *h, uint32_t len, bool one_way);
/* The engine replies to a request it got. */
void hand_reply(struct hand *h, struct smt_rpc *r, uint32_t len);

/* Ids as frames of the hand name them: a call the hand started / the engine started. */
static inline uint64_t hand_mine(uint64_t id)
{
    return id | SMT_ID_ROLE;
}

static inline uint64_t hand_theirs(uint64_t id)
{
    return id;
}

#endif
