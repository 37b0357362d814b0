/* An Ethernet frame from a receive queue of a ConnectX. What is accepted lies within the bytes that
 * came, and is of a protocol that was asked for. */
#include "fuzz.h"

#include <string.h>

#include "dev/mlx5_frame.h"

enum { UDP = 17 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t raw[] = {254, 253, 146, UDP};
    /* Its own allocation: the parser takes bytes it may write to, and may not. */
    uint8_t *frame = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(frame != NULL);
    if (size > 0)
        memcpy(frame, data, size);
    for (unsigned i = 0; i < sizeof(raw); i++) {
        struct smt_mlx5_frame f;
        if (!smt_mlx5_frame_parse(frame, size, raw[i], &f))
            continue;
        FUZZ_CHECK(f.payload >= frame && f.payload_len > 0);
        FUZZ_CHECK(f.payload_len <= (size_t)(frame + size - f.payload));
        FUZZ_CHECK(f.protocol == UDP || f.protocol == raw[i]);
        FUZZ_CHECK(f.from.port != 0 && f.ecn < 4);
    }
    FUZZ_CHECK(size == 0 || memcmp(frame, data, size) == 0);
    free(frame);
    return 0;
}
