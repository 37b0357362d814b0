/* Memory: alignment and zeros, counters, the n-th failure, and what becomes of secrets in a child,
 * in a dump and in swap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/asan.h"
#include "base/mem.h"

/* AddressSanitizer makes mlock a call that does nothing and succeeds. */
#ifdef SMT_ASAN
static const bool mlock_works = false;
#else
static const bool mlock_works = true;
#endif

static bool is_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (p[i] != 0)
            return false;
    }
    return true;
}

static void test_alloc_is_zeroed_and_aligned(void **state)
{
    static const size_t lens[] = {0, 1, 63, 64, 65, 1000, 100000};
    struct smt_mem_stats before = smt_mem_live();
    for (unsigned round = 0; round < 3; round++) {
        uint8_t *p[SMT_ARRAY_LEN(lens)];
        for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
            p[i] = smt_mem_alloc(lens[i]);
            assert_non_null(p[i]);
            assert_int_equal((uintptr_t)p[i] % 64, 0);
            assert_true(is_zero(p[i], lens[i]));
            memset(p[i], 0xff, lens[i]);
        }
        struct smt_mem_stats now = smt_mem_live();
        assert_int_equal(now.n_live - before.n_live, SMT_ARRAY_LEN(lens));
        assert_true(now.bytes_live - before.bytes_live >= 101193);
        for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++)
            smt_mem_free(p[i]);
        assert_true(smt_mem_live().n_live == before.n_live);
        assert_true(smt_mem_live().bytes_live == before.bytes_live);
    }
    smt_mem_free(NULL);
}

static void test_maps(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    static const size_t lens[] = {1, 4096, 70000, 2u << 20, (2u << 20) + 1, 5u << 20};
    for (unsigned i = 0; i < SMT_ARRAY_LEN(lens); i++) {
        uint8_t *p = smt_mem_map(lens[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (lens[i] >= 2u << 20 ? 2u << 20 : 4096), 0);
        assert_true(is_zero(p, lens[i]));
        p[0] = 1;
        p[lens[i] - 1] = 1;
        assert_true(smt_mem_live().n_live == before.n_live + 1);
        smt_mem_unmap(p, lens[i]);
    }
    uint8_t *a = smt_mem_map_aligned(100, 1u << 20);
    assert_non_null(a);
    assert_int_equal((uintptr_t)a % (1u << 20), 0);
    smt_mem_unmap(a, 100);
    smt_mem_unmap(NULL, 100);
    for (size_t len = 100; len < 1u << 20; len *= 10) {
        uint8_t *b = smt_mem_block(len);
        assert_non_null(b);
        assert_true(is_zero(b, len));
        memset(b, 1, len);
        smt_mem_block_free(b, len);
    }
    assert_true(smt_mem_live().n_live == before.n_live);
    assert_true(smt_mem_live().bytes_live == before.bytes_live);
    assert_null(smt_mem_map(0));
    assert_null(smt_mem_map(SIZE_MAX));
    assert_null(smt_mem_map(SIZE_MAX / 2));
    assert_null(smt_mem_map_aligned(SIZE_MAX - 8191, 1u << 20));
}

/* With a reserve of huge pages and without one: zero pages of the length that was told. */
static void test_huge_maps(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    static const size_t lens[] = {1, 4096, 70000, 1u << 20, (2u << 20) + 1, 5u << 20};
    for (unsigned i = 0; i < 2 * SMT_ARRAY_LEN(lens); i++) {
        size_t wanted = lens[i / 2], len = wanted;
        uint8_t *p = smt_mem_map_huge(&len, i % 2 == 0);
        assert_non_null(p);
        assert_true(len >= wanted && len % 4096 == 0 && len < wanted + (2u << 20));
        assert_int_equal((uintptr_t)p % (wanted >= 2u << 20 ? 2u << 20 : 4096), 0);
        assert_true(is_zero(p, len));
        memset(p, 1, len);
        assert_true(smt_mem_live().bytes_live == before.bytes_live + len);
        smt_mem_unmap(p, len);
    }
    size_t none = 0, far = SIZE_MAX;
    assert_null(smt_mem_map_huge(&none, true));
    assert_null(smt_mem_map_huge(&far, true));
    for (unsigned reserved = 0; reserved < 2; reserved++) {
        size_t len = 4u << 20;
        smt_mem_fail_after(0);
        assert_null(smt_mem_map_huge(&len, reserved != 0));
        assert_int_equal(smt_mem_fail_after(-1), -1);
    }
    assert_true(smt_mem_live().n_live == before.n_live);
    assert_true(smt_mem_live().bytes_live == before.bytes_live);
}

static void test_nth_allocation_fails(void **state)
{
    assert_int_equal(smt_mem_fail_after(2), -1);
    void *a = smt_mem_alloc(1);
    void *b = smt_mem_map(1);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(smt_mem_secret(1));
    void *c = smt_mem_alloc(1);
    assert_non_null(c);
    assert_int_equal(smt_mem_fail_after(5), -1);
    smt_mem_free(c);
    c = smt_mem_alloc(1);
    assert_non_null(c);
    assert_int_equal(smt_mem_fail_after(-1), 4);
    smt_mem_free(a);
    smt_mem_unmap(b, 1);
    smt_mem_free(c);
}

static void test_wipe(void **state)
{
    uint8_t buf[100];
    memset(buf, 0xa5, sizeof(buf));
    smt_wipe(buf + 1, 98);
    assert_int_equal(buf[0], 0xa5);
    assert_int_equal(buf[99], 0xa5);
    assert_true(is_zero(buf + 1, 98));
    smt_wipe(NULL, 0);
}

/* The VmFlags of the mapping at p, or "" where the kernel tells nothing. */
static void vm_flags(const void *p, char *out, size_t out_len)
{
    out[0] = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    if (f == NULL)
        return;
    char line[512];
    bool mine = false;
    while (fgets(line, sizeof(line), f) != NULL) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
            mine = start <= (uintptr_t)p && (uintptr_t)p < end;
        else if (mine && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(out, out_len, "%s", line);
    }
    fclose(f);
}

static void test_secret_is_kept_out_of_dumps(void **state)
{
    uint64_t unlocked = smt_mem_secret_unlocked();
    uint8_t *p = smt_mem_secret(100);
    assert_non_null(p);
    char flags[512];
    vm_flags(p, flags, sizeof(flags));
    if (flags[0] == 0)
        skip();
    assert_non_null(strstr(flags, " dd"));
    assert_non_null(strstr(flags, " wf"));
    if (mlock_works && smt_mem_secret_unlocked() == unlocked)
        assert_non_null(strstr(flags, " lo"));
    smt_mem_secret_free(p, 100);
    smt_mem_secret_free(NULL, 100);
}

static int child_status(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_secret_is_gone_in_a_child(void **state)
{
    uint8_t *p = smt_mem_secret(5000);
    assert_non_null(p);
    assert_true(is_zero(p, 5000));
    memset(p, 0x5a, 5000);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(is_zero(p, 5000) ? 0 : 1);
    assert_int_equal(child_status(pid), 0);
    assert_int_equal(p[4999], 0x5a);
    smt_mem_secret_free(p, 5000);
}

/* In a child without rights the lock is refused: the secret comes all the same and is counted. */
static void test_secret_that_cannot_be_locked(void **state)
{
    if (!mlock_works)
        skip();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setuid(65534) != 0))
            _exit(2);
        uint64_t before = smt_mem_secret_unlocked();
        uint8_t *p = smt_mem_secret(100);
        if (p == NULL)
            _exit(3);
        p[0] = 1;
        _exit(smt_mem_secret_unlocked() - before == (uint64_t)sysconf(_SC_PAGESIZE) ? 0 : 4);
    }
    assert_int_equal(child_status(pid), 0);
}

static void *churn(void *arg)
{
    for (unsigned i = 0; i < 5000; i++) {
        void *p = smt_mem_alloc(i % 300);
        if (p == NULL)
            return arg;
        smt_mem_free(p);
    }
    return NULL;
}

static void test_threads_count_together(void **state)
{
    struct smt_mem_stats before = smt_mem_live();
    pthread_t threads[4];
    static int failure;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &failure), 0);
    for (unsigned i = 0; i < 4; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_true(smt_mem_live().n_live == before.n_live);
    assert_true(smt_mem_live().bytes_live == before.bytes_live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_is_zeroed_and_aligned),
        cmocka_unit_test(test_maps),
        cmocka_unit_test(test_huge_maps),
        cmocka_unit_test(test_nth_allocation_fails),
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_secret_is_kept_out_of_dumps),
        cmocka_unit_test(test_secret_is_gone_in_a_child),
        cmocka_unit_test(test_secret_that_cannot_be_locked),
        cmocka_unit_test(test_threads_count_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
