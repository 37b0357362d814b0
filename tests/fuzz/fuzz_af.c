/* An Ethernet frame as a packet socket gives it: the kernel's header, then the frame. What is
 * accepted lies within the bytes that came. */
#include "fuzz.h"

#include <string.h>

#include "dev/af_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < SMT_AF_VNET_LEN + 1u)
        return 0;
    uint8_t *bytes = malloc(size);
    FUZZ_CHECK(bytes != NULL);
    memcpy(bytes, data, size);
    struct smt_af_seen s, untouched;
    memset(&s, 0x5a, sizeof(s));
    untouched = s;
    uint8_t *frame = bytes + SMT_AF_VNET_LEN;
    uint32_t len = (uint32_t)size - SMT_AF_VNET_LEN;
    bool is_sum_known = (bytes[2] & 1) != 0;
    uint8_t protocol = (bytes[2] & 2) != 0 ? 253 : SMT_AF_PROTO_UDP;
    uint32_t l4_len = protocol == SMT_AF_PROTO_UDP ? SMT_AF_UDP_LEN : 0;
    bool ok = smt_af_parse(protocol, bytes, frame, len, is_sum_known, &s);
    FUZZ_CHECK(memcmp(bytes, data, size) == 0);
    if (!ok) {
        FUZZ_CHECK(memcmp(&s, &untouched, sizeof(s)) == 0);
    } else {
        FUZZ_CHECK(s.payload >= frame + SMT_AF_ETH_LEN + SMT_AF_IPV4_LEN + l4_len);
        FUZZ_CHECK(s.payload_len > 0 && s.seg_len > 0 && s.ecn < 4);
        FUZZ_CHECK(s.payload_len <= (size_t)(frame + len - s.payload));
    }
    free(bytes);
    return 0;
}
