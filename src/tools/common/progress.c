/* Progress of long runs. One thread of a process shows it; state is one line's worth. */
#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"

enum { SHOW_EVERY_MS = 100 };

static int wanted = -1;
static bool shown;
static uint64_t next_ns;

bool progress_wanted(void)
{
    if (wanted < 0) {
        wanted = isatty(STDERR_FILENO) == 1;
    }
    return wanted == 1;
}

void progress_show(uint64_t now_ns, const char *format, ...)
{
    if (!progress_wanted() || (shown && now_ns < next_ns)) {
        return;
    }
    char text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "\r\033[K%s", text);
    fflush(stderr);
    shown = true;
    next_ns = now_ns + SHOW_EVERY_MS * NS_PER_MS;
}

void progress_clear(void)
{
    if (shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        shown = false;
    }
}

const char *progress_bytes(double bytes, char *out, unsigned cap)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    unsigned u = 0;
    while (bytes >= 1000 && u + 1 < sizeof(units) / sizeof(units[0])) {
        bytes /= 1000;
        u++;
    }
    snprintf(out, cap, u == 0 ? "%.0f %s" : "%.1f %s", bytes, units[u]);
    return out;
}
