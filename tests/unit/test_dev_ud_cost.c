/* What whole RPCs over the `ud` device cost below the engine: one doorbell for what a turn has to
 * send, and no memory taken by anybody once everything is warm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "engine_pair.h"
#include "verbs-model/verbs_model.h"

enum { N_RPCS = 10000, WARM = 2000 };

static uint64_t n_allocations;

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **p, size_t align, size_t n);
int __wrap_posix_memalign(void **p, size_t align, size_t n);
void *__real_mmap64(void *p, size_t n, int prot, int flags, int fd, off_t at);
void *__wrap_mmap64(void *p, size_t n, int prot, int flags, int fd, off_t at);

void *__wrap_malloc(size_t n)
{
    n_allocations++;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    n_allocations++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    n_allocations++;
    return __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    n_allocations++;
    return __real_aligned_alloc(align, n);
}

int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    n_allocations++;
    return __real_posix_memalign(p, align, n);
}

void *__wrap_mmap64(void *p, size_t n, int prot, int flags, int fd, off_t at)
{
    n_allocations++;
    return __real_mmap64(p, n, prot, flags, fd, at);
}

static struct smt_dev *dev_open(const char *spec, struct smt_addr *addr)
{
    char text[256] = "";
    struct smt_dev_config config = {
        .spec = spec, .bind_host = "127.0.0.1", .error_text = text, .error_text_len = sizeof(text)};
    struct smt_dev *dev;
    if (smt_dev_open(&config, &dev) < 0)
        fail_msg("%s", text);
    assert_int_equal(smt_dev_resolve("127.0.0.1", dev->ops->port(dev), addr, 1), 1);
    return dev;
}

static uint64_t frees_and_allocations(void)
{
    struct smt_mem_stats m = smt_mem_live();
    return n_allocations + m.n_live;
}

static void rpcs_run(const char *spec, size_t size, unsigned depth)
{
    struct smt_addr from, to;
    struct smt_dev *a = dev_open(spec, &from), *b = dev_open(spec, &to);
    struct engine_pair p;
    uint64_t before = n_allocations;
    engine_pair_open(&p, a, b, &to, smt_aead_by_name("aes-128-gcm", NULL), size, depth);
    assert_true(n_allocations > before); /* it does count */
    engine_pair_run(&p, WARM);
    before = frees_and_allocations();
    struct verbs_model_counts c0 = verbs_model_counts;
    uint64_t flushes = p.client.n_flushes + p.server.n_flushes;
    struct smt_dev_stats s0, s1;
    a->ops->stats(a, &s0);
    engine_pair_run(&p, N_RPCS);
    assert_int_equal(frees_and_allocations(), before);
    flushes = p.client.n_flushes + p.server.n_flushes - flushes;
    uint64_t doorbells = verbs_model_counts.doorbells - c0.doorbells;
    uint64_t sends = verbs_model_counts.sends - c0.sends;
    assert_true(sends >= 2 * N_RPCS);
    assert_int_equal(doorbells, flushes);
    /* The rest of what reaches the hardware is small beside it. */
    assert_true(verbs_model_counts.signalled - c0.signalled <= sends / 64 + 2);
    assert_true(verbs_model_counts.recv_posts - c0.recv_posts <= sends / 32 + 2);
    a->ops->stats(a, &s1);
    assert_int_equal(s1.tx_errors, s0.tx_errors);
    assert_true(s1.tx_packets - s0.tx_packets >= s1.tx_calls - s0.tx_calls);
    if (depth > 1)
        assert_true(doorbells * 4 < sends);
    engine_pair_close(&p);
    a->ops->close(a);
    b->ops->close(b);
}

static void test_builder(void **state)
{
    rpcs_run("ud", 64, 1);
    rpcs_run("ud", 64, 64);
}

static void test_post_list(void **state)
{
    verbs_model.devices[0].qp_ex = VERBS_MODEL_QP_EX_NONE;
    rpcs_run("ud", 64, 1);
    rpcs_run("ud", 64, 64);
}

static void test_mlx5(void **state)
{
    verbs_model.devices[0].is_mlx5 = true;
    rpcs_run("ud", 300, 16);
}

/* Each endpoint talks to one peer, so to one of its queue pairs. */
static void test_several_queue_pairs(void **state)
{
    rpcs_run("ud:,qps=4", 64, 16);
}

static void test_small_mtu(void **state)
{
    verbs_model.devices[0].active_mtu = IBV_MTU_1024;
    rpcs_run("ud", 3000, 8);
}

static int set_up(void **state)
{
    verbs_model_reset();
    return 0;
}

static int tear_down(void **state)
{
    assert_int_equal(verbs_model_n_live(), 0);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_builder),   CASE(test_post_list), CASE(test_mlx5), CASE(test_several_queue_pairs),
        CASE(test_small_mtu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
