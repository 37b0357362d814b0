/* One line for people into a buffer that may be missing. */
#ifndef SMT_HS_ERROR_LINE_H
#define SMT_HS_ERROR_LINE_H

#include <stdarg.h>

#include "base/defs.h"

/* Where the line goes; `text` may be NULL. */
struct smt_error_line {
    char *text;
    size_t cap;
};

/* Writes the line and returns `code`, so that failing is one statement. Control characters, which
 * may come from files and peers, become '?'. */
int smt_error_line(const struct smt_error_line *line, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int smt_error_vline(const struct smt_error_line *line, int code, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

#endif
