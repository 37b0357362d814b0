/* Resumption of TLS 1.3 sessions, always with a fresh (EC)DHE: what a ticket saves is certificates
 * and signatures, not the key exchange, so a ticket or its key taken later opens no session.
 *
 * Keys and tickets hang on the credentials, and live and die with them: credentials that are read
 * again begin without any, so nobody whose certificate a new list revokes comes back by a ticket,
 * and no ticket outlives the settings under which its holder was judged. What changes with time
 * alone is judged when the ticket is made: it is good no longer than the shortest-lived certificate
 * of the peer's chain and revocation list, and a day after a full handshake the next is full again,
 * however many tickets followed each other. A responder writes that moment into the ticket, an
 * initiator keeps it beside.
 *
 * A responder keeps nothing of a ticket and cannot tell its second use from its first: a copied
 * ClientHello gets an answer that only the ticket's holder can read, as any ClientHello does.
 * Initiators use each ticket once, so that nobody can tell by it that two sessions are of one
 * client.
 *
 * Early data, where they are wanted: TLS derives their keys and judges the age of the ticket, the
 * rest is here and in early_seen.c. No byte of them goes through TLS.
 *
 * Left out: an application's own SSL_CTX, whose tickets and callbacks are its business, and
 * pre-shared keys, whose handshake is what a resumed one would be. */
#include "hs/resume.h"

#include <string.h>

#include "base/bytes.h"
#include "hs/tls_ctx.h"
#include "hs/verify.h"
#include "hs/wall_clock.h"

enum { USUAL_LIFETIME_S = 3600, FULL_AGAIN_S = 24 * 3600, UNTIL_LEN = 8 };

bool smt_resume_is(const struct smt_hs *hs)
{
    return hs->creds->ticket_keys != NULL && SSL_session_reused(hs->ssl);
}

/* Until when this peer need not prove itself again, as a full handshake found. */
static int64_t good_until_of_full(const struct smt_hs *hs)
{
    int64_t until = smt_verify_good_until(hs);
    int64_t again = smt_wall_clock() + FULL_AGAIN_S;
    return until < again ? until : again;
}

static int64_t good_until_of_ticket(SSL_SESSION *session)
{
    void *data;
    size_t len;
    if (SSL_SESSION_get0_ticket_appdata(session, &data, &len) != 1 || len != UNTIL_LEN)
        return 0;
    return (int64_t)smt_get_be64(data);
}

/* A responder is about to seal the session into a ticket. */
static int ticket_making(SSL *ssl, void *arg)
{
    const struct smt_hs *hs = smt_tls_hs(ssl);
    SSL_SESSION *session = SSL_get_session(ssl);
    int64_t until = smt_resume_is(hs) ? good_until_of_ticket(session) : good_until_of_full(hs);
    int64_t left = until - smt_wall_clock();
    int64_t life = (int64_t)smt_ticket_keys_lifetime(hs->creds->ticket_keys);
    if (left < life)
        life = left > 0 ? left : 0;
    uint8_t bytes[UNTIL_LEN];
    smt_put_be64(bytes, (uint64_t)until);
    return SSL_SESSION_set1_ticket_appdata(session, bytes, sizeof(bytes)) == 1 &&
           SSL_SESSION_set_timeout(session, (long)life) == 1;
}

static int ticket_key_use(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                          EVP_MAC_CTX *mac, int seal)
{
    const struct smt_hs *hs = smt_tls_hs(ssl);
    return smt_ticket_keys_use(hs->creds->ticket_keys, name, iv, cipher, mac, seal != 0);
}

/* An initiator was given a ticket. Its bytes are copied, the session itself is left to TLS. */
static int ticket_came(SSL *ssl, SSL_SESSION *session)
{
    struct smt_hs *hs = smt_tls_hs(ssl);
    if (hs->state != SMT_HS_DONE || hs->creds->tickets == NULL)
        return 0;
    hs->awaits_ticket = false;
    int64_t until = smt_resume_is(hs) ? hs->note.good_until : good_until_of_full(hs);
    int64_t stale = smt_wall_clock() + (int64_t)SSL_SESSION_get_ticket_lifetime_hint(session);
    hs->next.good_until = until < stale ? until : stale;
    smt_ticket_cache_put(hs->creds->tickets, hs->ticket_key, session, &hs->next);
    return 0;
}

/* TLS has found that a hello with early data stands on a fresh ticket: is it the first of its kind?
 * Its keys are for the cipher that the initiator likes best, since it cannot know ours. */
static int early_allow(SSL *ssl, void *arg)
{
    const struct smt_hs *hs = smt_tls_hs(ssl);
    uint8_t random[SMT_EARLY_RANDOM_LEN];
    return hs->peer_block.len > 0 && hs->peer.ciphers[0] == (uint8_t)hs->alg &&
           SSL_get_client_random(ssl, random, sizeof(random)) == sizeof(random) &&
           smt_early_seen_add(hs->creds->early_seen, smt_wall_clock(), random);
}

bool smt_resume_may_early(const struct smt_hs *hs)
{
    if (hs->creds->early_seen == NULL)
        return false;
    const SSL_SESSION *session = SSL_get_session(hs->ssl);
    return !hs->initiator || (session != NULL && SSL_SESSION_get_max_early_data(session) > 0);
}

int smt_resume_init(struct smt_creds *creds, const struct smt_creds_config *config)
{
    int rc = smt_ticket_keys_new(config->ticket_lifetime_s > 0 ? config->ticket_lifetime_s
                                                               : USUAL_LIFETIME_S,
                                 &creds->ticket_keys);
    if (rc == 0)
        rc = smt_ticket_cache_new(&creds->tickets);
    if (rc == 0 && config->early)
        rc = smt_early_seen_new(&creds->early_seen);
    if (rc < 0)
        return rc;
    SSL_CTX_set_session_cache_mode(creds->tls,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(creds->tls, ticket_came);
    return SSL_CTX_set_session_ticket_cb(creds->tls, ticket_making, NULL, NULL) == 1 &&
                   SSL_CTX_set_tlsext_ticket_key_evp_cb(creds->tls, ticket_key_use) == 1
               ? 0
               : SMT_ECRYPTO;
}

void smt_resume_fini(struct smt_creds *creds)
{
    smt_ticket_keys_free(creds->ticket_keys);
    smt_ticket_cache_free(creds->tickets);
    smt_early_seen_free(creds->early_seen);
}

/* Whom a ticket is of: the name that was verified, and where. */
static int ticket_key_make(struct smt_hs *hs, const struct smt_hs_config *config)
{
    uint8_t name_len[2];
    smt_put_be16(name_len, (uint16_t)strlen(hs->verify_name));
    const struct smt_aead_in in[] = {
        {.p = name_len, .len = sizeof(name_len)},
        {.p = (const uint8_t *)hs->verify_name, .len = strlen(hs->verify_name)},
        {.p = config->peer, .len = config->peer_len},
    };
    return smt_sha256(in, SMT_ARRAY_LEN(in), hs->ticket_key);
}

/* TLS itself is to carry none of the early data: one byte is as much as none and still lets a
 * ticket say that there may be some. OpenSSL's own guard against replay would make every ticket an
 * entry of a cache; early_allow takes its place. */
static bool early_prepare(struct smt_hs *hs)
{
    if (hs->creds->early_seen == NULL)
        return true;
    SSL_set_options(hs->ssl, SSL_OP_NO_ANTI_REPLAY);
    SSL_set_allow_early_data_cb(hs->ssl, early_allow, NULL);
    return SSL_set_max_early_data(hs->ssl, 1) == 1;
}

int smt_resume_begin(struct smt_hs *hs, const struct smt_hs_config *config)
{
    if (hs->creds->ticket_keys == NULL)
        return 0;
    SSL_clear_options(hs->ssl, SSL_OP_NO_TICKET);
    if (config->token != NULL) {
        hs->next.has_token = true;
        memcpy(hs->next.token, config->token, sizeof(hs->next.token));
    }
    if (!hs->initiator)
        return SSL_set_num_tickets(hs->ssl, 1) == 1 && early_prepare(hs) ? 0 : SMT_ECRYPTO;
    int rc = ticket_key_make(hs, config);
    if (rc < 0)
        return rc;
    hs->awaits_ticket = true;
    SSL_SESSION *session =
        config->full ? NULL
                     : smt_ticket_cache_take(hs->creds->tickets, hs->ticket_key, &hs->note);
    if (session != NULL && SSL_set_session(hs->ssl, session) != 1)
        rc = SMT_ECRYPTO;
    SSL_SESSION_free(session);
    return rc;
}
