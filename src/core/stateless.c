/* Stateless answers (docs/wire.md 6). A bucket of tokens bounds them: RETRY is worth more (a client
 * waits for it) than NO_SESSION and VERSION, which are hints, so those leave a reserve. */
#include "core/stateless.h"

#include "core/state.h"

enum { BUCKET = 4000, PER_MS = 100, RESERVE = 2000 };

void smt_stateless_init(struct smt_stateless *s)
{
    s->n = 0;
    s->tokens = BUCKET;
    s->tokens_at = 0;
}

static bool token_take(struct smt_stateless *s, uint64_t now, uint32_t reserve)
{
    uint64_t ms = (now - s->tokens_at) / SMT_MSEC;
    if (ms > 0) {
        uint64_t more = s->tokens + ms * PER_MS;
        s->tokens = more > BUCKET || ms > BUCKET ? BUCKET : (uint32_t)more;
        s->tokens_at += ms * SMT_MSEC;
    }
    if (s->tokens <= reserve)
        return false;
    s->tokens--;
    return true;
}

void smt_stateless_add(struct smt_engine *e, uint64_t now, const struct smt_addr *to,
                       uint16_t dport, uint8_t kind, uint64_t session_id, const uint8_t *cookie)
{
    struct smt_stateless *s = &e->stateless;
    if (s->n == SMT_STATELESS_MAX || !token_take(s, now, kind == SMT_KIND_RETRY ? 0 : RESERVE))
        return;
    struct smt_stateless_packet *p = &s->queue[s->n++];
    *p = (struct smt_stateless_packet){
        .to = *to, .kind = kind, .dport = dport, .session_id = session_id};
    if (cookie != NULL)
        memcpy(p->cookie, cookie, SMT_COOKIE_LEN);
}

bool smt_stateless_send(struct smt_engine *e, const struct smt_tx_sink *sink)
{
    struct smt_stateless *s = &e->stateless;
    while (s->n > 0) {
        const struct smt_stateless_packet *p = &s->queue[s->n - 1];
        size_t len = SMT_PLAIN_HDR_LEN;
        len += p->kind == SMT_KIND_RETRY ? SMT_COOKIE_LEN : p->kind == SMT_KIND_VERSION ? 2 : 0;
        uint8_t *pkt = sink->reserve(sink->arg, &p->to, len, smt_engine_top_prio(e));
        if (pkt == NULL)
            return false;
        const struct smt_hdr hdr = {.kind = p->kind,
                                    .version = SMT_WIRE_VERSION,
                                    .sport = e->config.port,
                                    .dport = p->dport,
                                    .session_id = p->session_id};
        size_t at = smt_hdr_encode(&hdr, pkt);
        if (p->kind == SMT_KIND_RETRY) {
            memcpy(pkt + at, p->cookie, SMT_COOKIE_LEN);
            e->stats.retries_sent++;
        } else if (p->kind == SMT_KIND_VERSION) {
            pkt[at] = 1;
            pkt[at + 1] = SMT_WIRE_VERSION;
            e->stats.versions_sent++;
        } else {
            e->stats.no_session_sent++;
        }
        s->n--;
    }
    return true;
}
