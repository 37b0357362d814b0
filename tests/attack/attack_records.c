/* DATA packets of somebody who has no keys: genuine records under other headers, cut, from another
 * direction, role, session or epoch; ids that share a record number. Nothing of it is delivered,
 * and the message it aims at arrives whole all the same. */
#include "attack.h"

#include "base/mem.h"
#include "core/early.h"
#include "core/rpc_life.h"
#include "wire/single.h"
#include "../sim/pair.h"

static struct attack_pkt genuine(struct hand *h, struct hand_data d)
{
    struct attack_pkt p;
    p.len = hand_data_encode(h, d, p.bytes);
    return p;
}

static void put_id(struct attack_pkt *p, uint64_t id)
{
    smt_put_be64(p->bytes + 28, id);
}

/* The record number that a header announces, in the record's own head too: the tag is what must
 * stop it. */
static void number_fit(struct attack_pkt *p)
{
    uint64_t no = smt_data_record_no(smt_get_be64(p->bytes + 28), smt_get_be32(p->bytes + 36));
    smt_put_be64(p->bytes + SMT_DATA_HDR_LEN + 5, no);
}

static void in_vain(struct hand *h, const struct attack_pkt *p, const char *what)
{
    attack_in_vain(h, p->bytes, p->len, 0, what);
}

static const struct hand_data part_of_50000 = {
    .what = SMT_WHAT_REQUEST, .id = 3, .offset = 1000, .len = 1000, .message_len = 50000};

/* Records under the header of another place, another message, another length; then the genuine
 * ones. */
static void spliced_records(void **state)
{
    (void)state;
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    const struct attack_pkt good = genuine(h, part_of_50000);
    struct attack_pkt p;

    static const uint32_t offsets[] = {0, 2000, 999, 1001, 49000, 50000, 0x80000000};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(offsets); i++) {
        p = good;
        smt_put_be32(p.bytes + 4, offsets[i]);
        in_vain(h, &p, "another offset");
    }
    static const uint32_t lens[] = {0, 1, 1999, 2000, 49999, 50001, 1 << 30, 0xffffffff};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        p = good;
        smt_put_be32(p.bytes + 8, lens[i]);
        in_vain(h, &p, "another message length");
    }
    for (uint64_t id = 1; id < 10; id++) {
        if (id == s.partial)
            continue;
        p = good;
        put_id(&p, id);
        in_vain(h, &p, "another id");
        number_fit(&p);
        in_vain(h, &p, "another id and number");
    }
    for (unsigned bit = 0; bit < 32; bit++) {
        p = good;
        smt_put_be32(p.bytes + 36, smt_get_be32(p.bytes + 36) ^ 1u << bit);
        in_vain(h, &p, "another seal");
        number_fit(&p);
        in_vain(h, &p, "another seal and number");
    }
    in_vain(h, &p, "still another");
    hand_rx(h, good.bytes, good.len);
    assert_true(smt_ranges_contains(&smt_rpc_find(h->conn, s.partial | SMT_ID_ROLE)->rx.got, 1500));
    attack_scene_free(&s);
}

/* A message that ends early: packets cut at every length, a header that says less, and the last
 * record withheld. Nothing is delivered before all of it is there. */
static void truncated_messages(void **state)
{
    (void)state;
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    const struct attack_pkt good = genuine(h, part_of_50000);
    for (size_t len = 0; len < good.len; len++)
        attack_in_vain(h, good.bytes, len, 0, "a packet cut short");
    for (uint16_t cut = 1; cut < 200; cut++) {
        struct attack_pkt p = good;
        uint16_t len = (uint16_t)(smt_get_be16(p.bytes + 40) - cut);
        smt_put_be16(p.bytes + 40, len);
        smt_put_be16(p.bytes + 42, len);
        smt_put_be16(p.bytes + SMT_DATA_HDR_LEN + 3, (uint16_t)(len - 5));
        p.len -= cut;
        in_vain(h, &p, "a shorter record");
    }
    uint32_t at = 1000;
    for (; at + 1000 < 50000; at += 1000) {
        struct hand_data d = part_of_50000;
        d.offset = at;
        hand_data(h, d);
    }
    /* All but the last thousand. The attacker drops that and pretends that this was all. */
    struct hand_data last = part_of_50000;
    last.offset = at;
    struct attack_pkt p = genuine(h, last);
    smt_put_be32(p.bytes + 8, at);
    in_vain(h, &p, "a shorter message");
    hand_sleep(h, 500 * SMT_MSEC);
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 0);
    hand_data(h, last);
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
    assert_int_equal(hand_event_n(h, SMT_EE_REQUEST, 0)->len, 50000);
    smt_rpc_release(hand_event_n(h, SMT_EE_REQUEST, 0)->rpc);
    attack_scene_free(&s);
}

/* A message that fits one packet, under a header that says otherwise, and records that the peer
 * himself seals with a head that fits neither header nor length. (Those that agree again, as one
 * that is longer in both, are the beginning of another message.) */
static void whole_messages_that_disagree(void **state)
{
    (void)state;
    enum { LEN = 100, ID = 50 };
    struct attack_scene s = attack_scene_new();
    struct hand *h = s.h;
    const struct hand_data whole = {
        .what = SMT_WHAT_REQUEST, .id = ID, .len = LEN, .message_len = LEN};
    const struct attack_pkt good = genuine(h, whole);
    static const uint32_t clear[][2] = {{0, 0},        {0, 1},   {0, LEN - 1}, {0, LEN + 1},
                                        {0, LEN + 40}, {1, LEN}, {LEN, LEN},   {LEN, 2 * LEN}};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(clear); i++) {
        struct attack_pkt p = good;
        smt_put_be32(p.bytes + 4, clear[i][0]);
        smt_put_be32(p.bytes + 8, clear[i][1]);
        in_vain(h, &p, "another place or length in the header");
    }
    struct attack_pkt other = good;
    smt_put_be16(other.bytes + 2, smt_get_be16(good.bytes + 2) + 1);
    in_vain(h, &other, "another port");
    static const struct {
        uint8_t what, flags;
        uint16_t frames_len;
        uint32_t offset, message_len, id_high, clear_len;
    } lies[] = {
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 1, LEN, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, LEN, LEN, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 0, LEN - 1, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 0, LEN - 1, 0, LEN - 1},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 0, LEN + 1, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 0, 1 << 20, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 0, UINT32_MAX, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 0, 0, 0, 0},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 1, 0, LEN, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, LEN + 1, 0, 0, 0, 0},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, UINT16_MAX, 0, LEN, 0, LEN},
        {SMT_WHAT_REQUEST, SMT_INNER_EXT, 0, 0, LEN, 1, LEN},
        {SMT_WHAT_REQUEST, 0, 0, 0, LEN, 0, LEN},
        {SMT_WHAT_RESPONSE, SMT_INNER_EXT, 0, 0, LEN, 0, LEN},
        {0, SMT_INNER_EXT, 0, 0, LEN, 0, LEN},
        {SMT_WHAT_TEST + 1, SMT_INNER_EXT, 0, 0, LEN, 0, LEN},
    };
    for (uint32_t i = 0; i < SMT_ARRAY_LEN(lies); i++) {
        uint8_t plain[SMT_SINGLE_INNER_LEN + LEN];
        const struct smt_single_inner inner = {
            .what = lies[i].what,
            .flags = lies[i].flags,
            .frames_len = SMT_BSWAP_BE16(lies[i].frames_len),
            .offset = SMT_BSWAP_BE32(lies[i].offset),
            .message_len = SMT_BSWAP_BE32(lies[i].message_len),
            .id_high = SMT_BSWAP_BE32(lies[i].id_high),
            .low_water = SMT_BSWAP_BE64((uint64_t)1),
            .unsched = SMT_BSWAP_BE32(lies[i].message_len),
        };
        memset(plain, 0, sizeof(plain));
        memcpy(plain, &inner, sizeof(inner));
        struct smt_hdr hdr;
        assert_int_equal(smt_hdr_decode(good.bytes, good.len, &hdr), 0);
        hdr.seal = 1000 + i;
        hdr.message_len = lies[i].clear_len;
        struct attack_pkt p;
        attack_data(h, &hdr, plain, sizeof(plain), &p);
        unsigned n_events = h->n_events;
        hand_rx(h, p.bytes, p.len);
        if (h->n_events > n_events || smt_rpc_find(h->conn, ID | SMT_ID_ROLE) != NULL)
            fail_msg("lie %u was believed", i);
    }
    unsigned n = hand_n_events(h, SMT_EE_REQUEST);
    hand_rx(h, good.bytes, good.len);
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), n + 1);
    assert_int_equal(hand_event_n(h, SMT_EE_REQUEST, n)->len, LEN);
    smt_rpc_release(hand_event_n(h, SMT_EE_REQUEST, n)->rpc);
    attack_scene_free(&s);
}

/* What the engine itself sealed, sent back to it in each disguise. */
static void swapped_directions(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    uint64_t id = hand_post(h, 500, false);
    const struct hand_pkt *sent = hand_pkt_n(h, id, 0);
    assert_non_null(sent);
    const struct attack_pkt own = {.len = sent->len};
    memcpy((void *)(uintptr_t)own.bytes, sent->raw, sent->len);
    for (unsigned turn = 0; turn < 4; turn++) {
        struct attack_pkt p = own;
        smt_put_be16(p.bytes, h->addr.port);
        smt_put_be16(p.bytes + 2, h->config.port);
        smt_put_be64(p.bytes + 20, smt_conn_id(h->conn));
        if (turn & 1)
            put_id(&p, id ^ SMT_ID_ROLE);
        if (turn & 2)
            number_fit(&p);
        in_vain(h, &p, "its own record");
    }
    assert_true(hand_counter(h, "drop_auth") >= 2);
    hand_free(h);
}

/* A request as a response and the reverse, for ids that both sides have in use. */
static void swapped_roles(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    uint64_t id = hand_post(h, 100, false);
    assert_int_equal(id, 1);
    struct attack_pkt request = genuine(
        h, (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 1, .len = 100, .message_len = 100});
    struct attack_pkt response = genuine(
        h, (struct hand_data){
               .what = SMT_WHAT_RESPONSE, .id = 1 | SMT_ID_ROLE, .len = 100, .message_len = 100});
    struct attack_pkt *both[] = {&request, &response};
    for (unsigned i = 0; i < 2; i++) {
        struct attack_pkt p = *both[i];
        p.bytes[28] ^= 0x80;
        in_vain(h, &p, "the other role");
        number_fit(&p);
        in_vain(h, &p, "the other role and number");
    }
    /* The peer himself, with keys: what the record says it is must fit the role of its id. */
    struct attack_pkt lie = genuine(
        h, (struct hand_data){
               .what = SMT_WHAT_REQUEST, .id = 1 | SMT_ID_ROLE, .len = 100, .message_len = 100});
    hand_rx(h, lie.bytes, lie.len);
    lie = genuine(
        h, (struct hand_data){.what = SMT_WHAT_RESPONSE, .id = 9, .len = 100, .message_len = 100});
    hand_rx(h, lie.bytes, lie.len);
    assert_int_equal(h->n_events, 0);
    assert_int_equal(hand_counter(h, "drop_hint"), 4);

    hand_rx(h, response.bytes, response.len);
    assert_int_equal(hand_n_events(h, SMT_EE_RESPONSE), 1);
    hand_rx(h, request.bytes, request.len);
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
    smt_rpc_release(hand_event_n(h, SMT_EE_RESPONSE, 0)->rpc);
    hand_free(h);
}

/* One genuine record, under every id that differs from its own in one bit. From bit 33 on the
 * record number is the same, so that the tag passes: the sealed head is what tells. */
static void id_plus_2_to_the_k(void **state)
{
    (void)state;
    for (unsigned order = 0; order < 2; order++) {
        struct hand *h = hand_new(true);
        hand_connect(h);
        const struct attack_pkt good = genuine(
            h, (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 5, .len = 64, .message_len = 64});
        if (order == 1)
            hand_rx(h, good.bytes, good.len);
        for (unsigned k = 0; k < 64; k++) {
            struct attack_pkt p = good;
            put_id(&p, 5 ^ 1ull << k);
            in_vain(h, &p, "another id");
            number_fit(&p);
            in_vain(h, &p, "another id and number");
        }
        assert_true(hand_counter(h, "drop_hint") >= 29);
        if (order == 0)
            hand_rx(h, good.bytes, good.len);
        assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
        /* Once is all it ever runs. */
        hand_rx(h, good.bytes, good.len);
        assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
        hand_free(h);
    }
}

/* A forged record in front of the genuine one, at every place a message begins or goes on: costs
 * the attacker a packet and us nothing. */
static void a_forged_record_before_the_genuine_one(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    uint32_t len = 20000, piece = 1000;
    for (uint32_t at = 0; at < len; at += piece) {
        struct attack_pkt good = genuine(h, (struct hand_data){.what = SMT_WHAT_REQUEST,
                                                               .id = 1,
                                                               .offset = at,
                                                               .len = piece,
                                                               .message_len = len,
                                                               .unsched = len});
        struct attack_pkt bad = good;
        bad.bytes[bad.len - 1] ^= 1;
        in_vain(h, &bad, "a wrong tag");
        bad = good;
        bad.bytes[SMT_DATA_HDR_LEN + SMT_RECORD_HEAD_LEN + 60] ^= 1;
        in_vain(h, &bad, "a changed byte");
        hand_rx(h, good.bytes, good.len);
        in_vain(h, &bad, "a changed byte behind the genuine record");
    }
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_REQUEST, 0);
    assert_int_equal(ev->len, len);
    for (uint32_t i = 0; i < len; i++)
        assert_int_equal(((const uint8_t *)ev->data)[i], hand_byte(1, i));
    smt_rpc_release(ev->rpc);
    hand_free(h);
}

static struct hand *hand_of_slices(void)
{
    struct hand *h = hand_new(true);
    h->config.slices = true;
    hand_connect(h);
    return h;
}

/* The n-th request that came. */
static void message_is_right(const struct hand *h, unsigned n, uint64_t id, uint32_t len)
{
    const struct smt_engine_event *ev = hand_event_n(h, SMT_EE_REQUEST, n);
    assert_non_null(ev);
    assert_int_equal(ev->len, len);
    for (uint32_t k = 0; k < len; k++)
        assert_int_equal(((const uint8_t *)ev->data)[k], hand_byte(id, k));
    smt_rpc_release(ev->rpc);
}

/* A record in slices of which one is forged, in a batch and one by one, before and behind the
 * genuine one and over bytes that were accepted: it costs that record. Eight in a row end slices,
 * and the message comes in single packets. */
static void forged_slices(void **state)
{
    (void)state;
    enum { LEN = 20000, PIECE = 1000, CUT = 150 };
    for (unsigned way = 0; way < 2; way++) {
        struct hand *h = hand_of_slices();
        for (uint32_t at = 0; at < LEN; at += PIECE) {
            struct hand_data d = {.what = SMT_WHAT_REQUEST,
                                  .id = 1,
                                  .offset = at,
                                  .len = PIECE,
                                  .message_len = LEN,
                                  .unsched = LEN};
            struct hand_bytes good[8], bad[8];
            struct attack_pkt p = genuine(h, d);
            unsigned n = hand_slices(p.bytes, CUT, good, 8);
            memcpy(bad, good, sizeof(bad));
            /* Under a number of its own: the genuine slices would join it otherwise. */
            for (unsigned i = 0; i < n; i++)
                smt_put_be32(bad[i].bytes + 36, 1000000 + at);
            smt_put_be64(bad[0].bytes + SMT_DATA_HDR_LEN + 5, smt_data_record_no(1, 1000000 + at));
            for (unsigned turn = 0; turn < 2; turn++) {
                if (way == 0)
                    hand_rx_many(h, bad, n);
                for (unsigned i = 0; i < n && way == 1; i++)
                    hand_rx(h, bad[n - 1 - i].bytes, bad[n - 1 - i].len);
                assert_int_equal(h->n_events, turn == 1 && at + PIECE == LEN);
                if (turn == 0)
                    hand_rx_many(h, good, n);
            }
            /* Over what is accepted and what is not, as one record. */
            for (unsigned i = 0; i < n; i++)
                smt_put_be32(bad[i].bytes + 4, at + PIECE / 2);
            if (at + PIECE < LEN)
                hand_rx_many(h, bad, n);
        }
        assert_true(hand_counter(h, "drop_auth") >= LEN / PIECE);
        message_is_right(h, 0, 1, LEN);
        hand_free(h);
    }
}

/* One slice forged under the genuine number, and it comes first: it spoils the record whose slices
 * come one by one, and none that comes whole. */
static void a_forged_slice_first(void **state)
{
    (void)state;
    enum { LEN = 1200, CUT = 300 };
    for (unsigned which = 0; which < 4; which++) {
        struct hand *h = hand_of_slices();
        struct hand_bytes slices[8], bad;
        struct attack_pkt p = genuine(
            h, (struct hand_data){
                   .what = SMT_WHAT_REQUEST, .id = 1, .len = LEN, .message_len = LEN});
        unsigned n = hand_slices(p.bytes, CUT, slices, 8);
        bad = slices[which];
        bad.bytes[SMT_DATA_HDR_LEN + 20] ^= 1;
        hand_rx(h, bad.bytes, bad.len);
        for (unsigned i = 0; i < n; i++)
            hand_rx(h, slices[i].bytes, slices[i].len);
        assert_int_equal(h->n_events, 0);
        assert_int_equal(hand_counter(h, "drop_auth"), 1);
        hand_rx(h, bad.bytes, bad.len);
        hand_rx_many(h, slices, n);
        message_is_right(h, 0, 1, LEN);
        hand_free(h);
    }
}

/* Slices of two genuine records under one header: of two messages, two places, two sessions' ids.
 * None of it opens. */
static void spliced_slices(void **state)
{
    (void)state;
    enum { LEN = 1200, CUT = 300 };
    struct hand *h = hand_of_slices();
    struct hand_bytes one[8], two[8], mixed[8];
    const struct hand_data a = {.what = SMT_WHAT_REQUEST, .id = 1, .len = LEN, .message_len = LEN};
    const struct hand_data b = {.what = SMT_WHAT_REQUEST, .id = 2, .len = LEN, .message_len = LEN};
    for (unsigned split = 1; split < 4; split++) {
        struct attack_pkt pa = genuine(h, a), pb = genuine(h, b);
        unsigned n = hand_slices(pa.bytes, CUT, one, 8);
        assert_int_equal(hand_slices(pb.bytes, CUT, two, 8), n);
        for (unsigned i = 0; i < n; i++) {
            mixed[i] = i < split ? one[i] : two[i];
            memcpy(mixed[i].bytes, one[i].bytes, SMT_DATA_HDR_LEN);
        }
        hand_rx_many(h, mixed, n);
        /* With their own headers they are two unfinished records. */
        for (unsigned i = 0; i < n; i++)
            memcpy(mixed[i].bytes, (i < split ? one : two)[i].bytes, SMT_DATA_HDR_LEN);
        hand_rx_many(h, mixed, n);
        assert_int_equal(h->n_events, 0);
    }
    assert_int_equal(hand_counter(h, "drop_auth"), 3);
    struct attack_pkt pa = genuine(h, a), pb = genuine(h, b);
    hand_rx(h, pa.bytes, pa.len);
    hand_rx(h, pb.bytes, pb.len);
    message_is_right(h, 0, 1, LEN);
    message_is_right(h, 1, 2, LEN);
    hand_free(h);
}

/* A million forgeries cost no memory and leave no mark but counters; the call they fell upon ends
 * well. */
static void a_flood_of_forged_records(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    hand_connect(h);
    struct attack_pkt good = genuine(
        h,
        (struct hand_data){
            .what = SMT_WHAT_REQUEST, .id = 1, .len = 1000, .message_len = 500000, .unsched = 1});
    good.bytes[good.len - 1] ^= 1;
    uint64_t memory = smt_engine_memory(h->e), live = smt_mem_live().n_live;
    for (unsigned i = 0; i < sim_scaled(1000000); i++) {
        put_id(&good, 1 + i % 4000);
        smt_put_be32(good.bytes + 4, i % 499 * 1000);
        number_fit(&good);
        const struct smt_pkt pkt = {
            .data = good.bytes, .len = (uint32_t)good.len, .from = &h->addr};
        smt_engine_rx(h->e, h->now, &pkt, 1);
        h->now += 100;
    }
    hand_run(h);
    assert_int_equal(h->n_events, 0);
    assert_int_equal(smt_engine_memory(h->e), memory);
    assert_true(smt_mem_live().n_live <= live + 2);
    hand_data(
        h, (struct hand_data){.what = SMT_WHAT_REQUEST, .id = 1, .len = 100, .message_len = 100});
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 1);
    hand_free(h);
}

/* ---- over the network ---- */

struct tape {
    struct sim_packet *all;
    size_t n, cap;
};

static enum sim_verdict tape_record(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct tape *t = arg;
    (void)net;
    if (t->n == t->cap) {
        t->cap = t->cap > 0 ? 2 * t->cap : 1024;
        t->all = realloc(t->all, t->cap * sizeof(*t->all));
        assert_non_null(t->all);
    }
    struct sim_packet *p = &t->all[t->n++];
    *p = *pkt;
    p->data = malloc(pkt->len + 1u);
    assert_non_null(p->data);
    memcpy(p->data, pkt->data, pkt->len);
    return SIM_PASS;
}

static void tape_play(struct tape *t, struct simnet *net, uint64_t gap)
{
    for (size_t i = 0; i < t->n; i++)
        simnet_inject(net, &t->all[i].source, t->all[i].to, t->all[i].data, t->all[i].len,
                      1 + i * gap);
    simnet_sleep(net, t->n * gap + 100 * SMT_MSEC);
}

static void tape_free(struct tape *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->all[i].data);
    free(t->all);
}

static void count_events(void *arg, struct sim_host *host, const struct smt_engine_event *ev)
{
    (void)host;
    (void)ev;
    ++*(uint64_t *)arg;
}

static const struct sim_load_config some_calls = {
    .n_calls = 200, .window = 16, .max_len = 1 << 14, .max_resp = 1 << 14, .one_way = 25};

/* All packets of one session under the ids of another, of the same and of other ends. */
static void swapped_sessions(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(201), &clean_link, CHECKING_FAST);
    struct tape tape = {0};
    uint64_t n_events = 0;
    pair_start(&p);
    struct smt_conn *conn[2], *back[2];
    for (unsigned i = 0; i < 2; i++)
        conn[i] = pair_connect(&p, &back[i]);
    p.net->hook = tape_record;
    p.net->hook_arg = &tape;
    sim_app_load_on(p.app, p.a, conn[0], &some_calls);
    sim_app_finish(p.app, p.net->now + 10 * SMT_SEC);
    p.net->hook = NULL;
    simnet_settle(p.net, p.net->now + 10 * SMT_SEC);
    sim_app_set_watch(p.app, count_events, &n_events);
    const uint64_t ids[2][2] = {{smt_conn_id(conn[0]), smt_conn_id(back[0])},
                                {smt_conn_id(conn[1]), smt_conn_id(back[1])}};
    for (size_t i = 0; i < tape.n; i++) {
        if (smt_get_be64(tape.all[i].data + 20) == ids[0][tape.all[i].to])
            smt_put_be64(tape.all[i].data + 20, ids[1][tape.all[i].to]);
    }
    uint64_t auth = sim_counter(p.b->engine, "drop_auth");
    tape_play(&tape, p.net, 1000);
    SIM_CHECK(p.net, n_events == 0, "%llu events", (unsigned long long)n_events);
    SIM_CHECK(p.net, sim_counter(p.b->engine, "drop_auth") >= auth + tape.n / 4, "not tried");
    sim_app_load_on(p.app, p.a, conn[1], &some_calls);
    sim_app_load_on(p.app, p.b, back[1], &some_calls);
    sim_app_finish(p.app, p.net->now + 10 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    tape_free(&tape);
    pair_free(&p);
}

/* Packets of epochs that are over: the one before lives two seconds, no earlier one at all. */
static void stale_epochs(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(202), &clean_link, CHECKING_FAST);
    struct tape tape = {0};
    uint64_t n_events = 0;
    pair_start(&p);
    struct smt_conn *back;
    struct smt_conn *conn = pair_connect(&p, &back);
    p.net->hook = tape_record;
    p.net->hook_arg = &tape;
    sim_app_load_on(p.app, p.a, conn, &some_calls);
    sim_app_finish(p.app, p.net->now + 10 * SMT_SEC);
    p.net->hook = NULL;
    for (unsigned epoch = 2; epoch < 5; epoch++) {
        assert_int_equal(smt_conn_rekey(conn), 0);
        simnet_poke(p.a);
        simnet_sleep(p.net, 10 * SMT_MSEC);
        struct smt_conn_stats stats;
        smt_conn_stats(back, &stats);
        SIM_CHECK(p.net, stats.epoch == epoch, "epoch %u", stats.epoch);
        sim_app_set_watch(p.app, count_events, &n_events);
        tape_play(&tape, p.net, 1000);
        SIM_CHECK(p.net, n_events == 0, "%llu events", (unsigned long long)n_events);
        if (epoch > 2)
            SIM_CHECK(p.net, sim_counter(p.b->engine, "drop_epoch") > 0, "not tried");
        simnet_sleep(p.net, 3 * SMT_SEC);
        SIM_CHECK(p.net, conn->keys.prev == NULL && back->keys.prev == NULL, "keys of before");
        tape_play(&tape, p.net, 1000);
        SIM_CHECK(p.net, n_events == 0, "%llu events", (unsigned long long)n_events);
        sim_app_set_watch(p.app, NULL, NULL);
        sim_app_load_on(p.app, p.a, conn, &some_calls);
        sim_app_finish(p.app, p.net->now + 10 * SMT_SEC);
    }
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    tape_free(&tape);
    pair_free(&p);
}

static enum sim_verdict reflect(void *arg, struct simnet *net, struct sim_packet *pkt)
{
    struct smt_conn **ends = arg;
    uint8_t copy[SIM_MAX_PACKET];
    memcpy(copy, pkt->data, pkt->len);
    for (unsigned turn = 0; turn < 2; turn++) {
        simnet_inject(net, &net->hosts[pkt->to].addr, pkt->from, copy, pkt->len, 5 * SMT_USEC);
        memcpy(copy, pkt->data + 2, 2);
        memcpy(copy + 2, pkt->data, 2);
        smt_put_be64(copy + 20, smt_conn_id(ends[pkt->from]));
    }
    return SIM_PASS;
}

/* Every packet goes back to its sender too, as it is and made to fit. */
static void reflected_packets(void **state)
{
    (void)state;
    struct pair p = pair_new(sim_seed(203), &clean_link, CHECKING_FAST);
    pair_start(&p);
    struct smt_conn *ends[2];
    ends[0] = pair_connect(&p, &ends[1]);
    p.net->hook = reflect;
    p.net->hook_arg = ends;
    struct sim_load_config config = some_calls;
    config.n_calls = (uint32_t)sim_scaled(1000);
    sim_app_load_on(p.app, p.a, ends[0], &config);
    sim_app_load_on(p.app, p.b, ends[1], &config);
    sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
    SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
    SIM_CHECK(p.net, sim_counter(p.a->engine, "drop_auth") > 100, "not tried");
    pair_free(&p);
}

enum { N_EARLY = 100 };

static void throw_early(void *arg)
{
    struct hand *h = arg;
    uint8_t pkt[1200];
    for (uint32_t i = 0; i < N_EARLY; i++) {
        struct smt_hdr hdr = {.sport = h->addr.port,
                              .dport = h->config.port,
                              .kind = SMT_KIND_EARLY,
                              .session_id = h->id,
                              .rpc_id = 1,
                              .message_len = 10,
                              .seal = i,
                              .record_len = 1000,
                              .slice_len = 1000};
        memset(pkt, 0, sizeof(pkt));
        size_t at = smt_hdr_encode(&hdr, pkt);
        smt_record_head_encode(pkt + at, smt_data_record_no(1, i), 1000 - SMT_RECORD_OVERHEAD);
        hand_rx(h, pkt, at + 1000);
    }
}

/* Early packets without keys, while the responder reads the hello: few are kept, and none of them
 * opens later. */
static void early_packets_wait_in_bounds(void **state)
{
    (void)state;
    struct hand *h = hand_new(true);
    h->config.early = true;
    h->before_keys = throw_early;
    h->arg = h;
    hand_connect(h);
    assert_int_equal(hand_counter(h, "drop_early"), N_EARLY - SMT_EARLY_HELD);
    assert_int_equal(hand_counter(h, "drop_auth"), SMT_EARLY_HELD);
    assert_int_equal(hand_n_events(h, SMT_EE_REQUEST), 0);
    hand_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(early_packets_wait_in_bounds),
        cmocka_unit_test(spliced_records),
        cmocka_unit_test(truncated_messages),
        cmocka_unit_test(whole_messages_that_disagree),
        cmocka_unit_test(swapped_directions),
        cmocka_unit_test(swapped_roles),
        cmocka_unit_test(id_plus_2_to_the_k),
        cmocka_unit_test(a_forged_record_before_the_genuine_one),
        cmocka_unit_test(forged_slices),
        cmocka_unit_test(a_forged_slice_first),
        cmocka_unit_test(spliced_slices),
        cmocka_unit_test(a_flood_of_forged_records),
        cmocka_unit_test(swapped_sessions),
        cmocka_unit_test(stale_epochs),
        cmocka_unit_test(reflected_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
