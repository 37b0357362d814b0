/* The grant book against a naive model: after each of many random changes, the active messages are
 * the first of all when sorted by (silent, better ones of the same peer, bytes, age). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "core/book.h"

enum { N_PEERS = 7, N_ENTRIES = 60, N_STEPS = 10000 };

struct model {
    struct smt_book book;
    struct smt_book_peer peers[N_PEERS];
    struct smt_book_entry entries[N_ENTRIES];
    bool in[N_ENTRIES];
    unsigned level[N_ENTRIES]; /* how many better ones its peer has */
};

static bool is_better(const struct smt_book_entry *a, const struct smt_book_entry *b)
{
    if (a->silent != b->silent)
        return b->silent;
    if (smt_book_key(a) != smt_book_key(b))
        return smt_book_key(a) < smt_book_key(b);
    return a->node.tie < b->node.tie;
}

static void levels(struct model *m)
{
    for (unsigned i = 0; i < N_ENTRIES; i++) {
        m->level[i] = 0;
        for (unsigned k = 0; m->in[i] && k < N_ENTRIES; k++)
            m->level[i] += m->in[k] && m->entries[k].peer == m->entries[i].peer &&
                           is_better(&m->entries[k], &m->entries[i]);
    }
}

static bool comes_first(const struct model *m, unsigned a, unsigned b)
{
    const struct smt_book_entry *x = &m->entries[a], *y = &m->entries[b];
    if (x->silent != y->silent)
        return y->silent;
    return m->level[a] != m->level[b] ? m->level[a] < m->level[b] : is_better(x, y);
}

static void check(struct model *m)
{
    levels(m);
    unsigned n_in = 0, n_active = 0;
    for (unsigned i = 0; i < N_ENTRIES; i++) {
        if (!m->in[i]) {
            assert_false(m->entries[i].listed);
            continue;
        }
        n_in++;
        unsigned before = 0;
        for (unsigned k = 0; k < N_ENTRIES; k++)
            before += m->in[k] && k != i && comes_first(m, k, i);
        assert_int_equal(m->entries[i].active, before < m->book.max_active);
        n_active += m->entries[i].active;
    }
    assert_int_equal(m->book.n_active, n_active);
    assert_int_equal(m->book.n_waiting, n_in - n_active);
    for (unsigned i = 1; i < n_active; i++)
        assert_true(is_better(m->book.active[i - 1], m->book.active[i]));
    /* By age, oldest first. */
    uint64_t last = 0;
    unsigned n_old = 0;
    SMT_LIST_FOREACH_SAFE(l, tmp, &m->book.old) {
        const struct smt_book_entry *x = SMT_CONTAINER_OF(l, struct smt_book_entry, old);
        assert_true(x->node.tie > last);
        last = x->node.tie;
        n_old++;
    }
    assert_int_equal(n_old, n_in);
}

static void step(struct model *m, struct smt_prng *rng, unsigned n_peers)
{
    unsigned i = smt_prng_below(rng, N_ENTRIES);
    struct smt_book_entry *x = &m->entries[i];
    uint64_t key = smt_prng_below(rng, 4) == 0 ? 100 : smt_prng_below(rng, 100000);
    if (!m->in[i]) {
        struct smt_book_peer *p = &m->peers[smt_prng_below(rng, n_peers)];
        assert_int_equal(smt_book_add(&m->book, p, x, key), 0);
        m->in[i] = true;
        return;
    }
    switch (smt_prng_below(rng, 5)) {
    case 0:
        smt_book_remove(&m->book, x);
        m->in[i] = false;
        break;
    case 1:
        smt_book_update(&m->book, x, key);
        break;
    case 2:
        smt_book_set_silent(&m->book, x, !x->silent);
        break;
    default:
        /* As grants do: what is active has less left. */
        if (x->active && smt_book_key(x) > 0)
            smt_book_update(&m->book, x, smt_book_key(x) / 2);
        break;
    }
}

static void run(uint64_t seed, unsigned max_active, unsigned n_peers)
{
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    struct smt_prng rng;
    smt_prng_seed(&rng, seed);
    assert_int_equal(smt_book_init(&m->book, max_active), 0);
    for (unsigned n = 0; n < N_STEPS; n++) {
        step(m, &rng, n_peers);
        check(m);
    }
    for (unsigned i = 0; i < N_ENTRIES; i++)
        smt_book_remove(&m->book, &m->entries[i]);
    assert_int_equal(m->book.n_active + m->book.n_waiting, 0);
    for (unsigned i = 0; i < N_PEERS; i++)
        smt_book_peer_fini(&m->peers[i]);
    smt_book_fini(&m->book);
    free(m);
}

static void the_book_is_the_sorted_order(void **state)
{
    (void)state;
    run(1, 8, N_PEERS);
    run(2, 8, 2);
    run(3, 1, N_PEERS);
    run(4, SMT_BOOK_MAX_ACTIVE, 3);
    run(5, 4, 1);
}

/* ---- the rules, one by one: numbers of Homa's own tests ---- */

static struct model *book_of(unsigned max_active)
{
    struct model *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    assert_int_equal(smt_book_init(&m->book, max_active), 0);
    return m;
}

static void add(struct model *m, unsigned i, unsigned peer, uint64_t key)
{
    assert_int_equal(smt_book_add(&m->book, &m->peers[peer], &m->entries[i], key), 0);
    m->in[i] = true;
}

static void book_end(struct model *m)
{
    check(m);
    for (unsigned i = 0; i < N_ENTRIES; i++)
        smt_book_remove(&m->book, &m->entries[i]);
    for (unsigned i = 0; i < N_PEERS; i++)
        smt_book_peer_fini(&m->peers[i]);
    smt_book_fini(&m->book);
    free(m);
}

static void homa_059_a_free_place_is_used_first(void **state)
{
    (void)state;
    struct model *m = book_of(2);
    add(m, 0, 0, 1000);
    add(m, 1, 1, 9000);
    assert_true(m->entries[0].active && m->entries[1].active);
    book_end(m);
}

static void homa_061_062_the_peer_with_more_gives_way(void **state)
{
    (void)state;
    struct model *m = book_of(3);
    add(m, 0, 0, 100);
    add(m, 1, 0, 200);
    add(m, 2, 1, 300);
    /* Longer than all, but its peer has none yet: the second of peer 0 goes. */
    add(m, 3, 2, 9000);
    assert_true(m->entries[3].active && !m->entries[1].active && m->entries[2].active);
    /* One more of peer 0 counts as its second. */
    add(m, 4, 0, 150);
    assert_false(m->entries[4].active);
    book_end(m);
}

static void homa_063_064_longer_or_younger_does_not_enter(void **state)
{
    (void)state;
    struct model *m = book_of(2);
    add(m, 0, 0, 500);
    add(m, 1, 1, 500);
    add(m, 2, 2, 600);
    add(m, 3, 3, 500);
    assert_false(m->entries[2].active || m->entries[3].active);
    book_end(m);
}

static void homa_065_066_who_follows(void **state)
{
    (void)state;
    struct model *m = book_of(2);
    add(m, 0, 0, 100);
    add(m, 1, 0, 200);
    add(m, 2, 1, 300);
    add(m, 3, 2, 400);
    assert_true(m->entries[0].active && m->entries[2].active);
    /* Peer 2 has none active; the shorter one of peer 0 would be its only one as well. */
    smt_book_remove(&m->book, &m->entries[2]);
    m->in[2] = false;
    assert_true(m->entries[3].active && !m->entries[1].active);
    smt_book_remove(&m->book, &m->entries[3]);
    m->in[3] = false;
    assert_true(m->entries[1].active);
    book_end(m);
}

static void homa_067_one_that_becomes_better_enters(void **state)
{
    (void)state;
    struct model *m = book_of(2);
    add(m, 0, 0, 100);
    add(m, 1, 1, 200);
    add(m, 2, 2, 300);
    smt_book_update(&m->book, &m->entries[2], 50);
    assert_true(m->entries[2].active && m->entries[0].active && !m->entries[1].active);
    book_end(m);
}

static void silent_ones_come_last_and_come_back(void **state)
{
    (void)state;
    struct model *m = book_of(1);
    add(m, 0, 0, 100);
    add(m, 1, 1, 9000);
    smt_book_set_silent(&m->book, &m->entries[0], true);
    assert_true(m->entries[1].active && !m->entries[0].active);
    smt_book_set_silent(&m->book, &m->entries[0], false);
    assert_true(m->entries[0].active && !m->entries[1].active);
    book_end(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_book_is_the_sorted_order),
        cmocka_unit_test(homa_059_a_free_place_is_used_first),
        cmocka_unit_test(homa_061_062_the_peer_with_more_gives_way),
        cmocka_unit_test(homa_063_064_longer_or_younger_does_not_enter),
        cmocka_unit_test(homa_065_066_who_follows),
        cmocka_unit_test(homa_067_one_that_becomes_better_enters),
        cmocka_unit_test(silent_ones_come_last_and_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
