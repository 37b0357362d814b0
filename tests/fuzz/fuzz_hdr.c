/* Clear headers and record heads. What is accepted describes nothing beyond the packet, and
 * encodes to the same header but for bytes that docs/wire.md lets a receiver ignore. What the short
 * way of reading takes for a packet with its whole message the long way takes for the same. */
#include "fuzz.h"

#include <string.h>

#include "wire/single.h"
#include "wire/wire.h"

static void check_equal(const struct smt_hdr *a, const struct smt_hdr *b)
{
    FUZZ_CHECK(a->sport == b->sport && a->dport == b->dport && a->kind == b->kind);
    FUZZ_CHECK(a->epoch == b->epoch && a->header_len == b->header_len);
    FUZZ_CHECK(a->session_id == b->session_id && a->rpc_id == b->rpc_id);
    FUZZ_CHECK(a->offset == b->offset && a->message_len == b->message_len && a->seal == b->seal);
    FUZZ_CHECK(a->record_len == b->record_len && a->slice_len == b->slice_len);
    FUZZ_CHECK(a->source_id == b->source_id && a->tls_len == b->tls_len);
    FUZZ_CHECK(a->cookie_len == b->cookie_len);
}

/* Reads what the header says is there, so that ASan sees it if it is not. */
static void touch(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum ^= p[i];
    __asm__ volatile("" : : "r"(sum));
}

static void check_record(const struct smt_hdr *h, const uint8_t *record, size_t len)
{
    uint64_t no;
    size_t plain_len;
    if (smt_record_head_decode(record, len, &no, &plain_len))
        return;
    FUZZ_CHECK(plain_len + SMT_RECORD_OVERHEAD == len && plain_len <= SMT_RECORD_MAX_PLAIN);
    touch(record, plain_len + SMT_RECORD_OVERHEAD);
    uint8_t again[SMT_RECORD_HEAD_LEN];
    smt_record_head_encode(again, no, plain_len);
    FUZZ_CHECK(memcmp(again, record, sizeof(again)) == 0);
    uint64_t want = smt_data_record_no(h->rpc_id, h->seal);
    FUZZ_CHECK(want >> 63 == h->rpc_id >> 63);
}

static void check_single(const uint8_t *data, size_t size, int rc, const struct smt_hdr *h)
{
    size_t single_len, plain_len;
    uint64_t no;
    if (!smt_single_decode(data, size, &single_len))
        return;
    FUZZ_CHECK(rc == 0 && h->kind == SMT_KIND_DATA && h->offset == 0);
    FUZZ_CHECK(h->slice_len == h->record_len && h->record_len <= size - h->header_len);
    const uint8_t *record = data + h->header_len;
    FUZZ_CHECK(smt_record_head_decode(record, h->record_len, &no, &plain_len) == 0);
    FUZZ_CHECK(plain_len == single_len && no == smt_data_record_no(h->rpc_id, h->seal));
    /* One that is alike is one, too, and no byte but of id and number may differ. */
    struct smt_single like, other;
    memcpy(&like, data, sizeof(like));
    for (size_t i = 0; i < sizeof(like); i++) {
        memcpy(&other, &like, sizeof(other));
        ((uint8_t *)&other)[i] ^= 1;
        bool is_own = (i >= 32 && i < 36) || i >= offsetof(struct smt_single, record_no);
        FUZZ_CHECK(smt_single_is_alike(&like, &other) == is_own);
        FUZZ_CHECK(!is_own || !smt_single_number_fits(&other));
    }
    FUZZ_CHECK(plain_len >= SMT_SINGLE_INNER_LEN + (size_t)h->message_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smt_hdr h, back;
    int rc = smt_hdr_decode(data, size, &h);
    FUZZ_CHECK(rc == 0 || rc == SMT_EMALFORMED || rc == SMT_EVERSION);
    check_single(data, size, rc, &h);
    if (rc == SMT_EVERSION) {
        FUZZ_CHECK(h.version != SMT_WIRE_VERSION && h.header_len <= size);
        FUZZ_CHECK(h.kind != SMT_KIND_HANDSHAKE || h.header_len >= 36);
    }
    if (rc != 0)
        return 0;
    const struct smt_kind_row *row = smt_kind_row(h.kind);
    FUZZ_CHECK(row && row->header_len == h.header_len && size >= row->min_len);

    uint8_t *again = malloc(size);
    FUZZ_CHECK(again != NULL);
    memcpy(again, data, size);
    FUZZ_CHECK(smt_hdr_encode(&h, again) == h.header_len);
    FUZZ_CHECK(smt_hdr_decode(again, size, &back) == 0);
    check_equal(&h, &back);
    free(again);

    size_t after = size - h.header_len;
    if (h.kind == SMT_KIND_HANDSHAKE) {
        FUZZ_CHECK((size_t)h.cookie_len + h.tls_len <= after);
        touch(data + h.header_len, (size_t)h.cookie_len + h.tls_len);
    } else if (h.kind == SMT_KIND_RETRY) {
        touch(data + h.header_len, SMT_COOKIE_LEN);
    } else if (h.kind == SMT_KIND_VERSION) {
        touch(data + h.header_len + 1, data[h.header_len]);
    } else if (h.kind == SMT_KIND_CTRL) {
        size_t announced = 5u + smt_get_be16(data + h.header_len + 3);
        if (announced <= after)
            check_record(&h, data + h.header_len, announced);
    } else if (row->sealed && h.slice_len == h.record_len) {
        FUZZ_CHECK(h.record_len <= after);
        check_record(&h, data + h.header_len, h.record_len);
    }
    return 0;
}
