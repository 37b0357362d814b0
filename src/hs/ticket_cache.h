/* Session tickets that an initiator has been given, by whom they are of: each is used once. */
#ifndef SMT_HS_TICKET_CACHE_H
#define SMT_HS_TICKET_CACHE_H


#include <openssl/ssl.h>

#include "base/defs.h"
#include "wire/wire.h"

enum {
    SMT_TICKET_KEY_LEN = 32,   /* a hash of whom the ticket is of */
    SMT_TICKETS_MAX = 256,     /* kept; the oldest gives way */
    SMT_TICKETS_A_PEER = 8,    /* of one peer */
    SMT_TICKET_MAX_LEN = 16384 /* a longer one is not kept */
};

/* What is kept beside a ticket. */
struct smt_ticket_note {
    int64_t good_until; /* after which the peer has to prove itself anew */
    bool has_token;
    uint8_t token[SMT_COOKIE_LEN]; /* for the address, docs/wire.md 6.1 */
};

struct smt_ticket_cache;

SMT_MUST_CHECK int smt_ticket_cache_new(struct smt_ticket_cache **out);

/* Wipes and frees. NULL allowed. */
void smt_ticket_cache_free(struct smt_ticket_cache *cache);

/* Keeps what the session holds (borrowed) until it is taken or no longer good. Without memory it is
 * not kept. From any thread. */
void smt_ticket_cache_put(struct smt_ticket_cache *cache, const uint8_t key[SMT_TICKET_KEY_LEN],
                          SSL_SESSION *session, const struct smt_ticket_note *note);

/* The newest of that peer, which is then no longer kept: given (SSL_SESSION_free), or NULL. */
SMT_MUST_CHECK SSL_SESSION *smt_ticket_cache_take(struct smt_ticket_cache *cache,
                                                  const uint8_t key[SMT_TICKET_KEY_LEN],
                                                  struct smt_ticket_note *note);

#endif
