/* What the two sides agree on beside TLS: version, ids, cipher. The responder decides when it
 * parses the ClientHello, so that a refusal is an alert in place of its first flight; the initiator
 * checks the answer inside the encrypted extensions. The bytes of both blocks are kept as they were
 * sent, for the key derivation must see what went over the wire and not what we understood of it.
 *
 * A missing extension calls nobody here: hs.c looks for it. The same extension of a ticket is the
 * token; one of another length is none, for a ticket is good without. */
#include "hs/params_ext.h"

#include <string.h>

#include "base/bytes.h"
#include "hs/tls_ctx.h"
#include "wire/wire.h"

static bool in_list(const uint8_t *list, unsigned n, unsigned value)
{
    return memchr(list, (int)value, n) != NULL;
}

static const char *cipher_name(unsigned alg)
{
    switch (alg) {
    case SMT_AEAD_AES128_GCM:
        return "aes-128-gcm";
    case SMT_AEAD_AES256_GCM:
        return "aes-256-gcm";
    default:
        return "unknown";
    }
}

static bool is_cipher(unsigned alg)
{
    return alg == SMT_AEAD_AES128_GCM || alg == SMT_AEAD_AES256_GCM;
}

/* The initiator's best that we take. */
static int responder_pick(struct smt_hs *hs, int *alert)
{
    for (unsigned i = 0; i < hs->peer.n_ciphers; i++) {
        unsigned alg = hs->peer.ciphers[i];
        if (!is_cipher(alg) || !in_list(hs->own.ciphers, hs->own.n_ciphers, alg))
            continue;
        hs->alg = (enum smt_aead_alg)alg;
        hs->own.ciphers[0] = (uint8_t)alg;
        hs->own.n_ciphers = 1;
        int rc = smt_params_ext_encode(hs);
        if (rc < 0)
            *alert = SSL_AD_INTERNAL_ERROR;
        return rc < 0 ? smt_hs_fail(hs, rc, "our own parameters cannot be encoded") : 0;
    }
    *alert = SSL_AD_INSUFFICIENT_SECURITY;
    return smt_hs_fail(hs, SMT_EAUTH, "no cipher in common: the peer's best is %s, ours is %s",
                       cipher_name(hs->peer.ciphers[0]), cipher_name(hs->own.ciphers[0]));
}

static int initiator_check_pick(struct smt_hs *hs, int *alert)
{
    unsigned alg = hs->peer.ciphers[0];
    if (hs->peer.n_ciphers == 1 && is_cipher(alg) &&
        in_list(hs->own.ciphers, hs->own.n_ciphers, alg)) {
        hs->alg = (enum smt_aead_alg)alg;
        return 0;
    }
    *alert = SSL_AD_ILLEGAL_PARAMETER;
    return smt_hs_fail(hs, SMT_EPROTO, "the peer chose %s, which was not offered",
                       hs->peer.n_ciphers == 1 ? cipher_name(alg) : "more than one cipher");
}

static int peer_check(struct smt_hs *hs, int *alert)
{
    if (!in_list(hs->peer.versions, hs->peer.n_versions, SMT_WIRE_VERSION) ||
        !in_list(hs->own.versions, hs->own.n_versions, SMT_WIRE_VERSION)) {
        *alert = SSL_AD_PROTOCOL_VERSION;
        return smt_hs_fail(hs, SMT_EVERSION,
                           "no protocol version in common: ours is %d, the peer's first is %d",
                           SMT_WIRE_VERSION, hs->peer.versions[0]);
    }
    if (hs->peer.session_id == 0 || (!hs->initiator && hs->peer.session_id != hs->initiator_id)) {
        *alert = SSL_AD_ILLEGAL_PARAMETER;
        return smt_hs_fail(hs, SMT_EPROTO,
                           "the peer's session id in its parameters is not that of its packets");
    }
    return hs->initiator ? initiator_check_pick(hs, alert) : responder_pick(hs, alert);
}

int smt_params_ext_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
                       size_t *out_len, X509 *cert, size_t chain_index, int *alert, void *arg)
{
    const struct smt_hs *hs = smt_tls_hs(ssl);
    if (hs == NULL)
        return 0;
    if ((context & SSL_EXT_TLS1_3_NEW_SESSION_TICKET) != 0) {
        *out = hs->next.token;
        *out_len = sizeof(hs->next.token);
        return hs->next.has_token ? 1 : 0;
    }
    *out = hs->own_block.bytes;
    *out_len = hs->own_block.len;
    return 1;
}

static void token_came(struct smt_hs *hs, const unsigned char *in, size_t len)
{
    hs->next.has_token = len == sizeof(hs->next.token);
    if (hs->next.has_token)
        memcpy(hs->next.token, in, len);
}

int smt_params_ext_parse(SSL *ssl, unsigned type, unsigned context, const unsigned char *in,
                         size_t len, X509 *cert, size_t chain_index, int *alert, void *arg)
{
    struct smt_hs *hs = smt_tls_hs(ssl);
    if (hs == NULL)
        return 1;
    if ((context & SSL_EXT_TLS1_3_NEW_SESSION_TICKET) != 0) {
        token_came(hs, in, len);
        return 1;
    }
    struct smt_hs_block *block = &hs->peer_block;
    if (block->len > 0) { /* the second ClientHello after a HelloRetryRequest */
        if (block->len == len && memcmp(block->bytes, in, len) == 0)
            return 1;
        *alert = SSL_AD_ILLEGAL_PARAMETER;
        smt_hs_fail(hs, SMT_EPROTO, "the peer changed its parameters during the handshake");
        return 0;
    }
    if (len == 0 || len > sizeof(block->bytes) || smt_params_decode(in, len, &hs->peer) < 0) {
        *alert = SSL_AD_DECODE_ERROR;
        smt_hs_fail(hs, SMT_EPROTO, "the peer's transport parameters are malformed or incomplete");
        return 0;
    }
    memcpy(block->bytes, in, len);
    block->len = len;
    return peer_check(hs, alert) == 0;
}

int smt_params_ext_encode(struct smt_hs *hs)
{
    int len = smt_params_encode(&hs->own, hs->own_block.bytes, sizeof(hs->own_block.bytes));
    if (len < 0)
        return len;
    hs->own_block.len = (size_t)len;
    return 0;
}

int smt_params_ext_context(const struct smt_hs *hs, uint8_t out[32])
{
    const struct smt_hs_block *i_block = hs->initiator ? &hs->own_block : &hs->peer_block;
    const struct smt_hs_block *r_block = hs->initiator ? &hs->peer_block : &hs->own_block;
    const struct smt_params *i_params = hs->initiator ? &hs->own : &hs->peer;
    const struct smt_params *r_params = hs->initiator ? &hs->peer : &hs->own;

    uint8_t head[1 + 8 + 8 + 2], r_len[2];
    head[0] = SMT_WIRE_VERSION;
    smt_put_be64(head + 1, i_params->session_id);
    smt_put_be64(head + 9, r_params->session_id);
    smt_put_be16(head + 17, (uint16_t)i_block->len);
    smt_put_be16(r_len, (uint16_t)r_block->len);
    uint8_t alg = (uint8_t)hs->alg;
    const struct smt_aead_in in[] = {
        {.p = head, .len = sizeof(head)},   {.p = i_block->bytes, .len = i_block->len},
        {.p = r_len, .len = sizeof(r_len)}, {.p = r_block->bytes, .len = r_block->len},
        {.p = &alg, .len = sizeof(alg)},
    };
    return smt_sha256(in, SMT_ARRAY_LEN(in), out);
}

int smt_params_ext_early_context(const struct smt_hs *hs, uint8_t alg, uint8_t out[32])
{
    const struct smt_hs_block *block = hs->initiator ? &hs->own_block : &hs->peer_block;
    uint8_t head[1 + 8 + 2];
    head[0] = SMT_WIRE_VERSION;
    smt_put_be64(head + 1, (hs->initiator ? &hs->own : &hs->peer)->session_id);
    smt_put_be16(head + 9, (uint16_t)block->len);
    const struct smt_aead_in in[] = {
        {.p = head, .len = sizeof(head)},
        {.p = block->bytes, .len = block->len},
        {.p = &alg, .len = sizeof(alg)},
    };
    return smt_sha256(in, SMT_ARRAY_LEN(in), out);
}
