/* The record of docs/wire.md 3: its 13 clear bytes, and the AAD and nonce that AES-GCM takes
 * with it. The form is that of TLS 1.2 (RFC 5288), so that a NIC with TLS offload can seal it.
 * Sealing itself is crypto's; which record number is due is core's. */
#include "wire/wire.h"

#include <string.h>

enum {
    TYPE_APPLICATION_DATA = 0x17,
    TLS12 = 0x0303,
    OFF_LEN = 3,
    OFF_NUMBER = 5,
    NUMBER_LEN = 8,
    TAG_LEN = 16,
    BEFORE_LEN_COUNTS = OFF_NUMBER,
    MIN_LEN = NUMBER_LEN + TAG_LEN,
    MAX_LEN = NUMBER_LEN + SMT_RECORD_MAX_PLAIN + TAG_LEN,
};

static_assert(SMT_RECORD_HEAD_LEN == OFF_NUMBER + NUMBER_LEN, "17 03 03, length, number");
static_assert(SMT_RECORD_OVERHEAD == SMT_RECORD_HEAD_LEN + TAG_LEN, "head and tag");
static_assert(SMT_AAD_LEN == NUMBER_LEN + 3 + 2, "number, 17 03 03, P");
static_assert(MAX_LEN <= UINT16_MAX, "length is a u16");

void smt_record_head_encode(uint8_t *out, uint64_t record_no, size_t plain_len)
{
    assert(plain_len <= SMT_RECORD_MAX_PLAIN);
    out[0] = TYPE_APPLICATION_DATA;
    smt_put_be16(out + 1, TLS12);
    smt_put_be16(out + OFF_LEN, (uint16_t)(MIN_LEN + plain_len));
    smt_put_be64(out + OFF_NUMBER, record_no);
}

int smt_record_head_decode(const uint8_t *in, size_t record_len, uint64_t *record_no,
                           size_t *plain_len)
{
    size_t body = smt_get_be16(in + OFF_LEN);
    if (in[0] != TYPE_APPLICATION_DATA || smt_get_be16(in + 1) != TLS12 || body < MIN_LEN ||
        body > MAX_LEN || BEFORE_LEN_COUNTS + body != record_len)
        return SMT_EMALFORMED;
    *record_no = smt_get_be64(in + OFF_NUMBER);
    *plain_len = body - MIN_LEN;
    return 0;
}

void smt_record_aad(uint8_t out[SMT_AAD_LEN], uint64_t record_no, size_t plain_len)
{
    smt_put_be64(out, record_no);
    out[8] = TYPE_APPLICATION_DATA;
    smt_put_be16(out + 9, TLS12);
    smt_put_be16(out + 11, (uint16_t)plain_len);
}

void smt_record_nonce(uint8_t out[12], const uint8_t salt[4], uint64_t record_no)
{
    memcpy(out, salt, 4);
    smt_put_be64(out + 4, record_no);
}
