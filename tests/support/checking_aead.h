/* Ciphers that watch their user: rows of the smt_aead table which remember every (key, nonce) ever
 * sealed and fail the running test when one of them seals a second, different byte string.
 *
 * Behind them stands either a stand-in cipher, quick and not secret but with a keyed 16-byte tag,
 * so that corruption is found, or a real row. One book for the process, one thread. */
#ifndef SMT_TESTS_CHECKING_AEAD_H
#define SMT_TESTS_CHECKING_AEAD_H

#include "crypto/aead.h"

enum checking_cipher {
    CHECKING_FAST,       /* stand-in, says that it is AES-128-GCM */
    CHECKING_AES128_GCM, /* the fastest real row of this machine */
    CHECKING_AES256_GCM,
};

/* The row; static. Fails the test when the machine has no such cipher. */
const struct smt_aead *checking_aead(enum checking_cipher cipher);

/* The stand-in without the book, for speed comparisons. */
const struct smt_aead *fast_aead(void);

struct checking_aead_stats {
    uint64_t seals, opens, open_failures;
    uint64_t repeats;    /* the same bytes sealed again under the same (key, nonce) */
    uint64_t violations; /* other bytes: each one is a failed test unless tolerated */
    uint64_t live_ctxs;  /* contexts between init and fini */
    uint64_t nonces;     /* entries in the book */
};
struct checking_aead_stats checking_aead_stats(void);

/* Empties the book and the counters (live contexts stay counted). */
void checking_aead_reset(void);

/* n more seals work, the next one fails with SMT_ECRYPTO, all later ones work; -1 turns this off.
 * What was left of the former setting, -1 when it has struck or was off. */
long checking_aead_fail_after(long n);

/* With `tolerate` violations are counted only: for the test of the checker itself. */
void checking_aead_tolerate(bool tolerate);

#endif
