/* Handshakes. The first byte says what the rest is:
 *   0, 1  TLS bytes into a responder with certificates, with a pre-shared key
 *   2, 3  TLS bytes into an initiator with certificates, with a key, that has sent its hello
 *   4, 5  edits of the flights of a whole handshake, with certificates, with a key
 *   6, 7  a parameter block as the extension's parser gets it, responder, initiator
 *   8     a certificate in DER for the texts about it
 *   9     a list of pins
 *   10    edits of the flights of a resumed handshake, its ticket for the next one included
 *   11    the same with early data: what a responder takes is under the keys of its initiator
 * Whatever comes: no crash, a state of the contract, one clear line on failure, and never two ends
 * that are DONE with different secrets. TLS draws random numbers, so coverage differs between runs.
 */
#include "fuzz.h"

#include <string.h>

#include <openssl/err.h>

#include "hs/cert_text.h"
#include "hs/hs_impl.h"
#include "hs/params_ext.h"
#include "hs_pair.h"
#include "hs_sides.h"

enum { N_KINDS = 12, EDIT_LEN = 5, MAX_FLIGHT = 16384 };

static struct smt_creds *client, *server, *psk, *again_client, *again_server,
    *early_client, *early_server;

/* The files are gone as soon as they have been read. */
static void make_creds(void)
{
    hs_sides_setup(NULL);
    client = hs_side_creds(&(struct hs_side){.cert = "client", .ca = "ca"});
    server = hs_side_creds(&(struct hs_side){.cert = "server", .ca = "ca"});
    psk = hs_side_creds(&(struct hs_side){.psk = "psk"});
    again_client = hs_side_creds(&(struct hs_side){.cert = "client", .ca = "ca", .resume = true});
    again_server = hs_side_creds(&(struct hs_side){.cert = "server", .ca = "ca", .resume = true});
    early_client = hs_side_creds(
        &(struct hs_side){.cert = "client", .ca = "ca", .resume = true, .early = true});
    early_server = hs_side_creds(
        &(struct hs_side){.cert = "server", .ca = "ca", .resume = true, .early = true});
    hs_sides_teardown(NULL);
}

static void pair_open(struct hs_pair *pair, bool with_psk)
{
    hs_pair_open_simple(pair, with_psk ? psk : client, with_psk ? psk : server);
}

static void check_end(const struct smt_hs *hs, int rc)
{
    FUZZ_CHECK(rc < 0 || rc == SMT_HS_RUNNING || rc == SMT_HS_DONE);
    FUZZ_CHECK((rc < 0) == (smt_hs_error_text(hs)[0] != '\0'));
    FUZZ_CHECK(ERR_peek_error() == 0);
}

static void check_pair(struct hs_pair *pair)
{
    check_end(pair->i, pair->i_rc);
    check_end(pair->r, pair->r_rc);
    if (pair->i_rc == SMT_HS_DONE && pair->r_rc == SMT_HS_DONE) {
        struct smt_hs_result i, r;
        FUZZ_CHECK(smt_hs_result(pair->i, &i) == 0);
        FUZZ_CHECK(smt_hs_result(pair->r, &r) == 0);
        FUZZ_CHECK(memcmp(i.secret, r.secret, sizeof(i.secret)) == 0);
        FUZZ_CHECK(i.alg == r.alg);
        FUZZ_CHECK(i.resumed == r.resumed);
    }
}

static void run_raw(const uint8_t *data, size_t size, bool initiator, bool with_psk)
{
    struct hs_pair pair;
    pair_open(&pair, with_psk);
    uint8_t out[MAX_FLIGHT];
    struct smt_hs *hs = initiator ? pair.i : pair.r;
    int rc = SMT_HS_RUNNING;
    if (initiator) {
        FUZZ_CHECK(smt_hs_input(hs, NULL, 0) == SMT_HS_RUNNING);
        FUZZ_CHECK(smt_hs_output(hs, out, sizeof(out)) > 0);
    }
    size_t half = size / 2;
    rc = smt_hs_input(hs, data, half);
    if (rc >= 0)
        rc = smt_hs_input(hs, data + half, size - half);
    check_end(hs, rc);
    FUZZ_CHECK(rc != SMT_HS_DONE);
    (void)smt_hs_output(hs, out, sizeof(out));
    hs_pair_close(&pair);
}

/* An edit: flight and what to do, where, with what, how much. */
static size_t edit(uint8_t *bytes, size_t len, const uint8_t *e)
{
    size_t at = (size_t)(e[1] << 8 | e[2]) % (len + 1), n = e[4];
    switch (e[0] >> 2 & 3) {
    case 0:
        if (at < len)
            bytes[at] ^= e[3];
        return len;
    case 1:
        return at;
    case 2:
        if (len + n > MAX_FLIGHT)
            return len;
        memmove(bytes + at + n, bytes + at, len - at);
        memset(bytes + at, e[3], n);
        return len + n;
    default:
        if (n > len - at)
            n = len - at;
        memmove(bytes + at, bytes + at + n, len - at - n);
        return len - n;
    }
}

/* A hello that was changed stands on no ticket, and one that was not says the same to both. */
static void check_early(const struct hs_pair *pair)
{
    struct smt_hs_result result;
    enum smt_aead_alg alg[2];
    uint8_t secret[2][SMT_SECRET_LEN];
    if (!smt_hs_has_early(pair->r) || pair->r_rc < 0)
        return;
    FUZZ_CHECK(smt_hs_has_early(pair->i));
    FUZZ_CHECK(smt_hs_early_secret(pair->i, &alg[0], secret[0]) == 0);
    FUZZ_CHECK(smt_hs_early_secret(pair->r, &alg[1], secret[1]) == 0);
    FUZZ_CHECK(alg[0] == alg[1] && memcmp(secret[0], secret[1], SMT_SECRET_LEN) == 0);
    FUZZ_CHECK(smt_hs_result(pair->r, &result) == 0 && result.resumed);
    FUZZ_CHECK(memcmp(result.secret, secret[0], SMT_SECRET_LEN) != 0);
}

static void edits_run(struct hs_pair *pair, const uint8_t *data, size_t size)
{
    hs_pair_input(pair, true, NULL, 0);
    static uint8_t bytes[MAX_FLIGHT];
    unsigned silent = 0;
    for (unsigned flight = 0; silent < 2; flight++) {
        bool to_initiator = flight % 2 == 1;
        size_t len = smt_hs_output(to_initiator ? pair->r : pair->i, bytes, sizeof(bytes));
        silent = len == 0 ? silent + 1 : 0;
        for (size_t at = 0; len > 0 && at + EDIT_LEN <= size; at += EDIT_LEN)
            if ((data[at] & 3) == flight)
                len = edit(bytes, len, data + at);
        hs_pair_input(pair, to_initiator, bytes, len);
        if (flight == 0)
            check_early(pair);
    }
    check_pair(pair);
    hs_pair_close(pair);
}

static void run_edits(const uint8_t *data, size_t size, bool with_psk)
{
    struct hs_pair pair;
    pair_open(&pair, with_psk);
    edits_run(&pair, data, size);
}

/* A full handshake, for its ticket, and one that stands on it. */
static void run_resumed(const uint8_t *data, size_t size, struct smt_creds *i, struct smt_creds *r)
{
    struct hs_pair pair;
    hs_pair_open_simple(&pair, i, r);
    hs_pair_run(&pair);
    FUZZ_CHECK(pair.i_rc == SMT_HS_DONE && pair.r_rc == SMT_HS_DONE);
    check_pair(&pair);
    hs_pair_close(&pair);
    hs_pair_open_simple(&pair, i, r);
    edits_run(&pair, data, size);
}

static void run_params(const uint8_t *data, size_t size, bool initiator)
{
    struct hs_pair pair;
    pair_open(&pair, false);
    struct smt_hs *hs = initiator ? pair.i : pair.r;
    int alert = -1;
    int ok =
        smt_params_ext_parse(hs->ssl, SMT_PARAMS_EXT_TYPE, 0, data, size, NULL, 0, &alert, NULL);
    FUZZ_CHECK((ok == 1) == (hs->code == 0));
    FUZZ_CHECK((ok == 1) == (alert == -1));
    if (ok == 1) {
        uint8_t context[32];
        FUZZ_CHECK(hs->alg == SMT_AEAD_AES128_GCM || hs->alg == SMT_AEAD_AES256_GCM);
        FUZZ_CHECK(smt_params_ext_context(hs, context) == 0);
    }
    hs_pair_close(&pair);
}

static void run_cert(const uint8_t *data, size_t size)
{
    X509 *cert = d2i_X509(NULL, &data, (long)size);
    ERR_clear_error();
    if (cert == NULL)
        return;
    char text[SMT_CERT_TEXT_LEN], date[SMT_CERT_TIME_LEN];
    uint8_t hash[32];
    smt_cert_subject_text(cert, text);
    FUZZ_CHECK(memchr(text, '\0', sizeof(text)) != NULL);
    smt_cert_names_text(cert, text);
    FUZZ_CHECK(memchr(text, '\0', sizeof(text)) != NULL);
    smt_cert_time_text(X509_get0_notAfter(cert), date);
    (void)smt_cert_dates(cert);
    FUZZ_CHECK(smt_cert_key_sha256(cert, hash) <= 0);
    X509_free(cert);
    ERR_clear_error();
}

static void run_pins(const uint8_t *data, size_t size)
{
    char text[1024], said[256] = "";
    if (size >= sizeof(text))
        size = sizeof(text) - 1;
    memcpy(text, data, size);
    text[size] = '\0';
    const struct smt_error_line line = {.text = said, .cap = sizeof(said)};
    struct smt_pins pins = {0};
    int rc = smt_pins_parse(text, &line, &pins);
    FUZZ_CHECK((rc == 0) == (pins.n > 0) && (rc == 0) == (said[0] == '\0'));
    smt_pins_free(&pins);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (client == NULL)
        make_creds();
    if (size == 0)
        return 0;
    unsigned kind = data[0] % N_KINDS;
    data++;
    size--;
    if (kind < 4)
        run_raw(data, size, kind >= 2, kind % 2 == 1);
    else if (kind < 6)
        run_edits(data, size, kind == 5);
    else if (kind < 8)
        run_params(data, size, kind == 7);
    else if (kind == 8)
        run_cert(data, size);
    else if (kind == 9)
        run_pins(data, size);
    else if (kind == 10)
        run_resumed(data, size, again_client, again_server);
    else
        run_resumed(data, size, early_client, early_server);
    return 0;
}
