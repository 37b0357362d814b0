/* The bar: share, rate, time left. */
#include "progress.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "cp.h"

enum { WIDTH = 30 };

static bool shown;
static uint64_t next_ns;

const char *progress_bytes(double bytes, char *out, unsigned cap)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    unsigned u = 0;
    for (; bytes >= 1000 && u < 4; u++) {
        bytes /= 1000;
    }
    snprintf(out, cap, u == 0 ? "%.0f %s" : "%.1f %s", bytes, units[u]);
    return out;
}

void progress_bar(uint64_t done, uint64_t total, uint64_t n_files, uint64_t start_ns)
{
    static int terminal = -1;
    uint64_t now = cp_now();
    if (now < next_ns || (terminal < 0 ? (terminal = isatty(STDERR_FILENO)) : terminal) != 1) {
        return;
    }
    next_ns = now + UINT64_C(100000000);
    char have[32], all[32], speed[32], bar[WIDTH + 1];
    double share = total != 0 ? (double)done / (double)total : 1;
    double seconds = (double)(now - start_ns) / 1e9;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    unsigned left = rate > 0 ? (unsigned)((double)(total - done) / rate + 0.5) : 0;
    for (int i = 0; i < WIDTH; i++) {
        bar[i] = i < (int)(share * WIDTH) ? '#' : '.';
    }
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r\033[K[%s] %3.0f %%  %s of %s  %s/s  %llu files  %u:%02u left", bar,
            share * 100, progress_bytes((double)done, have, sizeof(have)),
            progress_bytes((double)total, all, sizeof(all)),
            progress_bytes(rate, speed, sizeof(speed)), (unsigned long long)n_files, left / 60,
            left % 60);
    fflush(stderr);
    shown = true;
}

void progress_erase(void)
{
    if (shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        shown = false;
        next_ns = 0;
    }
}
