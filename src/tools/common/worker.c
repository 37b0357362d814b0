/* The hot loop. One clock read per poll that brought something: completions are stamped with it
 * and so are the posts that follow, so at depth 1 a round trip costs one read. Nothing is
 * allocated; slots are a stack, so few buffers stay in use and warm. */
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "clock.h"
#include "pattern.h"
#include "progress.h"
#include "proto.h"

enum {
    BATCH = 64,
    IDLE_POLLS_PER_CLOCK = 1024, /* a peer's silence is looked at so often */
    WAIT_MS = 100,               /* longest sleep with -e, so that a signal is seen */
};

int worker_init_size(struct worker *w, uint64_t size, uint64_t resp_size, uint64_t depth,
                     uint64_t seed)
{
    uint64_t n_bufs = w->options->verify ? depth : 1;
    if (size != 0 && n_bufs > (UINT64_C(1) << 36) / size) {
        return SMT_ENOMEM;
    }
    w->size = size;
    w->resp_size = resp_size;
    w->n_slots = w->n_free = (uint32_t)depth;
    w->next_seed = seed;
    w->slots = calloc(depth, sizeof(w->slots[0]));
    w->free_slots = calloc(depth, sizeof(w->free_slots[0]));
    w->buf = smt_buf_alloc(w->ctx, size != 0 ? size * n_bufs : 1);
    if (w->slots == NULL || w->free_slots == NULL || w->buf == NULL) {
        worker_fini_size(w);
        return SMT_ENOMEM;
    }
    if (w->options->contents == CONTENTS_OWN) {
        pattern_fill(w->buf, size, seed);
    } else {
        contents_fill(w->options->contents, w->buf, size, (uint32_t)resp_size);
    }
    for (uint32_t i = 0; i < depth; i++) {
        w->slots[i].buf = w->buf + (n_bufs > 1 ? i * size : 0);
        w->free_slots[i] = (uint32_t)depth - 1 - i;
    }
    return 0;
}

void worker_fini_size(struct worker *w)
{
    free(w->slots);
    free(w->free_slots);
    smt_buf_free(w->ctx, w->buf);
    w->slots = NULL;
    w->free_slots = NULL;
    w->buf = NULL;
}

static int post(struct worker *w, uint64_t stamp)
{
    uint32_t index = w->free_slots[w->n_free - 1];
    struct slot *slot = &w->slots[index];
    if (w->options->verify) {
        slot->seed = w->size >= PATTERN_SEED_LEN ? w->next_seed++ : w->next_seed;
        pattern_fill(slot->buf, w->size, slot->seed);
    }
    struct smt_iov iov = {.base = slot->buf, .len = w->size};
    struct smt_call_args args = {
        .size = sizeof(args), .iov = &iov, .n_iov = w->size != 0, .user = slot};
    struct smt_session *session = w->sessions[w->next_session];
    int rc = w->options->one_way ? smt_send(session, &args, NULL) : smt_call(session, &args, NULL);
    if (rc < 0) {
        return rc;
    }
    slot->posted_ns = stamp;
    w->n_free--;
    w->posted++;
    w->next_session = w->next_session + 1 == w->n_sessions ? 0 : w->next_session + 1;
    return 0;
}

static void finish(struct worker *w, const struct smt_event *event, uint64_t now)
{
    struct slot *slot = event->user;
    w->free_slots[w->n_free++] = (uint32_t)(slot - w->slots);
    w->done++;
    hist_add(&w->hist, now > slot->posted_ns ? now - slot->posted_ns : 0);
}

static void take_response(struct worker *w, const struct smt_event *event, uint64_t now)
{
    const struct slot *slot = event->user;
    bool good = event->len == w->resp_size;
    if (good && w->options->verify) {
        good = w->resp_size == w->size ? memcmp(event->data, slot->buf, w->size) == 0
                                       : pattern_check(event->data, event->len, proto_resp_seed);
    }
    w->errors += !good;
    if (!good && w->first_error == 0) {
        w->first_error = SMT_EMALFORMED;
    }
    smt_release(event->msg);
    finish(w, event, now);
}

static void take_event(struct worker *w, const struct smt_event *event, uint64_t now)
{
    bool ends_call = event->type == SMT_EV_RESPONSE || event->type == SMT_EV_SENT ||
                     event->type == SMT_EV_FAILED;
    if (ends_call && event->user == NULL) {
        if (event->msg != NULL) {
            smt_release(event->msg); /* a parameter exchange that came too late */
        }
        return;
    }
    switch (event->type) {
    case SMT_EV_RESPONSE:
        take_response(w, event, now);
        break;
    case SMT_EV_SENT:
        finish(w, event, now);
        break;
    case SMT_EV_FAILED: {
        struct slot *slot = event->user;
        w->free_slots[w->n_free++] = (uint32_t)(slot - w->slots);
        w->done++;
        w->errors++;
        w->first_error = w->first_error == 0 ? event->error : w->first_error;
        break;
    }
    case SMT_EV_INCOMING:
        if (smt_accept(event->msg, NULL, 0) != 0) {
            w->fatal = SMT_ENOMEM;
        }
        break;
    case SMT_EV_SESSION_DOWN:
        w->fatal = event->error != 0 ? event->error : SMT_ECLOSED;
        break;
    case SMT_EV_REQUEST:
    case SMT_EV_MESSAGE:
        smt_release(event->msg); /* a server never calls us */
        break;
    default:
        bench_device_event(event);
        break;
    }
}

static void tell_progress(const struct worker *w, const struct run *run, uint64_t now)
{
    double ran = (double)(now - w->start_ns) / 1e9;
    double share = run->n_posts != UINT64_MAX
                       ? (double)w->done / (double)run->n_posts
                       : ran * 1e9 / (double)run->duration_ns;
    progress_show(now, "%llu bytes: %3.0f %%, %.0f RPC/s", (unsigned long long)w->size,
                  100 * (share > 1 ? 1 : share), ran > 0 ? (double)w->done / ran : 0);
}

/* Posts all that is due; returns when the next one is (UINT64_MAX: after a completion). */
static uint64_t post_due(struct worker *w, const struct run *run, uint64_t now, uint64_t stop_at)
{
    while (w->n_free > 0 && w->posted < stop_at) {
        uint64_t stamp = now;
        if (run->rate > 0) {
            stamp = w->start_ns + (uint64_t)((double)w->posted * 1e9 / run->rate);
            if (stamp > now) {
                return stamp;
            }
        }
        int rc = post(w, stamp);
        if (rc == SMT_EAGAIN) {
            return UINT64_MAX; /* completions and WRITABLE come by poll */
        }
        if (rc < 0) {
            w->fatal = rc;
            return UINT64_MAX;
        }
    }
    return UINT64_MAX;
}

static void sleep_until(struct worker *w, uint64_t now, uint64_t due)
{
    uint64_t most = WAIT_MS * NS_PER_MS;
    uint64_t left = due == UINT64_MAX ? most : due > now ? due - now : 0;
    if (left == 0) {
        return;
    }
    int rc = smt_wait(w->ep, left < most ? left : most);
    if (rc < 0 && rc != SMT_EBUSY && rc != SMT_ETIMEDOUT) {
        w->fatal = rc;
    }
}

void worker_idle(struct worker *w)
{
    struct smt_event events[BATCH];
    int n = w->fatal == 0 ? smt_poll(w->ep, events, BATCH) : w->fatal;
    for (int i = 0; i < n; i++) {
        take_event(w, &events[i], clock_now());
    }
    if (n == 0) {
        n = smt_wait(w->ep, NS_PER_MS);
    }
    if (n < 0 && n != SMT_EBUSY && n != SMT_ETIMEDOUT) {
        const struct timespec pause = {.tv_nsec = NS_PER_MS};
        nanosleep(&pause, NULL);
    }
}

int worker_run(struct worker *w, const struct run *run)
{
    struct smt_event events[BATCH];
    const bool sleeps = w->options->events;
    const bool needs_clock = run->rate > 0 || sleeps;
    const uint64_t silence = (uint64_t)(w->options->deadline_s * 1e9);
    uint64_t now = clock_now();
    uint64_t end = run->duration_ns == UINT64_MAX ? UINT64_MAX : now + run->duration_ns;
    uint64_t stop_at = run->n_posts;
    uint64_t last_done = now;
    uint32_t idle = 0;
    w->posted = w->done = w->errors = 0;
    w->first_error = 0;
    w->start_ns = now;
    hist_reset(&w->hist);
    while (w->fatal == 0) {
        uint64_t due = post_due(w, run, now, stop_at);
        int n = smt_poll(w->ep, events, BATCH);
        if (n > 0) {
            now = clock_now();
            last_done = now;
            idle = 0;
            for (int i = 0; i < n; i++) {
                take_event(w, &events[i], now);
            }
        } else if (n < 0) {
            w->fatal = n;
        } else if (needs_clock || ++idle >= IDLE_POLLS_PER_CLOCK) {
            idle = 0;
            now = clock_now();
            if (w->done == w->posted) {
                last_done = now;
            } else if (now - last_done > silence) {
                w->fatal = SMT_ETIMEDOUT;
            }
            if (sleeps) {
                sleep_until(w, now, due < end ? due : end);
                now = clock_now();
            }
        }
        if (now >= end || bench_stop) {
            stop_at = w->posted;
        }
        if (w->done == w->posted && w->posted >= stop_at) {
            break;
        }
        if (w->show_progress) {
            tell_progress(w, run, now);
        }
    }
    w->end_ns = now;
    return w->fatal;
}
