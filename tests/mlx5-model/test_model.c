/* The model driven as a program drives a NIC: what it seals is opened here with OpenSSL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "drive.h"

static const uint8_t key16[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t iv12[12] = {0x87, 0xc6, 0x35, 0xc8, 9, 8, 7, 6, 5, 4, 3, 2};

struct pair {
    struct drive a, b;
};

static int pair_open(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    *state = p;
    return drive_open(&p->a, 0) != 0 || drive_open(&p->b, 1) != 0 || drive_recvs(&p->b) != 0;
}

static int pair_close(void **state)
{
    struct pair *p = *state;
    drive_close(&p->a);
    drive_close(&p->b);
    free(p);
    return 0;
}

/* The record that came in `n` frames, put together; its length. */
static uint32_t collect(struct drive *d, uint32_t header_len, uint8_t *out, unsigned *n)
{
    uint32_t total = 0, len;
    const uint8_t *f;
    for (*n = 0; (f = drive_frame(d, &len)) != NULL; ++*n) {
        assert_int_equal(f[18] << 8 | f[19], *n);
        memcpy(out + total, f + header_len, len - header_len);
        total += len - header_len;
    }
    return total;
}

static bool record_opens(const uint8_t *record, uint32_t len, uint64_t number, uint8_t *plain)
{
    uint8_t nonce[12], aad[13] = {0};
    uint32_t body = len - 29;
    int n;
    memcpy(nonce, iv12, 4);
    memcpy(nonce + 4, record + 5, 8);
    for (int i = 0; i < 8; i++)
        aad[i] = (uint8_t)(number >> (56 - 8 * i));
    memcpy(aad + 8, record, 3);
    aad[11] = (uint8_t)(body >> 8);
    aad[12] = (uint8_t)body;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_DecryptInit_ex(c, EVP_aes_128_gcm(), NULL, key16, nonce), 1);
    assert_int_equal(EVP_DecryptUpdate(c, NULL, &n, aad, 13), 1);
    assert_int_equal(EVP_DecryptUpdate(c, plain, &n, record + 13, (int)body), 1);
    uint8_t tag[16];
    memcpy(tag, record + len - 16, 16);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, 16, tag), 1);
    bool good = EVP_DecryptFinal_ex(c, plain + n, &n) == 1;
    EVP_CIPHER_CTX_free(c);
    return good;
}

static void setup_post(struct drive *d, uint64_t record)
{
    uint8_t w[3][1024];
    drive_wqe_static(d, w[0], 2, iv12, record, 0);
    drive_wqe_progress(d, w[1], 1);
    drive_wqe_nop(d, w[2], 1);
    mm_set(w[2], MM_CTRL_CE, 2);
    assert_int_equal(drive_post(d, w, 3), 0);
    assert_int_equal(drive_polled(d, NULL), IBV_WC_SUCCESS);
}

static void test_record_is_sealed(void **state)
{
    struct pair *p = *state;
    static uint8_t record[DRIVE_RECORD_MAX], plain[DRIVE_RECORD_MAX];
    uint8_t w[1][1024], h[128];
    assert_int_equal(drive_flow_protocol(&p->b, 254), 0);
    assert_int_equal(drive_objects(&p->a, key16, 16), 0);
    setup_post(&p->a, 77);
    static const uint32_t sizes[] = {1, 100, 1400, 5000, 16384};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t len = drive_record(p->a.mem, 77 + i, sizes[i]);
        for (uint32_t k = 0; k < sizes[i]; k++)
            p->a.mem[13 + k] = (uint8_t)(k * 7 + i);
        uint32_t header_len = drive_header(&p->a, &p->b, 4, 254, h);
        drive_wqe_lso(&p->a, w[0], h, header_len, 1400, (uintptr_t)p->a.mem, len);
        mm_set(w[0], MM_CTRL_CE, 2);
        assert_int_equal(drive_post(&p->a, w, 1), 0);
        assert_int_equal(drive_polled(&p->a, NULL), IBV_WC_SUCCESS);
        unsigned n;
        assert_int_equal(collect(&p->b, header_len, record, &n), len);
        assert_int_equal(n, (len + 1399) / 1400);
        assert_true(record_opens(record, len, 77 + i, plain));
        assert_memory_equal(plain, p->a.mem + 13, sizes[i]);
        assert_false(sizes[i] > 16 && memcmp(record + 13, p->a.mem + 13, sizes[i]) == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_record_is_sealed, pair_open, pair_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
