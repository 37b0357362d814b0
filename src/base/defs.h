/* The few compiler words every file may use. */
#ifndef SMT_BASE_DEFS_H
#define SMT_BASE_DEFS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smt/error.h>

#define SMT_MUST_CHECK __attribute__((warn_unused_result))
/* For what must not cost a call: the data path. */
#define SMT_INLINE static inline __attribute__((always_inline))
#define SMT_LIKELY(x) __builtin_expect(!!(x), 1)
#define SMT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define SMT_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define SMT_CONTAINER_OF(p, type, member) ((type *)(void *)((char *)(p) - offsetof(type, member)))

/* "No timer": a time that never comes. */
#define SMT_NEVER UINT64_MAX

#define SMT_USEC 1000ull
#define SMT_MSEC 1000000ull
#define SMT_SEC 1000000000ull

#endif
