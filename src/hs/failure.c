/* Why a handshake failed, in words. Two tables: alerts, with which the peer says why it refused us,
 * and reasons, with which our OpenSSL says why it refused the peer. What is in neither is the
 * peer's violation of TLS, by damage or by intent.
 *
 * In a PSK handshake the same alerts mean something else: TLS has no better word for "I do not know
 * this key" than those for broken parameters. */
#include "hs/failure.h"

#include <openssl/err.h>

struct failure_row {
    int number;
    int code;
    const char *text;
};

static const struct failure_row psk_alerts[] = {
    {SSL_AD_HANDSHAKE_FAILURE, SMT_EPSK,
     "the peer does not know our pre-shared key's identity, or uses certificates"},
    {SSL_AD_UNKNOWN_PSK_IDENTITY, SMT_EPSK, "the peer does not know our pre-shared key's identity"},
    {SSL_AD_ILLEGAL_PARAMETER, SMT_EPSK,
     "the peer's key for our pre-shared key's identity differs from ours"},
    {SSL_AD_DECRYPT_ERROR, SMT_EPSK,
     "the peer's key for our pre-shared key's identity differs from ours"},
    {SSL_AD_BAD_CERTIFICATE, SMT_EPSK, "the peer uses a pre-shared key, not certificates"},
};

static const struct failure_row alerts[] = {
    {SSL_AD_CLOSE_NOTIFY, SMT_ECLOSED, "the peer ended the handshake"},
    {SSL_AD_USER_CANCELLED, SMT_ECLOSED, "the peer ended the handshake"},
    {SSL_AD_HANDSHAKE_FAILURE, SMT_EAUTH,
     "the peer refused: no TLS cipher, group, signature algorithm or kind of credentials in "
     "common"},
    {SSL_AD_BAD_CERTIFICATE, SMT_ECERT,
     "the peer refused our certificate: it is for another name, its key is not pinned there, or it "
     "cannot be read"},
    {SSL_AD_UNSUPPORTED_CERTIFICATE, SMT_ECERT,
     "the peer refused our certificate: not for this use (extendedKeyUsage) or of an unsupported "
     "kind"},
    {SSL_AD_CERTIFICATE_REVOKED, SMT_ECERT, "the peer refused our certificate: revoked"},
    {SSL_AD_CERTIFICATE_EXPIRED, SMT_EEXPIRED,
     "the peer refused our certificate: expired or not yet valid"},
    {SSL_AD_CERTIFICATE_UNKNOWN, SMT_ECERT, "the peer refused our certificate"},
    {SSL_AD_UNKNOWN_CA, SMT_ECERT,
     "the peer refused our certificate: it does not trust the authority that signed it"},
    {SSL_AD_CERTIFICATE_REQUIRED, SMT_ECERT,
     "the peer demands a certificate: give cert_file and key_file"},
    {SSL_AD_ACCESS_DENIED, SMT_EAUTH, "the peer refused: access denied"},
    {SSL_AD_DECRYPT_ERROR, SMT_EAUTH, "the peer could not verify our signature or Finished"},
    {SSL_AD_INSUFFICIENT_SECURITY, SMT_EAUTH, "the peer refused: no cipher in common"},
    {SSL_AD_PROTOCOL_VERSION, SMT_EVERSION,
     "the peer refused: no version of TLS or smt2 in common"},
    {SSL_AD_NO_APPLICATION_PROTOCOL, SMT_EVERSION, "the peer refused: it does not speak smt/2"},
    {SSL_AD_MISSING_EXTENSION, SMT_EPROTO, "the peer refused: an extension is missing"},
    {SSL_AD_INTERNAL_ERROR, SMT_EAUTH, "the peer failed with an internal error"},
};

static const struct failure_row reasons[] = {
    {SSL_R_UNSUPPORTED_PROTOCOL, SMT_EVERSION, "the peer does not offer TLS 1.3"},
    {SSL_R_WRONG_SSL_VERSION, SMT_EVERSION, "the peer does not offer TLS 1.3"},
    {SSL_R_VERSION_TOO_LOW, SMT_EVERSION, "the peer does not offer TLS 1.3"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, SMT_ECERT, "the peer has no certificate"},
    {SSL_R_NO_SHARED_CIPHER, SMT_EAUTH, "no TLS cipher in common with the peer"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, SMT_EAUTH, "no key exchange group in common with the peer"},
    {SSL_R_NO_SHARED_GROUPS, SMT_EAUTH, "no key exchange group in common with the peer"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, SMT_EAUTH,
     "no signature algorithm in common with the peer, or we have no certificate for it"},
    {SSL_R_NO_CERTIFICATE_SET, SMT_ECREDENTIALS, "we have no certificate to show"},
    {SSL_R_BAD_SIGNATURE, SMT_EAUTH, "the peer does not have the key of its certificate"},
    {SSL_R_DIGEST_CHECK_FAILED, SMT_EAUTH, "the peer's Finished is wrong"},
    {SSL_R_EE_KEY_TOO_SMALL, SMT_ECERT, "the key of the peer's certificate is too small"},
    {SSL_R_CA_KEY_TOO_SMALL, SMT_ECERT, "a key above the peer's certificate is too small"},
    {SSL_R_CA_MD_TOO_WEAK, SMT_ECERT, "the peer's certificate is signed over a weak hash"},
    {SSL_R_BINDER_DOES_NOT_VERIFY, SMT_EPSK,
     "the peer's key for the pre-shared key's identity differs from ours"},
    {SSL_R_BAD_PSK, SMT_EPSK, "the peer's pre-shared key is malformed"},
    {SSL_R_CERTIFICATE_VERIFY_FAILED, SMT_ECERT, "the peer's certificate is not accepted"},
    {SSL_R_EXCESSIVE_MESSAGE_SIZE, SMT_EPROTO, "the peer's handshake message is too long"},
    {SSL_R_CERT_CB_ERROR, SMT_ECREDENTIALS, "a callback of the application's SSL_CTX failed"},
};

static const struct failure_row *row_find(const struct failure_row *rows, size_t n, int number)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].number == number)
            return &rows[i];
    return NULL;
}

/* OpenSSL reports an alert as this reason plus its number. */
enum { ALERT_REASON_BASE = SSL_AD_REASON_OFFSET, ALERT_REASON_END = SSL_AD_REASON_OFFSET + 256 };

/* What a peer says when our bytes came to it damaged; one that means it says so again. Versions are
 * settled by the hello: of a later flight it can only be damage. */
static bool is_of_damage(const struct smt_hs *hs, int alert)
{
    switch (alert) {
    case SSL_AD_PROTOCOL_VERSION:
        return hs->state == SMT_HS_DONE;
    case SSL_AD_UNEXPECTED_MESSAGE:
    case SSL_AD_BAD_RECORD_MAC:
    case SSL_AD_RECORD_OVERFLOW:
    case SSL_AD_DECODE_ERROR:
        return true;
    default:
        return false;
    }
}

static void note_alert(struct smt_hs *hs, int alert)
{
    const struct failure_row *row = NULL;
    if (hs->creds->kind == SMT_CREDS_PSK)
        row = row_find(psk_alerts, SMT_ARRAY_LEN(psk_alerts), alert);
    if (row == NULL)
        row = row_find(alerts, SMT_ARRAY_LEN(alerts), alert);
    if (is_of_damage(hs, alert))
        hs->blame = SMT_HS_BLAME_DAMAGE;
    if (row == NULL)
        smt_hs_fail(hs, SMT_EAUTH, "the peer refused with TLS alert %d (%s)", alert,
                    SSL_alert_desc_string_long(alert));
    else if (row->code == SMT_EPSK && hs->psk_identity[0] != '\0')
        smt_hs_fail(hs, row->code, "%s (%s)", row->text, hs->psk_identity);
    else
        smt_hs_fail(hs, row->code, "%s", row->text);
}

/* A responder with keys only. What OpenSSL misses without a matching key is a certificate; what the
 * user misses is the key. */
static bool note_psk(struct smt_hs *hs, int reason)
{
    bool no_match = reason == SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM ||
                    reason == SSL_R_NO_SHARED_CIPHER || reason == SSL_R_NO_CERTIFICATE_SET;
    if (hs->creds->kind != SMT_CREDS_PSK || hs->initiator || !no_match ||
        hs->psk_identity[0] != '\0')
        return false;
    if (hs->psk_offered[0] != '\0')
        smt_hs_fail(hs, SMT_EPSK,
                    "the peer's pre-shared key identity \"%s\" is not in our psk_file",
                    hs->psk_offered);
    else
        smt_hs_fail(hs, SMT_EPSK, "the peer offers no pre-shared key that we could use");
    return true;
}

static void reason_note(struct smt_hs *hs)
{
    unsigned long error = ERR_peek_error(); /* the oldest: what follows is how it was passed up */
    if (error == 0) {
        note_alert(hs, SSL_AD_CLOSE_NOTIFY);
        return;
    }
    int reason = ERR_GET_REASON(error);
    if (reason == ERR_R_MALLOC_FAILURE) {
        smt_hs_fail(hs, SMT_ENOMEM, "out of memory during the handshake");
        return;
    }
    bool is_ssl = ERR_GET_LIB(error) == ERR_LIB_SSL;
    if (is_ssl && reason >= ALERT_REASON_BASE && reason < ALERT_REASON_END) {
        note_alert(hs, reason - ALERT_REASON_BASE);
        return;
    }
    if (is_ssl && note_psk(hs, reason))
        return;
    const struct failure_row *row =
        is_ssl ? row_find(reasons, SMT_ARRAY_LEN(reasons), reason) : NULL;
    const char *words = ERR_reason_error_string(error);
    if (row == NULL)
        hs->blame = SMT_HS_BLAME_DAMAGE;
    if (row == NULL)
        smt_hs_fail(hs, SMT_EPROTO, "the peer's handshake is damaged: %s",
                    words != NULL ? words : "unknown reason");
    else if (row->code == SMT_EPSK && hs->psk_identity[0] != '\0')
        smt_hs_fail(hs, row->code, "%s (%s)", row->text, hs->psk_identity);
    else
        smt_hs_fail(hs, row->code, "%s", row->text);
}

void smt_failure_note(struct smt_hs *hs)
{
    if (hs->code != 0)
        return;
    reason_note(hs);
    /* Nothing is protected before a cipher has been agreed on. */
    if (hs->blame == SMT_HS_BLAME_PEER && SSL_get_current_cipher(hs->ssl) == NULL)
        hs->blame = SMT_HS_BLAME_NOBODY;
}
