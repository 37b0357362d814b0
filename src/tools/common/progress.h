/* One line that overwrites itself, on standard error and only when that is a terminal. */
#ifndef SMT_TOOLS_PROGRESS_H
#define SMT_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Is anybody looking? Costs a system call once. */
bool progress_wanted(void);

/* Shows text; at most one in 100 ms gets through unless it is the first. */
void progress_show(uint64_t now_ns, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Erases the line if one is shown. */
void progress_clear(void);

/* "12.3 MB": 1000 per step, at most `cap` bytes with the terminator; returns out. */
const char *progress_bytes(double bytes, char *out, unsigned cap);

#endif
