/* Cookies and tokens. All that is hashed of either has a fixed length, and the two lengths differ,
 * so two inputs never read as one. The scope of a link-local address is left out: it is ours, not
 * the peer's. Old ones are cheap to refuse: their time is looked at before the HMAC, but only a
 * right HMAC makes the time worth anything.
 *
 * A token names the host only: its next hello has another id and mostly another port. */
#include "hs/cookie.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "crypto/schedule.h"

enum { TIME_LEN = 8, MAC_LEN = SMT_COOKIE_LEN - TIME_LEN, HOST_LEN = TIME_LEN + 16 };

static const uint64_t token_flag = 1ull << 63; /* a time that no cookie has */

/* The text's first bytes, its time, and what proves them. */
static int seal(const struct smt_cookie_key *key, const uint8_t *text, size_t len,
                uint8_t out[SMT_COOKIE_LEN])
{
    uint8_t mac[32];
    const struct smt_aead_in in = {.p = text, .len = len};
    int rc = smt_hmac_sha256(key->secret, sizeof(key->secret), &in, 1, mac);
    if (rc < 0)
        return rc;
    memcpy(out, text, TIME_LEN);
    memcpy(out + TIME_LEN, mac, MAC_LEN);
    return 0;
}

/* The right one of somebody else's address does not stay on the stack. */
static int compare(uint8_t want[SMT_COOKIE_LEN], const uint8_t is[SMT_COOKIE_LEN])
{
    int rc = smt_ct_equal(want, is, SMT_COOKIE_LEN) ? 0 : SMT_EAUTH;
    smt_wipe(want, SMT_COOKIE_LEN);
    return rc;
}

int smt_cookie_make(const struct smt_cookie_key *key, uint64_t now_s, const struct smt_addr *addr,
                    uint64_t session_id, uint8_t out[SMT_COOKIE_LEN])
{
    uint8_t text[HOST_LEN + 2 + 8];
    smt_put_be64(text, now_s);
    memcpy(text + TIME_LEN, addr->ip, 16);
    smt_put_be16(text + HOST_LEN, addr->port);
    smt_put_be64(text + HOST_LEN + 2, session_id);
    return seal(key, text, sizeof(text), out);
}

int smt_cookie_check(const struct smt_cookie_key *key, uint64_t now_s, const struct smt_addr *addr,
                     uint64_t session_id, const uint8_t cookie[SMT_COOKIE_LEN])
{
    uint64_t made = smt_get_be64(cookie);
    if (made > now_s || now_s - made > SMT_COOKIE_LIFETIME_S)
        return SMT_EAUTH;
    uint8_t want[SMT_COOKIE_LEN];
    int rc = smt_cookie_make(key, made, addr, session_id, want);
    return rc < 0 ? rc : compare(want, cookie);
}

static int token_seal(const struct smt_cookie_key *key, uint64_t made, const struct smt_addr *addr,
                      uint8_t out[SMT_COOKIE_LEN])
{
    uint8_t text[HOST_LEN];
    smt_put_be64(text, made);
    memcpy(text + TIME_LEN, addr->ip, 16);
    return seal(key, text, sizeof(text), out);
}

int smt_token_make(const struct smt_cookie_key *key, uint64_t now_s, const struct smt_addr *addr,
                   uint8_t out[SMT_COOKIE_LEN])
{
    return token_seal(key, token_flag | now_s, addr, out);
}

int smt_token_check(const struct smt_cookie_key *key, uint64_t now_s, const struct smt_addr *addr,
                    const uint8_t token[SMT_COOKIE_LEN])
{
    uint64_t made = smt_get_be64(token), made_s = made & ~token_flag;
    if (made == made_s || made_s > now_s || now_s - made_s > SMT_TOKEN_LIFETIME_S)
        return SMT_EAUTH;
    uint8_t want[SMT_COOKIE_LEN];
    int rc = token_seal(key, made, addr, want);
    return rc < 0 ? rc : compare(want, token);
}
