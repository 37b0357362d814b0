/* What is to be copied: all entries of all sources, parents before children. */
#ifndef SMT_CP_LIST_H
#define SMT_CP_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "msg.h"

enum entry_type { ENTRY_FILE, ENTRY_DIR, ENTRY_LINK };

struct entry {
    enum entry_type type;
    int root;          /* the source's directory */
    char *dest;        /* path on the receiving side */
    const char *rel;   /* path below root; points into dest unless own_rel */
    char *own_rel;
    struct cp_meta meta;
    uint64_t size;     /* of files */
};

struct list {
    struct entry *entries;
    size_t n, cap;
    int *roots;
    size_t n_roots;
    uint64_t bytes;    /* of all files */
    uint64_t n_errors; /* said already: what could not be looked at */
};

/* Adds a source and everything below it. "dir" arrives as PREFIX/dir, "dir/" as PREFIX itself.
 * 0, or -1 when nothing of it can be copied (said). */
int list_add(struct list *list, const char *source, const char *prefix);

void list_free(struct list *list);

#endif
