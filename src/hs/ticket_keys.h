/* The keys under which a responder seals session tickets: random, never stored, changed as often as
 * tickets expire. A ticket holds all that a resumption needs: a responder keeps nothing of it. */
#ifndef SMT_HS_TICKET_KEYS_H
#define SMT_HS_TICKET_KEYS_H

#include <openssl/ssl.h>

#include "base/defs.h"

struct smt_ticket_keys;

/* Tickets and keys live lifetime_s seconds; a key opens for another lifetime after its time of
 * sealing is over. *out is given. */
SMT_MUST_CHECK int smt_ticket_keys_new(uint32_t lifetime_s, struct smt_ticket_keys **out);

/* Wipes and frees; no ticket opens any more. NULL allowed. */
void smt_ticket_keys_free(struct smt_ticket_keys *keys);

uint32_t smt_ticket_keys_lifetime(const struct smt_ticket_keys *keys);

/* What OpenSSL asks of SSL_CTX_set_tlsext_ticket_key_evp_cb, from any thread: seals with the key of
 * now, opens with that one or the one before. Tickets of other keys mean a full handshake. */
int smt_ticket_keys_use(struct smt_ticket_keys *keys, unsigned char name[16], unsigned char *iv,
                        EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool seal);

#endif
