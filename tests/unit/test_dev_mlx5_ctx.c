/* Sealing contexts: names, who must go, what the NIC expects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dev/mlx5_ctx.h"

enum { N = 4, REST = 100 };

struct rig {
    struct smt_mlx5_ctx all[N];
    struct smt_mlx5_ctxs c;
};

static void rig_init(struct rig *r)
{
    smt_mlx5_ctxs_init(&r->c, r->all, N);
}

static struct smt_mlx5_ctx *take(struct rig *r, uint64_t now, uint32_t done, bool evicts)
{
    bool evicted;
    struct smt_mlx5_ctx *x = smt_mlx5_ctxs_take(&r->c, now, REST, done, &evicted);
    assert_int_equal(evicted, evicts);
    return x;
}

static void names(void **state)
{
    struct rig r;
    rig_init(&r);
    uint64_t seen[3 * N];
    unsigned n = 0;
    for (unsigned round = 0; round < 3; round++) {
        struct smt_mlx5_ctx *x[N];
        for (unsigned i = 0; i < N; i++) {
            x[i] = take(&r, 0, 0, false);
            uint64_t name = smt_mlx5_ctx_name(x[i]);
            assert_true(name != 0);
            assert_ptr_equal(smt_mlx5_ctxs_find(&r.c, name), x[i]);
            for (unsigned k = 0; k < n; k++)
                assert_true(seen[k] != name);
            seen[n++] = name;
        }
        for (unsigned i = 0; i < N; i++)
            smt_mlx5_ctxs_put(&r.c, x[i]);
        for (unsigned k = 0; k < n; k++)
            assert_null(smt_mlx5_ctxs_find(&r.c, seen[k]));
    }
    assert_null(smt_mlx5_ctxs_find(&r.c, 0));
    assert_null(smt_mlx5_ctxs_find(&r.c, UINT64_MAX));
}

static void who_must_go(void **state)
{
    struct rig r;
    rig_init(&r);
    struct smt_mlx5_ctx *x[N];
    for (unsigned i = 0; i < N; i++)
        x[i] = take(&r, i, 0, false);
    /* Used again, the first is the last to go. */
    smt_mlx5_ctx_sent(&r.c, x[0], 7, 3, 50);
    assert_null(take(&r, REST, 0, false)); /* x[1] has not rested long enough */
    uint64_t name = smt_mlx5_ctx_name(x[1]);
    assert_ptr_equal(take(&r, REST + 1, 0, true), x[1]);
    assert_null(smt_mlx5_ctxs_find(&r.c, name));
    assert_ptr_equal(take(&r, REST + 50, 0, true), x[2]);
    assert_ptr_equal(take(&r, REST + 50, 0, true), x[3]);
    /* What it has posted has not all completed: request 3 has when 4 are done. */
    assert_null(take(&r, REST + 50, 3, false));
    assert_ptr_equal(take(&r, REST + 50, 4, true), x[0]);
}

/* A context that was given back waits for its requests, too. */
static void busy_ones_are_not_taken(void **state)
{
    struct rig r;
    rig_init(&r);
    struct smt_mlx5_ctx *x = NULL;
    for (unsigned i = 0; i < N; i++)
        x = take(&r, 0, 0, false);
    smt_mlx5_ctx_sent(&r.c, x, 1, 9, 0);
    smt_mlx5_ctxs_put(&r.c, x);
    for (unsigned i = 0; i < N - 1; i++)
        smt_mlx5_ctx_sent(&r.c, &r.all[i], 1, 9, 0);
    assert_null(take(&r, 0, 9, false));
    assert_ptr_equal(take(&r, 0, 10, false), x);
    assert_false(smt_mlx5_ctx_expects(x, 2));
}

static void numbers(void **state)
{
    struct rig r;
    rig_init(&r);
    struct smt_mlx5_ctx *x = take(&r, 0, 0, false);
    assert_false(smt_mlx5_ctx_expects(x, 0));
    smt_mlx5_ctx_sent(&r.c, x, 0x123400000000, 0, 0);
    assert_true(smt_mlx5_ctx_expects(x, 0x123400000001));
    assert_false(smt_mlx5_ctx_expects(x, 0x123400000000));
    assert_false(smt_mlx5_ctx_expects(x, 0x123500000001)); /* the same low 32 bits */
    smt_mlx5_ctx_sent(&r.c, x, UINT64_MAX, 0, 0);
    assert_true(smt_mlx5_ctx_expects(x, 0));
}

static void losing_all(void **state)
{
    struct rig r;
    rig_init(&r);
    uint64_t name[N];
    for (unsigned i = 0; i < N; i++) {
        struct smt_mlx5_ctx *x = take(&r, 0, 0, false);
        smt_mlx5_ctx_sent(&r.c, x, i, i, 0);
        name[i] = smt_mlx5_ctx_name(x);
    }
    smt_mlx5_ctxs_lose(&r.c);
    for (unsigned i = 0; i < N; i++)
        assert_null(smt_mlx5_ctxs_find(&r.c, name[i]));
    for (unsigned i = 0; i < N; i++) {
        struct smt_mlx5_ctx *x = take(&r, 0, 0, false);
        assert_non_null(x);
        assert_false(x->is_programmed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(who_must_go),
        cmocka_unit_test(busy_ones_are_not_taken),
        cmocka_unit_test(numbers),
        cmocka_unit_test(losing_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
