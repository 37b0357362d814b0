/* The ends of a handshake that tests play: credentials by name, from one set of files. */
#ifndef SMT_TESTS_SUPPORT_HS_SIDES_H
#define SMT_TESTS_SUPPORT_HS_SIDES_H

#include "certs.h"
#include "hs/hs.h"

/* Makes the files, once, and removes them. For cmocka as group setup and teardown.
 *
 * ca (signs all but), inter (a CA below it), other_ca; server (localhost, *.wild.test, 127.0.0.1,
 * ::1), rsa, ed, nameless (the same names), client (clientAuth only), cn_only (no subjectAltName),
 * expired, future, chain and no_chain (below inter, with and without it), stranger (of other_ca),
 * self and expired_self (self-signed). psk (alpha, beta), psk_beta, psk_unknown (gamma),
 * psk_differs (alpha with another key). */
int hs_sides_setup(void **state);
int hs_sides_teardown(void **state);

/* NAME.crl: the empty list of ca, current for next_s seconds. */
void hs_sides_crl(const char *name, long next_s);

/* Pins of server, self, expired_self, and of the first two together. */
struct hs_side_pins {
    char server[TEST_PIN_LEN], self[TEST_PIN_LEN], expired[TEST_PIN_LEN];
    char two[2 * TEST_PIN_LEN + 2];
};
extern struct hs_side_pins hs_side_pins;

/* One end. `app`: an SSL_CTX made here, which takes what our own loading refuses, such as a
 * certificate that has expired. */
struct hs_side {
    const char *cert, *ca, *pins, *psk;
    const char *algs;    /* of the credentials, "12" when NULL */
    const char *ciphers; /* of the parameters, "12" when NULL */
    const char *groups;  /* of an SSL_CTX made here */
    bool optional, app, resume, early;
};

/* The usual two, as initialisers. */
#define HS_CLIENT                                                                                  \
    {                                                                                              \
        .cert = "client", .ca = "ca"                                                               \
    }
#define HS_SERVER                                                                                  \
    {                                                                                              \
        .cert = "server", .ca = "ca"                                                               \
    }

/* Aborts, as all of this does, when it cannot be made. Given. */
struct smt_creds *hs_side_creds(const struct hs_side *side);
SSL_CTX *hs_side_ctx(const struct hs_side *side);

/* "DIR/NAMESUFFIX", NULL for NULL. As test_dir_path. */
const char *hs_side_file(const char *name, const char *suffix);

#endif
