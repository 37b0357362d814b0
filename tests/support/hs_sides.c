#include "hs_sides.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#define MUST(x)                                                                                    \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            ERR_print_errors_fp(stderr);                                                           \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct hs_side_pins hs_side_pins;

static struct test_dir dir;
static struct test_identity ca_kept;

static const char psk_text[] =
    "# keys\n\nalpha:00112233445566778899aabbccddeeff\n"
    "beta:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100\n";

static const char names[] = "DNS:localhost,DNS:*.wild.test,IP:127.0.0.1,IP:::1";

static void make_leaf(const char *name, const struct test_cert_spec *spec,
                      const struct test_identity *issuer, char *pin)
{
    struct test_identity made = test_identity_make(spec, issuer);
    test_dir_write_identity(&dir, name, &made, NULL);
    if (pin != NULL)
        test_pin(&made, pin);
    test_identity_free(&made);
}

static void make_leaves(const struct test_identity *ca, const struct test_identity *other_ca)
{
    const struct {
        const char *name;
        struct test_cert_spec spec;
        const struct test_identity *issuer;
        char *pin;
    } rows[] = {
        {"server", {.cn = "server", .san = names}, ca, hs_side_pins.server},
        {"client", {.cn = "client", .eku = "clientAuth"}, ca, NULL},
        {"rsa", {.cn = "rsa", .san = names, .key = "RSA"}, ca, NULL},
        {"ed", {.cn = "ed", .san = names, .key = "ED25519"}, ca, NULL},
        {"cn_only", {.cn = "localhost"}, ca, NULL},
        {"nameless", {.san = names}, ca, NULL},
        {"stranger", {.cn = "stranger", .san = names}, other_ca, NULL},
        {"expired", {.cn = "old", .san = names, .begin_s = -7200, .end_s = -60}, ca, NULL},
        {"future", {.cn = "new", .san = names, .begin_s = 3600, .end_s = 7200}, ca, NULL},
        {"self", {.cn = "self"}, NULL, hs_side_pins.self},
        {"expired_self",
         {.cn = "old self", .begin_s = -7200, .end_s = -60},
         NULL,
         hs_side_pins.expired},
    };
    for (size_t i = 0; i < SMT_ARRAY_LEN(rows); i++)
        make_leaf(rows[i].name, &rows[i].spec, rows[i].issuer, rows[i].pin);
    snprintf(hs_side_pins.two, sizeof(hs_side_pins.two), "%s; %s", hs_side_pins.server,
             hs_side_pins.self);
}

static void make_chain(const struct test_identity *ca)
{
    struct test_identity inter =
        test_identity_make(&(struct test_cert_spec){.cn = "Between", .is_ca = true}, ca);
    struct test_identity leaf =
        test_identity_make(&(struct test_cert_spec){.cn = "leaf", .san = names}, &inter);
    test_dir_write_identity(&dir, "inter", &inter, NULL);
    test_dir_write_identity(&dir, "chain", &leaf, (const struct test_identity *[]){&inter, NULL});
    test_dir_write_identity(&dir, "no_chain", &leaf, NULL);
    test_identity_free(&leaf);
    test_identity_free(&inter);
}

int hs_sides_setup(void **state)
{
    test_dir_make(&dir);
    struct test_identity ca =
        test_identity_make(&(struct test_cert_spec){.cn = "Test CA", .is_ca = true}, NULL);
    struct test_identity other_ca =
        test_identity_make(&(struct test_cert_spec){.cn = "Other CA", .is_ca = true}, NULL);
    test_dir_write_identity(&dir, "ca", &ca, NULL);
    test_dir_write_identity(&dir, "other_ca", &other_ca, NULL);
    make_leaves(&ca, &other_ca);
    make_chain(&ca);
    test_dir_write(&dir, "psk", psk_text);
    test_dir_write(&dir, "psk_beta", strstr(psk_text, "beta"));
    test_dir_write(&dir, "psk_unknown", "gamma:00112233445566778899aabbccddeeff\n");
    test_dir_write(&dir, "psk_differs", "alpha:10112233445566778899aabbccddeeff\n");
    test_identity_free(&other_ca);
    ca_kept = ca;
    return 0;
}

int hs_sides_teardown(void **state)
{
    test_dir_remove(&dir);
    test_identity_free(&ca_kept);
    return 0;
}

void hs_sides_crl(const char *name, long next_s)
{
    test_dir_write_crl(&dir, name, &ca_kept, NULL, next_s);
}

const char *hs_side_file(const char *name, const char *suffix)
{
    char file[64];
    if (name == NULL)
        return NULL;
    snprintf(file, sizeof(file), "%s%s", name, suffix);
    return test_dir_path(&dir, file);
}

SSL_CTX *hs_side_ctx(const struct hs_side *side)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_method());
    MUST(tls != NULL);
    if (side->cert != NULL) {
        const char *cert = hs_side_file(side->cert, ".pem"),
                   *key = hs_side_file(side->cert, ".key");
        MUST(SSL_CTX_use_certificate_chain_file(tls, cert) == 1);
        MUST(SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) == 1);
    }
    if (side->ca != NULL)
        MUST(SSL_CTX_load_verify_file(tls, hs_side_file(side->ca, ".pem")) == 1);
    if (side->groups != NULL)
        MUST(SSL_CTX_set1_groups_list(tls, side->groups) == 1);
    return tls;
}

struct smt_creds *hs_side_creds(const struct hs_side *side)
{
    enum smt_aead_alg algs[4];
    unsigned n = 0;
    for (const char *c = side->algs != NULL ? side->algs : "12"; *c != '\0'; c++)
        algs[n++] = (enum smt_aead_alg)(*c - '0');
    char text[512] = "";
    struct smt_creds_config config = {
        .algs = algs,
        .n_algs = n,
        .client_cert_optional = side->optional,
        .resume = side->resume,
        .early = side->early,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    SSL_CTX *app = side->app ? hs_side_ctx(side) : NULL;
    config.ssl_ctx = app;
    if (app == NULL) {
        config.cert_file = hs_side_file(side->cert, ".pem");
        config.key_file = hs_side_file(side->cert, ".key");
        config.ca_file = hs_side_file(side->ca, ".pem");
        config.psk_file = hs_side_file(side->psk, "");
        config.pins = side->pins;
    }
    struct smt_creds *creds = NULL;
    if (smt_creds_new(&config, &creds) < 0)
        fprintf(stderr, "smt_creds_new: %s\n", text);
    MUST(creds != NULL);
    SSL_CTX_free(app);
    return creds;
}
