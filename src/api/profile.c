/* Which wire format a context speaks, and what security that leaves: the native profile has its
 * credentials (creds.c); the kernel's Homa has none at all, which its name asks for; smt1 has a
 * file of keys. What a format cannot protect is said loudly, once a context. */
#include "api/api.h"

#include <stdio.h>
#include <string.h>

#include "core/profile.h"
#include "hs/key_pair.h"

enum { MAX_KERNEL_SERVER_PORT = 0x7fff };

static int profile_find(const char *name, const struct smt_profile **out)
{
    *out = smt_profile_find(name);
    if (*out != NULL)
        return 0;
    char names[128] = "";
    const struct smt_profile *p;
    for (unsigned i = 0; (p = smt_profile_at(i)) != NULL; i++) {
        size_t len = strlen(names);
        snprintf(names + len, sizeof(names) - len, "%s%s", i > 0 ? ", " : "", p->name);
    }
    return smt_fail(NULL, SMT_EINVAL, "profile \"%s\" is not known: use one of %s", name, names);
}

/* Nobody shall run without security and not know it: where there is no log, standard error is
 * told. */
static void warn(const struct smt_ctx *ctx, const char *text)
{
    if (ctx->log.fn != NULL)
        smt_log_emit(&ctx->log, SMT_LOGLVL_ERROR, "%s", text);
    else
        fprintf(stderr, "libsmt-verbs: %s\n", text);
}

static void security_warn(const struct smt_ctx *ctx)
{
    char text[512];
    if (ctx->profile->keyed)
        snprintf(text, sizeof(text),
                 "WARNING: profile %s seals message bytes only: lengths of messages, control "
                 "packets, addresses and ids are neither hidden nor authenticated; whoever is on "
                 "the path can cut messages short at the end of a record and end calls. Keys are "
                 "never renewed: use a pair for one client and one server only",
                 ctx->profile->name);
    else
        snprintf(text, sizeof(text),
                 "WARNING: profile %s: NOTHING is encrypted and NOBODY is authenticated; "
                 "everybody on the path can read and change all data",
                 ctx->profile->name);
    warn(ctx, text);
}

static int keys_read(struct smt_ctx *ctx, const char *path)
{
    char text[256] = "";
    const struct smt_error_line line = {text, sizeof(text)};
    struct smt_key_pair *pair = smt_mem_secret(sizeof(*pair));
    ctx->record_keys = smt_mem_secret(sizeof(*ctx->record_keys));
    int r = SMT_ENOMEM;
    if (pair != NULL && ctx->record_keys != NULL)
        r = smt_key_pair_read(path, &line, pair);
    if (r == 0) {
        ctx->record_keys->aead = ctx->aeads[SMT_AEAD_AES128_GCM];
        memcpy(ctx->record_keys->end[0].key, pair->client.key, sizeof(pair->client.key));
        memcpy(ctx->record_keys->end[0].salt, pair->client.salt, sizeof(pair->client.salt));
        memcpy(ctx->record_keys->end[1].key, pair->server.key, sizeof(pair->server.key));
        memcpy(ctx->record_keys->end[1].salt, pair->server.salt, sizeof(pair->server.salt));
    }
    if (pair != NULL)
        smt_mem_secret_free(pair, sizeof(*pair));
    return r < 0 ? smt_fail(NULL, r, "%s", text[0] != '\0' ? text : smt_strerror(r)) : 0;
}

bool smt_ctx_is_native(const struct smt_ctx *ctx)
{
    return !ctx->profile->no_handshake;
}

int smt_ctx_profile_choose(struct smt_ctx *ctx, const struct smt_ctx_config *c, bool has_ssl_ctx)
{
    const char *name = c->profile != NULL && c->profile[0] != '\0' ? c->profile : "smt2";
    int r = profile_find(name, &ctx->profile);
    if (r < 0)
        return r;
    bool other = c->cert_file != NULL || c->key_file != NULL || c->ca_file != NULL ||
                 c->crl_file != NULL || c->pins != NULL || c->psk_file != NULL || has_ssl_ctx;
    if (c->keys_file != NULL && !ctx->profile->keyed)
        return smt_fail(NULL, SMT_ECREDENTIALS, "keys_file (--keys) is for profile smt1, not %s",
                        name);
    if (smt_ctx_is_native(ctx))
        return 0;
    if (c->cipher != NULL)
        return smt_fail(NULL, SMT_EINVAL, "cipher has no meaning with profile %s: leave it out",
                        name);
    if (other || (ctx->profile->keyed && c->plaintext))
        return smt_fail(NULL, SMT_ECREDENTIALS,
                        "profile %s has no handshake: leave certificates, PSK and %s out%s", name,
                        ctx->profile->keyed ? "plaintext" : "pins",
                        ctx->profile->keyed ? " and give keys_file (--keys)"
                                            : "; it has no security at all");
    if (ctx->profile->keyed && c->keys_file == NULL)
        return smt_fail(NULL, SMT_ECREDENTIALS,
                        "profile %s needs keys_file (--keys): lines \"client KEY SALT\" and "
                        "\"server KEY SALT\" in hex",
                        name);
    return 0;
}

int smt_ctx_profile_open(struct smt_ctx *ctx, const struct smt_ctx_config *c)
{
    ctx->plaintext = !ctx->profile->keyed;
    ctx->can_accept = true;
    int r = ctx->profile->keyed ? keys_read(ctx, c->keys_file) : 0;
    if (r == 0)
        security_warn(ctx);
    return r;
}

void smt_ctx_profile_close(struct smt_ctx *ctx)
{
    if (ctx->record_keys != NULL)
        smt_mem_secret_free(ctx->record_keys, sizeof(*ctx->record_keys));
}

int smt_ctx_device_check(const struct smt_ctx *ctx, const struct smt_dev *dev)
{
    if (smt_ctx_is_native(ctx) || (dev->ops->caps & SMT_DEV_CAP_EXACT) != 0)
        return 0;
    return smt_fail(NULL, SMT_EUNSUPPORTED,
                    "profile %s is carried by IP itself: use device \"ip\" or \"mlx5\" instead of "
                    "\"%s\"",
                    ctx->profile->name, dev->ops->name);
}

int smt_ep_profile_check(const struct smt_ctx *ctx, const struct smt_ep_config *c)
{
    if (smt_ctx_is_native(ctx) || !c->accept)
        return 0;
    if (c->port == 0 || c->port > MAX_KERNEL_SERVER_PORT)
        return smt_fail(ctx, SMT_EINVAL,
                        "a server of profile %s has a port of 1 to %d: those above are the "
                        "kernel's own for clients",
                        ctx->profile->name, MAX_KERNEL_SERVER_PORT);
    return 0;
}

const char *smt_ctx_connect_text(const struct smt_ctx *ctx, int code)
{
    if (smt_ctx_is_native(ctx))
        return smt_strerror(code);
    switch (code) {
    case SMT_ECREDENTIALS:
        return "the pair of smt1 keys belongs to another peer, or this end serves with it: give "
               "each pair of ends keys and a context of its own";
    case SMT_ESTATE:
        return "there is a session with this peer already: it came to us";
    case SMT_EUNSUPPORTED:
        return "profile smt1 knows IPv4 addresses only";
    default:
        return smt_strerror(code);
    }
}

const char *smt_ctx_down_text(const struct smt_ctx *ctx, int code)
{
    if (smt_ctx_is_native(ctx))
        return smt_strerror(code);
    switch (code) {
    case SMT_EREFUSED:
        return "nobody has that port there (ICMP)";
    case SMT_EVERSION:
        return "that host speaks no such IP protocol (ICMP): is a server of the same profile "
               "running there?";
    case SMT_EUNREACHABLE:
        return "no answer: is a server of the same profile and keys running there, and is the MTU "
               "the same at both ends?";
    default:
        return smt_strerror(code);
    }
}

const char *smt_ctx_post_text(const struct smt_ctx *ctx, int code)
{
    if (smt_ctx_is_native(ctx))
        return NULL;
    switch (code) {
    case SMT_EMSGSIZE:
        return "the kernel's profiles carry messages of 1 to 1,000,000 bytes";
    case SMT_EUNSUPPORTED:
        return "the kernel's profiles have no one-way messages and none of 0 bytes";
    case SMT_ECREDENTIALS:
        return "this end of the key pair serves: a pair of smt1 keys has one end that calls and "
               "one that serves, and one peer";
    default:
        return NULL;
    }
}
