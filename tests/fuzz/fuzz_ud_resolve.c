/* A message of the resolve exchange of `ud` devices. What is accepted keeps to docs/wire.md, and
 * built again it is the same but for the bytes that nobody looks at. */
#include "fuzz.h"

#include <string.h>

#include "dev/ud_resolve.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smt_ud_msg m, back;
    memset(&m, 0x5a, sizeof(m));
    int rc = smt_ud_msg_parse(data, size, &m);
    if (rc != 0) {
        FUZZ_CHECK(rc == SMT_EMALFORMED || rc == SMT_EVERSION);
        for (size_t i = 0; i < sizeof(m); i++)
            FUZZ_CHECK(((const uint8_t *)&m)[i] == 0x5a);
        return 0;
    }
    FUZZ_CHECK(size == SMT_UD_MSG_LEN);
    FUZZ_CHECK(m.kind >= SMT_UD_QUERY && m.kind <= SMT_UD_ACK);
    FUZZ_CHECK((m.kind == SMT_UD_QUERY) == (m.echo == 0));
    FUZZ_CHECK((m.link == SMT_UD_LINK_ROCE) == (m.lid == 0));
    FUZZ_CHECK(m.port != 0 && m.nonce != 0);
    FUZZ_CHECK(m.qpn > 1 && m.qpn < 0xffffff && m.qkey < 0x80000000);
    FUZZ_CHECK(m.mtu >= 256 && m.mtu <= 4096);
    FUZZ_CHECK(m.share == 0 ? m.number == 0 : m.share != 1 && m.number < m.share);
    FUZZ_CHECK(m.wanted == (m.kind == SMT_UD_QUERY ? data[7] : 0));

    uint8_t bytes[SMT_UD_MSG_LEN], again[SMT_UD_MSG_LEN];
    smt_ud_msg_build(&m, bytes);
    FUZZ_CHECK(memcmp(bytes, data, 7) == 0 && memcmp(bytes + 8, data + 8, 50) == 0);
    FUZZ_CHECK(smt_ud_msg_parse(bytes, sizeof(bytes), &back) == 0);
    smt_ud_msg_build(&back, again);
    FUZZ_CHECK(memcmp(bytes, again, sizeof(bytes)) == 0);
    return 0;
}
