/* The plaintext head of a DATA record. It encodes to what it came from, but for unknown flags
 * and the zero word, which a receiver ignores. */
#include "fuzz.h"

#include <string.h>

#include "wire/wire.h"

enum { HEAD = SMT_INNER_LEN + SMT_INNER_EXT_LEN };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smt_inner in, back;
    int len = smt_inner_decode(data, size, &in);
    if (len < 0) {
        FUZZ_CHECK(len == SMT_EMALFORMED);
        return 0;
    }
    bool ext = in.flags & SMT_INNER_EXT;
    FUZZ_CHECK(len == (ext ? HEAD : SMT_INNER_LEN));
    FUZZ_CHECK((size_t)len + in.frames_len <= size);
    FUZZ_CHECK(in.what >= SMT_WHAT_REQUEST && in.what <= SMT_WHAT_TEST);
    FUZZ_CHECK(ext || in.offset != 0);

    uint8_t want[HEAD], again[HEAD];
    memcpy(want, data, (size_t)len);
    want[1] &= SMT_INNER_EXT | SMT_INNER_IDEMPOTENT;
    if (ext)
        memset(want + HEAD - 2, 0, 2);
    FUZZ_CHECK(smt_inner_encode(&in, again) == (size_t)len);
    FUZZ_CHECK(memcmp(again, want, (size_t)len) == 0);
    uint8_t *plain = malloc(size);
    FUZZ_CHECK(plain != NULL);
    memcpy(plain, data, size);
    memcpy(plain, again, (size_t)len);
    FUZZ_CHECK(smt_inner_decode(plain, size, &back) == len);
    FUZZ_CHECK(smt_inner_encode(&back, want) == (size_t)len);
    FUZZ_CHECK(memcmp(again, want, (size_t)len) == 0);
    free(plain);
    return 0;
}
