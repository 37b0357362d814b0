/* How OpenSSL is set up. As much as possible is set on the SSL and not on the SSL_CTX, so that an
 * application's own SSL_CTX is changed as little as can be: only what has no setter on an SSL (the
 * choice of ALPN, the extension) goes there, and finds out by ex_data whether a connection is ours.
 *
 * Nothing follows the handshake but, where credentials resume (resume.c), one ticket; no early data
 * unless they are wanted there, no post-handshake authentication. The session id context keeps
 * sessions that an application's server made elsewhere from being resumed here. Middlebox
 * compatibility is off; it would only add bytes.
 *
 * Pre-shared keys always run under TLS_AES_128_GCM_SHA256: TLS binds an external key to one hash,
 * and OpenSSL offers a key under one hash only, so two ends with different cipher lists would
 * not meet. The TLS cipher protects nothing but the handshake's own flights; data keys come from
 * the exporter over (EC)DHE and the PSK, whichever AES they are for.
 *
 * X25519 leads: 2 to 9 % less CPU for the whole handshake than P-256 (tests/bench/bench_hs.c) and
 * 33 bytes less in each direction. Where a FIPS provider has no X25519, P-256 stands alone. */
#include "hs/tls_ctx.h"

#include <pthread.h>
#include <string.h>

#include <openssl/err.h>

#include "hs/params_ext.h"
#include "hs/verify.h"

static const unsigned char alpn[] = "\x05smt/2";
static const unsigned char psk_cipher_id[2] = {0x13, 0x01};
static const char psk_ciphersuite[] = "TLS_AES_128_GCM_SHA256";
static const unsigned char session_context[] = "smt2";

enum { ALPN_LEN = sizeof(alpn) - 1, MAX_CHAIN_DEPTH = 5 };

static pthread_once_t indices_made = PTHREAD_ONCE_INIT;
static pthread_mutex_t adopting = PTHREAD_MUTEX_INITIALIZER;
static int ssl_index = -1, ctx_index = -1;

static void make_indices(void)
{
    ssl_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    ctx_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static bool have_indices(void)
{
    return pthread_once(&indices_made, make_indices) == 0 && ssl_index >= 0 && ctx_index >= 0;
}

struct smt_hs *smt_tls_hs(const SSL *ssl)
{
    return SSL_get_ex_data(ssl, ssl_index);
}

static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    struct smt_hs *hs = smt_tls_hs(ssl);
    if (hs == NULL)
        return SSL_TLSEXT_ERR_NOACK;
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_len, alpn, ALPN_LEN, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED) {
        smt_hs_fail(hs, SMT_EVERSION, "the peer does not speak smt/2 (it offers another ALPN)");
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

bool smt_tls_has_alpn(const SSL *ssl)
{
    const unsigned char *chosen;
    unsigned len;
    SSL_get0_alpn_selected(ssl, &chosen, &len);
    return len == ALPN_LEN - 1 && memcmp(chosen, alpn + 1, len) == 0;
}

/* ex_data of the SSL_CTX tells our extension from one that the application put there itself. */
static bool hook(SSL_CTX *tls)
{
    if (SSL_CTX_get_ex_data(tls, ctx_index) != NULL)
        return true;
    if (SSL_CTX_add_custom_ext(tls, SMT_PARAMS_EXT_TYPE,
                               SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS |
                                   SSL_EXT_TLS1_3_NEW_SESSION_TICKET,
                               smt_params_ext_add, NULL, NULL, smt_params_ext_parse, NULL) != 1 ||
        SSL_CTX_set_ex_data(tls, ctx_index, &adopting) != 1)
        return false;
    SSL_CTX_set_alpn_select_cb(tls, alpn_select, NULL);
    return true;
}

int smt_tls_ctx_adopt(SSL_CTX *tls, const struct smt_error_line *line)
{
    if (!have_indices())
        return smt_error_line(line, SMT_ECRYPTO, "OpenSSL gave no ex_data index");
    const SSL_METHOD *method = SSL_CTX_get_ssl_method(tls);
    if (method != TLS_method() && method != TLS_client_method() && method != TLS_server_method())
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "the SSL_CTX cannot do TLS 1.3: make it with TLS_method()");
    pthread_mutex_lock(&adopting);
    bool ok = hook(tls);
    pthread_mutex_unlock(&adopting);
    ERR_clear_error();
    if (!ok)
        return smt_error_line(line, SMT_ECREDENTIALS,
                              "the SSL_CTX has an extension 0x%x of its own: give another SSL_CTX",
                              SMT_PARAMS_EXT_TYPE);
    return 0;
}

static SSL_SESSION *psk_session(SSL *ssl, const struct smt_psk *psk)
{
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, psk_cipher_id);
    SSL_SESSION *session = SSL_SESSION_new();
    if (cipher != NULL && session != NULL &&
        SSL_SESSION_set1_master_key(session, psk->key, psk->key_len) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

static int psk_use(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
                   SSL_SESSION **session)
{
    struct smt_hs *hs = smt_tls_hs(ssl);
    const struct smt_psk *psk = &hs->creds->psks.entries[0];
    *session = psk_session(ssl, psk);
    if (*session == NULL)
        return 0;
    strcpy(hs->psk_identity, psk->identity);
    *id = (const unsigned char *)psk->identity;
    *id_len = strlen(psk->identity);
    return 1;
}

static int psk_find(SSL *ssl, const unsigned char *identity, size_t len, SSL_SESSION **session)
{
    struct smt_hs *hs = smt_tls_hs(ssl);
    const struct smt_psk *psk = smt_psk_find(&hs->creds->psks, identity, len);
    *session = NULL;
    if (psk == NULL) { /* the handshake goes on without, and fails for want of a certificate */
        size_t n = len < SMT_PSK_MAX_IDENTITY ? len : SMT_PSK_MAX_IDENTITY;
        memcpy(hs->psk_offered, identity, n);
        hs->psk_offered[n] = '\0';
        return 1;
    }
    strcpy(hs->psk_identity, psk->identity);
    *session = psk_session(ssl, psk);
    return *session != NULL;
}

static SSL_CTX *ctx_new(const char *ciphersuites)
{
    if (!have_indices())
        return NULL;
    SSL_CTX *tls = SSL_CTX_new(TLS_method());
    if (tls == NULL)
        return NULL;
    SSL_CTX_set_cert_verify_callback(tls, smt_verify_chain, NULL);
    SSL_CTX_set_verify_depth(tls, MAX_CHAIN_DEPTH);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    if (SSL_CTX_set_ciphersuites(tls, ciphersuites) == 1 &&
        (SSL_CTX_set1_groups_list(tls, "X25519:P-256") == 1 ||
         SSL_CTX_set1_groups_list(tls, "P-256") == 1) &&
        hook(tls))
        return tls;
    SSL_CTX_free(tls);
    return NULL;
}

SSL_CTX *smt_tls_ctx_new(const enum smt_aead_alg *algs, unsigned n_algs)
{
    static const char aes128[] = "TLS_AES_128_GCM_SHA256", aes256[] = "TLS_AES_256_GCM_SHA384";
    char list[sizeof(aes128) + sizeof(aes256)] = "";
    for (unsigned i = 0; i < n_algs; i++) {
        const char *name = algs[i] == SMT_AEAD_AES256_GCM ? aes256 : aes128;
        if (strstr(list, name) != NULL)
            continue;
        if (list[0] != '\0')
            strcat(list, ":");
        strcat(list, name);
    }
    return ctx_new(list);
}

SSL_CTX *smt_tls_ctx_new_psk(void)
{
    SSL_CTX *tls = ctx_new(psk_ciphersuite);
    if (tls != NULL) {
        SSL_CTX_set_psk_use_session_callback(tls, psk_use);
        SSL_CTX_set_psk_find_session_callback(tls, psk_find);
    }
    return tls;
}

static int verify_mode(const struct smt_hs *hs)
{
    const struct smt_creds *creds = hs->creds;
    if (hs->initiator)
        return SSL_VERIFY_PEER;
    if (!creds->client_cert_optional)
        return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    bool can_verify = creds->kind != SMT_CREDS_FILES || creds->has_ca || creds->pins.n > 0;
    return can_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
}

/* A client compares the context too, with that of its PSK's session, which has none. */
static bool resumption_off(SSL *ssl, bool initiator)
{
    return SSL_set_num_tickets(ssl, 0) == 1 && SSL_set_max_early_data(ssl, 0) == 1 &&
           SSL_set_recv_max_early_data(ssl, 0) == 1 &&
           SSL_set_session_id_context(ssl, session_context,
                                      initiator ? 0 : sizeof(session_context) - 1) == 1;
}

static bool limits_set(SSL *ssl)
{
    SSL_clear_options(ssl, SSL_OP_NO_TLSv1_3 | SSL_OP_ENABLE_MIDDLEBOX_COMPAT |
                               SSL_OP_ALLOW_NO_DHE_KEX | SSL_OP_ENABLE_KTLS);
    SSL_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_set_post_handshake_auth(ssl, 0);
    SSL_set_max_cert_list(ssl, SMT_HS_MAX_IO);
    return SSL_set_min_proto_version(ssl, TLS1_3_VERSION) == 1 &&
           SSL_set_max_proto_version(ssl, TLS1_3_VERSION) == 1;
}

int smt_tls_new(struct smt_hs *hs)
{
    hs->ssl = SSL_new(hs->creds->tls);
    hs->in = BIO_new(BIO_s_mem());
    hs->out = BIO_new(BIO_s_mem());
    if (hs->ssl == NULL || hs->in == NULL || hs->out == NULL) {
        BIO_free(hs->in);
        BIO_free(hs->out);
        return SMT_ENOMEM;
    }
    SSL_set0_rbio(hs->ssl, hs->in);
    SSL_set0_wbio(hs->ssl, hs->out);
    if (SSL_set_ex_data(hs->ssl, ssl_index, hs) != 1 || !limits_set(hs->ssl) ||
        !resumption_off(hs->ssl, hs->initiator))
        return SMT_ECRYPTO;
    SSL_set_verify(hs->ssl, verify_mode(hs), smt_verify_step);
    if (!hs->initiator) {
        SSL_set_accept_state(hs->ssl);
        return 0;
    }
    SSL_set_connect_state(hs->ssl);
    if (SSL_set_alpn_protos(hs->ssl, alpn, ALPN_LEN) != 0)
        return SMT_ECRYPTO;
    return smt_verify_set_name(hs);
}
