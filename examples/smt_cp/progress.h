/* A bar on the terminal. */
#ifndef SMT_CP_PROGRESS_H
#define SMT_CP_PROGRESS_H

#include <stdint.h>

/* Draws at most ten times a second, on standard error, and only if that is a terminal. */
void progress_bar(uint64_t done, uint64_t total, uint64_t n_files, uint64_t start_ns);
void progress_erase(void);

/* "12.3 MB"; returns out. */
const char *progress_bytes(double bytes, char *out, unsigned cap);

#endif
