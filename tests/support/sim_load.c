/* The applications of sim_load.h. Every promise of engine.h that an application can see is checked
 * where it shows: final events once and with the right user and id, bytes, lengths, lifetimes. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fast_hash.h"
#include "sim_load.h"
#include "sim_state.h"

enum { TAG_LEN = 8, MAX_ACCEPTED = 4096, MAX_PIECES = 5 };

static const uint64_t RESPONSE_KEY = 0x5265737000000000;
static const uint64_t TINY_KEY = 0x54696e7900000000;
static const uint64_t DEADLINE_SLACK = 5 * SMT_MSEC;

struct late_accept;

struct sim_call {
    struct sim_load *load;
    struct late_accept *late; /* its response waits to be accepted */
    uint8_t *buf, *resp_buf;
    uint64_t id, tag;
    uint64_t posted_at, deadline;
    uint32_t len, resp_len;
    uint32_t live_pos; /* place in load->live */
    uint8_t executed, finals;
    bool one_way, rejected, cancelled, posted;
    int error;
};

struct sim_load {
    struct sim_app *app;
    struct sim_host *client, *server;
    struct smt_conn *conn;
    struct smt_conn *fresh; /* will replace conn once it is up */
    struct sim_load_config config;
    struct sim_call *calls;
    struct sim_call **live; /* in flight */
    uint32_t next, n_live, n_done;
    uint32_t number;
    bool blocked; /* EAGAIN, waits for WRITABLE */
    bool pumping;
};

/* A reply whose bytes are lent. */
struct reply {
    struct sim_host *host;
    unsigned life;
    uint8_t *buf;
    uint32_t len;
    struct reply *next, **link;
};

struct accepted {
    struct sim_host *host;
    struct smt_rpc *rpc;
    struct sim_call *call; /* of a response */
    uint8_t *buf;
};

struct sim_app {
    struct simnet *net;
    struct sim_load *loads[SIM_MAX_LOADS];
    uint32_t n_loads;
    struct smt_prng rng;
    struct sim_app_stats stats;
    struct reply *replies;
    struct accepted accepted[MAX_ACCEPTED];
    uint32_t n_accepted;
    enum sim_incoming incoming;
    uint64_t late_ns;
    uint64_t tiny_posted[TAG_LEN], tiny_executed[TAG_LEN];
    bool mutate, may_fail;
    uint64_t last_timer;
    sim_event_fn *watch;
    void *watch_arg;
};

/* ---- contents ---- */

static inline uint64_t content_word(uint64_t key, uint64_t i)
{
    uint64_t w = (key + i) * 0x9e3779b97f4a7c15;
    return w ^ w >> 29;
}

static void content_fill(uint8_t *p, size_t len, uint64_t key)
{
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        uint64_t w = content_word(key, i);
        memcpy(p + i, &w, 8);
    }
    uint64_t w = content_word(key, i);
    memcpy(p + i, &w, len - i);
}

/* Where the bytes first differ; len when they do not. */
static size_t content_differs(const uint8_t *p, size_t len, uint64_t key)
{
    size_t i = 0;
    for (; i + 8 <= len; i += 8) {
        if (fast_word(p + i) != content_word(key, i))
            break;
    }
    for (; i < len; i++) {
        uint64_t w = content_word(key, i & ~(size_t)7);
        if (p[i] != (uint8_t)(w >> 8 * (i & 7)))
            return i;
    }
    return len;
}

static void check_content(struct sim_app *app, const uint8_t *p, size_t len, uint64_t key,
                          const char *what)
{
    app->stats.bytes += len;
    if (app->mutate)
        return;
    size_t at = content_differs(p, len, key);
    SIM_CHECK(app->net, at == len, "%s of %zu bytes differs at %zu", what, len, at);
}

/* 0 … max, each power of two as likely as the others. */
static uint32_t log_uniform(struct smt_prng *rng, uint32_t max)
{
    if (max == 0)
        return 0;
    unsigned bits = 31 - (unsigned)__builtin_clz(max);
    uint32_t base = 1u << smt_prng_below(rng, bits + 1);
    uint32_t len = base - 1 + (uint32_t)smt_prng_below(rng, base);
    return len < max ? len : max;
}

static bool percent(struct sim_app *app, unsigned p)
{
    return p > 0 && smt_prng_below(&app->rng, 100) < p;
}

static uint32_t tiny_resp_len(uint32_t len)
{
    return len * 611 % 2000;
}

/* ---- clients ---- */

/* A timer whose argument frees itself: the run goes on until all have fired. */
static void app_at(struct sim_app *app, uint64_t when, sim_timer_fn *fn, void *arg)
{
    if (when > app->last_timer)
        app->last_timer = when;
    simnet_at(app->net, when, fn, arg);
}

static void pump(struct sim_load *load);
static void announced_forget(struct sim_call *call);

static void call_plan(struct sim_load *load, struct sim_call *call)
{
    struct sim_app *app = load->app;
    const struct sim_load_config *c = &load->config;
    call->load = load;
    call->tag = (uint64_t)load->number << 32 | (uint64_t)(call - load->calls);
    call->len = log_uniform(&app->rng, c->max_len);
    call->resp_len = log_uniform(&app->rng, c->max_resp);
    if (percent(app, 50)) {
        uint32_t len = call->len;
        call->len = call->resp_len;
        call->resp_len = len;
    }
    if (c->fixed_len > 0)
        call->len = c->fixed_len;
    if (call->len < c->min_len)
        call->len = c->min_len;
    if (call->resp_len < c->min_len)
        call->resp_len = c->min_len;
    call->one_way = percent(app, c->one_way);
    if (call->len < TAG_LEN)
        call->resp_len = tiny_resp_len(call->len);
    else
        call->rejected = !call->one_way && percent(app, c->reject);
}

struct cancel_timer {
    struct sim_call *call;
    unsigned life;
};

static void cancel_now(void *arg, struct simnet *net)
{
    struct cancel_timer *t = arg;
    struct sim_call *call = t->call;
    struct sim_load *load = call->load;
    bool same = load->client->engine != NULL && load->client->state->life == t->life;
    free(t);
    if (!same || load->conn == NULL || !call->posted || call->finals > 0)
        return;
    int err = smt_conn_cancel(load->conn, call->id);
    SIM_CHECK(net, err == 0 || err == SMT_EINVAL, "smt_conn_cancel: %d", err);
    if (err == 0)
        call->cancelled = true;
    int again = smt_conn_cancel(load->conn, call->id);
    SIM_CHECK(net, again == 0 || again == SMT_EINVAL, "smt_conn_cancel again: %d", again);
    simnet_poke(load->client);
}

static int call_post(struct sim_load *load, struct sim_call *call)
{
    struct sim_app *app = load->app;
    const struct sim_load_config *c = &load->config;
    struct smt_post_iov iov[MAX_PIECES];
    uint32_t at = 0;
    unsigned n = 0;
    unsigned pieces = call->len == 0 ? (unsigned)smt_prng_below(&app->rng, 2)
                                     : 1 + (unsigned)smt_prng_below(&app->rng, MAX_PIECES);
    for (; n < pieces; n++) {
        uint32_t left = call->len - at;
        uint32_t len = n + 1 == pieces ? left : (uint32_t)smt_prng_below(&app->rng, left + 1);
        iov[n] = (struct smt_post_iov){call->buf + at, len};
        at += len;
    }
    struct smt_post post = {.iov = iov, .n_iov = n, .one_way = call->one_way, .user = call};
    if (percent(app, c->deadline))
        post.deadline = 1 + smt_prng_below(&app->rng, c->deadline_ns);
    if (!call->one_way && percent(app, c->own_buffer)) {
        call->resp_buf = malloc(call->resp_len + 1u);
        assert_non_null(call->resp_buf);
        post.resp_buf = call->resp_buf;
        post.resp_cap = call->resp_len;
    }
    int err = smt_conn_post(load->conn, &post, &call->id);
    if (err == SMT_ENOMEM) /* a sweep of failing allocations: one fails, the next does not */
        err = smt_conn_post(load->conn, &post, &call->id);
    if (err < 0) {
        free(call->resp_buf);
        call->resp_buf = NULL;
        return err;
    }
    call->deadline = post.deadline;
    call->posted = true;
    call->posted_at = app->net->now;
    if (percent(app, c->cancel)) {
        struct cancel_timer *t = malloc(sizeof(*t));
        assert_non_null(t);
        *t = (struct cancel_timer){call, load->client->state->life};
        app_at(app, app->net->now + smt_prng_below(&app->rng, c->cancel_ns + 1), cancel_now, t);
    }
    return 0;
}

static void call_start(struct sim_load *load, struct sim_call *call)
{
    if (call->buf != NULL)
        return;
    call->buf = malloc(call->len + 1u);
    assert_non_null(call->buf);
    content_fill(call->buf, call->len, call->len < TAG_LEN ? TINY_KEY + call->len : call->tag);
    if (call->len >= TAG_LEN)
        memcpy(call->buf, &call->tag, TAG_LEN);
}

static void pump(struct sim_load *load)
{
    struct sim_app *app = load->app;
    if (load->pumping || load->blocked || load->conn == NULL || load->client->engine == NULL)
        return;
    load->pumping = true;
    while (load->next < load->config.n_calls && load->n_live < load->config.window) {
        struct sim_call *call = &load->calls[load->next];
        call_start(load, call);
        int err = call_post(load, call);
        if (err == SMT_EAGAIN) {
            app->stats.eagain++;
            load->blocked = true;
            break;
        }
        if (err == SMT_ECLOSED && load->config.may_fail) {
            load->conn = NULL;
            break;
        }
        SIM_CHECK(app->net, err == 0, "smt_conn_post: %d", err);
        load->next++;
        if (call->len < TAG_LEN)
            app->tiny_posted[call->len]++;
        call->live_pos = load->n_live;
        load->live[load->n_live++] = call;
        if (load->n_live > app->stats.max_in_flight)
            app->stats.max_in_flight = load->n_live;
    }
    load->pumping = false;
    simnet_poke(load->client);
}

static void call_end(struct sim_call *call)
{
    struct sim_load *load = call->load;
    call->finals++;
    SIM_CHECK(load->app->net, call->finals == 1, "call %llx has %u final events",
              (unsigned long long)call->tag, call->finals);
    uint64_t took = load->app->net->now - call->posted_at;
    if (call->posted && took > load->app->stats.max_ns)
        load->app->stats.max_ns = took;
    announced_forget(call);
    if (load->app->mutate && call->len > TAG_LEN)
        memset(call->buf + TAG_LEN, 0xee, call->len - TAG_LEN);
    free(call->buf);
    free(call->resp_buf);
    call->buf = call->resp_buf = NULL;
    struct sim_call *last = load->live[--load->n_live];
    load->live[call->live_pos] = last;
    last->live_pos = call->live_pos;
    load->n_done++;
}

static void note_error(struct sim_app *app, struct sim_call *call, int error)
{
    struct simnet *net = app->net;
    call->error = error;
    app->stats.failed++;
    switch (error) {
    case SMT_ECANCELED:
        app->stats.cancelled++;
        SIM_CHECK(net, call->cancelled || app->incoming != SIM_ACCEPT_LIB,
                  "ECANCELED for a call nobody cancelled");
        break;
    case SMT_ETIMEDOUT:
        app->stats.timed_out++;
        SIM_CHECK(net, call->deadline > 0, "ETIMEDOUT for a call without deadline");
        uint64_t due = call->posted_at + call->deadline;
        SIM_CHECK(net, net->now >= due && net->now <= due + DEADLINE_SLACK,
                  "ETIMEDOUT at %lld ns from the deadline", (long long)(net->now - due));
        break;
    case SMT_EREFUSED:
        app->stats.refused++;
        SIM_CHECK(net, call->rejected || app->incoming != SIM_ACCEPT_LIB,
                  "EREFUSED for a call nobody refused");
        break;
    case SMT_EMAYBE:
        app->stats.maybe++;
        SIM_CHECK(net, call->load->config.may_fail, "EMAYBE though the peer lives");
        break;
    default:
        app->stats.other_errors++;
        SIM_CHECK(net, call->load->config.may_fail, "FAILED with error %d", error);
        break;
    }
}

static struct sim_call *call_of(struct sim_app *app, const struct smt_engine_event *ev)
{
    struct sim_call *call = ev->user;
    SIM_CHECK(app->net, call != NULL && call->load->app == app && call->posted, "wrong user");
    SIM_CHECK(app->net, call->id == ev->id, "id %llu, posted as %llu", (unsigned long long)ev->id,
              (unsigned long long)call->id);
    return call;
}

/* ---- giving memory back ---- */

struct release_timer {
    struct sim_app *app;
    struct sim_host *host;
    size_t len;
    struct smt_rpc *rpc;
    uint8_t *own;
    unsigned life;
};

static void release_now(void *arg, struct simnet *net)
{
    struct release_timer *t = arg;
    if (t->host->engine != NULL && t->host->state->life == t->life) {
        smt_rpc_release(t->rpc);
        simnet_poke(t->host);
    }
    t->app->stats.held_bytes -= t->len;
    free(t->own);
    free(t);
}

static uint64_t hold_of(struct sim_app *app)
{
    return app->n_loads > 0 ? app->loads[0]->config.hold_ns : 0;
}

/* The buffer of our own that an announced message went to, if it did. */
static uint8_t *accepted_take(struct sim_app *app, const struct smt_rpc *rpc, const void *data)
{
    for (uint32_t i = 0; i < app->n_accepted; i++) {
        const struct accepted *a = &app->accepted[i];
        if ((rpc != NULL && a->rpc == rpc) || (data != NULL && a->buf == data)) {
            SIM_CHECK(app->net, data == NULL || data == a->buf,
                      "not in the buffer it was accepted into");
            uint8_t *buf = app->accepted[i].buf;
            app->accepted[i] = app->accepted[--app->n_accepted];
            return buf;
        }
    }
    return NULL;
}

static void release(struct sim_app *app, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct smt_rpc *rpc = ev->rpc;
    uint8_t *own = accepted_take(app, rpc, ev->data);
    if (rpc == NULL) {
        free(own);
        return;
    }
    app->stats.held_bytes += ev->len;
    if (app->stats.held_bytes > app->stats.max_held_bytes)
        app->stats.max_held_bytes = app->stats.held_bytes;
    uint64_t hold = hold_of(app);
    if (hold == 0 || percent(app, 20)) {
        smt_rpc_release(rpc);
        app->stats.held_bytes -= ev->len;
        free(own);
        return;
    }
    struct release_timer *t = malloc(sizeof(*t));
    assert_non_null(t);
    *t = (struct release_timer){app, host, ev->len, rpc, own, host->state->life};
    app_at(app, app->net->now + 1 + smt_prng_below(&app->rng, hold), release_now, t);
}

/* ---- servers ---- */

struct serve {
    struct sim_app *app;
    struct sim_host *host;
    struct smt_rpc *rpc;
    uint64_t key;
    uint32_t resp_len;
    unsigned life;
    bool reject;
};

static void reply_unlink(struct reply *r)
{
    *r->link = r->next;
    if (r->next != NULL)
        r->next->link = r->link;
    free(r->buf);
    free(r);
}

static void serve_now(void *arg, struct simnet *net)
{
    struct serve *s = arg;
    struct sim_app *app = s->app;
    app->stats.serving--;
    if (s->host->engine == NULL || s->host->state->life != s->life) {
        free(s);
        return;
    }
    simnet_poke(s->host);
    if (s->reject) {
        int err = smt_rpc_reject(s->rpc);
        SIM_CHECK(net, err == 0, "smt_rpc_reject: %d", err);
        free(s);
        return;
    }
    struct reply *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    *r = (struct reply){.host = s->host,
                        .life = s->life,
                        .len = s->resp_len,
                        .link = &app->replies,
                        .next = app->replies};
    r->buf = malloc(r->len + 1u);
    assert_non_null(r->buf);
    content_fill(r->buf, r->len, s->key);
    if (r->next != NULL)
        r->next->link = &r->next;
    app->replies = r;
    app->stats.replies_open++;
    uint32_t cut = r->len > 1 ? (uint32_t)smt_prng_below(&app->rng, r->len) : r->len;
    struct smt_post_iov iov[2] = {{r->buf, cut}, {r->buf + cut, r->len - cut}};
    int err = smt_rpc_reply(s->rpc, iov, 2, r);
    if (err == SMT_ENOMEM)
        err = smt_rpc_reply(s->rpc, iov, 2, r);
    SIM_CHECK(net, err == 0, "smt_rpc_reply: %d", err);
    free(s);
}

/* Enters a received request or message into the books; the call when it can say who it is. */
static struct sim_call *executed(struct sim_app *app, const struct smt_engine_event *ev,
                                 bool one_way)
{
    struct simnet *net = app->net;
    if (ev->len < TAG_LEN) {
        check_content(app, ev->data, ev->len, TINY_KEY + ev->len, "tiny message");
        app->tiny_executed[ev->len]++;
        SIM_CHECK(net, app->tiny_executed[ev->len] <= app->tiny_posted[ev->len],
                  "more messages of %zu bytes executed than posted", ev->len);
        return NULL;
    }
    uint64_t tag;
    memcpy(&tag, ev->data, TAG_LEN);
    uint64_t load = tag >> 32, index = tag & UINT32_MAX;
    SIM_CHECK(net, load < app->n_loads && index < app->loads[load]->config.n_calls,
              "message of %zu bytes with tag %llx", ev->len, (unsigned long long)tag);
    struct sim_call *call = &app->loads[load]->calls[index];
    SIM_CHECK(net, call->posted && call->len == ev->len, "tag %llx: %zu bytes of %u",
              (unsigned long long)tag, ev->len, call->len);
    SIM_CHECK(net, call->one_way == one_way, "tag %llx: request or one-way?",
              (unsigned long long)tag);
    call->executed++;
    SIM_CHECK(net, call->executed == 1, "tag %llx EXECUTED %u TIMES", (unsigned long long)tag,
              call->executed);
    if (app->mutate)
        return call;
    uint8_t *p = ev->data;
    uint64_t first = content_word(call->tag, 0);
    memcpy(p, &first, TAG_LEN);
    check_content(app, p, ev->len, call->tag, "request");
    return call;
}

static void on_request(struct sim_app *app, struct sim_host *host,
                       const struct smt_engine_event *ev)
{
    app->stats.requests++;
    app->stats.serving++;
    if (app->stats.serving > app->stats.max_serving)
        app->stats.max_serving = app->stats.serving;
    struct sim_call *call = executed(app, ev, false);
    struct serve *s = malloc(sizeof(*s));
    assert_non_null(s);
    *s = (struct serve){.app = app, .host = host, .rpc = ev->rpc, .life = host->state->life};
    if (call != NULL) {
        s->key = call->tag ^ RESPONSE_KEY;
        s->resp_len = call->resp_len;
        s->reject = call->rejected;
    } else {
        s->key = TINY_KEY + ev->len;
        s->resp_len = tiny_resp_len((uint32_t)ev->len);
    }
    uint64_t wait = app->loads[0]->config.serve_ns;
    bool late = wait > 0 && percent(app, 70);
    bool release_first = percent(app, 50) || late;
    if (release_first)
        release(app, host, ev);
    if (late) {
        app_at(app, app->net->now + 1 + smt_prng_below(&app->rng, wait), serve_now, s);
        return;
    }
    serve_now(s, app->net);
    if (!release_first)
        release(app, host, ev);
}

static void on_message(struct sim_app *app, struct sim_host *host,
                       const struct smt_engine_event *ev)
{
    app->stats.messages++;
    (void)executed(app, ev, true);
    release(app, host, ev);
}

static void on_response(struct sim_app *app, struct sim_host *host,
                        const struct smt_engine_event *ev)
{
    struct simnet *net = app->net;
    struct sim_call *call = call_of(app, ev);
    app->stats.responses++;
    SIM_CHECK(net, !call->one_way, "RESPONSE to a one-way message");
    SIM_CHECK(net, ev->len == call->resp_len, "response of %zu bytes, want %u", ev->len,
              call->resp_len);
    if (call->resp_buf != NULL)
        SIM_CHECK(net, ev->data == call->resp_buf && ev->rpc == NULL, "response not in our buffer");
    SIM_CHECK(net, call->len < TAG_LEN || call->executed == 1, "response without execution");
    uint64_t key = call->len < TAG_LEN ? TINY_KEY + call->len : call->tag ^ RESPONSE_KEY;
    check_content(app, ev->data, ev->len, key, "response");
    call_end(call);
    release(app, host, ev);
    pump(call->load);
}

static void on_final(struct sim_app *app, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct simnet *net = app->net;
    if (ev->id == 0) {
        struct reply *r = ev->user;
        if (r == NULL) { /* an accepted message whose sender has gone */
            SIM_CHECK(net, ev->type == SMT_EE_FAILED && ev->data != NULL, "final event of nothing");
            uint8_t *own = accepted_take(app, NULL, ev->data);
            SIM_CHECK(net, own != NULL, "FAILED for a buffer that is not lent");
            free(own);
            return;
        }
        SIM_CHECK(net, r->host == host, "reply of another host");
        app->stats.replies_open--;
        reply_unlink(r);
        return;
    }
    struct sim_call *call = call_of(app, ev);
    if (ev->type == SMT_EE_SENT) {
        app->stats.sent++;
        SIM_CHECK(net, call->one_way, "SENT for a request");
        SIM_CHECK(net, call->len < TAG_LEN || call->executed == 1, "SENT but never delivered");
    } else {
        note_error(app, call, ev->error);
    }
    call_end(call);
    pump(call->load);
}

/* ---- INCOMING ---- */

static void accept_rpc(struct sim_app *app, struct sim_host *host, struct smt_rpc *rpc,
                       struct sim_call *call, size_t len, bool own)
{
    uint8_t *buf = NULL;
    if (own) {
        buf = malloc(len + 1);
        assert_non_null(buf);
    }
    int err = smt_rpc_accept(rpc, buf, own ? len : 0);
    if (err == SMT_ENOMEM)
        err = smt_rpc_accept(rpc, buf, own ? len : 0);
    if (err == SMT_ENOMEM && !own) { /* the library's limit is reached: bring our own */
        accept_rpc(app, host, rpc, call, len, true);
        return;
    }
    if (err == SMT_ECLOSED) { /* its sender has gone */
        free(buf);
        return;
    }
    SIM_CHECK(app->net, err == 0, "smt_rpc_accept: %d", err);
    if (own) {
        SIM_CHECK(app->net, app->n_accepted < MAX_ACCEPTED, "too many accepted");
        app->accepted[app->n_accepted++] = (struct accepted){host, rpc, call, buf};
    }
}

struct late_accept {
    struct sim_app *app;
    struct sim_host *host;
    struct smt_rpc *rpc; /* NULL: its call has ended meanwhile */
    struct sim_call *call;
    size_t len;
    unsigned life;
};

static void accept_late(void *arg, struct simnet *net)
{
    struct late_accept *t = arg;
    if (t->call != NULL)
        t->call->late = NULL;
    if (t->rpc != NULL && t->host->engine != NULL && t->host->state->life == t->life) {
        accept_rpc(t->app, t->host, t->rpc, t->call, t->len, true);
        simnet_poke(t->host);
    }
    free(t);
}

/* A call has ended: an announced response will not come any more, its buffer is ours again. */
static void announced_forget(struct sim_call *call)
{
    struct sim_app *app = call->load->app;
    if (call->late != NULL) {
        call->late->rpc = NULL;
        call->late->call = NULL;
        call->late = NULL;
    }
    for (uint32_t i = 0; call->error != 0 && i < app->n_accepted; i++) {
        if (app->accepted[i].call == call) {
            free(app->accepted[i].buf);
            app->accepted[i] = app->accepted[--app->n_accepted];
            return;
        }
    }
}

static void on_incoming(struct sim_app *app, struct sim_host *host,
                        const struct smt_engine_event *ev)
{
    app->stats.incoming++;
    SIM_CHECK(app->net, ev->len > host->config.accept_len, "INCOMING for %zu bytes", ev->len);
    struct sim_call *call = ev->of == SMT_EE_RESPONSE ? call_of(app, ev) : NULL;
    enum sim_incoming policy = app->incoming;
    if (policy == SIM_MIX)
        policy = (enum sim_incoming)smt_prng_below(&app->rng, SIM_MIX);
    if (policy == SIM_REJECT) {
        int err = smt_rpc_reject(ev->rpc);
        SIM_CHECK(app->net, err == 0, "smt_rpc_reject: %d", err);
    } else if (policy == SIM_ACCEPT_LATE) {
        struct late_accept *t = malloc(sizeof(*t));
        assert_non_null(t);
        *t = (struct late_accept){app, host, ev->rpc, call, ev->len, host->state->life};
        if (call != NULL)
            call->late = t;
        app_at(app, app->net->now + smt_prng_below(&app->rng, app->late_ns + 1), accept_late, t);
    } else {
        accept_rpc(app, host, ev->rpc, call, ev->len, policy == SIM_ACCEPT_OWN);
    }
}

/* ---- events ---- */

/* The peer says that it does not know the session any more: a new one is begun beside it. */
static void on_hint(struct sim_app *app, struct sim_host *host, const struct smt_engine_event *ev)
{
    app->stats.hints++;
    for (uint32_t i = 0; i < app->n_loads; i++) {
        struct sim_load *load = app->loads[i];
        if (load->client == host && load->conn == ev->conn && load->config.follow_hints &&
            load->fresh == NULL)
            load->fresh = simnet_connect(host, load->server);
    }
}

static void on_up(struct sim_app *app, struct sim_host *host, const struct smt_engine_event *ev)
{
    app->stats.up++;
    for (uint32_t i = 0; i < app->n_loads; i++) {
        struct sim_load *load = app->loads[i];
        if (load->client == host && load->fresh == ev->conn && load->conn != NULL)
            smt_conn_close(load->conn, app->net->now, SMT_EMAYBE, false);
    }
}

static void on_down(struct sim_app *app, struct sim_host *host, const struct smt_engine_event *ev)
{
    app->stats.down++;
    for (uint32_t i = 0; i < app->n_loads; i++) {
        struct sim_load *load = app->loads[i];
        if (load->client != host || load->conn != ev->conn)
            continue;
        SIM_CHECK(app->net, load->n_live == 0, "DOWN with %u calls open", load->n_live);
        SIM_CHECK(app->net, load->config.may_fail, "DOWN (%d) though the peer lives", ev->error);
        load->conn = load->fresh;
        load->fresh = NULL;
        load->blocked = false;
        pump(load);
    }
    for (uint32_t i = 0; i < app->n_loads; i++) {
        if (app->loads[i]->client == host && app->loads[i]->fresh == ev->conn)
            app->loads[i]->fresh = NULL;
    }
}

static void reconnect(struct sim_app *app, struct sim_host *host)
{
    for (uint32_t i = 0; i < app->n_loads; i++) {
        struct sim_load *load = app->loads[i];
        bool want = load->client == host && load->conn == NULL && load->config.reconnect &&
                    load->next < load->config.n_calls && host->engine != NULL;
        if (!want)
            continue;
        load->conn = simnet_connect(host, load->server);
        pump(load);
    }
}

static void app_event(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    struct sim_app *app = arg;
    if (app->watch != NULL)
        app->watch(app->watch_arg, host, ev);
    switch (ev->type) {
    case SMT_EE_REQUEST:
        on_request(app, host, ev);
        break;
    case SMT_EE_MESSAGE:
        on_message(app, host, ev);
        break;
    case SMT_EE_RESPONSE:
        on_response(app, host, ev);
        break;
    case SMT_EE_SENT:
    case SMT_EE_FAILED:
        on_final(app, host, ev);
        break;
    case SMT_EE_INCOMING:
        on_incoming(app, host, ev);
        break;
    case SMT_EE_WRITABLE:
        app->stats.writable++;
        for (uint32_t i = 0; i < app->n_loads; i++) {
            if (app->loads[i]->conn == ev->conn && app->loads[i]->client == host) {
                app->loads[i]->blocked = false;
                pump(app->loads[i]);
            }
        }
        break;
    case SMT_EE_UP:
        on_up(app, host, ev);
        break;
    case SMT_EE_NO_SESSION:
        on_hint(app, host, ev);
        break;
    case SMT_EE_DOWN:
        on_down(app, host, ev);
        reconnect(app, host);
        break;
    default:
        break;
    }
}

/* Changes a byte of a lent buffer, never one of a tag. */
static enum sim_verdict mutate(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct sim_app *app = arg;
    struct sim_load *load = app->loads[smt_prng_below(&app->rng, app->n_loads)];
    if (load->n_live > 0) {
        struct sim_call *call = load->live[smt_prng_below(&app->rng, load->n_live)];
        for (int i = 0; i < 4 && call->len > TAG_LEN; i++)
            call->buf[TAG_LEN + smt_prng_below(&app->rng, call->len - TAG_LEN)]++;
    }
    unsigned n = 0;
    for (struct reply *r = app->replies; r != NULL && n < 4; r = r->next, n++) {
        for (int i = 0; i < 4 && r->len > 0; i++)
            r->buf[smt_prng_below(&app->rng, r->len)]++;
    }
    return SIM_PASS;
}

/* ---- life ---- */

struct sim_app *sim_app_new(struct simnet *net)
{
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    struct sim_app *app = calloc(1, sizeof(*app));
    assert_non_null(app);
    app->net = net;
    app->incoming = SIM_ACCEPT_LIB;
    smt_prng_seed(&app->rng, fast_mix(net->seed, 99));
    for (unsigned i = 0; i < net->n_hosts; i++) {
        net->hosts[i].on_event = app_event;
        net->hosts[i].arg = app;
    }
    return app;
}

static struct sim_load *load_new(struct sim_app *app, struct sim_host *client,
                                 const struct sim_load_config *config)
{
    struct sim_load *load = calloc(1, sizeof(*load));
    assert_non_null(load);
    SIM_CHECK(app->net, app->n_loads < SIM_MAX_LOADS, "too many loads");
    load->app = app;
    load->client = client;
    load->config = *config;
    load->number = app->n_loads;
    load->calls = calloc(config->n_calls, sizeof(*load->calls));
    load->live = calloc(config->window, sizeof(*load->live));
    assert_non_null(load->calls);
    assert_non_null(load->live);
    for (uint32_t i = 0; i < config->n_calls; i++)
        call_plan(load, &load->calls[i]);
    app->loads[app->n_loads++] = load;
    app->may_fail |= config->may_fail;
    if (config->mutate) {
        app->mutate = true;
        app->net->hook = mutate;
        app->net->hook_arg = app;
    }
    return load;
}

struct sim_load *sim_app_load(struct sim_app *app, struct sim_host *client, struct sim_host *server,
                              const struct sim_load_config *config)
{
    struct sim_load *load = load_new(app, client, config);
    load->server = server;
    load->conn = simnet_connect(client, server);
    pump(load);
    return load;
}

struct sim_load *sim_app_load_on(struct sim_app *app, struct sim_host *client,
                                 struct smt_conn *conn, const struct sim_load_config *config)
{
    struct sim_load *load = load_new(app, client, config);
    load->conn = conn;
    pump(load);
    return load;
}

struct smt_conn *sim_load_conn(const struct sim_load *load)
{
    return load->conn;
}

uint32_t sim_load_done(const struct sim_load *load)
{
    return load->n_done;
}

const struct sim_app_stats *sim_app_stats(const struct sim_app *app)
{
    return &app->stats;
}

void sim_app_set_incoming(struct sim_app *app, enum sim_incoming policy, uint64_t late_ns)
{
    app->incoming = policy;
    app->late_ns = late_ns;
}

void sim_app_set_watch(struct sim_app *app, sim_event_fn *watch, void *arg)
{
    app->watch = watch;
    app->watch_arg = arg;
}

void sim_app_host_killed(struct sim_app *app, struct sim_host *host)
{
    for (struct reply *r = app->replies, *next; r != NULL; r = next) {
        next = r->next;
        if (r->host == host) {
            app->stats.replies_open--;
            reply_unlink(r);
        }
    }
    for (uint32_t i = app->n_accepted; i > 0; i--) {
        if (app->accepted[i - 1].host == host) {
            free(app->accepted[i - 1].buf);
            app->accepted[i - 1] = app->accepted[--app->n_accepted];
        }
    }
    for (uint32_t i = 0; i < app->n_loads; i++) {
        struct sim_load *load = app->loads[i];
        if (load->client != host)
            continue;
        while (load->n_live > 0) {
            load->live[0]->error = SMT_EMAYBE;
            call_end(load->live[0]);
        }
        load->conn = load->fresh = NULL;
        load->blocked = false;
    }
}

bool sim_app_done(void *arg)
{
    struct sim_app *app = arg;
    for (uint32_t i = 0; i < app->n_loads; i++) {
        if (app->loads[i]->n_done < app->loads[i]->config.n_calls)
            return false;
    }
    return true;
}

static void verify(struct sim_app *app)
{
    struct simnet *net = app->net;
    bool all_ok = true;
    for (uint32_t i = 0; i < app->n_loads; i++) {
        struct sim_load *load = app->loads[i];
        for (uint32_t k = 0; k < load->config.n_calls; k++) {
            const struct sim_call *call = &load->calls[k];
            SIM_CHECK(net, call->finals == 1, "call %u of load %u has %u final events", k, i,
                      call->finals);
            bool whole = call->error == 0 || call->error == SMT_EREFUSED;
            all_ok &= whole;
            if (call->error == 0 && call->len >= TAG_LEN)
                SIM_CHECK(net, call->executed == 1, "call %u of load %u executed %u times", k, i,
                          call->executed);
        }
    }
    for (unsigned len = 0; all_ok && len < TAG_LEN; len++)
        SIM_CHECK(net, app->tiny_executed[len] == app->tiny_posted[len],
                  "%llu messages of %u bytes executed of %llu",
                  (unsigned long long)app->tiny_executed[len], len,
                  (unsigned long long)app->tiny_posted[len]);
    SIM_CHECK(net, app->stats.replies_open == 0, "%llu replies never ended",
              (unsigned long long)app->stats.replies_open);
    SIM_CHECK(net, app->n_accepted == 0, "%u accepted messages never came", app->n_accepted);
}

void sim_app_finish(struct sim_app *app, uint64_t until)
{
    bool done = simnet_run(app->net, until, sim_app_done, app);
    for (uint32_t i = 0; !done && i < app->n_loads; i++) {
        const struct sim_load *load = app->loads[i];
        SIM_CHECK(app->net, load->n_done == load->config.n_calls,
                  "load %u: %u of %u calls done, %u open%s", i, load->n_done, load->config.n_calls,
                  load->n_live, load->blocked ? ", waits for WRITABLE" : "");
    }
    if (app->last_timer > app->net->now)
        simnet_sleep(app->net, app->last_timer - app->net->now);
    simnet_settle(app->net, app->net->now + 30 * SMT_SEC);
    verify(app);
}

void sim_app_free(struct sim_app *app)
{
    while (app->replies != NULL)
        reply_unlink(app->replies);
    for (uint32_t i = 0; i < app->n_accepted; i++)
        free(app->accepted[i].buf);
    for (uint32_t i = 0; i < app->n_loads; i++) {
        struct sim_load *load = app->loads[i];
        for (uint32_t k = 0; k < load->config.n_calls; k++) {
            free(load->calls[k].buf);
            free(load->calls[k].resp_buf);
        }
        free(load->calls);
        free(load->live);
        free(load);
    }
    free(app);
}
