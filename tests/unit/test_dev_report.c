/* The list of what a machine has, and why it has no RDMA device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/dev.h"
#include "dev/verbs_probe.h"

static void test_list(void **state)
{
    struct smt_dev_report r[16];
    memset(r, 0xee, sizeof(r));
    int n = smt_dev_report(r, 16), n_sockets = 0;
    assert_in_range(n, 4, 16);
    assert_string_equal(r[0].name, "udp");
    assert_true(r[0].usable);
    assert_string_equal(r[0].reason, "");
    assert_non_null(strstr(r[0].offload, "GSO"));
    /* These by who runs this, but never without a word. */
    for (int i = 1; i < n; i++) {
        if (strcmp(r[i].name, "af") == 0 || strcmp(r[i].name, "ip") == 0 ||
            strcmp(r[i].name, "shm") == 0) {
            assert_true(r[i].usable ? strlen(r[i].offload) > 0 : strlen(r[i].reason) > 0);
            n_sockets++;
            continue;
        }
        assert_false(r[i].usable);
        assert_true(strlen(r[i].name) > 0 && strlen(r[i].text) > 0 && strlen(r[i].reason) > 0);
    }
    assert_int_equal(n_sockets, 3);
    assert_int_equal(smt_dev_report(r, 1), 1);
    assert_int_equal(smt_dev_report(r, 0), 0);
}

static void touch(const char *dir, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void forget(const char *dir, const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

static void test_why_none(void **state)
{
    char root[] = "/tmp/smt_test_verbs_XXXXXX", sys[64], dev[64], text[256];
    assert_non_null(mkdtemp(root));
    snprintf(sys, sizeof(sys), "%s/sys", root);
    snprintf(dev, sizeof(dev), "%s/dev", root);

    smt_verbs_why_none(sys, dev, ENOSYS, text, sizeof(text));
    assert_memory_equal(text, "no RDMA device: ", 16);
    assert_non_null(strstr(text, "no RDMA support"));
    assert_non_null(strstr(text, "modprobe"));

    assert_int_equal(mkdir(sys, 0700), 0);
    smt_verbs_why_none(sys, dev, 0, text, sizeof(text));
    assert_non_null(strstr(text, "is empty"));

    touch(sys, "mlx5_0");
    smt_verbs_why_none(sys, dev, 0, text, sizeof(text));
    assert_non_null(strstr(text, "uverbs"));
    assert_int_equal(mkdir(dev, 0700), 0);
    touch(dev, "rdma_cm");
    smt_verbs_why_none(sys, dev, 0, text, sizeof(text));
    assert_non_null(strstr(text, "modprobe ib_uverbs"));

    touch(dev, "uverbs0");
    smt_verbs_why_none(sys, dev, EPERM, text, sizeof(text));
    assert_non_null(strstr(text, strerror(EPERM)));
    smt_verbs_why_none(sys, dev, 0, text, sizeof(text));
    assert_non_null(strstr(text, "ibverbs-providers"));

    forget(dev, "uverbs0");
    forget(dev, "rdma_cm");
    forget(sys, "mlx5_0");
    assert_int_equal(rmdir(dev), 0);
    assert_int_equal(rmdir(sys), 0);
    assert_int_equal(rmdir(root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_why_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
