/* Big-endian loads and stores at any alignment, and a comparison whose time says nothing. */
#ifndef SMT_BASE_BYTES_H
#define SMT_BASE_BYTES_H

#include <string.h>

#include "base/defs.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SMT_BSWAP_BE16(v) __builtin_bswap16(v)
#define SMT_BSWAP_BE32(v) __builtin_bswap32(v)
#define SMT_BSWAP_BE64(v) __builtin_bswap64(v)
#else
#define SMT_BSWAP_BE16(v) (v)
#define SMT_BSWAP_BE32(v) (v)
#define SMT_BSWAP_BE64(v) (v)
#endif

static inline uint16_t smt_get_be16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return SMT_BSWAP_BE16(v);
}

static inline uint32_t smt_get_be32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return SMT_BSWAP_BE32(v);
}

static inline uint64_t smt_get_be64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return SMT_BSWAP_BE64(v);
}

static inline void smt_put_be16(void *p, uint16_t v)
{
    v = SMT_BSWAP_BE16(v);
    memcpy(p, &v, sizeof(v));
}

static inline void smt_put_be32(void *p, uint32_t v)
{
    v = SMT_BSWAP_BE32(v);
    memcpy(p, &v, sizeof(v));
}

static inline void smt_put_be64(void *p, uint64_t v)
{
    v = SMT_BSWAP_BE64(v);
    memcpy(p, &v, sizeof(v));
}

/* True when the `len` bytes are equal. Looks at all of them whatever it finds; the barrier keeps
 * the compiler from leaving the loop at the first difference. */
static inline bool smt_ct_equal(const void *a, const void *b, size_t len)
{
    const uint8_t *x = a;
    const uint8_t *y = b;
    uint8_t diff = 0;
    for (size_t i = 0; i < len; i++) {
        diff |= x[i] ^ y[i];
        __asm__("" : "+r"(diff));
    }
    return diff == 0;
}

#endif
