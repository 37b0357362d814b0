/* Config structs that carry their size, so that a program built against an older header keeps
 * working: what it does not know reads as zero, what we do not know is not looked at. */
#include "api/api.h"

#include <string.h>

int smt_config_copy(void *to, size_t to_len, const void *from, size_t min_len)
{
    size_t size;
    memcpy(&size, from, sizeof(size));
    if (size < min_len || size < sizeof(size))
        return SMT_EINVAL;
    size_t n = size < to_len ? size : to_len;
    memcpy(to, from, n);
    memset((char *)to + n, 0, to_len - n);
    memcpy(to, &to_len, sizeof(to_len));
    return 0;
}
