/* Where messages for people go. For set-up, failure and rare events; the data path counts. */
#ifndef SMT_BASE_LOG_H
#define SMT_BASE_LOG_H

#include <stdarg.h>

#include "base/defs.h"

/* The public header has levels of the same numbers under its own names. */
enum smt_log_severity {
    SMT_LOGLVL_ERROR = 0,
    SMT_LOGLVL_WARN = 1,
    SMT_LOGLVL_INFO = 2,
    SMT_LOGLVL_DEBUG = 3,
};

/* `msg` is one line without its newline, borrowed. */
typedef void (*smt_log_fn)(void *arg, int level, const char *msg);

struct smt_log {
    smt_log_fn fn; /* NULL: silent */
    void *arg;
    int level; /* messages above it are dropped */
};

enum { SMT_LOG_LINE_LEN = 512 }; /* longer ones are cut */

/* Does nothing when `log` or its sink is NULL or the level is above the sink's. */
void smt_log_emit(const struct smt_log *log, int level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void smt_log_vemit(const struct smt_log *log, int level, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

#endif
