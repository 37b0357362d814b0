/* A run of frames, as core walks it. Every byte of a frame is carried by a member, so an accepted
 * frame encodes to the bytes it came from. */
#include "fuzz.h"

#include <string.h>

#include "wire/wire.h"

static void check_frame(const struct smt_frame *f, const uint8_t *in, size_t used)
{
    uint8_t again[SMT_FRAME_MAX_LEN];
    size_t len = smt_frame_len(f->type);
    FUZZ_CHECK(len == used && len <= sizeof(again));
    FUZZ_CHECK(smt_frame_encode(f, again, len - 1) == 0);
    FUZZ_CHECK(smt_frame_encode(f, again, sizeof(again)) == len);
    FUZZ_CHECK(memcmp(again, in, len) == 0);
}

/* A bitmap may have been longer than it need be. */
static void check_acks(const struct smt_frame *f)
{
    uint8_t again[SMT_FRAME_MAX_LEN];
    struct smt_frame back;
    size_t len = smt_frame_encode(f, again, sizeof(again));
    FUZZ_CHECK(len > 0 && len <= smt_frame_len(SMT_FRAME_ACKS));
    FUZZ_CHECK(smt_frame_decode(again, len, &back) == (int)len);
    FUZZ_CHECK(back.id == f->id && back.bitmap == f->bitmap);
}

/* Its length may have been a later version's. */
static void check_late(const struct smt_frame *f)
{
    uint8_t again[SMT_FRAME_MAX_LEN];
    struct smt_frame back;
    size_t len = smt_frame_encode(f, again, sizeof(again));
    FUZZ_CHECK(len == smt_frame_len(SMT_FRAME_LATE));
    FUZZ_CHECK(smt_frame_decode(again, len, &back) == (int)len);
    FUZZ_CHECK(back.seq == f->seq && back.length == f->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        struct smt_frame f;
        int used = smt_frame_decode(data + at, size - at, &f);
        if (used <= 0) {
            FUZZ_CHECK(used == SMT_EMALFORMED || (used == 0 && smt_frame_len(f.type) == 0));
            break;
        }
        FUZZ_CHECK((size_t)used <= size - at && f.type == data[at]);
        if (f.type == SMT_FRAME_PAD)
            FUZZ_CHECK(at + (size_t)used == size || data[at + (size_t)used] != SMT_FRAME_PAD);
        else if (f.type < 0x80)
            check_frame(&f, data + at, (size_t)used);
        else if (f.type == SMT_FRAME_ACKS)
            check_acks(&f);
        else if (f.type == SMT_FRAME_LATE)
            check_late(&f);
        at += (size_t)used;
    }
    return 0;
}
