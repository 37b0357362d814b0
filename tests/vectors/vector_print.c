/* The lines of smt2.txt: sections, numbers, hex, and the fields of headers, inner heads and
 * frames as they went in. Nothing here encodes. */
#include "vector.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

void vec_check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "gen_smt2: %s\n", what);
    exit(1);
}

void vec_section(const char *name, const char *type, const char *note)
{
    printf("\n# %s\n[%s]\ntype=%s\n", note, name, type);
}

void vec_hex(const char *key, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    printf("%s=", key);
    for (size_t i = 0; i < len; i++)
        printf("%s%02x", len > 32 && i % 32 == 0 ? "\n  " : "", p[i]);
    printf("\n");
}

void vec_num(const char *key, uint64_t v)
{
    printf("%s=%" PRIu64 "\n", key, v);
}

void vec_id(const char *key, uint64_t v)
{
    printf("%s=%016" PRIx64 "\n", key, v);
}

void vec_header(const struct smt_hdr *h)
{
    vec_num("sport", h->sport);
    vec_num("dport", h->dport);
    printf("kind=%s\n", smt_kind_row(h->kind)->name);
    vec_num("version", SMT_WIRE_VERSION);
    vec_id("session_id", h->session_id);
    if (h->kind == SMT_KIND_DATA || h->kind == SMT_KIND_EARLY || h->kind == SMT_KIND_CTRL)
        vec_num("epoch", h->epoch);
    if (h->kind != SMT_KIND_DATA && h->kind != SMT_KIND_EARLY)
        return;
    vec_num("offset", h->offset);
    vec_num("message_length", h->message_len);
    vec_id("rpc_id", h->rpc_id & SMT_ID_MASK);
    vec_num("role", h->rpc_id >> 63);
    vec_num("attempt", h->seal >> SMT_SEAL_INDEX_BITS);
    vec_num("index", h->seal & 0xffffff);
    vec_num("record_length", h->record_len);
    vec_num("slice_length", h->slice_len);
}

static const char *const frame_names[] = {
    [SMT_FRAME_PAD] = "PAD",
    [SMT_FRAME_PING] = "PING",
    [SMT_FRAME_PONG] = "PONG",
    [SMT_FRAME_MARK] = "MARK",
    [SMT_FRAME_SEEN] = "SEEN",
    [SMT_FRAME_PROBE] = "PROBE",
    [SMT_FRAME_PROBE_ACK] = "PROBE_ACK",
    [SMT_FRAME_PATH_CHALLENGE] = "PATH_CHALLENGE",
    [SMT_FRAME_PATH_RESPONSE] = "PATH_RESPONSE",
    [SMT_FRAME_GRANT] = "GRANT",
    [SMT_FRAME_RESEND] = "RESEND",
    [SMT_FRAME_UNKNOWN] = "UNKNOWN",
    [SMT_FRAME_BUSY] = "BUSY",
    [SMT_FRAME_CUTOFFS] = "CUTOFFS",
    [SMT_FRAME_NEED_ACK] = "NEED_ACK",
    [SMT_FRAME_ACK] = "ACK",
    [SMT_FRAME_ABORT] = "ABORT",
    [SMT_FRAME_DONE] = "DONE",
    [SMT_FRAME_CREDIT] = "CREDIT",
    [SMT_FRAME_CLOSE] = "CLOSE",
    [SMT_FRAME_REKEY] = "REKEY",
    [SMT_FRAME_ACKS] = "ACKS",
    [SMT_FRAME_LATE] = "LATE",
};

static void frame_rest(const struct smt_frame *f)
{
    switch (f->type) {
    case SMT_FRAME_UNKNOWN:
        printf(" id=%016" PRIx64 " flags=%u", f->id, f->flags);
        break;
    case SMT_FRAME_CUTOFFS:
        printf(" version=%u limit=%u cutoffs=", f->code, f->length);
        for (unsigned c = 0; c < SMT_ARRAY_LEN(f->cutoffs); c++)
            printf("%s%u", c ? "," : "", f->cutoffs[c]);
        break;
    case SMT_FRAME_ABORT:
        printf(" id=%016" PRIx64 " code=%u", f->id, f->code);
        break;
    case SMT_FRAME_DONE:
        printf(" low_water=%016" PRIx64 " bitmap=%016" PRIx64, f->low_water, f->bitmap);
        break;
    case SMT_FRAME_ACKS:
        printf(" id=%016" PRIx64 " bitmap=%016" PRIx64, f->id, f->bitmap);
        break;
    case SMT_FRAME_LATE:
        printf(" seq=%u ns=%u", f->seq, f->length);
        break;
    case SMT_FRAME_CREDIT:
        printf(" open=%u bytes=%" PRIu64, f->length, f->low_water);
        break;
    case SMT_FRAME_CLOSE:
        printf(" code=%u", f->code);
        break;
    }
}

void vec_frame(unsigned i, const struct smt_frame *f)
{
    printf("frame.%u=%s", i, frame_names[f->type]);
    switch (f->type) {
    case SMT_FRAME_PING:
    case SMT_FRAME_PONG:
    case SMT_FRAME_PATH_CHALLENGE:
    case SMT_FRAME_PATH_RESPONSE:
        printf(" token=%016" PRIx64, f->token);
        break;
    case SMT_FRAME_PROBE:
        printf(" token=%08" PRIx64, f->token);
        break;
    case SMT_FRAME_PROBE_ACK:
        printf(" token=%08" PRIx64 " length=%u", f->token, f->code);
        break;
    case SMT_FRAME_MARK:
        printf(" seq=%u packets=%u bytes=%u", f->seq, f->packets, f->bytes);
        break;
    case SMT_FRAME_SEEN:
        printf(" seq=%u packets=%u bytes=%u ce=%u", f->seq, f->packets, f->bytes, f->ce);
        break;
    case SMT_FRAME_GRANT:
        printf(" id=%016" PRIx64 " offset=%u received=%u priority=%u", f->id, f->offset, f->length,
               f->prio);
        break;
    case SMT_FRAME_RESEND:
        printf(" id=%016" PRIx64 " offset=%u length=%u priority=%u flags=%u", f->id, f->offset,
               f->length, f->prio, f->flags);
        break;
    case SMT_FRAME_BUSY:
    case SMT_FRAME_NEED_ACK:
    case SMT_FRAME_ACK:
        printf(" id=%016" PRIx64, f->id);
        break;
    default:
        frame_rest(f);
        break;
    }
    printf("\n");
}

void vec_inner(const struct smt_inner *in)
{
    static const char *const what[] = {"", "REQUEST", "RESPONSE", "ONEWAY", "TEST"};
    printf("what=%s\n", what[in->what]);
    vec_num("idempotent", !!(in->flags & SMT_INNER_IDEMPOTENT));
    vec_num("extension", !!(in->flags & SMT_INNER_EXT));
    if (!(in->flags & SMT_INNER_EXT))
        return;
    vec_id("low_water", in->low_water);
    vec_id("done", in->done);
    vec_num("unscheduled", in->unsched);
    vec_num("cutoffs_version", in->cutoffs_version);
}
