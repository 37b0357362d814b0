/* Cookies. All that is hashed has a fixed length, so two inputs never read as one. The scope of a
 * link-local address is left out: it is ours, not the peer's. Old cookies are cheap to refuse:
 * their time is looked at before the HMAC, but only a right HMAC makes the time worth anything. */
#include "hs/cookie.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "crypto/schedule.h"

enum { TIME_LEN = 8, MAC_LEN = SMT_COOKIE_LEN - TIME_LEN };

int smt_cookie_make(const struct smt_cookie_key *key, uint64_t now_s, const struct smt_addr *addr,
                    uint64_t session_id, uint8_t out[SMT_COOKIE_LEN])
{
    uint8_t text[TIME_LEN + 16 + 2 + 8];
    smt_put_be64(text, now_s);
    memcpy(text + TIME_LEN, addr->ip, 16);
    smt_put_be16(text + TIME_LEN + 16, addr->port);
    smt_put_be64(text + TIME_LEN + 18, session_id);

    uint8_t mac[32];
    const struct smt_aead_in in = {.p = text, .len = sizeof(text)};
    int rc = smt_hmac_sha256(key->secret, sizeof(key->secret), &in, 1, mac);
    if (rc < 0)
        return rc;
    memcpy(out, text, TIME_LEN);
    memcpy(out + TIME_LEN, mac, MAC_LEN);
    return 0;
}

int smt_cookie_check(const struct smt_cookie_key *key, uint64_t now_s, const struct smt_addr *addr,
                     uint64_t session_id, const uint8_t cookie[SMT_COOKIE_LEN])
{
    uint64_t made = smt_get_be64(cookie);
    if (made > now_s || now_s - made > SMT_COOKIE_LIFETIME_S)
        return SMT_EAUTH;
    uint8_t want[SMT_COOKIE_LEN];
    int rc = smt_cookie_make(key, made, addr, session_id, want);
    if (rc == 0 && !smt_ct_equal(want, cookie, sizeof(want)))
        rc = SMT_EAUTH;
    /* The right cookie of somebody else's address does not stay on the stack. */
    smt_wipe(want, sizeof(want));
    return rc;
}
