/* A block of transport parameters. What is accepted can be encoded, and comes back the same. */
#include "fuzz.h"

#include <string.h>

#include "wire/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smt_params p, back;
    memset(&p, 0x5a, sizeof(p));
    int rc = smt_params_decode(data, size, &p);
    if (rc != 0) {
        FUZZ_CHECK(rc == SMT_EMALFORMED);
        for (size_t i = 0; i < sizeof(p); i++)
            FUZZ_CHECK(((const uint8_t *)&p)[i] == 0x5a);
        return 0;
    }
    FUZZ_CHECK(p.n_versions >= 1 && p.n_versions <= SMT_PARAMS_MAX_VERSIONS);
    FUZZ_CHECK(p.n_ciphers >= 1 && p.n_ciphers <= SMT_PARAMS_MAX_CIPHERS);

    uint8_t a[SMT_PARAMS_MAX_LEN], b[SMT_PARAMS_MAX_LEN];
    int len = smt_params_encode(&p, a, sizeof(a));
    FUZZ_CHECK(len > 0);
    FUZZ_CHECK(smt_params_encode(&p, b, (size_t)len - 1) == SMT_EINVAL);
    FUZZ_CHECK(smt_params_decode(a, (size_t)len, &back) == 0);
    FUZZ_CHECK(smt_params_encode(&back, b, sizeof(b)) == len);
    FUZZ_CHECK(memcmp(a, b, (size_t)len) == 0);
    FUZZ_CHECK(back.session_id == p.session_id && back.mtu == p.mtu);
    FUZZ_CHECK(back.unfinished_bytes == p.unfinished_bytes && back.unsched == p.unsched);
    return 0;
}
