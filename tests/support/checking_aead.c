/* The watching ciphers of checking_aead.h.
 *
 * A context begins with a struct checking_ctx, the inner row's context follows. The book is an open
 * hash table from a fingerprint of (key, nonce) to the first half of the tag: for a fixed key and
 * nonce the tag is a function of AAD and plaintext that two different inputs share with probability
 * 2^-64, so it stands for both and nothing has to be hashed a second time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checking_aead.h"
#include "fast_hash.h"

struct checking_ctx {
    const struct smt_aead *inner;
    uint64_t key_print;
    uint64_t pad[6];
};

static_assert(sizeof(struct checking_ctx) == 64, "the inner context stays aligned to 64");

struct entry {
    uint64_t print; /* 0: free */
    uint64_t tag;
};

static struct {
    struct entry *slots;
    uint64_t mask;
    struct checking_aead_stats stats;
    bool tolerate;
    long fail_after; /* seals; -1: never */
} book = {.fail_after = -1};

static void book_grow(void)
{
    uint64_t n = book.slots != NULL ? (book.mask + 1) * 2 : 1 << 16;
    struct entry *slots = calloc(n, sizeof(*slots));
    assert_non_null(slots);
    for (uint64_t i = 0; book.slots != NULL && i <= book.mask; i++) {
        if (book.slots[i].print == 0)
            continue;
        uint64_t at = book.slots[i].print & (n - 1);
        while (slots[at].print != 0)
            at = (at + 1) & (n - 1);
        slots[at] = book.slots[i];
    }
    free(book.slots);
    book.slots = slots;
    book.mask = n - 1;
}

static void book_enter(uint64_t key_print, const uint8_t *nonce, const uint8_t *tag)
{
    if (book.slots == NULL || book.stats.nonces * 4 > book.mask * 3)
        book_grow();
    uint64_t print = fast_hash(key_print, nonce, SMT_AEAD_NONCE_LEN) | 1;
    uint64_t first = fast_word(tag);
    uint64_t at = print & book.mask;
    while (book.slots[at].print != 0 && book.slots[at].print != print)
        at = (at + 1) & book.mask;
    if (book.slots[at].print == 0) {
        book.slots[at] = (struct entry){.print = print, .tag = first};
        book.stats.nonces++;
        return;
    }
    if (book.slots[at].tag == first) {
        book.stats.repeats++;
        return;
    }
    book.stats.violations++;
    if (book.tolerate)
        return;
    char hex[2 * SMT_AEAD_NONCE_LEN + 1];
    for (int i = 0; i < SMT_AEAD_NONCE_LEN; i++)
        snprintf(hex + 2 * i, 3, "%02x", nonce[i]);
    fail_msg("NONCE REUSE: key %016llx nonce %s sealed two different byte strings",
             (unsigned long long)key_print, hex);
}

struct checking_aead_stats checking_aead_stats(void)
{
    return book.stats;
}

void checking_aead_reset(void)
{
    free(book.slots);
    uint64_t live = book.stats.live_ctxs;
    book.slots = NULL;
    book.mask = 0;
    book.stats = (struct checking_aead_stats){.live_ctxs = live};
}

void checking_aead_tolerate(bool tolerate)
{
    book.tolerate = tolerate;
}

/* ---- the stand-in cipher ---- */

struct fast_ctx {
    uint64_t k0, k1;
    uint64_t pad[6];
};

enum { PATTERN = 64 };

static bool fast_usable(void)
{
    return true;
}

static int fast_init(void *ctx, const uint8_t *key)
{
    struct fast_ctx *c = ctx;
    *c = (struct fast_ctx){.k0 = fast_word(key), .k1 = fast_word(key + 8) | 1};
    return 0;
}

static void fast_fini(void *ctx)
{
    memset(ctx, 0, sizeof(struct fast_ctx));
}

/* One period of the key stream, twice and a bit, so that it can be read at any phase. */
static void fast_pattern(const struct fast_ctx *c, const uint8_t *nonce, uint8_t out[2 * PATTERN])
{
    uint64_t h = fast_hash(c->k0, nonce, SMT_AEAD_NONCE_LEN);
    for (unsigned i = 0; i < PATTERN; i += 8) {
        h = fast_mix(h, c->k1 + i);
        memcpy(out + i, &h, 8);
    }
    memcpy(out + PATTERN, out, PATTERN);
}

static void fast_xor(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *pattern,
                     size_t pos)
{
    const uint8_t *k = pattern + pos % PATTERN;
    for (; len >= PATTERN; len -= PATTERN, dst += PATTERN, src += PATTERN) {
        uint64_t w[8], x[8];
        memcpy(w, src, PATTERN);
        memcpy(x, k, PATTERN);
        for (int i = 0; i < 8; i++)
            w[i] ^= x[i];
        memcpy(dst, w, PATTERN);
    }
    for (size_t i = 0; i < len; i++)
        dst[i] = src[i] ^ k[i];
}

static void fast_tag(const struct fast_ctx *c, const uint8_t *nonce, const uint8_t *aad,
                     size_t aad_len, const uint8_t *text, size_t len, uint8_t out[16])
{
    struct fast_hash h = fast_hash2(c->k1, text, len);
    uint64_t n = fast_hash(c->k0, nonce, SMT_AEAD_NONCE_LEN);
    uint64_t a = fast_hash(n, aad, aad_len);
    h.a = fast_mix(h.a ^ n, a);
    h.b = fast_mix(h.b ^ a, n);
    memcpy(out, &h, 16);
}

static int fast_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                     size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                     uint8_t *tag)
{
    uint8_t pattern[2 * PATTERN];
    fast_pattern(ctx, nonce, pattern);
    size_t pos = 0;
    for (unsigned i = 0; i < n_in; i++) {
        if (in[i].len > 0)
            fast_xor(out + pos, in[i].p, in[i].len, pattern, pos);
        pos += in[i].len;
    }
    uint8_t made[16];
    fast_tag(ctx, nonce, aad, aad_len, out, pos, made);
    memcpy(tag, made, sizeof(made));
    return 0;
}

/* Writes the pieces also when the tag is wrong, as GCM does: who uses them then is found out. */
static int fast_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                     size_t aad_len, const uint8_t *in, size_t in_len,
                     const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    uint8_t pattern[2 * PATTERN], want[16], got[16];
    memcpy(got, tag, sizeof(got));
    fast_pattern(ctx, nonce, pattern);
    fast_tag(ctx, nonce, aad, aad_len, in, in_len, want);
    size_t pos = 0;
    for (unsigned i = 0; i < n_out; i++) {
        if (out[i].len > 0)
            fast_xor(out[i].p, in + pos, out[i].len, pattern, pos);
        pos += out[i].len;
    }
    assert_int_equal(pos, in_len);
    return memcmp(want, got, sizeof(want)) == 0 ? 0 : SMT_EAUTH;
}

/* Where records in pieces are put together, for fast_seal and fast_open alone. */
static uint8_t gathered[1 << 16];

static size_t gather(const struct smt_aead_in *in, unsigned n_in)
{
    size_t len = 0;
    for (unsigned i = 0; i < n_in; i++) {
        assert_true(len + in[i].len <= sizeof(gathered));
        if (in[i].len > 0)
            memcpy(gathered + len, in[i].p, in[i].len);
        len += in[i].len;
    }
    return len;
}

static int fast_seal_to(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                        size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                        const struct smt_aead_out *out, unsigned n_out, uint8_t *tag)
{
    struct smt_aead_in all = {gathered, gather(in, n_in)};
    int err = fast_seal(ctx, nonce, aad, aad_len, &all, 1, gathered, tag);
    size_t at = 0;
    for (unsigned i = 0; i < n_out; i++) {
        if (out[i].len > 0)
            memcpy(out[i].p, gathered + at, out[i].len);
        at += out[i].len;
    }
    assert_int_equal(at, all.len);
    return err;
}

static int fast_open_from(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                          size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                          const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    size_t len = gather(in, n_in);
    return fast_open(ctx, nonce, aad, aad_len, gathered, len, out, n_out, tag);
}

static const struct smt_aead fast_row = {
    .name = "aes-128-gcm",
    .impl = "stand-in",
    .alg = SMT_AEAD_AES128_GCM,
    .key_len = 16,
    .ctx_len = sizeof(struct fast_ctx),
    .usable = fast_usable,
    .init = fast_init,
    .rekey = fast_init,
    .fini = fast_fini,
    .seal = fast_seal,
    .open = fast_open,
    .seal_to = fast_seal_to,
    .open_from = fast_open_from,
};

const struct smt_aead *fast_aead(void)
{
    return &fast_row;
}

/* ---- the watching rows ---- */

static int checking_init(void *ctx, const struct smt_aead *inner, const uint8_t *key)
{
    struct checking_ctx *c = ctx;
    *c = (struct checking_ctx){.inner = inner, .key_print = fast_hash(1, key, inner->key_len)};
    int err = inner->init(c + 1, key);
    if (err < 0)
        memset(ctx, 0, sizeof(*c) + inner->ctx_len);
    else
        book.stats.live_ctxs++;
    return err;
}

static int init_fast(void *ctx, const uint8_t *key)
{
    return checking_init(ctx, &fast_row, key);
}

static int init_aes128(void *ctx, const uint8_t *key)
{
    return checking_init(ctx, smt_aead_find(SMT_AEAD_AES128_GCM, NULL), key);
}

static int init_aes256(void *ctx, const uint8_t *key)
{
    return checking_init(ctx, smt_aead_find(SMT_AEAD_AES256_GCM, NULL), key);
}

static int checking_rekey(void *ctx, const uint8_t *key)
{
    struct checking_ctx *c = ctx;
    assert_non_null(c->inner);
    c->key_print = fast_hash(1, key, c->inner->key_len);
    return c->inner->rekey(c + 1, key);
}

static void checking_fini(void *ctx)
{
    struct checking_ctx *c = ctx;
    if (c->inner == NULL)
        return;
    c->inner->fini(c + 1);
    memset(c, 0, sizeof(*c));
    book.stats.live_ctxs--;
}

long checking_aead_fail_after(long n)
{
    long left = book.fail_after;
    book.fail_after = n;
    return left;
}

static int checking_seal(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                         size_t aad_len, const struct smt_aead_in *in, unsigned n_in, uint8_t *out,
                         uint8_t *tag)
{
    struct checking_ctx *c = ctx;
    if (book.fail_after >= 0 && book.fail_after-- == 0)
        return SMT_ECRYPTO;
    int err = c->inner->seal(c + 1, nonce, aad, aad_len, in, n_in, out, tag);
    if (err < 0)
        return err;
    book.stats.seals++;
    book_enter(c->key_print, nonce, tag);
    return 0;
}

static int checking_open(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                         size_t aad_len, const uint8_t *in, size_t in_len,
                         const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag)
{
    struct checking_ctx *c = ctx;
    int err = c->inner->open(c + 1, nonce, aad, aad_len, in, in_len, out, n_out, tag);
    book.stats.opens++;
    if (err < 0)
        book.stats.open_failures++;
    return err;
}

static int checking_seal_to(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN], const uint8_t *aad,
                            size_t aad_len, const struct smt_aead_in *in, unsigned n_in,
                            const struct smt_aead_out *out, unsigned n_out, uint8_t *tag)
{
    struct checking_ctx *c = ctx;
    if (book.fail_after >= 0 && book.fail_after-- == 0)
        return SMT_ECRYPTO;
    int err = c->inner->seal_to(c + 1, nonce, aad, aad_len, in, n_in, out, n_out, tag);
    if (err < 0)
        return err;
    book.stats.seals++;
    book_enter(c->key_print, nonce, tag);
    return 0;
}

static int checking_open_from(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN],
                              const uint8_t *aad, size_t aad_len, const struct smt_aead_in *in,
                              unsigned n_in, const struct smt_aead_out *out, unsigned n_out,
                              const uint8_t *tag)
{
    struct checking_ctx *c = ctx;
    int err = c->inner->open_from(c + 1, nonce, aad, aad_len, in, n_in, out, n_out, tag);
    book.stats.opens++;
    if (err < 0)
        book.stats.open_failures++;
    return err;
}

static struct smt_aead rows[] = {
    [CHECKING_FAST] = {.init = init_fast},
    [CHECKING_AES128_GCM] = {.init = init_aes128},
    [CHECKING_AES256_GCM] = {.init = init_aes256},
};

const struct smt_aead *checking_aead(enum checking_cipher cipher)
{
    const struct smt_aead *inner = cipher == CHECKING_FAST ? &fast_row
                                   : cipher == CHECKING_AES128_GCM
                                       ? smt_aead_find(SMT_AEAD_AES128_GCM, NULL)
                                       : smt_aead_find(SMT_AEAD_AES256_GCM, NULL);
    assert_non_null(inner);
    struct smt_aead *row = &rows[cipher];
    if (row->name == NULL) {
        int (*init)(void *, const uint8_t *) = row->init;
        *row = *inner;
        row->impl = "checking";
        row->ctx_len = sizeof(struct checking_ctx) + inner->ctx_len;
        row->init = init;
        row->rekey = checking_rekey;
        row->fini = checking_fini;
        row->seal = checking_seal;
        row->open = checking_open;
        row->seal_to = checking_seal_to;
        row->open_from = checking_open_from;
    }
    return row;
}
