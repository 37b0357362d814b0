/* Credentials: which kind was asked for, is it complete, and then the SSL_CTX that holds it.
 * Reading the files is the business of cert_files.c, pins.c and psk.c. What is missing for one role
 * only is found in smt_hs_new, for the same credentials serve both. */
#include "hs/creds.h"

#include <openssl/err.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/mem.h"
#include "hs/cert_files.h"
#include "hs/crl_file.h"
#include "hs/error_line.h"
#include "hs/keylog.h"
#include "hs/resume.h"
#include "hs/tls_ctx.h"

static bool has_files(const struct smt_creds_config *config)
{
    return config->cert_file != NULL || config->key_file != NULL || config->ca_file != NULL ||
           config->crl_file != NULL || config->pins != NULL;
}

static int check_files(const struct smt_creds_config *config, const struct smt_error_line *line)
{
    if (config->cert_file != NULL && config->key_file == NULL)
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "cert_file %s is given without its private key: give key_file too",
                              config->cert_file);
    if (config->cert_file == NULL && config->key_file != NULL)
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "key_file %s is given without its certificate: give cert_file too",
                              config->key_file);
    if (config->crl_file != NULL && config->ca_file == NULL)
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "crl_file %s is given without ca_file: only authorities revoke",
                              config->crl_file);
    if (config->ca_file == NULL && config->pins == NULL && !config->client_cert_optional)
        return smt_error_line(
            line, SMT_ECREDENTIALS,
            "nothing to verify peers with: give ca_file or pins beside cert_file %s",
            config->cert_file);
    return 0;
}

static int check_kind(const struct smt_creds_config *config, const struct smt_error_line *line)
{
    int kinds = has_files(config) + (config->psk_file != NULL) + (config->ssl_ctx != NULL);
    if (kinds == 0)
        return smt_error_line(
            line, SMT_ECREDENTIALS,
            "no credentials: give cert_file and key_file with ca_file or pins, or "
            "psk_file");
    if (kinds > 1)
        return smt_error_line(
            line, SMT_ECREDENTIALS,
            "more than one kind of credentials: give certificates (with ca_file or "
            "pins), psk_file or an SSL_CTX, not several");
    for (unsigned i = 0; i < config->n_algs; i++)
        if (config->algs[i] != SMT_AEAD_AES128_GCM && config->algs[i] != SMT_AEAD_AES256_GCM)
            return smt_error_line(line, SMT_EINVAL, "cipher number %d is unknown",
                                  (int)config->algs[i]);
    if (config->n_algs == 0 && config->ssl_ctx == NULL)
        return smt_error_line(line, SMT_EINVAL, "no cipher is allowed: give at least one");
    return has_files(config) ? check_files(config, line) : 0;
}

static int load_files(const struct smt_creds_config *config, const struct smt_error_line *line,
                      struct smt_creds *creds)
{
    creds->kind = SMT_CREDS_FILES;
    creds->has_cert = config->cert_file != NULL;
    creds->has_ca = config->ca_file != NULL;
    creds->tls = smt_tls_ctx_new(config->algs, config->n_algs);
    if (creds->tls == NULL)
        return smt_error_line(line, SMT_ECRYPTO, "OpenSSL cannot set up TLS 1.3");
    int rc = 0;
    if (creds->has_cert)
        rc = smt_cert_files_own(creds->tls, config->cert_file, config->key_file, line);
    if (rc == 0 && creds->has_ca)
        rc = smt_cert_files_ca(creds->tls, config->ca_file, line);
    if (rc == 0 && config->crl_file != NULL)
        rc = smt_crl_file(creds->tls, config->crl_file, line);
    if (rc == 0 && config->pins != NULL)
        rc = smt_pins_parse(config->pins, line, &creds->pins);
    creds->lists_until = smt_crl_until(creds->tls);
    if (rc == 0 && config->resume && smt_resume_init(creds, config) < 0)
        rc = smt_error_line(line, SMT_ENOMEM, "no memory for session tickets");
    return rc;
}

static int load_psk(const struct smt_creds_config *config, const struct smt_error_line *line,
                    struct smt_creds *creds)
{
    creds->kind = SMT_CREDS_PSK;
    creds->tls = smt_tls_ctx_new_psk();
    if (creds->tls == NULL)
        return smt_error_line(line, SMT_ECRYPTO, "OpenSSL cannot set up TLS 1.3 with keys");
    return smt_psk_list_read(config->psk_file, line, &creds->psks);
}

static int load_app(const struct smt_creds_config *config, const struct smt_error_line *line,
                    struct smt_creds *creds)
{
    creds->kind = SMT_CREDS_APP;
    int rc = smt_tls_ctx_adopt(config->ssl_ctx, line);
    if (rc == 0 && SSL_CTX_up_ref(config->ssl_ctx) == 1)
        creds->tls = config->ssl_ctx;
    else if (rc == 0)
        rc = smt_error_line(line, SMT_ECRYPTO, "OpenSSL gave no reference to the SSL_CTX");
    return rc;
}

static int keylog_start(struct smt_creds *creds, const struct smt_error_line *line)
{
    int rc = smt_keylog_open(line, &creds->keylog_fd);
    if (creds->keylog_fd >= 0)
        SSL_CTX_set_keylog_callback(creds->tls, smt_keylog_line);
    return rc;
}

bool smt_creds_logs_keys(const struct smt_creds *creds)
{
    return creds->keylog_fd >= 0;
}

int smt_creds_new(const struct smt_creds_config *config, struct smt_creds **out)
{
    const struct smt_error_line line = {.text = config->error_text, .cap = config->error_text_len};
    int rc = check_kind(config, &line);
    if (rc < 0)
        return rc;
    struct smt_creds *creds = smt_mem_alloc(sizeof(*creds));
    if (creds == NULL)
        return smt_error_line(&line, SMT_ENOMEM, "no memory for credentials");
    atomic_init(&creds->refs, 1);
    creds->client_cert_optional = config->client_cert_optional;
    creds->keylog_fd = -1;
    if (config->ssl_ctx != NULL)
        rc = load_app(config, &line, creds);
    else if (config->psk_file != NULL)
        rc = load_psk(config, &line, creds);
    else
        rc = load_files(config, &line, creds);
    if (rc == 0 && config->ssl_ctx == NULL)
        rc = keylog_start(creds, &line);
    ERR_clear_error();
    if (rc < 0) {
        smt_creds_free(creds);
        return rc;
    }
    *out = creds;
    return 0;
}

struct smt_creds *smt_creds_ref(struct smt_creds *creds)
{
    atomic_fetch_add_explicit(&creds->refs, 1, memory_order_relaxed);
    return creds;
}

void smt_creds_free(struct smt_creds *creds)
{
    if (creds == NULL || atomic_fetch_sub_explicit(&creds->refs, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(creds->tls);
    smt_pins_free(&creds->pins);
    smt_psk_list_free(&creds->psks);
    smt_resume_fini(creds);
    if (creds->keylog_fd >= 0)
        close(creds->keylog_fd);
    smt_mem_free(creds);
}
