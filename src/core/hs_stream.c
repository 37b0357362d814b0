/* Carrying TLS bytes over lossy packets (docs/wire.md 2.2, 6.1): the out stream is kept until
 * acknowledged and sent again from the acknowledged offset; the in stream is put together by
 * offset. Packets are cut for the smallest carriage, since nothing is known of the path yet: a
 * certificate takes a packet more than it might, once a session. It neither understands TLS nor
 * times the handshake as a whole (conn.c). Everything is bounded by SMT_HS_STREAM_MAX each way;
 * before the cookie there is no stream at all. */
#include "core/hs_stream.h"

#include "base/mem.h"
#include "core/state.h"

enum {
    FIRST_CAP = 4096,
    MAX_IN_RANGES = 32,
    CHUNK = SMT_BASE_PACKET - SMT_HS_HDR_LEN - SMT_COOKIE_LEN,
};

static const uint64_t resend_first = 30 * SMT_MSEC;
static const uint64_t resend_most = 1 * SMT_SEC;

static int bytes_grow(struct smt_hs_bytes *b, size_t need)
{
    if (need > SMT_HS_STREAM_MAX)
        return SMT_ENOMEM;
    if (need <= b->cap)
        return 0;
    size_t cap = b->cap > 0 ? b->cap : FIRST_CAP;
    while (cap < need)
        cap *= 2;
    uint8_t *p = smt_mem_alloc(cap);
    if (p == NULL)
        return SMT_ENOMEM;
    if (b->cap > 0)
        memcpy(p, b->p, b->cap);
    smt_wipe(b->p, b->cap);
    smt_mem_free(b->p);
    b->p = p;
    b->cap = (uint32_t)cap;
    return 0;
}

int smt_hs_stream_new(struct smt_ranges_pool *pool, bool initiator, struct smt_hs_stream **out)
{
    struct smt_hs_stream *s = smt_mem_alloc(sizeof(*s));
    if (s == NULL)
        return SMT_ENOMEM;
    smt_ranges_init(&s->in_got, pool, MAX_IN_RANGES);
    s->hello_pending = initiator;
    s->resend_at = SMT_NEVER;
    *out = s;
    return 0;
}

void smt_hs_stream_free(struct smt_hs_stream *s)
{
    if (s == NULL)
        return;
    smt_early_fini(&s->early);
    smt_ranges_fini(&s->in_got);
    smt_wipe(s->in.p, s->in.cap);
    smt_wipe(s->out.p, s->out.cap);
    smt_mem_free(s->in.p);
    smt_mem_free(s->out.p);
    smt_mem_free(s);
}

int smt_hs_stream_write(struct smt_hs_stream *s, const uint8_t *bytes, size_t len)
{
    int rc = bytes_grow(&s->out, s->out_len + len);
    if (rc < 0)
        return rc;
    if (len > 0)
        memcpy(s->out.p + s->out_len, bytes, len);
    s->out_len += (uint32_t)len;
    return 0;
}

static void out_acked(struct smt_hs_stream *s, uint32_t ack)
{
    if (ack <= s->out_acked || ack > s->out_len)
        return;
    s->out_acked = ack;
    if (s->out_sent < ack)
        s->out_sent = ack;
    s->rounds = 0;
    if (s->out_acked == s->out_len)
        s->resend_at = SMT_NEVER;
}

bool smt_hs_stream_got(struct smt_hs_stream *s, uint32_t offset, const uint8_t *bytes, uint32_t len,
                       uint32_t ack)
{
    s->hello_pending = false;
    out_acked(s, ack);
    if (len == 0)
        return false;
    /* Whatever it brings, the other side wants to know where we stand. */
    s->ack_due = true;
    const uint8_t *p;
    size_t before = smt_hs_stream_ready(s, &p) + s->in_taken;
    if (len > SMT_HS_STREAM_MAX || offset > SMT_HS_STREAM_MAX - len ||
        bytes_grow(&s->in, offset + len) < 0)
        return false;
    /* Only into gaps: what TLS may have read already stays as it was. */
    uint64_t start;
    uint64_t end;
    while (smt_ranges_next_gap(&s->in_got, offset, offset + len, &start, &end)) {
        memcpy(s->in.p + start, bytes + (start - offset), end - start);
        if (smt_ranges_add(&s->in_got, start, end) < 0)
            break;
    }
    return smt_hs_stream_ready(s, &p) + s->in_taken > before;
}

void smt_hs_stream_retry(struct smt_hs_stream *s, uint64_t now,
                         const uint8_t cookie[SMT_COOKIE_LEN])
{
    if (!s->hello_pending)
        return;
    bool first = s->cookie_len == 0 || s->is_token;
    memcpy(s->cookie, cookie, SMT_COOKIE_LEN);
    s->cookie_len = SMT_COOKIE_LEN;
    s->is_token = false;
    /* A further one waits for the timer: two sides that cannot agree do not play ping-pong. */
    if (!first)
        return;
    s->out_sent = s->out_acked;
    s->resend_at = now;
}

void smt_hs_stream_token(struct smt_hs_stream *s, const uint8_t token[SMT_COOKIE_LEN])
{
    memcpy(s->cookie, token, SMT_COOKIE_LEN);
    s->cookie_len = SMT_COOKIE_LEN;
    s->is_token = true;
}

void smt_hs_stream_limit(struct smt_hs_stream *s)
{
    s->is_limited = true;
}

void smt_hs_stream_heard(struct smt_hs_stream *s, uint32_t packet_len, bool shown)
{
    if (shown)
        s->is_limited = false;
    else if (s->is_limited)
        s->allowance += 3 * packet_len;
}

bool smt_hs_stream_is_due(const struct smt_hs_stream *s, uint64_t now)
{
    return s->ack_due || s->out_sent < s->out_len ||
           (s->out_acked < s->out_len && now >= s->resend_at);
}

/* One HANDSHAKE packet with out bytes [offset, offset + len). */
static bool packet_send(struct smt_conn *c, const struct smt_tx_sink *sink, uint32_t offset,
                        uint32_t len)
{
    struct smt_hs_stream *s = c->hs;
    const uint8_t *p;
    size_t used = SMT_HS_HDR_LEN + s->cookie_len + len;
    size_t packet_len = c->peer_id == 0 && used < SMT_BASE_PACKET ? SMT_BASE_PACKET : used;
    if (s->is_limited) {
        /* As if it were lost: the timer, or more of the peer, brings it back. */
        s->ack_due = false;
        if (packet_len > s->allowance)
            return true;
        s->allowance -= (uint32_t)packet_len;
    }
    uint8_t *pkt =
        sink->reserve(sink->arg, &c->addr, packet_len, smt_engine_top_prio(c->e));
    if (pkt == NULL)
        return false;
    const struct smt_hdr hdr = {
        .kind = SMT_KIND_HANDSHAKE,
        .version = SMT_WIRE_VERSION,
        .epoch = c->initiator ? 1 : 0,
        .sport = c->e->config.port,
        .dport = c->peer_port,
        .session_id = c->peer_id,
        .source_id = c->id,
        .offset = offset,
        .message_len = (uint32_t)(smt_hs_stream_ready(s, &p) + s->in_taken),
        .tls_len = (uint16_t)len,
        .cookie_len = s->cookie_len,
    };
    smt_hdr_encode(&hdr, pkt);
    memcpy(pkt + SMT_HS_HDR_LEN, s->cookie, s->cookie_len);
    if (len > 0)
        memcpy(pkt + SMT_HS_HDR_LEN + s->cookie_len, s->out.p + offset, len);
    memset(pkt + used, 0, packet_len - used);
    c->e->stats.packets_sent_handshake++;
    c->e->stats.bytes_sent += packet_len;
    s->ack_due = false;
    return true;
}

bool smt_hs_stream_send(struct smt_conn *c, uint64_t now, const struct smt_tx_sink *sink)
{
    struct smt_hs_stream *s = c->hs;
    if (s->out_acked < s->out_len && s->out_sent == s->out_len && now >= s->resend_at) {
        s->out_sent = s->out_acked;
        if (s->rounds < 30)
            s->rounds++;
    }
    bool fresh = s->out_sent < s->out_len;
    if (fresh && s->hello_pending && s->out_sent == 0)
        smt_early_hello(&s->early);
    /* A hello without a cookie brings one and nothing else: its first packet is enough for that. */
    bool asks = s->hello_pending && s->cookie_len == 0;
    while (s->out_sent < s->out_len) {
        uint32_t len = s->out_len - s->out_sent;
        if (len > CHUNK)
            len = CHUNK;
        if (!packet_send(c, sink, s->out_sent, len))
            return false;
        s->out_sent = asks ? s->out_len : s->out_sent + len;
    }
    if (s->ack_due && !packet_send(c, sink, s->out_len, 0))
        return false;
    if (fresh) {
        uint64_t wait = s->rounds < 6 ? resend_first << s->rounds : resend_most;
        s->resend_at = now + (wait < resend_most ? wait : resend_most);
    }
    smt_conn_arm(c, now);
    return true;
}
