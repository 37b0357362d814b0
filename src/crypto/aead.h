/* The table of ciphers: AES-GCM seal and open over gather lists, context in the caller's memory.
 *
 * A cipher row names one algorithm in one back end (OpenSSL EVP, intel-ipsec-mb). Rows of one
 * algorithm give identical bytes. Core sees nothing else of cryptography. After seal returns the
 * caller leaves the sealed bytes alone, so a NIC may take the place of a back end.
 *
 * Threading: a context is used by one thread at a time; rows are const and shared.
 * Source: NIST SP 800-38D; record form RFC 5288 (TLS 1.2 AES-GCM). */
#ifndef SMT_CRYPTO_AEAD_H
#define SMT_CRYPTO_AEAD_H

#include <string.h>

#include "base/defs.h"

enum smt_aead_alg {
    SMT_AEAD_NONE = 0, /* plaintext endpoints only, asked for by name */
    SMT_AEAD_AES128_GCM = 1,
    SMT_AEAD_AES256_GCM = 2,
};

enum {
    SMT_AEAD_TAG_LEN = 16,
    SMT_AEAD_NONCE_LEN = 12,
    SMT_AEAD_MAX_KEY_LEN = 32,
};

struct smt_aead_in {
    const uint8_t *p;
    size_t len;
};

struct smt_aead_out {
    uint8_t *p;
    size_t len;
};

struct smt_aead {
    const char *name; /* "aes-128-gcm" */
    const char *impl; /* "openssl", "ipsec-mb" */
    enum smt_aead_alg alg;
    uint32_t key_len;
    size_t ctx_len; /* bytes of caller memory, aligned to 64, that init fills */
    bool fips;      /* may run while a FIPS provider is active */

    /* Whether this CPU can run the row. Always true of what smt_aead_list and _find give. */
    bool (*usable)(void);

    /* Expands `key` (borrowed, key_len bytes) into `ctx`, whatever lay there before: memory that
     * holds an inited context goes through fini first, or its key is replaced by rekey. On
     * failure `ctx` is all zero. Room a back end cannot keep in `ctx` is taken here and only here:
     * nothing below allocates. */
    SMT_MUST_CHECK int (*init)(void *ctx, const uint8_t *key);

    /* Replaces the key of an inited context. On failure it holds no key and takes fini only. */
    SMT_MUST_CHECK int (*rekey)(void *ctx, const uint8_t *key);

    /* Releases what init took and wipes `ctx`. Harmless on an all-zero context. */
    void (*fini)(void *ctx);

    /* Encrypts the n_in pieces one after the other into `out` (one run of their total length) and
     * writes the 16-byte tag to `tag`. A piece may lie exactly where its output goes (in place);
     * any other overlap is not allowed. `tag` may follow the output directly. Pieces of no length
     * may stand anywhere, their pointer is not looked at; a piece is shorter than 2^31. A
     * second piece costs 10 to 30 ns: up to about 512 B it is cheaper to copy the data behind its
     * head and seal that in place, above it is not (tests/bench/bench_aead.c). All borrowed. */
    SMT_MUST_CHECK int (*seal)(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN],
                               const uint8_t *aad, size_t aad_len, const struct smt_aead_in *in,
                               unsigned n_in, uint8_t *out, uint8_t *tag);

    /* Decrypts `in` (one run) into the n_out pieces (their total length is in_len) and checks
     * `tag` in constant time. 0, or SMT_EAUTH when the tag is wrong: then the pieces hold bytes
     * that must not be used. In place and empty pieces as for seal. All borrowed. */
    SMT_MUST_CHECK int (*open)(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN],
                               const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t in_len,
                               const struct smt_aead_out *out, unsigned n_out, const uint8_t *tag);

    /* seal and open between pieces on both sides, for one record in several packets. The pieces of
     * `in` and of `out` are cut anywhere, each side by itself, and have one total length. A byte
     * may lie exactly where its output goes; any other overlap is not allowed. All else is as
     * above, and the bytes are those of seal. Each cut costs some 15 ns, 20 where what was done so
     * far is no multiple of 16 (tests/bench/bench_aead.c). */
    SMT_MUST_CHECK int (*seal_to)(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN],
                                  const uint8_t *aad, size_t aad_len, const struct smt_aead_in *in,
                                  unsigned n_in, const struct smt_aead_out *out, unsigned n_out,
                                  uint8_t *tag);
    SMT_MUST_CHECK int (*open_from)(void *ctx, const uint8_t nonce[SMT_AEAD_NONCE_LEN],
                                    const uint8_t *aad, size_t aad_len,
                                    const struct smt_aead_in *in, unsigned n_in,
                                    const struct smt_aead_out *out, unsigned n_out,
                                    const uint8_t *tag);
};

/* The tag of SMT_AEAD_NONE, whose row copies the bytes and writes zeros behind them: for who knows
 * that he has that row, and has copied already. */
static inline void smt_aead_none_tag(uint8_t tag[SMT_AEAD_TAG_LEN])
{
    memset(tag, 0, SMT_AEAD_TAG_LEN);
}

static inline bool smt_aead_none_is_tag(const uint8_t tag[SMT_AEAD_TAG_LEN])
{
    uint64_t words[2];
    static_assert(sizeof(words) == SMT_AEAD_TAG_LEN, "the tag is two words");
    memcpy(words, tag, sizeof(words));
    return (words[0] | words[1]) == 0;
}

/* Is a FIPS provider what this process gets from OpenSSL unless it asks for another? Then rows
 * without `fips` are not found, by whatever name, and records are not for NICs to seal. */
bool smt_aead_is_fips(void);

/* All rows this build and this CPU can run, fastest first; *n rows. Static, the same for the life
 * of the process. Any thread. */
const struct smt_aead *smt_aead_list(unsigned *n);

/* The row for `alg`; impl NULL or "auto" picks the fastest that may be used (only OpenSSL when a
 * FIPS provider is active). An impl asked for by name is given, FIPS or not. SMT_AEAD_NONE has one
 * row whatever `impl` says; nothing else ever gives it. NULL when there is none. The environment is
 * not read here: api does. */
const struct smt_aead *smt_aead_find(enum smt_aead_alg alg, const char *impl);

/* The row by the algorithm's name ("aes-128-gcm", "aes-256-gcm"). NULL when unknown. */
const struct smt_aead *smt_aead_by_name(const char *name, const char *impl);

#endif
