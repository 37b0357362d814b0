/* The server of smt_lat and smt_bw. It learns from each session what is coming and answers from the
 * event: a fixed response, or with --verify the request itself, without a copy. Any number of
 * clients at the same time. It polls only while a test runs, else it sleeps. */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "pattern.h"
#include "proto.h"
#include "say.h"

enum {
    BATCH = 64,
    WAIT_MS = 100,              /* longest sleep, so that a signal is seen */
    IDLE_POLLS = 1 << 20,       /* a test this quiet is no reason to poll */
    N_REPLY_BUFS = 31,          /* one per power of two up to 2^30 */
    DOWN_LINE_EVERY_MS = 200,   /* strangers must not fill the log */
};

struct server {
    const struct options *options;
    struct smt_ctx *ctx;
    uint16_t ports[PROTO_MAX_PORTS];
    unsigned n_ports;
    atomic_bool stop;
    atomic_int exit_code;
};

struct server_thread {
    struct server *server;
    struct smt_ep *ep;
    pthread_t thread;
    unsigned index;
    unsigned n_running, n_running_events; /* sessions between START and STOP; those with -e */
    uint64_t next_down_line;
    struct peer *peers;                   /* of the sessions that are open */
    uint8_t *reply_buf[N_REPLY_BUFS];     /* of 2^i bytes, made when first wanted, never changed */
};

/* What we know of a session; its user pointer. */
struct peer {
    struct peer *next, **link;
    uint32_t flags;
    bool running, is_primary, echo;
    uint64_t size, resp_size, seed;
    uint64_t received, bytes, wrong, total;
    struct smt_iov reply;
    char name[64];                   /* its address, for the log */
    uint8_t control[PROTO_RESP_LEN]; /* lent while the one control answer is on its way */
};

static bool reply_buf(struct server_thread *t, uint64_t len, struct smt_iov *out)
{
    unsigned i = 0;
    while ((UINT64_C(1) << i) < len) {
        i++;
    }
    if (i >= N_REPLY_BUFS) {
        return false;
    }
    if (t->reply_buf[i] == NULL) {
        t->reply_buf[i] = smt_buf_alloc(t->server->ctx, (size_t)1 << i);
        if (t->reply_buf[i] == NULL) {
            return false;
        }
        if (t->server->options->contents == CONTENTS_OWN) {
            pattern_fill(t->reply_buf[i], (size_t)1 << i, proto_resp_seed);
        } else {
            contents_fill(CONTENTS_SMT_SIMPLE, t->reply_buf[i], (size_t)1 << i, 0);
        }
    }
    *out = (struct smt_iov){.base = t->reply_buf[i], .len = (size_t)len};
    return true;
}

static void end_test(struct server_thread *t, struct peer *peer)
{
    if (peer->running) {
        peer->running = false;
        t->n_running--;
        t->n_running_events -= (peer->flags & PROTO_EVENTS) != 0;
    }
}

static const char *start_test(struct server_thread *t, struct peer *peer,
                              const struct proto_req *req)
{
    end_test(t, peer);
    if (!reply_buf(t, req->resp_size, &peer->reply)) {
        return "no memory for responses of that size";
    }
    peer->flags = req->flags;
    peer->size = req->size;
    peer->resp_size = req->resp_size;
    peer->seed = req->seed;
    peer->echo = (req->flags & PROTO_VERIFY) != 0 && req->size == req->resp_size;
    peer->received = peer->bytes = peer->wrong = 0;
    peer->running = true;
    t->n_running++;
    t->n_running_events += (peer->flags & PROTO_EVENTS) != 0;
    return NULL;
}

static void describe(struct smt_session *session, struct smt_session_info *info)
{
    memset(info, 0, sizeof(*info));
    info->size = sizeof(*info);
    if (smt_session_get_info(session, info) != 0) {
        snprintf(info->peer, sizeof(info->peer), "unknown");
    }
}

static const char *greet(struct server_thread *t, struct smt_session *session, struct peer *peer,
                         const struct proto_req *req, struct proto_resp *resp)
{
    struct server *s = t->server;
    resp->n_ports = s->n_ports;
    memcpy(resp->ports, s->ports, sizeof(resp->ports));
    peer->is_primary = (req->flags & PROTO_PRIMARY) != 0;
    if (peer->is_primary) {
        struct smt_session_info info;
        describe(session, &info);
        snprintf(peer->name, sizeof(peer->name), "%s", info.peer);
        printf("client %s%s%s: %s, %s, %s, %u thread%s, %u session%s\n", info.peer,
               info.identity[0] != '\0' ? " " : "", info.identity, req->tool, info.cipher,
               creds_auth_name(info.auth), req->threads, req->threads == 1 ? "" : "s",
               req->sessions, req->sessions == 1 ? "" : "s");
        fflush(stdout);
    }
    return NULL;
}

static const char *bye(struct server_thread *t, struct peer *peer)
{
    end_test(t, peer);
    if (peer->is_primary && t->server->options->once) {
        atomic_store(&t->server->stop, true);
    }
    return NULL;
}

/* A control request: the answer is written into the peer's own buffer and lent. */
static void take_control(struct server_thread *t, const struct smt_event *event, struct peer *peer)
{
    struct proto_req req;
    struct proto_resp resp = {.version = PROTO_VERSION};
    const char *refusal = NULL;
    snprintf(resp.tool_version, sizeof(resp.tool_version), "%s", smt_version());
    if (proto_get_req(event->data, event->len, &req) != 0) {
        refusal = "this server speaks to smt_lat and smt_bw only";
    } else if (req.version != PROTO_VERSION) {
        refusal = "other version of the parameter exchange";
    } else {
        switch (req.op) {
        case PROTO_HELLO:
            refusal = greet(t, event->session, peer, &req, &resp);
            break;
        case PROTO_START:
            refusal = start_test(t, peer, &req);
            resp.cpu_ns = clock_cpu();
            break;
        case PROTO_STOP:
            end_test(t, peer);
            resp.received = peer->received;
            resp.bytes = peer->bytes;
            resp.wrong = peer->wrong;
            resp.cpu_ns = clock_cpu();
            break;
        case PROTO_BYE:
            refusal = bye(t, peer);
            break;
        }
    }
    if (refusal != NULL) {
        resp.status = PROTO_REFUSED;
        snprintf(resp.text, sizeof(resp.text), "%s", refusal);
    }
    proto_put_resp(&resp, peer->control);
    struct smt_iov iov = {.base = peer->control, .len = sizeof(peer->control)};
    if (smt_reply(event->msg, &iov, 1, NULL) != 0) {
        peer->wrong++;
    }
    smt_release(event->msg);
}

static struct peer *peer_of(struct server_thread *t, struct smt_session *session)
{
    struct peer *peer = smt_session_user(session);
    if (peer != NULL) {
        return peer;
    }
    peer = calloc(1, sizeof(*peer));
    if (peer != NULL) {
        peer->next = t->peers;
        peer->link = &t->peers;
        if (peer->next != NULL) {
            peer->next->link = &peer->next;
        }
        t->peers = peer;
        smt_session_set_user(session, peer);
    }
    return peer;
}

static void free_peer(struct peer *peer)
{
    *peer->link = peer->next;
    if (peer->next != NULL) {
        peer->next->link = peer->link;
    }
    free(peer);
}

static void count(struct peer *peer, const void *data, size_t len)
{
    peer->received++;
    peer->total++;
    peer->bytes += len;
    bool good = len == peer->size;
    if (good && (peer->flags & PROTO_VERIFY) != 0) {
        uint64_t seed = len >= PATTERN_SEED_LEN ? pattern_seed(data) : peer->seed;
        good = seed - peer->seed < UINT64_C(1) << 48 && pattern_check(data, len, seed);
    }
    peer->wrong += !good;
}

/* A request of a program that is no tool of ours. */
static void take_foreign(struct server_thread *t, const struct smt_event *event)
{
    const struct options *o = t->server->options;
    uint32_t given = o->resp_given ? (uint32_t)o->resp_size : 0;
    struct smt_iov reply;
    uint32_t len = contents_resp_len(o->contents, event->data, event->len, given);
    bool good = len > 0 && reply_buf(t, len, &reply) &&
                smt_reply(event->msg, &reply, 1, NULL) == 0;
    if (!good && smt_reject(event->msg) != 0) {
        say_error("a request of %zu bytes could not be answered", event->len);
    }
    smt_release(event->msg);
}

static void take_request(struct server_thread *t, const struct smt_event *event)
{
    struct peer *peer = peer_of(t, event->session);
    if (peer == NULL) {
        if (smt_reject(event->msg) != 0) {
            say_error("out of memory");
        }
        smt_release(event->msg);
        return;
    }
    if (t->server->options->contents != CONTENTS_OWN) {
        take_foreign(t, event);
        return;
    }
    if (!peer->running || proto_is_req(event->data, event->len)) {
        take_control(t, event, peer);
        return;
    }
    count(peer, event->data, event->len);
    if (peer->echo) {
        struct smt_iov iov = {.base = event->data, .len = event->len};
        if (smt_reply(event->msg, &iov, event->len != 0, event->msg) != 0) {
            peer->wrong++;
            smt_release(event->msg);
        }
        return; /* released when the reply has arrived */
    }
    if (smt_reply(event->msg, &peer->reply, peer->reply.len != 0, NULL) != 0) {
        peer->wrong++;
    }
    smt_release(event->msg);
}

/* A session that never said HELLO: a stranger, or a failed handshake. */
static void log_stranger(struct server_thread *t, const struct smt_event *event)
{
    uint64_t now = clock_now();
    if (event->error != 0 && now >= t->next_down_line) {
        struct smt_session_info info;
        describe(event->session, &info);
        say_error("refused %s: %s", info.peer, creds_error(t->server->ctx, event->error));
        t->next_down_line = now + DOWN_LINE_EVERY_MS * NS_PER_MS;
    }
}

static void take_down(struct server_thread *t, const struct smt_event *event)
{
    struct peer *peer = smt_session_user(event->session);
    if (peer == NULL) {
        log_stranger(t, event);
        return;
    }
    if (peer->is_primary) {
        printf("client %s gone%s%s\n", peer->name, event->error != 0 ? ": " : "",
               event->error != 0 ? smt_strerror(event->error) : "");
        fflush(stdout);
    }
    end_test(t, peer);
    if (peer->is_primary && t->server->options->once) {
        atomic_store(&t->server->stop, true);
    }
    smt_session_set_user(event->session, NULL);
    free_peer(peer);
}

static void take_event(struct server_thread *t, const struct smt_event *event)
{
    switch (event->type) {
    case SMT_EV_REQUEST:
        take_request(t, event);
        break;
    case SMT_EV_MESSAGE: {
        struct peer *peer = peer_of(t, event->session);
        if (peer != NULL) {
            count(peer, event->data, event->len);
        }
        smt_release(event->msg);
        break;
    }
    case SMT_EV_SENT:
    case SMT_EV_FAILED:
        if (event->user != NULL) {
            smt_release(event->user); /* an echoed request */
        }
        break;
    case SMT_EV_INCOMING:
        if (smt_accept(event->msg, NULL, 0) != 0 && smt_reject(event->msg) != 0) {
            say_error("cannot take a message of %zu bytes", event->len);
        }
        break;
    case SMT_EV_SESSION_DOWN:
        take_down(t, event);
        break;
    default:
        bench_device_event(event);
        break;
    }
}

static int serve(struct server_thread *t)
{
    struct smt_event events[BATCH];
    const bool always_sleeps = t->server->options->events;
    uint32_t idle = 0;
    while (!bench_stop && !atomic_load_explicit(&t->server->stop, memory_order_relaxed)) {
        int n = smt_poll(t->ep, events, BATCH);
        for (int i = 0; i < n; i++) {
            take_event(t, &events[i]);
        }
        if (n < 0) {
            return n;
        }
        idle = n == 0 ? idle + 1 : 0;
        bool sleeps = always_sleeps || t->n_running == 0 || t->n_running_events != 0;
        if (idle == 0 || (!sleeps && idle < IDLE_POLLS)) {
            continue;
        }
        int rc = smt_wait(t->ep, WAIT_MS * NS_PER_MS);
        if (rc < 0 && rc != SMT_EBUSY && rc != SMT_ETIMEDOUT) {
            return rc;
        }
    }
    return 0;
}

static void *thread_main(void *arg)
{
    struct server_thread *t = arg;
    bench_pin_cpu(t->server->options, t->index);
    int rc = serve(t);
    if (rc != 0) {
        say_error("endpoint on port %u: %s", smt_ep_port(t->ep), creds_error(t->server->ctx, rc));
        atomic_store(&t->server->exit_code, TOOL_ERRORS);
        atomic_store(&t->server->stop, true);
    }
    return NULL;
}

static int open_endpoints(struct server *s, struct server_thread *threads)
{
    const struct options *o = s->options;
    for (unsigned i = 0; i < o->threads; i++) {
        struct smt_ep_config config = SMT_EP_CONFIG_INIT;
        config.bind_host = o->bind_host;
        config.port = (uint16_t)(o->port != 0 ? o->port + i : 0);
        if (o->share_port) {
            config.port = i > 0 ? s->ports[0] : (uint16_t)o->port;
            config.share = (uint8_t)o->threads;
        }
        config.accept = 1;
        config.max_session_bytes = UINT64_C(5) << 28;
        config.max_ep_bytes = UINT64_C(4) << 30;
        config.mtu = (uint32_t)o->mtu;
        config.number = (uint8_t)i;
        threads[i] = (struct server_thread){.server = s, .index = i};
        int rc = smt_ep_open(s->ctx, &config, &threads[i].ep);
        if (rc != 0) {
            say_error("cannot listen on port %u: %s", config.port, creds_error(s->ctx, rc));
            return TOOL_CONNECTION;
        }
        s->ports[i] = smt_ep_port(threads[i].ep);
        s->n_ports = i + 1;
    }
    return TOOL_OK;
}

static void announce(const struct server *s)
{
    const char *device = s->options->creds.device;
    const char *usual = creds_is_native(&s->options->creds) ? "udp" : "ip";
    unsigned n_shown = s->options->share_port ? 1 : s->n_ports;
    printf("%s %s: waiting for clients on %s port", options_tool_name(s->options->tool),
           smt_version(), device != NULL ? device : usual);
    for (unsigned i = 0; i < n_shown; i++) {
        printf(" %u", s->ports[i]);
    }
    putchar('\n');
    fflush(stdout);
}

/* The last answers arrive before the endpoints go; what was lent to them goes after. Those that
 * share a port go last one first. */
static void close_endpoints(struct server *s, struct server_thread *threads)
{
    for (unsigned i = s->n_ports; i-- > 0;) {
        struct server_thread *t = &threads[i];
        struct smt_event events[BATCH];
        int rc = smt_ep_drain(t->ep, NS_PER_S);
        if (rc != 0 && rc != SMT_ETIMEDOUT) {
            say_error("closing: %s", smt_strerror(rc));
        }
        for (int n; (n = smt_poll(t->ep, events, BATCH)) > 0;) {
            for (int k = 0; k < n; k++) {
                take_event(t, &events[k]);
            }
        }
        rc = smt_ep_close(t->ep);
        if (rc != 0) {
            say_error("closing: %s", smt_strerror(rc));
        }
        while (t->peers != NULL) {
            free_peer(t->peers);
        }
        for (unsigned k = 0; k < N_REPLY_BUFS; k++) {
            smt_buf_free(s->ctx, t->reply_buf[k]);
        }
    }
}

int bench_server(const struct options *o, struct smt_ctx *ctx)
{
    struct server server = {.options = o, .ctx = ctx};
    struct server_thread threads[BENCH_MAX_THREADS];
    int rc = open_endpoints(&server, threads);
    if (rc == TOOL_OK) {
        announce(&server);
        unsigned n_started = 1;
        for (; n_started < server.n_ports; n_started++) {
            struct server_thread *t = &threads[n_started];
            if (pthread_create(&t->thread, NULL, thread_main, t) != 0) {
                say_error("cannot start thread %u", n_started);
                atomic_store(&server.exit_code, TOOL_ERRORS);
                atomic_store(&server.stop, true);
                break;
            }
        }
        thread_main(&threads[0]);
        for (unsigned i = 1; i < n_started; i++) {
            pthread_join(threads[i].thread, NULL);
        }
        rc = atomic_load(&server.exit_code);
    }
    close_endpoints(&server, threads);
    return rc;
}
