/* The life of a conn: from the first handshake packet to the last farewell. It owns identity,
 * credit, liveness and the one timer behind which everything periodic of a conn stands; keys.c,
 * pacer.c, mtu.c and hs_stream.c do their parts when it calls them.
 *
 * A conn that has no work costs no timer traffic: liveness is judged only while something is
 * awaited. */
#include "core/conn.h"

#include "base/mem.h"
#include "core/profile.h"
#include "core/state.h"

static const uint64_t tell_delay = 400 * SMT_USEC;
static const uint64_t doubt_wait = 20 * SMT_MSEC;
static const uint64_t credit_wait = 20 * SMT_MSEC;
static const uint64_t rest_delay = 1 * SMT_SEC;
static const uint64_t tail_time = 1 * SMT_SEC;

enum { ACCEPTED_SLACK = 64, MAX_DOUBTS = 3, REPEATED_FAREWELLS = 16 };

/* Only assertions look at it. */
__attribute__((unused)) static const uint16_t arrows[SMT_CONN_N_STATES] = {
    [SMT_CONN_FREE] = 1u << SMT_CONN_AWAIT_KEYS | 1u << SMT_CONN_AWAIT_CONFIRM | 1u << SMT_CONN_UP,
    [SMT_CONN_AWAIT_KEYS] =
        1u << SMT_CONN_AWAIT_CONFIRM | 1u << SMT_CONN_UP | 1u << SMT_CONN_CLOSED,
    [SMT_CONN_AWAIT_CONFIRM] = 1u << SMT_CONN_UP | 1u << SMT_CONN_CLOSED,
    [SMT_CONN_UP] = 1u << SMT_CONN_CLOSED,
    [SMT_CONN_CLOSED] = 1u << SMT_CONN_FREE,
};

void smt_conn_set_state(struct smt_conn *c, enum smt_conn_state to)
{
    assert(arrows[c->state] >> to & 1);
    if (!c->initiator && to == SMT_CONN_AWAIT_KEYS)
        smt_half_open_enter(c);
    if (!smt_list_is_empty(&c->half_link) && c->state != SMT_CONN_FREE &&
        to != SMT_CONN_AWAIT_CONFIRM)
        smt_half_open_leave(c);
    c->state = to;
}

static uint64_t fresh_id(struct smt_engine *e)
{
    uint64_t id;
    do {
        e->config.random(e->config.random_arg, &id, sizeof(id));
        id = (id & ~(0xffull << 56)) | (uint64_t)e->config.number << 56;
    } while ((id & ~(0xffull << 56)) == 0 || smt_conn_find(e, id) != NULL);
    return id;
}

/* The credit of now is what the peer knows, and will do until it moves by more than an eighth of
 * all. Beyond all there is none, and no less than that. */
static void told_note(struct smt_conn *c)
{
    uint64_t max = c->e->config.max_conn_bytes;
    uint64_t held = c->held_bytes < max ? c->held_bytes : max;
    c->told_low = held > max / 8 ? held - max / 8 : 0;
    c->told_high = max - held > max / 8 ? held + max / 8 : UINT64_MAX;
}

static void credit_init(struct smt_conn *c)
{
    struct smt_params p;
    smt_params_init(&p);
    c->peer_open = p.open_rpcs;
    c->peer_bytes = p.unfinished_bytes;
    c->peer_max_message = p.max_message;
    c->unsched_limit = p.unsched;
    c->peer_mtu = p.mtu;
    smt_mtu_init(&c->mtu);
    told_note(c);
    c->cutoffs = smt_cutoffs_default;
}

static void id_forget(struct smt_conn *c)
{
    struct smt_engine *e = c->e;
    (void)smt_map_del(&e->conn_map, (struct smt_map_key){c->id, 0});
    if (e->found == c)
        e->found = NULL;
}

int smt_conn_new(struct smt_engine *e, uint64_t now, const struct smt_addr *addr, bool initiator,
                 struct smt_conn **out)
{
    struct smt_conn *c = smt_pool_get(&e->conns);
    if (c == NULL)
        return SMT_ENOMEM;
    memset(c, 0, sizeof(*c));
    c->e = e;
    c->id = fresh_id(e);
    if (smt_map_put(&e->conn_map, (struct smt_map_key){c->id, 0}, c) < 0)
        goto err_put;
    c->host = smt_memory_host_get(&e->memory, addr);
    if (c->host == NULL)
        goto err_unmap;
    smt_evlink_init(&c->ev, SMT_EV_OF_CONN);
    c->timer.owner = SMT_EV_OF_CONN;
    c->addr = *addr;
    c->peer_port = addr->port;
    c->slot = smt_pool_index(&e->conns, c);
    c->index_salt = smt_chains_salt(&e->rpc_index, c->slot);
    c->initiator = initiator;
    c->next_id = 1;
    c->opened_at = now;
    c->heard = now;
    c->tell_at = SMT_NEVER;
    c->credit_at = SMT_NEVER;
    c->doubt_at = SMT_NEVER;
    c->contest_at = SMT_NEVER;
    c->rest_at = SMT_NEVER;
    credit_init(c);
    smt_finished_init(&c->finished, &e->ranges);
    c->peer_finished = (struct smt_finished_seen){.low_water = 1};
    smt_ranges_init(&c->accepted, &e->ranges, e->config.max_open_rpcs + ACCEPTED_SLACK);
    smt_ctl_init(&c->ctl);
    smt_acks_init(&c->acks);
    smt_asks_init(&c->asks);
    smt_pacer_init(&c->pacer);
    smt_share_init(&c->tx_share);
    smt_share_init(&c->rx_share);
    smt_list_init(&c->rpcs);
    smt_list_init(&c->blocked);
    smt_list_init(&c->hs_link);
    smt_list_init(&c->half_link);
    smt_list_init(&c->sender_link);
    int rc = e->config.profile->conn_begin(c);
    if (rc < 0) {
        id_forget(c);
        smt_pool_put(&e->conns, c);
        return rc;
    }
    smt_list_push_tail(&e->live, &c->all_link);
    smt_conn_arm(c, now);
    *out = c;
    return 0;
err_unmap:
    id_forget(c);
err_put:
    smt_pool_put(&e->conns, c);
    return SMT_ENOMEM;
}

/* Nothing from the wire reaches it any more. */
static void unlink_wire(struct smt_conn *c)
{
    struct smt_engine *e = c->e;
    id_forget(c);
    if (c->in_hs_map)
        (void)smt_map_del(&e->peer_map,
                          (struct smt_map_key){c->peer_id, smt_engine_addr_hash(&c->addr)});
    c->in_hs_map = false;
    smt_wheel_disarm(&e->wheel, &c->timer.t);
    e->config.profile->conn_end(c);
}

void smt_conn_free(struct smt_conn *c)
{
    struct smt_engine *e = c->e;
    if (c->state == SMT_CONN_AWAIT_KEYS || !smt_list_is_empty(&c->half_link))
        smt_conn_set_state(c, SMT_CONN_CLOSED);
    unlink_wire(c);
    smt_evlink_drop(&c->ev);
    smt_list_remove(&c->all_link);
    smt_list_remove(&c->hs_link);
    smt_list_remove(&c->sender_link);
    smt_ctl_fini(c);
    smt_acks_drop(c);
    smt_pacer_rest(c);
    smt_nic_fini(c);
    smt_bursts_forget(&e->bursts, c->slot);
    smt_book_peer_fini(&c->book);
    smt_moved_fini(c);
    smt_keys_fini(&c->keys);
    smt_hs_stream_free(c->hs);
    smt_finished_fini(&c->finished);
    smt_ranges_fini(&c->accepted);
    smt_memory_host_drop(&e->memory, c->host);
    smt_wipe(c, sizeof(*c));
    smt_pool_put(&e->conns, c);
}

void smt_conn_try_end(struct smt_conn *c)
{
    if (SMT_LIKELY(c->state != SMT_CONN_CLOSED) || !c->down_taken || c->n_rpcs > 0 ||
        smt_ctl_is_waiting(&c->ctl) || !smt_list_is_empty(&c->hs_link))
        return;
    smt_list_remove(&c->all_link);
    smt_list_push_tail(&c->e->over, &c->all_link);
}

struct smt_conn *smt_conn_find(struct smt_engine *e, uint64_t id)
{
    struct smt_conn *c = e->found;
    if (SMT_LIKELY(c != NULL && c->id == id))
        return c;
    c = smt_map_get(&e->conn_map, (struct smt_map_key){id, 0});
    e->found = c;
    return c;
}

/* A responder that has answered early data, whose user knows of it. Packets under its keys prove
 * as much as the Finished: they come from whoever made the key share in the hello. */
static bool is_early_responder(const struct smt_conn *c)
{
    return !c->initiator && c->hs != NULL;
}

/* The handshake has just ended, or has not yet. */
void smt_conn_heard_first(struct smt_conn *c, uint64_t now)
{
    if (c->state == SMT_CONN_AWAIT_CONFIRM) {
        smt_conn_set_state(c, SMT_CONN_UP);
        c->up_at = now;
        if (!is_early_responder(c)) {
            if (!c->want_writable)
                c->credit_at = SMT_NEVER;
            smt_evlink_raise(&c->e->events, &c->ev, SMT_EE_UP);
        }
    }
    /* An authentic packet acknowledges the last flight: the streams have done their work. */
    if (c->state == SMT_CONN_UP && c->hs != NULL &&
        (c->initiator ? c->hs->tail_until == 0
                      : smt_hs_stream_is_done(c->hs) && !smt_early_is_on(c))) {
        smt_hs_stream_free(c->hs);
        c->hs = NULL;
        smt_conn_arm(c, now);
    }
}

int smt_conn_move(struct smt_conn *c, const struct smt_addr *to)
{
    struct smt_engine *e = c->e;
    const struct smt_map_key was = {c->peer_id, smt_engine_addr_hash(&c->addr)};
    const struct smt_map_key is = {c->peer_id, smt_engine_addr_hash(to)};
    if (c->in_hs_map) {
        if (smt_map_put(&e->peer_map, is, c) < 0)
            return SMT_ENOMEM;
        (void)smt_map_del(&e->peer_map, was);
    }
    c->addr = *to;
    smt_memory_move(c);
    smt_mtu_init(&c->mtu);
    smt_share_init(&c->tx_share);
    return 0;
}

uint64_t smt_conn_patience(const struct smt_conn *c, unsigned rounds)
{
    const struct smt_tune *t = &c->e->config.tune;
    uint64_t base = t->resend_first_ns;
    /* A peer that lost its processor for a moment is not a lossy path: wait as long as it lately
     * took. */
    uint64_t rtt = smt_conn_rtt_peak(c);
    if (smt_compete_in_is_on(c, c->e->now) && c->compete_in.delay > rtt)
        rtt = c->compete_in.delay;
    if (rtt > 0)
        base = rtt + rtt / 4 + t->resend_floor_ns;
    /* However long the way has become, an answer can only come after that. */
    uint64_t most = base > t->resend_most_ns ? base : t->resend_most_ns;
    if (most > c->e->config.peer_timeout / 4)
        most = c->e->config.peer_timeout / 4;
    base <<= rounds < 10 ? rounds : 10;
    return base < most ? base : most;
}

bool smt_conn_is_silent(const struct smt_conn *c, uint64_t since, uint64_t now)
{
    if (since < c->heard)
        since = c->heard;
    uint64_t len = now - since;
    /* Among many that fell silent it may not have been asked again: that can be our doing. */
    return len > c->e->config.peer_timeout &&
           (smt_asks_unanswered(c) || len > 2 * c->e->config.peer_timeout);
}

void smt_conn_credit_ask(struct smt_conn *c)
{
    if (c->credit_at != SMT_NEVER)
        return;
    c->n_quiet = 0;
    c->credit_at = c->e->now + credit_wait;
    smt_conn_arm(c, c->e->now);
}

void smt_conn_room_made_owed(struct smt_conn *c)
{
    if (c->state == SMT_CONN_CLOSED)
        return;
    if (c->open_calls >= c->peer_open || (c->out_bytes >= c->peer_bytes && c->out_bytes > 0)) {
        /* No further end of a call will look here again. */
        if (c->open_calls == 0)
            smt_conn_credit_ask(c);
        return;
    }
    c->want_writable = false;
    c->credit_at = SMT_NEVER;
    smt_evlink_raise(&c->e->events, &c->ev, SMT_EE_WRITABLE);
}

uint64_t smt_conn_credit_bytes(const struct smt_conn *c)
{
    uint64_t max = c->e->config.max_conn_bytes;
    return c->held_bytes < max ? max - c->held_bytes : 0;
}

static void credit_send(struct smt_conn *c)
{
    told_note(c);
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_CREDIT,
                                       .length = c->e->config.max_open_rpcs,
                                       .low_water = smt_conn_credit_bytes(c)});
}

/* By more than an eighth. */
void smt_conn_credit_moved(struct smt_conn *c)
{
    if (smt_keys_ready(&c->keys) && c->state != SMT_CONN_CLOSED)
        credit_send(c);
}

bool smt_conn_may_hold(const struct smt_conn *c, uint32_t len)
{
    const struct smt_engine *e = c->e;
    bool over_conn = c->held_bytes > 0 && c->held_bytes + len > e->config.max_conn_bytes;
    return !over_conn && smt_memory_fits(&e->memory, c->host, len);
}

uint64_t smt_conn_hold_room(const struct smt_conn *c)
{
    uint64_t most = c->e->config.max_conn_bytes;
    if (most > c->told_high)
        most = c->told_high;
    uint64_t own = c->held_bytes < most ? most - c->held_bytes : 0;
    uint64_t all = smt_memory_room(&c->e->memory, c->host);
    return own < all ? own : all;
}

void smt_conn_hold(struct smt_conn *c, uint32_t len)
{
    c->held_bytes += len;
    smt_memory_take(&c->e->memory, c->host, len);
    if (SMT_UNLIKELY(c->held_bytes > c->told_high))
        smt_conn_credit_moved(c);
}

void smt_conn_unblock(struct smt_conn *c)
{
    struct smt_list *l;
    /* ready may put one back to `blocked` only without keys, and then nothing is unblocked. */
    if (!smt_keys_ready(&c->keys))
        return;
    while ((l = smt_list_pop_head(&c->blocked)) != NULL) {
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, wait_link);
        /* One whose time is over is for its timer, which is due: packets are taken first. */
        if (SMT_LIKELY(c->e->now < r->deadline))
            smt_rpc_ready(r);
    }
}

void smt_conn_tell_later(struct smt_conn *c)
{
    c->tell_at = c->e->now + tell_delay;
    if (!smt_timer_is_armed(&c->timer.t) || c->timer.t.at > c->tell_at)
        smt_wheel_arm(&c->e->wheel, &c->timer.t, c->tell_at);
}

/* ---- timer ---- */

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t idle_deadline(const struct smt_conn *c)
{
    uint64_t limit = c->e->config.idle_timeout;
    if (limit == 0 || c->state != SMT_CONN_UP)
        return SMT_NEVER;
    return (c->heard > c->busy_at ? c->heard : c->busy_at) + limit;
}

/* When the streams of a session that is up are of no more use. Where early data were taken the
 * Finished is still on its way, and no other packet tells that it has come. */
static uint64_t tail_deadline(const struct smt_conn *c)
{
    const struct smt_hs_stream *s = c->hs;
    if (c->state != SMT_CONN_UP || s->tail_until == 0)
        return SMT_NEVER;
    uint64_t most = c->opened_at + c->e->config.handshake_timeout;
    bool waits = smt_early_is_on(c) && (!c->initiator || !smt_hs_stream_is_done(s));
    return waits && most > s->tail_until ? most : s->tail_until;
}

void smt_conn_arm(struct smt_conn *c, uint64_t now)
{
    const struct smt_engine_config *g = &c->e->config;
    uint64_t at = SMT_NEVER;
    if (c->state == SMT_CONN_CLOSED)
        return;
    if (c->state == SMT_CONN_AWAIT_KEYS || c->state == SMT_CONN_AWAIT_CONFIRM)
        at = earliest(c->opened_at + g->handshake_timeout, c->contest_at);
    /* Bytes that are due wait for tx, not for time: arming now would fire again and again. */
    if (c->hs != NULL && !smt_hs_stream_is_due(c->hs, now))
        at = earliest(at, earliest(c->hs->resend_at, tail_deadline(c)));
    at = earliest(at, c->tell_at);
    at = earliest(at, c->acks.at);
    at = earliest(at, c->credit_at);
    at = earliest(at, c->doubt_at);
    at = earliest(at, c->rest_at);
    at = earliest(at, smt_pacer_deadline(c));
    at = earliest(at, smt_mtu_deadline(&c->mtu));
    at = earliest(at, smt_moved_deadline(c));
    if (c->keys.prev != NULL)
        at = earliest(at, c->keys.prev_until);
    at = earliest(at, idle_deadline(c));
    if (at == SMT_NEVER)
        smt_wheel_disarm(&c->e->wheel, &c->timer.t);
    else
        smt_wheel_arm(&c->e->wheel, &c->timer.t, at > now ? at : now);
}

static bool handshake_tick(struct smt_conn *c, uint64_t now)
{
    bool under_way = c->state == SMT_CONN_AWAIT_KEYS || c->state == SMT_CONN_AWAIT_CONFIRM;
    if (under_way && now >= c->opened_at + c->e->config.handshake_timeout) {
        smt_conn_close(c, now, c->error < 0 ? c->error : SMT_EUNREACHABLE, false);
        return false;
    }
    if (c->state == SMT_CONN_AWAIT_KEYS && now >= c->contest_at) {
        smt_conn_close(c, now, SMT_EPROTO, false);
        return false;
    }
    if (c->hs != NULL && now >= tail_deadline(c) && !c->hs->ack_due) {
        bool waits = c->initiator || smt_early_is_on(c);
        smt_hs_stream_free(c->hs);
        c->hs = NULL;
        if (waits)
            smt_evlink_raise(&c->e->events, &c->ev, SMT_EE_HS_DATA);
    }
    if (c->hs != NULL && smt_hs_stream_is_due(c->hs, now))
        smt_engine_hs_ready(c);
    return true;
}

static bool idle_tick(struct smt_conn *c, uint64_t now)
{
    if (now < idle_deadline(c))
        return true;
    if (c->n_rpcs > 0) {
        c->busy_at = now;
        return true;
    }
    smt_conn_close(c, now, 0, true);
    return false;
}

void smt_conn_rest_later(struct smt_conn *c, uint64_t now)
{
    if (c->rest_at != SMT_NEVER)
        return;
    c->rest_at = now + rest_delay;
    smt_conn_arm(c, now);
}

static void rest(struct smt_conn *c, uint64_t now)
{
    if (c->n_rpcs > 0 || now < c->heard + rest_delay) {
        c->rest_at = now + rest_delay;
        return;
    }
    c->rest_at = SMT_NEVER;
    smt_keys_rest(&c->keys);
    smt_pacer_rest(c);
    smt_bufpool_rest(&c->e->bufs);
    smt_bursts_forget(&c->e->bursts, c->slot);
}

/* The answer may be as late as any was, or as the handshake was when none was measured. */
static void doubt_ask(struct smt_conn *c, uint64_t now)
{
    uint64_t rtt = c->pacer.rtt_peak > 0 ? c->pacer.rtt_peak : c->up_at - c->opened_at;
    c->doubt_at = now + (2 * rtt > doubt_wait ? 2 * rtt : doubt_wait);
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_PING});
}

void smt_conn_doubt(struct smt_conn *c, uint64_t now)
{
    if (c->doubt_at != SMT_NEVER || c->state == SMT_CONN_CLOSED)
        return;
    c->doubt_since = now;
    c->n_doubts = 0;
    doubt_ask(c, now);
    smt_conn_arm(c, now);
}

static void doubt_tick(struct smt_conn *c, uint64_t now)
{
    if (now < c->doubt_at)
        return;
    c->doubt_at = SMT_NEVER;
    if (c->heard >= c->doubt_since)
        return;
    if (++c->n_doubts < MAX_DOUBTS)
        doubt_ask(c, now);
    else
        smt_evlink_raise(&c->e->events, &c->ev, SMT_EE_NO_SESSION);
}

void smt_conn_timer_fired(struct smt_conn *c, uint64_t now)
{
    if (!handshake_tick(c, now) || !idle_tick(c, now))
        return;
    if (now >= c->tell_at) {
        c->tell_at = SMT_NEVER;
        if (c->finished.untold) {
            c->finished.untold = false;
            smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_DONE,
                                               .low_water = c->finished.low_water,
                                               .bitmap = c->finished.done});
        }
    }
    smt_acks_tick(c, now);
    doubt_tick(c, now);
    if (now >= c->credit_at) {
        /* A CREDIT may have been lost: the answer to a PING brings another. */
        smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_PING});
        if (c->n_quiet < 5)
            c->n_quiet++;
        c->credit_at = now + (credit_wait << c->n_quiet);
    }
    smt_pacer_tick(c, now);
    smt_mtu_tick(c, now);
    smt_moved_tick(c, now);
    smt_keys_age(&c->keys, now);
    if (now >= c->rest_at)
        rest(c, now);
    smt_conn_arm(c, now);
}

/* ---- calls of engine.h ---- */

int smt_conn_open(struct smt_engine *e, uint64_t now, const struct smt_addr *to,
                  struct smt_conn **out)
{
    e->now = now;
    if (smt_pool_n_live(&e->conns) >= e->config.max_conns)
        return SMT_ENOMEM;
    int rc = smt_conn_new(e, now, to, true, out);
    if (rc == 0)
        e->stats.conns_opened++;
    return rc;
}

uint64_t smt_conn_id(const struct smt_conn *c)
{
    return c->id;
}

uint64_t smt_conn_peer_id(const struct smt_conn *c)
{
    return c->peer_id;
}

const struct smt_addr *smt_conn_addr(const struct smt_conn *c)
{
    return &c->addr;
}

bool smt_conn_is_initiator(const struct smt_conn *c)
{
    return c->initiator;
}

bool smt_conn_is_reflected(const struct smt_conn *c)
{
    const struct smt_conn *own = c->initiator ? NULL : smt_conn_find(c->e, c->peer_id);
    return own != NULL && own->initiator;
}

void smt_conn_set_user(struct smt_conn *c, void *user)
{
    c->user = user;
}

void *smt_conn_user(const struct smt_conn *c)
{
    return c->user;
}

void smt_conn_params(const struct smt_conn *c, struct smt_params *out)
{
    const struct smt_engine_config *g = &c->e->config;
    smt_params_init(out);
    out->session_id = c->id;
    out->versions[0] = SMT_WIRE_VERSION;
    out->n_versions = 1;
    out->mtu = (uint16_t)(g->mtu > 0 && g->mtu < UINT16_MAX ? g->mtu : UINT16_MAX);
    out->open_rpcs = g->max_open_rpcs;
    out->unfinished_bytes = g->max_conn_bytes;
    out->max_message = g->max_msg_len;
    out->rx_window = g->rx_window;
    out->unsched = g->tune.unsched_most;
    out->idle_timeout_ms = (uint32_t)(g->idle_timeout / SMT_MSEC);
    out->carriages = g->carriages;
    if (g->bursts)
        out->record_forms |= SMT_FORM_BURST;
    if (g->slices)
        out->record_forms |= SMT_FORM_SLICES;
}

int smt_conn_hs_send(struct smt_conn *c, const uint8_t *bytes, size_t len)
{
    if (c->hs == NULL)
        return SMT_ESTATE;
    int rc = smt_hs_stream_write(c->hs, bytes, len);
    if (rc == 0)
        smt_engine_hs_ready(c);
    return rc;
}

void smt_conn_hs_token(struct smt_conn *c, const uint8_t token[32])
{
    if (c->hs != NULL)
        smt_hs_stream_token(c->hs, token);
}

size_t smt_conn_hs_peek(struct smt_conn *c, const uint8_t **p)
{
    if (c->hs == NULL || c->state == SMT_CONN_CLOSED)
        return 0;
    return smt_hs_stream_ready(c->hs, p);
}

void smt_conn_hs_consume(struct smt_conn *c, size_t len)
{
    if (c->hs != NULL && c->state != SMT_CONN_CLOSED)
        c->hs->in_taken += (uint32_t)len;
}

bool smt_conn_hs_is_over(const struct smt_conn *c)
{
    return c->hs == NULL;
}

void smt_conn_hs_keep(struct smt_conn *c, uint64_t now)
{
    if (c->hs != NULL)
        c->hs->tail_until = now + tail_time;
}

void smt_conn_hs_end(struct smt_conn *c, uint64_t now)
{
    if (c->hs == NULL || c->hs->tail_until == 0)
        return;
    c->hs->tail_until = now;
    smt_conn_arm(c, now);
}

int smt_conn_install(struct smt_conn *c, uint64_t now, const struct smt_aead *aead,
                     const uint8_t secret[SMT_SECRET_LEN], const struct smt_params *peer)
{
    struct smt_engine *e = c->e;
    if (c->state != SMT_CONN_AWAIT_KEYS || peer->session_id == 0)
        return SMT_ESTATE;
    if (c->peer_id != 0 && c->peer_id != peer->session_id)
        return SMT_EPROTO;
    struct smt_keys_env *env = smt_engine_keys_env(e, aead);
    if (env == NULL)
        return SMT_ENOMEM;
    int rc = smt_keys_install(&c->keys, env, secret, c->initiator);
    if (rc < 0)
        return rc;
    e->now = now;
    c->peer_id = peer->session_id;
    c->peer_open = peer->open_rpcs;
    c->peer_bytes = peer->unfinished_bytes;
    c->peer_max_message = peer->max_message < SMT_MAX_MESSAGE ? peer->max_message : SMT_MAX_MESSAGE;
    c->unsched_limit = peer->unsched;
    c->peer_mtu = peer->mtu > SMT_BASE_PACKET ? peer->mtu : SMT_BASE_PACKET;
    c->may_burst = (peer->record_forms & SMT_FORM_BURST) != 0 && smt_addr_is_ipv4(&c->addr);
    c->may_slice = (peer->record_forms & SMT_FORM_SLICES) != 0;
    smt_pacer_start(&c->pacer, peer->rx_window);
    c->heard = now;
    c->contest_at = SMT_NEVER;
    smt_conn_set_state(c, c->initiator || smt_early_is_on(c) ? SMT_CONN_AWAIT_CONFIRM
                                                             : SMT_CONN_UP);
    smt_early_over(c);
    c->rest_at = now + rest_delay;
    c->up_at = now;
    if (!c->initiator) {
        smt_evlink_raise(&e->events, &c->ev, SMT_EE_UP);
        credit_send(c);
    } else {
        /* The responder's first CTRL may be lost, and he does not know: ask until something
         * authentic comes. */
        c->n_quiet = 0;
        c->credit_at = now + credit_wait;
    }
    smt_engine_hs_ready(c);
    SMT_LIST_FOREACH_SAFE(l, tmp, &c->rpcs)
        smt_rpc_arm(SMT_CONTAINER_OF(l, struct smt_rpc, conn_link), now);
    smt_conn_unblock(c);
    smt_conn_arm(c, now);
    smt_early_replay(c, now);
    return 0;
}

void smt_conn_confirm(struct smt_conn *c, uint64_t now)
{
    if (c->state == SMT_CONN_AWAIT_CONFIRM && is_early_responder(c)) {
        smt_conn_set_state(c, SMT_CONN_UP);
        c->up_at = now;
    }
    smt_conn_early_end(c, now);
}

void smt_conn_early_end(struct smt_conn *c, uint64_t now)
{
    if (c->hs == NULL)
        return;
    smt_early_fini(&c->hs->early);
    smt_conn_arm(c, now);
}

void smt_conn_close(struct smt_conn *c, uint64_t now, int error, bool tell)
{
    struct smt_engine *e = c->e;
    if (c->state == SMT_CONN_CLOSED)
        return;
    e->now = now;
    if (error < 0)
        e->stats.conns_lost++;
    if (tell && smt_keys_ready(&c->keys)) {
        smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_CLOSE, .code = (uint16_t)-error});
        if (now - e->farewell_at >= SMT_MSEC) {
            e->farewell_at = now;
            e->n_farewells = 0;
        }
        /* Of many at once each goes once: three of each are more than the peer can buffer. */
        c->n_farewells = e->n_farewells++ < REPEATED_FAREWELLS ? 2 : 0;
    } else {
        smt_ctl_fini(c);
    }
    c->error = error;
    smt_nic_fini(c);
    /* Unwind from the rpcs: each tells its own end before DOWN does. */
    SMT_LIST_FOREACH_SAFE(l, tmp, &c->rpcs)
        smt_rpc_orphan(SMT_CONTAINER_OF(l, struct smt_rpc, conn_link),
                       error == 0 ? SMT_ECLOSED : error);
    smt_evlink_drop_some(&c->ev, 1u << SMT_EE_HS_ACCEPT | 1u << SMT_EE_HS_DATA |
                                     1u << SMT_EE_NO_SESSION | 1u << SMT_EE_WRITABLE);
    smt_evlink_raise(&e->events, &c->ev, SMT_EE_DOWN);
    unlink_wire(c);
    smt_acks_drop(c);
    smt_conn_set_state(c, SMT_CONN_CLOSED);
    if (!tell) {
        smt_list_remove(&c->hs_link);
    } else if (c->hs != NULL && !smt_keys_ready(&c->keys) && smt_hs_stream_is_due(c->hs, now)) {
        smt_engine_hs_ready(c); /* an alert goes out once */
    }
    smt_list_remove(&c->all_link);
    smt_list_push_tail(&e->dead, &c->all_link);
    smt_list_remove(&c->sender_link);
}

int smt_conn_rekey(struct smt_conn *c)
{
    if (!smt_keys_ready(&c->keys) || c->state == SMT_CONN_CLOSED)
        return SMT_ESTATE;
    if (c->keys.env == NULL)
        return SMT_EUNSUPPORTED;
    c->keys.want_next = true;
    /* Something must leave under the next keys for the peer to follow. */
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_PING});
    return 0;
}

void smt_conn_stats(const struct smt_conn *c, struct smt_conn_stats *out)
{
    *out = (struct smt_conn_stats){
        .epoch = smt_keys_ready(&c->keys) ? c->keys.now.number : 0,
        .mtu = c->mtu.now,
        .open_calls = c->open_calls,
        .rtt_min = smt_rtt_least(&c->path),
        .rtt_last = c->pacer.rtt_last,
        .handshake_ns = c->up_at > c->opened_at ? c->up_at - c->opened_at : 0,
        .max_rate = c->path.rate,
        .no_nic = smt_nic_why_not(c),
        .up = c->state == SMT_CONN_UP,
    };
}

bool smt_conn_is_quiet(const struct smt_conn *c)
{
    if (c->state == SMT_CONN_CLOSED)
        return true;
    if (c->open_calls > 0 || smt_ctl_is_waiting(&c->ctl) || c->acks.n > 0 || c->finished.untold)
        return false;
    SMT_LIST_FOREACH_SAFE(l, tmp, &c->rpcs) {
        const struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, conn_link);
        if (r->state == SMT_RPC_AWAIT_ACK)
            return false;
    }
    return true;
}

bool smt_conn_is_still(const struct smt_conn *c)
{
    if (!smt_conn_is_quiet(c))
        return false;
    SMT_LIST_FOREACH_SAFE(l, tmp, &c->rpcs)
        if (SMT_CONTAINER_OF(l, struct smt_rpc, conn_link)->state != SMT_RPC_AWAIT_USER)
            return false;
    return true;
}
