/* The environment read: a profile is a text of knobs that come before the user's own. */
#include "config.h"

#include <errno.h>
#include <ftw.h>
#include <glob.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"

static const struct {
    const char *name, *knobs;
} profiles[] = {
    {"full", ""},
    {"no-device", "devices=0"},
    {"not-mlx5", "mlx5=0"},
    {"no-devx", "devx=0"},
    {"open-eperm", "open_error=1"},
    {"no-tls-tx", "tls_tx=0,tls_tx_max=0,tls=0"},
    {"tls-off", "tls_tx=0,tls=0"}, /* the part could, its configuration does not */
    {"no-dek-object", "obj_types=0"},
    {"128-only", "tls=12"},
    {"tls12-only", "tls=10"},
    {"tls13-only", "tls=5"},
    {"no-suites", "tls=0"},
    {"small-dek", "log_max_dek=2"},
    {"no-dek", "log_max_dek=0"},
    {"small-tis", "log_max_tis=2"},
    {"selftest-failed", "failed_selftests=1"},
    {"no-sync-dek", "sync_dek=0"},
    {"no-tso", "log_max_lso=0"},
    {"eperm", "raw_qp_error=1,flow_error=1"},
    {"flow-eperm", "flow_error=1"},
    {"no-uar", "uar=0"},
    {"no-raw-wqe", "raw_wqe=0"},
    {"memlock", "memlock=65536"},
    {"td-refused", "td_status=9"},
    {"tis-refused", "tis_status=3"},
    {"dek-refused", "dek_status=3"},
    {"port-down", "port_down=1"},
    {"infiniband", "ib=1"},
};

static const char *const injection_names[MM_N_INJECTIONS] = {
    [MM_INJECT_CQE_LENGTH] = "cqe-length",
    [MM_INJECT_CQE_PROTECTION] = "cqe-protection",
    [MM_INJECT_CQE_FLUSH] = "cqe-flush",
    [MM_INJECT_DEK_ERROR] = "dek-error",
    [MM_INJECT_DEK_GARBAGE] = "dek-garbage",
    [MM_INJECT_TIS_ERROR] = "tis-error",
    [MM_INJECT_TIS_GARBAGE] = "tis-garbage",
    [MM_INJECT_QP_ERROR] = "qp-error",
    [MM_INJECT_RESET] = "reset",
    [MM_INJECT_PORT_DOWN] = "port-down",
    [MM_INJECT_PORT_UP] = "port-up",
};

static struct mm_config config = {
    .devices = 1,
    .seed = 1,
    .mlx5 = 1,
    .devx = 1,
    .tls_tx = 1,
    .tls_tx_max = 1,
    .tls = 15,
    .obj_types = 1 << 0xc,
    .crypto = 1,
    .sync_dek = 1,
    .log_max_dek = 12,
    .log_max_tis = 12,
    .log_max_td = 8,
    .log_max_lso = 18,
    .raw_wqe = 1,
    .uar = 1,
    .abort = 1,
};

static const struct {
    const char *name;
    size_t at;
} numbers[] = {
    {"devices", offsetof(struct mm_config, devices)},
    {"mtu", offsetof(struct mm_config, mtu)},
    {"seed", offsetof(struct mm_config, seed)},
    {"loopback", offsetof(struct mm_config, loopback)},
    {"mlx5", offsetof(struct mm_config, mlx5)},
    {"devx", offsetof(struct mm_config, devx)},
    {"ib", offsetof(struct mm_config, ib)},
    {"port_down", offsetof(struct mm_config, port_down)},
    {"tls_tx", offsetof(struct mm_config, tls_tx)},
    {"tls_tx_max", offsetof(struct mm_config, tls_tx_max)},
    {"tls", offsetof(struct mm_config, tls)},
    {"obj_types", offsetof(struct mm_config, obj_types)},
    {"crypto", offsetof(struct mm_config, crypto)},
    {"failed_selftests", offsetof(struct mm_config, failed_selftests)},
    {"sync_dek", offsetof(struct mm_config, sync_dek)},
    {"log_max_dek", offsetof(struct mm_config, log_max_dek)},
    {"log_max_tis", offsetof(struct mm_config, log_max_tis)},
    {"log_max_td", offsetof(struct mm_config, log_max_td)},
    {"log_max_lso", offsetof(struct mm_config, log_max_lso)},
    {"raw_wqe", offsetof(struct mm_config, raw_wqe)},
    {"uar", offsetof(struct mm_config, uar)},
    {"raw_qp_error", offsetof(struct mm_config, raw_qp_error)},
    {"flow_error", offsetof(struct mm_config, flow_error)},
    {"open_error", offsetof(struct mm_config, open_error)},
    {"memlock", offsetof(struct mm_config, memlock)},
    {"td_status", offsetof(struct mm_config, td_status)},
    {"tis_status", offsetof(struct mm_config, tis_status)},
    {"dek_status", offsetof(struct mm_config, dek_status)},
    {"abort", offsetof(struct mm_config, abort)},
    {"quiet", offsetof(struct mm_config, quiet)},
    {"cqe_batch", offsetof(struct mm_config, cqe_batch)},
    {"cqe_delay_us", offsetof(struct mm_config, cqe_delay_us)},
    {"lazy_us", offsetof(struct mm_config, lazy_us)},
    {"rq_drop", offsetof(struct mm_config, rq_drop)},
};

static const struct {
    const char *name;
    size_t at;
} chances[] = {
    {"loss", offsetof(struct mm_config, loss)},
    {"dup", offsetof(struct mm_config, dup)},
    {"reorder", offsetof(struct mm_config, reorder)},
};

static const struct {
    const char *name;
    size_t at, len;
} texts[] = {
    {"dir", offsetof(struct mm_config, dir), sizeof(config.dir)},
    {"pcap", offsetof(struct mm_config, pcap), sizeof(config.pcap)},
    {"stats", offsetof(struct mm_config, stats), sizeof(config.stats)},
};

static mm_chance chance_of(const char *key, const char *value)
{
    char *end;
    double d = strtod(value, &end);
    if (*end != '\0' || d < 0 || d > 1)
        mm_die("MLX5_MODEL", "%s=%s: want 0 ... 1", key, value);
    return d >= 1 ? UINT32_MAX : (mm_chance)(d * 4294967296.0);
}

/* "a+b+c" by device. */
static void words_read(char *value, char *out, size_t each)
{
    unsigned n = 0;
    for (char *save, *w = strtok_r(value, "+", &save); w != NULL; w = strtok_r(NULL, "+", &save)) {
        if (n == MM_MAX_DEVICES || strlen(w) >= each)
            mm_die("MLX5_MODEL", "%s: too many or too long", w);
        memcpy(out + n++ * each, w, strlen(w) + 1);
    }
}

/* "53454352+4f54": bytes that must never be on the wire. */
static void patterns_read(char *value)
{
    for (char *save, *w = strtok_r(value, "+", &save); w != NULL; w = strtok_r(NULL, "+", &save)) {
        size_t n = strlen(w) / 2;
        if (config.n_patterns == MM_MAX_PATTERNS || n < 4 || n > MM_PATTERN_LEN || strlen(w) % 2)
            mm_die("MLX5_MODEL", "plain=%s: want up to 16 patterns of 4 ... 64 bytes in hex", w);
        for (size_t i = 0; i < n; i++) {
            unsigned byte;
            if (sscanf(w + 2 * i, "%2x", &byte) != 1)
                mm_die("MLX5_MODEL", "plain=%s: not hexadecimal", w);
            config.pattern[config.n_patterns][i] = (uint8_t)byte;
        }
        config.pattern_len[config.n_patterns++] = (uint8_t)n;
    }
}

/* "qp-error:0.001+dek-garbage:0.01" */
static void injections_read(char *value)
{
    for (char *save, *w = strtok_r(value, "+", &save); w != NULL; w = strtok_r(NULL, "+", &save)) {
        char *colon = strchr(w, ':');
        if (colon == NULL)
            mm_die("MLX5_MODEL", "inject=%s: want NAME:CHANCE", w);
        *colon = '\0';
        enum mm_injection i = mm_injection_of(w);
        if (i == MM_INJECT_NONE)
            mm_die("MLX5_MODEL", "inject=%s: unknown", w);
        config.inject[i] = chance_of(w, colon + 1);
    }
}

static bool is_known(const char *key, char *value)
{
    void *base = &config;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(key, numbers[i].name) == 0) {
            char *end;
            *(uint64_t *)(void *)((char *)base + numbers[i].at) = strtoull(value, &end, 0);
            if (*end != '\0' || end == value)
                mm_die("MLX5_MODEL", "%s=%s: not a number", key, value);
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(chances) / sizeof(chances[0]); i++) {
        if (strcmp(key, chances[i].name) == 0) {
            *(mm_chance *)((char *)base + chances[i].at) = chance_of(key, value);
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(key, texts[i].name) == 0) {
            if (strlen(value) >= texts[i].len)
                mm_die("MLX5_MODEL", "%s=%s: too long", key, value);
            memcpy((char *)base + texts[i].at, value, strlen(value) + 1);
            return true;
        }
    }
    if (strcmp(key, "netdev") == 0)
        words_read(value, config.netdev[0], sizeof(config.netdev[0]));
    else if (strcmp(key, "mac") == 0)
        words_read(value, config.mac[0], sizeof(config.mac[0]));
    else if (strcmp(key, "plain") == 0)
        patterns_read(value);
    else if (strcmp(key, "inject") == 0)
        injections_read(value);
    else
        return false;
    return true;
}

static void knobs_read(char *text)
{
    char *save;
    for (char *w = strtok_r(text, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
        char *equal = strchr(w, '=');
        if (equal == NULL)
            mm_die("MLX5_MODEL", "%s: want key=value", w);
        *equal = '\0';
        if (!is_known(w, equal + 1))
            mm_die("MLX5_MODEL", "%s: unknown knob (tests/mlx5-model/README.md)", w);
    }
}

static void profile_read(const char *name)
{
    for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
        char text[128];
        if (strcmp(name, profiles[i].name) == 0) {
            snprintf(text, sizeof(text), "%s", profiles[i].knobs);
            knobs_read(text);
            return;
        }
    }
    mm_die("MLX5_MODEL", "%s: unknown profile (tests/mlx5-model/README.md)", name);
}

enum mm_injection mm_injection_of(const char *name)
{
    for (unsigned i = 1; i < MM_N_INJECTIONS; i++) {
        if (strcmp(name, injection_names[i]) == 0)
            return i;
    }
    return MM_INJECT_NONE;
}

static pid_t owner;

static int one_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void dir_remove(void)
{
    if (getpid() == owner && nftw(config.dir, one_remove, 8, FTW_DEPTH | FTW_PHYS) < 0)
        perror(config.dir);
}

/* Those of processes that were killed. */
static void stale_remove(void)
{
    glob_t found;
    if (glob("/dev/shm/mlx5-model.*", 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        int pid = atoi(strrchr(found.gl_pathv[i], '.') + 1);
        if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
            nftw(found.gl_pathv[i], one_remove, 8, FTW_DEPTH | FTW_PHYS);
    }
    globfree(&found);
}

/* Without dir= the wire is this process's own and goes with it. */
static void private_dir(void)
{
    stale_remove();
    owner = getpid();
    snprintf(config.dir, sizeof(config.dir), "/dev/shm/mlx5-model.%d", (int)owner);
    atexit(dir_remove);
}

static bool is_read;

bool mm_config_is_read(void)
{
    return is_read;
}

const struct mm_config *mm_config(void)
{
    if (is_read)
        return &config;
    is_read = true;
    char text[2048];
    const char *env = getenv("MLX5_MODEL");
    if (env != NULL && strlen(env) >= sizeof(text))
        mm_die("MLX5_MODEL", "too long");
    snprintf(text, sizeof(text), "%s", env != NULL ? env : "full");
    size_t word = strcspn(text, ",");
    bool more = text[word] == ',';
    text[word] = '\0';
    profile_read(text);
    if (more)
        knobs_read(text + word + 1);
    if (config.devices > MM_MAX_DEVICES)
        mm_die("MLX5_MODEL", "devices=%llu: at most %d", (unsigned long long)config.devices,
               MM_MAX_DEVICES);
    if (config.dir[0] == '\0')
        private_dir();
    if (mkdir(config.dir, 0700) < 0 && access(config.dir, W_OK) < 0)
        mm_die("MLX5_MODEL", "dir=%s: cannot be made", config.dir);
    return &config;
}
