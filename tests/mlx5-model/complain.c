/* How the model ends a test. */
#include "complain.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "stats.h"

static void tell(const char *field, const char *format, va_list args)
{
    char line[512];
    int n = snprintf(line, sizeof(line), "mlx5-model: %s: ", field);
    n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, args);
    if ((size_t)n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    line[n++] = '\n';
    /* Not stdio: it may be in a state that a dying process must not wait for. */
    bool quiet = strcmp(field, "MLX5_MODEL") != 0 && mm_config()->quiet;
    if (!quiet && write(STDERR_FILENO, line, (size_t)n) < 0)
        return;
    if (strcmp(field, "MLX5_MODEL") == 0)
        return;
    char path[256];
    snprintf(path, sizeof(path), "%s/COMPLAINTS", mm_config()->dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write(fd, line, (size_t)n) < 0)
            mm_stats.complaints++;
        close(fd);
    }
}

bool mm_complain(const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(field, format, args);
    va_end(args);
    mm_stats.complaints++;
    if (mm_config()->abort) {
        mm_stats_write();
        abort();
    }
    return false;
}

void mm_die(const char *field, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(field, format, args);
    va_end(args);
    abort();
}
