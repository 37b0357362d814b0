/* The engine's entry points: it hands packets to who understands them, time to the timers, and the
 * sink to who has something to send, in that order of urgency: answers to strangers, control,
 * handshakes and probes, then messages by SRPT. Everything else is in the files it calls. */
#include "core/engine.h"

#include "base/mem.h"
#include "core/frames.h"
#include "core/profile.h"
#include "core/rpc_life.h"
#include "core/slices.h"
#include "core/state.h"

enum {
    RUN_PACKETS = 44, /* of one message before the order is looked at again: a super-frame */
    RUN_LEN = 64000,  /* bytes of them, at most */
    FIRST_CONNS = 16,
    FIRST_RPCS = 256,
    RPC_CHAINS_BITS = 10,
    DEFAULT_KEYS = 512,
    MAX_RANGES = 4 << 20,
    CUTOFFS_PACKET = 1380, /* data bytes of a packet, for where priorities are cut */
};

/* However many messages come, between two looks at them. */
static const uint64_t cutoffs_pause = 200 * SMT_USEC;

void smt_engine_config_init(struct smt_engine_config *g)
{
    *g = (struct smt_engine_config){
        .carriages = SMT_CARRIAGE_UDP,
        .rx_window = 128 * 1024,
        .max_open_rpcs = 4096,
        .max_conn_bytes = 64ull << 20,
        .max_bytes = 1ull << 30,
        .accept_len = 16u << 20,
        .max_msg_len = SMT_MAX_MESSAGE,
        .max_conns = 100000,
        .peer_timeout = 2 * SMT_SEC,
        .handshake_timeout = 5 * SMT_SEC,
        .cached_keys = DEFAULT_KEYS,
    };
    smt_tune_init(&g->tune);
}

static int pools_init(struct smt_engine *e)
{
    const struct smt_engine_config *g = &e->config;
    int rc = smt_pool_init(&e->conns, sizeof(struct smt_conn), FIRST_CONNS, g->max_conns + 1024);
    if (rc == 0)
        rc = smt_pool_init(&e->rpcs, sizeof(struct smt_rpc), FIRST_RPCS, 1u << 24);
    if (rc == 0)
        rc = smt_pool_init(&e->iov_blocks, sizeof(struct smt_iov_block), 16, 1u << 24);
    if (rc == 0)
        rc = smt_pool_init(&e->ctl_bufs, sizeof(struct smt_ctl_buf), 16, 1u << 20);
    if (rc == 0)
        rc = smt_pool_init(&e->replays, sizeof(struct smt_replay), 16, g->max_conns * 2 + 1024);
    if (rc == 0)
        rc = smt_pool_init(&e->flights, sizeof(struct smt_pacer_flight), 16, g->max_conns + 1024);
    if (rc == 0)
        rc = smt_ranges_pool_init(&e->ranges, 256, MAX_RANGES);
    return rc;
}

static int maps_init(struct smt_engine *e)
{
    uint64_t seed[2];
    e->config.random(e->config.random_arg, seed, sizeof(seed));
    int rc = smt_map_init(&e->conn_map, seed, 64);
    if (rc == 0)
        rc = smt_map_init(&e->peer_map, seed, 64);
    if (rc == 0)
        rc = smt_chains_init(&e->rpc_index, seed, RPC_CHAINS_BITS);
    if (rc == 0)
        rc = smt_memory_init(&e->memory, seed, e->config.max_bytes);
    if (rc == 0 && (e->config.bursts || e->config.slices))
        rc = smt_bursts_init(&e->bursts, seed);
    return rc;
}

int smt_engine_new(const struct smt_engine_config *config, uint64_t now, struct smt_engine **out)
{
    assert(config->random != NULL);
    struct smt_engine *e = smt_mem_alloc(sizeof(*e));
    if (e == NULL)
        return SMT_ENOMEM;
    e->config = *config;
    if (config->profile == NULL)
        e->config.profile = &smt_profile_smt2;
    if (e->config.profile->no_handshake)
        e->config.slices = false; /* it would be agreed there */
    smt_tune_clamp(&e->config.tune);
    if (e->config.cached_keys < SMT_KEYRING_MIN_SLOTS)
        e->config.cached_keys = SMT_KEYRING_MIN_SLOTS;
    e->now = now;
    smt_prng_seed(&e->prng, config->seed);
    smt_wheel_init(&e->wheel, now);
    smt_bufpool_init(&e->bufs, 2 * config->max_bytes + (64u << 20), 64u << 20);
    struct smt_list *lists[] = {&e->events, &e->live, &e->dead, &e->over, &e->posted,
                                &e->ctl_ready, &e->acks_due, &e->hs_ready, &e->senders};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lists); i++)
        smt_list_init(lists[i]);
    smt_stateless_init(&e->stateless);
    smt_half_open_init(&e->half_open);
    smt_asks_init(&e->asks);
    smt_pace_init(&e->pace, e->config.tune.link_mbps, e->config.tune.pace_ns);
    smt_cutoffs_init(&e->cutoffs, e->config.tune.n_prios, e->config.tune.unsched_most);
    e->stateless.tokens_at = now;
    int rc = pools_init(e);
    if (rc == 0)
        rc = maps_init(e);
    if (rc == 0)
        rc = smt_srpt_init(&e->srpt, e->config.tune.send_fifo_permille);
    if (rc == 0)
        rc = smt_grants_init(&e->grants, &e->config);
    if (rc == 0) {
        e->scratch = smt_mem_alloc(SMT_RECORD_MAX_PLAIN);
        rc = e->scratch != NULL ? 0 : SMT_ENOMEM;
    }
    if (rc == 0)
        rc = e->config.profile->begin(e);
    if (rc < 0) {
        smt_engine_free(e);
        return rc;
    }
    *out = e;
    return 0;
}

static void list_free_conns(struct smt_list *conns)
{
    SMT_LIST_FOREACH_SAFE(l, tmp, conns) {
        struct smt_conn *c = SMT_CONTAINER_OF(l, struct smt_conn, all_link);
        SMT_LIST_FOREACH_SAFE(lr, tmpr, &c->rpcs) {
            struct smt_rpc *r = SMT_CONTAINER_OF(lr, struct smt_rpc, conn_link);
            r->holds_handle = false;
            r->holds_bytes = false;
            smt_evlink_drop(&r->ev);
            smt_rpc_retire(r);
        }
        smt_conn_free(c);
    }
}

void smt_engine_free(struct smt_engine *e)
{
    if (e == NULL)
        return;
    if (e->live.next != NULL) {
        list_free_conns(&e->live);
        list_free_conns(&e->dead);
        list_free_conns(&e->over);
        e->config.profile->end(e);
    }
    for (unsigned i = 0; i < SMT_ENGINE_MAX_CIPHERS; i++)
        smt_keys_env_fini(&e->keys_envs[i]);
    if (e->bursts.is_on)
        smt_bursts_fini(&e->bursts);
    smt_mem_free(e->scratch);
    smt_grants_fini(&e->grants);
    smt_srpt_fini(&e->srpt);
    smt_memory_fini(&e->memory);
    smt_chains_fini(&e->rpc_index);
    smt_map_fini(&e->peer_map);
    smt_map_fini(&e->conn_map);
    smt_ranges_pool_fini(&e->ranges);
    struct smt_pool *pools[] = {&e->flights,    &e->replays, &e->ctl_bufs,
                                &e->iov_blocks, &e->rpcs,    &e->conns};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(pools); i++)
        smt_pool_fini(pools[i]);
    smt_bufpool_fini(&e->bufs);
    smt_wipe(e, sizeof(*e));
    smt_mem_free(e);
}

struct smt_keys_env *smt_engine_keys_env(struct smt_engine *e, const struct smt_aead *aead)
{
    for (unsigned i = 0; i < SMT_ENGINE_MAX_CIPHERS; i++) {
        struct smt_keys_env *env = &e->keys_envs[i];
        if (env->aead == NULL && smt_keys_env_init(env, aead, &e->replays, e->config.cached_keys,
                                                   e->config.rekey_records) < 0)
            return NULL;
        if (env->aead == aead)
            return env;
    }
    return NULL;
}

uint64_t smt_engine_addr_hash(const struct smt_addr *a)
{
    uint64_t w[3];
    memcpy(w, a, sizeof(w));
    return w[0] * 0x9e3779b97f4a7c15ull ^ (w[1] + w[2] * 0xc2b2ae3d27d4eb4full);
}

void smt_engine_hs_ready(struct smt_conn *c)
{
    if (smt_list_is_empty(&c->hs_link))
        smt_list_push_tail(&c->e->hs_ready, &c->hs_link);
}

/* What was posted since the last call with a time takes its place in the order of sending. */
static __attribute__((noinline)) void posted_queue(struct smt_engine *e, uint64_t now)
{
    struct smt_list *l;
    while ((l = smt_list_pop_head(&e->posted)) != NULL) {
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, wait_link);
        smt_rpc_begin(r, now);
        smt_rpc_ready(r);
    }
}

SMT_INLINE void posted_take(struct smt_engine *e, uint64_t now)
{
    if (SMT_UNLIKELY(!smt_list_is_empty(&e->posted)))
        posted_queue(e, now);
    e->posted_len = 0;
    e->posted_mixed = false;
}

static void reap(struct smt_engine *e)
{
    SMT_LIST_FOREACH_SAFE(l, tmp, &e->over)
        smt_conn_free(SMT_CONTAINER_OF(l, struct smt_conn, all_link));
}

static __attribute__((noinline)) void enter_due(struct smt_engine *e)
{
    reap(e);
    if (e->memory.due)
        smt_memory_run(e);
}

SMT_INLINE void enter(struct smt_engine *e, uint64_t now)
{
    assert(now >= e->now);
    e->now = now;
    if (SMT_UNLIKELY(!smt_list_is_empty(&e->over) || e->memory.due))
        enter_due(e);
    smt_pace_look(&e->pace, now);
}

/* ---- in ---- */

/* What a batch of packets says of the traffic. */
static inline void traffic_look(struct smt_engine *e, uint64_t bytes, unsigned n)
{
    const struct smt_tune *t = &e->config.tune;
    e->total_bytes += bytes;
    if (SMT_UNLIKELY(e->total_bytes >= SMT_PATH_TOTAL_STEP))
        smt_path_total(e, e->now);
    if (n > 1 || e->grants.batch > 0)
        smt_grants_batch(&e->grants, n, bytes);
    if (SMT_LIKELY(!smt_cutoffs_is_due(&e->cutoffs)) ||
        e->now < e->cutoffs_looked_at + cutoffs_pause)
        return;
    e->cutoffs_looked_at = e->now;
    uint64_t unsched = smt_path_unsched_of(t, e->fill);
    uint64_t tail = smt_path_tail_of(t, e->fill);
    if (unsched > e->cutoffs.limit)
        unsched = e->cutoffs.limit;
    if (smt_cutoffs_look(&e->cutoffs, t->n_prios, (uint32_t)unsched, (uint32_t)tail,
                         CUTOFFS_PACKET, t->cutoffs_drift_pct, t->cutoffs_every)) {
        e->stats.cutoffs_moved++;
        smt_frames_cutoffs_tell_all(e, e->now);
    }
}

void smt_engine_idle(struct smt_engine *e, uint64_t now)
{
    e->idle_at = now;
}

void smt_engine_rx(struct smt_engine *e, uint64_t now, const struct smt_pkt *pkts, unsigned n)
{
    enter(e, now);
    posted_take(e, now);
    uint64_t before = e->stats.bytes_rcvd;
    const struct smt_profile *p = e->config.profile;
    for (unsigned i = 0; i < n;) {
        if (p->receive_usual != NULL)
            i += p->receive_usual(e, now, &pkts[i], n - i);
        if (i == n)
            break;
        e->stats.bytes_rcvd += pkts[i].len;
        i += p->receive(e, now, &pkts[i], n - i);
    }
    traffic_look(e, e->stats.bytes_rcvd - before, n);
    smt_grants_run(e);
}

unsigned smt_engine_rx_wants(const struct smt_engine *e, const struct smt_pkt *pkt)
{
    return e->config.slices ? smt_slices_behind(pkt) : 0;
}

void smt_engine_tick(struct smt_engine *e, uint64_t now)
{
    enter(e, now);
    posted_take(e, now);
    struct smt_timer *t;
    while ((t = smt_wheel_pop(&e->wheel, now)) != NULL) {
        struct smt_owned_timer *owned = SMT_CONTAINER_OF(t, struct smt_owned_timer, t);
        if (owned->owner == SMT_EV_OF_CONN)
            smt_conn_timer_fired(SMT_CONTAINER_OF(owned, struct smt_conn, timer), now);
        else
            smt_rpc_timer_fired(SMT_CONTAINER_OF(owned, struct smt_rpc, timer), now);
    }
    smt_grants_run(e);
}

uint64_t smt_engine_deadline(const struct smt_engine *e)
{
    if (!smt_list_is_empty(&e->posted) || e->memory.due)
        return e->now;
    uint64_t wheel = smt_wheel_next(&e->wheel), pace = smt_pace_deadline(&e->pace);
    return pace < wheel ? pace : wheel;
}

/* ---- out ---- */

/* Does the first message in order wait for the device's queue? */
static bool is_paced(const struct smt_engine *e)
{
    return e->pace.is_held && smt_srpt_first(&e->srpt)->tx.len > SMT_SRPT_SHORT_LEN;
}

bool smt_engine_tx_pending(const struct smt_engine *e)
{
    return (!smt_srpt_is_empty(&e->srpt) && !is_paced(e)) || !smt_list_is_empty(&e->posted) ||
           !smt_list_is_empty(&e->ctl_ready) || !smt_list_is_empty(&e->acks_due) ||
           !smt_list_is_empty(&e->hs_ready) ||
           e->stateless.n > 0 || e->memory.due;
}

static bool tx_ctl(struct smt_engine *e, const struct smt_tx_sink *sink)
{
    struct smt_list *l;
    while ((l = smt_list_first(&e->ctl_ready)) != NULL) {
        struct smt_conn *c = SMT_CONTAINER_OF(l, struct smt_conn, ctl.link);
        if (!smt_ctl_send(c, sink))
            return false;
        smt_conn_try_end(c);
    }
    return true;
}

static bool tx_hs(struct smt_engine *e, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_list *l;
    while ((l = smt_list_first(&e->hs_ready)) != NULL) {
        struct smt_conn *c = SMT_CONTAINER_OF(l, struct smt_conn, hs_link);
        if (c->hs != NULL && (!smt_hs_stream_send(c, now, sink) || !smt_early_send(c, now, sink)))
            return false;
        if (!smt_moved_send(c, now, sink))
            return false;
        if (smt_keys_ready(&c->keys) && smt_mtu_is_due(&c->mtu) && !smt_mtu_send(c, now, sink))
            return false;
        smt_list_remove(&c->hs_link);
        smt_conn_try_end(c);
    }
    return true;
}

/* How much of a message leaves before the order is looked at again: what may be sent of it, in
 * equal parts. */
static uint32_t run_len(const struct smt_msg_tx *t)
{
    uint32_t len = t->granted - t->sent + (uint32_t)smt_ranges_len(&t->lost);
    return len / (len / RUN_LEN + 1);
}

/* Packets of one message as one run. */
static enum smt_sent run_send(struct smt_engine *e, struct smt_rpc *r, uint64_t now,
                              const struct smt_tx_sink *sink)
{
    const struct smt_stats *st = &e->stats;
    uint64_t packets = st->packets_sent_data, bytes = st->bytes_sent;
    uint32_t left = smt_msg_tx_left(&r->tx), most = run_len(&r->tx);
    enum smt_sent sent;
    r->tx.run_prio = UINT8_MAX;
    do {
        sent = e->config.profile->send(r, now, sink);
    } while (sent == SMT_SENT_ONE && smt_msg_tx_sendable(&r->tx) &&
             left - smt_msg_tx_left(&r->tx) < most &&
             st->packets_sent_data - packets < RUN_PACKETS);
    packets = st->packets_sent_data - packets;
    if (packets > 1 || e->tx_batch > 0)
        e->tx_batch = smt_path_batch(e->tx_batch, (uint32_t)packets, st->bytes_sent - bytes);
    return sent;
}

/* Whoever receives a long message works on its first part while we write the next: so a run that
 * is not the last of its message leaves at once, as if the sink were full. (64 KB left as a whole,
 * and both sides waited for each other: p50 of the round trip 92 us in place of 70, of 1 MB 1,010
 * in place of 670. Shorter runs cost more than they gain. 64 in place of 44 KB at most changed
 * nothing at 64 KB, which is two runs either way, and made 1 MB 1.1 times as fast.) */
static bool tx_data(struct smt_engine *e, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_rpc *r;
    while ((r = smt_srpt_first(&e->srpt)) != NULL) {
        struct smt_conn *c = r->conn;
        enum smt_sent sent;
        bool is_paced_link = SMT_UNLIKELY(e->pace.ps_per_byte > 0);
        if (is_paced_link) {
            smt_pace_sent(&e->pace, now, e->stats.bytes_sent, e->stats.packets_sent_data);
            if (smt_pace_holds(&e->pace, now) && is_paced(e))
                return true;
            r->tx.run_prio = UINT8_MAX;
            sent = e->config.profile->send(r, now, sink);
        } else {
            sent = run_send(e, r, now, sink);
        }
        if (SMT_LIKELY(sent == SMT_SENT_ALL ||
                       (sent == SMT_SENT_ONE && !smt_msg_tx_sendable(&r->tx))))
            sent = SMT_SENT_NOTHING;
        if (sent == SMT_SENT_ONE || sent == SMT_SENT_FULL) {
            if (smt_srpt_put(&e->srpt, r) < 0)
                e->stats.drop_no_memory++;
            if (sent == SMT_SENT_FULL || !is_paced_link)
                return false;
            continue;
        }
        /* A failed rpc has left the queue already and may be gone. */
        if (sent == SMT_SENT_FAILED)
            continue;
        smt_srpt_remove(&e->srpt, r);
        if (sent == SMT_SENT_BLOCKED) {
            smt_list_push_tail(&c->blocked, &r->wait_link);
            smt_conn_arm(c, now);
        }
    }
    return true;
}

/* Messages that were posted in the order in which they would be sent, with nothing before them,
 * leave in that order without being queued: nearly all of them do, and are one packet, or the
 * packets of a record or two. What is different takes its place in the queue, and all behind it;
 * so does the rest of a message of several runs, when the first has left (tx_data). */
static bool tx_posted(struct smt_engine *e, uint64_t now, const struct smt_tx_sink *sink)
{
    const struct smt_profile *p = e->config.profile;
    while (!smt_list_is_empty(&e->posted)) {
        if (p->send_posted != NULL && p->send_posted(e, now, sink) == SMT_SENT_FULL) {
            posted_take(e, now);
            return false;
        }
        struct smt_list *l = smt_list_first(&e->posted);
        if (l == NULL)
            break;
        struct smt_rpc *r = SMT_CONTAINER_OF(l, struct smt_rpc, wait_link);
        struct smt_conn *c = r->conn;
        bool is_long = r->tx.len > SMT_SRPT_SHORT_LEN;
        if (SMT_UNLIKELY((is_long && !c->may_slice) || !smt_keys_ready(&c->keys)))
            break;
        smt_list_remove(l);
        smt_rpc_begin(r, now);
        enum smt_sent sent = is_long ? run_send(e, r, now, sink) : p->send(r, now, sink);
        if (SMT_LIKELY(sent == SMT_SENT_ALL ||
                       (sent == SMT_SENT_ONE && !smt_msg_tx_sendable(&r->tx))))
            continue;
        if (sent == SMT_SENT_FAILED || sent == SMT_SENT_NOTHING)
            continue;
        if (sent == SMT_SENT_BLOCKED) {
            smt_list_push_tail(&c->blocked, &r->wait_link);
            smt_conn_arm(c, now);
            continue;
        }
        smt_rpc_ready(r);
        posted_take(e, now);
        return sent != SMT_SENT_FULL && !is_long;
    }
    posted_take(e, now);
    return true;
}

/* May what was posted leave as it is, without a look at the order? */
SMT_INLINE bool is_posted_in_order(const struct smt_engine *e)
{
    return !e->posted_mixed && e->pace.ps_per_byte == 0 && smt_srpt_is_empty(&e->srpt);
}

/* Counts what the parts send through the caller's sink. */
unsigned smt_engine_tx(struct smt_engine *e, uint64_t now, const struct smt_tx_sink *sink)
{
    enter(e, now);
    if (!is_posted_in_order(e))
        posted_take(e, now);
    const struct smt_stats *st = &e->stats;
    uint64_t before = st->packets_sent_data + st->packets_sent_ctrl + st->packets_sent_handshake +
                      st->retries_sent + st->no_session_sent + st->versions_sent;
    if (e->stateless.n == 0 || e->config.profile->answers_send(e, sink)) {
        /* MARKs arise while data leave, so control goes once more behind them. */
        if (tx_ctl(e, sink) && tx_hs(e, now, sink) && tx_posted(e, now, sink) &&
            tx_data(e, now, sink) && tx_ctl(e, sink) && !smt_list_is_empty(&e->acks_due))
            (void)smt_acks_send(e, sink);
    }
    posted_take(e, now);
    return (unsigned)(st->packets_sent_data + st->packets_sent_ctrl + st->packets_sent_handshake +
                      st->retries_sent + st->no_session_sent + st->versions_sent - before);
}

/* ---- events ---- */

static void conn_event(struct smt_conn *c, unsigned type, struct smt_engine_event *out)
{
    *out = (struct smt_engine_event){.type = (enum smt_engine_event_type)type, .conn = c};
    if (type == SMT_EE_DOWN) {
        out->error = c->error;
        c->down_taken = true;
        smt_conn_try_end(c);
    }
}

static void rpc_event(struct smt_rpc *r, unsigned type, struct smt_engine_event *out)
{
    bool server = smt_rpc_is_server(r);
    *out = (struct smt_engine_event){.type = (enum smt_engine_event_type)type,
                                     .conn = r->conn,
                                     .rpc = r,
                                     .id = server ? 0 : r->id,
                                     .user = server ? r->reply_user : r->user,
                                     .data = r->rx.data,
                                     .len = r->rx.len,
                                     .mark = r->mark};
    if (SMT_LIKELY(type == SMT_EE_REQUEST))
        return;
    switch (type) {
    case SMT_EE_INCOMING:
        out->of = !server ? SMT_EE_RESPONSE : r->one_way ? SMT_EE_MESSAGE : SMT_EE_REQUEST;
        out->data = NULL;
        break;
    case SMT_EE_RESPONSE:
        if (!r->holds_bytes)
            out->rpc = NULL;
        break;
    case SMT_EE_FAILED:
        out->error = r->error;
        out->idempotent = r->idempotent;
        out->rpc = NULL;
        /* A buffer lent to accept comes back here, and nothing else would say which. */
        out->data = server && !r->rx.whole ? r->resp_buf : NULL;
        break;
    case SMT_EE_SENT:
        out->rpc = NULL;
        out->data = NULL;
        break;
    default:
        break;
    }
}

void smt_engine_refused(struct smt_engine *e, uint64_t now, const struct smt_addr *to, int error)
{
    if (smt_engine_has_handshake(e))
        return;
    SMT_LIST_FOREACH_SAFE(l, tmp, &e->live) {
        struct smt_conn *c = SMT_CONTAINER_OF(l, struct smt_conn, all_link);
        bool same_host = memcmp(c->addr.ip, to->ip, sizeof(to->ip)) == 0;
        if (same_host && (to->port == 0 || to->port == c->addr.port))
            smt_conn_close(c, now, error, false);
    }
}

bool smt_engine_has_handshake(const struct smt_engine *e)
{
    return !e->config.profile->no_handshake;
}

bool smt_engine_has_event(const struct smt_engine *e)
{
    return !smt_list_is_empty(&e->events);
}

bool smt_engine_next_event(struct smt_engine *e, struct smt_engine_event *out)
{
    struct smt_list *l = e->events.next;
    if (l == &e->events)
        return false;
    struct smt_evlink *ev = SMT_CONTAINER_OF(l, struct smt_evlink, link);
    unsigned type = smt_evlink_take(&e->events, ev);
    if (ev->owner == SMT_EV_OF_CONN) {
        conn_event(SMT_CONTAINER_OF(ev, struct smt_conn, ev), type, out);
    } else {
        struct smt_rpc *r = SMT_CONTAINER_OF(ev, struct smt_rpc, ev);
        rpc_event(r, type, out);
        smt_rpc_try_free(r);
    }
    return true;
}

/* ---- looking inside ---- */

unsigned smt_engine_counters(const struct smt_engine *e, struct smt_engine_counter *out, unsigned n)
{
    static const char *const names[] = {
#define SMT_STATS_NAME(name) #name,
        SMT_STATS_TABLE(SMT_STATS_NAME)
#undef SMT_STATS_NAME
    };
    const struct smt_stats *s = &e->stats;
    const uint64_t values[] = {
#define SMT_STATS_VALUE(name) s->name,
        SMT_STATS_TABLE(SMT_STATS_VALUE)
#undef SMT_STATS_VALUE
    };
    for (unsigned i = 0; i < n && i < SMT_ARRAY_LEN(names); i++)
        out[i] = (struct smt_engine_counter){names[i], values[i]};
    return SMT_ARRAY_LEN(names);
}

bool smt_engine_is_at_rest(const struct smt_engine *e)
{
    if (smt_pool_n_live(&e->rpcs) > 0 || smt_pool_n_live(&e->iov_blocks) > 0 ||
        smt_pool_n_live(&e->ctl_bufs) > 0 || smt_bufpool_live(&e->bufs) > 0 ||
        e->memory.held > 0 || smt_memory_is_short(&e->memory) || !smt_srpt_is_empty(&e->srpt) ||
        !smt_list_is_empty(&e->grants.book.old) || e->grants.incoming > 0)
        return false;
    return smt_list_is_empty(&e->posted) && smt_list_is_empty(&e->dead) &&
           smt_list_is_empty(&e->over) &&
           smt_list_is_empty(&e->events);
}

uint64_t smt_engine_memory(const struct smt_engine *e)
{
    return smt_bufpool_mapped(&e->bufs) +
           (uint64_t)smt_pool_n_total(&e->rpcs) * sizeof(struct smt_rpc) +
           (uint64_t)smt_pool_n_total(&e->conns) * sizeof(struct smt_conn);
}
