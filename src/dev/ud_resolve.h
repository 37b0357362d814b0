/* The resolve exchange: what two `ud` devices tell each other before their first packet.
 *
 * Messages of one fixed size on UDP, from and to the endpoints' own port numbers (docs/wire.md,
 * UD). This file knows the bytes, the proofs and the limits; it owns no socket and no table. All of
 * it is pure: time and secrets come in. */
#ifndef SMT_DEV_UD_RESOLVE_H
#define SMT_DEV_UD_RESOLVE_H

#include "base/addr.h"
#include "base/defs.h"

enum {
    SMT_UD_MSG_LEN = 64,
    /* What messages for one of several endpoints are steered by: the number that a QUERY wants, the
     * top byte of the echo of all others. */
    SMT_UD_KIND_AT = 5,
    SMT_UD_WANTED_AT = 7,
    SMT_UD_ECHO_AT = 48,
};

enum smt_ud_msg_kind { SMT_UD_QUERY = 1, SMT_UD_ANSWER = 2, SMT_UD_ACK = 3 };
enum smt_ud_link { SMT_UD_LINK_ROCE = 1, SMT_UD_LINK_IB = 2 };

/* One message, host order. */
struct smt_ud_msg {
    uint8_t kind; /* enum smt_ud_msg_kind */
    uint8_t link; /* enum smt_ud_link */
    uint16_t port;
    uint16_t lid; /* 0 on RoCE */
    uint32_t mtu;
    uint32_t qpn, qkey;
    uint8_t gid[16];
    uint64_t nonce; /* the sender's own; proof of the other side's address when it comes back */
    uint64_t echo;  /* the receiver's; 0 in a QUERY */
    /* Where several endpoints share a port: the one that a QUERY is for, else 0; which one the
     * sender is, of how many, 0 of 0 when it is alone. */
    uint8_t wanted, number, share;
};

void smt_ud_msg_build(const struct smt_ud_msg *msg, uint8_t out[SMT_UD_MSG_LEN]);

/* Fields outside of what docs/wire.md allows, or another length: SMT_EMALFORMED. A version that is
 * not ours: SMT_EVERSION. *out is written only with 0. */
SMT_MUST_CHECK int smt_ud_msg_parse(const uint8_t *data, size_t len, struct smt_ud_msg *out);

/* Nonces that need no memory: a keyed hash (SipHash-2-4) of the address and a time slot. Who can
 * repeat the one for his address within some seconds receives packets there. Never 0. */
struct smt_ud_cookie {
    uint64_t key[2];
    uint8_t number, share; /* as in the messages they stand in */
};

/* A nonce that comes back to the endpoint of this number, if it is one of several. Never 0. */
static inline uint64_t smt_ud_nonce_for(uint64_t random, uint8_t number, uint8_t share)
{
    if (share > 1)
        random = random << 8 >> 8 | (uint64_t)number << 56;
    return random != 0 ? random : 1;
}

uint64_t smt_ud_cookie_make(const struct smt_ud_cookie *c, const struct smt_addr *addr,
                            uint64_t now);
bool smt_ud_cookie_check(const struct smt_ud_cookie *c, const struct smt_addr *addr, uint64_t now,
                         uint64_t nonce);

/* SipHash-2-4 of whole words. */
uint64_t smt_ud_siphash(const uint64_t key[2], const uint64_t *words, unsigned n_words);

/* Token bucket: `rate` a second, at most `burst` saved. */
struct smt_ud_bucket {
    uint32_t rate, burst;
    uint64_t tokens_ns; /* saved time */
    uint64_t last;
};

void smt_ud_bucket_init(struct smt_ud_bucket *b, uint32_t rate, uint32_t burst, uint64_t now);

/* Takes one token; false when there is none. */
SMT_MUST_CHECK bool smt_ud_bucket_take(struct smt_ud_bucket *b, uint64_t now);

#endif
