/* The stateless cookie of RETRY (docs/wire.md 6.1): proof that a stranger receives at its address.
 * And the token that a host gets with a session ticket and shows in a cookie's place: proof that
 * it did, some time ago. */
#ifndef SMT_HS_COOKIE_H
#define SMT_HS_COOKIE_H

#include "base/addr.h"
#include "wire/wire.h"

enum { SMT_COOKIE_LIFETIME_S = 10, SMT_TOKEN_LIFETIME_S = 3600 };

/* The responder's own secret, 32 random bytes. The caller makes and wipes it. */
struct smt_cookie_key {
    uint8_t secret[32];
};

/* time u64 || first 24 bytes of HMAC-SHA-256(secret, time || ip || port || session id). now_s
 * counts seconds on any clock that never goes back. */
SMT_MUST_CHECK int smt_cookie_make(const struct smt_cookie_key *key, uint64_t now_s,
                                   const struct smt_addr *addr, uint64_t session_id,
                                   uint8_t out[SMT_COOKIE_LEN]);

/* 0 when this key made it for this address and id at most SMT_COOKIE_LIFETIME_S ago; SMT_EAUTH
 * when not. The comparison takes the same time whatever differs. */
SMT_MUST_CHECK int smt_cookie_check(const struct smt_cookie_key *key, uint64_t now_s,
                                    const struct smt_addr *addr, uint64_t session_id,
                                    const uint8_t cookie[SMT_COOKIE_LEN]);

/* The same for a token: flag (bit 63) and time u64 || first 24 bytes of HMAC-SHA-256(secret,
 * flag, time || ip). One is never taken for the other. */
SMT_MUST_CHECK int smt_token_make(const struct smt_cookie_key *key, uint64_t now_s,
                                  const struct smt_addr *addr, uint8_t out[SMT_COOKIE_LEN]);
SMT_MUST_CHECK int smt_token_check(const struct smt_cookie_key *key, uint64_t now_s,
                                   const struct smt_addr *addr,
                                   const uint8_t token[SMT_COOKIE_LEN]);

#endif
