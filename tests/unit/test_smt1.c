/* Arithmetic of smt1's records: the sizes the reference gives for three MTUs; for very many
 * lengths, that records, segments, slices and logical ranges each cover their message without gap
 * or overlap and that a receiver finds the sender's cut from a record's length alone; the tail
 * that the kernel forgets; heads that no cut gives. Sealed bytes are tests/interop's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/smt1.h"
#include "wire/wire.h"

static struct smt_smt1_geom geom(uint32_t mtu, uint32_t gso)
{
    struct smt_smt1_geom g;
    assert_int_equal(smt_smt1_geom_init(&g, mtu, gso), 0);
    return g;
}

static void sizes(void **state)
{
    struct smt_smt1_geom g = geom(1500, 10000);
    assert_int_equal(g.max_data, 1420);
    assert_int_equal(g.slice_len, 1440);
    assert_int_equal(g.n_packets, 6);
    assert_int_equal(g.record_data, 8491);
    assert_int_equal(smt_smt1_unscheduled(&g, 10000, 1000000), 16982);
    assert_int_equal(smt_smt1_unscheduled(&g, 10000, 12000), 12000);
    assert_int_equal(smt_smt1_unscheduled(&g, 0, 1391), 1391);
    g = geom(9000, 10000);
    assert_int_equal(g.max_data, 8920);
    assert_int_equal(g.n_packets, 1);
    assert_int_equal(g.record_data, 8891);
    assert_int_equal(smt_smt1_unscheduled(&g, 10000, 1000000), 17782);
    assert_int_equal(geom(1500, 65535).n_packets, 45);
    assert_int_equal(geom(9000, 65535).n_packets, 7);
    assert_int_equal(geom(1500, 0).n_packets, 1);
    struct smt_smt1_geom none;
    assert_int_equal(smt_smt1_geom_init(&none, 109, 0), SMT_EINVAL);
    assert_int_equal(smt_smt1_geom_init(&none, 110, 0), 0);
    assert_int_equal(smt_smt1_geom_init(&none, 65536, 0), SMT_EINVAL);
    assert_int_equal(smt_smt1_geom_init(&none, 1500, 65536), SMT_EINVAL);
}

static void numbers(void **state)
{
    assert_int_equal(smt_smt1_record_no(2, 0), 0x10000);
    assert_int_equal(smt_smt1_record_no(3, 0), 0x10000);
    assert_int_equal(smt_smt1_record_no(6, 1), 0x30001);
    assert_int_equal(smt_smt1_record_no(0xfffe000000000002, 0), 0x10000);
    assert_int_equal(smt_smt1_record_no(0x1fffffffffffe, 5), 0xffffffffffff0005);
}

/* One record as the sender cuts it; returns the logical bytes it took. */
static uint32_t check_record(const struct smt_smt1_geom *g, uint32_t message_len, uint32_t k,
                             uint32_t logical)
{
    struct smt_smt1_record r, seen;
    smt_smt1_record_cut(g, message_len, k, &r);
    assert_int_equal(r.record_len, r.plain_len + 29);
    assert_int_equal(r.plain_len, r.data_len + 20 * r.n_segments);
    assert_in_range(r.n_packets - r.n_segments, 0, 1);

    uint32_t data = 0, plain = 0, bytes = 0;
    for (uint32_t i = 0; i < r.n_segments; i++) {
        uint32_t at, len, plain_at;
        smt_smt1_segment_at(g, &r, i, &at, &len, &plain_at);
        assert_int_equal(at, data);
        assert_int_equal(plain_at, plain);
        assert_in_range(len, 1, g->max_data);
        /* The cut falls on the header: packet i's slice begins where its header stands. */
        if (i > 0)
            assert_int_equal(plain_at + 13, i * g->slice_len);
        data += len;
        plain += len + 20;
    }
    assert_int_equal(data, r.data_len);
    assert_int_equal(plain, r.plain_len);

    for (uint32_t i = 0; i < r.n_packets; i++) {
        uint32_t slice = smt_smt1_slice_len(g, &r, i), start, len;
        assert_in_range(slice, 1, g->slice_len);
        bytes += slice;
        smt_smt1_logical(g, 40 + slice, i, r.offset, &start, &len);
        assert_int_equal(start, logical);
        assert_in_range(len, 1, g->max_data);
        logical += len;
    }
    assert_int_equal(bytes, r.record_len);
    assert_int_equal(logical, r.offset + r.data_len);

    uint8_t head[SMT_RECORD_HEAD_LEN];
    smt_smt1_head_encode(head, smt_smt1_record_no(2, k), r.plain_len);
    assert_int_equal(smt_smt1_record_decode(g, message_len, r.offset, head, &seen), 0);
    assert_memory_equal(&seen, &r, sizeof(r));
    if (r.offset + r.data_len == message_len)
        assert_int_equal(smt_smt1_record_decode(g, message_len - 1, r.offset, head, &seen),
                         SMT_EMALFORMED);
    return logical;
}

static void check_message(const struct smt_smt1_geom *g, uint32_t message_len)
{
    uint32_t n = smt_smt1_n_records(g, message_len), logical = 0;
    for (uint32_t k = 0; k < n; k++)
        logical = check_record(g, message_len, k, logical);
    assert_int_equal(logical, message_len);
}

static void every_length(void **state)
{
    static const uint32_t mtus[] = {576, 1280, 1500, 9000}, gsos[] = {0, 1500, 10000, 65535};
    static const uint32_t more[] = {8491,  8492,  8520,  8521,  16982,  16983,  17040,
                                    17041, 65535, 65536, 99999, 500000, 999999, 1000000};
    for (size_t m = 0; m < SMT_ARRAY_LEN(mtus); m++)
        for (size_t s = 0; s < SMT_ARRAY_LEN(gsos); s++) {
            struct smt_smt1_geom g = geom(mtus[m], gsos[s]);
            for (uint32_t len = 1; len < 3000; len++)
                check_message(&g, len);
            for (size_t i = 0; i < SMT_ARRAY_LEN(more); i++)
                check_message(&g, more[i]);
        }
}

static void tag_spill(void **state)
{
    struct smt_smt1_geom g = geom(1500, 10000);
    struct smt_smt1_record r;
    smt_smt1_record_cut(&g, 1391, 0, &r);
    assert_int_equal(r.n_packets, 1);
    for (uint32_t over = 1; over <= 16; over++) {
        smt_smt1_record_cut(&g, 1391 + over, 0, &r);
        assert_int_equal(r.n_segments, 1);
        assert_int_equal(r.n_packets, 2);
        assert_int_equal(smt_smt1_slice_len(&g, &r, 1), over);
    }
    smt_smt1_record_cut(&g, 1408, 0, &r);
    assert_int_equal(r.n_segments, 2);
    assert_int_equal(smt_smt1_slice_len(&g, &r, 1), 20 + 1 + 16);
}

static void forgotten_tail(void **state)
{
    struct smt_smt1_geom g = geom(1500, 10000);
    static const struct {
        uint32_t len, from;
    } want[] = {
        {1, 1},         {8491, 8491},   {8492, 8491},   {8520, 8491},       {8521, 8521},
        {16982, 16982}, {16983, 16982}, {17040, 16982}, {17041, 17041},     {25473, 25473},
        {25474, 25473}, {25560, 25473}, {25561, 25561}, {1000000, 1000000},
    };
    for (size_t i = 0; i < SMT_ARRAY_LEN(want); i++)
        assert_int_equal(smt_smt1_unsent_tail(&g, want[i].len), want[i].from);
}

static void bad_heads(void **state)
{
    struct smt_smt1_geom g = geom(1500, 10000);
    struct smt_smt1_record r;
    uint8_t head[SMT_RECORD_HEAD_LEN];
    for (size_t byte = 0; byte < 3; byte++) {
        smt_smt1_head_encode(head, 0x10000, 84);
        head[byte] ^= 1;
        assert_int_equal(smt_smt1_record_decode(&g, 64, 0, head, &r), SMT_EMALFORMED);
    }
    smt_smt1_head_encode(head, 0x10000, 84);
    assert_int_equal(smt_smt1_record_decode(&g, 64, 0, head, &r), 0);
    assert_int_equal(smt_smt1_record_decode(&g, 64, 1, head, &r), SMT_EMALFORMED);
    assert_int_equal(smt_smt1_record_decode(&g, 64, 65, head, &r), SMT_EMALFORMED);
    /* Every u16: taken only when a sender would cut its data so. */
    for (uint32_t tls = 0; tls <= UINT16_MAX; tls++) {
        smt_put_be16(head + 3, (uint16_t)tls);
        if (smt_smt1_record_decode(&g, 1000000, 0, head, &r))
            continue;
        assert_int_equal(r.record_len, tls + 5);
        assert_in_range(r.data_len, 1, 65535);
        assert_int_equal(r.n_packets, (tls + 5 + 1439) / 1440);
    }
    smt_put_be16(head + 3, 8 + 16 + 20);
    assert_int_equal(smt_smt1_record_decode(&g, 1000, 0, head, &r), SMT_EMALFORMED);
    /* A last packet with a segment header and no data, or with half a header. */
    smt_put_be16(head + 3, 1440 + 16 + 20 - 5);
    assert_int_equal(smt_smt1_record_decode(&g, 1000000, 0, head, &r), SMT_EMALFORMED);
    smt_put_be16(head + 3, 1440 + 17 - 5);
    assert_int_equal(smt_smt1_record_decode(&g, 1000000, 0, head, &r), SMT_EMALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),          cmocka_unit_test(numbers),
        cmocka_unit_test(every_length),   cmocka_unit_test(tag_spill),
        cmocka_unit_test(forgotten_tail), cmocka_unit_test(bad_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
