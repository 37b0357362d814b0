/* Hints about cache lines that two CPUs hand to each other. They change no byte, and a CPU that
 * does not know them passes over them. */
#ifndef SMT_BASE_LINE_H
#define SMT_BASE_LINE_H

#include "base/defs.h"

/* It will be written soon: the other CPU's copy goes now, not when the first byte is stored. */
SMT_INLINE void smt_line_own(const void *p)
{
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" : : "m"(*(const char *)p));
#else
    __builtin_prefetch(p, 1);
#endif
}

/* It has been written, and the other CPU reads it next: to the cache of both. */
SMT_INLINE void smt_line_share(const void *p)
{
#if defined(__x86_64__)
    __asm__ __volatile__("cldemote %0" : : "m"(*(const char *)p));
#else
    (void)p;
#endif
}

#endif
