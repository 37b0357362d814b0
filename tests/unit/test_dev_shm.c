/* The ring of the device `shm` against a model, and with a peer who writes nonsense in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/prng.h"
#include "dev/dev.h"
#include "dev/shm_ring.h"

enum { MAX_WAITING = 70000 };

/* Two halves, one direction of which is used. */
struct pair {
    uint8_t *a, *b;
    struct smt_shm_out out;
    struct smt_shm_in in;
    uint32_t lens[MAX_WAITING];
    uint64_t sent, received;
    struct smt_prng prng;
};

static int set_up(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return -1;
    p->a = smt_mem_map(SMT_SHM_HALF);
    p->b = smt_mem_map(SMT_SHM_HALF);
    if (p->a == NULL || p->b == NULL)
        return -1;
    smt_shm_out_init(&p->out, p->a);
    p->out.peer = (const struct smt_shm_page *)(const void *)p->b;
    smt_shm_in_init(&p->in, p->a, p->b);
    smt_prng_seed(&p->prng, 5);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *p = *state;
    smt_mem_unmap(p->a, SMT_SHM_HALF);
    smt_mem_unmap(p->b, SMT_SHM_HALF);
    free(p);
    return 0;
}

static uint8_t byte_at(uint64_t n, uint32_t i)
{
    return (uint8_t)(n * 131 + i * 7 + (i >> 8));
}

static bool put(struct pair *p, uint32_t len, bool is_copied)
{
    static uint8_t own[SMT_DEV_MAX_PACKET];
    uint8_t *place = smt_shm_out_reserve(&p->out, len);
    if (place == NULL)
        return false;
    uint8_t *to = is_copied ? own : place;
    for (uint32_t i = 0; i < len; i++)
        to[i] = byte_at(p->sent, i);
    smt_shm_out_commit(&p->out, is_copied ? own : NULL);
    p->lens[p->sent++ % MAX_WAITING] = len;
    return true;
}

static bool get(struct pair *p)
{
    struct smt_shm_seen seen;
    int r = smt_shm_in_look(&p->in, &seen);
    assert_in_range(r, 0, 1);
    if (r == 0)
        return false;
    assert_true(p->received < p->sent);
    assert_int_equal(seen.len, p->lens[p->received % MAX_WAITING]);
    unsigned n_wrong = 0;
    for (uint32_t i = 0; i < seen.len; i++)
        n_wrong += seen.data[i] != byte_at(p->received, i);
    assert_int_equal(n_wrong, 0);
    smt_shm_in_next(&p->in, seen.len);
    p->received++;
    return true;
}

static uint32_t len_any(struct pair *p)
{
    uint64_t kind = smt_prng_below(&p->prng, 4);
    uint64_t span = kind == 0 ? 70 : kind == 1 ? 300 : kind == 2 ? 17000 : SMT_DEV_MAX_PACKET;
    return 1 + (uint32_t)smt_prng_below(&p->prng, span);
}

/* Many laps, nearly empty and nearly full, and reservations that are taken back. */
static void test_model(void **state)
{
    struct pair *p = *state;
    for (unsigned round = 0; round < 60; round++) {
        uint64_t n = 1 + smt_prng_below(&p->prng, round % 3 == 0 ? 400 : 20);
        for (uint64_t i = 0; i < n; i++) {
            if (smt_prng_below(&p->prng, 5) == 0)
                (void)smt_shm_out_reserve(&p->out, len_any(p));
            if (!put(p, len_any(p), smt_prng_below(&p->prng, 2) == 0))
                break;
        }
        uint64_t left = round % 4 == 0 ? smt_prng_below(&p->prng, 40) : 0;
        while (p->sent - p->received > left)
            assert_true(get(p));
        if (left == 0)
            assert_false(get(p));
        if (round % 5 != 0)
            smt_shm_in_tell(&p->in);
    }
    assert_false(p->out.is_bad);
    assert_true(p->out.sent > 5ull * SMT_SHM_RING);
}

/* Of what is sent in a burst 1.2 MB find room, wherever the ring stands. */
static void test_burst_fits(void **state)
{
    struct pair *p = *state;
    for (unsigned round = 0; round < 30; round++) {
        uint32_t total = 0;
        while (total < 1200u << 10) {
            assert_true(put(p, 1000, true));
            total += 1024;
        }
        while (get(p))
            ;
        smt_shm_in_tell(&p->in);
        for (uint64_t i = smt_prng_below(&p->prng, 900); i > 0; i--) {
            assert_true(put(p, len_any(p) / 8 + 1, false));
            assert_true(get(p));
            smt_shm_in_tell(&p->in);
        }
    }
}

/* Nobody reads: it fills up, says so by marks before, and goes on when there is room again. */
static void test_full(void **state)
{
    struct pair *p = *state;
    while (put(p, 3000, false))
        ;
    assert_true(p->out.sent > SMT_SHM_RING - 2 * 3072);
    assert_false(p->out.is_bad);
    struct smt_shm_seen seen;
    unsigned n_late = 0, n = 0;
    for (; smt_shm_in_look(&p->in, &seen) == 1; n++) {
        n_late += seen.is_late;
        smt_shm_in_next(&p->in, seen.len);
    }
    assert_in_range(n_late, n / 3, 2 * n / 3);
    p->received = p->sent;
    assert_false(put(p, 3000, false));
    smt_shm_in_tell(&p->in);
    assert_true(put(p, 3000, false) && get(p));
}

/* What the other says of his reading: back, or further than we wrote. */
static void test_lies_about_reading(void **state)
{
    struct pair *p = *state;
    struct smt_shm_page *page = (struct smt_shm_page *)(void *)p->b;
    static const uint64_t lies[] = {UINT64_MAX, 1ull << 63, SMT_SHM_RING + 64, 1ull << 40};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lies); i++) {
        struct smt_shm_out before = p->out;
        page->taken = lies[i];
        uint64_t n = 0;
        while (put(p, 60000, false))
            assert_in_range(n++, 0, SMT_SHM_RING / 60000);
        assert_true(p->out.is_bad);
        assert_true(p->out.sent - before.taken <= SMT_SHM_RING);
        assert_false(put(p, 1, false));
        p->out = before;
    }
}

/* Words and bytes at random: what is handed out lies in the ring, and looking ends. */
static void test_nonsense(void **state)
{
    struct pair *p = *state;
    uint8_t *ring = p->a + SMT_SHM_PAGE;
    unsigned n_seen = 0, n_bad = 0;
    for (unsigned round = 0; round < 200000; round++) {
        uint64_t at = smt_prng_next64(&p->prng);
        if (round % 2 == 0)
            at = SMT_SHM_RING * (at % 5) + SMT_SHM_RING - 64 * (at % 2000);
        at &= ~63ull;
        p->in.at = at;
        uint32_t off = (uint32_t)(at % SMT_SHM_RING);
        uint32_t low = (uint32_t)smt_prng_next64(&p->prng) >> smt_prng_below(&p->prng, 32);
        if (round % 16 == 0)
            low = 1u << 30;
        uint64_t word = (uint64_t)((uint32_t)(at / 64) | 1u << 31) << 32 | low;
        if (round % 32 == 0)
            memcpy(ring, &(uint64_t){(word >> 32 | 1u << 31) << 32 | 1u << 30}, 8);
        memcpy(ring + off, &word, sizeof(word));
        struct smt_shm_seen seen;
        int r = smt_shm_in_look(&p->in, &seen);
        if (r == 1) {
            assert_in_range(seen.len, 1, SMT_DEV_MAX_PACKET);
            assert_true(seen.data >= ring + SMT_SHM_WORD);
            assert_true(seen.data + seen.len <= ring + SMT_SHM_RING);
            n_seen++;
        } else {
            assert_true(r == 0 || r == SMT_EPROTO);
            n_bad += r < 0;
        }
    }
    assert_true(n_seen > 1000 && n_bad > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_burst_fits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lies_about_reading, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
