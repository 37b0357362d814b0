/* One RPC or one-way message, either side: its state, timers and both directions of data. The usual
 * ways through its life are rpc_life.h's. */
#ifndef SMT_CORE_RPC_H
#define SMT_CORE_RPC_H

#include "base/chains.h"
#include "base/wheel.h"
#include "core/evq.h"
#include "core/msg_rx.h"
#include "core/msg_tx.h"
#include "wire/wire.h"

/* Named for what is awaited. Client: ours; server: the peer started it. */
enum smt_rpc_state {
    SMT_RPC_FREE = 0,
    SMT_RPC_AWAIT_RESPONSE, /* client: request under way or being served */
    SMT_RPC_AWAIT_REST,     /* client: part of the response is here */
    SMT_RPC_AWAIT_ACK,      /* one-way message, or server's reply: until the peer has it all */
    SMT_RPC_AWAIT_REQUEST,  /* server: part of a request or message is here */
    SMT_RPC_AWAIT_ACCEPT,   /* a large message was announced to the user */
    SMT_RPC_AWAIT_REPLY,    /* server: with the user */
    SMT_RPC_AWAIT_GONE,     /* client: cancelled, until the server has confirmed that it is over */
    /* server: refused, kept to answer until the client's mark has passed it */
    SMT_RPC_AWAIT_DONE,
    SMT_RPC_AWAIT_USER,     /* over on the wire; the user has an event or memory to give back */
    SMT_RPC_N_STATES,
};

struct smt_rpc {
    struct smt_conn *conn;     /* first: where the pool keeps its own link of a free one */
    struct smt_evlink ev;      /* as every life leaves it: in no queue */
    uint64_t id;               /* SMT_ID_ROLE set: the peer started it, we serve */
    /* Cleared for each life, from here on. */
    enum smt_rpc_state state;
    /* More than one packet each way and its timer may be the matter: its end has to look. */
    bool is_involved;
    uint8_t what;              /* of its outgoing message, but for tests: enum smt_what */
    bool one_way;
    bool idempotent;
    bool is_test;              /* our own, of no user: shows that the NIC seals (nic.h) */
    bool mark;                 /* the poster's own, given back */
    bool caller_gone;          /* server: the client aborted while the user had it */
    bool holds_handle;         /* the user may still reply, reject or accept */
    bool holds_bytes;          /* the user has received bytes to release */
    bool counted;              /* in the conn's open calls */
    bool has_ask_turn;
    bool is_served;            /* BUSY was the answer to our last question */
    int error;                 /* of the FAILED event */
    uint32_t ask_round;        /* of the conn's asks, in which it asked; 0 = answered (asks.c) */
    uint8_t n_quiet;           /* timer rounds without progress */
    uint8_t n_need_ack;
    uint8_t early_round;       /* sending of the hello with which it went ahead; 0 = none */
    uint32_t asked_for;        /* offset of the last RESEND that came */
    uint64_t late_until;       /* what is late may stand in a queue; before `heard`: not looked */
    uint64_t since;            /* when it came into its state */
    uint64_t out_len;          /* its bytes in the conn's out_bytes */
    void *user;
    void *reply_user;
    uint8_t *resp_buf;
    /* Set for each life, or with what is above. */
    size_t resp_cap;
    uint64_t deadline;         /* relative until `posted` is taken, then absolute; SMT_NEVER */
    uint64_t heard;            /* when something of it was last received or sent anew */
    /* From here on each part leaves what is its own as it found it, life after life. */
    struct smt_chain index;    /* in the engine's rpcs by id, as long as the wire knows it */
    struct smt_list conn_link; /* conn's rpcs */
    struct smt_list wait_link; /* in the engine's posted or the conn's blocked rpcs */
    struct smt_list ask_link;  /* in asks.waiting, the conn's or the engine's */
    struct smt_owned_timer timer;
    struct smt_msg_tx tx;
    struct smt_msg_rx rx;
};

static inline bool smt_rpc_is_server(const struct smt_rpc *r)
{
    return (r->id & (1ull << 63)) != 0;
}

/* What its packets are told apart by, in one word: is_involved to idempotent. */
static inline uint32_t smt_rpc_kind(const struct smt_rpc *r)
{
    uint32_t kind;
    static_assert(offsetof(struct smt_rpc, idempotent) - offsetof(struct smt_rpc, is_involved) == 3,
                  "four bytes");
    memcpy(&kind, &r->is_involved, sizeof(kind));
    return kind;
}

/* The wire knows it: packets find it, its timer may run. */
static inline bool smt_rpc_is_on_wire(const struct smt_rpc *r)
{
    return r->index.at != NULL;
}

/* A record of this rpc from us: bit 63 of the header's id is set for responses. */
static inline uint64_t smt_rpc_tx_id(const struct smt_rpc *r)
{
    return r->id;
}

/* The id field of a frame from us: bit 63 says that we started the rpc. */
static inline uint64_t smt_rpc_frame_id(const struct smt_rpc *r)
{
    return r->id ^ (1ull << 63);
}

/* Over on the wire: leaves the map, timers, queues. What the user does not hold goes back. */
void smt_rpc_retire(struct smt_rpc *r);

/* Ends a call, message or reply for its user with FAILED and `error`, and retires it. */
void smt_rpc_fail(struct smt_rpc *r, int error);

/* Ends our own call for its user with FAILED and tells the peer, until he confirms that it is
 * over. */
void smt_rpc_abandon(struct smt_rpc *r, int error);

/* Its conn is gone. */
void smt_rpc_orphan(struct smt_rpc *r, int error);

/* Memory for an incoming message of known length: the user's buffer, or the library's.
 * SMT_ENOMEM. */
SMT_MUST_CHECK int smt_rpc_take_buffer(struct smt_rpc *r);

/* Its incoming message is announced, and has no memory yet. */
static inline bool smt_rpc_awaits_memory(const struct smt_rpc *r)
{
    return r->rx.data == NULL &&
           (r->state == SMT_RPC_AWAIT_REST || r->state == SMT_RPC_AWAIT_REQUEST);
}

/* Tells the client once more that his call was refused, until his mark has passed it. */
void smt_rpc_refuse_again(struct smt_rpc *r);

/* Its received bytes and their ranges go back; what they cost the credit too. */
void smt_rpc_rx_give_back(struct smt_rpc *r);

/* Tells the peer that we want nothing more of it. */
void smt_rpc_abort_send(struct smt_rpc *r, int error);

/* Asks for what is missing of its incoming message. False: nothing is. */
bool smt_rpc_ask_missing(struct smt_rpc *r);

/* Things that happened to it, told by record_rx.c and frames.c; the usual ones are in
 * rpc_life.h. */
void smt_rpc_aborted(struct smt_rpc *r, int error); /* ABORT came */
void smt_rpc_unknown(struct smt_rpc *r, bool over); /* UNKNOWN came */
void smt_rpc_busy(struct smt_rpc *r);             /* BUSY came */
void smt_rpc_timer_fired(struct smt_rpc *r, uint64_t now);

/* (Re)arms its timer from state and deadline. */
void smt_rpc_arm(struct smt_rpc *r, uint64_t now);

/* The time it was posted is now: its timer runs. */
void smt_rpc_begin(struct smt_rpc *r, uint64_t now);

/* Puts it where tx will find it, if it has something to send. */
void smt_rpc_ready(struct smt_rpc *r);

#endif
