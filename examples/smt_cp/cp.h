/* smt_cp: copies files and trees between two processes as messages. What its two sides share. */
#ifndef SMT_CP_H
#define SMT_CP_H

#include <stdbool.h>
#include <stdint.h>

#include <smt/smt.h>

enum {
    CP_BLOCK = 1 << 20,     /* bytes per WRITE, and per hash of a partial file */
    CP_SMALL = 64 << 10,    /* files up to this travel in one PUT */
    CP_HASH_LEN = 32,       /* SHA-256 */
    CP_PATH_MAX = 32 << 10, /* bytes of a path inside the served directory */
};

enum cp_exit { CP_OK = 0, CP_USAGE = 1, CP_CONNECTION = 2, CP_ERRORS = 3 };

struct cp_options {
    const char *device, *gid, *cert, *key, *ca, *psk_file, *pins, *cipher, *verify_name;
    const char *bind_host, *tap;
    bool plaintext, all_links, once, quiet;
    uint16_t port;
    double deadline_s;
};

/* One line on standard error, behind "smt_cp: "; the progress line is erased first. */
void cp_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Set by SIGINT and SIGTERM. */
bool cp_stopped(void);

uint64_t cp_now(void);

/* Both return an exit code; failures have been said. */
int cp_serve(const struct cp_options *o, struct smt_ctx *ctx, const char *dir);
int cp_send(const struct cp_options *o, struct smt_ctx *ctx, char **sources, int n_sources,
            const char *target);

/* Says that the device's port went down or came back; other events it leaves alone. */
void cp_device_event(const struct smt_event *event);

/* The library's line on its last failure. */
const char *cp_reason(const struct smt_ctx *ctx, int error);

#endif
