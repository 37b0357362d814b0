/* A handshake from first to last byte: memory BIOs in and out, and what is checked when TLS itself
 * is content. OpenSSL's TLS runs the messages; its traffic keys are never used, data keys come from
 * the exporter.
 *
 * TLS sees no error when the peer leaves out an extension that only we require. So the responder
 * looks once its first flight lies in the BIO, the initiator once TLS is done, both before any of
 * those bytes are sent: the flight is thrown away and a plain alert takes its place, which TLS
 * takes from a side that has not sent anything encrypted yet. A hook earlier in TLS (client hello
 * or certificate callback) would belong to the application when the SSL_CTX is its own.
 *
 * Secrets live in OpenSSL's objects only, which wipe them; the exporter is asked when the result
 * is taken. */
#include "hs/hs.h"

#include <string.h>

#include <openssl/err.h>

#include "base/mem.h"
#include "hs/cert_text.h"
#include "hs/failure.h"
#include "hs/params_ext.h"
#include "hs/resume.h"
#include "hs/tls_ctx.h"
#include "hs/verify.h"

static const char exporter_label[] = "EXPORTER-smt2";

int smt_hs_fail(struct smt_hs *hs, int code, const char *fmt, ...)
{
    if (hs->code != 0)
        return hs->code;
    const struct smt_error_line line = {.text = hs->text, .cap = sizeof(hs->text)};
    va_list ap;
    va_start(ap, fmt);
    smt_error_vline(&line, code, fmt, ap);
    va_end(ap);
    hs->code = code;
    return code;
}

static bool can_play(const struct smt_creds *creds, bool initiator)
{
    switch (creds->kind) {
    case SMT_CREDS_FILES:
        return initiator ? creds->has_ca || creds->pins.n > 0 : creds->has_cert;
    case SMT_CREDS_PSK:
        return true;
    case SMT_CREDS_APP:
        return SSL_CTX_get_ssl_method(creds->tls) !=
               (initiator ? TLS_server_method() : TLS_client_method());
    }
    return false;
}

static int config_check(const struct smt_hs_config *config)
{
    size_t name_len = config->verify_name != NULL ? strlen(config->verify_name) : 0;
    if (name_len >= SMT_HS_NAME_MAX || (config->verify_name != NULL && name_len == 0))
        return SMT_EINVAL;
    if (config->params.session_id == 0 || (!config->initiator && config->initiator_id == 0))
        return SMT_EINVAL;
    return can_play(config->creds, config->initiator) ? 0 : SMT_ECREDENTIALS;
}

int smt_hs_new(const struct smt_hs_config *config, struct smt_hs **out)
{
    int rc = config_check(config);
    if (rc < 0)
        return rc;
    struct smt_hs *hs = smt_mem_alloc(sizeof(*hs));
    if (hs == NULL)
        return SMT_ENOMEM;
    hs->creds = smt_creds_ref(config->creds);
    hs->initiator = config->initiator;
    hs->initiator_id = config->initiator_id;
    hs->own = config->params;
    if (config->initiator && config->verify_name != NULL)
        memcpy(hs->verify_name, config->verify_name, strlen(config->verify_name));
    rc = smt_params_ext_encode(hs);
    if (rc == 0)
        rc = smt_tls_new(hs);
    if (rc == 0)
        rc = smt_resume_begin(hs, config);
    hs->tries_early = rc == 0 && smt_resume_may_early(hs);
    ERR_clear_error();
    if (rc < 0) {
        smt_hs_free(hs);
        return rc;
    }
    *out = hs;
    return 0;
}

void smt_hs_free(struct smt_hs *hs)
{
    if (hs == NULL)
        return;
    SSL_free(hs->ssl);
    smt_creds_free(hs->creds);
    ERR_clear_error();
    smt_wipe(hs, sizeof(*hs));
    smt_mem_free(hs);
}

/* Replaces what was to be sent by a plain alert. */
static void refuse(struct smt_hs *hs, uint8_t alert)
{
    const uint8_t record[] = {SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, alert};
    (void)BIO_reset(hs->out);
    (void)BIO_write(hs->out, record, sizeof(record)); /* without memory the peer waits in vain */
}

/* What TLS does not demand but smt2 does. */
static bool hello_complete(struct smt_hs *hs)
{
    if (hs->peer_block.len == 0) {
        smt_hs_fail(hs, SMT_EPROTO, "the peer sent no smt2 transport parameters");
        refuse(hs, SSL_AD_MISSING_EXTENSION);
        return false;
    }
    if (!smt_tls_has_alpn(hs->ssl)) {
        smt_hs_fail(hs, SMT_EVERSION, "the peer does not speak smt/2 (no ALPN)");
        refuse(hs, SSL_AD_NO_APPLICATION_PROTOCOL);
        return false;
    }
    return true;
}

static enum smt_hs_auth auth_of(const struct smt_hs *hs)
{
    if (SSL_session_reused(hs->ssl) && !smt_resume_is(hs))
        return SMT_HS_AUTH_PSK;
    if (SSL_get0_peer_certificate(hs->ssl) == NULL)
        return SMT_HS_AUTH_NONE;
    return hs->creds->pins.n > 0 && !hs->creds->has_ca ? SMT_HS_AUTH_PIN : SMT_HS_AUTH_CERT;
}

/* TLS has verified the peer by now. That it did so in the way the credentials ask for is checked
 * again, so that no setting of OpenSSL can ever turn it off. */
static bool peer_verified(struct smt_hs *hs)
{
    const struct smt_creds *creds = hs->creds;
    enum smt_hs_auth auth = auth_of(hs);
    bool ok = false;
    switch (auth) {
    case SMT_HS_AUTH_PSK:
        ok = creds->kind != SMT_CREDS_FILES;
        break;
    case SMT_HS_AUTH_CERT:
    case SMT_HS_AUTH_PIN:
        ok = creds->kind == SMT_CREDS_APP ||
             (creds->kind == SMT_CREDS_FILES && SSL_get_verify_result(hs->ssl) == X509_V_OK);
        break;
    case SMT_HS_AUTH_NONE:
        ok = !hs->initiator && creds->client_cert_optional && creds->kind != SMT_CREDS_PSK;
        break;
    }
    if (ok && smt_resume_is(hs))
        ok = smt_verify_resumed(hs);
    if (!ok) {
        smt_hs_fail(hs, SMT_EAUTH, "the peer did not prove who it is");
        refuse(hs, SSL_AD_HANDSHAKE_FAILURE);
    }
    return ok;
}

/* After the handshake nothing may come but a ticket, or the alert of a responder that refuses us.
 */
static void run_after(struct smt_hs *hs)
{
    uint8_t byte;
    int rc = SSL_read(hs->ssl, &byte, 1);
    if (rc > 0)
        smt_hs_fail(hs, SMT_EPROTO, "the peer sent data where only a handshake belongs");
    else if (SSL_get_error(hs->ssl, rc) != SSL_ERROR_WANT_READ)
        smt_failure_note(hs);
}

/* The first flight of an initiator that has early data to offer: none of it, for it goes in packets
 * of its own. The rest of TLS goes on as ever. */
static int early_write(struct smt_hs *hs)
{
    size_t n;
    hs->tries_early = false;
    if (SSL_write_early_data(hs->ssl, "", 0, &n) != 1)
        return -1;
    hs->has_early = true;
    hs->early_alg = hs->own.ciphers[0];
    return 1;
}

/* The same for a responder, until the initiator has said that there is no more of it. */
static int early_read(struct smt_hs *hs)
{
    uint8_t byte;
    size_t n;
    int rc = SSL_read_early_data(hs->ssl, &byte, 1, &n);
    if (rc == SSL_READ_EARLY_DATA_SUCCESS)
        smt_hs_fail(hs, SMT_EPROTO, "the peer sent data where only a handshake belongs");
    if (rc != SSL_READ_EARLY_DATA_ERROR)
        hs->tries_early = false;
    return rc == SSL_READ_EARLY_DATA_FINISH ? 1 : -1;
}

/* What TLS makes of what it has. */
static int step(struct smt_hs *hs)
{
    if (hs->tries_early) {
        int rc = hs->initiator ? early_write(hs) : early_read(hs);
        if (rc != 1 || hs->code != 0)
            return rc;
    }
    return SSL_do_handshake(hs->ssl);
}

static void run(struct smt_hs *hs)
{
    int rc = step(hs);
    int error = SSL_get_error(hs->ssl, rc);
    bool first_flight = !hs->initiator && BIO_ctrl_pending(hs->out) > 0;
    if (rc == 1) {
        if (hello_complete(hs) && peer_verified(hs)) {
            hs->state = SMT_HS_DONE;
            run_after(hs);
        }
    } else if (error == SSL_ERROR_WANT_READ) {
        if (first_flight && hello_complete(hs) &&
            SSL_get_early_data_status(hs->ssl) == SSL_EARLY_DATA_ACCEPTED) {
            hs->has_early = peer_verified(hs);
            hs->early_alg = (uint8_t)hs->alg;
        }
    } else if (error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL) {
        smt_failure_note(hs);
    } else {
        smt_hs_fail(hs, SMT_EUNSUPPORTED,
                    "a callback of the application's SSL_CTX wants to wait, which is not possible");
    }
}

static int take(struct smt_hs *hs, const uint8_t *bytes, size_t len)
{
    if (len > SMT_HS_MAX_IO - hs->n_in)
        return smt_hs_fail(hs, SMT_EPROTO, "the peer sent more than %d bytes of handshake",
                           SMT_HS_MAX_IO);
    hs->n_in += len;
    if (len > 0 && BIO_write(hs->in, bytes, (int)len) != (int)len)
        return smt_hs_fail(hs, SMT_ENOMEM, "out of memory during the handshake");
    return 0;
}

int smt_hs_input(struct smt_hs *hs, const uint8_t *bytes, size_t len)
{
    if (hs->state == SMT_HS_FAILED)
        return SMT_HS_FAILED;
    ERR_clear_error();
    if (take(hs, bytes, len) == 0) {
        if (hs->state == SMT_HS_DONE)
            run_after(hs);
        else
            run(hs);
    }
    if (BIO_ctrl_pending(hs->out) > SMT_HS_MAX_IO)
        smt_hs_fail(hs, SMT_ECREDENTIALS, "our certificate chain is too long to be sent");
    ERR_clear_error();
    if (hs->code == 0)
        return (int)hs->state;
    hs->state = SMT_HS_FAILED;
    return hs->code;
}

size_t smt_hs_output(struct smt_hs *hs, uint8_t *out, size_t cap)
{
    int n = BIO_read(hs->out, out, cap < SMT_HS_MAX_IO ? (int)cap : SMT_HS_MAX_IO);
    return n > 0 ? (size_t)n : 0;
}

enum smt_hs_blame smt_hs_blame(const struct smt_hs *hs)
{
    return hs->blame;
}

const char *smt_hs_error_text(const struct smt_hs *hs)
{
    return hs->text;
}

static int describe_cert(const X509 *cert, struct smt_hs_result *out)
{
    static_assert(sizeof(out->identity) == SMT_CERT_TEXT_LEN, "one length for subjects");
    if (cert == NULL)
        return 0;
    smt_cert_subject_text(cert, out->identity);
    return smt_cert_key_sha256(cert, out->peer_key_sha256);
}

bool smt_hs_is_running(const struct smt_hs *hs)
{
    return hs->state == SMT_HS_RUNNING;
}

bool smt_hs_has_early(const struct smt_hs *hs)
{
    return hs->has_early;
}

bool smt_hs_early_taken(const struct smt_hs *hs)
{
    return hs->has_early && SSL_get_early_data_status(hs->ssl) == SSL_EARLY_DATA_ACCEPTED &&
           (uint8_t)hs->alg == hs->early_alg;
}

int smt_hs_early_secret(const struct smt_hs *hs, enum smt_aead_alg *alg,
                        uint8_t out[SMT_SECRET_LEN])
{
    uint8_t context[32];
    if (!hs->has_early)
        return SMT_ESTATE;
    *alg = (enum smt_aead_alg)hs->early_alg;
    int rc = smt_params_ext_early_context(hs, hs->early_alg, context);
    if (rc < 0)
        return rc;
    rc = SSL_export_keying_material_early(hs->ssl, out, SMT_SECRET_LEN, exporter_label,
                                          sizeof(exporter_label) - 1, context, sizeof(context));
    ERR_clear_error();
    return rc == 1 ? 0 : SMT_ECRYPTO;
}

static int export_secret(struct smt_hs *hs, uint8_t out[SMT_SECRET_LEN])
{
    uint8_t context[32];
    int rc = smt_params_ext_context(hs, context);
    if (rc < 0)
        return rc;
    return SSL_export_keying_material(hs->ssl, out, SMT_SECRET_LEN, exporter_label,
                                      sizeof(exporter_label) - 1, context, sizeof(context), 1) == 1
               ? 0
               : SMT_ECRYPTO;
}

int smt_hs_result(struct smt_hs *hs, struct smt_hs_result *out)
{
    bool by_early = !hs->initiator && hs->has_early && hs->code == 0;
    if (hs->state != SMT_HS_DONE && !by_early)
        return SMT_ESTATE;
    struct smt_hs_result result = {
        .alg = hs->alg,
        .peer = hs->peer,
        .auth = auth_of(hs),
        .resumed = smt_resume_is(hs),
    };
    int rc = 0;
    if (result.auth == SMT_HS_AUTH_PSK)
        memcpy(result.identity, hs->psk_identity, sizeof(hs->psk_identity));
    else
        rc = describe_cert(SSL_get0_peer_certificate(hs->ssl), &result);
    if (rc == 0)
        rc = export_secret(hs, result.secret);
    if (rc == 0)
        *out = result;
    ERR_clear_error();
    smt_wipe(&result, sizeof(result));
    return rc;
}

const uint8_t *smt_hs_token(const struct smt_hs *hs)
{
    return hs->note.has_token ? hs->note.token : NULL;
}

bool smt_hs_gives_ticket(const struct smt_hs *hs)
{
    return !hs->initiator && SSL_get_num_tickets(hs->ssl) > 0;
}

bool smt_hs_awaits_ticket(const struct smt_hs *hs)
{
    return hs->state == SMT_HS_DONE && hs->awaits_ticket;
}

X509 *smt_hs_peer_cert(const struct smt_hs *hs)
{
    bool is_known = hs->state == SMT_HS_DONE || (!hs->initiator && hs->has_early);
    return is_known ? SSL_get1_peer_certificate(hs->ssl) : NULL;
}
