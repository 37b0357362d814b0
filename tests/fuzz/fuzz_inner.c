/* The plaintext head of a DATA record. It encodes to what it came from, but for unknown flags
 * and the zero word, which a receiver ignores. The short way of reading takes no head of a whole
 * message that the long way does not. */
#include "fuzz.h"

#include <string.h>

#include "wire/single.h"
#include "wire/wire.h"

enum { HEAD = SMT_INNER_LEN + SMT_INNER_EXT_LEN };

/* Behind the header that fits the head best. */
static void check_single(const uint8_t *data, size_t size, int len, const struct smt_inner *in)
{
    if (size < HEAD)
        return;
    const struct smt_single_inner *head = (const struct smt_single_inner *)data;
    struct smt_single s = {.offset = 0, .message_len = head->message_len};
    memcpy(&s.rpc_id, &head->id_high, sizeof(head->id_high));
    bool agrees = smt_single_agrees(&s, head, size);
    for (uint8_t what = SMT_WHAT_REQUEST; what <= SMT_WHAT_RESPONSE; what++) {
        uint64_t usual = smt_single_usual_head(size, SMT_BSWAP_BE32(head->message_len), what);
        FUZZ_CHECK(!smt_single_is_usual(&s, head, usual) || (agrees && head->what == what));
    }
    if (!agrees || head->what < SMT_WHAT_REQUEST || head->what > SMT_WHAT_TEST)
        return;
    FUZZ_CHECK(len == HEAD && in->offset == 0);
    FUZZ_CHECK((size_t)len + in->frames_len + in->message_len == size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smt_inner in, back;
    int len = smt_inner_decode(data, size, &in);
    check_single(data, size, len, &in);
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
