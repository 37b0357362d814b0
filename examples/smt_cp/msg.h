/* The messages of smt_cp: every request is a call, every answer begins with a status. */
#ifndef SMT_CP_MSG_H
#define SMT_CP_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cp.h"

enum { CP_VERSION = 1, CP_HEAD_MAX = CP_PATH_MAX + CP_PATH_MAX + 128 };

enum cp_op {
    CP_HELLO = 1, /* path: the directory the copy goes to; made if it is missing */
    CP_PUT,       /* path, meta, size, hash, data: a whole small file */
    CP_OPEN,      /* path, meta, size, fresh: begin a large file; answer: struct cp_have */
    CP_WRITE,     /* id, offset, data */
    CP_COMMIT,    /* id, meta, size, hash: all of it is there; check it, give it its name */
    CP_ABORT,     /* id: the sender gives up; the partial file stays */
    CP_MKDIR,     /* path */
    CP_SETDIR,    /* path, meta: after its contents are there */
    CP_LINK,      /* path, target */
};

struct cp_meta {
    uint32_t mode;
    int64_t mtime_s;
    uint32_t mtime_ns;
};

/* A request in memory; which members count depends on op. Strings are not terminated on the wire,
 * here they are. */
struct cp_request {
    enum cp_op op;
    char path[CP_PATH_MAX + 1], target[CP_PATH_MAX + 1];
    struct cp_meta meta;
    uint64_t id, offset, size;
    bool fresh;
    uint8_t hash[CP_HASH_LEN];
    const uint8_t *data; /* borrowed from the message */
    size_t data_len;
};

/* Answer to OPEN: what the server has already, as hashes of blocks, for the sender to compare. */
struct cp_have {
    uint64_t id, len;
    bool is_final; /* a complete file of that name, not a partial one */
    const uint8_t *hashes;
    size_t n_hashes;
};

/* Everything but the data; returns the length of the head. */
size_t cp_put_request(const struct cp_request *request, uint8_t head[CP_HEAD_MAX]);

/* 0, or -1: malformed, or another version. */
int cp_get_request(const void *bytes, size_t len, struct cp_request *request);

/* Answers: status 0, or 1 with a text. */
size_t cp_put_error(const char *text, uint8_t *out, size_t cap);
size_t cp_have_size(size_t n_hashes);
void cp_put_have(const struct cp_have *have, uint8_t *out);

/* 0: success; 1: the server's text is in `text`; -1: malformed. `have` may be NULL. */
int cp_get_answer(const void *bytes, size_t len, char *text, size_t text_cap,
                  struct cp_have *have);

#endif
