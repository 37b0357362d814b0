/* Request and response contents of the kernel's own test programs (HomaModule's cp_node; SMT's
 * bench/unloaded and bench/loaded). */
#include "contents.h"

#include <string.h>

enum { FILLER = '?', LEN_LEN = 4 };

bool contents_parse(const char *name, enum contents *out)
{
    static const char *const names[] = {"own", "echo", "smt-simple", "smt-echo"};
    *out = CONTENTS_OWN;
    if (name == NULL) {
        return true;
    }
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum contents)i;
            return true;
        }
    }
    return false;
}

size_t contents_min_len(enum contents c)
{
    return c == CONTENTS_SMT_ECHO ? LEN_LEN : 1;
}

void contents_fill(enum contents c, uint8_t *out, size_t len, uint32_t resp_len)
{
    memset(out, FILLER, len);
    if (c == CONTENTS_SMT_ECHO && len >= LEN_LEN) {
        for (unsigned i = 0; i < LEN_LEN; i++) {
            out[i] = (uint8_t)(resp_len >> (8 * i));
        }
    }
}

uint32_t contents_resp_len(enum contents c, const uint8_t *request, size_t len, uint32_t resp_len)
{
    if (c == CONTENTS_ECHO) {
        return (uint32_t)len;
    }
    if (c == CONTENTS_SMT_ECHO && len >= LEN_LEN) {
        return (uint32_t)request[0] | (uint32_t)request[1] << 8 | (uint32_t)request[2] << 16 |
               (uint32_t)request[3] << 24;
    }
    return resp_len != 0 ? resp_len : (uint32_t)len;
}
