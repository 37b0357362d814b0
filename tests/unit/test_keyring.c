/* The keyring: against every cipher row, and against a naive model with a cipher that counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/keyring.h"

/* A cipher whose context is its key and whose live contexts are counted; init and rekey fail on
 * demand. */
enum { FAKE_KEY_LEN = 16, FAKE_CTX_LEN = 20 };

static int n_live, n_inits, n_rekeys;
static bool fail_next;

static bool must_fail(void)
{
    bool now = fail_next;
    fail_next = false;
    return now;
}

static int fake_init(void *ctx, const uint8_t *key)
{
    memset(ctx, 0, FAKE_CTX_LEN);
    if (must_fail())
        return SMT_ENOMEM;
    memcpy(ctx, key, FAKE_KEY_LEN);
    n_live++;
    n_inits++;
    return 0;
}

static int fake_rekey(void *ctx, const uint8_t *key)
{
    if (must_fail())
        return SMT_ECRYPTO;
    memcpy(ctx, key, FAKE_KEY_LEN);
    n_rekeys++;
    return 0;
}

static void fake_fini(void *ctx)
{
    memset(ctx, 0, FAKE_CTX_LEN);
    n_live--;
}

static const struct smt_aead fake = {
    .name = "fake",
    .impl = "test",
    .key_len = FAKE_KEY_LEN,
    .ctx_len = FAKE_CTX_LEN,
    .init = fake_init,
    .rekey = fake_rekey,
    .fini = fake_fini,
};

static void *ring_open(struct smt_keyring *ring, const struct smt_aead *aead, uint32_t n)
{
    size_t size = smt_keyring_size(aead, n);
    assert_int_not_equal(size, 0);
    assert_int_equal(size % 64, 0);
    void *mem = aligned_alloc(64, size);
    memset(mem, 0xa5, size);
    n_live = n_inits = n_rekeys = 0;
    fail_next = false;
    assert_int_equal(smt_keyring_init(ring, aead, n, mem), 0);
    return mem;
}

static void key_of(unsigned who, uint8_t key[32])
{
    memset(key, 0, 32);
    memcpy(key, &who, sizeof(who));
    key[15] = 0x77;
}

static void *get(struct smt_keyring *ring, struct smt_keyslot *handle, unsigned who)
{
    uint8_t key[32];
    key_of(who, key);
    void *ctx = smt_keyring_get(ring, handle, key);
    if (ctx != NULL && ring->aead == &fake)
        assert_memory_equal(ctx, key, FAKE_KEY_LEN);
    return ctx;
}

static void test_init_refuses(void **state)
{
    struct smt_keyring ring;
    static _Alignas(64) uint8_t mem[4096];
    assert_int_equal(smt_keyring_size(&fake, SMT_KEYRING_MIN_SLOTS - 1), 0);
    assert_int_equal(smt_keyring_size(&fake, UINT32_MAX), 0);
    assert_int_equal(smt_keyring_init(&ring, &fake, 3, mem), SMT_EINVAL);
    assert_int_equal(smt_keyring_init(&ring, &fake, 4, mem + 8), SMT_EINVAL);
    assert_int_equal(smt_keyring_init(&ring, &fake, 4, NULL), SMT_EINVAL);
    memset(&ring, 0, sizeof(ring));
    smt_keyring_fini(&ring);
}

static void test_hit_and_miss(void **state)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, 4);
    struct smt_keyslot a = {0};
    void *ctx = get(&ring, &a, 1);
    assert_non_null(ctx);
    assert_int_equal((uintptr_t)ctx % 64, 0);
    assert_ptr_equal(get(&ring, &a, 1), ctx);
    struct smt_keyslot moved = a;
    assert_ptr_equal(get(&ring, &moved, 1), ctx);
    assert_int_equal(ring.hits, 2);
    assert_int_equal(ring.misses, 1);
    assert_int_equal(n_inits, 1);
    smt_keyring_fini(&ring);
    assert_int_equal(n_live, 0);
    free(mem);
}

static void test_last_four_stay(void **state)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, 4);
    struct smt_keyslot handles[100] = {0};
    void *ctx[100];
    for (unsigned i = 0; i < 100; i++) {
        ctx[i] = get(&ring, &handles[i], i);
        for (unsigned back = 0; back < 4 && back <= i; back++) {
            uint8_t key[32];
            key_of(i - back, key);
            assert_memory_equal(ctx[i - back], key, FAKE_KEY_LEN);
        }
    }
    assert_int_equal(n_inits, 4);
    assert_int_equal(n_rekeys, 96); /* an eviction takes the context over, it frees nothing */
    smt_keyring_fini(&ring);
    assert_int_equal(n_live, 0);
    free(mem);
}

static void test_oldest_goes_first(void **state)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, 4);
    struct smt_keyslot h[6] = {0};
    for (unsigned i = 0; i < 4; i++)
        assert_non_null(get(&ring, &h[i], i));
    assert_non_null(get(&ring, &h[0], 0)); /* now 1 is the oldest */
    assert_non_null(get(&ring, &h[4], 4));
    uint64_t misses = ring.misses;
    assert_non_null(get(&ring, &h[0], 0));
    assert_non_null(get(&ring, &h[2], 2));
    assert_non_null(get(&ring, &h[3], 3));
    assert_non_null(get(&ring, &h[4], 4));
    assert_int_equal(ring.misses, misses);
    assert_non_null(get(&ring, &h[1], 1));
    assert_int_equal(ring.misses, misses + 1);
    smt_keyring_fini(&ring);
    free(mem);
}

static void test_drop(void **state)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, 4);
    struct smt_keyslot h[5] = {0};
    static const uint8_t zeros[FAKE_CTX_LEN];
    for (unsigned i = 0; i < 4; i++)
        assert_non_null(get(&ring, &h[i], i));
    uint8_t *ctx = get(&ring, &h[2], 2);
    struct smt_keyslot stale = h[2];
    smt_keyring_drop(&ring, &h[2]);
    assert_memory_equal(ctx, zeros, FAKE_CTX_LEN);
    assert_int_equal(h[2].gen, 0);
    assert_int_equal(n_live, 3);

    /* A stale handle drops nothing that is not its own, and the free slot is taken first. */
    assert_non_null(get(&ring, &h[4], 4));
    smt_keyring_drop(&ring, &stale);
    smt_keyring_drop(&ring, &stale);
    assert_int_equal(n_live, 4);
    uint64_t misses = ring.misses;
    assert_non_null(get(&ring, &h[0], 0));
    assert_non_null(get(&ring, &h[1], 1));
    assert_non_null(get(&ring, &h[3], 3));
    assert_non_null(get(&ring, &h[4], 4));
    assert_int_equal(ring.misses, misses);
    smt_keyring_fini(&ring);
    assert_int_equal(n_live, 0);
    free(mem);
}

static void test_failures(void **state)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, 4);
    struct smt_keyslot h[6] = {0};
    fail_next = true;
    assert_null(get(&ring, &h[0], 0));
    assert_int_equal(h[0].gen, 0);
    for (unsigned i = 0; i < 4; i++)
        assert_non_null(get(&ring, &h[i], i));
    fail_next = true; /* now in rekey: the evicted key is gone, the slot empty */
    assert_null(get(&ring, &h[4], 4));
    assert_int_equal(n_live, 3);
    uint64_t misses = ring.misses;
    for (unsigned i = 1; i < 4; i++)
        assert_non_null(get(&ring, &h[i], i));
    assert_int_equal(ring.misses, misses);
    assert_non_null(get(&ring, &h[0], 0));
    assert_int_equal(n_live, 4);
    smt_keyring_fini(&ring);
    assert_int_equal(n_live, 0);
    free(mem);
}

/* A handle with wild contents (from zeroed, copied or older memory) finds nothing. */
static void test_wild_handles(void **state)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, 4);
    struct smt_keyslot wild[] = {
        {.gen = 0, .slot = 0},          {.gen = 1, .slot = 3},
        {.gen = 1, .slot = 4},          {.gen = UINT64_MAX, .slot = UINT32_MAX},
        {.gen = 0, .slot = UINT32_MAX},
    };
    for (unsigned i = 0; i < SMT_ARRAY_LEN(wild); i++) {
        struct smt_keyslot copy = wild[i];
        smt_keyring_drop(&ring, &copy);
        assert_non_null(get(&ring, &wild[i], i));
    }
    assert_int_equal(ring.hits, 0);
    smt_keyring_fini(&ring);
    free(mem);
}

/* What the ring holds, newest first: a key is put there when it is new, and when it is used again
 * after as many others were put there as make it one of the older half. */
struct model {
    int who[16];
    uint64_t put[16], n_put;
    int n;
};

static int model_find(const struct model *m, int who)
{
    int at = 0;
    while (at < m->n && m->who[at] != who)
        at++;
    return at;
}

static void model_remove(struct model *m, int at)
{
    m->n--;
    for (; at < m->n; at++) {
        m->who[at] = m->who[at + 1];
        m->put[at] = m->put[at + 1];
    }
}

static void model_put(struct model *m, int who)
{
    for (int at = m->n++; at > 0; at--) {
        m->who[at] = m->who[at - 1];
        m->put[at] = m->put[at - 1];
    }
    m->who[0] = who;
    m->put[0] = ++m->n_put;
}

/* True: it was there. */
static bool model_get(struct model *m, int who, int n_slots)
{
    int at = model_find(m, who);
    bool held = at < m->n;
    if (held && m->n_put - m->put[at] < (uint64_t)(1 + (n_slots - 4) / 2))
        return true;
    if (held)
        model_remove(m, at);
    else if (m->n == n_slots)
        m->n--;
    model_put(m, who);
    return held;
}

/* Random gets and drops of keys, some of which are used more than others. */
static void run_against_model(int n_slots, int n_keys)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, (uint32_t)n_slots);
    struct smt_keyslot h[32] = {0};
    struct model m = {.n = 0};
    uint64_t hits = 0, x = 88172645463325252;
    unsigned n_got = 0;
    int last[4] = {-1, -1, -1, -1};
    void *ctx[4];
    for (unsigned step = 0; step < 20000; step++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        int who = (int)(x % (uint64_t)n_keys) / (x >> 32 & 1 ? 1 : 4);
        if (x >> 60 == 0) {
            int at = model_find(&m, who);
            smt_keyring_drop(&ring, &h[who]);
            if (at < m.n)
                model_remove(&m, at);
            for (int i = 0; i < 4; i++)
                last[i] = last[i] == who ? -1 : last[i];
        } else {
            hits += model_get(&m, who, n_slots);
            ctx[n_got % 4] = get(&ring, &h[who], (unsigned)who);
            last[n_got++ % 4] = who;
        }
        for (int i = 0; i < 4; i++) {
            uint8_t key[32];
            key_of((unsigned)last[i], key);
            if (last[i] >= 0)
                assert_memory_equal(ctx[i], key, FAKE_KEY_LEN);
        }
        assert_int_equal(ring.hits, hits);
        assert_int_equal(n_live, m.n);
    }
    smt_keyring_fini(&ring);
    assert_int_equal(n_live, 0);
    free(mem);
}

static void test_against_model(void **state)
{
    for (int n_slots = 4; n_slots <= 15; n_slots++) {
        run_against_model(n_slots, n_slots);
        run_against_model(n_slots, n_slots + 2);
        run_against_model(n_slots, 32);
    }
}

/* Sessions in turn, as many as half of the ring has room for: the list is left alone. */
static void test_in_turn(void **state)
{
    struct smt_keyring ring;
    void *mem = ring_open(&ring, &fake, 16);
    struct smt_keyslot h[7] = {0};
    for (unsigned i = 0; i < 7; i++)
        assert_non_null(get(&ring, &h[i], i));
    uint32_t newest = ring.newest;
    for (unsigned i = 0; i < 700; i++) {
        assert_non_null(get(&ring, &h[i % 7], i % 7));
        assert_int_equal(ring.newest, newest);
    }
    assert_int_equal(ring.misses, 7);
    assert_int_equal(ring.hits, 700);
    smt_keyring_fini(&ring);
    free(mem);
}

/* With the real rows: what a session seals stays the same whoever was evicted in between. */
static void test_real_rows(void **state)
{
    enum { N_KEYS = 12 };
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    for (unsigned r = 0; r < n; r++) {
        struct smt_keyring ring;
        void *mem = ring_open(&ring, &rows[r], 5);
        struct smt_keyslot h[N_KEYS] = {0};
        uint8_t tags[N_KEYS][16], tag[16];
        static const uint8_t nonce[12], aad[13];
        for (unsigned step = 0; step < 500; step++) {
            unsigned who = step < N_KEYS ? step : step * 7 % N_KEYS;
            void *ctx = get(&ring, &h[who], who);
            assert_non_null(ctx);
            uint8_t *to = step < N_KEYS ? tags[who] : tag;
            assert_int_equal(rows[r].seal(ctx, nonce, aad, 13, NULL, 0, NULL, to), 0);
            if (step >= N_KEYS)
                assert_memory_equal(tag, tags[who], 16);
            if (step % 50 == 49)
                smt_keyring_drop(&ring, &h[who]);
        }
        assert_memory_not_equal(tags[0], tags[1], 16);
        smt_keyring_fini(&ring);
        free(mem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init_refuses),   cmocka_unit_test(test_hit_and_miss),
        cmocka_unit_test(test_last_four_stay), cmocka_unit_test(test_oldest_goes_first),
        cmocka_unit_test(test_drop),           cmocka_unit_test(test_failures),
        cmocka_unit_test(test_wild_handles),   cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_in_turn),        cmocka_unit_test(test_real_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
