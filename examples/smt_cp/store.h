/* Files on the receiving side: partial ones, what they hold, and giving them their name. */
#ifndef SMT_CP_STORE_H
#define SMT_CP_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "hash.h"
#include "msg.h"

#define STORE_PART_PREFIX ".smt_cp-" /* no file of a copy may be called so */

/* A file being received. Its bytes are in ".smt_cp-<hash of its name>" beside it until they have
 * been checked. */
struct store_file {
    struct store_file *next;
    uint64_t id;
    int dir;             /* the directory it is in */
    int fd;              /* the partial file, or the complete one when is_final */
    bool is_final;
    bool busy;           /* a job reads it */
    char *name;
    char part[64];
    uint64_t size;
};

/* All return NULL for success or a text to send back; it is valid until the next call. */
const char *store_mkdir(int root, const char *path);
const char *store_setdir(int root, const char *path, const struct cp_meta *meta);
const char *store_link(int root, const char *path, const char *target, bool allow_outside);
const char *store_put(int root, const struct cp_request *request);
const char *store_open(int root, const struct cp_request *request, struct store_file **out);
const char *store_write(struct store_file *file, uint64_t offset, const void *data, size_t len);

/* The file was read and its hash found equal: mode, time and name. */
const char *store_finish(struct store_file *file, const struct cp_meta *meta);

/* Closes; the partial file stays for the next attempt. */
void store_close(struct store_file *file);

/* The bytes that are there to be compared. */
uint64_t store_have(const struct store_file *file);

#endif
