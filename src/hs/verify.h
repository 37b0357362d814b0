/* Is the peer who it should be: chain, name, dates, pins. */
#ifndef SMT_HS_VERIFY_H
#define SMT_HS_VERIFY_H

#include "hs/hs_impl.h"

/* For SSL_CTX_set_cert_verify_callback on our own SSL_CTX: CA, then pins; pins alone. */
int smt_verify_chain(X509_STORE_CTX *store, void *arg);

/* For SSL_set_verify: asks the application's own callback, if there is one, and notes the first
 * reason for a failure in words. */
int smt_verify_step(int ok, X509_STORE_CTX *store);

/* Makes an initiator demand hs->verify_name, a DNS name or an IP address in text. */
SMT_MUST_CHECK int smt_verify_set_name(struct smt_hs *hs);


/* Until when a peer that a full handshake has just verified stays so: the first date at which a
 * certificate of its chain or a revocation list ends. */
int64_t smt_verify_good_until(const struct smt_hs *hs);

/* What can be judged again of a peer that comes back by a ticket: dates, pins, name. Notes the
 * reason of a failure. */
bool smt_verify_resumed(struct smt_hs *hs);

#endif
