/* The watching ciphers themselves: they find a nonce used twice, and the stand-in behaves like a
 * cipher. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checking_aead.h"

enum { LEN = 300 };

struct cipher {
    const struct smt_aead *row;
    void *ctx;
};

static struct cipher cipher_new(enum checking_cipher which, uint8_t key_byte)
{
    uint8_t key[SMT_AEAD_MAX_KEY_LEN];
    memset(key, key_byte, sizeof(key));
    struct cipher c = {.row = checking_aead(which)};
    c.ctx = aligned_alloc(64, (c.row->ctx_len + 63) & ~(size_t)63);
    assert_non_null(c.ctx);
    memset(c.ctx, 0, c.row->ctx_len);
    assert_int_equal(c.row->init(c.ctx, key), 0);
    return c;
}

static void cipher_free(struct cipher *c)
{
    c->row->fini(c->ctx);
    free(c->ctx);
}

static void seal(struct cipher *c, uint8_t nonce_byte, uint8_t aad_byte, const uint8_t *text,
                 size_t len, uint8_t *out)
{
    uint8_t nonce[12] = {nonce_byte}, aad[13] = {aad_byte};
    struct smt_aead_in in[2] = {{text, len / 3}, {text + len / 3, len - len / 3}};
    assert_int_equal(c->row->seal(c->ctx, nonce, aad, sizeof(aad), in, 2, out, out + len), 0);
}

static int open(struct cipher *c, uint8_t nonce_byte, uint8_t aad_byte, uint8_t *sealed, size_t len,
                uint8_t *out)
{
    uint8_t nonce[12] = {nonce_byte}, aad[13] = {aad_byte};
    struct smt_aead_out pieces[2] = {{out, len / 2}, {out + len / 2, len - len / 2}};
    return c->row->open(c->ctx, nonce, aad, sizeof(aad), sealed, len, pieces, 2, sealed + len);
}

/* Records in several packets are watched as others are. */
static void pieces_are_watched(void **state)
{
    for (int which = CHECKING_FAST; which <= CHECKING_AES256_GCM; which++) {
        uint8_t text[LEN] = {1, 2, 3}, whole[LEN + 16], out[LEN + 16], back[LEN];
        uint8_t nonce[12] = {1}, aad[13] = {0};
        checking_aead_reset();
        checking_aead_tolerate(true);
        struct cipher c = cipher_new((enum checking_cipher)which, 7);
        struct smt_aead_in in[2] = {{text, 10}, {text + 10, LEN - 10}};
        struct smt_aead_out cuts[2] = {{out, LEN - 30}, {out + LEN - 30, 30}};
        struct smt_aead_in sealed[2] = {{out, LEN - 30}, {out + LEN - 30, 30}};
        struct smt_aead_out opened[2] = {{back, 10}, {back + 10, LEN - 10}};
        seal(&c, 1, 0, text, LEN, whole);
        assert_int_equal(
            c.row->seal_to(c.ctx, nonce, aad, sizeof(aad), in, 2, cuts, 2, out + LEN), 0);
        assert_memory_equal(out, whole, sizeof(out));
        assert_int_equal(checking_aead_stats().repeats, 1);
        assert_int_equal(
            c.row->open_from(c.ctx, nonce, aad, sizeof(aad), sealed, 2, opened, 2, out + LEN), 0);
        assert_memory_equal(back, text, LEN);
        out[LEN]++;
        assert_int_equal(
            c.row->open_from(c.ctx, nonce, aad, sizeof(aad), sealed, 2, opened, 2, out + LEN),
            SMT_EAUTH);
        assert_int_equal(checking_aead_stats().open_failures, 1);
        text[0]++;
        assert_int_equal(
            c.row->seal_to(c.ctx, nonce, aad, sizeof(aad), in, 2, cuts, 2, out + LEN), 0);
        assert_int_equal(checking_aead_stats().violations, 1);
        checking_aead_tolerate(false);
        cipher_free(&c);
    }
    checking_aead_reset();
}

static void a_second_text_under_one_nonce_is_found(void **state)
{
    for (int which = CHECKING_FAST; which <= CHECKING_AES256_GCM; which++) {
        uint8_t text[LEN] = {1, 2, 3}, out[LEN + 16];
        checking_aead_reset();
        checking_aead_tolerate(true);
        struct cipher c = cipher_new((enum checking_cipher)which, 7);
        struct cipher other = cipher_new((enum checking_cipher)which, 8);
        seal(&c, 1, 0, text, LEN, out);
        seal(&c, 2, 0, text, LEN, out);
        seal(&other, 1, 9, text, LEN, out);
        assert_int_equal(checking_aead_stats().violations, 0);
        seal(&c, 1, 0, text, LEN, out);
        assert_int_equal(checking_aead_stats().repeats, 1);
        assert_int_equal(checking_aead_stats().violations, 0);
        text[LEN - 1]++;
        seal(&c, 1, 0, text, LEN, out);
        assert_int_equal(checking_aead_stats().violations, 1);
        seal(&c, 2, 1, text, LEN, out); /* other AAD */
        assert_int_equal(checking_aead_stats().violations, 2);
        seal(&other, 1, 9, text, LEN - 1, out); /* other length */
        assert_int_equal(checking_aead_stats().violations, 3);
        assert_int_equal(checking_aead_stats().nonces, 3);

        uint8_t key[SMT_AEAD_MAX_KEY_LEN];
        memset(key, 8, sizeof(key));
        assert_int_equal(c.row->rekey(c.ctx, key), 0); /* now the key of `other` */
        seal(&c, 1, 9, text, LEN, out);
        assert_int_equal(checking_aead_stats().violations, 4);
        cipher_free(&c);
        cipher_free(&other);
        assert_int_equal(checking_aead_stats().live_ctxs, 0);
        checking_aead_tolerate(false);
        checking_aead_reset();
    }
}

static void the_book_grows(void **state)
{
    uint8_t text[8] = {0}, out[24];
    struct cipher c = cipher_new(CHECKING_FAST, 3);
    for (uint32_t i = 0; i < 300000; i++) {
        uint8_t nonce[12] = {0}, aad[13] = {0};
        memcpy(nonce, &i, sizeof(i));
        struct smt_aead_in in = {text, sizeof(text)};
        assert_int_equal(c.row->seal(c.ctx, nonce, aad, sizeof(aad), &in, 1, out, out + 8), 0);
    }
    assert_int_equal(checking_aead_stats().nonces, 300000);
    cipher_free(&c);
    checking_aead_reset();
}

static void the_stand_in_opens_what_it_sealed_and_nothing_else(void **state)
{
    struct cipher c = cipher_new(CHECKING_FAST, 5);
    for (size_t len = 0; len <= LEN; len++) {
        checking_aead_reset();
        uint8_t text[LEN], sealed[LEN + 16], got[LEN];
        for (size_t i = 0; i < len; i++)
            text[i] = (uint8_t)(i * 7 + len);
        uint8_t nonce = (uint8_t)len, aad = (uint8_t)(len >> 8);
        seal(&c, nonce, aad, text, len, sealed);
        assert_int_equal(open(&c, nonce, aad, sealed, len, got), 0);
        assert_memory_equal(got, text, len);
        assert_int_equal(open(&c, nonce, aad, sealed, len, sealed), 0); /* in place */
        assert_memory_equal(sealed, text, len);
        seal(&c, nonce, aad, text, len, sealed);
        for (size_t i = 0; i < len + 16; i++) {
            sealed[i] ^= 0x10;
            assert_int_equal(open(&c, nonce, aad, sealed, len, got), SMT_EAUTH);
            sealed[i] ^= 0x10;
        }
        assert_int_equal(open(&c, (uint8_t)(nonce + 1), aad, sealed, len, got), SMT_EAUTH);
        assert_int_equal(open(&c, nonce, (uint8_t)(aad + 1), sealed, len, got), SMT_EAUTH);
        if (len >= 16)
            assert_memory_not_equal(sealed, text, 16);
    }
    cipher_free(&c);
    checking_aead_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_text_under_one_nonce_is_found),
        cmocka_unit_test(pieces_are_watched),
        cmocka_unit_test(the_book_grows),
        cmocka_unit_test(the_stand_in_opens_what_it_sealed_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
