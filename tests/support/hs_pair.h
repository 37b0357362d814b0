/* An initiator and a responder, bytes carried between them by hand. */
#ifndef SMT_TESTS_SUPPORT_HS_PAIR_H
#define SMT_TESTS_SUPPORT_HS_PAIR_H

#include "hs/hs.h"

enum { HS_PAIR_I_ID = 0x1111, HS_PAIR_R_ID = 0x2222 };

struct hs_pair {
    struct smt_hs *i, *r;
    int i_rc, r_rc;          /* what the last input on that side returned; a failure's code stays */
    size_t i_bytes, r_bytes; /* sent by either side */
    size_t chunk;            /* bytes to an input, 0 = all at once */
};

/* Parameters with version 2 and these ciphers ("12" = AES-128, then AES-256). */
struct smt_params hs_pair_params(uint64_t id, const char *ciphers);

/* Both handshakes from configs; aborts when one cannot be made. */
void hs_pair_open(struct hs_pair *pair, const struct smt_hs_config *i,
                  const struct smt_hs_config *r);

/* The usual configs: name "localhost", ciphers "12". */
void hs_pair_open_simple(struct hs_pair *pair, struct smt_creds *i, struct smt_creds *r);

/* Starts the initiator and carries bytes until nobody has any. */
void hs_pair_run(struct hs_pair *pair);

/* One input with all consequences on i_rc / r_rc. */
void hs_pair_input(struct hs_pair *pair, bool to_initiator, const uint8_t *bytes, size_t len);

void hs_pair_close(struct hs_pair *pair);

#endif
