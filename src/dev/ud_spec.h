/* What users write after "ud": which device, and a few options. Pure text, no system call. */
#ifndef SMT_DEV_UD_SPEC_H
#define SMT_DEV_UD_SPEC_H

#include "base/defs.h"

enum { SMT_UD_MAX_QPS = 8, SMT_UD_NAME_LEN = 64 };

struct smt_ud_spec {
    char name[SMT_UD_NAME_LEN]; /* RDMA device or network interface; "" = choose */
    uint8_t port;               /* of the RDMA device, 1 …; 0 = choose */
    int32_t gid;                /* index forced by "gid=N" (-x N); -1 = by route and type */
    uint8_t n_qps;              /* 1 … SMT_UD_MAX_QPS */
};

/* "ud", "ud:rxe0", "ud:eth0,gid=3,qps=2", "ud,gid=3". 0 or SMT_EINVAL, with one line for people
 * in `text` (NULL = none). The last of two equal options counts, so that a tool may append its own.
 */
SMT_MUST_CHECK int smt_ud_spec_parse(const char *spec, struct smt_ud_spec *out, char *text,
                                     size_t text_len);

#endif
