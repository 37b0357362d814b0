/* Bytes written as hex digits, as key files have them. */
#ifndef SMT_BASE_HEX_H
#define SMT_BASE_HEX_H

#include <string.h>

#include "base/defs.h"

/* -1: not a hex digit. */
static inline int smt_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A word of exactly 2 * len digits; NULL is none. */
static inline bool smt_hex_read(const char *word, uint8_t *out, size_t len)
{
    if (word == NULL || strlen(word) != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = smt_hex_digit(word[2 * i]), low = smt_hex_digit(word[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

#endif
