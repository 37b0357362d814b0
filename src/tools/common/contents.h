/* What requests and responses look like to a peer that is no tool of ours: the programs that come
 * with the kernel's Homa and SMT, which know nothing of our parameter exchange. */
#ifndef SMT_TOOLS_CONTENTS_H
#define SMT_TOOLS_CONTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum contents {
    CONTENTS_OWN,        /* ours: parameters are exchanged, bytes can be verified */
    CONTENTS_ECHO,       /* homa, cp_node: any request, a response as long */
    CONTENTS_SMT_SIMPLE, /* simple_client, simple_server: '?' both ways, sizes agreed before */
    CONTENTS_SMT_ECHO,   /* echo_client, echo_server: the request begins with the response's length,
                            32 bits as x86 has them */
};

/* "own", "echo", "smt-simple", "smt-echo" (NULL: own). False: none of them. */
bool contents_parse(const char *name, enum contents *out);

/* Least bytes of a request. */
size_t contents_min_len(enum contents c);

/* Writes a request of `len` bytes that wants a response of resp_len. */
void contents_fill(enum contents c, uint8_t *out, size_t len, uint32_t resp_len);

/* The length of the response to a request, when the server was told `resp_len` at its start. */
uint32_t contents_resp_len(enum contents c, const uint8_t *request, size_t len, uint32_t resp_len);

#endif
