/* The key log: opened only when the environment asks and may ask, private to its owner, one whole
 * line a secret. The handshakes that fill it are in test_net_capture. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "certs.h"
#include "hs/keylog.h"
#include "hs_pair.h"

enum { NOBODY = 65534 };

static struct test_dir dir;

static void test_not_asked(void **state)
{
    const struct smt_error_line line = {0};
    int fd = 7;
    unsetenv("SSLKEYLOGFILE");
    assert_int_equal(smt_keylog_open(&line, &fd), 0);
    assert_int_equal(fd, -1);
    setenv("SSLKEYLOGFILE", "", 1);
    assert_int_equal(smt_keylog_open(&line, &fd), 0);
    assert_int_equal(fd, -1);
    unsetenv("SSLKEYLOGFILE");
}

static void test_not_writable(void **state)
{
    char text[256] = "";
    const struct smt_error_line line = {text, sizeof(text)};
    int fd;
    setenv("SSLKEYLOGFILE", "/nowhere/keys", 1);
    assert_int_equal(smt_keylog_open(&line, &fd), SMT_EFILE);
    assert_int_equal(fd, -1);
    assert_non_null(strstr(text, "/nowhere/keys"));
    unsetenv("SSLKEYLOGFILE");
}

/* Appends, keeps what is there, and makes a new file private whatever the umask. */
static void test_appends(void **state)
{
    const struct smt_error_line line = {0};
    const char *path = test_dir_write(&dir, "old.log", "# kept\n");
    setenv("SSLKEYLOGFILE", path, 1);
    int fd;
    assert_int_equal(smt_keylog_open(&line, &fd), 0);
    assert_int_equal(write(fd, "new\n", 4), 4);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    char got[32] = "";
    FILE *f = fopen(path, "r");
    assert_int_equal(fread(got, 1, sizeof(got) - 1, f), 11);
    fclose(f);
    assert_string_equal(got, "# kept\nnew\n");

    path = test_dir_path(&dir, "fresh.log");
    setenv("SSLKEYLOGFILE", path, 1);
    mode_t mask = umask(0);
    assert_int_equal(smt_keylog_open(&line, &fd), 0);
    umask(mask);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    close(fd);
    unsetenv("SSLKEYLOGFILE");
}

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (; (text = strstr(text, word)) != NULL; text += strlen(word))
        n++;
    return n;
}

/* Both ends of one handshake log; every line is whole and carries the client's random. */
static void test_handshake_is_logged(void **state)
{
    const char *key = test_dir_write(&dir, "psk", "me:00112233445566778899aabbccddeeff\n");
    const enum smt_aead_alg algs[] = {SMT_AEAD_AES128_GCM, SMT_AEAD_AES256_GCM};
    const struct smt_creds_config config = {.psk_file = key, .algs = algs, .n_algs = 2};
    const char *path = test_dir_path(&dir, "psk.log");
    setenv("SSLKEYLOGFILE", path, 1);
    struct smt_creds *creds;
    assert_int_equal(smt_creds_new(&config, &creds), 0);
    unsetenv("SSLKEYLOGFILE");
    assert_true(smt_creds_logs_keys(creds));
    struct hs_pair pair;
    hs_pair_open_simple(&pair, creds, creds);
    hs_pair_run(&pair);
    assert_int_equal(pair.i_rc, SMT_HS_DONE);
    assert_int_equal(pair.r_rc, SMT_HS_DONE);
    hs_pair_close(&pair);
    smt_creds_free(creds);

    char got[8192] = "";
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_in_range(fread(got, 1, sizeof(got) - 1, f), 100, sizeof(got) - 2);
    fclose(f);
    assert_int_equal(count(got, "EXPORTER_SECRET "), 2);
    assert_int_equal(count(got, "SERVER_HANDSHAKE_TRAFFIC_SECRET "), 2);
    for (char *line = strtok(got, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char label[64], random[80], secret[160];
        assert_int_equal(sscanf(line, "%63s %79s %159s", label, random, secret), 3);
        assert_int_equal(strlen(random), 64);
        assert_int_equal(strlen(secret), 64);
    }

    assert_int_equal(smt_creds_new(&config, &creds), 0);
    assert_false(smt_creds_logs_keys(creds));
    smt_creds_free(creds);
}

static int own_path_copy(const char *to)
{
    char buf[65536];
    int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    ssize_t n;
    while ((n = read(in, buf, sizeof(buf))) > 0)
        if (write(out, buf, (size_t)n) != n)
            n = -2;
    close(in);
    close(out);
    return n == 0 ? 0 : -1;
}

/* This program again, as user `uid`, asking for the log; its exit status. */
static int run_as(const char *program, uid_t uid)
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(uid) == 0 && setuid(uid) == 0)
            execl(program, program, "open", (char *)NULL);
        _exit(99);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

/* A program that runs with rights of its owner does not let its user's environment write files. */
static void test_setuid_refused(void **state)
{
    if (geteuid() != 0) {
        print_message("needs root to make a setuid program\n");
        skip();
    }
    char program[256], log[256];
    snprintf(program, sizeof(program), "%s", test_dir_path(&dir, "setuid"));
    snprintf(log, sizeof(log), "%s", test_dir_path(&dir, "setuid.log"));
    assert_int_equal(chmod(dir.path, 0777), 0);
    assert_int_equal(own_path_copy(program), 0);
    setenv("SSLKEYLOGFILE", log, 1);
    assert_int_equal(run_as(program, NOBODY), 0);
    assert_int_equal(access(log, F_OK), 0);
    assert_int_equal(unlink(log), 0);
    assert_int_equal(chmod(program, 04755), 0);
    int status = run_as(program, NOBODY);
    unsetenv("SSLKEYLOGFILE");
    if (status == 0 && access(log, F_OK) == 0) {
        struct stat st;
        assert_int_equal(stat(log, &st), 0);
        /* Owned by the user: the file system does not honour setuid, nothing was tested. */
        assert_int_equal(st.st_uid, NOBODY);
        skip();
    }
    assert_int_equal(status, 1);
    assert_int_equal(access(log, F_OK), -1);
}

static int setup(void **state)
{
    test_dir_make(&dir);
    return 0;
}

static int teardown(void **state)
{
    test_dir_remove(&dir);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "open") == 0) {
        const struct smt_error_line line = {0};
        int fd;
        return smt_keylog_open(&line, &fd) < 0 ? 2 : fd < 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_not_asked),
        cmocka_unit_test(test_not_writable),
        cmocka_unit_test(test_appends),
        cmocka_unit_test(test_handshake_is_logged),
        cmocka_unit_test(test_setuid_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
