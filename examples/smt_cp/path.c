/* Every step is one openat with O_NOFOLLOW from a descriptor that was reached the same way, so
 * neither "..", an absolute name nor a link planted in the tree, before or meanwhile, leads
 * outside. */
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_LEN = 255 };

const char *path_fault(const char *path)
{
    if (path[0] == '/') {
        return "absolute path refused";
    }
    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        if (len == 0 || (len == 1 && path[0] == '.')) {
            return "path with an empty or '.' part refused";
        }
        if (len == 2 && path[0] == '.' && path[1] == '.') {
            return "path with '..' refused";
        }
        if (len > NAME_LEN) {
            return "name too long";
        }
        path += len;
        if (*path == '/' && *++path == '\0') {
            return "path with an empty or '.' part refused";
        }
    }
    return NULL;
}

/* One step down. Closes `dir`. */
static int step(int dir, const char *name, bool make)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && make && (mkdirat(dir, name, 0777) == 0 || errno == EEXIST)) {
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    int error = errno;
    struct stat st;
    if (fd < 0 && error == ENOTDIR && fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISLNK(st.st_mode)) {
        error = ELOOP;
    }
    close(dir);
    errno = error;
    return fd;
}

int path_parent(int root, const char *path, bool make, const char **name)
{
    int dir = fcntl(root, F_DUPFD_CLOEXEC, 0);
    for (const char *slash; dir >= 0 && (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        char part[NAME_LEN + 1];
        size_t len = (size_t)(slash - path);
        if (len > NAME_LEN) {
            close(dir);
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(part, path, len);
        part[len] = '\0';
        dir = step(dir, part, make);
    }
    *name = path;
    return dir;
}

int path_dir(int root, const char *path, bool make)
{
    if (path[0] == '\0') {
        return fcntl(root, F_DUPFD_CLOEXEC, 0);
    }
    const char *name;
    int dir = path_parent(root, path, make, &name);
    return dir < 0 ? -1 : step(dir, name, make);
}

bool path_same_dir(int a, int b)
{
    struct stat sa, sb;
    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

bool path_link_is_inside(const char *path, const char *target)
{
    if (target[0] == '/') {
        return false;
    }
    unsigned depth = 0;
    for (const char *p = path; (p = strchr(p, '/')) != NULL; p++) {
        depth++;
    }
    /* ".." counts only before the first real name: behind one, a link may have led upwards. */
    bool went_down = false;
    while (*target != '\0') {
        size_t len = strcspn(target, "/");
        if (len == 2 && target[0] == '.' && target[1] == '.') {
            if (went_down || depth == 0) {
                return false;
            }
            depth--;
        } else if (len > 0 && !(len == 1 && target[0] == '.')) {
            went_down = true;
        }
        target += len + (target[len] == '/');
    }
    return true;
}
