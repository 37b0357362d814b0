/* Keys by another handshake beside the live session, in virtual time: whole endpoints with TLS on
 * the rig's network, whose packets are lost, repeated, late and out of order, and whose clock is
 * the test's. Calls go both ways all the while, some of them open across one change of keys or
 * more: each ends once, well, and ran once. Afterwards the old keys open nothing. */
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/api.h"
#include "base/bytes.h"
#include "wire/wire.h"

enum {
    MAX_JOBS = 16384,
    MAX_FLYING = 4096,
    MAX_HELD = 256,
    N_KEPT = 64, /* packets of the first keys, for later */
    WINDOW = 12, /* jobs of an end at once */
    MAX_LEN = 30000,
};
static const uint64_t step = 100 * SMT_USEC;

/* A call or a one-way message. */
struct job {
    uint8_t *bytes;
    uint32_t len, n_run, n_ended;
    uint8_t by; /* number of the end that began it */
    bool is_one_way;
};

struct flying {
    uint64_t at;
    struct rig_packet pkt;
};

/* A request whose reply waits. */
struct held {
    uint64_t at;
    struct smt_msg *msg;
    struct smt_iov iov;
};

struct world {
    struct rig rig;
    struct smt_session *session[2]; /* that new jobs of this end go by */
    struct job jobs[MAX_JOBS];
    uint32_t n_jobs, n_ended, n_open[2];
    struct flying *flying;
    uint32_t n_flying;
    struct held held[MAX_HELD];
    uint32_t n_held;
    struct rig_packet *kept;
    uint32_t n_kept;
    unsigned n_up[2], n_down[2];
    bool no_handshakes; /* none of their packets arrives */
    bool is_clean;      /* nothing is lost */
};

static struct world w;

/* ---- the network ---- */

static void fly(const struct rig_packet *p, uint64_t delay)
{
    assert_true(w.n_flying < MAX_FLYING);
    w.flying[w.n_flying++] = (struct flying){.at = rig_now + delay, .pkt = *p};
}

/* 5 % lost, 5 % twice, a fifth late. */
static bool wire_hook(struct rig *rig, struct rig_packet *p)
{
    bool is_handshake = p->len >= SMT_HS_HDR_LEN && p->data[13] == SMT_KIND_HANDSHAKE;
    uint64_t delay = 20 * SMT_USEC;
    if (!is_handshake && w.n_kept < N_KEPT && smt_addr_equal(&p->from, &rig->ends[0].addr))
        w.kept[w.n_kept++] = *p;
    if (w.no_handshakes && is_handshake)
        return false;
    if (!w.is_clean) {
        if (smt_prng_below(&rig->rng, 20) == 0)
            return false;
        if (smt_prng_below(&rig->rng, 5) == 0)
            delay += smt_prng_below(&rig->rng, SMT_MSEC);
        if (smt_prng_below(&rig->rng, 20) == 0)
            fly(p, delay + smt_prng_below(&rig->rng, 100 * SMT_MSEC));
    }
    fly(p, delay);
    return false;
}

static void wire_run(void)
{
    for (uint32_t i = 0; i < w.n_flying;) {
        struct flying *f = &w.flying[i];
        if (f->at > rig_now) {
            i++;
            continue;
        }
        rig_inject(&w.rig, &f->pkt.from, &f->pkt.to, f->pkt.data, f->pkt.len);
        *f = w.flying[--w.n_flying];
    }
}

/* ---- the applications ---- */

static struct job *job_of(const uint8_t *bytes, size_t len)
{
    assert_true(len >= 8);
    uint64_t tag = smt_get_be64(bytes);
    assert_true(tag < w.n_jobs);
    struct job *j = &w.jobs[tag];
    assert_int_equal(len, j->len);
    assert_memory_equal(bytes, j->bytes, len);
    return j;
}

static void job_end(struct job *j)
{
    j->n_ended++;
    assert_int_equal(j->n_ended, 1);
    w.n_ended++;
    w.n_open[j->by]--;
}

static void job_begin(unsigned by)
{
    assert_true(w.n_jobs < MAX_JOBS);
    struct job *j = &w.jobs[w.n_jobs];
    uint32_t most = smt_prng_below(&w.rig.rng, 8) == 0 ? MAX_LEN : 600;
    *j = (struct job){.len = 8 + (uint32_t)smt_prng_below(&w.rig.rng, most), .by = (uint8_t)by};
    j->is_one_way = smt_prng_below(&w.rig.rng, 8) == 0;
    j->bytes = malloc(j->len);
    assert_non_null(j->bytes);
    memset(j->bytes, (int)w.n_jobs, j->len);
    smt_put_be64(j->bytes, w.n_jobs++);
    struct smt_iov iov = {j->bytes, j->len};
    struct smt_call_args args = {.size = sizeof(args), .iov = &iov, .n_iov = 1, .user = j};
    struct smt_session *s = w.session[by];
    assert_int_equal(j->is_one_way ? smt_send(s, &args, NULL) : smt_call(s, &args, NULL), 0);
    w.n_open[by]++;
}

static void request_take(const struct smt_event *ev)
{
    struct job *j = job_of(ev->data, ev->len);
    j->n_run++;
    assert_int_equal(j->n_run, 1);
    /* Most at once, some after one change of keys, or two. */
    bool is_late = smt_prng_below(&w.rig.rng, 50) == 0 && w.n_held < MAX_HELD;
    uint64_t delay = is_late ? smt_prng_below(&w.rig.rng, 3 * SMT_SEC) : 0;
    struct smt_iov iov = {ev->data, ev->len};
    if (is_late)
        w.held[w.n_held++] = (struct held){rig_now + delay, ev->msg, iov};
    else
        assert_int_equal(smt_reply(ev->msg, &iov, 1, ev->msg), 0);
}

static void event_take(unsigned end, const struct smt_event *ev)
{
    struct job *j = ev->user;
    switch (ev->type) {
    case SMT_EV_SESSION_UP:
        w.n_up[end]++;
        w.session[end] = ev->session;
        break;
    case SMT_EV_SESSION_DOWN:
        w.n_down[end]++;
        assert_int_equal(ev->error, 0);
        break;
    case SMT_EV_REQUEST:
        request_take(ev);
        break;
    case SMT_EV_MESSAGE:
        j = job_of(ev->data, ev->len);
        j->n_run++;
        assert_int_equal(j->n_run, 1);
        smt_release(ev->msg);
        break;
    case SMT_EV_RESPONSE:
        assert_ptr_equal(job_of(ev->data, ev->len), j);
        smt_release(ev->msg);
        job_end(j);
        break;
    case SMT_EV_SENT:
        if (j >= w.jobs && j < w.jobs + MAX_JOBS)
            job_end(j);
        else
            smt_release(ev->user); /* the request's own bytes were the reply */
        break;
    case SMT_EV_FAILED:
        fail_msg("end %u: something failed: %s", end, smt_strerror(ev->error));
        break;
    default:
        break;
    }
}

static void turn(bool goes_on)
{
    rig_now += step;
    wire_run();
    for (uint32_t i = 0; i < w.n_held;) {
        struct held *h = &w.held[i];
        if (h->at > rig_now) {
            i++;
            continue;
        }
        assert_int_equal(smt_reply(h->msg, &h->iov, 1, h->msg), 0);
        *h = w.held[--w.n_held];
    }
    for (unsigned end = 0; end < 2; end++) {
        while (goes_on && w.session[end] != NULL && w.n_open[end] < WINDOW)
            job_begin(end);
        struct smt_event evs[16];
        int n = smt_poll(w.rig.ends[end].ep, evs, 16);
        assert_true(n >= 0);
        for (int k = 0; k < n; k++)
            event_take(end, &evs[k]);
    }
}

static void run_for(uint64_t ns, bool goes_on)
{
    for (uint64_t until = rig_now + ns; rig_now < until;)
        turn(goes_on);
}

static void run_until_up(unsigned n)
{
    uint64_t until = rig_now + 20 * SMT_SEC;
    while (w.n_up[0] < n || w.n_up[1] < n) {
        turn(true);
        assert_true(rig_now < until);
    }
}

static void world_begin(uint64_t seed)
{
    w = (struct world){.flying = calloc(MAX_FLYING, sizeof(*w.flying)),
                       .kept = calloc(N_KEPT, sizeof(*w.kept))};
    assert_true(w.flying != NULL && w.kept != NULL);
    rig_now = 1000 * SMT_SEC;
    rig_open(&w.rig, false, 5 * SMT_SEC);
    smt_prng_seed(&w.rig.rng, seed);
    w.rig.hook = wire_hook;
    assert_int_equal(smt_connect(w.rig.ends[0].ep, w.rig.ends[1].name, NULL, SMT_NEW_SESSION,
                                 &w.session[0]),
                     0);
    run_until_up(1);
}

/* All that was begun ends; then the books are compared. */
static void world_settle(void)
{
    uint64_t until = rig_now + 60 * SMT_SEC;
    while (w.n_ended < w.n_jobs || w.n_held > 0) {
        turn(false);
        assert_true(rig_now < until);
    }
    for (uint32_t i = 0; i < w.n_jobs; i++) {
        assert_int_equal(w.jobs[i].n_run, 1);
        assert_int_equal(w.jobs[i].n_ended, 1);
    }
}

static void world_end(void)
{
    rig_close(&w.rig);
    for (uint32_t i = 0; i < w.n_jobs; i++)
        free(w.jobs[i].bytes);
    free(w.flying);
    free(w.kept);
}

static void rekey(void)
{
    assert_int_equal(smt_session_rekey(w.session[0], SMT_REKEY_HANDSHAKE), 0);
}

/* New keys five times, a second or less apart, so that several old ones stand beside the new. */
static void new_keys_under_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        world_begin(seed);
        for (unsigned n = 2; n <= 6; n++) {
            run_for(smt_prng_below(&w.rig.rng, 600 * SMT_MSEC), true);
            rekey();
            run_until_up(n);
        }
        run_for(100 * SMT_MSEC, true);
        world_settle();
        run_for(SMT_SEC, false);
        print_message("    %u jobs, %u changes of keys, %.1f s\n", w.n_jobs, w.n_up[0] - 1,
                      (double)(rig_now - 1000 * SMT_SEC) / 1e9);
        assert_in_range(w.n_jobs, 500, MAX_JOBS);
        assert_int_equal(rig_counter(&w.rig, 0, "sessions_rekeyed"), 5);
        assert_int_equal(rig_counter(&w.rig, 0, "sessions_replaced"), 0);
        assert_int_equal(w.n_down[0], 0);
        assert_int_equal(w.n_down[1], 5);
        world_end();
    }
}

/* Packets of the first keys, genuine and never changed, after those keys are gone. */
static void old_packets_after_new_keys(void **state)
{
    (void)state;
    world_begin(3);
    run_for(50 * SMT_MSEC, true);
    rekey();
    run_until_up(2);
    world_settle();
    run_for(2 * SMT_SEC, false);
    assert_int_equal(w.n_down[1], 1);
    assert_int_equal(w.n_kept, N_KEPT);
    uint64_t nobodys = rig_counter(&w.rig, 1, "drop_no_session");
    for (unsigned i = 0; i < N_KEPT; i++)
        rig_inject(&w.rig, &w.kept[i].from, &w.kept[i].to, w.kept[i].data, w.kept[i].len);
    run_for(100 * SMT_MSEC, false);
    assert_int_equal(rig_counter(&w.rig, 1, "drop_no_session"), nobodys + N_KEPT);
    assert_int_equal(w.n_up[0], 2);
    run_for(50 * SMT_MSEC, true);
    world_settle();
    world_end();
}

/* Handshakes cannot get through for longer than one may take: calls go on under the keys there
 * are, and the next attempt is as good as the first. */
static void no_new_keys_to_be_had(void **state)
{
    (void)state;
    world_begin(4);
    w.no_handshakes = true;
    rekey();
    for (unsigned i = 0; i < 70; i++) {
        uint32_t before = w.n_ended;
        run_for(10 * SMT_MSEC, true);
        run_for(90 * SMT_MSEC, false);
        assert_true(w.n_ended > before);
    }
    assert_int_equal(w.n_up[0], 1);
    assert_int_equal(w.n_down[0], 0);
    w.no_handshakes = false;
    rekey();
    run_until_up(2);
    run_for(50 * SMT_MSEC, true);
    world_settle();
    run_for(SMT_SEC, false);
    assert_int_equal(w.n_down[1], 1);
    world_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_keys_under_loss),
        cmocka_unit_test(old_packets_after_new_keys),
        cmocka_unit_test(no_new_keys_to_be_had),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
