/* Control frames (docs/wire.md 4): one row per type, and one encoder and one decoder that walk it.
 *
 * A row lists, in wire order, where each field lives in struct smt_frame and how wide it is on
 * both sides. Fields of one width share a member where the types never meet, which keeps the
 * struct at two cache lines. What a frame means, and whether it may come now, is core's. */
#include "wire/wire.h"

/* How a field is carried. W32_64: 4 bytes on the wire, 8 in the struct. ID: 8 bytes, bit 62
 * zero. */
enum width { END, W8, W16, W32, W64, W32_64, ID };

struct field {
    uint8_t width;
    uint8_t at;
};

enum { MAX_FIELDS = 9, SKIPPABLE = 0x80 };
enum { ACKS_HEAD = 2 + 8, ACKS_MAX = ACKS_HEAD + 8, LATE_LEN = 2 + 4 + 4 };

struct row {
    uint8_t len; /* type byte included; 0: no such type */
    struct field fields[MAX_FIELDS + 1];
};

#define F(w, member)                                                                               \
    {                                                                                              \
        w, offsetof(struct smt_frame, member)                                                      \
    }

static const struct row rows[] = {
    [SMT_FRAME_PAD] = {1, {{END}}},
    [SMT_FRAME_PING] = {1 + 8, {F(W64, token)}},
    [SMT_FRAME_PONG] = {1 + 8, {F(W64, token)}},
    [SMT_FRAME_MARK] = {1 + 4 + 4 + 4, {F(W32, seq), F(W32, packets), F(W32, bytes)}},
    [SMT_FRAME_SEEN] = {1 + 4 + 4 + 4 + 4,
                        {F(W32, seq), F(W32, packets), F(W32, bytes), F(W32, ce)}},
    [SMT_FRAME_PROBE] = {1 + 4, {F(W32_64, token)}},
    [SMT_FRAME_PROBE_ACK] = {1 + 4 + 2, {F(W32_64, token), F(W16, code)}},
    [SMT_FRAME_PATH_CHALLENGE] = {1 + 8, {F(W64, token)}},
    [SMT_FRAME_PATH_RESPONSE] = {1 + 8, {F(W64, token)}},
    [SMT_FRAME_GRANT] = {1 + 8 + 4 + 4 + 1,
                         {F(ID, id), F(W32, offset), F(W32, length), F(W8, prio)}},
    [SMT_FRAME_RESEND] = {1 + 8 + 4 + 4 + 1 + 1,
                          {F(ID, id), F(W32, offset), F(W32, length), F(W8, prio), F(W8, flags)}},
    [SMT_FRAME_UNKNOWN] = {1 + 8 + 1, {F(ID, id), F(W8, flags)}},
    [SMT_FRAME_BUSY] = {1 + 8, {F(ID, id)}},
    [SMT_FRAME_CUTOFFS] = {1 + 2 + 4 + 7 * 4,
                           {F(W16, code), F(W32, length), F(W32, cutoffs[0]), F(W32, cutoffs[1]),
                            F(W32, cutoffs[2]), F(W32, cutoffs[3]), F(W32, cutoffs[4]),
                            F(W32, cutoffs[5]), F(W32, cutoffs[6])}},
    [SMT_FRAME_NEED_ACK] = {1 + 8, {F(ID, id)}},
    [SMT_FRAME_ACK] = {1 + 8, {F(ID, id)}},
    [SMT_FRAME_ABORT] = {1 + 8 + 2, {F(ID, id), F(W16, code)}},
    [SMT_FRAME_DONE] = {1 + 8 + 8, {F(W64, low_water), F(W64, bitmap)}},
    [SMT_FRAME_CREDIT] = {1 + 4 + 8, {F(W32, length), F(W64, low_water)}},
    [SMT_FRAME_CLOSE] = {1 + 2, {F(W16, code)}},
    [SMT_FRAME_REKEY] = {1, {{END}}},
};

static_assert(sizeof(struct smt_frame) <= UINT8_MAX, "struct field.at is one byte");
static_assert(SMT_FRAME_MAX_LEN >= 1 + 2 + 4 + 7 * 4, "CUTOFFS is the longest");
static_assert(SMT_ARRAY_LEN(rows) <= SKIPPABLE, "types from 0x80 on carry a length");

size_t smt_frame_len(uint8_t type)
{
    if (type == SMT_FRAME_ACKS)
        return ACKS_MAX;
    if (type == SMT_FRAME_LATE)
        return LATE_LEN;
    return type < SMT_ARRAY_LEN(rows) ? rows[type].len : 0;
}

/* The bitmap ends with the byte of its last bit. */
static size_t acks_encode(const struct smt_frame *f, uint8_t *out, size_t cap)
{
    size_t len = ACKS_HEAD;
    for (uint64_t b = f->bitmap; b != 0; b >>= 8)
        len++;
    if (len > cap)
        return 0;
    out[0] = SMT_FRAME_ACKS;
    out[1] = (uint8_t)(len - 2);
    smt_put_be64(out + 2, f->id);
    for (size_t i = ACKS_HEAD; i < len; i++)
        out[i] = (uint8_t)(f->bitmap >> (i - ACKS_HEAD) * 8);
    return len;
}

static size_t late_encode(const struct smt_frame *f, uint8_t *out)
{
    out[0] = SMT_FRAME_LATE;
    out[1] = LATE_LEN - 2;
    smt_put_be32(out + 2, f->seq);
    smt_put_be32(out + 6, f->length);
    return LATE_LEN;
}

size_t smt_frame_encode(const struct smt_frame *f, uint8_t *out, size_t cap)
{
    if (f->type == SMT_FRAME_ACKS)
        return acks_encode(f, out, cap);
    size_t len = smt_frame_len(f->type);
    if (len == 0 || len > cap)
        return 0;
    if (f->type == SMT_FRAME_LATE)
        return late_encode(f, out);
    uint8_t *p = out;
    *p++ = f->type;
    for (const struct field *fd = rows[f->type].fields; fd->width != END; fd++) {
        const void *member = (const char *)f + fd->at;
        switch (fd->width) {
        case W8:
            *p++ = *(const uint8_t *)member;
            break;
        case W16:
            smt_put_be16(p, *(const uint16_t *)member);
            p += 2;
            break;
        case W32:
            smt_put_be32(p, *(const uint32_t *)member);
            p += 4;
            break;
        case W32_64:
            smt_put_be32(p, (uint32_t) * (const uint64_t *)member);
            p += 4;
            break;
        default:
            smt_put_be64(p, *(const uint64_t *)member);
            p += 8;
            break;
        }
    }
    return len;
}

static int known_decode(const uint8_t *in, struct smt_frame *out)
{
    const struct row *row = &rows[in[0]];
    const uint8_t *p = in + 1;
    for (const struct field *fd = row->fields; fd->width != END; fd++) {
        void *member = (char *)out + fd->at;
        switch (fd->width) {
        case W8:
            *(uint8_t *)member = *p++;
            break;
        case W16:
            *(uint16_t *)member = smt_get_be16(p);
            p += 2;
            break;
        case W32:
            *(uint32_t *)member = smt_get_be32(p);
            p += 4;
            break;
        case W32_64:
            *(uint64_t *)member = smt_get_be32(p);
            p += 4;
            break;
        case ID:
            if (smt_get_be64(p) & ~(SMT_ID_ROLE | SMT_ID_MASK))
                return SMT_EMALFORMED;
            /* fallthrough */
        default:
            *(uint64_t *)member = smt_get_be64(p);
            p += 8;
            break;
        }
    }
    return row->len;
}

static int skippable_decode(const uint8_t *in, size_t len)
{
    if (len < 2 || (size_t)2 + in[1] > len)
        return SMT_EMALFORMED;
    return 2 + in[1];
}

/* Whole, as skippable_decode has seen. A bitmap longer than ours is a later version's. */
static int acks_decode(const uint8_t *in, struct smt_frame *out)
{
    size_t len = (size_t)2 + in[1];
    if (len < ACKS_HEAD)
        return SMT_EMALFORMED;
    uint64_t id = smt_get_be64(in + 2);
    if (id & ~(SMT_ID_ROLE | SMT_ID_MASK))
        return SMT_EMALFORMED;
    out->id = id;
    for (size_t i = ACKS_HEAD; i < len && i < ACKS_MAX; i++)
        out->bitmap |= (uint64_t)in[i] << (i - ACKS_HEAD) * 8;
    return (int)len;
}

static int late_decode(const uint8_t *in, struct smt_frame *out)
{
    int len = 2 + in[1];
    if (len < LATE_LEN)
        return SMT_EMALFORMED;
    out->seq = smt_get_be32(in + 2);
    out->length = smt_get_be32(in + 6);
    return len;
}

int smt_frame_decode(const uint8_t *in, size_t len, struct smt_frame *out)
{
    *out = (struct smt_frame){.type = len ? in[0] : SMT_FRAME_PAD};
    if (len == 0)
        return 0;
    uint8_t type = out->type;
    if (type == SMT_FRAME_PAD) {
        size_t n = 1;
        while (n < len && in[n] == SMT_FRAME_PAD)
            n++;
        return (int)n;
    }
    if (type >= SKIPPABLE) {
        int n = skippable_decode(in, len);
        if (n > 0 && type == SMT_FRAME_ACKS)
            return acks_decode(in, out);
        return n > 0 && type == SMT_FRAME_LATE ? late_decode(in, out) : n;
    }
    size_t need = smt_frame_len(type);
    if (need == 0)
        return 0;
    return need > len ? SMT_EMALFORMED : known_decode(in, out);
}
