/* Control frames of a conn on their way out. They are encoded when they arise and leave together in
 * the next CTRL packet; what a frame says is only ever more true later, so nothing is kept for
 * retransmission: whoever needs an answer asks again by his own timer. */
#include "core/ctl.h"

#include "core/profile.h"
#include "core/state.h"

/* Of all conns, beyond which none gets a second for asking again. */
enum { MANY_BUFS = 512 };

void smt_ctl_init(struct smt_ctl *t)
{
    t->buf = NULL;
    t->last = NULL;
    t->n_bufs = 0;
    smt_list_init(&t->link);
}

void smt_ctl_pop(struct smt_conn *c)
{
    struct smt_ctl *t = &c->ctl;
    struct smt_ctl_buf *b = t->buf;
    t->buf = b->next;
    t->n_bufs--;
    smt_pool_put(&c->e->ctl_bufs, b);
    if (t->buf == NULL) {
        t->last = NULL;
        smt_list_remove(&t->link);
    }
}

void smt_ctl_fini(struct smt_conn *c)
{
    while (c->ctl.buf != NULL)
        smt_ctl_pop(c);
}

static struct smt_ctl_buf *buf_push(struct smt_conn *c, uint8_t prio)
{
    struct smt_ctl *t = &c->ctl;
    if (t->n_bufs == SMT_CTL_MAX_BUFS)
        return NULL;
    struct smt_ctl_buf *b = smt_pool_get(&c->e->ctl_bufs);
    if (b == NULL)
        return NULL;
    b->next = NULL;
    b->len = 0;
    b->prio = prio;
    if (t->buf == NULL) {
        t->buf = b;
        smt_list_push_tail(&c->e->ctl_ready, &t->link);
    } else {
        t->last->next = b;
    }
    t->last = b;
    t->n_bufs++;
    return b;
}

void smt_ctl_add(struct smt_conn *c, const struct smt_frame *f)
{
    smt_ctl_add_behind(c, f, smt_engine_top_prio(c->e));
}

void smt_ctl_add_behind(struct smt_conn *c, const struct smt_frame *f, uint8_t prio)
{
    if (!smt_keys_ready(&c->keys) || c->state == SMT_CONN_CLOSED)
        return;
    if (prio > smt_engine_top_prio(c->e))
        prio = smt_engine_top_prio(c->e);
    c->e->config.profile->ctl_add(c, f, prio);
}

struct smt_ctl_buf *smt_ctl_room(struct smt_conn *c, uint8_t prio, size_t len)
{
    struct smt_ctl_buf *b = c->ctl.last;
    if (b == NULL || b->prio != prio || (size_t)SMT_CTL_BUF_LEN - b->len < len)
        b = buf_push(c, prio);
    if (b == NULL)
        c->e->stats.frames_lost++;
    return b;
}

void smt_frames_queue(struct smt_conn *c, const struct smt_frame *f, uint8_t prio)
{
    struct smt_ctl_buf *b = smt_ctl_room(c, prio, SMT_FRAME_MAX_LEN);
    if (b == NULL)
        return;
    b->len += (uint16_t)smt_frame_encode(f, b->bytes + b->len, SMT_CTL_BUF_LEN - b->len);
}

bool smt_ctl_is_backed_up(const struct smt_conn *c)
{
    const struct smt_ctl *t = &c->ctl;
    if (t->buf == NULL)
        return false;
    if (SMT_LIKELY(smt_pool_n_live(&c->e->ctl_bufs) <= MANY_BUFS))
        return t->n_bufs > SMT_CTL_MAX_BUFS / 2;
    return t->n_bufs > 1 || t->buf->len > SMT_CTL_BUF_LEN / 2;
}

void smt_ctl_add_id(struct smt_conn *c, uint8_t type, uint64_t id)
{
    smt_ctl_add(c, &(struct smt_frame){.type = type, .id = id});
}

void smt_ctl_add_unknown(struct smt_conn *c, uint64_t id, bool over)
{
    c->e->stats.unknown_sent++;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_UNKNOWN,
                                       .id = id,
                                       .flags = over ? SMT_UNKNOWN_OVER : 0});
}

void smt_ctl_add_resend(struct smt_conn *c, uint64_t id, uint32_t offset, uint32_t length)
{
    c->e->stats.resends_sent++;
    c->pacer.in.lost.n_asked += length < SMT_RESEND_ALL ? length / c->mtu.now + 1 : 1;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_RESEND,
                                       .id = id,
                                       .offset = offset,
                                       .length = length,
                                       .prio = c->e->cutoffs.n_sched});
}

void smt_ctl_add_resend_single(struct smt_conn *c, uint64_t rpc_id, uint32_t offset,
                               uint32_t length)
{
    c->e->stats.resends_sent++;
    c->e->stats.singles_asked++;
    smt_ctl_add(c, &(struct smt_frame){.type = SMT_FRAME_RESEND,
                                       .id = rpc_id,
                                       .offset = offset,
                                       .length = length,
                                       .prio = c->e->cutoffs.n_sched,
                                       .flags = SMT_RESEND_SINGLE});
}

/* Header and record around `plain_len` bytes of frames that lie in place. */
static bool packet_seal(struct smt_conn *c, uint8_t *pkt, size_t plain_len)
{
    const struct smt_hdr hdr = {
        .kind = SMT_KIND_CTRL,
        .version = SMT_WIRE_VERSION,
        .epoch = (uint8_t)c->keys.now.number,
        .sport = c->e->config.port,
        .dport = c->peer_port,
        .session_id = c->peer_id,
    };
    smt_hdr_encode(&hdr, pkt);
    if (smt_keys_seal_ctrl(&c->keys, pkt + SMT_CTRL_HDR_LEN, plain_len) < 0)
        return false;
    c->e->stats.packets_sent_ctrl++;
    c->e->stats.bytes_sent += SMT_CTRL_HDR_LEN + SMT_RECORD_OVERHEAD + plain_len;
    return true;
}

bool smt_ctl_send(struct smt_conn *c, const struct smt_tx_sink *sink)
{
    return c->e->config.profile->ctl_send(c, sink);
}

bool smt_ctl_send_acks(struct smt_conn *c, const struct smt_tx_sink *sink)
{
    return c->e->config.profile->acks_send(c, sink);
}

bool smt_frames_send(struct smt_conn *c, const struct smt_tx_sink *sink)
{
    struct smt_ctl *t = &c->ctl;
    if (SMT_UNLIKELY(smt_keys_step(&c->keys, c->e->now))) {
        c->e->stats.rekeys++;
        smt_conn_arm(c, c->e->now);
    }
    while (t->buf != NULL) {
        struct smt_ctl_buf *b = t->buf;
        /* ACKs that wait ride along. */
        if (SMT_UNLIKELY(c->acks.n > 0))
            b->len += (uint16_t)smt_acks_take(c, b->bytes + b->len, SMT_CTL_BUF_LEN - b->len);
        size_t len = SMT_CTRL_HDR_LEN + SMT_RECORD_OVERHEAD + b->len;
        uint8_t *pkt = sink->reserve(sink->arg, &c->addr, len, b->prio);
        if (pkt == NULL)
            return false;
        memcpy(pkt + SMT_CTRL_HDR_LEN + SMT_RECORD_HEAD_LEN, b->bytes, b->len);
        if (!packet_seal(c, pkt, b->len)) {
            sink->unreserve(sink->arg);
            c->e->stats.frames_lost++;
        }
        if (SMT_UNLIKELY(c->n_farewells > 0 && b->next == NULL)) {
            /* Nobody acknowledges a CLOSE, and who misses it waits for nothing. */
            const struct smt_frame again = {.type = SMT_FRAME_CLOSE, .code = (uint16_t)-c->error};
            c->n_farewells--;
            b->len = (uint16_t)smt_frame_encode(&again, b->bytes, sizeof(b->bytes));
            continue;
        }
        smt_ctl_pop(c);
    }
    return true;
}

bool smt_frames_send_acks(struct smt_conn *c, const struct smt_tx_sink *sink)
{
    uint8_t frames[SMT_ACKS_MAX_LEN];
    size_t plain_len = smt_acks_len(&c->acks);
    size_t packet_len = SMT_CTRL_HDR_LEN + SMT_RECORD_OVERHEAD + plain_len;
    uint8_t *pkt = sink->reserve(sink->arg, &c->addr, packet_len, 0);
    if (pkt == NULL)
        return false;
    (void)smt_acks_take(c, frames, sizeof(frames));
    memcpy(pkt + SMT_CTRL_HDR_LEN + SMT_RECORD_HEAD_LEN, frames, plain_len);
    if (!packet_seal(c, pkt, plain_len)) {
        sink->unreserve(sink->arg);
        c->e->stats.frames_lost++;
    }
    return true;
}

bool smt_ctl_send_alone(struct smt_conn *c, const struct smt_tx_sink *sink,
                        const struct smt_addr *to, const struct smt_frame *f, size_t packet_len)
{
    /* What stands still at a low level would count as lost, and these are rare. */
    uint8_t *pkt = sink->reserve(sink->arg, to, packet_len, smt_engine_top_prio(c->e));
    if (pkt == NULL)
        return false;
    size_t plain_len = packet_len - SMT_CTRL_HDR_LEN - SMT_RECORD_OVERHEAD;
    uint8_t *plain = pkt + SMT_CTRL_HDR_LEN + SMT_RECORD_HEAD_LEN;
    memset(plain, SMT_FRAME_PAD, plain_len);
    if (smt_frame_encode(f, plain, plain_len) == 0 || !packet_seal(c, pkt, plain_len))
        sink->unreserve(sink->arg);
    return true;
}
