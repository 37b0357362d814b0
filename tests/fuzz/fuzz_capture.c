/* The bytes of a capture file, as smt_pcap reads them: every packet that comes out of it lies
 * within the file, and none comes twice. */
#include "fuzz.h"

#include <string.h>

#include "base/mem.h"
#include "pcap/capture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = smt_mem_alloc(size);
    FUZZ_CHECK(bytes != NULL);
    if (size > 0)
        memcpy(bytes, data, size);
    struct smt_capture c;
    char text[256] = "";
    int rc = smt_capture_of_bytes(&c, "capture", bytes, size, text, sizeof(text));
    FUZZ_CHECK((rc == 0) == (text[0] == '\0'));
    uint64_t number = 0;
    uint32_t sum = 0;
    struct smt_cap_packet p = {0};
    while (rc >= 0 && (rc = smt_capture_next(&c, &p)) == 1) {
        FUZZ_CHECK(p.number == ++number && p.number <= size);
        if (p.data == NULL)
            continue;
        FUZZ_CHECK(p.data >= c.bytes && p.len <= (size_t)(c.bytes + c.len - p.data));
        for (uint32_t i = 0; i < p.len; i++)
            sum += p.data[i];
    }
    FUZZ_CHECK(rc == 0 || rc == SMT_EMALFORMED || rc == SMT_EFILE);
    __asm__ volatile("" : : "r"(sum)); /* read, for the sanitizer's eyes */
    smt_capture_close(&c);
    return 0;
}
