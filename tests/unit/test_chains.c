/* Chains against an array indexed by key, and their hash against keys chosen to be bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/chains.h"
#include "base/prng.h"

enum { N_KEYS = 600, N_STEPS = 20000, N_SEEDS = 8, N_KINDS = 5 };

struct owner {
    struct smt_chain link;
    uint64_t a;
    uint32_t b;
};

/* Keys with a pattern: near, far, in either word, or in the high bits only. */
static struct owner owner_of(uint64_t kind, uint64_t i)
{
    switch (kind) {
    case 0:
        return (struct owner){.a = i};
    case 1:
        return (struct owner){.b = (uint32_t)i};
    case 2:
        return (struct owner){.a = i << 48, .b = ~(uint32_t)i};
    case 3:
        return (struct owner){.a = i % 2 << 63 | i / 2, .b = 7};
    default:
        return (struct owner){.a = i * 4096, .b = (uint32_t)i << 20};
    }
}

static struct owner *find(const struct smt_chains *t, const struct owner *key, unsigned *n_steps)
{
    uint64_t hash = smt_chains_hash(t, key->a, key->b);
    for (struct smt_chain *l = smt_chains_first(t, hash); l != NULL; l = l->next) {
        struct owner *o = SMT_CONTAINER_OF(l, struct owner, link);
        ++*n_steps;
        if (o->a == key->a && o->b == key->b)
            return o;
    }
    return NULL;
}

static void test_against_an_array(void **state)
{
    static struct owner owners[N_KEYS];
    for (uint64_t seed = 0; seed < (uint64_t)N_SEEDS * N_KINDS; seed++) {
        struct smt_prng g;
        smt_prng_seed(&g, seed);
        const uint64_t words[2] = {smt_prng_next64(&g), smt_prng_next64(&g)};
        struct smt_chains t;
        assert_int_equal(smt_chains_init(&t, words, 1), 0);
        for (unsigned i = 0; i < N_KEYS; i++)
            owners[i] = owner_of(seed % N_KINDS, i);
        unsigned n_in = 0, n_steps = 0;
        for (unsigned step = 0; step < N_STEPS; step++) {
            struct owner *o = &owners[smt_prng_next64(&g) % N_KEYS];
            bool is_in = o->link.at != NULL;
            assert_ptr_equal(find(&t, o, &n_steps), is_in ? o : NULL);
            n_in += is_in ? -1u : 1u;
            smt_chains_expect(&t, n_in);
            if (is_in)
                smt_chains_remove(&o->link);
            else
                smt_chains_add(&t, &o->link, smt_chains_hash(&t, o->a, o->b));
            assert_true(n_in <= 1u << t.bits && t.bits <= 10);
        }
        /* At most one entry a chain: a search meets about one other. */
        assert_in_range(n_steps, 1, 3 * N_STEPS);
        smt_chains_fini(&t);
    }
}

static void test_the_latest_is_found_first(void **state)
{
    const uint64_t words[2] = {5, 6};
    struct smt_chains t;
    assert_int_equal(smt_chains_init(&t, words, 4), 0);
    struct owner one = {.a = 3, .b = 4}, two = one;
    unsigned n_steps = 0;
    smt_chains_add(&t, &one.link, smt_chains_hash(&t, 3, 4));
    smt_chains_add(&t, &two.link, smt_chains_hash(&t, 3, 4));
    assert_ptr_equal(find(&t, &one, &n_steps), &two);
    smt_chains_remove(&two.link);
    assert_ptr_equal(find(&t, &one, &n_steps), &one);
    smt_chains_remove(&one.link);
    assert_null(find(&t, &one, &n_steps));
    smt_chains_fini(&t);
    struct smt_chains none = {0};
    smt_chains_fini(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_an_array),
        cmocka_unit_test(test_the_latest_is_found_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
