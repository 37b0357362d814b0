/* Pinned public keys: "sha256//BASE64[;sha256//BASE64…]", SHA-256 of the SPKI in DER. */
#ifndef SMT_HS_PINS_H
#define SMT_HS_PINS_H

#include "hs/error_line.h"

enum { SMT_PINS_MAX = 4096 };

struct smt_pins {
    uint8_t (*hashes)[32];
    unsigned n;
};

/* Parses `text`; spaces around pins are allowed. SMT_ECREDENTIALS with a line that says which pin
 * is wrong. *out is given. */
SMT_MUST_CHECK int smt_pins_parse(const char *text, const struct smt_error_line *line,
                                  struct smt_pins *out);

/* Harmless on all zero. */
void smt_pins_free(struct smt_pins *pins);

bool smt_pins_match(const struct smt_pins *pins, const uint8_t key_sha256[32]);

#endif
