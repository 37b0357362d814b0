/* The client of smt_lat and smt_bw: connects all sessions, agrees on each size with the server,
 * lets all threads measure at the same time and merges what they saw. Thread 0 is the main
 * thread; its first session is the primary one, by which the server knows the client. */
#include "bench.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "clock.h"
#include "progress.h"
#include "proto.h"
#include "report.h"
#include "say.h"
#include "worker.h"

enum {
    HOST_LEN = 300,
    WARM_UP_MS = 200,
    COUNT_RETRIES = 100, /* × 10 ms for the server to see what its transport has accepted */
};

struct client {
    const struct options *options;
    struct smt_ctx *ctx;
    struct report report;
    struct worker *workers;
    char host[HOST_LEN]; /* without port, brackets kept off */
    uint16_t ports[PROTO_MAX_PORTS];
    unsigned n_ports;
    pthread_barrier_t barrier;
    atomic_ullong n_gathered; /* threads that have come to `gather`, all in all */
    atomic_int exit_code; /* the first failure wins */
    atomic_ullong sealed[N_SEALED]; /* of workers that have closed */
    bool stop;            /* written by thread 0 between barriers */
    double cpu_start, cpu_s;
    uint64_t server_cpu_start, server_cpu_end; /* of the first session, hence of thread 0 */
    atomic_ullong server_messages;
    struct result result;
};

struct client_thread {
    struct client *client;
    unsigned index;
    pthread_t thread;
};

static void fail(struct client *c, int exit_code)
{
    int ok = TOOL_OK;
    atomic_compare_exchange_strong(&c->exit_code, &ok, exit_code);
}

static uint64_t deadline_ns(const struct client *c)
{
    return (uint64_t)(c->options->deadline_s * 1e9);
}

/* "host", "host:port", "v6", "[v6]", "[v6]:port" */
static int split_host(struct client *c)
{
    const char *text = c->options->host;
    const char *end = text + strlen(text);
    const char *port = NULL;
    if (text[0] == '[') {
        const char *close = strchr(text, ']');
        if (close == NULL || (close[1] != '\0' && close[1] != ':')) {
            say_error("%s: host not understood (name, address, host:port or [v6]:port)", text);
            return TOOL_USAGE;
        }
        port = close[1] == ':' ? close + 2 : NULL;
        text++;
        end = close;
    } else {
        const char *colon = strchr(text, ':');
        if (colon != NULL && strchr(colon + 1, ':') == NULL) {
            end = colon;
            port = colon + 1;
        }
    }
    c->ports[0] = (uint16_t)c->options->port;
    if (port != NULL) {
        char *rest;
        unsigned long value = strtoul(port, &rest, 10);
        if (*port == '\0' || *rest != '\0' || value == 0 || value > 65535) {
            say_error("%s: port not understood", c->options->host);
            return TOOL_USAGE;
        }
        c->ports[0] = (uint16_t)value;
    }
    size_t len = (size_t)(end - text);
    if (len == 0 || len >= sizeof(c->host)) {
        say_error("%s: host not understood", c->options->host);
        return TOOL_USAGE;
    }
    if (c->ports[0] == 0) {
        say_error("-p 0 is for servers: give the server's port");
        return TOOL_USAGE;
    }
    memcpy(c->host, text, len);
    c->host[len] = '\0';
    return TOOL_OK;
}

static int control(struct client *c, struct smt_session *session, struct proto_req *req,
                   struct proto_resp *resp)
{
    uint8_t out[PROTO_REQ_LEN], in[PROTO_RESP_LEN];
    req->version = PROTO_VERSION;
    snprintf(req->tool, sizeof(req->tool), "%s", options_tool_name(c->options->tool));
    proto_put_req(req, out);
    int64_t len = smt_call_wait(session, out, sizeof(out), in, sizeof(in), deadline_ns(c));
    if (len < 0) {
        say_error("server does not answer: %s", creds_error(c->ctx, (int)len));
        return TOOL_CONNECTION;
    }
    if (proto_get_resp(in, (size_t)len, resp) != 0) {
        say_error("this is not a server of smt_lat or smt_bw");
        return TOOL_CONNECTION;
    }
    if (resp->version != PROTO_VERSION) {
        say_error("server speaks version %u of the parameter exchange, we speak %d (server is %s)",
                  resp->version, PROTO_VERSION, resp->tool_version);
        return TOOL_CONNECTION;
    }
    if (resp->status != PROTO_OK) {
        say_error("server refuses: %s", resp->text);
        return TOOL_CONNECTION;
    }
    return TOOL_OK;
}

static uint32_t flags_of(const struct options *o)
{
    return (o->one_way ? PROTO_ONE_WAY : 0u) | (o->verify ? PROTO_VERIFY : 0u) |
           (o->events ? PROTO_EVENTS : 0u);
}

static int open_endpoint(struct client *c, struct worker *w, unsigned index)
{
    struct smt_ep_config config = SMT_EP_CONFIG_INIT;
    config.bind_host = c->options->bind_host;
    config.poll_spin = !c->options->events;
    config.max_session_bytes = UINT64_C(5) << 28;
    config.max_ep_bytes = UINT64_C(4) << 30;
    config.mtu = (uint32_t)c->options->mtu;
    config.handshake_timeout_ns = deadline_ns(c);
    config.number = (uint8_t)index;
    config.max_sessions = (uint32_t)c->options->sessions + 16;
    int rc = smt_ep_open(c->ctx, &config, &w->ep);
    if (rc != 0) {
        say_error("cannot open an endpoint: %s", creds_error(c->ctx, rc));
        return TOOL_CONNECTION;
    }
    return TOOL_OK;
}

/* Connects one more session of a worker and says HELLO on it. */
static int add_session(struct client *c, struct worker *w, unsigned index, struct proto_resp *resp)
{
    bool primary = index == 0 && w->n_sessions == 0;
    char where[HOST_LEN + 16];
    unsigned port = c->ports[c->n_ports != 0 ? index % c->n_ports : 0];
    snprintf(where, sizeof(where), strchr(c->host, ':') != NULL ? "[%s]:%u" : "%s:%u", c->host,
             port);
    struct smt_session **slot = &w->sessions[w->n_sessions];
    const char *name = c->options->verify_name != NULL ? c->options->verify_name : NULL;
    int rc = smt_connect_wait(w->ep, where, name, w->n_sessions != 0 ? SMT_NEW_SESSION : 0,
                              deadline_ns(c), slot);
    if (rc != 0) {
        say_error("cannot connect to %s: %s", where, creds_error(c->ctx, rc));
        return TOOL_CONNECTION;
    }
    w->n_sessions++;
    const struct options *o = c->options;
    if (o->contents != CONTENTS_OWN) {
        *resp = (struct proto_resp){.n_ports = 1, .ports = {(uint16_t)port}};
        return TOOL_OK;
    }
    struct proto_req req = {
        .op = PROTO_HELLO,
        .flags = flags_of(o) | (primary ? PROTO_PRIMARY : 0u),
        .size = o->max_size,
        .resp_size = options_resp_size(o, o->max_size),
        .depth = (uint32_t)options_depth(o, o->max_size),
        .threads = (uint32_t)o->threads,
        .sessions = (uint32_t)o->sessions,
        .iterations = options_iterations(o, o->max_size),
        .duration_ns = (uint64_t)(o->duration_s * 1e9),
    };
    return control(c, *slot, &req, resp);
}

static int add_all_sessions(struct client *c, struct worker *w, unsigned index)
{
    int rc = TOOL_OK;
    while (rc == TOOL_OK && w->n_sessions < c->options->sessions && !bench_stop) {
        struct proto_resp resp;
        rc = add_session(c, w, index, &resp);
        if (index == 0) {
            progress_show(clock_now(), "%u of %llu sessions", w->n_sessions,
                          (unsigned long long)c->options->sessions);
        }
    }
    return rc;
}

static bool is_first_session(const struct client *c, const struct worker *w, uint32_t i)
{
    return w == &c->workers[0] && i == 0;
}

static int start_size(struct client *c, struct worker *w, uint64_t size, uint64_t depth,
                      uint64_t seed)
{
    uint64_t resp_size = options_resp_size(c->options, size);
    int rc = worker_init_size(w, size, resp_size, depth, seed);
    if (rc != 0) {
        say_error("no memory for %llu messages of %llu bytes", (unsigned long long)depth,
                  (unsigned long long)size);
        return TOOL_ERRORS;
    }
    for (uint32_t i = 0; i < w->n_sessions && c->options->contents == CONTENTS_OWN; i++) {
        struct proto_req req = {.op = PROTO_START,
                                .flags = flags_of(c->options),
                                .size = size,
                                .resp_size = resp_size,
                                .seed = seed};
        struct proto_resp resp;
        rc = control(c, w->sessions[i], &req, &resp);
        if (rc != TOOL_OK) {
            return rc;
        }
        if (is_first_session(c, w, i)) {
            c->server_cpu_start = resp.cpu_ns;
            atomic_store(&c->server_messages, 0);
        }
    }
    return TOOL_OK;
}

/* Asks the server what it saw: wrong contents, lost or repeated messages are errors of the run. */
static int stop_size(struct client *c, struct worker *w, uint64_t expected)
{
    if (c->options->contents != CONTENTS_OWN) {
        return TOOL_OK;
    }
    for (unsigned attempt = 0;; attempt++) {
        uint64_t received = 0, wrong = 0;
        for (uint32_t i = 0; i < w->n_sessions; i++) {
            struct proto_req req = {.op = PROTO_STOP};
            struct proto_resp resp;
            int rc = control(c, w->sessions[i], &req, &resp);
            if (rc != TOOL_OK) {
                return rc;
            }
            received += resp.received;
            wrong += resp.wrong;
            if (attempt == 0 && is_first_session(c, w, i)) {
                c->server_cpu_end = resp.cpu_ns;
            }
        }
        bool settled = received >= expected || w->errors != 0;
        if (!settled && attempt < COUNT_RETRIES) {
            nanosleep(&(struct timespec){.tv_nsec = 10 * (long)NS_PER_MS}, NULL);
            continue;
        }
        if (wrong != 0) {
            say_error("%llu messages arrived with wrong contents", (unsigned long long)wrong);
        }
        if (w->errors == 0 && received != expected) {
            say_error("%llu messages sent, %llu executed", (unsigned long long)expected,
                      (unsigned long long)received);
            w->errors += received > expected ? received - expected : expected - received;
        }
        w->errors += wrong;
        atomic_fetch_add(&c->server_messages, received);
        return TOOL_OK;
    }
}

static struct run measured_run(const struct client *c, uint64_t size)
{
    const struct options *o = c->options;
    uint64_t iterations = options_iterations(o, size);
    return (struct run){
        .n_posts = iterations != 0 ? iterations : UINT64_MAX,
        .duration_ns = iterations != 0 ? UINT64_MAX : (uint64_t)(o->duration_s * 1e9),
        .rate = o->rate / (double)o->threads,
    };
}

static struct run warm_up_run(const struct client *c, const struct run *run, uint64_t depth)
{
    uint64_t n = run->n_posts == UINT64_MAX ? 5000 : run->n_posts / 10;
    n = n < 2 * depth && c->options->rate == 0 ? 2 * depth : n;
    return (struct run){
        .n_posts = n > 10000 + 2 * depth ? 10000 + 2 * depth : n,
        .duration_ns = WARM_UP_MS * NS_PER_MS,
        .rate = run->rate,
    };
}

static double cpu_now(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void run_failed(struct client *c, const struct worker *w)
{
    say_error("run ended: %s", creds_error(c->ctx, w->fatal));
    fail(c, TOOL_ERRORS);
}

/* The barrier for threads that others may have to wait for long: an endpoint that nobody polls does
 * not acknowledge what it got, and its sessions are dead to their peers after two seconds. */
static void gather(struct client *c, struct worker *w)
{
    unsigned long long n = c->options->threads;
    unsigned long long all = (atomic_fetch_add(&c->n_gathered, 1) / n + 1) * n;
    while (atomic_load(&c->n_gathered) < all) {
        worker_idle(w);
    }
    pthread_barrier_wait(&c->barrier);
}

/* One size in one thread. All threads pass the same barriers whatever happens to one of them. */
static void measure(struct client *c, struct worker *w, unsigned index, uint64_t size)
{
    uint64_t depth = options_depth(c->options, size);
    struct run run = measured_run(c, size);
    struct run warm_up = warm_up_run(c, &run, depth);
    uint64_t seed = ((uint64_t)index << 56) + size * UINT64_C(0x100000001b3);
    int rc = start_size(c, w, size, depth, seed);
    uint64_t executed = 0;
    if (rc == TOOL_OK && warm_up.n_posts > 0) {
        if (worker_run(w, &warm_up) != 0) {
            run_failed(c, w);
        }
        executed = w->done;
    }
    uint64_t warm_up_errors = w->errors;
    gather(c, w);
    if (index == 0) {
        c->cpu_start = cpu_now();
    }
    if (rc == TOOL_OK && w->fatal == 0) {
        w->show_progress = index == 0 && progress_wanted();
        if (worker_run(w, &run) != 0) {
            run_failed(c, w);
        }
        executed += w->done;
        w->errors += warm_up_errors;
    }
    gather(c, w);
    if (index == 0) {
        c->cpu_s = cpu_now() - c->cpu_start;
    }
    if (rc == TOOL_OK && w->fatal == 0) {
        rc = stop_size(c, w, executed);
    }
    if (rc != TOOL_OK) {
        fail(c, TOOL_ERRORS);
    }
    pthread_barrier_wait(&c->barrier);
}

/* Thread 0: what all threads saw becomes one row. */
static void merge(struct client *c, uint64_t size)
{
    const struct options *o = c->options;
    struct result *x = &c->result;
    uint64_t start = UINT64_MAX, end = 0;
    int error = 0;
    memset(x, 0, sizeof(*x));
    hist_reset(&x->hist);
    x->size = size;
    x->resp_size = options_resp_size(o, size);
    x->depth = options_depth(o, size);
    x->sessions = o->sessions;
    x->threads = o->threads;
    x->cpu_s = c->cpu_s;
    x->server_cpu_ns = c->server_cpu_end - c->server_cpu_start;
    x->server_messages = atomic_load(&c->server_messages);
    for (unsigned i = 0; i < o->threads; i++) {
        const struct worker *w = &c->workers[i];
        start = w->start_ns < start ? w->start_ns : start;
        end = w->end_ns > end ? w->end_ns : end;
        x->errors += w->errors;
        error = error != 0 ? error : w->first_error;
        hist_merge(&x->hist, &w->hist);
    }
    x->iterations = x->hist.count;
    x->seconds = (double)(end - start) / 1e9;
    if (report_add(&c->report, x) != 0) {
        say_error("out of memory");
        fail(c, TOOL_ERRORS);
    }
    if (x->errors != 0) {
        say_error("%llu errors at %llu bytes%s%s", (unsigned long long)x->errors,
                  (unsigned long long)size, error != 0 ? ", first: " : "",
                  error != 0 ? smt_strerror(error) : "");
        fail(c, TOOL_ERRORS);
    }
}

static uint64_t size_after(uint64_t size)
{
    return size == 0 ? 1 : size * 2;
}

static void run_sizes(struct client *c, unsigned index)
{
    struct worker *w = &c->workers[index];
    for (uint64_t size = c->options->min_size; size <= c->options->max_size;
         size = size_after(size)) {
        measure(c, w, index, size);
        if (index == 0) {
            bool lost = atomic_load(&c->exit_code) != TOOL_OK;
            if (!lost) {
                merge(c, size);
            }
            c->stop = lost || bench_stop;
        }
        pthread_barrier_wait(&c->barrier);
        if (w->fatal == 0) {
            worker_fini_size(w);
        }
        if (c->stop) {
            return;
        }
    }
}

/* Who sealed what this worker sent. */
static void note_sealing(struct client *c, const struct worker *w)
{
    enum { MAX_COUNTERS = 256 };
    struct smt_counter counters[MAX_COUNTERS];
    int n = smt_ep_counters(w->ep, counters, MAX_COUNTERS);
    for (int i = 0; i < n && i < MAX_COUNTERS; i++) {
        for (unsigned k = 0; k < N_SEALED; k++) {
            if (strcmp(counters[i].name, sealed_names[k]) == 0) {
                atomic_fetch_add(&c->sealed[k], counters[i].value);
            }
        }
    }
}

static void close_worker(struct client *c, struct worker *w)
{
    if (w->ep != NULL) {
        note_sealing(c, w);
        if (w->fatal == 0 && atomic_load(&c->exit_code) == TOOL_OK) {
            int rc = smt_ep_drain(w->ep, deadline_ns(c));
            if (rc != 0) {
                say_error("closing: %s", smt_strerror(rc));
                fail(c, TOOL_ERRORS);
            }
        }
        int rc = smt_ep_close(w->ep);
        if (rc != 0) {
            say_error("closing: %s", smt_strerror(rc));
            fail(c, TOOL_ERRORS);
        }
    }
    worker_fini_size(w); /* after the endpoint: buffers may have been in flight */
    free(w->sessions);
}

static void *thread_main(void *arg)
{
    struct client_thread *t = arg;
    struct client *c = t->client;
    struct worker *w = &c->workers[t->index];
    bench_pin_cpu(c->options, t->index);
    int rc = t->index == 0 ? TOOL_OK : open_endpoint(c, w, t->index);
    rc = rc == TOOL_OK ? add_all_sessions(c, w, t->index) : rc;
    if (rc != TOOL_OK) {
        fail(c, rc);
    }
    pthread_barrier_wait(&c->barrier);
    if (atomic_load(&c->exit_code) == TOOL_OK) {
        pthread_barrier_wait(&c->barrier); /* nobody starts while another still reads the code */
        run_sizes(c, t->index);
    }
    if (t->index != 0) {
        close_worker(c, w);
    }
    return NULL;
}

/* The first session: it brings the server's ports, and the banner can be printed. */
static int say_hello(struct client *c)
{
    struct proto_resp resp;
    int rc = open_endpoint(c, &c->workers[0], 0);
    rc = rc == TOOL_OK ? add_session(c, &c->workers[0], 0, &resp) : rc;
    if (rc != TOOL_OK) {
        return rc;
    }
    if (resp.n_ports == 0) {
        say_error("server announces no port");
        return TOOL_CONNECTION;
    }
    memcpy(c->ports, resp.ports, sizeof(c->ports));
    c->n_ports = resp.n_ports;
    struct smt_session_info info = {.size = sizeof(info)};
    int error = smt_session_get_info(c->workers[0].sessions[0], &info);
    if (error != 0) {
        say_error("session: %s", creds_error(c->ctx, error));
        return TOOL_CONNECTION;
    }
    report_banner(&c->report, &info);
    return TOOL_OK;
}

static void run_threads(struct client *c)
{
    struct client_thread threads[BENCH_MAX_THREADS];
    unsigned n = (unsigned)c->options->threads;
    if (pthread_barrier_init(&c->barrier, NULL, n) != 0) {
        say_error("cannot make a barrier");
        fail(c, TOOL_ERRORS);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        threads[i] = (struct client_thread){.client = c, .index = i};
        if (i > 0 && pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]) != 0) {
            /* The others wait at a barrier that can no longer be complete. */
            say_error("cannot start thread %u", i);
            exit(TOOL_ERRORS);
        }
    }
    thread_main(&threads[0]);
    for (unsigned i = 1; i < n; i++) {
        pthread_join(threads[i].thread, NULL);
    }
    pthread_barrier_destroy(&c->barrier);
}

static void say_bye(struct client *c)
{
    struct worker *w = &c->workers[0];
    struct smt_session_info info = {.size = sizeof(info)};
    if (w->n_sessions > 0 && smt_session_get_info(w->sessions[0], &info) == 0) {
        memcpy(c->report.sealing, info.sealing, sizeof(c->report.sealing));
    }
    if (w->n_sessions == 0 || w->fatal != 0 || c->options->contents != CONTENTS_OWN ||
        atomic_load(&c->exit_code) == TOOL_CONNECTION) {
        return;
    }
    struct proto_req req = {.op = PROTO_BYE};
    struct proto_resp resp;
    if (control(c, w->sessions[0], &req, &resp) != TOOL_OK) {
        fail(c, TOOL_ERRORS);
    }
}

static int alloc_workers(struct client *c)
{
    c->workers = calloc(c->options->threads, sizeof(c->workers[0]));
    if (c->workers == NULL) {
        return -1;
    }
    for (unsigned i = 0; i < c->options->threads; i++) {
        struct worker *w = &c->workers[i];
        *w = (struct worker){.options = c->options, .ctx = c->ctx};
        w->sessions = calloc(c->options->sessions, sizeof(w->sessions[0]));
        if (w->sessions == NULL) {
            return -1;
        }
    }
    return 0;
}

int bench_client(const struct options *o, struct smt_ctx *ctx)
{
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        say_error("out of memory");
        return TOOL_ERRORS;
    }
    c->options = o;
    c->ctx = ctx;
    /* A resolver that does not answer must not outlast the deadline. */
    setenv("RES_OPTIONS", "timeout:1 attempts:2", 0);
    int rc = split_host(c);
    rc = rc == TOOL_OK ? report_open(&c->report, o) : rc;
    if (rc != TOOL_OK) {
        free(c);
        return rc;
    }
    if (alloc_workers(c) != 0) {
        say_error("out of memory");
        free(c);
        return TOOL_ERRORS;
    }
    bench_pin_cpu(o, 0);
    rc = say_hello(c);
    if (rc == TOOL_OK) {
        run_threads(c);
        say_bye(c);
    } else {
        fail(c, rc);
    }
    close_worker(c, &c->workers[0]);
    for (unsigned i = 1; i < o->threads && rc != TOOL_OK; i++) {
        free(c->workers[i].sessions);
    }
    if (bench_stop) {
        say_error("interrupted");
        fail(c, TOOL_ERRORS);
    }
    for (unsigned k = 0; k < N_SEALED; k++) {
        c->report.sealed[k] = atomic_load(&c->sealed[k]);
    }
    rc = report_close(&c->report);
    int first = atomic_load(&c->exit_code);
    free(c->workers);
    free(c);
    return first != TOOL_OK ? first : rc;
}
