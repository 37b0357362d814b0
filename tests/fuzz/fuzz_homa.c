/* Packets of the kernel's Homa in its three formats, and the head of an smt1 record behind one.
 * What is accepted lies inside the packet and its message, and encodes to a packet that decodes to
 * the same.  */
#include "fuzz.h"

#include <string.h>

#include "wire/homa.h"
#include "wire/smt1.h"
#include "wire/wire.h"

static void touch(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum ^= p[i];
    __asm__ volatile("" : : "r"(sum));
}

static void check_record(const struct smt_homa_pkt *p)
{
    static const uint32_t mtus[] = {576, 1500, 9000};
    for (size_t m = 0; m < SMT_ARRAY_LEN(mtus); m++) {
        struct smt_smt1_geom g;
        struct smt_smt1_record r;
        FUZZ_CHECK(smt_smt1_geom_init(&g, mtus[m], SMT_SMT1_DEFAULT_GSO) == 0);
        if (p->payload_len < SMT_RECORD_HEAD_LEN ||
            smt_smt1_record_decode(&g, p->message_len, p->offset, p->payload, &r))
            continue;
        FUZZ_CHECK(r.offset + r.data_len <= p->message_len && r.data_len > 0);
        uint32_t data = 0, bytes = 0;
        for (uint32_t i = 0; i < r.n_segments; i++) {
            uint32_t at, len, plain_at;
            smt_smt1_segment_at(&g, &r, i, &at, &len, &plain_at);
            FUZZ_CHECK(at == data && len > 0 && plain_at + 20 + len <= r.plain_len);
            data += len;
        }
        for (uint32_t i = 0; i < r.n_packets; i++)
            bytes += smt_smt1_slice_len(&g, &r, i);
        FUZZ_CHECK(data == r.data_len && bytes == r.record_len);
    }
}

static void one(const struct smt_homa_format *f, const uint8_t *data, size_t size)
{
    struct smt_homa_pkt p, back;
    int rc = smt_homa_decode(f, data, size, &p);
    FUZZ_CHECK(rc == 0 || rc == SMT_EMALFORMED);
    if (rc)
        return;
    FUZZ_CHECK(size >= smt_homa_len(f, p.type) && p.n_acks <= SMT_HOMA_MAX_ACKS);
    uint8_t *again = malloc(size + SMT_HOMA_MAX_HDR_LEN);
    FUZZ_CHECK(again != NULL);
    size_t len = smt_homa_encode(f, &p, again);
    FUZZ_CHECK(len <= size);
    if (p.type == SMT_HOMA_DATA) {
        FUZZ_CHECK(p.message_len > 0 && p.message_len <= SMT_HOMA_MAX_MESSAGE);
        FUZZ_CHECK(p.offset <= p.message_len && p.payload + p.payload_len == data + size);
        FUZZ_CHECK(f->records || p.payload_len <= p.message_len - p.offset);
        touch(p.payload, p.payload_len);
        memcpy(again + len, p.payload, p.payload_len);
        len += p.payload_len;
        if (f->records)
            check_record(&p);
    }
    FUZZ_CHECK(smt_homa_decode(f, again, len, &back) == 0);
    uint8_t *third = malloc(size + SMT_HOMA_MAX_HDR_LEN);
    FUZZ_CHECK(third != NULL);
    size_t hdr_len = smt_homa_encode(f, &back, third);
    FUZZ_CHECK(hdr_len <= len && memcmp(third, again, hdr_len) == 0);
    FUZZ_CHECK(back.payload_len == p.payload_len && back.offset == p.offset);
    free(third);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    one(&smt_homa_main, data, size);
    one(&smt_homa_6_1, data, size);
    one(&smt_homa_smt1, data, size);
    return 0;
}
