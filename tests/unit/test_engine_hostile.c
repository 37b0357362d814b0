/* A peer that holds the keys and means harm: authentic records with any contents. The engine may
 * end what the peer started, or the session; it may not crash, leak, take more memory than it
 * allowed, or hang. Run under sanitizers this is the test of every check behind the tag.
 * SMT_SIM_SEED runs one seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hand.h"
#include "simnet.h"

enum { PACKETS = 4000, MAX_HELD = 64 };

struct hostile {
    struct hand *h;
    struct smt_prng rng;
    struct smt_rpc *requests[MAX_HELD]; /* not yet replied to */
    unsigned n_requests;
    uint64_t next_id, last_posted;
    uint8_t lent[200000];
};

static uint64_t below(struct hostile *x, uint64_t n)
{
    return smt_prng_below(&x->rng, n);
}

/* Mostly near what exists, sometimes anywhere. */
static uint64_t any_id(struct hostile *x)
{
    switch (below(x, 8)) {
    case 0:
        return smt_prng_next64(&x->rng) & SMT_ID_MASK;
    case 1:
        return below(x, 3);
    case 2:
        return (x->next_id + below(x, 5000)) & SMT_ID_MASK;
    case 3:
    case 4:
        return 1 + below(x, x->last_posted + 3);
    default:
        return x->next_id - below(x, x->next_id < 20 ? x->next_id : 20);
    }
}

static uint32_t any_number(struct hostile *x)
{
    static const uint32_t edges[] = {0,          1,
                                     2,          1000,
                                     10000,      65535,
                                     1 << 20,    (1 << 30) - 1,
                                     1 << 30,    (1u << 30) + 1,
                                     0x7fffffff, 0x80000000,
                                     0xfffffffe, 0xffffffff};
    switch (below(x, 4)) {
    case 0:
        return edges[below(x, SMT_ARRAY_LEN(edges))];
    case 1:
        return (uint32_t)smt_prng_next64(&x->rng);
    default:
        return (uint32_t)below(x, 1 << (1 + below(x, 20)));
    }
}

static struct smt_frame any_frame(struct hostile *x)
{
    static const uint8_t types[] = {
        SMT_FRAME_PAD,           SMT_FRAME_PING,    SMT_FRAME_PONG,      SMT_FRAME_MARK,
        SMT_FRAME_SEEN,          SMT_FRAME_PROBE,   SMT_FRAME_PROBE_ACK, SMT_FRAME_PATH_CHALLENGE,
        SMT_FRAME_PATH_RESPONSE, SMT_FRAME_GRANT,   SMT_FRAME_RESEND,    SMT_FRAME_UNKNOWN,
        SMT_FRAME_BUSY,          SMT_FRAME_CUTOFFS, SMT_FRAME_NEED_ACK,  SMT_FRAME_ACK,
        SMT_FRAME_ABORT,         SMT_FRAME_DONE,    SMT_FRAME_CREDIT};
    struct smt_frame f = {.type = types[below(x, sizeof(types))],
                          .prio = (uint8_t)any_number(x),
                          .flags = (uint8_t)any_number(x),
                          .code = (uint16_t)any_number(x),
                          .token = smt_prng_next64(&x->rng),
                          .offset = any_number(x),
                          .length = any_number(x),
                          .seq = any_number(x),
                          .packets = any_number(x),
                          .bytes = any_number(x),
                          .ce = any_number(x),
                          .bitmap = smt_prng_next64(&x->rng)};
    f.id = any_id(x) | (below(x, 2) == 0 ? SMT_ID_ROLE : 0);
    f.low_water = below(x, 3) == 0 ? any_number(x) : any_id(x);
    if (f.type == SMT_FRAME_CREDIT && below(x, 2) == 0) {
        f.length = 4096;
        f.low_water = 1 << 26;
    }
    for (unsigned i = 0; i < 7; i++)
        f.cutoffs[i] = any_number(x);
    return f;
}

static void send_frames(struct hostile *x)
{
    struct smt_frame frames[8];
    unsigned n = 1 + (unsigned)below(x, SMT_ARRAY_LEN(frames));
    for (unsigned i = 0; i < n; i++)
        frames[i] = any_frame(x);
    hand_frames(x->h, frames, n);
}

/* Bytes as they come, or a good run of frames with a broken one in it. */
static void send_ctrl_noise(struct hostile *x)
{
    uint8_t plain[1300];
    size_t len = below(x, sizeof(plain) - 100);
    smt_prng_bytes(&x->rng, plain, len);
    if (below(x, 2) == 0) {
        struct smt_frame f = any_frame(x);
        len = smt_frame_encode(&f, plain, sizeof(plain));
        len += below(x, 20);
    }
    if (len > 0 && plain[0] == SMT_FRAME_CLOSE)
        plain[0] = SMT_FRAME_PING;
    /* A CLOSE anywhere inside is legal and only makes the run shorter. */
    hand_ctrl(x->h, plain, len);
}

static void send_data(struct hostile *x)
{
    static const uint8_t kinds[] = {SMT_WHAT_REQUEST, SMT_WHAT_REQUEST, SMT_WHAT_RESPONSE,
                                    SMT_WHAT_ONEWAY, SMT_WHAT_TEST};
    struct smt_frame frames[3];
    struct hand_data d = {.what = (enum smt_what)kinds[below(x, sizeof(kinds))],
                          .offset = any_number(x),
                          .len = (uint32_t)below(x, 1000),
                          .message_len = any_number(x),
                          .unsched = any_number(x),
                          .low_water = below(x, 20) == 0 ? any_id(x) : 1,
                          .done = below(x, 20) == 0 ? smt_prng_next64(&x->rng) : 0,
                          .flags = (uint8_t)(below(x, 4) == 0 ? any_number(x) : 0)};
    d.id = below(x, 3) == 0 ? any_id(x) : x->next_id++;
    if (d.what == SMT_WHAT_RESPONSE && x->last_posted > 0)
        d.id = 1 + below(x, x->last_posted);
    if ((d.what == SMT_WHAT_RESPONSE) != (below(x, 20) == 0))
        d.id |= SMT_ID_ROLE;
    if (below(x, 2) == 0)
        d.message_len = (uint32_t)below(x, 100000);
    if (below(x, 2) == 0)
        d.offset = 0;
    if (below(x, 4) == 0)
        d.message_len = d.len;
    d.n_frames = (unsigned)(below(x, 4) == 0 ? below(x, 4) : 0);
    for (unsigned i = 0; i < d.n_frames; i++)
        frames[i] = any_frame(x);
    d.frames = frames;
    hand_data(x->h, d);
}

/* The engine's user: takes, replies, refuses, posts, cancels. */
static void user(struct hostile *x)
{
    struct hand *h = x->h;
    for (unsigned i = 0; i < h->n_events; i++) {
        const struct smt_engine_event *ev = &h->events[i];
        switch (ev->type) {
        case SMT_EE_REQUEST:
        case SMT_EE_MESSAGE:
        case SMT_EE_RESPONSE: {
            /* Reads them all: a sanitizer says if they are not there. */
            volatile uint8_t sum = 0;
            for (size_t k = 0; k < ev->len; k += 61)
                sum += ((uint8_t *)ev->data)[k];
            (void)sum;
            if (ev->rpc != NULL)
                smt_rpc_release(ev->rpc);
            if (ev->type != SMT_EE_REQUEST)
                break;
            if (x->n_requests == MAX_HELD) {
                assert_int_equal(smt_rpc_reject(x->requests[0]), 0);
                x->requests[0] = x->requests[--x->n_requests];
            }
            x->requests[x->n_requests++] = ev->rpc;
            break;
        }
        case SMT_EE_INCOMING: {
            /* Accepting is consent to any length: only within our limit. */
            bool accept = ev->len <= 1 << 20 && below(x, 2) == 0;
            int err = accept ? smt_rpc_accept(ev->rpc, NULL, 0) : smt_rpc_reject(ev->rpc);
            if (err == SMT_ENOMEM)
                err = smt_rpc_reject(ev->rpc);
            assert_true(err == 0 || err == SMT_ECLOSED || err == SMT_ESTATE);
            break;
        }
        default:
            break;
        }
    }
    hand_clear(h);
    if (x->n_requests > 0 && below(x, 2) == 0) {
        unsigned i = (unsigned)below(x, x->n_requests);
        struct smt_post_iov iov = {x->lent, below(x, sizeof(x->lent))};
        int err = smt_rpc_reply(x->requests[i], &iov, 1, x);
        assert_true(err == 0 || err == SMT_EMSGSIZE);
        x->requests[i] = x->requests[--x->n_requests];
    }
    if (h->conn != NULL && below(x, 4) == 0) {
        struct smt_post_iov iov = {x->lent, below(x, sizeof(x->lent))};
        struct smt_post post = {.iov = &iov, .n_iov = 1, .one_way = below(x, 3) == 0};
        uint64_t id;
        if (smt_conn_post(h->conn, &post, &id) == 0)
            x->last_posted = id;
        if (x->last_posted > 0 && below(x, 4) == 0) {
            int err = smt_conn_cancel(h->conn, 1 + below(x, x->last_posted));
            assert_true(err == 0 || err == SMT_EINVAL);
        }
    }
    hand_run(h);
}

static void hostile_run(uint64_t seed, bool hand_is_initiator)
{
    struct hostile *x = calloc(1, sizeof(*x));
    assert_non_null(x);
    smt_prng_seed(&x->rng, seed);
    x->next_id = 1;
    x->h = hand_new(hand_is_initiator);
    struct hand *h = x->h;
    h->config.max_conn_bytes = 1 << 20;
    h->config.max_bytes = 1 << 21;
    h->config.accept_len = 100000;
    h->config.max_open_rpcs = 100;
    hand_connect(h);
    h->polite = below(x, 2) == 0;
    for (unsigned i = 0; i < PACKETS && h->conn != NULL; i++) {
        switch (below(x, 8)) {
        case 0:
        case 1:
        case 2:
            send_frames(x);
            break;
        case 3:
            if (below(x, 8) == 0)
                send_ctrl_noise(x);
            break;
        default:
            send_data(x);
            break;
        }
        if (below(x, 20) == 0)
            hand_sleep(h, below(x, 20 * SMT_MSEC));
        user(x);
        if (smt_engine_memory(h->e) > 100u << 20)
            fail_msg("seed %llu: %llu bytes of memory", (unsigned long long)seed,
                     (unsigned long long)smt_engine_memory(h->e));
    }
    hand_free(h);
    free(x);
}

static void any_authentic_bytes_are_survived(void **state)
{
    uint64_t first = sim_seed(0);
    uint64_t n = first != 0 ? 1 : sim_scaled(40);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t seed = first != 0 ? first : 100 + i;
        if (n == 1)
            fprintf(stderr, "    seed %llu\n", (unsigned long long)seed);
        hostile_run(seed, seed % 2 == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_authentic_bytes_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
