/* Message contents for --verify: word i of a message is seed + i × an odd constant. */
#ifndef SMT_TOOLS_PATTERN_H
#define SMT_TOOLS_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATTERN_SEED_LEN = 8 };

void pattern_fill(void *buf, size_t len, uint64_t seed);

/* All bytes as pattern_fill wrote them? */
bool pattern_check(const void *buf, size_t len, uint64_t seed);

/* The seed a message was filled with; it needs PATTERN_SEED_LEN bytes. */
uint64_t pattern_seed(const void *buf);

#endif
