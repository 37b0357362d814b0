/* Tells AddressSanitizer which bytes of our own pools are nobody's; nothing in other builds. */
#ifndef SMT_BASE_ASAN_H
#define SMT_BASE_ASAN_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define SMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SMT_ASAN 1
#endif
#endif

#ifdef SMT_ASAN
#include <sanitizer/asan_interface.h>
#define SMT_POISON(p, len) ASAN_POISON_MEMORY_REGION(p, len)
#define SMT_UNPOISON(p, len) ASAN_UNPOISON_MEMORY_REGION(p, len)
#define SMT_IS_POISONED(p) __asan_address_is_poisoned(p)
#else
#define SMT_POISON(p, len) ((void)(p), (void)(len))
#define SMT_UNPOISON(p, len) ((void)(p), (void)(len))
#define SMT_IS_POISONED(p) 0
#endif

#endif
