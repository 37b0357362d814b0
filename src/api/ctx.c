/* Contexts: which device, which ciphers; everything that is checked before a packet moves.
 *
 * The only file of this layer that reads the environment (SMT_CIPHER_IMPL, SMT_SHM). Credentials
 * are in creds.c. The device is opened once on a free port and closed again, so that a wrong name
 * or a missing privilege shows here. */
#include "api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <smt/tls.h>

#include "core/profile.h"

static atomic_uint_fast64_t next_serial = 1;

static const char *impl_choice(const struct smt_ctx_config *config)
{
    if (config->cipher_impl != NULL && config->cipher_impl[0] != '\0')
        return config->cipher_impl;
    const char *env = secure_getenv("SMT_CIPHER_IMPL");
    return env != NULL && env[0] != '\0' ? env : "auto";
}

static bool impl_is_known(const char *impl)
{
    return strcmp(impl, "auto") == 0 || strcmp(impl, "openssl") == 0 ||
           strcmp(impl, "ipsec-mb") == 0;
}

static int cipher_add(struct smt_ctx *ctx, const char *name, const char *impl)
{
    const struct smt_aead *any = smt_aead_by_name(name, "openssl");
    if (any == NULL)
        return smt_fail(NULL, SMT_EUNSUPPORTED,
                        "cipher \"%s\" is not known: use aes-128-gcm, aes-256-gcm or both", name);
    const struct smt_aead *row = smt_aead_find(any->alg, impl);
    if (row == NULL)
        return smt_fail(NULL, SMT_EUNSUPPORTED,
                        "%s by \"%s\" does not run here: use cipher_impl \"auto\" or \"openssl\"",
                        name, impl);
    if (ctx->aeads[row->alg] != NULL)
        return smt_fail(NULL, SMT_EINVAL, "cipher \"%s\" is listed twice", name);
    ctx->aeads[row->alg] = row;
    ctx->algs[ctx->n_algs++] = row->alg;
    return 0;
}

static int ciphers_choose(struct smt_ctx *ctx, const struct smt_ctx_config *config)
{
    const char *impl = impl_choice(config);
    if (!impl_is_known(impl))
        return smt_fail(NULL, SMT_EINVAL,
                        "cipher_impl \"%s\" is not known: use auto, openssl or ipsec-mb", impl);
    if (!smt_ctx_is_native(ctx) && ctx->profile->keyed)
        return cipher_add(ctx, "aes-128-gcm", impl);
    if (config->plaintext || !smt_ctx_is_native(ctx)) {
        if (config->cipher != NULL)
            return smt_fail(NULL, SMT_EINVAL, "cipher has no meaning with plaintext: leave it out");
        ctx->algs[ctx->n_algs++] = SMT_AEAD_NONE;
        ctx->aeads[SMT_AEAD_NONE] = smt_aead_find(SMT_AEAD_NONE, NULL);
        return 0;
    }
    const char *list = config->cipher != NULL ? config->cipher : "aes-128-gcm,aes-256-gcm";
    char name[64];
    for (const char *p = list; p != NULL;) {
        const char *comma = strchr(p, ',');
        size_t len = comma != NULL ? (size_t)(comma - p) : strlen(p);
        snprintf(name, sizeof(name), "%.*s", (int)(len < sizeof(name) ? len : sizeof(name) - 1), p);
        int r = cipher_add(ctx, name, impl);
        if (r < 0)
            return r;
        p = comma != NULL ? comma + 1 : NULL;
    }
    return 0;
}

/* May peers on this host be reached by shared memory? */
static int memory_choose(struct smt_ctx *ctx, const struct smt_ctx_config *config)
{
    if (config->shm < -1 || config->shm > 1)
        return smt_fail(NULL, SMT_EINVAL, "shm must be -1, 0 or 1");
    const char *env = secure_getenv("SMT_SHM");
    bool is_off = config->shm < 0 || (env != NULL && strcmp(env, "0") == 0);
    ctx->by_memory = smt_ctx_is_native(ctx) && !is_off;
    ctx->any_user = config->shm > 0;
    return 0;
}

static int device_probe(struct smt_ctx *ctx, const struct smt_ctx_config *config)
{
    const char *usual = smt_ctx_is_native(ctx) ? "udp" : "ip";
    const char *spec =
        config->device != NULL && config->device[0] != '\0' ? config->device : usual;
    const char *tap = config->tap != NULL && config->tap[0] != '\0' ? config->tap : NULL;
    ctx->device = smt_text_copy(spec);
    ctx->tap = tap != NULL ? smt_text_copy(tap) : NULL;
    if (ctx->device == NULL || (tap != NULL && ctx->tap == NULL))
        return smt_fail_static(NULL, SMT_ENOMEM, "no memory for a context");
    char text[512] = "";
    const struct smt_dev_config dev_config = {
        .spec = ctx->device,
        .tap = ctx->tap,
        .ip_protocol = ctx->profile->ip_protocol,
        .ip_class_shift = ctx->profile->ip_class_shift,
        .error_text = text,
        .error_text_len = sizeof(text),
    };
    struct smt_dev *dev;
    int r = smt_dev_open(&dev_config, &dev);
    if (r < 0)
        return smt_fail(NULL, r, "device \"%s\": %s", ctx->device,
                        text[0] != '\0' ? text : smt_strerror(r));
    r = smt_ctx_device_check(ctx, dev);
    dev->ops->close(dev);
    return r;
}

static void ctx_free(struct smt_ctx *ctx)
{
    smt_ctx_creds_close(ctx);
    smt_ctx_profile_close(ctx);
    if (ctx->cookie != NULL)
        smt_mem_secret_free(ctx->cookie, sizeof(*ctx->cookie));
    smt_mem_free(ctx->device);
    smt_mem_free(ctx->tap);
    pthread_mutex_destroy(&ctx->lock);
    smt_mem_free(ctx);
}

static int ctx_fill(struct smt_ctx *ctx, const struct smt_ctx_config *config, SSL_CTX *ssl_ctx)
{
    ctx->cookie = smt_mem_secret(sizeof(*ctx->cookie));
    if (ctx->cookie == NULL)
        return smt_fail_static(NULL, SMT_ENOMEM, "no memory for keys");
    smt_api_random(ctx->cookie->secret, sizeof(ctx->cookie->secret));
    int r = smt_ctx_profile_choose(ctx, config, ssl_ctx != NULL);
    if (r == 0 && smt_ctx_is_native(ctx))
        r = smt_ctx_creds_check(config, ssl_ctx != NULL);
    if (r == 0)
        r = ciphers_choose(ctx, config);
    if (r == 0)
        r = smt_ctx_is_native(ctx) ? smt_ctx_creds_open(ctx, config, ssl_ctx)
                                   : smt_ctx_profile_open(ctx, config);
    if (r == 0)
        r = memory_choose(ctx, config);
    if (r == 0)
        r = device_probe(ctx, config);
    return r;
}

static int ctx_open(const struct smt_ctx_config *config, SSL_CTX *ssl_ctx, struct smt_ctx **out)
{
    if (smt_fork_init() < 0)
        return smt_fail_static(NULL, SMT_ESYSTEM, "pthread_atfork failed");
    struct smt_ctx *ctx = smt_mem_alloc(sizeof(*ctx));
    if (ctx == NULL)
        return smt_fail_static(NULL, SMT_ENOMEM, "no memory for a context");
    pthread_mutex_init(&ctx->lock, NULL);
    smt_list_init(&ctx->eps);
    smt_list_init(&ctx->bufs);
    atomic_flag_clear(&ctx->keys_used);
    ctx->fork_gen = smt_fork_generation();
    ctx->serial = atomic_fetch_add(&next_serial, 1);
    ctx->log = (struct smt_log){config->log, config->log_arg, SMT_LOGLVL_DEBUG};
    int r = ctx_fill(ctx, config, ssl_ctx);
    if (r < 0) {
        ctx_free(ctx);
        return r;
    }
    smt_log_emit(&ctx->log, SMT_LOGLVL_DEBUG, "context on %s, %s by %s", ctx->device,
                 ctx->aeads[ctx->algs[0]]->name, ctx->aeads[ctx->algs[0]]->impl);
    *out = ctx;
    return 0;
}

int smt_ctx_open_with(const struct smt_ctx_config *config, SSL_CTX *ssl_ctx, struct smt_ctx **out)
{
    if (config == NULL || out == NULL)
        return smt_fail_static(NULL, SMT_EINVAL, "config or out is NULL");
    *out = NULL;
    struct smt_ctx_config c;
    if (smt_config_copy(&c, sizeof(c), config, offsetof(struct smt_ctx_config, cert_file)) < 0)
        return smt_fail_static(NULL, SMT_EINVAL,
                               "config.size is not set: start from SMT_CTX_CONFIG_INIT");
    int r = ctx_open(&c, ssl_ctx, out);
    if (r < 0) {
        if (c.error_text != NULL && c.error_text_len > 0)
            snprintf(c.error_text, c.error_text_len, "%s", smt_error_text(NULL));
        if (c.log != NULL)
            c.log(c.log_arg, SMT_LOGLVL_ERROR, smt_error_text(NULL));
    }
    return r;
}

int smt_ctx_open(const struct smt_ctx_config *config, struct smt_ctx **out)
{
    return smt_ctx_open_with(config, NULL, out);
}

int smt_ctx_close(struct smt_ctx *ctx)
{
    if (ctx == NULL)
        return 0;
    int r = smt_ctx_check(ctx);
    if (r < 0)
        return r;
    pthread_mutex_lock(&ctx->lock);
    bool in_use = !smt_list_is_empty(&ctx->eps);
    pthread_mutex_unlock(&ctx->lock);
    if (in_use)
        return smt_fail_static(ctx, SMT_ESTATE, "the context has open endpoints: close them first");
    smt_buf_forget_all(ctx);
    ctx_free(ctx);
    return 0;
}
