/* Records in slices, packet by packet: those that come in one batch and those that do not, in any
 * order, repeated, forged; what is kept of unfinished ones, and what is not even begun. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/state.h"
#include "hand.h"

enum { LEN = 1200, CUT = 200, MAX_SLICES = 64 };

/* The peer sends slices, or the engine does not take them. */
static struct hand *scene(bool slices)
{
    struct hand *h = hand_new(true);
    h->config.slices = slices;
    hand_connect(h);
    hand_clear(h);
    return h;
}

/* A message of one record, or a part of one, in slices. */
static unsigned slices_of(struct hand *h, struct hand_data d, uint32_t cut,
                          struct hand_bytes out[MAX_SLICES])
{
    uint8_t pkt[HAND_MTU];
    hand_data_encode(h, d, pkt);
    return hand_slices(pkt, cut, out, MAX_SLICES);
}

static const struct hand_data request = {
    .what = SMT_WHAT_REQUEST, .id = 1, .len = LEN, .message_len = LEN};

static void request_is_whole(struct hand *h, uint64_t id, uint32_t len)
{
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_REQUEST, 0);
    assert_int_equal(ev->len, len);
    for (uint32_t i = 0; i < len; i++)
        assert_int_equal(((const uint8_t *)ev->data)[i], hand_byte(id, i));
    smt_rpc_release(ev->rpc);
    assert_int_equal(smt_rpc_reject(ev->rpc), 0);
}

static unsigned n_kept(const struct hand *h)
{
    return smt_pool_n_live(&h->e->bursts.pool);
}

/* One behind the other: opened where they lie, whatever their length; the tag may lie in two. */
static void a_batch(void **state)
{
    struct hand_bytes all[MAX_SLICES];
    for (uint32_t cut = 43; cut < LEN; cut += cut < 240 ? 1 : 37) {
        struct hand *h = scene(true);
        unsigned n = slices_of(h, request, cut, all);
        uint32_t got = h->conn->pacer.got_packets;
        hand_rx_many(h, all, n);
        request_is_whole(h, 1, LEN);
        assert_int_equal(h->conn->pacer.got_packets - got, n);
        assert_int_equal(hand_counter(h, "bursts_rcvd"), 1);
        hand_free(h);
    }
}

/* In any other way: collected. */
static void one_by_one(void **state)
{
    struct hand_bytes all[MAX_SLICES];
    for (unsigned turn = 0; turn < 40; turn++) {
        struct hand *h = scene(true);
        unsigned n = slices_of(h, request, CUT, all);
        for (unsigned i = n - 1; i > 0; i--) {
            unsigned k = smt_prng_below(&h->rng, i + 1);
            struct hand_bytes t = all[i];
            all[i] = all[k];
            all[k] = t;
        }
        unsigned at = 0;
        while (at < n) {
            unsigned some = 1 + smt_prng_below(&h->rng, n - at);
            hand_rx_many(h, all + at, some);
            at += some;
            assert_int_equal(n_kept(h), at < n);
            /* Some of it again. */
            hand_rx(h, all[at - 1].bytes, all[at - 1].len);
        }
        request_is_whole(h, 1, LEN);
        assert_int_equal(n_kept(h), 0);
        hand_free(h);
    }
}

/* A long message: single packets and slices, the end of one record and the next in one batch. */
static void among_others(void **state)
{
    struct hand *h = scene(true);
    struct hand_bytes all[MAX_SLICES];
    struct hand_data d = request;
    d.message_len = d.unsched = 4 * LEN;
    hand_data(h, d);
    unsigned n = 0;
    for (unsigned i = 1; i < 4; i++) {
        d.offset = i * LEN;
        n += slices_of(h, d, 500, all + n);
    }
    assert_int_equal(n, 9);
    hand_rx_many(h, all, 4);
    assert_int_equal(n_kept(h), 1);
    hand_rx_many(h, all + 4, 5);
    assert_int_equal(n_kept(h), 0);
    request_is_whole(h, 1, 4 * LEN);
    assert_int_equal(hand_counter(h, "bursts_rcvd"), 3);
    /* Late copies are not collected. */
    for (unsigned i = 0; i < n; i++)
        hand_rx(h, all[i].bytes, all[i].len);
    assert_int_equal(n_kept(h), 0);
    hand_free(h);
}

/* Of a message that goes on: a late copy of a record that was accepted is not collected either. */
static void late_copies(void **state)
{
    struct hand *h = scene(true);
    struct hand_bytes all[MAX_SLICES];
    struct hand_data d = request;
    d.message_len = d.unsched = 4 * LEN;
    unsigned n = slices_of(h, d, CUT, all);
    hand_rx_many(h, all, n);
    uint32_t got = h->conn->pacer.got_packets;
    for (unsigned i = 0; i < n; i++)
        hand_rx(h, all[i].bytes, all[i].len);
    assert_int_equal(n_kept(h), 0);
    assert_int_equal(hand_counter(h, "drop_duplicate"), n);
    assert_int_equal(h->conn->pacer.got_packets - got, n);
    /* All at once: opened for nothing at most, not taken. */
    hand_rx_many(h, all, n);
    assert_int_equal(hand_counter(h, "records_opened"), 1);
    hand_free(h);
}

/* Slices that do not fit are dropped and counted, and the record comes through without them. */
static void what_does_not_fit(void **state)
{
    static const struct {
        unsigned at;
        uint8_t flip;
        size_t shorter;
    } rows[] = {
        {SMT_HDR_INDEX_AT, 0x40, 0}, /* beyond the record */
        {7, 1, 0},                   /* another offset */
        {11, 1, 0},                  /* another length of the message */
        {41, 1, 0},                  /* of the record */
        {43, 1, 0},                  /* of slices */
        {0, 0, 1},                   /* a byte is missing */
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(rows); i++) {
        struct hand *h = scene(true);
        struct hand_bytes all[MAX_SLICES];
        unsigned n = slices_of(h, request, CUT, all);
        hand_rx_many(h, all, 3);
        struct hand_bytes bad = all[3];
        bad.bytes[rows[i].at] ^= rows[i].flip;
        bad.len -= rows[i].shorter;
        hand_rx(h, bad.bytes, bad.len);
        assert_int_equal(hand_counter(h, "drop_burst"), 1);
        /* In a batch it keeps the others from being a run, no more. */
        hand_rx_many(h, all + 3, n - 3);
        request_is_whole(h, 1, LEN);
        hand_free(h);
    }
}

/* From another address, with headers that agree: no run, but slices like any other. */
static void another_source(void **state)
{
    struct hand *h = scene(true);
    struct hand_bytes all[MAX_SLICES];
    unsigned n = slices_of(h, request, CUT, all);
    struct smt_addr elsewhere = h->addr;
    elsewhere.port++;
    struct smt_pkt pkts[MAX_SLICES];
    for (unsigned i = 0; i < n; i++)
        pkts[i] = (struct smt_pkt){.data = all[i].bytes,
                                   .len = (uint32_t)all[i].len,
                                   .from = i == 2 ? &elsewhere : &h->addr};
    smt_engine_rx(h->e, h->now, pkts, n);
    hand_run(h);
    request_is_whole(h, 1, LEN);
    hand_free(h);
}

/* A forged byte costs the record: nothing of it is delivered, and its packets have not arrived. */
static void forged(void **state)
{
    for (unsigned in_batch = 0; in_batch < 2; in_batch++) {
        struct hand *h = scene(true);
        struct hand_bytes all[MAX_SLICES];
        unsigned n = slices_of(h, request, CUT, all);
        uint32_t got = h->conn->pacer.got_packets;
        struct hand_bytes bad[MAX_SLICES];
        memcpy(bad, all, sizeof(bad));
        bad[4].bytes[100] ^= 1;
        if (in_batch > 0)
            hand_rx_many(h, bad, n);
        for (unsigned i = 0; i < n && in_batch == 0; i++)
            hand_rx(h, bad[i].bytes, bad[i].len);
        assert_int_equal(h->n_events, 0);
        assert_int_equal(hand_counter(h, "drop_auth"), 1);
        assert_int_equal(h->conn->pacer.got_packets, got);
        assert_int_equal(n_kept(h), 0);
        /* The bytes come again under another number. */
        struct hand_data d = request;
        hand_data(h, d);
        request_is_whole(h, 1, LEN);
        hand_free(h);
    }
}

/* Eight records in a row that do not open: the last is wanted in a single packet. */
static void many_forged(void **state)
{
    struct hand *h = scene(true);
    struct hand_bytes all[MAX_SLICES];
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(hand_n_frames(h, SMT_FRAME_RESEND, UINT64_MAX), 0);
        unsigned n = slices_of(h, request, CUT, all);
        all[i % n].bytes[60] ^= 1;
        hand_rx_many(h, all, n);
    }
    const struct smt_frame *f = hand_frame_n(h, SMT_FRAME_RESEND, UINT64_MAX, 0);
    assert_non_null(f);
    assert_int_equal(f->flags, SMT_RESEND_SINGLE);
    assert_int_equal(f->offset, 0);
    hand_data(h, request);
    request_is_whole(h, 1, LEN);
    hand_free(h);
}

/* What is never finished is bounded, and does not outlive its conn's work. */
static void unfinished(void **state)
{
    struct hand *h = scene(true);
    struct hand_bytes all[MAX_SLICES];
    for (unsigned i = 0; i < 2 * SMT_BURSTS_MAX; i++) {
        struct hand_data d = request;
        d.id = 1 + i % 100;
        (void)slices_of(h, d, CUT, all);
        hand_rx(h, all[1].bytes, all[1].len);
    }
    assert_int_equal(n_kept(h), SMT_BURSTS_MAX);
    assert_int_equal(hand_counter(h, "bursts_lost"), SMT_BURSTS_MAX);
    assert_int_equal(h->n_events, 0);
    /* The next is taken all the same. */
    unsigned n = slices_of(h, request, CUT, all);
    for (unsigned i = n; i-- > 0;)
        hand_rx(h, all[i].bytes, all[i].len);
    request_is_whole(h, 1, LEN);
    hand_frame(h, (struct smt_frame){.type = SMT_FRAME_DONE, .low_water = 200});
    hand_sleep(h, 5 * SMT_SEC);
    assert_int_equal(n_kept(h), 0);
    hand_free(h);
}

static void who_does_not_take_them(void **state)
{
    struct hand *h = scene(false);
    struct hand_bytes all[MAX_SLICES];
    unsigned n = slices_of(h, request, CUT, all);
    hand_rx_many(h, all, n);
    assert_int_equal(h->n_events, 0);
    assert_int_equal(hand_counter(h, "drop_burst"), n);
    hand_data(h, request);
    request_is_whole(h, 1, LEN);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch),
        cmocka_unit_test(one_by_one),
        cmocka_unit_test(among_others),
        cmocka_unit_test(late_copies),
        cmocka_unit_test(what_does_not_fit),
        cmocka_unit_test(another_source),
        cmocka_unit_test(forged),
        cmocka_unit_test(many_forged),
        cmocka_unit_test(unfinished),
        cmocka_unit_test(who_does_not_take_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
