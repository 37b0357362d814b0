/* smt_info: what this machine can do for libsmt-verbs and, where it cannot, why. Everything
 * comes from public calls; the cipher back ends are found by opening a context on each with a
 * throwaway key. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <smt/smt.h>

#include "common/json.h"
#include "common/opt.h"
#include "common/say.h"

enum { MAX_DEVICES = 64 };

struct info_options {
    struct opt_output json;
    bool version, help;
};

#define AT(member) offsetof(struct info_options, member)

static const struct opt table[] = {
    {0, "json", "[FILE]", OPT_OUTPUT, AT(json), 0, 0, "JSON to FILE or standard output"},
    {'V', "version", NULL, OPT_FLAG, AT(version), 0, 0, "print the version"},
    {'h', "help", NULL, OPT_FLAG, AT(help), 0, 0, "print this"},
};

struct backend {
    const char *impl, *cipher;
    bool works;
    char reason[256];
};

struct facts {
    struct smt_device_info devices[MAX_DEVICES];
    int n_devices;
    struct smt_device_probe probes[16];
    int n_probes;
    struct backend backends[4];
    unsigned n_backends;
    char flags[256];
    struct rlimit memlock;
    uint64_t unlocked;
    bool gso, gro;
    struct utsname kernel;
};

/* A PSK file that exists in memory only; returns its descriptor, or -1. */
static int throwaway_psk(char *path, size_t cap)
{
    static const char line[] = "smt_info:000102030405060708090a0b0c0d0e0f"
                               "101112131415161718191a1b1c1d1e1f\n";
    int fd = memfd_create("smt_info", MFD_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    if (write(fd, line, sizeof(line) - 1) != (ssize_t)sizeof(line) - 1) {
        close(fd);
        return -1;
    }
    snprintf(path, cap, "/proc/self/fd/%d", fd);
    return fd;
}

static void probe_backends(struct facts *f)
{
    static const char *const impls[] = {"ipsec-mb", "openssl"};
    static const char *const ciphers[] = {"aes-128-gcm", "aes-256-gcm"};
    for (unsigned i = 0; i < 4; i++) {
        struct backend *b = &f->backends[f->n_backends++];
        b->impl = impls[i / 2];
        b->cipher = ciphers[i % 2];
        char path[64];
        int fd = throwaway_psk(path, sizeof(path));
        if (fd < 0) {
            snprintf(b->reason, sizeof(b->reason), "not tried: %s", strerror(errno));
            continue;
        }
        struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
        config.psk_file = path;
        config.cipher = b->cipher;
        config.cipher_impl = b->impl;
        config.error_text = b->reason;
        config.error_text_len = sizeof(b->reason);
        struct smt_ctx *ctx;
        int rc = smt_ctx_open(&config, &ctx);
        b->works = rc == 0;
        if (rc == 0) {
            rc = smt_ctx_close(ctx);
        }
        if (rc != 0 && b->reason[0] == '\0') {
            snprintf(b->reason, sizeof(b->reason), "%s", smt_strerror(rc));
        }
        close(fd);
    }
}

/* The instructions that decide how fast sealing is. */
static void read_cpu_flags(struct facts *f)
{
    static const char *const wanted[] = {"aes",  "pclmulqdq",  "avx2", "avx512f",
                                         "vaes", "vpclmulqdq", "pmull"};
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL) {
        return;
    }
    char *line = NULL;
    size_t cap = 0;
    while (f->flags[0] == '\0' && getline(&line, &cap, file) > 0) {
        if (strncmp(line, "flags", 5) != 0 && strncmp(line, "Features", 8) != 0) {
            continue;
        }
        char *save = NULL;
        for (char *w = strtok_r(line, " \t\n", &save); w != NULL;
             w = strtok_r(NULL, " \t\n", &save)) {
            for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
                if (strcmp(w, wanted[i]) == 0) {
                    size_t len = strlen(f->flags);
                    snprintf(f->flags + len, sizeof(f->flags) - len, "%s%s", len != 0 ? " " : "",
                             w);
                }
            }
        }
    }
    free(line);
    fclose(file);
}

static void probe_udp(struct facts *f)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    int value = 1400, on = 1;
    f->gso = setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &value, sizeof(value)) == 0;
    f->gro = setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)) == 0;
    close(fd);
}

static int gather(struct facts *f)
{
    memset(f, 0, sizeof(*f));
    f->n_devices = smt_device_list(f->devices, MAX_DEVICES);
    if (f->n_devices < 0) {
        say_error("devices: %s", smt_strerror(f->n_devices));
        return TOOL_ERRORS;
    }
    if (f->n_devices > MAX_DEVICES) {
        f->n_devices = MAX_DEVICES;
    }
    f->n_probes = smt_device_probe(NULL, f->probes, sizeof(f->probes) / sizeof(f->probes[0]));
    probe_backends(f);
    read_cpu_flags(f);
    probe_udp(f);
    f->unlocked = smt_secret_unlocked_bytes();
    if (getrlimit(RLIMIT_MEMLOCK, &f->memlock) != 0) {
        f->memlock.rlim_cur = 0;
    }
    if (uname(&f->kernel) != 0) {
        snprintf(f->kernel.release, sizeof(f->kernel.release), "unknown");
    }
    return TOOL_OK;
}

static const char *result_word(enum smt_probe_result result)
{
    return result == SMT_PROBE_GOOD ? "ok" : result == SMT_PROBE_BAD ? "NO" : "-";
}

static void print_text(const struct facts *f)
{
    printf("libsmt-verbs %s, profile smt2, %s, Linux %s\n\ndevices\n", smt_version(),
           OpenSSL_version(OPENSSL_VERSION), f->kernel.release);
    for (int i = 0; i < f->n_devices; i++) {
        const struct smt_device_info *d = &f->devices[i];
        printf("  %-12s %-10s %s\n", d->name, d->usable ? "usable" : "not usable", d->text);
        if (d->offload[0] != '\0') {
            printf("  %-12s offload    %s\n", "", d->offload);
        }
        if (d->addresses[0] != '\0') {
            printf("  %-12s GIDs       %s\n", "", d->addresses);
        }
        if (!d->usable && d->reason[0] != '\0') {
            printf("  %-12s why        %s\n", "", d->reason);
        }
    }
    printf("\nsealing by the NIC (mlx5)\n");
    for (int i = 0; i < f->n_probes; i++) {
        const struct smt_device_probe *p = &f->probes[i];
        printf("  %2u %-17s %-4s %s\n", p->number, p->what, result_word(p->result), p->text);
    }
    printf("\nciphers\n");
    for (unsigned i = 0; i < f->n_backends; i++) {
        const struct backend *b = &f->backends[i];
        printf("  %-12s %-10s %s%s%s\n", b->cipher, b->impl, b->works ? "works" : "not available",
               b->works ? "" : ": ", b->works ? "" : b->reason);
    }
    printf("  CPU          %s\n", f->flags[0] != '\0' ? f->flags : "no AES instructions seen");
    printf("\nsystem\n  UDP_SEGMENT  %s\n  UDP_GRO      %s\n", f->gso ? "yes" : "no: slower sends",
           f->gro ? "yes" : "no: slower receives");
    printf("  locked mem   ");
    if (f->memlock.rlim_cur == RLIM_INFINITY) {
        printf("no limit");
    } else {
        printf("limit %llu kB (ulimit -l)", (unsigned long long)f->memlock.rlim_cur / 1024);
    }
    printf(", %llu bytes of key memory not locked\n", (unsigned long long)f->unlocked);
}

static void write_json(const struct facts *f, FILE *out)
{
    struct json j;
    json_init(&j, out);
    json_open_object(&j, NULL);
    json_string(&j, "tool", "smt_info");
    json_string(&j, "version", smt_version());
    json_string(&j, "profile", "smt2");
    json_string(&j, "openssl", OpenSSL_version(OPENSSL_VERSION));
    json_string(&j, "kernel", f->kernel.release);
    json_open_array(&j, "devices");
    for (int i = 0; i < f->n_devices; i++) {
        const struct smt_device_info *d = &f->devices[i];
        json_open_object(&j, NULL);
        json_string(&j, "name", d->name);
        json_string(&j, "text", d->text);
        json_string(&j, "offload", d->offload);
        json_bool(&j, "usable", d->usable != 0);
        json_string(&j, "reason", d->reason);
        json_string(&j, "addresses", d->addresses);
        json_close_object(&j);
    }
    json_close_array(&j);
    json_open_array(&j, "nic_sealing");
    for (int i = 0; i < f->n_probes; i++) {
        const struct smt_device_probe *p = &f->probes[i];
        json_open_object(&j, NULL);
        json_uint(&j, "number", p->number);
        json_string(&j, "what", p->what);
        json_string(&j, "result", result_word(p->result));
        json_string(&j, "text", p->text);
        json_close_object(&j);
    }
    json_close_array(&j);
    json_open_array(&j, "ciphers");
    for (unsigned i = 0; i < f->n_backends; i++) {
        const struct backend *b = &f->backends[i];
        json_open_object(&j, NULL);
        json_string(&j, "cipher", b->cipher);
        json_string(&j, "impl", b->impl);
        json_bool(&j, "works", b->works);
        json_string(&j, "reason", b->works ? "" : b->reason);
        json_close_object(&j);
    }
    json_close_array(&j);
    json_string(&j, "cpu", f->flags);
    json_bool(&j, "udp_segment", f->gso);
    json_bool(&j, "udp_gro", f->gro);
    bool unlimited = f->memlock.rlim_cur == RLIM_INFINITY;
    json_bool(&j, "memlock_unlimited", unlimited);
    json_uint(&j, "memlock_bytes", unlimited ? 0 : (uint64_t)f->memlock.rlim_cur);
    json_uint(&j, "secret_unlocked_bytes", f->unlocked);
    json_close_object(&j);
}

static int print_facts(const struct facts *f, const struct opt_output *json)
{
    if (!json->wanted) {
        print_text(f);
    } else {
        FILE *out = json->path != NULL ? fopen(json->path, "w") : stdout;
        if (out == NULL) {
            say_error("cannot write %s: %s", json->path, strerror(errno));
            return TOOL_USAGE;
        }
        write_json(f, out);
        if (out != stdout && fclose(out) != 0) {
            say_error("cannot write %s: %s", json->path, strerror(errno));
            return TOOL_ERRORS;
        }
    }
    if (fflush(stdout) != 0) {
        say_error("cannot write: %s", strerror(errno));
        return TOOL_ERRORS;
    }
    return TOOL_OK;
}

int main(int argc, char **argv)
{
    static struct facts facts;
    struct info_options options = {.help = false};
    struct opt_args args = {.max = 0};
    say_name("smt_info");
    if (opt_parse(table, sizeof(table) / sizeof(table[0]), argc, argv, &options, &args) != 0) {
        return TOOL_USAGE;
    }
    if (options.help) {
        printf("smt_info: devices, ciphers and limits of this machine\n\n"
               "usage: smt_info [options]\n\n");
        opt_print_help(stdout, table, sizeof(table) / sizeof(table[0]));
        return TOOL_OK;
    }
    if (options.version) {
        printf("smt_info %s\n", smt_version());
        return TOOL_OK;
    }
    int rc = gather(&facts);
    return rc != TOOL_OK ? rc : print_facts(&facts, &options.json);
}
