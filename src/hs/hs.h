/* The handshake: TLS 1.3 by OpenSSL over memory buffers. Bytes and time in, bytes, keys and
 * identity out. It does no I/O and keeps no timers; core carries the bytes (docs/wire.md 6). One
 * smt_hs belongs to one thread; an smt_creds is shared by all endpoints of a context, read-only
 * after it was made. */
#ifndef SMT_HS_HS_H
#define SMT_HS_HS_H

#include <openssl/ssl.h>

#include "crypto/schedule.h"
#include "wire/params.h"

struct smt_creds;
struct smt_hs;

enum smt_hs_auth {
    SMT_HS_AUTH_NONE, /* a client without certificate, which client_cert_optional allows */
    SMT_HS_AUTH_CERT, /* signed by ca (and pinned, when there are pins too) */
    SMT_HS_AUTH_PIN,  /* pinned key; names and issuers were not looked at, dates were */
    SMT_HS_AUTH_PSK,
};

/* All strings borrowed for the call; the files are read once. See struct smt_ctx_config. Exactly
 * one kind: files (cert and key, or neither for a pure client; ca and/or pins, or neither for a
 * server that takes anybody because of client_cert_optional), psk_file, or ssl_ctx. Of several
 * lines in a psk_file an initiator uses the first, a responder takes any. */
struct smt_creds_config {
    const char *cert_file, *key_file, *ca_file, *crl_file, *psk_file, *pins;
    bool client_cert_optional;
    const enum smt_aead_alg *algs; /* in order of preference */
    unsigned n_algs;
    bool resume; /* of files: give tickets, keep and use those of others */
    bool early;  /* and then early data: offered where a ticket allows it, taken once each */
    uint32_t ticket_lifetime_s; /* 0 = an hour */
    SSL_CTX *ssl_ctx; /* the application's own instead of files; a reference is taken */
    char *error_text; /* one line on failure that says what to do */
    size_t error_text_len;
};

/* Reads and checks credentials: SMT_ECREDENTIALS, SMT_EFILE, SMT_EEXPIRED … *out is given. Like
 * every call here it leaves the thread's OpenSSL error queue empty. An ssl_ctx gets our ALPN and
 * extension callbacks, which do nothing on the application's own connections; do it before other
 * threads use that ssl_ctx. */
SMT_MUST_CHECK int smt_creds_new(const struct smt_creds_config *config, struct smt_creds **out);

/* One reference more, given; from any thread. */
struct smt_creds *smt_creds_ref(struct smt_creds *creds);

/* Gives a reference back; with the last one they are freed. NULL is allowed. */
void smt_creds_free(struct smt_creds *creds);

/* SSLKEYLOGFILE was set when they were made: the secrets of all handshakes go to that file, except
 * those of an ssl_ctx, whose logging is the application's business. Warn the user. */
bool smt_creds_logs_keys(const struct smt_creds *creds);

struct smt_hs_config {
    struct smt_creds *creds; /* borrowed: the handshake takes a reference */
    bool initiator;
    /* Initiator: name or IP address that the peer must prove, copied; NULL = any that the CA
     * signed. */
    const char *verify_name;
    /* Initiator: where the peer is, as bytes without meaning here. Tickets are kept for the name
     * at this place. */
    const void *peer;
    size_t peer_len;
    bool full; /* no ticket is used, though one may be kept */
    /* Responder: SMT_COOKIE_LEN bytes that go with a ticket, which prove the peer's address next
     * time. NULL = none. Borrowed for the call. */
    const uint8_t *token;
    /* Ours. A responder's `ciphers` are what it is willing to take. */
    struct smt_params params;
    uint64_t initiator_id; /* responder: the peer's id as its HANDSHAKE packets said */
};

/* SMT_ECREDENTIALS when the credentials cannot play this role (no certificate as responder, nothing
 * to verify with as initiator), SMT_EINVAL for params without id, version or cipher. *out is given.
 */
SMT_MUST_CHECK int smt_hs_new(const struct smt_hs_config *config, struct smt_hs **out);

/* Frees and wipes. NULL allowed. */
void smt_hs_free(struct smt_hs *hs);

enum smt_hs_state {
    SMT_HS_RUNNING, /* needs bytes of the peer */
    SMT_HS_DONE,    /* peer verified (its Finished too); smt_hs_result may be called */
    SMT_HS_FAILED,
};

/* Takes the next TLS bytes of the peer, in order (NULL, 0 to start an initiator) and runs. Returns
 * an smt_hs_state, or a negative code once when it fails (SMT_EAUTH band, SMT_EVERSION, SMT_EPROTO;
 * smt_hs_error_text says more). Bytes to send may be waiting after any outcome: an alert after
 * failure. An initiator is DONE before the responder has judged its certificate: what still comes
 * until the first authentic packet is put in here too, and the refusal that it may hold turns DONE
 * into FAILED. */
int smt_hs_input(struct smt_hs *hs, const uint8_t *bytes, size_t len);

/* Bytes to send: copies up to cap, returns how many; 0 = none. */
size_t smt_hs_output(struct smt_hs *hs, uint8_t *out, size_t cap);

/* On whose word a handshake failed. */
enum smt_hs_blame {
    SMT_HS_BLAME_PEER,    /* the peer's, or our judgement of it: the next one will end like this */
    SMT_HS_BLAME_DAMAGE,  /* bytes were damaged or forged on the way, in either direction */
    SMT_HS_BLAME_NOBODY,  /* bytes in clear that anybody on the path could have sent */
};
enum smt_hs_blame smt_hs_blame(const struct smt_hs *hs);

/* One clear line on the failure, "" before. Borrowed until free. */
const char *smt_hs_error_text(const struct smt_hs *hs);

/* The token that came with the ticket which an initiator uses, borrowed until free; NULL = none. */
const uint8_t *smt_hs_token(const struct smt_hs *hs);

/* It needs more bytes of the peer before it is DONE. */
bool smt_hs_is_running(const struct smt_hs *hs);

/* Early data (docs/wire.md 6.6) is offered, by an initiator whose hello waits to be sent; or it is
 * accepted, by a responder whose first flight does, and then smt_hs_result has its answer already,
 * for the peer is the holder of a ticket; that it is there, only DONE says. */
bool smt_hs_has_early(const struct smt_hs *hs);

/* The secret for it, which the caller wipes, and its cipher. SMT_ESTATE when there is none. */
SMT_MUST_CHECK int smt_hs_early_secret(const struct smt_hs *hs, enum smt_aead_alg *alg,
                                       uint8_t out[SMT_SECRET_LEN]);

/* An initiator that is DONE: was what it offered accepted? */
bool smt_hs_early_taken(const struct smt_hs *hs);

/* A responder whose last bytes hold a ticket. */
bool smt_hs_gives_ticket(const struct smt_hs *hs);

/* An initiator that is DONE wants what comes after: a ticket for the next handshake. Bytes go into
 * smt_hs_input as before; once it has one, or has failed, there is nothing more to want. */
bool smt_hs_awaits_ticket(const struct smt_hs *hs);

struct smt_hs_result {
    uint8_t secret[SMT_SECRET_LEN]; /* secret of epoch 1: the caller wipes it */
    enum smt_aead_alg alg;
    struct smt_params peer;
    enum smt_hs_auth auth;
    bool resumed;                /* by a ticket: the identity is that of the handshake before */
    char identity[256];          /* subject or PSK identity, "" without either */
    uint8_t peer_key_sha256[32]; /* of the SPKI; zero without certificate */
};

/* After SMT_HS_DONE (or early data), SMT_ESTATE before. An initiator compares peer.session_id with
 * the id in the peer's packets. */
SMT_MUST_CHECK int smt_hs_result(struct smt_hs *hs, struct smt_hs_result *out);

/* The peer's certificate, one reference more, or NULL. */
X509 *smt_hs_peer_cert(const struct smt_hs *hs);

#endif
