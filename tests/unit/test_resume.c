/* Resumption between two smt_hs in memory: a ticket is used once and brings fresh keys and the same
 * identity; whatever is wrong with it costs a full handshake and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include "base/mem.h"
#include "hs/hs_impl.h"
#include "hs/ticket_cache.h"
#include "hs_pair.h"
#include "hs_sides.h"

struct ends {
    struct smt_creds *i, *r;
    const char *name, *place; /* NULL: the usual */
    bool full;
    const uint8_t *token;     /* that goes with the next ticket */
    const char *r_ciphers;    /* NULL: all */
};

/* What a handshake came to. */
struct outcome {
    struct smt_hs_result i, r;
    size_t i_bytes, r_bytes;
};

/* Of credentials made from now on. */
static bool wants_early;

static struct smt_creds *creds_new(const char *cert, const char *ca, const char *pins,
                                   const char *crl, uint32_t lifetime_s)
{
    static const enum smt_aead_alg algs[] = {SMT_AEAD_AES128_GCM, SMT_AEAD_AES256_GCM};
    char text[512] = "";
    const struct smt_creds_config config = {
        .cert_file = hs_side_file(cert, ".pem"),
        .key_file = hs_side_file(cert, ".key"),
        .ca_file = hs_side_file(ca, ".pem"),
        .crl_file = hs_side_file(crl, ".crl"),
        .pins = pins,
        .algs = algs,
        .n_algs = 2,
        .resume = true,
        .early = wants_early,
        .ticket_lifetime_s = lifetime_s,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    struct smt_creds *creds = NULL;
    if (smt_creds_new(&config, &creds) < 0)
        fail_msg("%s", text);
    return creds;
}

static struct smt_creds *client_new(void)
{
    return creds_new("client", "ca", NULL, NULL, 0);
}

static struct smt_creds *server_new(void)
{
    return creds_new("server", "ca", NULL, NULL, 0);
}

static void ends_free(struct ends *ends)
{
    smt_creds_free(ends->i);
    smt_creds_free(ends->r);
}

static void pair_open(const struct ends *ends, struct hs_pair *pair)
{
    const char *place = ends->place != NULL ? ends->place : "here";
    const struct smt_hs_config i = {
        .creds = ends->i,
        .initiator = true,
        .verify_name = ends->name != NULL ? ends->name : "localhost",
        .peer = place,
        .peer_len = strlen(place),
        .full = ends->full,
        .params = hs_pair_params(HS_PAIR_I_ID, "12"),
    };
    const struct smt_hs_config r = {
        .creds = ends->r,
        .params = hs_pair_params(HS_PAIR_R_ID, ends->r_ciphers != NULL ? ends->r_ciphers : "12"),
        .initiator_id = HS_PAIR_I_ID,
        .token = ends->token,
    };
    hs_pair_open(pair, &i, &r);
}

/* A whole handshake that must succeed; true when it stood on a ticket. */
static bool meet(const struct ends *ends, struct outcome *out)
{
    struct hs_pair pair;
    struct outcome mine;
    if (out == NULL)
        out = &mine;
    pair_open(ends, &pair);
    hs_pair_run(&pair);
    if (pair.i_rc != SMT_HS_DONE || pair.r_rc != SMT_HS_DONE)
        fail_msg("%d %s, %d %s", pair.i_rc, smt_hs_error_text(pair.i), pair.r_rc,
                 smt_hs_error_text(pair.r));
    assert_int_equal(smt_hs_result(pair.i, &out->i), 0);
    assert_int_equal(smt_hs_result(pair.r, &out->r), 0);
    assert_memory_equal(out->i.secret, out->r.secret, SMT_SECRET_LEN);
    assert_int_equal(out->i.resumed, out->r.resumed);
    assert_true(smt_hs_gives_ticket(pair.r));
    assert_false(smt_hs_awaits_ticket(pair.i)); /* it has come */
    out->i_bytes = pair.i_bytes;
    out->r_bytes = pair.r_bytes;
    hs_pair_close(&pair);
    return out->i.resumed;
}

static void test_a_chain_of_resumptions(void **state)
{
    struct ends ends = {client_new(), server_new()};
    struct outcome o[4];
    for (unsigned n = 0; n < SMT_ARRAY_LEN(o); n++) {
        assert_int_equal(meet(&ends, &o[n]), n > 0);
        assert_string_equal(o[n].i.identity, "CN=server");
        assert_string_equal(o[n].r.identity, "CN=client");
        assert_int_equal(o[n].i.auth, SMT_HS_AUTH_CERT);
        assert_int_equal(o[n].r.auth, SMT_HS_AUTH_CERT);
        assert_memory_equal(o[n].i.peer_key_sha256, o[0].i.peer_key_sha256, 32);
        assert_memory_equal(o[n].r.peer_key_sha256, o[0].r.peer_key_sha256, 32);
        for (unsigned k = 0; k < n; k++)
            assert_memory_not_equal(o[n].i.secret, o[k].i.secret, SMT_SECRET_LEN);
    }
    assert_true(o[1].r_bytes < o[0].r_bytes);
    ends_free(&ends);
}

/* The exchange of keys is in it: what a ticket saves is never forward secrecy. */
static void test_with_a_fresh_key_exchange(void **state)
{
    struct ends ends = {client_new(), server_new()};
    struct hs_pair pair;
    meet(&ends, NULL);
    pair_open(&ends, &pair);
    hs_pair_run(&pair);
    assert_true(SSL_session_reused(pair.i->ssl));
    assert_int_equal(SSL_get_negotiated_group(pair.i->ssl), NID_X25519);
    assert_int_equal(SSL_get_options(pair.r->ssl) & SSL_OP_ALLOW_NO_DHE_KEX, 0);
    assert_int_equal(SSL_get_max_early_data(pair.r->ssl), 0);
    hs_pair_close(&pair);
    ends_free(&ends);
}

/* A token comes with its ticket and is there when that is used; where none was given there is none.
 */
static void test_tokens(void **state)
{
    static const uint8_t tokens[2][SMT_COOKIE_LEN] = {"the first", "the second"};
    struct ends ends = {client_new(), server_new()};
    struct hs_pair pair;
    for (unsigned n = 0; n < 3; n++) {
        ends.token = n < 2 ? tokens[n] : NULL;
        pair_open(&ends, &pair);
        if (n == 0)
            assert_null(smt_hs_token(pair.i));
        else
            assert_memory_equal(smt_hs_token(pair.i), tokens[n - 1], SMT_COOKIE_LEN);
        assert_null(smt_hs_token(pair.r));
        hs_pair_run(&pair);
        assert_int_equal(pair.i_rc, SMT_HS_DONE);
        hs_pair_close(&pair);
    }
    pair_open(&ends, &pair);
    assert_null(smt_hs_token(pair.i));
    hs_pair_run(&pair);
    assert_true(SSL_session_reused(pair.i->ssl));
    hs_pair_close(&pair);
    ends_free(&ends);
}

static void test_each_ticket_once(void **state)
{
    struct ends ends = {client_new(), server_new()};
    struct hs_pair pair;
    meet(&ends, NULL);
    /* Two at once: one ticket. */
    pair_open(&ends, &pair);
    assert_false(meet(&ends, NULL));
    hs_pair_run(&pair);
    assert_true(SSL_session_reused(pair.i->ssl));
    hs_pair_close(&pair);
    /* Two are left, of which the newest is taken first; a full handshake takes none. */
    ends.full = true;
    assert_false(meet(&ends, NULL));
    ends.full = false;
    assert_true(meet(&ends, NULL));
    ends_free(&ends);
}

/* A ticket is of one name at one place. */
static void test_for_nobody_else(void **state)
{
    struct ends ends = {client_new(), server_new()};
    meet(&ends, NULL);
    ends.name = "127.0.0.1";
    assert_false(meet(&ends, NULL));
    ends.name = "localhost";
    ends.place = "there";
    assert_false(meet(&ends, NULL));
    ends.place = "here";
    assert_true(meet(&ends, NULL));
    ends_free(&ends);
}

/* A ticket that somehow is used for another name is judged by that name. */
static void test_the_name_is_judged_again(void **state)
{
    struct ends ends = {client_new(), server_new()};
    struct hs_pair pair;
    meet(&ends, NULL);
    pair_open(&ends, &pair);
    strcpy(pair.i->verify_name, "elsewhere.test");
    hs_pair_run(&pair);
    assert_int_equal(pair.i_rc, SMT_ENAMEMISMATCH);
    hs_pair_close(&pair);
    ends_free(&ends);
}

/* The server was restarted, or has read its credentials again, or the client has. */
static void test_lost_keys(void **state)
{
    struct ends ends = {client_new(), server_new()};
    meet(&ends, NULL);
    smt_creds_free(ends.r);
    ends.r = server_new();
    assert_false(meet(&ends, NULL));
    assert_true(meet(&ends, NULL));
    smt_creds_free(ends.i);
    ends.i = client_new();
    assert_false(meet(&ends, NULL));
    ends_free(&ends);
}

/* Any bit of the ticket, and of its name of a key. */
static void test_a_damaged_ticket(void **state)
{
    struct ends ends = {client_new(), server_new()};
    uint8_t hello[8192];
    for (unsigned k = 0; k < 8; k++) {
        struct hs_pair pair;
        const unsigned char *ticket;
        size_t ticket_len;
        ends.full = true;
        meet(&ends, NULL);
        ends.full = false;
        struct smt_ticket_note note;
        uint8_t key[SMT_TICKET_KEY_LEN];
        pair_open(&ends, &pair);
        memcpy(key, pair.i->ticket_key, sizeof(key));
        SSL_SESSION_get0_ticket(SSL_get_session(pair.i->ssl), &ticket, &ticket_len);
        assert_true(ticket_len > 100);
        ((unsigned char *)ticket)[k * (ticket_len - 1) / 7] ^= 0x10;
        hs_pair_run(&pair);
        assert_int_equal(pair.i_rc, SMT_HS_DONE);
        assert_int_equal(pair.r_rc, SMT_HS_DONE);
        assert_false(SSL_session_reused(pair.i->ssl));
        hs_pair_close(&pair);
        SSL_SESSION_free(smt_ticket_cache_take(ends.i->tickets, key, &note));
    }
    /* Changed on the way: the binder is over it. */
    struct hs_pair pair;
    ends.full = true;
    meet(&ends, NULL);
    ends.full = false;
    pair_open(&ends, &pair);
    assert_int_equal(smt_hs_input(pair.i, NULL, 0), SMT_HS_RUNNING);
    size_t n = smt_hs_output(pair.i, hello, sizeof(hello));
    hello[n - 5] ^= 1;
    assert_true(smt_hs_input(pair.r, hello, n) < 0);
    hs_pair_close(&pair);
    ends_free(&ends);
}

/* A copied hello is answered, as every hello is; the copier gets no further, and the ticket's owner
 * is not disturbed. */
static void test_a_copied_hello(void **state)
{
    struct ends ends = {client_new(), server_new()};
    struct hs_pair first, copy;
    uint8_t hello[8192], bytes[8192];
    meet(&ends, NULL);
    pair_open(&ends, &first);
    pair_open(&ends, &copy);
    assert_int_equal(smt_hs_input(first.i, NULL, 0), SMT_HS_RUNNING);
    size_t n = smt_hs_output(first.i, hello, sizeof(hello));
    assert_int_equal(smt_hs_input(copy.r, hello, n), SMT_HS_RUNNING);
    assert_true(SSL_session_reused(copy.r->ssl));
    struct smt_hs_result result;
    assert_int_equal(smt_hs_result(copy.r, &result), SMT_ESTATE);
    assert_int_equal(smt_hs_input(first.r, hello, n), SMT_HS_RUNNING);
    n = smt_hs_output(first.r, bytes, sizeof(bytes));
    assert_int_equal(smt_hs_input(first.i, bytes, n), SMT_HS_DONE);
    n = smt_hs_output(first.i, bytes, sizeof(bytes));
    assert_true(smt_hs_input(copy.r, bytes, n) < 0); /* the owner's Finished is for the other one */
    assert_int_equal(smt_hs_input(first.r, bytes, n), SMT_HS_DONE);
    hs_pair_close(&first);
    hs_pair_close(&copy);
    ends_free(&ends);
}

/* ---- early data ---- */

static struct ends early_ends(bool i, bool r)
{
    struct ends ends = {0};
    wants_early = i;
    ends.i = client_new();
    wants_early = r;
    ends.r = server_new();
    wants_early = false;
    return ends;
}

/* The hello of one end is taken by the other: is there early data? Then both have its keys, and
 * the responder its answer already, of a peer that it knows. */
static bool early_begin(struct hs_pair *pair, uint8_t *flight, size_t *flight_len)
{
    uint8_t hello[8192], secret[2][SMT_SECRET_LEN];
    enum smt_aead_alg alg[2];
    struct smt_hs_result result;
    assert_int_equal(smt_hs_input(pair->i, NULL, 0), SMT_HS_RUNNING);
    size_t n = smt_hs_output(pair->i, hello, sizeof(hello));
    assert_int_equal(smt_hs_input(pair->r, hello, n), SMT_HS_RUNNING);
    *flight_len = smt_hs_output(pair->r, flight, 8192);
    assert_true(smt_hs_is_running(pair->r));
    bool has = smt_hs_has_early(pair->r);
    assert_int_equal(smt_hs_result(pair->r, &result), has ? 0 : SMT_ESTATE);
    if (!has) {
        assert_int_equal(smt_hs_early_secret(pair->r, &alg[1], secret[1]), SMT_ESTATE);
        return false;
    }
    assert_true(result.resumed);
    assert_string_equal(result.identity, "CN=client");
    assert_int_equal(smt_hs_early_secret(pair->i, &alg[0], secret[0]), 0);
    assert_int_equal(smt_hs_early_secret(pair->r, &alg[1], secret[1]), 0);
    assert_memory_equal(secret[0], secret[1], SMT_SECRET_LEN);
    assert_memory_not_equal(secret[0], result.secret, SMT_SECRET_LEN);
    assert_int_equal(alg[0], alg[1]);
    return true;
}

/* The rest; the initiator knows whether it was taken. */
static void early_end(struct hs_pair *pair, const uint8_t *flight, size_t len, bool taken)
{
    uint8_t bytes[8192];
    struct smt_hs_result i, r;
    assert_int_equal(smt_hs_input(pair->i, flight, len), SMT_HS_DONE);
    assert_int_equal(smt_hs_early_taken(pair->i), taken);
    size_t n = smt_hs_output(pair->i, bytes, sizeof(bytes));
    assert_int_equal(smt_hs_input(pair->r, bytes, n), SMT_HS_DONE);
    assert_int_equal(smt_hs_result(pair->i, &i), 0);
    assert_int_equal(smt_hs_result(pair->r, &r), 0);
    assert_memory_equal(i.secret, r.secret, SMT_SECRET_LEN);
    n = smt_hs_output(pair->r, bytes, sizeof(bytes)); /* the next ticket */
    assert_int_equal(smt_hs_input(pair->i, bytes, n), SMT_HS_DONE);
    assert_false(smt_hs_awaits_ticket(pair->i));
}

static bool early(const struct ends *ends)
{
    struct hs_pair pair;
    uint8_t flight[8192];
    size_t n;
    pair_open(ends, &pair);
    bool taken = early_begin(&pair, flight, &n);
    early_end(&pair, flight, n, taken);
    assert_true(SSL_session_reused(pair.i->ssl));
    hs_pair_close(&pair);
    return taken;
}

/* Where both ends want it, and by each ticket once. */
static void test_early_data(void **state)
{
    for (unsigned k = 0; k < 4; k++) {
        struct ends ends = early_ends((k & 1) != 0, (k & 2) != 0);
        assert_false(meet(&ends, NULL));
        assert_int_equal(early(&ends), k == 3);
        assert_true(meet(&ends, NULL));
        assert_int_equal(early(&ends), k == 3);
        ends_free(&ends);
    }
}

/* Its copy is a hello like any other, and the first was, when it comes second. */
static void test_early_data_once(void **state)
{
    struct ends ends = early_ends(true, true);
    struct hs_pair pair, copy;
    uint8_t hello[8192], flight[8192];
    meet(&ends, NULL);
    pair_open(&ends, &pair);
    pair_open(&ends, &copy);
    assert_int_equal(smt_hs_input(pair.i, NULL, 0), SMT_HS_RUNNING);
    size_t n = smt_hs_output(pair.i, hello, sizeof(hello));
    assert_int_equal(smt_hs_input(copy.r, hello, n), SMT_HS_RUNNING);
    assert_true(smt_hs_has_early(copy.r));
    assert_int_equal(smt_hs_input(pair.r, hello, n), SMT_HS_RUNNING);
    assert_false(smt_hs_has_early(pair.r));
    n = smt_hs_output(pair.r, flight, sizeof(flight));
    early_end(&pair, flight, n, false);
    assert_true(SSL_session_reused(pair.r->ssl));
    hs_pair_close(&pair);
    hs_pair_close(&copy);
    ends_free(&ends);
}

/* A ticket of another age than the hello says, and another cipher than the initiator's first. */
static void test_early_data_refused(void **state)
{
    struct ends ends = early_ends(true, true);
    struct hs_pair pair;
    uint8_t flight[8192];
    size_t n;
    meet(&ends, NULL);
    pair_open(&ends, &pair);
    SSL_SESSION_set_time(SSL_get_session(pair.i->ssl), (long)time(NULL) - 60);
    assert_false(early_begin(&pair, flight, &n));
    early_end(&pair, flight, n, false);
    hs_pair_close(&pair);

    ends.r_ciphers = "2";
    assert_true(meet(&ends, NULL));
    assert_false(early(&ends));
    ends.r_ciphers = NULL;
    assert_true(early(&ends));
    ends_free(&ends);
}

/* A pin that the peer no longer has is found before anything is answered. */
static void test_early_data_of_nobody(void **state)
{
    struct ends ends = early_ends(true, true);
    struct hs_pair pair;
    uint8_t hello[8192];
    meet(&ends, NULL);
    pair_open(&ends, &pair);
    assert_int_equal(smt_hs_input(pair.i, NULL, 0), SMT_HS_RUNNING);
    size_t n = smt_hs_output(pair.i, hello, sizeof(hello));
    struct smt_pins pins = ends.r->pins;
    uint8_t other[1][32] = {{1}};
    ends.r->pins = (struct smt_pins){.hashes = other, .n = 1};
    assert_true(smt_hs_input(pair.r, hello, n) < 0);
    assert_false(smt_hs_has_early(pair.r));
    ends.r->pins = pins;
    hs_pair_close(&pair);
    ends_free(&ends);
}

static void test_tickets_expire(void **state)
{
    struct ends ends = {client_new(), creds_new("server", "ca", NULL, NULL, 1)};
    struct hs_pair pair[2];
    meet(&ends, NULL);
    assert_true(meet(&ends, NULL));
    ends.full = true;
    meet(&ends, NULL);
    ends.full = false;
    for (unsigned n = 0; n < 2; n++)
        pair_open(&ends, &pair[n]);
    sleep(2);
    /* Taken in time, used too late: the client leaves it out, and where the client's clock is
     * wrong, the server's word counts. */
    SSL_SESSION_set_time(SSL_get_session(pair[1].i->ssl), (long)time(NULL));
    for (unsigned n = 0; n < 2; n++) {
        hs_pair_run(&pair[n]);
        assert_int_equal(pair[n].i_rc, SMT_HS_DONE);
        assert_int_equal(pair[n].r_rc, SMT_HS_DONE);
        assert_false(SSL_session_reused(pair[n].i->ssl));
        hs_pair_close(&pair[n]);
    }
    ends_free(&ends);
}

/* Nothing outlives the certificate or the list by which its holder was judged. */
static void test_no_longer_than_the_list(void **state)
{
    struct ends ends = {client_new(), creds_new("server", "ca", NULL, "short", 0)};
    struct hs_pair pair;
    meet(&ends, NULL);
    pair_open(&ends, &pair);
    assert_true(SSL_SESSION_get_ticket_lifetime_hint(SSL_get_session(pair.i->ssl)) <= 100);
    hs_pair_close(&pair);
    ends_free(&ends);
}

static void test_pins(void **state)
{
    struct ends ends = {creds_new("client", NULL, hs_side_pins.two, NULL, 0), server_new()};
    struct outcome o;
    assert_false(meet(&ends, &o));
    assert_true(meet(&ends, &o));
    assert_int_equal(o.i.auth, SMT_HS_AUTH_PIN);
    ends_free(&ends);
}

/* Full to the brim: the oldest gives way, and all memory comes back. */
static void test_the_cache_is_bounded(void **state)
{
    struct ends ends = {client_new(), server_new()};
    struct smt_ticket_cache *cache;
    struct hs_pair pair;
    struct smt_mem_stats before = smt_mem_live();
    uint8_t key[SMT_TICKET_KEY_LEN] = {0};
    struct smt_ticket_note note = {.good_until = time(NULL) + 100};
    meet(&ends, NULL);
    pair_open(&ends, &pair);
    SSL_SESSION *session = SSL_get_session(pair.i->ssl);
    assert_int_equal(smt_ticket_cache_new(&cache), 0);
    for (unsigned i = 0; i < 2 * SMT_TICKETS_A_PEER; i++)
        smt_ticket_cache_put(cache, key, session, &note);
    for (unsigned i = 0; i < SMT_TICKETS_A_PEER; i++) {
        SSL_SESSION *taken = smt_ticket_cache_take(cache, key, &note);
        assert_non_null(taken);
        SSL_SESSION_free(taken);
    }
    assert_null(smt_ticket_cache_take(cache, key, &note));
    smt_ticket_cache_put(cache, key, session, &(struct smt_ticket_note){.good_until = time(NULL)});
    assert_null(smt_ticket_cache_take(cache, key, &note));
    for (unsigned i = 0; i <= SMT_TICKETS_MAX; i++) {
        key[0] = (uint8_t)i;
        key[1] = (uint8_t)(i >> 8);
        smt_ticket_cache_put(cache, key, session, &note);
    }
    memset(key, 0, sizeof(key));
    assert_null(smt_ticket_cache_take(cache, key, &note));
    key[0] = 1;
    SSL_SESSION_free(smt_ticket_cache_take(cache, key, &note));
    assert_true(note.good_until > 0);
    smt_mem_fail_after(0);
    smt_ticket_cache_put(cache, key, session, &note);
    smt_mem_fail_after(-1);
    assert_null(smt_ticket_cache_take(cache, key, &note));
    smt_ticket_cache_free(cache);
    hs_pair_close(&pair);
    ends_free(&ends);
    assert_true(smt_mem_live().n_live <= before.n_live);
}

static int setup(void **state)
{
    hs_sides_setup(state);
    hs_sides_crl("short", 100);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chain_of_resumptions),
        cmocka_unit_test(test_with_a_fresh_key_exchange),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_each_ticket_once),
        cmocka_unit_test(test_for_nobody_else),
        cmocka_unit_test(test_the_name_is_judged_again),
        cmocka_unit_test(test_lost_keys),
        cmocka_unit_test(test_a_damaged_ticket),
        cmocka_unit_test(test_a_copied_hello),
        cmocka_unit_test(test_early_data),
        cmocka_unit_test(test_early_data_once),
        cmocka_unit_test(test_early_data_refused),
        cmocka_unit_test(test_early_data_of_nobody),
        cmocka_unit_test(test_tickets_expire),
        cmocka_unit_test(test_no_longer_than_the_list),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_the_cache_is_bounded),
    };
    return cmocka_run_group_tests(tests, setup, hs_sides_teardown);
}
