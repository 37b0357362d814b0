/* Acknowledgements that wait for company: what waits, how long, what it is told in. And that
 * changed cutoffs are told to those who sent of late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/rpc_life.h"
#include "core/state.h"
#include "hand.h"

static const uint64_t delay = 200 * SMT_USEC;

static struct hand *start(void)
{
    struct hand *h = hand_new(true);
    hand_connect(h);
    /* The first use of a session measures it, and acknowledgements ride along. */
    uint64_t id = hand_post(h, 1, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    hand_sleep(h, 10 * SMT_MSEC);
    hand_clear(h);
    /* CUTOFFS would take some along. */
    h->e->cutoffs.look_at = UINT32_MAX;
    return h;
}

/* One-way messages of the hand, whole; each is taken by the user. */
static void messages(struct hand *h, uint64_t from, uint64_t to, uint32_t len)
{
    for (uint64_t id = from; id < to; id++)
        hand_data(h, (struct hand_data){
                         .what = SMT_WHAT_ONEWAY, .id = id, .len = len, .message_len = len});
}

static void taken(struct hand *h)
{
    for (unsigned i = 0; i < h->n_events; i++) {
        if (h->events[i].type == SMT_EE_MESSAGE)
            smt_rpc_release(h->events[i].rpc);
    }
    h->n_events = 0;
    hand_free(h);
}

static bool is_told(const struct hand *h, uint64_t id)
{
    for (unsigned i = 0; i < h->n_pkts; i++) {
        for (unsigned k = 0; k < h->pkts[i].n_frames; k++) {
            const struct smt_frame *f = &h->pkts[i].frames[k];
            uint64_t first = f->id & SMT_ID_MASK;
            if (f->type == SMT_FRAME_ACK && first == id)
                return true;
            if (f->type != SMT_FRAME_ACKS)
                continue;
            uint64_t bit = id - first - 1;
            if (first == id || (bit < 64 && f->bitmap >> bit & 1))
                return true;
        }
    }
    return false;
}

static unsigned n_frames(const struct hand *h)
{
    return hand_n_frames(h, SMT_FRAME_ACK, UINT64_MAX) +
           hand_n_frames(h, SMT_FRAME_ACKS, UINT64_MAX);
}

static void many_are_told_in_one_frame(void **state)
{
    (void)state;
    struct hand *h = start();
    messages(h, 1, 41, 100);
    assert_int_equal(n_frames(h), 0);
    hand_sleep(h, 2 * delay);
    assert_int_equal(n_frames(h), 1);
    for (uint64_t id = 1; id < 41; id++)
        assert_true(is_told(h, id));
    assert_false(is_told(h, 41));
    taken(h);
}

static void one_is_told_by_a_plain_ack(void **state)
{
    (void)state;
    struct hand *h = start();
    messages(h, 7, 8, 100);
    hand_sleep(h, 2 * delay);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_ACK, 7), 1);
    assert_int_equal(n_frames(h), 1);
    taken(h);
}

/* In data only when they have waited. */
static void they_ride_in_data_after_a_while(void **state)
{
    (void)state;
    struct hand *h = start();
    messages(h, 1, 4, 100);
    uint64_t a = hand_post(h, 50, true);
    assert_int_equal(hand_pkt_n(h, a, 0)->n_frames, 0);
    hand_sleep(h, delay + 10 * SMT_USEC);
    uint64_t b = hand_post(h, 50, true);
    assert_int_equal(hand_pkt_n(h, b, 0)->n_frames, 1);
    assert_true(is_told(h, 1) && is_told(h, 2) && is_told(h, 3));
    hand_clear(h);
    hand_sleep(h, 4 * delay);
    assert_int_equal(n_frames(h), 0);

    for (uint64_t id = a; id <= b; id++)
        hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACK, .id = hand_theirs(id)});
    taken(h);
}

/* Far apart they share no frame; more than fit do not wait. None is forgotten. */
static void scattered_ids(void **state)
{
    (void)state;
    struct hand *h = start();
    for (uint64_t id = 1; id < 1200; id += 100)
        messages(h, id, id + 1, 10);
    hand_sleep(h, 2 * delay);
    for (uint64_t id = 1; id < 1200; id += 100)
        assert_true(is_told(h, id));
    assert_int_equal(n_frames(h), 12);
    taken(h);
}

/* Its sender holds much: it is told at once. */
static void a_long_one_does_not_wait(void **state)
{
    (void)state;
    struct hand *h = start();
    uint32_t len = 64 * 1024;
    for (uint32_t at = 0; at < len; at += 1024)
        hand_data(h, (struct hand_data){.what = SMT_WHAT_ONEWAY,
                                        .id = 1,
                                        .offset = at,
                                        .len = 1024,
                                        .message_len = len,
                                        .unsched = len});
    hand_run(h);
    assert_true(is_told(h, 1));
    taken(h);
}

/* A run of ours that the peer has: those with a bit are over, the others stay. */
static void acks_end_what_they_name(void **state)
{
    (void)state;
    struct hand *h = start();
    uint64_t first = hand_post(h, 10, true);
    for (unsigned i = 1; i < 65; i++)
        hand_post(h, 10, true);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACKS,
                                     .id = hand_theirs(first),
                                     .bitmap = 0x8000000000000005});
    assert_int_equal(hand_n_events(h, SMT_EE_SENT), 4);
    /* Again, and about what never was: nothing. */
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACKS,
                                     .id = hand_theirs(first),
                                     .bitmap = 0x8000000000000005});
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACKS,
                                     .id = hand_theirs(SMT_ID_MASK),
                                     .bitmap = UINT64_MAX});
    assert_int_equal(hand_n_events(h, SMT_EE_SENT), 4);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACKS,
                                     .id = hand_theirs(first),
                                     .bitmap = UINT64_MAX});
    assert_int_equal(hand_n_events(h, SMT_EE_SENT), 65);
    hand_free(h);
}

/* ACKS about a request is no answer to it. */
static void a_request_is_not_ended(void **state)
{
    (void)state;
    struct hand *h = start();
    uint64_t id = hand_post(h, 10, false);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_ACKS, .id = hand_theirs(id), .bitmap = 1});
    assert_int_equal(h->n_events, 0);
    assert_non_null(smt_rpc_find(h->conn, id));
    (void)smt_conn_close(h->conn, h->now, SMT_ECANCELED, false);
    hand_run(h);
    hand_free(h);
}

/* Who has sent something is told of new cutoffs at once, not with his next message. */
static void new_cutoffs_are_told_at_once(void **state)
{
    (void)state;
    struct hand *h = start();
    h->e->cutoffs.look_at = 64;
    messages(h, 1, 64, 1000);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_CUTOFFS, UINT64_MAX), 0);
    hand_sleep(h, SMT_MSEC);
    hand_clear(h);
    h->n_events = 0;
    messages(h, 64, 65, 1000);
    assert_int_equal(h->e->cutoffs.version, 1);
    assert_int_equal(hand_n_frames(h, SMT_FRAME_CUTOFFS, UINT64_MAX), 1);
    h->n_events = 0;
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_are_told_in_one_frame),
        cmocka_unit_test(one_is_told_by_a_plain_ack),
        cmocka_unit_test(they_ride_in_data_after_a_while),
        cmocka_unit_test(scattered_ids),
        cmocka_unit_test(a_long_one_does_not_wait),
        cmocka_unit_test(acks_end_what_they_name),
        cmocka_unit_test(a_request_is_not_ended),
        cmocka_unit_test(new_cutoffs_are_told_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
