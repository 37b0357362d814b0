/* A process that forks: what the child has of a session's keys is zeros, however it was made, so
 * that it can neither seal under a number that its parent uses too nor open what comes. That the
 * child is refused before it gets so far is in tests/net/test_net_fork.c. */
#include "attack.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../sim/pair.h"

static pid_t raw_fork(void)
{
    return (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
}

static bool is_zero(const void *p, size_t len)
{
    const uint8_t *bytes = p;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static size_t block_len(const struct smt_keys *k)
{
    return sizeof(struct smt_key_block) + 4 * k->env->aead->key_len;
}

static bool epoch_is_zero(const struct smt_keys *k, const struct smt_epoch *e)
{
    return e == NULL || is_zero(e->block, block_len(k));
}

/* Two ends in one process after calls in both directions and a rekey: raw keys and secrets of all
 * epochs, and every expanded key. */
static bool keys_are_zero(const struct smt_keys *k)
{
    return epoch_is_zero(k, &k->now) && epoch_is_zero(k, k->prev) && epoch_is_zero(k, k->next) &&
           is_zero(k->env->ring_mem, k->env->ring_len);
}

static const struct sim_load_config calls = {
    .n_calls = 200, .window = 16, .max_len = 1 << 12, .max_resp = 1 << 12, .one_way = 25};

static void a_child_has_no_keys(void **state)
{
    (void)state;
    static const enum checking_cipher ciphers[] = {CHECKING_AES128_GCM, CHECKING_AES256_GCM};
    for (unsigned i = 0; i < 4; i++) {
        struct pair p = pair_new(sim_seed(280), &clean_link, ciphers[i / 2]);
        p.a->config.rekey_records = 100;
        pair_start(&p);
        struct smt_conn *back;
        struct smt_conn *conn = pair_connect(&p, &back);
        sim_app_load_on(p.app, p.a, conn, &calls);
        sim_app_load_on(p.app, p.b, back, &calls);
        sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
        SIM_CHECK(p.net, conn->keys.prev != NULL, "no epoch before");
        SIM_CHECK(p.net, !keys_are_zero(&conn->keys) && !keys_are_zero(&back->keys), "no keys");
        pid_t pid = i % 2 == 0 ? fork() : raw_fork();
        assert_true(pid >= 0);
        if (pid == 0)
            _exit(keys_are_zero(&conn->keys) && keys_are_zero(&back->keys) ? 0 : 1);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        /* The parent does not notice. */
        sim_app_load_on(p.app, p.a, conn, &calls);
        sim_app_finish(p.app, p.net->now + 60 * SMT_SEC);
        SIM_CHECK(p.net, sim_app_stats(p.app)->failed == 0, "failures");
        SIM_CHECK(p.net, checking_aead_stats().violations == 0, "a number sealed twice");
        pair_free(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_has_no_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
