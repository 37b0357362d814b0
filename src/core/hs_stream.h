/* The TLS byte streams of a handshake over lossy packets: both directions by offset and cumulative
 * acknowledgement. */
#ifndef SMT_CORE_HS_STREAM_H
#define SMT_CORE_HS_STREAM_H

#include "base/ranges.h"
#include "core/early.h"
#include "core/engine.h"
#include "wire/wire.h"

struct smt_conn;

enum { SMT_HS_STREAM_MAX = 65536 };

struct smt_hs_bytes {
    uint8_t *p;
    uint32_t cap;
};

struct smt_hs_stream {
    struct smt_hs_bytes out, in; /* grown up to SMT_HS_STREAM_MAX */
    uint32_t out_len, out_sent, out_acked;
    uint32_t in_taken;           /* consumed by the handshake */
    struct smt_ranges in_got;
    bool ack_due;
    /* initiator: nothing came back yet, packets are padded and carry the cookie */
    bool hello_pending;
    uint8_t cookie_len;
    uint8_t cookie[SMT_COOKIE_LEN];
    bool is_token;               /* initiator: the cookie is a token, which may be refused */
    bool is_limited;             /* responder: the address was proven by a token, some time ago */
    uint32_t allowance;          /* bytes that a limited one may still send */
    uint8_t rounds;              /* retransmissions without progress */
    uint64_t tail_until; /* so long is waited for what follows the handshake; 0: not at all */
    uint64_t resend_at;
    struct smt_early early;
};

SMT_MUST_CHECK int smt_hs_stream_new(struct smt_ranges_pool *pool, bool initiator,
                                     struct smt_hs_stream **out);
/* Wipes and frees. NULL allowed. */
void smt_hs_stream_free(struct smt_hs_stream *s);

SMT_MUST_CHECK int smt_hs_stream_write(struct smt_hs_stream *s, const uint8_t *bytes, size_t len);

/* Bytes in order that wait. */
static inline size_t smt_hs_stream_ready(const struct smt_hs_stream *s, const uint8_t **p)
{
    struct smt_range r;
    if (!smt_ranges_first(&s->in_got, &r) || r.start > 0)
        return 0;
    *p = s->in.p + s->in_taken;
    return (size_t)(r.end - s->in_taken);
}

/* A HANDSHAKE packet's stream part. True when new bytes became ready. */
bool smt_hs_stream_got(struct smt_hs_stream *s, uint32_t offset, const uint8_t *bytes, uint32_t len,
                       uint32_t ack);

/* The responder asked for the cookie: start over with it. */
void smt_hs_stream_retry(struct smt_hs_stream *s, uint64_t now,
                         const uint8_t cookie[SMT_COOKIE_LEN]);

/* Before the hello is sent: it takes a token along in place of the cookie. */
void smt_hs_stream_token(struct smt_hs_stream *s, const uint8_t token[SMT_COOKIE_LEN]);

/* A responder that took a token: it sends no more than three times what came (packet_len bytes now)
 * until the peer has shown that it receives. */
void smt_hs_stream_limit(struct smt_hs_stream *s);
void smt_hs_stream_heard(struct smt_hs_stream *s, uint32_t packet_len, bool shown);

/* Something to send now? */
bool smt_hs_stream_is_due(const struct smt_hs_stream *s, uint64_t now);

/* Everything written has been acknowledged. */
static inline bool smt_hs_stream_is_done(const struct smt_hs_stream *s)
{
    return s->out_acked == s->out_len && !s->ack_due;
}

/* Sends what is due as HANDSHAKE packets. False when the sink is full. */
bool smt_hs_stream_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink);

#endif
