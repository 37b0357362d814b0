/* A context's credentials: which kind was asked for, read from files, and read again while
 * endpoints go on.
 *
 * Reading and judging of certificates and keys is hs's, the text that says which setting is missing
 * or contradicts another is ours. A handshake takes a reference to the credentials of its begin and
 * ends with them; so they can be replaced at any time, from any thread, under the context's lock,
 * and sessions that are up notice nothing. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

#include <smt/tls.h>

char *smt_text_copy(const char *s)
{
    size_t len = strlen(s) + 1;
    char *copy = smt_mem_alloc(len);
    if (copy != NULL)
        memcpy(copy, s, len);
    return copy;
}

int smt_ctx_creds_check(const struct smt_ctx_config *c, bool has_ssl_ctx)
{
    bool files = c->cert_file != NULL || c->key_file != NULL || c->ca_file != NULL ||
                 c->crl_file != NULL || c->pins != NULL;
    int n_kinds = (files ? 1 : 0) + (c->psk_file != NULL ? 1 : 0) + (c->plaintext ? 1 : 0) +
                  (has_ssl_ctx ? 1 : 0);
    if (n_kinds == 0)
        return smt_fail(
            NULL, SMT_ECREDENTIALS,
            "no credentials: give cert_file, key_file and ca_file (--cert --key --ca), or "
            "psk_file (--psk-file), or ask for plaintext by name (--plaintext)");
    if (n_kinds > 1)
        return smt_fail(NULL, SMT_ECREDENTIALS,
                        "more than one kind of security: give only one of certificate files%s%s%s",
                        c->psk_file != NULL ? ", psk_file" : "", c->plaintext ? ", plaintext" : "",
                        has_ssl_ctx ? ", SSL_CTX" : "");
    if (!files)
        return 0;
    if ((c->cert_file == NULL) != (c->key_file == NULL))
        return smt_fail(NULL, SMT_ECREDENTIALS,
                        "%s is given without %s: a certificate needs its key",
                        c->cert_file != NULL ? "cert_file (--cert)" : "key_file (--key)",
                        c->cert_file != NULL ? "key_file (--key)" : "cert_file (--cert)");
    if (c->crl_file != NULL && c->ca_file == NULL)
        return smt_fail(NULL, SMT_ECREDENTIALS,
                        "crl_file (--crl) is given without ca_file (--ca): only authorities "
                        "revoke");
    if (c->ca_file == NULL && c->pins == NULL && !c->client_cert_optional)
        return smt_fail(NULL, SMT_ECREDENTIALS,
                        "nothing to verify the peer with: give ca_file (--ca) or pins (--pin)");
    return 0;
}

/* Nobody shall log keys without knowing: where there is no log, standard error is told. */
static void keylog_warn(const struct smt_ctx *ctx)
{
    static const char text[] = "SSLKEYLOGFILE is set: whoever reads that file can decrypt all "
                               "sessions of this process; unset it but for debugging";
    if (ctx->log.fn != NULL)
        smt_log_emit(&ctx->log, SMT_LOGLVL_ERROR, "%s", text);
    else
        fprintf(stderr, "libsmt-verbs: %s\n", text);
}

/* The members that creds_read looks at, by their place. */
static const size_t kept_members[] = {
    offsetof(struct smt_ctx_config, cert_file), offsetof(struct smt_ctx_config, key_file),
    offsetof(struct smt_ctx_config, ca_file),   offsetof(struct smt_ctx_config, crl_file),
    offsetof(struct smt_ctx_config, psk_file),  offsetof(struct smt_ctx_config, pins),
};

static char **member_at(struct smt_ctx_config *config, unsigned i)
{
    return (char **)((char *)config + kept_members[i]);
}

/* Copies of the names, for reading again. */
static int names_keep(struct smt_ctx *ctx, const struct smt_ctx_config *config)
{
    struct smt_ctx_config from = *config;
    ctx->kept.client_cert_optional = config->client_cert_optional;
    ctx->kept.no_resumption = config->no_resumption;
    ctx->kept.early = config->early;
    for (unsigned i = 0; i < SMT_ARRAY_LEN(kept_members); i++) {
        const char *name = *member_at(&from, i);
        char *copy = name != NULL ? smt_text_copy(name) : NULL;
        if (name != NULL && copy == NULL)
            return smt_fail_static(NULL, SMT_ENOMEM, "no memory for a context");
        *member_at(&ctx->kept, i) = copy;
    }
    return 0;
}

/* *out is given. */
static int creds_read(struct smt_ctx *ctx, SSL_CTX *ssl_ctx, struct smt_creds **out)
{
    char text[256] = "";
    const struct smt_creds_config creds = {
        .cert_file = ctx->kept.cert_file,
        .key_file = ctx->kept.key_file,
        .ca_file = ctx->kept.ca_file,
        .crl_file = ctx->kept.crl_file,
        .psk_file = ctx->kept.psk_file,
        .pins = ctx->kept.pins,
        .client_cert_optional = ctx->kept.client_cert_optional != 0,
        .algs = ctx->algs,
        .n_algs = ctx->n_algs,
        .resume = ctx->kept.no_resumption == 0 && ssl_ctx == NULL && ctx->kept.psk_file == NULL,
        .early = ctx->kept.early != 0,
        .ssl_ctx = ssl_ctx,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    int r = smt_creds_new(&creds, out);
    if (r < 0)
        return smt_fail(NULL, r, "%s", text[0] != '\0' ? text : smt_strerror(r));
    if (smt_creds_logs_keys(*out))
        keylog_warn(ctx);
    return 0;
}

int smt_ctx_creds_open(struct smt_ctx *ctx, const struct smt_ctx_config *config, SSL_CTX *ssl_ctx)
{
    ctx->plaintext = config->plaintext != 0;
    ctx->has_ssl_ctx = ssl_ctx != NULL;
    ctx->can_accept = ctx->plaintext || config->psk_file != NULL || config->cert_file != NULL ||
                      (ssl_ctx != NULL && SSL_CTX_get0_certificate(ssl_ctx) != NULL);
    if (ctx->plaintext)
        return 0;
    int r = names_keep(ctx, config);
    return r < 0 ? r : creds_read(ctx, ssl_ctx, &ctx->creds);
}

void smt_ctx_creds_close(struct smt_ctx *ctx)
{
    smt_creds_free(ctx->creds);
    for (unsigned i = 0; i < SMT_ARRAY_LEN(kept_members); i++)
        smt_mem_free(*member_at(&ctx->kept, i));
}

struct smt_creds *smt_ctx_creds_ref(struct smt_ctx *ctx)
{
    pthread_mutex_lock(&ctx->lock);
    struct smt_creds *creds = smt_creds_ref(ctx->creds);
    pthread_mutex_unlock(&ctx->lock);
    return creds;
}

int smt_ctx_reload(struct smt_ctx *ctx)
{
    int r = smt_ctx_check(ctx);
    if (r < 0)
        return r;
    if (ctx->plaintext || !smt_ctx_is_native(ctx))
        return smt_fail_static(ctx, SMT_EUNSUPPORTED,
                               ctx->plaintext ? "a plaintext context has no credentials"
                                              : "installed keys are not read again");
    if (ctx->has_ssl_ctx)
        return smt_fail_static(ctx, SMT_EUNSUPPORTED,
                               "these credentials are the application's own SSL_CTX: change them "
                               "there, handshakes see it at once");
    struct smt_creds *fresh;
    r = creds_read(ctx, NULL, &fresh);
    if (r < 0)
        return smt_fail(ctx, r, "the credentials in use stay: %s", smt_error_text(NULL));
    pthread_mutex_lock(&ctx->lock);
    struct smt_creds *old = ctx->creds;
    ctx->creds = fresh;
    pthread_mutex_unlock(&ctx->lock);
    smt_creds_free(old);
    smt_log_emit(&ctx->log, SMT_LOGLVL_INFO, "credentials read again");
    return 0;
}
