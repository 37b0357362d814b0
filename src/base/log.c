/* Formats one line on the stack and hands it on. vsnprintf is the one thing of stdio used in this
 * layer. */
#include "base/log.h"

#include <stdio.h>

void smt_log_vemit(const struct smt_log *log, int level, const char *fmt, va_list ap)
{
    if (log == NULL || log->fn == NULL || level > log->level)
        return;
    char line[SMT_LOG_LINE_LEN];
    if (vsnprintf(line, sizeof(line), fmt, ap) < 0)
        return;
    log->fn(log->arg, level, line);
}

void smt_log_emit(const struct smt_log *log, int level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    smt_log_vemit(log, level, fmt, ap);
    va_end(ap);
}
