/* Reading a file whole. Not through OpenSSL's BIO or stdio: their buffers would keep a copy of a
 * private key, and their errors say less than errno. */
#include "hs/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* Up to cap bytes, or -1 with errno. */
static ssize_t read_all(int fd, char *to, size_t cap)
{
    size_t len = 0;
    while (len < cap) {
        ssize_t n = read(fd, to + len, cap - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

static int cannot_read(const struct smt_error_line *line, const char *what, const char *path,
                       int error)
{
    char buf[128];
    return smt_error_line(line, SMT_EFILE, "cannot read %s %s: %s", what, path,
                          strerror_r(error, buf, sizeof(buf)));
}

int smt_file_read(const char *path, const char *what, const struct smt_error_line *line,
                  struct smt_file *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cannot_read(line, what, path, errno);

    size_t cap = SMT_FILE_MAX_LEN + 1;
    char *bytes = smt_mem_alloc(cap + 1);
    if (bytes == NULL) {
        close(fd);
        return smt_error_line(line, SMT_ENOMEM, "no memory to read %s %s", what, path);
    }
    ssize_t len = read_all(fd, bytes, cap);
    int error = errno;
    close(fd);
    struct smt_file file = {.bytes = bytes, .len = len < 0 ? cap : (size_t)len};
    if (len >= 0 && len <= SMT_FILE_MAX_LEN) {
        bytes[len] = '\0';
        *out = file;
        return 0;
    }
    smt_file_free(&file);
    if (len < 0)
        return cannot_read(line, what, path, error);
    return smt_error_line(line, SMT_EFILE, "%s %s is longer than %d bytes", what, path,
                          SMT_FILE_MAX_LEN);
}

void smt_file_free(struct smt_file *file)
{
    if (file->bytes != NULL)
        smt_wipe(file->bytes, file->len);
    smt_mem_free(file->bytes);
    *file = (struct smt_file){0};
}
