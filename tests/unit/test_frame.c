/* Control frames: golden bytes of every type written out by hand, every truncation, types that are
 * not known, and random runs of frames. Frames under test end where their allocation ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/wire.h"

static uint64_t rng_state = 2;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static int decode(const uint8_t *in, size_t len, struct smt_frame *out)
{
    uint8_t *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, in, len);
    int rc = smt_frame_decode(exact, len, out);
    free(exact);
    return rc;
}

#define ROLE SMT_ID_ROLE
#define ID_5 0, 0, 0, 0, 0, 0, 0, 5
#define ID_R5 0x80, 0, 0, 0, 0, 0, 0, 5
#define T_1 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18

static const struct golden {
    struct smt_frame f;
    uint8_t len;
    uint8_t bytes[SMT_FRAME_MAX_LEN];
} goldens[] = {
    {{.type = SMT_FRAME_PAD}, 1, {0x00}},
    {{.type = SMT_FRAME_PING, .token = 0x1112131415161718}, 9, {0x01, T_1}},
    {{.type = SMT_FRAME_PONG, .token = 0x1112131415161718}, 9, {0x02, T_1}},
    {{.type = SMT_FRAME_MARK, .seq = 1, .packets = 0x01020304, .bytes = 0xfffefdfc},
     13,
     {0x03, 0, 0, 0, 1, 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc}},
    {{.type = SMT_FRAME_SEEN, .seq = 2, .packets = 3, .bytes = 4, .ce = 0x05060708},
     17,
     {0x04, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 5, 6, 7, 8}},
    {{.type = SMT_FRAME_PROBE, .token = 0x01020304}, 5, {0x05, 1, 2, 3, 4}},
    {{.type = SMT_FRAME_PROBE_ACK, .token = 0xf1020304, .code = 1472},
     7,
     {0x06, 0xf1, 2, 3, 4, 0x05, 0xc0}},
    {{.type = SMT_FRAME_PATH_CHALLENGE, .token = 0x1112131415161718}, 9, {0x07, T_1}},
    {{.type = SMT_FRAME_PATH_RESPONSE, .token = 0x1112131415161718}, 9, {0x08, T_1}},
    {{.type = SMT_FRAME_GRANT, .id = ROLE | 5, .offset = 0x10000, .length = 0x200, .prio = 6},
     18,
     {0x11, ID_R5, 0, 1, 0, 0, 0, 0, 2, 0, 6}},
    {{.type = SMT_FRAME_RESEND,
      .id = 5,
      .offset = 1400,
      .length = SMT_RESEND_ALL,
      .prio = 7,
      .flags = SMT_RESEND_SINGLE},
     19,
     {0x12, ID_5, 0, 0, 0x05, 0x78, 0xff, 0xff, 0xff, 0xff, 7, 1}},
    {{.type = SMT_FRAME_UNKNOWN, .id = 5, .flags = SMT_UNKNOWN_OVER}, 10, {0x13, ID_5, 1}},
    {{.type = SMT_FRAME_BUSY, .id = ROLE | 5}, 9, {0x14, ID_R5}},
    {{.type = SMT_FRAME_CUTOFFS,
      .code = 0x0102,
      .length = 10000,
      .cutoffs = {0x71, 0x61, 0x51, 0x41, 0x31, 0x21, 0xa0b0c0d0}},
     35,
     {0x15, 1, 2, 0, 0,    0x27, 0x10, 0, 0,    0, 0x71, 0, 0,    0,    0x61, 0,    0,   0,
      0x51, 0, 0, 0, 0x41, 0,    0,    0, 0x31, 0, 0,    0, 0x21, 0xa0, 0xb0, 0xc0, 0xd0}},
    {{.type = SMT_FRAME_NEED_ACK, .id = 5}, 9, {0x17, ID_5}},
    {{.type = SMT_FRAME_ACK, .id = ROLE | 5}, 9, {0x18, ID_R5}},
    {{.type = SMT_FRAME_ABORT, .id = 5, .code = 304}, 11, {0x19, ID_5, 0x01, 0x30}},
    {{.type = SMT_FRAME_DONE, .low_water = 5, .bitmap = 0x1112131415161718}, 17, {0x1a, ID_5, T_1}},
    {{.type = SMT_FRAME_CREDIT, .length = 4096, .low_water = 0x1112131415161718},
     13,
     {0x1b, 0, 0, 0x10, 0, T_1}},
    {{.type = SMT_FRAME_CLOSE, .code = 306}, 3, {0x1c, 0x01, 0x32}},
    {{.type = SMT_FRAME_REKEY}, 1, {0x1d}},
    {{.type = SMT_FRAME_ACKS, .id = 5, .bitmap = 0x8000000000000201},
     18,
     {0x80, 16, ID_5, 0x01, 0x02, 0, 0, 0, 0, 0, 0x80}},
    {{.type = SMT_FRAME_LATE, .seq = 2, .length = 0x05060708},
     10,
     {0x81, 8, 0, 0, 0, 2, 0x05, 0x06, 0x07, 0x08}},
};

static void assert_frame_equal(const struct smt_frame *a, const struct smt_frame *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->prio, b->prio);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->token, b->token);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->seq, b->seq);
    assert_int_equal(a->packets, b->packets);
    assert_int_equal(a->bytes, b->bytes);
    assert_int_equal(a->ce, b->ce);
    assert_int_equal(a->low_water, b->low_water);
    assert_int_equal(a->bitmap, b->bitmap);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(a->cutoffs[i], b->cutoffs[i]);
}

static void golden_frames(void **state)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(goldens); i++) {
        const struct golden *g = &goldens[i];
        assert_int_equal(smt_frame_len(g->f.type), g->len);
        uint8_t out[SMT_FRAME_MAX_LEN];
        memset(out, 0xee, sizeof(out));
        assert_int_equal(smt_frame_encode(&g->f, out, sizeof(out)), g->len);
        assert_memory_equal(out, g->bytes, g->len);
        assert_int_equal(out[g->len], 0xee);
        struct smt_frame f;
        memset(&f, 0xee, sizeof(f));
        assert_int_equal(decode(g->bytes, g->len, &f), g->len);
        assert_frame_equal(&f, &g->f);
    }
}

static void every_known_type_has_a_golden(void **state)
{
    unsigned known = 0;
    for (unsigned type = 0; type < 256; type++)
        known += smt_frame_len((uint8_t)type) != 0;
    assert_int_equal(known, SMT_ARRAY_LEN(goldens));
}

static void no_room_and_cut_short(void **state)
{
    for (unsigned i = 0; i < SMT_ARRAY_LEN(goldens); i++) {
        const struct golden *g = &goldens[i];
        uint8_t out[SMT_FRAME_MAX_LEN];
        memset(out, 0xee, sizeof(out));
        struct smt_frame f;
        for (size_t n = 0; n < g->len; n++) {
            assert_int_equal(smt_frame_encode(&g->f, out, n), 0);
            assert_int_equal(out[0], 0xee);
            assert_int_equal(decode(g->bytes, n, &f), n == 0 ? 0 : SMT_EMALFORMED);
        }
        assert_int_equal(smt_frame_encode(&g->f, out, g->len), g->len);
        uint8_t more[SMT_FRAME_MAX_LEN + 1] = {0};
        memcpy(more, g->bytes, g->len);
        more[g->len] = SMT_FRAME_REKEY;
        assert_int_equal(decode(more, g->len + 1u, &f), g->len);
    }
}

static void unknown_types(void **state)
{
    uint8_t in[300] = {0};
    for (unsigned type = 0; type < 0x80; type++) {
        if (smt_frame_len((uint8_t)type))
            continue;
        struct smt_frame f = {.type = (uint8_t)type};
        uint8_t out[SMT_FRAME_MAX_LEN];
        assert_int_equal(smt_frame_encode(&f, out, sizeof(out)), 0);
        in[0] = (uint8_t)type;
        f.type = 0xaa;
        assert_int_equal(decode(in, sizeof(in), &f), 0);
        assert_int_equal(f.type, type);
    }
    for (unsigned type = 0x82; type < 256; type++) {
        struct smt_frame f;
        in[0] = (uint8_t)type;
        assert_int_equal(smt_frame_len((uint8_t)type), 0);
        for (unsigned n = 0; n < 256; n++) {
            in[1] = (uint8_t)n;
            assert_int_equal(decode(in, sizeof(in), &f), 2 + n);
            assert_int_equal(f.type, type);
            assert_int_equal(decode(in, 2 + n, &f), 2 + n);
            assert_int_equal(decode(in, 1 + n, &f), SMT_EMALFORMED);
        }
    }
}

static void pads_are_taken_as_one(void **state)
{
    uint8_t in[100] = {0};
    struct smt_frame f;
    for (size_t n = 1; n < sizeof(in); n++) {
        assert_int_equal(decode(in, n, &f), n);
        assert_int_equal(f.type, SMT_FRAME_PAD);
    }
    in[40] = SMT_FRAME_REKEY;
    assert_int_equal(decode(in, sizeof(in), &f), 40);
    assert_int_equal(decode(in + 40, 60, &f), 1);
    assert_int_equal(f.type, SMT_FRAME_REKEY);
}

static void bit_62_of_ids(void **state)
{
    unsigned with_id = 0;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(goldens); i++) {
        const struct golden *g = &goldens[i];
        if (g->f.id == 0)
            continue;
        uint8_t in[SMT_FRAME_MAX_LEN];
        struct smt_frame f;
        memcpy(in, g->bytes, g->len);
        unsigned at = g->f.type < 0x80 ? 1 : 2;
        in[at] ^= 0x40;
        assert_int_equal(decode(in, g->len, &f), SMT_EMALFORMED);
        in[at] ^= 0x40 | 0x80;
        assert_int_equal(decode(in, g->len, &f), g->len);
        assert_int_equal(f.id, g->f.id ^ ROLE);
        with_id++;
    }
    assert_int_equal(with_id, 8);
}

/* ACKS ends with the last bit of its bitmap; a longer one is a later version's. */
static void acks_of_all_lengths(void **state)
{
    for (unsigned n = 0; n <= 64; n++) {
        uint64_t bitmap = n > 0 ? 1ull << (n - 1) : 0;
        struct smt_frame f = {.type = SMT_FRAME_ACKS, .id = ROLE | 5, .bitmap = bitmap};
        uint8_t out[SMT_FRAME_MAX_LEN];
        size_t len = smt_frame_encode(&f, out, sizeof(out));
        assert_int_equal(len, 10 + (n + 7) / 8);
        assert_int_equal(smt_frame_encode(&f, out, len - 1), 0);
        struct smt_frame back;
        assert_int_equal(decode(out, len, &back), len);
        assert_frame_equal(&back, &f);
    }
    uint8_t longer[40] = {SMT_FRAME_ACKS, 38, ID_5, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct smt_frame f;
    assert_int_equal(decode(longer, sizeof(longer), &f), sizeof(longer));
    assert_int_equal(f.bitmap, 1);
    for (unsigned n = 0; n < 8; n++) {
        longer[1] = (uint8_t)n;
        assert_int_equal(decode(longer, sizeof(longer), &f), SMT_EMALFORMED);
    }
}

/* A longer LATE is a later version's, a shorter one nobody's. */
static void late_of_other_lengths(void **state)
{
    (void)state;
    uint8_t longer[14] = {SMT_FRAME_LATE, 12, 0, 0, 0, 2, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff};
    struct smt_frame f;
    assert_int_equal(decode(longer, sizeof(longer), &f), sizeof(longer));
    assert_int_equal(f.seq, 2);
    assert_int_equal(f.length, 3);
    for (unsigned n = 0; n < 8; n++) {
        longer[1] = (uint8_t)n;
        assert_int_equal(decode(longer, sizeof(longer), &f), SMT_EMALFORMED);
    }
}

/* A member that a frame has not must not disturb those it has. */
static void random_members(void **state)
{
    for (unsigned n = 0; n < 20000; n++) {
        struct smt_frame f, back = {0};
        for (size_t i = 0; i < sizeof(f); i++)
            ((uint8_t *)&f)[i] = (uint8_t)rng();
        f.type = goldens[1 + rng() % (SMT_ARRAY_LEN(goldens) - 1)].f.type;
        f.id &= ~(1ull << 62);
        f.bitmap |= 1ull << 63;
        uint8_t a[SMT_FRAME_MAX_LEN], b[SMT_FRAME_MAX_LEN];
        size_t len = smt_frame_encode(&f, a, sizeof(a));
        assert_int_equal(len, smt_frame_len(f.type));
        assert_int_equal(decode(a, len, &back), len);
        assert_int_equal(smt_frame_encode(&back, b, sizeof(b)), len);
        assert_memory_equal(a, b, len);
    }
}

static void random_runs(void **state)
{
    for (unsigned n = 0; n < 5000; n++) {
        uint8_t run[600];
        uint8_t types[16];
        unsigned n_frames = (unsigned)(1 + rng() % SMT_ARRAY_LEN(types));
        size_t len = 0;
        for (unsigned i = 0; i < n_frames; i++) {
            const struct golden *g = &goldens[1 + rng() % (SMT_ARRAY_LEN(goldens) - 1)];
            memcpy(run + len, g->bytes, g->len);
            len += g->len;
            types[i] = g->f.type;
        }
        size_t at = 0;
        for (unsigned i = 0; i < n_frames; i++) {
            struct smt_frame f;
            int used = decode(run + at, len - at, &f);
            assert_true(used > 0);
            assert_int_equal(f.type, types[i]);
            at += (size_t)used;
        }
        assert_int_equal(at, len);
    }
}

static void random_bytes(void **state)
{
    for (unsigned n = 0; n < 100000; n++) {
        uint8_t in[64];
        size_t len = rng() % sizeof(in);
        for (size_t i = 0; i < len; i++)
            in[i] = (uint8_t)rng();
        in[0] &= rng() & 1 ? 0xff : 0x1f;
        struct smt_frame f;
        int used = decode(in, len, &f);
        assert_true(used == SMT_EMALFORMED || (used >= 0 && (size_t)used <= len));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_frames),         cmocka_unit_test(every_known_type_has_a_golden),
        cmocka_unit_test(no_room_and_cut_short), cmocka_unit_test(unknown_types),
        cmocka_unit_test(pads_are_taken_as_one), cmocka_unit_test(bit_62_of_ids),
        cmocka_unit_test(random_members),        cmocka_unit_test(random_runs),
        cmocka_unit_test(random_bytes),          cmocka_unit_test(acks_of_all_lengths),
        cmocka_unit_test(late_of_other_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
