/* Watches the file of an RDMA device.
 *
 * The kernel removes the file at once, and then waits until whoever has it open has closed it; that
 * the name is gone shows as a change of the file's link count. A device that comes back under the
 * same name is another file. */
#include "dev/ud_node.h"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_same(const char *path, int fd)
{
    struct stat named, open;
    return stat(path, &named) == 0 && fstat(fd, &open) == 0 && named.st_dev == open.st_dev &&
           named.st_ino == open.st_ino;
}

int smt_ud_node_watch(const char *path, int fd)
{
    if (!is_same(path, fd))
        return -1;
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch >= 0 && inotify_add_watch(watch, path, IN_ATTRIB | IN_DELETE_SELF) < 0) {
        close(watch);
        watch = -1;
    }
    return watch;
}

bool smt_ud_node_is_gone(int watch, const char *path, int fd)
{
    _Alignas(struct inotify_event) uint8_t events[512];
    while (read(watch, events, sizeof(events)) > 0)
        ;
    return !is_same(path, fd);
}
