/* Transport parameters: a golden block written out by hand, defaults, every truncation, repeated,
 * short, long and unknown parameters, and random round trips. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/params.h"

static uint64_t rng_state = 3;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static int decode(const uint8_t *in, size_t len, struct smt_params *out)
{
    uint8_t *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, in, len);
    int rc = smt_params_decode(exact, len, out);
    free(exact);
    return rc;
}

/* clang-format off */
static const uint8_t golden[] = {
    0, 1, 0, 8, 0x07, 1, 2, 3, 4, 5, 6, 7,
    0, 2, 0, 2, 2, 3,
    0, 3, 0, 1, 3,
    0, 4, 0, 1, 3,
    0, 5, 0, 2, 2, 1,
    0, 6, 0, 2, 0x05, 0xdc,
    0, 7, 0, 16, 0, 0, 0x10, 0, 0, 0, 0, 0, 0x04, 0, 0, 0, 0x40, 0, 0, 0,
    0, 8, 0, 4, 0, 2, 0, 0,
    0, 9, 0, 4, 0, 0, 0x27, 0x10,
    0, 10, 0, 4, 0, 0, 0x75, 0x30,
};
static const uint8_t least[] = {
    0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9,
    0, 2, 0, 1, 2,
    0, 5, 0, 1, 1,
};
/* clang-format on */

static void assert_params_equal(const struct smt_params *a, const struct smt_params *b)
{
    assert_int_equal(a->session_id, b->session_id);
    assert_int_equal(a->n_versions, b->n_versions);
    assert_memory_equal(a->versions, b->versions, a->n_versions);
    assert_int_equal(a->carriages, b->carriages);
    assert_int_equal(a->record_forms, b->record_forms);
    assert_int_equal(a->n_ciphers, b->n_ciphers);
    assert_memory_equal(a->ciphers, b->ciphers, a->n_ciphers);
    assert_int_equal(a->mtu, b->mtu);
    assert_int_equal(a->open_rpcs, b->open_rpcs);
    assert_int_equal(a->unfinished_bytes, b->unfinished_bytes);
    assert_int_equal(a->max_message, b->max_message);
    assert_int_equal(a->rx_window, b->rx_window);
    assert_int_equal(a->unsched, b->unsched);
    assert_int_equal(a->idle_timeout_ms, b->idle_timeout_ms);
}

static void golden_block(void **state)
{
    static const struct smt_params want = {
        .session_id = 0x0701020304050607,
        .versions = {2, 3},
        .n_versions = 2,
        .carriages = 3,
        .record_forms = 3,
        .ciphers = {2, 1},
        .n_ciphers = 2,
        .mtu = 1500,
        .open_rpcs = 4096,
        .unfinished_bytes = 64 << 20,
        .max_message = 1 << 30,
        .rx_window = 131072,
        .unsched = 10000,
        .idle_timeout_ms = 30000,
    };
    struct smt_params p;
    assert_int_equal(decode(golden, sizeof(golden), &p), 0);
    assert_params_equal(&p, &want);
    uint8_t out[SMT_PARAMS_MAX_LEN];
    assert_int_equal(smt_params_encode(&want, out, sizeof(out)), sizeof(golden));
    assert_memory_equal(out, golden, sizeof(golden));
    assert_int_equal(smt_params_encode(&want, out, sizeof(golden)), sizeof(golden));
    for (size_t cap = 0; cap < sizeof(golden); cap++) {
        uint8_t *exact = malloc(cap ? cap : 1);
        assert_non_null(exact);
        assert_int_equal(smt_params_encode(&want, exact, cap), SMT_EINVAL);
        free(exact);
    }
}

static void defaults(void **state)
{
    struct smt_params p, want;
    assert_int_equal(decode(least, sizeof(least), &p), 0);
    smt_params_init(&want);
    assert_int_equal(want.session_id, 0);
    assert_int_equal(want.n_versions, 0);
    assert_int_equal(want.n_ciphers, 0);
    want.session_id = 9;
    want.n_versions = want.n_ciphers = 1;
    want.versions[0] = 2;
    want.ciphers[0] = 1;
    assert_params_equal(&p, &want);
    assert_int_equal(p.carriages, 1);
    assert_int_equal(p.record_forms, 1);
    assert_int_equal(p.mtu, 1024);
    assert_int_equal(p.open_rpcs, 4096);
    assert_int_equal(p.unfinished_bytes, 67108864);
    assert_int_equal(p.max_message, 1073741824);
    assert_int_equal(p.rx_window, 131072);
    assert_int_equal(p.unsched, 10000);
    assert_int_equal(p.idle_timeout_ms, 0);
}

/* Any cut falls into the middle of a parameter or before one that is required. */
static void truncation(void **state)
{
    for (size_t len = 0; len < sizeof(least); len++) {
        struct smt_params p = {.session_id = 77};
        assert_int_equal(decode(least, len, &p), SMT_EMALFORMED);
        assert_int_equal(p.session_id, 77);
    }
    unsigned whole = 0;
    for (size_t len = 0; len <= sizeof(golden); len++) {
        struct smt_params p;
        whole += decode(golden, len, &p) == 0;
    }
    assert_int_equal(whole, 6);
}

static size_t put_param(uint8_t *out, unsigned id, size_t len, uint8_t fill)
{
    out[0] = (uint8_t)(id >> 8);
    out[1] = (uint8_t)id;
    out[2] = (uint8_t)(len >> 8);
    out[3] = (uint8_t)len;
    memset(out + 4, fill, len);
    return 4 + len;
}

static void lengths(void **state)
{
    static const uint8_t min_len[] = {0, 8, 1, 1, 1, 1, 2, 16, 4, 4, 4};
    for (unsigned id = 1; id <= 10; id++) {
        for (size_t n = 0; n < 40; n++) {
            uint8_t in[512];
            size_t at = 0;
            if (id != 1)
                at += put_param(in + at, 1, 8, 1);
            if (id != 2)
                at += put_param(in + at, 2, 1, 2);
            if (id != 5)
                at += put_param(in + at, 5, 1, 1);
            at += put_param(in + at, id, n, 1);
            struct smt_params p;
            assert_int_equal(decode(in, at, &p), n < min_len[id] ? SMT_EMALFORMED : 0);
            at += put_param(in + at, id, n, 1);
            assert_int_equal(decode(in, at, &p), SMT_EMALFORMED);
        }
    }
}

static void required(void **state)
{
    static const unsigned ids[] = {1, 2, 5};
    for (unsigned mask = 0; mask < 8; mask++) {
        uint8_t in[64];
        size_t at = 0;
        for (unsigned i = 0; i < 3; i++)
            if (mask & 1u << i)
                at += put_param(in + at, ids[i], ids[i] == 1 ? 8 : 1, 2);
        struct smt_params p;
        assert_int_equal(decode(in, at, &p), mask == 7 ? 0 : SMT_EMALFORMED);
    }
}

static void unknown_ids(void **state)
{
    static const unsigned ids[] = {0, 11, 12, 32, 33, 0x0101, 0xff53, 0xffff};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(ids); i++) {
        uint8_t in[1024];
        size_t at = put_param(in, ids[i], 300, 0xff);
        memcpy(in + at, least, sizeof(least));
        at += sizeof(least);
        at += put_param(in + at, ids[i], 0, 0);
        struct smt_params p;
        assert_int_equal(decode(in, at, &p), 0);
        assert_int_equal(p.session_id, 9);
    }
}

static void long_lists_are_cut(void **state)
{
    uint8_t in[128];
    size_t at = put_param(in, 1, 8, 1);
    size_t versions = at;
    at += put_param(in + at, 2, 20, 0);
    at += put_param(in + at, 5, 9, 3);
    for (uint8_t i = 0; i < 20; i++)
        in[versions + 4 + i] = i;
    struct smt_params p;
    assert_int_equal(decode(in, at, &p), 0);
    assert_int_equal(p.n_versions, SMT_PARAMS_MAX_VERSIONS);
    assert_int_equal(p.versions[7], 7);
    assert_int_equal(p.n_ciphers, SMT_PARAMS_MAX_CIPHERS);
}

static void encode_refuses(void **state)
{
    uint8_t out[SMT_PARAMS_MAX_LEN];
    struct smt_params p;
    smt_params_init(&p);
    p.n_versions = p.n_ciphers = 1;
    assert_true(smt_params_encode(&p, out, sizeof(out)) > 0);
    p.n_versions = 0;
    assert_int_equal(smt_params_encode(&p, out, sizeof(out)), SMT_EINVAL);
    p.n_versions = SMT_PARAMS_MAX_VERSIONS + 1;
    assert_int_equal(smt_params_encode(&p, out, sizeof(out)), SMT_EINVAL);
    p.n_versions = SMT_PARAMS_MAX_VERSIONS;
    p.n_ciphers = SMT_PARAMS_MAX_CIPHERS + 1;
    assert_int_equal(smt_params_encode(&p, out, sizeof(out)), SMT_EINVAL);
    p.n_ciphers = 0;
    assert_int_equal(smt_params_encode(&p, out, sizeof(out)), SMT_EINVAL);
    p.n_ciphers = SMT_PARAMS_MAX_CIPHERS;
    assert_true(smt_params_encode(&p, out, sizeof(out)) > 0);
}

static void round_trips(void **state)
{
    for (unsigned n = 0; n < 20000; n++) {
        struct smt_params p, back;
        for (size_t i = 0; i < sizeof(p); i++)
            ((uint8_t *)&p)[i] = (uint8_t)rng();
        p.n_versions = (uint8_t)(1 + rng() % SMT_PARAMS_MAX_VERSIONS);
        p.n_ciphers = (uint8_t)(1 + rng() % SMT_PARAMS_MAX_CIPHERS);
        uint8_t out[SMT_PARAMS_MAX_LEN];
        int len = smt_params_encode(&p, out, sizeof(out));
        assert_true(len > 0);
        assert_int_equal(decode(out, (size_t)len, &back), 0);
        assert_params_equal(&back, &p);
    }
}

static void random_bytes(void **state)
{
    for (unsigned n = 0; n < 100000; n++) {
        uint8_t in[sizeof(golden)];
        memcpy(in, golden, sizeof(in));
        for (unsigned k = (unsigned)(1 + rng() % 4); k > 0; k--)
            in[rng() % sizeof(in)] ^= (uint8_t)(1 << rng() % 8);
        struct smt_params p;
        int rc = decode(in, rng() % (sizeof(in) + 1), &p);
        assert_true(rc == 0 || rc == SMT_EMALFORMED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_block),       cmocka_unit_test(defaults),
        cmocka_unit_test(truncation),         cmocka_unit_test(lengths),
        cmocka_unit_test(required),           cmocka_unit_test(unknown_ids),
        cmocka_unit_test(long_lists_are_cut), cmocka_unit_test(encode_refuses),
        cmocka_unit_test(round_trips),        cmocka_unit_test(random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
