/* A message that comes in, whatever carried it: how it begins, what each piece of it does, how it
 * becomes whole. For the files that take packets; what they hand over has passed all checks that
 * the packets themselves allow. */
#ifndef SMT_CORE_INCOMING_H
#define SMT_CORE_INCOMING_H

#include "core/rpc_life.h"
#include "core/state.h"

/* A server rpc for a request or message (`id` with role) that the conn has not seen yet. NULL, and
 * counted: its id is used up, too many are open, or no memory. */
struct smt_rpc *smt_incoming_new(struct smt_conn *c, uint64_t id);

/* Messages of one conn that are over but for the user, who has not released them: their bytes are
 * limited elsewhere, but a message of one byte costs a thousand. Open ones the credit limits. */
enum { SMT_INCOMING_MAX_KEPT = 65536 };

/* How many more the peer may open now. */
static inline uint32_t smt_incoming_room(const struct smt_conn *c)
{
    uint32_t most = c->e->config.max_open_rpcs;
    uint32_t kept = c->n_rpcs - c->served - c->open_calls;
    return c->served >= most || kept >= SMT_INCOMING_MAX_KEPT ? 0 : most - c->served;
}

/* The same where it has just been seen that there is room and the id, whose hash that is, is not
 * used up; as smt_rpc_new_at. */
SMT_INLINE struct smt_rpc *smt_incoming_enter(struct smt_conn *c, uint64_t id, uint64_t hash,
                                              bool is_involved)
{
    struct smt_rpc *r = smt_rpc_new_at(c, id, hash, SMT_WHAT_RESPONSE, is_involved);
    if (SMT_UNLIKELY(r == NULL)) {
        c->e->stats.drop_no_memory++;
        return NULL;
    }
    c->served++;
    return r;
}

/* May a piece of a message of this length, for an rpc that is known, bring anything? Counts why
 * not. */
static inline bool smt_incoming_takes(struct smt_rpc *r, uint32_t message_len)
{
    struct smt_stats *st = &r->conn->e->stats;
    switch (r->state) {
    case SMT_RPC_AWAIT_RESPONSE:
        return true;
    case SMT_RPC_AWAIT_REST:
    case SMT_RPC_AWAIT_REQUEST:
        if (SMT_UNLIKELY(message_len != r->rx.len)) {
            st->drop_hint++;
            return false;
        }
        if (SMT_LIKELY(r->rx.data != NULL))
            return true;
        st->drop_no_memory++;
        return false;
    case SMT_RPC_AWAIT_ACCEPT:
        r->heard = r->conn->e->now;
        st->drop_await_accept++;
        return false;
    default:
        st->drop_duplicate++;
        return false;
    }
}

/* Takes a server rpc back as if it had never been: its first packet did not count after all. */
void smt_incoming_drop(struct smt_rpc *r);

/* The id of a server rpc counts as used up from now on. Without memory for that (false) it must not
 * start. */
static inline bool smt_incoming_id_accept(struct smt_rpc *r)
{
    struct smt_conn *c = r->conn;
    uint64_t id = r->id & ~SMT_ID_ROLE;
    if (SMT_LIKELY(smt_ranges_add(&c->accepted, id, id + 1) == 0))
        return true;
    c->e->stats.drop_no_memory++;
    return false;
}

/* The first piece of a message that counts: state, limits, and memory if need_buffer. `sent`: bytes
 * that come without a grant or have come, to be asked for again when the message has to wait for
 * the user or for memory. False: the piece is not taken. */
bool smt_incoming_begin(struct smt_rpc *r, uint32_t message_len, uint32_t sent, bool need_buffer);

/* Bytes [offset, offset + len) are in place and authentic: takes note, grants, finishes. False: the
 * piece does not count after all. The rpc may be over afterwards. */
bool smt_incoming_data(struct smt_rpc *r, uint32_t offset, uint32_t len, uint32_t unsched,
                       uint64_t now);

/* Something of what it waits for has come. */
SMT_INLINE void smt_incoming_heard(struct smt_rpc *r, uint64_t now)
{
    r->heard = now;
    r->n_quiet = 0;
    if (SMT_UNLIKELY(r->ask_round != 0))
        smt_asks_answered(r);
    smt_compete_came(r, now, 0);
}

/* What an rpc knows of a message that is here whole, at once; its end has to follow. */
SMT_INLINE void smt_incoming_put(struct smt_rpc *r, uint8_t *store, uint32_t store_len,
                                 uint8_t *data, uint32_t len)
{
    struct smt_msg_rx *m = &r->rx;
    m->len = m->granted = m->piece = len;
    m->known = m->whole = true;
    m->store = store;
    m->store_len = store_len;
    m->data = data;
}

/* A message that is here whole, at once, and of which nothing was known: it begins and ends. Its
 * `len` bytes at `data` lie in `store`, which is the rpc's from then on. False: refused, and the
 * store is still the caller's. */
bool smt_incoming_whole(struct smt_rpc *r, uint8_t *store, uint32_t store_len, uint8_t *data,
                        uint32_t len, uint64_t now);

#endif
