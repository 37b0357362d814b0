/* See harness.h. */
#include "harness.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

char harness_dir[64];
static long complaints_seen;

static void tree_remove(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", harness_dir);
    if (system(command) != 0)
        fprintf(stderr, "%s stays\n", harness_dir);
}

static bool run_one(const struct harness_test *t)
{
    snprintf(harness_dir, sizeof(harness_dir), "/dev/shm/mlx5-test.XXXXXX");
    if (mkdtemp(harness_dir) == NULL)
        return false;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char knobs[512];
        snprintf(knobs, sizeof(knobs), "%s,dir=%s,stats=%s/stats,quiet=1", t->knobs, harness_dir,
                 harness_dir);
        setenv("MLX5_MODEL", knobs, 1);
        alarm(300);
        t->run();
        exit(0);
    }
    int status = 0;
    bool good = pid > 0 && waitpid(pid, &status, 0) == pid &&
                (t->dies != 0 ? WIFSIGNALED(status) && WTERMSIG(status) == t->dies
                              : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (!good)
        fprintf(stderr, "%s: wait status 0x%x\n", t->name, (unsigned)status);
    tree_remove();
    return good;
}

int harness_run(const struct harness_test *tests, size_t n)
{
    size_t failed = 0;
    if (getenv("LD_PRELOAD") == NULL) {
        printf("the model is not preloaded\n");
        return 77;
    }
    for (size_t i = 0; i < n; i++) {
        bool good = run_one(&tests[i]);
        printf("%s %s\n", good ? "ok    " : "FAILED", tests[i].name);
        failed += !good;
    }
    printf("%zu tests, %zu failed\n", n, failed);
    return failed != 0;
}

bool harness_complained(const char *field)
{
    char path[96], line[512], want[64];
    bool found = false;
    snprintf(path, sizeof(path), "%s/COMPLAINTS", harness_dir);
    snprintf(want, sizeof(want), "mlx5-model: %s: ", field);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return field[0] == '\0';
    fseek(f, complaints_seen, SEEK_SET);
    unsigned n = 0;
    while (fgets(line, sizeof(line), f) != NULL) {
        n++;
        found |= strncmp(line, want, strlen(want)) == 0;
        if (strncmp(line, want, strlen(want)) != 0)
            fprintf(stderr, "%s", line);
    }
    complaints_seen = ftell(f);
    fclose(f);
    return field[0] == '\0' ? n == 0 : found && n == 1;
}

void harness_control(unsigned device, const char *line)
{
    char path[96];
    snprintf(path, sizeof(path), "%s/control.%d.%u", harness_dir, (int)getpid(), device);
    int fd = open(path, O_WRONLY | O_NONBLOCK);
    CHECK(fd >= 0);
    CHECK(write(fd, line, strlen(line)) == (ssize_t)strlen(line));
    close(fd);
}

uint64_t harness_stat(const char *name)
{
    char path[96], found[64];
    unsigned long long value;
    snprintf(path, sizeof(path), "%s/stats", harness_dir);
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    while (fscanf(f, "%63s %llu", found, &value) == 2) {
        if (strcmp(found, name) == 0) {
            fclose(f);
            return value;
        }
    }
    fclose(f);
    CHECK(!"no such counter");
    return 0;
}

static void be64_put(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (56 - 8 * i));
}

static int gcm(bool seal, uint32_t version, const uint8_t *key, uint32_t key_len, const uint8_t *iv,
               uint64_t number, uint8_t *record, uint32_t len)
{
    uint8_t nonce[12], aad[13], count[8], *tag = record + len - 16;
    uint32_t head = version == 2 ? 13 : 5, body = len - head - 16;
    int n, aad_len = version == 2 ? 13 : 5, good = 1;
    be64_put(count, number);
    if (version == 2) {
        memcpy(nonce, iv, 4);
        memcpy(nonce + 4, record + 5, 8);
        memcpy(aad, count, 8);
        memcpy(aad + 8, record, 3);
        aad[11] = (uint8_t)(body >> 8);
        aad[12] = (uint8_t)body;
    } else {
        memcpy(nonce, iv, 12);
        for (int i = 0; i < 8; i++)
            nonce[4 + i] ^= count[i];
        memcpy(aad, record, 5);
    }
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    const EVP_CIPHER *cipher = key_len == 16 ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
    CHECK(EVP_CipherInit_ex(c, cipher, NULL, key, nonce, seal) == 1);
    CHECK(EVP_CipherUpdate(c, NULL, &n, aad, aad_len) == 1);
    CHECK(EVP_CipherUpdate(c, record + head, &n, record + head, (int)body) == 1);
    if (!seal)
        CHECK(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, 16, tag) == 1);
    uint8_t none[16];
    good = EVP_CipherFinal_ex(c, none, &n) == 1;
    if (seal)
        CHECK(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, 16, tag) == 1);
    EVP_CIPHER_CTX_free(c);
    return good;
}

void harness_seal(uint32_t version, const uint8_t *key, uint32_t key_len, const uint8_t *iv,
                  uint64_t number, uint8_t *record, uint32_t len)
{
    CHECK(gcm(true, version, key, key_len, iv, number, record, len));
}

bool harness_open(uint32_t version, const uint8_t *key, uint32_t key_len, const uint8_t *iv,
                  uint64_t number, uint8_t *record, uint32_t len)
{
    return gcm(false, version, key, key_len, iv, number, record, len);
}

uint32_t harness_hex(const char *text, uint8_t *out)
{
    uint32_t n = 0;
    unsigned byte;
    for (; *text != '\0'; text += *text == ' ' ? 1 : 2) {
        if (*text == ' ')
            continue;
        CHECK(sscanf(text, "%2x", &byte) == 1);
        out[n++] = (uint8_t)byte;
    }
    return n;
}
