/* Nothing appears under its name before its SHA-256 was found right: bytes go to a partial file
 * beside it, which is renamed. A partial file is opened only if it is a plain file with one
 * name, so a planted link gets nothing written through. Owners and set-id bits are not taken
 * over. */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "path.h"

enum { MODE_MASK = 0777 };

static const char *say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static const char *say(const char *format, ...)
{
    static char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return text;
}

static const char *system_text(const char *what)
{
    return errno == ELOOP ? say("%s: a symbolic link is in the way, refused", what)
                          : say("%s: %s", what, strerror(errno));
}

/* The fault of a path that must name something, or NULL. */
static const char *name_fault(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    return name[0] == '\0' ? "empty name refused"
           : strncmp(name, STORE_PART_PREFIX, strlen(STORE_PART_PREFIX)) == 0
               ? "this name is reserved for partial files"
               : path_fault(path);
}

static void set_times(const struct cp_meta *meta, struct timespec times[2])
{
    times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
    times[1] = (struct timespec){.tv_sec = meta->mtime_s, .tv_nsec = meta->mtime_ns};
}

static int set_meta(int fd, const struct cp_meta *meta)
{
    struct timespec times[2];
    set_times(meta, times);
    return fchmod(fd, meta->mode & MODE_MASK) != 0 || futimens(fd, times) != 0 ? -1 : 0;
}

static int part_name(const char *name, char *out, size_t cap)
{
    uint8_t hash[CP_HASH_LEN];
    if (hash_of(name, strlen(name), hash) != 0) {
        errno = ENOMEM;
        return -1;
    }
    int at = snprintf(out, cap, "%s", STORE_PART_PREFIX);
    for (unsigned i = 0; i < 10; i++) {
        at += snprintf(out + at, cap - (size_t)at, "%02x", hash[i]);
    }
    return 0;
}

const char *store_mkdir(int root, const char *path)
{
    const char *fault = path_fault(path);
    if (fault != NULL) {
        return fault;
    }
    int fd = path_dir(root, path, true);
    if (fd < 0) {
        return system_text("directory");
    }
    close(fd);
    return NULL;
}

const char *store_setdir(int root, const char *path, const struct cp_meta *meta)
{
    const char *fault = path_fault(path);
    if (fault != NULL) {
        return fault;
    }
    int fd = path_dir(root, path, false);
    if (fd < 0) {
        return system_text("directory");
    }
    const char *text = set_meta(fd, meta) != 0 ? system_text("mode and time") : NULL;
    close(fd);
    return text;
}

const char *store_link(int root, const char *path, const char *target, bool allow_outside)
{
    const char *fault = name_fault(path);
    if (fault != NULL) {
        return fault;
    }
    if (target[0] == '\0') {
        return "link without a target refused";
    }
    if (!allow_outside && !path_link_is_inside(path, target)) {
        return say("link to '%.200s' leaves the served directory, refused (serve --all-links)",
                   target);
    }
    const char *name;
    int dir = path_parent(root, path, true, &name);
    if (dir < 0) {
        return system_text("directory");
    }
    char part[64];
    const char *text = NULL;
    if (part_name(name, part, sizeof(part)) != 0 ||
        (unlinkat(dir, part, 0) != 0 && errno != ENOENT) || symlinkat(target, dir, part) != 0) {
        text = system_text("link");
    } else if (renameat(dir, part, dir, name) != 0) {
        text = system_text("link");
        unlinkat(dir, part, 0);
    }
    close(dir);
    return text;
}

/* Opens the partial file for writing, alone. */
static int open_part(int dir, const char *part)
{
    int fd = openat(dir, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0) {
        return -1;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
        close(fd);
        errno = EPERM;
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        errno = EBUSY;
        return -1;
    }
    return fd;
}

static int write_all(int fd, const uint8_t *data, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

const char *store_put(int root, const struct cp_request *request)
{
    uint8_t hash[CP_HASH_LEN];
    const char *fault = name_fault(request->path);
    if (fault != NULL) {
        return fault;
    }
    if (request->data_len != request->size ||
        hash_of(request->data, request->data_len, hash) != 0 ||
        memcmp(hash, request->hash, sizeof(hash)) != 0) {
        return "SHA-256 of what arrived is another";
    }
    const char *name;
    int dir = path_parent(root, request->path, true, &name);
    if (dir < 0) {
        return system_text("directory");
    }
    char part[64];
    const char *text = NULL;
    int fd = part_name(name, part, sizeof(part)) == 0 ? open_part(dir, part) : -1;
    if (fd < 0) {
        text = system_text("partial file");
    } else if (ftruncate(fd, (off_t)request->size) != 0 ||
               write_all(fd, request->data, request->data_len, 0) != 0 ||
               set_meta(fd, &request->meta) != 0 || renameat(dir, part, dir, name) != 0) {
        text = system_text("write");
    }
    if (fd >= 0 && close(fd) != 0 && text == NULL) {
        text = system_text("write");
    }
    close(dir);
    return text;
}

uint64_t store_have(const struct store_file *file)
{
    struct stat st;
    return fstat(file->fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

/* A complete file of the right size may save everything; it is only read, never written. */
static void try_final(struct store_file *file)
{
    struct stat st;
    int fd = openat(file->dir, file->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1 ||
        (uint64_t)st.st_size != file->size) {
        close(fd);
        return;
    }
    file->fd = fd;
    file->is_final = true;
}

const char *store_open(int root, const struct cp_request *request, struct store_file **out)
{
    const char *fault = name_fault(request->path);
    if (fault != NULL) {
        return fault;
    }
    struct store_file *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        return "out of memory";
    }
    const char *name;
    const char *text = NULL;
    file->fd = -1;
    file->size = request->size;
    file->dir = path_parent(root, request->path, true, &name);
    if (file->dir < 0) {
        text = system_text("directory");
    } else if ((file->name = strdup(name)) == NULL ||
               part_name(name, file->part, sizeof(file->part)) != 0) {
        text = "out of memory";
    }
    struct stat st;
    bool has_part = text == NULL && fstatat(file->dir, file->part, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (text == NULL && !has_part && !request->fresh) {
        try_final(file);
    }
    if (text == NULL && file->fd < 0) {
        file->fd = open_part(file->dir, file->part);
        if (file->fd < 0) {
            text = errno == EBUSY ? "another copy is writing this file"
                                  : system_text("partial file");
        } else if ((request->fresh && ftruncate(file->fd, 0) != 0) ||
                   (store_have(file) > file->size && ftruncate(file->fd, (off_t)file->size) != 0)) {
            text = system_text("partial file");
        }
    }
    if (text != NULL) {
        store_close(file);
        return text;
    }
    *out = file;
    return NULL;
}

const char *store_write(struct store_file *file, uint64_t offset, const void *data, size_t len)
{
    if (file->is_final || file->busy || offset > file->size || len > file->size - offset) {
        return "write outside of the file refused";
    }
    return write_all(file->fd, data, len, offset) != 0 ? system_text("write") : NULL;
}

const char *store_finish(struct store_file *file, const struct cp_meta *meta)
{
    if (set_meta(file->fd, meta) != 0) {
        return system_text("mode and time");
    }
    if (!file->is_final && renameat(file->dir, file->part, file->dir, file->name) != 0) {
        return system_text("rename");
    }
    return NULL;
}

void store_close(struct store_file *file)
{
    if (file->fd >= 0) {
        close(file->fd);
    }
    if (file->dir >= 0) {
        close(file->dir);
    }
    free(file->name);
    free(file);
}
