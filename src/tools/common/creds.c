/* Where a tool's credentials come from. Options win as a whole: an environment that names
 * certificates never mixes with a --psk-file of the command line. */
#include "creds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"

static const char *from_env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static void print_log(void *arg, int level, const char *text)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    (void)arg;
    fprintf(stderr, "%s: [%s] %s\n", say_get_name(), names[level < 0 ? 0 : level > 3 ? 3 : level],
            text);
}

static void warn_plaintext(void)
{
    fprintf(stderr,
            "*** WARNING: --plaintext: NOTHING is encrypted and NOBODY is authenticated. ***\n"
            "*** Everybody on the path can read and change all data. Tests only.         ***\n");
}

bool creds_is_native(const struct creds *creds)
{
    return creds->profile == NULL || strcmp(creds->profile, "smt2") == 0;
}

int creds_open(const struct creds *creds, struct smt_ctx **out)
{
    char text[640] = "", device[256];
    struct smt_ctx_config config = SMT_CTX_CONFIG_INIT;
    config.device = creds->device;
    if (creds->gid != NULL) {
        snprintf(device, sizeof(device), "%s,gid=%s", creds->device != NULL ? creds->device : "udp",
                 creds->gid);
        config.device = device;
    }
    config.cert_file = creds->cert;
    config.key_file = creds->key;
    config.ca_file = creds->ca;
    config.crl_file = creds->crl;
    config.psk_file = creds->psk_file;
    config.pins = creds->pins;
    config.cipher = creds->cipher;
    config.cipher_impl = creds->cipher_impl;
    config.plaintext = creds->plaintext;
    config.client_cert_optional = creds->client_cert_optional;
    config.tap = creds->tap;
    config.log = creds->verbose ? print_log : NULL;
    config.error_text = text;
    config.error_text_len = sizeof(text);
    config.profile = creds->profile;
    config.keys_file = creds->keys;
    /* The kernel's profiles take none. */
    bool chosen = creds->plaintext || creds->psk_file != NULL || !creds_is_native(creds);
    if (!chosen) {
        config.cert_file = creds->cert != NULL ? creds->cert : from_env("SMT_CERT");
        config.key_file = creds->key != NULL ? creds->key : from_env("SMT_KEY");
        config.ca_file = creds->ca != NULL ? creds->ca : from_env("SMT_CA");
        bool certs = config.cert_file != NULL || config.key_file != NULL ||
                     config.ca_file != NULL || config.pins != NULL;
        config.psk_file = certs ? NULL : from_env("SMT_PSK_FILE");
        if (!certs && config.psk_file == NULL) {
            say_error("no credentials: give --cert FILE --key FILE --ca FILE, or --psk-file FILE "
                      "(or set SMT_CERT SMT_KEY SMT_CA, or SMT_PSK_FILE); --plaintext means no "
                      "security");
            return TOOL_CONNECTION;
        }
    }
    int rc = smt_ctx_open(&config, out);
    if (rc != 0) {
        say_error("%s", text[0] != '\0' ? text : smt_strerror(rc));
        return TOOL_CONNECTION;
    }
    if (creds->plaintext) {
        warn_plaintext();
    }
    return TOOL_OK;
}

const char *creds_error(const struct smt_ctx *ctx, int error)
{
    const char *text = smt_error_text(ctx);
    return text != NULL && text[0] != '\0' ? text : smt_strerror(error);
}

const char *creds_auth_name(enum smt_session_auth auth)
{
    switch (auth) {
    case SMT_AUTH_NONE:
        return "none";
    case SMT_AUTH_CERT:
        return "certificate";
    case SMT_AUTH_PIN:
        return "pinned key";
    case SMT_AUTH_PSK:
        return "psk";
    }
    return "unknown";
}
