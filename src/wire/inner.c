/* The head of a DATA record's plaintext (docs/wire.md 3.1): 16 bytes, and 24 more of extension
 * in the record at message offset 0. Only what can be said without state is checked here; that
 * offset, length, role and id equal the clear header's is core's check, as is the room that the
 * data take in the message. */
#include "wire/wire.h"

enum {
    OFF_WHAT = 0,
    OFF_FLAGS = 1,
    OFF_FRAMES_LEN = 2,
    OFF_OFFSET = 4,
    OFF_LENGTH = 8,
    OFF_ID_HIGH = 12,
    OFF_LOW_WATER = 16,
    OFF_DONE = 24,
    OFF_UNSCHED = 32,
    OFF_CUTOFFS = 36,
    OFF_ZERO = 38,
    WITH_EXT = SMT_INNER_LEN + SMT_INNER_EXT_LEN,
    KNOWN_FLAGS = SMT_INNER_EXT | SMT_INNER_IDEMPOTENT,
};

static_assert(SMT_INNER_LEN == 1 + 1 + 2 + 4 + 4 + 4, "plaintext head");
static_assert(SMT_INNER_EXT_LEN == 8 + 8 + 4 + 2 + 2, "extension");
static_assert(OFF_ZERO + 2 == WITH_EXT, "the zero word ends the extension");

size_t smt_inner_encode(const struct smt_inner *in, uint8_t *out)
{
    out[OFF_WHAT] = in->what;
    out[OFF_FLAGS] = in->flags;
    smt_put_be16(out + OFF_FRAMES_LEN, in->frames_len);
    smt_put_be32(out + OFF_OFFSET, in->offset);
    smt_put_be32(out + OFF_LENGTH, in->message_len);
    smt_put_be32(out + OFF_ID_HIGH, in->id_high);
    if (!(in->flags & SMT_INNER_EXT))
        return SMT_INNER_LEN;
    smt_put_be64(out + OFF_LOW_WATER, in->low_water);
    smt_put_be64(out + OFF_DONE, in->done);
    smt_put_be32(out + OFF_UNSCHED, in->unsched);
    smt_put_be16(out + OFF_CUTOFFS, in->cutoffs_version);
    smt_put_be16(out + OFF_ZERO, 0);
    return WITH_EXT;
}

int smt_inner_decode(const uint8_t *plain, size_t plain_len, struct smt_inner *out)
{
    if (plain_len < SMT_INNER_LEN)
        return SMT_EMALFORMED;
    *out = (struct smt_inner){
        .what = plain[OFF_WHAT],
        .flags = plain[OFF_FLAGS] & KNOWN_FLAGS,
        .frames_len = smt_get_be16(plain + OFF_FRAMES_LEN),
        .offset = smt_get_be32(plain + OFF_OFFSET),
        .message_len = smt_get_be32(plain + OFF_LENGTH),
        .id_high = smt_get_be32(plain + OFF_ID_HIGH),
    };
    bool ext = out->flags & SMT_INNER_EXT;
    size_t head_len = ext ? WITH_EXT : SMT_INNER_LEN;
    if (out->what < SMT_WHAT_REQUEST || out->what > SMT_WHAT_TEST || (!ext && out->offset == 0) ||
        head_len + out->frames_len > plain_len)
        return SMT_EMALFORMED;
    if (ext) {
        out->low_water = smt_get_be64(plain + OFF_LOW_WATER);
        out->done = smt_get_be64(plain + OFF_DONE);
        out->unsched = smt_get_be32(plain + OFF_UNSCHED);
        out->cutoffs_version = smt_get_be16(plain + OFF_CUTOFFS);
    }
    return (int)head_len;
}
