/* Writing the line. Texts quote names out of certificates and files: what a terminal or a log would
 * take for a command is replaced here, once. */
#include "hs/error_line.h"

#include <stdio.h>

int smt_error_vline(const struct smt_error_line *line, int code, const char *fmt, va_list ap)
{
    if (line->text == NULL || line->cap == 0)
        return code;
    vsnprintf(line->text, line->cap, fmt, ap);
    for (char *c = line->text; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return code;
}

int smt_error_line(const struct smt_error_line *line, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    smt_error_vline(line, code, fmt, ap);
    va_end(ap);
    return code;
}
