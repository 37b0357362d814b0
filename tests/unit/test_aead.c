/* The cipher table: known answers, every row against every other, refusals, and the promises about
 * memory (no allocation per record, no access beyond a piece). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cmocka.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "crypto/aead.h"

enum { MAX_PIECES = 16, MAX_RECORD = 1 << 16 };

static uint64_t rng_state = 1;

static uint64_t rng(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t rng_below(size_t n)
{
    return rng() % n;
}

static void rng_fill(uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)rng();
}

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return n;
}

static void *ctx_new(const struct smt_aead *row, const uint8_t *key)
{
    void *ctx = aligned_alloc(64, (row->ctx_len + 63) & ~(size_t)63);
    assert_non_null(ctx);
    memset(ctx, 0xa5, row->ctx_len); /* init must not trust what lies there */
    assert_int_equal(row->init(ctx, key), 0);
    return ctx;
}

static void ctx_free(const struct smt_aead *row, void *ctx)
{
    row->fini(ctx);
    for (size_t i = 0; i < row->ctx_len && strcmp(row->impl, "ipsec-mb") == 0; i++) {
        if (((uint8_t *)ctx)[i] != 0 && ((uint8_t *)ctx)[i] != 0xa5)
            fail_msg("byte %zu of a finished context is not wiped", i);
    }
    free(ctx);
}

/* McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 1-4 and 13-16. */
#define ZEROS_16 "00000000000000000000000000000000"
#define KEY_16 "feffe9928665731c6d6a8f9467308308"
#define PLAIN_60                                                                                   \
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"                             \
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define CIPHER128_60                                                                               \
    "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"                             \
    "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
#define CIPHER256_60                                                                               \
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"                             \
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"

static const struct known_answer {
    enum smt_aead_alg alg;
    const char *key, *nonce, *aad, *plain, *cipher, *tag;
} known_answers[] = {
    {SMT_AEAD_AES128_GCM, ZEROS_16, "000000000000000000000000", "", "", "",
     "58e2fccefa7e3061367f1d57a4e7455a"},
    {SMT_AEAD_AES128_GCM, ZEROS_16, "000000000000000000000000", "", ZEROS_16,
     "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf"},
    {SMT_AEAD_AES128_GCM, KEY_16, "cafebabefacedbaddecaf888", "", PLAIN_60 "1aafd255",
     CIPHER128_60 "473f5985", "4d5c2af327cd64a62cf35abd2ba6fab4"},
    {SMT_AEAD_AES128_GCM, KEY_16, "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2", PLAIN_60, CIPHER128_60,
     "5bc94fbc3221a5db94fae95ae7121a47"},
    {SMT_AEAD_AES256_GCM, ZEROS_16 ZEROS_16, "000000000000000000000000", "", "", "",
     "530f8afbc74536b9a963b4f1c4cb738b"},
    {SMT_AEAD_AES256_GCM, ZEROS_16 ZEROS_16, "000000000000000000000000", "", ZEROS_16,
     "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"},
    {SMT_AEAD_AES256_GCM, KEY_16 KEY_16, "cafebabefacedbaddecaf888", "", PLAIN_60 "1aafd255",
     CIPHER256_60 "898015ad", "b094dac5d93471bdec1a502270e3cc6c"},
    {SMT_AEAD_AES256_GCM, KEY_16 KEY_16, "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2", PLAIN_60, CIPHER256_60,
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

static void check_known_answer(const struct smt_aead *row, const struct known_answer *v)
{
    uint8_t key[32], nonce[12], aad[32], plain[64], cipher[64], tag[16], out[64], out_tag[16];
    assert_int_equal(unhex(v->key, key), row->key_len);
    unhex(v->nonce, nonce);
    unhex(v->tag, tag);
    size_t aad_len = unhex(v->aad, aad);
    size_t len = unhex(v->plain, plain);
    assert_int_equal(unhex(v->cipher, cipher), len);

    void *ctx = ctx_new(row, key);
    struct smt_aead_in in = {plain, len};
    assert_int_equal(row->seal(ctx, nonce, aad, aad_len, &in, 1, out, out_tag), 0);
    assert_memory_equal(out, cipher, len);
    assert_memory_equal(out_tag, tag, 16);

    memset(out, 0, sizeof(out));
    struct smt_aead_out to = {out, len};
    assert_int_equal(row->open(ctx, nonce, aad, aad_len, cipher, len, &to, 1, tag), 0);
    assert_memory_equal(out, plain, len);
    ctx_free(row, ctx);
}

static void test_known_answers(void **state)
{
    unsigned n, checked = 0;
    const struct smt_aead *rows = smt_aead_list(&n);
    for (unsigned r = 0; r < n; r++) {
        for (unsigned i = 0; i < SMT_ARRAY_LEN(known_answers); i++) {
            if (known_answers[i].alg != rows[r].alg)
                continue;
            check_known_answer(&rows[r], &known_answers[i]);
            checked++;
        }
    }
    assert_int_equal(checked, 4 * n);
}

static void test_list(void **state)
{
    unsigned n, again;
    const struct smt_aead *rows = smt_aead_list(&n);
    assert_true(n >= 2);
    assert_ptr_equal(rows, smt_aead_list(&again));
    assert_int_equal(n, again);
    for (unsigned i = 0; i < n; i++) {
        assert_true(rows[i].usable());
        assert_int_equal(rows[i].key_len, rows[i].alg == SMT_AEAD_AES128_GCM ? 16 : 32);
        assert_true(rows[i].key_len <= SMT_AEAD_MAX_KEY_LEN);
        assert_ptr_equal(smt_aead_find(rows[i].alg, rows[i].impl), &rows[i]);
        assert_ptr_equal(smt_aead_by_name(rows[i].name, rows[i].impl), &rows[i]);
    }
}

static void test_find(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    assert_ptr_equal(smt_aead_find(rows[0].alg, NULL), &rows[0]);
    assert_ptr_equal(smt_aead_find(rows[0].alg, "auto"), &rows[0]);
    assert_ptr_equal(smt_aead_by_name(rows[0].name, NULL), &rows[0]);
    assert_null(smt_aead_find(SMT_AEAD_AES128_GCM, "rot13"));
    assert_null(smt_aead_find(SMT_AEAD_AES128_GCM, ""));
    assert_null(smt_aead_by_name("aes-128-cbc", NULL));
    assert_null(smt_aead_by_name("", NULL));
}

/* Plaintext is got by asking for it and in no other way. */
static void test_none_is_never_picked(void **state)
{
    const struct smt_aead *none = smt_aead_find(SMT_AEAD_NONE, NULL);
    assert_non_null(none);
    assert_ptr_equal(smt_aead_find(SMT_AEAD_NONE, "openssl"), none);
    assert_int_equal(none->alg, SMT_AEAD_NONE);
    assert_null(smt_aead_by_name(none->name, NULL));
    assert_null(smt_aead_by_name(none->name, none->impl));
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    for (unsigned i = 0; i < n; i++)
        assert_int_not_equal(rows[i].alg, SMT_AEAD_NONE);
}

static void test_none_copies(void **state)
{
    const struct smt_aead *none = smt_aead_find(SMT_AEAD_NONE, NULL);
    uint8_t key[32] = {0}, nonce[SMT_AEAD_NONCE_LEN] = {0}, tag[SMT_AEAD_TAG_LEN];
    uint8_t text[8] = "abcdefg", out[8], back[8];
    void *ctx = ctx_new(none, key);
    struct smt_aead_in in[] = {{text, 3}, {NULL, 0}, {text + 3, 5}};
    assert_int_equal(none->seal(ctx, nonce, NULL, 0, in, 3, out, tag), 0);
    assert_memory_equal(out, text, sizeof(text));
    struct smt_aead_out pieces[] = {{back, 1}, {NULL, 0}, {back + 1, 7}};
    assert_int_equal(none->open(ctx, nonce, NULL, 0, out, sizeof(out), pieces, 3, tag), 0);
    assert_memory_equal(back, text, sizeof(text));
    tag[15] ^= 1;
    assert_int_equal(none->open(ctx, nonce, NULL, 0, out, sizeof(out), pieces, 3, tag), SMT_EAUTH);

    struct smt_aead_out cuts[] = {{out, 4}, {NULL, 0}, {out + 4, 4}};
    struct smt_aead_in sealed[] = {{out, 4}, {out + 4, 4}};
    memset(out, 0, sizeof(out));
    memset(back, 0, sizeof(back));
    assert_int_equal(none->seal_to(ctx, nonce, NULL, 0, in, 3, cuts, 3, tag), 0);
    assert_memory_equal(out, text, sizeof(text));
    assert_int_equal(none->open_from(ctx, nonce, NULL, 0, sealed, 2, pieces, 3, tag), 0);
    assert_memory_equal(back, text, sizeof(text));
    tag[0] = 1;
    assert_int_equal(none->open_from(ctx, nonce, NULL, 0, sealed, 2, pieces, 3, tag), SMT_EAUTH);
    ctx_free(none, ctx);
}

static void test_find_fips(void **state)
{
    uint8_t key[32] = {0};
    const struct smt_aead *openssl = smt_aead_find(SMT_AEAD_AES128_GCM, "openssl");
    const struct smt_aead *before = smt_aead_find(SMT_AEAD_AES128_GCM, NULL);
    ctx_free(openssl, ctx_new(openssl, key)); /* fetches while there is no FIPS to ask for */

    assert_int_equal(EVP_default_properties_enable_fips(NULL, 1), 1);
    assert_ptr_equal(smt_aead_find(SMT_AEAD_AES128_GCM, NULL), openssl);
    assert_ptr_equal(smt_aead_find(SMT_AEAD_AES128_GCM, "auto"), openssl);
    assert_string_equal(smt_aead_by_name("aes-256-gcm", NULL)->impl, "openssl");
    assert_true(smt_aead_is_fips());
    /* Nor by name. */
    assert_ptr_equal(smt_aead_find(SMT_AEAD_AES128_GCM, before->impl),
                     before->fips ? before : NULL);
    assert_ptr_equal(smt_aead_find(SMT_AEAD_AES128_GCM, "openssl"), openssl);
    assert_int_equal(EVP_default_properties_enable_fips(NULL, 0), 1);
    assert_false(smt_aead_is_fips());
    assert_ptr_equal(smt_aead_find(SMT_AEAD_AES128_GCM, NULL), before);
}

/* Cuts len into up to MAX_PIECES lengths, some of them zero. Returns how many. */
static unsigned cut(size_t len, size_t cuts[MAX_PIECES])
{
    unsigned n = 1 + (unsigned)rng_below(MAX_PIECES);
    size_t left = len;
    for (unsigned i = 0; i + 1 < n; i++) {
        size_t most = rng_below(3) == 0 ? 20 : left;
        cuts[i] = rng_below(4) == 0 ? 0 : rng_below((most < left ? most : left) + 1);
        left -= cuts[i];
    }
    cuts[n - 1] = left;
    return n;
}

/* One record, its parts, and room for what a row makes of it. */
struct record {
    uint8_t key[32], nonce[12], aad[80], tag[16];
    size_t aad_len, len;
    uint8_t plain[MAX_RECORD], cipher[MAX_RECORD];
};

static size_t rng_len(void)
{
    static const size_t corners[] = {0, 1, 15, 16, 17, 255, 256, 257, 4096, 65535, 65536};
    switch (rng_below(8)) {
    case 0:
        return corners[rng_below(SMT_ARRAY_LEN(corners))];
    case 1:
        return rng_below(MAX_RECORD + 1);
    default:
        return rng_below(2000);
    }
}

static void record_make(struct record *r)
{
    rng_fill(r->key, sizeof(r->key));
    rng_fill(r->nonce, sizeof(r->nonce));
    r->aad_len = rng_below(2) == 0 ? 13 : rng_below(sizeof(r->aad) + 1);
    rng_fill(r->aad, r->aad_len);
    r->len = rng_len();
    rng_fill(r->plain, r->len);
}

static void seal_in_pieces(const struct smt_aead *row, void *ctx, const struct record *r,
                           bool in_place, uint8_t *out, uint8_t *tag)
{
    size_t cuts[MAX_PIECES];
    struct smt_aead_in in[MAX_PIECES];
    unsigned n = cut(r->len, cuts);
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *from = in_place && rng_below(2) == 0 ? out + at : r->plain + at;
        in[i] = (struct smt_aead_in){cuts[i] == 0 ? NULL : from, cuts[i]};
        at += cuts[i];
    }
    if (in_place)
        memcpy(out, r->plain, r->len);
    assert_int_equal(row->seal(ctx, r->nonce, r->aad, r->aad_len, in, n, out, tag), 0);
}

static void open_in_pieces(const struct smt_aead *row, void *ctx, const struct record *r,
                           bool in_place, uint8_t *buf, uint8_t *scratch)
{
    size_t cuts[MAX_PIECES];
    struct smt_aead_out out[MAX_PIECES];
    unsigned n = cut(r->len, cuts);
    size_t at = 0;
    memcpy(buf, r->cipher, r->len);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *to = in_place && rng_below(2) == 0 ? buf + at : scratch + at;
        out[i] = (struct smt_aead_out){cuts[i] == 0 ? NULL : to, cuts[i]};
        at += cuts[i];
    }
    assert_int_equal(row->open(ctx, r->nonce, r->aad, r->aad_len, buf, r->len, out, n, r->tag), 0);
    at = 0;
    for (unsigned i = 0; i < n; i++) {
        if (cuts[i] != 0)
            assert_memory_equal(out[i].p, r->plain + at, cuts[i]);
        at += cuts[i];
    }
}

/* Pieces of random lengths over a run of bytes. */
static unsigned cut_in(const uint8_t *p, size_t len, struct smt_aead_in in[MAX_PIECES])
{
    size_t cuts[MAX_PIECES];
    unsigned n = cut(len, cuts);
    for (unsigned i = 0; i < n; p += cuts[i], i++)
        in[i] = (struct smt_aead_in){cuts[i] == 0 ? NULL : p, cuts[i]};
    return n;
}

static unsigned cut_out(uint8_t *p, size_t len, struct smt_aead_out out[MAX_PIECES])
{
    size_t cuts[MAX_PIECES];
    unsigned n = cut(len, cuts);
    for (unsigned i = 0; i < n; p += cuts[i], i++)
        out[i] = (struct smt_aead_out){cuts[i] == 0 ? NULL : p, cuts[i]};
    return n;
}

static void check_pieces_agree(const struct smt_aead *row, void *ctx, const struct record *r,
                               bool in_place, uint8_t *buf, uint8_t *scratch)
{
    struct smt_aead_in in[MAX_PIECES];
    struct smt_aead_out out[MAX_PIECES];
    uint8_t tag[16];
    uint8_t *from = in_place ? buf : scratch;

    memset(buf, 0, r->len);
    memcpy(from, r->plain, r->len);
    unsigned n_in = cut_in(from, r->len, in), n_out = cut_out(buf, r->len, out);
    assert_int_equal(
        row->seal_to(ctx, r->nonce, r->aad, r->aad_len, in, n_in, out, n_out, tag), 0);
    assert_memory_equal(buf, r->cipher, r->len);
    assert_memory_equal(tag, r->tag, 16);

    memset(buf, 0, r->len);
    memcpy(from, r->cipher, r->len);
    n_in = cut_in(from, r->len, in);
    n_out = cut_out(buf, r->len, out);
    assert_int_equal(
        row->open_from(ctx, r->nonce, r->aad, r->aad_len, in, n_in, out, n_out, tag), 0);
    assert_memory_equal(buf, r->plain, r->len);

    tag[rng_below(16)] ^= (uint8_t)(1u << rng_below(8));
    memcpy(from, r->cipher, r->len);
    assert_int_equal(
        row->open_from(ctx, r->nonce, r->aad, r->aad_len, in, n_in, out, n_out, tag), SMT_EAUTH);
}

static void check_rows_agree(enum smt_aead_alg alg, struct record *r, uint8_t *buf,
                             uint8_t *scratch)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    bool first = true;
    record_make(r);
    for (unsigned i = 0; i < n; i++) {
        if (rows[i].alg != alg)
            continue;
        void *ctx = ctx_new(&rows[i], r->key);
        uint8_t tag[16];
        if (first) {
            struct smt_aead_in whole = {r->plain, r->len};
            assert_int_equal(
                rows[i].seal(ctx, r->nonce, r->aad, r->aad_len, &whole, 1, r->cipher, r->tag), 0);
            first = false;
        }
        for (unsigned round = 0; round < 3; round++) {
            seal_in_pieces(&rows[i], ctx, r, round != 0, buf, tag);
            assert_memory_equal(buf, r->cipher, r->len);
            assert_memory_equal(tag, r->tag, 16);
            open_in_pieces(&rows[i], ctx, r, round != 0, buf, scratch);
            check_pieces_agree(&rows[i], ctx, r, round != 0, buf, scratch);
        }
        ctx_free(&rows[i], ctx);
    }
}

static void test_rows_agree(void **state)
{
    struct record *r = malloc(sizeof(*r));
    uint8_t *buf = malloc(MAX_RECORD), *scratch = malloc(MAX_RECORD);
    for (uint64_t seed = 1; seed <= 400; seed++) {
        rng_state = seed;
        check_rows_agree(SMT_AEAD_AES128_GCM, r, buf, scratch);
        check_rows_agree(SMT_AEAD_AES256_GCM, r, buf, scratch);
    }
    free(scratch);
    free(buf);
    free(r);
}

/* Every length around the block sizes of the vector code, cut at every place. */
static void test_every_small_cut(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    uint8_t key[32], nonce[12], plain[300], whole[300], parts[300], tag[16], tag2[16];
    rng_fill(key, sizeof(key));
    rng_fill(nonce, sizeof(nonce));
    rng_fill(plain, sizeof(plain));
    for (unsigned r = 0; r < n; r++) {
        void *ctx = ctx_new(&rows[r], key);
        for (size_t len = 0; len <= sizeof(plain); len += len < 70 ? 1 : 23) {
            struct smt_aead_in all = {plain, len};
            assert_int_equal(rows[r].seal(ctx, nonce, plain, 13, &all, 1, whole, tag), 0);
            for (size_t at = 0; at <= len; at++) {
                struct smt_aead_in in[] = {{plain, at}, {plain + at, len - at}};
                assert_int_equal(rows[r].seal(ctx, nonce, plain, 13, in, 2, parts, tag2), 0);
                assert_memory_equal(parts, whole, len);
                assert_memory_equal(tag2, tag, 16);
                struct smt_aead_out out[] = {{parts, at}, {parts + at, len - at}};
                assert_int_equal(rows[r].open(ctx, nonce, plain, 13, whole, len, out, 2, tag), 0);
                assert_memory_equal(parts, plain, len);
            }
        }
        ctx_free(&rows[r], ctx);
    }
}

/* Cuts on both sides at all distances from each other and from the blocks of the cipher, down to
 * pieces of one byte. */
static void test_small_pieces_on_both_sides(void **state)
{
    enum { LEN = 100 };
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    uint8_t key[32], nonce[12], plain[LEN], whole[LEN], parts[LEN], back[LEN], tag[16], tag2[16];
    rng_fill(key, sizeof(key));
    rng_fill(nonce, sizeof(nonce));
    rng_fill(plain, sizeof(plain));
    for (unsigned r = 0; r < n; r++) {
        void *ctx = ctx_new(&rows[r], key);
        struct smt_aead_in all = {plain, LEN};
        assert_int_equal(rows[r].seal(ctx, nonce, plain, 13, &all, 1, whole, tag), 0);
        for (size_t of_in = 1; of_in <= 34; of_in++) {
            for (size_t of_out = 1; of_out <= 34; of_out++) {
                struct smt_aead_in in[LEN], sealed[LEN];
                struct smt_aead_out out[LEN], opened[LEN];
                unsigned n_in = 0, n_out = 0;
                for (size_t at = 0; at < LEN; at += of_in, n_in++) {
                    size_t len = LEN - at < of_in ? LEN - at : of_in;
                    in[n_in] = (struct smt_aead_in){plain + at, len};
                    opened[n_in] = (struct smt_aead_out){back + at, len};
                }
                for (size_t at = 0; at < LEN; at += of_out, n_out++) {
                    size_t len = LEN - at < of_out ? LEN - at : of_out;
                    out[n_out] = (struct smt_aead_out){parts + at, len};
                    sealed[n_out] = (struct smt_aead_in){parts + at, len};
                }
                assert_int_equal(
                    rows[r].seal_to(ctx, nonce, plain, 13, in, n_in, out, n_out, tag2), 0);
                assert_memory_equal(parts, whole, LEN);
                assert_memory_equal(tag2, tag, 16);
                assert_int_equal(
                    rows[r].open_from(ctx, nonce, plain, 13, sealed, n_out, opened, n_in, tag), 0);
                assert_memory_equal(back, plain, LEN);
            }
        }
        ctx_free(&rows[r], ctx);
    }
}

static int open_record(const struct smt_aead *row, void *ctx, const struct record *r,
                       uint8_t *plain, bool two)
{
    size_t at = two ? r->len / 2 : 0;
    struct smt_aead_out out[] = {{plain, at}, {plain + at, r->len - at}};
    struct smt_aead_in in[] = {{r->cipher, at / 2}, {r->cipher + at / 2, r->len - at / 2}};
    if (two)
        return row->open_from(ctx, r->nonce, r->aad, r->aad_len, in, 2, out, 2, r->tag);
    return row->open(ctx, r->nonce, r->aad, r->aad_len, r->cipher, r->len, out, 2, r->tag);
}

/* Flips one bit of `field`, expects a refusal, flips it back. */
static void refuse_flipped(const struct smt_aead *row, void *ctx, struct record *r, uint8_t *field,
                           size_t len, uint8_t *plain)
{
    if (len == 0)
        return;
    uint8_t *victim = &field[rng_below(len)];
    uint8_t bit = (uint8_t)(1u << rng_below(8));
    *victim ^= bit;
    assert_int_equal(open_record(row, ctx, r, plain, false), SMT_EAUTH);
    assert_int_equal(open_record(row, ctx, r, plain, true), SMT_EAUTH);
    *victim ^= bit;
}

static void test_refusals(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    struct record *r = malloc(sizeof(*r));
    uint8_t *plain = malloc(MAX_RECORD);
    for (unsigned i = 0; i < n; i++) {
        for (uint64_t seed = 1; seed <= 200; seed++) {
            rng_state = seed;
            record_make(r);
            void *ctx = ctx_new(&rows[i], r->key);
            struct smt_aead_in in = {r->plain, r->len};
            assert_int_equal(
                rows[i].seal(ctx, r->nonce, r->aad, r->aad_len, &in, 1, r->cipher, r->tag), 0);
            refuse_flipped(&rows[i], ctx, r, r->tag, 16, plain);
            refuse_flipped(&rows[i], ctx, r, r->nonce, 12, plain);
            refuse_flipped(&rows[i], ctx, r, r->aad, r->aad_len, plain);
            refuse_flipped(&rows[i], ctx, r, r->cipher, r->len, plain);
            if (r->aad_len > 0) {
                r->aad_len--;
                assert_int_equal(open_record(&rows[i], ctx, r, plain, false), SMT_EAUTH);
                r->aad_len++;
            }
            if (r->len > 0) {
                r->len--;
                assert_int_equal(open_record(&rows[i], ctx, r, plain, false), SMT_EAUTH);
                r->len++;
            }
            r->key[rng_below(rows[i].key_len)] ^= 1;
            assert_int_equal(rows[i].rekey(ctx, r->key), 0);
            assert_int_equal(open_record(&rows[i], ctx, r, plain, false), SMT_EAUTH);
            ctx_free(&rows[i], ctx);
        }
    }
    /* A forged packet must leave nothing for the TLS code to stumble over. */
    assert_int_equal(ERR_peek_error(), 0);
    free(plain);
    free(r);
}

/* Every bit of the tag counts. */
static void test_every_tag_bit(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    uint8_t key[32] = {1}, nonce[12] = {2}, text[64] = {3}, tag[16];
    for (unsigned r = 0; r < n; r++) {
        void *ctx = ctx_new(&rows[r], key);
        struct smt_aead_in in = {text, sizeof(text)};
        struct smt_aead_out out = {text, sizeof(text)};
        for (unsigned bit = 0; bit < 128; bit++) {
            assert_int_equal(rows[r].seal(ctx, nonce, NULL, 0, &in, 1, text, tag), 0);
            tag[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(rows[r].open(ctx, nonce, NULL, 0, text, sizeof(text), &out, 1, tag),
                             SMT_EAUTH);
        }
        ctx_free(&rows[r], ctx);
    }
}

static void test_rekey(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    uint8_t key[32] = {7}, other[32] = {8}, nonce[12] = {0}, tag[16], want[16];
    for (unsigned r = 0; r < n; r++) {
        void *ctx = ctx_new(&rows[r], key);
        assert_int_equal(rows[r].seal(ctx, nonce, key, 13, NULL, 0, NULL, want), 0);
        assert_int_equal(rows[r].rekey(ctx, other), 0);
        assert_int_equal(rows[r].seal(ctx, nonce, key, 13, NULL, 0, NULL, tag), 0);
        assert_memory_not_equal(tag, want, 16);
        assert_int_equal(rows[r].rekey(ctx, key), 0);
        assert_int_equal(rows[r].seal(ctx, nonce, key, 13, NULL, 0, NULL, tag), 0);
        assert_memory_equal(tag, want, 16);
        ctx_free(&rows[r], ctx);
    }
}

static void test_fini_of_zero(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    for (unsigned r = 0; r < n; r++) {
        void *ctx = aligned_alloc(64, (rows[r].ctx_len + 63) & ~(size_t)63);
        memset(ctx, 0, rows[r].ctx_len);
        rows[r].fini(ctx);
        rows[r].fini(ctx);
        free(ctx);
    }
}

/* Counts OpenSSL's allocations: the table may take memory in init only. */
static atomic_ulong n_allocations;

static void *counting_malloc(size_t len, const char *file, int line)
{
    n_allocations++;
    return malloc(len);
}

static void *counting_realloc(void *p, size_t len, const char *file, int line)
{
    n_allocations++;
    return realloc(p, len);
}

static void counting_free(void *p, const char *file, int line)
{
    free(p);
}

static void test_no_allocation_per_record(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    static uint8_t key[32], nonce[12], plain[2048], cipher[2048], tag[16];
    assert_true(n_allocations > 0 || EVP_MD_fetch(NULL, "SHA256", NULL) != NULL);
    for (unsigned r = 0; r < n; r++) {
        n_allocations = 0;
        void *ctx = ctx_new(&rows[r], key);
        if (strcmp(rows[r].impl, "openssl") == 0)
            assert_true(n_allocations > 0); /* the counter works */
        n_allocations = 0;
        for (unsigned i = 0; i < 1000; i++) {
            nonce[0] = (uint8_t)i;
            struct smt_aead_in in[] = {{plain, 16}, {plain + 16, i}};
            struct smt_aead_out out[] = {{plain, 16}, {plain + 16, i}};
            assert_int_equal(rows[r].seal(ctx, nonce, key, 13, in, 2, cipher, tag), 0);
            assert_int_equal(rows[r].open(ctx, nonce, key, 13, cipher, 16 + i, out, 2, tag), 0);
            tag[0] ^= 1;
            assert_int_equal(rows[r].open(ctx, nonce, key, 13, cipher, 16 + i, out, 2, tag),
                             SMT_EAUTH);
            struct smt_aead_out cuts[] = {{cipher, i}, {cipher + i, 16}};
            struct smt_aead_in sealed[] = {{cipher, i}, {cipher + i, 16}};
            assert_int_equal(rows[r].seal_to(ctx, nonce, key, 13, in, 2, cuts, 2, tag), 0);
            assert_int_equal(rows[r].open_from(ctx, nonce, key, 13, sealed, 2, out, 2, tag), 0);
        }
        assert_int_equal(rows[r].rekey(ctx, key), 0);
        assert_int_equal(n_allocations, 0);
        ctx_free(&rows[r], ctx);
    }
}

/* A page with no access on either side of one page of room. */
static uint8_t *guarded_page(void)
{
    uint8_t *p = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(mprotect(p + 4096, 4096, PROT_READ | PROT_WRITE), 0);
    return p + 4096;
}

/* Pieces that end or begin at the edge of mapped memory: vector code must not reach beyond. */
static void test_no_access_beyond_pieces(void **state)
{
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    uint8_t *plain = guarded_page(), *cipher = guarded_page(), *aad = guarded_page();
    uint8_t *small = guarded_page();
    uint8_t key[32] = {9}, nonce[12] = {9};
    memcpy(small + 4096 - 12, nonce, 12);
    for (unsigned r = 0; r < n; r++) {
        void *ctx = ctx_new(&rows[r], key);
        for (size_t len = 0; len <= 600; len += len < 300 ? 1 : 13) {
            size_t end = len % 2 == 0 ? 4096 - len : 0; /* at the end, or at the beginning */
            uint8_t *p = plain + end, *c = cipher + end, *a = aad + 4096 - len % 70;
            size_t head = len < 16 ? len : 16;
            struct smt_aead_in in[] = {{p, head}, {p + head, len - head}};
            struct smt_aead_in whole = {p, len};
            struct smt_aead_out out[] = {{p, head}, {p + head, len - head}};
            uint8_t tag[16];
            memset(p, 0x33, len);
            assert_int_equal(rows[r].seal(ctx, small + 4096 - 12, a, len % 70, in, 2, c, tag), 0);
            assert_int_equal(rows[r].open(ctx, nonce, a, len % 70, c, len, out, 2, tag), 0);
            assert_int_equal(rows[r].seal(ctx, nonce, a, len % 70, &whole, 1, c, tag), 0);
            assert_int_equal(rows[r].open(ctx, nonce, a, len % 70, c, len, out, 2, tag), 0);
            size_t part = len / 3;
            struct smt_aead_out cuts[] = {{c, part}, {c + part, len - part}};
            struct smt_aead_in sealed[] = {{c, part}, {c + part, len - part}};
            assert_int_equal(rows[r].seal_to(ctx, nonce, a, len % 70, in, 2, cuts, 2, tag), 0);
            assert_int_equal(rows[r].open_from(ctx, nonce, a, len % 70, sealed, 2, out, 2, tag), 0);
            for (size_t i = 0; i < len; i++)
                assert_int_equal(p[i], 0x33);
        }
        ctx_free(&rows[r], ctx);
    }
    munmap(plain - 4096, 3 * 4096);
    munmap(cipher - 4096, 3 * 4096);
    munmap(aad - 4096, 3 * 4096);
    munmap(small - 4096, 3 * 4096);
}

/* Threads with contexts of their own share the rows. Returns how many records went wrong. */
static void *seal_and_open(void *arg)
{
    static const uint8_t key[32] = {4}, nonce[12] = {5}, plain[200] = {6};
    uint8_t cipher[200], back[200], tag[16];
    uintptr_t wrong = 0;
    unsigned n;
    const struct smt_aead *rows = smt_aead_list(&n);
    for (unsigned i = 0; i < 200; i++) {
        const struct smt_aead *row = &rows[i % n];
        void *ctx = aligned_alloc(64, (row->ctx_len + 63) & ~(size_t)63);
        struct smt_aead_in in = {plain, sizeof(plain)};
        struct smt_aead_out out = {back, sizeof(back)};
        if (row->init(ctx, key) != 0 || row->seal(ctx, nonce, key, 13, &in, 1, cipher, tag) != 0 ||
            row->open(ctx, nonce, key, 13, cipher, sizeof(cipher), &out, 1, tag) != 0 ||
            memcmp(back, plain, sizeof(plain)) != 0)
            wrong++;
        row->fini(ctx);
        free(ctx);
    }
    return (void *)wrong;
}

static void test_threads(void **state)
{
    pthread_t threads[4];
    for (unsigned i = 0; i < SMT_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, seal_and_open, NULL), 0);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(threads); i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
}

int main(void)
{
    /* Only possible before OpenSSL's first allocation. */
    if (CRYPTO_set_mem_functions(counting_malloc, counting_realloc, counting_free) != 1)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads), /* first: it also races the set-up of the back ends */
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_find_fips),
        cmocka_unit_test(test_none_is_never_picked),
        cmocka_unit_test(test_none_copies),
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_rows_agree),
        cmocka_unit_test(test_every_small_cut),
        cmocka_unit_test(test_small_pieces_on_both_sides),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_every_tag_bit),
        cmocka_unit_test(test_rekey),
        cmocka_unit_test(test_fini_of_zero),
        cmocka_unit_test(test_no_allocation_per_record),
        cmocka_unit_test(test_no_access_beyond_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
