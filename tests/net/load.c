/* Traffic that checks itself; see load.h. */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api.h"
#include "core/engine.h"

enum { BATCH = 64 };

/* Tags: the end that called, whether it is the response, then the call's index; a response to a
 * request that has no tag is known by that request's length. */
#define TAG_SIDE 56
#define TAG_RESPONSE (1ull << 48)
#define TAG_SHORT (1ull << 47)
#define TAG_INDEX 0xffffffffull

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15ull;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9ull;
    return x ^ x >> 32;
}

static inline uint64_t word_of(uint64_t base, uint64_t i)
{
    uint64_t x = base + i * 0x9e3779b97f4a7c15ull;
    return (x ^ x >> 29) * 0xbf58476d1ce4e5b9ull;
}

void load_fill(uint64_t seed, uint64_t tag, uint8_t *p, size_t len)
{
    uint64_t base = mix(seed ^ mix(tag));
    uint64_t w = tag;
    for (size_t at = 0; at < len; at += 8) {
        memcpy(p + at, &w, len - at < 8 ? len - at : 8);
        w = word_of(base, at / 8 + 1);
    }
}

void load_expect(uint64_t seed, uint64_t tag, const uint8_t *p, size_t len)
{
    uint64_t base = mix(seed ^ mix(tag));
    uint64_t want = tag, wrong = 0;
    size_t at;
    for (at = 0; at + 8 <= len; at += 8) {
        uint64_t got;
        memcpy(&got, p + at, 8);
        wrong |= got ^ want;
        want = word_of(base, at / 8 + 1);
    }
    if (wrong != 0 || memcmp(p + at, &want, len - at) != 0)
        fail_msg("message %016" PRIx64 " of %zu bytes: contents differ", tag, len);
}

static uint32_t log_uniform(uint64_t x, uint32_t max)
{
    unsigned bits = 0;
    while ((1u << bits) < max)
        bits++;
    unsigned of = (unsigned)(mix(x) % (bits + 2)); /* 0: empty */
    if (of == 0 || max == 0)
        return 0;
    uint32_t low = 1u << (of - 1);
    return of == bits + 1 ? max : low + (uint32_t)(mix(x + 1) % low);
}

static uint32_t len_of(const struct load *l, uint64_t tag)
{
    uint32_t max = tag & TAG_RESPONSE ? l->config.max_resp : l->config.max_len;
    return log_uniform(l->config.seed ^ mix(tag), max);
}

static uint64_t tag_of(unsigned side, uint32_t index)
{
    return (uint64_t)(side + 1) << TAG_SIDE | index;
}

/* The tag of the response to a request. */
static uint64_t tag_response(unsigned side, uint64_t request, uint32_t len)
{
    uint64_t who = (uint64_t)(side + 1) << TAG_SIDE | TAG_RESPONSE;
    return len < 8 ? who | TAG_SHORT | len : who | (request & TAG_INDEX);
}

void load_init(struct load *l, const struct load_config *config, const struct net_pair *pair,
               struct smt_session **sessions, unsigned n_sessions, struct smt_session **peers)
{
    *l = (struct load){.config = *config};
    for (unsigned i = 0; i < 2; i++) {
        struct load_side *s = &l->side[i];
        s->ep = i == 0 ? pair->client.ep : pair->server.ep;
        s->sessions = i == 0 ? sessions : peers;
        s->n_sessions = n_sessions;
        s->number = i;
        s->n_calls = i == 1 && config->one_sided ? 0 : config->n_calls;
        s->calls = calloc(s->n_calls + 1, sizeof(s->calls[0]));
        s->held = calloc(config->n_calls + 1, sizeof(struct smt_msg *));
        s->held_tags = calloc(config->n_calls + 1, sizeof(uint64_t));
        for (uint32_t k = 0; k < s->n_calls; k++) {
            uint64_t tag = tag_of(i, k);
            s->calls[k].is_one_way = mix(config->seed + tag) % 100 < config->one_way;
            s->calls[k].len = len_of(l, tag);
        }
    }
    l->holder = config->hold ? &l->side[1] : NULL;
}

void load_fini(struct load *l)
{
    for (unsigned i = 0; i < 2; i++) {
        free(l->side[i].calls);
        free(l->side[i].held);
        free(l->side[i].held_tags);
    }
}

/* Posts the next call. False: the session has no room. */
static bool post_one(struct load *l, struct load_side *s)
{
    struct load_call *c = &s->calls[s->n_posted];
    if (c->buf == NULL) {
        c->buf = malloc(c->len + 1);
        load_fill(l->config.seed, tag_of(s->number, s->n_posted), c->buf, c->len);
    }
    struct smt_iov iov[2] = {{c->buf, c->len / 3}, {c->buf + c->len / 3, c->len - c->len / 3}};
    struct smt_call_args args = {.size = sizeof(args), .iov = iov, .n_iov = 2, .user = c};
    struct smt_session *session = s->sessions[s->n_posted % s->n_sessions];
    int r = c->is_one_way ? smt_send(session, &args, NULL) : smt_call(session, &args, NULL);
    if (r == SMT_EAGAIN)
        return false;
    if (r < 0)
        fail_msg("post: %s", smt_error_name(r));
    if (c->len < 8)
        s->short_posted[c->len]++;
    s->n_posted++;
    if (s->n_posted - s->n_ended > s->max_in_flight)
        s->max_in_flight = s->n_posted - s->n_ended;
    return true;
}

static void side_post(struct load *l, struct load_side *s)
{
    while (!s->blocked && s->n_posted < s->n_calls && s->n_posted - s->n_ended < l->config.depth)
        s->blocked = !post_one(l, s);
}

/* Whether this end expected such a message, and which one it is. */
static uint64_t book_execution(struct load *l, struct load_side *s, const struct smt_event *ev,
                               bool is_one_way)
{
    struct load_side *caller = &l->side[1 - s->number];
    s->n_bytes += ev->len;
    if (ev->len < 8) {
        caller->short_executed[ev->len]++;
        return 0;
    }
    uint64_t tag;
    memcpy(&tag, ev->data, 8);
    uint32_t index = (uint32_t)(tag & TAG_INDEX);
    if (tag != tag_of(caller->number, index) || index >= caller->n_posted)
        fail_msg("a message with tag %016" PRIx64, tag);
    struct load_call *c = &caller->calls[index];
    assert_int_equal(ev->len, c->len);
    assert_int_equal(is_one_way, c->is_one_way);
    if (++c->n_executed != 1)
        fail_msg("call %" PRIu32 " executed twice", index);
    load_expect(l->config.seed, tag, ev->data, ev->len);
    return tag;
}

static void reply(struct load *l, struct load_side *s, struct smt_msg *msg, uint64_t tag)
{
    uint32_t len = len_of(l, tag);
    uint8_t *buf = malloc(len + 1);
    load_fill(l->config.seed, tag, buf, len);
    struct smt_iov iov = {buf, len};
    int r = smt_reply(msg, &iov, 1, buf);
    if (r < 0)
        fail_msg("reply: %s", smt_error_name(r));
    s->n_replies++;
    smt_release(msg);
}

static void on_request(struct load *l, struct load_side *s, const struct smt_event *ev)
{
    uint64_t tag = book_execution(l, s, ev, false);
    tag = tag_response(1 - s->number, tag, (uint32_t)ev->len);
    if (s != l->holder) {
        reply(l, s, ev->msg, tag);
        return;
    }
    s->held[s->n_held] = ev->msg;
    s->held_tags[s->n_held++] = tag;
}

/* Everything the client may have in flight lies here: answers all of it. */
static void held_answer(struct load *l)
{
    struct load_side *s = l->holder;
    if (s == NULL || s->n_held < l->config.depth)
        return;
    for (uint32_t i = 0; i < s->n_held; i++)
        reply(l, s, s->held[i], s->held_tags[i]);
    s->n_held = 0;
    l->holder = NULL;
}

static void call_end(struct load_side *s, struct load_call *c)
{
    if (++c->n_ended != 1)
        fail_msg("call %td of end %u ended twice", c - s->calls, s->number);
    s->n_ended++;
    free(c->buf);
    c->buf = NULL;
}

static void on_response(struct load *l, struct load_side *s, const struct smt_event *ev)
{
    struct load_call *c = ev->user;
    uint64_t tag = tag_of(s->number, (uint32_t)(c - s->calls));
    tag = tag_response(s->number, tag, c->len);
    assert_false(c->is_one_way);
    assert_int_equal(ev->len, len_of(l, tag));
    load_expect(l->config.seed, tag, ev->data, ev->len);
    s->n_bytes += ev->len;
    smt_release(ev->msg);
    call_end(s, c);
}

static void on_sent(struct load_side *s, const struct smt_event *ev)
{
    if (ev->call_id != 0) {
        call_end(s, ev->user);
        return;
    }
    free(ev->user);
    s->n_replies--;
}

static void on_event(struct load *l, struct load_side *s, const struct smt_event *ev)
{
    switch (ev->type) {
    case SMT_EV_REQUEST:
        on_request(l, s, ev);
        break;
    case SMT_EV_MESSAGE:
        (void)book_execution(l, s, ev, true);
        smt_release(ev->msg);
        break;
    case SMT_EV_RESPONSE:
        on_response(l, s, ev);
        break;
    case SMT_EV_SENT:
        on_sent(s, ev);
        break;
    case SMT_EV_WRITABLE:
        s->n_unblocks += s->blocked;
        s->blocked = false;
        break;
    default:
        fail_msg("end %u: event %d, %s", s->number, ev->type, smt_error_name(ev->error));
    }
}

static unsigned side_step(struct load *l, struct load_side *s)
{
    struct smt_event events[BATCH];
    int n = smt_poll(s->ep, events, BATCH);
    if (n < 0)
        fail_msg("poll: %s", smt_error_name(n));
    for (int i = 0; i < n; i++)
        on_event(l, s, &events[i]);
    side_post(l, s);
    return (unsigned)n;
}

static bool is_over(const struct load *l)
{
    const struct load_side *a = &l->side[0], *b = &l->side[1];
    return a->n_ended == a->n_calls && b->n_ended == b->n_calls && a->n_replies == 0 &&
           b->n_replies == 0;
}

static void idle_sleep(struct smt_ep *a, struct smt_ep *b)
{
    if (smt_arm(a) == 0 && smt_arm(b) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

bool load_step(struct load *l)
{
    unsigned n = side_step(l, &l->side[0]);
    n += side_step(l, &l->side[1]);
    held_answer(l);
    if (n == 0)
        idle_sleep(l->side[0].ep, l->side[1].ep);
    return is_over(l);
}

static void state_print(const struct load *l)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct load_side *s = &l->side[i];
        print_error("end %u: %u of %u calls posted, %u ended, %u replies lent%s\n", i, s->n_posted,
                    s->n_calls, s->n_ended, s->n_replies, s->blocked ? ", blocked" : "");
    }
}

void load_run(struct load *l, unsigned patience_s, void (*between)(void *arg), void *arg)
{
    uint64_t until = net_now() + patience_s * 1000000000ull * net_slow();
    for (unsigned i = 0; !load_step(l); i++) {
        if (between != NULL)
            between(arg);
        if (i % 64 == 0 && net_now() > until) {
            state_print(l);
            fail_msg("not done after %u s", patience_s);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        const struct load_side *s = &l->side[i];
        assert_memory_equal(s->short_posted, s->short_executed, sizeof(s->short_posted));
        for (uint32_t k = 0; k < s->n_calls; k++) {
            assert_int_equal(s->calls[k].n_ended, 1);
            assert_int_equal(s->calls[k].n_executed, s->calls[k].len >= 8);
        }
    }
}

void load_rest(struct net_pair *pair)
{
    uint64_t until = net_now() + 20000000000ull * net_slow();
    while (!smt_engine_is_at_rest(pair->client.ep->engine) ||
           !smt_engine_is_at_rest(pair->server.ep->engine)) {
        struct smt_event ev[BATCH];
        int n = smt_poll(pair->client.ep, ev, BATCH) + smt_poll(pair->server.ep, ev, BATCH);
        if (n != 0)
            fail_msg("event %d after the end", ev[0].type);
        if (net_now() > until)
            fail_msg("memory is not at rest");
        idle_sleep(pair->client.ep, pair->server.ep);
    }
}

uint64_t load_seed(uint64_t fallback)
{
    const char *text = getenv("SMT_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : fallback;
    printf("# SMT_TEST_SEED=%" PRIu64 "\n", seed);
    fflush(stdout);
    return seed;
}

uint32_t load_scale(uint32_t n)
{
    const char *text = getenv("SMT_TEST_SCALE");
#ifdef __SANITIZE_ADDRESS__
    unsigned long percent = 25;
#else
    unsigned long percent = 100;
#endif
    if (text != NULL)
        percent = strtoul(text, NULL, 10);
    uint64_t scaled = (uint64_t)n * percent / 100;
    return scaled > 0 ? (uint32_t)scaled : 1;
}
