/* The inside of a handshake, for this layer only. */
#ifndef SMT_HS_HS_IMPL_H
#define SMT_HS_HS_IMPL_H

#include "hs/creds.h"

enum {
    SMT_HS_MAX_IO = 65536,        /* bytes of TLS in each direction, all in all */
    SMT_HS_PEER_BLOCK_MAX = 1024, /* room for parameters that a later peer adds */
    SMT_HS_NAME_MAX = 256,
    SMT_HS_TEXT_MAX = 512,
};

/* A parameter block as its bytes: they go into the key derivation. */
struct smt_hs_block {
    uint8_t bytes[SMT_HS_PEER_BLOCK_MAX];
    size_t len; /* 0: not there yet */
};

struct smt_hs {
    SSL *ssl;
    BIO *in, *out; /* the SSL's */
    struct smt_creds *creds;
    bool initiator;
    enum smt_hs_state state;
    size_t n_in;

    struct smt_params own, peer;
    struct smt_hs_block own_block, peer_block;
    uint64_t initiator_id;
    enum smt_aead_alg alg;

    bool tries_early; /* the first flight is still to be made, or taken, with early data in mind */
    bool has_early;   /* initiator: offered; responder: accepted */
    uint8_t early_alg;
    bool awaits_ticket;                          /* initiator: one may come after the end */
    struct smt_ticket_note note; /* beside the ticket that an initiator used */
    struct smt_ticket_note next; /* the token for the next handshake: to be given, or as it came */
    uint8_t ticket_key[SMT_TICKET_KEY_LEN];      /* whom an initiator's tickets are of */
    char verify_name[SMT_HS_NAME_MAX];           /* "" = any */
    char psk_identity[SMT_PSK_MAX_IDENTITY + 1]; /* of the key in use, "" = none */
    char psk_offered[SMT_PSK_MAX_IDENTITY + 1];  /* what the peer offered and we have not */

    int code; /* why it failed, 0 = it did not */
    enum smt_hs_blame blame;
    char text[SMT_HS_TEXT_MAX];
};

/* Notes why the handshake fails; the first reason stays, the others follow from it. Returns the
 * reason's code. */
int smt_hs_fail(struct smt_hs *hs, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
