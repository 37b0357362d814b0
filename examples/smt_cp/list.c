/* The walk is a queue, not a recursion: a directory's names are appended behind what is known, so a
 * tree of any depth costs neither stack nor open files. Links are never followed, except a source
 * that is itself one. */
#include "list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "path.h"
#include "store.h"

static void count_error(struct list *list, const char *what, const char *why)
{
    cp_error("%s: %s", what, why);
    list->n_errors++;
}

static struct entry *append(struct list *list, char *dest, const struct stat *st, int root)
{
    if (list->n == list->cap) {
        size_t cap = list->cap != 0 ? list->cap * 2 : 256;
        struct entry *more = realloc(list->entries, cap * sizeof(*more));
        if (more == NULL) {
            free(dest);
            return NULL;
        }
        list->entries = more;
        list->cap = cap;
    }
    struct entry *e = &list->entries[list->n++];
    *e = (struct entry){.type = S_ISDIR(st->st_mode)   ? ENTRY_DIR
                                : S_ISLNK(st->st_mode) ? ENTRY_LINK
                                                       : ENTRY_FILE,
                        .root = root,
                        .dest = dest,
                        .rel = dest,
                        .meta = {.mode = st->st_mode & 07777,
                                 .mtime_s = st->st_mtim.tv_sec,
                                 .mtime_ns = (uint32_t)st->st_mtim.tv_nsec}};
    if (e->type == ENTRY_FILE) {
        e->size = (uint64_t)st->st_size;
        list->bytes += e->size;
    }
    return e;
}

static char *join(const char *a, const char *b)
{
    char *out = NULL;
    if (asprintf(&out, "%s%s%s", a, a[0] != '\0' && b[0] != '\0' ? "/" : "", b) < 0) {
        return NULL;
    }
    return out;
}

static void add_name(struct list *list, size_t parent, size_t rel_at, int dir, const char *name)
{
    const char *fault = NULL;
    struct stat st;
    char *dest = join(list->entries[parent].dest, name);
    if (dest == NULL) {
        count_error(list, name, "out of memory");
        return;
    }
    if (strlen(dest) > CP_PATH_MAX) {
        fault = "path too long";
    } else if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        fault = strerror(errno);
    } else if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode)) {
        fault = "neither file, directory nor link, not copied";
    }
    if (fault != NULL) {
        count_error(list, dest, fault);
        free(dest);
        return;
    }
    struct entry *e = append(list, dest, &st, list->entries[parent].root);
    if (e == NULL) {
        count_error(list, name, "out of memory");
        return;
    }
    e->rel = e->dest + rel_at;
}

/* Appends what the directory entry holds. rel_at: where in a destination path the source's
 * begins. */
static void add_contents(struct list *list, size_t at, size_t rel_at)
{
    const struct entry *e = &list->entries[at];
    int fd = path_dir(e->root, e->rel, false);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        count_error(list, e->dest[0] != '\0' ? e->dest : ".", strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    errno = 0;
    for (struct dirent *d; (d = readdir(dir)) != NULL; errno = 0) {
        bool skip = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 ||
                    strncmp(d->d_name, STORE_PART_PREFIX, strlen(STORE_PART_PREFIX)) == 0;
        if (!skip) {
            add_name(list, at, rel_at, dirfd(dir), d->d_name);
        }
    }
    if (errno != 0) {
        count_error(list, list->entries[at].dest, strerror(errno));
    }
    closedir(dir);
}

static int add_root(struct list *list, const char *dir)
{
    int *more = realloc(list->roots, (list->n_roots + 1) * sizeof(*more));
    if (more == NULL) {
        return -1;
    }
    list->roots = more;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        list->roots[list->n_roots++] = fd;
    }
    return fd;
}

static int add_tree(struct list *list, const char *source, const struct stat *st, char *dest)
{
    int root = add_root(list, source);
    if (root < 0) {
        count_error(list, source, strerror(errno));
        free(dest);
        return -1;
    }
    size_t first = list->n;
    /* Below "a" names are "a/b": the source's part begins behind the slash. */
    size_t rel_at = strlen(dest) + (dest[0] != '\0');
    struct entry *e = append(list, dest, st, root);
    if (e == NULL) {
        count_error(list, source, "out of memory");
        return -1;
    }
    e->rel = "";
    for (size_t i = first; i < list->n; i++) {
        if (list->entries[i].type == ENTRY_DIR) {
            add_contents(list, i, rel_at);
        }
    }
    return 0;
}

static int add_file(struct list *list, const char *source, const struct stat *st, char *dest)
{
    char *real = realpath(source, NULL);
    char *dir = real != NULL ? strdup(real) : NULL;
    int root = dir != NULL ? add_root(list, dirname(dir)) : -1;
    struct entry *e = NULL;
    if (root < 0) {
        count_error(list, source, strerror(errno));
        free(dest);
    } else if ((e = append(list, dest, st, root)) == NULL ||
               (e->own_rel = strdup(strrchr(real, '/') + 1)) == NULL) {
        count_error(list, source, "out of memory");
    } else {
        e->rel = e->own_rel;
    }
    free(dir);
    free(real);
    return e != NULL ? 0 : -1;
}

int list_add(struct list *list, const char *source, const char *prefix)
{
    struct stat st;
    if (stat(source, &st) != 0) {
        count_error(list, source, strerror(errno));
        return -1;
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        count_error(list, source, "neither file nor directory, not copied");
        return -1;
    }
    const char *slash = strrchr(source, '/');
    const char *base = slash != NULL ? slash + 1 : source;
    bool contents = base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0;
    char *dest = join(prefix, contents ? "" : base);
    if (dest == NULL) {
        count_error(list, source, "out of memory");
        return -1;
    }
    return S_ISDIR(st.st_mode) ? add_tree(list, source, &st, dest)
                               : add_file(list, source, &st, dest);
}

void list_free(struct list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        free(list->entries[i].dest);
        free(list->entries[i].own_rel);
    }
    for (size_t i = 0; i < list->n_roots; i++) {
        close(list->roots[i]);
    }
    free(list->entries);
    free(list->roots);
}
